//! The doors: they translate, and decide nothing.
//!
//! A door takes bytes from a socket, finds out who the caller is, calls the service, and writes the answer. The two
//! doors (QUIC and HTTPS) share what stands in [`Shared`].

#![expect(clippy::disallowed_methods, reason = "doors measure how long answers take and keep deadlines")]

// How many connections may be in.
mod admission;
// The admin API as JSON, whichever door carries it.
pub mod api;
// Who a certificate, a secret or a bearer token belongs to.
pub mod credentials;
// Where the native protocol's bytes and the service meet.
mod desk;
// What the receipt of a change waits for.
mod fence;
// One stream of a follower.
mod follow;
// The HTTPS door.
pub mod http;
// When a follower may be told the next thing.
mod pace;
// Changes of a stream that are under way.
mod pending;
// The QUIC door.
pub mod quic;
// Every limit of the QUIC door.
pub mod quic_limits;
// One stream of the QUIC door.
mod session;
// What the doors have counted.
pub mod stats;
// Certificates, keys and roots of both doors.
pub mod tls;
// Whose turn it is.
mod turns;
// How the native protocol reaches the JSON API.
pub mod tunnel;

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::service::Service;
pub use crate::wire::Wait;
use credentials::Callers;
use stats::Stats;

/// What all doors stand on.
#[derive(Clone)]
pub struct Shared {
    /// What is asked and told.
    pub service: Service,
    /// Who may; replaced whole on reload.
    pub callers: Arc<ArcSwap<Callers>>,
    /// Read once per batch of questions, and handed inward.
    pub clock: Clock,
    /// What is counted.
    pub stats: Arc<Stats>,
}

/// How far the shutdown has come. It only goes forward.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// Serving.
    Open,
    /// No new connections; what is in flight is finished, callers are told to go.
    Draining,
    /// The deadline has passed: close.
    Closed,
}

/// A door's end of the shutdown signal.
pub type Shutdown = watch::Receiver<Phase>;
