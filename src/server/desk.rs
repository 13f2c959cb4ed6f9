//! Where bytes of the wire and the service meet: whole messages in, answers out. No socket, no wait.
//!
//! A desk belongs to one stream. It takes every whole message that has arrived as one batch: the clock is read once,
//! the revision first, the keys of the next questions are computed, and what their answers will read is begun to be
//! loaded, before the first of them is answered. Questions are answered on the spot without a lock or an allocation;
//! changes and API requests are started, and their answers come when they come (`pending.rs`), a bounded number of them
//! at a time.
//!
//! Which way it falls: whatever cannot be answered gets an error with a code, never a verdict.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::Shared;
use super::credentials::Callers;
use super::pending::{self, Pending, RoomForChanges};
use super::stats::{DoorStats, RefusedFor};
use super::tunnel::{ApiRequest, Tunnel};
use super::turns::Turn;
use crate::domain::access::PairFacts;
use crate::domain::{Denial, Inactive, Revision, Sequence, Timestamp, TokenDigest, TokenKey};
use crate::service::caller::Caller;
use crate::service::{
    AHEAD, Bound, Coming, Decision, FactsThere, Introspection, Pin, PlaceAsked, Refusal, ScopeAsked, Scratch,
};
use crate::tally::COUNTED;
use crate::wire::message::{ActiveFacts, Answer, Binding, Envelope, ErrorCode, Outcome, Request, kind};
use crate::wire::{self, Broken, FactsHead, Malformed, Raw, Split, Wait, decode, encode};

/// Answers are sent once this many bytes of them have gathered, before the rest of a batch is looked at.
const OUTPUT_BYTES: usize = 64 * 1024;

/// What one stream's questions are answered with.
pub(super) struct Desk {
    shared: Shared,
    /// The caller's certificate: looked up again whenever the list of callers is replaced.
    certificate: Arc<[u8]>,
    /// The list the caller was found in.
    callers: Arc<Callers>,
    coming: Vec<Coming>,
    clerk: Clerk,
    /// Changes and API requests under way.
    pub(super) pending: Pending,
}

/// What one message is answered with, beside what all of a batch have in common.
struct Clerk {
    caller: Arc<Caller>,
    tunnel: Tunnel,
    scratch: Scratch,
    /// For answers of facts; kept as `scratch` is.
    pairs: Vec<PairFacts>,
    tally: Tally,
}

/// What all messages of a batch have in common.
struct Moment<'m> {
    shared: &'m Shared,
    pin: &'m Pin<'m>,
    /// Read before the pin was taken: what is seen is at least this new, so no answer claims more than it knows.
    at: Revision,
    now: Timestamp,
}

/// The certificate belongs to no caller (any more).
#[derive(Debug)]
pub(super) struct UnknownCaller;

/// What became of a batch.
#[derive(Debug)]
pub(super) struct Handled {
    /// Bytes of input that are done with.
    pub(super) used: usize,
    /// The bytes after them cannot be cut into messages.
    pub(super) broken: Option<Broken>,
    /// Whole messages are left, because enough answers have gathered.
    pub(super) unfinished: bool,
}

impl Desk {
    pub(super) fn new(
        shared: Shared,
        tunnel: Tunnel,
        certificate: Arc<[u8]>,
        room: RoomForChanges,
    ) -> Result<Self, UnknownCaller> {
        let callers = shared.callers.load_full();
        let caller = callers.by_certificate(&certificate).ok_or(UnknownCaller)?;
        Ok(Self {
            shared,
            certificate,
            callers,
            coming: Vec::with_capacity(AHEAD),
            clerk: Clerk { caller, tunnel, scratch: Scratch::default(), pairs: Vec::new(), tally: Tally::default() },
            pending: Pending::new(room),
        })
    }

    /// Takes note of a replaced list of callers. Costs a comparison of two pointers when it was not.
    pub(super) fn recognise(&mut self) -> Result<(), UnknownCaller> {
        if Arc::ptr_eq(&self.shared.callers.load(), &self.callers) {
            return Ok(());
        }
        let callers = self.shared.callers.load_full();
        self.clerk.caller = callers.by_certificate(&self.certificate).ok_or(UnknownCaller)?;
        self.callers = callers;
        Ok(())
    }

    /// How far the list is.
    pub(super) fn revision(&self) -> Revision {
        self.shared.service.revision()
    }

