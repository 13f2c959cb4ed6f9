use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{RootCertStore, client::WebPkiServerVerifier, server::WebPkiClientVerifier};

use super::*;

const NOW: Timestamp = Timestamp::from_raw(1_780_000_000);

fn authority() -> Authority {
    Authority::new("test authority", NOW).expect("an authority")
}

fn roots(authority: &Authority) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate_der().expect("der")).expect("added");
    Arc::new(roots)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn server_is_good(roots: &Arc<RootCertStore>, pair: &Pair, name: &str, at: Timestamp) -> bool {
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider()).build().expect("verifier");
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let at = UnixTime::since_unix_epoch(Duration::from_secs(at.seconds()));
    verifier.verify_server_cert(&pair.certificate_der().expect("der"), &[], &name, &[], at).is_ok()
}

fn caller_is_good(roots: &Arc<RootCertStore>, pair: &Pair, at: Timestamp) -> bool {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider()).build().expect("verifier");
    let at = UnixTime::since_unix_epoch(Duration::from_secs(at.seconds()));
    verifier.verify_client_cert(&pair.certificate_der().expect("der"), &[], at).is_ok()
}

#[test]
fn a_server_is_good_for_its_names_while_it_is_valid_and_for_nothing_else() {
    let (ours, other) = (authority(), authority());
    let pair = ours.server(LOCAL_NAMES, NOW).expect("signed");
    let trust = roots(&ours);
    for (name, at, good) in [
        ("localhost", NOW, true),
        ("127.0.0.1", NOW, true),
        ("::1", NOW, true),
        ("localhost", NOW.minus(EARLY_SECONDS - 1), true),
        ("localhost", NOW.plus(CERTIFICATE_SECONDS - 1), true),
        ("localhost", NOW.minus(EARLY_SECONDS + 1), false),
        ("localhost", NOW.plus(CERTIFICATE_SECONDS + 1), false),
        ("example.com", NOW, false),
        ("127.0.0.2", NOW, false),
    ] {
        assert_eq!(server_is_good(&trust, &pair, name, at), good, "{name} at {at}");
    }
    assert!(!server_is_good(&roots(&other), &pair, "localhost", NOW), "another authority of the same name");
    assert!(!caller_is_good(&trust, &pair, NOW), "a server is no caller");
}

#[test]
fn a_caller_is_known_by_its_name_and_is_no_server() {
    use crate::server::credentials::{Callers, CredentialsOf};
    use crate::service::caller::{Caller, Rights};
    let ours = authority();
    let pair = ours.client("api", NOW).expect("signed");
    assert!(caller_is_good(&roots(&ours), &pair, NOW));
    assert!(!server_is_good(&roots(&ours), &pair, "api", NOW));
    let id = crate::domain::CallerId::parse("the-api").expect("id");
    let shows = CredentialsOf { certificate_name: Some("api".into()), ..Default::default() };
    let callers = Callers::new(vec![(Caller { id, rights: Rights::default() }, shows)]);
    let der = pair.certificate_der().expect("der");
    assert_eq!(callers.by_certificate(&der).expect("known").id.as_str(), "the-api");
    let stranger = ours.client("apj", NOW).expect("signed").certificate_der().expect("der");
    assert!(callers.by_certificate(&stranger).is_none());
}

#[test]
fn key_and_certificate_are_a_pair() {
    let pair = authority().client("api", NOW).expect("signed");
    let other = authority().client("api", NOW).expect("signed");
    let check = |key: &Pair| {
        let chain = vec![pair.certificate_der().expect("der")];
        rustls::sign::CertifiedKey::from_der(chain, key.key_der().expect("der"), &provider())
    };
    assert!(check(&pair).is_ok());
    assert!(check(&other).is_err());
}

#[test]
fn files_are_written_with_private_keys_and_an_authority_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let first = Authority::open_or_create(dir.path(), "dev", NOW).expect("made");
    let again = Authority::open_or_create(dir.path(), "dev", NOW.plus(60)).expect("read");
    assert_eq!(first.certificate_pem(), again.certificate_pem());
    let pair = again.server(LOCAL_NAMES, NOW).expect("signed");
    assert!(server_is_good(&roots(&first), &pair, "localhost", NOW), "signed after the restart, trusted before");
    for _ in 0..2 {
        let files = pair.write(dir.path(), "server").expect("written");
        let mode = |path: &Path| fs::metadata(path).expect("meta").permissions().mode() & 0o777;
        assert_eq!(mode(&files.key), 0o600);
        assert_eq!(fs::read_to_string(&files.certificate).expect("read"), pair.certificate_pem);
    }
    assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 4, "nothing temporary is left");

    authority().write(dir.path()).expect("written");
    fs::write(dir.path().join("ca.pem"), first.certificate_pem()).expect("write");
    let mixed = Authority::open_or_create(dir.path(), "dev", NOW);
    assert!(matches!(mixed, Err(CertsError::NotOurs { .. })), "{mixed:?}");
    fs::remove_file(dir.path().join("ca.key")).expect("remove");
    assert!(matches!(Authority::open_or_create(dir.path(), "dev", NOW), Err(CertsError::Io { .. })));
}

#[test]
fn the_end_of_a_certificate_is_read_and_damage_reads_as_unknown() {
    let ours = authority();
    assert_eq!(not_after(&ours.certificate_der().expect("der")), Some(NOW.plus(AUTHORITY_SECONDS)));
    let der = ours.client("api", NOW).expect("signed").certificate_der().expect("der");
    assert_eq!(not_after(&der), Some(NOW.plus(CERTIFICATE_SECONDS)));
    for cut in 0..der.len().min(200) {
        let _ = not_after(&der[..cut]);
    }
    for at in 0..der.len() {
        let mut damaged = der.to_vec();
        damaged[at] ^= 0xff;
        let _ = not_after(&damaged);
    }
    assert_eq!(not_after(b""), None);
    assert_eq!(not_after(b"\x30\x84\xff\xff\xff\xff"), None);
}

#[test]
fn times_are_read_in_both_forms() {
    let time = |tag, content: &str| Element { tag, content: content.as_bytes() }.time().map(Timestamp::seconds);
    for (tag, content, seconds) in [
        (0x17, "700101000000Z", Some(0)),
        (0x17, "260801123456Z", Some(1_785_587_696)),
        (0x18, "20260801123456Z", Some(1_785_587_696)),
        (0x18, "21500101000000Z", None),
        (0x17, "690101000000Z", None),
        (0x17, "260801123456", None),
        (0x17, "261301123456Z", None),
        (0x17, "2608011234Z", None),
        (0x16, "260801123456Z", None),
    ] {
        assert_eq!(time(tag, content), seconds, "{content}");
    }
}
