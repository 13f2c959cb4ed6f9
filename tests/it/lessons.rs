//! Bugs that others shipped, each a story and the test that keeps it out. The numbers (B5, B16, …) are those of the
//! project's list of lessons; hazards of revocation are in `hazards`; what needs a door, a disk or a second node is tested there.

use std::collections::HashSet;

use tokenscope::domain::{
    Among, ClientId, Confirmation, Denial, Expiry, Inactive, PolicyEntry, Switch, Timestamp, TokenDigest, TokenTimes,
};
use tokenscope::service::Decision;
use tokenscope::service::report::ListOf;
use tokenscope::service::request::{ChangeRequest, RevokeTarget};

use crate::face::{Room, Told};
use crate::workload::{
    START, at, client, everywhere, foundation, grant, make_grant, narrowed, place, register, subject, token, workspace,
};
use crate::world::World;

pub const NOW: Timestamp = Timestamp::from_raw(START);
const HOUR: u32 = 3_600;

/// A world, and the moment in it.
pub struct Story {
    pub world: World,
    pub now: Timestamp,
}

impl Story {
    /// Scopes and clients are known; ada is in workspaces 10 and 20, bob in 10.
    pub fn new() -> Self {
        let mut story = Self { world: World::new(), now: NOW };
        for request in foundation() {
            story.does(&request);
        }
        for (who, at) in [("ada", "10"), ("ada", "20"), ("bob", "10")] {
            story.does(&ChangeRequest::AddMember(subject(who), place(at)));
        }
        story
    }

    /// Makes a change that has to succeed.
    pub fn does(&mut self, request: &ChangeRequest) {
        if let Err(error) = self.world.change(request, self.now) {
            panic!("{request:?} was refused: {error}");
        }
    }

    pub fn revokes(&mut self, target: RevokeTarget) {
        self.does(&ChangeRequest::Revoke(target));
    }

    /// Makes a change that has to be refused.
    pub fn refuses(&mut self, request: &ChangeRequest) {
        assert!(self.world.change(request, self.now).is_err(), "{request:?} was accepted");
    }

    pub fn check(&self, number: usize, scope: &str, place: &str) -> Decision {
        self.world.check(&token(number), scope, place, self.now)
    }

    pub fn is_active(&self, number: usize) -> bool {
        self.world.introspect(&token(number), None, self.now).is_active()
    }

    /// Grant 1 for ada and the app zapper: read tasks in workspace 10. Token 1 of it.
    pub fn with_one_token() -> Self {
        let mut story = Self::new();
        story.does(&make_grant("ada", "zapper", vec![at("10", &["tasks:read"])]));
        story.does(&register(1, 1, NOW));
        assert_eq!(story.check(1, "tasks:read", "10"), Decision::Allowed);
        story
    }
}

/// A registration with other times.
pub fn timed(request: ChangeRequest, alter: impl Fn(&mut TokenTimes)) -> ChangeRequest {
    match request {
        ChangeRequest::RegisterToken { digest, mut token } => {
            alter(&mut token.times);
            ChangeRequest::RegisterToken { digest, token }
        }
        other => other,
    }
}

/// B1, B2. Servers that called an expired token active, one because it compared the wrong way round.
#[test]
fn b1_b2_a_token_is_active_before_exp_and_never_from_exp_on() {
    let mut story = Story::with_one_token();
    for (seconds, active) in [(HOUR - 1, true), (HOUR, false), (HOUR + 1, false), (10 * HOUR, false)] {
        story.now = NOW.plus(seconds);
        assert_eq!(story.is_active(1), active, "{seconds} s after issue");
        assert_eq!(story.check(1, "tasks:read", "10") == Decision::Allowed, active, "{seconds} s after issue");
    }
}

/// B3. A server judged a refresh token by the expiry of its access token.
#[test]
fn b3_each_token_is_judged_by_its_own_expiry() {
    for (first, second) in [(60, 600), (600, 60)] {
        let mut story = Story::with_one_token();
        story.does(&timed(register(2, 1, NOW), |times| times.expiry = Expiry::At(NOW.plus(first))));
        story.does(&timed(register(3, 1, NOW), |times| times.expiry = Expiry::At(NOW.plus(second))));
        for seconds in [59, 60, 599, 600] {
            story.now = NOW.plus(seconds);
            assert_eq!(story.is_active(2), seconds < first);
            assert_eq!(story.is_active(3), seconds < second);
        }
    }
}

