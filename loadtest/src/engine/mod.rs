//! A run: workers that hand due questions to lanes, and what came of it.
//!
//! ```text
//! schedule ── due moments ──► pacer ──┬─► lane: pipe or asker ──► driver
//! workload ── questions ────►         └─► …        │ answers
//!                                                  ▼
//!                                              recorder
//! ```
//!
//! A worker is one thread with one runtime, and everything of it stays there. With a closed loop there is no pacer:
//! each lane takes the next question itself when an answer has made room.

// One question at a time.
mod caller;
// Many questions in flight on a byte stream.
mod lane;
// Hands out questions when they are due.
mod pacer;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::LocalSet;

use crate::driver::{AnyDriver, Opened, Path, Share, Travelled};
use crate::question::Question;
use crate::record::{Ledger, Live, Recorder};
use crate::schedule::{Due, Mode, Plan};
use crate::workload::Workload;

/// How long answers may take after the last question.
const DRAIN: Duration = Duration::from_secs(5);

/// How long connections have to say that they are closed.
const CLOSING: Duration = Duration::from_millis(50);

/// Everything that is the same for all workers.
pub struct Setup {
    /// When.
    pub plan: Plan,
    /// How.
    pub driver: AnyDriver,
    /// Connections, streams and questions in flight, of all workers together.
    pub share: Share,
    /// Questions that are due at the same moment on the same lane.
    pub batch: usize,
    /// For the moments.
    pub seed: u64,
    /// The core the first worker is pinned to; the others follow. `None`: wherever the system likes.
    pub core: Option<usize>,
}

/// What came of it.
pub struct Ran {
    /// What was written down.
    pub recorder: Recorder,
    /// What went over the wire while recording.
    pub travelled: Travelled,
    /// CPU time of the workers while recording, as a share of the time they had; time spent waiting for a moment by
    /// looking at the clock does not count.
    pub busy: f64,
    /// Failures of lanes, in words.
    pub failures: Vec<String>,
    /// Questions that were due and kept waiting because everything was full: the peer was the limit.
    pub held_back: u64,
    /// Those of them that had not been sent when the time was over.
    pub unsent: u64,
}

/// What a run is told about by its surroundings.
pub trait Witness {
    /// Recording begins.
    fn begins(&mut self) {}
    /// A moment has passed; what the workers see.
    fn sees(&mut self, _at: Duration, _lives: &[Live]) {}
    /// Recording has ended.
    fn ends(&mut self) {}
}

/// Runs.
///
/// # Errors
/// Connections cannot be made, or a worker fails as a whole.
pub fn run(setup: &Setup, workloads: Vec<Workload>, witness: &mut dyn Witness) -> Result<Ran, String> {
    let workers = workloads.len();
    let lives: Vec<Live> = (0..workers).map(|_| Live::default()).collect();
    let barrier = Barrier::new(workers + 1);
    let may_start = AtomicBool::new(false);
    let (ready, readiness) = mpsc::channel();
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (number, (workload, live)) in workloads.into_iter().zip(&lives).enumerate() {
            let (ready, barrier, may_start) = (ready.clone(), &barrier, &may_start);
            let started = std::thread::Builder::new().name(format!("worker-{number}")).spawn_scoped(scope, move || {
                if let Some(core) = setup.core {
                    crate::process::pin_thread(core + number)?;
                }
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.map_err(|error| format!("cannot start a runtime: {error}"));
                let opened = runtime.and_then(|runtime| {
                    let local = LocalSet::new();
                    let share = part(setup.share, number, workers);
                    let opened = local.block_on(&runtime, setup.driver.open(share))?;
                    Ok((runtime, local, opened))
                });
                let opened = match opened {
                    Ok(opened) => {
                        let _ = ready.send(Ok(()));
                        opened
                    }
                    Err(why) => {
                        let _ = ready.send(Err(why.clone()));
                        barrier.wait();
                        return Err(why);
                    }
                };
                let (runtime, local, opened) = opened;
                barrier.wait();
                if !may_start.load(Ordering::Acquire) {
                    return Err("another worker could not connect".to_owned());
                }
                let due = match setup.plan.mode {
                    Mode::Open(arrivals) => {
                        Some(Due::new(&setup.plan, arrivals, setup.seed, number, workers, setup.batch))
                    }
                    Mode::Closed => None,
                };
                let ran = local.block_on(&runtime, work(setup, opened, workload, due, live.clone()));
                // That a connection is closed is said by a task of its own, which has to have its turn; otherwise the peer
                // keeps it until it times out, beside those of the next run.
                runtime.block_on(async { tokio::time::sleep(CLOSING).await });
                ran
            });
            threads.push(started.map_err(|error| format!("cannot start a thread: {error}"))?);
        }
        drop(ready);
        let connected: Result<Vec<()>, String> = readiness.iter().take(workers).collect();
        may_start.store(connected.is_ok(), Ordering::Release);
        barrier.wait();
        if connected.is_ok() {
            watch(&setup.plan, &lives, witness);
        }
        let ran: Vec<Result<Ran, String>> =
            threads.into_iter().map(|it| it.join().unwrap_or_else(|_| Err("a worker panicked".to_owned()))).collect();
        connected?;
        let mut all: Option<Ran> = None;
        for one in ran {
            let one = one?;
            match &mut all {
                None => all = Some(one),
                Some(all) => {
                    all.recorder.merge(one.recorder);
                    all.travelled = all.travelled.plus(one.travelled);
                    all.busy += one.busy;
                    all.failures.extend(one.failures);
                    all.held_back += one.held_back;
                    all.unsent += one.unsent;
                }
            }
        }
        let mut all = all.ok_or("no worker")?;
        all.busy /= workers as f64;
        Ok(all)
    })
}

