//! What holds for every list of changes: each property is one function over any room, run for each of them.

use std::collections::BTreeSet;

use tokenscope::domain::{Denial, Inactive, Place, PolicyEntry, PolicyMode, Switch, Timestamp, TokenDigest};
use tokenscope::service::Decision;
use tokenscope::service::report::ListOf;
use tokenscope::service::request::{ChangeRequest, RevokeTarget};

use crate::dice::seeds;
use crate::face::{LOST_PLACE, LostPlace, Room, Seen, Told};
use crate::scribe::key;
use crate::twin::{Bucket, Twin, end_of, put_beside_the_model};
use crate::workload::{
    CLIENTS, GRANTS, Made, PLACES, SCOPES, START, SUBJECTS, Step, WORKSPACES, client, grant, places, register, scopes,
    steps, subject, tokens, workspace,
};

/// Everything a room says: exact, to be compared with itself.
fn answers<R: Room>(room: &R, now: Timestamp) -> Vec<(String, Told, Vec<Decision>)> {
    let all = |token: TokenDigest| {
        let checks = PLACES.iter().flat_map(|place| SCOPES.iter().map(move |scope| (*scope, *place)));
        checks.map(|(scope, place)| room.check(&token, scope, place, now)).collect()
    };
    let told = tokens().enumerate();
    told.map(|(n, token)| (format!("token {n}"), room.introspect(&token, None, now), all(token))).collect()
}

/// Fails if `after` allows or calls active anything that `before` did not.
fn assert_not_wider<R: Room>(before: &[(String, Told, Vec<Decision>)], after: &R, now: Timestamp, what: &str) {
    for ((name, told, checks), (_, told_after, checks_after)) in before.iter().zip(answers(after, now)) {
        assert!(told.is_active() || !told_after.is_active(), "{what} made {name} active: {told_after:?}");
        for (number, (check, check_after)) in checks.iter().zip(checks_after).enumerate() {
            let (place, scope) = (PLACES[number / SCOPES.len()], SCOPES[number % SCOPES.len()]);
            assert!(
                *check == Decision::Allowed || check_after != Decision::Allowed,
                "{what} allowed {name} {scope} at {place}, which was {check:?}"
            );
        }
    }
}

fn assert_same<R: Room>(before: &[(String, Told, Vec<Decision>)], after: &R, now: Timestamp, what: &str) {
    for (before, after) in before.iter().zip(answers(after, now)) {
        assert_eq!(*before, after, "{what} changed an answer about {}", before.0);
    }
}

/// A room after these changes, whatever it accepted of them.
fn after<R: Room>(steps: &[Step]) -> R {
    let mut room = R::new();
    for (request, now) in steps {
        let _ = room.change(request, *now);
    }
    room
}

/// (a) After every prefix of the list, random questions; at the end, every question about some tokens, then and later.
fn answers_equal_the_model<R: Room>() {
    let mut reached = BTreeSet::new();
    seeds("answers_equal_the_model", 24, |dice| {
        let steps = steps(dice, 150);
        if let Err(failure) = put_beside_the_model::<R>(dice, &steps, &mut reached) {
            panic!("{}", failure.told::<R>(&steps));
        }
    });
    if std::env::var_os("TOKENSCOPE_SEED").is_some() {
        return;
    }
    let caller = [Inactive::Malformed, Inactive::WrongAudience];
    let missed = Denial::ALL.into_iter().map(Bucket::Denied);
    let missed = missed.chain(Inactive::ALL.into_iter().filter(|r| !caller.contains(r)).map(Bucket::Inactive));
    let missed: Vec<Bucket> =
        missed.chain([Bucket::Active, Bucket::Allowed]).filter(|bucket| !reached.contains(bucket)).collect();
    assert!(missed.is_empty(), "no question had these answers, so nothing is known about them: {missed:?}");
}

/// (b) A revocation, or anything else that takes away, put at the end or anywhere in the list, never gives anything.
fn adding_a_revocation_never_makes_anything_active<R: Room>() {
    seeds("adding_a_revocation_never_makes_anything_active", 24, |dice| {
        let steps = steps(dice, 120);
        let now = end_of(&steps);
        let mut room = after::<R>(&steps);
        let before = answers(&room, now);
        for _ in 0..4 {
            let request = Made::tightening(dice, now);
            let last = answers(&room, now);
            let _ = room.change(&request, now);
            assert_not_wider(&last, &room, now, &format!("{request:?} at the end"));
        }
        for _ in 0..3 {
            let at = dice.below(steps.len());
            let request = Made::tightening(dice, steps[at].1);
            let mut more = steps.clone();
            more.insert(at, (request.clone(), steps[at].1));
            // A grant refused for its sake would shift all later numbers: another list, not a stricter one.
            if same_grants::<R>(&steps, &more) {
                assert_not_wider(&before, &after::<R>(&more), now, &format!("{request:?} before change {at}"));
            }
        }
    });
}

