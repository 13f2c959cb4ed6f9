//! Zeroed memory for the tables: cache lines stay whole, large pieces come from the system and go back to it.
//!
//! A large piece is a mapping of its own, for two reasons. Its pages cost nothing until they are written, so a table may
//! ask for twice what it holds; an allocator asked for aligned zeroes would write them all. And what was outgrown goes
//! back to the system whole; an allocator would keep its pieces, half as much again as the table while it is filled.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU64};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use rustix::param::page_size;

/// Pieces of at least this many bytes are mappings of their own.
const MAPPED_FROM_BYTES: usize = 16 << 10;
/// Pieces of at least this many bytes are kept in huge pages where the system has them: a look at a random row then needs
/// no walk through tables of pages that are not in the cache either. Its last huge page may be nearly empty, an eighth of
/// the piece at most.
const HUGE_PAGES_FROM_BYTES: usize = 16 << 20;
/// What a piece is aligned to: a cache line.
const LINE_BYTES: usize = 64;
/// A huge page.
const HUGE_BYTES: usize = 2 << 20;

/// What may be made of zeroes and shared between threads.
///
/// # Safety
/// All bytes zero are a valid value, it needs no dropping, and it is aligned to no more than a cache line.
// SAFETY: only a promise is asked for here; it is given below and beside each type.
pub(crate) unsafe trait Zero: Sync {}

// SAFETY: a word; zero is one of its values.
unsafe impl Zero for AtomicU64 {}

// SAFETY: a byte; zero is one of its values.
unsafe impl Zero for AtomicU8 {}

/// An array that began as zeroes and begins with a cache line.
pub(crate) struct Zeroed<T: Zero> {
    start: NonNull<T>,
    len: usize,
}

// SAFETY: an array owned by this value, like a boxed slice; `T` is `Sync` and needs no dropping.
unsafe impl<T: Zero> Send for Zeroed<T> {}
// SAFETY: as above; `&Zeroed` only gives `&[T]`.
unsafe impl<T: Zero> Sync for Zeroed<T> {}

impl<T: Zero> Zeroed<T> {
    /// So many zeroes; at least one. For an array that will be written to all over: as much of it as fills huge pages is
    /// kept in them, and no more, so that it takes no more memory than it has to.
    pub(crate) fn for_all(len: usize) -> Self {
        let layout = Self::layout(len);
        if layout.size() < HUGE_BYTES {
            return Self::new(len);
        }
        let Some(start) = map_aligned(layout.size()) else { handle_alloc_error(layout) };
        // SAFETY: advice about a part of the mapping just made; it changes no byte. A system without huge pages refuses, and
        // small ones do.
        let _ = unsafe { madvise(start.as_ptr(), layout.size() / HUGE_BYTES * HUGE_BYTES, Advice::LinuxHugepage) };
        Self { start: start.cast(), len }
    }

    /// So many zeroes; at least one.
    pub(crate) fn new(len: usize) -> Self {
        let layout = Self::layout(len);
        let start = if layout.size() >= MAPPED_FROM_BYTES {
            let mapped = map(layout.size());
            if layout.size() >= HUGE_PAGES_FROM_BYTES {
                // SAFETY: advice about the mapping just made, or about nothing; it changes no byte.
                let _ = unsafe { madvise(mapped, layout.size(), Advice::LinuxHugepage) };
                // A system without huge pages refuses, and small ones do.
            }
            mapped.cast::<T>()
        } else {
            // SAFETY: the size is not zero, or `layout` would not have returned.
            unsafe { alloc_zeroed(layout) }.cast::<T>()
        };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Self { start, len }
    }

    /// Has the system give all pages now, at once, which costs less than one by one; for an array that will be written to
    /// everywhere. Where the system cannot, nothing happens.
    pub(crate) fn populate(&self) {
        self.populate_part(self);
    }

    /// As [`Zeroed::populate`], for a part of it.
    pub(crate) fn populate_part(&self, part: &[T]) {
        let all = self.start.addr().get()..self.start.addr().get() + Self::layout(self.len).size();
        let from = part.as_ptr().addr() / page_size() * page_size();
        let bytes = part.as_ptr().addr() + size_of_val(part) - from;
        if all.len() >= MAPPED_FROM_BYTES && all.contains(&from) && all.end - from >= bytes {
            // SAFETY: pages of a mapping of ours; that they are there changes no byte.
            let _ = unsafe {
                madvise(self.start.as_ptr().cast::<c_void>().with_addr(from), bytes, Advice::LinuxPopulateWrite)
            };
        }
    }

    fn layout(len: usize) -> Layout {
        match Layout::array::<T>(len).and_then(|layout| layout.align_to(LINE_BYTES)) {
            Ok(layout) if layout.size() > 0 => layout,
            _ => unreachable!("tables of the index have between one and 2^32 rows of a few words"),
        }
    }
}

/// A new mapping of zeroes, or null.
fn map(bytes: usize) -> *mut c_void {
    let (access, kind) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
    // SAFETY: a new private mapping at an address of the system's choice touches no memory that exists.
    unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, access, kind) }.unwrap_or(std::ptr::null_mut())
}

/// A new mapping of zeroes that begins where a huge page may: what was mapped too much goes back at once.
fn map_aligned(bytes: usize) -> Option<NonNull<c_void>> {
    let mapped = NonNull::new(map(bytes + HUGE_BYTES))?;
    let before = mapped.addr().get().next_multiple_of(HUGE_BYTES) - mapped.addr().get();
    let kept = bytes.next_multiple_of(page_size());
    let give_back = |from: usize, bytes: usize| {
        if bytes > 0 {
            // SAFETY: pages of the mapping just made, of which nobody knows yet.
            let unmapped = unsafe { munmap(mapped.as_ptr().wrapping_byte_add(from), bytes) };
            debug_assert!(unmapped.is_ok(), "a mapping of ours can be taken back");
        }
    };
    give_back(0, before);
    give_back(before + kept, (bytes + HUGE_BYTES).next_multiple_of(page_size()) - before - kept);
    NonNull::new(mapped.as_ptr().wrapping_byte_add(before))
}

impl<T: Zero> std::ops::Deref for Zeroed<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `start` points to `len` values that began as zeroes, which are valid.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Zero> Drop for Zeroed<T> {
    fn drop(&mut self) {
        let layout = Self::layout(self.len);
        if layout.size() >= MAPPED_FROM_BYTES {
            // SAFETY: mapped in `new` with this size; dropped once, when nobody can have a reference into it.
            let unmapped = unsafe { munmap(self.start.as_ptr().cast(), layout.size()) };
            debug_assert!(unmapped.is_ok(), "a mapping of ours can be taken back");
        } else {
            // SAFETY: allocated in `new` with this layout; dropped once, when nobody can have a reference into it.
            unsafe { dealloc(self.start.as_ptr().cast(), layout) }
        }
    }
}
