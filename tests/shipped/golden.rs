//! A data directory of every version there ever was, with the answers it gave then: each later version has to open it and
//! give the same. And files of a version that is not known yet: refused by name, and left as they are.
//!
//! `tests/vectors/data-1` is of version 1 of all formats: secrets, journal, two snapshots, the high-water mark, and
//! `answers.json`; `data-2` has snapshots of format 2 beside them; `data-3` has secrets of version 2, with three generations of
//! keys, a snapshot of the first and one of the second, and a journal of all three. `TOKENSCOPE_GOLDEN=directory cargo test --test shipped golden` writes such a directory with the program as
//! it is; one that is there is never written again. `tests/vectors/index.txt` lists all golden files.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use redb::{ReadableDatabase as _, ReadableTable as _};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokenscope::client::Client;
use tokenscope::domain::TokenDigest;

use super::house::{House, figure};
use super::native::{options, runtime};

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

/// All golden directories, by number.
fn golden() -> Vec<PathBuf> {
    let all = fs::read_dir(vectors()).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<PathBuf> =
        all.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("data-")).collect();
    all.sort();
    all
}

/// A house with a copy of this data, private as it has to be.
fn house_on(golden: &Path) -> House {
    let house = House::empty("");
    let _ = fs::remove_dir_all(&house.data);
    fs::create_dir(&house.data).unwrap();
    fs::set_permissions(&house.data, fs::Permissions::from_mode(0o700)).unwrap();
    for entry in fs::read_dir(golden).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if name != "answers.json" {
            let copy = house.data.join(name);
            fs::copy(&path, &copy).unwrap();
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
    house
}

const TOKENS: [&str; 9] =
    ["plain", "narrow", "bound", "revoked", "of a revoked grant", "everywhere", "personal", "later", "expired"];

/// Every question whose answer is kept.
fn questions() -> Vec<(String, String, Value)> {
    let mut all = Vec::new();
    for token in TOKENS.iter().chain(&["unknown"]) {
        let sha256 = TokenDigest::of(token.as_bytes()).to_hex();
        all.push(("POST".into(), "/v1/introspect".into(), json!({ "sha256": [sha256] })));
        for place in ["1579", "1579/4021", "1592", "1601"] {
            all.push(("POST".into(), "/v1/introspect".into(), json!({ "sha256": [sha256], "place": place })));
            for scope in ["tasks:read", "tasks:write", "typeahead:read", "old:read"] {
                let question = json!({ "sha256": sha256, "scope": scope, "place": place });
                all.push(("POST".into(), "/v1/check".into(), json!({ "questions": [question] })));
            }
        }
    }
    for path in
        ["/v1/scopes", "/v1/clients", "/v1/members/maria", "/v1/members/lee", "/v1/policies/1579", "/v1/policies/1592"]
    {
        all.push(("GET".into(), path.into(), Value::Null));
    }
    all
}

async fn ask(client: &Client, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let answer = client.api(method, path, &body).await.unwrap();
    (answer.status, serde_json::from_slice(&answer.body).unwrap())
}

/// Everything the formats can hold, in two runs, so that there is a snapshot, a later one, and a journal after it.
fn fill(house: &mut House) {
    let token = |name: &str| TokenDigest::of(name.as_bytes()).to_hex();
    let member = |subject: &str, place: &str| ("POST", "/v1/members", json!({ "subject": subject, "place": place }));
    let grant = |client: &str, access: Value| {
        let body = json!({
            "subject": "maria", "client": client, "access": access, "never_expires": true, "audience": ["https://api.example"],
        });
        ("POST", "/v1/grants", body)
    };
    let register = |name: &str, grant: &str, more: Value| {
        let mut body = json!({ "sha256": token(name), "grant": grant, "iat": 1_700_000_000 });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ("POST", "/v1/tokens", body)
    };
    let revoke = |body: Value| ("POST", "/v1/revocations", body);
    let never = json!({ "never_expires": true });
    let read = json!([{ "place": "1579", "scopes": ["tasks:read", "old:read"] }, { "place": "1592", "scopes": ["tasks:write"] }]);
    let runs: [Vec<(&str, &str, Value)>; 3] = [
        vec![
            ("POST", "/v1/clients", json!({ "client": "time" })),
            ("POST", "/v1/clients", json!({ "client": "calendar" })),
            ("POST", "/v1/scopes", json!({ "scope": "tasks:read" })),
            ("POST", "/v1/scopes", json!({ "scope": "tasks:write" })),
            ("POST", "/v1/scopes", json!({ "scope": "old:read" })),
            ("POST", "/v1/scopes/aliases", json!({ "alias": "typeahead:read", "of": "tasks:read" })),
            member("maria", "1579"),
            member("maria", "1592"),
            member("lee", "1579/4021"),
            grant("time", read.clone()),
            grant("time", read),
            grant("calendar", json!([{ "everywhere": true, "scopes": ["*"] }])),
            grant("personal", json!([{ "place": "1579", "scopes": ["tasks:read"] }])),
            register("plain", "g1", json!({ "exp": 4_000_000_000_u64 })),
            register("revoked", "g1", never.clone()),
            register("of a revoked grant", "g2", never.clone()),
        ],
        vec![
            register(
                "narrow",
                "g1",
                json!({ "never_expires": true, "access": [{ "place": "1579", "scopes": ["tasks:read"] }] }),
            ),
            // New keys in the middle, from data-3 on.
            ("POST", "/v1/keys/rotate", Value::Null),
            register("bound", "g1", json!({ "never_expires": true, "cnf": { "kid": "a key", "n": 1.5 } })),
            register(
                "everywhere",
                "g3",
                json!({ "never_expires": true, "audience": ["https://api.example", "files"] }),
            ),
            register("personal", "g4", never.clone()),
            register("expired", "g1", json!({ "exp": 1_700_000_001 })),
            revoke(json!({ "token": "revoked" })),
            ("PUT", "/v1/policies/1592/mode", json!({ "mode": "approval_required" })),
            ("POST", "/v1/policies/1592/entries", json!({ "client": "time", "entry": "approve" })),
            ("POST", "/v1/grants/g1/extend", json!({ "access": [{ "place": "1601", "scopes": ["tasks:read"] }] })),
        ],
        vec![
            register("later", "g3", never),
            ("POST", "/v1/keys/rotate", Value::Null),
            revoke(json!({ "grant": "g2" })),
            revoke(json!({ "workspace_client": { "workspace": "1592", "client": "calendar" } })),
            revoke(json!({ "issued_before": { "time": 1_600_000_000, "among": "all" } })),
            ("PUT", "/v1/policies/1579/personal_tokens", json!({ "on": false })),
            ("POST", "/v1/members/remove", json!({ "subject": "lee", "place": "1579/4021" })),
            ("DELETE", "/v1/scopes/old:read", Value::Null),
            (
                "POST",
                "/v1/grants/g1/narrow",
                json!({ "access": [{ "place": "1579", "scopes": ["tasks:read"] }, { "place": "1601", "scopes": ["tasks:read"] }] }),
            ),
        ],
    ];
    let last = runs.len() - 1;
    for (number, run) in runs.into_iter().enumerate() {
        house.start();
        runtime().block_on(async {
            let client = Client::connect(options(house, "admin")).await.unwrap();
            for (method, path, body) in run {
                let (status, told) = ask(&client, method, path, &body).await;
                assert_eq!(status, 200, "{method} {path} {body}: {told}");
            }
            client.close().await;
        });
        // The last run leaves no snapshot: what it did stands in the journal alone.
        if number == last {
            house.signal(Signal::KILL);
            house.ended();
        } else {
            assert_eq!(house.stop().code, Some(0));
        }
    }
}

fn answers(house: &House) -> Vec<Value> {
    runtime().block_on(async {
        let client = Client::connect(options(house, "admin")).await.unwrap();
        let mut all = Vec::new();
        for (method, path, body) in questions() {
            let (status, told) = ask(&client, &method, &path, &body).await;
            all.push(json!({ "method": method, "path": path, "body": body, "status": status, "answer": told }));
        }
        client.close().await;
        all
    })
}

/// Writes a new one, if one is asked for.
fn write_if_asked() {
    let Some(directory) = std::env::var_os("TOKENSCOPE_GOLDEN").map(PathBuf::from) else { return };
    assert!(!directory.join("answers.json").exists(), "a golden directory is never written again");
    fs::create_dir_all(&directory).unwrap();
    let mut house = House::empty("");
    fill(&mut house);
    for entry in fs::read_dir(&house.data).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap() != "lock" {
            fs::copy(&path, directory.join(path.file_name().unwrap())).unwrap();
        }
    }
    house.start();
    let lines: Vec<String> = answers(&house).iter().map(Value::to_string).collect();
    fs::write(directory.join("answers.json"), format!("[\n{}\n]\n", lines.join(",\n"))).unwrap();
}

