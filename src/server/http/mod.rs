//! The HTTPS door: RFC 7662, 7009 and 8414 for everybody who has a library already, the decision for gateways, and the
//! admin API. HTTP/1.1 and HTTP/2 over TLS, nothing in plain text (R7662-06).
//!
//! ```text
//! accept ── TLS, under a deadline ── hyper ── dispatch ── /introspect, /revoke            oauth.rs
//!   │        off the accept loop                 │        /authorize                      authorize.rs
//!   └ at most connections_max                    │        /.well-known/oauth-authorization-server   metadata.rs
//!                                                │        /openapi.json, /v1/…            ../api
//!                                                └ form.rs, authenticate.rs, rate.rs come first
//! ```
//!
//! What it promises: every limit in [`HttpOptions`] holds; a panic costs one request and is counted; a shutdown ends
//! within the drain deadline; certificates are read anew for every connection. What it does not do: build the TLS
//! configuration (it has to offer `h2` and `http/1.1` by ALPN, to *ask* for client certificates without demanding
//! them, and to keep no session tickets), decide anything about a token, log a query or a header.

// Bytes from outside are read here: nothing may be able to panic on them.
#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::string_slice))]

mod answer;
mod authenticate;
mod authorize;
mod challenge;
mod dispatch;
#[cfg(any(test, feature = "testing"))]
mod face;
mod form;
mod metadata;
mod oauth;
mod rate;
#[cfg(test)]
mod tests;

#[cfg(any(test, feature = "testing"))]
pub use face::{Face, Told};
pub use metadata::OauthSettings;
pub use rate::Rate;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::admission::{Account, Admission, Begun};
use super::stats::RefusedFor;
use super::{Phase, Shared, Shutdown};
use crate::domain::CallerId;
use answer::{Answer, Manner};
use dispatch::Peer;
use rate::Rates;

/// The limits of the HTTPS door.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// Connections at once; one more is closed unanswered. Each may hold some hundred kilobytes, so this follows from
    /// the memory there is.
    pub connections_max: usize,
    /// Connections at once from one IP address; one more is closed unanswered.
    pub connections_per_address: usize,
    /// Changes and API requests of one caller at once; one more is answered 503. What takes rights away has a quarter more.
    pub changes_in_flight_per_caller: usize,
    /// How long a TLS handshake may take. Honest ones take milliseconds; slow ones hold a place.
    pub handshake_deadline: Duration,
    /// How long after the handshake the first request's head must be there: without it, whoever says nothing at all
    /// holds a place for as long as it likes.
    pub first_request_deadline: Duration,
    /// How long an HTTP/1.1 connection may wait for the whole head of its next request. It is the keep-alive time too,
    /// so it is longer than the upstream keep-alive of common proxies (60 s).
    pub head_deadline: Duration,
    /// How long a body may take to arrive.
    pub body_deadline: Duration,
    /// How old a connection may get before it is told to go: bounds how long an expired certificate is believed.
    pub connection_age_max: Duration,
    /// HTTP/2 requests at once on one connection.
    pub streams_max: u32,
    /// All headers of one request, in bytes.
    pub head_bytes_max: u32,
    /// A form, in bytes: a token of 4 KiB, percent-encoded, fits.
    pub form_bytes_max: usize,
    /// A body of the JSON API, in bytes (never more than [`super::api::BODY_BYTES_MAX`]): a batch of 256 questions
    /// by digest fits.
    pub api_bytes_max: usize,
    /// How long requests in flight may take to finish once the shutdown has begun; then connections are cut.
    pub drain_deadline: Duration,
    /// How often each caller may ask; `None` never throttles. The default is above what an honest caller sends over
    /// HTTPS and stops one that has gone mad.
    pub rate: Option<Rate>,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            connections_max: 1_024,
            connections_per_address: 512,
            changes_in_flight_per_caller: 1_024,
            handshake_deadline: Duration::from_secs(3),
            first_request_deadline: Duration::from_secs(5),
            head_deadline: Duration::from_secs(75),
            body_deadline: Duration::from_secs(10),
            connection_age_max: Duration::from_secs(3_600),
            streams_max: 128,
            head_bytes_max: 16 * 1024,
            form_bytes_max: 16 * 1024,
            api_bytes_max: 64 * 1024,
            drain_deadline: Duration::from_secs(10),
            rate: Some(Rate { per_second: 50_000, burst: 50_000 }),
        }
    }
}

