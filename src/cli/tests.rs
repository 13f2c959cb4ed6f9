use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsString;
use std::io::Cursor;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use clap::CommandFactory;
use serde_json::{Value, json};

use super::remote::Connection;
use super::rooms::{Depth, LimitRow, OfflineStore, Running, Voids};
use super::*;
use crate::domain::{Timestamp, TokenDigest};
use crate::import::Tally;

/// A call that was made: method, path, body.
type Called = (String, String, Value);

/// A server that remembers what it was asked and answers from a table by path; `{}` to anything else.
#[derive(Default, Clone)]
struct FakeServer {
    called: Rc<RefCell<Vec<Called>>>,
    answers: Rc<RefCell<HashMap<String, (u16, Value)>>>,
}

impl Api for FakeServer {
    fn call(&self, method: &str, path: &str, body: &[u8]) -> Result<(u16, Vec<u8>), Failure> {
        let body = serde_json::from_slice(body).unwrap_or(Value::Null);
        self.called.borrow_mut().push((method.into(), path.into(), body));
        let (status, answer) = self.answers.borrow().get(path).cloned().unwrap_or((200, json!({})));
        Ok((status, answer.to_string().into_bytes()))
    }
}

impl Rooms for FakeServer {
    fn connect(&self, _to: &Connection) -> Result<Box<dyn Api>, Failure> {
        Ok(Box::new(self.clone()))
    }
    fn serve(&self, config: &Path) -> Result<(), Failure> {
        Err(Failure::configuration(format!("{}: line 3, column 1: unknown key", config.display())))
    }
    fn start(&self, _config: &Path) -> Result<Box<dyn Running>, Failure> {
        Err(Failure::run_time("no server can be started here"))
    }
    fn check_config(&self, _config: &Path) -> Result<Vec<String>, Failure> {
        Ok(vec!["the certificate ends tomorrow".into()])
    }
    fn default_config(&self) -> String {
        "[server]\n".into()
    }
    fn limits(&self) -> Vec<LimitRow> {
        let [key, default, least, most] = ["message_bytes", "16KiB", "1KiB", "1MiB"].map(str::to_owned);
        vec![LimitRow { key, default, least, most, reason: "one message must fit".into() }]
    }
    fn open_for_import(&self, _config: &Path) -> Result<Box<dyn OfflineStore>, Failure> {
        Err(Failure::run_time("the data directory is in use by another process"))
    }
    fn export(&self, _config: &Path, out: &mut dyn Write) -> Result<(), Failure> {
        Ok(writeln!(out, "{{\"client\":\"a\"}}")?)
    }
    fn snapshot_create(&self, _config: &Path) -> Result<Value, Failure> {
        Ok(json!({ "tokens": 3 }))
    }
    fn snapshot_look(&self, _config: &Path, file: &Path, depth: Depth) -> Result<Value, Failure> {
        match depth {
            Depth::Header => Ok(json!({ "file": file.display().to_string(), "tokens": 3 })),
            Depth::Whole => Err(Failure::run_time("chunk 7 is damaged")),
        }
    }
    fn journal_look(&self, _config: &Path, _depth: Depth) -> Result<Value, Failure> {
        Ok(json!({ "last": 812 }))
    }
    fn new_epoch(&self, _config: &Path, voids: Voids, dry_run: bool) -> Result<Value, Failure> {
        Ok(json!({ "done": !dry_run, "voids": format!("{voids:?}") }))
    }
    fn keys_rotate(&self, _config: &Path) -> Result<Value, Failure> {
        Ok(json!({ "generation": 2, "kept": 2 }))
    }
    fn keys_show(&self, _config: &Path) -> Result<Value, Failure> {
        Ok(json!({ "generations": [{ "generation": 1, "after": "0000000000000000-0" }] }))
    }
    fn make_certificates(&self, _directory: &Path, _callers: &[&str], _now: Timestamp) -> Result<(), Failure> {
        Ok(())
    }
}

/// What a command line did.
#[derive(Debug)]
struct Ran {
    code: u8,
    out: String,
    err: String,
    called: Vec<Called>,
}

