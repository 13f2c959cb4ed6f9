// Included beside a text of the near-cache: what its follower does while answers arrive and readers look, and what they may
// say. Kept to a few steps each, since every schedule of them is tried.

use std::sync::Arc;
use std::time::Duration;

use answer::Decision;
use clock::Moment;
use lease::Lease;
use memory::{Memory, Question};
use scopes::Resolved;
use sync::{AtomicU64, Ordering};
use table::Facts;
use tokenscope::domain::access::{ClientKind, Covers, MemberFacts, PairFacts, PlaceFacts, PolicyFacts};
use tokenscope::domain::{Epoch, Expiry, ScopeMask, ScopePosition, Sequence, Timestamp, TokenDigest};

/// The scripts by name.
pub const SCRIPTS: &[crate::Script] = &[
    ("a late answer and the announcement that ends it", a_late_answer),
    ("what is held and the announcement that ends it", what_is_held),
    ("a late answer and the announcement that ends everything", a_late_answer_after_everything),
    ("a lease that vouches for an announcement", a_lease_that_vouches),
    ("a list that begins anew, and lower", a_lower_beginning),
    ("an answer of the start before", an_answer_of_the_start_before),
    ("the lease of the start before", the_lease_of_the_start_before),
    ("a slot that goes to another token", a_slot_that_changes_hands),
    ("a scope's name that changes its meaning", a_scope_that_changes_its_meaning),
];

const EPOCH: Epoch = Epoch(7);
const INCARNATION: u64 = 99;
/// Where the list is when a script begins.
const HEAD: u64 = 40;
const WALL_MS: u64 = 1_700_000_000_000;
/// What the token depends on. No two of them share a slot.
const TAGS: [u64; 5] = [0, 1, 2, 3, 4];
const STAMPS: usize = 8;
const LENGTH: Duration = Duration::from_secs(64);

fn at(second: u64) -> Moment {
    Moment(1_000_000_000_000 + second * 1_000_000_000)
}

fn digest(number: u8) -> TokenDigest {
    TokenDigest::from_bytes([number; 32])
}

/// The facts of a token that may read.
fn facts(sequence: u64) -> Facts {
    let member = MemberFacts { live: true, added: Sequence(1), removed: Sequence::ZERO };
    let mut scopes = ScopeMask::EMPTY;
    scopes.insert(ScopePosition::new(0));
    Facts {
        sequence,
        incarnation: INCARNATION,
        tags: TAGS,
        not_before: Timestamp::ZERO,
        expiry: Expiry::Never,
        place: PlaceFacts { workspace: member, project: None, policy: PolicyFacts::NEW, client: ClientKind::App },
        pairs: [PairFacts { covers: Covers::Workspace, since: Sequence(2), scopes }].into_iter().collect(),
    }
}

fn resolved(position: u8, sequence: u64) -> Resolved {
    Resolved { position: Some(ScopePosition::new(position)), sequence }
}

/// Follows from `HEAD` on, with a lease until almost `at(64)`; knows what "read" stands for.
fn memory() -> Arc<Memory> {
    let memory = Memory::new(8, STAMPS);
    memory.belief.begin(EPOCH, INCARNATION, HEAD);
    memory.belief.lease(Lease::granted(at(0), LENGTH, WALL_MS));
    memory.keep_scope(memory.ticket(), EPOCH, "read", resolved(0, HEAD));
    Arc::new(memory)
}

fn keep(memory: &Memory, token: u8, facts: &Facts) {
    memory.keep(memory.ticket(), &digest(token), "A", facts, at(0));
}

fn accepts(memory: &Memory, token: u8, now: Moment) -> bool {
    let question = Question { digest: &digest(token), scope: "read", place: "A", floor: None };
    memory.look(&question, now) == Some(Decision::Allowed)
}

/// Somebody who looks once, and must not let token 1 in if it was told before that it is over.
fn reader(memory: &Arc<Memory>, told: &Arc<AtomicU64>) -> sync::Running<()> {
    let (memory, told) = (Arc::clone(memory), Arc::clone(told));
    sync::spawn(move || {
        let is_told = told.load(Ordering::Acquire) == 1;
        let accepted = accepts(&memory, 1, at(1));
        assert!(!(is_told && accepted), "let in after the fence had returned");
    })
}

/// Not told yet.
fn untold() -> Arc<AtomicU64> {
    Arc::new(AtomicU64::new(0))
}

/// The change at 42 touched one of the tags: applied, and then acknowledged, so that its fence returns.
fn hears_of_42(memory: &Memory, told: &AtomicU64) {
    memory.belief.touch(TAGS[2], 42);
    memory.belief.advance(42);
    told.store(1, Ordering::Release);
}

/// Asked before the change, answered as of 41, and arrived whenever it arrives.
fn a_late_answer() {
    let (memory, told) = (memory(), untold());
    sync::start();
    let ticket = memory.ticket();
    let filled = Arc::clone(&memory);
    let fill = sync::spawn(move || filled.keep(ticket, &digest(1), "A", &facts(41), at(0)));
    let reader = reader(&memory, &told);
    hears_of_42(&memory, &told);
    fill.join();
    reader.join();
    assert!(!accepts(&memory, 1, at(1)), "let in for good");
}

