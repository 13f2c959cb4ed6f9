//! Lists, `explain`, policies, and the toll of a revocation: for people, and allowed to walk.
//!
//! There is no index from a subject or client to its tokens, on purpose: one costs more memory than the token itself,
//! and such lists are where others' stores rotted. A list walks the table instead, about a second for 10⁸ tokens, and
//! is never wrong. Grants and memberships are chained through their own rows.

use super::caller::Caller;
use super::introspect::{Alive, alive, covering};
use super::report::{
    Explanation, GrantRow, ListOf, MemberRow, Page, PairRow, PlaceRow, PolicyRow, ReportError, ScopeRow, Status,
    TokenRow, Toll,
};
use super::request::RevokeTarget;
use super::{Service, change};
use crate::domain::access::PairFacts;
use crate::domain::{
    Among, GrantId, Inactive, PolicyMode, ScopeMask, Switch, Target, Timestamp, TokenHandle, WorkspaceId,
};
use crate::index::{GrantRecord, PairRecord, Pin, TokenRecord};

/// The most rows a list gives.
pub const ROWS_MAX: usize = 1_000;

fn forbidden(caller: &Caller, what: &'static str) -> ReportError {
    ReportError::Forbidden { caller: caller.id.to_string(), what }
}

fn sees_all(caller: &Caller) -> bool {
    caller.rights.operate || caller.rights.issue
}

pub(super) fn names(pin: &Pin<'_>, mask: &ScopeMask) -> Vec<String> {
    pin.catalogue().names(mask).map(str::to_owned).collect()
}

/// Whether the tokens of a grant can be active, whatever their own times.
pub(super) fn grant_verdict(pin: &Pin<'_>, grant: &GrantRecord, now: Timestamp) -> Result<(), Inactive> {
    pin.grant_standing(grant).ok_or(Inactive::Unknown)?.verdict(now)
}

/// A set of grants, a bit for each: a walk over all tokens asks it instead of looking each token's grant up, which would
/// be a miss of the cache a token.
pub(super) struct GrantSet(Vec<u64>);

impl GrantSet {
    pub(super) fn none(pin: &Pin<'_>) -> Self {
        Self(vec![0; pin.grants() as usize / 64 + 1])
    }

    pub(super) fn add(&mut self, number: u32) {
        if let Some(word) = self.0.get_mut(number as usize / 64) {
            *word |= 1 << (number % 64);
        }
    }

    pub(super) fn has(&self, number: u32) -> bool {
        self.0.get(number as usize / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }
}

/// Which grants a list or a risk report is about.
pub(super) enum Chosen {
    Subject(u32),
    Client(u32),
    Grant(u32),
}

impl Chosen {
    pub(super) fn find(pin: &Pin<'_>, of: &ListOf) -> Result<Self, ReportError> {
        let missing = |kind: &str, name: &str| ReportError::NotFound(format!("no change ever named a {kind} {name}"));
        match of {
            ListOf::Subject(name) => {
                pin.subject_number(name).map(Self::Subject).ok_or_else(|| missing("subject", name))
            }
            ListOf::Client(name) => pin.client_number(name).map(Self::Client).ok_or_else(|| missing("client", name)),
            ListOf::Grant(id) => match pin.grant(id.number()) {
                Some(_) => Ok(Self::Grant(id.number())),
                None => Err(ReportError::NotFound(format!("there is no grant {id}"))),
            },
        }
    }

