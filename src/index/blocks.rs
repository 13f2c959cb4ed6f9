//! Memory for the segments of the token table: parts of a few large blocks, so that it lies in huge pages.
//!
//! A segment is small, so that growing one is a short pause; in a mapping of its own it would be smaller than a huge page
//! below some fifty million tokens, and nearly every look at a token would then walk through tables of pages that are not
//! in the cache. So [`GROUP`] neighbours lie in one block, each in a part of the same length. A segment that grows moves into its
//! part of a longer block; its neighbours, which are about as full, follow one by one when it suits the table, and when the
//! last has left the shorter block, that goes back to the system. Until then a group takes up to twice its memory.
//!
//! For the one writer. Readers have parts, and know nothing of blocks.

use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::zeroed::{Zero, Zeroed};

/// How many segments share a block: as many as a word has bits. (Few for a fuzzer, which has few segments.)
pub(crate) const GROUP: usize = if cfg!(fuzzing) { 2 } else { 64 };
/// A bit for each of them.
const ALL: u64 = u64::MAX >> (64 - GROUP);

/// A segment's part of a block: an array that began as zeroes and begins with a cache line. The block stays as long as
/// any of its parts.
pub(crate) struct Part<T: Zero> {
    start: NonNull<T>,
    len: usize,
    block: Arc<Zeroed<T>>,
}

// SAFETY: a part of an array that is `Send` and `Sync`, kept by the `Arc`; nobody else has this part.
unsafe impl<T: Zero> Send for Part<T> {}
// SAFETY: as above; `&Part` only gives `&[T]`.
unsafe impl<T: Zero> Sync for Part<T> {}

impl<T: Zero> Part<T> {
    fn of(block: &Arc<Zeroed<T>>, number: usize, len: usize) -> Self {
        let from = number % GROUP * len;
        let start = NonNull::from(&block[from..from + len]).cast();
        Self { start, len, block: Arc::clone(block) }
    }

    /// As [`Zeroed::populate`], for this part alone.
    pub(crate) fn populate(&self) {
        self.block.populate_part(self);
    }
}

impl<T: Zero> Deref for Part<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `len` values of the block, which began as zeroes, are valid, and stay as long as the `Arc` beside.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

/// The newest block of a group of neighbours.
struct Newest<T: Zero> {
    block: Arc<Zeroed<T>>,
    /// The length of a part; 0: there is no block yet.
    len: usize,
}

/// The blocks of all segments.
pub(crate) struct Blocks<T: Zero> {
    newest: Box<[Mutex<Newest<T>>]>,
    /// For each group, a bit for each segment that has not had its part of the newest block.
    left: Box<[AtomicU64]>,
}

impl<T: Zero> Blocks<T> {
    /// For so many segments, a multiple of [`GROUP`].
    pub(crate) fn new(segments: usize) -> Self {
        let nothing = || Mutex::new(Newest { block: Arc::new(Zeroed::new(1)), len: 0 });
        let groups = segments / GROUP;
        Self {
            newest: (0..groups).map(|_| nothing()).collect(),
            left: (0..groups).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn newest(&self, number: usize) -> MutexGuard<'_, Newest<T>> {
        // A panic while this lock is held leaves a block and a length that belong together.
        self.newest[number / GROUP].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Zeroes for this segment: its part of the newest block if that has parts of this length and the segment has not had
    /// it, else of a new one, which the neighbours have then to follow to.
    pub(crate) fn part(&self, number: usize, len: usize) -> Part<T> {
        let (left, bit) = (&self.left[number / GROUP], 1 << (number % GROUP));
        let mut newest = self.newest(number);
        let others = left.load(Ordering::Relaxed);
        if newest.len == len && others & bit != 0 {
            left.store(others & !bit, Ordering::Relaxed);
        } else {
            *newest = Newest { block: Arc::new(Zeroed::for_all(len * GROUP)), len };
            left.store(ALL & !bit, Ordering::Relaxed);
        }
        Part::of(&newest.block, number, len)
    }

    /// How long the segment's part of the newest block is, if it has not had it.
    pub(crate) fn waiting_for(&self, number: usize) -> Option<usize> {
        let is_left = self.left[number / GROUP].load(Ordering::Relaxed) & 1 << (number % GROUP) != 0;
        is_left.then(|| self.newest(number).len)
    }

    /// A neighbour of this segment that has not had its part of the newest block.
    pub(crate) fn left_behind(&self, number: usize) -> Option<usize> {
        let left = self.left[number / GROUP].load(Ordering::Relaxed);
        (left != 0).then(|| number / GROUP * GROUP + left.trailing_zeros() as usize)
    }

    /// The segment does not want its part of the newest block.
    pub(crate) fn pass(&self, number: usize) {
        self.left[number / GROUP].fetch_and(!(1 << (number % GROUP)), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    fn mark(part: &Part<AtomicU64>, mark: u64) {
        assert!(part.iter().all(|word| word.swap(mark, Ordering::Relaxed) == 0), "somebody else's, or used before");
    }

    #[test]
    fn parts_of_one_block_are_apart_and_whole_whatever_order_they_are_taken_in() {
        for len in [1, 7, 64, 5_000] {
            let blocks: Blocks<AtomicU64> = Blocks::new(2 * GROUP);
            let numbers = (0..2 * GROUP).map(|number| (number * 37 + 5) % (2 * GROUP));
            let parts: Vec<_> = numbers.map(|number| (number as u64 + 1, blocks.part(number, len))).collect();
            parts.iter().for_each(|(number, part)| mark(part, *number));
            parts.iter().for_each(|(_, part)| part.populate());
            for (number, part) in &parts {
                assert!(part.len() == len && part.iter().all(|word| word.load(Ordering::Relaxed) == *number));
            }
            let of_one = parts.iter().filter(|(_, part)| Arc::ptr_eq(&part.block, &parts[0].1.block)).count();
            assert_eq!(of_one, GROUP);
        }
    }

    #[test]
    fn whoever_grows_makes_a_block_and_the_neighbours_are_known_until_they_have_followed_or_passed() {
        let blocks: Blocks<AtomicU64> = Blocks::new(2 * GROUP);
        let mut parts: Vec<_> = (0..2 * GROUP).map(|number| blocks.part(number, 4)).collect();
        assert!((0..2 * GROUP).all(|number| blocks.left_behind(number).is_none()));
        parts[GROUP + 3] = blocks.part(GROUP + 3, 6);
        assert_eq!((blocks.waiting_for(GROUP + 3), blocks.waiting_for(GROUP + 4)), (None, Some(6)));
        assert_eq!((blocks.left_behind(0), blocks.left_behind(2 * GROUP - 1)), (None, Some(GROUP)));
        blocks.pass(GROUP);
        while let Some(number) = blocks.left_behind(GROUP) {
            let len = blocks.waiting_for(number).expect("it is left behind");
            parts[number] = blocks.part(number, len);
        }
        assert_eq!(parts[GROUP..].iter().filter(|part| part.len() == 6).count(), GROUP - 1);
        // Each of those that were left is gone with its last part.
        let old = Arc::downgrade(&parts[GROUP].block);
        assert!(old.upgrade().is_some());
        parts[GROUP] = blocks.part(GROUP, 8);
        assert!(old.upgrade().is_none());
    }
}
