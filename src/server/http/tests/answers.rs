//! The answers themselves, over facts: introspection, decisions, revocation, gateways, and the JSON API beside them.

use super::facts::{NOW, World};
use super::*;

const READ_A_WRITE_B: &str =
    r#"[{"place":"A","scopes":["tasks:read","users:read"]},{"place":"B","scopes":["tasks:write","users:read"]}]"#;

fn access(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

// B29: one extra member failed a server in a conformance run.
// TS-01, R7662-14, R7662-15, R7662-19 to -22: one answer, whatever the cause.
#[tokio::test]
async fn every_cause_of_inactivity_has_the_very_same_answer() {
    let world = World::new().await;
    let wide = || json!([{ "everywhere": true, "scopes": ["*"] }]);
    let live = world.grant("app", wide()).await;
    let mut tokens: Vec<(&str, String)> = vec![
        ("unknown", "no-such-token".into()),
        ("malformed", "tks_0000".into()),
        ("not yet valid", world.token(&live, json!({ "nbf": NOW + 60 })).await),
        ("for others", world.token(&live, json!({ "audience": ["other"] })).await),
    ];
    let expired = world.token(&live, json!({ "iat": NOW - 60, "nbf": NOW - 60, "exp": NOW + 1 })).await;
    let control = world.token(&live, json!({})).await;
    let by = [
        ("token", json!({ "token": "…" })),
        ("grant", json!({ "grant": "…" })),
        ("subject and client", json!({ "subject_client": { "subject": "u1", "client": "rival" } })),
        ("client", json!({ "client": "rival" })),
    ];
    for (cause, mut selector) in by {
        let grant = world.grant("rival", wide()).await;
        let token = world.token(&grant, json!({})).await;
        assert_eq!(world.introspect(&format!("token={token}")).await["active"], true, "{cause}, before");
        match cause {
            "token" => selector["token"] = token.clone().into(),
            "grant" => selector["grant"] = grant.into(),
            _ => {}
        }
        world.make("/v1/revocations", selector).await;
        tokens.push((cause, token));
    }
    let nowhere = world.grant("app", json!([{ "place": "C", "scopes": ["tasks:read"] }])).await;
    tokens.push(("nothing left", world.token(&nowhere, json!({})).await));
    world.desk.shared.clock.set(Timestamp::from_seconds(NOW + 1).unwrap());
    tokens.push(("expired", expired));
    let mut seen = BTreeSet::new();
    for (cause, token) in &tokens {
        let got = world.form("rs", "/introspect", &format!("token={token}")).await;
        assert_eq!((got.status, got.body.as_str()), (200, r#"{"active":false}"#), "{cause}");
        seen.insert(format!("{:?}", got.headers));
        // TS-07: the API and the gateway agree.
        let got = world.api("rs", "POST", "/v1/introspect", &json!({ "tokens": [token] }).to_string()).await;
        assert_eq!(got.json()["answers"], json!([{ "active": false }]), "{cause}");
        assert_eq!(world.authorize(token, &[]).await.status, 401, "{cause}");
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(world.introspect(&format!("token={control}")).await["active"], true);
    // For the others it is active: an audience is not a property of the token alone.
    let (_, foreign) = &tokens[3];
    assert_eq!(world.form("other", "/introspect", &format!("token={foreign}")).await.json()["active"], true);
    world.api("root", "PUT", "/v1/clients/app/switch", r#"{"on":false}"#).await;
    assert_eq!(world.form("rs", "/introspect", &format!("token={control}")).await.body, r#"{"active":false}"#);
}

// R7662-13, TS-02, TS-03.
#[tokio::test]
async fn an_active_token_is_described_place_by_place() {
    let world = World::new().await;
    let grant = world.grant("app", access(READ_A_WRITE_B)).await;
    let token = world.token(&grant, json!({})).await;
    let told = world.introspect(&format!("token={token}&token_type_hint=refresh_token")).await;
    assert_eq!(told["scope"], "users:read", "what holds at every place, and no more");
    assert_eq!(
        (&told["client_id"], &told["sub"], &told["iss"]),
        (&json!("app"), &json!("u1"), &json!(settings().issuer))
    );
    assert_eq!((&told["exp"], &told["iat"], &told["aud"]), (&json!(NOW + 3_600), &json!(NOW), &json!("api")));
    assert_eq!(told["token_type"], "Bearer");
    let detail =
        |place: &str, scopes: &[&str]| json!({ "type": "tokenscope_access", "locations": [place], "actions": scopes });
    let mut details = told["authorization_details"].as_array().unwrap().clone();
    details.sort_by_key(|detail| detail["locations"][0].to_string());
    assert_eq!(details, [detail("A", &["tasks:read", "users:read"]), detail("B", &["tasks:write", "users:read"])]);
    let at = |place: &str| format!("token={token}&tokenscope_place={place}");
    assert_eq!(world.introspect(&at("A")).await["scope"], "tasks:read users:read");
    assert_eq!(world.introspect(&at("B/9")).await["scope"], "tasks:write users:read");
    assert_eq!(world.introspect(&at("C")).await, json!({ "active": false }));
    // R7662-23: a caller with less to see is shown less.
    let narrow = world.form("narrow", "/introspect", &format!("token={token}")).await.json();
    assert_eq!(narrow["authorization_details"], json!([detail("A", &["tasks:read", "users:read"])]));
    // R9767-08: it may not ask about the rest, whatever the token.
    for token in [token.as_str(), "unknown"] {
        let got = world.form("narrow", "/introspect", &format!("token={token}&tokenscope_place=B")).await;
        assert_eq!((got.status, got.json()["error"].as_str()), (403, Some("invalid_access")));
    }
    // TS-02: a membership that is lost takes the lower bound with it.
    world.make("/v1/members/remove", json!({ "subject": "u1", "place": "B" })).await;
    let told = world.introspect(&format!("token={token}")).await;
    assert_eq!((told["active"].clone(), told.get("scope")), (json!(true), None), "{told}");
}

// TS-13: a caller from Hydra's world reads `active` alone.
#[tokio::test]
async fn the_scope_field_of_a_question_keeps_hydras_meaning() {
    let world = World::new().await;
    let grant = world.grant("app", access(READ_A_WRITE_B)).await;
    let token = world.token(&grant, json!({})).await;
    let table = [
        ("users:read", true),
        ("users:read+users:read", true),
        ("tasks:read", false),
        ("users:read+tasks:write", false),
        ("tasks:delete", false),
        ("Users:read", false),
        ("*", false),
        ("", true),
        ("users:read&tokenscope_place=A", true),
        ("tasks:read&tokenscope_place=A", true),
        ("tasks:read&tokenscope_place=B", false),
    ];
    for (asked, active) in table {
        let told = world.introspect(&format!("token={token}&scope={asked}")).await;
        assert_eq!(told["active"], active, "{asked}");
        assert!(active || told == json!({ "active": false }));
    }
}

// TS-11, R6750-01, R6750-03, R6750-04.
#[tokio::test]
async fn a_decision_comes_with_its_reason_and_a_ready_challenge() {
    let world = World::new().await;
    let grant = world.grant("app", access(READ_A_WRITE_B)).await;
    let token = world.token(&grant, json!({})).await;
    let bound = world.token(&grant, json!({ "cnf": { "jkt": Base64::Url.encode(&[5; 32]) } })).await;
    let ask = |token: &str, scope: &str, place: &str| {
        format!("token={token}&tokenscope_scope={scope}&tokenscope_place={place}")
    };
    let table = [
        ("tasks:read", "A", None),
        ("tasks:read+users:read", "A", None),
        ("tasks:write", "B/7", None),
        ("tasks:write", "A", Some("scope_not_granted")),
        ("users:read+tasks:write", "A", Some("scope_not_granted")),
        ("tasks:read", "C", Some("place_not_granted")),
        // TS-09.
        ("tasks:raed", "A", Some("scope_unknown")),
    ];
    for (scope, place, reason) in table {
        let told = world.introspect(&ask(&token, scope, place)).await;
        let decision = &told["tokenscope_decision"];
        assert_eq!((&told["active"], decision["reason"].as_str()), (&json!(true), reason), "{scope} {place}: {told}");
        assert_eq!(decision["allowed"], reason.is_none());
        let header = decision["www_authenticate"].as_str();
        assert_eq!(header.is_some(), reason.is_some());
        let names = scope.replace('+', " ");
        if let Some(header) = header {
            assert!(header.starts_with(r#"Bearer realm="tokenscope", error="insufficient_scope""#), "{header}");
            assert!(header.ends_with(&format!(r#"scope="{names}""#)), "{header}");
        }
        // TS-07: the gateway and the API decide alike.
        let got = world.authorize(&token, &[("x-tokenscope-scope", &names), ("x-tokenscope-place", place)]).await;
        assert_eq!(got.status, if reason.is_none() { 200 } else { 403 }, "{scope} {place}");
        assert_eq!(got.header(WWW_AUTHENTICATE), header.unwrap_or_default());
        if !names.contains(' ') {
            let questions = json!({ "questions": [{ "token": token, "scope": names, "place": place }] });
            let got = world.api("rs", "POST", "/v1/check", &questions.to_string()).await.json();
            assert_eq!(got["decisions"][0]["reason"].as_str(), reason, "{got}");
        }
    }
    // Nothing is left at the place: denied, with the reason, and without what holds elsewhere (TS-02).
    let policy = world.api("root", "POST", "/v1/policies/A/entries", r#"{"client":"app","entry":"block"}"#).await;
    assert_eq!(policy.status, 200, "{}", policy.body);
    let told = world.introspect(&ask(&token, "tasks:read", "A")).await;
    assert_eq!((&told["tokenscope_decision"]["reason"], told.get("scope")), (&json!("app_blocked"), None), "{told}");
    assert!(told.get("authorization_details").is_none() && told["sub"] == "u1");
    // B15: a token bound to a DPoP key was reported as `Bearer`, and its binding lost.
    // R6750-06, R9449-02: the challenge for a token that is bound to a DPoP key.
    let told = world.introspect(&ask(&bound, "tasks:read", "A")).await;
    assert_eq!(told["token_type"], "DPoP");
    assert!(told["tokenscope_decision"]["www_authenticate"].as_str().unwrap().starts_with("DPoP realm="));
    // Nothing is left anywhere: plain introspection says inactive, a decision still says why.
    world.api("root", "POST", "/v1/policies/B/entries", r#"{"client":"app","entry":"block"}"#).await;
    assert_eq!(world.introspect(&format!("token={token}")).await, json!({ "active": false }));
    let told = world.introspect(&ask(&token, "tasks:read", "A")).await;
    assert_eq!((&told["active"], &told["tokenscope_decision"]["reason"]), (&json!(true), &json!("app_blocked")));
    // And Hydra's field is never ignored beside it.
    let told = world.introspect(&format!("{}&scope=users:read", ask(&token, "tasks:read", "A"))).await;
    assert_eq!(told, json!({ "active": false }));
    // An inactive token gets no decision.
    world.make("/v1/revocations", json!({ "token": token })).await;
    assert_eq!(world.introspect(&ask(&token, "tasks:read", "A")).await, json!({ "active": false }));
}

// RFC 7009.
#[tokio::test]
async fn a_client_revokes_its_own_tokens_and_no_others() {
    let world = World::new().await;
    let grant = world.grant("app", access(READ_A_WRITE_B)).await;
    let token = world.token(&grant, json!({})).await;
    let sibling = world.token(&grant, json!({})).await;
    let active = async |token: &str| world.introspect(&format!("token={token}")).await["active"] == true;
    // R7009-04: refused aloud, and the token lives.
    let got = world.form("rival", "/revoke", &format!("token={token}")).await;
    assert_eq!((got.status, got.json()["error"].as_str()), (400, Some("invalid_request")));
    assert!(active(&token).await);
    // B14: a hint made a server skip the other kind, and it answered 200 all the same.
    // R7009-02, -05, -08, TS-06: any hint, at once, empty 200; again and for the unknown too.
    for token in [token.as_str(), token.as_str(), "unknown"] {
        let got = world.form("app", "/revoke", &format!("token={token}&token_type_hint=no_such_kind")).await;
        assert_eq!((got.status, got.body.as_str()), (200, ""));
        assert!(!active(token).await);
    }
    // R7009-07: off by default.
    assert!(active(&sibling).await);
    // What is fenced waits for nobody where nobody follows; what the wait is called is checked before anything is done.
    let other = world.grant("app", access(READ_A_WRITE_B)).await;
    let selector = json!({ "grant": other }).to_string();
    for (wait, status) in [("soon", 400), ("fenced", 200), ("durable", 200)] {
        let got = world.api("root", "POST", &format!("/v1/revocations?wait={wait}"), &selector).await;
        assert_eq!(got.status, status, "{wait}: {}", got.body);
    }
    // R7009-10: never 200 "for later".
    world.journal_fails.store(true, Relaxed);
    let got = world.form("app", "/revoke", &format!("token={sibling}")).await;
    assert_eq!((got.status, got.header(RETRY_AFTER)), (503, "1"));
    assert!(got.json()["error"].is_string());
    let got = world.form("app", "/revoke", &format!("token={sibling}")).await;
    assert_eq!((got.status, got.header(RETRY_AFTER)), (503, "1"));
    let got = world.api("root", "POST", "/v1/scopes", r#"{"scope":"late:read"}"#).await;
    assert_eq!((got.status, got.header(RETRY_AFTER)), (503, "1"), "{}", got.body);
}

// TS-05: no verdict is neither active nor inactive.
#[tokio::test]
async fn a_revision_that_is_not_reached_is_503() {
    let world = World::new().await;
    let grant = world.grant("app", access(READ_A_WRITE_B)).await;
    let token = world.token(&grant, json!({})).await;
    let told = world.introspect(&format!("token={token}")).await;
    let now = told["tokenscope_revision"].as_str().unwrap();
    let (epoch, sequence) = now.split_once('-').unwrap();
    let next = sequence.parse::<u64>().unwrap() + 1;
    for (least, status) in [
        (now.to_owned(), 200),
        (format!("{epoch}-0"), 200),
        (format!("{epoch}-{next}"), 503),
        ("00000000000000ff-1".into(), 503),
        ("0000000000000001-1".into(), 503),
    ] {
        let got = world.form("rs", "/introspect", &format!("token={token}&tokenscope_least_revision={least}")).await;
        assert_eq!(got.status, status, "{least}");
        assert_eq!(got.header(RETRY_AFTER), if status == 503 { "1" } else { "" });
        let body = json!({ "tokens": [token], "least_revision": least }).to_string();
        let got = world.api("rs", "POST", "/v1/introspect", &body).await;
        assert_eq!(got.status, status, "{least}: {}", got.body);
    }
}

#[tokio::test]
async fn a_gateway_gets_its_verdict_as_a_status() {
    let world = World::new().await;
    let grant = world.grant("app", access(READ_A_WRITE_B)).await;
    let token = world.token(&grant, json!({})).await;
    let bound = world.token(&grant, json!({ "cnf": { "x5t#S256": Base64::Url.encode(&[5; 32]) } })).await;
    let (scope, place) = ("x-tokenscope-scope", "x-tokenscope-place");
    let table: [(&[(&str, &str)], u16); 8] = [
        (&[], 200),
        (&[(scope, "users:read")], 200),
        (&[(scope, "tasks:read")], 403),
        (&[(scope, "tasks:delete")], 403),
        (&[(place, "A")], 200),
        (&[(place, "C")], 403),
        (&[(scope, "tasks:read"), (place, "A/1")], 200),
        (&[(scope, "tasks:write"), (place, "A")], 403),
    ];
    for (headers, status) in table {
        let got = world.authorize(&token, headers).await;
        assert_eq!((got.status, got.body.as_str()), (status, ""), "{headers:?}");
        assert_eq!(got.header(WWW_AUTHENTICATE).is_empty(), status == 200);
        assert_eq!(got.headers.contains_key("x-tokenscope-subject"), status == 200);
    }
    let got = world.authorize(&token, &[(scope, "tasks:read"), (place, "A/1")]).await;
    let header = |name: &'static str| got.header(HeaderName::from_static(name)).to_owned();
    assert_eq!((header("x-tokenscope-subject"), header("x-tokenscope-client")), ("u1".into(), "app".into()));
    assert_eq!(
        (header("x-tokenscope-place"), header("x-tokenscope-scope")),
        ("A/1".into(), "tasks:read users:read".into())
    );
    assert!(header("x-tokenscope-jti").starts_with('t') && header("x-tokenscope-revision").contains('-'));
    // R8705-05, R9449-03: nobody has checked the proof.
    let got = world.authorize(&bound, &[]).await;
    assert_eq!(got.status, 401);
    assert!(got.header(WWW_AUTHENTICATE).contains(r#"error="invalid_token""#));
}

#[tokio::test]
async fn every_route_of_the_api_is_answered_and_says_what_it_did() {
    let world = World::new().await;
    let grant = world.grant("app", access(READ_A_WRITE_B)).await;
    let token = world.token(&grant, json!({})).await;
    let hash = TokenDigest::of(b"registered").to_hex();
    let calls = [
        ("GET", "/v1/clients?limit=1".into(), json!(null), "/clients/0/client"),
        ("GET", "/v1/scopes".into(), json!(null), "/scopes/2/scope"),
        ("POST", "/v1/scopes/aliases".into(), json!({ "alias": "people:read", "of": "users:read" }), "/revision"),
        ("GET", "/v1/members/u1".into(), json!(null), "/members/1/place"),
        ("PUT", "/v1/policies/A/mode".into(), json!({ "mode": "approval_required" }), "/revision"),
        ("POST", "/v1/policies/A/entries".into(), json!({ "client": "app", "entry": "approve" }), "/revision"),
        ("PUT", "/v1/policies/A/personal_tokens".into(), json!({ "on": false }), "/revision"),
        ("GET", "/v1/policies/A".into(), json!(null), "/approved/0"),
        ("GET", "/v1/grants?subject=u1".into(), json!(null), "/grants/0/access/0/place"),
        ("GET", format!("/v1/grants/{grant}"), json!(null), "/grants/0/grant"),
        (
            "POST",
            format!("/v1/grants/{grant}/extend"),
            json!({ "access": [{ "place": "A", "scopes": ["tasks:write"] }] }),
            "/revision",
        ),
        (
            "POST",
            format!("/v1/grants/{grant}/narrow"),
            json!({ "access": [{ "place": "A", "scopes": ["*"] }] }),
            "/revision",
        ),
        ("POST", "/v1/tokens".into(), json!({ "sha256": hash, "grant": grant, "never_expires": true }), "/handle"),
        ("GET", "/v1/tokens?client=app&limit=5".into(), json!(null), "/tokens/1/handle"),
        ("POST", "/v1/revocations?dry_run=true".into(), json!({ "client": "app" }), "/tokens"),
        ("POST", "/v1/introspect".into(), json!({ "tokens": ["registered"], "sha256": [hash] }), "/answers/1/scope"),
        (
            "POST",
            "/v1/check".into(),
            json!({ "questions": [{ "sha256": hash, "scope": "tasks:read", "place": "A" }] }),
            "/decisions/0/allowed",
        ),
        ("POST", "/v1/explain".into(), json!({ "token": token }), "/story/0"),
        ("GET", "/v1/risk/clients/app?workspace=A".into(), json!(null), "/rating"),
        ("GET", format!("/v1/risk/grants/{grant}"), json!(null), "/reasons/0/reason"),
        (
            "POST",
            "/v1/risk/preview".into(),
            json!({ "subject": "u1", "client": "app", "access": [{ "everywhere": true, "scopes": ["*"] }], "never_expires": true }),
            "/rating",
        ),
        ("GET", "/v1/status".into(), json!(null), "/index_bytes"),
        ("PUT", "/v1/subjects/u1/switch".into(), json!({ "on": false }), "/revision"),
        ("DELETE", "/v1/scopes/tasks:write".into(), json!(null), "/revision"),
    ];
    for (method, path, body, member) in calls {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let got = world.api("root", method, &path, &body).await;
        assert_eq!(got.status, 200, "{method} {path}: {}", got.body);
        assert!(got.json().pointer(member).is_some(), "{method} {path} has no {member}: {}", got.body);
        // R7662-09 and row S11: a caller that may only ask can do none of this.
        let got = world.api("rs", method, &path, &body).await;
        let open = ["/v1/scopes", "/v1/introspect", "/v1/check"].contains(&path.as_str()) && method != "DELETE";
        assert_eq!(got.status, if open { 200 } else { 403 }, "{method} {path}: {}", got.body);
    }
    let handle =
        world.make("/v1/tokens/mint", json!({ "grant": grant, "never_expires": true })).await["handle"].clone();
    for path in
        [format!("/v1/tokens/{}", handle.as_str().unwrap()), format!("/v1/risk/tokens/{}", handle.as_str().unwrap())]
    {
        assert_eq!(world.api("root", "GET", &path, "").await.status, 200, "{path}");
    }
    let unknown = "t00000000000000000000000000000000";
    assert_eq!(world.api("root", "GET", &format!("/v1/tokens/{unknown}"), "").await.status, 404);
    // A dry run changed nothing, and a suspension is undone whole.
    assert_eq!(world.api("root", "PUT", "/v1/subjects/u1/switch", r#"{"on":true}"#).await.status, 200);
    assert_eq!(world.api("root", "GET", &format!("/v1/grants/{grant}"), "").await.json()["grants"][0]["tokens"], 3);
    // The metadata names what the catalogue has now (R8414-09).
    let known = "/.well-known/oauth-authorization-server/tenant";
    let told = send(&world.desk, "GET", known, &[], "").await.json();
    assert_eq!(told["scopes_supported"], json!(["tasks:read", "users:read"]));
    assert_eq!(world.desk.shared.stats.panics.load(Relaxed), 0);
}

// TS-12: what is sent is nowhere in what is answered, but for the one time a token is minted.
#[tokio::test]
async fn a_token_is_never_repeated() {
    let world = World::new().await;
    let grant = world.grant("app", access(READ_A_WRITE_B)).await;
    let token = world.token(&grant, json!({})).await;
    for form in ["", "&tokenscope_place=A&tokenscope_scope=tasks:write", "&tokenscope_place=1/2/3", "&token=x", "&x=%"]
    {
        let got = world.form("rs", "/introspect", &format!("token={token}{form}")).await;
        assert!(!got.body.contains(&token) && !format!("{:?}", got.headers).contains(&token), "{form}: {}", got.body);
    }
    for (path, body) in [("/v1/introspect", json!({ "tokens": [token] })), ("/v1/explain", json!({ "token": token }))] {
        let got = world.api("root", "POST", path, &body.to_string()).await;
        assert_eq!(got.status, 200);
        assert!(!got.body.contains(&token), "{path}: {}", got.body);
    }
}
