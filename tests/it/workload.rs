//! Seeded lists of changes and questions over a universe so small that everything collides with everything.
//!
//! Four subjects, three apps and the personal client, three workspaces with two projects each, eight scopes and the
//! wildcard, at most [`GRANTS`] grants and [`TOKENS`] tokens, and a clock that moves a few seconds between changes
//! while tokens live for minutes.

use tokenscope::domain::{
    Among, Audience, ClientId, Confirmation, Expiry, GrantId, Place, PolicyEntry, PolicyMode, Reach, SubjectId, Switch,
    Timestamp, TokenDigest, TokenTimes, WorkspaceId,
};
use tokenscope::service::request::{ChangeRequest, NamedAccess, RevokeTarget, TokenTerms};

use crate::dice::Dice;

pub const START: u32 = 1_800_000_000;
pub const GRANTS: usize = 12;
pub const TOKENS: usize = 30;
pub const SUBJECTS: [&str; 4] = ["ada", "bob", "cleo", "svc/build"];
pub const CLIENTS: [&str; 4] = ["zapper", "timer", "https://bot.example/id", "personal"];
pub const WORKSPACES: [&str; 3] = ["10", "20", "300"];
pub const PLACES: [&str; 9] = ["10", "10/1", "10/2", "20", "20/1", "20/2", "300", "300/1", "300/20"];
pub const SCOPES: [&str; 8] = [
    "tasks:read",
    "tasks:write",
    "tasks:delete",
    "projects:read",
    "projects:write",
    "workspaces.typeahead:read",
    "users:read",
    "openid",
];
pub const ALIAS: &str = "workspace.typeahead:read";

/// Names nobody ever granted, some of them one byte away from one that was.
pub const STRANGE_SCOPES: [&str; 5] = ["*", "default", "Tasks:read", "tasks:read ", "nobody:knows"];
/// Places nobody ever named, and texts that are none.
pub const STRANGE_PLACES: [&str; 10] = ["10/999", "99", "99/1", "1", "30", "10/", "10/1/2", "10 ", "/", ""];

/// A change, and when it is asked for.
pub type Step = (ChangeRequest, Timestamp);

pub fn subject(name: &str) -> SubjectId {
    SubjectId::parse(name).expect("a valid subject")
}

pub fn client(name: &str) -> ClientId {
    ClientId::parse(name).expect("a valid client")
}

pub fn workspace(name: &str) -> WorkspaceId {
    WorkspaceId::parse(name).expect("a valid workspace")
}

pub fn place(name: &str) -> Place {
    Place::parse(name).expect("a valid place")
}

pub fn grant(number: usize) -> GrantId {
    GrantId::new(number as u32).expect("a small number from 1")
}

/// The digest of the token with this number.
pub fn token(number: usize) -> TokenDigest {
    TokenDigest::of(format!("token {number}").as_bytes())
}

pub fn at(place_name: &str, scopes: &[&str]) -> (Reach, Vec<Box<str>>) {
    (Reach::At(place(place_name)), scopes.iter().map(|scope| Box::from(*scope)).collect())
}

pub fn everywhere(scopes: &[&str]) -> (Reach, Vec<Box<str>>) {
    (Reach::Everywhere, scopes.iter().map(|scope| Box::from(*scope)).collect())
}

pub fn make_grant(who: &str, whom: &str, access: NamedAccess) -> ChangeRequest {
    let audience = vec![Audience::parse("https://api.example").expect("a valid audience")];
    ChangeRequest::MakeGrant { subject: subject(who), client: client(whom), access, expiry: Expiry::Never, audience }
}

/// A token good from `now` for an hour.
pub fn register(number: usize, of: usize, now: Timestamp) -> ChangeRequest {
    let times = TokenTimes { issued: now, not_before: now, expiry: Expiry::At(now.plus(3_600)) };
    let token_terms = TokenTerms { grant: grant(of), times, audience: None, confirmation: None, narrowed: None };
    ChangeRequest::RegisterToken { digest: token(number), token: token_terms }
}

/// The same token, narrower than its grant.
pub fn narrowed(request: ChangeRequest, access: NamedAccess) -> ChangeRequest {
    match request {
        ChangeRequest::RegisterToken { digest, mut token } => {
            token.narrowed = Some(access);
            ChangeRequest::RegisterToken { digest, token }
        }
        other => other,
    }
}

