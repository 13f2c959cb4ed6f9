//! What an API server may do for each request without asking anybody, side by side: verify a signature, look into the
//! near-cache, look into a map with locks of its own. For the bench and the load tester, which print what they find.
//!
//! Everybody starts from the same tokens and has to find every one of them allowed. The map is written as one would write
//! it by hand, and obeys the same rule as the near-cache: found, the same place, in time by two clocks, decided from the
//! same facts by the same function. It does not hear of revocations.

#![expect(clippy::disallowed_methods, reason = "it measures")]

use std::collections::HashMap;
use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dashmap::DashMap;
use ring::error::Unspecified;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};

use crate::client::Decision;
use crate::client::near::Standalone;
use crate::domain::access::{ClientKind, Covers, MemberFacts, PairFacts, PlaceFacts, PolicyFacts};
use crate::domain::{Expiry, ScopeMask, ScopePosition, Sequence, Timestamp, TokenDigest};

const SCOPES: [&str; 4] = ["tasks:read", "tasks:write", "projects:read", "projects:write"];
const SCOPE: &str = "tasks:write";
const PLACE: &str = "1579/4021";

/// As long as the signed part of a small JWT, in bytes.
const SIGNED_BYTES: usize = 300;

/// One way to decide.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Way {
    /// ES256, by ring.
    Verify,
    /// SHA-256 of the token and nothing else.
    Hash,
    /// The near-cache, from the token's string.
    Near,
    /// The near-cache, the digest in hand.
    NearByDigest,
    /// The map, from the token's string.
    Mapped,
    /// The map, the digest in hand.
    MappedByDigest,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Verify, Self::Hash, Self::Near, Self::NearByDigest, Self::Mapped, Self::MappedByDigest];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Verify => "ES256 verification (ring)",
            Self::Hash => "SHA-256 of the token alone",
            Self::Near => "near-cache hit, token in",
            Self::NearByDigest => "near-cache hit, digest in hand",
            Self::Mapped => "DashMap hit, token in",
            Self::MappedByDigest => "DashMap hit, digest in hand",
        }
    }
}

/// What a cache in somebody's own code would hold.
struct Entry {
    expiry: Expiry,
    until: Instant,
    place: Box<str>,
    facts: PlaceFacts,
    pairs: Box<[PairFacts]>,
}

/// The same tokens, held in every way.
pub struct Contest {
    strings: Vec<String>,
    digests: Vec<TokenDigest>,
    near: Standalone,
    map: DashMap<[u8; 32], Entry>,
    positions: HashMap<&'static str, ScopePosition>,
    signed: Vec<u8>,
    signature: Vec<u8>,
    public: UnparsedPublicKey<Vec<u8>>,
}

impl Contest {
    /// With so many tokens, in an order that no prefetcher guesses.
    ///
    /// # Errors
    /// The system gives no random numbers for a key.
    pub fn new(tokens: usize) -> Result<Self, Unspecified> {
        // As long as the strings the server mints.
        let mut strings: Vec<String> = (0..tokens).map(|i| format!("tks_{:042}", i * 7_919 + 1)).collect();
        strings.sort_by_key(|text| *TokenDigest::of(text.as_bytes()).as_bytes());
        let digests: Vec<TokenDigest> = strings.iter().map(|text| TokenDigest::of(text.as_bytes())).collect();
        let (place, pairs) = facts();
        let near = Standalone::new(8 * tokens, &SCOPES);
        let map = DashMap::new();
        // Entries lie in memory in the order in which they came, and that is not the order in which they are asked about.
        let mut filled = digests.clone();
        filled.sort_by_key(|digest| {
            let mut bytes = *digest.as_bytes();
            bytes.reverse();
            bytes
        });
        for digest in &filled {
            near.keep((*digest).into(), PLACE, place, &pairs);
            let entry = Entry {
                expiry: Expiry::At(Timestamp::from_raw(4_000_000_000)),
                until: Instant::now() + Duration::from_secs(86_400),
                place: PLACE.into(),
                facts: place,
                pairs: pairs.into(),
            };
            map.insert(*digest.as_bytes(), entry);
        }
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_ref(), &random)
            .map_err(|_| Unspecified)?;
        let signed = vec![b'x'; SIGNED_BYTES];
        let signature = key.sign(&random, &signed)?.as_ref().to_vec();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.public_key().as_ref().to_vec());
        let positions = SCOPES.iter().zip(0..).map(|(name, at)| (*name, ScopePosition::new(at))).collect();
        Ok(Self { strings, digests, near, map, positions, signed, signature, public })
    }

    /// How many tokens there are.
    pub fn tokens(&self) -> usize {
        self.strings.len()
    }

    /// Decides `times` times, about one token after the other, and says how long one took in nanoseconds. `None`: an
    /// answer was not "allowed", so its time means nothing.
    pub fn nanoseconds(&self, way: Way, times: usize) -> Option<f64> {
        let strings = || self.strings.iter().cycle().take(times);
        let digests = || self.digests.iter().cycle().take(times);
        let near = |decided: Option<Decision>| decided == Some(Decision::Allowed);
        let began = Instant::now();
        let right = match way {
            Way::Verify => (0..times)
                .filter(|_| self.public.verify(black_box(&self.signed), black_box(&self.signature)).is_ok())
                .count(),
            Way::Hash => strings()
                .filter(|it| {
                    black_box(TokenDigest::of(black_box(it.as_bytes())));
                    true
                })
                .count(),
            Way::Near => strings().filter(|it| near(self.near.held(black_box(it.as_str()), SCOPE, PLACE))).count(),
            Way::NearByDigest => digests().filter(|it| near(self.near.held(*black_box(*it), SCOPE, PLACE))).count(),
            Way::Mapped => strings()
                .filter(|it| self.mapped(&TokenDigest::of(black_box(it.as_bytes())), SCOPE, PLACE) == Some(true))
                .count(),
            Way::MappedByDigest => {
                digests().filter(|it| self.mapped(black_box(it), SCOPE, PLACE) == Some(true)).count()
            }
        };
        let took = began.elapsed();
        (right == times && times > 0).then(|| took.as_secs_f64() * 1e9 / times as f64)
    }

    fn mapped(&self, digest: &TokenDigest, scope: &str, place: &str) -> Option<bool> {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let entry = self.map.get(digest.as_bytes())?;
        let in_time = Instant::now() < entry.until && !entry.expiry.has_passed(Timestamp::from_seconds(wall)?);
        let position = *self.positions.get(scope)?;
        (in_time && *entry.place == *place).then(|| entry.facts.decide(position, entry.pairs.iter().copied()).is_ok())
    }
}

fn facts() -> (PlaceFacts, [PairFacts; 2]) {
    let member = MemberFacts { live: true, added: Sequence(1), removed: Sequence::ZERO };
    let place =
        PlaceFacts { workspace: member, project: Some(member), policy: PolicyFacts::NEW, client: ClientKind::App };
    let mut scopes = ScopeMask::EMPTY;
    (0..3).for_each(|position| scopes.insert(ScopePosition::new(position)));
    let pair = |covers| PairFacts { covers, since: Sequence(5), scopes };
    (place, [pair(Covers::Workspace), pair(Covers::Project)])
}
