//! The series as a table for a terminal, and as one page with plots.

use std::fmt::Write;

use super::point::Point;
use super::{Axis, Outcome};
use crate::report::html::{facts, head};
use crate::report::plot::{self, Line, Scale, escaped, svg};
use crate::show::{bytes, nanos, short};
use crate::versus::{extremes, median};

const AXES: [Axis; 3] = [Axis::Tokens, Axis::InFlight, Axis::Connections];

/// For people at a terminal.
pub fn text(outcome: &Outcome) -> String {
    let mut out = String::new();
    // Writing into a string does not fail.
    let _ = write_text(&mut out, outcome);
    out
}

fn of(outcome: &Outcome, axis: Axis) -> impl Iterator<Item = &Point> {
    outcome.points.iter().filter(move |point| point.axis == axis)
}

/// Resident memory of the first round. Memory that a thousand connections once had is not given back to the system, and
/// that series is the last of a round; so later rounds would show it for every point of this server.
fn resident(point: &Point) -> &[f64] {
    point.resident.get(..1).unwrap_or_default()
}

/// The cells of a row, after its number: how it is asked, rate with its spread, per CPU-second, latencies, memory.
fn cells(point: &Point) -> [String; 11] {
    let (low, high) = extremes(&point.rate);
    let figure = |values: &[f64], form: fn(f64) -> String| {
        let middle = median(values);
        if middle.is_finite() { form(middle) } else { "–".to_owned() }
    };
    [
        point.shape(),
        figure(&point.rate, short),
        short(low),
        short(high),
        figure(&point.per_cpu_second, short),
        figure(&point.full_p50, nanos),
        figure(&point.full_p99, nanos),
        figure(&point.half_p50, nanos),
        figure(&point.half_p99, nanos),
        figure(resident(point), bytes),
        format!("{:.0} %", median(&point.generator) * 100.0),
    ]
}

const HEADS: [&str; 11] = [
    "asked",
    "answers/s",
    "lowest",
    "highest",
    "per CPU-s",
    "p50 full",
    "p99 full",
    "p50 half",
    "p99 half",
    "resident",
    "generator",
];

fn write_text(out: &mut String, outcome: &Outcome) -> std::fmt::Result {
    for axis in AXES {
        write!(out, "\n{:<12}", axis.name())?;
        HEADS.iter().try_for_each(|it| write!(out, "{it:>11}"))?;
        writeln!(out)?;
        for point in of(outcome, axis) {
            write!(out, "{:<12}", short(point.at as f64))?;
            cells(point).iter().try_for_each(|it| write!(out, "{it:>11}"))?;
            writeln!(out, "{}", if point.errors > 0 { format!("  {} ERRORS", point.errors) } else { String::new() })?;
        }
    }
    writeln!(out, "\nfull: everything in flight; half: open loop at half of that rate, from when a question was due")?;
    for point in &outcome.points {
        for warning in &point.warnings {
            writeln!(out, "{}: {warning}", point.name())?;
        }
    }
    Ok(())
}

/// The page.
pub fn html(outcome: &Outcome) -> String {
    let mut out = head("How cost grows");
    // Writing into a string does not fail.
    let _ = write_html(&mut out, outcome);
    out
}

fn write_html(out: &mut String, outcome: &Outcome) -> std::fmt::Result {
    writeln!(
        out,
        "<p>{}. The server alone on one core, the generator on another; points in turn, medians of the rounds. <em>Full</em>: \
         everything in flight that the point allows (closed loop). <em>Half</em>: an open loop at half of the rate found \
         by that, latency from when a question was due. Memory is that of the first round: a thousand connections leave some \
         behind.</p>",
        escaped(&outcome.machine.cpu)
    )?;
    for axis in AXES {
        writeln!(out, "<h2>By {}</h2>", axis.name())?;
        plots(out, outcome, axis)?;
        table(out, outcome, axis)?;
    }
    for point in &outcome.points {
        let class = if point.errors > 0 { "warning bad" } else { "warning" };
        for warning in &point.warnings {
            writeln!(out, "<p class=\"{class}\">{}: {}</p>", escaped(&point.name()), escaped(warning))?;
        }
    }
    facts(out, "Conditions", &outcome.conditions, &outcome.machine, &[])?;
    writeln!(out, "</body></html>")
}

