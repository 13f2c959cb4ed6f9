//! Every verb of the admin API × every caller × its own workspace, another's, and one nobody ever named.
//!
//! The verbs are read from the server's own table, and so are the selectors of a revocation: whoever adds one has to say
//! here who may use it.

use serde_json::{Value, json};
use tokenscope::client::Client;

use super::super::house::figure;
use super::super::native::{options, runtime};
use super::super::web::{Answer, Web};
use super::{CALLERS, Stage, Who, api, doors, secret_of};

/// Who may.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    Anybody,
    Asks,
    Defines,
    Issues,
    Operates,
    IssuesOrOperates,
    /// Whoever has any of the rights to look at clients.
    SeesClients,
    /// Administrators see what is in their own workspaces.
    SeesMembers,
    Administers,
    AdministersOrOperates,
    AdministersOrLooks,
    Revokes,
    RevokesOwn,
    RevokesOrAdministers,
}

/// The rule, written a second time, from the lines of the configuration.
fn may(who: &Who, rule: Rule, workspace: &str) -> bool {
    let has = |line: &str| who.rights.split('\n').any(|known| known == line);
    let (issues, operates, defines) = (has("issue = true"), has("operate = true"), has("define = true"));
    let administers = has(&format!("administer = [\"{workspace}\"]"));
    let administers_some = who.rights.contains("administer");
    let revokes = has("revoke = \"anything\"");
    match rule {
        Rule::Anybody => true,
        Rule::Asks => who.ask.is_some_and(|ask| ask.all_workspaces || workspace == "A"),
        Rule::Defines => defines,
        Rule::Issues => issues,
        Rule::Operates => operates,
        Rule::IssuesOrOperates => issues || operates,
        Rule::SeesClients => issues || operates || defines || administers_some,
        Rule::SeesMembers => issues || operates || administers_some,
        Rule::Administers => administers,
        Rule::AdministersOrOperates => administers || operates,
        Rule::AdministersOrLooks => administers || issues || operates,
        Rule::Revokes => revokes,
        Rule::RevokesOwn => revokes || has("revoke = { own_tokens_of = \"app\" }"),
        Rule::RevokesOrAdministers => revokes || administers,
    }
}

/// What there is to be touched in one workspace: a grant and a token of the client `app`, by all of its names.
struct Things {
    workspace: &'static str,
    grant: String,
    handle: String,
    text: String,
}

impl Things {
    async fn make(client: &Client, workspace: &'static str) -> Self {
        let grant = json!({
            "subject": "maria", "client": "app", "access": [{ "place": workspace, "scopes": ["tasks:read"] }],
            "never_expires": true, "audience": [super::THEIRS],
        });
        let grant = api(client, "POST", "/v1/grants", grant).await["grant"].as_str().unwrap().to_owned();
        let text = format!("a thing in {workspace}");
        let digest = tokenscope::domain::TokenDigest::of(text.as_bytes()).to_hex();
        let token = json!({ "sha256": digest, "grant": grant, "never_expires": true });
        let made = api(client, "POST", "/v1/tokens", token).await;
        Self { workspace, grant, handle: made["jti"].as_str().or(made["handle"].as_str()).unwrap().to_owned(), text }
    }

    /// Names of things that are not there.
    fn nowhere() -> Self {
        Self {
            workspace: "Z",
            grant: "g999999".into(),
            handle: format!("t{}", "0".repeat(32)),
            text: "a thing nowhere".into(),
        }
    }
}

struct Verb {
    method: String,
    path: String,
    body: Value,
    rule: Rule,
}

