//! How a client is set up.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// Whether later questions must see the changes this client has made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OwnChanges {
    /// They must: every question demands at least the revision of this client's last change, from whichever server. A
    /// server that has not reached it yet gives no verdict.
    Seen,
    /// Only where a question says so itself.
    NotDemanded,
}

/// The settings of a client. [`Options::new`] fills in everything that has a default.
#[derive(Clone)]
pub struct Options {
    /// Addresses of servers, and the name each one's certificate is checked for. At least one.
    pub servers: Vec<(SocketAddr, String)>,
    /// The CA certificates that servers' certificates must lead to, PEM.
    pub ca_pem: Vec<u8>,
    /// This caller's certificate chain, PEM.
    pub certificate_pem: Vec<u8>,
    /// The key of that certificate, PEM.
    pub key_pem: Vec<u8>,
    /// Connections kept open, spread over the servers. 1 to 64. Default 2: one can break without a pause.
    pub connections: usize,
    /// From a question to its answer, retries on other connections included. Default 250 ms.
    pub deadline: Duration,
    /// The same for changes and API requests, which are made durable first. Default 10 s.
    pub change_deadline: Duration,
    /// From the first packet to a connection that can be used. Default 3 s.
    pub connect_deadline: Duration,
    /// Requests unanswered on one connection; the server may want fewer. Default 1,024.
    pub in_flight_max: usize,
    /// Requests that wait for one connection before a new one has to wait outside. Default 4,096.
    pub queue_max: usize,
    /// The longest pause between two attempts to connect. Default 2 s; after a refusal of the caller five times that.
    pub backoff_max: Duration,
    /// Read-your-writes. Default [`OwnChanges::Seen`].
    pub own_changes: OwnChanges,
}

impl Options {
    /// The defaults, with these servers and these PEM texts.
    pub fn new(
        servers: Vec<(SocketAddr, String)>,
        ca_pem: impl Into<Vec<u8>>,
        certificate_pem: impl Into<Vec<u8>>,
        key_pem: impl Into<Vec<u8>>,
    ) -> Self {
        Self {
            servers,
            ca_pem: ca_pem.into(),
            certificate_pem: certificate_pem.into(),
            key_pem: key_pem.into(),
            connections: 2,
            deadline: Duration::from_millis(250),
            change_deadline: Duration::from_secs(10),
            connect_deadline: Duration::from_secs(3),
            in_flight_max: 1_024,
            queue_max: 4_096,
            backoff_max: Duration::from_secs(2),
            own_changes: OwnChanges::Seen,
        }
    }
}

impl fmt::Debug for Options {
    /// Everything but the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("servers", &self.servers)
            .field("connections", &self.connections)
            .field("deadline", &self.deadline)
            .field("change_deadline", &self.change_deadline)
            .field("connect_deadline", &self.connect_deadline)
            .field("in_flight_max", &self.in_flight_max)
            .field("queue_max", &self.queue_max)
            .field("backoff_max", &self.backoff_max)
            .field("own_changes", &self.own_changes)
            .finish_non_exhaustive()
    }
}
