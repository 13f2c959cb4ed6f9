//! What it costs to write the index down and to have it back, beside writing and reading a plain file of the same bytes.
//!
//! `cargo bench --bench snapshot` measures with a hundred thousand and with a million tokens of the sample world in the
//! directory for temporary files; `TOKENSCOPE_BENCH_DIRECTORY=DIR` elsewhere, `TOKENSCOPE_BENCH_TOKENS=N` with N at most.
//! The clock on the wall counts. Files that are read are in the system's cache, ours and the plain one alike: what is seen
//! is what reading *costs*, which is what a restart adds to its disk. See `benches/README.md`.

use std::fs::File;
use std::hint::black_box;
use std::io::{Read, Write};

use tokenscope::disk::DataDir;
use tokenscope::domain::{Epoch, Sequence, Timestamp};
use tokenscope::index::{Index, Loader};
use tokenscope::snapshot::{self, Header, Section, SnapshotError};
use tokenscope::testing::filled::filled;
use tokenscope::testing::pepper;

// Rows that take turns.
mod turns;

use turns::{Row, clock, print, ratio, take};

const NOW: Timestamp = Timestamp::from_raw(1_800_000_000);
const KEY: [u8; 32] = [7; 32];

/// Threads that verify ahead of the loading, as a restart has them.
const THREADS: usize = 1;

fn main() {
    let asked = std::env::var("TOKENSCOPE_BENCH_TOKENS").ok().and_then(|tokens| tokens.parse().ok());
    let most: u64 = asked.unwrap_or(1_000_000);
    let (rounds, sizes) = if turns::is_test() { (1, vec![3_000]) } else { (9, vec![most / 10, most]) };
    let place = std::env::var_os("TOKENSCOPE_BENCH_DIRECTORY").map_or_else(std::env::temp_dir, Into::into);
    for tokens in sizes {
        let directory = tempfile::tempdir_in(&place).expect("a directory");
        let dir = DataDir::open(directory.path().join("data")).expect("a data directory");
        let (index, writer, _) = filled(1, tokens, NOW, &pepper());
        let header = header(&index, writer.applied());
        drop(writer);
        measure(&dir, &index, &header, rounds);
    }
}

fn header(index: &Index, sequence: Sequence) -> Header {
    let pin = index.pin();
    Header {
        epoch: Epoch(1),
        sequence,
        chain: [0; 32],
        pepper: pepper().fingerprint(),
        created: NOW,
        highest_now: NOW,
        tokens: pin.tokens(),
        grants: u64::from(pin.grants()),
    }
}

fn write(dir: &DataDir, index: &Index, header: &Header, name: &str) -> u64 {
    let give = |put: &mut snapshot::Put<'_>| -> Result<(), SnapshotError> {
        index.sections(&mut |table, index, words| put(Section { table, index, words }))
    };
    snapshot::write(dir, name, &KEY, header, give).expect("a snapshot").bytes
}

fn measure(dir: &DataDir, index: &Index, header: &Header, rounds: usize) {
    let name = snapshot::file_name(header.revision());
    let bytes = write(dir, index, header, &name);
    let path = dir.file_path(&name).expect("its path");
    let content = std::fs::read(&path).expect("the snapshot");
    let plain = dir.path().join("plain");
    std::fs::write(&plain, &content).expect("a plain file");
    let rows: Vec<Row<'_>> = vec![
        (
            "write: sections, seal, sync, verify".into(),
            Box::new(|| {
                clock(|| {
                    black_box(write(dir, index, header, &name));
                }) / 1e6
            }),
        ),
        (
            "write: a plain file, sync".into(),
            Box::new(|| {
                clock(|| {
                    let mut file = File::create(&plain).expect("a file");
                    file.write_all(&content).expect("room on the disk");
                    file.sync_all().expect("a disk that syncs");
                }) / 1e6
            }),
        ),
        (
            "read: verify, fill an index".into(),
            Box::new(|| {
                clock(|| {
                    let opened = snapshot::open(&path, &KEY).expect("a sound snapshot");
                    let mut loader = Loader::new(opened.header().tokens);
                    let filled = opened.for_each_ahead(THREADS, &mut |table, _, words| {
                        let words = words.iter().map(|word| word.to_native());
                        loader.section(table, words).map_err(|error| error.to_string())
                    });
                    filled.expect("sound sections");
                    let (index, _writer) = loader.finish(header.sequence).expect("an index");
                    assert_eq!(index.pin().tokens(), header.tokens);
                }) / 1e6
            }),
        ),
        (
            "read: verify alone".into(),
            Box::new(|| {
                clock(|| {
                    black_box(snapshot::verify(&path, &KEY).expect("sound"));
                }) / 1e6
            }),
        ),
        (
            "read: a plain file".into(),
            Box::new(|| {
                clock(|| {
                    // Piece by piece, as ours is read.
                    let (mut file, mut buffer) = (File::open(&plain).expect("a file"), vec![0; 2 << 20]);
                    while file.read(&mut buffer).expect("readable") > 0 {
                        black_box(&buffer);
                    }
                }) / 1e6
            }),
        ),
    ];
    let tokens = header.tokens;
    println!("{tokens} tokens, {bytes} bytes, {} bytes a token", bytes / tokens.max(1));
    let taken = take(turns::chosen(rows), rounds);
    print(&taken, "ms", |row| {
        let seconds = row.quartile(2) / 1e3;
        format!("{:>7.0} MB/s {:>7.2} M tokens/s", bytes as f64 / seconds / 1e6, tokens as f64 / seconds / 1e6)
    });
    for (ours, theirs) in [
        ("write: sections, seal, sync, verify", "write: a plain file, sync"),
        ("read: verify, fill an index", "read: a plain file"),
        ("read: verify alone", "read: a plain file"),
    ] {
        if let Some(times) = ratio(&taken, ours, theirs) {
            println!("{ours:44} {times:>10.2} times the plain file");
        }
    }
    println!();
}
