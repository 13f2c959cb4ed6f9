//! From a request to its answer: which path, who is asking, how much body, who answers.
//!
//! The order is fixed: path and method, body within its bounds and deadline, credentials, rate, right, and only then
//! anything about a token. The query string is never logged, and no path but `/authorize` and `/v1/` reads it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes};
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use hyper::{HeaderMap, Method, Request, StatusCode};
use zeroize::Zeroizing;

use super::answer::{self, Answer, Manner};
use super::authenticate::{self, Failure, GATEWAY_AUTHORIZATION, Methods, Shown};
use super::challenge::{Challenge, Scheme};
use super::form::Form;
use super::rate::Kind;
use super::{Desk, authorize, metadata, oauth};
use crate::server::api::{self, openapi, routes};
use crate::server::credentials::Callers;
use crate::server::stats::RefusedFor;
use crate::service::Refusal;
use crate::service::caller::Caller;

/// A caller, or none, and the list it was looked up in.
type Known = (Arc<Callers>, Option<Arc<Caller>>);

/// Whoever is at the other end of a connection.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// The client certificate, DER; TLS has verified its chain.
    certificate: Option<Vec<u8>>,
    /// Whose it was, by which list of callers: looked up again when the list is replaced.
    known: Mutex<Option<Known>>,
}

impl Peer {
    /// A peer with this certificate.
    pub(super) fn new(certificate: Option<Vec<u8>>) -> Self {
        Self { certificate, known: Mutex::new(None) }
    }

    /// The caller the certificate belongs to, by the list in force now.
    fn caller(&self, callers: &Arc<Callers>) -> Option<Arc<Caller>> {
        let der = self.certificate.as_deref()?;
        // A panic while it was held leaves an old entry at worst, which is checked against the list.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((list, caller)) = known.as_ref()
            && Arc::ptr_eq(list, callers)
        {
            return caller.clone();
        }
        let caller = callers.by_certificate(der);
        *known = Some((callers.clone(), caller.clone()));
        caller
    }
}

/// What stands at a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Page {
    Introspect,
    Revoke,
    Authorize,
    Metadata,
    OpenApi,
    Api,
}

const FORM: &[&str] = &["POST"];
const READ: &[&str] = &["GET", "HEAD"];

/// The table of paths outside `/v1/`, with their methods; a 405's `Allow` is read from it (R9110-01).
fn page(desk: &Desk, path: &str) -> Option<(Page, &'static [&'static str])> {
    match path {
        // R7662-25: no GET, so that tokens stay out of logs.
        "/introspect" => Some((Page::Introspect, FORM)),
        "/revoke" => Some((Page::Revoke, FORM)),
        "/authorize" => Some((Page::Authorize, READ)),
        "/openapi.json" => Some((Page::OpenApi, READ)),
        path if path.starts_with("/v1/") => Some((Page::Api, &[])),
        path if desk.metadata_paths.iter().any(|known| known == path) => Some((Page::Metadata, READ)),
        _ => None,
    }
}

/// Answers one request.
pub(super) async fn answer<B: Body<Data = Bytes> + Unpin>(desk: &Desk, peer: &Peer, request: Request<B>) -> Answer {
    let head = request.method() == Method::HEAD;
    let answer = find(desk, peer, request).await;
    if head { without_body(answer) } else { answer }
}

/// The headers of the answer to GET, and no body.
fn without_body(answer: Answer) -> Answer {
    let length = answer.body().size_hint().exact().unwrap_or_default();
    let (parts, _) = answer.into_parts();
    let bare = Answer::from_parts(parts, Full::new(Bytes::new()));
    answer::with(bare, CONTENT_LENGTH, &length.to_string())
}

async fn find<B: Body<Data = Bytes> + Unpin>(desk: &Desk, peer: &Peer, request: Request<B>) -> Answer {
    let path = request.uri().path();
    let Some((page, methods)) = page(desk, path) else {
        let text = "there is no such path; see /.well-known/oauth-authorization-server and /openapi.json";
        return answer::error(Manner::Api, StatusCode::NOT_FOUND, "not_found", text);
    };
    if page == Page::Api {
        return api_call(desk, peer, request).await;
    }
    if !methods.contains(&request.method().as_str()) {
        return answer::wrong_method(Manner::Oauth, methods);
    }
    match page {
        Page::OpenApi => answer::public_json(StatusCode::OK, openapi::document()),
        Page::Metadata => {
            let scopes = desk.shared.service.scopes().rows;
            let document = metadata::document(&desk.settings, &desk.shared.callers.load(), &scopes);
            answer::public_json(StatusCode::OK, document)
        }
        Page::Authorize => authorize_call(desk, peer, request.headers(), request.uri().query().unwrap_or_default()),
        _ => form_call(desk, peer, page, request).await,
    }
}

