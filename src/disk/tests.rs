//! The data directory on the real disk, and on one that fails at every call.

use std::io::Read;
use std::sync::Mutex;

use super::*;

/// What happens when the calls that may succeed are used up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// One call fails, as with a bad block or a full disk; later ones succeed.
    Once,
    /// Every call from then on fails and does nothing, as if the process had been killed there.
    Killed,
    /// As `Killed`, and a write that is cut leaves half of its bytes.
    Torn,
}

/// The real disk, until its calls are used up. Counts every call, so that a test can fail each one in turn.
#[derive(Debug)]
pub(crate) struct FaultDisk(Arc<Budget>);

#[derive(Debug)]
struct Budget {
    /// Calls that still succeed; negative once the fault has struck.
    left: Mutex<i64>,
    fault: Fault,
    /// The names of the calls so far.
    calls: Mutex<Vec<&'static str>>,
}

impl FaultDisk {
    pub(crate) fn new(calls: u32, fault: Fault) -> Arc<Self> {
        Arc::new(Self(Arc::new(Budget { left: Mutex::new(i64::from(calls)), fault, calls: Mutex::default() })))
    }

    /// The calls since the last time this was asked, in order.
    pub(crate) fn take_calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.0.calls.lock().unwrap())
    }

    /// Whether the fault has struck.
    pub(crate) fn has_struck(&self) -> bool {
        *self.0.left.lock().unwrap() < 0
    }
}

impl Budget {
    fn spend(&self, call: &'static str) -> io::Result<()> {
        self.calls.lock().unwrap().push(call);
        let mut left = self.left.lock().unwrap();
        *left -= 1;
        let fails = *left == -1 || (*left < 0 && self.fault != Fault::Once);
        if fails { Err(io::Error::other("injected")) } else { Ok(()) }
    }
}

#[derive(Debug)]
struct FaultFile(Box<dyn DiskFile>, Arc<Budget>);

impl Disk for FaultDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.0.spend("create_dir").and_then(|()| FileDisk.create_dir(path))
    }
    fn dir_mode(&self, path: &Path) -> io::Result<u32> {
        self.0.spend("dir_mode").and_then(|()| FileDisk.dir_mode(path))
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.0.spend("lock").and_then(|()| FileDisk.lock(path))
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.0.spend("create")?;
        Ok(Box::new(FaultFile(FileDisk.create(path)?, Arc::clone(&self.0))))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.0.spend("open")?;
        Ok(Box::new(FaultFile(FileDisk.open(path)?, Arc::clone(&self.0))))
    }
    fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.0.spend("names").and_then(|()| FileDisk.names(dir))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.spend("rename").and_then(|()| FileDisk.rename(from, to))
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.spend("remove").and_then(|()| FileDisk.remove(path))
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.spend("sync_dir").and_then(|()| FileDisk.sync_dir(path))
    }
}

impl DiskFile for FaultFile {
    fn bytes(&self) -> io::Result<u64> {
        self.1.spend("bytes").and_then(|()| self.0.bytes())
    }
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.1.spend("read_at").and_then(|()| self.0.read_at(buffer, at))
    }
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        match self.1.spend("write_at") {
            Err(error) if self.1.fault == Fault::Torn => self.0.write_at(&bytes[..bytes.len() / 2], at).and(Err(error)),
            Err(error) => Err(error),
            // Short writes are ordinary: give one for every larger piece.
            Ok(()) => self.0.write_at(&bytes[..bytes.len().div_ceil(2)], at),
        }
    }
    fn sync(&self) -> io::Result<()> {
        self.1.spend("sync").and_then(|()| self.0.sync())
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_new_directory_and_its_files_are_private() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a/b/data");
    let dir = DataDir::open(&path).unwrap();
    dir.write("one", b"1").unwrap();
    dir.open_in_place("journal").unwrap();
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&root.path().join("a")), 0o700);
    for name in ["one", "journal", "lock"] {
        assert_eq!(mode(&path.join(name)), 0o600, "{name}");
    }
}

