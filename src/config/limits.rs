//! Every limit of the service, in one table: name, unit, default, bounds, reason.
//!
//! The table makes the struct [`Limits`] that the rooms' options are filled from, the section `[limits]` of the
//! configuration file, and the page `LIMITS.md` beside this file; a test holds the page to the table. Reaching a limit
//! is an ordinary, counted event: whoever enforces one says so in its own documentation.

use std::fmt::{self, Write as _};
use std::time::Duration;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};

use super::words;

/// What a limit counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Things: a bare number.
    Count,
    /// Bytes: `64KiB`.
    Bytes,
    /// Time: `250ms`.
    Time,
}

impl Unit {
    /// The value as it stands in a configuration file, quotes included.
    pub fn write(self, value: u64) -> String {
        match self {
            Self::Count => value.to_string(),
            Self::Bytes => format!("\"{}\"", words::size_words(value)),
            Self::Time => format!("\"{}\"", words::duration_words(Duration::from_millis(value))),
        }
    }

    /// The word for the table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Bytes => "bytes",
            Self::Time => "time",
        }
    }
}

/// One line of the table. Values are counts, bytes or milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The key in `[limits]`.
    pub key: &'static str,
    /// What is counted.
    pub unit: Unit,
    /// What holds if the key is not given.
    pub default: u64,
    /// The smallest value that is accepted.
    pub least: u64,
    /// The largest value that is accepted.
    pub most: u64,
    /// What it bounds and why it has this default; one sentence or two.
    pub reason: &'static str,
}

macro_rules! kind {
    (Count) => {
        u32
    };
    (Bytes) => {
        usize
    };
    (Time) => {
        Duration
    };
}

/// Milliseconds, bytes or a count as the type the field has. The bounds of the table keep every value within it.
trait Field: Copy {
    fn of(value: u64) -> Self;
    fn value(self) -> u64;
}

impl Field for u32 {
    fn of(value: u64) -> Self {
        Self::try_from(value).unwrap_or(Self::MAX)
    }

    fn value(self) -> u64 {
        u64::from(self)
    }
}

impl Field for usize {
    fn of(value: u64) -> Self {
        Self::try_from(value).unwrap_or(Self::MAX)
    }

    fn value(self) -> u64 {
        self as u64
    }
}

impl Field for Duration {
    fn of(value: u64) -> Self {
        Self::from_millis(value)
    }

    fn value(self) -> u64 {
        u64::try_from(self.as_millis()).unwrap_or(u64::MAX)
    }
}

macro_rules! limits {
    ($($name:ident: $unit:ident = $default:expr, $least:expr => $most:expr, $reason:literal;)*) => {
        /// The limits in force.
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub struct Limits {
            $(#[doc = $reason] pub $name: kind!($unit),)*
        }

        /// The table, in the order of the page.
        pub const ROWS: &[Row] = &[$(Row {
            key: stringify!($name),
            unit: Unit::$unit,
            default: $default,
            least: $least,
            most: $most,
            reason: $reason,
        },)*];

        /// The keys, in the order of the table.
        const KEYS: &[&str] = &[$(stringify!($name),)*];

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: Field::of($default),)* }
            }
        }

        impl Limits {
            /// The value in force of the limit `key`, as in [`Row`]; `None` if there is no such limit.
            pub fn value(&self, key: &str) -> Option<u64> {
                match key {
                    $(stringify!($name) => Some(Field::value(self.$name)),)*
                    _ => None,
                }
            }

            fn set(&mut self, key: &str, value: u64) {
                match key {
                    $(stringify!($name) => self.$name = Field::of(value),)*
                    _ => {}
                }
            }
        }
    };
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const SECOND: u64 = 1_000;
const HOUR: u64 = 3_600 * SECOND;

