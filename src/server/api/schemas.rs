//! The shapes of the JSON API's bodies, as data for the OpenAPI document.
//!
//! The tests hold them against the code: every field of a request schema is known to the parser, every example fits
//! its schema, and every member of a real answer stands in its schema.

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// A string.
    Text,
    /// A whole number.
    Number,
    /// True or false.
    Flag,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list of strings.
    Texts,
    /// An object of this schema.
    Of(&'static str),
    /// A list of objects of this schema.
    ListOf(&'static str),
    /// An object we do not look into.
    Object,
}

/// One member.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) required: bool,
    pub(super) about: &'static str,
}

/// One object.
#[derive(Debug)]
pub(super) struct Schema {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// Whether exactly one of the fields has to be there.
    pub(super) exactly_one: bool,
    pub(super) fields: &'static [Field],
}

use Kind::{Flag, ListOf, Number, Object, Of, Text, Texts, Word};

const fn must(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { name, kind, required: true, about }
}

const fn may(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { name, kind, required: false, about }
}

const fn object(name: &'static str, about: &'static str, fields: &'static [Field]) -> Schema {
    Schema { name, about, exactly_one: false, fields }
}

const fn one_of(name: &'static str, about: &'static str, fields: &'static [Field]) -> Schema {
    Schema { name, about, exactly_one: true, fields }
}

const REVISION: Field = must("revision", Text, "The list of changes at this answer: demand it with least_revision.");
const TOTAL: Field = must("total", Number, "How many there are in all.");
const EXP: Field = may("exp", Number, "Seconds since 1970; not active from then on. Either this or never_expires.");
const NEVER: Field = may("never_expires", Flag, "True, when there is no end. Either this or exp.");
const LAST_USED: Field =
    may("last_used", Number, "Seconds since 1970, to a quarter of an hour; left out if not within a year.");
const WHY_NOT: Field = may("why_not", Text, "Why it is not active: for operators, never told to an asking caller.");
const SHA256: &str = "SHA-256 of the token, 64 lower-case hex digits.";
const TOKEN: &str = "The token string itself. Prefer sha256: then it never leaves the caller.";
const HANDLE: &str = "The public handle, an answer's jti.";

