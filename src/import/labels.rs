//! The labels of a source's grants: which grant of the source each one names, in about 14 bytes a label.
//!
//! A source of ten million tokens has millions of labels, and a map of texts, or even of whole digests, would need more
//! memory than the tokens themselves. So a label is kept as 78 bits of its SHA-256, in short sorted runs. That two
//! labels of one source share them is as likely as 1 in 10⁹ for ten million grants, and falls on the safe side: the
//! second label is refused as a repetition of the first, and no grant is ever taken for another because of it unless a
//! line names a label that was never defined.

use super::line::Label;
use crate::domain::TokenDigest;

/// Runs of labels, as many as 14 bits tell apart: each so short that inserting into it moves a few kilobytes at most.
const RUNS: usize = 1 << 14;

/// 64 more bits of the digest, then the place of the grant.
type Entry = [u32; 3];

/// Labels and the places of their grants, counted from 0 in the order of their lines.
pub(super) struct Labels {
    runs: Box<[Vec<Entry>]>,
    len: u32,
}

impl Labels {
    pub(super) fn new() -> Self {
        Self { runs: vec![Vec::new(); RUNS].into_boxed_slice(), len: 0 }
    }

    /// How many labels there are, and so the place of the next.
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// Gives `label` the next place; `None` if it has one already, and nothing changes.
    pub(super) fn add(&mut self, label: &Label) -> Option<u32> {
        let (run, rest) = Self::place(label);
        let run = &mut self.runs[run];
        let at = run.binary_search_by_key(&rest, |entry| [entry[0], entry[1]]).err()?;
        if run.len() == run.capacity() {
            // By a quarter: doubling would leave a third of the memory unused on average.
            run.reserve_exact(run.len() / 4 + 4);
        }
        let place = self.len;
        run.insert(at, [rest[0], rest[1], place]);
        self.len += 1;
        Some(place)
    }

    /// The place of `label`.
    pub(super) fn find(&self, label: &Label) -> Option<u32> {
        let (run, rest) = Self::place(label);
        let run = &self.runs[run];
        let at = run.binary_search_by_key(&rest, |entry| [entry[0], entry[1]]).ok()?;
        Some(run[at][2])
    }

    fn place(label: &Label) -> (usize, [u32; 2]) {
        let digest = TokenDigest::of(label.as_str().as_bytes());
        let bits = digest.as_bytes().iter().take(10).fold(0, |number: u128, byte| number << 8 | u128::from(*byte));
        ((bits % RUNS as u128) as usize, [(bits >> 48) as u32, (bits >> 16) as u32])
    }
}
