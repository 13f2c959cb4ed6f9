//! Our server beside our server, each a process of its own with data of its own: with more tokens (P13), and in a build that
//! counts nothing (P16, `counting.rs`).
//!
//! The two take turns, each frozen while the other is asked, and every ratio is taken within one round.

use std::collections::BTreeMap;
use std::time::Duration;

use super::cells::{self, Cell, Field};
use super::goals::{Found, Row, Unit, found};
use super::peers::{Peers, Who};
use super::{Extent, Measured, median};
use crate::process::resident_of;
use crate::run::{now, population, prepare};
use crate::server::{Server, Start};
use crate::show::{bytes, short};
use crate::workload::Asking;

/// The number of tokens that the goal names.
const NAMED: u64 = 100_000_000;

/// Bytes a token that the goal's 6 GiB and 4.5 GiB at that number are.
const BYTES_A_TOKEN: (f64, f64) = (6.0 * GIB / NAMED as f64, 4.5 * GIB / NAMED as f64);

const GIB: f64 = (1_u64 << 30) as f64;

/// How both are asked: connections, and questions in flight on each.
pub const SHAPES: [(usize, usize); 2] = [(4, 64), (4, 1_024)];

/// What is compared of two cells.
pub struct Of {
    /// In words.
    pub name: &'static str,
    unit: &'static str,
    values: fn(&Measured) -> &[f64],
}

/// The second is there because it moves less when somebody else wants the processors.
pub const OF: [Of; 2] = [
    Of { name: "throughput", unit: "s", values: |cell| &cell.rate },
    Of { name: "answers per server CPU-second", unit: "CPU-s", values: |cell| &cell.per_cpu_second },
];

/// Ours with more tokens.
#[derive(Debug)]
pub struct Large {
    small_tokens: u64,
    tokens: u64,
    resident: Option<u64>,
}

/// Everything both comparisons need.
pub struct Beside<'b> {
    /// The server that everybody else is compared with.
    pub server: &'b Server,
    /// What is asked of it.
    pub field: &'b Field,
    /// Everybody else, who are frozen.
    pub peers: &'b Peers,
    /// How it was started.
    pub start: &'b Start,
    /// Lengths and numbers.
    pub extent: &'b Extent,
}

impl Beside<'_> {
    /// Starts the larger server in `start`, asks both, and ends it; its directory stays.
    ///
    /// # Errors
    /// It does not start, or one of the two cannot be asked.
    pub fn large(&self, start: &Start, measured: &mut BTreeMap<String, Measured>) -> Result<Large, String> {
        let tokens = start.tokens;
        eprintln!("starting our server with {tokens} tokens");
        // Filled, ended, and started again: what filling leaves in memory is not what a server has that runs.
        drop(Server::start(start)?);
        let large = Server::start(start)?;
        let resident = resident_of(large.pid());
        let names = [self.extent.tokens, tokens].map(|it| format!("at {} tokens", short(it as f64)));
        self.take_turns([(self.server, &names[0]), (&large, &names[1])], measured)?;
        Ok(Large { small_tokens: self.extent.tokens, tokens, resident })
    }

    /// Asks two of ours in turn, with everybody else frozen.
    ///
    /// # Errors
    /// One of them cannot be asked.
    pub fn take_turns(
        &self,
        pair: [(&Server, &str); 2],
        measured: &mut BTreeMap<String, Measured>,
    ) -> Result<(), String> {
        let Self { server, field, peers, extent, .. } = self;
        let runs = u32::try_from(extent.rounds * SHAPES.len() * 2).unwrap_or(u32::MAX);
        let began = now()?;
        // Their tokens end while time passes.
        let lasts = (extent.duration + extent.warm_up + Duration::from_secs(3)) * runs;
        let of = |server: &Server| -> Result<Field, String> {
            let all = population(&server.target, lasts, began);
            let (naming, pool, _) = prepare(&server.target, &all, Asking::Check, began)?;
            let target = server.target.clone();
            let Field { half_rate, core, duration, warm_up, seed, .. } = **field;
            Ok(Field { target, population: all, naming, pool, half_rate, core, duration, warm_up, seed })
        };
        let fields = [of(pair[0].0)?, of(pair[1].0)?];
        for round in 1..=extent.rounds {
            for (connections, in_flight) in SHAPES {
                let cell = Cell::plain(Who::Ours, connections, in_flight);
                for (at, field) in fields.iter().enumerate() {
                    let ((whom, suffix), (idle, _)) = (pair[at], pair[1 - at]);
                    let name = format!("{} {suffix}", cell.name());
                    eprintln!("round {round} of {}: {name}", extent.rounds);
                    // Those who are not in the pair, ours that everybody else is compared with among them.
                    peers.only(Who::Echo, &server.spawned);
                    idle.spawned.freeze();
                    whom.spawned.thaw();
                    let report = cells::run(&cell, field, peers, whom, None);
                    idle.spawned.thaw();
                    peers.thaw(&server.spawned);
                    measured.entry(name.clone()).or_default().add(&report.map_err(|why| format!("{name}: {why}"))?);
                }
            }
        }
        Ok(())
    }
}

