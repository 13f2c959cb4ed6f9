//! Certificates for development, the demo and the tests: an authority, servers and callers signed by it.
//!
//! For real deployments bring your own authority: the one made here keeps its key in a file beside the others. What is
//! promised: a server certificate is good for the names it was made for and for nothing else, a caller's certificate
//! carries its name as a DNS name (`certificate_name` in the configuration), keys are ECDSA P-256, key files have mode
//! 0600, and nothing is valid longer than stated.
//!
//! Here is also [`not_after`], which reads when any certificate ends.

#[cfg(test)]
mod tests;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::domain::Timestamp;

/// How long an authority is valid, in seconds: ten years.
pub const AUTHORITY_SECONDS: u32 = 3_650 * 86_400;
/// How long a server's or caller's certificate is valid, in seconds: one year.
pub const CERTIFICATE_SECONDS: u32 = 365 * 86_400;
/// How long before it is made a certificate is valid, in seconds: clocks of other machines may be late.
const EARLY_SECONDS: u32 = 3_600;
/// The names of a server on this machine.
pub const LOCAL_NAMES: &[&str] = &["localhost", "127.0.0.1", "::1"];

/// Why a certificate was not made.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// A name that cannot stand in a certificate, or a failure of the crypto below.
    #[error("cannot make a certificate for {name}: {source}")]
    Make {
        /// For whom.
        name: String,
        /// What was wrong.
        source: rcgen::Error,
    },
    /// A file.
    #[error("cannot {what} {path}: {source}", path = path.display())]
    Io {
        /// `read` or `write`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of an authority that is not what [`Authority::write`] wrote.
    #[error("{path} is not an authority's {what}; remove both files to make a new authority", path = path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// `certificate` or `key`.
        what: &'static str,
    },
}

/// A certificate and its key, as PEM. The key is wiped when dropped and never printed.
pub struct Pair {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// The private key, PKCS #8 in PEM.
    pub key_pem: Zeroizing<String>,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pair(…)")
    }
}

/// Where a pair was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The certificate.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl Pair {
    /// The certificate as DER; `None` only if the PEM was changed.
    pub fn certificate_der(&self) -> Option<CertificateDer<'static>> {
        CertificateDer::from_pem_slice(self.certificate_pem.as_bytes()).ok()
    }

    /// The key as DER; `None` only if the PEM was changed.
    pub fn key_der(&self) -> Option<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).ok()
    }

    /// Writes `directory/name.pem` and `directory/name.key` (mode 0600), replacing older ones.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, directory: &Path, name: &str) -> Result<Files, CertsError> {
        let files =
            Files { certificate: directory.join(format!("{name}.pem")), key: directory.join(format!("{name}.key")) };
        write(&files.key, self.key_pem.as_bytes(), 0o600)?;
        write(&files.certificate, self.certificate_pem.as_bytes(), 0o644)?;
        Ok(files)
    }
}

/// An authority that signs servers and callers.
pub struct Authority {
    name: String,
    pair: Pair,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({})", self.name)
    }
}

impl Authority {
    /// A new authority with this common name.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn new(name: &str, now: Timestamp) -> Result<Self, CertsError> {
        let make = |source| CertsError::Make { name: name.to_owned(), source };
        let key = KeyPair::generate().map_err(make)?;
        let params = Self::params(name, now);
        let certificate = params.self_signed(&key).map_err(make)?;
        let pair = Pair { certificate_pem: certificate.pem(), key_pem: Zeroizing::new(key.serialize_pem()) };
        Ok(Self { name: name.to_owned(), pair, issuer: Issuer::new(params, key) })
    }

    /// The authority whose files `ca.pem` and `ca.key` are in `directory`; makes and writes it if neither is there.
    ///
    /// `name` must be the name it was made with, since that is what its certificates name as their issuer.
    ///
    /// # Errors
    /// A file cannot be read or written, or only one of the two is there.
    pub fn open_or_create(directory: &Path, name: &str, now: Timestamp) -> Result<Self, CertsError> {
        let files = Files { certificate: directory.join("ca.pem"), key: directory.join("ca.key") };
        if !files.certificate.exists() && !files.key.exists() {
            let authority = Self::new(name, now)?;
            authority.pair.write(directory, "ca")?;
            return Ok(authority);
        }
        let read = |path: &Path| {
            fs::read_to_string(path).map_err(|source| CertsError::Io { what: "read", path: path.to_owned(), source })
        };
        let not_ours = |path: &Path, what| CertsError::NotOurs { path: path.to_owned(), what };
        let pair = Pair { certificate_pem: read(&files.certificate)?, key_pem: Zeroizing::new(read(&files.key)?) };
        let key = KeyPair::from_pem(&pair.key_pem).map_err(|_| not_ours(&files.key, "key"))?;
        let der = pair.certificate_der().ok_or_else(|| not_ours(&files.certificate, "certificate"))?;
        // The certificate must be of this key: it holds the public key byte for byte.
        let public = key.public_key_raw();
        if !der.windows(public.len()).any(|window| window == public) {
            return Err(not_ours(&files.certificate, "certificate"));
        }
        Ok(Self { name: name.to_owned(), pair, issuer: Issuer::new(Self::params(name, now), key) })
    }

    fn params(name: &str, now: Timestamp) -> CertificateParams {
        let mut params = common(name, now, AUTHORITY_SECONDS);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    }

    /// The authority's own certificate, PEM: what the other side must trust.
    pub fn certificate_pem(&self) -> &str {
        &self.pair.certificate_pem
    }

    /// The authority's own certificate, DER.
    pub fn certificate_der(&self) -> Option<CertificateDer<'static>> {
        self.pair.certificate_der()
    }

    /// Writes `directory/ca.pem` and `directory/ca.key` (mode 0600), replacing older ones.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&self, directory: &Path) -> Result<Files, CertsError> {
        self.pair.write(directory, "ca")
    }

    /// A server's certificate for these DNS names and IP addresses; see [`LOCAL_NAMES`].
    ///
    /// # Errors
    /// A name cannot stand in a certificate.
    pub fn server(&self, names: &[&str], now: Timestamp) -> Result<Pair, CertsError> {
        let name = names.first().copied().unwrap_or("server");
        self.sign(name, names, ExtendedKeyUsagePurpose::ServerAuth, now)
    }

    /// A caller's certificate, known by `name` (a DNS name; one label will do).
    ///
    /// # Errors
    /// The name cannot stand in a certificate.
    pub fn client(&self, name: &str, now: Timestamp) -> Result<Pair, CertsError> {
        self.sign(name, &[name], ExtendedKeyUsagePurpose::ClientAuth, now)
    }

    fn sign(
        &self,
        name: &str,
        names: &[&str],
        usage: ExtendedKeyUsagePurpose,
        now: Timestamp,
    ) -> Result<Pair, CertsError> {
        let make = |source| CertsError::Make { name: name.escape_default().to_string(), source };
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = common(name, now, CERTIFICATE_SECONDS);
        params.subject_alt_names = CertificateParams::new(names).map_err(make)?.subject_alt_names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(make)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(make)?;
        Ok(Pair { certificate_pem: certificate.pem(), key_pem: Zeroizing::new(key.serialize_pem()) })
    }
}

