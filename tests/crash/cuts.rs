//! Plays a script, cuts the power at any of its calls, opens what is left, looks; and once more.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokenscope::domain::{Entry, Sequence};

use super::dice::Dice;
use super::disk::{Act, CrashDisk, Flaw, Tree};
use super::ledger::{Expect, History};
use super::platter::{Choice, Platter};
use super::script::{Step, afterwards};
use super::session::{Misdeed, Session, open};

/// What is wrong with the rig's disk or with what stands on it; nothing, unless the rig itself is tested.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wrong {
    pub disk: Flaw,
    pub above: Misdeed,
}

impl Wrong {
    pub const NOTHING: Self = Self { disk: Flaw::None, above: Misdeed::None };
}

/// What was met in a number of cuts: a rig that never meets the hard cases proves little.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Met {
    /// How often the power was cut.
    pub cuts: u64,
    /// The store opened from a snapshot.
    pub from_snapshot: u64,
    /// The journal had been shortened.
    pub shortened: u64,
    /// A batch that nobody was told of was found.
    pub doubt_kept: u64,
    /// A batch that nobody was told of was gone.
    pub doubt_lost: u64,
    /// The power was cut while the store opened after a cut.
    pub while_opening: u64,
}

impl std::ops::AddAssign for Met {
    fn add_assign(&mut self, other: Self) {
        self.cuts += other.cuts;
        self.from_snapshot += other.from_snapshot;
        self.shortened += other.shortened;
        self.doubt_kept += other.doubt_kept;
        self.doubt_lost += other.doubt_lost;
        self.while_opening += other.while_opening;
    }
}

/// A script that was played to its end.
pub struct Run {
    log: Vec<Act>,
    history: History,
    wrong: Wrong,
}

impl Run {
    /// Plays a script on an empty disk.
    ///
    /// # Errors
    /// The store did not open: nothing to do with power.
    pub fn play(steps: &[Step], wrong: Wrong) -> Result<Self, String> {
        let disk = CrashDisk::holding(Tree::default(), wrong.disk);
        let (dir, opened, watch) = open(&disk, wrong.above)?;
        let session = Session::start(&disk, dir, opened, watch, Vec::new());
        let list = follow(&disk, session, steps, Vec::new(), wrong.above)?;
        Ok(Self { log: disk.log(), history: History::new(list), wrong })
    }

    /// Where the power can fail: before each call, and after the last.
    pub fn boundaries(&self) -> Vec<Boundary<'_>> {
        let (mut platter, mut expect) =
            (Platter::default(), Expect { ends: vec![Sequence::ZERO], ..Expect::default() });
        let mut boundaries = Vec::new();
        for (at, act) in self.log.iter().map(Some).chain([None]).enumerate() {
            if !matches!(act, Some(Act::Mark(_))) {
                boundaries.push(Boundary { run: self, at, platter: platter.clone(), expect: expect.clone() });
            }
            if let Some(act) = act {
                platter.act(act);
                expect.act(act);
            }
        }
        boundaries
    }
}

/// A place in a run where the power can fail.
pub struct Boundary<'r> {
    run: &'r Run,
    at: usize,
    platter: Platter,
    expect: Expect,
}

