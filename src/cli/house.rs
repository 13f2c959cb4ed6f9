//! The real rooms behind the command line.
//!
//! One method a room; each is a translation of a few lines and decides nothing.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tokio::runtime::{Builder, Runtime};

use super::export::export;
use super::remote::{Api, Connection};
use super::rooms::{Addresses, Depth, LimitRow, OfflineStore, Rooms, Running, Voids};
use super::{Failure, RUN_TIME};
use crate::certs::{Authority, LOCAL_NAMES};
use crate::client::{Client, Decision, Error, Options};
use crate::clock::Clock;
use crate::config::limits::ROWS;
use crate::config::{Config, Log};
use crate::daemon::epoch::{self, Lost};
use crate::daemon::offline::{self, Offline};
use crate::daemon::store::{journal_options, open_store};
use crate::daemon::{self, Daemon, Exit, StartError, StoreControl, signals};
use crate::disk::DataDir;
use crate::domain::{Sequence, Timestamp, TokenDigest};
use crate::import::ImportSink;
use crate::journal::{Journal, RedbJournal, Survey};
use crate::secrets::Secrets;
use crate::server::stats::Door;
use crate::snapshot;
use crate::store::JOURNAL_NAME;

/// This program's own rooms.
pub struct House;

fn load(config: &Path) -> Result<Config, Failure> {
    Config::load(config).map_err(|error| Failure::configuration(error.to_string()))
}

fn start_failed(error: StartError) -> Failure {
    Failure { code: error.exit().code(), message: error.to_string() }
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::run_time(error.to_string())
}

/// A runtime with a thread of its own, so that the connection is kept alive between two calls.
fn runtime() -> Result<Runtime, Failure> {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(failed)
}

