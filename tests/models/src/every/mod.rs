//! Every schedule up to a bound, by loom.

#[path = "../near/arc_swap.rs"]
pub mod arc_swap;
#[path = "../epoch.rs"]
pub mod epoch;
mod near;
pub mod sync;
#[path = "../blocks.rs"]
pub mod blocks;
#[path = "../zeroed.rs"]
pub mod zeroed;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

include!(concat!(env!("OUT_DIR"), "/list_every.rs"));

/// The mutants, with the scripts over each.
const MUTANTS: &[(&str, &[crate::Script])] = include!(concat!(env!("OUT_DIR"), "/mutants.rs"));

/// Tries every schedule; says how many there were. Fails as the script does.
fn try_all(script: fn()) -> u64 {
    sync::learn(script);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(2));
    builder.max_branches = 10_000;
    let tried = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&tried);
    builder.check(move || {
        count.fetch_add(1, Relaxed);
        epoch::begin();
        sync::begin();
        script();
    });
    tried.load(Relaxed)
}

/// Tries every schedule of each script, and says how many there were: more than `least`, or nothing happens beside the reader.
fn show(scripts: &[crate::Script], least: u64) {
    for (name, script) in scripts {
        let begun = std::time::Instant::now();
        let tried = try_all(*script);
        println!("{name}: {tried} executions, {:?}", begun.elapsed());
        assert!(tried > least, "{name}: nothing happens beside the reader");
    }
}

/// Fails unless some script fails over each mutant.
fn find_each(mutants: &[(&str, &[crate::Script])]) {
    let mut missed = Vec::new();
    for (name, scripts) in mutants {
        let found = scripts.iter().find(|(_, script)| catch_unwind(AssertUnwindSafe(|| try_all(*script))).is_err());
        match found {
            Some((script, _)) => println!("{name}: found in \"{script}\""),
            None => missed.push(*name),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

#[test]
fn every_schedule_shows_readers_what_is_there() {
    show(real::SCRIPTS, 10);
}

#[test]
fn every_schedule_finds_each_mutant() {
    find_each(MUTANTS);
}
