//! The bytes: which types are archived, how large they are, and the two blocks that are not archives.
//!
//! Archived types hold fixed-width integers, arrays of them, and one flat vector each; no strings, maps, options or
//! padding, so that every bit pattern of the right length is a valid value and the check of an archive is only "does
//! the vector lie inside". The prefix and the trailer are read before anything is authenticated and are therefore
//! plain little-endian integers without rkyv. Sizes are asserted at compile time; `FORMAT.md` draws them.

use std::mem::{align_of, size_of};

use rkyv::rend::{u32_le, u64_le};
use rkyv::vec::ArchivedVec;
use rkyv::{Archive, Serialize};

use super::Header;
use crate::domain::{Epoch, Sequence, Timestamp};

/// A word as it lies in a section: 32 bits, little-endian. `to_native()` gives the number; on little-endian machines
/// that is a plain load.
pub type Word = u32_le;

/// The format written.
pub const FORMAT: u32 = 2;
/// The oldest format that is read. It differs from the present one in the tables that sections belong to, not in the bytes
/// around them.
pub const FORMAT_OLDEST: u32 = 1;
/// Most words in a section: 512 Ki words, 2 MiB. What the reader holds in memory, and far below rkyv's 2 GiB.
pub const SECTION_WORDS_MAX: usize = 512 * 1024;
/// Most sections in a snapshot; 128 GiB of full ones.
pub const SECTIONS_MAX: usize = 64 * 1024;

/// The first eight bytes of every snapshot. The high bit and the line ends show a transfer that mangled text.
pub(super) const MAGIC: [u8; 8] = *b"\x89TKS\r\n\x1a\n";
pub(super) const PREFIX_BYTES: usize = 16;
pub(super) const HEADER_BYTES: usize = size_of::<ArchivedHeaderLayout>();
/// Prefix and header together; the first section follows.
pub(super) const HEAD_BYTES: usize = PREFIX_BYTES + HEADER_BYTES;
pub(super) const MAC_BYTES: usize = 32;
/// The part of the trailer under the seal.
pub(super) const TRAILER_SEALED_BYTES: usize = 32;
pub(super) const TRAILER_BYTES: usize = TRAILER_SEALED_BYTES + MAC_BYTES;
const ENTRY_BYTES: usize = size_of::<ArchivedEntryLayout>();
const TABLE_ROOT_BYTES: usize = size_of::<ArchivedTableLayout>();
const SECTION_ROOT_BYTES: usize = size_of::<ArchivedSectionLayout>();
/// What a section costs beyond its words in memory while it is read.
pub(super) const SECTION_BYTES_MAX: usize = SECTION_WORDS_MAX * size_of::<Word>() + SECTION_ROOT_BYTES;

const _: () = assert!(HEADER_BYTES == 96 && ENTRY_BYTES == 56 && TABLE_ROOT_BYTES == 8 && SECTION_ROOT_BYTES == 20);
const _: () = assert!(align_of::<ArchivedHeaderLayout>() == 8 && align_of::<ArchivedSectionLayout>() == 4);

