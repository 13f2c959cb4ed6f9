//! Takes the token table as it stands in `src/index/tokens.rs`, and the near-cache's memory (`build/near.rs`), and makes of
//! them what the models compile: the same text with other atomics, and the same text with one thing made wrong (a mutant), to show that the models would find it.
//!
//! Nothing is restated by hand. A text that is to be replaced and is not there exactly once stops the build: then the
//! protocol has changed, and whoever changed it looks whether the models still mean the same.

use std::path::Path;

// The same for the near-cache.
#[path = "build/near.rs"]
mod near;

/// What is wrong in a mutant: its name, and texts with what stands in their place.
const MUTANTS: [(&str, &[(&str, &str)]); 17] = [
    (
        "version_raised_only_before_the_insert",
        &[("    bucket.version().store(version.wrapping_add(2), Ordering::Release);\n", "")],
    ),
    (
        "version_raised_only_after_the_insert",
        &[("    bucket.version().store(version.wrapping_add(1), Ordering::Release);\n", "")],
    ),
    // This is how it was: a reader could see the raised version before the emptied slot.
    (
        "version_first_raised_relaxed",
        &[(
            "bucket.version().store(version.wrapping_add(1), Ordering::Release);",
            "bucket.version().store(version.wrapping_add(1), Ordering::Relaxed);",
        )],
    ),
    (
        "removed_before_the_insert_on_a_move",
        &[(
            "fill(segment, home, to, free, &words, facts);\n            clear(segment, from, slot, &words);\n",
            "clear(segment, from, slot, &words);\n            fill(segment, home, to, free, &words, facts);\n",
        )],
    ),
    (
        "spilled_counted_after_the_remove",
        &[(
            "fill(segment, home, to, free, &words, facts);\n            clear(segment, from, slot, &words);\n",
            "fill(segment, to, to, free, &words, facts);\n            clear(segment, from, slot, &words);\n            \
             if home != to {\n                let spilled = segment.buckets()[home].spilled();\n                \
             spilled.store(spilled.load(Ordering::Relaxed) + 1, Ordering::Release);\n            }\n",
        )],
    ),
    (
        "grant_word_stored_relaxed",
        &[("words[4].store(grant, Ordering::Release);", "words[4].store(grant, Ordering::Relaxed);")],
    ),
    (
        "grant_word_loaded_relaxed",
        &[(
            "let grant = words[4].load(Ordering::Acquire);\n        // All four",
            "let grant = words[4].load(Ordering::Relaxed);\n        // All four",
        )],
    ),
    ("slot_emptied_relaxed", &[("[4].store(0, Ordering::Release);", "[4].store(0, Ordering::Relaxed);")]),
    (
        "spilled_lowered_relaxed",
        &[(
            "spilled.store(spilled.load(Ordering::Relaxed) - 1, Ordering::Release);",
            "spilled.store(spilled.load(Ordering::Relaxed) - 1, Ordering::Relaxed);",
        )],
    ),
    ("insert_without_its_fence", &[("    fence(Ordering::Release);\n", "")]),
    (
        "hit_without_looking_at_the_version",
        &[("if bucket.version().load(Ordering::Relaxed) != version {", "if false {")],
    ),
    ("miss_without_looking_at_the_version", &[("if first.version().load(Ordering::Relaxed) == seen {", "if true {")]),
    (
        "miss_looks_at_the_version_without_a_fence",
        &[("            fence(Ordering::Acquire);\n            if first.version()", "            if first.version()")],
    ),
    (
        "segment_published_relaxed",
        &[(
            "self.segments[number].store(new, Ordering::Release);",
            "self.segments[number].store(new, Ordering::Relaxed);",
        )],
    ),
    (
        "segment_retired_before_it_is_replaced",
        &[
            ("        unsafe { guard.defer_destroy(old) };\n", ""),
            (
                "        self.segments[number].store(new, Ordering::Release);\n",
                "        unsafe { guard.defer_destroy(old) };\n        \
                 self.segments[number].store(new, Ordering::Release);\n",
            ),
        ],
    ),
    (
        "slot_still_there_whatever_came",
        &[("is_used && self.bucket.version().load(Ordering::Relaxed) == self.version", "is_used")],
    ),
    // This is how it was: another token could come between the two looks.
    (
        "slot_still_there_looks_at_the_version_first",
        &[
            ("        let is_used = self.bucket.slot(self.slot)[4].load(Ordering::Acquire) != 0;\n", ""),
            (
                "is_used && self.bucket.version().load(Ordering::Relaxed) == self.version",
                "self.bucket.version().load(Ordering::Relaxed) == self.version\n            \
                 && self.bucket.slot(self.slot)[4].load(Ordering::Relaxed) != 0",
            ),
        ],
    ),
];

