//! `loadtest versus`: our server and its peers side by side on one machine, and the table of goals.
//!
//! Every server has core 0 and is frozen while another one is measured; the generator has core 1. The cells are run in
//! turn, A B C … A B C …, five times or more, and every ratio is taken within one round: what the machine does to one
//! of them in a minute it does to the other as well. The table shows the median of the rounds with the smallest and
//! the largest.

// What is measured.
mod cells;
// Ours beside a build that counts nothing.
mod counting;
// Appending to a file, and changes that are durable.
mod disk;
// What is wanted of which ratio.
mod goals;
// Datagrams and system calls of an answer.
mod made_of;
// Look-ups without a socket.
pub mod maps;
// Ours beside ours with more tokens.
mod ourselves;
// The page.
mod page;
// Servers of others.
mod peers;
// Near-caches: hits, revocations that are heard of, many followers.
mod pushes;
// Ours and Redis, started again.
mod restart;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::options::Versus;
use crate::process::pin_thread;
use crate::report::{Report, save};
use crate::run::{now, population, prepare};
use crate::scratch::Scratch;
use crate::server::{Server, Start};
use crate::workload::Asking;
use cells::Field;
use disk::Durable;
use goals::Row;
use peers::Peers;

/// What one cell measured, round by round.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Measured {
    /// Right answers per second.
    pub rate: Vec<f64>,
    /// Right answers per second of the server's CPU time.
    pub per_cpu_second: Vec<f64>,
    /// Server CPU seconds per million right answers.
    pub cpu_per_million: Vec<f64>,
    /// Median latency in nanoseconds.
    pub p50: Vec<f64>,
    /// 99th percentile.
    pub p99: Vec<f64>,
    /// Share of its core that the generator used.
    pub generator: Vec<f64>,
    /// Errors of all rounds.
    pub errors: u64,
    /// Warnings of the last round.
    pub warnings: Vec<String>,
}

impl Measured {
    fn add(&mut self, report: &Report) {
        self.rate.push(report.totals.rate);
        self.per_cpu_second.push(report.cpu.answers_per_server_second.unwrap_or(f64::NAN));
        self.cpu_per_million.push(report.cpu.server_seconds_per_million.unwrap_or(f64::NAN));
        self.p50.push(report.latency.p50 as f64);
        self.p99.push(report.latency.p99 as f64);
        self.generator.push(report.cpu.generator);
        self.errors += report.totals.errors;
        self.warnings.clone_from(&report.warnings);
        // Sixty-four connections that were lost are one trouble.
        let mut troubles: BTreeMap<&str, usize> = BTreeMap::new();
        report.troubles.iter().for_each(|it| *troubles.entry(it).or_default() += 1);
        self.warnings.extend(troubles.into_iter().map(|(trouble, times)| match times {
            1 => trouble.to_owned(),
            times => format!("{trouble} ({times} times)"),
        }));
    }
}

/// Everything that came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// The version of this form.
    pub format: u32,
    /// When it began, in seconds since 1970.
    pub began: u64,
    /// Where it ran.
    pub machine: Machine,
    /// How: tokens, rounds, lengths, cores, versions of the peers.
    pub conditions: BTreeMap<String, String>,
    /// The table.
    pub rows: Vec<Row>,
    /// What each cell measured.
    pub cells: BTreeMap<String, Measured>,
    /// Look-ups without a socket; nothing if they could not be measured.
    #[serde(default)]
    pub looked: Option<maps::Looked>,
    /// What an answer is made of.
    #[serde(default)]
    pub made_of: Vec<made_of::MadeOf>,
    /// What was timed without a cell.
    #[serde(default)]
    pub times: BTreeMap<String, pushes::Times>,
    /// Peers that are missing, and how to install them.
    pub missing: BTreeMap<String, String>,
}

/// Runs everything; the exit code.
///
/// # Errors
/// Our own server or the echo cannot be measured.
pub fn run(options: &Versus) -> Result<u8, String> {
    let scratch = Scratch::new(options.directory.as_deref(), "versus")?;
    let outcome = measure(options, scratch.path())?;
    print!("{}", page::text(&outcome));
    save(&options.json, &serde_json::to_string_pretty(&outcome).map_err(|error| error.to_string())?)?;
    save(&options.html, &page::html(&outcome))?;
    eprintln!("written: {} and {}", options.json.display(), options.html.display());
    let errors = outcome.cells.values().map(|cell| cell.errors).chain(outcome.times.values().map(|it| it.errors));
    let errors: u64 = errors.sum();
    Ok(if errors == 0 { 0 } else { crate::FAILED })
}

