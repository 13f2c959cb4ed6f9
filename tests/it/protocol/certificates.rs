//! What is wrong with certificates is found before anything is swapped, and said so that an operator can mend it.

use tokenscope::server::tls::{TlsError, TlsMaterial, https_config, quic_config};

use super::rig::Ca;

#[test]
fn chain_key_and_roots_are_checked_together() {
    let ca = Ca::new();
    let (one, other) = (ca.issue("localhost"), ca.issue("localhost"));
    let load =
        |chain: &str, key: &str, roots: &str| TlsMaterial::from_pem(chain.as_bytes(), key.as_bytes(), roots.as_bytes());
    let material = load(&one.certificate, &one.key, &ca.pem).unwrap();
    assert_eq!(quic_config(&material).unwrap().alpn_protocols, [b"tokenscope/1"]);
    assert_eq!(https_config(&material).unwrap().alpn_protocols, [&b"h2"[..], b"http/1.1"]);
    assert!(matches!(load(&one.certificate, &other.key, &ca.pem), Err(TlsError::KeyMismatch)));
    for (chain, key, roots, named) in [
        ("", one.key.as_str(), ca.pem.as_str(), "the server certificate"),
        (&one.key, &one.key, &ca.pem, "the server certificate"),
        (&one.certificate, "", &ca.pem, "the private key"),
        (&one.certificate, &one.certificate, &ca.pem, "the private key"),
        (&one.certificate, &one.key, "", "the client CA"),
        (&one.certificate, &one.key, "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", "the client CA"),
    ] {
        let error = load(chain, key, roots).unwrap_err().to_string();
        assert!(error.starts_with(named) && error.contains("PEM"), "{error}");
    }
}

/// B26: a resumed connection does not look at the certificate again, so an expired one went on working.
#[test]
fn nothing_is_resumed_and_nothing_comes_early() {
    let ca = Ca::new();
    let one = ca.issue("localhost");
    let material = TlsMaterial::from_pem(one.certificate.as_bytes(), one.key.as_bytes(), ca.pem.as_bytes()).unwrap();
    for config in [quic_config(&material).unwrap(), https_config(&material).unwrap()] {
        assert_eq!((config.send_tls13_tickets, config.max_early_data_size), (0, 0));
        assert!(!config.session_storage.can_cache());
    }
}
