//! Integration tests, one binary: what the rooms have to do together, said against a model.
//!
//! `model` says what every answer has to be; `properties` puts random lists of changes to it and to what is tested;
//! `lessons` pins bugs that others shipped. What is tested stands behind `face::Room`: `plain` is the rule of the
//! domain over hash maps, `world` is the service. `tidy` reads the sources and keeps the rules of the house.

mod caches;
mod dice;
mod face;
mod hazards;
mod lessons;
mod model;
mod plain;
mod properties;
mod protocol;
mod scribe;
mod shrink;
mod standards;
mod tidy;
mod twin;
mod workload;
mod world;
