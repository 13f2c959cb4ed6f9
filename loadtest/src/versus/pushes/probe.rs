//! Things that are done at moments fixed beforehand, and how long each takes to have its effect.
//!
//! The moments are an open loop's: whatever is late counts from when it was due. Nothing here sleeps: between two looks
//! the runtime does what it has to do, sockets included, and so the one thread that does, drives and looks sees an effect
//! within a microsecond or two of when its bytes are there. All peers are looked at in this way, the bare echo too.

use std::time::{Duration, Instant};

use crate::schedule::{Arrivals, Due, Mode, Plan, Stage};

/// How long effects may be waited for after the last one was due.
const PATIENCE: Duration = Duration::from_secs(20);

/// Moments of Poisson arrivals, and which of them count.
#[derive(Clone, Debug)]
pub struct Moments {
    at: Vec<u64>,
    /// Those before this one are warm-up.
    first: usize,
}

impl Moments {
    /// At `rate` per second for `lasts`, after some warm-up at the same rate.
    pub fn new(rate: f64, warm_up: Duration, lasts: Duration, seed: u64) -> Self {
        let mode = Mode::Open(Arrivals::Poisson);
        let plan = Plan { warm_up, stages: vec![Stage { rate, lasts }], mode };
        let at: Vec<u64> = Due::new(&plan, Arrivals::Poisson, seed, 0, 1, 1).collect();
        let first = at.partition_point(|it| *it < plan.recorded_from_ns());
        Self { at, first }
    }

    /// How many there are, warm-up included.
    pub fn len(&self) -> usize {
        self.at.len()
    }
}

/// What is done, and how its effect is seen.
pub trait Subject {
    /// Does it, never waiting; `false`: it cannot be done now, and does not count.
    ///
    /// # Errors
    /// It cannot go on at all.
    fn act(&mut self, number: usize) -> Result<bool, String>;

    /// Whether the effect is there.
    fn is_there(&mut self, number: usize) -> bool;
}

/// What came of it.
pub struct Seen {
    /// When each was due; `None`: it was not done.
    pub due: Vec<Option<Instant>>,
    /// When its effect was seen.
    pub seen: Vec<Option<Instant>>,
    first: usize,
}

impl Seen {
    /// Nanoseconds between two moments of each that counts and has both.
    pub fn between(&self, from: &[Option<Instant>], to: &[Option<Instant>]) -> Vec<f64> {
        let both = from.iter().zip(to).skip(self.first);
        both.filter_map(|(from, to)| Some(signed(*from.as_ref()?, *to.as_ref()?))).collect()
    }

    /// Nanoseconds from when it was due to its effect.
    pub fn took(&self) -> Vec<f64> {
        self.between(&self.due, &self.seen)
    }

    /// How many of those that count were not done.
    pub fn left_out(&self) -> usize {
        self.due.iter().skip(self.first).filter(|it| it.is_none()).count()
    }
}

fn signed(from: Instant, to: Instant) -> f64 {
    match to.checked_duration_since(from) {
        Some(after) => after.as_nanos() as f64,
        None => -(from.duration_since(to).as_nanos() as f64),
    }
}

/// Does everything at its moment and looks until every effect was seen.
///
/// # Errors
/// The subject cannot go on, or an effect does not come.
pub async fn probe(moments: &Moments, subject: &mut impl Subject) -> Result<Seen, String> {
    let count = moments.len();
    let mut seen = Seen { due: vec![None; count], seen: vec![None; count], first: moments.first };
    let mut waiting: Vec<usize> = Vec::new();
    let mut next = 0;
    let began = Instant::now();
    let deadline = began + Duration::from_nanos(moments.at.last().copied().unwrap_or(0)) + PATIENCE;
    loop {
        while let Some(at) = moments.at.get(next) {
            let due = began + Duration::from_nanos(*at);
            if Instant::now() < due {
                break;
            }
            if subject.act(next)? {
                seen.due[next] = Some(due);
                waiting.push(next);
            }
            next += 1;
        }
        waiting.retain(|number| {
            let is_there = subject.is_there(*number);
            if is_there {
                seen.seen[*number] = Some(Instant::now());
            }
            !is_there
        });
        if next == count && waiting.is_empty() {
            return Ok(seen);
        }
        if Instant::now() > deadline {
            return Err(format!("{} of {count} had no effect within {} s", waiting.len(), PATIENCE.as_secs()));
        }
        // Looks at the sockets, without sleeping.
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every third cannot be done; an effect is there at the second look.
    struct Second(Vec<u32>);

    impl Subject for Second {
        fn act(&mut self, number: usize) -> Result<bool, String> {
            Ok(!number.is_multiple_of(3))
        }

        fn is_there(&mut self, number: usize) -> bool {
            self.0[number] += 1;
            self.0[number] > 1
        }
    }

    #[test]
    fn what_was_done_is_timed_from_when_it_was_due_and_the_warm_up_does_not_count() {
        let moments = Moments::new(100_000.0, Duration::from_millis(1), Duration::from_millis(3), 7);
        assert!(moments.first > 50 && moments.len() > 300, "{moments:?}");
        let mut subject = Second(vec![0; moments.len()]);
        let seen = crate::runtime().unwrap().block_on(probe(&moments, &mut subject)).unwrap();
        let counted = moments.len() - moments.first;
        assert_eq!(seen.took().len() + seen.left_out(), counted);
        assert!(seen.left_out().abs_diff(counted / 3) <= 1);
        assert!(seen.took().iter().all(|it| *it >= 0.0));
        assert!(seen.between(&seen.seen, &seen.due).iter().all(|it| *it <= 0.0));
    }
}
