//! The table of routes against the document, the shapes against the parsers and the rows, and the strictness of both.

use serde_json::{Value, json};

use super::introspection::{self, Detail, Shown, ShownDecision, group};
use super::json as take;
use super::routes::{Found, ROUTES, find, methods};
use super::schemas::{Field, Kind, SCHEMAS, schema};
use super::text::{Base64, Plus, percent_decode};
use super::*;
use crate::domain::{
    Among, Confirmation, Denial, Epoch, Expiry, GrantId, Inactive, PolicyEntry, Reach, Revision, ScopeMask,
    ScopePosition, Sequence, TokenDigest, TokenHandle, TokenKey, TokenTimes,
};
use crate::service::report::{
    Explanation, GrantRow, MemberRow, Page, PairRow, PlaceRow, PolicyRow, Rating, RiskReport, ScopeRow, Status,
    TokenRow, Toll,
};
use crate::service::request::{Done, RevokeTarget};

const NOW: Timestamp = Timestamp::from_raw(1_700_000_000);
const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn revision() -> Revision {
    Revision { epoch: Epoch(7), sequence: Sequence(3) }
}

fn document() -> Value {
    serde_json::from_slice(openapi::document()).unwrap()
}

/// Parses a body the way its route does. The parsed value is dropped.
fn parse(call: Call, part: &str, body: &[u8]) -> Result<(), Problem> {
    match call {
        Call::Revoke => take::body::<selectors::RevokeBody>(body)?.target().map(drop),
        Call::Introspect => take::body::<selectors::IntrospectBody>(body)?.digests().map(drop),
        Call::Check => take::body::<selectors::CheckBody>(body)?.questions().map(drop),
        Call::Explain => take::body::<selectors::TokenName>(body)?.named().map(drop),
        Call::RiskPreview => take::body::<take::GrantBody>(body)?.request().map(drop),
        other => change_request(other, part, body, NOW).map(drop),
    }
}

/// A part that fits the `{name}` of a path.
fn part_for(path: &str) -> &'static str {
    match path {
        path if path.contains("{grant}") => "g1",
        path if path.contains("{handle}") => "t00000000000000000000000000000000",
        _ => "1579",
    }
}

#[test]
fn every_route_is_documented_once_and_every_documented_path_is_a_route() {
    let document = document();
    let paths = document["paths"].as_object().unwrap();
    let documented: usize = paths.values().map(|methods| methods.as_object().unwrap().len()).sum();
    assert_eq!(documented, ROUTES.len(), "two routes share a method and a path");
    let mut ids = std::collections::BTreeSet::new();
    for route in ROUTES {
        let operation = &paths[route.path][route.method.to_lowercase()];
        assert_eq!(operation["summary"], route.summary);
        assert!(ids.insert(operation["operationId"].to_string()), "{} is there twice", operation["operationId"]);
        assert!(operation["responses"]["200"].is_object() && operation["responses"]["default"].is_object());
        assert_eq!(operation["requestBody"].is_object(), route.takes.is_some(), "{} {}", route.method, route.path);
        let concrete = route.path.replace("{workspace}", "w").replace(['{', '}'], "");
        let Found::Route(found, _) = find(route.method, &concrete) else { panic!("{concrete} is not found") };
        assert_eq!(found.call, route.call, "{concrete} finds another route");
    }
}

#[test]
fn every_reference_in_the_document_leads_somewhere_and_no_schema_is_idle() {
    let text = String::from_utf8(openapi::document().to_vec()).unwrap();
    for schema in SCHEMAS {
        let reference = format!("#/components/schemas/{}\"", schema.name);
        assert!(text.contains(&reference), "{} is used nowhere", schema.name);
    }
    for name in text.split("#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(schema(name).is_some(), "{name} is referred to and does not exist");
    }
    assert_eq!(document()["openapi"], "3.1.0");
}

