//! Texts and their numbers: each text is kept once, numbered from 0 in the order of its first appearance.
//!
//! The order of the list of changes decides the numbers, so the same list always gives the same numbers. Texts are never
//! taken out; a reference to one is good for as long as the index lives.

use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crossbeam_epoch::Guard;

use super::dense::Dense;
use super::lookup::Lookup;
use super::zeroed::Zeroed;

/// Bytes of text in one chunk. No text is longer than a chunk. (Small for a fuzzer, whose inputs fill no more.)
const CHUNK_BYTES: usize = if cfg!(fuzzing) { 1 << 13 } else { 1 << 18 };
/// Chunks of text: 4 GiB in all for each set of names. (For a fuzzer 1 MiB.)
const CHUNKS: usize = if cfg!(fuzzing) { 1 << 7 } else { 1 << 14 };
/// The longest text, in bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 4_096;

/// A set of numbered texts.
pub(crate) struct Names {
    /// One word a text: byte offset (48 bits) and length (16 bits).
    rows: Dense<1>,
    /// Bytes are written by the one writer, before the row that names them is published, and never change after.
    chunks: Box<[OnceLock<Zeroed<AtomicU8>>]>,
    /// The next free byte; the writer's alone.
    end: AtomicU64,
    lookup: Lookup,
    hasher: RandomState,
}

impl Names {
    pub(crate) fn new() -> Self {
        Self {
            rows: Dense::new(),
            chunks: (0..CHUNKS).map(|_| OnceLock::new()).collect(),
            end: AtomicU64::new(0),
            lookup: Lookup::new(),
            hasher: RandomState::new(),
        }
    }

    fn hash(&self, text: &str) -> u32 {
        (self.hasher.hash_one(text) >> 32) as u32
    }

    /// How many texts there are.
    pub(crate) fn len(&self) -> u32 {
        self.rows.len()
    }

    /// The text with this number.
    #[inline]
    pub(crate) fn text(&self, number: u32) -> Option<&str> {
        let row = self.rows.row(number)?[0].load(Ordering::Relaxed);
        let (offset, len) = ((row >> 16) as usize, (row & 0xffff) as usize);
        let chunk = self.chunks.get(offset / CHUNK_BYTES)?.get()?;
        let bytes = chunk.get(offset % CHUNK_BYTES..offset % CHUNK_BYTES + len)?;
        // SAFETY: the row is published, so these bytes are written and never change again: plain bytes from now on.
        let bytes = unsafe { &*(std::ptr::from_ref(bytes) as *const [u8]) };
        // SAFETY: they came from a `str` that was copied whole, so they are UTF-8.
        Some(unsafe { std::str::from_utf8_unchecked(bytes) })
    }

    /// The number of a text.
    #[inline]
    pub(crate) fn find(&self, text: &str, guard: &Guard) -> Option<u32> {
        self.lookup.find(self.hash(text), guard, |row| self.text(row) == Some(text))
    }

    /// The number of a text, which gets the next one if it is new. For the writer alone.
    ///
    /// # Panics
    /// If the text is longer than [`TEXT_BYTES_MAX`]: the parsers of ids refuse much shorter ones.
    pub(crate) fn intern(&self, text: &str, guard: &Guard) -> u32 {
        self.intern_hashed(text, self.hash(text), guard)
    }

    /// Makes room for so many texts at once. For the writer alone.
    pub(crate) fn reserve(&self, texts: u32, guard: &Guard) {
        self.lookup.reserve(texts, guard);
    }

    /// The hash of a text, after beginning to load the slot where its number would be found.
    pub(crate) fn fetch(&self, text: &str, guard: &Guard) -> u32 {
        let hash = self.hash(text);
        self.lookup.fetch(hash, guard);
        hash
    }

    /// [`Names::intern`] of a text whose hash is known from [`Names::fetch`].
    ///
    /// # Panics
    /// As [`Names::intern`].
    pub(crate) fn intern_hashed(&self, text: &str, hash: u32, guard: &Guard) -> u32 {
        if let Some(known) = self.lookup.find(hash, guard, |row| self.text(row) == Some(text)) {
            return known;
        }
        assert!(text.len() <= TEXT_BYTES_MAX, "texts of the index are bounded where they are parsed");
        let mut offset = self.end.load(Ordering::Relaxed) as usize;
        if offset % CHUNK_BYTES + text.len() > CHUNK_BYTES {
            offset = offset.next_multiple_of(CHUNK_BYTES);
        }
        let chunk = self.chunks[offset / CHUNK_BYTES].get_or_init(|| Zeroed::new(CHUNK_BYTES));
        for (place, byte) in chunk[offset % CHUNK_BYTES..].iter().zip(text.bytes()) {
            place.store(byte, Ordering::Relaxed);
        }
        self.end.store((offset + text.len()) as u64, Ordering::Relaxed);
        let row = self.rows.push([(offset as u64) << 16 | text.len() as u64]);
        self.lookup.insert(hash, row, guard);
        row
    }

    /// Bytes in use.
    pub(crate) fn bytes(&self, guard: &Guard) -> u64 {
        self.rows.bytes() + self.end.load(Ordering::Relaxed) + self.lookup.bytes(guard)
    }
}
