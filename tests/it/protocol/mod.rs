//! The native protocol over real sockets: the client library against the server, and bytes by hand against the server.

mod bytes;
mod certificates;
mod fakes;
mod follow;
mod hears;
pub mod rig;

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rig::{Ca, NOW, Rig, TOKEN, callers, material, times};
use tokenscope::client::{Client, Decision, Error, ErrorCode, NewToken, Revoke, Token, Verdict};
use tokenscope::domain::{Confirmation, Denial, Epoch, Expiry, Revision, Sequence, TokenTimes};
use tokenscope::server::Phase;
use tokenscope::server::credentials::Callers;
use tokenscope::server::quic_limits::{QuicOptions, RetryPolicy};
use tokenscope::server::tunnel::{Answering, ApiRequest, Tunnel, TunnelAnswer};
use tokenscope::service::request::{ChangeRequest, RevokeTarget};

#[tokio::test]
async fn a_token_is_asked_about_revoked_and_asked_about_again() {
    let rig = Rig::start().await;
    let client = rig.client("everything").await;
    let Verdict::Active(token) = client.introspect(TOKEN).await.unwrap() else { panic!("inactive") };
    assert_eq!((token.subject.as_str(), token.client.as_str(), token.grant), ("ada", "zapper", rig.grant));
    assert_eq!((token.times, token.audience.clone()), (times(), vec!["api".to_owned()]));
    let catalogue = client.catalogue().await.unwrap();
    let named = |place: &str| {
        let mask = token.places.iter().find(|(at, _)| at == place).map(|(_, mask)| *mask).unwrap();
        catalogue.names(&mask).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(named("A"), ["tasks:read"]);
    assert_eq!(named("B"), ["tasks:read"]);
    assert_eq!(named("A/1"), ["tasks:read", "tasks:write"]);
    for (scope, place, expected) in [
        ("tasks:read", "A", Decision::Allowed),
        ("tasks:write", "A/1", Decision::Allowed),
        ("tasks:write", "A", Decision::Denied(Denial::ScopeNotGranted)),
        ("tasks:write", "B", Decision::Denied(Denial::ScopeNotGranted)),
        ("tasks:read", "C", Decision::Denied(Denial::PlaceNotGranted)),
        ("Tasks:read", "A", Decision::Denied(Denial::ScopeUnknown)),
    ] {
        assert_eq!(client.check(TOKEN, scope, place).await, Ok(expected), "{scope} at {place}");
    }
    let numbers = client.resolve("tasks:write", "A/1").await.unwrap().unwrap();
    assert_eq!(client.check_numbers(TOKEN, numbers).await, Ok(Decision::Allowed));
    assert_eq!(client.resolve("tasks:write", "nowhere").await, Ok(None));
    assert_eq!(client.introspect("another token").await, Ok(Verdict::Inactive));
    assert_eq!(client.check("another token", "tasks:read", "A").await, Ok(Decision::Inactive));
    let receipt = client.revoke(Revoke::Token(TOKEN.into())).await.unwrap();
    assert_eq!(client.remembered(), Some(receipt.revision));
    assert_eq!(client.introspect(TOKEN).await, Ok(Verdict::Inactive));
    assert_eq!(client.check(TOKEN, "tasks:read", "A").await, Ok(Decision::Inactive));
    assert_eq!(client.check_numbers(TOKEN, numbers).await, Ok(Decision::Inactive));
    let stats = &rig.shared.stats.quic;
    assert_eq!((stats.changes.load(Relaxed), stats.allowed.load(Relaxed)), (1, 3));
}

#[tokio::test]
async fn a_registered_token_works_at_once_with_all_it_was_given() {
    let rig = Rig::start().await;
    let client = rig.client("everything").await;
    let new = NewToken {
        token: "fresh".into(),
        grant: rig.grant,
        times: TokenTimes { issued: NOW, not_before: NOW, expiry: Expiry::Never },
        confirmation: Some(Confirmation::Certificate([0xcc; 32])),
        audience: Some(vec!["api".to_owned(), "files".to_owned()]),
    };
    let receipt = client.register(&new).await.unwrap();
    let Verdict::Active(token) = client.introspect("fresh").await.unwrap() else { panic!("inactive") };
    assert_eq!(Some(token.handle), receipt.handle);
    assert_eq!((token.confirmation.clone(), Some(token.audience.clone())), (new.confirmation, new.audience));
    assert!(token.revision >= receipt.revision);
    client.revoke(Revoke::Handle(token.handle)).await.unwrap();
    assert_eq!(client.introspect("fresh").await, Ok(Verdict::Inactive));
    client.revoke(Revoke::Grant(rig.grant)).await.unwrap();
    assert_eq!(client.introspect(TOKEN).await, Ok(Verdict::Inactive));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_and_many_tasks_at_once_get_each_their_own_answer() {
    let rig = Rig::start_with(QuicOptions { threads: 2, ..QuicOptions::default() }, Tunnel::closed()).await;
    let client = rig.client("everything").await;
    let kinds = [
        (Token::from(TOKEN), "tasks:read", "A", Decision::Allowed),
        (Token::from(TOKEN), "tasks:write", "B", Decision::Denied(Denial::ScopeNotGranted)),
        (Token::from("nobody's"), "tasks:read", "A", Decision::Inactive),
    ];
    let checks: Vec<_> = (0..3_000).map(|i| kinds[i * 7 % 3]).collect();
    let asked: Vec<_> = checks.iter().map(|(token, scope, place, _)| (*token, *scope, *place)).collect();
    let decisions = client.check_many(&asked).await.unwrap();
    for (check, decision) in checks.iter().zip(&decisions) {
        assert_eq!(decision, &Ok(check.3), "{check:?}");
    }
    let tokens: Vec<Token> = checks.iter().map(|check| check.0).collect();
    for (check, verdict) in checks.iter().zip(client.introspect_many(&tokens).await.unwrap()) {
        assert_eq!(matches!(verdict, Ok(Verdict::Active(_))), check.3 != Decision::Inactive);
        assert!(verdict.is_ok());
    }
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..64_usize {
        let client = client.clone();
        tasks.spawn(async move {
            for round in 0..50 {
                let (token, scope, place, expected) = kinds[(task + round) % 3];
                assert_eq!(client.check(token, scope, place).await, Ok(expected));
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    let numbers = client.resolve("tasks:read", "B").await.unwrap().unwrap();
    assert_eq!(client.check_numbers(TOKEN, numbers).await, Ok(Decision::Allowed));
    assert_eq!(client.check_many(&[]).await, Ok(Vec::new()));
}

#[tokio::test]
async fn who_may_not_is_told_so_and_gets_no_verdict() {
    let rig = Rig::start().await;
    let nothing = rig.client("nothing").await;
    let refused = |result: Result<_, Error>| matches!(result, Err(Error::Unauthorized(_)));
    assert!(refused(nothing.introspect(TOKEN).await.map(|_| ())));
    assert!(refused(nothing.check(TOKEN, "tasks:read", "A").await.map(|_| ())));
    assert!(refused(nothing.revoke(Revoke::Token(TOKEN.into())).await.map(|_| ())));
    assert!(refused(nothing.resolve("tasks:read", "A").await.map(|_| ())));
    let only_a = rig.client("only-a").await;
    assert_eq!(only_a.check(TOKEN, "tasks:read", "A").await, Ok(Decision::Allowed));
    assert!(refused(only_a.check(TOKEN, "tasks:read", "B").await.map(|_| ())));
    let Verdict::Active(token) = only_a.introspect(TOKEN).await.unwrap() else { panic!("inactive") };
    assert!(token.places.iter().all(|(place, _)| place.starts_with('A')), "{:?}", token.places);
}

#[tokio::test]
async fn only_certificates_of_known_callers_get_in() {
    let rig = Rig::start().await;
    let stranger = rig.options("stranger");
    assert!(matches!(Client::connect(stranger).await, Err(Error::Unauthorized(_))), "known CA, unknown caller");
    let foreign = rig.options_as(&Ca::new().issue("everything.test"));
    assert!(matches!(Client::connect(foreign).await, Err(Error::Unauthorized(_))), "foreign CA");
    let expired = rig.ca.issue_with("everything.test", |params| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    });
    assert!(matches!(Client::connect(rig.options_as(&expired)).await, Err(Error::Unauthorized(_))), "expired");
    let mut wrong_name = rig.options("everything");
    wrong_name.servers = vec![(rig.address, "elsewhere.test".to_owned())];
    wrong_name.connect_deadline = Duration::from_secs(2);
    assert!(matches!(Client::connect(wrong_name).await, Err(Error::Unavailable(_))), "the server is another");
    assert!(Client::connect(rig.options("everything")).await.is_ok());
    let mut mixed = rig.options("everything");
    mixed.key_pem = rig.ca.issue("everything.test").key.into_bytes();
    assert!(matches!(Client::connect(mixed).await, Err(Error::Options(_))), "key of another certificate");
}

#[tokio::test]
async fn a_demanded_revision_is_kept_or_there_is_no_verdict() {
    let rig = Rig::start().await;
    let client = rig.client("everything").await;
    let now = rig.shared.service.revision();
    let next = Revision { sequence: Sequence(now.sequence.0 + 1), ..now };
    let behind = |result: Result<Verdict, Error>| matches!(result, Err(Error::Refused { code: ErrorCode::Behind, .. }));
    assert!(client.introspect_as(TOKEN.into(), None, Some(now)).await.is_ok());
    assert!(behind(client.introspect_as(TOKEN.into(), None, Some(next)).await));
    let older = Revision { epoch: Epoch(1), sequence: Sequence(1) };
    assert!(behind(client.introspect_as(TOKEN.into(), None, Some(older)).await));
    let done = rig.change(ChangeRequest::Revoke(RevokeTarget::Grant(rig.grant))).await;
    assert_eq!(client.introspect_as(TOKEN.into(), None, Some(done.revision)).await, Ok(Verdict::Inactive));
    client.remember(Revision { sequence: Sequence(done.revision.sequence.0 + 1), ..done.revision });
    assert!(behind(client.introspect(TOKEN).await), "what was remembered is demanded");
}

#[tokio::test]
async fn questions_move_to_the_other_server_and_the_client_comes_back_by_itself() {
    let mut first = Rig::start().await;
    let mut second = Rig::start_under(QuicOptions::default(), Tunnel::closed(), first.ca.clone()).await;
    let mut options = first.options("everything");
    options.servers.push((second.address, "localhost".to_owned()));
    options.backoff_max = Duration::from_millis(50);
    let client = Client::connect(options).await.unwrap();
    for _ in 0..10 {
        assert!(client.introspect(TOKEN).await.is_ok());
    }
    first.closed().await;
    for _ in 0..10 {
        assert!(client.introspect(TOKEN).await.is_ok(), "the second one answers");
    }
    second.closed().await;
    let mut impatient = first.options("everything");
    impatient.connect_deadline = Duration::from_millis(200);
    let refused = Client::connect(impatient).await.err().unwrap();
    assert!(refused.is_retryable(), "{refused}");
    first.open_again(QuicOptions::default());
    assert!(client.introspect(TOKEN).await.is_ok(), "the client came back by itself");
}

#[tokio::test]
async fn a_draining_server_tells_its_clients_and_the_last_one_closes_the_door() {
    let mut rig = Rig::start().await;
    let client = rig.client("everything").await;
    assert!(client.introspect(TOKEN).await.is_ok());
    rig.phase.send_replace(Phase::Draining);
    let door = rig.door.take().unwrap();
    // Ends by itself, because the client leaves when it is asked to: nobody says `Closed`.
    tokio::task::spawn_blocking(move || door.join()).await.unwrap();
    let mut options = rig.options("everything");
    options.connect_deadline = Duration::from_millis(300);
    assert!(matches!(Client::connect(options).await, Err(Error::Unavailable(_))));
}

#[tokio::test]
async fn a_caller_that_vanishes_is_closed_and_one_that_changes_is_updated() {
    let rig = Rig::start().await;
    let everything = rig.client("everything").await;
    let nothing = rig.client("nothing").await;
    assert!(nothing.introspect(TOKEN).await.is_err());
    let mut changed = callers();
    changed.retain(|(caller, _)| caller.id.as_str() != "everything");
    let ask = changed[0].0.rights.clone();
    changed.iter_mut().filter(|(caller, _)| caller.id.as_str() == "nothing").for_each(|(caller, _)| {
        caller.rights = ask.clone();
    });
    rig.shared.callers.store(std::sync::Arc::new(Callers::new(changed)));
    assert!(matches!(everything.introspect(TOKEN).await, Err(Error::Unauthorized(_))));
    assert!(matches!(nothing.introspect(TOKEN).await, Ok(Verdict::Active(_))));
}

#[tokio::test]
async fn new_certificates_and_roots_take_effect_without_a_restart() {
    let rig = Rig::start().await;
    let client = rig.client("everything").await;
    let next = Ca::new();
    rig.door.as_ref().unwrap().reload(&material(&next)).unwrap();
    assert!(client.introspect(TOKEN).await.is_ok(), "connections that are there stay");
    let mut options = rig.options_as(&next.issue("everything.test"));
    options.ca_pem = next.pem.clone().into_bytes();
    assert!(Client::connect(options).await.unwrap().introspect(TOKEN).await.is_ok());
    let mut old = rig.options("everything");
    old.connect_deadline = Duration::from_secs(2);
    assert!(Client::connect(old).await.is_err(), "the old roots are gone");
}

fn echo(request: ApiRequest) -> TunnelAnswer {
    match request.path.as_str() {
        "/v1/large" => TunnelAnswer { status: 200, body: vec![b'x'; 100_000] },
        "/v1/huge" => TunnelAnswer { status: 200, body: vec![b'x'; 5_000_000] },
        "/v1/panic" => panic!("as it was asked to"),
        path => {
            let head = format!("{} {path} ", request.method.as_str());
            TunnelAnswer { status: 201, body: [head.as_bytes(), &request.body].concat() }
        }
    }
}

#[tokio::test]
async fn the_json_api_is_reached_through_the_tunnel() {
    let tunnel = Tunnel::new(tokio::runtime::Handle::current(), |_, caller, request, _| -> Answering {
        assert_eq!(caller.id.as_str(), "everything");
        Box::pin(async move { echo(request) })
    });
    let rig = Rig::start_with(QuicOptions::default(), tunnel).await;
    let client = rig.client("everything").await;
    let body = vec![b'y'; 60_000];
    let answer = client.api("POST", "/v1/grants?dry_run=1", &body).await.unwrap();
    assert_eq!(answer.status, 201);
    assert_eq!(answer.body, [b"POST /v1/grants?dry_run=1 ".as_slice(), &body].concat());
    let large = client.api("GET", "/v1/large", b"").await.unwrap();
    assert_eq!((large.status, large.body.len()), (200, 100_000));
    let huge = client.api("GET", "/v1/huge", b"").await;
    assert!(matches!(huge, Err(Error::Refused { code: ErrorCode::TooLarge, .. })), "{huge:?}");
    let panicked = client.api("POST", "/v1/panic", b"").await;
    assert!(matches!(panicked, Err(Error::Refused { code: ErrorCode::OutcomeUnknown, .. })), "{panicked:?}");
    assert_eq!(rig.shared.stats.panics.load(Relaxed), 1);
    assert!(matches!(client.api("GET", "/v1/x", &vec![0; 66_000]).await, Err(Error::Options(_))));
    assert!(matches!(client.api("TRACE", "/v1/x", b"").await, Err(Error::Options(_))));
    assert!(client.introspect(TOKEN).await.is_ok(), "the connection has survived all of it");
}

#[tokio::test]
async fn more_connections_than_a_caller_may_have_are_refused() {
    let options = QuicOptions { connections_per_caller: 2, ..QuicOptions::default() };
    let rig = Rig::start_with(options, Tunnel::closed()).await;
    let first = rig.client("everything").await;
    // Two of the second client's two connections are too many.
    let mut options = rig.options("everything");
    options.connect_deadline = Duration::from_secs(3);
    let mut both_up = false;
    while !both_up {
        // The first client's second connection may still be on its way.
        both_up = rig.shared.stats.quic.connections.load(Relaxed) >= 2;
        assert!(first.introspect(TOKEN).await.is_ok());
    }
    assert_eq!(Client::connect(options).await.err(), Some(Error::Overloaded));
    assert!(rig.client("only-a").await.introspect(TOKEN).await.is_ok(), "another caller has room");
}

#[tokio::test]
async fn a_server_that_always_wants_addresses_proved_is_reached_all_the_same() {
    let options = QuicOptions { retry: RetryPolicy::Always, threads: 2, ..QuicOptions::default() };
    let rig = Rig::start_with(options, Tunnel::closed()).await;
    assert!(rig.client("everything").await.introspect(TOKEN).await.is_ok());
}

#[tokio::test]
async fn what_is_in_flight_when_a_shutdown_begins_is_answered_before_the_door_closes() {
    let (release, held) = tokio::sync::watch::channel(false);
    let (arrive, mut arrived) = tokio::sync::watch::channel(false);
    let tunnel = Tunnel::new(tokio::runtime::Handle::current(), move |_, _, request, _| -> Answering {
        let mut held = held.clone();
        arrive.send_replace(true);
        Box::pin(async move {
            held.wait_for(|free| *free).await.unwrap();
            echo(request)
        })
    });
    let mut rig = Rig::start_with(QuicOptions::default(), tunnel).await;
    let client = rig.client("everything").await;
    let asking = client.clone();
    let asked = tokio::spawn(async move { asking.api("POST", "/v1/slow", b"").await });
    arrived.wait_for(|there| *there).await.unwrap();
    rig.phase.send_replace(Phase::Draining);
    // Three times as long as a quiet connection is kept.
    tokio::time::sleep(Duration::from_millis(300)).await;
    release.send_replace(true);
    assert_eq!(asked.await.unwrap().unwrap().status, 201);
    let door = rig.door.take().unwrap();
    tokio::task::spawn_blocking(move || door.join()).await.unwrap();
}

/// Every run of the command line left its connection open until the server noticed the silence, so the 65th within
/// fifteen seconds was refused.
#[tokio::test]
async fn a_client_that_is_closed_gives_its_places_back_at_once() {
    let options = QuicOptions { connections_per_caller: 4, connections_per_address: 4, ..QuicOptions::default() };
    let rig = Rig::start_with(options, Tunnel::closed()).await;
    for _ in 0..20 {
        let client = rig.client("everything").await;
        assert!(client.introspect(TOKEN).await.is_ok());
        let other = client.clone();
        client.close().await;
        client.close().await;
        assert_eq!(other.introspect(TOKEN).await, Err(Error::Closed));
    }
}
