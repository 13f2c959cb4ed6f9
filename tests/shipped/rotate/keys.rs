//! The MAC keys of journal and snapshots are rotated while everybody asks and somebody changes things, with snapshots in
//! between; then the server is killed. Nobody was refused anything, and everything that was acknowledged is there.
//!
//! `TOKENSCOPE_ROTATIONS=n` makes n of them (default 8).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::house::run;
use crate::native::{ask, runtime};

/// Makes changes for as long as it lasts: registers a token, then revokes every second one. What was acknowledged.
async fn change(options: Options, shared: &Shared) -> BTreeMap<String, bool> {
    let client = Client::connect(options).await.unwrap();
    let (mut known, mut number) = (BTreeMap::new(), 0);
    let call = async |path: &str, body: Value| {
        let answer = client.api("POST", path, body.to_string().as_bytes()).await;
        match answer {
            Ok(answer) if answer.status == 200 => Ok(serde_json::from_slice::<Value>(&answer.body).unwrap()),
            Ok(answer) => Err(format!("{path}: {} {}", answer.status, String::from_utf8_lossy(&answer.body))),
            Err(error) => Err(format!("{path}: {error}")),
        }
    };
    let grant = json!({
        "subject": "jonas", "client": "time-tracker", "never_expires": true, "audience": ["rotating"],
        "access": [{ "everywhere": true, "scopes": ["tasks:read"] }],
    });
    let grant = call("/v1/grants", grant).await.unwrap()["grant"].clone();
    while !shared.over.load(SeqCst) {
        number += 1;
        let name = format!("a token of the rotation, {number}");
        let sha256 = TokenDigest::of(name.as_bytes()).to_hex();
        let mut changed = call("/v1/tokens", json!({ "sha256": sha256, "grant": grant, "never_expires": true })).await;
        if changed.is_ok() {
            known.insert(sha256.clone(), true);
            if number % 2 == 0 {
                changed = call("/v1/revocations", json!({ "sha256": sha256 })).await;
                known.insert(sha256, false);
            }
        }
        if let Err(error) = changed {
            shared.failed.lock().unwrap().push(format!("a change: {error}"));
            break;
        }
    }
    client.close().await;
    known
}

/// A number in the metrics.
fn metric(house: &House, name: &str) -> f64 {
    let page = house.admin("/metrics").expect("the admin listener answers").text().to_owned();
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    line.unwrap_or_else(|| panic!("{name} is not in {page}"))
}

/// Whether each token that is known is what it was acknowledged to be.
fn everything_is_there(house: &House, known: &BTreeMap<String, bool>, when: &str) {
    let digests: Vec<&String> = known.keys().collect();
    runtime().block_on(async {
        let client = Client::connect(options(house, "admin")).await.unwrap();
        for some in digests.chunks(200) {
            let body = json!({ "sha256": some }).to_string();
            let answer = client.api("POST", "/v1/introspect", body.as_bytes()).await.unwrap();
            let told: Value = serde_json::from_slice(&answer.body).unwrap();
            for (digest, told) in some.iter().zip(told["answers"].as_array().unwrap()) {
                assert_eq!(told["active"], known[*digest], "{when}: {digest}: {told}");
            }
        }
        client.close().await;
    });
}

