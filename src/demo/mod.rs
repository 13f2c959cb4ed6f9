//! `tokenscope demo`: the main job, alone and without preparation.
//!
//! ```text
//! temporary folder ─► certificates, configuration ─► offline import ─► server (a child process)
//!        ─► rows S1 to S12 through both doors ─► SIGKILL in the middle ─► warm restart ─► the same answers
//! ```
//!
//! Every step says what was asked, what was expected, what was answered and how long that took. It succeeds only if
//! every expectation held. The server is a process of its own, so that it can be killed without warning.

#![expect(clippy::disallowed_methods, reason = "every step of the demo says how long it took")]

// The steps.
mod play;
// What happened, printed.
mod record;
// The server and the ways to it.
mod stage;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Instant;

use crate::cli::{Desk, Failure, Outcome, RUN_TIME};
use crate::dev::setup;
use crate::domain::Timestamp;
use record::Record;
use stage::{ChildStage, Stage};

/// Options of `tokenscope demo`.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// Sample tokens around the story.
    #[arg(long, default_value_t = 100_000)]
    tokens: u64,
    /// The seed of the sample data; the same seed plays the same demo.
    #[arg(long, default_value_t = 7_662)]
    seed: u64,
    /// Sample tokens whose answers are compared before and after the kill.
    #[arg(long, default_value_t = play::COMPARED)]
    compare: usize,
    /// Keep the temporary folder, and say where it is.
    #[arg(long)]
    keep: bool,
}

/// Runs it.
///
/// # Errors
/// An expectation did not hold, or the demo could not be played.
pub fn run(options: &Options, desk: &mut Desk<'_>) -> Outcome {
    let folder = Folder::new(options.keep)?;
    let outcome = play(options, &folder, desk);
    if outcome.is_err() || options.keep {
        folder.leave();
        writeln!(desk.err, "The folder is kept: {}", folder.path.display())?;
    }
    outcome
}

fn play(options: &Options, folder: &Folder, desk: &mut Desk<'_>) -> Outcome {
    let began = Instant::now();
    let now = Timestamp::from_seconds(desk.now).ok_or_else(|| Failure::run_time("the clock is beyond 2106"))?;
    let directory = setup::directory(&folder.path)?;
    let mut file = setup::file(&directory, options.seed, options.tokens, now)?;
    let at = setup::addresses(&file, None)?;
    setup::write(&mut file, at, desk.rooms, now)?;
    writeln!(desk.out, "tokenscope demo: a real server in {}", directory.display())?;
    desk.out.flush()?;
    let loading = Instant::now();
    let tally = setup::load(&mut file, desk.rooms, desk.can_draw)?;
    writeln!(desk.out, "{}", setup::loaded(&tally, loading.elapsed().as_secs_f64()))?;
    let mut stage = ChildStage::new(&file, desk.rooms)?;
    let ready = stage.start()?;
    writeln!(
        desk.out,
        "server ready after {:.0} ms: quic {}, https {}\n",
        ready.as_secs_f64() * 1e3,
        file.quic,
        file.https
    )?;
    writeln!(desk.out, "{}", Stage::state(&stage))?;
    let mut record = Record::new(desk.json);
    let world = (options.tokens, now, began);
    play::all(&mut stage, &mut record, &mut *desk.out, options.seed, world, options.compare)?;
    stage.stop(&mut record, &mut *desk.out)?;
    let summary = record.summary(began.elapsed());
    write!(desk.out, "{summary}")?;
    if record.all_held() {
        Ok(())
    } else {
        Err(Failure { code: RUN_TIME, message: "an expectation did not hold".into() })
    }
}

/// A temporary folder that is removed at the end.
struct Folder {
    path: PathBuf,
    kept: std::cell::Cell<bool>,
}

impl Folder {
    fn new(keep: bool) -> Result<Self, Failure> {
        let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let name = format!("tokenscope-demo-{}-{nanos:x}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // Must be new: somebody else's folder is not ours to fill or remove.
        std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
            .create(&path)
            .map_err(|error| Failure::run_time(format!("{}: {error}", path.display())))?;
        Ok(Self { path, kept: std::cell::Cell::new(keep) })
    }

    fn leave(&self) {
        self.kept.set(true);
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.kept.get() {
            // What cannot be removed stays in the temporary directory, as temporary things do.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