/// Tells the witness when recording begins and ends, and what is seen in between.
fn watch(plan: &Plan, lives: &[Live], witness: &mut dyn Witness) {
    let start = Instant::now();
    let (begins, ends) = (Duration::from_nanos(plan.recorded_from_ns()), Duration::from_nanos(plan.lasts_ns()));
    let mut begun = false;
    loop {
        let at = start.elapsed();
        if !begun && at >= begins {
            begun = true;
            witness.begins();
        }
        if at >= ends {
            return witness.ends();
        }
        witness.sees(at, lives);
        let next = if begun { ends } else { begins };
        std::thread::sleep((next - at).min(Duration::from_millis(200)));
    }
}

/// What worker `number` of `workers` gets.
fn part(share: Share, number: usize, workers: usize) -> Share {
    let connections = share.connections / workers + usize::from(number < share.connections % workers);
    Share { connections: connections.max(1), ..share }
}

/// What the lanes of a worker share.
pub(crate) struct Worker {
    start: Instant,
    recorder: RefCell<Recorder>,
    workload: RefCell<Workload>,
    batch: usize,
    closed: bool,
    /// No new questions.
    stopping: Cell<bool>,
    /// A lane has room again.
    room: Notify,
    held_back: Cell<u64>,
    unsent: Cell<u64>,
}

impl Worker {
    /// Nanoseconds from the begin of the run.
    fn now(&self) -> u64 {
        crate::schedule::ns(self.start.elapsed())
    }

    /// As many questions as are due at once.
    fn draw(&self, into: &mut Vec<Question>) {
        let mut workload = self.workload.borrow_mut();
        into.clear();
        into.extend((0..self.batch).map(|_| workload.next()));
    }
}

/// Where questions are handed in.
pub(crate) trait Seat {
    /// How many more questions it takes now.
    fn room(&self) -> usize;
    /// Takes questions that were due at `due`; `now` is now.
    fn put(&self, due: u64, now: u64, questions: &[Question]);
}

