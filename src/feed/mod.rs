//! The list of changes read aloud, for whoever keeps facts in memory: what was touched, who has heard it, and whether
//! anybody may still act on what is not true any more.
//!
//! ```text
//!   writer ── publish ──► ring of touches ──► follower ──► follower's stream          (copies, under a short lock)
//!                                               │
//!   receipt ◄── fence ◄── acknowledged, or lease over
//! ```
//!
//! * **Tags.** Each answer of facts names what it depends on, each change what it touches, as 64 bits under a key drawn at
//!   start ([`Tagger`]). Nothing else about a change is told: a follower learns nothing about other people's subjects.
//! * **Order.** A follower is told of the touches in the order of the list, each once, none left out: every [`News`] says
//!   where it goes on from and where it ends. One that fell out of the ring is told to start over.
//! * **Leases.** A follower may act on what it holds until its lease ends. A lease is given in the same moment in which it
//!   is certain that nothing is untold, so whoever has the lease has heard everything before it.
//! * **Fences.** A [`Fence`] is passed when every follower has acknowledged a change or the lease it had then is over. It
//!   never takes longer than one lease: a lease that is renewed after the change was published proves that the follower
//!   has heard of it.
//!
//! Publishing never waits for a follower, and nothing is kept for one: a slow follower reads from the ring, or starts
//! over. Time is an argument: how long the server has been running. No clock, no timer, no socket.
//!
//! Which way it falls: whatever is not certain is a start-over or a wait, never silence. Followers that left without
//! notice, and those of an earlier start that nobody knows, hold a fence up until their lease must be over.

// Who waits for whom.
mod fence;
// Who follows, and how far.
mod follower;
// What was touched lately.
mod ring;
// What depends on what.
mod tags;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::domain::{Entry, Epoch, Sequence};

pub use fence::Fence;
use follower::Registry;
pub use follower::{Begun, Follower, Lease, News, Resume, TooManyFollowers, Untold};
use ring::Ring;
pub use tags::{Dependence, Tag, Tagger, Touch};

/// The most touches the ring holds: a follower that is further behind starts over.
pub const RING_TOUCHES: usize = 65_536;

/// The shortest lease that is given.
pub const LEASE_MIN: Duration = Duration::from_millis(200);

/// The longest lease that can be configured.
pub const LEASE_MAX: Duration = Duration::from_secs(60);

/// What a feed begins with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The incarnation of the list.
    pub epoch: Epoch,
    /// How far the list is.
    pub head: Sequence,
    /// Secret random bytes of this start: the key of its tags, and what tells it from every other start.
    pub seed: [u8; 24],
    /// How long leases are at most; [`LEASE_MIN`] to [`LEASE_MAX`], and cut to that.
    pub lease: Duration,
    /// For how long followers of an earlier start, which nobody knows, may have a lease: the lease that start gave. Zero
    /// if there was none.
    pub grace: Duration,
    /// How many may follow at a time.
    pub followers_max: usize,
}

impl Options {
    /// A feed with usual limits that nobody has followed before: leases of 2 s, 1,024 followers.
    pub fn new(epoch: Epoch, head: Sequence, seed: [u8; 24]) -> Self {
        Self { epoch, head, seed, lease: Duration::from_secs(2), grace: Duration::ZERO, followers_max: 1_024 }
    }
}

/// The feed of one server. Cheap to clone; all clones are the same feed.
#[derive(Clone)]
pub struct Feed(Arc<Shared>);

struct Shared {
    epoch: Epoch,
    incarnation: u64,
    tagger: Tagger,
    lease: Duration,
    followers_max: usize,
    state: Mutex<State>,
    /// Stirs whenever there is something untold. The value means nothing.
    stir: watch::Sender<()>,
    /// Somebody waits until everybody has heard of the list up to here.
    hurry: watch::Sender<Sequence>,
}

struct State {
    ring: Ring,
    registry: Registry,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("head", &self.head()).finish_non_exhaustive()
    }
}

