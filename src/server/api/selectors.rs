//! The bodies that name tokens: what to revoke, what to introspect, what to decide, what to explain.
//!
//! A revocation names exactly one selector; a token is named by exactly one of its names. Token strings are hashed and
//! wiped as soon as they are read.

use serde::Deserialize;

use super::Problem;
use super::json::{Parsed, client, digest, grant, handle, moment, subject, token_digest, workspace};
use crate::domain::{Among, TokenDigest, TokenHandle};
use crate::service::request::RevokeTarget;

/// The most tokens or questions in one request.
pub(super) const BATCH_MAX: usize = 256;

/// A pair of subject and client.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubjectClient {
    subject: String,
    client: String,
}

/// A pair of workspace and client.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkspaceClient {
    workspace: String,
    client: String,
}

/// "Issued before" and among which.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IssuedBefore {
    time: u64,
    among: AmongWord,
}

/// The words for [`Among`]. There is no default: "all" has to be said.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum AmongWord {
    All,
    Subject(String),
    Client(String),
    Grant(String),
}

/// What to revoke: exactly one of these. A pair is one object, so that a forgotten half cannot make it wider.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RevokeBody {
    token: Option<String>,
    sha256: Option<String>,
    handle: Option<String>,
    grant: Option<String>,
    subject: Option<String>,
    client: Option<String>,
    subject_client: Option<SubjectClient>,
    workspace_client: Option<WorkspaceClient>,
    issued_before: Option<IssuedBefore>,
}

impl RevokeBody {
    pub(super) fn target(self) -> Parsed<RevokeTarget> {
        let mut targets = Vec::new();
        if let Some(token) = self.token {
            targets.push(RevokeTarget::Token(token_digest(token)?));
        }
        if let Some(text) = self.sha256 {
            targets.push(RevokeTarget::Token(digest(&text)?));
        }
        if let Some(text) = self.handle {
            targets.push(RevokeTarget::Handle(handle(&text)?));
        }
        if let Some(text) = self.grant {
            targets.push(RevokeTarget::Grant(grant(&text)?));
        }
        if let Some(text) = self.subject {
            targets.push(RevokeTarget::Subject(subject(&text)?));
        }
        if let Some(text) = self.client {
            targets.push(RevokeTarget::Client(client(&text)?));
        }
        if let Some(pair) = self.subject_client {
            targets.push(RevokeTarget::SubjectClient(subject(&pair.subject)?, client(&pair.client)?));
        }
        if let Some(pair) = self.workspace_client {
            targets.push(RevokeTarget::WorkspaceClient(workspace(&pair.workspace)?, client(&pair.client)?));
        }
        if let Some(mark) = self.issued_before {
            let among = match mark.among {
                AmongWord::All => Among::All,
                AmongWord::Subject(text) => Among::Subject(subject(&text)?),
                AmongWord::Client(text) => Among::Client(client(&text)?),
                AmongWord::Grant(text) => Among::Grant(grant(&text)?),
            };
            targets.push(RevokeTarget::IssuedBefore(moment("issued_before.time", mark.time)?, among));
        }
        let count = targets.len();
        match targets.pop() {
            Some(target) if count == 1 => Ok(target),
            Some(_) => Err(Problem::invalid(format!(
                "{count} selectors; name exactly one of token, sha256, handle, grant, subject, client, \
                 subject_client, workspace_client, issued_before"
            ))),
            // An empty selector is never "everything".
            None => Err(Problem::invalid(
                "no selector; name exactly one of token, sha256, handle, grant, subject, client, subject_client, \
                 workspace_client, issued_before",
            )),
        }
    }
}

/// A token, by one of its three names.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenName {
    token: Option<String>,
    sha256: Option<String>,
    handle: Option<String>,
}

/// Which token is meant.
pub(super) enum Named {
    Digest(TokenDigest),
    Handle(TokenHandle),
}

impl TokenName {
    pub(super) fn named(self) -> Parsed<Named> {
        match (self.token, self.sha256, self.handle) {
            (Some(token), None, None) => Ok(Named::Digest(token_digest(token)?)),
            (None, Some(text), None) => Ok(Named::Digest(digest(&text)?)),
            (None, None, Some(text)) => Ok(Named::Handle(handle(&text)?)),
            _ => Err(Problem::invalid("name the token by exactly one of token, sha256, handle")),
        }
    }
}

/// Tokens to introspect.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IntrospectBody {
    #[serde(default)]
    tokens: Vec<String>,
    #[serde(default)]
    sha256: Vec<String>,
    pub(super) place: Option<String>,
    pub(super) least_revision: Option<String>,
}

impl IntrospectBody {
    /// The digests: those of `tokens` first, then those of `sha256`.
    pub(super) fn digests(&mut self) -> Parsed<Vec<TokenDigest>> {
        let count = self.tokens.len() + self.sha256.len();
        batch_size(count, "tokens or sha256")?;
        let tokens = std::mem::take(&mut self.tokens).into_iter().map(token_digest);
        let hashed = std::mem::take(&mut self.sha256).into_iter().map(|text| digest(&text));
        tokens.chain(hashed).collect()
    }
}

fn batch_size(count: usize, name: &str) -> Parsed<()> {
    if (1..=BATCH_MAX).contains(&count) {
        return Ok(());
    }
    Err(Problem::invalid(format!("{name}: 1 to {BATCH_MAX} items, not {count}")))
}

/// One question of a check.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QuestionItem {
    token: Option<String>,
    sha256: Option<String>,
    scope: String,
    place: String,
}

/// A question, its token hashed.
pub(super) struct Question {
    pub(super) digest: TokenDigest,
    pub(super) scope: String,
    pub(super) place: String,
}

/// Questions to decide.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckBody {
    questions: Vec<QuestionItem>,
    pub(super) least_revision: Option<String>,
}

impl CheckBody {
    pub(super) fn questions(&mut self) -> Parsed<Vec<Question>> {
        batch_size(self.questions.len(), "questions")?;
        let one = |(number, item): (usize, QuestionItem)| {
            let digest = match (item.token, item.sha256) {
                (Some(token), None) => token_digest(token),
                (None, Some(text)) => digest(&text),
                _ => Err(Problem::invalid("name the token by exactly one of token, sha256")),
            };
            let digest = digest.map_err(|problem| problem.within(&format!("questions[{number}]")))?;
            Ok(Question { digest, scope: item.scope, place: item.place })
        };
        std::mem::take(&mut self.questions).into_iter().enumerate().map(one).collect()
    }
}
