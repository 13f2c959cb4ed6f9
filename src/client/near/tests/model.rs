//! The reference: a small server that keeps a list of changes and says what every answer is at every place in it.
//!
//! It shares the shape of facts with the near-cache, and [`crate::domain::access`], whose own tests are elsewhere. What
//! it does not share is anything about time, order, memory or messages.

use crate::client::answer::Decision;
use crate::client::near::table::{Facts, mixed};
use crate::domain::access::{ClientKind, Covers, MemberFacts, PairFacts, PlaceFacts, PolicyFacts};
use crate::domain::{Denial, Expiry, PolicyMode, ScopeMask, ScopePosition, Sequence, Switch, Timestamp, TokenDigest};
use crate::wire::facts::TAGS;

use super::dice::Dice;

pub const TOKENS: usize = 4;
pub const GRANTS: usize = 3;
/// Subjects, clients and workspaces: two of each.
const TWO: usize = 2;
pub const PLACES: [&str; 3] = ["A", "A/1", "B"];
pub const SCOPES: [&str; 2] = ["read", "write"];

/// What a pair of a grant may name: a place, or wherever the subject is a member.
const REACHES: usize = PLACES.len() + 1;

pub fn digest(token: usize) -> TokenDigest {
    TokenDigest::from_bytes([token as u8 + 1; 32])
}

fn workspace_of(place: usize) -> usize {
    usize::from(place == 2)
}

/// What a change touches.
#[derive(Clone, Debug, PartialEq)]
pub enum Touch {
    Nothing,
    Everything,
    Tag(u64),
}

/// A tag of the server's start with this key.
fn tag(key: u64, kind: u64, number: usize) -> u64 {
    mixed(&(kind << 32 | number as u64).to_le_bytes(), key)
}

#[derive(Clone, Copy, Debug)]
struct Party {
    on: bool,
    void_before: u64,
}

#[derive(Clone, Copy, Debug)]
struct Policy {
    approval: bool,
    blocked: [bool; TWO],
    approved: [bool; TWO],
    void_before: [u64; TWO],
}

/// Everything at one place in the list.
#[derive(Clone, Copy, Debug)]
pub struct State {
    registered: [bool; TOKENS],
    revoked: [bool; TOKENS],
    pub expiry: [u32; TOKENS],
    grant_made: [u64; GRANTS],
    grant_revoked: [bool; GRANTS],
    /// Scopes as bits, and since when.
    pairs: [[(u8, u64); REACHES]; GRANTS],
    subjects: [Party; TWO],
    clients: [Party; TWO],
    members: [[MemberFacts; PLACES.len()]; TWO],
    policies: [Policy; TWO],
    retired: [bool; SCOPES.len()],
}

fn grant_of(token: usize) -> usize {
    token % GRANTS
}

fn subject_of(grant: usize) -> usize {
    grant % TWO
}

fn client_of(grant: usize) -> usize {
    usize::from(grant == 2)
}

impl State {
    /// Most things there are, so that most questions are allowed at first.
    pub fn new(wall: u32, dice: &mut Dice) -> Self {
        let member = MemberFacts { live: true, added: Sequence(1), removed: Sequence::ZERO };
        Self {
            registered: [true; TOKENS].map(|known| known && dice.chance(90)),
            revoked: [false; TOKENS],
            expiry: std::array::from_fn(|_| if dice.chance(70) { u32::MAX } else { wall + dice.below(40) as u32 }),
            grant_made: [1; GRANTS],
            grant_revoked: [false; GRANTS],
            pairs: [[(3, 1), (1, 1), (1, 1), (0, 1)]; GRANTS],
            subjects: [Party { on: true, void_before: 0 }; TWO],
            clients: [Party { on: true, void_before: 0 }; TWO],
            members: [[member; PLACES.len()]; TWO],
            policies: [Policy { approval: false, blocked: [false; TWO], approved: [false; TWO], void_before: [0; TWO] };
                TWO],
            retired: [false, dice.chance(20)],
        }
    }