/// B4. A token imported without an expiry lived for ever. Here "never" has to be said (the type has no default), and a
/// token of which it was said still ends with its grant.
#[test]
fn b4_a_token_that_never_expires_still_ends_with_its_grant_and_can_be_revoked() {
    let mut story = Story::with_one_token();
    story.does(&timed(register(2, 1, NOW), |times| times.expiry = Expiry::Never));
    let ChangeRequest::MakeGrant { subject, client, access, audience, .. } =
        make_grant("ada", "timer", vec![at("10", &["tasks:read"])])
    else {
        panic!("a grant was asked for")
    };
    let expiry = Expiry::At(NOW.plus(50));
    story.does(&ChangeRequest::MakeGrant { subject, client, access, audience, expiry });
    story.does(&timed(register(3, 2, NOW), |times| times.expiry = Expiry::Never));
    story.now = NOW.plus(49);
    assert!(story.is_active(2) && story.is_active(3));
    story.now = NOW.plus(50);
    assert!(story.is_active(2) && !story.is_active(3));
    story.now = NOW.plus(1_000_000_000);
    assert!(story.is_active(2));
    story.revokes(RevokeTarget::Token(token(2)));
    assert!(!story.is_active(2));
}

/// Everything that looks like `live` and is not it.
fn variants(live: &[u8]) -> HashSet<Vec<u8>> {
    let mut all: HashSet<Vec<u8>> = HashSet::new();
    for at in 0..live.len() {
        all.insert(live[..at].to_vec());
        all.insert(live[at..].to_vec());
        all.insert([&live[..at], &live[at + 1..]].concat());
        for bit in 0..8 {
            let mut flipped = live.to_vec();
            flipped[at] ^= 1 << bit;
            all.insert(flipped);
        }
    }
    for extra in [" ", "\t", "\n", "\r\n", "\0", "=", "==", "0", "%20", "+", "\u{feff}", "\""] {
        all.insert([live, extra.as_bytes()].concat());
        all.insert([extra.as_bytes(), live].concat());
    }
    all.insert(live.to_ascii_lowercase());
    all.insert(live.to_ascii_uppercase());
    all.insert(live.iter().rev().copied().collect());
    all.insert([live, live].concat());
    all.insert([b"Bearer ".as_slice(), live].concat());
    let text = String::from_utf8_lossy(live);
    all.insert(text.replace('-', "+").replace('_', "/").into_bytes());
    all.insert(text.replace('_', "%5F").into_bytes());
    all.insert(live.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect());
    all.insert(TokenDigest::of(live).to_hex().into_bytes());
    all.insert(TokenDigest::of(live).as_bytes().to_vec());
    all.remove(live);
    all
}

/// B5, B6. One server accepted a token cut short; another's revocation list missed a token written differently.
#[test]
fn b5_b6_no_cut_edited_or_re_encoded_token_is_accepted_before_or_after_revocation() {
    let live = b"tks_Ab-Cd_EfGhIjKlMnOpQrStUvWxYz012345";
    let mut story = Story::with_one_token();
    let ChangeRequest::RegisterToken { token: terms, .. } = register(1, 1, NOW) else { panic!("a registration") };
    story.does(&ChangeRequest::RegisterToken { digest: TokenDigest::of(live), token: terms });
    let variants = variants(live);
    assert!(variants.len() > 400);
    for revoked in [false, true] {
        if revoked {
            story.revokes(RevokeTarget::Token(TokenDigest::of(live)));
        }
        let told = story.world.check(&TokenDigest::of(live), "tasks:read", "10", NOW);
        assert_eq!(told == Decision::Allowed, !revoked);
        for variant in &variants {
            let digest = TokenDigest::of(variant);
            assert_eq!(story.world.introspect(&digest, None, NOW), Told::Inactive(Inactive::Unknown), "{variant:?}");
        }
    }
}

