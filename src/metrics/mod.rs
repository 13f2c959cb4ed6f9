//! Every number a Prometheus server can scrape: its name, unit, labels and meaning, in this one file.
//!
//! The hot path knows nothing of Prometheus: it bumps plain atomics ([`crate::server::stats`]), and so does the store.
//! At a scrape [`Metrics::render`] reads them, publishes counters by `absolute` and gauges by `set` through handles
//! that were made once, and renders the histograms itself from their fixed buckets. No histogram of the exporter is
//! ever used: it would keep every sample until the next scrape. So nothing here grows with the load, and the scraper
//! pays for the scrape.
//!
//! Names are an interface: renaming one breaks somebody's dashboard. Labels are closed sets from the code; there is no
//! label of a token, subject, client, caller or workspace. `METRICS.md` beside this file is made from [`TABLE`]; a
//! test holds them together, and another that what is rendered is what the table says.

mod text;

#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use metrics::{Counter, Gauge, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::domain::{Denial, Inactive};
use crate::server::stats::{Door, DoorStats, FeedStats, RefusedFor, Stats};
use crate::tally::{BATCH_BUCKETS, BatchSizes, LATENCY_BUCKETS, Latency};

/// What kind of number a metric is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only grows, until the process restarts.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by upper bound, and a sum.
    Histogram,
}

impl Kind {
    /// The word of the text format.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric. The unit is the last word of the name (`_seconds`, `_bytes`, `_total`), as Prometheus has it.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, complete.
    pub name: &'static str,
    /// What kind of number it is.
    pub kind: Kind,
    /// Its labels, separated by commas; empty for none.
    pub labels: &'static str,
    /// What it says, in one sentence.
    pub help: &'static str,
}

macro_rules! table {
    ($($id:ident = $kind:ident $name:literal [$labels:literal] $help:literal;)*) => {
        $(pub(crate) const $id: Metric = Metric { name: $name, kind: Kind::$kind, labels: $labels, help: $help };)*
        /// Every metric of our own, in the order of the page. Beside them stand the `process_*` metrics.
        pub const TABLE: &[Metric] = &[$($id,)*];
    };
}

