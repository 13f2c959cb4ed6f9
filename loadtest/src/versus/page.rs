//! The table of goals and what it stands on: for a terminal, and as one page.

use std::fmt::Write;

use super::goals::{Row, Standing, Unit};
use super::{Measured, Outcome, extremes, median};
use crate::report::html::head;
use crate::report::plot::escaped;
use crate::show::{nanos, short};

/// For people at a terminal.
pub fn text(outcome: &Outcome) -> String {
    let mut out = String::new();
    // Writing into a string does not fail.
    let _ = write_text(&mut out, outcome);
    out
}

fn number(row: &Row, value: f64) -> String {
    match row.unit {
        Unit::Bytes => format!("{value:.0} B"),
        Unit::Ratio if value < 0.1 => format!("1/{:.0}", 1.0 / value),
        Unit::Ratio if value >= 10.0 => format!("{value:.0}×"),
        Unit::Ratio => format!("{value:.2}×"),
    }
}

fn standing(row: &Row) -> &'static str {
    match row.standing() {
        Standing::Ambitious => "ambitious",
        Standing::Must => "must",
        Standing::Missed => "MISSED",
        Standing::Unknown => "–",
    }
}

fn goal(row: &Row) -> String {
    format!("{} {} / {}", if row.more_is_better { "≥" } else { "≤" }, number(row, row.must), number(row, row.ambitious))
}

fn write_text(out: &mut String, outcome: &Outcome) -> std::fmt::Result {
    writeln!(
        out,
        "{:<34}{:>12}{:>12}{:>12}{:>10}{:>10}{:>11}",
        "", "answers/s", "lowest", "highest", "per CPU-s", "p50", "generator"
    )?;
    for (name, cell) in &outcome.cells {
        let Measured { rate, per_cpu_second, p50, generator, errors, .. } = cell;
        let (low, high) = extremes(rate);
        write!(out, "{name:<34}{:>12}{:>12}{:>12}", short(median(rate)), short(low), short(high))?;
        let busy = format!("{:.0} %", median(generator) * 100.0);
        write!(out, "{:>10}{:>10}{busy:>11}", short(median(per_cpu_second)), nanos(median(p50)))?;
        writeln!(out, "{}", if *errors > 0 { format!("  {errors} ERRORS") } else { String::new() })?;
    }
    if let Some(looked) = &outcome.looked {
        writeln!(out, "\nlook-ups without a socket, {} tokens: ns of processor time each", looked.tokens)?;
        for (name, nanos) in &looked.nanos {
            let (low, high) = extremes(nanos);
            writeln!(out, "{name:<34}{:>12.1}{low:>12.1}{high:>12.1}", median(nanos))?;
        }
    }
    super::pushes::page::text(out, &outcome.times)?;
    writeln!(
        out,
        "\n{:<5}{:<38}{:<18}{:>10}  {:<20}{:<10} what",
        "", "against", "must / ambitious", "found", "lowest … highest", ""
    )?;
    for row in &outcome.rows {
        write!(out, "{:<5}{:<38}{:<18}", row.goal, row.against, goal(row))?;
        match &row.found {
            Ok(found) => {
                let spread = format!("{} … {}", number(row, found.low), number(row, found.high));
                write!(out, "{:>10}  {spread:<20}{:<10} ", number(row, found.median), standing(row))?;
                writeln!(out, "{}: {}", row.what, found.detail)?;
            }
            Err(why) => writeln!(out, "{:>10}  {:<20}{:<10} {}: {why}", "–", "", "", row.what)?,
        }
    }
    for (peer, how) in &outcome.missing {
        writeln!(out, "MISSING: {peer}. {how}")?;
    }
    for (name, cell) in &outcome.cells {
        for warning in &cell.warnings {
            writeln!(out, "{name}: {warning}")?;
        }
    }
    for (name, warning) in super::pushes::page::warnings(&outcome.times) {
        writeln!(out, "{name}: {warning}")?;
    }
    Ok(())
}

/// The page.
pub fn html(outcome: &Outcome) -> String {
    let mut out = head("Tokenscope beside its peers");
    // Writing into a string does not fail.
    let _ = write_html(&mut out, outcome);
    out
}

