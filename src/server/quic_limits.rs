//! Every limit of the QUIC door, with its default and its reason, and their translation into quinn's settings.
//!
//! quinn's own defaults are made for bulk transfer with strangers: an unbounded connection window, a hundred streams
//! of 1.25 MB each, 65,536 pending handshakes. Each is set here. What one connection may make the server hold is
//! `receive_window + send_window + streams × (stream_buffer_bytes_max × 2)`, and that times `connections_max` is the
//! memory to plan for: by default 1,024 × (1 + 1 + 2 MiB) at the very worst.
//!
//! Questions wait in those windows and nowhere else; whose are answered first, and which are refused, stands in `turns.rs`.

use std::sync::Arc;
use std::time::Duration;

use quinn::{AckFrequencyConfig, IdleTimeout, TransportConfig, VarInt};

/// When a newcomer has to prove its address before anything is spent on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RetryPolicy {
    /// Never.
    Never,
    /// When this many handshakes are in flight.
    WhenBusy(usize),
    /// Always: one more round trip for every connection.
    Always,
}

/// The settings of the QUIC door.
#[derive(Clone, Debug)]
pub struct QuicOptions {
    /// Threads, each with a runtime and a socket of its own (`SO_REUSEPORT`). One for each core that should serve.
    /// 1 to 64. Default 1.
    pub threads: usize,
    /// Bytes a connection may have sent that were not read yet, all streams together. Default 1 MiB.
    pub receive_window: u32,
    /// The same for one stream. Default 64 KiB: about 1,400 checks.
    pub stream_receive_window: u32,
    /// Bytes sent and not acknowledged, for one connection; a slow reader is cut, not buffered. Default 1 MiB.
    pub send_window: u32,
    /// Streams a client may have open. They live long and carry many requests each, so a few are enough, and each
    /// costs buffers. Default 16.
    pub streams: u32,
    /// What the input or output buffer of one stream may keep between two batches, in bytes. Default 64 KiB.
    pub stream_buffer_bytes_max: usize,
    /// Requests a client should have unanswered on a stream; told, and kept by our client. Default 1,024.
    pub in_flight_max: u32,
    /// Changes and API requests unanswered on a stream; one more is `busy`. Default 64.
    pub changes_in_flight_max: u32,
    /// Changes and API requests unanswered of one caller, over all its streams; one more is `busy`. What takes rights away
    /// has a quarter more. Default 1,024.
    pub changes_in_flight_per_caller: u32,
    /// Followers of one caller; one more is `overloaded`. Default 256.
    pub followers_per_caller: u32,
    /// Bytes of one caller that may wait for their turn on one thread, over all its streams; of more, the newest
    /// questions are answered "overloaded". Default 4 MiB: some 90,000 checks.
    pub waiting_bytes_per_caller: usize,
    /// In a flood of changes, the average time between two announcements to one follower, in proportion longer with more
    /// than ten followers. Changes that come singly go out at once. Default 1 ms.
    pub follower_pause: Duration,
    /// A connection that is silent for this long is gone. The client keeps it alive. Default 15 s.
    pub idle_timeout: Duration,
    /// From the first packet to a verified client certificate. Default 3 s.
    pub handshake_deadline: Duration,
    /// From there to the first stream. Default 1 s.
    pub first_request_deadline: Duration,
    /// How long half a message may stay half. Default 5 s.
    pub partial_message_deadline: Duration,
    /// How long answers may wait for a client that does not read them. Default 5 s.
    pub write_deadline: Duration,
    /// The certificate is looked at when a connection begins; so no connection lives longer than this. Default 1 h.
    pub connection_age_max: Duration,
    /// How long a client that was asked to leave may take. Default 5 s.
    pub leave_grace: Duration,
    /// Connections in all. Default 1,024.
    pub connections_max: usize,
    /// Connections of one caller. Default 64.
    pub connections_per_caller: usize,
    /// Connections of one IP address. Default 64; lower it to 8 where callers do not share addresses.
    pub connections_per_address: usize,
    /// Handshakes that wait to be looked at, for one thread; more are dropped without an answer. Default 1,024.
    pub incoming_max: usize,
    /// Bytes kept for one of those. Default 16 KiB.
    pub incoming_buffer_bytes: u64,
    /// Bytes kept for all of those. Default 8 MiB.
    pub incoming_buffer_bytes_total: u64,
    /// Address validation. Default: with 128 handshakes in flight.
    pub retry: RetryPolicy,
    /// Ask the client to acknowledge only every n-th packet, where it knows how. Default 10; 0 leaves it to QUIC.
    pub ack_every: u32,
    /// And at the latest after this long. Default 2 ms.
    pub ack_delay: Duration,
    /// The round trip that is assumed before one was measured: a data centre's. Default 10 ms.
    pub initial_rtt: Duration,
    /// Socket buffers in bytes, each way; the kernel may grant less. Default 4 MiB.
    pub socket_buffer_bytes: usize,
    /// 32 secret bytes that stay the same over restarts. With them, a client of a server that crashed is told at once
    /// instead of waiting for its idle time-out. `None`: random.
    pub reset_secret: Option<[u8; 32]>,
}

