//! What comes over the network: messages, forms, credentials, JSON, names.

use serde_json::Value;

use super::rig::{BASIC, LIVE, NOW, SECRET, asker, nobody, rig};
use crate::domain::mint::{Plausibility, TOKEN_BYTES_MAX, TokenPrefix};
use crate::domain::scope::check_scope_name;
use crate::domain::{
    Audience, CallerId, ClientId, GrantId, Place, Revision, SubjectId, TokenDigest, TokenHandle, WorkspaceId,
};
use crate::server::api;
use crate::wire::message::kind;
use crate::wire::{Answer, Raw, Request, Split, decode, encode, follow};

/// Cuts `data` into messages as a stream does, and gives each to `read`, with the bytes it was cut from.
fn messages(data: &[u8], read: impl Fn(&Raw<'_>, &[u8])) {
    let mut rest = data;
    while let Ok(Split::Whole(raw, taken)) = decode::split(rest) {
        let (message, after) = rest.split_at(taken);
        assert_eq!(message.len(), 8 + raw.body.len(), "a message is its header and its body");
        // Bytes arrive in pieces: a beginning is never taken for a message, nor for a fault.
        for cut in (0..taken.min(9)).chain([taken - 1]) {
            assert_eq!(decode::split(&message[..cut.min(taken - 1)]), Ok(Split::Partial), "{cut} of {taken} bytes");
        }
        read(&raw, message);
        rest = after;
    }
}

/// Messages a client sends: what can be read has exactly these bytes.
///
/// # Panics
/// It has found something.
pub fn wire_request(data: &[u8]) {
    messages(data, |raw, message| {
        let digest = decode::digest_of(raw).copied();
        let Ok(envelope) = decode::request(raw) else { return };
        let mut written = Vec::new();
        encode::request(&mut written, &envelope).expect("what was read can be written");
        assert_eq!(written, message, "a request has one spelling");
        match envelope.request {
            Request::Introspect { digest: read, .. }
            | Request::CheckNumbers { digest: read, .. }
            | Request::CheckNames { digest: read, .. }
            | Request::Facts { digest: read, .. } => {
                assert_eq!(digest.as_ref(), Some(read.as_bytes()), "the digest that is looked up ahead");
            }
            Request::Register(registration) => {
                let names: Vec<&str> = registration.audience.iter().flat_map(|audience| audience.iter()).collect();
                let mut bytes = Vec::new();
                let again = encode::audiences(&mut bytes, names);
                assert_eq!(again.ok(), registration.audience, "an audience list has one spelling");
            }
            _ => {}
        }
        // A client that comes back gives its questions new numbers.
        if envelope.least.is_none() {
            let mut moved = Vec::new();
            assert_eq!(encode::readdress(&mut moved, message, envelope.id, None), message.len());
            assert_eq!(moved, message, "the same number again changes nothing");
        }
    });
}

/// Messages a server sends: likewise, and their lists can be walked to the end.
///
/// # Panics
/// It has found something.
pub fn wire_answer(data: &[u8]) {
    messages(data, |raw, message| {
        let Ok(answer) = decode::answer(raw) else { return };
        let walked = match &answer {
            Answer::Active(token) => token.items.map(|_| 2).sum::<usize>(),
            Answer::More { items, .. } => items.map(|_| 2).sum(),
            Answer::Names { names, .. } => names.map(|(name, _)| 1 + name.len()).sum(),
            _ => 0,
        };
        assert!(walked <= message.len(), "a list ends with its message");
        let mut written = Vec::new();
        encode::answer(&mut written, raw.id, &answer).expect("what was read can be written");
        assert_eq!(written, message, "an answer has one spelling");
        assert!(!(kind::FOLLOW..=kind::FEED_LAST).contains(&raw.kind), "a feed has a stream of its own");
    });
}

/// What stands on a feed's stream, either way: what can be read has exactly these bytes.
///
/// # Panics
/// It has found something.
pub fn wire_feed(data: &[u8]) {
    messages(data, |raw, message| {
        let mut written = Vec::new();
        if let Ok(said) = follow::read_follower(raw) {
            follow::write_follower(&mut written, &said);
        } else if let Ok(said) = follow::read_announced(raw) {
            follow::write_announced(&mut written, &said);
        } else {
            return;
        }
        assert_eq!(written, message, "a message of a feed has one spelling");
    });
}

/// A form at `/introspect`, from a caller who may ask: active for the very token there is, and for nothing else.
///
/// # Panics
/// It has found something.
pub fn introspect_form(data: &[u8]) {
    let rig = rig();
    let Some(told) = rig.runtime.block_on(rig.face.post("/introspect", BASIC, data)) else { return };
    match told.status {
        200 if told.body == br#"{"active":false}"# => {}
        200 => {
            let body: Value = serde_json::from_slice(&told.body).expect("an answer is JSON");
            assert_eq!(body["active"], true, "not the one inactive answer, so active");
            assert_eq!(parameters(data, "token"), [LIVE.as_bytes()], "active for the live token alone, given once");
            let scope = body.get("scope").and_then(Value::as_str).unwrap_or_default();
            assert!(["", "tasks:read"].contains(&scope), "no scope beyond the grant's: {scope}");
        }
        // 400 and 401 because `client_id` and `client_secret` may stand in the form too.
        400 | 401 | 403 | 413 | 503 => {
            serde_json::from_slice::<Value>(&told.body).expect("an error is JSON");
        }
        other => panic!("the status {other} is none of this path's"),
    }
}

/// The values of a parameter, decoded by a second, plain reading of the rule.
fn parameters(form: &[u8], wanted: &str) -> Vec<Vec<u8>> {
    let decode = |text: &[u8]| {
        let (mut out, mut at) = (Vec::new(), 0);
        while let Some(byte) = text.get(at) {
            match byte {
                b'+' => out.push(b' '),
                b'%' => {
                    let digits = text.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
                    out.push(u8::from_str_radix(digits.expect("two digits"), 16).expect("hex digits"));
                    at += 2;
                }
                other => out.push(*other),
            }
            at += 1;
        }
        out
    };
    let pairs = form.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()).map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        (decode(&pair[..equals]), decode(pair.get(equals + 1..).unwrap_or_default()))
    });
    pairs.filter(|(name, _)| name == wanted.as_bytes()).map(|(_, value)| value).collect()
}

