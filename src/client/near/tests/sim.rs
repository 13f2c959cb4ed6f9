//! A server, a follower with what it holds, and everything that can go wrong between them, in virtual time.
//!
//! Each stream delivers in order; different streams overtake each other freely. Connections break with messages on the
//! way; the server starts anew, with the same list or an older one under a higher epoch; the follower is stopped and goes
//! on; clocks run at different speeds, stand still and jump. After each answer from memory it is asked what the answer
//! was at the server within the last lease; and after a fence, what it was since.

use std::collections::VecDeque;
use std::time::Duration;

use crate::client::answer::Decision;
use crate::client::near::belief::Ticket;
use crate::client::near::clock::Moment;
use crate::client::near::follow::Follower;
use crate::client::near::memory::{Memory, Question};
use crate::client::near::scopes::Resolved;
use crate::client::near::table::Facts;
use crate::domain::{Epoch, Revision, Sequence};
use crate::wire::Split;
use crate::wire::decode::split;
use crate::wire::follow::{
    Announced, Follower as Said, Resume, read_announced, read_follower, write_announced, write_follower, write_touched,
};

use super::dice::Dice;
use super::model::{PLACES, SCOPES, State, TOKENS, Touch, digest};

const MS: u64 = 1_000_000;
/// What the server grants.
const LEASE: u64 = 10_000 * MS;
/// Events of a case.
const STEPS: usize = 160;
/// The longest a message is on its way.
const DELAY: u64 = 3_000 * MS;

/// A mistake a near-cache could make; each has to be found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// Invalidation is ignored.
    StampsIgnored,
    /// An answer counts as of the moment it came, not as of the change it was given at.
    SequenceOfArrival,
    /// What is held survives a lost connection.
    KeptOverReconnect,
    /// A lease is counted from its receipt.
    LeaseFromReceipt,
    /// What was announced is acknowledged first and applied later.
    AcknowledgedFirst,
}

/// A message of the feed, as it travels.
type Bytes = Vec<u8>;

fn announced(bytes: &[u8]) -> Announced<'_> {
    match split(bytes) {
        Ok(Split::Whole(raw, _)) => read_announced(&raw).expect("what the server wrote can be read"),
        other => panic!("{other:?}"),
    }
}

fn said(bytes: &[u8]) -> Said {
    match split(bytes) {
        Ok(Split::Whole(raw, _)) => read_follower(&raw).expect("what the follower wrote can be read"),
        other => panic!("{other:?}"),
    }
}

fn bytes_of(said: &Said) -> Bytes {
    let mut bytes = Vec::new();
    write_follower(&mut bytes, said);
    bytes
}

/// A stream: things in order, each with the moment it arrives.
struct Stream<T> {
    queue: VecDeque<(u64, T)>,
    last: u64,
}

impl<T> Stream<T> {
    fn new() -> Self {
        Self { queue: VecDeque::new(), last: 0 }
    }

    fn send(&mut self, now: u64, delay: u64, item: T) {
        self.last = self.last.max(now + delay);
        self.queue.push_back((self.last, item));
    }

    fn next(&self) -> u64 {
        self.queue.front().map_or(u64::MAX, |(at, _)| *at)
    }
}

/// A connection that carries the feed.
struct Feed {
    down: Stream<Bytes>,
    up: Stream<Bytes>,
    /// Its place in the server's register; `None`: not yet, or a server that is gone.
    registered: Option<usize>,
    /// The server's start it was made to.
    incarnation: u64,
    /// When the follower notices that it is broken.
    broken_at: Option<u64>,
    /// When what is sent was sent, by the follower's clock.
    sent: VecDeque<Moment>,
}

struct Registered {
    acknowledged: u64,
    /// By the server's clock.
    until: u64,
    cursor: u64,
}

struct Server {
    incarnation: u64,
    epoch: u64,
    states: Vec<State>,
    touches: Vec<Touch>,
    register: Vec<Registered>,
    /// Start, by its clock.
    started: u64,
}

struct Asked {
    token: usize,
    scope: usize,
    place: usize,
    ticket: Ticket,
    asked_at: u64,
}

