//! What an answer is made of: datagrams, bytes, system calls and sleeps for a thousand answers.
//!
//! One more run of some cells after all rounds, since counting takes some time itself; none of its rates stands anywhere.
//! Datagrams and bytes are what the generator's QUIC counts, handshakes left out. System calls are the server's, counted by the kernel
//! for `perf stat` over a part of the run, or else by `strace`, which stops the server at each of them: then it
//! answers less, more waits for it meanwhile, and more is done with each call. A sleep is a thread that gave its core away
//! because there was nothing to do.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::cells::{self, Cell, Field};
use super::peers::{Peers, Who};
use crate::driver::Travelled;
use crate::process::{installed, sleeps_of};
use crate::server::Server;

/// Where the kernel lists what can be counted.
const EVENTS: &str = "/sys/kernel/tracing/events/syscalls";

/// Every call, whatever it is.
const ALL: &str = "raw_syscalls:sys_enter";

/// Calls that are told apart, where the kernel knows them.
const CALLS: [&str; 15] = [
    "sendmsg",
    "sendmmsg",
    "sendto",
    "recvmsg",
    "recvmmsg",
    "recvfrom",
    "read",
    "readv",
    "write",
    "writev",
    "epoll_wait",
    "epoll_pwait",
    "futex",
    "clock_nanosleep",
    "fdatasync",
];

/// How long the counting may take to say what it counted.
const SAYS_WITHIN: Duration = Duration::from_secs(5);

/// The shortest time that is counted.
const AT_LEAST: Duration = Duration::from_millis(50);

/// What a cell's answers are made of, for a thousand of them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MadeOf {
    /// The cell.
    pub cell: String,
    /// Datagrams and bytes; nothing where they are not seen, as with TCP.
    pub wire: Option<Wire>,
    /// The server's system calls, all of them; nothing where nobody could count.
    pub calls: Option<f64>,
    /// The same by name, those of at least one in a hundred.
    pub by_name: BTreeMap<String, f64>,
    /// Who counted them, or why nobody did.
    pub counted_by: String,
    /// How often a thread of the server slept.
    pub sleeps: Option<f64>,
}

/// What went over the wire.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Wire {
    /// Datagrams to the server.
    pub datagrams_in: f64,
    /// Datagrams from it.
    pub datagrams_out: f64,
    /// Bytes in those to it, without UDP's and IP's own.
    pub bytes_in: f64,
    /// Bytes in those from it.
    pub bytes_out: f64,
    /// Packets given up for lost.
    pub lost: f64,
    /// The generator's system calls that sent them.
    pub sends: f64,
}

impl Wire {
    /// For a thousand answers; nothing if nothing was seen.
    fn of(travelled: &Travelled, answers: f64) -> Option<Self> {
        let each = |count: u64| count as f64 * 1_000.0 / answers;
        (travelled.sent_datagrams > 0 && answers > 0.0).then(|| Self {
            datagrams_in: each(travelled.sent_datagrams),
            datagrams_out: each(travelled.received_datagrams),
            bytes_in: each(travelled.sent_bytes),
            bytes_out: each(travelled.received_bytes),
            lost: each(travelled.lost_packets),
            sends: each(travelled.sent_calls),
        })
    }
}

/// Runs every cell that says something about a limit once more, and counts.
///
/// # Errors
/// One cannot be run.
pub fn measure(field: &Field, peers: &Peers, server: &Server, directory: &Path) -> Result<Vec<MadeOf>, String> {
    let mut all = Vec::new();
    for cell in cells::all(peers).into_iter().filter(Cell::is_closed) {
        let name = cell.name();
        eprintln!("what an answer is made of: {name}");
        peers.only(cell.server, &server.spawned);
        let pid = if cell.server == Who::Ours { Some(server.pid()) } else { peers.pid(cell.server) };
        // A window within the recorded part.
        let (begins, lasts) = (field.warm_up + field.duration / 10, (field.duration * 8 / 10).max(AT_LEAST));
        let file = directory.join("calls");
        let (report, counted) = std::thread::scope(|scope| {
            let counting = scope.spawn(|| {
                std::thread::sleep(begins);
                let before = pid.and_then(sleeps_of);
                let began = Instant::now();
                let counted = pid.map_or(Err("its process is not known".to_owned()), |it| count(it, lasts, &file));
                let slept = pid.and_then(sleeps_of).zip(before).map(|(after, before)| after.saturating_sub(before));
                (counted, slept.map(|it| it as f64 / began.elapsed().as_secs_f64()))
            });
            let report = cells::run(&cell, field, peers, server, None);
            (report, counting.join().unwrap_or_else(|_| (Err("the one who counts panicked".to_owned()), None)))
        });
        peers.thaw(&server.spawned);
        let report = report.map_err(|why| format!("{name}: {why}"))?;
        all.push(made_of(name, &report.travelled, report.totals.answered as f64, report.totals.rate, counted));
    }
    Ok(all)
}

