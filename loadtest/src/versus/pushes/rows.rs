//! What is wanted of the near-cache and its feed, and what was found.

use tokenscope::testing::contest::Way;

use super::{
    AFTER, ALONE, DENIED, ECHO, FENCED, FOLLOWED, MANY, NO_DISK, ON_DISK, Pushes, RAW, RECEIPT, REDIS, REVOKING,
    SET_INVALIDATED, Times, memory,
};
use crate::show::{nanos, short};
use crate::versus::goals::{Found, Row, found};
use crate::versus::{Measured, median};

/// Which of its figures.
#[derive(Clone, Copy)]
enum Of {
    P50,
    P99,
}

impl Of {
    fn of(self, times: &Times) -> &[f64] {
        match self {
            Self::P50 => &times.p50,
            Self::P99 => &times.p99,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P99 => "p99",
        }
    }
}

fn row((goal, against, what): (&str, &str, String), goals: (f64, f64), found: Result<Found, String>) -> Row {
    Row::new((goal, against, &what), Some(goals), found)
}

/// The rows; `redis` says how to install what is missing.
pub fn rows(pushes: &Pushes, redis: Option<&String>) -> Vec<Row> {
    let mut rows = Vec::new();
    in_memory(pushes, &mut rows);
    denied(pushes, &mut rows);
    followed(pushes, &mut rows);
    tracking(pushes, redis, &mut rows);
    rows
}

fn in_memory(pushes: &Pushes, rows: &mut Vec<Row>) {
    for tokens in memory::sizes() {
        let near = memory::name(Way::Near, tokens);
        for (theirs, against, goals) in [
            (Way::Verify, "ES256 verification, ring", (1.0 / 250.0, 1.0 / 400.0)),
            (Way::Mapped, "the same hit through DashMap", (1.0, 0.5)),
        ] {
            let what = format!("time of a near-cache hit, SHA-256 of the token included, {tokens} tokens");
            let ratio = pushes.ratio(&near, &memory::name(theirs, tokens), Of::P50, "");
            rows.push(row(("N1", against, what), goals, ratio));
        }
    }
}

fn denied(pushes: &Pushes, rows: &mut Vec<Row>) {
    let goals = (4.0, 2.0);
    let against = "bare QUIC echo, same rate";
    for (of, data, words) in [
        (Of::P99, ON_DISK, "durable on disk"),
        (Of::P50, ON_DISK, "durable on disk"),
        (Of::P99, NO_DISK, "data in memory: all but the disk"),
        (Of::P50, NO_DISK, "data in memory: all but the disk"),
    ] {
        let parts = [(RECEIPT, "receipt"), (AFTER, "receipt to denied"), (FENCED, "to fence")];
        let mut beside: Vec<String> = parts
            .iter()
            .filter_map(|(name, words)| Some(format!("{words} {}", pushes.middle(name, data, of)?)))
            .collect();
        if data == ON_DISK {
            beside.extend(pushes.middle(RAW, "", of).map(|it| format!("raw fdatasync {it}")));
        }
        let ratio = pushes.ratio(&format!("{DENIED}{data}"), ECHO, of, &beside.join(", "));
        rows.push(row(("N2", against, format!("revoke → denied at a follower, {}, {words}", of.name())), goals, ratio));
    }
}

/// One of a cell's figures.
type Pick = fn(&Measured) -> &[f64];

fn followed(pushes: &Pushes, rows: &mut Vec<Row>) {
    let goals = (0.9, 0.97);
    let picks: [(&str, Pick, &str); 2] =
        [("throughput", |it| &it.rate, "/s"), ("answers per server CPU-second", |it| &it.per_cpu_second, "/CPU-s")];
    let many = pushes.middle(MANY, "", Of::P99).map(|it| format!("; to fence with all there, p99 {it}"));
    for (what, pick, unit) in picks {
        for (against, theirs) in [("itself, nobody following", ALONE), ("itself, the same revocations", REVOKING)] {
            let found = pushes.cells(FOLLOWED, theirs).and_then(|(ours, theirs)| {
                let (a, b) = (pick(ours), pick(theirs));
                let detail =
                    format!("{}{unit} : {}{unit}{}", short(median(a)), short(median(b)), many.as_deref().unwrap_or(""));
                found(a.iter().zip(b).map(|(a, b)| a / b), detail)
            });
            let what = format!("{what}, 4×64, with many followers and revocations");
            rows.push(row(("N3", against, what), goals, found));
        }
    }
}

fn tracking(pushes: &Pushes, redis: Option<&String>, rows: &mut Vec<Row>) {
    let pairs = [
        ("redis tracking, appendfsync always", REDIS[1], ON_DISK, "ours durable on disk"),
        ("redis tracking, no persistence", REDIS[0], NO_DISK, "ours with data in memory"),
        ("redis tracking, no persistence", REDIS[0], ON_DISK, "ours durable on disk"),
    ];
    for (against, peer, data, words) in pairs {
        for of in [Of::P99, Of::P50] {
            let theirs = format!("{peer}: {SET_INVALIDATED}");
            let found = match redis {
                Some(how) => Err(format!("redis is missing; {how}")),
                None => pushes.ratio(&format!("{DENIED}{data}"), &theirs, of, ""),
            };
            let what = format!("change → invalidated elsewhere, {}, {words}", of.name());
            rows.push(row(("N4", against, what), (1.0, 0.5), found));
        }
    }
}

impl Pushes {
    fn good(&self, name: &str) -> Result<&Times, String> {
        let times = self.times.get(name).ok_or_else(|| format!("{name} was not measured"))?;
        match times.errors {
            0 => Ok(times),
            errors => Err(format!("{errors} errors: {}", times.warnings.join("; "))),
        }
    }

    fn ratio(&self, ours: &str, theirs: &str, of: Of, beside: &str) -> Result<Found, String> {
        let (ours, theirs) = (of.of(self.good(ours)?), of.of(self.good(theirs)?));
        let beside = if beside.is_empty() { String::new() } else { format!("; {beside}") };
        let detail = format!("{} : {}{beside}", nanos(median(ours)), nanos(median(theirs)));
        found(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs), detail)
    }

    fn middle(&self, name: &str, data: &str, of: Of) -> Option<String> {
        let times = self.good(&format!("{name}{data}")).ok()?;
        Some(signed(median(of.of(times))))
    }

    fn cells(&self, ours: &str, theirs: &str) -> Result<(&Measured, &Measured), String> {
        let cell = |name: &str| self.cells.get(name).ok_or_else(|| format!("{name} was not measured"));
        let (ours, theirs) = (cell(ours)?, cell(theirs)?);
        match ours.errors + theirs.errors {
            0 => Ok((ours, theirs)),
            errors => Err(format!("{errors} errors: {}", ours.warnings.join("; "))),
        }
    }
}

/// Nanoseconds, which may be below zero.
pub fn signed(ns: f64) -> String {
    if ns < 0.0 { format!("−{}", nanos(-ns)) } else { nanos(ns) }
}
