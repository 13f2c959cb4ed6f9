//! One key after another: the generations of a MAC key, each with the place in the list from which it is in force.
//!
//! A journal or a directory of snapshots is sealed with several of them while a rotation is young. Which one a piece of the
//! list needs follows from its place; which one sealed a file is found by trying them, the newest first.
//!
//! Promises: a ring is never empty, its places never go back, no key is printed, and all are wiped when dropped. A key
//! that was replaced is good for nothing that stands later in the list than its end ([`Ring::may_seal`]).

use std::fmt;

use zeroize::Zeroize;

use crate::domain::{Epoch, Revision, Sequence};

/// The place before everything, which the first generation begins at.
pub(super) const BEGINNING: Revision = Revision { epoch: Epoch(0), sequence: Sequence::ZERO };

/// One generation of a key.
#[derive(Clone)]
pub struct Key {
    /// Its number; they go up by one.
    pub number: u32,
    /// The last place of the list before it: entries after this one are sealed with it.
    pub after: Revision,
    /// The chain value of the journal at that place, so that nobody with an older key can write the list before it anew;
    /// zero for the first generation, which has nothing before it.
    pub chain: [u8; 32],
    /// The key.
    pub bytes: [u8; 32],
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, …)", self.number)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

/// The generations of one key, oldest first.
#[derive(Clone, Debug)]
pub struct Ring(Vec<Key>);

impl Ring {
    /// A ring of these; they are in order.
    ///
    /// # Panics
    /// If there is none, or they are out of order: what is read from a file was checked before.
    pub fn new(keys: Vec<Key>) -> Self {
        let sorted = keys.windows(2).all(|two| two[0].number < two[1].number && two[0].after <= two[1].after);
        assert!(!keys.is_empty() && sorted, "a ring of keys has at least one, in order");
        Self(keys)
    }

    /// A ring of one key, in force from the beginning: what there is before the first rotation.
    pub fn one(key: [u8; 32]) -> Self {
        Self(vec![Key { number: 1, after: BEGINNING, chain: [0; 32], bytes: key }])
    }

    /// All, oldest first.
    pub fn keys(&self) -> &[Key] {
        &self.0
    }

    /// The one that seals what is written now.
    pub fn newest(&self) -> &Key {
        // Never empty; made so by both constructors.
        &self.0[self.0.len() - 1]
    }

    /// The newest of the keys for which `matches` says yes: the one that sealed something.
    pub fn find(&self, mut matches: impl FnMut(&Key) -> bool) -> Option<&Key> {
        self.0.iter().rev().find(|key| matches(key))
    }

    /// Whether the generation with this number may have sealed something that stands at `revision`: not if a later one
    /// was in force before. It may have sealed what is older than itself. Falls to "no" for a number that is not there.
    pub fn may_seal(&self, number: u32, revision: Revision) -> bool {
        let Some(at) = self.0.iter().position(|key| key.number == number) else { return false };
        self.0.get(at + 1).is_none_or(|next| revision <= next.after)
    }

    /// The oldest generation that is still needed when entries up to `discarded` are gone and nothing else needs one
    /// before `needed`.
    pub fn oldest_needed(&self, discarded: Revision, needed: u32) -> u32 {
        let ends = self.0.iter().skip(1);
        let gone = self.0.iter().zip(ends).take_while(|(key, next)| next.after <= discarded && key.number < needed);
        gone.last().map_or(self.0[0].number, |(_, next)| next.number)
    }
}

impl From<&[u8; 32]> for Ring {
    fn from(key: &[u8; 32]) -> Self {
        Self::one(*key)
    }
}

impl From<&Self> for Ring {
    fn from(ring: &Self) -> Self {
        ring.clone()
    }
}
