//! RFC 7009's `/revoke` of the shipped server, and a near-cache that follows it: what the answer waits for is a setting,
//! because the RFC has no word for it.

use std::time::Duration;

use tokenscope::client::{Client, Decision, NearCache, NearOptions};

use super::house::{House, PATIENCE, wait_for};
use super::native::options;

/// After a start a fence waits as long for followers nobody knows. That the one here acknowledged, the count of those that were
/// waited for in vain says.
const LEASE: Duration = Duration::from_secs(5);

/// The value of a metric without labels.
fn metric(house: &House, name: &str) -> f64 {
    let text = house.admin("/metrics").expect("an answer").text();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in {text}")).parse().expect("a number")
}

/// A server whose `/revoke` waits as its setting says, or as it does without one.
fn revokes(setting: &str, is_fenced: bool) {
    let mut house = House::with("\n[limits]\nfollower_lease = \"5s\"\n");
    house.configure(|text| text.replacen("[server]\n", &format!("[server]\n{setting}"), 1));
    house.start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let token = house.token("jonas-time").token.clone();
    let (client, cache) = runtime.block_on(async {
        let client = Client::connect(options(&house, "admin")).await.unwrap();
        let near = NearOptions { lease: LEASE, ..NearOptions::default() };
        let cache = NearCache::follow(client.clone(), near).unwrap();
        cache.live(PATIENCE).await.unwrap();
        (client, cache)
    });
    let held = || cache.held(&token, "tasks:read", "1579");
    wait_for("memory to hold it", || {
        assert_eq!(runtime.block_on(cache.check(&token, "tasks:read", "1579")), Ok(Decision::Allowed));
        held()
    });
    house.revoke(&token);
    if is_fenced {
        assert_eq!(held(), None, "the answer came before the near-cache had forgotten");
    } else {
        // It hears of it all the same, sooner or later than the answer.
        wait_for("the announcement", || held().is_none().then_some(()));
    }
    assert_eq!(runtime.block_on(cache.check(&token, "tasks:read", "1579")), Ok(Decision::Inactive));
    let fences = metric(&house, "tokenscope_fence_duration_seconds_count");
    let outwaited = metric(&house, "tokenscope_fences_outwaited_total");
    assert_eq!((fences, outwaited), (f64::from(u8::from(is_fenced)), 0.0), "{setting:?}");
    drop(cache);
    runtime.block_on(client.close());
}

// R7009-05.
#[test]
fn over_rfc_7009_a_revocation_waits_for_near_caches_where_the_configuration_says_so() {
    for (setting, is_fenced) in [
        ("", false),
        ("revocation_wait = \"applied\"\n", false),
        ("revocation_wait = \"durable\"\n", false),
        ("revocation_wait = \"fenced\"\n", true),
    ] {
        revokes(setting, is_fenced);
    }
}
