// Included beside a text of the protocol: what its writer does while readers look, and what they may see. Kept to a few
// steps each, since every schedule of them is tried.

use std::sync::Arc;

use super::{epoch, sync};

/// The scripts by name.
pub const SCRIPTS: &[crate::Script] = &[
    ("look-up while it is inserted", while_inserted),
    ("look-up while it moves to its second bucket", while_moving_out),
    ("look-up while it moves to its first bucket", while_moving_home),
    ("look-up while its slot goes to another key", while_the_slot_changes_hands),
    ("look-up of the key that gets a used slot", while_a_used_slot_is_taken),
    ("look-up while it is revoked", while_revoked),
    ("look-up while the segment grows, then is revoked", while_growing),
    ("details while the slot and their row change hands", while_details_change_hands),
    ("details of an outgrown segment", details_of_an_outgrown_segment),
    ("a copy while a token moves", copied_while_moving),
];

/// Words that lead to the four buckets of a fresh segment.
const TO: [u32; 4] = [0, 0x4000_0000, 0x8000_0000, 0xc000_0000];

fn key(first: usize, second: usize, tag: u32) -> TokenKey {
    TokenKey::from_words([0, TO[first], TO[second], tag])
}

/// The token that is looked for.
const SOUGHT: u32 = 1;

/// What belongs to the key with this tag: a grant and a row that no other has.
fn facts(tag: u32) -> SlotFacts {
    SlotFacts { grant: tag, revoked: false, times: SlotTimes::Details(tag * 11), used: 0 }
}

fn table(tokens: &[(usize, usize, u32)]) -> Arc<Tokens> {
    let table = Arc::new(Tokens::new());
    let guard = epoch::pin();
    for (first, second, tag) in tokens {
        table.insert(&key(*first, *second, *tag), facts(*tag), &guard);
    }
    table
}

fn remove(table: &Tokens, gone: impl Fn(u32) -> bool) {
    table.sweep(0, &epoch::pin(), |key, _| gone(key.words()[3]), |_, _| {});
}

/// What a reader finds; whatever it is, it belongs to the key.
fn look(table: &Tokens, key: TokenKey) -> Option<SlotFacts> {
    let guard = epoch::pin();
    let found = table.find(&key, &guard)?.facts;
    let meant = facts(key.words()[3]);
    assert_eq!((found.grant, found.times), (meant.grant, meant.times), "a slot's words belong together");
    Some(found)
}

fn reader<T: 'static>(table: &Arc<Tokens>, look: impl FnOnce(&Tokens) -> T + 'static) -> sync::Running<T> {
    let table = Arc::clone(table);
    sync::spawn(move || look(&table))
}

fn while_inserted() {
    let table = table(&[]);
    sync::start();
    let reader = reader(&table, |table| look(table, key(0, 2, SOUGHT)).is_some());
    table.insert(&key(0, 2, SOUGHT), facts(SOUGHT), &epoch::pin());
    reader.join();
    assert!(look(&table, key(0, 2, SOUGHT)).is_some());
}

/// Its two buckets and the newcomer's are full but for one: the newcomer drives it out.
fn moving_out() -> Arc<Tokens> {
    table(&[(0, 2, SOUGHT), (0, 1, 2), (1, 0, 3), (1, 0, 4)])
}

fn moving_home() -> Arc<Tokens> {
    // It lives in its second bucket, because two others had its first; they are gone.
    let table = table(&[(2, 3, 5), (2, 3, 6), (2, 0, SOUGHT), (0, 1, 2), (1, 0, 3), (1, 0, 4)]);
    remove(&table, |tag| tag == 5 || tag == 6);
    table
}

fn drive_out(table: &Tokens) {
    table.insert(&key(0, 1, 7), facts(7), &epoch::pin());
}

fn while_moving_out() {
    let table = moving_out();
    sync::start();
    let reader = reader(&table, |table| look(table, key(0, 2, SOUGHT)).is_some());
    drive_out(&table);
    assert!(reader.join(), "it was there all the while");
}

fn while_moving_home() {
    let table = moving_home();
    sync::start();
    let reader = reader(&table, |table| look(table, key(2, 0, SOUGHT)).is_some());
    drive_out(&table);
    assert!(reader.join(), "it was there all the while");
}

