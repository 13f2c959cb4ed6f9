//! The distributions samples are drawn from, each with its public source.
//!
//! What is measured is followed; what is a guess is said to be one. Tests keep the moments.

use super::random::Random;

/// Mean number of tokens of a user. Source: production census of civitai/civitai pull request 3754 (2026-08-08):
/// 5.41 million tokens of 943,268 users.
pub const TOKENS_PER_USER_MEAN: f64 = 5.73;

/// Users in that census.
const CENSUS_USERS: f64 = 943_268.0;

/// "At least so many tokens: so many users", same census. The stretch from 250 to 500 is flat (automated accounts,
/// probably); it is in the data and is not smoothed away.
pub const CENSUS: [(f64, f64); 8] = [
    (20.0, 35_912.0),
    (50.0, 6_686.0),
    (100.0, 2_385.0),
    (250.0, 1_063.0),
    (500.0, 909.0),
    (1_000.0, 201.0),
    (2_000.0, 53.0),
    (53_877.0, 1.0),
];

/// Most tokens of a user below the census' first row.
const FEW_MAX: u32 = 19;

/// Ratio of the truncated geometric law for users with 1 to 19 tokens. Only their mean of about 3.3 is derived from the
/// census (its total less the rows above); the shape is a guess. Chosen so that the whole has a mean of 5.73.
const FEW_RATIO: f64 = 0.70;

/// How many tokens the user has whom the share `top` of all users equals or exceeds (0 < `top` ≤ 1): the inverse of the
/// census, straight lines between its rows on log-log axes, a truncated geometric law below 20.
pub fn tokens_of_user(top: f64) -> u32 {
    let share = |users: f64| users / CENSUS_USERS;
    let first = share(CENSUS[0].1);
    if top > first {
        // The rest of the users, from the one with the most tokens (0) to the one with the fewest (1).
        let rest = ((top - first) / (1.0 - first)).clamp(f64::MIN_POSITIVE, 1.0);
        // P(more than k) = (r^k - r^19) / (1 - r^19); the largest k that still has `rest` of the users above it.
        let end = FEW_RATIO.powi(FEW_MAX as i32);
        let few = ((rest * (1.0 - end) + end).ln() / FEW_RATIO.ln()).floor();
        return (few as u32 + 1).clamp(1, FEW_MAX);
    }
    for pair in CENSUS.windows(2) {
        let [(tokens, users), (more, fewer)] = [pair[0], pair[1]];
        if top >= share(fewer) {
            let along = (top.ln() - share(users).ln()) / (share(fewer).ln() - share(users).ln());
            return (tokens.ln() + along * (more.ln() - tokens.ln())).exp().floor().max(tokens) as u32;
        }
    }
    CENSUS[CENSUS.len() - 1].0 as u32
}

/// Shares of clients: one app holds most tokens, as in spring-attic/spring-security-oauth issue 1657 (one client's
/// list of 200 MB). 60, 20 and 10 of 100; the rest share the remaining 10 evenly.
pub fn client_of(random: &mut Random, clients: usize) -> usize {
    let index = random.weighted(&[60.0, 20.0, 10.0, 10.0]);
    if index < 3 || clients <= 3 {
        return index.min(clients.saturating_sub(1));
    }
    3 + random.below(clients as u64 - 3) as usize
}

/// How long a token lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Life {
    /// So many seconds.
    Seconds(u32),
    /// For ever, on purpose.
    Never,
}

/// Lifetimes. Classes seen in the field: 1 h (Asana, Google, Adobe, Apigee), 15 min (Orshot), 12 h (Slack with
/// rotation), up to 365 days (GitLab), never (Slack without rotation). The mix of 70/10/10/8/2 is ours, not measured.
pub fn life(random: &mut Random) -> Life {
    match random.weighted(&[70.0, 10.0, 10.0, 8.0, 2.0]) {
        0 => Life::Seconds(3_600),
        1 => Life::Seconds(900),
        2 => Life::Seconds(12 * 3_600),
        3 => Life::Seconds(86_400 * (60 + random.below(306) as u32)),
        _ => Life::Never,
    }
}

/// Where a grant reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    /// So many workspaces.
    Workspaces(u32),
    /// All memberships, future ones too.
    Everywhere,
}

/// Workspaces of a grant. Asana's forum (topic 401412) and developer pages: most users have one workspace, a new
/// authorization covers one, later ones are added to the same token, and tokens from before keep all. 90 of 100 with
/// one is the middle of the 85 to 95 we assume; the thin tail is a guess.
pub fn width(random: &mut Random) -> Width {
    match random.weighted(&[90.0, 6.0, 2.0, 0.9, 0.1, 1.0]) {
        0 => Width::Workspaces(1),
        1 => Width::Workspaces(2),
        2 => Width::Workspaces(3),
        3 => Width::Workspaces(4 + random.below(5) as u32),
        4 => Width::Workspaces(9 + random.below(12) as u32),
        _ => Width::Everywhere,
    }
}

/// Which scopes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Breadth {
    /// So many single ones.
    Some(u32),
    /// All of them, later ones too.
    All,
}

/// Scopes of a grant: 1 to 6, one grant in ten with all. Ours, not measured; "all" is Asana's legacy `default`.
pub fn breadth(random: &mut Random) -> Breadth {
    if random.below(10) == 0 { Breadth::All } else { Breadth::Some(1 + random.below(6) as u32) }
}
