//! One run from beginning to end: population, driver, churn, engine, result.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokenscope::domain::Timestamp;

use crate::churn::{Churn, Churned, Pool};
use crate::driver::native::{Naming, Native};
use crate::driver::{AnyDriver, Share};
use crate::engine::{self, Ran, Setup};
use crate::live::Watcher;
use crate::machine::Machine;
use crate::population::Population;
use crate::record::interval_ns;
use crate::report::{self, Cpu, FORMAT, Point, Report, Stage, Summary, Totals};
use crate::schedule::{Mode, Plan};
use crate::show::{nanos, short};
use crate::target::Target;
use crate::workload::{Asking, Mix, Popularity, Workload};

/// Above this share of its core the tool is the limit of a closed loop.
const BUSY_MAX: f64 = 0.8;

/// Lateness above this is worth a warning, if it is also a good part of the latency.
const LATE_NS: u64 = 50_000;

/// What a run asks.
#[derive(Clone, Copy, Debug)]
pub struct Questions {
    /// What is asked.
    pub asking: Asking,
    /// Which tokens are popular.
    pub popularity: Popularity,
    /// Shares of kinds.
    pub mix: Mix,
    /// Questions that are due together.
    pub batch: usize,
    /// For all that is drawn.
    pub seed: u64,
}

/// How a run goes.
#[derive(Clone, Debug)]
pub struct Load {
    /// When.
    pub plan: Plan,
    /// Connections, streams, in flight.
    pub share: Share,
    /// Threads that ask.
    pub workers: usize,
    /// The first one's core.
    pub core: Option<usize>,
    /// Changes per second while it lasts.
    pub churn: Option<f64>,
    /// Nothing is shown while it lasts.
    pub quiet: bool,
}

/// Where the questions go.
pub struct Peer<'p> {
    /// How.
    pub driver: AnyDriver,
    /// About which tokens.
    pub population: Arc<Population>,
    /// Tokens that were made here; filled by [`prepare`].
    pub pool: Arc<Pool>,
    /// Who makes changes.
    pub churn: Option<Churn>,
    /// The server's process.
    pub pid: Option<u32>,
    /// More to say about it.
    pub about: &'p [(String, String)],
}

/// The population of a server's data for a run of this length.
pub fn population(target: &Target, lasts: Duration, now: Timestamp) -> Arc<Population> {
    let samples = &target.samples;
    let lasts = u32::try_from(lasts.as_secs()).unwrap_or(u32::MAX).saturating_add(60);
    Arc::new(Population::of_samples(samples.seed, samples.tokens, samples.now(), now.raw(), lasts))
}

/// Numbers from the server, and some revoked tokens to ask about.
///
/// # Errors
/// The server is not what it is said to be.
pub fn prepare(
    target: &Target,
    population: &Arc<Population>,
    asking: Asking,
    now: Timestamp,
) -> Result<(Naming, Arc<Pool>, Churn), String> {
    let runtime = crate::runtime()?;
    runtime.block_on(async {
        let naming = match asking {
            Asking::CheckNames => Naming::Names(population.clone()),
            Asking::Introspect | Asking::Check => {
                crate::driver::native::resolve(&Native::dial(target)?, population).await?
            }
        };
        let pool = Arc::new(Pool::default());
        let churn = Churn::prepare(target, population, pool.clone(), now).await?;
        Ok((naming, pool, churn))
    })
}

/// The moment, in whole seconds.
///
/// # Errors
/// The clock is beyond 2106.
pub fn now() -> Result<Timestamp, String> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_seconds(since.as_secs()).ok_or_else(|| "the clock is beyond 2106".to_owned())
}

