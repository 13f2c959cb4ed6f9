//! While the service runs: what it watches, how it reloads, how it ends.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::doors::OpenDoor;
use super::signals::Told;
use super::{Exit, Ground, StoreControl, notify};
use crate::admin::{Latch, Readiness};
use crate::clock::Clock;
use crate::config::{Config, Material};
use crate::feed::Feed;
use crate::metrics::{Metrics, Readings, Stage};
use crate::server::Phase;
use crate::server::stats::Stats;
use crate::store::Room;

/// How often doors and journal are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How often the certificate files are looked at. By content: links that are swapped do not change a file.
const LOOK_AT_FILES: Duration = Duration::from_secs(30);
/// How long doors may take to end once they were told that it is over.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// What a scrape reads: shared by the daemon, which writes, and the admin listener.
pub(super) struct Watched {
    metrics: Metrics,
    stats: Arc<Stats>,
    readiness: Readiness,
    pub(super) clock: Clock,
    started: Instant,
    store: OnceLock<Arc<dyn StoreControl>>,
    stages: Mutex<[Option<f64>; Stage::ALL.len()]>,
    /// Seconds since 1970; 0 for unknown.
    not_after: AtomicU64,
    reload_successful: AtomicBool,
    reload_time: AtomicU64,
}

impl Watched {
    pub(super) fn new(stats: Arc<Stats>, readiness: Readiness, clock: Clock, started: Instant) -> Self {
        Self {
            metrics: Metrics::new(env!("CARGO_PKG_VERSION")),
            stats,
            readiness,
            clock,
            started,
            store: OnceLock::new(),
            stages: Mutex::default(),
            not_after: AtomicU64::new(0),
            reload_successful: AtomicBool::new(true),
            reload_time: AtomicU64::new(0),
        }
    }

    /// From now on scrapes ask this store.
    pub(super) fn enter(&self, store: Arc<dyn StoreControl>) {
        // There is one store in the life of a process; a second one would be a mistake of the caller, and is ignored.
        let _ = self.store.set(store);
    }

    /// The stage has ended; gives back the seconds since the process began.
    pub(super) fn reached(&self, stage: Stage) -> f64 {
        let seconds = self.started.elapsed().as_secs_f64();
        self.stages.lock().unwrap_or_else(PoisonError::into_inner)[stage as usize] = Some(seconds);
        seconds
    }

    /// This material is in force now.
    pub(super) fn took_over(&self, material: &Material) {
        self.not_after.store(material.not_after.map_or(0, |end| end.seconds()), Relaxed);
        self.reload_time.store(self.clock.now().seconds(), Relaxed);
        self.reload_successful.store(true, Relaxed);
    }

    pub(super) fn render(&self) -> String {
        let not_after = self.not_after.load(Relaxed);
        let readings = Readings {
            store: self.store.get().map(|store| store.readings()).unwrap_or_default(),
            now: self.clock.now().seconds(),
            ready: self.readiness.is_ready(),
            start_seconds: *self.stages.lock().unwrap_or_else(PoisonError::into_inner),
            certificate_not_after: (not_after != 0).then_some(not_after),
            reload_successful: self.reload_successful.load(Relaxed),
            reload_time: self.reload_time.load(Relaxed),
        };
        self.metrics.render(&self.stats, &readings)
    }
}

/// The service between "ready" and its end.
pub(super) struct Running {
    pub ground: Ground,
    pub store: Arc<dyn StoreControl>,
    pub feed: Feed,
    pub doors: Vec<Box<dyn OpenDoor>>,
    pub phase: watch::Sender<Phase>,
    pub told: mpsc::Receiver<Told>,
    /// The certificate files could not be read when they were last looked at.
    pub unreadable: bool,
}

/// Why it ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    Told,
    Poisoned,
    DoorFailed,
}

impl Running {
    /// Serves until told to stop, or until something failed that a restart mends; then closes everything.
    pub(super) async fn until_told(mut self) -> Exit {
        let reason = self.serve().await;
        self.close(reason).await
    }

