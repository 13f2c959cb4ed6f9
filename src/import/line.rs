//! One line of the import format: what it can say, and how it is read and written. `docs/IMPORT.md` describes it.
//!
//! Reading is strict: an unknown, missing or repeated member, a value of the wrong form, or anything after the object
//! is an error with its column. The first member says what the line is, so that no line can be taken for another.
//! Whether what a line names exists is not decided here.

use std::borrow::Cow;
use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::confirmation;
use crate::domain::id::{Slash, check_id};
use crate::domain::scope::check_scope_name;
use crate::domain::{
    Audience, ClientId, Confirmation, Expiry, Place, PolicyMode, Reach, SubjectId, Switch, Timestamp, TokenDigest,
    TokenHandle, TokenTimes, WorkspaceId,
};
use crate::service::request::NamedAccess;

/// The longest line, in bytes: room for a grant with the most places and a few scopes at each.
pub const LINE_BYTES_MAX: usize = 4 << 20;

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// Token handles below were made under the pepper with this fingerprint. Written by exports, before any handle.
    Pepper(u64),
    /// A client.
    Client(ClientId, Switch),
    /// A scope; `Off` means withdrawn, its position stays taken.
    Scope(Box<str>, Switch),
    /// A second name (first) for a scope (second).
    Alias(Box<str>, Box<str>),
    /// Whether a subject is let in. Subjects need no line of their own otherwise.
    Subject(SubjectId, Switch),
    /// A membership.
    Member(SubjectId, Place),
    /// A workspace's app policy.
    Policy(PolicyLine),
    /// A grant.
    Grant(GrantLine),
    /// A token.
    Token(TokenLine),
}

/// What a line says of an app policy. What it leaves out stays as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyLine {
    /// Whose policy.
    pub workspace: WorkspaceId,
    /// Its mode.
    pub mode: Option<PolicyMode>,
    /// Whether personal tokens may enter.
    pub personal: Option<Switch>,
    /// Clients to put on the block list.
    pub blocked: Vec<ClientId>,
    /// Clients to put on the approved list.
    pub approved: Vec<ClientId>,
}

/// What a line says of a grant.
#[derive(Clone, Debug, PartialEq)]
pub struct GrantLine {
    /// Its name within the source; numbers are given when it is imported.
    pub label: Label,
    /// Who granted.
    pub subject: SubjectId,
    /// To whom.
    pub client: ClientId,
    /// What.
    pub access: NamedAccess,
    /// Until when.
    pub expiry: Expiry,
    /// For which resource servers; `None`: the configured default.
    pub audience: Option<Vec<Audience>>,
}

/// What a line says of a token.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLine {
    /// What it is known by.
    pub name: TokenName,
    /// The grant it belongs to: one of a line above it.
    pub grant: Label,
    /// Its times.
    pub times: TokenTimes,
    /// The resource servers it is for, if not the grant's.
    pub audience: Option<Vec<Audience>>,
    /// What it is bound to.
    pub confirmation: Option<Confirmation>,
    /// What it is narrowed to.
    pub narrowed: Option<NamedAccess>,
}

/// How a line names a token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TokenName {
    /// By the SHA-256 of its string.
    Digest(TokenDigest),
    /// By its handle, which means something under one pepper only.
    Handle(TokenHandle),
}

/// The name of a grant within one source: an id like any other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Label(Box<str>);

impl Label {
    /// Parses the label.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        check_id(text, "the grant's label", Slash::Allowed).map_err(|error| error.to_string())?;
        Ok(Self(text.into()))
    }

    /// The label.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is not a line: the column (1 is the first byte) and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineError {
    /// Where reading stopped, in bytes from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
}

