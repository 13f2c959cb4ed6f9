use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// Names and values, as written.
type Labels = Vec<(String, String)>;

/// A page of the text format, taken apart.
#[derive(Default)]
struct Page {
    types: BTreeMap<String, String>,
    helps: BTreeSet<String>,
    /// Name, labels as written, value.
    samples: Vec<(String, Labels, f64)>,
}

impl Page {
    /// Reads a page and checks what the format demands: HELP and TYPE once and before the samples, legal names, no
    /// sample twice, counters that end in `_total`, histograms whose buckets grow to `+Inf`.
    #[track_caller]
    fn read(text: &str) -> Self {
        let mut page = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("help has a text");
                assert!(!help.is_empty() && page.helps.insert(name.into()), "HELP of {name} stands twice or is empty");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("type has a word");
                assert!(page.types.insert(name.into(), kind.into()).is_none(), "TYPE of {name} stands twice");
            } else {
                page.sample(line);
            }
        }
        page.check_histograms();
        page
    }

    #[track_caller]
    fn sample(&mut self, line: &str) {
        let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("the value of {line}"));
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').expect("labels end with a brace")),
            None => (series, ""),
        };
        let legal = |name: &str| {
            name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') && !name.is_empty()
        };
        assert!(legal(name), "the name of {line}");
        let label = |label: &str| {
            let (name, value) = label.split_once('=').expect("a label has a value");
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).expect("quoted");
            assert!(legal(name) && !value.contains(['"', '\\', '\n']), "{line}");
            (name.to_owned(), value.to_owned())
        };
        let labels: Vec<_> = labels.split(',').filter(|part| !part.is_empty()).map(label).collect();
        let family = self.family(name);
        let kind = self.types.get(&family).unwrap_or_else(|| panic!("{line} stands before its TYPE"));
        assert!(self.helps.contains(&family), "{family} has no HELP");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{line} is a {kind}");
        assert!(value >= 0.0, "{line}");
        let twice = self.samples.iter().any(|(other, with, _)| (other.as_str(), with) == (name, &labels));
        assert!(!twice, "{line} stands twice");
        self.samples.push((name.to_owned(), labels, value));
    }

    fn family(&self, name: &str) -> String {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        match base {
            Some(base) if self.types.get(base).is_some_and(|kind| kind == "histogram") => base.to_owned(),
            _ => name.to_owned(),
        }
    }

    #[track_caller]
    fn check_histograms(&self) {
        for family in self.types.iter().filter(|(_, kind)| *kind == "histogram").map(|(name, _)| name) {
            let mut rows: BTreeMap<Labels, Vec<_>> = BTreeMap::new();
            for (_, labels, value) in self.samples.iter().filter(|(name, ..)| *name == format!("{family}_bucket")) {
                let (bound, rest): (Vec<_>, Vec<_>) = labels.iter().cloned().partition(|(name, _)| name == "le");
                let bound: f64 = bound[0].1.replace("+Inf", "inf").parse().expect("a bound");
                rows.entry(rest).or_default().push((bound, *value));
            }
            assert!(!rows.is_empty(), "{family} has no buckets");
            for (labels, buckets) in rows {
                assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{family}{labels:?}: {buckets:?}");
                let last = buckets.last().expect("not empty");
                assert!(last.0.is_infinite(), "{family} has no +Inf");
                assert_eq!(self.value(&format!("{family}_count"), &labels), Some(last.1), "{family}");
                assert!(self.value(&format!("{family}_sum"), &labels).is_some(), "{family}");
            }
        }
    }

    fn value(&self, name: &str, labels: &[(String, String)]) -> Option<f64> {
        let sorted = |labels: &[(String, String)]| labels.iter().cloned().collect::<BTreeSet<_>>();
        let is = |(other, with, _): &&(String, Labels, f64)| other == name && sorted(with) == sorted(labels);
        self.samples.iter().find(is).map(|(.., value)| *value)
    }

    /// The value of `name` with labels written `a=b c=d`.
    #[track_caller]
    fn get(&self, name: &str, labels: &str) -> f64 {
        let pairs: Vec<_> = labels
            .split_whitespace()
            .map(|pair| pair.split_once('=').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("a=b"))
            .collect();
        self.value(name, &pairs).unwrap_or_else(|| panic!("there is no {name}{{{labels}}}"))
    }
}

fn full() -> Readings {
    Readings {
        store: StoreReadings {
            revision: 42,
            tokens: 10,
            grants: 3,
            index_bytes: 640,
            changes: vec![("revoke", 2), ("register_token", 10)],
            snapshot: Some(SnapshotReading { finished: 1_000, bytes: 77, seconds: 0.5 }),
            snapshots_made: 1,
            ..StoreReadings::default()
        },
        now: 1_060,
        ready: true,
        start_seconds: [Some(0.1), Some(0.2), Some(0.3)],
        certificate_not_after: Some(2_000),
        reload_successful: true,
        reload_time: 900,
    }
}

