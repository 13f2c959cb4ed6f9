//! Entries as bytes, and back: pure, bounded, never panicking. `FORMAT.md` draws every byte.
//!
//! Promises: [`decode`] takes any bytes and gives an entry or an error; what [`encode`] wrote comes back exactly equal;
//! and one entry has one form ([`decode`] refuses every other). It knows nothing of MACs, rows or files: whether bytes
//! are to be believed is settled before they come here (`row.rs`).

pub use super::fields::{ENTRY_BYTES_MAX, Malformed, TooLong};
pub use super::kind::Kind;

use super::fields::{Reader, Writer};
use crate::domain::token::CONFIRMATION_BYTES_MAX;
use crate::domain::{
    Among, CallerId, Change, ClientId, Confirmation, Entry, Expiry, NewGrant, NewToken, PolicyEntry, PolicyMode,
    Sequence, SubjectId, Target, Timestamp, TokenKey, TokenTimes, WorkspaceId,
};

/// The version of an entry's layout: the byte after its length.
pub const VERSION: u8 = 1;

/// Everything before the change, with the longest caller.
const HEADER_BYTES_MAX: usize = 4 + 1 + 1 + 8 + 4 + 1 + 128;

/// Appends the entry's bytes, its length first, to `bytes`.
///
/// # Errors
/// Something in it is longer than its field; `bytes` is then as it was.
pub fn encode(entry: &Entry, bytes: &mut Vec<u8>) -> Result<(), TooLong> {
    let start = bytes.len();
    let written = write(entry, bytes).and_then(|()| {
        let length = bytes.len() - start;
        if length > ENTRY_BYTES_MAX {
            return Err(TooLong { what: "an entry", length, max: ENTRY_BYTES_MAX });
        }
        if let (Some(field), Ok(length)) = (bytes.get_mut(start..start + 4), u32::try_from(length - 4)) {
            field.copy_from_slice(&length.to_le_bytes());
        }
        Ok(())
    });
    if written.is_err() {
        bytes.truncate(start);
    }
    written
}

/// Whether a change can be written down, whatever its place and its caller. For whoever admits changes: one that does
/// not fit fails the whole batch it is in.
///
/// # Errors
/// What is too long in it.
pub fn fits(change: &Change) -> Result<(), TooLong> {
    let mut bytes = Vec::new();
    write_change(change, &mut Writer(&mut bytes))?;
    let (length, max) = (bytes.len(), ENTRY_BYTES_MAX - HEADER_BYTES_MAX);
    if length > max { Err(TooLong { what: "a change", length, max }) } else { Ok(()) }
}

/// The entry with exactly these bytes, its length first.
///
/// # Errors
/// [`Malformed`] says what is wrong and where.
pub fn decode(bytes: &[u8]) -> Result<Entry, Malformed> {
    let mut from = Reader::new(bytes);
    let length = from.u32()?;
    if bytes.len() > ENTRY_BYTES_MAX || usize::try_from(length) != Ok(from.left()) {
        return Err(from.malformed("a length that is not the entry's"));
    }
    if from.u8()? != VERSION {
        return Err(from.malformed("an entry of a version this program does not know"));
    }
    let number = from.u8()?;
    let kind = Kind::from_number(number).ok_or_else(|| from.malformed("a kind of change that does not exist"))?;
    let sequence = Sequence(from.u64()?);
    let at = Timestamp::from_raw(from.u32()?);
    let by = from.id(CallerId::parse)?;
    let change = read_change(kind, &mut from)?;
    if from.left() != 0 {
        return Err(from.malformed("bytes after the end of the change"));
    }
    Ok(Entry { sequence, at, by, change })
}

fn write(entry: &Entry, bytes: &mut Vec<u8>) -> Result<(), TooLong> {
    let to = &mut Writer(bytes);
    to.u32(0); // the length, once it is known
    to.u8(VERSION);
    to.u8(Kind::of(&entry.change) as u8);
    to.u64(entry.sequence.0);
    to.u32(entry.at.raw());
    to.id(entry.by.as_str())?;
    write_change(&entry.change, to)
}

