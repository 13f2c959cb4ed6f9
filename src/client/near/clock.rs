//! The clock of the near-cache: time since boot, which goes on while the machine sleeps.
//!
//! A lease is counted on it, because a laptop lid or a paused virtual machine must not stretch a lease: Rust's own
//! `Instant` stops in suspend on Linux. Wall time is never read: nobody's wall clock can make an entry live longer.
//! Everything below the face takes the moment as an argument, so that it is tested in virtual time.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Linux has a clock of its own for this.
#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOCK: ClockId = ClockId::Boottime;
/// Elsewhere the monotonic clock is the nearest thing; on macOS it counts sleep too.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOCK: ClockId = ClockId::Monotonic;

/// Nanoseconds since boot. Compares only with moments of the same machine since the same boot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) struct Moment(pub(super) u64);

impl Moment {
    /// Before every other.
    pub(super) const ZERO: Self = Self(0);

    /// This moment. A read of the clock without entering the kernel, where the kernel allows it.
    pub(super) fn now() -> Self {
        let time = clock_gettime(CLOCK);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
        Self(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds))
    }

    /// This moment, moved later.
    pub(super) fn plus(self, time: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// From an earlier moment to this one; nothing if it is not earlier.
    pub(super) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// In whole milliseconds.
    pub(super) fn milliseconds(self) -> u64 {
        self.0 / 1_000_000
    }
}
