//! From bytes to messages: borrows, allocates nothing, never panics.
//!
//! Two steps. [`split`] cuts the next message off a buffer by its length alone; if that fails, nothing after it can be
//! understood ([`Broken`]) and the connection ends. [`request`] and [`answer`] then read one message; if that fails
//! ([`Malformed`]), that message gets an error and the stream goes on. No byte is left over and no reserved bit is
//! overlooked, so a message has exactly one meaning and a value exactly one spelling.

use crate::domain::place::PLACE_BYTES_MAX;
use crate::domain::scope::{SCOPE_BYTES_MAX, SCOPES_MAX};
use crate::domain::token::CONFIRMATION_BYTES_MAX;
use crate::domain::{
    Denial, Epoch, GrantId, Revision, ScopeMask, ScopePosition, Sequence, TokenDigest, TokenHandle, TokenKey,
};

use super::facts;
use super::message::{
    ActiveFacts, ActiveToken, Answer, Binding, Envelope, ErrorCode, Hello, Item, Leave, Method, Outcome, Registration,
    Request, Revocation, Wait, kind, times_from_raw,
};
use super::{API_MESSAGE_BYTES_MAX, AUDIENCES_MAX, ERROR_TEXT_BYTES_MAX, HEADER_BYTES, MESSAGE_BYTES_MAX};

/// A message that is whole, its body not yet looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raw<'b> {
    /// Its kind, [`kind::AT_LEAST`] included.
    pub kind: u8,
    /// What the kind makes of it.
    pub detail: u8,
    /// Its number.
    pub id: u32,
    /// Everything after the header.
    pub body: &'b [u8],
}

/// What stands at the front of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split<'b> {
    /// A whole message, and how many bytes it takes.
    Whole(Raw<'b>, usize),
    /// The beginning of one, or nothing.
    Partial,
}

/// Bytes that cannot be cut into messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A length smaller than the header it counts.
    #[error("a message claims to be {0} bytes long; the header alone has {HEADER_BYTES}")]
    TooShort(usize),
    /// A length beyond what the kind allows.
    #[error("a message of kind 0x{kind:02x} claims to be {length} bytes long; its kind allows {most}")]
    TooLarge {
        /// The kind.
        kind: u8,
        /// The length claimed.
        length: usize,
        /// The length allowed.
        most: usize,
    },
}

/// A message whose body is not what its kind demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No message this side can be sent has the kind.
    #[error("no message of kind 0x{0:02x} is known here")]
    Kind(u8),
    /// The body is wrong.
    #[error("{0}")]
    Body(&'static str),
}

pub(super) type Read<T> = Result<T, Malformed>;

pub(super) const fn bad<T>(what: &'static str) -> Read<T> {
    Err(Malformed::Body(what))
}

/// Cuts the first message off `bytes`.
///
/// # Errors
/// [`Broken`]: the length cannot be right, and nothing after it can be found.
#[inline]
pub fn split(bytes: &[u8]) -> Result<Split<'_>, Broken> {
    let Some((&[low, high], rest)) = bytes.split_first_chunk::<2>() else { return Ok(Split::Partial) };
    let length = usize::from(u16::from_le_bytes([low, high]));
    if length < HEADER_BYTES {
        return Err(Broken::TooShort(length));
    }
    let Some(&kind) = rest.first() else { return Ok(Split::Partial) };
    let most = if kind == kind::API { API_MESSAGE_BYTES_MAX } else { MESSAGE_BYTES_MAX };
    if length > most {
        return Err(Broken::TooLarge { kind, length, most });
    }
    let Some(message) = bytes.get(..length) else { return Ok(Split::Partial) };
    let Some((&[_, _, kind, detail, a, b, c, d], body)) = message.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(Split::Partial);
    };
    Ok(Split::Whole(Raw { kind, detail, id: u32::from_le_bytes([a, b, c, d]), body }, length))
}

