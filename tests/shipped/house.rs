//! A server that was shipped: a directory like the one `dev` makes, the binary on it, and the ways to it.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokenscope::cli::house::House as Rooms;
use tokenscope::cli::rooms::Rooms as _;
use tokenscope::dev::file::{DevFile, DevToken};
use tokenscope::dev::setup;
use tokenscope::domain::Timestamp;
use tokenscope::{import, samples};

use super::web::{Answer, Web};

/// The binary as it is shipped.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_tokenscope");

/// How long a start, a stop or anything else that happens by itself may take on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Looks every few milliseconds whether `there` has something, for [`PATIENCE`].
pub fn wait_for<T>(what: &str, mut there: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = there() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Says why a test was not made; not through the test harness, which would keep it to itself.
pub fn skipped(what: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}");
}

/// Prints a figure; likewise.
pub fn figure(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}

/// Whether a program is installed.
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into()]).any(|directory| directory.join(program).is_file())
}

pub fn now() -> Timestamp {
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    Timestamp::from_seconds(seconds).unwrap()
}

/// A process that ended.
#[derive(Debug)]
pub struct Ran {
    /// `None`: by a signal.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
    pub took: Duration,
}

impl Ran {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

/// Runs the program with these arguments; `typed` is its standard input.
pub fn run(arguments: &[&str], typed: &str, env: &[(&str, &Path)]) -> Ran {
    let began = Instant::now();
    let mut command = Command::new(PROGRAM);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TOKENSCOPE_")) {
        command.env_remove(name);
    }
    command.args(arguments).envs(env.iter().copied());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program runs");
    // A command that wants no input may have ended already.
    let _ = child.stdin.take().unwrap().write_all(typed.as_bytes());
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
        took: began.elapsed(),
    }
}

/// A directory, and perhaps a server on it.
pub struct House {
    pub file: DevFile,
    /// The first of the callers' certificates is here, with everybody else's.
    pub certs: PathBuf,
    pub data: PathBuf,
    child: Option<Child>,
    starts: u32,
    /// Removed at the end, after the child was killed.
    pub dir: TempDir,
}

impl House {
    /// A directory with certificates, callers and the sample story; nothing runs yet.
    pub fn new() -> Self {
        Self::with("")
    }

    /// The same; `more` is added to the configuration. Limits in it stand instead of those of `tokenscope dev`.
    pub fn with(more: &str) -> Self {
        let house = Self::empty(more);
        let mut store = Rooms.open_for_import(&house.file.config_file).unwrap();
        let (seed, at) = (house.file.samples.seed, house.file.samples.now());
        let lines = samples::all(seed, 0, at).map(Ok);
        import::import(lines, samples::source_digest(seed, 0, at), store.sink(), &mut ()).unwrap();
        store.finish().unwrap();
        house
    }

    /// A directory with certificates and callers, without any data.
    pub fn empty(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = setup::directory(dir.path()).unwrap();
        let mut file = setup::file(&root, setup::seed().unwrap(), 0, now()).unwrap();
        let at = setup::addresses(&file, None).unwrap();
        setup::write(&mut file, at, &Rooms, now()).unwrap();
        let mut house = Self { certs: root.join("certs"), data: root.join("data"), file, child: None, starts: 0, dir };
        let limits = if more.contains("[limits]") { setup::LIMITS } else { "" };
        house.configure(|text| text.replace(limits, "") + more);
        house
    }

    /// Changes the configuration file.
    pub fn configure(&mut self, change: impl FnOnce(String) -> String) {
        let text = fs::read_to_string(&self.file.config_file).unwrap();
        fs::write(&self.file.config_file, change(text)).unwrap();
    }

    /// Starts the server and waits until it is ready.
    pub fn start(&mut self) {
        if let Err(ended) = self.try_start() {
            panic!("the server did not start: {ended:?}");
        }
    }

    /// Starts the server, at other ports if somebody has taken one of its own while it was away: what connects to anything
    /// on this machine is given ports by the system, and does not ask whose they were.
    pub fn start_anywhere(&mut self) {
        for _ in 0..16 {
            match self.try_start() {
                Ok(()) => return,
                Err(ended) if ended.err.contains("cannot listen on") => self.move_elsewhere(),
                Err(ended) => panic!("the server did not start: {ended:?}"),
            }
        }
        panic!("the server found its ports taken sixteen times");
    }

