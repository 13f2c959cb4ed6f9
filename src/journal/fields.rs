//! The parts that entries are made of, as bytes, and back: numbers, ids, places, scopes, access, audiences.
//!
//! Promises: writing never panics, and what cannot be written in its field is refused ([`TooLong`]) before anything of
//! the entry is used; reading never panics, never allocates more than the bytes at hand warrant, and accepts only what
//! writing produces, so every value has exactly one form. Reading is as strict as the domain's own parsers and never
//! stricter than writing: a journal must not refuse what it wrote. `FORMAT.md` draws the bytes.

use crate::domain::id::IdError;
use crate::domain::scope::{SCOPE_BYTES_MAX, SCOPES_MAX};
use crate::domain::{Access, Audience, GrantId, Pair, Place, Reach, ScopeMask, Switch};

/// The longest entry, in bytes, without its MAC. The largest access list is under 300 KB.
pub const ENTRY_BYTES_MAX: usize = 1 << 20;

/// A part of a change is longer than its field in the journal. Whoever let it in should have had a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} has the length {length}; at most {max} can be written down")]
pub struct TooLong {
    /// What is too long.
    pub what: &'static str,
    /// How long it is.
    pub length: usize,
    /// How long it may be.
    pub max: usize,
}

/// Bytes that are not an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what}, at byte {offset} of the entry")]
pub struct Malformed {
    /// What is wrong.
    pub what: &'static str,
    /// Where, from the entry's first byte.
    pub offset: usize,
}

/// Writes fields at the end of a buffer.
pub(super) struct Writer<'b>(pub(super) &'b mut Vec<u8>);

impl Writer<'_> {
    pub(super) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn switch(&mut self, switch: Switch) {
        self.u8(match switch {
            Switch::Off => 0,
            Switch::On => 1,
        });
    }

    /// A length in one byte, and the text. Ids have at most 128 bytes, so this fits them always.
    pub(super) fn short_text(&mut self, what: &'static str, text: &str, max: usize) -> Result<(), TooLong> {
        let max = max.min(usize::from(u8::MAX));
        match u8::try_from(text.len()) {
            Ok(length) if text.len() <= max => self.u8(length),
            _ => return Err(TooLong { what, length: text.len(), max }),
        }
        self.bytes(text.as_bytes());
        Ok(())
    }

    /// A length in two bytes, and the text.
    pub(super) fn long_text(&mut self, what: &'static str, text: &str, max: usize) -> Result<(), TooLong> {
        let max = max.min(usize::from(u16::MAX));
        match u16::try_from(text.len()) {
            Ok(length) if text.len() <= max => self.u16(length),
            _ => return Err(TooLong { what, length: text.len(), max }),
        }
        self.bytes(text.as_bytes());
        Ok(())
    }

    pub(super) fn id(&mut self, id: &str) -> Result<(), TooLong> {
        self.short_text("an id", id, ID_BYTES)
    }

    pub(super) fn scope(&mut self, name: &str) -> Result<(), TooLong> {
        self.short_text("a scope name", name, SCOPE_BYTES_MAX)
    }

    pub(super) fn place(&mut self, place: &Place) -> Result<(), TooLong> {
        self.long_text("a place", place.as_str(), PLACE_BYTES)
    }

    pub(super) fn grant(&mut self, grant: GrantId) {
        self.u32(grant.number());
    }

    pub(super) fn mask(&mut self, mask: &ScopeMask) {
        let words = mask.words();
        let mut used = if mask.has_wildcard() { WILDCARD_BIT } else { 0 };
        for (number, word) in words.iter().enumerate() {
            used |= u8::from(*word != 0) << number;
        }
        self.u8(used);
        words.iter().filter(|word| **word != 0).for_each(|word| self.u64(*word));
    }

    pub(super) fn access(&mut self, access: &Access) -> Result<(), TooLong> {
        self.count("an access list", access.pairs().len())?;
        for pair in access.pairs() {
            match &pair.reach {
                Reach::At(place) => self.place(place)?,
                Reach::Everywhere => self.u16(0),
            }
            self.mask(&pair.scopes);
        }
        Ok(())
    }

    pub(super) fn audience(&mut self, audience: &[Audience]) -> Result<(), TooLong> {
        self.count("a list of audiences", audience.len())?;
        audience.iter().try_for_each(|one| self.id(one.as_str()))
    }

    fn count(&mut self, what: &'static str, length: usize) -> Result<(), TooLong> {
        let max = usize::from(u16::MAX);
        self.u16(u16::try_from(length).map_err(|_| TooLong { what, length, max })?);
        Ok(())
    }
}

/// Reads fields from the front of a slice.
pub(super) struct Reader<'b> {
    rest: &'b [u8],
    /// How long the slice was, so that an error can say where it stands.
    whole: usize,
}

