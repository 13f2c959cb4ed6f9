//! TLS of both doors: certificate, key and client roots in, ready `rustls` configurations out.
//!
//! Everything that can be wrong is found here, before anything is swapped: a reload is all or nothing. The provider is
//! named explicitly (`ring`), so no process-wide default can be missing or doubled. There are no tickets, no stored
//! sessions and no early data on either door: a resumed connection would not check the client's certificate again, and
//! early data can be replayed. What a certificate *means* is in `credentials.rs`; files are read by whoever calls.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CipherSuite, InconsistentKeys, RootCertStore, ServerConfig};

use crate::wire::ALPN;

/// The largest PEM file that is looked at, in bytes. Real chains have a few KiB, root bundles some hundred.
const PEM_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why TLS cannot be set up. Nothing has changed. The text is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not what it should be.
    #[error("{what}: {why}; give a PEM file that holds {wanted}")]
    Pem {
        /// Which of the three.
        what: &'static str,
        /// What was found.
        why: String,
        /// What was expected.
        wanted: &'static str,
    },
    /// The key is not the certificate's.
    #[error(
        "the private key does not belong to the first certificate of the chain; if both are being replaced, write both \
         files and reload again"
    )]
    KeyMismatch,
    /// A key this server cannot sign with.
    #[error("the private key cannot be used: {0}; use an ECDSA P-256/P-384, Ed25519 or RSA key of 2048 bits or more")]
    Key(String),
    /// A root that cannot be trusted for anything.
    #[error("certificate {number} of the client CA file cannot be a root: {why}")]
    Root {
        /// Which one, from 1.
        number: usize,
        /// Why not.
        why: String,
    },
    /// Anything else.
    #[error("TLS cannot be set up: {0}")]
    Config(String),
}

/// A certificate chain with its key, and the roots that callers' certificates must lead to. Checked; cheap to clone.
#[derive(Clone, Debug)]
pub struct TlsMaterial {
    certified: Arc<CertifiedKey>,
    client_roots: Arc<RootCertStore>,
}

impl TlsMaterial {
    /// Reads three PEM texts: the server's chain (its own certificate first), its private key, and the CA certificates
    /// that callers' certificates must lead to.
    ///
    /// # Errors
    /// [`TlsError`] says which text is wrong and how; key and certificate that do not match are an error.
    pub fn from_pem(chain: &[u8], key: &[u8], client_ca: &[u8]) -> Result<Self, TlsError> {
        let chain = certificates("the server certificate", chain)?;
        let key = private_key("the private key", key)?;
        let certified = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsError::KeyMismatch,
            other => TlsError::Key(other.to_string()),
        })?;
        let mut roots = RootCertStore::empty();
        for (i, root) in certificates("the client CA", client_ca)?.into_iter().enumerate() {
            roots.add(root).map_err(|error| TlsError::Root { number: i + 1, why: error.to_string() })?;
        }
        Ok(Self { certified: Arc::new(certified), client_roots: Arc::new(roots) })
    }

    /// The server's own certificate, DER: its expiry is a metric.
    pub fn certificate(&self) -> &[u8] {
        self.certified.cert.first().map_or(&[], |certificate| certificate.as_ref())
    }

    fn verifier(&self, presence: Presence) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        let builder = WebPkiClientVerifier::builder_with_provider(self.client_roots.clone(), provider());
        let builder = match presence {
            Presence::Demanded => builder,
            Presence::Optional => builder.allow_unauthenticated(),
        };
        builder.build().map_err(|error| TlsError::Config(error.to_string()))
    }

    fn config(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        who: Presence,
    ) -> Result<ServerConfig, TlsError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .map_err(|error| TlsError::Config(error.to_string()))?
            .with_client_cert_verifier(self.verifier(who)?)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(self.certified.clone())));
        config.ignore_client_order = true;
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.max_early_data_size = 0;
        config.send_half_rtt_data = false;
        Ok(config)
    }
}

/// Whether a caller has to show a certificate.
#[derive(Clone, Copy)]
enum Presence {
    Demanded,
    Optional,
}

/// The configuration of the QUIC door: TLS 1.3 only, a client certificate demanded, our own ALPN.
///
/// # Errors
/// [`TlsError::Config`]: the client CA file has no usable root.
pub fn quic_config(material: &TlsMaterial) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = material.config(&[&rustls::version::TLS13], Presence::Demanded)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// The configuration of the HTTPS door: TLS 1.2 and 1.3, HTTP/2 preferred to HTTP/1.1, a client certificate checked if
/// one is shown.
///
/// # Errors
/// [`TlsError::Config`]: the client CA file has no usable root.
pub fn https_config(material: &TlsMaterial) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = material.config(&[&rustls::version::TLS13, &rustls::version::TLS12], Presence::Optional)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// `ring`, with AES-128-GCM first: the cheapest per packet, and QUIC's initial keys need it in the list.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |why: String| TlsError::Pem { what, why, wanted: "one or more blocks BEGIN CERTIFICATE" };
    if pem.len() > PEM_BYTES_MAX {
        return Err(wrong(format!("{} bytes, more than {PEM_BYTES_MAX}", pem.len())));
    }
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(wrong("no certificate in it".to_owned())),
        Ok(found) => Ok(found),
        Err(error) => Err(wrong(error.to_string())),
    }
}

fn private_key(what: &'static str, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    let wrong =
        |why: String| TlsError::Pem { what, why, wanted: "one block BEGIN PRIVATE KEY (PKCS #8, SEC 1 or PKCS #1)" };
    if pem.len() > PEM_BYTES_MAX {
        return Err(wrong(format!("{} bytes, more than {PEM_BYTES_MAX}", pem.len())));
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| wrong(error.to_string()))
}
