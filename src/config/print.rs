//! Configurations as text: the sample with every key explained, and the one in force with its secrets hidden.

use std::fmt::Write as _;

use super::limits::{ROWS, Row};
use super::{CallerEntry, Config, LogFormat, Names, words};
use crate::service::caller::RevokeRight;

/// The sample before `[limits]`. Keys that have a default stand as comments that show it.
const SAMPLE: &str = r#"# Tokenscope's configuration. A key that is not known here is an error, so is a number without its unit.
# Relative paths are taken from the directory of this file.

[server]
# Journal, snapshots and secrets. Made if it is not there, with mode 0700; give it a disk you trust.
data_dir = "data"
# The name of this service in `iss` and in its metadata (RFC 8414): an https URL without query and fragment.
issuer = "https://tokenscope.example"
# Where callers reach the HTTPS door, if that is not the issuer.
# base_url = "https://tokenscope.internal.example:7662"
# UDP address of the native protocol, and TCP address of RFC 7662. They may share a port.
# quic_address = "127.0.0.1:7662"
# https_address = "127.0.0.1:7662"
# Plain HTTP for /metrics, /livez and /readyz. It asks for no credentials: keep it private.
# admin_address = "127.0.0.1:7663"
# What minted tokens begin with: 2 to 8 letters a to z. Choose your own, so that secret scanners know yours.
# token_prefix = "tks"
# The audience of grants that name none. Not given: the issuer.
# default_audience = ["https://api.example"]
# What the answer to POST /revoke (RFC 7009) waits for: "applied" (durable, and visible to every question), or "fenced"
# (also out of every near-cache; up to limits.follower_lease later). Other changes say so in the request (?wait=fenced).
# revocation_wait = "applied"
# A shutdown says "not ready", waits this long for balancers to notice, then takes no new work,
# drain_wait = "1s"
# and waits this long for work in flight. A second signal ends the wait.
# drain_deadline = "30s"

[tls]
# PEM files, read again on SIGHUP and when their content changes.
certificate = "server.pem"
key = "server.key"
# The authorities that sign callers' certificates.
client_ca = "ca.pem"

[keys]
# Pepper and MAC keys; made once. Without this file the data directory is worthless, so keep a copy in a safe place.
# Not given: `secrets` in the data directory.
# secrets = "/run/credentials/tokenscope.service/secrets"

[log]
# filter = "info"
# "auto" is pretty on a terminal and JSON otherwise; also "pretty", "json".
# format = "auto"

[snapshot]
# interval = "15m"
# keep = 2

# Who may do what. A caller shows a certificate (by a DNS name in it, or by its SHA-256), a secret (HTTP Basic with its
# name), or a bearer token; of the latter two only the SHA-256 stands here: printf %s "$SECRET" | sha256sum
#
# An API server: asks about tokens that are meant for it.
# [[caller]]
# name = "api"
# certificate_name = "api.callers.example"
# ask = { audiences = ["https://api.example"], workspaces = "all" }
#
# The authorization server: grants, issues, revokes, says which scopes and clients there are.
# [[caller]]
# name = "issuer"
# certificate_name = "issuer.callers.example"
# issue = true
# revoke = "anything"
# define = true
#
# An OAuth client that takes back its own tokens (RFC 7009).
# [[caller]]
# name = "planner"
# secret_sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
# revoke = { own_tokens_of = "planner" }
#
# Somebody who manages the workspace 1579: its members, and which apps it lets in.
# [[caller]]
# name = "managers-of-1579"
# bearer_sha256 = "fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9"
# administer = ["1579"]
#
# The operator: explains, lists, takes snapshots.
# [[caller]]
# name = "operator"
# certificate_name = "operator.callers.example"
# ask = { audiences = "all", workspaces = "all" }
# operate = true

[limits]
# What each bounds and why: `tokenscope config limits`.
"#;

impl Config {
    /// A sample with every key, what it is for, and its default as a comment.
    pub fn print_default() -> String {
        let mut out = String::from(SAMPLE);
        for row in ROWS {
            let Row { key, unit, default, .. } = row;
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(out, "# {key} = {}", unit.write(*default));
        }
        out
    }

