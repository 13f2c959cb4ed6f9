//! The rule of `domain/access.rs` over hash maps: facts are kept up to date entry by entry, answers come from the rule.
//!
//! It is to the index what a drawing is to a bridge: the same facts, no memory layout, no threads. Where it and the
//! model agree, the rule is right; where the service and the model agree too, so is the index.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use tokenscope::domain::access::{
    ClientKind, Covers, GrantFacts, MemberFacts, PairFacts, PartyFacts, PlaceFacts, PolicyFacts, TokenFacts,
};
use tokenscope::domain::{
    Access, Among, Change, ClientId, Denial, Entry, Expiry, GrantId, Inactive, NewGrant, NewToken, Place, PolicyEntry,
    PolicyMode, Reach, ScopeCatalogue, ScopeMask, Sequence, SubjectId, Switch, Target, Timestamp, TokenDigest,
    TokenKey, TokenTimes, WorkspaceId,
};
use tokenscope::service::Decision;
use tokenscope::service::report::{ListOf, PolicyRow};
use tokenscope::service::request::{ChangeError, ChangeRequest};

use crate::face::{LOST_PLACE, LostPlace, Room, Scopes, Seen, Told};
use crate::scribe::{Scribe, key};

/// Facts, and the list they came from.
pub struct Plain {
    scribe: Scribe,
    list: Vec<Entry>,
    facts: Facts,
}

#[derive(Default)]
struct Facts {
    applied: Sequence,
    catalogue: ScopeCatalogue,
    subjects: HashMap<SubjectId, PartyFacts>,
    clients: HashMap<ClientId, PartyFacts>,
    subject_clients: HashMap<(SubjectId, ClientId), Sequence>,
    members: HashMap<SubjectId, BTreeMap<Place, MemberFacts>>,
    policies: HashMap<WorkspaceId, Policy>,
    grants: HashMap<GrantId, Grant>,
    tokens: HashMap<TokenKey, NewToken>,
    revoked: HashSet<TokenKey>,
    all_issued_before: Timestamp,
    tokens_of: HashMap<GrantId, BTreeSet<TokenKey>>,
    digests: HashMap<TokenKey, TokenDigest>,
}

#[derive(Default)]
struct Policy {
    approval_required: bool,
    personal_off: bool,
    blocked: BTreeSet<ClientId>,
    approved: BTreeSet<ClientId>,
    void_before: HashMap<ClientId, Sequence>,
}

struct Grant {
    grant: NewGrant,
    facts: GrantFacts,
    pairs: Vec<(Reach, ScopeMask, Sequence)>,
}

impl Facts {
    /// Takes an entry; one that is in already changes nothing.
    fn apply(&mut self, entry: &Entry) {
        let at = entry.sequence;
        if at <= self.applied {
            return;
        }
        self.applied = at;
        match &entry.change {
            Change::RegisterClient(_) | Change::ImportMark { .. } => {}
            Change::SwitchClient(client, switch) => self.client(client).switch = *switch,
            Change::SwitchSubject(subject, switch) => self.subject(subject).switch = *switch,
            Change::AddScope(name) => _ = self.catalogue.add(name),
            Change::AliasScope(alias, of) => _ = self.catalogue.alias(alias, of),
            Change::RetireScope(name) => _ = self.catalogue.retire(name),
            Change::AddMember(subject, place) => {
                let member = self.member(subject, place);
                (member.live, member.added) = (true, at);
            }
            Change::RemoveMember(subject, place) => {
                let member = self.member(subject, place);
                (member.live, member.removed) = (false, at);
            }
            Change::SetPolicyMode(workspace, mode) => {
                self.policies.entry(workspace.clone()).or_default().approval_required =
                    *mode == PolicyMode::ApprovalRequired;
            }
            Change::SwitchPersonal(workspace, switch) => {
                self.policies.entry(workspace.clone()).or_default().personal_off = *switch == Switch::Off;
            }
            Change::SetPolicyEntry(workspace, client, entry) => {
                let policy = self.policies.entry(workspace.clone()).or_default();
                match entry {
                    PolicyEntry::Block => policy.blocked.insert(client.clone()),
                    PolicyEntry::Unblock => policy.blocked.remove(client),
                    PolicyEntry::Approve => policy.approved.insert(client.clone()),
                    PolicyEntry::Unapprove => policy.approved.remove(client),
                };
            }
            Change::MakeGrant(grant) => {
                let facts =
                    GrantFacts { made: at, expiry: grant.expiry, revoked: false, issued_before: Timestamp::ZERO };
                let pairs = since(&grant.access, at);
                self.grants.insert(grant.id, Grant { grant: grant.clone(), facts, pairs });
            }
            Change::NarrowGrant(id, access) => {
                if let Some(grant) = self.grants.get_mut(id) {
                    grant.pairs = narrow(&grant.pairs, access);
                }
            }
            Change::ExtendGrant(id, access) => {
                if let Some(grant) = self.grants.get_mut(id) {
                    grant.pairs.extend(since(access, at));
                }
            }
            Change::RegisterToken(token) => {
                self.tokens.entry(token.key).or_insert_with(|| token.clone());
                self.tokens_of.entry(token.grant).or_default().insert(token.key);
            }
            Change::Revoke(target) => self.revoke(target, at),
        }
    }