/// The digest a question is about, without reading the rest of it: for computing keys ahead.
#[inline]
pub fn digest_of<'b>(raw: &Raw<'b>) -> Option<&'b [u8; 32]> {
    let skip_revision = if raw.kind & kind::AT_LEAST == 0 { 0 } else { 16 };
    let skip_place = match raw.kind & !kind::AT_LEAST {
        kind::INTROSPECT | kind::CHECK_NAMES | kind::FACTS => 0,
        kind::CHECK_NUMBERS => 4,
        _ => return None,
    };
    raw.body.get(skip_revision + skip_place..)?.first_chunk()
}

/// Reads a message that a client sent.
///
/// # Errors
/// [`Malformed`]; other messages on the stream are not affected.
#[inline]
pub fn request<'b>(raw: &Raw<'b>) -> Read<Envelope<'b>> {
    let mut body = Body(raw.body);
    let known = raw.kind & !kind::AT_LEAST;
    let mut least = None;
    if raw.kind != known {
        if !matches!(known, kind::INTROSPECT..=kind::QUESTION_LAST) {
            return Err(Malformed::Kind(raw.kind));
        }
        least = Some(Revision { epoch: Epoch(body.u64()?), sequence: Sequence(body.u64()?) });
    }
    let detail = raw.detail;
    let request = match known {
        kind::CHECK_NUMBERS => {
            Request::CheckNumbers { scope: ScopePosition::new(detail), place: body.u32()?, digest: body.digest()? }
        }
        kind::INTROSPECT => {
            zero(detail)?;
            let digest = body.digest()?;
            let place = if body.is_empty() { None } else { Some(place(body.rest())?) };
            Request::Introspect { digest, place }
        }
        kind::CHECK_NAMES => {
            let digest = body.digest()?;
            let scope = scope(body.take(usize::from(detail))?)?;
            Request::CheckNames { digest, scope, place: place(body.rest())? }
        }
        kind::RESOLVE => match detail {
            0 => Request::ResolveScope(scope(body.rest())?),
            1 => Request::ResolvePlace(place(body.rest())?),
            _ => return bad("the detail of a resolve is 0 (scope) or 1 (place)"),
        },
        kind::CATALOGUE => Request::Catalogue { from: detail },
        kind::FACTS => {
            zero(detail)?;
            Request::Facts { digest: body.digest()?, place: place(body.rest())? }
        }
        kind::REGISTER => Request::Register(registration(detail, &mut body)?),
        kind::REVOKE => {
            let Some(wait) = Wait::ALL.into_iter().find(|wait| *wait as u8 == detail >> 2) else {
                return bad("what a revoke waits for is 0 (applied), 1 (durable) or 2 (fenced)");
            };
            let what = match detail & 0b11 {
                0 => Revocation::Digest(body.digest()?),
                1 => Revocation::Handle(body.handle()?),
                2 => Revocation::Grant(body.grant()?),
                _ => return bad("the target of a revoke is 0 (digest), 1 (handle) or 2 (grant)"),
            };
            Request::Revoke(what, wait)
        }
        kind::API => {
            let method = Method::ALL.into_iter().find(|method| *method as u8 == detail);
            let Some(method) = method else { return bad("the detail of an API request is a method, 1 to 5") };
            let path = body.text16()?;
            if !path.starts_with('/') {
                return bad("the path of an API request begins with a slash");
            }
            Request::Api { method, path, body: body.rest() }
        }
        _ => return Err(Malformed::Kind(raw.kind)),
    };
    body.end()?;
    Ok(Envelope { id: raw.id, least, request })
}

fn registration<'b>(detail: u8, body: &mut Body<'b>) -> Read<Registration<'b>> {
    if detail > 0b111 {
        return bad("reserved bits are set in the detail of a registration");
    }
    let digest = body.digest()?;
    let grant = body.grant()?;
    let times = times_from_raw(body.u32()?, body.u32()?, body.u32()?);
    let binding = body.binding(detail & 0b11)?;
    let audience = if detail & 0b100 == 0 { None } else { Some(Audiences::read(body)?) };
    Ok(Registration { digest, grant, times, binding, audience })
}

