//! True histories pass, broken ones are found: each way of breaking one, at every place where it can be done.

use std::time::Duration;

use super::*;
use crate::domain::{CallerId, Change, ClientId, Entry, Place, SubjectId, Target, Timestamp, TokenKey};
use crate::feed::Options;
use crate::samples::random::Random;

const EPOCH: Epoch = Epoch(9);
const MOST: usize = 3;
/// How long the feed has been running; long enough for everything.
const NOW: Duration = Duration::from_secs(100);

/// A feed, and what was done with it.
struct Server {
    feed: Feed,
    start: Start,
    moments: Moments,
}

impl Server {
    fn new(epoch: Epoch, number: u8, from: Sequence, moments: &Moments) -> Self {
        let feed = Feed::new(&Options::new(epoch, from, [number; 24]));
        let start = Start { epoch, incarnation: feed.incarnation(), from, made: Vec::new(), forgot: Vec::new() };
        Self { feed, start, moments: moments.clone() }
    }

    fn make(&mut self, change: Change) {
        let asked = self.moments.next();
        let sequence = self.feed.head().next();
        let touch = self.feed.tagger().touched_by(&change);
        let by = CallerId::parse("test").unwrap();
        self.feed.publish(&[Entry { sequence, at: Timestamp::from_raw(1), by, change }]);
        self.start.made.push(Made { sequence, touch, asked, answered: self.moments.next() });
    }

    fn make_any(&mut self, random: &mut Random) {
        self.make(match random.below(12) {
            0 => Change::RegisterClient(ClientId::parse("app").unwrap()),
            1 => Change::AddScope("tasks:read".into()),
            2 => Change::AddMember(SubjectId::parse("maria").unwrap(), Place::parse("1579").unwrap()),
            number => {
                let mut key = [0; 16];
                // Seldom the same twice, but sometimes.
                key[0] = (random.below(64) * 12 + number) as u8;
                Change::Revoke(Target::Token(TokenKey::from_bytes(key)))
            }
        });
    }

    fn forget(&mut self) {
        let asked = self.moments.next();
        self.feed.start_over();
        self.start.forgot.push(Forgot { asked, answered: self.moments.next() });
    }
}

/// A life with everything in it: two starts of one list, changes of all sorts, feeds that are lost and resumed.
fn life(seed: u64) -> (History, Vec<Start>) {
    let mut random = Random::new(seed);
    let moments = Moments::default();
    let mut server = Server::new(EPOCH, 1, Sequence(10), &moments);
    let mut listener = Listener::new(moments.clone());
    let mut starts = Vec::new();
    for step in 0..120 {
        match random.below(16) {
            0..8 => (0..=random.below(9)).for_each(|_| server.make_any(&mut random)),
            8..10 => drop(listener.listen(MOST)),
            10..12 => listener.renew(NOW, MOST),
            15 => {
                listener.renew(NOW, MOST);
                server.make(Change::RegisterClient(ClientId::parse("app").unwrap()));
                listener.renew(NOW, MOST);
            }
            12..14 => {
                let resume = random.below(4) != 0;
                listener.follow(&server.feed, EPOCH, resume).unwrap();
            }
            14 if step % 4 == 0 => {
                listener.renew(NOW, MOST);
                server.forget();
                if random.below(2) == 0 {
                    listener.renew(NOW, MOST);
                }
            }
            _ => while listener.listen(MOST) {},
        }
        if step == 60 {
            let next = Server::new(EPOCH, 2, server.feed.head(), &moments);
            starts.push(std::mem::replace(&mut server, next).start);
            listener.follow(&server.feed, EPOCH, true).unwrap();
        }
    }
    listener.renew(NOW, MOST);
    starts.push(server.start);
    (listener.history, starts)
}

