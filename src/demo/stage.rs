//! The server the demo plays on, and the ways to it: a child process, the native client, HTTPS.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::record::{Record, Step};
use crate::cli::Failure;
use crate::cli::https_client::{Answer, HttpsClient, basic, plain_body, plain_status};
use crate::cli::remote::{Api, Connection};
use crate::cli::rooms::Rooms;
use crate::dev::file::DevFile;
use crate::metrics::{INDEX_BYTES, Metric, START_DURATION, TOKENS};

/// How long a start or a stop may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether the server is ready.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What the steps need.
pub(super) trait Stage {
    /// The native door, as this caller.
    fn native(&self, caller: &str) -> Result<&dyn Api, Failure>;

    /// A form to the HTTPS door, as this caller.
    fn form(&mut self, caller: &str, path: &str, form: &[(&str, &str)]) -> Result<Answer, Failure>;

    /// The decision for gateways, about the end user's token; the gateway is the caller `api`.
    fn authorize(&mut self, token: &str, scope: &str, place: &str) -> Result<Answer, Failure>;

    /// Kills the server without warning.
    fn kill(&mut self) -> Result<(), Failure>;

    /// Starts it again, and connects again: how long until it was ready.
    fn restart(&mut self) -> Result<Duration, Failure>;

    /// What can be seen of the server from outside: how long it took to apply everything, how much memory it holds.
    /// Empty if nothing can.
    fn state(&self) -> String;
}

/// A stage whose server is a child process of the same program.
pub(super) struct ChildStage<'r> {
    rooms: &'r dyn Rooms,
    config: PathBuf,
    log: PathBuf,
    admin: SocketAddr,
    connections: Vec<(String, Connection)>,
    secrets: HashMap<String, String>,
    https: HttpsClient,
    natives: HashMap<String, Box<dyn Api>>,
    child: Option<Child>,
}

impl<'r> ChildStage<'r> {
    pub(super) fn new(file: &DevFile, rooms: &'r dyn Rooms) -> Result<Self, Failure> {
        let connection = |name: &str| file.connection(Some(name)).map(|connection| (name.to_owned(), connection));
        Ok(Self {
            rooms,
            config: file.config_file.clone(),
            log: file.config_file.with_file_name("server.log"),
            admin: file.admin,
            connections: file.callers.iter().map(|caller| connection(&caller.name)).collect::<Result<_, _>>()?,
            secrets: file.callers.iter().map(|it| (it.name.clone(), basic(&it.client_id, &it.client_secret))).collect(),
            https: HttpsClient::new(file.https, &file.server_name, &file.ca_file)?,
            natives: HashMap::new(),
            child: None,
        })
    }

    /// Starts the server and waits until it is ready.
    pub(super) fn start(&mut self) -> Result<Duration, Failure> {
        let failed = |error: std::io::Error| Failure::run_time(format!("the server cannot be started: {error}"));
        let log = File::options().create(true).append(true).open(&self.log).map_err(failed)?;
        let program = std::env::current_exe().map_err(failed)?;
        let began = Instant::now();
        let child = Command::new(program)
            .arg("serve")
            .arg("--config")
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        let child = self.child.insert(child);
        while plain_status(self.admin, "/readyz").ok() != Some(200) {
            if let Some(status) = child.try_wait().map_err(failed)? {
                return Err(Failure::run_time(format!("the server ended: {status}; see {}", self.log.display())));
            }
            if began.elapsed() > PATIENCE {
                let log = self.log.display();
                return Err(Failure::run_time(format!("the server is not ready after {PATIENCE:?}; see {log}")));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let ready = began.elapsed();
        self.https.forget();
        self.natives.clear();
        for (name, connection) in &self.connections {
            self.natives.insert(name.clone(), self.rooms.connect(connection)?);
        }
        Ok(ready)
    }

    /// Asks the server to stop, and takes down whether it did so in order.
    pub(super) fn stop(&mut self, record: &mut Record, out: &mut dyn Write) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::run_time(format!("the server cannot be stopped: {error}"));
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let began = Instant::now();
        self.natives.clear();
        self.https.forget();
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM)
            .map_err(|error| failed(error.into()))?;
        let got = loop {
            match child.try_wait().map_err(failed)? {
                Some(status) => break status.to_string(),
                None if began.elapsed() > PATIENCE => {
                    child.kill().map_err(failed)?;
                    break format!("still running after {PATIENCE:?}");
                }
                None => std::thread::sleep(LOOK_EVERY),
            }
        };
        let step = Step {
            row: "stop",
            story: "SIGTERM drains, leaves a snapshot and ends in order".into(),
            ask: "kill -TERM".into(),
            expected: "exit status: 0".into(),
            got,
            took: began.elapsed(),
        };
        record.take(step, out)
    }

    fn secret(&self, caller: &str) -> Result<String, Failure> {
        self.secrets.get(caller).cloned().ok_or_else(|| Failure::run_time(format!("no caller {caller}")))
    }
}

impl Drop for ChildStage<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Stage for ChildStage<'_> {
    fn native(&self, caller: &str) -> Result<&dyn Api, Failure> {
        let native = self.natives.get(caller).map(|api| &**api);
        native.ok_or_else(|| Failure::run_time(format!("not connected as {caller}")))
    }

    fn form(&mut self, caller: &str, path: &str, form: &[(&str, &str)]) -> Result<Answer, Failure> {
        let secret = self.secret(caller)?;
        self.https.form(path, &[("authorization", &secret)], form)
    }

    fn authorize(&mut self, token: &str, scope: &str, place: &str) -> Result<Answer, Failure> {
        let gateway = self.secret("api")?;
        let bearer = format!("Bearer {token}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("tokenscope-authorization", gateway.as_str()),
            ("x-tokenscope-scope", scope),
            ("x-tokenscope-place", place),
        ];
        self.https.call("GET", "/authorize", &headers, b"")
    }

    fn kill(&mut self) -> Result<(), Failure> {
        if let Some(mut child) = self.child.take() {
            // SIGKILL: the process gets no chance to write anything.
            child.kill().and_then(|()| child.wait()).map_err(|error| Failure::run_time(error.to_string()))?;
        }
        Ok(())
    }

    fn restart(&mut self) -> Result<Duration, Failure> {
        self.start()
    }

    fn state(&self) -> String {
        let metrics = plain_body(self.admin, "/metrics").unwrap_or_default();
        let value = |metric: Metric, labels: &str| {
            let of = |line: &str| line.strip_prefix(metric.name)?.strip_prefix(labels)?.trim().parse::<f64>().ok();
            metrics.lines().find_map(of).unwrap_or(0.0)
        };
        let (tokens, index) = (value(TOKENS, ""), value(INDEX_BYTES, "") / f64::from(1 << 20));
        let applied = value(START_DURATION, "{stage=\"store\"}") * 1e3;
        let ready = value(START_DURATION, "{stage=\"ready\"}") * 1e3;
        let resident = self.child.as_ref().and_then(|child| resident_mib(child.id())).unwrap_or(0);
        format!(
            "{tokens:.0} tokens; everything applied after {applied:.0} ms, ready after {ready:.0} ms; index {index:.0} MiB, \
             resident {resident} MiB"
        )
    }
}

/// Resident memory of a process, in MiB, as the system tells it.
fn resident_mib(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))?;
    Some(kilobytes.trim().parse::<u64>().ok()? / 1024)
}
