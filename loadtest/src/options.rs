//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::assertion::Assertion;
use crate::schedule::{Arrivals, Stage};
use crate::show::{parse_count, parse_duration, parse_duration_or_none, parse_rate};
use crate::workload::{Asking, Mix, Popularity};

/// Asks a Tokenscope server, and its peers, as fast as they are to be asked, and says how long the answers took.
#[derive(Parser, Debug)]
#[command(name = "loadtest", version, max_term_width = 120, after_help = EXAMPLES)]
pub struct Line {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  loadtest run --rate 50k                        a server of its own, 50,000 questions per second, open loop
  loadtest run --closed --connections 4 --in-flight 1024
  loadtest run --sweep --duration 5s --html sweep.html   latency against rate up to the knee
  loadtest run --target-dev ~/dev/dev.json --rate 20k --ask introspect --churn 1k --json a.json --html a.html
  loadtest run --rate 10k --assert 'p99<500us' --assert 'errors==0'     exit code 99 if not
  loadtest compare a.json b.json
  loadtest versus                                everything beside everything, about half an hour
  loadtest versus --build-uncounted DIRECTORY     the same with P16, whose two builds are made first
  loadtest growth                                how cost grows, about ten minutes
  loadtest generate --tokens 10M --seed 7 -o tokens.jsonl

Exit codes: 0 done, 1 it failed or answers were wrong, 2 wrong command line, 99 an assertion was not met.";

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Put load on a server and measure.
    Run(Box<Run>),
    /// Our server and its peers side by side, and the table of goals.
    Versus(Versus),
    /// How cost grows: with tokens, with what is in flight, with connections.
    Growth(Growth),
    /// Two results side by side.
    Compare {
        /// A result.
        a: PathBuf,
        /// The one to compare with it.
        b: PathBuf,
    },
    /// Write a data set in the import format.
    Generate {
        /// How many tokens, beside the ten of the story: 100k, 10M.
        #[arg(long, value_parser = parse_count)]
        tokens: u64,
        /// The same seed and moment make the same data.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// The moment the data is made for, in seconds since 1970. Default: now.
        #[arg(long)]
        at: Option<u32>,
        /// Where to; `-` is standard output.
        #[arg(short, long)]
        output: PathBuf,
    },
    /// Looks tokens up in an index and in maps, for `versus`, which starts it; prints JSON.
    #[command(name = crate::versus::maps::VERB, hide = true)]
    LookUps {
        /// Tokens in each.
        #[arg(long, value_parser = parse_count)]
        tokens: u64,
        /// How often each kind has its turn.
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=100))]
        rounds: u16,
        /// The core it runs on.
        #[arg(long)]
        core: Option<usize>,
    },
    /// A QUIC server that does nothing, to measure the transport with.
    EchoServer {
        /// UDP port on loopback; 0: any.
        #[arg(long, default_value_t = 0)]
        port: u16,
        /// Bytes of a question.
        #[arg(long, default_value_t = 44)]
        question_bytes: u16,
        /// Bytes of an answer.
        #[arg(long, default_value_t = 16)]
        answer_bytes: u16,
        /// Compute the server's keyed hash for every question.
        #[arg(long)]
        hashed: bool,
        /// Where to write echo.address and echo.pem.
        #[arg(long, default_value = ".")]
        directory: PathBuf,
    },
}

/// Put load on a server and measure.
#[derive(Args, Debug)]
pub struct Run {
    /// How to ask.
    #[arg(long, value_enum, default_value_t = DriverName::Native)]
    pub driver: DriverName,

