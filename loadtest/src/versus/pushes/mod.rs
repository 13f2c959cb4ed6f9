//! What a near-cache is for, beside its peers: hits in memory (N1), revocations that are heard of (N2, N4), and what many
//! followers cost the server (N3). README.md says how each is measured.
//!
//! Each round runs all of it once, in the same order, so that ratios are taken within a round as everywhere.

// From a revocation to its denial at a follower.
mod denied;
// The bare echo at the same moments.
mod echoed;
// Many followers.
mod flock;
// Hits in memory.
mod memory;
// What was timed, written down.
pub mod page;
// Things that take time to have their effect.
mod probe;
// The table's rows.
mod rows;
// Redis, tracking.
mod tracking;
// What was timed.
mod times;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokenscope::client::{Client, Wait};

use super::cells::{self, Cell, Field};
use super::disk::Raw;
use super::peers::{Peers, Who};
use super::{Everybody, Measured};
use crate::churn::{Churn, Pool};
use crate::run::{now, population};
use crate::server::{Server, Start};
use crate::target::Target;
use denied::{Held, Pair, Phase};
use flock::{Flock, Revoker};
use memory::Memory;
use probe::{Moments, Seen};
pub use rows::rows;
pub use times::Times;
use tracking::Tracking;

/// Revocations, or messages of the echo, or `SET`s, each second, where delays are measured.
const PROBES: f64 = 500.0;

/// Tokens of the server whose data lies in memory.
const TOKENS_IN_MEMORY: u64 = 5_000;

/// What tells a file system in memory from one on a disk.
const TMPFS: u64 = 0x0102_1994;

/// Where one usually is.
const IN_MEMORY: &str = "/dev/shm";

/// Followers and revocations each second, and in a short run.
const FLOCK: [(usize, f64); 2] = [(100, 1_000.0), (8, 200.0)];

/// Fenced revocations with all followers there, in a round and in a short one.
const FENCES: [usize; 2] = [100, 4];

/// Connections and questions in flight beside them.
const SHAPE: (usize, usize) = (4, 64);

// What things are called among the times.
const ECHO: &str = "bare QUIC echo, round trip";
const RAW: &str = "raw append + fdatasync, 64 B";
const DENIED: &str = "revoke → denied";
const RECEIPT: &str = "revoke → durable receipt";
const AFTER: &str = "durable receipt → denied (below zero: denied first)";
const FENCED: &str = "revoke → fenced receipt";
const FENCED_DENIED: &str = "revoke (fenced) → denied";
const ON_DISK: &str = "";
const NO_DISK: &str = ", data in memory";
const MANY: &str = "revoke → fenced receipt, many followers";
const FLOOD: &str = "revoke → durable receipt in a flood, many followers";
const REDIS: [&str; 2] = ["redis, no persistence", "redis, appendfsync always"];
const SET_INVALIDATED: &str = "SET → invalidation";
const SET_RECEIPT: &str = "SET → OK";

// And among the cells.
const ALONE: &str = "native 4×64 alone";
const REVOKING: &str = "native 4×64 and revocations";
const FOLLOWED: &str = "native 4×64 and followers";

/// What all of it needs, from the first round to the last.
pub struct Pushes {
    /// What was timed.
    pub times: BTreeMap<String, Times>,
    /// What the cells measured.
    pub cells: BTreeMap<String, Measured>,
    /// Shares of the generator's core that the followers used.
    flock_share: Vec<f64>,
    memory: Memory,
    in_memory: Option<InMemory>,
    tracking: [Option<Tracking>; 2],
    directory: PathBuf,
    short: bool,
}

/// A server of ours with its data in memory: all of it but the disk.
struct InMemory {
    /// There until the end.
    server: Option<Server>,
    directory: PathBuf,
}

