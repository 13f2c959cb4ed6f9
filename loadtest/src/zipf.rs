//! Zipf's law, drawn in constant time and memory.
//!
//! Rejection-inversion (W. Hörmann, G. Derflinger, "Rejection-inversion to generate variates from monotone discrete
//! distributions", ACM TOMACS 6(3), 1996), for an exponent that is not 1.

use tokenscope::samples::random::Random;

/// The exponent that load testers have agreed on.
const EXPONENT: f64 = 0.99;

/// Ranks 0 .. n, the first the most popular.
#[derive(Clone, Debug)]
pub struct Zipf {
    n: f64,
    h_first: f64,
    h_last: f64,
    shift: f64,
}

/// The integral of x⁻ˢ.
fn h(x: f64) -> f64 {
    x.powf(1.0 - EXPONENT) / (1.0 - EXPONENT)
}

fn h_inverse(y: f64) -> f64 {
    (y * (1.0 - EXPONENT)).powf(1.0 / (1.0 - EXPONENT))
}

impl Zipf {
    /// Over `n` ranks, at least 1.
    pub fn new(n: u64) -> Self {
        let n = n.max(1) as f64;
        let shift = 2.0 - h_inverse(h(2.5) - 2f64.powf(-EXPONENT));
        Self { n, h_first: h(1.5) - 1.0, h_last: h(n + 0.5), shift }
    }

    /// A rank.
    pub fn rank(&self, random: &mut Random) -> u64 {
        loop {
            let y = self.h_last + random.unit() * (self.h_first - self.h_last);
            let x = h_inverse(y);
            let k = (x + 0.5).floor().clamp(1.0, self.n);
            if k - x <= self.shift || y >= h(k + 0.5) - k.powf(-EXPONENT) {
                return k as u64 - 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_as_frequent_as_the_law_says() {
        let (n, draws) = (1_000_u64, 400_000);
        let (zipf, mut random) = (Zipf::new(n), Random::new(5));
        let mut counts = vec![0_u32; n as usize];
        for _ in 0..draws {
            counts[zipf.rank(&mut random) as usize] += 1;
        }
        let all: f64 = (1..=n).map(|k| (k as f64).powf(-EXPONENT)).sum();
        for rank in [0, 1, 2, 9, 99, 999] {
            let wanted = f64::from(draws) * ((rank + 1) as f64).powf(-EXPONENT) / all;
            let found = f64::from(counts[rank as usize]);
            assert!((found - wanted).abs() < 5.0 * wanted.sqrt(), "rank {rank}: {found} of {wanted}");
        }
    }

    #[test]
    fn one_rank_is_always_drawn() {
        let (zipf, mut random) = (Zipf::new(1), Random::new(5));
        assert!((0..100).all(|_| zipf.rank(&mut random) == 0));
    }
}