fn while_the_slot_changes_hands() {
    let table = table(&[(0, 2, SOUGHT)]);
    sync::start();
    let reader = reader(&table, |table| look(table, key(0, 2, SOUGHT)).is_some());
    remove(&table, |tag| tag == SOUGHT);
    table.insert(&key(0, 1, 2), facts(2), &epoch::pin());
    reader.join();
    assert!(look(&table, key(0, 2, SOUGHT)).is_none());
}

fn while_a_used_slot_is_taken() {
    let table = table(&[(0, 1, 2)]);
    remove(&table, |tag| tag == 2);
    sync::start();
    let reader = reader(&table, |table| look(table, key(0, 2, SOUGHT)).is_some());
    table.insert(&key(0, 2, SOUGHT), facts(SOUGHT), &epoch::pin());
    reader.join();
}

/// Revokes after `first` was done to the table, and tells the reader, who may look before, in between and after.
fn told_of_revocation_after(first: impl FnOnce(&Tokens)) {
    let table = table(&[(0, 2, SOUGHT)]);
    let told = Arc::new(sync::AtomicU32::new(0));
    sync::start();
    let told_reader = Arc::clone(&told);
    let reader = reader(&table, move |table| {
        let told = told_reader.load(Ordering::Acquire) == 1;
        let found = look(table, key(0, 2, SOUGHT)).expect("it is in the table");
        assert!(found.revoked || !told, "whoever was told of the revocation sees it");
    });
    first(&table);
    assert!(table.revoke(&key(0, 2, SOUGHT), &epoch::pin()));
    told.store(1, Ordering::Release);
    reader.join();
}

fn while_revoked() {
    told_of_revocation_after(|_| {});
}

fn while_growing() {
    told_of_revocation_after(|table| {
        let _ = table.grow(0, &epoch::pin());
    });
}

/// As the writer does with rows of `details`: a row goes to another token only after the slot that led to it was emptied;
/// its last word, whose row it is, is written first and read last.
fn while_details_change_hands() {
    let table = table(&[(0, 2, SOUGHT)]);
    let row: Arc<[sync::AtomicU32; 2]> = Arc::new(std::array::from_fn(|_| sync::AtomicU32::new(SOUGHT)));
    sync::start();
    let row_reader = Arc::clone(&row);
    let reader = reader(&table, move |table| {
        let guard = epoch::pin();
        let Some(found) = table.find(&key(0, 2, SOUGHT), &guard) else { return };
        let [word, owner] = [row_reader[0].load(Ordering::Acquire), row_reader[1].load(Ordering::Acquire)];
        assert!(owner != SOUGHT || word == SOUGHT, "a row's owner speaks for all of its words");
        assert!(!found.still_there() || word == SOUGHT, "a row of details belongs to the slot that leads to it");
    });
    remove(&table, |tag| tag == SOUGHT);
    row[1].store(2, Ordering::Release);
    row[0].store(2, Ordering::Release);
    table.insert(&key(0, 1, 2), facts(2), &epoch::pin());
    reader.join();
}

/// A slot of a segment that was outgrown stays as it is: then the row alone tells that it has changed hands.
fn details_of_an_outgrown_segment() {
    let table = table(&[(0, 2, SOUGHT)]);
    let row: Arc<[sync::AtomicU32; 2]> = Arc::new(std::array::from_fn(|_| sync::AtomicU32::new(SOUGHT)));
    sync::start();
    let row_reader = Arc::clone(&row);
    let reader = reader(&table, move |table| {
        let guard = epoch::pin();
        if table.find(&key(0, 2, SOUGHT), &guard).is_some() {
            let [word, owner] = [row_reader[0].load(Ordering::Acquire), row_reader[1].load(Ordering::Acquire)];
            assert!(owner != SOUGHT || word == SOUGHT, "a row's owner speaks for all of its words");
        }
    });
    let _ = table.grow(0, &epoch::pin());
    remove(&table, |tag| tag == SOUGHT);
    row[1].store(2, Ordering::Release);
    row[0].store(2, Ordering::Release);
    reader.join();
}

fn copied_while_moving() {
    let table = moving_out();
    sync::start();
    let reader = reader(&table, |table| {
        let mut copied = Vec::new();
        assert!(table.copy(0, &epoch::pin(), &mut copied));
        let count = copied.iter().filter(|(key, _)| key.words()[3] == SOUGHT).count();
        assert_eq!(count, 1, "a copy holds each token once");
    });
    drive_out(&table);
    reader.join();
}