/// An `Authorization` header at `/introspect`: nobody gets in without the very secret.
///
/// # Panics
/// It has found something.
pub fn credentials(data: &[u8]) {
    let rig = rig();
    let form = b"token=live%2Btoken%2F1%3D";
    let Some(told) = rig.runtime.block_on(rig.face.post("/introspect", data, form)) else { return };
    match told.status {
        200 => {
            let text = std::str::from_utf8(data).expect("credentials are text");
            let (scheme, rest) = text.split_once(' ').expect("a scheme");
            assert!(scheme.eq_ignore_ascii_case("basic"), "the caller has a secret and nothing else: {scheme}");
            let pair = plain_base64(rest.trim()).expect("base64");
            let colon = pair.iter().position(|byte| *byte == b':').expect("a colon");
            let given = [b"s=", &pair[colon + 1..]].concat();
            assert_eq!(parameters(&given, "s"), [SECRET.as_bytes()], "the very secret");
            assert_eq!(parameters(&[b"s=", &pair[..colon]].concat(), "s"), [b"api"], "the very caller");
        }
        400 | 401 => {
            serde_json::from_slice::<Value>(&told.body).expect("an error is JSON");
        }
        other => panic!("the status {other} cannot come of credentials"),
    }
}

/// Base64 with padding, read plainly: a second opinion.
fn plain_base64(text: &str) -> Option<Vec<u8>> {
    let digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: Option<String> =
        text.trim_end_matches('=').chars().map(|c| digits.find(c).map(|digit| format!("{digit:06b}"))).collect();
    let byte = |bits: &[u8]| u8::from_str_radix(std::str::from_utf8(bits).ok()?, 2).ok();
    bits?.as_bytes().chunks_exact(8).map(byte).collect()
}

/// A call of the JSON API: `METHOD path`, a line feed, the body. Made by a caller without rights, and by one who may
/// ask: neither gets what it has no right to, nothing of the request's token comes back, and nothing changes.
///
/// # Panics
/// It has found something.
pub fn api_json(data: &[u8]) {
    let line = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (head, body) = (&data[..line], data.get(line + 1..).unwrap_or_default());
    let Some((method, path)) = std::str::from_utf8(head).ok().and_then(|head| head.split_once(' ')) else { return };
    let rig = rig();
    let before = rig.shared.service.revision();
    let callers = [(nobody(), &["/v1/scopes"][..]), (asker(), &["/v1/scopes", "/v1/introspect", "/v1/check"])];
    for (caller, open) in callers {
        let told = rig.runtime.block_on(api::answer(&rig.shared, &caller, method, path, body, NOW));
        let value: Value = serde_json::from_slice(&told.body).expect("every answer is JSON");
        let bare = path.split_once('?').map_or(path, |(bare, _)| bare);
        match told.status {
            200 => assert!(open.contains(&bare), "{} was answered {method} {path}: {value}", caller.id),
            400 | 403 | 404 | 405 | 409 | 413 | 503 => {
                assert!(value["error"].is_string() && value["message"].is_string(), "an error says what and why");
            }
            other => panic!("the status {other} for {method} {path}: {value}"),
        }
        if let Some(token) = token_in(body) {
            let text = String::from_utf8_lossy(&told.body);
            assert!(!text.contains(&token), "the token of the request stands in the answer: {text}");
        }
    }
    assert_eq!(rig.shared.service.revision(), before, "nothing has changed");
}

