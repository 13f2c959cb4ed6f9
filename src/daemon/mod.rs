//! Builds the rooms from the ground up, and closes them from the roof down.
//!
//! ```text
//! start:  configuration ─ keys ─ admin (not ready) ─ store ─ doors ─ ready
//! stop:   not ready ─ wait ─ doors take nothing new ─ work in flight, until a deadline ─ snapshot ─ journal ─ admin
//! ```
//!
//! Everything that can be wrong with the configuration is found before anything is bound. A start that fails leaves
//! nothing running; a stop says aloud which deadline was missed. Which way it falls: a poisoned journal or a door that
//! ended by itself stops the whole process with an error, because its supervisor starts it again, warm, and a half
//! service looks like a whole one.
//!
//! A reload (SIGHUP) is all or nothing: certificates and callers are read, checked and made ready for every door, and
//! only then put in force. On any error the old ones stay, and log and metric say why. Certificates are also read
//! again by themselves when their files change.

#![expect(clippy::disallowed_methods, reason = "the daemon measures starts and stops")]

// The doors as the daemon sees them.
pub mod doors;
// Where log lines go.
pub mod logs;
// A new epoch after a restore.
pub mod epoch;
mod notify;
// A store without a server.
pub mod offline;
mod open;
mod running;
// TERM, INT and HUP as messages.
pub mod signals;
// The store as the daemon holds it.
pub mod store;

#[cfg(test)]
mod tests;

use std::fs::DirBuilder;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::admin::{self, Admin, Latch, Readiness};
use crate::clock::Clock;
use crate::config::{Config, ConfigError, Material};
use crate::domain::Timestamp;
use crate::feed::Feed;
use crate::metrics::{Stage, StoreReadings};
use crate::secrets::{Secrets, SecretsError};
use crate::server::credentials::Callers;
use crate::server::stats::{Door, Stats};
use crate::server::{Phase, Shared};
use crate::store::Room;
use doors::{OpenDoor, Opening};
use open::open_doors;
use running::{Running, Watched};
use signals::Told;

/// How the process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// All is well.
    Ok,
    /// Something failed while running or starting.
    RunTime,
    /// The command line was wrong.
    Usage,
    /// The configuration was wrong.
    Configuration,
}

impl Exit {
    /// The code for the system: 0, 1, 2, or 78 (`EX_CONFIG`).
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::RunTime => 1,
            Self::Usage => 2,
            Self::Configuration => 78,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why the service did not start. Nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error(transparent)]
    Configuration(#[from] ConfigError),
    /// The secrets cannot be used.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// The data directory cannot be made.
    #[error("the data directory {path} cannot be made: {source}", path = path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The admin address cannot be bound.
    #[error("server.admin_address: cannot listen on {address}: {source}")]
    Admin {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Journal and snapshot did not become a store.
    #[error("the store did not open: {0}")]
    Store(String),
    /// A door cannot be opened.
    #[error("the {door} door did not open: {what}", door = door.as_str())]
    Door {
        /// Which one.
        door: Door,
        /// What is wrong, and what to do.
        what: String,
    },
    /// There is nothing to serve.
    #[error("there is no door to open")]
    NoDoors,
    /// The system refused something else.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

impl StartError {
    /// How a process that could not start ends.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Configuration(_) => Exit::Configuration,
            _ => Exit::RunTime,
        }
    }
}

/// What the daemon asks of the store; nothing of it is on the hot path. All of it may block; the daemon calls it away
/// from the runtime's threads, except for `poisoned`, which must be quick.
pub trait StoreControl: Send + Sync + 'static {
    /// Its numbers, for a scrape.
    fn readings(&self) -> StoreReadings;

    /// Writes a snapshot and says when it is durable. Two at once are never asked for.
    ///
    /// # Errors
    /// In words; the older snapshots are still there.
    fn snapshot_now(&self) -> Result<(), String>;

    /// Writes down how late it is, for the start after a kill.
    ///
    /// # Errors
    /// In words; what was written down before stays.
    fn note_time(&self) -> Result<(), String> {
        Ok(())
    }

    /// Why changes are refused for good, if a commit has failed.
    fn poisoned(&self) -> Option<String>;

    /// What of the changes the disk had room for when the last ones came.
    fn room(&self) -> Room {
        Room::Enough
    }

    /// Commits what waits, and closes the journal. Called once, last.
    ///
    /// # Errors
    /// In words; everything that was answered is durable all the same.
    fn close(&self) -> Result<(), String>;
}