#[test]
fn a_data_directory_of_every_version_is_opened_and_answers_as_it_did() {
    write_if_asked();
    let all = golden();
    assert!(!all.is_empty());
    let mut asked = 0;
    for golden in &all {
        let mut house = house_on(golden);
        let kept = fs::read(golden.join("answers.json")).unwrap();
        let kept: Vec<Value> = serde_json::from_slice(&kept).unwrap();
        // As it was left, after the snapshot that a stop leaves, and from the journal alone as far as it goes.
        for when in ["as it was left", "after a stop"] {
            house.start();
            let told = answers(&house);
            assert_eq!(told.len(), kept.len());
            for (told, kept) in told.iter().zip(&kept) {
                assert_eq!(told, kept, "{}, {when}", golden.display());
            }
            asked += told.len();
            assert_eq!(house.stop().code, Some(0));
        }
    }
    figure(&format!("golden data directories: {}, {asked} answers as they were", all.len()));
}

const HEADS: redb::TableDefinition<'static, u8, &'static [u8]> = redb::TableDefinition::new("head");
const ENTRIES: redb::TableDefinition<'static, u64, &'static [u8]> = redb::TableDefinition::new("entries");

/// What stands in a journal. The file's own bytes change whenever it is opened: redb keeps books of its own in it.
fn rows(path: &Path) -> Vec<u8> {
    let database = redb::Database::open(path).unwrap();
    let read = database.begin_read().unwrap();
    let heads = read.open_table(HEADS).unwrap();
    let entries = read.open_table(ENTRIES).unwrap();
    let mut all = Vec::new();
    heads.iter().unwrap().for_each(|row| all.extend_from_slice(row.unwrap().1.value()));
    entries.iter().unwrap().for_each(|row| all.extend_from_slice(row.unwrap().1.value()));
    all
}