/// Scopes and clients, as any deployment has them before anything happens.
pub fn foundation() -> Vec<ChangeRequest> {
    let mut changes: Vec<ChangeRequest> = SCOPES.iter().map(|name| ChangeRequest::AddScope((*name).into())).collect();
    changes.push(ChangeRequest::AliasScope(ALIAS.into(), SCOPES[5].into()));
    changes.extend(CLIENTS[..3].iter().map(|name| ChangeRequest::RegisterClient(client(name))));
    changes
}

/// A seeded list: the foundation, then `length` random changes.
pub fn steps(dice: &mut Dice, length: usize) -> Vec<Step> {
    let mut now = Timestamp::from_raw(START);
    let mut steps: Vec<Step> = foundation().into_iter().map(|change| (change, now)).collect();
    let mut made = Made::default();
    // Some are members from the start, so that grants are worth something.
    for who in SUBJECTS {
        for at in PLACES {
            if dice.chance(30) {
                steps.push((ChangeRequest::AddMember(subject(who), place(at)), now));
            }
        }
    }
    for _ in 0..length {
        now = now.plus(dice.below(12) as u32);
        steps.push((made.any(dice, now), now));
    }
    steps
}

/// What has been asked for so far, so that most requests name something that exists.
#[derive(Default)]
pub struct Made {
    grants: usize,
    tokens: usize,
    /// Who left last, and what; half of those who come somewhere come back there.
    left: Option<(SubjectId, Place)>,
}

impl Made {
    fn any(&mut self, dice: &mut Dice, now: Timestamp) -> ChangeRequest {
        match dice.below(100) {
            0..11 => {
                let back = self.left.take().filter(|_| dice.chance(50));
                let (who, at) = back.unwrap_or_else(|| (a_subject(dice), a_place(dice)));
                ChangeRequest::AddMember(who, at)
            }
            11..18 => {
                let (who, at) = (a_subject(dice), a_place(dice));
                self.left = Some((who.clone(), at.clone()));
                ChangeRequest::RemoveMember(who, at)
            }
            18..30 => self.grant(dice, now),
            30..58 => self.token(dice, now),
            58..64 => ChangeRequest::ExtendGrant(self.a_grant(dice), access(dice)),
            64..68 => ChangeRequest::NarrowGrant(self.a_grant(dice), wide_access(dice)),
            68..82 => policy(dice),
            82..88 => switch(dice),
            88..96 => self.revocation(dice, now),
            96..98 => scope(dice),
            _ => self.strange(dice),
        }
    }

    /// A change that can only take away.
    pub fn tightening(dice: &mut Dice, now: Timestamp) -> ChangeRequest {
        let made = Self { grants: GRANTS, tokens: TOKENS, left: None };
        match dice.below(10) {
            0..5 => made.revocation(dice, now),
            5 => ChangeRequest::RemoveMember(a_subject(dice), a_place(dice)),
            6 => ChangeRequest::SetPolicyEntry(a_workspace(dice), an_app(dice), PolicyEntry::Block),
            7 => ChangeRequest::SetPolicyMode(a_workspace(dice), PolicyMode::ApprovalRequired),
            8 => ChangeRequest::SwitchPersonal(a_workspace(dice), Switch::Off),
            _ => match dice.below(4) {
                0 => ChangeRequest::SwitchSubject(a_subject(dice), Switch::Off),
                1 => ChangeRequest::SwitchClient(an_app(dice), Switch::Off),
                2 => ChangeRequest::SetPolicyEntry(a_workspace(dice), an_app(dice), PolicyEntry::Unapprove),
                _ => ChangeRequest::NarrowGrant(made.a_grant(dice), wide_access(dice)),
            },
        }
    }

    fn a_grant(&self, dice: &mut Dice) -> GrantId {
        grant(1 + dice.below(self.grants.max(1)))
    }

    fn grant(&mut self, dice: &mut Dice, now: Timestamp) -> ChangeRequest {
        if self.grants >= GRANTS {
            return policy(dice);
        }
        self.grants += 1;
        let expiry = if dice.chance(80) { Expiry::Never } else { Expiry::At(now.plus(dice.between(20, 900) as u32)) };
        ChangeRequest::MakeGrant {
            subject: a_subject(dice),
            client: client(dice.pick(&CLIENTS)),
            access: access(dice),
            expiry,
            audience: audience(dice),
        }
    }

