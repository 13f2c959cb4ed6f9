//! What a durable change costs, beside what the disk takes for the same bytes.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::goals::{Row, found};
use super::median;
use super::peers::{Peers, Who};
use crate::churn::{Churn, Pool};
use crate::process::Spawned;
use crate::run::{now, population};
use crate::schedule::ns;
use crate::server::{Server, Start};
use crate::show::{nanos, short};

/// Bytes of a raw record: about what a change has in the journal.
const RECORD_BYTES: usize = 64;

/// Raw records that are synced together, when the rate is measured.
const BATCH: usize = 1_000;

/// The raw file's room, in bytes.
const RAW_BYTES: u64 = 64 << 20;

/// Records and changes that are made one after the other in a round.
const SINGLES: usize = 200;

/// Of those, before it is the other's turn.
const AT_ONCE: usize = 20;

/// A rate beyond anything, so that as many changes as may be are always in flight.
const AS_MANY_AS_MAY_BE: f64 = 5e6;

/// Tokens of the server whose changes are counted, before the first of them; it is no other's, so that nobody's tokens grow in
/// number by what is measured here.
const TOKENS: u64 = 100_000;

/// What was found, round by round.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// Median of one raw append with fdatasync, in nanoseconds.
    raw_single: Vec<f64>,
    /// Raw records per second, [`BATCH`] at a time.
    raw_batched: Vec<f64>,
    /// Median of one durable revocation, from asking to the receipt, in nanoseconds.
    revoke_single: Vec<f64>,
    /// Durable changes per second.
    changes: Vec<f64>,
}

/// A server of its own on the disk, and a raw file beside its data.
pub struct Durable {
    server: Server,
    raw: Raw,
    /// What was found so far.
    pub found: Disk,
}

impl Durable {
    /// Starts the server, frozen.
    ///
    /// # Errors
    /// It does not start, or the disk refuses.
    pub fn start(directory: &Path, like: &Start) -> Result<Self, String> {
        let tokens = like.tokens.min(TOKENS);
        let start = Start { directory: directory.join("ours-changed"), tokens, ..like.clone() };
        let server = Server::start(&start)?;
        server.spawned.freeze();
        let raw = Raw::new(&directory.join("raw")).map_err(failed)?;
        Ok(Self { server, raw, found: Disk::default() })
    }

    /// Measures both once, with everybody else frozen.
    ///
    /// # Errors
    /// The disk or the server refuses.
    pub fn round(&mut self, peers: &Peers, ours: &Spawned, lasts: Duration) -> Result<(), String> {
        // Nobody else: the echo alone is not frozen, and has nothing to do.
        peers.only(Who::Echo, ours);
        self.server.spawned.thaw();
        let measured = self.measure(lasts);
        self.server.spawned.freeze();
        peers.thaw(ours);
        measured
    }

    fn measure(&mut self, lasts: Duration) -> Result<(), String> {
        let runtime = crate::runtime()?;
        let now = now()?;
        let all = population(&self.server.target, lasts, now);
        let mut churn = runtime.block_on(Churn::prepare(&self.server.target, &all, Pool::default().into(), now))?;
        let (mut singles, mut revokes) = (Vec::new(), Vec::new());
        // In turn, so that whatever else the disk does at the time happens to both.
        for _ in 0..SINGLES / AT_ONCE {
            for _ in 0..AT_ONCE {
                singles.push(self.raw.append(1).map_err(failed)?);
            }
            let took = runtime.block_on(churn.revoke_one_by_one(AT_ONCE))?;
            revokes.extend(took.into_iter().map(|it| ns(it) as f64));
        }
        let raw_batched = self.raw.batched(lasts).map_err(failed)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopper = {
            let stop = stop.clone();
            std::thread::spawn(move || {
                std::thread::sleep(lasts);
                stop.store(true, Ordering::Release);
            })
        };
        let churned = runtime.block_on(churn.run(AS_MANY_AS_MAY_BE, stop))?;
        let _ = stopper.join();
        if churned.failed > 0 {
            return Err(format!("{} changes failed: {}", churned.failed, churned.failure.unwrap_or_default()));
        }
        self.found.raw_single.push(median(&singles));
        self.found.revoke_single.push(median(&revokes));
        self.found.raw_batched.push(raw_batched);
        self.found.changes.push((churned.registered + churned.revoked) as f64 / churned.lasted.as_secs_f64());
        Ok(())
    }
}

fn failed(error: std::io::Error) -> String {
    format!("raw file: {error}")
}

/// Rows P15.
pub fn rows(disk: &Disk) -> Vec<Row> {
    let against = format!("raw append + fdatasync, {RECORD_BYTES} B");
    let ratio = |ours: &[f64], theirs: &[f64], form: fn(f64) -> String| {
        let detail = format!("{} : {}", form(median(ours)), form(median(theirs)));
        found(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs), detail)
    };
    let what = format!("durable changes per second (raw: {BATCH} a sync)");
    let batched = ratio(&disk.changes, &disk.raw_batched, |it| format!("{}/s", short(it)));
    let single = ratio(&disk.revoke_single, &disk.raw_single, nanos);
    vec![
        Row::new(("P15", &against, &what), Some((0.3, 0.5)), batched),
        Row::new(("P15", &against, "latency of one durable revoke, median of a round"), Some((2.5, 1.5)), single),
    ]
}

/// A file that is appended to, its room written beforehand, as engines do it: a file that grows makes the file system
/// write its own journal too, which is not the floor that is looked for.
pub struct Raw {
    file: File,
    at: u64,
}

impl Raw {
    /// An empty one.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn new(path: &Path) -> std::io::Result<Self> {
        let mut file = File::create(path)?;
        let zeros = vec![0; 1 << 20];
        for _ in 0..RAW_BYTES >> 20 {
            file.write_all(&zeros)?;
        }
        file.sync_all()?;
        Ok(Self { file, at: 0 })
    }

    /// Appends records and syncs; how long that took, in nanoseconds. At the end it goes on at the beginning.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn append(&mut self, records: usize) -> std::io::Result<f64> {
        let bytes = [b'x'; RECORD_BYTES].repeat(records);
        let began = Instant::now();
        self.file.write_all_at(&bytes, self.at)?;
        self.file.sync_data()?;
        self.at += bytes.len() as u64;
        if self.at + (RECORD_BYTES * BATCH) as u64 > RAW_BYTES {
            self.at = 0;
        }
        Ok(ns(began.elapsed()) as f64)
    }

    /// Records per second, [`BATCH`] at a time.
    fn batched(&mut self, lasts: Duration) -> std::io::Result<f64> {
        let began = Instant::now();
        let mut written = 0;
        while began.elapsed() < lasts {
            self.append(BATCH)?;
            written += BATCH;
        }
        Ok(written as f64 / began.elapsed().as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_has_its_own_ratio() {
        let disk = Disk {
            raw_single: vec![1e5, 1e5, 2e5],
            raw_batched: vec![1e6, 2e6, 1e6],
            revoke_single: vec![2e5, 3e5, 8e5],
            changes: vec![1e5, 1e5, 3e5],
        };
        let rows = rows(&disk);
        let figures = rows.iter().map(|row| row.found.clone().unwrap()).map(|it| (it.low, it.median, it.high));
        assert_eq!(figures.collect::<Vec<_>>(), [(0.05, 0.1, 0.3), (2.0, 3.0, 4.0)]);
    }
}
