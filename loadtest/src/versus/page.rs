//! The table of goals and what it stands on: for a terminal, and as one page.

use std::fmt::Write;

use super::goals::{Row, Standing, Unit};
use super::made_of::{MadeOf, Wire};
use super::{Measured, Outcome, extremes, median};
use crate::report::html::{facts, head};
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
        Standing::Ambitious => "met, ambitious",
        Standing::Must => "met, must",
        Standing::Missed => "MISSED",
        Standing::Beside => "beside",
        Standing::Unknown => "–",
    }
}

fn goal(row: &Row) -> String {
    let (Some(must), Some(ambitious)) = (row.must, row.ambitious) else { return "–".to_owned() };
    format!("{} {} / {}", if row.more_is_better { "≥" } else { "≤" }, number(row, must), number(row, ambitious))
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
    made_of_text(out, &outcome.made_of)?;
    super::pushes::page::text(out, &outcome.times)?;
    writeln!(
        out,
        "\n{:<5}{:<38}{:<18}{:>10}  {:<20}{:<15} what",
        "", "against", "must / ambitious", "median", "lowest … highest", ""
    )?;
    for row in &outcome.rows {
        write!(out, "{:<5}{:<38}{:<18}", row.goal, row.against, goal(row))?;
        match &row.found {
            Ok(found) => {
                let spread = format!("{} … {}", number(row, found.low), number(row, found.high));
                write!(out, "{:>10}  {spread:<20}{:<15} ", number(row, found.median), standing(row))?;
                writeln!(out, "{}: {}", row.what, found.detail)?;
            }
            Err(why) => writeln!(out, "{:>10}  {:<20}{:<15} {}: {why}", "–", "", "", row.what)?,
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
        "<h2>Goals</h2><table><tr><th></th><th class=\"words\">against</th><th class=\"words\">what</th><th>must / ambitious</th><th>median</th>"
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
            Standing::Unknown | Standing::Beside => "",
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
        "<h2>Cells</h2><div class=\"wide\"><table><tr><th></th><th>answers/s</th><th>lowest … highest</th><th>per server CPU-s</th>"
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
    writeln!(out, "</table></div>")?;
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
    made_of_html(out, &outcome.made_of)?;
    super::pushes::page::html(out, &outcome.times)?;
    for (name, warning) in super::pushes::page::warnings(&outcome.times) {
        writeln!(out, "<p class=\"warning\">{}: {}</p>", escaped(name), escaped(warning))?;
    }
    for (name, cell) in &outcome.cells {
        for warning in &cell.warnings {
            writeln!(out, "<p class=\"warning\">{}: {}</p>", escaped(name), escaped(warning))?;
        }
    }
    facts(out, "Conditions", &outcome.conditions, &outcome.machine, &[])?;
    writeln!(out, "</body></html>")
}

/// The heads of what an answer is made of.
const MADE_OF: [&str; 9] =
    ["dgrams to", "from", "answers in", "bytes to", "from", "lost", "sends to", "its calls", "its sleeps"];

/// What stands under them, and the calls by name.
fn made_of_cells(made: &MadeOf) -> ([String; 9], String) {
    let wire = |pick: fn(&Wire) -> f64| made.wire.as_ref().map_or("–".to_owned(), |it| short(pick(it)));
    let known = |value: Option<f64>| value.map_or("–".to_owned(), short);
    let mut by_name: Vec<(&String, &f64)> = made.by_name.iter().collect();
    by_name.sort_by(|a, b| b.1.total_cmp(a.1));
    let by_name: Vec<String> = by_name.into_iter().map(|(name, count)| format!("{name} {}", short(*count))).collect();
    let calls = match made.calls {
        Some(_) => format!("{} ({})", by_name.join(", "), made.counted_by),
        None => format!("not counted: {}", made.counted_by),
    };
    let cells = [
        wire(|it| it.datagrams_in),
        wire(|it| it.datagrams_out),
        wire(|it| 1_000.0 / it.datagrams_out),
        wire(|it| it.bytes_in),
        wire(|it| it.bytes_out),
        wire(|it| it.lost),
        wire(|it| it.sends),
        known(made.calls),
        known(made.sleeps),
    ];
    (cells, calls)
}

fn made_of_text(out: &mut String, all: &[MadeOf]) -> std::fmt::Result {
    if all.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\nwhat an answer is made of: a further run of each, figures for 1,000 answers; to and from the server; answers in \
         one datagram; system calls and sleeps of the server's threads"
    )?;
    write!(out, "{:<28}", "")?;
    MADE_OF.iter().try_for_each(|head| write!(out, "{head:>11}"))?;
    writeln!(out, "  which calls")?;
    for made in all {
        let (cells, calls) = made_of_cells(made);
        write!(out, "{:<28}", made.cell)?;
        cells.iter().try_for_each(|cell| write!(out, "{cell:>11}"))?;
        writeln!(out, "  {calls}")?;
    }
    Ok(())
}

fn made_of_html(out: &mut String, all: &[MadeOf]) -> std::fmt::Result {
    if all.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "<h2>What an answer is made of</h2><p class=\"small\">A further run of each cell, whose rate counts nowhere; figures \
         for 1,000 answers. Datagrams to and from the server, answers in one of those, bytes, packets lost, and calls that \
         sent: seen on the generator's side, of QUIC alone. Its calls and its sleeps are those of the server's threads. A \
         dash: not seen.</p><div class=\"wide\"><table><tr><th></th>"
    )?;
    MADE_OF.iter().try_for_each(|head| write!(out, "<th>{head}</th>"))?;
    writeln!(out, "<th class=\"words\">which calls</th></tr>")?;
    for made in all {
        let (cells, calls) = made_of_cells(made);
        write!(out, "<tr><td>{}</td>", escaped(&made.cell))?;
        cells.iter().try_for_each(|cell| write!(out, "<td>{cell}</td>"))?;
        writeln!(out, "<td class=\"words\">{}</td></tr>", escaped(&calls))?;
    }
    writeln!(out, "</table></div>")
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
        let colour = if name.starts_with("native") || name.starts_with("client") || name.starts_with("https") {
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