limits! {
    quic_threads: Count = 1, 1 => 64,
        "Threads of the QUIC door, each with a runtime and a socket of its own. One for each core that should serve.";
    quic_connections: Count = 1_024, 1 => 1_000_000,
        "QUIC connections at once. It bounds memory: connections x (receive + send window + streams x 2 x stream buffer).";
    quic_connections_per_caller: Count = 64, 1 => 1_000_000,
        "QUIC connections of one caller at once. One broken caller must not take the places of the others.";
    quic_connections_per_address: Count = 64, 1 => 1_000_000,
        "QUIC connections from one IP address at once. API servers behind one translated address still fit.";
    quic_retry_handshakes: Count = 128, 0 => 65_536,
        "Handshakes at once from which on new peers must first prove their address (Retry); 0: always, for one more round trip. \
         Spoofed floods end here.";
    quic_incoming: Count = 1_024, 1 => 65_536,
        "Handshakes that wait to be looked at, for one thread. More are dropped without an answer.";
    quic_incoming_bytes: Bytes = 16 * KIB, 4 * KIB => MIB,
        "Bytes kept of one waiting handshake. A real one is smaller; a flood is not.";
    quic_incoming_bytes_total: Bytes = 8 * MIB, 64 * KIB => 256 * MIB,
        "Bytes kept of all waiting handshakes.";
    quic_handshake_deadline: Time = 3 * SECOND, 100 => 60 * SECOND,
        "From the first packet to the end of the handshake. Slower peers give their place to others.";
    quic_first_request_deadline: Time = SECOND, 100 => 600 * SECOND,
        "From the end of the handshake to the first stream. A connection nobody uses is a place taken.";
    quic_partial_message_deadline: Time = 5 * SECOND, 100 => 60 * SECOND,
        "How long half a message may stay half. A slow sender holds a buffer.";
    quic_write_deadline: Time = 5 * SECOND, 100 => 60 * SECOND,
        "How long answers may wait for a caller that does not read them, before it is cut off.";
    quic_leave_grace: Time = 5 * SECOND, 0 => 600 * SECOND,
        "How long a caller that was asked to leave may take.";
    quic_idle_timeout: Time = 15 * SECOND, SECOND => 600 * SECOND,
        "Silence after which a connection is given up. Clients send keep-alives well below it.";
    quic_connection_age: Time = HOUR, SECOND => 168 * HOUR,
        "The longest life of a connection. A certificate that has expired or was withdrawn stops working within this time.";
    quic_streams: Count = 16, 1 => 65_536,
        "Streams of one connection at once. They live long and carry many requests each, so a few are enough.";
    quic_stream_buffer_bytes: Bytes = 64 * KIB, 16 * KIB => 16 * MIB,
        "What the input or output buffer of one stream may keep between two batches.";
    quic_stream_window_bytes: Bytes = 64 * KIB, 16 * KIB => 16 * MIB,
        "Bytes of one stream that may arrive unread. About 1,400 checks.";
    quic_receive_window_bytes: Bytes = MIB, 64 * KIB => 64 * MIB,
        "Bytes of one connection that may arrive unread. The transport's own default has no bound.";
    quic_send_window_bytes: Bytes = MIB, 64 * KIB => 64 * MIB,
        "Bytes of one connection that may be sent and not confirmed. A slow reader is cut off, not buffered.";
    quic_socket_buffer_bytes: Bytes = 4 * MIB, 64 * KIB => 256 * MIB,
        "Socket buffers of the QUIC door, each way. The kernel may grant less (net.core.rmem_max).";
    in_flight_per_stream: Count = 1_024, 1 => 65_536,
        "Questions a caller should have unanswered on one stream; told to it when it connects.";
    changes_in_flight_per_stream: Count = 64, 1 => 4_096,
        "Changes and reports unanswered on one stream. One more is busy.";
    changes_in_flight_per_caller: Count = 1_024, 1 => 1_000_000,
        "Changes and reports unanswered of one caller at one door, over all its connections. One more is busy; what takes rights \
         away has a quarter more. A quarter of what may wait for the writer, so that one caller does not fill that.";
    waiting_bytes_per_caller: Bytes = 4 * MIB, 64 * KIB => 1_024 * MIB,
        "Bytes of one caller's requests that may wait for their turn on one thread of the QUIC door, over all its connections; \
         of more, the newest questions are answered overloaded. Every caller that waits has the same share.";
    followers: Count = 1_024, 1 => 65_536,
        "Streams on which a near-cache follows the list. Each keeps a fenced change waiting until it has answered.";
    followers_per_caller: Count = 256, 1 => 65_536,
        "Followers of one caller, one for each of its processes. One caller must not take the places of the others.";
    follower_lease: Time = 2 * SECOND, 200 => 60 * SECOND,
        "How long a near-cache may answer from memory unheard of, and so the longest a fenced change takes. After lowering it, \
         wait for the old one once.";
    follower_pause: Time = 1, 0 => SECOND,
        "In a flood of changes, the average time between two announcements to one follower; in proportion longer with more than \
         three followers, up to 250 ms. Changes that come singly go out at once.";
    https_connections: Count = 1_024, 1 => 1_000_000,
        "HTTPS connections at once. One more is closed unanswered.";
    https_connections_per_address: Count = 512, 1 => 1_000_000,
        "HTTPS connections from one IP address at once. Half of all, so that one address does not take all places; a proxy that \
         everybody comes through may need more.";
    https_handshake_deadline: Time = 3 * SECOND, 100 => 60 * SECOND,
        "From the accepted connection to the end of the TLS handshake. Honest ones take milliseconds.";
    https_first_request_deadline: Time = 5 * SECOND, 100 => 60 * SECOND,
        "From the handshake to the head of the first request. Whoever says nothing gives its place to others.";
    https_head_deadline: Time = 75 * SECOND, SECOND => HOUR,
        "To the end of the next request's head. It is the keep-alive time too, so longer than common proxies' 60 s.";
    https_body_deadline: Time = 10 * SECOND, 100 => 60 * SECOND,
        "To read the body of a request.";
    https_connection_age: Time = HOUR, SECOND => 168 * HOUR,
        "The longest life of a connection. It bounds how long an expired certificate is believed.";
    https_streams: Count = 128, 1 => 4_096,
        "Requests of one HTTP/2 connection at once.";
    https_head_bytes: Bytes = 16 * KIB, 8 * KIB => 256 * KIB,
        "The head of a request. Larger than any token together with the headers of a proxy.";
    https_form_bytes: Bytes = 16 * KIB, 4 * KIB => MIB,
        "The body of a form. A token of 4 KiB, percent-encoded, fits.";
    https_api_bytes: Bytes = 64 * KIB, 4 * KIB => 64 * KIB,
        "The body of a request to /v1/. A batch of 256 questions fits.";
    https_requests_per_second: Count = 50_000, 1 => 100_000_000,
        "Requests of one caller in a second at the HTTPS door. Stops a caller that has gone mad, no honest one.";
    admin_connections: Count = 16, 1 => 1_024,
        "Connections to the admin listener at once. A scraper and two probes need three.";
    admin_deadline: Time = 5 * SECOND, 100 => 60 * SECOND,
        "To read the head of a request on the admin listener, and the longest life of a connection there that is silent.";
    changes_waiting: Count = 4_096, 16 => 1_000_000,
        "Changes that wait for the one writer. Beyond it the answer is busy, at once.";
    batch_changes: Count = 1_024, 1 => 65_536,
        "Changes that are made durable together. Larger batches are faster and hold up the first change longer.";
    time_noted_every: Time = 60 * SECOND, 100 => HOUR,
        "How often the time is written down, changes or not. After a kill together with a wall clock that is set back, only what \
         expired in the last of these can be active again until the clock has caught up.";
    journal_cache_bytes: Bytes = 32 * MIB, 4 * MIB => 1_024 * MIB,
        "Memory for the journal's pages. It is only appended to while serving, so a little is enough.";
    disk_reserve_bytes: Bytes = 64 * MIB, 8 * MIB => 1_024 * 1_024 * MIB,
        "Free space of the data directory below which only changes that take rights away are made; below a quarter, none.";
}