/// The two RFC paths that take a form.
async fn form_call<B: Body<Data = Bytes> + Unpin>(desk: &Desk, peer: &Peer, page: Page, request: Request<B>) -> Answer {
    let (parts, body) = request.into_parts();
    if !is_form(&parts.headers) {
        desk.shared.stats.https.count_refused(RefusedFor::Malformed);
        let text = "send the parameters as application/x-www-form-urlencoded";
        return answer::error(Manner::Oauth, StatusCode::BAD_REQUEST, "invalid_request", text);
    }
    let body = match read(body, desk.options.form_bytes_max, desk.options.body_deadline).await {
        Ok(body) => body,
        Err(error) => return desk.unread(Manner::Oauth, error),
    };
    let form = match Form::parse(&body) {
        Ok(form) => form,
        Err(error) => return desk.stopped(error.into()),
    };
    drop(body);
    let callers = desk.shared.callers.load_full();
    let certificate = peer.caller(&callers);
    let (methods, kind) = match page {
        Page::Revoke => (Methods::ClientAuthentication, Kind::Revoke),
        _ => (Methods::All, Kind::Ask),
    };
    let shown = Shown {
        headers: &parts.headers,
        header: &AUTHORIZATION,
        form: Some(&form),
        certificate: certificate.as_ref(),
        methods,
    };
    let (caller, method) = match authenticate::caller(&callers, shown) {
        Ok(found) => found,
        Err(failure) => return desk.unauthenticated(Manner::Oauth, failure),
    };
    if let Some(answer) = desk.throttled(Manner::Oauth, &caller, kind) {
        return answer;
    }
    let now = desk.shared.clock.now();
    match page {
        Page::Revoke => oauth::revoke(desk, &caller, form, now).await,
        _ if caller.rights.ask.is_none() && method == authenticate::Method::Bearer => {
            // R7662-17: a bearer token with too little is 401 here, although RFC 6750 alone would say 403.
            desk.shared.stats.https.count_refused(RefusedFor::Rights);
            let answer = answer::error(Manner::Oauth, StatusCode::UNAUTHORIZED, "insufficient_scope", MAY_NOT_ASK);
            let challenge = Challenge::new(Scheme::Bearer, &desk.settings.realm);
            answer::challenged(answer, challenge.error("insufficient_scope", MAY_NOT_ASK))
        }
        // R7662-09: being known is not enough.
        _ if caller.rights.ask.is_none() => desk.refused(Refusal::MayNotAsk),
        _ => oauth::introspect(desk, &caller, form, now),
    }
}

/// What a caller with too many changes and API requests under way is told.
pub(super) const TOO_MANY_AT_ONCE: &str = "too many requests of this caller are unanswered; ask again";

const MAY_NOT_ASK: &str = "this caller may not ask about tokens";

fn authorize_call(desk: &Desk, peer: &Peer, headers: &HeaderMap, query: &str) -> Answer {
    let callers = desk.shared.callers.load_full();
    let certificate = peer.caller(&callers);
    let shown = Shown { header: &GATEWAY_AUTHORIZATION, ..Shown::in_headers(headers, certificate.as_ref()) };
    let caller = match authenticate::caller(&callers, shown) {
        Ok((caller, _)) => caller,
        Err(Failure::Malformed(text)) => return desk.stopped(oauth::Stop::Malformed(text)),
        Err(_) => {
            desk.shared.stats.https.count_refused(RefusedFor::Credentials);
            let text = "the gateway did not show who it is: TLS client certificate, or the header \
                Tokenscope-Authorization";
            return answer::error(Manner::Oauth, StatusCode::FORBIDDEN, "invalid_client", text);
        }
    };
    if let Some(answer) = desk.throttled(Manner::Oauth, &caller, Kind::Ask) {
        return answer;
    }
    if caller.rights.ask.is_none() {
        return desk.refused(Refusal::MayNotAsk);
    }
    authorize::authorize(desk, &caller, headers, query, desk.shared.clock.now())
}

async fn api_call<B: Body<Data = Bytes> + Unpin>(desk: &Desk, peer: &Peer, request: Request<B>) -> Answer {
    let (parts, body) = request.into_parts();
    let callers = desk.shared.callers.load_full();
    let certificate = peer.caller(&callers);
    // Before the body is read: whoever is not known cannot make us read 64 KiB.
    let shown = Shown::in_headers(&parts.headers, certificate.as_ref());
    let caller = match authenticate::caller(&callers, shown) {
        Ok((caller, _)) => caller,
        Err(failure) => return desk.unauthenticated(Manner::Api, failure),
    };
    let path = parts.uri.path();
    let kind = if path == "/v1/revocations" { Kind::Revoke } else { Kind::Ask };
    if let Some(answer) = desk.throttled(Manner::Api, &caller, kind) {
        return answer;
    }
    let body = match read(body, desk.options.api_bytes_max.min(api::BODY_BYTES_MAX), desk.options.body_deadline).await {
        Ok(body) => body,
        Err(error) => return desk.unread(Manner::Api, error),
    };
    let Some(_begun) = desk.begin(&caller.id, kind == Kind::Revoke) else {
        desk.shared.stats.https.count_refused(RefusedFor::Overload);
        return answer::unavailable(Manner::Api, TOO_MANY_AT_ONCE);
    };
    let path_and_query = parts.uri.path_and_query().map_or(path, |whole| whole.as_str());
    let now = desk.shared.clock.now();
    let told = api::answer(&desk.shared, &caller, parts.method.as_str(), path_and_query, &body, now).await;
    let status = StatusCode::from_u16(told.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let answer = answer::json(status, told.body);
    match status {
        StatusCode::METHOD_NOT_ALLOWED => answer::with(answer, hyper::header::ALLOW, &routes::methods(path).join(", ")),
        StatusCode::SERVICE_UNAVAILABLE => answer::retry_after(answer, answer::RETRY_SECONDS),
        _ => answer,
    }
}

/// Whether exactly one `Content-Type` says form, whatever its parameters.
fn is_form(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let kind = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    kind.trim_ascii().eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
}

/// Why a body was not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unread {
    TooLarge,
    TooSlow,
    Broken,
}

