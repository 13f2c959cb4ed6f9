//! `GET /authorize`: the decision for gateways, which look at the status alone.
//!
//! RFC 7662 answers 200 for an *inactive* token, so a gateway must never be pointed at `/introspect`. Here the status
//! is the verdict:
//!
//! ```text
//! 200  it may; identity headers X-Tokenscope-Subject, -Client, -Scope, -Jti, -Place, -Expires, -Revision; no body
//! 401  no token, or an inactive one; WWW-Authenticate says so (RFC 6750)
//! 403  active, but may not; WWW-Authenticate names the scope. Without a challenge: the gateway itself may not ask
//! 400, 429, 503   no verdict
//! ```
//!
//! *Whose credentials.* `Authorization` is the end user's. The gateway shows its own by TLS client certificate, or
//! like Basic or Bearer in the header `Tokenscope-Authorization`. A gateway that is not known gets 403 without a
//! challenge and not 401: it would reach the end user, who would throw a good token away.
//!
//! *The question* comes from the gateway's configuration: `X-Tokenscope-Scope` (space-separated, all are needed) and
//! `X-Tokenscope-Place`, or, for gateways that pass the end user's headers on, `tokenscope_scope` and
//! `tokenscope_place` in the query; a query is the whole question, and headers are then not looked at. A scope without
//! a place must be held at every place; a place without a scope means anything at all there; neither means active.
//! So a header that an end user slips in can only make the question harder.
//!
//! *Bound tokens* (RFC 8705, RFC 9449) are refused with 401: whoever checks the token has to check the proof too, and
//! a gateway that reads a status cannot.
//!
//! ```text
//! # nginx: location /api/ { auth_request /_may; auth_request_set $subject $upstream_http_x_tokenscope_subject; … }
//! location = /_may {
//!     internal;
//!     proxy_pass https://tokenscope/authorize;   proxy_http_version 1.1;   proxy_set_header Connection "";
//!     proxy_pass_request_body off;               proxy_set_header Content-Length "";
//!     proxy_set_header X-Tokenscope-Scope "tasks:read";   proxy_set_header X-Tokenscope-Place "1579";
//!     proxy_set_header Tokenscope-Authorization "Basic …";
//! }
//! # Traefik
//! forwardAuth:
//!   address: https://tokenscope/authorize?tokenscope_scope=tasks:read&tokenscope_place=1579
//!   tls: { cert: gateway.pem, key: gateway.key, ca: ca.pem }
//!   authResponseHeaders: [X-Tokenscope-Subject, X-Tokenscope-Client, X-Tokenscope-Scope]
//! ```
//! Do not cache the subrequest, and strip incoming copies of the identity headers.

use hyper::header::{AUTHORIZATION, HeaderName};
use hyper::{HeaderMap, StatusCode};

use super::Desk;
use super::answer::{self, Answer};
use super::authenticate::split_scheme;
use super::challenge::{self, Challenge, Scheme};
use super::form::Form;
use super::oauth::{Stop, decide, holds_everywhere, may_ask_there, scope_list};
use crate::domain::{Denial, Inactive, Place, Timestamp};
use crate::server::api::introspection::Shown;
use crate::service::caller::Caller;
use crate::service::{Introspection, Scratch};

static SCOPE: HeaderName = HeaderName::from_static("x-tokenscope-scope");
static PLACE: HeaderName = HeaderName::from_static("x-tokenscope-place");

/// The longest list of scopes in an identity header, in bytes: proxies give a reply's headers 4 KiB. A longer one is
/// replaced by the scopes that were asked about.
const SCOPE_HEADER_BYTES_MAX: usize = 2_048;

/// What the gateway asks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) scope: String,
    pub(super) place: Option<String>,
}

/// Reads the question from the query, or else from the headers.
pub(super) fn wanted(headers: &HeaderMap, query: &str) -> Result<Wanted, Stop> {
    let form = Form::parse(query.as_bytes())?;
    let (scope, place) = (form.text("tokenscope_scope")?, form.text("tokenscope_place")?);
    let (scope, place) = match (scope, place) {
        (None, None) => (header(headers, &SCOPE)?, header(headers, &PLACE)?),
        asked => asked,
    };
    if place.is_some_and(|place| Place::parse(place).is_err()) {
        return Err(Stop::Malformed("the place is neither a workspace nor workspace/project"));
    }
    Ok(Wanted { scope: scope.unwrap_or_default().into(), place: place.map(str::to_owned) })
}

fn header<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Stop> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Stop::Malformed("a question header stands in the request twice; the gateway must replace it"));
    }
    let text = value.to_str().map_err(|_| Stop::Malformed("a question header is not visible ASCII"))?;
    Ok(Some(text.trim()).filter(|text| !text.is_empty()))
}

/// The end user's token. `None`: no usable credentials came (R6750-02), also when they are of another scheme.
///
/// # Errors
/// Two came (R6750-07).
pub(super) fn end_users_token(headers: &HeaderMap) -> Result<Option<Vec<u8>>, Stop> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Stop::Malformed("Authorization stands in the request twice"));
    }
    let bearer = split_scheme(value.as_bytes()).filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer"));
    Ok(bearer.map(|(_, token)| token.to_vec()).filter(|token| !token.is_empty()))
}