impl Line {
    /// Reads one line, without its line feed.
    ///
    /// # Errors
    /// [`LineError`]; nothing is guessed or repaired.
    pub fn parse(text: &str) -> Result<Self, LineError> {
        match kind(text)? {
            "pepper" => read::<RawPepper>(text).map(|raw| Self::Pepper(raw.pepper.0)),
            "client" => read::<RawClient>(text).map(|raw| Self::Client(raw.client.0, off_if(raw.suspended))),
            "scope" => read::<RawScope>(text).map(|raw| Self::Scope(raw.scope.0.0, off_if(raw.retired))),
            "alias" => read::<RawAlias>(text).map(|raw| Self::Alias(raw.alias.0.0, raw.of.0.0)),
            "subject" => read::<RawSubject>(text).map(|raw| Self::Subject(raw.subject.0, off_if(raw.suspended))),
            "member" => read::<RawMember>(text).map(|raw| Self::Member(raw.member.0, raw.at.0)),
            "policy" => read::<RawPolicy>(text).map(|raw| Self::Policy(raw.line())),
            "grant" => read::<RawGrant>(text)?.line().map(Self::Grant).map_err(|what| at_end(text, what)),
            "token_sha256" | "token_handle" => {
                read::<RawToken>(text)?.line().map(Self::Token).map_err(|what| at_end(text, what))
            }
            other => Err(LineError {
                column: 2,
                what: format!(
                    "the first member is {:?}; a line begins with client, scope, alias, subject, member, policy, grant, \
                     token_sha256, token_handle or pepper",
                    other.chars().take(40).collect::<String>()
                ),
            }),
        }
    }

    /// The line as it is read back by [`Line::parse`], without a line feed.
    pub fn to_json(&self) -> String {
        let json = match self {
            Self::Pepper(fingerprint) => serde_json::to_string(&RawPepper { pepper: Text(*fingerprint) }),
            Self::Client(client, switch) => {
                serde_json::to_string(&RawClient { client: Text(client.clone()), suspended: is_off(*switch) })
            }
            Self::Scope(scope, switch) => {
                serde_json::to_string(&RawScope { scope: Text(ScopeName(scope.clone())), retired: is_off(*switch) })
            }
            Self::Alias(alias, of) => serde_json::to_string(&RawAlias {
                alias: Text(ScopeName(alias.clone())),
                of: Text(ScopeName(of.clone())),
            }),
            Self::Subject(subject, switch) => {
                serde_json::to_string(&RawSubject { subject: Text(subject.clone()), suspended: is_off(*switch) })
            }
            Self::Member(member, at) => {
                serde_json::to_string(&RawMember { member: Text(member.clone()), at: Text(at.clone()) })
            }
            Self::Policy(line) => serde_json::to_string(&RawPolicy::of(line)),
            Self::Grant(line) => serde_json::to_string(&RawGrant::of(line)),
            Self::Token(line) => serde_json::to_string(&RawToken::of(line)),
        };
        // Plain structs of strings, numbers and lists: their serialisation cannot fail.
        json.unwrap_or_default()
    }
}

/// The name of the first member.
fn kind(text: &str) -> Result<&str, LineError> {
    let not_an_object = || LineError { column: 1, what: "not a JSON object; one object a line is expected".into() };
    let member = text.trim_start_matches([' ', '\t']).strip_prefix('{').ok_or_else(not_an_object)?;
    let member = member.trim_start_matches([' ', '\t']).strip_prefix('"').ok_or_else(not_an_object)?;
    member.split_once('"').map(|(name, _)| name).ok_or_else(not_an_object)
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, LineError> {
    serde_json::from_str(text).map_err(|error| {
        let what = error.to_string();
        let what = what.rsplit_once(" at line ").map_or(what.as_str(), |(what, _)| what).to_owned();
        LineError { column: error.column().max(1), what }
    })
}

fn at_end(text: &str, what: String) -> LineError {
    LineError { column: text.len(), what }
}

fn off_if(off: bool) -> Switch {
    if off { Switch::Off } else { Switch::On }
}

fn is_off(switch: Switch) -> bool {
    switch == Switch::Off
}

/// A value that is a string in JSON.
trait FromText: Sized {
    fn from_text(text: &str) -> Result<Self, String>;
    fn to_text(&self) -> Cow<'_, str>;
}

macro_rules! from_text {
    ($($kind:ty),*) => {$(
        impl FromText for $kind {
            fn from_text(text: &str) -> Result<Self, String> {
                Self::parse(text).map_err(|error| error.to_string())
            }
            fn to_text(&self) -> Cow<'_, str> {
                self.as_str().into()
            }
        }
    )*};
}
from_text!(ClientId, SubjectId, WorkspaceId, Audience, Place, Label);

#[derive(Clone, Debug)]
struct ScopeName(Box<str>);

impl FromText for ScopeName {
    fn from_text(text: &str) -> Result<Self, String> {
        check_scope_name(text).map_err(|error| error.to_string())?;
        Ok(Self(text.into()))
    }
    fn to_text(&self) -> Cow<'_, str> {
        (&*self.0).into()
    }
}

