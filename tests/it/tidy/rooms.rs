//! Who may use whom, and what may stand where.

use std::collections::BTreeSet;

use super::assert_none;
use super::source::{Source, read, sources, words};

/// The rooms from the ground up, as in `src/lib.rs`, and the rooms each may use: rooms above it in this list.
const ROOMS: [(&str, &[&str]); 25] = [
    // Ground floor: values, and what touches the machine.
    ("domain", &[]),
    ("clock", &["domain"]),
    ("certs", &["domain"]),
    ("disk", &[]),
    ("secrets", &["domain", "disk"]),
    ("tally", &[]),
    // First floor: they do not know each other.
    ("index", &["domain"]),
    ("journal", &["domain", "disk", "secrets"]),
    ("snapshot", &["domain", "disk", "secrets"]),
    ("wire", &["domain"]),
    ("feed", &["domain"]),
    // Second and third floor.
    ("store", &["domain", "disk", "secrets", "tally", "index", "journal", "snapshot", "feed"]),
    ("service", &["domain", "index", "feed", "store"]),
    // Fourth floor: both sides of the door; they do not know each other.
    ("client", &["domain", "wire"]),
    ("server", &["domain", "clock", "tally", "wire", "feed", "service"]),
    // What goes in from files.
    ("import", &["domain", "service"]),
    ("samples", &["domain", "service", "import"]),
    // Roof.
    ("metrics", &["domain", "tally", "server"]),
    ("admin", &[]),
    ("config", &["domain", "certs", "secrets", "service", "server"]),
    (
        "daemon",
        &[
            "domain", "clock", "disk", "secrets", "index", "journal", "snapshot", "feed", "store", "service", "server",
            "import", "metrics", "admin", "config",
        ],
    ),
    (
        "cli",
        &[
            "domain", "clock", "certs", "disk", "secrets", "index", "journal", "snapshot", "store", "service",
            "client", "server", "import", "config", "daemon",
        ],
    ),
    ("dev", &["domain", "disk", "import", "samples", "cli"]),
    ("demo", &["domain", "import", "samples", "metrics", "cli", "dev"]),
    // Workshop.
    (
        "testing",
        &[
            "domain", "clock", "disk", "index", "journal", "feed", "snapshot", "wire", "store", "service", "client",
            "server", "import", "config", "samples",
        ],
    ),
];

/// Uses against the order: user, used, reason.
const AGAINST_THE_ORDER: [(&str, &str, &str); 2] = [
    ("cli", "dev", "the verbs are listed in one place, and `dev` is one: a room of its own that prints through `cli`"),
    ("cli", "demo", "as for `dev`"),
];

/// Crates of others that not every room may name, with the rooms that do.
const CRATES: [(&str, &[&str]); 36] = [
    ("arc_swap", &["client", "daemon", "server", "testing"]),
    ("axum_core", &["client"]),
    ("clap", &["cli", "demo", "dev"]),
    ("clap_complete", &["cli"]),
    ("crc32fast", &["domain"]),
    ("crossbeam_epoch", &["index"]),
    // In `testing` it is what the near-cache is measured beside.
    ("dashmap", &["server", "testing"]),
    ("http", &["client"]),
    ("http_body_util", &["admin", "server"]),
    ("hyper", &["admin", "server"]),
    ("hyper_util", &["admin", "server"]),
    ("indicatif", &["cli"]),
    ("jiff", &["certs", "cli"]),
    ("metrics", &["metrics"]),
    ("metrics_exporter_prometheus", &["metrics"]),
    ("metrics_process", &["metrics"]),
    ("quinn", &["client", "server"]),
    ("rcgen", &["certs"]),
    ("redb", &["journal"]),
    ("rkyv", &["snapshot"]),
    ("rustix", &["client", "clock", "daemon", "demo", "disk", "index"]),
    ("rustls", &["certs", "cli", "client", "config", "daemon", "server"]),
    ("serde", &["cli", "config", "dev", "import", "server"]),
    ("serde_json", &["cli", "demo", "dev", "import", "server", "testing"]),
    ("siphasher", &["domain", "feed"]),
    ("socket2", &["server"]),
    ("subtle", &["journal", "server", "snapshot"]),
    // `store` for the receipts and `feed` for its stirring, which can be awaited; nothing below the doors has a runtime.
    ("tokio", &["admin", "cli", "client", "daemon", "feed", "server", "store", "testing"]),
    ("tokio_rustls", &["server"]),
    ("toml", &["config"]),
    ("tower_layer", &["client"]),
    ("tower_service", &["client"]),
    ("tracing", &["admin", "daemon", "server"]),
    ("tracing_subscriber", &["config", "daemon"]),
    // Error enums and the ring of cryptography are welcome everywhere; `zeroize` wherever there is a secret.
    ("zeroize", &["certs", "cli", "config", "domain", "secrets", "server"]),
    ("ring", ANYWHERE),
];

/// A crate that any room may name.
const ANYWHERE: &[&str] = &["*"];

