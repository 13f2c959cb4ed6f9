//! Bytes of files: the journal's entries, snapshots, what is in them, imports, the configuration.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::config::Config;
use crate::disk::{Disk, DiskFile, Lock};
use crate::domain::Sequence;
use crate::import::Lines;
use crate::import::line::Line;
use crate::index::{Index, LoadError, Loader};
use crate::journal::entry;
use crate::snapshot::{self, SnapshotError};

/// The key of the snapshots here; that of the golden vector.
const KEY: [u8; 32] = *b"a key that only the tests know..";
/// A sound snapshot under [`KEY`].
const GOLDEN: &[u8] = include_bytes!("../../../tests/vectors/snapshot/format-1.tks");
/// The most words in a section of [`index_sections`]; small, so that many are tried.
const WORDS_MAX: usize = 4_096;

/// An entry of the journal: what can be read has exactly these bytes, and its change can be written anywhere.
///
/// # Panics
/// It has found something.
pub fn journal_entry(data: &[u8]) {
    let Ok(entry) = entry::decode(data) else { return };
    let mut written = Vec::new();
    entry::encode(&entry, &mut written).expect("what was read can be written");
    assert_eq!(written, data, "an entry has one spelling");
    entry::fits(&entry.change).expect("what stands in a journal fits into one");
}

/// A disk with one file, which can only be read.
#[derive(Debug)]
struct OneFile(Arc<Vec<u8>>);

fn read_only<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl DiskFile for OneFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let from = usize::try_from(at).unwrap_or(usize::MAX).min(self.0.len());
        let count = buffer.len().min(self.0.len() - from);
        buffer[..count].copy_from_slice(&self.0[from..from + count]);
        Ok(count)
    }
    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        read_only()
    }
    fn sync(&self) -> io::Result<()> {
        read_only()
    }
}

impl Disk for OneFile {
    fn open(&self, _: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(Self(Arc::clone(&self.0))))
    }
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        read_only()
    }
    fn dir_mode(&self, _: &Path) -> io::Result<u32> {
        read_only()
    }
    fn lock(&self, _: &Path) -> io::Result<Box<dyn Lock>> {
        read_only()
    }
    fn create(&self, _: &Path) -> io::Result<Box<dyn DiskFile>> {
        read_only()
    }
    fn names(&self, _: &Path) -> io::Result<Vec<String>> {
        read_only()
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        read_only()
    }
    fn remove(&self, _: &Path) -> io::Result<()> {
        read_only()
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        read_only()
    }
}

/// The sections of a snapshot in memory: table, index, words.
fn read(bytes: &[u8]) -> Result<Vec<(u32, u32, Vec<u32>)>, SnapshotError> {
    let opened = snapshot::open_on(&OneFile(Arc::new(bytes.to_vec())), Path::new("fuzzed.tks"), &KEY)?;
    let mut found = Vec::new();
    opened.for_each(&mut |table, index, words| {
        found.push((table, index, words.iter().map(|word| word.to_native()).collect()));
        Ok(())
    })?;
    assert_eq!(found.len(), opened.sections().len(), "all sections were read");
    Ok(found)
}

/// A snapshot as it lies on disk: nothing but the very bytes that were written is believed.
///
/// # Panics
/// It has found something.
pub fn snapshot_sealed(data: &[u8]) {
    if read(data).is_ok() {
        assert_eq!(data, GOLDEN, "a snapshot that nobody has written was believed");
    }
}

/// A snapshot whose MACs all match, whatever is in it: read without a panic, and only as what it says.
///
/// # Panics
/// It has found something.
pub fn snapshot_resealed(data: &[u8]) {
    let mut file = data.to_vec();
    snapshot::reseal(&mut file, &KEY);
    let Ok(sections) = read(&file) else { return };
    // FORMAT.md: sections follow each other from byte 112, each its words and twenty bytes.
    let mut at = 112;
    for (table, index, words) in &sections {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let names = [*table, *index].map(u32::to_le_bytes).concat();
        assert_eq!(file.get(at..at + bytes.len()), Some(&*bytes), "the words are those that lie there");
        assert_eq!(file.get(at + bytes.len() + 4..at + bytes.len() + 12), Some(&*names), "so are their names");
        at += bytes.len() + 20;
    }
    assert_eq!(at + 56 * sections.len() + 8 + 64, file.len(), "no byte is without a meaning");
}