fn write_change(change: &Change, to: &mut Writer<'_>) -> Result<(), TooLong> {
    match change {
        Change::RegisterClient(client) => to.id(client.as_str()),
        Change::SwitchClient(client, switch) => {
            to.switch(*switch);
            to.id(client.as_str())
        }
        Change::SwitchSubject(subject, switch) => {
            to.switch(*switch);
            to.id(subject.as_str())
        }
        Change::AddScope(name) | Change::RetireScope(name) => to.scope(name),
        Change::AliasScope(alias, of) => {
            to.scope(alias)?;
            to.scope(of)
        }
        Change::AddMember(subject, place) | Change::RemoveMember(subject, place) => {
            to.id(subject.as_str())?;
            to.place(place)
        }
        Change::SetPolicyMode(workspace, mode) => {
            to.u8(match mode {
                PolicyMode::AllowAll => 0,
                PolicyMode::ApprovalRequired => 1,
            });
            to.id(workspace.as_str())
        }
        Change::SwitchPersonal(workspace, switch) => {
            to.switch(*switch);
            to.id(workspace.as_str())
        }
        Change::SetPolicyEntry(workspace, client, line) => {
            to.u8(match line {
                PolicyEntry::Block => 0,
                PolicyEntry::Unblock => 1,
                PolicyEntry::Approve => 2,
                PolicyEntry::Unapprove => 3,
            });
            to.id(workspace.as_str())?;
            to.id(client.as_str())
        }
        Change::MakeGrant(grant) => write_grant(grant, to),
        Change::NarrowGrant(grant, access) | Change::ExtendGrant(grant, access) => {
            to.grant(*grant);
            to.access(access)
        }
        Change::RegisterToken(token) => write_token(token, to),
        Change::Revoke(target) => write_target(target, to),
        Change::ImportMark { source, lines, first_grant, grants } => {
            to.bytes(source);
            to.u64(*lines);
            to.u32(*first_grant);
            to.u32(*grants);
            Ok(())
        }
    }
}

fn read_change(kind: Kind, from: &mut Reader<'_>) -> Result<Change, Malformed> {
    Ok(match kind {
        Kind::RegisterClient => Change::RegisterClient(from.id(ClientId::parse)?),
        Kind::SwitchClient => {
            let switch = from.switch()?;
            Change::SwitchClient(from.id(ClientId::parse)?, switch)
        }
        Kind::SwitchSubject => {
            let switch = from.switch()?;
            Change::SwitchSubject(from.id(SubjectId::parse)?, switch)
        }
        Kind::AddScope => Change::AddScope(from.scope()?),
        Kind::AliasScope => Change::AliasScope(from.scope()?, from.scope()?),
        Kind::RetireScope => Change::RetireScope(from.scope()?),
        Kind::AddMember => Change::AddMember(from.id(SubjectId::parse)?, from.place()?),
        Kind::RemoveMember => Change::RemoveMember(from.id(SubjectId::parse)?, from.place()?),
        Kind::SetPolicyMode => {
            let mode = match from.u8()? {
                0 => PolicyMode::AllowAll,
                1 => PolicyMode::ApprovalRequired,
                _ => return Err(from.malformed("a policy mode that does not exist")),
            };
            Change::SetPolicyMode(from.id(WorkspaceId::parse)?, mode)
        }
        Kind::SwitchPersonal => {
            let switch = from.switch()?;
            Change::SwitchPersonal(from.id(WorkspaceId::parse)?, switch)
        }
        Kind::SetPolicyEntry => {
            let line = match from.u8()? {
                0 => PolicyEntry::Block,
                1 => PolicyEntry::Unblock,
                2 => PolicyEntry::Approve,
                3 => PolicyEntry::Unapprove,
                _ => return Err(from.malformed("a policy entry that does not exist")),
            };
            Change::SetPolicyEntry(from.id(WorkspaceId::parse)?, from.id(ClientId::parse)?, line)
        }
        Kind::MakeGrant => Change::MakeGrant(read_grant(from)?),
        Kind::NarrowGrant => Change::NarrowGrant(from.grant()?, from.access()?),
        Kind::ExtendGrant => Change::ExtendGrant(from.grant()?, from.access()?),
        Kind::RegisterToken => Change::RegisterToken(read_token(from)?),
        Kind::Revoke => Change::Revoke(read_target(from)?),
        Kind::ImportMark => Change::ImportMark {
            source: from.array()?,
            lines: from.u64()?,
            first_grant: from.u32()?,
            grants: from.u32()?,
        },
    })
}