table! {
    BUILD_INFO = Gauge "tokenscope_build_info" ["version"] "Always 1; the version is in the label.";
    INTROSPECTIONS = Counter "tokenscope_introspections_total" ["door,result"] "Questions that got a verdict: introspections and checks. A denied check is of an active token.";
    INACTIVE = Counter "tokenscope_inactive_total" ["reason"] "Inactive answers by their reason, which callers are never told.";
    DENIED = Counter "tokenscope_checks_denied_total" ["reason"] "Checks of active tokens that were denied, by reason.";
    ALLOWED = Counter "tokenscope_checks_allowed_total" ["door"] "Checks that were allowed.";
    REFUSALS = Counter "tokenscope_refusals_total" ["door,reason"] "Requests and connections without a verdict, by reason.";
    DURATION = Histogram "tokenscope_introspection_duration_seconds" ["door"] "From the decoded question to the encoded answer; taken once for a batch and counted for each question in it.";
    DOOR_CHANGES = Counter "tokenscope_door_changes_total" ["door"] "Changes that were asked for at a door and made.";
    CONNECTIONS = Gauge "tokenscope_connections" ["door"] "Connections now.";
    HANDSHAKES = Counter "tokenscope_handshakes_total" ["door,result"] "Connections whose handshake succeeded or failed.";
    FOLLOWERS = Gauge "tokenscope_followers" [""] "Near-caches that follow the list now.";
    FOLLOWS = Counter "tokenscope_follows_total" ["result"] "Near-caches that began to follow: resumed where they stood, or anew with nothing.";
    ANNOUNCEMENTS = Counter "tokenscope_announcements_total" [""] "Announcements written to followers; one may be of many changes.";
    STARTED_OVER = Counter "tokenscope_followers_started_over_total" [""] "Times a follower was told to forget everything, because it fell behind or rights were replaced.";
    CUT = Counter "tokenscope_followers_cut_total" [""] "Followers that were cut because they did not read.";
    LEASES = Counter "tokenscope_leases_total" [""] "Leases given to followers.";
    LAPSED = Counter "tokenscope_leases_lapsed_total" [""] "Leases that ran out before they were renewed; their followers asked the server meanwhile.";
    FENCE_DURATION = Histogram "tokenscope_fence_duration_seconds" [""] "How long a fenced change waited, after it was durable and visible, until no near-cache could act on what was true before.";
    OUTWAITED = Counter "tokenscope_fences_outwaited_total" [""] "Followers whose lease a fence had to wait out, because they did not acknowledge.";
    REVISION = Gauge "tokenscope_revision" [""] "Sequence of the last change that is visible.";
    TOKENS = Gauge "tokenscope_tokens" [""] "Tokens in the index, expired and revoked ones that are not swept included.";
    GRANTS = Gauge "tokenscope_grants" [""] "Grants in the index.";
    INDEX_BYTES = Gauge "tokenscope_index_bytes" [""] "Memory the index holds.";
    INDEX_BYTES_PER_TOKEN = Gauge "tokenscope_index_bytes_per_token" [""] "Memory of the index divided by its tokens; 0 without tokens.";
    CHANGES = Counter "tokenscope_changes_total" ["kind"] "Changes made by this process since it started, by kind.";
    CHANGES_WAITING = Gauge "tokenscope_changes_waiting" [""] "Changes that wait for the writer.";
    COMMIT_DURATION = Histogram "tokenscope_journal_commit_duration_seconds" [""] "Time to make one batch of changes durable.";
    BATCH_CHANGES = Histogram "tokenscope_journal_batch_changes" [""] "Changes made durable together.";
    JOURNAL_BYTES = Gauge "tokenscope_journal_bytes" [""] "Size of the journal on disk.";
    JOURNAL_ENTRIES = Gauge "tokenscope_journal_entries" [""] "Entries in the journal that are not discarded.";
    JOURNAL_POISONED = Gauge "tokenscope_journal_poisoned" [""] "1 if a commit failed and changes are refused, else 0.";
    KEY_GENERATION = Gauge "tokenscope_key_generation" [""] "The generation of MAC keys in force: 1 before the first rotation.";
    KEY_GENERATIONS = Gauge "tokenscope_key_generations_kept" [""] "Generations of MAC keys that are kept because something on the disk needs them; one more than 8 is refused.";
    DISK_REFUSES = Gauge "tokenscope_disk_refuses_changes" [""] "What a nearly full disk keeps from being made: 0 nothing, 1 changes that give rights, 2 all changes.";
    SNAPSHOTS = Counter "tokenscope_snapshots_total" ["result"] "Snapshots that were finished or failed.";
    SNAPSHOT_BYTES = Gauge "tokenscope_snapshot_bytes" [""] "Size of the newest snapshot.";
    SNAPSHOT_DURATION = Gauge "tokenscope_snapshot_last_duration_seconds" [""] "Time the newest snapshot took to write.";
    SNAPSHOT_AGE = Gauge "tokenscope_snapshot_age_seconds" [""] "Time since the newest snapshot was finished; absent before there is one.";
    SNAPSHOT_SUCCESS = Gauge "tokenscope_snapshot_last_success_timestamp_seconds" [""] "When the newest snapshot was finished; absent before there is one.";
    START_DURATION = Gauge "tokenscope_start_duration_seconds" ["stage"] "Time from the start of the process to the end of each stage of starting.";
    READY = Gauge "tokenscope_ready" [""] "1 if /readyz says yes, else 0.";
    CERTIFICATE = Gauge "tokenscope_tls_certificate_not_after_timestamp_seconds" [""] "When the server's certificate ends; absent if that cannot be read.";
    RELOAD_OK = Gauge "tokenscope_config_last_reload_successful" [""] "1 if the last reload was taken over (or none was tried), 0 if the old configuration was kept.";
    RELOAD_TIME = Gauge "tokenscope_config_last_reload_timestamp_seconds" [""] "When the configuration in force was read.";
    PANICS = Counter "tokenscope_panics_total" [""] "Tasks that panicked; each cost one connection.";
}

