//! The doors of the matrix: how each is asked, and how its answers are read.

use std::collections::BTreeMap;
use std::io::{BufReader, Write as _};
use std::path::Path;

use quinn::{Connection, Endpoint};
use serde_json::{Value, json};
use tokenscope::wire::message::{Answer as Told, Envelope, ErrorCode, Item, Method, Outcome as Checked, Request};
use tokenscope::wire::{ALPN, STREAM_REQUESTS, Split, decode, encode};

use super::super::native::{by_hand, runtime};
use super::super::web::{self, Answer, Web, base64, encoded};
use super::{CALLERS, Outcome, Question, Stage, State, Token, Who, expected, secret_of};

/// Where a question is put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Door {
    /// Introspections and checks of the native protocol.
    Native,
    /// Its facts, for near-caches.
    Facts,
    /// RFC 7662.
    Introspect,
    /// The decision for gateways.
    Authorize,
    /// `/v1/introspect` and `/v1/check`.
    Api,
    /// The same through the native protocol.
    Tunnel,
}

pub const ALL: [Door; 6] = [Door::Native, Door::Facts, Door::Introspect, Door::Authorize, Door::Api, Door::Tunnel];

/// What a door said.
pub struct Said {
    /// `None`: something that is in nobody's table.
    pub outcome: Option<Outcome>,
    /// All of it, without the date.
    pub bytes: Vec<u8>,
}

const FORM: &str = "application/x-www-form-urlencoded";

