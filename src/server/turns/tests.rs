//! The turns alone: callers that always have more, round by round.

use super::*;

/// Turns in which as many rounds have begun ahead as may.
fn turns(waiting_max: usize) -> Arc<Turns> {
    let turns = Turns::new(waiting_max);
    turns.state().ahead = ROUNDS_AHEAD;
    Arc::new(turns)
}

fn seats(turns: &Arc<Turns>, caller: &str, count: usize) -> Vec<Seat> {
    let caller = CallerId::parse(caller).unwrap();
    (0..count).map(|_| turns.sit(&caller)).collect()
}

/// What the stream was told, if it was.
fn told(seat: &Seat) -> Option<Turn> {
    let waker = std::task::Waker::noop();
    let mut waiting = std::pin::pin!(seat.turn());
    match waiting.as_mut().poll(&mut std::task::Context::from_waker(waker)) {
        std::task::Poll::Ready(turn) => Some(turn),
        std::task::Poll::Pending => None,
    }
}

const BATCH: usize = 8 * 1024;

/// A stream that always has a batch: answered when it may be, in line otherwise.
struct Eager {
    seat: Seat,
    waits: bool,
    answered: usize,
    shed: usize,
}

impl Eager {
    fn step(&mut self) {
        if self.waits {
            match told(&self.seat) {
                None => return,
                Some(Turn::Answer) => self.answered += 1,
                Some(Turn::Shed) => self.shed += 1,
            }
            self.seat.spent(BATCH);
            self.waits = false;
        }
        while self.seat.may_go_on(BATCH, false) {
            self.seat.spent(BATCH);
            self.answered += 1;
        }
        self.waits = true;
    }
}

fn eager(turns: &Arc<Turns>, caller: &str, count: usize) -> Vec<Eager> {
    let eager = |seat| Eager { seat, waits: false, answered: 0, shed: 0 };
    seats(turns, caller, count).into_iter().map(eager).collect()
}

fn sums(streams: &[Eager]) -> (usize, usize) {
    (streams.iter().map(|it| it.answered).sum(), streams.iter().map(|it| it.shed).sum())
}

#[test]
fn a_caller_with_a_thousand_streams_gets_no_more_than_one_with_a_single_stream() {
    let turns = turns(1 << 30);
    let (mut many, mut one) = (eager(&turns, "many", 1_000), eager(&turns, "one", 1));
    for _ in 0..500 {
        many.iter_mut().chain(&mut one).for_each(Eager::step);
        turns.round();
    }
    let ((many, _), (one, shed)) = (sums(&many), sums(&one));
    assert!(one >= many * 9 / 10 && shed == 0, "many: {many}, one: {one}");
    // And each had its share of every round.
    assert!(many.abs_diff(500 * SHARE / BATCH) <= 10, "{many}");
}

#[test]
fn all_streams_of_a_caller_come_to_their_turn() {
    let turns = turns(1 << 30);
    let mut many = eager(&turns, "many", 100);
    for _ in 0..200 {
        many.iter_mut().for_each(Eager::step);
        turns.round();
    }
    let (least, most) = (many.iter().map(|it| it.answered).min(), many.iter().map(|it| it.answered).max());
    assert!(least >= Some(7) && most <= Some(13), "{least:?} {most:?}");
}

#[test]
fn what_stands_in_line_is_bounded_and_the_rest_is_shed_and_paid_for() {
    let turns = turns(16 * BATCH);
    let (mut many, mut one) = (eager(&turns, "many", 1_000), eager(&turns, "one", 1));
    for _ in 0..500 {
        many.iter_mut().chain(&mut one).for_each(Eager::step);
        turns.round();
    }
    let ((answered, shed), (one, one_shed)) = (sums(&many), sums(&one));
    assert!(answered > 500 && shed > 500, "{answered} answered, {shed} shed");
    assert!((answered + shed).abs_diff(500 * SHARE / BATCH) <= 20, "{answered} answered, {shed} shed");
    assert!(one >= (answered + shed) * 9 / 10 && one_shed == 0, "{one}, {one_shed} shed");
}

#[test]
fn what_takes_rights_away_goes_before_everything_else_of_its_caller() {
    let turns = turns(1 << 30);
    let flood = seats(&turns, "one", 50);
    for seat in &flood {
        seat.spent(SHARE);
        assert!(!seat.may_go_on(BATCH, false));
    }
    let revoker = &seats(&turns, "one", 1)[0];
    assert!(!revoker.may_go_on(40, true));
    // Also before what the flood has had is paid for.
    turns.round();
    assert_eq!(told(revoker), Some(Turn::Answer));
    assert!(flood.iter().all(|seat| told(seat).is_none()));
}

/// Standing in line cost a caller that was alone a sixth of its throughput with small batches: after each share the stream
/// slept and was woken, and nobody else wanted the time.
#[test]
fn who_is_alone_stands_in_line_after_several_shares_only() {
    let turns = Arc::new(Turns::new(1 << 30));
    let shares = |streams: &[Eager]| sums(streams).0 * BATCH / SHARE;
    let mut alone = eager(&turns, "alone", 3);
    for round in 1..=10 {
        alone.iter_mut().for_each(Eager::step);
        assert!(alone.iter().all(|it| it.waits), "somebody gets no end");
        let had = shares(&alone);
        assert!(had >= 8 + round && had <= 10 * round, "{had} shares in {round} rounds");
        turns.round();
    }
    // Beside somebody who waits nobody runs ahead.
    let (mut other, before) = (eager(&turns, "other", 1), shares(&alone));
    for _ in 0..100 {
        alone.iter_mut().chain(&mut other).for_each(Eager::step);
        turns.round();
    }
    assert!((shares(&alone) - before).abs_diff(shares(&other)) <= 12, "{} {}", shares(&alone) - before, shares(&other));
}

#[test]
fn who_is_alone_and_within_its_share_never_waits_and_who_left_is_forgotten() {
    let turns = turns(BATCH);
    {
        let (alone, other) = (seats(&turns, "alone", 1), seats(&turns, "other", 3));
        other[0].spent(10 * SHARE);
        assert!(!other[0].may_go_on(BATCH, false) && !other[1].may_go_on(BATCH, true));
        assert!((0..10).all(|_| alone[0].may_go_on(40, false)));
        // One that waits leaves: its place is free, and nobody is told in its stead.
        drop(other);
        assert!(!turns.round());
    }
    let state = turns.state();
    assert!(state.by_caller.is_empty() && state.line.is_empty() && state.free.len() == state.lanes.len());
    assert!(state.lanes.iter().all(|lane| lane.bytes == 0 && lane.waiting.is_empty()));
}
