//! `loadtest run`: from options to a run, and its result to wherever it is wanted.

use std::sync::Arc;
use std::time::Duration;

use tokenscope::domain::Timestamp;

use crate::churn::Pool;
use crate::driver::echo::Echo;
use crate::driver::http1::{Http1, Page};
use crate::driver::http2::Http2;
use crate::driver::library::Library;
use crate::driver::memcached::{self, Memcached};
use crate::driver::native::{Naming, Native};
use crate::driver::null::Null;
use crate::driver::quic::tls;
use crate::driver::redis::{self, Redis};
use crate::driver::tcp::Tcp;
use crate::driver::{AnyDriver, Share};
use crate::echo_server::Sizes;
use crate::options::{DriverName, Run};
use crate::population::Population;
use crate::report::{Report, save, table};
use crate::run::{Load, Peer, Questions, prepare, run as go};
use crate::schedule::{Mode, Plan, Stage};
use crate::scratch::Scratch;
use crate::server::{Server, Start};
use crate::target::{Target, loopback, read};
use crate::workload::Mix;

/// Puts load on a server; the exit code.
///
/// # Errors
/// It could not be run.
pub fn run(options: &Run) -> Result<u8, String> {
    let load = load(options)?;
    let report = match options.driver {
        DriverName::Native | DriverName::Client | DriverName::Https1 | DriverName::Https2 => ours(options, &load)?,
        _ => theirs(options, &load)?,
    };
    print!("{}", table::text(&report));
    save_all(options, &report)?;
    let mut code = if report.totals.errors == 0 { 0 } else { crate::FAILED };
    for assertion in &options.assertions {
        if let Err(found) = assertion.check(&report) {
            eprintln!("not met: {found}");
            code = crate::NOT_MET;
        }
    }
    Ok(code)
}

fn load(options: &Run) -> Result<Load, String> {
    let lasts = options.duration;
    let (mode, stages) = match (options.closed || options.sweep, options.rate, options.stage.as_slice()) {
        (true, _, _) => (Mode::Closed, vec![Stage { rate: 1.0, lasts }]),
        (false, Some(rate), _) => (Mode::Open(options.arrivals), vec![Stage { rate, lasts }]),
        (false, None, stages @ [_, ..]) => (Mode::Open(options.arrivals), stages.to_vec()),
        (false, None, []) => {
            return Err(
                "say how fast: --rate 20k, or --stage 10k:5s --stage 20k:5s, or --sweep, or --closed".to_owned()
            );
        }
    };
    let share = Share {
        connections: usize::from(options.connections),
        streams: usize::from(options.streams),
        in_flight: options.in_flight as usize,
    };
    let workers = usize::from(options.workers);
    if workers > share.connections {
        return Err(format!("{workers} workers need at least as many connections"));
    }
    Ok(Load {
        plan: Plan { warm_up: options.warm_up, stages, mode },
        share,
        workers,
        core: options.core,
        churn: options.churn,
        quiet: options.quiet,
    })
}

/// How long all of it takes, about.
fn lasts(options: &Run, load: &Load) -> Duration {
    let times = if options.sweep { SWEEP.len() as u32 + 1 } else { 1 };
    Duration::from_nanos(load.plan.lasts_ns()) * times
}

/// Shares of the knee that a sweep asks for.
const SWEEP: [f64; 8] = [0.1, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 1.1];

/// How long a sweep looks for the knee.
const KNEE: Duration = Duration::from_secs(2);

/// Runs; a sweep looks first how much the peer takes, and asks shares of that then.
fn ask(options: &Run, load: &Load, peer: Peer<'_>, questions: Questions) -> Result<Report, String> {
    if !options.sweep {
        return go(peer, questions, load);
    }
    let stage = Stage { rate: 1.0, lasts: KNEE };
    let plan = Plan { warm_up: options.warm_up, stages: vec![stage], mode: Mode::Closed };
    let closed = Load { plan, churn: None, ..load.clone() };
    let Peer { driver, population, pool, churn, pid, about } = peer;
    let first =
        Peer { driver: driver.clone(), population: population.clone(), pool: pool.clone(), churn: None, pid, about };
    let knee = go(first, questions, &closed)?.totals.rate;
    if knee <= 0.0 {
        return Err("nothing was answered, so there is no knee".to_owned());
    }
    eprintln!("the knee is near {}/s", crate::show::short(knee));
    let stages = SWEEP.map(|share| Stage { rate: knee * share, lasts: options.duration }).to_vec();
    let plan = Plan { warm_up: options.warm_up, stages, mode: Mode::Open(options.arrivals) };
    go(Peer { driver, population, pool, churn, pid, about }, questions, &Load { plan, ..load.clone() })
}

fn questions(options: &Run, mix: Mix) -> Questions {
    Questions {
        asking: options.ask,
        popularity: options.popularity,
        mix,
        batch: usize::from(options.batch),
        seed: options.seed,
    }
}

