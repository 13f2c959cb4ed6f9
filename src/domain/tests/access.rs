//! The rule, and the form of what is granted: tables of facts against what they come to.

use super::super::access::{
    ClientKind, Covers, Denial, GrantFacts, Inactive, MemberFacts, PairFacts, PartyFacts, PlaceFacts, PolicyFacts,
    TokenFacts,
};
use super::super::change::{PolicyMode, Sequence, Switch};
use super::super::grant::{Access, AccessError, PAIRS_MAX, Pair, Reach};
use super::super::place::Place;
use super::super::scope::{ScopeMask, ScopePosition};
use super::super::time::{Expiry, Timestamp};
use super::super::token::TokenTimes;

const NOW: Timestamp = Timestamp::from_raw(1_800_000_000);

/// A token nothing is wrong with: issued at `NOW`, for a minute, of a grant made by change 10.
fn sound() -> TokenFacts {
    TokenFacts {
        times: TokenTimes { issued: NOW, not_before: NOW, expiry: Expiry::At(NOW.plus(60)) },
        revoked: false,
        grant: GrantFacts { made: Sequence(10), expiry: Expiry::Never, revoked: false, issued_before: Timestamp::ZERO },
        subject: PartyFacts::NEW,
        client: PartyFacts::NEW,
        subject_client_void_before: Sequence::ZERO,
        all_issued_before: Timestamp::ZERO,
    }
}

fn verdict(alter: impl Fn(&mut TokenFacts)) -> Result<(), Inactive> {
    let mut facts = sound();
    alter(&mut facts);
    facts.verdict(NOW)
}

#[test]
fn each_fact_alone_ends_a_token() {
    assert_eq!(verdict(|_| {}), Ok(()));
    assert_eq!(verdict(|f| f.revoked = true), Err(Inactive::TokenRevoked));
    assert_eq!(verdict(|f| f.grant.revoked = true), Err(Inactive::GrantRevoked));
    assert_eq!(verdict(|f| f.grant.expiry = Expiry::At(NOW)), Err(Inactive::GrantExpired));
    assert_eq!(verdict(|f| f.subject.switch = Switch::Off), Err(Inactive::SubjectOff));
    assert_eq!(verdict(|f| f.client.switch = Switch::Off), Err(Inactive::ClientOff));
    assert_eq!(verdict(|f| f.times.not_before = NOW.plus(1)), Err(Inactive::NotYetValid));
    for (mark, dead) in [(9, false), (10, true), (11, true)] {
        let due = |reason| if dead { Err(reason) } else { Ok(()) };
        assert_eq!(verdict(|f| f.subject.void_before = Sequence(mark)), due(Inactive::SubjectRevoked), "{mark}");
        assert_eq!(verdict(|f| f.client.void_before = Sequence(mark)), due(Inactive::ClientRevoked), "{mark}");
        let both = verdict(|f| f.subject_client_void_before = Sequence(mark));
        assert_eq!(both, due(Inactive::SubjectClientRevoked), "{mark}");
    }
    // "Issued before T": T itself is not before T.
    for (mark, dead) in [(NOW.minus(1), false), (NOW, false), (NOW.plus(1), true)] {
        let due = if dead { Err(Inactive::IssuedBeforeMark) } else { Ok(()) };
        assert_eq!(verdict(|f| f.all_issued_before = mark), due);
        assert_eq!(verdict(|f| f.grant.issued_before = mark), due);
        assert_eq!(verdict(|f| f.subject.issued_before = mark), due);
        assert_eq!(verdict(|f| f.client.issued_before = mark), due);
    }
}

#[test]
fn a_token_is_active_from_nbf_and_until_just_before_exp() {
    for (now, due) in [
        (NOW.minus(1), Err(Inactive::NotYetValid)),
        (NOW, Ok(())),
        (NOW.plus(59), Ok(())),
        (NOW.plus(60), Err(Inactive::Expired)),
        (NOW.plus(61), Err(Inactive::Expired)),
        (Timestamp::MAX, Err(Inactive::Expired)),
    ] {
        assert_eq!(sound().verdict(now), due, "at {now}");
    }
    let mut never = sound();
    never.times.expiry = Expiry::Never;
    assert_eq!(never.verdict(Timestamp::MAX), Ok(()));
    // The grant's end ends a token that would outlive it.
    never.grant.expiry = Expiry::At(NOW.plus(5));
    assert_eq!(never.verdict(NOW.plus(4)), Ok(()));
    assert_eq!(never.verdict(NOW.plus(5)), Err(Inactive::GrantExpired));
}

