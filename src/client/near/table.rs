//! Where facts are held: a fixed number of slots, eight to a set, each a pointer that is swapped whole.
//!
//! ```text
//!        set = hash of (digest, place)
//!        ┌───────────────── 8 fingerprints, 32 bits each ─────────────────┐┌──── 8 pointers ────┐
//!        │ f0 │ f1 │ f2 │ f3 │ f4 │ f5 │ f6 │ f7                          ││ p0 │ p1 │ … │ p7   │
//!        └────────────────────────────────────────────────────────────────┘└─────────┬──────────┘
//!                                                                       digest, place, facts, tags, sequence
//! ```
//!
//! A look reads the fingerprints, follows the pointers that fit, and compares the whole digest and the whole place: a
//! fingerprint decides nothing. It takes no lock and allocates nothing. Putting something in takes a lock, which only
//! those feel who have just waited for a server. Nothing grows: what is put into a full set drives out what was not
//! used since it was last looked at (second chance).
//!
//! Whether an entry still holds is not decided here.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwapOption, Guard};

use super::clock::Moment;
use super::inline::{Pairs, PlaceText};
use crate::domain::access::PlaceFacts;
use crate::domain::{Expiry, ScopePosition, Timestamp, TokenDigest};
use crate::wire::facts::{self, TAGS};

/// Slots of a set.
const WAYS: usize = 8;

/// An empty slot's fingerprint.
const EMPTY: u32 = 0;

/// The facts of one token at one place, as the server gave them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::client) struct Facts {
    /// The last change that is in them.
    pub(super) sequence: u64,
    /// The start of the server that gave them.
    pub(super) incarnation: u64,
    /// What they depend on: token, grant, subject, client, workspace.
    pub(super) tags: [u64; TAGS],
    pub(super) not_before: Timestamp,
    /// The earlier of the token's and the grant's.
    pub(super) expiry: Expiry,
    pub(super) place: PlaceFacts,
    /// What covers the place, cut to what the token was narrowed to.
    pub(super) pairs: Pairs,
}

impl From<&facts::Facts<'_>> for Facts {
    fn from(told: &facts::Facts<'_>) -> Self {
        let head = &told.head;
        Self {
            sequence: head.sequence.0,
            incarnation: head.incarnation,
            tags: head.tags,
            not_before: head.not_before,
            expiry: head.expiry,
            place: head.place,
            pairs: told.pairs.collect(),
        }
    }
}

impl Facts {
    /// Whether the token is good at `now`, as far as time alone decides.
    #[inline]
    pub(super) fn is_in_time(&self, now: Timestamp) -> bool {
        self.not_before <= now && !self.expiry.has_passed(now)
    }

    /// May it do `scope`? The very function the server decides by.
    #[inline]
    pub(super) fn decide(&self, scope: ScopePosition) -> Result<(), crate::domain::Denial> {
        self.place.decide(scope, self.pairs.iter().copied())
    }
}

/// Facts that are held.
pub(super) struct Entry {
    pub(super) digest: TokenDigest,
    pub(super) place: PlaceText,
    /// The generation in which they were *asked for*.
    pub(super) generation: u64,
    /// When they came.
    pub(super) filled: Moment,
    pub(super) facts: Facts,
    /// Whether they were used since somebody last looked for room.
    pub(super) used: AtomicBool,
}

struct Set {
    prints: [AtomicU32; WAYS],
    slots: [ArcSwapOption<Entry>; WAYS],
}

/// The slots.
pub(super) struct Table {
    sets: Box<[Set]>,
    mask: u64,
    /// Where the next search for room begins.
    hand: Mutex<usize>,
}

/// A hash of an entry's name: nobody outside chooses a digest that is held, since only active tokens are.
#[derive(Clone, Copy)]
pub(super) struct Spot {
    hash: u64,
    print: u32,
}

/// Multiplies and folds eight bytes at a time: fast, and good enough where nobody gains by a collision.
///
/// The last eight may have been among those before: putting what is left into a word of its own, byte by byte, would make the
/// processor wait until all of them are stored.
#[inline]
pub(super) fn mixed(bytes: &[u8], seed: u64) -> u64 {
    let mut hash = seed ^ bytes.len() as u64;
    let Some(last) = bytes.last_chunk() else { return folded(hash ^ short(bytes)) };
    let mut rest = bytes;
    while let Some((chunk, after)) = rest.split_first_chunk().filter(|(_, after)| !after.is_empty()) {
        hash = folded(hash ^ u64::from_le_bytes(*chunk));
        rest = after;
    }
    folded(hash ^ u64::from_le_bytes(*last))
}