/// What opening the store gives.
#[derive(Clone)]
pub struct Parts {
    /// What the doors stand on.
    pub shared: Shared,
    /// What the daemon holds.
    pub store: Arc<dyn StoreControl>,
}

/// The ground floor, laid: configuration checked, keys read, the admin listener answering "not ready". What the store
/// is opened on.
pub struct Ground {
    /// The configuration in force.
    pub config: Config,
    /// The keys of the data directory.
    pub secrets: Secrets,
    /// The callers in force; the same as in [`Shared`].
    pub callers: Arc<ArcSwap<Callers>>,
    /// What the doors count; the same as in [`Shared`].
    pub stats: Arc<Stats>,
    /// Whether the service is ready; the store says how far it has come.
    pub readiness: Readiness,
    material: Material,
    /// Of the certificate files in force.
    fingerprint: [u8; 32],
    watched: Arc<Watched>,
    admin: AdminTask,
}

/// The admin listener, served until dropped.
struct AdminTask {
    address: SocketAddr,
    task: JoinHandle<std::convert::Infallible>,
}

impl Drop for AdminTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ground {
    /// Checks the configuration, reads the certificates, makes the data directory and its secrets, binds the admin
    /// listener. `started` is when the process began.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub async fn prepare(config: Config, started: Instant) -> Result<Self, StartError> {
        let clock = Clock::system(Timestamp::ZERO);
        let checked = config.check(clock.now())?;
        checked.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let data_dir = &config.server.data_dir;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(data_dir)
            .map_err(|source| StartError::DataDir { path: data_dir.clone(), source })?;
        let secrets = Secrets::open_or_create(&config.secrets_path(), data_dir)?;

        let (stats, readiness) = (Arc::new(Stats::default()), Readiness::default());
        let callers = Arc::new(ArcSwap::from_pointee(config.callers()));
        let watched = Arc::new(Watched::new(stats.clone(), readiness.clone(), clock, started));
        watched.took_over(&checked.material);
        let address = config.server.admin_address;
        let options = admin::Options {
            connections: config.limits.admin_connections as usize,
            deadline: config.limits.admin_deadline,
        };
        let admin = Admin::bind(address, options).await.map_err(|source| StartError::Admin { address, source })?;
        let address = admin.address();
        let scrape = watched.clone();
        let task = tokio::spawn(admin.serve(readiness.clone(), Arc::new(move || scrape.render())));
        tracing::info!(%address, "admin listener open, not ready");
        watched.reached(Stage::Configuration);
        let (material, admin) = (checked.material, AdminTask { address, task });
        let fingerprint = material.fingerprint;
        Ok(Self { config, secrets, callers, stats, readiness, material, fingerprint, watched, admin })
    }

    /// Opens the doors over the store and runs until told to stop; gives back where everything listens, and the task.
    ///
    /// # Errors
    /// A door did not open; the store is closed again.
    async fn open(self, parts: Parts, told: mpsc::Receiver<Told>) -> Result<Daemon, StartError> {
        self.watched.enter(parts.store.clone());
        self.watched.reached(Stage::Store);
        let (phase, shutdown) = watch::channel(Phase::Open);
        let Parts { shared, store } = parts;
        let opening = Opening {
            config: &self.config,
            material: &self.material,
            secrets: &self.secrets,
            shared: &shared,
            shutdown: &shutdown,
        };
        match open_doors(opening).await {
            Ok(doors) => self.run(store, shared.service.feed().clone(), doors, phase, told).await,
            Err(error) => {
                close_after_failure(store).await;
                Err(error)
            }
        }
    }

    /// Runs with these doors until told to stop.
    async fn run(
        self,
        store: Arc<dyn StoreControl>,
        feed: Feed,
        doors: Vec<Box<dyn OpenDoor>>,
        phase: watch::Sender<Phase>,
        told: mpsc::Receiver<Told>,
    ) -> Result<Daemon, StartError> {
        if doors.is_empty() {
            close_after_failure(store).await;
            return Err(StartError::NoDoors);
        }
        let addresses: Vec<_> = doors.iter().map(|door| (door.door(), door.address())).collect();
        let admin = self.admin.address;
        for latch in [Latch::Snapshot, Latch::Journal, Latch::Doors] {
            self.readiness.release(latch);
        }
        let took = self.watched.reached(Stage::Ready);
        let readings = store.readings();
        tracing::info!(
            ?addresses,
            %admin,
            revision = readings.revision,
            tokens = readings.tokens,
            grants = readings.grants,
            callers = self.config.callers.len(),
            seconds = took,
            "ready"
        );
        notify::tell(notify::READY);
        let running = Running { ground: self, store, feed, doors, phase, told, unreadable: false };
        Ok(Daemon { addresses, admin, task: tokio::spawn(running.until_told()) })
    }
}

