//! G10. Expired is expired, whatever the machine's clocks do: steps of a year either way, a wall clock that stands
//! still, suspend, restarts. The service and the clock of the doors are the real ones; the machine is made up.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokenscope::clock::{Clock, Hands};
use tokenscope::domain::{Expiry, Timestamp, TokenTimes};
use tokenscope::service::{Decision, Introspection, PlaceAsked, ScopeAsked, Scratch};
use tokenscope::testing::almighty;

use crate::dice::{Dice, seeds};
use crate::lessons::{NOW, Story, timed};
use crate::workload::{register, token};

const YEAR: i64 = 365 * 86_400;
/// Lives of the tokens, in seconds.
const LIVES: [u32; 5] = [1, 60, 3_600, 86_400, 400 * 86_400];
const STEPS: usize = 60;

/// A machine, the process on it, and what was last written down of its time.
struct Machine {
    hands: Arc<Hands>,
    clock: Clock,
    /// The highest moment in a snapshot, the high-water mark, or an entry of the journal.
    written: Timestamp,
    /// Told by the clock of this process, or of an earlier one and written down.
    told: Timestamp,
}

impl Machine {
    fn new() -> Self {
        let hands = Arc::new(Hands::default());
        hands.wall.store(NOW.raw(), Relaxed);
        let clock = Clock::simulated(hands.clone(), Timestamp::ZERO);
        // The tokens were registered at this moment, and the journal says so.
        Self { hands, clock, written: NOW, told: NOW }
    }

    fn step(&self, seconds: i64) {
        let wall = i64::from(self.hands.wall.load(Relaxed)) + seconds;
        self.hands.wall.store(u32::try_from(wall.clamp(0, i64::from(u32::MAX - 2))).unwrap(), Relaxed);
    }

    fn passes(&self, seconds: i64) {
        self.hands.boot.fetch_add(seconds, Relaxed);
    }

    fn write_down(&mut self) {
        self.written = self.written.max(self.clock.now());
    }

    /// A new process; it knows what was written down.
    fn starts(&mut self) {
        self.clock = Clock::simulated(self.hands.clone(), self.written);
        self.told = self.written;
    }

    /// What may happen.
    fn does(&mut self, dice: &mut Dice) -> &'static str {
        match dice.below(12) {
            0 => {
                self.step(YEAR);
                "the wall clock is set forward by a year"
            }
            1 => {
                self.step(-YEAR);
                "the wall clock is set back by a year"
            }
            2 => {
                self.step(dice.between(-7_200, 7_200));
                "the wall clock is set by hours"
            }
            3 => {
                self.passes(dice.between(1, 100_000));
                "time passes, and the wall clock stands still"
            }
            4 => {
                // Awake again, the wall clock is read from a clock that is wrong.
                self.passes(dice.between(1, 1_000_000));
                self.step(dice.between(-YEAR, YEAR));
                "suspended"
            }
            5 => {
                self.hands.wall.store(0, Relaxed);
                "the wall clock begins in 1970"
            }
            6 => {
                self.write_down();
                self.starts();
                "stopped in order, and started"
            }
            7 => {
                self.starts();
                "killed, and started"
            }
            8 => {
                self.write_down();
                "a change or a snapshot"
            }
            _ => {
                let seconds = dice.between(0, 4_000);
                self.passes(seconds);
                self.step(seconds);
                "time passes"
            }
        }
    }
}

#[test]
fn what_has_expired_stays_expired_through_steps_suspends_and_restarts() {
    let mut story = Story::with_one_token();
    let never = 2 + LIVES.len();
    for (number, life) in (2..).zip(LIVES) {
        let expiry = Expiry::At(NOW.plus(life));
        story.does(&timed(register(number, 1, NOW), |times: &mut TokenTimes| times.expiry = expiry));
    }
    story.does(&timed(register(never, 1, NOW), |times: &mut TokenTimes| times.expiry = Expiry::Never));
    let service = story.world.service().clone();
    let (mut asked, mut expired, mut killed) = (0_u64, 0_u64, 0_u64);
    let caller = almighty();
    seeds("what_has_expired_stays_expired", 400, |dice| {
        let mut machine = Machine::new();
        // Expired by an answer of this process, or of an earlier one that wrote the moment down.
        let mut over = BTreeSet::new();
        let mut since_start = 0;
        for _ in 0..STEPS {
            let boot = machine.hands.boot.load(Relaxed);
            let what = machine.does(dice);
            if what.ends_with("started") {
                since_start = 0;
                killed += u64::from(what.starts_with("killed"));
                // What was never written down is forgotten with the process; nothing else is.
                over.retain(|number: &usize| {
                    LIVES.get(*number - 2).is_some_and(|life| NOW.plus(*life) <= machine.written)
                });
            }
            since_start += machine.hands.boot.load(Relaxed) - boot;
            let now = machine.clock.now();
            assert!(now >= machine.told, "{what}: the clock ran back from {} to {now}", machine.told);
            machine.told = now;
            for number in 2..=never {
                let mut scratch = Scratch::default();
                let pin = service.pin();
                let key = service.key(&token(number));
                let (scope, place) = (ScopeAsked::Name("tasks:read"), PlaceAsked::Name("10"));
                let allowed = service.check(&pin, &caller, key, scope, place, now).unwrap() == Decision::Allowed;
                let told = service.introspect(&pin, &caller, key, None, now, &mut scratch).unwrap();
                assert_eq!(allowed, matches!(told, Introspection::Active(_)), "{what}, token {number}");
                asked += 2;
                let Some(life) = LIVES.get(number - 2) else {
                    assert!(allowed, "{what}: what never expires does not");
                    continue;
                };
                let end = NOW.plus(*life);
                assert!(!(allowed && over.contains(&number)), "{what}: token {number} is active again");
                // A wall clock that stands still or is set back holds nothing up.
                assert!(!allowed || since_start <= i64::from(*life), "{what}: token {number} outlives its time");
                assert!(!allowed || i64::from(machine.hands.wall.load(Relaxed)) < i64::from(end.raw()), "{what}");
                if !allowed {
                    expired += u64::from(over.insert(number));
                }
            }
        }
    });
    println!("clocks: {asked} answers, {expired} times a token expired, {killed} kills: active again 0");
    assert!(expired > 1_000 && killed > 100);
}
