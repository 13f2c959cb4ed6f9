//! Replay: every file under `fuzz/corpus/` goes through the same function that the fuzzer drives, on any compiler and
//! without one. What a fuzzer found once is a file there, and stays found.

use std::fs;
use std::path::{Path, PathBuf};

use tokenscope::testing::fuzz::TARGETS;

/// The most files of one target, and the most bytes of one file: a corpus that is committed stays small.
const FILES_MAX: usize = 64;
const BYTES_MAX: usize = 16 * 1024;

fn fuzz(inside: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(inside)
}

/// The files of a folder in order; none if it is not there.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[test]
fn nothing_in_the_committed_corpora_finds_a_fault() {
    let mut replayed = 0;
    for (name, body) in TARGETS {
        let folder = fuzz("corpus").join(name);
        let files = names(&folder);
        assert!(!files.is_empty(), "{} is empty", folder.display());
        assert!(files.len() <= FILES_MAX, "{} has {} files; keep {FILES_MAX}", folder.display(), files.len());
        for file in files {
            let path = folder.join(&file);
            let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(bytes.len() <= BYTES_MAX, "{} has {} bytes", path.display(), bytes.len());
            // On a panic this is the last line of the output: it names the file.
            println!("{name}/{file}");
            body(&bytes);
            replayed += 1;
        }
    }
    println!("{replayed} files of {} targets", TARGETS.len());
}

#[test]
fn every_prefix_of_the_corpora_is_harmless_too() {
    for (name, body) in TARGETS {
        for file in names(&fuzz("corpus").join(name)) {
            let bytes = fs::read(fuzz("corpus").join(name).join(&file)).expect("a file of the corpus");
            println!("{name}/{file}");
            // Every cut of a small file; of a larger one as many, evenly.
            let step = bytes.len().div_ceil(64).max(1);
            (0..bytes.len()).step_by(step).for_each(|cut| body(&bytes[..cut]));
        }
    }
}

#[test]
fn each_target_is_one_of_the_fuzz_package_and_has_a_corpus() {
    let targets: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names(&fuzz("corpus")), targets, "the folders of fuzz/corpus");
    let files: Vec<String> = targets.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(names(&fuzz("targets")), files, "the files of fuzz/targets");
    let manifest = fs::read_to_string(fuzz("Cargo.toml")).expect("fuzz/Cargo.toml");
    for name in targets {
        assert!(manifest.contains(&format!("name = \"{name}\"\npath = \"targets/{name}.rs\"")), "{name} in Cargo.toml");
        let main = fs::read_to_string(fuzz("targets").join(format!("{name}.rs"))).expect("a target");
        assert!(main.contains(&format!("testing::fuzz::{name}(data)")), "fuzz/targets/{name}.rs runs its namesake");
    }
}
