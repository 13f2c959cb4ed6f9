//! A hit in a near-cache that follows a real server: no allocation, and no system call.
//!
//! Allocations are counted by the process. System calls are counted by `strace`, which looks on while this very program plays
//! the part again as a process of its own; what lies between two calls that nothing else makes is what the hits made. The
//! clock is read without a call where the kernel serves it so. Without `strace`, or where it may not trace, the test says
//! SKIPPED and passes.

use std::future::Future;
use std::io::Write as _;
use std::pin::pin;
use std::process::Command;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokenscope::client::{Decision, NearCache, NearOptions};

use super::allocations;
use super::rig::{Rig, TOKEN};

/// Generous: on a busy machine nothing else counts.
const PATIENCE: Duration = Duration::from_secs(60);

const ROUNDS: u64 = 10_000;

/// What is asked, and what memory says.
const QUESTIONS: [(&str, &str); 4] =
    [("tasks:read", "A"), ("tasks:write", "A"), ("tasks:write", "A/1"), ("tasks:read", "B")];

/// A server, and a near-cache that holds everything that will be asked.
struct Followed {
    cache: NearCache,
    _rig: Rig,
    _runtime: tokio::runtime::Runtime,
}

fn followed() -> Followed {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let (rig, cache) = runtime.block_on(async {
        let rig = Rig::start().await;
        let options = NearOptions { lease: PATIENCE, ..NearOptions::default() };
        let cache = NearCache::follow(rig.client("everything").await, options).expect("room and a lease");
        cache.live(PATIENCE).await.expect("a lease");
        let began = Instant::now();
        while QUESTIONS.iter().any(|(scope, place)| cache.held(TOKEN, scope, place).is_none()) {
            assert!(began.elapsed() < PATIENCE, "memory never holds all of it: {:?}", cache.counters());
            for (scope, place) in QUESTIONS {
                cache.check(TOKEN, scope, place).await.expect("a verdict");
            }
        }
        (rig, cache)
    });
    Followed { cache, _rig: rig, _runtime: runtime }
}

/// Asks everything once; how many were allowed. No await point is reached.
fn ask(cache: &NearCache) -> u64 {
    let mut context = Context::from_waker(Waker::noop());
    let allowed = QUESTIONS.iter().filter(|(scope, place)| {
        match pin!(cache.check(TOKEN, scope, place)).as_mut().poll(&mut context) {
            Poll::Ready(decision) => decision == Ok(Decision::Allowed),
            Poll::Pending => panic!("it asks the server"),
        }
    });
    allowed.count() as u64
}

#[test]
fn a_hit_of_a_following_near_cache_allocates_nothing() {
    let Followed { cache, .. } = &followed();
    // This thread's first look makes its place among the readers.
    assert_eq!(ask(cache), 3);
    let before = cache.counters();
    let mut allowed = 0;
    let counted = allocations(|| allowed = (0..ROUNDS).map(|_| ask(cache)).sum());
    let after = cache.counters();
    assert_eq!((allowed, counted), (3 * ROUNDS, 0), "allowed, and allocations");
    assert_eq!(after.hits - before.hits, 4 * ROUNDS, "every one of them from memory");
}

/// Tells the process that it is to play the part.
const PLAY: &str = "TOKENSCOPE_QUIET_HITS";

/// A system call that nobody else makes.
fn mark() {
    std::hint::black_box(rustix::process::getppid());
}

#[test]
#[ignore = "a part of the other one, which starts it under strace"]
fn is_played_under_strace() {
    if std::env::var_os(PLAY).is_none() {
        return;
    }
    let Followed { cache, .. } = &followed();
    // This thread's first look makes its place among the readers.
    assert_eq!(ask(cache), 3);
    // What has to be found.
    mark();
    assert_eq!(ask(cache), 3);
    std::hint::black_box(rustix::process::getpid());
    mark();
    // What has to be nothing.
    mark();
    let allowed: u64 = (0..ROUNDS).map(|_| ask(cache)).sum();
    mark();
    assert_eq!(allowed, 3 * ROUNDS);
}

fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: a hit without a system call: {why}");
}

#[test]
fn a_hit_of_a_following_near_cache_makes_no_system_call() {
    let directory = tempfile::tempdir().expect("a directory");
    let trace = directory.path().join("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-o"]).arg(&trace).arg(std::env::current_exe().expect("this program"));
    command.args(["--exact", "near::is_played_under_strace", "--ignored", "--nocapture"]).env(PLAY, "1");
    let Ok(played) = command.output() else { return skipped("there is no strace") };
    let trace = std::fs::read_to_string(&trace).unwrap_or_default();
    if !trace.contains("getppid(") {
        let said = String::from_utf8_lossy(&played.stderr);
        assert!(said.contains("ptrace") || said.contains("not permitted"), "the part was not played: {said}");
        return skipped("strace may not trace here");
    }
    assert!(played.status.success(), "{}", String::from_utf8_lossy(&played.stdout));
    // Signals are none, and a call that another thread's line cut in two counts where it begins.
    let calls = |line: &&str| !line.contains(" --- ") && !line.contains(" resumed>");
    let marker = trace.lines().find(|line| line.contains("getppid(")).expect("looked for above");
    let thread = marker.split(' ').next().unwrap_or_default();
    let of_thread: Vec<&str> =
        trace.lines().filter(|line| line.split(' ').next() == Some(thread)).filter(calls).collect();
    let parts: Vec<&[&str]> = of_thread.split(|line| line.contains("getppid(")).collect();
    let [_, found, between, hits, _] = parts.as_slice() else { panic!("{} marks, and not four", parts.len() - 1) };
    assert!(between.is_empty() && found.len() == 1 && found[0].contains("getpid("), "one call is found: {found:?}");
    if !hits.is_empty() && hits.iter().all(|line| line.contains("clock_gettime(")) {
        return skipped("reading the clock is a system call on this machine; there was no other");
    }
    assert!(hits.is_empty(), "{} system calls in {} hits: {:?}", hits.len(), 4 * ROUNDS, &hits[..hits.len().min(4)]);
}
