//! The same as an argument of axum's handlers: who takes an [`Admitted`] is called for requests that were let in, and for no
//! others.
//!
//! It decides and refuses by the layer's code, and finds the place by its patterns; so of axum it needs the traits alone.
//! What a route needs is a type's constants, looked at while compiling. Whoever is to decide stands behind a pointer in the
//! router's state, so that handlers need not be generic; that costs an allocation for each request.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;

use axum_core::extract::{FromRef, FromRequestParts};
use axum_core::response::{IntoResponse, Response};
use http::request::Parts;

use super::Realm;
use super::path::{Pattern, fault};
use super::refusal::{self, REALM, Refusal, asked, decided};
use crate::client::answer::{Decision, Error, Introspection, Token, Verdict};
use crate::client::{Checks, Introspects};
use crate::domain::scope::is_scope_name;

/// What a route needs. Implemented by a type that stands for the route and is never made.
pub trait Needs: 'static {
    /// The scope the token has to have.
    const SCOPE: &'static str;
    /// Where in the path the place stands: `{workspace}` once, `{project}` at most once, any other name in braces for a
    /// part that does not matter. The path may go on after it. The same text is axum's for the route, if the route ends
    /// there.
    const PATH: &'static str;
}

/// Whoever decides, as a router's state, or a part of it that implements [`FromRef`].
#[derive(Clone)]
pub struct Gate {
    decides: Arc<dyn Decides>,
    realm: Realm,
}

impl Gate {
    /// Asks this one: a [`NearCache`](crate::client::NearCache), a [`Client`](crate::client::Client), or a
    /// [`Fake`](crate::client::Fake) in tests.
    pub fn new(checks: impl Introspects) -> Self {
        Self { decides: Arc::new(checks), realm: REALM.into() }
    }

    /// Names the part of the API that is protected, as [`RequireScope::realm`](super::RequireScope::realm) does.
    #[must_use]
    pub fn realm(self, realm: &str) -> Self {
        Self { realm: refusal::realm(realm).into(), ..self }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}

type Answering<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// [`Introspects`] behind a pointer, so that handlers need not name what decides.
trait Decides: Send + Sync {
    fn check<'a>(&'a self, token: Token, scope: &'a str, place: &'a str) -> Answering<'a, Decision>;
    fn introspect_at<'a>(&'a self, token: Token, place: &'a str) -> Answering<'a, Verdict>;
}

impl<C: Introspects> Decides for C {
    fn check<'a>(&'a self, token: Token, scope: &'a str, place: &'a str) -> Answering<'a, Decision> {
        Box::pin(Checks::check(self, token, scope, place))
    }

    fn introspect_at<'a>(&'a self, token: Token, place: &'a str) -> Answering<'a, Verdict> {
        Box::pin(Introspects::introspect_at(self, token, place))
    }
}

