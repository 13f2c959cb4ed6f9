//! The HTTPS door: forms, credentials, challenges and metadata by table; paths and limits by request; TLS, HTTP/1.1 and
//! HTTP/2 over loopback; the answers themselves over a service whose journal keeps nothing.

mod answers;
mod facts;
mod over_tls;

use std::collections::BTreeSet;

use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::body::Body;
use hyper::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use serde_json::{Value, json};

use super::authenticate::{Failure, Methods, Shown, basic, caller};
use super::authorize::{end_users_token, identity, wanted};
use super::challenge::{Challenge, Scheme, denied, inactive};
use super::dispatch::{Unread, answer as dispatch, read};
use super::form::{Form, FormError};
use super::oauth::{Stop, scope_list};
use super::rate::Kind;
use super::*;
use crate::clock::Clock;
use crate::domain::mint::TokenPrefix;
use crate::domain::{CallerId, Denial, Expiry, Timestamp, TokenDigest, TokenKey, TokenTimes};
use crate::server::api::introspection::{Detail, Shown as ShownToken};
use crate::server::api::text::Base64;
use crate::server::credentials::{Callers, CredentialsOf};
use crate::server::stats::Stats;
use crate::service::Service;
use crate::service::caller::{AskRight, Caller, Only, RevokeRight, Rights};
use crate::service::report::ScopeRow;

fn sha256(text: &str) -> Option<[u8; 32]> {
    Some(*TokenDigest::of(text.as_bytes()).as_bytes())
}

fn callers() -> Callers {
    let caller = |id: &str, rights: Rights| Caller { id: CallerId::parse(id).unwrap(), rights };
    let ask = || Some(AskRight { audiences: Only::All, workspaces: Only::All });
    let asking = Rights { ask: ask(), ..Rights::default() };
    let secret = |text: &str| CredentialsOf { secret_sha256: sha256(text), ..CredentialsOf::default() };
    Callers::new(vec![
        (caller("api", asking.clone()), secret("s e:c%r+et\u{e9}")),
        (caller("plain", asking.clone()), secret("plain-secret")),
        (caller("nobody", Rights::default()), secret("nobody-secret")),
        (
            caller("client", Rights { revoke: Some(RevokeRight::Anything), ..Rights::default() }),
            secret("client-secret"),
        ),
        (caller("bearer", asking), CredentialsOf { bearer_sha256: sha256("bearer-token"), ..CredentialsOf::default() }),
        (
            caller("weak", Rights::default()),
            CredentialsOf { bearer_sha256: sha256("weak-token"), ..CredentialsOf::default() },
        ),
    ])
}

fn settings() -> OauthSettings {
    OauthSettings {
        issuer: "https://issuer.example/tenant".into(),
        base_url: "https://tokens.example:8443".into(),
        prefix: TokenPrefix::parse("tks").unwrap(),
        realm: "tokenscope".into(),
        base_document: None,
        client_certificates: true,
        revocation_wait: crate::server::Wait::Applied,
    }
}

fn desk(options: HttpOptions) -> Desk {
    let shared = Shared {
        service: facts::service().0,
        callers: Arc::new(ArcSwap::from_pointee(callers())),
        clock: Clock::manual(Timestamp::from_raw(1_700_000_000)),
        stats: Arc::new(Stats::default()),
    };
    Desk::new(shared, settings(), options)
}

fn basic_header(id: &str, secret: &str) -> String {
    format!("Basic {}", Base64::Standard.encode(format!("{id}:{secret}").as_bytes()))
}

/// An answer, taken apart.
struct Got {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Got {
    fn header(&self, name: HeaderName) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.body))
    }
}