/// Runs a command line (split at blanks) against a server that gives `answers`; `typed` is standard input, and a
/// person if `person`.
fn run_with(line: &str, typed: &str, person: bool, answers: &[(&str, u16, Value)]) -> Ran {
    let server = FakeServer::default();
    for (path, status, answer) in answers {
        server.answers.borrow_mut().insert((*path).into(), (*status, answer.clone()));
    }
    let (mut stdin, mut out, mut err) = (Cursor::new(typed.as_bytes().to_vec()), Vec::new(), Vec::new());
    let env = |name: &str| {
        let known = [
            ("TOKENSCOPE_SERVER", "127.0.0.1:7662"),
            ("TOKENSCOPE_CA", "ca.pem"),
            ("TOKENSCOPE_CERT", "me.pem"),
            ("TOKENSCOPE_KEY", "me.key"),
        ];
        known.into_iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
    };
    let mut desk = Desk::new(&server, (&mut stdin, &mut out, &mut err), &env, 1_790_000_000);
    desk.can_ask = person;
    let arguments = std::iter::once("tokenscope").chain(line.split(' ')).map(OsString::from);
    let code = super::run(arguments, &mut desk);
    let called = server.called.borrow().clone();
    Ran { code, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap(), called }
}

fn run(line: &str, typed: &str) -> Ran {
    run_with(line, typed, false, &[])
}

#[test]
fn the_definition_is_sound_and_every_verb_teaches_by_example() {
    Line::command().debug_assert();
    for verb in Line::command().get_subcommands() {
        let examples = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(examples.contains("tokenscope "), "{} has no example", verb.get_name());
    }
}

