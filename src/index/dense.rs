//! Tables of fixed-size rows that only grow: one writer appends, everybody reads without a lock.
//!
//! A table of `W` words per row keeps its rows in chunks that double in size, so that a row never moves and a
//! reference to it stays good. Rows are 64-bit atomic words; a value that must be read whole stands in one word.
//!
//! # Ordering
//! The writer fills a row with relaxed stores and then publishes it by a release store of the length; a reader loads
//! the length with acquire and so sees the whole row. Later updates of single words are release stores paired with
//! the acquire loads of [`Dense::row`]'s users.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Rows in the first chunk; chunk `i` holds this many times 2ⁱ.
const FIRST_CHUNK_ROWS: u32 = 1 << 10;
/// Enough chunks for every 32-bit row number.
const CHUNKS: usize = 23;

/// Zeroed words of fixed number. Fresh pages cost no memory until they are written.
struct Words {
    start: NonNull<AtomicU64>,
    len: usize,
}

// SAFETY: the words are atomics that live as long as this value; sharing them between threads is what they are for.
unsafe impl Send for Words {}
// SAFETY: as above; `&Words` only gives `&[AtomicU64]`.
unsafe impl Sync for Words {}

impl Words {
    fn zeroed(len: usize) -> Self {
        let layout = Self::layout(len);
        // SAFETY: the layout has a non-zero size, since `len` is at least FIRST_CHUNK_ROWS.
        let start = unsafe { alloc_zeroed(layout) }.cast::<AtomicU64>();
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Self { start, len }
    }

    fn layout(len: usize) -> Layout {
        match Layout::array::<AtomicU64>(len).and_then(|layout| layout.align_to(64)) {
            Ok(layout) if layout.size() > 0 => layout,
            _ => unreachable!("a chunk has between one row and 2^32 rows of a few words"),
        }
    }

    fn slice(&self) -> &[AtomicU64] {
        // SAFETY: `start` points to `len` words allocated in `zeroed`, and all-zero bytes are valid atomics.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with this very layout, and dropped once.
        unsafe { dealloc(self.start.as_ptr().cast(), Self::layout(self.len)) }
    }
}

/// A table of rows of `W` words each. Reading is lock-free and wait-free; appending is for the one writer.
pub(crate) struct Dense<const W: usize> {
    chunks: [OnceLock<Words>; CHUNKS],
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

    fn words_of(&self, row: u32) -> Option<&[AtomicU64; W]> {
        let (chunk, offset) = Self::place_of(row);
        self.chunks.get(chunk)?.get()?.slice().get(offset..offset + W)?.first_chunk()
    }

    /// Appends a row and publishes it. For the writer alone: two appends at once would write one row.
    ///
    /// # Panics
    /// When 2³² − 1 rows are reached; admission refuses long before.
    pub(crate) fn push(&self, words: [u64; W]) -> u32 {
        let row = self.len.load(Ordering::Relaxed);
        assert!(row < u32::MAX, "a table of the index has 2^32 rows");
        let (chunk, _) = Self::place_of(row);
        self.chunks[chunk].get_or_init(|| Words::zeroed(((FIRST_CHUNK_ROWS as usize) << chunk) * W));
        if let Some(slots) = self.words_of(row) {
            for (slot, word) in slots.iter().zip(words) {
                slot.store(word, Ordering::Relaxed);
            }
        }
        self.len.store(row + 1, Ordering::Release);
        row
    }

    /// Bytes of rows in use.
    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.len()) * W as u64 * 8
    }
}
