//! Damaged, missing and doubly used files: found before anything is believed, said clearly, never an empty start.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::house::{House, Ran, run};

fn files(house: &House, ending: &str) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(&house.data).unwrap().map(|it| it.unwrap().path()).collect();
    paths.retain(|path| path.to_str().unwrap().ends_with(ending));
    paths.sort();
    paths
}

/// Flips one bit of the byte at this part of the file.
fn flip(path: &PathBuf, part: f64) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let at = (file.metadata().unwrap().len() as f64 * part) as u64;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

/// A house whose server has run twice: two snapshots, a journal, and a revoked token.
fn lived_in() -> House {
    let mut house = House::new();
    house.start();
    house.revoke(&house.token("maria-time").token.clone());
    assert_eq!(house.stop().code, Some(0));
    house.start();
    house.revoke(&house.token("jonas-report").token.clone());
    assert_eq!(house.stop().code, Some(0));
    assert!(files(&house, ".tks").len() >= 2, "{:?}", files(&house, ""));
    house
}

fn revoked_stays_revoked(house: &House, when: &str) {
    for name in ["maria-time", "jonas-report"] {
        assert_eq!(house.introspect(&house.token(name).token).text(), "{\"active\":false}", "{when}");
    }
    house.is_well(when);
}

/// It did not start: exit code 1, and all of these words in the log.
fn refused(ran: Result<(), Ran>, when: &str, words: &[&str]) {
    let ran = ran.expect_err(when);
    assert_eq!(ran.code, Some(1), "{when}: {}", ran.err);
    for word in words {
        assert!(ran.err.contains(word), "{when}: {word:?} is not in {}", ran.err);
    }
}

#[test]
fn a_damaged_snapshot_is_set_aside_and_the_older_one_with_the_journal_is_used() {
    let mut house = lived_in();
    for part in [0.1, 0.5, 0.999] {
        let newest = files(&house, ".tks").pop().unwrap();
        flip(&newest, part);
        house.start();
        house.logs("a snapshot is not used");
        let name = newest.file_name().unwrap().to_str().unwrap();
        assert!(house.log().contains(name), "{}", house.log());
        assert!(!newest.exists(), "{name} is still where it was");
        assert!(
            files(&house, "").iter().any(|path| path.to_str().unwrap().contains(name)),
            "the damaged file is kept for people to look at: {:?}",
            files(&house, "")
        );
        revoked_stays_revoked(&house, "a damaged snapshot");
        assert_eq!(house.stop().code, Some(0));
    }
}

/// B19: a deny-list that could not be loaded, and a server that started without it.
#[test]
fn without_any_sound_state_the_server_refuses_to_start() {
    let mut house = lived_in();
    for snapshot in files(&house, ".tks") {
        flip(&snapshot, 0.5);
    }
    let journal = house.data.join("journal.redb");
    let bytes = fs::metadata(&journal).unwrap().len();
    let file = fs::File::options().write(true).open(&journal).unwrap();
    for at in (0..bytes).step_by(512) {
        file.write_all_at(&[0xa5; 64], at).unwrap();
    }
    refused(house.try_start(), "everything is damaged", &["journal"]);
    let exported = run(&["export", "--config", house.config()], "", &[]);
    assert_eq!((exported.code, exported.out.as_str()), (Some(1), ""), "{exported:?}");
}

#[test]
fn with_all_snapshots_damaged_the_whole_journal_is_enough_or_the_start_is_refused() {
    let mut house = lived_in();
    for snapshot in files(&house, ".tks") {
        flip(&snapshot, 0.5);
    }
    match house.try_start() {
        Ok(()) => revoked_stays_revoked(&house, "from the journal alone"),
        Err(ran) => {
            assert_eq!(ran.code, Some(1), "{}", ran.err);
            assert!(ran.err.contains("no sound snapshot is left"), "{}", ran.err);
            assert!(ran.err.contains("restore a snapshot"), "what to do: {}", ran.err);
        }
    }
}

#[test]
fn a_damaged_journal_is_refused_and_nothing_is_written_over_it() {
    let mut house = lived_in();
    let journal = house.data.join("journal.redb");
    let bytes = fs::metadata(&journal).unwrap().len();
    let file = fs::File::options().write(true).open(&journal).unwrap();
    for at in (0..bytes).step_by(512) {
        file.write_all_at(&[0xa5; 16], at).unwrap();
    }
    let before = fs::read(&journal).unwrap();
    refused(house.try_start(), "a damaged journal", &["journal"]);
    assert!(fs::read(&journal).unwrap() == before, "the damaged journal was changed");
}

