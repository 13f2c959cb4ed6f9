//! What callers ask to be changed, in their words: scope names instead of positions, digests instead of keys.
//!
//! [`super::Service::change`] checks the caller's right, resolves the names and hands one [`Change`] to the writer.
//!
//! [`Change`]: crate::domain::Change

use crate::domain::{
    Among, Audience, ClientId, Confirmation, Expiry, GrantId, Place, PolicyEntry, PolicyMode, Reach, Revision,
    SubjectId, Switch, Timestamp, TokenDigest, TokenHandle, TokenTimes, WorkspaceId,
};

/// Pairs of where and which scopes, by name.
pub type NamedAccess = Vec<(Reach, Vec<Box<str>>)>;

/// One change, as asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum ChangeRequest {
    /// A client becomes known.
    RegisterClient(ClientId),
    /// A client is suspended or let in again.
    SwitchClient(ClientId, Switch),
    /// A subject is suspended or let in again.
    SwitchSubject(SubjectId, Switch),
    /// A scope is added, or comes back.
    AddScope(Box<str>),
    /// The first name becomes a second name of the second.
    AliasScope(Box<str>, Box<str>),
    /// A scope is withdrawn.
    RetireScope(Box<str>),
    /// A subject becomes a member.
    AddMember(SubjectId, Place),
    /// A subject stops being a member.
    RemoveMember(SubjectId, Place),
    /// A workspace's policy mode.
    SetPolicyMode(WorkspaceId, PolicyMode),
    /// Whether personal tokens may enter a workspace.
    SwitchPersonal(WorkspaceId, Switch),
    /// One line of a workspace's policy.
    SetPolicyEntry(WorkspaceId, ClientId, PolicyEntry),
    /// A grant is made.
    MakeGrant {
        /// Who granted.
        subject: SubjectId,
        /// To whom.
        client: ClientId,
        /// What.
        access: NamedAccess,
        /// Until when.
        expiry: Expiry,
        /// For which resource servers; empty means the configured default.
        audience: Vec<Audience>,
    },
    /// A grant keeps only what is also named here.
    NarrowGrant(GrantId, NamedAccess),
    /// A grant gains what is named here.
    ExtendGrant(GrantId, NamedAccess),
    /// A token that the issuer made becomes known by its digest.
    RegisterToken {
        /// SHA-256 of the token string.
        digest: TokenDigest,
        /// Everything else.
        token: TokenTerms,
    },
    /// A token is made here; its string is in the answer and nowhere else.
    MintToken(TokenTerms),
    /// Something is revoked.
    Revoke(RevokeTarget),
}

/// What a token is, apart from its string.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenTerms {
    /// The grant it belongs to.
    pub grant: GrantId,
    /// Its times.
    pub times: TokenTimes,
    /// The resource servers it is for, if not the grant's.
    pub audience: Option<Vec<Audience>>,
    /// What it is bound to.
    pub confirmation: Option<Confirmation>,
    /// What it is narrowed to.
    pub narrowed: Option<NamedAccess>,
}

/// What to revoke.
#[derive(Clone, Debug, PartialEq)]
pub enum RevokeTarget {
    /// The token with this digest. Unknown tokens are no error (RFC 7009, section 2.2).
    Token(TokenDigest),
    /// The token with this handle.
    Handle(TokenHandle),
    /// One grant.
    Grant(GrantId),
    /// What a subject granted to a client.
    SubjectClient(SubjectId, ClientId),
    /// What a subject granted.
    Subject(SubjectId),
    /// What a client was granted.
    Client(ClientId),
    /// What a client was granted in a workspace.
    WorkspaceClient(WorkspaceId, ClientId),
    /// Tokens issued before a moment.
    IssuedBefore(Timestamp, Among),
}

/// A change that is durable and visible.
#[derive(Clone, Debug, PartialEq)]
pub struct Done {
    /// The list with this change in it. A question that demands this revision sees the change.
    pub revision: Revision,
    /// The grant that was made, if one was.
    pub grant: Option<GrantId>,
    /// The handle of the token that was registered or minted.
    pub handle: Option<TokenHandle>,
    /// The token string, if one was minted. Shown once.
    pub token: Option<String>,
}

/// Why a change was not made. Nothing has changed, except for [`ChangeError::Unknown`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The caller may not do this.
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
    /// It names something that does not exist.
    #[error("{0}")]
    NotFound(String),
    /// It contradicts what is already there.
    #[error("{0}")]
    Conflict(String),
    /// Too many changes are waiting, or the limit on something is reached; try again later.
    #[error("too many changes are waiting; try again in a moment")]
    Busy,
    /// The journal cannot take changes: poisoned, out of space, or shutting down.
    #[error("changes are refused: {0}")]
    Unavailable(String),
    /// The outcome is not known: the journal failed while the change was being made durable. Ask again after a restart.
    #[error("the outcome of the change is unknown: {0}")]
    Unknown(String),
}

impl ChangeError {
    /// The closed word for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Forbidden { .. } => "forbidden",
            Self::Invalid(_) => "invalid",
            Self::NotFound(_) => "not_found",
            Self::Conflict(_) => "conflict",
            Self::Busy => "busy",
            Self::Unavailable(_) => "unavailable",
            Self::Unknown(_) => "outcome_unknown",
        }
    }
}
