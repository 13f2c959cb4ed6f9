//! The reference model: what every answer has to be, said as plainly as possible.
//!
//! It keeps the list of changes and nothing else. Every question is answered by reading the whole list again, with no
//! state that could go stale and no shortcut that could be wrong. It shares no rule with `domain/access.rs`: that is
//! what it is there to contradict. Slow on purpose.
//!
//! Decisions it takes where the design leaves room:
//!
//! * A repeated `AddMember` of a member changes nothing. A `RemoveMember` counts as a removal even of somebody who is
//!   no member. Removal from a workspace removes from all its projects.
//! * A pair that names a project leans on both memberships: leaving either ends it. A pair that names the workspace,
//!   or "everywhere", leans on the project's membership only where the subject is not in the workspace.
//! * Narrowing a grant meets its pairs with the new ones, each by each: the smaller place, the scopes both have. A
//!   narrowed pair keeps its age. A wildcard narrowed by names is those names. A grant may become empty; it stays alive.
//! * Extending adds pairs of a new age beside the old ones; it revives a place the subject came back to.
//! * A narrowed token gives what both give at a place; its own pairs have no age.
//! * A revoked token stays revoked, wherever in the list its registration stands. A second registration of a known
//!   token changes nothing.
//! * Registering a client again does not let a suspended one in.
//! * A withdrawn scope cannot be asked about and is nothing that is left; its place still counts as a place of the
//!   token, so that withdrawing never widens what is allowed at every one of them.
//! * A project nobody ever named is covered by its workspace like any other.

use std::collections::{BTreeMap, BTreeSet};

use tokenscope::domain::{
    Access, Among, Change, ClientId, Denial, Entry, Expiry, GrantId, Inactive, NewGrant, NewToken, Place, PolicyEntry,
    PolicyMode, Reach, Sequence, SubjectId, Switch, Target, Timestamp, TokenKey, TokenTimes,
};
use tokenscope::service::Decision;
use tokenscope::service::report::{ListOf, PolicyRow};

use crate::face::{LOST_PLACE, LostPlace, Scopes, Seen, Told};

/// The list of changes.
#[derive(Clone, Default)]
pub struct Model {
    list: Vec<Entry>,
}

/// One pair of a grant as it stands now.
struct Given {
    reach: Reach,
    scopes: Scopes,
    since: Sequence,
}

impl Model {
    /// Takes the next entry; an entry it already has changes nothing.
    pub fn apply(&mut self, entry: &Entry) {
        if self.list.last().is_none_or(|last| last.sequence < entry.sequence) {
            self.list.push(entry.clone());
        }
    }

    fn entries(&self) -> impl DoubleEndedIterator<Item = (Sequence, &Change)> {
        self.list.iter().map(|entry| (entry.sequence, &entry.change))
    }

    fn revocations(&self) -> impl Iterator<Item = (Sequence, &Target)> {
        self.entries().filter_map(|(sequence, change)| match change {
            Change::Revoke(target) => Some((sequence, target)),
            _ => None,
        })
    }

    /// The last value that `pick` finds in the list.
    fn last<T>(&self, pick: impl Fn(&Change) -> Option<T>) -> Option<T> {
        self.entries().rev().find_map(|(_, change)| pick(change))
    }

    // ---- scopes ----

    /// The number of a scope name that may be asked about.
    pub fn position(&self, name: &str) -> Option<u8> {
        let own = self.entries().any(|(_, change)| matches!(change, Change::AddScope(added) if **added == *name));
        let of = self.entries().find_map(|(_, change)| match change {
            Change::AliasScope(alias, of) if **alias == *name => Some(of),
            _ => None,
        });
        match of {
            Some(of) if !own => self.position(of),
            _ => self.own_position(name),
        }
    }

    fn own_position(&self, name: &str) -> Option<u8> {
        let (names, withdrawn) = self.scopes();
        let number = names.iter().position(|known| *known == name)?;
        (!withdrawn.contains(name)).then_some(number as u8)
    }

    /// The names of all scopes in the order of their positions, and which of them are withdrawn.
    fn scopes(&self) -> (Vec<&str>, BTreeSet<&str>) {
        let mut names: Vec<&str> = Vec::new();
        let mut withdrawn = BTreeSet::new();
        for (_, change) in self.entries() {
            match change {
                Change::AddScope(added) => {
                    if !names.contains(&&**added) {
                        names.push(added);
                    }
                    withdrawn.remove(&**added);
                }
                Change::RetireScope(gone) => {
                    withdrawn.insert(&**gone);
                }
                _ => {}
            }
        }
        (names, withdrawn)
    }

