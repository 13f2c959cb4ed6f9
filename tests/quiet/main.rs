//! Between the decoded request and the encoded answer nothing is allocated: counted, not believed.
//!
//! A binary of its own, because the allocator that counts is the whole process's.

mod near;
#[path = "../it/protocol/rig.rs"]
#[expect(dead_code, reason = "the rig of the protocol's tests has more than is used here")]
mod rig;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use tokenscope::domain::{
    ClientId, Confirmation, Expiry, GrantId, Place, Reach, SubjectId, Timestamp, TokenDigest, TokenTimes,
};
use tokenscope::service::request::{ChangeRequest, TokenTerms};
use tokenscope::service::{Bound, Coming, Decision, Introspection, PlaceAsked, ScopeAsked, Scratch, Service};
use tokenscope::testing::{almighty, service};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Counts what this thread asks for.
struct Counting;

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

/// A confirmation by a method we do not know.
const UNKNOWN_METHOD: &str = r#"{"kid":"a key of somebody's"}"#;
const NOW: Timestamp = Timestamp::from_raw(1_800_000_000);

fn digest(number: u32) -> TokenDigest {
    TokenDigest::of(&number.to_le_bytes())
}

/// Tokens 0 to 99: plain, bound to a certificate, narrowed, bound in a way we do not know, in turns; token 7 is revoked.
fn filled() -> (Service, tokenscope::store::Control) {
    let (service, _list, control) = service();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let caller = almighty();
    let change = |request: ChangeRequest| runtime.block_on(service.change(&caller, request, NOW)).expect("made");
    let subject = SubjectId::parse("maria").expect("an id");
    let client = ClientId::parse("app").expect("an id");
    let place = |text: &str| Place::parse(text).expect("a place");
    change(ChangeRequest::RegisterClient(client.clone()));
    for scope in ["tasks:read", "tasks:write"] {
        change(ChangeRequest::AddScope(scope.into()));
    }
    for at in ["1579", "1592"] {
        change(ChangeRequest::AddMember(subject.clone(), place(at)));
    }
    let access =
        vec![(Reach::At(place("1579")), vec!["tasks:read".into()]), (Reach::Everywhere, vec!["tasks:write".into()])];
    change(ChangeRequest::MakeGrant { subject, client, access, expiry: Expiry::Never, audience: Vec::new() });
    for number in 0..100 {
        let token = TokenTerms {
            grant: GrantId::new(1).expect("a number"),
            times: TokenTimes { issued: NOW, not_before: NOW, expiry: Expiry::At(NOW.plus(3_600)) },
            audience: None,
            confirmation: match number % 4 {
                1 => Some(Confirmation::Certificate([9; 32])),
                3 => Some(Confirmation::Other(UNKNOWN_METHOD.into())),
                _ => None,
            },
            narrowed: (number % 4 == 2).then(|| vec![(Reach::At(place("1579")), vec!["tasks:read".into()])]),
        };
        change(ChangeRequest::RegisterToken { digest: digest(number), token });
    }
    change(ChangeRequest::Revoke(tokenscope::service::request::RevokeTarget::Token(digest(7))));
    (service, control)
}

