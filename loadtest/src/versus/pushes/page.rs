//! What was timed, for a terminal and for the page.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::Times;
use super::rows::signed;
use crate::report::plot::escaped;
use crate::versus::{extremes, median};

/// A figure of all rounds: its median, with the lowest and the highest.
fn figure(rounds: &[f64]) -> [String; 2] {
    if rounds.is_empty() {
        return ["–".to_owned(), String::new()];
    }
    let (low, high) = extremes(rounds);
    [signed(median(rounds)), format!("{} … {}", signed(low), signed(high))]
}

/// For people at a terminal.
///
/// # Errors
/// Never, into a string.
pub fn text(out: &mut String, times: &BTreeMap<String, Times>) -> std::fmt::Result {
    writeln!(out, "\n{:<66}{:>10}{:>24}{:>10}{:>24}{:>10}", "", "p50", "lowest … highest", "p99", "", "longest")?;
    for (name, times) in times {
        let ([p50, spread], [p99, spread99]) = (figure(&times.p50), figure(&times.p99));
        let longest = if times.longest.is_empty() { "–".to_owned() } else { signed(extremes(&times.longest).1) };
        let errors = if times.errors > 0 { format!("  {} ERRORS", times.errors) } else { String::new() };
        writeln!(out, "{name:<66}{p50:>10}{spread:>24}{p99:>10}{spread99:>24}{longest:>10}{errors}")?;
    }
    Ok(())
}

/// For the page.
///
/// # Errors
/// Never, into a string.
pub fn html(out: &mut String, times: &BTreeMap<String, Times>) -> std::fmt::Result {
    writeln!(
        out,
        "<h2>Times</h2><p>From when each was due, at the same moments for all. Medians of the rounds.</p><table><tr><th>\
         </th><th>p50</th><th>lowest … highest</th><th>p99</th><th>lowest … highest</th><th>longest</th><th>count</th>\
         <th>errors</th></tr>"
    )?;
    for (name, times) in times {
        let ([p50, spread], [p99, spread99]) = (figure(&times.p50), figure(&times.p99));
        let longest = if times.longest.is_empty() { "–".to_owned() } else { signed(extremes(&times.longest).1) };
        writeln!(
            out,
            "<tr><td class=\"words\">{}</td><td>{p50}</td><td>{spread}</td><td>{p99}</td><td>{spread99}</td><td>{longest}</td><td>{}</td>\
             <td>{}</td></tr>",
            escaped(name),
            times.count,
            times.errors
        )?;
    }
    writeln!(out, "</table>")
}

/// What a reader has to know, of each.
pub fn warnings(times: &BTreeMap<String, Times>) -> impl Iterator<Item = (&String, &String)> {
    times.iter().flat_map(|(name, times)| times.warnings.iter().map(move |warning| (name, warning)))
}