    /// What of `scopes` is not withdrawn. The wildcard stays: it stands for whatever there is.
    fn in_force(&self, mut scopes: Scopes) -> Scopes {
        let (names, withdrawn) = self.scopes();
        scopes.some.retain(|position| names.get(usize::from(*position)).is_none_or(|name| !withdrawn.contains(name)));
        scopes
    }

    // ---- memberships and policies ----

    /// The places a subject is a member of.
    pub fn memberships(&self, subject: &str) -> BTreeSet<Place> {
        let mut held = BTreeSet::new();
        for (_, change) in self.entries() {
            match change {
                Change::AddMember(who, place) if who.as_str() == subject => {
                    held.insert(place.clone());
                }
                Change::RemoveMember(who, gone) if who.as_str() == subject => {
                    held.retain(|place| !gone.covers(place));
                }
                _ => {}
            }
        }
        held
    }

    pub fn policy(&self, workspace: &str) -> PolicyRow {
        let mut row = (false, true, BTreeSet::new(), BTreeSet::new());
        for (_, change) in self.entries() {
            match change {
                Change::SetPolicyMode(at, mode) if at.as_str() == workspace => {
                    row.0 = *mode == PolicyMode::ApprovalRequired;
                }
                Change::SwitchPersonal(at, switch) if at.as_str() == workspace => row.1 = *switch == Switch::On,
                Change::SetPolicyEntry(at, client, line) if at.as_str() == workspace => {
                    let client = client.as_str().to_owned();
                    match line {
                        PolicyEntry::Block => row.2.insert(client),
                        PolicyEntry::Unblock => row.2.remove(&client),
                        PolicyEntry::Approve => row.3.insert(client),
                        PolicyEntry::Unapprove => row.3.remove(&client),
                    };
                }
                _ => {}
            }
        }
        PolicyRow {
            approval_required: row.0,
            personal_tokens: row.1,
            blocked: row.2.into_iter().collect(),
            approved: row.3.into_iter().collect(),
        }
    }

    /// What keeps a pair of this reach and age from being worth anything at `place`.
    fn obstacle(&self, grant: &NewGrant, reach: &Reach, since: Sequence, place: &Place) -> Option<Denial> {
        let workspace = place.workspace_str();
        let held = self.memberships(grant.subject.as_str());
        let in_workspace = held.iter().any(|held| held.as_str() == workspace);
        if !in_workspace && !held.contains(place) {
            return Some(Denial::NotAMember);
        }
        let leans_on_project = *reach == Reach::At(place.clone()) || !in_workspace;
        let left_since = self.entries().any(|(when, change)| match change {
            Change::RemoveMember(who, gone) if *who == grant.subject && when > since => {
                gone.as_str() == workspace || (gone == place && leans_on_project)
            }
            _ => false,
        });
        if left_since {
            return Some(Denial::GrantedBeforeLeaving);
        }
        let policy = self.policy(workspace);
        let client = grant.client.as_str().to_owned();
        if grant.client == ClientId::personal() {
            if !policy.personal_tokens {
                return Some(Denial::PersonalTokensOff);
            }
        } else if policy.blocked.contains(&client) {
            return Some(Denial::AppBlocked);
        } else if policy.approval_required && !policy.approved.contains(&client) {
            return Some(Denial::AppNotApproved);
        }
        let revoked_here = self.revocations().any(|(when, target)| match target {
            Target::WorkspaceClient(at, whom) => at.as_str() == workspace && *whom == grant.client && when > since,
            _ => false,
        });
        revoked_here.then_some(Denial::AppRevokedHere)
    }

    // ---- grants and tokens ----

    fn grant(&self, id: GrantId) -> Option<(Sequence, &NewGrant)> {
        self.entries().find_map(|(when, change)| match change {
            Change::MakeGrant(grant) if grant.id == id => Some((when, grant)),
            _ => None,
        })
    }

    fn token(&self, key: TokenKey) -> Option<&NewToken> {
        self.entries().find_map(|(_, change)| match change {
            Change::RegisterToken(token) if token.key == key => Some(token),
            _ => None,
        })
    }

