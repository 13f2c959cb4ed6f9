//! What a durable change costs, beside what the disk takes for the same bytes.

use std::fs::File;
use std::io::Write;
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

/// Records and changes that are made one after the other.
const SINGLES: usize = 300;

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
    let (raw_single, raw_batched) = raw(&directory.join("raw"), lasts).map_err(|error| format!("raw file: {error}"))?;
    let runtime = crate::runtime()?;
    let singles = runtime.block_on(churn.revoke_one_by_one(SINGLES))?;
    let singles: Vec<f64> = singles.into_iter().map(|it| ns(it) as f64).collect();
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
    Ok(Disk { raw_single, raw_batched, revoke_single: median(&singles), changes })
}

fn raw(path: &Path, lasts: Duration) -> std::io::Result<(f64, f64)> {
    let mut file = File::create(path)?;
    let record = [b'x'; RECORD_BYTES];
    let mut singles = Vec::new();
    for _ in 0..SINGLES {
        let began = Instant::now();
        file.write_all(&record)?;
        file.sync_data()?;
        singles.push(ns(began.elapsed()) as f64);
    }
    let batch = record.repeat(BATCH);
    let began = Instant::now();
    let mut written = 0;
    while began.elapsed() < lasts {
        file.write_all(&batch)?;
        file.sync_data()?;
        written += BATCH;
    }
    let rate = written as f64 / began.elapsed().as_secs_f64();
    drop(file);
    std::fs::remove_file(path)?;
    Ok((median(&singles), rate))
}
