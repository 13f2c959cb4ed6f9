//! What is measured: a server, a way to ask it, and how many questions are in flight.

use std::sync::Arc;
use std::time::Duration;

use super::Everybody;
use super::peers::{Peers, Who};
use crate::churn::{Churn, Pool};
use crate::driver::echo::Echo;
use crate::driver::http1::{Http1, Page, Reading, Strings, basic};
use crate::driver::http2::Http2;
use crate::driver::library::Library;
use crate::driver::memcached::Memcached;
use crate::driver::native::{Naming, Native};
use crate::driver::redis::Redis;
use crate::driver::{AnyDriver, Share};
use crate::report::Report;
use crate::run::{Load, Peer, Questions, run as go};
use crate::schedule::{Arrivals, Mode, Plan, Stage};
use crate::server::Server;
use crate::target::Target;
use crate::workload::{Asking, Mix, Popularity};

/// The cell whose rate the open-loop cells ask half of.
pub const KNEE: &str = "native 4×64";

/// Changes per second of the cell with changes.
const CHANGES: f64 = 50_000.0;

/// How a server is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Its own protocol, as much in flight as said.
    Plain,
    /// The same in batches of 64.
    Batched,
    /// Tasks sharing the client library.
    Library,
    /// HTTP/1.1 over TLS.
    Https,
    /// HTTP/2 over TLS, as many streams at once on each connection as are in flight on it.
    Https2,
    /// At half of the knee, open loop.
    HalfRate,
    /// While the data changes.
    Changing,
}

/// One cell.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// The server.
    pub server: Who,
    way: Way,
    connections: usize,
    in_flight: usize,
}

impl Cell {
    /// As much in flight as said, and nothing else.
    pub fn plain(server: Who, connections: usize, in_flight: usize) -> Self {
        Self { server, way: Way::Plain, connections, in_flight }
    }

    /// What it is called.
    pub fn name(&self) -> String {
        let Self { server, way, connections, in_flight } = *self;
        let base = match (server, way) {
            (Who::Ours, Way::Library) => "client",
            (Who::Ours, Way::Https) => "https",
            (Who::Ours, Way::Https2) => "https2",
            (Who::Ours, _) => "native",
            (other, _) => other.name(),
        };
        let shape = format!("{connections}×{in_flight}");
        match way {
            Way::Https2 if server != Who::Ours => format!("{base} over HTTP/2 {shape}"),
            Way::Plain | Way::Library | Way::Https | Way::Https2 => format!("{base} {shape}"),
            Way::Batched => format!("{base} {shape} in batches"),
            Way::HalfRate => format!("{base} at half the knee"),
            Way::Changing => format!("{base} {shape} changing"),
        }
    }

    /// Whether it is asked as fast as it answers, and nothing else happens meanwhile.
    pub fn is_closed(&self) -> bool {
        !matches!(self.way, Way::HalfRate | Way::Changing)
    }

    /// Whether the data changes meanwhile.
    pub fn needs_churn(&self) -> bool {
        self.way == Way::Changing
    }
}

/// Every cell whose server is there, in the order in which they take turns: those that are compared are neighbours.
pub fn all(peers: &Peers) -> Vec<Cell> {
    use Way::{Batched, Changing, HalfRate, Https, Https2, Library, Plain};
    use Who::{Echo, EchoHashed, Memcached, Nginx, OidcProvider, Ours, Redis, RedisTls};
    let rows = [
        (Ours, Plain, 4, 64),
        (Echo, Plain, 4, 64),
        (EchoHashed, Plain, 4, 64),
        (Redis, Plain, 4, 64),
        (RedisTls, Plain, 4, 64),
        (Ours, Plain, 4, 1_024),
        (Echo, Plain, 4, 1_024),
        (EchoHashed, Plain, 4, 1_024),
        (Redis, Plain, 4, 1_024),
        (RedisTls, Plain, 4, 1_024),
        (Ours, Changing, 4, 1_024),
        (Ours, Library, 2, 32),
        (Redis, Plain, 64, 1),
        (Ours, Plain, 64, 1),
        (Ours, Batched, 4, 64),
        (Memcached, Plain, 4, 64),
        (Ours, Https, 16, 1),
        (Nginx, Https, 16, 1),
        (OidcProvider, Https, 16, 1),
        (Ours, Https2, 16, 1),
        (Nginx, Https2, 16, 1),
        (Ours, Https2, 4, 16),
        (Nginx, Https2, 4, 16),
        (Ours, HalfRate, 4, 1_024),
        (Echo, HalfRate, 4, 1_024),
        (EchoHashed, HalfRate, 4, 1_024),
    ];
    let cells = rows.map(|(server, way, connections, in_flight)| Cell { server, way, connections, in_flight });
    cells.into_iter().filter(|cell| peers.has(cell.server)).collect()
}

