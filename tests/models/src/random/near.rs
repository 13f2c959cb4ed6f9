//! The near-cache under very many random schedules: its short scripts, and a long one.

use super::{Mutant, find_each, show};

include!(concat!(env!("OUT_DIR"), "/near_list_random.rs"));

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
    show(real::SCRIPTS, real::mixed);
}

#[test]
fn random_schedules_find_each_mutant_of_the_near_cache() {
    find_each(&MUTANTS);
}
