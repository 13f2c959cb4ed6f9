//! `GET /.well-known/oauth-authorization-server` (RFC 8414).
//!
//! Generated from the running configuration, so that it is true (R8414-06); nothing empty is listed (R8414-04); the
//! issuer is as configured, byte for byte (R8414-02). The document belongs to the issuer: where a base document is
//! configured, ours is laid over it. **Waiver (R8414-05):** without one, `response_types_supported` and
//! `token_endpoint` are missing, because Tokenscope issues nothing and the RFC forbids the empty list.

use serde_json::{Map, Value, json};

use crate::domain::mint::TokenPrefix;
use crate::server::Wait;
use crate::server::api::introspection::DETAIL_TYPE;
use crate::server::credentials::Callers;
use crate::service::report::ScopeRow;

/// What the HTTPS door says of itself.
#[derive(Clone, Debug)]
pub struct OauthSettings {
    /// Who issues the tokens: `iss`, and `issuer` in the metadata; an https URL without query and fragment.
    pub issuer: String,
    /// Where this door is reached from outside, an https URL without a slash at its end.
    pub base_url: String,
    /// What the tokens minted here begin with, so that junk is told without a look-up.
    pub prefix: TokenPrefix,
    /// The realm of challenges.
    pub realm: String,
    /// The issuer's own metadata, to lay ours over; `None` serves ours alone.
    pub base_document: Option<Map<String, Value>>,
    /// Whether TLS asks for client certificates, so that `tls_client_auth` can work.
    pub client_certificates: bool,
    /// What the 200 of a revocation by RFC 7009 waits for. The RFC knows no way to say so in the request.
    pub revocation_wait: Wait,
}

impl OauthSettings {
    /// Says what is wrong with the two URLs and the realm.
    ///
    /// # Errors
    /// A sentence that names the setting.
    pub fn check(&self) -> Result<(), String> {
        for (name, url) in [("issuer", &self.issuer), ("base_url", &self.base_url)] {
            let rest = url.strip_prefix("https://").unwrap_or_default();
            let clean = rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\<>^`{|}?#".contains(&byte));
            if rest.is_empty() || rest.starts_with('/') || !clean {
                return Err(format!(
                    "{name} {url:?} is not an https URL without query and fragment (RFC 8414, section 2)"
                ));
            }
        }
        if self.base_url.ends_with('/') {
            return Err(format!("base_url {:?} ends with a slash; leave it out", self.base_url));
        }
        if self.realm.is_empty() || super::challenge::clean(&self.realm) != self.realm {
            return Err("realm: visible ASCII without \" and \\".into());
        }
        Ok(())
    }

    /// The paths the metadata is served at: for an issuer with a path both forms (R8414-01), its trailing slash
    /// dropped first.
    pub(super) fn metadata_paths(&self) -> Vec<String> {
        const WELL_KNOWN: &str = "/.well-known/oauth-authorization-server";
        let rest = self.issuer.split_once("://").map_or(self.issuer.as_str(), |(_, rest)| rest);
        let path = rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default();
        match path.trim_end_matches('/') {
            "" => vec![WELL_KNOWN.into()],
            path => vec![format!("{WELL_KNOWN}{path}"), format!("{path}{WELL_KNOWN}")],
        }
    }
}

/// The authentication methods that work now: at introspection, and at revocation.
pub(super) fn methods(settings: &OauthSettings, callers: &Callers) -> (Vec<&'static str>, Vec<&'static str>) {
    let any = |has: fn(&crate::server::credentials::CredentialsOf) -> bool| callers.shows().any(has);
    let mut client = Vec::new();
    if any(|shows| shows.secret_sha256.is_some()) {
        client.extend(["client_secret_basic", "client_secret_post"]);
    }
    let by_certificate = any(|shows| shows.certificate_name.is_some() || shows.certificate_sha256.is_some());
    if settings.client_certificates && by_certificate {
        client.push("tls_client_auth");
    }
    let mut asking = client.clone();
    if any(|shows| shows.bearer_sha256.is_some()) {
        // RFC 8414, section 2: an access token type may stand here, though not at revocation.
        asking.push("Bearer");
    }
    (asking, client)
}

/// The document.
pub(super) fn document(settings: &OauthSettings, callers: &Callers, scopes: &[ScopeRow]) -> Vec<u8> {
    let base = &settings.base_url;
    let (asking, revoking) = methods(settings, callers);
    let mut document = settings.base_document.clone().unwrap_or_default();
    let ours = [
        ("issuer", json!(settings.issuer)),
        ("introspection_endpoint", json!(format!("{base}/introspect"))),
        ("introspection_endpoint_auth_methods_supported", json!(asking)),
        ("revocation_endpoint", json!(format!("{base}/revoke"))),
        ("revocation_endpoint_auth_methods_supported", json!(revoking)),
        ("authorization_details_types_supported", merged(&document)),
        (
            "scopes_supported",
            scopes.iter().filter(|scope| !scope.retired).map(|scope| scope.name.as_str()).collect::<Vec<_>>().into(),
        ),
        ("tokenscope_authorize_endpoint", json!(format!("{base}/authorize"))),
        ("tokenscope_api", json!(format!("{base}/openapi.json"))),
        // How long after a 200 of /revoke this server may still call the token active: no time at all (TS-06).
        ("tokenscope_revocation_window_seconds", json!(0)),
    ];
    document.extend(ours.map(|(name, value)| (name.to_owned(), value)));
    document.retain(|_, value| value.as_array().is_none_or(|list| !list.is_empty()));
    Value::Object(document).to_string().into_bytes()
}

/// The issuer's own detail types, and ours.
fn merged(base: &Map<String, Value>) -> Value {
    let mut types =
        base.get("authorization_details_types_supported").and_then(Value::as_array).cloned().unwrap_or_default();
    if !types.iter().any(|known| known == DETAIL_TYPE) {
        types.push(DETAIL_TYPE.into());
    }
    types.into()
}
