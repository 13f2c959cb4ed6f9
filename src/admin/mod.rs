//! The admin listener: `/metrics`, `/livez`, `/readyz`, plain HTTP on an address of its own.
//!
//! It is bound before anything is loaded, so that an orchestrator can tell "starting" from "dead", and closed last. It
//! asks for no credentials and changes nothing; keep its address private. Everything is bounded: connections, the time
//! to read a request, the life of a connection (one request each), and only heads of GET and HEAD are read.
//!
//! `/livez` says that the process runs. `/readyz` says whether it should be asked: 200 or 503, and with `?verbose` one
//! line for each latch. Restarting a process because it is not *ready* would kill a node that loads.

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// A condition of being ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Latch {
    /// A sound snapshot is loaded (or there never was one).
    Snapshot,
    /// The rest of the journal is applied.
    Journal,
    /// The doors are open.
    Doors,
    /// No shutdown has begun.
    NotDraining,
    /// The journal takes changes.
    NotPoisoned,
}

impl Latch {
    /// Every latch, in the order of a start.
    pub const ALL: [Self; 5] = [Self::Snapshot, Self::Journal, Self::Doors, Self::NotDraining, Self::NotPoisoned];

    /// The word in `/readyz?verbose`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Journal => "journal",
            Self::Doors => "doors",
            Self::NotDraining => "not_draining",
            Self::NotPoisoned => "not_poisoned",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Whether the service should be asked, and if not, why. Cheap to clone; all clones say the same.
///
/// A new one waits for snapshot, journal and doors.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Latches>);

#[derive(Debug)]
struct Latches {
    /// The latches that hold, as bits: ready at zero. Read without a lock.
    held: AtomicU8,
    /// Why each holds; only read for people.
    why: Mutex<[String; Latch::ALL.len()]>,
}

impl Default for Readiness {
    fn default() -> Self {
        let waiting = [Latch::Snapshot, Latch::Journal, Latch::Doors];
        let held = AtomicU8::new(waiting.iter().fold(0, |bits, latch| bits | latch.bit()));
        let why = Mutex::new(Latch::ALL.map(|_| "waiting".to_owned()));
        Self(Arc::new(Latches { held, why }))
    }
}

impl Readiness {
    /// Not ready, until the latch is released; `why` is for `/readyz?verbose` (for instance how far loading has come).
    pub fn hold(&self, latch: Latch, why: impl Into<String>) {
        self.0.why.lock().unwrap_or_else(PoisonError::into_inner)[latch as usize] = why.into();
        self.0.held.fetch_or(latch.bit(), Ordering::Release);
    }

    /// This condition is met.
    pub fn release(&self, latch: Latch) {
        self.0.held.fetch_and(!latch.bit(), Ordering::Release);
    }

    /// Whether all conditions are met.
    pub fn is_ready(&self) -> bool {
        self.0.held.load(Ordering::Acquire) == 0
    }

    /// One line for each latch: `[+] journal` or `[-] journal: why`.
    pub fn verbose(&self) -> String {
        let held = self.0.held.load(Ordering::Acquire);
        let why = self.0.why.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lines = String::new();
        for latch in Latch::ALL {
            let name = latch.as_str();
            // Writing to a String cannot fail.
            let _ = match held & latch.bit() {
                0 => writeln!(lines, "[+] {name}"),
                _ => writeln!(lines, "[-] {name}: {}", why[latch as usize]),
            };
        }
        lines
    }
}

/// The limits of the listener.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Connections at once; more are closed unread.
    pub connections: usize,
    /// To read the head of a request; twice that is the life of a connection.
    pub deadline: Duration,
}

/// Makes the page of a scrape. May take milliseconds; it is called away from the runtime's threads.
pub type Scrape = Arc<dyn Fn() -> String + Send + Sync>;

/// The listener, bound and not yet served.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
    options: Options,
}

/// Bytes of a request's head; ours have two lines.
const HEAD_BYTES_MAX: usize = 8 * 1024;

impl Admin {
    /// Binds the listener.
    ///
    /// # Errors
    /// The address is taken, or not of this machine.
    pub async fn bind(address: SocketAddr, options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, options })
    }

    /// Where it listens; the port is the one the system chose if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until dropped, together with all its connections.
    pub async fn serve(self, readiness: Readiness, scrape: Scrape) -> Infallible {
        let places = Arc::new(Semaphore::new(self.options.connections));
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let (stream, _) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, most likely: waiting is all there is to do.
                    tracing::warn!(%error, "the admin listener cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            // Full: the connection is closed unread. Readiness probes try again.
            let Ok(place) = places.clone().try_acquire_owned() else { continue };
            let (readiness, scrape, options) = (readiness.clone(), scrape.clone(), self.options);
            connections.spawn(async move {
                let life = options.deadline.saturating_mul(2);
                // Past its life the connection is dropped; whoever was at the other end did not read or write.
                let _ = tokio::time::timeout(life, connection(stream, options, readiness, scrape)).await;
                drop(place);
            });
        }
    }
}

async fn connection(stream: TcpStream, options: Options, readiness: Readiness, scrape: Scrape) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (readiness, scrape) = (readiness.clone(), scrape.clone());
        async move { Ok::<_, Infallible>(answer(&request, &readiness, scrape).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(options.deadline)
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(64)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the admin listener ended early");
    }
}

async fn answer(request: &Request<Incoming>, readiness: &Readiness, scrape: Scrape) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refused =
            page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD are answered here\n".to_owned());
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    let verbose = request.uri().query().is_some_and(|query| query.split('&').any(|part| part == "verbose"));
    match request.uri().path() {
        "/livez" => page(StatusCode::OK, TEXT, "alive\n".to_owned()),
        "/readyz" => {
            let (status, word) = match readiness.is_ready() {
                true => (StatusCode::OK, "ready\n"),
                false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
            };
            let lines = if verbose { readiness.verbose() } else { String::new() };
            page(status, TEXT, format!("{lines}{word}"))
        }
        "/metrics" => match tokio::task::spawn_blocking(move || scrape()).await {
            Ok(metrics) => page(StatusCode::OK, METRICS, metrics),
            Err(error) => {
                tracing::error!(%error, "a scrape failed");
                page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "the scrape failed; see the log\n".to_owned())
            }
        },
        _ => page(StatusCode::NOT_FOUND, TEXT, "try /metrics, /livez or /readyz?verbose\n".to_owned()),
    }
}

fn page(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
