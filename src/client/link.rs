//! One connection to one server, kept up: a task that takes requests from a queue, writes them in as few packets as it
//! can, and hands the answers back.
//!
//! Natural batching: whatever waits in the queue goes out in one write; there is no timer. The task never stops reading
//! while it writes, so that the two sides cannot wait for each other. When the connection is lost, everything that was
//! sent and not answered fails, what was not sent is handed back unsent, and the next server is tried after a pause
//! that grows and is shaken.
//!
//! Not here: which link a request takes, and whether it is tried again (`mod.rs`).

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quinn::{Connection, Endpoint, ReadError, SendStream, WriteError};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::answer::Error;
use super::dial::{Dial, lost};
use super::reply::{Reply, Waiting};
use crate::domain::{Epoch, Revision, Sequence};
use crate::wire::message::{Answer, ErrorCode};
use crate::wire::{CloseCode, STREAM_REQUESTS, Split, decode, encode};

/// Requests are taken from the queue while fewer bytes than this wait to be sent.
const OUTPUT_BYTES: usize = 64 * 1024;

/// Jobs taken from the queue at once.
const JOBS: usize = 256;

/// Changes in flight on one link, whatever the server would take.
const CHANGES_MAX: u32 = 4_096;

/// What the input buffer holds, in bytes: more than the largest message.
pub(super) const INPUT_BYTES: usize = 64 * 1024;

/// The first pause between two attempts to connect.
pub(super) const BACKOFF_FIRST: Duration = Duration::from_millis(50);

/// How long the packet that closes a connection may take to leave. Its sender runs beside us and needs moments; nobody
/// waits for the other side to confirm it.
const LAST_WORDS: Duration = Duration::from_millis(10);

/// What the links of a client share.
pub(super) struct Common {
    pub(super) dial: Dial,
    pub(super) servers: Vec<(SocketAddr, String)>,
    pub(super) connect_deadline: Duration,
    pub(super) backoff_max: Duration,
    pub(super) in_flight_max: usize,
    /// The revision of the last change this client made; questions demand it, if they are to.
    pub(super) floor: Mutex<Option<Revision>>,
    /// The same for readers that may not wait: epoch and sequence. A zero sequence: none.
    pub(super) floor_seen: (AtomicU64, AtomicU64),
    /// Bumped whenever a link comes up or goes down, for those who wait for one.
    pub(super) changed: watch::Sender<u64>,
    /// Set once, when the client is closed: links finish what is in flight and end.
    pub(super) closing: watch::Sender<bool>,
}

impl Common {
    pub(super) fn floor(&self) -> Option<Revision> {
        *self.floor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn raise_floor(&self, to: Revision) {
        let mut floor = self.floor.lock().unwrap_or_else(PoisonError::into_inner);
        let raised = floor.map_or(to, |floor| floor.max(to));
        *floor = Some(raised);
        self.floor_seen.0.store(raised.epoch.0, Ordering::Release);
        self.floor_seen.1.store(raised.sequence.0, Ordering::Release);
    }

    /// [`Common::floor`] without a lock. While it is being raised to another epoch it may be seen half way, which
    /// nobody can tell from before: the change that raises it has not been answered yet.
    pub(super) fn floor_now(&self) -> Option<Revision> {
        let sequence = Sequence(self.floor_seen.1.load(Ordering::Acquire));
        let epoch = Epoch(self.floor_seen.0.load(Ordering::Acquire));
        (sequence > Sequence::ZERO).then_some(Revision { epoch, sequence })
    }
}

/// What a question demands of the revision it is answered at.
#[derive(Clone, Copy, Debug)]
pub(super) enum Demand {
    Nothing,
    /// At least this client's own last change.
    OwnChanges,
    /// At least this.
    AtLeast(Revision),
}

/// One or more requests that are sent together and answered together.
pub(super) struct Job {
    /// The messages, as the encoder wrote them, their ids to be filled in.
    pub(super) bytes: Vec<u8>,
    /// How many they are; at least one.
    pub(super) count: usize,
    pub(super) demand: Demand,
    /// The numbers in them are of this epoch.
    pub(super) epoch: Option<Epoch>,
    pub(super) answer: oneshot::Sender<Result<Vec<Reply>, Failure>>,
}

/// Why a job has no answers.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    /// Whether anything of it was sent.
    pub(super) sent: bool,
}