    /// The server: a dev.json of a running `tokenscope dev`. Default: start one.
    #[arg(long, value_name = "FILE")]
    pub target_dev: Option<PathBuf>,
    /// Where the server that is started keeps its data. Default: a temporary directory.
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "target_dev")]
    pub data_dir: Option<PathBuf>,
    /// How many sample tokens it has, if its directory is new; or how many are put into a peer.
    #[arg(long, value_parser = parse_count, default_value = "100k")]
    pub tokens: u64,
    /// Another executable of the server than this one.
    #[arg(long, value_name = "FILE", conflicts_with = "target_dev")]
    pub server_binary: Option<PathBuf>,
    /// Process of the server, to count its CPU time, where it was not started here.
    #[arg(long)]
    pub server_pid: Option<u32>,
    /// Address of a peer (redis, memcached, http, echo). Loopback only.
    #[arg(long, value_name = "ADDRESS")]
    pub address: Option<SocketAddr>,
    /// Speak TLS with a peer whose certificate leads to this CA (PEM).
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Path that the http driver posts to.
    #[arg(long, default_value = "/")]
    pub path: String,
    /// Keys in a request of memcached.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub group: u16,
    /// Bytes of a question and of an answer of the echo.
    #[arg(long, value_name = "QUESTION:ANSWER", default_value = "44:16")]
    pub echo_bytes: String,

    /// Questions per second, open loop: 500, 20k, 1.5M.
    #[arg(long, value_parser = parse_rate, conflicts_with_all = ["closed", "stage"])]
    pub rate: Option<f64>,
    /// A stage of an open loop, as rate:duration; may be given many times.
    #[arg(long, conflicts_with = "closed")]
    pub stage: Vec<Stage>,
    /// Closed loop: always as many in flight as there is room for. Hides every pause of the server.
    #[arg(long)]
    pub closed: bool,
    /// Find out by a short closed loop how much the peer takes, then ask 10, 25, 50, 70, 80, 90, 95 and 110 % of that, open
    /// loop, each for --duration.
    #[arg(long, conflicts_with_all = ["rate", "stage", "closed"])]
    pub sweep: bool,
    /// How the moments of an open loop lie.
    #[arg(long, value_enum, default_value_t = Arrivals::Poisson)]
    pub arrivals: Arrivals,
    /// How long is recorded, where there are no stages.
    #[arg(long, value_parser = parse_duration, default_value = "10s")]
    pub duration: Duration,
    /// How long is asked before that.
    #[arg(long, value_parser = parse_duration_or_none, default_value = "2s")]
    pub warm_up: Duration,

    /// Connections of all workers together.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub connections: u16,
    /// Streams on each connection (QUIC).
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub streams: u16,
    /// Questions in flight on each connection; with the client library, tasks for each connection.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub in_flight: u32,
    /// Threads that ask.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub workers: u16,
    /// Core of the first worker; the others follow.
    #[arg(long)]
    pub core: Option<usize>,
    /// Core of the server, where it is started here.
    #[arg(long, conflicts_with = "target_dev")]
    pub server_core: Option<usize>,

    /// What to ask.
    #[arg(long, value_enum, default_value_t = Asking::Check)]
    pub ask: Asking,
    /// Which tokens are popular.
    #[arg(long, value_enum, default_value_t = Popularity::Uniform)]
    pub popularity: Popularity,
    /// Shares of kinds of tokens: hit=90,unknown=8,expired=0,revoked=2,denied=0.
    #[arg(long)]
    pub mix: Option<Mix>,
    /// Questions that are due at the same moment on the same stream.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub batch: u16,
    /// Changes per second while it lasts: half of them register tokens, half revoke them.
    #[arg(long, value_parser = parse_rate)]
    pub churn: Option<f64>,
    /// For all that is drawn.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// Write the result as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the latencies for HdrHistogram's plotters.
    #[arg(long, value_name = "FILE")]
    pub hgrm: Option<PathBuf>,
    /// Write one page with plots.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// A condition; exit code 99 if it is not met. May be given many times.
    #[arg(long = "assert", value_name = "CONDITION")]
    pub assertions: Vec<Assertion>,
    /// Show nothing while it lasts.
    #[arg(long)]
    pub quiet: bool,
}

/// How to ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum DriverName {
    /// The native protocol, straight on QUIC.
    Native,
    /// The client library, many tasks sharing it.
    Client,
    /// RFC 7662 over HTTP/1.1 and TLS.
    Https1,
    /// RFC 7662 over HTTP/2 and TLS.
    Https2,
    /// Nothing at the other end: the tool's own ceiling.
    Null,
    /// The bare QUIC echo.
    Echo,
    /// Redis.
    Redis,
    /// Memcached.
    Memcached,
    /// A fixed page over HTTP/1.1.
    Http,
}

