//! A server that takes a thousand connections of one caller from one address: the sample data of `dev`, served with
//! higher limits.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokenscope::dev::file::DevFile;
use tokenscope::dev::setup;

use super::point::Plan;
use crate::churn::Pool;
use crate::driver::native::Naming;
use crate::population::Population;
use crate::process::Spawned;
use crate::run::{now, population, prepare};
use crate::server::{Server, Start, VERB};
use crate::target::Target;
use crate::workload::Asking;

/// The limits of the server's configuration, instead of those of `dev`. The generator is one caller at one address, and opens all its
/// connections before it asks the first question.
const LIMITS: &str = "\n[limits]\nquic_connections = 2048\nquic_connections_per_caller = 2048\n\
                      quic_connections_per_address = 2048\nquic_first_request_deadline = \"60s\"\n";

/// Files this process has to be able to open: a socket for each connection, and some more.
const FILES: u64 = 4_096;

/// How long a server may take to come back with its data, at least and for each million tokens.
const READY: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// How long its admin listener may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// A server with what is asked of it.
pub struct Roomy {
    server: Server,
    /// Its tokens.
    pub population: Arc<Population>,
    /// Their names on the wire.
    pub naming: Naming,
    /// Revoked ones among them.
    pub pool: Arc<Pool>,
}

impl Roomy {
    /// Makes the data, unless it is there, and serves it.
    ///
    /// # Errors
    /// It cannot be made or served.
    pub fn start(directory: &Path, tokens: u64, plan: &Plan) -> Result<Self, String> {
        let directory = directory.join(format!("tokens-{tokens}"));
        let core = plan.cores.map(|(server, _)| server);
        let start = Start { directory: directory.clone(), tokens, core, binary: None };
        // Filled by `dev`, which then ends.
        drop(Server::start(&start)?);
        let failed = |error: std::io::Error| format!("{}: {error}", directory.display());
        let text = std::fs::read_to_string(directory.join("tokenscope.toml")).map_err(failed)?;
        let file = directory.join("growth.toml");
        std::fs::write(&file, text.replace(setup::LIMITS, "") + LIMITS).map_err(failed)?;
        let admin = DevFile::read(&directory.join("dev.json")).map_err(|failure| failure.message)?.admin;
        let mut command = Command::new(std::env::current_exe().map_err(|error| error.to_string())?);
        command.arg(VERB).arg("serve").arg("--config").arg(&file);
        let log = directory.join("serve.log");
        let mut spawned = Spawned::start(command, "tokenscope serve", core, &log)?;
        let within = READY.0 + READY.1 * u32::try_from(tokens / 1_000_000).unwrap_or(u32::MAX);
        spawned.wait_for(within, &log, || is_ready(admin))?;
        let target = Target::of_dev(&directory.join("dev.json"))?;
        let began = now()?;
        let population = population(&target, plan.lasts(), began);
        let (naming, pool, _) = prepare(&target, &population, Asking::Check, began)?;
        Ok(Self { server: Server { target, spawned }, population, naming, pool })
    }

    /// How it is reached.
    pub fn target(&self) -> &Target {
        &self.server.target
    }

    /// Its process.
    pub fn spawned(&self) -> &Spawned {
        &self.server.spawned
    }
}

/// Whether it says that it should be asked.
fn is_ready(admin: SocketAddr) -> bool {
    let asked = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&admin, ANSWER)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.take(4_096).read_to_end(&mut answer)?;
        Ok(answer.starts_with(b"HTTP/1.1 200"))
    };
    asked().unwrap_or(false)
}

/// Lets this process, and those it starts, open enough files.
///
/// # Errors
/// The system allows fewer.
pub fn room_for_files() -> Result<(), String> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= FILES) {
        return Ok(());
    }
    let current = Some(maximum.map_or(FILES, |maximum| maximum.min(FILES)));
    setrlimit(Resource::Nofile, Rlimit { current, maximum })
        .map_err(|error| format!("cannot open {FILES} files, which a thousand connections need: {error}"))
}