/// Bits of the first byte of a grant and of a token.
const NEVER_ENDS: u8 = 0b0000_0001;
const HAS_AUDIENCE: u8 = 0b0000_0010;
const IS_NARROWED: u8 = 0b0000_0100;
const CONFIRMATION: u8 = 0b0001_1000;
const CONFIRMATION_CERTIFICATE: u8 = 0b0000_1000;
const CONFIRMATION_DPOP_KEY: u8 = 0b0001_0000;
const CONFIRMATION_OTHER: u8 = 0b0001_1000;

fn write_grant(grant: &NewGrant, to: &mut Writer<'_>) -> Result<(), TooLong> {
    let NewGrant { id, subject, client, access, expiry, audience } = grant;
    to.u8(if *expiry == Expiry::Never { NEVER_ENDS } else { 0 });
    to.grant(*id);
    if let Expiry::At(end) = expiry {
        to.u32(end.raw());
    }
    to.id(subject.as_str())?;
    to.id(client.as_str())?;
    to.audience(audience)?;
    to.access(access)
}

fn read_grant(from: &mut Reader<'_>) -> Result<NewGrant, Malformed> {
    let flags = from.u8()?;
    if flags & !NEVER_ENDS != 0 {
        return Err(from.malformed("a grant with flags that do not exist"));
    }
    let id = from.grant()?;
    let expiry = read_expiry(flags, from)?;
    Ok(NewGrant {
        id,
        subject: from.id(SubjectId::parse)?,
        client: from.id(ClientId::parse)?,
        audience: from.audience()?,
        access: from.access()?,
        expiry,
    })
}

fn write_token(token: &NewToken, to: &mut Writer<'_>) -> Result<(), TooLong> {
    let NewToken { key, grant, times, audience, confirmation, narrowed } = token;
    let flags = [
        (times.expiry == Expiry::Never, NEVER_ENDS),
        (audience.is_some(), HAS_AUDIENCE),
        (narrowed.is_some(), IS_NARROWED),
        (matches!(confirmation, Some(Confirmation::Certificate(_))), CONFIRMATION_CERTIFICATE),
        (matches!(confirmation, Some(Confirmation::DpopKey(_))), CONFIRMATION_DPOP_KEY),
        (matches!(confirmation, Some(Confirmation::Other(_))), CONFIRMATION_OTHER),
    ];
    to.u8(flags.into_iter().filter(|(holds, _)| *holds).fold(0, |flags, (_, bits)| flags | bits));
    to.bytes(key.as_bytes());
    to.grant(*grant);
    to.u32(times.issued.raw());
    to.u32(times.not_before.raw());
    if let Expiry::At(end) = times.expiry {
        to.u32(end.raw());
    }
    if let Some(audience) = audience {
        to.audience(audience)?;
    }
    match confirmation {
        None => {}
        Some(Confirmation::Certificate(hash) | Confirmation::DpopKey(hash)) => to.bytes(hash),
        Some(Confirmation::Other(json)) => to.long_text("a confirmation", json, CONFIRMATION_BYTES_MAX)?,
    }
    narrowed.as_ref().map_or(Ok(()), |access| to.access(access))
}

