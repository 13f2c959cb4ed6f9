//! The QUIC door: sockets, newcomers, connections, and their end.
//!
//! One thread for each core that should serve, each with a current-thread runtime and a socket of its own on the same
//! port: what belongs to a connection never leaves its thread, only the service is shared. The kernel steers packets by
//! their addresses, so clients cannot migrate; they connect again.
//!
//! A newcomer is counted, may have to prove its address, has seconds to show a certificate that leads to the client CA
//! and belongs to a caller, and then to send its first request. A panic costs one connection and is counted.
//!
//! Which way it falls: refused before the handshake without an answer worth amplifying; after it with a close code of
//! the closed list in `wire/PROTOCOL.md`. On shutdown clients are asked to leave, then closed.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, ConnectionError, Endpoint, EndpointConfig, Incoming, ServerConfig, TokioRuntime};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};

use super::admission::{Admission, Place};
use super::desk::Desk;
use super::pending::RoomForChanges;
use super::quic_limits::{QuicOptions, RetryPolicy};
use super::session::{Activity, Notice, Session, Stirring, close};
use super::stats::RefusedFor;
use super::tls::{TlsError, TlsMaterial, quic_config};
use super::tunnel::Tunnel;
use super::turns::Turns;
use super::{Phase, Shared, Shutdown};
use crate::wire::{CloseCode, Leave};

/// How often a connection looks at its age and its caller.
const TICK: Duration = Duration::from_secs(1);

/// A client that was asked to leave and has nothing in flight is closed after this long, or three round trips if they
/// are longer: what it sent before it heard of it still arrives, and one that is gone holds nothing up.
const LEAVE_QUIET: Duration = Duration::from_millis(100);

/// How often a connection that is to leave is looked at.
const LEAVE_TICK: Duration = Duration::from_millis(20);

/// How long the last packets may take after everything was closed.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why the door cannot open, or not change its certificate. The text is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum QuicError {
    /// The address cannot be used.
    #[error("cannot listen on {address} (UDP): {source}; choose another address, or stop what holds it")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A thread or its runtime could not be started.
    #[error("cannot start a thread of the QUIC door: {0}")]
    Start(#[source] io::Error),
    /// TLS is not in order.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The system has no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

/// An open QUIC door.
#[derive(Debug)]
pub struct QuicDoor {
    local: SocketAddr,
    endpoints: Vec<Endpoint>,
    threads: Vec<JoinHandle<()>>,
    making: Making,
    closing: Arc<AtomicBool>,
}

/// What one thread's connections share.
struct Room {
    shared: Shared,
    options: Arc<QuicOptions>,
    tunnel: Tunnel,
    shutdown: Shutdown,
    admission: Arc<Admission>,
    handshakes: AtomicUsize,
    turns: Arc<Turns>,
}

/// What quinn's settings are made from, at the start and at every reload.
#[derive(Clone)]
struct Making {
    options: Arc<QuicOptions>,
    secret: [u8; 32],
}

impl std::fmt::Debug for Making {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Making(…)")
    }
}

impl Making {
    fn new(options: QuicOptions) -> Result<Self, QuicError> {
        let secret = match options.reset_secret {
            Some(secret) => secret,
            None => {
                let mut secret = [0; 32];
                SystemRandom::new().fill(&mut secret).map_err(|_| QuicError::Random)?;
                secret
            }
        };
        Ok(Self { options: Arc::new(options), secret })
    }

    fn server(&self, material: &TlsMaterial) -> Result<ServerConfig, QuicError> {
        let crypto = QuicServerConfig::try_from(quic_config(material)?)
            .map_err(|error| QuicError::Tls(TlsError::Config(error.to_string())))?;
        let mut token_secret = self.secret.to_vec();
        token_secret.extend_from_slice(b"address validation");
        let token_key = ring::hkdf::Salt::new(ring::hkdf::HKDF_SHA256, &[]).extract(&token_secret);
        let mut config = ServerConfig::new(Arc::new(crypto), Arc::new(token_key));
        config
            .transport_config(self.options.transport())
            .migration(false)
            .max_incoming(self.options.incoming_max)
            .incoming_buffer_size(self.options.incoming_buffer_bytes)
            .incoming_buffer_size_total(self.options.incoming_buffer_bytes_total);
        Ok(config)
    }

    fn endpoint(&self) -> EndpointConfig {
        EndpointConfig::new(Arc::new(ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &self.secret)))
    }
}

