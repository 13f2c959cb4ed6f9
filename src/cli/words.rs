//! Texts from arguments: times, durations, access lists, and tokens from files.

use std::io::{BufRead, Read};
use std::path::Path;

use serde_json::{Value, json};
use zeroize::Zeroize;

use super::{Desk, Failure};
use crate::domain::TokenDigest;
use crate::domain::mint::TOKEN_BYTES_MAX;

/// A moment: seconds since 1970, or as RFC 3339 writes it.
pub(super) fn moment(text: &str) -> Result<u64, String> {
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(seconds);
    }
    let parsed = text.parse::<jiff::Timestamp>().ok().and_then(|at| u64::try_from(at.as_second()).ok());
    parsed.ok_or_else(|| "write seconds since 1970, or a time like 2026-11-23T15:00:00Z".into())
}

/// A moment that may be the one in which the work is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MomentOrNow {
    /// When it is done, by the clock that never tells less than the data knows.
    Now,
    /// Seconds since 1970.
    Moment(u64),
}

/// The same, or the word `now`.
pub(super) fn moment_or_now(text: &str) -> Result<MomentOrNow, String> {
    if text == "now" {
        return Ok(MomentOrNow::Now);
    }
    moment(text)
        .map(MomentOrNow::Moment)
        .map_err(|error| format!("write now, or {}", error.trim_start_matches("write ")))
}

/// A duration in seconds: `90s`, `15m`, `12h`, `30d`.
pub(super) fn duration(text: &str) -> Result<u64, String> {
    let wrong = || "write a number and s, m, h or d, like 15m".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = text.strip_suffix(unit).and_then(|number| number.parse().ok()).ok_or_else(wrong)?;
    number.checked_mul(seconds).ok_or_else(wrong)
}

/// Where and what: `1579=tasks:read,tasks:write`.
#[derive(Clone, Debug)]
pub(super) struct At {
    place: String,
    scopes: Vec<String>,
}

pub(super) fn at(text: &str) -> Result<At, String> {
    let (place, scopes) = text.split_once('=').ok_or("write PLACE=SCOPE,SCOPE like 1579=tasks:read,tasks:write")?;
    Ok(At { place: place.into(), scopes: scope_list(scopes)? })
}

pub(super) fn scope_list(text: &str) -> Result<Vec<String>, String> {
    let scopes: Vec<String> = text.split(',').map(str::to_owned).collect();
    if scopes.iter().any(String::is_empty) {
        return Err("write scopes with commas between them, like tasks:read,tasks:write".into());
    }
    Ok(scopes)
}

/// What a grant gives, from the command line.
#[derive(clap::Args, Debug, Clone)]
pub(super) struct Access {
    /// A workspace or project and the scopes there; may be repeated.
    #[arg(long, value_name = "PLACE=SCOPES", value_parser = at)]
    at: Vec<At>,
    /// Scopes wherever the user is a member, future memberships included.
    #[arg(long, value_name = "SCOPES", value_parser = everywhere)]
    everywhere: Option<Scopes>,
}

/// A list of scopes, as one value.
#[derive(Clone, Debug)]
pub(super) struct Scopes(Vec<String>);

fn everywhere(text: &str) -> Result<Scopes, String> {
    scope_list(text).map(Scopes)
}

impl Access {
    pub(super) fn is_empty(&self) -> bool {
        self.at.is_empty() && self.everywhere.is_none()
    }

    pub(super) fn json(&self) -> Result<Value, Failure> {
        if self.is_empty() {
            return Err(Failure::usage("no access; say --at PLACE=SCOPES or --everywhere SCOPES"));
        }
        let at = self.at.iter().map(|at| json!({ "place": at.place, "scopes": at.scopes }));
        let everywhere = self.everywhere.iter().map(|Scopes(scopes)| json!({ "everywhere": true, "scopes": scopes }));
        Ok(at.chain(everywhere).collect())
    }
}

/// When something ends. There is no default: "never" has to be said.
#[derive(clap::Args, Debug, Clone)]
#[group(required = true, multiple = false)]
pub(super) struct Ends {
    /// How long from now: 15m, 12h, 30d.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    expires_in: Option<u64>,
    /// When: seconds since 1970, or 2026-11-23T15:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    expires_at: Option<u64>,
    /// Never, on purpose.
    #[arg(long)]
    never_expires: bool,
}

impl Ends {
    /// Puts the end into a request.
    pub(super) fn put(&self, request: &mut Value, now: u64) {
        match self.expires_in.map(|seconds| now.saturating_add(seconds)).or(self.expires_at) {
            Some(end) => request["exp"] = end.into(),
            None => request["never_expires"] = true.into(),
        }
    }
}

/// Where a token is read from. Never from an argument: it would land in the process list and the shell's history.
#[derive(clap::Args, Debug, Clone)]
pub(super) struct TokenFrom {
    /// Read the token from this file; `-` or nothing means standard input. One line feed at its end is dropped.
    #[arg(long, value_name = "FILE")]
    token_file: Option<std::path::PathBuf>,
}

impl TokenFrom {
    /// Reads the token and forgets it; its digest.
    pub(super) fn digest(&self, desk: &mut Desk<'_>) -> Result<TokenDigest, Failure> {
        let mut token = Vec::with_capacity(TOKEN_BYTES_MAX + 3);
        let most = TOKEN_BYTES_MAX as u64 + 3;
        match self.token_file.as_deref().filter(|path| *path != Path::new("-")) {
            Some(path) => {
                let failed = |error: std::io::Error| Failure::run_time(format!("{}: {error}", path.display()));
                std::fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut token)).map_err(failed)?;
            }
            None if desk.can_ask => {
                write!(desk.err, "token (then Enter): ")?;
                desk.err.flush()?;
                (&mut *desk.stdin).take(most).read_until(b'\n', &mut token)?;
            }
            None => {
                (&mut *desk.stdin).take(most).read_to_end(&mut token)?;
            }
        }
        let text = token.strip_suffix(b"\n").unwrap_or(&token);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let digest = TokenDigest::of(text);
        let bytes = text.len();
        let blank = text.iter().any(u8::is_ascii_whitespace);
        token.zeroize();
        match bytes {
            0 => Err(Failure::usage("no token; pipe it in, or name a file with --token-file")),
            _ if bytes > TOKEN_BYTES_MAX => {
                Err(Failure::usage(format!("the token is longer than {TOKEN_BYTES_MAX} bytes")))
            }
            // A token has no white space (RFC 6750, section 2.1); this is more than one line, or not a token.
            _ if blank => Err(Failure::usage("the token has white space in it; give one token and nothing else")),
            _ => Ok(digest),
        }
    }
}

/// What a change that takes rights away waits for.
#[derive(clap::Args, Debug, Clone)]
pub(super) struct Patience {
    /// Return when it is applied (durable, and visible to every question put to the server), or fenced: also when no API
    /// server lets anybody in from memory any more, up to one lease later.
    #[arg(long, value_name = "LEVEL", default_value = APPLIED, value_parser = [APPLIED, "durable", "fenced"])]
    wait: String,
}

const APPLIED: &str = "applied";

impl Default for Patience {
    fn default() -> Self {
        Self { wait: APPLIED.to_owned() }
    }
}

impl Patience {
    /// The path of a change, with what its answer waits for if that is not the usual.
    pub(super) fn path(&self, path: &str) -> String {
        if self.wait == APPLIED { path.to_owned() } else { format!("{path}?wait={}", self.wait) }
    }
}
