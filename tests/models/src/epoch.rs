//! What the table asks of crossbeam-epoch, over a model's own atomics: a pointer that is replaced, and what was replaced
//! goes when nobody is pinned any more who was pinned when it was retired. Whoever touches it then, fails.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;

use super::sync::{self, AtomicPtr, Ordering};

thread_local! {
    /// A model's threads all run on one thread of the system.
    static PINS: RefCell<Pins> = RefCell::default();
}

/// How the memory at an address is given back.
type Free = fn(usize);

#[derive(Default)]
struct Pins {
    next: u64,
    pinned: BTreeSet<u64>,
    /// What was retired, who may still have it, and how its memory is given back.
    retired: Vec<(usize, BTreeSet<u64>, Free)>,
    /// What nobody may touch any more. Its memory stays until the execution is over, so that touching it is found.
    gone: BTreeMap<usize, Free>,
}

impl Pins {
    fn let_go(&mut self, pin: u64) {
        for (_, holders, _) in &mut self.retired {
            holders.remove(&pin);
        }
        let gone = self.retired.iter().filter(|(_, holders, _)| holders.is_empty());
        self.gone.extend(gone.map(|(place, _, free)| (*place, *free)));
        self.retired.retain(|(_, holders, _)| !holders.is_empty());
    }
}

pub struct Guard(u64);

pub fn pin() -> Guard {
    sync::pin();
    PINS.with_borrow_mut(|pins| {
        pins.next += 1;
        pins.pinned.insert(pins.next);
        Guard(pins.next)
    })
}

/// Forgets the execution before, which may have ended anywhere.
pub fn begin() {
    let pins = PINS.take();
    let retired = pins.retired.into_iter().map(|(place, _, free)| (place, free));
    retired.chain(pins.gone).for_each(|(place, free)| free(place));
}

fn free<T>(place: usize) {
    // SAFETY: made by `Box::into_raw` of this type, retired once.
    drop(unsafe { Box::from_raw(place as *mut T) });
}

impl Drop for Guard {
    fn drop(&mut self) {
        PINS.with_borrow_mut(|pins| {
            pins.pinned.remove(&self.0);
            pins.let_go(self.0);
        });
    }
}

impl Guard {
    /// # Safety
    /// As crossbeam's: nobody can reach it who pins from now on.
    pub unsafe fn defer_destroy<T>(&self, it: Shared<'_, T>) {
        sync::retire();
        PINS.with_borrow_mut(|pins| {
            let holders = pins.pinned.clone();
            pins.retired.push((it.0 as usize, holders, free::<T>));
        });
    }

    #[allow(dead_code, reason = "for a table that retires more at once")]
    pub fn flush(&self) {}
}

pub struct Owned<T>(Box<T>);

impl<T> Owned<T> {
    pub fn new(it: T) -> Self {
        Self(Box::new(it))
    }

    pub fn into_shared(self, _: &Guard) -> Shared<'_, T> {
        Shared(Box::into_raw(self.0), PhantomData)
    }
}

pub struct Shared<'g, T>(*mut T, PhantomData<&'g T>);

impl<T> Clone for Shared<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<'_, T> {}

impl<'g, T> Shared<'g, T> {
    /// # Safety
    /// As crossbeam's; that it is not gone is looked at here.
    pub unsafe fn deref(&self) -> &'g T {
        assert!(!PINS.with_borrow(|pins| pins.gone.contains_key(&(self.0 as usize))), "used after it was freed");
        // SAFETY: a segment is freed with its table, if at all; what is "gone" is only noted.
        unsafe { &*self.0 }
    }
}

pub struct Atomic<T>(AtomicPtr<T>);

impl<T> Atomic<T> {
    pub fn new(it: T) -> Self {
        Self(AtomicPtr::new(Box::into_raw(Box::new(it))))
    }

    pub fn null() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()))
    }

    pub fn load<'g>(&self, ordering: Ordering, _: &'g Guard) -> Shared<'g, T> {
        Shared(self.0.load(ordering), PhantomData)
    }

    pub fn store(&self, it: Shared<'_, T>, ordering: Ordering) {
        self.0.store(it.0, ordering);
    }

    /// # Safety
    /// As crossbeam's.
    pub unsafe fn into_owned(mut self) -> Owned<T> {
        // SAFETY: made by `Box::into_raw`.
        Owned(unsafe { Box::from_raw(self.0.take()) })
    }
}
