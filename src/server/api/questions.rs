//! Introspection and checks as JSON, many in one request.
//!
//! The same evaluator as at every other door (TS-07). An inactive token is `{"active":false}` here too, and nothing
//! else (TS-01). All digests of a request are looked up ahead, so that their memory arrives together.

use super::introspection::{self, INACTIVE, Shown};
use super::{Problem, json, selectors};
use crate::domain::{Inactive, Revision, Timestamp, TokenDigest, TokenKey};
use crate::server::Shared;
use crate::service::caller::Caller;
use crate::service::{Coming, Decision, Introspection, Pin, PlaceAsked, ScopeAsked, Scratch};

/// Demands the revision, if one was given, and says the one that answers are computed at; read before the facts.
fn begin(shared: &Shared, caller: &Caller, least: Option<&str>) -> Result<Revision, Problem> {
    if caller.rights.ask.is_none() {
        return Err(crate::service::Refusal::MayNotAsk.into());
    }
    if let Some(least) = least {
        shared.service.reached(json::revision(least)?)?;
    }
    Ok(shared.service.revision())
}

fn answers(
    revision: Revision,
    name: &str,
    answers: impl Iterator<Item = Result<Vec<u8>, Problem>>,
) -> Result<Vec<u8>, Problem> {
    let mut out = format!(r#"{{"revision":"{revision}","{name}":["#).into_bytes();
    for (number, answer) in answers.enumerate() {
        if number > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&answer?);
    }
    out.extend_from_slice(b"]}");
    Ok(out)
}

/// The keys of the tokens that are asked about, with what their answers will read begun to be loaded.
fn keys<'d>(shared: &Shared, pin: &Pin<'_>, digests: impl Iterator<Item = &'d TokenDigest>) -> Vec<TokenKey> {
    let coming = digests.map(|digest| Coming { key: shared.service.key(digest), place: None }).collect::<Vec<_>>();
    shared.service.look_ahead(pin, &coming);
    coming.into_iter().map(|question| question.key).collect()
}

pub(super) fn introspect(shared: &Shared, caller: &Caller, body: &[u8], now: Timestamp) -> Result<Vec<u8>, Problem> {
    let started = std::time::Instant::now();
    let mut body: selectors::IntrospectBody = json::body(body)?;
    let digests = body.digests()?;
    let place = body.place.as_deref().map(json::place).transpose()?;
    let revision = begin(shared, caller, body.least_revision.as_deref())?;
    let stats = &shared.stats.https;
    let pin = shared.service.pin();
    let keys = keys(shared, &pin, digests.iter());
    let mut scratch = Scratch::default();
    let one = |key: &TokenKey| {
        let place = place.as_ref().map(crate::domain::Place::as_str);
        let told = shared.service.introspect(&pin, caller, *key, place, now, &mut scratch)?;
        let told = match told {
            Introspection::Inactive(reason) => Err(reason),
            // A binding that cannot be shown: the token is inactive for everybody who would have to check it.
            Introspection::Active(token) => {
                introspection::active(&Shown::of(&token), None, None, revision).map_err(|_| Inactive::NothingLeft)
            }
        };
        Ok(told.inspect(|_| stats.count_active()).unwrap_or_else(|reason| {
            stats.count_inactive(reason);
            INACTIVE.to_vec()
        }))
    };
    let answered = answers(revision, "answers", keys.iter().map(one))?;
    record(shared, started, keys.len());
    Ok(answered)
}

pub(super) fn check(shared: &Shared, caller: &Caller, body: &[u8], now: Timestamp) -> Result<Vec<u8>, Problem> {
    let started = std::time::Instant::now();
    let mut body: selectors::CheckBody = json::body(body)?;
    let questions = body.questions()?;
    let revision = begin(shared, caller, body.least_revision.as_deref())?;
    let stats = &shared.stats.https;
    let pin = shared.service.pin();
    let keys = keys(shared, &pin, questions.iter().map(|question| &question.digest));
    let one = |(number, (key, question)): (usize, (&TokenKey, &selectors::Question))| {
        let (scope, place) = (ScopeAsked::Name(&question.scope), PlaceAsked::Name(&question.place));
        let decided = shared.service.check(&pin, caller, *key, scope, place, now);
        Ok(match decided.map_err(|refusal| Problem::from(refusal).within(&format!("questions[{number}]")))? {
            Decision::Allowed => {
                stats.count_allowed();
                br#"{"active":true,"allowed":true}"#.to_vec()
            }
            Decision::Denied(denial) => {
                stats.count_denied(denial);
                let (reason, explanation) = (denial.as_str(), denial.explanation());
                format!(r#"{{"active":true,"allowed":false,"reason":"{reason}","explanation":"{explanation}"}}"#).into()
            }
            Decision::Inactive(reason) => {
                stats.count_inactive(reason);
                INACTIVE.to_vec()
            }
        })
    };
    let answered = answers(revision, "decisions", keys.iter().zip(&questions).enumerate().map(one))?;
    record(shared, started, keys.len());
    Ok(answered)
}

/// Records how long each question of a batch took.
fn record(shared: &Shared, started: std::time::Instant, count: usize) {
    let count = u64::try_from(count).unwrap_or(u64::MAX).max(1);
    let each = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX) / count;
    shared.stats.https.latency.record(each, count);
}
