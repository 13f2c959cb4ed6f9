//! Tests of the ground floor: forms and their spellings, scopes, and the rule.

mod access;
mod forms;
mod mint;
mod scopes;
