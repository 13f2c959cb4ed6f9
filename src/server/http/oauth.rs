//! `POST /introspect` (RFC 7662) and `POST /revoke` (RFC 7009).
//!
//! The introspection form, beside the RFC's `token` and `token_type_hint` (which is ignored, R7662-03):
//!
//! | field | asks |
//! |---|---|
//! | `scope` | Hydra's meaning: inactive if one of these is not held at *every* place (TS-13) |
//! | `tokenscope_place` | about this place alone: `scope` and `authorization_details` are those of the place |
//! | `tokenscope_scope` | with `tokenscope_place`: may it do all of these there? The answer gains `tokenscope_decision` |
//! | `tokenscope_least_revision` | the answer must know at least this revision, else 503 |
//!
//! Which way it falls: no verdict is 503 with `Retry-After`, never active and never inactive (TS-05). A revocation is
//! answered 200 only when it is durable and visible (TS-06, R7009-10); with the setting `revocation_wait` also only when no
//! near-cache holds the token any more.
//!
//! **Decided (R7009-04):** an OAuth client that presents somebody else's token to `/revoke` is refused aloud, with 400
//! `invalid_request`, as section 2.1 says and as the strictest peers do; the token stays alive. A 200 would tell the
//! client that the token is dead while it lives. Whoever holds a token can find out that it exists anyway, by using it.

use hyper::StatusCode;

use super::Desk;
use super::answer::{self, Answer, Manner};
use super::challenge::{self, Scheme};
use super::form::{Form, FormError};
use crate::domain::mint::{Plausibility, digest_and_wipe};
use crate::domain::{Denial, Inactive, Place, Revision, Timestamp, TokenDigest, TokenKey};
use crate::server::api::introspection::{self, Shown, ShownDecision, token_type};
use crate::server::fence;
use crate::server::stats::RefusedFor;
use crate::service::caller::{Caller, RevokeRight};
use crate::service::request::{ChangeError, ChangeRequest, RevokeTarget};
use crate::service::{ActiveToken, Decision, Introspection, Pin, PlaceAsked, Refusal, ScopeAsked, Scratch, Service};

/// The most scopes in one question.
pub(super) const WANTED_MAX: usize = 16;