fn read_token(from: &mut Reader<'_>) -> Result<NewToken, Malformed> {
    let flags = from.u8()?;
    if flags & !(NEVER_ENDS | HAS_AUDIENCE | IS_NARROWED | CONFIRMATION) != 0 {
        return Err(from.malformed("a token with flags that do not exist"));
    }
    let key = TokenKey::from_bytes(from.array()?);
    let grant = from.grant()?;
    let issued = Timestamp::from_raw(from.u32()?);
    let not_before = Timestamp::from_raw(from.u32()?);
    let expiry = read_expiry(flags, from)?;
    let audience = if flags & HAS_AUDIENCE != 0 { Some(from.audience()?) } else { None };
    let confirmation = match flags & CONFIRMATION {
        CONFIRMATION_CERTIFICATE => Some(Confirmation::Certificate(from.array()?)),
        CONFIRMATION_DPOP_KEY => Some(Confirmation::DpopKey(from.array()?)),
        CONFIRMATION_OTHER => Some(Confirmation::Other(from.long_text(CONFIRMATION_BYTES_MAX)?.into())),
        _ => None,
    };
    let narrowed = if flags & IS_NARROWED != 0 { Some(from.access()?) } else { None };
    Ok(NewToken { key, grant, times: TokenTimes { issued, not_before, expiry }, audience, confirmation, narrowed })
}

fn read_expiry(flags: u8, from: &mut Reader<'_>) -> Result<Expiry, Malformed> {
    if flags & NEVER_ENDS != 0 { Ok(Expiry::Never) } else { Ok(Expiry::At(Timestamp::from_raw(from.u32()?))) }
}

fn write_target(target: &Target, to: &mut Writer<'_>) -> Result<(), TooLong> {
    to.u8(match target {
        Target::Token(_) => 1,
        Target::Grant(_) => 2,
        Target::SubjectClient(..) => 3,
        Target::Subject(_) => 4,
        Target::Client(_) => 5,
        Target::WorkspaceClient(..) => 6,
        Target::IssuedBefore(_, Among::All) => 7,
        Target::IssuedBefore(_, Among::Subject(_)) => 8,
        Target::IssuedBefore(_, Among::Client(_)) => 9,
        Target::IssuedBefore(_, Among::Grant(_)) => 10,
    });
    match target {
        Target::Token(key) => to.bytes(key.as_bytes()),
        Target::Grant(grant) => to.grant(*grant),
        Target::SubjectClient(subject, client) => {
            to.id(subject.as_str())?;
            to.id(client.as_str())?;
        }
        Target::Subject(subject) => to.id(subject.as_str())?,
        Target::Client(client) => to.id(client.as_str())?,
        Target::WorkspaceClient(workspace, client) => {
            to.id(workspace.as_str())?;
            to.id(client.as_str())?;
        }
        Target::IssuedBefore(before, among) => {
            to.u32(before.raw());
            match among {
                Among::All => {}
                Among::Subject(subject) => to.id(subject.as_str())?,
                Among::Client(client) => to.id(client.as_str())?,
                Among::Grant(grant) => to.grant(*grant),
            }
        }
    }
    Ok(())
}

fn read_target(from: &mut Reader<'_>) -> Result<Target, Malformed> {
    let number = from.u8()?;
    let among = match number {
        1 => return Ok(Target::Token(TokenKey::from_bytes(from.array()?))),
        2 => return Ok(Target::Grant(from.grant()?)),
        3 => return Ok(Target::SubjectClient(from.id(SubjectId::parse)?, from.id(ClientId::parse)?)),
        4 => return Ok(Target::Subject(from.id(SubjectId::parse)?)),
        5 => return Ok(Target::Client(from.id(ClientId::parse)?)),
        6 => return Ok(Target::WorkspaceClient(from.id(WorkspaceId::parse)?, from.id(ClientId::parse)?)),
        7..=10 => number,
        _ => return Err(from.malformed("a revocation of a kind that does not exist")),
    };
    let before = Timestamp::from_raw(from.u32()?);
    let among = match among {
        8 => Among::Subject(from.id(SubjectId::parse)?),
        9 => Among::Client(from.id(ClientId::parse)?),
        10 => Among::Grant(from.grant()?),
        _ => Among::All,
    };
    Ok(Target::IssuedBefore(before, among))
}
