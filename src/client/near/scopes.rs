//! Scope names and their positions, as the server resolved them.
//!
//! A position never changes its meaning within an epoch, but a name can become known, get an alias or be withdrawn; each
//! of these touches everything, so what a name stands for belongs to a generation and ends with it.
//!
//! Names stay where they were put; what they stand for is read between two looks at a version, which is odd while
//! somebody writes. A reader takes no lock and writes nothing, not even into a slot of its own.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::table::mixed;
use crate::domain::ScopePosition;

/// The most names that are kept, for good: an API server asks about a few dozen. Others are asked for each time.
const NAMES_MAX: usize = 1_024;

/// Twice as many slots, so that the way to a name is short.
const SLOTS: usize = 2 * NAMES_MAX;

/// The position of a name that stands for nothing.
const UNKNOWN: u64 = u64::MAX;

/// What a name stands for, and since when that is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Resolved {
    /// `None`: unknown or withdrawn, so every check with it is denied.
    pub(super) position: Option<ScopePosition>,
    /// The last change that was in when it was resolved.
    pub(super) sequence: u64,
}

/// A name's place. Empty until the name is set.
#[derive(Default)]
struct Slot {
    name: OnceLock<Box<str>>,
    /// Odd while the others are written.
    version: AtomicU64,
    /// The generation in which it was asked for; 0: none.
    generation: AtomicU64,
    position: AtomicU64,
    sequence: AtomicU64,
}

impl Slot {
    /// The generation and the meaning, if nobody is writing.
    #[inline]
    fn read(&self) -> Option<(u64, Resolved)> {
        let before = self.version.load(Ordering::Acquire);
        // Acquiring, so that the second look at the version is not moved before them.
        let generation = self.generation.load(Ordering::Acquire);
        let position = self.position.load(Ordering::Acquire);
        let sequence = self.sequence.load(Ordering::Acquire);
        let is_whole = before & 1 == 0 && self.version.load(Ordering::Relaxed) == before;
        let position = u8::try_from(position).ok().map(ScopePosition::new);
        is_whole.then_some((generation, Resolved { position, sequence }))
    }

    /// Only by whoever holds the lock.
    fn write(&self, generation: u64, resolved: Resolved) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version + 1, Ordering::Relaxed);
        // Who sees one of the following stores sees the odd version.
        fence(Ordering::Release);
        let position = resolved.position.map_or(UNKNOWN, |position| u64::from(position.number()));
        self.generation.store(generation, Ordering::Relaxed);
        self.position.store(position, Ordering::Relaxed);
        self.sequence.store(resolved.sequence, Ordering::Relaxed);
        self.version.store(version + 2, Ordering::Release);
    }
}

/// The names.
pub(super) struct Scopes {
    slots: Box<[Slot]>,
    /// Held by whoever writes: how many names there are.
    names: Mutex<usize>,
}

impl Scopes {
    pub(super) fn new() -> Self {
        Self { slots: (0..SLOTS).map(|_| Slot::default()).collect(), names: Mutex::new(0) }
    }

    /// The slots in the order in which a name looks for its own.
    #[inline]
    fn way(&self, name: &str) -> impl Iterator<Item = &Slot> {
        #[expect(clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]
        let first = mixed(name.as_bytes(), 0) as usize;
        (0..SLOTS).filter_map(move |step| self.slots.get(first.wrapping_add(step) % SLOTS))
    }

    /// What `name` stands for, and the generation that is known of.
    #[inline]
    pub(super) fn find(&self, name: &str) -> Option<(u64, Resolved)> {
        for slot in self.way(name) {
            if **slot.name.get()? == *name {
                return slot.read();
            }
        }
        None
    }

    /// Keeps how a name was resolved in answer to a question of `generation`.
    pub(super) fn put(&self, generation: u64, name: &str, resolved: Resolved) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        for slot in self.way(name) {
            match slot.name.get() {
                Some(known) if **known != *name => continue,
                Some(_) => {}
                None if *names >= NAMES_MAX => return,
                None => {
                    // Written before the name is: who finds the name finds what it stands for.
                    slot.write(generation, resolved);
                    *names += usize::from(slot.name.set(name.into()).is_ok());
                    return;
                }
            }
            let Some((held, known)) = slot.read() else { return };
            // The older of two like answers says more; of two unlike ones the newer counts.
            let says_more = known.sequence < resolved.sequence && known.position != resolved.position;
            if generation > held || generation == held && says_more {
                slot.write(generation, resolved);
            }
            return;
        }
    }
}
