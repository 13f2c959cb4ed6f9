//! Whom to ask: a Tokenscope server on this machine, described by the `dev.json` that `tokenscope dev` writes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokenscope::client::Options;
use tokenscope::dev::file::{DevFile, Samples};

/// A server and what is needed to talk to it.
#[derive(Clone)]
pub struct Target {
    /// UDP address of the native protocol.
    pub quic: SocketAddr,
    /// TCP address of the HTTPS door.
    pub https: SocketAddr,
    /// The name in its certificate.
    pub server_name: String,
    /// The authority of all certificates, PEM.
    pub ca_pem: Vec<u8>,
    /// Who asks.
    pub asker: Caller,
    /// Who registers and revokes.
    pub changer: Caller,
    /// What the server's data was made from.
    pub samples: Samples,
    /// Where it keeps its files.
    pub directory: PathBuf,
}

/// A caller's means to say who it is.
#[derive(Clone)]
pub struct Caller {
    /// Certificate, PEM.
    pub certificate_pem: Vec<u8>,
    /// Key, PEM.
    pub key_pem: Vec<u8>,
    /// For HTTP Basic.
    pub id: String,
    /// For HTTP Basic.
    pub secret: String,
}

impl Target {
    /// The server that wrote this `dev.json`.
    ///
    /// # Errors
    /// The file cannot be read, or the server is not on this machine.
    pub fn of_dev(path: &Path) -> Result<Self, String> {
        let file = DevFile::read(path).map_err(|failure| failure.message)?;
        for address in [file.quic, file.https] {
            loopback(address)?;
        }
        let caller = |name: &str| -> Result<Caller, String> {
            let caller = file.caller(name).ok_or_else(|| format!("{}: no caller {name:?}", path.display()))?;
            Ok(Caller {
                certificate_pem: read(&caller.certificate_file)?,
                key_pem: read(&caller.key_file)?,
                id: caller.client_id.clone(),
                secret: caller.client_secret.clone(),
            })
        };
        Ok(Self {
            quic: file.quic,
            https: file.https,
            server_name: file.server_name.clone(),
            ca_pem: read(&file.ca_file)?,
            asker: caller("api")?,
            changer: caller("issuer")?,
            directory: path.parent().unwrap_or(Path::new(".")).to_owned(),
            samples: file.samples,
        })
    }

    /// Options of the client library for a caller.
    pub fn options(&self, caller: &Caller) -> Options {
        let servers = vec![(self.quic, self.server_name.clone())];
        Options::new(servers, self.ca_pem.clone(), caller.certificate_pem.clone(), caller.key_pem.clone())
    }
}

/// Reads a file.
///
/// # Errors
/// It cannot be read; the text names it.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Load is only ever put on this machine.
///
/// # Errors
/// The address is not one of this machine's own.
pub fn loopback(address: SocketAddr) -> Result<SocketAddr, String> {
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err(format!("{address} is not a loopback address, and load is only ever put on this machine"))
    }
}
