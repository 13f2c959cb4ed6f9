//! Processes and cores: starting a server on its core, reading what it used, pinning ourselves.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};

/// How long a process may take to end after it was asked to: a server with a hundred million tokens writes a snapshot of
/// several gigabytes first.
const ENDS_WITHIN: Duration = Duration::from_secs(120);

/// A process that was started here and ends with this value.
pub struct Spawned {
    child: Child,
    name: String,
}

/// Keeps the current thread, and every thread and process it starts from now on, on one core.
///
/// # Errors
/// There is no such core, or it may not be used.
pub fn pin_thread(core: usize) -> Result<(), String> {
    let mut set = CpuSet::new();
    if core >= CpuSet::MAX_CPU {
        return Err(format!("there is no core {core}"));
    }
    set.set(core);
    sched_setaffinity(None, &set).map_err(|error| format!("cannot run on core {core}: {error}"))
}

/// CPU time of the current thread.
pub fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

impl Spawned {
    /// Starts a program, on `core` if one is given; its output goes into `log`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(mut command: Command, name: &str, core: Option<usize>, log: &Path) -> Result<Self, String> {
        let failed = |error: &dyn std::fmt::Display| format!("cannot start {name}: {error}");
        let out = fs::File::create(log).map_err(|error| failed(&error))?;
        let err = out.try_clone().map_err(|error| failed(&error))?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        // A child has the cores of the thread that starts it, so a thread of its own is pinned and starts it.
        let started = std::thread::spawn(move || {
            if let Some(core) = core {
                pin_thread(core)?;
            }
            command.spawn().map_err(|error| error.to_string())
        });
        let child = started.join().map_err(|_| failed(&"the thread that starts it panicked"))?;
        Ok(Self { child: child.map_err(|error| failed(&error))?, name: name.to_owned() })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Stops it where it is, so that it takes nothing from the one that is measured.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        // It is our own child and not waited for yet, so the number is still its own.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits until `ready` says so.
    ///
    /// # Errors
    /// It ended, or `within` is over; the text has the last lines of its log.
    pub fn wait_for(&mut self, within: Duration, log: &Path, mut ready: impl FnMut() -> bool) -> Result<(), String> {
        let began = Instant::now();
        loop {
            if ready() {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("{} ended ({status}): {}", self.name, last_lines(log)));
            }
            if began.elapsed() > within {
                return Err(format!("{} is not ready after {} s: {}", self.name, within.as_secs(), last_lines(log)));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        self.signal(Signal::TERM);
        // Nobody hears a signal while stopped.
        self.thaw();
        let began = Instant::now();
        while began.elapsed() < ENDS_WITHIN {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A TCP port of loopback that is free at the moment.
///
/// # Errors
/// None is.
pub fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| format!("no free port: {error}"))?;
    listener.local_addr().map(|address| address.port()).map_err(|error| error.to_string())
}

/// The last lines of a file, for an error.
fn last_lines(log: &Path) -> String {
    let Ok(file) = fs::File::open(log) else { return "it wrote no log".to_owned() };
    let lines: Vec<String> = BufReader::new(file).lines().map_while(Result::ok).collect();
    let text = lines.iter().rev().take(5).rev().cloned().collect::<Vec<_>>().join("; ");
    if text.is_empty() { "it said nothing".to_owned() } else { text }
}

/// CPU time a process has used so far, all its threads together. `None`: there is no such process.
pub fn cpu_of(pid: u32) -> Option<Duration> {
    // Nanoseconds of each living thread: finer than the ticks of /proc/PID/stat.
    let mut fine = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        if let Ok(text) = fs::read_to_string(task.path().join("schedstat")) {
            let ns = text.split_whitespace().next().and_then(|word| word.parse().ok());
            fine += Duration::from_nanos(ns.unwrap_or(0));
        }
    }
    if fine > Duration::ZERO {
        return Some(fine);
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may contain anything, a parenthesis too; what is wanted is after the last one.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// How often the threads of a process have given their core away so far because there was nothing to do. `None`: there is no
/// such process.
pub fn sleeps_of(pid: u32) -> Option<u64> {
    let mut sleeps = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        sleeps += line.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or(0);
    }
    Some(sleeps)
}

/// Resident memory of a process in bytes.
pub fn resident_of(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// A program that is installed, by its name.
pub fn installed(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Servers live where ordinary users do not look.
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    places.map(|place| place.join(name)).find(|file| file.is_file())
}
