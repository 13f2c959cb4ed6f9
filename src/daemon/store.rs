//! The store as the daemon holds it: opened from the data directory, asked for its numbers, closed at the end.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

use super::{Ground, Parts, StartError, StoreControl};
use crate::clock::Clock;
use crate::config::Config;
use crate::disk::{DataDir, DiskError, FileDisk};
use crate::domain::{Epoch, Timestamp};
use crate::feed::{Feed, Options as FeedOptions};
use crate::index::Index;
use crate::journal::{Options as JournalOptions, PageCheck, RedbJournal};
use crate::metrics::{SnapshotReading, StoreReadings};
use crate::secrets::{self, KeyFile, Secrets};
use crate::server::Shared;
use crate::service::{Options as ServiceOptions, Service};
use crate::snapshot;
use crate::store::{self, Checkpoints, Committer, Control, JOURNAL_NAME, KINDS, Keys, Limits, Opened, Recovered, Room};

/// Bits of an epoch below the seconds of its birth.
pub(super) const EPOCH_RANDOM_BITS: u32 = 24;

/// A store with its writer running.
pub struct HeldStore {
    index: Index,
    clock: Clock,
    checkpoints: Checkpoints,
    /// Taken out when the store is closed.
    control: Mutex<Option<Control>>,
    /// The newest snapshot an earlier run left, until this run has written one.
    found: Option<SnapshotReading>,
    /// Bytes of the disk that a snapshot leaves to the journal.
    reserve_bytes: u64,
    made: AtomicU64,
    failed: AtomicU64,
}

/// A store opened, and what stands on it.
pub struct Site {
    /// Asks and changes.
    pub service: Service,
    /// The way to the writer, for what is no change.
    pub committer: Committer,
    /// The clock that never tells less than the data knows.
    pub clock: Clock,
    /// The daemon's hold.
    pub held: Arc<HeldStore>,
    /// How the start went.
    pub recovered: Recovered,
}

pub(super) fn failed(error: impl std::fmt::Display) -> StartError {
    StartError::Store(error.to_string())
}

/// The keys of the store, from the secrets.
pub fn keys(secrets: &Secrets) -> Keys {
    Keys { journal: secrets.journal(), snapshot: secrets.snapshot(), pepper: secrets.pepper.fingerprint() }
}

/// How the configuration wants the journal.
pub fn journal_options(config: &Config) -> JournalOptions {
    JournalOptions { cache_bytes: config.limits.journal_cache_bytes, ..JournalOptions::default() }
}

/// Opens the data directory, alone, and brings journal and snapshots together. A directory without anything is made
/// into an empty store; one that holds snapshots but no journal is refused.
///
/// # Errors
/// Somebody else has the directory, or nothing sound is in it.
pub fn recover(config: &Config, secrets: &Secrets) -> Result<(Arc<DataDir>, Opened), StartError> {
    let dir = Arc::new(open_dir(config)?);
    // A rotation may have been cut off before its file was there for good.
    secrets::settle(dir.disk(), &config.secrets_path())?;
    let path = dir.file_path(JOURNAL_NAME).map_err(failed)?;
    let options = JournalOptions { page_check: PageCheck::BeforeCommits, ..journal_options(config) };
    let names = dir.list().map_err(failed)?;
    let journal = if names.iter().any(|name| name == JOURNAL_NAME) {
        RedbJournal::open(&path, secrets.journal(), options).map_err(failed)?
    } else {
        let left = names.iter().find(|name| store::belongs_to_a_store(name));
        if let Some(left) = left {
            return Err(failed(format!(
                "the data directory {} holds {left} but no {JOURNAL_NAME}: put the journal back; starting without it would \
                 bring revoked tokens back to life",
                dir.path().display()
            )));
        }
        let created = RedbJournal::create(&path, secrets.journal(), new_epoch()?, options).map_err(failed)?;
        tracing::info!(path = %dir.path().display(), "new data directory: an empty journal was made");
        created
    };
    let opened = store::open(&dir, Box::new(journal), &keys(secrets)).map_err(failed)?;
    Ok((dir, opened))
}

