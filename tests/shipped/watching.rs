//! What is watched: metrics that Prometheus' own checker accepts, and logs that hold no token and no secret.

use std::io::Write;
use std::process::{Command, Stdio};

use super::house::{House, is_installed, skipped};

/// A server that has been used a little.
fn used() -> House {
    let mut house = House::new();
    house.start();
    house.is_well("the start");
    house.introspect("nobody knows this one");
    house.revoke(&house.token("maria-time").token.clone());
    house.introspect(&house.token("maria-time").token.clone());
    house
}

#[test]
fn promtool_finds_nothing_to_say_about_the_metrics() {
    let house = used();
    let answer = house.admin("/metrics").unwrap();
    assert_eq!(answer.status, 200);
    let text = answer.text();
    for name in ["tokenscope_build_info", "tokenscope_tokens", "process_resident_memory_bytes"] {
        assert!(text.contains(name), "{name} is not there");
    }
    for token in &house.file.tokens {
        assert!(!text.contains(&token.token) && !text.contains(&token.sha256));
    }
    if !is_installed("promtool") {
        return skipped("promtool check metrics: no promtool here");
    }
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn the_log_holds_no_token_and_no_secret() {
    let mut house = House::with("\n[log]\nfilter = \"trace\"\n");
    house.start();
    for token in house.file.tokens.clone() {
        house.introspect(&token.token);
    }
    let (name, secret) = house.secret("admin");
    let minted = house.web().json("/v1/tokens/mint", (&name, &secret), "{\"grant\":\"g1\",\"never_expires\":true}");
    let minted: serde_json::Value = serde_json::from_slice(&minted.body).unwrap();
    let minted = minted["token"].as_str().unwrap_or_else(|| panic!("{minted}")).to_owned();
    house.is_well("much logging");
    assert_eq!(house.stop().code, Some(0));
    let log = house.log();
    assert!(!log.is_empty());
    let secrets = house.file.callers.iter().map(|caller| &caller.client_secret);
    let tokens = house.file.tokens.iter().flat_map(|token| [&token.token, &token.sha256]);
    for hidden in secrets.chain(tokens).chain([&minted]) {
        assert!(!log.contains(hidden.as_str()), "in the log: {hidden}");
    }
}