/// Throughput, latency, memory.
fn plots(out: &mut String, outcome: &Outcome, axis: Axis) -> std::fmt::Result {
    let points: Vec<&Point> = of(outcome, axis).collect();
    let mut shapes: Vec<String> = Vec::new();
    if axis == Axis::Tokens {
        points.iter().for_each(|it| {
            if !shapes.contains(&it.shape()) {
                shapes.push(it.shape())
            }
        });
    }
    // A line for each way of asking, where there are several at the same place.
    let lines = |what: &str, value: fn(&Point) -> &[f64]| -> Vec<Line> {
        let line = |name: String, of: Option<&str>| {
            let points = points.iter().filter(|it| of.is_none_or(|shape| it.shape() == shape));
            Line { name, points: points.map(|it| (it.at as f64, median(value(it)))).collect(), marked: true }
        };
        if shapes.is_empty() {
            return vec![line(what.to_owned(), None)];
        }
        shapes.iter().map(|shape| line(format!("{what}, {shape}"), Some(shape))).collect()
    };
    let x = plot::Axis { label: axis.name(), scale: Scale::Log, form: short };
    let rate = plot::Axis { label: "right answers per second", scale: Scale::Linear, form: short };
    let mut rates = lines("answers/s", |it| &it.rate);
    rates.extend(lines("per server CPU-second", |it| &it.per_cpu_second));
    writeln!(out, "{}", svg(&format!("throughput by {}", axis.name()), x, rate, &rates))?;
    let latency = plot::Axis { label: "latency", scale: Scale::Log, form: nanos };
    // With two ways of asking, both halves would be eight lines: those of full load are in the table.
    let mut latencies = lines("p50 at half the rate", |it| &it.half_p50);
    latencies.extend(lines("p99 at half the rate", |it| &it.half_p99));
    if shapes.is_empty() {
        latencies.extend(lines("p50, everything in flight", |it| &it.full_p50));
        latencies.extend(lines("p99, everything in flight", |it| &it.full_p99));
    }
    writeln!(out, "{}", svg(&format!("latency by {}", axis.name()), x, latency, &latencies))?;
    let scale = if axis == Axis::Tokens { Scale::Log } else { Scale::Linear };
    let memory = plot::Axis { label: "server's resident memory", scale, form: bytes };
    writeln!(out, "{}", svg(&format!("memory by {}", axis.name()), x, memory, &lines("resident", resident)))
}

fn table(out: &mut String, outcome: &Outcome, axis: Axis) -> std::fmt::Result {
    // Thirteen columns: a little smaller than the rest, so that they fit.
    write!(out, "<table style=\"font-size:.78em\"><tr><th>{}</th>", axis.name())?;
    HEADS.iter().try_for_each(|it| write!(out, "<th>{it}</th>"))?;
    writeln!(out, "<th>errors</th></tr>")?;
    for point in of(outcome, axis) {
        write!(out, "<tr><td>{}</td>", short(point.at as f64))?;
        cells(point).iter().try_for_each(|it| write!(out, "<td>{it}</td>"))?;
        writeln!(out, "<td>{}</td></tr>", point.errors)?;
    }
    writeln!(out, "</table>")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn every_series_has_its_plots_and_a_warning_is_text() {
        let point = |axis, at, connections| Point {
            axis,
            at,
            connections,
            rate: vec![1e6, 2e6, 3e6],
            per_cpu_second: vec![1e6],
            half_p50: vec![1e5],
            half_p99: vec![2e5],
            full_p50: vec![3e5],
            full_p99: vec![4e5],
            resident: vec![1e8],
            generator: vec![0.5],
            warnings: vec!["<b>".to_owned()],
            ..Point::default()
        };
        let points = AXES.into_iter().flat_map(|axis| [point(axis, 10, 4), point(axis, 100, 5)]).collect();
        let outcome = Outcome { format: 1, began: 0, machine: Default::default(), conditions: BTreeMap::new(), points };
        let page = html(&outcome);
        assert_eq!(page.matches("<svg").count(), 9);
        assert!(!page.contains("<b>") && page.contains("&lt;b&gt;") && !page.contains("NaN"));
        let text = text(&outcome);
        assert!(text.contains("2.00M") && text.contains("connections"), "{text}");
    }
}
