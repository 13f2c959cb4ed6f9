//! The plain model beside which [`index_model`](super::index_model()) runs the index: maps and sets of the standard library, one rule
//! after the other, no table, no link, no word that holds two things.
//!
//! It says whether a change can be made, and what is true afterwards. It does not decide whether a token may do
//! something: that is one pure function of these facts (`domain::access`), and tests of its own hold that function.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::access::{MemberFacts, PartyFacts, PolicyFacts};
use crate::domain::{
    Access, Among, Change, ClientId, Confirmation, Expiry, GrantId, NewToken, Place, PolicyEntry, PolicyMode, Reach,
    ScopeMask, Sequence, SubjectId, Switch, Target, Timestamp, TokenKey, TokenTimes,
};

/// How long a token is remembered after its end. Restated: a change of it is to be seen here.
const REMEMBERED: u32 = 3_600;
/// How long after its revocation an unknown token is remembered.
const UNKNOWN_REMEMBERED: u32 = 86_400;

/// Scope positions that scripts use: in every word of a mask, at its ends and in between.
pub(super) const POSITIONS: [u8; 7] = [0, 1, 63, 64, 130, 192, 255];

/// A set of scopes as it counts: a bit for each of [`POSITIONS`], and all of them if the wildcard is in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Scopes(u8);

impl Scopes {
    const ALL: u8 = 1 << 7;

    /// The set that a mask means.
    pub(super) fn of(mask: &ScopeMask) -> Self {
        if mask.has_wildcard() {
            return Self(Self::ALL);
        }
        let known =
            |position: u8| POSITIONS.iter().position(|known| *known == position).expect("a scope of the scripts");
        Self(mask.positions().fold(0, |bits, position| bits | 1 << known(position.number())))
    }

    fn and(self, other: Self) -> Self {
        match (self.0 & Self::ALL, other.0 & Self::ALL) {
            (0, 0) => Self(self.0 & other.0),
            (0, _) => self,
            _ => other,
        }
    }

    /// What is left without the other set; nothing can be taken from all but all.
    pub(super) fn without(self, other: Self) -> Self {
        match (self.0 & Self::ALL, other.0 & Self::ALL) {
            (_, Self::ALL) => Self(0),
            (Self::ALL, _) => self,
            _ => Self(self.0 & !other.0),
        }
    }

    /// Whether there is none in it.
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn or(self, other: Self) -> Self {
        if (self.0 | other.0) & Self::ALL != 0 { Self(Self::ALL) } else { Self(self.0 | other.0) }
    }
}

/// Pairs by place (none: everywhere) and age.
pub(super) type Pairs = BTreeMap<(Option<Place>, Sequence), Scopes>;

fn pairs_of(access: &Access, since: Sequence) -> Pairs {
    let mut pairs = Pairs::new();
    access.pairs().iter().for_each(|pair| join(&mut pairs, place_of(&pair.reach), since, Scopes::of(&pair.scopes)));
    pairs
}

fn place_of(reach: &Reach) -> Option<Place> {
    match reach {
        Reach::At(place) => Some(place.clone()),
        Reach::Everywhere => None,
    }
}

/// Adds to what is there; nothing is no pair.
fn join(pairs: &mut Pairs, place: Option<Place>, since: Sequence, scopes: Scopes) {
    if scopes.0 != 0 {
        pairs.entry((place, since)).and_modify(|there| *there = there.or(scopes)).or_insert(scopes);
    }
}

/// The smaller of two places if one lies in the other.
fn smaller<'p>(one: &'p Option<Place>, other: &'p Option<Place>) -> Option<&'p Option<Place>> {
    match (one, other) {
        (None, smaller) | (smaller, None) => Some(smaller),
        (Some(a), Some(b)) if a == b || b.project_str().is_some() && b.workspace_str() == a.as_str() => Some(other),
        (Some(a), Some(b)) if a.project_str().is_some() && a.workspace_str() == b.as_str() => Some(one),
        _ => None,
    }
}