impl Door {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Facts => "facts",
            Self::Introspect => "/introspect",
            Self::Authorize => "/authorize",
            Self::Api => "/v1",
            Self::Tunnel => "tunnel",
        }
    }

    /// Facts are always those of a place, and say nothing of a scope.
    pub fn asks(self, question: Question) -> bool {
        self != Self::Facts || matches!(question, Question::WhatAt(_))
    }

    /// What the rule's answer is in the words of this door.
    pub fn translate(self, question: Question, outcome: Outcome, token: &Token, who: &Who) -> Outcome {
        match (self, question, outcome) {
            // A gateway that names a place is told "not there" of a token that lives, with 403 instead of 401.
            (Self::Authorize, Question::WhatAt(_), Outcome::Inactive) if lives(token, who) => {
                Outcome::Denied("place_not_granted")
            }
            // Facts of a token that lives are given whatever they come to; the decision is the follower's.
            (Self::Facts, Question::WhatAt(_), Outcome::Inactive) if lives(token, who) => Outcome::ActiveIn(&[]),
            (Self::Facts, Question::WhatAt(_), Outcome::ActiveIn(_)) => Outcome::ActiveIn(&[]),
            // A gateway's yes names no places.
            (Self::Authorize, _, Outcome::ActiveIn(_) | Outcome::Allowed) => Outcome::Allowed,
            _ => outcome,
        }
    }

    /// Puts these questions as this caller.
    pub fn ask(self, stage: &Stage, name: &str, cells: &[(&Token, Question)]) -> Vec<Said> {
        match self {
            Self::Native | Self::Facts | Self::Tunnel => native(stage, name, self, cells),
            _ => {
                let requests: Vec<String> = cells
                    .iter()
                    .map(|(token, question)| self.request(token, *question, &self.basic(name, &secret_of(name))))
                    .collect();
                let web = Web::new(stage.house.file.https, &stage.house.file.ca_file);
                pipelined(&web, &requests).into_iter().map(|answer| self.read(answer)).collect()
            }
        }
    }

    pub fn basic(self, name: &str, secret: &str) -> String {
        self.header(&format!("Basic {}", base64(format!("{name}:{secret}").as_bytes())))
    }

    fn header(self, value: &str) -> String {
        let name = if self == Self::Authorize { "tokenscope-authorization" } else { "authorization" };
        format!("{name}: {value}\r\n")
    }

    /// A request over HTTPS, with these lines in its head.
    fn request(self, token: &Token, question: Question, lines: &str) -> String {
        let post = |path: &str, kind: &str, body: String| {
            format!(
                "POST {path} HTTP/1.1\r\nhost: localhost\r\n{lines}content-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        let text = encoded(&token.text);
        match self {
            Self::Introspect => post(
                "/introspect",
                FORM,
                match question {
                    Question::What => format!("token={text}"),
                    Question::WhatAt(place) => format!("token={text}&tokenscope_place={place}"),
                    Question::May(place) => {
                        format!("token={text}&tokenscope_place={place}&tokenscope_scope={}", token.scope())
                    }
                },
            ),
            Self::Authorize => {
                let query = match question {
                    Question::What => String::new(),
                    Question::WhatAt(place) => format!("?tokenscope_place={place}"),
                    Question::May(place) => format!("?tokenscope_place={place}&tokenscope_scope={}", token.scope()),
                };
                let bearer = &token.text;
                format!(
                    "GET /authorize{query} HTTP/1.1\r\nhost: localhost\r\n{lines}authorization: Bearer {bearer}\r\n\r\n"
                )
            }
            _ => {
                let (path, body) = api_question(token, question);
                post(path, "application/json", body.to_string())
            }
        }
    }

    fn read(self, answer: Answer) -> Said {
        let outcome = match self {
            Self::Introspect => read_introspection(&answer),
            Self::Authorize => read_authorization(&answer),
            _ => read_api(answer.status, &answer.body),
        };
        let mut bytes = format!("{}\n", answer.status).into_bytes();
        for (name, value) in answer.headers.iter().filter(|(name, _)| name != "date") {
            bytes.extend(format!("{name}: {value}\n").bytes());
        }
        bytes.extend(answer.body);
        Said { outcome, bytes }
    }
}

/// Whether the token lives for this caller, whatever it may do anywhere.
fn lives(token: &Token, who: &Who) -> bool {
    let dead = [State::Unknown, State::Malformed, State::Expired, State::Revoked, State::GrantRevoked];
    !dead.contains(&token.state) && who.ask.is_some_and(|ask| ask.all_audiences || token.theirs)
}

fn api_question(token: &Token, question: Question) -> (&'static str, Value) {
    match question {
        Question::What => ("/v1/introspect", json!({ "tokens": [token.text] })),
        Question::WhatAt(place) => ("/v1/introspect", json!({ "tokens": [token.text], "place": place })),
        Question::May(place) => {
            let question = json!({ "token": token.text, "scope": token.scope(), "place": place });
            ("/v1/check", json!({ "questions": [question] }))
        }
    }
}

/// Sends requests on one connection, some ahead of their answers.
pub fn pipelined(web: &Web, requests: &[String]) -> Vec<Answer> {
    let mut stream = BufReader::new(web.open());
    let mut answers = Vec::new();
    for some in requests.chunks(16) {
        stream.get_mut().write_all(some.concat().as_bytes()).unwrap();
        stream.get_mut().flush().unwrap();
        answers.extend(
            some.iter().map(|request| web::read(&mut stream).unwrap_or_else(|error| panic!("{error}: {request}"))),
        );
    }
    answers
}

/// The word of a list of reasons; a string that lives as long as the table.
fn reason(text: &str) -> Option<Outcome> {
    let all = ["scope_unknown", "place_not_granted", "not_a_member", "app_blocked"];
    all.into_iter().find(|known| text.starts_with(known)).map(Outcome::Denied)
}

fn places(told: &Value) -> Option<Outcome> {
    let details = told["authorization_details"].as_array()?;
    let mut found: Vec<&str> =
        details.iter().flat_map(|detail| detail["locations"].as_array()).flatten().filter_map(Value::as_str).collect();
    found.sort_unstable();
    active_in(&found)
}

fn active_in(found: &[&str]) -> Option<Outcome> {
    let known: [&'static [&'static str]; 3] = [&["A"], &["B"], &["A", "B"]];
    known.into_iter().find(|known| *known == found).map(Outcome::ActiveIn)
}

fn refused(told: &Value) -> Option<Outcome> {
    let text = told["error_description"].as_str().or(told["message"].as_str())?;
    let text = text.strip_prefix("questions[0]: ").unwrap_or(text);
    match text {
        "this caller may not ask about tokens" => Some(Outcome::MayNotAsk),
        "this caller may not ask about this workspace" => Some(Outcome::MayNotAskThere),
        _ => None,
    }
}