/// Lengths and numbers, the short ones if only the running itself is to be proven.
struct Extent {
    tokens: u64,
    map_tokens: u64,
    large_tokens: u64,
    restart_tokens: u64,
    rounds: usize,
    duration: Duration,
    warm_up: Duration,
    cores: Option<(usize, usize)>,
}

impl Extent {
    fn of(options: &Versus) -> Result<Self, String> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let pinned = (cores > 1).then_some((options.server_core, options.core));
        if options.server_core == options.core {
            return Err("the server and the generator need a core each".to_owned());
        }
        Ok(if options.short {
            let ms = Duration::from_millis;
            Self {
                tokens: 5_000,
                map_tokens: 5_000,
                large_tokens: 20_000,
                restart_tokens: 20_000,
                rounds: 1,
                duration: ms(300),
                warm_up: ms(100),
                cores: pinned,
            }
        } else {
            Self {
                tokens: options.tokens,
                map_tokens: options.map_tokens,
                large_tokens: options.large_tokens,
                restart_tokens: options.restart_tokens.unwrap_or(options.large_tokens.min(options.map_tokens)),
                rounds: usize::from(options.rounds),
                duration: options.duration,
                warm_up: options.warm_up,
                cores: pinned,
            }
        })
    }
}

fn measure(options: &Versus, directory: &Path) -> Result<Outcome, String> {
    let extent = Extent::of(options)?;
    let began = now()?;
    let machine = crate::machine::look();
    // Built before anything is pinned or measured: cargo takes both cores.
    let builds = builds(options);
    if let Some((_, core)) = extent.cores {
        // Every thread and process started from here on has this core, unless it is given another.
        pin_thread(core)?;
    }
    let server_core = extent.cores.map(|(server, _)| server);
    // First, while nobody else is there.
    let looked = maps::measure(extent.map_tokens, extent.rounds.max(5), server_core);
    let start = Start {
        directory: directory.join("ours"),
        tokens: extent.tokens,
        core: server_core,
        binary: options.server_binary.clone(),
    };
    eprintln!("starting our server with {} tokens", extent.tokens);
    let server = Server::start(&start)?;
    let lasts = (extent.duration + extent.warm_up) * 40;
    let all = population(&server.target, lasts, began);
    let (naming, pool, _) = prepare(&server.target, &all, Asking::Check, began)?;
    eprintln!("starting peers");
    let mut peers = Peers::start(directory, &server.target, &all, server_core, options)?;
    let mut pushes = pushes::Pushes::start(directory, &start, options.short)?;
    let mut durable = disk::Durable::start(directory, &start)?;
    let mut field = Field {
        target: server.target.clone(),
        population: all,
        naming,
        pool,
        half_rate: None,
        core: extent.cores.map(|(_, core)| core),
        duration: extent.duration,
        warm_up: extent.warm_up,
        seed: options.seed,
    };
    let mut measured: BTreeMap<String, Measured> = BTreeMap::new();
    for round in 1..=extent.rounds {
        // Tokens end while time passes.
        field.population = population(&server.target, lasts, now()?);
        if !options.near_only {
            ask_all(&mut field, &peers, &server, (round, extent.rounds), &mut measured)?;
            eprintln!("round {round} of {}: durable changes", extent.rounds);
            durable.round(&peers, &server.spawned, extent.duration)?;
        }
        pushes.round(&field, &peers, &server, round)?;
    }
    let Durable { found: disk, .. } = durable;
    let made_of = if options.near_only { Vec::new() } else { made_of::measure(&field, &peers, &server, directory)? };
    let beside = ourselves::Beside { server: &server, field: &field, peers: &peers, start: &start, extent: &extent };
    let uncounted = counting::measure(&beside, &builds, &mut measured);
    let larger = |name: &str, tokens: u64| Start { directory: directory.join(name), tokens, ..start.clone() };
    let large_start = larger("ours-large", extent.large_tokens);
    let large = beside.large(&large_start, &mut measured);
    drop(server);
    let has_same = extent.restart_tokens == extent.large_tokens && large.is_ok();
    let restart_start = if has_same {
        large_start.clone()
    } else {
        forget(&large_start.directory);
        larger("ours-restarted", extent.restart_tokens)
    };
    let restarts = restart::measure(&restart_start, &mut peers, extent.rounds);
    forget(&restart_start.directory);
    let redis = peers.missing.get(peers::Who::Redis.name());
    let mut also = maps::rows(&looked);
    also.extend(ourselves::rows(&large, &measured));
    also.extend(counting::rows(&uncounted, &measured));
    also.extend(disk::rows(&disk));
    also.extend(restart::rows(&restarts, redis));
    let mut rows = goals::rows(&measured, &peers.missing, also);
    rows.extend(pushes::rows(&pushes, redis));
    measured.append(&mut pushes.cells);
    let mut conditions = peers.versions.clone();
    conditions.extend(describe(options, &extent, field.population.hits.len()));
    conditions.extend(pushes.conditions());
    Ok(Outcome {
        format: 2,
        began: began.seconds(),
        machine,
        conditions,
        rows,
        cells: measured,
        looked: looked.ok(),
        made_of,
        times: std::mem::take(&mut pushes.times),
        missing: peers.missing.clone(),
    })
}

