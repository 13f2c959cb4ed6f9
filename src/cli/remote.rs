//! How a running server is reached: the options and variables that say so, and the one call everything goes through.

use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use serde_json::Value;

use super::{Failure, show};
use crate::dev::file::DevFile;
use crate::domain::TokenDigest;

/// A call of the admin API (`/v1/…`), whichever way it travels.
pub trait Api {
    /// Sends `body` (JSON, or nothing) and waits: the status and the body of the answer.
    ///
    /// # Errors
    /// No answer came.
    fn call(&self, method: &str, path: &str, body: &[u8]) -> Result<(u16, Vec<u8>), Failure>;

    /// Gets `path`.
    ///
    /// # Errors
    /// No answer, or one that is an error.
    fn get(&self, path: &str) -> Result<Value, Failure> {
        self.ask("GET", path, None)
    }

    /// Posts `body` to `path`.
    ///
    /// # Errors
    /// As [`Api::get`].
    fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.ask("POST", path, Some(body))
    }

    /// Calls and reads the answer.
    ///
    /// # Errors
    /// As [`Api::get`].
    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let (status, answer) = self.call(method, path, body.as_bytes())?;
        let answer: Value = serde_json::from_slice(&answer)
            .map_err(|error| Failure::run_time(format!("the server's answer ({status}) is not JSON: {error}")))?;
        if (200..300).contains(&status) {
            return Ok(answer);
        }
        let (code, message) = (show::text(&answer, "error"), show::text(&answer, "message"));
        Err(Failure::run_time(format!("the server says {code} ({status}): {message}")))
    }

    /// One check. By default a call of `/v1/check`; the native client asks with the protocol's own message instead.
    /// The answer has the members `active`, and if it is, `allowed`, and if not, `reason` and `explanation`.
    ///
    /// # Errors
    /// No verdict.
    fn check(&self, token: &TokenDigest, scope: &str, place: &str) -> Result<Value, Failure> {
        let question = serde_json::json!({ "sha256": token.to_hex(), "scope": scope, "place": place });
        let answer = self.post("/v1/check", &serde_json::json!({ "questions": [question] }))?;
        Ok(answer["decisions"][0].clone())
    }
}

/// One part of a path, percent-encoded; a place keeps its `/` as `%2F`.
pub fn part(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

/// Everything that is needed to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Where the server listens.
    pub addresses: Vec<SocketAddr>,
    /// The name its certificate has to be good for.
    pub server_name: String,
    /// The authority that signed it, PEM.
    pub ca: PathBuf,
    /// Our certificate, PEM.
    pub certificate: PathBuf,
    /// Our key, PEM.
    pub key: PathBuf,
}

/// The options that say which server, and as whom.
#[derive(clap::Args, Debug, Default, Clone)]
#[command(next_help_heading = "Which server, and as whom")]
pub struct Reach {
    /// The dev.json of a development server [env: TOKENSCOPE_DEV].
    #[arg(long, global = true, value_name = "FILE", conflicts_with_all = ["server", "ca", "cert", "key", "server_name"])]
    dev: Option<PathBuf>,
    /// Which caller of that file to be; its default caller may do everything [env: TOKENSCOPE_AS].
    #[arg(long = "as", global = true, value_name = "NAME")]
    caller: Option<String>,
    /// Address and port of the native protocol [env: TOKENSCOPE_SERVER].
    #[arg(long, global = true, value_name = "HOST:PORT")]
    server: Option<String>,
    /// The name in the server's certificate, if it is not the host [env: TOKENSCOPE_SERVER_NAME].
    #[arg(long, global = true, value_name = "NAME")]
    server_name: Option<String>,
    /// The authority that signed the server's certificate, PEM [env: TOKENSCOPE_CA].
    #[arg(long, global = true, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Your certificate, PEM [env: TOKENSCOPE_CERT].
    #[arg(long, global = true, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Your key, PEM [env: TOKENSCOPE_KEY].
    #[arg(long, global = true, value_name = "FILE")]
    key: Option<PathBuf>,
}

impl Reach {
    /// Puts options and variables together; an option wins over its variable, and `--server` over TOKENSCOPE_DEV.
    ///
    /// # Errors
    /// Something is missing or cannot be read.
    pub fn resolve(&self, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Connection, Failure> {
        // A variable that is set to nothing is not set.
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let path = |option: &Option<PathBuf>, name: &str| option.clone().or_else(|| env(name).map(PathBuf::from));
        let word = |option: &Option<String>, name: &str| {
            option.clone().or_else(|| env(name).map(|value| value.to_string_lossy().into_owned()))
        };
        let by_hand = self.server.is_some() || self.ca.is_some() || self.cert.is_some() || self.key.is_some();
        if let Some(file) = path(&self.dev, "TOKENSCOPE_DEV").filter(|_| !by_hand) {
            return DevFile::read(&file)?.connection(word(&self.caller, "TOKENSCOPE_AS").as_deref());
        }
        let missing = |what: &str| {
            Failure::usage(format!(
                "no {what}; name a development server with --dev FILE, or a server with --server, --ca, --cert and \
                 --key (or the variables TOKENSCOPE_DEV, TOKENSCOPE_SERVER, TOKENSCOPE_CA, …)"
            ))
        };
        let server = word(&self.server, "TOKENSCOPE_SERVER").ok_or_else(|| missing("--server"))?;
        let host = server.rsplit_once(':').map_or(server.as_str(), |(host, _)| host).trim_matches(['[', ']']);
        let addresses: Vec<SocketAddr> = server
            .to_socket_addrs()
            .map_err(|error| Failure::usage(format!("--server {server}: {error}; write HOST:PORT")))?
            .collect();
        if addresses.is_empty() {
            return Err(Failure::usage(format!("--server {server}: the name has no address")));
        }
        Ok(Connection {
            addresses,
            server_name: word(&self.server_name, "TOKENSCOPE_SERVER_NAME").unwrap_or_else(|| host.to_owned()),
            ca: path(&self.ca, "TOKENSCOPE_CA").ok_or_else(|| missing("--ca"))?,
            certificate: path(&self.cert, "TOKENSCOPE_CERT").ok_or_else(|| missing("--cert"))?,
            key: path(&self.key, "TOKENSCOPE_KEY").ok_or_else(|| missing("--key"))?,
        })
    }
}