#[test]
fn every_remote_verb_makes_the_call_the_api_expects() {
    let hex = TokenDigest::of(b"secret-token").to_hex();
    let day = 1_790_086_400u64;
    let cases: Vec<(&str, &str, &str, Value)> = vec![
        ("introspect", "POST", "/v1/introspect", json!({ "sha256": [hex] })),
        (
            "introspect --place 1579 --at-least r",
            "POST",
            "/v1/introspect",
            json!({ "sha256": [hex], "place": "1579", "least_revision": "r" }),
        ),
        (
            "check tasks:read 1579/4021",
            "POST",
            "/v1/check",
            json!({ "questions": [{ "sha256": hex, "scope": "tasks:read", "place": "1579/4021" }] }),
        ),
        ("explain", "POST", "/v1/explain", json!({ "sha256": hex })),
        ("explain --handle t00", "POST", "/v1/explain", json!({ "handle": "t00" })),
        ("risk client a/b", "GET", "/v1/risk/clients/a%2Fb", Value::Null),
        ("risk client a --workspace 1579", "GET", "/v1/risk/clients/a?workspace=1579", Value::Null),
        ("risk grant g17", "GET", "/v1/risk/grants/g17", Value::Null),
        ("risk token --handle t00", "GET", "/v1/risk/tokens/t00", Value::Null),
        (
            "risk preview --subject maria --client a --everywhere * --never-expires",
            "POST",
            "/v1/risk/preview",
            json!({ "subject": "maria", "client": "a", "access": [{ "everywhere": true, "scopes": ["*"] }], "never_expires": true }),
        ),
        ("list tokens --subject maria", "GET", "/v1/tokens?subject=maria&limit=100", Value::Null),
        ("list tokens --grant g1 --limit 7", "GET", "/v1/tokens?grant=g1&limit=7", Value::Null),
        ("list grants --client a&b", "GET", "/v1/grants?client=a%26b&limit=100", Value::Null),
        ("list members maria", "GET", "/v1/members/maria", Value::Null),
        ("list clients", "GET", "/v1/clients?limit=100", Value::Null),
        ("list scopes", "GET", "/v1/scopes", Value::Null),
        ("status", "GET", "/v1/status", Value::Null),
        ("keys rotate", "POST", "/v1/keys/rotate", Value::Null),
        ("revoke token", "POST", "/v1/revocations", json!({ "sha256": hex })),
        ("revoke token --handle t00", "POST", "/v1/revocations", json!({ "handle": "t00" })),
        ("revoke token --wait fenced", "POST", "/v1/revocations?wait=fenced", json!({ "sha256": hex })),
        ("client suspend a --wait fenced", "PUT", "/v1/clients/a/switch?wait=fenced", json!({ "on": false })),
        (
            "policy block 1579 a --wait fenced",
            "POST",
            "/v1/policies/1579/entries?wait=fenced",
            json!({ "client": "a", "entry": "block" }),
        ),
        ("revoke grant g17", "POST", "/v1/revocations", json!({ "grant": "g17" })),
        (
            "revoke app maria a --yes",
            "POST",
            "/v1/revocations",
            json!({ "subject_client": { "subject": "maria", "client": "a" } }),
        ),
        ("revoke subject maria --yes", "POST", "/v1/revocations", json!({ "subject": "maria" })),
        ("revoke client a --yes", "POST", "/v1/revocations", json!({ "client": "a" })),
        (
            "revoke client a --workspace 1579 --yes",
            "POST",
            "/v1/revocations",
            json!({ "workspace_client": { "workspace": "1579", "client": "a" } }),
        ),
        ("revoke client a --dry-run", "POST", "/v1/revocations?dry_run=true", json!({ "client": "a" })),
        (
            "revoke issued-before 100 --all --yes",
            "POST",
            "/v1/revocations",
            json!({ "issued_before": { "time": 100, "among": "all" } }),
        ),
        (
            "revoke issued-before 1970-01-01T00:01:40Z --client a --yes",
            "POST",
            "/v1/revocations",
            json!({ "issued_before": { "time": 100, "among": { "client": "a" } } }),
        ),
        (
            "grant make --subject maria --client a --at 1579=tasks:read,tasks:write --at 1592/1=x --expires-in 1d --audience b",
            "POST",
            "/v1/grants",
            json!({ "subject": "maria", "client": "a", "exp": day, "audience": ["b"], "access": [
                { "place": "1579", "scopes": ["tasks:read", "tasks:write"] }, { "place": "1592/1", "scopes": ["x"] }] }),
        ),
        (
            "grant extend g1 --at 1592=x",
            "POST",
            "/v1/grants/g1/extend",
            json!({ "access": [{ "place": "1592", "scopes": ["x"] }] }),
        ),
        (
            "grant narrow g1 --everywhere x",
            "POST",
            "/v1/grants/g1/narrow",
            json!({ "access": [{ "everywhere": true, "scopes": ["x"] }] }),
        ),
        ("grant show g1", "GET", "/v1/grants/g1", Value::Null),
        ("token mint --grant g1 --expires-in 24h", "POST", "/v1/tokens/mint", json!({ "grant": "g1", "exp": day })),
        (
            "token register --grant g1 --never-expires",
            "POST",
            "/v1/tokens",
            json!({ "grant": "g1", "never_expires": true, "sha256": hex }),
        ),
        (
            "token mint --grant g1 --expires-at 9 --not-before 3 --dpop-key K --at 1579=x",
            "POST",
            "/v1/tokens/mint",
            json!({ "grant": "g1", "exp": 9, "nbf": 3, "cnf": { "jkt": "K" }, "access": [{ "place": "1579", "scopes": ["x"] }] }),
        ),
        ("member add maria 1579", "POST", "/v1/members", json!({ "subject": "maria", "place": "1579" })),
        ("member remove maria 1579/1", "POST", "/v1/members/remove", json!({ "subject": "maria", "place": "1579/1" })),
        ("member list maria", "GET", "/v1/members/maria", Value::Null),
        ("policy show 1579", "GET", "/v1/policies/1579", Value::Null),
        ("policy mode 1579 approval-required", "PUT", "/v1/policies/1579/mode", json!({ "mode": "approval_required" })),
        ("policy personal 1579 off", "PUT", "/v1/policies/1579/personal_tokens", json!({ "on": false })),
        ("policy block 1579 a", "POST", "/v1/policies/1579/entries", json!({ "client": "a", "entry": "block" })),
        (
            "policy unapprove 1579 a",
            "POST",
            "/v1/policies/1579/entries",
            json!({ "client": "a", "entry": "unapprove" }),
        ),
        ("client register a", "POST", "/v1/clients", json!({ "client": "a" })),
        ("client suspend a", "PUT", "/v1/clients/a/switch", json!({ "on": false })),
        ("client resume a", "PUT", "/v1/clients/a/switch", json!({ "on": true })),
        ("subject suspend maria", "PUT", "/v1/subjects/maria/switch", json!({ "on": false })),
        ("scope list", "GET", "/v1/scopes", Value::Null),
        ("scope add x:read", "POST", "/v1/scopes", json!({ "scope": "x:read" })),
        ("scope alias y *", "POST", "/v1/scopes/aliases", json!({ "alias": "y", "of": "*" })),
        ("scope retire x:read", "DELETE", "/v1/scopes/x%3Aread", Value::Null),
    ];
    let allowed = json!({ "decisions": [{ "active": true, "allowed": true }] });
    for (line, method, path, body) in cases {
        let ran = run_with(line, "secret-token\n", false, &[("/v1/check", 200, allowed.clone())]);
        assert_eq!(ran.code, 0, "{line}: {ran:?}");
        assert_eq!(ran.called, [(method.to_owned(), path.to_owned(), body)], "{line}");
        assert!(!ran.out.contains("secret-token"), "{line}");
    }
}