/// A request that was let in: its token may do `N::SCOPE` at the place that its path names by `N::PATH`.
///
/// Made by axum alone, from a request and a [`Gate`] in the router's state; every other request is answered as the
/// [layer](super) answers it, and the handler is not called.
///
/// ```
/// use axum::{Router, routing::get};
/// use tokenscope::client::{Fake, layer::{Admitted, Gate, Needs, Refused}};
///
/// /// Reading tasks: what it needs, and where, said once.
/// struct ReadTasks;
/// impl Needs for ReadTasks {
///     const SCOPE: &str = "tasks:read";
///     const PATH: &str = "/workspaces/{workspace}/tasks";
/// }
///
/// async fn list(may: Admitted<ReadTasks>) -> String {
///     format!("the tasks of {}", may.workspace())
/// }
///
/// async fn mine(may: Admitted<ReadTasks>) -> Result<String, Refused> {
///     let who = may.who().await?;
///     Ok(format!("{} asks through {}", who.subject, who.client))
/// }
///
/// # let cache = Fake::new();
/// let gate = Gate::new(cache); // a NearCache, a Client, or a Fake in tests
/// let router: Router = Router::new()
///     .route(ReadTasks::PATH, get(list))
///     .route("/workspaces/{workspace}/tasks/mine", get(mine))
///     .with_state(gate);
/// ```
///
/// Nobody else makes an `Admitted`, so a handler that forgets to ask has no place, no token and no subject to work with. A
/// path or a scope that cannot be does not compile:
///
/// ```compile_fail
/// # use tokenscope::client::layer::{Admitted, Gate, Needs};
/// struct Careless;
/// impl Needs for Careless {
///     const SCOPE: &str = "tasks:read";
///     const PATH: &str = "/tasks"; // of which workspace?
/// }
/// async fn list(_: Admitted<Careless>) {}
/// let router: axum::Router = axum::Router::new().route("/tasks", axum::routing::get(list)).with_state(
///     Gate::new(tokenscope::client::Fake::new()));
/// ```
///
/// nor does an argument that may be left out, for that would be a handler that is called for everybody:
///
/// ```compile_fail
/// # use tokenscope::client::layer::{Admitted, Gate, Needs};
/// # struct ReadTasks;
/// # impl Needs for ReadTasks {
/// #     const SCOPE: &str = "tasks:read";
/// #     const PATH: &str = "/workspaces/{workspace}/tasks";
/// # }
/// async fn list(_: Option<Admitted<ReadTasks>>) {}
/// let router: axum::Router = axum::Router::new().route(ReadTasks::PATH, axum::routing::get(list)).with_state(
///     Gate::new(tokenscope::client::Fake::new()));
/// ```
///
/// Arguments are made in their order, so an `Admitted` comes first. The path is compared as the router's handlers see it;
/// below a `nest` that is without the prefix, for the route and for [`Needs::PATH`] alike.
pub struct Admitted<N> {
    token: Token,
    place: Box<str>,
    gate: Gate,
    needs: PhantomData<fn() -> N>,
}

impl<N> fmt::Debug for Admitted<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admitted").field("token", &self.token).field("place", &self.place).finish_non_exhaustive()
    }
}

impl<N: Needs> Admitted<N> {
    /// Looked at while compiling: a path that names no workspace, or a scope that is none, is an error there.
    const SOUND: () = {
        if let Some(what) = fault(N::PATH) {
            panic!("{}", what);
        }
        assert!(is_scope_name(N::SCOPE), "SCOPE is not the name of a scope");
    };

    /// The token's hash, for further questions.
    pub fn token(&self) -> Token {
        self.token
    }

    /// The place it was let in to: `1579` or `1579/4021`. Work with this one, and not with the path read a second time.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The workspace it was let in to.
    pub fn workspace(&self) -> &str {
        self.place.split_once('/').map_or(&*self.place, |(workspace, _)| workspace)
    }

    /// The project it was let in to, if `N::PATH` names one.
    pub fn project(&self) -> Option<&str> {
        self.place.split_once('/').map(|(_, project)| project)
    }

    /// Whose token it is: subject, client, times, what it is bound to. Each call is a question to the server, since memory
    /// keeps only what decides.
    ///
    /// # Errors
    /// What the request is to be answered: 401 if the token has ended meanwhile, 503 if there is no answer.
    pub async fn who(&self) -> Result<Introspection, Refused> {
        let refusal = match self.gate.decides.introspect_at(self.token, &self.place).await {
            Ok(Verdict::Active(who)) => return Ok(*who),
            Ok(Verdict::Inactive) => Refusal::Inactive,
            Err(_) => Refusal::NoVerdict,
        };
        Err(Refused { refusal, realm: self.gate.realm.clone(), scope: N::SCOPE })
    }
}

impl<S, N> FromRequestParts<S> for Admitted<N>
where
    S: Send + Sync,
    N: Needs,
    Gate: FromRef<S>,
{
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        const { Self::SOUND };
        let gate = Gate::from_ref(state);
        let refused = |refusal| Refused { refusal, realm: gate.realm.clone(), scope: N::SCOPE };
        let place = || Pattern::sound(N::PATH).place(parts.uri.path());
        let (token, place) = asked(&parts.headers, place).map_err(refused)?;
        decided(gate.decides.check(token, N::SCOPE, &place).await).map_err(refused)?;
        Ok(Self { token, place: place.into(), gate, needs: PhantomData })
    }
}

/// A request that is not let in, and what it is to be answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    refusal: Refusal,
    realm: Realm,
    scope: &'static str,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        self.refusal.response(&self.realm, self.scope)
    }
}