impl FromText for TokenDigest {
    fn from_text(text: &str) -> Result<Self, String> {
        Self::parse_hex(text).ok_or_else(|| "a SHA-256 is 64 lower-case hex digits".into())
    }
    fn to_text(&self) -> Cow<'_, str> {
        self.to_hex().into()
    }
}

impl FromText for TokenHandle {
    fn from_text(text: &str) -> Result<Self, String> {
        Self::parse(text).ok_or_else(|| "a token handle is `t` and 32 lower-case hex digits".into())
    }
    fn to_text(&self) -> Cow<'_, str> {
        self.to_string().into()
    }
}

/// A pepper's fingerprint.
impl FromText for u64 {
    fn from_text(text: &str) -> Result<Self, String> {
        let bytes = crate::domain::digest::parse_hex(text);
        bytes.map(Self::from_be_bytes).ok_or_else(|| "a pepper's fingerprint is 16 lower-case hex digits".into())
    }
    fn to_text(&self) -> Cow<'_, str> {
        format!("{self:016x}").into()
    }
}

impl FromText for PolicyMode {
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "allow_all" => Ok(Self::AllowAll),
            "approval_required" => Ok(Self::ApprovalRequired),
            _ => Err("the mode is \"allow_all\" or \"approval_required\"".into()),
        }
    }
    fn to_text(&self) -> Cow<'_, str> {
        match self {
            Self::AllowAll => "allow_all".into(),
            Self::ApprovalRequired => "approval_required".into(),
        }
    }
}

/// Parses while it is read, so that serde_json knows the column of what is wrong.
#[derive(Clone, Debug)]
struct Text<T>(T);

impl<T: FromText> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_text())
    }
}

impl<'de, T: FromText> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(std::marker::PhantomData<T>);
        impl<T: FromText> serde::de::Visitor<'_> for Visitor<T> {
            type Value = Text<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Text<T>, E> {
                T::from_text(text).map(Text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor(std::marker::PhantomData))
    }
}

