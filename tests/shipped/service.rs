//! What is shipped beside the program: the unit for systemd and the rules for Prometheus.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::house::{House, PROGRAM, figure, is_installed, skipped, wait_for};

/// The most the unit may be exposed, in tenths: systemd's own scale goes from 0 to 100.
const EXPOSURE_MAX: u32 = 15;

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    fs::read_to_string(shipped(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Runs a program; what it said, if it did not fail.
fn says(program: &str, arguments: &[&str]) -> Result<String, String> {
    let ran = Command::new(program).args(arguments).output().map_err(|error| error.to_string())?;
    let out = String::from_utf8_lossy(&ran.stdout).into_owned();
    if ran.status.success() { Ok(out) } else { Err(out + &String::from_utf8_lossy(&ran.stderr)) }
}

#[test]
fn the_unit_is_little_exposed() {
    let help = says("systemd-analyze", &["--help"]).unwrap_or_default();
    if !help.contains("--offline") {
        return skipped("the rating of deploy/tokenscope.service: no systemd-analyze that can do it offline");
    }
    let unit = shipped("deploy/tokenscope.service");
    let threshold = format!("--threshold={EXPOSURE_MAX}");
    let unit = unit.to_str().expect("a path in UTF-8");
    let rated = says("systemd-analyze", &["security", "--offline=true", "--no-pager", &threshold, unit]);
    let rated = rated.unwrap_or_else(|said| panic!("more than {EXPOSURE_MAX} tenths: {said}"));
    figure(rated.lines().rfind(|line| line.contains("exposure level")).unwrap_or("no rating in what it said"));
}

/// The system calls behind a name: itself, or for `@name` all of the set, sets in it included.
fn calls(name: &str, found: &mut BTreeSet<String>) {
    if !name.starts_with('@') {
        found.insert(name.to_owned());
        return;
    }
    let listed = says("systemd-analyze", &["syscall-filter", "--no-pager", name]).unwrap_or_default();
    let inside: Vec<&str> = listed.lines().skip(1).map(str::trim).filter(|line| !line.starts_with('#')).collect();
    inside.into_iter().filter(|line| !line.is_empty()).for_each(|name| calls(name, found));
}

/// What the unit lets through: its lines from the top, `~` taking away.
fn let_through(unit: &str) -> BTreeSet<String> {
    let mut allowed = BTreeSet::new();
    for line in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (taken, names) = line.strip_prefix('~').map_or((false, line), |names| (true, names));
        let mut these = BTreeSet::new();
        names.split(' ').for_each(|name| calls(name, &mut these));
        match taken {
            true => allowed.retain(|name| !these.contains(name)),
            false => allowed.extend(these),
        }
    }
    allowed
}

#[test]
fn the_unit_lets_through_what_the_server_calls_and_little_else() {
    let allowed = let_through(&text("deploy/tokenscope.service"));
    if allowed.len() < 100 || !is_installed("strace") {
        return skipped("the filter of system calls: it takes strace and systemd-analyze");
    }
    for no in ["ptrace", "mount", "chroot", "setuid", "init_module", "reboot", "bpf", "chown"] {
        assert!(!allowed.contains(no), "{no} is let through");
    }
    let mut house = House::new();
    let traced = house.dir.path().join("calls");
    let mut command = Command::new("strace");
    // -D: the program is our child, and strace looks on from beside it.
    command.args(["-f", "-D", "-qq", "-o"]).arg(&traced).arg(PROGRAM);
    command.arg("serve").arg("--config").arg(&house.file.config_file);
    if house.try_start_by(command).is_err() {
        return skipped("the filter of system calls: strace may not trace here");
    }
    house.is_well("a traced start");
    house.revoke(&house.token("maria-time").token.clone());
    house.signal(rustix::process::Signal::HUP);
    house.logs("reloaded");
    assert_eq!(house.stop().code, Some(0));
    let ended = || fs::read_to_string(&traced).ok().filter(|text| text.contains("exit_group"));
    let trace = wait_for("the trace", ended);
    // PID name(arguments) = result; a call that was cut in two begins like any other.
    let name = |line: &str| {
        let call = line.split_once(' ').map(|(_, call)| call.trim_start())?;
        let name = call.split_once('(').map(|(name, _)| name)?;
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_').then(|| name.to_owned())
    };
    let called: BTreeSet<String> = trace.lines().filter_map(name).collect();
    assert!(called.len() > 30 && called.contains("fsync"), "little was traced: {called:?}");
    let refused: Vec<&String> = called.difference(&allowed).collect();
    assert!(refused.is_empty(), "the server calls what the unit refuses: {refused:?}");
    figure(&format!("{} system calls were made, {} would be let through", called.len(), allowed.len()));
}

#[test]
fn the_rules_are_sound_and_speak_of_metrics_that_exist() {
    let (rules, page, operations) =
        (text("deploy/alerts.yml"), text("src/metrics/METRICS.md"), text("docs/OPERATIONS.md"));
    let in_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let metrics = |text: &str| -> BTreeSet<String> {
        let words = text.split(|c: char| !in_word(c)).filter(|word| word.starts_with("tokenscope_"));
        words.map(|word| word.trim_end_matches("_bucket").to_owned()).collect()
    };
    let known = metrics(&page);
    for (file, text) in [("deploy/alerts.yml", &rules), ("docs/OPERATIONS.md", &operations)] {
        let named = metrics(text);
        assert!(named.len() >= 8, "{file} names {named:?}");
        let unknown: Vec<&String> = named.difference(&known).collect();
        assert!(unknown.is_empty(), "{file} names metrics that do not exist: {unknown:?}");
    }
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let told = operations.split(|c: char| !in_word(c)).filter(|word| word.starts_with("Tokenscope") && word.len() > 10);
    for alert in told {
        assert!(alerts.contains(&alert), "docs/OPERATIONS.md speaks of {alert}, which no rule is");
    }
    if !is_installed("promtool") {
        return skipped("promtool check rules: no promtool here");
    }
    let path = shipped("deploy/alerts.yml");
    let checked = says("promtool", &["check", "rules", path.to_str().expect("a path in UTF-8")]);
    assert!(checked.is_ok(), "{checked:?}");
}
