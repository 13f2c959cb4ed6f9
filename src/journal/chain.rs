//! The keyed chain: what makes an entry believable, and its place in the list with it.
//!
//! ```text
//! chain(0) = HMAC(journal key, "tokenscope journal v1" ‖ epoch)
//! link key = HMAC(journal key, "tokenscope journal v1 link" ‖ epoch)
//! chain(n) = HMAC(link key, chain(n-1) ‖ bytes of entry n)
//! head MAC = HMAC(head key, bytes of the head);   head key = HMAC(journal key, "tokenscope journal v1 head")
//! ```
//!
//! HMAC is HMAC-SHA256, `‖` is concatenation, the epoch is a little-endian u64. One value is chain and MAC at once:
//! whoever has not the key can make no entry, and cannot move, drop or repeat one either.
//!
//! **Why keys of their own.** The link key is made from the epoch, so that every entry is bound to its epoch, also in a
//! journal that begins in the middle of the list with a chain value from a snapshot; a first chain value alone would
//! bind only lists that begin at 0. The head has another key, so that no entry can ever pass for a head.
//!
//! **Generations.** After a rotation the journal key is another; entry n is chained with the key in force at its place, and
//! the head is sealed with the newest one. Which one sealed a head is found by trying; it is believed only if no later
//! generation was in force at the place it tells of. The value of the chain where a generation begins is known from the
//! secrets, so whoever has an older key alone can make nothing that would be believed, before that place or after it.
//!
//! **Why the head has a MAC.** Without it somebody could cut the last entries off, or claim that early ones had been
//! discarded (each a way to lose a revocation), and write a head that fits: the chain values it needs stand in the
//! file. What it does not stop is an old file put in place of a new one, head and all; the service keeps its high-water
//! mark elsewhere for that.

use ring::hmac;
use subtle::ConstantTimeEq;

use super::ChainHash;
use super::row::Position;
use crate::domain::{Epoch, Revision, Sequence};
use crate::secrets::{Key, Ring};

/// The journal keys, ready for use.
pub(super) struct Keys(Ring);

impl Keys {
    pub(super) fn new(ring: impl Into<Ring>) -> Self {
        Self(ring.into())
    }

    /// Where the newest generation begins.
    pub(super) fn newest_after(&self) -> Revision {
        self.0.newest().after
    }

    /// The number of the newest generation.
    pub(super) fn newest(&self) -> u32 {
        self.0.newest().number
    }

    /// What chains the entries of this epoch.
    pub(super) fn links(&self, epoch: Epoch) -> Links {
        let bytes = epoch.0.to_le_bytes();
        let mut steps: Vec<Step> = Vec::new();
        for key in self.0.keys().iter().filter(|key| key.after.epoch <= epoch) {
            let journal = prepared(&key.bytes);
            let begins = key.after.epoch == epoch;
            let after = if begins { key.after.sequence } else { Sequence::ZERO };
            // The first generation of all has nothing before it, and so nothing to pin.
            let pinned =
                (begins && key.number > 1).then_some(Position { sequence: after, chain: ChainHash(key.chain) });
            let link = prepared(&mac(&journal, &[b"tokenscope journal v1 link", &bytes]));
            steps.push(Step { after, pinned, key: link });
        }
        let newest = prepared(&self.0.newest().bytes);
        Links { steps, start: ChainHash(mac(&newest, &[b"tokenscope journal v1", &bytes])) }
    }

    /// The MAC of a head's bytes, with the newest key.
    pub(super) fn head(&self, bytes: &[u8]) -> [u8; 32] {
        head_mac(self.0.newest(), bytes)
    }

    /// The number of the generation that made this MAC over a head's bytes.
    pub(super) fn sealed(&self, bytes: &[u8], found: &[u8; 32]) -> Option<u32> {
        self.0.find(|key| same(&head_mac(key, bytes), found)).map(|key| key.number)
    }

    /// Whether that generation may have sealed what speaks of this place.
    pub(super) fn may_seal(&self, number: u32, revision: Revision) -> bool {
        self.0.may_seal(number, revision)
    }
}

/// One generation's part of an epoch's chain.
struct Step {
    /// Entries after this one.
    after: Sequence,
    /// The chain value there, if it is known.
    pinned: Option<Position>,
    key: hmac::Key,
}

/// The chain of one epoch.
pub(super) struct Links {
    /// By generation, oldest first.
    steps: Vec<Step>,
    /// What the first entry of a list that is begun now is chained to.
    pub(super) start: ChainHash,
}

impl Links {
    /// The chain value of the entry with these bytes that follows `previous`; `None` if it stands before the oldest
    /// generation that is kept, so that nobody can tell.
    pub(super) fn next(&self, previous: Position, entry: &[u8]) -> Option<ChainHash> {
        let step = self.steps.iter().rev().find(|step| step.after <= previous.sequence)?;
        Some(ChainHash(mac(&step.key, &[&previous.chain.0, entry])))
    }

    /// Whether the list may have this chain value at this place: it has to where a generation begins.
    pub(super) fn agrees(&self, at: Position) -> bool {
        let pins = self.steps.iter().filter_map(|step| step.pinned);
        pins.filter(|pin| pin.sequence == at.sequence).all(|pin| pin.chain.is(&at.chain))
    }
}

fn prepared(bytes: &[u8; 32]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, bytes)
}

fn head_mac(key: &Key, bytes: &[u8]) -> [u8; 32] {
    mac(&prepared(&mac(&prepared(&key.bytes), &[b"tokenscope journal v1 head"])), &[bytes])
}

impl ChainHash {
    /// Whether two values are the same, in a time that does not tell where they differ.
    pub(super) fn is(&self, other: &Self) -> bool {
        same(&self.0, &other.0)
    }
}

/// Whether two MACs are the same, in a time that does not tell where they differ.
pub(super) fn same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    bool::from(one.ct_eq(other))
}

fn mac(key: &hmac::Key, parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(key);
    parts.iter().for_each(|part| context.update(part));
    let tag = context.sign();
    let mut bytes = [0; 32];
    bytes.copy_from_slice(tag.as_ref());
    bytes
}
