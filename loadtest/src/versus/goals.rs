//! What is wanted of which ratio, and what was found.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::disk::{BATCH, Disk, RECORD_BYTES};
use super::peers::Peers;
use super::restart::Restarts;
use super::{Measured, extremes, median};

/// A row of the table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Its number among the goals.
    pub goal: String,
    /// Against whom.
    pub against: String,
    /// What is compared.
    pub what: String,
    /// How the number is meant.
    pub unit: Unit,
    /// Below it something is wrong (or above it, where less is better).
    pub must: f64,
    /// What we would like.
    pub ambitious: f64,
    /// Whether more is better.
    pub more_is_better: bool,
    /// What was found; or why nothing was.
    pub found: Result<Found, String>,
}

/// How a number is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Unit {
    /// Ours by theirs.
    Ratio,
    /// Bytes per token.
    Bytes,
}

/// What was found: the median of the rounds, the smallest and the largest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Found {
    /// The median.
    pub median: f64,
    /// The smallest.
    pub low: f64,
    /// The largest.
    pub high: f64,
    /// Ours and theirs in words.
    pub detail: String,
}

/// How a row stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Better than was hoped for.
    Ambitious,
    /// Good enough.
    Must,
    /// Not good enough.
    Missed,
    /// Nothing was measured.
    Unknown,
}

impl Row {
    /// How it stands, by its median.
    pub fn standing(&self) -> Standing {
        let Ok(found) = &self.found else { return Standing::Unknown };
        let reaches = |goal: f64| if self.more_is_better { found.median >= goal } else { found.median <= goal };
        if reaches(self.ambitious) {
            Standing::Ambitious
        } else if reaches(self.must) {
            Standing::Must
        } else {
            Standing::Missed
        }
    }
}

struct Table<'m> {
    cells: &'m BTreeMap<String, Measured>,
    missing: &'m BTreeMap<String, String>,
    rows: Vec<Row>,
}

/// What is compared of two cells.
#[derive(Clone, Copy)]
enum Of {
    Rate,
    PerCpuSecond,
    P50,
    P99,
}

impl Table<'_> {
    fn push(&mut self, (goal, against, what): (&str, &str, &str), goals: (f64, f64), found: Result<Found, String>) {
        let (must, ambitious) = goals;
        self.rows.push(Row {
            goal: goal.to_owned(),
            against: against.to_owned(),
            what: what.to_owned(),
            unit: Unit::Ratio,
            must,
            ambitious,
            more_is_better: ambitious > must,
            found,
        });
    }

    /// Our cell by theirs, round by round.
    fn cells(&mut self, about: (&str, &str, &str), (ours, theirs): (&str, &str), of: Of, goals: (f64, f64)) {
        let found = self.ratio(about.1, ours, theirs, of);
        self.push(about, goals, found);
    }

    fn ratio(&self, against: &str, ours: &str, theirs: &str, of: Of) -> Result<Found, String> {
        let cell = |name: &str| {
            self.cells.get(name).ok_or_else(|| {
                let how =
                    self.missing.iter().find(|(peer, _)| name.starts_with(peer.as_str()) || against.contains(*peer));
                how.map_or_else(
                    || format!("{name} was not measured"),
                    |(peer, how)| format!("{peer} is missing; {how}"),
                )
            })
        };
        let (ours, theirs) = (cell(ours)?, cell(theirs)?);
        let values = |cell: &Measured| match of {
            Of::Rate => cell.rate.clone(),
            Of::PerCpuSecond => cell.per_cpu_second.clone(),
            Of::P50 => cell.p50.clone(),
            Of::P99 => cell.p99.clone(),
        };
        let form = |value: f64| match of {
            Of::Rate => format!("{}/s", crate::show::short(value)),
            Of::PerCpuSecond => format!("{}/CPU-s", crate::show::short(value)),
            Of::P50 | Of::P99 => crate::show::nanos(value),
        };
        if ours.errors + theirs.errors > 0 {
            return Err(format!("{} errors: {}", ours.errors + theirs.errors, ours.warnings.join("; ")));
        }
        let (a, b) = (values(ours), values(theirs));
        found(a.iter().zip(&b).map(|(a, b)| a / b), format!("{} : {}", form(median(&a)), form(median(&b))))
    }
}

