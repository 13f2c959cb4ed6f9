//! RFC 7662's answer about an active token, and what every door says of an inactive one, as bytes of JSON.
//!
//! The bytes are written by hand (strings through `serde_json`), so that the order of members is fixed and an answer
//! costs one allocation. Used by `/introspect` and by the JSON API; neither adds a member to an inactive answer.
//!
//! What it promises: places with different scopes are never merged into one object of `authorization_details` (TS-03:
//! inside one object the fields multiply, R9396-03); `scope` is what holds at every place (TS-02); the `cnf` member is
//! never dropped, and a token whose `cnf` cannot be shown is not shown at all (R9449-04).

use std::collections::HashMap;

use crate::domain::{Confirmation, Revision, ScopeMask, TokenHandle, TokenTimes};
use crate::service::ActiveToken;

use super::text::Base64;

/// The whole of what anybody learns of an inactive token (TS-01, R7662-14, R7662-15).
pub(in crate::server) const INACTIVE: &[u8] = br#"{"active":false}"#;

/// The `type` of our objects in `authorization_details` (R9396-02).
pub(in crate::server) const DETAIL_TYPE: &str = "tokenscope_access";

/// The places of a token that have the same scopes: one object of `authorization_details`.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::server) struct Detail<'a> {
    /// As written, in the order of the answer.
    pub(in crate::server) places: Vec<&'a str>,
    /// What is allowed at each of them.
    pub(in crate::server) scopes: Vec<&'a str>,
}

/// Puts places with the same set of scopes together, and keeps all others apart (TS-03). Places without scopes are
/// left out.
pub(in crate::server) fn group<'a, N>(
    places: impl Iterator<Item = (&'a str, ScopeMask)>,
    names: impl Fn(&ScopeMask) -> N,
) -> Vec<Detail<'a>>
where
    N: Iterator<Item = &'a str>,
{
    let mut numbers: HashMap<ScopeMask, usize> = HashMap::new();
    let mut details: Vec<Detail<'a>> = Vec::new();
    for (place, mask) in places.filter(|(_, mask)| !mask.is_empty()) {
        let number = *numbers.entry(mask).or_insert_with(|| {
            details.push(Detail { places: Vec::new(), scopes: names(&mask).collect() });
            details.len() - 1
        });
        if let Some(detail) = details.get_mut(number) {
            detail.places.push(place);
        }
    }
    details
}

/// What an answer says of an active token.
#[derive(Debug)]
pub(in crate::server) struct Shown<'a> {
    /// `jti`.
    pub(in crate::server) handle: TokenHandle,
    /// `sub`.
    pub(in crate::server) subject: &'a str,
    /// `client_id`.
    pub(in crate::server) client: &'a str,
    /// `iat`, `nbf`, `exp`.
    pub(in crate::server) times: TokenTimes,
    /// `cnf`.
    pub(in crate::server) confirmation: Option<Confirmation>,
    /// `scope`; left out when empty, because its grammar has no empty form (R7662-13).
    pub(in crate::server) scope: Vec<&'a str>,
    /// `aud`.
    pub(in crate::server) audience: Vec<&'a str>,
    /// `authorization_details`.
    pub(in crate::server) details: Vec<Detail<'a>>,
}

impl<'a> Shown<'a> {
    /// Everything the service says of a token.
    pub(in crate::server) fn of(token: &ActiveToken<'a>) -> Self {
        // The names live as long as the pin; only the iterators borrow the token.
        let names = |mask: &ScopeMask| token.scope_names(mask).collect::<Vec<_>>().into_iter();
        Self {
            handle: token.handle,
            subject: token.subject,
            client: token.client,
            times: token.times,
            confirmation: token.confirmation.map(Into::into),
            scope: names(&token.everywhere).collect(),
            audience: token.audience().collect(),
            details: group(token.places(), names),
        }
    }
}

/// A decision that was asked for beside the introspection.
#[derive(Debug)]
pub(in crate::server) struct ShownDecision<'a> {
    /// `None`: it may. Otherwise the closed word and its sentence (TS-11: only ever given for an active token).
    pub(in crate::server) denied: Option<(&'static str, &'static str)>,
    /// A complete `WWW-Authenticate` value to hand to the client (R6750-01), when it may not.
    pub(in crate::server) challenge: Option<&'a str>,
}

/// The `cnf` member cannot be shown, so neither can the token (R9449-04).
#[derive(Debug, PartialEq, Eq)]
pub(in crate::server) struct CannotShow;

