//! What was timed, round by round: a median, a 99th percentile, the longest; and whether it went right.

use serde::{Deserialize, Serialize};

/// Times of one thing in nanoseconds; one entry for each round. What a round does not tell has no entries.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Times {
    /// The median.
    pub p50: Vec<f64>,
    /// The 99th percentile.
    pub p99: Vec<f64>,
    /// The longest.
    pub longest: Vec<f64>,
    /// How many were timed, all rounds together.
    pub count: u64,
    /// How many went wrong.
    pub errors: u64,
    /// What a reader has to know.
    pub warnings: Vec<String>,
}

impl Times {
    /// Adds a round. `took` may be below zero where two moments are compared.
    pub fn add(&mut self, took: &[f64]) {
        let mut sorted: Vec<f64> = took.iter().copied().filter(|it| it.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let Some(longest) = sorted.last() else {
            self.wrong("nothing was timed".to_owned());
            return;
        };
        self.p50.push(quantile(&sorted, 0.5));
        self.p99.push(quantile(&sorted, 0.99));
        self.longest.push(*longest);
        self.count += sorted.len() as u64;
    }

    /// Adds a round of which only the middle is known.
    pub fn add_middle(&mut self, middle: f64, count: u64) {
        self.p50.push(middle);
        self.count += count;
    }

    /// Something was not as it has to be.
    pub fn wrong(&mut self, why: String) {
        self.errors += 1;
        self.warn(why);
    }

    /// Something a reader has to know; said once, and not without end.
    pub fn warn(&mut self, what: String) {
        if self.warnings.len() < 8 && !self.warnings.contains(&what) {
            self.warnings.push(what);
        }
    }
}

/// The smallest value that so large a part of all is not above.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_has_its_quantiles_and_nothing_timed_is_an_error() {
        let mut times = Times::default();
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        times.add(&hundred);
        times.add(&[-3.0]);
        assert_eq!((times.p50.as_slice(), times.p99.as_slice()), (&[50.0, -3.0][..], &[99.0, -3.0][..]));
        assert_eq!((times.longest.as_slice(), times.count, times.errors), (&[100.0, -3.0][..], 101, 0));
        times.add(&[f64::NAN]);
        times.add(&[]);
        assert_eq!((times.p50.len(), times.errors, times.warnings.len()), (2, 2, 1));
    }
}