/// The median of the rounds' ratios with the smallest and the largest.
///
/// # Errors
/// There are none.
pub fn found(ratios: impl Iterator<Item = f64>, detail: String) -> Result<Found, String> {
    let ratios: Vec<f64> = ratios.filter(|it| it.is_finite()).collect();
    if ratios.is_empty() {
        return Err("no CPU time was seen; the cells were too short".to_owned());
    }
    let (low, high) = extremes(&ratios);
    Ok(Found { median: median(&ratios), low, high, detail })
}

/// The whole table, with the rows that were made elsewhere in their places.
pub fn rows(
    cells: &BTreeMap<String, Measured>,
    peers: &Peers,
    disk: &Disk,
    restarts: &Restarts,
    also: Vec<Row>,
) -> Vec<Row> {
    let mut table = Table { cells, missing: &peers.missing, rows: Vec::new() };
    let throughput = "throughput";
    let cpu = "answers per server CPU-second";
    let shapes = [("4×64", 0), ("4×1024", 1)];
    for (shape, at) in shapes {
        let ours = format!("native {shape}");
        let pick = |goals: [(f64, f64); 2]| goals[at];
        let mut row = |goal: &str, against: &str, cell: &str, of: Of, goals: (f64, f64)| {
            let what = if matches!(of, Of::Rate) { throughput } else { cpu };
            let theirs = format!("{cell} {shape}");
            table.cells((goal, against, &format!("{what}, {shape}")), (&ours, &theirs), of, goals);
        };
        let p1 = pick([(0.85, 0.95), (0.45, 0.65)]);
        row("P1", "bare QUIC echo, same bytes", "echo", Of::Rate, p1);
        row("P1", "the same with the keyed hash", "echo with hash", Of::Rate, p1);
        row("P1", "bare QUIC echo, same bytes", "echo", Of::PerCpuSecond, p1);
        row("P2", "redis GET, plain, pipelined", "redis", Of::PerCpuSecond, pick([(2.5, 3.5), (3.0, 5.0)]));
        row("P3", "redis GET over TLS, pipelined", "redis over TLS", Of::PerCpuSecond, pick([(3.5, 5.0), (4.0, 7.0)]));
    }
    let shown = format!("{cpu}, 64 callers with 1 in flight, ours sharing the client library");
    table.cells(
        ("P4", "redis GET, plain, not pipelined", &shown),
        ("client 2×32", "redis 64×1"),
        Of::PerCpuSecond,
        (3.0, 6.0),
    );
    let shown = format!("{cpu}, 4 × batches of 64");
    table.cells(
        ("P5", "memcached, one thread", &shown),
        ("native 4×64 in batches", "memcached 4×64"),
        Of::PerCpuSecond,
        (1.2, 2.0),
    );
    let https = "HTTPS /introspect, throughput, 16×1";
    table.cells(("P6", "nginx, fixed JSON over TLS", https), ("https 16×1", "nginx 16×1"), Of::Rate, (0.6, 0.9));
    table.cells(
        ("P7", "oidc-provider, in memory, plain HTTP", https),
        ("https 16×1", "oidc-provider 16×1"),
        Of::Rate,
        (15.0, 25.0),
    );
    table.cells(
        ("P7", "oidc-provider, in memory, plain HTTP", "native, throughput, 4×64"),
        ("native 4×64", "oidc-provider 16×1"),
        Of::Rate,
        (300.0, 600.0),
    );
    restart_rows(&mut table, restarts);
    for (of, name) in [(Of::P50, "p50 at half of the knee"), (Of::P99, "p99 at half of the knee")] {
        let cells = ("native at half the knee", "echo at half the knee");
        table.cells(("P12", "bare QUIC echo, same open-loop rate", name), cells, of, (1.25, 1.1));
    }
    let changing = ("native 4×1024 changing", "native 4×1024");
    table.cells(("P14", "itself without changes", "throughput at 50,000 changes/s"), changing, Of::Rate, (0.85, 0.95));
    disk_rows(&mut table, disk);
    table.rows.extend(also);
    // In the order of the goals; rows of one goal stay as they are.
    table.rows.sort_by_key(|row| row.goal.trim_start_matches('P').parse().unwrap_or(u32::MAX));
    table.rows
}

