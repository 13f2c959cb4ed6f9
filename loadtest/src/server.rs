//! A Tokenscope server of our own: the same program that `tokenscope dev` is, run out of this very executable.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokenscope::dev::file::DevFile;
use tokenscope::dev::setup;

use crate::admin;
use crate::process::{Spawned, free_port};
use crate::target::Target;

/// The word this executable knows the server by.
pub const VERB: &str = "tokenscope";

/// How long loading may take for each million tokens, and at least.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long a server that has its data may take to come back, at least and for each million tokens.
const BACK_WITHIN: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// How long its admin listener may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

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

impl Start {
    /// The program, ready for its arguments.
    fn command(&self) -> Result<Command, String> {
        Ok(match &self.binary {
            Some(binary) => Command::new(binary),
            None => {
                let mut command = Command::new(std::env::current_exe().map_err(|error| error.to_string())?);
                command.arg(VERB);
                command
            }
        })
    }
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
        let mut command = start.command()?;
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

/// A server's data, filled, with addresses that stay: to be served as often as one likes, by `serve` and not by `dev`.
pub struct Kept {
    /// How it is reached while it is served.
    pub target: Target,
    /// Where it says whether it is ready.
    pub admin: SocketAddr,
    start: Start,
    config: PathBuf,
}

impl Kept {
    /// Fills the directory, unless it is filled, with a server that ends when it has; what it is served with then is the configuration
    /// of `dev` with `limits` in the place of its limits.
    ///
    /// # Errors
    /// It cannot be filled, or `dev` writes its limits in another way than it says.
    pub fn fill(start: &Start, limits: &str) -> Result<Self, String> {
        drop(Server::start(start)?);
        let failed = |error: std::io::Error| format!("{}: {error}", start.directory.display());
        let text = std::fs::read_to_string(start.directory.join("tokenscope.toml")).map_err(failed)?;
        if !text.contains(setup::LIMITS) {
            return Err(format!("{}: tokenscope.toml has no limits to be replaced", start.directory.display()));
        }
        let config = start.directory.join("served.toml");
        std::fs::write(&config, text.replace(setup::LIMITS, limits)).map_err(failed)?;
        let file = start.directory.join("dev.json");
        let admin = DevFile::read(&file).map_err(|failure| failure.message)?.admin;
        Ok(Self { target: Target::of_dev(&file)?, admin, start: start.clone(), config })
    }

    /// Starts it and waits for nothing.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(&self) -> Result<Spawned, String> {
        let mut command = self.start.command()?;
        command.arg("serve").arg("--config").arg(&self.config);
        Spawned::start(command, "tokenscope serve", self.start.core, &self.log())
    }

    /// Starts it and waits until it says that it should be asked.
    ///
    /// # Errors
    /// It cannot be started, or does not become ready.
    pub fn serve(&self) -> Result<Server, String> {
        let mut spawned = self.spawn()?;
        spawned.wait_for(self.within(), &self.log(), || self.is_ready())?;
        Ok(Server { target: self.target.clone(), spawned })
    }

    /// Whether it says that it should be asked. Falls to no.
    pub fn is_ready(&self) -> bool {
        admin::is_ready(self.admin, ANSWER)
    }

    /// How long it may take to come back.
    pub fn within(&self) -> Duration {
        BACK_WITHIN.0 + BACK_WITHIN.1 * u32::try_from(self.start.tokens / 1_000_000).unwrap_or(u32::MAX)
    }

    /// Where its output goes.
    pub fn log(&self) -> PathBuf {
        self.start.directory.join("serve.log")
    }
}

/// It greets when its doors are open and its addresses are written down.
fn said_ready(log: &Path) -> bool {
    std::fs::read(log).is_ok_and(|text| text.windows(READY.len()).any(|part| part == READY))
}

const READY: &[u8] = b"tokenscope dev is ready";