fn made_of(
    cell: String,
    travelled: &Travelled,
    answers: f64,
    rate: f64,
    (counted, slept): (Result<Counted, String>, Option<f64>),
) -> MadeOf {
    // Both in each second, since one is seen for longer than the other.
    let each = |in_a_second: f64| in_a_second * 1_000.0 / rate;
    let mut made = MadeOf { cell, wire: Wire::of(travelled, answers), ..MadeOf::default() };
    if rate <= 0.0 {
        made.counted_by = "nothing was answered".to_owned();
        return made;
    }
    made.sleeps = slept.map(each);
    match counted {
        Ok(Counted { all, by_name, by }) => {
            made.calls = Some(each(all));
            made.counted_by = by.to_owned();
            let by_name = by_name.into_iter().filter(|(_, count)| count * 100.0 >= all && *count > 0.0);
            made.by_name = by_name.map(|(name, count)| (name, each(count))).collect();
        }
        Err(why) => made.counted_by = why,
    }
    made
}

/// System calls of a process in a second.
#[derive(Debug, PartialEq)]
struct Counted {
    all: f64,
    by_name: BTreeMap<String, f64>,
    by: &'static str,
}

/// Counts for so long, by whatever can count here.
fn count(pid: u32, lasts: Duration, file: &Path) -> Result<Counted, String> {
    let perf = installed("perf").ok_or_else(|| "no perf".to_owned()).and_then(|it| by_perf(&it, pid, lasts, file));
    perf.or_else(|first| {
        let strace = installed("strace").ok_or("no strace; Debian: apt install strace")?;
        by_strace(&strace, pid, lasts, file).map_err(|second: String| format!("{first}; {second}"))
    })
}

fn by_perf(program: &Path, pid: u32, lasts: Duration, file: &Path) -> Result<Counted, String> {
    let known = |name: &str| Path::new(EVENTS).join(format!("sys_enter_{name}")).is_dir();
    let mut events = vec![ALL.to_owned()];
    events.extend(CALLS.iter().copied().filter(|name| known(name)).map(|name| format!("syscalls:sys_enter_{name}")));
    let mut command = Command::new(program);
    command.arg("stat").arg("-o").arg(file).arg("-e").arg(events.join(",")).arg("-p").arg(pid.to_string());
    // It counts as long as this sleeps.
    command.args(["--", "sleep", &format!("{:.3}", lasts.as_secs_f64())]).env("LC_ALL", "C");
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => return Err(format!("perf counts nothing here ({status})")),
        Err(error) => return Err(format!("perf: {error}")),
    }
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    read_perf(&text).ok_or_else(|| "perf says nothing that is understood here".to_owned())
}

/// Lines like `  1234      syscalls:sys_enter_sendmsg`, and `  1.0012 seconds time elapsed`.
fn read_perf(text: &str) -> Option<Counted> {
    let mut counts = BTreeMap::new();
    let mut seconds = None;
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(number), Some(what)) = (words.next(), words.next()) else { continue };
        let Ok(number) = number.parse::<f64>() else { continue };
        if line.contains("seconds time elapsed") {
            seconds = Some(number);
        } else {
            counts.insert(what.trim_start_matches("syscalls:sys_enter_").to_owned(), number);
        }
    }
    let seconds = seconds.filter(|it| *it > 0.0)?;
    let all = counts.remove(ALL)? / seconds;
    let by_name = counts.into_iter().map(|(name, count)| (name, count / seconds)).collect();
    Some(Counted { all, by_name, by: "perf" })
}