    fn revoke(&mut self, target: &Target, at: Sequence) {
        match target {
            Target::Token(key) => _ = self.revoked.insert(*key),
            Target::Grant(id) => {
                if let Some(grant) = self.grants.get_mut(id) {
                    grant.facts.revoked = true;
                }
            }
            Target::SubjectClient(subject, client) => {
                self.subject_clients.insert((subject.clone(), client.clone()), at);
            }
            Target::Subject(subject) => self.subject(subject).void_before = at,
            Target::Client(client) => self.client(client).void_before = at,
            Target::WorkspaceClient(workspace, client) => {
                self.policies.entry(workspace.clone()).or_default().void_before.insert(client.clone(), at);
            }
            Target::IssuedBefore(mark, among) => {
                let kept = match among {
                    Among::All => Some(&mut self.all_issued_before),
                    Among::Subject(subject) => Some(&mut self.subject(subject).issued_before),
                    Among::Client(client) => Some(&mut self.client(client).issued_before),
                    Among::Grant(id) => self.grants.get_mut(id).map(|grant| &mut grant.facts.issued_before),
                };
                if let Some(kept) = kept {
                    *kept = (*kept).max(*mark);
                }
            }
        }
    }

    fn subject(&mut self, subject: &SubjectId) -> &mut PartyFacts {
        self.subjects.entry(subject.clone()).or_insert(PartyFacts::NEW)
    }

    fn client(&mut self, client: &ClientId) -> &mut PartyFacts {
        self.clients.entry(client.clone()).or_insert(PartyFacts::NEW)
    }

    fn member(&mut self, subject: &SubjectId, place: &Place) -> &mut MemberFacts {
        self.members.entry(subject.clone()).or_default().entry(place.clone()).or_insert(MemberFacts::NEVER)
    }

    fn membership(&self, subject: &SubjectId, place: &Place) -> MemberFacts {
        let places = self.members.get(subject);
        places.and_then(|places| places.get(place)).copied().unwrap_or(MemberFacts::NEVER)
    }

    fn verdict(&self, key: TokenKey, now: Timestamp) -> Result<(&NewToken, &Grant), Inactive> {
        let token = self.tokens.get(&key).ok_or(Inactive::Unknown)?;
        let grant = self.grants.get(&token.grant).ok_or(Inactive::Unknown)?;
        let facts = self.token_facts(grant, token.times, self.revoked.contains(&key));
        facts.verdict(now).map(|()| (token, grant))
    }

