//! A backup is put back: what a start refuses, and what `new-epoch` makes of it. These are the commands of *Restore* in
//! `docs/OPERATIONS.md`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokenscope::client::Client;
use tokenscope::client::near::{NearCache, NearOptions};
use tokenscope::domain::{Revision, TokenDigest};

use super::house::{House, PATIENCE, Ran, run};
use super::native::{ask, options, runtime};

/// Copies the files of a stopped server's directory, private as they were.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if name != "lock" {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

/// The directory is lost, and the backup put in its place.
fn put_back(house: &House, backup: &Path) {
    fs::remove_dir_all(&house.data).unwrap();
    copy(backup, &house.data);
}

fn backup(house: &House, name: &str) -> PathBuf {
    let backup = house.dir.path().join(name);
    copy(&house.data, &backup);
    backup
}

/// What stands in the directory, but for the lock and the journal, whose books redb keeps at every opening.
fn names_and_bytes(data: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all: Vec<PathBuf> = fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.retain(|path| !path.ends_with("lock"));
    all.sort();
    let content = |path: &PathBuf| if path.ends_with("journal.redb") { Vec::new() } else { fs::read(path).unwrap() };
    all.iter().map(|path| (path.clone(), content(path))).collect()
}

fn refused(house: &mut House, who: &str) {
    let ran = house.try_start().expect_err("an older copy is not started from");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for words in ["an older copy of the data was put back", who] {
        assert!(ran.err.contains(words), "{words:?} is not in {}", ran.err);
    }
}

fn new_epoch(house: &House, more: &[&str]) -> Ran {
    run(&[&["new-epoch", "--config", house.config(), "--json"], more].concat(), "", &[])
}

fn api(house: &House, method: &'static str, path: &'static str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = ask(house, |client| async move { client.api(method, path, body.as_bytes()).await }).unwrap();
    (answer.status, serde_json::from_slice(&answer.body).unwrap())
}

fn is_active(house: &House, token: &str) -> bool {
    house.introspect(token).text().contains("\"active\":true")
}

fn revision(told: &Value, member: &str) -> Revision {
    Revision::parse(told[member].as_str().unwrap_or_else(|| panic!("no {member} in {told}"))).unwrap()
}

/// Registers a token of this name; its revision.
fn register(house: &House, name: &str) -> Revision {
    let grant = json!({
        "subject": "jonas", "client": "time-tracker", "never_expires": true, "audience": ["restored"],
        "access": [{ "everywhere": true, "scopes": ["tasks:read"] }],
    });
    let (status, made) = api(house, "POST", "/v1/grants", &grant);
    assert_eq!(status, 200, "{made}");
    let sha256 = TokenDigest::of(name.as_bytes()).to_hex();
    let token = json!({ "sha256": sha256, "grant": made["grant"], "never_expires": true });
    let (status, made) = api(house, "POST", "/v1/tokens", &token);
    assert_eq!(status, 200, "{made}");
    revision(&made, "revision")
}

