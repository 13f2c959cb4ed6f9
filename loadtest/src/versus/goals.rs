//! What is wanted of which ratio, and what was found.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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
    /// Below it something is wrong (or above it, where less is better). Nothing: it is shown beside a row that has a goal.
    pub must: Option<f64>,
    /// What we would like.
    pub ambitious: Option<f64>,
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
    /// Nothing is wanted of it: it stands there so that another row is seen for what it is.
    Beside,
    /// Nothing was measured.
    Unknown,
}

impl Row {
    /// A row of ratios; `goals` are must and ambitious, if anything is wanted of it.
    pub fn new(
        (goal, against, what): (&str, &str, &str),
        goals: Option<(f64, f64)>,
        found: Result<Found, String>,
    ) -> Self {
        let [goal, against, what] = [goal, against, what].map(str::to_owned);
        let (must, ambitious) = goals.unzip();
        let more_is_better = goals.is_none_or(|(must, ambitious)| ambitious > must);
        Self { goal, against, what, unit: Unit::Ratio, must, ambitious, more_is_better, found }
    }

    /// How it stands, by its median.
    pub fn standing(&self) -> Standing {
        let Ok(found) = &self.found else { return Standing::Unknown };
        let (Some(must), Some(ambitious)) = (self.must, self.ambitious) else { return Standing::Beside };
        let reaches = |goal: f64| if self.more_is_better { found.median >= goal } else { found.median <= goal };
        if reaches(ambitious) {
            Standing::Ambitious
        } else if reaches(must) {
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
    /// Our cell by theirs, round by round.
    fn cells(
        &mut self,
        about: (&str, &str, &str),
        (ours, theirs): (&str, &str),
        of: Of,
        goals: impl Into<Option<(f64, f64)>>,
    ) {
        let found = self.ratio(about.1, ours, theirs, of);
        self.rows.push(Row::new(about, goals.into(), found));
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
        return Err(
            "no round gave a ratio: nothing was answered, or no CPU time was seen; the cells were too short".to_owned()
        );
    }
    let (low, high) = extremes(&ratios);
    Ok(Found { median: median(&ratios), low, high, detail })
}

/// The whole table, with the rows that were made elsewhere in their places.
pub fn rows(cells: &BTreeMap<String, Measured>, missing: &BTreeMap<String, String>, also: Vec<Row>) -> Vec<Row> {
    let mut table = Table { cells, missing, rows: Vec::new() };
    native_rows(&mut table);
    https_rows(&mut table);
    for (of, name) in [(Of::P50, "p50 at half of the knee"), (Of::P99, "p99 at half of the knee")] {
        let ours = "native at half the knee";
        let about = ("P12", "bare QUIC echo, same open-loop rate", name);
        table.cells(about, (ours, "echo at half the knee"), of, (1.25, 1.1));
        let about = ("P12", "the same with the keyed hash", name);
        table.cells(about, (ours, "echo with hash at half the knee"), of, None);
    }
    let changing = ("native 4×1024 changing", "native 4×1024");
    let about = ("P14", "itself without changes", "throughput at 50,000 changes/s");
    table.cells(about, changing, Of::Rate, (0.85, 0.95));
    table.rows.extend(also);
    // In the order of the goals; rows of one goal stay as they are.
    table.rows.sort_by_key(|row| row.goal.trim_start_matches('P').parse().unwrap_or(u32::MAX));
    table.rows
}

const THROUGHPUT: &str = "throughput";
const CPU: &str = "answers per server CPU-second";

/// P1 to P5: the native protocol beside the echo, Redis and memcached.
fn native_rows(table: &mut Table<'_>) {
    for (shape, at) in [("4×64", 0), ("4×1024", 1)] {
        let ours = format!("native {shape}");
        let pick = |goals: [(f64, f64); 2]| goals[at];
        let mut row = |goal: &str, against: &str, cell: &str, of: Of, goals: Option<(f64, f64)>| {
            let what = if matches!(of, Of::Rate) { THROUGHPUT } else { CPU };
            let theirs = format!("{cell} {shape}");
            table.cells((goal, against, &format!("{what}, {shape}")), (&ours, &theirs), of, goals);
        };
        let p1 = pick([(0.85, 0.95), (0.45, 0.65)]);
        row("P1", "bare QUIC echo, same bytes", "echo", Of::Rate, Some(p1));
        row("P1", "the same with the keyed hash", "echo with hash", Of::Rate, None);
        row("P1", "bare QUIC echo, same bytes", "echo", Of::PerCpuSecond, None);
        row("P1", "the same with the keyed hash", "echo with hash", Of::PerCpuSecond, None);
        let p2 = pick([(2.5, 3.5), (3.0, 5.0)]);
        row("P2", "redis GET, plain, pipelined", "redis", Of::PerCpuSecond, Some(p2));
        let p3 = pick([(3.5, 5.0), (4.0, 7.0)]);
        row("P3", "redis GET over TLS, pipelined", "redis over TLS", Of::PerCpuSecond, Some(p3));
    }
    let shown = format!("{CPU}, 64 callers with 1 in flight, ours sharing the client library");
    let about = ("P4", "redis GET, plain, not pipelined", shown.as_str());
    table.cells(about, ("client 2×32", "redis 64×1"), Of::PerCpuSecond, (3.0, 6.0));
    let shown = format!("{CPU}, 64 connections with 1 in flight on both sides: nobody batches");
    let about = ("P4", "redis GET, plain, not pipelined", shown.as_str());
    table.cells(about, ("native 64×1", "redis 64×1"), Of::PerCpuSecond, None);
    let shown = format!("{CPU}, ours sharing the client library, theirs pipelined 4×64");
    let about = ("P4", "redis GET, plain, pipelined", shown.as_str());
    table.cells(about, ("client 2×32", "redis 4×64"), Of::PerCpuSecond, None);
    let shown = format!("{CPU}, 4 × batches of 64");
    let about = ("P5", "memcached, one thread", shown.as_str());
    table.cells(about, ("native 4×64 in batches", "memcached 4×64"), Of::PerCpuSecond, (1.2, 2.0));
}

/// P6 and P7: the HTTPS door beside other HTTP servers.
fn https_rows(table: &mut Table<'_>) {
    let of = |protocol: &str, shape: &str| format!("HTTPS /introspect, {THROUGHPUT}, {protocol}, {shape}");
    let about = ("P6", "nginx, fixed JSON over TLS", of("HTTP/1.1", "16×1"));
    table.cells((about.0, about.1, &about.2), ("https 16×1", "nginx 16×1"), Of::Rate, (0.6, 0.9));
    for shape in ["16×1", "4×16"] {
        let (ours, theirs) = (format!("https2 {shape}"), format!("nginx over HTTP/2 {shape}"));
        let what = of("HTTP/2", shape);
        table.cells(("P6", "nginx, fixed JSON over TLS", &what), (&ours, &theirs), Of::Rate, None);
    }
    let what = of("HTTP/2, 4×16 : HTTP/1.1", "16×1");
    table.cells(("P6", "itself over HTTP/1.1", &what), ("https2 4×16", "https 16×1"), Of::PerCpuSecond, None);
    let oidc = "oidc-provider, in memory, plain HTTP";
    let what = of("HTTP/1.1", "16×1");
    table.cells(("P7", oidc, &what), ("https 16×1", "oidc-provider 16×1"), Of::Rate, (15.0, 25.0));
    let what = format!("native, {THROUGHPUT}, 4×64");
    table.cells(("P7", oidc, &what), ("native 4×64", "oidc-provider 16×1"), Of::Rate, (300.0, 600.0));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(must: f64, ambitious: f64, median: f64) -> Row {
        let found = Found { median, low: median, high: median, detail: String::new() };
        Row::new(("", "", ""), Some((must, ambitious)), Ok(found))
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
        // Nothing is wanted of it, so it neither reaches nor misses anything.
        let beside = Row::new(("", "", ""), None, row(1.0, 2.0, 0.1).found);
        assert_eq!(beside.standing(), Standing::Beside);
        assert_eq!(Row { found: Err(String::new()), ..beside }.standing(), Standing::Unknown);
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
