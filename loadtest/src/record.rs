//! What is written down while a run lasts: one recorder per worker, merged when it is over.
//!
//! Latency counts from the moment a question was due. Beside it stand the time from the moment it was really sent (what
//! most tools call latency) and the lateness, which is the difference and the tool's own fault as long as there was
//! room to send. Questions due in the warm-up are asked and judged, but not recorded.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use hdrhistogram::Histogram;

use crate::question::{Expect, Judgement, Refused, Said, judge};
use crate::schedule::Plan;

/// The longest time that is told apart: a minute. Longer ones count as this.
const LONGEST_NS: u64 = 60_000_000_000;

/// Wrong answers that are kept as text.
const WRONG_KEPT: usize = 10;

/// Intervals of the time series, at most about.
const INTERVALS: u64 = 240;

/// The shortest interval of the time series.
const INTERVAL_NS_MIN: u64 = 250_000_000;

/// A question that is in flight.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// When it was due, in nanoseconds from the begin of the run.
    pub due: u64,
    /// When it was handed to the transport.
    pub sent: u64,
    /// What has to come back.
    pub expect: Expect,
}

/// What is counted.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Questions that were due while recording.
    pub asked: u64,
    /// Answers that arrived while recording, right ones.
    pub right: u64,
    /// Answers that were not the right ones, at any time, warm-up included.
    pub wrong: u64,
    /// No verdicts, at any time, by reason.
    pub refused: BTreeMap<Refused, u64>,
    /// Questions that were never answered.
    pub lost: u64,
}

impl Counts {
    /// Everything that should not have happened.
    pub fn errors(&self) -> u64 {
        self.wrong + self.lost + self.refused.values().sum::<u64>()
    }
}

/// A piece of the time series.
#[derive(Clone, Debug)]
pub struct Interval {
    /// Answers that arrived in it.
    pub answered: u64,
    /// Their latencies, two digits.
    pub latency: Histogram<u64>,
}

impl Interval {
    fn new() -> Self {
        Self { answered: 0, latency: histogram(2) }
    }
}

/// What a worker shows while it works.
pub type Live = Arc<Mutex<Option<Interval>>>;

/// What a worker writes down.
pub struct Recorder {
    from: u64,
    ends: Vec<u64>,
    interval_ns: u64,
    /// The latencies of each stage.
    pub stages: Vec<Histogram<u64>>,
    /// Answers that arrived in each stage.
    pub stage_answers: Vec<u64>,
    /// From sending to the answer.
    pub service: Histogram<u64>,
    /// From due to sent, of questions that had room.
    pub lateness: Histogram<u64>,
    /// What is counted.
    pub counts: Counts,
    /// Wrong answers in words, the first few.
    pub wrong: Vec<String>,
    /// The time series, from the begin of the run.
    pub series: Vec<Interval>,
    now: Interval,
    live: Live,
}

/// A histogram up to a minute.
pub fn histogram(digits: u8) -> Histogram<u64> {
    // The bounds are constants that the crate accepts; the fallback would accept anything.
    Histogram::new_with_bounds(1, LONGEST_NS, digits).unwrap_or_else(|_| hdr_fallback())
}

fn hdr_fallback() -> Histogram<u64> {
    let Ok(histogram) = Histogram::new(2) else { unreachable!("two digits are allowed") };
    histogram
}

/// The length of an interval of the time series, in nanoseconds.
pub fn interval_ns(plan: &Plan) -> u64 {
    (plan.lasts_ns() / INTERVALS).max(INTERVAL_NS_MIN)
}

impl Recorder {
    /// A recorder for this plan that shows what it sees in `live`.
    pub fn new(plan: &Plan, live: Live) -> Self {
        Self {
            from: plan.recorded_from_ns(),
            ends: plan.ends_ns(),
            interval_ns: interval_ns(plan),
            stages: plan.stages.iter().map(|_| histogram(3)).collect(),
            stage_answers: vec![0; plan.stages.len()],
            service: histogram(3),
            lateness: histogram(3),
            counts: Counts::default(),
            wrong: Vec::new(),
            series: Vec::new(),
            now: Interval::new(),
            live,
        }
    }

