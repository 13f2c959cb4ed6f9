//! The rules one by one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::client::answer::{Decision, Error};
use crate::client::near::belief::Belief;
use crate::client::near::clock::Moment;
use crate::client::near::flights::Flights;
use crate::client::near::follow::Follower;
use crate::client::near::inline::Pairs;
use crate::client::near::lease::Lease;
use crate::client::near::memory::{Memory, Question};
use crate::client::near::scopes::{Resolved, Scopes};
use crate::client::near::table::Facts;
use crate::domain::access::{ClientKind, Covers, MemberFacts, PairFacts, PlaceFacts, PolicyFacts};
use crate::domain::{Denial, Epoch, Expiry, Revision, ScopeMask, ScopePosition, Sequence, Timestamp, TokenDigest};
use crate::wire::follow::{Announced, Follower as Said, Touched};

const EPOCH: Epoch = Epoch(7);
const INCARNATION: u64 = 99;
const START: Moment = Moment(1_000_000_000_000);
const WALL_MS: u64 = 1_700_000_000_000;
const WALL: u32 = 1_700_000_000;
const TAGS: [u64; 5] = [11, 12, 13, 14, 15];

fn second(number: u64) -> Moment {
    START.plus(Duration::from_secs(number))
}

fn digest(number: u8) -> TokenDigest {
    TokenDigest::from_bytes([number; 32])
}

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

fn known(position: u8, sequence: u64) -> Resolved {
    Resolved { position: Some(ScopePosition::new(position)), sequence }
}

/// A memory that follows from change 40 on, with a lease of ten seconds from `START` on and the scopes "read", which
/// the facts have, and "write", which they do not.
fn memory() -> Memory {
    let memory = Memory::new(64, 64);
    memory.belief.begin(EPOCH, INCARNATION, 40);
    memory.belief.lease(Lease::granted(START, Duration::from_secs(10), WALL_MS));
    let ticket = memory.ticket();
    memory.keep_scope(ticket, EPOCH, "read", known(0, 40));
    memory.keep_scope(ticket, EPOCH, "write", known(1, 40));
    memory
}

fn look(memory: &Memory, token: u8, scope: &str, now: Moment) -> Option<Decision> {
    memory.look(&Question { digest: &digest(token), scope, place: "A", floor: None }, now)
}

fn keep(memory: &Memory, facts: &Facts) {
    memory.keep(memory.ticket(), &digest(1), "A", facts, START);
}

#[test]
fn any_scope_is_decided_from_the_same_facts_and_nothing_else_is_answered() {
    let memory = memory();
    assert_eq!(look(&memory, 1, "read", START), None, "nothing is held");
    keep(&memory, &facts(40));
    assert_eq!(look(&memory, 1, "read", START), Some(Decision::Allowed));
    assert_eq!(look(&memory, 1, "write", START), Some(Decision::Denied(Denial::ScopeNotGranted)));
    assert_eq!(look(&memory, 1, "delete", START), None, "a name nobody has resolved");
    memory.keep_scope(memory.ticket(), EPOCH, "delete", Resolved { position: None, sequence: 40 });
    assert_eq!(look(&memory, 1, "delete", START), Some(Decision::Denied(Denial::ScopeUnknown)));
    assert_eq!(look(&memory, 2, "read", START), None, "another token");
    let elsewhere = Question { digest: &digest(1), scope: "read", place: "A/1", floor: None };
    assert_eq!(memory.look(&elsewhere, START), None, "another place");
}

#[test]
fn a_touched_tag_ends_what_was_answered_before_and_not_what_was_answered_after() {
    for (answered, touched, stands) in [(40, 41, false), (41, 41, true), (42, 41, true)] {
        for tag in TAGS {
            for answer_first in [true, false] {
                let memory = memory();
                let ticket = memory.ticket();
                let fill = || memory.keep(ticket, &digest(1), "A", &facts(answered), START);
                if answer_first {
                    fill();
                }
                memory.belief.touch(tag, touched);
                memory.belief.advance(42);
                if !answer_first {
                    fill();
                }
                let story = format!("answered at {answered}, tag {tag} touched at {touched}, first: {answer_first}");
                assert_eq!(look(&memory, 1, "read", START).is_some(), stands, "{story}");
            }
        }
    }
}