#[test]
fn answering_allocates_nothing_whatever_the_answer() {
    let (service, _control) = filled();
    let caller = almighty();
    let mut scratch = Scratch::default();
    let mut out: Vec<u8> = Vec::with_capacity(1 << 20);
    let mut seen = [0u32; 8];
    let mut pairs = Vec::new();
    // The first round grows what is reused; the second is counted.
    for round in 0..2 {
        let counted = allocations(|| {
            for number in 0..200 {
                let pin = service.pin();
                let key = service.key(&digest(number));
                service.look_ahead(&pin, &[Coming { key, place: None }]);
                for (scope, place) in
                    [("tasks:read", "1579"), ("tasks:write", "1592/7"), ("tasks:read", "9"), ("nonsense", "1579")]
                {
                    let (scope, place) = (ScopeAsked::Name(scope), PlaceAsked::Name(place));
                    let decision = service.check(&pin, &caller, key, scope, place, NOW).expect("a verdict");
                    seen[match decision {
                        Decision::Allowed => 0,
                        Decision::Denied(_) => 1,
                        Decision::Inactive(_) => 2,
                    }] += 1;
                }
                match service.facts(&pin, &caller, key, "1579", NOW, &mut pairs).expect("a verdict") {
                    Ok(_) => seen[6] += 1,
                    Err(_) => seen[7] += 1,
                }
                out.clear();
                match service.introspect(&pin, &caller, key, None, NOW, &mut scratch).expect("a verdict") {
                    Introspection::Inactive(_) => seen[3] += 1,
                    Introspection::Active(token) => {
                        seen[4] += 1;
                        out.extend_from_slice(token.subject.as_bytes());
                        if let Some(Bound::Other(json)) = token.confirmation {
                            assert_eq!(json, UNKNOWN_METHOD);
                            seen[5] += 1;
                        }
                        token.audience().for_each(|audience| out.extend_from_slice(audience.as_bytes()));
                        for (place, scopes) in token.places() {
                            out.extend_from_slice(place.as_bytes());
                            token.scope_names(&scopes).for_each(|name| out.extend_from_slice(name.as_bytes()));
                        }
                    }
                }
            }
        });
        assert!(round == 0 || counted == 0, "{counted} allocations in 1,000 questions");
    }
    assert!(seen.iter().all(|count| *count > 0), "every kind of answer was given: {seen:?}");
}

#[test]
fn a_hit_in_the_near_cache_allocates_nothing_whatever_the_answer() {
    use tokenscope::client::Decision as Told;
    use tokenscope::client::near::Standalone;
    use tokenscope::domain::access::{ClientKind, Covers, MemberFacts, PairFacts, PlaceFacts, PolicyFacts};
    use tokenscope::domain::{ScopeMask, ScopePosition, Sequence};

    let near = Standalone::new(1_024, &["tasks:read", "tasks:write"]);
    let member = MemberFacts { live: true, added: Sequence(1), removed: Sequence::ZERO };
    let place = PlaceFacts { workspace: member, project: None, policy: PolicyFacts::NEW, client: ClientKind::App };
    let mut scopes = ScopeMask::EMPTY;
    scopes.insert(ScopePosition::new(0));
    let pairs = [PairFacts { covers: Covers::Workspace, since: Sequence(2), scopes }];
    let tokens: Vec<String> = (0..100).map(|number| format!("tks_{number}")).collect();
    tokens.iter().for_each(|token| near.keep(token.into(), "1579", place, &pairs));
    let mut seen = [0u32; 3];
    // This thread's first look makes its place among the readers; the second round is counted.
    for round in 0..2 {
        let counted = allocations(|| {
            for token in &tokens {
                for (scope, place) in [("tasks:read", "1579"), ("tasks:write", "1579"), ("tasks:read", "1592")] {
                    seen[match near.held(token, scope, place) {
                        Some(Told::Allowed) => 0,
                        Some(_) => 1,
                        None => 2,
                    }] += 1;
                }
            }
        });
        assert!(round == 0 || counted == 0, "{counted} allocations in 300 questions");
    }
    assert!(seen.iter().all(|count| *count == 200), "every kind of answer was given: {seen:?}");
}

/// The processor's time of this thread for one of `count` turns, in nanoseconds: the least of seven rounds. For
/// printing; nothing is asserted about time.
fn time_of(mut work: impl FnMut(), count: u64) -> u64 {
    let now = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    };
    let mut round = || {
        let began = now();
        work();
        (now() - began) / count
    };
    (0..7).map(|_| round()).min().unwrap_or_default()
}