    async fn serve(&mut self) -> Reason {
        let mut look = interval(LOOK);
        let mut files = interval(LOOK_AT_FILES);
        let pause = self.ground.config.snapshot.interval;
        let mut snapshots = interval(pause);
        let mut times = interval(self.ground.config.limits.time_noted_every);
        for timer in [&mut look, &mut files, &mut snapshots, &mut times] {
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
            timer.reset();
        }
        let mut writing: Option<JoinHandle<()>> = None;
        let mut noting: Option<JoinHandle<()>> = None;
        let mut room = Room::Enough;
        loop {
            tokio::select! {
                told = self.told.recv() => match told {
                    Some(Told::Reload) => self.reload(),
                    // Nobody is left who could ever say stop.
                    Some(Told::Stop) | None => return self.leave(writing, Reason::Told).await,
                },
                _ = look.tick() => {
                    if let Some(what) = self.store.poisoned() {
                        self.ground.readiness.hold(Latch::NotPoisoned, what.clone());
                        tracing::error!(what, "the journal failed: no more changes; ending so that a restart finds out what is durable");
                        return self.leave(writing, Reason::Poisoned).await;
                    }
                    if std::mem::replace(&mut room, self.store.room()) != room {
                        tell_room(room);
                    }
                    if let Some(door) = self.doors.iter().find(|door| door.has_failed()) {
                        tracing::error!(door = door.door().as_str(), "a door ended by itself; ending so that all of it starts again");
                        return self.leave(writing, Reason::DoorFailed).await;
                    }
                }
                _ = files.tick() => self.reread_certificates(),
                _ = times.tick() => {
                    if noting.as_ref().is_none_or(JoinHandle::is_finished) {
                        let store = self.store.clone();
                        noting = Some(tokio::task::spawn_blocking(move || note_time(&*store)));
                    }
                }
                _ = snapshots.tick() => {
                    if writing.as_ref().is_none_or(JoinHandle::is_finished) {
                        let store = self.store.clone();
                        writing = Some(tokio::task::spawn_blocking(move || { snapshot(&*store); }));
                    }
                }
            }
        }
    }

    /// Waits for a snapshot that is being written, so that two are never written at once.
    async fn leave(&self, writing: Option<JoinHandle<()>>, reason: Reason) -> Reason {
        self.ground.readiness.hold(Latch::NotDraining, "shutting down");
        if let Some(writing) = writing {
            // A panic in it was logged where it happened.
            let _ = writing.await;
        }
        reason
    }

    /// SIGHUP: reads the configuration, and takes over callers and certificates, or nothing.
    fn reload(&mut self) {
        match self.take_over_configuration() {
            Ok(restart) => {
                tracing::info!(callers = self.ground.config.callers.len(), "configuration reloaded");
                if !restart.is_empty() {
                    tracing::warn!(keys = restart.join(", "), "these keys have changed and need a restart");
                }
            }
            Err(error) => self.kept(&error),
        }
    }

    fn kept(&self, error: &str) {
        self.ground.watched.reload_successful.store(false, Relaxed);
        tracing::error!(error, "the reload failed; what was in force stays in force");
    }