#[test]
fn a_page_is_in_the_format_from_the_first_scrape_to_the_last() {
    let metrics = Metrics::new("1.2.3");
    let stats = Stats::default();
    Page::read(&metrics.render(&stats, &Readings::default()));
    let first = Page::read(&metrics.render(&stats, &full()));
    let again = Page::read(&metrics.render(&stats, &full()));
    assert_eq!(first.samples.len(), again.samples.len());
    assert_eq!(again.get("tokenscope_build_info", "version=1.2.3"), 1.0);
    assert!(again.get("process_resident_memory_bytes", "") > 0.0);
}

#[test]
fn what_is_rendered_is_what_the_table_says() {
    let page = Page::read(&Metrics::new("1").render(&Stats::default(), &full()));
    let ours: BTreeMap<_, _> = page.types.iter().filter(|(name, _)| !name.starts_with("process_")).collect();
    let table: BTreeMap<_, _> = TABLE.iter().map(|metric| (metric.name, metric)).collect();
    assert_eq!(table.len(), TABLE.len(), "a name stands twice");
    assert_eq!(ours.keys().map(|name| name.as_str()).collect::<Vec<_>>(), table.keys().copied().collect::<Vec<_>>());
    for (name, kind) in ours {
        assert_eq!(kind, table[name.as_str()].kind.as_str(), "{name}");
        assert!(name.starts_with("tokenscope_"), "{name}");
    }
    for (name, labels, _) in &page.samples {
        let Some(metric) = table.get(page.family(name).as_str()) else { continue };
        let given: Vec<_> = labels.iter().map(|(name, _)| name.as_str()).filter(|name| *name != "le").collect();
        let told: Vec<_> = metric.labels.split(',').filter(|label| !label.is_empty()).collect();
        assert_eq!(given, told, "{name}");
    }
}

#[test]
fn labels_are_closed_sets_and_name_nobody() {
    let page = Page::read(&Metrics::new("1").render(&Stats::default(), &full()));
    let values = |label: &str| {
        let all = page.samples.iter().flat_map(|(_, labels, _)| labels);
        all.filter(|(name, _)| name == label).map(|(_, value)| value.clone()).collect::<BTreeSet<_>>()
    };
    let set = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(values("door"), set(&["quic", "https"]));
    assert_eq!(values("result"), set(&["active", "inactive", "ok", "failed", "finished", "anew", "resumed"]));
    assert_eq!(values("stage"), set(&["configuration", "store", "ready"]));
    let reasons = values("reason");
    let known = Inactive::ALL.map(Inactive::as_str).into_iter();
    let known = known.chain(Denial::ALL.map(Denial::as_str)).chain(RefusedFor::ALL.map(RefusedFor::as_str));
    assert_eq!(reasons, known.map(str::to_owned).collect());
    let names: BTreeSet<_> =
        page.samples.iter().flat_map(|(_, labels, _)| labels).map(|(name, _)| name.clone()).collect();
    assert_eq!(names, set(&["door", "kind", "le", "reason", "result", "stage", "version"]));
}

