//! The follower: what each message of a feed means for what is believed. A state machine; no socket, no clock, no task.
//!
//! ```text
//!              connected                     following
//!   Away ────────────────────► Asked ────────────────────► Following ──┐ announcement, lease, start over
//!     ▲   says: follow           │                             │   ▲   │ says: acknowledge, renew
//!     └──────────── lost ────────┴─────────── lost ────────────┘   └───┘
//! ```
//!
//! Every message says after which place in the list it speaks (`previous`). Any other place than the one the follower
//! stands at is a gap, and a gap means: forget everything. So does a new beginning, and so does a lost connection. What
//! cannot be from a server that keeps the protocol is [`Broken`]; the connection is then given up, which forgets too.
//!
//! An acknowledgement is due only after everything it speaks of has been applied.

use std::collections::VecDeque;
use std::time::Duration;

use super::belief::Belief;
use super::clock::Moment;
use super::lease::Lease;
use crate::domain::Epoch;

/// Renewals on the way. A server that answers none of so many has gone.
const RENEWALS_MAX: usize = 8;

/// The shortest lease that is worth having: a shorter one would be renewed all the time.
const LEASE_MIN: Duration = Duration::from_millis(20);

/// A message of the feed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Heard<'m> {
    /// The feed begins at `sequence`.
    Following { resumed: bool, incarnation: u64, sequence: u64, lease: Duration, server_ms: u64 },
    /// Between `previous` and `sequence` these tags were touched and no others.
    Announcement { previous: u64, sequence: u64, touched: Touched<'m> },
    /// A renewal was granted; nothing was touched between `previous` and `sequence`.
    Lease { number: u32, previous: u64, sequence: u64, lease: Duration, server_ms: u64 },
    /// Forget everything, go on from `sequence`.
    StartOver { sequence: u64 },
}

/// What an announcement says was touched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Touched<'m> {
    Everything,
    /// Tags, eight little-endian bytes each.
    Tags(&'m [[u8; 8]]),
}

/// What there is to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Say {
    /// The first message: a feed from here on, with a lease of this length.
    Follow { lease: Duration },
    /// Renewal `number`; everything up to `acknowledged` was applied.
    Renew { number: u32, acknowledged: u64 },
    /// Everything up to here was applied.
    Acknowledge(u64),
}

