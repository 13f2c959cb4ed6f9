//! What layer and extractor answer, over a fake.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::FromRef;
use http::header::{AUTHORIZATION, CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::path::Pattern;
use super::{Admitted, Bearer, Gate, Needs, Refused, RequireScope};
use crate::client::{Fake, Token};
use crate::domain::Denial;

/// A route that says whose token it was called with.
#[derive(Clone)]
struct Route;

impl Service<Request<()>> for Route {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        let bearer = request.extensions().get::<Bearer>().map(|Bearer(token)| *token);
        ready(Ok(Response::new(format!("{}", bearer == Some(Token::from("ann's"))))))
    }
}

fn fake() -> Fake {
    let fake = Fake::new();
    fake.allow("ann's", "tasks:read", "1579");
    fake.deny("ann's", "1601", Denial::AppBlocked);
    fake
}

struct ReadTasks;

impl Needs for ReadTasks {
    const SCOPE: &str = "tasks:read";
    const PATH: &str = "/workspaces/{workspace}/tasks";
}

/// The same route as a handler.
async fn route(may: Admitted<ReadTasks>) -> String {
    format!("{}", may.token() == Token::from("ann's"))
}

/// What stands before a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Door {
    Layer,
    Extractor,
}

/// What a door answered: status, challenge, body.
type Answer = (u16, String, String);

fn answer(status: u16, headers: &HeaderMap, body: String) -> Answer {
    let challenge = headers.get(WWW_AUTHENTICATE).map_or("", |value| value.to_str().unwrap()).to_owned();
    assert_eq!(headers.contains_key(RETRY_AFTER), status == 503);
    assert_eq!(headers.get(CACHE_CONTROL).is_some_and(|value| value == "no-store"), status >= 400);
    (status, challenge, body)
}