/// What each operation of the table is here; several requests where one has several ways.
fn requests(operation: &str, method: &str, path: &str, selectors: &[String], it: &Things) -> Vec<Verb> {
    let Things { workspace, grant, handle, text } = it;
    let digest = tokenscope::domain::TokenDigest::of(text.as_bytes()).to_hex();
    let fresh = tokenscope::domain::TokenDigest::of(format!("fresh in {workspace}").as_bytes()).to_hex();
    let access = json!([{ "place": workspace, "scopes": ["tasks:read"] }]);
    let new_grant =
        json!({ "subject": "maria", "client": "app", "access": access, "never_expires": true, "audience": ["x"] });
    let inside = format!("{workspace}/1");
    let member = |place: &str| json!({ "subject": "visitor", "place": place });
    let question = json!({ "token": text, "scope": "tasks:read", "place": workspace });
    let one = |body: Value, rule: Rule| vec![(String::new(), body, rule)];
    let both = |rule: Rule| vec![(String::new(), member(workspace), rule), (String::new(), member(&inside), rule)];
    let none = Value::Null;
    let all: Vec<(String, Value, Rule)> = match operation {
        "Clients" => one(none, Rule::SeesClients),
        "RegisterClient" => one(json!({ "client": format!("new-{workspace}") }), Rule::Defines),
        "SwitchClient" => one(json!({ "on": true }), Rule::Defines),
        "SwitchSubject" => one(json!({ "on": true }), Rule::IssuesOrOperates),
        "Scopes" => one(none, Rule::Anybody),
        "AddScope" => one(json!({ "scope": format!("new:{workspace}") }), Rule::Defines),
        "AliasScope" => one(json!({ "alias": format!("alias:{workspace}"), "of": "tasks:read" }), Rule::Defines),
        "RetireScope" => one(none, Rule::Defines),
        "Members" => one(none, Rule::SeesMembers),
        "AddMember" | "RemoveMember" => both(Rule::Administers),
        "Policy" => one(none, Rule::AdministersOrOperates),
        "PolicyMode" => one(json!({ "mode": "allow_all" }), Rule::Administers),
        "PolicyPersonal" => one(json!({ "on": true }), Rule::Administers),
        "PolicyEntry" => ["block", "unblock", "approve", "unapprove"]
            .map(|entry| (String::new(), json!({ "client": "other-app", "entry": entry }), Rule::Administers))
            .into(),
        "MakeGrant" => one(new_grant, Rule::Issues),
        "Grants" => vec![
            ("?subject=maria".into(), none.clone(), Rule::IssuesOrOperates),
            ("?client=app".into(), none, Rule::IssuesOrOperates),
        ],
        "Grant" => one(none, Rule::IssuesOrOperates),
        "NarrowGrant" | "ExtendGrant" => one(json!({ "access": access }), Rule::Issues),
        "RegisterToken" => one(json!({ "sha256": fresh, "grant": grant, "never_expires": true }), Rule::Issues),
        "MintToken" => one(json!({ "grant": grant, "never_expires": true }), Rule::Issues),
        "Tokens" => vec![
            ("?subject=maria".into(), none.clone(), Rule::IssuesOrOperates),
            ("?client=app".into(), none.clone(), Rule::IssuesOrOperates),
            (format!("?grant={grant}"), none, Rule::IssuesOrOperates),
        ],
        "Token" => one(none, Rule::Operates),
        "Revoke" => selectors
            .iter()
            .flat_map(|selector| revocations(selector, it, &digest))
            .flat_map(|(body, rule)| [("?dry_run=true".to_owned(), body.clone(), rule), (String::new(), body, rule)])
            .collect(),
        "Introspect" => one(json!({ "tokens": [text], "place": workspace }), Rule::Asks),
        "Check" => one(json!({ "questions": [question] }), Rule::Asks),
        "Explain" => vec![
            (String::new(), json!({ "token": text }), Rule::Operates),
            (String::new(), json!({ "handle": handle }), Rule::Operates),
        ],
        "RiskClient" => vec![
            (format!("?workspace={workspace}"), none.clone(), Rule::AdministersOrLooks),
            (String::new(), none, Rule::IssuesOrOperates),
        ],
        "RiskGrant" | "RiskToken" => one(none, Rule::IssuesOrOperates),
        "RiskPreview" => one(new_grant, Rule::IssuesOrOperates),
        "Status" => one(none, Rule::Operates),
        "RotateKeys" => one(none, Rule::Operates),
        new => panic!("{method} {path}: {new} is a new verb: say here who may use it, and what it does to B"),
    };
    let filled = path
        .replace("{workspace}", workspace)
        .replace("{grant}", grant)
        .replace("{handle}", handle)
        .replace("{client}", "other-app")
        .replace("{subject}", "maria")
        .replace("{scope}", "spare:read");
    assert!(!filled.contains('{'), "{path}: a new part of a path");
    all.into_iter()
        .map(|(query, body, rule)| Verb { method: method.to_uppercase(), path: format!("{filled}{query}"), body, rule })
        .collect()
}

