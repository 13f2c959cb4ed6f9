//! shuttle's atomics, which are sequentially consistent; each operation is a place where it may switch threads.

use shuttle::sync::atomic as real;

pub use shuttle::rand::{Rng, thread_rng};
pub use shuttle::sync::Mutex;
pub use shuttle::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering, fence};
pub use shuttle::thread::yield_now;

/// As the standard library's.
pub struct AtomicPtr<T>(real::AtomicPtr<T>);

impl<T> AtomicPtr<T> {
    pub fn new(value: *mut T) -> Self {
        Self(real::AtomicPtr::new(value))
    }

    /// Others may run between the load and what is done with it.
    pub fn load(&self, ordering: Ordering) -> *mut T {
        let loaded = self.0.load(ordering);
        self.0.load(ordering);
        loaded
    }

    pub fn store(&self, value: *mut T, ordering: Ordering) {
        self.0.store(value, ordering);
    }

    /// What it points to at last.
    pub fn take(&mut self) -> *mut T {
        *self.0.get_mut()
    }
}

/// Under sequential consistency whoever pins has seen what came before.
pub fn pin() {}

/// As [`pin`].
pub fn retire() {}

/// Nothing was to be learnt.
pub fn start() {}

/// What goes to another thread of the model and comes back.
struct Here<T>(T);

// SAFETY: a model's threads all run on one thread of the system.
unsafe impl<T> Send for Here<T> {}

impl<T> Here<T> {
    fn take(self) -> T {
        self.0
    }
}

/// A thread of the model.
pub struct Running<T>(shuttle::thread::JoinHandle<Here<T>>);

impl<T> Running<T> {
    pub fn join(self) -> T {
        self.0.join().expect("a thread of the model").take()
    }
}

pub fn spawn<T: 'static>(run: impl FnOnce() -> T + 'static) -> Running<T> {
    let run = Here(run);
    Running(shuttle::thread::spawn(move || Here(run.take()())))
}
