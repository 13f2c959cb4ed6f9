//! What the messages say, as values. Those that carry texts or lists borrow them from the buffer they were read from.
//!
//! The numbers here are the protocol: none is ever given another meaning. `PROTOCOL.md` draws the bytes.

use crate::domain::{
    Denial, Epoch, Expiry, GrantId, Revision, ScopeMask, ScopePosition, Sequence, Timestamp, TokenDigest, TokenHandle,
    TokenTimes,
};

use super::decode::{Audiences, Items, Names};
use super::facts::Facts;

/// The numbers of the kinds. `0x01..=0x0f` are questions, `0x10..=0x1f` what the server says, `0x20..=0x2f` changes,
/// `0x40..=0x4f` what a follower says, `0x50..=0x5f` what it is told; bit 7 is [`kind::AT_LEAST`].
pub mod kind {
    /// Set on a question's kind: a least revision stands between header and body.
    pub const AT_LEAST: u8 = 0x80;

    /// What is this token?
    pub const INTROSPECT: u8 = 0x01;
    /// May this token do this scope here, both by number?
    pub const CHECK_NUMBERS: u8 = 0x02;
    /// The same by name.
    pub const CHECK_NAMES: u8 = 0x03;
    /// What is the number of this scope or place?
    pub const RESOLVE: u8 = 0x04;
    /// Which scopes are there?
    pub const CATALOGUE: u8 = 0x05;
    /// What decides about this token here?
    pub const FACTS: u8 = 0x06;
    /// The last kind of a question.
    pub const QUESTION_LAST: u8 = FACTS;

    /// The server's first message on each stream.
    pub const HELLO: u8 = 0x10;
    /// Answer to a check.
    pub const CHECKED: u8 = 0x11;
    /// Answer to an introspection: not active.
    pub const INACTIVE: u8 = 0x12;
    /// Answer to an introspection: active.
    pub const ACTIVE: u8 = 0x13;
    /// What did not fit into the message before.
    pub const MORE: u8 = 0x14;
    /// Answer to a resolve.
    pub const RESOLVED: u8 = 0x15;
    /// Answer to a catalogue question.
    pub const NAMES: u8 = 0x16;
    /// Answer to a question for facts.
    pub const FACTS_ANSWER: u8 = 0x17;
    /// Answer to a change.
    pub const DONE: u8 = 0x18;
    /// Answer to an API request, or a part of it.
    pub const API_ANSWER: u8 = 0x19;
    /// No answer, and why.
    pub const ERROR: u8 = 0x1e;
    /// Finish and connect elsewhere.
    pub const GOING_AWAY: u8 = 0x1f;

    /// A token becomes known.
    pub const REGISTER: u8 = 0x20;
    /// Something is revoked.
    pub const REVOKE: u8 = 0x21;
    /// A request to the JSON API.
    pub const API: u8 = 0x22;

    /// A follower's first message.
    pub const FOLLOW: u8 = 0x40;
    /// A follower wants a lease.
    pub const RENEW: u8 = 0x41;
    /// A follower has applied what it was told.
    pub const ACKNOWLEDGE: u8 = 0x42;
    /// Answer to a follow.
    pub const FOLLOWING: u8 = 0x50;
    /// What was touched.
    pub const ANNOUNCEMENT: u8 = 0x51;
    /// Answer to a renewal.
    pub const LEASE: u8 = 0x52;
    /// Forget everything.
    pub const START_OVER: u8 = 0x53;
    /// The last kind set aside for feeds.
    pub const FEED_LAST: u8 = 0x5f;
}

/// A request with its number and what it demands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Envelope<'b> {
    /// Chosen by the client; the answer carries it.
    pub id: u32,
    /// The answer must be computed at this revision or later. Only questions demand one.
    pub least: Option<Revision>,
    /// What is asked.
    pub request: Request<'b>,
}

