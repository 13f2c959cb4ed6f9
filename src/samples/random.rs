//! Seeded random numbers for samples: SplitMix64, written out here so that the same seed gives the same data for ever.
//!
//! Good enough to draw samples from, and for nothing else: no secret may ever come from here.

/// A stream of numbers from a seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

/// SplitMix64's finaliser: spreads every bit of the input over the output.
fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Random {
    /// The stream of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The stream of item `number` under `seed`: every user and every token has a stream of its own, so that what is
    /// drawn for one never depends on what was drawn for another.
    pub fn of(seed: u64, number: u64) -> Self {
        Self(mixed(seed ^ mixed(number.wrapping_add(0x9e37_79b9_7f4a_7c15))))
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    /// The next number in [0, 1), in steps of 2⁻⁵³.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// The next number in 0 .. `bound`; 0 if `bound` is 0. Its bias, below 2⁻³² for the bounds used here, is of no
    /// interest to a sample.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// The index of one of `weights`, drawn by its weight.
    pub fn weighted(&mut self, weights: &[f64]) -> usize {
        let mut left = self.unit() * weights.iter().sum::<f64>();
        for (index, weight) in weights.iter().enumerate() {
            left -= weight;
            if left < 0.0 {
                return index;
            }
        }
        weights.len().saturating_sub(1)
    }
}
