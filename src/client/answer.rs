//! What the client library takes and gives: plain values, no type of any transport.

use std::fmt;

use crate::domain::{Confirmation, Denial, Epoch, GrantId, Revision, ScopeMask, TokenDigest, TokenHandle, TokenTimes};
pub use crate::wire::ErrorCode;

/// A token to ask about: its SHA-256, computed the moment the string comes in. The string is not kept, and `Debug`
/// shows a few digits of the hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token(pub(super) TokenDigest);

impl From<&str> for Token {
    fn from(token: &str) -> Self {
        Self(TokenDigest::of(token.as_bytes()))
    }
}

impl From<&String> for Token {
    fn from(token: &String) -> Self {
        Self(TokenDigest::of(token.as_bytes()))
    }
}

impl From<&[u8]> for Token {
    fn from(token: &[u8]) -> Self {
        Self(TokenDigest::of(token))
    }
}

impl From<TokenDigest> for Token {
    fn from(digest: TokenDigest) -> Self {
        Self(digest)
    }
}

/// What an introspection says. Not active is an answer, not an error; *no answer* is an [`Error`] and neither.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Active, and everything about it.
    Active(Box<Introspection>),
    /// Not active: unknown, expired, revoked, or not for this caller. Which one is not told.
    Inactive,
}

/// An active token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introspection {
    /// What the answer was computed at.
    pub revision: Revision,
    /// `jti`: may be printed.
    pub handle: TokenHandle,
    /// Its grant.
    pub grant: GrantId,
    /// `sub`.
    pub subject: String,
    /// `client_id`.
    pub client: String,
    /// `iat`, `nbf`, `exp`. Judge `exp` again if the answer is kept.
    pub times: TokenTimes,
    /// `cnf`: if there is one, the bearer has to prove it, and it is for you to check.
    pub confirmation: Option<Confirmation>,
    /// What is allowed at *every* place, or at the place that was asked about.
    pub everywhere: ScopeMask,
    /// `aud`.
    pub audience: Vec<String>,
    /// The places where the token may do anything, and what.
    pub places: Vec<(String, ScopeMask)>,
}

/// What a check says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may.
    Allowed,
    /// The token is active, but may not do this here; the reason is for the integrator's error message.
    Denied(Denial),
    /// The token is not active.
    Inactive,
}

impl Decision {
    /// Whether it may.
    pub fn is_allowed(self) -> bool {
        self == Self::Allowed
    }
}

/// A change that is durable and visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// A question that demands this revision sees the change.
    pub revision: Revision,
    /// The token that was registered.
    pub handle: Option<TokenHandle>,
    /// The grant it concerns.
    pub grant: Option<GrantId>,
}

/// A scope and a place by their numbers, for checks of the fewest bytes. Good within one epoch; after that a check with
/// them is refused as *not found*, and they have to be resolved again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Numbers {
    pub(super) epoch: Epoch,
    pub(super) scope: u8,
    pub(super) place: u32,
}

/// The answer of the JSON API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiAnswer {
    /// The HTTP status.
    pub status: u16,
    /// JSON.
    pub body: Vec<u8>,
}

/// Scope names by position, as they were when they were asked for. Positions never change their meaning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    pub(super) names: Vec<(String, bool)>,
}

impl Catalogue {
    /// The names in a set, in the order of positions; the wildcard's name `*` first if it is in. A scope that was added
    /// after the catalogue was read has no name here yet.
    pub fn names<'c>(&'c self, mask: &'c ScopeMask) -> impl Iterator<Item = &'c str> + 'c {
        let wildcard = mask.has_wildcard().then_some("*");
        let named = mask.positions().filter_map(|position| self.names.get(usize::from(position.number())));
        wildcard.into_iter().chain(named.map(|(name, _)| name.as_str()))
    }

    /// Whether every single scope in the set has a name here.
    pub fn knows(&self, mask: &ScopeMask) -> bool {
        mask.positions().all(|position| usize::from(position.number()) < self.names.len())
    }

    /// All names in the order of their positions, and whether each is withdrawn.
    pub fn iter(&self) -> impl Iterator<Item = (&str, bool)> {
        self.names.iter().map(|(name, retired)| (name.as_str(), *retired))
    }
}

/// Why there is no answer. Never a verdict: who gets one of these must not let the bearer in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not within the deadline. For a change: whether it was made is not known.
    #[error("no answer within the deadline")]
    Timeout,
    /// No server can be reached, or none is ready, or the connection was lost.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// The server does not know this caller, or the caller has no right to this.
    #[error("not authorized: {0}")]
    Unauthorized(String),
    /// The other side does not speak the protocol as we do.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
    /// The server has too much to do.
    #[error("the server is overloaded")]
    Overloaded,
    /// The server refused this request.
    #[error("refused ({}): {text}", code.as_str())]
    Refused {
        /// Why, for programs.
        code: ErrorCode,
        /// Why, for people.
        text: String,
    },
    /// The client cannot be set up with these options, or a value cannot be sent.
    #[error("{0}")]
    Options(String),
    /// [`Client::close`](super::Client::close) was called, on this clone or another. Nothing was sent.
    #[error("this client was closed")]
    Closed,
}

impl Error {
    /// Whether asking the same question again later may help. A *change* must not be repeated blindly after
    /// [`Error::Timeout`] or [`Error::Unavailable`]: it may have been made. (Revoking and registering may be repeated:
    /// twice is the same as once.)
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Timeout | Self::Unavailable(_) | Self::Overloaded => true,
            Self::Refused { code, .. } => *code == ErrorCode::Behind,
            Self::Unauthorized(_) | Self::Protocol(_) | Self::Options(_) | Self::Closed => false,
        }
    }

    pub(super) fn from_code(code: ErrorCode, text: &str) -> Self {
        match code {
            ErrorCode::Forbidden | ErrorCode::ForbiddenPlace => Self::Unauthorized(text.to_owned()),
            ErrorCode::Overloaded | ErrorCode::Busy => Self::Overloaded,
            ErrorCode::NotReady | ErrorCode::Unavailable => Self::Unavailable(text.to_owned()),
            _ => Self::Refused { code, text: text.to_owned() },
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed => f.write_str("allowed"),
            Self::Denied(denial) => write!(f, "denied: {}", denial.explanation()),
            Self::Inactive => f.write_str("inactive"),
        }
    }
}
