//! Two results side by side: the ratios, and everything that was not the same when they were made.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::report::Report;
use crate::show::{nanos, short};

/// Below this, in percent, a difference of two single runs is noise on any machine seen so far.
const NOISE_PERCENT: f64 = 5.0;

/// The comparison of `b` with `a`, for people.
pub fn text(a: &Report, b: &Report) -> String {
    let mut out = String::new();
    // Writing into a string does not fail.
    let _ = write(&mut out, a, b);
    out
}

fn write(out: &mut String, a: &Report, b: &Report) -> std::fmt::Result {
    writeln!(out, "{:<26}{:>12}{:>12}{:>9}{:>13}", "", "a", "b", "b / a", "95 % within")?;
    let within = |spread: Option<f64>| spread.map_or("–".to_owned(), |it| format!("± {:.1} %", it * 100.0));
    let mut row = |name: &str, a: f64, b: f64, form: fn(f64) -> String, spread: Option<f64>| {
        let ratio = if a > 0.0 { format!("{:.3}", b / a) } else { "–".to_owned() };
        writeln!(out, "{name:<26}{:>12}{:>12}{ratio:>9}{:>13}", form(a), form(b), within(spread))
    };
    let spread = match (rate_spread(a), rate_spread(b)) {
        (Some(a), Some(b)) => Some((a * a + b * b).sqrt()),
        _ => None,
    };
    row("answers per second", a.totals.rate, b.totals.rate, short, spread)?;
    let (cpu_a, cpu_b) = (a.cpu.answers_per_server_second, b.cpu.answers_per_server_second);
    if let (Some(a), Some(b)) = (cpu_a, cpu_b) {
        row("answers per server CPU-s", a, b, short, None)?;
    }
    row("p50", a.latency.p50 as f64, b.latency.p50 as f64, nanos, None)?;
    row("p99", a.latency.p99 as f64, b.latency.p99 as f64, nanos, None)?;
    row("p99.9", a.latency.p999 as f64, b.latency.p999 as f64, nanos, None)?;
    row("max", a.latency.max as f64, b.latency.max as f64, nanos, None)?;
    row("errors", a.totals.errors as f64, b.totals.errors as f64, short, None)?;
    writeln!(
        out,
        "\nThe spread is that of the quarter seconds within each run; between two runs more changes than that. Below\n\
         {NOISE_PERCENT} % say nothing without repeating both in turn."
    )?;
    let differs = differences(a, b);
    if differs.is_empty() {
        writeln!(out, "\nNothing else that was recorded differs.")?;
    } else {
        writeln!(out, "\nWhat else differs:")?;
        for (name, a, b) in differs {
            writeln!(out, "  {name}: {a}  |  {b}")?;
        }
    }
    for (name, report) in [("a", a), ("b", b)] {
        if !report.valid {
            writeln!(out, "\nNOT VALID: {name}: {}", report.warnings.join("; "))?;
        }
    }
    Ok(())
}

/// Half the width of the 95 % interval of the mean rate, relative; from the intervals of the recorded part.
fn rate_spread(report: &Report) -> Option<f64> {
    let end = report.series.last()?.at;
    let rates: Vec<f64> =
        report.series.iter().filter(|it| it.at > end - report.totals.seconds).map(|it| it.rate).collect();
    // The last one is cut off by the end.
    let rates = rates.get(..rates.len().checked_sub(1)?)?;
    if rates.len() < 4 {
        return None;
    }
    let count = rates.len() as f64;
    let mean = rates.iter().sum::<f64>() / count;
    let variance = rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean > 0.0).then(|| 1.96 * (variance / count).sqrt() / mean)
}

/// What was not the same.
pub fn differences(a: &Report, b: &Report) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    let names: BTreeSet<&String> = a.conditions.keys().chain(b.conditions.keys()).collect();
    for name in names {
        let value = |report: &Report| report.conditions.get(name).cloned().unwrap_or_else(|| "–".to_owned());
        if value(a) != value(b) {
            found.push((name.clone(), value(a), value(b)));
        }
    }
    let machine = |report: &Report| {
        let value = serde_json::to_value(&report.machine).unwrap_or_default();
        value.as_object().cloned().unwrap_or_default()
    };
    let (ours, theirs) = (machine(a), machine(b));
    for (name, value) in &ours {
        let other = theirs.get(name).cloned().unwrap_or_default();
        if *value != other {
            found.push((name.clone(), value.to_string(), other.to_string()));
        }
    }
    if a.version != b.version {
        found.push(("version".to_owned(), a.version.clone(), b.version.clone()));
    }
    found
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::report::{Cpu, FORMAT, Point, Summary, Totals};

    /// A result that is nothing but a rate and a 99th percentile.
    pub(crate) fn report(rate: f64, p99: u64) -> Report {
        let point = |at: u32| Point { at: f64::from(at), rate: rate + f64::from(at % 3), p50: 0, p99 };
        Report {
            format: FORMAT,
            version: "0".into(),
            began: 0,
            command: String::new(),
            machine: crate::machine::Machine::default(),
            conditions: [("driver".to_owned(), "null".to_owned())].into(),
            totals: Totals { rate, seconds: 10.0, ..Totals::default() },
            latency: Summary { p99, count: 1, ..Summary::default() },
            uncorrected: Summary::default(),
            lateness: Summary::default(),
            percentiles: vec![(50.0, p99 / 2), (99.0, p99), (100.0, p99 * 2)],
            stages: Vec::new(),
            series: (1..=12).map(point).collect(),
            cpu: Cpu { generator: 0.5, ..Cpu::default() },
            travelled: crate::driver::Travelled::default(),
            churn: None,
            troubles: Vec::new(),
            warnings: Vec::new(),
            hgrm: String::new(),
            valid: true,
        }
    }

    #[test]
    fn ratios_and_differences_are_named() {
        let (a, mut b) = (report(1_000.0, 400_000), report(1_500.0, 200_000));
        b.conditions.insert("driver".into(), "native".into());
        b.machine.kernel = "other".into();
        let text = text(&a, &b);
        for part in ["1.500", "0.500", "± ", "driver: null  |  native", "kernel: \"\"  |  \"other\""] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(differences(&a, &a).is_empty());
    }
}