/// Every schema.
#[rustfmt::skip]
pub(super) static SCHEMAS: &[Schema] = &[
    object("Error", "What went wrong, where, and what to do.", &[
        must("error", Text, "A closed word."),
        must("message", Text, "For people."),
    ]),
    object("Client", "A client.", &[must("client", Text, "Its id.")]),
    object("Switch", "On or off.", &[must("on", Flag, "False suspends; true lets in again.")]),
    object("Scope", "A scope.", &[must("scope", Text, "Its name (RFC 6749, section 3.3).")]),
    object("Alias", "A second name.", &[
        must("alias", Text, "The new name."),
        must("of", Text, "The scope it means, or * for the wildcard."),
    ]),
    object("Member", "A subject at a place.", &[
        must("subject", Text, "The user or service account."),
        must("place", Text, "A workspace (1579) or a project in one (1579/4021)."),
    ]),
    object("Mode", "Who may enter a workspace.", &[
        must("mode", Word(&["allow_all", "approval_required"]), "All apps but the blocked ones, or only approved ones."),
    ]),
    object("Entry", "One line of an app policy.", &[
        must("client", Text, "The app."),
        must("entry", Word(&["block", "unblock", "approve", "unapprove"]), "What to do with it."),
    ]),
    object("AccessItem", "Scopes at a place, or wherever the subject is a member.", &[
        may("place", Text, "Where. Either this or everywhere."),
        may("everywhere", Flag, "True: wherever the subject is a member, future memberships too."),
        must("scopes", Texts, "What; * is every scope there is and will be."),
    ]),
    object("NewAccess", "Pairs of a place and the scopes there.", &[must("access", ListOf("AccessItem"), "The pairs.")]),
    object("NewGrant", "A grant to be made.", &[
        must("subject", Text, "Who granted."),
        must("client", Text, "To which client; personal is the client of personal access tokens."),
        must("access", ListOf("AccessItem"), "What, where."),
        EXP, NEVER,
        may("audience", Texts, "The resource servers its tokens are for; left out means the configured default."),
    ]),
    object("NewToken", "A token to be registered.", &[
        must("sha256", Text, SHA256),
        must("grant", Text, "The grant it belongs to, like g17."),
        may("iat", Number, "When it was issued, seconds since 1970; left out means now."),
        may("nbf", Number, "Not active before; left out means iat."),
        EXP, NEVER,
        may("audience", Texts, "The resource servers it is for, if not the grant's."),
        may("cnf", Object, "What it is bound to: x5t#S256 or jkt, or a method of the issuer's own."),
        may("access", ListOf("AccessItem"), "What it is narrowed to; left out means all its grant gives."),
    ]),
    object("MintToken", "A token to be made here.", &[
        must("grant", Text, "The grant it belongs to, like g17."),
        may("iat", Number, "When it was issued, seconds since 1970; left out means now."),
        may("nbf", Number, "Not active before; left out means iat."),
        EXP, NEVER,
        may("audience", Texts, "The resource servers it is for, if not the grant's."),
        may("cnf", Object, "What it is bound to: x5t#S256 or jkt, or a method of the issuer's own."),
        may("access", ListOf("AccessItem"), "What it is narrowed to; left out means all its grant gives."),
    ]),
    one_of("Revocation", "What to revoke: exactly one selector. None is an error, never everything.", &[
        may("token", Text, TOKEN),
        may("sha256", Text, SHA256),
        may("handle", Text, HANDLE),
        may("grant", Text, "One grant, like g17, with all its tokens."),
        may("subject", Text, "What this subject granted so far, to anybody."),
        may("client", Text, "What anybody granted to this client so far."),
        may("subject_client", Of("SubjectClient"), "What this subject granted to this client: revoke the app."),
        may("workspace_client", Of("WorkspaceClient"), "What this client was granted in this workspace."),
        may("issued_before", Of("IssuedBefore"), "Tokens issued before a moment."),
    ]),
    object("SubjectClient", "A subject and a client.", &[
        must("subject", Text, "The subject."), must("client", Text, "The client."),
    ]),
    object("WorkspaceClient", "A workspace and a client.", &[
        must("workspace", Text, "The workspace."), must("client", Text, "The client."),
    ]),
    object("IssuedBefore", "Tokens issued before a moment.", &[
        must("time", Number, "Seconds since 1970."),
        must("among", Object, "\"all\", or an object with one of subject, client, grant."),
    ]),
    object("Introspect", "Tokens to introspect: up to 256 in all.", &[
        may("tokens", Texts, TOKEN),
        may("sha256", Texts, SHA256),
        may("place", Text, "Ask about this place alone."),
        may("least_revision", Text, "The answer must know at least this revision; else 503."),
    ]),
    object("Question", "May this token do this, there?", &[
        may("token", Text, TOKEN),
        may("sha256", Text, SHA256),
        must("scope", Text, "The scope that is needed."),
        must("place", Text, "Where."),
    ]),
    object("Check", "Questions to decide: up to 256.", &[
        must("questions", ListOf("Question"), "The questions."),
        may("least_revision", Text, "The answer must know at least this revision; else 503."),
    ]),
    one_of("TokenName", "One token.", &[may("token", Text, TOKEN), may("sha256", Text, SHA256), may("handle", Text, HANDLE)]),

    object("Done", "The change is durable and visible.", &[
        REVISION,
        may("grant", Text, "The grant that was made."),
        may("handle", Text, HANDLE),
        may("token", Text, "The token that was minted. Shown once."),
    ]),
    object("Revoked", "The revocation is durable and visible; or, on a dry run, what it would hit.", &[
        REVISION,
        may("dry_run", Flag, "True if nothing was revoked."),
        may("grants", Number, "On a dry run: grants that would end."),
        may("tokens", Number, "On a dry run: tokens that would end or lose a place."),
    ]),
    object("Clients", "Clients.", &[REVISION, TOTAL, must("clients", ListOf("ClientRow"), "The rows.")]),
    object("ClientRow", "A client.", &[must("client", Text, "Its id."), must("on", Flag, "Whether it is let in.")]),
    object("Scopes", "Scopes.", &[REVISION, TOTAL, must("scopes", ListOf("ScopeRow"), "The rows.")]),
    object("ScopeRow", "A scope.", &[
        must("scope", Text, "Its name."),
        must("position", Number, "Its bit, for ever."),
        must("retired", Flag, "Whether it is withdrawn."),
        must("aliases", Texts, "Its other names."),
    ]),
    object("Members", "Memberships.", &[REVISION, TOTAL, must("members", ListOf("MemberRow"), "The rows.")]),
    object("MemberRow", "A membership.", &[
        must("place", Text, "The place."), must("live", Flag, "False: was a member once."),
    ]),
    object("Policy", "A workspace's app policy.", &[
        REVISION,
        must("mode", Word(&["allow_all", "approval_required"]), "Who may enter."),
        must("personal_tokens", Flag, "Whether personal tokens may enter."),
        must("blocked", Texts, "The block list."),
        must("approved", Texts, "The approved list."),
    ]),
    object("Grants", "Grants.", &[REVISION, TOTAL, must("grants", ListOf("GrantRow"), "The rows.")]),
    object("GrantRow", "A grant.", &[
        must("grant", Text, "Its id."),
        must("subject", Text, "Who granted."),
        must("client", Text, "To whom."),
        must("access", ListOf("AccessItem"), "What was granted, before membership and policy."),
        EXP, NEVER,
        must("alive", Flag, "Whether its tokens can be active."),
        WHY_NOT,
        must("made", Number, "Its place in the list of changes."),
        must("tokens", Number, "Its tokens that are neither expired nor revoked."),
        LAST_USED,
    ]),
    object("Tokens", "Tokens.", &[REVISION, TOTAL, must("tokens", ListOf("TokenRow"), "The rows.")]),
    object("Token", "One token.", TOKEN_AT),
    object("TokenRow", "A token.", TOKEN_FIELDS),
    object("Introspected", "One answer for each token, in order: RFC 7662, section 2.2.", &[
        REVISION, must("answers", ListOf("Introspection"), "The answers."),
    ]),
    object("Introspection", "What a token is. Inactive: active alone.", &[
        must("active", Flag, "Whether it is active."),
        may("scope", Text, "What it may do at every one of its places: a lower bound."),
        may("client_id", Text, "Which client holds it."),
        may("sub", Text, "Whose it is."),
        EXP,
        may("iat", Number, "When it was issued."),
        may("nbf", Number, "Not active before."),
        may("aud", Texts, "The resource servers it is for; one is written as a string."),
        may("jti", Text, HANDLE),
        may("token_type", Word(&["Bearer", "DPoP"]), "DPoP if it is bound to such a key."),
        may("cnf", Object, "What it is bound to; the API server has to check it."),
        may("authorization_details", ListOf("Detail"), "What it may do, and where."),
        may("tokenscope_revision", Text, "The list of changes at this answer."),
    ]),
    object("Detail", "Places with exactly the same scopes.", &[
        must("type", Word(&["tokenscope_access"]), "Always this."),
        must("locations", Texts, "The places."),
        must("actions", Texts, "The scopes at each of them."),
    ]),
    object("Checked", "One decision for each question, in order.", &[
        REVISION, must("decisions", ListOf("Decision"), "The decisions."),
    ]),
    object("Decision", "Whether it may. Inactive: active alone.", &[
        must("active", Flag, "Whether the token is active."),
        may("allowed", Flag, "Whether it may do this there."),
        may("reason", Text, "Why not: a closed word."),
        may("explanation", Text, "Why not, for people."),
    ]),
    object("Explanation", "Everything about one token.", &[
        REVISION,
        must("active", Flag, "What a caller without limits would be told."),
        WHY_NOT,
        may("token", Of("TokenRow"), "The token, if it is known."),
        may("grant", Of("GrantRow"), "Its grant, if it is known."),
        must("places", ListOf("PlaceRow"), "Its places, one by one."),
        must("story", Texts, "In sentences."),
    ]),
    object("PlaceRow", "What a token is worth at a place.", &[
        must("place", Text, "The place."),
        must("granted", Texts, "What grant and token name there."),
        must("effective", Texts, "What is left after membership and policy."),
        may("reason", Text, "Why something is missing: a closed word."),
        may("explanation", Text, "Why something is missing, for people."),
    ]),
    object("Risk", "How much could go wrong.", &[
        REVISION,
        must("rating", Word(RATINGS), "The worst of the reasons."),
        must("reasons", ListOf("RiskReason"), "Worst first."),
        must("workspaces", Texts, "The workspaces that can be reached now."),
        must("places", Number, "Workspaces and single projects that can be reached now."),
        must("everywhere", Flag, "Whether future memberships are reached too."),
        must("scopes", Texts, "The distinct scopes."),
        must("writes", Number, "How many of them write."),
        must("deletes", Number, "How many of them delete."),
        must("wildcard", Flag, "Whether the wildcard is among them."),
        must("grants", Number, "Live grants that were looked at."),
        must("tokens", Number, "Live tokens that were looked at."),
        may("lives_seconds", Number, "The longest time it can still live."),
        may("lives_for_ever", Flag, "True if there is no end."),
        must("bearer_tokens", Number, "Live tokens that anybody who finds them can use."),
        LAST_USED,
    ]),
    object("RiskReason", "One reason.", &[must("rating", Word(RATINGS), "Its own rating."), must("reason", Text, "A sentence.")]),
    object("Status", "The service in numbers.", &[
        REVISION,
        must("tokens", Number, "Tokens in the index."),
        must("grants", Number, "Grants in the index."),
        must("index_bytes", Number, "Bytes of memory the index holds."),
        must("accepts_changes", Flag, "Whether changes are accepted."),
        must("key_generation", Number, "The generation of MAC keys in force; 0 if this store has none of its own."),
        must("key_generations_kept", Number, "How many generations are kept, because something on the disk needs them."),
    ]),
    object("Rotated", "New MAC keys, durable and in force.", &[
        must("revision", Text, "The last change that is sealed with the keys before."),
        must("generation", Number, "The generation in force now."),
        must("kept", Number, "How many generations are kept; 8 at most. Snapshots make the old ones superfluous."),
    ]),
];

