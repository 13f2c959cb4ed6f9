//! From values to bytes: each function appends one message (or, where said, several) to a buffer the caller keeps.
//!
//! A value that does not fit its field is refused and nothing is appended; nothing is ever cut, except the text of an
//! error. Buffers grow as any `Vec` does, so a session that reuses its own soon allocates no more.

use crate::domain::place::PLACE_BYTES_MAX;
use crate::domain::scope::SCOPE_BYTES_MAX;
use crate::domain::token::CONFIRMATION_BYTES_MAX;
use crate::domain::{Expiry, Revision, ScopeMask, Sequence, TokenTimes};

use super::decode::{Audiences, ITEM_AUDIENCE, ITEM_PLACE};
use super::facts;
use super::message::{
    ActiveFacts, Answer, Binding, Envelope, ErrorCode, Outcome, Registration, Request, Revocation, kind,
};
use super::{API_MESSAGE_BYTES_MAX, AUDIENCES_MAX, ERROR_TEXT_BYTES_MAX, HEADER_BYTES, MESSAGE_BYTES_MAX};

/// Something is too long (or too short, or too many) for its place in a message. Nothing was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} does not fit into a message: {allowed}")]
pub struct TooLong {
    /// What does not fit.
    pub what: &'static str,
    /// What would.
    pub allowed: &'static str,
}

const PLACE: TooLong = TooLong { what: "the place", allowed: "1 to 257 bytes" };
const SCOPE: TooLong = TooLong { what: "the scope name", allowed: "1 to 96 bytes" };
const ID: TooLong = TooLong { what: "an id", allowed: "at most 255 bytes" };
const CONFIRMATION: TooLong = TooLong { what: "the confirmation value", allowed: "at most 1024 bytes" };
const AUDIENCE: TooLong = TooLong { what: "the audience list", allowed: "1 to 64 entries" };
const WHOLE: TooLong = TooLong { what: "the request", allowed: "16 KiB, or 64 KiB for an API request" };

/// Appends a request.
///
/// # Errors
/// [`TooLong`]; `out` is as it was.
pub fn request(out: &mut Vec<u8>, envelope: &Envelope<'_>) -> Result<(), TooLong> {
    let start = out.len();
    let written = write_request(out, envelope).and_then(|kind| finish(out, start, kind));
    if written.is_err() {
        out.truncate(start);
    }
    written
}

fn write_request(out: &mut Vec<u8>, envelope: &Envelope<'_>) -> Result<u8, TooLong> {
    let Envelope { id, least, request } = envelope;
    let (kind, detail) = match request {
        Request::Introspect { .. } => (kind::INTROSPECT, 0),
        Request::CheckNumbers { scope, .. } => (kind::CHECK_NUMBERS, scope.number()),
        Request::CheckNames { scope, .. } => (kind::CHECK_NAMES, scope_length(scope)?),
        Request::ResolveScope(_) => (kind::RESOLVE, 0),
        Request::ResolvePlace(_) => (kind::RESOLVE, 1),
        Request::Catalogue { from } => (kind::CATALOGUE, *from),
        Request::Facts { .. } => (kind::FACTS, 0),
        Request::Register(registration) => (kind::REGISTER, registration_detail(registration)),
        Request::Revoke(Revocation::Digest(_), wait) => (kind::REVOKE, (*wait as u8) << 2),
        Request::Revoke(Revocation::Handle(_), wait) => (kind::REVOKE, 1 | (*wait as u8) << 2),
        Request::Revoke(Revocation::Grant(_), wait) => (kind::REVOKE, 2 | (*wait as u8) << 2),
        Request::Api { method, .. } => (kind::API, *method as u8),
    };
    let is_question = kind <= kind::QUESTION_LAST;
    let demands = if is_question && least.is_some() { kind::AT_LEAST } else { 0 };
    begin(out, kind | demands, detail, *id);
    if let (true, Some(least)) = (is_question, least) {
        revision(out, least);
    }
    match request {
        Request::Introspect { digest, place: at } => {
            out.extend_from_slice(digest.as_bytes());
            if let Some(at) = at {
                place(out, at)?;
            }
        }
        Request::CheckNumbers { digest, place, .. } => {
            out.extend_from_slice(&place.to_le_bytes());
            out.extend_from_slice(digest.as_bytes());
        }
        Request::CheckNames { digest, scope, place: at } => {
            out.extend_from_slice(digest.as_bytes());
            out.extend_from_slice(scope.as_bytes());
            place(out, at)?;
        }
        Request::ResolveScope(scope) => {
            scope_length(scope)?;
            out.extend_from_slice(scope.as_bytes());
        }
        Request::ResolvePlace(at) => place(out, at)?,
        Request::Catalogue { .. } => {}
        Request::Facts { digest, place: at } => {
            out.extend_from_slice(digest.as_bytes());
            place(out, at)?;
        }
        Request::Register(registration) => {
            out.extend_from_slice(registration.digest.as_bytes());
            out.extend_from_slice(&registration.grant.number().to_le_bytes());
            times(out, registration.times);
            binding(out, registration.binding.as_ref())?;
            out.extend_from_slice(registration.audience.map_or(&[], |audience| audience.bytes()));
        }
        Request::Revoke(Revocation::Digest(digest), _) => out.extend_from_slice(digest.as_bytes()),
        Request::Revoke(Revocation::Handle(handle), _) => out.extend_from_slice(handle.key().as_bytes()),
        Request::Revoke(Revocation::Grant(grant), _) => out.extend_from_slice(&grant.number().to_le_bytes()),
        Request::Api { path, body, .. } => {
            text16(out, path, WHOLE)?;
            out.extend_from_slice(body);
        }
    }
    Ok(kind)
}

