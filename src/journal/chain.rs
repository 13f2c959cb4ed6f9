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
//! **Why the head has a MAC.** Without it somebody could cut the last entries off, or claim that early ones had been
//! discarded (each a way to lose a revocation), and write a head that fits: the chain values it needs stand in the
//! file. What it does not stop is an old file put in place of a new one, head and all; the service keeps its high-water
//! mark elsewhere for that.

use ring::hmac;
use subtle::ConstantTimeEq;

use super::ChainHash;
use crate::domain::Epoch;

/// The journal key, ready for use.
pub(super) struct Keys {
    journal: hmac::Key,
    heads: hmac::Key,
}

impl Keys {
    pub(super) fn new(journal: &[u8; 32]) -> Self {
        let journal = hmac::Key::new(hmac::HMAC_SHA256, journal);
        let heads = hmac::Key::new(hmac::HMAC_SHA256, &mac(&journal, &[b"tokenscope journal v1 head"]));
        Self { journal, heads }
    }

    /// What chains the entries of this epoch.
    pub(super) fn links(&self, epoch: Epoch) -> Links {
        let epoch = epoch.0.to_le_bytes();
        let link = mac(&self.journal, &[b"tokenscope journal v1 link", &epoch]);
        Links {
            key: hmac::Key::new(hmac::HMAC_SHA256, &link),
            start: ChainHash(mac(&self.journal, &[b"tokenscope journal v1", &epoch])),
        }
    }

    /// The MAC of a head's bytes.
    pub(super) fn head(&self, bytes: &[u8]) -> [u8; 32] {
        mac(&self.heads, &[bytes])
    }
}

/// The chain of one epoch.
pub(super) struct Links {
    key: hmac::Key,
    /// What the first entry of the list is chained to.
    pub(super) start: ChainHash,
}

impl Links {
    /// The chain value of the entry with these bytes that follows `previous`.
    pub(super) fn next(&self, previous: ChainHash, entry: &[u8]) -> ChainHash {
        ChainHash(mac(&self.key, &[&previous.0, entry]))
    }
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
