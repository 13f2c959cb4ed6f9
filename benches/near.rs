//! What an answer from the near-cache costs, beside a signature verification and beside a sharded-lock map.
//!
//! `cargo bench --bench near` measures with 10,000 tokens, `TOKENSCOPE_BENCH_TOKENS=100` with a hundred; with `--test`
//! everything runs once, small, and no number means anything. Each row is the median of interleaved rounds in one process;
//! only the ratios are worth quoting. A few tokens are asked about several times a round, as in `loadtest versus`, which has the
//! same rows beside all others. See `benches/README.md`.

use tokenscope::testing::contest::{Contest, Way};

/// A row: what it is, and the time of one in each round, in nanoseconds.
struct Row {
    way: Way,
    rounds: Vec<f64>,
}

fn main() {
    let is_test = std::env::args().any(|argument| argument == "--test");
    let wished = std::env::var("TOKENSCOPE_BENCH_TOKENS").ok().and_then(|text| text.parse().ok());
    let (tokens, rounds, signatures, hits) =
        if is_test { (64, 1, 4, 64) } else { (wished.unwrap_or(10_000), 21, 400, 20_000) };
    let contest = Contest::new(tokens).expect("random numbers for a key");
    let mut rows = Way::ALL.map(|way| Row { way, rounds: Vec::new() });
    for _ in 0..rounds {
        for row in &mut rows {
            let times = if row.way == Way::Verify { signatures } else { hits.max(tokens) };
            let took = contest.nanoseconds(row.way, times);
            row.rounds.push(took.unwrap_or_else(|| panic!("{}: a wrong answer", row.way.name())));
        }
    }
    let medians: Vec<f64> = rows.iter_mut().map(median).collect();
    for (row, median) in rows.iter().zip(&medians) {
        let (least, most) = (row.rounds[0], row.rounds[row.rounds.len() - 1]);
        println!("{:<36} {median:>10.1} ns   ({least:.1} to {most:.1})", row.way.name());
    }
    println!();
    let of = |way: Way| rows.iter().position(|row| row.way == way).map_or(f64::NAN, |at| medians[at]);
    for (what, a, b) in [
        ("signature verification / near-cache hit, token in", Way::Verify, Way::Near),
        ("signature verification / near-cache hit, digest in hand", Way::Verify, Way::NearByDigest),
        ("near-cache hit / DashMap hit, token in", Way::Near, Way::Mapped),
        ("near-cache hit / DashMap hit, digest in hand", Way::NearByDigest, Way::MappedByDigest),
    ] {
        println!("{what:<60} {:>8.2}", of(a) / of(b));
    }
    if is_test {
        println!("(--test: these numbers mean nothing)");
    }
}

fn median(row: &mut Row) -> f64 {
    row.rounds.sort_by(f64::total_cmp);
    row.rounds[row.rounds.len() / 2]
}
