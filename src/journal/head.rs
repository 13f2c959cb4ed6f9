//! The head as it stands in the file: where the list ends, and from where on it is there.
//!
//! ```text
//!   0  u32  format
//!   4  u64  epoch
//!  12  u64  last sequence
//!  20  [32] its chain value
//!  52  u64  discarded through
//!  60  [32] its chain value: what the first entry that is kept is chained to
//!  92  [32] MAC over bytes 0 to 91
//! 124
//! ```
//!
//! Written in the same journal transaction as the entries it speaks of, so it is never ahead of them nor behind.

use super::chain::Keys;
use super::row::Position;
use super::{ChainHash, FORMAT, Head, JournalError};
use crate::domain::{Epoch, Revision, Sequence};

/// A head's length in the file.
pub(super) const HEAD_BYTES: usize = 124;
const SEALED_BYTES: usize = 92;

/// The head of the list and its beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct HeadRow {
    pub(super) epoch: Epoch,
    /// The last entry.
    pub(super) end: Position,
    /// What the first entry that is kept follows.
    pub(super) start: Position,
}

impl HeadRow {
    /// The bytes, sealed.
    pub(super) fn encode(&self, keys: &Keys) -> [u8; HEAD_BYTES] {
        let mut bytes = Vec::with_capacity(HEAD_BYTES);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&self.epoch.0.to_le_bytes());
        for position in [&self.end, &self.start] {
            bytes.extend_from_slice(&position.sequence.0.to_le_bytes());
            bytes.extend_from_slice(&position.chain.0);
        }
        let mac = keys.head(&bytes);
        bytes.extend_from_slice(&mac);
        std::array::from_fn(|at| bytes.get(at).copied().unwrap_or_default())
    }

    /// The head with these bytes, and the generation of keys that sealed it.
    ///
    /// # Errors
    /// [`JournalError::Format`] if the first four bytes name another format, [`JournalError::Damaged`] if the rest is
    /// not what was sealed with one of these keys while it was in force.
    pub(super) fn decode(keys: &Keys, bytes: &[u8]) -> Result<(Self, u32), JournalError> {
        let found = bytes.first_chunk().map_or(0, |format| u32::from_le_bytes(*format));
        if found != FORMAT {
            return Err(JournalError::Format { found, known: FORMAT });
        }
        let refused = |what: &str| JournalError::Damaged { at: Sequence::ZERO, what: what.into() };
        let bytes: &[u8; HEAD_BYTES] = bytes.try_into().map_err(|_| refused("the head has another length"))?;
        let (sealed, mac) = bytes.split_at(SEALED_BYTES);
        let found = mac.try_into().ok().and_then(|mac| keys.sealed(sealed, mac));
        let Some(generation) = found else {
            return Err(refused("the head is not what was written, or the journal key is another"));
        };
        let short = || refused("the head ends early");
        let (epoch, rest) = sealed.get(4..).and_then(|rest| rest.split_first_chunk()).ok_or_else(short)?;
        let (end, rest) = position(rest).ok_or_else(short)?;
        let (start, _) = position(rest).ok_or_else(short)?;
        if start.sequence > end.sequence {
            return Err(refused("the head says that more was discarded than there ever was"));
        }
        let row = Self { epoch: Epoch(u64::from_le_bytes(*epoch)), end, start };
        if !keys.may_seal(generation, row.revision()) {
            return Err(refused("the head was sealed with keys that had been replaced before"));
        }
        Ok((row, generation))
    }

    /// The place in the list it tells of.
    pub(super) fn revision(&self) -> Revision {
        Revision { epoch: self.epoch, sequence: self.end.sequence }
    }

    /// As the room's face tells it.
    pub(super) fn head(&self) -> Head {
        Head { epoch: self.epoch, last: self.end.sequence, chain: self.end.chain, discarded: self.start.sequence }
    }
}

fn position(bytes: &[u8]) -> Option<(Position, &[u8])> {
    let (sequence, rest) = bytes.split_first_chunk()?;
    let (chain, rest) = rest.split_first_chunk()?;
    Some((Position { sequence: Sequence(u64::from_le_bytes(*sequence)), chain: ChainHash(*chain) }, rest))
}

const _: () = assert!(SEALED_BYTES == 4 + 8 + 2 * (8 + 32) && HEAD_BYTES == SEALED_BYTES + 32);