#[test]
fn every_example_is_taken_by_the_parser_and_fits_its_schema() {
    for route in ROUTES.iter().filter(|route| route.takes.is_some()) {
        let parsed = parse(route.call, part_for(route.path), route.example.as_bytes());
        assert!(parsed.is_ok(), "{} {}: {parsed:?}", route.method, route.path);
        let example: Value = serde_json::from_str(route.example).unwrap();
        fits(&example, route.takes.unwrap());
    }
    for route in ROUTES.iter().filter(|route| route.takes.is_none()) {
        assert!(route.example.is_empty(), "{} takes no body", route.path);
    }
}

#[test]
fn every_field_of_a_request_schema_is_known_to_the_parser_and_no_other_is() {
    for route in ROUTES {
        let Some(shape) = route.takes.map(|name| schema(name).unwrap()) else { continue };
        let part = part_for(route.path);
        for field in shape.fields {
            let body = json!({ field.name: sample(field) }).to_string();
            if let Err(problem) = parse(route.call, part, body.as_bytes()) {
                assert!(!problem.message.contains("unknown field"), "{}: {}", route.path, problem.message);
            }
        }
        let problem = parse(route.call, part, br#"{"tokenz":1}"#).unwrap_err();
        assert_eq!(problem.status, 400);
        assert!(problem.message.contains(r#"unknown field "tokenz""#), "{}: {}", route.path, problem.message);
        assert_eq!(parse(route.call, part, b"").unwrap_err().status, 400);
        // An empty object asks for nothing anywhere: never for everything.
        assert_eq!(parse(route.call, part, b"{}").unwrap_err().status, 400, "{} takes {{}}", route.path);
    }
}

fn sample(field: &Field) -> Value {
    match field.kind {
        Kind::Text => "x".into(),
        Kind::Number => 1.into(),
        Kind::Flag => true.into(),
        Kind::Word(words) => words[0].into(),
        Kind::Texts => json!(["x"]),
        Kind::Of(name) => schema(name).unwrap().fields.iter().map(|f| (f.name.to_owned(), sample(f))).collect(),
        Kind::ListOf(_) => json!([]),
        Kind::Object => json!({}),
    }
}

/// Every member stands in the schema, and every required one is there.
fn fits(value: &Value, name: &str) {
    let schema = schema(name).unwrap();
    let object = value.as_object().unwrap_or_else(|| panic!("{name} is not an object: {value}"));
    for (member, value) in object {
        let field = schema.fields.iter().find(|field| field.name == member);
        let field = field.unwrap_or_else(|| panic!("{name} has no member {member}"));
        let right = match field.kind {
            Kind::Text => value.is_string(),
            Kind::Word(words) => words.iter().any(|word| value == word),
            Kind::Number => value.is_u64(),
            Kind::Flag => value.is_boolean(),
            Kind::Texts => value.is_string() || value.as_array().is_some_and(|list| list.iter().all(Value::is_string)),
            Kind::Object => value.is_object() || value.is_string(),
            Kind::Of(name) => {
                fits(value, name);
                true
            }
            Kind::ListOf(name) => {
                value.as_array().unwrap().iter().for_each(|item| fits(item, name));
                true
            }
        };
        assert!(right, "{name}.{member} is {value}");
    }
    for field in schema.fields.iter().filter(|field| field.required) {
        assert!(object.contains_key(field.name), "{name} lacks {}: {value}", field.name);
    }
}

fn handle() -> TokenHandle {
    TokenKey::from_bytes([0xab; 16]).handle()
}

fn times(expiry: Expiry) -> TokenTimes {
    TokenTimes { issued: NOW, not_before: NOW, expiry }
}

fn a_token(full: bool) -> TokenRow {
    TokenRow {
        handle: handle(),
        grant: GrantId::new(17).unwrap(),
        subject: "u1".into(),
        client: "app-7".into(),
        times: times(if full { Expiry::At(NOW.plus(60)) } else { Expiry::Never }),
        audience: vec!["api".into()],
        confirmation: full.then_some(Confirmation::DpopKey([1; 32])),
        verdict: if full { Err(Inactive::Expired) } else { Ok(()) },
        last_used: full.then_some(NOW),
    }
}

fn a_grant(full: bool) -> GrantRow {
    let place = full.then(|| "1579".to_owned());
    GrantRow {
        id: GrantId::new(17).unwrap(),
        subject: "u1".into(),
        client: "app-7".into(),
        access: vec![PairRow { place, scopes: vec!["tasks:read".into()] }],
        expiry: if full { Expiry::At(NOW) } else { Expiry::Never },
        verdict: if full { Err(Inactive::GrantRevoked) } else { Ok(()) },
        made: 4,
        tokens: 2,
        last_used: full.then_some(NOW),
    }
}

#[test]
fn every_answer_fits_its_schema() {
    let page = |name: &str, value: Value| {
        let page = Page { revision: revision(), rows: vec![value], total: 9 };
        rows::page(&page, name, Value::clone)
    };
    let all =
        Done { revision: revision(), grant: GrantId::new(1), handle: Some(handle()), token: Some("tks_x".into()) };
    fits(&rows::done(&all), "Done");
    fits(&rows::done(&Done { grant: None, handle: None, token: None, ..all.clone() }), "Done");
    fits(&rows::done(&Done { grant: None, handle: None, token: None, ..all }), "Revoked");
    fits(&rows::toll(&Toll { revision: revision(), grants: 1, tokens: 2 }), "Revoked");
    fits(&page("clients", rows::client(&("app-7".into(), true))), "Clients");
    let row = ScopeRow { position: 3, name: "tasks:read".into(), retired: false, aliases: vec!["t:r".into()] };
    fits(&page("scopes", rows::scope(&row)), "Scopes");
    fits(&page("members", rows::member(&MemberRow { place: "1579".into(), live: true })), "Members");
    let row =
        PolicyRow { approval_required: true, personal_tokens: false, blocked: vec!["a".into()], approved: vec![] };
    fits(&rows::at(revision(), rows::policy(&row)), "Policy");
    for full in [true, false] {
        fits(&page("grants", rows::grant(&a_grant(full))), "Grants");
        fits(&page("tokens", rows::token(&a_token(full))), "Tokens");
        fits(&rows::at(revision(), rows::token(&a_token(full))), "Token");
        let told = Explanation {
            revision: revision(),
            verdict: if full { Err(Inactive::Expired) } else { Ok(()) },
            token: full.then(|| a_token(true)),
            grant: full.then(|| a_grant(true)),
            places: vec![PlaceRow {
                place: "1579".into(),
                granted: vec!["tasks:read".into()],
                effective: vec![],
                denial: full.then_some(Denial::NotAMember),
            }],
            story: vec!["It has expired.".into()],
        };
        fits(&rows::explanation(&told), "Explanation");
        let report = RiskReport {
            revision: revision(),
            rating: Rating::High,
            reasons: vec![(Rating::High, "it deletes".into())],
            workspaces: vec!["1579".into()],
            places: 1,
            everywhere: full,
            scopes: vec!["tasks:delete".into()],
            writes: 0,
            deletes: 1,
            wildcard: false,
            grants: 1,
            tokens: 1,
            lives_seconds: full.then_some(60),
            bearer_tokens: 1,
            last_used: full.then_some(NOW),
        };
        fits(&rows::risk(&report), "Risk");
    }
    let status =
        Status { revision: revision(), tokens: 1, grants: 1, index_bytes: 1, accepts_changes: true, keys: (2, 1) };
    fits(&rows::status(&status), "Status");
    let rotated = crate::service::Rotated { generation: 2, kept: 2, after: revision().sequence };
    fits(&rows::rotated(revision(), &rotated), "Rotated");
}

#[test]
fn paths_are_found_decoded_and_bounded() {
    let parts = |method: &str, path: &str| match find(method, path) {
        Found::Route(route, parts) => format!("{:?} {parts:?}", route.call),
        Found::WrongMethod(methods) => format!("405 {methods:?}"),
        Found::Malformed => "malformed".into(),
        Found::Nothing => "404".into(),
    };
    let long = format!("/v1/members/{}", "a".repeat(258));
    let longer = format!("/v1/{}", "a".repeat(2_000));
    let table = [
        ("GET", "/v1/members/u1", r#"Members ["u1"]"#),
        ("GET", "/v1/members/a%2Fb+c", r#"Members ["a/b+c"]"#),
        ("GET", "/v1/members/", "malformed"),
        ("GET", "/v1/members/%zz", "malformed"),
        ("GET", "/v1/members/%ff", "malformed"),
        ("GET", &long, "malformed"),
        ("GET", &longer, "malformed"),
        ("POST", "/v1/members/remove", "RemoveMember []"),
        ("POST", "/v1/tokens/mint", "MintToken []"),
        ("GET", "/v1/tokens/t0", r#"Token ["t0"]"#),
        // R9110-01: a 405 names what there is.
        ("PATCH", "/v1/clients", r#"405 ["GET", "POST"]"#),
        ("GET", "/v1/revocations", r#"405 ["POST"]"#),
        ("GET", "/v1/nothing", "404"),
        ("GET", "/v1/clients/", "404"),
        ("GET", "/v1", "404"),
        ("get", "/v1/clients", r#"405 ["GET", "POST"]"#),
    ];
    for (method, path, expected) in table {
        assert_eq!(parts(method, path), expected, "{method} {path:.40}");
    }
    assert_eq!(methods("/v1/revocations"), ["POST"]);
}

#[test]
fn a_query_takes_only_what_its_route_knows_and_each_only_once() {
    let parse = |text: &str| Query::parse(text, &["dry_run", "limit"]).map(|query| query.0);
    assert_eq!(parse("").unwrap(), []);
    assert_eq!(parse("dry_run=true&limit=1%30").unwrap()[1].1, "10");
    // A misspelt dry run must not revoke anything.
    for bad in ["dryrun=true", "dry_run=true&dry_run=false", "limit=%q", "DRY_RUN=true"] {
        assert_eq!(parse(bad).unwrap_err().status, 400, "{bad}");
    }
    for (text, expected) in
        [("", Some(ROWS_DEFAULT)), ("limit=1000", Some(1_000)), ("limit=1001", None), ("limit=0", None)]
    {
        assert_eq!(Query::parse(text, &["limit"]).unwrap().limit().ok(), expected, "{text}");
    }
    let wait = |text: &str| Query::parse(text, &["wait"]).unwrap().wait().ok();
    assert_eq!((wait(""), wait("wait=fenced"), wait("wait=soon")), (Some(Wait::Applied), Some(Wait::Fenced), None));
    let whose = |text: &str| Query::parse(text, &["subject", "client", "grant"]).unwrap().list_of().ok();
    assert_eq!(whose("subject=u1"), Some(ListOf::Subject("u1".into())));
    assert_eq!(whose("subject=u1&client=c"), None);
    assert_eq!(whose(""), None);
}

// TS-10: an expiry is said, never left out.
#[test]
fn an_expiry_is_a_time_or_never_and_one_of_the_two_is_said() {
    let table = [
        (json!({ "exp": 1_800_000_000 }), Some(Expiry::At(Timestamp::from_raw(1_800_000_000)))),
        (json!({ "never_expires": true }), Some(Expiry::Never)),
        (json!({}), None),
        (json!({ "never_expires": false }), None),
        (json!({ "exp": 1, "never_expires": true }), None),
        (json!({ "exp": 1, "never_expires": false }), None),
        (json!({ "exp": 5_000_000_000_u64 }), None),
        (json!({ "exp": -1 }), None),
        (json!({ "exp": 1.5 }), None),
        (json!({ "exp": "1800000000" }), None),
    ];
    for (mut body, expected) in table {
        body["grant"] = "g1".into();
        let told = change_request(Call::MintToken, "", body.to_string().as_bytes(), NOW);
        let expiry = told.ok().map(|request| match request {
            ChangeRequest::MintToken(terms) => terms.times.expiry,
            other => panic!("{other:?}"),
        });
        assert_eq!(expiry, expected, "{body}");
    }
}

#[test]
fn a_revocation_names_exactly_one_selector() {
    let target =
        |body: Value| take::body::<selectors::RevokeBody>(body.to_string().as_bytes()).and_then(|body| body.target());
    let subject = take::subject("u1").unwrap();
    let client = take::client("c").unwrap();
    let good = [
        (json!({ "token": "abc" }), RevokeTarget::Token(TokenDigest::of(b"abc"))),
        (json!({ "sha256": HASH }), RevokeTarget::Token(TokenDigest::of(b""))),
        (json!({ "handle": handle().to_string() }), RevokeTarget::Handle(handle())),
        (json!({ "grant": "g17" }), RevokeTarget::Grant(GrantId::new(17).unwrap())),
        (json!({ "subject": "u1" }), RevokeTarget::Subject(subject.clone())),
        (json!({ "client": "c" }), RevokeTarget::Client(client.clone())),
        (
            json!({ "subject_client": { "subject": "u1", "client": "c" } }),
            RevokeTarget::SubjectClient(subject.clone(), client.clone()),
        ),
        (
            json!({ "workspace_client": { "workspace": "w", "client": "c" } }),
            RevokeTarget::WorkspaceClient(take::workspace("w").unwrap(), client),
        ),
        (
            json!({ "issued_before": { "time": 5, "among": "all" } }),
            RevokeTarget::IssuedBefore(Timestamp::from_raw(5), Among::All),
        ),
        (
            json!({ "issued_before": { "time": 5, "among": { "subject": "u1" } } }),
            RevokeTarget::IssuedBefore(Timestamp::from_raw(5), Among::Subject(subject)),
        ),
    ];
    for (body, expected) in good {
        assert_eq!(target(body.clone()).unwrap(), expected, "{body}");
    }
    let bad = [
        json!({}),
        json!({ "subject": "u1", "client": "c" }),
        json!({ "subject_client": { "subject": "u1" } }),
        json!({ "subject_client": {} }),
        json!({ "issued_before": { "time": 5 } }),
        json!({ "issued_before": { "time": 5, "among": {} } }),
        json!({ "issued_before": { "time": 5, "among": { "all": true } } }),
        json!({ "token": "" }),
        json!({ "token": null }),
        json!({ "sha256": HASH.to_uppercase() }),
        json!({ "grant": 17 }),
        json!({ "all": true }),
        json!([]),
        json!("all"),
    ];
    for body in bad {
        let problem = target(body.clone()).unwrap_err();
        assert_eq!((problem.status, problem.code), (400, "invalid"), "{body}");
    }
}

// TS-12: what was sent may be a token, in whatever field it ended up.
#[test]
fn no_error_repeats_a_value() {
    let canary = "tks_canarycanarycanarycanarycanary";
    let bodies = [
        format!(r#"{{"tokens":"{canary}"}}"#),
        format!(r#"{{"tokens":["{canary}"],"place":7,"x":1}}"#),
        format!(r#"{{"sha256":["{canary}"]}}"#),
        format!(r#"{{"least_revision":{{"{canary}":1}}}}"#),
        format!(r#"{{"{canary}":1}}"#),
        format!(r#""{canary}""#),
        format!(r#"{{"tokens":["{canary}""#),
        canary.to_owned(),
    ];
    for body in bodies {
        for call in [Call::Introspect, Call::Check, Call::Revoke, Call::Explain, Call::RegisterToken, Call::PolicyMode]
        {
            if let Err(problem) = parse(call, "1579", body.as_bytes()) {
                assert!(!problem.message.contains("canary"), "{}", problem.message);
            }
        }
    }
    let problem = take::body::<take::ModeBody>(br#"{"mode":"secret"}"#).err().unwrap();
    assert!(problem.message.contains("expected `allow_all` or `approval_required`"), "{}", problem.message);
    assert!(!problem.message.contains("secret"));
}

#[test]
fn bindings_are_known_kept_or_refused() {
    let thumbprint = Base64::Url.encode(&[9; 32]);
    let bind = |cnf: Value| {
        let body = json!({ "grant": "g1", "never_expires": true, "cnf": cnf }).to_string();
        change_request(Call::MintToken, "", body.as_bytes(), NOW).ok().and_then(|request| match request {
            ChangeRequest::MintToken(terms) => terms.confirmation,
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(bind(json!({ "x5t#S256": thumbprint })), Some(Confirmation::Certificate([9; 32])));
    assert_eq!(bind(json!({ "jkt": thumbprint })), Some(Confirmation::DpopKey([9; 32])));
    assert_eq!(bind(json!({ "kid": "k" })), Some(Confirmation::Other(r#"{"kid":"k"}"#.into())));
    // R8705-03: no padding, no white space, 32 bytes; and a method we know is not kept as one that we do not.
    for bad in [
        json!({ "x5t#S256": format!("{thumbprint}=") }),
        json!({ "jkt": format!(" {thumbprint}") }),
        json!({ "jkt": "AAAA" }),
        json!({ "jkt": thumbprint, "kid": "k" }),
        json!({ "jkt": 5 }),
        json!({ "kid": "k".repeat(2_000) }),
        json!({}),
    ] {
        assert_eq!(bind(bad.clone()), None, "{bad}");
    }
}

#[test]
fn access_lists_say_where_and_what() {
    let access = |item: Value| {
        take::body::<take::AccessBody>(json!({ "access": [item] }).to_string().as_bytes()).and_then(|body| body.named())
    };
    let place = Reach::At(take::place("1579/4021").unwrap());
    assert_eq!(access(json!({ "place": "1579/4021", "scopes": ["a"] })).unwrap(), [(place, vec!["a".into()])]);
    assert_eq!(
        access(json!({ "everywhere": true, "scopes": ["a"] })).unwrap(),
        [(Reach::Everywhere, vec!["a".into()])]
    );
    for bad in [
        json!({ "scopes": ["a"] }),
        json!({ "everywhere": false, "scopes": ["a"] }),
        json!({ "place": "1579", "everywhere": true, "scopes": ["a"] }),
        json!({ "place": "1579", "scopes": [] }),
        json!({ "place": "1579" }),
        json!({ "place": "1/2/3", "scopes": ["a"] }),
    ] {
        assert!(access(bad.clone()).is_err(), "{bad}");
    }
    let entry = change_request(Call::PolicyEntry, "1579", br#"{"client":"c","entry":"unapprove"}"#, NOW).unwrap();
    assert!(matches!(entry, ChangeRequest::SetPolicyEntry(_, _, PolicyEntry::Unapprove)));
}

#[test]
fn batches_are_bounded() {
    let sizes = |count: usize| {
        let body = json!({ "sha256": vec![HASH; count] }).to_string();
        take::body::<selectors::IntrospectBody>(body.as_bytes())
            .and_then(|mut body| body.digests())
            .map(|list| list.len())
            .ok()
    };
    assert_eq!([sizes(0), sizes(1), sizes(256), sizes(257)], [None, Some(1), Some(256), None]);
}

fn mask(positions: &[u8]) -> ScopeMask {
    let mut mask = ScopeMask::EMPTY;
    positions.iter().for_each(|position| mask.insert(ScopePosition::new(*position)));
    mask
}

const NAMES: [&str; 4] = ["s0", "s1", "s2", "s3"];

fn names<'a>(mask: &ScopeMask) -> std::vec::IntoIter<&'a str> {
    let named = (0..4).filter(|number| mask.allows(ScopePosition::new(*number)));
    named.map(|number| NAMES[usize::from(number)]).collect::<Vec<_>>().into_iter()
}

// TS-03, R9396-03: expanded as a product, the objects say exactly what was given, never more.
#[test]
fn places_with_different_scopes_are_never_merged() {
    let seed = 0x5eed_u64;
    let mut state = seed;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let places: Vec<String> = (0..20).map(|number| format!("w{number}")).collect();
    for round in 0..200 {
        let given: Vec<(&str, ScopeMask)> = places
            .iter()
            .map(|place| (place.as_str(), mask(&(0..4).filter(|_| random(2) == 0).collect::<Vec<u8>>())))
            .collect();
        let details = group(given.iter().copied(), names);
        let mut expanded: Vec<(&str, &str)> = details
            .iter()
            .flat_map(|Detail { places, scopes }| {
                places.iter().flat_map(|place| scopes.iter().map(|scope| (*place, *scope)))
            })
            .collect();
        let mut model: Vec<(&str, &str)> =
            given.iter().flat_map(|(place, mask)| names(mask).map(|scope| (*place, scope))).collect();
        expanded.sort_unstable();
        model.sort_unstable();
        assert_eq!(expanded, model, "seed {seed:#x}, round {round}");
        assert!(details.len() <= 15, "one object for each distinct set that is not empty");
    }
}

fn shown<'a>(confirmation: Option<Confirmation>, expiry: Expiry) -> Shown<'a> {
    Shown {
        handle: handle(),
        subject: "u1",
        client: "app-7",
        times: times(expiry),
        confirmation,
        scope: vec!["tasks:read", "users:read"],
        audience: vec!["api"],
        details: vec![
            Detail { places: vec!["1", "2/3"], scopes: vec!["tasks:read"] },
            Detail { places: vec!["4"], scopes: vec!["tasks:read", "tasks:write"] },
        ],
    }
}

#[test]
fn an_active_answer_has_these_very_bytes() {
    let expected = format!(
        r#"{{"active":true,"scope":"tasks:read users:read","client_id":"app-7","sub":"u1","exp":1700000060,"iat":1700000000,"nbf":1700000000,"iss":"https://issuer.example","aud":"api","jti":"t{}","token_type":"Bearer","authorization_details":[{{"type":"tokenscope_access","locations":["1","2/3"],"actions":["tasks:read"]}},{{"type":"tokenscope_access","locations":["4"],"actions":["tasks:read","tasks:write"]}}],"tokenscope_revision":"0000000000000007-3"}}"#,
        "ab".repeat(16)
    );
    let token = shown(None, Expiry::At(NOW.plus(60)));
    let bytes = introspection::active(&token, Some("https://issuer.example"), None, revision()).unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    assert_eq!(introspection::INACTIVE, br#"{"active":false}"#);
}

#[test]
fn an_active_answer_says_what_it_has_and_nothing_empty() {
    let answer = |token: &Shown<'_>| -> Value {
        let bytes = introspection::active(token, None, None, revision()).unwrap();
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        fits(&value, "Introspection");
        value
    };
    // TS-10: no exp only for a token that never ends. R7662-13: no empty scope.
    let bare = Shown { scope: vec![], audience: vec![], details: vec![], ..shown(None, Expiry::Never) };
    let value = answer(&bare);
    for absent in ["exp", "scope", "aud", "cnf", "authorization_details", "iss"] {
        assert!(value.get(absent).is_none(), "{absent}: {value}");
    }
    let two = Shown { audience: vec!["a", "b"], ..shown(None, Expiry::Never) };
    assert_eq!(answer(&two)["aud"], json!(["a", "b"]));
    // R8705-04: a certificate binding is shown, and the type stays Bearer. R9449-02: a DPoP binding says DPoP.
    let thumbprint = Base64::Url.encode(&[9; 32]);
    let table = [
        (Confirmation::Certificate([9; 32]), "Bearer", json!({ "x5t#S256": thumbprint })),
        (Confirmation::DpopKey([9; 32]), "DPoP", json!({ "jkt": thumbprint })),
        (Confirmation::Other(r#"{"kid":"k"}"#.into()), "Bearer", json!({ "kid": "k" })),
        (Confirmation::Other(r#"{"jkt":"x","kid":"k"}"#.into()), "DPoP", json!({ "jkt": "x", "kid": "k" })),
    ];
    for (confirmation, token_type, cnf) in table {
        assert_eq!(introspection::token_type(Some(&confirmation)), token_type);
        let value = answer(&shown(Some(confirmation), Expiry::Never));
        assert_eq!((&value["token_type"], &value["cnf"]), (&json!(token_type), &cnf));
    }
    // R9449-04: what cannot be shown is not active.
    for broken in ["", "[]", "{}", "{\"a\":1", "{\"a\":1}{}"] {
        let token = shown(Some(Confirmation::Other(broken.into())), Expiry::Never);
        assert!(introspection::active(&token, None, None, revision()).is_err(), "{broken}");
    }
}

#[test]
fn a_decision_stands_in_the_answer_with_its_reason() {
    let decide = |decision: &ShownDecision<'_>| -> Value {
        serde_json::from_slice(&introspection::denied_everywhere(decision, revision())).unwrap()
    };
    let denied = ShownDecision {
        denied: Some((Denial::AppBlocked.as_str(), Denial::AppBlocked.explanation())),
        challenge: Some(r#"Bearer realm="r", error="insufficient_scope""#),
    };
    let value = decide(&denied);
    assert_eq!(value["active"], true);
    assert_eq!(value["tokenscope_decision"]["allowed"], false);
    assert_eq!(value["tokenscope_decision"]["reason"], "app_blocked");
    assert_eq!(value["tokenscope_decision"]["www_authenticate"], r#"Bearer realm="r", error="insufficient_scope""#);
    let value = decide(&ShownDecision { denied: None, challenge: None });
    assert_eq!(value["tokenscope_decision"], json!({ "allowed": true }));
}

#[test]
fn base64_and_percent_encoding_have_one_spelling_for_each_value() {
    // RFC 4648, section 10.
    let vectors =
        [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")];
    for (plain, encoded) in vectors {
        assert_eq!(Base64::Standard.encode(plain.as_bytes()), encoded);
        assert_eq!(Base64::Standard.decode(encoded).unwrap(), plain.as_bytes());
        let bare = encoded.trim_end_matches('=');
        assert_eq!(Base64::Url.encode(plain.as_bytes()), bare);
        assert_eq!(Base64::Url.decode(bare).unwrap(), plain.as_bytes());
    }
    assert_eq!(Base64::Url.encode(&[0xff, 0xfe]), "__4");
    assert_eq!(Base64::Standard.encode(&[0xff, 0xfe]), "//4=");
    for bad in ["Zg", "Zg=", "Zh==", "Zm9=", "Z", "Zg==Zg==", "Zm 9v", "Zm9v\n", "____", "Zg===", "====", "="] {
        assert_eq!(Base64::Standard.decode(bad), None, "{bad}");
    }
    for bad in ["Z", "Zg==", "Zh", "//4"] {
        assert_eq!(Base64::Url.decode(bad), None, "{bad}");
    }
    assert_eq!(percent_decode(b"a+%41%2b", Plus::Space).unwrap(), b"a A+");
    assert_eq!(percent_decode(b"a+%41", Plus::Itself).unwrap(), b"a+A");
    for bad in ["%", "%4", "%4g", "%+1", "a%"] {
        assert_eq!(percent_decode(bad.as_bytes(), Plus::Space), None, "{bad}");
    }
}