/// What decides how rkyv lays bytes out, folded into one number: a build with other features of rkyv, or another
/// generation of it, gets another number and says so instead of misreading. (Byte order needs no place in it: a
/// big-endian build does not compile, because [`Word`] would be the wrong type.)
#[cfg_attr(
    not(test),
    expect(clippy::indexing_slicing, reason = "worked out by the compiler, which would not compile it")
)]
pub(super) const ARCHIVE: u32 = {
    let parts = [
        8, // rkyv 0.8
        size_of::<rkyv::Archived<usize>>(),
        align_of::<rkyv::Archived<u64>>(),
        HEADER_BYTES,
        ENTRY_BYTES,
        TABLE_ROOT_BYTES,
        SECTION_ROOT_BYTES,
    ];
    // FNV-1a, a byte per part; all parts are below 256.
    let mut folded = 0x811c_9dc5_u32;
    let mut at = 0;
    while at < parts.len() {
        folded = (folded ^ parts[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    folded
};

/// The header's archive. Largest fields first, so that there is no padding.
#[derive(Archive, Serialize, Clone, Copy)]
pub(super) struct HeaderLayout {
    pub epoch: u64,
    pub sequence: u64,
    pub pepper: u64,
    pub tokens: u64,
    pub grants: u64,
    pub created: u32,
    pub highest_now: u32,
    /// Random; every MAC in the file depends on it.
    pub id: [u8; 16],
    pub chain: [u8; 32],
}

/// One line of the table of sections.
#[derive(Archive, Serialize, Clone, Copy)]
pub(super) struct EntryLayout {
    pub offset: u64,
    pub bytes: u32,
    pub words: u32,
    pub table: u32,
    pub index: u32,
    pub mac: [u8; MAC_BYTES],
}

/// The table of sections.
#[derive(Archive, Serialize)]
pub(super) struct TableLayout {
    pub entries: Vec<EntryLayout>,
}

/// One section. Its place and name are repeated inside: the second net under the MAC.
#[derive(Archive, Serialize)]
pub(super) struct SectionLayout {
    pub position: u32,
    pub table: u32,
    pub index: u32,
    pub words: Vec<u32>,
}

// Byte order and the absence of niches, in the types: these lines compile only for little-endian, plain layouts.
const _: fn(&ArchivedSectionLayout) -> &ArchivedVec<u32_le> = |section| &section.words;
const _: fn(&ArchivedHeaderLayout) -> &u64_le = |header| &header.epoch;

impl HeaderLayout {
    pub fn new(header: &Header, id: [u8; 16]) -> Self {
        Self {
            epoch: header.epoch.0,
            sequence: header.sequence.0,
            pepper: header.pepper,
            tokens: header.tokens,
            grants: header.grants,
            created: header.created.raw(),
            highest_now: header.highest_now.raw(),
            id,
            chain: header.chain,
        }
    }
}

impl ArchivedHeaderLayout {
    pub fn header(&self) -> Header {
        Header {
            epoch: Epoch(self.epoch.to_native()),
            sequence: Sequence(self.sequence.to_native()),
            chain: self.chain,
            pepper: self.pepper.to_native(),
            created: Timestamp::from_raw(self.created.to_native()),
            highest_now: Timestamp::from_raw(self.highest_now.to_native()),
            tokens: self.tokens.to_native(),
            grants: self.grants.to_native(),
        }
    }
}

/// Bytes of a section's archive of this many words.
pub(super) fn section_bytes(words: usize) -> usize {
    words * size_of::<Word>() + SECTION_ROOT_BYTES
}

/// Bytes of the archive of a table of this many sections.
pub(super) fn table_bytes(sections: usize) -> usize {
    sections * ENTRY_BYTES + TABLE_ROOT_BYTES
}

/// The first bytes: what this is, before anything can be authenticated.
#[derive(Clone, Copy)]
pub(super) struct Prefix {
    pub magic: [u8; 8],
    pub format: u32,
    pub archive: u32,
}

impl Prefix {
    /// What this program writes.
    pub const OURS: Self = Self { magic: MAGIC, format: FORMAT, archive: ARCHIVE };

    pub fn to_bytes(self) -> [u8; PREFIX_BYTES] {
        let mut bytes = [0; PREFIX_BYTES];
        bytes[..8].copy_from_slice(&self.magic);
        bytes[8..12].copy_from_slice(&self.format.to_le_bytes());
        bytes[12..].copy_from_slice(&self.archive.to_le_bytes());
        bytes
    }

    pub fn from_bytes(bytes: &[u8; PREFIX_BYTES]) -> Self {
        let [a, b, c, d, e, f, g, h, f0, f1, f2, f3, a0, a1, a2, a3] = *bytes;
        Self {
            magic: [a, b, c, d, e, f, g, h],
            format: u32::from_le_bytes([f0, f1, f2, f3]),
            archive: u32::from_le_bytes([a0, a1, a2, a3]),
        }
    }
}

/// The last bytes: where the table is, how long everything is, and the seal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Trailer {
    pub table_offset: u64,
    pub table_bytes: u64,
    pub sections: u64,
    /// Length of the whole file, this trailer included.
    pub file_bytes: u64,
}

impl Trailer {
    pub fn to_bytes(self) -> [u8; TRAILER_SEALED_BYTES] {
        let mut bytes = [0; TRAILER_SEALED_BYTES];
        let fields = [self.table_offset, self.table_bytes, self.sections, self.file_bytes];
        for (place, field) in bytes.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    pub fn from_bytes(bytes: &[u8; TRAILER_SEALED_BYTES]) -> Self {
        let mut fields = bytes.chunks_exact(8).map(|field| u64::from_le_bytes(field.try_into().unwrap_or_default()));
        let mut next = || fields.next().unwrap_or_default();
        Self { table_offset: next(), table_bytes: next(), sections: next(), file_bytes: next() }
    }
}
