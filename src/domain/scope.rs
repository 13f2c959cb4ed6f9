//! Scopes: their names, their bit positions, and sets of them.
//!
//! The catalogue is append-only. A position, once given to a name, means that name for ever: a retired name keeps its
//! position, a name that returns gets its old one back, and an alias is a second name for the same position. Names
//! are bytes compared exactly; a near-miss is unknown, never "close enough".

use std::collections::HashMap;
use std::fmt;

/// How many scopes a catalogue can hold. Real platforms have had 54 (Asana) to about 150 (fine-grained permissions).
pub const SCOPES_MAX: usize = 256;

/// The longest scope name, in bytes.
pub const SCOPE_BYTES_MAX: usize = 96;

/// The built-in name of the wildcard: every scope there is, and every scope that will be added.
pub const WILDCARD: &str = "*";

/// Where a scope's bit stands: 0 to [`SCOPES_MAX`] − 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ScopePosition(u8);

impl ScopePosition {
    /// The position with this number.
    pub const fn new(number: u8) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// Why a scope name is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// Not RFC 6749's `scope-token`, or too long.
    #[error(
        "{name:?} is not a scope name: 1 to {SCOPE_BYTES_MAX} visible ASCII characters without \" and \\ (RFC 6749, section 3.3)"
    )]
    BadName {
        /// The name as it came.
        name: String,
    },
    /// The catalogue does not have the name (or it is retired).
    #[error("unknown scope {name:?}; names are compared byte for byte, see the list of scopes")]
    Unknown {
        /// The name as it came.
        name: String,
    },
    /// All positions are taken.
    #[error("the catalogue is full: {SCOPES_MAX} scopes, and positions are never reused")]
    Full,
    /// An alias that already means something else.
    #[error("{name:?} already is a scope of its own and cannot become an alias")]
    AlreadyTaken {
        /// The name as it came.
        name: String,
    },
}

/// RFC 6749, section 3.3: `scope-token = 1*( %x21 / %x23-5B / %x5D-7E )`, and not longer than [`SCOPE_BYTES_MAX`]. Can be
/// asked while compiling.
pub const fn is_scope_name(name: &str) -> bool {
    let mut rest = name.as_bytes();
    if rest.is_empty() || rest.len() > SCOPE_BYTES_MAX {
        return false;
    }
    while let [first, after @ ..] = rest {
        if !matches!(first, 0x21 | 0x23..=0x5b | 0x5d..=0x7e) {
            return false;
        }
        rest = after;
    }
    true
}

/// The same with a reason.
///
/// # Errors
/// [`ScopeError::BadName`] with the name.
pub fn check_scope_name(name: &str) -> Result<(), ScopeError> {
    if is_scope_name(name) {
        Ok(())
    } else {
        Err(ScopeError::BadName { name: name.chars().take(SCOPE_BYTES_MAX).collect() })
    }
}

/// A set of scopes: one bit for each position, and the wildcard beside them.
///
/// The wildcard is not "all bits that exist today": it also covers scopes added later.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct ScopeMask {
    bits: [u64; SCOPES_MAX / 64],
    wildcard: bool,
}

impl ScopeMask {
    /// No scope at all.
    pub const EMPTY: Self = Self { bits: [0; SCOPES_MAX / 64], wildcard: false };
    /// Every scope, later ones too.
    pub const WILDCARD: Self = Self { bits: [0; SCOPES_MAX / 64], wildcard: true };

    /// The set with these words (64 positions each, lowest first).
    pub const fn from_words(bits: [u64; SCOPES_MAX / 64], wildcard: bool) -> Self {
        Self { bits, wildcard }
    }

    /// The words, 64 positions each, lowest first; the wildcard is not in them.
    pub const fn words(&self) -> [u64; SCOPES_MAX / 64] {
        self.bits
    }

    /// Adds one position.
    pub fn insert(&mut self, position: ScopePosition) {
        self.bits[usize::from(position.0 >> 6)] |= 1 << (position.0 & 63);
    }

    /// Whether the set grants `position`: its bit is set, or the wildcard is.
    pub fn allows(&self, position: ScopePosition) -> bool {
        self.wildcard || self.bits[usize::from(position.0 >> 6)] >> (position.0 & 63) & 1 == 1
    }

