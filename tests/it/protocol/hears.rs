//! What followers hear over real sockets while much else goes on: written down and put beside what was done
//! (`tokenscope::testing::histories`), and heard beside floods of questions on the same connection.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use quinn::VarInt;
use tokenscope::client::{NewToken, Revoke, Token, Wait};
use tokenscope::domain::{GrantId, Revision, Sequence, SubjectId, Switch, WorkspaceId};
use tokenscope::server::credentials::Callers;
use tokenscope::server::quic_limits::QuicOptions;
use tokenscope::server::tunnel::Tunnel;
use tokenscope::service::request::{ChangeRequest, RevokeTarget};
use tokenscope::testing::histories::{Event, Forgot, History, Made, Moment, Moments, Seen, Start, Told, look};
use tokenscope::wire::follow::{Follower as Said, Resume, read_announced, write_follower};
use tokenscope::wire::message::{Answer, Envelope, Request};
use tokenscope::wire::{STREAM_FEED, encode};
use tokio::time::timeout;

use super::bytes::{ByHand, Stream, known};
use super::rig::{Ca, Rig, TOKEN, callers, place, times};
use crate::dice::{Dice, seeds};

/// How long anything may take on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(120);

/// A follower that stops listening now and then looks whether there was anything for so long.
const A_MOMENT: Duration = Duration::from_millis(10);

const FOLLOWERS: usize = 3;

/// A follower by hand that writes everything down.
struct Ear {
    moments: Moments,
    stream: Option<Stream>,
    stands: Option<Resume>,
    last_id: u32,
    history: History,
}

impl Ear {
    fn new(moments: &Moments) -> Self {
        Self { moments: moments.clone(), stream: None, stands: None, last_id: 0, history: History::new() }
    }

    fn note(&mut self, event: Event) {
        self.history.push((self.moments.next(), event));
    }

    async fn say(&mut self, said: Said) {
        self.note(Event::Says(said));
        let mut bytes = Vec::new();
        write_follower(&mut bytes, &said);
        self.stream.as_mut().expect("a stream").say(&bytes).await;
    }

    /// A new stream, on which it resumes or not.
    async fn follow(&mut self, by_hand: &ByHand, rig: &Rig, resume: bool) {
        self.lose();
        self.stream = Some(by_hand.stream_of(STREAM_FEED).await.greeted().await);
        let epoch = rig.shared.service.revision().epoch;
        self.note(Event::Connects(epoch));
        self.last_id += 1;
        let resume = self.stands.filter(|_| resume);
        self.say(Said::Follow { id: self.last_id, lease_ms: 0, resume }).await;
        let Told::Following { incarnation, sequence, .. } = self.hear().await else { panic!("it does not follow") };
        self.stands = Some(Resume { revision: Revision { epoch, sequence }, incarnation });
    }

    fn lose(&mut self) {
        if let Some(mut stream) = self.stream.take() {
            stream.send.reset(VarInt::from_u32(0)).expect("a stream that is open");
        }
    }

    /// The next thing it is told.
    async fn hear(&mut self) -> Told {
        let stream = self.stream.as_mut().expect("a stream");
        let told = stream.hear_raw(|raw| Told::from(&read_announced(raw).expect("an announcement")));
        let told = told.await.expect("the stream goes on");
        if let (
            Told::Touched { sequence, .. } | Told::Lease { sequence, .. } | Told::StartOver { sequence },
            Some(stands),
        ) = (&told, &mut self.stands)
        {
            stands.revision.sequence = *sequence;
        }
        self.note(Event::Hears(told.clone()));
        told
    }

    async fn acknowledge(&mut self) {
        let sequence = self.stands.expect("it follows").revision.sequence;
        self.say(Said::Acknowledge { sequence }).await;
    }

    /// Renews, and hears everything up to the lease.
    async fn renew(&mut self) {
        self.last_id += 1;
        let acknowledged = self.stands.expect("it follows").revision.sequence;
        self.say(Said::Renew { id: self.last_id, acknowledged }).await;
        while !matches!(self.hear().await, Told::Lease { .. }) {}
    }

    /// Does what the dice say until everybody else is done.
    async fn live(&mut self, by_hand: &ByHand, rig: &Rig, dice: &mut Dice, done: &AtomicBool) {
        while !done.load(Relaxed) {
            match dice.below(16) {
                0 => self.follow(by_hand, rig, false).await,
                1 | 2 => self.follow(by_hand, rig, true).await,
                3..=5 => self.renew().await,
                6 | 7 => self.acknowledge().await,
                // It does not listen, and falls behind.
                8 => tokio::time::sleep(A_MOMENT).await,
                _ => {
                    // Nothing of a message is lost when nobody waits for its rest.
                    let _ = timeout(A_MOMENT, self.hear()).await;
                }
            }
        }
        self.renew().await;
    }
}

