//! Histories of followers, and whether they can be true: what a follower said and was told, put beside the list of changes
//! that were really made.
//!
//! ```text
//!   changes made: place, what it touched, asked for, answered ─┐
//!                                                              ├─► look ─► what was seen, or the first fault
//!   a follower's history: connects, says, is told ─────────────┘
//! ```
//!
//! What is looked for are the promises of a feed, each on its own:
//! * **ordered**: places and tags come in the order of the list;
//! * **unique**: nothing is told twice;
//! * **contiguous**: nothing is missing between two messages, unless it was said to start over;
//! * **resumable**: a feed that resumes goes on exactly where the one before stood, in the same list and the same start;
//! * **never up to date when it is not**: a lease that was asked for after a change was answered has that change behind it,
//!   and nothing between its two places was touched.
//!
//! Time is a count that goes up by one wherever something is noted ([`Moments`]): before a thing is sent or asked for, after
//! it was received or answered. So "before" is certain where it is used, however many threads there were. What happened at
//! the same time counts for the feed.
//!
//! Not here: that anything is told at all (a follower that hears nothing has a true history), nor how fast.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::domain::{Epoch, Revision, Sequence};
use crate::feed::{self, Feed, News, Tag, TooManyFollowers, Touch};
use crate::wire::follow::{Announced, Follower as Said, Resume, Touched};

/// Where in a run something happened.
pub type Moment = u64;

/// The moments of a run. Clones count on together.
#[derive(Clone, Debug, Default)]
pub struct Moments(Arc<AtomicU64>);

impl Moments {
    /// The next one; later than every one that was given out before.
    pub fn next(&self) -> Moment {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }
}

/// A change, as it was really made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Made {
    /// Its place in the list.
    pub sequence: Sequence,
    /// What it touched, in the words of the start.
    pub touch: Touch,
    /// Before it was asked for.
    pub asked: Moment,
    /// After it was answered; [`Moment::MAX`] if it never was.
    pub answered: Moment,
}

/// Everybody was told to forget everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Forgot {
    /// Before that.
    pub asked: Moment,
    /// After it.
    pub answered: Moment,
}

/// A start of a server: what it did while it ran.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Start {
    /// Its list.
    pub epoch: Epoch,
    /// The start's number.
    pub incarnation: u64,
    /// Where the list stood when it began.
    pub from: Sequence,
    /// The changes since, ascending, none left out.
    pub made: Vec<Made>,
    /// When everybody was told to forget everything.
    pub forgot: Vec<Forgot>,
}

/// What a follower was told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Told {
    /// It follows.
    Following {
        /// Of its wish to follow.
        id: u32,
        /// It goes on where it stood.
        resumed: bool,
        /// The server's start.
        incarnation: u64,
        /// Where it stands.
        sequence: Sequence,
    },
    /// Between these places this was touched; `None`: everything.
    Touched {
        /// Where it stood.
        previous: Sequence,
        /// Where it stands.
        sequence: Sequence,
        /// By what.
        tags: Option<Vec<Tag>>,
    },
    /// A lease.
    Lease {
        /// Of the renewal.
        id: u32,
        /// Where it stood.
        previous: Sequence,
        /// Where it stands.
        sequence: Sequence,
    },
    /// It forgets everything.
    StartOver {
        /// Where it stands.
        sequence: Sequence,
    },
}

impl From<&Announced<'_>> for Told {
    fn from(announced: &Announced<'_>) -> Self {
        match *announced {
            Announced::Following { id, resumed, incarnation, sequence, .. } => {
                Self::Following { id, resumed, incarnation, sequence }
            }
            Announced::Touched { previous, sequence, touched } => {
                let tags = match touched {
                    Touched::Everything => None,
                    Touched::Tags(tags) => Some(tags.map(Tag).collect()),
                };
                Self::Touched { previous, sequence, tags }
            }
            Announced::Lease { id, previous, sequence, .. } => Self::Lease { id, previous, sequence },
            Announced::StartOver { sequence } => Self::StartOver { sequence },
        }
    }
}

/// Something in the life of a follower.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A new stream, to a server with this list. Whatever was under way on the one before is over.
    Connects(Epoch),
    /// It says something; noted before.
    Says(Said),
    /// It is told something; noted after.
    Hears(Told),
}