/// Why a question does not end in an answer about an active token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    /// The request cannot be meant: 400, with this sentence.
    Malformed(&'static str),
    /// Not active; the reason is for the counters alone.
    Inactive(Inactive),
    /// No verdict, or no right to one.
    Refused(Refusal),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<FormError> for Stop {
    fn from(error: FormError) -> Self {
        Self::Malformed(error.explanation())
    }
}

/// The names in a space-separated list of scopes. Each is compared byte for byte later; nothing is trimmed off one.
pub(super) fn scope_list(text: &str) -> Result<Vec<&str>, Stop> {
    let names: Vec<&str> = text.split(' ').filter(|name| !name.is_empty()).collect();
    if names.len() > WANTED_MAX {
        return Err(Stop::Malformed("at most 16 scopes can be asked about at once"));
    }
    Ok(names)
}

impl Desk {
    /// The digest of a token string; the string is wiped. Junk is told from its form alone, without a look-up.
    pub(super) fn digest(&self, token: Vec<u8>) -> Result<TokenDigest, Stop> {
        let plausibility = self.settings.prefix.judge(&token);
        let digest = digest_and_wipe(token);
        match plausibility {
            Plausibility::Possible => Ok(digest),
            Plausibility::Junk => Err(Stop::Inactive(Inactive::Malformed)),
        }
    }

    /// The answer for a question that stopped, and its count.
    pub(super) fn stopped(&self, stop: Stop) -> Answer {
        let stats = &self.shared.stats.https;
        match stop {
            Stop::Malformed(text) => {
                stats.count_refused(RefusedFor::Malformed);
                answer::error(Manner::Oauth, StatusCode::BAD_REQUEST, "invalid_request", text)
            }
            Stop::Inactive(reason) => {
                stats.count_inactive(reason);
                answer::inactive()
            }
            Stop::Refused(refusal) => self.refused(refusal),
        }
    }

    /// The answer for a question without a verdict, and its count.
    pub(super) fn refused(&self, refusal: Refusal) -> Answer {
        let (reason, text) = (refused_for(refusal), refusal.to_string());
        self.shared.stats.https.count_refused(reason);
        match refusal {
            Refusal::MayNotAsk => answer::error(Manner::Oauth, StatusCode::FORBIDDEN, "unauthorized_client", &text),
            // R9767-08: independent of the token, so nothing is learnt about it.
            Refusal::MayNotAskThere => answer::error(Manner::Oauth, StatusCode::FORBIDDEN, "invalid_access", &text),
            Refusal::Behind | Refusal::NotReady => answer::unavailable(Manner::Oauth, &text),
        }
    }
}

/// What a refusal counts as.
fn refused_for(refusal: Refusal) -> RefusedFor {
    match refusal {
        Refusal::MayNotAsk | Refusal::MayNotAskThere => RefusedFor::Rights,
        Refusal::Behind => RefusedFor::Behind,
        Refusal::NotReady => RefusedFor::NotReady,
    }
}

/// `POST /introspect` of a caller that has the right to ask.
pub(super) fn introspect(desk: &Desk, caller: &Caller, mut form: Form, now: Timestamp) -> Answer {
    let started = std::time::Instant::now();
    let answer = match evaluate(desk, caller, &mut form, now) {
        Ok(body) => answer::json(StatusCode::OK, body),
        Err(stop) => desk.stopped(stop),
    };
    desk.record(started);
    answer
}

fn evaluate(desk: &Desk, caller: &Caller, form: &mut Form, now: Timestamp) -> Result<Vec<u8>, Stop> {
    // R7662-02.
    let token = form.take("token").ok_or(Stop::Malformed("the parameter token is missing or empty"))?;
    let held = scope_list(form.text("scope")?.unwrap_or_default())?;
    let wanted = scope_list(form.text("tokenscope_scope")?.unwrap_or_default())?;
    let place = form.text("tokenscope_place")?;
    if let Some(place) = place {
        Place::parse(place)
            .map_err(|_| Stop::Malformed("tokenscope_place is neither a workspace nor workspace/project"))?;
    }
    if place.is_none() && !wanted.is_empty() {
        return Err(Stop::Malformed("tokenscope_scope asks about a place; name it in tokenscope_place"));
    }
    let service = &desk.shared.service;
    if let Some(text) = form.text("tokenscope_least_revision")? {
        let least = Revision::parse(text).ok_or(Stop::Malformed("tokenscope_least_revision is not a revision"))?;
        service.reached(least)?;
    }
    // Wiped whatever comes of it.
    let digest = desk.digest(token);
    may_ask_there(caller, place)?;
    let digest = digest?;
    // Read before the facts: the answer may know more than it says, never less.
    let revision = service.revision();
    let key = service.key(&digest);
    let pin = service.pin();
    let decision = match place {
        Some(place) if !wanted.is_empty() => Some(decide(service, &pin, caller, key, &wanted, place, now)?),
        _ => None,
    };
    let (mut here, mut anywhere) = (Scratch::default(), Scratch::default());
    let found = service.introspect(&pin, caller, key, place, now, &mut here)?;
    let denial = decision.flatten();
    let stats = &desk.shared.stats.https;
    let body = match (found, denial) {
        (Introspection::Active(token), _) => {
            if !held.iter().all(|name| holds_everywhere(service, &pin, &token, name)) {
                return Err(Stop::Inactive(Inactive::NothingLeft));
            }
            let shown = Shown::of(&token);
            let text = decision.map(|denial| challenge_for(desk, denial, shown.confirmation.as_ref(), &wanted));
            let decision = text.as_ref().map(|text| shown_decision(denial, text.as_deref()));
            introspection::active(&shown, Some(&desk.settings.issuer), decision.as_ref(), revision)
                .map_err(|_| Stop::Inactive(Inactive::NothingLeft))?
        }
        // Nothing at the place that was asked about, but a decision was asked for: it is given with its reason. What
        // the token may do elsewhere is not said, because `scope` would be read as true of this place (TS-02).
        (Introspection::Inactive(Inactive::NothingLeft), Some(denial)) if held.is_empty() => {
            match service.introspect(&pin, caller, key, None, now, &mut anywhere)? {
                Introspection::Active(token) => {
                    let shown = Shown { scope: Vec::new(), details: Vec::new(), ..Shown::of(&token) };
                    let text = challenge_for(desk, Some(denial), shown.confirmation.as_ref(), &wanted);
                    let decision = shown_decision(Some(denial), text.as_deref());
                    introspection::active(&shown, Some(&desk.settings.issuer), Some(&decision), revision)
                        .map_err(|_| Stop::Inactive(Inactive::NothingLeft))?
                }
                Introspection::Inactive(Inactive::NothingLeft) => {
                    let text = challenge_for(desk, Some(denial), None, &wanted);
                    introspection::denied_everywhere(&shown_decision(Some(denial), text.as_deref()), revision)
                }
                Introspection::Inactive(reason) => return Err(Stop::Inactive(reason)),
            }
        }
        (Introspection::Inactive(reason), _) => return Err(Stop::Inactive(reason)),
    };
    match decision {
        None => stats.count_active(),
        Some(None) => stats.count_allowed(),
        Some(Some(denial)) => stats.count_denied(denial),
    }
    Ok(body)
}

/// Whether the caller may ask about `place`; comes before anything about the token, its form included (R9767-08).
pub(super) fn may_ask_there(caller: &Caller, place: Option<&str>) -> Result<(), Stop> {
    let workspace = |place: &str| caller.may_ask_about(place.split_once('/').map_or(place, |(workspace, _)| workspace));
    if place.is_none_or(workspace) { Ok(()) } else { Err(Stop::Refused(Refusal::MayNotAskThere)) }
}

/// Whether the token may do all of `wanted` at `place`: the first denial, if there is one.
pub(super) fn decide(
    service: &Service,
    pin: &Pin<'_>,
    caller: &Caller,
    key: TokenKey,
    wanted: &[&str],
    place: &str,
    now: Timestamp,
) -> Result<Option<Denial>, Stop> {
    for scope in wanted {
        match service.check(pin, caller, key, ScopeAsked::Name(scope), PlaceAsked::Name(place), now)? {
            Decision::Allowed => {}
            Decision::Denied(denial) => return Ok(Some(denial)),
            Decision::Inactive(reason) => return Err(Stop::Inactive(reason)),
        }
    }
    Ok(None)
}

/// Whether `name` is a scope, and is in the lower bound (TS-09, TS-13).
pub(super) fn holds_everywhere(service: &Service, pin: &Pin<'_>, token: &ActiveToken<'_>, name: &str) -> bool {
    service.scope_position(pin, name).is_some_and(|position| token.everywhere.allows(position))
}

fn challenge_for(
    desk: &Desk,
    denial: Option<Denial>,
    confirmation: Option<&crate::domain::Confirmation>,
    wanted: &[&str],
) -> Option<String> {
    let scheme = Scheme::of_token_type(token_type(confirmation));
    denial.map(|denial| challenge::denied(scheme, &desk.settings.realm, denial, wanted.iter().copied()).into_string())
}

fn shown_decision(denial: Option<Denial>, challenge: Option<&str>) -> ShownDecision<'_> {
    ShownDecision { denied: denial.map(|denial| (denial.as_str(), denial.explanation())), challenge }
}