    /// This configuration with every value in force, as TOML. Hashes of secrets are replaced by `hidden`.
    pub fn print_effective(&self) -> String {
        let mut out = String::new();
        let (server, tls) = (&self.server, &self.tls);
        let mut section = |name: &str, pairs: &[(&str, String)]| {
            let _ = writeln!(out, "[{name}]");
            for (key, value) in pairs {
                let _ = writeln!(out, "{key} = {value}");
            }
            out.push('\n');
        };
        let path = |path: &std::path::Path| text(&path.display().to_string());
        let audience: Vec<&str> = server.default_audience.iter().map(|audience| audience.as_str()).collect();
        section(
            "server",
            &[
                ("data_dir", path(&server.data_dir)),
                ("issuer", text(&server.issuer)),
                ("base_url", text(self.base_url())),
                ("quic_address", text(&server.quic_address.to_string())),
                ("https_address", text(&server.https_address.to_string())),
                ("admin_address", text(&server.admin_address.to_string())),
                ("token_prefix", text(server.token_prefix.as_str())),
                ("default_audience", list(audience)),
                ("revocation_wait", text(server.revocation_wait.as_str())),
                ("drain_wait", text(&words::duration_words(server.drain_wait))),
                ("drain_deadline", text(&words::duration_words(server.drain_deadline))),
            ],
        );
        section(
            "tls",
            &[("certificate", path(&tls.certificate)), ("key", path(&tls.key)), ("client_ca", path(&tls.client_ca))],
        );
        section("keys", &[("secrets", path(&self.secrets_path()))]);
        let format = match self.log.format {
            LogFormat::Auto => "auto",
            LogFormat::Pretty => "pretty",
            LogFormat::Json => "json",
        };
        section("log", &[("filter", text(&self.log.filter)), ("format", text(format))]);
        section(
            "snapshot",
            &[
                ("interval", text(&words::duration_words(self.snapshot.interval))),
                ("keep", self.snapshot.keep.to_string()),
            ],
        );
        let limit = |row: &Row| (row.key, row.unit.write(self.limits.value(row.key).unwrap_or(row.default)));
        section("limits", &ROWS.iter().map(limit).collect::<Vec<_>>());
        for caller in &self.callers {
            section("[caller]", &caller_pairs(caller));
        }
        out
    }
}

fn caller_pairs(caller: &CallerEntry) -> Vec<(&'static str, String)> {
    let mut pairs = vec![("name", text(caller.name()))];
    if let Some(name) = &caller.certificate_name {
        pairs.push(("certificate_name", text(name)));
    }
    let hashes = [
        ("certificate_sha256", caller.certificate_sha256),
        ("secret_sha256", caller.secret_sha256),
        ("bearer_sha256", caller.bearer_sha256),
    ];
    pairs.extend(hashes.into_iter().filter(|(_, hash)| hash.is_some()).map(|(key, _)| (key, text("hidden"))));
    if let Some(ask) = &caller.ask {
        let both = format!("{{ audiences = {}, workspaces = {} }}", names(&ask.audiences), names(&ask.workspaces));
        pairs.push(("ask", both));
    }
    match &caller.revoke {
        Some(RevokeRight::Anything) => pairs.push(("revoke", text("anything"))),
        Some(RevokeRight::OwnTokensOf(client)) => {
            pairs.push(("revoke", format!("{{ own_tokens_of = {} }}", text(client.as_str()))));
        }
        None => {}
    }
    if let Some(workspaces) = &caller.administer {
        pairs.push(("administer", names(workspaces)));
    }
    let switches = [("issue", caller.issue), ("define", caller.define), ("operate", caller.operate)];
    pairs.extend(switches.into_iter().filter(|(_, on)| *on).map(|(key, _)| (key, "true".to_owned())));
    pairs
}

/// A TOML string.
fn text(value: &str) -> String {
    toml::Value::String(value.to_owned()).to_string()
}

fn list<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    format!("[{}]", items.into_iter().map(text).collect::<Vec<_>>().join(", "))
}

fn names(names: &Names) -> String {
    match names {
        Names::All => text("all"),
        Names::These(names) => list(names.iter().map(String::as_str)),
    }
}
