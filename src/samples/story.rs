//! A few people, apps and tokens whose every answer is known: what `dev` hands out to try, and what `demo` plays with.
//!
//! ```text
//! workspace 1579  maria, jonas          projects 1579/4021 and 1579/4022; lee is a guest of 1579/4021
//! workspace 1592  maria
//! ```

use super::{AUDIENCE, token_string};
use crate::domain::{
    Audience, ClientId, Confirmation, Denial, Expiry, Place, Reach, SubjectId, Switch, Timestamp, TokenDigest,
    TokenTimes,
};
use crate::import::line::{GrantLine, Label, Line, TokenLine, TokenName};

/// The owner number of the story's token strings; the world's users count from zero and never get here.
const OWNER: u64 = u64::MAX;

/// How long the story's tokens live, in seconds: 30 days, so that a development server stays useful.
const LIFE_SECONDS: u32 = 30 * 86_400;

/// The apps of the story.
pub const CLIENTS: [&str; 5] = ["time-tracker", "reporting", "calendar", "mail-importer", "legacy-sync"];

/// Who is where.
pub const MEMBERS: [(&str, &str); 4] = [("maria", "1579"), ("maria", "1592"), ("jonas", "1579"), ("lee", "1579/4021")];

/// One check and what comes of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Check {
    /// May the token do this …
    pub scope: &'static str,
    /// … here?
    pub place: &'static str,
    /// It may, or why not.
    pub expect: Result<(), Denial>,
}

/// A token whose every answer is known.
#[derive(Clone, Debug)]
pub struct Sample {
    /// What the story calls it, and its grant.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// The token itself.
    pub token: String,
    /// Whose.
    pub subject: &'static str,
    /// For which app.
    pub client: &'static str,
    /// Whether it is active.
    pub active: bool,
    /// What it may do.
    pub checks: Vec<Check>,
    access: &'static [(Option<&'static str>, &'static [&'static str])],
    ends: Ends,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ends {
    Later,
    Past,
    Never,
}

const fn allowed(scope: &'static str, place: &'static str) -> Check {
    Check { scope, place, expect: Ok(()) }
}

const fn denied(scope: &'static str, place: &'static str, why: Denial) -> Check {
    Check { scope, place, expect: Err(why) }
}

/// The story's tokens under `seed`, in the order of their grants.
pub fn samples(seed: u64) -> Vec<Sample> {
    use Denial::{NotAMember, PlaceNotGranted, ScopeNotGranted, ScopeUnknown};
    let mut number = 0;
    let mut sample = |name, about, subject, client, access, ends, checks: &[Check]| {
        let token = token_string(seed, OWNER, number);
        number += 1;
        let active = ends != Ends::Past;
        Sample { name, about, token, subject, client, active, checks: checks.to_vec(), access, ends }
    };
    vec![
        sample(
            "maria-time",
            "reads tasks and keeps times in one workspace of two",
            "maria",
            "time-tracker",
            &[(Some("1579"), &["tasks:read", "time_tracking_entries:read", "timesheet_approval_statuses:write"])],
            Ends::Later,
            &[
                allowed("tasks:read", "1579"),
                allowed("tasks:read", "1579/4021"),
                denied("tasks:write", "1579", ScopeNotGranted),
                denied("tasks:read", "1592", PlaceNotGranted),
                denied("tasks:raed", "1579", ScopeUnknown),
            ],
        ),
        sample(
            "jonas-time",
            "the same app, another user",
            "jonas",
            "time-tracker",
            &[(Some("1579"), &["tasks:read", "time_tracking_entries:read"])],
            Ends::Later,
            &[allowed("tasks:read", "1579")],
        ),
        sample(
            "jonas-report",
            "one project only",
            "jonas",
            "reporting",
            &[(Some("1579/4021"), &["tasks:read", "projects:read"])],
            Ends::Later,
            &[
                allowed("tasks:read", "1579/4021"),
                denied("tasks:read", "1579/4022", PlaceNotGranted),
                denied("tasks:read", "1579", PlaceNotGranted),
            ],
        ),
        sample(
            "maria-personal",
            "a personal access token for one workspace",
            "maria",
            "personal",
            &[(Some("1592"), &["tasks:read", "tasks:write"])],
            Ends::Later,
            &[allowed("tasks:write", "1592"), denied("tasks:write", "1579", PlaceNotGranted)],
        ),
        sample(
            "maria-calendar",
            "wherever maria is a member, now and later",
            "maria",
            "calendar",
            &[(None, &["tasks:read", "users:read"])],
            Ends::Later,
            &[allowed("tasks:read", "1579"), allowed("tasks:read", "1592"), denied("tasks:read", "1601", NotAMember)],
        ),
        sample(
            "maria-mail",
            "pairs: reads in one workspace, writes in the other",
            "maria",
            "mail-importer",
            &[(Some("1579"), &["tasks:read"]), (Some("1592"), &["tasks:write"])],
            Ends::Later,
            &[
                allowed("tasks:read", "1579"),
                allowed("tasks:write", "1592"),
                denied("tasks:write", "1579", ScopeNotGranted),
                denied("tasks:read", "1592", ScopeNotGranted),
            ],
        ),
        sample(
            "lee-report",
            "a guest: granted the workspace, a member of one project in it",
            "lee",
            "reporting",
            &[(Some("1579"), &["tasks:read"])],
            Ends::Later,
            &[
                allowed("tasks:read", "1579/4021"),
                denied("tasks:read", "1579/4022", NotAMember),
                denied("tasks:read", "1579", NotAMember),
            ],
        ),
        sample(
            "maria-legacy",
            "the old default: everything, everywhere, for ever",
            "maria",
            "legacy-sync",
            &[(None, &["default"])],
            Ends::Never,
            &[allowed("tasks:delete", "1579"), allowed("webhooks:write", "1592")],
        ),
        sample(
            "jonas-bound",
            "bound to a certificate: the API server has to check `cnf`",
            "jonas",
            "mail-importer",
            &[(Some("1579"), &["tasks:write"])],
            Ends::Later,
            &[allowed("tasks:write", "1579")],
        ),
        sample(
            "maria-expired",
            "expired an hour ago",
            "maria",
            "reporting",
            &[(Some("1579"), &["tasks:read"])],
            Ends::Past,
            &[],
        ),
    ]
}

