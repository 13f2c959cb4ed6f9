//! One TOML file becomes each room's options.
//!
//! ```text
//! file ──Config::load──► Config ──Config::check──► Checked (certificates read, pairs match)
//!                          └──callers()──► who may do what
//! ```
//!
//! Everything that can be wrong with a configuration is said before anything is bound: an unknown key with its line,
//! column and the key that was probably meant; a bad value where it stands; two keys that contradict each other by
//! name. Nothing is guessed: a number without a unit is an error, a switch that would weaken the service does not
//! exist. Secrets are not in the file, only their SHA-256 and the paths of key files.
//!
//! Which way it falls: any error refuses the whole file. On reload that keeps the old configuration in force.

// What is wrong with a configuration.
pub mod error;
// Every limit, in one table.
pub mod limits;
// Certificates and keys, read and checked.
pub mod material;
mod parse;
mod print;
// Durations and sizes as words.
pub mod words;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use crate::domain::mint::TokenPrefix;
use crate::domain::{Audience, Timestamp};
use crate::secrets::Secrets;
use crate::server::Wait;
use crate::server::credentials::{Callers, CredentialsOf};
use crate::service::caller::{AskRight, Caller, Only, RevokeRight, Rights};
pub use error::ConfigError;
pub use limits::Limits;
pub use material::Material;
pub use parse::CallerName;

/// A configuration that was read without an error. Paths are absolute or relative to the working directory, no longer
/// to the file.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the file was; empty for a configuration that was made otherwise.
    #[serde(skip)]
    pub path: PathBuf,
    /// `[server]`.
    pub server: Server,
    /// `[tls]`.
    pub tls: Tls,
    /// `[keys]`.
    #[serde(default)]
    pub keys: Keys,
    /// `[limits]`.
    #[serde(default)]
    pub limits: Limits,
    /// `[log]`.
    #[serde(default)]
    pub log: Log,
    /// `[snapshot]`.
    #[serde(default)]
    pub snapshot: Snapshot,
    /// `[[caller]]`, in the order of the file.
    #[serde(default, rename = "caller")]
    pub callers: Vec<CallerEntry>,
}

/// Addresses, names and the shutdown.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// The directory of journal, snapshots and secrets; made if it is not there.
    #[serde(deserialize_with = "parse::path")]
    pub data_dir: PathBuf,
    /// UDP address of the native protocol.
    #[serde(default = "default_door", deserialize_with = "parse::address")]
    pub quic_address: SocketAddr,
    /// TCP address of RFC 7662 and the admin API. May have the same port as QUIC.
    #[serde(default = "default_door", deserialize_with = "parse::address")]
    pub https_address: SocketAddr,
    /// TCP address of `/metrics`, `/livez` and `/readyz`: plain HTTP, no credentials, so keep it private.
    #[serde(default = "default_admin", deserialize_with = "parse::address")]
    pub admin_address: SocketAddr,
    /// The issuer, `iss`: an https URL without query and fragment (RFC 8414, section 2), kept byte for byte.
    #[serde(deserialize_with = "parse::https_url")]
    pub issuer: String,
    /// Where callers reach the HTTPS door, if that is not the issuer.
    #[serde(default, deserialize_with = "parse::some_https_url")]
    pub base_url: Option<String>,
    /// What minted tokens begin with.
    #[serde(default = "default_prefix", deserialize_with = "parse::prefix")]
    pub token_prefix: TokenPrefix,
    /// The audience of grants that name none. Empty in the file means: the issuer.
    #[serde(default, deserialize_with = "parse::audiences")]
    pub default_audience: Vec<Audience>,
    /// What the answer to a revocation by RFC 7009 waits for: `applied`, `durable` or `fenced`. The RFC has no way to say
    /// so in the request; everywhere else the request says it.
    #[serde(default, deserialize_with = "parse::wait")]
    pub revocation_wait: Wait,
    /// How long a shutdown waits between "not ready" and closing the doors to new work, so that balancers notice.
    #[serde(default = "default_drain_wait", deserialize_with = "parse::duration")]
    pub drain_wait: Duration,
    /// How long a shutdown waits for work in flight after that.
    #[serde(default = "default_drain_deadline", deserialize_with = "parse::duration")]
    pub drain_deadline: Duration,
}

/// Certificates of both doors.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The server's certificate chain, PEM.
    #[serde(deserialize_with = "parse::path")]
    pub certificate: PathBuf,
    /// Its private key, PEM.
    #[serde(deserialize_with = "parse::path")]
    pub key: PathBuf,
    /// The authorities that sign callers' certificates, PEM. QUIC admits nobody else; HTTPS also knows secrets.
    #[serde(deserialize_with = "parse::path")]
    pub client_ca: PathBuf,
}

