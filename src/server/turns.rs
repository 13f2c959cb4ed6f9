//! Whose turn it is: what one thread does next when more is asked of it than it can answer.
//!
//! Nothing is queued here but streams: what a stream has sent waits in its windows, and a stream that waits is not read,
//! so QUIC's flow control holds its client back. While a caller stays within its share, a stream goes on at once, for the
//! price of a lock that nobody else wants, once for each batch. A caller beyond its share stands in line, and is let in
//! round by round: in each, every caller that waits has the same share, in bytes read and written, however many
//! connections and streams it has. So what a flood costs another caller is one share for each caller that floods.
//!
//! ```text
//!   a batch of a stream ── within its caller's share of this round? ── yes ──► answered now
//!                               │ no
//!                               ▼
//!                 the line of its caller: what takes rights away in front, others behind
//!                     │ front, a share in each round            │ back, beyond `waiting_max`
//!                     ▼                                         ▼
//!                  answered                          questions in it: "overloaded"
//! ```
//!
//! What stands in a caller's line is bounded: of more than `waiting_max` bytes the newest are told "overloaded" without a
//! look-up. That costs the caller its share too, so nobody gains anything by being refused.
//!
//! Which way it falls: "overloaded" is no verdict. Changes are never refused here.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::domain::CallerId;

/// A caller's share of one round, in bytes read and written: some 700 checks, which take a fifth of a millisecond.
pub(super) const SHARE: usize = 32 * 1024;

/// How many rounds may begin without anybody standing in line, before somebody has to: who is alone pays for the line with
/// every ninth share only, and whoever comes meanwhile waits for so many shares at most before there is one.
const ROUNDS_AHEAD: u32 = 8;

/// What a stream that waited may do with what it has read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    /// Answer it.
    Answer,
    /// Say "overloaded" to the questions in it.
    Shed,
}

/// The turns of one thread.
pub(super) struct Turns {
    state: Mutex<State>,
    /// Somebody stands in line.
    stir: Notify,
    /// Bytes that may stand in the line of one caller.
    waiting_max: usize,
}

#[derive(Default)]
struct State {
    /// Grows with each round.
    round: u64,
    /// Rounds that began without anybody in line, since one with.
    ahead: u32,
    lanes: Vec<Lane>,
    /// Lanes without streams.
    free: Vec<usize>,
    by_caller: HashMap<CallerId, usize>,
    /// Lanes in which somebody waits, each once, the next one in front.
    line: VecDeque<usize>,
}

/// One caller.
#[derive(Default)]
struct Lane {
    streams: usize,
    /// The round in which `spent` was looked at.
    round: u64,
    /// Bytes since then, and what rounds before have not paid for.
    spent: usize,
    waiting: VecDeque<Waiting>,
    /// The bytes of those who wait.
    bytes: usize,
}

struct Waiting {
    bell: Arc<Bell>,
    bytes: usize,
    urgent: bool,
}

/// Where a stream that waits is told what it may do.
#[derive(Default)]
struct Bell {
    rung: Notify,
    shed: AtomicBool,
}

impl Bell {
    fn ring(&self, turn: Turn) {
        self.shed.store(turn == Turn::Shed, Ordering::Relaxed);
        self.rung.notify_one();
    }
}

impl Lane {
    /// Takes off what the rounds since have paid for.
    fn settle(&mut self, round: u64) {
        let rounds = usize::try_from(round - self.round).unwrap_or(usize::MAX);
        self.spent = self.spent.saturating_sub(rounds.saturating_mul(SHARE));
        self.round = round;
    }

    fn ring(&mut self, waiting: &Waiting, turn: Turn) {
        self.bytes -= waiting.bytes;
        waiting.bell.ring(turn);
    }
}

