//! What a grant gives: a list of (where, which scopes) pairs.
//!
//! Pairs, not one set of scopes times one set of places: whoever may read in A and write in B must not be able to
//! write in A. The pairs are what was *granted*; what is left of them after membership and policy is
//! [`super::access`]'s business.

use super::place::Place;
use super::scope::ScopeMask;

/// The most pairs one grant or token can hold. A user with more workspaces than this wants [`Reach::Everywhere`].
pub const PAIRS_MAX: usize = 1_000;

/// Where a pair applies.
#[derive(Clone, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum Reach {
    /// At this place, and in its projects if it is a workspace.
    At(Place),
    /// Wherever the subject is a member, future memberships included.
    Everywhere,
}

/// One pair: these scopes, there.
#[derive(Clone, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct Pair {
    /// Where.
    pub reach: Reach,
    /// Which scopes.
    pub scopes: ScopeMask,
}

/// What a grant (or a token narrower than its grant) gives: its pairs, each reach at most once, sorted, none empty.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Access(Vec<Pair>);

/// Why pairs do not make an [`Access`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// No pair, or only pairs without scopes.
    #[error("the access list is empty: name at least one place and one scope")]
    Empty,
    /// More than [`PAIRS_MAX`] pairs.
    #[error(
        "{count} places in one access list; at most {PAIRS_MAX} are allowed (use \"everywhere\" for all memberships)"
    )]
    TooMany {
        /// How many there were.
        count: usize,
    },
}

impl Access {
    /// Puts pairs into their one form: pairs with the same reach are joined, empty ones dropped, the rest sorted.
    ///
    /// # Errors
    /// Nothing is left, or too much.
    pub fn new(pairs: impl IntoIterator<Item = Pair>) -> Result<Self, AccessError> {
        let mut pairs: Vec<Pair> = pairs.into_iter().filter(|pair| !pair.scopes.is_empty()).collect();
        pairs.sort();
        let mut joined: Vec<Pair> = Vec::with_capacity(pairs.len());
        for pair in pairs {
            match joined.last_mut() {
                Some(last) if last.reach == pair.reach => last.scopes = last.scopes.union(pair.scopes),
                _ => joined.push(pair),
            }
        }
        match joined.len() {
            0 => Err(AccessError::Empty),
            count if count > PAIRS_MAX => Err(AccessError::TooMany { count }),
            _ => Ok(Self(joined)),
        }
    }

    /// The pairs, sorted by reach.
    pub fn pairs(&self) -> &[Pair] {
        &self.0
    }

    /// The scopes these pairs name at `place`, by covering it: what was granted, before membership and policy.
    pub fn scopes_at(&self, place: &Place) -> ScopeMask {
        let covering = self.0.iter().filter(|pair| match &pair.reach {
            Reach::At(at) => at.covers(place),
            Reach::Everywhere => true,
        });
        covering.fold(ScopeMask::EMPTY, |scopes, pair| scopes.union(pair.scopes))
    }
}