fn write_html(out: &mut String, outcome: &Outcome) -> std::fmt::Result {
    writeln!(
        out,
        "<p>{}. Each server alone on one core, the generator on another, in turn; medians of the rounds with the lowest \
         and the highest. Ratios are taken within a round.</p>",
        escaped(&outcome.machine.cpu)
    )?;
    for (peer, how) in &outcome.missing {
        writeln!(out, "<p class=\"warning bad\">Missing: {}. {}</p>", escaped(peer), escaped(how))?;
    }
    writeln!(
        out,
        "<h2>Goals</h2><table><tr><th></th><th class=\"words\">against</th><th class=\"words\">what</th><th>must / ambitious</th><th>found</th>"
    )?;
    writeln!(out, "<th>lowest … highest</th><th></th></tr>")?;
    for row in &outcome.rows {
        let (cell, spread, detail) = match &row.found {
            Ok(found) => (
                number(row, found.median),
                format!("{} … {}", number(row, found.low), number(row, found.high)),
                format!("{} ({})", row.what, found.detail),
            ),
            Err(why) => ("–".to_owned(), String::new(), format!("{}: {why}", row.what)),
        };
        let class = match row.standing() {
            Standing::Missed => "lost",
            Standing::Unknown => "",
            _ => "met",
        };
        writeln!(
            out,
            "<tr><td>{}</td><td class=\"words\">{}</td><td class=\"words\">{}</td><td>{}</td><td>{cell}</td><td>{spread}</td>\
             <td class=\"{class}\">{}</td></tr>",
            escaped(&row.goal),
            escaped(&row.against),
            escaped(&detail),
            goal(row),
            standing(row)
        )?;
    }
    writeln!(out, "</table><h2>Answers per server CPU-second</h2>{}", bars(outcome))?;
    writeln!(
        out,
        "<h2>Cells</h2><table><tr><th></th><th>answers/s</th><th>lowest … highest</th><th>per server CPU-s</th>"
    )?;
    writeln!(out, "<th>CPU-s per million</th><th>p50</th><th>p99</th><th>generator</th><th>errors</th></tr>")?;
    for (name, cell) in &outcome.cells {
        let (low, high) = extremes(&cell.rate);
        writeln!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{} … {}</td><td>{}</td><td>{:.3}</td><td>{}</td><td>{}</td><td>{:.0} %</td><td>{}</td></tr>",
            escaped(name),
            short(median(&cell.rate)),
            short(low),
            short(high),
            short(median(&cell.per_cpu_second)),
            median(&cell.cpu_per_million),
            nanos(median(&cell.p50)),
            nanos(median(&cell.p99)),
            median(&cell.generator) * 100.0,
            cell.errors
        )?;
    }
    writeln!(out, "</table>")?;
    if let Some(looked) = &outcome.looked {
        writeln!(
            out,
            "<h2>Look-ups without a socket, {} tokens</h2><table><tr><th></th><th>ns of processor time each</th>\
             <th>lowest … highest</th></tr>",
            short(looked.tokens as f64)
        )?;
        for (name, nanos) in &looked.nanos {
            let (low, high) = extremes(nanos);
            let middle = median(nanos);
            writeln!(out, "<tr><td>{}</td><td>{middle:.1}</td><td>{low:.1} … {high:.1}</td></tr>", escaped(name))?;
        }
        writeln!(out, "</table>")?;
    }
    super::pushes::page::html(out, &outcome.times)?;
    for (name, warning) in super::pushes::page::warnings(&outcome.times) {
        writeln!(out, "<p class=\"warning\">{}: {}</p>", escaped(name), escaped(warning))?;
    }
    for (name, cell) in &outcome.cells {
        for warning in &cell.warnings {
            writeln!(out, "<p class=\"warning\">{}: {}</p>", escaped(name), escaped(warning))?;
        }
    }
    writeln!(out, "<h2>Conditions</h2><table>")?;
    let machine = serde_json::to_value(&outcome.machine).unwrap_or_default();
    let machine = machine.as_object().into_iter().flatten();
    let machine = machine
        .map(|(name, value)| (name.replace('_', " "), value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
    let conditions = outcome.conditions.iter().map(|(name, value)| (name.clone(), value.clone()));
    for (name, value) in conditions.chain(machine) {
        writeln!(out, "<tr><td>{}</td><td class=\"words\">{}</td></tr>", escaped(&name), escaped(&value))?;
    }
    writeln!(out, "</table></body></html>")
}

/// One bar for each cell, with a line from the lowest to the highest round.
fn bars(outcome: &Outcome) -> String {
    let cells: Vec<(&String, &Measured)> =
        outcome.cells.iter().filter(|(_, cell)| median(&cell.per_cpu_second).is_finite()).collect();
    let most = cells.iter().map(|(_, cell)| extremes(&cell.per_cpu_second).1).fold(0.0, f64::max);
    if most <= 0.0 {
        return "<p>No CPU time was seen.</p>".to_owned();
    }
    let (left, width, step) = (230.0, 560.0, 24.0);
    let mut out = format!(
        "<svg viewBox=\"0 0 880 {}\" role=\"img\" aria-label=\"answers per server CPU-second\">",
        cells.len() as f64 * step + 8.0
    );
    for ((name, cell), number) in cells.into_iter().zip(0_u32..) {
        let top = f64::from(number) * step;
        let at = |value: f64| left + value / most * width;
        let (middle, (low, high)) = (median(&cell.per_cpu_second), extremes(&cell.per_cpu_second));
        let colour = if name.starts_with("native") || name.starts_with("client") || name.starts_with("https ") {
            "#0072b2"
        } else {
            "#9a9a9a"
        };
        let (line, text) = (top + 11.0, top + 15.0);
        // Writing into a string does not fail.
        let _ = write!(
            out,
            "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\">{}</text><rect x=\"{left}\" y=\"{}\" width=\"{:.1}\" \
             height=\"16\" fill=\"{colour}\"/><line x1=\"{:.1}\" y1=\"{line}\" x2=\"{:.1}\" y2=\"{line}\" stroke=\"#111\" \
             stroke-width=\"2\"/><text x=\"{:.1}\" y=\"{text}\">{}</text>",
            left - 8.0,
            escaped(name),
            top + 3.0,
            at(middle) - left,
            at(low),
            at(high),
            at(high) + 6.0,
            short(middle)
        );
    }
    out.push_str("</svg>");
    out
}
