//! The follower: what each message of a feed means for what is believed. A state machine; no socket, no clock, no task.
//!
//! ```text
//!              connected                     following
//!   Away ────────────────────► Asked ────────────────────► Following ──┐ announcement, lease, start over
//!     ▲   says: follow, renew    │                             │   ▲   │ says: acknowledge, renew
//!     └──────────── lost ────────┴─────────── lost ────────────┘   └───┘
//! ```
//!
//! Every message says after which place in the list it speaks (`previous`). Any other place than the one the follower
//! stands at is a gap, and a gap means: forget everything. So does a feed that does not resume where the one before
//! ended, in the same list and the same start of the server. A lost connection by itself ends nothing but renewals: the
//! server counts on the follower until its lease is over, and so does the follower. What cannot be from a server that
//! keeps the protocol is [`Broken`]; then everything is forgotten, and the connection given up.
//!
//! An acknowledgement is due only after everything it speaks of has been applied.

use std::collections::VecDeque;
use std::time::Duration;

use super::belief::Belief;
use super::clock::Moment;
use super::lease::Lease;
use crate::domain::{Epoch, Revision, Sequence};
use crate::wire::follow::{Announced, Follower as Said, Resume, Touched};

/// Renewals on the way. A server that answers none of so many has gone.
const RENEWALS_MAX: usize = 8;

/// The shortest lease that is worth having: a shorter one would be renewed all the time.
const LEASE_MIN: Duration = Duration::from_millis(20);

/// How long an announcement may lag behind an answer before it is asked for.
const NUDGE: Duration = Duration::from_millis(5);

/// The server does not keep the protocol; in words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Broken(pub(super) &'static str);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Away,
    /// A feed was asked for.
    Asked,
    Following,
}

/// A follower. What it learns it writes into a [`Belief`], whose only writer it is.
#[derive(Debug)]
pub(super) struct Follower {
    stage: Stage,
    /// The lease to ask for, and the longest to believe.
    wanted: Duration,
    /// The lease as it was last granted.
    granted: Duration,
    /// The list of the server there is a connection to.
    epoch: Epoch,
    /// Where it stands, if it stands anywhere: the list, the start of the server, the place.
    stands: Option<Resume>,
    /// Whether the server does not know yet how far we have come.
    unacknowledged: bool,
    /// Somebody has seen an answer from this far; if it has not been told by then, it is asked for.
    nudged: Option<(u64, Moment)>,
    renew_at: Moment,
    number: u32,
    /// Renewals on the way: number, and when each was sent.
    renewals: VecDeque<(u32, Moment)>,
    /// How often a feed began.
    pub(super) follows: u64,
}

impl Follower {
    /// One that follows nothing yet and will ask for leases of `wanted`.
    pub(super) fn new(wanted: Duration) -> Self {
        let wanted = wanted.max(LEASE_MIN);
        Self {
            stage: Stage::Away,
            wanted,
            granted: wanted,
            epoch: Epoch::default(),
            stands: None,
            unacknowledged: false,
            nudged: None,
            renew_at: Moment::ZERO,
            number: 0,
            renewals: VecDeque::with_capacity(RENEWALS_MAX),
            follows: 0,
        }
    }

    /// There is a connection to a server whose list is of this epoch; says what to send first. A renewal is due at once.
    pub(super) fn connected(&mut self, epoch: Epoch, now: Moment) -> Said {
        self.stage = Stage::Asked;
        self.epoch = epoch;
        self.renewals.clear();
        self.unacknowledged = false;
        self.nudged = None;
        self.renew_at = now;
        let lease_ms = u32::try_from(self.wanted.as_millis()).unwrap_or(u32::MAX);
        let resume = self.stands.filter(|stands| stands.revision.epoch == epoch);
        Said::Follow { id: 0, lease_ms, resume }
    }

    /// The connection is gone.
    pub(super) fn lost(&mut self) {
        self.stage = Stage::Away;
    }

    /// Applies a message.
    ///
    /// # Errors
    /// It cannot follow what came before. Everything is forgotten; give up the connection and call [`Follower::lost`].
    pub(super) fn hear(&mut self, said: &Announced<'_>, now: Moment, belief: &Belief) -> Result<(), Broken> {
        let heard = self.apply(said, now, belief);
        if heard.is_err() {
            self.doubt(belief);
        }
        heard
    }

    /// Something could not be read or cannot be: nothing is believed, and the next feed begins anew.
    pub(super) fn doubt(&mut self, belief: &Belief) {
        belief.forget();
        self.stands = None;
    }

