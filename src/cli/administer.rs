//! Verbs about members, app policies, clients, scopes and subjects.

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::remote::part;
use super::words::Patience;
use super::{Desk, Outcome, list, show};

/// Sends a change and says what was done.
fn change(desk: &mut Desk<'_>, ask: (&str, &str), body: Option<&Value>, what: &str) -> Outcome {
    wait_for(desk, &Patience::default(), ask, body, what)
}

/// The same for one that takes rights away.
fn wait_for(
    desk: &mut Desk<'_>,
    patience: &Patience,
    (method, path): (&str, &str),
    body: Option<&Value>,
    what: &str,
) -> Outcome {
    let answer = desk.api()?.ask(method, &patience.path(path), body)?;
    desk.answer(&answer, |answer| show::done(answer, what))
}

#[derive(Subcommand, Debug)]
#[command(after_help = "Examples:
  tokenscope member add maria 1579
  tokenscope member remove lee 1579/4021        ends the place for every grant made before
  tokenscope member list maria")]
pub(super) enum Member {
    /// Make somebody a member of a workspace or project.
    Add {
        /// The user or service account.
        subject: String,
        /// The workspace, or WORKSPACE/PROJECT.
        place: String,
    },
    /// End a membership. Coming back does not revive grants made before.
    Remove {
        /// The user or service account.
        subject: String,
        /// The workspace, or WORKSPACE/PROJECT.
        place: String,
        #[command(flatten)]
        patience: Patience,
    },
    /// Where somebody is or was a member.
    List {
        /// The user or service account.
        subject: String,
    },
}

impl Member {
    pub(super) fn run(self, desk: &mut Desk<'_>) -> Outcome {
        match self {
            Self::Add { subject, place } => {
                let what = format!("{subject} is a member of {place}");
                let body = json!({ "subject": subject, "place": place });
                change(desk, ("POST", "/v1/members"), Some(&body), &what)
            }
            Self::Remove { subject, place, patience } => {
                let what = format!("{subject} is no longer a member of {place}");
                let body = json!({ "subject": subject, "place": place });
                wait_for(desk, &patience, ("POST", "/v1/members/remove"), Some(&body), &what)
            }
            Self::List { subject } => list::members(&subject, desk),
        }
    }
}

/// Who may enter.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub(super) enum Mode {
    /// Every app but the blocked ones.
    AllowAll,
    /// Only approved apps.
    ApprovalRequired,
}

/// On or off.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnOff {
    /// Let in.
    On,
    /// Kept out.
    Off,
}

#[derive(Subcommand, Debug)]
#[command(after_help = "Examples:
  tokenscope policy show 1579
  tokenscope policy block 1579 time-tracker      at once, for all members; unblock restores exactly what was there
  tokenscope policy mode 1579 approval-required
  tokenscope policy personal 1579 off")]
pub(super) enum Policy {
    /// Show a workspace's policy.
    Show {
        /// The workspace.
        workspace: String,
    },
    /// Let in all apps but the blocked ones, or only approved ones.
    Mode {
        /// The workspace.
        workspace: String,
        /// Who may enter.
        mode: Mode,
        #[command(flatten)]
        patience: Patience,
    },
    /// Let personal access tokens in, or not.
    Personal {
        /// The workspace.
        workspace: String,
        /// Let in or not.
        switch: OnOff,
        #[command(flatten)]
        patience: Patience,
    },
    /// Block an app.
    Block {
        /// The workspace.
        workspace: String,
        /// The app.
        client: String,
        #[command(flatten)]
        patience: Patience,
    },
    /// Take an app off the block list.
    Unblock {
        /// The workspace.
        workspace: String,
        /// The app.
        client: String,
    },
    /// Approve an app.
    Approve {
        /// The workspace.
        workspace: String,
        /// The app.
        client: String,
    },
    /// Take an app off the approved list.
    Unapprove {
        /// The workspace.
        workspace: String,
        /// The app.
        client: String,
        #[command(flatten)]
        patience: Patience,
    },
}

impl Policy {
    pub(super) fn run(self, desk: &mut Desk<'_>) -> Outcome {
        let path = |workspace: &str| format!("/v1/policies/{}", part(workspace));
        match self {
            Self::Show { workspace } => {
                let answer = desk.api()?.get(&path(&workspace))?;
                desk.answer(&answer, |answer| {
                    show::pairs([
                        ("workspace", workspace.clone()),
                        ("mode", show::text(answer, "mode").replace('_', " ")),
                        ("personal tokens", show::text(answer, "personal_tokens")),
                        ("blocked", show::text(answer, "blocked")),
                        ("approved", show::text(answer, "approved")),
                    ])
                })
            }
            Self::Mode { workspace, mode, patience } => {
                let word = match mode {
                    Mode::AllowAll => "allow_all",
                    Mode::ApprovalRequired => "approval_required",
                };
                let what = format!("workspace {workspace}: {}", word.replace('_', " "));
                let path = format!("{}/mode", path(&workspace));
                wait_for(desk, &patience, ("PUT", &path), Some(&json!({ "mode": word })), &what)
            }
            Self::Personal { workspace, switch, patience } => {
                let on = switch == OnOff::On;
                let what = format!("workspace {workspace}: personal tokens {}", if on { "let in" } else { "kept out" });
                let path = format!("{}/personal_tokens", path(&workspace));
                wait_for(desk, &patience, ("PUT", &path), Some(&json!({ "on": on })), &what)
            }
            Self::Block { workspace, client, patience } => {
                entry(desk, &patience, &workspace, &client, ("block", "blocked"))
            }
            Self::Unblock { workspace, client } => {
                entry(desk, &Patience::default(), &workspace, &client, ("unblock", "no longer blocked"))
            }
            Self::Approve { workspace, client } => {
                entry(desk, &Patience::default(), &workspace, &client, ("approve", "approved"))
            }
            Self::Unapprove { workspace, client, patience } => {
                entry(desk, &patience, &workspace, &client, ("unapprove", "no longer approved"))
            }
        }
    }
}