fn revocations(selector: &str, it: &Things, digest: &str) -> Vec<(Value, Rule)> {
    let Things { workspace, grant, handle, text } = it;
    let before = |among: Value| (json!({ "issued_before": { "time": 1, "among": among } }), Rule::Revokes);
    match selector {
        "token" => vec![(json!({ "token": text }), Rule::RevokesOwn)],
        "sha256" => vec![(json!({ "sha256": digest }), Rule::RevokesOwn)],
        "handle" => vec![(json!({ "handle": handle }), Rule::RevokesOwn)],
        "grant" => vec![(json!({ "grant": grant }), Rule::Revokes)],
        "subject" => vec![(json!({ "subject": "maria" }), Rule::Revokes)],
        "client" => vec![(json!({ "client": "app" }), Rule::Revokes)],
        "subject_client" => {
            vec![(json!({ "subject_client": { "subject": "maria", "client": "app" } }), Rule::Revokes)]
        }
        "workspace_client" => vec![(
            json!({ "workspace_client": { "workspace": workspace, "client": "app" } }),
            Rule::RevokesOrAdministers,
        )],
        "issued_before" => vec![
            before(json!("all")),
            before(json!({ "subject": "maria" })),
            before(json!({ "client": "app" })),
            before(json!({ "grant": grant })),
        ],
        new => panic!("{new} is a new selector: say here who may revoke by it"),
    }
}

/// Every request there is about these things, by the server's own table; revocations last.
fn every_verb(document: &Value, it: &Things) -> Vec<Verb> {
    let selectors: Vec<String> =
        document["components"]["schemas"]["Revocation"]["properties"].as_object().unwrap().keys().cloned().collect();
    let mut verbs = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let name = operation["operationId"].as_str().unwrap();
            verbs.push((name == "Revoke", requests(name, method, path, &selectors, it)));
        }
    }
    verbs.sort_by_key(|(last, _)| *last);
    verbs.into_iter().flat_map(|(_, verbs)| verbs).collect()
}

fn over_https(stage: &Stage, name: &str, verbs: &[Verb]) -> Vec<(u16, Vec<u8>)> {
    let web = Web::new(stage.house.file.https, &stage.house.file.ca_file);
    let lines = doors::Door::Api.basic(name, &secret_of(name));
    let requests: Vec<String> = verbs
        .iter()
        .map(|Verb { method, path, body, .. }| {
            let body = if body.is_null() { String::new() } else { body.to_string() };
            let length = body.len();
            format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n{lines}content-length: {length}\r\n\r\n{body}")
        })
        .collect();
    doors::pipelined(&web, &requests).into_iter().map(|Answer { status, body, .. }| (status, body)).collect()
}

fn through_the_tunnel(stage: &Stage, name: &str, verbs: &[Verb]) -> Vec<(u16, Vec<u8>)> {
    let mut options = options(&stage.house, "admin");
    let (certificate, key) = stage.certificate(name);
    (options.certificate_pem, options.key_pem) = (std::fs::read(certificate).unwrap(), std::fs::read(key).unwrap());
    runtime().block_on(async {
        let client = Client::connect(options).await.unwrap();
        let mut answers = Vec::new();
        for Verb { method, path, body, .. } in verbs {
            let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
            let answer = client.api(method, path, &body).await.unwrap();
            answers.push((answer.status, answer.body));
        }
        client.close().await;
        answers
    })
}

/// Everything an admin of B can see of B, and what the tokens are worth there.
fn state_of_b(stage: &Stage) -> Vec<Value> {
    runtime().block_on(async {
        let client = Client::connect(options(&stage.house, "admin")).await.unwrap();
        let mut all = Vec::new();
        let mut policy = api(&client, "GET", "/v1/policies/B", Value::Null).await;
        policy["revision"] = Value::Null;
        all.push(policy);
        for subject in ["maria", "gone", "visitor"] {
            let answer = client.api("GET", &format!("/v1/members/{subject}"), b"").await.unwrap();
            let told: Value = serde_json::from_slice(&answer.body).unwrap();
            let rows = told["members"].as_array().cloned().unwrap_or_default();
            all.extend(rows.into_iter().filter(|row| row["place"].as_str().unwrap().starts_with('B')));
        }
        let texts: Vec<&str> = stage.tokens.iter().map(|token| token.text.as_str()).collect();
        let mut told = api(&client, "POST", "/v1/introspect", json!({ "tokens": texts, "place": "B" })).await;
        told["revision"] = Value::Null;
        for answer in told["answers"].as_array_mut().unwrap() {
            answer["tokenscope_revision"] = Value::Null;
        }
        all.push(told);
        client.close().await;
        all
    })
}

type Ask = fn(&Stage, &str, &[Verb]) -> Vec<(u16, Vec<u8>)>;