/// The life of one follower, in its order.
pub type History = Vec<(Moment, Event)>;

/// What is wrong with a history.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// Contiguous: it speaks after a place that lies beyond the follower's.
    #[error("a gap: it goes on after {previous}, and the follower stands at {stands}")]
    Gap {
        /// Where the follower stands.
        stands: Sequence,
        /// What it goes on after.
        previous: Sequence,
    },
    /// Unique: it speaks after a place the follower has left behind.
    #[error("repeated: it goes on after {previous}, and the follower stands at {stands} already")]
    Repeated {
        /// Where the follower stands.
        stands: Sequence,
        /// What it goes on after.
        previous: Sequence,
    },
    /// Ordered: it ends before it begins.
    #[error("backwards: from {from} to {to}")]
    Backwards {
        /// Where it begins.
        from: Sequence,
        /// Where it ends.
        to: Sequence,
    },
    /// Contiguous: the change at this place touched something, and it was passed over.
    #[error("the change at {0} was passed over")]
    Missing(Sequence),
    /// Unique: a tag more often than changes touched it; or everything, where nothing touched everything.
    #[error("told up to {0}: something that no change there touched, or not so often")]
    Invented(Sequence),
    /// Ordered: the tags of a message are those of the list in another order.
    #[error("told up to {0}: the right things in another order")]
    OutOfOrder(Sequence),
    /// Ordered: told of before anybody had asked for it, or of what never was in the list.
    #[error("{0} was told of before it was asked for")]
    Ahead(Sequence),
    /// Resumable: it goes on where the follower did not stand, or did not say that it stood.
    #[error("it resumes at {0}, where the follower did not stand")]
    ResumedElsewhere(Sequence),
    /// Resumable: everybody had been told to forget everything meanwhile.
    #[error("it resumes at {0}, and everything was to be forgotten meanwhile")]
    ResumedForgotten(Sequence),
    /// Up to date: a change that was answered before it was asked is not behind it.
    #[error("it says that {at} is up to date, and {sequence} had been answered before it was asked")]
    Behind {
        /// Where it stands.
        at: Sequence,
        /// The first that is missing.
        sequence: Sequence,
    },
    /// Up to date: everything was to be forgotten before it was asked, and the follower was never told.
    #[error("a lease at {0}, and it was never said that everything is to be forgotten")]
    Unforgotten(Sequence),
    /// An answer to what was not said, or answers in another order.
    #[error("the answer {0} to what nobody has said")]
    Unasked(u32),
    /// A message before the follower follows, or of a start of a server that there was not.
    #[error("a message that cannot come now")]
    OutOfTurn,
    /// The follower: it says that it stands where it does not, or acknowledges what it was not told.
    #[error("the follower says {0}, and that is not where it stands")]
    Untold(Sequence),
}

/// What a history without a fault had in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// Feeds that began anew.
    pub begun: u64,
    /// Feeds that went on.
    pub resumed: u64,
    /// Announcements, and the tags in them.
    pub announcements: u64,
    /// Tags told.
    pub tags: u64,
    /// Leases.
    pub leases: u64,
    /// How often it was said to start over.
    pub started_over: u64,
    /// Where the follower stands in the end.
    pub stands: Option<Sequence>,
}

impl std::ops::AddAssign for Seen {
    /// Adds the counts; of places the last one stays.
    fn add_assign(&mut self, other: Self) {
        self.begun += other.begun;
        self.resumed += other.resumed;
        self.announcements += other.announcements;
        self.tags += other.tags;
        self.leases += other.leases;
        self.started_over += other.started_over;
        self.stands = other.stands.or(self.stands);
    }
}

/// Looks through a history. `starts`: every start of every server the follower may have met.
///
/// # Errors
/// The first fault, and the number of the event at which it shows.
pub fn look(history: &[(Moment, Event)], starts: &[Start]) -> Result<Seen, (usize, Fault)> {
    let mut looker = Looker { starts, stream: None, stands: None, forgot_at: 0, seen: Seen::default() };
    for (number, (at, event)) in history.iter().enumerate() {
        looker.take(*at, event).map_err(|fault| (number, fault))?;
    }
    looker.seen.stands = looker.stands.map(|stands| stands.revision.sequence);
    Ok(looker.seen)
}

