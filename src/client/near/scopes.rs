//! Scope names and their positions, as the server resolved them.
//!
//! A position never changes its meaning within an epoch, but a name can become known, get an alias or be withdrawn; each
//! of these touches everything, so a book of names belongs to a generation and ends with it. Read without a lock; a new
//! name copies the book, which is small: an API server asks about a few dozen scopes.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};

use super::table::mixed;
use crate::domain::ScopePosition;

/// The most names that are kept. Others are asked for each time.
const NAMES_MAX: usize = 1_024;

/// A name as it was resolved.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Name {
    name: Box<str>,
    resolved: Resolved,
}

/// What a name stands for, and since when that is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Resolved {
    /// `None`: unknown or withdrawn, so every check with it is denied.
    pub(super) position: Option<ScopePosition>,
    /// The last change that was in when it was resolved.
    pub(super) sequence: u64,
}

/// All names of one generation: an open table, at most half full.
pub(super) struct Book {
    pub(super) generation: u64,
    slots: Box<[Option<Name>]>,
    names: usize,
}

impl Book {
    fn empty(generation: u64) -> Self {
        Self { generation, slots: (0..64).map(|_| None).collect(), names: 0 }
    }

    /// The slots in the order in which a name looks for its own.
    fn way(&self, name: &str) -> impl Iterator<Item = usize> + use<> {
        let mask = self.slots.len() - 1;
        #[expect(clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]
        let first = mixed(name.as_bytes(), 0) as usize;
        (0..=mask).map(move |step| first.wrapping_add(step) & mask)
    }

    /// What `name` stands for, if it was resolved in this generation.
    #[inline]
    pub(super) fn find(&self, name: &str) -> Option<Resolved> {
        for at in self.way(name) {
            let known = self.slots.get(at)?.as_ref()?;
            if *known.name == *name {
                return Some(known.resolved);
            }
        }
        None
    }

    fn put(&mut self, entry: Name) {
        let free = self.way(&entry.name).find(|at| {
            let slot = self.slots.get(*at).and_then(Option::as_ref);
            slot.is_none_or(|known| known.name == entry.name)
        });
        if let Some(slot) = free.and_then(|at| self.slots.get_mut(at)) {
            self.names += usize::from(slot.is_none());
            *slot = Some(entry);
        }
    }

    /// A copy with this name in it; `None` if there is no room.
    fn with(&self, entry: Name) -> Option<Self> {
        if self.names >= NAMES_MAX && self.find(&entry.name).is_none() {
            return None;
        }
        let slots = if (self.names + 1) * 2 > self.slots.len() { self.slots.len() * 2 } else { self.slots.len() };
        let mut copy = Self { generation: self.generation, slots: (0..slots).map(|_| None).collect(), names: 0 };
        self.slots.iter().flatten().cloned().for_each(|name| copy.put(name));
        copy.put(entry);
        Some(copy)
    }
}

/// The book in force.
pub(super) struct Scopes {
    book: ArcSwap<Book>,
    /// Held while a book is copied.
    copying: Mutex<()>,
}

impl Scopes {
    pub(super) fn new() -> Self {
        Self { book: ArcSwap::from_pointee(Book::empty(0)), copying: Mutex::new(()) }
    }

    #[inline]
    pub(super) fn book(&self) -> Guard<Arc<Book>> {
        self.book.load()
    }

    /// Keeps how a name was resolved in answer to a question of `generation`.
    pub(super) fn put(&self, generation: u64, name: &str, resolved: Resolved) {
        let _copying = self.copying.lock().unwrap_or_else(PoisonError::into_inner);
        let book = self.book.load();
        if generation < book.generation {
            return;
        }
        let known = if generation == book.generation { book.find(name) } else { None };
        // The older of two like answers says more; of two unlike ones the newer counts.
        if known.is_some_and(|known| known.sequence >= resolved.sequence || known.position == resolved.position) {
            return;
        }
        let name = Name { name: name.into(), resolved };
        let next = if generation == book.generation { book.with(name) } else { Book::empty(generation).with(name) };
        if let Some(next) = next {
            self.book.store(Arc::new(next));
        }
    }
}