impl Rooms for House {
    fn connect(&self, to: &Connection) -> Result<Box<dyn Api>, Failure> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|error| Failure::run_time(format!("{}: {error}", path.display())))
        };
        let servers = to.addresses.iter().map(|address| (*address, to.server_name.clone())).collect();
        let mut options = Options::new(servers, read(&to.ca)?, read(&to.certificate)?, read(&to.key)?);
        // One person, one question: a second connection would only cost a handshake.
        options.connections = 1;
        options.deadline = options.change_deadline;
        // A fenced change takes up to a lease longer, and no lease is longer than a minute.
        options.change_deadline += Duration::from_secs(60);
        let runtime = runtime()?;
        let client = runtime.block_on(Client::connect(options)).map_err(|error| {
            let addresses: Vec<String> = to.addresses.iter().map(ToString::to_string).collect();
            let asked = addresses.join(", ");
            Failure::run_time(match error {
                Error::Unavailable(why) => format!("no server to be reached at {asked}: {why}; is it running there?"),
                other => format!("{asked}: {other}"),
            })
        })?;
        Ok(Box::new(Remote { client, runtime }))
    }

    fn serve(&self, config: &Path) -> Result<(), Failure> {
        match daemon::serve(load(config)?, open_store) {
            Exit::Ok => Ok(()),
            // The log has said why.
            exit => Err(Failure { code: exit.code(), message: String::new() }),
        }
    }

    fn start(&self, config: &Path) -> Result<Box<dyn Running>, Failure> {
        let config = load(config)?;
        // It runs beside what is printed: only what somebody has to know.
        daemon::logs::start(&Log { filter: "warn".into(), ..config.log.clone() }).map_err(Failure::configuration)?;
        let runtime = Builder::new_multi_thread().enable_all().build().map_err(failed)?;
        let daemon = runtime.block_on(async {
            let (sender, told) = signals::listen().map_err(failed)?;
            let started = daemon::start(config, Instant::now(), told, open_store).await.map_err(start_failed)?;
            Ok::<_, Failure>((started, sender))
        });
        let (daemon, _told) = daemon?;
        Ok(Box::new(Here { daemon, runtime, _told }))
    }

    fn check_config(&self, config: &Path) -> Result<Vec<String>, Failure> {
        let now = Clock::system(Timestamp::ZERO).now();
        let checked = load(config)?.check(now).map_err(|error| Failure::configuration(error.to_string()))?;
        Ok(checked.warnings)
    }

    fn default_config(&self) -> String {
        Config::print_default()
    }

    fn limits(&self) -> Vec<LimitRow> {
        let row = |row: &crate::config::limits::Row| LimitRow {
            key: row.key.to_owned(),
            default: row.unit.write(row.default),
            least: row.unit.write(row.least),
            most: row.unit.write(row.most),
            reason: row.reason.to_owned(),
        };
        ROWS.iter().map(row).collect()
    }

    fn open_for_import(&self, config: &Path) -> Result<Box<dyn OfflineStore>, Failure> {
        let offline = Offline::open(load(config)?).map_err(start_failed)?;
        Ok(Box::new(offline))
    }

    fn export(&self, config: &Path, out: &mut dyn Write) -> Result<(), Failure> {
        let config = load(config)?;
        // An export makes nothing: a directory without secrets is not one of ours.
        Secrets::open(&config.secrets_path()).map_err(failed)?;
        let offline = Offline::open(config).map_err(start_failed)?;
        export(&offline, out)
    }

    fn snapshot_create(&self, config: &Path) -> Result<Value, Failure> {
        let site = offline::site(&load(config)?).map_err(start_failed)?;
        let written = site.held.snapshot().map_err(Failure::run_time)?;
        site.held.close().map_err(Failure::run_time)?;
        Ok(json!({
            "file": written.name,
            "revision": written.revision.to_string(),
            "bytes": written.bytes,
            "seconds": written.took.as_secs_f64(),
        }))
    }

    fn snapshot_look(&self, config: &Path, file: &Path, depth: Depth) -> Result<Value, Failure> {
        let header = |header: &snapshot::Header| {
            let mut fields = Map::new();
            fields.insert("revision".into(), json!(header.revision().to_string()));
            fields.insert("created".into(), json!(header.created.seconds()));
            fields.insert("tokens".into(), json!(header.tokens));
            fields.insert("grants".into(), json!(header.grants));
            fields
        };
        let (mut fields, bytes, verified) = match depth {
            Depth::Header => {
                let found = snapshot::inspect(file).map_err(failed)?;
                (header(&found.header), found.bytes, false)
            }
            Depth::Whole => {
                let secrets = Secrets::open(&load(config)?.secrets_path()).map_err(failed)?;
                let found = snapshot::verify(file, secrets.snapshot()).map_err(failed)?;
                let mut fields = header(&found.header);
                fields.insert("sections".into(), json!(found.sections));
                (fields, found.bytes, true)
            }
        };
        fields.insert("bytes".into(), json!(bytes));
        fields.insert("verified".into(), json!(verified));
        Ok(Value::Object(fields))
    }

    fn journal_look(&self, config: &Path, depth: Depth) -> Result<Value, Failure> {
        let config = load(config)?;
        let secrets = Secrets::open(&config.secrets_path()).map_err(failed)?;
        let dir = DataDir::open(&config.server.data_dir).map_err(failed)?;
        let path = dir.file_path(JOURNAL_NAME).map_err(failed)?;
        let journal = RedbJournal::open(&path, secrets.journal(), journal_options(&config)).map_err(failed)?;
        let head = journal.head();
        let mut fields = json!({
            "file": path.display().to_string(),
            "epoch": format!("{:016x}", head.epoch.0),
            "last": head.last.0,
            "discarded_through": head.discarded.0,
            "bytes": journal.bytes(),
        });
        if depth == Depth::Whole {
            let survey = journal.verify(&mut |_: Sequence| {}).map_err(failed)?;
            describe(&mut fields, &survey);
        }
        Box::new(journal).close().map_err(failed)?;
        Ok(fields)
    }

    fn new_epoch(&self, config: &Path, voids: Voids, dry_run: bool) -> Result<Value, Failure> {
        let lost = match voids {
            Voids::IssuedBefore(seconds) => {
                let moment =
                    Timestamp::from_seconds(seconds).ok_or_else(|| Failure::usage("that moment is too late"))?;
                Lost::VoidIssuedBefore(moment)
            }
            Voids::IssuedBeforeNow => Lost::VoidIssuedBeforeNow,
            Voids::Nothing => Lost::NothingWasRevoked,
        };
        let told = epoch::begin(&load(config)?, lost, dry_run).map_err(start_failed)?;
        Ok(json!({
            "done": !dry_run,
            "data_ends_at": told.ends.to_string(),
            "known_to_have_been": told.known.to_string(),
            "new_epoch": format!("{:016x}", told.begins.epoch.0),
            "revision": if dry_run { Value::Null } else { json!(told.begins.to_string()) },
            "voids_issued_before": told.voids_before.map(Timestamp::seconds),
            "tokens_voided": told.voided,
        }))
    }

    fn keys_rotate(&self, config: &Path) -> Result<Value, Failure> {
        let site = offline::site(&load(config)?).map_err(start_failed)?;
        let rotated = site.committer.rotate_keys_blocking().map_err(failed)?;
        let revision = site.service.at(rotated.after);
        // So that the keys before are needed by one file less.
        let written = site.held.snapshot();
        site.held.close().map_err(Failure::run_time)?;
        written.map_err(Failure::run_time)?;
        Ok(json!({
            "revision": revision.to_string(),
            "generation": rotated.generation,
            "kept": rotated.kept,
        }))
    }

    fn keys_show(&self, config: &Path) -> Result<Value, Failure> {
        let secrets = Secrets::open(&load(config)?.secrets_path()).map_err(failed)?;
        let row = |key: &crate::secrets::Key| json!({ "generation": key.number, "after": key.after.to_string() });
        Ok(json!({ "generations": secrets.journal().keys().iter().map(row).collect::<Vec<_>>() }))
    }

    fn make_certificates(&self, directory: &Path, callers: &[&str], now: Timestamp) -> Result<(), Failure> {
        let authority = Authority::open_or_create(directory, "tokenscope development CA", now).map_err(failed)?;
        authority.write(directory).map_err(failed)?;
        authority.server(LOCAL_NAMES, now).and_then(|pair| pair.write(directory, "server")).map_err(failed)?;
        for caller in callers {
            authority.client(caller, now).and_then(|pair| pair.write(directory, caller)).map_err(failed)?;
        }
        Ok(())
    }
}