/// What was done, and when.
#[derive(Default)]
struct Done {
    when: HashMap<Sequence, (Moment, Moment)>,
    forgot: Vec<Forgot>,
}

/// Changes, one after the other; now and then the callers are replaced.
async fn change(rig: &Rig, dice: &mut Dice, moments: &Moments, first: usize, count: usize) -> Done {
    let mut done = Done::default();
    for number in first..first + count {
        let who = SubjectId::parse(&format!("subject-{number}")).unwrap();
        let request = match dice.below(8) {
            0 => ChangeRequest::AddScope(format!("scope-{number}:read").into()),
            1 => ChangeRequest::Revoke(RevokeTarget::Grant(GrantId::new(1).unwrap())),
            2 => ChangeRequest::SwitchPersonal(WorkspaceId::parse("A").unwrap(), dice.pick(&[Switch::On, Switch::Off])),
            _ => ChangeRequest::AddMember(who, place("A")),
        };
        let asked = moments.next();
        let made = rig.change(request).await.revision.sequence;
        let answered = moments.next();
        // What changes nothing has the place of what was there.
        let known = done.when.entry(made).or_insert((asked, answered));
        *known = (known.0.min(asked), known.1.min(answered));
        if dice.chance(2) {
            let asked = moments.next();
            rig.shared.callers.store(Arc::new(Callers::new(callers())));
            rig.shared.service.feed().start_over();
            done.forgot.push(Forgot { asked, answered: moments.next() });
        }
        if dice.chance(20) {
            tokio::time::sleep(Duration::from_millis(dice.below(4) as u64)).await;
        }
    }
    done
}

fn start(rig: &Rig, from: Sequence, done: Vec<Done>) -> Start {
    let feed = rig.shared.service.feed();
    let mut when = HashMap::new();
    let mut forgot = Vec::new();
    for part in done {
        for (sequence, (asked, answered)) in part.when {
            let known = when.entry(sequence).or_insert((asked, answered));
            *known = (known.0.min(asked), known.1.min(answered));
        }
        forgot.extend(part.forgot);
    }
    let list = rig.list.lock().unwrap();
    let made = list.iter().filter(|entry| entry.sequence > from).map(|entry| {
        let (asked, answered) = when[&entry.sequence];
        Made { sequence: entry.sequence, touch: feed.tagger().touched_by(&entry.change), asked, answered }
    });
    let epoch = rig.shared.service.revision().epoch;
    Start { epoch, incarnation: feed.incarnation(), from, made: made.collect(), forgot }
}

async fn lived(dice: &mut Dice) -> Seen {
    let mut rig = Rig::start().await;
    let from = rig.shared.service.revision().sequence;
    let moments = Moments::default();
    let mut ears: Vec<Ear> = (0..FOLLOWERS).map(|_| Ear::new(&moments)).collect();
    let mut done = Vec::new();
    for round in 0..2 {
        let over = AtomicBool::new(false);
        let mut living: Vec<_> = Vec::new();
        for ear in &mut ears {
            let mut own = Dice::new(dice.next());
            let (rig, over) = (&rig, &over);
            living.push(async move {
                let by_hand = known(rig).await;
                ear.follow(&by_hand, rig, true).await;
                ear.live(&by_hand, rig, &mut own, over).await;
                ear.stream = None;
            });
        }
        let [one, two, three] = <[_; FOLLOWERS]>::try_from(living).ok().expect("three");
        let (mut first, mut second) = (Dice::new(dice.next()), Dice::new(dice.next()));
        let changes = async {
            let number = 1_000 * round;
            let both = tokio::join!(
                change(&rig, &mut first, &moments, number, 80),
                change(&rig, &mut second, &moments, number + 500, 80),
            );
            over.store(true, Relaxed);
            both
        };
        let ((), (), (), (first, second)) = tokio::join!(one, two, three, changes);
        done.extend([first, second]);
        if round == 0 {
            // The door closes, changes go on, and it opens again: the same start of the server.
            rig.closed().await;
            done.push(change(&rig, dice, &moments, 900, 20).await);
            rig.open_again(QuicOptions::default());
        }
    }
    let starts = [start(&rig, from, done)];
    let mut all = Seen::default();
    for ear in &ears {
        let seen = look(&ear.history, &starts).unwrap_or_else(|(number, fault)| {
            panic!("event {number}: {fault}\n{:?}", ear.history.get(number.saturating_sub(4)..=number))
        });
        assert_eq!(seen.stands, Some(rig.shared.service.feed().head()), "with a lease it has heard everything");
        all += seen;
    }
    all
}

