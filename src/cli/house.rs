//! The real rooms behind the command line.
//!
//! One method a room; each is a translation of a few lines and decides nothing.

use std::io::Write;
use std::path::Path;

use serde_json::Value;

use super::Failure;
use super::files::not_built;
use super::remote::{Api, Connection};
use super::rooms::{Depth, LimitRow, OfflineStore, Rooms, Running};
use crate::domain::Timestamp;

/// This program's own rooms.
pub struct House;

impl Rooms for House {
    fn connect(&self, _to: &Connection) -> Result<Box<dyn Api>, Failure> {
        Err(not_built("the client library"))
    }

    fn serve(&self, _config: &Path) -> Result<(), Failure> {
        Err(not_built("the server"))
    }

    fn start(&self, _config: &Path) -> Result<Box<dyn Running>, Failure> {
        Err(not_built("the server"))
    }

    fn check_config(&self, _config: &Path) -> Result<Vec<String>, Failure> {
        Err(not_built("the configuration"))
    }

    fn default_config(&self) -> String {
        String::new()
    }

    fn limits(&self) -> Vec<LimitRow> {
        Vec::new()
    }

    fn open_for_import(&self, _config: &Path) -> Result<Box<dyn OfflineStore>, Failure> {
        Err(not_built("the store"))
    }

    fn export(&self, _config: &Path, _out: &mut dyn Write) -> Result<(), Failure> {
        Err(not_built("the store"))
    }

    fn snapshot_create(&self, _config: &Path) -> Result<Value, Failure> {
        Err(not_built("the store"))
    }

    fn snapshot_look(&self, _config: &Path, _file: &Path, _depth: Depth) -> Result<Value, Failure> {
        Err(not_built("the snapshot"))
    }

    fn journal_look(&self, _config: &Path, _depth: Depth) -> Result<Value, Failure> {
        Err(not_built("the journal"))
    }

    fn make_certificates(&self, _directory: &Path, _callers: &[&str], _now: Timestamp) -> Result<(), Failure> {
        Err(not_built("the certificates"))
    }
}
