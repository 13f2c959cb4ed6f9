//! The admin API: every change, list and report of the service as JSON over `/v1/`.
//!
//! [`answer`] takes a method, a path and a body and gives a status and a body; it knows no socket, so the HTTPS door
//! calls it and the native door can carry it too. It translates and decides nothing: rights are checked by the
//! service, whichever way a call came. The routes stand in one table (`routes.rs`), which the OpenAPI document is
//! written from.
//!
//! ```text
//! errors   {"error": "<closed word>", "message": "<what, where, what to do>"}
//! 400 invalid   403 forbidden   404 not_found   405 method_not_allowed   409 conflict   413 too_large
//! 500 outcome_unknown   503 busy, unavailable, behind, not_ready: ask again, no verdict
//! ```
//!
//! Every change takes `?wait=applied` (the default), `durable` or `fenced`: what its answer waits for.
//! Unknown query parameters and unknown fields are refused: `?dryrun=true` must not revoke anything.
//! Reports that walk all tokens run beside the answering threads, at most [`WALKS_MAX`] at once.
//! Questions asked here are counted at the HTTPS door, whichever door carried them.

/// Bytes of RFC 7662's answer.
pub(in crate::server) mod introspection;
mod json;
// The document at `/openapi.json`.
pub mod openapi;
mod questions;
/// The one table.
pub(in crate::server) mod routes;
mod rows;
mod schemas;
mod selectors;
#[cfg(test)]
mod tests;
/// Percent-encoding and base64.
pub(in crate::server) mod text;

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::stats::RefusedFor;
use super::{Shared, Wait, fence};
use crate::domain::Timestamp;
use crate::service::Refusal;
use crate::service::Service;
use crate::service::caller::Caller;
use crate::service::report::{ListOf, ReportError, RiskOf};
use crate::service::request::{ChangeError, ChangeRequest};
use routes::{Call, Found};
use text::{Plus, percent_decode};

/// Rows of a list when no `limit` is given.
pub const ROWS_DEFAULT: usize = 100;
/// The most rows of a list.
pub const ROWS_MAX: usize = 1_000;
/// Reports that walk all tokens at the same time; more wait for up to [`WALK_WAIT`], then get 503.
pub const WALKS_MAX: usize = 2;
/// How long a report waits for its turn.
pub const WALK_WAIT: Duration = Duration::from_secs(10);
/// The largest body that a door should take for this API, in bytes.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

static WALKS: Semaphore = Semaphore::const_new(WALKS_MAX);

/// What the API says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiAnswer {
    /// An HTTP status.
    pub status: u16,
    /// JSON.
    pub body: Vec<u8>,
}

/// Why a call was not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Problem {
    status: u16,
    code: &'static str,
    message: String,
}

impl Problem {
    fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "invalid", message)
    }

    /// The same, with the place in the request put before it.
    fn within(mut self, place: &str) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        let status = match &error {
            ChangeError::Forbidden { .. } => 403,
            ChangeError::Invalid(_) => 400,
            ChangeError::NotFound(_) => 404,
            ChangeError::Conflict(_) => 409,
            ChangeError::Busy | ChangeError::Unavailable(_) => 503,
            // Not 503: that would invite to ask again, and the change may have been made.
            ChangeError::Unknown(_) => 500,
        };
        Self::new(status, error.code(), error.to_string())
    }
}