struct Looker<'s> {
    starts: &'s [Start],
    stream: Option<Stream<'s>>,
    /// Where the follower stands, over all its streams.
    stands: Option<Resume>,
    /// When it last forgot everything.
    forgot_at: Moment,
    seen: Seen,
}

struct Stream<'s> {
    epoch: Epoch,
    /// It asked to follow: how, and when.
    wants: Option<(u32, Option<Resume>, Moment)>,
    /// It follows this start.
    start: Option<&'s Start>,
    /// Renewals that were not answered.
    renewals: VecDeque<(u32, Moment)>,
}

impl<'s> Looker<'s> {
    fn take(&mut self, at: Moment, event: &Event) -> Result<(), Fault> {
        match event {
            Event::Connects(epoch) => {
                self.stream = Some(Stream { epoch: *epoch, wants: None, start: None, renewals: VecDeque::new() });
                Ok(())
            }
            Event::Says(said) => self.says(at, said),
            Event::Hears(Told::Following { id, resumed, incarnation, sequence }) => {
                self.begins(at, *id, *resumed, *incarnation, *sequence)
            }
            Event::Hears(told) => self.hears(at, told),
        }
    }

    fn says(&mut self, at: Moment, said: &Said) -> Result<(), Fault> {
        let told = self.stands.map_or(Sequence::ZERO, |stands| stands.revision.sequence);
        let stream = self.stream.as_mut().ok_or(Fault::OutOfTurn)?;
        let told = if stream.start.is_some() { told } else { Sequence::ZERO };
        let acknowledged = match *said {
            Said::Follow { id, resume, .. } => {
                if let Some(resume) = resume.filter(|resume| self.stands != Some(*resume)) {
                    return Err(Fault::Untold(resume.revision.sequence));
                }
                stream.wants = Some((id, resume, at));
                return Ok(());
            }
            Said::Renew { id, acknowledged } => {
                stream.renewals.push_back((id, at));
                acknowledged
            }
            Said::Acknowledge { sequence } => sequence,
        };
        if acknowledged > told { Err(Fault::Untold(acknowledged)) } else { Ok(()) }
    }

    fn begins(
        &mut self,
        at: Moment,
        id: u32,
        resumed: bool,
        incarnation: u64,
        sequence: Sequence,
    ) -> Result<(), Fault> {
        let stream = self.stream.as_mut().ok_or(Fault::OutOfTurn)?;
        let (_, resume, asked) = stream.wants.take().filter(|(wanted, ..)| *wanted == id).ok_or(Fault::Unasked(id))?;
        let epoch = stream.epoch;
        let is_it = |start: &&Start| start.epoch == epoch && start.incarnation == incarnation;
        let start = self.starts.iter().find(is_it).ok_or(Fault::OutOfTurn)?;
        stream.start = Some(start);
        let here = Resume { revision: Revision { epoch, sequence }, incarnation };
        if resumed {
            if resume != Some(here) {
                return Err(Fault::ResumedElsewhere(sequence));
            }
            if self.is_to_forget(start, asked) {
                return Err(Fault::ResumedForgotten(sequence));
            }
            self.seen.resumed += 1;
        } else {
            self.is_up_to_date(epoch, sequence, asked)?;
            self.forgot_at = at;
            self.seen.begun += 1;
        }
        self.stands = Some(here);
        start.had(sequence, at)
    }

