//! What the command line needs of the rooms below, in one trait, so that it can be tested without them.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;

use super::Failure;
use super::remote::{Api, Connection};
use crate::domain::Timestamp;
use crate::import::ImportSink;

/// The rooms below.
pub trait Rooms {
    /// Connects to a running server by the native protocol.
    ///
    /// # Errors
    /// It cannot be reached, or does not let us in.
    fn connect(&self, to: &Connection) -> Result<Box<dyn Api>, Failure>;

    /// Serves until it is told to stop.
    ///
    /// # Errors
    /// The configuration is wrong, or the server failed.
    fn serve(&self, config: &Path) -> Result<(), Failure>;

    /// Starts a server in this process.
    ///
    /// # Errors
    /// As [`Rooms::serve`].
    fn start(&self, config: &Path) -> Result<Box<dyn Running>, Failure>;

    /// Does what `serve` does before it binds anything; the warnings, in sentences.
    ///
    /// # Errors
    /// The configuration is wrong.
    fn check_config(&self, config: &Path) -> Result<Vec<String>, Failure>;

    /// A sample configuration with every key explained.
    fn default_config(&self) -> String;

    /// Every limit.
    fn limits(&self) -> Vec<LimitRow>;

    /// Opens a data directory that no server has open, for an import.
    ///
    /// # Errors
    /// Somebody has it open, or it cannot be recovered.
    fn open_for_import(&self, config: &Path) -> Result<Box<dyn OfflineStore>, Failure>;

    /// Writes everything that is alive in the import format, from a data directory that no server has open.
    ///
    /// # Errors
    /// As [`Rooms::open_for_import`], or `out` failed.
    fn export(&self, config: &Path, out: &mut dyn Write) -> Result<(), Failure>;

    /// Makes a snapshot of a data directory that no server has open; what was written.
    ///
    /// # Errors
    /// As [`Rooms::open_for_import`].
    fn snapshot_create(&self, config: &Path) -> Result<Value, Failure>;

    /// Reads a snapshot's header, or (`Depth::Whole`) checks every byte of it. What was found, as one flat object.
    ///
    /// # Errors
    /// It is unreadable or damaged; the message says where.
    fn snapshot_look(&self, config: &Path, file: &Path, depth: Depth) -> Result<Value, Failure>;

    /// Reads where the journal stands, or (`Depth::Whole`) checks every entry's place in the chain.
    ///
    /// # Errors
    /// It is unreadable or damaged; the message says where.
    fn journal_look(&self, config: &Path, depth: Depth) -> Result<Value, Failure>;

    /// Begins a new epoch in a data directory that no server has open, or says what it would be; what was done, as one
    /// flat object.
    ///
    /// # Errors
    /// As [`Rooms::open_for_import`], or the disk failed.
    fn new_epoch(&self, config: &Path, voids: Voids, dry_run: bool) -> Result<Value, Failure>;

    /// Makes new MAC keys in a data directory that no server has open; the answer of the API.
    ///
    /// # Errors
    /// As [`Rooms::open_for_import`], or too many generations are kept.
    fn keys_rotate(&self, config: &Path) -> Result<Value, Failure>;

    /// The generations in the secrets file: numbers and places, no keys.
    ///
    /// # Errors
    /// The file cannot be used.
    fn keys_show(&self, config: &Path) -> Result<Value, Failure>;

    /// Makes `ca.pem`, and `server.pem`/`.key` and a `NAME.pem`/`.key` for every caller, in `directory`: for
    /// development only. An authority that is there already is kept.
    ///
    /// # Errors
    /// A file cannot be written.
    fn make_certificates(&self, directory: &Path, callers: &[&str], now: Timestamp) -> Result<(), Failure>;
}

/// What becomes of tokens that may have been revoked in a stretch that is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Voids {
    /// Void, if issued before this moment, in seconds since 1970.
    IssuedBefore(u64),
    /// Void, if issued before now.
    IssuedBeforeNow,
    /// Nothing: there was nothing to lose.
    Nothing,
}

/// How closely to look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Depth {
    /// At the header.
    Header,
    /// At everything.
    Whole,
}

/// A store that nobody else has open.
pub trait OfflineStore: ImportSink {
    /// This store as what an import writes to.
    fn sink(&mut self) -> &mut dyn ImportSink;

    /// Writes a snapshot, so that the next start is quick, and closes.
    ///
    /// # Errors
    /// A sentence; what was committed is durable all the same.
    fn finish(self: Box<Self>) -> Result<(), String>;
}

/// A server in this process.
pub trait Running {
    /// Where it listens: QUIC, HTTPS, admin.
    fn addresses(&self) -> Addresses;

    /// Waits until it was told to stop and has stopped.
    ///
    /// # Errors
    /// It failed.
    fn wait(self: Box<Self>) -> Result<(), Failure>;
}

/// Where a server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The native protocol, UDP.
    pub quic: SocketAddr,
    /// RFC 7662 and the admin API, TCP with TLS.
    pub https: SocketAddr,
    /// Metrics and health, plain TCP.
    pub admin: SocketAddr,
}

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LimitRow {
    /// Its key in the section `[limits]`.
    pub key: String,
    /// What holds if the key is not given, as it is written in the file.
    pub default: String,
    /// The smallest value.
    pub least: String,
    /// The largest value.
    pub most: String,
    /// What it bounds, and why.
    pub reason: String,
}
