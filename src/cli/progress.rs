//! How far a long piece of work has come: a bar on a terminal, a line every few seconds otherwise.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::show;
use crate::import::{Progress, Tally};

/// How often a plain line is printed.
const EVERY: Duration = Duration::from_secs(2);

/// A bar (`draw`) or plain lines, on standard error, for work of `lines` lines.
pub fn shown(what: &str, lines: u64, draw: bool) -> Box<dyn Progress> {
    if !draw {
        return Box::new(Plain { what: what.into(), lines, started: Instant::now(), said: None });
    }
    let bar = ProgressBar::with_draw_target(Some(lines), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{prefix} {bar:40} {human_pos}/{human_len} lines, {per_sec}, {eta} left");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.set_prefix(what.to_owned());
    Box::new(Bar(bar))
}

struct Bar(ProgressBar);

impl Progress for Bar {
    fn at(&mut self, tally: &Tally) {
        self.0.set_position(tally.lines);
        if Some(tally.lines) == self.0.length() {
            self.0.finish();
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if !self.0.is_finished() {
            self.0.abandon();
        }
    }
}

struct Plain {
    what: String,
    lines: u64,
    started: Instant,
    said: Option<Instant>,
}

impl Progress for Plain {
    #[expect(clippy::print_stderr, reason = "for the person at the terminal, whatever the output is")]
    fn at(&mut self, tally: &Tally) {
        let now = Instant::now();
        let done = tally.lines >= self.lines;
        if !done && self.said.is_some_and(|said| now - said < EVERY) {
            return;
        }
        self.said = Some(now);
        eprintln!("{}", line(&self.what, self.lines, tally, now - self.started));
    }
}

/// One plain line.
pub(super) fn line(what: &str, lines: u64, tally: &Tally, took: Duration) -> String {
    let rate = (tally.lines.saturating_sub(tally.skipped)) as f64 / took.as_secs_f64().max(0.001);
    let percent = (tally.lines * 100).checked_div(lines).unwrap_or(100);
    format!(
        "{what}: {} of {} lines ({percent} %), {} lines/s",
        show::count(tally.lines),
        show::count(lines),
        show::count(rate as u64)
    )
}