/// Writes an audience list into `bytes` (which is emptied first), for a [`Registration`].
///
/// # Errors
/// [`TooLong`]: no name, more than [`AUDIENCES_MAX`], or one of more than 255 bytes.
pub fn audiences<'a, 'n>(
    bytes: &'a mut Vec<u8>,
    names: impl IntoIterator<Item = &'n str>,
) -> Result<Audiences<'a>, TooLong> {
    bytes.clear();
    bytes.push(0);
    let mut count = 0_u8;
    for name in names {
        count = count.checked_add(1).ok_or(AUDIENCE)?;
        text8(bytes, name)?;
    }
    if !(1..=AUDIENCES_MAX).contains(&usize::from(count)) {
        return Err(AUDIENCE);
    }
    if let Some(first) = bytes.first_mut() {
        *first = count;
    }
    Ok(Audiences::written(bytes))
}

/// Gives the question at the front of `bytes` (one message, as [`request`] wrote it, without a demand) another id, and
/// a demand if `least` is one, and appends it to `out`. Returns how many bytes of `bytes` it took; 0 if there is no
/// whole message.
pub fn readdress(out: &mut Vec<u8>, bytes: &[u8], id: u32, least: Option<&Revision>) -> usize {
    let Some((&[low, high, kind, detail, ..], _)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return 0 };
    let length = usize::from(u16::from_le_bytes([low, high]));
    let Some(body) = bytes.get(HEADER_BYTES..length) else { return 0 };
    let start = out.len();
    let demands = if least.is_some() && kind <= kind::QUESTION_LAST { kind::AT_LEAST } else { 0 };
    begin(out, kind | demands, detail, id);
    if let (true, Some(least)) = (demands != 0, least) {
        revision(out, least);
    }
    out.extend_from_slice(body);
    seal(out, start);
    length
}

/// Appends any answer but an active one whose lists are still values (see [`active`]).
///
/// # Errors
/// [`TooLong`]; `out` is as it was.
pub fn answer(out: &mut Vec<u8>, id: u32, answer: &Answer<'_>) -> Result<(), TooLong> {
    let start = out.len();
    let written = write_answer(out, id, answer).and_then(|()| finish(out, start, 0));
    if written.is_err() {
        out.truncate(start);
    }
    written
}