/// A grant.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) made: Sequence,
    pub(super) subject: SubjectId,
    pub(super) client: ClientId,
    pub(super) expiry: Expiry,
    pub(super) revoked: bool,
    pub(super) issued_before: Timestamp,
    pub(super) audience: BTreeSet<String>,
    pub(super) pairs: Pairs,
}

/// A token; one that was revoked before anybody registered it has no grant.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) grant: Option<GrantId>,
    pub(super) times: TokenTimes,
    pub(super) revoked: bool,
    pub(super) audience: Option<BTreeSet<String>>,
    pub(super) confirmation: Option<Confirmation>,
    pub(super) narrowed: Option<Pairs>,
    /// When it was last found active, as far as that is written down.
    pub(super) used: Option<Timestamp>,
}

impl Token {
    /// Whether it ended longer ago than it is remembered.
    pub(super) fn is_over(&self, at: Timestamp) -> bool {
        matches!(self.times.expiry, Expiry::At(end) if at.raw().saturating_sub(REMEMBERED) >= end.raw())
    }
}

/// A workspace's policy.
#[derive(Default)]
struct Policy {
    approval: bool,
    personal_off: bool,
    blocked: BTreeSet<ClientId>,
    approved: BTreeSet<ClientId>,
    void_before: BTreeMap<ClientId, Sequence>,
}

/// Whether no scope can be called so; of the names of the scripts.
fn is_no_name(name: &str) -> bool {
    name.contains(' ')
}

/// The catalogue of scopes.
#[derive(Default)]
pub(super) struct Catalogue {
    /// Names in the order of their positions, and whether each is withdrawn.
    pub(super) names: Vec<(String, bool)>,
    /// Aliases with the position they stand for; none: the wildcard.
    pub(super) aliases: BTreeMap<String, Option<usize>>,
}

impl Catalogue {
    fn named(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|(known, _)| known == name)
    }

    /// What a name that may be used stands for.
    fn meaning(&self, name: &str) -> Option<Option<usize>> {
        if name == "*" {
            return Some(None);
        }
        let meaning = self.named(name).map(Some).or_else(|| self.aliases.get(name).copied())?;
        (!meaning.is_some_and(|position| self.names[position].1)).then_some(meaning)
    }

    /// The position of a name in a question.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.meaning(name).flatten()
    }

    /// Whether this was possible; if not, nothing has changed.
    fn add(&mut self, name: &str) -> bool {
        if is_no_name(name) || name == "*" || self.aliases.contains_key(name) {
            return false;
        }
        match self.named(name) {
            Some(position) => self.names[position].1 = false,
            None => self.names.push((name.into(), false)),
        }
        true
    }

    fn alias(&mut self, alias: &str, of: &str) -> bool {
        let Some(meaning) = self.meaning(of).filter(|_| !is_no_name(alias)) else { return false };
        if alias == "*" {
            return meaning.is_none();
        }
        if let Some(position) = self.named(alias) {
            return meaning == Some(position) && !self.names[position].1;
        }
        match self.aliases.get(alias) {
            Some(known) => *known == meaning,
            None => self.aliases.insert(alias.into(), meaning).is_none(),
        }
    }

    fn retire(&mut self, name: &str) -> bool {
        let Some(position) = self.named(name) else { return false };
        !std::mem::replace(&mut self.names[position].1, true)
    }
}

/// What a change meets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    New,
    Already,
    Refused,
}

/// Everything.
#[derive(Default)]
pub(super) struct Model {
    pub(super) subjects: BTreeMap<SubjectId, PartyFacts>,
    clients: BTreeMap<ClientId, PartyFacts>,
    registered: BTreeSet<ClientId>,
    pub(super) members: BTreeMap<(SubjectId, Place), MemberFacts>,
    policies: BTreeMap<String, Policy>,
    pub(super) grants: Vec<Grant>,
    pub(super) tokens: BTreeMap<TokenKey, Token>,
    marks: BTreeMap<(SubjectId, ClientId), Sequence>,
    pub(super) all_issued_before: Timestamp,
    pub(super) catalogue: Catalogue,
    pub(super) imports: BTreeMap<[u8; 32], (u64, u32, u32)>,
}

