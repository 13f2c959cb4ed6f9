//! The tokens there are to ask about, and what has to be said of each.
//!
//! Built from the same sample data the server was filled from (seed, number of tokens, moment), by a model of its own:
//! who is a member where, which apps a workspace lets in, what a grant names. It never asks the server, so a server
//! that forgets a policy is found out. The model knows what the sample data contains and no more.
//!
//! One token takes 56 bytes; ten million of them a little more than half a gigabyte.

use std::collections::HashMap;

use tokenscope::domain::{Expiry, PolicyMode, Reach, Switch, Timestamp};
use tokenscope::import::line::{GrantLine, Line, PolicyLine, TokenLine, TokenName};
use tokenscope::samples::{self, world::World};

use crate::question::Origin;

/// Tokens closer to their end than this when a run ends are not asked about, in seconds.
const MARGIN_SECONDS: u32 = 30;

/// No scope that could be asked about in vain: the grant has all of them.
pub const NO_SCOPE: u8 = u8::MAX;

/// One token.
#[derive(Clone, Copy, Debug)]
pub struct Token {
    /// SHA-256 of its string.
    pub digest: [u8; 32],
    /// The earlier end of the token and its grant, in seconds since 1970; `u32::MAX`: never.
    pub expiry: u32,
    /// The user's number.
    pub owner: u32,
    /// The token's number among the user's.
    pub number: u32,
    /// A place where it may do something: index into [`Population::places`].
    pub place: u32,
    /// What it may do there: index into [`Population::scopes`].
    pub scope: u8,
    /// What it may not do anywhere, or [`NO_SCOPE`].
    pub denied: u8,
}

impl Token {
    /// The number of its string.
    pub fn origin(&self) -> Origin {
        Origin { owner: u64::from(self.owner), number: u64::from(self.number) }
    }
}

/// All tokens that can be asked about.
pub struct Population {
    /// The seed of the sample data.
    pub seed: u64,
    /// How many tokens the data has, those that are in neither list included.
    pub total: u64,
    /// Active until long after the run.
    pub hits: Vec<Token>,
    /// Expired before it.
    pub expired: Vec<Token>,
    /// The names of the scopes.
    pub scopes: Vec<&'static str>,
    /// The names of the places.
    pub places: Vec<String>,
}

impl Population {
    /// The tokens of the sample data of `seed`, `tokens` and `made_at`, as they are from `now` until `lasts` seconds
    /// later.
    pub fn of_samples(seed: u64, tokens: u64, made_at: Timestamp, now: u32, lasts: u32) -> Self {
        let mut model = Model::new();
        let scopes = samples::asana_scopes().collect();
        let mut all = Self { seed, total: tokens, hits: Vec::new(), expired: Vec::new(), scopes, places: Vec::new() };
        let until = now.saturating_add(lasts).saturating_add(MARGIN_SECONDS);
        for line in World::new(seed, tokens, made_at) {
            match line {
                Line::Policy(policy) => model.policy(policy),
                Line::Member(subject, place) => model.member(subject.as_str(), place.as_str()),
                Line::Grant(grant) => model.grant(&grant, &mut all.places),
                Line::Token(line) => {
                    let Some(token) = model.token(&line) else { continue };
                    if token.expiry >= until {
                        all.hits.push(token);
                    } else if token.expiry.saturating_add(2) < now {
                        all.expired.push(token);
                    }
                }
                _ => {}
            }
        }
        all
    }
}

/// What is known of the user whose lines are being read, and of all workspaces.
struct Model {
    policies: HashMap<String, PolicyLine>,
    place_numbers: HashMap<String, u32>,
    scope_numbers: HashMap<&'static str, u8>,
    subject: String,
    owner: u32,
    members: Vec<String>,
    grants: HashMap<String, Held>,
    next_token: u32,
}

/// What is known of a grant.
#[derive(Clone, Copy)]
struct Held {
    expiry: u32,
    /// A place and a scope; `None`: nothing is left of it anywhere.
    somewhere: Option<(u32, u8)>,
    denied: u8,
}

impl Model {
    fn new() -> Self {
        let scope_numbers = samples::asana_scopes().zip(0..).collect();
        Self {
            policies: HashMap::new(),
            place_numbers: HashMap::new(),
            scope_numbers,
            subject: String::new(),
            owner: 0,
            members: Vec::new(),
            grants: HashMap::new(),
            next_token: 0,
        }
    }

    fn policy(&mut self, policy: PolicyLine) {
        self.policies.insert(policy.workspace.as_str().to_owned(), policy);
    }

    fn member(&mut self, subject: &str, place: &str) {
        if subject != self.subject {
            subject.clone_into(&mut self.subject);
            self.owner = subject.strip_prefix("user-").and_then(|number| number.parse().ok()).unwrap_or(u32::MAX);
            self.members.clear();
            self.grants.clear();
            self.next_token = 0;
        }
        self.members.push(place.to_owned());
    }

