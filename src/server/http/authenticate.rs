//! Who the caller is: HTTP Basic, a secret in the form, a bearer token, or a TLS client certificate.
//!
//! * One method for each request; two are 400 (R6749-03). A certificate belongs to the connection, so it counts as the
//!   method only when no other is used; but a certificate of one caller beside the secret of another is refused.
//! * A `client_id` alone is not authentication (R7662-08). Where one is given it must name the very caller that was
//!   found, whatever the method (R8705-01: the binding of client and certificate, checked for each request).
//! * An unknown caller and a wrong secret get the same bytes after the same work (R6749-05).
//! * Basic: both halves are form-decoded after base64 (R6749-04).

use std::sync::Arc;

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HeaderName};
use zeroize::Zeroizing;

use super::form::Form;
use crate::server::api::text::{Base64, Plus, percent_decode};
use crate::server::credentials::Callers;
use crate::service::caller::Caller;

/// Where a gateway puts its own credentials at `/authorize`, because `Authorization` is the end user's there.
pub(super) static GATEWAY_AUTHORIZATION: HeaderName = HeaderName::from_static("tokenscope-authorization");

/// Why there is no caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Failure {
    /// The request itself cannot be meant: 400, with this sentence.
    Malformed(&'static str),
    /// Nothing, or something wrong, was shown: 401 with a Basic challenge.
    Refused,
    /// A bearer token was shown, and it is wrong: 401 with a Bearer challenge (R7662-17).
    BearerRefused,
}

/// How the caller showed who it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Method {
    /// `client_secret_basic`.
    Basic,
    /// `client_secret_post`.
    Post,
    /// A bearer token.
    Bearer,
    /// `tls_client_auth`.
    Certificate,
}

/// Which methods a path takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Methods {
    /// All of them.
    All,
    /// All but bearer tokens: RFC 7009 wants client authentication, and our metadata names what works.
    ClientAuthentication,
}

/// What a request shows of its caller.
#[derive(Clone, Copy)]
pub(super) struct Shown<'r> {
    /// The request's headers.
    pub(super) headers: &'r HeaderMap,
    /// Which header holds credentials.
    pub(super) header: &'r HeaderName,
    /// The form, where there is one.
    pub(super) form: Option<&'r Form>,
    /// The caller the connection's certificate belongs to.
    pub(super) certificate: Option<&'r Arc<Caller>>,
    /// What is taken.
    pub(super) methods: Methods,
}

impl<'r> Shown<'r> {
    /// What a request with a JSON body, or none, shows.
    pub(super) fn in_headers(headers: &'r HeaderMap, certificate: Option<&'r Arc<Caller>>) -> Self {
        Self { headers, header: &AUTHORIZATION, form: None, certificate, methods: Methods::All }
    }
}

/// Finds the caller.
pub(super) fn caller(callers: &Callers, shown: Shown<'_>) -> Result<(Arc<Caller>, Method), Failure> {
    let mut values = shown.headers.get_all(shown.header).iter();
    let header = values.next();
    if values.next().is_some() {
        return Err(Failure::Malformed("credentials stand in the headers twice; send them once"));
    }
    let not_text = |_| Failure::Malformed("a parameter is not UTF-8");
    let id = shown.form.map(|form| form.text("client_id")).transpose().map_err(not_text)?.flatten();
    let secret = shown.form.and_then(|form| form.bytes("client_secret"));
    if header.is_some() && secret.is_some() {
        return Err(Failure::Malformed("two ways of authentication in one request; use one"));
    }
    let found = match (header, id, secret) {
        (Some(header), ..) => in_header(callers, header.as_bytes(), shown.methods)?,
        (None, Some(id), Some(secret)) => (callers.by_secret(id, secret).ok_or(Failure::Refused)?, Method::Post),
        (None, None, Some(_)) => return Err(Failure::Refused),
        (None, _, None) => (shown.certificate.ok_or(Failure::Refused)?.clone(), Method::Certificate),
    };
    let (caller, method) = found;
    let failure = if method == Method::Bearer { Failure::BearerRefused } else { Failure::Refused };
    if id.is_some_and(|id| id != caller.id.as_str()) || shown.certificate.is_some_and(|other| other.id != caller.id) {
        return Err(failure);
    }
    Ok((caller, method))
}

fn in_header(callers: &Callers, value: &[u8], methods: Methods) -> Result<(Arc<Caller>, Method), Failure> {
    let (scheme, rest) = split_scheme(value).ok_or(Failure::Refused)?;
    if scheme.eq_ignore_ascii_case(b"basic") {
        let (id, secret) = basic(rest).ok_or(Failure::Refused)?;
        return Ok((callers.by_secret(&id, &secret).ok_or(Failure::Refused)?, Method::Basic));
    }
    if scheme.eq_ignore_ascii_case(b"bearer") && methods == Methods::All {
        let caller = Some(rest).filter(|token| !token.is_empty()).and_then(|token| callers.by_bearer(token));
        return Ok((caller.ok_or(Failure::BearerRefused)?, Method::Bearer));
    }
    Err(Failure::Refused)
}

/// A header's scheme and what follows it. `None` if nothing does.
pub(super) fn split_scheme(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = value.iter().position(|byte| *byte == b' ')?;
    let (scheme, rest) = value.split_at_checked(space)?;
    Some((scheme, rest.trim_ascii()))
}

/// Name and secret of a Basic credential; both are form-encoded inside the base64 (R6749-04).
pub(super) fn basic(credentials: &[u8]) -> Option<(String, Zeroizing<Vec<u8>>)> {
    let pair = Zeroizing::new(Base64::Standard.decode(std::str::from_utf8(credentials).ok()?)?);
    let colon = pair.iter().position(|byte| *byte == b':')?;
    let (id, secret) = pair.split_at_checked(colon)?;
    let id = String::from_utf8(percent_decode(id, Plus::Space)?).ok()?;
    let secret = Zeroizing::new(percent_decode(secret.get(1..)?, Plus::Space)?);
    Some((id, secret))
}
