//! Filling the table while nobody looks: a restart lays tokens down as they stand in a snapshot.
//!
//! Without readers there is nobody to be told that a slot changes: no version is raised, no order of stores kept, and a
//! slot's words are copied as they are. What a reader will rely on afterwards holds all the same: each token stands in one of
//! its two buckets, once, and `spilled` counts those that stand in their second.

use std::sync::atomic::Ordering;

use crossbeam_epoch::Guard;

use super::{
    Bucket, Crowded, FULL_SIXTEENTHS, REVOKED, SLOT_WORDS, SLOTS, Segment, SlotFacts, SlotTimes, Tokens, clear,
    free_slot,
};
use crate::domain::TokenKey;

impl Tokens {
    /// Puts the words of a slot where they belong, unless their key is in the table already; says whether it was not. For
    /// the writer alone, and only while nobody looks: what a reader would have to be told is left out.
    ///
    /// # Errors
    /// As [`Tokens::try_insert`].
    pub(crate) fn lay(&self, token: &[u32; SLOT_WORDS], guard: &Guard) -> Result<bool, Crowded> {
        let [a, b, c, d, grant, when, life_used] = *token;
        let key = [a, b, c, d];
        let number = Self::number(&key);
        let segment = self.segment(number, guard);
        let (home, other) = segment.homes(&key);
        let (first, second) = (&segment.buckets()[home], &segment.buckets()[other]);
        if holds(first, &key) || (first.spilled().load(Ordering::Relaxed) > 0 && holds(second, &key)) {
            return Ok(false);
        }
        let used = self.used[number].load(Ordering::Relaxed) as usize + 1;
        if used == 1 {
            // All of it will be written to, and not yet: now its pages cost one call, and stay in the cache till then.
            segment.buckets.populate();
        }
        let is_full = used * 16 > segment.buckets().len() * SLOTS * FULL_SIXTEENTHS;
        let place = match free_slot(first) {
            _ if is_full => None,
            Some(slot) => Some((home, slot)),
            None => match free_slot(second) {
                Some(slot) => Some((other, slot)),
                None => [home, other].into_iter().find_map(|at| Some((at, give_way(segment, at)?))),
            },
        };
        let Some((at, slot)) = place else {
            let times = SlotTimes::read(when, (life_used >> 16) as u16);
            let (revoked, used) = (grant & REVOKED != 0, life_used as u16);
            let facts = SlotFacts { grant: grant & !REVOKED, revoked, times, used };
            return self.try_insert(&TokenKey::from_words(key), facts, guard).map(|()| true);
        };
        lay_into(segment, home, at, slot, token);
        self.used[number].store(used as u32, Ordering::Relaxed);
        Ok(true)
    }
}

/// Puts the words of a slot into one of bucket `at` that is empty; `home` is the token's first bucket. While nobody looks.
fn lay_into(segment: &Segment, home: usize, at: usize, slot: usize, token: &[u32; SLOT_WORDS]) {
    for (word, value) in segment.buckets()[at].slot(slot).iter().zip(token) {
        word.store(*value, Ordering::Relaxed);
    }
    if home != at {
        let spilled = segment.buckets()[home].spilled();
        spilled.store(spilled.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

/// Has one of the tokens of a full bucket go to its other bucket, if that has room: the slot it leaves. While nobody looks.
fn give_way(segment: &Segment, at: usize) -> Option<usize> {
    (0..SLOTS).find_map(|slot| {
        let token: [u32; SLOT_WORDS] =
            std::array::from_fn(|word| segment.buckets()[at].slot(slot)[word].load(Ordering::Relaxed));
        let key = [token[0], token[1], token[2], token[3]];
        let (home, second) = segment.homes(&key);
        let other = if home == at { second } else { home };
        let free = free_slot(&segment.buckets()[other])?;
        lay_into(segment, home, other, free, &token);
        clear(segment, at, slot, &key);
        Some(slot)
    })
}

/// Whether a bucket holds this key, as the writer sees it.
fn holds(bucket: &Bucket, key: &[u32; 4]) -> bool {
    (0..SLOTS).map(|slot| bucket.slot(slot)).any(|words| {
        let is_it = words.iter().zip(key).all(|(word, key)| word.load(Ordering::Relaxed) == *key);
        is_it && words[4].load(Ordering::Relaxed) != 0
    })
}
