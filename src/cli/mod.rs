//! The command line: one binary, its verbs, and what they print.
//!
//! Verbs that change or ask something of a running server speak the admin API through the client library; verbs that
//! work on files open them themselves; neither knows more of the rooms below than the trait [`Rooms`]. Everything is
//! printed as a table for people, or with `--json` as the machine's own answer.
//!
//! Exit codes: 0 done, 1 it failed while running (or a `check` was denied), 2 the command line was wrong, 78 the
//! configuration was wrong.
//!
//! What it never does: take a token as an argument (it would land in the process list and the shell's history), print
//! one it was given, or revoke many tokens without having said how many.

#![expect(
    clippy::disallowed_methods,
    reason = "the command line is the edge: it tells the verbs what time it is, and measures them"
)]

// Verbs about members, policies, clients, scopes.
mod administer;
// Verbs that ask.
mod ask;
// The real rooms.
mod export;
// Verbs that work on files.
mod files;
pub mod house;
// A small HTTPS client for the demo.
pub mod https_client;
// Verbs about grants and tokens.
mod issue;
// Verbs that list.
mod list;
// How far a long piece of work has come.
pub mod progress;
// How a running server is reached.
pub mod remote;
// Verbs that revoke.
mod revoke;
// What the command line needs of the rooms below.
pub mod rooms;
// Tables and words for people.
pub mod show;
#[cfg(test)]
mod tests;
// Texts from arguments: times, durations, access lists, tokens.
mod words;

use std::ffi::OsString;
use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand};

pub(crate) use ask::check_word;
use remote::{Api, Reach};
use rooms::Rooms;

/// Why a command did not succeed: what to print on standard error, and the exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// What failed, where, why, and what to do. Empty: everything was said on standard output.
    pub message: String,
}

/// It failed while running.
pub const RUN_TIME: u8 = 1;
/// The command line was wrong.
pub const USAGE: u8 = 2;
/// The configuration was wrong (`EX_CONFIG` of sysexits.h).
pub const CONFIGURATION: u8 = 78;

impl Failure {
    /// It failed while running.
    pub fn run_time(message: impl Into<String>) -> Self {
        Self { code: RUN_TIME, message: message.into() }
    }

    /// The command line was wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: USAGE, message: message.into() }
    }

    /// The configuration was wrong.
    pub fn configuration(message: impl Into<String>) -> Self {
        Self { code: CONFIGURATION, message: message.into() }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        // Whoever reads along has seen enough (`| head`): nothing to complain about.
        let enough = error.kind() == std::io::ErrorKind::BrokenPipe;
        Self { code: RUN_TIME, message: if enough { String::new() } else { error.to_string() } }
    }
}

/// What a verb answers with: done, or why not.
pub type Outcome = Result<(), Failure>;