/// Reads a body of at most `bytes_max` within `deadline`. What was read is wiped when dropped; room for all of it is
/// made at once, so that growing leaves no copies behind.
pub(super) async fn read<B: Body<Data = Bytes> + Unpin>(
    mut body: B,
    bytes_max: usize,
    deadline: Duration,
) -> Result<Zeroizing<Vec<u8>>, Unread> {
    let hint = body.size_hint();
    let announced = usize::try_from(hint.lower()).unwrap_or(usize::MAX);
    if announced > bytes_max {
        return Err(Unread::TooLarge);
    }
    let room = hint.upper().and_then(|upper| usize::try_from(upper).ok()).unwrap_or(bytes_max).min(bytes_max);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    let reading = async {
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Unread::Broken)?.into_data() else { continue };
            if data.len() > bytes_max - bytes.len() {
                return Err(Unread::TooLarge);
            }
            bytes.extend_from_slice(&data);
        }
        Ok(())
    };
    tokio::time::timeout(deadline, reading).await.map_err(|_| Unread::TooSlow)??;
    Ok(bytes)
}

impl Desk {
    fn unread(&self, manner: Manner, error: Unread) -> Answer {
        let stats = &self.shared.stats.https;
        let oauth = manner == Manner::Oauth;
        match error {
            Unread::TooLarge => {
                stats.count_refused(RefusedFor::TooLarge);
                let code = if oauth { "invalid_request" } else { "too_large" };
                answer::error(manner, StatusCode::PAYLOAD_TOO_LARGE, code, "the body is larger than this path takes")
            }
            Unread::TooSlow => {
                stats.count_refused(RefusedFor::TooSlow);
                let code = if oauth { "invalid_request" } else { "too_slow" };
                answer::error(manner, StatusCode::REQUEST_TIMEOUT, code, "the body did not arrive in time")
            }
            Unread::Broken => {
                stats.count_refused(RefusedFor::Malformed);
                let code = if oauth { "invalid_request" } else { "invalid" };
                answer::error(manner, StatusCode::BAD_REQUEST, code, "the body ended too early")
            }
        }
    }

    /// 400 or 401; the same bytes for an unknown caller and a wrong secret.
    fn unauthenticated(&self, manner: Manner, failure: Failure) -> Answer {
        self.shared.stats.https.count_refused(RefusedFor::Credentials);
        let realm = &self.settings.realm;
        let (oauth, code) = (manner == Manner::Oauth, "unauthenticated");
        match failure {
            Failure::Malformed(text) => {
                let code = if oauth { "invalid_request" } else { "invalid" };
                answer::error(manner, StatusCode::BAD_REQUEST, code, text)
            }
            Failure::Refused => {
                let code = if oauth { "invalid_client" } else { code };
                let text = "the caller is unknown, or its credentials are wrong or missing";
                let answer = answer::error(manner, StatusCode::UNAUTHORIZED, code, text);
                answer::challenged(answer, Challenge::new(Scheme::Basic, realm))
            }
            Failure::BearerRefused => {
                let text = "the bearer token of the caller is not valid";
                let code = if oauth { "invalid_token" } else { code };
                let answer = answer::error(manner, StatusCode::UNAUTHORIZED, code, text);
                answer::challenged(answer, Challenge::new(Scheme::Bearer, realm).error("invalid_token", text))
            }
        }
    }

    /// 429 when the caller has asked too often (TS-04), before anything about a token is looked at.
    fn throttled(&self, manner: Manner, caller: &Caller, kind: Kind) -> Option<Answer> {
        let wait = self.rates.charge(&caller.id, kind, Instant::now()).err()?;
        self.shared.stats.https.count_refused(RefusedFor::Rate);
        let code = if manner == Manner::Oauth { "slow_down" } else { "too_many_requests" };
        let text = "this caller asks too often; wait as long as Retry-After says";
        let answer = answer::error(manner, StatusCode::TOO_MANY_REQUESTS, code, text);
        Some(answer::retry_after(answer, wait.as_secs() + u64::from(wait.subsec_nanos() > 0)))
    }
}
