//! Our server beside our server: with more tokens (P13), and in a build that counts nothing (P16).
//!
//! Both are processes of their own with data of their own. They take turns with the one that everybody else is compared
//! with, each frozen while the other is asked, and every ratio is taken within one round.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use tokenscope::dev::file::DevFile;

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
const SHAPES: [(usize, usize); 2] = [(4, 64), (4, 1_024)];

/// What is compared of two cells.
struct Of {
    name: &'static str,
    unit: &'static str,
    values: fn(&Measured) -> &[f64],
}

/// The second is there because it moves less when somebody else wants the processors.
const OF: [Of; 2] = [
    Of { name: "throughput", unit: "s", values: |cell| &cell.rate },
    Of { name: "answers per server CPU-second", unit: "CPU-s", values: |cell| &cell.per_cpu_second },
];

/// How long the admin listener may take to answer.
const SCRAPE: Duration = Duration::from_secs(5);

/// What was found about ours beside ours.
#[derive(Debug)]
pub struct Ourselves {
    /// With more tokens.
    pub large: Result<Large, String>,
    /// Beside a build that counts nothing.
    pub uncounted: Result<Uncounted, String>,
}

/// Ours with more tokens.
#[derive(Debug)]
pub struct Large {
    small_tokens: u64,
    tokens: u64,
    resident: Option<u64>,
}

/// Ours beside a build that counts nothing.
#[derive(Debug)]
pub struct Uncounted {
    /// What it counts nevertheless.
    still: Vec<&'static str>,
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
    /// Runs both comparisons; their cells are added to `measured`.
    pub fn measure(&self, uncounted: Option<&Path>, measured: &mut BTreeMap<String, Measured>) -> Ourselves {
        let uncounted = match uncounted {
            Some(binary) => self.uncounted(binary, measured),
            None => Err("needs a build that counts nothing; loadtest/README.md says how to make it, and then \
                         --uncounted FILE"
                .to_owned()),
        };
        Ourselves { uncounted, large: self.large(measured) }
    }

    fn large(&self, measured: &mut BTreeMap<String, Measured>) -> Result<Large, String> {
        let tokens = self.extent.large_tokens;
        eprintln!("starting our server with {tokens} tokens");
        let directory = self.start.directory.with_file_name("ours-large");
        let start = Start { directory: directory.clone(), tokens, ..self.start.clone() };
        let found = (|| {
            // Filled, ended, and started again: what filling leaves in memory is not what a server has that runs.
            drop(Server::start(&start)?);
            let large = Server::start(&start)?;
            let names = [self.extent.tokens, tokens].map(|it| format!("at {} tokens", short(it as f64)));
            self.take_turns(&large, [&names[0], &names[1]], measured)?;
            let resident = resident_of(large.pid());
            Ok(Large { small_tokens: self.extent.tokens, tokens, resident })
        })();
        // Gigabytes that nobody looks at again.
        let _ = std::fs::remove_dir_all(&directory);
        found
    }

    fn uncounted(&self, binary: &Path, measured: &mut BTreeMap<String, Measured>) -> Result<Uncounted, String> {
        eprintln!("starting {} that counts nothing", binary.display());
        let directory = self.start.directory.with_file_name("ours-uncounted");
        let start = Start { directory, binary: Some(binary.to_owned()), ..self.start.clone() };
        let other = Server::start(&start)?;
        self.take_turns(&other, ["counted", "uncounted"], measured)?;
        let (ours, theirs) = (scrape(&self.start.directory)?, scrape(&start.directory)?);
        if let Some((what, _)) = ours.iter().find(|(_, counted)| *counted == 0.0) {
            return Err(format!("our own server shows no {what}, so there is nothing to compare with"));
        }
        let still: Vec<&str> = theirs.iter().filter(|(_, counted)| *counted > 0.0).map(|(what, _)| *what).collect();
        if still.len() == theirs.len() {
            return Err(format!("{} counts everything that ours counts: it is no such build", binary.display()));
        }
        Ok(Uncounted { still })
    }

    /// Asks ours and the other one in turn.
    fn take_turns(
        &self,
        other: &Server,
        names: [&str; 2],
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
        let fields = [of(server)?, of(other)?];
        for round in 1..=extent.rounds {
            for (connections, in_flight) in SHAPES {
                let cell = Cell::plain(Who::Ours, connections, in_flight);
                for ((whom, idle), (field, suffix)) in
                    [(*server, other), (other, *server)].into_iter().zip(fields.iter().zip(names))
                {
                    let name = format!("{} {suffix}", cell.name());
                    eprintln!("round {round} of {}: {name}", extent.rounds);
                    peers.only(Who::Ours, &whom.spawned);
                    idle.spawned.freeze();
                    let report = cells::run(&cell, field, peers, whom, None);
                    idle.spawned.thaw();
                    peers.thaw(&whom.spawned);
                    measured.entry(name.clone()).or_default().add(&report.map_err(|why| format!("{name}: {why}"))?);
                }
            }
        }
        Ok(())
    }
}