impl Feed {
    /// A feed that begins where the list is. The server has just started: its age is zero.
    pub fn new(options: &Options) -> Self {
        let lease = options.lease.clamp(LEASE_MIN, LEASE_MAX);
        let mut words =
            options.seed.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default()));
        let mut word = || words.next().unwrap_or_default();
        let (tagger, incarnation) = (Tagger::new(word(), word()), word());
        let state = State { ring: Ring::new(options.head, RING_TOUCHES), registry: Registry::new(options.grace) };
        Self(Arc::new(Shared {
            epoch: options.epoch,
            incarnation,
            tagger,
            lease,
            followers_max: options.followers_max,
            state: Mutex::new(state),
            stir: watch::Sender::new(()),
            hurry: watch::Sender::new(Sequence::ZERO),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds this lock; and every use leaves it whole.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This start of the server; tags and resumes are good within one.
    pub fn incarnation(&self) -> u64 {
        self.0.incarnation
    }

    /// The longest lease that is given.
    pub fn lease(&self) -> Duration {
        self.0.lease
    }

    /// What things are called in the feed.
    pub fn tagger(&self) -> &Tagger {
        &self.0.tagger
    }

    /// How far the list was read aloud.
    pub fn head(&self) -> Sequence {
        self.state().ring.head()
    }

    /// How many follow now.
    pub fn followers(&self) -> usize {
        self.state().registry.len()
    }

    /// Reads a batch of changes aloud. They have to be durable and visible; the writer alone calls this, in the order of
    /// the list, before anybody gets a receipt. Waits for nobody.
    pub fn publish(&self, entries: &[Entry]) {
        let Some(last) = entries.last() else { return };
        // Hashing is done before anybody is kept from reading.
        let touches: Vec<(Sequence, Touch)> =
            entries.iter().map(|entry| (entry.sequence, self.0.tagger.touched_by(&entry.change))).collect();
        let any = touches.iter().any(|(_, touch)| *touch != Touch::Nothing);
        {
            let mut state = self.state();
            for (sequence, touch) in touches {
                state.ring.push(sequence, touch);
            }
            state.ring.advance(last.sequence);
        }
        if any {
            self.0.stir.send_replace(());
        }
    }

    /// Tells every follower to forget everything: what they were told may have been more than they may know now. Nobody
    /// resumes from before.
    pub fn start_over(&self) {
        self.state().ring.forget();
        self.0.stir.send_replace(());
    }

    /// Begins to follow, from now on or from where the follower stood. `wanted`: the lease it would like; zero for the
    /// longest.
    ///
    /// # Errors
    /// Too many follow already.
    pub fn follow(&self, resume: Option<Resume>, wanted: Duration) -> Result<Begun, TooManyFollowers> {
        let mut state = self.state();
        if state.registry.len() >= self.0.followers_max {
            return Err(TooManyFollowers { most: self.0.followers_max });
        }
        let lease = if wanted.is_zero() { self.0.lease } else { wanted.clamp(LEASE_MIN, self.0.lease) };
        let resumed = resume.filter(|resume| {
            resume.epoch == self.0.epoch
                && resume.incarnation == self.0.incarnation
                && state.ring.has_all_after(resume.sequence)
        });
        let sequence = resumed.map_or(state.ring.head(), |resume| resume.sequence);
        let generation = state.ring.generation();
        let (id, acknowledged) = state.registry.enter(sequence);
        drop(state);
        let follower = Follower::new(self.clone(), id, sequence, generation, lease, acknowledged);
        Ok(Begun { follower, resumed: resumed.is_some(), sequence, lease })
    }

    /// What has to happen until nobody acts on what was true before `sequence`, from `now` (how long the server has been
    /// running) on. `sequence` has been published.
    pub fn fence(&self, sequence: Sequence, now: Duration) -> Fence {
        let state = self.state();
        // Whoever has heard the last touch up to there has nothing to forget after it.
        let required = state.ring.last_touch_up_to(sequence);
        let fence = state.registry.fence(required, now);
        drop(state);
        // Whoever lets changes gather before telling them has to know that somebody waits.
        self.0.hurry.send_if_modified(|hurried| {
            let is_more = required > *hurried;
            *hurried = (*hurried).max(required);
            is_more
        });
        fence
    }
}