#[test]
fn forgetting_ends_everything_questions_on_their_way_too() {
    let memory = memory();
    keep(&memory, &facts(40));
    let ticket = memory.ticket();
    memory.belief.forget();
    memory.keep(ticket, &digest(1), "A", &facts(40), START);
    memory.keep_scope(ticket, EPOCH, "read", known(0, 40));
    assert_eq!(look(&memory, 1, "read", START), None);
    keep(&memory, &facts(40));
    assert_eq!(look(&memory, 1, "read", START), None, "the scope's name has to be resolved again too");
    memory.keep_scope(memory.ticket(), EPOCH, "read", known(0, 40));
    assert_eq!(look(&memory, 1, "read", START), Some(Decision::Allowed));
    keep(&memory, &Facts { incarnation: 1, ..facts(40) });
    assert_eq!(memory.tallies.read(crate::client::near::counters::Count::NotKept), 2, "late, and another start");
}

#[test]
fn a_lease_ends_before_the_server_believes_it_to_end() {
    let memory = memory();
    keep(&memory, &facts(40));
    let margin = Duration::from_secs(10) / 64;
    let end = START.plus(Duration::from_secs(10) - margin);
    assert!(look(&memory, 1, "read", Moment(end.0 - 1)).is_some());
    assert_eq!(look(&memory, 1, "read", end), None);
    // Only who asked for it by name goes on, for as long as was said, and never against what was heard.
    let question = Question { digest: &digest(1), scope: "read", place: "A", floor: None };
    let minute = Duration::from_secs(60);
    assert_eq!(memory.look_beyond(&question, second(20), minute), Some(Decision::Allowed));
    assert_eq!(memory.look_beyond(&question, second(71), minute), None);
    memory.belief.touch(TAGS[2], 41);
    assert_eq!(memory.look_beyond(&question, second(20), minute), None);
    assert_eq!(Memory::new(8, 8).look_beyond(&question, second(20), minute), None, "there never was a lease");
}

#[test]
fn expiry_is_judged_at_every_read_by_the_servers_clock_at_the_latest() {
    let memory = memory();
    // The server's clock said WALL when the lease was asked for, and may have been a second coarse.
    let until = |seconds: u32| Facts { expiry: Expiry::At(Timestamp::from_raw(WALL + seconds)), ..facts(40) };
    keep(&memory, &until(5));
    assert_eq!(look(&memory, 1, "read", second(3)), Some(Decision::Allowed));
    assert_eq!(look(&memory, 1, "read", second(5)), None, "exp has come");
    assert_eq!(look(&memory, 1, "read", second(3)), None, "and it was let go");
    // An estimate never falls below an earlier one.
    memory.belief.lease(Lease::granted(START, Duration::from_secs(10), WALL_MS - 100_000));
    keep(&memory, &until(2));
    assert_eq!(look(&memory, 1, "read", second(2)), None);
    let old = Lease::granted(START, Duration::from_secs(4_000), WALL_MS);
    memory.belief.lease(old);
    keep(&memory, &facts(40));
    assert!(look(&memory, 1, "read", second(899)).is_some());
    assert_eq!(look(&memory, 1, "read", second(900)), None, "after a quarter of an hour the server is asked anew");
}

