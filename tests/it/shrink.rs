//! Makes a failing list of changes short enough to read: drops what is not needed for the failure.

use std::fmt::Write;

use crate::workload::Step;

/// The shortest list found by dropping ever smaller pieces, with its complaint.
pub fn shrink(mut steps: Vec<Step>, mut complaint: String, fails: impl Fn(&[Step]) -> Option<String>) -> String {
    let mut piece = steps.len() / 2;
    while piece > 0 {
        let mut from = 0;
        while from < steps.len() {
            let to = (from + piece).min(steps.len());
            let mut fewer = steps.clone();
            fewer.drain(from..to);
            match fails(&fewer) {
                Some(new) => (steps, complaint) = (fewer, new),
                None => from = to,
            }
        }
        piece /= 2;
    }
    let mut told = String::from("the shortest list of changes found:\n");
    for (number, (request, now)) in steps.iter().enumerate() {
        let _ = writeln!(told, "{:3}. at {now}: {request:?}", number + 1);
    }
    told + &complaint
}
