//! Verbs that revoke. What one names is one change, whatever it hits; what it hits is counted and said first.
//!
//! There is no way to revoke by leaving something out: every selector is a word of its own. The wide ones count first
//! (`--dry-run` stops there), then ask on a terminal; without a terminal they need `--yes`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::words::{self, Patience, TokenFrom};
use super::{Desk, Failure, Outcome, show};

/// Whether to ask, and whether to do it at all.
#[derive(Args, Debug, Clone)]
pub(super) struct Care {
    /// Only say how many grants and tokens it would hit.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    patience: Patience,
}

/// Among which tokens an "issued before" counts: exactly one has to be said.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct Among {
    /// All tokens there are.
    #[arg(long)]
    all: bool,
    /// Those of this user or service account.
    #[arg(long)]
    subject: Option<String>,
    /// Those of this app.
    #[arg(long)]
    client: Option<String>,
    /// Those of this grant.
    #[arg(long)]
    grant: Option<String>,
}

#[derive(Subcommand, Debug)]
#[command(after_help = "Examples:
  tokenscope revoke token < token.txt
  tokenscope revoke token --wait fenced < token.txt          returns when nobody lets it in any more
  tokenscope revoke app maria time-tracker                   all that maria granted to the app
  tokenscope revoke client time-tracker --dry-run            how many would that be?
  tokenscope revoke client time-tracker --workspace 1579 --yes
  tokenscope revoke issued-before 2026-11-23T00:00:00Z --client time-tracker")]
pub(super) enum Revoke {
    /// One token, from standard input or a file, or by its public handle.
    Token {
        #[command(flatten)]
        token: TokenFrom,
        /// Name the token by its public handle (`jti`) instead.
        #[arg(long, conflicts_with = "token_file")]
        handle: Option<String>,
        #[command(flatten)]
        care: Care,
    },
    /// One grant, with all its tokens.
    Grant {
        /// Its number, as g17.
        grant: String,
        #[command(flatten)]
        care: Care,
    },
    /// What a user granted to an app so far.
    App {
        /// The user or service account.
        subject: String,
        /// The app.
        client: String,
        #[command(flatten)]
        care: Care,
    },
    /// What a user granted so far, to anybody.
    Subject {
        /// The user or service account.
        subject: String,
        #[command(flatten)]
        care: Care,
    },
    /// What anybody granted to an app so far.
    Client {
        /// The app.
        client: String,
        /// Only in this workspace and its projects.
        #[arg(long)]
        workspace: Option<String>,
        #[command(flatten)]
        care: Care,
    },
    /// Tokens issued before a moment.
    IssuedBefore {
        /// Seconds since 1970, or 2026-11-23T15:00:00Z.
        #[arg(value_parser = words::moment)]
        time: u64,
        #[command(flatten)]
        among: Among,
        #[command(flatten)]
        care: Care,
    },
}

/// How many tokens a selector can hit.
#[derive(PartialEq, Eq, Clone, Copy)]
enum Reach {
    /// One token or one grant, named by itself.
    One,
    /// Any number.
    Many,
}

impl Revoke {
    pub(super) fn run(self, desk: &mut Desk<'_>) -> Outcome {
        let (request, what, reach, care) = self.request(desk)?;
        let ask_first = reach == Reach::Many && !care.yes && !care.dry_run;
        if ask_first && !desk.can_ask {
            return Err(Failure::usage(format!(
                "this would revoke {what}; there is nobody to ask here, so say --yes, or --dry-run to count first"
            )));
        }
        let api = desk.api()?;
        if care.dry_run || ask_first {
            let toll = api.post("/v1/revocations?dry_run=true", &request)?;
            let hits = format!("{what}: {}", hits(&toll));
            if care.dry_run {
                return desk.answer(&toll, |_| format!("would revoke {hits}"));
            }
            write!(desk.err, "This revokes {hits}.\nIt cannot be undone. Type yes to go on: ")?;
            desk.err.flush()?;
            let mut reply = String::new();
            // An answer is short; a stream without end is none.
            std::io::BufRead::read_line(&mut std::io::Read::take(&mut *desk.stdin, 64), &mut reply)?;
            if reply.trim() != "yes" {
                return Err(Failure::run_time("nothing was revoked"));
            }
        }
        let answer = api.post(&care.patience.path("/v1/revocations"), &request)?;
        desk.answer(&answer, |answer| show::done(answer, &format!("revoked {what}")))
    }

    fn request(self, desk: &mut Desk<'_>) -> Result<(Value, String, Reach, Care), Failure> {
        use Reach::{Many, One};
        Ok(match self {
            Self::Token { handle: Some(handle), care, .. } => {
                (json!({ "handle": handle }), format!("token {handle}"), One, care)
            }
            Self::Token { token, care, .. } => {
                (json!({ "sha256": token.digest(desk)?.to_hex() }), "one token".into(), One, care)
            }
            Self::Grant { grant, care } => (json!({ "grant": grant }), format!("grant {grant}"), One, care),
            Self::App { subject, client, care } => {
                let what = format!("what {subject} granted to {client}");
                (json!({ "subject_client": { "subject": subject, "client": client } }), what, Many, care)
            }
            Self::Subject { subject, care } => {
                let what = format!("everything {subject} granted");
                (json!({ "subject": subject }), what, Many, care)
            }
            Self::Client { client, workspace: None, care } => {
                let what = format!("everything anybody granted to {client}");
                (json!({ "client": client }), what, Many, care)
            }
            Self::Client { client, workspace: Some(workspace), care } => {
                let what = format!("everything {client} was granted in workspace {workspace}");
                (json!({ "workspace_client": { "workspace": workspace, "client": client } }), what, Many, care)
            }
            Self::IssuedBefore { time, among, care } => {
                let (word, whose) = match among {
                    Among { subject: Some(subject), .. } => (json!({ "subject": subject }), format!("of {subject}")),
                    Among { client: Some(client), .. } => (json!({ "client": client }), format!("of {client}")),
                    Among { grant: Some(grant), .. } => (json!({ "grant": grant }), format!("of {grant}")),
                    // The group makes sure that one is said.
                    Among { .. } => (json!("all"), "of everybody".into()),
                };
                let what = format!("tokens {whose} issued before {}", show::moment(time));
                (json!({ "issued_before": { "time": time, "among": word } }), what, Many, care)
            }
        })
    }
}

fn hits(toll: &Value) -> String {
    let number = |name: &str| toll[name].as_u64().map(show::count).unwrap_or_default();
    format!("{} live grants, {} active tokens", number("grants"), number("tokens"))
}
