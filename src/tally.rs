//! Histograms that cannot grow: fixed arrays of counters, bumped where things happen.
//!
//! The usual recorders keep every sample until somebody scrapes; at a million a second that is a leak. These keep one
//! number for each power of two, whatever happens, and whoever renders them reads plain numbers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Whether this build counts and times what its doors answer. Every build does, except one that was compiled with
/// `TOKENSCOPE_UNCOUNTED` set: a yardstick for what counting costs, told apart by a scrape that shows nothing, and good
/// for nothing else.
pub const COUNTED: bool = option_env!("TOKENSCOPE_UNCOUNTED").is_none();

/// Upper bounds of the latency buckets, in nanoseconds: 1 µs to 8.4 s, doubling, the last without bound.
pub const LATENCY_BUCKETS: usize = 24;

/// Answer times of one door.
#[derive(Debug, Default)]
pub struct Latency {
    buckets: [AtomicU64; LATENCY_BUCKETS + 1],
    sum_ns: AtomicU64,
}

impl Latency {
    /// The upper bound of bucket `i`, in nanoseconds.
    pub const fn bound_ns(i: usize) -> u64 {
        1_000 << i
    }

    /// Records that `count` questions took `ns` nanoseconds each.
    pub fn record(&self, ns: u64, count: u64) {
        if !COUNTED {
            return;
        }
        let bucket = (ns.saturating_sub(1) / 1_000).checked_ilog2().map_or(0, |log| log as usize + 1);
        self.buckets[bucket.min(LATENCY_BUCKETS)].fetch_add(count, Relaxed);
        self.sum_ns.fetch_add(ns.saturating_mul(count), Relaxed);
    }

    /// Counts per bucket (not cumulative; the last has no bound), and the sum in nanoseconds.
    pub fn read(&self) -> ([u64; LATENCY_BUCKETS + 1], u64) {
        (std::array::from_fn(|i| self.buckets[i].load(Relaxed)), self.sum_ns.load(Relaxed))
    }
}

/// Upper bounds of the histogram of batch sizes: 1, 2, 4, … 65,536, the last without bound.
pub const BATCH_BUCKETS: usize = 17;

/// How many changes were made durable together. Bumped by the writer, read at a scrape.
#[derive(Debug, Default)]
pub struct BatchSizes {
    buckets: [AtomicU64; BATCH_BUCKETS + 1],
    sum: AtomicU64,
}

impl BatchSizes {
    /// Counts one batch of `changes` changes.
    pub fn record(&self, changes: u64) {
        let bucket = changes.saturating_sub(1).checked_ilog2().map_or(0, |log| log as usize + 1);
        self.buckets[bucket.min(BATCH_BUCKETS)].fetch_add(1, Relaxed);
        self.sum.fetch_add(changes, Relaxed);
    }

    /// Counts per bucket (not cumulative; the last has no bound), and the sum.
    pub fn read(&self) -> ([u64; BATCH_BUCKETS + 1], u64) {
        (std::array::from_fn(|i| self.buckets[i].load(Relaxed)), self.sum.load(Relaxed))
    }
}