#[test]
fn facts_and_scope_have_to_be_true_at_one_place_in_the_list() {
    for (facts_at, scope_at, position, together) in
        [(40, 40, 40, true), (41, 41, 40, true), (41, 40, 40, false), (40, 41, 40, false), (41, 40, 41, true)]
    {
        let memory = memory();
        keep(&memory, &facts(facts_at));
        memory.keep_scope(memory.ticket(), EPOCH, "new", known(0, scope_at));
        memory.belief.advance(position);
        let answer = look(&memory, 1, "new", START);
        assert_eq!(answer.is_some(), together, "facts {facts_at}, scope {scope_at}, feed {position}");
    }
}

#[test]
fn a_client_sees_its_own_changes() {
    let memory = memory();
    keep(&memory, &facts(40));
    let seen = |epoch: u64, sequence: u64| {
        let floor = Some(Revision { epoch: Epoch(epoch), sequence: Sequence(sequence) });
        memory.look(&Question { digest: &digest(1), scope: "read", place: "A", floor }, START).is_some()
    };
    assert!(seen(7, 40));
    assert!(!seen(7, 41), "the change is not heard of yet");
    assert!(seen(6, 1_000), "a list that is no more");
    assert!(!seen(8, 1), "a list that is not followed yet");
    memory.belief.advance(41);
    assert!(seen(7, 41), "it was heard of, and touched nothing here");
}

#[test]
fn a_full_set_drives_out_what_was_not_used() {
    let memory = Memory::new(8, 8);
    memory.belief.begin(EPOCH, INCARNATION, 40);
    memory.belief.lease(Lease::granted(START, Duration::from_secs(10), WALL_MS));
    memory.keep_scope(memory.ticket(), EPOCH, "read", known(0, 40));
    for token in 0..200 {
        memory.keep(memory.ticket(), &digest(token), "A", &facts(40), START);
        if token > 20 {
            assert!(look(&memory, 20, "read", START).is_some(), "one that is used stays; {token}");
        }
    }
    assert_eq!((memory.held(), memory.capacity()), (8, 8));
    // An answer that comes late does not take the place of a newer one.
    memory.keep(memory.ticket(), &digest(20), "A", &Facts { pairs: [].into_iter().collect(), ..facts(39) }, START);
    assert_eq!(look(&memory, 20, "read", START), Some(Decision::Allowed));
}

#[test]
fn names_of_scopes_are_bounded_and_belong_to_a_generation() {
    let scopes = Scopes::new();
    for number in 0..2_000 {
        scopes.put(3, &format!("scope:{number}"), known(0, number));
    }
    let kept = (0..2_000).filter(|number| scopes.find(&format!("scope:{number}")).is_some()).count();
    assert_eq!(kept, 1_024);
    scopes.put(2, "scope:7", known(1, 9));
    assert_eq!(scopes.find("scope:7"), Some((3, known(0, 7))), "an answer to a question from before a forgetting");
    scopes.put(4, "scope:7", known(1, 1));
    assert_eq!(scopes.find("scope:7"), Some((4, known(1, 1))));
    // The older of two like answers says more; of two unlike ones the newer counts.
    for (position, sequence, known_after) in [(1, 9, known(1, 1)), (2, 5, known(2, 5)), (1, 4, known(2, 5))] {
        scopes.put(4, "scope:7", known(position, sequence));
        assert_eq!(scopes.find("scope:7"), Some((4, known_after)));
    }
}

// ---- the follower ----

fn following(resumed: bool, incarnation: u64, sequence: u64) -> Announced<'static> {
    let sequence = Sequence(sequence);
    Announced::Following { id: 0, resumed, incarnation, sequence, lease_ms: 10_000, server_time_ms: WALL_MS }
}

fn lease(id: u32, previous: u64, sequence: u64) -> Announced<'static> {
    let (previous, sequence) = (Sequence(previous), Sequence(sequence));
    Announced::Lease { id, previous, sequence, lease_ms: 10_000, server_time_ms: WALL_MS }
}

fn touched(previous: u64, sequence: u64) -> Announced<'static> {
    let (previous, sequence) = (Sequence(previous), Sequence(sequence));
    Announced::Touched { previous, sequence, touched: Touched::Tags(Default::default()) }
}

