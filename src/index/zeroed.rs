//! Zeroed memory for the tables: a fixed number of values whose zero bytes are a sound value, aligned to a cache line.
//!
//! From a few pages on it is a mapping of its own, for two reasons. Pages that nobody has written cost no memory, so
//! that a table may double its space before it needs it (an allocator that is asked for alignment writes the zeros
//! itself, and every page is there). And memory that was outgrown goes back to the system whole, where an allocator
//! keeps the pieces.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::Deref;
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Memory of at least this many bytes is a mapping.
const MAPPED_FROM_BYTES: usize = 16 << 10;

/// Bytes of a cache line, to which everything is aligned.
const LINE_BYTES: usize = 64;

/// A type that may be made of zero bytes, may be shared between threads, and needs no drop.
///
/// # Safety
/// Memory that is all zero has to be a valid value of the type.
pub(crate) unsafe trait FromZeros: Sync + Send {}

// SAFETY: zero is a valid atomic number.
unsafe impl FromZeros for std::sync::atomic::AtomicU64 {}

/// A slice of zeroed values that owns its memory.
pub(crate) struct Zeroed<T: FromZeros> {
    start: NonNull<T>,
    len: usize,
}

// SAFETY: it owns its values like a boxed slice, and they may be sent.
unsafe impl<T: FromZeros> Send for Zeroed<T> {}
// SAFETY: `&Zeroed` only gives `&[T]`, and the values may be shared.
unsafe impl<T: FromZeros> Sync for Zeroed<T> {}

impl<T: FromZeros> Zeroed<T> {
    /// `len` zeroed values; at least one.
    pub(crate) fn new(len: usize) -> Self {
        let layout = Self::layout(len);
        let start = if layout.size() >= MAPPED_FROM_BYTES {
            let (access, kind) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
            // SAFETY: a new private mapping at an address of the system's choice touches no memory that exists.
            let mapped = unsafe { mmap_anonymous(std::ptr::null_mut(), layout.size(), access, kind) };
            mapped.unwrap_or(std::ptr::null_mut()).cast::<T>()
        } else {
            // SAFETY: `layout` refuses a size of zero.
            unsafe { alloc_zeroed(layout) }.cast::<T>()
        };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Self { start, len }
    }

    fn layout(len: usize) -> Layout {
        match Layout::array::<T>(len).and_then(|layout| layout.align_to(LINE_BYTES)) {
            Ok(layout) if layout.size() > 0 => layout,
            _ => unreachable!("tables have between one and 2^32 rows of a few words"),
        }
    }
}

impl<T: FromZeros> Deref for Zeroed<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `start` points to `len` values that were zeroed in `new`, and zero is a value of `T`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: FromZeros> Drop for Zeroed<T> {
    fn drop(&mut self) {
        let layout = Self::layout(self.len);
        if layout.size() >= MAPPED_FROM_BYTES {
            // SAFETY: mapped in `new` with this size; dropped once, when nobody can have a reference.
            let unmapped = unsafe { munmap(self.start.as_ptr().cast(), layout.size()) };
            debug_assert!(unmapped.is_ok(), "a mapping of ours can be taken back");
        } else {
            // SAFETY: allocated in `new` with this layout; dropped once, when nobody can have a reference.
            unsafe { dealloc(self.start.as_ptr().cast(), layout) }
        }
    }
}
