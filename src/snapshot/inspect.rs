//! What people ask of a snapshot: is it sound, and what does it say about itself?

use std::fmt;
use std::path::Path;

use super::layout::{FORMAT, Prefix};
use super::open::{header_of, open, read_head};
use super::{Header, Snapshot, SnapshotError};
use crate::disk::FileDisk;
use crate::secrets::Ring;

impl Snapshot {
    /// Authenticates and checks every byte.
    ///
    /// # Errors
    /// It is damaged, or could not be read.
    pub fn verify(&self) -> Result<Report, SnapshotError> {
        let mut words = 0;
        self.for_each(&mut |_, _, section| {
            words += section.len() as u64;
            Ok(())
        })?;
        let sections = self.sections().len() as u64;
        Ok(Report { header: *self.header(), bytes: self.bytes(), sections, words })
    }
}

/// What verifying found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Report {
    /// The header, authenticated.
    pub header: Header,
    /// Length of the file, all of it verified.
    pub bytes: u64,
    /// How many sections.
    pub sections: u64,
    /// How many words are in them.
    pub words: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_header(f, &self.header)?;
        writeln!(f, "sections      {}", self.sections)?;
        writeln!(f, "words         {}", self.words)?;
        write!(f, "verified      all {} bytes", self.bytes)
    }
}

/// What a file says about itself, **unauthenticated**: anybody could have written it, and nothing may depend on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inspection {
    /// Its format.
    pub format: u32,
    /// Length of the file.
    pub bytes: u64,
    /// The snapshot's random id.
    pub id: [u8; 16],
    /// Its header.
    pub header: Header,
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "NOT VERIFIED: read without the key; anybody could have written these fields")?;
        writeln!(f, "format        {}", self.format)?;
        writeln!(f, "id            {:032x}", u128::from_be_bytes(self.id))?;
        write_header(f, &self.header)?;
        write!(f, "bytes         {}", self.bytes)
    }
}

fn write_header(f: &mut fmt::Formatter<'_>, header: &Header) -> fmt::Result {
    writeln!(f, "revision      {}", header.revision())?;
    writeln!(f, "created       {} (seconds since 1970)", header.created)?;
    writeln!(f, "highest now   {} (seconds since 1970)", header.highest_now)?;
    writeln!(f, "pepper        {:016x} (fingerprint)", header.pepper)?;
    writeln!(f, "tokens        {}", header.tokens)?;
    writeln!(f, "grants        {}", header.grants)
}

/// Authenticates and checks every byte of a snapshot.
///
/// # Errors
/// As [`open`], and for every section.
pub fn verify(path: &Path, key: impl Into<Ring>) -> Result<Report, SnapshotError> {
    open(path, key)?.verify()
}

/// Reads the header without a key, for people. Nothing is authenticated: see [`Inspection`].
///
/// # Errors
/// It is no snapshot, of another format, or could not be read.
pub fn inspect(path: &Path) -> Result<Inspection, SnapshotError> {
    let (_, bytes, head) = read_head(&FileDisk, path)?;
    let header = header_of(path, &head)?;
    let format = head.first_chunk().map_or(FORMAT, |prefix| Prefix::from_bytes(prefix).format);
    Ok(Inspection { format, bytes, id: header.id, header: header.header() })
}