/// A Tokenscope server: one that is running, or one of our own.
fn ours(options: &Run, load: &Load) -> Result<Report, String> {
    if let Some(file) = &options.target_dev {
        return ask_ours(options, load, &Target::of_dev(file)?, options.server_pid);
    }
    let scratch = Scratch::new(options.data_dir.as_deref(), "loadtest")?;
    eprintln!("starting a server in {}", scratch.path().display());
    let binary = options.server_binary.clone();
    let directory = scratch.path().to_owned();
    let server = Server::start(&Start { directory, tokens: options.tokens, core: options.server_core, binary })?;
    ask_ours(options, load, &server.target, options.server_pid.or(Some(server.pid())))
}

fn ask_ours(options: &Run, load: &Load, target: &Target, pid: Option<u32>) -> Result<Report, String> {
    let now = crate::run::now()?;
    let population = crate::run::population(target, lasts(options, load), now);
    let (naming, pool, churn) = prepare(target, &population, options.ask, now)?;
    let driver: AnyDriver = match options.driver {
        DriverName::Client => Arc::new(Library::new(target.clone(), population.clone())),
        DriverName::Https1 => Arc::new(Http1::of_ours(target, &population)?),
        DriverName::Https2 => Arc::new(Http2::of_ours(target, &population)?),
        _ => Arc::new(Native::new(Native::dial(target)?, naming)),
    };
    let core = options.server_core.map_or("any".to_owned(), |core| core.to_string());
    let about = [("server's core".to_owned(), core)];
    let mix = options.mix.unwrap_or_default();
    let peer = Peer { driver, population, pool, churn: Some(churn), pid, about: &about };
    ask(options, load, peer, questions(options, mix))
}

/// A population for a peer that has no sample data of its own.
pub fn free_population(tokens: u64, seed: u64, now: Timestamp, lasts: Duration) -> Arc<Population> {
    let lasts = u32::try_from(lasts.as_secs()).unwrap_or(u32::MAX).saturating_add(600);
    Arc::new(Population::of_samples(seed, tokens, now, now.raw(), lasts))
}

/// A peer, or nothing at all.
fn theirs(options: &Run, load: &Load) -> Result<Report, String> {
    let now = crate::run::now()?;
    let population = free_population(options.tokens, options.seed, now, lasts(options, load));
    let address = || {
        let address = options.address.ok_or("say where the peer is: --address 127.0.0.1:PORT")?;
        loopback(address)
    };
    let tcp = || -> Result<Tcp, String> {
        let tls = match &options.ca {
            Some(ca) => Some((Arc::new(tls(&read(ca)?, None, &[])?), "localhost".to_owned())),
            None => None,
        };
        Ok(Tcp { address: address()?, tls })
    };
    let runtime = crate::runtime()?;
    let driver: AnyDriver = match options.driver {
        DriverName::Redis => {
            let tcp = tcp()?;
            runtime.block_on(redis::load(&tcp, &population))?;
            Arc::new(Redis(tcp))
        }
        DriverName::Memcached => {
            let tcp = tcp()?;
            runtime.block_on(memcached::load(&tcp, &population))?;
            Arc::new(Memcached { tcp, group: usize::from(options.group) })
        }
        DriverName::Http => {
            let tcp = tcp()?;
            Arc::new(Http1 { name: "http", page: Page::fixed(&options.path, &population), tcp })
        }
        DriverName::Echo => {
            let ca = options.ca.as_deref().ok_or("the echo server's certificate is needed: --ca echo.pem")?;
            let (question, answer) = options.echo_bytes.split_once(':').ok_or("--echo-bytes is like 44:16")?;
            let number = |text: &str| text.parse().map_err(|_| format!("--echo-bytes: {text:?} is no number"));
            Arc::new(Echo::new(address()?, &read(ca)?, Sizes::new(number(question)?, number(answer)?)?)?)
        }
        _ => {
            let scopes = (0..=u8::MAX).take(population.scopes.len()).collect();
            let places = (0..).take(population.places.len()).collect();
            Arc::new(Null::new(Naming::Numbers { scopes, places }))
        }
    };
    let mix = options.mix.unwrap_or(Mix { revoked: 0.0, ..Mix::default() });
    let pool = Arc::new(Pool::default());
    let peer = Peer { driver, population, pool, churn: None, pid: options.server_pid, about: &[] };
    ask(options, load, peer, questions(options, mix))
}

fn save_all(options: &Run, report: &Report) -> Result<(), String> {
    if let Some(path) = &options.json {
        save(path, &serde_json::to_string_pretty(report).map_err(|error| error.to_string())?)?;
    }
    if let Some(path) = &options.hgrm {
        save(path, &report.hgrm)?;
    }
    if let Some(path) = &options.html {
        save(path, &crate::report::html::page(&[report]))?;
    }
    Ok(())
}