impl QuicDoor {
    /// Binds `address` (port 0: any free one) and serves on threads of its own, until `shutdown` says otherwise.
    ///
    /// # Errors
    /// [`QuicError`]; nothing is left running.
    pub fn open(
        address: SocketAddr,
        options: QuicOptions,
        material: &TlsMaterial,
        shared: Shared,
        tunnel: Tunnel,
        shutdown: Shutdown,
    ) -> Result<Self, QuicError> {
        let making = Making::new(options)?;
        let options = making.options.clone();
        let config = making.server(material)?;
        let sockets = bind(address, options.threads.clamp(1, 64), options.socket_buffer_bytes)?;
        let bound = |source| QuicError::Bind { address, source };
        let local = sockets.first().map_or(Ok(address), UdpSocket::local_addr).map_err(bound)?;
        let admission = Admission::new(options.connections_max, options.connections_per_address);
        let admission = Arc::new(admission.per_caller(options.connections_per_caller));
        let closing = Arc::new(AtomicBool::new(false));
        let mut door = Self { local, endpoints: Vec::new(), threads: Vec::new(), making, closing: closing.clone() };
        for (number, socket) in sockets.into_iter().enumerate() {
            let room = Arc::new(Room {
                shared: shared.clone(),
                options: options.clone(),
                tunnel: tunnel.clone(),
                shutdown: shutdown.clone(),
                admission: admission.clone(),
                handshakes: AtomicUsize::new(0),
                turns: Arc::new(Turns::new(options.waiting_bytes_per_caller)),
            });
            match door.start_thread(number, socket, config.clone(), room, closing.clone()) {
                Ok(()) => {}
                Err(error) => {
                    door.endpoints.iter().for_each(|endpoint| endpoint.close(0_u32.into(), b""));
                    door.join();
                    return Err(QuicError::Start(error));
                }
            }
        }
        Ok(door)
    }

    fn start_thread(
        &mut self,
        number: usize,
        socket: UdpSocket,
        config: ServerConfig,
        room: Arc<Room>,
        closing: Arc<AtomicBool>,
    ) -> io::Result<()> {
        let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
        let endpoint_config = self.making.endpoint();
        let work = move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(Err(error))),
            };
            runtime.block_on(async move {
                match Endpoint::new(endpoint_config, Some(config), socket, Arc::new(TokioRuntime)) {
                    Ok(endpoint) => {
                        if ready.send(Ok(endpoint.clone())).is_ok() {
                            serve(endpoint, room, &closing).await;
                        }
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
            });
        };
        let thread = std::thread::Builder::new().name(format!("quic-{number}")).spawn(work)?;
        self.threads.push(thread);
        let endpoint = is_ready.recv().unwrap_or_else(|_| Err(io::Error::other("the thread ended at once")))?;
        self.endpoints.push(endpoint);
        Ok(())
    }

    /// The address it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Connections from now on get this certificate and are checked against these roots. Connections that are there
    /// stay as they are; callers that vanished are found out by `callers`.
    ///
    /// # Errors
    /// The material is not in order; nothing has changed.
    pub fn reload(&self, material: &TlsMaterial) -> Result<(), QuicError> {
        let config = self.making.server(material)?;
        if self.closing.load(Ordering::Acquire) {
            return Ok(());
        }
        for endpoint in &self.endpoints {
            endpoint.set_server_config(Some(config.clone()));
        }
        Ok(())
    }

    /// Connections that are open now, handshakes included.
    pub fn open_connections(&self) -> usize {
        self.endpoints.iter().map(Endpoint::open_connections).sum()
    }

    /// Whether a thread has ended although nobody asked it to: the process should end too.
    pub fn has_failed(&self) -> bool {
        !self.closing.load(Ordering::Acquire) && self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Waits until every thread has ended, which is after the shutdown signal reached [`Phase::Closed`] or the last
    /// client left a draining door. Blocks.
    pub fn join(self) {
        for thread in self.threads {
            // A thread that panicked has nothing more to say; `has_failed` told.
            let _ = thread.join();
        }
    }
}

/// As many sockets as threads, on one port.
fn bind(address: SocketAddr, sockets: usize, buffer_bytes: usize) -> Result<Vec<UdpSocket>, QuicError> {
    use socket2::{Domain, Protocol, Socket, Type};
    let one = |address: SocketAddr| -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if sockets > 1 {
            socket.set_reuse_port(true)?;
        }
        // The kernel grants what its own limit allows; less is slower under bursts, not wrong.
        let _ = socket.set_recv_buffer_size(buffer_bytes);
        let _ = socket.set_send_buffer_size(buffer_bytes);
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        Ok(socket.into())
    };
    let bound = |source| QuicError::Bind { address, source };
    let first = one(address).map_err(bound)?;
    let local = first.local_addr().map_err(bound)?;
    let mut all = vec![first];
    for _ in 1..sockets {
        all.push(one(local).map_err(bound)?);
    }
    Ok(all)
}

