use super::*;

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("mode");
}

#[test]
fn what_is_created_is_read_back_and_no_two_are_alike() {
    let dir = directory();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let made = Secrets::create(&one).expect("made");
    let read = Secrets::open(&one).expect("read");
    let other = Secrets::create(&two).expect("made");
    assert_eq!(made.pepper.fingerprint(), read.pepper.fingerprint());
    let keys = |of: &Secrets| (of.journal().newest().bytes, of.snapshot().newest().bytes);
    assert_eq!(keys(&made), keys(&read));
    assert_eq!((made.quic_reset, made.quic_token), (read.quic_reset, read.quic_token));
    assert_ne!(made.pepper.fingerprint(), other.pepper.fingerprint());
    let (journal, snapshot) = keys(&made);
    let keys = [journal, snapshot, made.quic_reset, made.quic_token, keys(&other).0, [0; 32]];
    for (i, key) in keys.iter().enumerate() {
        assert!(!keys[..i].contains(key), "two keys are alike");
    }
    assert_eq!(fs::metadata(&one).expect("meta").permissions().mode() & 0o7777, 0o600);
    assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 2, "nothing temporary is left");
    assert_eq!(format!("{made:?}"), "Secrets(…)");
}

#[test]
fn an_existing_file_is_never_overwritten() {
    let dir = directory();
    let path = dir.path().join("secrets");
    Secrets::create(&path).expect("made");
    let before = fs::read(&path).expect("read");
    assert!(matches!(Secrets::create(&path), Err(SecretsError::Exists { .. })));
    assert_eq!(fs::read(&path).expect("read"), before);
    assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 1, "nothing temporary is left");
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let dir = directory();
    let path = dir.path().join("secrets");
    Secrets::create(&path).expect("made");
    let sound = fs::read(&path).expect("read");
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        fs::write(&path, &bytes).expect("write");
        let refused = Secrets::open(&path).expect_err("a flipped bit is refused");
        let expected = if (8..12).contains(&at) { "version" } else { "damaged" };
        assert!(refused.to_string().contains(expected), "byte {at}: {refused}");
    }
}

#[test]
fn wrong_sizes_and_modes_are_refused_with_what_to_do() {
    let dir = directory();
    let path = dir.path().join("secrets");
    Secrets::create(&path).expect("made");
    for mode in [0o640, 0o604, 0o660, 0o777] {
        set_mode(&path, mode);
        let refused = Secrets::open(&path).expect_err("others can read it").to_string();
        assert!(refused.contains(&format!("{mode:04o}")) && refused.contains("chmod 600"), "{refused}");
    }
    for mode in [0o400, 0o600] {
        set_mode(&path, mode);
        Secrets::open(&path).expect("only the owner reads it");
    }
    let sound = fs::read(&path).expect("read");
    for bytes in [&sound[..0], &sound[..191], &[sound.as_slice(), b"x"].concat()] {
        fs::write(&path, bytes).expect("write");
        let refused = Secrets::open(&path).expect_err("a wrong size").to_string();
        assert!(refused.contains("instead of 192") && refused.contains("restore"), "{refused}");
    }
}

#[test]
fn lost_secrets_are_not_replaced_where_a_journal_or_snapshot_needs_them() {
    for (name, needs) in
        [("journal", true), ("journal.redb", true), ("snapshot-12", true), ("lost+found", false), ("lock", false)]
    {
        let dir = directory();
        let path = dir.path().join("secrets");
        fs::write(dir.path().join(name), b"x").expect("write");
        match (Secrets::open_or_create(&path, dir.path()), needs) {
            (Err(SecretsError::Missing { found, .. }), true) => assert!(found.ends_with(name)),
            (Ok(made), false) => {
                let again = Secrets::open_or_create(&path, dir.path()).expect("read");
                assert_eq!(again.journal().newest().bytes, made.journal().newest().bytes);
            }
            (other, _) => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn an_empty_directory_for_snapshots_needs_no_secrets() {
    let dir = directory();
    fs::create_dir(dir.path().join("snapshots")).expect("mkdir");
    Secrets::open_or_create(&dir.path().join("secrets"), dir.path()).expect("made");
    fs::remove_file(dir.path().join("secrets")).expect("remove");
    fs::write(dir.path().join("snapshots/1"), b"x").expect("write");
    let refused = Secrets::open_or_create(&dir.path().join("secrets"), dir.path());
    assert!(matches!(refused, Err(SecretsError::Missing { .. })), "{refused:?}");
}

mod generations;
