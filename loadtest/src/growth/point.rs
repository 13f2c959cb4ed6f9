//! A point of a series: a server, connections, questions in flight; and what one round of it gives.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Axis;
use super::roomy::Roomy;
use crate::driver::native::Native;
use crate::driver::{AnyDriver, Share};
use crate::report::Report;
use crate::run::{Load, Peer, Questions, run};
use crate::schedule::{Arrivals, Mode, Plan as When, Stage};
use crate::show::{bytes, nanos, short};
use crate::workload::{Asking, Mix, Popularity};

/// Connections of the series of questions in flight, if there are so many questions.
const CONNECTIONS: u64 = 4;

/// In flight in the series of tokens: connections, and on each.
const SHAPES: [(usize, usize); 2] = [(4, 64), (4, 1_024)];

/// What is measured, and for how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Tokens of the servers, ascending.
    pub tokens: Vec<u64>,
    /// In flight.
    pub in_flight: Vec<u64>,
    /// Connections.
    pub connections: Vec<u64>,
    /// How often each point has its turn.
    pub rounds: usize,
    /// How long each half of a turn is recorded.
    pub duration: Duration,
    /// How long is asked before.
    pub warm_up: Duration,
    /// The server's and the generator's.
    pub cores: Option<(usize, usize)>,
    /// For all that is drawn.
    pub seed: u64,
}

impl Plan {
    /// All points; `elsewhere` is the server of the series that are not about tokens.
    pub fn points(&self, elsewhere: usize) -> Vec<Point> {
        let tokens_of = |server: usize| self.tokens.get(server).copied().unwrap_or(0);
        let point = |axis, at: u64, server, (connections, in_flight)| Point {
            axis,
            at,
            server,
            tokens: tokens_of(server),
            connections,
            in_flight,
            ..Point::default()
        };
        let mut points = Vec::new();
        for shape in SHAPES {
            points.extend(self.tokens.iter().zip(0..).map(|(at, server)| point(Axis::Tokens, *at, server, shape)));
        }
        points.extend(self.in_flight.iter().map(|at| {
            let connections = CONNECTIONS.min(*at);
            let each = at.div_ceil(connections);
            point(Axis::InFlight, connections * each, elsewhere, (connections as usize, each as usize))
        }));
        points.extend(self.connections.iter().map(|at| point(Axis::Connections, *at, elsewhere, (*at as usize, 1))));
        points
    }

    /// How long all of it takes at most, for the choice of tokens that outlive it.
    pub fn lasts(&self) -> Duration {
        let points = SHAPES.len() * self.tokens.len() + self.in_flight.len() + self.connections.len();
        // Making a thousand connections takes some seconds too.
        let each = (self.duration + self.warm_up) * 2 + Duration::from_secs(8);
        each * u32::try_from(points * self.rounds).unwrap_or(u32::MAX)
    }
}

/// A point, and what every round of it gave.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Point {
    /// What grows.
    pub axis: Axis,
    /// How much of it there is here.
    pub at: u64,
    /// Which server.
    #[serde(skip)]
    pub server: usize,
    /// Its tokens.
    pub tokens: u64,
    /// Connections.
    pub connections: usize,
    /// In flight on each.
    pub in_flight: usize,
    /// Right answers per second with everything in flight.
    pub rate: Vec<f64>,
    /// The same per second of the server's CPU time; nothing where none was seen.
    pub per_cpu_second: Vec<f64>,
    /// Median latency with everything in flight, in nanoseconds.
    pub full_p50: Vec<f64>,
    /// 99th percentile of the same.
    pub full_p99: Vec<f64>,
    /// Median latency at half the rate, open loop, in nanoseconds from when a question was due.
    pub half_p50: Vec<f64>,
    /// 99th percentile of the same.
    pub half_p99: Vec<f64>,
    /// Resident bytes of the server at the end; nothing where none were seen.
    pub resident: Vec<f64>,
    /// Share of its core that the generator used with everything in flight.
    pub generator: Vec<f64>,
    /// Errors of all rounds.
    pub errors: u64,
    /// Warnings of the last round.
    pub warnings: Vec<String>,
}

impl Default for Point {
    fn default() -> Self {
        let none = Vec::new;
        Self {
            axis: Axis::Tokens,
            at: 0,
            server: 0,
            tokens: 0,
            connections: 1,
            in_flight: 1,
            rate: none(),
            per_cpu_second: none(),
            full_p50: none(),
            full_p99: none(),
            half_p50: none(),
            half_p99: none(),
            resident: none(),
            generator: none(),
            errors: 0,
            warnings: Vec::new(),
        }
    }
}

