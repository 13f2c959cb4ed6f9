//! Seeded randomness.

use crate::samples::random::Random;

/// SplitMix64.
pub struct Dice(Random);

impl Dice {
    /// Neighbouring seeds give unrelated streams.
    pub fn new(seed: u64) -> Self {
        Self(Random::new(Random::new(seed).bits()))
    }

    pub fn next(&mut self) -> u64 {
        self.0.bits()
    }

    /// A number from 0 to `end` − 1.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// True `percent` times in a hundred.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// Mostly short, sometimes long, at most `most`: what delays are like.
    pub fn delay(&mut self, most: u64) -> u64 {
        let part = match self.below(20) {
            0 => most,
            1..=4 => most / 4,
            _ => most / 40,
        };
        self.next() % (part + 1)
    }
}
