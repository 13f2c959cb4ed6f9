//! How the native protocol reaches the JSON API: one function, given at the start.
//!
//! The API itself is not known here, only that it turns a request into a status and a body. Its lists may walk millions
//! of tokens, so it runs on a runtime of its own and never on a thread that answers questions.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::Shared;
use crate::domain::Timestamp;
use crate::service::caller::Caller;
use crate::wire::Method;

/// A request to the JSON API, as it came through the native protocol.
#[derive(Debug)]
pub struct ApiRequest {
    /// The HTTP method.
    pub method: Method,
    /// Path and query, beginning with a slash.
    pub path: String,
    /// The JSON body; empty for none. At most 64 KiB.
    pub body: Vec<u8>,
}

/// What the JSON API answers.
#[derive(Debug)]
pub struct TunnelAnswer {
    /// The HTTP status.
    pub status: u16,
    /// JSON.
    pub body: Vec<u8>,
}

/// An answer being worked out.
pub type Answering = Pin<Box<dyn Future<Output = TunnelAnswer> + Send>>;

type Answer = dyn Fn(Shared, Arc<Caller>, ApiRequest, Timestamp) -> Answering + Send + Sync;

/// The way to the JSON API. Cheap to clone.
#[derive(Clone)]
pub struct Tunnel {
    answer: Arc<Answer>,
    runtime: Option<Handle>,
}

impl Tunnel {
    /// A tunnel to `answer`, which runs on `runtime`.
    pub fn new(
        runtime: Handle,
        answer: impl Fn(Shared, Arc<Caller>, ApiRequest, Timestamp) -> Answering + Send + Sync + 'static,
    ) -> Self {
        Self { answer: Arc::new(answer), runtime: Some(runtime) }
    }

    /// No API behind this door: every request is answered 404.
    pub fn closed() -> Self {
        let body = br#"{"error":"not_found","error_description":"this server offers no API here"}"#;
        let answer = move |_, _, _, _| -> Answering {
            Box::pin(std::future::ready(TunnelAnswer { status: 404, body: body.to_vec() }))
        };
        Self { answer: Arc::new(answer), runtime: None }
    }

    /// The answer to come, and where it is to be worked out (`None`: anywhere).
    pub(super) fn ask(
        &self,
        shared: Shared,
        caller: Arc<Caller>,
        request: ApiRequest,
        now: Timestamp,
    ) -> (Answering, Option<&Handle>) {
        ((self.answer)(shared, caller, request, now), self.runtime.as_ref())
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tunnel(…)")
    }
}