/// The outside of a link.
pub(super) struct Link {
    pub(super) queue: mpsc::Sender<Job>,
    pub(super) state: Arc<State>,
    /// Taken by whoever waits for its end.
    task: Mutex<Option<JoinHandle<()>>>,
}

/// How a link is.
pub(super) struct State {
    /// Whether it takes requests.
    pub(super) up: AtomicBool,
    /// Requests in a row that were not answered in time.
    pub(super) late: AtomicU32,
    /// Why it is not up.
    pub(super) why: Mutex<Option<Error>>,
    /// The connection, for streams of other sorts than requests: a feed. Usable while the link is up.
    pub(super) connection: Mutex<Option<Connection>>,
    /// As many more changes and API requests as the server takes before it has answered some: beyond, it says "busy".
    /// Nothing before the first hello.
    pub(super) changes: Semaphore,
    /// How many that is with none in flight.
    changes_max: AtomicU32,
}

impl Default for State {
    fn default() -> Self {
        Self {
            up: AtomicBool::default(),
            late: AtomicU32::default(),
            why: Mutex::default(),
            connection: Mutex::default(),
            changes: Semaphore::new(0),
            changes_max: AtomicU32::new(0),
        }
    }
}

impl State {
    /// Why it is not up, if it has been tried.
    pub(super) fn reason(&self) -> Option<Error> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn carry(&self, connection: Option<Connection>) {
        *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = connection;
    }

    /// Takes over what the server says of changes in flight; another connection may lead to a server that takes fewer.
    fn admits_changes(&self, max: u32) {
        let max = max.clamp(1, CHANGES_MAX);
        let before = self.changes_max.swap(max, Ordering::AcqRel);
        self.changes.add_permits(max.saturating_sub(before) as usize);
        self.changes.forget_permits(before.saturating_sub(max) as usize);
    }

    fn is_down(&self, common: &Common, why: &Error) {
        self.up.store(false, Ordering::Release);
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.clone());
        common.changed.send_modify(|times| *times += 1);
    }
}

impl Link {
    /// Starts a link whose first attempt is at server `first`. It ends when the last sender of its queue is dropped.
    pub(super) fn start(common: Arc<Common>, first: usize, queue_max: usize) -> Self {
        let (queue, jobs) = mpsc::channel(queue_max.max(1));
        let state = Arc::new(State::default());
        let task = tokio::spawn(keep_up(common, first, jobs, state.clone()));
        Self { queue, state, task: Mutex::new(Some(task)) }
    }

    /// The task, for the first who asks.
    pub(super) fn take_task(&self) -> Option<JoinHandle<()>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Why a conversation ended.
enum End {
    /// Nobody holds the client any more, and everything is answered.
    Done,
    /// The server asked to leave, and everything is answered.
    Left,
    Lost(Error),
}

async fn keep_up(common: Arc<Common>, first: usize, mut jobs: mpsc::Receiver<Job>, state: Arc<State>) {
    let mut number = first;
    let mut pause = BACKOFF_FIRST;
    let mut closing = common.closing.subscribe();
    loop {
        let Some(server) = common.servers.get(number % common.servers.len().max(1)) else { return };
        let dialled = tokio::select! {
            dialled = common.dial.connect(server) => dialled,
            _ = closing.wait_for(|closing| *closing) => Err(Error::Closed),
        };
        let error = match dialled {
            Ok((endpoint, connection)) => {
                let mut talk = Talk::new(&common, &state);
                state.carry(Some(connection.clone()));
                let end = talk.run(&connection, &mut jobs).await;
                state.carry(None);
                let error = match &end {
                    End::Done => Error::Closed,
                    End::Left => Error::Unavailable("the server asked to leave".to_owned()),
                    End::Lost(error) => error.clone(),
                };
                state.is_down(&common, &error);
                talk.waiting.fail_all(&error);
                hang_up(&endpoint, &connection, &end).await;
                if matches!(end, End::Done) {
                    return;
                }
                if talk.was_up {
                    pause = BACKOFF_FIRST;
                }
                error
            }
            Err(error) => error,
        };
        state.is_down(&common, &error);
        number = number.wrapping_add(1);
        // A caller that is not known will not be known in a moment either.
        let most = if matches!(error, Error::Unauthorized(_)) { common.backoff_max * 5 } else { common.backoff_max };
        let rest = shaken(pause.min(most));
        pause = if matches!(error, Error::Unauthorized(_)) { most } else { (pause * 2).min(most) };
        // Whoever still waits here is sent on; nobody is kept waiting for a link that is down.
        let wait = sleep(rest);
        tokio::pin!(wait);
        loop {
            tokio::select! {
                job = jobs.recv() => match job {
                    Some(job) => give_back(job, &error),
                    None => return,
                },
                _ = closing.wait_for(|closing| *closing), if !jobs.is_closed() => jobs.close(),
                () = &mut wait, if !jobs.is_closed() => break,
            }
        }
    }
}

async fn hang_up(endpoint: &Endpoint, connection: &Connection, end: &End) {
    let code = match end {
        End::Done | End::Left => CloseCode::Done,
        End::Lost(Error::Protocol(_)) => CloseCode::Malformed,
        End::Lost(_) => CloseCode::Internal,
    };
    connection.close(u32::from(code as u8).into(), code.as_str().as_bytes());
    let _ = timeout(LAST_WORDS, endpoint.wait_idle()).await;
}

fn give_back(job: Job, error: &Error) {
    // Whoever has stopped waiting needs no answer.
    let _ = job.answer.send(Err(Failure { error: error.clone(), sent: false }));
}

/// Between a half and the whole of `pause`, so that clients that lost one server do not all come back at once.
pub(super) fn shaken(pause: Duration) -> Duration {
    let mut random = [0; 2];
    if SystemRandom::new().fill(&mut random).is_err() {
        return pause;
    }
    let part = f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX);
    pause.mul_f64(0.5 + part / 2.0)
}