fn read_introspection(answer: &Answer) -> Option<Outcome> {
    let told: Value = serde_json::from_slice(&answer.body).ok()?;
    match answer.status {
        401 => Some(Outcome::Unknown),
        403 => refused(&told),
        200 if answer.body == b"{\"active\":false}" => Some(Outcome::Inactive),
        200 if told["tokenscope_decision"].is_object() => match &told["tokenscope_decision"] {
            decision if decision["allowed"] == true => Some(Outcome::Allowed),
            // A token that is denied somewhere says nothing of what it may do elsewhere.
            decision if told.get("scope").is_none_or(|scope| scope == "") => reason(decision["reason"].as_str()?),
            _ => None,
        },
        200 if told["active"] == true => places(&told),
        _ => None,
    }
}

fn read_authorization(answer: &Answer) -> Option<Outcome> {
    let challenge = answer.header("www-authenticate");
    match answer.status {
        200 => Some(Outcome::Allowed),
        401 => challenge.filter(|text| text.contains("invalid_token")).map(|_| Outcome::Inactive),
        403 => match challenge {
            Some(text) => reason(text.split("error_description=\"").nth(1)?),
            None => {
                let told: Value = serde_json::from_slice(&answer.body).ok()?;
                if told["error"] == "invalid_client" { Some(Outcome::Unknown) } else { refused(&told) }
            }
        },
        _ => None,
    }
}

fn read_api(status: u16, body: &[u8]) -> Option<Outcome> {
    let told: Value = serde_json::from_slice(body).ok()?;
    match status {
        401 => return Some(Outcome::Unknown),
        403 => return refused(&told),
        200 => {}
        _ => return None,
    }
    if let [decision] = told["decisions"].as_array().map_or(&[][..], |all| all) {
        return match (&decision["active"], &decision["allowed"]) {
            (Value::Bool(false), _) => Some(Outcome::Inactive),
            (_, Value::Bool(true)) => Some(Outcome::Allowed),
            _ => reason(decision["reason"].as_str()?),
        };
    }
    let [answer] = told["answers"].as_array().map_or(&[][..], |all| all) else { return None };
    if *answer == json!({ "active": false }) { Some(Outcome::Inactive) } else { places(answer) }
}

/// The number of every message: so that the same answer is the same bytes.
const ID: u32 = 7;

fn native(stage: &Stage, name: &str, door: Door, cells: &[(&Token, Question)]) -> Vec<Said> {
    runtime().block_on(async {
        let (certificate, key) = stage.certificate(name);
        let (_endpoint, connection) = by_hand(&stage.house, Some((&certificate, &key)), ALPN).await.unwrap();
        let said = on_a_stream(&connection, door, cells).await.unwrap();
        connection.close(0_u32.into(), b"");
        said
    })
}

/// Asks on a stream of its own, one question after the other.
async fn on_a_stream(
    connection: &Connection,
    door: Door,
    cells: &[(&Token, Question)],
) -> Result<Vec<Said>, Box<dyn std::error::Error>> {
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_all(&[STREAM_REQUESTS]).await?;
    let mut input = Vec::new();
    let mut all = Vec::new();
    // The greeting comes first and answers nothing.
    for cell in std::iter::once(None).chain(cells.iter().map(Some)) {
        if let Some((token, question)) = cell {
            send.write_all(&native_question(token, *question, door)).await?;
        }
        let mut said = Said { outcome: None, bytes: Vec::new() };
        let mut body = Vec::new();
        loop {
            if let Ok(Split::Whole(raw, length)) = decode::split(&input) {
                let more = match decode::answer(&raw).unwrap() {
                    Told::Active(token) => {
                        let place = |item| if let Item::Place(place, _) = item { Some(place) } else { None };
                        let mut found: Vec<&str> = token.items.filter_map(place).collect();
                        found.sort_unstable();
                        said.outcome = active_in(&found);
                        false
                    }
                    Told::Facts(_) => {
                        said.outcome = Some(Outcome::ActiveIn(&[]));
                        false
                    }
                    Told::Inactive { .. } => {
                        said.outcome = Some(Outcome::Inactive);
                        false
                    }
                    Told::Checked { outcome, .. } => {
                        said.outcome = match outcome {
                            Checked::Allowed => Some(Outcome::Allowed),
                            Checked::Inactive => Some(Outcome::Inactive),
                            Checked::Denied(denial) => reason(denial.as_str()),
                        };
                        false
                    }
                    Told::Error { code, .. } => {
                        said.outcome = match code {
                            ErrorCode::Forbidden => Some(Outcome::MayNotAsk),
                            ErrorCode::ForbiddenPlace => Some(Outcome::MayNotAskThere),
                            _ => None,
                        };
                        false
                    }
                    Told::Api { status, more, body: part, .. } => {
                        body.extend_from_slice(part);
                        said.outcome = if more { None } else { read_api(status, &body) };
                        more
                    }
                    _ => false,
                };
                said.bytes.extend_from_slice(&input[..length]);
                input.drain(..length);
                if more {
                    continue;
                }
                break;
            }
            let mut buffer = [0; 4096];
            let bytes = receive.read(&mut buffer).await?.ok_or("the stream ended")?;
            input.extend_from_slice(&buffer[..bytes]);
        }
        if cell.is_some() {
            all.push(said);
        }
    }
    Ok(all)
}