impl From<ReportError> for Problem {
    fn from(error: ReportError) -> Self {
        let (status, code) = match &error {
            ReportError::Forbidden { .. } => (403, "forbidden"),
            ReportError::Invalid(_) => (400, "invalid"),
            ReportError::NotFound(_) => (404, "not_found"),
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let (status, code) = match refusal {
            Refusal::MayNotAsk | Refusal::MayNotAskThere => (403, "forbidden"),
            Refusal::Behind => (503, "behind"),
            Refusal::NotReady => (503, "not_ready"),
        };
        Self::new(status, code, refusal.to_string())
    }
}

/// Answers one call. `path_and_query` begins with `/v1/`; `body` is at most [`BODY_BYTES_MAX`] bytes, which the door
/// has made sure of before it read them.
pub async fn answer(
    shared: &Shared,
    caller: &Caller,
    method: &str,
    path_and_query: &str,
    body: &[u8],
    now: Timestamp,
) -> ApiAnswer {
    let (status, value) = match call(shared, caller, method, path_and_query, body, now).await {
        Ok(body) => (200, body),
        Err(problem) => {
            count(shared, &problem);
            (problem.status, json!({ "error": problem.code, "message": problem.message }).to_string().into_bytes())
        }
    };
    ApiAnswer { status, body: value }
}

fn count(shared: &Shared, problem: &Problem) {
    let reason = match (problem.status, problem.code) {
        (403, _) => RefusedFor::Rights,
        (_, "behind") => RefusedFor::Behind,
        (_, "not_ready" | "unavailable") => RefusedFor::NotReady,
        (503, _) => RefusedFor::Overload,
        (413, _) => RefusedFor::TooLarge,
        (400, _) => RefusedFor::Malformed,
        _ => return,
    };
    shared.stats.https.count_refused(reason);
}

async fn call(
    shared: &Shared,
    caller: &Caller,
    method: &str,
    path_and_query: &str,
    body: &[u8],
    now: Timestamp,
) -> Result<Vec<u8>, Problem> {
    if body.len() > BODY_BYTES_MAX {
        return Err(Problem::new(413, "too_large", format!("the body is larger than {BODY_BYTES_MAX} bytes")));
    }
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    let (route, parts) = match routes::find(method, path) {
        Found::Route(route, parts) => (route, parts),
        Found::WrongMethod(methods) => {
            let message = format!("this path takes {}", methods.join(", "));
            return Err(Problem::new(405, "method_not_allowed", message));
        }
        Found::Malformed => return Err(Problem::invalid("a part of the path is empty, too long, or badly encoded")),
        Found::Nothing => {
            return Err(Problem::new(404, "not_found", "there is no such path; /openapi.json lists them all"));
        }
    };
    let query = Query::parse(query, route.query)?;
    let part = |number: usize| {
        parts.get(number).map(String::as_str).ok_or_else(|| Problem::invalid("a part of the path is missing"))
    };
    let desk = Desk { shared, caller, now };
    match route.call {
        Call::Clients => {
            Ok(text(rows::page(&shared.service.clients(caller, query.limit()?)?, "clients", rows::client)))
        }
        Call::Scopes => Ok(text(rows::page(&shared.service.scopes(), "scopes", rows::scope))),
        Call::Members => {
            let page = shared.service.memberships(caller, json::subject(part(0)?)?.as_str())?;
            Ok(text(rows::page(&page, "members", rows::member)))
        }
        Call::Policy => {
            let revision = shared.service.revision();
            let row = shared.service.policy(caller, json::workspace(part(0)?)?.as_str())?;
            Ok(text(rows::at(revision, rows::policy(&row))))
        }
        Call::Status => Ok(text(rows::status(&shared.service.status(caller)?))),
        Call::RotateKeys => {
            let rotated = shared.service.rotate_keys(caller).await?;
            let (generation, kept) = (rotated.generation, rotated.kept);
            tracing::info!(caller = %caller.id, generation, kept, after = %rotated.after, "keys rotated");
            Ok(text(rows::rotated(shared.service.at(rotated.after), &rotated)))
        }
        Call::Introspect => questions::introspect(shared, caller, body, now),
        Call::Check => questions::check(shared, caller, body, now),
        Call::Revoke => desk.revoke(&query, body).await,
        Call::Grants | Call::Grant | Call::Tokens | Call::Token | Call::Explain => {
            desk.look(route.call, &query, parts.first().map_or("", String::as_str), body).await
        }
        Call::RiskClient | Call::RiskGrant | Call::RiskToken | Call::RiskPreview => {
            desk.risk(route.call, &query, parts.first().map_or("", String::as_str), body).await
        }
        _ => {
            let wait = query.wait()?;
            desk.change(change_request(route.call, parts.first().map_or("", String::as_str), body, now)?, wait).await
        }
    }
}

/// The change that a route and its body ask for.
fn change_request(call: Call, part: &str, body: &[u8], now: Timestamp) -> Result<ChangeRequest, Problem> {
    Ok(match call {
        Call::RegisterClient => {
            ChangeRequest::RegisterClient(json::client(&json::body::<json::ClientBody>(body)?.client)?)
        }
        Call::SwitchClient => {
            ChangeRequest::SwitchClient(json::client(part)?, json::switch(json::body::<json::SwitchBody>(body)?.on))
        }
        Call::SwitchSubject => {
            ChangeRequest::SwitchSubject(json::subject(part)?, json::switch(json::body::<json::SwitchBody>(body)?.on))
        }
        Call::AddScope => ChangeRequest::AddScope(json::body::<json::ScopeBody>(body)?.scope.into()),
        Call::AliasScope => {
            let body: json::AliasBody = json::body(body)?;
            ChangeRequest::AliasScope(body.alias.into(), body.of.into())
        }
        Call::RetireScope => ChangeRequest::RetireScope(part.into()),
        Call::AddMember => {
            let body: json::MemberBody = json::body(body)?;
            ChangeRequest::AddMember(json::subject(&body.subject)?, json::place(&body.place)?)
        }
        Call::RemoveMember => {
            let body: json::MemberBody = json::body(body)?;
            ChangeRequest::RemoveMember(json::subject(&body.subject)?, json::place(&body.place)?)
        }
        Call::PolicyMode => {
            ChangeRequest::SetPolicyMode(json::workspace(part)?, json::body::<json::ModeBody>(body)?.mode.into())
        }
        Call::PolicyPersonal => ChangeRequest::SwitchPersonal(
            json::workspace(part)?,
            json::switch(json::body::<json::SwitchBody>(body)?.on),
        ),
        Call::PolicyEntry => {
            let body: json::EntryBody = json::body(body)?;
            ChangeRequest::SetPolicyEntry(json::workspace(part)?, json::client(&body.client)?, body.entry.into())
        }
        Call::MakeGrant => json::body::<json::GrantBody>(body)?.request()?,
        Call::NarrowGrant => {
            ChangeRequest::NarrowGrant(json::grant(part)?, json::body::<json::AccessBody>(body)?.named()?)
        }
        Call::ExtendGrant => {
            ChangeRequest::ExtendGrant(json::grant(part)?, json::body::<json::AccessBody>(body)?.named()?)
        }
        Call::RegisterToken => json::body::<json::TokenBody>(body)?.register(now)?,
        Call::MintToken => json::body::<json::TokenBody>(body)?.mint(now)?,
        // Every other route is answered before this is asked; were one forgotten, it is a mistake of ours.
        other => return Err(Problem::new(500, "internal", format!("{other:?} has no change behind it"))),
    })
}

fn text(value: Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// One caller with one call in hand.
struct Desk<'d> {
    shared: &'d Shared,
    caller: &'d Caller,
    now: Timestamp,
}

impl Desk<'_> {
    async fn change(&self, request: ChangeRequest, wait: Wait) -> Result<Vec<u8>, Problem> {
        let done = self.shared.service.change(self.caller, request, self.now).await?;
        self.shared.stats.https.changes.fetch_add(1, Relaxed);
        fence::settle(self.shared, done.revision.sequence, wait).await;
        Ok(text(rows::done(&done)))
    }