/// One connection, from its first stream to its end.
struct Talk<'c> {
    common: &'c Common,
    state: &'c State,
    waiting: Waiting,
    output: Vec<u8>,
    sent: usize,
    /// What the server said it is at, at the most. `None` before its hello.
    at: Option<Revision>,
    in_flight_max: usize,
    leaving: bool,
    was_up: bool,
}

impl<'c> Talk<'c> {
    fn new(common: &'c Common, state: &'c State) -> Self {
        Self {
            common,
            state,
            waiting: Waiting::default(),
            output: vec![STREAM_REQUESTS],
            sent: 0,
            at: None,
            in_flight_max: common.in_flight_max,
            leaving: false,
            was_up: false,
        }
    }

    async fn run(&mut self, connection: &Connection, jobs: &mut mpsc::Receiver<Job>) -> End {
        let opened = timeout(self.common.connect_deadline, connection.open_bi()).await;
        let (mut send, mut receive) = match opened {
            Ok(Ok(streams)) => streams,
            Ok(Err(error)) => return End::Lost(lost(&error)),
            Err(_) => return End::Lost(Error::Unavailable("the server opens no stream".to_owned())),
        };
        let mut input = vec![0; INPUT_BYTES];
        let mut filled = 0;
        let mut taken = Vec::with_capacity(JOBS);
        let mut dropped = false;
        let mut closing = self.common.closing.subscribe();
        let hello_deadline = sleep(self.common.connect_deadline);
        tokio::pin!(hello_deadline);
        loop {
            let all_sent = self.sent == self.output.len();
            if all_sent {
                self.output.clear();
                self.sent = 0;
            }
            if all_sent && self.waiting.is_empty() && (self.leaving || dropped) {
                let _ = send.finish();
                return if dropped { End::Done } else { End::Left };
            }
            let room = self.in_flight_max.saturating_sub(self.waiting.len());
            let takes = self.at.is_some() && !dropped && room > 0 && self.output.len() - self.sent < OUTPUT_BYTES;
            tokio::select! {
                biased;
                read = receive.read(input.get_mut(filled..).unwrap_or_default()) => match read {
                    Ok(Some(bytes)) => {
                        filled += bytes;
                        match self.take_answers(input.get(..filled).unwrap_or_default()) {
                            Ok(used) => {
                                input.copy_within(used..filled, 0);
                                filled -= used;
                            }
                            Err(what) => return End::Lost(Error::Protocol(what)),
                        }
                    }
                    Ok(None) => return End::Lost(Error::Unavailable("the server ended the stream".to_owned())),
                    Err(error) => return End::Lost(read_lost(&error)),
                },
                wrote = write(&mut send, self.output.get(self.sent..).unwrap_or_default()), if !all_sent => match wrote {
                    Ok(bytes) => self.sent += bytes,
                    Err(error) => return End::Lost(write_lost(&error)),
                },
                // A link that leaves sends on whoever still came to it.
                count = jobs.recv_many(&mut taken, room.clamp(1, JOBS)), if takes => {
                    dropped = count == 0;
                    for job in taken.drain(..) {
                        self.put(job);
                    }
                }
                // What is in the queue already is still sent; its end then says that nobody is left.
                _ = closing.wait_for(|closing| *closing), if !jobs.is_closed() => jobs.close(),
                () = &mut hello_deadline, if self.at.is_none() => {
                    return End::Lost(Error::Unavailable("the server does not greet".to_owned()));
                }
            }
        }
    }