struct Answered {
    question: Asked,
    facts: Option<Facts>,
    resolved: Resolved,
    epoch: u64,
}

/// A run; see the top of this file.
pub struct Sim {
    dice: Dice,
    flaw: Option<Flaw>,
    now: u64,
    /// Millionths by which the follower's clock is fast.
    rate: i64,
    /// For how long the server's clock has stood still.
    stalled: u64,
    /// By how much its wall clock was set forward, and when last.
    stepped: u64,
    stepped_at: u64,
    server: Server,
    /// Everything that was ever so: since when, and what.
    timeline: Vec<(u64, State)>,
    fences: Vec<(u64, usize)>,
    /// From here in the timeline on, after the fences that have returned.
    floor: usize,
    memory: Memory,
    follower: Follower,
    feed: Option<Feed>,
    requests: Stream<Asked>,
    replies: Stream<Answered>,
    /// With [`Flaw::KeptOverReconnect`]: what a careless cache would still hold.
    kept: Vec<(usize, usize, Facts)>,
    /// What was asked of late: token, scope, place.
    recent: VecDeque<(usize, usize, usize)>,
    /// With [`Flaw::AcknowledgedFirst`]: heard, not yet applied.
    late: Stream<Bytes>,
    pub hits: u64,
    pub fences_returned: u64,
    pub resumed: u64,
    /// How often a follower found its server breaking the protocol, which none here does.
    pub broken: u64,
}

impl Sim {
    pub fn new(seed: u64, flaw: Option<Flaw>) -> Self {
        let mut dice = Dice::new(seed);
        let state = State::new(1_000_000, &mut dice);
        let rate = dice.below(20_001) as i64 - 10_000;
        let server = Server {
            incarnation: dice.next(),
            epoch: 1,
            states: vec![state, state],
            touches: vec![Touch::Nothing, Touch::Nothing],
            register: Vec::new(),
            started: 0,
        };
        Self {
            flaw,
            now: 1,
            rate,
            stalled: 0,
            stepped: 0,
            stepped_at: 0,
            server,
            timeline: vec![(0, state)],
            fences: Vec::new(),
            floor: 0,
            // Small, so that slots are shared and entries are driven out.
            memory: Memory::new(8, 1 << dice.below(8)),
            // It would believe more than the server grants.
            follower: Follower::new(Duration::from_nanos(4 * LEASE)),
            feed: None,
            requests: Stream::new(),
            replies: Stream::new(),
            kept: Vec::new(),
            recent: VecDeque::new(),
            late: Stream::new(),
            hits: 0,
            fences_returned: 0,
            resumed: 0,
            broken: 0,
            dice,
        }
    }

    /// Runs it.
    ///
    /// # Errors
    /// An answer that never was right when it could have been; in words.
    pub fn run(&mut self) -> Result<(), String> {
        for _ in 0..STEPS {
            let step = match self.dice.below(10) {
                0 => LEASE / 4,
                1..=3 => LEASE / 40,
                _ => LEASE / 400,
            };
            let until = self.now + self.dice.next() % step;
            self.advance(until)?;
            self.act()?;
            for _ in 0..self.dice.below(4) {
                self.look()?;
            }
        }
        Ok(())
    }

    // ---- clocks ----

    fn client_clock(&self) -> Moment {
        let fast = i128::from(self.now) * i128::from(self.rate) / 1_000_000;
        Moment((i128::from(self.now) + fast + 77_000_000_000) as u64)
    }

    fn server_clock(&self) -> u64 {
        self.now - self.stalled
    }

    fn wall_ms(&self) -> u64 {
        1_000_000_000 + (self.server_clock() + self.stepped) / MS
    }

    fn wall(&self) -> u32 {
        (self.wall_ms() / 1_000) as u32
    }

    // ---- what happens ----