    fn token_facts(&self, grant: &Grant, times: TokenTimes, revoked: bool) -> TokenFacts {
        let (subject, client) = (&grant.grant.subject, &grant.grant.client);
        let both = (subject.clone(), client.clone());
        TokenFacts {
            times,
            revoked,
            grant: grant.facts,
            subject: self.subjects.get(subject).copied().unwrap_or(PartyFacts::NEW),
            client: self.clients.get(client).copied().unwrap_or(PartyFacts::NEW),
            subject_client_void_before: self.subject_clients.get(&both).copied().unwrap_or_default(),
            all_issued_before: self.all_issued_before,
        }
    }

    fn place_facts(&self, grant: &NewGrant, place: &Place) -> PlaceFacts {
        let workspace = WorkspaceId::parse(place.workspace_str()).expect("a place's workspace is an id");
        let project = place.is_project().then(|| self.membership(&grant.subject, place));
        let mut policy = PolicyFacts::NEW;
        if let Some(known) = self.policies.get(&workspace) {
            policy = PolicyFacts {
                mode: if known.approval_required { PolicyMode::ApprovalRequired } else { PolicyMode::AllowAll },
                personal: if known.personal_off { Switch::Off } else { Switch::On },
                blocked: known.blocked.contains(&grant.client),
                approved: known.approved.contains(&grant.client),
                void_before: known.void_before.get(&grant.client).copied().unwrap_or_default(),
            };
        }
        PlaceFacts {
            workspace: self.membership(&grant.subject, &Place::workspace(&workspace)),
            project,
            policy,
            client: if grant.client == ClientId::personal() { ClientKind::Personal } else { ClientKind::App },
        }
    }

    fn effective(&self, token: &NewToken, grant: &Grant, place: &Place) -> ScopeMask {
        let scopes = self.place_facts(&grant.grant, place).scopes(pairs_at(token, grant, place));
        scopes.without(self.catalogue.retired())
    }

    fn memberships(&self, subject: &SubjectId) -> BTreeSet<Place> {
        let held = self.members.get(subject).into_iter().flatten();
        held.filter(|(place, member)| {
            let workspace = Place::parse(place.workspace_str()).expect("a place's workspace is a place");
            member.live && (!place.is_project() || member.added > self.membership(subject, &workspace).removed)
        })
        .map(|(place, _)| place.clone())
        .collect()
    }

    /// The places a token is about, with what it may do there, empty ones included.
    fn survey(&self, token: &NewToken, grant: &Grant) -> BTreeMap<Place, ScopeMask> {
        let own = token.narrowed.iter().flat_map(|access| access.pairs()).map(|pair| &pair.reach);
        let named = grant.pairs.iter().map(|(reach, ..)| reach).chain(own).filter_map(|reach| match reach {
            Reach::At(place) => Some(place.clone()),
            Reach::Everywhere => None,
        });
        let mut places: BTreeMap<Place, ScopeMask> = BTreeMap::new();
        for place in named.chain(self.memberships(&grant.grant.subject)) {
            if pairs_at(token, grant, &place).any(|pair| !pair.scopes.is_empty()) {
                let scopes = self.effective(token, grant, &place);
                places.insert(place, scopes);
            }
        }
        places
    }

