//! `tokenscope dev`: a server to try things on, with its own certificates, callers and sample data.
//!
//! It stays until it is told to stop, keeps its data between runs, and writes everything one needs to talk to it into
//! `dev.json`. It listens on loopback only. Not for production: its authority's key lies beside its data, and anybody
//! who knows the seed in `dev.json` can compute its sample tokens.

#![expect(clippy::disallowed_methods, reason = "a development server says how long loading took")]

// `dev.json`.
pub mod file;
// Directory, certificates, callers, configuration, data.
pub mod setup;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Instant;

use crate::cli::{Desk, Failure, Outcome};
use crate::domain::Timestamp;
use file::DevFile;

/// Options of `tokenscope dev`.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// Where to keep everything; made if it is not there.
    #[arg(long, value_name = "DIRECTORY", default_value_os_t = crate::cli::default_dev_directory())]
    data_dir: PathBuf,
    /// Sample tokens to load on the first start, beside the ten of the story.
    #[arg(long, default_value_t = 100_000)]
    tokens: u64,
    /// TCP and UDP port of the two doors; the next one is for metrics. Others are taken if they are not free; 0: any.
    #[arg(long, default_value_t = 7662)]
    port: u16,
}

/// Runs it.
///
/// # Errors
/// Something cannot be written, or the server failed.
pub fn run(options: &Options, desk: &mut Desk<'_>) -> Outcome {
    let now = Timestamp::from_seconds(desk.now).ok_or_else(|| Failure::run_time("the clock is beyond 2106"))?;
    let directory = setup::directory(&options.data_dir)?;
    setup::is_free(&directory)?;
    let mut file = setup::file(&directory, setup::seed()?, options.tokens, now)?;
    // Port 0 means any, for both.
    let admin = if options.port == 0 { 0 } else { options.port.saturating_add(1) };
    let at = setup::addresses(&file, Some((options.port, admin)))?;
    setup::write(&mut file, at, desk.rooms, now)?;
    if !file.samples.loaded {
        let started = Instant::now();
        let tally = setup::load(&mut file, desk.rooms, desk.can_draw)?;
        writeln!(desk.err, "{}", setup::loaded(&tally, started.elapsed().as_secs_f64()))?;
    }
    let running = desk.rooms.start(&file.config_file)?;
    let at = running.addresses();
    setup::write_addresses(&mut file, at)?;
    write!(desk.out, "{}", greeting(&file))?;
    desk.out.flush()?;
    running.wait()
}

/// What is printed when it is ready: commands to paste.
pub fn greeting(file: &DevFile) -> String {
    let path = file.config_file.with_file_name("dev.json");
    let [dev, ca, url] = [path.display().to_string(), file.ca_file.display().to_string(), file.https_url.clone()];
    let secret = |name: &str| file.caller(name).map(|caller| caller.client_secret.clone()).unwrap_or_default();
    let (api, app) = (secret("api"), secret("time-tracker"));
    let token = file.tokens.first().map(|token| token.token.clone()).unwrap_or_default();
    format!(
        "
tokenscope dev is ready. It stays until Ctrl-C; everything about it is in
  {dev}

  quic   {quic}     https  {url}     metrics  http://{admin}/metrics

Ask about maria's token, as an API server would (RFC 7662):
  curl --cacert {ca} -u api:{api} {url}/introspect -d token={token}

May it write tasks in workspace 1579, and why not?
  curl --cacert {ca} -u api:{api} {url}/introspect -d token={token} \\
       -d tokenscope_scope=tasks:write -d tokenscope_place=1579

The same from the command line:
  export TOKENSCOPE_DEV={dev}
  echo {token} | tokenscope check tasks:read 1579
  echo {token} | tokenscope explain
  tokenscope risk client legacy-sync
  tokenscope policy block 1579 time-tracker

Take it back as its app (RFC 7009), then ask again: exactly {{\"active\":false}}
  curl --cacert {ca} -u time-tracker:{app} {url}/revoke -d token={token}

More tokens, each with what to expect of it:
  jq '.tokens[] | {{name, about, active, checks}}' {dev}
",
        quic = file.quic,
        admin = file.admin,
    )
}