/// What the server in this directory has counted of questions on the native protocol, by what is counted.
fn scrape(directory: &Path) -> Result<[(&'static str, f64); 2], String> {
    let file = DevFile::read(&directory.join("dev.json")).map_err(|failure| failure.message)?;
    let page = page(file.admin).map_err(|error| format!("{}: {error}", file.admin))?;
    Ok([
        ("verdicts", sum(&page, "tokenscope_introspections_total{door=\"quic\"")),
        ("times", sum(&page, "tokenscope_introspection_duration_seconds_count{door=\"quic\"")),
    ])
}

/// The page of its metrics.
fn page(admin: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin, SCRAPE)?;
    stream.set_read_timeout(Some(SCRAPE))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut page = Vec::new();
    stream.take(1 << 20).read_to_end(&mut page)?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// The sum of all series that begin so.
fn sum(page: &str, series: &str) -> f64 {
    let of = |line: &str| line.rsplit_once(' ').and_then(|(_, number)| number.trim().parse::<f64>().ok());
    page.lines().filter(|line| line.starts_with(series)).filter_map(of).sum()
}

/// Rows P13 and P16.
pub fn rows(ourselves: &Ourselves, cells: &BTreeMap<String, Measured>) -> Vec<Row> {
    let mut rows = Vec::new();
    let ratio = |cell: &Cell, [ours, theirs]: [&str; 2], of: &Of| -> Result<Found, String> {
        let cell = |suffix: &str| {
            let name = format!("{} {suffix}", cell.name());
            cells
                .get(&name)
                .filter(|it| it.errors == 0)
                .ok_or_else(|| format!("{name} was not measured, or had errors"))
        };
        let (ours, theirs) = (cell(ours)?, cell(theirs)?);
        let (ours, theirs) = ((of.values)(ours), (of.values)(theirs));
        let detail = format!("{}/{unit} : {}/{unit}", short(median(ours)), short(median(theirs)), unit = of.unit);
        found(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs), detail)
    };
    let shapes = || OF.iter().flat_map(|of| SHAPES.map(|shape| (of, shape)));
    for (of, (connections, in_flight)) in shapes() {
        let cell = Cell::plain(Who::Ours, connections, in_flight);
        let (against, what, found) = match &ourselves.large {
            Ok(large) => {
                let [few, many] = [large.small_tokens, large.tokens].map(|it| short(it as f64));
                let names = [format!("at {many} tokens"), format!("at {few} tokens")];
                let found = ratio(&cell, [&names[0], &names[1]], of);
                (format!("itself at {few} tokens"), format!("{} at {many}, {connections}×{in_flight}", of.name), found)
            }
            Err(why) => ("itself at fewer tokens".to_owned(), of.name.to_owned(), Err(why.clone())),
        };
        rows.push(row("P13", against, what + unlike(ourselves), (0.75, 0.9), found));
    }
    rows.push(memory(ourselves));
    for (of, (connections, in_flight)) in shapes() {
        let found = ourselves.uncounted.as_ref().map_err(Clone::clone);
        let found = found.and_then(|uncounted| {
            let mut found = ratio(&Cell::plain(Who::Ours, connections, in_flight), ["counted", "uncounted"], of)?;
            found.detail += &still(uncounted);
            Ok(found)
        });
        let what = format!("{}, {connections}×{in_flight}", of.name);
        rows.push(row("P16", "itself, built to count nothing".to_owned(), what, (0.97, 0.99), found));
    }
    rows
}

fn still(uncounted: &Uncounted) -> String {
    match uncounted.still.as_slice() {
        [] => String::new(),
        still => format!("; it still counts {}", still.join(" and ")),
    }
}

/// What has to be said where the number of tokens is not the one that the goal names.
fn unlike(ourselves: &Ourselves) -> &'static str {
    match &ourselves.large {
        Ok(large) if large.tokens < NAMED => " (the goal names 100M: --large-tokens 100M)",
        _ => "",
    }
}

fn memory(ourselves: &Ourselves) -> Row {
    let found = ourselves.large.as_ref().map_err(Clone::clone).and_then(|large| {
        let resident = large.resident.ok_or("memory was not seen")? as f64;
        let each = resident / large.tokens.max(1) as f64;
        let detail = format!("{} at {} tokens", bytes(resident), short(large.tokens as f64));
        Ok(Found { median: each, low: each, high: each, detail })
    });
    let what = "resident bytes per token there; 6 GiB and 4.5 GiB at 100M".to_owned();
    Row { unit: Unit::Bytes, ..row("P13", "itself".to_owned(), what + unlike(ourselves), BYTES_A_TOKEN, found) }
}

fn row(goal: &str, against: String, what: String, goals: (f64, f64), found: Result<Found, String>) -> Row {
    let (must, ambitious) = goals;
    let goal = goal.to_owned();
    Row { goal, against, what, unit: Unit::Ratio, must, ambitious, more_is_better: ambitious > must, found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_metrics_is_added_up() {
        let page = "# HELP a\na_total{door=\"quic\",result=\"active\"} 5\na_total{door=\"quic\",result=\"inactive\"} 2\n\
                    a_total{door=\"https\",result=\"active\"} 9\n";
        assert_eq!(sum(page, "a_total{door=\"quic\""), 7.0);
        assert_eq!(sum(page, "b_total"), 0.0);
    }

    #[test]
    fn what_was_measured_with_fewer_tokens_than_the_goal_names_says_so() {
        let of = |tokens| {
            let large = Ok(Large { small_tokens: 1_000, tokens, resident: Some(tokens * 50) });
            rows(&Ourselves { large, uncounted: Err("none".into()) }, &BTreeMap::new())
        };
        let few = of(10_000_000);
        assert!(few.iter().filter(|row| row.goal == "P13").all(|row| row.what.contains("--large-tokens 100M")));
        assert_eq!(few[4].standing(), super::super::goals::Standing::Must);
        assert!(of(NAMED).iter().all(|row| !row.what.contains("--large-tokens")));
        assert!(few.iter().filter(|row| row.goal == "P16").all(|row| row.found.is_err()));
    }
}