impl<'b> Reader<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self { rest: bytes, whole: bytes.len() }
    }

    pub(super) fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { what, offset: self.whole - self.rest.len() }
    }

    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'b [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(|| self.malformed("the entry ends early"))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(|| self.malformed("the entry ends early"))?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn switch(&mut self) -> Result<Switch, Malformed> {
        match self.u8()? {
            0 => Ok(Switch::Off),
            1 => Ok(Switch::On),
            _ => Err(self.malformed("a switch that is neither on nor off")),
        }
    }

    pub(super) fn short_text(&mut self, max: usize) -> Result<&'b str, Malformed> {
        let length = usize::from(self.u8()?);
        self.text(length, max)
    }

    pub(super) fn long_text(&mut self, max: usize) -> Result<&'b str, Malformed> {
        let length = usize::from(self.u16()?);
        self.text(length, max)
    }

    fn text(&mut self, length: usize, max: usize) -> Result<&'b str, Malformed> {
        if length > max {
            return Err(self.malformed("a text longer than its limit"));
        }
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|_| self.malformed("a text that is not UTF-8"))
    }

    /// An id, by its own parser.
    pub(super) fn id<T>(&mut self, parse: fn(&str) -> Result<T, IdError>) -> Result<T, Malformed> {
        let text = self.short_text(ID_BYTES)?;
        parse(text).map_err(|_| self.malformed("a text that is not an id"))
    }

    pub(super) fn scope(&mut self) -> Result<Box<str>, Malformed> {
        self.short_text(SCOPE_BYTES_MAX).map(Box::from)
    }

    pub(super) fn place(&mut self) -> Result<Place, Malformed> {
        let text = self.long_text(PLACE_BYTES)?;
        Place::parse(text).map_err(|_| self.malformed("a text that is not a place"))
    }

    pub(super) fn grant(&mut self) -> Result<GrantId, Malformed> {
        let number = self.u32()?;
        GrantId::new(number).ok_or_else(|| self.malformed("a number that is no grant's"))
    }

    pub(super) fn mask(&mut self) -> Result<ScopeMask, Malformed> {
        let used = self.u8()?;
        if used & !(WILDCARD_BIT | WORD_BITS) != 0 {
            return Err(self.malformed("a set of scopes with words that do not exist"));
        }
        let mut words = [0; SCOPES_MAX / 64];
        for (number, word) in words.iter_mut().enumerate() {
            if used >> number & 1 == 1 {
                *word = self.u64()?;
                if *word == 0 {
                    return Err(self.malformed("a set of scopes with an empty word"));
                }
            }
        }
        Ok(ScopeMask::from_words(words, used & WILDCARD_BIT != 0))
    }

    pub(super) fn access(&mut self) -> Result<Access, Malformed> {
        let count = usize::from(self.u16()?);
        if count == 0 {
            return Ok(Access::default());
        }
        let mut pairs: Vec<Pair> = Vec::with_capacity(count.min(self.left() / PAIR_BYTES_MIN));
        for _ in 0..count {
            let pair = self.pair()?;
            if pairs.last().is_some_and(|last| last.reach >= pair.reach) {
                return Err(self.malformed("an access list out of order"));
            }
            pairs.push(pair);
        }
        Access::new(pairs).map_err(|_| self.malformed("an access list that is too long"))
    }

    fn pair(&mut self) -> Result<Pair, Malformed> {
        let text = self.long_text(PLACE_BYTES)?;
        let reach = if text.is_empty() {
            Reach::Everywhere
        } else {
            Reach::At(Place::parse(text).map_err(|_| self.malformed("a text that is not a place"))?)
        };
        let scopes = self.mask()?;
        if scopes.is_empty() {
            return Err(self.malformed("an access pair without scopes"));
        }
        Ok(Pair { reach, scopes })
    }

    pub(super) fn audience(&mut self) -> Result<Vec<Audience>, Malformed> {
        let count = usize::from(self.u16()?);
        let mut audience = Vec::with_capacity(count.min(self.left() / ID_FIELD_BYTES_MIN));
        for _ in 0..count {
            audience.push(self.id(Audience::parse)?);
        }
        Ok(audience)
    }
}

/// The longest id and the longest place *of this format*. They may not become shorter while such entries exist.
const ID_BYTES: usize = 128;
const PLACE_BYTES: usize = 257;
/// The shortest pair: an empty place and a set with the wildcard alone. The shortest id: its length and one byte.
const PAIR_BYTES_MIN: usize = 3;
const ID_FIELD_BYTES_MIN: usize = 2;
/// In a set's first byte: which words follow, and the wildcard.
const WORD_BITS: u8 = 0b0000_1111;
const WILDCARD_BIT: u8 = 0b1000_0000;

// What the domain allows must fit the fields, or writing would refuse what a door has accepted.
const _: () = assert!(crate::domain::id::ID_BYTES_MAX <= ID_BYTES && ID_BYTES <= u8::MAX as usize);
const _: () = assert!(crate::domain::place::PLACE_BYTES_MAX <= PLACE_BYTES);
const _: () = assert!(SCOPE_BYTES_MAX <= u8::MAX as usize && SCOPES_MAX / 64 == WORD_BITS.count_ones() as usize);
const _: () = assert!(crate::domain::grant::PAIRS_MAX * (2 + PLACE_BYTES + 33) < ENTRY_BYTES_MAX / 2);