fn write_answer(out: &mut Vec<u8>, id: u32, answer: &Answer<'_>) -> Result<(), TooLong> {
    match answer {
        Answer::Hello(hello) => {
            begin(out, kind::HELLO, hello.minor, id);
            out.extend_from_slice(&hello.epoch.0.to_le_bytes());
            out.extend_from_slice(&hello.sequence.0.to_le_bytes());
            out.extend_from_slice(&hello.in_flight_max.to_le_bytes());
            out.extend_from_slice(&hello.changes_in_flight_max.to_le_bytes());
            out.extend_from_slice(&hello.message_bytes_max.to_le_bytes());
            out.extend_from_slice(&hello.api_message_bytes_max.to_le_bytes());
            out.extend_from_slice(hello.server.as_bytes());
        }
        Answer::Checked { sequence, outcome } => {
            let code = match outcome {
                Outcome::Allowed => 0,
                Outcome::Denied(denial) => *denial as u8,
                Outcome::Inactive => 0xff,
            };
            begin_at(out, kind::CHECKED, code, id, *sequence);
        }
        Answer::Inactive { sequence } => begin_at(out, kind::INACTIVE, 0, id, *sequence),
        Answer::Active(token) => {
            active_head(out, id, &token.facts, token.more)?;
            out.extend_from_slice(token.items.bytes());
        }
        Answer::More { more, items } => {
            begin(out, kind::MORE, u8::from(*more), id);
            out.extend_from_slice(items.bytes());
        }
        Answer::Resolved { sequence, number } => {
            begin_at(out, kind::RESOLVED, u8::from(number.is_some()), id, *sequence);
            out.extend_from_slice(number.map(u32::to_le_bytes).as_ref().map_or(&[], |bytes| bytes));
        }
        Answer::Names { sequence, first, total, names } => {
            begin_at(out, kind::NAMES, *first, id, *sequence);
            out.extend_from_slice(&total.to_le_bytes());
            out.extend_from_slice(names.bytes());
        }
        Answer::Facts(told) => facts::write(out, id, &told.head, told.pairs)?,
        Answer::Done { sequence, handle, grant } => {
            let detail = u8::from(handle.is_some()) | u8::from(grant.is_some()) << 1;
            begin_at(out, kind::DONE, detail, id, *sequence);
            if let Some(handle) = handle {
                out.extend_from_slice(handle.key().as_bytes());
            }
            if let Some(grant) = grant {
                out.extend_from_slice(&grant.number().to_le_bytes());
            }
        }
        Answer::Api { sequence, status, more, body } => {
            begin_at(out, kind::API_ANSWER, u8::from(*more), id, *sequence);
            out.extend_from_slice(&status.to_le_bytes());
            out.extend_from_slice(body);
        }
        Answer::Error { sequence, code, text } => error(out, id, *sequence, *code, text),
        Answer::GoingAway { why, closes_in_ms } => {
            begin(out, kind::GOING_AWAY, *why as u8, id);
            out.extend_from_slice(&closes_in_ms.to_le_bytes());
        }
    }
    Ok(())
}

/// Appends the answer to a check. Sixteen bytes.
#[inline]
pub fn checked(out: &mut Vec<u8>, id: u32, sequence: Sequence, outcome: Outcome) {
    let code = match outcome {
        Outcome::Allowed => 0,
        Outcome::Denied(denial) => denial as u8,
        Outcome::Inactive => 0xff,
    };
    whole(out, kind::CHECKED, code, id, sequence);
}

/// Appends the answer to an introspection of a token that is not active. Sixteen bytes.
#[inline]
pub fn inactive(out: &mut Vec<u8>, id: u32, sequence: Sequence) {
    whole(out, kind::INACTIVE, 0, id, sequence);
}

/// Appends an error; a text beyond [`ERROR_TEXT_BYTES_MAX`] is cut at a character.
pub fn error(out: &mut Vec<u8>, id: u32, sequence: Sequence, code: ErrorCode, text: &str) {
    let start = out.len();
    let cut = (0..=text.len().min(ERROR_TEXT_BYTES_MAX)).rev().find(|end| text.is_char_boundary(*end));
    let text = text.get(..cut.unwrap_or(0)).unwrap_or_default();
    begin_at(out, kind::ERROR, code as u8, id, sequence);
    out.extend_from_slice(text.as_bytes());
    seal(out, start);
}