    /// Whether the wildcard is in the set.
    pub fn has_wildcard(&self) -> bool {
        self.wildcard
    }

    /// Whether nothing is granted.
    pub fn is_empty(&self) -> bool {
        !self.wildcard && self.bits == [0; SCOPES_MAX / 64]
    }

    /// What both sets grant.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        match (self.wildcard, other.wildcard) {
            (true, true) => Self { bits: std::array::from_fn(|i| self.bits[i] | other.bits[i]), wildcard: true },
            (true, false) => other,
            (false, true) => self,
            (false, false) => Self { bits: std::array::from_fn(|i| self.bits[i] & other.bits[i]), wildcard: false },
        }
    }

    /// What either set grants.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self { bits: std::array::from_fn(|i| self.bits[i] | other.bits[i]), wildcard: self.wildcard || other.wildcard }
    }

    /// What is left when `other` is taken away. Taking single scopes from a wildcard is not possible (the wildcard has
    /// no list to take from): it stays, unless `other` is a wildcard too, which takes everything.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        if other.wildcard {
            return Self::EMPTY;
        }
        Self { bits: std::array::from_fn(|i| self.bits[i] & !other.bits[i]), wildcard: self.wildcard }
    }

    /// Whether everything this set grants, now or later, is granted by `other` too.
    pub fn is_within(&self, other: &Self) -> bool {
        other.wildcard || (!self.wildcard && self.bits.iter().zip(other.bits).all(|(a, b)| a & !b == 0))
    }

    /// How many single scopes are in the set; the wildcard does not count.
    pub fn len(&self) -> usize {
        self.bits.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The positions in the set, ascending; the wildcard is not among them.
    pub fn positions(&self) -> impl Iterator<Item = ScopePosition> + '_ {
        (0..=u8::MAX).map(ScopePosition).filter(|p| self.bits[usize::from(p.0 >> 6)] >> (p.0 & 63) & 1 == 1)
    }
}

impl fmt::Debug for ScopeMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut set = f.debug_set();
        if self.wildcard {
            set.entry(&WILDCARD);
        }
        set.entries(self.positions().map(|p| p.0)).finish()
    }
}

/// What a name in the catalogue stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Meaning {
    Position(ScopePosition),
    Wildcard,
}

/// One position of the catalogue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScopeEntry {
    /// The name that answers use.
    pub name: Box<str>,
    /// Withdrawn: a question with this name is denied, the position stays taken.
    pub retired: bool,
}

/// The names of all scopes and their positions. Append-only; see the top of this file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScopeCatalogue {
    entries: Vec<ScopeEntry>,
    aliases: Vec<(Box<str>, Option<ScopePosition>)>,
    names: HashMap<Box<str>, Meaning>,
    retired: ScopeMask,
}

impl ScopeCatalogue {
    /// An empty catalogue: only the wildcard has a name.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a name at the next free position, or brings a retired one back at its old position.
    ///
    /// # Errors
    /// The name is malformed, is an alias already, or the catalogue is full.
    pub fn add(&mut self, name: &str) -> Result<ScopePosition, ScopeError> {
        check_scope_name(name)?;
        if name == WILDCARD || self.aliases.iter().any(|(alias, _)| &**alias == name) {
            return Err(ScopeError::AlreadyTaken { name: name.into() });
        }
        if let Some(number) = self.entries.iter().position(|entry| &*entry.name == name) {
            self.entries[number].retired = false;
            let position = ScopePosition(number as u8);
            let mut back = ScopeMask::EMPTY;
            back.insert(position);
            self.retired = self.retired.without(back);
            self.names.insert(name.into(), Meaning::Position(position));
            return Ok(position);
        }
        let number = u8::try_from(self.entries.len()).map_err(|_| ScopeError::Full)?;
        self.entries.push(ScopeEntry { name: name.into(), retired: false });
        self.names.insert(name.into(), Meaning::Position(ScopePosition(number)));
        Ok(ScopePosition(number))
    }

