//! The bytes of the native protocol: messages in, messages out, and nothing else.
//!
//! `PROTOCOL.md` beside this file draws every message; this room reads and writes them. Reading borrows from the
//! buffer, allocates nothing, believes no length before it has checked it, and never panics, whatever the bytes.
//! Writing appends to a buffer the caller keeps. Every value has one spelling: what cannot be written cannot be read.
//!
//! Not here: sockets, streams, TLS (those are the doors and the client), and what a message means (the service).

// Bytes from outside are read here: nothing may be able to panic on them.
#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::string_slice))]

// From bytes to messages.
pub mod decode;
// From values to bytes.
pub mod encode;
// The answer that near-caches hold.
pub mod facts;
// What goes over a feed's stream.
pub mod follow;
// What the messages say.
pub mod message;

#[cfg(test)]
mod tests;

pub use decode::{Broken, Malformed, Raw, Split};
pub use encode::TooLong;
pub use facts::{Facts, FactsHead, Pairs};
pub use message::{Answer, Envelope, ErrorCode, Leave, Method, Request, Wait};

/// The protocol's name in TLS, with its version. Another version is another name: a server that speaks both offers both.
pub const ALPN: &[u8] = b"tokenscope/1";

/// The first byte of a bidirectional stream the client opens: questions and changes.
pub const STREAM_REQUESTS: u8 = 0x01;

/// The first byte of a bidirectional stream the client opens to follow the list: announcements and leases.
pub const STREAM_FEED: u8 = 0x02;

/// Length, kind, detail, id: what every message begins with, in bytes.
pub const HEADER_BYTES: usize = 8;

/// The largest message, header included, in bytes; of any kind but [`message::kind::API`].
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// The largest [`message::kind::API`] request, header included, in bytes: all that 16 bits of length can say.
pub const API_MESSAGE_BYTES_MAX: usize = u16::MAX as usize;

/// The longest text of an error, in bytes; longer ones are cut at a character.
pub const ERROR_TEXT_BYTES_MAX: usize = 512;

/// The most resource servers a registered token can name in a message.
pub const AUDIENCES_MAX: usize = 64;

/// What a peer closes a connection with. A closed list; `PROTOCOL.md` says what to do about each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum CloseCode {
    /// Nothing is wrong; the closer has nothing more to say.
    Done = 0x00,
    /// The server shuts down, or the connection is older than the server allows. Connect again.
    GoingAway = 0x01,
    /// The certificate is sound but belongs to no caller, or to none any more. Connecting again will not help.
    UnknownCaller = 0x02,
    /// The caller, or its address, has too many connections, or the server has no room. Connect again later.
    TooManyConnections = 0x03,
    /// Bytes that cannot be cut into messages. A fault of the sender's program.
    Malformed = 0x04,
    /// A message larger than its kind may be. A fault of the sender's program.
    TooLarge = 0x05,
    /// No request in time, half a message, or answers that nobody reads.
    TooSlow = 0x06,
    /// A stream of a type that is not known.
    UnknownStream = 0x07,
    /// The closer failed. A fault of its own; connect again.
    Internal = 0x08,
}

impl CloseCode {
    /// Every code, in order.
    pub const ALL: [Self; 9] = [
        Self::Done,
        Self::GoingAway,
        Self::UnknownCaller,
        Self::TooManyConnections,
        Self::Malformed,
        Self::TooLarge,
        Self::TooSlow,
        Self::UnknownStream,
        Self::Internal,
    ];

    /// The code with this number; `None` for one that is not known.
    pub fn from_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|known| *known as u64 == code)
    }

    /// A few words for a log or an error.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::GoingAway => "going away",
            Self::UnknownCaller => "the certificate belongs to no caller",
            Self::TooManyConnections => "too many connections",
            Self::Malformed => "malformed bytes",
            Self::TooLarge => "message too large",
            Self::TooSlow => "too slow",
            Self::UnknownStream => "unknown stream type",
            Self::Internal => "internal failure",
        }
    }
}
