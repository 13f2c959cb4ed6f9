//! Asks a Tokenscope server, and its peers, as fast as they are to be asked, and says how long the answers took.
//!
//! Three independent parts: the *schedule* says when questions are due, the *workload* says which ones they are, a
//! *driver* says how they travel. The engine brings them together, the recorder writes down what came of it, the report
//! says what may be believed of it. README.md says how to read the figures.
//!
//! Exit codes: 0 done, 1 it failed or answers were wrong, 2 wrong command line, 99 an assertion was not met.

// A server's admin listener.
mod admin;
// Conditions a run has to meet.
mod assertion;
// Tokens that come and go.
mod churn;
// Two results side by side.
mod compare;
// How questions travel.
mod driver;
// A QUIC server that does nothing.
mod echo_server;
// Workers, lanes, pacing.
mod engine;
// Data sets.
mod generate;
// `loadtest growth`.
mod growth;
// What is seen while a run lasts.
mod live;
// Where it ran.
mod machine;
// The command line.
mod options;
// The tokens there are.
mod population;
// Processes and cores.
mod process;
// A question and its answer.
mod question;
// What is written down.
mod record;
// What came of it.
mod report;
// One run.
mod run;
// When.
mod schedule;
// Where a run keeps what it makes.
mod scratch;
// A Tokenscope server of our own.
mod server;
// Numbers and words.
mod show;
// Whom to ask.
mod target;
// `loadtest run`.
mod verb_run;
// `loadtest versus`.
mod versus;
// Which questions.
mod workload;
// Zipf's law.
mod zipf;

use std::process::ExitCode;

use clap::Parser;
use tokenscope::domain::Timestamp;

use options::{Line, Verb};

/// It failed, or answers were wrong.
const FAILED: u8 = 1;
/// An assertion was not met.
const NOT_MET: u8 = 99;

fn main() -> ExitCode {
    // `loadtest tokenscope …` is the server, so that one executable is enough to measure it.
    let mut arguments = std::env::args_os();
    let _ = arguments.next();
    if arguments.next().is_some_and(|verb| verb == server::VERB) {
        return be_the_server();
    }
    match run(Line::parse().verb) {
        Ok(code) => code.into(),
        Err(why) => {
            eprintln!("loadtest: {why}");
            FAILED.into()
        }
    }
}

fn run(verb: Verb) -> Result<u8, String> {
    match verb {
        Verb::Run(options) => verb_run::run(&options),
        Verb::Versus(options) => versus::run(&options),
        Verb::Growth(options) => growth::run(&options),
        Verb::Compare { a, b } => {
            print!("{}", compare::text(&report::read(&a)?, &report::read(&b)?));
            Ok(0)
        }
        Verb::Generate { tokens, seed, at, output } => {
            let now = at.map_or_else(run::now, |at| Ok(Timestamp::from_raw(at)))?;
            let written = generate::write(&output, seed, tokens, now)?;
            eprintln!(
                "{} lines, {} in {}; seed {seed}, made for {}",
                written.lines,
                show::bytes(written.bytes as f64),
                output.display(),
                now.raw()
            );
            Ok(0)
        }
        Verb::LookUps { tokens, rounds, core } => versus::maps::child(tokens, rounds, core),
        Verb::EchoServer { port, question_bytes, answer_bytes, hashed, directory } => {
            let sizes = echo_server::Sizes::new(question_bytes, answer_bytes)?;
            echo_server::serve(&echo_server::Options { port, sizes, hashed }, &directory)?;
            Ok(0)
        }
    }
}

/// A runtime for the thread that asks for one.
fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| format!("cannot start a runtime: {error}"))
}

/// Does what the `tokenscope` program does with the arguments after the first.
fn be_the_server() -> ExitCode {
    use std::io::Write;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    let (mut stdin, mut out, mut err) = (std::io::stdin().lock(), std::io::stdout(), std::io::stderr());
    let env = |name: &str| std::env::var_os(name);
    let house = tokenscope::cli::house::House;
    let mut desk = tokenscope::cli::Desk::new(&house, (&mut stdin, &mut out, &mut err), &env, now);
    let code = tokenscope::cli::run(std::env::args_os().skip(1), &mut desk);
    let flushed = std::io::stdout().flush().is_ok();
    ExitCode::from(if code == 0 && !flushed { FAILED } else { code })
}
