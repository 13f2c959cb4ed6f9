//! TERM and HUP.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use tokenscope::certs::{Authority, LOCAL_NAMES};
use tokenscope::client::{Client, Error};

use super::house::{House, figure, now, wait_for};
use super::native::{ask_as, options, runtime};

fn snapshots(house: &House) -> Vec<String> {
    let names = fs::read_dir(&house.data).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".tks")).collect();
    names.sort();
    names
}

#[test]
fn sigterm_drains_leaves_a_snapshot_and_exits_with_0() {
    let mut house = House::new();
    house.start();
    let before = snapshots(&house);
    let token = house.token("maria-time").token.clone();
    house.revoke(&token);
    let ran = house.stop();
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let after = snapshots(&house);
    assert!(after.iter().any(|name| !before.contains(name)), "{before:?} {after:?}");
    house.start();
    house.logs("state recovered");
    assert!(house.log().contains("\"replayed\":0"), "a snapshot of everything: {}", house.log());
    assert_eq!(house.introspect(&token).text(), "{\"active\":false}");
}

/// A demo's client had gone without a word, and the stop took six seconds.
#[test]
fn a_client_that_went_away_without_a_word_holds_no_stop_up() {
    let mut house = House::new();
    house.start();
    let token = house.token("jonas-time").token.clone();
    let gone = runtime();
    let client = gone.block_on(Client::connect(options(&house, "admin"))).unwrap();
    assert!(gone.block_on(client.introspect(&token)).is_ok());
    // The runtime ends before the client: nobody is left who could say goodbye.
    drop(gone);
    drop(client);
    let ran = house.stop();
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.took < Duration::from_secs(3), "{:?}", ran.took);
    figure(&format!("stop with a client that is gone: {:.0} ms", ran.took.as_secs_f64() * 1e3));
}

#[test]
fn sighup_takes_over_callers_and_certificates_or_keeps_all_of_the_old_ones() {
    let mut house = House::new();
    house.start();
    let token = house.token("jonas-time").token.clone();
    let asks = |house: &House, caller: &str| {
        let token = token.clone();
        ask_as(house, caller, |client| async move { client.introspect(&token).await })
    };
    assert!(asks(&house, "operator").is_ok());

    // Broken: nothing changes, and log and metric say so.
    let good = fs::read_to_string(&house.file.config_file).unwrap();
    let without_operator = {
        let from = good.find("\n[[caller]]\nname = \"operator\"").unwrap();
        let rest = &good[from + 1..];
        let to = rest.find("\n[[caller]]").map_or(good.len(), |at| from + 1 + at);
        format!("{}{}", &good[..from], &good[to..])
    };
    house.configure(|_| without_operator.replace("[limits]\n", "[limits]\nquic_conections = 3\n"));
    house.signal(Signal::HUP);
    house.logs("the reload failed; what was in force stays in force");
    assert!(house.log().contains("quic_connections"), "the suggestion: {}", house.log());
    let failed = house.admin("/metrics").unwrap().text();
    assert!(failed.contains("tokenscope_config_last_reload_successful 0"), "{failed}");
    assert!(asks(&house, "operator").is_ok(), "the caller of the old configuration is still there");
    house.is_well("a reload that failed");

    // Certificates that do not belong together: likewise.
    let (pem, key) = (house.certs.join("server.pem"), house.certs.join("server.key"));
    let old_key = fs::read(&key).unwrap();
    fs::copy(house.certs.join("api.key"), &key).unwrap();
    house.configure(|_| without_operator.clone());
    let failures = house.log().matches("the reload failed").count();
    house.signal(Signal::HUP);
    wait_for("the second failure", || (house.log().matches("the reload failed").count() > failures).then_some(()));
    assert!(asks(&house, "operator").is_ok(), "all or nothing: the caller is still there");
    fs::write(&key, old_key).unwrap();

    // Good: a caller goes, a caller comes, and the server has a new certificate of a new authority of its own.
    let secret = "0123456789abcdef0123456789abcdef";
    let digest = tokenscope::domain::TokenDigest::of(secret.as_bytes()).to_hex();
    let newcomer = format!(
        "\n[[caller]]\nname = \"newcomer\"\nsecret_sha256 = \"{digest}\"\n\
         ask = {{ audiences = \"all\", workspaces = \"all\" }}\n"
    );
    house.configure(|_| format!("{without_operator}{newcomer}"));
    let other = Authority::new("another authority", now()).unwrap();
    let files = other.server(LOCAL_NAMES, now()).unwrap().write(house.dir.path(), "new-server").unwrap();
    fs::copy(house.dir.path().join("new-server.pem"), &pem).unwrap();
    fs::copy(house.dir.path().join("new-server.key"), &key).unwrap();
    drop(files);
    let connected = runtime();
    let client = connected.block_on(Client::connect(options(&house, "operator"))).unwrap();
    assert!(connected.block_on(client.introspect(&token)).is_ok());
    house.signal(Signal::HUP);
    house.logs("configuration reloaded");
    // The connection that was open is closed, and nobody gets in anew.
    wait_for("the removed caller's end", || connected.block_on(client.introspect(&token)).is_err().then_some(()));
    let told = house.admin("/metrics").unwrap().text();
    assert!(told.contains("tokenscope_config_last_reload_successful 1"), "{told}");
    let old_roots = house.web().send(b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert!(old_roots.is_err(), "the certificate is still the old one");
    let ca = house.dir.path().join("new-ca.pem");
    fs::write(&ca, other.certificate_pem()).unwrap();
    let old_ca = std::mem::replace(&mut house.file.ca_file, ca);
    let answer = house.web().form("/introspect", ("newcomer", secret), &[("token", &token)]);
    assert!(answer.status == 200 && answer.text().contains("\"active\":true"), "{answer:?}");
    let (name, known) = house.secret("operator");
    assert_eq!(house.web().form("/introspect", (&name, &known), &[("token", &token)]).status, 401);
    let refused = asks(&house, "operator");
    assert!(matches!(refused, Err(Error::Unauthorized(_))), "{refused:?}");
    house.is_well("a reload");
    drop(old_ca);
    assert_eq!(house.stop().code, Some(0));
}