    fn act(&mut self) -> Result<(), String> {
        if self.feed.is_none() && self.dice.chance(40) {
            self.connect();
        }
        match self.dice.below(100) {
            0..=24 => self.change(),
            25..=64 => self.ask(),
            65..=84 => self.pump(),
            85..=87 => self.cut(),
            88 => self.restart(),
            // The follower is stopped; when it goes on it answers before it has read anything.
            89..=90 => {
                self.now += self.dice.next() % (2 * LEASE);
                self.fences_return();
                for _ in 0..3 {
                    self.look()?;
                }
            }
            91 => self.stalled += (self.dice.next() % LEASE).min(self.now - self.stalled - self.server.started),
            92 => {
                self.stepped += self.dice.next() % (20_000 * MS);
                self.stepped_at = self.now;
            }
            93..=94 => {
                let sequence = self.head();
                self.pump();
                let mut bytes = Vec::new();
                write_announced(&mut bytes, &Announced::StartOver { sequence: Sequence(sequence) });
                self.send_down(bytes);
            }
            _ => self.connect(),
        }
        Ok(())
    }

    fn head(&self) -> u64 {
        self.server.states.len() as u64 - 1
    }

    fn change(&mut self) {
        let mut state = *self.server.states.last().expect("a state");
        let sequence = self.head() + 1;
        let touch = state.change(sequence, self.server.incarnation, &mut self.dice);
        self.server.states.push(state);
        self.server.touches.push(touch);
        self.timeline.push((self.now, state));
        if self.dice.chance(60) {
            self.fences.push((sequence, self.timeline.len() - 1));
        }
        if self.dice.chance(70) {
            self.pump();
        }
    }

    /// Announces what the follower has not been told.
    fn pump(&mut self) {
        let head = self.head();
        let Some(feed) = self.feed.as_mut().filter(|feed| feed.incarnation == self.server.incarnation) else { return };
        let Some(follower) = feed.registered.and_then(|number| self.server.register.get_mut(number)) else { return };
        if follower.cursor == head {
            return;
        }
        let (previous, mut tags, mut everything) = (follower.cursor, Vec::new(), false);
        for touch in &self.server.touches[previous as usize + 1..] {
            match touch {
                Touch::Nothing => {}
                Touch::Everything => everything = true,
                Touch::Tag(tag) => tags.push(*tag),
            }
        }
        follower.cursor = head;
        let delay = self.dice.delay(DELAY);
        let mut bytes = Vec::new();
        write_touched(&mut bytes, Sequence(previous), Sequence(head), (!everything).then_some(tags));
        feed.down.send(self.now, delay, bytes);
    }

    fn send_down(&mut self, message: Bytes) {
        let Some(feed) = self.feed.as_mut().filter(|feed| feed.incarnation == self.server.incarnation) else { return };
        if feed.registered.is_some() {
            let delay = self.dice.delay(DELAY);
            feed.down.send(self.now, delay, message);
        }
    }

    /// The connections break; what is on the way may be lost, and the follower notices now or later.
    fn cut(&mut self) {
        let later = if self.dice.chance(50) { 0 } else { self.dice.next() % (2 * LEASE) };
        if let Some(feed) = &mut self.feed {
            // The server notices at once: it hears no more, and registers nothing more.
            feed.registered = None;
            feed.up.queue.clear();
            let keep = self.dice.below(feed.down.queue.len() + 1);
            feed.down.queue.truncate(keep);
            feed.broken_at.get_or_insert(self.now + later);
        }
        if self.dice.chance(50) {
            self.requests.queue.clear();
            let keep = self.dice.below(self.replies.queue.len() + 1);
            self.replies.queue.truncate(keep);
        }
    }

    fn restart(&mut self) {
        self.cut();
        self.requests.queue.clear();
        self.server.incarnation = self.dice.next();
        self.server.register.clear();
        self.server.started = self.server_clock();
        // Who waited for a fence was not answered.
        self.fences.clear();
        if self.dice.chance(30) {
            // A backup: the end of the list is gone, and the epoch says so.
            let keep = 2 + self.dice.below(self.server.states.len() - 1);
            self.server.states.truncate(keep);
            self.server.touches.truncate(keep);
            self.server.epoch += 1;
            let state = *self.server.states.last().expect("a state");
            self.timeline.push((self.now, state));
        }
    }