impl Point {
    /// What it is, for people.
    pub fn name(&self) -> String {
        format!("{} tokens, {}", short(self.tokens as f64), self.shape())
    }

    /// Connections and what is in flight on each.
    pub fn shape(&self) -> String {
        format!("{}×{}", self.connections, self.in_flight)
    }

    /// Adds a round.
    pub fn add(&mut self, asked: &Asked) {
        let Asked { full, half } = asked;
        self.rate.push(full.totals.rate);
        self.per_cpu_second.extend(full.cpu.answers_per_server_second);
        self.full_p50.push(full.latency.p50 as f64);
        self.full_p99.push(full.latency.p99 as f64);
        for half in half.iter().filter(|it| it.latency.count > 0) {
            self.half_p50.push(half.latency.p50 as f64);
            self.half_p99.push(half.latency.p99 as f64);
        }
        self.resident.extend(full.cpu.server_resident.map(|it| it as f64));
        self.generator.push(full.cpu.generator);
        self.errors += full.totals.errors + half.as_ref().map_or(0, |it| it.totals.errors);
        // A round without an answer is no figure, and not nothing either.
        self.errors += u64::from(half.is_none());
        self.warnings.clear();
        for (how, report) in
            [("everything in flight", full)].into_iter().chain(half.iter().map(|it| ("half the rate", it)))
        {
            let said = report.warnings.iter().chain(&report.troubles);
            self.warnings.extend(said.map(|warning| format!("{how}: {warning}")));
        }
    }
}

/// One round of one point.
pub struct Asked {
    full: Report,
    /// Nothing, if nothing was answered before.
    half: Option<Report>,
}

impl Asked {
    /// Asks with everything in flight, and then half as fast.
    ///
    /// # Errors
    /// It could not be asked.
    pub fn of(point: &Point, server: &Roomy, plan: &Plan) -> Result<Self, String> {
        let full = ask(point, server, plan, Mode::Closed, 1.0)?;
        let rate = full.totals.rate / 2.0;
        let half = (rate >= 1.0).then(|| ask(point, server, plan, Mode::Open(Arrivals::Poisson), rate)).transpose()?;
        Ok(Self { full, half })
    }

    /// For people who wait.
    pub fn line(&self) -> String {
        let Self { full, half: Some(half) } = self else { return "nothing was answered".to_owned() };
        let resident = full.cpu.server_resident.map_or("unknown".to_owned(), |it| bytes(it as f64));
        let [p50, p99] = [half.latency.p50, half.latency.p99].map(|it| nanos(it as f64));
        format!("{}/s; at half of it p50 {p50}, p99 {p99}; {resident}", short(full.totals.rate))
    }
}

fn ask(point: &Point, server: &Roomy, plan: &Plan, mode: Mode, rate: f64) -> Result<Report, String> {
    let native = Native::new(Native::dial(server.target())?, server.naming.clone());
    let driver: AnyDriver = Arc::new(native);
    let stages = vec![Stage { rate, lasts: plan.duration }];
    let load = Load {
        plan: When { warm_up: plan.warm_up, stages, mode },
        share: Share { connections: point.connections, streams: 1, in_flight: point.in_flight },
        workers: 1,
        core: plan.cores.map(|(_, core)| core),
        churn: None,
        quiet: true,
    };
    let questions = Questions {
        asking: Asking::Check,
        popularity: Popularity::Uniform,
        mix: Mix::default(),
        batch: 1,
        seed: plan.seed,
    };
    let (population, pool) = (server.population.clone(), server.pool.clone());
    let peer = Peer { driver, population, pool, churn: None, pid: Some(server.spawned().pid()), about: &[] };
    run(peer, questions, &load)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_has_its_points_and_no_more_in_flight_than_it_says() {
        let plan = Plan {
            tokens: vec![100, 1_000],
            in_flight: vec![1, 4, 4_096],
            connections: vec![1, 1_000],
            rounds: 1,
            duration: Duration::from_secs(1),
            warm_up: Duration::ZERO,
            cores: None,
            seed: 1,
        };
        let points = plan.points(1);
        assert_eq!(points.len(), 2 * 2 + 3 + 2);
        for point in &points {
            match point.axis {
                Axis::Tokens => assert_eq!(point.at, point.tokens),
                Axis::InFlight => assert_eq!(point.at, (point.connections * point.in_flight) as u64),
                Axis::Connections => assert_eq!((point.at, point.in_flight), (point.connections as u64, 1)),
            }
        }
        assert!(points.iter().all(|it| it.in_flight <= 1_024));
    }
}
