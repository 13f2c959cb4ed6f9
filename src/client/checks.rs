//! Whoever answers "may this token do this here?": the client, the near-cache, or a fake in somebody's tests.

use std::future::Future;

use super::answer::{Decision, Error, Token, Verdict};
use super::{Client, NearCache};

/// Somebody who decides. Code that takes one can be tested with [`super::Fake`].
pub trait Checks: Clone + Send + Sync + 'static {
    /// May this token do `scope` at `place`?
    ///
    /// # Errors
    /// No verdict: neither yes nor no, so it lets nobody in.
    fn check(&self, token: Token, scope: &str, place: &str) -> impl Future<Output = Result<Decision, Error>> + Send;
}

/// Somebody who decides, and can say whose token it is.
pub trait Introspects: Checks {
    /// What is this token at `place`?
    ///
    /// # Errors
    /// No verdict.
    fn introspect_at(&self, token: Token, place: &str) -> impl Future<Output = Result<Verdict, Error>> + Send;
}

impl Checks for Client {
    fn check(&self, token: Token, scope: &str, place: &str) -> impl Future<Output = Result<Decision, Error>> + Send {
        Client::check(self, token, scope, place)
    }
}

impl Checks for NearCache {
    fn check(&self, token: Token, scope: &str, place: &str) -> impl Future<Output = Result<Decision, Error>> + Send {
        NearCache::check(self, token, scope, place)
    }
}

impl Introspects for Client {
    fn introspect_at(&self, token: Token, place: &str) -> impl Future<Output = Result<Verdict, Error>> + Send {
        Client::introspect_at(self, token, place)
    }
}

/// Memory keeps what decides, and nobody's name: the server is asked.
impl Introspects for NearCache {
    fn introspect_at(&self, token: Token, place: &str) -> impl Future<Output = Result<Verdict, Error>> + Send {
        self.client().introspect_at(token, place)
    }
}