    fn take_over_configuration(&mut self) -> Result<Vec<&'static str>, String> {
        // A configuration that was never a file (`dev`, tests) is taken as it is; its certificates are read again.
        let new = match self.ground.config.path.as_os_str().is_empty() {
            true => self.ground.config.clone(),
            false => Config::load(&self.ground.config.path).map_err(|e| e.to_string())?,
        };
        let checked = new.check(self.ground.watched.clock.now()).map_err(|e| e.to_string())?;
        let callers = Arc::new(new.callers());
        let in_force = self.ground.callers.clone();
        let feed = self.feed.clone();
        self.swap(checked.material, || {
            in_force.store(callers);
            // What near-caches hold was given to the callers as they were.
            feed.start_over();
        })?;
        checked.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let restart = self.ground.config.needs_restart(&new);
        // Only what is in force is kept, so that a key that needs a restart is named again at the next reload.
        self.ground.config.tls = new.tls;
        self.ground.config.callers = new.callers;
        Ok(restart)
    }

    /// Prepares every door, then runs `also` and all swaps; nothing of it if one door refuses.
    fn swap(&mut self, material: Material, also: impl FnOnce()) -> Result<(), String> {
        let mut swaps = Vec::new();
        for door in &self.doors {
            swaps.push(door.prepare(&material).map_err(|what| format!("the {} door: {what}", door.door().as_str()))?);
        }
        also();
        swaps.into_iter().for_each(|swap| swap());
        self.ground.watched.took_over(&material);
        self.ground.fingerprint = material.fingerprint;
        Ok(())
    }

    /// Takes over certificate files that have changed by themselves.
    fn reread_certificates(&mut self) {
        let fresh = match Material::read(&self.ground.config.tls) {
            Ok(fresh) => fresh,
            // Between the two writes of a renewal this is normal; the next look finds both.
            Err(error) => {
                self.unreadable = true;
                return self.kept(&error.to_string());
            }
        };
        if self.ground.fingerprint == fresh.fingerprint {
            // The files are back as they were: what is in force is what they say.
            if std::mem::take(&mut self.unreadable) {
                self.ground.watched.reload_successful.store(true, Relaxed);
            }
            return;
        }
        self.unreadable = false;
        match self.swap(fresh, || ()) {
            Ok(()) => tracing::info!("certificates taken over"),
            Err(error) => self.kept(&error),
        }
    }

    /// The shutdown, from the roof down. Each step says when it is late.
    async fn close(mut self, reason: Reason) -> Exit {
        let began = Instant::now();
        let server = self.ground.config.server.clone();
        notify::tell(notify::STOPPING);
        tracing::info!(wait = ?server.drain_wait, deadline = ?server.drain_deadline, "shutting down: not ready");
        if reason == Reason::Told {
            // Balancers notice; work goes on.
            sleep(server.drain_wait).await;
        }
        self.phase.send_replace(Phase::Draining);
        let mut ending = JoinSet::new();
        for door in std::mem::take(&mut self.doors) {
            let name = door.door().as_str();
            ending.spawn(async move {
                door.join().await;
                tracing::info!(door = name, "door closed");
            });
        }
        let in_time = timeout(server.drain_deadline, all(&mut ending)).await.is_ok();
        self.phase.send_replace(Phase::Closed);
        if !in_time {
            tracing::warn!("work was still in flight at server.drain_deadline; closing its connections");
            if timeout(LAST_WORDS, all(&mut ending)).await.is_err() {
                tracing::error!("a door did not close");
            }
        }
        let store = self.store.clone();
        let write = reason != Reason::Poisoned;
        let closed = tokio::task::spawn_blocking(move || {
            let written = !write || snapshot(&*store);
            let closed = store.close();
            if let Err(error) = &closed {
                tracing::error!(error, "the journal did not close well; everything that was answered is durable");
            }
            written && closed.is_ok()
        });
        let well = closed.await.unwrap_or(false) && reason == Reason::Told;
        tracing::info!(seconds = began.elapsed().as_secs_f64(), well, "ended");
        if well { Exit::Ok } else { Exit::RunTime }
    }
}

/// A change of what the disk has room for.
fn tell_room(room: Room) {
    match room {
        Room::Enough => tracing::info!("the disk has space again: all changes are made"),
        Room::Reserve => tracing::error!("the disk is nearly full: only changes that take rights away are made"),
        Room::Nothing => tracing::error!("the disk is full: no changes are made; questions are answered"),
    }
}

async fn all(tasks: &mut JoinSet<()>) {
    while tasks.join_next().await.is_some() {}
}

/// Writes down how late it is; a full disk is told elsewhere.
fn note_time(store: &dyn StoreControl) {
    if let Err(error) = store.note_time() {
        tracing::warn!(error, "the time could not be written down; after a kill the clock may begin earlier than this");
    }
}

/// Writes a snapshot, and says how that went.
fn snapshot(store: &dyn StoreControl) -> bool {
    let began = Instant::now();
    match store.snapshot_now() {
        Ok(()) => {
            tracing::info!(seconds = began.elapsed().as_secs_f64(), "the state is in a snapshot");
            true
        }
        Err(error) => {
            tracing::error!(error, "no snapshot; the older ones and the journal have everything");
            false
        }
    }
}