/// A restore brought back to life whatever was revoked after the backup, and gave the revisions of the lost stretch to
/// other changes.
#[test]
fn a_backup_put_back_is_refused_until_a_new_epoch_says_what_became_of_the_lost_stretch() {
    let mut house = House::new();
    let [stolen, other] = ["jonas-time", "maria-time"].map(|name| house.token(name).token.clone());
    house.start();
    assert!(is_active(&house, &stolen) && is_active(&house, &other));
    assert_eq!(house.stop().code, Some(0));
    let backup = backup(&house, "backup");

    // It goes on: a token is revoked, one is registered; somebody remembers the revision, a near-cache what it was told.
    house.start();
    let runtime = runtime();
    let cache = runtime.block_on(async {
        let client = Client::connect(options(&house, "admin")).await.unwrap();
        let cache = NearCache::follow(client, NearOptions::default()).unwrap();
        cache.live(PATIENCE).await.unwrap();
        assert!(cache.check(&other, "tasks:read", "1579").await.unwrap().is_allowed());
        cache
    });
    house.revoke(&stolen);
    let lost = register(&house, "of the lost stretch");
    let behind = |house: &House, least: Revision| {
        let sha256 = TokenDigest::of(other.as_bytes()).to_hex();
        let body = json!({ "sha256": [sha256], "least_revision": least.to_string() });
        let (status, told) = api(house, "POST", "/v1/introspect", &body);
        if status == 503 {
            assert_eq!(told["error"], "behind", "{told}")
        } else {
            assert_eq!(status, 200, "{told}")
        }
        status == 503
    };
    assert!(!is_active(&house, &stolen) && !behind(&house, lost));
    assert_eq!(house.stop().code, Some(0));
    // Kept elsewhere: it is 60 bytes.
    let newest = fs::read(house.data.join("high-water")).unwrap();

    put_back(&house, &backup);
    fs::write(house.data.join("high-water"), &newest).unwrap();
    refused(&mut house, "the high-water mark");

    // What is to become of the lost stretch has to be said, and only one thing.
    for more in [&[][..], &["--dry-run"], &["--void-issued-before", "now", "--nothing-was-revoked"]] {
        let ran = new_epoch(&house, more);
        assert_eq!(ran.code, Some(2), "{more:?}: {ran:?}");
    }
    let before = names_and_bytes(&house.data);
    let told = new_epoch(&house, &["--void-issued-before", "now", "--dry-run"]).json();
    assert_eq!(names_and_bytes(&house.data), before, "a dry run changes nothing");
    assert_eq!((&told["done"], &told["revision"]), (&json!(false), &Value::Null), "{told}");
    let (ends, known) = (revision(&told, "data_ends_at"), revision(&told, "known_to_have_been"));
    assert!(known.sequence >= lost.sequence && ends < lost && ends.epoch == known.epoch, "{told}");
    assert!(told["tokens_voided"].as_u64().unwrap() > 2, "{told}");
    refused(&mut house, "the high-water mark");

    let ran = new_epoch(&house, &["--void-issued-before", "now"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let told = ran.json();
    let begins = revision(&told, "revision");
    assert!(begins.epoch > known.epoch && begins.sequence.0 == ends.sequence.0 + 1, "{told}");
    for when in ["at once", "after another start"] {
        house.start();
        assert!(!is_active(&house, &stolen), "what was revoked in the lost stretch came back, {when}");
        assert!(!is_active(&house, &other), "what could have been revoked is void, {when}");
        assert!(!is_active(&house, "of the lost stretch"), "{when}");
        // The new list has revisions of its own, and those of the lost stretch are no part of it, however long it grows.
        let status = api(&house, "GET", "/v1/status", &Value::Null).1;
        assert_eq!(revision(&status, "revision").epoch, begins.epoch, "{status}");
        for number in 0..4 {
            let made = register(&house, &format!("new, {when}, {number}"));
            assert!(made > begins && made.epoch == begins.epoch, "{made}");
            assert!(behind(&house, lost), "no verdict for who remembers the lost stretch, {when}");
            assert!(!behind(&house, made));
        }
        // The follower of the old list starts over, when it hears of the new one or its lease is over: all of the above may
        // have taken less than that, and until then it answers from memory as it may.
        runtime.block_on(async {
            let began = Instant::now();
            while cache.check(&other, "tasks:read", "1579").await.map(|decision| decision.is_allowed()) != Ok(false) {
                assert!(began.elapsed() < PATIENCE, "the follower of the old list does not start over, {when}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            cache.live(PATIENCE).await.unwrap();
            assert!(!cache.check(&other, "tasks:read", "1579").await.unwrap().is_allowed(), "{when}");
        });
        assert_eq!(house.stop().code, Some(0));
    }
    let grown = names_and_bytes(&house.data);
    assert!(grown.iter().all(|(path, _)| !path.to_string_lossy().contains(&format!("{:016x}", ends.epoch.0))));

    // The mark is of the new epoch: the backup beside it is refused again.
    let newest = fs::read(house.data.join("high-water")).unwrap();
    put_back(&house, &backup);
    fs::write(house.data.join("high-water"), &newest).unwrap();
    refused(&mut house, &format!("{:016x}-", begins.epoch.0));
}

/// The keys were rotated in the lost stretch, and a first attempt to begin the new epoch was cut off.
#[test]
fn a_new_epoch_can_be_begun_again_where_it_was_cut_off_and_after_a_rotation_of_keys() {
    let mut house = House::new();
    let token = house.token("jonas-time").token.clone();
    house.start();
    assert!(is_active(&house, &token));
    assert_eq!(house.stop().code, Some(0));
    let backup = backup(&house, "backup");
    house.start();
    register(&house, "of the lost stretch");
    assert_eq!(house.cli(&["keys", "rotate", "--json"], "").code, Some(0));
    assert_eq!(house.stop().code, Some(0));
    let secrets = fs::read(house.data.join("secrets")).unwrap();

    // The secrets are kept apart from the rest, so the newest are there.
    put_back(&house, &backup);
    fs::write(house.data.join("secrets"), &secrets).unwrap();
    refused(&mut house, "the secrets file");

    // As a power cut would leave it: the snapshot of an epoch that has no journal yet, and half a journal beside.
    let ran = new_epoch(&house, &["--nothing-was-revoked"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let first = revision(&ran.json(), "revision");
    let name = format!("snapshot-{:016x}-{:020}.tks", first.epoch.0, first.sequence.0);
    let snapshot = fs::read(house.data.join(&name)).unwrap();
    put_back(&house, &backup);
    fs::write(house.data.join("secrets"), &secrets).unwrap();
    fs::write(house.data.join(&name), snapshot).unwrap();
    fs::write(house.data.join("journal.redb.next"), b"half of one").unwrap();
    refused(&mut house, "knows of");

    let ran = new_epoch(&house, &["--nothing-was-revoked"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let second = revision(&ran.json(), "revision");
    assert!(second.epoch > first.epoch && second.sequence == first.sequence, "{ran:?}");
    house.start();
    assert!(is_active(&house, &token), "nothing was revoked, and that was said");
    register(&house, "of the new list");
    house.kill();
    house.start();
    assert!(is_active(&house, &token));
    assert_eq!(house.cli(&["keys", "rotate", "--json"], "").json()["generation"], 3);
    assert!(is_active(&house, &token));
}
