//! A service without a disk, for tests: the list is kept in memory, everything else is the real thing.

#![expect(clippy::expect_used, reason = "constants that are well-formed; and it is for tests")]

// An index with sample data.
pub mod filled;
// For the bench and the load tester: a hit of the near-cache beside a signature verification and a map with locks.
pub mod contest;
// What followers were told, against what was done.
pub mod histories;
// What a fuzzer feeds with bytes.
pub mod fuzz;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::mint::TokenPrefix;
use crate::domain::{Audience, CallerId, Entry, Epoch, Pepper, Sequence};
use crate::feed::{self, Feed};
use crate::index::{self, Index, Writer};
use crate::journal::{ChainHash, Head, Journal, JournalError};
use crate::service::caller::{AskRight, Caller, Only, RevokeRight, Rights};
use crate::service::{Options, Service};
use crate::store::{self, Control, Limits};

/// A list of changes kept in memory, which tests can look at. Clones see the same list.
#[derive(Clone, Default)]
pub struct Listed(Arc<Mutex<Vec<Entry>>>, Arc<AtomicU64>);

impl Listed {
    /// Says that the list already has so many entries, which nobody can see: for an index that was filled directly.
    pub fn pretend(&self, sequence: Sequence) {
        self.1.store(sequence.0, Relaxed);
    }

    /// All entries so far.
    pub fn entries(&self) -> Vec<Entry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Journal for Listed {
    fn head(&self) -> Head {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).len() as u64;
        let last = Sequence(self.1.load(Relaxed) + kept);
        Head { epoch: Epoch(1), last, chain: ChainHash::default(), discarded: Sequence::ZERO }
    }

    fn commit(&mut self, batch: &[Entry]) -> Result<Head, JournalError> {
        {
            let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            for entry in batch {
                assert_eq!(
                    entry.sequence.0,
                    self.1.load(Relaxed) + list.len() as u64 + 1,
                    "sequences go on without a gap"
                );
                list.push(entry.clone());
            }
        }
        Ok(self.head())
    }

    fn read_after(
        &self,
        after: Sequence,
        _chain: Option<ChainHash>,
        visit: &mut dyn FnMut(&Entry, ChainHash) -> Result<(), JournalError>,
    ) -> Result<Head, JournalError> {
        for entry in self.entries().iter().filter(|entry| entry.sequence > after) {
            visit(entry, ChainHash::default())?;
        }
        Ok(self.head())
    }

    fn discard_through(&mut self, _through: Sequence) -> Result<(), JournalError> {
        Ok(())
    }

    fn bytes(&self) -> u64 {
        0
    }

    fn close(self: Box<Self>) -> Result<(), JournalError> {
        Ok(())
    }
}

/// A caller who may do everything.
///
/// # Panics
/// Never: the name is an id.
pub fn almighty() -> Caller {
    Caller {
        id: CallerId::parse("tests").expect("an id"),
        rights: Rights {
            ask: Some(AskRight { audiences: Only::All, workspaces: Only::All }),
            issue: true,
            revoke: Some(RevokeRight::Anything),
            administer: Some(Only::All),
            define: true,
            operate: true,
        },
    }
}

/// The pepper of test services.
pub fn pepper() -> Pepper {
    Pepper::from_bytes(&[3; 16])
}

/// A service over an index and a list that agree. It works for as long as the control is kept.
///
/// # Panics
/// Never: the constants in it are well-formed.
pub fn service_over(index: Index, writer: Writer, list: &Listed) -> (Service, Control) {
    let feed = feed_over(list);
    let (committer, control) = store::start(writer, Box::new(list.clone()), feed, Limits::default());
    (service_with(index, committer, Epoch(1)), control)
}

/// A service over an index and its writer, with a list of this epoch.
///
/// # Panics
/// Never: the constants in it are well-formed.
pub fn service_with(index: Index, committer: store::Committer, epoch: Epoch) -> Service {
    let options = Options {
        default_audience: vec![Audience::parse("https://api.example").expect("an audience")],
        prefix: TokenPrefix::parse("tks").expect("a prefix"),
    };
    Service::new(index, committer, epoch, pepper(), options)
}

/// A feed that begins where the list ends.
pub fn feed_over(list: &dyn Journal) -> Feed {
    let head = list.head();
    Feed::new(&feed::Options::new(head.epoch, head.last, [5; 24]))
}

/// An empty service, its list, and what keeps it going.
pub fn service() -> (Service, Listed, Control) {
    let (index, writer) = index::new();
    let list = Listed::default();
    let (service, control) = service_over(index, writer, &list);
    (service, list, control)
}
