//! What is seen while a run lasts: a bar with rate and percentiles on a terminal, a plain line a second otherwise.

use std::io::IsTerminal;
use std::sync::PoisonError;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::engine::Witness;
use crate::process;
use crate::record::{Live, histogram};
use crate::show::{nanos, short};

/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// Shows, and looks at the server's process when recording begins and ends.
pub struct Watcher {
    bar: Option<ProgressBar>,
    lines: bool,
    last_line: Duration,
    interval: Duration,
    pid: Option<u32>,
    /// The server's CPU time over the recorded part.
    pub server_cpu: Option<Duration>,
    /// Its resident memory at the end of it.
    pub server_resident: Option<u64>,
    cpu_before: Option<Duration>,
}

impl Watcher {
    /// Watches a run of this length; `quiet` shows nothing.
    pub fn new(lasts: Duration, interval: Duration, pid: Option<u32>, quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = (terminal && !quiet).then(|| {
            let bar = ProgressBar::new(u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX));
            // The template is a constant that indicatif accepts; without it the plain bar would do.
            if let Ok(style) = ProgressStyle::with_template("{elapsed_precise} {wide_bar} {msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self {
            bar,
            lines: !terminal && !quiet,
            last_line: Duration::ZERO,
            interval,
            pid,
            server_cpu: None,
            server_resident: None,
            cpu_before: None,
        }
    }
}

impl Witness for Watcher {
    fn begins(&mut self) {
        self.cpu_before = self.pid.and_then(process::cpu_of);
    }

    fn sees(&mut self, at: Duration, lives: &[Live]) {
        if self.bar.is_none() && (!self.lines || at < self.last_line + LINE_EVERY) {
            return;
        }
        let (mut answered, mut latency) = (0, histogram(2));
        for live in lives {
            if let Some(interval) = &*live.lock().unwrap_or_else(PoisonError::into_inner) {
                answered += interval.answered;
                let _ = latency.add(&interval.latency);
            }
        }
        let (p50, p99) = (latency.value_at_quantile(0.5), latency.value_at_quantile(0.99));
        let rate = short(answered as f64 / self.interval.as_secs_f64());
        let text = format!("{rate}/s  p50 {}  p99 {}", nanos(p50 as f64), nanos(p99 as f64));
        match &self.bar {
            Some(bar) => {
                bar.set_position(u64::try_from(at.as_millis()).unwrap_or(u64::MAX));
                bar.set_message(text);
            }
            None => {
                self.last_line = at;
                eprintln!("{:>6.1} s  {text}", at.as_secs_f64());
            }
        }
    }

    fn ends(&mut self) {
        if let (Some(pid), Some(before)) = (self.pid, self.cpu_before) {
            self.server_cpu = process::cpu_of(pid).map(|after| after.saturating_sub(before));
            self.server_resident = process::resident_of(pid);
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