fn native_question(token: &Token, question: Question, door: Door) -> Vec<u8> {
    let digest = token.digest();
    let (path, body) = api_question(token, question);
    let body = body.to_string();
    let request = match (door, question) {
        (Door::Tunnel, _) => Request::Api { method: Method::Post, path, body: body.as_bytes() },
        (Door::Facts, Question::WhatAt(place)) => Request::Facts { digest, place },
        (_, Question::What) => Request::Introspect { digest, place: None },
        (_, Question::WhatAt(place)) => Request::Introspect { digest, place: Some(place) },
        (_, Question::May(place)) => Request::CheckNames { digest, scope: token.scope(), place },
    };
    let mut bytes = Vec::new();
    encode::request(&mut bytes, &Envelope { id: ID, least: None, request }).unwrap();
    bytes
}

/// Every way to be nobody, for every caller, at every door: what is told, in one text for each class.
pub fn bad_credentials(stage: &Stage) -> (usize, usize) {
    let one_of_each: Vec<&Token> = stage.tokens.iter().filter(|token| token.theirs && token.places == ["A"]).collect();
    let web = Web::new(stage.house.file.https, &stage.house.file.ca_file);
    let with = |certificate: &(std::path::PathBuf, std::path::PathBuf)| {
        let identity: (&Path, &Path) = (&certificate.0, &certificate.1);
        Web::made(stage.house.file.https, &stage.house.file.ca_file, Some(identity), &[])
    };
    let nobody = with(&stage.strangers["a certificate nobody has"]);
    let mut cells = 0;
    // By door, and whether a bearer token was shown: that has a challenge of its own (R7662-17).
    let mut classes: BTreeMap<(&str, bool), Vec<u8>> = BTreeMap::new();
    for who in &CALLERS {
        let (name, good) = (who.name, secret_of(who.name));
        let other = if name == "asks-all" { "asks-aud" } else { "asks-all" };
        let own = with(&stage.certificate(name));
        for door in [Door::Introspect, Door::Authorize, Door::Api] {
            let ways: Vec<(&str, &Web, String, bool)> = vec![
                ("nothing", &web, String::new(), false),
                ("a wrong secret", &web, door.basic(name, "guessed"), false),
                ("an empty secret", &web, door.basic(name, ""), false),
                ("a secret that is cut", &web, door.basic(name, &good[..good.len() - 1]), false),
                ("a secret with a letter more", &web, door.basic(name, &format!("{good}x")), false),
                ("a name in other letters", &web, door.basic(&name.to_uppercase(), &good), false),
                ("somebody else's secret", &web, door.basic(name, &secret_of(other)), false),
                ("nobody's name", &web, door.basic("nobody", &good), false),
                ("the hash of the secret", &web, door.basic(name, &sha256(&good)), false),
                ("no base64", &web, door.header("Basic !!!"), false),
                ("another scheme", &web, door.header("Digest username=x"), false),
                ("a wrong bearer token", &web, door.header("Bearer guessed"), true),
                ("the secret as a bearer token", &web, door.header(&format!("Bearer {good}")), true),
                ("a certificate nobody has", &nobody, String::new(), false),
                ("a certificate nobody has, and a wrong secret", &nobody, door.basic(name, "guessed"), false),
                ("its certificate, and a wrong secret", &own, door.basic(name, "guessed"), false),
                ("its certificate, and somebody else's secret", &own, door.basic(other, &secret_of(other)), false),
            ];
            for (way, web, lines, bearer) in ways {
                let questions: Vec<(&Token, Question)> = one_of_each
                    .iter()
                    .flat_map(|token| [Question::What, Question::May("A"), Question::May("B")].map(|it| (*token, it)))
                    .collect();
                let requests: Vec<String> =
                    questions.iter().map(|(token, question)| door.request(token, *question, &lines)).collect();
                for ((token, question), answer) in questions.iter().zip(pipelined(web, &requests)) {
                    let said = door.read(answer);
                    let what = format!("{} {name} with {way}: {:?} {question:?}", door.name(), token.state);
                    assert_eq!(
                        said.outcome,
                        Some(Outcome::Unknown),
                        "{what}: {}",
                        String::from_utf8_lossy(&said.bytes)
                    );
                    // The gateway's own credentials have no challenge, so no class of their own.
                    let class = (door.name(), bearer && door != Door::Authorize);
                    let first = classes.entry(class).or_insert_with(|| said.bytes.clone());
                    assert!(*first == said.bytes, "{what}: other bytes: {}", String::from_utf8_lossy(&said.bytes));
                    cells += 1;
                }
            }
        }
        // With the good ones the same doors open, so the refusals above are the credentials' doing.
        let live = one_of_each[0];
        let right = expected(who, live, Question::What);
        for door in [Door::Introspect, Door::Api] {
            for (web, lines) in [
                (&web, door.basic(name, &good)),
                (&own, String::new()),
                (&own, door.basic(name, &good)),
                (&nobody, door.basic(name, &good)),
            ] {
                let said = door.read(pipelined(web, &[door.request(live, Question::What, &lines)]).remove(0));
                assert_eq!(said.outcome, Some(right), "{} {name} {lines}", door.name());
                cells += 1;
            }
        }
    }
    cells += bad_certificates(stage, one_of_each[0]);
    (cells, classes.len())
}