/// Runs.
///
/// # Errors
/// It could not be run. Wrong answers are not such an error: they are in the result.
pub fn run(peer: Peer<'_>, questions: Questions, load: &Load) -> Result<Report, String> {
    let machine = crate::machine::look();
    let began = now()?;
    let Questions { asking, popularity, mix, batch, seed } = questions;
    let workloads: Vec<Workload> = (0..load.workers)
        .map(|worker| {
            let (population, pool) = (peer.population.clone(), peer.pool.clone());
            Workload::new(population, pool, (asking, popularity, mix), seed, worker)
        })
        .collect::<Result<_, _>>()?;
    let setup =
        Setup { plan: load.plan.clone(), driver: peer.driver.clone(), share: load.share, batch, seed, core: load.core };
    let stop = Arc::new(AtomicBool::new(false));
    let churning = match (load.churn, peer.churn) {
        (Some(rate), Some(mut churn)) => {
            let stop = stop.clone();
            let runtime = crate::runtime()?;
            Some(std::thread::spawn(move || runtime.block_on(churn.run(rate, stop))))
        }
        (Some(_), None) => return Err("this peer cannot be changed while it is asked".to_owned()),
        (None, _) => None,
    };
    let lasts = Duration::from_nanos(load.plan.lasts_ns());
    let interval = Duration::from_nanos(interval_ns(&load.plan));
    let mut watcher = Watcher::new(lasts, interval, peer.pid, load.quiet);
    let ran = engine::run(&setup, workloads, &mut watcher);
    stop.store(true, Ordering::Release);
    let churned = churning.map(|thread| thread.join().map_err(|_| "the thread of the changes panicked".to_owned()));
    let churned = churned.transpose()?.transpose()?;
    let conditions = conditions(&peer.driver, &peer.population, questions, load, peer.about);
    Ok(result(ran?, load, (machine, began, conditions), &watcher, churned))
}

fn conditions(
    driver: &AnyDriver,
    population: &Population,
    questions: Questions,
    load: &Load,
    about: &[(String, String)],
) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = driver.facts().into_iter().chain(about.iter().cloned()).collect();
    let Share { connections, streams, in_flight } = load.share;
    let per_lane = if streams > 1 { format!(" on {streams} streams") } else { String::new() };
    let mode = match load.plan.mode {
        Mode::Open(arrivals) => {
            let rates: Vec<f64> = load.plan.stages.iter().map(|it| it.rate).collect();
            match rates.as_slice() {
                [rate] => format!("open loop, {arrivals:?}, {}/s", short(*rate)),
                rates => {
                    let low = rates.iter().copied().fold(f64::MAX, f64::min);
                    let high = rates.iter().copied().fold(0.0, f64::max);
                    format!("open loop, {arrivals:?}, {} stages from {} to {}/s", rates.len(), short(low), short(high))
                }
            }
        }
        Mode::Closed => "closed loop".to_owned(),
    };
    let load_text = format!("{mode}, {connections} × {in_flight} in flight{per_lane}");
    let Mix { hit, unknown, expired, revoked, denied } = questions.mix;
    let shares = [("hit", hit), ("unknown", unknown), ("expired", expired), ("revoked", revoked), ("denied", denied)];
    let shares: Vec<String> =
        shares.iter().filter(|(_, share)| *share > 0.0).map(|(name, share)| format!("{share} {name}")).collect();
    let asked = format!("{:?}, {:?}, {}", questions.asking, questions.popularity, shares.join(" : "));
    let mut put = |name: &str, value: String| drop(all.insert(name.to_owned(), value));
    put("driver", driver.name());
    put("load", load_text);
    put("questions", asked);
    put("batch", questions.batch.max(driver.group()).to_string());
    put("seed", questions.seed.to_string());
    put("tokens", population.total.to_string());
    put("tokens asked about", population.hits.len().to_string());
    put("warm-up", format!("{:?}", load.plan.warm_up));
    put("workers", load.workers.to_string());
    put("generator's core", load.core.map_or("any".to_owned(), |core| core.to_string()));
    put("changes", load.churn.map_or("none".to_owned(), |rate| format!("{}/s", short(rate))));
    all
}