/// A flood of tokens nobody knows costs less than as many that are known: nothing at the evaluator, and at the door no
/// more allocations than a hit, nor more bytes; and nothing of it stays.
#[test]
fn a_miss_allocates_no_more_than_a_hit_and_leaves_nothing_behind() {
    use std::sync::Arc;
    use tokenscope::domain::mint::TokenPrefix;
    use tokenscope::server::credentials::{Callers, CredentialsOf};
    use tokenscope::server::http::{Face, OauthSettings};

    let (service, _control) = filled();
    let caller = almighty();
    let before = (service.pin().bytes(), service.pin().tokens(), service.revision());
    let counted = allocations(|| {
        for number in 1_000..101_000 {
            let pin = service.pin();
            let key = service.key(&digest(number));
            service.look_ahead(&pin, &[Coming { key, place: None }]);
            let (scope, place) = (ScopeAsked::Name("tasks:read"), PlaceAsked::Name("1579"));
            let decision = service.check(&pin, &caller, key, scope, place, NOW).expect("a verdict");
            assert!(matches!(decision, Decision::Inactive(_)));
        }
    });
    // The first look of a thread makes its place among the readers.
    assert!(counted <= 2, "{counted} allocations in 100,000 misses");
    let check = |number: u32| {
        let pin = service.pin();
        let key = service.key(&digest(number));
        service.look_ahead(&pin, &[Coming { key, place: None }]);
        let (scope, place) = (ScopeAsked::Name("tasks:read"), PlaceAsked::Name("1579"));
        let _ = std::hint::black_box(service.check(&pin, &caller, key, scope, place, NOW));
    };
    let cost = |numbers: std::ops::Range<u32>| time_of(|| numbers.clone().cycle().take(20_000).for_each(check), 20_000);
    let (hit, miss) = (cost(20..100), cost(1_000..21_000));
    println!("time of this thread for a check: a hit {hit} ns, a miss {miss} ns");
    let after = (service.pin().bytes(), service.pin().tokens(), service.revision());
    assert_eq!(before, after, "a miss leaves nothing behind");

    let secret_sha256 = Some(*TokenDigest::of(b"secret").as_bytes());
    let shows = CredentialsOf { secret_sha256, ..CredentialsOf::default() };
    let shared = tokenscope::server::Shared {
        service,
        callers: Arc::new(arc_swap::ArcSwap::from_pointee(Callers::new(vec![(almighty(), shows)]))),
        clock: tokenscope::clock::Clock::manual(NOW),
        stats: Arc::default(),
    };
    let face = Face::new(
        shared,
        OauthSettings {
            issuer: "https://issuer.example".into(),
            base_url: "https://issuer.example".into(),
            prefix: TokenPrefix::parse("tks").expect("a prefix"),
            realm: "tokenscope".into(),
            base_document: None,
            client_certificates: true,
            revocation_wait: tokenscope::server::Wait::Applied,
        },
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    // Four bytes each, as the tokens of `filled` are.
    let form = |number: u32| {
        number.to_le_bytes().iter().fold(String::from("token="), |text, byte| format!("{text}%{byte:02x}"))
    };
    let ask = |number: u32, expected: &[u8]| {
        let form = form(number);
        let mut told = None;
        let counted = allocations(|| {
            told = runtime.block_on(face.post("/introspect", b"Basic dGVzdHM6c2VjcmV0", form.as_bytes()));
        });
        let told = told.expect("a request that can be sent");
        assert!(told.status == 200 && told.body.starts_with(expected), "{number}: {told:?}");
        counted
    };
    let worst = |numbers: std::ops::Range<u32>, expected: &[u8]| {
        numbers.map(|number| ask(number, expected)).max().unwrap_or_default()
    };
    worst(20..40, b"{\"active\":");
    let hit = worst(20..40, b"{\"active\":true");
    let miss = worst(1_000..1_200, b"{\"active\":false}");
    println!("allocations of one introspection over HTTPS: a hit at most {hit}, a miss at most {miss}");
    let post = |number: u32| {
        let form = form(number);
        drop(runtime.block_on(face.post("/introspect", b"Basic dGVzdHM6c2VjcmV0", form.as_bytes())));
    };
    let cost = |numbers: std::ops::Range<u32>| time_of(|| numbers.clone().cycle().take(1_000).for_each(post), 1_000);
    let (took_hit, took_miss) = (cost(20..100), cost(1_000..2_000));
    println!("time of this thread for an introspection over HTTPS: a hit {took_hit} ns, a miss {took_miss} ns");
    assert!(miss <= hit, "a miss costs {miss} allocations, a hit {hit}");
}
