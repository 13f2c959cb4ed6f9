//! Reading a snapshot: authenticate, then look.
//!
//! Everything here treats the file as hostile until its MAC matched, and as possibly mistaken after. Bytes are read
//! into memory of our own before they are verified, so that nobody can change them between the check and the use.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread;

use rkyv::access;
use rkyv::rancor::Error as ArchiveError;
use rkyv::util::AlignedVec;

use super::layout::{
    ARCHIVE, ArchivedHeaderLayout, ArchivedSectionLayout, ArchivedTableLayout, FORMAT, FORMAT_OLDEST, HEAD_BYTES,
    HEADER_BYTES, MAC_BYTES, MAGIC, PREFIX_BYTES, Prefix, SECTION_WORDS_MAX, SECTIONS_MAX, TRAILER_BYTES,
    TRAILER_SEALED_BYTES, Trailer, Word, section_bytes, table_bytes,
};
use super::seal::{Keys, Stand, same};
use super::{Header, SnapshotError, parse_file_name};
use crate::disk::{Disk, DiskError, DiskFile, FileDisk};
use crate::secrets::Ring;

/// Takes a section: table, index, words. What it refuses, it refuses with a reason. The words are lent from a buffer
/// that the next section overwrites.
pub type Visit<'a> = dyn FnMut(u32, u32, &[Word]) -> Result<(), String> + 'a;

/// Most threads [`Snapshot::for_each_ahead`] verifies with; each holds two sections in memory.
const AHEAD_THREADS_MAX: usize = 8;

/// A snapshot whose header and table of sections have been authenticated. Its sections are, when they are read.
#[derive(Debug)]
pub struct Snapshot {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    bytes: u64,
    header: Header,
    generation: u32,
    keys: Keys,
    sections: Vec<SectionInfo>,
}

/// What the authenticated table says about a section.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SectionInfo {
    /// Which table of the index.
    pub table: u32,
    /// Which piece of it.
    pub index: u32,
    /// How many words.
    pub words: u32,
    /// Where its archive begins in the file.
    offset: u64,
    mac: [u8; MAC_BYTES],
}

impl SectionInfo {
    fn bytes(&self) -> usize {
        section_bytes(self.words as usize)
    }

    fn stand(&self, position: usize) -> Stand {
        // Positions are below `SECTIONS_MAX`.
        let position = position as u32;
        Stand { position, table: self.table, index: self.index, words: self.words, offset: self.offset }
    }
}

/// Memory a section is read into: aligned for rkyv, grown to the largest section read, reused.
#[derive(Debug, Default)]
pub struct Buffer(AlignedVec);

impl Buffer {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    fn room(&mut self, bytes: usize) -> &mut [u8] {
        if self.0.len() < bytes {
            self.0.resize(bytes, 0);
        }
        self.0.get_mut(..bytes).unwrap_or_default()
    }
}

/// Opens a snapshot on the real file system and authenticates its header and its table of sections. If its name is one
/// that [`file_name`](super::file_name) makes, the name must tell the header's revision.
///
/// # Errors
/// It is damaged, of another format or key, or could not be read. Nothing of it is to be believed then.
pub fn open(path: &Path, key: impl Into<Ring>) -> Result<Snapshot, SnapshotError> {
    open_on(&FileDisk, path, key)
}

