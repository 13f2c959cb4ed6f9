//! The arithmetic of leases: how long what is held may be believed, and what time it is at the server.
//!
//! ```text
//! follower   t_s ── RENEW ──►                     ◄── LEASE ──          t_s + L − L/64
//!             │               │                   │                     │ ends here
//! server      │              t_r: lease_end = t_r + L                   │            │ ends there
//!             └── earlier than t_r ──────────────────────────── so: ────┴── earlier ─┘
//! ```
//!
//! The follower counts from the moment it *sent* its wish, which lies before the server's receipt, and takes off a
//! sixty-fourth for clocks that run at slightly different speeds. So its lease ends before the server believes it to
//! end, however long the messages travelled. A server whose clock stopped believes leases longer than they are, which
//! only delays a fence.

use std::time::Duration;

use super::clock::Moment;
use crate::domain::Timestamp;

/// What part of a lease is given up for clocks of different speed: one in this many.
const MARGIN: u32 = 64;

/// What the server's clock tells is in whole seconds; an answer of it may lie almost a second back.
const GRAIN_MS: i64 = 999;

/// A lease as the follower counts it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Lease {
    /// Nothing that is held may be used from this moment on.
    pub(super) until: Moment,
    /// What to add to this machine's clock to know the server's.
    pub(super) server: Offset,
}

impl Lease {
    /// The lease of `length` that was granted on a wish sent at `sent`, by a server whose wall clock said `server_ms`.
    pub(super) fn granted(sent: Moment, length: Duration, server_ms: u64) -> Self {
        Self { until: sent.plus(length - length / MARGIN), server: Offset::of(sent, server_ms) }
    }

    /// How long after one wish the next is sent: four come in a lease, so that one lost packet does not end it.
    pub(super) fn renewal(length: Duration) -> Duration {
        length / 4
    }
}

/// The server's wall clock minus this machine's, in milliseconds. An estimate that errs towards *later*: it takes the
/// server's answer to have been given when the question was sent, so tokens end early, by a round trip and the grain
/// of the server's clock at most, and never late.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Offset(pub(super) i64);

impl Offset {
    /// Earlier than any server's.
    pub(super) const LEAST: Self = Self(i64::MIN);

    fn of(sent: Moment, server_ms: u64) -> Self {
        let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        Self(signed(server_ms).saturating_add(GRAIN_MS).saturating_sub(signed(sent.milliseconds())))
    }

    /// What the server's clock says at `now`, at the latest.
    pub(super) fn server_time(self, now: Moment) -> Timestamp {
        let now = i64::try_from(now.milliseconds()).unwrap_or(i64::MAX);
        let seconds = u64::try_from(self.0.saturating_add(now) / 1_000).unwrap_or(0);
        Timestamp::from_seconds(seconds).unwrap_or(Timestamp::MAX)
    }
}