/// What a client sends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Request<'b> {
    /// What is this token (there)?
    Introspect {
        /// SHA-256 of the token.
        digest: TokenDigest,
        /// Asked about this place alone.
        place: Option<&'b str>,
    },
    /// May it do this here, by numbers?
    CheckNumbers {
        /// SHA-256 of the token.
        digest: TokenDigest,
        /// The scope's position.
        scope: ScopePosition,
        /// The place's number in this epoch.
        place: u32,
    },
    /// May it do this here, by names?
    CheckNames {
        /// SHA-256 of the token.
        digest: TokenDigest,
        /// The scope.
        scope: &'b str,
        /// The place.
        place: &'b str,
    },
    /// The position of a scope.
    ResolveScope(&'b str),
    /// The number of a place.
    ResolvePlace(&'b str),
    /// Scope names from this position on.
    Catalogue {
        /// The first position wanted.
        from: u8,
    },
    /// What decides about it there?
    Facts {
        /// SHA-256 of the token.
        digest: TokenDigest,
        /// The place.
        place: &'b str,
    },
    /// A token becomes known.
    Register(Registration<'b>),
    /// Something is revoked, and what the receipt waits for.
    Revoke(Revocation, Wait),
    /// A request to the JSON API.
    Api {
        /// The HTTP method.
        method: Method,
        /// Path and query.
        path: &'b str,
        /// The JSON body; may be empty.
        body: &'b [u8],
    },
}

/// A token to register, by its digest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Registration<'b> {
    /// SHA-256 of the token.
    pub digest: TokenDigest,
    /// Its grant.
    pub grant: GrantId,
    /// Its times.
    pub times: TokenTimes,
    /// What it is bound to.
    pub binding: Option<Binding<'b>>,
    /// The resource servers it is for; `None`: the grant's.
    pub audience: Option<Audiences<'b>>,
}

/// `cnf`, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding<'b> {
    /// `x5t#S256`.
    Certificate([u8; 32]),
    /// `jkt`.
    DpopKey([u8; 32]),
    /// The JSON object of another method.
    Other(&'b str),
}

/// What to revoke. Wider selectors go through the JSON API, which asks twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revocation {
    /// The token with this digest. An unknown one is no error.
    Digest(TokenDigest),
    /// The token with this handle.
    Handle(TokenHandle),
    /// A grant, with all its tokens.
    Grant(GrantId),
}

/// What the receipt of a change waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Wait {
    /// Durable, and visible to every question put to the server. Near-caches learn of it within one lease.
    #[default]
    Applied = 0,
    /// Durable. This server makes a change visible before it gives any receipt, so it is the same as
    /// [`Wait::Applied`] here.
    Durable = 1,
    /// Also out of every near-cache: each follower has acknowledged it, or its lease has run out.
    Fenced = 2,
}

impl Wait {
    /// Every level, in order.
    pub const ALL: [Self; 3] = [Self::Applied, Self::Durable, Self::Fenced];

    /// The word for JSON, configuration and command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Durable => "durable",
            Self::Fenced => "fenced",
        }
    }

    /// The reverse of [`Wait::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|wait| wait.as_str() == text)
    }
}

/// The method of an API request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Method {
    /// Read.
    Get = 1,
    /// Make or do.
    Post = 2,
    /// Set.
    Put = 3,
    /// Change a part.
    Patch = 4,
    /// Take away.
    Delete = 5,
}

impl Method {
    /// Every method, in order.
    pub const ALL: [Self; 5] = [Self::Get, Self::Post, Self::Put, Self::Patch, Self::Delete];

    /// As HTTP writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// The reverse of [`Method::as_str`]; upper case only.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == text)
    }
}

/// What a server sends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Answer<'b> {
    /// Its first message.
    Hello(Hello<'b>),
    /// To a check.
    Checked {
        /// What it was computed at.
        sequence: Sequence,
        /// What it says.
        outcome: Outcome,
    },
    /// To an introspection.
    Inactive {
        /// What it was computed at.
        sequence: Sequence,
    },
    /// To an introspection.
    Active(ActiveToken<'b>),
    /// The rest of an active answer, or a part of the rest.
    More {
        /// Whether another one follows.
        more: bool,
        /// Audience and places.
        items: Items<'b>,
    },
    /// To a resolve.
    Resolved {
        /// What it was computed at.
        sequence: Sequence,
        /// The number, if there is one.
        number: Option<u32>,
    },
    /// To a catalogue question.
    Names {
        /// What it was computed at.
        sequence: Sequence,
        /// The position of the first name.
        first: u8,
        /// How many positions there are in all.
        total: u16,
        /// The names from there on, as many as fit.
        names: Names<'b>,
    },
    /// To a question for facts.
    Facts(Facts<'b>),
    /// To a change: it is durable and visible.
    Done {
        /// The list with the change in it.
        sequence: Sequence,
        /// The token that was registered.
        handle: Option<TokenHandle>,
        /// The grant it concerns.
        grant: Option<GrantId>,
    },
    /// To an API request.
    Api {
        /// How far the list was.
        sequence: Sequence,
        /// The HTTP status.
        status: u16,
        /// Whether another part follows.
        more: bool,
        /// JSON, or a part of it.
        body: &'b [u8],
    },
    /// No answer.
    Error {
        /// How far the list was.
        sequence: Sequence,
        /// Why, for programs.
        code: ErrorCode,
        /// Why, for people.
        text: &'b str,
    },
    /// Finish, and connect elsewhere.
    GoingAway {
        /// Why.
        why: Leave,
        /// The connection is closed after this many milliseconds.
        closes_in_ms: u32,
    },
}

/// The server's first message on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello<'b> {
    /// Which of the additions to this protocol version the server has; 0 today.
    pub minor: u8,
    /// The incarnation of the list; all sequences on the stream are of it.
    pub epoch: Epoch,
    /// How far the list was.
    pub sequence: Sequence,
    /// The most requests a client should have unanswered on a stream.
    pub in_flight_max: u32,
    /// The most changes and API requests a stream may have unanswered; one more is `busy`.
    pub changes_in_flight_max: u32,
    /// The largest message of an ordinary kind, in bytes.
    pub message_bytes_max: u32,
    /// The largest API request, in bytes.
    pub api_message_bytes_max: u32,
    /// The server's name and version, for logs.
    pub server: &'b str,
}

/// What a check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It may.
    Allowed,
    /// The token is active, but may not do this here.
    Denied(Denial),
    /// The token is not active.
    Inactive,
}

