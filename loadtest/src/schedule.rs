//! When questions are due. Nothing else: which ones they are and who asks them is for others to know.
//!
//! Open loop: the moments are drawn in advance of any answer, one after the other, from the stages' rates, and an
//! answer's latency counts from its moment, however late it was sent. Closed loop: a question is due when there is room
//! for it, which hides every pause of the server and is therefore never the default.

use std::str::FromStr;
use std::time::Duration;

use tokenscope::samples::random::Random;

/// How the moments of a stage lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Arrivals {
    /// Independent callers: the gaps are exponentially distributed. The default; real load comes in clumps.
    Poisson,
    /// Evenly spaced.
    Constant,
}

/// A rate, kept for a while.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Stage {
    /// Questions per second. More than 0.
    pub rate: f64,
    /// For how long.
    pub lasts: Duration,
}

impl FromStr for Stage {
    type Err = String;

    /// `20k:5s`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (rate, lasts) = text.split_once(':').ok_or("a stage is rate:duration, as in 20k:5s")?;
        Ok(Self { rate: crate::show::parse_rate(rate)?, lasts: crate::show::parse_duration(lasts)? })
    }
}

/// What a run looks like over time.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Before anything is recorded: the first stage's rate.
    pub warm_up: Duration,
    /// What is recorded.
    pub stages: Vec<Stage>,
    /// Open or closed.
    pub mode: Mode,
}

/// Open or closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// By the clock.
    Open(Arrivals),
    /// By the answers: always as many in flight as there is room for. The rates of the stages mean nothing then.
    Closed,
}

impl Plan {
    /// How long the whole takes, in nanoseconds from its begin.
    pub fn lasts_ns(&self) -> u64 {
        ns(self.warm_up) + self.stages.iter().map(|stage| ns(stage.lasts)).sum::<u64>()
    }

    /// When recording begins, in nanoseconds from the begin.
    pub fn recorded_from_ns(&self) -> u64 {
        ns(self.warm_up)
    }

    /// The end of each stage, in nanoseconds from the begin.
    pub fn ends_ns(&self) -> Vec<u64> {
        let mut at = ns(self.warm_up);
        self.stages
            .iter()
            .map(|stage| {
                at += ns(stage.lasts);
                at
            })
            .collect()
    }
}

/// A duration in nanoseconds; more than 584 years are cut.
pub fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The moments of one worker's questions, in order. Ends with the plan.
#[derive(Debug)]
pub struct Due {
    /// Ends of the segments and the mean gap within each, in nanoseconds; the warm-up is the first segment.
    segments: Vec<(u64, f64)>,
    segment: usize,
    arrivals: Arrivals,
    random: Random,
    /// Kept as a fraction, so that a gap of 0.3 ns is not lost.
    at: f64,
}

impl Due {
    /// The moments at which worker `worker` of `workers` asks `batch` questions each.
    pub fn new(plan: &Plan, arrivals: Arrivals, seed: u64, worker: usize, workers: usize, batch: usize) -> Self {
        let share = workers.max(1) as f64 * batch.max(1) as f64;
        let gap = |rate: f64| 1e9 * share / rate.max(1e-6);
        let first = plan.stages.first().map_or(1.0, |stage| stage.rate);
        let mut segments = vec![(plan.recorded_from_ns(), gap(first))];
        segments.extend(plan.ends_ns().into_iter().zip(plan.stages.iter().map(|stage| gap(stage.rate))));
        let mut random = Random::of(seed ^ 0x6172_7269_7661_6c73, worker as u64);
        // Workers of a constant schedule take turns instead of all asking at once.
        let at = match arrivals {
            Arrivals::Constant => gap(first) * worker as f64 / workers.max(1) as f64,
            Arrivals::Poisson => random.unit() * gap(first),
        };
        Self { segments, segment: 0, arrivals, random, at }
    }
}

impl Iterator for Due {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let mut due = self.at;
        loop {
            let &(end, gap) = self.segments.get(self.segment)?;
            if due < end as f64 {
                let step = match self.arrivals {
                    Arrivals::Constant => gap,
                    Arrivals::Poisson => -gap * (1.0 - self.random.unit()).ln(),
                };
                self.at = due + step;
                return Some(due as u64);
            }
            // What a moment overshoots its segment by is stretched to the next one's gap, so that the rate changes at
            // the border and not one gap later.
            self.segment += 1;
            let &(_, next_gap) = self.segments.get(self.segment)?;
            due = end as f64 + (due - end as f64) / gap * next_gap;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(stages: &[(f64, u64)]) -> Plan {
        let stages = stages.iter().map(|&(rate, secs)| Stage { rate, lasts: Duration::from_secs(secs) }).collect();
        Plan { warm_up: Duration::from_secs(1), stages, mode: Mode::Open(Arrivals::Poisson) }
    }

    fn count(moments: &[u64], from: u64, to: u64) -> usize {
        moments.iter().filter(|at| (from..to).contains(&(**at / 1_000_000_000))).count()
    }

    #[test]
    fn stages_have_their_rates_and_the_warm_up_has_the_first() {
        let plan = plan(&[(1_000.0, 2), (5_000.0, 2)]);
        for arrivals in [Arrivals::Constant, Arrivals::Poisson] {
            let moments: Vec<u64> = Due::new(&plan, arrivals, 1, 0, 1, 1).collect();
            assert!(moments.is_sorted());
            for (from, to, wanted) in [(0, 1, 1_000.0), (1, 3, 2_000.0), (3, 5, 10_000.0)] {
                let found = count(&moments, from, to) as f64;
                assert!((found - wanted).abs() < 4.5 * f64::sqrt(wanted), "{arrivals:?} {from}: {found}");
            }
            assert!(*moments.last().unwrap() < plan.lasts_ns());
        }
    }

    #[test]
    fn workers_and_batches_share_the_rate() {
        let plan = plan(&[(10_000.0, 3)]);
        let moments: usize = (0..4).map(|worker| Due::new(&plan, Arrivals::Constant, 1, worker, 4, 10).count()).sum();
        assert!((3_990..=4_010).contains(&moments), "{moments}");
    }

    #[test]
    fn poisson_gaps_are_as_spread_as_they_are_long_and_the_seed_decides_them() {
        let plan = plan(&[(10_000.0, 10)]);
        let moments: Vec<u64> = Due::new(&plan, Arrivals::Poisson, 7, 0, 1, 1).collect();
        let gaps: Vec<f64> = moments.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let spread = (gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64).sqrt();
        assert!((0.95..1.05).contains(&(spread / mean)), "{spread} {mean}");
        assert_eq!(moments, Due::new(&plan, Arrivals::Poisson, 7, 0, 1, 1).collect::<Vec<_>>());
        assert_ne!(moments, Due::new(&plan, Arrivals::Poisson, 8, 0, 1, 1).collect::<Vec<_>>());
    }

    #[test]
    fn a_stage_is_written_as_rate_and_duration() {
        let stage: Stage = "20k:1500ms".parse().unwrap();
        assert_eq!(stage, Stage { rate: 20_000.0, lasts: Duration::from_millis(1_500) });
        for wrong in ["20k", "x:1s", "0:1s", "1k:0s", "-1:1s"] {
            assert!(wrong.parse::<Stage>().is_err(), "{wrong}");
        }
    }
}