    pub(super) fn grants<'p>(&self, pin: &'p Pin<'_>) -> Box<dyn Iterator<Item = GrantRecord> + 'p> {
        match *self {
            Self::Subject(subject) => Box::new(pin.grants_of_subject(subject)),
            Self::Client(client) => Box::new(pin.grants_of_client(client)),
            Self::Grant(number) => Box::new(pin.grant(number).into_iter()),
        }
    }
}

/// Whether a token met on a walk is active, apart from its places.
pub(super) fn is_active(pin: &Pin<'_>, token: &TokenRecord<'_>, grant: &GrantRecord, now: Timestamp) -> bool {
    pin.token_facts(token, grant).is_some_and(|facts| facts.verdict(now).is_ok())
}

fn token_row(pin: &Pin<'_>, token: &TokenRecord<'_>, grant: &GrantRecord, now: Timestamp) -> TokenRow {
    let verdict = alive(pin, token.key, None, now).map(drop);
    TokenRow {
        handle: token.key.handle(),
        grant: grant.id,
        subject: pin.subject_text(grant.subject).to_owned(),
        client: pin.client_text(grant.client).to_owned(),
        times: token.times,
        audience: pin.audience(Some(token), grant).map(str::to_owned).collect(),
        confirmation: token.bound(pin).map(Into::into),
        verdict,
        last_used: token.last_used(now),
    }
}

pub(super) fn pair_row(pin: &Pin<'_>, pair: &PairRecord) -> PairRow {
    PairRow { place: pair.place.map(|place| pin.place_text(place).to_owned()), scopes: names(pin, &pair.scopes) }
}

fn grant_row(pin: &Pin<'_>, grant: &GrantRecord, now: Timestamp) -> GrantRow {
    GrantRow {
        id: grant.id,
        subject: pin.subject_text(grant.subject).to_owned(),
        client: pin.client_text(grant.client).to_owned(),
        access: pin.pairs(grant).map(|pair| pair_row(pin, &pair)).collect(),
        expiry: grant.facts.expiry,
        verdict: grant_verdict(pin, grant, now),
        made: grant.facts.made.0,
        tokens: 0,
        last_used: None,
    }
}

impl Service {
    /// Tokens of a subject, client or grant. Operators and issuers. Walks all tokens.
    ///
    /// # Errors
    /// The caller may not list, or there is no such subject, client or grant.
    pub fn tokens(
        &self,
        caller: &Caller,
        of: &ListOf,
        limit: usize,
        now: Timestamp,
    ) -> Result<Page<TokenRow>, ReportError> {
        if !sees_all(caller) {
            return Err(forbidden(caller, "list tokens"));
        }
        let pin = self.pin();
        let revision = self.revision();
        let chosen = Chosen::find(&pin, of)?;
        let mut rows = Vec::new();
        let mut total = 0;
        let mut wanted = GrantSet::none(&pin);
        chosen.grants(&pin).for_each(|grant| wanted.add(grant.id.number()));
        pin.for_each_token(|token| {
            if !wanted.has(token.grant) {
                return;
            }
            let Some(grant) = pin.grant(token.grant) else { return };
            total += 1;
            if rows.len() < limit.min(ROWS_MAX) {
                rows.push(token_row(&pin, &token, &grant, now));
            }
        });
        rows.sort_by_key(|row| (row.grant, row.times.issued, *row.handle.key().as_bytes()));
        Ok(Page { revision, rows, total })
    }

    /// Grants of a subject or client, or one grant, with their live tokens counted. Operators and issuers.
    ///
    /// # Errors
    /// As [`Service::tokens`].
    pub fn grants(
        &self,
        caller: &Caller,
        of: &ListOf,
        limit: usize,
        now: Timestamp,
    ) -> Result<Page<GrantRow>, ReportError> {
        if !sees_all(caller) {
            return Err(forbidden(caller, "list grants"));
        }
        let pin = self.pin();
        let revision = self.revision();
        let chosen = Chosen::find(&pin, of)?;
        let mut rows: Vec<GrantRow> = Vec::new();
        let mut total = 0;
        for grant in chosen.grants(&pin) {
            total += 1;
            if rows.len() < limit.min(ROWS_MAX) {
                rows.push(grant_row(&pin, &grant, now));
            }
        }
        rows.sort_by_key(|row| row.id);
        pin.for_each_token(|token| {
            let Ok(at) = rows.binary_search_by_key(&token.grant, |row| row.id.number()) else { return };
            rows[at].last_used = rows[at].last_used.max(token.last_used(now));
            if !token.revoked && !token.times.expiry.has_passed(now) {
                rows[at].tokens += 1;
            }
        });
        Ok(Page { revision, rows, total })
    }

    /// Memberships of a subject. Operators, issuers, and administrators (who see their own workspaces).
    ///
    /// # Errors
    /// As [`Service::tokens`].
    pub fn memberships(&self, caller: &Caller, subject: &str) -> Result<Page<MemberRow>, ReportError> {
        let administers = caller.rights.administer.as_ref();
        if !sees_all(caller) && administers.is_none() {
            return Err(forbidden(caller, "list memberships"));
        }
        let pin = self.pin();
        let revision = self.revision();
        let Some(number) = pin.subject_number(subject) else {
            return Err(ReportError::NotFound(format!("no change ever named a subject {subject}")));
        };
        let visible = |workspace: &str| sees_all(caller) || administers.is_some_and(|only| only.includes(workspace));
        let mut rows: Vec<MemberRow> = pin
            .memberships(number)
            .filter_map(|(place, member)| {
                let workspace = pin.workspace_of(place).map(|workspace| pin.place_text(workspace))?;
                let row = MemberRow { place: pin.place_text(place).to_owned(), live: member.live };
                visible(workspace).then_some(row)
            })
            .collect();
        rows.sort_by(|a, b| a.place.cmp(&b.place));
        let total = rows.len() as u64;
        rows.truncate(ROWS_MAX);
        Ok(Page { revision, rows, total })
    }

