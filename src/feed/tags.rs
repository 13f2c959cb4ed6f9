//! What an answer of facts depends on and what a change touches, under names that mean nothing to anybody else.
//!
//! An answer about a token at a place is worked out from the token, its grant, its subject (with memberships and what it
//! revoked), its client, and the place's workspace (with its policy), so it has a tag for each of the five. A change
//! touches the one of them it is about, or everything, or nothing that anybody may hold. The match below is exhaustive:
//! a new kind of change does not compile until somebody has decided what it touches. That the decision is right, a
//! property test says (`tests/it/touches.rs`): an answer that differs after a change had a tag that it touched.

use std::hash::Hasher;

use siphasher::sip::SipHasher24;

use crate::domain::{Among, Change, GrantId, Target, TokenKey};

/// The name of something in the feed: 64 bits of keyed hash. Two things may have one name; then both are touched
/// together, which costs a question and no more.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Tag(pub u64);

/// What a change touches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Touch {
    /// Nothing that anybody may hold.
    Nothing,
    /// What depends on this.
    Tag(Tag),
    /// Everything.
    Everything,
}

/// What an answer of facts depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dependence<'a> {
    /// The token.
    pub token: TokenKey,
    /// Its grant.
    pub grant: GrantId,
    /// Its subject's id.
    pub subject: &'a str,
    /// Its client's id.
    pub client: &'a str,
    /// The id of the workspace of the place that was asked about, whether or not anybody knows the place.
    pub workspace: &'a str,
}

/// Gives things their tags. The key is this server's, of this start.
#[derive(Clone)]
pub struct Tagger {
    low: u64,
    high: u64,
}

impl std::fmt::Debug for Tagger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tagger(…)")
    }
}

/// The first byte that is hashed: a subject and a client of the same name have different tags.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Kind {
    Token = 1,
    Grant = 2,
    Subject = 3,
    Client = 4,
    Workspace = 5,
}

impl Tagger {
    /// With a key of 128 random bits.
    pub fn new(low: u64, high: u64) -> Self {
        Self { low, high }
    }

    fn tag(&self, kind: Kind, identity: &[u8]) -> Tag {
        let mut hasher = SipHasher24::new_with_keys(self.low, self.high);
        hasher.write_u8(kind as u8);
        hasher.write(identity);
        Tag(hasher.finish())
    }

    fn grant(&self, grant: GrantId) -> Tag {
        self.tag(Kind::Grant, &grant.number().to_le_bytes())
    }

    fn subject(&self, subject: &str) -> Tag {
        self.tag(Kind::Subject, subject.as_bytes())
    }

    fn client(&self, client: &str) -> Tag {
        self.tag(Kind::Client, client.as_bytes())
    }

    fn workspace(&self, workspace: &str) -> Tag {
        self.tag(Kind::Workspace, workspace.as_bytes())
    }

    /// The tags of an answer: token, grant, subject, client, workspace.
    pub fn tags_of(&self, on: &Dependence<'_>) -> [Tag; 5] {
        [
            self.tag(Kind::Token, on.token.as_bytes()),
            self.grant(on.grant),
            self.subject(on.subject),
            self.client(on.client),
            self.workspace(on.workspace),
        ]
    }

    /// What a change touches.
    pub fn touched_by(&self, change: &Change) -> Touch {
        Touch::Tag(match change {
            Change::Revoke(target) => return self.touched_by_revoking(target),
            Change::SwitchClient(client, _) => self.client(client.as_str()),
            Change::SwitchSubject(subject, _) | Change::AddMember(subject, _) | Change::RemoveMember(subject, _) => {
                self.subject(subject.as_str())
            }
            Change::SetPolicyMode(workspace, _)
            | Change::SwitchPersonal(workspace, _)
            | Change::SetPolicyEntry(workspace, ..) => self.workspace(workspace.as_str()),
            Change::NarrowGrant(grant, _) | Change::ExtendGrant(grant, _) => self.grant(*grant),
            // What a scope's name means: followers keep positions, and the names of them.
            Change::AddScope(_) | Change::AliasScope(..) | Change::RetireScope(_) => return Touch::Everything,
            // Whatever becomes known was unknown before, and what is unknown is inactive and never held. A client's
            // registration decides about nothing but whether grants can be made for it.
            Change::RegisterClient(_)
            | Change::MakeGrant(_)
            | Change::RegisterToken(_)
            | Change::ImportMark { source: _, lines: _, first_grant: _, grants: _ } => return Touch::Nothing,
        })
    }

    fn touched_by_revoking(&self, target: &Target) -> Touch {
        Touch::Tag(match target {
            Target::Token(key) => self.tag(Kind::Token, key.as_bytes()),
            Target::Grant(grant) | Target::IssuedBefore(_, Among::Grant(grant)) => self.grant(*grant),
            Target::SubjectClient(subject, _)
            | Target::Subject(subject)
            | Target::IssuedBefore(_, Among::Subject(subject)) => self.subject(subject.as_str()),
            Target::Client(client) | Target::IssuedBefore(_, Among::Client(client)) => self.client(client.as_str()),
            Target::WorkspaceClient(workspace, _) => self.workspace(workspace.as_str()),
            Target::IssuedBefore(_, Among::All) => return Touch::Everything,
        })
    }
}