/// The story as lines; it needs the catalogue before it.
pub fn lines(seed: u64, now: Timestamp) -> impl Iterator<Item = Line> {
    let clients = CLIENTS.iter().filter_map(|client| Some(Line::Client(ClientId::parse(client).ok()?, Switch::On)));
    let members = MEMBERS
        .iter()
        .filter_map(|(who, place)| Some(Line::Member(SubjectId::parse(who).ok()?, Place::parse(place).ok()?)));
    let samples = samples(seed).into_iter().filter_map(move |sample| lines_of(&sample, now));
    clients.chain(members).chain(samples.flatten())
}

/// A sample's grant and token.
fn lines_of(sample: &Sample, now: Timestamp) -> Option<[Line; 2]> {
    let pair = |(place, scopes): &(Option<&str>, &[&str])| {
        let reach = place.map_or(Some(Reach::Everywhere), |place| Place::parse(place).ok().map(Reach::At))?;
        Some((reach, scopes.iter().map(|scope| Box::from(*scope)).collect()))
    };
    let label = Label::parse(sample.name).ok()?;
    let grant = Line::Grant(GrantLine {
        label: label.clone(),
        subject: SubjectId::parse(sample.subject).ok()?,
        client: ClientId::parse(sample.client).ok()?,
        access: sample.access.iter().map(pair).collect::<Option<_>>()?,
        expiry: Expiry::Never,
        audience: Some(vec![Audience::parse(AUDIENCE).ok()?]),
    });
    let digest = TokenDigest::of(sample.token.as_bytes());
    let issued = if sample.ends == Ends::Past { now.minus(7_200) } else { now };
    let expiry = match sample.ends {
        Ends::Later => Expiry::At(now.plus(LIFE_SECONDS)),
        Ends::Past => Expiry::At(now.minus(3_600)),
        Ends::Never => Expiry::Never,
    };
    let token = Line::Token(TokenLine {
        name: TokenName::Digest(digest),
        grant: label,
        times: TokenTimes { issued, not_before: issued, expiry },
        audience: None,
        confirmation: (sample.name == "jonas-bound")
            .then(|| Confirmation::Certificate(*TokenDigest::of(b"the certificate of jonas's machine").as_bytes())),
        narrowed: None,
    });
    Some([grant, token])
}
