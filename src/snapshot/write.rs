//! Writing a snapshot: a stream of sections into a temporary file, read back and verified before it gets its name.
//!
//! Memory: one section and its archive, and the table (56 bytes a section). The running service is not stopped; whoever
//! gives the sections notes the revision first.

use ring::rand::{SecureRandom, SystemRandom};
use rkyv::api::high::to_bytes_in;
use rkyv::rancor::Error as ArchiveError;
use rkyv::util::AlignedVec;

use super::layout::{
    EntryLayout, HEAD_BYTES, HeaderLayout, Prefix, SECTION_BYTES_MAX, SECTION_WORDS_MAX, SECTIONS_MAX, SectionLayout,
    TRAILER_BYTES, TableLayout, Trailer, section_bytes, table_bytes,
};
use super::open::open_on;
use super::seal::{Keys, Stand};
use super::{Header, Section, SnapshotError, Written};
use crate::disk::{DataDir, PendingFile};
use crate::secrets::Ring;

/// Takes the next section. A value of this kind is lent to whoever gives the sections.
pub type Put<'a> = dyn FnMut(Section) -> Result<(), SnapshotError> + 'a;

/// Writes a snapshot under `name` (see [`file_name`](super::file_name)), sealed with the newest of the keys. `give` is called once and puts the sections, in
/// the order they shall come back; an error of its own ends the writing ([`SnapshotError::GivenUp`] is there for that).
///
/// # Errors
/// Something failed; what stood under `name` is untouched, unless the very last step failed (the sync of the directory,
/// or opening the file under its new name): then the new snapshot may stand there, whole and verified.
///
/// # Durability
/// On return the file has been synced, read back and verified byte by byte, renamed, and the directory synced. Older
/// snapshots and the journal's entries behind them are not needed for it. (Reading back may be answered by the
/// system's cache: it finds what we did wrong, and what the disk reports as wrong.)
pub fn write(
    dir: &DataDir,
    name: &str,
    key: impl Into<Ring>,
    header: &Header,
    give: impl FnOnce(&mut Put<'_>) -> Result<(), SnapshotError>,
) -> Result<Written, SnapshotError> {
    let mut id = [0; 16];
    let filled = SystemRandom::new().fill(&mut id);
    filled.map_err(|_| SnapshotError::GivenUp("the system has no random numbers to give".into()))?;
    write_with_id(dir, name, key, id, header, give)
}

/// [`write()`](write()) with the id as an argument, for golden vectors.
pub(super) fn write_with_id(
    dir: &DataDir,
    name: &str,
    key: impl Into<Ring>,
    id: [u8; 16],
    header: &Header,
    give: impl FnOnce(&mut Put<'_>) -> Result<(), SnapshotError>,
) -> Result<Written, SnapshotError> {
    let ring = key.into();
    let mut writer = Writer::begin(dir.create(name)?, &ring.newest().bytes, id, header)?;
    give(&mut |section| writer.put(section))?;
    let (mut file, written) = writer.finish()?;

    file.sync()?;
    let found = open_on(dir.disk(), file.path(), &ring)?.verify()?;
    // What was meant is what came back; anything else is a mistake of ours, found before it has a name.
    assert!(found.header == *header && found.bytes == written.bytes && found.sections == written.sections);
    file.publish()?;
    open_on(dir.disk(), &dir.file_path(name)?, &ring)?;
    Ok(written)
}

/// A snapshot being written.
struct Writer<'d> {
    file: PendingFile<'d>,
    keys: Keys,
    /// Prefix and header, for the seal.
    head: [u8; HEAD_BYTES],
    entries: Vec<EntryLayout>,
    /// The archive of the section at hand, reused.
    buffer: AlignedVec,
}

impl<'d> Writer<'d> {
    fn begin(mut file: PendingFile<'d>, key: &[u8; 32], id: [u8; 16], header: &Header) -> Result<Self, SnapshotError> {
        let archive = to_bytes_in::<_, ArchiveError>(&HeaderLayout::new(header, id), AlignedVec::<16>::new());
        let archive = archive.map_err(|error| cannot_archive("the header", &error))?;
        let mut head = [0; HEAD_BYTES];
        let (prefix, rest) = head.split_at_mut(Prefix::OURS.to_bytes().len());
        prefix.copy_from_slice(&Prefix::OURS.to_bytes());
        rest.copy_from_slice(&archive);
        file.append(&head)?;
        let buffer = AlignedVec::with_capacity(SECTION_BYTES_MAX);
        Ok(Self { file, keys: Keys::derive(key, &id), head, entries: Vec::new(), buffer })
    }

    fn put(&mut self, section: Section) -> Result<(), SnapshotError> {
        if section.words.len() > SECTION_WORDS_MAX {
            return Err(SnapshotError::Limit { what: "words in a section", limit: SECTION_WORDS_MAX as u64 });
        }
        if self.entries.len() >= SECTIONS_MAX {
            return Err(SnapshotError::Limit { what: "sections", limit: SECTIONS_MAX as u64 });
        }
        let Section { table, index, words } = section;
        // Both fit: they are below their limits.
        let (position, count) = (self.entries.len() as u32, words.len() as u32);
        let offset = self.file.bytes();

        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let archive = to_bytes_in::<_, ArchiveError>(&SectionLayout { position, table, index, words }, buffer);
        self.buffer = archive.map_err(|error| cannot_archive("a section", &error))?;
        assert_eq!(self.buffer.len(), section_bytes(count as usize), "a section's archive has no padding");

        let mac = self.keys.section(Stand { position, table, index, words: count, offset }, &self.buffer);
        self.file.append(&self.buffer)?;
        self.entries.push(EntryLayout { offset, bytes: self.buffer.len() as u32, words: count, table, index, mac });
        Ok(())
    }

    fn finish(mut self) -> Result<(PendingFile<'d>, Written), SnapshotError> {
        let sections = self.entries.len();
        let table = to_bytes_in::<_, ArchiveError>(&TableLayout { entries: self.entries }, AlignedVec::<16>::new());
        let table = table.map_err(|error| cannot_archive("the table of sections", &error))?;
        assert_eq!(table.len(), table_bytes(sections), "the table's archive has no padding");

        let table_offset = self.file.bytes();
        let file_bytes = table_offset + (table.len() + TRAILER_BYTES) as u64;
        let trailer =
            Trailer { table_offset, table_bytes: table.len() as u64, sections: sections as u64, file_bytes }.to_bytes();
        self.file.append(&table)?;
        self.file.append(&trailer)?;
        self.file.append(&self.keys.seal(&self.head, &table, &trailer))?;
        assert_eq!(self.file.bytes(), file_bytes, "the trailer tells the length of the file");
        Ok((self.file, Written { bytes: file_bytes, sections: sections as u64 }))
    }
}

fn cannot_archive(what: &str, error: &ArchiveError) -> SnapshotError {
    SnapshotError::GivenUp(format!("{what} could not be archived: {error}"))
}
