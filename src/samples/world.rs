//! Users, workspaces, apps and any number of tokens, by the published distributions of [`super::draw`].
//!
//! Every user is drawn from a stream of its own and comes out whole: memberships, grants, tokens. How many tokens each
//! user has is not drawn but dealt: the users stand at even steps along the census, in scrambled order, so that the
//! counts are right at every size and not only on average.

use std::collections::VecDeque;

use super::draw::{self, Breadth, Life, Width};
use super::random::Random;
use super::{AUDIENCE, asana_scopes, token_string};
use crate::domain::{
    Audience, ClientId, Confirmation, Expiry, Place, PolicyMode, Reach, SubjectId, Switch, Timestamp, TokenDigest,
    TokenTimes, WorkspaceId,
};
use crate::import::line::{GrantLine, Label, Line, PolicyLine, TokenLine, TokenName};
use crate::service::request::NamedAccess;

/// Apps, the built-in client of personal tokens among them.
pub const CLIENTS: usize = 40;
/// Which of them is the built-in one: the third, with a tenth of the tokens.
const PERSONAL: usize = 2;
/// Users per workspace on average. A guess; sizes follow a square law (few large, many small).
const USERS_PER_WORKSPACE: u64 = 60;
/// Projects in a workspace that grants or guests may name. A guess.
const PROJECTS: u64 = 8;

/// An endless-memory-free stream of lines.
pub struct World {
    seed: u64,
    now: Timestamp,
    users: u64,
    workspaces: u64,
    scopes: Vec<&'static str>,
    left: u64,
    next_user: u64,
    queue: VecDeque<Line>,
}

/// One user's grant while the user is drawn.
struct Holding {
    client: usize,
    label: Label,
}

impl World {
    /// A world with `tokens` tokens at the moment `now`.
    pub fn new(seed: u64, tokens: u64, now: Timestamp) -> Self {
        let users = users_for(tokens);
        let workspaces = (users / USERS_PER_WORKSPACE).max(20);
        let scopes = asana_scopes().collect();
        let mut world =
            Self { seed, now, users, workspaces, scopes, left: tokens, next_user: 0, queue: VecDeque::new() };
        world.furnish();
        world
    }

    /// How many users there are.
    pub fn users(&self) -> u64 {
        self.users
    }

    /// The name of a user.
    pub fn user(number: u64) -> String {
        format!("user-{number}")
    }

    /// The name of an app.
    pub fn client(number: usize) -> String {
        if number == PERSONAL { crate::domain::id::PERSONAL.into() } else { format!("app-{number:02}") }
    }

    /// Apps, and the workspaces that have a policy of their own.
    fn furnish(&mut self) {
        for number in (0..CLIENTS).filter(|number| *number != PERSONAL) {
            self.queue.extend(ClientId::parse(&Self::client(number)).ok().map(|id| Line::Client(id, Switch::On)));
        }
        for number in 0..self.workspaces {
            let random = &mut Random::of(self.seed ^ 0x776f_726b, number);
            let client = |number: usize| ClientId::parse(&Self::client(number)).ok();
            let Ok(workspace) = WorkspaceId::parse(&self.workspace(number)) else { continue };
            let mut policy =
                PolicyLine { workspace, mode: None, personal: None, blocked: Vec::new(), approved: Vec::new() };
            // Asana's admin modes: allow all with a block list (default), approval required with an approved list,
            // personal tokens on or off. How many use which is a guess.
            match random.below(100) {
                0 | 1 => {
                    policy.mode = Some(PolicyMode::ApprovalRequired);
                    policy.approved = [0, 1, 4].into_iter().filter_map(client).collect();
                }
                2..=4 => policy.blocked = client(3 + random.below(CLIENTS as u64 - 3) as usize).into_iter().collect(),
                5 => policy.personal = Some(Switch::Off),
                _ => continue,
            }
            self.queue.push_back(Line::Policy(policy));
        }
    }

    /// Decimal strings, as the platform writes them.
    fn workspace(&self, number: u64) -> String {
        (1_200_000 + number % self.workspaces).to_string()
    }

    fn place(&self, workspace: u64, project: Option<u64>) -> Option<Place> {
        let workspace = self.workspace(workspace);
        match project {
            Some(project) => Place::parse(&format!("{workspace}/{}", 40_000 + project)).ok(),
            None => Place::parse(&workspace).ok(),
        }
    }