async fn close_after_failure(store: Arc<dyn StoreControl>) {
    let closed = tokio::task::spawn_blocking(move || store.close()).await;
    if let Ok(Err(error)) = closed {
        tracing::error!(error, "the store did not close after a failed start");
    }
}

/// A running service.
#[derive(Debug)]
pub struct Daemon {
    /// Each door, and where it listens.
    pub addresses: Vec<(Door, SocketAddr)>,
    /// Where the admin listener is.
    pub admin: SocketAddr,
    task: JoinHandle<Exit>,
}

impl Daemon {
    /// Where this door listens.
    pub fn address(&self, door: Door) -> Option<SocketAddr> {
        self.addresses.iter().find(|(which, _)| *which == door).map(|(_, address)| *address)
    }

    /// Waits until it was told to stop and has stopped.
    pub async fn ended(self) -> Exit {
        self.task.await.unwrap_or_else(|error| {
            tracing::error!(%error, "the daemon panicked");
            Exit::RunTime
        })
    }
}

/// Starts the service: the ground, then the store by `open_store` (on a thread of its own; it may take long), then the
/// doors. `told` stops and reloads it; see [`signals::listen`]. For whoever has a runtime: `dev`, `demo`, tests.
///
/// # Errors
/// [`StartError`]; nothing is left running.
pub async fn start<F>(
    config: Config,
    started: Instant,
    told: mpsc::Receiver<Told>,
    open_store: F,
) -> Result<Daemon, StartError>
where
    F: FnOnce(&Ground) -> Result<Parts, StartError> + Send + 'static,
{
    let ground = Ground::prepare(config, started).await?;
    let opened = tokio::task::spawn_blocking(move || open_store(&ground).map(|parts| (ground, parts))).await;
    let (ground, parts) = opened.map_err(|error| StartError::Store(format!("it panicked: {error}")))??;
    ground.open(parts, told).await
}

/// The command `serve`: logs, process limits, signals, and [`start`]; returns when the service has ended.
pub fn serve<F>(config: Config, open_store: F) -> Exit
where
    F: FnOnce(&Ground) -> Result<Parts, StartError> + Send + 'static,
{
    let started = Instant::now();
    if let Err(what) = logs::start(&config.log) {
        #[expect(clippy::print_stderr, reason = "there is no log to say it in")]
        {
            eprintln!("tokenscope: {what}");
        }
        return Exit::Configuration;
    }
    logs::log_panics();
    forbid_core_dumps();
    let ended = tokio::runtime::Builder::new_multi_thread().enable_all().build().map(|runtime| {
        let exit = runtime.block_on(async {
            let (_sender, told) =
                signals::listen().map_err(|source| StartError::System { what: "cannot listen to signals", source })?;
            Ok::<_, StartError>(start(config, started, told, open_store).await?.ended().await)
        });
        // Whatever still runs was told to end and had its time.
        runtime.shutdown_background();
        exit
    });
    match ended {
        Ok(Ok(exit)) => exit,
        Ok(Err(error)) => {
            tracing::error!(%error, "the service did not start");
            error.exit()
        }
        Err(error) => {
            tracing::error!(%error, "the runtime did not start");
            Exit::RunTime
        }
    }
}

/// No core dumps: they would hold the pepper, the keys, and tokens in flight.
fn forbid_core_dumps() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        tracing::warn!(%error, "core dumps could not be switched off");
    }
}
