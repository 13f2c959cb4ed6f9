//! No altered token is accepted: every cut, every byte, case, white space and encoding, and random digests.
//!
//! At `/introspect` with the bytes percent-encoded, so that what arrives is exactly what was altered, and at the native
//! protocol's evaluator by digest. `TOKENSCOPE_ALTERED=n` makes n of them (default 20,000).

use std::fmt::Write as _;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokenscope::clock::Clock;
use tokenscope::domain::mint::TokenPrefix;
use tokenscope::domain::{ClientId, Expiry, GrantId, Place, Reach, SubjectId, Timestamp, TokenDigest, TokenTimes};
use tokenscope::server::credentials::{Callers, CredentialsOf};
use tokenscope::server::http::{Face, OauthSettings};
use tokenscope::server::stats::Stats;
use tokenscope::server::{Shared, Wait};
use tokenscope::service::request::{ChangeRequest, TokenTerms};
use tokenscope::service::{Decision, PlaceAsked, ScopeAsked, Service};
use tokenscope::store::Control;
use tokenscope::testing::{almighty, service};
use tokio::runtime::{Builder, Runtime};

use super::dice::Dice;

const NOW: Timestamp = Timestamp::from_raw(1_700_000_000);
/// `tests:secret`.
const BASIC: &[u8] = b"Basic dGVzdHM6c2VjcmV0";
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Tokens of ours; as many of a form that nobody judges before it is looked up.
const EACH: usize = 8;

struct Rig {
    runtime: Runtime,
    face: Face,
    service: Service,
    live: Vec<Vec<u8>>,
    _control: Control,
}

impl Rig {
    fn new(dice: &mut Dice) -> Self {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let (service, _, control) = service();
        let change = |request| runtime.block_on(service.change(&almighty(), request, NOW)).unwrap();
        let (subject, client) = (SubjectId::parse("u1").unwrap(), ClientId::parse("app").unwrap());
        let place = Place::parse("1579").unwrap();
        change(ChangeRequest::RegisterClient(client.clone()));
        change(ChangeRequest::AddScope("tasks:read".into()));
        change(ChangeRequest::AddMember(subject.clone(), place.clone()));
        let access = vec![(Reach::At(place), vec!["tasks:read".into()])];
        change(ChangeRequest::MakeGrant { subject, client, access, expiry: Expiry::Never, audience: Vec::new() });
        let prefix = TokenPrefix::parse("tks").unwrap();
        let minted = |dice: &mut Dice| prefix.mint(|| Ok::<u8, ()>(dice.below(62) as u8)).unwrap().into_bytes();
        let foreign = |dice: &mut Dice| (0..40).map(|_| dice.pick(BASE62)).collect::<Vec<u8>>();
        let live: Vec<Vec<u8>> =
            (0..EACH).flat_map(|_| [minted(dice), [&b"ey+/J="[..], &foreign(dice)].concat()]).collect();
        for token in &live {
            let times = TokenTimes { issued: NOW, not_before: NOW, expiry: Expiry::Never };
            let grant = GrantId::new(1).unwrap();
            let terms = TokenTerms { grant, times, audience: None, confirmation: None, narrowed: None };
            change(ChangeRequest::RegisterToken { digest: TokenDigest::of(token), token: terms });
        }
        let secret_sha256 = Some(*TokenDigest::of(b"secret").as_bytes());
        let shows = CredentialsOf { secret_sha256, ..CredentialsOf::default() };
        let shared = Shared {
            service: service.clone(),
            callers: Arc::new(ArcSwap::from_pointee(Callers::new(vec![(almighty(), shows)]))),
            clock: Clock::manual(NOW),
            stats: Arc::new(Stats::default()),
        };
        let settings = OauthSettings {
            issuer: "https://issuer.example".into(),
            base_url: "https://issuer.example".into(),
            prefix,
            realm: "tokenscope".into(),
            base_document: None,
            client_certificates: true,
            revocation_wait: Wait::Applied,
        };
        Self { runtime, face: Face::new(shared, settings), service, live, _control: control }
    }

    /// What `/introspect` says of these bytes as a token: status and body.
    fn introspect(&self, token: &[u8]) -> (u16, Vec<u8>) {
        let mut form = String::with_capacity(6 + 3 * token.len());
        form.push_str("token=");
        for byte in token {
            let _ = write!(form, "%{byte:02x}");
        }
        let told = self.runtime.block_on(self.face.post("/introspect", BASIC, form.as_bytes())).unwrap();
        (told.status, told.body)
    }

