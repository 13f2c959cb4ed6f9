//! Followers by hand on a real server: announcements, leases, fences, and what becomes of followers that misbehave.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use quinn::{TransportConfig, VarInt};
use tokenscope::domain::{Denial, GrantId, Revision, Sequence, SubjectId};
use tokenscope::server::credentials::Callers;
use tokenscope::server::quic_limits::QuicOptions;
use tokenscope::server::tunnel::Tunnel;
use tokenscope::service::caller::Rights;
use tokenscope::service::request::{ChangeRequest, RevokeTarget};
use tokenscope::wire::follow::{Announced, Follower, Resume, Touched, read_announced, write_follower};
use tokenscope::wire::message::{Answer, Envelope, ErrorCode, Request, Revocation, Wait};
use tokenscope::wire::{ALPN, CloseCode, STREAM_FEED, encode};

use super::bytes::{ByHand, Stream, connect_with, known};
use super::rig::{Ca, NOW, Rig, TOKEN, callers, place};

/// What a follower hears, kept.
#[derive(Clone, PartialEq, Debug)]
enum Heard {
    Following { resumed: bool, incarnation: u64, sequence: Sequence, lease_ms: u32 },
    Touched { previous: Sequence, sequence: Sequence, tags: Option<Vec<u64>> },
    Lease { id: u32, previous: Sequence, sequence: Sequence },
    StartOver(Sequence),
}

struct Follows {
    stream: Stream,
}

impl Follows {
    async fn begin(by_hand: &ByHand, resume: Option<Resume>) -> Self {
        let mut stream = by_hand.stream_of(STREAM_FEED).await.greeted().await;
        say(&mut stream, &Follower::Follow { id: 1, lease_ms: 0, resume }).await;
        Self { stream }
    }

    async fn say(&mut self, said: Follower) {
        say(&mut self.stream, &said).await;
    }

    async fn hear(&mut self) -> Heard {
        let heard = self.stream.hear_raw(|raw| match read_announced(raw).unwrap() {
            Announced::Following { resumed, incarnation, sequence, lease_ms, server_time_ms, .. } => {
                assert_eq!(server_time_ms, NOW.seconds() * 1_000);
                Heard::Following { resumed, incarnation, sequence, lease_ms }
            }
            Announced::Touched { previous, sequence, touched } => {
                let tags = match touched {
                    Touched::Everything => None,
                    Touched::Tags(tags) => Some(tags.collect()),
                };
                Heard::Touched { previous, sequence, tags }
            }
            Announced::Lease { id, previous, sequence, .. } => Heard::Lease { id, previous, sequence },
            Announced::StartOver { sequence } => Heard::StartOver(sequence),
        });
        heard.await.expect("the stream goes on")
    }

    /// Renews and hears the lease; nothing else is announced before it.
    async fn renew(&mut self, id: u32) -> Sequence {
        self.say(Follower::Renew { id, acknowledged: Sequence::ZERO }).await;
        match self.hear().await {
            Heard::Lease { id: same, sequence, .. } if same == id => sequence,
            other => panic!("{other:?}"),
        }
    }
}

/// A follower that has a lease and will never acknowledge anything.
pub async fn leased(by_hand: &ByHand) -> impl Sized + use<> {
    let mut follows = Follows::begin(by_hand, None).await;
    assert!(matches!(follows.hear().await, Heard::Following { .. }));
    follows.renew(2).await;
    follows
}

async fn say(stream: &mut Stream, said: &Follower) {
    let mut bytes = Vec::new();
    write_follower(&mut bytes, said);
    stream.say(&bytes).await;
}

async fn ask(stream: &mut Stream, id: u32, request: Request<'_>) {
    let mut bytes = Vec::new();
    encode::request(&mut bytes, &Envelope { id, least: None, request }).unwrap();
    stream.say(&bytes).await;
}

fn revoke_token(wait: Wait) -> Request<'static> {
    Request::Revoke(Revocation::Digest(tokenscope::client::digest(TOKEN)), wait)
}

/// The sequence of the receipt with this id.
async fn receipt(stream: &mut Stream, id: u32) -> Sequence {
    stream
        .hear(|told, answer| match answer {
            Answer::Done { sequence, .. } if told == id => sequence,
            other => panic!("{other:?}"),
        })
        .await
}

async fn leasing(lease_ms: u64) -> Rig {
    let (options, lease) = (QuicOptions::default(), Duration::from_millis(lease_ms));
    Rig::start_leasing(lease, options, Tunnel::closed(), Arc::new(Ca::new())).await
}