fn what_is_held() {
    let (memory, told) = (memory(), untold());
    keep(&memory, 1, &facts(HEAD));
    assert!(accepts(&memory, 1, at(1)), "it is held");
    sync::start();
    let reader = reader(&memory, &told);
    hears_of_42(&memory, &told);
    reader.join();
    // What is asked for after the change is held again, and counts.
    keep(&memory, 1, &facts(42));
    assert!(accepts(&memory, 1, at(1)), "what was answered at the change stands");
}

fn a_late_answer_after_everything() {
    let (memory, told) = (memory(), untold());
    sync::start();
    let ticket = memory.ticket();
    let filled = Arc::clone(&memory);
    let fill = sync::spawn(move || {
        filled.keep(ticket, &digest(1), "A", &facts(41), at(0));
        filled.keep_scope(ticket, EPOCH, "read", resolved(0, 41));
    });
    let reader = reader(&memory, &told);
    memory.belief.forget();
    memory.belief.advance(42);
    told.store(1, Ordering::Release);
    fill.join();
    reader.join();
    // Somebody else has asked what "read" is now, and it is the same.
    memory.keep_scope(memory.ticket(), EPOCH, "read", resolved(0, 42));
    assert!(!accepts(&memory, 1, at(1)), "an answer from before everything was touched");
}

/// The lease was over when the token was revoked, so the fence waited for nobody. Who is let in by the next lease sees
/// what was said before it.
fn a_lease_that_vouches() {
    let memory = memory();
    keep(&memory, 1, &facts(HEAD));
    sync::start();
    let looked = Arc::clone(&memory);
    let reader = sync::spawn(move || assert!(!accepts(&looked, 1, at(100)), "let in by a lease that knew better"));
    memory.belief.touch(TAGS[2], 42);
    memory.belief.advance(42);
    memory.belief.lease(Lease::granted(at(90), LENGTH, WALL_MS));
    reader.join();
}

/// What ended the token stands at 42 in its stamp; a beginning at 10 wipes that away, and with it has to go what was held.
fn a_lower_beginning() {
    let memory = memory();
    keep(&memory, 1, &facts(41));
    memory.belief.touch(TAGS[2], 42);
    memory.belief.advance(42);
    assert!(!accepts(&memory, 1, at(1)), "it is over");
    sync::start();
    let looked = Arc::clone(&memory);
    let reader = sync::spawn(move || assert!(!accepts(&looked, 1, at(1)), "alive again"));
    memory.belief.start_over(10);
    memory.belief.advance(10);
    reader.join();
}

/// The feed is of a new start of the server; the question went to the one before, by another connection.
fn an_answer_of_the_start_before() {
    let (memory, told) = (memory(), untold());
    sync::start();
    let filled = Arc::clone(&memory);
    let fill = sync::spawn(move || {
        let ticket = filled.ticket();
        filled.keep(ticket, &digest(1), "A", &facts(41), at(0));
    });
    let reader = reader(&memory, &told);
    // In its list, an older copy, the token was never issued; by now that list is longer than the other was.
    memory.belief.begin(EPOCH, INCARNATION + 1, 11);
    memory.belief.advance(60);
    memory.belief.lease(Lease::granted(at(0), LENGTH, WALL_MS));
    told.store(1, Ordering::Release);
    memory.keep_scope(memory.ticket(), EPOCH, "read", resolved(0, 11));
    fill.join();
    reader.join();
    assert!(!accepts(&memory, 1, at(1)), "the answer of a server that is no more");
}

/// A new start of the server has given no lease yet, so its fences wait for nobody.
fn the_lease_of_the_start_before() {
    let (memory, told) = (memory(), untold());
    sync::start();
    let reader = reader(&memory, &told);
    memory.belief.begin(EPOCH, INCARNATION + 1, 50);
    memory.keep_scope(memory.ticket(), EPOCH, "read", resolved(0, 50));
    keep(&memory, 1, &Facts { incarnation: INCARNATION + 1, ..facts(50) });
    told.store(1, Ordering::Release);
    reader.join();
}

/// The fingerprint that led here is read first; by the time the slot is, somebody else has it.
fn a_slot_that_changes_hands() {
    let memory = memory();
    keep(&memory, 1, &facts(HEAD));
    // Room is made of what was forgotten, and token 1 is known to nobody any more.
    memory.belief.forget();
    memory.keep_scope(memory.ticket(), EPOCH, "read", resolved(0, HEAD));
    sync::start();
    let looked = Arc::clone(&memory);
    let reader = sync::spawn(move || assert!(!accepts(&looked, 1, at(1)), "another token's facts"));
    keep(&memory, 2, &facts(HEAD));
    reader.join();
    assert!(accepts(&memory, 2, at(1)));
}

/// "read" stood for the first scope, which the token has, and from 42 on stands for the second, which it has not.
fn a_scope_that_changes_its_meaning() {
    let memory = memory();
    memory.belief.forget();
    memory.belief.advance(42);
    keep(&memory, 1, &facts(42));
    sync::start();
    let looked = Arc::clone(&memory);
    let reader = sync::spawn(move || assert!(!accepts(&looked, 1, at(1)), "half of what the name stood for"));
    memory.keep_scope(memory.ticket(), EPOCH, "read", resolved(1, 42));
    reader.join();
}
