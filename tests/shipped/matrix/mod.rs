//! The authorisation matrix: who asks × how they show it × whose token × in which state × at which door.
//!
//! What each cell has to be is worked out by [`expected`], a few lines that know nothing of the service. Refusals of one
//! class have to be the same bytes, heads included, whoever gets them for whatever reason. The verbs of the admin API
//! come from the server's own table (`/openapi.json`): one that nobody thought of here fails.

mod doors;
mod verbs;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};
use tokenscope::certs::Authority;
use tokenscope::client::Client;
use tokenscope::domain::TokenDigest;

use super::house::{House, figure, now};
use super::native::{options, runtime};
use doors::{Door, Said};

/// The audience of the callers that have one, and the one that is not theirs.
const THEIRS: &str = "https://a.example";
const OTHERS: &str = "https://b.example";

/// Which part of the tokens a caller may ask about. `None`: it may not ask at all.
#[derive(Clone, Copy)]
struct Ask {
    /// Whether tokens for [`OTHERS`] are its business too.
    all_audiences: bool,
    /// Whether the workspace B is its business too.
    all_workspaces: bool,
}

/// A caller: name, what it may ask, lines of the configuration.
struct Who {
    name: &'static str,
    ask: Option<Ask>,
    rights: &'static str,
}

const fn asks(all_audiences: bool, all_workspaces: bool) -> Option<Ask> {
    Some(Ask { all_audiences, all_workspaces })
}

#[rustfmt::skip]
const CALLERS: [Who; 10] = [
    Who { name: "asks-all", ask: asks(true, true), rights: "ask = { audiences = \"all\", workspaces = \"all\" }" },
    Who { name: "asks-aud", ask: asks(false, true), rights: "ask = { audiences = [\"https://a.example\"], workspaces = \"all\" }" },
    Who { name: "asks-in-a", ask: asks(true, false), rights: "ask = { audiences = \"all\", workspaces = [\"A\"] }" },
    Who { name: "asks-aud-in-a", ask: asks(false, false), rights: "ask = { audiences = [\"https://a.example\"], workspaces = [\"A\"] }" },
    Who { name: "issues", ask: None, rights: "issue = true\nrevoke = \"anything\"" },
    Who { name: "admin-of-a", ask: None, rights: "administer = [\"A\"]" },
    Who { name: "operates", ask: None, rights: "operate = true" },
    Who { name: "defines", ask: None, rights: "define = true" },
    Who { name: "revokes-own", ask: None, rights: "revoke = { own_tokens_of = \"app\" }" },
    // A caller without any right is refused by the configuration; this is the least there is.
    Who { name: "admin-of-c", ask: None, rights: "administer = [\"C\"]" },
];

/// What became of a token before it was asked about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Live,
    Unknown,
    Malformed,
    Expired,
    Revoked,
    GrantRevoked,
    MemberGone,
    AppBlocked,
    ScopeWithdrawn,
}

const STATES: [State; 9] = [
    State::Live,
    State::Unknown,
    State::Malformed,
    State::Expired,
    State::Revoked,
    State::GrantRevoked,
    State::MemberGone,
    State::AppBlocked,
    State::ScopeWithdrawn,
];

struct Token {
    text: String,
    state: State,
    /// Whether its audience is [`THEIRS`].
    theirs: bool,
    /// Where it was granted.
    places: &'static [&'static str],
}

impl Token {
    fn digest(&self) -> TokenDigest {
        TokenDigest::of(self.text.as_bytes())
    }

