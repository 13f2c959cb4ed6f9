//! Calls into redb, whose panics become errors.
//!
//! redb promises an error, and not a panic, for an altered file only where it checks pages; so a panic in here is taken
//! for damage. Only calls into redb run sheltered; a panic of our own code stays one.

use std::any::Any;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};

use ::redb::{Database, Error};

use crate::domain::Sequence;
use crate::journal::JournalError;

/// What went wrong in redb.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    pub(super) text: String,
}

/// What kind of wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FaultKind {
    /// Another process has the file.
    InUse,
    /// The file is not redb's.
    Foreign,
    /// redb's file, but not a journal's: a table is not there, or is another.
    NotThere,
    /// redb found its file altered, or panicked over it.
    Damage,
    /// The storage failed.
    Storage,
}

impl Fault {
    /// As the room's error, where the entry `at` was looked for.
    pub(super) fn at(self, at: Sequence) -> JournalError {
        match self.kind {
            FaultKind::Damage | FaultKind::NotThere => JournalError::Damaged { at, what: self.text },
            FaultKind::InUse => JournalError::InUse,
            FaultKind::Foreign | FaultKind::Storage => JournalError::Storage(self.text),
        }
    }
}

/// redb's database, closed in shelter however it goes out of use. Dropping one writes to the file, and a file altered
/// where nobody had looked yet can make that panic: what is dropped then has been refused or read already.
pub(super) struct Sheltered(Option<Database>);

impl Sheltered {
    pub(super) fn new(database: Database) -> Self {
        Self(Some(database))
    }

    /// Closes the database and says how that went.
    pub(super) fn close(mut self) -> Result<(), Fault> {
        match self.0.take() {
            Some(database) => sheltered(|| Ok(database.close()?)),
            None => Ok(()),
        }
    }
}

impl Deref for Sheltered {
    type Target = Database;

    fn deref(&self) -> &Database {
        match &self.0 {
            Some(database) => database,
            None => unreachable!("taken only by `close` and `drop`, which end it"),
        }
    }
}

impl DerefMut for Sheltered {
    fn deref_mut(&mut self) -> &mut Database {
        match &mut self.0 {
            Some(database) => database,
            None => unreachable!("taken only by `close` and `drop`, which end it"),
        }
    }
}

impl Drop for Sheltered {
    fn drop(&mut self) {
        let database = self.0.take();
        // Whoever wants to know how closing went calls `close`.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
    }
}

/// Runs `call`. After an error or a panic nothing `call` had in hand is used again: a transaction is dropped, and a
/// journal that was writing is poisoned by its caller.
pub(super) fn sheltered<T>(call: impl FnOnce() -> Result<T, Error>) -> Result<T, Fault> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Fault { kind: kind_of(&error), text: error.to_string() }),
        Err(panic) => Err(Fault { kind: FaultKind::Damage, text: format!("redb panicked: {}", words(&*panic)) }),
    }
}

fn kind_of(error: &Error) -> FaultKind {
    match error {
        Error::DatabaseAlreadyOpen | Error::LockProtocolMismatch => FaultKind::InUse,
        Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => FaultKind::Foreign,
        Error::UpgradeRequired(_) => FaultKind::Foreign,
        Error::TableDoesNotExist(_)
        | Error::TableTypeMismatch { .. }
        | Error::TypeDefinitionChanged { .. }
        | Error::TableIsMultimap(_) => FaultKind::NotThere,
        Error::Corrupted(_) | Error::RepairAborted => FaultKind::Damage,
        _ => FaultKind::Storage,
    }
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