#[test]
fn a_wrong_command_line_is_exit_code_2_and_calls_nothing() {
    let lines = [
        "nonsense",
        "introspect the-token-itself",
        "revoke",
        "revoke issued-before 100 --yes",
        "revoke issued-before soon --all --yes",
        "revoke issued-before 100 --all --client a --yes",
        "grant make --subject maria --client a --at 1579=x",
        "grant make --subject maria --client a --never-expires",
        "grant make --subject maria --client a --at 1579 --never-expires",
        "grant make --subject maria --client a --at 1579=x, --never-expires",
        "grant make --subject maria --client a --at 1579=x --never-expires --expires-in 1d",
        "token mint --grant g1 --expires-in 5",
        "list tokens",
        "list tokens --subject a --client b",
        "policy mode 1579 open",
        "status --dev a.json --server b:1",
        "new-epoch",
        "new-epoch --dry-run",
        "new-epoch --void-issued-before soon",
        "new-epoch --void-issued-before now --nothing-was-revoked",
    ];
    for line in lines {
        let ran = run(line, "");
        assert_eq!(ran.code, USAGE, "{line}: {ran:?}");
        assert!(ran.called.is_empty() && !ran.err.is_empty(), "{line}: {ran:?}");
    }
}

/// `grant narrow` and `scope retire` could not be told to wait, although what they take away may be held in memory
/// elsewhere as anything else.
#[test]
fn whatever_takes_rights_away_may_be_told_what_to_wait_for() {
    let may_wait = [
        ("revoke token", "/v1/revocations"),
        ("revoke grant g1", "/v1/revocations"),
        ("revoke app maria a --yes", "/v1/revocations"),
        ("revoke subject maria --yes", "/v1/revocations"),
        ("revoke client a --yes", "/v1/revocations"),
        ("revoke issued-before 100 --all --yes", "/v1/revocations"),
        ("grant narrow g1 --at 1579=x", "/v1/grants/g1/narrow"),
        ("member remove maria 1579", "/v1/members/remove"),
        ("policy mode 1579 approval-required", "/v1/policies/1579/mode"),
        ("policy personal 1579 off", "/v1/policies/1579/personal_tokens"),
        ("policy block 1579 a", "/v1/policies/1579/entries"),
        ("policy unapprove 1579 a", "/v1/policies/1579/entries"),
        ("client suspend a", "/v1/clients/a/switch"),
        ("subject suspend maria", "/v1/subjects/maria/switch"),
        ("scope retire x", "/v1/scopes/x"),
    ];
    for (line, path) in may_wait {
        for (level, query) in [("applied", ""), ("durable", "?wait=durable"), ("fenced", "?wait=fenced")] {
            let ran = run(&format!("{line} --wait {level}"), "secret-token\n");
            assert_eq!(ran.code, 0, "{line}: {ran:?}");
            assert_eq!(ran.called.last().unwrap().1, format!("{path}{query}"), "{line} --wait {level}");
        }
        let ran = run(&format!("{line} --wait soon"), "secret-token\n");
        assert_eq!((ran.code, ran.called.len()), (USAGE, 0), "{line}: {ran:?}");
    }
    // And nothing else pretends to: whoever adds a verb decides.
    let mut offered = std::collections::BTreeSet::new();
    for verb in Line::command().get_subcommands() {
        for leaf in std::iter::once(verb).chain(verb.get_subcommands()) {
            if leaf.get_arguments().any(|argument| argument.get_id() == "wait") {
                offered.insert(format!("{} {}", verb.get_name(), leaf.get_name()));
            }
        }
    }
    let listed = may_wait.iter().map(|(line, _)| line.split(' ').take(2).collect::<Vec<_>>().join(" "));
    assert_eq!(offered, listed.collect());
}