impl Turns {
    /// Nobody waits. `waiting_max`: bytes that may stand in the line of one caller.
    pub(super) fn new(waiting_max: usize) -> Self {
        Self { state: Mutex::default(), stir: Notify::new(), waiting_max }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every use is whole before it could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A seat for a stream of this caller.
    pub(super) fn sit(self: &Arc<Self>, caller: &CallerId) -> Seat {
        let mut state = self.state();
        let state = &mut *state;
        let lane = *state.by_caller.entry(caller.clone()).or_insert_with(|| {
            state.free.pop().unwrap_or_else(|| {
                state.lanes.push(Lane::default());
                state.lanes.len() - 1
            })
        });
        if let Some(lane) = state.lanes.get_mut(lane) {
            lane.streams += 1;
        }
        Seat { turns: self.clone(), caller: caller.clone(), lane, bell: Arc::default() }
    }

    /// Gives turns for as long as it is polled; never returns.
    pub(super) async fn go_round(&self) {
        loop {
            self.stir.notified().await;
            while self.round() {
                // Everybody who was let in, and every socket, comes first.
                tokio::task::yield_now().await;
            }
        }
    }

    /// One round; whether somebody still waits.
    fn round(&self) -> bool {
        let mut state = self.state();
        let state = &mut *state;
        state.round += 1;
        // Where more than one caller wants more than its share, nobody runs ahead.
        state.ahead = if state.line.len() > 1 { ROUNDS_AHEAD } else { 0 };
        for _ in 0..state.line.len() {
            let Some(number) = state.line.pop_front() else { break };
            let Some(lane) = state.lanes.get_mut(number) else { continue };
            lane.settle(state.round);
            // One that takes rights away does not wait until a flood beside it is paid for.
            if lane.waiting.front().is_some_and(|first| first.urgent)
                && let Some(waiting) = lane.waiting.pop_front()
            {
                lane.ring(&waiting, Turn::Answer);
            }
            let mut given = lane.spent;
            while given < SHARE
                && let Some(waiting) = lane.waiting.pop_front()
            {
                given += waiting.bytes;
                lane.ring(&waiting, Turn::Answer);
            }
            // Who owes for earlier rounds is neither answered nor refused.
            let mut shed = lane.spent;
            while shed < SHARE
                && lane.bytes > self.waiting_max
                && let Some(waiting) = lane.waiting.pop_back()
            {
                shed += waiting.bytes;
                lane.ring(&waiting, Turn::Shed);
            }
            if !lane.waiting.is_empty() {
                state.line.push_back(number);
            }
        }
        !state.line.is_empty()
    }
}

/// A stream among those of its caller. Dropping it gives its place in the line up.
pub(super) struct Seat {
    turns: Arc<Turns>,
    caller: CallerId,
    lane: usize,
    bell: Arc<Bell>,
}

impl Seat {
    /// Whether a batch that begins with `bytes` may be answered now. If not, the stream stands in line, and has to wait
    /// for [`Seat::turn`]; in front, if what it has is `urgent`.
    pub(super) fn may_go_on(&self, bytes: usize, urgent: bool) -> bool {
        let mut state = self.turns.state();
        let state = &mut *state;
        let Some(lane) = state.lanes.get_mut(self.lane) else { return true };
        lane.settle(state.round);
        // Nobody waits: the next round may as well begin.
        while lane.spent >= SHARE && state.line.is_empty() && state.ahead < ROUNDS_AHEAD {
            state.ahead += 1;
            state.round += 1;
            lane.settle(state.round);
        }
        if lane.spent < SHARE && lane.waiting.is_empty() {
            return true;
        }
        // Nobody waits for nothing: a round comes to its end.
        let bytes = bytes.max(1);
        let waiting = Waiting { bell: self.bell.clone(), bytes, urgent };
        if lane.waiting.is_empty() {
            state.line.push_back(self.lane);
        }
        if urgent {
            lane.waiting.push_front(waiting);
        } else {
            lane.waiting.push_back(waiting);
        }
        lane.bytes += bytes;
        self.turns.stir.notify_one();
        false
    }

    /// Waits for the stream's turn. May be dropped while it waits.
    pub(super) async fn turn(&self) -> Turn {
        self.bell.rung.notified().await;
        if self.bell.shed.load(Ordering::Relaxed) { Turn::Shed } else { Turn::Answer }
    }

    /// Charges what was read and written.
    pub(super) fn spent(&self, bytes: usize) {
        if let Some(lane) = self.turns.state().lanes.get_mut(self.lane) {
            lane.spent = lane.spent.saturating_add(bytes);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.turns.state();
        let state = &mut *state;
        let Some(lane) = state.lanes.get_mut(self.lane) else { return };
        let Lane { waiting, bytes, .. } = lane;
        waiting.retain(|it| {
            let stays = !Arc::ptr_eq(&it.bell, &self.bell);
            *bytes -= if stays { 0 } else { it.bytes };
            stays
        });
        lane.streams -= 1;
        if lane.streams == 0 {
            *lane = Lane::default();
            state.by_caller.remove(&self.caller);
            state.line.retain(|number| *number != self.lane);
            state.free.push(self.lane);
        }
    }
}
