//! Who waits for which answer, and answers as values of their own.
//!
//! A request's id is the number of its seat here and the number of times the seat was taken, so that an answer that
//! comes twice, or to nobody, is noticed: it ends the connection, because it could be anybody's.

use tokio::sync::oneshot;

use super::answer::{Error, Introspection};
use super::link::Failure;
use super::near::Facts;
use crate::domain::{Confirmation, Epoch, GrantId, Revision, Sequence, TokenHandle};
use crate::wire::ErrorCode;
use crate::wire::message::{Answer, Binding, Item, Outcome};

/// The most places one introspection is believed to have.
const PLACES_MAX: usize = 65_536;

/// The largest API answer that is put together, in bytes.
const API_BYTES_MAX: usize = 4 * 1024 * 1024;

/// An answer, kept.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) revision: Revision,
    pub(super) said: Said,
}

/// What an answer says.
#[derive(Debug)]
pub(super) enum Said {
    Checked(Outcome),
    Facts(Box<Facts>),
    Inactive,
    Active(Box<Introspection>),
    Resolved(Option<u32>),
    Names { first: u8, total: u16, names: Vec<(String, bool)> },
    Done { handle: Option<TokenHandle>, grant: Option<GrantId> },
    Api { status: u16, body: Vec<u8> },
    Error { code: ErrorCode, text: String },
}

type Answers = oneshot::Sender<Result<Vec<Reply>, Failure>>;

/// Everybody who waits for an answer on one connection.
#[derive(Default)]
pub(super) struct Waiting {
    seats: Vec<Seat>,
    free_seats: Vec<u16>,
    jobs: Vec<Option<OpenJob>>,
    free_jobs: Vec<usize>,
    taken: usize,
}

#[derive(Default)]
struct Seat {
    /// How often it was taken, and so half of the id.
    turn: u16,
    /// The job and the place in it that the answer belongs to.
    holder: Option<(usize, usize)>,
    /// What has come of an answer in several parts.
    begun: Option<Reply>,
}

struct OpenJob {
    replies: Vec<Option<Reply>>,
    missing: usize,
    answer: Answers,
}

impl Waiting {
    /// How many answers are missing.
    pub(super) fn len(&self) -> usize {
        self.taken
    }

    pub(super) fn is_empty(&self) -> bool {
        self.taken == 0
    }

    /// Seats for `count` requests of one job; the ids to send them under, in order. There are 65,536 seats, more than a
    /// link ever has in flight; a job that finds none is answered that it was not sent.
    pub(super) fn expect(&mut self, count: usize, answer: Answers) -> Vec<u32> {
        if self.taken + count > usize::from(u16::MAX) {
            let _ = answer.send(Err(Failure { error: Error::Overloaded, sent: false }));
            return Vec::new();
        }
        let open = OpenJob { replies: (0..count).map(|_| None).collect(), missing: count, answer };
        let job = match self.free_jobs.pop() {
            Some(job) => job,
            None => {
                self.jobs.push(None);
                self.jobs.len() - 1
            }
        };
        if let Some(slot) = self.jobs.get_mut(job) {
            *slot = Some(open);
        }
        (0..count).map(|position| self.sit_down(job, position)).collect()
    }

    fn sit_down(&mut self, job: usize, position: usize) -> u32 {
        let number = match self.free_seats.pop() {
            Some(number) => number,
            None => {
                self.seats.push(Seat::default());
                u16::try_from(self.seats.len() - 1).unwrap_or(u16::MAX)
            }
        };
        self.taken += 1;
        let Some(seat) = self.seats.get_mut(usize::from(number)) else { return 0 };
        seat.turn = seat.turn.wrapping_add(1);
        seat.holder = Some((job, position));
        u32::from(seat.turn) << 16 | u32::from(number)
    }

    /// Hands an answer to whoever waits for it. Returns the sequence it was computed at, if it says one.
    ///
    /// # Errors
    /// Nobody waits for it, or it cannot follow what came before: the connection cannot be trusted any more.
    pub(super) fn answer(&mut self, id: u32, epoch: Epoch, answer: &Answer<'_>) -> Result<Option<Sequence>, String> {
        let number = (id & 0xffff) as u16;
        let seat = self.seats.get_mut(usize::from(number));
        let seat = seat.filter(|seat| u32::from(seat.turn) == id >> 16 && seat.holder.is_some());
        let Some(seat) = seat else { return Err(format!("an answer with the id {id}, which nobody waits for")) };
        let begun = seat.begun.take();
        let (reply, more) = put_together(begun, epoch, answer)?;
        let sequence = reply.revision.sequence;
        if more {
            seat.begun = Some(reply);
            return Ok(Some(sequence));
        }
        let Some((job, position)) = seat.holder.take() else { return Ok(Some(sequence)) };
        self.free_seats.push(number);
        self.taken -= 1;
        self.deliver(job, position, reply);
        Ok(Some(sequence))
    }

