//! The bytes of a file: pages shared between copies until one of them writes.

use std::sync::Arc;

/// Bytes of a page: what a page cache writes back at once.
pub const PAGE: usize = 4096;
/// Bytes of a sector: what a disk writes whole or not at all.
pub const SECTOR: usize = 512;

type Page = [u8; PAGE];

/// A file's content. Pages nobody wrote are zeros and take no memory; a copy costs a pointer a page.
#[derive(Clone, Debug, Default)]
pub struct Image {
    len: u64,
    pages: Vec<Option<Arc<Page>>>,
}

impl Image {
    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Makes it this long: what is cut off is gone, what is added is zeros.
    pub fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.zero(len, self.len);
            self.pages.truncate((len as usize).div_ceil(PAGE));
        }
        self.len = len;
    }

    /// Reads from `at`, as far as there is anything, and says how many bytes.
    pub fn read(&self, at: u64, out: &mut [u8]) -> usize {
        let count = (self.len.saturating_sub(at) as usize).min(out.len());
        pieces(at, count, PAGE, |page, within, from| {
            let out = &mut out[from..from + within.len()];
            match self.pages.get(page).and_then(Option::as_ref) {
                Some(bytes) => out.copy_from_slice(&bytes[within]),
                None => out.fill(0),
            }
        });
        count
    }

    /// Writes at `at`; the file becomes longer if need be.
    pub fn write(&mut self, at: u64, data: &[u8]) {
        self.put(at, data);
        self.len = self.len.max(at + data.len() as u64);
    }

    /// Writes at `at` and leaves the length as it is: what lies beyond it is seen if the file is made longer by
    /// [`Image::reach`].
    pub fn put(&mut self, at: u64, data: &[u8]) {
        pieces(at, data.len(), PAGE, |page, within, from| {
            let len = within.len();
            self.page(page)[within].copy_from_slice(&data[from..from + len]);
        });
    }

    /// Zeros from `from` to `to`.
    pub fn zero(&mut self, from: u64, to: u64) {
        pieces(from, (to - from) as usize, PAGE, |page, within, _| {
            if self.pages.get(page).is_some_and(Option::is_some) {
                self.page(page)[within].fill(0);
            }
        });
    }

    /// Says the length is this, and what lies beyond is nothing.
    pub fn reach(&mut self, len: u64) {
        self.len = self.len.max(self.pages.len() as u64 * PAGE as u64);
        self.set_len(len);
    }

    fn page(&mut self, page: usize) -> &mut Page {
        if self.pages.len() <= page {
            self.pages.resize(page + 1, None);
        }
        Arc::make_mut(self.pages[page].get_or_insert_with(|| Arc::new([0; PAGE])))
    }
}

/// Cuts `len` bytes from `at` at the borders of blocks of `size`: block, range within it, offset from the beginning.
pub fn pieces(at: u64, len: usize, size: usize, mut each: impl FnMut(usize, std::ops::Range<usize>, usize)) {
    let mut done = 0;
    while done < len {
        let here = at as usize + done;
        let (block, start) = (here / size, here % size);
        let count = (size - start).min(len - done);
        each(block, start..start + count, done);
        done += count;
    }
}
