//! Scripts for [`index_model`](super::index_model()): bytes read as changes in a small world. Every byte string is a script.

use super::plain::POSITIONS;
use crate::domain::{
    Access, Among, Audience, Change, ClientId, Confirmation, Expiry, GrantId, NewGrant, NewToken, Pair, Place,
    PolicyEntry, PolicyMode, Reach, ScopeMask, ScopePosition, SubjectId, Switch, Target, Timestamp, TokenKey,
    TokenTimes, WorkspaceId,
};

pub(super) const SUBJECTS: [&str; 4] = ["u0", "u1", "u2", "u3"];
/// The personal client, two apps, and one that is registered late or never.
pub(super) const CLIENTS: [&str; 4] = ["personal", "app1", "app2", "app3"];
pub(super) const WORKSPACES: [&str; 3] = ["w0", "w1", "w2"];
pub(super) const PLACES: [&str; 6] = ["w0", "w0/p0", "w0/p1", "w1", "w1/p0", "w2"];
pub(super) const SCOPES: [&str; 7] = ["tasks:read", "tasks:write", "users:read", "default", "all", "*", "no name"];
pub(super) const AUDIENCES: [&str; 3] = ["https://a.example", "https://b.example", "https://c.example"];
pub(super) const TOKENS: u8 = 48;

/// Bytes that are taken one after the other; zeroes behind the end.
pub(super) struct Script<'d>(pub(super) &'d [u8]);