fn sha256(text: &str) -> String {
    tokenscope::domain::TokenDigest::of(text.as_bytes()).to_hex()
}

/// Certificates that end in the handshake, and no certificate at the native door.
fn bad_certificates(stage: &Stage, token: &Token) -> usize {
    let mut cells = 0;
    let house = &stage.house;
    for (what, files) in &stage.strangers {
        let identity: Option<(&Path, &Path)> = Some((&files.0, &files.1));
        if *what != "a certificate nobody has" {
            for door in [Door::Introspect, Door::Authorize, Door::Api] {
                let web = Web::made(house.file.https, &house.file.ca_file, identity, &[]);
                // Not even with good credentials beside it.
                let lines = door.basic("asks-all", &secret_of("asks-all"));
                let answer = web.send(door.request(token, Question::What, &lines).as_bytes());
                assert!(answer.is_err(), "{what} at {}: {answer:?}", door.name());
                cells += 1;
            }
        }
        for door in [Door::Native, Door::Facts, Door::Tunnel] {
            assert!(runtime().block_on(stranger(stage, identity, door, token)), "{what} at {}", door.name());
            cells += 1;
        }
    }
    for door in [Door::Native, Door::Facts, Door::Tunnel] {
        assert!(runtime().block_on(stranger(stage, None, door, token)), "no certificate at {}", door.name());
        cells += 1;
    }
    cells
}

/// Whether a stranger gets nothing but a closed connection.
async fn stranger(stage: &Stage, identity: Option<(&Path, &Path)>, door: Door, token: &Token) -> bool {
    let connected: Result<(Endpoint, Connection), _> = by_hand(&stage.house, identity, ALPN).await;
    match connected {
        Err(_) => true,
        // In TLS 1.3 the client is through before the server has seen its certificate.
        Ok((_endpoint, connection)) => on_a_stream(&connection, door, &[(token, Question::WhatAt("A"))]).await.is_err(),
    }
}