#[test]
fn what_followers_hear_over_sockets_is_true_of_what_was_done() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut all = Seen::default();
    seeds("what_followers_hear_over_sockets_is_true_of_what_was_done", 3, |dice| {
        all += runtime.block_on(async { timeout(PATIENCE, lived(dice)).await }).expect("it ends");
    });
    println!("{all:?}");
    assert!(all.begun >= 3 && all.resumed >= 3 && all.leases >= 10 && all.tags >= 100, "too little happened: {all:?}");
}

/// Questions in one write, and streams that ask without an end.
const TOGETHER: u32 = 200;

fn questions(first: u32) -> Vec<u8> {
    let digest = tokenscope::client::digest(TOKEN);
    let mut bytes = Vec::new();
    for id in first..first + TOGETHER {
        let request = Request::Introspect { digest, place: None };
        encode::request(&mut bytes, &Envelope { id, least: None, request }).unwrap();
    }
    bytes
}

/// Asks on a stream until it is told to stop, and reads every answer. `ahead` questions are under way; their answers fit into
/// the stream's window, since nothing is read while a question waits to be taken.
async fn flood(by_hand: &ByHand, ahead: u32, answered: &AtomicU64, stop: &AtomicBool) {
    let mut stream = by_hand.stream().await.greeted().await;
    let (mut asked, mut heard) = (0, 0);
    while heard < asked || !stop.load(Relaxed) {
        while !stop.load(Relaxed) && asked - heard < ahead {
            stream.say(&questions(asked)).await;
            asked += TOGETHER;
        }
        if heard < asked {
            stream.hear(|id, answer| assert!(id == heard && matches!(answer, Answer::Active(_)), "{id}")).await;
            heard += 1;
            answered.fetch_add(1, Relaxed);
        }
    }
}

/// Nobody could wait for the end of this lease, so each fenced revocation returns because its announcement and the
/// acknowledgement came through: beside two streams that are answered all the time, and one whose answers nobody reads.
///
/// They did not: the feed's stream had its priority, and quinn was told not to be fair among streams, and then it knows no
/// priorities. A stream that has begun to send goes on for as long as it has anything, and these always have. Announcements were
/// heard after seconds here, or not before the revocation was given up.
#[tokio::test]
async fn announcements_and_acknowledgements_come_through_beside_a_flood_on_the_same_connection() {
    // The unread answers, and half a question behind them, wait for the whole test, and are not what it is about.
    let hours = Duration::from_secs(3 * 3_600);
    let options = QuicOptions { write_deadline: hours, partial_message_deadline: hours, ..QuicOptions::default() };
    let rig = Rig::start_leasing(Duration::from_secs(60), options, Tunnel::closed(), Arc::new(Ca::new())).await;
    let by_hand = known(&rig).await;
    let admin = rig.client("everything").await;
    let mut unread = by_hand.stream().await.greeted().await;
    let filled = async {
        // As much as anybody takes: until its answers fill the windows, it is read no more.
        while timeout(Duration::from_millis(200), unread.say(&questions(0))).await.is_ok() {}
    };
    timeout(PATIENCE, filled).await.expect("windows are bounded");
    let mut ear = Ear::new(&Moments::default());
    ear.follow(&by_hand, &rig, false).await;
    ear.renew().await;
    let (answered, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let revocations = async {
        let mut between = Vec::new();
        for number in 0..20 {
            let token = Token::from(&format!("token {number} beside a flood"));
            let new = NewToken { token, grant: rig.grant, times: times(), confirmation: None, audience: None };
            admin.register(&new).await.unwrap();
            let before = answered.load(Relaxed);
            admin.revoke_and_wait(Revoke::Token(token), Wait::Fenced).await.unwrap();
            between.push(answered.load(Relaxed) - before);
        }
        stop.store(true, Relaxed);
        between
    };
    let listens = async {
        loop {
            if let Told::Touched { .. } = ear.hear().await {
                ear.acknowledge().await;
            }
        }
    };
    let floods = async {
        tokio::join!(flood(&by_hand, 3_000, &answered, &stop), flood(&by_hand, 400, &answered, &stop));
    };
    let all = async {
        tokio::select! {
            ((), between) = async { tokio::join!(floods, revocations) } => between,
            () = listens => unreachable!("it listens without an end"),
        }
    };
    let between = timeout(PATIENCE, all).await.expect("every fence returns, and every question is answered");
    let feed = &rig.shared.stats.feed;
    assert_eq!((feed.fences.read().0.iter().sum::<u64>(), feed.outwaited.load(Relaxed)), (20, 0));
    println!("{} questions answered, {between:?} while a revocation was fenced", answered.load(Relaxed));
    assert!(between.iter().sum::<u64>() > 0, "there was no flood");
}
