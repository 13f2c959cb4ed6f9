//! One stream of one caller: bytes in, a desk that answers, bytes out.
//!
//! Natural batching: whatever has arrived is read, all of it is answered, and the answers go out in one write; then the
//! stream sleeps until something happens. There is no timer in between, so a lone question is answered at once and a
//! flood is answered in large batches. Changes are awaited beside the questions and hold none of them up. A caller that
//! wants more than its share of the thread waits in line with what it has sent (`turns.rs`), and is not read meanwhile.
//!
//! Which way it falls: bytes that cannot be cut into messages, half a message that stays half, and answers that nobody
//! reads each end the connection with a code of their own. The caller is looked up again whenever the list of callers
//! was replaced, before anything more is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::Shared;
use super::admission::Account;
use super::desk::{Desk, Handled, UnknownCaller};
use super::quic_limits::QuicOptions;
use super::stats::{RefusedFor, Stats};
use super::turns::{Seat, Turn};
use crate::wire::message::{Answer, Hello, kind};
use crate::wire::{
    API_MESSAGE_BYTES_MAX, Broken, CloseCode, Leave, MESSAGE_BYTES_MAX, STREAM_FEED, STREAM_REQUESTS, Split, decode,
    encode,
};

/// What this server has beyond the first form of the protocol: 1 is feeds, facts, and receipts that wait.
const MINOR: u8 = 1;

/// What an input buffer begins with, in bytes: any ordinary message fits. It doubles when a read fills it.
const INPUT_BYTES: usize = MESSAGE_BYTES_MAX;

/// What the output buffer begins with, in bytes.
const OUTPUT_BYTES: usize = 4 * 1024;

/// Whether the streams of a connection go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Notice {
    /// They do.
    Stay,
    /// The client is asked to finish and leave.
    Leave(Leave),
}

/// Everything a session needs beside its stream.
pub(super) struct Session {
    pub(super) shared: Shared,
    pub(super) certificate: Arc<[u8]>,
    pub(super) desk: Desk,
    pub(super) connection: Connection,
    pub(super) options: Arc<QuicOptions>,
    pub(super) stats: Arc<Stats>,
    pub(super) notices: watch::Receiver<Notice>,
    pub(super) stirring: Stirring,
    pub(super) seat: Seat,
    /// What the caller has under way.
    pub(super) account: Arc<Account>,
}

/// What the streams of a connection are doing, for whoever waits for them to have done.
#[derive(Default)]
pub(super) struct Activity {
    /// Streams that have something unfinished: half a message, a change under way, answers not taken.
    busy: AtomicUsize,
    /// How often anything was answered.
    turns: AtomicU64,
}

impl Activity {
    /// Whether nothing is unfinished and nothing was answered since `turns` was looked at; and `turns` now.
    pub(super) fn is_quiet(&self, turns: &mut u64) -> bool {
        let before = std::mem::replace(turns, self.turns.load(Ordering::Acquire));
        self.busy.load(Ordering::Acquire) == 0 && before == *turns
    }
}

/// One stream's part in the activity of its connection.
pub(super) struct Stirring {
    activity: Arc<Activity>,
    busy: bool,
}

impl Stirring {
    pub(super) fn new(activity: Arc<Activity>) -> Self {
        Self { activity, busy: false }
    }

    fn answers(&mut self) {
        self.activity.turns.fetch_add(1, Ordering::AcqRel);
        self.is_busy(true);
    }

    fn is_busy(&mut self, busy: bool) {
        match (self.busy, busy) {
            (false, true) => drop(self.activity.busy.fetch_add(1, Ordering::AcqRel)),
            (true, false) => drop(self.activity.busy.fetch_sub(1, Ordering::AcqRel)),
            _ => {}
        }
        self.busy = busy;
    }
}

impl Drop for Stirring {
    fn drop(&mut self) {
        self.is_busy(false);
    }
}

/// Why a stream ended.
pub(super) enum End {
    /// The client finished it, or the connection is gone.
    Over,
    /// The connection has to go, with this code and text.
    Close(CloseCode, String),
}

impl From<UnknownCaller> for End {
    fn from(_: UnknownCaller) -> Self {
        Self::unknown_caller()
    }
}

