//! What goes wrong on purpose, by the dice: one lane for the server, two for the clients, side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::sync::watch;

use super::dice::Dice;
use super::fleet::Fleet;
use super::house::House;
use super::record::moment;

/// How long those who wait for something to happen sleep.
const STEP: Duration = Duration::from_millis(10);

/// Of so many leases…
const CYCLE: u32 = 12;
/// … in so many something may begin to go wrong.
const TROUBLED: u32 = 7;

/// What may happen to clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sort {
    StoppedForLess,
    StoppedForMore,
    Killed,
    CutForLess,
    CutForMore,
    AllCut,
    Rough,
}

const SORTS: [Sort; 7] = [
    Sort::StoppedForLess,
    Sort::StoppedForMore,
    Sort::Killed,
    Sort::CutForLess,
    Sort::CutForMore,
    Sort::AllCut,
    Sort::Rough,
];

impl Sort {
    fn name(self) -> &'static str {
        match self {
            Self::StoppedForLess => "clients stopped for less than a lease",
            Self::StoppedForMore => "clients stopped for more than a lease",
            Self::Killed => "clients killed and replaced",
            Self::CutForLess => "clients cut off for less than a lease",
            Self::CutForMore => "clients cut off for more than a lease",
            Self::AllCut => "clients cut off all at once",
            Self::Rough => "clients on a rough network",
        }
    }
}

/// From when to when somebody was in trouble.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub from: u64,
    pub to: u64,
}

impl Span {
    pub fn meets(&self, from: u64, to: u64) -> bool {
        self.from <= to && from <= self.to
    }
}

/// What has gone wrong so far.
#[derive(Default)]
pub struct Past {
    pub clients: Mutex<Vec<(usize, Span)>>,
    pub server: Mutex<Vec<Span>>,
    pub counts: Mutex<BTreeMap<&'static str, u64>>,
    /// Stirs when the server was started anew.
    pub starts: watch::Sender<()>,
    /// Clients in trouble now.
    busy: Mutex<BTreeSet<usize>>,
    /// How often every sort has happened to clients, and to the server.
    rounds: [AtomicU64; 2],
}

impl Past {
    /// Whether each sort has happened.
    pub fn is_rich(&self) -> bool {
        self.rounds.iter().all(|rounds| rounds.load(Relaxed) > 0)
    }

    fn count(&self, name: &'static str, times: usize) {
        *self.counts.lock().unwrap().entry(name).or_default() += times as u64;
    }
}

pub struct Lane<'r> {
    pub fleet: &'r Fleet,
    pub house: &'r Mutex<House>,
    pub past: &'r Past,
    pub lease: Duration,
    pub over: &'r AtomicBool,
    /// The same for all lanes.
    pub began: Instant,
    pub dice: Dice,
}

impl Lane<'_> {
    /// Troubles of clients, one after the other, until it is over.
    pub fn of_clients(mut self) {
        let mut sorts = SORTS;
        loop {
            self.dice.shuffle(&mut sorts);
            for sort in sorts {
                self.waits_for_trouble();
                if self.over.load(Relaxed) {
                    return;
                }
                let clients = self.pick(sort);
                self.past.count(sort.name(), clients.len());
                let from = moment();
                self.happens(sort, &clients);
                let span = Span { from, to: moment() };
                self.past.clients.lock().unwrap().extend(clients.iter().map(|client| (*client, span)));
                self.past.busy.lock().unwrap().retain(|client| !clients.contains(client));
                self.rest(self.lease / 10);
            }
            self.past.rounds[0].fetch_add(1, Relaxed);
        }
    }

    /// Clients to whom nothing happens now.
    fn pick(&mut self, sort: Sort) -> Vec<usize> {
        let mut busy = self.past.busy.lock().unwrap();
        let mut free: Vec<usize> = (0..self.fleet.len()).filter(|client| !busy.contains(client)).collect();
        self.dice.shuffle(&mut free);
        if sort != Sort::AllCut {
            free.truncate(1 + self.dice.roll(3) as usize);
        }
        busy.extend(&free);
        free
    }

    fn happens(&mut self, sort: Sort, clients: &[usize]) {
        let less = self.dice.time(self.lease / 5, self.lease * 4 / 5);
        let more = self.dice.time(self.lease * 5 / 4, self.lease * 5 / 2);
        match sort {
            Sort::StoppedForLess => self.stop(clients, less),
            Sort::StoppedForMore => self.stop(clients, more),
            Sort::Killed => clients.iter().for_each(|client| self.fleet.replace(*client)),
            Sort::CutForLess | Sort::AllCut => self.weather(clients, less, |weather| &weather.cut),
            Sort::CutForMore => self.weather(clients, more, |weather| &weather.cut),
            Sort::Rough => self.weather(clients, more, |weather| &weather.rough),
        }
    }

    fn stop(&self, clients: &[usize], time: Duration) {
        clients.iter().for_each(|client| self.fleet.signal(*client, Signal::STOP));
        std::thread::sleep(time);
        clients.iter().for_each(|client| self.fleet.signal(*client, Signal::CONT));
    }

    fn weather(&self, clients: &[usize], time: Duration, switch: fn(&super::proxy::Weather) -> &AtomicBool) {
        let set =
            |to| clients.iter().for_each(|client| switch(&self.fleet.proxies[*client].weather).store(to, Relaxed));
        set(true);
        std::thread::sleep(time);
        set(false);
    }

    /// Troubles of the server, until it is over.
    pub fn of_server(mut self) {
        loop {
            for kills in [true, false] {
                self.rest(self.lease * 8);
                self.waits_for_trouble();
                if self.over.load(Relaxed) {
                    return;
                }
                let from = moment();
                let mut house = self.house.lock().unwrap();
                if kills {
                    house.kill();
                    std::thread::sleep(self.dice.time(Duration::ZERO, self.lease / 2));
                    house.start();
                    self.past.starts.send_replace(());
                } else {
                    house.signal(Signal::STOP);
                    std::thread::sleep(self.dice.time(self.lease / 2, self.lease * 3 / 2));
                    house.signal(Signal::CONT);
                }
                drop(house);
                let name = if kills { "the server killed and started" } else { "the server stopped for a while" };
                self.past.count(name, 1);
                self.past.server.lock().unwrap().push(Span { from, to: moment() });
            }
            self.past.rounds[1].fetch_add(1, Relaxed);
        }
    }

    /// Some of the time nothing goes wrong, so that this is measured too.
    fn waits_for_trouble(&self) {
        let place = || self.began.elapsed().as_nanos() % (self.lease * CYCLE).as_nanos();
        while place() > (self.lease * TROUBLED).as_nanos() && !self.over.load(Relaxed) {
            std::thread::sleep(STEP);
        }
    }

    /// Quiet for a moment, up to twice `about`, or until it is over.
    fn rest(&mut self, about: Duration) {
        let steps = self.dice.time(about / 2, about * 2).as_millis() / STEP.as_millis();
        for _ in 0..steps {
            if self.over.load(Relaxed) {
                return;
            }
            std::thread::sleep(STEP);
        }
    }
}
