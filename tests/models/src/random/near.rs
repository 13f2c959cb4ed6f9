//! The near-cache under very many random schedules: its short scripts, and a long one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use super::{Mutant, number, try_some};

/// One text of the near-cache as a module, with the scripts over it.
macro_rules! near {
    ($name:ident, $file:literal) => {
        #[allow(dead_code, unused, clippy::all, reason = "the house's own lints look at the original")]
        mod $name {
            use super::super::{arc_swap, sync};
            include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/near/around.rs"));
            include!(concat!(env!("OUT_DIR"), "/", $file));
            include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/near/scripts.rs"));
            include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/near/mixed.rs"));
        }
    };
}

include!(concat!(env!("OUT_DIR"), "/near_list.rs"));

/// The mutants that are wrong under sequential consistency too.
const MUTANTS: [Mutant; 11] = [
    mutant!(stamps_never_looked_at),
    mutant!(stamps_looked_at_only_when_filled),
    mutant!(facts_as_of_their_arrival),
    mutant!(generation_of_the_arrival),
    mutant!(another_starts_answers_are_kept),
    mutant!(generation_not_looked_at_again),
    mutant!(generation_looked_at_again_too_early),
    mutant!(forgotten_after_the_stamps_were_reset),
    mutant!(lease_of_the_start_before_goes_on),
    mutant!(digest_not_compared),
    mutant!(scope_read_without_a_second_look),
];

#[test]
fn random_schedules_of_the_near_cache_let_nobody_in_after_a_fence() {
    let (seed, schedules) = (number("TOKENSCOPE_SEED", 1), number("TOKENSCOPE_SCHEDULES", 100_000) as usize);
    let begun = Instant::now();
    let short = schedules / 2 / real::SCRIPTS.len();
    for (_, script) in real::SCRIPTS {
        try_some(*script, seed, short);
    }
    try_some(real::mixed, seed, schedules / 2);
    println!("seed {seed}: {} of the long script, {short} of each short one: {:?}", schedules / 2, begun.elapsed());
}

#[test]
fn random_schedules_find_each_mutant_of_the_near_cache() {
    let seed = number("TOKENSCOPE_SEED", 1);
    let mut missed = Vec::new();
    for (name, scripts, mixed) in MUTANTS {
        let begun = Instant::now();
        let all = scripts.iter().copied().chain([("the long script", mixed)]);
        let found = all
            .into_iter()
            .find(|(_, script)| catch_unwind(AssertUnwindSafe(|| try_some(*script, seed, 4_000))).is_err());
        match found {
            Some((script, _)) => println!("{name}: found in \"{script}\", {:?}", begun.elapsed()),
            None => missed.push(name),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