    /// A workspace's app policy. Operators and its administrators.
    ///
    /// # Errors
    /// The caller may not see it. A workspace nothing was ever said about has the default policy.
    pub fn policy(&self, caller: &Caller, workspace: &str) -> Result<PolicyRow, ReportError> {
        let id = WorkspaceId::parse(workspace).map_err(|error| ReportError::Invalid(error.to_string()))?;
        if !caller.rights.operate && !caller.administers_workspace(&id) {
            return Err(forbidden(caller, "see the app policy of this workspace"));
        }
        let pin = self.pin();
        let Some(place) = pin.place_number(workspace) else {
            return Ok(PolicyRow {
                approval_required: false,
                personal_tokens: true,
                blocked: Vec::new(),
                approved: Vec::new(),
            });
        };
        let facts = pin.policy(place, u32::MAX);
        let on_list = |listed: fn(&(u32, bool, bool)) -> bool| {
            let mut names: Vec<String> =
                pin.policy_lines(place).filter(listed).map(|(client, ..)| pin.client_text(client).to_owned()).collect();
            names.sort();
            names
        };
        Ok(PolicyRow {
            approval_required: facts.mode == PolicyMode::ApprovalRequired,
            personal_tokens: facts.personal == Switch::On,
            blocked: on_list(|(_, blocked, _)| *blocked),
            approved: on_list(|(_, _, approved)| *approved),
        })
    }

    /// All registered clients: name, and whether it is let in.
    ///
    /// # Errors
    /// The caller may neither operate, issue, define nor administer.
    pub fn clients(&self, caller: &Caller, limit: usize) -> Result<Page<(String, bool)>, ReportError> {
        let rights = &caller.rights;
        if !(rights.operate || rights.issue || rights.define || rights.administer.is_some()) {
            return Err(forbidden(caller, "list clients"));
        }
        let pin = self.pin();
        let revision = self.revision();
        let registered = (0..pin.clients()).filter_map(|number| {
            let (facts, registered) = pin.client_facts(number)?;
            registered.then(|| (pin.client_text(number).to_owned(), facts.switch == Switch::On))
        });
        let mut rows: Vec<(String, bool)> = registered.collect();
        rows.sort();
        let total = rows.len() as u64;
        rows.truncate(limit.min(ROWS_MAX));
        Ok(Page { revision, rows, total })
    }

    /// All scopes, in the order of their positions. Any caller.
    pub fn scopes(&self) -> Page<ScopeRow> {
        let pin = self.pin();
        let catalogue = pin.catalogue();
        let row = |(position, entry): (u8, &crate::domain::scope::ScopeEntry)| ScopeRow {
            position,
            name: entry.name.to_string(),
            retired: entry.retired,
            aliases: catalogue
                .aliases()
                .filter(|(_, of)| of.is_some_and(|of| of.number() == position))
                .map(|(alias, _)| alias.to_owned())
                .collect(),
        };
        let rows: Vec<ScopeRow> = (0..=u8::MAX).zip(catalogue.entries()).map(row).collect();
        Page { revision: self.revision(), total: rows.len() as u64, rows }
    }

    /// The service in numbers. Operators.
    ///
    /// # Errors
    /// The caller is no operator.
    pub fn status(&self, caller: &Caller) -> Result<Status, ReportError> {
        if !caller.rights.operate {
            return Err(forbidden(caller, "see the status"));
        }
        let pin = self.pin();
        Ok(Status {
            revision: self.revision(),
            tokens: pin.tokens(),
            grants: u64::from(pin.grants()),
            index_bytes: pin.bytes(),
            accepts_changes: self.accepts_changes().is_ok(),
            keys: self.committer.key_generations(),
        })
    }

