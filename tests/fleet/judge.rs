//! What comes of a run: who accepted after a fence, how long things took.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde_json::{Value, json};

use super::ledger::{Ledger, Process};
use super::proxy::Weather;
use super::record::{Record, between, nanoseconds};
use super::run::Plan;
use super::trouble::{Past, Span};

/// A follower that let the token in so shortly before the revocation began was letting it in.
const JUST_BEFORE: Duration = Duration::from_millis(50);

/// A revocation that returned.
#[derive(Clone, Copy, Debug)]
pub struct Revocation {
    pub token: u32,
    /// Clients looked at it once a millisecond.
    pub is_watched: bool,
    /// Otherwise it returned as soon as it was durable and applied.
    pub is_fenced: bool,
    /// The first attempt began.
    pub began: u64,
    /// The attempt that returned began.
    pub called: u64,
    pub returned: u64,
    pub attempts: u32,
}

/// An accept that began after the fence.
#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "printed whole")]
pub struct Late {
    process: Process,
    after: Duration,
    accept: Record,
    revocation: Revocation,
}

/// How long a fence took, and what was wrong meanwhile.
#[derive(Clone, Copy, Debug)]
struct Fenced {
    took: Duration,
    server_in_trouble: bool,
    anybody_in_trouble: bool,
}

/// All of it.
pub struct Judgement {
    pub late: Vec<Late>,
    pub accepts: u64,
    pub from_memory: u64,
    /// Looks at tokens by a client that had been denied them before: none was let in.
    pub refused: u64,
    pub fences: usize,
    /// Of each revocation that did not wait for a fence: how long after its return an accept began.
    pub staleness: Vec<Duration>,
    fenced: Vec<Fenced>,
    /// From the beginning of a revocation to the last accept at a healthy follower that began.
    last_accepts: Vec<Duration>,
    /// From there to the first denial at one.
    denials: Vec<Duration>,
    durable: Vec<Duration>,
    repeated: usize,
    processes: usize,
    troubles: Vec<(&'static str, u64)>,
    datagrams: [(&'static str, u64); 5],
    seed: u64,
    lease: Duration,
    took: Duration,
}

/// n, p50, p99, max, in milliseconds.
struct Spread(usize, [f64; 3]);

impl Spread {
    fn of(times: impl IntoIterator<Item = Duration>) -> Self {
        let mut times: Vec<Duration> = times.into_iter().collect();
        times.sort_unstable();
        let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len().saturating_sub(1)));
        let ms = |percent| at(percent).map_or(0.0, |time| time.as_secs_f64() * 1e3);
        Self(times.len(), [ms(50), ms(99), ms(100)])
    }

    fn json(&self) -> Value {
        let Self(n, [p50, p99, max]) = self;
        json!({ "n": n, "p50_ms": p50, "p99_ms": p99, "max_ms": max })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(n, [p50, p99, max]) = self;
        write!(f, "p50 {p50:.1}, p99 {p99:.1}, max {max:.1} ms (n = {n})")
    }
}

impl Judgement {
    /// `steady` clients, the first ones, had a good network except when they were in trouble.
    pub fn new(
        plan: &Plan,
        revocations: &[Revocation],
        ledger: &Ledger,
        past: &Past,
        weather: &[Arc<Weather>],
        steady: usize,
        took: Duration,
    ) -> Self {
        let (clients, server) = (past.clients.lock().unwrap(), past.server.lock().unwrap());
        let mut rows: HashMap<u32, Vec<_>> = HashMap::new();
        for ((process, token), row) in &ledger.rows {
            rows.entry(*token).or_default().push((*process, *row));
        }
        let (mut late, mut staleness, mut fenced) = (Vec::new(), Vec::new(), Vec::new());
        let (mut last_accepts, mut denials, mut durable) = (Vec::new(), Vec::new(), Vec::new());
        // After a trouble comes a lease of finding back.
        let after = nanoseconds(plan.lease);
        let meets = |span: &Span, from: u64, to: u64| span.meets(from.saturating_sub(after), to);
        for revocation in revocations {
            let Revocation { token, is_watched, is_fenced, began, called, returned, attempts } = *revocation;
            let rows = rows.get(&token).map_or(&[][..], Vec::as_slice);
            let accepts = || rows.iter().filter_map(|(process, row)| Some((*process, row.last?)));
            let server_in_trouble = attempts > 1 || server.iter().any(|span| meets(span, called, returned));
            if is_fenced {
                let too_late = accepts().filter(|(_, accept)| accept.began > returned);
                late.extend(too_late.map(|(process, accept)| Late {
                    process,
                    after: between(returned, accept.began),
                    accept,
                    revocation: *revocation,
                }));
                let client_in_trouble = clients.iter().any(|(_, span)| meets(span, called, returned));
                fenced.push(Fenced {
                    took: between(called, returned),
                    server_in_trouble,
                    anybody_in_trouble: server_in_trouble || client_in_trouble,
                });
            } else {
                staleness.extend(accepts().map(|(_, accept)| between(returned, accept.began)).max());
                if !server_in_trouble {
                    durable.push(between(called, returned));
                }
            }
            for (process, row) in rows.iter().filter(|(process, _)| process.client < steady) {
                let (Some(last), Some(denied)) = (row.last, row.denied) else { continue };
                let in_trouble = |span: &Span| meets(span, began, denied.ended);
                let troubled = server.iter().any(in_trouble)
                    || clients.iter().any(|(client, span)| *client == process.client && in_trouble(span));
                if is_watched && !troubled && last.began >= began.saturating_sub(nanoseconds(JUST_BEFORE)) {
                    last_accepts.push(between(began, last.began));
                    denials.push(between(began, denied.ended));
                }
            }
        }
        late.sort_by_key(|late| std::cmp::Reverse(late.after));
        let sum = |count: fn(&Weather) -> u64| weather.iter().map(|weather| count(weather)).sum();
        Self {
            late,
            accepts: ledger.accepts,
            from_memory: ledger.from_memory,
            refused: ledger.refused,
            fences: fenced.len(),
            staleness,
            fenced,
            last_accepts,
            denials,
            durable,
            repeated: revocations.iter().filter(|revocation| revocation.attempts > 1).count(),
            processes: ledger.live.len(),
            troubles: past.counts.lock().unwrap().iter().map(|(name, count)| (*name, *count)).collect(),
            datagrams: [
                ("passed", sum(|weather| weather.counts.passed.load(Relaxed))),
                ("cut", sum(|weather| weather.counts.cut.load(Relaxed))),
                ("lost", sum(|weather| weather.counts.lost.load(Relaxed))),
                ("doubled", sum(|weather| weather.counts.doubled.load(Relaxed))),
                ("late", sum(|weather| weather.counts.delayed.load(Relaxed))),
            ],
            seed: plan.seed,
            lease: plan.lease,
            took,
        }
    }