    async fn revoke(&self, query: &Query, body: &[u8]) -> Result<Vec<u8>, Problem> {
        let target = json::body::<selectors::RevokeBody>(body)?.target()?;
        let wait = query.wait()?;
        match query.one("dry_run") {
            None | Some("false") => self.change(ChangeRequest::Revoke(target), wait).await,
            Some("true") => {
                self.walk(move |service, caller, now| Ok(rows::toll(&service.toll(caller, &target, now)?))).await
            }
            Some(_) => Err(Problem::invalid("dry_run: true or false")),
        }
    }

    async fn look(&self, call: Call, query: &Query, part: &str, body: &[u8]) -> Result<Vec<u8>, Problem> {
        let limit = query.limit()?;
        match call {
            Call::Grant => {
                let of = ListOf::Grant(json::grant(part)?);
                self.walk(move |service, caller, now| {
                    Ok(rows::page(&service.grants(caller, &of, 1, now)?, "grants", rows::grant))
                })
                .await
            }
            Call::Grants => {
                let of = query.list_of()?;
                self.walk(move |service, caller, now| {
                    Ok(rows::page(&service.grants(caller, &of, limit, now)?, "grants", rows::grant))
                })
                .await
            }
            Call::Tokens => {
                let of = query.list_of()?;
                self.walk(move |service, caller, now| {
                    Ok(rows::page(&service.tokens(caller, &of, limit, now)?, "tokens", rows::token))
                })
                .await
            }
            Call::Token => {
                let handle = json::handle(part)?;
                self.walk(move |service, caller, now| {
                    let told = service.explain(caller, handle, now)?;
                    let none = || Problem::new(404, "not_found", format!("there is no token {handle}"));
                    Ok(rows::at(told.revision, rows::token(told.token.as_ref().ok_or_else(none)?)))
                })
                .await
            }
            _ => {
                let named = json::body::<selectors::TokenName>(body)?.named()?;
                self.walk(move |service, caller, now| {
                    let handle = match named {
                        selectors::Named::Digest(digest) => service.key(&digest).handle(),
                        selectors::Named::Handle(handle) => handle,
                    };
                    Ok(rows::explanation(&service.explain(caller, handle, now)?))
                })
                .await
            }
        }
    }

