//! Seeded randomness.

/// SplitMix64.
pub struct Dice(u64);

impl Dice {
    /// Neighbouring seeds give unrelated streams.
    pub fn new(seed: u64) -> Self {
        let mut dice = Self(seed);
        dice.0 = dice.next();
        dice
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
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
