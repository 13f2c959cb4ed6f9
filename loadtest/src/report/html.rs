//! One page with everything on it: figures, plots, conditions, warnings. It loads nothing from anywhere.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::plot::{Axis, Line, Scale, escaped, svg};
use super::{Report, Summary};
use crate::machine::Machine;
use crate::show::{bytes, nanos, short};

/// How the page looks.
pub const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;max-width:1120px;margin:2em auto;padding:0 1em;color:#1a1a1a;background:#fff}\
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}table{border-collapse:collapse;margin:.6em 0;width:100%}\
th,td{text-align:right;padding:.25em .6em;border-bottom:1px solid #ddd;font-variant-numeric:tabular-nums}\
th:first-child,td:first-child{text-align:left}svg{width:100%;height:auto}svg text{font-size:13px;fill:#333}\
svg .axis{font-size:14px;fill:#111}svg .grid{stroke:#e4e4e4}.warning{background:#fff3cd;border-left:4px solid #e69f00;\
padding:.4em .8em;margin:.4em 0}.bad{background:#fde2e0;border-color:#c00}.small{color:#555;font-size:.9em}\
td,th{white-space:nowrap}td.words,th.words{text-align:left;white-space:normal;min-width:9em}td.met{color:#00694e}td.lost{color:#b00020;font-weight:600}.wide{overflow-x:auto}.wide table{font-size:.8em}";

/// The page of one or more results; those of several lie over each other in the plots.
pub fn page(reports: &[&Report]) -> String {
    let mut out = String::new();
    // Writing into a string does not fail.
    let _ = write(&mut out, reports);
    out
}

/// The head of a page with this title.
pub fn head(title: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{0}</title><style>{STYLE}</style></head><body>\n<h1>{0}</h1>\n",
        escaped(title)
    )
}

/// The end of a page: the conditions under this title, the machine they were on, and nothing more.
///
/// # Errors
/// `out` takes no more, which a string never does.
pub fn facts(
    out: &mut String,
    title: &str,
    conditions: &BTreeMap<String, String>,
    machine: &Machine,
    more: &[(&str, &str)],
) -> std::fmt::Result {
    writeln!(out, "<h2>{}</h2><table>", escaped(title))?;
    let machine = serde_json::to_value(machine).unwrap_or_default();
    let machine = machine.as_object().into_iter().flatten();
    let machine = machine
        .map(|(name, value)| (name.replace('_', " "), value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
    let conditions = conditions.iter().map(|(name, value)| (name.clone(), value.clone()));
    let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    for (name, value) in conditions.chain(machine).chain(more) {
        writeln!(out, "<tr><td>{}</td><td class=\"words\">{}</td></tr>", escaped(&name), escaped(&value))?;
    }
    writeln!(out, "</table>")
}

fn name(report: &Report) -> String {
    let condition = |name: &str| report.conditions.get(name).map_or("", String::as_str);
    format!("{}: {}", condition("driver"), condition("load"))
}

fn write(out: &mut String, reports: &[&Report]) -> std::fmt::Result {
    let title = match reports {
        [one] => format!("Load test – {}", name(one)),
        _ => "Load tests".to_owned(),
    };
    out.push_str(&head(&title));
    for report in reports {
        if reports.len() > 1 {
            writeln!(out, "<h2>{}</h2>", escaped(&name(report)))?;
        }
        figures(out, report)?;
    }
    writeln!(out, "<h2>Latency by percentile</h2>{}", by_percentile(reports))?;
    writeln!(
        out,
        "<p class=\"small\">From the moment a question was due to its answer. The further right, the rarer.</p>"
    )?;
    writeln!(out, "<h2>Rate over time</h2>{}", rate_over_time(reports))?;
    writeln!(out, "<h2>Latency over time</h2>{}", latency_over_time(reports))?;
    if reports.iter().any(|report| report.stages.len() > 1) {
        writeln!(out, "<h2>Latency against rate</h2>{}", latency_against_rate(reports))?;
        writeln!(
            out,
            "<p class=\"small\">One point for each stage: what was asked for, and how long it took then.</p>"
        )?;
    }
    for report in reports {
        conditions(out, report)?;
    }
    writeln!(out, "</body></html>")
}

/// Latency by percentile: a line for each result, or for each stage of the only one.
fn by_percentile(reports: &[&Report]) -> String {
    let line = |name: String, percentiles: &[(f64, u64)]| Line {
        name,
        points: percentiles.iter().map(|(percent, ns)| (*percent, *ns as f64)).collect(),
        marked: false,
    };
    let x = Axis { label: "percentile", scale: Scale::Percentile, form: |it| format!("{it} %") };
    let y = Axis { label: "latency", scale: Scale::Log, form: nanos };
    let lines: Vec<Line> = match reports {
        [one] if one.stages.len() > 1 => {
            one.stages.iter().map(|it| line(format!("{}/s", short(it.wanted)), &it.percentiles)).collect()
        }
        reports => reports.iter().map(|it| line(name(it), &it.percentiles)).collect(),
    };
    svg("latency by percentile", x, y, &lines)
}

const SECONDS: Axis<'_> = Axis { label: "seconds from the begin", scale: Scale::Linear, form: short };

fn rate_over_time(reports: &[&Report]) -> String {
    let line = |report: &&Report| Line {
        name: name(report),
        points: report.series.iter().map(|it| (it.at, it.rate)).collect(),
        marked: false,
    };
    let y = Axis { label: "right answers per second", scale: Scale::Linear, form: short };
    svg("rate over time", SECONDS, y, &reports.iter().map(line).collect::<Vec<_>>())
}

fn latency_over_time(reports: &[&Report]) -> String {
    let lines = reports.iter().flat_map(|report| {
        let line = |what: &str, of: fn(&super::Point) -> u64| Line {
            name: if reports.len() > 1 { format!("{what}, {}", name(report)) } else { what.to_owned() },
            points: report.series.iter().map(|it| (it.at, of(it) as f64)).collect(),
            marked: false,
        };
        [line("p50", |it| it.p50), line("p99", |it| it.p99)]
    });
    let y = Axis { label: "latency", scale: Scale::Log, form: nanos };
    svg("latency over time", SECONDS, y, &lines.collect::<Vec<_>>())
}

fn latency_against_rate(reports: &[&Report]) -> String {
    let lines = reports.iter().flat_map(|report| {
        let line = |what: &str, of: fn(&Summary) -> u64| Line {
            name: if reports.len() > 1 { format!("{what}, {}", name(report)) } else { what.to_owned() },
            points: report.stages.iter().map(|it| (it.wanted, of(&it.latency) as f64)).collect(),
            marked: true,
        };
        [line("p50", |it| it.p50), line("p99", |it| it.p99), line("p99.9", |it| it.p999)]
    });
    let x = Axis { label: "questions per second", scale: Scale::Linear, form: short };
    let y = Axis { label: "latency", scale: Scale::Log, form: nanos };
    svg("latency against rate", x, y, &lines.collect::<Vec<_>>())
}

fn figures(out: &mut String, report: &Report) -> std::fmt::Result {
    let Report { totals, cpu, .. } = report;
    let condition = |name: &str| escaped(report.conditions.get(name).map_or("", String::as_str));
    writeln!(out, "<p>{} · {}</p>", condition("questions"), escaped(&report.machine.cpu))?;
    if !report.valid {
        writeln!(out, "<p class=\"warning bad\">Not valid as a figure of the server; the warnings say why.</p>")?;
    }
    for warning in &report.warnings {
        writeln!(out, "<p class=\"warning\">{}</p>", escaped(warning))?;
    }
    for trouble in &report.troubles {
        writeln!(out, "<p class=\"warning bad\">{}</p>", escaped(trouble))?;
    }
    write!(
        out,
        "<p><strong>{}/s</strong>: {} right answers in {:.1} s, {} errors",
        short(totals.rate),
        totals.answered,
        totals.seconds,
        totals.errors
    )?;
    if let Some(rate) = cpu.answers_per_server_second {
        write!(out, "; <strong>{}</strong> per server CPU-second", short(rate))?;
    }
    if let Some(resident) = cpu.server_resident {
        write!(out, "; server {} resident", bytes(resident as f64))?;
    }
    writeln!(out, "; generator {:.0} % of its core</p>", cpu.generator * 100.0)?;
    writeln!(
        out,
        "<table><tr><th></th><th>mean</th><th>p50</th><th>p90</th><th>p99</th><th>p99.9</th><th>p99.99</th><th>max</th></tr>"
    )?;
    let mut row = |name: &str, it: &Summary| {
        let cells =
            [it.mean, it.p50 as f64, it.p90 as f64, it.p99 as f64, it.p999 as f64, it.p9999 as f64, it.max as f64];
        let cells = cells.map(|ns| format!("<td>{}</td>", nanos(ns)));
        writeln!(out, "<tr><td>{name}</td>{}</tr>", cells.concat())
    };
    row("latency, from due", &report.latency)?;
    row("uncorrected, from sent", &report.uncorrected)?;
    if report.lateness.count > 0 {
        row("the tool's own lateness", &report.lateness)?;
    }
    writeln!(out, "</table>")
}

fn conditions(out: &mut String, report: &Report) -> std::fmt::Result {
    let title = format!("Conditions: {}", name(report));
    let more = [("version", report.version.as_str()), ("command", report.command.as_str())];
    facts(out, &title, &report.conditions, &report.machine, &more)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::tests::report;

    #[test]
    fn a_page_needs_nothing_from_elsewhere_and_believes_no_text() {
        let mut one = report(1_000.0, 400_000);
        one.warnings.push("<script>alert(1)</script>".into());
        let text = page(&[&one]);
        assert!(!text.contains("<script") && text.contains("&lt;script&gt;"));
        assert!(!text.contains("http://") && !text.contains("https://") && !text.contains("src="));
        assert_eq!(text.matches("<svg").count(), 3);
        assert_eq!(page(&[&one, &one]).matches("<polyline").count(), 2 + 2 + 4);
    }
}