/// The same on a disk of the caller's choice.
///
/// # Errors
/// As [`open`].
pub fn open_on(disk: &dyn Disk, path: &Path, key: impl Into<Ring>) -> Result<Snapshot, SnapshotError> {
    let (file, bytes, head) = read_head(disk, path)?;
    let damaged = |what: &str, at: &str| damaged(path, what, at);
    let header = header_of(path, &head)?;

    let tail = bytes.saturating_sub(TRAILER_BYTES as u64);
    let mut sealed = [0; TRAILER_SEALED_BYTES];
    let mut mac = [0; MAC_BYTES];
    read_exact(path, file.as_ref(), &mut sealed, tail)?;
    read_exact(path, file.as_ref(), &mut mac, tail + TRAILER_SEALED_BYTES as u64)?;
    let trailer = Trailer::from_bytes(&sealed);
    if trailer.file_bytes != bytes {
        let what = format!("it has {bytes} bytes but ends as one of {} does: cut off or extended", trailer.file_bytes);
        return Err(damaged(&what, "in the trailer"));
    }
    // Bounds first, so that what is allocated below follows from the file's own length and the limits.
    let sections = usize::try_from(trailer.sections).ok().filter(|count| *count <= SECTIONS_MAX);
    let size = sections.map(table_bytes).filter(|size| *size as u64 == trailer.table_bytes);
    let end = trailer.table_offset.checked_add(trailer.table_bytes);
    let (Some(size), true) = (size, end == Some(tail)) else {
        return Err(damaged("the table of sections is not where it ends the file", "in the trailer"));
    };
    if trailer.table_offset < HEAD_BYTES as u64 {
        return Err(damaged("the table of sections overlaps the header", "in the trailer"));
    }
    let mut table = Buffer::new();
    read_exact(path, file.as_ref(), table.room(size), trailer.table_offset)?;

    // Which generation of keys sealed it is found by trying, the newest first: nothing that is not sealed is asked.
    let (ring, mut found) = (key.into(), None);
    let sealed_by = ring.find(|key| {
        let keys = Keys::derive(&key.bytes, &header.id);
        let matches = same(&keys.seal(&head, &table.0, &sealed), &mac);
        found = matches.then_some(keys);
        matches
    });
    let (Some(generation), Some(keys)) = (sealed_by.map(|key| key.number), found) else {
        return Err(SnapshotError::WrongKey { path: path.to_owned() });
    };

    // From here on only somebody with the key can have written this; what follows finds mistakes, and whoever has a key
    // that was replaced.
    let header = header.header();
    if !ring.may_seal(generation, header.revision()) {
        let what =
            format!("it was sealed with keys of generation {generation}, which had been replaced before its place");
        return Err(damaged(&what, "in the seal"));
    }
    let table = access::<ArchivedTableLayout, ArchiveError>(&table.0);
    let table = table.map_err(|error| damaged(&error.to_string(), "in the table of sections"))?;
    let mut sections = Vec::with_capacity(table.entries.len());
    let mut next = HEAD_BYTES as u64;
    for (position, entry) in table.entries.iter().enumerate() {
        let info = SectionInfo {
            table: entry.table.to_native(),
            index: entry.index.to_native(),
            words: entry.words.to_native(),
            offset: entry.offset.to_native(),
            mac: entry.mac,
        };
        let whole = info.words as usize <= SECTION_WORDS_MAX && info.bytes() == entry.bytes.to_native() as usize;
        if !whole || info.offset != next {
            return Err(damaged("sections do not follow each other", &place(position, &info)));
        }
        next += info.bytes() as u64;
        sections.push(info);
    }
    if sections.len() as u64 != trailer.sections || next != trailer.table_offset {
        return Err(damaged("the sections do not fill the file", "in the table of sections"));
    }
    let named = path.file_name().and_then(|name| name.to_str()).and_then(parse_file_name);
    if named.is_some_and(|revision| revision != header.revision()) {
        return Err(damaged(
            &format!("it is of revision {}, its name tells another", header.revision()),
            "in its name",
        ));
    }
    Ok(Snapshot { path: path.to_owned(), file, bytes, header, generation, keys, sections })
}

impl Snapshot {
    /// Its header, authenticated.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The generation of keys that sealed it.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Length of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Its sections in order, as the authenticated table lists them.
    pub fn sections(&self) -> &[SectionInfo] {
        &self.sections
    }

