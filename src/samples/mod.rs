//! Sample data: a real scope catalogue, a small cast with a story, and any number of tokens by published distributions.
//!
//! For `tokenscope dev`, `tokenscope demo`, load tests and benches. All of it comes out as lines of the import format,
//! so it takes the same way in as anybody's own data. The same seed and moment give the same lines for ever. Sample
//! token strings can be computed by anybody who knows the seed: they are worth nothing, and must never be anything's key.

// Published distributions.
pub mod draw;
// Seeded random numbers.
pub mod random;
// A few people, apps and tokens whose every answer is known.
pub mod story;
#[cfg(test)]
mod tests;
// Any number of users and tokens.
pub mod world;

use crate::domain::mint::TokenPrefix;
use crate::domain::{Switch, Timestamp};
use crate::import::line::Line;
use random::Random;

/// The scope names in use at Asana, one a line, sorted by byte; where they come from stands beside the file.
pub const ASANA_SCOPES: &str = include_str!("asana-scopes.txt");

/// The resource server that sample tokens are for.
pub const AUDIENCE: &str = "https://api.example";

/// What sample tokens begin with.
pub const PREFIX: &str = "tks";

/// The scope names in use at Asana.
pub fn asana_scopes() -> impl Iterator<Item = &'static str> {
    ASANA_SCOPES.lines()
}

/// The catalogue as lines: all scopes, the old name of the typeahead scope (Asana renamed it on 2026-03-09; live tokens
/// may carry the old one), and `default`, Asana's name for everything.
pub fn catalogue() -> impl Iterator<Item = Line> {
    let scopes = asana_scopes().map(|scope| Line::Scope(scope.into(), Switch::On));
    let aliases = [("workspace.typeahead:read", "workspaces.typeahead:read"), ("default", "*")];
    scopes.chain(aliases.into_iter().map(|(alias, of)| Line::Alias(alias.into(), of.into())))
}

/// The string of sample token `number` of `owner` under `seed`.
pub fn token_string(seed: u64, owner: u64, number: u64) -> String {
    let mut random = Random::of(seed ^ 0x746f_6b65_6e73, owner.wrapping_mul(0x1_0000_0001).wrapping_add(number));
    let token = TokenPrefix::parse(PREFIX)
        .map(|prefix| prefix.mint(|| Ok::<u8, std::convert::Infallible>(random.below(62) as u8)));
    match token {
        Some(Ok(token)) => token,
        // PREFIX is three lower-case letters and the numbers never fail.
        _ => String::new(),
    }
}

/// The digest that stands for sample data in import marks: what was generated, not what it looks like.
pub fn source_digest(seed: u64, tokens: u64, now: Timestamp) -> [u8; 32] {
    let name = format!("tokenscope samples v1 seed={seed} tokens={tokens} now={now}");
    *crate::domain::TokenDigest::of(name.as_bytes()).as_bytes()
}

/// The catalogue, the story, and `tokens` tokens around it.
pub fn all(seed: u64, tokens: u64, now: Timestamp) -> impl Iterator<Item = Line> {
    catalogue().chain(story::lines(seed, now)).chain(world::World::new(seed, tokens, now))
}
