//! Tags and touches: whoever keeps facts and forgets what is announced says what the service says.
//!
//! Random lists of changes on a real service, over a world so small that everything collides with everything.
//! Once with no memory but the last moment: if the facts about a token at a place differ before and after a change, the
//! change touched one of the tags of the earlier facts. Once as a near-cache lives: facts are kept for as long as nothing
//! touched them, whatever the age, and decide with the rule of the domain what the service decides.

use std::collections::HashMap;

use tokenscope::domain::access::PairFacts;
use tokenscope::domain::{Denial, Sequence, Timestamp, TokenDigest};
use tokenscope::feed::{Follower, News, Tag};
use tokenscope::service::{Decision, FactsThere, Service};
use tokenscope::testing::almighty;

use crate::dice::seeds;
use crate::face::Room;
use crate::workload::{PLACES, SCOPES, STRANGE_PLACES, STRANGE_SCOPES, Step, steps, tokens};
use crate::world::World;

/// What a near-cache keeps about a token at a place.
#[derive(Clone, PartialEq, Debug)]
struct Kept {
    there: FactsThere,
    pairs: Vec<PairFacts>,
}

fn facts(service: &Service, token: &TokenDigest, place: &str, now: Timestamp) -> Option<Kept> {
    let mut pairs = Vec::new();
    let pin = service.pin();
    let told = service.facts(&pin, &almighty(), service.key(token), place, now, &mut pairs).expect("a verdict");
    Some(Kept { there: told.ok()?, pairs })
}

impl Kept {
    /// As a near-cache decides. `None`: its times are over, so it has to ask.
    fn decide(&self, service: &Service, scope: &str, now: Timestamp) -> Option<Decision> {
        let FactsThere { not_before, expiry, place, .. } = &self.there;
        if now < *not_before || expiry.has_passed(now) {
            return None;
        }
        let Some(position) = service.scope_position(&service.pin(), scope) else {
            return Some(Decision::Denied(Denial::ScopeUnknown));
        };
        Some(match place.decide(position, self.pairs.iter().copied()) {
            Ok(()) => Decision::Allowed,
            Err(denial) => Decision::Denied(denial),
        })
    }
}

/// What a follower heard: the tags, or that everything was touched; and where it stands then.
fn hear(follower: &mut Follower) -> (Vec<Tag>, bool) {
    let (mut all, mut tags, mut everything) = (Vec::new(), Vec::new(), false);
    loop {
        match follower.news(3, &mut tags) {
            News::Nothing => return (all, everything),
            News::Touched { everything: all_of_it, .. } => {
                everything |= all_of_it;
                all.append(&mut tags);
            }
            News::StartOver { .. } => panic!("nothing was lost"),
        }
    }
}

fn places() -> impl Iterator<Item = &'static str> {
    PLACES.into_iter().chain(STRANGE_PLACES)
}

#[test]
fn facts_that_a_change_made_differ_were_touched_by_it() {
    let mut differed = 0;
    seeds("facts_that_a_change_made_differ_were_touched_by_it", 12, |dice| {
        let mut world = World::new();
        let mut follower = world.service().feed().follow(None, std::time::Duration::ZERO).expect("room").follower;
        for (request, now) in steps(dice, 150) {
            let about: Vec<_> = tokens().flat_map(|token| places().map(move |place| (token, place))).collect();
            let before: Vec<_> = about.iter().map(|(token, at)| facts(world.service(), token, at, now)).collect();
            let _ = world.change(&request, now);
            let (touched, everything) = hear(&mut follower);
            for ((token, place), before) in about.iter().zip(before) {
                // What is not active is never kept.
                let Some(before) = before else { continue };
                let after = facts(world.service(), token, place, now);
                if after.as_ref() == Some(&before) || everything {
                    continue;
                }
                differed += 1;
                assert!(
                    before.there.tags.iter().any(|tag| touched.contains(tag)),
                    "{request:?} touched {touched:?}, but changed the facts at {place} from\n{before:?} to\n{after:?}"
                );
            }
        }
    });
    assert!(differed > 1_000 || std::env::var_os("TOKENSCOPE_SEED").is_some(), "only {differed} facts ever differed");
}

/// Facts by token and place, with a sequence for each tag: as a near-cache keeps them.
#[derive(Default)]
struct Memory {
    kept: HashMap<(TokenDigest, &'static str), (Sequence, Kept)>,
    touched: HashMap<Tag, Sequence>,
    all_touched: Sequence,
}

impl Memory {
    fn usable(&self, token: TokenDigest, place: &'static str) -> Option<&Kept> {
        let (at, kept) = self.kept.get(&(token, place))?;
        let fresh = |tag: &Tag| self.touched.get(tag).is_none_or(|touched| touched <= at);
        (*at >= self.all_touched && kept.there.tags.iter().all(fresh)).then_some(kept)
    }

