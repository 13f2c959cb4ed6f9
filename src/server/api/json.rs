//! What the JSON API takes: request bodies, and their way into the service's own requests.
//!
//! A field that is not known is refused, a field that is missing is refused, and nothing is guessed: an expiry is
//! either `"exp": 123` or `"never_expires": true` (TS-10), an access item
//! says either `place` or `everywhere`. Times are whole seconds since 1970.
//!
//! What goes wrong is said in words of ours. The JSON parser's own messages quote values, and a value may be a token
//! (TS-12), so only what it *expected* is repeated, and where.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::domain::mint::{TOKEN_BYTES_MAX, digest_and_wipe};
use crate::domain::token::CONFIRMATION_BYTES_MAX;
use crate::domain::{
    Audience, ClientId, Confirmation, Expiry, GrantId, Place, PolicyEntry, PolicyMode, Reach, Revision, SubjectId,
    Switch, Timestamp, TokenDigest, TokenHandle, TokenTimes, WorkspaceId,
};
use crate::service::request::{ChangeRequest, NamedAccess, TokenTerms};

use super::Problem;
use super::text::Base64;

pub(super) type Parsed<T> = Result<T, Problem>;

/// Reads a body as `T`.
///
/// # Errors
/// What was expected and where, without repeating anything that was sent.
pub(super) fn body<T: DeserializeOwned>(bytes: &[u8]) -> Parsed<T> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Problem::invalid("the body is empty; send a JSON object (see /openapi.json)"));
    }
    serde_json::from_slice(bytes).map_err(|error| Problem::invalid(explain(&error)))
}

/// The longest field name that is repeated in an error.
const NAMED_FIELD_MAX: usize = 32;

fn explain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    let quoted = |text: &str| text.split('`').nth(1).map(str::to_owned).filter(|name| name.len() <= NAMED_FIELD_MAX);
    let kind = text.split(['`', '"']).next().unwrap_or_default().trim_end();
    let expected = text.rsplit_once(", expected ").map(|(_, expected)| format!("expected {expected}"));
    let what = match (kind, quoted(text), expected) {
        // Names of fields of ours, or a misspelt one: never a value.
        ("unknown field", Some(name), Some(expected)) => format!("unknown field {name:?}, {expected}"),
        ("missing field" | "duplicate field", Some(name), _) => format!("{kind} {name:?}"),
        (_, _, Some(expected)) => expected,
        _ if error.is_eof() => "the JSON ends too early".into(),
        _ => "this is not JSON that can be read".into(),
    };
    format!("line {}, column {} of the body: {what}", error.line(), error.column())
}

fn field<T, E: std::fmt::Display>(name: &str, parsed: Result<T, E>) -> Parsed<T> {
    parsed.map_err(|error| Problem::invalid(format!("{name}: {error}")))
}

/// The subject with this id.
pub(super) fn subject(text: &str) -> Parsed<SubjectId> {
    field("subject", SubjectId::parse(text))
}

/// The client with this id.
pub(super) fn client(text: &str) -> Parsed<ClientId> {
    field("client", ClientId::parse(text))
}

/// The workspace with this id.
pub(super) fn workspace(text: &str) -> Parsed<WorkspaceId> {
    field("workspace", WorkspaceId::parse(text))
}

/// The place with this name.
pub(super) fn place(text: &str) -> Parsed<Place> {
    field("place", Place::parse(text))
}

/// The grant written like this.
pub(super) fn grant(text: &str) -> Parsed<GrantId> {
    GrantId::parse(text).ok_or_else(|| Problem::invalid("grant: write it as the answer that made it did, like \"g17\""))
}

/// The handle written like this.
pub(super) fn handle(text: &str) -> Parsed<TokenHandle> {
    TokenHandle::parse(text)
        .ok_or_else(|| Problem::invalid("handle: \"t\" and 32 lower-case hex digits, as the answer's jti says"))
}