    /// The stage of a moment; `None`: warm-up, or after the end.
    fn stage(&self, at: u64) -> Option<usize> {
        if at < self.from { None } else { self.ends.iter().position(|end| at < *end) }
    }

    /// A question was due at `due` and is sent at `now`; `had_room` if nothing but the tool kept it waiting.
    pub fn sent(&mut self, due: u64, now: u64, count: u64, had_room: bool) {
        if self.stage(due).is_some() {
            self.counts.asked += count;
            if had_room {
                self.lateness.saturating_record_n(now.saturating_sub(due).max(1), count);
            }
        }
    }

    /// An answer arrived at `now`.
    pub fn answered(&mut self, asked: &Asked, said: Said, now: u64) {
        match judge(&asked.expect, said) {
            Judgement::Right => {}
            Judgement::Wrong => {
                self.counts.wrong += 1;
                if self.wrong.len() < WRONG_KEPT {
                    self.wrong.push(format!("expected {:?}, was told {said:?}", asked.expect));
                }
                return;
            }
            Judgement::NoVerdict(why) => {
                *self.counts.refused.entry(why).or_default() += 1;
                return;
            }
        }
        let latency = now.saturating_sub(asked.due).max(1);
        if let Some(stage) = self.stage(asked.due)
            && let Some(stage) = self.stages.get_mut(stage)
        {
            stage.saturating_record(latency);
            self.service.saturating_record(now.saturating_sub(asked.sent).max(1));
        }
        if let Some(stage) = self.stage(now)
            && let Some(answers) = self.stage_answers.get_mut(stage)
        {
            *answers += 1;
            self.counts.right += 1;
        }
        while (self.series.len() as u64) < now / self.interval_ns {
            self.turn();
        }
        self.now.answered += 1;
        self.now.latency.saturating_record(latency);
    }

    fn turn(&mut self) {
        let done = std::mem::replace(&mut self.now, Interval::new());
        *self.live.lock().unwrap_or_else(PoisonError::into_inner) = Some(done.clone());
        self.series.push(done);
    }

    /// The run is over; `lost` questions had no answer.
    pub fn finish(&mut self, lost: u64) {
        self.counts.lost += lost;
        self.turn();
    }

    /// Adds what another worker wrote down.
    pub fn merge(&mut self, other: Self) {
        let add = |into: &mut Histogram<u64>, from: &Histogram<u64>| {
            // Both have the same bounds, so there is nothing that does not fit.
            let _ = into.add(from);
        };
        self.stages.iter_mut().zip(&other.stages).for_each(|(into, from)| add(into, from));
        self.stage_answers.iter_mut().zip(&other.stage_answers).for_each(|(into, from)| *into += from);
        add(&mut self.service, &other.service);
        add(&mut self.lateness, &other.lateness);
        self.counts.asked += other.counts.asked;
        self.counts.right += other.counts.right;
        self.counts.wrong += other.counts.wrong;
        self.counts.lost += other.counts.lost;
        for (why, count) in other.counts.refused {
            *self.counts.refused.entry(why).or_default() += count;
        }
        self.wrong.extend(other.wrong);
        self.wrong.truncate(WRONG_KEPT);
        for (number, interval) in other.series.into_iter().enumerate() {
            match self.series.get_mut(number) {
                Some(into) => {
                    into.answered += interval.answered;
                    add(&mut into.latency, &interval.latency);
                }
                None => self.series.push(interval),
            }
        }
    }

    /// The latencies of all stages together.
    pub fn latency(&self) -> Histogram<u64> {
        let mut all = histogram(3);
        for stage in &self.stages {
            let _ = all.add(stage);
        }
        all
    }
}