/// Seconds since 1970.
#[derive(Clone, Copy, Debug)]
struct Moment(Timestamp);

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0.seconds())
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = u64::deserialize(deserializer)?;
        Timestamp::from_seconds(seconds).map(Self).ok_or_else(|| {
            D::Error::custom(format!("{seconds} is later than 2106-02-07; times are seconds since 1970"))
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPepper {
    pepper: Text<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawClient {
    client: Text<ClientId>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    suspended: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScope {
    scope: Text<ScopeName>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    retired: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAlias {
    alias: Text<ScopeName>,
    of: Text<ScopeName>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSubject {
    subject: Text<SubjectId>,
    #[serde(default)]
    suspended: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMember {
    member: Text<SubjectId>,
    at: Text<Place>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
    policy: Text<WorkspaceId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<Text<PolicyMode>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    personal_tokens: Option<bool>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    blocked: Vec<Text<ClientId>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    approved: Vec<Text<ClientId>>,
}

impl RawPolicy {
    fn line(self) -> PolicyLine {
        PolicyLine {
            workspace: self.policy.0,
            mode: self.mode.map(|mode| mode.0),
            personal: self.personal_tokens.map(|on| off_if(!on)),
            blocked: self.blocked.into_iter().map(|client| client.0).collect(),
            approved: self.approved.into_iter().map(|client| client.0).collect(),
        }
    }

    fn of(line: &PolicyLine) -> Self {
        Self {
            policy: Text(line.workspace.clone()),
            mode: line.mode.map(Text),
            personal_tokens: line.personal.map(|personal| personal == Switch::On),
            blocked: line.blocked.iter().cloned().map(Text).collect(),
            approved: line.approved.iter().cloned().map(Text).collect(),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPair {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<Text<Place>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    everywhere: bool,
    scopes: Vec<Text<ScopeName>>,
}

fn access_from(pairs: Vec<RawPair>) -> Result<NamedAccess, String> {
    let pair = |pair: RawPair| {
        let reach = match (pair.at, pair.everywhere) {
            (Some(place), false) => Reach::At(place.0),
            (None, true) => Reach::Everywhere,
            _ => return Err("an access pair says either \"at\": a place, or \"everywhere\": true".to_owned()),
        };
        Ok((reach, pair.scopes.into_iter().map(|scope| scope.0.0).collect()))
    };
    pairs.into_iter().map(pair).collect()
}

fn access_to(access: &NamedAccess) -> Vec<RawPair> {
    let pair = |(reach, scopes): &(Reach, Vec<Box<str>>)| {
        let (at, everywhere) = match reach {
            Reach::At(place) => (Some(Text(place.clone())), false),
            Reach::Everywhere => (None, true),
        };
        RawPair { at, everywhere, scopes: scopes.iter().cloned().map(|scope| Text(ScopeName(scope))).collect() }
    };
    access.iter().map(pair).collect()
}

fn expiry_from(exp: Option<Moment>, never_expires: bool) -> Result<Expiry, String> {
    match (exp, never_expires) {
        (Some(end), false) => Ok(Expiry::At(end.0)),
        (None, true) => Ok(Expiry::Never),
        (None, false) => Err("no expiry; say \"exp\": seconds since 1970, or \"never_expires\": true".into()),
        (Some(_), true) => Err("both \"exp\" and \"never_expires\": say one of them".into()),
    }
}

fn audience_from(aud: Option<Vec<Text<Audience>>>) -> Result<Option<Vec<Audience>>, String> {
    match aud {
        Some(list) if list.is_empty() => Err("\"aud\" is empty; leave it out to mean the default".into()),
        aud => Ok(aud.map(|list| list.into_iter().map(|audience| audience.0).collect())),
    }
}

fn audience_to(audience: &Option<Vec<Audience>>) -> Option<Vec<Text<Audience>>> {
    audience.as_ref().map(|list| list.iter().cloned().map(Text).collect())
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGrant {
    grant: Text<Label>,
    subject: Text<SubjectId>,
    client: Text<ClientId>,
    access: Vec<RawPair>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exp: Option<Moment>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    never_expires: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    aud: Option<Vec<Text<Audience>>>,
}

impl RawGrant {
    fn line(self) -> Result<GrantLine, String> {
        Ok(GrantLine {
            label: self.grant.0,
            subject: self.subject.0,
            client: self.client.0,
            access: access_from(self.access)?,
            expiry: expiry_from(self.exp, self.never_expires)?,
            audience: audience_from(self.aud)?,
        })
    }

    fn of(line: &GrantLine) -> Self {
        Self {
            grant: Text(line.label.clone()),
            subject: Text(line.subject.clone()),
            client: Text(line.client.clone()),
            access: access_to(&line.access),
            exp: line.expiry.at().map(Moment),
            never_expires: line.expiry == Expiry::Never,
            aud: audience_to(&line.audience),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawToken {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token_sha256: Option<Text<TokenDigest>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token_handle: Option<Text<TokenHandle>>,
    grant: Text<Label>,
    iat: Moment,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<Moment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exp: Option<Moment>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    never_expires: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    aud: Option<Vec<Text<Audience>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cnf: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    narrowed: Option<Vec<RawPair>>,
}

impl RawToken {
    fn line(self) -> Result<TokenLine, String> {
        let name = match (self.token_sha256, self.token_handle) {
            (Some(digest), None) => TokenName::Digest(digest.0),
            (None, Some(handle)) => TokenName::Handle(handle.0),
            _ => return Err("a token line has either \"token_sha256\" or \"token_handle\"".into()),
        };
        let issued = self.iat.0;
        Ok(TokenLine {
            name,
            grant: self.grant.0,
            times: TokenTimes {
                issued,
                not_before: self.nbf.map_or(issued, |nbf| nbf.0),
                expiry: expiry_from(self.exp, self.never_expires)?,
            },
            audience: audience_from(self.aud)?,
            confirmation: self.cnf.map(|value| confirmation::from_json(&value)).transpose()?,
            narrowed: self.narrowed.map(access_from).transpose()?,
        })
    }

    fn of(line: &TokenLine) -> Self {
        let (token_sha256, token_handle) = match line.name {
            TokenName::Digest(digest) => (Some(Text(digest)), None),
            TokenName::Handle(handle) => (None, Some(Text(handle))),
        };
        let TokenTimes { issued, not_before, expiry } = line.times;
        Self {
            token_sha256,
            token_handle,
            grant: Text(line.grant.clone()),
            iat: Moment(issued),
            nbf: (not_before != issued).then_some(Moment(not_before)),
            exp: expiry.at().map(Moment),
            never_expires: expiry == Expiry::Never,
            aud: audience_to(&line.audience),
            cnf: line.confirmation.as_ref().map(confirmation::to_json),
            narrowed: line.narrowed.as_ref().map(access_to),
        }
    }
}
