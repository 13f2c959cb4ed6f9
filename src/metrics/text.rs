//! Histograms in Prometheus' text format, from fixed buckets.

use std::fmt::Write as _;

use super::Metric;

/// One row of a histogram: its labels as they are written (`door="quic"`, or nothing), and its numbers.
pub(super) struct Series {
    pub labels: String,
    /// Per bucket, not cumulative; one more than there are bounds.
    pub counts: Vec<u64>,
    /// In the unit of the metric.
    pub sum: f64,
}

/// Appends `metric` with all its `rows` to `page`; `bounds` are the upper bounds, without `+Inf`.
pub(super) fn histogram(page: &mut String, metric: &Metric, bounds: &[String], rows: &[Series]) {
    let Metric { name, help, .. } = metric;
    // Writing to a String cannot fail.
    let _ = write!(page, "# HELP {name} {help}\n# TYPE {name} histogram\n");
    for Series { labels, counts, sum } in rows {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut total = 0;
        let bounds = bounds.iter().map(String::as_str).chain(["+Inf"]);
        for (bound, count) in bounds.zip(counts) {
            total += count;
            let _ = writeln!(page, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {total}");
        }
        let braces = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let _ = write!(page, "{name}_sum{braces} {sum}\n{name}_count{braces} {total}\n");
    }
    page.push('\n');
}