#[derive(Parser, Debug)]
#[command(
    name = "tokenscope",
    version,
    about = "May this token do this, here, now? Opaque-token introspection from memory.",
    max_term_width = 120,
    after_help = "Examples:
  tokenscope demo                                        watch everything happen, alone and without preparation
  tokenscope dev                                         a development server that stays, with sample data
  export TOKENSCOPE_DEV=tokenscope-dev/dev.json          then ask it, from another terminal:
  tokenscope check tasks:read 1579 < token.txt
  tokenscope serve --config /etc/tokenscope/tokenscope.toml"
)]
struct Line {
    #[command(subcommand)]
    verb: Verb,
    /// Print JSON for machines; field names are stable.
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Play the whole story on a real server in a temporary folder; exits 0 only if every answer was right.
    #[command(after_help = "Examples:\n  tokenscope demo\n  tokenscope demo --tokens 1000000 --keep")]
    Demo(crate::demo::Options),
    /// Run a development server with its own certificates, callers and sample data.
    #[command(after_help = "Examples:
  tokenscope dev
  tokenscope dev --data-dir /tmp/try --tokens 0
The file dev.json in the data directory has the addresses, callers, secrets and sample tokens.")]
    Dev(crate::dev::Options),
    /// Run the server.
    #[command(after_help = "Examples:
  tokenscope serve --config /etc/tokenscope/tokenscope.toml
SIGTERM drains and leaves a snapshot; a second one exits at once; SIGHUP reads certificates and callers again.")]
    Serve(files::ConfigFile),
    /// Check a configuration as `serve` would, and do nothing else.
    #[command(
        after_help = "Examples:\n  tokenscope check-config --config tokenscope.toml && systemctl reload tokenscope"
    )]
    CheckConfig(files::ConfigFile),
    /// What is this token? (RFC 7662)
    Introspect(ask::Introspect),
    /// May this token do this, here? Exits 0 if it may, 1 if not.
    Check(ask::Check),
    /// Everything about one token, why it is inactive included. For operators.
    Explain(ask::Explain),
    /// How risky is an app, a grant, a token, or a grant that is not made yet?
    #[command(subcommand)]
    Risk(ask::Risk),
    /// List tokens, grants, members, clients, scopes.
    #[command(subcommand)]
    List(list::List),
    /// The service in numbers.
    #[command(after_help = "Examples:\n  tokenscope status\n  tokenscope status --json | jq .revision")]
    Status,
    /// Revoke tokens, for good.
    #[command(subcommand)]
    Revoke(revoke::Revoke),
    /// Make, change and show grants.
    #[command(subcommand)]
    Grant(issue::Grant),
    /// Mint a token, or register one that was made elsewhere.
    #[command(subcommand)]
    Token(issue::Token),
    /// Who is a member of which workspace or project.
    #[command(subcommand)]
    Member(administer::Member),
    /// Which apps a workspace lets in.
    #[command(subcommand)]
    Policy(administer::Policy),
    /// The registered apps.
    #[command(subcommand)]
    Client(administer::Client),
    /// The scope catalogue.
    #[command(subcommand)]
    Scope(administer::Scope),
    /// Suspend a user or service account, or let it in again.
    #[command(subcommand)]
    Subject(administer::Subject),
    /// Import grants and tokens from a file, offline; can be interrupted and repeated.
    Import(files::Import),
    /// Write everything that is alive in the import format.
    Export(files::Export),
    /// Make, look at and verify snapshots.
    #[command(subcommand)]
    Snapshot(files::Snapshot),
    /// Look at and verify the journal.
    #[command(subcommand)]
    Journal(files::Journal),
    /// Begin a new epoch after a backup was put back, so that nothing of what was lost is taken for something new.
    NewEpoch(files::NewEpoch),
    /// Rotate and show the keys that seal journal and snapshots.
    #[command(subcommand)]
    Keys(files::Keys),
    /// Print a completion script for a shell.
    #[command(after_help = "Examples:
  tokenscope completions bash > /etc/bash_completion.d/tokenscope
  tokenscope completions zsh > ~/.zfunc/_tokenscope")]
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// The default configuration, and the table of limits.
    #[command(subcommand)]
    Config(files::Config),
    /// Version and build.
    #[command(after_help = "Examples:\n  tokenscope version\n  tokenscope version --json")]
    Version,
}

/// Where a command reads and writes: the process's own, or a test's.
pub struct Desk<'d> {
    /// The rooms below.
    pub rooms: &'d dyn Rooms,
    /// Standard input.
    pub stdin: &'d mut dyn BufRead,
    /// Standard output.
    pub out: &'d mut dyn Write,
    /// Standard error.
    pub err: &'d mut dyn Write,
    /// Whether a person sits at standard input and can be asked.
    pub can_ask: bool,
    /// Whether standard error is a terminal, where progress bars are drawn.
    pub can_draw: bool,
    /// Environment variables.
    pub env: &'d dyn Fn(&str) -> Option<OsString>,
    /// Seconds since 1970.
    pub now: u64,
    /// Whether machines read along.
    pub json: bool,
    reach: Reach,
}