#[test]
fn what_feeds_really_tell_is_without_fault() {
    let mut all = Seen::default();
    for seed in 0..200 {
        let (history, starts) = life(seed);
        let seen = look(&history, &starts).unwrap_or_else(|(number, fault)| {
            panic!("seed {seed}, event {number}: {fault}\n{:?}", history.get(number.saturating_sub(4)..=number))
        });
        assert_eq!(seen.stands, starts.last().and_then(|start| start.made.last()).map(|made| made.sequence));
        all += seen;
    }
    let counts = [all.begun, all.resumed, all.announcements, all.tags, all.leases, all.started_over];
    assert!(counts.iter().all(|count| *count > 100), "{all:?}");
}

/// The announcements of one feed that follow each other in a history: their numbers.
fn pairs(history: &History) -> Vec<(usize, usize)> {
    let is = |number: usize| matches!(history.get(number), Some((_, Event::Hears(Told::Touched { .. }))));
    (1..history.len()).filter(|number| is(number - 1) && is(*number)).map(|number| (number - 1, number)).collect()
}

/// What can be done to a history, or to what it is put beside; `None`: not at this event.
type Break = fn(&mut History, &mut Vec<Start>, usize) -> Option<()>;

fn told(history: &mut History, number: usize) -> Option<&mut Told> {
    match history.get_mut(number) {
        Some((_, Event::Hears(told))) => Some(told),
        _ => None,
    }
}

/// Looks for a fault of one of `kinds` wherever `broken` can be done, in many lives; says how often it could.
fn is_found(what: &str, broken: Break, kinds: &[fn(&Fault) -> bool]) {
    let mut tried = 0;
    for seed in 0..12 {
        let (history, starts) = life(seed);
        for number in 0..history.len() {
            let (mut history, mut starts) = (history.clone(), starts.clone());
            if broken(&mut history, &mut starts, number).is_none() {
                continue;
            }
            tried += 1;
            match look(&history, &starts) {
                Err((_, fault)) => {
                    assert!(kinds.iter().any(|kind| kind(&fault)), "{what}, seed {seed}, {number}: {fault}")
                }
                Ok(_) => panic!("{what} is not found: seed {seed}, event {number}: {:?}", history[number]),
            }
        }
    }
    assert!(tried >= 12, "{what}: tried {tried} times only");
}

#[test]
fn an_announcement_that_is_left_out_is_a_gap() {
    let leave_out: Break = |history, _, number| {
        pairs(history).iter().any(|(first, _)| *first == number).then(|| drop(history.remove(number)))
    };
    is_found("an announcement left out", leave_out, &[|fault| matches!(fault, Fault::Gap { .. })]);
    // The next one says that it goes on there all the same.
    let pass_over: Break = |history, _, number| {
        let (_, second) = pairs(history).into_iter().find(|(first, _)| *first == number)?;
        let Told::Touched { previous: from, tags: Some(left_out), .. } = told(history, number)?.clone() else {
            return None;
        };
        let Told::Touched { previous, tags: Some(_), .. } = told(history, second)? else { return None };
        *previous = from;
        history.remove(number);
        (!left_out.is_empty()).then_some(())
    };
    is_found("a gap that is passed over", pass_over, &[|fault| matches!(fault, Fault::Missing(_))]);
}

#[test]
fn a_tag_that_is_left_out_or_told_twice_or_in_another_order_is_found() {
    let leave_out: Break = |history, _, number| match told(history, number)? {
        Told::Touched { tags: Some(tags), .. } => tags.pop().map(drop),
        _ => None,
    };
    is_found("a tag left out", leave_out, &[|fault| matches!(fault, Fault::Missing(_))]);
    let twice: Break = |history, _, number| match told(history, number)? {
        Told::Touched { tags: Some(tags), .. } => tags.first().copied().map(|tag| tags.push(tag)),
        _ => None,
    };
    is_found("a tag twice", twice, &[|fault| matches!(fault, Fault::Invented(_))]);
    let swap: Break = |history, _, number| match told(history, number)? {
        Told::Touched { tags: Some(tags), .. } if tags.first() != tags.last() => {
            let last = tags.len() - 1;
            tags.swap(0, last);
            Some(())
        }
        _ => None,
    };
    is_found("tags in another order", swap, &[|fault| matches!(fault, Fault::OutOfOrder(_))]);
    let everything: Break = |history, _, number| match told(history, number)? {
        Told::Touched { tags: tags @ Some(_), .. } => {
            *tags = None;
            Some(())
        }
        _ => None,
    };
    is_found("everything instead of tags", everything, &[|fault| matches!(fault, Fault::Invented(_))]);
    let nothing: Break = |history, _, number| match told(history, number)? {
        Told::Touched { tags: tags @ None, .. } => {
            *tags = Some(Vec::new());
            Some(())
        }
        _ => None,
    };
    is_found("tags instead of everything", nothing, &[|fault| matches!(fault, Fault::Missing(_))]);
}

