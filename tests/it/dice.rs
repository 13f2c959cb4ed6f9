//! Seeded randomness: a seed makes a test, and a failed one prints its seed with the command to repeat it.
//!
//! `TOKENSCOPE_SEED=n` runs one seed only; `TOKENSCOPE_SEEDS=n` runs n of them instead of the test's own number.

use tokenscope::samples::random::Random;

/// SplitMix64: small, good enough to choose test cases, the same on every machine.
pub struct Dice(Random);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(Random::new(seed))
    }

    pub fn next(&mut self) -> u64 {
        self.0.bits()
    }

    /// A number from 0 to `end` − 1; the bias is of no matter here.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// A number from `from` to `to`, both possible.
    pub fn between(&mut self, from: i64, to: i64) -> i64 {
        from + self.below((to - from + 1) as usize) as i64
    }

    /// True `percent` times in a hundred.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }
}

/// Prints how to repeat a failed seed.
struct Tell<'n> {
    test: &'n str,
    seed: u64,
}

impl Drop for Tell<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {0} failed; repeat: TOKENSCOPE_SEED={0} cargo test --test it {1}", self.seed, self.test);
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

/// Runs `body` for seeds 1 to `count`, or as the environment says.
pub fn seeds(test: &str, count: u64, mut body: impl FnMut(&mut Dice)) {
    let range = match number("TOKENSCOPE_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("TOKENSCOPE_SEEDS").unwrap_or(count),
    };
    for seed in range {
        let _tell = Tell { test, seed };
        // Neighbouring seeds give unrelated streams.
        body(&mut Dice::new(Dice::new(seed).next()));
    }
}