/// B13. A cache key made by joining strings took two different pairs for one.
#[test]
fn b13_pairs_that_are_equal_when_joined_are_two_pairs() {
    for (one, other) in [
        (("xy", "z"), ("x", "yz")),
        (("a|b", "c"), ("a", "b|c")),
        (("a:b", "c"), ("a", "b:c")),
        (("a/b", "c"), ("a", "b/c")),
    ] {
        let mut story = Story::new();
        for (number, (who, whom)) in [one, other].into_iter().enumerate() {
            story.does(&ChangeRequest::RegisterClient(client(whom)));
            story.does(&ChangeRequest::AddMember(subject(who), place("10")));
            story.does(&make_grant(who, whom, vec![at("10", &["tasks:read"])]));
            story.does(&register(number + 1, number + 1, NOW));
        }
        story.revokes(RevokeTarget::SubjectClient(subject(one.0), client(one.1)));
        assert_eq!((story.is_active(1), story.is_active(2)), (false, true), "{one:?} and {other:?}");
    }
    // The same with a workspace and a client.
    let mut story = Story::new();
    for (number, (at_place, whom)) in [("1", "0app"), ("10", "app")].into_iter().enumerate() {
        story.does(&ChangeRequest::RegisterClient(client(whom)));
        story.does(&ChangeRequest::AddMember(subject("ada"), place(at_place)));
        story.does(&make_grant("ada", whom, vec![at(at_place, &["tasks:read"])]));
        story.does(&register(number + 1, number + 1, NOW));
    }
    story.does(&ChangeRequest::SetPolicyEntry(workspace("1"), client("0app"), PolicyEntry::Block));
    assert_eq!((story.is_active(1), story.is_active(2)), (false, true));
}

/// B16. A not-before rule for one client hid the stricter rule for the whole realm. Here every mark is looked at on its
/// own, whatever the others say and whichever came first.
#[test]
fn b16_a_narrower_mark_never_hides_a_wider_one() {
    let early = NOW.minus(100);
    let late = NOW.plus(1);
    let among = [Among::All, Among::Subject(subject("ada")), Among::Client(client("zapper")), Among::Grant(grant(1))];
    for (strict, _) in among.iter().enumerate() {
        for reversed in [false, true] {
            let mut story = Story::with_one_token();
            let mut order: Vec<usize> = (0..among.len()).collect();
            if reversed {
                order.reverse();
            }
            for number in order {
                let mark = if number == strict { late } else { early };
                story.revokes(RevokeTarget::IssuedBefore(mark, among[number].clone()));
            }
            assert!(!story.is_active(1), "the strict mark is {:?}", among[strict]);
            // A later, laxer mark of the same kind takes nothing back.
            story.revokes(RevokeTarget::IssuedBefore(early, among[strict].clone()));
            assert!(!story.is_active(1), "a laxer mark was set after {:?}", among[strict]);
        }
    }
}

/// B17. Revocation was not looked at for tokens of one grant type. Every kind of token, every way of ending it.
#[test]
fn b17_every_kind_of_token_is_ended_by_every_way_of_revoking() {
    let kinds: Vec<(&str, ChangeRequest, ChangeRequest)> = vec![
        ("plain", make_grant("ada", "zapper", vec![at("10", &["tasks:read"])]), register(1, 1, NOW)),
        ("everywhere", make_grant("ada", "zapper", vec![everywhere(&["tasks:read"])]), register(1, 1, NOW)),
        ("wildcard", make_grant("ada", "zapper", vec![at("10", &["*"])]), register(1, 1, NOW)),
        ("project", make_grant("ada", "zapper", vec![at("10/1", &["tasks:read"])]), register(1, 1, NOW)),
        ("personal", make_grant("ada", "personal", vec![at("10", &["tasks:read"])]), register(1, 1, NOW)),
        (
            "narrowed",
            make_grant("ada", "zapper", vec![everywhere(&["*"])]),
            narrowed(register(1, 1, NOW), vec![at("10/1", &["tasks:read"])]),
        ),
        (
            "for ever",
            make_grant("ada", "zapper", vec![at("10", &["tasks:read"])]),
            timed(register(1, 1, NOW), |times| times.expiry = Expiry::Never),
        ),
        ("bound", make_grant("ada", "zapper", vec![at("10", &["tasks:read"])]), bound(register(1, 1, NOW))),
    ];
    for (kind, make, register_token) in kinds {
        let ChangeRequest::MakeGrant { client: whom, .. } = &make else { panic!("a grant") };
        for way in ways_to_end("ada", whom) {
            let mut story = Story::new();
            story.does(&make);
            story.does(&register_token);
            assert_eq!(story.check(1, "tasks:read", "10/1"), Decision::Allowed, "{kind}");
            story.does(&way);
            assert_ne!(story.check(1, "tasks:read", "10/1"), Decision::Allowed, "{kind}, {way:?}");
            // "Everywhere" still has workspace 20 if only 10 was taken away; the others have nothing left.
            let elsewhere = story.check(1, "tasks:read", "20") == Decision::Allowed;
            assert_eq!(story.is_active(1), elsewhere, "{kind}, {way:?}");
        }
    }
}

