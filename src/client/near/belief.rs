//! What the follower has proven, as its readers see it: a few numbers, written by one task, read at every hit.
//!
//! # Ordering
//! The writer's order is: stamps, generation, position, *then* the lease. A reader goes the other way round: lease,
//! generation, position, the entry, its stamps, and the generation **once more**. So a reader that was let in by a
//! lease sees every stamp and every forgetting that the lease vouches for; and one that read a stamp of a new beginning
//! (which may be lower) sees the generation changed.
//!
//! What was begun before an invalidation arrived may still be answered by what was held: nobody can tell the two apart.
//! What began after a fence returned cannot: the stamp was in memory before the acknowledgement was sent.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering, fence};
use std::time::Duration;

use super::clock::Moment;
use super::lease::{Lease, Offset};
use super::stamps::Stamps;
use crate::domain::{Epoch, Timestamp};

/// What is believed. One writer.
pub(super) struct Belief {
    /// Entries of an earlier generation do not count: one store forgets everything.
    generation: AtomicU64,
    /// The start of the server that is followed.
    incarnation: AtomicU64,
    /// Its list.
    epoch: AtomicU64,
    /// Everything up to here in the list has been applied.
    position: AtomicU64,
    /// The end of the lease.
    until: AtomicU64,
    /// The server's clock.
    server: AtomicI64,
    stamps: Stamps,
}

/// Under what an answer may be taken from memory: made before anything else is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Licence {
    generation: u64,
    position: u64,
    server_time: Timestamp,
}

/// Taken when a question is sent: what the answer has to be measured by when it comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ticket {
    pub(super) generation: u64,
}

impl Belief {
    pub(super) fn new(stamps: usize) -> Self {
        Self {
            generation: AtomicU64::new(1),
            incarnation: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            position: AtomicU64::new(0),
            until: AtomicU64::new(0),
            server: AtomicI64::new(Offset::LEAST.0),
            stamps: Stamps::new(stamps),
        }
    }

    // ---- the follower's side ----

    /// Everything held is forgotten; questions under way will not be kept either.
    pub(super) fn forget(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// A new beginning at `sequence` of this list and this start of the server.
    pub(super) fn begin(&self, epoch: Epoch, incarnation: u64, sequence: u64) {
        // A lease of the server's start before says nothing of this one.
        self.until.store(0, Ordering::Release);
        self.forget();
        self.epoch.store(epoch.0, Ordering::Release);
        self.incarnation.store(incarnation, Ordering::Release);
        self.server.store(Offset::LEAST.0, Ordering::Release);
        self.start_over(sequence);
    }

    /// Everything is forgotten, and the list goes on from `sequence`.
    pub(super) fn start_over(&self, sequence: u64) {
        self.forget();
        // What was answered before `sequence` is not to be kept even if it was asked after this.
        self.stamps.reset(sequence);
        self.position.store(sequence, Ordering::Release);
    }

    pub(super) fn touch(&self, tag: u64, sequence: u64) {
        self.stamps.touch(tag, sequence);
    }

    /// Everything up to `sequence` has been applied. An acknowledgement may be sent after this and not before.
    pub(super) fn advance(&self, sequence: u64) {
        self.position.store(sequence, Ordering::Release);
        // The stamps have left this core before whatever is sent next can.
        fence(Ordering::SeqCst);
    }

    /// A lease was granted.
    pub(super) fn lease(&self, lease: Lease) {
        // One writer. The server's clock never runs back, so an estimate below an earlier one is only less late.
        let server = self.server.load(Ordering::Relaxed).max(lease.server.0);
        self.server.store(server, Ordering::Release);
        self.until.store(lease.until.0, Ordering::Release);
    }

    // ---- the readers' side ----

    /// The licence to answer from memory at `now`, if the lease runs.
    #[inline]
    pub(super) fn licence(&self, now: Moment) -> Option<Licence> {
        (now.0 < self.until.load(Ordering::Acquire)).then(|| self.read(now))
    }

    /// The licence to answer from what was proven until at most `beyond` before `now`. Asked for by name.
    pub(super) fn licence_beyond(&self, now: Moment, beyond: Duration) -> Option<Licence> {
        let until = Moment(self.until.load(Ordering::Acquire));
        (until > Moment::ZERO && now < until.plus(beyond)).then(|| self.read(now))
    }

    #[inline]
    fn read(&self, now: Moment) -> Licence {
        let generation = self.generation.load(Ordering::Acquire);
        let position = self.position.load(Ordering::Acquire);
        let server_time = Offset(self.server.load(Ordering::Acquire)).server_time(now);
        Licence { generation, position, server_time }
    }

    /// Whether facts of `generation`, answered at `sequence`, still hold. Read after them.
    #[inline]
    pub(super) fn holds(&self, licence: &Licence, generation: u64, sequence: u64, tags: &[u64]) -> bool {
        licence.counts(generation) && !self.stamps.touched_since(tags, sequence) && self.unchanged(licence)
    }

    /// Whether nothing was forgotten since the licence was given. The last thing a reader looks at.
    #[inline]
    fn unchanged(&self, licence: &Licence) -> bool {
        // The reads before this one were acquiring, so this one is not moved before them.
        self.generation.load(Ordering::Acquire) == licence.generation
    }

    pub(super) fn ticket(&self) -> Ticket {
        Ticket { generation: self.generation.load(Ordering::Acquire) }
    }

    /// Whether an answer of this start of the server, to a question sent with this ticket, is worth keeping.
    pub(super) fn is_current(&self, ticket: Ticket, incarnation: u64) -> bool {
        self.generation() == ticket.generation && self.incarnation.load(Ordering::Acquire) == incarnation
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }

    pub(super) fn position(&self) -> u64 {
        self.position.load(Ordering::Acquire)
    }

    /// How much of the lease is left.
    pub(super) fn lease_left(&self, now: Moment) -> Duration {
        Moment(self.until.load(Ordering::Acquire)).since(now)
    }
}

impl Licence {
    /// Whether what is of this generation counts.
    #[inline]
    pub(super) fn counts(&self, generation: u64) -> bool {
        generation == self.generation
    }

    /// Up to where the list is applied.
    #[inline]
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The server's clock, at the latest.
    #[inline]
    pub(super) fn server_time(&self) -> Timestamp {
        self.server_time
    }
}