/// What all cells share.
pub struct Field {
    /// Our server.
    pub target: Target,
    /// Tokens to ask about.
    pub population: Everybody,
    /// Their names on the wire.
    pub naming: Naming,
    /// Revoked tokens.
    pub pool: Arc<Pool>,
    /// Half of what the knee was found to be.
    pub half_rate: Option<f64>,
    /// The generator's core.
    pub core: Option<usize>,
    /// How long is recorded.
    pub duration: Duration,
    /// How long is asked before.
    pub warm_up: Duration,
    /// For what is drawn.
    pub seed: u64,
}

/// Measures a cell once.
///
/// # Errors
/// It could not be asked at all.
pub fn run(cell: &Cell, field: &Field, peers: &Peers, server: &Server, churn: Option<Churn>) -> Result<Report, String> {
    let driver = driver(cell, field, peers)?;
    let pid = if cell.server == Who::Ours { Some(server.pid()) } else { peers.pid(cell.server) };
    let rate = field.half_rate.unwrap_or(1_000.0);
    let mode = if cell.way == Way::HalfRate { Mode::Open(Arrivals::Poisson) } else { Mode::Closed };
    let load = Load {
        plan: Plan { warm_up: field.warm_up, stages: vec![Stage { rate, lasts: field.duration }], mode },
        share: Share { connections: cell.connections, streams: 1, in_flight: cell.in_flight },
        workers: 1,
        core: field.core,
        churn: cell.needs_churn().then_some(CHANGES),
        quiet: true,
    };
    let asking = if matches!(cell.way, Way::Https | Way::Https2) { Asking::Introspect } else { Asking::Check };
    let questions = Questions {
        asking,
        popularity: Popularity::Uniform,
        mix: Mix::default(),
        batch: if cell.way == Way::Batched { 64 } else { 1 },
        seed: field.seed,
    };
    let (population, pool) = (field.population.clone(), field.pool.clone());
    go(Peer { driver, population, pool, churn, pid, about: &[] }, questions, &load)
}

fn driver(cell: &Cell, field: &Field, peers: &Peers) -> Result<AnyDriver, String> {
    let at = || peers.at(cell.server).ok_or_else(|| "it is not there".to_owned());
    Ok(match (cell.server, cell.way) {
        (Who::Ours, Way::Library) => Arc::new(Library::new(field.target.clone(), field.population.clone())),
        (Who::Ours, Way::Https) => Arc::new(Http1::of_ours(&field.target, &field.population)?),
        (Who::Ours, Way::Https2) => Arc::new(Http2::of_ours(&field.target, &field.population)?),
        (Who::Ours, _) => Arc::new(Native::new(Native::dial(&field.target)?, field.naming.clone())),
        (Who::Echo | Who::EchoHashed, _) => {
            let ca = peers.certificate_of(cell.server)?;
            Arc::new(Echo::new(at()?.address, &ca, super::peers::ECHO_SIZES)?)
        }
        (Who::Redis | Who::RedisTls, _) => Arc::new(Redis(at()?)),
        (Who::Memcached, _) => Arc::new(Memcached { tcp: at()?, group: 64 }),
        (Who::Nginx, Way::Https2) => {
            let page = Arc::new(Page::fixed("/", &field.population));
            Arc::new(Http2 { name: "nginx", tcp: peers.nginx_over_http2(&field.target)?, page })
        }
        (Who::Nginx, _) => Arc::new(Http1 { name: "nginx", tcp: at()?, page: Page::fixed("/", &field.population) }),
        (Who::OidcProvider, _) => {
            let token = peers.oidc_token.clone().ok_or("it gave no token")?;
            let page = Page {
                path: "/token/introspection".to_owned(),
                reading: Reading::Active,
                strings: Strings::Same(token),
                authorization: Some(basic("api", super::peers::OIDC_SECRET)),
                ..Page::fixed("/", &field.population)
            };
            Arc::new(Http1 { name: "oidc-provider", tcp: at()?, page })
        }
    })
}
