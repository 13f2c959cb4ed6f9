//! What happened: each step as it happens, and a summary at the end.

use std::io::Write;
use std::time::Duration;

use crate::cli::{Failure, show};

/// One step of the demo, with its expectation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// The row of the story it belongs to.
    pub(super) row: &'static str,
    /// What it shows.
    pub(super) story: String,
    /// What was asked.
    pub(super) ask: String,
    /// What had to be answered.
    pub(super) expected: String,
    /// What was answered.
    pub(super) got: String,
    /// How long that took, the way there and back included.
    pub(super) took: Duration,
}

impl Step {
    pub(super) fn held(&self) -> bool {
        self.got == self.expected
    }
}

/// The rows of the story, and what each is about.
pub(super) const ROWS: [(&str, &str); 14] = [
    ("S1", "limit what an app may do"),
    ("S2", "limit where: one workspace of several"),
    ("S3", "limit where: a single project"),
    ("S4", "one-hour tokens of a registered app's long-lived grant"),
    ("S5", "a personal token that puts no other workspace at risk"),
    ("S6", "revoke an app: every token of it, at once"),
    ("S7", "an admin's allow-list, one switch, reversible"),
    ("S8", "only where the user is a member now"),
    ("S9", "tell the integrator what is missing"),
    ("S10", "how risky is it?"),
    ("S11", "the place is the manager's, the scope the technical owner's"),
    ("S12", "the old default: everything"),
    ("kill", "killed without warning, restarted warm"),
    ("stop", "told to stop"),
];

/// Everything that happened so far.
pub(super) struct Record {
    steps: Vec<Step>,
    json: bool,
    /// The row whose heading was printed last.
    heading: &'static str,
}

impl Record {
    pub(super) fn new(json: bool) -> Self {
        Self { steps: Vec::new(), json, heading: "" }
    }

    /// Takes a step down and prints it.
    pub(super) fn take(&mut self, step: Step, out: &mut dyn Write) -> Result<(), Failure> {
        let text = if self.json { json(&step).to_string() } else { self.lines(&step) };
        writeln!(out, "{text}")?;
        out.flush()?;
        self.heading = step.row;
        self.steps.push(step);
        Ok(())
    }

    /// Prints what belongs to the last step and is neither right nor wrong.
    pub(super) fn remark(&self, text: &str, out: &mut dyn Write) -> Result<(), Failure> {
        if !text.is_empty() && !self.json {
            writeln!(out, "          {text}")?;
        }
        Ok(())
    }

    fn lines(&self, step: &Step) -> String {
        let about = ROWS.iter().find(|(row, _)| *row == step.row).map_or("", |(_, about)| about);
        let heading = if self.heading == step.row { String::new() } else { format!("\n{}  {about}\n", step.row) };
        let mark = if step.held() { "ok  " } else { "FAIL" };
        let wrong = if step.held() { String::new() } else { format!("\n          expected  {}", step.expected) };
        let Step { story, ask, got, .. } = step;
        format!(
            "{heading}  {mark}  {story}\n          asked     {ask}\n          answered  {got}   ({}){wrong}",
            time(step.took)
        )
    }

    pub(super) fn all_held(&self) -> bool {
        !self.steps.is_empty() && self.steps.iter().all(Step::held)
    }

    /// A table with one line a row.
    pub(super) fn summary(&self, took: Duration) -> String {
        let held = self.steps.iter().filter(|step| step.held()).count();
        let verdict = if self.all_held() {
            format!("All {held} expectations held; {:.1} s in all.", took.as_secs_f64())
        } else {
            format!("{} of {} expectations did NOT hold.", self.steps.len() - held, self.steps.len())
        };
        if self.json {
            let summary = serde_json::json!({
                "steps": self.steps.len(), "held": held, "all_held": self.all_held(), "seconds": took.as_secs_f64(),
            });
            return format!("{summary}\n");
        }
        let line = |(row, about): &(&str, &str)| {
            let steps: Vec<&Step> = self.steps.iter().filter(|step| step.row == *row).collect();
            let held = steps.iter().filter(|step| step.held()).count();
            let mut times: Vec<Duration> = steps.iter().map(|step| step.took).collect();
            times.sort_unstable();
            let middle = times.get(times.len() / 2).copied().unwrap_or_default();
            let slowest = times.last().copied().unwrap_or_default();
            let result = if held == steps.len() && held > 0 { "held" } else { "FAILED" };
            vec![
                (*row).to_owned(),
                (*about).to_owned(),
                format!("{held}/{}", steps.len()),
                time(middle),
                time(slowest),
                result.to_owned(),
            ]
        };
        let table = show::table(&["row", "what", "steps", "median", "slowest", "result"], ROWS.iter().map(line));
        format!("\n{table}\n\n{verdict}\n")
    }
}

fn json(step: &Step) -> serde_json::Value {
    serde_json::json!({
        "row": step.row, "story": step.story, "ask": step.ask, "expected": step.expected, "got": step.got,
        "held": step.held(), "microseconds": u64::try_from(step.took.as_micros()).unwrap_or(u64::MAX),
    })
}

/// A duration as people compare them.
fn time(took: Duration) -> String {
    match took.as_micros() {
        micros @ 0..1_000 => format!("{micros} us"),
        micros @ 1_000..1_000_000 => format!("{:.1} ms", micros as f64 / 1e3),
        micros => format!("{:.2} s", micros as f64 / 1e6),
    }
}
