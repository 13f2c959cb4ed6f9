//! How questions travel: connections, bytes, answers. A driver knows neither when questions are due nor why.
//!
//! Most drivers are a pair of independent halves: a *transport* (a QUIC stream, TCP, TLS, nothing) and a *codec*
//! (questions to bytes, bytes to answers), put together as a [`Pipe`] that many questions are in flight on. Two are
//! not made of bytes we can see, the client library and HTTP/2; they are [`Asker`]s, one question at a time each.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::question::{Question, Said};

// The bare echo.
pub mod echo;
// HTTP/1.1.
pub mod http1;
// HTTP/2.
pub mod http2;
// The client library.
pub mod library;
// Memcached's text protocol.
pub mod memcached;
// The native protocol.
pub mod native;
// Nothing at the other end.
pub mod null;
// QUIC connections.
pub mod quic;
// Redis' protocol.
pub mod redis;
// TCP, and TLS over it.
pub mod tcp;

/// A future of a driver; everything of a worker stays on its thread.
pub type Local<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// What a worker wants of a driver.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// Connections.
    pub connections: usize,
    /// Streams on each, for transports that have them.
    pub streams: usize,
    /// Questions in flight on each connection.
    pub in_flight: usize,
}

/// Questions to bytes, bytes to answers.
pub trait Codec {
    /// What is sent as soon as the stream is open, before there is a question: a server need not wait for ever for a stream that
    /// somebody connected for, and with many connections the first question comes late.
    fn begin(&mut self, _out: &mut Vec<u8>) {}

    /// Appends questions with their numbers, as one request if the protocol has requests for many.
    fn ask(&mut self, questions: &[(u32, Question)], out: &mut Vec<u8>);

    /// Takes the whole answers at the front of `input` and says how many bytes they were.
    ///
    /// # Errors
    /// The bytes are not what the protocol allows; nothing after them can be trusted.
    fn take(&mut self, input: &[u8], answers: &mut Vec<(u32, Said)>) -> Result<usize, String>;
}

/// A transport with a codec: many questions in flight.
pub struct Pipe {
    /// Where answers come from.
    pub reader: Box<dyn AsyncRead + Unpin>,
    /// Where questions go.
    pub writer: Box<dyn AsyncWrite + Unpin>,
    /// What they look like.
    pub codec: Box<dyn Codec>,
    /// What has to live as long as the pipe, and can tell what was sent.
    pub path: Rc<dyn Path>,
}

/// What a transport can tell about itself afterwards.
pub trait Path {
    /// What went over it. Each connection is asked once.
    fn travelled(&self) -> Travelled {
        Travelled::default()
    }
}

/// Nothing to tell.
pub struct Silent;

impl Path for Silent {}

/// What went over a transport, as far as it is known.
#[derive(Clone, Copy, Default, Debug, serde::Serialize, serde::Deserialize)]
pub struct Travelled {
    /// UDP datagrams sent.
    pub sent_datagrams: u64,
    /// System calls that sent them.
    pub sent_calls: u64,
    /// Bytes in them, without what UDP and IP put before each.
    #[serde(default)]
    pub sent_bytes: u64,
    /// UDP datagrams received.
    pub received_datagrams: u64,
    /// Bytes in them.
    #[serde(default)]
    pub received_bytes: u64,
    /// Packets given up for lost.
    pub lost_packets: u64,
    /// The largest packet of a path, in bytes.
    pub mtu: u16,
}

impl Travelled {
    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            sent_datagrams: self.sent_datagrams + other.sent_datagrams,
            sent_calls: self.sent_calls + other.sent_calls,
            sent_bytes: self.sent_bytes + other.sent_bytes,
            received_datagrams: self.received_datagrams + other.received_datagrams,
            received_bytes: self.received_bytes + other.received_bytes,
            lost_packets: self.lost_packets + other.lost_packets,
            mtu: self.mtu.max(other.mtu),
        }
    }

    /// What went since `before`; of the same connections.
    pub fn since(self, before: Self) -> Self {
        Self {
            sent_datagrams: self.sent_datagrams.saturating_sub(before.sent_datagrams),
            sent_calls: self.sent_calls.saturating_sub(before.sent_calls),
            sent_bytes: self.sent_bytes.saturating_sub(before.sent_bytes),
            received_datagrams: self.received_datagrams.saturating_sub(before.received_datagrams),
            received_bytes: self.received_bytes.saturating_sub(before.received_bytes),
            lost_packets: self.lost_packets.saturating_sub(before.lost_packets),
            mtu: self.mtu,
        }
    }
}

/// One question at a time.
pub trait Asker {
    /// Asks and waits.
    fn ask(&self, question: Question) -> Local<'_, Said>;
}

/// What a driver opened.
pub enum Opened {
    /// Pipes, and how many questions each may have in flight.
    Pipes(Vec<Pipe>, usize),
    /// Askers; each is used by one question at a time.
    Askers(Vec<Rc<dyn Asker>>),
}

/// A way to ask.
pub trait Driver: Send + Sync {
    /// What it is called in results.
    fn name(&self) -> String;

    /// Opens connections on the current thread's runtime.
    ///
    /// # Errors
    /// The peer cannot be reached or refuses.
    fn open(&self, share: Share) -> Local<'_, Result<Opened, String>>;

    /// Questions that travel as one request. More than 1 only where the protocol has such requests.
    fn group(&self) -> usize {
        1
    }

    /// What a reader of the results should know about the transport: cipher, versions.
    fn facts(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

/// A driver that workers share.
pub type AnyDriver = Arc<dyn Driver>;
