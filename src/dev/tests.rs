use std::path::Path;

use super::file::{DevFile, tokens};
use super::*;
use crate::cli::rooms::Addresses;
use crate::samples::story;

const NOW: Timestamp = Timestamp::from_raw(1_790_000_000);

fn at(door: u16, admin: u16) -> Addresses {
    let at = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
    Addresses { quic: at(door), https: at(door), admin: at(admin) }
}

#[test]
fn a_written_file_is_read_back_and_the_second_start_keeps_secrets_and_data() {
    let directory = tempfile::tempdir().unwrap();
    let mut file = setup::file(directory.path(), 5, 100, NOW).unwrap();
    setup::write_addresses(&mut file, at(7_000, 7_001)).unwrap();
    let path = directory.path().join("dev.json");
    assert_eq!(DevFile::read(&path).unwrap(), file);
    assert_eq!(setup::file(directory.path(), 6, 200, NOW.plus(9)).unwrap(), file);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(file.https_url, "https://localhost:7000");
    let error = DevFile::read(&directory.path().join("none.json")).unwrap_err();
    assert!(error.message.contains("tokenscope dev"), "{error:?}");
}

#[test]
fn every_caller_can_connect_and_unknown_ones_are_told_who_there_is() {
    let file = setup::file(Path::new("/nowhere"), 5, 100, NOW).unwrap();
    for (name, ..) in setup::CALLERS {
        let connection = file.connection(Some(name)).unwrap();
        assert!(connection.certificate.ends_with(format!("certs/{name}.pem")));
    }
    assert_eq!(file.connection(None).unwrap().key, Path::new("/nowhere/certs/admin.key"));
    assert!(file.connection(Some("ghost")).unwrap_err().message.contains("manager-1579"));
    let secrets: std::collections::HashSet<&str> = file.callers.iter().map(|it| it.client_secret.as_str()).collect();
    assert_eq!(secrets.len(), setup::CALLERS.len());
}

#[test]
fn the_configuration_is_toml_without_a_secret_in_it() {
    let mut file = setup::file(Path::new("/nowhere"), 5, 100, NOW).unwrap();
    (file.quic, file.https, file.admin) = (at(7_000, 7_001).quic, at(7_000, 7_001).https, at(7_000, 7_001).admin);
    let text = setup::config_text(&file);
    let table: toml::Table = text.parse().unwrap();
    assert_eq!(table["server"]["quic_address"].as_str(), Some("127.0.0.1:7000"));
    let callers = table["caller"].as_array().unwrap();
    assert_eq!(callers.len(), setup::CALLERS.len());
    for (caller, known) in callers.iter().zip(&file.callers) {
        assert!(!text.contains(&known.client_secret));
        assert_eq!(caller["secret_sha256"].as_str().unwrap().len(), 64);
    }
}

#[test]
fn ports_are_free_and_those_of_last_time_are_taken_again() {
    let mut file = setup::file(Path::new("/nowhere"), 5, 100, NOW).unwrap();
    let first = setup::addresses(&file, None).unwrap();
    assert_eq!(first.quic.port(), first.https.port());
    assert_ne!(first.admin.port(), first.https.port());
    (file.https, file.admin) = (first.https, first.admin);
    let held = std::net::TcpListener::bind(first.https);
    // Another process may have taken the port since; then there is nothing to show.
    if held.is_ok() {
        let second = setup::addresses(&file, None).unwrap();
        assert_ne!(second.https.port(), first.https.port(), "a port that is taken is not chosen");
    }
}

#[test]
fn sample_tokens_say_what_to_expect_of_them() {
    let samples = story::samples(1);
    let tokens = tokens(&samples);
    assert_eq!(tokens.len(), samples.len() + 1);
    let unknown = tokens.last().unwrap();
    assert!(!unknown.active && unknown.subject.is_none());
    assert!(tokens.iter().any(|token| token.checks.iter().any(|check| check.expect == "scope_not_granted")));
    assert!(tokens.iter().all(|token| token.sha256.len() == 64));
}

#[test]
fn the_greeting_has_commands_to_paste_that_name_this_server() {
    let mut file = setup::file(Path::new("/nowhere"), 5, 100, NOW).unwrap();
    file.https_url = "https://localhost:7000".into();
    let text = greeting(&file);
    for part in ["curl --cacert /nowhere/certs/ca.pem", "https://localhost:7000/introspect", &file.tokens[0].token] {
        assert!(text.contains(part), "{part}");
    }
}
