//! Who a certificate, a secret or a bearer token belongs to.
//!
//! Secrets are kept as SHA-256 only and compared in constant time; a certificate is known by a name in it (the chain
//! having been verified by TLS against the client CA) or by its own SHA-256.

use std::sync::Arc;

use subtle::ConstantTimeEq;

use crate::domain::TokenDigest;
use crate::service::caller::Caller;

/// How one caller shows who it is. Any of these will do; none makes a caller nobody can be.
#[derive(Clone, Debug, Default)]
pub struct CredentialsOf {
    /// A DNS name in the subject alternative names of a certificate that the client CA signed.
    pub certificate_name: Option<String>,
    /// SHA-256 of the DER form of one certificate.
    pub certificate_sha256: Option<[u8; 32]>,
    /// SHA-256 of the client secret (HTTP Basic, or in the form).
    pub secret_sha256: Option<[u8; 32]>,
    /// SHA-256 of a bearer token.
    pub bearer_sha256: Option<[u8; 32]>,
}

/// All callers, replaced whole on reload.
#[derive(Debug, Default)]
pub struct Callers {
    list: Vec<(Arc<Caller>, CredentialsOf)>,
}

impl Callers {
    /// The callers in `list`.
    pub fn new(list: Vec<(Caller, CredentialsOf)>) -> Self {
        Self { list: list.into_iter().map(|(caller, shows)| (Arc::new(caller), shows)).collect() }
    }

    /// The caller this certificate (DER, chain already verified) belongs to. `None` refuses the connection.
    pub fn by_certificate(&self, der: &[u8]) -> Option<Arc<Caller>> {
        use rustls::pki_types::{CertificateDer, ServerName};
        let sha256 = *TokenDigest::of(der).as_bytes();
        let certificate = CertificateDer::from(der);
        let parsed = rustls::server::ParsedCertificate::try_from(&certificate).ok()?;
        let named = |name: &str| {
            ServerName::try_from(name).is_ok_and(|name| rustls::client::verify_server_name(&parsed, &name).is_ok())
        };
        let matches = |shows: &CredentialsOf| {
            shows.certificate_sha256 == Some(sha256) || shows.certificate_name.as_deref().is_some_and(named)
        };
        self.list.iter().find(|(_, shows)| matches(shows)).map(|(caller, _)| caller.clone())
    }

    /// The caller with this name and secret. `None` for an unknown name and for a wrong secret alike, after the same
    /// work.
    pub fn by_secret(&self, id: &str, secret: &[u8]) -> Option<Arc<Caller>> {
        let given = *TokenDigest::of(secret).as_bytes();
        let known = self.list.iter().find(|(caller, _)| caller.id.as_str() == id);
        let expected = known.and_then(|(_, shows)| shows.secret_sha256);
        let equal = bool::from(expected.unwrap_or([0; 32]).ct_eq(&given)) && expected.is_some();
        known.filter(|_| equal).map(|(caller, _)| caller.clone())
    }

    /// The caller with this bearer token.
    pub fn by_bearer(&self, token: &[u8]) -> Option<Arc<Caller>> {
        let given = *TokenDigest::of(token).as_bytes();
        let holds = |shows: &CredentialsOf| shows.bearer_sha256.is_some_and(|hash| bool::from(hash.ct_eq(&given)));
        self.list.iter().find(|(_, shows)| holds(shows)).map(|(caller, _)| caller.clone())
    }

    /// The caller with this name, whatever it shows.
    pub fn by_name(&self, id: &str) -> Option<Arc<Caller>> {
        self.list.iter().find(|(caller, _)| caller.id.as_str() == id).map(|(caller, _)| caller.clone())
    }

    /// What each of them shows, in order; for telling truly which methods work.
    pub fn shows(&self) -> impl Iterator<Item = &CredentialsOf> {
        self.list.iter().map(|(_, shows)| shows)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}
