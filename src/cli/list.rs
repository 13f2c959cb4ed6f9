//! Verbs that list: tokens, grants, members, clients, scopes; and the service in numbers.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::remote::part;
use super::{Desk, Outcome, show};

/// Whose: exactly one.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct Whose {
    /// Of this user or service account.
    #[arg(long)]
    subject: Option<String>,
    /// Of this app.
    #[arg(long)]
    client: Option<String>,
    /// Of this grant (g17).
    #[arg(long)]
    grant: Option<String>,
}

impl Whose {
    fn query(&self) -> String {
        let named = [("subject", &self.subject), ("client", &self.client), ("grant", &self.grant)];
        let one = named.into_iter().find_map(|(name, value)| Some(format!("{name}={}", part(value.as_deref()?))));
        one.unwrap_or_default()
    }
}

/// Whose grants: exactly one.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct WhoseGrants {
    /// Of this user or service account.
    #[arg(long)]
    subject: Option<String>,
    /// Of this app.
    #[arg(long)]
    client: Option<String>,
}

#[derive(Subcommand, Debug)]
#[command(after_help = "Examples:
  tokenscope list tokens --subject maria
  tokenscope list grants --client time-tracker --limit 1000 --json
  tokenscope list members maria")]
pub(super) enum List {
    /// Tokens, with last use and why they are inactive.
    Tokens {
        #[command(flatten)]
        whose: Whose,
        /// At most so many rows (1 to 1000).
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Grants.
    Grants {
        #[command(flatten)]
        whose: WhoseGrants,
        /// At most so many rows (1 to 1000).
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Where a user or service account is or was a member.
    Members {
        /// Whose memberships.
        subject: String,
    },
    /// Registered apps.
    Clients {
        /// At most so many rows (1 to 1000).
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// The scope catalogue.
    Scopes,
}

impl List {
    pub(super) fn run(self, desk: &mut Desk<'_>) -> Outcome {
        match self {
            Self::Tokens { whose, limit } => {
                let answer = desk.api()?.get(&format!("/v1/tokens?{}&limit={limit}", whose.query()))?;
                let header = ["handle", "active", "grant", "subject", "client", "expires", "last used"];
                desk.answer(&answer, |answer| show::rows(answer, "tokens", &header, token))
            }
            Self::Grants { whose, limit } => {
                let whose = Whose { subject: whose.subject, client: whose.client, grant: None };
                let answer = desk.api()?.get(&format!("/v1/grants?{}&limit={limit}", whose.query()))?;
                desk.answer(&answer, grants)
            }
            Self::Members { subject } => members(&subject, desk),
            Self::Clients { limit } => clients(limit, desk),
            Self::Scopes => scopes(desk),
        }
    }
}

fn token(row: &Value) -> Vec<String> {
    vec![
        show::text(row, "handle"),
        show::alive(row, "active"),
        show::text(row, "grant"),
        show::text(row, "subject"),
        show::text(row, "client"),
        show::ends(row),
        show::time(row, "last_used"),
    ]
}

/// A page of grants.
pub(super) fn grants(answer: &Value) -> String {
    let header = ["grant", "alive", "subject", "client", "access", "expires", "tokens", "last used"];
    show::rows(answer, "grants", &header, |row| {
        vec![
            show::text(row, "grant"),
            show::alive(row, "alive"),
            show::text(row, "subject"),
            show::text(row, "client"),
            show::access(&row["access"]),
            show::ends(row),
            show::text(row, "tokens"),
            show::time(row, "last_used"),
        ]
    })
}

/// Memberships of a subject.
pub(super) fn members(subject: &str, desk: &mut Desk<'_>) -> Outcome {
    let answer = desk.api()?.get(&format!("/v1/members/{}", part(subject)))?;
    desk.answer(&answer, |answer| {
        show::rows(answer, "members", &["place", "member"], |row| {
            let member = if row["live"] == true { "yes" } else { "was one" };
            vec![show::text(row, "place"), member.into()]
        })
    })
}

/// Registered clients.
pub(super) fn clients(limit: u32, desk: &mut Desk<'_>) -> Outcome {
    let answer = desk.api()?.get(&format!("/v1/clients?limit={limit}"))?;
    desk.answer(&answer, |answer| {
        show::rows(answer, "clients", &["client", "state"], |row| {
            vec![show::text(row, "client"), if row["on"] == true { "let in" } else { "suspended" }.into()]
        })
    })
}

/// The scope catalogue.
pub(super) fn scopes(desk: &mut Desk<'_>) -> Outcome {
    let answer = desk.api()?.get("/v1/scopes")?;
    desk.answer(&answer, |answer| {
        show::rows(answer, "scopes", &["position", "scope", "state", "other names"], |row| {
            let state = if row["retired"] == true { "withdrawn" } else { "in use" };
            vec![show::text(row, "position"), show::text(row, "scope"), state.into(), show::text(row, "aliases")]
        })
    })
}

/// The service in numbers.
pub(super) fn status(desk: &mut Desk<'_>) -> Outcome {
    let answer = desk.api()?.get("/v1/status")?;
    desk.answer(&answer, |answer| {
        let number = |name: &str| answer[name].as_u64().map(show::count).unwrap_or_default();
        show::pairs([
            ("revision", show::text(answer, "revision")),
            ("tokens", number("tokens")),
            ("grants", number("grants")),
            ("index bytes", number("index_bytes")),
            ("accepts changes", show::text(answer, "accepts_changes")),
            ("keys", format!("generation {}, {} kept", number("key_generation"), number("key_generations_kept"))),
        ])
    })
}