fn bound(request: ChangeRequest) -> ChangeRequest {
    match request {
        ChangeRequest::RegisterToken { digest, mut token } => {
            token.confirmation = Some(Confirmation::Certificate([9; 32]));
            ChangeRequest::RegisterToken { digest, token }
        }
        other => other,
    }
}

/// Every change that takes workspace 10 from token 1 of grant 1.
fn ways_to_end(who: &str, whom: &ClientId) -> Vec<ChangeRequest> {
    let mut ways: Vec<ChangeRequest> = [
        RevokeTarget::Token(token(1)),
        RevokeTarget::Grant(grant(1)),
        RevokeTarget::SubjectClient(subject(who), whom.clone()),
        RevokeTarget::Subject(subject(who)),
        RevokeTarget::Client(whom.clone()),
        RevokeTarget::WorkspaceClient(workspace("10"), whom.clone()),
        RevokeTarget::IssuedBefore(NOW.plus(1), Among::All),
        RevokeTarget::IssuedBefore(NOW.plus(1), Among::Subject(subject(who))),
        RevokeTarget::IssuedBefore(NOW.plus(1), Among::Client(whom.clone())),
        RevokeTarget::IssuedBefore(NOW.plus(1), Among::Grant(grant(1))),
    ]
    .into_iter()
    .map(ChangeRequest::Revoke)
    .collect();
    ways.push(ChangeRequest::RemoveMember(subject(who), place("10")));
    ways.push(ChangeRequest::SwitchSubject(subject(who), Switch::Off));
    if *whom == ClientId::personal() {
        ways.push(ChangeRequest::SwitchPersonal(workspace("10"), Switch::Off));
    } else {
        ways.push(ChangeRequest::SwitchClient(whom.clone(), Switch::Off));
        ways.push(ChangeRequest::SetPolicyEntry(workspace("10"), whom.clone(), PolicyEntry::Block));
    }
    ways
}

/// B20. A proxy went on letting people in after they were removed from the organisation.
#[test]
fn b20_the_answer_after_a_removal_knows_of_it() {
    let mut story = Story::with_one_token();
    story.does(&register(2, 1, NOW));
    story.does(&ChangeRequest::RemoveMember(subject("ada"), place("10")));
    for number in [1, 2] {
        assert_eq!(story.check(number, "tasks:read", "10"), Decision::Denied(Denial::NotAMember));
        assert_eq!(story.check(number, "tasks:read", "10/1"), Decision::Denied(Denial::NotAMember));
        assert!(!story.is_active(number), "nothing is left anywhere");
    }
}