    fn hears(&mut self, at: Moment, told: &Told) -> Result<(), Fault> {
        let stream = self.stream.as_mut().ok_or(Fault::OutOfTurn)?;
        let start = stream.start.ok_or(Fault::OutOfTurn)?;
        let epoch = stream.epoch;
        let stands = self.stands.map_or(Sequence::ZERO, |stands| stands.revision.sequence);
        let sequence = match told {
            Told::Following { id, .. } => return Err(Fault::Unasked(*id)),
            Told::StartOver { sequence } => {
                in_order(stands, *sequence)?;
                self.forgot_at = at;
                self.seen.started_over += 1;
                *sequence
            }
            Told::Touched { previous, sequence, tags } => {
                goes_on(stands, *previous, *sequence)?;
                if sequence == previous {
                    return Err(Fault::Backwards { from: *previous, to: *sequence });
                }
                start.touched_exactly(*previous, *sequence, tags.as_deref())?;
                self.seen.announcements += 1;
                self.seen.tags += tags.as_ref().map_or(0, Vec::len) as u64;
                *sequence
            }
            Told::Lease { id, previous, sequence } => {
                let renewal = stream.renewals.pop_front().filter(|(renewal, _)| renewal == id);
                let (_, asked) = renewal.ok_or(Fault::Unasked(*id))?;
                goes_on(stands, *previous, *sequence)?;
                start.touched_exactly(*previous, *sequence, Some(&[]))?;
                self.is_up_to_date(epoch, *sequence, asked)?;
                if self.is_to_forget(start, asked) {
                    return Err(Fault::Unforgotten(*sequence));
                }
                self.seen.leases += 1;
                *sequence
            }
        };
        if let Some(stands) = &mut self.stands {
            stands.revision.sequence = sequence;
        }
        start.had(sequence, at)
    }

    /// Every change of this list that had been answered at `asked` stands at `at` or before.
    fn is_up_to_date(&self, epoch: Epoch, at: Sequence, asked: Moment) -> Result<(), Fault> {
        let made = self.starts.iter().filter(|start| start.epoch == epoch).flat_map(|start| &start.made);
        let missing = made.filter(|made| made.sequence > at && made.answered < asked).map(|made| made.sequence).min();
        missing.map_or(Ok(()), |sequence| Err(Fault::Behind { at, sequence }))
    }

    /// Whether everything was to be forgotten before `asked`, and the follower has not done so since.
    fn is_to_forget(&self, start: &Start, asked: Moment) -> bool {
        start.forgot.iter().any(|forgot| forgot.answered < asked && forgot.asked > self.forgot_at)
    }
}

fn in_order(from: Sequence, to: Sequence) -> Result<(), Fault> {
    if to < from { Err(Fault::Backwards { from, to }) } else { Ok(()) }
}

/// A message from `previous` to `sequence` goes on where the follower stands.
fn goes_on(stands: Sequence, previous: Sequence, sequence: Sequence) -> Result<(), Fault> {
    if previous > stands {
        return Err(Fault::Gap { stands, previous });
    }
    if previous < stands {
        return Err(Fault::Repeated { stands, previous });
    }
    in_order(previous, sequence)
}

impl Start {
    /// The list had been asked to come as far as `sequence` when something was received at `at`.
    fn had(&self, sequence: Sequence, at: Moment) -> Result<(), Fault> {
        if sequence <= self.from {
            return Ok(());
        }
        let found = self.made.binary_search_by_key(&sequence, |made| made.sequence);
        let made = found.ok().and_then(|number| self.made.get(number));
        if made.is_some_and(|made| made.asked < at) { Ok(()) } else { Err(Fault::Ahead(sequence)) }
    }

    /// What the changes after `previous` up to `sequence` touched is what is told; `None`: everything.
    fn touched_exactly(&self, previous: Sequence, sequence: Sequence, told: Option<&[Tag]>) -> Result<(), Fault> {
        let first = self.made.partition_point(|made| made.sequence <= previous);
        let between = self.made.iter().skip(first).take_while(|made| made.sequence <= sequence);
        let (mut due, mut everything) = (Vec::new(), None);
        for made in between {
            match made.touch {
                Touch::Nothing => {}
                Touch::Tag(tag) => due.push((tag, made.sequence)),
                Touch::Everything => everything = Some(made.sequence),
            }
        }
        match (told, everything) {
            (None, Some(_)) => Ok(()),
            (None, None) => Err(Fault::Invented(sequence)),
            (Some(_), Some(passed_over)) => Err(Fault::Missing(passed_over)),
            (Some(told), None) => compare(&due, told, sequence),
        }
    }
}

