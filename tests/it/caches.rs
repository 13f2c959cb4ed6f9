//! Lessons about answers that were kept too long, given to the wrong question, or to the wrong caller.
//!
//! Most of these bugs lived in caches. There is none between the index and an answer, and these tests keep it so: whatever
//! was asked before, the next answer is that of the facts. The numbers are those of the project's list of lessons.

use tokenscope::domain::{Denial, Expiry, Inactive, Revision, Sequence, Timestamp, TokenTimes};
use tokenscope::service::caller::{AskRight, Caller, Only, Rights};
use tokenscope::service::request::{ChangeRequest, RevokeTarget};
use tokenscope::service::{Decision, Introspection, PlaceAsked, Refusal, ScopeAsked, Scratch};
use tokenscope::testing::almighty;

use crate::face::{Room, Told};
use crate::lessons::{NOW, Story, timed};
use crate::workload::{register, subject, token};

/// B7, TS-08. Four products kept a decision and gave it to another question about the same token.
#[test]
fn b7_whatever_was_asked_before_a_question_gets_its_own_answer() {
    let questions =
        [("tasks:read", "10"), ("tasks:write", "10"), ("tasks:read", "20"), ("tasks:read", "10/1"), ("nonsense", "10")];
    let story = Story::with_one_token();
    let alone: Vec<Decision> = questions.iter().map(|(scope, at)| story.check(1, scope, at)).collect();
    for first in questions {
        for ((scope, at), alone) in questions.iter().zip(&alone) {
            let story = Story::with_one_token();
            story.check(1, first.0, first.1);
            assert_eq!(story.check(1, scope, at), *alone, "{scope} at {at}, after {first:?}");
        }
    }
}

/// B8, B9. A cache whose entries lived longer with each use, and one that believed a slow clock.
#[test]
fn b8_b9_asking_often_keeps_nothing_alive_and_a_later_now_is_believed() {
    let mut story = Story::with_one_token();
    for seconds in 0..3_600 {
        story.now = NOW.plus(seconds);
        assert!(story.is_active(1), "{seconds} s");
    }
    for ahead in [3_600, 3_600 + 600] {
        story.now = NOW.plus(ahead);
        assert!(!story.is_active(1), "{ahead} s");
    }
}

/// B10. A token without expiry stayed in a cache for ever.
#[test]
fn b10_a_token_that_never_expires_is_gone_the_moment_it_is_revoked() {
    let mut story = Story::with_one_token();
    story.does(&timed(register(2, 1, NOW), |times: &mut TokenTimes| times.expiry = Expiry::Never));
    story.now = NOW.plus(400_000_000);
    assert!(story.is_active(2));
    story.revokes(RevokeTarget::Token(token(2)));
    assert!(!story.is_active(2));
}

/// B11. "Unknown" was kept, so that a token made a moment later was refused.
#[test]
fn b11_asked_about_too_early_a_token_works_once_it_is_registered() {
    let mut story = Story::with_one_token();
    for _ in 0..3 {
        assert_eq!(story.check(2, "tasks:read", "10"), Decision::Inactive(Inactive::Unknown));
    }
    story.does(&register(2, 1, NOW));
    assert_eq!(story.check(2, "tasks:read", "10"), Decision::Allowed);
}

/// B12, B31. A cache of unknown tokens, and a list of revoked ones, that only ever grew.
#[test]
fn b12_b31_unknown_tokens_leave_nothing_behind_and_the_index_follows_the_living() {
    let story = Story::with_one_token();
    let service = story.world.service();
    let before = (service.pin().bytes(), service.pin().tokens());
    for number in 1_000..101_000 {
        let key = service.key(&tokenscope::domain::TokenDigest::of(&u32::to_le_bytes(number)));
        assert!(service.pin().token(key).is_none());
    }
    assert_eq!((service.pin().bytes(), service.pin().tokens()), before, "a hundred thousand misses");
}

/// B20, B21. Left the organisation, or the session was ended, and still let in for hours.
#[test]
fn b21_leaving_and_suspension_count_at_the_very_next_question() {
    use tokenscope::domain::Switch::{Off, On};
    let mut story = Story::with_one_token();
    story.does(&ChangeRequest::SwitchSubject(subject("ada"), Off));
    assert_eq!(story.check(1, "tasks:read", "10"), Decision::Inactive(Inactive::SubjectOff));
    story.does(&ChangeRequest::SwitchSubject(subject("ada"), On));
    story.does(&ChangeRequest::RemoveMember(subject("ada"), crate::workload::place("10")));
    assert_eq!(story.check(1, "tasks:read", "10"), Decision::Denied(Denial::NotAMember));
    assert_eq!(story.world.introspect(&token(1), None, NOW), Told::Inactive(Inactive::NothingLeft));
}

