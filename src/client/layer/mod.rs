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
//! With the feature `axum` the same is an argument of handlers, `Admitted`, which also says where, and can say whose token it
//! is. Both answer, without ever calling the route:
//!
//! | what | status | `WWW-Authenticate` (RFC 6750, section 3) |
//! | --- | --- | --- |
//! | no token | 401 | `Bearer` and the realm; no error, since nothing was tried |
//! | `Authorization` twice, or a `Bearer` without a token | 400 | the realm, `error="invalid_request"` |
//! | the token is not active | 401 | the realm, `error="invalid_token"` |
//! | active, but may not do this here | 403 | the realm, `error="insufficient_scope"`, why, and the `scope` that is needed |
//! | no verdict | 503 | none, since the token may be good; `Retry-After: 1` |
//! | a path of another form | 404 | none |
//!
//! The realm is `api` unless another one is set. The token is taken from the `Authorization` header alone, hashed, and forgotten; a route finds the hash as
//! [`Bearer`] among the request's extensions, a handler in its `Admitted`. The pattern is compared with the path as the layer sees it.

// The same as an argument of axum's handlers.
#[cfg(feature = "axum")]
mod extract;
// Places in paths.
mod path;
// Who is let in, and what everybody else is told.
mod refusal;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderMap, Request, Response, Uri};
use tower_layer::Layer;
use tower_service::Service;

use super::Checks;
use super::answer::Token;
use crate::domain::scope::is_scope_name;
use path::Pattern;
use refusal::{REALM, asked, decided};

#[cfg(feature = "axum")]
pub use extract::{Admitted, Gate, Needs, Refused};
pub use path::PatternError;

/// The token a request was let in with: its hash, for further questions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bearer(pub Token);

type PlaceOf = dyn Fn(&Uri, &HeaderMap) -> Option<String> + Send + Sync;

/// What a route needs.
struct Need {
    scope: Box<str>,
    place_of: Box<PlaceOf>,
}

/// What everybody is told who is not let in.
type Realm = Arc<str>;

/// The layer; see the top of this page.
pub struct RequireScope<C> {
    checks: C,
    need: Arc<Need>,
    realm: Realm,
}

impl<C: Clone> Clone for RequireScope<C> {
    fn clone(&self) -> Self {
        Self { checks: self.checks.clone(), need: self.need.clone(), realm: self.realm.clone() }
    }
}

impl<C: Checks> RequireScope<C> {
    /// Asks `checks` for `scope` at the place the path names by `pattern`: `{workspace}` once, `{project}` at most once,
    /// any other name in braces for a part that does not matter; the path may go on after it.
    ///
    /// # Errors
    /// The pattern names no workspace, or the scope cannot be a scope's name.
    pub fn new(checks: C, scope: &str, pattern: &str) -> Result<Self, PatternError> {
        let parsed = Pattern::parse(Box::<str>::from(pattern))?;
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
        if !is_scope_name(scope) {
            return Err(PatternError { pattern: scope.to_owned(), what: "is not the name of a scope" });
        }
        let need = Need { scope: scope.into(), place_of: Box::new(place_of) };
        Ok(Self { checks, need: Arc::new(need), realm: REALM.into() })
    }

    /// Names the part of the API that is protected (RFC 9110, section 11.5): every challenge says it. What cannot stand in
    /// one (anything but visible ASCII and spaces, `"`, `\`) becomes `?`.
    #[must_use]
    pub fn realm(self, realm: &str) -> Self {
        Self { realm: refusal::realm(realm).into(), ..self }
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
        let RequireScope { checks, need, realm } = self.layer.clone();
        let asked = asked(request.headers(), || (need.place_of)(request.uri(), request.headers()));
        Box::pin(async move {
            let admitted = match asked {
                Err(refusal) => Err(refusal),
                Ok((token, place)) => {
                    request.extensions_mut().insert(Bearer(token));
                    decided(checks.check(token, &need.scope, &place).await)
                }
            };
            match admitted {
                Ok(()) => inner.call(request).await,
                Err(refusal) => Ok(refusal.response(&realm, &need.scope)),
            }
        })
    }
}
