//! near
mod belief;
mod clock;
mod counters;
mod follow;
mod lease;
mod memory;
mod scopes;
mod stamps;
mod table;
#[cfg(test)]
mod tests;
