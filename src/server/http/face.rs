//! The HTTPS door without its socket, for tests that send it what they made up: everything behind hyper is the real
//! thing, in its order. Compiled for tests only.

use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{HeaderName, HeaderValue};

use super::dispatch::{self, Peer};
use super::{Desk, HttpOptions, OauthSettings};
use crate::server::Shared;

/// A door nobody has to connect to.
pub struct Face(Desk);

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The HTTP status.
    pub status: u16,
    /// Names in small letters, and values.
    pub headers: Vec<(String, String)>,
    /// All of it.
    pub body: Vec<u8>,
}

impl Face {
    /// A door over this service and these callers, which throttles nobody.
    pub fn new(shared: Shared, settings: OauthSettings) -> Self {
        Self(Desk::new(shared, settings, HttpOptions { rate: None, ..HttpOptions::default() }))
    }

    /// Sends a POST with a form. `None` if `authorization` cannot stand in a header, or `path` is none: hyper would have
    /// refused them before us.
    pub async fn post(&self, path: &str, authorization: &[u8], form: &[u8]) -> Option<Told> {
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        let request = Request::post(path)
            .header(HeaderName::from_static("content-type"), kind)
            .header(HeaderName::from_static("authorization"), HeaderValue::from_bytes(authorization).ok()?)
            .body(Full::new(Bytes::copy_from_slice(form)))
            .ok()?;
        let answer = dispatch::answer(&self.0, &Peer::default(), request).await;
        let (parts, body) = answer.into_parts();
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers = parts.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
        let body = body.collect().await.ok()?.to_bytes().to_vec();
        Some(Told { status: parts.status.as_u16(), headers, body })
    }
}