#[test]
fn no_verb_of_the_api_lets_anybody_beyond_its_right_and_the_admin_of_a_cannot_touch_b() {
    let stage = Stage::new();
    let answer = Web::new(stage.house.file.https, &stage.house.file.ca_file)
        .send(b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .unwrap();
    let document: Value = serde_json::from_slice(&answer.body).unwrap();
    let things = runtime().block_on(async {
        let client = Client::connect(options(&stage.house, "admin")).await.unwrap();
        let things = [Things::make(&client, "A").await, Things::make(&client, "B").await, Things::nowhere()];
        client.close().await;
        things
    });
    let (mut cells, mut refused, mut done) = (0, 0, 0);
    // Whoever has rights that end other people's comes last; until then B stays what it was.
    let mut callers: Vec<&Who> = CALLERS.iter().collect();
    let touches_b = |who: &Who| ["issue", "revoke", "define"].iter().any(|right| who.rights.contains(right));
    callers.sort_by_key(|who| (touches_b(who), who.name == "revokes-own"));
    let mut before = Some(state_of_b(&stage));
    let doors: [(&str, Ask); 2] = [("/v1", over_https), ("tunnel", through_the_tunnel)];
    for who in callers {
        for (door, ask) in doors {
            let mut refusals: Vec<Vec<(String, Vec<u8>)>> = Vec::new();
            for it in &things {
                let verbs = every_verb(&document, it);
                let mut here = Vec::new();
                for (verb, (status, body)) in verbs.iter().zip(ask(&stage, who.name, &verbs)) {
                    let what = format!("{door} {}: {} {} {}", who.name, verb.method, verb.path, verb.body);
                    let text = String::from_utf8_lossy(&body);
                    cells += 1;
                    if may(who, verb.rule, it.workspace) {
                        assert!([200, 404, 409].contains(&status), "{what}: {status} {text}");
                        done += usize::from(status == 200);
                        if who.name == "admin-of-a" && verb.path.starts_with("/v1/members/") {
                            assert!(!text.contains("\"B"), "{what}: B is shown: {text}");
                        }
                        here.push((what, Vec::new()));
                    } else {
                        assert_eq!(status, 403, "{what}: {text}");
                        refused += 1;
                        here.push((what, body));
                    }
                }
                refusals.push(here);
            }
            // Whether what is refused is there at all is not told either.
            for ((in_b, of_b), (_, of_nothing)) in refusals[1].iter().zip(&refusals[2]) {
                assert!(of_b == of_nothing, "{in_b}: {}", String::from_utf8_lossy(of_b));
            }
        }
        if touches_b(who) {
            before = None;
        } else if let Some(before) = &before {
            assert_eq!(*before, state_of_b(&stage), "{} has touched B", who.name);
        }
    }
    let verbs = every_verb(&document, &things[0]).len();
    assert!(done > 200, "only {done} were done");
    figure(&format!(
        "matrix: {cells} cells of {verbs} requests, all verbs and selectors of the API: {refused} refused, {done} done; \
         B untouched by whoever administers only A"
    ));
}

/// A dry run of a revocation told a client whether the token of another one was active, by its public handle: the
/// client may revoke its own tokens alone, and was asked whose it was only when it really revoked.
#[test]
fn a_dry_run_tells_a_client_nothing_about_anothers_token() {
    let stage = Stage::new();
    let (handle, own) = runtime().block_on(async {
        let client = Client::connect(options(&stage.house, "admin")).await.unwrap();
        let grant = json!({
            "subject": "maria", "client": "other-app", "access": [{ "place": "A", "scopes": ["tasks:read"] }],
            "never_expires": true, "audience": [super::THEIRS],
        });
        let grant = api(&client, "POST", "/v1/grants", grant).await["grant"].clone();
        let digest = tokenscope::domain::TokenDigest::of(b"of another app").to_hex();
        let made =
            api(&client, "POST", "/v1/tokens", json!({ "sha256": digest, "grant": grant, "never_expires": true }))
                .await;
        let own = Things::make(&client, "A").await;
        client.close().await;
        (made["jti"].as_str().or(made["handle"].as_str()).unwrap().to_owned(), own)
    });
    let dry = |body: Value| Verb {
        method: "POST".into(),
        path: "/v1/revocations?dry_run=true".into(),
        body,
        rule: Rule::RevokesOwn,
    };
    let asked = [
        dry(json!({ "handle": handle })),
        dry(json!({ "token": "of another app" })),
        dry(json!({ "token": own.text })),
    ];
    let told = over_https(&stage, "revokes-own", &asked);
    assert_eq!(told[0].0, 403, "{}", String::from_utf8_lossy(&told[0].1));
    assert_eq!(told[1], told[0]);
    let mine: Value = serde_json::from_slice(&told[2].1).unwrap();
    assert_eq!((told[2].0, &mine["tokens"]), (200, &json!(1)), "{mine}");
}