#[test]
fn a_second_bad_fact_never_helps() {
    let bad: [fn(&mut TokenFacts); 13] = [
        |f| f.revoked = true,
        |f| f.grant.revoked = true,
        |f| f.grant.expiry = Expiry::At(NOW),
        |f| f.grant.issued_before = NOW.plus(1),
        |f| f.subject.switch = Switch::Off,
        |f| f.subject.void_before = Sequence(10),
        |f| f.subject.issued_before = NOW.plus(1),
        |f| f.client.switch = Switch::Off,
        |f| f.client.void_before = Sequence(10),
        |f| f.client.issued_before = NOW.plus(1),
        |f| f.subject_client_void_before = Sequence(10),
        |f| f.all_issued_before = NOW.plus(1),
        |f| f.times.expiry = Expiry::At(NOW),
    ];
    for set in 1_u32..1 << bad.len() {
        let chosen = bad.iter().enumerate().filter(|(number, _)| set >> number & 1 == 1);
        let mut facts = sound();
        chosen.for_each(|(_, alter)| alter(&mut facts));
        assert!(facts.verdict(NOW).is_err(), "{facts:?}");
    }
}

fn member(live: bool, added: u64, removed: u64) -> MemberFacts {
    MemberFacts { live, added: Sequence(added), removed: Sequence(removed) }
}

fn place(workspace: MemberFacts, project: Option<MemberFacts>) -> PlaceFacts {
    PlaceFacts { workspace, project, policy: PolicyFacts::NEW, client: ClientKind::App }
}

#[test]
fn membership_decides_who_is_in_and_what_survives_leaving() {
    use Covers::{Everywhere, Project, Workspace};
    let (never, here) = (MemberFacts::NEVER, member(true, 1, 0));
    let (left, back) = (member(false, 1, 20), member(true, 30, 20));
    let ended = Err(Denial::GrantedBeforeLeaving);
    // Workspace, project (if the place is one), what the pair names, its age, and what it comes to.
    let table = [
        (here, None, Workspace, 10, Ok(())),
        (never, None, Workspace, 10, Err(Denial::NotAMember)),
        (left, None, Workspace, 10, Err(Denial::NotAMember)),
        (left, None, Workspace, 40, Err(Denial::NotAMember)),
        (back, None, Workspace, 10, ended),
        (back, None, Workspace, 25, Ok(())),
        (back, None, Workspace, 40, Ok(())),
        (back, None, Everywhere, 10, ended),
        (back, None, Everywhere, 40, Ok(())),
        // A membership of the workspace covers its projects.
        (here, Some(never), Workspace, 10, Ok(())),
        (here, Some(never), Project, 10, Ok(())),
        (back, Some(never), Project, 10, ended),
        // A guest is in the project alone.
        (never, Some(here), Project, 10, Ok(())),
        (never, Some(here), Workspace, 10, Ok(())),
        (never, Some(here), Everywhere, 10, Ok(())),
        (never, Some(left), Project, 10, Err(Denial::NotAMember)),
        (never, Some(back), Project, 10, ended),
        (never, Some(back), Everywhere, 10, ended),
        (never, Some(back), Workspace, 40, Ok(())),
        // Leaving the workspace ended the project too; only a membership given later counts.
        (left, Some(here), Project, 10, Err(Denial::NotAMember)),
        (left, Some(member(true, 25, 0)), Project, 10, ended),
        (left, Some(member(true, 25, 0)), Project, 26, Ok(())),
        (left, Some(member(true, 25, 0)), Everywhere, 26, Ok(())),
        // Leaving a project ends what was granted there by name, even for who is in the workspace.
        (here, Some(left), Project, 10, ended),
        (here, Some(left), Project, 40, Ok(())),
        (here, Some(left), Workspace, 10, Ok(())),
        (here, Some(left), Everywhere, 10, Ok(())),
    ];
    for (number, (workspace, project, covers, since, due)) in table.into_iter().enumerate() {
        assert_eq!(place(workspace, project).admits(covers, Sequence(since)), due, "row {number}");
    }
}

#[test]
fn the_policy_admits_by_two_separate_lists_and_a_switch_for_personal_tokens() {
    use PolicyMode::{AllowAll, ApprovalRequired};
    for (mode, blocked, approved, due) in [
        (AllowAll, false, false, Ok(())),
        (AllowAll, false, true, Ok(())),
        (AllowAll, true, false, Err(Denial::AppBlocked)),
        (AllowAll, true, true, Err(Denial::AppBlocked)),
        (ApprovalRequired, false, false, Err(Denial::AppNotApproved)),
        (ApprovalRequired, false, true, Ok(())),
        (ApprovalRequired, true, false, Err(Denial::AppBlocked)),
        (ApprovalRequired, true, true, Err(Denial::AppBlocked)),
    ] {
        for personal in [Switch::On, Switch::Off] {
            let policy = PolicyFacts { mode, personal, blocked, approved, void_before: Sequence::ZERO };
            assert_eq!(policy.admits(ClientKind::App), due, "{policy:?}");
            let due = if personal == Switch::Off { Err(Denial::PersonalTokensOff) } else { Ok(()) };
            assert_eq!(policy.admits(ClientKind::Personal), due, "{policy:?}");
        }
    }
}

#[test]
fn a_mark_in_the_workspace_ends_older_pairs_only() {
    let mut facts = place(member(true, 1, 0), None);
    facts.policy.void_before = Sequence(20);
    for (since, due) in [(19, Err(Denial::AppRevokedHere)), (20, Err(Denial::AppRevokedHere)), (21, Ok(()))] {
        assert_eq!(facts.admits(Covers::Workspace, Sequence(since)), due, "{since}");
    }
}

