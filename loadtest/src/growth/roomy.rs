//! A server that takes a thousand connections of one caller from one address: the sample data of `dev`, served with
//! higher limits.

use std::path::Path;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokenscope::dev::setup;

use super::point::Plan;
use crate::churn::Pool;
use crate::driver::native::Naming;
use crate::population::Population;
use crate::process::Spawned;
use crate::run::{now, population, prepare};
use crate::server::{Kept, Server, Start};
use crate::target::Target;
use crate::workload::Asking;

/// What `dev` lets one caller at one address have of connections, and what is wanted here: a point's thousand, beside those
/// of the point before that have not said yet that they are closed.
const CONNECTIONS: (&str, &str) = ("= 1024\n", "= 4096\n");

/// Beside the limits of `dev`. The generator opens all its connections before it asks the first question.
const MORE: &str = "quic_connections = 4096\nquic_first_request_deadline = \"60s\"\n";

/// Files this process has to be able to open: a socket for each connection, and some more.
const FILES: u64 = 4_096;

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
        let server = Kept::fill(&Start { directory, tokens, core, binary: None }, &limits())?.serve()?;
        let began = now()?;
        let population = population(&server.target, plan.lasts(), began);
        let (naming, pool, _) = prepare(&server.target, &population, Asking::Check, began)?;
        Ok(Self { server, population, naming, pool })
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

/// The limits of `dev`, all of them, with more connections.
fn limits() -> String {
    setup::LIMITS.replace(CONNECTIONS.0, CONNECTIONS.1) + MORE
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_of_dev_are_kept_and_there_is_room_for_a_thousand_connections_twice() {
        // They once stood here in full and lacked what dev had been given since.
        let limits = limits();
        for line in setup::LIMITS.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(' ').next().unwrap();
            assert!(limits.contains(name), "{name}");
        }
        for name in ["quic_connections ", "quic_connections_per_address ", "quic_connections_per_caller "] {
            let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
            let number: u32 = line.rsplit_once("= ").unwrap().1.parse().unwrap();
            assert!(number >= 2_000, "{line}");
        }
    }
}
