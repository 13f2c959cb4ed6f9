//! Looking ahead: what the coming questions will read is asked of memory before the first of them is answered.
//!
//! A question about a token that nobody asked about lately waits for memory some six times, one after another, because
//! each line says where the next one is. With many questions at hand their waits can overlap: each pass takes all of them
//! one step further, and by the time a pass comes back to the first question, what the pass before asked for is there.
//!
//! ```text
//! pass   reads what has come                 asks memory for
//! 1      nothing                             the token's first bucket
//! 2      the first bucket                    grant and details; or the second bucket, if the token may be there
//! 3      the second bucket                   grant and details
//! 4      grant                               terms and first words of the access list, if it has any; slot of the
//!                                            membership
//! 5      slot of the membership              membership
//! ```
//!
//! **No answer depends on any of this.** What is read here is read without the care that answers take (a slot may be
//! half written, a token may have moved), and is used for nothing but the address of a hint. The answering functions do
//! not know that anybody looked ahead.
//!
//! Not fetched, because they stay in the cache by themselves: places, clients, policies, audiences, the catalogue,
//! and the bits that say of nearly all subjects that there is nothing to know about them. The rest of a long access list is left to the processor, which sees that it is read in order. What each hint is worth
//! stands in `benches/README.md`.

use std::sync::atomic::Ordering;

use crossbeam_epoch::Guard;

use super::Pin;
use super::facts::{EVERYWHERE, Tables, grant as granted, pack, run, unpack};
use super::tokens::{Glimpse, Home};
use crate::domain::TokenKey;

/// How many questions are taken through the passes together: enough to overlap the waits, few enough that what was
/// fetched for the last has not driven out what was fetched for the first.
pub const AHEAD: usize = 32;

/// What is known of a coming question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coming {
    /// The token it is about.
    pub key: TokenKey,
    /// The number of the place it is about. `None`: it names none, or not by number; the first place of the grant is as
    /// good a guess.
    pub place: Option<u32>,
}

impl Pin<'_> {
    /// Begins to load what the answers to these questions will read. Only a hint: wrong or left out, it changes nothing
    /// but the time they take.
    pub fn look_ahead(&self, coming: &[Coming]) {
        for together in coming.chunks(AHEAD) {
            self.tables().look_ahead(together, &self.guard);
        }
    }

    /// Begins to load these tokens, and nothing that hangs on them: for whoever only wants to know whether they are there,
    /// as the writer does before a batch of changes. Only a hint, as [`Pin::look_ahead`].
    pub fn look_for(&self, tokens: &[TokenKey]) {
        for together in tokens.chunks(AHEAD) {
            self.tables().look_for(together, &self.guard);
        }
    }
}

/// What is to be read of a question's facts next, once it has come.
#[derive(Clone, Copy)]
enum Next {
    /// Nothing: the rest is here, or the token is unknown.
    Nothing,
    /// The token's second bucket.
    SecondBucket,
    /// The row of this grant.
    Grant(u32),
    /// The membership of this subject, at the first place of this run or where the question says.
    Membership { subject: u32, run: u64 },
}

impl Tables {
    fn look_for(&self, tokens: &[TokenKey], guard: &Guard) {
        tokens.iter().for_each(|key| self.tokens.fetch(key, Home::First, guard));
        for key in tokens {
            if self.tokens.glimpse(key, Home::First, guard) == Glimpse::MaybeSecond {
                self.tokens.fetch(key, Home::Second, guard);
            }
        }
    }

    fn look_ahead(&self, coming: &[Coming], guard: &Guard) {
        for question in coming {
            self.tokens.fetch(&question.key, Home::First, guard);
        }
        let mut steps = [Next::Nothing; AHEAD];
        for (next, question) in steps.iter_mut().zip(coming) {
            *next = self.look_at_bucket(&question.key, Home::First, guard);
        }
        for (next, question) in steps.iter_mut().zip(coming) {
            if let Next::SecondBucket = next {
                *next = self.look_at_bucket(&question.key, Home::Second, guard);
            }
        }
        for (next, question) in steps.iter_mut().zip(coming) {
            if let Next::Grant(grant) = *next {
                *next = self.look_at_grant(grant, question.place, guard);
            }
        }
        for (next, question) in steps.into_iter().zip(coming) {
            if let Next::Membership { subject, run } = next {
                self.look_at_membership(subject, run, question.place, guard);
            }
        }
    }

    fn look_at_bucket(&self, key: &TokenKey, home: Home, guard: &Guard) -> Next {
        match self.tokens.glimpse(key, home, guard) {
            Glimpse::Token { grant, details } => {
                self.grants.fetch(grant.wrapping_sub(1));
                details.into_iter().for_each(|row| self.details.fetch(row));
                Next::Grant(grant)
            }
            Glimpse::MaybeSecond if home == Home::First => {
                self.tokens.fetch(key, Home::Second, guard);
                Next::SecondBucket
            }
            Glimpse::MaybeSecond | Glimpse::Absent => Next::Nothing,
        }
    }

    fn look_at_grant(&self, grant: u32, place: Option<u32>, guard: &Guard) -> Next {
        let Some(row) = self.grants.row(grant.wrapping_sub(1)) else { return Next::Nothing };
        let (subject, _) = unpack(row[0].load(Ordering::Relaxed));
        let run = row[2].load(Ordering::Relaxed);
        let (first, _) = unpack(run);
        let mut place = place;
        if run & granted::TERMS != 0 {
            self.grant_terms.fetch(grant - 1);
        }
        if run & run::ONE == 0 {
            self.access.fetch(first);
        } else if first != EVERYWHERE {
            place = place.or(Some(first));
        }
        if let Some(workspace) = place.and_then(|place| self.workspace_of(place)) {
            self.members.fetch_slot(pack(subject, workspace), guard);
        }
        Next::Membership { subject, run }
    }

    fn look_at_membership(&self, subject: u32, run: u64, place: Option<u32>, guard: &Guard) {
        let place = place.or_else(|| self.first_place(run));
        if let Some(workspace) = place.and_then(|place| self.workspace_of(place)) {
            self.members.fetch_row(pack(subject, workspace), guard);
        }
    }

    fn first_place(&self, run: u64) -> Option<u32> {
        let (first, _) = unpack(run);
        let place = match run & run::ONE {
            0 => unpack(self.access.row(first)?[0].load(Ordering::Relaxed)).0,
            _ => first,
        };
        (place != EVERYWHERE).then_some(place)
    }
}

/// Asks memory for the line of this value.
#[inline]
pub(crate) fn fetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: prefetching any address is harmless; this one is of a live value.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast());
    }
    // Elsewhere stable Rust has no such hint.
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
