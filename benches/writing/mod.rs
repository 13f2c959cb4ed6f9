//! A writer that works while a bench looks: tokens registered and revoked through the store's own writer, at the pace that goal
//! P14 names, with a list in memory in the place of a disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokenscope::domain::{
    CallerId, Change, Expiry, GrantId, NewToken, Pepper, Target, Timestamp, TokenDigest, TokenKey, TokenTimes,
};
use tokenscope::store::Committer;

/// Changes that are made together, and how often: 50,000 a second.
const TOGETHER: u64 = 250;
const EVERY: Duration = Duration::from_millis(5);

/// How long its first changes may take, once it is asked to work.
const BEGINS_WITHIN: Duration = Duration::from_secs(10);

/// A thread that changes something whenever it is asked to.
pub struct Writing {
    at_work: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
    made: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Writing {
    /// Registers tokens of grants 1 to `grants` and revokes each of them with the next batch. Asleep until it is needed.
    pub fn start(committer: Committer, pepper: Pepper, grants: u32, now: Timestamp) -> Self {
        let [at_work, ended] = [false, false].map(|value| Arc::new(AtomicBool::new(value)));
        let made = Arc::new(AtomicU64::new(0));
        let (is_at_work, has_ended, counted) = (at_work.clone(), ended.clone(), made.clone());
        let thread = std::thread::spawn(move || {
            let mut before: Vec<TokenKey> = Vec::new();
            let mut number = 0;
            while !has_ended.load(Ordering::Acquire) {
                if !is_at_work.load(Ordering::Acquire) {
                    std::thread::park_timeout(Duration::from_millis(50));
                    continue;
                }
                let began = Instant::now();
                let times = TokenTimes { issued: now, not_before: now, expiry: Expiry::At(now.plus(86_400)) };
                let mut changes: Vec<Change> = before.drain(..).map(|key| Change::Revoke(Target::Token(key))).collect();
                for _ in 0..TOGETHER / 2 {
                    number += 1;
                    let key = pepper.key(&TokenDigest::of(format!("a writer at work: {number}").as_bytes()));
                    let grant = GrantId::new(1 + number as u32 % grants.max(1)).expect("a number");
                    let new = NewToken { key, grant, times, audience: None, confirmation: None, narrowed: None };
                    changes.push(Change::RegisterToken(new));
                    before.push(key);
                }
                let count = changes.len() as u64;
                let by = CallerId::parse("bench").expect("an id");
                let receipts: Vec<_> =
                    changes.into_iter().map(|change| committer.commit(by.clone(), change, now)).collect();
                for receipt in receipts {
                    receipt.wait().expect("the change is made");
                }
                counted.fetch_add(count, Ordering::Release);
                std::thread::sleep(EVERY.saturating_sub(began.elapsed()));
            }
        });
        Self { at_work, ended, made, thread: Some(thread) }
    }

    /// Does something while changes are made.
    ///
    /// # Panics
    /// None is made for ten seconds: then it would be measured without a writer.
    pub fn during<R>(&self, run: impl FnOnce() -> R) -> R {
        let before = self.made.load(Ordering::Acquire);
        self.at_work.store(true, Ordering::Release);
        self.thread.iter().for_each(|it| it.thread().unpark());
        let began = Instant::now();
        while self.made.load(Ordering::Acquire) == before {
            assert!(began.elapsed() < BEGINS_WITHIN, "the writer makes no changes");
            std::thread::sleep(Duration::from_micros(100));
        }
        let done = run();
        self.at_work.store(false, Ordering::Release);
        done
    }

    /// Changes made so far.
    pub fn made(&self) -> u64 {
        self.made.load(Ordering::Acquire)
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}
