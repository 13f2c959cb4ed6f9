//! Verbs that ask: introspect, check, explain, risk.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::remote::{Api, part};
use super::words::{Access, Ends, TokenFrom};
use super::{Desk, Failure, Outcome, RUN_TIME, show};
use crate::domain::Place;

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tokenscope introspect < token.txt
  tokenscope introspect --token-file token.txt --place 1579 --json
  tokenscope introspect --at-least 000001aef2b3c4d5-812 < token.txt     as fresh as that revocation")]
pub(super) struct Introspect {
    #[command(flatten)]
    token: TokenFrom,
    /// What is it at this workspace or project?
    #[arg(long)]
    place: Option<String>,
    /// Refuse to answer from before this revision.
    #[arg(long, value_name = "REVISION")]
    at_least: Option<String>,
}

impl Introspect {
    pub(super) fn run(self, desk: &mut Desk<'_>) -> Outcome {
        let digest = self.token.digest(desk)?;
        let mut request = json!({ "sha256": [digest.to_hex()] });
        put(&mut request, "place", self.place);
        put(&mut request, "least_revision", self.at_least);
        let answer = desk.api()?.post("/v1/introspect", &request)?;
        let token = &answer["answers"][0];
        desk.answer(token, introspection)
    }
}

fn put(request: &mut Value, name: &str, value: Option<String>) {
    if let Some(value) = value {
        request[name] = value.into();
    }
}