    /// Puts a job's messages into the output.
    fn put(&mut self, job: Job) {
        if job.answer.is_closed() {
            return;
        }
        if self.leaving {
            return give_back(job, &Error::Unavailable("the server asked to leave".to_owned()));
        }
        let Some(at) = self.at else {
            return give_back(job, &Error::Unavailable("the server has not greeted yet".to_owned()));
        };
        if job.epoch.is_some_and(|epoch| epoch != at.epoch) {
            let text = "the numbers are of another epoch; resolve them again".to_owned();
            let error = Error::Refused { code: ErrorCode::NotFound, text };
            return give_back(job, &error);
        }
        let least = match job.demand {
            Demand::Nothing => None,
            // A list with a higher epoch is a new beginning: what was done to the old one cannot be demanded of it.
            Demand::OwnChanges => self.common.floor().filter(|floor| floor.epoch >= at.epoch),
            Demand::AtLeast(least) => Some(least),
        };
        // A server that was there once still is: nothing has to be said.
        let least = least.filter(|least| least.epoch != at.epoch || least.sequence > at.sequence);
        let Job { bytes, count, answer, .. } = job;
        let mut rest = bytes.as_slice();
        let ids = self.waiting.expect(count, answer);
        for id in ids {
            let used = encode::readdress(&mut self.output, rest, id, least.as_ref());
            debug_assert!(used > 0, "a job has fewer messages than it says");
            rest = rest.get(used..).unwrap_or_default();
        }
    }

    /// Hands out the answers at the front of `input`; says how many bytes they took.
    fn take_answers(&mut self, input: &[u8]) -> Result<usize, String> {
        let mut used = 0;
        loop {
            let rest = input.get(used..).unwrap_or_default();
            let (raw, length) = match decode::split(rest).map_err(|broken| broken.to_string())? {
                Split::Whole(raw, length) => (raw, length),
                Split::Partial => return Ok(used),
            };
            used += length;
            let answer = decode::answer(&raw).map_err(|malformed| malformed.to_string())?;
            match (answer, self.at) {
                (Answer::Hello(hello), None) => {
                    let server_max = usize::try_from(hello.in_flight_max).unwrap_or(usize::MAX).max(1);
                    self.in_flight_max = self.in_flight_max.min(server_max).max(1);
                    self.at = Some(Revision { epoch: hello.epoch, sequence: hello.sequence });
                    self.state.admits_changes(hello.changes_in_flight_max);
                    self.is_up();
                }
                (Answer::GoingAway { .. }, _) => {
                    self.leaving = true;
                    let why = Error::Unavailable("the server asked to leave".to_owned());
                    self.state.is_down(self.common, &why);
                }
                (Answer::Hello(_), Some(_)) => return Err("a second hello".to_owned()),
                (_, None) => return Err("an answer before the hello".to_owned()),
                (answer, Some(at)) => {
                    let sequence = self.waiting.answer(raw.id, at.epoch, &answer)?;
                    if let Some(sequence) = sequence.filter(|sequence| *sequence > at.sequence) {
                        self.at = Some(Revision { epoch: at.epoch, sequence });
                    }
                    self.state.late.store(0, Ordering::Relaxed);
                }
            }
        }
    }

    fn is_up(&mut self) {
        self.was_up = true;
        *self.state.why.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.state.late.store(0, Ordering::Relaxed);
        self.state.up.store(true, Ordering::Release);
        self.common.changed.send_modify(|times| *times += 1);
    }
}

pub(super) async fn write(send: &mut SendStream, bytes: &[u8]) -> Result<usize, WriteError> {
    send.write(bytes).await
}

pub(super) fn read_lost(error: &ReadError) -> Error {
    match error {
        ReadError::ConnectionLost(error) => lost(error),
        other => Error::Unavailable(other.to_string()),
    }
}

pub(super) fn write_lost(error: &WriteError) -> Error {
    match error {
        WriteError::ConnectionLost(error) => lost(error),
        other => Error::Unavailable(other.to_string()),
    }
}
