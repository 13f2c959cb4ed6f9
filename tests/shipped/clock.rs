//! The machine's wall clock is set forward and back by a year, and stands still, under the shipped program: what has
//! expired never becomes active again, neither in the process nor after a restart, nor after a kill.
//!
//! The clock is set for the one process, by a library of a few lines that stands before the C library and is compiled
//! here. Without a C compiler, or where the program does not take it, the test says so and passes.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use tokenscope::domain::TokenDigest;

use super::house::{House, PROGRAM, figure, is_installed, now, skipped, wait_for};

/// The wall clock is the real one plus the first number; if the second is not 0 it stands there instead.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static volatile long long *hands;
__attribute__((constructor)) static void look(void) {
    const char *path = getenv("STEPPED_CLOCK");
    int file = path ? open(path, O_RDONLY) : -1;
    void *there = file < 0 ? MAP_FAILED : mmap(0, 16, PROT_READ, MAP_SHARED, file, 0);
    if (there != MAP_FAILED) hands = there;
}
int clock_gettime(clockid_t id, struct timespec *time) {
    int failed = (int)syscall(SYS_clock_gettime, id, time);
    if (!failed && id == CLOCK_REALTIME && hands) {
        if (hands[1]) time->tv_sec = hands[1];
        time->tv_sec += hands[0];
    }
    return failed;
}
"#;

const HOUR: i64 = 3_600;
const YEAR: i64 = 365 * 24 * HOUR;

/// Compiles the library; `None` without a compiler.
fn library(directory: &Path) -> Option<std::path::PathBuf> {
    let (source, made) = (directory.join("stepped.c"), directory.join("stepped.so"));
    fs::write(&source, LIBRARY).unwrap();
    let mut command = Command::new("cc");
    let ran = command.args(["-shared", "-fPIC", "-o"]).arg(&made).arg(&source).output().ok()?;
    ran.status.success().then_some(made)
}

/// Starts the server with the library before it.
fn start(house: &mut House, library: &Path, hands: &Path) {
    let mut command = Command::new(PROGRAM);
    command.arg("serve").arg("--config").arg(&house.file.config_file);
    command.env("LD_PRELOAD", library).env("STEPPED_CLOCK", hands);
    house.try_start_by(command).unwrap();
}

/// Registers a token, which ends then or never.
fn register(house: &House, token: &str, ends: Option<u64>) {
    let admin = house.secret("admin");
    let mut new = json!({ "sha256": TokenDigest::of(token.as_bytes()).to_hex(), "grant": "g1" });
    new["iat"] = (now().seconds() - 60).into();
    match ends {
        Some(ends) => new["exp"] = ends.into(),
        None => new["never_expires"] = true.into(),
    }
    let answer = house.web().json("/v1/tokens", (&admin.0, &admin.1), &new.to_string());
    assert_eq!(answer.status, 200, "{answer:?}");
}

fn active(house: &House, token: &str) -> bool {
    house.introspect(token).text().contains("\"active\":true")
}

fn set(hands: &Path, offset: i64, stands: i64) {
    // In place: the process has this very file in its memory.
    use std::os::unix::fs::FileExt;
    let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(hands).unwrap();
    file.write_all_at(&[offset.to_ne_bytes(), stands.to_ne_bytes()].concat(), 0).unwrap();
}

#[test]
fn what_has_expired_stays_expired_when_the_wall_clock_of_the_machine_is_set() {
    let mut house = House::new();
    let made = if is_installed("cc") { library(house.dir.path()) } else { None };
    let Some(library) = made else { return skipped("a wall clock that is set: no C compiler here") };
    let hands = house.dir.path().join("hands");
    set(&hands, 0, 0);
    start(&mut house, &library, &hands);

    // It stands still: time passes all the same.
    set(&hands, 0, i64::try_from(now().seconds()).unwrap());
    register(&house, "soon over", Some(now().seconds() + 2));
    register(&house, "over in an hour", Some(now().seconds() + 3_600));
    register(&house, "never over", None);
    assert!(active(&house, "over in an hour") && active(&house, "never over"));
    wait_for("the end of a token while the wall clock stands still", || (!active(&house, "soon over")).then_some(()));
    assert!(active(&house, "over in an hour"));

    set(&hands, 2 * HOUR, 0);
    if active(&house, "over in an hour") {
        return skipped("a wall clock that is set: the program does not read it through the C library here");
    }
    let mut steps = 0;
    for offset in [0, -HOUR, -YEAR, YEAR, -YEAR, 0, -10 * YEAR, 3 * HOUR] {
        set(&hands, offset, 0);
        for _ in 0..20 {
            assert!(!active(&house, "over in an hour") && !active(&house, "soon over"), "{offset} s");
            assert!(active(&house, "never over"), "{offset} s");
            steps += 1;
        }
    }
    // A process that begins in the past knows what the one before has seen.
    for offset in [-HOUR, 0] {
        set(&hands, offset, 0);
        assert_eq!(house.stop().code, Some(0));
        start(&mut house, &library, &hands);
        assert!(!active(&house, "over in an hour") && !active(&house, "soon over"), "{offset} s, after a restart");
        assert!(active(&house, "never over"), "{offset} s, after a restart");
    }
    figure(&format!(
        "a wall clock set by up to ten years, 8 times, and twice across a restart: {steps} looks, active again 0"
    ));
}

/// What has expired without a change after it, before a kill: known to the next process, if it was written down.
#[test]
fn what_has_expired_before_a_kill_stays_expired_when_the_wall_clock_is_set_back_meanwhile() {
    const ROUNDS: i64 = 4;
    let mut house = House::with("\n[limits]\ntime_noted_every = \"100ms\"\n");
    let made = if is_installed("cc") { library(house.dir.path()) } else { None };
    let Some(library) = made else { return skipped("a kill, and a wall clock that is set: no C compiler here") };
    let hands = house.dir.path().join("hands");
    set(&hands, 0, 0);
    start(&mut house, &library, &hands);
    register(&house, "never over", None);
    for round in 1..=ROUNDS {
        register(&house, &format!("over {round}"), Some(now().seconds() + (2 * round as u64 - 1) * 3_600));
    }
    let mark = house.data.join("high-water");
    for round in 1..=ROUNDS {
        // The round's token expires, and nothing is changed after that.
        let before = fs::read(&mark).ok();
        assert!(active(&house, &format!("over {round}")));
        set(&hands, 2 * round * HOUR, 0);
        if active(&house, &format!("over {round}")) {
            return skipped(
                "a kill, and a wall clock that is set: the program does not read it through the C library here",
            );
        }
        // Twice: the first may have been begun before the clock was set.
        let first =
            wait_for("the time to be written down", || fs::read(&mark).ok().filter(|it| before.as_ref() != Some(it)));
        wait_for("the time to be written down", || fs::read(&mark).ok().filter(|it| *it != first));
        house.kill();
        set(&hands, [0, -HOUR, -YEAR, -10 * YEAR][round as usize - 1], 0);
        start(&mut house, &library, &hands);
        for over in 1..=round {
            assert!(!active(&house, &format!("over {over}")), "round {round}: active again after a kill");
        }
        assert!(active(&house, "never over"));
    }
    figure(&format!("{ROUNDS} kills, the wall clock set back by up to ten years meanwhile: active again 0"));
}
