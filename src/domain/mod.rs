//! The ground floor: the facts, as plain values.
//!
//! Scopes, places, clients, subjects, grants, tokens, memberships, policies, the changes that make them, and the one
//! rule that combines them ([`access`]). No I/O, no clock, no threads, no serialisation: formats live where they are
//! written (`journal`, `snapshot`, `wire`, `server::http`) and convert.

// The rule that decides.
pub mod access;
// The items of the ordered list.
pub mod change;
// What stands for a token.
pub mod digest;
// What a grant gives.
pub mod grant;
// The platform's ids, and the numbers of grants.
pub mod id;
// The token strings we mint, and the junk we can tell at the door.
pub mod mint;
// Workspaces, and projects in them.
pub mod place;
// Scope names, their positions, and sets of them.
pub mod scope;
// Seconds since 1970.
pub mod time;
// A token's times and binding.
pub mod token;

pub use access::{Denial, Inactive};
pub use change::{
    Among, Change, Entry, Epoch, NewGrant, NewToken, PolicyEntry, PolicyMode, Revision, Sequence, Switch, Target,
};
pub use digest::{Pepper, TokenDigest, TokenHandle, TokenKey};
pub use grant::{Access, Pair, Reach};
pub use id::{Audience, CallerId, ClientId, GrantId, SubjectId, WorkspaceId};
pub use place::Place;
pub use scope::{ScopeCatalogue, ScopeMask, ScopePosition};
pub use time::{Expiry, Timestamp};
pub use token::{Confirmation, TokenTimes};

#[cfg(test)]
mod tests;