impl Model {
    /// Whether a change can be made at `at`.
    pub(super) fn admit(&self, change: &Change, at: Timestamp) -> Fate {
        let apart = |changed: bool| if changed { Fate::New } else { Fate::Refused };
        let copy = || Catalogue { names: self.catalogue.names.clone(), aliases: self.catalogue.aliases.clone() };
        apart(match change {
            Change::RegisterClient(_)
            | Change::SwitchSubject(..)
            | Change::AddMember(..)
            | Change::RemoveMember(..)
            | Change::SetPolicyMode(..)
            | Change::SwitchPersonal(..)
            | Change::ImportMark { .. } => true,
            Change::SwitchClient(client, _) | Change::SetPolicyEntry(_, client, _) => {
                *client != ClientId::personal() && self.knows(client)
            }
            Change::AddScope(name) => copy().add(name),
            Change::AliasScope(alias, of) => copy().alias(alias, of),
            Change::RetireScope(name) => copy().retire(name),
            Change::MakeGrant(grant) => self.knows(&grant.client) && !grant.audience.is_empty(),
            Change::NarrowGrant(id, _) | Change::ExtendGrant(id, _) => self.is_alive(*id),
            Change::RegisterToken(token) => return self.admit_token(token, at),
            Change::Revoke(target) => match target {
                Target::Token(_) | Target::IssuedBefore(_, Among::All) => true,
                Target::Grant(id) | Target::IssuedBefore(_, Among::Grant(id)) => self.grant(*id).is_some(),
                Target::SubjectClient(subject, client) => self.subjects.contains_key(subject) && self.knows(client),
                Target::Subject(subject) | Target::IssuedBefore(_, Among::Subject(subject)) => {
                    self.subjects.contains_key(subject)
                }
                Target::Client(client)
                | Target::WorkspaceClient(_, client)
                | Target::IssuedBefore(_, Among::Client(client)) => self.knows(client),
            },
        })
    }

    fn admit_token(&self, new: &NewToken, at: Timestamp) -> Fate {
        let ends_first = new.times.expiry.at().is_some_and(|end| end <= new.times.issued);
        if !self.is_alive(new.grant) || ends_first || new.audience.as_ref().is_some_and(Vec::is_empty) {
            return Fate::Refused;
        }
        match self.tokens.get(&new.key) {
            Some(known) if !known.is_over(at) => {
                let same = !known.revoked && known.grant == Some(new.grant) && known.times == new.times;
                if same { Fate::Already } else { Fate::Refused }
            }
            _ => Fate::New,
        }
    }

    fn knows(&self, client: &ClientId) -> bool {
        *client == ClientId::personal() || self.registered.contains(client)
    }

    pub(super) fn grant(&self, id: GrantId) -> Option<&Grant> {
        self.grants.get(id.number() as usize - 1)
    }

    /// Whether the grant is there and no revocation has ended it.
    fn is_alive(&self, id: GrantId) -> bool {
        self.grant(id).is_some_and(|grant| {
            let marks =
                [self.subject(&grant.subject).void_before, self.client(&grant.client).void_before, self.mark(grant)];
            !grant.revoked && marks.iter().all(|mark| *mark < grant.made)
        })
    }

    pub(super) fn subject(&self, subject: &SubjectId) -> PartyFacts {
        self.subjects.get(subject).copied().unwrap_or(PartyFacts::NEW)
    }

    pub(super) fn client(&self, client: &ClientId) -> PartyFacts {
        self.clients.get(client).copied().unwrap_or(PartyFacts::NEW)
    }

