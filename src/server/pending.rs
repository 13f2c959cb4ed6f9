//! Changes and API requests of one stream that are under way: started, awaited beside the questions, answered in the
//! order in which they finish.
//!
//! There is room for a bounded number. The receipts of changes gather in one tray, so that a batch of the writer's wakes
//! the stream once and is answered in one write; API requests and fences are tasks. Dropping a [`Pending`] (the stream
//! is gone) stops waiting; it does not take a change back, as the service says. A task that panics answers *outcome
//! unknown*: nobody can tell how far it came.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;

use tokio::runtime::Handle;
use tokio::task::{Id, JoinSet};

use super::admission::Account;
use super::stats::{RefusedFor, Stats};
use super::tunnel::{Answering, TunnelAnswer};
use super::{Shared, fence};
use crate::domain::{Audience, Confirmation, Sequence, Timestamp};
use crate::service::caller::Caller;
use crate::service::request::{ChangeError, ChangeRequest, Done, RevokeTarget, TokenTerms};
use crate::service::{Arrived, Started, Tray, UnderWay};
use crate::wire::message::{Answer, Binding, ErrorCode, Registration, Revocation};
use crate::wire::{MESSAGE_BYTES_MAX, Wait, encode};

/// What of an API answer one message carries: the largest message without header, sequence and status.
const API_PART_BYTES: usize = MESSAGE_BYTES_MAX - 18;

/// The largest API answer, in bytes; a list that is longer has to be asked for in pages.
const API_ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How many changes and API requests may be under way.
pub(super) struct RoomForChanges {
    /// Of one stream.
    pub(super) of_stream: usize,
    /// Of the caller, over all its streams.
    pub(super) of_caller: usize,
    /// Where those of the caller are counted.
    pub(super) account: Arc<Account>,
}

/// Changes and API requests under way.
pub(super) struct Pending {
    /// Where the receipts of changes arrive; each has the number of its slot as its tag.
    tray: Arc<Tray>,
    arrived: Vec<Arrived>,
    /// Changes that wait for their receipts.
    slots: Vec<Option<Waiting>>,
    free: Vec<u32>,
    /// API requests, and fences of changes that are made.
    tasks: JoinSet<Outcome>,
    /// Which request each task belongs to; a task that panicked brings back only its own id.
    ids: Vec<(Id, u32)>,
    room: RoomForChanges,
    /// As many of the caller's are ours.
    counted: usize,
}

/// A change that waits for its receipt.
struct Waiting {
    id: u32,
    change: UnderWay,
    wait: Wait,
}

enum Outcome {
    Change(Result<Done, ChangeError>),
    Api(TunnelAnswer),
}

/// What became of one of them.
pub(super) struct Finished {
    id: u32,
    /// `None`: its task panicked.
    outcome: Option<Outcome>,
}

impl Pending {
    pub(super) fn new(room: RoomForChanges) -> Self {
        Self {
            tray: Arc::default(),
            arrived: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            tasks: JoinSet::new(),
            ids: Vec::new(),
            room,
            counted: 0,
        }
    }

    fn len(&self) -> usize {
        self.tasks.len() + self.slots.len() - self.free.len()
    }

    /// Whether one more may begin; what takes rights away has some more room among the caller's.
    pub(super) fn has_room(&self, takes_away: bool) -> bool {
        self.len() < self.room.of_stream && self.room.account.has_room(self.room.of_caller, takes_away)
    }