/// `POST /revoke`. Takes the form by value: the token in it is wiped as soon as it is hashed.
pub(super) async fn revoke(desk: &Desk, caller: &Caller, mut form: Form, now: Timestamp) -> Answer {
    let stats = &desk.shared.stats.https;
    let Some(right) = &caller.rights.revoke else {
        stats.count_refused(RefusedFor::Rights);
        let text = "this caller may not revoke tokens";
        return answer::error(Manner::Oauth, StatusCode::FORBIDDEN, "unauthorized_client", text);
    };
    let Some(token) = form.take("token") else {
        return desk.stopped(Stop::Malformed("the parameter token is missing or empty"));
    };
    drop(form);
    // R7009-08: what cannot be a token is as good as revoked.
    let Ok(digest) = desk.digest(token) else { return answer::empty(StatusCode::OK) };
    let request = ChangeRequest::Revoke(RevokeTarget::Token(digest));
    let Some(_begun) = desk.begin(&caller.id, true) else {
        stats.count_refused(RefusedFor::Overload);
        return answer::unavailable(Manner::Oauth, super::dispatch::TOO_MANY_AT_ONCE);
    };
    match desk.shared.service.change(caller, request, now).await {
        Ok(done) => {
            fence::settle(&desk.shared, done.revision.sequence, desk.settings.revocation_wait).await;
            stats.changes.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            answer::empty(StatusCode::OK)
        }
        Err(error) => revocation_failed(desk, right, &error),
    }
}

/// What a client is told of a revocation that was not made: it has to assume that the token lives.
fn revocation_failed(desk: &Desk, right: &RevokeRight, error: &ChangeError) -> Answer {
    let stats = &desk.shared.stats.https;
    match error {
        ChangeError::Forbidden { .. } => {
            stats.count_refused(RefusedFor::Rights);
            let text = match right {
                RevokeRight::OwnTokensOf(_) => "the token was not issued to this client; it is not revoked",
                RevokeRight::Anything => "this caller may not revoke this token",
            };
            answer::error(Manner::Oauth, StatusCode::BAD_REQUEST, "invalid_request", text)
        }
        ChangeError::NotFound(_) => answer::empty(StatusCode::OK),
        ChangeError::Invalid(_) | ChangeError::Conflict(_) => {
            answer::error(Manner::Oauth, StatusCode::BAD_REQUEST, "invalid_request", &error.to_string())
        }
        ChangeError::Busy => {
            stats.count_refused(RefusedFor::Overload);
            answer::unavailable(Manner::Oauth, "the revocation was not made; ask again")
        }
        // What went wrong inside is for the log, not for the client.
        ChangeError::Unavailable(_) | ChangeError::Unknown(_) => {
            tracing::error!(%error, "a revocation could not be made durable");
            stats.count_refused(RefusedFor::NotReady);
            answer::unavailable(Manner::Oauth, "the token must be assumed to live; ask again")
        }
    }
}
