//! What a run was and what came of it, as values that are written to JSON and read back.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::driver::Travelled;
use crate::machine::Machine;

// Percentile by percentile, for other tools.
pub mod hgrm;
// One page with everything on it.
pub mod html;
// Lines in SVG.
pub mod plot;
// For people at a terminal.
pub mod table;

/// The version of the JSON form.
pub const FORMAT: u32 = 1;

/// Everything about a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: u32,
    /// Version of the tool, which is that of the server's source beside it.
    pub version: String,
    /// When it began, in seconds since 1970.
    pub began: u64,
    /// The command line.
    pub command: String,
    /// Where it ran.
    pub machine: Machine,
    /// What was asked, and how: names and values in words. `compare` says which of them differ.
    pub conditions: BTreeMap<String, String>,
    /// Counts.
    pub totals: Totals,
    /// From the moment a question was due to its answer.
    pub latency: Summary,
    /// From the moment it was sent: what a closed loop would have called latency.
    pub uncorrected: Summary,
    /// From due to sent, for questions that had room: the tool's own fault.
    pub lateness: Summary,
    /// Latency by percentile.
    pub percentiles: Vec<(f64, u64)>,
    /// Stage by stage.
    pub stages: Vec<Stage>,
    /// How it went over time.
    pub series: Vec<Point>,
    /// Who used how much CPU time.
    pub cpu: Cpu,
    /// What went over the wire in the recorded part.
    pub travelled: Travelled,
    /// What became of the changes, if there were any.
    pub churn: Option<Churn>,
    /// Wrong answers and failures in words, the first few.
    pub troubles: Vec<String>,
    /// What a reader has to know before believing a figure.
    pub warnings: Vec<String>,
    /// The latencies in the form of HdrHistogram's plotters; kept out of the JSON, which has the percentiles.
    #[serde(skip)]
    pub hgrm: String,
    /// Whether the figures may be taken as the server's: no errors, and the tool was not the limit.
    pub valid: bool,
}

/// Counts of the recorded part. Errors count wherever they happen.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Length of the recorded part.
    pub seconds: f64,
    /// Questions that were due.
    pub asked: u64,
    /// Right answers that arrived.
    pub answered: u64,
    /// Right answers per second.
    pub rate: f64,
    /// Wrong, refused and lost together.
    pub errors: u64,
    /// Wrong verdicts.
    pub wrong: u64,
    /// No verdict, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Never answered.
    pub lost: u64,
    /// Due and kept waiting, because as many were in flight as may be.
    pub held_back: u64,
    /// Of those, not sent before the end.
    pub unsent: u64,
}

/// A distribution in nanoseconds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Summary {
    /// How many.
    pub count: u64,
    /// The mean.
    pub mean: f64,
    /// The smallest.
    pub min: u64,
    /// Percentiles.
    pub p50: u64,
    /// Percentiles.
    pub p90: u64,
    /// Percentiles.
    pub p99: u64,
    /// Percentiles.
    pub p999: u64,
    /// Percentiles.
    pub p9999: u64,
    /// The largest.
    pub max: u64,
}

/// A stage.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stage {
    /// The rate that was asked for; 0 in a closed loop.
    pub wanted: f64,
    /// Its length.
    pub seconds: f64,
    /// Right answers per second.
    pub rate: f64,
    /// Latency of the questions that were due in it.
    pub latency: Summary,
    /// The same by percentile.
    pub percentiles: Vec<(f64, u64)>,
}

/// A moment of the time series.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Point {
    /// Seconds from the begin, warm-up included, to its end.
    pub at: f64,
    /// Right answers per second.
    pub rate: f64,
    /// Median latency in nanoseconds.
    pub p50: u64,
    /// 99th percentile.
    pub p99: u64,
}

/// CPU time.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Cpu {
    /// Share of their cores that the workers used, 0 to 1.
    pub generator: f64,
    /// What the server used while recording, in seconds, if its process is known.
    pub server_seconds: Option<f64>,
    /// The same per million right answers.
    pub server_seconds_per_million: Option<f64>,
    /// Right answers per second of the server's CPU time.
    pub answers_per_server_second: Option<f64>,
    /// Its resident memory when recording ended, in bytes.
    pub server_resident: Option<u64>,
}

/// Changes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Churn {
    /// Changes per second that were wanted.
    pub wanted: f64,
    /// Changes per second that had a receipt.
    pub rate: f64,
    /// Tokens registered.
    pub registered: u64,
    /// Tokens revoked.
    pub revoked: u64,
    /// Without a receipt.
    pub failed: u64,
    /// From asking to the receipt.
    pub latency: Summary,
}

impl Summary {
    /// What a histogram says in short.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        if histogram.is_empty() {
            return Self::default();
        }
        Self {
            count: histogram.len(),
            mean: histogram.mean(),
            min: histogram.min(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: histogram.max(),
        }
    }
}

/// Latency at the percentiles a curve is drawn through.
pub fn percentiles(histogram: &Histogram<u64>) -> Vec<(f64, u64)> {
    if histogram.is_empty() {
        return Vec::new();
    }
    let mut points: Vec<(f64, u64)> =
        histogram.iter_quantiles(5).map(|it| (it.quantile() * 100.0, it.value_iterated_to())).collect();
    points.dedup_by(|b, a| a.1 == b.1 && a.0 < 99.0);
    points
}

/// Writes a text to a file.
///
/// # Errors
/// It cannot be written; the text names the file.
pub fn save(path: &std::path::Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Reads a result back.
///
/// # Errors
/// It is no result of this version.
pub fn read(path: &std::path::Path) -> Result<Report, String> {
    let text = crate::target::read(path)?;
    let report: Report =
        serde_json::from_slice(&text).map_err(|error| format!("{}: no result: {error}", path.display()))?;
    if report.format != FORMAT {
        return Err(format!("{}: a result of format {}, and this tool reads {FORMAT}", path.display(), report.format));
    }
    Ok(report)
}
