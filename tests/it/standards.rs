//! The page of standards and the tests agree, and a few points that no other test shows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, ServerConfig, ServerConnection};
use tokenscope::certs::Authority;
use tokenscope::clock::Clock;
use tokenscope::domain::mint::TokenPrefix;
use tokenscope::domain::{Timestamp, TokenDigest};
use tokenscope::server::Shared;
use tokenscope::server::credentials::{Callers, CredentialsOf};
use tokenscope::server::http::{Face, OauthSettings};
use tokenscope::server::stats::Stats;
use tokenscope::server::tls::{TlsMaterial, https_config, quic_config};
use tokenscope::testing::{almighty, service};

use crate::tidy::source::{Source, read, sources, words};

const PAGE: &str = "docs/STANDARDS.md";
/// What an obligation's id begins with.
const PREFIXES: [&str; 15] = [
    "TS", "SSF", "R6749", "R6750", "R6819", "R7009", "R7662", "R8414", "R8705", "R8707", "R9110", "R9396", "R9449",
    "R9470", "R9700",
];
const MORE_PREFIXES: [&str; 3] = ["R9701", "R9728", "R9767"];

/// Every id in a text: a known prefix, a hyphen, two digits.
fn ids(text: &str) -> impl Iterator<Item = String> + '_ {
    words(text).filter(|(word, _)| PREFIXES.contains(word) || MORE_PREFIXES.contains(word)).filter_map(|(word, at)| {
        let number = text[at + word.len()..].strip_prefix('-')?.get(..2)?;
        number.bytes().all(|byte| byte.is_ascii_digit()).then(|| format!("{word}-{number}"))
    })
}

/// The page: each id with its last column, in order.
fn rows(page: &str) -> Vec<(String, String)> {
    let row = |line: &str| {
        let cells: Vec<&str> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
        let [id, _, _, _, shown] = cells[..] else { return None };
        (ids(id).next()? == id).then(|| (id.to_owned(), shown.to_owned()))
    };
    page.lines().filter_map(row).collect()
}

/// The names in backticks.
fn names(shown: &str) -> impl Iterator<Item = &str> {
    shown.split('`').skip(1).step_by(2).filter(|word| word.matches('_').count() >= 2 && !word.contains(['=', ' ', '/']))
}

/// The tests of a file, each with the ids in its body and in the comments right above it.
fn tests_with_ids(source: &Source) -> Vec<(String, BTreeSet<String>)> {
    let mut found: Vec<(String, BTreeSet<String>)> = Vec::new();
    let (mut above, mut is_test, mut inside) = (BTreeSet::new(), false, false);
    for line in source.text.lines() {
        let code = line.trim_start();
        let function = code.strip_prefix("async ").unwrap_or(code).strip_prefix("fn ");
        if let Some(name) = function.filter(|_| line.len() - code.len() <= 4 && !inside) {
            let name = name.split(['(', '<']).next().unwrap_or(name).to_owned();
            inside = is_test;
            if is_test {
                found.push((name, std::mem::take(&mut above)));
            }
            (above, is_test) = (BTreeSet::new(), false);
        } else if inside {
            if let Some((_, known)) = found.last_mut() {
                known.extend(ids(line));
            }
        } else if code.starts_with("//") {
            above.extend(ids(line));
        } else if code.starts_with("#[") {
            is_test |= code.contains("test]");
        } else {
            above.clear();
        }
        inside &= line != "}";
    }
    found
}