    /// Gives the server that is not running ports that are free now.
    fn move_elsewhere(&mut self) {
        let ports = |file: &DevFile| [file.https.port(), file.admin.port()];
        let before = ports(&self.file);
        let at = setup::addresses(&self.file, None).unwrap();
        setup::write_addresses(&mut self.file, at).unwrap();
        let after = ports(&self.file);
        self.configure(|mut text| {
            for (old, new) in before.into_iter().zip(after) {
                // In two steps: one may become what the other was.
                text = text.replace(&format!(":{old}\""), &format!(":to-{new}\""));
            }
            text.replace(":to-", ":")
        });
    }

    /// Starts the server; if it ends before it is ready, how.
    pub fn try_start(&mut self) -> Result<(), Ran> {
        let mut command = Command::new(PROGRAM);
        command.arg("serve").arg("--config").arg(&self.file.config_file);
        self.try_start_by(command)
    }

    /// The same with a command that starts it.
    pub fn try_start_by(&mut self, mut command: Command) -> Result<(), Ran> {
        assert!(self.child.is_none(), "one is running");
        self.starts += 1;
        let log = File::create(self.log_path()).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut child = command.spawn().expect("the program runs");
        let began = Instant::now();
        let ended = wait_for("the server", || match child.try_wait().unwrap() {
            Some(status) => Some(Some(status)),
            None => self.is_ready().then_some(None),
        });
        match ended {
            None => {
                self.child = Some(child);
                Ok(())
            }
            Some(status) => {
                Err(Ran { code: status.code(), out: String::new(), err: self.log(), took: began.elapsed() })
            }
        }
    }

    pub fn is_ready(&self) -> bool {
        self.admin("/readyz").is_some_and(|answer| answer.status == 200)
    }

    /// Asks the admin listener; `None` if there is no answer.
    pub fn admin(&self, path: &str) -> Option<Answer> {
        super::web::plain(self.file.admin, format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"))
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join(format!("server-{}.log", self.starts))
    }

    /// What the server has logged since its last start.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Waits until the log says `words`.
    pub fn logs(&self, words: &str) {
        let began = Instant::now();
        while !self.log().contains(words) {
            assert!(began.elapsed() < PATIENCE, "the log never says {words:?}: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("a server runs"))
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Kills the server without warning.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("a server runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(&mut self) -> Ran {
        self.signal(Signal::TERM);
        self.ended()
    }

    /// Waits until it has ended by itself.
    pub fn ended(&mut self) -> Ran {
        let mut child = self.child.take().expect("a server runs");
        let began = Instant::now();
        let status = wait_for("the server's end", || child.try_wait().unwrap());
        Ran { code: status.code(), out: String::new(), err: self.log(), took: began.elapsed() }
    }

    pub fn web(&self) -> Web {
        Web::new(self.file.https, &self.file.ca_file)
    }

    pub fn secret(&self, caller: &str) -> (String, String) {
        let caller = self.file.caller(caller).unwrap();
        (caller.client_id.clone(), caller.client_secret.clone())
    }

    /// The sample token of this name.
    pub fn token(&self, name: &str) -> &DevToken {
        self.file.tokens.iter().find(|token| token.name == name).unwrap()
    }

    /// Introspects over HTTPS, as the caller `api`.
    pub fn introspect(&self, token: &str) -> Answer {
        let (name, secret) = self.secret("api");
        self.web().form("/introspect", (&name, &secret), &[("token", token)])
    }

    /// Revokes over HTTPS, as the caller `issuer`.
    pub fn revoke(&self, token: &str) {
        let (name, secret) = self.secret("issuer");
        assert_eq!(self.web().form("/revoke", (&name, &secret), &[("token", token)]).status, 200);
    }

    /// It is alive, and answers a good question right at both doors.
    pub fn is_well(&self, after: &str) {
        assert_eq!(self.admin("/livez").map(|answer| answer.status), Some(200), "after {after}");
        let token = &self.token("jonas-time").token;
        let answer = self.introspect(token);
        assert!(answer.status == 200 && answer.text().contains("\"active\":true"), "after {after}: {answer:?}");
        let decision = super::native::ask(self, |client| {
            let token = token.clone();
            async move { client.check(&token, "tasks:read", "1579").await }
        });
        assert!(decision.as_ref().is_ok_and(|decision| decision.is_allowed()), "after {after}: {decision:?}");
    }

    /// Runs a command against this server.
    pub fn cli(&self, arguments: &[&str], typed: &str) -> Ran {
        run(arguments, typed, &[("TOKENSCOPE_DEV", &self.file.config_file.with_file_name("dev.json"))])
    }

    pub fn config(&self) -> &str {
        self.file.config_file.to_str().unwrap()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- the server's log ---\n{}", self.log());
        }
    }
}

/// A port of this machine that was free a moment ago.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap().local_addr().unwrap().port()
}
