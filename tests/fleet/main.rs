//! Twenty API servers as real processes, the shipped server as another, and a network in between that misbehaves: after a
//! fenced revocation has returned, none of them lets the token in.
//!
//! ```text
//!                       ┌─ proxy ◄─► client process 0 ─┐
//!   tokenscope serve ◄──┼─ proxy ◄─► client process 1 ─┼── records of accepts (a socket pair each) ──► ledger
//!         ▲             └─ …                      … ───┘                                                 │
//!         └───────── revokes, and notes when each call returned ──────────────────────────────────► judgement
//! ```
//!
//! Meanwhile, by a printed seed: clients are stopped, for less and for more than a lease, killed and replaced; the server is
//! killed and started anew, and stopped; connections are cut, for less and for more than a lease; datagrams are lost, doubled,
//! late and out of order. All processes read one clock (`CLOCK_BOOTTIME`), so that their moments compare.
//!
//! # Why no violation can hide
//! * *A killed client's last accepts.* An accept is one only when somebody acts on it. Here the act **is** the record: a
//!   decision that was not written when the client died was acted upon by nobody. What was written lies in the kernel's
//!   socket buffer, survives the process, and is read to its end.
//! * *A ledger that keeps too little.* Of each client and token the accept that **began last** is kept, and a violation is
//!   an accept that began after the call returned: if there was any, the last one is one.
//! * *A rig that finds nothing.* Clients that are broken on purpose are found:
//!   `a_client_that_keeps_its_own_decisions_is_found`, `a_client_that_answers_beyond_its_lease_is_found`.
//!
//! ```text
//! TOKENSCOPE_FENCES=1000 cargo test --test fleet no_client -- --nocapture      so many fenced revocations (40)
//! TOKENSCOPE_SEED=7      …                                                     these dice, not those of the hour
//! TOKENSCOPE_LEASE_MS=2000 …                                                   leases of this length (300)
//! TOKENSCOPE_FLEET_JSON=figures.json …                                         the figures as JSON too
//! ```

// The server and its directory.
#[allow(dead_code, reason = "only a part is used here")]
#[path = "../shipped/house.rs"]
mod house;
#[allow(dead_code, reason = "only a part is used here")]
#[path = "../shipped/native.rs"]
mod native;
#[allow(dead_code, reason = "only a part is used here")]
#[path = "../shipped/web.rs"]
mod web;

// A client process.
mod client;
// Seeded randomness.
mod dice;
// The client processes together.
mod fleet;
// What comes of it.
mod judge;
// Who accepted what, and when.
mod ledger;
// The network.
mod proxy;
// What client and rig tell each other.
mod record;
// One run.
mod run;
// What goes wrong on purpose.
mod trouble;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use client::Flaw;
use house::{figure, now};
use judge::Judgement;
use run::{Plan, Troubles};

/// How long a fence may take beyond one lease on a machine that is busy.
const SLACK: Duration = Duration::from_secs(3);

/// One run at a time: the machine is small, and delays are measured.
static ONE: Mutex<()> = Mutex::new(());

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

fn judged(plan: &Plan) -> Judgement {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    run::run(plan)
}

#[test]
fn no_client_accepts_after_a_fenced_revocation_has_returned() {
    let seed = number("TOKENSCOPE_SEED").unwrap_or_else(|| u64::from(now().raw()));
    let lease = Duration::from_millis(number("TOKENSCOPE_LEASE_MS").unwrap_or(300));
    let fences = usize::try_from(number("TOKENSCOPE_FENCES").unwrap_or(40)).unwrap();
    let plan = Plan { seed, clients: 20, fences, lease, flaw: None, troubles: Troubles::All };
    let judgement = judged(&plan);
    figure(&judgement.to_string());
    if let Some(path) = std::env::var_os("TOKENSCOPE_FLEET_JSON") {
        std::fs::write(path, judgement.json().to_string()).unwrap();
    }
    let again = format!("TOKENSCOPE_SEED={seed} TOKENSCOPE_FENCES={fences}");
    assert!(judgement.late.is_empty(), "{again}: accepted after the fence: {:#?}", judgement.late);
    let staleness = judgement.staleness.iter().max().copied().unwrap_or_default();
    assert!(staleness <= lease, "{again}: a token passed {staleness:?} after its revocation was durable");
    let longest = judgement.undisturbed_server().max().unwrap_or_default();
    assert!(longest <= lease + SLACK, "{again}: a fence took {longest:?}");
    assert!(judgement.fences >= fences, "{again}: {} fences", judgement.fences);
    assert!(
        judgement.accepts > 1_000 && judgement.from_memory * 2 > judgement.accepts,
        "{again}: too little was asked"
    );
}

/// It does what others' caches did: it keeps the decision, for a second.
#[test]
fn a_client_that_keeps_its_own_decisions_is_found() {
    let plan = Plan {
        seed: 1,
        clients: 2,
        fences: 4,
        lease: Duration::from_millis(300),
        flaw: Some(Flaw::OwnDecisions),
        troubles: Troubles::None,
    };
    let judgement = judged(&plan);
    assert!(!judgement.late.is_empty(), "nothing was found: {judgement}");
    assert!(judgement.staleness.iter().any(|late| *late > plan.lease), "the staleness was not seen: {judgement}");
}

/// It asks for what the library gives to who asks for it by name, and with it the guarantee is gone.
#[test]
fn a_client_that_answers_beyond_its_lease_is_found() {
    let plan = Plan {
        seed: 2,
        clients: 2,
        fences: 2,
        lease: Duration::from_millis(300),
        flaw: Some(Flaw::BeyondTheLease),
        troubles: Troubles::CutForGood,
    };
    let judgement = judged(&plan);
    assert!(!judgement.late.is_empty(), "nothing was found: {judgement}");
}
