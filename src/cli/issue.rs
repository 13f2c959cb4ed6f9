//! Verbs about grants and tokens, for issuers.

use clap::Subcommand;
use serde_json::{Value, json};

use super::remote::part;
use super::words::{self, Access, Ends, Patience, TokenFrom};
use super::{Desk, Failure, Outcome, list, show};

#[derive(Subcommand, Debug)]
#[command(after_help = "Examples:
  tokenscope grant make --subject maria --client time-tracker --at 1579=tasks:read,projects:read --expires-in 90d
  tokenscope grant extend g17 --at 1592=tasks:read            its live tokens gain the workspace
  tokenscope grant narrow g17 --at 1579=tasks:read            it keeps only this
  tokenscope grant narrow g17 --at 1579=tasks:read --wait fenced   and returns when no API server goes by more
  tokenscope grant show g17")]
pub(super) enum Grant {
    /// Make a grant: who lets which app do what, where, until when.
    Make {
        /// Who grants.
        #[arg(long)]
        subject: String,
        /// To which app; `personal` for personal access tokens.
        #[arg(long)]
        client: String,
        #[command(flatten)]
        access: Access,
        #[command(flatten)]
        ends: Ends,
        /// The resource servers its tokens are for; the server's default if not given.
        #[arg(long)]
        audience: Vec<String>,
    },
    /// Add places and scopes to a grant; its live tokens gain them.
    Extend {
        /// Its number, as g17.
        grant: String,
        #[command(flatten)]
        access: Access,
    },
    /// Keep of a grant only what is also named here.
    Narrow {
        /// Its number, as g17.
        grant: String,
        #[command(flatten)]
        access: Access,
        #[command(flatten)]
        patience: Patience,
    },
    /// Show one grant.
    Show {
        /// Its number, as g17.
        grant: String,
    },
}

impl Grant {
    pub(super) fn run(self, desk: &mut Desk<'_>) -> Outcome {
        match self {
            Self::Make { subject, client, access, ends, audience } => {
                let mut request = json!({ "subject": subject, "client": client, "access": access.json()? });
                ends.put(&mut request, desk.now);
                if !audience.is_empty() {
                    request["audience"] = audience.into();
                }
                let answer = desk.api()?.post("/v1/grants", &request)?;
                desk.answer(&answer, |answer| show::done(answer, "made a grant"))
            }
            Self::Extend { grant, access } => change(&grant, "extend", &access, &Patience::default(), desk),
            Self::Narrow { grant, access, patience } => change(&grant, "narrow", &access, &patience, desk),
            Self::Show { grant } => {
                let answer = desk.api()?.get(&format!("/v1/grants/{}", part(&grant)))?;
                desk.answer(&answer, list::grants)
            }
        }
    }
}

fn change(grant: &str, how: &str, access: &Access, patience: &Patience, desk: &mut Desk<'_>) -> Outcome {
    let request = json!({ "access": access.json()? });
    let path = format!("/v1/grants/{}/{how}", part(grant));
    let answer = desk.api()?.post(&patience.path(&path), &request)?;
    let what = if how == "extend" { "extended" } else { "narrowed" };
    desk.answer(&answer, |answer| show::done(answer, &format!("{what} grant {grant}")))
}

#[derive(Subcommand, Debug)]
#[command(after_help = "Examples:
  tokenscope token mint --grant g17 --expires-in 1h            prints the token, once
  tokenscope token register --grant g17 --expires-in 1h < token.txt
  tokenscope token mint --grant g17 --expires-in 15m --at 1579=tasks:read     narrower than its grant")]
pub(super) enum Token {
    /// Have a token made; its string is printed here and kept nowhere.
    Mint(Terms),
    /// Register a token that was made elsewhere; only its SHA-256 is sent.
    Register {
        #[command(flatten)]
        terms: Terms,
        #[command(flatten)]
        token: TokenFrom,
        /// Its SHA-256 instead of the token, 64 lower-case hex digits.
        #[arg(long, value_name = "HEX", conflicts_with = "token_file")]
        sha256: Option<String>,
    },
}

/// What a token is, apart from its string.
#[derive(clap::Args, Debug)]
pub(super) struct Terms {
    /// The grant it belongs to, as g17.
    #[arg(long)]
    grant: String,
    #[command(flatten)]
    ends: Ends,
    /// Not active before this moment.
    #[arg(long, value_name = "TIME", value_parser = words::moment)]
    not_before: Option<u64>,
    /// The resource servers it is for, if not its grant's.
    #[arg(long)]
    audience: Vec<String>,
    /// SHA-256 of the certificate it is bound to, base64url (RFC 8705).
    #[arg(long, value_name = "THUMBPRINT", conflicts_with = "dpop_key")]
    certificate: Option<String>,
    /// Thumbprint of the DPoP key it is bound to, base64url (RFC 9449).
    #[arg(long, value_name = "THUMBPRINT")]
    dpop_key: Option<String>,
    #[command(flatten)]
    access: Access,
}

impl Terms {
    fn request(&self, now: u64) -> Result<Value, Failure> {
        let mut request = json!({ "grant": self.grant });
        self.ends.put(&mut request, now);
        if let Some(not_before) = self.not_before {
            request["nbf"] = not_before.into();
        }
        if !self.audience.is_empty() {
            request["audience"] = self.audience.clone().into();
        }
        if let Some(thumbprint) = &self.certificate {
            request["cnf"] = json!({ "x5t#S256": thumbprint });
        }
        if let Some(thumbprint) = &self.dpop_key {
            request["cnf"] = json!({ "jkt": thumbprint });
        }
        if !self.access.is_empty() {
            request["access"] = self.access.json()?;
        }
        Ok(request)
    }
}

impl Token {
    pub(super) fn run(self, desk: &mut Desk<'_>) -> Outcome {
        match self {
            Self::Mint(terms) => {
                let answer = desk.api()?.post("/v1/tokens/mint", &terms.request(desk.now)?)?;
                desk.answer(&answer, |answer| show::done(answer, "minted a token; it is shown here and never again"))
            }
            Self::Register { terms, token, sha256 } => {
                let mut request = terms.request(desk.now)?;
                request["sha256"] = match sha256 {
                    Some(hex) => hex.into(),
                    None => token.digest(desk)?.to_hex().into(),
                };
                let answer = desk.api()?.post("/v1/tokens", &request)?;
                desk.answer(&answer, |answer| show::done(answer, "registered a token"))
            }
        }
    }
}
