//! Changes and API requests of one stream that are under way: started, awaited beside the questions, answered in the
//! order in which they finish.
//!
//! There is room for a bounded number. Dropping a [`Pending`] (the stream is gone) stops waiting; it does not take a
//! change back, as the service says. A task that panics answers *outcome unknown*: nobody can tell how far it came.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::runtime::Handle;
use tokio::task::{Id, JoinSet};

use super::stats::{RefusedFor, Stats};
use super::tunnel::{Answering, TunnelAnswer};
use super::{Shared, fence};
use crate::domain::{Audience, Confirmation, Sequence, Timestamp};
use crate::service::caller::Caller;
use crate::service::request::{ChangeError, ChangeRequest, Done, RevokeTarget, TokenTerms};
use crate::wire::message::{Answer, Binding, ErrorCode, Registration, Revocation};
use crate::wire::{MESSAGE_BYTES_MAX, Wait, encode};

/// What of an API answer one message carries: the largest message without header, sequence and status.
const API_PART_BYTES: usize = MESSAGE_BYTES_MAX - 18;

/// The largest API answer, in bytes; a list that is longer has to be asked for in pages.
const API_ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Changes and API requests under way.
pub(super) struct Pending {
    tasks: JoinSet<Outcome>,
    /// Which request each task belongs to; a task that panicked brings back only its own id.
    ids: Vec<(Id, u32)>,
    room: usize,
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
    pub(super) fn new(room: usize) -> Self {
        Self { tasks: JoinSet::new(), ids: Vec::new(), room }
    }

    pub(super) fn has_room(&self) -> bool {
        self.tasks.len() < self.room
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    pub(super) fn start_change(
        &mut self,
        id: u32,
        shared: Shared,
        caller: Arc<Caller>,
        request: ChangeRequest,
        wait: Wait,
        now: Timestamp,
    ) {
        let task = self.tasks.spawn(async move {
            let done = shared.service.change(&caller, request, now).await;
            if let Ok(done) = &done {
                fence::settle(&shared, done.revision.sequence, wait).await;
            }
            Outcome::Change(done)
        });
        self.ids.push((task.id(), id));
    }

    pub(super) fn start_api(&mut self, id: u32, answering: Answering, runtime: Option<&Handle>) {
        let work = async move { Outcome::Api(answering.await) };
        let task = match runtime {
            Some(runtime) => self.tasks.spawn_on(work, runtime),
            None => self.tasks.spawn(work),
        };
        self.ids.push((task.id(), id));
    }

    /// The next one that finishes; waits for ever if there is none. May be dropped while it waits.
    pub(super) async fn next(&mut self) -> Finished {
        match self.tasks.join_next_with_id().await {
            Some(joined) => self.finished(joined),
            None => std::future::pending().await,
        }
    }

    /// One that has finished already.
    pub(super) fn try_next(&mut self) -> Option<Finished> {
        self.tasks.try_join_next_with_id().map(|joined| self.finished(joined))
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
