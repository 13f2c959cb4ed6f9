//! The steps: rows S1 to S12 through both doors, a kill in the middle, and the same answers after it.

use std::collections::HashMap;
use std::io::Write;
use std::time::Instant;

use serde_json::{Value, json};

use super::record::{Record, Step};
use super::stage::Stage;
use crate::cli::remote::{Api, part};
use crate::cli::{Failure, show};
use crate::domain::{Expiry, Timestamp, TokenDigest};
use crate::import::line::{Line, TokenName};
use crate::samples::{story, world::World};

/// The whole of what anybody learns of an inactive token.
const INACTIVE: &str = r#"{"active":false}"#;
/// Sample tokens whose answers are compared before and after the kill.
pub(super) const COMPARED: usize = 1_000;
/// Digests in one request; the API takes 256.
const BATCH: usize = 250;
/// Compared tokens live at least so much longer, in seconds, than the kill, that none expires until the last answer.
const LIVES_ON_SECONDS: u32 = 900;

/// What a step gives: the answer in words.
type Got = Result<String, Failure>;

struct Play<'p> {
    stage: &'p mut dyn Stage,
    record: &'p mut Record,
    out: &'p mut dyn Write,
    tokens: HashMap<&'static str, String>,
    row: &'static str,
}

/// Plays everything, in the world of so many `tokens` as it was `now`, when the demo `began`.
pub(super) fn all(
    stage: &mut dyn Stage,
    record: &mut Record,
    out: &mut dyn Write,
    seed: u64,
    (tokens, now, began): (u64, Timestamp, Instant),
    compared: usize,
) -> Result<(), Failure> {
    let named = story::samples(seed).into_iter().map(|sample| (sample.name, sample.token)).collect();
    let mut play = Play { stage, record, out, tokens: named, row: "" };
    play.what_and_where()?;
    play.short_lived()?;
    play.personal()?;
    play.revoke_an_app()?;
    play.allow_list()?;
    play.membership()?;
    play.tell_the_integrator()?;
    play.risk()?;
    play.separate_rights()?;
    play.everything()?;
    play.kill(&Crowd::of(seed, tokens, now, began, compared))
}

/// Sample tokens of the world, and which of them belong to its largest app.
struct Crowd {
    digests: Vec<String>,
    of_largest: Vec<bool>,
    largest: String,
}

impl Crowd {
    /// Of the world as it was made for `now`, when the demo began: since then, `began`, tokens have ended.
    fn of(seed: u64, tokens: u64, now: Timestamp, began: Instant, compared: usize) -> Self {
        let played = u32::try_from(began.elapsed().as_secs()).unwrap_or(u32::MAX);
        let lived_until = now.plus(played).plus(LIVES_ON_SECONDS);
        let largest = World::client(0);
        let (mut digests, mut of_largest, mut clients) = (Vec::new(), Vec::new(), HashMap::new());
        for line in World::new(seed, tokens, now) {
            match line {
                Line::Grant(grant) => drop(clients.insert(grant.label, grant.client.as_str() == largest)),
                Line::Token(token) => {
                    let lives = match token.times.expiry {
                        Expiry::Never => true,
                        Expiry::At(end) => end > lived_until,
                    };
                    if let (TokenName::Digest(digest), true) = (token.name, lives) {
                        digests.push(digest.to_hex());
                        of_largest.push(clients.get(&token.grant).copied().unwrap_or_default());
                    }
                }
                _ => {}
            }
            if digests.len() == compared {
                break;
            }
        }
        Self { digests, of_largest, largest }
    }
}

