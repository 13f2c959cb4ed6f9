//! Sealing bytes that nobody wrote as a snapshot, for tests that look behind the MACs.
//!
//! A parser that only ever sees what passed its MAC is never tried. Switching the MAC off for tests would put a switch
//! into the program that must not exist; so the tests *seal* what they made up, with a key of theirs, and the reader
//! runs as it is. Compiled for tests only.

use super::layout::{
    HEAD_BYTES, MAC_BYTES, SECTIONS_MAX, TRAILER_BYTES, TRAILER_SEALED_BYTES, Trailer, section_bytes, table_bytes,
};
use super::seal::{Keys, Stand};

/// Where the id of a snapshot stands in its file, and how a line of the table is laid out (`FORMAT.md`).
const ID_AT: usize = 64;
const LINE_BYTES: usize = 56;

/// Gives `file` the MACs that a snapshot of these bytes would have under `key`, as far as it has the shape of one: its
/// trailer is made to fit its length, each line of its table gets the MAC of the bytes it points to, and the whole gets
/// its seal. Bytes too short to be a snapshot stay as they are.
pub fn reseal(file: &mut [u8], key: &[u8; 32]) {
    let Some(tail) = file.len().checked_sub(TRAILER_BYTES).filter(|tail| *tail >= HEAD_BYTES + table_bytes(0)) else {
        return;
    };
    let id = file.get(ID_AT..ID_AT + 16).and_then(|id| id.try_into().ok()).unwrap_or([0; 16]);
    let keys = Keys::derive(key, &id);
    // As many sections as the trailer says, if there is room for their table; else none.
    let told = file.get(tail + 16..tail + 24).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
    let fits = |count: &usize| *count <= SECTIONS_MAX && HEAD_BYTES + table_bytes(*count) <= tail;
    let sections = usize::try_from(told).ok().filter(fits).unwrap_or(0);
    let table_at = tail - table_bytes(sections);
    for position in 0..sections {
        let line_at = table_at + position * LINE_BYTES;
        let Some(mac) =
            file.get(line_at..line_at + LINE_BYTES).and_then(|line| section_mac(&keys, position, line, file))
        else {
            continue;
        };
        if let Some(place) = file.get_mut(line_at + LINE_BYTES - MAC_BYTES..line_at + LINE_BYTES) {
            place.copy_from_slice(&mac);
        }
    }
    let trailer = Trailer {
        table_offset: table_at as u64,
        table_bytes: table_bytes(sections) as u64,
        sections: sections as u64,
        file_bytes: file.len() as u64,
    }
    .to_bytes();
    let (Some(head), Some(table)) = (file.get(..HEAD_BYTES), file.get(table_at..tail)) else { return };
    let seal = keys.seal(head, table, &trailer);
    if let Some((fields, mac)) = file.get_mut(tail..).and_then(|end| end.split_at_mut_checked(TRAILER_SEALED_BYTES)) {
        fields.copy_from_slice(&trailer);
        mac.copy_from_slice(&seal);
    }
}

/// The MAC of the section that a line of the table tells of, if it lies in the file.
fn section_mac(keys: &Keys, position: usize, line: &[u8], file: &[u8]) -> Option<[u8; MAC_BYTES]> {
    let word = |at: usize| Some(u32::from_le_bytes(line.get(at..at + 4)?.try_into().ok()?));
    let offset = u64::from_le_bytes(line.get(..8)?.try_into().ok()?);
    let (words, table, index) = (word(12)?, word(16)?, word(20)?);
    let from = usize::try_from(offset).ok()?;
    let archive = file.get(from..from.checked_add(section_bytes(words as usize))?)?;
    let position = u32::try_from(position).ok()?;
    Some(keys.section(Stand { position, table, index, words, offset }, archive))
}
