//! The tests have teeth: the product is made wrong in one place after the other, and the suite has to notice each time.
//!
//! `list.rs` has the mutants: a text of a named file, what stands in its place, and the command that has to fail. The long
//! test copies the tree (what git does not ignore, as it lies here) into the target directory, and goes through them:
//!
//! ```text
//! cargo test --test mutants -- --ignored --nocapture                      all of them: a minute or two each
//! TOKENSCOPE_MUTANTS="lease,exp itself" cargo test --test mutants …       those whose names have one of these in them
//! ```
//!
//! Found is a mutant for which the command says `test result: FAILED`. One that does not compile, or that hangs, is not
//! found: then the list is to be mended, or a test to be bounded. Each command is run on the unaltered tree first, and has
//! to pass there with at least one test. The short test holds the list to the source, so that it cannot rot.
//!
//! Mutants of the slot protocol and of the near-cache's memory (`tests/models`), of durability on a disk that forgets
//! (`tests/crash`) and of near-cached clients (`tests/fleet`) stand there, and are found at every run.

mod list;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use list::{MUTANTS, Mutant};
use rustix::process::{Pid, Signal, kill_process_group};

/// How long a command may take, building included. None of the tests named in the list waits for anything by itself.
const PATIENCE: Duration = Duration::from_secs(1_800);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Says something although the harness keeps what tests print.
fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}

/// The text of a file with these edits.
fn edited(file: &str, text: &str, mutant: &Mutant) -> String {
    let mut text = text.to_owned();
    for (_, old, new) in mutant.edits.iter().filter(|(of, ..)| *of == file) {
        let count = text.matches(old).count();
        assert_eq!(count, 1, "\"{}\": {file} has this {count} times: {old:?}", mutant.name);
        text = text.replace(old, new);
    }
    text
}

#[test]
fn every_text_that_a_mutant_replaces_stands_in_its_file_exactly_once() {
    let mut names = BTreeSet::new();
    for mutant in MUTANTS {
        assert!(names.insert(mutant.name), "two mutants are called {}", mutant.name);
        for (file, ..) in mutant.edits {
            let text = fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
            assert_ne!(edited(file, &text, mutant), text, "\"{}\" changes nothing in {file}", mutant.name);
        }
        assert!(!mutant.edits.is_empty() && mutant.command.len() >= 2, "{}", mutant.name);
    }
}

/// A copy of the tree, and a target directory of its own.
struct Copy {
    tree: PathBuf,
    target: PathBuf,
}

/// How a command ended.
#[derive(PartialEq, Debug)]
enum Ended {
    /// So many tests, and all passed.
    Passed(u64),
    /// A test failed.
    Failed,
    /// It came to no test result: it did not compile.
    NoResult,
    /// It did not end.
    Hung,
}