#[tokio::test]
async fn a_fenced_revocation_is_announced_acknowledged_and_only_then_receipted() {
    // Nobody could wait for the end of this lease: without the acknowledgement there is no receipt.
    let rig = leasing(60_000).await;
    let by_hand = known(&rig).await;
    let mut follows = Follows::begin(&by_hand, None).await;
    let head = rig.shared.service.revision().sequence;
    match follows.hear().await {
        Heard::Following { resumed: false, sequence, lease_ms: 60_000, .. } => assert_eq!(sequence, head),
        other => panic!("{other:?}"),
    }
    assert_eq!(follows.renew(2).await, head);
    let mut asks = by_hand.stream().await.greeted().await;
    let digest = tokenscope::client::digest(TOKEN);
    ask(&mut asks, 3, Request::Facts { digest, place: "A" }).await;
    let token_tag = asks
        .hear(|id, answer| match answer {
            Answer::Facts(facts) => {
                assert_eq!((id, facts.head.sequence), (3, head));
                facts.head.tags[0]
            }
            other => panic!("{other:?}"),
        })
        .await;
    let mut revokes = by_hand.stream().await.greeted().await;
    ask(&mut revokes, 4, revoke_token(Wait::Fenced)).await;
    let sequence = head.next();
    let announced = Heard::Touched { previous: head, sequence, tags: Some(vec![token_tag]) };
    assert_eq!(follows.hear().await, announced);
    let stats = &rig.shared.stats.feed;
    assert_eq!(stats.fences.read().0.iter().sum::<u64>(), 0, "no receipt before the acknowledgement");
    follows.say(Follower::Acknowledge { sequence }).await;
    assert_eq!(receipt(&mut revokes, 4).await, sequence);
    assert_eq!((stats.fences.read().0.iter().sum::<u64>(), stats.outwaited.load(Relaxed)), (1, 0));
    ask(&mut asks, 5, Request::Facts { digest, place: "A" }).await;
    asks.hear(|_, answer| assert_eq!(answer, Answer::Inactive { sequence })).await;
}

#[tokio::test]
async fn a_follower_that_does_not_acknowledge_delays_a_fenced_revocation_by_its_lease_at_most() {
    let rig = leasing(700).await;
    let by_hand = known(&rig).await;
    let mut follows = Follows::begin(&by_hand, None).await;
    follows.hear().await;
    follows.renew(2).await;
    let leased = Instant::now();
    let mut revokes = by_hand.stream().await.greeted().await;
    ask(&mut revokes, 3, revoke_token(Wait::Fenced)).await;
    assert!(matches!(follows.hear().await, Heard::Touched { .. }));
    // It hears, and renews, and says nothing of having applied anything.
    follows.renew(4).await;
    receipt(&mut revokes, 3).await;
    assert!(leased.elapsed() >= Duration::from_millis(600), "{:?}", leased.elapsed());
    let stats = &rig.shared.stats.feed;
    assert_eq!(stats.outwaited.load(Relaxed), 1, "it was waited for until its lease was over, and no longer");
    // Without a wait nobody is waited for.
    follows.renew(5).await;
    let fences = || stats.fences.read().0.iter().sum::<u64>();
    let before = fences();
    ask(&mut revokes, 6, revoke_token(Wait::Applied)).await;
    receipt(&mut revokes, 6).await;
    assert_eq!(fences(), before);
}

#[tokio::test]
async fn a_follower_that_is_gone_is_waited_for_until_its_lease_is_over() {
    let rig = leasing(700).await;
    let by_hand = known(&rig).await;
    let mut follows = Follows::begin(&by_hand, None).await;
    follows.hear().await;
    let leased = Instant::now();
    follows.renew(2).await;
    by_hand.connection.close(VarInt::from_u32(0), b"");
    let other = known(&rig).await;
    let mut revokes = other.stream().await.greeted().await;
    ask(&mut revokes, 3, revoke_token(Wait::Fenced)).await;
    receipt(&mut revokes, 3).await;
    assert!(leased.elapsed() >= Duration::from_millis(690), "{:?}", leased.elapsed());
}

#[tokio::test]
async fn a_follower_that_never_reads_is_cut_and_holds_nobody_up() {
    let options = QuicOptions { write_deadline: Duration::from_millis(100), ..QuicOptions::default() };
    let rig = Rig::start_with(options, Tunnel::closed()).await;
    let mut narrow = TransportConfig::default();
    narrow.stream_receive_window(VarInt::from_u32(256));
    let identity = rig.ca.issue("everything.test");
    let by_hand = connect_with(&rig, Some(&identity), ALPN, narrow).await.unwrap();
    let mut follows = Follows::begin(&by_hand, None).await;
    follows.hear().await;
    let changes = async {
        for number in 0.. {
            let who = SubjectId::parse(&format!("subject-{number}")).unwrap();
            rig.change(ChangeRequest::AddMember(who, place("A"))).await;
        }
    };
    tokio::select! {
        () = changes => {}
        code = by_hand.closed_with() => assert_eq!(code, Some(CloseCode::TooSlow)),
    }
    assert_eq!(rig.shared.stats.feed.cut.load(Relaxed), 1);
    assert_eq!(rig.shared.service.feed().followers(), 0);
}