    /// The scope it was granted, which is what is asked about.
    fn scope(&self) -> &'static str {
        if self.state == State::ScopeWithdrawn { "old:read" } else { "tasks:read" }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
enum Question {
    /// What is it?
    What,
    /// What is it there?
    WhatAt(&'static str),
    /// May it do its scope there?
    May(&'static str),
}

const QUESTIONS: [Question; 5] =
    [Question::What, Question::WhatAt("A"), Question::WhatAt("B"), Question::May("A"), Question::May("B")];

/// What a cell says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
enum Outcome {
    /// Active, with something at these places and no other.
    ActiveIn(&'static [&'static str]),
    Inactive,
    Allowed,
    Denied(&'static str),
    /// The caller may not ask.
    MayNotAsk,
    /// The caller may not ask there.
    MayNotAskThere,
    /// Nobody knows the caller.
    Unknown,
}

/// The rule, written a second time: everything that has to be true for a yes.
fn expected(who: &Who, token: &Token, question: Question) -> Outcome {
    let Some(ask) = who.ask else { return Outcome::MayNotAsk };
    let sees = |place: &str| ask.all_workspaces || place == "A";
    let place = match question {
        Question::What => None,
        Question::WhatAt(place) | Question::May(place) => Some(place),
    };
    if place.is_some_and(|place| !sees(place)) {
        return Outcome::MayNotAskThere;
    }
    let alive = !matches!(
        token.state,
        State::Unknown | State::Malformed | State::Expired | State::Revoked | State::GrantRevoked
    );
    if !alive || !(ask.all_audiences || token.theirs) {
        return Outcome::Inactive;
    }
    let granted = |place: &str| token.places.contains(&place);
    let works = |place: &str| token.state == State::Live && granted(place);
    if let Question::May(place) = question {
        return match token.state {
            State::ScopeWithdrawn => Outcome::Denied("scope_unknown"),
            _ if !granted(place) => Outcome::Denied("place_not_granted"),
            State::MemberGone => Outcome::Denied("not_a_member"),
            State::AppBlocked => Outcome::Denied("app_blocked"),
            _ => Outcome::Allowed,
        };
    }
    let asked = |at: &str| place.is_none_or(|place| place == at);
    match ["A", "B"].map(|at| asked(at) && sees(at) && works(at)) {
        [true, true] => Outcome::ActiveIn(&["A", "B"]),
        [true, false] => Outcome::ActiveIn(&["A"]),
        [false, true] => Outcome::ActiveIn(&["B"]),
        [false, false] => Outcome::Inactive,
    }
}

/// A server with these callers and these tokens.
struct Stage {
    house: House,
    tokens: Vec<Token>,
    /// Certificates that are none of the callers': file and key.
    strangers: BTreeMap<&'static str, (PathBuf, PathBuf)>,
}

fn secret_of(name: &str) -> String {
    format!("the secret of {name}, long enough")
}

impl Stage {
    fn new() -> Self {
        let mut more = String::new();
        for who in &CALLERS {
            let digest = TokenDigest::of(secret_of(who.name).as_bytes()).to_hex();
            let bearer = TokenDigest::of(format!("bearer of {}", who.name).as_bytes()).to_hex();
            let _ = write!(
                more,
                "\n[[caller]]\nname = \"{name}\"\ncertificate_name = \"{name}\"\nsecret_sha256 = \"{digest}\"\n\
                 bearer_sha256 = \"{bearer}\"\n{rights}\n",
                name = who.name,
                rights = who.rights
            );
        }
        let mut house = House::empty(&more);
        let mut strangers = BTreeMap::new();
        let ours = Authority::open_or_create(&house.certs, "tokenscope development CA", now()).unwrap();
        let theirs = Authority::new("somebody else", now()).unwrap();
        let long_ago = now().minus(400 * 86_400);
        for who in &CALLERS {
            ours.client(who.name, now()).unwrap().write(&house.certs, who.name).unwrap();
        }
        let files = |house: &House, name: &str| {
            (house.certs.join(format!("{name}.pem")), house.certs.join(format!("{name}.key")))
        };
        for (what, pair) in [
            ("a certificate nobody has", ours.client("nobody", now()).unwrap()),
            ("an expired certificate", ours.client("asks-all", long_ago).unwrap()),
            ("a certificate of another authority", theirs.client("asks-all", now()).unwrap()),
        ] {
            let name = what.replace(' ', "-");
            pair.write(&house.certs, &name).unwrap();
            strangers.insert(what, files(&house, &name));
        }
        house.start();
        let tokens = tell(&house);
        Self { house, tokens, strangers }
    }

    fn certificate(&self, name: &str) -> (PathBuf, PathBuf) {
        (self.house.certs.join(format!("{name}.pem")), self.house.certs.join(format!("{name}.key")))
    }
}

/// One change or report as `admin`.
async fn api(client: &Client, method: &str, path: &str, body: Value) -> Value {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let answer = client.api(method, path, &body).await.unwrap();
    let told: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(answer.status, 200, "{method} {path}: {told}");
    told
}

/// Tells the server everything the tokens need; what is in the way of some of them comes last.
fn tell(house: &House) -> Vec<Token> {
    let mut tokens = Vec::new();
    runtime().block_on(async {
        let client = Client::connect(options(house, "admin")).await.unwrap();
        for name in ["app", "other-app", "blocked"] {
            api(&client, "POST", "/v1/clients", json!({ "client": name })).await;
        }
        for name in ["tasks:read", "old:read", "spare:read"] {
            api(&client, "POST", "/v1/scopes", json!({ "scope": name })).await;
        }
        for subject in ["maria", "gone"] {
            for place in ["A", "B"] {
                api(&client, "POST", "/v1/members", json!({ "subject": subject, "place": place })).await;
            }
        }
        for state in STATES {
            for theirs in [true, false] {
                for places in [&["A"][..], &["B"], &["A", "B"]] {
                    let token = Token {
                        // A malformed one has our prefix and cannot be one of ours.
                        text: match state {
                            State::Malformed => format!("tks_{theirs}{}", places.concat()),
                            _ => format!("{state:?}-{theirs}-{}", places.concat()),
                        },
                        state,
                        theirs,
                        places,
                    };
                    if !matches!(state, State::Unknown | State::Malformed) {
                        make(&client, &token).await;
                    }
                    tokens.push(token);
                }
            }
        }
        for place in ["A", "B"] {
            api(&client, "POST", "/v1/members/remove", json!({ "subject": "gone", "place": place })).await;
            let path = format!("/v1/policies/{place}/entries");
            api(&client, "POST", &path, json!({ "client": "blocked", "entry": "block" })).await;
        }
        api(&client, "DELETE", "/v1/scopes/old:read", Value::Null).await;
        client.close().await;
    });
    tokens
}

async fn make(client: &Client, token: &Token) {
    let pairs: Vec<Value> =
        token.places.iter().map(|place| json!({ "place": place, "scopes": [token.scope()] })).collect();
    let grant = json!({
        "subject": if token.state == State::MemberGone { "gone" } else { "maria" },
        "client": if token.state == State::AppBlocked { "blocked" } else { "app" },
        "access": pairs,
        "never_expires": true,
        "audience": [if token.theirs { THEIRS } else { OTHERS }],
    });
    let grant = api(client, "POST", "/v1/grants", grant).await["grant"].clone();
    let at = now().seconds();
    let ends = if token.state == State::Expired { at - 3_600 } else { at + 86_400 };
    let new = json!({ "sha256": token.digest().to_hex(), "grant": grant, "iat": at - 7_200, "exp": ends });
    api(client, "POST", "/v1/tokens", new).await;
    match token.state {
        State::Revoked => drop(api(client, "POST", "/v1/revocations", json!({ "token": token.text })).await),
        State::GrantRevoked => drop(api(client, "POST", "/v1/revocations", json!({ "grant": grant })).await),
        _ => {}
    }
}

/// What was seen, in classes that have to be the same bytes.
#[derive(Default)]
struct Seen {
    cells: usize,
    by_door: BTreeMap<&'static str, usize>,
    yes: usize,
    classes: BTreeMap<(&'static str, Question, Outcome), Vec<u8>>,
}

impl Seen {
    fn cell(&mut self, door: Door, question: Question, expected: Outcome, said: &Said, what: &str) {
        assert_eq!(said.outcome, Some(expected), "{what}: {}", String::from_utf8_lossy(&said.bytes));
        self.cells += 1;
        *self.by_door.entry(door.name()).or_default() += 1;
        self.yes += usize::from(matches!(expected, Outcome::ActiveIn(_) | Outcome::Allowed));
        let refused =
            matches!(expected, Outcome::Inactive | Outcome::MayNotAsk | Outcome::MayNotAskThere | Outcome::Unknown);
        if !refused {
            return;
        }
        // The place that was asked about makes no difference either.
        let kind = match question {
            Question::What | Question::WhatAt(_) => Question::What,
            Question::May(_) => Question::May("A"),
        };
        let first = self.classes.entry((door.name(), kind, expected)).or_insert_with(|| said.bytes.clone());
        assert!(
            *first == said.bytes,
            "{what}: the same refusal in other bytes:\n{}\n{}",
            String::from_utf8_lossy(first),
            String::from_utf8_lossy(&said.bytes)
        );
    }
}

#[test]
fn nobody_is_told_more_than_the_matrix_gives_and_refusals_of_a_class_are_the_same_bytes() {
    let stage = Stage::new();
    let mut seen = Seen::default();
    for who in &CALLERS {
        for door in doors::ALL {
            let cells: Vec<(&Token, Question)> = stage
                .tokens
                .iter()
                .flat_map(|token| QUESTIONS.map(|question| (token, question)))
                .filter(|(_, question)| door.asks(*question))
                .collect();
            let said = door.ask(&stage, who.name, &cells);
            assert_eq!(said.len(), cells.len());
            for ((token, question), said) in cells.iter().zip(&said) {
                let what = format!("{} {} {:?} {:?}", door.name(), who.name, token.text, question);
                let expected = door.translate(*question, expected(who, token, *question), token, who);
                seen.cell(door, *question, expected, said, &what);
            }
        }
    }
    assert!(seen.yes > 300, "only {} cells say yes", seen.yes);
    let refusals = seen.classes.len();
    figure(&format!(
        "matrix: {} cells ({} say yes) of {} callers, {} tokens and {} questions at doors {:?}; {refusals} classes of \
         refusals, each one text",
        seen.cells,
        seen.yes,
        CALLERS.len(),
        stage.tokens.len(),
        QUESTIONS.len(),
        seen.by_door,
    ));
}

#[test]
fn whatever_is_wrong_with_the_credentials_nothing_is_told_and_always_in_the_same_words() {
    let stage = Stage::new();
    let (cells, classes) = doors::bad_credentials(&stage);
    figure(&format!("matrix: {cells} cells of wrong credentials, {classes} classes of refusals, each one text"));
}
