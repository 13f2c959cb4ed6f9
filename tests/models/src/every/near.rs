//! The near-cache under every schedule up to a bound.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::try_all;

/// One text of the near-cache as a module, with the scripts over it.
macro_rules! near {
    ($name:ident, $file:literal) => {
        #[allow(dead_code, unused, clippy::all, reason = "the house's own lints look at the original")]
        mod $name {
            use super::super::{arc_swap, sync};
            include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/near/around.rs"));
            include!(concat!(env!("OUT_DIR"), "/", $file));
            include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/near/scripts.rs"));
        }
    };
}

include!(concat!(env!("OUT_DIR"), "/near_list.rs"));

/// The mutants, with the scripts over each.
const MUTANTS: &[(&str, &[crate::Script])] = include!(concat!(env!("OUT_DIR"), "/near_mutants.rs"));

#[test]
fn every_schedule_of_the_near_cache_lets_nobody_in_after_a_fence() {
    for (name, script) in real::SCRIPTS {
        let begun = std::time::Instant::now();
        let tried = try_all(*script);
        println!("{name}: {tried} executions, {:?}", begun.elapsed());
        assert!(tried > 1, "{name}: nothing happens beside the reader");
    }
}

#[test]
fn every_schedule_finds_each_mutant_of_the_near_cache() {
    let mut missed = Vec::new();
    for (name, scripts) in MUTANTS {
        let found = scripts.iter().find(|(_, script)| catch_unwind(AssertUnwindSafe(|| try_all(*script))).is_err());
        match found {
            Some((script, _)) => println!("{name}: found in \"{script}\""),
            None => missed.push(*name),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