    fn token(&mut self, dice: &mut Dice, now: Timestamp) -> ChangeRequest {
        if self.grants == 0 {
            return self.grant(dice, now);
        }
        let fresh = self.tokens < TOKENS && dice.chance(95);
        self.tokens += usize::from(fresh);
        let digest = token(if fresh { self.tokens } else { 1 + dice.below(self.tokens.max(1)) });
        let issued = now.minus(dice.below(60) as u32);
        let not_before = if dice.chance(85) { issued } else { now.plus(dice.below(40) as u32) };
        let expiry = match dice.below(10) {
            0 => Expiry::Never,
            1 => Expiry::At(now.plus(dice.between(1, 20) as u32).max(not_before.plus(1))),
            _ => Expiry::At(now.plus(dice.between(60, 900) as u32)),
        };
        let terms = TokenTerms {
            grant: self.a_grant(dice),
            times: TokenTimes { issued, not_before, expiry },
            audience: dice.chance(20).then(|| audience(dice)),
            confirmation: dice.chance(20).then(|| Confirmation::DpopKey([dice.below(256) as u8; 32])),
            narrowed: dice.chance(35).then(|| wide_access(dice)),
        };
        ChangeRequest::RegisterToken { digest, token: terms }
    }

    fn revocation(&self, dice: &mut Dice, now: Timestamp) -> ChangeRequest {
        ChangeRequest::Revoke(match dice.below(16) {
            0..5 => RevokeTarget::Token(token(1 + dice.below(self.tokens.max(1)))),
            5..8 => RevokeTarget::Grant(self.a_grant(dice)),
            8..10 => RevokeTarget::SubjectClient(a_subject(dice), client(dice.pick(&CLIENTS))),
            10 => RevokeTarget::Subject(a_subject(dice)),
            11 => RevokeTarget::Client(client(dice.pick(&CLIENTS))),
            12..14 => RevokeTarget::WorkspaceClient(a_workspace(dice), client(dice.pick(&CLIENTS))),
            _ => RevokeTarget::IssuedBefore(
                now.minus(dice.below(90) as u32),
                match dice.below(7) {
                    0 => Among::All,
                    1..3 => Among::Subject(a_subject(dice)),
                    3..5 => Among::Client(an_app(dice)),
                    _ => Among::Grant(self.a_grant(dice)),
                },
            ),
        })
    }

    /// Requests that cannot be meant, and repetitions that change nothing.
    fn strange(&self, dice: &mut Dice) -> ChangeRequest {
        match dice.below(8) {
            0 => ChangeRequest::Revoke(RevokeTarget::Grant(grant(900))),
            1 => ChangeRequest::NarrowGrant(grant(901), access(dice)),
            2 => ChangeRequest::ExtendGrant(self.a_grant(dice), vec![at("10", &["Tasks:read"])]),
            3 => ChangeRequest::ExtendGrant(self.a_grant(dice), Vec::new()),
            4 => ChangeRequest::Revoke(RevokeTarget::Client(client("nobody"))),
            5 => ChangeRequest::AliasScope(SCOPES[0].into(), SCOPES[1].into()),
            6 => make_grant("ada", "nobody", access(dice)),
            // Registering a suspended client again must not let it in.
            _ => ChangeRequest::RegisterClient(an_app(dice)),
        }
    }
}

fn a_subject(dice: &mut Dice) -> SubjectId {
    subject(dice.pick(&SUBJECTS))
}

fn an_app(dice: &mut Dice) -> ClientId {
    client(dice.pick(&CLIENTS[..3]))
}

fn a_workspace(dice: &mut Dice) -> WorkspaceId {
    workspace(dice.pick(&WORKSPACES))
}

fn a_place(dice: &mut Dice) -> Place {
    if dice.chance(50) { place(dice.pick(&WORKSPACES)) } else { place(dice.pick(&PLACES)) }
}

fn audience(dice: &mut Dice) -> Vec<Audience> {
    let all = ["https://api.example", "https://files.example"];
    let from = dice.below(2);
    all[from..].iter().map(|name| Audience::parse(name).expect("a valid audience")).collect()
}