#[test]
fn the_keys_of_journal_and_snapshots_are_rotated_under_load_and_nothing_fails_or_is_lost() {
    let rotations: u64 = std::env::var("TOKENSCOPE_ROTATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(8);
    let mut house = House::with("\n[snapshot]\ninterval = \"1s\"\n");
    let plain = fs::read_to_string(&house.file.config_file).unwrap();
    let first = Authority::open_or_create(&house.certs, "tokenscope development CA", now()).unwrap();
    write_generation(&mut house, 0, &plain, &[String::new(), first.certificate_pem().to_owned()], &first);
    house.start();
    let token = house.token("jonas-time").token.clone();
    let pepper = fs::read(house.data.join("secrets")).unwrap()[16..32].to_vec();
    let shared = Arc::new(Shared::new());
    let admin = Arc::new(Mutex::new(options(&house, "admin")));
    let (web, began) = (house.web(), Instant::now());
    let mut known = BTreeMap::new();
    std::thread::scope(|scope| {
        let changes = {
            let (options, shared) = (options(&house, "admin"), shared.clone());
            scope.spawn(move || runtime().block_on(change(options, &shared)))
        };
        under_load(&web, &token, &shared, &admin, || {
            for rotation in 1..=rotations {
                // When there are as many as there may be, a snapshot makes room. One comes each second.
                wait_for("older keys to go", || {
                    (metric(&house, "tokenscope_key_generations_kept") < 8.0).then_some(())
                });
                let ran = house.cli(&["keys", "rotate", "--json"], "");
                assert_eq!(ran.code, Some(0), "{ran:?}");
                assert_eq!(ran.json()["generation"], rotation + 1, "{ran:?}");
                shared.wait_until_all_have_asked(10, 0);
                if rotation % 3 == 0 {
                    let taken = house.log().matches("the state is in a snapshot").count();
                    wait_for("a snapshot", || {
                        (house.log().matches("the state is in a snapshot").count() > taken).then_some(())
                    });
                }
                assert!(shared.failed.lock().unwrap().is_empty(), "{:?}", shared.failed.lock().unwrap());
            }
            assert_eq!(metric(&house, "tokenscope_key_generation"), (rotations + 1) as f64);
            assert_eq!(house.log().matches("keys rotated").count() as u64, rotations, "each has a line in the log");
        });
        known = changes.join().unwrap();
    });
    let (failed, asked) = (shared.failed.lock().unwrap(), shared.so_far());
    assert!(failed.is_empty(), "{} of {asked:?} failed: {:?}", failed.len(), &failed[..failed.len().min(5)]);
    let took = began.elapsed().as_secs_f64();
    everything_is_there(&house, &known, "before the kill");
    house.kill();
    let secrets = fs::read(house.data.join("secrets")).unwrap();
    assert_eq!((secrets[8], &secrets[16..32]), (2, &pepper[..]), "of version 2, and the pepper stays");
    for when in ["after the kill", "after a stop"] {
        house.start();
        everything_is_there(&house, &known, when);
        let status = house.cli(&["status", "--json"], "").json();
        assert_eq!(status["key_generation"], rotations + 1, "{status}");
        assert!(!house.log().contains("a snapshot is not used"), "{}", house.log());
        assert_eq!(house.stop().code, Some(0));
    }

    // Without a server, by the same verb; the snapshot that it leaves and one more make the older keys superfluous.
    let offline = |verb: &[&str]| run(&[verb, &["--config", house.config(), "--json"]].concat(), "", &[]);
    let ran = offline(&["keys", "rotate", "--offline"]);
    assert_eq!((ran.code, &ran.json()["generation"]), (Some(0), &json!(rotations + 2)), "{ran:?}");
    let shown = offline(&["keys", "show"]).json();
    let newest = shown["generations"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(newest["generation"], rotations + 2, "{shown}");
    for verb in [&["journal", "verify"][..], &["snapshot", "create"]] {
        let ran = offline(verb);
        assert_eq!(ran.code, Some(0), "{verb:?}: {ran:?}");
    }
    house.start();
    everything_is_there(&house, &known, "after a rotation without a server");
    let answer = ask(&house, |client| async move { client.api("POST", "/v1/keys/rotate", b"").await }).unwrap();
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    figure(&format!(
        "{rotations} rotations of the keys of journal and snapshots in {took:.1} s, a snapshot each second, a kill: {} \
         requests {asked:?}, failed 0; {} tokens registered meanwhile, {} of them revoked, lost 0, active again 0",
        asked.iter().sum::<u64>(),
        known.len(),
        known.values().filter(|active| !**active).count(),
    ));
}
