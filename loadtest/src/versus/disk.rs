//! What a durable change costs, beside what the disk takes for the same bytes.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::median;
use crate::churn::Churn;
use crate::schedule::ns;

/// Bytes of a raw record: about what a change has in the journal.
pub const RECORD_BYTES: usize = 64;

/// Raw records that are synced together, when the rate is measured.
pub const BATCH: usize = 1_000;

/// The raw file's room, in bytes.
const RAW_BYTES: u64 = 64 << 20;

/// Records and changes that are made one after the other.
const SINGLES: usize = 300;

/// Of those, before it is the other's turn.
const AT_ONCE: usize = 20;

/// A rate beyond anything, so that as many changes as may be are always in flight.
const AS_MANY_AS_MAY_BE: f64 = 5e6;

/// What was found.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Median of one raw append with fdatasync, in nanoseconds.
    pub raw_single: f64,
    /// Raw records per second, [`BATCH`] at a time.
    pub raw_batched: f64,
    /// Median of one durable revocation, from asking to the receipt, in nanoseconds.
    pub revoke_single: f64,
    /// Durable changes per second.
    pub changes: f64,
}

/// Measures both in `directory`, one after the other.
///
/// # Errors
/// The disk or the server refuses.
pub fn measure(directory: &Path, mut churn: Churn, lasts: Duration) -> Result<Disk, String> {
    eprintln!("durable changes");
    let failed = |error: std::io::Error| format!("raw file: {error}");
    let path = directory.join("raw");
    let runtime = crate::runtime()?;
    let mut raw = Raw::new(&path).map_err(failed)?;
    let (mut singles, mut revokes) = (Vec::new(), Vec::new());
    // In turn, so that whatever else the disk does at the time happens to both.
    for _ in 0..SINGLES / AT_ONCE {
        for _ in 0..AT_ONCE {
            singles.push(raw.append(1).map_err(failed)?);
        }
        let took = runtime.block_on(churn.revoke_one_by_one(AT_ONCE))?;
        revokes.extend(took.into_iter().map(|it| ns(it) as f64));
    }
    let raw_batched = raw.batched(lasts).map_err(failed)?;
    drop(raw);
    std::fs::remove_file(&path).map_err(failed)?;
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
    let changes = (churned.registered + churned.revoked) as f64 / churned.lasted.as_secs_f64();
    Ok(Disk { raw_single: median(&singles), raw_batched, revoke_single: median(&revokes), changes })
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