fn same_grants<R: Room>(one: &[Step], other: &[Step]) -> bool {
    let made = |steps: &[Step]| {
        let mut room = R::new();
        let grants = steps.iter().filter(|(request, _)| matches!(request, ChangeRequest::MakeGrant { .. })).count();
        let mut accepted = 0;
        for (request, now) in steps {
            accepted += usize::from(matches!(room.change(request, *now), Ok(Some(_))));
        }
        (grants, accepted)
    };
    made(one) == made(other)
}

/// (c) Any order of changes that only take away gives the same answers, and so does exchanging neighbours that have
/// nothing to do with each other.
fn the_order_of_independent_changes_does_not_matter<R: Room>() {
    seeds("the_order_of_independent_changes_does_not_matter", 10, |dice| {
        let base = steps(dice, 100);
        let now = end_of(&base);
        let taken: Vec<ChangeRequest> = (0..4).map(|_| Made::tightening(dice, now)).collect();
        let mut first = None;
        for order in permutations(taken.len()) {
            let mut steps = base.clone();
            steps.extend(order.iter().map(|number| (taken[*number].clone(), now)));
            let room = after::<R>(&steps);
            match &first {
                None => first = Some(answers(&room, now)),
                Some(first) => assert_same(first, &room, now, &format!("the order {order:?} of {taken:#?}")),
            }
        }
        let before = answers(&after::<R>(&base), now);
        let mut shuffled = base.clone();
        let mut exchanged = 0;
        for _ in 0..2_000 {
            let at = dice.below(shuffled.len() - 1);
            if independent(&shuffled[at].0, &shuffled[at + 1].0) {
                // The moments stay in order; what is asked for changes places.
                let (one, other) = (shuffled[at].0.clone(), shuffled[at + 1].0.clone());
                (shuffled[at].0, shuffled[at + 1].0) = (other, one);
                exchanged += 1;
            }
        }
        assert!(exchanged > 20, "only {exchanged} exchanges: nothing was tested");
        assert_same(&before, &after::<R>(&shuffled), now, "exchanging independent neighbours");
    });
}

fn permutations(of: usize) -> Vec<Vec<usize>> {
    if of == 0 {
        return vec![Vec::new()];
    }
    let shorter = permutations(of - 1);
    let put_in = |order: &Vec<usize>, at: usize| {
        let mut order = order.clone();
        order.insert(at, of - 1);
        order
    };
    shorter.iter().flat_map(|order| (0..of).map(move |at| put_in(order, at))).collect()
}

/// Whether two changes touch different things, seen generously: what gives numbers, ages or names stands in the way of
/// everything.
fn independent(one: &ChangeRequest, other: &ChangeRequest) -> bool {
    use ChangeRequest as Ask;
    let touches = |request: &ChangeRequest| -> Option<(String, bool)> {
        Some(match request {
            Ask::SwitchClient(whom, _) => (format!("client {whom}"), true),
            Ask::SwitchSubject(who, _) => (format!("subject {who}"), true),
            Ask::AddMember(who, _) | Ask::RemoveMember(who, _) => (format!("member {who}"), false),
            Ask::SetPolicyMode(at, _) => (format!("mode {at}"), false),
            Ask::SwitchPersonal(at, _) => (format!("personal {at}"), false),
            Ask::SetPolicyEntry(at, whom, _) => (format!("policy {at} {whom}"), false),
            Ask::NarrowGrant(id, _) => (format!("grant {id}"), true),
            Ask::RegisterToken { digest, .. } => (format!("token {digest:?}"), false),
            Ask::Revoke(RevokeTarget::Token(digest)) => (format!("token {digest:?}"), true),
            Ask::Revoke(target) => (format!("revoke {target:?}"), true),
            _ => return None,
        })
    };
    // A room may refuse a token of a dead grant, so registering depends on what is alive.
    let registers = |request: &ChangeRequest| matches!(request, Ask::RegisterToken { .. });
    match (touches(one), touches(other)) {
        (Some((what, kills)), Some((other_what, other_kills))) => {
            let about_life = (registers(one) && other_kills) || (registers(other) && kills);
            what != other_what && !about_life
        }
        _ => false,
    }
}