/// Appends an active answer with its lists, in as many messages as they need.
///
/// # Errors
/// [`TooLong`]: an id does not fit its field, which no id of the domain is long enough for; `out` is as it was.
pub fn active<'n>(
    out: &mut Vec<u8>,
    id: u32,
    token: &ActiveFacts<'_>,
    audience: impl Iterator<Item = &'n str>,
    places: impl Iterator<Item = (&'n str, ScopeMask)>,
) -> Result<(), TooLong> {
    let first = out.len();
    let mut start = first;
    let write = || {
        active_head(out, id, token, false)?;
        for name in audience {
            next_message_if(out, &mut start, id, 2 + name.len());
            out.push(ITEM_AUDIENCE);
            text8(out, name)?;
        }
        for (at, scopes) in places {
            next_message_if(out, &mut start, id, 3 + at.len() + MASK_BYTES_MAX);
            out.push(ITEM_PLACE);
            out.extend_from_slice(&u16::try_from(at.len()).map_err(|_| PLACE)?.to_le_bytes());
            place(out, at)?;
            mask(out, &scopes);
        }
        seal(out, start);
        Ok(())
    };
    let written = write();
    if written.is_err() {
        out.truncate(first);
    }
    written
}

/// Ends the message at `start` and begins its continuation there, if `bytes` more would make it too large.
fn next_message_if(out: &mut Vec<u8>, start: &mut usize, id: u32, bytes: usize) {
    if out.len() - *start + bytes <= MESSAGE_BYTES_MAX {
        return;
    }
    if let Some([_, _, kind, detail]) = out.get_mut(*start..*start + 4) {
        *detail |= if *kind == kind::ACTIVE { 0b100 } else { 1 };
    }
    seal(out, *start);
    *start = out.len();
    begin(out, kind::MORE, 0, id);
}

/// Appends scope names from position `first` on, as many as fit one message, as an answer to a catalogue question.
///
/// # Errors
/// [`TooLong`]: a name is none; `out` is as it was.
pub fn names<'n>(
    out: &mut Vec<u8>,
    id: u32,
    sequence: Sequence,
    first: u8,
    total: u16,
    names: impl Iterator<Item = (&'n str, bool)>,
) -> Result<(), TooLong> {
    let start = out.len();
    begin_at(out, kind::NAMES, first, id, sequence);
    out.extend_from_slice(&total.to_le_bytes());
    for (name, retired) in names {
        if out.len() - start + 1 + name.len() > MESSAGE_BYTES_MAX {
            break;
        }
        match scope_length(name) {
            Ok(length) => out.push(length | u8::from(retired) << 7),
            Err(too_long) => {
                out.truncate(start);
                return Err(too_long);
            }
        }
        out.extend_from_slice(name.as_bytes());
    }
    seal(out, start);
    Ok(())
}

fn active_head(out: &mut Vec<u8>, id: u32, token: &ActiveFacts<'_>, more: bool) -> Result<(), TooLong> {
    let detail = binding_method(token.binding.as_ref()) | u8::from(more) << 2;
    begin_at(out, kind::ACTIVE, detail, id, token.sequence);
    out.extend_from_slice(token.handle.key().as_bytes());
    out.extend_from_slice(&token.grant.number().to_le_bytes());
    times(out, token.times);
    mask(out, &token.everywhere);
    text8(out, token.subject)?;
    text8(out, token.client)?;
    binding(out, token.binding.as_ref())
}

/// A header whose length is not known yet.
#[inline]
pub(super) fn begin(out: &mut Vec<u8>, kind: u8, detail: u8, id: u32) {
    let [a, b, c, d] = id.to_le_bytes();
    out.extend_from_slice(&[0, 0, kind, detail, a, b, c, d]);
}

/// A header and the sequence of the answer.
pub(super) fn begin_at(out: &mut Vec<u8>, kind: u8, detail: u8, id: u32, sequence: Sequence) {
    begin(out, kind, detail, id);
    out.extend_from_slice(&sequence.0.to_le_bytes());
}

