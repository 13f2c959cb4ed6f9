//! What is held, and when it may be used: the rules of the near-cache without a socket, a clock or a task.
//!
//! An answer from memory stands at *one* place in the list: the facts as of their sequence `S`, the scope's name as of
//! its own `R`, both unchanged up to the follower's position `P`. So either both lie at or below `P`, and the answer is
//! the one at `P`; or they were given at the very same place, and it is the one there. Anything else is asked for.
//!
//! Which way it falls: whatever is not proven is not in memory, and the server is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::belief::{Belief, Licence, Ticket};
use super::clock::Moment;
use super::counters::{Count, Tallies};
use super::scopes::{Resolved, Scopes};
use super::table::{Entry, Facts, Spot, Table};
use crate::client::answer::Decision;
use crate::domain::{Denial, Epoch, Revision, TokenDigest};

/// Older entries are asked for anew: the server writes a token's last use down when it is asked.
const AGE_MAX: Duration = Duration::from_secs(15 * 60);

/// What is held.
pub(super) struct Memory {
    pub(super) belief: Belief,
    pub(super) tallies: Tallies,
    table: Table,
    scopes: Scopes,
}

/// A question, hashed once.
#[derive(Clone, Copy)]
pub(super) struct Question<'q> {
    pub(super) digest: &'q TokenDigest,
    pub(super) scope: &'q str,
    pub(super) place: &'q str,
    /// The caller's own last change, which the answer has to contain.
    pub(super) floor: Option<Revision>,
}

impl Memory {
    pub(super) fn new(capacity: usize, stamps: usize) -> Self {
        Self {
            belief: Belief::new(stamps),
            tallies: Tallies::new(),
            table: Table::new(capacity),
            scopes: Scopes::new(),
        }
    }

    /// The answer, if memory has it and may give it at `now`.
    #[inline]
    pub(super) fn look(&self, question: &Question<'_>, now: Moment) -> Option<Decision> {
        let looked = self.look_again(question, now);
        self.tallies.bump(looked.err().unwrap_or(Count::Hit));
        looked.ok()
    }

    /// The same for a question that was counted already; otherwise what stands in the way.
    #[inline]
    pub(super) fn look_again(&self, question: &Question<'_>, now: Moment) -> Result<Decision, Count> {
        let licence = self.belief.licence(now).ok_or(Count::NoLease)?;
        self.look_under(&licence, question, now)
    }

    /// The answer that held until at most `beyond` before `now`. Only for who asked for it by name, and only when no
    /// server answers.
    pub(super) fn look_beyond(&self, question: &Question<'_>, now: Moment, beyond: Duration) -> Option<Decision> {
        let licence = self.belief.licence_beyond(now, beyond)?;
        let decision = self.look_under(&licence, question, now).ok()?;
        self.tallies.bump(Count::BeyondLease);
        Some(decision)
    }

    #[inline]
    fn look_under(&self, licence: &Licence, question: &Question<'_>, now: Moment) -> Result<Decision, Count> {
        let Question { digest, scope, place, floor } = *question;
        let spot = Spot::of(digest, place);
        let held = self.table.find(spot, digest, place).ok_or(Count::NotHeld)?;
        let entry = held.as_ref().ok_or(Count::NotHeld)?;
        let facts = &entry.facts;
        if !licence.counts(entry.generation) {
            return Err(Count::NotHeld);
        }
        if !facts.is_in_time(licence.server_time()) {
            // It will never be right again.
            self.table.drop_entry(spot, entry);
            return Err(Count::TimeOver);
        }
        if now.since(entry.filled) >= AGE_MAX {
            return Err(Count::Aged);
        }
        if floor.is_some_and(|floor| !self.contains(licence, facts.sequence, floor)) {
            return Err(Count::Touched);
        }
        let resolved = self.scopes.find(scope).filter(|(generation, _)| licence.counts(*generation));
        let (_, resolved) = resolved.ok_or(Count::OtherScope)?;
        if !stand_together(facts.sequence, resolved.sequence, licence.position()) {
            return Err(Count::OtherScope);
        }
        let decision = decide(facts, &resolved);
        // Last: whatever was read above is vouched for by what is read now.
        if !self.belief.holds(licence, entry.generation, facts.sequence, &facts.tags) {
            return Err(Count::Touched);
        }
        if !entry.used.load(Ordering::Relaxed) {
            entry.used.store(true, Ordering::Relaxed);
        }
        Ok(decision)
    }

    /// Whether facts of `sequence`, held under `licence`, contain everything up to `floor`.
    fn contains(&self, licence: &Licence, sequence: u64, floor: Revision) -> bool {
        match floor.epoch.cmp(&self.belief.epoch()) {
            // A list with a higher epoch is a new beginning: what was done to the old one cannot be demanded of it.
            std::cmp::Ordering::Less => true,
            std::cmp::Ordering::Equal => floor.sequence.0 <= licence.position().max(sequence),
            std::cmp::Ordering::Greater => false,
        }
    }

    /// Taken before a question is sent; shown when its answer has come.
    pub(super) fn ticket(&self) -> Ticket {
        self.belief.ticket()
    }

    /// Holds facts that came in answer to a question sent with `ticket`, if anything proves them.
    pub(super) fn keep(&self, ticket: Ticket, digest: &TokenDigest, place: &str, facts: &Facts, now: Moment) {
        if !self.belief.is_current(ticket, facts.incarnation) {
            return self.tallies.bump(Count::NotKept);
        }
        let entry = Arc::new(Entry {
            digest: *digest,
            place: place.into(),
            generation: ticket.generation,
            filled: now,
            facts: facts.clone(),
            used: AtomicBool::new(false),
        });
        if self.table.put(Spot::of(digest, place), entry, ticket.generation) {
            self.tallies.bump(Count::DrivenOut);
        }
    }

    /// Keeps how a scope's name was resolved, in answer to a question sent with `ticket`.
    pub(super) fn keep_scope(&self, ticket: Ticket, epoch: Epoch, name: &str, resolved: Resolved) {
        if self.belief.generation() == ticket.generation && self.belief.epoch() == epoch {
            self.scopes.put(ticket.generation, name, resolved);
        }
    }

    /// What facts that have just come say about a scope that has just been resolved, if the two stand together.
    pub(super) fn fresh(&self, facts: &Facts, resolved: &Resolved) -> Option<Decision> {
        (facts.sequence == resolved.sequence).then(|| decide(facts, resolved))
    }

    /// How many entries are held that count. Walks the table.
    pub(super) fn held(&self) -> usize {
        self.table.count(self.belief.generation())
    }

    /// How many there is room for.
    pub(super) fn capacity(&self) -> usize {
        self.table.capacity()
    }
}

/// Whether facts answered at `facts` and a name resolved at `scope` are both true of one place in the list, given that
/// neither was touched up to `position`.
#[inline]
fn stand_together(facts: u64, scope: u64, position: u64) -> bool {
    facts == scope || facts.max(scope) <= position
}

#[inline]
fn decide(facts: &Facts, resolved: &Resolved) -> Decision {
    let Some(position) = resolved.position else { return Decision::Denied(Denial::ScopeUnknown) };
    match facts.decide(position) {
        Ok(()) => Decision::Allowed,
        Err(denial) => Decision::Denied(denial),
    }
}
