//! The near-cache against a real server: hits, fences, own changes, a server that goes, many who ask the same.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokenscope::client::{Client, Decision, Error, NearCache, NearOptions, Revoke, Token, Wait};
use tokenscope::domain::{Denial, PolicyEntry, WorkspaceId};
use tokenscope::server::quic_limits::QuicOptions;
use tokenscope::server::tunnel::Tunnel;
use tokenscope::service::request::ChangeRequest;

use crate::protocol::rig::{Ca, Rig, TOKEN, times};

const PATIENCE: Duration = Duration::from_secs(20);

async fn leasing(lease: Duration) -> Rig {
    Rig::start_leasing(lease, QuicOptions::default(), Tunnel::closed(), Arc::new(Ca::new())).await
}

async fn cache(rig: &Rig, options: NearOptions) -> NearCache {
    let cache = NearCache::follow(rig.client("everything").await, options).unwrap();
    cache.live(PATIENCE).await.unwrap();
    cache
}

/// Waits until memory says so: until an announcement has arrived, or an answer from beyond the feed has been caught up.
async fn holds(cache: &NearCache, scope: &str, place: &str, wanted: Option<Decision>) {
    let began = Instant::now();
    while cache.held(TOKEN, scope, place) != wanted {
        assert!(began.elapsed() < PATIENCE, "memory never says {wanted:?}: {:?}", cache.counters());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn after_one_question_every_scope_there_is_answered_from_memory() {
    let rig = leasing(Duration::from_secs(60)).await;
    let cache = cache(&rig, NearOptions::default()).await;
    assert_eq!(cache.held(TOKEN, "tasks:read", "A"), None);
    assert_eq!(cache.check(TOKEN, "tasks:read", "A").await, Ok(Decision::Allowed));
    holds(&cache, "tasks:read", "A", Some(Decision::Allowed)).await;
    let denied = Decision::Denied(Denial::ScopeNotGranted);
    assert_eq!(cache.check(TOKEN, "tasks:write", "A").await, Ok(denied));
    holds(&cache, "tasks:write", "A", Some(denied)).await;
    assert_eq!(cache.check(TOKEN, "tasks:write", "A/1").await, Ok(Decision::Allowed));
    assert_eq!(cache.check(TOKEN, "no such scope", "A").await, Ok(Decision::Denied(Denial::ScopeUnknown)));
    let before = cache.counters();
    for _ in 0..100 {
        assert_eq!(cache.check(TOKEN, "tasks:read", "A").await, Ok(Decision::Allowed));
    }
    let after = cache.counters();
    assert_eq!((after.hits - before.hits, after.fills - before.fills), (100, 0));
    assert!(after.live && after.follows == 1 && cache.occupancy().0 == 2);
}

#[tokio::test]
async fn a_token_that_is_not_active_is_never_held_and_works_the_moment_it_is_registered() {
    let rig = leasing(Duration::from_secs(60)).await;
    let cache = cache(&rig, NearOptions::default()).await;
    for _ in 0..3 {
        assert_eq!(cache.check("later", "tasks:read", "A").await, Ok(Decision::Inactive));
    }
    assert_eq!(cache.occupancy().0, 0);
    let new = tokenscope::client::NewToken {
        token: Token::from("later"),
        grant: rig.grant,
        times: times(),
        confirmation: None,
        audience: None,
    };
    rig.client("everything").await.register(&new).await.unwrap();
    assert_eq!(cache.check("later", "tasks:read", "A").await, Ok(Decision::Allowed));
}

#[tokio::test]
async fn after_a_fenced_revocation_nothing_is_accepted_from_memory() {
    // Nobody could wait for the end of this lease: the fence returns because the follower acknowledges.
    let rig = leasing(Duration::from_secs(60)).await;
    let cache = cache(&rig, NearOptions { lease: Duration::from_secs(60), ..NearOptions::default() }).await;
    let admin = rig.client("everything").await;
    for _ in 0..3 {
        cache.check(TOKEN, "tasks:read", "A").await.unwrap();
        cache.check(TOKEN, "tasks:read", "B").await.unwrap();
    }
    holds(&cache, "tasks:read", "A", Some(Decision::Allowed)).await;
    admin.revoke_and_wait(Revoke::Token(TOKEN.into()), Wait::Fenced).await.unwrap();
    assert_eq!(cache.held(TOKEN, "tasks:read", "A"), None);
    assert_eq!(cache.held(TOKEN, "tasks:read", "B"), None);
    assert_eq!(cache.check(TOKEN, "tasks:read", "A").await, Ok(Decision::Inactive));
}

#[tokio::test]
async fn what_an_admin_changes_is_announced_and_undone_exactly() {
    let rig = leasing(Duration::from_secs(60)).await;
    let cache = cache(&rig, NearOptions::default()).await;
    cache.check(TOKEN, "tasks:read", "A").await.unwrap();
    holds(&cache, "tasks:read", "A", Some(Decision::Allowed)).await;
    let entry = |entry| {
        let workspace = WorkspaceId::parse("A").unwrap();
        ChangeRequest::SetPolicyEntry(workspace, tokenscope::domain::ClientId::parse("zapper").unwrap(), entry)
    };
    rig.change(entry(PolicyEntry::Block)).await;
    holds(&cache, "tasks:read", "A", None).await;
    assert_eq!(cache.check(TOKEN, "tasks:read", "A").await, Ok(Decision::Denied(Denial::AppBlocked)));
    rig.change(entry(PolicyEntry::Unblock)).await;
    let began = Instant::now();
    while cache.check(TOKEN, "tasks:read", "A").await != Ok(Decision::Allowed) {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn whoever_revokes_over_the_same_client_sees_it_at_once_without_a_fence() {
    let rig = leasing(Duration::from_secs(60)).await;
    let client: Client = rig.client("everything").await;
    let cache = NearCache::follow(client.clone(), NearOptions::default()).unwrap();
    cache.live(PATIENCE).await.unwrap();
    cache.check(TOKEN, "tasks:read", "A").await.unwrap();
    holds(&cache, "tasks:read", "A", Some(Decision::Allowed)).await;
    client.revoke(Revoke::Token(TOKEN.into())).await.unwrap();
    assert_eq!(cache.check(TOKEN, "tasks:read", "A").await, Ok(Decision::Inactive));
}

#[tokio::test]
async fn without_a_server_memory_answers_until_the_lease_ends_and_beyond_only_if_asked_for() {
    let mut rig = leasing(Duration::from_millis(1_500)).await;
    let mut options = rig.options("everything");
    options.deadline = Duration::from_millis(200);
    let follow = |near: NearOptions| {
        let options = options.clone();
        async move {
            let cache = NearCache::follow(Client::connect(options).await.unwrap(), near).unwrap();
            cache.live(PATIENCE).await.unwrap();
            cache.check(TOKEN, "tasks:read", "A").await.unwrap();
            holds(&cache, "tasks:read", "A", Some(Decision::Allowed)).await;
            cache
        }
    };
    let strict = follow(NearOptions::default()).await;
    let lenient = follow(NearOptions { allow_stale: Some(Duration::from_secs(60)), ..NearOptions::default() }).await;
    rig.closed().await;
    let began = Instant::now();
    let end = loop {
        match strict.check(TOKEN, "tasks:read", "A").await {
            Ok(decision) => assert_eq!(decision, Decision::Allowed),
            Err(error) => break error,
        }
        assert!(began.elapsed() < PATIENCE, "it goes on without a server");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(!strict.is_live() && matches!(end, Error::Unavailable(_) | Error::Timeout), "{end:?}");
    assert!(strict.counters().no_verdict > 0 && strict.counters().beyond_lease == 0);
    while lenient.is_live() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(lenient.check(TOKEN, "tasks:read", "A").await, Ok(Decision::Allowed));
    assert!(lenient.counters().beyond_lease > 0);
    assert!(lenient.check("another", "tasks:read", "A").await.is_err(), "what was not held is not made up");
    // The same server again: what is held is right again without a question.
    rig.open_again(QuicOptions::default());
    strict.live(PATIENCE).await.unwrap();
    assert_eq!(strict.check(TOKEN, "tasks:read", "A").await, Ok(Decision::Allowed));
    assert!(strict.counters().follows >= 2);
}

#[tokio::test]
async fn many_who_ask_the_same_at_once_cost_one_or_two_questions() {
    let rig = leasing(Duration::from_secs(60)).await;
    let cache = cache(&rig, NearOptions::default()).await;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let cache = cache.clone();
        asking.spawn(async move { cache.check(TOKEN, "tasks:read", "A").await });
    }
    while let Some(answer) = asking.join_next().await {
        assert_eq!(answer.unwrap(), Ok(Decision::Allowed));
    }
    let counters = cache.counters();
    assert!(counters.fills <= 2, "{counters:?}");
}

#[tokio::test]
async fn a_caller_that_may_not_ask_gets_no_lease() {
    let rig = leasing(Duration::from_secs(60)).await;
    let cache = NearCache::follow(rig.client("nothing").await, NearOptions::default()).unwrap();
    let refused = cache.live(Duration::from_millis(500)).await;
    assert!(matches!(refused, Err(Error::Unauthorized(_))), "{refused:?}");
    assert!(cache.check(TOKEN, "tasks:read", "A").await.is_err());
}
