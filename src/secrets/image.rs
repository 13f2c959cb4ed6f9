//! The bytes of a secrets file, written and read: `FORMAT.md` draws them.
//!
//! Promises: any bytes give secrets or an error, never a panic; what was written comes back equal; memory is wiped. The
//! checksum is against accidents: whoever can write the file can write any secrets into it.

use std::path::Path;

use zeroize::Zeroize;

use super::ring::BEGINNING;
use super::{GENERATIONS_MAX, Generation, Secrets, SecretsError, VERSION};
use crate::domain::{Epoch, Pepper, Revision, Sequence};

const MAGIC: &[u8; 8] = b"TKSECRET";
/// The pepper's algorithm: SipHash-2-4 with 128 bits of output.
const SIPHASH_2_4_128: u8 = 1;
const CHECKSUM_BYTES: usize = 32;
/// What a file of version 1 has, and no file has less.
const FIRST_BYTES: usize = 192;
/// Of version 2: everything before the generations, and each of them.
const START_BYTES: usize = 104;
const GENERATION_BYTES: usize = 120;
/// The longest file there is.
pub(super) const IMAGE_BYTES_MAX: usize = second_bytes(GENERATIONS_MAX);

const fn second_bytes(generations: usize) -> usize {
    START_BYTES + generations * GENERATION_BYTES + CHECKSUM_BYTES
}

/// The bytes of the file; wiped when dropped. Never grown, so that no copy stays behind.
pub(super) struct Image(Vec<u8>);

impl Drop for Image {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl Image {
    /// Room for a file of this length.
    pub(super) fn new(length: usize) -> Self {
        Self(vec![0; length])
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// The file of a new data directory, in version 1: there has been no rotation.
    pub(super) fn first(secrets: &Secrets) -> Self {
        let mut image = Self::new(FIRST_BYTES);
        image.start(1, &secrets.pepper);
        let first = &secrets.generations[0];
        for (at, key) in
            [(32, &first.journal), (64, &first.snapshot), (96, &secrets.quic_reset), (128, &secrets.quic_token)]
        {
            image.put(at, key);
        }
        image.seal();
        image
    }

    /// The file in version 2, with all generations: there are at most [`GENERATIONS_MAX`].
    pub(super) fn second(secrets: &Secrets) -> Self {
        let mut image = Self::new(second_bytes(secrets.generations.len()));
        image.start(VERSION, &secrets.pepper);
        image.put(32, &secrets.quic_reset);
        image.put(64, &secrets.quic_token);
        image.put(96, &(secrets.generations.len() as u32).to_le_bytes());
        for (at, one) in (START_BYTES..).step_by(GENERATION_BYTES).zip(&secrets.generations) {
            image.put(at, &one.number.to_le_bytes());
            image.put(at + 8, &one.after.epoch.0.to_le_bytes());
            image.put(at + 16, &one.after.sequence.0.to_le_bytes());
            image.put(at + 24, &one.chain);
            image.put(at + 56, &one.journal);
            image.put(at + 88, &one.snapshot);
        }
        image.seal();
        image
    }

    /// The secrets in it. `path` is for the error alone.
    ///
    /// # Errors
    /// It is damaged, or of a version that is not known.
    pub(super) fn secrets(&self, path: &Path) -> Result<Secrets, SecretsError> {
        let damaged = |what: String| SecretsError::Damaged { path: path.to_owned(), what };
        let length = self.0.len();
        if length < FIRST_BYTES {
            return Err(damaged(format!("it has {length} bytes instead of {FIRST_BYTES} or more")));
        }
        if self.part::<8>(0) != *MAGIC {
            return Err(damaged("it does not begin with TKSECRET".to_owned()));
        }
        let version = u32::from_le_bytes(self.part(8));
        let count = u32::from_le_bytes(self.part(96)) as usize;
        let expected = match version {
            1 => FIRST_BYTES,
            VERSION if (1..=GENERATIONS_MAX).contains(&count) => second_bytes(count),
            VERSION => return Err(damaged(format!("it tells of {count} generations of keys"))),
            found => return Err(SecretsError::Version { path: path.to_owned(), found }),
        };
        if length != expected {
            return Err(damaged(format!("it has {length} bytes instead of {expected}")));
        }
        if self.part::<CHECKSUM_BYTES>(length - CHECKSUM_BYTES) != self.checksum() {
            return Err(damaged("its checksum does not match".to_owned()));
        }
        let [algorithm] = self.part(12);
        if algorithm != SIPHASH_2_4_128 {
            return Err(damaged(format!("it names the unknown pepper algorithm {algorithm}")));
        }
        let mut pepper: [u8; 16] = self.part(16);
        let kept = Pepper::from_bytes(&pepper);
        pepper.zeroize();
        if version == 1 {
            let generations = vec![Generation {
                number: 1,
                after: BEGINNING,
                chain: [0; 32],
                journal: self.part(32),
                snapshot: self.part(64),
            }];
            return Ok(Secrets { pepper: kept, quic_reset: self.part(96), quic_token: self.part(128), generations });
        }
        let generations: Vec<Generation> =
            (START_BYTES..).step_by(GENERATION_BYTES).take(count).map(|at| self.generation(at)).collect();
        let in_order =
            |two: &[Generation]| Some(two[1].number) == two[0].number.checked_add(1) && two[0].after <= two[1].after;
        if generations[0].number == 0 || !generations.windows(2).all(in_order) {
            return Err(damaged("its generations of keys are out of order".to_owned()));
        }
        Ok(Secrets { pepper: kept, quic_reset: self.part(32), quic_token: self.part(64), generations })
    }

    fn generation(&self, at: usize) -> Generation {
        let epoch = Epoch(u64::from_le_bytes(self.part(at + 8)));
        let sequence = Sequence(u64::from_le_bytes(self.part(at + 16)));
        Generation {
            number: u32::from_le_bytes(self.part(at)),
            after: Revision { epoch, sequence },
            chain: self.part(at + 24),
            journal: self.part(at + 56),
            snapshot: self.part(at + 88),
        }
    }

    fn start(&mut self, version: u32, pepper: &Pepper) {
        self.put(0, MAGIC);
        self.put(8, &version.to_le_bytes());
        self.put(12, &[SIPHASH_2_4_128]);
        let mut bytes = pepper.to_bytes();
        self.put(16, &bytes);
        bytes.zeroize();
    }

    fn seal(&mut self) {
        let checksum = self.checksum();
        self.put(self.0.len() - CHECKSUM_BYTES, &checksum);
    }

    /// The `N` bytes at `at`. Offsets are the constants of the drawing, inside a length that was checked.
    fn part<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut part = [0; N];
        part.copy_from_slice(&self.0[at..at + N]);
        part
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Of everything before the checksum.
    fn checksum(&self) -> [u8; CHECKSUM_BYTES] {
        let sealed = &self.0[..self.0.len() - CHECKSUM_BYTES];
        let digest = ::ring::digest::digest(&::ring::digest::SHA256, sealed);
        let mut checksum = [0; CHECKSUM_BYTES];
        checksum.copy_from_slice(digest.as_ref());
        checksum
    }
}