#[test]
fn a_directory_others_may_write_is_refused_and_one_they_may_read_is_not() {
    for (bits, refused) in [(0o700, false), (0o755, false), (0o770, true), (0o702, true), (0o1777, true)] {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(bits)).unwrap();
        let opened = DataDir::open(root.path());
        assert_eq!(matches!(&opened, Err(DiskError::Exposed { mode, .. }) if *mode == bits), refused, "{bits:o}");
        assert_eq!(opened.is_ok(), !refused, "{bits:o}: {opened:?}");
    }
}

#[test]
fn a_second_opening_is_refused_and_told_who_has_it() {
    let root = tempfile::tempdir().unwrap();
    let first = DataDir::open(root.path()).unwrap();
    let error = DataDir::open(root.path()).unwrap_err();
    let DiskError::InUse { holder, .. } = &error else { panic!("{error}") };
    assert_eq!(*holder, Some(std::process::id()));
    let text = error.to_string();
    assert!(text.contains("in use by another process") && text.contains("stop that process"), "{text}");
    drop(first);
    DataDir::open(root.path()).unwrap();
}

#[test]
fn a_file_in_the_place_of_the_directory_is_an_error_that_names_it() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("file");
    fs::write(&path, b"").unwrap();
    let text = DataDir::open(&path).unwrap_err().to_string();
    assert!(text.contains("file") && text.contains("data directory"), "{text}");
}

#[test]
fn writing_replaces_a_file_whole_and_leaves_nothing_temporary() {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path()).unwrap();
    assert_eq!(dir.read("state", 10).unwrap(), None);
    for content in [&b"first"[..], b"", b"second, longer"] {
        dir.write("state", content).unwrap();
        assert_eq!(dir.read("state", 20).unwrap().as_deref(), Some(content));
        assert_eq!(dir.list().unwrap(), ["state"]);
    }
    assert!(matches!(dir.read("state", 13), Err(DiskError::TooLarge { bytes: 14, bytes_max: 13, .. })));
    dir.remove("state").unwrap();
    assert!(dir.list().unwrap().is_empty());
}

#[test]
fn an_unpublished_file_never_gets_its_name() {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path()).unwrap();
    let mut one = dir.create("state").unwrap();
    let mut other = dir.create("state").unwrap();
    one.append(b"one").unwrap();
    other.append(b"other").unwrap();
    assert_ne!(one.path(), other.path());
    other.publish().unwrap();
    drop(one);
    assert_eq!(dir.list().unwrap(), ["state"]);
    assert_eq!(dir.read("state", 10).unwrap().unwrap(), b"other");
}

#[test]
fn what_an_interrupted_process_left_is_swept_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let kept = ["state", "state.tmp", "x.tmp-", ".tmp-3", "x.tmp-3a", "state.damaged-1"];
    let swept = ["state.tmp-0", "snapshot.tks.tmp-17"];
    for name in kept.iter().chain(&swept) {
        fs::write(root.path().join(name), b"x").unwrap();
    }
    let mut expected = kept.map(str::to_owned);
    expected.sort_unstable();
    assert_eq!(DataDir::open(root.path()).unwrap().list().unwrap(), expected);
}

#[test]
fn damaged_files_are_set_aside_under_numbers_and_never_overwritten() {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path()).unwrap();
    for number in 1..=3 {
        let content = format!("damaged the {number}. time");
        dir.write("state", content.as_bytes()).unwrap();
        let aside = dir.quarantine("state").unwrap();
        assert_eq!(aside, format!("state.damaged-{number}"));
        assert_eq!(dir.read(&aside, 100).unwrap().unwrap(), content.as_bytes());
    }
    assert_eq!(dir.list().unwrap().len(), 3);
    assert!(matches!(dir.quarantine("state"), Err(DiskError::Io { .. })));
}

