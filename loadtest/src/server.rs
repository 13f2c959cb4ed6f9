//! A Tokenscope server of our own: the same program that `tokenscope dev` is, run out of this very executable.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::{Spawned, free_port};
use crate::target::Target;

/// The word this executable knows the server by.
pub const VERB: &str = "tokenscope";

/// How long loading may take for each million tokens, and at least.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct Start {
    /// Where it keeps everything; filled with sample data if it is empty.
    pub directory: PathBuf,
    /// Sample tokens.
    pub tokens: u64,
    /// The core it runs on.
    pub core: Option<usize>,
    /// Another executable of the server than this one.
    pub binary: Option<PathBuf>,
}

/// A server that is running, and ends with this value.
pub struct Server {
    /// How it is reached.
    pub target: Target,
    /// Its process.
    pub spawned: Spawned,
}

impl Server {
    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// It cannot be started, or does not become ready.
    pub fn start(start: &Start) -> Result<Self, String> {
        std::fs::create_dir_all(&start.directory).map_err(|error| format!("{}: {error}", start.directory.display()))?;
        let mut command = match &start.binary {
            Some(binary) => Command::new(binary),
            None => {
                let mut command = Command::new(std::env::current_exe().map_err(|error| error.to_string())?);
                command.arg(VERB);
                command
            }
        };
        command.arg("dev").arg("--data-dir").arg(&start.directory);
        // Another one is taken if it is not free any more by then.
        command.arg("--port").arg(free_port()?.to_string());
        command.arg("--tokens").arg(start.tokens.to_string());
        let log = start.directory.join("server.log");
        let mut spawned = Spawned::start(command, "tokenscope dev", start.core, &log)?;
        let within = READY_WITHIN * u32::try_from(1 + start.tokens / 1_000_000).unwrap_or(u32::MAX);
        spawned.wait_for(within, &log, || said_ready(&log))?;
        let target = Target::of_dev(&start.directory.join("dev.json"))?;
        Ok(Self { target, spawned })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.spawned.pid()
    }
}

/// It greets when its doors are open and its addresses are written down.
fn said_ready(log: &Path) -> bool {
    std::fs::read(log).is_ok_and(|text| text.windows(READY.len()).any(|part| part == READY))
}

const READY: &[u8] = b"tokenscope dev is ready";