/// A histogram as plain numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Buckets<const N: usize> {
    /// Counts per bucket, not cumulative; the last has no bound.
    pub counts: [u64; N],
    /// The sum of what was counted, in the unit of its source (nanoseconds, changes).
    pub sum: u64,
}

impl<const N: usize> Default for Buckets<N> {
    fn default() -> Self {
        Self { counts: [0; N], sum: 0 }
    }
}

impl From<&Latency> for Buckets<{ LATENCY_BUCKETS + 1 }> {
    fn from(latency: &Latency) -> Self {
        let (counts, sum) = latency.read();
        Self { counts, sum }
    }
}

impl From<&BatchSizes> for Buckets<{ BATCH_BUCKETS + 1 }> {
    fn from(sizes: &BatchSizes) -> Self {
        let (counts, sum) = sizes.read();
        Self { counts, sum }
    }
}

/// What the store has to say at a scrape: plain numbers, filled by whoever knows them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoreReadings {
    /// Sequence of the last visible change.
    pub revision: u64,
    /// Tokens in the index.
    pub tokens: u64,
    /// Grants in the index.
    pub grants: u64,
    /// Bytes of memory the index holds.
    pub index_bytes: u64,
    /// Changes made since the start, by the name of their kind. The names are a closed list of the store's.
    pub changes: Vec<(&'static str, u64)>,
    /// Changes that wait for the writer.
    pub changes_waiting: u64,
    /// Commit times, in nanoseconds; buckets as in [`Latency::bound_ns`].
    pub commit_times: Buckets<{ LATENCY_BUCKETS + 1 }>,
    /// Batch sizes; buckets as in [`BatchSizes`].
    pub batch_sizes: Buckets<{ BATCH_BUCKETS + 1 }>,
    /// Size of the journal on disk.
    pub journal_bytes: u64,
    /// Entries in the journal.
    pub journal_entries: u64,
    /// Whether changes are refused because a commit failed.
    pub poisoned: bool,
    /// The generation of MAC keys in force.
    pub key_generation: u32,
    /// How many generations are kept.
    pub key_generations: u32,
    /// What a nearly full disk keeps from being made: 0 nothing, 1 changes that give rights, 2 all changes.
    pub disk_refuses: u8,
    /// The newest snapshot, if there is one.
    pub snapshot: Option<SnapshotReading>,
    /// Snapshots finished since the start.
    pub snapshots_made: u64,
    /// Snapshots that failed since the start.
    pub snapshots_failed: u64,
}

/// The newest snapshot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SnapshotReading {
    /// When it was finished, in seconds since 1970.
    pub finished: u64,
    /// Its size.
    pub bytes: u64,
    /// How long it took to write, in seconds; 0 if an earlier process wrote it.
    pub seconds: f64,
}

/// A stage of starting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Configuration and keys are read.
    Configuration,
    /// Snapshot and journal are applied.
    Store,
    /// The doors are open.
    Ready,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Self; 3] = [Self::Configuration, Self::Store, Self::Ready];

    /// The word for labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Store => "store",
            Self::Ready => "ready",
        }
    }
}

/// Everything that is not counted at the doors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Readings {
    /// The store's.
    pub store: StoreReadings,
    /// The moment of the scrape, in seconds since 1970.
    pub now: u64,
    /// Whether `/readyz` says yes.
    pub ready: bool,
    /// Seconds from the start of the process to the end of each [`Stage`], in order; `None` while it lasts.
    pub start_seconds: [Option<f64>; Stage::ALL.len()],
    /// When the server's certificate ends, in seconds since 1970.
    pub certificate_not_after: Option<u64>,
    /// Whether the last reload was taken over.
    pub reload_successful: bool,
    /// When the configuration in force was read, in seconds since 1970.
    pub reload_time: u64,
}

/// The handles of one door.
struct DoorHandles {
    active: Counter,
    inactive: Counter,
    allowed: Counter,
    changes: Counter,
    connections: Gauge,
    handshakes_ok: Counter,
    handshakes_failed: Counter,
    refused: [Counter; RefusedFor::ALL.len()],
}

/// The handles of the feed.
struct FeedHandles {
    followers: Gauge,
    resumed: Counter,
    begun: Counter,
    announcements: Counter,
    started_over: Counter,
    cut: Counter,
    leases: Counter,
    lapsed: Counter,
    outwaited: Counter,
}