fn introspection(token: &Value) -> String {
    if token["active"] != true {
        return "inactive".into();
    }
    let exp = token["exp"].as_u64().map_or_else(|| "never".into(), show::moment);
    let mut lines = vec![
        "active".to_owned(),
        show::pairs([
            ("subject", show::text(token, "sub")),
            ("client", show::text(token, "client_id")),
            ("scope", show::text(token, "scope")),
            ("expires", exp),
            ("issued", show::time(token, "iat")),
            ("audience", show::text(token, "aud")),
            ("type", show::text(token, "token_type")),
            ("bound to", token.get("cnf").map(ToString::to_string).unwrap_or_default()),
            ("handle", show::text(token, "jti")),
        ]),
    ];
    let details = token["authorization_details"].as_array().map_or(&[][..], Vec::as_slice);
    for detail in details {
        lines.push(format!("at {}: {}", show::text(detail, "locations"), show::scopes(detail, "actions")));
    }
    lines.join("\n")
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tokenscope check tasks:read 1579 < token.txt
  tokenscope check tasks:write 1579/4021 --token-file token.txt && echo allowed
Exits 0 if it may, 1 if it may not or there was no verdict.")]
pub(super) struct Check {
    /// May it do this …
    scope: String,
    /// … at this workspace, or at this project (WORKSPACE/PROJECT)?
    place: String,
    #[command(flatten)]
    token: TokenFrom,
}

impl Check {
    pub(super) fn run(self, desk: &mut Desk<'_>) -> Outcome {
        if Place::parse(&self.place).is_err() {
            let place = &self.place;
            return Err(Failure::usage(format!("{place:?} is no place; write WORKSPACE or WORKSPACE/PROJECT")));
        }
        let digest = self.token.digest(desk)?;
        let decision = desk.api()?.check(&digest, &self.scope, &self.place)?;
        desk.answer(&decision, decided)?;
        let allowed = decision["active"] == true && decision["allowed"] == true;
        if allowed { Ok(()) } else { Err(Failure { code: RUN_TIME, message: String::new() }) }
    }
}

fn decided(decision: &Value) -> String {
    match (decision["active"] == true, decision["allowed"] == true) {
        (false, _) => "inactive".into(),
        (true, true) => "allowed".into(),
        (true, false) => {
            format!("denied: {} ({})", show::text(decision, "explanation"), show::text(decision, "reason"))
        }
    }
}

#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tokenscope explain < token.txt
  tokenscope explain --handle t5f0c… --json")]
pub(super) struct Explain {
    #[command(flatten)]
    token: TokenFrom,
    /// Name the token by its public handle instead (`jti` in answers and lists).
    #[arg(long, conflicts_with = "token_file")]
    handle: Option<String>,
}

impl Explain {
    pub(super) fn run(self, desk: &mut Desk<'_>) -> Outcome {
        let request = match &self.handle {
            Some(handle) => json!({ "handle": handle }),
            None => json!({ "sha256": self.token.digest(desk)?.to_hex() }),
        };
        let answer = desk.api()?.post("/v1/explain", &request)?;
        desk.answer(&answer, explanation)
    }
}

fn explanation(told: &Value) -> String {
    let mut lines = vec![if told["active"] == true {
        "active".to_owned()
    } else {
        format!("inactive: {}", show::text(told, "why_not").replace('_', " "))
    }];
    let story = told["story"].as_array().map_or(&[][..], Vec::as_slice);
    lines.extend(story.iter().map(|sentence| format!("  {}", show::plain(sentence))));
    if let Some(token) = told.get("token") {
        lines.push(show::pairs([
            ("handle", show::text(token, "handle")),
            ("grant", show::text(token, "grant")),
            ("subject", show::text(token, "subject")),
            ("client", show::text(token, "client")),
            ("expires", show::ends(token)),
            ("last used", show::time(token, "last_used")),
        ]));
    }
    if let Some(grant) = told.get("grant") {
        lines.push(format!("granted  {}", show::access(&grant["access"])));
    }
    let places = told["places"].as_array().map_or(&[][..], Vec::as_slice);
    if !places.is_empty() {
        lines.push(show::table(
            &["place", "granted", "left", "why"],
            places.iter().map(|place| {
                vec![
                    show::text(place, "place"),
                    show::scopes(place, "granted"),
                    show::scopes(place, "effective"),
                    show::text(place, "explanation"),
                ]
            }),
        ));
    }
    lines.join("\n")
}

#[derive(Subcommand, Debug)]
#[command(after_help = "Examples:
  tokenscope risk client time-tracker
  tokenscope risk client time-tracker --workspace 1579
  tokenscope risk preview --subject maria --client new-app --everywhere '*' --never-expires")]
pub(super) enum Risk {
    /// An app: all its live grants together.
    Client {
        /// The app.
        client: String,
        /// Only what it can reach in this workspace.
        #[arg(long)]
        workspace: Option<String>,
    },
    /// One grant.
    Grant {
        /// Its number, as g17.
        grant: String,
    },
    /// One token, by its handle or from standard input.
    Token {
        /// Its public handle (`jti`).
        #[arg(long, conflicts_with = "token_file")]
        handle: Option<String>,
        #[command(flatten)]
        token: TokenFrom,
    },
    /// A grant before it is made.
    Preview {
        /// Who would grant.
        #[arg(long)]
        subject: String,
        /// To which app.
        #[arg(long)]
        client: String,
        #[command(flatten)]
        access: Access,
        #[command(flatten)]
        ends: Ends,
    },
}

impl Risk {
    pub(super) fn run(self, desk: &mut Desk<'_>) -> Outcome {
        let answer = match self {
            Self::Client { client, workspace: None } => {
                desk.api()?.get(&format!("/v1/risk/clients/{}", part(&client)))?
            }
            Self::Client { client, workspace: Some(workspace) } => {
                desk.api()?.get(&format!("/v1/risk/clients/{}?workspace={}", part(&client), part(&workspace)))?
            }
            Self::Grant { grant } => desk.api()?.get(&format!("/v1/risk/grants/{}", part(&grant)))?,
            Self::Token { handle: Some(handle), .. } => {
                desk.api()?.get(&format!("/v1/risk/tokens/{}", part(&handle)))?
            }
            Self::Token { handle: None, token } => {
                let digest = token.digest(desk)?;
                let api = desk.api()?;
                let told = api.post("/v1/explain", &json!({ "sha256": digest.to_hex() }))?;
                let handle = told["token"]["handle"].as_str().ok_or_else(|| {
                    Failure::run_time("this token is not known here, so nothing can be said of its risk")
                })?;
                api.get(&format!("/v1/risk/tokens/{}", part(handle)))?
            }
            Self::Preview { subject, client, access, ends } => {
                let mut request = json!({ "subject": subject, "client": client, "access": access.json()? });
                ends.put(&mut request, desk.now);
                desk.api()?.post("/v1/risk/preview", &request)?
            }
        };
        desk.answer(&answer, risk)
    }
}

fn risk(report: &Value) -> String {
    let number = |name: &str| report[name].as_u64().map(show::count).unwrap_or_default();
    let lives = match report["lives_seconds"].as_u64() {
        Some(seconds) => format!("up to {}", show::duration(seconds)),
        None => "for ever".into(),
    };
    let mut workspaces = show::text(report, "workspaces");
    if report["everywhere"] == true {
        workspaces.push_str(" and wherever the user will be a member");
    }
    let mut lines = vec![format!("{} risk", show::text(report, "rating"))];
    let reasons = report["reasons"].as_array().map_or(&[][..], Vec::as_slice);
    lines.extend(reasons.iter().map(|r| format!("  {:<9} {}", show::text(r, "rating"), show::text(r, "reason"))));
    lines.push(show::pairs([
        ("workspaces", workspaces.trim_start().to_owned()),
        ("places", number("places")),
        ("scopes", show::scopes(report, "scopes")),
        ("writes", number("writes")),
        ("deletes", number("deletes")),
        ("everything", show::text(report, "wildcard")),
        ("grants", number("grants")),
        ("tokens", number("tokens")),
        ("bearer tokens", number("bearer_tokens")),
        ("lives", lives),
        ("last used", show::time(report, "last_used")),
    ]));
    lines.join("\n")
}

/// One question through an API that is open already; for the demo.
pub(crate) fn check_word(
    api: &dyn Api,
    digest: &crate::domain::TokenDigest,
    scope: &str,
    place: &str,
) -> Result<String, Failure> {
    let decision = api.check(digest, scope, place)?;
    Ok(match (decision["active"] == true, decision["allowed"] == true) {
        (false, _) => "inactive".into(),
        (true, true) => "allowed".into(),
        (true, false) => show::text(&decision, "reason"),
    })
}