const RATINGS: &[&str] = &["low", "medium", "high", "critical"];

#[rustfmt::skip]
const TOKEN_FIELDS: &[Field] = &[
    must("handle", Text, HANDLE),
    must("grant", Text, "The grant it belongs to."),
    must("subject", Text, "Whose it is."),
    must("client", Text, "Which client holds it."),
    must("iat", Number, "When it was issued."),
    must("nbf", Number, "Not active before."),
    EXP, NEVER,
    must("audience", Texts, "The resource servers it is for."),
    may("cnf", Object, "What it is bound to."),
    must("active", Flag, "Whether it is active now."),
    WHY_NOT, LAST_USED,
];

#[rustfmt::skip]
const TOKEN_AT: &[Field] = &[
    REVISION,
    must("handle", Text, HANDLE),
    must("grant", Text, "The grant it belongs to."),
    must("subject", Text, "Whose it is."),
    must("client", Text, "Which client holds it."),
    must("iat", Number, "When it was issued."),
    must("nbf", Number, "Not active before."),
    EXP, NEVER,
    must("audience", Texts, "The resource servers it is for."),
    may("cnf", Object, "What it is bound to."),
    must("active", Flag, "Whether it is active now."),
    WHY_NOT, LAST_USED,
];

/// The schema with this name.
#[cfg(test)]
pub(super) fn schema(name: &str) -> Option<&'static Schema> {
    SCHEMAS.iter().find(|schema| schema.name == name)
}
