//! What it costs to make changes durable, in batches of 1, 100 and 1,000, beside an append of the same bytes to a file of
//! the same directory with `fdatasync`.
//!
//! `cargo bench --bench journal` in the directory for temporary files, `TOKENSCOPE_BENCH_DIRECTORY=DIR` elsewhere: what is
//! measured is mostly that disk. The clock on the wall counts, since the waiting is the cost. See `benches/README.md`.

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use tokenscope::domain::{
    CallerId, Change, Entry, Epoch, Expiry, GrantId, NewToken, Sequence, Timestamp, TokenKey, TokenTimes,
};
use tokenscope::journal::{Journal, Options, RedbJournal, entry};

// Rows that take turns.
mod turns;

use turns::{Row, clock, print, ratio, take};

const BATCHES: [usize; 3] = [1, 100, 1_000];

/// Room of the raw file, written beforehand: a file that grows makes the file system write its own journal too, which is
/// not the floor that is looked for.
const RAW_BYTES: u64 = 64 << 20;

/// Registrations of tokens that follow `after`.
fn batch(after: Sequence, count: usize) -> Vec<Entry> {
    let at = Timestamp::from_raw(1_800_000_000);
    let entry = |step: u64| {
        let sequence = after.0 + step;
        let mut key = [5; 16];
        key[..8].copy_from_slice(&sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        let times = TokenTimes { issued: at, not_before: at, expiry: Expiry::At(at.plus(3_600)) };
        let change = Change::RegisterToken(NewToken {
            key: TokenKey::from_bytes(key),
            grant: GrantId::new(1 + (sequence % 1_000) as u32).expect("a number"),
            times,
            audience: None,
            confirmation: None,
            narrowed: None,
        });
        Entry { sequence: Sequence(sequence), at, by: CallerId::parse("issuer").expect("an id"), change }
    };
    (1..=count as u64).map(entry).collect()
}

/// The file that stands for the disk's floor.
struct Raw {
    file: File,
    at: u64,
}

impl Raw {
    fn new(path: &Path) -> Self {
        let file = File::create(path).expect("a file");
        let zeros = vec![0; 1 << 20];
        for at in 0..RAW_BYTES >> 20 {
            file.write_all_at(&zeros, at << 20).expect("room on the disk");
        }
        file.sync_all().expect("a disk that syncs");
        Self { file, at: 0 }
    }

    fn append(&mut self, bytes: &[u8]) {
        if self.at + bytes.len() as u64 > RAW_BYTES {
            self.at = 0;
        }
        self.file.write_all_at(bytes, self.at).expect("written");
        self.file.sync_data().expect("synced");
        self.at += bytes.len() as u64;
    }
}

fn main() {
    let rounds = if turns::is_test() { 1 } else { 101 };
    let place = std::env::var_os("TOKENSCOPE_BENCH_DIRECTORY").map_or_else(std::env::temp_dir, Into::into);
    let directory = tempfile::tempdir_in(place).expect("a directory");
    let path = directory.path().join("journal");
    let journal = RedbJournal::create(&path, &[1; 32], Epoch(1), Options::default()).expect("a journal");
    let journal = RefCell::new(journal);
    let raw = RefCell::new(Raw::new(&directory.path().join("raw")));
    let bytes_of = |count: usize| {
        let mut bytes = Vec::new();
        for change in batch(Sequence::ZERO, count) {
            entry::encode(&change, &mut bytes).expect("it fits");
        }
        bytes
    };
    let mut rows: Vec<Row<'_>> = Vec::new();
    for count in BATCHES {
        let journal = &journal;
        rows.push((
            format!("commit {count}"),
            Box::new(move || {
                let mut journal = journal.borrow_mut();
                let batch = batch(journal.head().last, count);
                clock(|| {
                    let head = journal.commit(&batch).expect("durable");
                    assert_eq!(head.last, batch[count - 1].sequence);
                }) / 1e3
            }),
        ));
        let (bytes, raw) = (bytes_of(count), &raw);
        rows.push((
            format!("append {count} to a file"),
            Box::new(move || clock(|| raw.borrow_mut().append(&bytes)) / 1e3),
        ));
    }
    let taken = take(turns::chosen(rows), rounds);
    let count_of = |name: &str| name.split(' ').find_map(|word| word.parse::<usize>().ok()).unwrap_or(1);
    print(&taken, "µs a batch", |row| {
        let count = count_of(&row.name);
        let a_second = count as f64 / row.quartile(2) * 1e6;
        format!("{a_second:>9.0} changes/s, {} B a change", bytes_of(count).len() / count)
    });
    println!();
    for count in BATCHES {
        if let Some(times) = ratio(&taken, &format!("commit {count}"), &format!("append {count} to a file")) {
            println!(
                "{count:>5} at once: {times:.2} times the time of a plain append, {:.2} of its changes",
                1.0 / times
            );
        }
    }
    // What was acknowledged is there, all of it, and the chain holds.
    let mut journal = journal.into_inner();
    let last = journal.head().last;
    let mut seen = 0;
    let read = |_: &Entry, _| {
        seen += 1;
        Ok(())
    };
    let mut read = read;
    journal.read_after(Sequence::ZERO, None, &mut read).expect("a sound journal");
    assert_eq!(seen, last.0);
    // Nothing is measured any more; the directory goes.
    journal.discard_through(Sequence::ZERO).expect("nothing to forget");
}