/// Headers in one HTTP/1.1 request.
const HEADERS_MAX: usize = 64;
/// HTTP/2 windows: one for a stream (the largest body), one for a connection.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of answers that wait for a reader that does not read, for each HTTP/2 stream.
const SEND_BUFFER: usize = 64 * 1024;
/// A silent HTTP/2 peer is asked for a sign of life this often, and cut when none comes in this time.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_DEADLINE: Duration = Duration::from_secs(10);
/// A pause when the system has no file descriptor left, so that the accept loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What every request is answered from.
struct Desk {
    shared: Shared,
    settings: OauthSettings,
    options: HttpOptions,
    rates: Rates,
    /// What callers whose credentials were right have under way, so there are never more than callers.
    accounts: DashMap<CallerId, Arc<Account>>,
    metadata_paths: Vec<String>,
}

impl Desk {
    fn new(shared: Shared, settings: OauthSettings, options: HttpOptions) -> Self {
        let (rates, metadata_paths) = (Rates::new(options.rate), settings.metadata_paths());
        Self { shared, settings, options, rates, accounts: DashMap::new(), metadata_paths }
    }

    /// One more change or API request of the caller, if there is room.
    fn begin(&self, caller: &CallerId, takes_away: bool) -> Option<Begun> {
        let known = self.accounts.get(caller).map(|account| account.clone());
        let account = known.unwrap_or_else(|| self.accounts.entry(caller.clone()).or_default().clone());
        account.begin(self.options.changes_in_flight_per_caller, takes_away)
    }

    /// Records how long one question took.
    fn record(&self, started: Instant) {
        let nanoseconds = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.shared.stats.https.latency.record(nanoseconds, 1);
    }
}

/// The HTTPS door, bound and not yet running.
pub struct HttpDoor {
    listener: TcpListener,
    desk: Arc<Desk>,
    tls: Arc<ArcSwap<rustls::ServerConfig>>,
}

impl HttpDoor {
    /// Binds `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn bind(
        address: SocketAddr,
        shared: Shared,
        settings: OauthSettings,
        options: HttpOptions,
        tls: Arc<ArcSwap<rustls::ServerConfig>>,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self { listener, desk: Arc::new(Desk::new(shared, settings, options)), tls })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The socket is gone.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the shutdown has come to its end: on [`Phase::Draining`] nothing new is accepted and connections
    /// finish what they have; after the drain deadline, or on [`Phase::Closed`], they are cut.
    pub async fn run(self, mut shutdown: Shutdown) {
        let Self { listener, desk, tls } = self;
        let mut connections = JoinSet::new();
        let admission = Arc::new(Admission::new(desk.options.connections_max, desk.options.connections_per_address));
        loop {
            tokio::select! {
                biased;
                () = reached(&mut shutdown, Phase::Draining) => break,
                Some(ended) = connections.join_next(), if !connections.is_empty() => note(&desk, ended),
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => match admission.enter(peer.ip()) {
                        Some(place) => {
                            let work = connection(desk.clone(), tls.load_full(), stream, shutdown.clone());
                            connections.spawn(async move {
                                let _place = place;
                                work.await;
                            });
                        }
                        // Dropping it closes it: there is nothing to say before the handshake.
                        None => desk.shared.stats.https.count_refused(RefusedFor::Overload),
                    },
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(listener);
        let drained = async {
            while let Some(ended) = connections.join_next().await {
                note(&desk, ended);
            }
        };
        tokio::select! {
            () = drained => return,
            () = reached(&mut shutdown, Phase::Closed) => {}
            () = tokio::time::sleep(desk.options.drain_deadline) => {}
        }
        tracing::warn!(connections = connections.len(), "the drain deadline has passed; connections are cut");
        connections.shutdown().await;
    }
}

/// Waits until the shutdown has come as far as `phase`. A shutdown nobody can signal any more has come to its end.
async fn reached(shutdown: &mut Shutdown, phase: Phase) {
    // An error means that the sender is gone.
    let _ = shutdown.wait_for(|now| *now >= phase).await;
}

/// Counts a connection that panicked; an ordinary end is no news.
fn note(desk: &Desk, ended: Result<(), JoinError>) {
    if ended.is_err_and(|error| error.is_panic()) {
        desk.shared.stats.panics.fetch_add(1, Relaxed);
        tracing::error!("a connection's task panicked");
    }
}

/// Counts a connection for as long as it lives.
struct Counted<'d>(&'d Desk);

