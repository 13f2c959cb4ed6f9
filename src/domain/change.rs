//! A change: one item of the ordered list that is the truth.
//!
//! Each change stands for one thing somebody did, whatever it touches: removing a member or revoking a client is *one*
//! change though a million tokens stop working. A change is plain data; what it does is in `index/apply.rs`, how it is
//! written down in `journal/FORMAT.md`.

use std::fmt;

use super::digest::TokenKey;
use super::grant::Access;
use super::id::{Audience, CallerId, ClientId, GrantId, SubjectId, WorkspaceId};
use super::place::Place;
use super::time::{Expiry, Timestamp};
use super::token::{Confirmation, TokenTimes};

/// A place in the list: 1 for the first change, 0 before it. Contiguous.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Sequence(pub u64);

impl Sequence {
    /// Before the first change.
    pub const ZERO: Self = Self(0);

    /// The next place.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An incarnation of the list. A list restored from a backup, or one that lost its tail, gets a new and higher one, so
/// that nobody mistakes its sequences for the old ones. The seconds of its birth in the upper 40 bits, random below.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Epoch(pub u64);

/// What an answer was computed at, and what a question may demand: sequences compare only within one epoch.
///
/// Written `epoch-sequence`, the epoch in hexadecimal, the sequence in decimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Revision {
    /// The incarnation of the list.
    pub epoch: Epoch,
    /// The last change that is in.
    pub sequence: Sequence,
}

impl Revision {
    /// Parses the written form.
    pub fn parse(text: &str) -> Option<Self> {
        let (epoch, sequence) = text.split_once('-')?;
        let digits = !sequence.is_empty() && sequence.bytes().all(|b| b.is_ascii_digit());
        // One spelling: `042` is not a second name of `42`.
        if epoch.len() != 16 || !digits || (sequence.len() > 1 && sequence.starts_with('0')) {
            return None;
        }
        let epoch = u64::from_be_bytes(super::digest::parse_hex(epoch)?);
        Some(Self { epoch: Epoch(epoch), sequence: Sequence(sequence.parse().ok()?) })
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.epoch.0, self.sequence.0)
    }
}

/// Who may enter a workspace, unless its lists say otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum PolicyMode {
    /// Every client but the blocked ones.
    AllowAll,
    /// Only the approved ones.
    ApprovalRequired,
}

/// One line of a workspace's app policy. The two lists are kept apart, so that undoing restores exactly what was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum PolicyEntry {
    /// Put on the block list.
    Block,
    /// Taken off the block list.
    Unblock,
    /// Put on the approved list.
    Approve,
    /// Taken off the approved list.
    Unapprove,
}

/// Whether something that can be switched is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Switch {
    /// In force.
    On,
    /// Suspended; reversible.
    Off,
}

/// Everything a grant is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewGrant {
    /// Its number. The writer gives it; a value that arrives from a door is replaced.
    pub id: GrantId,
    /// Who granted it.
    pub subject: SubjectId,
    /// To which client.
    pub client: ClientId,
    /// What it gives.
    pub access: Access,
    /// When the grant itself ends, whatever its tokens say.
    pub expiry: Expiry,
    /// The resource servers its tokens are for, unless a token says otherwise. Never empty.
    pub audience: Vec<Audience>,
}

/// Everything a token is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewToken {
    /// Its kept identity.
    pub key: TokenKey,
    /// The grant it belongs to.
    pub grant: GrantId,
    /// Its times.
    pub times: TokenTimes,
    /// The resource servers it is for, if not the grant's.
    pub audience: Option<Vec<Audience>>,
    /// What it is bound to.
    pub confirmation: Option<Confirmation>,
    /// What it is narrowed to: it gives what both this and the grant give.
    pub narrowed: Option<Access>,
}

/// What a revocation hits. There is no empty selector and none that means "everything" by omission.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub enum Target {
    /// One token.
    Token(TokenKey),
    /// One grant, with all its tokens.
    Grant(GrantId),
    /// What this subject granted to this client so far: "revoke the app".
    SubjectClient(SubjectId, ClientId),
    /// What this subject granted so far, to anybody.
    Subject(SubjectId),
    /// What anybody granted to this client so far.
    Client(ClientId),
    /// What this client was granted in this workspace and its projects so far.
    WorkspaceClient(WorkspaceId, ClientId),
    /// Tokens issued before a moment.
    IssuedBefore(Timestamp, Among),
}

/// Among which tokens an "issued before" mark counts.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub enum Among {
    /// All there are.
    All,
    /// Those of one subject.
    Subject(SubjectId),
    /// Those of one client.
    Client(ClientId),
    /// Those of one grant.
    Grant(GrantId),
}

/// One change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// A client becomes known. Repeating it changes nothing.
    RegisterClient(ClientId),
    /// A client is suspended or let in again; its grants stay.
    SwitchClient(ClientId, Switch),
    /// A subject is suspended or let in again; its grants stay.
    SwitchSubject(SubjectId, Switch),
    /// A scope name gets the next position, or its old one back.
    AddScope(Box<str>),
    /// A second name (first) for a scope or the wildcard (second).
    AliasScope(Box<str>, Box<str>),
    /// A scope name is withdrawn; its position stays taken.
    RetireScope(Box<str>),
    /// A subject becomes a member of a place.
    AddMember(SubjectId, Place),
    /// A subject is no longer a member: it ends the place for every grant made before, in a workspace with its projects.
    RemoveMember(SubjectId, Place),
    /// The app policy's mode of a workspace.
    SetPolicyMode(WorkspaceId, PolicyMode),
    /// Whether personal tokens may enter a workspace.
    SwitchPersonal(WorkspaceId, Switch),
    /// One line of a workspace's app policy.
    SetPolicyEntry(WorkspaceId, ClientId, PolicyEntry),
    /// A grant is made.
    MakeGrant(NewGrant),
    /// A grant keeps only what it has in common with this access.
    NarrowGrant(GrantId, Access),
    /// A grant gains these pairs.
    ExtendGrant(GrantId, Access),
    /// A token becomes known.
    RegisterToken(NewToken),
    /// Something is revoked, for good.
    Revoke(Target),
    /// A bulk import reached this line of the source with this digest, its first grant having had this number.
    /// Changes no right; lets an interrupted import go on where it stopped.
    ImportMark {
        /// SHA-256 of the source.
        source: [u8; 32],
        /// Lines of it that are in the list.
        lines: u64,
        /// The number of the first grant it made, 0 if none yet.
        first_grant: u32,
        /// How many grants it has made so far.
        grants: u32,
    },
}

/// A change in its place: what the journal keeps and the feed reads aloud.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its place in the list.
    pub sequence: Sequence,
    /// When the writer took it, by the service's clock.
    pub at: Timestamp,
    /// Who asked for it.
    pub by: CallerId,
    /// What.
    pub change: Change,
}