/// One thread's loop: newcomers, until the door closes.
async fn serve(endpoint: Endpoint, room: Arc<Room>, closing: &AtomicBool) {
    let mut shutdown = room.shutdown.clone();
    let mut connections: JoinSet<()> = JoinSet::new();
    let mut turns = JoinSet::new();
    let rounds = room.turns.clone();
    turns.spawn(async move { rounds.go_round().await });
    let mut draining = false;
    loop {
        let phase = *shutdown.borrow_and_update();
        if phase >= Phase::Draining && !draining {
            closing.store(true, Ordering::Release);
            endpoint.set_server_config(None);
            draining = true;
        }
        if phase == Phase::Closed || (draining && connections.is_empty()) {
            break;
        }
        tokio::select! {
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => admit(incoming, &room, &mut connections),
                None => break,
            },
            Some(ended) = connections.join_next() => {
                count_panic(&room.shared, &ended);
            }
            // A signal whose sender is gone can only mean the end.
            changed = shutdown.changed() => if changed.is_err() { break },
            // Without it streams would wait for ever: this thread ends, and with it the process.
            Some(_) = turns.join_next() => return,
        }
    }
    closing.store(true, Ordering::Release);
    endpoint.close(u32::from(CloseCode::GoingAway as u8).into(), CloseCode::GoingAway.as_str().as_bytes());
    let _ = timeout(LAST_WORDS, async {
        while let Some(ended) = connections.join_next().await {
            count_panic(&room.shared, &ended);
        }
        endpoint.wait_idle().await;
    })
    .await;
}

fn count_panic(shared: &Shared, ended: &Result<(), JoinError>) -> bool {
    let panicked = ended.as_ref().is_err_and(JoinError::is_panic);
    if panicked {
        shared.stats.panics.fetch_add(1, Ordering::Relaxed);
    }
    panicked
}

/// Decides whether a newcomer may begin its handshake.
fn admit(incoming: Incoming, room: &Arc<Room>, connections: &mut JoinSet<()>) {
    let busy = match room.options.retry {
        RetryPolicy::Never => false,
        RetryPolicy::WhenBusy(handshakes) => room.handshakes.load(Ordering::Relaxed) >= handshakes,
        RetryPolicy::Always => true,
    };
    if busy && !incoming.remote_address_validated() && incoming.may_retry() {
        // Nothing is kept for it; it comes back with proof, or does not.
        let _ = incoming.retry();
        return;
    }
    let Some(place) = room.admission.enter(incoming.remote_address().ip()) else {
        room.shared.stats.quic.count_refused(RefusedFor::Overload);
        return incoming.refuse();
    };
    connections.spawn(welcome(incoming, room.clone(), place));
}

/// A handshake in flight, counted for as long as it is.
struct Handshake<'r>(&'r AtomicUsize);