/// The work of one worker, from the first question to the last answer.
async fn work(setup: &Setup, opened: Opened, workload: Workload, due: Option<Due>, live: Live) -> Result<Ran, String> {
    // A group of questions in one request is a batch at least.
    let batch = setup.batch.max(setup.driver.group());
    let worker = Rc::new(Worker {
        start: Instant::now(),
        recorder: RefCell::new(Recorder::new(&setup.plan, live)),
        workload: RefCell::new(workload),
        batch,
        closed: due.is_none(),
        stopping: Cell::new(false),
        room: Notify::new(),
        held_back: Cell::new(0),
        unsent: Cell::new(0),
    });
    let mut seats: Vec<Rc<dyn Seat>> = Vec::new();
    let mut tasks = tokio::task::JoinSet::new();
    let mut paths: Vec<Rc<dyn Path>> = Vec::new();
    let mut ledgers: Vec<Rc<dyn Fn() -> usize>> = Vec::new();
    match opened {
        Opened::Pipes(pipes, in_flight) => {
            if in_flight < batch {
                return Err(format!("{in_flight} questions in flight on a lane have no room for batches of {batch}"));
            }
            for pipe in pipes {
                paths.push(pipe.path.clone());
                let shared = Rc::new(lane::Shared::new(pipe.codec, in_flight, setup.driver.group(), worker.clone()));
                seats.push(shared.clone());
                ledgers.push(Rc::new({
                    let shared = shared.clone();
                    move || shared.in_flight()
                }));
                tasks.spawn_local(lane::serve(shared, pipe.reader, pipe.writer, worker.clone()));
            }
        }
        Opened::Askers(askers) => {
            if batch > 1 {
                return Err("this driver asks one question at a time; leave the batch at 1".to_owned());
            }
            for asker in askers {
                let shared = Rc::new(caller::Shared::default());
                seats.push(shared.clone());
                ledgers.push(Rc::new({
                    let shared = shared.clone();
                    move || shared.in_flight()
                }));
                tasks.spawn_local(caller::serve(shared, asker, worker.clone()));
            }
        }
    }
    let mut failures = Vec::new();
    let meter = BusyMeter::new(&setup.plan, paths);
    let paced = {
        let until = setup.plan.lasts_ns();
        let mut pacing = Box::pin(async {
            match due {
                Some(due) => pacer::pace(due, &seats, &worker, until, &meter).await,
                None => pacer::wait(&worker, until, &meter).await,
            }
        });
        loop {
            tokio::select! {
                biased;
                paced = &mut pacing => break paced,
                Some(ended) = tasks.join_next() => {
                    failures.extend(ended.map_err(|error| error.to_string()).flatten().err());
                    if tasks.is_empty() {
                        break Err("every connection is lost".to_owned());
                    }
                }
            }
        }
    };
    if let Err(why) = paced {
        return Err(format!("{why}{}", failures.first().map(|it| format!(": {it}")).unwrap_or_default()));
    }
    let travelled = meter.travelled();
    worker.stopping.set(true);
    for seat in &seats {
        // Lanes that sleep have to notice that nothing more will come.
        seat.put(0, 0, &[]);
    }
    let drained = tokio::time::timeout(DRAIN, async {
        while let Some(ended) = tasks.join_next().await {
            failures.extend(ended.map_err(|error| error.to_string()).flatten().err());
        }
    });
    let _ = drained.await;
    let lost = ledgers.iter().map(|in_flight| in_flight() as u64).sum();
    tasks.abort_all();
    while tasks.join_next().await.is_some() {}
    drop(seats);
    drop(ledgers);
    let busy = meter.busy();
    let (held_back, unsent) = (worker.held_back.get(), worker.unsent.get());
    let worker = Rc::try_unwrap(worker).map_err(|_| "a lane outlived its worker".to_owned())?;
    let mut recorder = worker.recorder.into_inner();
    recorder.finish(lost);
    Ok(Ran { recorder, travelled, busy, failures, held_back, unsent })
}

/// What is used while recording: what goes over the paths, and the CPU time of this thread without the time spent looking at
/// the clock.
pub(crate) struct BusyMeter {
    from: u64,
    began: Cell<Option<(Duration, u64)>>,
    ended: Cell<Option<(Duration, u64)>>,
    /// Nanoseconds spent looking at the clock since recording began.
    pub(crate) spun: Cell<u64>,
    paths: Vec<Rc<dyn Path>>,
    /// What had gone over the paths when recording began.
    before: Cell<Travelled>,
}

impl BusyMeter {
    fn new(plan: &Plan, paths: Vec<Rc<dyn Path>>) -> Self {
        Self {
            from: plan.recorded_from_ns(),
            began: Cell::new(None),
            ended: Cell::new(None),
            spun: Cell::new(0),
            paths,
            before: Cell::default(),
        }
    }

    fn sum(&self) -> Travelled {
        self.paths.iter().fold(Travelled::default(), |sum, path| sum.plus(path.travelled()))
    }

    /// What went over the paths since recording began.
    fn travelled(&self) -> Travelled {
        self.sum().since(self.before.get())
    }

    /// Looks at the time that was used, if recording has begun.
    pub(crate) fn look(&self, now: u64) {
        if now < self.from {
            return self.spun.set(0);
        }
        let used = crate::process::thread_cpu();
        if self.began.get().is_none() {
            self.spun.set(0);
            self.before.set(self.sum());
            self.began.set(Some((used, now)));
        }
        self.ended.set(Some((used, now)));
    }

    fn busy(&self) -> f64 {
        let (Some((first, from)), Some((last, to))) = (self.began.get(), self.ended.get()) else { return 0.0 };
        let used = crate::schedule::ns(last.saturating_sub(first)).saturating_sub(self.spun.get());
        if to > from { used as f64 / (to - from) as f64 } else { 0.0 }
    }
}

/// Questions in flight, in a cell.
pub(crate) type Open = RefCell<Ledger>;