    /// What was granted between these two up to this is void.
    pub(super) fn mark(&self, grant: &Grant) -> Sequence {
        self.marks.get(&(grant.subject.clone(), grant.client.clone())).copied().unwrap_or_default()
    }

    pub(super) fn member(&self, subject: &SubjectId, place: &Place) -> MemberFacts {
        self.members.get(&(subject.clone(), place.clone())).copied().unwrap_or(MemberFacts::NEVER)
    }

    /// When the subject last left the workspace of a project; zero for a workspace, or if never.
    pub(super) fn left_around(&self, subject: &SubjectId, place: &Place) -> Sequence {
        if place.project_str().is_none() {
            return Sequence::ZERO;
        }
        let around = Place::parse(place.workspace_str()).expect("a place's workspace is one");
        self.member(subject, &around).removed
    }

    /// What a workspace's policy says of a client.
    pub(super) fn policy(&self, workspace: &str, client: &ClientId) -> PolicyFacts {
        let Some(policy) = self.policies.get(workspace) else { return PolicyFacts::NEW };
        PolicyFacts {
            mode: if policy.approval { PolicyMode::ApprovalRequired } else { PolicyMode::AllowAll },
            personal: if policy.personal_off { Switch::Off } else { Switch::On },
            blocked: policy.blocked.contains(client),
            approved: policy.approved.contains(client),
            void_before: policy.void_before.get(client).copied().unwrap_or_default(),
        }
    }

    /// Makes a change that was admitted.
    pub(super) fn apply(&mut self, sequence: Sequence, at: Timestamp, change: &Change) {
        match change {
            Change::RegisterClient(client) => _ = self.registered.insert(client.clone()),
            Change::SwitchClient(client, switch) => self.client_mut(client).switch = *switch,
            Change::SwitchSubject(subject, switch) => self.subject_mut(subject).switch = *switch,
            Change::AddScope(name) => _ = self.catalogue.add(name),
            Change::AliasScope(alias, of) => _ = self.catalogue.alias(alias, of),
            Change::RetireScope(name) => _ = self.catalogue.retire(name),
            Change::AddMember(subject, place) => {
                self.subject_mut(subject);
                let left = self.left_around(subject, place);
                let member = self.members.entry((subject.clone(), place.clone())).or_insert(MemberFacts::NEVER);
                // Who is a member already stays the member it was.
                if !member.live || member.added <= left {
                    (member.live, member.added) = (true, sequence);
                }
            }
            Change::RemoveMember(subject, place) => {
                self.subject_mut(subject);
                let member = self.members.entry((subject.clone(), place.clone())).or_insert(MemberFacts::NEVER);
                (member.live, member.removed) = (false, sequence);
            }
            Change::SetPolicyMode(workspace, mode) => {
                self.policy_mut(workspace.as_str()).approval = *mode == PolicyMode::ApprovalRequired;
            }
            Change::SwitchPersonal(workspace, switch) => {
                self.policy_mut(workspace.as_str()).personal_off = *switch == Switch::Off;
            }
            Change::SetPolicyEntry(workspace, client, line) => {
                let policy = self.policy_mut(workspace.as_str());
                _ = match line {
                    PolicyEntry::Block => policy.blocked.insert(client.clone()),
                    PolicyEntry::Unblock => policy.blocked.remove(client),
                    PolicyEntry::Approve => policy.approved.insert(client.clone()),
                    PolicyEntry::Unapprove => policy.approved.remove(client),
                };
            }
            Change::MakeGrant(new) => {
                self.subject_mut(&new.subject);
                self.grants.push(Grant {
                    made: sequence,
                    subject: new.subject.clone(),
                    client: new.client.clone(),
                    expiry: new.expiry,
                    revoked: false,
                    issued_before: Timestamp::ZERO,
                    audience: new.audience.iter().map(|audience| audience.as_str().into()).collect(),
                    pairs: pairs_of(&new.access, sequence),
                });
            }
            Change::NarrowGrant(id, access) => {
                let kept = pairs_of(access, Sequence::ZERO);
                let grant = &mut self.grants[id.number() as usize - 1];
                let mut left = Pairs::new();
                for ((place, since), scopes) in &grant.pairs {
                    for ((kept_place, _), kept_scopes) in &kept {
                        if let Some(both) = smaller(place, kept_place) {
                            join(&mut left, both.clone(), *since, scopes.and(*kept_scopes));
                        }
                    }
                }
                grant.pairs = left;
            }
            Change::ExtendGrant(id, access) => {
                let grant = &mut self.grants[id.number() as usize - 1];
                for ((place, since), scopes) in pairs_of(access, sequence) {
                    join(&mut grant.pairs, place, since, scopes);
                }
            }
            Change::RegisterToken(new) => {
                let texts = |list: &Vec<crate::domain::Audience>| list.iter().map(|one| one.as_str().into()).collect();
                let token = Token {
                    grant: Some(new.grant),
                    times: new.times,
                    revoked: false,
                    audience: new.audience.as_ref().map(texts),
                    confirmation: new.confirmation.clone(),
                    narrowed: new.narrowed.as_ref().map(|access| pairs_of(access, Sequence::ZERO)),
                    used: None,
                };
                self.tokens.insert(new.key, token);
            }
            Change::Revoke(target) => self.revoke(target, sequence, at),
            Change::ImportMark { source, lines, first_grant, grants } => {
                self.imports.insert(*source, (*lines, *first_grant, *grants));
            }
        }
    }

