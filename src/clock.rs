//! The clock of the doors: wall time that never runs backwards.
//!
//! Nothing below the doors reads a clock; this is what a door reads before it calls inward with `now`. The moment told
//! is the largest of the wall clock, the highest moment ever told, and the moment of start plus the time since boot
//! that has passed (a clock that goes on in suspend). So a wall clock set back changes nothing: an expired token never
//! becomes active again. A wall clock set forward is believed; that only ends tokens early.

#![expect(clippy::disallowed_methods, reason = "this is the clock of the doors")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::domain::Timestamp;

/// A clock, cheap to clone; all clones tell the same time.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Arc<Source>,
    /// For [`Clock::uptime`].
    made: Instant,
}

#[derive(Debug)]
enum Source {
    System {
        /// Where the two below and the wall clock are read.
        machine: Machine,
        /// Wall clock at start, in seconds since 1970.
        wall_at_start: u32,
        /// Boot-time clock at start, in seconds.
        boot_at_start: i64,
        /// The highest moment ever told.
        highest: AtomicU32,
    },
    Manual(AtomicU32),
}

/// The clocks of a machine.
#[derive(Clone, Debug)]
enum Machine {
    /// This one's.
    Real,
    /// One whose clocks a test sets as it likes.
    #[cfg(any(test, feature = "testing"))]
    Simulated(Arc<Hands>),
}

/// The clocks of a machine that is not there. Unlike [`Clock::manual`] they may be set back, stand still, and go apart:
/// what a [`Clock`] makes of them is what is tested.
#[cfg(any(test, feature = "testing"))]
#[derive(Debug, Default)]
pub struct Hands {
    /// The wall clock, in seconds since 1970.
    pub wall: AtomicU32,
    /// The clock since boot, in seconds; goes on in suspend. A real one never runs back.
    pub boot: std::sync::atomic::AtomicI64,
}

impl Machine {
    fn wall(&self) -> u32 {
        match self {
            Self::Real => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                u32::try_from(since.as_secs()).unwrap_or(u32::MAX - 1)
            }
            #[cfg(any(test, feature = "testing"))]
            Self::Simulated(hands) => hands.wall.load(Ordering::Relaxed),
        }
    }

    fn boot_seconds(&self) -> i64 {
        match self {
            Self::Real => clock_gettime(ClockId::Boottime).tv_sec,
            #[cfg(any(test, feature = "testing"))]
            Self::Simulated(hands) => hands.boot.load(Ordering::Relaxed),
        }
    }
}

impl Clock {
    /// The system's clock, never telling less than `floor` (the highest moment an earlier run has written down).
    pub fn system(floor: Timestamp) -> Self {
        Self::on(Machine::Real, floor)
    }

    /// The same on a machine whose clocks are these; for tests.
    #[cfg(any(test, feature = "testing"))]
    pub fn simulated(hands: Arc<Hands>, floor: Timestamp) -> Self {
        Self::on(Machine::Simulated(hands), floor)
    }

    fn on(machine: Machine, floor: Timestamp) -> Self {
        let wall_at_start = machine.wall().max(floor.raw());
        let boot_at_start = machine.boot_seconds();
        let highest = AtomicU32::new(wall_at_start);
        Self::of(Source::System { machine, wall_at_start, boot_at_start, highest })
    }

    /// A clock that stands still until it is moved; for tests and the demo.
    pub fn manual(now: Timestamp) -> Self {
        Self::of(Source::Manual(AtomicU32::new(now.raw())))
    }

    fn of(source: Source) -> Self {
        Self { source: Arc::new(source), made: Instant::now() }
    }

    /// How long ago this clock was made: the time leases are counted in, which nobody sets. Real also on a manual clock,
    /// since followers have clocks of their own. It may stand still in suspend; then leases are believed to be longer
    /// than they are, and are waited for too long.
    pub fn uptime(&self) -> Duration {
        self.made.elapsed()
    }

    /// Milliseconds since 1970, never less than [`Clock::now`]: for followers, which must not believe that it is earlier
    /// than it is here.
    pub fn now_ms(&self) -> u64 {
        let told = self.now().seconds().saturating_mul(1_000);
        match &*self.source {
            Source::System { machine: Machine::Real, .. } => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                u64::try_from(since.as_millis()).unwrap_or(u64::MAX).max(told)
            }
            _ => told,
        }
    }

    /// The current moment.
    pub fn now(&self) -> Timestamp {
        match &*self.source {
            Source::System { machine, wall_at_start, boot_at_start, highest } => {
                let passed = u32::try_from(machine.boot_seconds() - boot_at_start).unwrap_or(0);
                let told = machine.wall().max(wall_at_start.saturating_add(passed));
                Timestamp::from_raw(highest.fetch_max(told, Ordering::Relaxed).max(told))
            }
            Source::Manual(now) => Timestamp::from_raw(now.load(Ordering::Relaxed)),
        }
    }

    /// Moves a manual clock forward to `now`, or back, which it refuses like the real one: the later moment stays.
    ///
    /// # Panics
    /// On the system's clock, which nobody moves.
    pub fn set(&self, now: Timestamp) {
        match &*self.source {
            Source::System { .. } => panic!("the system's clock cannot be set"),
            Source::Manual(manual) => {
                manual.fetch_max(now.raw(), Ordering::Relaxed);
            }
        }
    }
}
