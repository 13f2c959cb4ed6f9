//! What a fuzzer feeds with bytes: one function for each parser of bytes from outside.
//!
//! The bodies stand here, so that the fuzz targets (`fuzz/`) and the replay of their corpora (`tests/corpus.rs`) run the
//! same code, over the parsers as they are. Each asks for more than "does not panic": what was read and is written again
//! is the same bytes (a value has one spelling), nothing altered is accepted, nobody learns more than he may. A body
//! that finds something panics, with what it found.

// Bytes of files: the journal's entries, snapshots, what is in them, imports, the configuration.
mod files;
// The rig behind the doors: a service with one live token in it.
mod rig;
// What comes over the network: messages, forms, credentials, JSON, names.
mod network;

/// A target: its name, which is also its folder's, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target, by name.
pub const TARGETS: [Target; 13] = [
    ("api_json", network::api_json),
    ("config_toml", files::config_toml),
    ("credentials", network::credentials),
    ("import_lines", files::import_lines),
    ("index_sections", files::index_sections),
    ("introspect_form", network::introspect_form),
    ("journal_entry", files::journal_entry),
    ("names", network::names),
    ("snapshot_resealed", files::snapshot_resealed),
    ("snapshot_sealed", files::snapshot_sealed),
    ("token", network::token),
    ("wire_answer", network::wire_answer),
    ("wire_request", network::wire_request),
];

/// Runs the target with this name over some bytes.
///
/// # Panics
/// There is no such target; or it has found something.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    let (_, body) = target.unwrap_or_else(|| panic!("there is no fuzz target {name:?}; TARGETS lists them"));
    body(data);
}