/// A whole message of sixteen bytes: header and sequence.
#[inline]
fn whole(out: &mut Vec<u8>, kind: u8, detail: u8, id: u32, sequence: Sequence) {
    let mut message = [16, 0, kind, detail, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    message[4..8].copy_from_slice(&id.to_le_bytes());
    message[8..].copy_from_slice(&sequence.0.to_le_bytes());
    out.extend_from_slice(&message);
}

/// Writes the length of the message at `start` into it; the message is known to fit.
pub(super) fn seal(out: &mut [u8], start: usize) {
    let length = out.len() - start;
    debug_assert!(length <= API_MESSAGE_BYTES_MAX, "a message of {length} bytes was written");
    if let Some(field) = out.get_mut(start..start + 2) {
        field.copy_from_slice(&(length as u16).to_le_bytes());
    }
}

/// Writes the length of the message at `start` into it, if its kind may be that long.
fn finish(out: &mut [u8], start: usize, kind: u8) -> Result<(), TooLong> {
    let most = if kind == kind::API { API_MESSAGE_BYTES_MAX } else { MESSAGE_BYTES_MAX };
    if out.len() - start > most {
        return Err(WHOLE);
    }
    seal(out, start);
    Ok(())
}

fn revision(out: &mut Vec<u8>, revision: &Revision) {
    out.extend_from_slice(&revision.epoch.0.to_le_bytes());
    out.extend_from_slice(&revision.sequence.0.to_le_bytes());
}

fn times(out: &mut Vec<u8>, times: TokenTimes) {
    out.extend_from_slice(&times.issued.raw().to_le_bytes());
    out.extend_from_slice(&times.not_before.raw().to_le_bytes());
    out.extend_from_slice(&Expiry::raw(times.expiry).to_le_bytes());
}

/// The most bytes a mask takes: its head and four words.
const MASK_BYTES_MAX: usize = 33;

pub(super) fn mask(out: &mut Vec<u8>, mask: &ScopeMask) {
    let words = mask.words();
    let used = words.iter().enumerate().fold(0, |used, (i, word)| used | u8::from(*word != 0) << i);
    out.push(used | u8::from(mask.has_wildcard()) << 7);
    for word in words.into_iter().filter(|word| *word != 0) {
        out.extend_from_slice(&word.to_le_bytes());
    }
}

fn binding_method(binding: Option<&Binding<'_>>) -> u8 {
    match binding {
        None => 0,
        Some(Binding::Certificate(_)) => 1,
        Some(Binding::DpopKey(_)) => 2,
        Some(Binding::Other(_)) => 3,
    }
}

fn binding(out: &mut Vec<u8>, binding: Option<&Binding<'_>>) -> Result<(), TooLong> {
    match binding {
        None => {}
        Some(Binding::Certificate(hash) | Binding::DpopKey(hash)) => out.extend_from_slice(hash),
        Some(Binding::Other(json)) if json.len() > CONFIRMATION_BYTES_MAX => return Err(CONFIRMATION),
        Some(Binding::Other(json)) => text16(out, json, CONFIRMATION)?,
    }
    Ok(())
}

fn registration_detail(registration: &Registration<'_>) -> u8 {
    binding_method(registration.binding.as_ref()) | u8::from(registration.audience.is_some()) << 2
}

fn scope_length(scope: &str) -> Result<u8, TooLong> {
    let fits = (1..=SCOPE_BYTES_MAX).contains(&scope.len());
    u8::try_from(scope.len()).ok().filter(|_| fits).ok_or(SCOPE)
}

fn place(out: &mut Vec<u8>, place: &str) -> Result<(), TooLong> {
    if !(1..=PLACE_BYTES_MAX).contains(&place.len()) {
        return Err(PLACE);
    }
    out.extend_from_slice(place.as_bytes());
    Ok(())
}

fn text8(out: &mut Vec<u8>, text: &str) -> Result<(), TooLong> {
    out.push(u8::try_from(text.len()).map_err(|_| ID)?);
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn text16(out: &mut Vec<u8>, text: &str, too_long: TooLong) -> Result<(), TooLong> {
    out.extend_from_slice(&u16::try_from(text.len()).map_err(|_| too_long)?.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
    Ok(())
}
