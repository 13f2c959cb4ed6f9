//! What the layer answers, over a fake.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::path::Pattern;
use super::{Bearer, RequireScope};
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

/// Status, challenge and body of the answer to a request for `path` with these `Authorization` headers.
async fn asked(fake: &Fake, path: &str, authorizations: &[&'static str]) -> (u16, String, String) {
    let layer = RequireScope::new(fake.clone(), "tasks:read", "/workspaces/{workspace}/tasks").unwrap();
    let mut request = Request::builder().uri(path).body(()).unwrap();
    for value in authorizations {
        request.headers_mut().append(AUTHORIZATION, HeaderValue::from_static(value));
    }
    let response = layer.layer(Route).call(request).await.unwrap();
    let challenge = response.headers().get(WWW_AUTHENTICATE).map_or("", |value| value.to_str().unwrap()).to_owned();
    assert_eq!(response.headers().contains_key(RETRY_AFTER), response.status() == 503);
    (response.status().as_u16(), challenge, response.into_body())
}

#[tokio::test]
async fn each_outcome_has_its_status_and_its_challenge() {
    let (fake, here) = (fake(), "/workspaces/1579/tasks");
    for (path, authorizations, status, challenge) in [
        (here, &["Bearer ann's"][..], 200, ""),
        (here, &["bearer ann's"], 200, ""),
        ("/workspaces/1579/tasks/7?all", &["Bearer ann's"], 200, ""),
        (here, &[], 401, "Bearer"),
        (here, &["Basic YTpi"], 401, "Bearer"),
        (here, &["Bearer"], 400, r#"Bearer error="invalid_request""#),
        (here, &["Bearer a b"], 400, r#"Bearer error="invalid_request""#),
        (here, &["Bearer ann's", "Bearer ann's"], 400, r#"Bearer error="invalid_request""#),
        (here, &["Bearer eve's"], 401, r#"Bearer error="invalid_token", error_description="the token is not active""#),
        (
            "/workspaces/1601/tasks",
            &["Bearer ann's"],
            403,
            r#"Bearer error="insufficient_scope", scope="tasks:read", error_description="an administrator of the workspace has blocked the app""#,
        ),
        ("/elsewhere/1579/tasks", &["Bearer ann's"], 404, ""),
        ("/workspaces/15%2F79/tasks", &["Bearer ann's"], 404, ""),
    ] {
        let answer = asked(&fake, path, authorizations).await;
        assert_eq!((answer.0, answer.1.as_str()), (status, challenge), "{path} {authorizations:?}");
        assert_eq!(answer.2, if status == 200 { "true" } else { "" }, "{path}: the route is called, or not");
    }
    fake.is_down(true);
    assert_eq!(asked(&fake, here, &["Bearer ann's"]).await, (503, String::new(), String::new()));
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