    fn revoke(&mut self, target: &Target, sequence: Sequence, at: Timestamp) {
        match target {
            Target::Token(key) => {
                let end = Expiry::At(at.plus(UNKNOWN_REMEMBERED - REMEMBERED));
                let unknown = Token {
                    grant: None,
                    times: TokenTimes { issued: at, not_before: at, expiry: end },
                    revoked: true,
                    audience: None,
                    confirmation: None,
                    narrowed: None,
                    used: None,
                };
                self.tokens.entry(*key).or_insert(unknown).revoked = true;
            }
            Target::Grant(id) => self.grants[id.number() as usize - 1].revoked = true,
            Target::SubjectClient(subject, client) => {
                self.marks.insert((subject.clone(), client.clone()), sequence);
            }
            Target::Subject(subject) => self.subject_mut(subject).void_before = sequence,
            Target::Client(client) => self.client_mut(client).void_before = sequence,
            Target::WorkspaceClient(workspace, client) => {
                self.policy_mut(workspace.as_str()).void_before.insert(client.clone(), sequence);
            }
            Target::IssuedBefore(mark, among) => {
                let kept = match among {
                    Among::All => &mut self.all_issued_before,
                    Among::Subject(subject) => &mut self.subject_mut(subject).issued_before,
                    Among::Client(client) => &mut self.client_mut(client).issued_before,
                    Among::Grant(id) => &mut self.grants[id.number() as usize - 1].issued_before,
                };
                *kept = (*kept).max(*mark);
            }
        }
    }

    /// Forgets tokens that ended long enough ago; how many.
    pub(super) fn sweep(&mut self, now: Timestamp) -> usize {
        let before = self.tokens.len();
        self.tokens.retain(|_, token| !token.is_over(now));
        before - self.tokens.len()
    }

    fn subject_mut(&mut self, subject: &SubjectId) -> &mut PartyFacts {
        self.subjects.entry(subject.clone()).or_insert(PartyFacts::NEW)
    }

    fn client_mut(&mut self, client: &ClientId) -> &mut PartyFacts {
        self.clients.entry(client.clone()).or_insert(PartyFacts::NEW)
    }

    fn policy_mut(&mut self, workspace: &str) -> &mut Policy {
        self.policies.entry(workspace.into()).or_default()
    }
}
