//! The near-cache without a socket: the rules one by one, and all of them together against a reference in virtual time.

mod dice;
mod model;
mod rules;
mod sim;

use sim::{Flaw, Sim};

/// Cases of the metamorphic test when the environment says nothing.
const CASES: u64 = 6_000;
/// Cases within which each flaw has to be found.
const CASES_FOR_A_FLAW: u64 = 4_000;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

/// `TOKENSCOPE_CASES=n` runs n cases, `TOKENSCOPE_SEED=n` only that one.
#[test]
fn whatever_is_answered_from_memory_was_the_truth_within_the_lease_and_is_since_the_fence() {
    let seeds = match number("TOKENSCOPE_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("TOKENSCOPE_CASES").unwrap_or(CASES),
    };
    let (mut cases, mut hits, mut fences, mut resumed) = (0, 0, 0, 0);
    for seed in seeds {
        let mut sim = Sim::new(seed, None);
        if let Err(wrong) = sim.run() {
            panic!(
                "case {seed}: {wrong}\nrepeat: TOKENSCOPE_SEED={seed} cargo test --lib client::near::tests::whatever"
            );
        }
        assert_eq!(sim.broken, 0, "case {seed}: the follower does not understand a server that keeps the protocol");
        (cases, hits, fences) = (cases + 1, hits + sim.hits, fences + sim.fences_returned);
        resumed += sim.resumed;
    }
    println!("{cases} cases: {hits} answers from memory, {fences} fences returned, {resumed} feeds resumed");
    let enough = hits >= 3 * cases && fences >= cases && 2 * resumed >= cases;
    assert!(enough || cases < 100, "the cases show too little");
}

#[test]
fn each_mistake_a_near_cache_can_make_is_found() {
    for flaw in [
        Flaw::StampsIgnored,
        Flaw::SequenceOfArrival,
        Flaw::KeptOverReconnect,
        Flaw::LeaseFromReceipt,
        Flaw::AcknowledgedFirst,
    ] {
        let found = (1..=CASES_FOR_A_FLAW).find_map(|seed| Sim::new(seed, Some(flaw)).run().err().map(|e| (seed, e)));
        match found {
            Some((seed, wrong)) => println!("{flaw:?}: case {seed}: {wrong}"),
            None => panic!("{flaw:?} was not found in {CASES_FOR_A_FLAW} cases"),
        }
    }
}
