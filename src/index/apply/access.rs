//! What a grant gives, written down: as a pair in its own row while it is new and has one, as a run of pairs otherwise.
//!
//! A run is written once and never changed. Narrowing and extending write another and swap it in with one store, so a reader has
//! the old list or the new one, whole. Old runs stay until the next start.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_epoch::Guard;

use super::Writer;
use crate::domain::{Access, GrantId, ScopeMask, Sequence};
use crate::index::facts::{pack, pair, run};

impl Writer {
    /// The run of a new grant, and the word of its row that belongs to it.
    pub(super) fn first_run(&self, pairs: &[(u32, ScopeMask, Option<Sequence>)]) -> (u64, u64) {
        if let [(place, scopes, None)] = pairs {
            let words = scopes.words();
            if let (0 | 1, form) = (words.iter().filter(|word| **word != 0).count(), form_of(scopes, None)) {
                let word = words.into_iter().find(|word| *word != 0).unwrap_or(0);
                return (pack(*place, form << 16) | run::ONE, word);
            }
        }
        (self.run(pairs), 0)
    }

    /// Writes a run of pairs; a pair with `since` says when it was granted.
    pub(super) fn run(&self, pairs: &[(u32, ScopeMask, Option<Sequence>)]) -> u64 {
        let access = &self.tables.access;
        let start = access.len();
        for (place, scopes, since) in pairs {
            access.push([pack(*place, form_of(scopes, *since))]);
            if let Some(since) = since {
                access.push([since.0]);
            }
            for word in scopes.words().into_iter().filter(|word| *word != 0) {
                access.push([word]);
            }
        }
        u64::from(start) << 32 | (pairs.len() as u64) << 16
    }

    pub(super) fn narrow_grant(&mut self, id: GrantId, access: &Access, guard: &Guard) {
        let kept = self.pairs(access, None, guard);
        let tables = Arc::clone(&self.tables);
        let Some(row) = tables.grants.row(id.number() - 1) else { return };
        let mut pairs = Vec::new();
        for (place, scopes, since) in tables.pairs_of(row) {
            // What the new list names at a place that covers this pair's, and the pairs it names inside this one.
            let mut here = ScopeMask::EMPTY;
            for (kept_place, kept_scopes, _) in &kept {
                if tables.covers(*kept_place, place) {
                    here = here.union(*kept_scopes);
                } else if tables.covers(place, *kept_place) {
                    pairs.push((*kept_place, scopes.intersection(*kept_scopes), Some(since)));
                }
            }
            pairs.push((place, scopes.intersection(here), Some(since)));
        }
        self.replace_pairs(id, pairs);
    }

    pub(super) fn extend_grant(&mut self, id: GrantId, access: &Access, sequence: Sequence, guard: &Guard) {
        let added = self.pairs(access, Some(sequence), guard);
        let tables = Arc::clone(&self.tables);
        let Some(row) = tables.grants.row(id.number() - 1) else { return };
        let mut pairs: Vec<_> =
            tables.pairs_of(row).map(|(place, scopes, since)| (place, scopes, Some(since))).collect();
        pairs.extend(added);
        self.replace_pairs(id, pairs);
    }

    fn replace_pairs(&mut self, id: GrantId, mut pairs: Vec<(u32, ScopeMask, Option<Sequence>)>) {
        pairs.retain(|(_, scopes, _)| !scopes.is_empty());
        pairs.sort_by_key(|(place, _, since)| (*place, *since));
        let mut joined: Vec<(u32, ScopeMask, Option<Sequence>)> = Vec::with_capacity(pairs.len());
        for pair in pairs {
            match joined.last_mut() {
                Some(last) if last.0 == pair.0 && last.2 == pair.2 => last.1 = last.1.union(pair.1),
                _ => joined.push(pair),
            }
        }
        let pairs = self.run(&joined);
        let tables = Arc::clone(&self.tables);
        if let Some(row) = tables.grants.row(id.number() - 1) {
            let flags = row[2].load(Ordering::Relaxed) & run::OWNER;
            row[2].store(pairs | flags, Ordering::Release);
        }
    }
}

/// The form of a pair: which words of its mask are stored, and what else is to be known of it.
fn form_of(scopes: &ScopeMask, since: Option<Sequence>) -> u32 {
    let words = scopes.words();
    let stored = (0..4).filter(|i| words[*i] != 0).fold(0, |bits, i| bits | 1 << i);
    let wildcard = if scopes.has_wildcard() { pair::WILDCARD } else { 0 };
    let dated = if since.is_some() { pair::DATED } else { 0 };
    stored | wildcard | dated
}