/// The recorder, its handles, and the text they make. Not installed as the process's recorder: nobody else may add
/// metrics that the table does not have.
pub struct Metrics {
    recorder: PrometheusRecorder,
    prometheus: PrometheusHandle,
    process: metrics_process::Collector,
    doors: [DoorHandles; Door::ALL.len()],
    inactive: [Counter; Inactive::ALL.len()],
    denied: [Counter; Denial::ALL.len()],
    panics: Counter,
    feed: FeedHandles,
    gauges: Vec<(&'static str, Gauge)>,
    snapshots: [Counter; 2],
    /// One scrape at a time: two at once would only do the same work twice.
    one_at_a_time: Mutex<()>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

const METADATA: Metadata<'static> = Metadata::new("tokenscope", Level::INFO, None);

fn key(metric: &Metric, labels: &[(&'static str, &str)]) -> Key {
    let labels = labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned()));
    Key::from_parts(metric.name, labels.collect::<Vec<_>>())
}

/// Gauges without labels that are always there.
const PLAIN: [&Metric; 17] = [
    &REVISION,
    &TOKENS,
    &GRANTS,
    &INDEX_BYTES,
    &INDEX_BYTES_PER_TOKEN,
    &CHANGES_WAITING,
    &JOURNAL_BYTES,
    &JOURNAL_ENTRIES,
    &KEY_GENERATION,
    &KEY_GENERATIONS,
    &JOURNAL_POISONED,
    &DISK_REFUSES,
    &SNAPSHOT_BYTES,
    &SNAPSHOT_DURATION,
    &READY,
    &RELOAD_OK,
    &RELOAD_TIME,
];

impl Metrics {
    /// All handles, made once; `version` is the program's.
    pub fn new(version: &str) -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        for metric in TABLE {
            let (name, help) = (metric.name.into(), metric.help.into());
            match metric.kind {
                Kind::Counter => recorder.describe_counter(name, None, help),
                Kind::Gauge => recorder.describe_gauge(name, None, help),
                // Rendered by `text`, which writes their help too.
                Kind::Histogram => {}
            }
        }
        let process = metrics_process::Collector::default();
        metrics::with_local_recorder(&recorder, || process.describe());
        let counter = |metric: &Metric, labels: &[(&'static str, &str)]| {
            recorder.register_counter(&key(metric, labels), &METADATA)
        };
        let gauge =
            |metric: &Metric, labels: &[(&'static str, &str)]| recorder.register_gauge(&key(metric, labels), &METADATA);
        let doors = Door::ALL.map(|door| {
            let door = ("door", door.as_str());
            DoorHandles {
                active: counter(&INTROSPECTIONS, &[door, ("result", "active")]),
                inactive: counter(&INTROSPECTIONS, &[door, ("result", "inactive")]),
                allowed: counter(&ALLOWED, &[door]),
                changes: counter(&DOOR_CHANGES, &[door]),
                connections: gauge(&CONNECTIONS, &[door]),
                handshakes_ok: counter(&HANDSHAKES, &[door, ("result", "ok")]),
                handshakes_failed: counter(&HANDSHAKES, &[door, ("result", "failed")]),
                refused: RefusedFor::ALL.map(|reason| counter(&REFUSALS, &[door, ("reason", reason.as_str())])),
            }
        });
        let inactive = Inactive::ALL.map(|reason| counter(&INACTIVE, &[("reason", reason.as_str())]));
        let denied = Denial::ALL.map(|reason| counter(&DENIED, &[("reason", reason.as_str())]));
        let snapshots = ["finished", "failed"].map(|result| counter(&SNAPSHOTS, &[("result", result)]));
        let panics = counter(&PANICS, &[]);
        let feed = FeedHandles {
            followers: gauge(&FOLLOWERS, &[]),
            resumed: counter(&FOLLOWS, &[("result", "resumed")]),
            begun: counter(&FOLLOWS, &[("result", "anew")]),
            announcements: counter(&ANNOUNCEMENTS, &[]),
            started_over: counter(&STARTED_OVER, &[]),
            cut: counter(&CUT, &[]),
            leases: counter(&LEASES, &[]),
            lapsed: counter(&LAPSED, &[]),
            outwaited: counter(&OUTWAITED, &[]),
        };
        let gauges = PLAIN.iter().map(|metric| (metric.name, gauge(metric, &[]))).collect();
        gauge(&BUILD_INFO, &[("version", version)]).set(1.0);
        let (prometheus, one_at_a_time) = (recorder.handle(), Mutex::new(()));
        Self { recorder, prometheus, process, doors, inactive, denied, panics, feed, gauges, snapshots, one_at_a_time }
    }

    /// Reads `stats`, publishes `readings`, and gives the page of a scrape in the text format 0.0.4.
    pub fn render(&self, stats: &Stats, readings: &Readings) -> String {
        // What a panicking scrape left behind is overwritten here.
        let _one = self.one_at_a_time.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.publish_doors(stats);
        self.publish_feed(&stats.feed);
        self.publish(readings);
        metrics::with_local_recorder(&self.recorder, || self.process.collect());
        let mut page = self.prometheus.render();
        let latency_bounds = latency_bounds();
        let nanoseconds = |buckets: Buckets<{ LATENCY_BUCKETS + 1 }>, labels: String| text::Series {
            labels,
            counts: buckets.counts.to_vec(),
            sum: buckets.sum as f64 / 1e9,
        };
        let by_door = Door::ALL
            .map(|door| nanoseconds((&stats.door(door).latency).into(), format!("door=\"{}\"", door.as_str())));
        text::histogram(&mut page, &DURATION, &latency_bounds, &by_door);
        let fences = nanoseconds((&stats.feed.fences).into(), String::new());
        text::histogram(&mut page, &FENCE_DURATION, &latency_bounds, &[fences]);
        let store = &readings.store;
        let commits = nanoseconds(store.commit_times.clone(), String::new());
        text::histogram(&mut page, &COMMIT_DURATION, &latency_bounds, &[commits]);
        let bounds: Vec<String> = (0..BATCH_BUCKETS).map(|i| (1_u64 << i).to_string()).collect();
        let (counts, sum) = (store.batch_sizes.counts.to_vec(), store.batch_sizes.sum as f64);
        text::histogram(&mut page, &BATCH_CHANGES, &bounds, &[text::Series { labels: String::new(), counts, sum }]);
        page
    }

    fn publish_doors(&self, stats: &Stats) {
        let read = |number: &AtomicU64| number.load(Relaxed);
        for (door, handles) in Door::ALL.into_iter().zip(&self.doors) {
            let DoorStats {
                active, inactive, allowed, refused, changes, connections, accepted, handshakes_failed, ..
            } = stats.door(door);
            handles.active.absolute(read(active));
            handles.inactive.absolute(inactive.iter().map(read).sum());
            handles.allowed.absolute(read(allowed));
            handles.changes.absolute(read(changes));
            handles.connections.set(connections.load(Relaxed) as f64);
            handles.handshakes_ok.absolute(read(accepted));
            handles.handshakes_failed.absolute(read(handshakes_failed));
            for (handle, count) in handles.refused.iter().zip(refused) {
                handle.absolute(read(count));
            }
        }
        let both = |of: &dyn Fn(&DoorStats) -> u64| Door::ALL.into_iter().map(|door| of(stats.door(door))).sum();
        for (i, handle) in self.inactive.iter().enumerate() {
            handle.absolute(both(&|door| door.inactive.get(i).map_or(0, read)));
        }
        for (i, handle) in self.denied.iter().enumerate() {
            handle.absolute(both(&|door| door.denied.get(i).map_or(0, read)));
        }
        self.panics.absolute(read(&stats.panics));
    }

    fn publish_feed(&self, stats: &FeedStats) {
        let handles = &self.feed;
        handles.followers.set(stats.followers.load(Relaxed) as f64);
        for (handle, number) in [
            (&handles.resumed, &stats.resumed),
            (&handles.begun, &stats.begun),
            (&handles.announcements, &stats.announcements),
            (&handles.started_over, &stats.started_over),
            (&handles.cut, &stats.cut),
            (&handles.leases, &stats.leases),
            (&handles.lapsed, &stats.lapsed),
            (&handles.outwaited, &stats.outwaited),
        ] {
            handle.absolute(number.load(Relaxed));
        }
    }

    fn publish(&self, readings: &Readings) {
        let Readings { store, now, ready, start_seconds, certificate_not_after, .. } = readings;
        let snapshot = store.snapshot;
        for (name, handle) in &self.gauges {
            handle.set(match *name {
                name if name == REVISION.name => store.revision as f64,
                name if name == TOKENS.name => store.tokens as f64,
                name if name == GRANTS.name => store.grants as f64,
                name if name == INDEX_BYTES.name => store.index_bytes as f64,
                name if name == INDEX_BYTES_PER_TOKEN.name => per(store.index_bytes, store.tokens),
                name if name == CHANGES_WAITING.name => store.changes_waiting as f64,
                name if name == JOURNAL_BYTES.name => store.journal_bytes as f64,
                name if name == JOURNAL_ENTRIES.name => store.journal_entries as f64,
                name if name == JOURNAL_POISONED.name => switch(store.poisoned),
                name if name == KEY_GENERATION.name => f64::from(store.key_generation),
                name if name == KEY_GENERATIONS.name => f64::from(store.key_generations),
                name if name == DISK_REFUSES.name => f64::from(store.disk_refuses),
                name if name == SNAPSHOT_BYTES.name => snapshot.map_or(0.0, |snapshot| snapshot.bytes as f64),
                name if name == SNAPSHOT_DURATION.name => snapshot.map_or(0.0, |snapshot| snapshot.seconds),
                name if name == READY.name => switch(*ready),
                name if name == RELOAD_OK.name => switch(readings.reload_successful),
                name if name == RELOAD_TIME.name => readings.reload_time as f64,
                _ => 0.0,
            });
        }
        // Gauges that would lie before there is something to say.
        let appearing =
            |metric: &Metric, value: f64| self.recorder.register_gauge(&key(metric, &[]), &METADATA).set(value);
        if let Some(snapshot) = snapshot {
            appearing(&SNAPSHOT_SUCCESS, snapshot.finished as f64);
            appearing(&SNAPSHOT_AGE, now.saturating_sub(snapshot.finished) as f64);
        }
        if let Some(end) = certificate_not_after {
            appearing(&CERTIFICATE, *end as f64);
        }
        for (stage, seconds) in Stage::ALL.into_iter().zip(start_seconds) {
            if let Some(seconds) = seconds {
                let key = key(&START_DURATION, &[("stage", stage.as_str())]);
                self.recorder.register_gauge(&key, &METADATA).set(*seconds);
            }
        }
        for (kind, count) in &store.changes {
            self.recorder.register_counter(&key(&CHANGES, &[("kind", kind)]), &METADATA).absolute(*count);
        }
        let [finished, failed] = &self.snapshots;
        finished.absolute(store.snapshots_made);
        failed.absolute(store.snapshots_failed);
    }
}

fn per(whole: u64, parts: u64) -> f64 {
    if parts == 0 { 0.0 } else { whole as f64 / parts as f64 }
}

fn switch(on: bool) -> f64 {
    f64::from(u8::from(on))
}

/// The bounds of [`Latency`], in seconds, as they stand in `le`.
fn latency_bounds() -> Vec<String> {
    (0..LATENCY_BUCKETS).map(|i| (Latency::bound_ns(i) as f64 / 1e9).to_string()).collect()
}

/// The page `METRICS.md`.
pub fn page() -> String {
    let mut page = String::from(
        "# Metrics\n\nEvery metric of `/metrics` on the admin listener. This page is made from the table in `mod.rs`; a \
         test holds them\ntogether. Beside these stand the usual `process_*` metrics. Names do not change within a major \
         version.\n\n| metric | type | labels | what it says |\n| --- | --- | --- | --- |\n",
    );
    for Metric { name, kind, labels, help } in TABLE {
        let labels = match *labels {
            "" => "–".to_owned(),
            labels => labels.split(',').map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", "),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| `{name}` | {} | {labels} | {help} |", kind.as_str());
    }
    page
}