    fn hear(&mut self, follower: &mut Follower) {
        let mut tags = Vec::new();
        loop {
            match follower.news(3, &mut tags) {
                News::Nothing => return,
                News::Touched { sequence, everything: true, .. } => self.all_touched = sequence,
                News::Touched { sequence, .. } => self.touched.extend(tags.iter().map(|tag| (*tag, sequence))),
                News::StartOver { .. } => panic!("nothing was lost"),
            }
        }
    }
}

fn live(steps: &[Step], pick: &mut dyn FnMut(usize) -> usize) -> usize {
    let mut world = World::new();
    let mut follower = world.service().feed().follow(None, std::time::Duration::ZERO).expect("room").follower;
    let mut memory = Memory::default();
    let all: Vec<TokenDigest> = tokens().collect();
    let mut hits = 0;
    for (request, now) in steps {
        // Asked before the change, arriving behind its announcement: the stamps have to see that it is too old.
        let late: Vec<_> = (0..6)
            .filter_map(|_| {
                let (token, place) = (all[pick(all.len())], PLACES[pick(PLACES.len())]);
                let at = world.service().revision().sequence;
                facts(world.service(), &token, place, *now).map(|kept| ((token, place), (at, kept)))
            })
            .collect();
        let _ = world.change(request, *now);
        memory.hear(&mut follower);
        for (about, answer) in late {
            let newer = memory.kept.get(&about).is_none_or(|(at, _)| *at < answer.0);
            if newer {
                memory.kept.insert(about, answer);
            }
        }
        for _ in 0..40 {
            let (token, place) = (all[pick(all.len())], PLACES[pick(PLACES.len())]);
            let scopes = SCOPES.into_iter().chain(STRANGE_SCOPES);
            let service = world.service();
            match memory.usable(token, place) {
                Some(kept) => {
                    for scope in scopes {
                        let Some(decided) = kept.decide(service, scope, *now) else { break };
                        let due = world.check(&token, scope, place, *now);
                        assert_eq!(decided, due, "{scope} at {place}, kept as {kept:?}");
                        hits += 1;
                    }
                }
                None => {
                    let at = service.revision().sequence;
                    if let Some(kept) = facts(service, &token, place, *now) {
                        memory.kept.insert((token, place), (at, kept));
                    }
                }
            }
        }
    }
    hits
}

#[test]
fn whoever_keeps_facts_until_they_are_touched_decides_as_the_service_does() {
    let mut hits = 0;
    seeds("whoever_keeps_facts_until_they_are_touched_decides_as_the_service_does", 24, |dice| {
        let steps = steps(dice, 150);
        hits += live(&steps, &mut |end| dice.below(end));
    });
    assert!(hits > 10_000 || std::env::var_os("TOKENSCOPE_SEED").is_some(), "only {hits} decisions came from memory");
}

#[test]
fn facts_are_given_to_whom_a_check_would_be_answered() {
    use tokenscope::service::caller::{AskRight, Caller, Only, Rights};
    use tokenscope::service::{PlaceAsked, Refusal, ScopeAsked};
    let mut differed = 0;
    seeds("facts_are_given_to_whom_a_check_would_be_answered", 6, |dice| {
        let mut world = World::new();
        let list = steps(dice, 150);
        let now = list.last().map_or(Timestamp::ZERO, |(_, now)| *now);
        for (request, at) in &list {
            let _ = world.change(request, *at);
        }
        let only = |names: &[&str]| Only::These(names.iter().map(|name| (*name).to_owned()).collect());
        let narrow = Caller {
            rights: Rights {
                ask: Some(AskRight { audiences: only(&["https://files.example"]), workspaces: only(&["10", "20"]) }),
                ..Rights::default()
            },
            ..almighty()
        };
        let nobody = Caller { rights: Rights::default(), ..almighty() };
        let service = world.service();
        let pin = service.pin();
        for token in tokens() {
            for place in PLACES {
                for caller in [&narrow, &nobody, &almighty()] {
                    let mut pairs = Vec::new();
                    let key = service.key(&token);
                    let told = service.facts(&pin, caller, key, place, now, &mut pairs);
                    let (scope, at) = (ScopeAsked::Name("tasks:read"), PlaceAsked::Name(place));
                    let checked = service.check(&pin, caller, key, scope, at, now);
                    match (&told, &checked) {
                        (Err(refusal), Err(due)) => {
                            assert!(refusal == due && *refusal != Refusal::Behind);
                            differed += 1;
                        }
                        (Ok(Err(reason)), Ok(Decision::Inactive(due))) => assert_eq!(reason, due),
                        (Ok(Ok(_)), Ok(Decision::Allowed | Decision::Denied(_))) => {}
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
    });
    assert!(differed > 0);
}