/// Our server and its peers side by side.
#[derive(Args, Debug)]
pub struct Versus {
    /// Tokens in every server.
    #[arg(long, value_parser = parse_count, default_value = "1M")]
    pub tokens: u64,
    /// Tokens in the index and in the maps that are looked up without a socket.
    #[arg(long, value_parser = parse_count, default_value = "10M")]
    pub map_tokens: u64,
    /// Tokens of our server beside itself with --tokens. The goal names 100M: about 15 GiB of memory in all.
    #[arg(long, value_parser = parse_count, default_value = "10M")]
    pub large_tokens: u64,
    /// Tokens of ours and of Redis, which are ended and started again (P10, P11). Default: --large-tokens, or --map-tokens if
    /// those are fewer.
    #[arg(long, value_parser = parse_count)]
    pub restart_tokens: Option<u64>,
    /// Build our server twice with cargo, as it is and with TOKENSCOPE_UNCOUNTED set, which compiles the counting of questions to
    /// nothing, and compare them (P16). The directory is kept: some ten minutes the first time, a moment then.
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "uncounted")]
    pub build_uncounted: Option<PathBuf>,
    /// An executable of our server that was built with TOKENSCOPE_UNCOUNTED set, and so counts nothing, for P16.
    #[arg(long, value_name = "FILE")]
    pub uncounted: Option<PathBuf>,
    /// How often everything is measured, in turn.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub rounds: u16,
    /// How long a cell is recorded.
    #[arg(long, value_parser = parse_duration, default_value = "3s")]
    pub duration: Duration,
    /// How long it is asked before that.
    #[arg(long, value_parser = parse_duration, default_value = "1s")]
    pub warm_up: Duration,
    /// Only prove that it runs: few tokens, one round, no figure worth anything.
    #[arg(long)]
    pub short: bool,
    /// Leave out the rounds of P1 to P7, P12 and P14, for whoever works on near-caches and feeds.
    #[arg(long)]
    pub near_only: bool,
    /// Core of the servers.
    #[arg(long, default_value_t = 0)]
    pub server_core: usize,
    /// Core of the generator.
    #[arg(long, default_value_t = 1)]
    pub core: usize,
    /// Where data and peers are kept. Default: a temporary directory.
    #[arg(long, value_name = "DIRECTORY")]
    pub directory: Option<PathBuf>,
    /// Another executable of our server than this one. It is the one that counts, beside --uncounted.
    #[arg(long, value_name = "FILE")]
    pub server_binary: Option<PathBuf>,
    /// A directory where npm has installed oidc-provider.
    #[arg(long, value_name = "DIRECTORY")]
    pub oidc_provider: Option<PathBuf>,
    /// For all that is drawn.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where the result goes.
    #[arg(long, value_name = "FILE", default_value = "versus.json")]
    pub json: PathBuf,
    /// Where the page goes.
    #[arg(long, value_name = "FILE", default_value = "versus.html")]
    pub html: PathBuf,
}

/// How cost grows: with tokens, with what is in flight, with connections.
#[derive(Args, Debug)]
pub struct Growth {
    /// The most tokens of the servers, which have 100k, 1M, 10M and so on. 100M takes about 15 GiB of memory in all.
    #[arg(long, value_parser = parse_count, default_value = "10M")]
    pub tokens_max: u64,
    /// The most questions in flight, on at most four connections.
    #[arg(long, default_value_t = 4_096, value_parser = clap::value_parser!(u16).range(1..=4_096))]
    pub in_flight_max: u16,
    /// The most connections, with one question in flight on each.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..=1_024))]
    pub connections_max: u16,
    /// How often each point has its turn.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub rounds: u16,
    /// How long each half of a turn is recorded.
    #[arg(long, value_parser = parse_duration, default_value = "2s")]
    pub duration: Duration,
    /// How long it is asked before that.
    #[arg(long, value_parser = parse_duration, default_value = "500ms")]
    pub warm_up: Duration,
    /// Only prove that it runs: few tokens, one round, no figure worth anything.
    #[arg(long)]
    pub short: bool,
    /// Core of the servers.
    #[arg(long, default_value_t = 0)]
    pub server_core: usize,
    /// Core of the generator.
    #[arg(long, default_value_t = 1)]
    pub core: usize,
    /// Where the servers keep their data. Default: a temporary directory.
    #[arg(long, value_name = "DIRECTORY")]
    pub directory: Option<PathBuf>,
    /// For all that is drawn.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where the result goes.
    #[arg(long, value_name = "FILE", default_value = "growth.json")]
    pub json: PathBuf,
    /// Where the page goes.
    #[arg(long, value_name = "FILE", default_value = "growth.html")]
    pub html: PathBuf,
}
