//! N1: a hit in the near-cache beside an ES256 verification and beside a map with locks, in this process.
//!
//! No server takes part and all of them are frozen; the thread has the generator's core. Several passes over all ways in
//! turn make a round, and the round's figure is their median.

use std::collections::BTreeMap;

use tokenscope::testing::contest::{Contest, Way};

use super::times::Times;
use crate::versus::median;

/// Tokens that are held.
const SIZES: [usize; 2] = [10_000, 1_000];

/// Verifications of a pass: about as long as ten thousand hits take, and some more.
const SIGNATURES: usize = 200;

/// Decisions of a pass in memory, at least.
const HITS: usize = 20_000;

/// Passes of a round, and of a short one.
const PASSES: (usize, usize) = (7, 1);

/// Everything that is decided from.
pub struct Memory(Vec<Contest>);

impl Memory {
    /// Fills all.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn new() -> Result<Self, String> {
        let contests = SIZES.map(|tokens| Contest::new(tokens).map_err(|_| "no random numbers for a key".to_owned()));
        Ok(Self(contests.into_iter().collect::<Result<_, _>>()?))
    }

    /// Measures one round.
    pub fn round(&self, short: bool, times: &mut BTreeMap<String, Times>) {
        for contest in &self.0 {
            let passes = if short { PASSES.1 } else { PASSES.0 };
            let mut took: BTreeMap<Way, Vec<f64>> = BTreeMap::new();
            for way in std::iter::repeat_n(Way::ALL, passes).flatten() {
                let count = if way == Way::Verify { SIGNATURES } else { HITS.max(contest.tokens()) };
                let nanoseconds = contest.nanoseconds(way, count);
                took.entry(way).or_default().push(nanoseconds.unwrap_or(f64::NAN));
            }
            for (way, took) in took {
                let entry = times.entry(name(way, contest.tokens())).or_default();
                if took.iter().any(|it| it.is_nan()) {
                    entry.wrong("a token was not found allowed".to_owned());
                } else {
                    entry.add_middle(median(&took), took.len() as u64);
                }
            }
        }
    }
}

/// What a way with so many tokens is called among the times.
pub fn name(way: Way, tokens: usize) -> String {
    match way {
        // Those two do not care how many there are, but whatever the machine does meanwhile happens to them too.
        Way::Verify | Way::Hash => format!("in memory: {}, beside {tokens}", way.name()),
        _ => format!("in memory: {}, {tokens} tokens", way.name()),
    }
}

/// The sizes that are measured.
pub fn sizes() -> [usize; 2] {
    SIZES
}