/// The cells of a pair, ours by theirs, round by round.
///
/// # Errors
/// One of them was not measured, or had errors.
pub fn ratio(
    cells: &BTreeMap<String, Measured>,
    (connections, in_flight): (usize, usize),
    suffixes: [&str; 2],
    of: &Of,
) -> Result<Found, String> {
    let cell = |suffix: &str| {
        let name = format!("{} {suffix}", Cell::plain(Who::Ours, connections, in_flight).name());
        let cell = cells.get(&name).filter(|it| it.errors == 0);
        cell.ok_or_else(|| format!("{name} was not measured, or had errors"))
    };
    let [ours, theirs] = suffixes.map(cell);
    let (ours, theirs) = ((of.values)(ours?), (of.values)(theirs?));
    let detail = format!("{}/{unit} : {}/{unit}", short(median(ours)), short(median(theirs)), unit = of.unit);
    found(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs), detail)
}

/// Rows P13.
pub fn rows(large: &Result<Large, String>, cells: &BTreeMap<String, Measured>) -> Vec<Row> {
    let mut rows = Vec::new();
    for of in &OF {
        for (connections, in_flight) in SHAPES {
            // What is wanted is a throughput; the other stands beside it.
            let goals = (of.unit == "s").then_some((0.75, 0.9));
            let (against, what, found) = match large {
                Ok(large) => {
                    let [few, many] = [large.small_tokens, large.tokens].map(|it| short(it as f64));
                    let names = [format!("at {many} tokens"), format!("at {few} tokens")];
                    let found = ratio(cells, (connections, in_flight), [&names[0], &names[1]], of);
                    let what = format!("{} at {many}, {connections}×{in_flight}", of.name);
                    (format!("itself at {few} tokens"), what, found)
                }
                Err(why) => ("itself at fewer tokens".to_owned(), of.name.to_owned(), Err(why.clone())),
            };
            rows.push(Row::new(("P13", &against, &(what + unlike(large))), goals, found));
        }
    }
    rows.push(memory(large));
    rows
}

/// What has to be said where the number of tokens is not the one that the goal names.
fn unlike(large: &Result<Large, String>) -> &'static str {
    match large {
        Ok(large) if large.tokens < NAMED => " (the goal names 100M: --large-tokens 100M)",
        _ => "",
    }
}

fn memory(large: &Result<Large, String>) -> Row {
    let found = large.as_ref().map_err(Clone::clone).and_then(|large| {
        let resident = large.resident.ok_or("memory was not seen")? as f64;
        let each = resident / large.tokens.max(1) as f64;
        let detail = format!("{} at {} tokens", bytes(resident), short(large.tokens as f64));
        Ok(Found { median: each, low: each, high: each, detail })
    });
    let what = "resident bytes a token there, before it is asked; 6 GiB and 4.5 GiB at 100M".to_owned() + unlike(large);
    Row { unit: Unit::Bytes, ..Row::new(("P13", "itself", &what), Some(BYTES_A_TOKEN), found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_with_fewer_tokens_than_the_goal_names_says_so() {
        let of =
            |tokens| rows(&Ok(Large { small_tokens: 1_000, tokens, resident: Some(tokens * 50) }), &BTreeMap::new());
        let few = of(10_000_000);
        assert!(few.iter().all(|row| row.what.contains("--large-tokens 100M")));
        assert_eq!(few[4].standing(), super::super::goals::Standing::Must);
        assert!(of(NAMED).iter().all(|row| !row.what.contains("--large-tokens")));
    }
}