/// What a QUIC connection takes beside its windows and streams, and one over HTTPS beside its buffers, in bytes.
const CONNECTION_BYTES: u64 = 128 * KIB;
/// What a stream of the QUIC door takes while it is answered, in bytes: an API request being read, and answers that gather.
const STREAM_BYTES: u64 = 192 * KIB;
/// What an HTTP/2 connection may be sent unread, and what waits for a reader on each of its streams, in bytes.
const HTTP2_BYTES: (u64, u64) = (MIB, 64 * KIB);

impl Limits {
    /// The most memory that peers can make the server hold beside its data, in bytes: every connection of both doors there, and
    /// each with everything full. Beside it stand what changes need that wait for the writer, and answers to reports (4 MiB
    /// each at most), for which it takes a caller with the right to change or to look behind the answers.
    pub fn peers_memory_bytes_max(&self) -> u64 {
        let quic = CONNECTION_BYTES
            + Field::value(self.quic_receive_window_bytes)
            + Field::value(self.quic_send_window_bytes)
            + Field::value(self.quic_streams) * (STREAM_BYTES + 2 * Field::value(self.quic_stream_buffer_bytes));
        let https = CONNECTION_BYTES
            + HTTP2_BYTES.0
            + Field::value(self.https_streams) * (HTTP2_BYTES.1 + Field::value(self.https_head_bytes));
        let waiting = Field::value(self.quic_incoming_bytes_total).saturating_mul(Field::value(self.quic_threads));
        let all = |each: u64, connections: u32| each.saturating_mul(Field::value(connections));
        all(quic, self.quic_connections).saturating_add(all(https, self.https_connections)).saturating_add(waiting)
    }
}