/// The server's refusal as a word, or `done`.
fn refusal(answer: Result<(u16, Vec<u8>), Failure>) -> Got {
    let (status, body) = answer?;
    if (200..300).contains(&status) {
        return Ok("done".into());
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    Ok(format!("{status} {}", show::text(&body, "error")))
}

impl Play<'_> {
    fn step(
        &mut self,
        story: &str,
        ask: impl Into<String>,
        expected: impl Into<String>,
        run: impl FnOnce(&mut dyn Stage) -> Got,
    ) -> Result<(), Failure> {
        let began = Instant::now();
        let got = run(self.stage).unwrap_or_else(|failure| format!("no answer: {}", failure.message));
        let took = began.elapsed();
        let step = Step { row: self.row, story: story.into(), ask: ask.into(), expected: expected.into(), got, took };
        self.record.take(step, self.out)
    }

    fn token(&self, name: &str) -> String {
        self.tokens.get(name).cloned().unwrap_or_default()
    }

    /// A check through the native door.
    fn check(&mut self, story: &str, name: &str, (scope, place): (&str, &str), expected: &str) -> Result<(), Failure> {
        let digest = TokenDigest::of(self.token(name).as_bytes());
        let ask = format!("quic  check {name}: {scope} at {place}");
        let (scope, place) = (scope.to_owned(), place.to_owned());
        self.step(story, ask, expected, move |stage| {
            crate::cli::check_word(stage.native("api")?, &digest, &scope, &place)
        })
    }

    /// RFC 7662 through the HTTPS door; `sum` puts an active answer into words.
    fn introspect(
        &mut self,
        story: &str,
        name: &str,
        expected: &str,
        sum: impl FnOnce(&Value) -> String,
    ) -> Result<(), Failure> {
        let token = self.token(name);
        self.step(story, format!("https POST /introspect token={name}"), expected, move |stage| {
            let answer = stage.form("api", "/introspect", &[("token", &token)])?;
            let text = answer.text();
            if answer.status != 200 {
                return Ok(format!("{} {text}", answer.status));
            }
            if text == INACTIVE {
                return Ok(text);
            }
            Ok(sum(&serde_json::from_str(&text).unwrap_or_default()))
        })
    }

    fn inactive(&mut self, story: &str, name: &str) -> Result<(), Failure> {
        self.introspect(story, name, INACTIVE, |answer| answer.to_string())
    }

    /// A change through the native door, as `caller`; expects `expected` of it ("done", or a status and a word).
    fn change(
        &mut self,
        story: &str,
        caller: &str,
        (method, path, body): (&str, &str, &Value),
        expected: &str,
    ) -> Result<(), Failure> {
        let text = body.to_string();
        let ask = format!("quic  as {caller}: {method} {path} {text}");
        self.step(story, ask, expected, move |stage| refusal(stage.native(caller)?.call(method, path, text.as_bytes())))
    }

    fn what_and_where(&mut self) -> Result<(), Failure> {
        self.row = "S1";
        self.check("the app may read tasks", "maria-time", ("tasks:read", "1579"), "allowed")?;
        self.check("but not write them", "maria-time", ("tasks:write", "1579"), "scope_not_granted")?;
        self.check("a near-miss is unknown, not close enough", "maria-time", ("tasks:raed", "1579"), "scope_unknown")?;
        self.introspect("the same token at the other door", "maria-time", "active, maria, time-tracker", |answer| {
            format!("active, {}, {}", show::text(answer, "sub"), show::text(answer, "client_id"))
        })?;
        self.row = "S2";
        self.check("maria is in 1592 too, the app is not", "maria-time", ("tasks:read", "1592"), "place_not_granted")?;
        self.check("unless she gave it all her workspaces", "maria-calendar", ("tasks:read", "1592"), "allowed")?;
        self.check("pairs: read in one workspace", "maria-mail", ("tasks:read", "1579"), "allowed")?;
        self.check("and write in the other", "maria-mail", ("tasks:write", "1592"), "allowed")?;
        self.check("is not write in both", "maria-mail", ("tasks:write", "1579"), "scope_not_granted")?;
        self.row = "S3";
        self.check("one project", "jonas-report", ("tasks:read", "1579/4021"), "allowed")?;
        self.check("not its neighbour", "jonas-report", ("tasks:read", "1579/4022"), "place_not_granted")?;
        self.check("not the workspace around it", "jonas-report", ("tasks:read", "1579"), "place_not_granted")?;
        self.check("a workspace covers its projects", "maria-time", ("tasks:read", "1579/4022"), "allowed")
    }

    fn short_lived(&mut self) -> Result<(), Failure> {
        self.row = "S4";
        let access = json!([{ "place": "1579", "scopes": ["tasks:read"] }]);
        let grant =
            |client: &str| json!({ "subject": "maria", "client": client, "access": access, "never_expires": true });
        let stranger = grant("never-registered");
        self.change("no grant without a registered app", "issuer", ("POST", "/v1/grants", &stranger), "404 not_found")?;
        let mut made = String::new();
        let request = grant("time-tracker");
        self.step(
            "maria lets the app in",
            format!("quic  as issuer: POST /v1/grants {request}"),
            "a grant",
            |stage| {
                let answer = stage.native("issuer")?.post("/v1/grants", &request)?;
                made = show::text(&answer, "grant");
                Ok(if made.starts_with('g') { "a grant".into() } else { answer.to_string() })
            },
        )?;
        for name in ["hour-1", "hour-2"] {
            let mut minted = String::new();
            let story = if name == "hour-1" { "a token for an hour" } else { "refreshed: another, of the same grant" };
            self.step(story, format!("quic  as issuer: POST /v1/tokens/mint grant={made}"), "a token", |stage| {
                let end = unix_now() + 3_600;
                let request = json!({ "grant": made, "exp": end });
                minted = show::text(&stage.native("issuer")?.post("/v1/tokens/mint", &request)?, "token");
                Ok(if minted.starts_with("tks_") { "a token".into() } else { "no token".into() })
            })?;
            self.tokens.insert(name, minted);
        }
        self.introspect("it says when it ends", "hour-2", "active, ends within the hour", |answer| {
            let left = answer["exp"].as_u64().unwrap_or_default().saturating_sub(unix_now());
            if (3_000..=3_600).contains(&left) { "active, ends within the hour".into() } else { answer.to_string() }
        })?;
        self.introspect(
            "sender-binding is kept and shown",
            "jonas-bound",
            "active, bound to a certificate",
            |answer| {
                if answer["cnf"]["x5t#S256"].is_string() {
                    "active, bound to a certificate".into()
                } else {
                    answer.to_string()
                }
            },
        )?;
        self.inactive("an expired one is inactive, and nothing more is said", "maria-expired")
    }

    fn personal(&mut self) -> Result<(), Failure> {
        self.row = "S5";
        self.check("a script may write in its workspace", "maria-personal", ("tasks:write", "1592"), "allowed")?;
        self.check("no other is at risk", "maria-personal", ("tasks:write", "1579"), "place_not_granted")?;
        let path = "/v1/policies/1592/personal_tokens";
        let (off, on) = (json!({ "on": false }), json!({ "on": true }));
        self.change("the manager keeps personal tokens out", "manager-1592", ("PUT", path, &off), "done")?;
        self.check("at once", "maria-personal", ("tasks:write", "1592"), "personal_tokens_off")?;
        self.change("and lets them in again", "manager-1592", ("PUT", path, &on), "done")?;
        self.check("as before", "maria-personal", ("tasks:write", "1592"), "allowed")
    }

    fn revoke_an_app(&mut self) -> Result<(), Failure> {
        self.row = "S6";
        let target = json!({ "subject_client": { "subject": "maria", "client": "time-tracker" } });
        let ask = format!("quic  as issuer: POST /v1/revocations?dry_run=true {target}");
        self.step("how much would it hit?", ask, "2 grants, 3 tokens", |stage| {
            let toll = stage.native("issuer")?.post("/v1/revocations?dry_run=true", &target)?;
            Ok(format!("{} grants, {} tokens", toll["grants"], toll["tokens"]))
        })?;
        self.change("maria revokes the app: one change", "issuer", ("POST", "/v1/revocations", &target), "done")?;
        for name in ["maria-time", "hour-1", "hour-2"] {
            self.inactive("every token of it is dead", name)?;
        }
        self.check("at the other door too", "maria-time", ("tasks:read", "1579"), "inactive")?;
        self.check("her other apps go on", "maria-calendar", ("tasks:read", "1579"), "allowed")?;
        self.check("so do others with the same app", "jonas-time", ("tasks:read", "1579"), "allowed")?;
        let token = self.token("jonas-time");
        let ask = "https POST /revoke token=jonas-time, as the app itself (RFC 7009)";
        self.step("the app hands its own token back", ask, "200", move |stage| {
            Ok(stage.form("time-tracker", "/revoke", &[("token", &token)])?.status.to_string())
        })?;
        self.inactive("and it is dead", "jonas-time")
    }

    fn allow_list(&mut self) -> Result<(), Failure> {
        self.row = "S7";
        let (mode, entries) = ("/v1/policies/1579/mode", "/v1/policies/1579/entries");
        let entry = |client: &str, entry: &str| json!({ "client": client, "entry": entry });
        let who = "manager-1579";
        let report = ("tasks:read", "1579/4021");
        let required = json!({ "mode": "approval_required" });
        self.change("only approved apps from now on", who, ("PUT", mode, &required), "done")?;
        self.check("this one is not, for any member", "jonas-report", report, "app_not_approved")?;
        self.check("other workspaces do not notice", "maria-mail", ("tasks:write", "1592"), "allowed")?;
        self.change("approve it", who, ("POST", entries, &entry("reporting", "approve")), "done")?;
        self.check("it is back", "jonas-report", report, "allowed")?;
        self.change("let all in again", who, ("PUT", mode, &json!({ "mode": "allow_all" })), "done")?;
        self.change("block one app", who, ("POST", entries, &entry("reporting", "block")), "done")?;
        self.check("blocked, at once", "jonas-report", report, "app_blocked")?;
        self.change("unblock", who, ("POST", entries, &entry("reporting", "unblock")), "done")?;
        self.check("exactly what was there", "jonas-report", report, "allowed")?;
        self.change("block another, for good", who, ("POST", entries, &entry("mail-importer", "block")), "done")?;
        self.check("blocked", "maria-mail", ("tasks:read", "1579"), "app_blocked")
    }

    fn membership(&mut self) -> Result<(), Failure> {
        self.row = "S8";
        let jonas = json!({ "subject": "jonas", "place": "1579" });
        let who = "manager-1579";
        let report = ("tasks:read", "1579/4021");
        self.check("a guest: its project", "lee-report", report, "allowed")?;
        self.check("and nothing else", "lee-report", ("tasks:read", "1579/4022"), "not_a_member")?;
        self.change("jonas leaves", who, ("POST", "/v1/members/remove", &jonas), "done")?;
        self.check("with him go his apps", "jonas-report", report, "not_a_member")?;
        self.change("he comes back", who, ("POST", "/v1/members", &jonas), "done")?;
        self.check("old grants do not", "jonas-report", report, "granted_before_leaving")
    }

    fn tell_the_integrator(&mut self) -> Result<(), Failure> {
        self.row = "S9";
        let token = self.token("maria-calendar");
        let ask = "https GET /authorize maria-calendar: tasks:write at 1579";
        self.step(
            "the gateway's answer names the missing scope",
            ask,
            "403 insufficient_scope tasks:write",
            |stage| {
                let answer = stage.authorize(&token, "tasks:write", "1579")?;
                let challenge = answer.header("www-authenticate").unwrap_or_default();
                let has = |text: &str| challenge.contains(text);
                let named = has("error=\"insufficient_scope\"") && has("scope=\"tasks:write\"");
                let words = if named { "insufficient_scope tasks:write" } else { challenge };
                Ok(format!("{} {words}", answer.status))
            },
        )?;
        self.step(
            "what is allowed passes",
            "https GET /authorize maria-calendar: tasks:read at 1579",
            "200",
            |stage| Ok(stage.authorize(&token, "tasks:read", "1579")?.status.to_string()),
        )?;
        let dead = self.token("maria-time");
        let ask = "https GET /authorize maria-time: tasks:read at 1579";
        self.step("a dead token is told apart from a lack of rights", ask, "401 invalid_token", move |stage| {
            let answer = stage.authorize(&dead, "tasks:read", "1579")?;
            let named =
                answer.header("www-authenticate").is_some_and(|value| value.contains("error=\"invalid_token\""));
            Ok(format!("{} {}", answer.status, if named { "invalid_token" } else { "without a reason" }))
        })?;
        let ask = "https POST /introspect token=maria-mail tokenscope_scope=tasks:read tokenscope_place=1579";
        let mail = self.token("maria-mail");
        self.step("or asked with the introspection itself", ask, "app_blocked", move |stage| {
            let form = [("token", mail.as_str()), ("tokenscope_scope", "tasks:read"), ("tokenscope_place", "1579")];
            let answer: Value =
                serde_json::from_str(&stage.form("api", "/introspect", &form)?.text()).unwrap_or_default();
            Ok(show::text(&answer["tokenscope_decision"], "reason"))
        })
    }

    fn risk(&mut self) -> Result<(), Failure> {
        self.row = "S10";
        let preview = |scopes: &str, everywhere: bool| {
            let mut pair = json!({ "scopes": [scopes] });
            if everywhere {
                pair["everywhere"] = true.into();
            } else {
                pair["place"] = "1579".into();
            }
            let mut request = json!({ "subject": "maria", "client": "calendar", "access": [pair] });
            if everywhere {
                request["never_expires"] = true.into();
            } else {
                request["exp"] = (unix_now() + 3_600).into();
            }
            request
        };
        for (story, request, expected) in [
            ("before granting: everything, everywhere, for ever", preview("*", true), "critical"),
            ("before granting: reading in one place for an hour", preview("tasks:read", false), "low"),
        ] {
            let ask = format!("quic  as operator: POST /v1/risk/preview {request}");
            self.step(story, ask, expected, |stage| {
                Ok(show::text(&stage.native("operator")?.post("/v1/risk/preview", &request)?, "rating"))
            })?;
        }
        let ask = "quic  as operator: GET /v1/risk/clients/legacy-sync";
        self.step("an app that is in use", ask, "critical, wildcard yes, 2 workspaces", |stage| {
            let report = stage.native("operator")?.get("/v1/risk/clients/legacy-sync")?;
            let workspaces = report["workspaces"].as_array().map_or(0, Vec::len);
            let (rating, wildcard) = (show::text(&report, "rating"), show::text(&report, "wildcard"));
            Ok(format!("{rating}, wildcard {wildcard}, {workspaces} workspaces"))
        })
    }

    fn separate_rights(&mut self) -> Result<(), Failure> {
        self.row = "S11";
        let scope = json!({ "scope": "tasks:archive" });
        let mode = json!({ "mode": "allow_all" });
        let lee = json!({ "subject": "lee", "place": "1579" });
        self.change("a manager defines no scopes", "manager-1579", ("POST", "/v1/scopes", &scope), "403 forbidden")?;
        let other = ("PUT", "/v1/policies/1592/mode", &mode);
        self.change("nor rules another workspace", "manager-1579", other, "403 forbidden")?;
        self.change("the owner defines a scope", "owner", ("POST", "/v1/scopes", &scope), "done")?;
        self.change("but lets nobody in", "owner", ("POST", "/v1/members", &lee), "403 forbidden")?;
        let revoke = json!({ "client": "calendar" });
        self.change("an API server only asks", "api", ("POST", "/v1/revocations", &revoke), "403 forbidden")?;
        self.change("no selector is never everything", "issuer", ("POST", "/v1/revocations", &json!({})), "400 invalid")
    }

    fn everything(&mut self) -> Result<(), Failure> {
        self.row = "S12";
        self.check("the old default may do all", "maria-legacy", ("tasks:delete", "1579"), "allowed")?;
        self.check("a scope added a moment ago too", "maria-legacy", ("tasks:archive", "1592"), "allowed")?;
        self.check("a list of scopes does not grow", "maria-calendar", ("tasks:archive", "1592"), "scope_not_granted")?;
        self.check("where maria is no member, nothing", "maria-legacy", ("tasks:read", "1601"), "not_a_member")
    }

    /// The answers about the crowd, in words that time and revision do not change.
    fn answers(stage: &mut dyn Stage, crowd: &Crowd) -> Result<Vec<String>, Failure> {
        let api: &dyn Api = stage.native("operator")?;
        let mut answers = Vec::with_capacity(crowd.digests.len());
        for batch in crowd.digests.chunks(BATCH) {
            let answer = api.post("/v1/introspect", &json!({ "sha256": batch }))?;
            for mut one in answer["answers"].as_array().cloned().unwrap_or_default() {
                if let Some(members) = one.as_object_mut() {
                    members.remove("tokenscope_revision");
                }
                answers.push(one.to_string());
            }
        }
        Ok(answers)
    }

    fn kill(&mut self, crowd: &Crowd) -> Result<(), Failure> {
        self.row = "kill";
        let target = json!({ "client": crowd.largest });
        let half = crowd.of_largest.iter().filter(|of_largest| **of_largest).count() * 2 >= crowd.digests.len();
        let ask = format!("quic  as issuer: POST /v1/revocations?dry_run=true {target}");
        self.step("the largest app has more than half of the tokens", ask, "more than half", |stage| {
            let toll = stage.native("issuer")?.post("/v1/revocations?dry_run=true", &target)?;
            let words = if half && toll["tokens"].as_u64() > Some(0) { "more than half" } else { "less" };
            Ok(words.into())
        })?;
        self.change("revoke it: one change, whatever it hits", "issuer", ("POST", "/v1/revocations", &target), "done")?;
        let mut before = Vec::new();
        let count = crowd.digests.len();
        let ask = format!("quic  POST /v1/introspect, {count} sample tokens");
        self.step("note what is said of a sample of the crowd", ask, format!("{count} answers"), |stage| {
            before = Self::answers(stage, crowd)?;
            Ok(format!("{} answers", before.len()))
        })?;
        let dead = |answers: &[String]| {
            let of_largest = answers.iter().zip(&crowd.of_largest).filter(|(_, of_largest)| **of_largest);
            of_largest.filter(|(answer, _)| *answer != INACTIVE).count().to_string()
        };
        self.step("none of its tokens in the sample is alive", "count them", "0", |_| Ok(dead(&before)))?;
        // The story's grants come first in the import, so they have the first numbers.
        let place = story::samples(0).iter().position(|sample| sample.name == "maria-legacy").unwrap_or_default();
        let last = json!({ "grant": format!("g{}", place + 1) });
        self.change("one more revocation, acknowledged", "issuer", ("POST", "/v1/revocations", &last), "done")?;
        self.step("kill it at that very moment", "kill -KILL", "dead", |stage| {
            stage.kill()?;
            Ok("dead".into())
        })?;
        let started = Instant::now();
        self.step("start it again", "tokenscope serve", "ready", |stage| {
            stage.restart()?;
            Ok("ready".into())
        })?;
        self.record.remark(&self.stage.state(), self.out)?;
        self.inactive("the last revocation held", "maria-legacy")?;
        let first = started.elapsed().as_secs_f64() * 1e3;
        self.record.remark(&format!("the first answer, {first:.0} ms after the start of the process"), self.out)?;
        self.inactive("the app maria revoked stays revoked", "maria-time")?;
        self.inactive("so does the token that was handed back", "jonas-time")?;
        self.check("the blocked app is blocked", "maria-mail", ("tasks:read", "1579"), "app_blocked")?;
        self.check("old grants stay dead", "jonas-report", ("tasks:read", "1579/4021"), "granted_before_leaving")?;
        self.check("what was good is good", "maria-calendar", ("tasks:read", "1592"), "allowed")?;
        self.check("the new scope is known", "maria-calendar", ("tasks:archive", "1592"), "scope_not_granted")?;
        let mut after = Vec::new();
        let ask = format!("quic  POST /v1/introspect, {count} sample tokens");
        self.step("the same is said of the crowd", ask, format!("{count} of {count} the same"), |stage| {
            after = Self::answers(stage, crowd)?;
            let same = before.iter().zip(&after).filter(|(before, after)| before == after).count();
            Ok(format!("{same} of {count} the same"))
        })?;
        let path = format!("/v1/grants?client={}&limit=1", part("calendar"));
        self.step("the lists are back too", format!("quic  as operator: GET {path}"), "calendar, 1 grant", |stage| {
            let answer = stage.native("operator")?.get(&path)?;
            Ok(format!("{}, {} grant", show::text(&answer["grants"][0], "client"), answer["total"]))
        })
    }
}

/// Seconds since 1970.
fn unix_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs()
}
