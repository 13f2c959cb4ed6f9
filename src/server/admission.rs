//! How many may be in: in all, from one address, of one caller; and what each caller may have under way.
//!
//! Who is in is asked once for each newcomer, never for a request. The maps hold only who is in, so they are as bounded as the
//! connections are. Sharded locks are right here: threads meet for nanoseconds, once for each connection.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;

use crate::domain::CallerId;

/// The counts of one door, over all its threads.
#[derive(Debug)]
pub(super) struct Admission {
    all: AtomicUsize,
    all_max: usize,
    by_address: DashMap<IpAddr, usize>,
    by_address_max: usize,
    by_caller: DashMap<CallerId, (usize, Arc<Account>)>,
    by_caller_max: usize,
}

/// A place that is taken; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    admission: Arc<Admission>,
    address: IpAddr,
    caller: Option<CallerId>,
}

/// What one caller has under way, over all its connections to one door.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// Changes and API requests.
    changes: AtomicUsize,
    followers: AtomicUsize,
}

impl Account {
    /// Whether one more change or API request may begin where `most` may be under way; what takes rights away has a
    /// quarter more. Threads that ask at the same time may go over it by a few.
    pub(super) fn has_room(&self, most: usize, takes_away: bool) -> bool {
        let most = if takes_away { most.saturating_add(most.div_ceil(4)) } else { most };
        self.changes.load(Ordering::Relaxed) < most
    }

    /// So many more are under way than before, which were `before`.
    pub(super) fn recount(&self, before: usize, now: usize) {
        if now > before {
            self.changes.fetch_add(now - before, Ordering::Relaxed);
        } else if now < before {
            self.changes.fetch_sub(before - now, Ordering::Relaxed);
        }
    }

    /// One more change or API request, counted until it is dropped; `None` if there is no room, as [`Account::has_room`].
    pub(super) fn begin(self: &Arc<Self>, most: usize, takes_away: bool) -> Option<Begun> {
        self.has_room(most, takes_away).then(|| {
            self.recount(0, 1);
            Begun(self.clone())
        })
    }

    /// One more follower, counted until it is dropped; `None` if there are `most`.
    pub(super) fn follow(self: &Arc<Self>, most: usize) -> Option<Follows> {
        let more = |count: usize| (count < most).then_some(count + 1);
        self.followers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Follows(self.clone()))
    }
}

/// A change or an API request of a caller.
#[derive(Debug)]
pub(super) struct Begun(Arc<Account>);

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.recount(1, 0);
    }
}

/// A follower of a caller.
#[derive(Debug)]
pub(super) struct Follows(Arc<Account>);

impl Drop for Follows {
    fn drop(&mut self) {
        self.0.followers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Admission {
    /// So many in all and from one address; a caller may have as many as there are.
    pub(super) fn new(all_max: usize, by_address_max: usize) -> Self {
        Self {
            all: AtomicUsize::new(0),
            all_max,
            by_address: DashMap::new(),
            by_address_max,
            by_caller: DashMap::new(),
            by_caller_max: usize::MAX,
        }
    }

    /// The same, with so many of one caller.
    pub(super) fn per_caller(self, by_caller_max: usize) -> Self {
        Self { by_caller_max, ..self }
    }

    /// A place for a newcomer from `address`, if there is one.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        // An IPv4 caller on a dual-stack socket is the same caller.
        let address = address.to_canonical();
        if self.all.fetch_add(1, Ordering::Relaxed) >= self.all_max {
            self.all.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        if !count_up(&self.by_address, address, self.by_address_max) {
            self.all.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Place { admission: self.clone(), address, caller: None })
    }
}

impl Place {
    /// The same place, now that the caller is known, and what it has under way; `None` if it has too many.
    pub(super) fn of_caller(mut self, caller: &CallerId) -> Option<(Self, Arc<Account>)> {
        let account = {
            let mut entry = self.admission.by_caller.entry(caller.clone()).or_default();
            // A limit of 0 would leave an entry behind; it means 1.
            if entry.0 >= self.admission.by_caller_max.max(1) {
                return None;
            }
            entry.0 += 1;
            entry.1.clone()
        };
        self.caller = Some(caller.clone());
        Some((self, account))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.all.fetch_sub(1, Ordering::Relaxed);
        count_down(&self.admission.by_address, &self.address);
        if let Some(caller) = &self.caller {
            self.admission.by_caller.remove_if_mut(caller, |_, (count, _)| {
                *count = count.saturating_sub(1);
                *count == 0
            });
        }
    }
}

fn count_up<K: std::hash::Hash + Eq>(counts: &DashMap<K, usize>, key: K, most: usize) -> bool {
    let mut count = counts.entry(key).or_insert(0);
    // A limit of 0 would leave an entry behind; it means 1.
    if *count >= most.max(1) {
        return false;
    }
    *count += 1;
    true
}

fn count_down<K: std::hash::Hash + Eq>(counts: &DashMap<K, usize>, key: &K) {
    counts.remove_if_mut(key, |_, count| {
        *count = count.saturating_sub(1);
        *count == 0
    });
}