/// Sections of an index (table, count of words in two bytes, words), as if a key holder had written them wrongly: they
/// are refused, or make an index that can be asked everything and written down again.
///
/// # Panics
/// It has found something.
pub fn index_sections(data: &[u8]) {
    let mut loader = Loader::new(0);
    let mut rest = data;
    while let Some((&[table, low, high], after)) = rest.split_first_chunk::<3>() {
        let count = usize::from(u16::from_le_bytes([low, high])).min(WORDS_MAX).min(after.len() / 4);
        let (words, next) = after.split_at(4 * count);
        let words = words.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
        if loader.section(u32::from(table), words).is_err() {
            return;
        }
        rest = next;
    }
    let Ok((index, _writer)) = loader.finish(Sequence(1)) else { return };
    ask_everything(&index);
    let mut sections = Vec::new();
    let written = index.sections::<LoadError>(&mut |table, _, words| {
        sections.push((table, words));
        Ok(())
    });
    written.expect("nobody moves its tokens");
    let mut again = Loader::new(0);
    for (table, words) in sections {
        match again.section(table, words.into_iter()) {
            // Whether keys that no keyed hash makes find room depends on the order they come in.
            Err(LoadError { what, .. }) if what.starts_with("so many tokens with nearly the same key") => return,
            read => read.expect("what was written down can be read"),
        }
    }
    let (again, _writer) = again.finish(Sequence(1)).expect("what was written down is whole");
    assert_eq!(again.pin().tokens(), index.pin().tokens(), "the same tokens");
    assert_eq!(again.pin().grants(), index.pin().grants(), "the same grants");
}

/// Walks whatever can be reached from every token, grant, subject, client and place.
fn ask_everything(index: &Index) {
    let pin = index.pin();
    let mut seen = 0_usize;
    pin.for_each_token(|token| {
        seen += usize::from(token.bound(&pin).is_some());
        if let Some(grant) = pin.grant(token.grant) {
            seen += usize::from(pin.token_facts(&token, &grant).is_some());
            seen += pin.audience(Some(&token), &grant).map(str::len).sum::<usize>();
        }
        seen += token.narrowed_pairs(&pin).map_or(0, Iterator::count);
    });
    for grant in (1..=pin.grants()).filter_map(|number| pin.grant(number)) {
        for place in pin.pairs(&grant).filter_map(|pair| pair.place) {
            seen += pin.place_text(place).len();
            seen += usize::from(pin.spot_of(place).map(|spot| pin.place_facts(&grant, spot)).is_some());
        }
        seen += pin.audience(None, &grant).count();
        seen += usize::from(pin.grant_standing(&grant).is_some());
    }
    for subject in 0..pin.subjects() {
        seen += pin.memberships(subject).count() + pin.grants_of_subject(subject).count();
        seen += pin.subject_text(subject).len();
    }
    for client in 0..pin.clients() {
        seen += pin.grants_of_client(client).count() + pin.client_text(client).len();
    }
    for place in 0..pin.places() {
        seen += usize::from(pin.workspace_of(place).is_some()) + pin.place_text(place).len();
        seen += pin.policy_lines(place).count();
    }
    std::hint::black_box(seen + pin.catalogue().entries().len());
}

/// Lines of an import: each that can be read is written in one way, which is read as the same line.
///
/// # Panics
/// It has found something.
pub fn import_lines(data: &[u8]) {
    for line in Lines::new("fuzzed".into(), data) {
        let line = match line {
            Ok(line) => line,
            Err(error) => {
                assert!(!error.to_string().is_empty(), "an error says something");
                continue;
            }
        };
        let written = line.to_json();
        let again = Line::parse(&written).unwrap_or_else(|error| panic!("{written} cannot be read: {error:?}"));
        assert_eq!(again, line, "a line that was written is the line that was meant: {written}");
        assert_eq!(again.to_json(), written, "a line has one spelling of ours");
    }
}

/// A configuration: refused with a sentence, or accepted and then printed as one that means the same.
///
/// # Panics
/// It has found something.
pub fn config_toml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let path = Path::new("/etc/tokenscope/tokenscope.toml");
    let config = match Config::parse(text, path) {
        Ok(config) => config,
        Err(error) => {
            let told = error.to_string();
            assert!(told.contains("tokenscope.toml"), "an error names the file: {told}");
            return;
        }
    };
    let printed = config.print_effective();
    drop(config.callers());
    // Hashes of secrets are hidden, so only a configuration without any can be read back.
    if !printed.contains("\"hidden\"") {
        let again = Config::parse(&printed, path).unwrap_or_else(|error| panic!("{error}\n{printed}"));
        assert_eq!(again.print_effective(), printed, "what is in force is printed in one way");
    }
}