/// Sends one request past the socket.
async fn send(desk: &Desk, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Got {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(body.to_owned()).unwrap();
    let (parts, body) = dispatch(desk, &Peer::default(), request).await.into_parts();
    let length = body.size_hint().exact();
    let body = body.collect().await.unwrap().to_bytes();
    assert_eq!(length, Some(body.len() as u64));
    Got { status: parts.status.as_u16(), headers: parts.headers, body: String::from_utf8(body.to_vec()).unwrap() }
}

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

#[test]
fn forms_are_read_strictly() {
    let get = |body: &str, name: &str| Form::parse(body.as_bytes()).map(|form| form.bytes(name).map(<[u8]>::to_vec));
    let some = |text: &str| Ok(Some(text.as_bytes().to_vec()));
    let table = [
        ("token=abc", some("abc")),
        ("a=1&token=%61b+c&b", some("ab c")),
        ("tok%65n=x", some("x")),
        ("token=a=b", some("a=b")),
        // R6749-02: empty is absent, unknown is ignored.
        ("token=", Ok(None)),
        ("token", Ok(None)),
        ("", Ok(None)),
        ("&&other=1&", Ok(None)),
        // R6749-01, R7662-02: nothing twice, not even what we do not know, not even when it is empty.
        ("token=a&token=a", Err(FormError::Repeated)),
        ("token=&token=a", Err(FormError::Repeated)),
        ("x=1&token=a&x=2", Err(FormError::Repeated)),
        ("token=a&t%6fken=b", Err(FormError::Repeated)),
        ("token=%", Err(FormError::Encoding)),
        ("token=%4", Err(FormError::Encoding)),
        ("token=%zz", Err(FormError::Encoding)),
    ];
    for (body, expected) in table {
        assert_eq!(get(body, "token"), expected, "{body}");
    }
    let many: String = (0..65).map(|number| format!("p{number}=1&")).collect();
    assert_eq!(get(&many, "token"), Err(FormError::TooMany));
    assert_eq!(Form::parse(b"a=%ff").ok().unwrap().text("a"), Err(FormError::Encoding));
    let mut form = Form::parse(b"token=abc").ok().unwrap();
    assert_eq!(form.take("token"), Some(b"abc".to_vec()));
    assert_eq!(form.bytes("token"), None);
}

// R6749-04: both halves are form-encoded before base64.
#[test]
fn basic_credentials_are_form_decoded() {
    let decode = |text: &str| {
        basic(Base64::Standard.encode(text.as_bytes()).as_bytes())
            .map(|(id, secret)| (id, String::from_utf8(secret.to_vec()).unwrap()))
    };
    let pair = |id: &str, secret: &str| Some((id.to_owned(), secret.to_owned()));
    let table = [
        ("id:secret", pair("id", "secret")),
        ("id:a%3Ab", pair("id", "a:b")),
        ("id:a:b", pair("id", "a:b")),
        ("i%3Ad:x", pair("i:d", "x")),
        ("id:a+b%2Bc", pair("id", "a b+c")),
        ("id:%C3%A9", pair("id", "\u{e9}")),
        ("id:", pair("id", "")),
        ("id", None),
        ("id:50%", None),
        ("%ff:x", None),
    ];
    for (text, expected) in table {
        assert_eq!(decode(text), expected, "{text}");
    }
    assert!(basic(b"not base64").is_none());
    assert!(basic(b"").is_none());
}

#[test]
fn callers_are_found_by_one_method_and_one_only() {
    let callers = callers();
    let by_certificate = callers.by_name("plain");
    let find = |headers: &[&str], form: &str, certificate: bool, methods: Methods| {
        let mut map = HeaderMap::new();
        for value in headers {
            map.append(AUTHORIZATION, value.parse::<HeaderValue>().unwrap());
        }
        let form = Form::parse(form.as_bytes()).ok().unwrap();
        let certificate = by_certificate.as_ref().filter(|_| certificate);
        let shown = Shown { headers: &map, header: &AUTHORIZATION, form: Some(&form), certificate, methods };
        caller(&callers, shown).map(|(caller, _)| caller.id.to_string())
    };
    let encoded = basic_header("api", "s+e%3Ac%25r%2Bet%C3%A9");
    let plain = basic_header("plain", "plain-secret");
    let ok = |id: &str| Ok(id.to_owned());
    let two = |answer: Result<String, Failure>| matches!(answer, Err(Failure::Malformed(_)));
    type Row<'r> = (&'r [&'r str], &'r str, bool, Result<String, Failure>);
    let table: [Row<'_>; 18] = [
        (&[&encoded], "", false, ok("api")),
        (&[&plain], "", false, ok("plain")),
        (&[&plain.replace("Basic", "bAsIc")], "", false, ok("plain")),
        (&[], "client_id=plain&client_secret=plain-secret", false, ok("plain")),
        (&["Bearer bearer-token"], "", false, ok("bearer")),
        (&[], "", true, ok("plain")),
        (&[], "client_id=plain", true, ok("plain")),
        (&[&plain], "client_id=plain", true, ok("plain")),
        // R8705-01: the certificate of one client with the name of another; R7662-08: a name alone.
        (&[], "client_id=api", true, Err(Failure::Refused)),
        (&[], "client_id=plain", false, Err(Failure::Refused)),
        (&[&encoded], "", true, Err(Failure::Refused)),
        (&[&plain], "client_id=api", false, Err(Failure::Refused)),
        (&["Bearer bearer-token"], "client_id=api", false, Err(Failure::BearerRefused)),
        (&[], "client_secret=plain-secret", false, Err(Failure::Refused)),
        (&[], "", false, Err(Failure::Refused)),
        (&["Digest x"], "", false, Err(Failure::Refused)),
        (&["Bearer wrong"], "", false, Err(Failure::BearerRefused)),
        (&[&basic_header("plain", "wrong")], "", true, Err(Failure::Refused)),
    ];
    for (headers, form, certificate, expected) in table {
        assert_eq!(find(headers, form, certificate, Methods::All), expected, "{headers:?} {form} {certificate}");
    }
    // R6749-03: two ways in one request, also the same one twice.
    assert!(two(find(&[&plain], "client_id=plain&client_secret=plain-secret", false, Methods::All)));
    assert!(two(find(&[&plain], "client_secret=plain-secret", false, Methods::All)));
    assert!(two(find(&["Bearer bearer-token"], "client_secret=x", false, Methods::All)));
    assert!(two(find(&[&plain, &plain], "", false, Methods::All)));
    // RFC 7009 wants client authentication; the metadata does not offer Bearer there.
    assert_eq!(find(&["Bearer bearer-token"], "", false, Methods::ClientAuthentication), Err(Failure::Refused));
}

// R6750-05, R6750-06: hostile text cannot leave its attribute.
#[test]
fn challenges_are_escaped() {
    let hostile = "a\"b\\c\r\nX: y\u{e9}\u{0}";
    let text = Challenge::new(Scheme::Bearer, hostile).error("invalid_token", hostile).into_string();
    assert_eq!(text, r#"Bearer realm="a?b?c??X: y??", error="invalid_token", error_description="a?b?c??X: y??""#);
    assert!(HeaderValue::from_str(&text).is_ok());
    let scoped = |names: &[&str]| denied(Scheme::Dpop, "r", Denial::NotAMember, names.iter().copied()).into_string();
    assert_eq!(
        scoped(&["tasks:read", "users:read"]),
        "DPoP realm=\"r\", error=\"insufficient_scope\", error_description=\"not_a_member: the user is not a member of \
         this workspace or project\", scope=\"tasks:read users:read\""
    );
    for hostile in [&["a\", x=\"b"][..], &["a b"], &["a\\"], &["\u{e9}"], &[""], &[]] {
        assert!(!scoped(hostile).contains("scope=\""), "{hostile:?}");
    }
    for denial in Denial::ALL {
        let text = denied(Scheme::Bearer, "r", denial, std::iter::empty()).into_string();
        assert!(!text.contains('?') && HeaderValue::from_str(&text).is_ok(), "{text}");
    }
    assert_eq!(Challenge::new(Scheme::Basic, "r").into_string(), r#"Basic realm="r", charset="UTF-8""#);
    // R6750-02: nothing came, no error is named.
    assert_eq!(Challenge::new(Scheme::Bearer, "r").into_string(), r#"Bearer realm="r""#);
    assert!(inactive("r").into_string().contains(r#"error="invalid_token""#));
}

#[test]
fn metadata_is_true_and_has_nothing_empty() {
    let scopes = |names: &[(&str, bool)]| -> Vec<ScopeRow> {
        let row = |(position, (name, retired)): (u8, &(&str, bool))| ScopeRow {
            position,
            name: (*name).into(),
            retired: *retired,
            aliases: vec![],
        };
        (0..).zip(names).map(row).collect()
    };
    let document = |settings: &OauthSettings, callers: &Callers, scopes: &[ScopeRow]| -> Value {
        serde_json::from_slice(&metadata::document(settings, callers, scopes)).unwrap()
    };
    let told = document(&settings(), &callers(), &scopes(&[("tasks:read", false), ("old:read", true)]));
    // R8414-02, R8414-06, R8414-09, A12.
    assert_eq!(told["issuer"], "https://issuer.example/tenant");
    assert_eq!(told["introspection_endpoint"], "https://tokens.example:8443/introspect");
    assert_eq!(told["revocation_endpoint"], "https://tokens.example:8443/revoke");
    let post = ["client_secret_basic", "client_secret_post"];
    assert_eq!(told["introspection_endpoint_auth_methods_supported"], json!([post[0], post[1], "Bearer"]));
    assert_eq!(told["revocation_endpoint_auth_methods_supported"], json!(post));
    assert_eq!(told["scopes_supported"], json!(["tasks:read"]));
    assert_eq!(told["tokenscope_revocation_window_seconds"], 0);
    // R8414-04: an empty list has been seen to stop a client.
    let bare = document(&settings(), &Callers::default(), &[]);
    assert!(bare.as_object().unwrap().values().all(|value| value != &json!([])), "{bare}");
    assert!(bare.get("scopes_supported").is_none());
    // R8414-05: ours over the issuer's own.
    let base = json!({ "issuer": "https://other", "token_endpoint": "https://issuer.example/token",
        "response_types_supported": ["code"], "authorization_details_types_supported": ["payment"] });
    let merged = OauthSettings { base_document: base.as_object().cloned(), ..settings() };
    let told = document(&merged, &callers(), &[]);
    assert_eq!(told["issuer"], "https://issuer.example/tenant");
    assert_eq!(told["token_endpoint"], "https://issuer.example/token");
    assert_eq!(told["response_types_supported"], json!(["code"]));
    assert_eq!(told["authorization_details_types_supported"], json!(["payment", "tokenscope_access"]));
    let by_name = CredentialsOf { certificate_name: Some("api.example".into()), ..CredentialsOf::default() };
    let nobody = Caller { id: CallerId::parse("api").unwrap(), rights: Rights::default() };
    let certified = Callers::new(vec![(nobody, by_name)]);
    let methods =
        |client_certificates| metadata::methods(&OauthSettings { client_certificates, ..settings() }, &certified);
    assert_eq!(methods(true).1, ["tls_client_auth"]);
    assert!(methods(false).1.is_empty());
}

// R8414-01: both forms for an issuer with a path, its trailing slash dropped.
#[test]
fn metadata_is_found_where_the_issuer_says() {
    let paths = |issuer: &str| OauthSettings { issuer: issuer.into(), ..settings() }.metadata_paths();
    let known = "/.well-known/oauth-authorization-server";
    assert_eq!(paths("https://a.example"), [known]);
    assert_eq!(paths("https://a.example/"), [known]);
    assert_eq!(paths("https://a.example/t/1/"), [format!("{known}/t/1"), format!("/t/1{known}")]);
    assert!(settings().check().is_ok());
    for bad in
        ["http://a.example", "https://", "https:///x", "https://a.example?x", "https://a.example#x", "a", "https://a b"]
    {
        assert!(OauthSettings { issuer: bad.into(), ..settings() }.check().is_err(), "{bad}");
    }
    assert!(OauthSettings { base_url: "https://a.example/".into(), ..settings() }.check().is_err());
    assert!(OauthSettings { realm: "a\"b".into(), ..settings() }.check().is_err());
}

// TS-04: each caller and each kind of call has its own bucket.
#[test]
fn rates_are_kept_for_each_caller_and_kind() {
    let rates = Rates::new(Some(Rate { per_second: 2, burst: 3 }));
    let (a, b) = (CallerId::parse("a").unwrap(), CallerId::parse("b").unwrap());
    let start = Instant::now();
    let charge =
        |who: &CallerId, kind, milliseconds| rates.charge(who, kind, start + Duration::from_millis(milliseconds));
    for _ in 0..3 {
        assert_eq!(charge(&a, Kind::Ask, 0), Ok(()));
    }
    assert_eq!(charge(&a, Kind::Ask, 0), Err(Duration::from_millis(500)));
    // R7009-12: questions never use up what revocations need.
    assert_eq!(charge(&a, Kind::Revoke, 0), Ok(()));
    assert_eq!(charge(&b, Kind::Ask, 0), Ok(()));
    assert_eq!(charge(&a, Kind::Ask, 499), Err(Duration::from_millis(1)));
    assert_eq!(charge(&a, Kind::Ask, 500), Ok(()));
    assert!(charge(&a, Kind::Ask, 500).is_err());
    // A long pause fills the bucket, and no more than that. A clock that stands or runs back gives nothing.
    for _ in 0..3 {
        assert_eq!(charge(&a, Kind::Ask, 1_000_000), Ok(()));
    }
    assert!(charge(&a, Kind::Ask, 999_000).is_err());
    assert!(Rates::new(None).charge(&a, Kind::Ask, start).is_ok());
}

#[test]
fn a_gateways_question_comes_from_its_query_or_else_its_headers() {
    let ask = |headers: &[(&'static str, &str)], query: &str| {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse::<HeaderValue>().unwrap());
        }
        wanted(&map, query).map(|wanted| (wanted.scope, wanted.place)).ok()
    };
    let some = |scope: &str, place: Option<&str>| Some((scope.to_owned(), place.map(str::to_owned)));
    let (scope, place) = ("x-tokenscope-scope", "x-tokenscope-place");
    assert_eq!(ask(&[], ""), some("", None));
    assert_eq!(ask(&[(scope, "a b"), (place, "1/2")], ""), some("a b", Some("1/2")));
    assert_eq!(ask(&[(scope, ""), (place, " ")], ""), some("", None));
    // Where the end user's headers come through, the query is the whole question.
    assert_eq!(ask(&[(scope, "evil"), (place, "9")], "tokenscope_scope=a"), some("a", None));
    assert_eq!(ask(&[(place, "9")], "tokenscope_scope=a&tokenscope_place=1%2F2"), some("a", Some("1/2")));
    assert_eq!(ask(&[(scope, "a"), (scope, "b")], ""), None);
    assert_eq!(ask(&[(place, "1/2/3")], ""), None);
    assert_eq!(ask(&[], "tokenscope_scope=a&tokenscope_scope=b"), None);
    assert!(scope_list(&"a ".repeat(16)).is_ok());
    assert!(matches!(scope_list(&"a ".repeat(17)), Err(Stop::Malformed(_))));
}

#[test]
fn the_end_users_token_is_taken_from_bearer_alone() {
    let token = |values: &[&str]| {
        let mut map = HeaderMap::new();
        for value in values {
            map.append(AUTHORIZATION, value.parse::<HeaderValue>().unwrap());
        }
        end_users_token(&map)
    };
    assert_eq!(token(&["Bearer abc"]), Ok(Some(b"abc".to_vec())));
    assert_eq!(token(&["bearer  abc"]), Ok(Some(b"abc".to_vec())));
    for none in [&[][..], &["Basic abc"], &["DPoP abc"], &["Bearer"], &["Bearer "], &["abc"]] {
        assert_eq!(token(none), Ok(None), "{none:?}");
    }
    // R6750-07.
    assert!(matches!(token(&["Bearer a", "Bearer a"]), Err(Stop::Malformed(_))));
}

#[test]
fn identity_headers_are_small_and_true() {
    let now = Timestamp::from_raw(1_700_000_000);
    let scope: Vec<String> = (0..256).map(|number| format!("resource-{number}:read")).collect();
    let token = |scope: Vec<&'static str>| ShownToken {
        handle: TokenKey::from_bytes([1; 16]).handle(),
        subject: "u1",
        client: "app-7",
        times: TokenTimes { issued: now, not_before: now, expiry: Expiry::At(now.plus(60)) },
        confirmation: None,
        scope,
        audience: vec![],
        details: vec![Detail { places: vec!["1"], scopes: vec![] }],
    };
    let asked = super::authorize::Wanted { scope: "tasks:read".into(), place: Some("1579".into()) };
    let header =
        |answer: &Answer, name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let answer = identity(&token(vec!["tasks:read", "tasks:write"]), &asked);
    assert_eq!(answer.status(), 200);
    assert_eq!(header(&answer, "x-tokenscope-subject").unwrap(), "u1");
    assert_eq!(header(&answer, "x-tokenscope-client").unwrap(), "app-7");
    assert_eq!(header(&answer, "x-tokenscope-scope").unwrap(), "tasks:read tasks:write");
    assert_eq!(header(&answer, "x-tokenscope-place").unwrap(), "1579");
    assert_eq!(header(&answer, "x-tokenscope-jti").unwrap(), format!("t{}", "01".repeat(16)));
    assert_eq!(header(&answer, "x-tokenscope-expires").unwrap(), "1700000060");
    // A list that a proxy could not carry becomes what was asked about: never more than is true.
    let names: Vec<&str> = scope.iter().map(String::as_str).collect();
    let long = ShownToken { scope: names, ..token(vec![]) };
    assert_eq!(header(&identity(&long, &asked), "x-tokenscope-scope").unwrap(), "tasks:read");
    assert_eq!(header(&identity(&token(vec![]), &asked), "x-tokenscope-scope"), None);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused_with_json() {
    let desk = desk(HttpOptions::default());
    let got = send(&desk, "GET", "/nothing", &[], "").await;
    assert_eq!((got.status, got.json()["error"].as_str()), (404, Some("not_found")));
    // R7662-25, R9110-01: tokens stay out of query strings, and a 405 says what there is.
    for path in ["/introspect?token=abc", "/revoke", "/introspect"] {
        for method in ["GET", "PUT", "HEAD"] {
            let got = send(&desk, method, path, &[], "").await;
            assert_eq!((got.status, got.header(ALLOW)), (405, "POST"), "{method} {path}");
        }
    }
    for path in ["/authorize", "/openapi.json", "/.well-known/oauth-authorization-server/tenant"] {
        let got = send(&desk, "POST", path, &[], "").await;
        assert_eq!((got.status, got.header(ALLOW)), (405, "GET, HEAD"), "{path}");
        assert!(got.json()["error"].is_string());
    }
    // The issuer has a path, so the bare form is not its document (R8414-02).
    assert_eq!(send(&desk, "GET", "/.well-known/oauth-authorization-server", &[], "").await.status, 404);
    let whole = send(&desk, "GET", "/openapi.json", &[], "").await;
    assert_eq!((whole.status, whole.header(CONTENT_TYPE)), (200, "application/json"));
    assert_eq!(whole.json()["openapi"], "3.1.0");
}

#[tokio::test]
async fn head_has_the_headers_of_get_and_no_body() {
    let desk = desk(HttpOptions::default());
    let request = Request::builder().method("HEAD").uri("/openapi.json").body(String::new()).unwrap();
    let answer = dispatch(&desk, &Peer::default(), request).await;
    let length: usize = answer.headers()["content-length"].to_str().unwrap().parse().unwrap();
    assert_eq!(length, super::super::api::openapi::document().len());
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), 0);
}

#[tokio::test]
async fn what_cannot_be_meant_is_400_with_a_json_error() {
    let desk = desk(HttpOptions::default());
    let plain = basic_header("plain", "plain-secret");
    let client = basic_header("client", "client-secret");
    let auth = ("authorization", plain.as_str());
    let json_type = ("content-type", "application/json");
    type Row<'r> = (&'r str, &'r [(&'r str, &'r str)], &'r str);
    let table: [Row<'_>; 15] = [
        // R7662-01, R7009-01: a form, and said so.
        ("/introspect", &[auth, json_type], "token=a"),
        ("/introspect", &[auth], "token=a"),
        ("/introspect", &[auth, FORM, FORM], "token=a"),
        ("/revoke", &[("authorization", &client), json_type], "{}"),
        // R7662-02.
        ("/introspect", &[auth, FORM], ""),
        ("/introspect", &[auth, FORM], "token="),
        ("/introspect", &[auth, FORM], "token=a&token=b"),
        ("/introspect", &[auth, FORM], "token=%"),
        ("/revoke", &[("authorization", &client), FORM], "token_type_hint=access_token"),
        // Questions of our own that cannot be meant.
        ("/introspect", &[auth, FORM], "token=a&tokenscope_place=1/2/3"),
        ("/introspect", &[auth, FORM], "token=a&tokenscope_scope=tasks:read"),
        ("/introspect", &[auth, FORM], "token=a&tokenscope_least_revision=7"),
        ("/introspect", &[auth, FORM], "token=a&scope=a+b+c+d+e+f+g+h+i+j+k+l+m+n+o+p+q"),
        // R6749-03.
        ("/introspect", &[auth, FORM], "token=a&client_id=plain&client_secret=plain-secret"),
        ("/introspect", &[auth, auth, FORM], "token=a"),
    ];
    for (path, headers, body) in table {
        let got = send(&desk, "POST", path, headers, body).await;
        assert_eq!((got.status, got.json()["error"].as_str()), (400, Some("invalid_request")), "{path} {body}");
        assert_eq!((got.header(CONTENT_TYPE), got.header(CACHE_CONTROL)), ("application/json", "no-store"));
    }
    assert_eq!(desk.shared.stats.panics.load(Relaxed), 0);
}

// R6749-05, R7662-16: an unknown caller and a wrong secret cannot be told apart, whatever the path.
#[tokio::test]
async fn wrong_credentials_are_401_in_the_very_same_bytes() {
    let desk = desk(HttpOptions::default());
    let wrong = basic_header("plain", "wrong");
    let unknown = basic_header("unknown", "wrong");
    let shows: [(&[(&str, &str)], &str); 8] = [
        (&[FORM], "token=a"),
        (&[FORM], "token=a&client_id=plain"),
        (&[FORM, ("authorization", &wrong)], "token=a"),
        (&[FORM, ("authorization", &unknown)], "token=a"),
        (&[FORM, ("authorization", "Basic !!!")], "token=a"),
        (&[FORM, ("authorization", "Basic")], "token=a"),
        (&[FORM], "token=a&client_id=plain&client_secret=wrong"),
        (&[FORM], "token=a&client_id=unknown&client_secret=wrong"),
    ];
    for path in ["/introspect", "/revoke"] {
        let mut seen = BTreeSet::new();
        for (headers, body) in shows {
            let got = send(&desk, "POST", path, headers, body).await;
            assert_eq!((got.status, got.json()["error"].as_str()), (401, Some("invalid_client")), "{body}");
            assert_eq!(got.header(WWW_AUTHENTICATE), r#"Basic realm="tokenscope", charset="UTF-8""#);
            seen.insert(format!("{:?} {}", got.headers, got.body));
        }
        assert_eq!(seen.len(), 1, "{path}: {seen:?}");
    }
    // R7662-17: a bad bearer token.
    let got = send(&desk, "POST", "/introspect", &[FORM, ("authorization", "Bearer wrong")], "token=a").await;
    assert_eq!(got.status, 401);
    assert!(got.header(WWW_AUTHENTICATE).starts_with(r#"Bearer realm="tokenscope", error="invalid_token""#));
    let got = send(&desk, "GET", "/v1/status", &[], "").await;
    assert_eq!((got.status, got.json()["error"].as_str()), (401, Some("unauthenticated")));
    assert!(got.json()["message"].is_string() && !got.header(WWW_AUTHENTICATE).is_empty());
}

// R7662-09, R7662-17: being known is not enough.
#[tokio::test]
async fn callers_without_the_right_are_told_so_before_the_token_is_looked_at() {
    let desk = desk(HttpOptions::default());
    let nobody = basic_header("nobody", "nobody-secret");
    let got = send(&desk, "POST", "/introspect", &[FORM, ("authorization", &nobody)], "token=a").await;
    assert_eq!((got.status, got.json()["error"].as_str()), (403, Some("unauthorized_client")));
    let got = send(&desk, "POST", "/introspect", &[FORM, ("authorization", "Bearer weak-token")], "token=a").await;
    assert_eq!((got.status, got.json()["error"].as_str()), (401, Some("insufficient_scope")));
    assert!(got.header(WWW_AUTHENTICATE).contains(r#"error="insufficient_scope""#));
    let got = send(&desk, "POST", "/revoke", &[FORM, ("authorization", &nobody)], "token=a").await;
    assert_eq!((got.status, got.json()["error"].as_str()), (403, Some("unauthorized_client")));
    // A gateway's own trouble is never 401: the end user would throw a good token away.
    for headers in [&[("authorization", "Bearer a")][..], &[("tokenscope-authorization", nobody.as_str())]] {
        let got = send(&desk, "GET", "/authorize", headers, "").await;
        assert_eq!((got.status, got.header(WWW_AUTHENTICATE)), (403, ""), "{headers:?}");
    }
}

#[tokio::test]
async fn a_gateway_without_a_token_gets_a_bare_challenge() {
    let desk = desk(HttpOptions::default());
    let plain = basic_header("plain", "plain-secret");
    let gateway = ("tokenscope-authorization", plain.as_str());
    for headers in [&[gateway][..], &[gateway, ("authorization", "Basic YTpi")]] {
        let got = send(&desk, "GET", "/authorize", headers, "").await;
        // R6750-01, R6750-02.
        assert_eq!((got.status, got.header(WWW_AUTHENTICATE)), (401, r#"Bearer realm="tokenscope""#));
    }
    let got = send(&desk, "GET", "/authorize", &[gateway, ("x-tokenscope-place", "1/2/3")], "").await;
    assert_eq!(got.status, 400);
}

#[tokio::test]
async fn what_cannot_be_a_token_is_inactive_without_a_look_up_and_as_good_as_revoked() {
    let desk = desk(HttpOptions::default());
    let plain = basic_header("plain", "plain-secret");
    let client = basic_header("client", "client-secret");
    let mut seen = BTreeSet::new();
    for junk in ["tks_short", "tks_000000000000000000000000000000000000", &"a".repeat(5_000)] {
        let form = format!("token={junk}&token_type_hint=anything&unknown=1");
        // R7009-08: 200 and an empty body, whatever it was.
        let got = send(&desk, "POST", "/revoke", &[FORM, ("authorization", &client)], &form).await;
        assert_eq!((got.status, got.body.as_str()), (200, ""));
        // TS-01, R7662-12, R7662-14: these bytes and headers, and no others. R7662-03: the hint changes nothing.
        let got = send(&desk, "POST", "/introspect", &[FORM, ("authorization", &plain)], &form).await;
        assert_eq!((got.status, got.body.as_str()), (200, r#"{"active":false}"#));
        seen.insert(format!("{:?}", got.headers));
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
    let counted = &desk.shared.stats.https.inactive[crate::domain::Inactive::Malformed as usize];
    assert_eq!(counted.load(Relaxed), 3);
    // A gateway hears 401 with the challenge for any inactive token.
    let headers = [("tokenscope-authorization", plain.as_str()), ("authorization", "Bearer tks_short")];
    let got = send(&desk, "GET", "/authorize", &headers, "").await;
    assert_eq!(got.status, 401);
    assert!(got.header(WWW_AUTHENTICATE).starts_with(r#"Bearer realm="tokenscope", error="invalid_token""#));
}

#[tokio::test]
async fn bodies_are_bounded_in_size_and_in_time() {
    let desk = desk(HttpOptions { form_bytes_max: 100, api_bytes_max: 200, ..HttpOptions::default() });
    let plain = basic_header("plain", "plain-secret");
    let auth = ("authorization", plain.as_str());
    let got = send(&desk, "POST", "/introspect", &[auth, FORM], &format!("token={}", "a".repeat(95))).await;
    assert_eq!((got.status, got.json()["error"].as_str()), (413, Some("invalid_request")));
    let got = send(&desk, "POST", "/v1/check", &[auth], &" ".repeat(201)).await;
    assert_eq!((got.status, got.json()["error"].as_str()), (413, Some("too_large")));
    assert_eq!(desk.shared.stats.https.refused[RefusedFor::TooLarge as usize].load(Relaxed), 2);
    let forever = Duration::from_secs(60);
    assert_eq!(read("abc".to_owned(), 3, forever).await.map(|body| body.to_vec()), Ok(b"abc".to_vec()));
    assert_eq!(read("abcd".to_owned(), 3, forever).await.map(|body| body.to_vec()), Err(Unread::TooLarge));
}

// TS-04.
#[tokio::test]
async fn a_throttled_caller_gets_429_and_others_do_not() {
    let rate = Some(Rate { per_second: 1, burst: 2 });
    let desk = desk(HttpOptions { rate, ..HttpOptions::default() });
    let flood = basic_header("nobody", "nobody-secret");
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let got = send(&desk, "POST", "/introspect", &[FORM, ("authorization", &flood)], "token=a").await;
        statuses.push(got.status);
        if got.status == 429 {
            assert_eq!((got.header(RETRY_AFTER), got.json()["error"].as_str()), ("1", Some("slow_down")));
        }
    }
    assert_eq!(statuses, [403, 403, 429, 429]);
    let plain = basic_header("plain", "plain-secret");
    let got = send(&desk, "POST", "/introspect", &[FORM, ("authorization", &plain)], "").await;
    assert_eq!(got.status, 400);
    let got = send(&desk, "GET", "/v1/nothing", &[("authorization", &flood)], "").await;
    assert_eq!((got.status, got.json()["error"].as_str()), (429, Some("too_many_requests")));
}

#[tokio::test]
async fn the_api_stands_behind_the_same_credentials() {
    let desk = desk(HttpOptions::default());
    let plain = basic_header("plain", "plain-secret");
    let auth = ("authorization", plain.as_str());
    let bearer = ("authorization", "Bearer bearer-token");
    let table = [
        ("GET", "/v1/nothing", auth, "", 404, "not_found"),
        ("PATCH", "/v1/clients", bearer, "", 405, "method_not_allowed"),
        ("POST", "/v1/revocations?dryrun=true", auth, "{}", 400, "invalid"),
        ("POST", "/v1/revocations", auth, "{}", 400, "invalid"),
        ("POST", "/v1/check", auth, "[", 400, "invalid"),
        ("GET", "/v1/members/%zz", auth, "", 400, "invalid"),
    ];
    for (method, path, auth, body, status, code) in table {
        let got = send(&desk, method, path, &[auth], body).await;
        assert_eq!((got.status, got.json()["error"].as_str()), (status, Some(code)), "{method} {path}");
        assert!(got.json()["message"].is_string() && got.header(CACHE_CONTROL) == "no-store");
        if status == 405 {
            assert_eq!(got.header(ALLOW), "GET, POST");
        }
    }
}

#[tokio::test]
async fn a_panic_costs_one_request_and_is_counted() {
    let desk = Arc::new(desk(HttpOptions::default()));
    let work = Box::pin(async { panic!("on purpose: this test shows that it is contained") });
    let Ok(answer) = Contained::<_> { work, desk: desk.clone() }.await;
    assert_eq!(answer.status(), 500);
    assert_eq!(desk.shared.stats.panics.load(Relaxed), 1);
}
