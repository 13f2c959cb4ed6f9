//! The writer over a journal in memory whose disk fills up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::domain::{CallerId, Change, Entry, Place, Sequence, SubjectId, Switch, Timestamp};
use crate::index;
use crate::journal::{ChainHash, Head, Journal, JournalError};
use crate::testing::Listed;

use crate::store::{CommitError, Limits, Room, start};

/// A journal on a disk that fills up.
#[derive(Clone, Default)]
struct Narrow(Listed, Arc<AtomicU64>);

impl Journal for Narrow {
    fn head(&self) -> Head {
        self.0.head()
    }

    fn commit(&mut self, batch: &[Entry]) -> Result<Head, JournalError> {
        self.0.commit(batch)
    }

    fn read_after(
        &self,
        after: Sequence,
        chain: Option<ChainHash>,
        visit: &mut dyn FnMut(&Entry, ChainHash) -> Result<(), JournalError>,
    ) -> Result<Head, JournalError> {
        self.0.read_after(after, chain, visit)
    }

    fn discard_through(&mut self, through: Sequence) -> Result<(), JournalError> {
        self.0.discard_through(through)
    }

    fn bytes(&self) -> u64 {
        self.0.bytes()
    }

    fn space_left(&self) -> Option<u64> {
        Some(self.1.load(Relaxed))
    }

    fn close(self: Box<Self>) -> Result<(), JournalError> {
        Box::new(self.0).close()
    }
}

/// A commit that ran into the end of the disk poisoned the journal, and the process ended: no questions either, and
/// again after every restart. So the writer looks first.
#[test]
fn the_last_of_the_disk_is_kept_for_changes_that_take_rights_away() {
    let journal = Narrow::default();
    let (listed, space) = (journal.0.clone(), journal.1.clone());
    let (_index, writer) = index::new();
    let limits = Limits { reserve_bytes: 1_000, ..Limits::default() };
    let feed = crate::testing::feed_over(&journal);
    let (committer, control) = start(writer, Box::new(journal), feed, limits);
    let (by, now) = (CallerId::parse("test").unwrap(), Timestamp::from_raw(1_700_000_000));
    let (gives, takes) = (0, 1);
    let mut number = 0;
    let mut change = |sort| {
        number += 1;
        let subject = SubjectId::parse(&format!("subject-{number}")).unwrap();
        let change = match sort {
            0 => Change::AddMember(subject, Place::parse("1579").unwrap()),
            _ => Change::SwitchSubject(subject, Switch::Off),
        };
        committer.commit(by.clone(), change, now).wait()
    };
    for (left, room, expected) in [
        (1_000, Room::Enough, [true, true]),
        (999, Room::Reserve, [false, true]),
        (250, Room::Reserve, [false, true]),
        (249, Room::Nothing, [false, false]),
        (0, Room::Nothing, [false, false]),
        (u64::MAX, Room::Enough, [true, true]),
    ] {
        space.store(left, Relaxed);
        for (sort, expected) in [gives, takes].into_iter().zip(expected) {
            let before = listed.entries().len();
            match (change(sort), expected) {
                (Ok(_), true) => assert_eq!(listed.entries().len(), before + 1),
                (Err(CommitError::Unavailable(why)), false) => {
                    assert!(why.contains("disk"), "{why}");
                    assert_eq!(listed.entries().len(), before, "nothing was written");
                }
                (other, _) => panic!("{left} bytes left, sort {sort}: {other:?}"),
            }
            assert_eq!(control.stats().room(), room, "{left}");
        }
    }
    assert!(control.closed().is_none(), "nothing was poisoned");
    control.close().unwrap();
}