/// A follower with a lease, at change 40.
fn follower(belief: &Belief) -> Follower {
    let mut follower = Follower::new(Duration::from_secs(10));
    follower.connected(EPOCH, START);
    assert_eq!(follower.due(START), Ok(Some(Said::Renew { id: 1, acknowledged: Sequence::ZERO })));
    assert_eq!(follower.due(START), Ok(None));
    follower.hear(&following(false, INCARNATION, 40), START, belief).unwrap();
    assert!(belief.licence(START).is_none(), "to follow is no lease");
    follower.hear(&lease(1, 40, 40), START, belief).unwrap();
    assert!(belief.licence(START).is_some());
    assert_eq!(follower.due(START), Ok(Some(Said::Acknowledge { sequence: Sequence(40) })));
    follower
}

#[test]
fn what_was_applied_is_acknowledged_once_and_leases_are_renewed_four_times() {
    let belief = Belief::new(8);
    let mut follower = follower(&belief);
    follower.hear(&touched(40, 41), START, &belief).unwrap();
    follower.hear(&touched(41, 43), START, &belief).unwrap();
    assert_eq!(belief.position(), 43);
    assert_eq!(follower.due(START), Ok(Some(Said::Acknowledge { sequence: Sequence(43) })), "both at once");
    assert_eq!(follower.due(START), Ok(None));
    assert_eq!(follower.wakes(), Some(START.plus(Duration::from_millis(2_500))));
    follower.hear(&touched(43, 44), START, &belief).unwrap();
    let renew = Said::Renew { id: 2, acknowledged: Sequence(44) };
    assert_eq!(follower.due(second(3)), Ok(Some(renew)), "a renewal acknowledges too");
    assert_eq!(follower.due(second(3)), Ok(None));
    for quarter in 2..9 {
        assert!(follower.due(second(3 * quarter)).unwrap().is_some());
    }
    assert!(follower.due(second(60)).is_err(), "a server that answers no renewals has gone");
}

#[test]
fn an_answer_from_beyond_the_feed_asks_for_a_lease_unless_the_feed_tells_of_it() {
    let belief = Belief::new(8);
    for told in [true, false] {
        let mut follower = follower(&belief);
        follower.nudge(45, START);
        assert_eq!(follower.due(START), Ok(None), "not at once");
        if told {
            follower.hear(&touched(40, 45), START, &belief).unwrap();
            follower.due(START).unwrap();
        }
        let renews = matches!(follower.due(second(1)), Ok(Some(Said::Renew { .. })));
        assert_eq!(renews, !told);
    }
}

#[test]
fn a_feed_is_resumed_only_where_it_was_left() {
    let again = |epoch: Epoch| {
        let belief = Belief::new(8);
        let mut follower = follower(&belief);
        let generation = belief.generation();
        follower.lost();
        let Said::Follow { resume, .. } = follower.connected(epoch, second(1)) else { panic!("not a follow") };
        (belief, follower, generation, resume)
    };
    let (belief, mut follower, generation, resume) = again(EPOCH);
    let resume = resume.expect("it stood somewhere");
    assert_eq!((resume.incarnation, resume.revision.sequence), (INCARNATION, Sequence(40)));
    follower.hear(&following(true, INCARNATION, 40), second(1), &belief).unwrap();
    assert_eq!(belief.generation(), generation, "nothing was missed, nothing is forgotten");
    assert!(belief.licence(second(1)).is_some(), "the lease from before goes on: the server counts on it too");
    let (belief, mut follower, generation, _) = again(EPOCH);
    follower.hear(&following(false, INCARNATION + 1, 40), second(1), &belief).unwrap();
    assert!(belief.generation() > generation && belief.licence(second(1)).is_none(), "another start of the server");
    let (_, _, _, resume) = again(Epoch(8));
    assert_eq!(resume, None, "another list");
    for wrong in [following(true, INCARNATION, 41), following(true, INCARNATION + 1, 40)] {
        let (belief, mut follower, generation, _) = again(EPOCH);
        assert!(follower.hear(&wrong, second(1), &belief).is_err());
        assert!(belief.generation() > generation);
    }
}

