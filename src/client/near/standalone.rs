//! What a near-cache holds with no server behind it, for benches: filled once, under a lease that does not end.

use std::time::Duration;

use super::clock::Moment;
use super::lease::Lease;
use super::memory::{Memory, Question};
use super::scopes::Resolved;
use super::stamps::SLOTS;
use super::table::{Facts, mixed};
use crate::client::answer::{Decision, Token};
use crate::domain::access::{PairFacts, PlaceFacts};
use crate::domain::{Epoch, Expiry, ScopePosition, Timestamp};

/// Memory without a follower: nothing ever touches what is in it.
pub struct Standalone(Memory);

impl Standalone {
    /// Room for `capacity` entries, and these scopes in the order of their positions.
    pub fn new(capacity: usize, scopes: &[&str]) -> Self {
        let memory = Memory::new(capacity, SLOTS);
        memory.belief.begin(Epoch(1), 1, 1);
        memory.belief.lease(Lease::granted(Moment::now(), Duration::from_secs(86_400), 1_800_000_000_000));
        let ticket = memory.ticket();
        for (position, name) in (0..=u8::MAX).zip(scopes) {
            let resolved = Resolved { position: Some(ScopePosition::new(position)), sequence: 1 };
            memory.keep_scope(ticket, Epoch(1), name, resolved);
        }
        Self(memory)
    }

    /// Holds the facts of a token at a place.
    pub fn keep(&self, token: Token, place: &str, facts: PlaceFacts, pairs: &[PairFacts]) {
        let tag = |kind| mixed(token.0.as_bytes(), kind);
        let facts = Facts {
            sequence: 1,
            incarnation: 1,
            tags: [tag(0), tag(1), tag(2), 3, 4],
            not_before: Timestamp::ZERO,
            expiry: Expiry::At(Timestamp::from_raw(1_900_000_000)),
            place: facts,
            pairs: pairs.iter().copied().collect(),
        };
        self.0.keep(self.0.ticket(), &token.0, place, &facts, Moment::now());
    }

    /// As [`super::NearCache::held`].
    pub fn held(&self, token: impl Into<Token>, scope: &str, place: &str) -> Option<Decision> {
        let token = token.into();
        self.0.look(&Question { digest: &token.0, scope, place, floor: None }, Moment::now())
    }
}
