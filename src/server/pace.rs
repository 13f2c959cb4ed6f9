//! When a follower may be told the next thing: at once while changes are few, together in a flood.
//!
//! An announcement costs the server a packet out and one in, whatever it contains, and each follower has its own. So
//! what a flood of changes costs is kept by a pause between two announcements, and the pause grows with the number of
//! followers: all of them together get ten announcements in a pause, or one each where they are fewer than ten. A few
//! announcements may go out without a pause, as long as the average is kept: changes that come singly, however close two
//! of them happen to lie, wait for nothing.
//!
//! Time is an argument. Which way it falls: a longer pause only makes a follower hear later; it is never told less, and a
//! renewal of its lease is answered at once with everything it has not heard.

use std::time::Duration;

use tokio::time::Instant;

/// Announcements to one follower that may go out without a pause.
const AT_ONCE: u32 = 4;

/// Followers that share what one pause allows before it grows.
const FOLLOWERS: u32 = 10;

/// The pace of one follower.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// When everything said so far has been paid for.
    paid_at: Instant,
}

impl Pace {
    /// Nothing has been said yet.
    pub(super) fn new(now: Instant) -> Self {
        Self { paid_at: now }
    }

    /// How long an announcement takes to be paid for: `pause` with few followers, longer with many.
    pub(super) fn cost(pause: Duration, followers: i64) -> Duration {
        let followers = u32::try_from(followers).unwrap_or(0).max(FOLLOWERS);
        pause.saturating_mul(followers) / FOLLOWERS
    }

    /// The moment from which on the next announcement may go out; it may be over.
    pub(super) fn next(&self, cost: Duration) -> Instant {
        self.paid_at.checked_sub(cost.saturating_mul(AT_ONCE - 1)).unwrap_or(self.paid_at)
    }

    /// Something was announced.
    pub(super) fn told(&mut self, now: Instant, cost: Duration) {
        self.paid_at = self.paid_at.max(now) + cost;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_millis(1);

    /// Announces whenever it may while changes come all the time; the moments, in microseconds.
    fn flood(followers: i64, lasts: Duration) -> Vec<u128> {
        let begun = Instant::now();
        let (mut pace, mut now, mut told) = (Pace::new(begun), begun, Vec::new());
        while now < begun + lasts {
            let cost = Pace::cost(PAUSE, followers);
            now = now.max(pace.next(cost));
            pace.told(now, cost);
            told.push((now - begun).as_micros());
        }
        told
    }

    #[test]
    fn a_few_go_out_at_once_and_a_flood_goes_out_together() {
        let told = flood(1, Duration::from_millis(100));
        assert_eq!(told[..6], [0, 0, 0, 0, 1_000, 2_000]);
        assert!(told.len().abs_diff(104) <= 1, "{}", told.len());
    }

    #[test]
    fn all_followers_together_are_told_no_more_the_more_there_are() {
        for (followers, rate) in [(0, 1_000), (10, 1_000), (100, 100), (1_000, 10)] {
            let told = flood(followers, Duration::from_secs(2)).len();
            assert!(told.abs_diff(2 * rate + 3) <= 1, "{followers}: {told}");
        }
    }

    #[test]
    fn who_was_silent_may_speak_at_once_but_saves_nothing_up() {
        let begun = Instant::now();
        let mut pace = Pace::new(begun);
        let later = begun + Duration::from_secs(60);
        for said in 0..AT_ONCE {
            assert!(pace.next(PAUSE) <= later, "{said}");
            pace.told(later, PAUSE);
        }
        assert_eq!(pace.next(PAUSE), later + PAUSE);
        assert_eq!(Pace::cost(Duration::ZERO, 100), Duration::ZERO);
    }
}