/// Opens the data directory. A process that was killed a moment ago may still hold its lock while the system takes its
/// memory apart, so a supervisor that restarts at once is given a few seconds.
pub(super) fn open_dir(config: &Config) -> Result<DataDir, StartError> {
    const PAUSE: Duration = Duration::from_millis(50);
    const ATTEMPTS: u32 = 100;
    for attempt in 1..ATTEMPTS {
        match DataDir::open(&config.server.data_dir) {
            Err(DiskError::InUse { holder, .. }) => {
                if attempt == 1 {
                    tracing::warn!(?holder, "the data directory is in use; waiting for a few seconds");
                }
                std::thread::sleep(PAUSE);
            }
            opened => return opened.map_err(failed),
        }
    }
    DataDir::open(&config.server.data_dir).map_err(failed)
}

pub(super) fn new_epoch() -> Result<Epoch, StartError> {
    let mut random = [0; 8];
    SystemRandom::new().fill(&mut random).map_err(|_| failed("the system gives no random numbers"))?;
    let born = Clock::system(Timestamp::ZERO).now().seconds();
    let low = u64::from_le_bytes(random) & ((1 << EPOCH_RANDOM_BITS) - 1);
    Ok(Epoch(born << EPOCH_RANDOM_BITS | low))
}

/// A store whose writer runs, without the service on it.
pub struct StoreParts {
    /// The daemon's hold.
    pub held: Arc<HeldStore>,
    /// The way to change anything.
    pub committer: Committer,
    /// The clock that never tells less than the data knows.
    pub clock: Clock,
}

/// The seed of a feed that nobody follows: of a store without doors.
pub const NOBODY_FOLLOWS: [u8; 24] = [0; 24];

/// Starts the writer over what was recovered. `seed`: secret random bytes of this start, for the feed.
pub fn run(dir: Arc<DataDir>, opened: Opened, config: &Config, secrets: &Secrets, seed: [u8; 24]) -> StoreParts {
    let Opened { index, writer, journal, clock_floor, epoch, .. } = opened;
    let clock = Clock::system(clock_floor);
    let limits = Limits {
        waiting_max: config.limits.changes_waiting as usize,
        batch_max: config.limits.batch_changes as usize,
        reserve_bytes: config.limits.disk_reserve_bytes as u64,
    };
    let found = newest_snapshot(&dir);
    let feed = Feed::new(&FeedOptions {
        epoch,
        head: journal.head().last,
        seed,
        lease: config.limits.follower_lease,
        grace: config.limits.follower_lease,
        followers_max: config.limits.followers as usize,
    });
    // Rotated by the writer alone, which has the directory's lock with it.
    let file = KeyFile::new(Arc::new(FileDisk), config.secrets_path(), secrets.clone());
    let (committer, control) = store::start_with(writer, journal, feed, limits, Some(file));
    let checkpoints = Checkpoints::new(dir, keys(secrets), index.clone(), &control, config.snapshot.keep as usize);
    let held = HeldStore {
        index,
        clock: clock.clone(),
        checkpoints,
        control: Mutex::new(Some(control)),
        found,
        reserve_bytes: limits.reserve_bytes,
        made: AtomicU64::new(0),
        failed: AtomicU64::new(0),
    };
    StoreParts { held: Arc::new(held), committer, clock }
}

/// Opens the store, starts its writer, and puts the service on it.
///
/// # Errors
/// As [`recover`].
pub fn open_site(config: &Config, secrets: &Secrets) -> Result<Site, StartError> {
    let (dir, opened) = recover(config, secrets)?;
    let (index, epoch, recovered) = (opened.index.clone(), opened.epoch, opened.recovered.clone());
    let mut seed = [0; 24];
    SystemRandom::new().fill(&mut seed).map_err(|_| failed("the system gives no random numbers"))?;
    let StoreParts { held, committer, clock } = run(dir, opened, config, secrets, seed);
    let options = ServiceOptions {
        default_audience: config.server.default_audience.clone(),
        prefix: config.server.token_prefix.clone(),
    };
    let service = Service::new(index, committer.clone(), epoch, secrets.pepper.clone(), options);
    Ok(Site { service, committer, clock, held, recovered })
}

fn newest_snapshot(dir: &DataDir) -> Option<SnapshotReading> {
    let (_, name) = snapshot::list(dir).ok()?.into_iter().next()?;
    let meta = std::fs::metadata(dir.file_path(&name).ok()?).ok()?;
    let finished = meta.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
    Some(SnapshotReading { finished, bytes: meta.len(), seconds: 0.0 })
}

