//! Who follows: how far each was told, what it has acknowledged, until when it may act on what it holds.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;

use super::Feed;
use super::fence::{Fence, Holder};
use super::ring::After;
use super::tags::Tag;
use crate::domain::{Epoch, Sequence};

/// Where a follower stood before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resume {
    /// The incarnation of the list.
    pub epoch: Epoch,
    /// The start of the server.
    pub incarnation: u64,
    /// Everything up to here was applied.
    pub sequence: Sequence,
}

/// As many follow as may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{most} followers are here already, and that is the limit; try another server, or raise the limit")]
pub struct TooManyFollowers {
    /// The limit.
    pub most: usize,
}

/// A follower has begun.
#[derive(Debug)]
pub struct Begun {
    /// It.
    pub follower: Follower,
    /// Whether it goes on where it stood; otherwise it has to forget everything.
    pub resumed: bool,
    /// Where it stands.
    pub sequence: Sequence,
    /// How long its leases are.
    pub lease: Duration,
}

/// What a follower has to be told next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum News {
    /// Nothing.
    Nothing,
    /// Between these two places only the tags beside this were touched, or everything.
    Touched {
        /// Where the follower was told to stand.
        previous: Sequence,
        /// Where it stands now.
        sequence: Sequence,
        /// Everything was.
        everything: bool,
    },
    /// Forget everything, and go on from here.
    StartOver {
        /// Where it stands now.
        sequence: Sequence,
    },
}

/// A lease that was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lease {
    /// Where the follower was told to stand.
    pub previous: Sequence,
    /// Where it stands now; nothing between was touched.
    pub sequence: Sequence,
    /// How long it is.
    pub length: Duration,
    /// The one before had run out.
    pub had_lapsed: bool,
}

/// A follower acknowledged what it was never told. Nothing it says can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{acknowledged} is acknowledged, and no more than {told} was told")]
pub struct Untold {
    /// What was acknowledged.
    pub acknowledged: Sequence,
    /// How far it was told.
    pub told: Sequence,
}

/// One follower, held by whoever speaks with it. Dropping it ends its following; a lease it had is waited for all the
/// same, because nobody knows whether the other side has noticed.
#[derive(Debug)]
pub struct Follower {
    feed: Feed,
    id: u64,
    told: Sequence,
    generation: u64,
    lease: Duration,
    acknowledged: watch::Sender<Sequence>,
    stirred: watch::Receiver<()>,
    hurry: watch::Receiver<Sequence>,
}

impl Follower {
    pub(super) fn new(
        feed: Feed,
        id: u64,
        told: Sequence,
        generation: u64,
        lease: Duration,
        acknowledged: watch::Sender<Sequence>,
    ) -> Self {
        let hurry = feed.0.hurry.subscribe();
        let mut stirred = feed.0.stir.subscribe();
        // What was published between entering and subscribing would be missed otherwise.
        stirred.mark_changed();
        Self { feed, id, told, generation, lease, acknowledged, stirred, hurry }
    }

