//! Short things that lie in an entry itself: a few pairs, a place's text.
//!
//! Whatever lies behind a pointer of its own is one more line of memory that a hit has to wait for before it can go on. As
//! a rule a token has one or two pairs at a place and a place has a short name, so there is room for those; what is longer
//! lies elsewhere, and is as right and a little slower.

use std::ops::Deref;

use crate::domain::access::{Covers, PairFacts};
use crate::domain::{ScopeMask, Sequence};

/// Pairs that have room here.
const FEW: usize = 2;

/// Bytes of a place that have room here: with their number, three words.
const SHORT: usize = 23;

/// What stands where no pair does. It gives nothing.
const NOTHING: PairFacts = PairFacts { covers: Covers::Everywhere, since: Sequence::ZERO, scopes: ScopeMask::EMPTY };

/// Pairs: the first so many of these, or all of those.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::client) enum Pairs {
    Few(u8, [PairFacts; FEW]),
    Many(Box<[PairFacts]>),
}

impl FromIterator<PairFacts> for Pairs {
    fn from_iter<I: IntoIterator<Item = PairFacts>>(pairs: I) -> Self {
        let mut pairs = pairs.into_iter();
        let (mut count, mut few) = (0, [NOTHING; FEW]);
        for room in &mut few {
            let Some(pair) = pairs.next() else { return Self::Few(count, few) };
            *room = pair;
            count += 1;
        }
        match pairs.next() {
            None => Self::Few(count, few),
            Some(next) => Self::Many(few.into_iter().chain([next]).chain(pairs).collect()),
        }
    }
}

impl Deref for Pairs {
    type Target = [PairFacts];

    #[inline]
    fn deref(&self) -> &[PairFacts] {
        match self {
            Self::Few(count, pairs) => pairs.get(..usize::from(*count)).unwrap_or_default(),
            Self::Many(pairs) => pairs,
        }
    }
}

/// A place in its written form: the first so many of these bytes, or all of those.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum PlaceText {
    Short(u8, [u8; SHORT]),
    Long(Box<[u8]>),
}

impl From<&str> for PlaceText {
    fn from(text: &str) -> Self {
        let mut short = [0; SHORT];
        match (u8::try_from(text.len()), short.get_mut(..text.len())) {
            (Ok(len), Some(room)) => {
                room.copy_from_slice(text.as_bytes());
                Self::Short(len, short)
            }
            _ => Self::Long(text.as_bytes().into()),
        }
    }
}

impl PartialEq<str> for PlaceText {
    #[inline]
    fn eq(&self, text: &str) -> bool {
        match self {
            Self::Short(len, bytes) => bytes.get(..usize::from(*len)) == Some(text.as_bytes()),
            Self::Long(bytes) => **bytes == *text.as_bytes(),
        }
    }
}
