//! The near-cache's memory as the models compile it: eight files of `src/client/near`, each a module, over other atomics; and
//! the same with one thing made wrong.

use std::path::Path;

use super::{list, replace, without, without_head};

/// The files, from the ground up.
const FILES: [&str; 8] = ["clock", "lease", "stamps", "belief", "scopes", "inline", "table", "memory"];

/// In which file something is exchanged: what, and for what.
type Change = (&'static str, &'static str, &'static str);

/// What is wrong in a mutant: its name, and what is exchanged.
const MUTANTS: [(&str, &[Change]); 17] = [
    ("stamps_never_looked_at", &[("belief", " && !self.stamps.touched_since(tags, sequence)", "")]),
    // What is called "stale set" where others did it: looked at when the answer comes, and never again.
    (
        "stamps_looked_at_only_when_filled",
        &[
            ("belief", " && !self.stamps.touched_since(tags, sequence)", ""),
            ("belief", "    stamps: Stamps,", "    pub(super) stamps: Stamps,"),
            (
                "memory",
                "if !self.belief.is_current(ticket, facts.incarnation) {",
                "let touched = self.belief.stamps.touched_since(&facts.tags, facts.sequence);\n        \
                 if touched || !self.belief.is_current(ticket, facts.incarnation) {",
            ),
        ],
    ),
    // An answer counts as of when it came.
    (
        "facts_as_of_their_arrival",
        &[(
            "memory",
            "            facts: facts.clone(),\n",
            "            facts: Facts { sequence: self.belief.position().max(facts.sequence), ..facts.clone() },\n",
        )],
    ),
    (
        "generation_of_the_arrival",
        &[
            (
                "memory",
                "            generation: ticket.generation,\n",
                "            generation: self.belief.generation(),\n",
            ),
            ("belief", "self.generation() == ticket.generation && ", "let _ = ticket;\n        "),
        ],
    ),
    (
        "another_starts_answers_are_kept",
        &[(
            "belief",
            "self.generation() == ticket.generation && self.incarnation.load(Ordering::Acquire) == incarnation",
            "let _ = incarnation;\n        self.generation() == ticket.generation",
        )],
    ),
    (
        "generation_not_looked_at_again",
        &[(
            "belief",
            "self.generation.load(Ordering::Acquire) == licence.generation",
            "let _ = licence;\n        true",
        )],
    ),
    (
        "generation_looked_at_again_too_early",
        &[(
            "belief",
            "licence.counts(generation) && !self.stamps.touched_since(tags, sequence) && self.unchanged(licence)",
            "licence.counts(generation) && self.unchanged(licence) && !self.stamps.touched_since(tags, sequence)",
        )],
    ),
    (
        "forgotten_after_the_stamps_were_reset",
        &[
            (
                "belief",
                "        self.forget();\n        // What was answered before",
                "        // What was answered before",
            ),
            (
                "belief",
                "        self.stamps.reset(sequence);\n",
                "        self.stamps.reset(sequence);\n        self.forget();\n",
            ),
        ],
    ),
    (
        "stamps_reset_relaxed",
        &[("stamps", "slot.store(sequence, Ordering::Release));", "slot.store(sequence, Ordering::Relaxed));")],
    ),
    (
        "stamps_loaded_relaxed",
        &[("stamps", "slot.load(Ordering::Acquire) > sequence", "slot.load(Ordering::Relaxed) > sequence")],
    ),
    // What keeps the order is here twice: the lease is a releasing store, and stands behind a fence.
    (
        "lease_neither_released_nor_fenced",
        &[
            (
                "belief",
                "self.until.store(lease.until.0, Ordering::Release);",
                "self.until.store(lease.until.0, Ordering::Relaxed);",
            ),
            ("belief", "        fence(Ordering::SeqCst);\n", ""),
        ],
    ),
    (
        "lease_loaded_relaxed",
        &[(
            "belief",
            "(now.0 < self.until.load(Ordering::Acquire)).then",
            "(now.0 < self.until.load(Ordering::Relaxed)).then",
        )],
    ),
    ("lease_of_the_start_before_goes_on", &[("belief", "        self.until.store(0, Ordering::Release);\n", "")]),
    ("digest_not_compared", &[("table", "entry.digest == *digest && entry.place == *place", "entry.place == *place")]),
    ("scope_read_without_a_second_look", &[("scopes", " && self.version.load(Ordering::Relaxed) == before", "")]),
    ("scope_written_without_its_fence", &[("scopes", "        fence(Ordering::Release);\n", "")]),
    (
        "scope_read_relaxed",
        &[(
            "scopes",
            "let generation = self.generation.load(Ordering::Acquire);",
            "let generation = self.generation.load(Ordering::Relaxed);",
        )],
    ),
];

/// What is other for every model.
fn adapt(file: &str, text: &str) -> String {
    let at = format!("src/client/near/{file}.rs");
    let mut text = without_head(text);
    let changes: &[(&str, &str)] = match file {
        "clock" => {
            // No clock: each moment is an argument.
            text = without(&at, &text, "use rustix", ";\n");
            text = without(&at, &text, "/// Linux has a clock of its own", "ClockId::Monotonic;\n");
            text = without(&at, &text, "    /// This moment. A read of the clock", "    }\n\n");
            &[]
        }
        "lease" => &[],
        "inline" => &[("pub(in crate::client) enum Pairs", "pub(super) enum Pairs")],
        "stamps" | "belief" => &[("use std::sync::atomic::", "use super::sync::")],
        "scopes" => &[
            ("use std::sync::atomic::", "use super::sync::"),
            (
                "use std::sync::{Mutex, OnceLock, PoisonError};",
                "use super::sync::Mutex;\nuse std::sync::{OnceLock, PoisonError};",
            ),
            // A model that makes thousands of slots does nothing else.
            ("const NAMES_MAX: usize = 1_024;", "const NAMES_MAX: usize = 2;"),
        ],
        "table" => {
            text = without(&at, &text, "impl From<&facts::Facts<'_>> for Facts", "\n}\n");
            &[
                ("use std::sync::atomic::", "use super::sync::"),
                (
                    "use std::sync::{Arc, Mutex, PoisonError};",
                    "use super::sync::Mutex;\nuse std::sync::{Arc, PoisonError};",
                ),
                ("use arc_swap::", "use super::arc_swap::"),
                ("use crate::wire::facts::{self, TAGS};", "const TAGS: usize = 5;"),
                ("pub(in crate::client) struct Facts", "pub(super) struct Facts"),
            ]
        }
        "memory" => &[
            ("use std::sync::atomic::", "use super::sync::"),
            ("use crate::client::answer::Decision;", "use super::answer::Decision;"),
        ],
        other => panic!("nobody has said how {other}.rs is adapted"),
    };
    for (old, new) in changes {
        text = replace(&at, &text, old, new);
    }
    text.replace("crate::domain", "tokenscope::domain")
}

/// All files as modules of one text, with these changes.
fn text(sources: &[(&str, String)], changes: &[Change]) -> String {
    let mut all = String::new();
    for (file, source) in sources {
        let here = changes.iter().filter(|(changed, ..)| changed == file);
        let changed = here.fold(source.clone(), |text, (file, old, new)| {
            replace(&format!("src/client/near/{file}.rs"), &text, old, new)
        });
        all += &format!("pub mod {file} {{\n{}}}\n", adapt(file, &changed));
    }
    all
}

/// Writes the text and its mutants for the models to include.
pub fn write(out: &Path) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src/client/near");
    println!("cargo::rerun-if-changed=build/near.rs");
    let read = |file: &&'static str| {
        let path = folder.join(format!("{file}.rs"));
        println!("cargo::rerun-if-changed={}", path.display());
        (*file, std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    };
    let sources: Vec<_> = FILES.iter().map(read).collect();
    let write = |name: &str, text: String| std::fs::write(out.join(name), text).expect("written");
    write("near_real.rs", text(&sources, &[]));
    let mut names = vec!["real"];
    let mut table = String::from("&[\n");
    for (name, changes) in MUTANTS {
        for (file, ..) in changes {
            assert!(FILES.contains(file), "{name} changes {file}.rs, which is not modelled");
        }
        write(&format!("near_{name}.rs"), text(&sources, changes));
        names.push(name);
        table += &format!("    (\"{name}\", {name}::SCRIPTS),\n");
    }
    write("near_list_every.rs", list("near", "near_", &names, ""));
    write("near_list_random.rs", list("near", "near_", &names, ", \"near/mixed.rs\""));
    write("near_mutants.rs", table + "]");
}
