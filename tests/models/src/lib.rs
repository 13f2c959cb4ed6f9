//! Models of the token table and of the near-cache: readers and writers under every schedule up to a bound (loom), and under
//! very many random ones (shuttle).
//!
//! ```text
//! cargo test --release --manifest-path tests/models/Cargo.toml                    all of it, about a minute and a half
//! TOKENSCOPE_SCHEDULES=1000000 cargo test ... random_schedules_show -- --nocapture    more random schedules (100,000)
//! LOOM_MAX_PREEMPTIONS=3       cargo test ... every_schedule_shows -- --nocapture     more preemptions a schedule (2)
//! ```
//!
//! What runs is the real code. Of the table `src/index/tokens.rs`, all of it: `build.rs` takes its text and exchanges the
//! atomics, the epochs (`epoch.rs`) and the sizes. Of the near-cache what is held and when it counts (`belief`, `stamps`,
//! `table`, `scopes`, `memory`, with `lease` and `clock`; see `build/near.rs`), beside answers that arrive late and a feed that
//! ends them: nobody may be let in who was told before that it is over. The same scripts then run over mutants, each the real text with one thing made
//! wrong, and every one of them has to be found: that is what shows that the scripts look at the right things.
//!
//! **loom** runs a script again and again until it has tried every schedule with up to two preemptions, and for each load every
//! value that C11's memory model lets it see. It treats sequential consistency as acquire and release, and does not try
//! loads before stores of another place (load buffering). **shuttle** runs longer scripts on random schedules; its atomics are
//! sequentially consistent, so it finds wrong orders of steps, not wrong orderings of memory.
//!
//! What is not modelled: crossbeam-epoch itself. Its promise is taken as the weakest one it makes (what was retired goes
//! once nobody is pinned who was pinned then), and a use after that fails. Nor arc-swap, which the near-cache holds its entries
//! by: a load acquires, a store releases (`near/arc_swap.rs`). Nor the follower's task, which writes what it hears in the
//! order that the scripts keep; that one has a simulation in virtual time (`src/client/near/tests`), and real processes
//! (`tests/fleet`).
#![cfg(test)]
#![allow(clippy::duplicate_mod, reason = "the same text over loom's and over shuttle's atomics")]

// The real files of the domain that the table needs.
#[path = "../../../src/domain/time.rs"]
#[allow(dead_code, reason = "only a part is used here")]
pub mod time;

/// What the table knows of the domain.
pub mod domain {
    pub use crate::time::{self, Expiry, Timestamp};

    /// As in the domain: see there.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
    pub struct TokenTimes {
        pub issued: Timestamp,
        pub not_before: Timestamp,
        pub expiry: Expiry,
    }

    /// A key as its four words.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct TokenKey(pub [u32; 4]);

    impl TokenKey {
        pub fn words(&self) -> [u32; 4] {
            self.0
        }

        pub fn from_words(words: [u32; 4]) -> Self {
            Self(words)
        }
    }
}

/// A script by its name.
type Script = (&'static str, fn());

/// One text of the token table as a module, over the atomics beside it, with the scripts over it and, if it is named, one more
/// file of `src`.
macro_rules! protocol {
    ($name:ident, $file:literal $(, $more:literal)?) => {
        #[allow(dead_code, unused, clippy::all, reason = "the house's own lints look at the original")]
        mod $name {
            include!(concat!(env!("OUT_DIR"), "/", $file));
            include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/scripts.rs"));
            $(include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/", $more));)?
        }
    };
}

/// The same of the near-cache.
macro_rules! near {
    ($name:ident, $file:literal $(, $more:literal)?) => {
        #[allow(dead_code, unused, clippy::all, reason = "the house's own lints look at the original")]
        mod $name {
            use super::super::{arc_swap, sync};
            include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/near/around.rs"));
            include!(concat!(env!("OUT_DIR"), "/", $file));
            include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/near/scripts.rs"));
            $(include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/", $more));)?
        }
    };
}

// After the macros they use.
mod every;
mod random;
