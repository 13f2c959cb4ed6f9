//! Journal, then index, then feed, then receipts: looked at on the writer's own thread. It stands still inside a commit
//! until it is let on, and whoever is woken by it looks at the other three before it can go on.

use std::future::Future;
use std::pin::pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use super::{NOW, by, grant, key, revoke, token};
use crate::domain::{Change, Entry, Sequence, Target};
use crate::feed::Feed;
use crate::index::{self, Index};
use crate::journal::{ChainHash, Head, Journal, JournalError};
use crate::store::{Committer, Control, Limits, start};
use crate::testing::{Listed, feed_over};

/// A journal whose commits say that they have begun, and wait to be let on.
struct Gate {
    list: Listed,
    begun: Sender<()>,
    on: Receiver<()>,
}

impl Journal for Gate {
    fn head(&self) -> Head {
        self.list.head()
    }

    fn commit(&mut self, batch: &[Entry]) -> Result<Head, JournalError> {
        // When the test is over nobody hears it, or lets it on: then it goes on by itself.
        let _ = self.begun.send(());
        let _ = self.on.recv();
        self.list.commit(batch)
    }

    fn read_after(
        &self,
        after: Sequence,
        chain: Option<ChainHash>,
        visit: &mut dyn FnMut(&Entry, ChainHash) -> Result<(), JournalError>,
    ) -> Result<Head, JournalError> {
        self.list.read_after(after, chain, visit)
    }

    fn discard_through(&mut self, through: Sequence) -> Result<(), JournalError> {
        self.list.discard_through(through)
    }

    fn bytes(&self) -> u64 {
        self.list.bytes()
    }

    fn close(self: Box<Self>) -> Result<(), JournalError> {
        Box::new(self.list).close()
    }
}

/// A writer behind a gate.
struct Gated {
    list: Listed,
    index: Index,
    feed: Feed,
    committer: Committer,
    begun: Receiver<()>,
    on: Sender<()>,
    // Last: its end waits for the writer, which must not wait for the gate then.
    _control: Control,
}

impl Gated {
    fn new() -> Self {
        let (index, writer) = index::new();
        let list = Listed::default();
        let feed = feed_over(&list);
        let ((begun, has_begun), (let_on, on)) = (channel(), channel());
        let journal = Gate { list: list.clone(), begun, on };
        let (committer, control) = start(writer, Box::new(journal), feed.clone(), Limits::default());
        Self { list, index, feed, committer, begun: has_begun, on: let_on, _control: control }
    }

    /// Where journal, index and feed stand.
    fn stand(&self) -> [Sequence; 3] {
        [self.list.head().last, self.index.pin().applied(), self.feed.head()]
    }
}

/// Looks, when it is woken, where journal, index and feed stand.
struct Witness {
    list: Listed,
    index: Index,
    feed: Feed,
    seen: Mutex<Option<[Sequence; 3]>>,
}

impl Wake for Witness {
    fn wake(self: Arc<Self>) {
        let stand = [self.list.head().last, self.index.pin().applied(), self.feed.head()];
        self.seen.lock().expect("nobody panics with it").get_or_insert(stand);
    }
}

impl Witness {
    fn of(gated: &Gated) -> Arc<Self> {
        let (list, index, feed) = (gated.list.clone(), gated.index.clone(), gated.feed.clone());
        Arc::new(Self { list, index, feed, seen: Mutex::default() })
    }

    /// What it saw, as soon as it was woken.
    fn saw(&self) -> [Sequence; 3] {
        let began = Instant::now();
        loop {
            if let Some(seen) = *self.seen.lock().expect("nobody panics with it") {
                return seen;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "nobody was woken");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn a_change_is_durable_before_it_is_visible_visible_before_it_is_announced_and_announced_before_its_receipt() {
    let gated = Gated::new();
    let made = gated.committer.commit(by(), grant(), NOW);
    gated.begun.recv().expect("the writer works");
    gated.on.send(()).expect("the writer waits");
    made.wait().expect("made");

    let mut follower = gated.feed.follow(None, Duration::ZERO).expect("there is room").follower;
    // Whoever begins to follow is stirred once for what may have been missed.
    assert!(pin!(follower.stirred()).poll(&mut Context::from_waker(Waker::noop())).is_ready());
    let mut receipt = gated.committer.commit(by(), revoke(1), NOW);
    let (announced, answered) = (Witness::of(&gated), Witness::of(&gated));
    let mut stirred = pin!(follower.stirred());
    let wakers = [Waker::from(announced.clone()), Waker::from(answered.clone())];
    assert!(stirred.as_mut().poll(&mut Context::from_waker(&wakers[0])).is_pending(), "nothing was announced yet");
    gated.begun.recv().expect("the writer works");
    // It stands in the middle of the commit: whatever is done before it would be seen now.
    let polled = std::pin::Pin::new(&mut receipt).poll(&mut Context::from_waker(&wakers[1]));
    assert!(polled.is_pending(), "a receipt before the journal");
    assert_eq!(gated.stand(), [Sequence(1); 3], "journal, index and feed before the commit has returned");
    gated.on.send(()).expect("the writer waits");

    let [journal, index, _] = announced.saw();
    assert_eq!([journal, index], [Sequence(2); 2], "journal and index when it was announced");
    assert_eq!(answered.saw(), [Sequence(2); 3], "journal, index and feed when the receipt came");
    let polled = std::pin::Pin::new(&mut receipt).poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Ready(Ok(committed)) if committed.sequence == Sequence(2)), "{polled:?}");
}

/// While the journal is slow, a revocation that comes last is made first.
#[test]
fn what_takes_rights_away_goes_before_everything_that_waited_longer() {
    let gated = Gated::new();
    let made = gated.committer.commit(by(), grant(), NOW);
    gated.begun.recv().expect("the writer works");
    // It is inside the commit of the first; these wait.
    let waiting: Vec<_> =
        [token(1), token(2), revoke(7)].map(|change| gated.committer.commit(by(), change, NOW)).into();
    // For the first, for those that wait, and for more commits than there should be.
    for _ in 0..8 {
        gated.on.send(()).expect("the writer waits");
    }
    made.wait().expect("made");
    for receipt in waiting {
        receipt.wait().expect("made");
    }
    let changes: Vec<Change> = gated.list.entries().into_iter().map(|entry| entry.change).collect();
    assert_eq!(changes[1], Change::Revoke(Target::Token(key(7))), "the second in the list");
    assert_eq!(changes.len(), 4);
}