/// Reads a message that a server sent.
///
/// # Errors
/// [`Malformed`]: what it answers has no answer.
pub fn answer<'b>(raw: &Raw<'b>) -> Read<Answer<'b>> {
    let mut body = Body(raw.body);
    let detail = raw.detail;
    let answer = match raw.kind {
        kind::CHECKED => {
            let outcome = match detail {
                0 => Outcome::Allowed,
                0xff => Outcome::Inactive,
                code => match Denial::from_code(code) {
                    Some(denial) => Outcome::Denied(denial),
                    None => return bad("an outcome that is not known"),
                },
            };
            Answer::Checked { sequence: body.sequence()?, outcome }
        }
        kind::INACTIVE => {
            zero(detail)?;
            Answer::Inactive { sequence: body.sequence()? }
        }
        kind::ACTIVE => active(detail, &mut body)?,
        kind::MORE => Answer::More { more: flag(detail)?, items: Items::read(body.rest())? },
        kind::HELLO => Answer::Hello(Hello {
            minor: detail,
            epoch: Epoch(body.u64()?),
            sequence: body.sequence()?,
            in_flight_max: body.u32()?,
            changes_in_flight_max: body.u32()?,
            message_bytes_max: body.u32()?,
            api_message_bytes_max: body.u32()?,
            server: text(body.rest())?,
        }),
        kind::RESOLVED => {
            let known = flag(detail)?;
            let sequence = body.sequence()?;
            Answer::Resolved { sequence, number: if known { Some(body.u32()?) } else { None } }
        }
        kind::NAMES => {
            let sequence = body.sequence()?;
            let total = body.u16()?;
            let names = Names::read(body.rest())?;
            // A question may begin beyond the last one; then there are none.
            let end = names.count().checked_sub(1).map_or(0, |last| usize::from(detail) + last + 1);
            if end > usize::from(total) || usize::from(total) > SCOPES_MAX {
                return bad("more scope names than positions");
            }
            Answer::Names { sequence, first: detail, total, names }
        }
        kind::FACTS_ANSWER => {
            zero(detail)?;
            Answer::Facts(facts::read(&mut body)?)
        }
        kind::DONE => {
            if detail > 0b11 {
                return bad("reserved bits are set in the detail of a receipt");
            }
            let sequence = body.sequence()?;
            let handle = if detail & 0b01 == 0 { None } else { Some(body.handle()?) };
            let grant = if detail & 0b10 == 0 { None } else { Some(body.grant()?) };
            Answer::Done { sequence, handle, grant }
        }
        kind::API_ANSWER => {
            let more = flag(detail)?;
            Answer::Api { sequence: body.sequence()?, status: body.u16()?, more, body: body.rest() }
        }
        kind::ERROR => {
            let Some(code) = ErrorCode::from_code(detail) else { return bad("an error code that is not known") };
            let sequence = body.sequence()?;
            if body.0.len() > ERROR_TEXT_BYTES_MAX {
                return bad("the text of an error has at most 512 bytes");
            }
            Answer::Error { sequence, code, text: text(body.rest())? }
        }
        kind::GOING_AWAY => {
            let Some(why) = Leave::ALL.into_iter().find(|why| *why as u8 == detail) else {
                return bad("a reason to leave that is not known");
            };
            Answer::GoingAway { why, closes_in_ms: body.u32()? }
        }
        other => return Err(Malformed::Kind(other)),
    };
    body.end()?;
    Ok(answer)
}

fn active<'b>(detail: u8, body: &mut Body<'b>) -> Read<Answer<'b>> {
    if detail > 0b111 {
        return bad("reserved bits are set in the detail of an active answer");
    }
    let facts = ActiveFacts {
        sequence: body.sequence()?,
        handle: body.handle()?,
        grant: body.grant()?,
        times: times_from_raw(body.u32()?, body.u32()?, body.u32()?),
        everywhere: body.mask()?,
        subject: body.text8()?,
        client: body.text8()?,
        binding: body.binding(detail & 0b11)?,
    };
    let items = Items::read(body.rest())?;
    Ok(Answer::Active(ActiveToken { facts, more: detail & 0b100 != 0, items }))
}

pub(super) fn zero(detail: u8) -> Read<()> {
    if detail == 0 { Ok(()) } else { bad("the detail of this kind is 0") }
}