fn restart_rows(table: &mut Table<'_>, restarts: &Restarts) {
    let what = "start to first right answer, everything verified";
    let found = match (restarts.ours.as_slice(), restarts.redis.as_slice()) {
        ([], _) | (_, []) => Err("redis is missing".to_owned()),
        (ours, redis) => {
            let detail = [median(ours), median(redis)].map(crate::show::nanos).join(" : ");
            found(ours.iter().zip(redis).map(|(ours, redis)| ours / redis), detail)
        }
    };
    table.push(("P10", "redis, restarted from RDB", what), (1.0 / 10.0, 1.0 / 30.0), found);
    let theirs = restarts.redis_bytes.map_or_else(String::new, |it| format!(" : redis {it:.0} B a key"));
    let found = restarts.ours_bytes.ok_or_else(|| "memory was not seen".to_owned()).map(|it| Found {
        median: it,
        low: it,
        high: it,
        detail: format!("{it:.0} B a token, process and all{theirs}"),
    });
    table.push(("P11", "redis, the same tokens", "resident bytes per token after a restart"), (48.0, 36.0), found);
    if let Some(row) = table.rows.last_mut() {
        row.unit = Unit::Bytes;
    }
}

fn disk_rows(table: &mut Table<'_>, disk: &Disk) {
    let against = format!("raw append + fdatasync, {RECORD_BYTES} B");
    let short = crate::show::short;
    let detail = format!("{}/s : {}/s", short(disk.changes), short(disk.raw_batched));
    let what = format!("durable changes per second (raw: {BATCH} a sync)");
    let batched = found([disk.changes / disk.raw_batched].into_iter(), detail);
    table.push(("P15", &against, &what), (0.3, 0.5), batched);
    let detail = [disk.revoke_single, disk.raw_single].map(crate::show::nanos).join(" : ");
    let single = found([disk.revoke_single / disk.raw_single].into_iter(), detail);
    table.push(("P15", &against, "latency of one durable revoke"), (2.5, 1.5), single);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(must: f64, ambitious: f64, median: f64) -> Row {
        Row {
            goal: String::new(),
            against: String::new(),
            what: String::new(),
            unit: Unit::Ratio,
            must,
            ambitious,
            more_is_better: ambitious > must,
            found: Ok(Found { median, low: median, high: median, detail: String::new() }),
        }
    }

    #[test]
    fn a_row_stands_by_its_median_in_either_direction() {
        use Standing::{Ambitious, Missed, Must};
        for (median, wanted) in [(0.8, Missed), (0.85, Must), (0.94, Must), (0.95, Ambitious)] {
            assert_eq!(row(0.85, 0.95, median).standing(), wanted);
        }
        for (median, wanted) in [(1.3, Missed), (1.25, Must), (1.1, Ambitious), (0.9, Ambitious)] {
            assert_eq!(row(1.25, 1.1, median).standing(), wanted);
        }
    }

    #[test]
    fn a_cell_with_errors_gives_no_figure() {
        let good = Measured { rate: vec![10.0, 20.0, 30.0], ..Measured::default() };
        let bad = Measured { errors: 1, ..good.clone() };
        let cells =
            BTreeMap::from([("good".to_owned(), good.clone()), ("also".to_owned(), good), ("bad".to_owned(), bad)]);
        let missing = BTreeMap::from([("redis".to_owned(), "apt install redis-server".to_owned())]);
        let table = Table { cells: &cells, missing: &missing, rows: Vec::new() };
        assert_eq!(table.ratio("x", "good", "also", Of::Rate).unwrap().median, 1.0);
        assert!(table.ratio("x", "good", "bad", Of::Rate).unwrap_err().contains("errors"));
        assert!(table.ratio("x", "good", "redis 4×64", Of::Rate).unwrap_err().contains("apt install redis-server"));
        assert!(table.ratio("x", "good", "also", Of::PerCpuSecond).is_err());
    }
}