/// Where our own keys are.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// The secrets file; `None` means `secrets` in the data directory.
    #[serde(default, deserialize_with = "parse::some_path")]
    pub secrets: Option<PathBuf>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Pretty on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Pretty,
    /// For machines.
    Json,
}

/// What is logged.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// A filter as `info` or `tokenscope=debug,warn`. The environment variable `TOKENSCOPE_LOG` wins.
    pub filter: String,
    /// How lines look.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::Auto }
    }
}

/// Snapshots while serving.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Snapshot {
    /// From the end of one to the beginning of the next.
    #[serde(deserialize_with = "parse::duration")]
    pub interval: Duration,
    /// How many are kept: at least two, so that a damaged one has a predecessor.
    pub keep: u32,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self { interval: Duration::from_secs(900), keep: 2 }
    }
}

/// Everything, or the things named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// `"all"`.
    All,
    /// `["one", "another"]`; never empty.
    These(Vec<String>),
}

impl Names {
    fn only(&self) -> Only<String> {
        match self {
            Self::All => Only::All,
            Self::These(names) => Only::These(names.iter().cloned().collect()),
        }
    }
}

/// The right to ask, as written.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// Tokens for these resource servers.
    #[serde(deserialize_with = "parse::all_or_audiences")]
    pub audiences: Names,
    /// Places in these workspaces.
    #[serde(deserialize_with = "parse::all_or_workspaces")]
    pub workspaces: Names,
}

/// One `[[caller]]`: who it is, how it shows that, and what it may do.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct CallerEntry {
    /// Its name: the user name of HTTP Basic, and what the journal notes beside its changes.
    pub name: Spanned<CallerName>,
    /// A DNS name in a certificate the client CA signed.
    #[serde(default, deserialize_with = "parse::some_dns_name")]
    pub certificate_name: Option<String>,
    /// SHA-256 of one certificate (DER).
    #[serde(default, deserialize_with = "parse::some_sha256")]
    pub certificate_sha256: Option<[u8; 32]>,
    /// SHA-256 of the client secret.
    #[serde(default, deserialize_with = "parse::some_sha256")]
    pub secret_sha256: Option<[u8; 32]>,
    /// SHA-256 of a bearer token.
    #[serde(default, deserialize_with = "parse::some_sha256")]
    pub bearer_sha256: Option<[u8; 32]>,
    /// Introspect and check.
    #[serde(default)]
    pub ask: Option<Ask>,
    /// Make, extend and narrow grants, register and mint tokens.
    #[serde(default)]
    pub issue: bool,
    /// Revoke.
    #[serde(default, deserialize_with = "parse::some_revoke")]
    pub revoke: Option<RevokeRight>,
    /// Change members and app policies of these workspaces.
    #[serde(default, deserialize_with = "parse::some_workspaces")]
    pub administer: Option<Names>,
    /// Define scopes and clients.
    #[serde(default)]
    pub define: bool,
    /// Look behind the answers, take snapshots.
    #[serde(default)]
    pub operate: bool,
}

impl CallerEntry {
    /// Its name.
    pub fn name(&self) -> &str {
        self.name.as_ref().0.as_str()
    }

    fn rights(&self) -> Rights {
        let ask = |ask: &Ask| AskRight { audiences: ask.audiences.only(), workspaces: ask.workspaces.only() };
        Rights {
            ask: self.ask.as_ref().map(ask),
            issue: self.issue,
            revoke: self.revoke.clone(),
            administer: self.administer.as_ref().map(Names::only),
            define: self.define,
            operate: self.operate,
        }
    }

    fn credentials(&self) -> CredentialsOf {
        CredentialsOf {
            certificate_name: self.certificate_name.clone(),
            certificate_sha256: self.certificate_sha256,
            secret_sha256: self.secret_sha256,
            bearer_sha256: self.bearer_sha256,
        }
    }
}

fn default_door() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7662))
}

fn default_admin() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7663))
}

#[expect(clippy::expect_used, reason = "a constant, and a test reads the default")]
fn default_prefix() -> TokenPrefix {
    TokenPrefix::parse("tks").expect("tks is three lower-case letters")
}

fn default_drain_wait() -> Duration {
    Duration::from_secs(1)
}

fn default_drain_deadline() -> Duration {
    Duration::from_secs(30)
}

