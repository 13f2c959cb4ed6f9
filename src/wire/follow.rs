//! What goes over a feed's stream: a follower follows, renews and acknowledges; the server announces which tags were
//! touched, gives leases, and says when to start over.
//!
//! *Hello*, errors and *going away* are the same on every stream; `decode::answer` reads them. Section 7 of `PROTOCOL.md`
//! draws the messages and says what each side may believe.

use crate::domain::{Epoch, Revision, Sequence};

use super::decode::{Body, Raw, Read, bad, flag, zero};
use super::encode::{begin, begin_at, seal};
use super::message::kind;
use super::{HEADER_BYTES, MESSAGE_BYTES_MAX, Malformed};

/// The most tags one announcement holds.
pub const ANNOUNCED_TAGS_MAX: usize = (MESSAGE_BYTES_MAX - HEADER_BYTES - 16) / 8;

/// What a follower says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follower {
    /// Its first message: read the list to me.
    Follow {
        /// Chosen by the client; the answer carries it.
        id: u32,
        /// The lease it wants, in milliseconds; 0: whatever the server gives.
        lease_ms: u32,
        /// Where it stood, if it was there before.
        resume: Option<Resume>,
    },
    /// A lease, please.
    Renew {
        /// Chosen by the client; the lease carries it.
        id: u32,
        /// Everything up to here was applied; 0: nothing yet.
        acknowledged: Sequence,
    },
    /// Everything up to here was applied.
    Acknowledge {
        /// The last sequence the server told and the follower applied.
        sequence: Sequence,
    },
}

/// Where a follower stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resume {
    /// Everything up to here was applied.
    pub revision: Revision,
    /// The server's start it followed.
    pub incarnation: u64,
}

/// What a server says to a follower, beside *hello*, errors and *going away*.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced<'b> {
    /// The answer to [`Follower::Follow`]. It is no lease.
    Following {
        /// The id of the follow.
        id: u32,
        /// Whether the follower goes on where it stood; otherwise it forgets everything.
        resumed: bool,
        /// This start of the server.
        incarnation: u64,
        /// Where the follower stands now.
        sequence: Sequence,
        /// How long leases are, in milliseconds.
        lease_ms: u32,
        /// The server's wall clock, in milliseconds since 1970.
        server_time_ms: u64,
    },
    /// What was touched between two places of the list.
    Touched {
        /// What the message before told. Anything else is a gap: the follower forgets everything.
        previous: Sequence,
        /// Where the follower stands now.
        sequence: Sequence,
        /// What was touched after `previous`, up to `sequence`.
        touched: Touched<'b>,
    },
    /// A lease, counted from when the follower sent its renewal.
    Lease {
        /// The id of the renewal.
        id: u32,
        /// What the message before told. Anything else is a gap.
        previous: Sequence,
        /// Where the follower stands now; nothing between was touched.
        sequence: Sequence,
        /// How long it is, in milliseconds.
        lease_ms: u32,
        /// The server's wall clock, in milliseconds since 1970.
        server_time_ms: u64,
    },
    /// Forget everything, and go on from here.
    StartOver {
        /// Where the follower stands now.
        sequence: Sequence,
    },
}

/// What an announcement touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touched<'b> {
    /// Everything a follower may hold.
    Everything,
    /// What depends on these tags. May be empty.
    Tags(Tags<'b>),
}

/// The tags of an announcement, as they stand in the message; one may stand there twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tags<'b>(&'b [[u8; 8]]);

impl<'b> Tags<'b> {
    fn read(bytes: &'b [u8]) -> Read<Self> {
        match bytes.as_chunks() {
            (tags, []) => Ok(Self(tags)),
            _ => bad("a tag has 8 bytes"),
        }
    }

    /// The tags in these bytes, which the encoder wrote.
    #[cfg(test)]
    pub(super) fn written(bytes: &'b [u8]) -> Self {
        Self(bytes.as_chunks().0)
    }
}

impl Iterator for Tags<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*first))
    }
}

/// Reads what a follower sent.
///
/// # Errors
/// [`Malformed`]: the stream is of no use any more, because what follows leans on what was said before.
pub fn read_follower(raw: &Raw<'_>) -> Result<Follower, Malformed> {
    let mut body = Body(raw.body);
    let id = raw.id;
    let said = match raw.kind {
        kind::FOLLOW => {
            let resumes = flag(raw.detail)?;
            let lease_ms = body.u32()?;
            let resume = if resumes {
                let epoch = Epoch(body.u64()?);
                let incarnation = body.u64()?;
                Some(Resume { revision: Revision { epoch, sequence: body.sequence()? }, incarnation })
            } else {
                None
            };
            Follower::Follow { id, lease_ms, resume }
        }
        kind::RENEW => {
            zero(raw.detail)?;
            Follower::Renew { id, acknowledged: body.sequence()? }
        }
        kind::ACKNOWLEDGE => {
            zero(raw.detail)?;
            no_id(id)?;
            Follower::Acknowledge { sequence: body.sequence()? }
        }
        other => return Err(Malformed::Kind(other)),
    };
    body.end()?;
    Ok(said)
}

