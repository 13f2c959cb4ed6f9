//! One question to the server for all who want to know the same: no thundering herd.
//!
//! Who finds a question on its way may share its answer, with one caution: the answer may have been given *before* the
//! sharer's own question began, and a revocation may have been fenced in between. So a shared answer counts for those
//! who came while it was on its way only if memory would vouch for it; otherwise they ask once more, together, and that
//! answer is younger than all of them.
//!
//! A question goes on in a task of its own, so that nobody waits in vain because somebody else has stopped waiting.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::client::answer::Error;
use crate::domain::TokenDigest;

/// What is asked about: a token at a place.
type Key = (TokenDigest, Box<str>);

/// What comes of a question.
pub(super) type Landed<T> = Option<Result<T, Error>>;

/// A question on its way.
pub(super) struct Flight<T> {
    landed: watch::Receiver<Landed<T>>,
    /// Whether it was on its way already when this caller came.
    pub(super) was_underway: bool,
}

impl<T: Clone> Flight<T> {
    /// Waits for the answer.
    pub(super) async fn landed(mut self) -> Result<T, Error> {
        let gone = || Error::Unavailable("the question was given up".to_owned());
        match self.landed.wait_for(Option::is_some).await {
            Ok(landed) => landed.clone().unwrap_or_else(|| Err(gone())),
            Err(_) => Err(gone()),
        }
    }
}

/// The questions on their way.
pub(super) struct Flights<T>(Arc<Mutex<HashMap<Key, watch::Receiver<Landed<T>>>>>);

/// Takes a question off the list when it is over, however it ends.
struct Underway<T> {
    flights: Flights<T>,
    key: Key,
}

impl<T> Drop for Underway<T> {
    fn drop(&mut self) {
        self.flights.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl<T> Clone for Flights<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    /// The question about this token at this place that is on its way, or `ask`, sent off now.
    pub(super) fn board<F>(&self, digest: &TokenDigest, place: &str, ask: impl FnOnce() -> F) -> Flight<T>
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let key = (*digest, Box::from(place));
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = match flights.entry(key) {
            Slot::Occupied(underway) => return Flight { landed: underway.get().clone(), was_underway: true },
            Slot::Vacant(slot) => slot,
        };
        let (land, landed) = watch::channel(None);
        let underway = Underway { flights: self.clone(), key: slot.key().clone() };
        slot.insert(landed.clone());
        let asked = ask();
        tokio::spawn(async move {
            let answer = asked.await;
            // Off the list first: who finds nothing there asks anew, after this answer.
            drop(underway);
            land.send_replace(Some(answer));
        });
        Flight { landed, was_underway: false }
    }
}
