//! What the clients have recorded, folded as it comes: of each process and token the accept that began last.

use std::collections::HashMap;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::record::{Kind, RECORD_BYTES, Record};

/// A client process: its place in the fleet, and how many stood there before it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Process {
    pub client: usize,
    pub life: u32,
}

/// What a process did about a token.
#[derive(Clone, Copy, Debug, Default)]
pub struct Row {
    /// The accept that began last.
    pub last: Option<Record>,
    /// The first denial.
    pub denied: Option<Record>,
}

#[derive(Default)]
pub struct Ledger {
    pub rows: HashMap<(Process, u32), Row>,
    pub accepts: u64,
    pub from_memory: u64,
    /// Looks at tokens that had been denied before.
    pub refused: u64,
    /// Processes that had a lease, and when the first was there.
    pub live: HashMap<Process, u64>,
}

impl Ledger {
    fn note(&mut self, process: Process, record: Record) {
        let row = match record.kind {
            Kind::Live => {
                self.live.insert(process, record.began);
                return;
            }
            Kind::Refused => {
                self.refused += u64::from(record.token);
                return;
            }
            Kind::Held | Kind::Asked | Kind::Denied => self.rows.entry((process, record.token)).or_default(),
        };
        match record.kind {
            Kind::Held | Kind::Asked => {
                self.accepts += 1;
                self.from_memory += u64::from(record.kind == Kind::Held);
                row.last = row.last.filter(|last| last.began >= record.began).or(Some(record));
            }
            _ => row.denied = row.denied.filter(|first| first.ended <= record.ended).or(Some(record)),
        }
    }
}

/// Reads what a process records until there is nothing more to come: it is dead, and everything it ever served was read.
pub fn listen(ledger: Arc<Mutex<Ledger>>, process: Process, mut from: UnixStream) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut input = vec![0; 64 * 1024];
        let mut filled = 0;
        // What is half written when a client dies was not served.
        while let Ok(bytes @ 1..) = from.read(&mut input[filled..]) {
            filled += bytes;
            let (records, _) = input[..filled].as_chunks::<RECORD_BYTES>();
            let used = records.len() * RECORD_BYTES;
            let mut ledger = ledger.lock().unwrap();
            records.iter().for_each(|record| ledger.note(process, Record::read(record)));
            drop(ledger);
            input.copy_within(used..filled, 0);
            filled -= used;
        }
    })
}

#[test]
fn the_ledger_keeps_the_accept_that_began_last_whatever_came_in_which_order() {
    let process = Process { client: 3, life: 0 };
    let record = |kind, began, ended| Record { kind, token: 7, began, ended };
    let records = [
        record(Kind::Held, 10, 11),
        record(Kind::Asked, 30, 90),
        record(Kind::Held, 20, 99),
        record(Kind::Denied, 60, 80),
        record(Kind::Denied, 50, 70),
        record(Kind::Refused, 80, 80),
    ];
    let mut ledger = Ledger::default();
    records.iter().for_each(|record| ledger.note(process, *record));
    let row = ledger.rows[&(process, 7)];
    assert_eq!((row.last.unwrap().began, row.denied.unwrap().began), (30, 50));
    assert_eq!((ledger.accepts, ledger.from_memory, ledger.refused), (3, 2, 7));
    for record in records {
        let mut bytes = Vec::new();
        record.write(&mut bytes);
        assert_eq!(Record::read(bytes.as_slice().try_into().unwrap()), record);
    }
}