    /// What a revocation would hit. Walks all tokens.
    ///
    /// # Errors
    /// The caller may not revoke this, or it does not exist.
    pub fn toll(&self, caller: &Caller, target: &RevokeTarget, now: Timestamp) -> Result<Toll, ReportError> {
        if !change::may_revoke(caller, target) {
            return Err(forbidden(caller, "revoke this"));
        }
        let pin = self.pin();
        let revision = self.revision();
        // As when it is really revoked: otherwise a client would learn whether another's token is active.
        if self.owned(&pin, caller, target) == Some(change::Owned::Anothers) {
            return Err(forbidden(caller, change::ANOTHERS_TOKEN));
        }
        let hit = Hit::of(&pin, &self.target(target.clone()))?;
        let (mut grants, mut tokens) = (0, 0);
        let mut hit_grants = GrantSet::none(&pin);
        for grant in (1..=pin.grants()).filter_map(|number| pin.grant(number)) {
            if hit.among(&pin, &grant) {
                hit_grants.add(grant.id.number());
                grants += u64::from(hit.ends_grants() && grant_verdict(&pin, &grant, now).is_ok());
            }
        }
        let mut count = |token: &TokenRecord<'_>| {
            if hit_grants.has(token.grant) && hit.token(token) {
                let grant = pin.grant(token.grant);
                tokens += u64::from(grant.is_some_and(|grant| is_active(&pin, token, &grant, now)));
            }
        };
        match &hit {
            Hit::Token(key) => pin.token(*key).iter().for_each(count),
            _ => pin.for_each_token(|token| count(&token)),
        }
        Ok(Toll { revision, grants, tokens })
    }

    /// Everything about one token, why it is inactive included. Operators only.
    ///
    /// # Errors
    /// The caller is no operator.
    pub fn explain(&self, caller: &Caller, handle: TokenHandle, now: Timestamp) -> Result<Explanation, ReportError> {
        if !caller.rights.operate {
            return Err(forbidden(caller, "explain tokens"));
        }
        let pin = self.pin();
        let revision = self.revision();
        let known = pin.token(handle.key()).filter(|token| !token.is_only_revoked());
        let Some((token, grant)) = known.and_then(|token| Some((token, pin.grant(token.grant)?))) else {
            let verdict = alive(&pin, handle.key(), None, now).map(drop);
            let story = match verdict {
                Err(Inactive::TokenRevoked) => "This token was revoked before anybody registered it.",
                _ => "No token with this digest is known: it was never registered, or it ended more than an hour ago.",
            };
            return Ok(Explanation {
                revision,
                verdict,
                token: None,
                grant: None,
                places: Vec::new(),
                story: vec![story.to_owned()],
            });
        };
        let found = Alive { token, grant };
        let places = self.place_rows(&pin, &found);
        let verdict = alive(&pin, handle.key(), None, now).map(drop);
        let left = places.iter().any(|place| !place.effective.is_empty());
        let verdict = verdict.and(if left { Ok(()) } else { Err(Inactive::NothingLeft) });
        let token = token_row(&pin, &token, &grant, now);
        let grant = grant_row(&pin, &grant, now);
        let story = tell(verdict, &token, &grant, &places);
        Ok(Explanation { revision, verdict, token: Some(token), grant: Some(grant), places, story })
    }

    fn place_rows(&self, pin: &Pin<'_>, found: &Alive<'_>) -> Vec<PlaceRow> {
        let named = pin.pairs(&found.grant).filter_map(|pair| pair.place);
        let narrowed = found.token.narrowed_pairs(pin).into_iter().flatten().filter_map(|pair| pair.place);
        let member_of = pin.memberships(found.grant.subject).map(|(place, _)| place);
        let mut places: Vec<u32> = named.chain(narrowed).chain(member_of).collect();
        places.sort_unstable();
        places.dedup();
        let mut rows: Vec<PlaceRow> = places
            .into_iter()
            .filter_map(|place| {
                let spot = pin.spot_of(place)?;
                let pairs: Vec<PairFacts> = covering(pin, found, spot).collect();
                let granted = pairs.iter().fold(ScopeMask::EMPTY, |sum, pair| sum.union(pair.scopes));
                let facts = pin.place_facts(&found.grant, spot);
                let effective = facts.scopes(pairs.iter().copied());
                let denial = pairs
                    .iter()
                    .filter(|pair| !pair.scopes.is_empty())
                    .find_map(|pair| facts.admits(pair.covers, pair.since).err());
                (!granted.is_empty()).then(|| PlaceRow {
                    place: pin.place_text(place).to_owned(),
                    granted: names(pin, &granted),
                    effective: names(pin, &effective),
                    denial,
                })
            })
            .collect();
        rows.sort_by(|a, b| a.place.cmp(&b.place));
        rows
    }
}