    /// The pairs of a grant after everything that was done to it.
    fn pairs(&self, id: GrantId) -> Vec<Given> {
        let mut pairs: Vec<Given> = Vec::new();
        for (when, change) in self.entries() {
            match change {
                Change::MakeGrant(grant) if grant.id == id => pairs.extend(given(&grant.access, when)),
                Change::ExtendGrant(which, more) if *which == id => pairs.extend(given(more, when)),
                Change::NarrowGrant(which, kept) if *which == id => {
                    let mut left = Vec::new();
                    for pair in &pairs {
                        for kept in kept.pairs() {
                            let scopes = pair.scopes.and(&Scopes::of(&kept.scopes));
                            if let Some(reach) = smaller(&pair.reach, &kept.reach)
                                && !scopes.is_empty()
                            {
                                left.push(Given { reach, scopes, since: pair.since });
                            }
                        }
                    }
                    pairs = left;
                }
                _ => {}
            }
        }
        pairs
    }

    /// The pairs of a token that name a place: what was granted there, after narrowing the token.
    fn naming(&self, token: &NewToken, place: &Place) -> Vec<Given> {
        let mut naming = self.pairs(token.grant);
        naming.retain(|pair| reaches(&pair.reach, place));
        for pair in &mut naming {
            pair.scopes = pair.scopes.and(&narrowed_at(token, place));
        }
        naming.retain(|pair| !pair.scopes.is_empty());
        naming
    }

    /// Every reason why a token is not active, or none.
    pub fn reasons(&self, key: TokenKey, now: Timestamp) -> BTreeSet<Inactive> {
        let Some(token) = self.token(key) else {
            let revoked = self.revocations().any(|(_, target)| *target == Target::Token(key));
            return [Inactive::Unknown].into_iter().chain(revoked.then_some(Inactive::TokenRevoked)).collect();
        };
        let Some((made, grant)) = self.grant(token.grant) else { return [Inactive::Unknown].into() };
        let mut reasons = self.grant_reasons(made, grant, now);
        for (_, target) in self.revocations() {
            let hit = match target {
                Target::Token(which) if *which == key => Inactive::TokenRevoked,
                Target::IssuedBefore(mark, among) if token.times.issued < *mark => {
                    let counts = match among {
                        Among::All => true,
                        Among::Subject(who) => *who == grant.subject,
                        Among::Client(whom) => *whom == grant.client,
                        Among::Grant(which) => *which == grant.id,
                    };
                    if !counts {
                        continue;
                    }
                    Inactive::IssuedBeforeMark
                }
                _ => continue,
            };
            reasons.insert(hit);
        }
        if now < token.times.not_before {
            reasons.insert(Inactive::NotYetValid);
        }
        if over(token.times.expiry, now) {
            reasons.insert(Inactive::Expired);
        }
        reasons
    }

    fn grant_reasons(&self, made: Sequence, grant: &NewGrant, now: Timestamp) -> BTreeSet<Inactive> {
        let mut reasons = BTreeSet::new();
        for (_, target) in self.revocations().filter(|(when, _)| *when > made) {
            reasons.extend(match target {
                Target::Grant(which) if *which == grant.id => Some(Inactive::GrantRevoked),
                Target::SubjectClient(who, whom) if *who == grant.subject && *whom == grant.client => {
                    Some(Inactive::SubjectClientRevoked)
                }
                Target::Subject(who) if *who == grant.subject => Some(Inactive::SubjectRevoked),
                Target::Client(whom) if *whom == grant.client => Some(Inactive::ClientRevoked),
                _ => None,
            });
        }
        let subject = self.last(|change| match change {
            Change::SwitchSubject(who, switch) if *who == grant.subject => Some(*switch),
            _ => None,
        });
        let client = self.last(|change| match change {
            Change::SwitchClient(whom, switch) if *whom == grant.client => Some(*switch),
            _ => None,
        });
        if subject == Some(Switch::Off) {
            reasons.insert(Inactive::SubjectOff);
        }
        if client == Some(Switch::Off) {
            reasons.insert(Inactive::ClientOff);
        }
        if over(grant.expiry, now) {
            reasons.insert(Inactive::GrantExpired);
        }
        reasons
    }

    /// What a token may do at a place.
    fn effective(&self, token: &NewToken, grant: &NewGrant, place: &Place) -> Scopes {
        let mut scopes = Scopes::default();
        for pair in self.naming(token, place) {
            if self.obstacle(grant, &pair.reach, pair.since, place).is_none() {
                scopes = scopes.or(&pair.scopes);
            }
        }
        self.in_force(scopes)
    }

    // ---- the questions ----