#[test]
fn counts_of_the_doors_arrive_under_their_names() {
    let stats = Stats::default();
    stats.quic.count_active();
    stats.quic.count_allowed();
    stats.quic.count_denied(Denial::ALL[1]);
    for door in Door::ALL {
        stats.door(door).count_inactive(Inactive::ALL[2]);
        stats.door(door).count_refused(RefusedFor::Rate);
    }
    stats.https.accepted.fetch_add(5, Relaxed);
    stats.https.connections.fetch_add(2, Relaxed);
    stats.panics.fetch_add(1, Relaxed);
    stats.quic.latency.record(1_500, 3);
    stats.feed.followers.fetch_add(3, Relaxed);
    for (number, count) in [(&stats.feed.begun, 4), (&stats.feed.started_over, 5), (&stats.feed.lapsed, 6)] {
        number.fetch_add(count, Relaxed);
    }
    stats.feed.fences.record(2_000_000, 1);
    let metrics = Metrics::new("1");
    let page = Page::read(&metrics.render(&stats, &full()));
    for (name, labels, value) in [
        ("tokenscope_introspections_total", "door=quic result=active", 3.0),
        ("tokenscope_introspections_total", "door=quic result=inactive", 1.0),
        ("tokenscope_introspections_total", "door=https result=active", 0.0),
        ("tokenscope_checks_allowed_total", "door=quic", 1.0),
        ("tokenscope_refusals_total", "door=https reason=rate", 1.0),
        ("tokenscope_refusals_total", "door=https reason=rights", 0.0),
        ("tokenscope_handshakes_total", "door=https result=ok", 5.0),
        ("tokenscope_connections", "door=https", 2.0),
        ("tokenscope_panics_total", "", 1.0),
        ("tokenscope_followers", "", 3.0),
        ("tokenscope_follows_total", "result=anew", 4.0),
        ("tokenscope_followers_started_over_total", "", 5.0),
        ("tokenscope_leases_lapsed_total", "", 6.0),
        ("tokenscope_fence_duration_seconds_count", "", 1.0),
        ("tokenscope_revision", "", 42.0),
        ("tokenscope_index_bytes_per_token", "", 64.0),
        ("tokenscope_changes_total", "kind=revoke", 2.0),
        ("tokenscope_snapshot_age_seconds", "", 60.0),
        ("tokenscope_snapshot_last_success_timestamp_seconds", "", 1_000.0),
        ("tokenscope_start_duration_seconds", "stage=store", 0.2),
        ("tokenscope_ready", "", 1.0),
        ("tokenscope_introspection_duration_seconds_bucket", "door=quic le=0.000001", 0.0),
        ("tokenscope_introspection_duration_seconds_bucket", "door=quic le=0.000002", 3.0),
        ("tokenscope_introspection_duration_seconds_bucket", "door=quic le=+Inf", 3.0),
        ("tokenscope_introspection_duration_seconds_sum", "door=quic", 0.0000045),
        ("tokenscope_introspection_duration_seconds_count", "door=https", 0.0),
    ] {
        assert!((page.get(name, labels) - value).abs() < 1e-12, "{name}{{{labels}}} is {}", page.get(name, labels));
    }
    assert_eq!(page.get("tokenscope_inactive_total", &format!("reason={}", Inactive::ALL[2].as_str())), 2.0);
    assert_eq!(page.get("tokenscope_checks_denied_total", &format!("reason={}", Denial::ALL[1].as_str())), 1.0);
}

#[test]
fn the_denial_that_was_counted_is_the_denial_that_is_shown() {
    for denial in Denial::ALL {
        let stats = Stats::default();
        stats.quic.count_denied(denial);
        let page = Page::read(&Metrics::new("1").render(&stats, &Readings::default()));
        assert_eq!(page.get("tokenscope_checks_denied_total", &format!("reason={}", denial.as_str())), 1.0);
    }
    for inactive in Inactive::ALL {
        let stats = Stats::default();
        stats.https.count_inactive(inactive);
        let page = Page::read(&Metrics::new("1").render(&stats, &Readings::default()));
        assert_eq!(page.get("tokenscope_inactive_total", &format!("reason={}", inactive.as_str())), 1.0);
    }
}

#[test]
fn times_and_sizes_fall_into_their_buckets() {
    let sizes = BatchSizes::default();
    for size in [1, 2, 3, 4, 5, 65_536, 65_537, u64::from(u32::MAX)] {
        sizes.record(size);
    }
    let (counts, _) = sizes.read();
    assert_eq!((counts[0], counts[1], counts[2], counts[3]), (1, 1, 2, 1));
    assert_eq!((counts[BATCH_BUCKETS - 1], counts[BATCH_BUCKETS]), (1, 2));
    let latency = Latency::default();
    for ns in [0, 1, 999, 1_000, 1_001, 2_000, 2_001, 8_388_608_000, 8_388_608_001, u64::MAX / 2] {
        latency.record(ns, 1);
    }
    let (counts, _) = latency.read();
    assert_eq!((counts[0], counts[1], counts[2]), (4, 2, 1));
    assert_eq!((counts[LATENCY_BUCKETS - 1], counts[LATENCY_BUCKETS]), (1, 2));
}

#[test]
fn numbers_before_there_is_something_to_say_are_absent() {
    let page = Page::read(&Metrics::new("1").render(&Stats::default(), &Readings::default()));
    for name in [&SNAPSHOT_AGE, &SNAPSHOT_SUCCESS, &CERTIFICATE, &START_DURATION] {
        assert!(!page.types.contains_key(name.name), "{}", name.name);
    }
}

#[test]
fn the_page_of_metrics_is_the_table() {
    let page = page();
    if std::env::var_os("TOKENSCOPE_BLESS").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/metrics/METRICS.md"), &page).expect("written");
        return;
    }
    let written = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/metrics/METRICS.md"));
    assert!(written.unwrap_or_default() == page, "the table has changed: run this test once with TOKENSCOPE_BLESS=1");
}