    /// Draws one user whole.
    fn draw_user(&mut self, user: u64) -> Option<()> {
        let random = &mut Random::of(self.seed, user);
        let rank = scrambled(user, self.users);
        let tokens = u64::from(draw::tokens_of_user((rank as f64 + 0.5) / self.users as f64)).min(self.left);
        self.left -= tokens;
        let subject = SubjectId::parse(&Self::user(user)).ok()?;
        // Few workspaces are large: the square of an even draw piles up at the low numbers.
        let home = (random.unit().powi(2) * self.workspaces as f64) as u64;
        let guest = random.below(20) == 0;
        let mut holdings: Vec<Holding> = Vec::new();
        let mut grants: Vec<Line> = Vec::new();
        let mut lines: Vec<Line> = Vec::new();
        let mut workspaces = 1;
        for number in 0..tokens {
            let client = draw::client_of(random, CLIENTS);
            let held = holdings.iter().position(|holding| holding.client == client);
            let index = match held {
                Some(index) => index,
                None => {
                    let label = Label::parse(&format!("{user}-{client}")).ok()?;
                    let (access, width) = self.access(random, home, guest)?;
                    workspaces = workspaces.max(width);
                    // One grant in five ends within a year, the others are taken back or never.
                    let expiry = match random.below(5) {
                        0 => Expiry::At(self.now.plus(86_400 * (1 + random.below(365) as u32))),
                        _ => Expiry::Never,
                    };
                    grants.push(Line::Grant(GrantLine {
                        label: label.clone(),
                        subject: subject.clone(),
                        client: ClientId::parse(&Self::client(client)).ok()?,
                        access,
                        expiry,
                        audience: Some(vec![Audience::parse(AUDIENCE).ok()?]),
                    }));
                    holdings.push(Holding { client, label });
                    holdings.len() - 1
                }
            };
            lines.push(self.token(random, user, number, holdings.get(index)?.label.clone()));
        }
        for number in 0..workspaces {
            let project = guest.then_some(home % PROJECTS);
            self.queue.push_back(Line::Member(subject.clone(), self.place(home + number, project)?));
        }
        self.queue.extend(grants);
        self.queue.extend(lines);
        Some(())
    }

    /// What a grant gives, and in how many workspaces its user has to be for that.
    fn access(&self, random: &mut Random, home: u64, guest: bool) -> Option<(NamedAccess, u64)> {
        let width = draw::width(random);
        let scopes: Vec<Box<str>> = match draw::breadth(random) {
            Breadth::All => vec!["*".into()],
            Breadth::Some(count) => {
                let mut chosen: Vec<Box<str>> = Vec::new();
                while chosen.len() < count as usize {
                    let scope: Box<str> = (*self.scopes.get(random.below(self.scopes.len() as u64) as usize)?).into();
                    if !chosen.contains(&scope) {
                        chosen.push(scope);
                    }
                }
                chosen
            }
        };
        let count = match width {
            Width::Everywhere => return Some((vec![(Reach::Everywhere, scopes)], 1)),
            // No more workspaces than there are.
            Width::Workspaces(count) => u64::from(count).min(self.workspaces),
        };
        // A guest can only grant its project; one grant in seven of the others names a single project too. A guess.
        let narrow = guest || (count == 1 && random.below(7) == 0);
        let project = narrow.then_some(home % PROJECTS);
        let pair = |number| Some((Reach::At(self.place(home + number, project)?), scopes.clone()));
        Some(((0..count).map(pair).collect::<Option<_>>()?, count))
    }

    fn token(&self, random: &mut Random, user: u64, number: u64, grant: Label) -> Line {
        // Three in a hundred have expired and were not swept yet; the others are somewhere in their life.
        let expired = random.below(100) < 3;
        let (age, expiry) = match draw::life(random) {
            Life::Never => (random.below(2 * 365 * 86_400) as u32, None),
            Life::Seconds(life) if expired => (life + 60 + random.below(3_600) as u32, Some(life)),
            Life::Seconds(life) => (random.below(u64::from(life)) as u32, Some(life)),
        };
        let issued = self.now.minus(age);
        let expiry = expiry.map_or(Expiry::Never, |life| Expiry::At(issued.plus(life)));
        let digest = TokenDigest::of(token_string(self.seed, user, number).as_bytes());
        // One in twenty is bound to a certificate. A guess; most of the world is bearer tokens.
        let confirmation = (random.below(20) == 0).then(|| Confirmation::Certificate(*digest.as_bytes()));
        let times = TokenTimes { issued, not_before: issued, expiry };
        Line::Token(TokenLine {
            name: TokenName::Digest(digest),
            grant,
            times,
            audience: None,
            confirmation,
            narrowed: None,
        })
    }
}

impl Iterator for World {
    type Item = Line;

    fn next(&mut self) -> Option<Line> {
        while self.queue.is_empty() && self.left > 0 {
            let user = self.next_user;
            self.next_user += 1;
            self.draw_user(user)?;
        }
        self.queue.pop_front()
    }
}

/// How many users hold `tokens` tokens together. A small world has no room for the census' longest tails, so it needs
/// a few more users than the mean says.
fn users_for(tokens: u64) -> u64 {
    let mut users = (tokens as f64 / draw::TOKENS_PER_USER_MEAN).ceil().max(1.0);
    for _ in 0..4 {
        let total: u64 =
            (0..users as u64).map(|rank| u64::from(draw::tokens_of_user((rank as f64 + 0.5) / users))).sum();
        if total >= tokens {
            break;
        }
        users = (users * tokens as f64 / total as f64).ceil() + 1.0;
    }
    users as u64
}

/// Where along the census user `number` of `users` stands: every place once, neighbours far apart.
fn scrambled(number: u64, users: u64) -> u64 {
    let common = |mut a: u64, mut b: u64| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    // The golden section spreads best; the next number without a common divisor makes it a permutation.
    let golden = (users as f64 * 0.618_033_988_75) as u64;
    let step = (golden.max(1)..).find(|step| common(*step, users) == 1).unwrap_or(1);
    ((u128::from(number) * u128::from(step)) % u128::from(users.max(1))) as u64
}