    /// Makes a random change at `sequence`; says what it touched, under the tags of the server with this key.
    pub fn change(&mut self, sequence: u64, key: u64, dice: &mut Dice) -> Touch {
        let (token, grant, one) = (dice.below(TOKENS), dice.below(GRANTS), dice.below(TWO));
        let (place, reach) = (dice.below(PLACES.len()), dice.below(REACHES));
        let toll = |kind, number| Touch::Tag(tag(key, kind, number));
        match dice.below(20) {
            // What never comes back is rarer, so that something is left to ask about.
            0 => {
                self.revoked[token] = true;
                toll(0, token)
            }
            1 if dice.chance(50) => {
                self.grant_revoked[grant] = true;
                toll(1, grant)
            }
            2 => {
                let client = &mut self.clients[one];
                client.on = !client.on;
                toll(3, one)
            }
            3 | 4 => {
                self.pairs[grant][reach].0 &= dice.below(4) as u8;
                toll(1, grant)
            }
            5 | 6 => {
                self.pairs[grant][reach] = (1 + dice.below(3) as u8, sequence);
                toll(1, grant)
            }
            7 if dice.chance(30) => {
                self.subjects[one].void_before = sequence;
                toll(2, one)
            }
            8 => {
                self.subjects[one].on = !self.subjects[one].on;
                toll(2, one)
            }
            9 | 10 => {
                let member = &mut self.members[one][place];
                *member = if member.live {
                    MemberFacts { live: false, removed: Sequence(sequence), ..*member }
                } else {
                    MemberFacts { live: true, added: Sequence(sequence), ..*member }
                };
                toll(2, one)
            }
            11 => {
                self.clients[one].on = !self.clients[one].on;
                toll(3, one)
            }
            12 => {
                self.policies[one].void_before[dice.below(TWO)] = sequence;
                toll(4, one)
            }
            13 | 14 => {
                let blocked = &mut self.policies[one].blocked[dice.below(TWO)];
                *blocked = !*blocked;
                toll(4, one)
            }
            15 => {
                let policy = &mut self.policies[one];
                policy.approval = !policy.approval;
                policy.approved[0] = dice.chance(50);
                toll(4, one)
            }
            16 => {
                let retired = &mut self.retired[dice.below(SCOPES.len())];
                *retired = !*retired;
                Touch::Everything
            }
            17 => {
                // A new grant with a new token in the old one's place, as a list that grows would have it.
                self.registered[token] = true;
                Touch::Nothing
            }
            _ => Touch::Nothing,
        }
    }

    fn is_active(&self, token: usize, wall: u32) -> bool {
        let grant = grant_of(token);
        let (subject, client) = (&self.subjects[subject_of(grant)], &self.clients[client_of(grant)]);
        self.registered[token]
            && !self.revoked[token]
            && !self.grant_revoked[grant]
            && wall < self.expiry[token]
            && subject.on
            && client.on
            && self.grant_made[grant] > subject.void_before
            && self.grant_made[grant] > client.void_before
    }

    fn place_facts(&self, grant: usize, place: usize) -> PlaceFacts {
        let (subject, client) = (subject_of(grant), client_of(grant));
        let (workspace, policy) = (workspace_of(place), &self.policies[workspace_of(place)]);
        let member = |place: usize| self.members[subject][place];
        PlaceFacts {
            workspace: member(if workspace == 0 { 0 } else { 2 }),
            project: (place == 1).then(|| member(1)),
            policy: PolicyFacts {
                mode: if policy.approval { PolicyMode::ApprovalRequired } else { PolicyMode::AllowAll },
                personal: Switch::On,
                blocked: policy.blocked[client],
                approved: policy.approved[client],
                void_before: Sequence(policy.void_before[client]),
            },
            client: ClientKind::App,
        }
    }

    fn covering(&self, grant: usize, place: usize) -> impl Iterator<Item = PairFacts> + '_ {
        self.pairs[grant].iter().enumerate().filter_map(move |(reach, (scopes, since))| {
            let covers = match reach {
                3 => Covers::Everywhere,
                1 if place == 1 => Covers::Project,
                1 => return None,
                reach if workspace_of(reach) == workspace_of(place) => Covers::Workspace,
                _ => return None,
            };
            let scopes = ScopeMask::from_words([u64::from(*scopes), 0, 0, 0], false);
            Some(PairFacts { covers, since: Sequence(*since), scopes })
        })
    }

    pub fn position(&self, scope: usize) -> Option<ScopePosition> {
        (!self.retired[scope]).then(|| ScopePosition::new(scope as u8))
    }

    /// The answer to a question, at this wall time.
    pub fn answer(&self, token: usize, scope: usize, place: usize, wall: u32) -> Decision {
        if !self.is_active(token, wall) {
            return Decision::Inactive;
        }
        let Some(position) = self.position(scope) else { return Decision::Denied(Denial::ScopeUnknown) };
        let grant = grant_of(token);
        match self.place_facts(grant, place).decide(position, self.covering(grant, place)) {
            Ok(()) => Decision::Allowed,
            Err(denial) => Decision::Denied(denial),
        }
    }

    /// The facts of a token at a place, if it is active.
    pub fn facts(&self, token: usize, place: usize, wall: u32, at: (u64, u64, u64)) -> Option<Facts> {
        let (sequence, incarnation, key) = at;
        let grant = grant_of(token);
        self.is_active(token, wall).then(|| Facts {
            sequence,
            incarnation,
            tags: self.tags(token, place, key),
            not_before: Timestamp::ZERO,
            expiry: Expiry::from_raw(self.expiry[token]),
            place: self.place_facts(grant, place),
            pairs: self.covering(grant, place).collect(),
        })
    }

    fn tags(&self, token: usize, place: usize, key: u64) -> [u64; TAGS] {
        let grant = grant_of(token);
        [
            tag(key, 0, token),
            tag(key, 1, grant),
            tag(key, 2, subject_of(grant)),
            tag(key, 3, client_of(grant)),
            tag(key, 4, workspace_of(place)),
        ]
    }
}
