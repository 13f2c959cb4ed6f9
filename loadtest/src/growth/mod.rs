//! `loadtest growth`: how cost grows with the number of tokens, with what is in flight, and with connections.
//!
//! Three series. *Tokens*: a server for each power of ten, asked with 4 × 64 and 4 × 1,024 in flight. *In flight*: one
//! server, 1 to 4,096 questions in flight on at most four connections. *Connections*: the same server, 1 to 1,000
//! connections with one question in flight on each.
//!
//! Each point is asked twice in each round. With everything in flight that it allows (a closed loop), which gives
//! the rate and the latency under full load; and in an open loop at half of the rate just found, which gives the latency
//! that a caller sees who does not overload it. The points take turns, round by round; all servers but the one that is
//! asked are frozen.

// The points, and one round of one.
mod point;
// Text and page.
mod page;
// Servers with room for a thousand connections.
mod roomy;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::options::Growth;
use crate::process::pin_thread;
use crate::report::save;
use crate::run::now;
use crate::scratch::Scratch;
use crate::show::short;
use point::{Asked, Plan, Point};
use roomy::Roomy;

/// The fewest tokens of the series.
const TOKENS_LEAST: u64 = 100_000;

/// The server of the other two series has at most this many.
const TOKENS_ELSEWHERE: u64 = 1_000_000;

/// The version of the JSON form.
const FORMAT: u32 = 1;

/// What grows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// Tokens in the server.
    Tokens,
    /// Questions in flight.
    InFlight,
    /// Connections.
    Connections,
}

impl Axis {
    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::InFlight => "in flight",
            Self::Connections => "connections",
        }
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
    /// How: rounds, lengths, cores.
    pub conditions: BTreeMap<String, String>,
    /// Every point of every series.
    pub points: Vec<Point>,
}

/// Runs everything; the exit code.
///
/// # Errors
/// A server cannot be started or asked.
pub fn run(options: &Growth) -> Result<u8, String> {
    let scratch = Scratch::new(options.directory.as_deref(), "growth")?;
    let outcome = measure(options, scratch.path())?;
    print!("{}", page::text(&outcome));
    save(&options.json, &serde_json::to_string_pretty(&outcome).map_err(|error| error.to_string())?)?;
    save(&options.html, &page::html(&outcome))?;
    eprintln!("written: {} and {}", options.json.display(), options.html.display());
    let errors: u64 = outcome.points.iter().map(|it| it.errors).sum();
    Ok(if errors == 0 { 0 } else { crate::FAILED })
}

fn plan(options: &Growth) -> Result<Plan, String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if options.server_core == options.core {
        return Err("the server and the generator need a core each".to_owned());
    }
    let cores = (cores > 1).then_some((options.server_core, options.core));
    let powers = |least: u64, most: u64| -> Vec<u64> {
        let mut all: Vec<u64> =
            std::iter::successors(Some(least), |it| it.checked_mul(10)).take_while(|it| *it < most).collect();
        all.push(most);
        all
    };
    let in_flight = |most: u64| -> Vec<u64> {
        let mut all: Vec<u64> =
            std::iter::successors(Some(1), |it: &u64| it.checked_mul(4)).take_while(|it| *it < most).collect();
        all.push(most);
        all
    };
    let ms = Duration::from_millis;
    Ok(if options.short {
        let (tokens, in_flight, connections) = (vec![2_000, 4_000], vec![1, 16], vec![1, 80]);
        Plan { tokens, in_flight, connections, rounds: 1, duration: ms(60), warm_up: ms(20), cores, seed: options.seed }
    } else {
        Plan {
            tokens: powers(TOKENS_LEAST.min(options.tokens_max), options.tokens_max),
            in_flight: in_flight(u64::from(options.in_flight_max)),
            connections: powers(1, u64::from(options.connections_max)),
            rounds: usize::from(options.rounds),
            duration: options.duration,
            warm_up: options.warm_up,
            cores,
            seed: options.seed,
        }
    })
}

fn measure(options: &Growth, directory: &Path) -> Result<Outcome, String> {
    let plan = plan(options)?;
    let began = now()?;
    let machine = crate::machine::look();
    if let Some((_, core)) = plan.cores {
        // Every thread and process started from here on has this core, unless it is given another.
        pin_thread(core)?;
    }
    roomy::room_for_files()?;
    let mut servers = Vec::new();
    for tokens in &plan.tokens {
        eprintln!("starting a server with {} tokens", short(*tokens as f64));
        servers.push(Roomy::start(directory, *tokens, &plan)?);
    }
    // The largest that is not too large; the series of tokens ascends.
    let elsewhere = plan.tokens.iter().rposition(|it| *it <= TOKENS_ELSEWHERE).unwrap_or(0);
    let mut points = plan.points(elsewhere);
    let progress = Progress::new(points.len() * plan.rounds);
    for round in 1..=plan.rounds {
        for point in &mut points {
            progress.at(&format!("round {round} of {}: {}", plan.rounds, point.name()));
            let Some(server) = servers.get(point.server) else { continue };
            let others = || servers.iter().enumerate().filter(|(at, _)| *at != point.server);
            others().for_each(|(_, it)| it.spawned().freeze());
            let asked = Asked::of(point, server, &plan);
            others().for_each(|(_, it)| it.spawned().thaw());
            let asked = asked.map_err(|why| format!("{}: {why}", point.name()))?;
            progress.found(&asked);
            point.add(&asked);
        }
    }
    progress.done();
    let conditions = conditions(&plan, points.get(elsewhere).map_or(0, |it| it.tokens));
    Ok(Outcome { format: FORMAT, began: began.seconds(), machine, conditions, points })
}

fn conditions(plan: &Plan, elsewhere: u64) -> BTreeMap<String, String> {
    let cores = plan.cores.map_or("not pinned: only one core".to_owned(), |(server, generator)| {
        format!("server {server}, generator {generator}")
    });
    let lasts = format!("{:?} after {:?} of warm-up, twice in each round", plan.duration, plan.warm_up);
    BTreeMap::from([
        ("cores".to_owned(), cores),
        ("rounds".to_owned(), plan.rounds.to_string()),
        ("a point lasts".to_owned(), lasts),
        ("tokens of the series of in flight and connections".to_owned(), elsewhere.to_string()),
        ("questions".to_owned(), "checks, 90 hit : 8 unknown : 2 revoked; uniform".to_owned()),
        ("seed".to_owned(), plan.seed.to_string()),
    ])
}

/// A bar on a terminal, a line for each point otherwise.
struct Progress {
    bar: Option<ProgressBar>,
    of: usize,
    began: Instant,
    done: std::cell::Cell<usize>,
}

impl Progress {
    fn new(of: usize) -> Self {
        use std::io::IsTerminal;
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(of as u64);
            // The template is a constant that indicatif accepts; without it the plain bar would do.
            if let Ok(style) = ProgressStyle::with_template("{elapsed_precise} {bar:30} {pos}/{len} {eta} left  {msg}")
            {
                bar.set_style(style);
            }
            bar
        });
        Self { bar, of, began: Instant::now(), done: std::cell::Cell::new(0) }
    }

    fn at(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(what.to_owned()),
            None => {
                let (seconds, done) = (self.began.elapsed().as_secs_f64(), self.done.get());
                eprintln!("{seconds:>6.1} s  {} of {}  {what}", done + 1, self.of);
            }
        }
    }

    fn found(&self, asked: &Asked) {
        self.done.set(self.done.get() + 1);
        match &self.bar {
            Some(bar) => bar.inc(1),
            None => eprintln!("{:>10}{}", "", asked.line()),
        }
    }

    fn done(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
