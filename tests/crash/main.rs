//! Power cuts in simulation: the real journal, snapshots, recovery and writer on a disk that forgets.
//!
//! `disk.rs` is a file system in memory that writes down every call. `platter.rs` says what of these calls a power cut
//! would leave: all that was synced, and of the rest whatever chance picks, page by page or torn by sector, lengths and
//! names for themselves. After each cut the store is opened by the real recovery ladder, and everything is compared:
//! nothing acknowledged is lost, no revoked token lives, nothing is there that was not asked for, and it does not refuse
//! to open. Every third time it is then used, cut once more (perhaps while it opens), and opened twice again.
//!
//! Short form: `cargo test --test crash`. Longer (with optimisation two processors make some thousand cuts a second), and
//! repeating a failure by the seed it printed:
//!
//! ```text
//! TOKENSCOPE_CUTS=100000  cargo test --release --test crash random -- --nocapture     that many cuts of random scripts
//! TOKENSCOPE_CHOICES=30   cargo test --release --test crash every -- --nocapture      choices at every call of the scripts
//! TOKENSCOPE_SEED=17      the first seed; each script has one of its own, and 64 places to cut
//! ```
//!
//! What it does not do: a disk that lies about a sync, damages what was synced, or loses directory entries after their
//! sync; those are outside what a power cut may do. Failing calls are the journal's and the disk's own tests.

mod cuts;
mod dice;
mod disk;
mod image;
mod ledger;
mod platter;
mod script;
mod session;

use std::time::Instant;

use cuts::{Met, Run, Wrong, in_parallel};
use dice::Dice;
use disk::Flaw;
use platter::Choice;
use session::Misdeed;

/// Places where each random script is cut.
const CUTS_A_SCRIPT: usize = 64;

fn number(variable: &str, usual: u64) -> u64 {
    let Ok(text) = std::env::var(variable) else { return usual };
    text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number"))
}

/// Every third cut is followed by a second one.
fn again(dice: &mut Dice) -> Option<u64> {
    let seed = dice.next();
    (dice.below(3) == 0).then_some(seed)
}

/// Cuts one script at every call: once by chance, or if `choices` is more, with nothing kept, everything kept, and so
/// many by chance.
fn at_every_call(run: &Run, seed: u64, choices: u64) -> Result<Met, String> {
    let boundaries = run.boundaries();
    in_parallel(boundaries.len(), |number| {
        let boundary = &boundaries[number];
        let mut dice = Dice::new(seed.wrapping_add(number as u64));
        let mut list = vec![Choice::Nothing, Choice::Everything];
        if boundary.is_settled() {
            list.truncate(1);
        } else if choices == 1 {
            list = vec![Choice::any(&mut dice)];
        } else {
            list.extend((0..choices).map(|_| Choice::any(&mut dice)));
        }
        let mut met = Met::default();
        for choice in list {
            met += boundary.cut(choice, again(&mut dice))?;
        }
        Ok(met)
    })
}

/// Cuts the script of a seed in some places.
fn random_cuts(seed: u64) -> Result<Met, String> {
    let run = Run::play(&script::from_seed(seed), Wrong::NOTHING)?;
    let mut dice = Dice::new(!seed);
    let boundaries = run.boundaries();
    let mut met = Met::default();
    for _ in 0..CUTS_A_SCRIPT {
        let boundary = dice.one_of(&boundaries);
        let choice = Choice::any(&mut dice);
        met += boundary.cut(choice, again(&mut dice))?;
    }
    Ok(met)
}

#[test]
fn every_call_of_the_scripts_may_be_the_last() {
    let (seed, choices) = (number("TOKENSCOPE_SEED", 1), number("TOKENSCOPE_CHOICES", 1));
    for (name, steps) in script::by_hand() {
        let begun = Instant::now();
        let run = Run::play(&steps, Wrong::NOTHING).unwrap_or_else(|error| panic!("{name}: {error}"));
        match at_every_call(&run, seed, choices) {
            Ok(met) => println!("{name}: {} places, {met:?}, {:?}", run.boundaries().len(), begun.elapsed()),
            Err(what) => panic!("{name}: {what}\n  repeat: TOKENSCOPE_SEED={seed} TOKENSCOPE_CHOICES={choices}"),
        }
    }
}

#[test]
fn random_scripts_cut_anywhere_lose_nothing_and_revive_nothing() {
    let (seed, cuts) = (number("TOKENSCOPE_SEED", 1), number("TOKENSCOPE_CUTS", 300));
    // A third of the cuts is followed by another.
    let scripts = (cuts as usize * 3 / 4).div_ceil(CUTS_A_SCRIPT);
    let begun = Instant::now();
    let met = in_parallel(scripts, |number| {
        let seed = seed + number as u64;
        let again = format!("repeat: TOKENSCOPE_SEED={seed} TOKENSCOPE_CUTS=1 cargo test --test crash random");
        random_cuts(seed).map_err(|what| format!("{what}\n  {again}"))
    });
    let met = met.unwrap_or_else(|what| panic!("{what}"));
    let (last, took) = (seed + scripts as u64 - 1, begun.elapsed());
    println!("seeds {seed} to {last}: {met:?} in {took:?}, {:.0} a second", met.cuts as f64 / took.as_secs_f64());
    let hard = [met.from_snapshot, met.shortened, met.doubt_kept, met.doubt_lost, met.while_opening];
    assert!(cuts < 300 || hard.iter().all(|count| *count > 0), "the scripts leave hard cases out: {met:?}");
}

#[test]
fn the_rig_catches_whatever_is_done_wrong() {
    let flaw = |disk| Wrong { disk, above: Misdeed::None };
    let misdeed = |above| Wrong { disk: Flaw::None, above };
    // What is wrong, and what the rig says then.
    let table: [(Wrong, &[&str]); 9] = [
        (flaw(Flaw::JournalSyncIgnored), &["LOST", "REFUSED"]),
        (flaw(Flaw::JournalSyncSometimesIgnored), &["LOST", "REFUSED"]),
        (flaw(Flaw::FileSyncIgnored), &["not believed", "REFUSED"]),
        (flaw(Flaw::SecretsSyncIgnored), &["the secrets file /data/secrets is damaged"]),
        (flaw(Flaw::DirectorySyncIgnored), &["LOST", "REFUSED"]),
        (misdeed(Misdeed::AcknowledgesFirst), &["LOST"]),
        (misdeed(Misdeed::ForgetsTooEarly), &["REFUSED"]),
        (misdeed(Misdeed::SkipsRevocations), &["RESURRECTED", "WRONG: the index"]),
        (misdeed(Misdeed::DropsAnEntry), &["WRONG"]),
    ];
    for (wrong, words) in table {
        let is_caught = |what: &String| words.iter().any(|word| what.contains(word));
        let said = script::by_hand().into_iter().find_map(|(name, steps)| {
            let caught = Run::play(&steps, wrong).and_then(|run| at_every_call(&run, 1, 1));
            caught.err().map(|what| format!("{name}: {what}"))
        });
        assert!(said.as_ref().is_some_and(is_caught), "{wrong:?} must be caught as one of {words:?}: {said:?}");
        println!("{wrong:?}: {}", said.as_deref().and_then(|what| what.lines().next()).unwrap_or_default());
    }
}