/// Why the end user may not.
enum Refused {
    /// No token came.
    Bare,
    /// The token is bound, and nobody has checked the proof.
    Bound,
    /// Active, but lacking.
    Denied(Denial),
    /// Everything else.
    Stop(Stop),
}

impl<S: Into<Stop>> From<S> for Refused {
    fn from(stop: S) -> Self {
        Self::Stop(stop.into())
    }
}

/// Answers a gateway that has the right to ask.
pub(super) fn authorize(desk: &Desk, caller: &Caller, headers: &HeaderMap, query: &str, now: Timestamp) -> Answer {
    let started = std::time::Instant::now();
    let realm = &desk.settings.realm;
    let stats = &desk.shared.stats.https;
    let answer = match evaluate(desk, caller, headers, query, now) {
        Ok(answer) => {
            stats.count_allowed();
            answer
        }
        Err((Refused::Bare, _)) => {
            answer::challenged(answer::empty(StatusCode::UNAUTHORIZED), Challenge::new(Scheme::Bearer, realm))
        }
        Err((Refused::Bound, _)) => {
            stats.count_active();
            let text = "The access token is bound to a key, and a gateway cannot check the proof";
            let challenge = Challenge::new(Scheme::Bearer, realm).error("invalid_token", text);
            answer::challenged(answer::empty(StatusCode::UNAUTHORIZED), challenge)
        }
        Err((Refused::Denied(denial), wanted)) => {
            stats.count_denied(denial);
            let names = wanted.split(' ').filter(|name| !name.is_empty());
            let challenge = challenge::denied(Scheme::Bearer, realm, denial, names);
            answer::challenged(answer::empty(StatusCode::FORBIDDEN), challenge)
        }
        Err((Refused::Stop(Stop::Inactive(reason)), _)) => {
            stats.count_inactive(reason);
            answer::challenged(answer::empty(StatusCode::UNAUTHORIZED), challenge::inactive(realm))
        }
        Err((Refused::Stop(stop), _)) => desk.stopped(stop),
    };
    desk.record(started);
    answer
}

fn evaluate(
    desk: &Desk,
    caller: &Caller,
    headers: &HeaderMap,
    query: &str,
    now: Timestamp,
) -> Result<Answer, (Refused, String)> {
    // The question is read first: a gateway that asks badly must not depend on whether a token came.
    let asked = wanted(headers, query).map_err(|stop| (stop.into(), String::new()))?;
    let verdict = end_users_token(headers).map_err(Refused::from).and_then(|token| {
        let token = token.ok_or(Refused::Bare)?;
        decide_all(desk, caller, token, &asked, now)
    });
    verdict.map_err(|refused| (refused, asked.scope))
}

fn decide_all(desk: &Desk, caller: &Caller, token: Vec<u8>, asked: &Wanted, now: Timestamp) -> Result<Answer, Refused> {
    let names = scope_list(&asked.scope)?;
    let place = asked.place.as_deref();
    let service = &desk.shared.service;
    // Wiped whatever comes of it.
    let digest = desk.digest(token);
    may_ask_there(caller, place)?;
    let digest = digest?;
    let revision = service.revision();
    let key = service.key(&digest);
    let pin = service.pin();
    if let Some(place) = place
        && let Some(denial) = decide(service, &pin, caller, key, &names, place, now)?
    {
        return Err(Refused::Denied(denial));
    }
    let mut scratch = Scratch::default();
    let token = match service.introspect(&pin, caller, key, place, now, &mut scratch).map_err(Stop::from)? {
        Introspection::Active(token) => token,
        Introspection::Inactive(Inactive::NothingLeft) if place.is_some() => {
            return Err(Refused::Denied(Denial::PlaceNotGranted));
        }
        Introspection::Inactive(reason) => return Err(Refused::Stop(Stop::Inactive(reason))),
    };
    if place.is_none() {
        for name in &names {
            if service.scope_position(&pin, name).is_none() {
                return Err(Refused::Denied(Denial::ScopeUnknown));
            }
            if !holds_everywhere(service, &pin, &token, name) {
                return Err(Refused::Denied(Denial::ScopeNotGranted));
            }
        }
    }
    if token.confirmation.is_some() {
        return Err(Refused::Bound);
    }
    let identity = identity(&Shown::of(&token), asked);
    let answer = answer::with(identity, HeaderName::from_static("x-tokenscope-revision"), &revision.to_string());
    Ok(answer)
}

/// 200 with the headers that tell the API who it is.
pub(super) fn identity(token: &Shown<'_>, asked: &Wanted) -> Answer {
    let mut scope = token.scope.join(" ");
    if scope.len() > SCOPE_HEADER_BYTES_MAX {
        scope = asked.scope.clone();
    }
    let mut answer = answer::empty(StatusCode::OK);
    let headers: [(&'static str, &str); 5] = [
        ("x-tokenscope-subject", token.subject),
        ("x-tokenscope-client", token.client),
        ("x-tokenscope-jti", &token.handle.to_string()),
        ("x-tokenscope-scope", &scope),
        ("x-tokenscope-place", asked.place.as_deref().unwrap_or_default()),
    ];
    for (name, value) in headers.into_iter().filter(|(_, value)| !value.is_empty()) {
        answer = answer::with(answer, HeaderName::from_static(name), value);
    }
    if let Some(end) = token.times.expiry.at() {
        answer = answer::with(answer, HeaderName::from_static("x-tokenscope-expires"), &end.to_string());
    }
    answer
}
