//! The doors as the daemon sees them: something with an address, a certificate that can be replaced, and an end.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use crate::config::{Config, Material};
use crate::secrets::Secrets;
use crate::server::stats::Door;
use crate::server::{Shared, Shutdown};

/// A replacement that is checked and cannot fail any more.
pub type Swap<'d> = Box<dyn FnOnce() + Send + 'd>;

/// An open door.
pub trait OpenDoor: Send + Sync {
    /// Which one.
    fn door(&self) -> Door;

    /// Where it listens; the port is the one the system chose if 0 was asked for.
    fn address(&self) -> SocketAddr;

    /// Makes the TLS configuration of `material`, and gives back what puts it in force for new connections. A reload
    /// runs the swaps only when every door has given one: all or nothing.
    ///
    /// # Errors
    /// The material cannot be used, in words; nothing has changed.
    fn prepare(&self, material: &Material) -> Result<Swap<'_>, String>;

    /// Whether it has ended although nobody asked it to; the process ends then, and its supervisor starts it again.
    fn has_failed(&self) -> bool;

    /// Waits until everything behind the door has ended, which the shutdown signal brings about.
    fn join(self: Box<Self>) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// What a door needs to open.
#[derive(Clone)]
pub struct Opening<'a> {
    /// Addresses, names, limits.
    pub config: &'a Config,
    /// Certificates.
    pub material: &'a Material,
    /// The keys of the QUIC endpoint.
    pub secrets: &'a Secrets,
    /// What it answers from.
    pub shared: &'a Shared,
    /// When it ends.
    pub shutdown: &'a Shutdown,
}