/// The `token` of a body, if it is long enough that nothing else in an answer can look like it.
fn token_in(body: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let token = value.get("token")?.as_str()?.to_owned();
    let plain = token.len() >= 40 && token.bytes().all(|byte| byte.is_ascii_alphanumeric());
    // A request that also names it as something else may get that back.
    let once = std::str::from_utf8(body).ok()?.matches(&token).count() == 1;
    (plain && once).then_some(token)
}

/// Names and numbers as text: what can be read is written the same.
///
/// # Panics
/// It has found something.
pub fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let same = |read: Option<String>, what: &str| {
        if let Some(read) = read {
            assert_eq!(read, text, "{what} has one spelling");
        }
    };
    same(SubjectId::parse(text).ok().map(|id| id.as_str().to_owned()), "a subject");
    same(ClientId::parse(text).ok().map(|id| id.as_str().to_owned()), "a client");
    same(WorkspaceId::parse(text).ok().map(|id| id.as_str().to_owned()), "a workspace");
    same(CallerId::parse(text).ok().map(|id| id.as_str().to_owned()), "a caller");
    same(Audience::parse(text).ok().map(|id| id.as_str().to_owned()), "an audience");
    same(GrantId::parse(text).map(|id| id.to_string()), "a grant");
    same(TokenHandle::parse(text).map(|handle| handle.to_string()), "a handle");
    same(TokenDigest::parse_hex(text).map(|digest| digest.to_hex()), "a digest");
    same(Revision::parse(text).map(|revision| revision.to_string()), "a revision");
    same(TokenPrefix::parse(text).map(|prefix| prefix.as_str().to_owned()), "a prefix");
    if let Ok(place) = Place::parse(text) {
        let workspace = place.workspace_str();
        let parts = place.project_str().map_or(workspace.to_owned(), |project| format!("{workspace}/{project}"));
        assert_eq!(parts, text, "a place is its workspace and its project");
        assert!(Place::parse(workspace).is_ok_and(|whole| whole.covers(&place)), "a workspace covers its projects");
    }
    if check_scope_name(text).is_ok() {
        assert!(!text.contains([' ', '"', '\\']), "a scope name can stand in RFC 6749's list: {text:?}");
    }
}

/// Token strings: junk is told from its form, nothing we could have minted is ever junk, and no alteration of the live
/// token is known.
///
/// # Panics
/// It has found something.
pub fn token(data: &[u8]) {
    let prefix = TokenPrefix::parse("tks").expect("a prefix");
    let judged = prefix.judge(data);
    if data.is_empty() || data.len() > TOKEN_BYTES_MAX {
        assert_eq!(judged, Plausibility::Junk, "{} bytes", data.len());
    }
    let digits: Vec<u8> = data.iter().rev().filter_map(|byte| base62(*byte)).take(36).collect();
    // The last 36 digits as a token of ours: its first thirty have one checksum.
    if let Some(random) = digits.get(6..36) {
        let mut given = random.iter().rev().copied();
        let minted = prefix.mint(|| given.next().ok_or(())).expect("thirty digits");
        assert_eq!(prefix.judge(minted.as_bytes()), Plausibility::Possible, "{minted}");
        if data.starts_with(&minted.as_bytes()[..34]) && data != minted.as_bytes() {
            assert_eq!(judged, Plausibility::Junk, "{data:?} is not {minted}");
        }
    }
    let service = &rig().shared.service;
    let pin = service.pin();
    let known = pin.token(service.key(&TokenDigest::of(data))).is_some();
    assert_eq!(known, data == LIVE.as_bytes(), "only the live token is known");
}

fn base62(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'Z' => Some(byte - b'A' + 10),
        b'a'..=b'z' => Some(byte - b'a' + 36),
        _ => None,
    }
}