/// B27. One forgotten parameter revoked everybody's tokens. Here a selector cannot be empty by its type; one that names
/// nobody is an error; and each hits what it names and nothing beside it.
#[test]
fn b27_a_revocation_hits_what_it_names_and_nothing_else() {
    // Tokens 1 to 4: ada with zapper, ada with timer, bob with zapper, bob with timer.
    let crowd = || {
        let mut story = Story::new();
        for (number, (who, whom)) in
            [("ada", "zapper"), ("ada", "timer"), ("bob", "zapper"), ("bob", "timer")].into_iter().enumerate()
        {
            story.does(&make_grant(who, whom, vec![at("10", &["tasks:read"])]));
            story.does(&register(number + 1, number + 1, NOW));
        }
        story
    };
    let table: [(RevokeTarget, [usize; 4]); 9] = [
        (RevokeTarget::Token(token(1)), [0, 1, 1, 1]),
        (RevokeTarget::Token(token(99)), [1, 1, 1, 1]),
        (RevokeTarget::Grant(grant(2)), [1, 0, 1, 1]),
        (RevokeTarget::SubjectClient(subject("bob"), client("zapper")), [1, 1, 0, 1]),
        (RevokeTarget::Subject(subject("ada")), [0, 0, 1, 1]),
        (RevokeTarget::Client(client("timer")), [1, 0, 1, 0]),
        (RevokeTarget::WorkspaceClient(workspace("10"), client("timer")), [1, 0, 1, 0]),
        (RevokeTarget::IssuedBefore(Timestamp::ZERO, Among::All), [1, 1, 1, 1]),
        (RevokeTarget::IssuedBefore(NOW.plus(1), Among::Subject(subject("bob"))), [1, 1, 0, 0]),
    ];
    for (target, due) in table {
        let mut story = crowd();
        story.revokes(target.clone());
        let left = [1, 2, 3, 4].map(|number| usize::from(story.is_active(number)));
        assert_eq!(left, due, "{target:?}");
    }
    let mut story = crowd();
    for target in [RevokeTarget::Grant(grant(77)), RevokeTarget::Client(client("nobody"))] {
        story.refuses(&ChangeRequest::Revoke(target));
    }
    story.refuses(&make_grant("ada", "zapper", Vec::new()));
    story.refuses(&make_grant("ada", "zapper", vec![at("10", &[])]));
    story.refuses(&ChangeRequest::NarrowGrant(grant(1), Vec::new()));
    assert!((1..=4).all(|number| story.is_active(number)));
}

/// B30. An entry dropped from a list, while the token lived on, left a token that no ban could find.
#[test]
fn b30_no_live_token_is_out_of_reach_of_its_lists() {
    let mut story = Story::with_one_token();
    story.does(&make_grant("ada", "personal", vec![everywhere(&["*"])]));
    for number in 2..40 {
        story.does(&register(number, 1 + number % 2, NOW));
        if number % 3 == 0 {
            story.revokes(RevokeTarget::Token(token(number - 1)));
        }
    }
    let list = |of| story.world.live_tokens(&of, NOW);
    let (of_ada, of_zapper, of_personal) = (
        list(ListOf::Subject("ada".into())),
        list(ListOf::Client("zapper".into())),
        list(ListOf::Client("personal".into())),
    );
    let of_grants: Vec<_> = (1..=2).map(|number| list(ListOf::Grant(grant(number)))).collect();
    for number in 1..40 {
        let digest = token(number);
        let active = story.is_active(number);
        assert_eq!(of_ada.contains(&digest), active, "token {number} of its subject");
        assert_eq!(
            of_zapper.contains(&digest) || of_personal.contains(&digest),
            active,
            "token {number} of its client"
        );
        assert_eq!(of_grants.iter().any(|list| list.contains(&digest)), active, "token {number} of its grant");
    }
}

/// B32. The workspace was stored with the token, and no check ever looked at it.
#[test]
fn b32_a_right_in_one_place_is_no_right_in_another() {
    let mut story = Story::new();
    story.does(&make_grant("ada", "zapper", vec![at("10", &["tasks:read"]), at("20/1", &["tasks:write"])]));
    story.does(&register(1, 1, NOW));
    for (scope, place, due) in [
        ("tasks:read", "10", Decision::Allowed),
        ("tasks:read", "10/7", Decision::Allowed),
        ("tasks:write", "10", Decision::Denied(Denial::ScopeNotGranted)),
        ("tasks:write", "20/1", Decision::Allowed),
        ("tasks:write", "20", Decision::Denied(Denial::PlaceNotGranted)),
        ("tasks:write", "20/2", Decision::Denied(Denial::PlaceNotGranted)),
        ("tasks:read", "20/1", Decision::Denied(Denial::ScopeNotGranted)),
        ("tasks:read", "30", Decision::Denied(Denial::PlaceNotGranted)),
        ("tasks:red", "10", Decision::Denied(Denial::ScopeUnknown)),
        // A project nobody ever named lies in its workspace; a text that is no place lies nowhere.
        ("tasks:read", "10/999", Decision::Allowed),
        ("tasks:read", "10/", Decision::Denied(Denial::PlaceNotGranted)),
        ("tasks:read", "10/1/2", Decision::Denied(Denial::PlaceNotGranted)),
        ("tasks:read", "10 ", Decision::Denied(Denial::PlaceNotGranted)),
        ("tasks:read", "", Decision::Denied(Denial::PlaceNotGranted)),
    ] {
        assert_eq!(story.check(1, scope, place), due, "{scope} at {place}");
    }
}