pub(super) fn flag(detail: u8) -> Read<bool> {
    match detail {
        0 => Ok(false),
        1 => Ok(true),
        _ => bad("the detail of this kind is 0 or 1"),
    }
}

fn text(bytes: &[u8]) -> Read<&str> {
    str::from_utf8(bytes).or(bad("a text is not UTF-8"))
}

fn place(bytes: &[u8]) -> Read<&str> {
    if !(1..=PLACE_BYTES_MAX).contains(&bytes.len()) {
        return bad("a place has 1 to 257 bytes");
    }
    text(bytes)
}

fn scope(bytes: &[u8]) -> Read<&str> {
    if !(1..=SCOPE_BYTES_MAX).contains(&bytes.len()) {
        return bad("a scope name has 1 to 96 bytes");
    }
    text(bytes)
}

/// What is left to read of a body.
#[derive(Clone, Copy)]
pub(super) struct Body<'b>(pub(super) &'b [u8]);

impl<'b> Body<'b> {
    fn take(&mut self, bytes: usize) -> Read<&'b [u8]> {
        let Some((taken, rest)) = self.0.split_at_checked(bytes) else { return bad("the message ends too early") };
        self.0 = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Read<&'b [u8; N]> {
        let Some((taken, rest)) = self.0.split_first_chunk() else { return bad("the message ends too early") };
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn u8(&mut self) -> Read<u8> {
        self.array::<1>().map(|[byte]| *byte)
    }

    fn u16(&mut self) -> Read<u16> {
        self.array().map(|bytes| u16::from_le_bytes(*bytes))
    }

    pub(super) fn u32(&mut self) -> Read<u32> {
        self.array().map(|bytes| u32::from_le_bytes(*bytes))
    }

    pub(super) fn u64(&mut self) -> Read<u64> {
        self.array().map(|bytes| u64::from_le_bytes(*bytes))
    }

    pub(super) fn sequence(&mut self) -> Read<Sequence> {
        self.u64().map(Sequence)
    }

    fn digest(&mut self) -> Read<TokenDigest> {
        self.array().map(|bytes| TokenDigest::from_bytes(*bytes))
    }

    fn handle(&mut self) -> Read<TokenHandle> {
        self.array().map(|bytes| TokenKey::from_bytes(*bytes).handle())
    }

    fn grant(&mut self) -> Read<GrantId> {
        match GrantId::new(self.u32()?) {
            Some(grant) => Ok(grant),
            None => bad("a grant's number is 1 to 2147483647"),
        }
    }

    fn text8(&mut self) -> Read<&'b str> {
        let length = self.u8()?;
        text(self.take(usize::from(length))?)
    }

    fn text16(&mut self) -> Read<&'b str> {
        let length = self.u16()?;
        text(self.take(usize::from(length))?)
    }

    pub(super) fn mask(&mut self) -> Read<ScopeMask> {
        let head = self.u8()?;
        if head & 0b0111_0000 != 0 {
            return bad("reserved bits are set in a scope mask");
        }
        let mut words = [0; SCOPES_MAX / 64];
        for (i, word) in words.iter_mut().enumerate() {
            if head >> i & 1 == 1 {
                *word = self.u64()?;
                if *word == 0 {
                    return bad("an empty word is written in a scope mask");
                }
            }
        }
        Ok(ScopeMask::from_words(words, head & 0x80 != 0))
    }

    fn binding(&mut self, method: u8) -> Read<Option<Binding<'b>>> {
        Ok(match method {
            0 => None,
            1 => Some(Binding::Certificate(*self.array()?)),
            2 => Some(Binding::DpopKey(*self.array()?)),
            _ => {
                let json = self.text16()?;
                if json.len() > CONFIRMATION_BYTES_MAX {
                    return bad("a confirmation value has at most 1024 bytes");
                }
                Some(Binding::Other(json))
            }
        })
    }

    pub(super) fn rest(&mut self) -> &'b [u8] {
        std::mem::take(&mut self.0)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn end(&self) -> Read<()> {
        if self.0.is_empty() { Ok(()) } else { bad("bytes are left over after the message") }
    }
}

