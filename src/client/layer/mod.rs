//! A `tower` layer for API servers: "this route needs scope S in the workspace of the path".
//!
//! ```
//! # use tokenscope::client::{Fake, layer::{PatternError, RequireScope}};
//! # fn example(cache: Fake) -> Result<(), PatternError> {
//! let layer = RequireScope::new(cache, "tasks:read", "/workspaces/{workspace}/tasks")?;
//! // axum: Router::new().route("/workspaces/{workspace}/tasks", get(list).route_layer(layer))
//! # Ok(()) }
//! ```
//!
//! It answers, without ever calling the route:
//!
//! | what | status | `WWW-Authenticate` (RFC 6750, section 3) |
//! | --- | --- | --- |
//! | no token | 401 | `Bearer` |
//! | `Authorization` twice, or a `Bearer` without a token | 400 | `error="invalid_request"` |
//! | the token is not active | 401 | `error="invalid_token"` |
//! | active, but may not do this here | 403 | `error="insufficient_scope"`, the scope, and why |
//! | no verdict | 503 | none, since the token may be good; `Retry-After: 1` |
//! | a path of another form | 404 | none |
//!
//! The token is taken from the `Authorization` header alone, hashed, and forgotten; a route finds the hash as
//! [`Bearer`] among the request's extensions. The pattern is compared with the path as the layer sees it.

// Places in paths.
mod path;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{AUTHORIZATION, CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use tower_layer::Layer;
use tower_service::Service;

use super::Checks;
use super::answer::{Decision, Error, Token};
use crate::domain::scope::check_scope_name;
use path::Pattern;

pub use path::PatternError;

/// The longest `Authorization` header that is looked at, in bytes.
const AUTHORIZATION_BYTES_MAX: usize = 8 * 1024;

/// The token a request was let in with: its hash, for further questions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bearer(pub Token);

type PlaceOf = dyn Fn(&Uri, &HeaderMap) -> Option<String> + Send + Sync;

/// What a route needs.
struct Need {
    scope: Box<str>,
    place_of: Box<PlaceOf>,
}

/// The layer; see the top of this page.
pub struct RequireScope<C> {
    checks: C,
    need: Arc<Need>,
}

impl<C: Clone> Clone for RequireScope<C> {
    fn clone(&self) -> Self {
        Self { checks: self.checks.clone(), need: self.need.clone() }
    }
}

impl<C: Checks> RequireScope<C> {
    /// Asks `checks` for `scope` at the place the path names by `pattern`: `{workspace}` once, `{project}` at most once,
    /// any other name in braces for a part that does not matter; the path may go on after it.
    ///
    /// # Errors
    /// The pattern names no workspace, or the scope cannot be a scope's name.
    pub fn new(checks: C, scope: &str, pattern: &str) -> Result<Self, PatternError> {
        let parsed = Pattern::parse(pattern)?;
        Self::at(checks, scope, move |uri, _| parsed.place(uri.path()))
    }

    /// The same, the place found by `place_of`: in a header, in the query, in a table. `None` is answered with 404.
    ///
    /// # Errors
    /// The scope cannot be a scope's name.
    pub fn at(
        checks: C,
        scope: &str,
        place_of: impl Fn(&Uri, &HeaderMap) -> Option<String> + Send + Sync + 'static,
    ) -> Result<Self, PatternError> {
        if check_scope_name(scope).is_err() {
            return Err(PatternError { pattern: scope.to_owned(), what: "is not the name of a scope" });
        }
        let need = Need { scope: scope.into(), place_of: Box::new(place_of) };
        Ok(Self { checks, need: Arc::new(need) })
    }
}

impl<S, C: Clone> Layer<S> for RequireScope<C> {
    type Service = Guarded<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Guarded { inner, layer: self.clone() }
    }
}

/// A service behind the layer.
#[derive(Clone)]
pub struct Guarded<S, C: Clone> {
    inner: S,
    layer: RequireScope<C>,
}

/// Why a request is not let in.
enum Refusal {
    NoToken,
    BadRequest,
    NoPlace,
    Inactive,
    Denied(&'static str),
    NoVerdict,
}

impl Refusal {
    fn response<R: Default>(&self, scope: &str) -> Response<R> {
        let (status, challenge) = match self {
            Self::NoToken => (StatusCode::UNAUTHORIZED, Some("Bearer".to_owned())),
            Self::BadRequest => (StatusCode::BAD_REQUEST, Some(r#"Bearer error="invalid_request""#.to_owned())),
            Self::NoPlace => (StatusCode::NOT_FOUND, None),
            Self::Inactive => (
                StatusCode::UNAUTHORIZED,
                Some(r#"Bearer error="invalid_token", error_description="the token is not active""#.to_owned()),
            ),
            Self::Denied(why) => {
                let challenge =
                    format!(r#"Bearer error="insufficient_scope", scope="{scope}", error_description="{why}""#);
                (StatusCode::FORBIDDEN, Some(challenge))
            }
            Self::NoVerdict => (StatusCode::SERVICE_UNAVAILABLE, None),
        };
        let mut response = Response::new(R::default());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // Scopes and explanations are visible ASCII without quotation marks.
        if let Some(challenge) = challenge.and_then(|text| HeaderValue::from_str(&text).ok()) {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        if matches!(self, Self::NoVerdict) {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
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

fn admitted(decided: Result<Decision, Error>) -> Result<(), Refusal> {
    match decided {
        Ok(Decision::Allowed) => Ok(()),
        Ok(Decision::Denied(denial)) => Err(Refusal::Denied(denial.explanation())),
        Ok(Decision::Inactive) => Err(Refusal::Inactive),
        Err(_) => Err(Refusal::NoVerdict),
    }
}

/// What a guarded service gives back.
type Answering<R, E> = Pin<Box<dyn Future<Output = Result<Response<R>, E>> + Send>>;

impl<S, C, B, R> Service<Request<B>> for Guarded<S, C>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    C: Checks,
    B: Send + 'static,
    R: Default + Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Answering<R, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // The one that was found ready is the one that is called.
        let unready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, unready);
        let RequireScope { checks, need } = self.layer.clone();
        let asked = bearer(request.headers()).and_then(|token| {
            let place = (need.place_of)(request.uri(), request.headers()).ok_or(Refusal::NoPlace)?;
            Ok((token, place))
        });
        Box::pin(async move {
            let admitted = match asked {
                Err(refusal) => Err(refusal),
                Ok((token, place)) => {
                    let decided = checks.check(token, &need.scope, &place).await;
                    request.extensions_mut().insert(Bearer(token));
                    admitted(decided)
                }
            };
            match admitted {
                Ok(()) => inner.call(request).await,
                Err(refusal) => Ok(refusal.response(&need.scope)),
            }
        })
    }
}
