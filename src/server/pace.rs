//! When a follower may be told the next thing: at once while changes are few, together in a flood.
//!
//! An announcement costs the server a packet out, a packet in and some turns of its tasks, some 30 µs in all, whatever it
//! contains; and each follower has its own. What a flood of changes costs is kept by a pause after each announcement, and
//! the pause grows with the number of followers, so that all of them together are told about 3,000 times in a second by
//! default, which is a tenth of a core. A few announcements may go out without a pause, as long as the average is kept:
//! changes that come singly, however close two of them happen to lie, wait for nothing. And where a fence waits, the pause
//! does not grow.
//!
//! Time is an argument. Which way it falls: a longer pause only makes a follower hear later, and by no more than its
//! lease; a renewal of that is answered at once, with everything it has not heard.

use std::time::Duration;

use tokio::time::Instant;

/// Announcements to one follower that may go out without a pause.
const AT_ONCE: u32 = 4;

/// From so many followers on the pause grows.
const FOLLOWERS: u32 = 3;

/// The pause never grows beyond this: people who look on should see nothing of it.
const LONGEST: Duration = Duration::from_millis(250);

/// The pace of one follower.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// The pause with few followers.
    pause: Duration,
    /// When it was told something last; `None`: never.
    told_at: Option<Instant>,
    /// When everything it was told has been paid for.
    paid_at: Instant,
}

impl Pace {
    /// Nothing has been told yet.
    pub(super) fn new(pause: Duration, now: Instant) -> Self {
        Self { pause, told_at: None, paid_at: now }
    }

    /// What an announcement costs in time, on the average.
    fn cost(&self, followers: i64) -> Duration {
        let followers = u32::try_from(followers).unwrap_or(0).max(FOLLOWERS);
        let grown = self.pause.saturating_mul(followers) / FOLLOWERS;
        grown.min(LONGEST.max(self.pause))
    }

    /// The moment from which on the next announcement may go out, with so many followers; it may be over. `hurried`:
    /// somebody waits for it.
    pub(super) fn next(&self, followers: i64, hurried: bool) -> Instant {
        let saved = self.cost(followers).saturating_mul(AT_ONCE - 1);
        let usual = self.paid_at.checked_sub(saved).unwrap_or(self.paid_at);
        match self.told_at {
            Some(told_at) if hurried => usual.min(told_at + self.pause),
            _ => usual,
        }
    }

    /// Something was announced.
    pub(super) fn told(&mut self, now: Instant, followers: i64) {
        let cost = self.cost(followers);
        self.told_at = Some(now);
        // What went out in a hurry is not held against it for longer than any other.
        self.paid_at = (self.paid_at.max(now) + cost).min(now + cost.saturating_mul(AT_ONCE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_millis(1);

    /// Announces whenever it may while changes come all the time; the moments, in microseconds.
    fn flood(followers: i64, hurried: bool, lasts: Duration) -> Vec<u128> {
        let begun = Instant::now();
        let (mut pace, mut now, mut told) = (Pace::new(PAUSE, begun), begun, Vec::new());
        while now < begun + lasts {
            now = now.max(pace.next(followers, hurried));
            pace.told(now, followers);
            told.push((now - begun).as_micros());
        }
        told
    }

    #[test]
    fn a_few_go_out_at_once_and_a_flood_goes_out_together() {
        let told = flood(1, false, Duration::from_millis(100));
        assert_eq!(told[..6], [0, 0, 0, 0, 1_000, 2_000]);
        assert!(told.len().abs_diff(104) <= 1, "{}", told.len());
    }

    #[test]
    fn all_followers_together_are_told_no_more_the_more_there_are() {
        for (followers, each) in [(0, 1_000), (3, 1_000), (30, 100), (300, 10), (60_000, 4)] {
            let told = flood(followers, false, Duration::from_secs(2)).len();
            assert!(told.abs_diff(2 * each + 3) <= 1, "{followers}: {told}");
        }
    }

    #[test]
    fn a_fence_waits_for_no_pause_that_has_grown() {
        for followers in [1, 100, 60_000] {
            let told = flood(followers, true, Duration::from_millis(50));
            assert!(told.len() >= 50, "{followers}: {}", told.len());
            assert!(told.windows(2).all(|pair| pair[1] - pair[0] <= PAUSE.as_micros()), "{followers}: {told:?}");
        }
    }

    #[test]
    fn who_was_silent_or_hurried_may_speak_soon_but_saves_nothing_up() {
        let begun = Instant::now();
        let mut pace = Pace::new(PAUSE, begun);
        let later = begun + Duration::from_secs(60);
        for said in 0..AT_ONCE {
            assert!(pace.next(1, false) <= later, "{said}");
            pace.told(later, 1);
        }
        assert_eq!(pace.next(1, false), later + PAUSE);
        (0..1_000).for_each(|_| pace.told(later, 300));
        assert_eq!(pace.next(300, false), later + 100 * PAUSE);
        assert_eq!(Pace::new(Duration::ZERO, begun).cost(1_000), Duration::ZERO);
    }
}
