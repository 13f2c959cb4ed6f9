//! loom's atomics, as few as will do.
//!
//! Each operation on an atomic is a place where loom may switch threads, and the schedules are as many as the ways to
//! choose among these places. Most words of a table never change while a script runs, so a script is run once beforehand
//! with plain values (`learn`); what nobody stored to after `start` is a plain value in the model too. A store nobody
//! learnt of fails. A relaxed store of the value that a word already has is left out: readers then see less of what came
//! before, never more, so that nothing wrong is hidden by it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic as plain;

use loom::sync::atomic as real;

pub use loom::thread::yield_now;
pub use std::sync::atomic::Ordering;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Plain values, one thread; what is stored to is written down.
    Learning,
    /// In a model.
    Model,
}

thread_local! {
    static MODE: Cell<Mode> = const { Cell::new(Mode::Learning) };
    /// Whether the readers run.
    static STARTED: Cell<bool> = const { Cell::new(false) };
    /// How many atomics have been made: their numbers are the same in each execution.
    static MADE: Cell<usize> = const { Cell::new(0) };
    static STORED: RefCell<Vec<bool>> = const { RefCell::new(Vec::new()) };
    /// Raised whenever something is retired.
    static RETIRED: RefCell<Option<Rc<AtomicU32>>> = const { RefCell::new(None) };
}

/// Runs the script once to see which atomics change.
pub fn learn(script: fn()) {
    super::epoch::begin();
    STORED.take();
    reset(Mode::Learning);
    script();
}

/// Begins an execution of the model.
pub fn begin() {
    reset(Mode::Model);
}

fn reset(mode: Mode) {
    MODE.set(mode);
    STARTED.set(false);
    MADE.set(0);
    RETIRED.set(Some(Rc::new(AtomicU32::new(0))));
}

/// The table is laid; from here on readers may run.
pub fn start() {
    STARTED.set(true);
}

fn retired() -> Rc<AtomicU32> {
    RETIRED.with_borrow(|retired| retired.clone()).expect("an execution has begun")
}

/// Something is retired: whoever pins from now on has seen what came before. That is what the fences in crossbeam's pin
/// and in its retiring amount to; nothing else is seen by it.
pub fn retire() {
    let retired = retired();
    note(retired.number, retired.real.is_some());
    if let Some(real) = &retired.real {
        real.fetch_add(1, Ordering::Release);
    }
}

/// Somebody pins.
pub fn pin() {
    if let Some(real) = &retired().real {
        real.fetch_add(0, Ordering::Acquire);
    }
}

fn is_model() -> bool {
    MODE.get() == Mode::Model
}

/// The number of a new atomic, and whether it changes while readers run.
fn make() -> (usize, bool) {
    let number = MADE.replace(MADE.get() + 1);
    (number, STORED.with_borrow(|stored| stored.get(number).copied().unwrap_or(false)))
}

/// Notes that an atomic is stored to.
fn note(number: usize, changes: bool) {
    if !STARTED.get() {
        return;
    }
    if is_model() {
        assert!(changes, "a store that the learning run did not make");
        return;
    }
    STORED.with_borrow_mut(|stored| {
        if stored.len() <= number {
            stored.resize(number + 1, false);
        }
        stored[number] = true;
    });
}

pub fn fence(ordering: Ordering) {
    if is_model() {
        real::fence(ordering);
    }
}

macro_rules! atomic {
    ($name:ident, $value:ty) => {
        /// As the standard library's.
        pub struct $name {
            number: usize,
            now: plain::$name,
            real: Option<real::$name>,
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new(Default::default())
            }
        }

        #[allow(dead_code, reason = "not every type is used in every way")]
        impl $name {
            pub fn new(value: $value) -> Self {
                let (number, changes) = make();
                let real = (is_model() && changes).then(|| real::$name::new(value));
                Self { number, now: plain::$name::new(value), real }
            }

            pub fn load(&self, ordering: Ordering) -> $value {
                match &self.real {
                    Some(real) => real.load(ordering),
                    None => self.now.load(Ordering::Relaxed),
                }
            }

            /// For the one writer.
            pub fn store(&self, value: $value, ordering: Ordering) {
                if ordering == Ordering::Relaxed && self.now.load(Ordering::Relaxed) == value {
                    return;
                }
                note(self.number, self.real.is_some());
                self.now.store(value, Ordering::Relaxed);
                if let Some(real) = &self.real {
                    real.store(value, ordering);
                }
            }

            /// For the one writer.
            pub fn fetch_add(&self, value: $value, ordering: Ordering) -> $value {
                note(self.number, self.real.is_some());
                let before = self.now.fetch_add(value, Ordering::Relaxed);
                if let Some(real) = &self.real {
                    real.fetch_add(value, ordering);
                }
                before
            }

            /// Readers write down last use with it, which no script does.
            pub fn compare_exchange(&self, _: $value, _: $value, _: Ordering, _: Ordering) -> Result<$value, $value> {
                unreachable!("no script marks a use")
            }
        }
    };
}

atomic!(AtomicU32, u32);
atomic!(AtomicU64, u64);
atomic!(AtomicI64, i64);

/// A mere hint wherever it is used: nothing is decided by it but who leaves a full set, so it is no place to switch.
pub use std::sync::atomic::AtomicBool;

/// A lock nobody waits for: no script has two who put something in.
pub struct Mutex<T>(std::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub fn new(it: T) -> Self {
        Self(std::sync::Mutex::new(it))
    }

    pub fn lock(&self) -> std::sync::LockResult<std::sync::MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(held) => Ok(held),
            Err(std::sync::TryLockError::Poisoned(held)) => Err(held),
            Err(std::sync::TryLockError::WouldBlock) => panic!("two wait for one lock: not a script for this model"),
        }
    }
}

/// As the standard library's.
pub struct AtomicPtr<T> {
    number: usize,
    now: plain::AtomicPtr<T>,
    real: Option<real::AtomicPtr<T>>,
}

impl<T> AtomicPtr<T> {
    pub fn new(value: *mut T) -> Self {
        let (number, changes) = make();
        let real = (is_model() && changes).then(|| real::AtomicPtr::new(value));
        Self { number, now: plain::AtomicPtr::new(value), real }
    }

    pub fn load(&self, ordering: Ordering) -> *mut T {
        match &self.real {
            Some(real) => real.load(ordering),
            None => self.now.load(Ordering::Relaxed),
        }
    }

    pub fn store(&self, value: *mut T, ordering: Ordering) {
        note(self.number, self.real.is_some());
        self.now.store(value, Ordering::Relaxed);
        if let Some(real) = &self.real {
            real.store(value, ordering);
        }
    }

    /// What it points to at last.
    pub fn take(&mut self) -> *mut T {
        *self.now.get_mut()
    }
}

/// A thread of the model, or what it gave if there is only one.
pub enum Running<T> {
    Thread(loom::thread::JoinHandle<T>),
    Done(T),
}

impl<T> Running<T> {
    pub fn join(self) -> T {
        match self {
            Self::Thread(thread) => thread.join().expect("a thread of the model"),
            Self::Done(result) => result,
        }
    }
}

pub fn spawn<T: 'static>(run: impl FnOnce() -> T + 'static) -> Running<T> {
    if is_model() { Running::Thread(loom::thread::spawn(run)) } else { Running::Done(run()) }
}