    /// Reads one section into `buffer`, authenticates it, and lends its words as they lie there: no copy is made, no
    /// word is deserialised.
    ///
    /// # Errors
    /// There is no such section, it is damaged, or could not be read.
    pub fn section<'b>(&self, position: usize, buffer: &'b mut Buffer) -> Result<&'b [Word], SnapshotError> {
        let Some(info) = self.sections.get(position) else {
            let at = format!("there are {}", self.sections.len());
            return Err(damaged(&self.path, &format!("section {position} was asked for"), &at));
        };
        self.fill(position, info, buffer)?;
        self.words(position, info, buffer)
    }

    /// Gives every section to `visit`, in order: table, index, words. What `visit` refuses, it refuses with a reason,
    /// which becomes [`SnapshotError::Damaged`] with the section's place.
    ///
    /// # Errors
    /// A section is damaged or refused, or could not be read. Sections before it have been handed out already; throw
    /// away what was made of them.
    pub fn for_each(&self, visit: &mut Visit<'_>) -> Result<(), SnapshotError> {
        let mut buffer = Buffer::new();
        for (position, info) in self.sections.iter().enumerate() {
            self.fill(position, info, &mut buffer)?;
            self.visit(position, info, &buffer, visit)?;
        }
        Ok(())
    }

    /// The same, while `threads` other threads (1 to 8) read and authenticate the sections ahead of `visit`, which is
    /// still called here, in order, one at a time. Two sections per thread are held in memory.
    ///
    /// # Errors
    /// As [`Snapshot::for_each`], or a thread could not be started.
    pub fn for_each_ahead(&self, threads: usize, visit: &mut Visit<'_>) -> Result<(), SnapshotError> {
        let threads = threads.clamp(1, AHEAD_THREADS_MAX);
        thread::scope(|scope| {
            // Thread n does sections n, n + threads, ...: the order needs no sorting, and each waits only for its own.
            // Leaving early drops these ends, which stops the threads.
            let mut lanes = Vec::with_capacity(threads);
            for first in 0..threads.min(self.sections.len()) {
                let (filled, ready) = sync_channel(1);
                let (empty, free) = channel();
                for _ in 0..2 {
                    // Cannot fail: the receiver is two lines above.
                    let _ = empty.send(Buffer::new());
                }
                let run = move || self.fill_lane(first, threads, &free, &filled);
                let spawned = thread::Builder::new().name("snapshot-verify".into()).spawn_scoped(scope, run);
                spawned.map_err(DiskError::io("start a thread to verify", &self.path))?;
                lanes.push((ready, empty));
            }
            for ((position, info), (ready, empty)) in self.sections.iter().enumerate().zip(lanes.iter().cycle()) {
                let Ok(filled) = ready.recv() else {
                    return Err(damaged(&self.path, "the verifying thread stopped", &place(position, info)));
                };
                let buffer = filled?;
                self.visit(position, info, &buffer, visit)?;
                // Nobody may be waiting for it any more, at the end.
                let _ = empty.send(buffer);
            }
            Ok(())
        })
    }

    /// One thread's share of the sections.
    fn fill_lane(
        &self,
        first: usize,
        step: usize,
        free: &Receiver<Buffer>,
        filled: &SyncSender<Result<Buffer, SnapshotError>>,
    ) {
        for (position, info) in self.sections.iter().enumerate().skip(first).step_by(step) {
            let Ok(mut buffer) = free.recv() else { return };
            let result = self.fill(position, info, &mut buffer).map(|()| buffer);
            let failed = result.is_err();
            if filled.send(result).is_err() || failed {
                return;
            }
        }
    }

    /// Reads a section and authenticates it.
    fn fill(&self, position: usize, info: &SectionInfo, buffer: &mut Buffer) -> Result<(), SnapshotError> {
        let room = buffer.room(info.bytes());
        read_exact(&self.path, self.file.as_ref(), room, info.offset)?;
        if !same(&self.keys.section(info.stand(position), room), &info.mac) {
            return Err(damaged(&self.path, "its MAC does not match", &place(position, info)));
        }
        Ok(())
    }

    /// The words of a section that [`Snapshot::fill`] has authenticated.
    fn words<'b>(&self, position: usize, info: &SectionInfo, buffer: &'b Buffer) -> Result<&'b [Word], SnapshotError> {
        let damaged = |what: &str| damaged(&self.path, what, &place(position, info));
        let archive = buffer.0.get(..info.bytes()).unwrap_or_default();
        let section = access::<ArchivedSectionLayout, ArchiveError>(archive);
        let section = section.map_err(|error| damaged(&error.to_string()))?;
        let names = [section.position.to_native() as usize, section.words.len()];
        if names != [position, info.words as usize]
            || [section.table.to_native(), section.index.to_native()] != [info.table, info.index]
        {
            return Err(damaged("it is another section than the table says"));
        }
        Ok(section.words.as_slice())
    }

    fn visit(
        &self,
        position: usize,
        info: &SectionInfo,
        buffer: &Buffer,
        visit: &mut Visit<'_>,
    ) -> Result<(), SnapshotError> {
        let words = self.words(position, info, buffer)?;
        visit(info.table, info.index, words).map_err(|what| damaged(&self.path, &what, &place(position, info)))
    }
}