#[test]
fn a_token_is_read_whole_and_nothing_else_is_taken_for_one() {
    for (typed, token) in [("secret", "secret"), ("secret\n", "secret"), ("secret\r\n", "secret")] {
        let ran = run("introspect", typed);
        assert_eq!(ran.called[0].2, json!({ "sha256": [TokenDigest::of(token.as_bytes()).to_hex()] }), "{typed:?}");
    }
    let long = "x".repeat(5_000);
    for typed in ["", "\n", "two\ntokens\n", "with blank", " leading", &long] {
        let ran = run("introspect", typed);
        assert_eq!((ran.code, ran.called.len()), (USAGE, 0), "{typed:?}");
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "secret\n").unwrap();
    let ran = run(&format!("introspect --token-file {}", file.display()), "another");
    assert_eq!(ran.called[0].2, json!({ "sha256": [TokenDigest::of(b"secret").to_hex()] }));
    assert_eq!(run("introspect --token-file /nowhere/at/all", "").code, RUN_TIME);
}

#[test]
fn a_wide_revocation_counts_asks_and_without_a_person_needs_yes() {
    let toll = [("/v1/revocations?dry_run=true", 200, json!({ "grants": 2, "tokens": 1234 }))];
    let alone = run_with("revoke client a", "", false, &toll);
    assert_eq!((alone.code, alone.called.len()), (USAGE, 0), "{alone:?}");
    for (reply, code, calls) in [("yes\n", 0, 2), ("y\n", RUN_TIME, 1), ("", RUN_TIME, 1), ("no\n", RUN_TIME, 1)] {
        let ran = run_with("revoke client a", reply, true, &toll);
        assert_eq!((ran.code, ran.called.len()), (code, calls), "{reply:?}: {ran:?}");
        assert!(ran.err.contains("2 live grants, 1,234 active tokens"), "{ran:?}");
    }
    let dry = run_with("revoke client a --dry-run", "", false, &toll);
    assert_eq!((dry.code, dry.called.len()), (0, 1));
    assert!(dry.out.contains("would revoke everything anybody granted to a: 2 live grants"), "{dry:?}");
    let sure = run_with("revoke client a --yes", "", false, &toll);
    assert_eq!((sure.code, sure.called.len()), (0, 1));
}

