//! Memory of zeros, for atomics that are no plain bytes: they are made one by one.

use std::mem::MaybeUninit;

use super::sync::AtomicU32;

/// What may begin as zeros.
///
/// # Safety
/// It is an array of words, as the table's buckets are.
pub unsafe trait Zero {}

/// An array of zeros.
pub struct Zeroed<T>(Box<[T]>);

impl<T> Zeroed<T> {
    pub fn new(len: usize) -> Self {
        Self(array(len))
    }
}

impl<T> std::ops::Deref for Zeroed<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

/// `len` values made of nothing but words, each word 0.
fn array<T>(len: usize) -> Box<[T]> {
    const { assert!(size_of::<T>().is_multiple_of(size_of::<AtomicU32>())) };
    let one = |_| {
        let mut one = MaybeUninit::<T>::uninit();
        for word in 0..size_of::<T>() / size_of::<AtomicU32>() {
            // SAFETY: within `one`, which is words throughout.
            unsafe { one.as_mut_ptr().cast::<AtomicU32>().add(word).write(AtomicU32::new(0)) };
        }
        // SAFETY: all of its words have been written.
        unsafe { one.assume_init() }
    };
    (0..len).map(one).collect()
}