impl<'de> serde::Deserialize<'de> for Limits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Table;

        impl<'de> Visitor<'de> for Table {
            type Value = Limits;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of limits")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Limits, A::Error> {
                let mut limits = Limits::default();
                while let Some(row) = map.next_key_seed(Key)? {
                    limits.set(row.key, map.next_value_seed(Value(row))?);
                }
                Ok(limits)
            }
        }

        deserializer.deserialize_map(Table)
    }
}

/// A key of the table; the error of an unknown one points at the key.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = &'static Row;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let key = <String as serde::Deserialize>::deserialize(deserializer)?;
        ROWS.iter().find(|row| row.key == key).ok_or_else(|| D::Error::unknown_field(&key, KEYS))
    }
}

/// A value within the bounds of its row.
struct Value(&'static Row);

impl<'de> DeserializeSeed<'de> for Value {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u64, D::Error> {
        let Self(row) = self;
        let text = |deserializer| <String as serde::Deserialize>::deserialize(deserializer);
        let value = match row.unit {
            Unit::Count => <u64 as serde::Deserialize>::deserialize(deserializer)?,
            Unit::Bytes => words::parse_size(&text(deserializer)?).map_err(D::Error::custom)?,
            Unit::Time => {
                let duration = words::parse_duration(&text(deserializer)?).map_err(D::Error::custom)?;
                Field::value(duration)
            }
        };
        if (row.least..=row.most).contains(&value) {
            return Ok(value);
        }
        let (least, most) = (row.unit.write(row.least), row.unit.write(row.most));
        Err(D::Error::custom(format!("limits.{} must be between {least} and {most}", row.key)))
    }
}

/// The page `LIMITS.md`.
pub fn page() -> String {
    let mut page = String::from(
        "# Limits\n\nEvery limit of the service: the key in the section `[limits]`, its default, the values that are \
         accepted, and\nwhat it is for. This page is made from the table in `limits.rs`; a test holds them together.\n\n\
         | key | unit | default | least | most | what it bounds, and why |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for row in ROWS {
        let word = |value| row.unit.write(value).replace('"', "");
        let (default, least, most) = (word(row.default), word(row.least), word(row.most));
        let unit = row.unit.as_str();
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| `{}` | {unit} | {default} | {least} | {most} | {} |", row.key, row.reason);
    }
    page
}