/// The digest written like this.
pub(super) fn digest(text: &str) -> Parsed<TokenDigest> {
    TokenDigest::parse_hex(text).ok_or_else(|| {
        Problem::invalid("sha256: 64 lower-case hex digits, SHA-256 of the token as sha256sum prints it")
    })
}

/// The revision written like this.
pub(super) fn revision(text: &str) -> Parsed<Revision> {
    Revision::parse(text).ok_or_else(|| {
        Problem::invalid("least_revision: 16 hex digits, \"-\" and a number, as an answer's revision says")
    })
}

pub(super) fn moment(name: &str, seconds: u64) -> Parsed<Timestamp> {
    Timestamp::from_seconds(seconds)
        .ok_or_else(|| Problem::invalid(format!("{name}: whole seconds since 1970, before the year 2106")))
}

/// On or off.
pub(super) fn switch(on: bool) -> Switch {
    if on { Switch::On } else { Switch::Off }
}

pub(super) fn token_digest(token: String) -> Parsed<TokenDigest> {
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
        return Err(Problem::invalid(format!("token: 1 to {TOKEN_BYTES_MAX} bytes")));
    }
    Ok(digest_and_wipe(token.into_bytes()))
}

/// `{"client": ...}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientBody {
    pub(super) client: String,
}

/// `{"on": true}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SwitchBody {
    pub(super) on: bool,
}

/// `{"scope": ...}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScopeBody {
    pub(super) scope: String,
}

/// `{"alias": ..., "of": ...}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AliasBody {
    pub(super) alias: String,
    pub(super) of: String,
}

/// `{"subject": ..., "place": ...}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MemberBody {
    pub(super) subject: String,
    pub(super) place: String,
}

/// `{"mode": ...}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModeBody {
    pub(super) mode: Mode,
}

/// The words for [`PolicyMode`].
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mode {
    AllowAll,
    ApprovalRequired,
}

impl From<Mode> for PolicyMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::AllowAll => Self::AllowAll,
            Mode::ApprovalRequired => Self::ApprovalRequired,
        }
    }
}

/// `{"client": ..., "entry": ...}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EntryBody {
    pub(super) client: String,
    pub(super) entry: EntryWord,
}

/// The words for [`PolicyEntry`].
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum EntryWord {
    Block,
    Unblock,
    Approve,
    Unapprove,
}

impl From<EntryWord> for PolicyEntry {
    fn from(word: EntryWord) -> Self {
        match word {
            EntryWord::Block => Self::Block,
            EntryWord::Unblock => Self::Unblock,
            EntryWord::Approve => Self::Approve,
            EntryWord::Unapprove => Self::Unapprove,
        }
    }
}

/// One item of an access list: a place or everywhere, and scopes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AccessItem {
    place: Option<String>,
    everywhere: Option<bool>,
    scopes: Vec<String>,
}

fn access(items: Vec<AccessItem>) -> Parsed<NamedAccess> {
    let pair = |(number, item): (usize, AccessItem)| {
        let reach = match (&item.place, item.everywhere) {
            (Some(text), None | Some(false)) => {
                Reach::At(field(&format!("access[{number}].place"), Place::parse(text))?)
            }
            (None, Some(true)) => Reach::Everywhere,
            _ => {
                return Err(Problem::invalid(format!(
                    "access[{number}]: say either \"place\" or \"everywhere\": true"
                )));
            }
        };
        if item.scopes.is_empty() {
            return Err(Problem::invalid(format!("access[{number}].scopes: name at least one scope")));
        }
        Ok((reach, item.scopes.into_iter().map(String::into_boxed_str).collect()))
    };
    items.into_iter().enumerate().map(pair).collect()
}

fn expiry(exp: Option<u64>, never_expires: Option<bool>) -> Parsed<Expiry> {
    match (exp, never_expires) {
        (Some(seconds), None) => Ok(Expiry::At(moment("exp", seconds)?)),
        (None, Some(true)) => Ok(Expiry::Never),
        _ => Err(Problem::invalid(
            "say either \"exp\": seconds since 1970, or \"never_expires\": true (not both, not neither)",
        )),
    }
}

