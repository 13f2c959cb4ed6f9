//! A wait until nobody acts on what was true before a change.

use std::time::Duration;

use tokio::sync::watch;

use crate::domain::Sequence;

/// Somebody who may act on something old.
pub(super) struct Holder {
    pub(super) acknowledged: watch::Receiver<Sequence>,
    /// Of the lease it had when the fence was made. A later one proves that it has heard of the change.
    pub(super) lease_end: Duration,
}

/// Passed when each of those who had a lease when it was made has acknowledged the change or that lease is over, and so
/// are the leases of those nobody knows.
pub struct Fence {
    required: Sequence,
    holders: Vec<Holder>,
    unknown_until: Duration,
    outwaited: usize,
}

impl Fence {
    pub(super) fn new(required: Sequence, holders: Vec<Holder>, unknown_until: Duration) -> Self {
        Self { required, holders, unknown_until, outwaited: 0 }
    }

    /// Whether it is passed at `now`; otherwise the moment at which to look again, or earlier when it
    /// [stirs](Fence::stirred). That moment is never later than one lease after the fence was made.
    pub fn waits(&mut self, now: Duration) -> Option<Duration> {
        // One after the other: each has to pass anyway, so nobody is woken for more than one of them at a time.
        while let Some(holder) = self.holders.last() {
            if *holder.acknowledged.borrow() < self.required {
                if holder.lease_end > now {
                    return Some(holder.lease_end);
                }
                self.outwaited += 1;
            }
            self.holders.pop();
        }
        (self.unknown_until > now).then_some(self.unknown_until)
    }

    /// Waits until the one it waits for acknowledges. For ever, if nobody can. May be dropped while it waits.
    pub async fn stirred(&mut self) {
        let required = self.required;
        if let Some(holder) = self.holders.last_mut()
            && holder.acknowledged.wait_for(|acknowledged| *acknowledged >= required).await.is_ok()
        {
            return;
        }
        // Left, or unknown: only time helps.
        std::future::pending().await
    }

    /// How many followers have not acknowledged before their lease was over.
    pub fn outwaited(&self) -> usize {
        self.outwaited
    }
}

impl std::fmt::Debug for Fence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fence").field("required", &self.required).field("holders", &self.holders.len()).finish()
    }
}
