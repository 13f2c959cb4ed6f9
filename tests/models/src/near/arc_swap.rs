//! What the near-cache asks of arc-swap, over a model's own atomics: a pointer that is replaced whole. A load acquires, a
//! store releases, which is the least that arc-swap promises.

use std::ops::Deref;
use std::sync::{Arc, Mutex};

use super::sync::{AtomicU64, Ordering};

/// Perhaps a pointer.
pub struct ArcSwapOption<T> {
    /// Which of those that were ever stored, from 1 on; 0: none.
    now: AtomicU64,
    /// Never held across a switch.
    all: Mutex<Vec<Arc<T>>>,
}

/// What was loaded.
pub struct Guard<T>(T);

impl<T> Deref for Guard<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> ArcSwapOption<T> {
    pub fn empty() -> Self {
        Self { now: AtomicU64::new(0), all: Mutex::default() }
    }

    pub fn load(&self) -> Guard<Option<Arc<T>>> {
        let number = self.now.load(Ordering::Acquire);
        let place = usize::try_from(number).expect("few are stored").checked_sub(1);
        Guard(place.map(|place| Arc::clone(&self.all.lock().expect("no panic while it is held")[place])))
    }

    pub fn store(&self, it: Option<Arc<T>>) {
        let number = it.map_or(0, |it| {
            let mut all = self.all.lock().expect("no panic while it is held");
            all.push(it);
            all.len() as u64
        });
        self.now.store(number, Ordering::Release);
    }
}
