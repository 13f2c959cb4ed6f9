//! Time as the RFCs write it: whole seconds since 1970-01-01 UTC.
//!
//! Nothing below the doors reads a clock; `now` arrives as an argument. Seconds are kept in 32 bits, which lasts until
//! 2106-02-07 and is half of what a token costs in memory otherwise; a later time is refused where it is parsed.

use std::fmt;

/// A moment: whole seconds since 1970-01-01 00:00:00 UTC, RFC 7519's NumericDate without fractions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp(u32);

impl Timestamp {
    /// The beginning of 1970.
    pub const ZERO: Self = Self(0);
    /// The last moment that can be named, in 2106. As an expiry it is reserved: [`Expiry::Never`] is written so.
    pub const MAX: Self = Self(u32::MAX);

    /// The moment `seconds` after 1970 began; `None` from 2106-02-07 06:28:15 UTC on.
    pub fn from_seconds(seconds: u64) -> Option<Self> {
        u32::try_from(seconds).ok().filter(|s| *s != u32::MAX).map(Self)
    }

    /// The moment with this 32-bit form, as it is kept in memory and in files.
    pub const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    /// The 32-bit form.
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// Seconds since 1970.
    pub fn seconds(self) -> u64 {
        u64::from(self.0)
    }

    /// This moment moved later by `seconds`, stopping at the end of time.
    pub fn plus(self, seconds: u32) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// This moment moved earlier by `seconds`, stopping at 1970.
    pub fn minus(self, seconds: u32) -> Self {
        Self(self.0.saturating_sub(seconds))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// When a token or a grant ends. There is no default: "never" must be said (house rule TS-10), because a forgotten
/// expiry has made tokens immortal elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Expiry {
    /// Not active from this moment on: `exp` itself is already too late (RFC 7519, section 4.1.4).
    At(Timestamp),
    /// Flagged as non-expiring, on purpose.
    Never,
}

impl Expiry {
    /// Whether the end has come at `now`.
    pub fn has_passed(self, now: Timestamp) -> bool {
        match self {
            Self::At(end) => now >= end,
            Self::Never => false,
        }
    }

    /// 32-bit form: the moment, or `u32::MAX` for never.
    pub fn raw(self) -> u32 {
        match self {
            Self::At(end) => end.raw(),
            Self::Never => u32::MAX,
        }
    }

    /// The reverse of [`Expiry::raw`].
    pub fn from_raw(raw: u32) -> Self {
        if raw == u32::MAX { Self::Never } else { Self::At(Timestamp(raw)) }
    }

    /// The moment, if there is one.
    pub fn at(self) -> Option<Timestamp> {
        match self {
            Self::At(end) => Some(end),
            Self::Never => None,
        }
    }
}

/// The grain of last use, in seconds: a use is written down once in this time, so that reading costs no write.
pub const LAST_USE_STEP_SECONDS: u32 = 1_024;

/// The step of last use at `now`, in units of [`LAST_USE_STEP_SECONDS`]; never 0, which means "none known". It begins again
/// after two years.
pub fn use_step(now: Timestamp) -> u16 {
    ((now.raw() / LAST_USE_STEP_SECONDS) as u16).max(1)
}

/// When a step of last use began, seen from `now`: the latest such moment. `None` if none is known.
pub fn use_time(step: u16, now: Timestamp) -> Option<Timestamp> {
    if step == 0 {
        return None;
    }
    let current = now.raw() / LAST_USE_STEP_SECONDS;
    let ago = (current as u16).wrapping_sub(step);
    Some(Timestamp::from_raw(current.saturating_sub(u32::from(ago)) * LAST_USE_STEP_SECONDS))
}