    fn introspect(&self, key: TokenKey, place: Option<&str>, now: Timestamp) -> Result<Seen, Inactive> {
        let (token, grant) = self.verdict(key, now)?;
        let mut places = BTreeMap::new();
        let mut everywhere = Scopes::everything();
        if let Some(text) = place {
            let place = Place::parse(text).map_err(|_| Inactive::NothingLeft)?;
            everywhere = Scopes::of(&self.effective(token, grant, &place));
            places.insert(text.to_owned(), everywhere.clone());
        } else {
            let survey = self.survey(token, grant);
            for (place, mask) in &survey {
                if LOST_PLACE == LostPlace::Counts || !mask.is_empty() {
                    everywhere = everywhere.and(&Scopes::of(mask));
                }
                let workspace = Place::parse(place.workspace_str()).map_err(|_| Inactive::NothingLeft)?;
                if !place.is_project() || !mask.is_within(&self.effective(token, grant, &workspace)) {
                    places.insert(place.as_str().to_owned(), Scopes::of(mask));
                }
            }
            places.retain(|_, scopes| !scopes.is_empty());
            // A place never heard of: only what is granted everywhere covers it.
            let elsewhere = Place::parse("never/heard-of").map_err(|_| Inactive::NothingLeft)?;
            let elsewhere = pairs_at(token, grant, &elsewhere).fold(ScopeMask::EMPTY, |all, p| all.union(p.scopes));
            if LOST_PLACE == LostPlace::Counts && !elsewhere.is_empty() {
                everywhere = everywhere.and(&Scopes::of(&elsewhere.without(self.catalogue.retired())));
            }
        }
        if places.values().all(Scopes::is_empty) {
            return Err(Inactive::NothingLeft);
        }
        let expiry = Expiry::from_raw(token.times.expiry.raw().min(grant.grant.expiry.raw()));
        let audience = token.audience.as_ref().unwrap_or(&grant.grant.audience);
        Ok(Seen {
            grant: grant.grant.id,
            subject: grant.grant.subject.as_str().into(),
            client: grant.grant.client.as_str().into(),
            times: TokenTimes { expiry, ..token.times },
            audience: audience.iter().map(|audience| audience.as_str().into()).collect(),
            confirmation: token.confirmation.clone(),
            everywhere,
            places,
        })
    }

    fn grants_of<'f>(&'f self, of: &'f ListOf, now: Timestamp) -> impl Iterator<Item = &'f Grant> {
        let belongs = move |grant: &&Grant| match of {
            ListOf::Subject(who) => grant.grant.subject.as_str() == who,
            ListOf::Client(whom) => grant.grant.client.as_str() == whom,
            ListOf::Grant(which) => grant.grant.id == *which,
        };
        let ageless = TokenTimes { issued: Timestamp::MAX, not_before: Timestamp::ZERO, expiry: Expiry::Never };
        let alive = move |grant: &&Grant| self.token_facts(grant, ageless, false).verdict(now).is_ok();
        self.grants.values().filter(belongs).filter(alive)
    }

    fn keys_of(&self, grant: &Grant) -> impl Iterator<Item = &TokenKey> {
        self.tokens_of.get(&grant.grant.id).into_iter().flatten()
    }
}

fn since(access: &Access, at: Sequence) -> Vec<(Reach, ScopeMask, Sequence)> {
    access.pairs().iter().map(|pair| (pair.reach.clone(), pair.scopes, at)).collect()
}

fn narrow(pairs: &[(Reach, ScopeMask, Sequence)], kept: &Access) -> Vec<(Reach, ScopeMask, Sequence)> {
    let mut left = Vec::new();
    for (reach, scopes, since) in pairs {
        for pair in kept.pairs() {
            let reach = match (reach, &pair.reach) {
                (Reach::Everywhere, other) => other.clone(),
                (own, Reach::Everywhere) => own.clone(),
                (Reach::At(own), Reach::At(other)) if own.covers(other) => pair.reach.clone(),
                (Reach::At(own), Reach::At(other)) if other.covers(own) => reach.clone(),
                _ => continue,
            };
            left.push((reach, scopes.intersection(pair.scopes), *since));
        }
    }
    left.retain(|(_, scopes, _)| !scopes.is_empty());
    left
}

/// The pairs that cover a place, cut to what the token was narrowed to.
fn pairs_at<'f>(token: &NewToken, grant: &'f Grant, place: &'f Place) -> impl Iterator<Item = PairFacts> + use<'f> {
    let own = token.narrowed.as_ref().map_or(ScopeMask::WILDCARD, |access| access.scopes_at(place));
    grant.pairs.iter().filter_map(move |(reach, scopes, since)| {
        let covers = match reach {
            Reach::Everywhere => Covers::Everywhere,
            Reach::At(at) if !at.covers(place) => return None,
            Reach::At(at) if at.is_project() => Covers::Project,
            Reach::At(_) => Covers::Workspace,
        };
        Some(PairFacts { covers, since: *since, scopes: scopes.intersection(own) })
    })
}

