//! Who waits for which answer, without a socket. Over sockets: `tests/it/protocol`.

use tokio::sync::oneshot;

use super::Token;
use super::answer::{Catalogue, Decision, Error};
use super::link::Failure;
use super::options::Options;
use super::reply::{Reply, Said, Waiting};
use crate::domain::{Denial, Epoch, Revision, ScopeMask, ScopePosition, Sequence};
use crate::wire::message::{Answer, ErrorCode, Outcome};

const EPOCH: Epoch = Epoch(5);

type Answered = oneshot::Receiver<Result<Vec<Reply>, Failure>>;

fn job(waiting: &mut Waiting, count: usize) -> (Vec<u32>, Answered) {
    let (answer, answered) = oneshot::channel();
    (waiting.expect(count, answer), answered)
}

fn allowed(sequence: u64) -> Answer<'static> {
    Answer::Checked { sequence: Sequence(sequence), outcome: Outcome::Allowed }
}

fn denied() -> Answer<'static> {
    Answer::Checked { sequence: Sequence(9), outcome: Outcome::Denied(Denial::NotAMember) }
}

fn outcomes(answered: &mut Answered) -> Vec<Outcome> {
    let outcome = |reply: Reply| match reply.said {
        Said::Checked(outcome) => outcome,
        other => panic!("{other:?}"),
    };
    answered.try_recv().unwrap().unwrap().into_iter().map(outcome).collect()
}

#[test]
fn answers_in_any_order_reach_their_questions_in_the_order_asked() {
    let mut waiting = Waiting::default();
    let (ids, mut many) = job(&mut waiting, 3);
    let (one, mut alone) = job(&mut waiting, 1);
    assert_eq!(waiting.len(), 4);
    assert_eq!(waiting.answer(ids[2], EPOCH, &denied()), Ok(Some(Sequence(9))));
    waiting.answer(one[0], EPOCH, &denied()).unwrap();
    assert_eq!(outcomes(&mut alone), [Outcome::Denied(Denial::NotAMember)]);
    waiting.answer(ids[0], EPOCH, &allowed(4)).unwrap();
    assert!(many.try_recv().is_err());
    waiting.answer(ids[1], EPOCH, &allowed(4)).unwrap();
    let expected = [Outcome::Allowed, Outcome::Allowed, Outcome::Denied(Denial::NotAMember)];
    assert_eq!(outcomes(&mut many), expected);
    assert!(waiting.is_empty());
}

#[test]
fn an_answer_that_nobody_waits_for_is_noticed() {
    let mut waiting = Waiting::default();
    assert!(waiting.answer(0, EPOCH, &allowed(1)).is_err());
    let (ids, _answered) = job(&mut waiting, 1);
    assert!(waiting.answer(ids[0] + 1, EPOCH, &allowed(1)).is_err());
    waiting.answer(ids[0], EPOCH, &allowed(1)).unwrap();
    assert!(waiting.answer(ids[0], EPOCH, &allowed(1)).is_err(), "twice");
    let (again, _answered) = job(&mut waiting, 1);
    assert_ne!(again, ids, "the seat is the same, the id is not");
    assert!(waiting.answer(ids[0], EPOCH, &allowed(1)).is_err(), "late, on a seat that is taken again");
}