/// Metrics whose name is also a field of an answer.
const ALSO_FIELDS: [&str; 1] = ["tokenscope_revision"];

fn rooms() -> Vec<Source> {
    let in_a_room = |source: &Source| !source.is_test() && !["lib", "main"].contains(&source.room());
    sources("src").into_iter().filter(in_a_room).collect()
}

#[test]
fn a_room_uses_only_rooms_that_stand_below_it() {
    let place = |room: &str| ROOMS.iter().position(|(name, _)| *name == room);
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for source in rooms() {
        let Some(user) = place(source.room()) else {
            wrong.push(format!("{}: the room stands in no table; add it to ROOMS here", source.path));
            continue;
        };
        for used in source.uses() {
            let allowed = ROOMS[user].1.contains(&used.as_str())
                || AGAINST_THE_ORDER.iter().any(|(a, b, _)| (*a, *b) == (source.room(), used.as_str()));
            if !allowed {
                wrong.push(format!("{} uses `{used}`, which `{}` may not", source.path, source.room()));
            }
            seen.insert((source.room().to_owned(), used));
        }
    }
    for (user, (room, uses)) in ROOMS.iter().enumerate() {
        for used in *uses {
            if place(used).is_none_or(|used| used >= user) {
                wrong.push(format!("ROOMS lets `{room}` use `{used}`, which does not stand below it"));
            }
        }
    }
    let listed = ROOMS.iter().flat_map(|(room, uses)| uses.iter().map(move |used| (*room, *used)));
    for (user, used) in listed.chain(AGAINST_THE_ORDER.map(|(user, used, _)| (user, used))) {
        if !seen.contains(&(user.to_owned(), used.to_owned())) {
            wrong.push(format!("`{user}` does not use `{used}` any more: strike it from the table"));
        }
    }
    assert_none(wrong, "the floors: a room uses rooms below it, never beside it, never above");
}

#[test]
fn the_map_lists_the_rooms_in_their_order() {
    let map = read("src/lib.rs");
    let listed: Vec<&str> = map.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert_eq!(listed, ROOMS.map(|(room, _)| room), "src/lib.rs and ROOMS");
}

#[test]
fn each_crate_is_named_only_where_it_belongs() {
    let mut wrong = Vec::new();
    let (manifest, sources) = (read("Cargo.toml"), rooms());
    for name in super::furniture::dependencies(&manifest, "[dependencies]").map(|(name, _)| name.replace('-', "_")) {
        let users: BTreeSet<String> =
            sources.iter().filter(|source| source.names_crate(&name)).map(|source| source.room().to_owned()).collect();
        if users.is_empty() {
            wrong.push(format!("{name} is named nowhere: strike it from Cargo.toml"));
        }
        match CRATES.iter().find(|(listed, _)| *listed == name) {
            None if name == "thiserror" => {}
            None => wrong.push(format!("{name} is in no table; add it to CRATES with the rooms that may name it")),
            Some((_, rooms)) if *rooms == ANYWHERE => {}
            Some((_, rooms)) => {
                let rooms: BTreeSet<String> = rooms.iter().map(|room| (*room).to_owned()).collect();
                wrong.extend(users.difference(&rooms).map(|room| format!("{name} is named in `{room}`")));
                wrong.extend(rooms.difference(&users).map(|room| format!("{name} is not named in `{room}` any more")));
            }
        }
    }
    assert_none(wrong, "each crate of others has its rooms, so that it can be replaced there");
}

#[test]
fn unsafe_stands_only_in_the_index_and_beside_its_reason() {
    let mut wrong = Vec::new();
    for source in sources("src") {
        for (_, at) in words(&source.code).filter(|(word, _)| *word == "unsafe") {
            let line = source.code[..at].matches('\n').count();
            let near = source.text.lines().skip(line.saturating_sub(3)).take(4.min(line + 1));
            if source.room() != "index" {
                wrong.push(format!("{}:{}: `unsafe` outside the index", source.path, line + 1));
            }
            if !near.clone().any(|line| line.contains("// SAFETY: ")) {
                wrong.push(format!("{}:{}: `unsafe` without a `// SAFETY:` above it", source.path, line + 1));
            }
        }
    }
    assert_none(wrong, "unsafe code stays in one room, each piece beside the fact that makes it sound");
}

#[test]
fn names_of_metrics_stand_in_one_room() {
    let page = read("src/metrics/METRICS.md");
    let names: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert!(names.len() > 20, "the page of metrics lists {} names", names.len());
    let mut wrong = Vec::new();
    for source in rooms().iter().filter(|source| source.room() != "metrics") {
        for (number, line) in source.text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            let named = words(line).filter(|(word, _)| names.contains(word) && !ALSO_FIELDS.contains(word));
            wrong.extend(named.map(|(name, _)| format!("{}:{}: {name}", source.path, number + 1)));
        }
    }
    assert_none(wrong, "the names of metrics are an interface: they stand in `metrics` and nowhere else");
}