#[test]
fn without_its_journal_the_server_refuses_to_start() {
    let mut house = lived_in();
    let journal = house.data.join("journal.redb");
    let aside = house.dir.path().join("journal.aside");
    fs::rename(&journal, &aside).unwrap();
    refused(house.try_start(), "no journal", &["holds", "but no journal.redb", "put the journal back"]);
    assert!(!journal.exists(), "an empty journal was made");
    fs::rename(&aside, &journal).unwrap();
    house.start();
    revoked_stays_revoked(&house, "the journal is back");
}

#[test]
fn without_its_secrets_the_server_refuses_to_start() {
    let mut house = lived_in();
    let secrets = house.data.join("secrets");
    let aside = house.dir.path().join("secrets.aside");
    fs::rename(&secrets, &aside).unwrap();
    refused(house.try_start(), "no secrets", &["secrets"]);
    assert!(!secrets.exists(), "new secrets were made for old data");
    fs::rename(&aside, &secrets).unwrap();
    house.start();
    revoked_stays_revoked(&house, "the secrets are back");
}

#[test]
fn an_older_copy_of_the_whole_directory_is_refused_where_the_mark_knows_better() {
    let mut house = House::new();
    house.start();
    assert_eq!(house.stop().code, Some(0));
    let old = fs::read(house.data.join("journal.redb")).unwrap();
    house.start();
    house.revoke(&house.token("maria-time").token.clone());
    assert_eq!(house.stop().code, Some(0));
    fs::write(house.data.join("journal.redb"), old).unwrap();
    refused(house.try_start(), "an older journal", &["older copy", "bring revoked tokens back"]);
}

#[test]
fn a_second_process_on_the_same_directory_is_told_so() {
    let mut house = House::new();
    house.start();
    // The same configuration with other ports: only the directory is shared.
    let text = fs::read_to_string(&house.file.config_file).unwrap();
    let other: String = text
        .lines()
        .map(|line| match line.split_once(" = ") {
            Some((key, value)) if key.ends_with("_address") && value.starts_with('"') => {
                format!("{key} = \"127.0.0.1:0\"\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    let config = house.file.config_file.with_file_name("other.toml");
    fs::write(&config, other).unwrap();
    let config = config.to_str().unwrap();
    let lines = house.dir.path().join("lines.jsonl");
    fs::write(&lines, "{\"client\":\"another\"}\n").unwrap();
    for arguments in [
        &["serve", "--config", config][..],
        &["import", "--config", config, lines.to_str().unwrap()],
        &["export", "--config", config],
        &["snapshot", "create", "--config", config],
        &["journal", "verify", "--config", config],
    ] {
        let ran = run(arguments, "", &[]);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.err.contains("in use") || ran.err.contains("another process"), "{arguments:?}: {ran:?}");
        house.is_well(arguments[0]);
    }
    // With the same ports, that is what it says.
    let ran = run(&["serve", "--config", house.config()], "", &[]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("cannot listen on"), "{ran:?}");
    house.is_well("a second server on the same ports");
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_a_suggestion() {
    let mut house = House::empty("");
    house.configure(|text| text.replace("quic_address = ", "quic_adress = "));
    let text = fs::read_to_string(&house.file.config_file).unwrap();
    let line = text.lines().position(|line| line.starts_with("quic_adress")).unwrap() + 1;
    for verb in ["serve", "check-config", "export", "journal inspect"] {
        let arguments: Vec<&str> = verb.split(' ').chain(["--config", house.config()]).collect();
        let ran = run(&arguments, "", &[]);
        assert_eq!(ran.code, Some(78), "{ran:?}");
        for word in [&format!(":{line}:1"), "quic_adress", "did you mean `quic_address`?"] {
            assert!(ran.err.contains(word), "{verb}: {word} is not in {ran:?}");
        }
    }
    let ran = run(&["serve", "--config", "/nowhere/tokenscope.toml"], "", &[]);
    assert_eq!(ran.code, Some(78), "{ran:?}");
    assert!(ran.err.contains("/nowhere/tokenscope.toml"), "{ran:?}");
}