impl Drop for InMemory {
    fn drop(&mut self) {
        // It writes until it has ended.
        drop(self.server.take());
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// How long things last.
#[derive(Clone, Copy)]
struct Lasts {
    warm_up: Duration,
    recorded: Duration,
}

impl Lasts {
    fn moments(self, seed: u64) -> Moments {
        Moments::new(PROBES, self.warm_up, self.recorded, seed)
    }
}

impl Pushes {
    /// Starts the servers that only this needs, frozen.
    ///
    /// # Errors
    /// One that is there does not start.
    pub fn start(directory: &Path, start: &Start, short: bool) -> Result<Self, String> {
        let [plain, durable] = [false, true].map(|durable| Tracking::start(directory, start.core, durable));
        Ok(Self {
            times: BTreeMap::new(),
            cells: BTreeMap::new(),
            flock_share: Vec::new(),
            memory: Memory::new()?,
            in_memory: InMemory::start(start)?,
            tracking: [plain?, durable?],
            directory: directory.to_owned(),
            short,
        })
    }

    /// Measures everything once.
    ///
    /// # Errors
    /// Something cannot be measured at all, or an answer was wrong in a way that leaves nothing to measure.
    pub fn round(&mut self, field: &Field, peers: &Peers, server: &Server, round: usize) -> Result<(), String> {
        let lasts = Lasts { warm_up: field.warm_up / 2, recorded: field.duration };
        let moments = lasts.moments(field.seed.wrapping_add(round as u64));
        let say = |what: &str| eprintln!("round {round}: {what}");
        say("decisions in memory");
        peers.only(Who::Echo, &server.spawned);
        self.memory.round(self.short, &mut self.times);
        say(ECHO);
        let echoed = crate::runtime()?.block_on(echoed::measure(peers, &moments));
        self.entry(ECHO).add(&echoed?.took());
        self.raw_appends()?;
        peers.thaw(&server.spawned);
        say("revocations at a follower");
        peers.only(Who::Ours, &server.spawned);
        self.denied(&server.target, &field.population, &moments, ON_DISK)?;
        peers.thaw(&server.spawned);
        // Nobody else: the echo alone is not frozen, and has nothing to do.
        peers.only(Who::Echo, &server.spawned);
        if let Some(in_memory) = self.in_memory.take() {
            say("the same, data in memory");
            let denied = in_memory.server.as_ref().map_or(Ok(()), |server| {
                server.spawned.thaw();
                let all = population(&server.target, lasts.warm_up + lasts.recorded, now()?);
                let denied = self.denied(&server.target, &all, &moments, NO_DISK);
                server.spawned.freeze();
                denied
            });
            self.in_memory = Some(in_memory);
            denied?;
        }
        for (at, name) in REDIS.into_iter().enumerate() {
            let Some(tracking) = self.tracking.get_mut(at).and_then(Option::as_mut) else { continue };
            say(name);
            let tracking::Phase { seen, receipts } = tracking.measure(&moments)?;
            self.entry(&format!("{name}: {SET_INVALIDATED}")).add(&seen.took());
            self.entry(&format!("{name}: {SET_RECEIPT}")).add(&seen.between(&seen.due, &receipts));
        }
        peers.thaw(&server.spawned);
        say("many followers");
        peers.only(Who::Ours, &server.spawned);
        let flocked = self.flock(field, peers, server);
        peers.thaw(&server.spawned);
        flocked
    }

    /// What a reader has to know about how it was measured.
    pub fn conditions(&self) -> Vec<(String, String)> {
        let [(followers, revocations), _] = FLOCK;
        let (followers, revocations) = if self.short { FLOCK[1] } else { (followers, revocations) };
        let in_memory = self.in_memory.as_ref().map(|it| it.directory.display().to_string());
        vec![
            (
                "delays".into(),
                format!("{PROBES} each second, Poisson, from when each was due; looked at without sleeping"),
            ),
            ("followers of N3".into(), format!("{followers}, with {revocations} revocations each second")),
            (
                "followers' share of the generator's core".into(),
                format!("{:.0} %", super::median(&self.flock_share) * 100.0),
            ),
            ("our data in memory".into(), in_memory.unwrap_or_else(|| format!("not measured: {IN_MEMORY} is none"))),
        ]
    }

    fn entry(&mut self, name: &str) -> &mut Times {
        self.times.entry(name.to_owned()).or_default()
    }

    fn raw_appends(&mut self) -> Result<(), String> {
        let path = self.directory.join("raw-appends");
        let failed = |error: std::io::Error| format!("raw file: {error}");
        let mut raw = Raw::new(&path).map_err(failed)?;
        let count = if self.short { 20 } else { 500 };
        let took: Result<Vec<f64>, _> = (0..count).map(|_| raw.append(1)).collect();
        drop(raw);
        std::fs::remove_file(&path).map_err(failed)?;
        self.entry(RAW).add(&took.map_err(failed)?);
        Ok(())
    }

    /// N2 with one server: durable, then fenced, with the same follower.
    fn denied(&mut self, target: &Target, population: &Everybody, moments: &Moments, data: &str) -> Result<(), String> {
        let now = now()?;
        let [durable, fenced] = crate::runtime()?.block_on(async {
            let mut churn = Churn::prepare(target, population, Pool::default().into(), now).await?;
            let pair = Pair::connect(target).await?;
            let durable = pair.measure(&mut churn, population, moments, Wait::Durable).await?;
            // Followers that left without their leases being over would be waited for.
            let made = churn.register_some(1).await?;
            for made in &made {
                Held::of(made, population)?.revoke_with(target, Wait::Fenced).await?;
            }
            let fenced = pair.measure(&mut churn, population, moments, Wait::Fenced).await?;
            pair.close().await;
            Ok::<_, String>([durable, fenced])
        })?;
        let Phase { seen, receipts, wrong } = durable;
        self.put(&format!("{DENIED}{data}"), &seen, seen.took(), wrong);
        self.entry(&format!("{RECEIPT}{data}")).add(&seen.between(&seen.due, &receipts));
        self.entry(&format!("{AFTER}{data}")).add(&seen.between(&receipts, &seen.seen));
        let Phase { seen, receipts, wrong } = fenced;
        self.put(&format!("{FENCED_DENIED}{data}"), &seen, seen.took(), wrong);
        self.entry(&format!("{FENCED}{data}")).add(&seen.between(&seen.due, &receipts));
        Ok(())
    }

    fn put(&mut self, name: &str, seen: &Seen, took: Vec<f64>, wrong: Vec<String>) {
        let entry = self.entry(name);
        entry.add(&took);
        wrong.into_iter().for_each(|why| entry.wrong(why));
        if seen.left_out() * 50 > took.len() {
            entry.warn(format!("{} of {} were not held when their turn came", seen.left_out(), took.len()));
        }
    }

    /// N3: alone, with revocations, with revocations and followers.
    fn flock(&mut self, field: &Field, peers: &Peers, server: &Server) -> Result<(), String> {
        let (count, rate) = FLOCK[usize::from(self.short)];
        let fences = FENCES[usize::from(self.short)];
        let cell = Cell::plain(Who::Ours, SHAPE.0, SHAPE.1);
        let lasts = field.warm_up + field.duration;
        // Twice as long as it should take, for what connecting and pinning add.
        let needed = (lasts.as_secs_f64() * 2.0 * rate) as usize + 100;
        let (target, all) = (&server.target, &field.population);
        let runtime = crate::runtime()?;
        let mut churn = runtime.block_on(Churn::prepare(target, all, Pool::default().into(), now()?))?;
        let mut tokens = |count: usize| -> Result<Vec<Held>, String> {
            let made = runtime.block_on(churn.register_some(count))?;
            made.iter().map(|it| Held::of(it, all)).collect()
        };
        let ask = |name: &str, cells: &mut BTreeMap<String, Measured>| -> Result<(), String> {
            let report = cells::run(&cell, field, peers, server, None)?;
            cells.entry(name.to_owned()).or_default().add(&report);
            Ok(())
        };
        ask(ALONE, &mut self.cells)?;
        let revoker = Revoker::start(target, tokens(needed)?, rate);
        let asked = ask(REVOKING, &mut self.cells);
        let revoked = revoker.stop()?;
        asked?;
        self.slow(REVOKING, revoked.rate, rate);

        let watched = tokens(1)?.pop().ok_or("no token")?;
        let revocations = tokens(needed)?;
        let fenced = tokens(fences + 1)?;
        let flock = Flock::gather(target, count, &watched)?;
        let revoker = Revoker::start(target, revocations, rate);
        let asked = ask(FOLLOWED, &mut self.cells);
        let revoked = revoker.stop()?;
        asked?;
        self.slow(FOLLOWED, revoked.rate, rate);
        self.entry(FLOOD).add(&revoked.took);
        let took = runtime.block_on(fence_all(target, &fenced))?;
        runtime.block_on(watched.revoke_with(target, Wait::Fenced))?;
        let deny = flock.deny(&watched);
        let entry = self.entry(MANY);
        entry.add(&took);
        if deny != count {
            entry.wrong(format!(
                "{} of {count} followers let a token in that was revoked, or have no lease",
                count - deny
            ));
        }
        let share = flock.leave()?;
        self.flock_share.push(share);
        Ok(())
    }

    fn slow(&mut self, cell: &str, rate: f64, wanted: f64) {
        // A short run is over before its rate is one.
        if rate < wanted * 0.95 && !self.short {
            let cell = self.cells.entry(cell.to_owned()).or_default();
            cell.warnings.push(format!("{rate:.0} revocations/s were made of {wanted}/s"));
        }
    }
}

/// Fenced revocations one after the other; how long each took but the first, which may wait for those that left.
async fn fence_all(target: &Target, tokens: &[Held]) -> Result<Vec<f64>, String> {
    let client = Client::connect(target.options(&target.changer)).await.map_err(|error| error.to_string())?;
    let mut took = Vec::new();
    for token in tokens {
        let asked = Instant::now();
        token.revoke(&client, Wait::Fenced).await?;
        took.push(asked.elapsed().as_nanos() as f64);
    }
    client.close().await;
    Ok(took.split_off(1.min(took.len())))
}

impl InMemory {
    /// `None`: there is no file system in memory here.
    fn start(like: &Start) -> Result<Option<Self>, String> {
        let is_memory = rustix::fs::statfs(IN_MEMORY).is_ok_and(|found| found.f_type as u64 == TMPFS);
        if !is_memory {
            return Ok(None);
        }
        let directory = Path::new(IN_MEMORY).join(format!("tokenscope-versus-{}", std::process::id()));
        let start = Start { directory: directory.clone(), tokens: TOKENS_IN_MEMORY, ..like.clone() };
        let server = Server::start(&start).inspect_err(|_| drop(std::fs::remove_dir_all(&directory)))?;
        server.spawned.freeze();
        Ok(Some(Self { server: Some(server), directory }))
    }
}
