//! What the doors have counted: plain numbers, bumped where things happen, read by whoever scrapes.
//!
//! Nothing here knows Prometheus. Latency is recorded once for a batch, with the number of questions in it.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use crate::domain::{Denial, Inactive};
pub use crate::tally::{LATENCY_BUCKETS, Latency};

/// Which door answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Door {
    /// The native protocol.
    Quic,
    /// RFC 7662 and friends.
    Https,
}

impl Door {
    /// Both doors, in order.
    pub const ALL: [Self; 2] = [Self::Quic, Self::Https];

    /// The word for labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Https => "https",
        }
    }
}

/// Why something was refused at a door. A closed list: a label, never a text from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum RefusedFor {
    /// No, wrong, or unknown credentials.
    Credentials,
    /// Known caller without the right.
    Rights,
    /// Over the caller's rate.
    Rate,
    /// Over a limit on connections, streams or requests in flight.
    Overload,
    /// Bytes that are not a message or a request.
    Malformed,
    /// Larger than allowed.
    TooLarge,
    /// Too slow: handshake, header, or first request.
    TooSlow,
    /// No verdict: the demanded revision is not reached.
    Behind,
    /// Not ready.
    NotReady,
}

impl RefusedFor {
    /// Every reason, in order.
    pub const ALL: [Self; 9] = [
        Self::Credentials,
        Self::Rights,
        Self::Rate,
        Self::Overload,
        Self::Malformed,
        Self::TooLarge,
        Self::TooSlow,
        Self::Behind,
        Self::NotReady,
    ];

    /// The word for labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Credentials => "credentials",
            Self::Rights => "rights",
            Self::Rate => "rate",
            Self::Overload => "overload",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::TooSlow => "too_slow",
            Self::Behind => "behind",
            Self::NotReady => "not_ready",
        }
    }
}

/// One door's numbers.
#[derive(Debug, Default)]
pub struct DoorStats {
    /// Introspections and checks that found an active token (denied checks are among them).
    pub active: AtomicU64,
    /// Inactive answers, by reason in the order of [`Inactive::ALL`].
    pub inactive: [AtomicU64; Inactive::ALL.len()],
    /// Checks that were allowed.
    pub allowed: AtomicU64,
    /// Denied checks, by reason in the order of [`Denial::ALL`].
    pub denied: [AtomicU64; Denial::ALL.len()],
    /// Refusals, by reason in the order of [`RefusedFor::ALL`].
    pub refused: [AtomicU64; RefusedFor::ALL.len()],
    /// Changes that were made.
    pub changes: AtomicU64,
    /// How long answers took, from the decoded request to the encoded answer.
    pub latency: Latency,
    /// Connections now.
    pub connections: AtomicI64,
    /// Connections ever accepted.
    pub accepted: AtomicU64,
    /// Handshakes that failed.
    pub handshakes_failed: AtomicU64,
}

impl DoorStats {
    /// Counts an inactive answer.
    pub fn count_inactive(&self, reason: Inactive) {
        self.inactive[reason as usize].fetch_add(1, Relaxed);
    }

    /// Counts a denied check of an active token.
    pub fn count_denied(&self, reason: Denial) {
        self.active.fetch_add(1, Relaxed);
        self.denied[reason as usize - 1].fetch_add(1, Relaxed);
    }

    /// Counts an allowed check.
    pub fn count_allowed(&self) {
        self.active.fetch_add(1, Relaxed);
        self.allowed.fetch_add(1, Relaxed);
    }

    /// Counts an active introspection.
    pub fn count_active(&self) {
        self.active.fetch_add(1, Relaxed);
    }

    /// Counts a refusal.
    pub fn count_refused(&self, reason: RefusedFor) {
        self.refused[reason as usize].fetch_add(1, Relaxed);
    }
}

/// What was counted about followers and fences.
#[derive(Debug, Default)]
pub struct FeedStats {
    /// Followers now.
    pub followers: AtomicI64,
    /// Followers that began from where the list was.
    pub begun: AtomicU64,
    /// Followers that went on where they stood.
    pub resumed: AtomicU64,
    /// Announcements written.
    pub announcements: AtomicU64,
    /// Followers that were told to start over.
    pub started_over: AtomicU64,
    /// Followers that were cut because they did not read.
    pub cut: AtomicU64,
    /// Leases given.
    pub leases: AtomicU64,
    /// Leases that ran out before they were renewed.
    pub lapsed: AtomicU64,
    /// How long fenced changes waited for their fence.
    pub fences: Latency,
    /// Followers whose lease a fence had to wait out, because they did not acknowledge.
    pub outwaited: AtomicU64,
}

/// What both doors have counted.
#[derive(Debug, Default)]
pub struct Stats {
    /// The native protocol's.
    pub quic: DoorStats,
    /// The HTTPS door's.
    pub https: DoorStats,
    /// Followers and fences.
    pub feed: FeedStats,
    /// Tasks that panicked; each cost one connection.
    pub panics: AtomicU64,
}

impl Stats {
    /// One door's numbers.
    pub fn door(&self, door: Door) -> &DoorStats {
        match door {
            Door::Quic => &self.quic,
            Door::Https => &self.https,
        }
    }
}