/// The server does not keep the protocol; in words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Broken(pub(super) &'static str);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Away,
    /// `follow` was asked for at this moment, in this list.
    Asked(Moment, Epoch),
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
    /// Where in the list it stands.
    position: u64,
    /// Whether the server does not know yet how far we have come.
    unacknowledged: bool,
    /// Somebody has seen an answer from beyond `position`.
    nudged: bool,
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
        Self {
            stage: Stage::Away,
            wanted: wanted.max(LEASE_MIN),
            granted: Duration::ZERO,
            position: 0,
            unacknowledged: false,
            nudged: false,
            renew_at: Moment::ZERO,
            number: 0,
            renewals: VecDeque::with_capacity(RENEWALS_MAX),
            follows: 0,
        }
    }

    /// There is a connection to a server whose list is of this epoch; says what to send first.
    pub(super) fn connected(&mut self, epoch: Epoch, now: Moment) -> Say {
        self.stage = Stage::Asked(now, epoch);
        self.renewals.clear();
        self.unacknowledged = false;
        self.nudged = false;
        Say::Follow { lease: self.wanted }
    }

    /// The connection is gone.
    pub(super) fn lost(&mut self, belief: &Belief) {
        if self.stage != Stage::Away {
            self.stage = Stage::Away;
            belief.lost();
        }
    }

    /// Applies a message.
    ///
    /// # Errors
    /// It cannot follow what came before: give up the connection and call [`Follower::lost`].
    pub(super) fn hear(&mut self, heard: &Heard<'_>, now: Moment, belief: &Belief) -> Result<(), Broken> {
        match (self.stage, *heard) {
            (Stage::Asked(sent, epoch), Heard::Following { resumed, incarnation, sequence, lease, server_ms }) => {
                if resumed {
                    return Err(Broken("it resumes a feed that nobody asked it to resume"));
                }
                belief.begin(epoch, incarnation, sequence);
                self.stage = Stage::Following;
                self.position = sequence;
                self.unacknowledged = true;
                self.follows += 1;
                self.granted(sent, lease, server_ms, now, belief)
            }
            (Stage::Following, Heard::Announcement { previous, sequence, touched }) => {
                let gap = self.moves(previous, sequence)?;
                match touched {
                    _ if gap => belief.start_over(sequence),
                    Touched::Everything => belief.forget(),
                    // The whole message is stamped with its end: that some were touched earlier in it costs a question.
                    Touched::Tags(tags) => tags.iter().for_each(|tag| belief.touch(u64::from_le_bytes(*tag), sequence)),
                }
                belief.advance(sequence);
                Ok(())
            }
            (Stage::Following, Heard::Lease { number, previous, sequence, lease, server_ms }) => {
                let Some((awaited, sent)) = self.renewals.pop_front() else {
                    return Err(Broken("a lease that nobody asked for"));
                };
                if awaited != number {
                    return Err(Broken("leases out of order"));
                }
                if self.moves(previous, sequence)? {
                    belief.start_over(sequence);
                }
                belief.advance(sequence);
                self.granted(sent, lease, server_ms, now, belief)
            }
            (Stage::Following, Heard::StartOver { sequence }) => {
                // It may go back: a gap of the server's own. Whatever it is, nothing held survives it.
                belief.start_over(sequence);
                self.position = sequence;
                self.unacknowledged = true;
                belief.advance(sequence);
                Ok(())
            }
            _ => Err(Broken("a message that cannot come now")),
        }
    }

    /// Moves on to `sequence`; says whether something was left out on the way.
    fn moves(&mut self, previous: u64, sequence: u64) -> Result<bool, Broken> {
        if sequence < previous || sequence < self.position {
            return Err(Broken("its list runs backwards"));
        }
        let gap = previous != self.position;
        self.unacknowledged |= sequence > self.position || gap;
        self.position = sequence;
        Ok(gap)
    }

    fn granted(
        &mut self,
        sent: Moment,
        lease: Duration,
        server_ms: u64,
        now: Moment,
        belief: &Belief,
    ) -> Result<(), Broken> {
        if lease < LEASE_MIN {
            return Err(Broken("a lease too short to use"));
        }
        self.granted = lease.min(self.wanted);
        self.renew_at = now.max(sent.plus(Lease::renewal(self.granted)));
        belief.lease(Lease::granted(sent, self.granted, server_ms));
        Ok(())
    }

    /// An answer came from `sequence`, beyond where the feed is: the next lease will tell that nothing lay between.
    pub(super) fn nudge(&mut self, sequence: u64) {
        self.nudged |= self.stage == Stage::Following && sequence > self.position;
    }

    /// What is to be sent at `now`, if anything. Called until there is nothing more.
    ///
    /// # Errors
    /// The server answers no renewals: give up the connection.
    pub(super) fn due(&mut self, now: Moment) -> Result<Option<Say>, Broken> {
        if self.stage != Stage::Following {
            return Ok(None);
        }
        // One extra renewal at a time, however many ask for it.
        let wished = self.nudged && self.renewals.is_empty();
        if now >= self.renew_at || wished {
            if self.renewals.len() >= RENEWALS_MAX {
                return Err(Broken("it answers no renewals"));
            }
            self.number = self.number.wrapping_add(1);
            self.renewals.push_back((self.number, now));
            self.renew_at = now.plus(Lease::renewal(self.granted));
            self.unacknowledged = false;
            self.nudged = false;
            return Ok(Some(Say::Renew { number: self.number, acknowledged: self.position }));
        }
        Ok(std::mem::take(&mut self.unacknowledged).then_some(Say::Acknowledge(self.position)))
    }

    /// When there will be something to send even if nothing is heard.
    pub(super) fn wakes(&self) -> Option<Moment> {
        (self.stage == Stage::Following).then_some(self.renew_at)
    }
}