fn compare(due: &[(Tag, Sequence)], told: &[Tag], up_to: Sequence) -> Result<(), Fault> {
    if due.iter().map(|(tag, _)| tag).eq(told) {
        return Ok(());
    }
    let mut left: Vec<Tag> = told.to_vec();
    for (tag, sequence) in due {
        match left.iter().position(|it| it == tag) {
            Some(number) => drop(left.swap_remove(number)),
            None => return Err(Fault::Missing(*sequence)),
        }
    }
    Err(if left.is_empty() { Fault::OutOfOrder(up_to) } else { Fault::Invented(up_to) })
}

/// A follower without a socket, that follows feeds of this process and writes its history down.
#[derive(Debug)]
pub struct Listener {
    moments: Moments,
    follower: Option<feed::Follower>,
    stands: Option<Resume>,
    renewals: u32,
    history: History,
}

impl Listener {
    /// One that follows nothing yet.
    pub fn new(moments: Moments) -> Self {
        Self { moments, follower: None, stands: None, renewals: 0, history: History::new() }
    }

    /// What it has written down.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Whether it follows something.
    pub fn follows(&self) -> bool {
        self.follower.is_some()
    }

    /// Follows a feed whose list has this epoch; where it stood, if it is to `resume` and stood anywhere.
    ///
    /// # Errors
    /// Too many follow.
    pub fn follow(&mut self, feed: &Feed, epoch: Epoch, resume: bool) -> Result<(), TooManyFollowers> {
        self.lose();
        self.note(Event::Connects(epoch));
        let resume = self.stands.filter(|_| resume);
        self.note(Event::Says(Said::Follow { id: 0, lease_ms: 0, resume }));
        let asked = resume.map(|stood| feed::Resume {
            epoch: stood.revision.epoch,
            incarnation: stood.incarnation,
            sequence: stood.revision.sequence,
        });
        let begun = feed.follow(asked, Duration::ZERO)?;
        let (incarnation, sequence) = (feed.incarnation(), begun.sequence);
        self.hear(Told::Following { id: 0, resumed: begun.resumed, incarnation, sequence });
        self.stands = Some(Resume { revision: Revision { epoch, sequence }, incarnation });
        self.follower = Some(begun.follower);
        Ok(())
    }

    /// Is told the next thing, with `most` tags at most; whether there was anything.
    pub fn listen(&mut self, most: usize) -> bool {
        let mut tags = Vec::new();
        let Some(follower) = &mut self.follower else { return false };
        let news = follower.news(most, &mut tags);
        self.hear_news(news, tags)
    }

    /// Renews at `now` (how long the server has been running), and is told everything up to the lease.
    pub fn renew(&mut self, now: Duration, most: usize) {
        let Some(stands) = self.stands.filter(|_| self.follower.is_some()) else { return };
        self.renewals += 1;
        let id = self.renewals;
        self.note(Event::Says(Said::Renew { id, acknowledged: stands.revision.sequence }));
        while let Some(follower) = &mut self.follower {
            let mut tags = Vec::new();
            let (news, lease) = follower.renew(now, most, &mut tags);
            self.hear_news(news, tags);
            if let Some(feed::Lease { previous, sequence, .. }) = lease {
                return self.hear(Told::Lease { id, previous, sequence });
            }
        }
    }

    /// Its stream is gone.
    pub fn lose(&mut self) {
        self.follower = None;
    }

    fn hear_news(&mut self, news: News, tags: Vec<Tag>) -> bool {
        match news {
            News::Nothing => return false,
            News::Touched { previous, sequence, everything } => {
                self.hear(Told::Touched { previous, sequence, tags: (!everything).then_some(tags) });
            }
            News::StartOver { sequence } => self.hear(Told::StartOver { sequence }),
        }
        true
    }

    fn hear(&mut self, told: Told) {
        let sequence = match &told {
            Told::Following { sequence, .. }
            | Told::Touched { sequence, .. }
            | Told::Lease { sequence, .. }
            | Told::StartOver { sequence } => *sequence,
        };
        if let Some(stands) = &mut self.stands {
            stands.revision.sequence = sequence;
        }
        self.note(Event::Hears(told));
    }

    fn note(&mut self, event: Event) {
        self.history.push((self.moments.next(), event));
    }
}

#[cfg(test)]
mod tests;