/// (d) Applying the end of the list again changes nothing.
fn replaying_a_suffix_changes_nothing<R: Room>() {
    seeds("replaying_a_suffix_changes_nothing", 24, |dice| {
        let steps = steps(dice, 120);
        let now = end_of(&steps);
        let mut room = after::<R>(&steps);
        let before = answers(&room, now);
        for count in [1, 7, steps.len() / 2, steps.len()] {
            room.replay(count);
            assert_same(&before, &room, now, &format!("replaying the last {count} entries"));
        }
    });
}

/// (e) What can be undone restores exactly what was there, and takes away only in between.
fn undoing_restores_exactly<R: Room>() {
    seeds("undoing_restores_exactly", 12, |dice| {
        let steps = steps(dice, 120);
        let now = end_of(&steps);
        let mut room = after::<R>(&steps);
        let (who, whom, at) = (subject(dice.pick(&SUBJECTS)), client(dice.pick(&CLIENTS[..3])), dice.pick(&WORKSPACES));
        let line = |entry| ChangeRequest::SetPolicyEntry(workspace(at), whom.clone(), entry);
        let mode = |mode| ChangeRequest::SetPolicyMode(workspace(at), mode);
        let personal = |switch| ChangeRequest::SwitchPersonal(workspace(at), switch);
        let switches = [
            (line(PolicyEntry::Unblock), line(PolicyEntry::Block)),
            (line(PolicyEntry::Approve), line(PolicyEntry::Unapprove)),
            (mode(PolicyMode::AllowAll), mode(PolicyMode::ApprovalRequired)),
            (personal(Switch::On), personal(Switch::Off)),
            (ChangeRequest::SwitchSubject(who.clone(), Switch::On), ChangeRequest::SwitchSubject(who, Switch::Off)),
            (
                ChangeRequest::SwitchClient(whom.clone(), Switch::On),
                ChangeRequest::SwitchClient(whom.clone(), Switch::Off),
            ),
        ];
        for (on, off) in switches {
            let mut change = |request: &ChangeRequest| {
                // Nobody may have heard of this subject yet, and a room may say so.
                let _ = room.change(request, now);
                answers(&room, now)
            };
            let before = change(&on);
            change(&off);
            assert_not_wider(&before, &room, now, &format!("{off:?}"));
            let _ = room.change(&on, now);
            assert_same(&before, &room, now, &format!("{off:?} and then {on:?}"));
        }
        // Blocking twice, or over an approval, is undone by one unblocking.
        let _ = room.change(&line(PolicyEntry::Approve), now);
        let _ = room.change(&line(PolicyEntry::Unblock), now);
        let before = answers(&room, now);
        for entry in [PolicyEntry::Block, PolicyEntry::Block, PolicyEntry::Unblock] {
            let _ = room.change(&line(entry), now);
        }
        assert_same(&before, &room, now, "blocking twice and unblocking once");
    });
}

/// (f) A token is never wider than an unnarrowed one of its grant, and that one never wider than live membership.
fn nothing_is_wider_than_what_it_hangs_on<R: Room>() {
    seeds("nothing_is_wider_than_what_it_hangs_on", 12, |dice| {
        let steps = steps(dice, 150);
        let now = end_of(&steps);
        let mut room = after::<R>(&steps);
        let first_whole = 1_000;
        for number in 1..=GRANTS {
            let _ = room.change(&register(first_whole + number, number, now), now);
        }
        for token in tokens() {
            let Told::Active(seen) = room.introspect(&token, None, now) else { continue };
            let whole = crate::workload::token(first_whole + seen.grant.number() as usize);
            let member_of = room.memberships(&seen.subject);
            for at in places() {
                for scope in scopes() {
                    if room.check(&token, scope, at, now) != Decision::Allowed {
                        continue;
                    }
                    let around = room.check(&whole, scope, at, now);
                    assert_eq!(around, Decision::Allowed, "{scope} at {at} is not in grant {}", seen.grant);
                    let Ok(named) = Place::parse(at) else { panic!("{scope} allowed at {at:?}, which is no place") };
                    let in_place = member_of.contains(at) || member_of.contains(named.workspace_str());
                    assert!(in_place, "{scope} allowed at {at}, but {} is in {member_of:?}", seen.subject);
                }
            }
        }
    });
}

