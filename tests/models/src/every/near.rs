//! The near-cache under every schedule up to a bound.

use super::{find_each, show};

include!(concat!(env!("OUT_DIR"), "/near_list_every.rs"));

/// The mutants, with the scripts over each.
const MUTANTS: &[(&str, &[crate::Script])] = include!(concat!(env!("OUT_DIR"), "/near_mutants.rs"));

#[test]
fn every_schedule_of_the_near_cache_lets_nobody_in_after_a_fence() {
    show(real::SCRIPTS, 1);
}

#[test]
fn every_schedule_finds_each_mutant_of_the_near_cache() {
    find_each(MUTANTS);
}