/// Prefix and header, in memory aligned for rkyv (the prefix is 16 bytes, so the header is aligned too).
pub(super) type Head = AlignedVec;

/// Opens a file and reads its head, if it is a snapshot of our format and long enough to be one.
pub(super) fn read_head(disk: &dyn Disk, path: &Path) -> Result<(Box<dyn DiskFile>, u64, Head), SnapshotError> {
    let file = disk.open(path).map_err(DiskError::io("open", path))?;
    let bytes = file.bytes().map_err(DiskError::io("measure", path))?;
    let least = (HEAD_BYTES + table_bytes(0) + TRAILER_BYTES) as u64;
    let mut prefix = [0; PREFIX_BYTES];
    if bytes < PREFIX_BYTES as u64 {
        return Err(damaged(path, &format!("it has only {bytes} bytes"), "at its end"));
    }
    // The prefix alone first: another format may be shorter than ours.
    read_exact(path, file.as_ref(), &mut prefix, 0)?;
    let prefix = Prefix::from_bytes(&prefix);
    if prefix.magic != MAGIC {
        return Err(damaged(path, "it does not begin as a snapshot does", "in the first 8 bytes"));
    }
    let numbers =
        [("format", prefix.format, FORMAT_OLDEST..=FORMAT), ("archive layout", prefix.archive, ARCHIVE..=ARCHIVE)];
    for (what, found, read) in numbers {
        if !read.contains(&found) {
            let known = *read.end();
            return Err(SnapshotError::Format { path: path.to_owned(), what, found, known });
        }
    }
    if bytes < least {
        return Err(damaged(path, &format!("it has {bytes} bytes, the smallest snapshot has {least}"), "at its end"));
    }
    let mut head = Head::new();
    head.resize(HEAD_BYTES, 0);
    read_exact(path, file.as_ref(), &mut head, 0)?;
    Ok((file, bytes, head))
}

/// The header in a head. It may be asked before the seal was checked: the archive is 96 bytes of integers without
/// pointers, so looking at it decides nothing.
pub(super) fn header_of<'h>(path: &Path, head: &'h Head) -> Result<&'h ArchivedHeaderLayout, SnapshotError> {
    let archive = head.get(PREFIX_BYTES..PREFIX_BYTES + HEADER_BYTES).unwrap_or_default();
    access::<_, ArchiveError>(archive).map_err(|error| damaged(path, &error.to_string(), "in the header"))
}

fn read_exact(path: &Path, file: &dyn DiskFile, buffer: &mut [u8], at: u64) -> Result<(), SnapshotError> {
    file.read_exact_at(buffer, at).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => damaged(path, "it became shorter while it was read", &format!("at byte {at}")),
        _ => DiskError::io("read", path)(error).into(),
    })
}

fn place(position: usize, info: &SectionInfo) -> String {
    format!("in section {position} (table {}, index {}, at byte {})", info.table, info.index, info.offset)
}

fn damaged(path: &Path, what: &str, at: &str) -> SnapshotError {
    SnapshotError::Damaged { path: path.to_owned(), what: what.to_owned(), at: at.to_owned() }
}
