//! What the receipt of a change waits for after the change is durable and visible.
//!
//! For *applied* and *durable* nothing: the service gives no receipt before both. For *fenced* until no follower acts on
//! what was true before: each has acknowledged the change or its lease is over, at most one lease. Whoever stops waiting
//! takes nothing back.

use std::sync::atomic::Ordering::Relaxed;

use tokio::time::sleep;

use super::Shared;
use crate::domain::Sequence;
use crate::wire::Wait;

/// Waits until what was done up to `sequence` is as certain as `wait` says.
pub(super) async fn settle(shared: &Shared, sequence: Sequence, wait: Wait) {
    match wait {
        Wait::Applied | Wait::Durable => {}
        Wait::Fenced => fenced(shared, sequence).await,
    }
}

async fn fenced(shared: &Shared, sequence: Sequence) {
    let clock = &shared.clock;
    let begun = clock.uptime();
    let mut fence = shared.service.feed().fence(sequence, begun);
    let mut now = begun;
    while let Some(until) = fence.waits(now) {
        tokio::select! {
            () = fence.stirred() => {}
            () = sleep(until.saturating_sub(now)) => {}
        }
        now = clock.uptime();
    }
    let stats = &shared.stats.feed;
    stats.fences.record(u64::try_from((now - begun).as_nanos()).unwrap_or(u64::MAX), 1);
    stats.outwaited.fetch_add(fence.outwaited() as u64, Relaxed);
}