    fn is_active(&self, token: &[u8]) -> bool {
        self.introspect(token).1.starts_with(b"{\"active\":true")
    }

    fn decision(&self, digest: &TokenDigest) -> Decision {
        let pin = self.service.pin();
        let (scope, place) = (ScopeAsked::Name("tasks:read"), PlaceAsked::Name("1579"));
        self.service.check(&pin, &almighty(), self.service.key(digest), scope, place, NOW).unwrap()
    }
}

fn base64(bytes: &[u8], last: [u8; 2], padded: bool) -> Vec<u8> {
    let mut digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789".to_vec();
    digits.extend(last);
    let mut out = Vec::new();
    for group in bytes.chunks(3) {
        let word = group.iter().chain([0, 0].iter()).take(3).fold(0_usize, |word, byte| word << 8 | usize::from(*byte));
        for place in 0..4 {
            if place <= group.len() {
                out.push(digits[word >> (18 - 6 * place) & 63]);
            } else if padded {
                out.push(b'=');
            }
        }
    }
    out
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

/// Gives every systematic alteration of `token` to `each`.
fn alterations(token: &[u8], others: &[Vec<u8>], each: &mut dyn FnMut(&'static str, Vec<u8>)) {
    let text = String::from_utf8(token.to_vec()).unwrap();
    for at in 0..token.len() {
        each("cut at the end", token[..at].to_vec());
        each("cut at the beginning", token[at + 1..].to_vec());
        for byte in (0..=u8::MAX).filter(|byte| *byte != token[at]) {
            let mut altered = token.to_vec();
            altered[at] = byte;
            each("one byte changed", altered);
        }
        let mut altered = token.to_vec();
        altered.remove(at);
        each("one byte left out", altered);
        if at + 1 < token.len() {
            let mut altered = token.to_vec();
            altered.swap(at, at + 1);
            each("two bytes swapped", altered);
        }
        for length in 2..6.min(token.len() - at) {
            each("some bytes left out", [&token[..at], &token[at + length..]].concat());
            each("some bytes twice", [&token[..at + length], &token[at..]].concat());
        }
        for other in others.iter().filter(|other| other.len() == token.len() && *other != token) {
            each("half of another token", [&token[..at], &other[at..]].concat());
        }
        // A checksum that is right for what is wrong: only the look-up can refuse it.
        if token.starts_with(b"tks_") && (4..34).contains(&at) {
            for digit in BASE62.iter().filter(|digit| **digit != token[at]) {
                let mut altered = token.to_vec();
                altered[at] = *digit;
                let mut check = crc32fast::hash(&altered[4..34]);
                for place in altered[34..].iter_mut().rev() {
                    *place = BASE62[(check % 62) as usize];
                    check /= 62;
                }
                each("one digit changed, checksum made right", altered);
            }
        }
    }
    for at in 0..=token.len() {
        for byte in 0..=u8::MAX {
            each("one byte put in", [&token[..at], &[byte], &token[at..]].concat());
        }
        for space in ["\u{a0}", "\u{2003}", "\u{feff}", "\u{200b}", "\r\n", "%20", "%00", "\u{0}\u{0}"] {
            each("a space put in", [&token[..at], space.as_bytes(), &token[at..]].concat());
        }
    }
    for (what, altered) in [
        ("capital letters", text.to_uppercase()),
        ("small letters", text.to_lowercase()),
        (
            "the other case",
            text.chars()
                .map(|c| if c.is_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() })
                .collect(),
        ),
        ("backwards", text.chars().rev().collect()),
        ("twice", format!("{text}{text}")),
        ("with its scheme", format!("Bearer {text}")),
        ("in quotes", format!("\"{text}\"")),
        ("in brackets", format!("[{text}]")),
        ("as a member", format!("token={text}")),
        ("wide letters", text.chars().map(|c| char::from_u32(u32::from(c) + 0xfee0).unwrap_or(c)).collect()),
        ("underscore for hyphen", text.replace('_', "-")),
        ("base64 for base64url", text.replace('+', "-").replace('/', "_")),
        ("a space for a plus", text.replace('+', " ")),
        ("without padding", text.trim_end_matches('=').to_owned()),
        ("with more padding", format!("{text}==")),
        ("percent-encoded once more", text.bytes().map(|byte| format!("%{byte:02X}")).collect()),
        ("as entities", text.bytes().map(|byte| format!("&#{byte};")).collect()),
    ] {
        each(what, altered.into_bytes());
    }
    let digest = TokenDigest::of(token);
    for (what, altered) in [
        ("its digest", digest.as_bytes().to_vec()),
        ("its digest in hex", hex(digest.as_bytes())),
        ("its digest in capital hex", hex(digest.as_bytes()).to_ascii_uppercase()),
        ("its digest in base64", base64(digest.as_bytes(), *b"+/", true)),
        ("in hex", hex(token)),
        ("in base64", base64(token, *b"+/", true)),
        ("in base64url", base64(token, *b"-_", false)),
        ("in UTF-16", text.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("with a mark of byte order", [&b"\xef\xbb\xbf"[..], token].concat()),
        ("with its high bits set", token.iter().map(|byte| byte | 0x80).collect()),
    ] {
        each(what, altered);
    }
}

#[test]
fn none_of_many_altered_tokens_is_accepted_at_the_door_or_by_digest() {
    let wanted: usize = std::env::var("TOKENSCOPE_ALTERED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000);
    let seed = std::env::var("TOKENSCOPE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut dice = Dice::new(seed);
    let rig = Rig::new(&mut dice);
    assert!(rig.live.iter().all(|token| rig.is_active(token)), "the tokens themselves are active");
    // All of them if so many are wanted, or else every so manyth, so that each token and each kind has its turn.
    let mut all = 0;
    rig.live.iter().for_each(|token| alterations(token, &rig.live, &mut |_, _| all += 1));
    let stride = (all / wanted.max(1)).max(1);
    let mut kinds = std::collections::BTreeMap::<&str, usize>::new();
    let mut made = 0;
    let mut refused = 0;
    let mut ask = |what: &'static str, altered: Vec<u8>| {
        if made >= wanted || rig.live.contains(&altered) {
            return;
        }
        let (status, body) = rig.introspect(&altered);
        let inactive = status == 200 && body == b"{\"active\":false}";
        // An empty token, or one that is longer than a form may be.
        refused += usize::from(status == 400 || status == 413);
        assert!(
            inactive || status == 400 || status == 413,
            "seed {seed}, {what}: {altered:02x?} says {status} {body:?}"
        );
        let decision = rig.decision(&TokenDigest::of(&altered));
        assert!(matches!(decision, Decision::Inactive(_)), "seed {seed}, {what}: {altered:02x?}: {decision:?}");
        made += 1;
        *kinds.entry(what).or_default() += 1;
    };
    // Tokens of either form in turns, all of one token's alterations before the next.
    let mut number = 0;
    for token in &rig.live {
        let mut had = std::collections::BTreeSet::new();
        alterations(token, &rig.live, &mut |what, altered| {
            number += 1;
            // The first of each kind comes always: of some there is only one.
            if had.insert(what) || number % stride == 0 {
                ask(what, altered);
            }
        });
    }
    // Beyond those: several changes at once.
    for _ in 0..wanted {
        let mut altered = rig.live[dice.below(rig.live.len())].clone();
        for _ in 0..dice.between(2, 6) {
            let at = dice.below(altered.len());
            match dice.below(3) {
                0 => altered[at] ^= 1 << dice.below(8),
                1 => altered[at] = dice.pick(BASE62),
                _ => altered.swap(at, 0),
            }
        }
        ask("several changes", altered);
    }
    // The digests themselves, by every single bit.
    let mut bits = 0;
    for token in &rig.live {
        for bit in 0..256 {
            let mut digest = *TokenDigest::of(token).as_bytes();
            digest[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(rig.decision(&TokenDigest::from_bytes(digest)), Decision::Inactive(_)), "bit {bit}");
            bits += 1;
        }
    }
    assert!(rig.live.iter().all(|token| rig.is_active(token)), "and they still are");
    assert!(made >= wanted && kinds.len() >= 12, "{made} of {wanted}, {kinds:?}");
    let all = made + bits;
    println!(
        "altered tokens: seed {seed}, {made} at two doors in {} kinds, {bits} digests by one bit, {all} in all: accepted 0 ({refused} were no token at all)",
        kinds.len()
    );
}
