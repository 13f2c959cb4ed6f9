//! Conditions a run has to meet: `p99<500us`, `errors==0`, `rate>=100k`.

use std::fmt;
use std::str::FromStr;

use crate::report::Report;
use crate::show;

/// One condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Assertion {
    what: What,
    how: How,
    limit: f64,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Mean,
    Percentile(u32),
    Max,
    Rate,
    Errors,
    Wrong,
    Lateness,
    PerServerSecond,
    Generator,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Less,
    AtMost,
    Equal,
    AtLeast,
    More,
}

impl FromStr for Assertion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let operators =
            [("<=", How::AtMost), (">=", How::AtLeast), ("==", How::Equal), ("<", How::Less), (">", How::More)];
        let found = operators.iter().find_map(|(sign, how)| Some((*how, text.split_once(sign)?)));
        let (how, (name, limit)) =
            found.ok_or_else(|| format!("{text:?}: a condition is like p99<500us, errors==0 or rate>=100k"))?;
        let (name, limit) = (name.trim(), limit.trim());
        let (what, limit) = match name {
            "mean" => (What::Mean, time(limit)?),
            "max" => (What::Max, time(limit)?),
            "p50" => (What::Percentile(50_00), time(limit)?),
            "p90" => (What::Percentile(90_00), time(limit)?),
            "p99" => (What::Percentile(99_00), time(limit)?),
            "p99.9" => (What::Percentile(99_90), time(limit)?),
            "p99.99" => (What::Percentile(99_99), time(limit)?),
            "lateness" => (What::Lateness, time(limit)?),
            "rate" => (What::Rate, show::parse_rate(limit)?),
            "errors" => (What::Errors, count(limit)?),
            "wrong" => (What::Wrong, count(limit)?),
            "per-cpu-second" => (What::PerServerSecond, show::parse_rate(limit)?),
            "generator" => (What::Generator, count(limit.trim_end_matches('%'))? / 100.0),
            _ => {
                return Err(format!(
                    "{name:?}: there are mean, p50, p90, p99, p99.9, p99.99, max, lateness (p99 of it), rate, errors, \
                     wrong, per-cpu-second and generator (in %)"
                ));
            }
        };
        Ok(Self { what, how, limit, text: text.to_owned() })
    }
}

fn time(text: &str) -> Result<f64, String> {
    Ok(show::parse_duration(text)?.as_nanos() as f64)
}

fn count(text: &str) -> Result<f64, String> {
    text.parse::<u32>().map(f64::from).map_err(|_| format!("{text:?} is no whole number"))
}

impl fmt::Display for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Assertion {
    /// Whether the run meets it; otherwise what was found instead.
    ///
    /// # Errors
    /// It does not, or what it is about was not measured.
    pub fn check(&self, report: &Report) -> Result<(), String> {
        let latency = &report.latency;
        let found = match self.what {
            What::Mean => Some(latency.mean),
            What::Percentile(50_00) => Some(latency.p50 as f64),
            What::Percentile(90_00) => Some(latency.p90 as f64),
            What::Percentile(99_00) => Some(latency.p99 as f64),
            What::Percentile(99_90) => Some(latency.p999 as f64),
            What::Percentile(_) => Some(latency.p9999 as f64),
            What::Max => Some(latency.max as f64),
            What::Rate => Some(report.totals.rate),
            What::Errors => Some(report.totals.errors as f64),
            What::Wrong => Some(report.totals.wrong as f64),
            What::Lateness => Some(report.lateness.p99 as f64),
            What::PerServerSecond => report.cpu.answers_per_server_second,
            What::Generator => Some(report.cpu.generator),
        };
        let found = found.ok_or_else(|| format!("{self}: was not measured"))?;
        // Nothing answered has no latency, which is not a short one.
        if latency.count == 0 && !matches!(self.what, What::Errors | What::Wrong | What::Rate | What::Generator) {
            return Err(format!("{self}: nothing was answered"));
        }
        let met = match self.how {
            How::Less => found < self.limit,
            How::AtMost => found <= self.limit,
            How::Equal => found == self.limit,
            How::AtLeast => found >= self.limit,
            How::More => found > self.limit,
        };
        let shown = match self.what {
            What::Rate | What::Errors | What::Wrong | What::PerServerSecond => show::short(found),
            What::Generator => format!("{:.0} %", found * 100.0),
            _ => show::nanos(found),
        };
        if met { Ok(()) } else { Err(format!("{self}: it is {shown}")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::tests::report;

    #[test]
    fn conditions_are_met_or_say_what_was_found() {
        let report = report(1_000.0, 400_000);
        for (text, met) in [
            ("p99<500us", true),
            ("p99 < 400us", false),
            ("p99<=400us", true),
            ("errors==0", true),
            ("rate>=1k", true),
            ("rate>1k", false),
            ("generator<80%", true),
            ("per-cpu-second>1", false),
        ] {
            let assertion: Assertion = text.parse().unwrap();
            assert_eq!(assertion.check(&report).is_ok(), met, "{text}: {:?}", assertion.check(&report));
        }
        for wrong in ["p99", "p99<", "p99<5", "p98<5ms", "errors==x", "=", ""] {
            assert!(wrong.parse::<Assertion>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_run_without_answers_meets_no_latency() {
        let mut report = report(0.0, 0);
        report.latency.count = 0;
        assert!("p99<1s".parse::<Assertion>().unwrap().check(&report).is_err());
    }
}
