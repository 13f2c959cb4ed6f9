//! What we do, in the RFCs' words: plain functions over the index, and changes handed to the one writer.
//!
//! Every door calls the same functions here and so gives the same answer. `now` is always an argument; nothing here
//! knows a socket, a byte of the wire, or a runtime. Answering a question takes no lock, waits for nothing and
//! allocates nothing; a report for people may walk.
//!
//! Which way it falls: a question that cannot be answered is [`Refusal`], never active and never inactive; a change
//! that is not known to be durable is an error, never done.

// Who asks.
pub mod caller;
// Answers to people.
pub mod report;
// What is asked to be changed.
pub mod request;

mod change;
mod facts;
mod introspect;
mod look;
mod risk;

use std::sync::Arc;

use crate::domain::mint::TokenPrefix;
use crate::domain::{Audience, Epoch, Pepper, Revision, Sequence, TokenDigest, TokenKey};
use crate::feed::Feed;
use crate::index::Index;
use crate::store::Committer;

/// What a token is bound to, as an answer shows it.
pub use crate::index::Bound;
/// The right to look into the index for a moment: doors take one from [`Service::pin`] and hand it back inward.
pub use crate::index::Pin;
/// What a session knows of the questions it is about to ask, and how many of them are looked ahead for at once.
pub use crate::index::{AHEAD, Coming};
/// Where the receipts of changes that were only started gather.
pub use crate::store::{Arrived, Rotated, Tray};
pub use change::{Started, UnderWay};
pub use facts::FactsThere;
pub use introspect::{ActiveToken, Decision, Introspection, PlaceAsked, ScopeAsked, Scratch};

/// Why a question got no verdict. Neither active nor inactive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The caller has no right to ask about tokens.
    #[error("this caller may not ask about tokens")]
    MayNotAsk,
    /// The caller asked about a place outside its workspaces.
    #[error("this caller may not ask about this workspace")]
    MayNotAskThere,
    /// The revision the question demands is not reached here.
    #[error("this server has not reached the revision that was demanded")]
    Behind,
    /// Not ready: starting or shutting down.
    #[error("this server is not ready")]
    NotReady,
}

/// What the service needs to know beside the facts.
#[derive(Clone, Debug)]
pub struct Options {
    /// The audience of grants whose issuer names none; empty: such grants are refused.
    pub default_audience: Vec<Audience>,
    /// What minted tokens begin with.
    pub prefix: TokenPrefix,
}

/// The service over one store. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    index: Index,
    committer: Committer,
    shared: Arc<Fixed>,
}

struct Fixed {
    epoch: Epoch,
    pepper: Pepper,
    options: Options,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("revision", &self.revision()).finish_non_exhaustive()
    }
}

impl Service {
    /// The service over an index and the way to change it.
    pub fn new(index: Index, committer: Committer, epoch: Epoch, pepper: Pepper, options: Options) -> Self {
        Self { index, committer, shared: Arc::new(Fixed { epoch, pepper, options }) }
    }

    /// The index below: for whoever writes it down or counts in it.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Where changes are read aloud, after they are visible and before anybody gets a receipt.
    pub fn feed(&self) -> &Feed {
        self.committer.feed()
    }

    /// The right to look into the index for a moment; holds nothing up, must not be held across a wait.
    pub fn pin(&self) -> Pin<'_> {
        self.index.pin()
    }

    /// The last change that is visible. A session reads it before it answers, so that no answer is older than it says.
    pub fn revision(&self) -> Revision {
        self.at(self.pin().applied())
    }

    /// A place of this list.
    pub fn at(&self, sequence: Sequence) -> Revision {
        Revision { epoch: self.shared.epoch, sequence }
    }

    /// What minted tokens begin with.
    pub fn prefix(&self) -> &TokenPrefix {
        &self.shared.options.prefix
    }

    /// Whether `least` is reached here.
    ///
    /// # Errors
    /// [`Refusal::Behind`], also when `least` is of another epoch.
    pub fn reached(&self, least: Revision) -> Result<(), Refusal> {
        let now = self.revision();
        if least.epoch == now.epoch && least.sequence <= now.sequence { Ok(()) } else { Err(Refusal::Behind) }
    }

    /// The kept identity of the token with this digest. A session computes the keys of all questions it has at hand
    /// first, then calls [`Service::look_ahead`], then answers one by one: their cache misses overlap.
    #[inline]
    pub fn key(&self, digest: &TokenDigest) -> TokenKey {
        self.shared.pepper.key(digest)
    }

    /// Begins to load what the answers to the coming questions will read; see [`AHEAD`] for how many at once are worth
    /// it. Only a hint: no answer depends on it.
    #[inline]
    pub fn look_ahead(&self, pin: &Pin<'_>, coming: &[Coming]) {
        pin.look_ahead(coming);
    }
}
