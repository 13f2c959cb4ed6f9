//! Answers as HTTP: status, headers, bytes.
//!
//! Everything about a token is `no-store` (R7662-11, R7662-24). An inactive answer is one constant (TS-01). Errors of
//! the RFC paths have RFC 6749's form, errors of the JSON API its own; both are always JSON, because clients stumble
//! over an empty error.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE,
};
use hyper::{Response, StatusCode};

use super::challenge::{Challenge, clean};
use crate::server::api::introspection::INACTIVE;

/// What every request ends in.
pub(super) type Answer = Response<Full<Bytes>>;

/// Seconds after which a refused request may be repeated, when nothing better is known.
pub(super) const RETRY_SECONDS: u64 = 1;

/// Which form errors take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Manner {
    /// RFC 6749, section 5.2: `error`, `error_description`.
    Oauth,
    /// Ours: `error`, `message`.
    Api,
}

/// A bare answer with this status.
pub(super) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::new()));
    *answer.status_mut() = status;
    no_store(answer)
}

fn no_store(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer.headers_mut().insert(PRAGMA, HeaderValue::from_static("no-cache"));
    answer
}

/// JSON that must not be kept.
pub(super) fn json(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    no_store(public_json(status, body))
}

/// JSON that anybody may have and keep.
pub(super) fn public_json(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// RFC 7662: not active; the same bytes and headers for every cause and every caller.
pub(super) fn inactive() -> Answer {
    json(StatusCode::OK, INACTIVE)
}

/// An error of this manner.
pub(super) fn error(manner: Manner, status: StatusCode, code: &str, text: &str) -> Answer {
    let value = match manner {
        // RFC 6749, section 5.2, limits the characters of a description.
        Manner::Oauth => serde_json::json!({ "error": code, "error_description": clean(text) }),
        Manner::Api => serde_json::json!({ "error": code, "message": text }),
    };
    json(status, value.to_string())
}

/// Adds a header; one that could not stand on the wire is left out rather than answered with a broken one.
pub(super) fn with(mut answer: Answer, name: HeaderName, value: &str) -> Answer {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
    answer
}

/// Adds `WWW-Authenticate`.
pub(super) fn challenged(answer: Answer, challenge: Challenge) -> Answer {
    with(answer, WWW_AUTHENTICATE, &challenge.into_string())
}

/// Adds `Retry-After`: whole seconds, at least one.
pub(super) fn retry_after(answer: Answer, seconds: u64) -> Answer {
    with(answer, RETRY_AFTER, &seconds.max(1).to_string())
}

/// 405 with the methods there are (R9110-01).
pub(super) fn wrong_method(manner: Manner, allowed: &[&str]) -> Answer {
    let allowed = allowed.join(", ");
    let text = format!("this path takes {allowed}");
    let code = if manner == Manner::Oauth { "invalid_request" } else { "method_not_allowed" };
    with(error(manner, StatusCode::METHOD_NOT_ALLOWED, code, &text), ALLOW, &allowed)
}

/// 503: no verdict, neither active nor inactive (TS-05).
pub(super) fn unavailable(manner: Manner, text: &str) -> Answer {
    let code = if manner == Manner::Oauth { "temporarily_unavailable" } else { "unavailable" };
    retry_after(error(manner, StatusCode::SERVICE_UNAVAILABLE, code, text), RETRY_SECONDS)
}
