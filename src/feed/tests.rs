//! Followers, leases and fences in virtual time, and what is read aloud against what was published.

use std::collections::HashSet;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::*;
use crate::domain::{
    Among, CallerId, Change, ClientId, GrantId, Place, PolicyMode, SubjectId, Switch, Target, Timestamp, TokenKey,
    WorkspaceId,
};

const LEASE: Duration = Duration::from_secs(2);
/// Tags that one announcement holds, in these tests.
const MOST: usize = 4;

fn at(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn options(head: u64) -> Options {
    Options::new(Epoch(9), Sequence(head), *b"an incarnation, and keys")
}

fn feed() -> Feed {
    Feed::new(&options(10))
}

/// A feed whose start was long ago for everybody who waits.
const LATER: f64 = 100.0;

fn key(number: u64) -> TokenKey {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    TokenKey::from_bytes(bytes)
}

fn entry(sequence: u64, change: Change) -> Entry {
    let by = CallerId::parse("test").unwrap();
    Entry { sequence: Sequence(sequence), at: Timestamp::from_raw(1), by, change }
}

/// Revokes the token with the number of its place in the list.
fn revocation(sequence: u64) -> Entry {
    entry(sequence, Change::Revoke(Target::Token(key(sequence))))
}

/// Changes nothing that anybody may hold.
fn nothing(sequence: u64) -> Entry {
    entry(sequence, Change::RegisterClient(ClientId::parse("app").unwrap()))
}

fn tag_of(feed: &Feed, sequence: u64) -> Tag {
    match feed.tagger().touched_by(&revocation(sequence).change) {
        Touch::Tag(tag) => tag,
        other => panic!("{other:?}"),
    }
}

fn follow(feed: &Feed) -> Follower {
    feed.follow(None, Duration::ZERO).unwrap().follower
}

/// Renews until there is a lease; gives back the lease and what was told before it.
fn renew(follower: &mut Follower, now: Duration) -> (Lease, Vec<News>) {
    let (mut told, mut tags) = (Vec::new(), Vec::new());
    for _ in 0..100_000 {
        let (news, lease) = follower.renew(now, MOST, &mut tags);
        if news != News::Nothing {
            told.push(news);
        }
        if let Some(lease) = lease {
            return (lease, told);
        }
    }
    panic!("no lease")
}

/// Everything that is to be told, as (sequence, tags), put together.
fn hear(follower: &mut Follower) -> Vec<(News, Vec<Tag>)> {
    let (mut all, mut tags) = (Vec::new(), Vec::new());
    loop {
        match follower.news(MOST, &mut tags) {
            News::Nothing => return all,
            news => all.push((news, tags.clone())),
        }
    }
}

fn is_ready(future: impl Future) -> bool {
    matches!(pin!(future).poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(_))
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

#[test]
fn what_is_told_is_in_order_without_gaps_and_each_touch_once() {
    for seed in 0..200 {
        let mut random = Random(seed);
        let feed = feed();
        let mut follower = follow(&feed);
        let (mut next, mut stands, mut heard, mut published) = (11, Sequence(10), Vec::new(), Vec::new());
        for _ in 0..40 {
            let batch: Vec<Entry> = (0..random.below(9))
                .map(|_| {
                    next += 1;
                    if random.below(4) == 0 { nothing(next - 1) } else { revocation(next - 1) }
                })
                .collect();
            published
                .extend(batch.iter().filter(|entry| matches!(entry.change, Change::Revoke(_))).map(|e| e.sequence));
            feed.publish(&batch);
            if random.below(3) == 0 {
                heard.extend(hear(&mut follower));
                let (Lease { previous, sequence, .. }, told) = renew(&mut follower, at(LATER));
                assert!(told.is_empty() && sequence == feed.head(), "seed {seed}");
                heard.push((News::Touched { previous, sequence, everything: false }, Vec::new()));
            }
        }
        heard.extend(hear(&mut follower));
        let mut told = HashSet::new();
        for (news, tags) in heard {
            let News::Touched { previous, sequence, everything: false } = news else { panic!("seed {seed}: {news:?}") };
            assert_eq!(previous, stands, "seed {seed}: a gap");
            assert!(sequence >= previous && tags.len() <= MOST, "seed {seed}");
            let due: Vec<Tag> = published
                .iter()
                .filter(|touched| **touched > previous && **touched <= sequence)
                .map(|touched| tag_of(&feed, touched.0))
                .collect();
            assert_eq!(tags, due, "seed {seed}: between {previous} and {sequence}");
            assert!(tags.iter().all(|tag| told.insert(*tag)), "seed {seed}: told twice");
            stands = sequence;
        }
        assert_eq!(told.len(), published.len(), "seed {seed}: left out");
    }
}

fn ends(news: &News) -> Option<Sequence> {
    match news {
        News::Nothing => None,
        News::Touched { sequence, .. } | News::StartOver { sequence } => Some(*sequence),
    }
}

#[test]
fn a_follower_that_went_away_goes_on_where_it_stood() {
    let feed = feed();
    feed.publish(&[revocation(11), nothing(12), revocation(13)]);
    let resume = |sequence| Resume { epoch: Epoch(9), incarnation: feed.incarnation(), sequence: Sequence(sequence) };
    for (from, told) in [(10, vec![11, 13]), (11, vec![13]), (12, vec![13]), (13, vec![])] {
        let Begun { mut follower, resumed, sequence, .. } = feed.follow(Some(resume(from)), Duration::ZERO).unwrap();
        assert!(resumed && sequence == Sequence(from));
        let heard: Vec<Tag> = hear(&mut follower).into_iter().flat_map(|(_, tags)| tags).collect();
        assert_eq!(heard, told.into_iter().map(|n| tag_of(&feed, n)).collect::<Vec<_>>(), "from {from}");
    }
    for (story, wrong) in [
        ("beyond the head", resume(14)),
        ("before the feed began", resume(9)),
        ("of another epoch", Resume { epoch: Epoch(8), ..resume(13) }),
        ("of another start", Resume { incarnation: feed.incarnation() + 1, ..resume(13) }),
    ] {
        let begun = feed.follow(Some(wrong), Duration::ZERO).unwrap();
        assert!(!begun.resumed && begun.sequence == Sequence(13), "{story}");
    }
}

#[test]
fn whoever_fell_out_of_the_ring_starts_over() {
    let feed = feed();
    let mut slow = follow(&feed);
    let last = 10 + RING_TOUCHES as u64;
    for sequence in 11..=last {
        feed.publish(&[revocation(sequence)]);
    }
    let resume = |sequence| {
        let resume = Resume { epoch: Epoch(9), incarnation: feed.incarnation(), sequence: Sequence(sequence) };
        feed.follow(Some(resume), Duration::ZERO).unwrap().resumed
    };
    assert!(resume(10), "the ring still holds everything");
    feed.publish(&[revocation(last + 1)]);
    assert!(!resume(10) && resume(11), "one fell out");
    assert_eq!(hear(&mut slow), [(News::StartOver { sequence: Sequence(last + 1) }, vec![])]);
    assert_eq!(hear(&mut slow), []);
    feed.publish(&[revocation(last + 2)]);
    let (lease, told) = renew(&mut slow, at(LATER));
    assert_eq!(told.len(), 1);
    assert_eq!((lease.previous, lease.sequence), (Sequence(last + 2), Sequence(last + 2)));
}

#[test]
fn when_rights_were_replaced_everybody_starts_over_and_nobody_resumes_from_before() {
    let feed = feed();
    feed.publish(&[revocation(11)]);
    let mut follower = follow(&feed);
    assert_eq!(hear(&mut follower), []);
    feed.start_over();
    assert!(is_ready(follower.stirred()), "it is told at once");
    let (lease, told) = renew(&mut follower, at(LATER));
    assert_eq!(told, [News::StartOver { sequence: Sequence(11) }], "before the next lease");
    assert_eq!(lease.previous, Sequence(11));
    let resume = |sequence| {
        let resume = Resume { epoch: Epoch(9), incarnation: feed.incarnation(), sequence: Sequence(sequence) };
        feed.follow(Some(resume), Duration::ZERO).unwrap().resumed
    };
    assert!(!resume(11), "it may have stood there before");
    feed.publish(&[revocation(12)]);
    assert!(resume(12));
}

#[test]
fn a_change_of_everything_is_told_as_such() {
    let feed = feed();
    let mut follower = follow(&feed);
    feed.publish(&[revocation(11), entry(12, Change::RetireScope("tasks:read".into())), revocation(13)]);
    let told = News::Touched { previous: Sequence(10), sequence: Sequence(13), everything: true };
    assert_eq!(hear(&mut follower), [(told, vec![])]);
}

#[test]
fn followers_are_woken_by_what_is_touched_and_by_nothing_else() {
    let feed = feed();
    let mut follower = follow(&feed);
    assert!(is_ready(follower.stirred()), "once at the beginning, for what came in between");
    feed.publish(&[nothing(11)]);
    assert!(!is_ready(follower.stirred()));
    feed.publish(&[nothing(12), revocation(13)]);
    assert!(is_ready(follower.stirred()));
    assert!(!is_ready(follower.stirred()));
}

#[test]
fn a_fence_hurries_whoever_has_not_been_told_and_nobody_else() {
    let feed = feed();
    let (mut told, mut untold) = (follow(&feed), follow(&feed));
    feed.publish(&[revocation(11), nothing(12)]);
    hear(&mut told);
    assert!(!untold.is_hurried() && !is_ready(untold.hurried()), "nobody waits yet");
    // Up to 12, but what was touched last is 11.
    let _fence = feed.fence(Sequence(12), at(LATER));
    assert!(!told.is_hurried() && !is_ready(told.hurried()));
    assert!(untold.is_hurried() && is_ready(untold.hurried()));
    assert!(!follow(&feed).is_hurried(), "it begins where the list is");
    hear(&mut untold);
    assert!(!untold.is_hurried() && !is_ready(untold.hurried()));
    // What comes after the fence is nobody's hurry, and an earlier fence takes nothing back.
    feed.publish(&[revocation(13)]);
    let _earlier = feed.fence(Sequence(11), at(LATER));
    assert!(!told.is_hurried() && !untold.is_hurried());
}

#[test]
fn leases_are_as_long_as_wanted_within_bounds() {
    let feed = Feed::new(&Options { lease: at(5.0), ..options(0) });
    for (wanted, given) in [(0.0, 5.0), (1.5, 1.5), (0.01, 0.2), (60.0, 5.0)] {
        assert_eq!(feed.follow(None, at(wanted)).unwrap().lease, at(given), "{wanted}");
    }
    assert_eq!(Feed::new(&Options { lease: at(3_600.0), ..options(0) }).lease(), LEASE_MAX);
    assert_eq!(Feed::new(&Options { lease: Duration::ZERO, ..options(0) }).lease(), LEASE_MIN);
}

#[test]
fn there_is_room_for_a_bounded_number_of_followers() {
    let feed = Feed::new(&Options { followers_max: 2, ..options(0) });
    let one = follow(&feed);
    let _other = follow(&feed);
    assert_eq!(feed.follow(None, LEASE).unwrap_err(), TooManyFollowers { most: 2 });
    drop(one);
    assert_eq!(feed.followers(), 1);
    let _again = follow(&feed);
}

#[test]
fn nobody_can_acknowledge_what_it_was_not_told() {
    let feed = feed();
    let mut follower = follow(&feed);
    feed.publish(&[revocation(11)]);
    assert_eq!(follower.acknowledge(Sequence(11)), Err(Untold { acknowledged: Sequence(11), told: Sequence(10) }));
    hear(&mut follower);
    follower.acknowledge(Sequence(11)).unwrap();
    follower.acknowledge(Sequence(0)).unwrap();
}

/// One follower with a lease from `LATER` on, and a change it has not heard of.
fn leased() -> (Feed, Follower) {
    let feed = feed();
    let mut follower = follow(&feed);
    renew(&mut follower, at(LATER));
    feed.publish(&[revocation(11)]);
    (feed, follower)
}

#[test]
fn a_fence_waits_for_the_acknowledgement() {
    let (feed, mut follower) = leased();
    let mut fence = feed.fence(Sequence(11), at(LATER));
    assert_eq!(fence.waits(at(LATER)), Some(at(LATER) + LEASE));
    assert!(!is_ready(fence.stirred()));
    hear(&mut follower);
    assert!(fence.waits(at(LATER)).is_some(), "told is not applied");
    follower.acknowledge(Sequence(11)).unwrap();
    assert!(is_ready(fence.stirred()));
    assert_eq!((fence.waits(at(LATER)), fence.outwaited()), (None, 0));
    assert_eq!(feed.fence(Sequence(11), at(LATER)).waits(at(LATER)), None, "and the next one has nothing to wait for");
}

#[test]
fn a_fence_never_takes_longer_than_one_lease_whatever_the_follower_does() {
    let (feed, mut follower) = leased();
    let mut fence = feed.fence(Sequence(11), at(LATER));
    // It renews and renews, and never acknowledges: whoever has a lease that was given after the change has heard of it.
    for step in 1..8 {
        renew(&mut follower, at(LATER + f64::from(step) * 0.25));
    }
    assert!(fence.waits(at(LATER + 1.99)).is_some());
    assert_eq!((fence.waits(at(LATER + 2.0)), fence.outwaited()), (None, 1));
    // A second fence, now: the leases since then are behind the change, but nobody has said that it was applied.
    let mut second = feed.fence(Sequence(11), at(LATER + 2.0));
    assert_eq!(second.waits(at(LATER + 2.0)), Some(at(LATER + 3.75)));
}

#[test]
fn who_has_no_lease_is_not_waited_for() {
    let feed = feed();
    let mut follower = follow(&feed);
    feed.publish(&[revocation(11)]);
    assert_eq!(feed.fence(Sequence(11), at(LATER)).waits(at(LATER)), None, "never had one");
    let (lease, told) = renew(&mut follower, at(LATER));
    assert!(told.len() == 1 && lease.sequence == Sequence(11) && !lease.had_lapsed, "but it hears of it first");
    assert_eq!(feed.fence(Sequence(11), at(LATER)).waits(at(LATER)), None, "so there is nothing to wait for");
    feed.publish(&[revocation(12)]);
    assert!(feed.fence(Sequence(12), at(LATER)).waits(at(LATER)).is_some());
    let over = at(LATER) + LEASE;
    assert_eq!(feed.fence(Sequence(12), over).waits(over), None, "its lease is over");
    assert!(renew(&mut follower, over).0.had_lapsed);
    assert_eq!(feed.fence(Sequence(12), over).waits(over), None, "its new lease came behind the change");
}

#[test]
fn a_follower_that_left_is_waited_for_until_its_lease_is_over() {
    let (feed, follower) = leased();
    let mut before = feed.fence(Sequence(11), at(LATER));
    drop(follower);
    assert_eq!(feed.followers(), 0);
    let mut after = feed.fence(Sequence(11), at(LATER + 0.5));
    for fence in [&mut before, &mut after] {
        assert_eq!(fence.waits(at(LATER + 0.5)), Some(at(LATER) + LEASE));
        assert!(!is_ready(fence.stirred()), "nobody is there to acknowledge");
        assert_eq!(fence.waits(at(LATER) + LEASE), None);
    }
}

#[test]
fn after_a_start_fences_wait_for_followers_nobody_knows() {
    for (grace, until) in [(LEASE, Some(LEASE)), (Duration::ZERO, None)] {
        let feed = Feed::new(&Options { grace, ..options(10) });
        feed.publish(&[revocation(11)]);
        assert_eq!(feed.fence(Sequence(11), at(0.1)).waits(at(0.1)), until);
        assert_eq!(feed.fence(Sequence(11), at(0.1)).waits(LEASE), None);
    }
}

#[test]
fn a_fence_behind_changes_that_touch_nothing_has_nothing_to_wait_for() {
    let (feed, mut follower) = leased();
    hear(&mut follower);
    follower.acknowledge(Sequence(11)).unwrap();
    feed.publish(&[nothing(12), nothing(13)]);
    assert_eq!(feed.fence(Sequence(13), at(LATER)).waits(at(LATER)), None);
    feed.publish(&[revocation(14)]);
    assert_eq!(feed.fence(Sequence(13), at(LATER)).waits(at(LATER)), None);
    assert!(feed.fence(Sequence(14), at(LATER)).waits(at(LATER)).is_some());
}

#[test]
fn no_history_makes_a_fence_pass_while_somebody_may_act_on_something_old() {
    // Followers that hear late, acknowledge late, stall, leave, come back; a fence for each change. Each keeps its own
    // account of what it may act on, as a near-cache does: what it has applied, and until when.
    struct Peer {
        follower: Follower,
        /// What was sent to it and not applied: where it then stands, and the lease end it brings.
        under_way: Vec<(Sequence, Option<Duration>)>,
        applied: Sequence,
        lease_end: Duration,
    }
    for seed in 0..300 {
        let mut random = Random(seed);
        let feed = feed();
        let mut now = at(LATER);
        let mut peers: Vec<Peer> = Vec::new();
        // Left, and still acting until their lease is over.
        let mut ghosts: Vec<(Sequence, Duration)> = Vec::new();
        let mut fences: Vec<(Sequence, Duration, Fence)> = Vec::new();
        let mut next = 11;
        for _ in 0..400 {
            now += Duration::from_millis(random.below(60));
            match random.below(10) {
                0 | 1 => {
                    feed.publish(&[revocation(next)]);
                    fences.push((Sequence(next), now, feed.fence(Sequence(next), now)));
                    next += 1;
                }
                2 if peers.len() < 4 => {
                    let begun = feed.follow(None, Duration::ZERO).unwrap();
                    let applied = begun.sequence;
                    peers.push(Peer { follower: begun.follower, under_way: Vec::new(), applied, lease_end: at(0.0) });
                }
                3 if !peers.is_empty() => {
                    let peer = peers.swap_remove(random.below(peers.len() as u64) as usize);
                    ghosts.push((peer.applied, peer.lease_end));
                }
                4..=6 => {
                    for peer in &mut peers {
                        if random.below(2) == 0 {
                            // Sent a little before it is read; the margin for drift is left out here.
                            let sent = now.saturating_sub(Duration::from_millis(random.below(300)));
                            let (lease, told) = renew(&mut peer.follower, now);
                            peer.under_way.extend(told.iter().filter_map(ends).map(|sequence| (sequence, None)));
                            peer.under_way.push((lease.sequence, Some(sent + lease.length)));
                        }
                    }
                }
                _ => {
                    for peer in &mut peers {
                        let told = hear(&mut peer.follower);
                        peer.under_way.extend(told.iter().filter_map(|(news, _)| ends(news)).map(|at| (at, None)));
                        for _ in 0..random.below(3) {
                            if peer.under_way.is_empty() {
                                break;
                            }
                            let (sequence, lease_end) = peer.under_way.remove(0);
                            peer.applied = peer.applied.max(sequence);
                            peer.lease_end = peer.lease_end.max(lease_end.unwrap_or_default());
                        }
                        if random.below(3) == 0 {
                            peer.follower.acknowledge(peer.applied).unwrap();
                        }
                    }
                }
            }
            fences.retain_mut(|(change, made, fence)| {
                let passed = fence.waits(now).is_none();
                assert!(passed || now < *made + LEASE, "seed {seed}: the fence of {change} takes longer than a lease");
                if passed {
                    let acting = peers.iter().map(|peer| (peer.applied, peer.lease_end)).chain(ghosts.iter().copied());
                    for (applied, lease_end) in acting {
                        assert!(
                            applied >= *change || lease_end <= now,
                            "seed {seed}: the fence of {change} passed, and somebody stands at {applied} until {lease_end:?}"
                        );
                    }
                }
                !passed
            });
        }
    }
}

#[test]
fn tags_tell_kinds_apart_and_change_with_the_start() {
    let feed = feed();
    let tagger = feed.tagger();
    let on = |text: &'static str| Dependence {
        token: key(1),
        grant: GrantId::new(1).unwrap(),
        subject: text,
        client: text,
        workspace: text,
    };
    let tags: HashSet<Tag> = tagger.tags_of(&on("10")).into_iter().chain(tagger.tags_of(&on("20"))).collect();
    assert_eq!(tags.len(), 8, "five, of which token and grant are the same for both");
    let other = Feed::new(&Options { seed: [7; 24], ..options(0) });
    assert!(other.tagger().tags_of(&on("10")).iter().all(|tag| !tags.contains(tag)));
    assert_ne!(other.incarnation(), feed.incarnation());
}

#[test]
fn each_kind_of_change_touches_what_the_table_says() {
    let feed = feed();
    let tagger = feed.tagger();
    let (who, whom) = (SubjectId::parse("ada").unwrap(), ClientId::parse("app").unwrap());
    let (there, id) = (WorkspaceId::parse("10").unwrap(), GrantId::new(7).unwrap());
    let on = Dependence { token: key(1), grant: id, subject: "ada", client: "app", workspace: "10" };
    let [token, grant, subject, client, workspace] = tagger.tags_of(&on).map(Touch::Tag);
    let project = || Place::parse("10/1").unwrap();
    let mark = |among| Target::IssuedBefore(Timestamp::from_raw(1), among);
    let revoked = [
        (Target::Token(key(1)), token),
        (Target::Grant(id), grant),
        (Target::SubjectClient(who.clone(), whom.clone()), subject),
        (Target::Subject(who.clone()), subject),
        (Target::Client(whom.clone()), client),
        (Target::WorkspaceClient(there.clone(), whom.clone()), workspace),
        (mark(Among::Grant(id)), grant),
        (mark(Among::Subject(who.clone())), subject),
        (mark(Among::Client(whom.clone())), client),
        (mark(Among::All), Touch::Everything),
    ];
    let changes = [
        (Change::SwitchClient(whom.clone(), Switch::Off), client),
        (Change::SwitchSubject(who.clone(), Switch::Off), subject),
        (Change::AddMember(who.clone(), project()), subject),
        (Change::RemoveMember(who, project()), subject),
        (Change::SetPolicyMode(there.clone(), PolicyMode::AllowAll), workspace),
        (Change::SwitchPersonal(there, Switch::Off), workspace),
        (Change::AddScope("a:b".into()), Touch::Everything),
        (Change::RegisterClient(whom), Touch::Nothing),
    ];
    let revoked = revoked.map(|(target, touch)| (Change::Revoke(target), touch));
    for (change, touch) in revoked.into_iter().chain(changes) {
        assert_eq!(tagger.touched_by(&change), touch, "{change:?}");
    }
}