    fn connect(&mut self) {
        if self.feed.is_some() {
            return;
        }
        let moment = self.client_clock();
        let follow = self.follower.connected(Epoch(self.server.epoch), moment);
        let mut feed = Feed {
            down: Stream::new(),
            up: Stream::new(),
            registered: None,
            incarnation: self.server.incarnation,
            broken_at: None,
            sent: VecDeque::new(),
        };
        let delay = self.dice.delay(DELAY);
        feed.up.send(self.now, delay, bytes_of(&follow));
        self.feed = Some(feed);
        self.speak();
    }

    fn any(&mut self) -> (usize, usize, usize) {
        (self.dice.below(TOKENS), self.dice.below(SCOPES.len()), self.dice.below(PLACES.len()))
    }

    fn ask(&mut self) {
        let (token, scope, place) = self.any();
        self.recent.push_back((token, scope, place));
        if self.recent.len() > 4 {
            self.recent.pop_front();
        }
        let asked = Asked { token, scope, place, ticket: self.memory.ticket(), asked_at: self.now };
        let delay = self.dice.delay(DELAY);
        self.requests.send(self.now, delay, asked);
    }

    // ---- what arrives ----

    fn advance(&mut self, to: u64) -> Result<(), String> {
        loop {
            let (down, up, broken) = self.feed.as_ref().map_or((u64::MAX, u64::MAX, u64::MAX), |feed| {
                (feed.down.next(), feed.up.next(), feed.broken_at.unwrap_or(u64::MAX))
            });
            let times = [down, up, broken, self.requests.next(), self.replies.next(), self.late.next()];
            let (which, at) = times.into_iter().enumerate().min_by_key(|(_, at)| *at).expect("six");
            if at > to {
                break;
            }
            self.now = self.now.max(at);
            self.fences_return();
            match which {
                0 => self.down_arrives(),
                1 => self.up_arrives(),
                2 => self.noticed(),
                3 => self.question_arrives(),
                4 => self.answer_arrives()?,
                _ => {
                    let heard = self.late.queue.pop_front();
                    heard.into_iter().for_each(|(_, message)| self.hear(&message));
                }
            }
            self.speak();
        }
        self.now = self.now.max(to);
        self.speak();
        self.fences_return();
        Ok(())
    }

    fn noticed(&mut self) {
        self.feed = None;
        self.late.queue.clear();
        self.follower.lost();
    }

    fn down_arrives(&mut self) {
        let Some((_, bytes)) = self.feed.as_mut().and_then(|feed| feed.down.queue.pop_front()) else { return };
        if self.flaw == Some(Flaw::AcknowledgedFirst) {
            if let Announced::Touched { sequence, .. } = announced(&bytes) {
                let acknowledge = bytes_of(&Said::Acknowledge { sequence });
                let feed = self.feed.as_mut().expect("it was there");
                feed.up.send(self.now, 0, acknowledge);
            }
            let delay = self.dice.delay(DELAY);
            return self.late.send(self.now, delay, bytes);
        }
        self.hear(&bytes);
    }

    fn hear(&mut self, bytes: &[u8]) {
        let moment = self.client_clock();
        let mut heard = announced(bytes);
        let no_tags;
        match &mut heard {
            Announced::Lease { lease_ms, .. } => {
                let sent = self.feed.as_mut().and_then(|feed| feed.sent.pop_front()).unwrap_or(moment);
                if self.flaw == Some(Flaw::LeaseFromReceipt) {
                    *lease_ms += moment.since(sent).as_millis() as u32;
                }
            }
            Announced::Touched { previous, sequence, .. } if self.flaw == Some(Flaw::StampsIgnored) => {
                let mut bytes = Vec::new();
                write_touched(&mut bytes, *previous, *sequence, Some([]));
                no_tags = bytes;
                heard = announced(&no_tags);
            }
            _ => {}
        }
        if self.follower.hear(&heard, moment, &self.memory.belief).is_err() {
            self.broken += 1;
            return self.noticed();
        }
        if let (Some(Flaw::KeptOverReconnect), Announced::Following { resumed: false, incarnation, sequence, .. }) =
            (self.flaw, heard)
        {
            let ticket = self.memory.ticket();
            for (token, place, facts) in std::mem::take(&mut self.kept) {
                let facts = Facts { incarnation, sequence: sequence.0, ..facts };
                self.memory.keep(ticket, &digest(token), PLACES[place], &facts, moment);
            }
        }
    }