fn audience(names: Vec<String>) -> Parsed<Vec<Audience>> {
    names.iter().map(|name| field("audience", Audience::parse(name))).collect()
}

/// `{"access": [...]}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AccessBody {
    access: Vec<AccessItem>,
}

impl AccessBody {
    pub(super) fn named(self) -> Parsed<NamedAccess> {
        access(self.access)
    }
}

/// A grant to be made.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GrantBody {
    subject: String,
    client: String,
    access: Vec<AccessItem>,
    exp: Option<u64>,
    never_expires: Option<bool>,
    #[serde(default)]
    audience: Vec<String>,
}

impl GrantBody {
    pub(super) fn request(self) -> Parsed<ChangeRequest> {
        Ok(ChangeRequest::MakeGrant {
            subject: subject(&self.subject)?,
            client: client(&self.client)?,
            access: access(self.access)?,
            expiry: expiry(self.exp, self.never_expires)?,
            audience: audience(self.audience)?,
        })
    }
}

/// A token to be registered (with `sha256`) or minted (without).
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenBody {
    sha256: Option<String>,
    grant: String,
    iat: Option<u64>,
    nbf: Option<u64>,
    exp: Option<u64>,
    never_expires: Option<bool>,
    audience: Option<Vec<String>>,
    cnf: Option<serde_json::Map<String, serde_json::Value>>,
    access: Option<Vec<AccessItem>>,
}

impl TokenBody {
    pub(super) fn register(mut self, now: Timestamp) -> Parsed<ChangeRequest> {
        let text = self.sha256.take().ok_or_else(|| {
            Problem::invalid("missing field \"sha256\"; to have a token made, POST to /v1/tokens/mint")
        })?;
        Ok(ChangeRequest::RegisterToken { digest: digest(&text)?, token: self.terms(now)? })
    }

    pub(super) fn mint(self, now: Timestamp) -> Parsed<ChangeRequest> {
        if self.sha256.is_some() {
            return Err(Problem::invalid("sha256: a token that is minted here has no digest yet; leave it out"));
        }
        Ok(ChangeRequest::MintToken(self.terms(now)?))
    }

    fn terms(self, now: Timestamp) -> Parsed<TokenTerms> {
        let issued = self.iat.map_or(Ok(now), |seconds| moment("iat", seconds))?;
        let not_before = self.nbf.map_or(Ok(issued), |seconds| moment("nbf", seconds))?;
        Ok(TokenTerms {
            grant: grant(&self.grant)?,
            times: TokenTimes { issued, not_before, expiry: expiry(self.exp, self.never_expires)? },
            audience: self.audience.map(audience).transpose()?,
            confirmation: self.cnf.map(confirmation).transpose()?,
            narrowed: self.access.map(access).transpose()?,
        })
    }
}

fn confirmation(object: serde_json::Map<String, serde_json::Value>) -> Parsed<Confirmation> {
    let thumbprint = |name: &str| {
        let text = object.get(name)?.as_str()?;
        (object.len() == 1).then(|| Base64::Url.decode_32(text)).flatten()
    };
    let malformed = |name: &str| {
        Problem::invalid(format!("cnf.{name}: alone in its object, base64url of 32 bytes without padding"))
    };
    // A method we know is refused when it is malformed, never kept as one that we do not know: nobody could meet it.
    if object.contains_key("x5t#S256") {
        return thumbprint("x5t#S256").map(Confirmation::Certificate).ok_or_else(|| malformed("x5t#S256"));
    }
    if object.contains_key("jkt") {
        return thumbprint("jkt").map(Confirmation::DpopKey).ok_or_else(|| malformed("jkt"));
    }
    let json = serde_json::Value::Object(object.clone()).to_string();
    if object.is_empty() || json.len() > CONFIRMATION_BYTES_MAX {
        return Err(Problem::invalid(format!("cnf: an object with a member, at most {CONFIRMATION_BYTES_MAX} bytes")));
    }
    Ok(Confirmation::Other(json.into()))
}
