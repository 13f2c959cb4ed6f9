//! How often a caller may ask: a bucket of tokens for each caller and kind of call, charged before the OAuth token in
//! the request is looked at (TS-04), so that a throttled caller learns nothing and costs nothing.
//!
//! Revocations have a bucket of their own: questions never use up what they need (R7009-12). Only callers whose
//! credentials were right have a bucket, so there are never more than twice as many as callers.

use std::time::{Duration, Instant};

use dashmap::DashMap;

use crate::domain::CallerId;

/// How many calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Calls per second in the long run, at least 1.
    pub per_second: u32,
    /// Calls at once after a pause, at least 1.
    pub burst: u32,
}

/// What is charged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Kind {
    /// A question or an admin call.
    Ask,
    /// A revocation.
    Revoke,
}

#[derive(Debug)]
struct Bucket {
    /// Billionths of a call that are left.
    left: u64,
    filled: Instant,
}

/// All buckets.
#[derive(Debug)]
pub(super) struct Rates {
    rate: Option<Rate>,
    buckets: DashMap<(CallerId, Kind), Bucket>,
}

const WHOLE: u64 = 1_000_000_000;

impl Rates {
    /// Buckets that fill at `rate`; `None` never throttles.
    pub(super) fn new(rate: Option<Rate>) -> Self {
        Self { rate, buckets: DashMap::new() }
    }

    /// Takes one call from the caller's bucket at `now`.
    ///
    /// # Errors
    /// The bucket is empty; one call will be in it after this time.
    pub(super) fn charge(&self, caller: &CallerId, kind: Kind, now: Instant) -> Result<(), Duration> {
        let Some(rate) = self.rate else { return Ok(()) };
        let full = u64::from(rate.burst.max(1)) * WHOLE;
        let per_second = u64::from(rate.per_second.max(1));
        let fresh = || Bucket { left: full, filled: now };
        let mut bucket = self.buckets.entry((caller.clone(), kind)).or_insert_with(fresh);
        let passed = now.saturating_duration_since(bucket.filled);
        // One nanosecond at one call per second is one billionth of a call.
        let gained = u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX).saturating_mul(per_second);
        bucket.left = bucket.left.saturating_add(gained).min(full);
        bucket.filled = now;
        if bucket.left >= WHOLE {
            bucket.left -= WHOLE;
            return Ok(());
        }
        Err(Duration::from_nanos((WHOLE - bucket.left).div_ceil(per_second)))
    }
}