/// The resource servers of a registration: a count, then texts. Checked when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Audiences<'b>(&'b [u8]);

impl<'b> Audiences<'b> {
    fn read(body: &mut Body<'b>) -> Read<Self> {
        let whole = body.0;
        let count = usize::from(body.u8()?);
        if !(1..=AUDIENCES_MAX).contains(&count) {
            return bad("an audience list has 1 to 64 entries");
        }
        for _ in 0..count {
            body.text8()?;
        }
        let used = whole.len() - body.0.len();
        Ok(Self(whole.get(..used).unwrap_or_default()))
    }

    /// The list in these bytes, which [`super::encode::audiences`] wrote.
    pub(super) fn written(bytes: &'b [u8]) -> Self {
        Self(bytes)
    }

    /// As it stands in the message.
    pub(super) fn bytes(&self) -> &'b [u8] {
        self.0
    }

    /// The names.
    pub fn iter(&self) -> impl Iterator<Item = &'b str> + use<'b> {
        let mut body = Body(self.0.get(1..).unwrap_or_default());
        std::iter::from_fn(move || if body.is_empty() { None } else { body.text8().ok() })
    }
}

/// The lists of an active token. Checked when they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Items<'b>(&'b [u8]);

/// Marks an audience in the lists of an active token.
pub(super) const ITEM_AUDIENCE: u8 = 1;
/// Marks a place in the lists of an active token.
pub(super) const ITEM_PLACE: u8 = 2;

impl<'b> Items<'b> {
    fn read(bytes: &'b [u8]) -> Read<Self> {
        let mut body = Body(bytes);
        while !body.is_empty() {
            Self::item(&mut body)?;
        }
        Ok(Self(bytes))
    }

    fn item(body: &mut Body<'b>) -> Read<Item<'b>> {
        match body.u8()? {
            ITEM_AUDIENCE => Ok(Item::Audience(body.text8()?)),
            ITEM_PLACE => {
                let length = body.u16()?;
                Ok(Item::Place(place(body.take(usize::from(length))?)?, body.mask()?))
            }
            _ => bad("an item of a kind that is not known"),
        }
    }

    /// As they stand in the message.
    pub(super) fn bytes(&self) -> &'b [u8] {
        self.0
    }

    /// The lists in these bytes, which the encoder wrote.
    #[cfg(test)]
    pub(super) fn written(bytes: &'b [u8]) -> Self {
        Self(bytes)
    }
}

impl<'b> Iterator for Items<'b> {
    type Item = Item<'b>;

    fn next(&mut self) -> Option<Item<'b>> {
        if self.0.is_empty() {
            return None;
        }
        let mut body = Body(self.0);
        let item = Self::item(&mut body).ok();
        self.0 = body.0;
        item
    }
}

/// Scope names in the order of their positions: the name, and whether it is withdrawn. Checked when they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names<'b>(&'b [u8]);

impl<'b> Names<'b> {
    fn read(bytes: &'b [u8]) -> Read<Self> {
        let mut body = Body(bytes);
        while !body.is_empty() {
            Self::name(&mut body)?;
        }
        Ok(Self(bytes))
    }

    fn name(body: &mut Body<'b>) -> Read<(&'b str, bool)> {
        let head = body.u8()?;
        Ok((scope(body.take(usize::from(head & 0x7f))?)?, head & 0x80 != 0))
    }

    /// As they stand in the message.
    pub(super) fn bytes(&self) -> &'b [u8] {
        self.0
    }

    /// The names in these bytes, which the encoder wrote.
    #[cfg(test)]
    pub(super) fn written(bytes: &'b [u8]) -> Self {
        Self(bytes)
    }
}

impl<'b> Iterator for Names<'b> {
    type Item = (&'b str, bool);

    fn next(&mut self) -> Option<(&'b str, bool)> {
        if self.0.is_empty() {
            return None;
        }
        let mut body = Body(self.0);
        let name = Self::name(&mut body).ok();
        self.0 = body.0;
        name
    }
}