#[test]
fn only_plain_names_are_taken() {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path()).unwrap();
    for name in ["", ".", "..", "../x", "a/b", "/etc/passwd", "nul\0", "lock"] {
        assert!(matches!(dir.write(name, b"x"), Err(DiskError::Name { .. })), "{name:?}");
        assert!(matches!(dir.read(name, 1), Err(DiskError::Name { .. })), "{name:?}");
        assert!(matches!(dir.quarantine(name), Err(DiskError::Name { .. })), "{name:?}");
    }
}

#[test]
fn a_file_that_is_written_in_place_keeps_its_content() {
    let root = tempfile::tempdir().unwrap();
    let dir = DataDir::open(root.path()).unwrap();
    dir.open_in_place("journal").unwrap().write_all(b"kept").unwrap();
    let mut content = String::new();
    dir.open_in_place("journal").unwrap().read_to_string(&mut content).unwrap();
    assert_eq!(content, "kept");
}

#[test]
fn opening_something_else_than_a_file_does_not_hang() {
    let root = tempfile::tempdir().unwrap();
    assert!(FileDisk.open(root.path()).is_err());
    assert!(FileDisk.open(Path::new("/dev/null")).is_err());
}

#[test]
fn whichever_call_fails_the_name_holds_the_old_content_or_the_new_and_success_means_new() {
    for fault in [Fault::Once, Fault::Killed, Fault::Torn] {
        let mut calls = 0;
        loop {
            let root = tempfile::tempdir().unwrap();
            let path = root.path().join("data");
            DataDir::open(&path).unwrap().write("state", b"the old content").unwrap();

            let disk = FaultDisk::new(calls, fault);
            let faulty: Arc<dyn Disk> = Arc::clone(&disk) as _;
            let result = DataDir::open_on(faulty, &path).and_then(|dir| dir.write("state", b"new"));

            let dir = DataDir::open(&path).unwrap();
            let content = dir.read("state", 100).unwrap().unwrap();
            let whole: [&[u8]; 2] = [b"the old content", b"new"];
            assert!(whole.contains(&&content[..]), "{fault:?} at call {calls}: {content:?}");
            assert_eq!(dir.list().unwrap(), ["state"], "{fault:?} at call {calls}");
            if result.is_ok() {
                assert_eq!(content, b"new", "{fault:?} at call {calls}");
            }
            if !disk.has_struck() {
                assert!(result.is_ok(), "{fault:?}: {result:?}");
                break;
            }
            calls += 1;
        }
        assert!(calls > 8, "only {calls} calls were failed");
    }
}

#[test]
fn a_file_is_synced_before_it_is_renamed_and_its_directory_after() {
    let root = tempfile::tempdir().unwrap();
    let disk = FaultDisk::new(u32::MAX, Fault::Once);
    let dir = DataDir::open_on(Arc::clone(&disk) as _, root.path().join("new")).unwrap();
    assert_eq!(
        disk.take_calls(),
        ["dir_mode", "dir_mode", "create_dir", "sync_dir", "dir_mode", "lock", "names"],
        "a new directory is synced in its parent before it is used"
    );
    dir.write("state", b"x").unwrap();
    assert_eq!(disk.take_calls(), ["create", "write_at", "sync", "rename", "sync_dir"]);
    let mut file = dir.create("state").unwrap();
    file.append(b"x").unwrap();
    file.sync().unwrap();
    file.append(b"y").unwrap();
    file.publish().unwrap();
    assert_eq!(disk.take_calls(), ["create", "write_at", "sync", "write_at", "sync", "rename", "sync_dir"]);
    dir.quarantine("state").unwrap();
    assert_eq!(disk.take_calls(), ["names", "rename", "sync_dir"]);
    dir.remove("state.damaged-1").unwrap();
    assert_eq!(disk.take_calls(), ["remove", "sync_dir"]);
}