impl Room for Plain {
    fn new() -> Self {
        Self { scribe: Scribe::new(), list: Vec::new(), facts: Facts::default() }
    }

    fn change(&mut self, request: &ChangeRequest, now: Timestamp) -> Result<Option<GrantId>, ChangeError> {
        let change = self.scribe.read(request)?;
        let made = if let Change::MakeGrant(grant) = &change { Some(grant.id) } else { None };
        if let ChangeRequest::RegisterToken { digest, .. } = request {
            self.facts.digests.insert(key(digest), *digest);
        }
        let entry = self.scribe.write(change, now);
        self.facts.apply(&entry);
        self.list.push(entry);
        Ok(made)
    }

    fn check(&self, token: &TokenDigest, scope: &str, place: &str, now: Timestamp) -> Decision {
        let (token, grant) = match self.facts.verdict(key(token), now) {
            Ok(known) => known,
            Err(reason) => return Decision::Inactive(reason),
        };
        let Some(scope) = self.facts.catalogue.position(scope) else { return Decision::Denied(Denial::ScopeUnknown) };
        let Ok(place) = Place::parse(place) else { return Decision::Denied(Denial::PlaceNotGranted) };
        let facts = self.facts.place_facts(&grant.grant, &place);
        match facts.decide(scope, pairs_at(token, grant, &place)) {
            Ok(()) => Decision::Allowed,
            Err(denial) => Decision::Denied(denial),
        }
    }

    fn introspect(&self, token: &TokenDigest, place: Option<&str>, now: Timestamp) -> Told {
        match self.facts.introspect(key(token), place, now) {
            Ok(seen) => Told::Active(Box::new(seen)),
            Err(reason) => Told::Inactive(reason),
        }
    }

    fn live_tokens(&self, of: &ListOf, now: Timestamp) -> HashSet<TokenDigest> {
        let keys = self.facts.grants_of(of, now).flat_map(|grant| self.facts.keys_of(grant));
        let live = keys.filter(|key| self.facts.verdict(**key, now).is_ok());
        live.filter_map(|key| self.facts.digests.get(key)).copied().collect()
    }

    fn live_grants(&self, of: &ListOf, now: Timestamp) -> BTreeMap<GrantId, u64> {
        let countable = |key: &&TokenKey| {
            let known = self.facts.tokens.get(*key);
            known.is_some_and(|token| !token.times.expiry.has_passed(now)) && !self.facts.revoked.contains(*key)
        };
        let count = |grant: &Grant| self.facts.keys_of(grant).filter(countable).count() as u64;
        self.facts.grants_of(of, now).map(|grant| (grant.grant.id, count(grant))).collect()
    }

    fn memberships(&self, subject: &str) -> BTreeSet<String> {
        let Ok(subject) = SubjectId::parse(subject) else { return BTreeSet::new() };
        self.facts.memberships(&subject).iter().map(|place| place.as_str().to_owned()).collect()
    }

    fn policy(&self, workspace: &str) -> PolicyRow {
        let names = |clients: &BTreeSet<ClientId>| clients.iter().map(|client| client.as_str().to_owned()).collect();
        let known = WorkspaceId::parse(workspace).ok().and_then(|workspace| self.facts.policies.get(&workspace));
        let new = Policy::default();
        let policy = known.unwrap_or(&new);
        PolicyRow {
            approval_required: policy.approval_required,
            personal_tokens: !policy.personal_off,
            blocked: names(&policy.blocked),
            approved: names(&policy.approved),
        }
    }

    fn replay(&mut self, count: usize) {
        let from = self.list.len().saturating_sub(count);
        for entry in &self.list[from..] {
            self.facts.apply(entry);
        }
    }
}
