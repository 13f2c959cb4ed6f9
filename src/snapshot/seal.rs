//! The MACs: what each is over, and under which key.
//!
//! HMAC-SHA-256 throughout. From the key of the data directory two keys are derived for each snapshot, with a label
//! and the snapshot's random id, so that nothing sealed for one snapshot, or for another purpose, passes in another.
//! Each section's MAC also covers its place; the seal covers the head, the table with all those MACs, and all lengths.

use ring::hmac::{Context, HMAC_SHA256, Key};
use subtle::ConstantTimeEq;

use super::layout::{MAC_BYTES, TRAILER_SEALED_BYTES};

const SECTION_LABEL: &[u8] = b"tokenscope snapshot 1 section";
const SEAL_LABEL: &[u8] = b"tokenscope snapshot 1 seal";

/// The two keys of one snapshot. `Debug` shows nothing of them.
#[derive(Debug)]
pub(super) struct Keys {
    section: Key,
    seal: Key,
}

/// Where a section stands; part of what its MAC covers.
#[derive(Clone, Copy)]
pub(super) struct Stand {
    pub position: u32,
    pub table: u32,
    pub index: u32,
    pub words: u32,
    pub offset: u64,
}

impl Keys {
    /// The keys of the snapshot with this id.
    pub fn derive(key: &[u8; 32], id: &[u8; 16]) -> Self {
        let root = Key::new(HMAC_SHA256, key);
        let derived = |label: &[u8]| {
            let mut context = Context::with_key(&root);
            context.update(label);
            context.update(id);
            Key::new(HMAC_SHA256, context.sign().as_ref())
        };
        Self { section: derived(SECTION_LABEL), seal: derived(SEAL_LABEL) }
    }

    /// The MAC of a section: its place (24 bytes), then its archive.
    pub fn section(&self, stand: Stand, archive: &[u8]) -> [u8; MAC_BYTES] {
        let mut context = Context::with_key(&self.section);
        for field in [stand.position, stand.table, stand.index, stand.words] {
            context.update(&field.to_le_bytes());
        }
        context.update(&stand.offset.to_le_bytes());
        context.update(archive);
        bytes(context.sign())
    }

    /// The seal: the head (prefix and header), the table's archive, then the trailer's fields. Head and trailer have
    /// fixed lengths, so no two files give the same sequence of bytes.
    pub fn seal(&self, head: &[u8], table: &[u8], trailer: &[u8; TRAILER_SEALED_BYTES]) -> [u8; MAC_BYTES] {
        let mut context = Context::with_key(&self.seal);
        context.update(head);
        context.update(table);
        context.update(trailer);
        bytes(context.sign())
    }
}

/// Whether two MACs are the same, in a time that does not tell where they differ.
pub(super) fn same(a: &[u8; MAC_BYTES], b: &[u8; MAC_BYTES]) -> bool {
    a.ct_eq(b).into()
}

fn bytes(tag: ring::hmac::Tag) -> [u8; MAC_BYTES] {
    let mut bytes = [0; MAC_BYTES];
    // HMAC-SHA-256 gives exactly this many.
    bytes.copy_from_slice(tag.as_ref());
    bytes
}