#[test]
fn an_announcement_that_comes_twice_or_before_another_is_found() {
    let twice: Break = |history, _, number| {
        matches!(told(history, number)?, Told::Touched { .. }).then(|| history.insert(number, history[number].clone()))
    };
    is_found("an announcement twice", twice, &[|fault| matches!(fault, Fault::Repeated { .. })]);
    let swap: Break = |history, _, number| {
        let (first, second) = pairs(history).into_iter().find(|(first, _)| *first == number)?;
        history.swap(first, second);
        Some(())
    };
    is_found("two announcements swapped", swap, &[|fault| matches!(fault, Fault::Gap { .. })]);
    let back: Break = |history, _, number| match told(history, number)? {
        Told::Touched { previous, sequence, .. } => {
            *sequence = *previous;
            Some(())
        }
        _ => None,
    };
    is_found("an announcement that ends where it began", back, &[|fault| matches!(fault, Fault::Backwards { .. })]);
}

#[test]
fn a_feed_that_resumes_in_the_wrong_place_is_found() {
    let elsewhere: Break = |history, _, number| match told(history, number)? {
        Told::Following { resumed: true, sequence, .. } => {
            *sequence = sequence.next();
            Some(())
        }
        _ => None,
    };
    is_found("a resume one further", elsewhere, &[|fault| matches!(fault, Fault::ResumedElsewhere(_))]);
    // It was not said to forget, although the start is another one, or nobody said where it stood.
    let silently: Break = |history, _, number| {
        let asked = match history.get(number.checked_sub(1)?)? {
            (_, Event::Says(Said::Follow { resume, .. })) => *resume,
            _ => None,
        };
        match told(history, number)? {
            // A server may refuse what it could have resumed.
            Told::Following { resumed: resumed @ false, incarnation, sequence, .. }
                if asked.is_none_or(|it| (it.incarnation, it.revision.sequence) != (*incarnation, *sequence)) =>
            {
                *resumed = true;
                Some(())
            }
            _ => None,
        }
    };
    let kinds: &[fn(&Fault) -> bool] =
        &[|fault| matches!(fault, Fault::ResumedElsewhere(_) | Fault::ResumedForgotten(_))];
    is_found("a beginning that is called a resume", silently, kinds);
    let untrue: Break = |history, _, number| match history.get_mut(number) {
        Some((_, Event::Says(Said::Follow { resume: Some(resume), .. }))) => {
            resume.revision.sequence = resume.revision.sequence.next();
            Some(())
        }
        _ => None,
    };
    is_found("a follower that says it stood elsewhere", untrue, &[|fault| matches!(fault, Fault::Untold(_))]);
    // Everybody was to forget everything just before it asked.
    let forgotten: Break = |history, starts, number| {
        let (asked, Event::Says(Said::Follow { .. })) = *history.get(number)? else { return None };
        let Told::Following { resumed: true, incarnation, .. } = *told(history, number + 1)? else { return None };
        let start = starts.iter_mut().find(|start| start.incarnation == incarnation)?;
        start.forgot.push(Forgot { asked: asked - 1, answered: asked - 1 });
        Some(())
    };
    is_found("a resume beyond forgetting", forgotten, &[|fault| matches!(fault, Fault::ResumedForgotten(_))]);
}