/// (g) Lists by subject, client and grant, memberships and policies equal a recount, all along.
fn lists_equal_a_recount<R: Room>() {
    seeds("lists_equal_a_recount", 12, |dice| {
        let mut twin = Twin::<R>::new();
        let mut lists: Vec<ListOf> = SUBJECTS.iter().map(|who| ListOf::Subject((*who).into())).collect();
        lists.extend(CLIENTS.iter().map(|whom| ListOf::Client((*whom).into())));
        lists.extend((1..=GRANTS).map(|number| ListOf::Grant(grant(number))));
        lists.push(ListOf::Subject("nobody".into()));
        for (number, (request, now)) in steps(dice, 150).into_iter().enumerate() {
            twin.change(&request, now).unwrap_or_else(|complaint| panic!("{complaint}"));
            if number % 15 != 0 {
                continue;
            }
            for of in &lists {
                let keys: BTreeSet<_> = twin.room.live_tokens(of, now).iter().map(key).collect();
                assert_eq!(keys, twin.model.live_tokens(of, now), "live tokens of {of:?} after change {number}");
                let grants = twin.room.live_grants(of, now);
                assert_eq!(grants, twin.model.live_grants(of, now), "live grants of {of:?} after change {number}");
            }
            for who in SUBJECTS {
                let held = twin.model.memberships(who).iter().map(|place| place.as_str().to_owned()).collect();
                assert_eq!(twin.room.memberships(who), held, "memberships of {who} after change {number}");
            }
            for at in WORKSPACES {
                assert_eq!(twin.room.policy(at), twin.model.policy(at), "policy of {at} after change {number}");
            }
        }
    });
}

/// (h) `scope` alone never allows what a place denies (TS-02); each place has its own scopes, never another's (TS-03);
/// introspection and check agree.
fn scope_alone_is_a_lower_bound_at_every_place<R: Room>() {
    seeds("scope_alone_is_a_lower_bound_at_every_place", 16, |dice| {
        let mut twin = Twin::<R>::new();
        let mut now = Timestamp::from_raw(START);
        for (request, at) in steps(dice, 130) {
            now = at;
            twin.change(&request, now).unwrap_or_else(|complaint| panic!("{complaint}"));
        }
        for token in tokens() {
            let Told::Active(seen) = twin.room.introspect(&token, None, now) else { continue };
            let naive = |place: &str| {
                for scope in SCOPES {
                    let Some(position) = twin.model.position(scope) else { continue };
                    let allowed = twin.room.check(&token, scope, place, now) == Decision::Allowed;
                    assert!(
                        allowed || !seen.everywhere.has(position),
                        "{scope} stands in `scope` of {seen:?}, but {place} denies it"
                    );
                }
            };
            assert!(!seen.places.is_empty(), "an active token without places: {seen:?}");
            for (place, scopes) in &seen.places {
                assert!(!scopes.is_empty(), "nothing at {place} in {seen:?}");
                naive(place);
                agrees_at(&twin, &token, place, &seen, now);
            }
            if LOST_PLACE == LostPlace::Counts {
                twin.model.places_of(key(&token)).iter().for_each(|place| naive(place.as_str()));
            }
        }
    });
}

/// Asked about one place, the token has there what the list of places said, scope by scope.
fn agrees_at<R: Room>(twin: &Twin<R>, token: &TokenDigest, place: &str, seen: &Seen, now: Timestamp) {
    let Told::Active(here) = twin.room.introspect(token, Some(place), now) else {
        panic!("{place} is listed in {seen:?}, but the token is inactive there");
    };
    assert_eq!(here.everywhere, seen.places[place], "asked about {place} alone, of {seen:?}");
    assert_eq!(here.places.len(), 1, "asked about {place} alone: {here:?}");
    for scope in SCOPES {
        let Some(position) = twin.model.position(scope) else { continue };
        let allowed = twin.room.check(token, scope, place, now) == Decision::Allowed;
        assert_eq!(allowed, here.everywhere.has(position), "{scope} at {place}: check against introspection");
    }
}

macro_rules! for_each_room {
    ($($room:ident: $type:ty { $($property:ident),+ $(,)? })+) => {
        $(mod $room {
            $(#[test]
            fn $property() {
                super::$property::<$type>();
            })+
        })+
    };
}

for_each_room! {
    plain: crate::plain::Plain {
        answers_equal_the_model,
        adding_a_revocation_never_makes_anything_active,
        the_order_of_independent_changes_does_not_matter,
        replaying_a_suffix_changes_nothing,
        undoing_restores_exactly,
        nothing_is_wider_than_what_it_hangs_on,
        lists_equal_a_recount,
        scope_alone_is_a_lower_bound_at_every_place,
    }
    world: crate::world::World {
        answers_equal_the_model,
        adding_a_revocation_never_makes_anything_active,
        the_order_of_independent_changes_does_not_matter,
        replaying_a_suffix_changes_nothing,
        undoing_restores_exactly,
        nothing_is_wider_than_what_it_hangs_on,
        lists_equal_a_recount,
        scope_alone_is_a_lower_bound_at_every_place,
    }
}
