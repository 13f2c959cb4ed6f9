//! What is done to a store before the power fails: a few scripts by hand, and any number from a seed.

use tokenscope::domain::{
    Access, Among, Audience, Change, ClientId, Expiry, GrantId, NewGrant, NewToken, Pair, Place, PolicyEntry,
    PolicyMode, Reach, ScopeMask, SubjectId, Target, TokenKey, TokenTimes, WorkspaceId,
};

use super::dice::Dice;
use super::ledger::{NOW, subject};

/// One step of a script.
#[derive(Clone, Debug)]
pub enum Step {
    /// Changes handed in together; the first makes a batch of its own, the rest one more.
    Change(Vec<Change>),
    /// A snapshot, the mark, and forgetting what is behind the second newest.
    Checkpoint,
    /// New MAC keys for journal and snapshots.
    Rotate,
    /// The store is closed properly and opened again.
    Restart,
}

/// The n-th token's key, somewhere in the table.
pub fn key(number: u64) -> TokenKey {
    let mut dice = Dice::new(number);
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&dice.next().to_le_bytes());
    bytes[8..].copy_from_slice(&dice.next().to_le_bytes());
    TokenKey::from_bytes(bytes)
}

/// One of the places.
pub fn place(number: usize) -> Place {
    Place::parse(["acme", "acme/site", "bolt", "bolt/ship"][number % 4]).expect("a place")
}

fn workspace(number: usize) -> WorkspaceId {
    WorkspaceId::parse(["acme", "bolt"][number % 2]).expect("an id")
}

fn somebody(number: usize) -> SubjectId {
    subject(["maria", "noah", "olga"][number % 3])
}

fn client(number: usize) -> ClientId {
    if number == 0 { ClientId::personal() } else { ClientId::parse("timer").expect("an id") }
}

fn access(places: impl IntoIterator<Item = usize>) -> Access {
    let pairs = places.into_iter().map(|number| Pair { reach: Reach::At(place(number)), scopes: ScopeMask::WILDCARD });
    let everywhere = Pair { reach: Reach::Everywhere, scopes: ScopeMask::WILDCARD };
    let pairs: Vec<Pair> = pairs.collect();
    Access::new(if pairs.is_empty() { vec![everywhere] } else { pairs }).expect("not empty")
}

fn grant(of: usize, to: usize, places: Vec<usize>) -> Change {
    Change::MakeGrant(NewGrant {
        // The writer gives the number.
        id: id(1),
        subject: somebody(of),
        client: client(to),
        access: access(places),
        expiry: Expiry::Never,
        audience: vec![Audience::parse("api").expect("an id")],
    })
}

fn id(number: u32) -> GrantId {
    GrantId::new(number).expect("a number")
}

fn token(number: u64, of: u32) -> Change {
    // Some have terms that do not fit a slot of the index.
    let not_before = if number.is_multiple_of(5) { NOW.plus(1) } else { NOW };
    Change::RegisterToken(NewToken {
        key: key(number),
        grant: id(of),
        times: TokenTimes { issued: NOW, not_before, expiry: Expiry::At(NOW.plus(36_000)) },
        audience: None,
        confirmation: None,
        narrowed: number.is_multiple_of(7).then(|| access([0])),
    })
}

fn revoke(number: u64) -> Change {
    Change::Revoke(Target::Token(key(number)))
}

/// The scripts by hand: name, steps.
pub fn by_hand() -> Vec<(&'static str, Vec<Step>)> {
    use Step::{Checkpoint, Restart, Rotate};
    let one = |change: Change| Step::Change(vec![change]);
    let begin = || vec![one(Change::RegisterClient(client(1))), one(grant(0, 1, vec![0, 2]))];
    let mut birth = begin();
    birth.extend([one(token(1, 1)), one(revoke(1))]);

    let mut together = begin();
    together.push(Step::Change((1..12).map(|number| token(number, 1)).collect()));
    together.push(Step::Change(vec![revoke(3), Change::AddMember(somebody(0), place(0)), revoke(4), token(12, 1)]));
    together.push(Step::Change(vec![Change::Revoke(Target::Grant(id(1))), grant(1, 0, vec![])]));

    let mut forgetting = begin();
    for round in 0..3 {
        forgetting.extend([one(token(round * 2, 1)), one(token(round * 2 + 1, 1)), one(revoke(round * 2)), Checkpoint]);
    }
    forgetting.push(one(revoke(1)));

    let mut restarting = begin();
    for round in 0..2 {
        restarting.extend([one(token(round, 1)), Checkpoint, one(revoke(round)), Restart]);
    }
    // The first before anything, two at one place, one whose snapshot is written anew, some until the old ones go.
    let mut keys = vec![Rotate];
    keys.extend(begin());
    for round in 0..3 {
        keys.extend([one(token(round * 2, 1)), Rotate, one(token(round * 2 + 1, 1)), Checkpoint, Rotate]);
        keys.extend([Checkpoint, one(revoke(round * 2))]);
    }
    keys.extend([Rotate, Rotate, Restart, one(revoke(1)), Checkpoint, one(token(9, 1)), Checkpoint, one(revoke(9))]);
    vec![
        ("birth", birth),
        ("new keys", keys),
        ("changes together", together),
        ("snapshots and forgetting", forgetting),
        ("restarts", restarting),
    ]
}

