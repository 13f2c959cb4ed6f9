//! Answers to people: explain, lists, risk, and the size of a revocation before it is made.
//!
//! None of this is on the hot path; it allocates, walks and sorts. The shapes here are plain data; the admin API turns
//! them into JSON, the command line into tables.

use crate::domain::{Confirmation, Denial, Expiry, GrantId, Inactive, Revision, Timestamp, TokenHandle, TokenTimes};

/// A token, as lists and `explain` show it.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenRow {
    /// Its public name.
    pub handle: TokenHandle,
    /// The grant it belongs to.
    pub grant: GrantId,
    /// Whose it is.
    pub subject: String,
    /// Which client holds it.
    pub client: String,
    /// Its times.
    pub times: TokenTimes,
    /// The resource servers it is for.
    pub audience: Vec<String>,
    /// What it is bound to.
    pub confirmation: Option<Confirmation>,
    /// Whether it is active now, and if not, why.
    pub verdict: Result<(), Inactive>,
    /// When it was last found active: at most [`crate::domain::time::LAST_USE_STEP_SECONDS`] before the truth. `None`: not within a year.
    pub last_used: Option<Timestamp>,
}

/// A pair of a grant, by name.
#[derive(Clone, Debug, PartialEq)]
pub struct PairRow {
    /// The place; `None` means wherever the subject is a member.
    pub place: Option<String>,
    /// The scopes, by name, in the order of the catalogue; the wildcard as `*` before them.
    pub scopes: Vec<String>,
}

/// A grant, as lists show it.
#[derive(Clone, Debug, PartialEq)]
pub struct GrantRow {
    /// Its number.
    pub id: GrantId,
    /// Who granted.
    pub subject: String,
    /// To whom.
    pub client: String,
    /// What was granted, before membership and policy.
    pub access: Vec<PairRow>,
    /// When it ends.
    pub expiry: Expiry,
    /// Whether its tokens can be active, and if not, why.
    pub verdict: Result<(), Inactive>,
    /// Its place in the list of changes.
    pub made: u64,
    /// How many of its tokens are known and not expired or revoked.
    pub tokens: u64,
    /// The latest last use of its tokens.
    pub last_used: Option<Timestamp>,
}

/// What one place of a token is worth.
#[derive(Clone, Debug, PartialEq)]
pub struct PlaceRow {
    /// The place.
    pub place: String,
    /// What grant and token name there.
    pub granted: Vec<String>,
    /// What is left after membership and policy.
    pub effective: Vec<String>,
    /// Why something is missing, if it is.
    pub denial: Option<Denial>,
}

/// Everything about one token, for an operator.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The list at this answer.
    pub revision: Revision,
    /// What a caller without limits would be told.
    pub verdict: Result<(), Inactive>,
    /// The token, if it is known.
    pub token: Option<TokenRow>,
    /// Its grant, if it is known.
    pub grant: Option<GrantRow>,
    /// Its places, one by one.
    pub places: Vec<PlaceRow>,
    /// In sentences.
    pub story: Vec<String>,
}

/// Whose tokens or grants to list.
#[derive(Clone, Debug, PartialEq)]
pub enum ListOf {
    /// Of one subject.
    Subject(String),
    /// Of one client.
    Client(String),
    /// Of one grant.
    Grant(GrantId),
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// The list of changes at this answer.
    pub revision: Revision,
    /// At most as many as were asked for.
    pub rows: Vec<T>,
    /// How many there are in all.
    pub total: u64,
}

/// A member of a place.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberRow {
    /// The place.
    pub place: String,
    /// Whether the subject is a member now (`false`: was one).
    pub live: bool,
}

/// A workspace's app policy.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyRow {
    /// `allow_all` or `approval_required`.
    pub approval_required: bool,
    /// Whether personal tokens may enter.
    pub personal_tokens: bool,
    /// The block list, sorted.
    pub blocked: Vec<String>,
    /// The approved list, sorted.
    pub approved: Vec<String>,
}

/// What a risk report is about.
#[derive(Clone, Debug, PartialEq)]
pub enum RiskOf {
    /// All live grants of a client (in one workspace, if one is named).
    Client(String, Option<String>),
    /// One grant.
    Grant(GrantId),
    /// One token.
    Token(TokenHandle),
    /// A grant that is not made yet: who, to whom, what, until when.
    Preview(super::request::ChangeRequest),
}

/// How much could go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rating {
    /// Reads a little, in one place, not for long.
    Low,
    /// Writes, or reads widely.
    Medium,
    /// Deletes, writes widely, or lives long.
    High,
    /// Everything, everywhere, or for ever.
    Critical,
}

impl Rating {
    /// The word for JSON and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// How risky an app, a grant or a token is (row S10 of the design), with the reasons.
#[derive(Clone, Debug, PartialEq)]
pub struct RiskReport {
    /// The list of changes at this answer.
    pub revision: Revision,
    /// The worst of the reasons.
    pub rating: Rating,
    /// Each reason as a sentence, with its own rating, worst first.
    pub reasons: Vec<(Rating, String)>,
    /// The workspaces that can be reached now, sorted (at most 1,000 are named).
    pub workspaces: Vec<String>,
    /// Places that can be reached now, workspaces and single projects.
    pub places: u64,
    /// Whether future memberships are reached too.
    pub everywhere: bool,
    /// The distinct scopes, by name.
    pub scopes: Vec<String>,
    /// How many of them end in `:write`.
    pub writes: u64,
    /// How many of them end in `:delete`.
    pub deletes: u64,
    /// Whether the wildcard is among them.
    pub wildcard: bool,
    /// Live grants that were looked at.
    pub grants: u64,
    /// Live tokens that were looked at.
    pub tokens: u64,
    /// The longest time a token of it can still live, in seconds; `None`: for ever.
    pub lives_seconds: Option<u64>,
    /// Live tokens that anybody who finds them can use.
    pub bearer_tokens: u64,
    /// The latest use.
    pub last_used: Option<Timestamp>,
}

/// What a revocation would hit, counted without doing it.
#[derive(Clone, Debug, PartialEq)]
pub struct Toll {
    /// The list of changes at this answer.
    pub revision: Revision,
    /// Grants that are alive now and would not be.
    pub grants: u64,
    /// Tokens that are active now and would not be, or would lose a place.
    pub tokens: u64,
}

/// A scope of the catalogue.
#[derive(Clone, Debug, PartialEq)]
pub struct ScopeRow {
    /// Its bit.
    pub position: u8,
    /// Its name.
    pub name: String,
    /// Whether it is withdrawn.
    pub retired: bool,
    /// Its other names.
    pub aliases: Vec<String>,
}

/// The service in numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// The list of changes now.
    pub revision: Revision,
    /// Tokens in the index, revoked and not yet swept ones included.
    pub tokens: u64,
    /// Grants in the index.
    pub grants: u64,
    /// Bytes of memory the index holds.
    pub index_bytes: u64,
    /// Whether changes are accepted.
    pub accepts_changes: bool,
    /// The generation of MAC keys in force, and how many are kept.
    pub keys: (u32, u32),
}

/// Why a report was not given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// The caller may not look at this.
    #[error("caller {caller} may not {what}")]
    Forbidden {
        /// The caller's name.
        caller: String,
        /// What it tried, in words.
        what: &'static str,
    },
    /// The request cannot be meant.
    #[error("{0}")]
    Invalid(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
}
