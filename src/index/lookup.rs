//! From a hash to a row number: an open-addressing table that only grows, read without a lock.
//!
//! ```text
//! slot (64 bits):   hash (upper 32) | row + 1 (lower 32);   0 = empty
//! ```
//!
//! The hash's upper bits choose the slot, linear probing finds the next. Equality is the caller's: it compares with the
//! row a slot names. Rows are never taken out. When the table is five eighths full the writer builds one a quarter
//! larger and swaps it in; readers of the old one go on undisturbed until they unpin.
//!
//! # Ordering
//! A slot is stored with release after its row is complete, and loaded with acquire: who sees the slot sees the row.
//! A table is swapped in with release after it is filled.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_epoch::{Atomic, Guard, Owned, Shared};

use super::ahead::fetch;
use super::zeroed::Zeroed;

/// Slots of a fresh table.
const FRESH_SLOTS: usize = 64;

struct Table {
    slots: Zeroed<AtomicU64>,
}

impl Table {
    fn new(slots: usize) -> Self {
        Self { slots: Zeroed::new(slots) }
    }

    fn start(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.slots.len() as u64) >> 32) as usize
    }

    fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut at = self.start(hash);
        for _ in 0..self.slots.len() {
            let slot = self.slots[at].load(Ordering::Acquire);
            if slot == 0 {
                return None;
            }
            let row = (slot as u32) - 1;
            if (slot >> 32) as u32 == hash && is_it(row) {
                return Some(row);
            }
            at = if at + 1 == self.slots.len() { 0 } else { at + 1 };
        }
        None
    }

    fn insert(&self, slot: u64) {
        let mut at = self.start((slot >> 32) as u32);
        while self.slots[at].load(Ordering::Relaxed) != 0 {
            at = if at + 1 == self.slots.len() { 0 } else { at + 1 };
        }
        self.slots[at].store(slot, Ordering::Release);
    }
}

/// A hash index over the rows of some other table.
pub(crate) struct Lookup {
    table: Atomic<Table>,
    used: AtomicU64,
}

impl Lookup {
    pub(crate) fn new() -> Self {
        Self { table: Atomic::new(Table::new(FRESH_SLOTS)), used: AtomicU64::new(0) }
    }

    /// The row with this hash for which `is_it` holds.
    #[inline]
    pub(crate) fn find(&self, hash: u32, guard: &Guard, is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let table = self.table.load(Ordering::Acquire, guard);
        // SAFETY: the pointer is never null, and a swapped-out table is freed only after every guard of its time is gone.
        unsafe { table.deref() }.find(hash, is_it)
    }

    /// Begins to load the slot where a row with this hash would be first.
    #[inline]
    pub(crate) fn fetch(&self, hash: u32, guard: &Guard) {
        // SAFETY: as in `find`.
        let table = unsafe { self.table.load(Ordering::Acquire, guard).deref() };
        fetch(&table.slots[table.start(hash)]);
    }

    /// Makes room for so many rows at once: a table nine sixteenths full with them, unless it is larger already. For the
    /// writer alone.
    pub(crate) fn reserve(&self, rows: u32, guard: &Guard) {
        let slots = usize::try_from(u64::from(rows) * 16 / 9).unwrap_or(usize::MAX);
        let shared = self.table.load(Ordering::Acquire, guard);
        // SAFETY: as in `find`.
        if slots > unsafe { shared.deref() }.slots.len() {
            self.rebuild(shared, slots, guard).slots.populate();
        }
    }

    /// Swaps in a table of so many slots that holds what the one at hand holds.
    fn rebuild<'g>(&self, shared: Shared<'g, Table>, slots: usize, guard: &'g Guard) -> &'g Table {
        // SAFETY: as in `find`.
        let table = unsafe { shared.deref() };
        let larger = Table::new(slots);
        for slot in table.slots.iter().map(|slot| slot.load(Ordering::Relaxed)).filter(|slot| *slot != 0) {
            larger.insert(slot);
        }
        let new = Owned::new(larger).into_shared(guard);
        self.table.store(new, Ordering::Release);
        // SAFETY: the old table is unreachable for anybody who pins from now on, and retired exactly once, here.
        unsafe { guard.defer_destroy(shared) };
        // The old table may be large: it is not kept until there are enough others to make a bag full.
        guard.flush();
        // SAFETY: just stored, and this guard keeps it.
        unsafe { new.deref() }
    }

    /// Adds a row unless there is one with its hash for which `is_it` holds: then that one is given back. For the writer
    /// alone.
    pub(crate) fn insert_new(&self, hash: u32, row: u32, guard: &Guard, is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let known = self.find(hash, guard, is_it);
        if known.is_none() {
            self.insert(hash, row, guard);
        }
        known
    }

    /// Adds a row that is not in yet. For the writer alone.
    pub(crate) fn insert(&self, hash: u32, row: u32, guard: &Guard) {
        let shared = self.table.load(Ordering::Acquire, guard);
        // SAFETY: as in `find`.
        let mut table = unsafe { shared.deref() };
        let used = self.used.load(Ordering::Relaxed) + 1;
        if used * 8 > table.slots.len() as u64 * 5 {
            table = self.rebuild(shared, table.slots.len() / 4 * 5, guard);
        }
        table.insert(u64::from(hash) << 32 | (u64::from(row) + 1));
        self.used.store(used, Ordering::Relaxed);
    }

    /// Bytes of the table.
    pub(crate) fn bytes(&self, guard: &Guard) -> u64 {
        // SAFETY: as in `find`.
        unsafe { self.table.load(Ordering::Acquire, guard).deref() }.slots.len() as u64 * 8
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        // SAFETY: `&mut self`: nobody else has the table, and it is never null.
        unsafe { drop(std::mem::replace(&mut self.table, Atomic::null()).into_owned()) }
    }
}

/// Mixes a 64-bit key into the 32-bit hash of [`Lookup`]. The seed differs from start to start.
#[inline]
pub(crate) fn hash_pair(seed: u64, key: u64) -> u32 {
    let mut mixed = (key ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^= mixed >> 32;
    mixed = mixed.wrapping_mul(0xd6e8_feb8_6659_fd93);
    (mixed >> 32) as u32
}
