//! Who is let in, and what everybody else is told: the same for the layer and the extractor.
//!
//! Statuses and challenges are those of RFC 6750, section 3; the table stands on the room's first page. A challenge has at
//! least one attribute, which is the realm; an error only where a token came. Which way it falls: whoever was not said to
//! be allowed is refused.

use http::header::{AUTHORIZATION, CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::client::answer::{Decision, Error, Token};

/// The longest `Authorization` header that is looked at, in bytes.
const AUTHORIZATION_BYTES_MAX: usize = 8 * 1024;

/// The realm of those who have set none.
pub(super) const REALM: &str = "api";

/// A realm as it may stand between quotation marks: visible ASCII and spaces without `"` and `\`; `?` in the place of
/// anything else.
pub(super) fn realm(text: &str) -> Box<str> {
    let fits = |c: char| (' '..='~').contains(&c) && c != '"' && c != '\\';
    text.chars().map(|c| if fits(c) { c } else { '?' }).collect()
}

/// Why a request is not let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    NoToken,
    BadRequest,
    NoPlace,
    Inactive,
    Denied(&'static str),
    NoVerdict,
}

impl Refusal {
    /// The whole answer; `scope` is what would have been needed, `realm` went through [`realm`].
    pub(super) fn response<R: Default>(self, realm: &str, scope: &str) -> Response<R> {
        let bearer = |more: String| Some(format!("Bearer realm=\"{realm}\"{more}"));
        let (status, challenge) = match self {
            Self::NoToken => (StatusCode::UNAUTHORIZED, bearer(String::new())),
            Self::BadRequest => (StatusCode::BAD_REQUEST, bearer(error("invalid_request", MALFORMED))),
            Self::NoPlace => (StatusCode::NOT_FOUND, None),
            Self::Inactive => (StatusCode::UNAUTHORIZED, bearer(error("invalid_token", INACTIVE))),
            Self::Denied(why) => {
                let needed = format!("{}, scope=\"{scope}\"", error("insufficient_scope", why));
                (StatusCode::FORBIDDEN, bearer(needed))
            }
            Self::NoVerdict => (StatusCode::SERVICE_UNAVAILABLE, None),
        };
        let mut response = Response::new(R::default());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // Realms, scopes and explanations are visible ASCII without quotation marks.
        if let Some(challenge) = challenge.and_then(|text| HeaderValue::from_str(&text).ok()) {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        if matches!(self, Self::NoVerdict) {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

const MALFORMED: &str = "one Authorization header with one token is wanted";
const INACTIVE: &str = "the token is not active";

fn error(code: &str, description: &str) -> String {
    format!(", error=\"{code}\", error_description=\"{description}\"")
}

/// The token of a request, hashed.
fn bearer(headers: &HeaderMap) -> Result<Token, Refusal> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = given.next() else { return Err(Refusal::NoToken) };
    if given.next().is_some() || value.len() > AUTHORIZATION_BYTES_MAX {
        return Err(Refusal::BadRequest);
    }
    let (scheme, token) = value.as_bytes().split_at_checked(6).unwrap_or((value.as_bytes(), b""));
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        // Another scheme is none of ours.
        return Err(Refusal::NoToken);
    }
    match token.strip_prefix(b" ").map(|token| token.trim_ascii()) {
        Some(token) if !token.is_empty() && !token.contains(&b' ') => Ok(Token::from(token)),
        _ => Err(Refusal::BadRequest),
    }
}

/// What a decision means for a request. No verdict lets nobody in.
pub(super) fn decided(decision: Result<Decision, Error>) -> Result<(), Refusal> {
    match decision {
        Ok(Decision::Allowed) => Ok(()),
        Ok(Decision::Denied(denial)) => Err(Refusal::Denied(denial.explanation())),
        Ok(Decision::Inactive) => Err(Refusal::Inactive),
        Err(_) => Err(Refusal::NoVerdict),
    }
}

/// What a request asks for: its token, and the place that `place` finds.
pub(super) fn asked(headers: &HeaderMap, place: impl FnOnce() -> Option<String>) -> Result<(Token, String), Refusal> {
    let token = bearer(headers)?;
    Ok((token, place().ok_or(Refusal::NoPlace)?))
}