fn by_strace(program: &Path, pid: u32, lasts: Duration, file: &Path) -> Result<Counted, String> {
    let mut command = Command::new(program);
    command.arg("-c").arg("-f").arg("-o").arg(file).arg("-p").arg(pid.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| format!("strace: {error}"))?;
    let began = Instant::now();
    std::thread::sleep(lasts);
    // It lets go of the process and says what it counted. Our own child, not waited for yet.
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::INT);
    }
    let seconds = began.elapsed().as_secs_f64();
    while matches!(child.try_wait(), Ok(None)) {
        if began.elapsed() > lasts + SAYS_WITHIN {
            let _ = child.kill();
            let _ = child.wait();
            return Err("strace does not end".to_owned());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    read_strace(&text, seconds).ok_or_else(|| "strace may not look at the server here".to_owned())
}

/// Lines like ` 52.31    0.001    7    176    3 sendmsg`: share, seconds, µs a call, calls, errors if there were any, name.
fn read_strace(text: &str, seconds: f64) -> Option<Counted> {
    let mut by_name = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [share, _, _, calls, .., name] = words.as_slice() else { continue };
        if let (Ok(_), Ok(calls)) = (share.parse::<f64>(), calls.parse::<f64>())
            && *name != "total"
        {
            by_name.insert((*name).to_owned(), calls / seconds);
        }
    }
    let all: f64 = by_name.values().sum();
    (all > 0.0).then_some(Counted { all, by_name, by: "strace" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_perf_and_strace_say_is_understood() {
        let perf = "# started on\n\n Performance counter stats for process id '7':\n\n             3000      raw_syscalls:sys_enter\n\
                    1000      syscalls:sys_enter_sendmsg                                    \n   0      syscalls:sys_enter_read\n\n\
                    2.000000000 seconds time elapsed\n";
        let by_name = BTreeMap::from([("sendmsg".to_owned(), 500.0), ("read".to_owned(), 0.0)]);
        assert_eq!(read_perf(perf), Some(Counted { all: 1_500.0, by_name, by: "perf" }));
        assert_eq!(read_perf("Error:\nNo permission\n"), None);
        let strace = "% time     seconds  usecs/call     calls    errors syscall\n------ ----------- ----------- --------- --------- ------\n\
                      60.00    0.000501           3       100        18 recvmsg\n 40.00    0.000100           1        50           sendmsg\n\
                      ------ ----------- ----------- --------- --------- -------\n100.00    0.000501           3       150        18 total\n";
        let by_name = BTreeMap::from([("recvmsg".to_owned(), 200.0), ("sendmsg".to_owned(), 100.0)]);
        assert_eq!(read_strace(strace, 0.5), Some(Counted { all: 300.0, by_name, by: "strace" }));
        assert_eq!(read_strace("strace: attach: ptrace(PTRACE_SEIZE, 7): Operation not permitted\n", 1.0), None);
    }

    #[test]
    fn everything_is_for_a_thousand_answers() {
        let travelled =
            Travelled { sent_datagrams: 50, received_datagrams: 20, sent_bytes: 44_000, ..Travelled::default() };
        let by_name = BTreeMap::from([("sendmsg".to_owned(), 80.0), ("futex".to_owned(), 0.5)]);
        let counted = Ok(Counted { all: 100.0, by_name, by: "perf" });
        let made = made_of("x".to_owned(), &travelled, 1_000.0, 2_000.0, (counted, Some(10.0)));
        assert_eq!((made.calls, made.sleeps), (Some(50.0), Some(5.0)));
        assert_eq!(made.by_name, BTreeMap::from([("sendmsg".to_owned(), 40.0)]));
        let wire = made.wire.unwrap();
        assert_eq!((wire.datagrams_in, wire.datagrams_out, wire.bytes_in), (50.0, 20.0, 44_000.0));
        // Nobody sees TCP's packets, and nobody counted.
        let made = made_of("x".to_owned(), &Travelled::default(), 5.0, 5.0, (Err("no perf".to_owned()), None));
        assert!(made.wire.is_none() && made.calls.is_none() && made.counted_by == "no perf");
    }
}
