//! The shipped program, from outside: the binary as a process of its own, its files, its doors, its exit codes.
//!
//! Nothing here looks into the server. A test that needs a program that is not installed says SKIPPED and passes.
//! Environment variables make more of some: `TOKENSCOPE_KILL_CYCLES`, how often the server is killed (default 5);
//! `TOKENSCOPE_ROTATIONS`, how often certificates and callers are replaced (8); `TOKENSCOPE_DRAINS`, stops under load (3);
//! `TOKENSCOPE_OVERLOAD`, for how many seconds it is flooded (3); `TOKENSCOPE_INJECTIONS`, how many calls of each sort fail in turn (a few); `TOKENSCOPE_NODE_MODULES`, where
//! `openid-client` is, if `tests/clients/install` has not put it into the target directory.

mod canaries;
mod clients;
mod clock;
mod damage;
mod drain;
mod full_disk;
mod gateway;
mod golden;
mod hears;
mod hostile;
mod house;
mod inject;
mod kill;
mod matrix;
mod native;
mod neighbours;
mod overload;
mod restore;
mod rotate;
mod service;
mod siege;
mod signals;
mod verbs;
mod watching;
mod web;
