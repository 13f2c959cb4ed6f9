//! What a tested thing has to be able to do, and the shape of its answers: plain owned data that compares.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use tokenscope::domain::{Confirmation, GrantId, Inactive, ScopeMask, Timestamp, TokenDigest, TokenTimes};
use tokenscope::service::Decision;
use tokenscope::service::report::{ListOf, PolicyRow};
use tokenscope::service::request::{ChangeError, ChangeRequest};

/// A set of scopes as it counts: the wildcard swallows single positions.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Scopes {
    pub all: bool,
    pub some: BTreeSet<u8>,
}

impl Scopes {
    pub fn everything() -> Self {
        Self { all: true, some: BTreeSet::new() }
    }

    pub fn of(mask: &ScopeMask) -> Self {
        if mask.has_wildcard() {
            return Self::everything();
        }
        Self { all: false, some: mask.positions().map(|position| position.number()).collect() }
    }

    pub fn is_empty(&self) -> bool {
        !self.all && self.some.is_empty()
    }

    pub fn has(&self, position: u8) -> bool {
        self.all || self.some.contains(&position)
    }

    pub fn and(&self, other: &Self) -> Self {
        match (self.all, other.all) {
            (true, _) => other.clone(),
            (_, true) => self.clone(),
            _ => Self { all: false, some: self.some.intersection(&other.some).copied().collect() },
        }
    }

    pub fn or(&self, other: &Self) -> Self {
        if self.all || other.all {
            return Self::everything();
        }
        Self { all: false, some: self.some.union(&other.some).copied().collect() }
    }

    pub fn is_within(&self, other: &Self) -> bool {
        other.all || (!self.all && self.some.is_subset(&other.some))
    }
}

/// An introspection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Active(Box<Seen>),
    Inactive(Inactive),
}

impl Told {
    pub fn is_active(&self) -> bool {
        matches!(self, Self::Active(_))
    }
}

/// Everything an active answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub grant: GrantId,
    pub subject: String,
    pub client: String,
    /// With `exp` the earlier of the token's and the grant's.
    pub times: TokenTimes,
    pub audience: BTreeSet<String>,
    pub confirmation: Option<Confirmation>,
    /// RFC 7662's `scope`.
    pub everywhere: Scopes,
    pub places: BTreeMap<String, Scopes>,
}

/// What `everywhere` means once a place that the token names is lost (the subject left, the app was blocked).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(dead_code, reason = "one of the two is in force; the other is the road not taken, kept for a change of mind")]
pub enum LostPlace {
    /// A lost place is still a place of the token, with nothing there: `everywhere` becomes empty. A caller that reads
    /// only `scope` can then not be misled there (TS-02: "a membership lost or an app blocked between two questions").
    Counts,
    /// Only what is left counts: `everywhere` may *grow* by a revocation.
    Forgotten,
}

/// The reading in force.
pub const LOST_PLACE: LostPlace = LostPlace::Counts;

/// What is tested. The caller behind it has every right.
pub trait Room {
    fn new() -> Self;

    /// Makes one change at `now`; the number of the grant, if it made one.
    fn change(&mut self, request: &ChangeRequest, now: Timestamp) -> Result<Option<GrantId>, ChangeError>;

    fn check(&self, token: &TokenDigest, scope: &str, place: &str, now: Timestamp) -> Decision;

    fn introspect(&self, token: &TokenDigest, place: Option<&str>, now: Timestamp) -> Told;

    /// Tokens of a subject, client or grant that are alive at `now`, even with nothing left anywhere.
    fn live_tokens(&self, of: &ListOf, now: Timestamp) -> HashSet<TokenDigest>;

    /// Grants whose tokens can be active at `now`, each with the number of its tokens that are neither expired nor
    /// revoked.
    fn live_grants(&self, of: &ListOf, now: Timestamp) -> BTreeMap<GrantId, u64>;

    /// Places the subject is a member of.
    fn memberships(&self, subject: &str) -> BTreeSet<String>;

    fn policy(&self, workspace: &str) -> PolicyRow;

    /// Applies the last `count` entries of the list once more.
    fn replay(&mut self, count: usize);
}