    /// Waits until there may be news. May be dropped while it waits. Never returns again once the feed is gone.
    pub async fn stirred(&mut self) {
        if self.stirred.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// Whether a [fence](Feed::fence) waits for something it was not told.
    pub fn is_hurried(&self) -> bool {
        *self.hurry.borrow() > self.told
    }

    /// Waits until it is. May be dropped while it waits. Never returns once the feed is gone.
    pub async fn hurried(&mut self) {
        let told = self.told;
        if self.hurry.wait_for(|hurried| *hurried > told).await.is_err() {
            std::future::pending().await
        }
    }

    /// What is to be told next, the tags into `tags`, at most `most` of them; it counts as told from now on. To be called
    /// again until there is nothing.
    pub fn news(&mut self, most: usize, tags: &mut Vec<Tag>) -> News {
        let feed = self.feed.clone();
        let state = feed.state();
        self.next_news(&state.ring, most, tags)
    }

    fn next_news(&mut self, ring: &super::Ring, most: usize, tags: &mut Vec<Tag>) -> News {
        let after = ring.after(self.told, most.max(1), tags);
        if ring.generation() != self.generation || matches!(after, After::Lost) {
            tags.clear();
            self.generation = ring.generation();
            self.told = ring.head();
            return News::StartOver { sequence: self.told };
        }
        match after {
            After::Nothing | After::Lost => News::Nothing,
            After::Touched { up_to, everything } => {
                let previous = std::mem::replace(&mut self.told, up_to);
                News::Touched { previous, sequence: up_to, everything }
            }
        }
    }

    /// Answers a renewal: first the news there is, as [`Follower::news`]; and once nothing is untold behind it, a lease
    /// from `now` (read after the renewal arrived) on. Without one, to be called again.
    pub fn renew(&mut self, now: Duration, most: usize, tags: &mut Vec<Tag>) -> (News, Option<Lease>) {
        let feed = self.feed.clone();
        let mut state = feed.state();
        let news = self.next_news(&state.ring, most, tags);
        let head = state.ring.head();
        if state.ring.last_touch_up_to(head) > self.told {
            return (news, None);
        }
        let previous = std::mem::replace(&mut self.told, head);
        let had = state.registry.lease(self.id, now + self.lease);
        let is_first = had.is_zero();
        let had_lapsed = had <= now;
        if had_lapsed {
            // It acts on nothing until it has this lease, and before the lease it hears everything up to here.
            self.acknowledge_up_to(head);
        }
        (news, Some(Lease { previous, sequence: head, length: self.lease, had_lapsed: had_lapsed && !is_first }))
    }

    /// Notes that the follower has applied everything up to `sequence`.
    ///
    /// # Errors
    /// It was never told so much.
    pub fn acknowledge(&self, sequence: Sequence) -> Result<(), Untold> {
        if sequence > self.told {
            return Err(Untold { acknowledged: sequence, told: self.told });
        }
        self.acknowledge_up_to(sequence);
        Ok(())
    }

    fn acknowledge_up_to(&self, sequence: Sequence) {
        self.acknowledged.send_if_modified(|known| {
            let is_more = sequence > *known;
            *known = (*known).max(sequence);
            is_more
        });
    }

    /// How far it was told.
    pub fn told(&self) -> Sequence {
        self.told
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.feed.state().registry.leave(self.id);
    }
}

/// Everybody who follows, and until when somebody nobody knows may act on something.
pub(super) struct Registry {
    followers: BTreeMap<u64, Known>,
    next: u64,
    /// Followers of an earlier start, and those that left: until then one of them may have a lease. The moments are how
    /// long the server has been running.
    unknown_until: Duration,
}

struct Known {
    acknowledged: watch::Receiver<Sequence>,
    /// Zero: none yet.
    lease_end: Duration,
}

impl Registry {
    /// Nobody follows; somebody may have followed an earlier start, with a lease of this length.
    pub(super) fn new(grace: Duration) -> Self {
        Self { followers: BTreeMap::new(), next: 0, unknown_until: grace }
    }

    pub(super) fn len(&self) -> usize {
        self.followers.len()
    }

    /// A follower that stands at `sequence`. It acts on nothing before its first lease here, which comes after that.
    pub(super) fn enter(&mut self, sequence: Sequence) -> (u64, watch::Sender<Sequence>) {
        let (sender, acknowledged) = watch::channel(sequence);
        let id = self.next;
        self.next += 1;
        self.followers.insert(id, Known { acknowledged, lease_end: Duration::ZERO });
        (id, sender)
    }

    /// A lease until `end`, which never shortens one. Gives back the end of the one before.
    fn lease(&mut self, id: u64, end: Duration) -> Duration {
        let Some(known) = self.followers.get_mut(&id) else { return Duration::ZERO };
        let later = known.lease_end.max(end);
        std::mem::replace(&mut known.lease_end, later)
    }

    fn leave(&mut self, id: u64) {
        if let Some(known) = self.followers.remove(&id) {
            self.unknown_until = self.unknown_until.max(known.lease_end);
        }
    }

    pub(super) fn fence(&self, required: Sequence, now: Duration) -> Fence {
        let holders = self
            .followers
            .values()
            .filter(|known| known.lease_end > now)
            .map(|known| Holder { acknowledged: known.acknowledged.clone(), lease_end: known.lease_end });
        Fence::new(required, holders.collect(), self.unknown_until)
    }
}