fn entry(
    desk: &mut Desk<'_>,
    patience: &Patience,
    workspace: &str,
    client: &str,
    (entry, what): (&str, &str),
) -> Outcome {
    let body = json!({ "client": client, "entry": entry });
    let path = format!("/v1/policies/{}/entries", part(workspace));
    wait_for(desk, patience, ("POST", &path), Some(&body), &format!("workspace {workspace}: {client} is {what}"))
}

#[derive(Subcommand, Debug)]
#[command(after_help = "Examples:
  tokenscope client register time-tracker
  tokenscope client suspend time-tracker       its grants stay; resume restores them
  tokenscope client list")]
pub(super) enum Client {
    /// Register an app; repeating it changes nothing.
    Register {
        /// The app.
        client: String,
    },
    /// Suspend an app everywhere; reversible.
    Suspend {
        /// The app.
        client: String,
        #[command(flatten)]
        patience: Patience,
    },
    /// Let a suspended app in again.
    Resume {
        /// The app.
        client: String,
    },
    /// List the registered apps.
    List {
        /// At most so many rows (1 to 1000).
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
}

impl Client {
    pub(super) fn run(self, desk: &mut Desk<'_>) -> Outcome {
        match self {
            Self::Register { client } => {
                let what = format!("client {client} is registered");
                change(desk, ("POST", "/v1/clients"), Some(&json!({ "client": client })), &what)
            }
            Self::Suspend { client, patience } => switch(desk, &patience, "clients", &client, OnOff::Off),
            Self::Resume { client } => switch(desk, &Patience::default(), "clients", &client, OnOff::On),
            Self::List { limit } => list::clients(limit, desk),
        }
    }
}

fn switch(desk: &mut Desk<'_>, patience: &Patience, kind: &str, name: &str, to: OnOff) -> Outcome {
    let on = to == OnOff::On;
    let what = format!("{name} is {}", if on { "let in" } else { "suspended" });
    let path = format!("/v1/{kind}/{}/switch", part(name));
    wait_for(desk, patience, ("PUT", &path), Some(&json!({ "on": on })), &what)
}

#[derive(Subcommand, Debug)]
#[command(after_help = "Examples:\n  tokenscope subject suspend maria\n  tokenscope subject resume maria")]
pub(super) enum Subject {
    /// Suspend a user or service account everywhere; reversible.
    Suspend {
        /// The user or service account.
        subject: String,
        #[command(flatten)]
        patience: Patience,
    },
    /// Let it in again.
    Resume {
        /// The user or service account.
        subject: String,
    },
}

impl Subject {
    pub(super) fn run(self, desk: &mut Desk<'_>) -> Outcome {
        match self {
            Self::Suspend { subject, patience } => switch(desk, &patience, "subjects", &subject, OnOff::Off),
            Self::Resume { subject } => switch(desk, &Patience::default(), "subjects", &subject, OnOff::On),
        }
    }
}

#[derive(Subcommand, Debug)]
#[command(after_help = "Examples:
  tokenscope scope add tasks:archive
  tokenscope scope alias workspace.typeahead:read workspaces.typeahead:read
  tokenscope scope retire mcp:access            its position stays taken for ever")]
pub(super) enum Scope {
    /// List the catalogue.
    List,
    /// Add a scope, or bring a withdrawn one back at its old position.
    Add {
        /// Its name.
        scope: String,
    },
    /// Give a scope a second name.
    Alias {
        /// The second name.
        alias: String,
        /// The scope, or * for all of them.
        of: String,
    },
    /// Withdraw a scope.
    Retire {
        /// Its name.
        scope: String,
        #[command(flatten)]
        patience: Patience,
    },
}

impl Scope {
    pub(super) fn run(self, desk: &mut Desk<'_>) -> Outcome {
        match self {
            Self::List => list::scopes(desk),
            Self::Add { scope } => {
                let what = format!("scope {scope} is in the catalogue");
                change(desk, ("POST", "/v1/scopes"), Some(&json!({ "scope": scope })), &what)
            }
            Self::Alias { alias, of } => {
                let what = format!("{alias} is another name of {of}");
                change(desk, ("POST", "/v1/scopes/aliases"), Some(&json!({ "alias": alias, "of": of })), &what)
            }
            Self::Retire { scope, patience } => {
                let what = format!("scope {scope} is withdrawn");
                wait_for(desk, &patience, ("DELETE", &format!("/v1/scopes/{}", part(&scope))), None, &what)
            }
        }
    }
}