fn result(
    ran: Ran,
    load: &Load,
    (machine, began, conditions): (Machine, Timestamp, BTreeMap<String, String>),
    watcher: &Watcher,
    churned: Option<Churned>,
) -> Report {
    let Ran { recorder, travelled, busy, failures, held_back, unsent } = ran;
    let all = recorder.latency();
    let counts = &recorder.counts;
    let seconds = Duration::from_nanos(load.plan.lasts_ns() - load.plan.recorded_from_ns()).as_secs_f64();
    let stages = load.plan.stages.iter().zip(&recorder.stages).zip(&recorder.stage_answers);
    let stages = stages.map(|((stage, latency), answers)| Stage {
        wanted: if load.plan.mode == Mode::Closed { 0.0 } else { stage.rate },
        seconds: stage.lasts.as_secs_f64(),
        rate: *answers as f64 / stage.lasts.as_secs_f64(),
        latency: Summary::of(latency),
        percentiles: report::percentiles(latency),
    });
    let interval = Duration::from_nanos(interval_ns(&load.plan)).as_secs_f64();
    // The last one is cut off by the end and would look like a fall.
    let whole = (load.plan.lasts_ns() / interval_ns(&load.plan)) as usize;
    let series = recorder.series.iter().take(whole).zip(1_u32..).map(|(it, number)| Point {
        at: f64::from(number) * interval,
        rate: it.answered as f64 / interval,
        p50: it.latency.value_at_quantile(0.5),
        p99: it.latency.value_at_quantile(0.99),
    });
    let millions = counts.right as f64 / 1e6;
    let used = watcher.server_cpu.map(|it| it.as_secs_f64()).filter(|it| *it > 0.0);
    let cpu = Cpu {
        generator: busy,
        server_seconds: used,
        server_seconds_per_million: used.filter(|_| millions > 0.0).map(|used| used / millions),
        answers_per_server_second: used.map(|used| counts.right as f64 / used),
        server_resident: watcher.server_resident,
    };
    let churn = churned.as_ref().map(|it| report::Churn {
        wanted: load.churn.unwrap_or(0.0),
        rate: (it.registered + it.revoked) as f64 / it.lasted.as_secs_f64().max(1e-9),
        registered: it.registered,
        revoked: it.revoked,
        failed: it.failed,
        latency: Summary::of(&it.latency),
    });
    let mut troubles = recorder.wrong.clone();
    troubles.extend(failures);
    troubles.extend(churned.as_ref().and_then(|it| it.failure.clone()).map(|why| format!("a change failed: {why}")));
    let mut report = Report {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        began: began.seconds(),
        command: std::env::args().collect::<Vec<_>>().join(" "),
        machine,
        conditions,
        totals: Totals {
            seconds,
            asked: counts.asked,
            answered: counts.right,
            rate: counts.right as f64 / seconds,
            errors: counts.errors() + churned.as_ref().map_or(0, |it| it.failed),
            wrong: counts.wrong,
            refused: counts.refused.iter().map(|(why, count)| (why.to_string(), *count)).collect(),
            lost: counts.lost,
            held_back,
            unsent,
        },
        latency: Summary::of(&all),
        uncorrected: Summary::of(&recorder.service),
        lateness: Summary::of(&recorder.lateness),
        percentiles: report::percentiles(&all),
        stages: stages.collect(),
        series: series.collect(),
        cpu,
        travelled,
        churn,
        troubles,
        warnings: Vec::new(),
        hgrm: report::hgrm::text(&all),
        valid: true,
    };
    judge(&mut report, load);
    report
}

/// What a reader has to know before believing a figure.
fn judge(report: &mut Report, load: &Load) {
    let mut warnings = Vec::new();
    let mut limited = false;
    let Report { totals, lateness, latency, cpu, .. } = &*report;
    if totals.errors > 0 {
        warnings.push(format!("{} errors: the figures are those of a server that fails", totals.errors));
    }
    if latency.count == 0 {
        warnings.push("nothing was answered in the recorded part".to_owned());
    }
    if load.plan.mode == Mode::Closed {
        if cpu.generator > BUSY_MAX {
            limited = true;
            warnings.push(format!(
                "the generator used {:.0} % of its core: the rate may be its limit and not the server's. Answers per \
                 server CPU-second still count",
                cpu.generator * 100.0
            ));
        }
    } else {
        let half_late = lateness.p50 > LATE_NS && lateness.p50 * 10 > latency.p50;
        if half_late || lateness.p99 > LATE_NS && lateness.p99 * 2 > latency.p99 {
            limited = true;
            warnings.push(format!(
                "the tool was late itself: half of the questions were sent {} or more after they were due, 1 % {} or \
                 more. Its core was taken away, or the rate is beyond it",
                nanos(lateness.p50 as f64),
                nanos(lateness.p99 as f64)
            ));
        }
        if totals.unsent * 1_000 > totals.asked {
            warnings.push(format!(
                "{} questions were never sent, because as many as may be were in flight: the rate is beyond the server. \
                 Their latencies, which would be the longest, are missing",
                totals.unsent
            ));
        } else if totals.held_back * 100 > totals.asked {
            warnings.push(format!(
                "{:.1} % of the questions waited for room in flight; their latency counts from when they were due",
                totals.held_back as f64 / totals.asked.max(1) as f64 * 100.0
            ));
        }
    }
    if let Some(churn) = &report.churn
        && churn.rate < churn.wanted * 0.95
    {
        warnings.push(format!("{}/s changes were made of {}/s", short(churn.rate), short(churn.wanted)));
    }
    report.valid = totals.errors == 0 && latency.count > 0 && !limited;
    report.warnings = warnings;
}