impl Default for QuicOptions {
    fn default() -> Self {
        Self {
            threads: 1,
            receive_window: 1024 * 1024,
            stream_receive_window: 64 * 1024,
            send_window: 1024 * 1024,
            streams: 16,
            stream_buffer_bytes_max: 64 * 1024,
            in_flight_max: 1024,
            changes_in_flight_max: 64,
            changes_in_flight_per_caller: 1_024,
            followers_per_caller: 256,
            waiting_bytes_per_caller: 4 * 1024 * 1024,
            follower_pause: Duration::from_millis(1),
            idle_timeout: Duration::from_secs(15),
            handshake_deadline: Duration::from_secs(3),
            first_request_deadline: Duration::from_secs(1),
            partial_message_deadline: Duration::from_secs(5),
            write_deadline: Duration::from_secs(5),
            connection_age_max: Duration::from_secs(3_600),
            leave_grace: Duration::from_secs(5),
            connections_max: 1_024,
            connections_per_caller: 64,
            connections_per_address: 64,
            incoming_max: 1_024,
            incoming_buffer_bytes: 16 * 1024,
            incoming_buffer_bytes_total: 8 * 1024 * 1024,
            retry: RetryPolicy::WhenBusy(128),
            ack_every: 10,
            ack_delay: Duration::from_millis(2),
            initial_rtt: Duration::from_millis(10),
            socket_buffer_bytes: 4 * 1024 * 1024,
            reset_secret: None,
        }
    }
}

impl QuicOptions {
    /// quinn's transport settings. No datagrams, no streams opened by the client one way, no migration (that stands
    /// with the server's settings): the protocol uses none.
    ///
    /// Fairness among streams stays on, because without it quinn knows no priorities: a stream that has begun to send goes on
    /// before all others for as long as it has anything, and an announcement waited for seconds beside a stream that was
    /// asked all the time.
    pub(super) fn transport(&self) -> Arc<TransportConfig> {
        let mut transport = TransportConfig::default();
        // An idle time-out beyond QUIC's range (2⁶² ms) cannot be meant; QUIC's largest takes its place.
        let idle = IdleTimeout::try_from(self.idle_timeout).unwrap_or(IdleTimeout::from(VarInt::MAX));
        transport
            .receive_window(VarInt::from_u32(self.receive_window))
            .stream_receive_window(VarInt::from_u32(self.stream_receive_window))
            .send_window(u64::from(self.send_window))
            .max_concurrent_bidi_streams(VarInt::from_u32(self.streams))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .max_idle_timeout(Some(idle))
            .datagram_receive_buffer_size(None)
            .crypto_buffer_size(16 * 1024)
            .send_fairness(true)
            .initial_rtt(self.initial_rtt);
        if self.ack_every > 0 {
            let mut frequency = AckFrequencyConfig::default();
            frequency.ack_eliciting_threshold(VarInt::from_u32(self.ack_every)).max_ack_delay(Some(self.ack_delay));
            transport.ack_frequency_config(Some(frequency));
        }
        Arc::new(transport)
    }
}