    async fn risk(&self, call: Call, query: &Query, part: &str, body: &[u8]) -> Result<Vec<u8>, Problem> {
        let of = match call {
            Call::RiskClient => {
                let workspace = query.one("workspace").map(json::workspace).transpose()?;
                RiskOf::Client(json::client(part)?.as_str().into(), workspace.map(|id| id.as_str().into()))
            }
            Call::RiskGrant => RiskOf::Grant(json::grant(part)?),
            Call::RiskToken => RiskOf::Token(json::handle(part)?),
            _ => RiskOf::Preview(json::body::<json::GrantBody>(body)?.request()?),
        };
        self.walk(move |service, caller, now| Ok(rows::risk(&service.risk(caller, &of, now)?))).await
    }

    /// Runs a report that may take long beside the answering threads, a few at a time.
    async fn walk(
        &self,
        report: impl FnOnce(&Service, &Caller, Timestamp) -> Result<Value, Problem> + Send + 'static,
    ) -> Result<Vec<u8>, Problem> {
        let busy = || Problem::new(503, "busy", "too many reports are being made; try again in a moment");
        let turn = tokio::time::timeout(WALK_WAIT, WALKS.acquire()).await;
        let turn = turn.map_err(|_| busy())?.map_err(|_| busy())?;
        let (service, caller, now) = (self.shared.service.clone(), self.caller.clone(), self.now);
        let walked = tokio::task::spawn_blocking(move || {
            // The turn ends with the walk, also when whoever asked has gone away.
            let _turn = turn;
            report(&service, &caller, now).map(text)
        });
        match walked.await {
            Ok(told) => told,
            Err(_) => {
                self.shared.stats.panics.fetch_add(1, Relaxed);
                Err(Problem::new(500, "internal", "the report could not be made; the server's log says why"))
            }
        }
    }
}

/// The query string of a call, decoded.
#[derive(Debug)]
struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes `text`, in which only `known` names may stand, each once.
    fn parse(text: &str, known: &[&str]) -> Result<Self, Problem> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        let decode = |text: &str| {
            let bytes = percent_decode(text.as_bytes(), Plus::Space);
            bytes
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .ok_or_else(|| Problem::invalid("the query is badly encoded"))
        };
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if !known.contains(&name.as_str()) {
                let known = if known.is_empty() { "none".into() } else { known.join(", ") };
                return Err(Problem::invalid(format!("unknown query parameter; this call takes: {known}")));
            }
            if pairs.iter().any(|(taken, _)| *taken == name) {
                return Err(Problem::invalid(format!("{name} stands in the query twice")));
            }
            pairs.push((name, value));
        }
        Ok(Self(pairs))
    }

    fn one(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn limit(&self) -> Result<usize, Problem> {
        let Some(text) = self.one("limit") else { return Ok(ROWS_DEFAULT) };
        let limit = text.parse().ok().filter(|limit| (1..=ROWS_MAX).contains(limit));
        limit.ok_or_else(|| Problem::invalid(format!("limit: a number from 1 to {ROWS_MAX}")))
    }

    /// What the answer to a change waits for.
    fn wait(&self) -> Result<Wait, Problem> {
        let Some(text) = self.one("wait") else { return Ok(Wait::default()) };
        Wait::parse(text).ok_or_else(|| Problem::invalid("wait: applied, durable or fenced"))
    }

    /// Whose rows: exactly one of subject, client, grant.
    fn list_of(&self) -> Result<ListOf, Problem> {
        match (self.one("subject"), self.one("client"), self.one("grant")) {
            (Some(id), None, None) => Ok(ListOf::Subject(json::subject(id)?.as_str().into())),
            (None, Some(id), None) => Ok(ListOf::Client(json::client(id)?.as_str().into())),
            (None, None, Some(id)) => Ok(ListOf::Grant(json::grant(id)?)),
            _ => Err(Problem::invalid(
                "say whose: exactly one of the query parameters that name a subject, client or grant",
            )),
        }
    }
}
