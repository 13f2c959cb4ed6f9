//! What the benches have in common: rows that take turns, and what is said of them.

#![allow(dead_code, reason = "each bench is a program of its own and needs a part of this")]

use std::time::Instant;

/// Something that is measured: its name, and a round of it, which says what it found.
pub type Row<'r> = (String, Box<dyn FnMut() -> f64 + 'r>);

/// Whether everything shall only run once, so that it cannot rot.
pub fn is_test() -> bool {
    std::env::args().any(|argument| argument == "--test")
}

/// Keeps the rows whose name contains a word of the command line; all, if there is none.
pub fn chosen(rows: Vec<Row<'_>>) -> Vec<Row<'_>> {
    let words: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    rows.into_iter().filter(|(name, _)| words.is_empty() || words.iter().any(|word| name.contains(word))).collect()
}

/// What this thread has had of its processor, in nanoseconds: others who want it too do not count.
pub fn processor_time() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// Nanoseconds of processor time for each of `count`.
pub fn each(count: usize, run: impl FnOnce()) -> f64 {
    let begun = processor_time();
    run();
    (processor_time() - begun) / count as f64
}

/// How long it took on the clock, in nanoseconds: where a disk is waited for, processor time says nothing.
pub fn clock(run: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    run();
    begun.elapsed().as_secs_f64() * 1e9
}

/// What the rounds of a row gave, sorted.
pub struct Taken {
    /// The row's name.
    pub name: String,
    figures: Vec<f64>,
}

impl Taken {
    /// The figure that so many quarters of the rounds do not exceed.
    pub fn quartile(&self, quarters: usize) -> f64 {
        self.figures.get(self.figures.len() * quarters / 4).copied().unwrap_or(f64::NAN)
    }
}

/// Lets the rows take turns, so that a machine whose speed drifts slows all of them alike.
pub fn take(mut rows: Vec<Row<'_>>, rounds: usize) -> Vec<Taken> {
    let mut taken: Vec<Taken> =
        rows.iter().map(|(name, _)| Taken { name: name.clone(), figures: Vec::new() }).collect();
    for _ in 0..rounds {
        for ((_, run), taken) in rows.iter_mut().zip(&mut taken) {
            taken.figures.push(run());
        }
    }
    taken.iter_mut().for_each(|it| it.figures.sort_by(f64::total_cmp));
    taken
}

/// Prints the median of each row with the quarters beside it, and what `more` has to say of the median.
pub fn print(taken: &[Taken], unit: &str, more: impl Fn(&Taken) -> String) {
    println!("{:44} {:>10} {:>10} {:>10}  {unit}", "", "quarter", "median", "3/4");
    for row in taken {
        let [first, median, last] = [1, 2, 3].map(|quarters| row.quartile(quarters));
        println!("{:44} {first:>10.1} {median:>10.1} {last:>10.1}  {}", row.name, more(row));
    }
    if is_test() {
        println!("(--test: these numbers mean nothing)");
    }
}

/// How often the median of one row contains that of another, by their names.
pub fn ratio(taken: &[Taken], above: &str, below: &str) -> Option<f64> {
    let of = |name: &str| taken.iter().find(|row| row.name == name).map(|row| row.quartile(2));
    Some(of(above)? / of(below)?)
}
