//! What a client process tells the rig, and the board on which it reads what to ask.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokenscope::client::Token;

/// The clock that leases are counted on, as in the near-cache.
#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::Monotonic;

/// Nanoseconds since boot, the same in every process of this machine.
pub fn moment() -> u64 {
    let time = clock_gettime(CLOCK);
    u64::try_from(time.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap()
}

/// From one moment to a later one; nothing if it is not later.
pub fn between(from: u64, to: u64) -> Duration {
    Duration::from_nanos(to.saturating_sub(from))
}

pub fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap()
}

/// The token with this number; nobody needs to be told it.
pub fn token(number: u32) -> Token {
    Token::from(&format!("a token of the fleet, number {number}"))
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A lease runs, for the first time in this process.
    Live = 1,
    /// Let in, from memory.
    Held = 2,
    /// Let in, after the server was asked, or the near-cache said so in its place.
    Asked = 3,
    /// Not let in, for the first time after it was let in.
    Denied = 4,
    /// So many looks, instead of a token, at tokens that were denied before: none was let in.
    Refused = 5,
}

/// Something a client has done, 24 bytes: kind (1), zeros (3), token (4), the moments at which it began and ended (8 each).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    pub kind: Kind,
    pub token: u32,
    pub began: u64,
    pub ended: u64,
}

pub const RECORD_BYTES: usize = 24;

impl Record {
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend([self.kind as u8, 0, 0, 0]);
        out.extend(self.token.to_le_bytes());
        out.extend(self.began.to_le_bytes());
        out.extend(self.ended.to_le_bytes());
    }

    pub fn read(bytes: &[u8; RECORD_BYTES]) -> Self {
        let kind = match bytes[0] {
            1 => Kind::Live,
            2 => Kind::Held,
            3 => Kind::Asked,
            4 => Kind::Denied,
            5 => Kind::Refused,
            other => panic!("a record of kind {other}"),
        };
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let token = u32::from_le_bytes(bytes[4..8].try_into().unwrap());
        Self { kind, token, began: word(8), ended: word(16) }
    }
}

/// Which tokens are to be asked about. A file, so that a client that stands still holds nobody up.
pub struct Board(File);

/// What stands on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// The first token to ask about.
    pub from: u32,
    /// The first not to. Nothing before `from`: everybody goes home.
    pub to: u32,
    /// The one that is going to be revoked next: looked at once a millisecond.
    pub next: u32,
}

impl Wanted {
    pub const STOP: Self = Self { from: 1, to: 0, next: 0 };
}

impl Board {
    pub fn new(path: &Path) -> Self {
        let board = Self(File::create_new(path).unwrap());
        board.put(Wanted { from: 0, to: 0, next: 0 });
        board
    }

    pub fn open(path: &Path) -> Self {
        Self(File::open(path).unwrap())
    }

    pub fn put(&self, wanted: Wanted) {
        let mut bytes = [0; 12];
        for (to, number) in bytes.chunks_exact_mut(4).zip([wanted.from, wanted.to, wanted.next]) {
            to.copy_from_slice(&number.to_le_bytes());
        }
        self.0.write_all_at(&bytes, 0).unwrap();
    }

    pub fn read(&self) -> Wanted {
        let mut bytes = [0; 12];
        self.0.read_exact_at(&mut bytes, 0).unwrap();
        let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        Wanted { from: number(0), to: number(4), next: number(8) }
    }
}
