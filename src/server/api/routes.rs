//! The one table of the JSON API: every method and path there is, what it does, what it takes, what it answers.
//!
//! Calls are found in this table, the OpenAPI document is written from it, and a 405's `Allow` is read from it
//! (R9110-01); so none of the three can say something the others do not. Rights are checked by the service; the
//! column here only says which one that is.

use super::text::{Plus, percent_decode};

/// The longest path, in bytes, and the longest decoded part of one.
pub(in crate::server) const PATH_BYTES_MAX: usize = 1_024;
const PART_BYTES_MAX: usize = crate::domain::place::PLACE_BYTES_MAX;

/// What a route does; `api::answer` has one arm for each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Call {
    Clients,
    RegisterClient,
    SwitchClient,
    SwitchSubject,
    Scopes,
    AddScope,
    AliasScope,
    RetireScope,
    Members,
    AddMember,
    RemoveMember,
    Policy,
    PolicyMode,
    PolicyPersonal,
    PolicyEntry,
    MakeGrant,
    Grants,
    Grant,
    NarrowGrant,
    ExtendGrant,
    RegisterToken,
    MintToken,
    Tokens,
    Token,
    Revoke,
    Introspect,
    Check,
    Explain,
    RiskClient,
    RiskGrant,
    RiskToken,
    RiskPreview,
    Status,
    RotateKeys,
}

/// One row of the table.
#[derive(Debug)]
pub(super) struct Route {
    /// The HTTP method.
    pub(super) method: &'static str,
    /// The path; `{name}` stands for one part, percent-encoded (a place keeps its `/` as `%2F`).
    pub(super) path: &'static str,
    /// What it does.
    pub(super) call: Call,
    /// One line for people.
    pub(super) summary: &'static str,
    /// The right a caller needs, in words.
    pub(super) right: &'static str,
    /// Query parameters that are known; any other is refused.
    pub(super) query: &'static [&'static str],
    /// The schema of the body, if there is one.
    pub(super) takes: Option<&'static str>,
    /// The schema of the answer.
    pub(super) gives: &'static str,
    /// A body that can be sent as it stands; empty if there is none.
    pub(super) example: &'static str,
}

const GET: &str = "GET";
const POST: &str = "POST";
const PUT: &str = "PUT";
const DELETE: &str = "DELETE";

/// Rights, in the words of `service::caller::Rights`.
const DEFINE: &str = "define";
const ADMINISTER: &str = "administer the workspace";
const ISSUE: &str = "issue";
const ASK: &str = "ask";
const OPERATE: &str = "operate";
const LOOK: &str = "operate or issue";

const NONE: &[&str] = &[];
/// What the answer to a change waits for.
const WAIT: &[&str] = &["wait"];