    pub fn check(&self, key: TokenKey, scope: &str, place: &str, now: Timestamp) -> Decision {
        if let Some(reason) = self.reasons(key, now).first() {
            return Decision::Inactive(*reason);
        }
        let Some(token) = self.token(key) else { return Decision::Inactive(Inactive::Unknown) };
        let Some((_, grant)) = self.grant(token.grant) else { return Decision::Inactive(Inactive::Unknown) };
        let Some(scope) = self.position(scope) else { return Decision::Denied(Denial::ScopeUnknown) };
        let Ok(place) = Place::parse(place) else { return Decision::Denied(Denial::PlaceNotGranted) };
        let naming = self.naming(token, &place);
        if naming.is_empty() {
            return Decision::Denied(Denial::PlaceNotGranted);
        }
        // Of several pairs that have the scope and are kept out, the one that came furthest gives the reason.
        let mut denial = Denial::ScopeNotGranted;
        for pair in naming.iter().filter(|pair| pair.scopes.has(scope)) {
            match self.obstacle(grant, &pair.reach, pair.since, &place) {
                None => return Decision::Allowed,
                Some(obstacle) => denial = denial.max(obstacle),
            }
        }
        Decision::Denied(denial)
    }

    pub fn introspect(&self, key: TokenKey, place: Option<&str>, now: Timestamp) -> Told {
        if let Some(reason) = self.reasons(key, now).first() {
            return Told::Inactive(*reason);
        }
        let Some(token) = self.token(key) else { return Told::Inactive(Inactive::Unknown) };
        let Some((_, grant)) = self.grant(token.grant) else { return Told::Inactive(Inactive::Unknown) };
        let (places, everywhere) = match place {
            Some(text) => {
                let Ok(place) = Place::parse(text) else { return Told::Inactive(Inactive::NothingLeft) };
                let scopes = self.effective(token, grant, &place);
                (BTreeMap::from([(text.to_owned(), scopes.clone())]), scopes)
            }
            None => (self.places(token, grant), self.everywhere(token, grant)),
        };
        if places.values().all(Scopes::is_empty) {
            return Told::Inactive(Inactive::NothingLeft);
        }
        let audience = token.audience.as_ref().unwrap_or(&grant.audience);
        Told::Active(Box::new(Seen {
            grant: grant.id,
            subject: grant.subject.as_str().into(),
            client: grant.client.as_str().into(),
            times: TokenTimes { expiry: earlier(token.times.expiry, grant.expiry), ..token.times },
            audience: audience.iter().map(|audience| audience.as_str().into()).collect(),
            confirmation: token.confirmation.clone(),
            everywhere,
            places,
        }))
    }

    /// The places that a token can be about: those it or its grant names, and those its subject is a member of.
    fn candidates(&self, token: &NewToken, grant: &NewGrant) -> BTreeSet<Place> {
        let mut places = self.memberships(grant.subject.as_str());
        let own = token.narrowed.iter().flat_map(|access| access.pairs()).map(|pair| pair.reach.clone());
        for reach in self.pairs(token.grant).into_iter().map(|pair| pair.reach).chain(own) {
            if let Reach::At(place) = reach {
                places.insert(place);
            }
        }
        places.retain(|place| !self.naming(token, place).is_empty());
        places
    }

    /// The places of a token, lost ones included: where a caller that reads only `scope` must not be misled.
    pub fn places_of(&self, key: TokenKey) -> BTreeSet<Place> {
        let Some(token) = self.token(key) else { return BTreeSet::new() };
        let Some((_, grant)) = self.grant(token.grant) else { return BTreeSet::new() };
        self.candidates(token, grant)
    }

    /// Where the token may do something; a project only if it has more than its workspace.
    fn places(&self, token: &NewToken, grant: &NewGrant) -> BTreeMap<String, Scopes> {
        let mut places = BTreeMap::new();
        for place in self.candidates(token, grant) {
            let here = self.effective(token, grant, &place);
            let around = match Place::parse(place.workspace_str()) {
                Ok(workspace) if place.is_project() => self.effective(token, grant, &workspace),
                _ => Scopes::default(),
            };
            if !here.is_within(&around) {
                places.insert(place.as_str().to_owned(), here);
            }
        }
        places
    }

    /// What the token may do at every one of its places, those it will have later included.
    fn everywhere(&self, token: &NewToken, grant: &NewGrant) -> Scopes {
        let mut everywhere = Scopes::everything();
        for place in self.candidates(token, grant) {
            let here = self.effective(token, grant, &place);
            if LOST_PLACE == LostPlace::Counts || !here.is_empty() {
                everywhere = everywhere.and(&here);
            }
        }
        // "Wherever the subject is a member" includes places to come: there, only the pairs that say so count.
        let mut elsewhere = Scopes::default();
        for pair in self.pairs(token.grant).iter().filter(|pair| pair.reach == Reach::Everywhere) {
            elsewhere = elsewhere.or(&pair.scopes);
        }
        if let Some(own) = &token.narrowed {
            let own = own.pairs().iter().filter(|pair| pair.reach == Reach::Everywhere);
            let own = own.fold(Scopes::default(), |scopes, pair| scopes.or(&Scopes::of(&pair.scopes)));
            elsewhere = elsewhere.and(&own);
        }
        if LOST_PLACE == LostPlace::Counts && !elsewhere.is_empty() {
            everywhere = everywhere.and(&self.in_force(elsewhere));
        }
        everywhere
    }