/// The answer to a request for `path` with these `Authorization` headers.
async fn asked(door: Door, fake: &Fake, path: &str, authorizations: &[&'static str]) -> Answer {
    match door {
        Door::Layer => {
            let layer = RequireScope::new(fake.clone(), ReadTasks::SCOPE, ReadTasks::PATH).unwrap();
            let response = layer.layer(Route).call(request(path, authorizations, ())).await.unwrap();
            answer(response.status().as_u16(), response.headers(), response.body().clone())
        }
        // As a fallback, so that the extractor sees every path.
        Door::Extractor => {
            let router = Router::new().fallback(route).with_state(Gate::new(fake.clone()));
            routed(router, path, authorizations).await
        }
    }
}

fn request<B>(path: &str, authorizations: &[&'static str], body: B) -> Request<B> {
    let mut request = Request::builder().uri(path).body(body).unwrap();
    for value in authorizations {
        request.headers_mut().append(AUTHORIZATION, HeaderValue::from_static(value));
    }
    request
}

/// What a router answers.
async fn routed(mut router: Router, path: &str, authorizations: &[&'static str]) -> Answer {
    let (head, body) = router.call(request(path, authorizations, Body::empty())).await.unwrap().into_parts();
    let body = to_bytes(body, 1_024).await.unwrap().to_vec();
    answer(head.status.as_u16(), &head.headers, String::from_utf8(body).unwrap())
}

// R6750-01, R6750-02, R6750-03, R6750-04.
#[tokio::test]
async fn each_outcome_has_its_status_and_its_challenge_at_either_door() {
    for door in [Door::Layer, Door::Extractor] {
        each_outcome_at(door).await;
    }
}

const MALFORMED: &str = r#"Bearer realm="api", error="invalid_request", error_description="one Authorization header with one token is wanted""#;

async fn each_outcome_at(door: Door) {
    let (fake, here) = (fake(), "/workspaces/1579/tasks");
    for (path, authorizations, status, challenge) in [
        (here, &["Bearer ann's"][..], 200, ""),
        (here, &["bearer ann's"], 200, ""),
        ("/workspaces/1579/tasks/7?all", &["Bearer ann's"], 200, ""),
        // Nothing was tried, so there is no error to name (RFC 6750, section 3.1).
        (here, &[], 401, r#"Bearer realm="api""#),
        (here, &["Basic YTpi"], 401, r#"Bearer realm="api""#),
        (here, &["Bearer"], 400, MALFORMED),
        (here, &["Bearer a b"], 400, MALFORMED),
        (here, &["Bearer ann's", "Bearer ann's"], 400, MALFORMED),
        (
            here,
            &["Bearer eve's"],
            401,
            r#"Bearer realm="api", error="invalid_token", error_description="the token is not active""#,
        ),
        (
            "/workspaces/1601/tasks",
            &["Bearer ann's"],
            403,
            r#"Bearer realm="api", error="insufficient_scope", error_description="an administrator of the workspace has blocked the app", scope="tasks:read""#,
        ),
        ("/elsewhere/1579/tasks", &["Bearer ann's"], 404, ""),
        ("/workspaces/15%2F79/tasks", &["Bearer ann's"], 404, ""),
    ] {
        let answer = asked(door, &fake, path, authorizations).await;
        assert_eq!((answer.0, answer.1.as_str()), (status, challenge), "{door:?}: {path} {authorizations:?}");
        assert_eq!(answer.2, if status == 200 { "true" } else { "" }, "{door:?}: {path}: the route is called, or not");
    }
    fake.is_down(true);
    assert_eq!(asked(door, &fake, here, &["Bearer ann's"]).await, (503, String::new(), String::new()), "{door:?}");
}

/// A bare `Bearer` is no challenge: RFC 6750 wants at least one attribute, and clients that parse by its grammar found none.
// R6750-05, R6750-06.
#[tokio::test]
async fn every_challenge_keeps_the_grammar_and_says_the_realm_that_was_set() {
    for (set, said) in [("tasks of Ann & Co.", "tasks of Ann & Co."), ("a\"b\\c\r\nd\u{e9}", "a?b?c??d?"), ("", "")] {
        for (path, authorizations, status, names) in [
            ("/workspaces/1579/tasks", &[][..], 401, &["realm"][..]),
            ("/workspaces/1579/tasks", &["Bearer "], 400, &["realm", "error", "error_description"]),
            ("/workspaces/1579/tasks", &["Bearer eve's"], 401, &["realm", "error", "error_description"]),
            ("/workspaces/1601/tasks", &["Bearer ann's"], 403, &["realm", "error", "error_description", "scope"]),
        ] {
            let layer = RequireScope::new(fake(), ReadTasks::SCOPE, ReadTasks::PATH).unwrap().realm(set);
            let response = layer.layer(Route).call(request(path, authorizations, ())).await.unwrap();
            let layered = answer(response.status().as_u16(), response.headers(), response.body().clone());
            let router = Router::new().fallback(route).with_state(Gate::new(fake()).realm(set));
            assert_eq!(routed(router, path, authorizations).await, layered, "both doors say the same");
            assert_eq!(layered.0, status, "{path} {authorizations:?}");
            let attributes = attributes(&layered.1);
            assert_eq!(attributes.iter().map(|(name, _)| *name).collect::<Vec<_>>(), names, "{layered:?}");
            assert_eq!(attributes[0], ("realm", said));
        }
    }
}

/// A challenge taken apart by RFC 6750's grammar: the scheme, then one attribute or more, each once and quoted.
fn attributes(challenge: &str) -> Vec<(&str, &str)> {
    let mut rest = challenge.strip_prefix("Bearer ").expect("a scheme and at least one attribute");
    let mut found = Vec::new();
    loop {
        let (name, after) = rest.split_once("=\"").expect("a name");
        let (value, after) = after.split_once('"').expect("a value between quotation marks");
        let fits = |c: char| match name {
            "scope" => matches!(c, '\x20' | '\x21' | '\x23'..='\x5b' | '\x5d'..='\x7e'),
            "realm" | "error" | "error_description" => matches!(c, '\x20'..='\x21' | '\x23'..='\x5b' | '\x5d'..='\x7e'),
            _ => panic!("an attribute {name}"),
        };
        assert!(value.chars().all(fits), "{name}: {value}");
        assert!(found.iter().all(|(known, _)| *known != name), "{name} twice");
        found.push((name, value));
        if after.is_empty() {
            return found;
        }
        rest = after.strip_prefix(", ").expect("another attribute");
    }
}

struct WriteTasks;

impl Needs for WriteTasks {
    const SCOPE: &str = "tasks:write";
    const PATH: &str = "/workspaces/{workspace}/projects/{project}/tasks/{task}";
}

/// A state of which the gate is a part.
#[derive(Clone)]
struct State {
    gate: Gate,
    fake: Fake,
}

impl FromRef<State> for Gate {
    fn from_ref(state: &State) -> Self {
        state.gate.clone()
    }
}

#[tokio::test]
async fn a_handler_learns_where_and_whose_and_nothing_from_a_token_that_ended_meanwhile() {
    async fn where_and_whose(may: Admitted<WriteTasks>) -> Result<String, Refused> {
        let who = may.who().await?;
        let at = format!("{} = {} + {:?}", may.place(), may.workspace(), may.project());
        Ok(format!("{at}: {} through {}", who.subject, who.client))
    }
    /// The token ends, or everything does, after the request was let in.
    async fn too_late(
        may: Admitted<WriteTasks>,
        axum::extract::State(state): axum::extract::State<State>,
        uri: http::Uri,
    ) -> Result<String, Refused> {
        match uri.query() {
            Some("down") => state.fake.is_down(true),
            _ => state.fake.revoke("ann's"),
        }
        may.who().await.map(|who| who.subject)
    }
    let fake = Fake::new();
    fake.allow("ann's", "tasks:write", "1579");
    fake.belongs("ann's", "ann", "time-tracker");
    let state = State { gate: Gate::new(fake.clone()), fake: fake.clone() };
    let router = Router::new()
        .route(WriteTasks::PATH, axum::routing::get(where_and_whose))
        .route("/workspaces/{workspace}/projects/{project}/tasks/{task}/late", axum::routing::get(too_late));
    let router = Router::new().nest("/v1", router).with_state(state);

    let task = "/v1/workspaces/1579/projects/4021/tasks/7";
    let answer = routed(router.clone(), task, &["Bearer ann's"]).await;
    let known = r#"1579/4021 = 1579 + Some("4021"): ann through time-tracker"#;
    assert_eq!(answer, (200, String::new(), known.to_owned()));
    let elsewhere = routed(router.clone(), "/v1/workspaces/1601/projects/4021/tasks/7", &["Bearer ann's"]).await;
    assert_eq!((elsewhere.0, elsewhere.1.contains(r#"scope="tasks:write""#)), (403, true), "{elsewhere:?}");

    let nobody = routed(router.clone(), &format!("{task}/late?down"), &["Bearer ann's"]).await;
    assert_eq!(nobody, (503, String::new(), String::new()));
    fake.is_down(false);
    let ended = routed(router, &format!("{task}/late"), &["Bearer ann's"]).await;
    assert_eq!((ended.0, ended.1.contains("invalid_token"), ended.2.as_str()), (401, true, ""));
}

#[tokio::test]
async fn a_fake_that_was_not_told_whose_a_token_is_gives_no_verdict() {
    async fn whose(may: Admitted<ReadTasks>) -> Result<String, Refused> {
        may.who().await.map(|who| who.subject)
    }
    let router = Router::new().fallback(whose).with_state(Gate::new(fake()));
    assert_eq!(routed(router, "/workspaces/1579/tasks", &["Bearer ann's"]).await.0, 503);
}

#[test]
fn a_pattern_finds_the_place_and_nothing_else() {
    let pattern = Pattern::parse("/v1/workspaces/{workspace}/projects/{project}/{task}").unwrap();
    for (path, place) in [
        ("/v1/workspaces/1579/projects/4021/7", Some("1579/4021")),
        ("/v1/workspaces/1579/projects/4021/7/comments", Some("1579/4021")),
        ("/v1/workspaces/a%20b/projects/4021/7", None),
        ("/v1/workspaces/%31579/projects/4021/7", Some("1579/4021")),
        ("/v1/workspaces/1579/projects/4021", None),
        ("/v1/workspaces//projects/4021/7", None),
        ("/v1/workspaces/1579/projects/40%2f21/7", None),
        ("/v1/workspaces/1579/projects/40%2/7", None),
        ("/v2/workspaces/1579/projects/4021/7", None),
        ("v1/workspaces/1579/projects/4021/7", None),
    ] {
        assert_eq!(pattern.place(path).as_deref(), place, "{path}");
    }
    for wrong in
        ["", "workspaces/{workspace}", "/tasks", "/{workspace}/{workspace}", "/{workspace}/{project}/{project}"]
    {
        assert!(Pattern::parse(wrong).is_err(), "{wrong}");
    }
    assert!(RequireScope::new(Fake::new(), "two scopes", "/{workspace}").is_err());
}