/// B23, B24. "No verdict" was folded into yes by one product and into no by another.
#[test]
fn b23_b24_what_is_not_known_yet_is_neither_active_nor_inactive() {
    let story = Story::with_one_token();
    let service = story.world.service();
    let now = service.revision();
    assert_eq!(service.reached(now), Ok(()));
    let ahead = Revision { sequence: Sequence(now.sequence.0 + 1), ..now };
    assert_eq!(service.reached(ahead), Err(Refusal::Behind));
    let other = Revision { epoch: tokenscope::domain::Epoch(now.epoch.0 + 1), sequence: Sequence(0) };
    assert_eq!(service.reached(other), Err(Refusal::Behind), "a place in another list says nothing about this one");
}

fn asking(audiences: Only<String>, workspaces: Only<String>) -> Caller {
    let rights = Rights { ask: Some(AskRight { audiences, workspaces }), ..Rights::default() };
    Caller { rights, ..almighty() }
}

fn these(names: &[&str]) -> Only<String> {
    Only::These(names.iter().map(|name| (*name).to_owned()).collect())
}

/// B28, A15. Any caller could read any token. Here: caller by audience by workspace, and what each may see.
#[test]
fn b28_a_caller_sees_only_tokens_and_places_meant_for_it() {
    let story = Story::with_one_token();
    let service = story.world.service();
    let key = service.key(&token(1));
    let audience: String = {
        let mut scratch = Scratch::default();
        let pin = service.pin();
        match service.introspect(&pin, &almighty(), key, None, NOW, &mut scratch) {
            Ok(Introspection::Active(token)) => token.audience().next().expect("never empty").to_owned(),
            other => panic!("{other:?}"),
        }
    };
    let cases = [
        (Only::All, Only::All, Ok(Decision::Allowed)),
        (these(&[&audience]), these(&["10"]), Ok(Decision::Allowed)),
        (these(&["https://other.example"]), Only::All, Ok(Decision::Inactive(Inactive::WrongAudience))),
        (these(&[]), Only::All, Ok(Decision::Inactive(Inactive::WrongAudience))),
        (Only::All, these(&["20"]), Err(Refusal::MayNotAskThere)),
        (Only::All, these(&[]), Err(Refusal::MayNotAskThere)),
    ];
    for (audiences, workspaces, expected) in cases {
        let caller = asking(audiences.clone(), workspaces.clone());
        let pin = service.pin();
        let (scope, place) = (ScopeAsked::Name("tasks:read"), PlaceAsked::Name("10"));
        let told = service.check(&pin, &caller, key, scope, place, NOW);
        assert_eq!(told, expected, "{audiences:?} {workspaces:?}");
        // Without a place, only what is in the caller's workspaces is there at all.
        let mut scratch = Scratch::default();
        let sees = service.introspect(&pin, &caller, key, None, NOW, &mut scratch).expect("a verdict");
        let active = matches!(sees, Introspection::Active(_));
        assert_eq!(active, expected == Ok(Decision::Allowed), "{audiences:?} {workspaces:?}");
    }
    let nobody = Caller { rights: Rights::default(), ..almighty() };
    let pin = service.pin();
    let (scope, place) = (ScopeAsked::Name("tasks:read"), PlaceAsked::Name("10"));
    assert_eq!(service.check(&pin, &nobody, key, scope, place, NOW), Err(Refusal::MayNotAsk));
}

/// H9. A clock that is set back must not revive anybody; the doors' clock never tells less than it has told.
#[test]
fn h9_the_clock_of_the_doors_never_runs_back() {
    let clock = tokenscope::clock::Clock::manual(NOW);
    let story = Story::with_one_token();
    let key = story.world.service().key(&token(1));
    let active_at = |now: Timestamp| {
        let mut scratch = Scratch::default();
        let pin = story.world.service().pin();
        let told = story.world.service().introspect(&pin, &almighty(), key, None, now, &mut scratch);
        matches!(told, Ok(Introspection::Active(_)))
    };
    assert!(active_at(clock.now()));
    clock.set(NOW.plus(3_600));
    assert!(!active_at(clock.now()), "expired");
    clock.set(NOW.minus(31_536_000));
    assert!(!active_at(clock.now()), "a year back changes nothing");
    // And the system's own is never below what the data has seen.
    let ahead = Timestamp::from_raw(4_000_000_000);
    assert!(tokenscope::clock::Clock::system(ahead).now() >= ahead);
}