fn describe(fields: &mut Value, survey: &Survey) {
    let kinds: Map<String, Value> = survey
        .kinds()
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| (kind.as_str().to_owned(), json!(count)))
        .collect();
    fields["entries"] = json!(survey.entries);
    fields["entry_bytes"] = json!(survey.entry_bytes);
    fields["rows"] = json!(survey.rows);
    fields["first"] = json!(survey.first.map(|first| first.0));
    fields["earliest"] = json!(survey.earliest.map(Timestamp::seconds));
    fields["latest"] = json!(survey.latest.map(Timestamp::seconds));
    fields["kinds"] = Value::Object(kinds);
    fields["verified"] = json!(true);
}

/// The client library as the command line uses it: one call at a time.
struct Remote {
    client: Client,
    runtime: Runtime,
}

impl Drop for Remote {
    /// Says goodbye: a connection that is left open takes one of the places of this address until the server notices.
    fn drop(&mut self) {
        self.runtime.block_on(self.client.close());
    }
}

impl Api for Remote {
    fn call(&self, method: &str, path: &str, body: &[u8]) -> Result<(u16, Vec<u8>), Failure> {
        let answer = self.runtime.block_on(self.client.api(method, path, body)).map_err(failed)?;
        Ok((answer.status, answer.body))
    }

    fn check(&self, token: &TokenDigest, scope: &str, place: &str) -> Result<Value, Failure> {
        let decision = self.runtime.block_on(self.client.check(*token, scope, place)).map_err(failed)?;
        Ok(match decision {
            Decision::Inactive => json!({ "active": false }),
            Decision::Allowed => json!({ "active": true, "allowed": true }),
            Decision::Denied(denial) => json!({
                "active": true,
                "allowed": false,
                "reason": denial.as_str(),
                "explanation": denial.explanation(),
            }),
        })
    }
}

/// A server in this process.
struct Here {
    daemon: Daemon,
    runtime: Runtime,
    /// Kept, because the daemon stops when nobody is left who could tell it to.
    _told: tokio::sync::mpsc::Sender<signals::Told>,
}

impl Running for Here {
    fn addresses(&self) -> Addresses {
        let nowhere = self.daemon.admin;
        Addresses {
            quic: self.daemon.address(Door::Quic).unwrap_or(nowhere),
            https: self.daemon.address(Door::Https).unwrap_or(nowhere),
            admin: self.daemon.admin,
        }
    }

    fn wait(self: Box<Self>) -> Result<(), Failure> {
        let Self { daemon, runtime, _told } = *self;
        let exit = runtime.block_on(daemon.ended());
        runtime.shutdown_background();
        match exit {
            Exit::Ok => Ok(()),
            _ => Err(Failure { code: RUN_TIME, message: "the server did not end well; its log says why".into() }),
        }
    }
}

impl OfflineStore for Offline {
    fn sink(&mut self) -> &mut dyn ImportSink {
        self
    }

    fn finish(self: Box<Self>) -> Result<(), String> {
        Offline::finish(*self).map(drop)
    }
}