#[rustfmt::skip]
#[expect(clippy::too_many_arguments, reason = "the columns of one table, each line of which has them all")]
const fn row(
    method: &'static str, path: &'static str, call: Call, right: &'static str, query: &'static [&'static str],
    takes: Option<&'static str>, gives: &'static str, summary: &'static str, example: &'static str,
) -> Route {
    Route { method, path, call, summary, right, query, takes, gives, example }
}

/// Every route.
#[rustfmt::skip]
pub(super) static ROUTES: &[Route] = &[
    row(GET, "/v1/clients", Call::Clients, "operate, issue, define or administer", &["limit"], None, "Clients",
        "List the registered clients", ""),
    row(POST, "/v1/clients", Call::RegisterClient, DEFINE, WAIT, Some("Client"), "Done",
        "Register a client; repeating it changes nothing", r#"{"client":"app-7"}"#),
    row(PUT, "/v1/clients/{client}/switch", Call::SwitchClient, DEFINE, WAIT, Some("Switch"), "Done",
        "Suspend a client, or let it in again; its grants stay", r#"{"on":false}"#),
    row(PUT, "/v1/subjects/{subject}/switch", Call::SwitchSubject, "issue or operate", WAIT, Some("Switch"), "Done",
        "Suspend a subject, or let it in again; its grants stay", r#"{"on":false}"#),
    row(GET, "/v1/scopes", Call::Scopes, "any caller", NONE, None, "Scopes",
        "List the scopes in the order of their positions", ""),
    row(POST, "/v1/scopes", Call::AddScope, DEFINE, WAIT, Some("Scope"), "Done",
        "Add a scope, or bring a retired one back at its old position", r#"{"scope":"tasks:read"}"#),
    row(POST, "/v1/scopes/aliases", Call::AliasScope, DEFINE, WAIT, Some("Alias"), "Done",
        "Give a scope a second name", r#"{"alias":"typeahead:read","of":"workspace.typeahead:read"}"#),
    row(DELETE, "/v1/scopes/{scope}", Call::RetireScope, DEFINE, WAIT, None, "Done",
        "Withdraw a scope; its position stays taken", ""),
    row(GET, "/v1/members/{subject}", Call::Members, "operate, issue or administer", NONE, None, "Members",
        "List the memberships of a subject", ""),
    row(POST, "/v1/members", Call::AddMember, ADMINISTER, WAIT, Some("Member"), "Done",
        "Make a subject a member of a place", r#"{"subject":"u1","place":"1579"}"#),
    row(POST, "/v1/members/remove", Call::RemoveMember, ADMINISTER, WAIT, Some("Member"), "Done",
        "End a membership: it ends the place for every grant made before", r#"{"subject":"u1","place":"1579/4021"}"#),
    row(GET, "/v1/policies/{workspace}", Call::Policy, "operate or administer the workspace", NONE, None, "Policy",
        "Show the app policy of a workspace", ""),
    row(PUT, "/v1/policies/{workspace}/mode", Call::PolicyMode, ADMINISTER, WAIT, Some("Mode"), "Done",
        "Admit all apps but the blocked ones, or only approved ones", r#"{"mode":"approval_required"}"#),
    row(PUT, "/v1/policies/{workspace}/personal_tokens", Call::PolicyPersonal, ADMINISTER, WAIT, Some("Switch"), "Done",
        "Admit personal access tokens, or not", r#"{"on":false}"#),
    row(POST, "/v1/policies/{workspace}/entries", Call::PolicyEntry, ADMINISTER, WAIT, Some("Entry"), "Done",
        "Block, unblock, approve or unapprove an app", r#"{"client":"app-7","entry":"block"}"#),
    row(POST, "/v1/grants", Call::MakeGrant, ISSUE, WAIT, Some("NewGrant"), "Done",
        "Make a grant: pairs of a place and the scopes there",
        r#"{"subject":"u1","client":"app-7","access":[{"place":"1579","scopes":["tasks:read"]}],"exp":4000000000,"audience":["api"]}"#),
    row(GET, "/v1/grants", Call::Grants, LOOK, &["subject", "client", "limit"], None, "Grants",
        "List the grants of a subject or of a client", ""),
    row(GET, "/v1/grants/{grant}", Call::Grant, LOOK, NONE, None, "Grants",
        "Show one grant", ""),
    row(POST, "/v1/grants/{grant}/narrow", Call::NarrowGrant, ISSUE, WAIT, Some("NewAccess"), "Done",
        "Keep of a grant only what is also named here", r#"{"access":[{"place":"1579","scopes":["tasks:read"]}]}"#),
    row(POST, "/v1/grants/{grant}/extend", Call::ExtendGrant, ISSUE, WAIT, Some("NewAccess"), "Done",
        "Add pairs to a grant; its live tokens gain them", r#"{"access":[{"everywhere":true,"scopes":["users:read"]}]}"#),
    row(POST, "/v1/tokens", Call::RegisterToken, ISSUE, WAIT, Some("NewToken"), "Done",
        "Register a token that the issuer made, by its SHA-256",
        r#"{"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","grant":"g1","exp":4000000000}"#),
    row(POST, "/v1/tokens/mint", Call::MintToken, ISSUE, WAIT, Some("MintToken"), "Done",
        "Have a token made; its string is in this answer and nowhere else", r#"{"grant":"g1","never_expires":true}"#),
    row(GET, "/v1/tokens", Call::Tokens, LOOK, &["subject", "client", "grant", "limit"], None, "Tokens",
        "List the tokens of a subject, a client or a grant", ""),
    row(GET, "/v1/tokens/{handle}", Call::Token, OPERATE, NONE, None, "Token",
        "Show one token by its public handle (jti)", ""),
    row(POST, "/v1/revocations", Call::Revoke, "revoke", &["dry_run", "wait"], Some("Revocation"), "Revoked",
        "Revoke what exactly one selector names; with dry_run=true only count what it would hit",
        r#"{"subject_client":{"subject":"u1","client":"app-7"}}"#),
    row(POST, "/v1/introspect", Call::Introspect, ASK, NONE, Some("Introspect"), "Introspected",
        "Introspect up to 256 tokens", r#"{"sha256":["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]}"#),
    row(POST, "/v1/check", Call::Check, ASK, NONE, Some("Check"), "Checked",
        "May these tokens do this, there? Up to 256 questions",
        r#"{"questions":[{"token":"tks_example","scope":"tasks:write","place":"1579/4021"}]}"#),
    row(POST, "/v1/explain", Call::Explain, OPERATE, NONE, Some("TokenName"), "Explanation",
        "Say everything about one token, why it is inactive included", r#"{"handle":"t00000000000000000000000000000000"}"#),
    row(GET, "/v1/risk/clients/{client}", Call::RiskClient, "operate, issue, or administer the workspace", &["workspace"], None, "Risk",
        "Rate what a client could do, in one workspace or in all", ""),
    row(GET, "/v1/risk/grants/{grant}", Call::RiskGrant, LOOK, NONE, None, "Risk",
        "Rate one grant", ""),
    row(GET, "/v1/risk/tokens/{handle}", Call::RiskToken, LOOK, NONE, None, "Risk",
        "Rate one token", ""),
    row(POST, "/v1/risk/preview", Call::RiskPreview, LOOK, NONE, Some("NewGrant"), "Risk",
        "Rate a grant before it is made",
        r#"{"subject":"u1","client":"app-7","access":[{"everywhere":true,"scopes":["*"]}],"never_expires":true}"#),
    row(GET, "/v1/status", Call::Status, OPERATE, NONE, None, "Status",
        "Show the service in numbers", ""),
    row(POST, "/v1/keys/rotate", Call::RotateKeys, OPERATE, NONE, None, "Rotated",
        "Make new MAC keys for the journal and the snapshots; the pepper stays", ""),
];

/// What was found for a method and a path.
#[derive(Debug)]
pub(super) enum Found {
    /// A route, and the decoded parts its `{name}`s stand for, in order.
    Route(&'static Route, Vec<String>),
    /// The path exists; these methods do.
    WrongMethod(Vec<&'static str>),
    /// A part of the path is not percent-encoded UTF-8 of a sensible length.
    Malformed,
    /// There is no such path.
    Nothing,
}

/// Looks up a route. Of two templates that fit, the one with fewer `{name}`s is meant (`/v1/members/remove`).
pub(super) fn find(method: &str, path: &str) -> Found {
    if path.len() > PATH_BYTES_MAX {
        return Found::Malformed;
    }
    let fitting: Vec<&Route> = ROUTES.iter().filter(|route| fits(route.path, path)).collect();
    let chosen =
        fitting.iter().filter(|route| route.method == method).min_by_key(|route| parameters(route.path).count());
    let Some(route) = chosen else {
        let mut methods: Vec<&str> = fitting.iter().map(|route| route.method).collect();
        methods.dedup();
        return if methods.is_empty() { Found::Nothing } else { Found::WrongMethod(methods) };
    };
    let named = route.path.split('/').zip(path.split('/')).filter(|(template, _)| is_parameter(template));
    let parts: Option<Vec<String>> = named.map(|(_, part)| decode(part)).collect();
    parts.map_or(Found::Malformed, |parts| Found::Route(route, parts))
}

/// The methods a path has; empty if there is no such path.
pub(in crate::server) fn methods(path: &str) -> Vec<&'static str> {
    match find("", path) {
        Found::WrongMethod(methods) => methods,
        _ => Vec::new(),
    }
}

fn decode(part: &str) -> Option<String> {
    let bytes = percent_decode(part.as_bytes(), Plus::Itself)?;
    if bytes.is_empty() || bytes.len() > PART_BYTES_MAX {
        return None;
    }
    String::from_utf8(bytes).ok()
}

fn fits(template: &str, path: &str) -> bool {
    let mut path = path.split('/');
    let all = template.split('/').all(|part| path.next().is_some_and(|given| is_parameter(part) || part == given));
    all && path.next().is_none()
}

fn is_parameter(part: &str) -> bool {
    part.starts_with('{')
}

/// The names in a template, in order.
pub(super) fn parameters(template: &str) -> impl Iterator<Item = &str> {
    template.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}
