//! `dev.json`: everything one needs to talk to a development server, in one file (mode 0600: it has secrets).

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cli::Failure;
use crate::cli::remote::Connection;
use crate::domain::{Timestamp, TokenDigest};
use crate::samples::story::Sample;

/// The whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DevFile {
    /// Address and UDP port of the native protocol.
    pub quic: SocketAddr,
    /// Address and TCP port of RFC 7662, RFC 7009 and the admin API (TLS).
    pub https: SocketAddr,
    /// The same as a URL.
    pub https_url: String,
    /// Address and TCP port of /metrics, /livez and /readyz (plain HTTP).
    pub admin: SocketAddr,
    /// The name in the server's certificate.
    pub server_name: String,
    /// The authority that signed all certificates, PEM.
    pub ca_file: PathBuf,
    /// The configuration the server runs with.
    pub config_file: PathBuf,
    /// Who a command is when `--as` does not say.
    pub default_caller: String,
    /// Everybody the server knows.
    pub callers: Vec<DevCaller>,
    /// Tokens to try, with what to expect of each as long as nothing was changed.
    pub tokens: Vec<DevToken>,
    /// What the sample data was made from.
    pub samples: Samples,
}

/// A caller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DevCaller {
    /// Its name.
    pub name: String,
    /// What it may do, in the words of the configuration.
    pub roles: Vec<String>,
    /// Its certificate, PEM.
    pub certificate_file: PathBuf,
    /// Its key, PEM.
    pub key_file: PathBuf,
    /// Its name for HTTP Basic.
    pub client_id: String,
    /// Its secret for HTTP Basic.
    pub client_secret: String,
}

/// A token to try.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DevToken {
    /// What the story calls it.
    pub name: String,
    /// What it shows.
    pub about: String,
    /// The token.
    pub token: String,
    /// SHA-256 of it, hex: what the native protocol and the JSON API take instead.
    pub sha256: String,
    /// Whose; not there if nobody knows the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// For which app.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// What introspection says.
    pub active: bool,
    /// What checks say.
    pub checks: Vec<DevCheck>,
}

/// A check and its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DevCheck {
    /// The scope asked about.
    pub scope: String,
    /// The place asked about.
    pub place: String,
    /// `allowed`, or the reason why not.
    pub expect: String,
}

/// What the sample data was made from: the same again gives the same again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Samples {
    /// The seed. Whoever knows it can compute every sample token.
    pub seed: u64,
    /// How many tokens beside the story's.
    pub tokens: u64,
    /// The moment it was made for, in seconds since 1970.
    pub made_at: u32,
    /// Whether all of it is in.
    pub loaded: bool,
}

impl Samples {
    /// The moment it was made for.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_raw(self.made_at)
    }
}

impl DevFile {
    /// Reads the file.
    ///
    /// # Errors
    /// It cannot be read or is something else.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let failed = |what: String| Failure::run_time(format!("{}: {what}", path.display()));
        let text = fs::read(path).map_err(|error| failed(format!("{error}; is `tokenscope dev` running?")))?;
        serde_json::from_slice(&text).map_err(|error| failed(format!("not a dev.json of this version: {error}")))
    }

    /// Writes the file whole: beside its place first, then into it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::run_time(format!("{}: {error}", path.display()));
        let text = serde_json::to_string_pretty(self).map_err(|error| failed(error.into()))?;
        let beside = path.with_extension("json.new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside).map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.write_all(b"\n")).map_err(failed)?;
        fs::rename(&beside, path).map_err(failed)
    }

    /// The caller with this name.
    pub fn caller(&self, name: &str) -> Option<&DevCaller> {
        self.callers.iter().find(|caller| caller.name == name)
    }

    /// How to connect as `name`, or as the default caller.
    ///
    /// # Errors
    /// There is no such caller.
    pub fn connection(&self, name: Option<&str>) -> Result<Connection, Failure> {
        let name = name.unwrap_or(&self.default_caller);
        let caller = self.caller(name).ok_or_else(|| {
            let known: Vec<&str> = self.callers.iter().map(|caller| caller.name.as_str()).collect();
            Failure::usage(format!("no caller {name:?} in this dev.json; it has {}", known.join(", ")))
        })?;
        Ok(Connection {
            addresses: vec![self.quic],
            server_name: self.server_name.clone(),
            ca: self.ca_file.clone(),
            certificate: caller.certificate_file.clone(),
            key: caller.key_file.clone(),
        })
    }
}

/// The story's tokens, and one that nobody knows.
pub fn tokens(samples: &[Sample]) -> Vec<DevToken> {
    let known = samples.iter().map(|sample| DevToken {
        name: sample.name.into(),
        about: sample.about.into(),
        token: sample.token.clone(),
        sha256: TokenDigest::of(sample.token.as_bytes()).to_hex(),
        subject: Some(sample.subject.into()),
        client_id: Some(sample.client.into()),
        active: sample.active,
        checks: sample
            .checks
            .iter()
            .map(|check| DevCheck {
                scope: check.scope.into(),
                place: check.place.into(),
                expect: check.expect.map_or_else(|denial| denial.as_str().to_owned(), |()| "allowed".into()),
            })
            .collect(),
    });
    let stranger = "unknown-token-0123456789";
    let unknown = DevToken {
        name: "unknown".into(),
        about: "no such token: exactly {\"active\":false}".into(),
        token: stranger.into(),
        sha256: TokenDigest::of(stranger.as_bytes()).to_hex(),
        subject: None,
        client_id: None,
        active: false,
        checks: Vec::new(),
    };
    known.chain([unknown]).collect()
}
