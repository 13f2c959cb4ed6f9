//! What a fuzzer feeds with bytes: one function for each parser of bytes from outside, and scripts for the index.
//!
//! The bodies stand here, so that the fuzz targets (`fuzz/`) and the replay of their corpora (`tests/corpus.rs`) run the
//! same code, over the parsers as they are. Each asks for more than "does not panic": what was read and is written again
//! is the same bytes (a value has one spelling), nothing altered is accepted, nobody learns more than he may. A body
//! that finds something panics, with what it found.

// Bytes of files: the journal's entries, snapshots, what is in them, imports, the configuration.
mod files;
// The index and a plain model beside it, under scripts.
mod index_model;
// That model.
mod plain;
// The rig behind the doors: a service with one live token in it.
mod rig;
// Bytes as changes, for the index.
mod script;
// What comes over the network: messages, forms, credentials, JSON, names.
mod network;

pub use files::{config_toml, import_lines, index_sections, journal_entry, snapshot_resealed, snapshot_sealed};
pub use index_model::index_model;
pub use network::{api_json, credentials, introspect_form, names, token, wire_answer, wire_feed, wire_request};

/// A target: its name, which is also its folder's, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target, by name. A fuzz target calls its body by name instead, so that it is built with that parser alone: what
/// a program has been through is counted after each run, and most of the time would go into counting the others.
pub const TARGETS: [Target; 15] = [
    ("api_json", api_json),
    ("config_toml", config_toml),
    ("credentials", credentials),
    ("import_lines", import_lines),
    ("index_model", index_model),
    ("index_sections", index_sections),
    ("introspect_form", introspect_form),
    ("journal_entry", journal_entry),
    ("names", names),
    ("snapshot_resealed", snapshot_resealed),
    ("snapshot_sealed", snapshot_sealed),
    ("token", token),
    ("wire_answer", wire_answer),
    ("wire_feed", wire_feed),
    ("wire_request", wire_request),
];
