#![deny(unsafe_code)]
// What the library alone has to keep; tests, benches and tools may do otherwise. The other lints stand in Cargo.toml.
#![cfg_attr(
    not(test),
    warn(
        // A failure is an error with words, or stands beside the sentence that proves it cannot be.
        clippy::unwrap_used,
        clippy::expect_used,
        // The list of changes makes the tables: nothing may depend on the order of a hash map.
        clippy::iter_over_hash_type,
        // Output belongs to the command line, which is given its writers.
        clippy::print_stdout,
        clippy::print_stderr,
        // `now` is an argument: clippy.toml names the clocks, and the rooms that read one say so in their heads.
        clippy::disallowed_methods,
    )
)]
#![doc = include_str!("ARCHITECTURE.md")]

// The rooms, from the ground up. A room uses what stands above it in this list, never what stands below.

// ---- ground floor: values; in every build ----

pub mod domain;

// ---- what touches the machine ----

#[cfg(feature = "server")]
pub mod clock;

#[cfg(feature = "server")]
pub mod certs;

#[cfg(feature = "server")]
pub mod disk;

#[cfg(feature = "server")]
pub mod secrets;

#[cfg(feature = "server")]
pub mod tally;

// ---- first floor: rooms that do not know each other ----

#[cfg(feature = "server")]
#[expect(unsafe_code, reason = "the token table and the text store need memory that the writer changes under readers")]
pub mod index;

#[cfg(feature = "server")]
pub mod journal;

#[cfg(feature = "server")]
pub mod snapshot;

#[cfg(feature = "client")]
pub mod wire;

#[cfg(feature = "server")]
pub mod feed;

// ---- second floor: where they are kept in agreement ----

#[cfg(feature = "server")]
pub mod store;

// ---- third floor: what we do, in the RFCs' words ----

#[cfg(feature = "server")]
pub mod service;

// ---- fourth floor: the doors, and the other side of the door ----

#[cfg(feature = "client")]
pub mod client;

#[cfg(feature = "server")]
pub mod server;

// ---- what goes in from files, and what is made up for demonstrations ----

#[cfg(feature = "server")]
pub mod import;

#[cfg(feature = "server")]
pub mod samples;

// ---- roof: running the house ----

#[cfg(feature = "server")]
pub mod metrics;

#[cfg(feature = "server")]
pub mod admin;

#[cfg(feature = "server")]
pub mod config;

#[cfg(feature = "server")]
pub mod daemon;

#[cfg(feature = "server")]
pub mod cli;

#[cfg(feature = "server")]
pub mod dev;

#[cfg(feature = "server")]
pub mod demo;

// ---- workshop: for tests ----

#[cfg(all(feature = "server", any(test, feature = "testing")))]
pub mod testing;