    fn deliver(&mut self, job: usize, position: usize, reply: Reply) {
        let Some(slot) = self.jobs.get_mut(job) else { return };
        let Some(open) = slot else { return };
        if let Some(place) = open.replies.get_mut(position) {
            *place = Some(reply);
        }
        open.missing = open.missing.saturating_sub(1);
        if open.missing > 0 {
            return;
        }
        if let Some(done) = slot.take() {
            self.free_jobs.push(job);
            // Whoever has stopped waiting needs no answer.
            let _ = done.answer.send(Ok(done.replies.into_iter().flatten().collect()));
        }
    }

    /// The connection is gone: nobody here gets an answer any more.
    pub(super) fn fail_all(&mut self, error: &Error) {
        for open in std::mem::take(&mut self.jobs).into_iter().flatten() {
            let _ = open.answer.send(Err(Failure { error: error.clone(), sent: true }));
        }
        *self = Self::default();
    }
}

/// The answer as a value, put together with what came before it, and whether more is to come.
fn put_together(begun: Option<Reply>, epoch: Epoch, answer: &Answer<'_>) -> Result<(Reply, bool), String> {
    let reply = |sequence: Sequence, said: Said| Reply { revision: Revision { epoch, sequence }, said };
    if let Some(begun) = begun {
        return continued(begun, answer);
    }
    Ok(match answer {
        Answer::Checked { sequence, outcome } => (reply(*sequence, Said::Checked(*outcome)), false),
        Answer::Inactive { sequence } => (reply(*sequence, Said::Inactive), false),
        Answer::Active(token) => {
            let facts = &token.facts;
            let revision = Revision { epoch, sequence: facts.sequence };
            let mut kept = Introspection {
                revision,
                handle: facts.handle,
                grant: facts.grant,
                subject: facts.subject.to_owned(),
                client: facts.client.to_owned(),
                times: facts.times,
                confirmation: facts.binding.map(kept_binding),
                everywhere: facts.everywhere,
                audience: Vec::new(),
                places: Vec::new(),
            };
            add_items(&mut kept, token.items)?;
            (Reply { revision, said: Said::Active(Box::new(kept)) }, token.more)
        }
        Answer::Resolved { sequence, number } => (reply(*sequence, Said::Resolved(*number)), false),
        Answer::Names { sequence, first, total, names } => {
            let names = names.map(|(name, retired)| (name.to_owned(), retired)).collect();
            (reply(*sequence, Said::Names { first: *first, total: *total, names }), false)
        }
        Answer::Done { sequence, handle, grant } => {
            (reply(*sequence, Said::Done { handle: *handle, grant: *grant }), false)
        }
        Answer::Api { sequence, status, more, body } => {
            (reply(*sequence, Said::Api { status: *status, body: body.to_vec() }), *more)
        }
        Answer::Error { sequence, code, text } => {
            (reply(*sequence, Said::Error { code: *code, text: (*text).to_owned() }), false)
        }
        Answer::Facts(facts) => (reply(facts.head.sequence, Said::Facts(Box::new(facts.into()))), false),
        Answer::More { .. } | Answer::Hello(_) | Answer::GoingAway { .. } => {
            return Err("a message that answers nothing".to_owned());
        }
    })
}

fn continued(mut begun: Reply, answer: &Answer<'_>) -> Result<(Reply, bool), String> {
    let more = match (&mut begun.said, answer) {
        (Said::Active(kept), Answer::More { more, items }) => {
            add_items(kept, *items)?;
            *more
        }
        (Said::Api { status, body }, Answer::Api { status: same, more, body: part, .. }) if status == same => {
            if body.len() + part.len() > API_BYTES_MAX {
                return Err("an API answer of more than 4 MiB".to_owned());
            }
            body.extend_from_slice(part);
            *more
        }
        // The rest could not be worked out: there is no answer, whatever came before.
        (_, Answer::Error { code, text, .. }) => {
            begun.said = Said::Error { code: *code, text: (*text).to_owned() };
            false
        }
        _ => return Err("a message that does not continue the one before".to_owned()),
    };
    Ok((begun, more))
}

fn add_items<'b>(kept: &mut Introspection, items: impl Iterator<Item = Item<'b>>) -> Result<(), String> {
    for item in items {
        match item {
            Item::Audience(name) => kept.audience.push(name.to_owned()),
            Item::Place(place, scopes) => kept.places.push((place.to_owned(), scopes)),
        }
        if kept.places.len() > PLACES_MAX || kept.audience.len() > PLACES_MAX {
            return Err(format!("a token with more than {PLACES_MAX} places"));
        }
    }
    Ok(())
}

fn kept_binding(binding: Binding<'_>) -> Confirmation {
    match binding {
        Binding::Certificate(hash) => Confirmation::Certificate(hash),
        Binding::DpopKey(hash) => Confirmation::DpopKey(hash),
        Binding::Other(json) => Confirmation::Other(json.into()),
    }
}
