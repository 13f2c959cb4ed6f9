//! How the writer tells what became of a change: a receipt for whoever waits for one, a tray for whoever waits for many.
//!
//! Waking somebody costs more than making the change: a wake-up for each receipt has the thread that waits come back, find
//! one, send it and go to sleep again, a thousand times a batch. So a stream with many changes in flight gives the
//! writer a [`Tray`]: all receipts of a batch are laid there first, and then whoever waits is woken once.
//!
//! Promises: each [`Reply`] is answered once. One that is dropped unanswered, because the writer is gone, says
//! *unknown*: nobody can tell how far the change came.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::oneshot;

use super::writer::{CommitError, Committed};

type Outcome = Result<Committed, CommitError>;

/// Waits for a change to be durable and visible.
#[derive(Debug)]
pub struct Receipt(Result<oneshot::Receiver<Outcome>, Option<CommitError>>);

impl Receipt {
    /// Waits on a thread that may block.
    ///
    /// # Errors
    /// Why the change was not made.
    pub fn wait(self) -> Result<Committed, CommitError> {
        match self.0 {
            Ok(receiver) => receiver.blocking_recv().unwrap_or_else(|_| Err(gone())),
            Err(error) => Err(error.unwrap_or_else(gone)),
        }
    }

    /// The receipt of a change that was refused at once.
    pub(super) fn refused(why: CommitError) -> Self {
        Self(Err(Some(why)))
    }
}

impl Future for Receipt {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Ok(receiver) => Pin::new(receiver).poll(context).map(|sent| sent.unwrap_or_else(|_| Err(gone()))),
            Err(error) => Poll::Ready(Err(error.take().unwrap_or_else(gone))),
        }
    }
}

/// What a tray holds: the tag a change was given, and what became of it.
pub type Arrived = (u32, Result<Committed, CommitError>);

/// Where the receipts of many changes gather, for one who waits for all of them.
#[derive(Debug, Default)]
pub struct Tray(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    arrived: Vec<Arrived>,
    waits: Option<Waker>,
}

impl Tray {
    /// Moves what has arrived to the end of `into`: each with the tag its change was given. Ready if it was anything;
    /// otherwise whoever polled last is woken when something comes. Only one may wait.
    pub fn poll_take(&self, context: &mut Context<'_>, into: &mut Vec<Arrived>) -> Poll<()> {
        let mut held = self.held();
        if !held.arrived.is_empty() {
            into.append(&mut held.arrived);
            return Poll::Ready(());
        }
        match &mut held.waits {
            Some(waits) => waits.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }

    /// Lays a receipt down. Says whether it is the first since somebody looked: then it has to be [rung](Tray::ring).
    fn lay(&self, tag: u32, outcome: Outcome) -> bool {
        let mut held = self.held();
        held.arrived.push((tag, outcome));
        held.arrived.len() == 1
    }

    fn ring(&self) {
        let waits = self.held().waits.take();
        // Outside the lock, since it may run anything.
        waits.into_iter().for_each(Waker::wake);
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // A panic while this lock is held leaves what is in it whole: every use is a push or a move.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writer's end: answers once.
pub(super) struct Reply(Option<To>);

enum To {
    One(oneshot::Sender<Outcome>),
    Tray(Arc<Tray>, u32),
}

impl Reply {
    pub(super) fn to_one() -> (Self, Receipt) {
        let (sender, receiver) = oneshot::channel();
        (Self(Some(To::One(sender))), Receipt(Ok(receiver)))
    }

    pub(super) fn to_tray(tray: Arc<Tray>, tag: u32) -> Self {
        Self(Some(To::Tray(tray, tag)))
    }

    /// Not needed: the answer was given on the spot.
    pub(super) fn cancel(mut self) {
        self.0 = None;
    }

    /// Answers and wakes.
    pub(super) fn send(self, outcome: Outcome) {
        let mut bell = Bell::default();
        self.lay(outcome, &mut bell);
    }

    /// Answers; whoever waits at a tray is woken when the bell goes.
    pub(super) fn lay(mut self, outcome: Outcome, bell: &mut Bell) {
        match self.0.take() {
            // Nobody waits any more: the change stands all the same.
            Some(To::One(sender)) => drop(sender.send(outcome)),
            Some(To::Tray(tray, tag)) => {
                let is_first = tray.lay(tag, outcome);
                bell.0.extend(is_first.then_some(tray));
            }
            None => {}
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(To::Tray(tray, tag)) = self.0.take() {
            tray.lay(tag, Err(gone()));
            tray.ring();
        }
    }
}

/// Trays in which something was laid; dropped, it wakes whoever waits there.
#[derive(Default)]
pub(super) struct Bell(Vec<Arc<Tray>>);

impl Drop for Bell {
    fn drop(&mut self) {
        self.0.drain(..).for_each(|tray| tray.ring());
    }
}

fn gone() -> CommitError {
    CommitError::Unknown("the writer went away before it answered".into())
}