#[test]
fn answers_are_tables_for_people_and_json_for_machines() {
    let token = json!({ "active": true, "sub": "maria", "client_id": "time-tracker", "scope": "tasks:read", "iat": 0,
        "exp": 1_790_000_000, "jti": "t00", "token_type": "Bearer",
        "authorization_details": [{ "locations": ["1579", "1592"], "actions": ["tasks:read"] }] });
    let answers = [("/v1/introspect", 200, json!({ "answers": [token.clone()] }))];
    let people = run_with("introspect", "t", false, &answers).out;
    for part in ["active", "maria", "time-tracker", "2026-09-21T", "at 1579 1592: tasks:read"] {
        assert!(people.contains(part), "{part}: {people}");
    }
    let machines = run_with("introspect --json", "t", false, &answers).out;
    assert_eq!(serde_json::from_str::<Value>(&machines).unwrap(), token);
    let gone = [("/v1/introspect", 200, json!({ "answers": [{ "active": false }] }))];
    assert_eq!(run_with("introspect", "t", false, &gone).out, "inactive\n");

    let rows = json!({ "total": 3, "tokens": [
        { "handle": "t1", "active": true, "grant": "g1", "subject": "maria", "client": "a", "never_expires": true },
        { "handle": "t2", "active": false, "why_not": "token_revoked", "grant": "g1", "subject": "maria", "client": "a", "exp": 0 }] });
    let list = run_with("list tokens --subject maria", "", false, &[("/v1/tokens?subject=maria&limit=100", 200, rows)]);
    assert_eq!(
        list.out,
        "HANDLE  ACTIVE             GRANT  SUBJECT  CLIENT  EXPIRES               LAST USED\n\
         t1      yes                g1     maria    a       never\n\
         t2      no, token revoked  g1     maria    a       1970-01-01T00:00:00Z\n\
         2 of 3; raise --limit to see more\n"
    );
}

#[test]
fn everything_is_one_word_for_people_and_every_name_for_machines() {
    let grants = json!({ "grants": [{ "grant": "g1", "alive": true, "never_expires": true,
        "access": [{ "everywhere": true, "scopes": ["*", "tasks:read", "tasks:write"] }] }] });
    let answers = [("/v1/grants/g1", 200, grants)];
    let people = run_with("grant show g1", "", false, &answers).out;
    assert!(people.contains("everywhere: * (everything)  never") && !people.contains("tasks:read"), "{people}");
    assert!(run_with("grant show g1 --json", "", false, &answers).out.contains("tasks:write"));
}

#[test]
fn a_check_says_why_not_and_its_exit_code_is_the_verdict() {
    let cases = [
        (json!({ "active": true, "allowed": true }), 0, "allowed\n"),
        (json!({ "active": false }), RUN_TIME, "inactive\n"),
        (
            json!({ "active": true, "allowed": false, "reason": "not_a_member", "explanation": "the user is not a member" }),
            RUN_TIME,
            "denied: the user is not a member (not_a_member)\n",
        ),
    ];
    for (decision, code, text) in cases {
        let answers = [("/v1/check", 200, json!({ "decisions": [decision] }))];
        let ran = run_with("check tasks:read 1579", "t", false, &answers);
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (code, text, ""));
    }
    let down = [("/v1/check", 503, json!({ "error": "behind", "message": "not reached" }))];
    let ran = run_with("check tasks:read 1579", "t", false, &down);
    assert_eq!((ran.code, ran.out.as_str()), (RUN_TIME, ""), "no verdict is not printed as one");
    assert!(ran.err.contains("behind (503): not reached"));
}

#[test]
fn what_a_server_says_cannot_move_the_cursor() {
    let answers = [("/v1/clients?limit=100", 200, json!({ "clients": [{ "client": "a\u{1b}[2J", "on": true }] }))];
    assert!(!run_with("list clients", "", false, &answers).out.contains('\u{1b}'));
}

#[test]
fn failures_have_their_exit_codes() {
    for (line, code, part) in [
        ("serve --config a.toml", CONFIGURATION, "a.toml: line 3, column 1"),
        ("snapshot verify x", RUN_TIME, "chunk 7"),
        ("import x", RUN_TIME, "in use"),
        ("export --output /nowhere/at/all", RUN_TIME, "/nowhere/at/all"),
    ] {
        let ran = run(line, "");
        assert_eq!(ran.code, code, "{line}");
        assert!(ran.err.starts_with("tokenscope: ") && ran.err.contains(part), "{line}: {}", ran.err);
    }
    for (line, part) in [
        ("version", "tokenscope 0."),
        ("version --json", "\"version\""),
        ("check-config", "warning: the certificate ends tomorrow"),
        ("config print-default", "[server]"),
        ("config limits", "message_bytes"),
        ("snapshot inspect x", "tokens"),
        ("journal verify", "812"),
        ("export", "{\"client\":\"a\"}"),
        ("completions bash", "_tokenscope"),
        ("--help", "Examples:"),
    ] {
        let ran = run(line, "");
        assert_eq!(ran.code, 0, "{line}: {ran:?}");
        assert!(ran.out.contains(part), "{line}: {}", ran.out);
    }
}