    /// Answers the whole messages at the front of `input` into `output`; questions with "overloaded", if that is the
    /// `turn`.
    pub(super) fn answer(&mut self, input: &[u8], turn: Turn, output: &mut Vec<u8>) -> Handled {
        if matches!(decode::split(input), Ok(Split::Partial)) {
            return Handled { used: 0, broken: None, unfinished: false };
        }
        let started = COUNTED.then(Instant::now);
        let Self { shared, coming, clerk, pending, .. } = self;
        let at = shared.service.revision();
        let pin = shared.service.pin();
        let moment = Moment { shared, pin: &pin, at, now: shared.clock.now() };
        let mut handled = Handled { used: 0, broken: None, unfinished: false };
        let mut count = 0;
        while !handled.unfinished {
            let ahead = look_ahead(&moment, coming, rest(input, handled.used));
            if ahead.messages == 0 {
                handled.broken = ahead.broken;
                break;
            }
            let mut keys = coming.drain(..).map(|question| question.key);
            for _ in 0..ahead.messages {
                let Ok(Split::Whole(raw, length)) = decode::split(rest(input, handled.used)) else { break };
                let key = decode::digest_of(&raw).and_then(|_| keys.next());
                if turn == Turn::Shed && is_question(&raw) {
                    clerk.shed(moment.at.sequence, &raw, output);
                } else {
                    clerk.one(&moment, pending, key, &raw, output);
                }
                handled.used += length;
                count += 1;
                if output.len() >= OUTPUT_BYTES {
                    handled.unfinished = true;
                    break;
                }
            }
        }
        if let Some(started) = started {
            let door = &shared.stats.quic;
            clerk.tally.pour_into(door);
            let spent = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
            if let Some(each) = spent.checked_div(count) {
                door.latency.record(each, count);
            }
        }
        handled
    }

    /// Waits until changes or API requests are finished, and writes what became of them. Waits for ever if none is under
    /// way. May be dropped while it waits.
    pub(super) async fn finish(&mut self, output: &mut Vec<u8>) {
        let Self { shared, pending, .. } = self;
        let shared = &*shared;
        let write = |finished| {
            let sequence = shared.service.revision().sequence;
            pending::write(output, sequence, finished, &shared.stats);
        };
        pending.next(shared, write).await;
    }
}

/// Whether a message asks and changes nothing.
fn is_question(raw: &Raw<'_>) -> bool {
    (1..=kind::QUESTION_LAST).contains(&(raw.kind & !kind::AT_LEAST))
}

/// Computes the keys of the coming questions and begins to load what their answers will read.
fn look_ahead(moment: &Moment<'_>, coming: &mut Vec<Coming>, input: &[u8]) -> Ahead {
    coming.clear();
    let service = &moment.shared.service;
    let mut ahead = Ahead { messages: 0, broken: None };
    let mut at = 0;
    while ahead.messages < AHEAD {
        match decode::split(rest(input, at)) {
            Ok(Split::Whole(raw, length)) => {
                if let Some(digest) = decode::digest_of(&raw) {
                    let key = service.key(&TokenDigest::from_bytes(*digest));
                    coming.push(Coming { key, place: place_of(&raw) });
                }
                at += length;
                ahead.messages += 1;
            }
            Ok(Split::Partial) => break,
            Err(broken) => {
                ahead.broken = Some(broken);
                break;
            }
        }
    }
    service.look_ahead(moment.pin, coming);
    ahead
}

/// The place a question names by number. Reading the whole message is nearly free for the one kind that has it.
fn place_of(raw: &Raw<'_>) -> Option<u32> {
    if raw.kind & !kind::AT_LEAST != kind::CHECK_NUMBERS {
        return None;
    }
    match decode::request(raw) {
        Ok(Envelope { request: Request::CheckNumbers { place, .. }, .. }) => Some(place),
        _ => None,
    }
}