/// Reads what a server sent to a follower.
///
/// # Errors
/// [`Malformed`]: nothing may be believed any more; the follower forgets everything and follows anew.
pub fn read_announced<'b>(raw: &Raw<'b>) -> Result<Announced<'b>, Malformed> {
    let mut body = Body(raw.body);
    let id = raw.id;
    let said = match raw.kind {
        kind::FOLLOWING => Announced::Following {
            resumed: !flag(raw.detail)?,
            id,
            incarnation: body.u64()?,
            sequence: body.sequence()?,
            lease_ms: body.u32()?,
            server_time_ms: body.u64()?,
        },
        kind::ANNOUNCEMENT => {
            no_id(id)?;
            let everything = flag(raw.detail)?;
            let (previous, sequence) = (body.sequence()?, body.sequence()?);
            if previous >= sequence {
                return bad("an announcement that leads nowhere");
            }
            let touched = if everything { Touched::Everything } else { Touched::Tags(Tags::read(body.rest())?) };
            Announced::Touched { previous, sequence, touched }
        }
        kind::LEASE => {
            zero(raw.detail)?;
            let (previous, sequence) = (body.sequence()?, body.sequence()?);
            if previous > sequence {
                return bad("a lease that leads back");
            }
            Announced::Lease { id, previous, sequence, lease_ms: body.u32()?, server_time_ms: body.u64()? }
        }
        kind::START_OVER => {
            zero(raw.detail)?;
            no_id(id)?;
            Announced::StartOver { sequence: body.sequence()? }
        }
        other => return Err(Malformed::Kind(other)),
    };
    body.end()?;
    Ok(said)
}

/// Appends what a follower says.
pub fn write_follower(out: &mut Vec<u8>, said: &Follower) {
    let start = out.len();
    match said {
        Follower::Follow { id, lease_ms, resume } => {
            begin(out, kind::FOLLOW, u8::from(resume.is_some()), *id);
            out.extend_from_slice(&lease_ms.to_le_bytes());
            if let Some(resume) = resume {
                out.extend_from_slice(&resume.revision.epoch.0.to_le_bytes());
                out.extend_from_slice(&resume.incarnation.to_le_bytes());
                out.extend_from_slice(&resume.revision.sequence.0.to_le_bytes());
            }
        }
        Follower::Renew { id, acknowledged } => begin_at(out, kind::RENEW, 0, *id, *acknowledged),
        Follower::Acknowledge { sequence } => begin_at(out, kind::ACKNOWLEDGE, 0, 0, *sequence),
    }
    seal(out, start);
}

/// Appends what a server says to a follower, but [`Announced::Touched`]: see [`write_touched`].
pub fn write_announced(out: &mut Vec<u8>, said: &Announced<'_>) {
    let start = out.len();
    match said {
        Announced::Following { id, resumed, incarnation, sequence, lease_ms, server_time_ms } => {
            begin(out, kind::FOLLOWING, u8::from(!resumed), *id);
            out.extend_from_slice(&incarnation.to_le_bytes());
            out.extend_from_slice(&sequence.0.to_le_bytes());
            out.extend_from_slice(&lease_ms.to_le_bytes());
            out.extend_from_slice(&server_time_ms.to_le_bytes());
        }
        Announced::Touched { previous, sequence, touched } => {
            let tags = match touched {
                Touched::Everything => None,
                Touched::Tags(tags) => Some(*tags),
            };
            write_touched(out, *previous, *sequence, tags);
            return;
        }
        Announced::Lease { id, previous, sequence, lease_ms, server_time_ms } => {
            begin_at(out, kind::LEASE, 0, *id, *previous);
            out.extend_from_slice(&sequence.0.to_le_bytes());
            out.extend_from_slice(&lease_ms.to_le_bytes());
            out.extend_from_slice(&server_time_ms.to_le_bytes());
        }
        Announced::StartOver { sequence } => begin_at(out, kind::START_OVER, 0, 0, *sequence),
    }
    seal(out, start);
}

/// Appends the announcement that between `previous` (exclusive) and `sequence` (inclusive) only `tags` were touched;
/// `None`, or more than [`ANNOUNCED_TAGS_MAX`] of them: everything was.
pub fn write_touched(
    out: &mut Vec<u8>,
    previous: Sequence,
    sequence: Sequence,
    tags: Option<impl IntoIterator<Item = u64>>,
) {
    let start = out.len();
    begin_at(out, kind::ANNOUNCEMENT, 0, 0, previous);
    out.extend_from_slice(&sequence.0.to_le_bytes());
    let body = out.len();
    let fits = tags.is_some_and(|tags| {
        tags.into_iter().all(|tag| {
            out.extend_from_slice(&tag.to_le_bytes());
            out.len() - start <= MESSAGE_BYTES_MAX
        })
    });
    if !fits {
        out.truncate(body);
        if let Some(detail) = out.get_mut(start + 3) {
            *detail = 1;
        }
    }
    seal(out, start);
}

/// A message that answers nothing has no id.
fn no_id(id: u32) -> Read<()> {
    if id == 0 { Ok(()) } else { bad("the id of this kind is 0") }
}