#[test]
fn options_win_over_variables_and_what_is_missing_is_named() {
    let dev = |name: &str| (name == "TOKENSCOPE_DEV").then(|| OsString::from("/nowhere/dev.json"));
    let reach = |line: &str| {
        let arguments = ["tokenscope", "status"].into_iter().chain(line.split(' ').filter(|word| !word.is_empty()));
        Line::try_parse_from(arguments).unwrap().reach
    };
    let error = reach("").resolve(&dev).unwrap_err();
    assert!(error.message.contains("/nowhere/dev.json"), "{error:?}");
    let error = reach("").resolve(&|_| None).unwrap_err();
    assert_eq!(error.code, USAGE);
    assert!(error.message.contains("--dev FILE"));
    let by_hand = reach("--server [::1]:7662 --ca a --cert b --key c").resolve(&dev).unwrap();
    assert_eq!((by_hand.addresses[0].port(), by_hand.server_name.as_str()), (7662, "::1"));
    let error = reach("--server 127.0.0.1:1 --ca a").resolve(&dev).unwrap_err();
    assert!(error.message.starts_with("no --cert"), "{error:?}");
}

#[test]
fn words_are_read_strictly() {
    for (text, seconds) in [("90s", 90), ("15m", 900), ("12h", 43_200), ("30d", 2_592_000), ("0s", 0)] {
        assert_eq!(words::duration(text), Ok(seconds), "{text}");
    }
    for text in ["", "s", "5", "-5s", "1.5h", "1w", "99999999999999999999d", "213503982334602d", "1é"] {
        assert!(words::duration(text).is_err(), "{text}");
    }
    assert_eq!(words::moment("2026-09-21T13:33:20Z"), Ok(1_789_997_600));
    assert!(words::moment("1960-01-01T00:00:00Z").is_err());
    assert!(words::moment("yesterday").is_err());
    assert_eq!(words::moment_or_now("now"), Ok(words::MomentOrNow::Now));
    assert_eq!(words::moment_or_now("100"), Ok(words::MomentOrNow::Moment(100)));
    assert_eq!(words::moment_or_now("Now").unwrap_err().matches("now").count(), 1);
}

#[test]
fn numbers_and_durations_are_readable() {
    for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (27_772_909, "27,772,909")] {
        assert_eq!(show::count(number), text);
    }
    for (seconds, text) in [(0, "0s"), (59, "59s"), (3_600, "1h"), (90_061, "1d 1h"), (3_661, "1h 1m")] {
        assert_eq!(show::duration(seconds), text);
    }
    let tally = Tally { lines: 500, skipped: 100, ..Tally::default() };
    assert_eq!(
        progress::line("import", 1_000, &tally, Duration::from_secs(2)),
        "import: 500 of 1,000 lines (50 %), 200 lines/s"
    );
}

#[test]
fn answers_over_http_are_read_within_bounds() {
    let read = |text: &str| https_client::read(&mut Cursor::new(text.as_bytes().to_vec()));
    let (answer, keep) = read("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A:  b \r\n\r\nhello").unwrap();
    assert_eq!((answer.status, answer.text().as_str(), answer.header("x-a"), keep), (200, "hello", Some("b"), true));
    let (answer, _) =
        read("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n").unwrap();
    assert_eq!(answer.text(), "hello");
    let (answer, keep) = read("HTTP/1.1 401 \r\nConnection: close\r\n\r\nto the end").unwrap();
    assert_eq!((answer.status, answer.text().as_str(), keep), (401, "to the end", false));
    let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(100_000));
    for text in [
        "",
        "HTTP/2 200\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhello",
        &endless,
    ] {
        assert!(read(text).is_err(), "{}", &text[..text.len().min(60)]);
    }
    // RFC 7617, section 2.
    assert_eq!(https_client::basic("Aladdin", "open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
}