    fn apply(&mut self, said: &Announced<'_>, now: Moment, belief: &Belief) -> Result<(), Broken> {
        match (self.stage, *said) {
            (Stage::Asked, Announced::Following { resumed, incarnation, sequence, lease_ms, .. }) => {
                self.begins(resumed, incarnation, sequence, belief)?;
                self.granted = self.length(lease_ms)?;
                Ok(())
            }
            (Stage::Following, Announced::Touched { previous, sequence, touched }) => {
                let gap = self.moves(previous, sequence)?;
                match touched {
                    _ if gap => belief.start_over(sequence.0),
                    Touched::Everything => belief.forget(),
                    // The whole message is stamped with its end: that some were touched earlier in it costs a question.
                    Touched::Tags(tags) => tags.for_each(|tag| belief.touch(tag, sequence.0)),
                }
                belief.advance(sequence.0);
                Ok(())
            }
            (Stage::Following, Announced::Lease { id, previous, sequence, lease_ms, server_time_ms }) => {
                let sent = match self.renewals.pop_front() {
                    Some((number, sent)) if number == id => sent,
                    _ => return Err(Broken("a lease that nobody asked for, or leases out of order")),
                };
                if self.moves(previous, sequence)? {
                    belief.start_over(sequence.0);
                }
                belief.advance(sequence.0);
                self.granted = self.length(lease_ms)?;
                self.renew_at = now.max(sent.plus(Lease::renewal(self.granted)));
                belief.lease(Lease::granted(sent, self.granted, server_time_ms));
                Ok(())
            }
            (Stage::Following, Announced::StartOver { sequence }) => {
                // It may go back: a gap of the server's own. Whatever it is, nothing held survives it.
                belief.start_over(sequence.0);
                self.stand(sequence);
                self.unacknowledged = true;
                belief.advance(sequence.0);
                Ok(())
            }
            _ => Err(Broken("a message that cannot come now")),
        }
    }

    fn begins(&mut self, resumed: bool, incarnation: u64, sequence: Sequence, belief: &Belief) -> Result<(), Broken> {
        let here = Resume { revision: Revision { epoch: self.epoch, sequence }, incarnation };
        if resumed && self.stands != Some(here) {
            return Err(Broken("it resumes a feed where nobody stood"));
        }
        if !resumed {
            belief.begin(self.epoch, incarnation, sequence.0);
            self.stands = Some(here);
        }
        self.stage = Stage::Following;
        self.unacknowledged = true;
        self.follows += 1;
        Ok(())
    }

    fn stand(&mut self, sequence: Sequence) {
        if let Some(stands) = &mut self.stands {
            stands.revision.sequence = sequence;
        }
    }

    fn position(&self) -> Sequence {
        self.stands.map_or(Sequence::ZERO, |stands| stands.revision.sequence)
    }

    /// Moves on to `sequence`; says whether something was left out on the way.
    fn moves(&mut self, previous: Sequence, sequence: Sequence) -> Result<bool, Broken> {
        let position = self.position();
        if sequence < previous || sequence < position {
            return Err(Broken("its list runs backwards"));
        }
        let gap = previous != position;
        self.unacknowledged |= sequence > position || gap;
        self.stand(sequence);
        Ok(gap)
    }

    /// A lease is never believed to be longer than it was asked for.
    fn length(&self, lease_ms: u32) -> Result<Duration, Broken> {
        let lease = Duration::from_millis(u64::from(lease_ms));
        if lease < LEASE_MIN { Err(Broken("a lease too short to use")) } else { Ok(lease.min(self.wanted)) }
    }

    /// An answer came from `sequence`. Unless the feed tells of it in a moment, a lease is asked for, which does.
    pub(super) fn nudge(&mut self, sequence: u64, now: Moment) {
        let (beyond, at) = self.nudged.unwrap_or((0, now.plus(NUDGE)));
        self.nudged = Some((beyond.max(sequence), at));
    }

    /// What is to be sent at `now`, if anything. Called until there is nothing more.
    ///
    /// # Errors
    /// The server answers no renewals: give up the connection.
    pub(super) fn due(&mut self, now: Moment) -> Result<Option<Said>, Broken> {
        let first = self.stage == Stage::Asked && self.renewals.is_empty();
        if self.stage != Stage::Following && !first {
            return Ok(None);
        }
        let position = self.position().0;
        self.nudged = self.nudged.filter(|(beyond, _)| *beyond > position);
        // One extra renewal at a time, however many ask for it.
        let wished = self.renewals.is_empty() && self.nudged.is_some_and(|(_, at)| now >= at);
        if first || now >= self.renew_at || wished {
            if self.renewals.len() >= RENEWALS_MAX {
                return Err(Broken("it answers no renewals"));
            }
            self.number = self.number.wrapping_add(1);
            self.renewals.push_back((self.number, now));
            self.renew_at = now.plus(Lease::renewal(self.granted));
            self.nudged = None;
            // On this stream nothing has been told yet that could be acknowledged.
            let acknowledged = if first { Sequence::ZERO } else { self.position() };
            self.unacknowledged = false;
            return Ok(Some(Said::Renew { id: self.number, acknowledged }));
        }
        let acknowledges = std::mem::take(&mut self.unacknowledged);
        Ok(acknowledges.then(|| Said::Acknowledge { sequence: self.position() }))
    }

    /// When there will be something to send even if nothing is heard.
    pub(super) fn wakes(&self) -> Option<Moment> {
        let nudged = self.nudged.filter(|_| self.renewals.is_empty()).map_or(self.renew_at, |(_, at)| at);
        (self.stage == Stage::Following).then_some(self.renew_at.min(nudged))
    }
}