/// The `cnf` member as JSON, and whether it binds to a DPoP key.
fn confirmation_json(confirmation: &Confirmation) -> Result<(String, bool), CannotShow> {
    match confirmation {
        // R8705-03: base64url of the 32 bytes, no padding.
        Confirmation::Certificate(hash) => Ok((format!(r#"{{"x5t#S256":"{}"}}"#, Base64::Url.encode(hash)), false)),
        Confirmation::DpopKey(hash) => Ok((format!(r#"{{"jkt":"{}"}}"#, Base64::Url.encode(hash)), true)),
        Confirmation::Other(json) => {
            let object: serde_json::Map<String, serde_json::Value> =
                serde_json::from_str(json).map_err(|_| CannotShow)?;
            if object.is_empty() {
                return Err(CannotShow);
            }
            let dpop = object.contains_key("jkt");
            Ok((serde_json::Value::Object(object).to_string(), dpop))
        }
    }
}

/// Whether a token is bound to a DPoP key (R9449-02: then its type is `DPoP`, whatever else it is).
pub(in crate::server) fn token_type(confirmation: Option<&Confirmation>) -> &'static str {
    let dpop = confirmation.is_some_and(|c| confirmation_json(c).is_ok_and(|(_, dpop)| dpop));
    if dpop { "DPoP" } else { "Bearer" }
}

/// A JSON object while it is written.
struct Object<'o> {
    out: &'o mut Vec<u8>,
    first: bool,
}

impl<'o> Object<'o> {
    fn open(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    /// Writes a member; `json` is taken as it is.
    fn raw(&mut self, name: &str, json: &[u8]) {
        self.name(name);
        self.out.extend_from_slice(json);
    }

    fn name(&mut self, name: &str) {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        string(self.out, name);
        self.out.push(b':');
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        string(self.out, value);
    }

    fn number(&mut self, name: &str, value: u64) {
        self.raw(name, value.to_string().as_bytes());
    }

    fn list(&mut self, name: &str, values: &[&str]) {
        self.name(name);
        for (number, value) in values.iter().enumerate() {
            self.out.push(if number == 0 { b'[' } else { b',' });
            string(self.out, value);
        }
        self.out.extend_from_slice(if values.is_empty() { b"[]" } else { b"]" });
    }

    fn close(self) {
        self.out.push(b'}');
    }
}

/// Writes `text` as a JSON string.
fn string(out: &mut Vec<u8>, text: &str) {
    // Writing text into a Vec cannot fail; if it ever did, an empty string is what is left.
    if serde_json::to_writer(&mut *out, text).is_err() {
        out.extend_from_slice(b"\"\"");
    }
}

/// Writes the answer about an active token.
///
/// # Errors
/// The token is bound in a way that cannot be shown: answer [`INACTIVE`].
pub(in crate::server) fn active(
    token: &Shown<'_>,
    issuer: Option<&str>,
    decision: Option<&ShownDecision<'_>>,
    revision: Revision,
) -> Result<Vec<u8>, CannotShow> {
    let confirmation = token.confirmation.as_ref().map(confirmation_json).transpose()?;
    let mut out = Vec::with_capacity(512);
    let mut object = Object::open(&mut out);
    object.raw("active", b"true");
    if !token.scope.is_empty() {
        object.text("scope", &token.scope.join(" "));
    }
    object.text("client_id", token.client);
    object.text("sub", token.subject);
    // Left out only when the token never ends (TS-10: that was said when it was registered).
    if let Some(end) = token.times.expiry.at() {
        object.number("exp", end.seconds());
    }
    object.number("iat", token.times.issued.seconds());
    object.number("nbf", token.times.not_before.seconds());
    if let Some(issuer) = issuer {
        object.text("iss", issuer);
    }
    match token.audience.as_slice() {
        [] => {}
        [one] => object.text("aud", one),
        several => object.list("aud", several),
    }
    object.text("jti", &token.handle.to_string());
    object.text("token_type", if confirmation.as_ref().is_some_and(|(_, dpop)| *dpop) { "DPoP" } else { "Bearer" });
    if let Some((json, _)) = &confirmation {
        object.raw("cnf", json.as_bytes());
    }
    if !token.details.is_empty() {
        object.name("authorization_details");
        for (number, detail) in token.details.iter().enumerate() {
            object.out.push(if number == 0 { b'[' } else { b',' });
            let mut one = Object::open(object.out);
            one.text("type", DETAIL_TYPE);
            one.list("locations", &detail.places);
            one.list("actions", &detail.scopes);
            one.close();
        }
        object.out.push(b']');
    }
    finish(object, decision, revision);
    Ok(out)
}

/// Writes the answer about a token that is active, but of which nothing else can be said: it has nothing left at any
/// place the caller may see. Only a question for a decision is answered so; plain introspection says inactive.
pub(in crate::server) fn denied_everywhere(decision: &ShownDecision<'_>, revision: Revision) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let mut object = Object::open(&mut out);
    object.raw("active", b"true");
    finish(object, Some(decision), revision);
    out
}

fn finish(mut object: Object<'_>, decision: Option<&ShownDecision<'_>>, revision: Revision) {
    if let Some(decision) = decision {
        object.name("tokenscope_decision");
        write_decision(object.out, decision);
    }
    object.text("tokenscope_revision", &revision.to_string());
    object.close();
}

fn write_decision(out: &mut Vec<u8>, decision: &ShownDecision<'_>) {
    let mut object = Object::open(out);
    object.raw("allowed", if decision.denied.is_none() { b"true" } else { b"false" });
    if let Some((reason, explanation)) = decision.denied {
        object.text("reason", reason);
        object.text("explanation", explanation);
    }
    if let Some(challenge) = decision.challenge {
        object.text("www_authenticate", challenge);
    }
    object.close();
}
