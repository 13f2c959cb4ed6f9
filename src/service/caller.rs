//! Who asks, and what they may ask and change.
//!
//! A caller is known by its credentials at the doors (`server/credentials.rs`); here only its rights count. Rights are
//! separate on purpose (row S11 of the design): whoever manages a workspace decides who gets in there, whoever owns
//! the platform's API decides which scopes and clients exist, and neither can do the other's work.

use std::collections::BTreeSet;

use crate::domain::{CallerId, ClientId, Place, WorkspaceId};

/// All of something, or only what is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Only<T: Ord> {
    /// No limit.
    All,
    /// Only these.
    These(BTreeSet<T>),
}

impl<T: Ord> Only<T> {
    /// Whether `item` is within the limit.
    pub fn includes<Q>(&self, item: &Q) -> bool
    where
        T: std::borrow::Borrow<Q>,
        Q: Ord + ?Sized,
    {
        match self {
            Self::All => true,
            Self::These(items) => items.contains(item),
        }
    }

    /// As [`Only::includes`], for an item that has to be found out first: where there is no limit, it is not.
    pub fn includes_found<'q, Q>(&self, find: impl FnOnce() -> &'q Q) -> bool
    where
        T: std::borrow::Borrow<Q>,
        Q: Ord + ?Sized + 'q,
    {
        matches!(self, Self::All) || self.includes(find())
    }
}

/// The right to ask about tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskRight {
    /// Tokens for these resource servers only; any other token is inactive for this caller.
    pub audiences: Only<String>,
    /// Places in these workspaces only; others are left out of answers, and asking about one is refused.
    pub workspaces: Only<String>,
}

/// The right to revoke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevokeRight {
    /// By any selector.
    Anything,
    /// An OAuth client that takes back its own tokens (RFC 7009).
    OwnTokensOf(ClientId),
}

/// What a caller may do. The default is nothing at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Introspect and check.
    pub ask: Option<AskRight>,
    /// Make, extend and narrow grants, register and mint tokens.
    pub issue: bool,
    /// Revoke.
    pub revoke: Option<RevokeRight>,
    /// Change members and app policies of these workspaces.
    pub administer: Option<Only<String>>,
    /// Define scopes and clients.
    pub define: bool,
    /// Look behind the answers (explain, list, risk of anything), take snapshots.
    pub operate: bool,
}

/// A caller whose credentials a door has checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its name, as in the configuration and in the journal.
    pub id: CallerId,
    /// What it may do.
    pub rights: Rights,
}

impl Caller {
    /// Whether the caller may change members and policy of the workspace of `place`.
    pub fn administers(&self, place: &Place) -> bool {
        self.rights.administer.as_ref().is_some_and(|only| only.includes(place.workspace_str()))
    }

    /// Whether the caller may change members and policy of this workspace.
    pub fn administers_workspace(&self, workspace: &WorkspaceId) -> bool {
        self.rights.administer.as_ref().is_some_and(|only| only.includes(workspace.as_str()))
    }

    /// Whether the caller may ask about places in the workspace with this id.
    pub fn may_ask_about(&self, workspace: &str) -> bool {
        self.rights.ask.as_ref().is_some_and(|ask| ask.workspaces.includes(workspace))
    }
}