/// The builds of P16, or why there are none.
fn builds(options: &Versus) -> Result<counting::Builds, String> {
    match (&options.build_uncounted, &options.uncounted) {
        (Some(directory), _) => counting::build(directory),
        (None, Some(uncounted)) => {
            Ok(counting::Builds { counted: options.server_binary.clone(), uncounted: uncounted.clone() })
        }
        (None, None) => Err("needs a build that counts nothing: --build-uncounted DIRECTORY makes it, and \
                             --uncounted FILE names one that is there"
            .to_owned()),
    }
}

/// Every cell once.
fn ask_all(
    field: &mut Field,
    peers: &Peers,
    server: &Server,
    (round, rounds): (usize, usize),
    measured: &mut BTreeMap<String, Measured>,
) -> Result<(), String> {
    let now = now()?;
    for cell in &cells::all(peers) {
        let name = cell.name();
        eprintln!("round {round} of {rounds}: {name}");
        let changes = if cell.needs_churn() {
            Some(prepare(&server.target, &field.population, Asking::Check, now)?.2)
        } else {
            None
        };
        peers.only(cell.server, &server.spawned);
        let report = cells::run(cell, field, peers, server, changes);
        peers.thaw(&server.spawned);
        let report = report.map_err(|why| format!("{name}: {why}"))?;
        if name == cells::KNEE {
            field.half_rate.get_or_insert(report.totals.rate / 2.0);
        }
        measured.entry(name).or_default().add(&report);
    }
    Ok(())
}

/// How everything was measured, in names and words.
fn describe(options: &Versus, extent: &Extent, asked_about: usize) -> Vec<(String, String)> {
    let cores = extent.cores.map_or("not pinned: only one core".to_owned(), |(server, generator)| {
        format!("server {server}, generator {generator}")
    });
    [
        ("tokens", extent.tokens.to_string()),
        ("tokens of the larger server", extent.large_tokens.to_string()),
        ("tokens of what is started again", extent.restart_tokens.to_string()),
        ("tokens of look-ups without a socket", extent.map_tokens.to_string()),
        ("tokens asked about", asked_about.to_string()),
        ("rounds", extent.rounds.to_string()),
        ("a cell lasts", format!("{:?} after {:?} of warm-up", extent.duration, extent.warm_up)),
        ("mix", "90 hit : 8 unknown : 2 revoked; uniform".to_owned()),
        ("cores", cores),
        ("short", options.short.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Removes a directory that nobody looks at again.
fn forget(directory: &Path) {
    // Gigabytes; if they cannot be removed here, they end with the directory around them.
    let _ = std::fs::remove_dir_all(directory);
}

/// The middle one; the mean of the two middle ones if there is none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|it| it.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => (sorted[count / 2 - 1] + sorted[count / 2]) / 2.0,
    }
}

/// The smallest and the largest.
pub fn extremes(values: &[f64]) -> (f64, f64) {
    let finite = values.iter().copied().filter(|it| it.is_finite());
    finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), it| (low.min(it), high.max(it)))
}

/// A population that several share.
type Everybody = Arc<crate::population::Population>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan() && median(&[f64::NAN]).is_nan());
        assert_eq!(extremes(&[3.0, f64::NAN, 1.0]), (1.0, 3.0));
    }
}
