//! Tables of fixed-size rows that only grow: one writer appends, everybody reads without a lock.
//!
//! A table of `W` words per row keeps its rows in chunks that double in size, so that a row never moves and a
//! reference to it stays good. Rows are 64-bit atomic words; a value that must be read whole stands in one word.
//!
//! # Ordering
//! The writer fills a row with relaxed stores and then publishes it by a release store of the length; a reader loads
//! the length with acquire and so sees the whole row. Later updates of single words are release stores paired with
//! the acquire loads of [`Dense::row`]'s users.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::ahead::fetch;
use super::zeroed::Zeroed;

/// Rows in the first chunk; chunk `i` holds this many times 2ⁱ. Few for a fuzzer, whose inputs fill no more.
const FIRST_CHUNK_ROWS: u32 = if cfg!(fuzzing) { 1 << 4 } else { 1 << 10 };
/// Enough chunks for every 32-bit row number.
const CHUNKS: usize = 23;

/// A table of rows of `W` words each. Reading is lock-free and wait-free; appending is for the one writer.
pub(crate) struct Dense<const W: usize> {
    chunks: [OnceLock<Zeroed<AtomicU64>>; CHUNKS],
    len: AtomicU32,
}

impl<const W: usize> Dense<W> {
    pub(crate) fn new() -> Self {
        Self { chunks: std::array::from_fn(|_| OnceLock::new()), len: AtomicU32::new(0) }
    }

    /// How many rows are published.
    pub(crate) fn len(&self) -> u32 {
        self.len.load(Ordering::Acquire)
    }

    fn place_of(row: u32) -> (usize, usize) {
        // Chunk i begins at row FIRST·(2^i − 1).
        let shifted = u64::from(row) + u64::from(FIRST_CHUNK_ROWS);
        let chunk = (shifted.ilog2() - FIRST_CHUNK_ROWS.ilog2()) as usize;
        let start = (u64::from(FIRST_CHUNK_ROWS) << chunk) - u64::from(FIRST_CHUNK_ROWS);
        (chunk, (u64::from(row) - start) as usize * W)
    }

    /// The words of a published row; `None` beyond the end.
    #[inline]
    pub(crate) fn row(&self, row: u32) -> Option<&[AtomicU64; W]> {
        if row >= self.len() {
            return None;
        }
        self.words_of(row)
    }

    /// Begins to load a row; one whose size divides a cache line does not lie in two.
    #[inline]
    pub(crate) fn fetch(&self, row: u32) {
        if let Some(words) = self.row(row) {
            fetch(&words[0]);
            if !64_usize.is_multiple_of(W * 8) {
                fetch(&words[W - 1]);
            }
        }
    }

    fn words_of(&self, row: u32) -> Option<&[AtomicU64; W]> {
        let (chunk, offset) = Self::place_of(row);
        self.chunks.get(chunk)?.get()?.get(offset..offset + W)?.first_chunk()
    }

    /// The words of the published rows from this one on, as far as they lie in one piece; nothing beyond the end.
    #[inline]
    pub(crate) fn words_from(&self, row: u32) -> &[AtomicU64] {
        let (chunk, offset) = Self::place_of(row);
        let words = self.chunks.get(chunk).and_then(OnceLock::get).map_or(&[][..], |words| words);
        let end = offset + self.len().saturating_sub(row) as usize * W;
        words.get(offset..end.min(words.len())).unwrap_or_default()
    }

    /// Appends a row and publishes it. For the writer alone: two appends at once would write one row.
    ///
    /// # Panics
    /// When 2³² − 1 rows are reached; admission refuses long before.
    pub(crate) fn push(&self, words: [u64; W]) -> u32 {
        let row = self.len.load(Ordering::Relaxed);
        assert!(row < u32::MAX, "a table of the index has 2^32 rows");
        let (chunk, _) = Self::place_of(row);
        self.chunks[chunk].get_or_init(|| Zeroed::new(((FIRST_CHUNK_ROWS as usize) << chunk) * W));
        if let Some(slots) = self.words_of(row) {
            for (slot, word) in slots.iter().zip(words) {
                slot.store(word, Ordering::Relaxed);
            }
        }
        self.len.store(row + 1, Ordering::Release);
        row
    }

    /// Appends rows and publishes each run that lies in one piece at once. For the writer alone, as [`Dense::push`].
    ///
    /// # Panics
    /// As [`Dense::push`].
    pub(crate) fn extend(&self, mut rows: impl ExactSizeIterator<Item = [u64; W]>) {
        while rows.len() > 0 {
            let row = self.len.load(Ordering::Relaxed);
            let (chunk, offset) = Self::place_of(row);
            assert!(rows.len() < (u32::MAX - row) as usize, "a table of the index has 2^32 rows");
            let words = self.chunks[chunk].get_or_init(|| Zeroed::new(((FIRST_CHUNK_ROWS as usize) << chunk) * W));
            let run = rows.len().min((words.len() - offset) / W);
            for (slots, row) in words[offset..].chunks_exact(W).zip(rows.by_ref().take(run)) {
                for (slot, word) in slots.iter().zip(row) {
                    slot.store(word, Ordering::Relaxed);
                }
            }
            self.len.store(row + run as u32, Ordering::Release);
        }
    }

    /// Bytes of rows in use.
    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.len()) * W as u64 * 8
    }
}