fn some_scopes(dice: &mut Dice, most: usize) -> Vec<Box<str>> {
    if dice.chance(12) {
        return vec!["*".into()];
    }
    (0..=dice.below(most)).map(|_| Box::from(dice.pick(&SCOPES))).collect()
}

/// One to four pairs.
fn access(dice: &mut Dice) -> NamedAccess {
    let pair = |dice: &mut Dice| {
        let reach = if dice.chance(20) { Reach::Everywhere } else { Reach::At(a_place(dice)) };
        (reach, some_scopes(dice, 4))
    };
    (0..=dice.below(4)).map(|_| pair(dice)).collect()
}

/// Pairs that leave something of most grants.
fn wide_access(dice: &mut Dice) -> NamedAccess {
    let mut pairs = access(dice);
    if dice.chance(50) {
        pairs.push((Reach::Everywhere, some_scopes(dice, 8)));
    }
    if dice.chance(50) {
        pairs.push((Reach::At(a_place(dice)), vec!["*".into()]));
    }
    pairs
}

fn policy(dice: &mut Dice) -> ChangeRequest {
    let entries = [PolicyEntry::Block, PolicyEntry::Unblock, PolicyEntry::Approve, PolicyEntry::Unapprove];
    let switch = if dice.chance(40) { Switch::Off } else { Switch::On };
    match dice.below(10) {
        0..2 => ChangeRequest::SetPolicyMode(a_workspace(dice), PolicyMode::AllowAll),
        2 => ChangeRequest::SetPolicyMode(a_workspace(dice), PolicyMode::ApprovalRequired),
        3..5 => ChangeRequest::SwitchPersonal(a_workspace(dice), switch),
        _ => ChangeRequest::SetPolicyEntry(a_workspace(dice), an_app(dice), dice.pick(&entries)),
    }
}

fn switch(dice: &mut Dice) -> ChangeRequest {
    let switch = if dice.chance(35) { Switch::Off } else { Switch::On };
    if dice.chance(50) {
        ChangeRequest::SwitchSubject(a_subject(dice), switch)
    } else {
        ChangeRequest::SwitchClient(an_app(dice), switch)
    }
}

fn scope(dice: &mut Dice) -> ChangeRequest {
    match dice.below(4) {
        0 => ChangeRequest::RetireScope((dice.pick(&SCOPES)).into()),
        1..3 => ChangeRequest::AddScope((dice.pick(&SCOPES)).into()),
        _ => ChangeRequest::AliasScope("task:read".into(), (dice.pick(&SCOPES[..2])).into()),
    }
}

/// A question about one token.
#[derive(Clone, Debug)]
pub enum Question {
    Check { token: TokenDigest, scope: &'static str, place: &'static str },
    Introspect { token: TokenDigest, place: Option<&'static str> },
}

/// Every token, an unknown one too.
pub fn tokens() -> impl Iterator<Item = TokenDigest> {
    (0..=TOKENS).map(token)
}

/// Every scope name there is to ask about.
pub fn scopes() -> impl Iterator<Item = &'static str> {
    SCOPES.into_iter().chain([ALIAS, "task:read"]).chain(STRANGE_SCOPES)
}

/// Every place there is to ask about.
pub fn places() -> impl Iterator<Item = &'static str> {
    PLACES.into_iter().chain(STRANGE_PLACES)
}

/// Every question about one token.
pub fn questions_about(token: TokenDigest) -> Vec<Question> {
    let mut all = vec![Question::Introspect { token, place: None }];
    all.extend(places().map(|place| Question::Introspect { token, place: Some(place) }));
    for scope in scopes() {
        all.extend(places().map(|place| Question::Check { token, scope, place }));
    }
    all
}

/// One question, more often about a plain scope at a plain place than not.
pub fn a_question(dice: &mut Dice) -> Question {
    let token = token(dice.below(TOKENS + 1));
    let all: Vec<&'static str> = if dice.chance(85) { PLACES.to_vec() } else { places().collect() };
    let place = dice.pick(&all);
    match dice.below(10) {
        0..2 => Question::Introspect { token, place: None },
        2..4 => Question::Introspect { token, place: Some(place) },
        _ => {
            let all: Vec<&'static str> = if dice.chance(85) { SCOPES.to_vec() } else { scopes().collect() };
            Question::Check { token, scope: dice.pick(&all), place }
        }
    }
}