    /// Makes `alias` a second name of `of` (a scope, or the wildcard).
    ///
    /// # Errors
    /// `alias` is malformed or means something else already; `of` is unknown.
    pub fn alias(&mut self, alias: &str, of: &str) -> Result<(), ScopeError> {
        check_scope_name(alias)?;
        let meaning = self.meaning(of).ok_or_else(|| ScopeError::Unknown { name: of.into() })?;
        // An alias of a withdrawn scope is unknown to questions but still taken: it must not come to mean another.
        let known = if alias == WILDCARD { Some(Meaning::Wildcard) } else { self.names.get(alias).copied() };
        match known {
            Some(known) if known == meaning => return Ok(()),
            Some(_) => return Err(ScopeError::AlreadyTaken { name: alias.into() }),
            None => {}
        }
        if self.entries.iter().any(|entry| &*entry.name == alias) {
            return Err(ScopeError::AlreadyTaken { name: alias.into() });
        }
        let position = match meaning {
            Meaning::Position(position) => Some(position),
            Meaning::Wildcard => None,
        };
        self.aliases.push((alias.into(), position));
        self.names.insert(alias.into(), meaning);
        Ok(())
    }

    /// Withdraws a scope: its names become unknown in questions and grants, its position stays its own.
    ///
    /// # Errors
    /// The name is unknown, or is an alias or the wildcard.
    pub fn retire(&mut self, name: &str) -> Result<(), ScopeError> {
        let number = self.entries.iter().position(|entry| &*entry.name == name && !entry.retired);
        let number = number.ok_or_else(|| ScopeError::Unknown { name: name.into() })?;
        self.entries[number].retired = true;
        self.retired.insert(ScopePosition(number as u8));
        self.names.remove(name);
        Ok(())
    }

    fn meaning(&self, name: &str) -> Option<Meaning> {
        if name == WILDCARD {
            return Some(Meaning::Wildcard);
        }
        let meaning = *self.names.get(name)?;
        match meaning {
            Meaning::Position(position) if self.is_retired(position) => None,
            known => Some(known),
        }
    }

    fn is_retired(&self, position: ScopePosition) -> bool {
        self.entries.get(usize::from(position.0)).is_none_or(|entry| entry.retired)
    }

    /// The position of a name in a *question*. `None` means: deny (house rule TS-09). The wildcard is not a scope one
    /// can ask about.
    pub fn position(&self, name: &str) -> Option<ScopePosition> {
        match self.meaning(name)? {
            Meaning::Position(position) => Some(position),
            Meaning::Wildcard => None,
        }
    }

    /// The set that these names of a *grant* make together.
    ///
    /// # Errors
    /// The first unknown name: a grant is refused rather than made smaller in silence.
    pub fn mask<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Result<ScopeMask, ScopeError> {
        let mut mask = ScopeMask::EMPTY;
        for name in names {
            match self.meaning(name) {
                Some(Meaning::Position(position)) => mask.insert(position),
                Some(Meaning::Wildcard) => mask.wildcard = true,
                None => return Err(ScopeError::Unknown { name: name.chars().take(SCOPE_BYTES_MAX).collect() }),
            }
        }
        Ok(mask)
    }

    /// The names of a set, for an answer: the wildcard's name first, then every name it or the bits stand for, in the
    /// order of positions, retired ones left out. Naming each lets a reader that knows no wildcard decide rightly.
    pub fn names<'c, 'm>(&'c self, mask: &'m ScopeMask) -> impl Iterator<Item = &'c str> + use<'c, 'm> {
        let wildcard = mask.wildcard.then_some(WILDCARD);
        let named = self
            .entries
            .iter()
            .enumerate()
            .filter(move |(number, entry)| !entry.retired && mask.allows(ScopePosition(*number as u8)));
        wildcard.into_iter().chain(named.map(|(_, entry)| &*entry.name))
    }

    /// All positions, in order.
    pub fn entries(&self) -> &[ScopeEntry] {
        &self.entries
    }

    /// The scopes that are withdrawn: no answer counts them, whatever was granted.
    pub fn retired(&self) -> ScopeMask {
        self.retired
    }

    /// All aliases, with the position they stand for (`None`: the wildcard).
    pub fn aliases(&self) -> impl Iterator<Item = (&str, Option<ScopePosition>)> {
        self.aliases.iter().map(|(alias, position)| (&**alias, *position))
    }
}
