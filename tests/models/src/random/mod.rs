//! Very many random schedules, by shuttle: the scripts once more, and a long one where a writer does whatever it can
//! while two readers look for anything.

#[path = "../near/arc_swap.rs"]
pub mod arc_swap;
#[path = "../epoch.rs"]
pub mod epoch;
pub mod sync;
#[path = "../blocks.rs"]
pub mod blocks;
#[path = "../zeroed.rs"]
pub mod zeroed;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

macro_rules! mutant {
    ($name:ident) => {
        (stringify!($name), $name::SCRIPTS, $name::mixed)
    };
}

// The near-cache's; after the macro it uses.
mod near;

include!(concat!(env!("OUT_DIR"), "/list_random.rs"));

/// Its name, its short scripts, its long one.
type Mutant = (&'static str, &'static [crate::Script], fn());

/// The mutants that are wrong under sequential consistency too, with the scripts over each. (One more is, but needs three
/// switches at three exact places; loom finds it.)
const MUTANTS: [Mutant; 7] = [
    mutant!(version_raised_only_before_the_insert),
    mutant!(version_raised_only_after_the_insert),
    mutant!(removed_before_the_insert_on_a_move),
    mutant!(spilled_counted_after_the_remove),
    mutant!(hit_without_looking_at_the_version),
    mutant!(miss_without_looking_at_the_version),
    mutant!(segment_retired_before_it_is_replaced),
];

fn number(variable: &str, usual: u64) -> u64 {
    let Ok(text) = std::env::var(variable) else { return usual };
    text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number"))
}

/// Runs the script under so many schedules from this seed, half of them with a switch wherever chance wants one, half with
/// few switches at chosen places (which finds what needs one thread to stand still for long).
fn try_some(script: fn(), seed: u64, schedules: usize) {
    /// Switches that matter, at most.
    const DEPTH: usize = 3;
    let run = move || {
        epoch::begin();
        script();
    };
    let mut config = shuttle::Config::new();
    config.silence_warnings = true;
    let half = schedules.div_ceil(2);
    let few = shuttle::scheduler::PctScheduler::new_from_seed(seed, DEPTH, half);
    shuttle::Runner::new(few, config.clone()).run(run);
    shuttle::Runner::new(shuttle::scheduler::RandomScheduler::new_from_seed(seed, half), config).run(run);
}

/// Runs many schedules, half of them of the long script.
fn show(scripts: &[crate::Script], mixed: fn()) {
    let (seed, schedules) = (number("TOKENSCOPE_SEED", 1), number("TOKENSCOPE_SCHEDULES", 100_000) as usize);
    let begun = Instant::now();
    let short = schedules / 2 / scripts.len();
    for (_, script) in scripts {
        try_some(*script, seed, short);
    }
    try_some(mixed, seed, schedules / 2);
    println!("seed {seed}: {} of the long script, {short} of each short one: {:?}", schedules / 2, begun.elapsed());
}

/// Fails unless some script fails over each mutant. Some need one schedule of many thousands, so whoever is not found under
/// one seed is looked for under the next; one mutant was found or not by the luck of the seed alone before.
fn find_each(mutants: &[Mutant]) {
    const SEEDS: u64 = 20;
    let seed = number("TOKENSCOPE_SEED", 1);
    let mut missed = Vec::new();
    for (name, scripts, mixed) in mutants {
        let begun = Instant::now();
        let all: Vec<_> = scripts.iter().copied().chain([("the long script", *mixed)]).collect();
        let tries = (seed..seed + SEEDS).flat_map(|seed| all.iter().map(move |(script, run)| (seed, *script, *run)));
        let found =
            { tries }.find(|(seed, _, run)| catch_unwind(AssertUnwindSafe(|| try_some(*run, *seed, 4_000))).is_err());
        match found {
            Some((seed, script, _)) => println!("{name}: found in \"{script}\", seed {seed}, {:?}", begun.elapsed()),
            None => missed.push(*name),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

#[test]
fn random_schedules_show_readers_what_is_there() {
    show(real::SCRIPTS, real::mixed);
}

#[test]
fn random_schedules_find_each_mutant() {
    find_each(&MUTANTS);
}
