//! `WWW-Authenticate` values: what to tell somebody who may not.
//!
//! RFC 6750, section 3: each attribute once, in a limited set of characters (R6750-05). What cannot stand in an
//! attribute is replaced or the attribute is left out; a header that somebody else's text could break out of is never
//! written. The realm is always there (R6750-06).

use crate::domain::Denial;
use crate::domain::scope::check_scope_name;

/// The authentication scheme a challenge asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scheme {
    /// RFC 7617.
    Basic,
    /// RFC 6750.
    Bearer,
    /// RFC 9449, for tokens that are bound to such a key.
    Dpop,
}

impl Scheme {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Basic => "Basic",
            Self::Bearer => "Bearer",
            Self::Dpop => "DPoP",
        }
    }

    /// The scheme for tokens of this type.
    pub(super) fn of_token_type(token_type: &str) -> Self {
        if token_type == "DPoP" { Self::Dpop } else { Self::Bearer }
    }
}

/// A challenge while it is written.
#[derive(Debug)]
pub(super) struct Challenge(String);

impl Challenge {
    /// A bare challenge: no credentials came, so no error is named (R6750-02).
    pub(super) fn new(scheme: Scheme, realm: &str) -> Self {
        let mut challenge = Self(format!("{} realm=\"{}\"", scheme.as_str(), clean(realm)));
        if scheme == Scheme::Basic {
            // RFC 7617, section 2.1: the only value there is.
            challenge.0.push_str(", charset=\"UTF-8\"");
        }
        challenge
    }

    /// Names what went wrong.
    pub(super) fn error(mut self, code: &'static str, description: &str) -> Self {
        self.0.push_str(&format!(", error=\"{code}\", error_description=\"{}\"", clean(description)));
        self
    }

    /// Names the scopes that are needed (R6750-04); left out unless each is a scope name.
    pub(super) fn scope<'s>(mut self, names: impl Iterator<Item = &'s str>) -> Self {
        let names: Vec<&str> = names.collect();
        if !names.is_empty() && names.iter().all(|name| check_scope_name(name).is_ok()) {
            self.0.push_str(&format!(", scope=\"{}\"", names.join(" ")));
        }
        self
    }

    /// The header's value.
    pub(super) fn into_string(self) -> String {
        self.0
    }
}

/// Visible ASCII and spaces without `"` and `\`: what may stand in every attribute of RFC 6750, section 3, and in
/// `error_description` of RFC 6749, section 5.2. Anything else becomes `?`.
pub(super) fn clean(text: &str) -> String {
    let fits = |c: char| (' '..='~').contains(&c) && c != '"' && c != '\\';
    text.chars().map(|c| if fits(c) { c } else { '?' }).collect()
}

/// The challenge for an inactive token; says the same for every cause (TS-01).
pub(super) fn inactive(realm: &str) -> Challenge {
    Challenge::new(Scheme::Bearer, realm)
        .error("invalid_token", "The access token is unknown, expired, revoked, or not meant for this resource server")
}

/// The challenge for an active token that may not do what was asked (R6750-03, TS-11).
pub(super) fn denied<'s>(
    scheme: Scheme,
    realm: &str,
    denial: Denial,
    scopes: impl Iterator<Item = &'s str>,
) -> Challenge {
    let description = format!("{}: {}", denial.as_str(), denial.explanation());
    Challenge::new(scheme, realm).error("insufficient_scope", &description).scope(scopes)
}
