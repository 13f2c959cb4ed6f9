//! A result for people at a terminal.

use std::fmt::Write;

use super::{Report, Summary};
use crate::show::{bytes, nanos, short};

/// The result in a few lines.
pub fn text(report: &Report) -> String {
    let mut out = String::new();
    // Writing into a string does not fail.
    let _ = write(&mut out, report);
    out
}

fn write(out: &mut String, report: &Report) -> std::fmt::Result {
    let Report { totals, cpu, travelled, .. } = report;
    let condition = |name: &str| report.conditions.get(name).map_or("", String::as_str);
    writeln!(out, "{}  ·  {}  ·  {}", condition("driver"), condition("load"), condition("questions"))?;
    writeln!(
        out,
        "{} right answers in {:.1} s: {}/s{}",
        totals.answered,
        totals.seconds,
        short(totals.rate),
        if totals.errors == 0 { ", no errors".to_owned() } else { format!(", {} ERRORS", totals.errors) }
    )?;
    if totals.errors > 0 {
        let refused: Vec<String> = totals.refused.iter().map(|(why, count)| format!("{count} × {why}")).collect();
        writeln!(out, "  wrong {}   lost {}   refused {}", totals.wrong, totals.lost, refused.join(", "))?;
    }
    writeln!(out)?;
    writeln!(out, "{:<28}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}", "", "p50", "p90", "p99", "p99.9", "p99.99", "max")?;
    let mut row = |name: &str, it: &Summary| {
        let cells = [it.p50, it.p90, it.p99, it.p999, it.p9999, it.max].map(|ns| format!("{:>10}", nanos(ns as f64)));
        writeln!(out, "{name:<28}{}", cells.concat())
    };
    row("latency, from due", &report.latency)?;
    if report.lateness.count > 0 {
        row("  of it the tool's lateness", &report.lateness)?;
        row("uncorrected, from sent", &report.uncorrected)?;
    }
    if report.stages.len() > 1 {
        writeln!(
            out,
            "\n{:>12}{:>12}{:>10}{:>10}{:>10}{:>10}",
            "wanted/s", "answered/s", "p50", "p99", "p99.9", "max"
        )?;
        for stage in &report.stages {
            let it = &stage.latency;
            let cells = [it.p50, it.p99, it.p999, it.max].map(|ns| format!("{:>10}", nanos(ns as f64)));
            writeln!(out, "{:>12}{:>12}{}", short(stage.wanted), short(stage.rate), cells.concat())?;
        }
    }
    writeln!(out)?;
    write!(out, "generator {:.0} % of its core", cpu.generator * 100.0)?;
    if let (Some(seconds), Some(per), Some(rate)) =
        (cpu.server_seconds, cpu.server_seconds_per_million, cpu.answers_per_server_second)
    {
        write!(out, " · server {seconds:.2} s of CPU, {per:.3} s per million answers, {}/CPU-s", short(rate))?;
    }
    if let Some(resident) = cpu.server_resident {
        write!(out, " · {} resident", bytes(resident as f64))?;
    }
    writeln!(out)?;
    if travelled.sent_datagrams > 0 {
        let per = |count: u64| totals.answered as f64 / count.max(1) as f64;
        writeln!(
            out,
            "datagrams {} out ({:.1} answers each), {} in ({:.1} each), {} per call, {} lost, MTU {}",
            short(travelled.sent_datagrams as f64),
            per(travelled.sent_datagrams),
            short(travelled.received_datagrams as f64),
            per(travelled.received_datagrams),
            short(travelled.sent_datagrams as f64 / travelled.sent_calls.max(1) as f64),
            travelled.lost_packets,
            travelled.mtu
        )?;
    }
    if let Some(churn) = &report.churn {
        writeln!(
            out,
            "changes {}/s of {}/s: {} registered, {} revoked, {} failed; receipt p50 {}, p99 {}",
            short(churn.rate),
            short(churn.wanted),
            churn.registered,
            churn.revoked,
            churn.failed,
            nanos(churn.latency.p50 as f64),
            nanos(churn.latency.p99 as f64)
        )?;
    }
    for trouble in &report.troubles {
        writeln!(out, "trouble: {trouble}")?;
    }
    for warning in &report.warnings {
        writeln!(out, "WARNING: {warning}")?;
    }
    Ok(())
}
