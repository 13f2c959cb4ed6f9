//! A disk in memory that fails at the N-th call, or loses power there.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use ::redb::StorageBackend;

use super::make::Random;

#[derive(Debug, Clone)]
enum Step {
    Length(usize),
    Write(usize, Vec<u8>),
}

#[derive(Debug, Default)]
struct State {
    /// What the process sees.
    seen: Vec<u8>,
    /// What a power cut leaves for certain.
    synced: Vec<u8>,
    /// What was done since; any part of it may survive.
    since: Vec<Step>,
    /// Calls that still work; `None`: all of them.
    calls_left: Option<usize>,
}

/// The disk; clones are the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk(Arc<Mutex<State>>);

impl Disk {
    /// A sound disk with this content.
    pub(super) fn holding(bytes: Vec<u8>) -> Self {
        let state = State { seen: bytes.clone(), synced: bytes, ..State::default() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// From now on `calls` calls work, and none after them.
    pub(super) fn fail_after(&self, calls: usize) {
        self.with(|state| state.calls_left = Some(calls));
    }

    /// Whether a call has been refused.
    pub(super) fn has_failed(&self) -> bool {
        self.with(|state| state.calls_left == Some(0))
    }

    /// What another process would see.
    pub(super) fn seen(&self) -> Vec<u8> {
        self.with(|state| state.seen.clone())
    }

    /// What is left after a power cut: what was synced, and a part of the rest that `random` picks.
    pub(super) fn after_power_cut(&self, random: &mut Random) -> Vec<u8> {
        let (mut bytes, since) = self.with(|state| (state.synced.clone(), state.since.clone()));
        for step in since {
            match step {
                _ if random.below(2) == 0 => {}
                Step::Length(length) => bytes.resize(length, 0),
                Step::Write(at, data) => put(&mut bytes, at, &data),
            }
        }
        bytes
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn call<T>(&self, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        self.with(|state| {
            match &mut state.calls_left {
                Some(0) => return Err(io::Error::other("injected fault")),
                Some(left) => *left -= 1,
                None => {}
            }
            act(state)
        })
    }
}

fn put(bytes: &mut Vec<u8>, at: usize, data: &[u8]) {
    if bytes.len() < at + data.len() {
        bytes.resize(at + data.len(), 0);
    }
    bytes[at..at + data.len()].copy_from_slice(data);
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.call(|state| Ok(state.seen.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.call(|state| {
            let offset = offset as usize;
            let from = state.seen.get(offset..offset + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(from);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.call(|state| {
            state.seen.resize(len as usize, 0);
            state.since.push(Step::Length(len as usize));
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.call(|state| {
            state.synced.clone_from(&state.seen);
            state.since.clear();
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.call(|state| {
            put(&mut state.seen, offset as usize, data);
            state.since.push(Step::Write(offset as usize, data.to_vec()));
            Ok(())
        })
    }
}
