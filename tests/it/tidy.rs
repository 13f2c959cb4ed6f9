//! The rules of the house that no compiler keeps: who may use whom, where `unsafe` and each crate may stand, how long a
//! file may get, and that pages, tables and commands say what is so.
//!
//! Every test reads the sources as text, collects all that is wrong, and fails once with the whole list. Every table of
//! exceptions here is exact in both directions: an exception that nobody needs any more is a failure too, so that the
//! tables can only shrink. What it does not see: paths that a macro makes, and code behind `#[path]`, which nobody uses.

mod files;
mod furniture;
mod rooms;
pub mod source;

/// Fails with everything that is wrong, one line each.
fn assert_none(wrong: Vec<String>, rule: &str) {
    assert!(wrong.is_empty(), "{rule}\n  {}", wrong.join("\n  "));
}
