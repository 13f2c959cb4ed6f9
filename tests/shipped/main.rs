//! The shipped program, from outside: the binary as a process of its own, its files, its doors, its exit codes.
//!
//! Nothing here looks into the server. A test that needs a program that is not installed says SKIPPED and passes. One
//! environment variable makes more of it: `TOKENSCOPE_KILL_CYCLES`, how often the server is killed (default 5).

mod canaries;
mod clients;
mod clock;
mod damage;
mod drain;
mod full_disk;
mod gateway;
mod golden;
mod hostile;
mod house;
mod inject;
mod kill;
mod matrix;
mod native;
mod rotate;
mod service;
mod signals;
mod verbs;
mod watching;
mod web;