/// What the daemon opens the store with.
///
/// # Errors
/// As [`recover`].
pub fn open_store(ground: &Ground) -> Result<Parts, StartError> {
    let Site { service, clock, held, recovered, .. } = open_site(&ground.config, &ground.secrets)?;
    for aside in &recovered.set_aside {
        tracing::warn!("a snapshot is not used: {aside}");
    }
    tracing::info!(
        snapshot = recovered.snapshot.map(|revision| revision.to_string()),
        snapshot_seconds = recovered.snapshot_took.as_secs_f64(),
        replayed = recovered.replayed,
        journal_seconds = recovered.journal_took.as_secs_f64(),
        "state recovered"
    );
    let shared = Shared { service, callers: ground.callers.clone(), clock, stats: ground.stats.clone() };
    Ok(Parts { shared, store: held })
}

impl HeldStore {
    fn control(&self) -> MutexGuard<'_, Option<Control>> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a snapshot would leave the journal its reserve, by the size of the last one and a quarter more: a
    /// snapshot that fills the disk would stop the changes, and can wait.
    fn room_for_snapshot(&self) -> Result<(), String> {
        let last = self.checkpoints.last().map(|last| last.bytes).max(self.found.as_ref().map(|found| found.bytes));
        let needed = last.unwrap_or(0) / 4 * 5;
        match self.checkpoints.space_left() {
            Some(left) if left < needed.saturating_add(self.reserve_bytes / 4) => Err(format!(
                "the disk of the data directory is full: {left} bytes are left, a snapshot takes about {needed}, and {} \
                 are kept for changes; make some space",
                self.reserve_bytes / 4
            )),
            _ => Ok(()),
        }
    }

    /// Writes a snapshot and says where it stands.
    ///
    /// # Errors
    /// In words; the older snapshots are still there.
    pub fn snapshot(&self) -> Result<store::SnapshotOutcome, String> {
        let written = self
            .room_for_snapshot()
            .and_then(|()| self.checkpoints.write(self.clock.now()).map_err(|error| error.to_string()));
        let count = if written.is_ok() { &self.made } else { &self.failed };
        count.fetch_add(1, Relaxed);
        written
    }
}

impl StoreControl for HeldStore {
    fn readings(&self) -> StoreReadings {
        let pin = self.index.pin();
        let mut readings = StoreReadings {
            revision: pin.applied().0,
            tokens: pin.tokens(),
            grants: u64::from(pin.grants()),
            index_bytes: pin.bytes(),
            snapshot: self.found,
            snapshots_made: self.made.load(Relaxed),
            snapshots_failed: self.failed.load(Relaxed),
            ..StoreReadings::default()
        };
        drop(pin);
        if let Some(last) = self.checkpoints.last() {
            readings.snapshot = Some(SnapshotReading {
                finished: last.finished.seconds(),
                bytes: last.bytes,
                seconds: last.took.as_secs_f64(),
            });
        }
        if let Some(control) = &*self.control() {
            let stats = control.stats();
            readings.changes = KINDS.iter().zip(&stats.changes).map(|(kind, n)| (*kind, n.load(Relaxed))).collect();
            readings.changes_waiting = control.waiting() as u64;
            readings.commit_times = (&stats.commits).into();
            readings.batch_sizes = (&stats.batches).into();
            readings.journal_bytes = stats.journal_bytes.load(Relaxed);
            readings.journal_entries = stats.journal_entries.load(Relaxed);
            readings.key_generation = stats.key_generation.load(Relaxed);
            readings.key_generations = stats.key_generations.load(Relaxed);
            readings.poisoned = stats.poisoned.load(Relaxed);
            readings.disk_refuses = stats.room() as u8;
        }
        readings
    }

    fn snapshot_now(&self) -> Result<(), String> {
        self.snapshot().map(drop)
    }

    fn note_time(&self) -> Result<(), String> {
        self.checkpoints.note(self.clock.now()).map_err(|error| error.to_string())
    }

    fn poisoned(&self) -> Option<String> {
        let control = self.control();
        let control = control.as_ref()?;
        if control.stats().poisoned.load(Relaxed) { control.closed() } else { None }
    }

    fn room(&self) -> Room {
        self.control().as_ref().map_or(Room::Enough, |control| control.stats().room())
    }

    fn close(&self) -> Result<(), String> {
        match self.control().take() {
            Some(control) => control.close().map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }
}
