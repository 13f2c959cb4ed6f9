//! Many questions in flight on one byte stream.
//!
//! Natural batching, as the server and the client library do it: what was handed in while the last write was on its way
//! goes out with the next one, and whatever has arrived is judged in one go. It never stops reading while it writes.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

use super::{Open, Seat, Worker};
use crate::driver::Codec;
use crate::question::{Question, Said};
use crate::record::{Asked, Ledger};

/// What the input buffer holds, in bytes: more than the largest answer of any protocol here.
const INPUT_BYTES: usize = 256 * 1024;

/// What the pacer and the lane's task share.
pub(super) struct Shared {
    codec: RefCell<Box<dyn Codec>>,
    ledger: Open,
    out: RefCell<Vec<u8>>,
    numbered: RefCell<Vec<(u32, Question)>>,
    /// There is something to send, or nothing will ever be again.
    woken: Notify,
    in_flight_max: usize,
    group: usize,
    dead: Cell<bool>,
    worker: Rc<Worker>,
}

impl Shared {
    pub(super) fn new(codec: Box<dyn Codec>, in_flight_max: usize, group: usize, worker: Rc<Worker>) -> Self {
        Self {
            codec: RefCell::new(codec),
            ledger: RefCell::new(Ledger::default()),
            out: RefCell::default(),
            numbered: RefCell::default(),
            woken: Notify::new(),
            in_flight_max,
            group: group.max(1),
            dead: Cell::new(false),
            worker,
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.ledger.borrow().in_flight()
    }

    /// Writes questions into the output, in groups.
    fn write(&self, due: u64, now: u64, questions: &[Question]) {
        let mut numbered = self.numbered.borrow_mut();
        let (mut ledger, mut codec, mut out) =
            (self.ledger.borrow_mut(), self.codec.borrow_mut(), self.out.borrow_mut());
        for group in questions.chunks(self.group) {
            numbered.clear();
            numbered.extend(group.iter().map(|question| {
                let id = ledger.open(Asked { due, sent: now, expect: question.expect });
                (id, *question)
            }));
            codec.ask(&numbered, &mut out);
        }
    }

    /// Closed loop: as many questions as there is room for, due now.
    fn refill(&self, scratch: &mut Vec<Question>) {
        let worker = &self.worker;
        let now = worker.now();
        let mut asked = 0;
        while self.in_flight() + worker.batch <= self.in_flight_max {
            worker.draw(scratch);
            self.write(now, now, scratch);
            asked += scratch.len() as u64;
        }
        if asked > 0 {
            // Lateness means nothing here: a question is due when it is sent.
            worker.recorder.borrow_mut().sent(now, now, asked, false);
        }
    }
}

impl Seat for Shared {
    fn room(&self) -> usize {
        if self.dead.get() { 0 } else { self.in_flight_max.saturating_sub(self.in_flight()) }
    }

    fn put(&self, due: u64, now: u64, questions: &[Question]) {
        self.write(due, now, questions);
        self.woken.notify_one();
    }
}

/// Serves the lane until the worker stops and everything is answered.
pub(super) async fn serve(
    shared: Rc<Shared>,
    mut reader: Box<dyn AsyncRead + Unpin>,
    mut writer: Box<dyn AsyncWrite + Unpin>,
    worker: Rc<Worker>,
) -> Result<(), String> {
    let served = converse(&shared, &mut reader, &mut writer, &worker).await;
    shared.dead.set(true);
    served
}

async fn converse(
    shared: &Shared,
    reader: &mut (dyn AsyncRead + Unpin),
    writer: &mut (dyn AsyncWrite + Unpin),
    worker: &Worker,
) -> Result<(), String> {
    let mut input = vec![0; INPUT_BYTES];
    let mut filled = 0;
    let mut sending = Vec::new();
    let mut sent = 0;
    let mut unflushed = false;
    let mut answers = Vec::new();
    let mut scratch = Vec::new();
    if worker.closed {
        shared.refill(&mut scratch);
    }
    loop {
        // A peer that is never behind must not keep the pacer from its turn.
        tokio::task::consume_budget().await;
        if sent == sending.len() {
            sending.clear();
            sent = 0;
            std::mem::swap(&mut sending, &mut *shared.out.borrow_mut());
        }
        let all_sent = sent == sending.len();
        if worker.stopping.get() && all_sent && shared.in_flight() == 0 {
            return Ok(());
        }
        tokio::select! {
            biased;
            read = reader.read(input.get_mut(filled..).unwrap_or_default()) => {
                let bytes = read.map_err(|error| format!("reading: {error}"))?;
                if bytes == 0 {
                    let full = filled == input.len();
                    return Err(if full { "an answer beyond every limit".into() } else { "the peer closed".into() });
                }
                filled += bytes;
                let used = take(shared, worker, input.get(..filled).unwrap_or_default(), &mut answers)?;
                input.copy_within(used..filled, 0);
                filled -= used;
                if worker.stopping.get() {
                    continue;
                }
                if worker.closed {
                    shared.refill(&mut scratch);
                } else {
                    worker.room.notify_one();
                }
            }
            pushed = push(writer, sending.get(sent..).unwrap_or_default()), if !all_sent || unflushed => {
                let bytes = pushed.map_err(|error| format!("writing: {error}"))?;
                sent += bytes;
                unflushed = bytes > 0;
            }
            () = shared.woken.notified(), if all_sent => {}
        }
    }
}

/// Writes what is left, or flushes if nothing is; says how much was written. Nothing is lost if it is dropped.
async fn push(writer: &mut (dyn AsyncWrite + Unpin), left: &[u8]) -> std::io::Result<usize> {
    if left.is_empty() {
        writer.flush().await?;
        return Ok(0);
    }
    writer.write(left).await
}

/// Judges the answers that have arrived; says how many bytes they were.
fn take(shared: &Shared, worker: &Worker, input: &[u8], answers: &mut Vec<(u32, Said)>) -> Result<usize, String> {
    answers.clear();
    let used = shared.codec.borrow_mut().take(input, answers)?;
    let now = worker.now();
    let (mut ledger, mut recorder) = (shared.ledger.borrow_mut(), worker.recorder.borrow_mut());
    for (id, said) in answers.drain(..) {
        let asked = ledger.close(id).ok_or_else(|| format!("an answer with the number {id}, which nobody asked"))?;
        recorder.answered(&asked, said, now);
    }
    Ok(used)
}