/// What [`Config::check`] found: all that `serve` needs before it binds anything.
#[derive(Debug)]
pub struct Checked {
    /// The certificates, read and matched.
    pub material: Material,
    /// What is allowed and probably not meant, in sentences.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads and parses the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError`] names the file, the place in it, the key, and what to write instead.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Parses `text` as if it were the file at `path`: relative paths in it are taken from that file's directory.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let parsed = toml::from_str::<Self>(text);
        let mut config = parsed.map_err(|e| error::of_toml(path, text, &e))?;
        config.path = path.to_owned();
        config.make_paths_absolute(path.parent().unwrap_or(Path::new("")));
        if config.server.default_audience.is_empty() {
            let audience = Audience::parse(&config.server.issuer).map_err(|e| {
                error::wrong(path, text, "server.issuer", &format!("cannot be the default audience: {e}"))
            })?;
            config.server.default_audience.push(audience);
        }
        config.agrees_with_itself().map_err(|conflict| match conflict.line_of {
            Some(at) => error::wrong_at(path, text, at, &conflict.key, &conflict.what),
            None => error::wrong(path, text, &conflict.key, &conflict.what),
        })?;
        Ok(config)
    }

    fn make_paths_absolute(&mut self, base: &Path) {
        let Self { server, tls, keys, .. } = self;
        let paths = [&mut server.data_dir, &mut tls.certificate, &mut tls.key, &mut tls.client_ca];
        for path in paths.into_iter().chain(keys.secrets.as_mut()) {
            if path.is_relative() {
                *path = base.join(&path);
            }
        }
    }

    /// The secrets file.
    pub fn secrets_path(&self) -> PathBuf {
        self.keys.secrets.clone().unwrap_or_else(|| self.server.data_dir.join("secrets"))
    }

    /// Where callers reach the HTTPS door: `base_url`, or the issuer; without a slash at its end.
    pub fn base_url(&self) -> &str {
        self.server.base_url.as_deref().unwrap_or(&self.server.issuer).trim_end_matches('/')
    }

    /// The callers with their credentials and rights.
    pub fn callers(&self) -> Callers {
        let caller = |entry: &CallerEntry| {
            let id = entry.name.as_ref().0.clone();
            (Caller { id, rights: entry.rights() }, entry.credentials())
        };
        Callers::new(self.callers.iter().map(caller).collect())
    }

    /// Does what `serve` does before it binds anything, and nothing else: reads the certificates, checks that key and
    /// certificate are a pair, reads the secrets if they are there. Changes nothing on disk.
    ///
    /// # Errors
    /// A file is missing, unreadable, no PEM, or does not match.
    pub fn check(&self, now: Timestamp) -> Result<Checked, ConfigError> {
        let material = Material::read(&self.tls)?;
        tracing_subscriber::EnvFilter::builder()
            .parse(&self.log.filter)
            .map_err(|e| self.wrong("log.filter", &format!("`{}` is no filter: {e}", self.log.filter)))?;
        let data_dir = &self.server.data_dir;
        if data_dir.exists() && !data_dir.is_dir() {
            let what = format!("{} is not a directory", data_dir.display());
            return Err(self.wrong("server.data_dir", &what));
        }
        let secrets = self.secrets_path();
        if secrets.exists() {
            Secrets::open(&secrets).map_err(|e| self.wrong("keys.secrets", &e.to_string()))?;
        }
        let mut warnings = self.odd();
        if material.not_after.is_some_and(|end| end <= now) {
            warnings.push(format!(
                "the certificate {} has expired; callers will refuse it",
                self.tls.certificate.display()
            ));
        }
        Ok(Checked { material, warnings })
    }

    /// What a change from `self` to `new` would need a restart for, by key.
    pub fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
        let (old, then) = (&self.server, &new.server);
        let all = [
            ("server.data_dir", old.data_dir != then.data_dir),
            ("server.quic_address", old.quic_address != then.quic_address),
            ("server.https_address", old.https_address != then.https_address),
            ("server.admin_address", old.admin_address != then.admin_address),
            ("server.issuer", old.issuer != then.issuer),
            ("server.base_url", old.base_url != then.base_url),
            ("server.token_prefix", old.token_prefix != then.token_prefix),
            ("server.default_audience", old.default_audience != then.default_audience),
            ("server.revocation_wait", old.revocation_wait != then.revocation_wait),
            ("server.drain_wait", old.drain_wait != then.drain_wait),
            ("server.drain_deadline", old.drain_deadline != then.drain_deadline),
            ("keys.secrets", self.secrets_path() != new.secrets_path()),
            ("limits", self.limits != new.limits),
            ("log", self.log != new.log),
            ("snapshot", self.snapshot != new.snapshot),
        ];
        all.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect()
    }

    fn wrong(&self, key: &str, what: &str) -> ConfigError {
        ConfigError::Wrong { path: self.path.clone(), at: None, key: key.to_owned(), what: what.to_owned() }
    }

    /// What is allowed and probably not meant.
    fn odd(&self) -> Vec<String> {
        let mut odd = Vec::new();
        for entry in &self.callers {
            if entry.rights() == Rights::default() {
                odd.push(format!("caller {} has no rights: everything it asks for is refused", entry.name()));
            }
        }
        if self.callers.is_empty() {
            odd.push("there are no callers: nobody can ask or change anything".to_owned());
        }
        if !self.server.admin_address.ip().is_loopback() {
            let address = self.server.admin_address;
            odd.push(format!(
                "server.admin_address {address} is not loopback, and the admin listener asks for no credentials"
            ));
        }
        odd
    }

    /// Keys that are sound alone and wrong together.
    fn agrees_with_itself(&self) -> Result<(), Conflict> {
        let (server, limits) = (&self.server, &self.limits);
        let key = |key: &str, what: String| Err(Conflict { key: key.to_owned(), what, line_of: None });
        if same_socket(server.https_address, server.admin_address) {
            let address = server.admin_address;
            return key("server.admin_address", format!("{address} is already the address of server.https_address"));
        }
        if self.snapshot.keep < 2 {
            return key("snapshot.keep", "must be at least 2, so that a damaged snapshot has a predecessor".to_owned());
        }
        if self.snapshot.interval < Duration::from_secs(1) {
            return key("snapshot.interval", "must be at least 1s".to_owned());
        }
        if server.drain_wait > Duration::from_secs(300) || server.drain_deadline > Duration::from_secs(3_600) {
            return key("server.drain_deadline", "drain_wait is at most 5m and drain_deadline at most 1h".to_owned());
        }
        if limits.quic_receive_window_bytes < limits.quic_stream_window_bytes {
            let what = "must be at least limits.quic_stream_window_bytes".to_owned();
            return key("limits.quic_receive_window_bytes", what);
        }
        self.callers.iter().enumerate().try_for_each(|(i, entry)| self.caller_is_sound(i, entry))
    }

    fn caller_is_sound(&self, i: usize, entry: &CallerEntry) -> Result<(), Conflict> {
        let name = entry.name();
        let wrong = |field: &str, what: String| {
            Err(Conflict { key: format!("caller.{field}"), what, line_of: Some(entry.name.span().start) })
        };
        let shows = [
            entry.certificate_name.is_some(),
            entry.certificate_sha256.is_some(),
            entry.secret_sha256.is_some(),
            entry.bearer_sha256.is_some(),
        ];
        if !shows.contains(&true) {
            return wrong(
                "name",
                format!(
                    "{name} has no credentials; give certificate_name, certificate_sha256, secret_sha256 or bearer_sha256"
                ),
            );
        }
        for other in self.callers.iter().take(i) {
            let both = |field: &str| format!("{name} and {} have the same {field}: who is it?", other.name());
            if other.name() == name {
                return wrong("name", format!("there are two callers with the name {name}"));
            }
            let certificate = entry.certificate_name.as_ref().map(|name| name.to_ascii_lowercase());
            if certificate.is_some() && certificate == other.certificate_name.as_ref().map(|n| n.to_ascii_lowercase()) {
                return wrong("certificate_name", both("certificate_name"));
            }
            if entry.certificate_sha256.is_some() && entry.certificate_sha256 == other.certificate_sha256 {
                return wrong("certificate_sha256", both("certificate_sha256"));
            }
            if entry.bearer_sha256.is_some() && entry.bearer_sha256 == other.bearer_sha256 {
                return wrong("bearer_sha256", both("bearer_sha256"));
            }
        }
        Ok(())
    }
}

/// Two keys that contradict each other.
struct Conflict {
    key: String,
    what: String,
    /// Where it stands in the text, if it is known.
    line_of: Option<usize>,
}

/// Whether two TCP listeners cannot both be bound. A wildcard address takes the port of every address of its family;
/// `[::]` takes IPv4's too on a dual-stack host. Port 0 is a free port and never the same.
fn same_socket(a: SocketAddr, b: SocketAddr) -> bool {
    let covers =
        |wide: SocketAddr, narrow: SocketAddr| wide.ip().is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4());
    a.port() != 0 && a.port() == b.port() && (a.ip() == b.ip() || covers(a, b) || covers(b, a))
}