impl End {
    pub(super) fn unknown_caller() -> Self {
        Self::Close(CloseCode::UnknownCaller, "the certificate belongs to no caller any more".to_owned())
    }
}

/// Closes a connection with one of our codes.
pub(super) fn close(connection: &Connection, code: CloseCode, text: &str) {
    connection.close(VarInt::from_u32(u32::from(code as u8)), text.as_bytes());
}

impl Session {
    /// Serves the stream until it ends.
    pub(super) async fn run(mut self, send: SendStream, receive: RecvStream) {
        match self.serve(send, receive).await {
            Ok(()) | Err(End::Over) => {}
            Err(End::Close(code, text)) => {
                let reason = match code {
                    CloseCode::UnknownCaller => Some(RefusedFor::Credentials),
                    CloseCode::Malformed | CloseCode::UnknownStream => Some(RefusedFor::Malformed),
                    CloseCode::TooLarge => Some(RefusedFor::TooLarge),
                    CloseCode::TooSlow => Some(RefusedFor::TooSlow),
                    _ => None,
                };
                if let Some(reason) = reason {
                    self.stats.quic.count_refused(reason);
                }
                close(&self.connection, code, &text);
            }
        }
    }

    async fn serve(&mut self, mut send: SendStream, mut receive: RecvStream) -> Result<(), End> {
        let mut input = Input::new(self.options.stream_buffer_bytes_max);
        let mut output = Vec::with_capacity(OUTPUT_BYTES);
        self.greet(&mut output);
        let mut typed = false;
        let mut finished = false;
        let mut stalled = std::pin::pin!(sleep_until(Instant::now() + self.options.partial_message_deadline));
        // While half a message waits: the count of whole ones when the alarm was set.
        let mut alarm: Option<u64> = None;
        let mut messages: u64 = 0;
        // What has been read waits for its turn, and nothing more is read meanwhile.
        let mut in_line = false;
        loop {
            if !output.is_empty() {
                self.stirring.answers();
                self.flush(&mut send, &mut output).await?;
            }
            self.stirring.is_busy(!input.is_empty() || !self.desk.pending.is_empty());
            if finished && !in_line && self.desk.pending.is_empty() {
                // The client may reset the stream at any time; then there is nothing left to finish.
                let _ = send.finish();
                return Ok(());
            }
            let mut turn = None;
            tokio::select! {
                biased;
                () = self.desk.finish(&mut output), if !self.desk.pending.is_empty() => continue,
                changed = self.notices.changed() => {
                    if changed.is_err() {
                        return Err(End::Over);
                    }
                    pass_on_notice(&mut self.notices, &self.options, &mut output);
                    continue;
                }
                given = self.seat.turn(), if in_line => (turn, in_line) = (Some(given), false),
                read = receive.read(input.space()), if !finished && !in_line => match read {
                    Ok(Some(bytes)) => input.filled(bytes),
                    Ok(None) => finished = true,
                    Err(_) => return Err(End::Over),
                },
                () = stalled.as_mut(), if alarm.is_some() && !in_line => {
                    let patience = self.options.partial_message_deadline;
                    if alarm == Some(messages) && !input.is_empty() {
                        let text = format!("half a message has waited for {} ms", patience.as_millis());
                        return Err(End::Close(CloseCode::TooSlow, text));
                    }
                    alarm = (!input.is_empty()).then_some(messages);
                    stalled.as_mut().reset(Instant::now() + patience);
                    continue;
                }
            }
            self.desk.recognise()?;
            if !typed {
                match input.first() {
                    Some(STREAM_REQUESTS) => input.used(1),
                    Some(STREAM_FEED) => {
                        input.used(1);
                        // Nobody waits for a follower's stream when a connection is to end.
                        self.stirring.is_busy(false);
                        return self.follow(&mut send, &mut receive, input, output).await;
                    }
                    Some(other) => {
                        let text = format!("a stream of type 0x{other:02x} is not known here");
                        return Err(End::Close(CloseCode::UnknownStream, text));
                    }
                    None => continue,
                }
                typed = true;
            }
            loop {
                // Half a message, or none, takes no turn.
                if let Ok(Split::Whole(first, _)) = decode::split(input.bytes())
                    && turn.is_none()
                    && !self.seat.may_go_on(input.bytes().len(), first.kind == kind::REVOKE)
                {
                    in_line = true;
                    break;
                }
                let written = output.len();
                let turn = turn.take().unwrap_or(Turn::Answer);
                let Handled { used, broken, unfinished } = self.desk.answer(input.bytes(), turn, &mut output);
                self.seat.spent(used + output.len() - written);
                input.used(used);
                if used > 0 {
                    messages += 1;
                }
                if let Some(broken) = broken {
                    // What came before it was understood and is answered; the rest cannot be.
                    self.flush(&mut send, &mut output).await?;
                    let code = match broken {
                        Broken::TooShort(_) => CloseCode::Malformed,
                        Broken::TooLarge { .. } => CloseCode::TooLarge,
                    };
                    return Err(End::Close(code, broken.to_string()));
                }
                if !unfinished {
                    break;
                }
                self.flush(&mut send, &mut output).await?;
                self.desk.recognise()?;
            }
            if !input.is_empty() && alarm.is_none() {
                alarm = Some(messages);
                stalled.as_mut().reset(Instant::now() + self.options.partial_message_deadline);
            }
        }
    }

