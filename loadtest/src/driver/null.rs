//! Nothing at the other end: the tool asks itself. What it can do here is the most it can ever do.
//!
//! The questions are written as the native protocol writes them and the answers are read as it reads them; only the
//! transport is a buffer. So this is the ceiling of the schedule, the workload, the codec and the records together,
//! without any network.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokenscope::domain::Sequence;
use tokenscope::wire::encode;
use tokenscope::wire::message::Outcome;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::native::{Naming, NativeCodec};
use super::{Codec, Driver, Local, Opened, Pipe, Share, Silent};
use crate::question::{Question, Said, Verdict};

/// The null driver.
pub struct Null {
    naming: Arc<Naming>,
}

impl Null {
    /// A driver that names scopes and places like this; by numbers costs least.
    pub fn new(naming: Naming) -> Self {
        Self { naming: Arc::new(naming) }
    }
}

impl Driver for Null {
    fn name(&self) -> String {
        "null".to_owned()
    }

    fn open(&self, share: Share) -> Local<'_, Result<Opened, String>> {
        let pipe = || {
            let buffer = Rc::new(RefCell::new(Buffer::default()));
            Pipe {
                reader: Box::new(Half(buffer.clone())),
                writer: Box::new(Half(buffer.clone())),
                codec: Box::new(NullCodec { native: NativeCodec::new(self.naming.clone()), buffer }),
                path: Rc::new(Silent),
            }
        };
        let pipes = (0..share.connections * share.streams).map(|_| pipe()).collect();
        Box::pin(std::future::ready(Ok(Opened::Pipes(pipes, share.in_flight.div_ceil(share.streams)))))
    }
}

/// Writes questions, and right away the answers that are expected: where a server would be, there is this.
struct NullCodec {
    native: NativeCodec,
    buffer: Rc<RefCell<Buffer>>,
}

impl Codec for NullCodec {
    fn ask(&mut self, questions: &[(u32, Question)], out: &mut Vec<u8>) {
        self.native.ask(questions, out);
        let mut buffer = self.buffer.borrow_mut();
        for (id, question) in questions {
            let outcome = match question.expect.verdict {
                Verdict::Active | Verdict::Allowed => Outcome::Allowed,
                Verdict::Denied => Outcome::Denied(tokenscope::domain::Denial::ALL[0]),
                Verdict::Inactive => Outcome::Inactive,
            };
            encode::checked(&mut buffer.prepared, *id, Sequence(1), outcome);
        }
    }

    fn take(&mut self, input: &[u8], answers: &mut Vec<(u32, Said)>) -> Result<usize, String> {
        let first = answers.len();
        let used = self.native.take(input, answers)?;
        for (_, said) in answers.iter_mut().skip(first) {
            // An introspection is answered by a check here, which says less.
            if *said == Said::Allowed {
                *said = Said::Same;
            }
        }
        Ok(used)
    }
}

/// What was written is thrown away, and lets as much be read as was prepared until then.
#[derive(Default)]
struct Buffer {
    prepared: Vec<u8>,
    ready: Vec<u8>,
    reader: Option<Waker>,
}

struct Half(Rc<RefCell<Buffer>>);

impl AsyncRead for Half {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let mut buffer = self.0.borrow_mut();
        if buffer.ready.is_empty() {
            buffer.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = buffer.ready.len().min(into.remaining());
        into.put_slice(buffer.ready.get(..count).unwrap_or_default());
        buffer.ready.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Half {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let mut buffer = self.0.borrow_mut();
        let prepared = std::mem::take(&mut buffer.prepared);
        buffer.ready.extend_from_slice(&prepared);
        // Kept for its memory.
        buffer.prepared = prepared;
        buffer.prepared.clear();
        if let Some(reader) = buffer.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