/// Up to seven bytes as a word.
#[inline]
fn short(bytes: &[u8]) -> u64 {
    match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(first), Some(last)) => u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32,
        _ => bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "both halves of the product are used")]
fn folded(word: u64) -> u64 {
    let product = u128::from(word ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93;
    product as u64 ^ (product >> 64) as u64
}

impl Spot {
    #[inline]
    pub(super) fn of(digest: &TokenDigest, place: &str) -> Self {
        let first = digest.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let hash = mixed(place.as_bytes(), first);
        let print = (hash >> 32) as u32 | 1;
        Self { hash, print }
    }
}

impl Table {
    /// Room for `capacity` entries, or a few more: sets are a power of two.
    pub(super) fn new(capacity: usize) -> Self {
        let sets = capacity.clamp(WAYS, 1 << 26).div_ceil(WAYS).next_power_of_two();
        let empty = |_| Set {
            prints: std::array::from_fn(|_| AtomicU32::new(EMPTY)),
            slots: std::array::from_fn(|_| ArcSwapOption::empty()),
        };
        Self { sets: (0..sets).map(empty).collect(), mask: sets as u64 - 1, hand: Mutex::new(0) }
    }

    /// How many entries there is room for.
    pub(super) fn capacity(&self) -> usize {
        self.sets.len() * WAYS
    }

    #[inline]
    fn set(&self, spot: Spot) -> Option<&Set> {
        usize::try_from(spot.hash & self.mask).ok().and_then(|set| self.sets.get(set))
    }

    /// What is held of this token at this place.
    #[inline]
    pub(super) fn find(&self, spot: Spot, digest: &TokenDigest, place: &str) -> Option<Guard<Option<Arc<Entry>>>> {
        let set = self.set(spot)?;
        for (print, slot) in set.prints.iter().zip(&set.slots) {
            if print.load(Ordering::Relaxed) != spot.print {
                continue;
            }
            let held = slot.load();
            if held.as_ref().is_some_and(|entry| entry.digest == *digest && entry.place == *place) {
                return Some(held);
            }
        }
        None
    }

    /// Holds `entry` from now on. `generation` is the current one: older entries leave first. Says whether something
    /// that counted was driven out.
    pub(super) fn put(&self, spot: Spot, entry: Arc<Entry>, generation: u64) -> bool {
        let Some(set) = self.set(spot) else { return false };
        let mut hand = self.hand.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = None;
        for (way, slot) in set.slots.iter().enumerate() {
            let held = slot.load();
            match held.as_ref() {
                Some(held) if held.digest == entry.digest && held.place == entry.place => {
                    // An older answer that comes late does not take the place of a newer one.
                    let is_newer = held.generation == entry.generation && held.facts.sequence > entry.facts.sequence;
                    if !is_newer {
                        slot.store(Some(entry));
                    }
                    return false;
                }
                Some(held) if held.generation == generation => {}
                _ => free = free.or(Some(way)),
            }
        }
        let drives_out = free.is_none();
        let way = free.unwrap_or_else(|| least_used(set, *hand));
        *hand = hand.wrapping_add(1);
        if let (Some(slot), Some(print)) = (set.slots.get(way), set.prints.get(way)) {
            slot.store(Some(entry));
            print.store(spot.print, Ordering::Release);
        }
        drives_out
    }

    /// Lets go of this very entry.
    pub(super) fn drop_entry(&self, spot: Spot, entry: &Arc<Entry>) {
        let Some(set) = self.set(spot) else { return };
        let _hand = self.hand.lock().unwrap_or_else(PoisonError::into_inner);
        for (print, slot) in set.prints.iter().zip(&set.slots) {
            if slot.load().as_ref().is_some_and(|held| Arc::ptr_eq(held, entry)) {
                print.store(EMPTY, Ordering::Release);
                slot.store(None);
            }
        }
    }

    /// How many entries of this generation are held. Walks the table.
    pub(super) fn count(&self, generation: u64) -> usize {
        let slots = self.sets.iter().flat_map(|set| &set.slots);
        slots.filter(|slot| slot.load().as_ref().is_some_and(|held| held.generation == generation)).count()
    }
}

/// The first from `hand` on that was not used since somebody last came by; each that was used gets a second chance.
fn least_used(set: &Set, hand: usize) -> usize {
    for step in 0..2 * WAYS {
        let way = hand.wrapping_add(step) % WAYS;
        let held = set.slots.get(way).map(ArcSwapOption::load);
        let used = held.as_ref().and_then(|held| held.as_ref()).is_some_and(|e| e.used.swap(false, Ordering::Relaxed));
        if !used {
            return way;
        }
    }
    hand % WAYS
}