#[test]
fn gaps_and_nonsense_make_it_forget() {
    let start_over = Announced::StartOver { sequence: Sequence(50) };
    let sequences = (Sequence(40), Sequence(41));
    let everything = Announced::Touched { previous: sequences.0, sequence: sequences.1, touched: Touched::Everything };
    for (said, goes_on) in [
        (touched(41, 42), true),
        (touched(39, 42), true),
        (everything, true),
        (start_over, true),
        (touched(38, 39), false),
        (lease(7, 40, 40), false),
        (following(false, INCARNATION, 40), false),
    ] {
        let belief = Belief::new(8);
        let mut follower = follower(&belief);
        let generation = belief.generation();
        assert_eq!(follower.hear(&said, START, &belief).is_ok(), goes_on, "{said:?}");
        assert!(belief.generation() > generation, "{said:?}");
    }
}

// ---- one question for many ----

#[tokio::test]
async fn many_who_want_to_know_the_same_ask_once_and_nobody_waits_for_who_has_left() {
    let flights: Flights<u32> = Flights::new();
    let asked = Arc::new(AtomicUsize::new(0));
    let (open, opened) = tokio::sync::watch::channel(false);
    let board = |place: &str| {
        let (asked, mut opened) = (asked.clone(), opened.clone());
        flights.board(&digest(1), place, || async move {
            asked.fetch_add(1, Ordering::Relaxed);
            let _ = opened.wait_for(|open| *open).await;
            Ok(5)
        })
    };
    let first = board("A");
    let others: Vec<_> = (0..10).map(|_| board("A")).collect();
    assert!(!first.was_underway && others.iter().all(|flight| flight.was_underway));
    assert!(!board("B").was_underway, "another place is another question");
    // The first one stops waiting; the question goes on.
    drop(first);
    open.send_replace(true);
    for flight in others {
        assert_eq!(flight.landed().await, Ok(5));
    }
    assert!(!board("A").was_underway, "what has landed is asked anew");
    assert_eq!(asked.load(Ordering::Relaxed), 2, "the last two have not been polled yet");
    let failed = flights.board(&digest(2), "A", || async { Err(Error::Timeout) });
    assert_eq!(failed.landed().await, Err(Error::Timeout));
}

#[test]
fn places_and_pairs_are_what_they_were_however_many_and_long() {
    let place = |length: usize| "p".repeat(length);
    for length in [1, 7, 8, 22, 23, 24, 100] {
        let memory = memory();
        memory.keep(memory.ticket(), &digest(1), &place(length), &facts(40), second(1));
        let look = |place: &str| {
            let question = Question { digest: &digest(1), scope: "read", place, floor: None };
            memory.look(&question, second(1))
        };
        assert_eq!(look(&place(length)), Some(Decision::Allowed), "{length} bytes");
        for other in [place(length - 1), place(length + 1), format!("{}q", place(length - 1))] {
            assert_eq!(look(&other), None, "{length} bytes, and {other:?}");
        }
    }
    for count in 0..6 {
        let pair = |at: u8| {
            let mut scopes = ScopeMask::EMPTY;
            scopes.insert(ScopePosition::new(at));
            PairFacts { covers: Covers::Workspace, since: Sequence(2), scopes }
        };
        let all: Vec<PairFacts> = (0..count).map(pair).collect();
        let pairs: Pairs = all.iter().copied().collect();
        assert_eq!(*pairs, *all);
        let facts = Facts { pairs, ..facts(40) };
        for position in 0..6 {
            let may = facts.decide(ScopePosition::new(position)).is_ok();
            assert_eq!(may, position < count, "{count} pairs, scope {position}");
        }
    }
}