#[test]
fn the_page_of_standards_names_tests_that_exist_and_every_test_with_an_id() {
    let page = read(PAGE);
    let rows = rows(&page);
    let listed: BTreeMap<&str, &str> = rows.iter().map(|(id, shown)| (id.as_str(), shown.as_str())).collect();
    let all: Vec<Source> = ["src", "tests"].into_iter().flat_map(sources).collect();
    let tests: String = all.iter().filter(|source| source.is_test()).map(|source| source.text.as_str()).collect();
    let mut wrong = Vec::new();
    assert!(rows.len() >= 139, "{PAGE} has {} rows", rows.len());
    assert_eq!(rows.len(), listed.len(), "an id stands in {PAGE} twice");
    for prefix in PREFIXES.iter().chain(&MORE_PREFIXES) {
        let numbers: Vec<&str> = listed.keys().filter_map(|id| id.strip_prefix(prefix)?.strip_prefix('-')).collect();
        let expected: Vec<String> = (1..=numbers.len()).map(|number| format!("{number:02}")).collect();
        if numbers.is_empty() || numbers != expected {
            wrong.push(format!("{prefix}: the numbers have a gap: {numbers:?}"));
        }
    }
    for (id, shown) in &rows {
        for name in names(shown) {
            if ![format!("fn {name}("), format!("fn {name}<"), format!("{name}(")].iter().any(|f| tests.contains(f)) {
                wrong.push(format!("{id}: no test is called {name}"));
            }
        }
        let said = ["waived: ", "not built", "not tested yet"].iter().any(|word| shown.contains(word));
        if names(shown).next().is_none() && !said {
            wrong.push(format!("{id}: neither a test nor a word why there is none"));
        }
    }
    for source in &all {
        for id in ids(&source.text).filter(|id| !listed.contains_key(id.as_str())) {
            wrong.push(format!("{}: {id} stands nowhere in {PAGE}", source.path));
        }
        for (test, ids) in tests_with_ids(source) {
            for id in ids {
                if !listed.get(id.as_str()).is_some_and(|shown| names(shown).any(|name| name == test)) {
                    wrong.push(format!("{PAGE}: the row {id} does not name {test} of {}", source.path));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "the page of standards and the tests agree\n  {}", wrong.join("\n  "));
}

const NOW: Timestamp = Timestamp::from_raw(1_700_000_000);

/// The version that a client which offers only this one and a server agree on; `None` if they do not.
fn agreed(server: &Arc<ServerConfig>, roots: &RootCertStore, only: ProtocolVersion) -> Option<ProtocolVersion> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let version = match only {
        ProtocolVersion::TLSv1_2 => &rustls::version::TLS12,
        _ => &rustls::version::TLS13,
    };
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots.clone())
        .with_no_client_auth();
    client.alpn_protocols.clone_from(&server.alpn_protocols);
    client.time_provider = Arc::new(At);
    let mut client = ClientConnection::new(Arc::new(client), ServerName::try_from("localhost").unwrap()).unwrap();
    let mut server = ServerConnection::new(server.clone()).unwrap();
    for _ in 0..8 {
        for (from, to) in [(Side::Client, Side::Server), (Side::Server, Side::Client)] {
            let mut bytes = Vec::new();
            match from {
                Side::Client => {
                    while client.wants_write() {
                        client.write_tls(&mut bytes).ok()?;
                    }
                }
                Side::Server => {
                    while server.wants_write() {
                        server.write_tls(&mut bytes).ok()?;
                    }
                }
            }
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                match to {
                    Side::Client => {
                        client.read_tls(&mut rest).ok()?;
                        client.process_new_packets().ok()?;
                    }
                    Side::Server => {
                        server.read_tls(&mut rest).ok()?;
                        server.process_new_packets().ok()?;
                    }
                }
            }
        }
    }
    (!client.is_handshaking()).then(|| client.protocol_version()).flatten()
}

enum Side {
    Client,
    Server,
}

/// The moment the certificates were made at.
#[derive(Debug)]
struct At;

impl rustls::time_provider::TimeProvider for At {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        Some(rustls::pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(NOW.seconds() + 60)))
    }
}

// R7662-07: 1.2 has to be there, newer may be.
#[test]
fn https_speaks_tls_1_2_and_1_3_and_quic_1_3_alone() {
    let authority = Authority::new("a test's CA", NOW).unwrap();
    let pair = authority.server(&["localhost"], NOW).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let files = pair.write(dir.path(), "server").unwrap();
    let file = |path| std::fs::read(path).unwrap();
    let ca = authority.certificate_pem().as_bytes();
    let material = TlsMaterial::from_pem(&file(&files.certificate), &file(&files.key), ca).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca).unwrap()).unwrap();
    let (https, quic) = (https_config(&material).unwrap(), quic_config(&material).unwrap());
    let (old, new) = (ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3);
    assert_eq!(agreed(&https, &roots, old), Some(old));
    assert_eq!(agreed(&https, &roots, new), Some(new));
    assert_eq!(agreed(&quic, &roots, old), None);
}

// R7662-11: 200, JSON, and nobody on the way keeps it; whether the token is known or not.
#[tokio::test]
async fn an_answer_about_a_token_is_json_that_nobody_keeps() {
    let (service, _, _control) = service();
    let secret_sha256 = Some(*TokenDigest::of(b"secret").as_bytes());
    let shows = CredentialsOf { secret_sha256, ..CredentialsOf::default() };
    let shared = Shared {
        service,
        callers: Arc::new(ArcSwap::from_pointee(Callers::new(vec![(almighty(), shows)]))),
        clock: Clock::manual(NOW),
        stats: Arc::new(Stats::default()),
    };
    let settings = OauthSettings {
        issuer: "https://issuer.example".into(),
        base_url: "https://issuer.example".into(),
        prefix: TokenPrefix::parse("tks").unwrap(),
        realm: "tokenscope".into(),
        base_document: None,
        client_certificates: true,
        revocation_wait: tokenscope::server::Wait::Applied,
    };
    let face = Face::new(shared, settings);
    // `tests:secret`.
    let told = face.post("/introspect", b"Basic dGVzdHM6c2VjcmV0", b"token=nobody-knows-it").await.unwrap();
    let header = |name: &str| told.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    assert_eq!((told.status, told.body.as_slice()), (200, &br#"{"active":false}"#[..]));
    assert_eq!(header("content-type"), Some("application/json"));
    assert_eq!((header("cache-control"), header("pragma")), (Some("no-store"), Some("no-cache")));
}
