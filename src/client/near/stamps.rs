//! When each tag was last touched: the whole of invalidation.
//!
//! An entry names the tags it depends on; a change touches tags. A stamp is the place in the list of the last change
//! that touched one of a slot's tags, so an entry that was answered at `S` stands iff none of its stamps is above `S`.
//! It does not matter in which order answers and announcements arrive: an answer given at 41 that comes in after the
//! announcement of 42 is simply older than its stamp. Two tags that share a slot cost a question, never an error.

use std::sync::atomic::{AtomicU64, Ordering};

/// Slots by default: half a mebibyte.
pub(super) const SLOTS: usize = 65_536;

/// One stamp for each slot. One writer, the follower; readers wait for nobody.
pub(super) struct Stamps {
    slots: Box<[AtomicU64]>,
    mask: usize,
}

impl Stamps {
    /// At least `slots` of them, a power of two.
    pub(super) fn new(slots: usize) -> Self {
        let slots = slots.clamp(1, 1 << 24).next_power_of_two();
        Self { slots: (0..slots).map(|_| AtomicU64::new(0)).collect(), mask: slots - 1 }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]
    fn slot(&self, tag: u64) -> Option<&AtomicU64> {
        self.slots.get(tag as usize & self.mask)
    }

    /// The change at `sequence` touched `tag`.
    ///
    /// # Ordering
    /// Release: who sees the stamp sees everything the follower did before.
    pub(super) fn touch(&self, tag: u64, sequence: u64) {
        if let Some(slot) = self.slot(tag) {
            // One writer: nobody can raise it in between.
            if slot.load(Ordering::Relaxed) < sequence {
                slot.store(sequence, Ordering::Release);
            }
        }
    }

    /// As if everything had been touched at `sequence` and nothing after: sequences may begin anew, and lower.
    pub(super) fn reset(&self, sequence: u64) {
        self.slots.iter().for_each(|slot| slot.store(sequence, Ordering::Release));
    }

    /// Whether one of `tags` was touched after `sequence`.
    ///
    /// # Ordering
    /// Acquire; pairs with `touch` and `reset`.
    #[inline]
    pub(super) fn touched_since(&self, tags: &[u64], sequence: u64) -> bool {
        // Without a branch for each: the five reads overlap.
        let above = |tag: &u64| self.slot(*tag).is_none_or(|slot| slot.load(Ordering::Acquire) > sequence);
        tags.iter().fold(false, |touched, tag| touched | above(tag))
    }
}