#[test]
fn whoever_says_it_is_up_to_date_and_is_not_is_found() {
    // The lease stands where the follower stood, and something had been answered in between.
    let short: Break = |history, _, number| match told(history, number)? {
        Told::Lease { previous, sequence, .. } if *previous < *sequence => {
            *sequence = *previous;
            Some(())
        }
        _ => None,
    };
    is_found("a lease that falls short", short, &[|fault| matches!(fault, Fault::Behind { .. })]);
    // The announcement before the lease is left out, and the lease says that nothing was touched.
    let passes: Break = |history, _, number| {
        let Told::Lease { .. } = told(history, number)? else { return None };
        let Told::Touched { previous: from, .. } = told(history, number - 1)?.clone() else { return None };
        let Told::Lease { previous, .. } = told(history, number)? else { return None };
        *previous = from;
        history.remove(number - 1);
        Some(())
    };
    is_found("a lease that passes something over", passes, &[|fault| matches!(fault, Fault::Missing(_))]);
    // The change was answered before the renewal, and comes behind the lease.
    let late: Break = |history, starts, number| {
        let Told::Lease { sequence, .. } = *told(history, number)? else { return None };
        let made = starts.iter_mut().flat_map(|start| &mut start.made);
        let next = made.filter(|made| made.sequence > sequence).min_by_key(|made| made.sequence)?;
        (next.asked, next.answered) = (0, 0);
        Some(())
    };
    is_found(
        "a change that was answered and comes behind the lease",
        late,
        &[|fault| matches!(fault, Fault::Behind { .. })],
    );
    let forgets: Break = |history, _, number| {
        let Told::StartOver { sequence } = *told(history, number)? else { return None };
        let next = history.iter().skip(number + 1).find_map(|(_, event)| match event {
            Event::Hears(Told::Lease { .. }) => Some(true),
            Event::Connects(_) | Event::Hears(Told::StartOver { .. }) => Some(false),
            _ => None,
        });
        let stood = history.iter().take(number).rev().find_map(|(_, event)| match event {
            Event::Hears(
                Told::Touched { sequence, .. } | Told::Lease { sequence, .. } | Told::StartOver { sequence },
            ) => Some(*sequence),
            Event::Hears(Told::Following { sequence, .. }) => Some(*sequence),
            _ => None,
        });
        // Where nothing else would show it.
        (next? && stood? == sequence).then(|| drop(history.remove(number)))
    };
    is_found("a lease in spite of forgetting", forgets, &[|fault| matches!(fault, Fault::Unforgotten(_))]);
}

#[test]
fn what_was_never_asked_for_or_never_was_is_found() {
    let unasked: Break = |history, _, number| match told(history, number)? {
        Told::Lease { id, .. } => {
            *id += 1;
            Some(())
        }
        _ => None,
    };
    is_found("a lease that nobody asked for", unasked, &[|fault| matches!(fault, Fault::Unasked(_))]);
    let stranger: Break = |history, _, number| match told(history, number)? {
        Told::Following { incarnation, .. } => {
            *incarnation = 0;
            Some(())
        }
        _ => None,
    };
    is_found("a start that never was", stranger, &[|fault| matches!(fault, Fault::OutOfTurn)]);
    let early: Break = |history, starts, number| {
        let heard = history.get(number)?.0;
        let Told::Touched { sequence, .. } = *told(history, number)? else { return None };
        let made = starts.iter_mut().flat_map(|start| &mut start.made);
        made.filter(|made| made.sequence == sequence).for_each(|made| made.asked = heard + 1);
        Some(())
    };
    is_found("a change told before it was asked for", early, &[|fault| matches!(fault, Fault::Ahead(_))]);
    let untold: Break = |history, _, number| match history.get_mut(number) {
        Some((_, Event::Says(Said::Renew { acknowledged, .. }))) => {
            *acknowledged = acknowledged.next();
            Some(())
        }
        _ => None,
    };
    is_found("an acknowledgement of what was not told", untold, &[|fault| matches!(fault, Fault::Untold(_))]);
}