/// What stands in every file, with its name.
fn everything(house: &House) -> Vec<(String, Vec<u8>)> {
    let names = fs::read_dir(&house.data).unwrap().map(|entry| entry.unwrap().path());
    let content = |path: &Path| match path.ends_with("journal.redb") {
        true => rows(path),
        false => fs::read(path).unwrap(),
    };
    let mut all: Vec<(String, Vec<u8>)> = names
        .filter(|path| path.file_name().unwrap() != "lock")
        .map(|path| (path.display().to_string(), content(&path)))
        .collect();
    all.sort();
    all
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    fs::File::options().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

/// Puts a head of another format into the journal, as a later version would.
fn journal_of_version_2(path: &Path) {
    let database = redb::Database::open(path).unwrap();
    let write = database.begin_write().unwrap();
    {
        let mut heads = write.open_table(HEADS).unwrap();
        let rows: Vec<(u8, Vec<u8>)> = heads
            .iter()
            .unwrap()
            .map(|row| row.map(|(key, head)| (key.value(), head.value().to_vec())).unwrap())
            .collect();
        assert_eq!(rows.len(), 1, "the journal has one head");
        for (key, mut head) in rows {
            assert_eq!(head[..4], 1_u32.to_le_bytes());
            head[..4].copy_from_slice(&2_u32.to_le_bytes());
            heads.insert(key, head.as_slice()).unwrap();
        }
    }
    write.commit().unwrap();
}

/// A program of version 1 that was tried on the data of a later one moved its snapshots away as damaged, so that the later
/// one no longer found them: `docs/OPERATIONS.md` says that a downgrade is tried by starting, and changes nothing.
#[test]
fn a_file_of_an_unknown_version_is_refused_by_name_and_nothing_is_changed() {
    let golden = &golden()[0];
    let snapshots = |house: &House| -> Vec<PathBuf> {
        let mut all: Vec<PathBuf> = fs::read_dir(&house.data).unwrap().map(|entry| entry.unwrap().path()).collect();
        all.retain(|path| path.extension().is_some_and(|kind| kind == "tks"));
        all.sort();
        all
    };
    let spoil = |house: &House, which: &str| match which {
        "secrets" => overwrite(&house.data.join("secrets"), 8, &3_u32.to_le_bytes()),
        "journal" => journal_of_version_2(&house.data.join("journal.redb")),
        _ => snapshots(house).iter().for_each(|path| overwrite(path, 8, &3_u32.to_le_bytes())),
    };
    for (which, words) in [
        ("secrets", &["secrets", "has version 3; this program reads versions 1 to 2"][..]),
        ("journal", &["journal", "format 2", "1"]),
        ("snapshots", &["snapshot", "has format 0x3, this program reads 0x2", "use the version that wrote it"]),
    ] {
        let mut house = house_on(golden);
        spoil(&house, which);
        let before = everything(&house);
        let refused = house.try_start();
        if which == "snapshots" && refused.is_ok() {
            // The journal reaches back to the beginning: it says everything that the snapshots would.
            assert!(house.log().contains("is left where it is and not used"), "{}", house.log());
            house.kill();
            for path in snapshots(&house) {
                let bytes = fs::read(&path).unwrap();
                assert!(before.iter().any(|(name, was)| *name == path.display().to_string() && *was == bytes));
            }
            assert_eq!(snapshots(&house).len(), 2);
            continue;
        }
        let ran = refused.expect_err(which);
        for word in words {
            assert!(ran.err.contains(word), "{which}: {word:?} is not in {}", ran.err);
        }
        let after = everything(&house);
        let changed = after.iter().find(|file| !before.contains(file)).map(|(name, _)| name);
        assert!(after == before, "{which}: {changed:?} was changed");
    }
}