    /// How long fences took while the server itself was well, whatever happened to the clients.
    pub fn undisturbed_server(&self) -> impl Iterator<Item = Duration> {
        self.fenced.iter().filter(|fenced| !fenced.server_in_trouble).map(|fenced| fenced.took)
    }

    fn calm(&self) -> impl Iterator<Item = Duration> {
        self.fenced.iter().filter(|fenced| !fenced.anybody_in_trouble).map(|fenced| fenced.took)
    }

    fn spreads(&self) -> [(&'static str, Spread); 7] {
        [
            ("time to fence, all", Spread::of(self.fenced.iter().map(|fenced| fenced.took))),
            ("time to fence, server well", Spread::of(self.undisturbed_server())),
            ("time to fence, all well but three on a rough network", Spread::of(self.calm())),
            ("time to durable, server well", Spread::of(self.durable.iter().copied())),
            ("revoke to last accept, follower well", Spread::of(self.last_accepts.iter().copied())),
            ("revoke to first denial, follower well", Spread::of(self.denials.iter().copied())),
            ("accepts after a revocation was durable", Spread::of(self.staleness.iter().copied())),
        ]
    }

    pub fn json(&self) -> Value {
        let spreads: serde_json::Map<String, Value> =
            self.spreads().iter().map(|(name, spread)| ((*name).to_owned(), spread.json())).collect();
        json!({
            "seed": self.seed,
            "lease_ms": self.lease.as_secs_f64() * 1e3,
            "seconds": self.took.as_secs_f64(),
            "fenced_revocations": self.fences,
            "durable_revocations": self.staleness.len(),
            "repeated_calls": self.repeated,
            "client_processes": self.processes,
            "accepts": self.accepts,
            "accepts_from_memory": self.from_memory,
            "looks_at_ended_tokens": self.refused,
            "accepts_begun_after_the_fence": self.late.len(),
            "spreads": spreads,
            "troubles": self.troubles.iter().copied().collect::<std::collections::BTreeMap<_, _>>(),
            "datagrams": self.datagrams.iter().copied().collect::<std::collections::BTreeMap<_, _>>(),
        })
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "fleet: seed {}, lease {} ms: {} fenced revocations and {} durable ones ({} calls repeated), {} client \
             processes, {} accepts, {} of them from memory, {} looks at what had ended; {} accepts began after a fence; \
             {:.1} s",
            self.seed,
            self.lease.as_millis(),
            self.fences,
            self.staleness.len(),
            self.repeated,
            self.processes,
            self.accepts,
            self.from_memory,
            self.refused,
            self.late.len(),
            self.took.as_secs_f64(),
        )?;
        for (name, spread) in self.spreads() {
            writeln!(f, "  {name}: {spread}")?;
        }
        for (name, count) in &self.troubles {
            writeln!(f, "  {name}: {count}")?;
        }
        write!(f, "  datagrams")?;
        self.datagrams.iter().try_for_each(|(name, count)| write!(f, " {name} {count}"))
    }
}
