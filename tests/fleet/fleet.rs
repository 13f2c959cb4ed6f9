//! The client processes: started, stopped, killed, replaced, and gone at the end, however it comes.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};

use super::client::{PLAYER, TASK, Task};
use super::house::wait_for;
use super::ledger::{Ledger, Process, listen};
use super::proxy::Proxy;

/// One process.
struct Ship {
    child: Child,
    process: Process,
    reader: Option<JoinHandle<()>>,
    /// Kept open: when it closes, the process ends by itself.
    _ours: UnixStream,
}

impl Drop for Ship {
    fn drop(&mut self) {
        // Works on a process that stands still too.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// All of them, each behind its proxy.
pub struct Fleet {
    pub proxies: Vec<Proxy>,
    pub ledger: Arc<Mutex<Ledger>>,
    ships: Vec<Mutex<Ship>>,
    tasks: Vec<Task>,
    logs: PathBuf,
}

impl Fleet {
    /// Starts a process for each task, and waits until each has a lease.
    pub fn start(proxies: Vec<Proxy>, tasks: Vec<Task>, logs: &Path) -> Self {
        let ledger = Arc::<Mutex<Ledger>>::default();
        let first = |(client, task)| Mutex::new(start(&ledger, Process { client, life: 0 }, task, logs));
        let ships = tasks.iter().enumerate().map(first).collect();
        let fleet = Self { proxies, ships, tasks, logs: logs.to_owned(), ledger };
        let count = fleet.ships.len();
        wait_for("a lease for each client", || {
            fleet.is_whole();
            (fleet.ledger.lock().unwrap().live.len() == count).then_some(())
        });
        fleet
    }

    pub fn len(&self) -> usize {
        self.ships.len()
    }

    pub fn signal(&self, client: usize, signal: Signal) {
        let ship = self.ships[client].lock().unwrap();
        kill_process(Pid::from_child(&ship.child), signal).unwrap();
    }

    /// Kills a client without warning, and puts another in its place.
    pub fn replace(&self, client: usize) {
        let mut ship = self.ships[client].lock().unwrap();
        ship.child.kill().unwrap();
        ship.child.wait().unwrap();
        let process = Process { client, life: ship.process.life + 1 };
        *ship = start(&self.ledger, process, &self.tasks[client], &self.logs);
    }

    /// Makes sure that nobody has died of itself.
    pub fn is_whole(&self) {
        for ship in &self.ships {
            let mut ship = ship.lock().unwrap();
            if let Some(status) = ship.child.try_wait().unwrap() {
                let log = std::fs::read_to_string(log(&self.logs, ship.process)).unwrap_or_default();
                panic!("{:?} ended by itself, {status}: {log}", ship.process);
            }
        }
    }

    /// Waits until all have gone home by themselves, as the board told them, and all they ever recorded was read.
    pub fn come_home(self) -> Ledger {
        for ship in self.ships {
            let mut ship = ship.into_inner().unwrap();
            let status = wait_for("a client to go home", || ship.child.try_wait().unwrap());
            let log = || std::fs::read_to_string(log(&self.logs, ship.process)).unwrap_or_default();
            assert!(status.success(), "{:?}: {}", ship.process, log());
        }
        // Each ship's reader was waited for when the ship was dropped.
        std::mem::take(&mut self.ledger.lock().unwrap())
    }
}

fn log(logs: &Path, process: Process) -> PathBuf {
    logs.join(format!("client-{}-{}.log", process.client, process.life))
}

fn start(ledger: &Arc<Mutex<Ledger>>, process: Process, task: &Task, logs: &Path) -> Ship {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let said = File::create_new(log(logs, process)).unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", PLAYER, "--ignored", "--nocapture", "--test-threads=1"])
        .env(TASK, serde_json::to_string(task).unwrap())
        // What is recorded goes this way: a socket for standard input, since the test harness writes to the others.
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(said)
        .spawn()
        .expect("this very program runs");
    let reader = listen(Arc::clone(ledger), process, ours.try_clone().unwrap());
    Ship { child, process, reader: Some(reader), _ours: ours }
}
