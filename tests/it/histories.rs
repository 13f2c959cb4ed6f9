//! What followers of a real service heard, against what was really done: ordered, each once, whole, resumed where they stood,
//! and never up to date when they were not (`tokenscope::testing::histories`).
//!
//! Random changes through the service and its writer's thread, several at once; followers that listen meanwhile, fall
//! behind, lose their stream, resume or begin anew, are told to forget, and live through restarts of the server: of the
//! same list, and of another one.

use std::collections::HashMap;
use std::time::Duration;

use tokenscope::domain::{Epoch, Sequence};
use tokenscope::feed::{Feed, Options as FeedOptions, Tagger};
use tokenscope::index;
use tokenscope::journal::Journal as _;
use tokenscope::service::Service;
use tokenscope::store::{self, Control, Limits};
use tokenscope::testing::histories::{Forgot, Listener, Made, Moment, Moments, Seen, Start, look};
use tokenscope::testing::{Listed, almighty, service_with};

use crate::dice::{Dice, seeds};
use crate::workload::{Step, steps};

/// Long enough for every fence to be over; leases do not matter here.
const NOW: Duration = Duration::from_secs(100);
/// Tags in one announcement at most.
const MOST: usize = 3;
const FOLLOWERS: usize = 4;

/// A start of the server, and what was done with it.
struct Running {
    service: Service,
    list: Listed,
    epoch: Epoch,
    from: Sequence,
    tagger: Tagger,
    /// When each change was asked for and answered.
    when: HashMap<Sequence, (Moment, Moment)>,
    forgot: Vec<Forgot>,
    _control: Control,
}

impl Running {
    /// Another start over this list.
    fn start(list: Listed, epoch: Epoch, seed: u64) -> Self {
        let (index, mut writer) = index::new();
        list.entries().iter().for_each(|entry| writer.apply(entry));
        let from = list.head().last;
        let mut secret = [0; 24];
        secret.chunks_exact_mut(8).zip(seed..).for_each(|(bytes, word)| bytes.copy_from_slice(&word.to_le_bytes()));
        let feed = Feed::new(&FeedOptions::new(epoch, from, secret));
        let tagger = feed.tagger().clone();
        let (committer, control) = store::start(writer, Box::new(list.clone()), feed, Limits::default());
        let service = service_with(index, committer, epoch);
        Self { service, list, epoch, from, tagger, when: HashMap::new(), forgot: Vec::new(), _control: control }
    }

    fn feed(&self) -> &Feed {
        self.service.feed()
    }

    /// Makes these changes at the same time; some may be refused.
    async fn change(&mut self, changes: &[Step], moments: &Moments) {
        let mut under_way = tokio::task::JoinSet::new();
        for (request, now) in changes {
            let (service, request, now, moments) = (self.service.clone(), request.clone(), *now, moments.clone());
            under_way.spawn(async move {
                let asked = moments.next();
                let done = service.change(&almighty(), request, now).await.ok()?;
                Some((done.revision.sequence, asked, moments.next()))
            });
        }
        while let Some(done) = under_way.join_next().await {
            if let Some((sequence, asked, answered)) = done.expect("a change that is made or refused") {
                // What changes nothing has the place of what was there.
                let known = self.when.entry(sequence).or_insert((asked, answered));
                *known = (known.0.min(asked), known.1.min(answered));
            }
        }
    }

    fn forget(&mut self, moments: &Moments) {
        let asked = moments.next();
        self.feed().start_over();
        self.forgot.push(Forgot { asked, answered: moments.next() });
    }

    /// Everything it did.
    fn told(&self) -> Start {
        let entries = self.list.entries();
        let made = entries.iter().filter(|entry| entry.sequence > self.from).map(|entry| {
            let (asked, answered) = self.when.get(&entry.sequence).copied().expect("every change was answered");
            Made { sequence: entry.sequence, touch: self.tagger.touched_by(&entry.change), asked, answered }
        });
        Start {
            epoch: self.epoch,
            incarnation: self.feed().incarnation(),
            from: self.from,
            made: made.collect(),
            forgot: self.forgot.clone(),
        }
    }
}

fn act(follower: &mut Listener, dice: &mut Dice, feed: &Feed, epoch: Epoch) {
    match dice.below(12) {
        0 => follower.follow(feed, epoch, false).expect("room"),
        1 | 2 => follower.follow(feed, epoch, true).expect("room"),
        3 => follower.lose(),
        4..=6 => follower.renew(NOW, MOST),
        7..=9 => drop(follower.listen(MOST)),
        _ => while follower.listen(MOST) {},
    }
}

async fn lived(dice: &mut Dice) -> Seen {
    let moments = Moments::default();
    let mut server = Running::start(Listed::default(), Epoch(1), dice.next());
    let mut followers: Vec<Listener> = (0..FOLLOWERS).map(|_| Listener::new(moments.clone())).collect();
    let mut starts = Vec::new();
    let all = steps(dice, 160);
    let mut left = all.as_slice();
    while !left.is_empty() {
        let (now, later) = left.split_at(left.len().min(1 + dice.below(12)));
        left = later;
        let (feed, epoch) = (server.feed().clone(), server.epoch);
        // They listen while the changes are made.
        let listening = async {
            for turn in 0..2 * FOLLOWERS {
                act(&mut followers[turn % FOLLOWERS], dice, &feed, epoch);
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(server.change(now, &moments), listening);
        if dice.chance(4) {
            server.forget(&moments);
        }
        if dice.chance(6) {
            // The same list again, or another one: nobody may go on there as if nothing had happened.
            let (list, epoch) = if dice.chance(50) {
                (server.list.clone(), server.epoch)
            } else {
                (Listed::default(), Epoch(server.epoch.0 + 1))
            };
            starts.push(server.told());
            followers.iter_mut().for_each(Listener::lose);
            server = Running::start(list, epoch, dice.next());
        }
    }
    starts.push(server.told());
    let mut all = Seen::default();
    for follower in &mut followers {
        if !follower.follows() {
            follower.follow(server.feed(), server.epoch, true).expect("room");
        }
        follower.renew(NOW, MOST);
        let history = follower.history();
        let seen = look(history, &starts).unwrap_or_else(|(number, fault)| {
            panic!("event {number}: {fault}\n{:?}", history.get(number.saturating_sub(4)..=number))
        });
        assert_eq!(seen.stands, Some(server.feed().head()), "with a lease it has heard everything");
        all += seen;
    }
    all
}

#[test]
fn what_followers_of_a_service_hear_is_true_of_what_was_done() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    let mut all = Seen::default();
    seeds("what_followers_of_a_service_hear_is_true_of_what_was_done", 40, |dice| {
        all += runtime.block_on(lived(dice));
    });
    println!("{all:?}");
    let counts = [all.begun, all.resumed, all.announcements, all.tags, all.leases, all.started_over];
    let one = std::env::var_os("TOKENSCOPE_SEED").is_some();
    assert!(one || counts.iter().all(|count| *count >= 40), "too little happened: {all:?}");
}