impl Boundary<'_> {
    /// Whether chance has nothing to choose here.
    pub fn is_settled(&self) -> bool {
        self.platter.is_settled()
    }

    /// Cuts the power here, opens what is left, and compares. If `again` is given, goes on with the store, cuts the power
    /// a second time (perhaps during the opening), and opens twice more.
    ///
    /// # Errors
    /// What is wrong, with where and how.
    pub fn cut(&self, choice: Choice, again: Option<u64>) -> Result<Met, String> {
        let tried = catch_unwind(AssertUnwindSafe(|| self.try_cut(choice, again)));
        let tried = tried.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            Err(format!("a panic: {}", text.unwrap_or("no message")))
        });
        tried.map_err(|what| {
            let acts = &self.run.log[self.at.saturating_sub(3)..(self.at + 2).min(self.run.log.len())];
            let acts: Vec<String> = acts.iter().map(short).collect();
            let (at, all) = (self.at, self.run.log.len());
            format!("{what}\n  cut at {at} of {all}, {choice:?}, again {again:?}; around it: {}", acts.join(", "))
        })
    }

    fn try_cut(&self, choice: Choice, again: Option<u64>) -> Result<Met, String> {
        let Wrong { disk: flaw, above } = self.run.wrong;
        let tree = self.platter.cut(choice);
        let disk = CrashDisk::holding(tree.clone(), flaw);
        let history = &self.run.history;
        let (dir, opened, watch) = open(&disk, above).map_err(|error| format!("REFUSED to open: {error}"))?;
        let found = history.examine(&opened, &self.expect)?;
        let asked = self.expect.ends.iter().max().copied().unwrap_or_default();
        let mut met = Met {
            cuts: 1,
            from_snapshot: u64::from(opened.recovered.snapshot.is_some()),
            shortened: u64::from(opened.journal.head().discarded > Sequence::ZERO),
            doubt_kept: u64::from(found > self.expect.acknowledged),
            doubt_lost: u64::from(found < asked),
            while_opening: 0,
        };
        let Some(seed) = again else { return Ok(met) };

        let mut dice = Dice::new(seed);
        let list = history.list()[..found.0 as usize].to_vec();
        // Far from the numbers the script has used, so that a token is a new one or one that is known, by chance.
        let (tokens, grants) = if dice.below(2) == 0 { (1_000, 1) } else { (20, 2) };
        let steps = afterwards(&mut dice, tokens, grants);
        let session = Session::start(&disk, dir, opened, watch, Vec::new());
        let list = follow(&disk, session, &steps, list, above)?;
        let log = disk.log();

        let at = dice.below(log.len() + 1);
        let (mut platter, mut expect) = (Platter::holding(&tree), Expect::of(found, self.expect.dead.clone()));
        for act in &log[..at] {
            platter.act(act);
            expect.act(act);
        }
        met.cuts += 1;
        met.while_opening += u64::from(!log[..at].iter().any(|act| matches!(act, Act::Mark(_))));
        let choice = Choice::any(&mut dice);
        let history = History::new(list);
        let disk = CrashDisk::holding(platter.cut(choice), flaw);
        let second = |what: String| format!("after a second cut, at {at} of {}, {choice:?}: {what}", log.len());
        let (_dir, opened, _) = open(&disk, above).map_err(|error| second(format!("REFUSED to open: {error}")))?;
        let found = history.examine(&opened, &expect).map_err(second)?;
        drop(opened);
        let third = |what: String| second(format!("then reopened: {what}"));
        let (_dir, opened, _) = open(&disk, above).map_err(|error| third(format!("REFUSED to open: {error}")))?;
        history.examine(&opened, &Expect::of(found, expect.dead)).map_err(third)?;
        Ok(met)
    }
}

/// Does the steps, closes the store, and says what the list has become.
fn follow(
    disk: &CrashDisk,
    session: Session,
    steps: &[Step],
    mut list: Vec<Entry>,
    misdeed: Misdeed,
) -> Result<Vec<Entry>, String> {
    let mut session = session;
    for step in steps {
        match step {
            Step::Change(changes) => session.change(changes),
            Step::Checkpoint => session.checkpoint(),
            Step::Rotate => session.rotate(),
            Step::Restart => {
                list.extend(session.handed());
                let living = session.close();
                let (dir, opened, watch) = open(disk, misdeed)?;
                session = Session::start(disk, dir, opened, watch, living);
            }
        }
    }
    list.extend(session.handed());
    session.close();
    Ok(list)
}

fn short(act: &Act) -> String {
    match act {
        Act::Write(file, at, data) => format!("Write({file}, at {at}, {} bytes)", data.len()),
        other => format!("{other:?}"),
    }
}

/// Does `count` jobs on all processors; the sum of what they met, or what is wrong in the first job where something is.
///
/// # Errors
/// As the jobs.
pub fn in_parallel(count: usize, job: impl Fn(usize) -> Result<Met, String> + Sync) -> Result<Met, String> {
    let (next, sum) = (AtomicUsize::new(0), Mutex::new(Met::default()));
    let wrong = Mutex::new(None::<(usize, String)>);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                // Numbers are taken in order: those below a failed one are done or in some thread's hands.
                while wrong.lock().expect("no panic inside").is_none() {
                    let number = next.fetch_add(1, Relaxed);
                    if number >= count {
                        return;
                    }
                    match job(number) {
                        Ok(met) => *sum.lock().expect("no panic inside") += met,
                        Err(what) => {
                            let mut wrong = wrong.lock().expect("no panic inside");
                            if wrong.as_ref().is_none_or(|(first, _)| number < *first) {
                                *wrong = Some((number, what));
                            }
                        }
                    }
                }
            });
        }
    });
    match wrong.into_inner().expect("no panic inside") {
        Some((_, what)) => Err(what),
        None => Ok(sum.into_inner().expect("no panic inside")),
    }
}