impl Script<'_> {
    pub(super) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub(super) fn below(&mut self, bound: u8) -> u8 {
        self.byte() % bound
    }

    pub(super) fn one_of<T: Copy, const N: usize>(&mut self, of: [T; N]) -> T {
        of[usize::from(self.byte()) % N]
    }

    fn subject(&mut self) -> SubjectId {
        SubjectId::parse(self.one_of(SUBJECTS)).expect("an id")
    }

    fn client(&mut self) -> ClientId {
        ClientId::parse(self.one_of(CLIENTS)).expect("an id")
    }

    fn workspace(&mut self) -> WorkspaceId {
        WorkspaceId::parse(self.one_of(WORKSPACES)).expect("an id")
    }

    fn place(&mut self) -> Place {
        Place::parse(self.one_of(PLACES)).expect("a place")
    }

    fn scope(&mut self) -> Box<str> {
        self.one_of(SCOPES).into()
    }

    fn switch(&mut self) -> Switch {
        self.one_of([Switch::On, Switch::Off])
    }

    fn grant(&mut self) -> GrantId {
        GrantId::new(1 + u32::from(self.below(12))).expect("a number")
    }

    pub(super) fn key(&mut self) -> TokenKey {
        key(self.below(TOKENS))
    }

    fn mask(&mut self) -> ScopeMask {
        let bits = self.byte();
        let mut mask = ScopeMask::from_words([0; 4], bits & 1 << 7 != 0);
        let named = (0..).zip(POSITIONS).filter(|(bit, _)| bits >> bit & 1 == 1);
        named.for_each(|(_, position)| mask.insert(ScopePosition::new(position)));
        mask
    }

    /// One to four pairs, one of them at least with a scope.
    fn access(&mut self) -> Access {
        let count = 1 + self.below(4);
        let pairs: Vec<Pair> = (0..count)
            .map(|_| {
                let place = usize::from(self.byte()) % (PLACES.len() + 1);
                let at = PLACES.get(place).map(|text| Reach::At(Place::parse(text).expect("a place")));
                Pair { reach: at.unwrap_or(Reach::Everywhere), scopes: self.mask() }
            })
            .collect();
        let least = Pair { reach: pairs[0].reach.clone(), scopes: ScopeMask::from_words([1, 0, 0, 0], false) };
        Access::new(pairs).or_else(|_| Access::new([least])).expect("a scope")
    }

    fn audience(&mut self) -> Vec<Audience> {
        let bits = self.byte();
        let named = (0..).zip(AUDIENCES).filter(|(bit, _)| bits >> bit & 1 == 1);
        named.map(|(_, text)| Audience::parse(text).expect("an id")).collect()
    }

    /// A moment within some days of now.
    fn moment(&mut self, now: Timestamp) -> Timestamp {
        let steps = [0, 1, 60, 1_024, 3_600, 86_400, 86_401, 172_800];
        let (byte, far) = (self.byte(), steps[usize::from(self.byte()) % 8]);
        if byte & 1 == 0 { now.minus(far) } else { now.plus(far) }
    }

    fn times(&mut self, now: Timestamp) -> TokenTimes {
        let issued = self.moment(now);
        let life = self.one_of([0, 1, 900, 3_600, 16_383, 16_384, 86_400, u32::MAX]);
        let expiry = if life == u32::MAX { Expiry::Never } else { Expiry::At(issued.plus(life)) };
        let not_before = if self.below(4) == 0 { self.moment(now) } else { issued };
        TokenTimes { issued, not_before, expiry }
    }

    fn token(&mut self, now: Timestamp) -> NewToken {
        let (key, grant, times, extras) = (self.key(), self.grant(), self.times(now), self.byte());
        let bound = match extras >> 2 & 7 {
            0 => Some(Confirmation::Certificate([self.byte(); 32])),
            1 => Some(Confirmation::DpopKey([self.byte(); 32])),
            2 => Some(Confirmation::Other(format!("{{\"of\":{}}}", self.byte()).into())),
            _ => None,
        };
        NewToken {
            key,
            grant,
            times,
            audience: (extras & 1 == 1).then(|| self.audience()),
            confirmation: bound,
            narrowed: (extras & 2 == 2).then(|| self.access()),
        }
    }

    fn target(&mut self, now: Timestamp) -> Target {
        match self.below(13) {
            0..=3 => Target::Token(self.key()),
            4 => Target::Grant(self.grant()),
            5 => Target::SubjectClient(self.subject(), self.client()),
            6 => Target::Subject(self.subject()),
            7 => Target::Client(self.client()),
            8 => Target::WorkspaceClient(self.workspace(), self.client()),
            9 => Target::IssuedBefore(self.moment(now), Among::All),
            10 => Target::IssuedBefore(self.moment(now), Among::Subject(self.subject())),
            11 => Target::IssuedBefore(self.moment(now), Among::Client(self.client())),
            _ => Target::IssuedBefore(self.moment(now), Among::Grant(self.grant())),
        }
    }

    /// One change; what it is decided by `kind`, below 26. `next` is the number that a grant will get.
    pub(super) fn change(&mut self, kind: u8, next: GrantId, now: Timestamp) -> Change {
        match kind {
            0 => Change::RegisterClient(self.client()),
            1 => Change::SwitchClient(self.client(), self.switch()),
            2 => Change::SwitchSubject(self.subject(), self.switch()),
            3 => Change::AddScope(self.scope()),
            4 => Change::AliasScope(self.scope(), self.scope()),
            5 => Change::RetireScope(self.scope()),
            6 | 7 => Change::AddMember(self.subject(), self.place()),
            8 => Change::RemoveMember(self.subject(), self.place()),
            9 => {
                let mode = self.one_of([PolicyMode::AllowAll, PolicyMode::ApprovalRequired]);
                Change::SetPolicyMode(self.workspace(), mode)
            }
            10 => Change::SwitchPersonal(self.workspace(), self.switch()),
            11 => {
                let all = [PolicyEntry::Block, PolicyEntry::Unblock, PolicyEntry::Approve, PolicyEntry::Unapprove];
                Change::SetPolicyEntry(self.workspace(), self.client(), self.one_of(all))
            }
            12..=14 => Change::MakeGrant(NewGrant {
                id: next,
                subject: self.subject(),
                client: self.client(),
                access: self.access(),
                expiry: if self.below(2) == 0 { Expiry::Never } else { Expiry::At(self.moment(now)) },
                audience: self.audience(),
            }),
            15 => Change::NarrowGrant(self.grant(), self.access()),
            16 => Change::ExtendGrant(self.grant(), self.access()),
            17..=20 => Change::RegisterToken(self.token(now)),
            21..=24 => Change::Revoke(self.target(now)),
            _ => {
                let (source, lines) = ([self.below(4); 32], u64::from(self.byte()) << 33);
                let (first_grant, grants) = (u32::from(self.byte()), u32::from(self.byte()));
                Change::ImportMark { source, lines, first_grant, grants }
            }
        }
    }
}

/// A token's key by number. Six families of four have the same two buckets each, whatever the size of the table, and
/// fill them; the others lie anywhere.
pub(super) fn key(number: u8) -> TokenKey {
    let n = u32::from(number);
    if n < 24 {
        let family = n / 2 % 3;
        return TokenKey::from_words([n % 2, family << 28, (8 + family) << 28, n]);
    }
    let mixed = n.wrapping_mul(0x9e37_79b9);
    TokenKey::from_words([n % 4, mixed, mixed.rotate_left(13) ^ 0x5bd1_e995, n])
}
