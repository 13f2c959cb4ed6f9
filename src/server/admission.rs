//! How many may be in: in all, from one address, of one caller.
//!
//! Asked once for each newcomer, never for a request. The maps hold only who is in, so they are as bounded as the
//! connections are. Sharded locks are right here: threads meet for nanoseconds, once for each connection.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;

use super::quic_limits::QuicOptions;
use crate::domain::CallerId;

/// The counts of one door, over all its threads.
#[derive(Debug)]
pub(super) struct Admission {
    all: AtomicUsize,
    all_max: usize,
    by_address: DashMap<IpAddr, usize>,
    by_address_max: usize,
    by_caller: DashMap<CallerId, usize>,
    by_caller_max: usize,
}

/// A place that is taken; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    admission: Arc<Admission>,
    address: IpAddr,
    caller: Option<CallerId>,
}

impl Admission {
    pub(super) fn new(options: &QuicOptions) -> Self {
        Self {
            all: AtomicUsize::new(0),
            all_max: options.connections_max,
            by_address: DashMap::new(),
            by_address_max: options.connections_per_address,
            by_caller: DashMap::new(),
            by_caller_max: options.connections_per_caller,
        }
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
    /// The same place, now that the caller is known; `None` if it has too many.
    pub(super) fn of_caller(mut self, caller: &CallerId) -> Option<Self> {
        if !count_up(&self.admission.by_caller, caller.clone(), self.admission.by_caller_max) {
            return None;
        }
        self.caller = Some(caller.clone());
        Some(self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.all.fetch_sub(1, Ordering::Relaxed);
        count_down(&self.admission.by_address, &self.address);
        if let Some(caller) = &self.caller {
            count_down(&self.admission.by_caller, caller);
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