#[test]
fn an_api_answer_in_parts_is_put_together_and_an_error_takes_it_back() {
    let part = |more, body| Answer::Api { sequence: Sequence(3), status: 200, more, body };
    let mut waiting = Waiting::default();
    let (ids, mut answered) = job(&mut waiting, 1);
    waiting.answer(ids[0], EPOCH, &part(true, b"{\"a\"")).unwrap();
    waiting.answer(ids[0], EPOCH, &part(false, b":1}")).unwrap();
    let reply = answered.try_recv().unwrap().unwrap().pop().unwrap();
    assert_eq!(reply.revision, Revision { epoch: EPOCH, sequence: Sequence(3) });
    assert!(matches!(reply.said, Said::Api { status: 200, body } if body == b"{\"a\":1}"));
    let (ids, mut answered) = job(&mut waiting, 1);
    waiting.answer(ids[0], EPOCH, &part(true, b"{")).unwrap();
    let text = "too much";
    let error = Answer::Error { sequence: Sequence(3), code: ErrorCode::TooLarge, text };
    waiting.answer(ids[0], EPOCH, &error).unwrap();
    let reply = answered.try_recv().unwrap().unwrap().pop().unwrap();
    assert!(matches!(reply.said, Said::Error { code: ErrorCode::TooLarge, .. }));
    let (ids, _answered) = job(&mut waiting, 1);
    waiting.answer(ids[0], EPOCH, &part(true, b"{")).unwrap();
    assert!(waiting.answer(ids[0], EPOCH, &allowed(1)).is_err(), "something else in between");
}

#[test]
fn when_the_connection_is_gone_everybody_is_told() {
    let mut waiting = Waiting::default();
    let (_, mut first) = job(&mut waiting, 2);
    let (_, mut second) = job(&mut waiting, 1);
    waiting.fail_all(&Error::Timeout);
    for answered in [&mut first, &mut second] {
        let failure = answered.try_recv().unwrap().unwrap_err();
        assert!(failure.sent && failure.error == Error::Timeout);
    }
    assert!(waiting.is_empty());
}

#[test]
fn more_than_there_are_seats_for_is_not_sent() {
    let mut waiting = Waiting::default();
    let (ids, _first) = job(&mut waiting, 65_000);
    assert_eq!(ids.len(), 65_000);
    let (ids, mut second) = job(&mut waiting, 1_000);
    assert!(ids.is_empty());
    assert!(!second.try_recv().unwrap().unwrap_err().sent);
}

#[test]
fn only_what_may_pass_is_worth_another_try() {
    let text = "why";
    for (code, retryable) in [
        (ErrorCode::Behind, true),
        (ErrorCode::NotReady, true),
        (ErrorCode::Overloaded, true),
        (ErrorCode::Busy, true),
        (ErrorCode::Unavailable, true),
        (ErrorCode::Forbidden, false),
        (ErrorCode::ForbiddenPlace, false),
        (ErrorCode::Invalid, false),
        (ErrorCode::NotFound, false),
        (ErrorCode::Conflict, false),
        (ErrorCode::OutcomeUnknown, false),
        (ErrorCode::Malformed, false),
    ] {
        assert_eq!(Error::from_code(code, text).is_retryable(), retryable, "{code:?}");
    }
    assert!(Error::Timeout.is_retryable() && !Error::Protocol(text.into()).is_retryable());
}

#[test]
fn sets_of_scopes_get_their_names() {
    let catalogue = Catalogue { names: vec![("a".to_owned(), false), ("b".to_owned(), true), ("c".to_owned(), false)] };
    let mut mask = ScopeMask::EMPTY;
    mask.insert(ScopePosition::new(2));
    mask.insert(ScopePosition::new(0));
    assert_eq!(catalogue.names(&mask).collect::<Vec<_>>(), ["a", "c"]);
    assert!(catalogue.knows(&mask));
    mask.insert(ScopePosition::new(3));
    assert!(!catalogue.knows(&mask));
    assert_eq!(catalogue.names(&ScopeMask::WILDCARD).collect::<Vec<_>>(), ["*"]);
}

#[test]
fn neither_key_nor_token_is_shown() {
    let options = Options::new(Vec::new(), "ca", "certificate", "the-secret-key");
    assert!(!format!("{options:?}").contains("secret"));
    assert!(!format!("{:?}", Token::from("the-secret-token")).contains("secret"));
    assert_eq!(
        Decision::Denied(Denial::AppBlocked).to_string(),
        "denied: an administrator of the workspace has blocked the app"
    );
}