    // ---- the lists ----

    pub fn live_tokens(&self, of: &ListOf, now: Timestamp) -> BTreeSet<TokenKey> {
        let mut live = BTreeSet::new();
        for (_, change) in self.entries() {
            if let Change::RegisterToken(token) = change
                && self.reasons(token.key, now).is_empty()
                && self.grant(token.grant).is_some_and(|(_, grant)| belongs(grant, of))
            {
                live.insert(token.key);
            }
        }
        live
    }

    pub fn live_grants(&self, of: &ListOf, now: Timestamp) -> BTreeMap<GrantId, u64> {
        let mut live = BTreeMap::new();
        for (made, change) in self.entries() {
            if let Change::MakeGrant(grant) = change
                && belongs(grant, of)
                && self.grant_reasons(made, grant, now).is_empty()
            {
                live.insert(grant.id, self.countable_tokens(grant.id, now));
            }
        }
        live
    }

    fn countable_tokens(&self, of: GrantId, now: Timestamp) -> u64 {
        let keys: BTreeSet<TokenKey> = self
            .entries()
            .filter_map(|(_, change)| match change {
                Change::RegisterToken(token) if token.grant == of => Some(token.key),
                _ => None,
            })
            .collect();
        let gone = |key: &TokenKey| {
            let reasons = self.reasons(*key, now);
            reasons.contains(&Inactive::Expired) || reasons.contains(&Inactive::TokenRevoked)
        };
        keys.iter().filter(|key| !gone(key)).count() as u64
    }

    /// Whether anybody granted anything to or by whom this names.
    pub fn has_grant_of(&self, subject: Option<&SubjectId>, client: Option<&ClientId>) -> bool {
        self.entries().any(|(_, change)| match change {
            Change::MakeGrant(grant) => {
                subject.is_none_or(|who| *who == grant.subject) && client.is_none_or(|whom| *whom == grant.client)
            }
            _ => false,
        })
    }
}

fn given(access: &Access, since: Sequence) -> impl Iterator<Item = Given> {
    access.pairs().iter().map(move |pair| Given { reach: pair.reach.clone(), scopes: Scopes::of(&pair.scopes), since })
}

/// The smaller of two reaches, if one lies in the other.
fn smaller(one: &Reach, other: &Reach) -> Option<Reach> {
    match (one, other) {
        (Reach::Everywhere, any) | (any, Reach::Everywhere) => Some(any.clone()),
        (Reach::At(a), Reach::At(b)) if a.covers(b) => Some(other.clone()),
        (Reach::At(a), Reach::At(b)) if b.covers(a) => Some(one.clone()),
        _ => None,
    }
}

fn reaches(reach: &Reach, place: &Place) -> bool {
    match reach {
        Reach::Everywhere => true,
        Reach::At(at) => at.as_str() == place.as_str() || at.as_str() == place.workspace_str(),
    }
}

/// What a token's own list leaves at a place.
fn narrowed_at(token: &NewToken, place: &Place) -> Scopes {
    let Some(own) = &token.narrowed else { return Scopes::everything() };
    let own = own.pairs().iter().filter(|pair| reaches(&pair.reach, place));
    own.fold(Scopes::default(), |scopes, pair| scopes.or(&Scopes::of(&pair.scopes)))
}

fn over(expiry: Expiry, now: Timestamp) -> bool {
    match expiry {
        Expiry::Never => false,
        Expiry::At(end) => end <= now,
    }
}

fn earlier(one: Expiry, other: Expiry) -> Expiry {
    match (one, other) {
        (Expiry::Never, any) | (any, Expiry::Never) => any,
        (Expiry::At(a), Expiry::At(b)) => Expiry::At(a.min(b)),
    }
}

fn belongs(grant: &NewGrant, of: &ListOf) -> bool {
    match of {
        ListOf::Subject(who) => grant.subject.as_str() == who,
        ListOf::Client(whom) => grant.client.as_str() == whom,
        ListOf::Grant(which) => grant.id == *which,
    }
}
