//! The percentile table that HdrHistogram's plotters read, in microseconds.

use std::fmt::Write;

use hdrhistogram::Histogram;

/// The histogram as text.
pub fn text(histogram: &Histogram<u64>) -> String {
    let mut out = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    let us = |ns: f64| ns / 1e3;
    for it in histogram.iter_quantiles(5) {
        let (value, quantile, count) =
            (it.value_iterated_to(), it.quantile_iterated_to(), it.count_since_last_iteration());
        let so_far = histogram.count_between(0, value);
        debug_assert!(so_far >= count);
        let inverse = if quantile < 1.0 { format!("{:.2}", 1.0 / (1.0 - quantile)) } else { "inf".to_owned() };
        // Writing into a string does not fail.
        let _ = writeln!(out, "{:12.3} {quantile:14.12} {so_far:10} {inverse:>14}", us(value as f64));
    }
    let (mean, deviation) = if histogram.is_empty() { (0.0, 0.0) } else { (histogram.mean(), histogram.stdev()) };
    let _ = writeln!(out, "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]", us(mean), us(deviation));
    let _ = writeln!(out, "#[Max     = {:12.3}, Total count    = {:12}]", us(histogram.max() as f64), histogram.len());
    let _ =
        writeln!(out, "#[Buckets = {:12}, SubBuckets     = {:12}]", histogram.buckets(), histogram.distinct_values());
    out
}
