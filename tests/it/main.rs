//! Integration tests, one binary: what the rooms have to do together, said against a model.
//!
//! `model` says what every answer has to be; `properties` puts random lists of changes to it and to what is tested;
//! `lessons` pins bugs that others shipped, `touches` that what is kept in memory ends when it must. What is tested stands behind `face::Room`: `plain` is the rule of the
//! domain over hash maps, `world` is the service. `tidy` reads the sources and keeps the rules of the house.

mod altered;
mod caches;
mod dice;
mod face;
mod golden;
mod hazards;
mod histories;
mod lessons;
mod model;
mod near;
mod plain;
mod properties;
mod protocol;
mod scribe;
mod shrink;
mod standards;
mod steps;
mod tidy;
mod touches;
mod twin;
mod workload;
mod world;