    fn greet(&self, output: &mut Vec<u8>) {
        let revision = self.desk.revision();
        let hello = Answer::Hello(Hello {
            minor: MINOR,
            epoch: revision.epoch,
            sequence: revision.sequence,
            in_flight_max: self.options.in_flight_max,
            changes_in_flight_max: self.options.changes_in_flight_max,
            message_bytes_max: u32::try_from(MESSAGE_BYTES_MAX).unwrap_or(u32::MAX),
            api_message_bytes_max: u32::try_from(API_MESSAGE_BYTES_MAX).unwrap_or(u32::MAX),
            server: concat!("tokenscope/", env!("CARGO_PKG_VERSION")),
        });
        let written = encode::answer(output, 0, &hello);
        debug_assert!(written.is_ok(), "{written:?}");
    }

    /// Sends what has gathered, in one write if the client reads.
    pub(super) async fn flush(&self, send: &mut SendStream, output: &mut Vec<u8>) -> Result<(), End> {
        let patience: Duration = self.options.write_deadline;
        match timeout(patience, send.write_all(output)).await {
            Ok(Ok(())) => {}
            // Stopped, reset, or the connection is gone: nobody wants these answers.
            Ok(Err(_)) => return Err(End::Over),
            Err(_) => {
                let text = format!("answers have waited for {} ms and nobody reads them", patience.as_millis());
                return Err(End::Close(CloseCode::TooSlow, text));
            }
        }
        output.clear();
        output.shrink_to(self.options.stream_buffer_bytes_max);
        Ok(())
    }
}

/// Tells the client to leave, if that is the notice.
pub(super) fn pass_on_notice(notices: &mut watch::Receiver<Notice>, options: &QuicOptions, output: &mut Vec<u8>) {
    let Notice::Leave(why) = *notices.borrow_and_update() else { return };
    let closes_in_ms = u32::try_from(options.leave_grace.as_millis()).unwrap_or(u32::MAX);
    let written = encode::answer(output, 0, &Answer::GoingAway { why, closes_in_ms });
    debug_assert!(written.is_ok(), "{written:?}");
}

/// What has arrived and is not answered. Never larger than the largest message, or the limit it was made with.
pub(super) struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    most: usize,
}

impl Input {
    fn new(bytes_max: usize) -> Self {
        Self { bytes: vec![0; INPUT_BYTES], start: 0, end: 0, most: bytes_max.max(API_MESSAGE_BYTES_MAX) }
    }

    /// Room for the next read; never empty.
    pub(super) fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.bytes.len() {
            // Only a message that is not whole yet can fill the buffer, and none is larger than `most`.
            let larger = (self.bytes.len() * 2).min(self.most).max(self.bytes.len() + 1);
            self.bytes.resize(larger, 0);
        }
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    pub(super) fn filled(&mut self, bytes: usize) {
        self.end += bytes;
    }

    pub(super) fn used(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.end);
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    fn first(&self) -> Option<u8> {
        self.bytes().first().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }
}