fn common(name: &str, now: Timestamp, seconds: u32) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(now.minus(EARLY_SECONDS).seconds());
    params.not_after = epoch + Duration::from_secs(now.plus(seconds).seconds());
    params
}

/// Writes a file under a temporary name with its final mode, then gives it its name. Not synced: what is lost can be
/// made again.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CertsError> {
    let io = |source| CertsError::Io { what: "write", path: path.to_owned(), source };
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary).map_err(io)?;
    let written = file.write_all(bytes).and_then(|()| fs::rename(&temporary, path));
    written.map_err(|source| {
        // The temporary file holds a key: it goes even if nothing else works.
        let _ = fs::remove_file(&temporary);
        io(source)
    })
}

/// When a certificate (DER) ends; `None` if that cannot be read, or lies beyond the year 2106.
///
/// ```text
/// Certificate = SEQUENCE { TBSCertificate = SEQUENCE {
///   [0] version (optional), serial, algorithm, issuer, validity = SEQUENCE { notBefore, notAfter }, … } … }
/// ```
pub fn not_after(der: &[u8]) -> Option<Timestamp> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let (certificate, _) = Element::read(der)?;
    let (tbs, _) = Element::read(certificate.of(SEQUENCE)?)?;
    let mut rest = tbs.of(SEQUENCE)?;
    if rest.first() == Some(&VERSION) {
        (_, rest) = Element::read(rest)?;
    }
    // Serial, algorithm, issuer.
    for _ in 0..3 {
        (_, rest) = Element::read(rest)?;
    }
    let (validity, _) = Element::read(rest)?;
    let (_not_before, rest) = Element::read(validity.of(SEQUENCE)?)?;
    let (end, _) = Element::read(rest)?;
    end.time()
}

/// One element of DER.
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
}

impl<'a> Element<'a> {
    /// The first element of `bytes`, and what follows it.
    fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&[tag, length], mut rest) = bytes.split_first_chunk::<2>()?;
        let mut size = usize::from(length);
        if length & 0x80 != 0 {
            let digits = usize::from(length & 0x7f);
            if !(1..=4).contains(&digits) {
                return None;
            }
            let (length, after) = rest.split_at_checked(digits)?;
            size = length.iter().fold(0, |size, byte| size << 8 | usize::from(*byte));
            rest = after;
        }
        let (content, rest) = rest.split_at_checked(size)?;
        Some((Self { tag, content }, rest))
    }

    fn of(&self, tag: u8) -> Option<&'a [u8]> {
        (self.tag == tag).then_some(self.content)
    }

    /// UTCTime (`YYMMDDHHMMSSZ`) or GeneralizedTime (`YYYYMMDDHHMMSSZ`), as RFC 5280, section 4.1.2.5 has them.
    fn time(&self) -> Option<Timestamp> {
        const UTC_TIME: u8 = 0x17;
        const GENERALIZED_TIME: u8 = 0x18;
        let digits = self.content.strip_suffix(b"Z")?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let two = |at: usize| Some(i16::from(digits.get(at)? - b'0') * 10 + i16::from(digits.get(at + 1)? - b'0'));
        let (year, at) = match (self.tag, digits.len()) {
            (UTC_TIME, 12) => (two(0)? + if two(0)? < 50 { 2000 } else { 1900 }, 2),
            (GENERALIZED_TIME, 14) => (two(0)? * 100 + two(2)?, 4),
            _ => return None,
        };
        let part = |i: usize| two(at + 2 * i).and_then(|value| i8::try_from(value).ok());
        let moment = jiff::civil::DateTime::new(year, part(0)?, part(1)?, part(2)?, part(3)?, part(4)?, 0).ok()?;
        let seconds = moment.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second();
        Timestamp::from_seconds(u64::try_from(seconds).ok()?)
    }
}
