//! Receipts in a tray: one wake-up for many, none lost, none twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::super::receipt::{Bell, Reply};
use super::super::writer::{CommitError, Committed};
use super::super::{Arrived, Tray};
use crate::domain::Sequence;

/// Counts how often it was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

struct Sleeper {
    tray: Arc<Tray>,
    woken: Arc<Woken>,
}

impl Sleeper {
    fn new() -> Self {
        Self { tray: Arc::default(), woken: Arc::default() }
    }

    fn looks(&self) -> Poll<Vec<Arrived>> {
        let mut arrived = Vec::new();
        let waker = Waker::from(Arc::clone(&self.woken));
        self.tray.poll_take(&mut Context::from_waker(&waker), &mut arrived).map(|()| arrived)
    }

    fn reply(&self, tag: u32) -> Reply {
        Reply::to_tray(Arc::clone(&self.tray), tag)
    }

    fn woken(&self) -> usize {
        self.woken.0.load(Ordering::SeqCst)
    }
}

fn committed(sequence: u64) -> Result<Committed, CommitError> {
    Ok(Committed { sequence: Sequence(sequence), grant: None })
}

#[test]
fn a_batch_of_receipts_wakes_whoever_waits_once_and_all_are_there() {
    let sleeper = Sleeper::new();
    assert_eq!(sleeper.looks(), Poll::Pending);
    let mut bell = Bell::default();
    for tag in 0..1_000 {
        sleeper.reply(tag).lay(committed(u64::from(tag)), &mut bell);
    }
    assert_eq!(sleeper.woken(), 0, "nobody is woken before the last is there");
    drop(bell);
    assert_eq!(sleeper.woken(), 1);
    let all = (0..1_000).map(|tag| (tag, committed(u64::from(tag)))).collect();
    assert_eq!(sleeper.looks(), Poll::Ready(all));
    assert_eq!(sleeper.looks(), Poll::Pending, "each is taken once");
}

#[test]
fn whoever_took_a_tray_while_it_was_filled_is_woken_for_the_rest() {
    let sleeper = Sleeper::new();
    let mut bell = Bell::default();
    sleeper.reply(1).lay(committed(1), &mut bell);
    assert_eq!(sleeper.looks(), Poll::Ready(vec![(1, committed(1))]));
    assert_eq!(sleeper.looks(), Poll::Pending);
    sleeper.reply(2).lay(committed(2), &mut bell);
    drop(bell);
    assert!(sleeper.woken() >= 1);
    assert_eq!(sleeper.looks(), Poll::Ready(vec![(2, committed(2))]));
}

#[test]
fn a_writer_that_goes_away_says_unknown_and_wakes() {
    let sleeper = Sleeper::new();
    assert_eq!(sleeper.looks(), Poll::Pending);
    drop(sleeper.reply(7));
    assert_eq!(sleeper.woken(), 1);
    let Poll::Ready(arrived) = sleeper.looks() else { panic!("nothing arrived") };
    assert!(matches!(arrived.as_slice(), [(7, Err(CommitError::Unknown(_)))]), "{arrived:?}");
}

#[test]
fn a_change_that_is_refused_at_once_leaves_nothing_in_the_tray() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = super::open(&folder.path().join("data")).expect("a new store");
    let committer = store.committer.clone();
    store.end();
    let sleeper = Sleeper::new();
    let refused = committer.commit_to_tray(super::by(), super::grant(), super::NOW, &sleeper.tray, 1);
    assert!(matches!(refused, Err(CommitError::Unavailable(_))), "{refused:?}");
    assert_eq!(sleeper.looks(), Poll::Pending);
    assert_eq!(sleeper.woken(), 0);
}