impl Copy {
    /// Copies what git knows and does not ignore. What is there already and is the same is left alone, so that little is built anew.
    fn new() -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutants");
        let copy = Self { tree: folder.join("tree"), target: folder.join("target") };
        let listed = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(root())
            .output()
            .expect("git runs");
        assert!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
        let names = String::from_utf8(listed.stdout).expect("names of files are UTF-8");
        for name in names.split('\0').filter(|name| !name.is_empty() && root().join(name).is_file()) {
            copy.write(name, &fs::read(root().join(name)).expect("a file of the tree"));
        }
        copy
    }

    /// Gives a file of the copy this content.
    fn write(&self, name: &str, content: &[u8]) {
        let path = self.tree.join(name);
        if fs::read(&path).is_ok_and(|there| there == content) {
            return;
        }
        fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder of the copy");
        fs::write(&path, content).expect("a file of the copy");
    }

    /// Alters the copy, runs the mutant's command, and puts everything back.
    fn run(&self, mutant: Option<&Mutant>, command: &[&str]) -> (Ended, String) {
        let files: BTreeSet<&str> =
            mutant.iter().flat_map(|mutant| mutant.edits.iter().map(|(file, ..)| *file)).collect();
        for file in &files {
            let text = fs::read_to_string(root().join(file)).expect("a file of the tree");
            self.write(file, edited(file, &text, mutant.expect("files are a mutant's")).as_bytes());
        }
        let ended = self.cargo(command);
        for file in &files {
            self.write(file, &fs::read(root().join(file)).expect("a file of the tree"));
        }
        ended
    }

    fn cargo(&self, command: &[&str]) -> (Ended, String) {
        let told = self.tree.with_file_name("told.txt");
        let out = File::create(&told).expect("a file for the output");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["test", "--package", "tokenscope", "--quiet"]).args(command).current_dir(&self.tree);
        // Not what was set for this test, nor for its build.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("TOKENSCOPE_") || name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
            {
                cargo.env_remove(&*name);
            }
        }
        cargo.env("CARGO_TARGET_DIR", &self.target).env("CARGO_TERM_COLOR", "never");
        cargo.stdin(Stdio::null()).stdout(out.try_clone().expect("a second handle")).stderr(out).process_group(0);
        let mut child = cargo.spawn().expect("cargo runs");
        let began = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child that can be waited for") {
                break Some(status);
            }
            if began.elapsed() > PATIENCE {
                // Cargo, and the test that it runs.
                let group = Pid::from_child(&child);
                let _ = kill_process_group(group, Signal::KILL);
                let _ = child.wait();
                break None;
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        let told = String::from_utf8_lossy(&fs::read(&told).unwrap_or_default()).into_owned();
        let passed: u64 = told
            .lines()
            .filter_map(|line| line.strip_prefix("test result: ok. ")?.split(' ').next()?.parse::<u64>().ok())
            .sum();
        let ended = match status {
            None => Ended::Hung,
            Some(status) if status.success() => Ended::Passed(passed),
            Some(_) if told.contains("test result: FAILED") => Ended::Failed,
            // A test that ends the whole process, by a signal or an abort, has been noticed just as well.
            Some(_) if told.contains("(signal: ") => Ended::Failed,
            Some(_) => Ended::NoResult,
        };
        (ended, told)
    }
}

/// The last lines of what a command said.
fn end_of(told: &str) -> String {
    let lines: Vec<&str> = told.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// The first test that failed, as the harness names it.
fn failed(told: &str) -> &str {
    let named = told.lines().find_map(|line| line.strip_prefix("---- ")?.strip_suffix(" stdout ----"));
    named.unwrap_or("the process ended")
}

#[test]
#[ignore = "builds the product anew for each mutant: a minute or two each"]
fn every_mutant_is_found_by_the_suite() {
    let wanted = std::env::var("TOKENSCOPE_MUTANTS").unwrap_or_default();
    let is_wanted = |mutant: &&Mutant| wanted.split(',').any(|part| mutant.name.contains(part.trim()));
    let mutants: Vec<&Mutant> = MUTANTS.iter().filter(is_wanted).collect();
    assert!(!mutants.is_empty(), "no mutant's name has {wanted:?} in it");
    let copy = Copy::new();
    let commands: BTreeSet<&[&str]> = mutants.iter().map(|mutant| mutant.command).collect();
    for command in commands {
        let began = Instant::now();
        let (ended, told) = copy.run(None, command);
        assert!(matches!(ended, Ended::Passed(1..)), "{command:?} on the tree as it is: {ended:?}\n{}", end_of(&told));
        say(&format!("{:5.0} s  as it is: {} passes, {ended:?}", began.elapsed().as_secs_f64(), command.join(" ")));
    }
    let mut escaped = Vec::new();
    for mutant in &mutants {
        let began = Instant::now();
        let (ended, told) = copy.run(Some(mutant), mutant.command);
        let what = match ended {
            Ended::Failed => format!("found     {} (by {})", mutant.name, failed(&told)),
            Ended::Passed(_) => format!("ESCAPED   {} ({})", mutant.name, mutant.command.join(" ")),
            Ended::Hung => format!("HUNG      {} ({})", mutant.name, mutant.command.join(" ")),
            Ended::NoResult => format!("NO RESULT {}\n{}", mutant.name, end_of(&told)),
        };
        say(&format!("{:5.0} s  {what}", began.elapsed().as_secs_f64()));
        if ended != Ended::Failed {
            escaped.push(mutant.name);
        }
    }
    say(&format!("mutants: {} of {} found", mutants.len() - escaped.len(), mutants.len()));
    assert!(escaped.is_empty(), "not found: {escaped:?}");
}