/// Questions in flight on one lane, by number.
#[derive(Debug, Default)]
pub struct Ledger {
    rows: Vec<Option<Asked>>,
    free: Vec<u32>,
}

impl Ledger {
    /// How many are in flight.
    pub fn in_flight(&self) -> usize {
        self.rows.len() - self.free.len()
    }

    /// A question goes out; its number.
    pub fn open(&mut self, asked: Asked) -> u32 {
        if let Some(id) = self.free.pop()
            && let Some(row) = self.rows.get_mut(id as usize)
        {
            *row = Some(asked);
            return id;
        }
        self.rows.push(Some(asked));
        // A lane never has 2³² questions in flight: its room is bounded by the command line.
        u32::try_from(self.rows.len() - 1).unwrap_or(u32::MAX)
    }

    /// Its answer came in. `None`: nothing with this number is in flight.
    pub fn close(&mut self, id: u32) -> Option<Asked> {
        let asked = self.rows.get_mut(id as usize)?.take()?;
        self.free.push(id);
        Some(asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{Arrivals, Mode, Stage};
    use std::time::Duration;

    fn plan() -> Plan {
        let stage = |rate| Stage { rate, lasts: Duration::from_secs(1) };
        Plan {
            warm_up: Duration::from_secs(1),
            stages: vec![stage(10.0), stage(20.0)],
            mode: Mode::Open(Arrivals::Constant),
        }
    }

    fn ms(ms: u64) -> u64 {
        ms * 1_000_000
    }

    #[test]
    fn the_warm_up_is_left_out_and_latency_counts_from_the_due_moment() {
        let mut recorder = Recorder::new(&plan(), Live::default());
        let expect = Expect::inactive(&[0; 32]);
        for (due, sent, answered) in [(500, 500, 600), (1_500, 1_700, 1_800), (2_500, 2_500, 2_501)] {
            recorder.sent(ms(due), ms(sent), 1, true);
            recorder.answered(&Asked { due: ms(due), sent: ms(sent), expect }, Said::Inactive, ms(answered));
        }
        recorder.finish(0);
        assert_eq!((recorder.counts.asked, recorder.counts.right), (2, 2));
        assert_eq!(recorder.stages[0].len(), 1);
        assert!(recorder.stages[0].equivalent(recorder.stages[0].max(), ms(300)));
        assert!(recorder.service.equivalent(recorder.service.max(), ms(100)));
        assert!(recorder.lateness.equivalent(recorder.lateness.max(), ms(200)));
        assert_eq!(recorder.stage_answers, [1, 1]);
        assert_eq!(recorder.series.iter().map(|it| it.answered).sum::<u64>(), 3);
    }

    #[test]
    fn wrong_answers_count_in_the_warm_up_too() {
        let mut recorder = Recorder::new(&plan(), Live::default());
        let asked = Asked { due: 1, sent: 1, expect: Expect::inactive(&[0; 32]) };
        recorder.answered(&asked, Said::Allowed, 5);
        recorder.answered(&asked, Said::Refused(Refused::Code(8)), 5);
        recorder.finish(3);
        assert_eq!((recorder.counts.wrong, recorder.counts.lost, recorder.counts.errors()), (1, 3, 5));
        assert_eq!(recorder.wrong.len(), 1);
    }

    #[test]
    fn a_number_is_in_flight_once() {
        let mut ledger = Ledger::default();
        let asked = Asked { due: 1, sent: 1, expect: Expect::inactive(&[0; 32]) };
        let ids: Vec<u32> = (0..3).map(|_| ledger.open(asked)).collect();
        assert_eq!(ids, [0, 1, 2]);
        assert!(ledger.close(1).is_some() && ledger.close(1).is_none() && ledger.close(9).is_none());
        assert_eq!((ledger.in_flight(), ledger.open(asked)), (2, 1));
    }
}