impl<'d> Desk<'d> {
    /// A desk over these; options of the command line are put on it by [`run`].
    pub fn new(
        rooms: &'d dyn Rooms,
        (stdin, out, err): (&'d mut dyn BufRead, &'d mut dyn Write, &'d mut dyn Write),
        env: &'d dyn Fn(&str) -> Option<OsString>,
        now: u64,
    ) -> Self {
        let reach = Reach::default();
        Self { rooms, stdin, out, err, can_ask: false, can_draw: false, env, now, json: false, reach }
    }

    fn api(&self) -> Result<Box<dyn Api>, Failure> {
        self.rooms.connect(&self.reach.resolve(self.env)?)
    }

    fn line(&mut self, text: impl AsRef<str>) -> Outcome {
        writeln!(self.out, "{}", text.as_ref())?;
        Ok(())
    }

    /// Prints an answer: as it came with `--json`, otherwise through `show`.
    fn answer(&mut self, answer: &serde_json::Value, show: impl FnOnce(&serde_json::Value) -> String) -> Outcome {
        let text = if self.json { show::json(answer) } else { show(answer) };
        self.line(text)
    }
}

/// Runs one command line, the program's name first. The exit code; what went wrong was printed.
pub fn run(arguments: impl IntoIterator<Item = OsString>, desk: &mut Desk<'_>) -> u8 {
    let line = match Line::try_parse_from(arguments) {
        Ok(line) => line,
        Err(error) => {
            let text = error.render();
            let (code, printed) = match error.exit_code() {
                0 => (0, write!(desk.out, "{text}")),
                _ => (USAGE, write!(desk.err, "{text}")),
            };
            return if printed.is_ok() { code } else { RUN_TIME };
        }
    };
    desk.json = line.json;
    desk.reach = line.reach;
    match verb(line.verb, desk) {
        Ok(()) => 0,
        Err(failure) => {
            if !failure.message.is_empty() {
                // Nobody is left to tell if this fails.
                let _ = writeln!(desk.err, "tokenscope: {}", failure.message);
            }
            failure.code
        }
    }
}

/// Runs the process's own command line.
pub fn main(rooms: &dyn Rooms) -> std::process::ExitCode {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    let (mut stdin, mut out, mut err) = (std::io::stdin().lock(), std::io::stdout(), std::io::stderr());
    let env = |name: &str| std::env::var_os(name);
    let (can_ask, can_draw) = (stdin.is_terminal(), err.is_terminal());
    let mut desk = Desk::new(rooms, (&mut stdin, &mut out, &mut err), &env, now);
    (desk.can_ask, desk.can_draw) = (can_ask, can_draw);
    let code = run(std::env::args_os(), &mut desk);
    let flushed = std::io::stdout().flush().is_ok();
    std::process::ExitCode::from(if code == 0 && !flushed { RUN_TIME } else { code })
}

fn verb(verb: Verb, desk: &mut Desk<'_>) -> Outcome {
    match verb {
        Verb::Demo(options) => crate::demo::run(&options, desk),
        Verb::Dev(options) => crate::dev::run(&options, desk),
        Verb::Serve(file) => desk.rooms.serve(&file.config),
        Verb::CheckConfig(file) => files::check_config(&file.config, desk),
        Verb::Introspect(verb) => verb.run(desk),
        Verb::Check(verb) => verb.run(desk),
        Verb::Explain(verb) => verb.run(desk),
        Verb::Risk(verb) => verb.run(desk),
        Verb::List(verb) => verb.run(desk),
        Verb::Status => list::status(desk),
        Verb::Revoke(verb) => verb.run(desk),
        Verb::Grant(verb) => verb.run(desk),
        Verb::Token(verb) => verb.run(desk),
        Verb::Member(verb) => verb.run(desk),
        Verb::Policy(verb) => verb.run(desk),
        Verb::Client(verb) => verb.run(desk),
        Verb::Scope(verb) => verb.run(desk),
        Verb::Subject(verb) => verb.run(desk),
        Verb::Import(verb) => verb.run(desk),
        Verb::Export(verb) => verb.run(desk),
        Verb::Snapshot(verb) => verb.run(desk),
        Verb::Journal(verb) => verb.run(desk),
        Verb::NewEpoch(verb) => verb.run(desk),
        Verb::Keys(verb) => verb.run(desk),
        Verb::Completions { shell } => {
            clap_complete::generate(shell, &mut Line::command(), "tokenscope", &mut desk.out);
            Ok(())
        }
        Verb::Config(verb) => verb.run(desk),
        Verb::Version => version(desk),
    }
}

fn version(desk: &mut Desk<'_>) -> Outcome {
    let answer = serde_json::json!({
        "name": "tokenscope",
        "version": env!("CARGO_PKG_VERSION"),
        "commit": option_env!("TOKENSCOPE_COMMIT").unwrap_or("unknown"),
        "profile": if cfg!(debug_assertions) { "debug" } else { "release" },
        "target": format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
    });
    desk.answer(&answer, |answer| format!("tokenscope {}", show::text(answer, "version")))
}

/// The directory `dev` uses when none is given.
pub(crate) fn default_dev_directory() -> PathBuf {
    PathBuf::from("tokenscope-dev")
}