impl<'r> Handshake<'r> {
    fn begin(count: &'r AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Handshake<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Handshake, recognition, and then the connection until its end.
async fn welcome(incoming: Incoming, room: Arc<Room>, place: Place) {
    let stats = &room.shared.stats.quic;
    let connection = {
        let _handshake = Handshake::begin(&room.handshakes);
        let handshake = async { incoming.accept()?.await };
        match timeout(room.options.handshake_deadline, handshake).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => {
                stats.handshakes_failed.fetch_add(1, Ordering::Relaxed);
                if matches!(error, ConnectionError::TransportError(_)) {
                    stats.count_refused(RefusedFor::Credentials);
                }
                return;
            }
            Err(_) => {
                stats.handshakes_failed.fetch_add(1, Ordering::Relaxed);
                return stats.count_refused(RefusedFor::TooSlow);
            }
        }
    };
    stats.accepted.fetch_add(1, Ordering::Relaxed);
    stats.connections.fetch_add(1, Ordering::Relaxed);
    let _open = Open(&room.shared);
    converse(&connection, &room, place).await;
}

/// A connection that is open, counted for as long as it is.
struct Open<'s>(&'s Shared);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.stats.quic.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn converse(connection: &Connection, room: &Arc<Room>, place: Place) {
    let stats = &room.shared.stats.quic;
    let certificate = certificate_of(connection);
    let caller = certificate.as_ref().and_then(|der| room.shared.callers.load().by_certificate(der));
    let (Some(certificate), Some(caller)) = (certificate, caller) else {
        stats.count_refused(RefusedFor::Credentials);
        return close(connection, CloseCode::UnknownCaller, "the certificate belongs to no caller");
    };
    let Some((_place, account)) = place.of_caller(&caller.id) else {
        stats.count_refused(RefusedFor::Overload);
        return close(connection, CloseCode::TooManyConnections, "the caller has too many connections");
    };
    let (notify, notices) = watch::channel(Notice::Stay);
    let mut streams: JoinSet<()> = JoinSet::new();
    let mut shutdown = room.shutdown.clone();
    let born = Instant::now();
    let mut used = false;
    let mut leaves_at: Option<Instant> = None;
    let activity = Arc::new(Activity::default());
    let (mut turns, mut quiet_since) = (0, born);
    let mut callers = room.shared.callers.load_full();
    let mut tick = every(TICK.min(room.options.first_request_deadline).max(Duration::from_millis(10)));
    loop {
        if leaves_at.is_none() && *shutdown.borrow_and_update() != Phase::Open {
            leaves_at = Some(Instant::now() + room.options.leave_grace);
            let _ = notify.send(Notice::Leave(Leave::ShuttingDown));
            (tick, quiet_since) = (every(LEAVE_TICK), Instant::now());
        }
        tokio::select! {
            accepted = connection.accept_bi() => match accepted {
                Ok((send, receive)) => {
                    used = true;
                    let made = Desk::new(
                        room.shared.clone(),
                        room.tunnel.clone(),
                        certificate.clone(),
                        RoomForChanges {
                            of_stream: whole(room.options.changes_in_flight_max),
                            of_caller: whole(room.options.changes_in_flight_per_caller),
                            account: account.clone(),
                        },
                    );
                    let Ok(desk) = made else {
                        return close(connection, CloseCode::UnknownCaller, "the certificate belongs to no caller any more");
                    };
                    let mut notices = notices.clone();
                    if leaves_at.is_some() {
                        notices.mark_changed();
                    }
                    let session = Session {
                        shared: room.shared.clone(),
                        certificate: certificate.clone(),
                        desk,
                        connection: connection.clone(),
                        options: room.options.clone(),
                        stats: room.shared.stats.clone(),
                        notices,
                        stirring: Stirring::new(activity.clone()),
                        seat: room.turns.sit(&caller.id),
                        account: account.clone(),
                    };
                    streams.spawn(session.run(send, receive));
                }
                // Closed by either side; what the streams still hold ends with them.
                Err(_) => return,
            },
            Some(ended) = streams.join_next() => if count_panic(&room.shared, &ended) {
                return close(connection, CloseCode::Internal, "the server failed while it answered");
            },
            changed = shutdown.changed() => if changed.is_err() || *shutdown.borrow() == Phase::Closed {
                return close(connection, CloseCode::GoingAway, "the server shuts down");
            },
            now = tick.tick() => {
                if !used && now >= born + room.options.first_request_deadline {
                    stats.count_refused(RefusedFor::TooSlow);
                    return close(connection, CloseCode::TooSlow, "no request came in time");
                }
                if leaves_at.is_some_and(|at| now >= at) {
                    return close(connection, CloseCode::GoingAway, "the time to leave is over");
                }
                if !activity.is_quiet(&mut turns) {
                    quiet_since = now;
                }
                if leaves_at.is_some() && now >= quiet_since + LEAVE_QUIET.max(connection.rtt() * 3) {
                    return close(connection, CloseCode::GoingAway, "nothing is in flight any more");
                }
                if leaves_at.is_none() && now >= born + room.options.connection_age_max {
                    leaves_at = Some(now + room.options.leave_grace);
                    let _ = notify.send(Notice::Leave(Leave::TooOld));
                    (tick, quiet_since) = (every(LEAVE_TICK), now);
                }
                if !Arc::ptr_eq(&room.shared.callers.load(), &callers) {
                    callers = room.shared.callers.load_full();
                    if callers.by_certificate(&certificate).is_none_or(|now| now.id != caller.id) {
                        stats.count_refused(RefusedFor::Credentials);
                        return close(connection, CloseCode::UnknownCaller, "the certificate belongs to no caller any more");
                    }
                }
            },
        }
    }
}

fn whole(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Ticks at least this far apart.
fn every(period: Duration) -> Interval {
    let mut tick = interval(period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick
}

/// The certificate the client showed, DER; TLS has checked that it leads to the client CA.
fn certificate_of(connection: &Connection) -> Option<Arc<[u8]>> {
    let identity = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    identity.first().map(|leaf| Arc::from(leaf.as_ref()))
}