    /// The follower sends what is due.
    fn speak(&mut self) {
        let moment = self.client_clock();
        while let Some(feed) = &mut self.feed {
            match self.follower.due(moment) {
                Ok(None) => return,
                Ok(Some(say)) => {
                    if matches!(say, Said::Renew { .. }) {
                        feed.sent.push_back(moment);
                    }
                    let delay = self.dice.delay(DELAY);
                    if feed.incarnation == self.server.incarnation && feed.broken_at.is_none() {
                        feed.up.send(self.now, delay, bytes_of(&say));
                    }
                }
                Err(_) => return self.noticed(),
            }
        }
    }

    fn up_arrives(&mut self) {
        let (clock, head) = (self.server_clock(), Sequence(self.head()));
        let (lease_ms, server_time_ms) = ((LEASE / MS) as u32, self.server_ms());
        let Some(feed) = &mut self.feed else { return };
        let Some((_, bytes)) = feed.up.queue.pop_front() else { return };
        if feed.incarnation != self.server.incarnation {
            return;
        }
        let said = said(&bytes);
        let acknowledged = match said {
            Said::Follow { id, resume, .. } => {
                let Server { epoch, incarnation, .. } = self.server;
                let known = |resume: &Resume| {
                    let Revision { epoch: at, sequence } = resume.revision;
                    // A ring of a few touches.
                    at.0 == epoch && resume.incarnation == incarnation && sequence <= head && sequence.0 + 6 >= head.0
                };
                let resume = resume.filter(known);
                let sequence = resume.map_or(head, |resume| resume.revision.sequence);
                feed.registered = Some(self.server.register.len());
                let follower = Registered { acknowledged: 0, until: clock, cursor: sequence.0 };
                self.server.register.push(follower);
                let resumed = resume.is_some();
                self.resumed += u64::from(resumed);
                let mut bytes = Vec::new();
                let following = Announced::Following { id, resumed, incarnation, sequence, lease_ms, server_time_ms };
                write_announced(&mut bytes, &following);
                return self.send_down(bytes);
            }
            Said::Renew { acknowledged, .. } => acknowledged,
            Said::Acknowledge { sequence } => sequence,
        };
        let Some(follower) = feed.registered.and_then(|number| self.server.register.get_mut(number)) else { return };
        follower.acknowledged = follower.acknowledged.max(acknowledged.0);
        if let Said::Renew { id, .. } = said {
            follower.until = clock + LEASE;
            self.pump();
            let lease = Announced::Lease { id, previous: head, sequence: head, lease_ms, server_time_ms };
            let mut bytes = Vec::new();
            write_announced(&mut bytes, &lease);
            self.send_down(bytes);
        }
    }

    /// What the server says its wall clock is: in some runs as coarse as its seconds.
    fn server_ms(&self) -> u64 {
        if self.rate % 2 == 0 { self.wall_ms() } else { self.wall_ms() / 1_000 * 1_000 }
    }

    fn question_arrives(&mut self) {
        let Some((_, question)) = self.requests.queue.pop_front() else { return };
        let (head, wall) = (self.head(), self.wall());
        let state = self.server.states[head as usize];
        let at = (head, self.server.incarnation, self.server.incarnation);
        let facts = state.facts(question.token, question.place, wall, at);
        let resolved = Resolved { position: state.position(question.scope), sequence: head };
        let delay = self.dice.delay(DELAY);
        let twice = self.dice.chance(10).then(|| Answered {
            question: Asked { ..question },
            facts: facts.clone(),
            resolved,
            epoch: self.server.epoch,
        });
        self.replies.send(self.now, delay, Answered { question, facts, resolved, epoch: self.server.epoch });
        if let Some(twice) = twice {
            let delay = self.dice.delay(DELAY);
            self.replies.send(self.now, delay, twice);
        }
    }

