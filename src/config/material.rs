//! Certificates and keys, read and checked before anything uses them.
//!
//! Certificate and key are two files, and whoever replaces them writes one after the other. So both are read, and only
//! a pair that matches is ever used; on reload a mismatch keeps the old pair. Each door makes its own TLS configuration
//! of what was read.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use super::{ConfigError, Tls};
use crate::certs;
use crate::domain::Timestamp;

/// The largest file that is read as PEM, in bytes; chains and bundles of authorities are far smaller.
const PEM_BYTES_MAX: u64 = 4 << 20;

/// A matching pair and the authorities of callers. `Debug` shows no key.
pub struct Material {
    /// The server's chain, its own certificate first; never empty.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key of the first certificate.
    pub key: PrivateKeyDer<'static>,
    /// The authorities that sign callers' certificates; never empty.
    pub client_ca: Arc<RootCertStore>,
    /// The chain as it stands in its file.
    pub chain_pem: Vec<u8>,
    /// The private key as it stands in its file; wiped when dropped.
    pub key_pem: Zeroizing<Vec<u8>>,
    /// The authorities of callers as they stand in their file.
    pub client_ca_pem: Vec<u8>,
    /// When the server's certificate ends; `None` if it cannot be told.
    pub not_after: Option<Timestamp>,
    /// SHA-256 over the three files: changes when any of them does.
    pub fingerprint: [u8; 32],
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { chain, client_ca, not_after, .. } = self;
        write!(f, "Material({} certificates, {} authorities, until {not_after:?})", chain.len(), client_ca.len())
    }
}

impl Clone for Material {
    fn clone(&self) -> Self {
        Self {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
            client_ca: self.client_ca.clone(),
            chain_pem: self.chain_pem.clone(),
            key_pem: self.key_pem.clone(),
            client_ca_pem: self.client_ca_pem.clone(),
            not_after: self.not_after,
            fingerprint: self.fingerprint,
        }
    }
}

impl Material {
    /// Reads the files that `tls` names and checks that they belong together.
    ///
    /// # Errors
    /// [`ConfigError::Material`] names the key, the file and what is wrong with it.
    pub fn read(tls: &Tls) -> Result<Self, ConfigError> {
        let certificate = File::read("tls.certificate", &tls.certificate)?;
        let key_file = File::read("tls.key", &tls.key)?;
        let authorities = File::read("tls.client_ca", &tls.client_ca)?;

        let chain = certificate.certificates()?;
        let key = PrivateKeyDer::from_pem_slice(&key_file.bytes)
            .map_err(|e| key_file.wrong(&format!("no private key in PEM: {e}")))?;
        let provider = rustls::crypto::ring::default_provider();
        CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider).map_err(|e| match e {
            rustls::Error::InconsistentKeys(_) => {
                key_file.wrong(&format!("is not the key of {}; replace both files", tls.certificate.display()))
            }
            other => key_file.wrong(&format!("cannot be used: {other}")),
        })?;

        let mut roots = RootCertStore::empty();
        for authority in authorities.certificates()? {
            roots.add(authority).map_err(|e| authorities.wrong(&format!("cannot be an authority: {e}")))?;
        }
        let not_after = chain.first().and_then(|first| certs::not_after(first));
        let mut all = ring::digest::Context::new(&ring::digest::SHA256);
        for file in [&certificate, &key_file, &authorities] {
            all.update(&(file.bytes.len() as u64).to_le_bytes());
            all.update(&file.bytes);
        }
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(all.finish().as_ref());
        Ok(Self {
            chain,
            key,
            client_ca: Arc::new(roots),
            chain_pem: certificate.bytes.to_vec(),
            key_pem: key_file.bytes.clone(),
            client_ca_pem: authorities.bytes.to_vec(),
            not_after,
            fingerprint,
        })
    }
}

/// A file of the configuration, read whole; wiped when dropped, since one of them is a key.
struct File {
    key: &'static str,
    path: PathBuf,
    bytes: Zeroizing<Vec<u8>>,
}

impl File {
    fn read(key: &'static str, path: &Path) -> Result<Self, ConfigError> {
        let mut file = Self { key, path: path.to_owned(), bytes: Zeroizing::default() };
        let size = std::fs::metadata(path).map_err(|e| file.wrong(&format!("cannot be read: {e}")))?.len();
        if size > PEM_BYTES_MAX {
            return Err(file.wrong(&format!("has {size} bytes; that is no PEM file of certificates")));
        }
        let bytes = std::fs::read(path).map_err(|e| file.wrong(&format!("cannot be read: {e}")))?;
        file.bytes = Zeroizing::new(bytes);
        Ok(file)
    }

    fn wrong(&self, what: &str) -> ConfigError {
        ConfigError::Material { key: self.key, path: self.path.clone(), what: what.to_owned() }
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        let all = all.map_err(|e| self.wrong(&format!("is not PEM: {e}")))?;
        if all.is_empty() {
            return Err(self.wrong("has no certificate in PEM (-----BEGIN CERTIFICATE-----)"));
        }
        Ok(all)
    }
}