fn tell(verdict: Result<(), Inactive>, token: &TokenRow, grant: &GrantRow, places: &[PlaceRow]) -> Vec<String> {
    let mut story = vec![format!(
        "{} granted {} to {} (grant {}, change {} of the list).",
        grant.subject,
        if grant.access.len() == 1 { "one place".to_owned() } else { format!("{} places", grant.access.len()) },
        grant.client,
        grant.id,
        grant.made
    )];
    story.push(match verdict {
        Ok(()) => format!("The token {} is active.", token.handle),
        Err(reason) => format!("The token {} is not active: {}.", token.handle, reason.as_str().replace('_', " ")),
    });
    for place in places {
        if let Some(denial) = place.denial {
            story.push(format!("At {}: {}.", place.place, denial.explanation()));
        }
    }
    story
}

/// What a revocation hits, by number.
enum Hit {
    Token(crate::domain::TokenKey),
    Grant(GrantId),
    Parties { subject: Option<u32>, client: Option<u32> },
    Place { workspace: Option<u32>, client: u32 },
    IssuedBefore(Timestamp, Box<Hit>),
    All,
}

impl Hit {
    fn of(pin: &Pin<'_>, target: &Target) -> Result<Self, ReportError> {
        let subject = |name: &str| {
            pin.subject_number(name)
                .ok_or_else(|| ReportError::NotFound(format!("no change ever named a subject {name}")))
        };
        let client = |name: &str| {
            pin.client_number(name).ok_or_else(|| ReportError::NotFound(format!("no client {name} is registered")))
        };
        let grant = |id: GrantId| match pin.grant(id.number()) {
            Some(_) => Ok(Self::Grant(id)),
            None => Err(ReportError::NotFound(format!("there is no grant {id}"))),
        };
        Ok(match target {
            Target::Token(key) => Self::Token(*key),
            Target::Grant(id) => grant(*id)?,
            Target::SubjectClient(s, c) => {
                Self::Parties { subject: Some(subject(s.as_str())?), client: Some(client(c.as_str())?) }
            }
            Target::Subject(s) => Self::Parties { subject: Some(subject(s.as_str())?), client: None },
            Target::Client(c) => Self::Parties { subject: None, client: Some(client(c.as_str())?) },
            Target::WorkspaceClient(w, c) => {
                Self::Place { workspace: pin.place_number(w.as_str()), client: client(c.as_str())? }
            }
            Target::IssuedBefore(moment, among) => {
                let inner = match among {
                    Among::All => Self::All,
                    Among::Subject(s) => Self::Parties { subject: Some(subject(s.as_str())?), client: None },
                    Among::Client(c) => Self::Parties { subject: None, client: Some(client(c.as_str())?) },
                    Among::Grant(id) => grant(*id)?,
                };
                Self::IssuedBefore(*moment, Box::new(inner))
            }
        })
    }

    /// Whether tokens of this grant can be hit.
    fn among(&self, pin: &Pin<'_>, grant: &GrantRecord) -> bool {
        match self {
            Self::All => true,
            Self::Token(key) => pin.token(*key).is_some_and(|token| token.grant == grant.id.number()),
            Self::IssuedBefore(_, inner) => inner.among(pin, grant),
            Self::Grant(id) => grant.id == *id,
            Self::Parties { subject, client } => {
                subject.is_none_or(|subject| grant.subject == subject)
                    && client.is_none_or(|client| grant.client == client)
            }
            Self::Place { workspace, client } => {
                grant.client == *client && workspace.is_some_and(|workspace| reaches(pin, grant, workspace))
            }
        }
    }

    /// Whether it ends whole grants (or their access to a place), not only tokens of them.
    fn ends_grants(&self) -> bool {
        !matches!(self, Self::Token(_) | Self::IssuedBefore(..))
    }

    /// Whether this token of such a grant is hit.
    fn token(&self, token: &TokenRecord<'_>) -> bool {
        match self {
            Self::Token(key) => token.key == *key,
            Self::IssuedBefore(moment, _) => token.times.issued < *moment,
            _ => true,
        }
    }
}

/// Whether a grant has anything in a workspace now.
pub(super) fn reaches(pin: &Pin<'_>, grant: &GrantRecord, workspace: u32) -> bool {
    pin.pairs(grant).any(|pair| {
        let inside = pair.place.is_none_or(|place| pin.workspace_of(place) == Some(workspace));
        let spot = pair.place.or(Some(workspace)).and_then(|place| pin.spot_of(place));
        inside
            && spot.is_some_and(|spot| {
                let covers = spot.covered_by(&pair);
                covers.is_some_and(|covers| pin.place_facts(grant, spot).admits(covers, pair.since).is_ok())
            })
    })
}
