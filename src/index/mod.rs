//! What the list of changes amounts to, in memory. One writer, any number of readers.
//!
//! [`new`] makes the two halves: an [`Index`] that can only be looked into, cheap to clone, and the one [`Writer`]. The
//! index has never heard of files, clocks, sockets or formats; it is a function of the list.
//!
//! # What a reader sees
//! * Readers take no lock, wait for nobody and allocate nothing. A writer paused at any instruction stops no reader.
//! * Each change becomes visible as a whole: whatever it ends, it ends with one store.
//! * [`Pin::applied`], read before the facts, names a change at or before everything that is then read: an answer is
//!   never older than the revision it carries.
//! * Facts read one after another may straddle several changes. [`Pin::undisturbed_since`] tells; the service then
//!   asks again, so that every answer is the state at one place in the list.
//! * Nothing is swept, expired or tidied that a reader would notice: expiry is judged by the reader, at its `now`.
//!
//! # Why not a concurrent map
//! A map of sharded locks (`dashmap`) parks readers behind a growing shard and behind each write to their shard; the
//! revocation of a token would wait for readers and they for it. A general lock-free map pays for many writers with an
//! allocation per entry and dependent reads. With one writer a table of plain cache lines is smaller and simpler.
//! `dashmap` is used where it is right: rate limits per caller, off this path.
//!
//! # Memory
//! A token costs a 28-byte slot in a table kept between 77 % and 87 % full, 37 to 42 bytes; a grant 48 bytes, its access
//! included if that is one pair of up to 64 scopes, as it nearly always is, and otherwise 16 more for each pair; a membership 32
//! and its place in a hash table. Access lists that were replaced stay until the next start.

mod ahead;
mod apply;
mod blocks;
mod dense;
mod facts;
mod load;
mod lookup;
mod names;
mod read;
mod sections;
mod tokens;
mod zeroed;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crossbeam_epoch::Guard;

pub use ahead::{AHEAD, Coming};
pub use apply::{Admitted, REMEMBERED_SECONDS, Reject, UNKNOWN_REMEMBERED_SECONDS, Writer};
pub use load::Loader;
pub use read::{Bound, GrantRecord, PairRecord, Spot, TokenRecord};
pub use sections::LoadError;

use facts::Tables;

/// The readers' half. Cloning it is cheap; all clones look into the same index.
#[derive(Clone)]
pub struct Index {
    tables: Arc<Tables>,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").finish_non_exhaustive()
    }
}

/// The right to look into the index for a moment. Not `Send`, so it cannot be carried across an `.await`:
///
/// ```compile_fail
/// fn send<T: Send>(_: T) {}
/// let (index, _writer) = tokenscope::index::new();
/// send(index.pin());
/// ```
pub struct Pin<'i> {
    index: &'i Index,
    guard: Guard,
}

impl std::fmt::Debug for Pin<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pin").field("applied", &self.applied()).finish()
    }
}

/// An empty index: its two halves.
pub fn new() -> (Index, Writer) {
    let tables = Arc::new(Tables::new());
    (Index { tables: Arc::clone(&tables) }, Writer::new(tables))
}
