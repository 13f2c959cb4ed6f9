use std::collections::HashMap;

use super::draw::{CENSUS, TOKENS_PER_USER_MEAN, tokens_of_user};
use super::world::World;
use super::*;
use crate::domain::mint::Plausibility;
use crate::domain::{Access, Expiry, Pair, Reach, ScopeCatalogue, TokenDigest};
use crate::import::line::TokenName;

const NOW: Timestamp = Timestamp::from_raw(1_790_000_000);

/// Whether `got` is within `percent` of `wanted`.
fn near(what: &str, got: f64, wanted: f64, percent: f64) {
    let off = (got - wanted).abs() / wanted * 100.0;
    assert!(off <= percent, "{what}: {got} is {off:.2} % away from {wanted}, at most {percent} % are allowed");
}

#[test]
fn at_census_scale_the_mean_and_the_seven_counts_are_those_of_the_census() {
    let users = 943_268u64;
    let all: Vec<u32> = (0..users).map(|rank| tokens_of_user((rank as f64 + 0.5) / users as f64)).collect();
    let total: u64 = all.iter().map(|tokens| u64::from(*tokens)).sum();
    near("mean", total as f64 / users as f64, TOKENS_PER_USER_MEAN, 1.0);
    for (tokens, wanted) in &CENSUS[..7] {
        let got = all.iter().filter(|count| f64::from(**count) >= *tokens).count();
        near(&format!("users with {tokens} or more"), got as f64, *wanted, 2.0);
    }
    assert_eq!(all.iter().max(), Some(&53_877));
    assert_eq!(all.iter().min(), Some(&1));
    let few: Vec<u32> = all.iter().copied().filter(|tokens| *tokens < 20).collect();
    near("mean below 20", few.iter().map(|t| f64::from(*t)).sum::<f64>() / few.len() as f64, 3.3, 2.0);
}

#[test]
fn tokens_never_grow_with_the_rank() {
    let all: Vec<u32> = (1..=10_000).map(|step| tokens_of_user(f64::from(step) / 10_000.0)).collect();
    assert!(all.windows(2).all(|pair| pair[0] >= pair[1]));
}

#[test]
fn a_world_has_exactly_as_many_tokens_as_asked_for_and_the_shares_that_were_promised() {
    let tokens = 60_000;
    let mut grants = HashMap::new();
    let mut seen = 0u64;
    let mut clients: HashMap<String, u64> = HashMap::new();
    let (mut hour, mut never, mut one_place, mut everything, mut scopes_named) = (0u64, 0u64, 0u64, 0u64, 0u64);
    let (mut members, mut guests, mut bound) = (0u64, 0u64, 0u64);
    for line in World::new(7, tokens, NOW) {
        match line {
            Line::Member(_, place) => {
                members += 1;
                guests += u64::from(place.is_project());
            }
            Line::Grant(grant) => {
                one_place += u64::from(grant.access.len() == 1 && matches!(grant.access[0].0, Reach::At(_)));
                let all = grant.access.iter().any(|(_, scopes)| scopes.iter().any(|scope| &**scope == "*"));
                everything += u64::from(all);
                scopes_named += u64::from(!all && (1..=6).contains(&grant.access[0].1.len()));
                assert!(grants.insert(grant.label, grant.client).is_none());
            }
            Line::Token(token) => {
                seen += 1;
                *clients.entry(grants[&token.grant].as_str().to_owned()).or_default() += 1;
                bound += u64::from(token.confirmation.is_some());
                match token.times.expiry {
                    Expiry::At(end) => hour += u64::from(end.raw() - token.times.issued.raw() == 3_600),
                    Expiry::Never => never += 1,
                }
                assert!(token.times.issued <= NOW);
            }
            _ => {}
        }
    }
    assert_eq!(seen, tokens);
    let share = |count: u64, of: u64| count as f64 / of as f64;
    near("first app", share(clients["app-00"], tokens), 0.60, 2.0);
    near("second app", share(clients["app-01"], tokens), 0.20, 4.0);
    near("personal", share(clients["personal"], tokens), 0.10, 6.0);
    near("one hour", share(hour, tokens), 0.70, 2.0);
    near("never", share(never, tokens), 0.02, 12.0);
    near("bound", share(bound, tokens), 0.05, 8.0);
    let grants = grants.len() as u64;
    near("one place", share(one_place, grants), 0.90, 1.0);
    near("everything", share(everything, grants), 0.10, 6.0);
    assert_eq!(scopes_named + everything, grants);
    near("guests", share(guests, members), 0.05, 15.0);
}

#[test]
fn the_same_seed_gives_the_same_world_and_another_seed_another() {
    let world = |seed| World::new(seed, 500, NOW).collect::<Vec<Line>>();
    assert_eq!(world(1), world(1));
    assert_ne!(world(1), world(2));
}

#[test]
fn a_worlds_first_token_of_every_user_can_be_named_again() {
    let digests: Vec<TokenDigest> = World::new(3, 200, NOW)
        .filter_map(|line| match line {
            Line::Token(token) => match token.name {
                TokenName::Digest(digest) => Some(digest),
                TokenName::Handle(_) => None,
            },
            _ => None,
        })
        .collect();
    assert!(digests.contains(&TokenDigest::of(token_string(3, 0, 0).as_bytes())));
    let prefix = TokenPrefix::parse(PREFIX).unwrap();
    assert_eq!(prefix.judge(token_string(3, 0, 0).as_bytes()), Plausibility::Possible);
}

#[test]
fn the_catalogue_is_the_47_names_and_two_aliases() {
    assert_eq!(asana_scopes().count(), 47);
    let mut names: Vec<&str> = asana_scopes().collect();
    names.sort_unstable();
    assert_eq!(names, asana_scopes().collect::<Vec<_>>());
    assert_eq!(catalogue().count(), 49);
}

/// The story's expectations that no membership or policy touches follow from what was granted alone.
#[test]
fn the_storys_checks_agree_with_its_grants() {
    let mut scopes = ScopeCatalogue::new();
    for line in catalogue() {
        match line {
            Line::Scope(name, _) => drop(scopes.add(&name).unwrap()),
            Line::Alias(alias, of) => scopes.alias(&alias, &of).unwrap(),
            _ => {}
        }
    }
    let lines: Vec<Line> = story::lines(1, NOW).collect();
    let samples = story::samples(1);
    let grants = lines.iter().filter_map(|line| match line {
        Line::Grant(grant) => Some(grant),
        _ => None,
    });
    let mut looked_at = 0;
    for (grant, sample) in grants.zip(&samples) {
        assert_eq!(grant.label.as_str(), sample.name);
        let pair = |(reach, names): &(Reach, Vec<Box<str>>)| Pair {
            reach: reach.clone(),
            scopes: scopes.mask(names.iter().map(|name| &**name)).unwrap(),
        };
        let access = Access::new(grant.access.iter().map(pair)).unwrap();
        for check in &sample.checks {
            let granted = access.scopes_at(&crate::domain::Place::parse(check.place).unwrap());
            let allows = scopes.position(check.scope).is_some_and(|position| granted.allows(position));
            let membership = check.expect == Err(crate::domain::Denial::NotAMember);
            assert_eq!(allows, check.expect.is_ok() || membership, "{} {check:?}", sample.name);
            looked_at += 1;
        }
    }
    assert!(looked_at > 20);
}