impl Clerk {
    /// Answers one message. `key` belongs to the digest in it, if it has one.
    fn one(
        &mut self,
        moment: &Moment<'_>,
        pending: &mut Pending,
        key: Option<TokenKey>,
        raw: &Raw<'_>,
        output: &mut Vec<u8>,
    ) {
        let at = moment.at.sequence;
        let envelope = match decode::request(raw) {
            Ok(envelope) => envelope,
            Err(malformed) => {
                let code = match malformed {
                    Malformed::Kind(_) => ErrorCode::UnknownMessage,
                    Malformed::Body(_) => ErrorCode::Malformed,
                };
                self.tally.refused(RefusedFor::Malformed);
                return encode::error(output, raw.id, at, code, &malformed.to_string());
            }
        };
        let Envelope { id, least, request } = envelope;
        let &Moment { shared, pin, now, .. } = moment;
        let service = &shared.service;
        if let Some(Err(refusal)) = least.map(|least| service.reached(least)) {
            return self.refuse(output, id, at, refusal);
        }
        // A question has a digest, and a digest has a key: the message would not have been read otherwise.
        let key_of = |digest: &TokenDigest| key.unwrap_or_else(|| service.key(digest));
        match request {
            Request::CheckNumbers { digest, scope, place } => {
                let (scope, place) = (ScopeAsked::Position(scope), PlaceAsked::Number(place));
                let decision = service.check(pin, &self.caller, key_of(&digest), scope, place, now);
                self.checked(output, id, at, decision);
            }
            Request::CheckNames { digest, scope, place } => {
                let (scope, place) = (ScopeAsked::Name(scope), PlaceAsked::Name(place));
                let decision = service.check(pin, &self.caller, key_of(&digest), scope, place, now);
                self.checked(output, id, at, decision);
            }
            Request::Introspect { digest, place } => {
                match service.introspect(pin, &self.caller, key_of(&digest), place, now, &mut self.scratch) {
                    Ok(introspection) => {
                        let outcome = write_introspection(output, id, at, &introspection);
                        self.tally.introspected(outcome);
                    }
                    Err(refusal) => self.refuse(output, id, at, refusal),
                }
            }
            Request::ResolveScope(scope) => {
                let number = service.scope_position(pin, scope).map(|position| u32::from(position.number()));
                write(output, id, &Answer::Resolved { sequence: at, number });
            }
            Request::ResolvePlace(place) => {
                // Whether a place exists is told to nobody who may not ask about it.
                let workspace = place.split_once('/').map_or(place, |(workspace, _)| workspace);
                if !self.caller.may_ask_about(workspace) {
                    return self.refuse(output, id, at, Refusal::MayNotAskThere);
                }
                let number = service.place_number(pin, place);
                write(output, id, &Answer::Resolved { sequence: at, number });
            }
            Request::Catalogue { from } => {
                let page = service.scopes();
                let total = u16::try_from(page.rows.len()).unwrap_or(u16::MAX);
                let rows = page.rows.iter().skip(usize::from(from)).map(|row| (row.name.as_str(), row.retired));
                if let Err(error) = encode::names(output, id, page.revision.sequence, from, total, rows) {
                    encode::error(output, id, at, ErrorCode::Unavailable, &error.to_string());
                }
            }
            Request::Facts { digest, place } => {
                let told = service.facts(pin, &self.caller, key_of(&digest), place, now, &mut self.pairs);
                match told {
                    Ok(Ok(there)) => {
                        self.tally.introspected(None);
                        write_facts(output, id, at, service.feed().incarnation(), &there, &self.pairs);
                    }
                    Ok(Err(reason)) => {
                        self.tally.introspected(Some(reason));
                        encode::inactive(output, id, at);
                    }
                    Err(refusal) => self.refuse(output, id, at, refusal),
                }
            }
            Request::Register(_) | Request::Revoke(..) | Request::Api { .. }
                if !pending.has_room(raw.kind == kind::REVOKE) =>
            {
                self.tally.refused(RefusedFor::Overload);
                let text = "too many changes and API requests of this stream or caller are unanswered; wait for one";
                encode::error(output, id, at, ErrorCode::Busy, text);
            }
            Request::Register(registration) => match pending::registration(&registration) {
                Ok(request) => {
                    let finished = pending.start_change(id, shared, &self.caller, request, Wait::Applied, now);
                    finished.into_iter().for_each(|it| pending::write(output, at, it, &shared.stats));
                }
                Err(text) => encode::error(output, id, at, ErrorCode::Invalid, &text),
            },
            Request::Revoke(revocation, wait) => {
                let request = pending::revocation(revocation);
                let finished = pending.start_change(id, shared, &self.caller, request, wait, now);
                finished.into_iter().for_each(|it| pending::write(output, at, it, &shared.stats));
            }
            Request::Api { method, path, body } => {
                let request = ApiRequest { method, path: path.to_owned(), body: body.to_vec() };
                let (answering, runtime) = self.tunnel.ask(shared.clone(), self.caller.clone(), request, now);
                pending.start_api(id, answering, runtime);
            }
        }
    }

    /// No verdict, without a look at anything.
    fn shed(&mut self, at: Sequence, raw: &Raw<'_>, output: &mut Vec<u8>) {
        self.tally.refused(RefusedFor::Overload);
        encode::error(output, raw.id, at, ErrorCode::Overloaded, "too much of this caller waits; ask later");
    }

    fn checked(&mut self, output: &mut Vec<u8>, id: u32, at: Sequence, decision: Result<Decision, Refusal>) {
        let outcome = match decision {
            Ok(Decision::Allowed) => {
                self.tally.allowed += u64::from(COUNTED);
                Outcome::Allowed
            }
            Ok(Decision::Denied(denial)) => {
                self.tally.denied(denial);
                Outcome::Denied(denial)
            }
            Ok(Decision::Inactive(reason)) => {
                self.tally.inactive(reason);
                Outcome::Inactive
            }
            Err(refusal) => return self.refuse(output, id, at, refusal),
        };
        encode::checked(output, id, at, outcome);
    }