    fn grant(&mut self, line: &GrantLine, places: &mut Vec<String>) {
        let somewhere = line.access.iter().find_map(|(reach, scopes)| {
            let place = self.effective(reach).into_iter().find(|place| self.lets_in(place, line.client.as_str()))?;
            let scope = scopes.iter().find_map(|scope| self.scope(scope))?;
            Some((self.place_number(place, places), scope))
        });
        let named = |name: &str| line.access.iter().any(|(_, scopes)| scopes.iter().any(|it| &**it == name));
        let everything = named("*") || named("default");
        let denied = samples::asana_scopes().zip(0..).find(|(name, _)| !everything && !named(name));
        let held = Held { expiry: raw(line.expiry), somewhere, denied: denied.map_or(NO_SCOPE, |(_, number)| number) };
        self.grants.insert(line.label.as_str().to_owned(), held);
    }

    /// `None`: nothing is left of it, so it counts as neither active nor expired here.
    fn token(&mut self, line: &TokenLine) -> Option<Token> {
        let number = self.next_token;
        self.next_token += 1;
        let held = self.grants.get(line.grant.as_str())?;
        let (place, scope) = held.somewhere?;
        let TokenName::Digest(digest) = line.name else { return None };
        let expiry = raw(line.times.expiry).min(held.expiry);
        let denied = held.denied;
        Some(Token { digest: *digest.as_bytes(), expiry, owner: self.owner, number, place, scope, denied })
    }

    /// Where a grant is worth something to its subject.
    fn effective(&self, reach: &Reach) -> Vec<String> {
        let Reach::At(place) = reach else { return self.members.clone() };
        let place = place.as_str();
        let workspace = workspace_of(place);
        if self.members.iter().any(|at| at == place || at == workspace) {
            return vec![place.to_owned()];
        }
        // Granted the workspace, but a guest of projects in it.
        self.members.iter().filter(|at| place == workspace && workspace_of(at) == workspace).cloned().collect()
    }

    fn lets_in(&self, place: &str, client: &str) -> bool {
        let Some(policy) = self.policies.get(workspace_of(place)) else { return true };
        let listed = |list: &[tokenscope::domain::ClientId]| list.iter().any(|it| it.as_str() == client);
        if client == tokenscope::domain::id::PERSONAL {
            return policy.personal != Some(Switch::Off);
        }
        match policy.mode {
            Some(PolicyMode::ApprovalRequired) => listed(&policy.approved),
            _ => !listed(&policy.blocked),
        }
    }

    fn scope(&self, name: &str) -> Option<u8> {
        if name == "*" { Some(0) } else { self.scope_numbers.get(name).copied() }
    }

    fn place_number(&mut self, place: String, places: &mut Vec<String>) -> u32 {
        *self.place_numbers.entry(place).or_insert_with_key(|place| {
            places.push(place.clone());
            // There are no more places than tokens, and those are counted in 32 bits.
            u32::try_from(places.len() - 1).unwrap_or(u32::MAX)
        })
    }
}

fn workspace_of(place: &str) -> &str {
    place.split_once('/').map_or(place, |(workspace, _)| workspace)
}

fn raw(expiry: Expiry) -> u32 {
    match expiry {
        Expiry::At(at) => at.raw(),
        Expiry::Never => u32::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenscope::domain::TokenDigest;

    const NOW: Timestamp = Timestamp::from_raw(1_790_000_000);

    #[test]
    fn every_token_knows_the_number_of_its_string() {
        let all = Population::of_samples(3, 3_000, NOW, NOW.raw(), 0);
        assert!(all.hits.len() > 2_000 && !all.expired.is_empty(), "{} {}", all.hits.len(), all.expired.len());
        for token in all.hits.iter().chain(&all.expired) {
            let Origin { owner, number } = token.origin();
            let string = samples::token_string(3, owner, number);
            assert_eq!(TokenDigest::of(string.as_bytes()).as_bytes(), &token.digest);
        }
    }

    #[test]
    fn a_longer_run_has_fewer_hits_and_no_token_is_in_both_lists() {
        let short = Population::of_samples(3, 3_000, NOW, NOW.raw(), 0);
        let long = Population::of_samples(3, 3_000, NOW, NOW.raw(), 3_600);
        assert!(long.hits.len() < short.hits.len());
        let later = Population::of_samples(3, 3_000, NOW, NOW.plus(3_600).raw(), 0);
        assert!(later.expired.len() > short.expired.len());
        assert!(later.hits.iter().all(|token| token.expiry > NOW.plus(3_600).raw()));
    }
}