/// An active token, as far as it fits into one message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ActiveToken<'b> {
    /// Everything but the lists.
    pub facts: ActiveFacts<'b>,
    /// Whether [`Answer::More`] follows with the rest of the lists.
    pub more: bool,
    /// Audience and places.
    pub items: Items<'b>,
}

/// An active token, without its lists.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ActiveFacts<'b> {
    /// What the answer was computed at.
    pub sequence: Sequence,
    /// `jti`.
    pub handle: TokenHandle,
    /// Its grant.
    pub grant: GrantId,
    /// `iat`, `nbf`, `exp`.
    pub times: TokenTimes,
    /// What is allowed at every place, or at the place that was asked about.
    pub everywhere: ScopeMask,
    /// `sub`.
    pub subject: &'b str,
    /// `client_id`.
    pub client: &'b str,
    /// `cnf`.
    pub binding: Option<Binding<'b>>,
}

/// One item of an active token's lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<'b> {
    /// A resource server it is for.
    Audience(&'b str),
    /// A place where it may do something, and what.
    Place(&'b str, ScopeMask),
}

/// Why there is no answer. A closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ErrorCode {
    /// The message is not what its kind demands.
    Malformed = 1,
    /// No message has this kind.
    UnknownMessage = 2,
    /// Larger than its kind may be, or than this server takes.
    TooLarge = 3,
    /// The caller has no right to this.
    Forbidden = 4,
    /// The caller may not ask about this workspace.
    ForbiddenPlace = 5,
    /// The demanded revision is not reached here. No verdict.
    Behind = 6,
    /// Starting or shutting down. No verdict.
    NotReady = 7,
    /// Too much to do. No verdict.
    Overloaded = 8,
    /// Too many changes are waiting. Nothing has changed.
    Busy = 9,
    /// The request cannot be meant. Nothing has changed.
    Invalid = 10,
    /// It names something that does not exist. Nothing has changed.
    NotFound = 11,
    /// It contradicts what is there. Nothing has changed.
    Conflict = 12,
    /// Changes are refused for now. Nothing has changed.
    Unavailable = 13,
    /// Whether the change was made is not known.
    OutcomeUnknown = 14,
}

impl ErrorCode {
    /// Every code, in order.
    pub const ALL: [Self; 14] = [
        Self::Malformed,
        Self::UnknownMessage,
        Self::TooLarge,
        Self::Forbidden,
        Self::ForbiddenPlace,
        Self::Behind,
        Self::NotReady,
        Self::Overloaded,
        Self::Busy,
        Self::Invalid,
        Self::NotFound,
        Self::Conflict,
        Self::Unavailable,
        Self::OutcomeUnknown,
    ];

    /// The code with this number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|known| *known as u8 == code)
    }

    /// The word for logs, JSON and the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownMessage => "unknown_message",
            Self::TooLarge => "too_large",
            Self::Forbidden => "forbidden",
            Self::ForbiddenPlace => "forbidden_place",
            Self::Behind => "behind",
            Self::NotReady => "not_ready",
            Self::Overloaded => "overloaded",
            Self::Busy => "busy",
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Unavailable => "unavailable",
            Self::OutcomeUnknown => "outcome_unknown",
        }
    }
}

/// Why a client is asked to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Leave {
    /// The server shuts down.
    ShuttingDown = 1,
    /// The connection has reached the age the server allows.
    TooOld = 2,
}

impl Leave {
    /// Every reason, in order.
    pub const ALL: [Self; 2] = [Self::ShuttingDown, Self::TooOld];
}

/// The times of a token from their 32-bit forms.
pub(super) fn times_from_raw(issued: u32, not_before: u32, expiry: u32) -> TokenTimes {
    TokenTimes {
        issued: Timestamp::from_raw(issued),
        not_before: Timestamp::from_raw(not_before),
        expiry: Expiry::from_raw(expiry),
    }
}