    fn refuse(&mut self, output: &mut Vec<u8>, id: u32, at: Sequence, refusal: Refusal) {
        let (code, reason) = match refusal {
            Refusal::MayNotAsk => (ErrorCode::Forbidden, RefusedFor::Rights),
            Refusal::MayNotAskThere => (ErrorCode::ForbiddenPlace, RefusedFor::Rights),
            Refusal::Behind => (ErrorCode::Behind, RefusedFor::Behind),
            Refusal::NotReady => (ErrorCode::NotReady, RefusedFor::NotReady),
        };
        self.tally.refused(reason);
        encode::error(output, id, at, code, &refusal.to_string());
    }
}

/// What a look ahead found.
struct Ahead {
    messages: usize,
    broken: Option<Broken>,
}

fn rest(bytes: &[u8], from: usize) -> &[u8] {
    bytes.get(from..).unwrap_or_default()
}

/// Appends an answer whose size is fixed, which always fits.
fn write(output: &mut Vec<u8>, id: u32, answer: &Answer<'_>) {
    let written = encode::answer(output, id, answer);
    debug_assert!(written.is_ok(), "{written:?}");
}

/// Writes facts; a place that too many pairs cover has to be asked about by checks.
fn write_facts(
    output: &mut Vec<u8>,
    id: u32,
    sequence: Sequence,
    incarnation: u64,
    there: &FactsThere,
    pairs: &[PairFacts],
) {
    let head = FactsHead {
        sequence,
        incarnation,
        tags: there.tags.map(|tag| tag.0),
        not_before: there.not_before,
        expiry: there.expiry,
        place: there.place,
    };
    if let Err(error) = wire::facts::write(output, id, &head, pairs.iter().copied()) {
        encode::error(output, id, sequence, ErrorCode::TooLarge, &error.to_string());
    }
}

/// Writes an introspection; says why it was inactive, if it was.
fn write_introspection(
    output: &mut Vec<u8>,
    id: u32,
    sequence: Sequence,
    introspection: &Introspection<'_>,
) -> Option<Inactive> {
    let token = match introspection {
        Introspection::Inactive(reason) => {
            encode::inactive(output, id, sequence);
            return Some(*reason);
        }
        Introspection::Active(token) => token,
    };
    let facts = ActiveFacts {
        sequence,
        handle: token.handle,
        grant: token.grant,
        times: token.times,
        everywhere: token.everywhere,
        subject: token.subject,
        client: token.client,
        binding: token.confirmation.map(|bound| match bound {
            Bound::Certificate(hash) => Binding::Certificate(hash),
            Bound::DpopKey(hash) => Binding::DpopKey(hash),
            Bound::Other(json) => Binding::Other(json),
        }),
    };
    if let Err(error) = encode::active(output, id, &facts, token.audience(), token.places()) {
        encode::error(output, id, sequence, ErrorCode::Unavailable, &error.to_string());
    }
    None
}

/// What a batch counted, added to the shared numbers once for all of it.
#[derive(Default)]
struct Tally {
    introspected: u64,
    allowed: u64,
    inactive: [u64; Inactive::ALL.len()],
    denied: [u64; Denial::ALL.len()],
    refused: [u64; RefusedFor::ALL.len()],
}

impl Tally {
    fn introspected(&mut self, inactive: Option<Inactive>) {
        match inactive {
            Some(reason) => self.inactive(reason),
            None => self.introspected += u64::from(COUNTED),
        }
    }

    fn inactive(&mut self, reason: Inactive) {
        self.inactive[reason as usize] += u64::from(COUNTED);
    }

    fn denied(&mut self, reason: Denial) {
        self.denied[reason as usize - 1] += u64::from(COUNTED);
    }

    fn refused(&mut self, reason: RefusedFor) {
        self.refused[reason as usize] += u64::from(COUNTED);
    }

    fn pour_into(&mut self, door: &DoorStats) {
        let denied: u64 = self.denied.iter().sum();
        let pour = |from: &mut u64, into: &std::sync::atomic::AtomicU64| {
            if *from != 0 {
                into.fetch_add(std::mem::take(from), Relaxed);
            }
        };
        pour(&mut (self.introspected + self.allowed + denied), &door.active);
        self.introspected = 0;
        pour(&mut self.allowed, &door.allowed);
        self.inactive.iter_mut().zip(&door.inactive).for_each(|(from, into)| pour(from, into));
        self.denied.iter_mut().zip(&door.denied).for_each(|(from, into)| pour(from, into));
        self.refused.iter_mut().zip(&door.refused).for_each(|(from, into)| pour(from, into));
    }
}