impl<'d> Counted<'d> {
    fn new(desk: &'d Desk) -> Self {
        desk.shared.stats.https.accepted.fetch_add(1, Relaxed);
        desk.shared.stats.https.connections.fetch_add(1, Relaxed);
        Self(desk)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.shared.stats.https.connections.fetch_sub(1, Relaxed);
    }
}

/// One connection, from its handshake to its end.
async fn connection(desk: Arc<Desk>, tls: Arc<rustls::ServerConfig>, stream: TcpStream, mut shutdown: Shutdown) {
    let _counted = Counted::new(&desk);
    // An answer is small: waiting for more to send only makes it late.
    let _ = stream.set_nodelay(true);
    let stats = &desk.shared.stats.https;
    let stream = match timeout(desk.options.handshake_deadline, TlsAcceptor::from(tls).accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            stats.handshakes_failed.fetch_add(1, Relaxed);
            tracing::debug!(%error, "a TLS handshake failed");
            return;
        }
        Err(_) => {
            stats.handshakes_failed.fetch_add(1, Relaxed);
            stats.count_refused(RefusedFor::TooSlow);
            return;
        }
    };
    let (_, session) = stream.get_ref();
    let certificate = session.peer_certificates().and_then(<[_]>::first).map(|der| der.as_ref().to_vec());
    let peer = Arc::new(Peer::new(certificate));
    let asked = Arc::new(AtomicBool::new(false));
    let service = service_fn({
        let (desk, asked) = (desk.clone(), asked.clone());
        move |request: Request<hyper::body::Incoming>| {
            asked.store(true, Relaxed);
            let (desk, peer) = (desk.clone(), peer.clone());
            let contained = desk.clone();
            let work = async move { dispatch::answer(&desk, &peer, request).await };
            Contained { work: Box::pin(work), desk: contained }
        }
    });
    let builder = builder(&desk.options);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut first = pin!(tokio::time::sleep(desk.options.first_request_deadline));
    let mut old = pin!(tokio::time::sleep(desk.options.connection_age_max));
    // Once the connection was told to go it has this long; unread answers must not keep it for ever.
    let mut gone = pin!(tokio::time::sleep(desk.options.connection_age_max));
    let (mut waiting, mut leaving) = (true, false);
    loop {
        tokio::select! {
            ended = serving.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended badly");
                }
                return;
            }
            () = first.as_mut(), if waiting => {
                waiting = false;
                if !asked.load(Relaxed) {
                    stats.count_refused(RefusedFor::TooSlow);
                    return;
                }
            }
            () = async { tokio::select! { () = old.as_mut() => {}, () = reached(&mut shutdown, Phase::Draining) => {} } },
                if !leaving =>
            {
                leaving = true;
                gone.as_mut().reset(tokio::time::Instant::now() + desk.options.drain_deadline);
                serving.as_mut().graceful_shutdown();
            }
            () = gone.as_mut(), if leaving => return,
        }
    }
}

fn builder(options: &HttpOptions) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    let head_bytes = usize::try_from(options.head_bytes_max).unwrap_or(usize::MAX);
    // Without a timer hyper applies no deadline at all. The buffer bounds the head; hyper wants at least 8 KiB.
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(options.head_deadline)
        .max_buf_size(head_bytes.max(8 * 1024))
        .max_headers(HEADERS_MAX)
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(options.streams_max)
        .max_header_list_size(options.head_bytes_max)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_DEADLINE);
    builder
}

/// Work whose panic costs one request: it is counted and answered with 500, and the connection lives on.
struct Contained<F> {
    work: Pin<Box<F>>,
    desk: Arc<Desk>,
}

impl<F: Future<Output = Answer>> Future for Contained<F> {
    type Output = Result<Answer, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Whatever the work borrowed is dropped with it; what it shares holds counters and atomically swapped values.
        match catch_unwind(AssertUnwindSafe(|| self.work.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(_) => {
                self.desk.shared.stats.panics.fetch_add(1, Relaxed);
                let text = "the request could not be answered; the server's log says why";
                Poll::Ready(Ok(answer::error(Manner::Api, StatusCode::INTERNAL_SERVER_ERROR, "internal", text)))
            }
        }
    }
}