    fn answer_arrives(&mut self) -> Result<(), String> {
        let Some((_, answered)) = self.replies.queue.pop_front() else { return Ok(()) };
        let Answered { question, facts, mut resolved, epoch } = answered;
        let Some(mut facts) = facts else { return Ok(()) };
        if let Some(decision) = self.memory.fresh(&facts, &resolved) {
            self.judge(&question, decision, question.asked_at, 0)?;
        }
        if self.flaw == Some(Flaw::SequenceOfArrival) {
            facts.sequence = self.memory.belief.position();
            resolved.sequence = facts.sequence;
        }
        if self.flaw == Some(Flaw::KeptOverReconnect) {
            self.kept.push((question.token, question.place, facts.clone()));
        }
        let (token, place) = (digest(question.token), PLACES[question.place]);
        self.memory.keep_scope(question.ticket, Epoch(epoch), SCOPES[question.scope], resolved);
        self.memory.keep(question.ticket, &token, place, &facts, self.client_clock());
        self.follower.nudge(facts.sequence, self.client_clock());
        Ok(())
    }

    /// Fences whose followers have all acknowledged or have no lease any more.
    fn fences_return(&mut self) {
        let clock = self.server_clock();
        let grace = self.server.started > 0 && clock < self.server.started + LEASE;
        let register = &self.server.register;
        let (mut floor, before) = (self.floor, self.fences.len());
        self.fences.retain(|(sequence, at)| {
            let waits = grace || register.iter().any(|one| one.acknowledged < *sequence && clock < one.until);
            if !waits {
                floor = floor.max(*at);
            }
            waits
        });
        self.floor = floor;
        self.fences_returned += (before - self.fences.len()) as u64;
    }

    // ---- what is claimed ----

    fn look(&mut self) -> Result<(), String> {
        // Mostly what was asked of late: that is what is held.
        let (token, scope, place) = match self.recent.get(self.dice.below(5)) {
            Some(recent) => *recent,
            None => self.any(),
        };
        let digest = digest(token);
        let question = Question { digest: &digest, scope: SCOPES[scope], place: PLACES[place], floor: None };
        let Some(decision) = self.memory.look(&question, self.client_clock()) else { return Ok(()) };
        self.hits += 1;
        let asked = Asked { token, scope, place, ticket: self.memory.ticket(), asked_at: self.now };
        self.judge(&asked, decision, self.now.saturating_sub(LEASE), self.floor)?;
        let state = &self.timeline.last().expect("a state").1;
        if self.stepped_at.saturating_add(LEASE) < self.now && self.wall() >= state.expiry[token] {
            return Err(format!("at {} ms: an expired token was answered from memory", self.now / MS));
        }
        Ok(())
    }

    /// Whether `decision` was the answer at some place in the list since `from`, and not before `floor`.
    fn judge(&self, asked: &Asked, decision: Decision, from: u64, floor: usize) -> Result<(), String> {
        let Asked { token, scope, place, .. } = *asked;
        // The earliest wall time within the window; a token's time only ever ends.
        let wall = (self.wall_ms().saturating_sub((self.now - from) / MS) / 1_000) as u32;
        let earliest = if self.stepped_at >= from { 0 } else { wall };
        let mut was = Vec::new();
        for (number, (_, state)) in self.timeline.iter().enumerate().skip(floor).rev() {
            for wall in [self.wall(), earliest] {
                let right = state.answer(token, scope, place, wall);
                if right == decision {
                    return Ok(());
                }
                was.push((number, right));
            }
            // Older ones ended before the window began.
            if self.timeline[number].0 < from {
                break;
            }
        }
        was.dedup();
        Err(format!(
            "at {} ms: token {token}, {} at {}: memory says {decision:?}; at the server it was {was:?} since {} ms \
             (fenced from {floor} on)",
            self.now / MS,
            SCOPES[scope],
            PLACES[place],
            from / MS
        ))
    }
}