fn pair(covers: Covers, since: u64, positions: &[u8]) -> PairFacts {
    let mut scopes = ScopeMask::EMPTY;
    positions.iter().for_each(|number| scopes.insert(ScopePosition::new(*number)));
    PairFacts { covers, since: Sequence(since), scopes }
}

#[test]
fn a_denial_names_the_reason_that_came_furthest_in_any_order() {
    let scope = ScopePosition::new(1);
    let mut facts = place(member(true, 30, 20), Some(member(true, 50, 45)));
    facts.policy.void_before = Sequence(40);
    let before_leaving = pair(Covers::Workspace, 10, &[1]);
    let before_mark = pair(Covers::Workspace, 35, &[1]);
    let project_left = pair(Covers::Project, 42, &[1]);
    let other_scope = pair(Covers::Workspace, 60, &[2]);
    let empty = pair(Covers::Workspace, 60, &[]);
    let good = pair(Covers::Everywhere, 60, &[1]);
    let table: [(&[PairFacts], Result<(), Denial>); 8] = [
        (&[], Err(Denial::PlaceNotGranted)),
        (&[empty], Err(Denial::PlaceNotGranted)),
        (&[other_scope, empty], Err(Denial::ScopeNotGranted)),
        (&[other_scope, before_leaving], Err(Denial::GrantedBeforeLeaving)),
        (&[before_leaving, before_mark], Err(Denial::AppRevokedHere)),
        (&[before_mark, project_left, other_scope], Err(Denial::AppRevokedHere)),
        (&[before_leaving, good], Ok(())),
        (&[good, before_mark, other_scope, empty], Ok(())),
    ];
    for (pairs, due) in table {
        assert_eq!(facts.decide(scope, pairs.iter().copied()), due, "{pairs:?}");
        assert_eq!(facts.decide(scope, pairs.iter().rev().copied()), due, "reversed: {pairs:?}");
        assert_eq!(facts.scopes(pairs.iter().copied()).allows(scope), due.is_ok(), "{pairs:?}");
    }
}

#[test]
fn codes_and_words_of_the_reasons_are_one_to_one() {
    for denial in Denial::ALL {
        assert_eq!(Denial::from_code(denial as u8), Some(denial));
        assert_eq!(Denial::ALL.iter().filter(|other| other.as_str() == denial.as_str()).count(), 1);
    }
    assert_eq!(Denial::from_code(0), None);
    assert_eq!(Denial::from_code(10), None);
    for reason in Inactive::ALL {
        assert_eq!(Inactive::ALL.iter().filter(|other| other.as_str() == reason.as_str()).count(), 1);
    }
}

fn granted(text: &str, positions: &[u8]) -> Pair {
    let reach = if text == "*" { Reach::Everywhere } else { Reach::At(Place::parse(text).expect("a place")) };
    Pair { reach, scopes: pair(Covers::Workspace, 0, positions).scopes }
}

#[test]
fn an_access_has_one_form() {
    let mixed =
        [granted("20", &[1]), granted("*", &[7]), granted("10", &[2]), granted("20", &[3]), granted("10/1", &[])];
    let mut reversed = mixed.clone();
    reversed.reverse();
    let one = Access::new(mixed).expect("not empty");
    assert_eq!(Ok(&one), Access::new(reversed).as_ref());
    assert_eq!(one.pairs(), [granted("10", &[2]), granted("20", &[1, 3]), granted("*", &[7])]);
    assert_eq!(Access::new(one.pairs().to_vec()), Ok(one));
}

#[test]
fn an_access_without_anything_in_it_is_refused_and_so_is_too_much() {
    assert_eq!(Access::new([]), Err(AccessError::Empty));
    assert_eq!(Access::new([granted("10", &[]), granted("*", &[])]), Err(AccessError::Empty));
    let many = |count: usize| (0..count).map(|number| granted(&format!("w{number}"), &[1]));
    assert_eq!(Access::new(many(PAIRS_MAX)).map(|access| access.pairs().len()), Ok(PAIRS_MAX));
    assert_eq!(Access::new(many(PAIRS_MAX + 1)), Err(AccessError::TooMany { count: PAIRS_MAX + 1 }));
    // The limit is on what is left after joining.
    assert!(Access::new(many(PAIRS_MAX).chain(many(PAIRS_MAX))).is_ok());
}

#[test]
fn read_here_and_write_there_is_never_write_here() {
    let access = Access::new([granted("10", &[1]), granted("20/1", &[2]), granted("*", &[3])]).expect("not empty");
    for (at, positions) in [
        ("10", &[1, 3][..]),
        ("10/1", &[1, 3]),
        ("20", &[3]),
        ("20/1", &[2, 3]),
        ("20/2", &[3]),
        ("100", &[3]),
        ("1", &[3]),
    ] {
        let scopes = access.scopes_at(&Place::parse(at).expect("a place"));
        assert_eq!(scopes, pair(Covers::Workspace, 0, positions).scopes, "at {at}");
    }
}
