//! From text to values: each parser is called while the file is read, so that its error points at the value.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor, value::SeqAccessDeserializer};

use super::words;
use crate::domain::mint::TokenPrefix;
use crate::domain::{Audience, CallerId, ClientId, WorkspaceId, digest};
use crate::server::Wait;

/// Reads a text and parses it.
fn text<'de, D: Deserializer<'de>, T, E: fmt::Display>(
    deserializer: D,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

pub(super) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    text(deserializer, |text| {
        text.parse().map_err(|_| format!("`{text}` is not an IP address and a port, like 127.0.0.1:7662 or [::]:7662"))
    })
}

pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    text(deserializer, words::parse_duration)
}

pub(super) fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    text(deserializer, |text| if text.is_empty() { Err("a path cannot be empty") } else { Ok(PathBuf::from(text)) })
}

pub(super) fn some_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    path(deserializer).map(Some)
}

pub(super) fn prefix<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TokenPrefix, D::Error> {
    text(deserializer, |text| {
        TokenPrefix::parse(text).ok_or_else(|| format!("`{text}` is not a token prefix: 2 to 8 letters a to z"))
    })
}

pub(super) fn wait<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Wait, D::Error> {
    text(deserializer, |text| {
        Wait::parse(text).ok_or_else(|| format!("`{}` is not applied, durable or fenced", text.escape_default()))
    })
}

/// An issuer as RFC 8414, section 2, has it: "a URL that uses the \"https\" scheme and has no query or fragment".
pub(super) fn https_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    text(deserializer, |text| {
        let host = text.strip_prefix("https://").unwrap_or_default();
        let plain = text.bytes().all(|b| b.is_ascii_graphic() && !b"\"\\<>^`{|}?#".contains(&b));
        let named = !host.is_empty() && !host.starts_with(['/', ':']);
        if named && plain && text.len() <= 512 {
            return Ok(text.to_owned());
        }
        Err(format!("`{}` must be an https:// URL without query and fragment", text.escape_default()))
    })
}

pub(super) fn some_https_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    https_url(deserializer).map(|url| Some(url.trim_end_matches('/').to_owned()))
}

pub(super) fn audiences<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Audience>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    names.iter().map(|name| Audience::parse(name).map_err(D::Error::custom)).collect()
}

pub(super) fn some_sha256<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<[u8; 32]>, D::Error> {
    // The text is not repeated: whoever wrote the secret itself here must not find it in a log.
    text(deserializer, |text| {
        digest::parse_hex(text).map(Some).ok_or("not a SHA-256: 64 lower-case hex digits, as sha256sum prints them")
    })
}

pub(super) fn some_dns_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    text(deserializer, |text| match rustls::pki_types::DnsName::try_from(text) {
        Ok(_) => Ok(Some(text.to_owned())),
        Err(_) => Err(format!("`{}` is not a DNS name", text.escape_default())),
    })
}

/// A caller's name, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerName(pub CallerId);

impl<'de> Deserialize<'de> for CallerName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer, CallerId::parse).map(Self)
    }
}

/// `"all"`, or a list of names that are not empty; `parse` checks each.
struct AllOrNames<P>(P, &'static str);

impl<'de, P: Fn(&str) -> Result<String, crate::domain::id::IdError>> Visitor<'de> for AllOrNames<P> {
    type Value = super::Names;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"all\" or a list of {}", self.1)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        match text {
            "all" => Ok(super::Names::All),
            _ => Err(E::custom(format!("`{}` must be \"all\" or a list of {}", text.escape_default(), self.1))),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        let names = Vec::<String>::deserialize(SeqAccessDeserializer::new(seq))?;
        if names.is_empty() {
            return Err(A::Error::custom(format!(
                "an empty list gives nothing; name {}, or leave the right out",
                self.1
            )));
        }
        let checked: Result<_, _> = names.iter().map(|name| (self.0)(name)).collect();
        checked.map(super::Names::These).map_err(A::Error::custom)
    }
}

fn audience_name(text: &str) -> Result<String, crate::domain::id::IdError> {
    Audience::parse(text).map(|audience| audience.as_str().to_owned())
}

fn workspace_name(text: &str) -> Result<String, crate::domain::id::IdError> {
    WorkspaceId::parse(text).map(|workspace| workspace.as_str().to_owned())
}

pub(super) fn all_or_audiences<'de, D: Deserializer<'de>>(deserializer: D) -> Result<super::Names, D::Error> {
    deserializer.deserialize_any(AllOrNames(audience_name, "audiences"))
}

pub(super) fn all_or_workspaces<'de, D: Deserializer<'de>>(deserializer: D) -> Result<super::Names, D::Error> {
    deserializer.deserialize_any(AllOrNames(workspace_name, "workspaces"))
}

pub(super) fn some_workspaces<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<super::Names>, D::Error> {
    all_or_workspaces(deserializer).map(Some)
}

/// The shape `{ own_tokens_of = "client" }`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnTokens {
    #[serde(deserialize_with = "client")]
    own_tokens_of: ClientId,
}

fn client<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ClientId, D::Error> {
    text(deserializer, ClientId::parse)
}

/// The right to revoke: `"anything"`, or `{ own_tokens_of = "client" }`.
pub(super) fn some_revoke<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<crate::service::caller::RevokeRight>, D::Error> {
    use crate::service::caller::RevokeRight;
    struct Right;

    impl<'de> Visitor<'de> for Right {
        type Value = RevokeRight;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("\"anything\" or { own_tokens_of = \"client\" }")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<RevokeRight, E> {
            match text {
                "anything" => Ok(RevokeRight::Anything),
                _ => Err(E::custom(format!(
                    "`{}` must be \"anything\" or {{ own_tokens_of = \"client\" }}",
                    text.escape_default()
                ))),
            }
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<RevokeRight, A::Error> {
            let own = OwnTokens::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
            Ok(RevokeRight::OwnTokensOf(own.own_tokens_of))
        }
    }

    deserializer.deserialize_any(Right).map(Some)
}
