//! Hands out questions when they are due: to the nanosecond as far as the machine allows, in turn to the lanes.
//!
//! Long waits sleep on a timer with nanoseconds (the runtime's own counts in milliseconds, which would be lateness);
//! the last stretch is spent looking at the clock, and at the network between two looks.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{BusyMeter, Seat, Worker};
use crate::schedule::Due;

/// How much earlier than the moment the timer wakes, in nanoseconds: what waking up takes on a busy machine.
const WAKE_EARLY: u64 = 60_000;

/// How often the CPU time is looked at, in nanoseconds.
const LOOK_EVERY: u64 = 50_000_000;

/// Questions handed out before the network gets its turn.
const AT_ONCE: usize = 256;

/// A timer with nanoseconds.
struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    fn new() -> Result<Self, String> {
        let failed = |error: io::Error| format!("cannot make a timer: {error}");
        let timer =
            rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)
                .map_err(|error| failed(error.into()))?;
        #[expect(deprecated, reason = "its successor is unsafe for descriptors that may change; an owned one does not")]
        AsyncFd::with_interest(timer, Interest::READABLE).map(Self).map_err(failed)
    }

    async fn sleep(&self, ns: u64) -> Result<(), String> {
        let failed = |error: io::Error| format!("the timer: {error}");
        let value = Timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as i64 };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        rustix::time::timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)
            .map_err(|error| failed(error.into()))?;
        loop {
            let mut ready = self.0.readable().await.map_err(failed)?;
            let mut count = [0; 8];
            match ready.try_io(|timer| rustix::io::read(timer.get_ref(), &mut count).map_err(io::Error::from)) {
                Ok(read) => return read.map(drop).map_err(failed),
                Err(_would_block) => {}
            }
        }
    }
}

/// Hands out questions until the moments or the time are over.
pub(super) async fn pace(
    due: Due,
    seats: &[Rc<dyn Seat>],
    worker: &Rc<Worker>,
    until: u64,
    meter: &BusyMeter,
) -> Result<(), String> {
    let timer = Timer::new()?;
    let mut turn = 0;
    let mut questions = Vec::with_capacity(worker.batch);
    let looked = Cell::new(0);
    let look = |now: u64| {
        if now >= looked.get() + LOOK_EVERY {
            looked.set(now);
            meter.look(now);
        }
    };
    // When everything was last found full: what was due before that was kept waiting by the peer, not by us.
    let mut full_until = 0;
    let mut at_once = 0;
    for moment in due {
        let mut now = worker.now();
        while now < moment {
            look(now);
            at_once = 0;
            let gap = moment - now;
            if gap > WAKE_EARLY {
                timer.sleep(gap - WAKE_EARLY).await?;
                now = worker.now();
            } else {
                tokio::task::yield_now().await;
                let then = worker.now();
                // A turn that took longer than an idle one did some work.
                if then - now < 3_000 {
                    meter.spun.set(meter.spun.get() + (then - now));
                }
                now = then;
            }
        }
        at_once += worker.batch;
        if at_once >= AT_ONCE {
            at_once = 0;
            tokio::task::yield_now().await;
            now = worker.now();
        }
        let seat = loop {
            if now >= until {
                break None;
            }
            if let Some(seat) = next_with_room(seats, &mut turn, worker.batch) {
                break Some(seat);
            }
            // Bounded, so that the end of the run is seen even if nothing is answered any more.
            let _ = tokio::time::timeout(Duration::from_millis(20), worker.room.notified()).await;
            now = worker.now();
            full_until = now;
            look(now);
        };
        let had_room = moment >= full_until;
        let count = worker.batch as u64;
        if !had_room {
            worker.held_back.set(worker.held_back.get() + count);
        }
        worker.recorder.borrow_mut().sent(moment, now, count, had_room && seat.is_some());
        let Some(seat) = seat else {
            // The time is over, and it never got its chance.
            worker.unsent.set(worker.unsent.get() + count);
            continue;
        };
        worker.draw(&mut questions);
        seat.put(moment, now, &questions);
    }
    let left = until.saturating_sub(worker.now());
    if left > 0 {
        timer.sleep(left.max(1)).await?;
    }
    meter.look(worker.now());
    Ok(())
}

fn next_with_room<'s>(seats: &'s [Rc<dyn Seat>], turn: &mut usize, batch: usize) -> Option<&'s Rc<dyn Seat>> {
    for _ in 0..seats.len() {
        *turn = if *turn + 1 >= seats.len() { 0 } else { *turn + 1 };
        let seat = seats.get(*turn)?;
        if seat.room() >= batch {
            return Some(seat);
        }
    }
    None
}

/// Waits for the end of a closed loop.
pub(super) async fn wait(worker: &Rc<Worker>, until: u64, meter: &BusyMeter) -> Result<(), String> {
    loop {
        let now = worker.now();
        meter.look(now);
        if now >= until {
            return Ok(());
        }
        let left = Duration::from_nanos(until - now);
        tokio::time::sleep(left.min(Duration::from_millis(20))).await;
    }
}