    /// Tells the caller's account how many are under way here.
    fn recount(&mut self) {
        let now = self.len();
        self.room.account.recount(self.counted, now);
        self.counted = now;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Starts a change. What is known of it at once is given back; everything else comes from [`Pending::next`].
    pub(super) fn start_change(
        &mut self,
        id: u32,
        shared: &Shared,
        caller: &Caller,
        request: ChangeRequest,
        wait: Wait,
        now: Timestamp,
    ) -> Option<Finished> {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            // There are never more than `room`, which is far less.
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let done = match shared.service.start_change(caller, request, now, &self.tray, slot) {
            Ok(Started::UnderWay(change)) => {
                self.slots[slot as usize] = Some(Waiting { id, change, wait });
                self.recount();
                return None;
            }
            Ok(Started::Done(done)) => Ok(done),
            Err(error) => Err(error),
        };
        self.free.push(slot);
        let finished = self.settled(shared, id, done, wait);
        self.recount();
        finished
    }

    pub(super) fn start_api(&mut self, id: u32, answering: Answering, runtime: Option<&Handle>) {
        let work = async move { Outcome::Api(answering.await) };
        let task = match runtime {
            Some(runtime) => self.tasks.spawn_on(work, runtime),
            None => self.tasks.spawn(work),
        };
        self.ids.push((task.id(), id));
        self.recount();
    }

    /// A change that is made, unless it has to wait for its fence.
    fn settled(&mut self, shared: &Shared, id: u32, done: Result<Done, ChangeError>, wait: Wait) -> Option<Finished> {
        match done {
            Ok(done) if wait == Wait::Fenced => {
                let shared = shared.clone();
                let task = self.tasks.spawn(async move {
                    fence::settle(&shared, done.revision.sequence, wait).await;
                    Outcome::Change(Ok(done))
                });
                self.ids.push((task.id(), id));
                None
            }
            done => Some(Finished { id, outcome: Some(Outcome::Change(done)) }),
        }
    }

    /// The next ones that finish, all there are by now, handed to `write`; waits for ever if nothing is under way. May
    /// be dropped while it waits.
    pub(super) async fn next(&mut self, shared: &Shared, mut write: impl FnMut(Finished)) {
        std::future::poll_fn(|context| {
            let mut any = false;
            while self.tray.poll_take(context, &mut self.arrived).is_ready() {
                let mut arrived = std::mem::take(&mut self.arrived);
                for (slot, committed) in arrived.drain(..) {
                    let Some(waiting) = self.slots.get_mut(slot as usize).and_then(Option::take) else { continue };
                    self.free.push(slot);
                    let done = shared.service.done(waiting.change, committed);
                    let finished = self.settled(shared, waiting.id, done, waiting.wait);
                    any |= finished.is_some();
                    finished.into_iter().for_each(&mut write);
                }
                self.arrived = arrived;
            }
            while let Poll::Ready(Some(joined)) = self.tasks.poll_join_next_with_id(context) {
                any = true;
                write(self.finished(joined));
            }
            self.recount();
            if any { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn finished(&mut self, joined: Result<(Id, Outcome), tokio::task::JoinError>) -> Finished {
        let (task, outcome) = match joined {
            Ok((task, outcome)) => (task, Some(outcome)),
            Err(error) => (error.id(), None),
        };
        let at = self.ids.iter().position(|(known, _)| *known == task);
        let id = at.map_or(0, |at| self.ids.swap_remove(at).1);
        Finished { id, outcome }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.room.account.recount(self.counted, 0);
    }
}

/// Writes what became of one, and counts it.
pub(super) fn write(output: &mut Vec<u8>, sequence: Sequence, finished: Finished, stats: &Stats) {
    let Finished { id, outcome } = finished;
    match outcome {
        Some(Outcome::Change(Ok(done))) => {
            stats.quic.changes.fetch_add(1, Relaxed);
            let answer = Answer::Done { sequence: done.revision.sequence, handle: done.handle, grant: done.grant };
            let written = encode::answer(output, id, &answer);
            debug_assert!(written.is_ok(), "{written:?}");
        }
        Some(Outcome::Change(Err(error))) => {
            let (code, reason) = match error {
                ChangeError::Forbidden { .. } => (ErrorCode::Forbidden, Some(RefusedFor::Rights)),
                ChangeError::Invalid(_) => (ErrorCode::Invalid, None),
                ChangeError::NotFound(_) => (ErrorCode::NotFound, None),
                ChangeError::Conflict(_) => (ErrorCode::Conflict, None),
                ChangeError::Busy => (ErrorCode::Busy, Some(RefusedFor::Overload)),
                ChangeError::Unavailable(_) => (ErrorCode::Unavailable, Some(RefusedFor::NotReady)),
                ChangeError::Unknown(_) => (ErrorCode::OutcomeUnknown, None),
            };
            if let Some(reason) = reason {
                stats.quic.count_refused(reason);
            }
            encode::error(output, id, sequence, code, &error.to_string());
        }
        Some(Outcome::Api(answer)) => write_api(output, id, sequence, &answer),
        None => {
            stats.panics.fetch_add(1, Relaxed);
            let text = "the server failed while it worked on this; whether anything changed is unknown";
            encode::error(output, id, sequence, ErrorCode::OutcomeUnknown, text);
        }
    }
}

fn write_api(output: &mut Vec<u8>, id: u32, sequence: Sequence, answer: &TunnelAnswer) {
    if answer.body.len() > API_ANSWER_BYTES_MAX {
        let text = "the answer is larger than 4 MiB; ask for fewer rows";
        return encode::error(output, id, sequence, ErrorCode::TooLarge, text);
    }
    let mut left = answer.body.as_slice();
    loop {
        let (body, rest) = left.split_at(left.len().min(API_PART_BYTES));
        let part = Answer::Api { sequence, status: answer.status, more: !rest.is_empty(), body };
        let written = encode::answer(output, id, &part);
        debug_assert!(written.is_ok(), "{written:?}");
        left = rest;
        if left.is_empty() {
            return;
        }
    }
}

/// A registration in the service's words.
///
/// # Errors
/// Why a name in it is none, for the caller.
pub(super) fn registration(registration: &Registration<'_>) -> Result<ChangeRequest, String> {
    let audience = match registration.audience {
        None => None,
        Some(names) => {
            let parsed: Result<Vec<_>, _> = names.iter().map(Audience::parse).collect();
            Some(parsed.map_err(|error| error.to_string())?)
        }
    };
    let confirmation = registration.binding.map(|binding| match binding {
        Binding::Certificate(hash) => Confirmation::Certificate(hash),
        Binding::DpopKey(hash) => Confirmation::DpopKey(hash),
        Binding::Other(json) => Confirmation::Other(json.into()),
    });
    let token =
        TokenTerms { grant: registration.grant, times: registration.times, audience, confirmation, narrowed: None };
    Ok(ChangeRequest::RegisterToken { digest: registration.digest, token })
}

/// A revocation in the service's words.
pub(super) fn revocation(revocation: Revocation) -> ChangeRequest {
    ChangeRequest::Revoke(match revocation {
        Revocation::Digest(digest) => RevokeTarget::Token(digest),
        Revocation::Handle(handle) => RevokeTarget::Handle(handle),
        Revocation::Grant(grant) => RevokeTarget::Grant(grant),
    })
}