/// What is other for every model: where atomics, pointers and memory come from, and sizes that a model can exhaust.
fn adapt(text: &str) -> String {
    let mut text = without_head(text);
    for (old, new) in [
        ("use std::sync::atomic::", "use super::sync::"),
        ("use crossbeam_epoch::", "use super::epoch::"),
        // In a model there is always somebody who looks.
        ("// Filling the table while nobody looks.\nmod lay;\n\n", ""),
        // Nothing is fetched ahead in a model.
        ("use super::ahead::fetch;\n", "fn fetch<T>(_: &T) {}\n"),
        ("std::thread::yield_now()", "super::sync::yield_now()"),
        (
            "pub(crate) const SEGMENTS: usize = if cfg!(fuzzing) { 4 } else { 1 << 10 };",
            "pub(crate) const SEGMENTS: usize = 1;",
        ),
    ] {
        text = replace("src/index/tokens.rs", &text, old, new);
    }
    // The size of a cache line is no matter here.
    text = without("src/index/tokens.rs", &text, "const _: () = assert!(size_of::<Bucket>() == 64", "\n");
    // Nothing is fetched ahead in a model.
    text.replace("pub(crate) fn fetch(", "#[cfg(any())]\n    pub(crate) fn fetch(")
}

/// What a file says of itself cannot stand in the middle of another.
fn without_head(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with("//!")).map(|line| format!("{line}\n")).collect()
}

fn replace(file: &str, text: &str, old: &str, new: &str) -> String {
    let count = text.matches(old).count();
    assert_eq!(count, 1, "{file} has {old:?} {count} times: look whether the models still mean the same");
    text.replace(old, new)
}

/// Cuts out from `start` to `end`, both included.
fn without(file: &str, text: &str, start: &str, end: &str) -> String {
    let at = text.find(start).unwrap_or_else(|| panic!("{file} has no {start:?}"));
    let len = text[at..].find(end).unwrap_or_else(|| panic!("nothing ends {start:?}")) + end.len();
    format!("{}{}", &text[..at], &text[at + len..])
}

fn main() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src/index/tokens.rs");
    println!("cargo::rerun-if-changed={}", source.display());
    println!("cargo::rerun-if-changed=build.rs");
    let text = std::fs::read_to_string(&source).expect("src/index/tokens.rs is there");
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").expect("set by cargo"));
    let write = |name: &str, text: String| std::fs::write(out.join(name), text).expect("written");
    write("real.rs", adapt(&text));
    let mut names = vec!["real"];
    let mut table = String::from("&[\n");
    for (name, changes) in MUTANTS {
        let wrong =
            changes.iter().fold(text.clone(), |text, (old, new)| replace("src/index/tokens.rs", &text, old, new));
        write(&format!("{name}.rs"), adapt(&wrong));
        names.push(name);
        table += &format!("    (\"{name}\", {name}::SCRIPTS),\n");
    }
    write("list_every.rs", list("protocol", "", &names, ""));
    write("list_random.rs", list("protocol", "", &names, ", \"random/mixed.rs\""));
    write("mutants.rs", table + "]");
    near::write(&out);
}

/// Each of these texts as a module, by the macro of this name, with more files beside it or none.
fn list(macro_name: &str, prefix: &str, names: &[&str], more: &str) -> String {
    names.iter().map(|name| format!("{macro_name}!({name}, \"{prefix}{name}.rs\"{more});\n")).collect()
}
