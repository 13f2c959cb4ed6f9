//! What the JSON API answers: the service's reports as JSON.
//!
//! Times are whole seconds since 1970, revisions and grants are written as everywhere else, an expiry is `exp` or
//! `"never_expires": true`, as in requests. A member that has no value is left out, never `null`.

use serde_json::{Map, Value, json};

use crate::domain::{Confirmation, Expiry, Inactive, Revision, Timestamp};
use crate::service::Rotated;
use crate::service::report::{
    Explanation, GrantRow, MemberRow, Page, PairRow, PlaceRow, PolicyRow, RiskReport, ScopeRow, Status, TokenRow, Toll,
};
use crate::service::request::Done;

use super::text::Base64;

/// A page of rows under `name`.
pub(super) fn page<T>(page: &Page<T>, name: &str, row: impl Fn(&T) -> Value) -> Value {
    let rows: Vec<Value> = page.rows.iter().map(row).collect();
    json!({ "revision": page.revision.to_string(), "total": page.total, name: rows })
}

/// `value` with the revision it was computed at.
pub(super) fn at(revision: Revision, mut value: Value) -> Value {
    if let Value::Object(object) = &mut value {
        object.insert("revision".into(), revision.to_string().into());
    }
    value
}

fn object(members: impl IntoIterator<Item = (&'static str, Option<Value>)>) -> Value {
    let present = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(present.collect::<Map<_, _>>())
}

fn seconds(at: Option<Timestamp>) -> Option<Value> {
    at.map(|at| at.seconds().into())
}

fn never(expiry: Expiry) -> Option<Value> {
    (expiry == Expiry::Never).then_some(Value::Bool(true))
}

fn why(verdict: Result<(), Inactive>) -> Option<Value> {
    verdict.err().map(|reason| reason.as_str().into())
}

fn confirmation(confirmation: &Confirmation) -> Value {
    match confirmation {
        Confirmation::Certificate(hash) => json!({ "x5t#S256": Base64::Url.encode(hash) }),
        Confirmation::DpopKey(hash) => json!({ "jkt": Base64::Url.encode(hash) }),
        Confirmation::Other(text) => serde_json::from_str(text).unwrap_or_else(|_| json!(&**text)),
    }
}

/// The proof of a change.
pub(super) fn done(done: &Done) -> Value {
    object([
        ("revision", Some(done.revision.to_string().into())),
        ("grant", done.grant.map(|grant| grant.to_string().into())),
        ("handle", done.handle.map(|handle| handle.to_string().into())),
        ("token", done.token.as_deref().map(Value::from)),
    ])
}

/// A client.
pub(super) fn client((name, on): &(String, bool)) -> Value {
    json!({ "client": name, "on": on })
}

/// A scope.
pub(super) fn scope(row: &ScopeRow) -> Value {
    json!({ "scope": row.name, "position": row.position, "retired": row.retired, "aliases": row.aliases })
}

/// A membership.
pub(super) fn member(row: &MemberRow) -> Value {
    json!({ "place": row.place, "live": row.live })
}

/// An app policy.
pub(super) fn policy(row: &PolicyRow) -> Value {
    json!({
        "mode": if row.approval_required { "approval_required" } else { "allow_all" },
        "personal_tokens": row.personal_tokens,
        "blocked": row.blocked,
        "approved": row.approved,
    })
}

fn pair(row: &PairRow) -> Value {
    match &row.place {
        Some(place) => json!({ "place": place, "scopes": row.scopes }),
        None => json!({ "everywhere": true, "scopes": row.scopes }),
    }
}

/// A grant.
pub(super) fn grant(row: &GrantRow) -> Value {
    object([
        ("grant", Some(row.id.to_string().into())),
        ("subject", Some(row.subject.as_str().into())),
        ("client", Some(row.client.as_str().into())),
        ("access", Some(row.access.iter().map(pair).collect())),
        ("exp", seconds(row.expiry.at())),
        ("never_expires", never(row.expiry)),
        ("alive", Some(row.verdict.is_ok().into())),
        ("why_not", why(row.verdict)),
        ("made", Some(row.made.into())),
        ("tokens", Some(row.tokens.into())),
        ("last_used", seconds(row.last_used)),
    ])
}

/// A token.
pub(super) fn token(row: &TokenRow) -> Value {
    object([
        ("handle", Some(row.handle.to_string().into())),
        ("grant", Some(row.grant.to_string().into())),
        ("subject", Some(row.subject.as_str().into())),
        ("client", Some(row.client.as_str().into())),
        ("iat", Some(row.times.issued.seconds().into())),
        ("nbf", Some(row.times.not_before.seconds().into())),
        ("exp", seconds(row.times.expiry.at())),
        ("never_expires", never(row.times.expiry)),
        ("audience", Some(json!(row.audience))),
        ("cnf", row.confirmation.as_ref().map(confirmation)),
        ("active", Some(row.verdict.is_ok().into())),
        ("why_not", why(row.verdict)),
        ("last_used", seconds(row.last_used)),
    ])
}

fn place(row: &PlaceRow) -> Value {
    object([
        ("place", Some(row.place.as_str().into())),
        ("granted", Some(json!(row.granted))),
        ("effective", Some(json!(row.effective))),
        ("reason", row.denial.map(|denial| denial.as_str().into())),
        ("explanation", row.denial.map(|denial| denial.explanation().into())),
    ])
}

/// Everything about a token.
pub(super) fn explanation(told: &Explanation) -> Value {
    object([
        ("revision", Some(told.revision.to_string().into())),
        ("active", Some(told.verdict.is_ok().into())),
        ("why_not", why(told.verdict)),
        ("token", told.token.as_ref().map(token)),
        ("grant", told.grant.as_ref().map(grant)),
        ("places", Some(told.places.iter().map(place).collect())),
        ("story", Some(json!(told.story))),
    ])
}

/// A risk report.
pub(super) fn risk(report: &RiskReport) -> Value {
    let reason = |(rating, text): &(crate::service::report::Rating, String)| json!({ "rating": rating.as_str(), "reason": text });
    object([
        ("revision", Some(report.revision.to_string().into())),
        ("rating", Some(report.rating.as_str().into())),
        ("reasons", Some(report.reasons.iter().map(reason).collect())),
        ("workspaces", Some(json!(report.workspaces))),
        ("places", Some(report.places.into())),
        ("everywhere", Some(report.everywhere.into())),
        ("scopes", Some(json!(report.scopes))),
        ("writes", Some(report.writes.into())),
        ("deletes", Some(report.deletes.into())),
        ("wildcard", Some(report.wildcard.into())),
        ("grants", Some(report.grants.into())),
        ("tokens", Some(report.tokens.into())),
        ("lives_seconds", report.lives_seconds.map(Value::from)),
        ("lives_for_ever", report.lives_seconds.is_none().then_some(Value::Bool(true))),
        ("bearer_tokens", Some(report.bearer_tokens.into())),
        ("last_used", seconds(report.last_used)),
    ])
}

/// What a revocation would hit.
pub(super) fn toll(toll: &Toll) -> Value {
    json!({ "revision": toll.revision.to_string(), "dry_run": true, "grants": toll.grants, "tokens": toll.tokens })
}

/// The service in numbers.
pub(super) fn status(status: &Status) -> Value {
    json!({
        "revision": status.revision.to_string(),
        "tokens": status.tokens,
        "grants": status.grants,
        "index_bytes": status.index_bytes,
        "accepts_changes": status.accepts_changes,
        "key_generation": status.keys.0,
        "key_generations_kept": status.keys.1,
    })
}

pub(super) fn rotated(revision: Revision, rotated: &Rotated) -> Value {
    json!({ "revision": revision.to_string(), "generation": rotated.generation, "kept": rotated.kept })
}