#[tokio::test]
async fn a_follower_resumes_where_it_stood_and_starts_over_at_another_start_of_the_server() {
    let rig = Rig::start().await;
    let by_hand = known(&rig).await;
    let mut follows = Follows::begin(&by_hand, None).await;
    let Heard::Following { incarnation, sequence, .. } = follows.hear().await else { panic!("not following") };
    follows.stream.send.reset(VarInt::from_u32(0)).unwrap();
    drop(follows);
    rig.change(ChangeRequest::Revoke(RevokeTarget::Grant(rig.grant))).await;
    let revision = Revision { sequence, ..rig.shared.service.revision() };
    let resume = Resume { revision, incarnation };
    let mut again = Follows::begin(&by_hand, Some(resume)).await;
    assert!(matches!(again.hear().await, Heard::Following { resumed: true, sequence: same, .. } if same == sequence));
    match again.hear().await {
        Heard::Touched { previous, sequence: now, tags: Some(tags) } => {
            assert_eq!((previous, now, tags.len()), (sequence, sequence.next(), 1));
        }
        other => panic!("{other:?}"),
    }
    // The same list and epoch, another start.
    let restarted = Rig::start().await;
    let by_hand = known(&restarted).await;
    let mut anew = Follows::begin(&by_hand, Some(resume)).await;
    match anew.hear().await {
        Heard::Following { resumed: false, incarnation: other, .. } => assert_ne!(other, incarnation),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn when_callers_are_replaced_a_follower_starts_over_or_is_refused() {
    let rig = Rig::start().await;
    let by_hand = known(&rig).await;
    let mut follows = Follows::begin(&by_hand, None).await;
    follows.hear().await;
    let head = follows.renew(2).await;
    rig.shared.callers.store(Arc::new(Callers::new(callers())));
    rig.shared.service.feed().start_over();
    assert_eq!(follows.hear().await, Heard::StartOver(head));
    follows.say(Follower::Acknowledge { sequence: head }).await;
    let mut fewer = callers();
    fewer[0].0.rights = Rights { operate: true, ..Rights::default() };
    rig.shared.callers.store(Arc::new(Callers::new(fewer)));
    rig.shared.service.feed().start_over();
    follows.stream.hears_error(0, ErrorCode::Forbidden).await;
    assert_eq!(follows.stream.hear_raw(|_| ()).await, None, "and the stream ends");
}

#[tokio::test]
async fn who_may_not_ask_may_not_follow() {
    let rig = Rig::start().await;
    let identity = rig.ca.issue("nothing.test");
    let by_hand = connect_with(&rig, Some(&identity), ALPN, TransportConfig::default()).await.unwrap();
    let mut follows = Follows::begin(&by_hand, None).await;
    follows.stream.hears_error(1, ErrorCode::Forbidden).await;
}

#[tokio::test]
async fn what_no_follower_may_say_ends_its_stream_and_nothing_else() {
    let rig = Rig::start().await;
    let by_hand = known(&rig).await;
    let beyond = Sequence(1_000);
    for (said, id) in [
        (vec![Follower::Renew { id: 5, acknowledged: Sequence::ZERO }], 5),
        (vec![Follower::Acknowledge { sequence: Sequence::ZERO }], 0),
        (vec![Follower::Follow { id: 5, lease_ms: 0, resume: None }; 2], 5),
        (vec![Follower::Follow { id: 5, lease_ms: 0, resume: None }, Follower::Acknowledge { sequence: beyond }], 0),
        (
            vec![
                Follower::Follow { id: 5, lease_ms: 0, resume: None },
                Follower::Renew { id: 6, acknowledged: beyond },
            ],
            6,
        ),
    ] {
        let mut stream = by_hand.stream_of(STREAM_FEED).await.greeted().await;
        for said in &said {
            say(&mut stream, said).await;
        }
        if said.len() > 1 {
            stream.hear_raw(|raw| assert!(read_announced(raw).is_ok())).await;
        }
        stream.hears_error(id, ErrorCode::Malformed).await;
        assert_eq!(stream.hear_raw(|_| ()).await, None, "{said:?}");
    }
    let mut stream = by_hand.stream_of(STREAM_FEED).await.greeted().await;
    ask(&mut stream, 7, revoke_token(Wait::Applied)).await;
    stream.hears_error(7, ErrorCode::UnknownMessage).await;
    let mut asks = by_hand.stream().await.greeted().await;
    ask(&mut asks, 8, Request::ResolveScope("tasks:read")).await;
    asks.hear(|id, answer| assert!(id == 8 && matches!(answer, Answer::Resolved { .. }))).await;
}

#[tokio::test]
async fn facts_decide_as_a_check_does() {
    let rig = Rig::start().await;
    let by_hand = known(&rig).await;
    let mut asks = by_hand.stream().await.greeted().await;
    let digest = tokenscope::client::digest(TOKEN);
    let position = |scope: &str| rig.shared.service.scope_position(&rig.shared.service.pin(), scope).unwrap();
    for (scope, at, due) in [
        ("tasks:read", "A", Ok(())),
        ("tasks:write", "A/1", Ok(())),
        ("tasks:read", "A/1", Ok(())),
        ("tasks:write", "B", Err(Denial::ScopeNotGranted)),
        ("tasks:read", "C", Err(Denial::PlaceNotGranted)),
    ] {
        ask(&mut asks, 1, Request::Facts { digest, place: at }).await;
        let decided = asks.hear(|_, answer| match answer {
            Answer::Facts(facts) => facts.head.place.decide(position(scope), facts.pairs),
            other => panic!("{other:?}"),
        });
        assert_eq!(decided.await, due, "{scope} at {at}");
    }
    ask(&mut asks, 2, Request::Facts { digest: tokenscope::client::digest("nobody's"), place: "A" }).await;
    asks.hear(|_, answer| assert!(matches!(answer, Answer::Inactive { .. }))).await;
    let identity = rig.ca.issue("only-a.test");
    let by_hand = connect_with(&rig, Some(&identity), ALPN, TransportConfig::default()).await.unwrap();
    let mut asks = by_hand.stream().await.greeted().await;
    ask(&mut asks, 3, Request::Facts { digest, place: "B" }).await;
    asks.hears_error(3, ErrorCode::ForbiddenPlace).await;
    assert_eq!(GrantId::new(1), Some(rig.grant));
}

#[tokio::test]
async fn a_flood_of_changes_reaches_a_follower_whole_and_in_order() {
    let rig = Rig::start().await;
    let by_hand = known(&rig).await;
    let mut follows = Follows::begin(&by_hand, None).await;
    follows.hear().await;
    let begun = follows.renew(2).await;
    let heard = async {
        let (mut stands, mut tags) = (begun, Vec::new());
        while tags.len() < 200 {
            match follows.hear().await {
                Heard::Touched { previous, sequence, tags: Some(more) } => {
                    assert_eq!((previous, sequence.0 - previous.0), (stands, more.len() as u64));
                    stands = sequence;
                    tags.extend(more);
                }
                other => panic!("{other:?}"),
            }
        }
        (stands, tags)
    };
    let changes = async {
        for number in 0..200 {
            let who = SubjectId::parse(&format!("subject-{number}")).unwrap();
            rig.change(ChangeRequest::AddMember(who, place("A"))).await;
        }
    };
    let ((stands, mut tags), ()) = tokio::join!(heard, changes);
    assert_eq!(stands, rig.shared.service.revision().sequence);
    tags.sort_unstable();
    tags.dedup();
    assert_eq!(tags.len(), 200, "each once");
}

/// One caller took all the places of followers, with connections of its own; there was a limit for all of them alone.
#[tokio::test]
async fn more_followers_than_a_caller_may_have_are_refused_and_others_follow() {
    let options = QuicOptions { followers_per_caller: 2, ..QuicOptions::default() };
    let rig = Rig::start_with(options, Tunnel::closed()).await;
    let (one, other) = (known(&rig).await, known(&rig).await);
    let mut first = Follows::begin(&one, None).await;
    let mut second = Follows::begin(&other, None).await;
    for follows in [&mut first, &mut second] {
        assert!(matches!(follows.hear().await, Heard::Following { .. }));
    }
    // Over all its connections together.
    for by_hand in [&one, &other] {
        let mut third = Follows::begin(by_hand, None).await;
        third.stream.hears_error(1, ErrorCode::Overloaded).await;
    }
    assert_eq!(rig.shared.stats.feed.followers.load(Relaxed), 2);
    let neighbour = connect_with(&rig, Some(&rig.ca.issue("only-a.test")), ALPN, TransportConfig::default()).await;
    let neighbour = neighbour.unwrap();
    let mut follows = Follows::begin(&neighbour, None).await;
    assert!(matches!(follows.hear().await, Heard::Following { .. }), "another caller has places of its own");
    // One that leaves makes room.
    drop(second);
    other.connection.close(VarInt::from_u32(0), b"");
    loop {
        let mut third = Follows::begin(&one, None).await;
        let mut followed = false;
        third
            .stream
            .hear_raw(|raw| followed = matches!(read_announced(raw), Ok(Announced::Following { .. })))
            .await
            .expect("an answer");
        if followed {
            break;
        }
    }
}