/// A script from a seed.
pub fn from_seed(seed: u64) -> Vec<Step> {
    let mut maker = Maker { dice: Dice::new(seed), tokens: 0, grants: 0 };
    let first = vec![Change::RegisterClient(client(1)), maker.grant(), maker.token()];
    let mut steps = vec![Step::Change(first)];
    for _ in 0..6 + maker.dice.below(14) {
        steps.push(match maker.dice.below(20) {
            0..9 => Step::Change(vec![maker.change()]),
            9..14 => {
                let count = 2 + maker.dice.below(6);
                Step::Change((0..count).map(|_| maker.change()).collect())
            }
            14 => {
                let count = 40 + maker.dice.below(200);
                Step::Change((0..count).map(|_| maker.token()).collect())
            }
            15..18 => Step::Checkpoint,
            18 => Step::Rotate,
            _ => Step::Restart,
        });
    }
    steps
}

/// What is done to a store that came back, before the power fails again.
pub fn afterwards(dice: &mut Dice, tokens: u64, grants: u32) -> Vec<Step> {
    let mut maker = Maker { dice: Dice::new(dice.next()), tokens, grants };
    let count = maker.dice.below(3);
    let mut steps: Vec<Step> = (0..count).map(|_| Step::Change(vec![maker.change()])).collect();
    if maker.dice.below(3) == 0 {
        steps.insert(maker.dice.below(steps.len() + 1), Step::Rotate);
    }
    if maker.dice.below(3) == 0 {
        steps.push(Step::Checkpoint);
    }
    steps
}

struct Maker {
    dice: Dice,
    tokens: u64,
    grants: u32,
}

impl Maker {
    fn token(&mut self) -> Change {
        self.tokens += 1;
        token(self.tokens, 1 + self.dice.below(self.grants.max(1) as usize) as u32)
    }

    fn grant(&mut self) -> Change {
        self.grants += 1;
        let places = (0..self.dice.below(3)).map(|number| number + self.dice.below(4)).collect();
        grant(self.dice.below(3), self.dice.below(2), places)
    }

    fn some_grant(&mut self) -> GrantId {
        id(1 + self.dice.below(self.grants.max(1) as usize) as u32)
    }

    fn change(&mut self) -> Change {
        let (one, other) = (self.dice.below(12), self.dice.below(12));
        match self.dice.below(40) {
            0..14 => self.token(),
            14..21 => revoke(1 + self.dice.below(self.tokens as usize + 2) as u64),
            21 => Change::Revoke(Target::Grant(self.some_grant())),
            22 => Change::Revoke(Target::SubjectClient(somebody(one), client(other % 2))),
            23 => Change::Revoke(Target::WorkspaceClient(workspace(one), client(1))),
            24 => Change::Revoke(Target::IssuedBefore(NOW.plus(1), Among::Grant(self.some_grant()))),
            25..29 => self.grant(),
            29..32 => Change::AddMember(somebody(one), place(other)),
            32..34 => Change::RemoveMember(somebody(one), place(other)),
            34 => Change::NarrowGrant(self.some_grant(), access([one])),
            35 => Change::ExtendGrant(self.some_grant(), access([one, other])),
            36 => Change::SetPolicyEntry(workspace(one), client(1), PolicyEntry::Block),
            37 => Change::SetPolicyEntry(workspace(one), client(1), PolicyEntry::Unblock),
            38 => Change::SetPolicyMode(workspace(one), PolicyMode::AllowAll),
            _ => Change::AddScope(format!("tasks:write{one}").into()),
        }
    }
}
