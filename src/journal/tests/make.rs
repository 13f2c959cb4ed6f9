//! Entries for tests: chosen ones that show every form, and random ones by seed.

use crate::domain::{
    Access, Among, Audience, CallerId, Change, ClientId, Confirmation, Entry, Expiry, GrantId, NewGrant, NewToken,
    Pair, Place, PolicyEntry, PolicyMode, Reach, ScopeMask, ScopePosition, Sequence, SubjectId, Switch, Target,
    Timestamp, TokenKey, TokenTimes, WorkspaceId,
};
use crate::journal::entry::Kind;

/// SplitMix64: a few lines, the same numbers everywhere and always.
pub(super) struct Random(u64);

impl Random {
    /// Says its seed; the output of a test is shown only if it fails.
    pub(super) fn seeded(seed: u64) -> Self {
        println!("seed {seed}");
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next() as u8)
    }

    fn pick<T: Clone>(&mut self, among: &[T]) -> T {
        among[self.below(among.len())].clone()
    }

    /// An id of 1 to 128 characters, short ones more often; without a slash, so that it may be part of a place.
    fn id(&mut self) -> String {
        let longest = self.pick(&[4, 4, 20, 128]);
        let length = 1 + self.below(longest);
        (0..length).map(|_| self.pick(b"abcXYZ0189:@._-{}~!")).map(char::from).collect()
    }

    fn text(&mut self, longest: usize) -> Box<str> {
        let length = self.below(longest + 1);
        (0..length).map(|_| self.pick(&['a', ':', '"', '\0', 'é', '\u{10ffff}'])).take_while_bytes(longest).into()
    }

    fn place(&mut self) -> Place {
        let workspace = self.id();
        let text = if self.below(2) == 0 { workspace } else { format!("{workspace}/{}", self.id()) };
        Place::parse(&text).expect("made of ids")
    }

    fn time(&mut self) -> Timestamp {
        let any = self.next() as u32;
        Timestamp::from_raw(self.pick(&[0, 1_700_000_000, u32::MAX - 1, u32::MAX, any]))
    }

    fn expiry(&mut self) -> Expiry {
        if self.below(3) == 0 { Expiry::Never } else { Expiry::At(self.time()) }
    }

    fn grant(&mut self) -> GrantId {
        let any = 1 + self.below(GrantId::MAX as usize) as u32;
        let number = self.pick(&[1, GrantId::MAX, any]);
        grant(number)
    }

    fn mask(&mut self) -> ScopeMask {
        let words = std::array::from_fn(|_| match self.below(3) {
            0 => self.next(),
            1 => 1 << self.below(64),
            _ => 0,
        });
        ScopeMask::from_words(words, self.below(4) == 0)
    }

    fn access(&mut self) -> Access {
        let longest = self.pick(&[1, 3, 3, 3, 40]);
        let pairs = (0..self.below(longest + 1)).map(|_| {
            let reach = if self.below(8) == 0 { Reach::Everywhere } else { Reach::At(self.place()) };
            Pair { reach, scopes: self.mask() }
        });
        Access::new(pairs.collect::<Vec<_>>()).unwrap_or_default()
    }

    fn audience(&mut self) -> Vec<Audience> {
        let count = self.below(4);
        (0..count).map(|_| audience(&self.id())).collect()
    }

    fn target(&mut self) -> Target {
        match self.below(10) {
            0 => Target::Token(TokenKey::from_bytes(self.bytes())),
            1 => Target::Grant(self.grant()),
            2 => Target::SubjectClient(subject(&self.id()), client(&self.id())),
            3 => Target::Subject(subject(&self.id())),
            4 => Target::Client(client(&self.id())),
            5 => Target::WorkspaceClient(workspace(&self.id()), client(&self.id())),
            6 => Target::IssuedBefore(self.time(), Among::All),
            7 => Target::IssuedBefore(self.time(), Among::Subject(subject(&self.id()))),
            8 => Target::IssuedBefore(self.time(), Among::Client(client(&self.id()))),
            _ => Target::IssuedBefore(self.time(), Among::Grant(self.grant())),
        }
    }

    fn token(&mut self) -> NewToken {
        NewToken {
            key: TokenKey::from_bytes(self.bytes()),
            grant: self.grant(),
            times: TokenTimes { issued: self.time(), not_before: self.time(), expiry: self.expiry() },
            audience: (self.below(3) == 0).then(|| self.audience()),
            confirmation: match self.below(6) {
                0 => Some(Confirmation::Certificate(self.bytes())),
                1 => Some(Confirmation::DpopKey(self.bytes())),
                2 => Some(Confirmation::Other(self.text(1_024))),
                _ => None,
            },
            narrowed: (self.below(4) == 0).then(|| self.access()),
        }
    }

    /// A change of this kind.
    pub(super) fn change(&mut self, kind: Kind) -> Change {
        let switch = self.pick(&[Switch::On, Switch::Off]);
        match kind {
            Kind::RegisterClient => Change::RegisterClient(client(&self.id())),
            Kind::SwitchClient => Change::SwitchClient(client(&self.id()), switch),
            Kind::SwitchSubject => Change::SwitchSubject(subject(&self.id()), switch),
            Kind::AddScope => Change::AddScope(self.text(96)),
            Kind::AliasScope => Change::AliasScope(self.text(96), self.text(96)),
            Kind::RetireScope => Change::RetireScope(self.text(96)),
            Kind::AddMember => Change::AddMember(subject(&self.id()), self.place()),
            Kind::RemoveMember => Change::RemoveMember(subject(&self.id()), self.place()),
            Kind::SetPolicyMode => {
                let mode = self.pick(&[PolicyMode::AllowAll, PolicyMode::ApprovalRequired]);
                Change::SetPolicyMode(workspace(&self.id()), mode)
            }
            Kind::SwitchPersonal => Change::SwitchPersonal(workspace(&self.id()), switch),
            Kind::SetPolicyEntry => {
                let line = self.pick(&POLICY_ENTRIES);
                Change::SetPolicyEntry(workspace(&self.id()), client(&self.id()), line)
            }
            Kind::MakeGrant => Change::MakeGrant(NewGrant {
                id: self.grant(),
                subject: subject(&self.id()),
                client: client(&self.id()),
                access: self.access(),
                expiry: self.expiry(),
                audience: self.audience(),
            }),
            Kind::NarrowGrant => Change::NarrowGrant(self.grant(), self.access()),
            Kind::ExtendGrant => Change::ExtendGrant(self.grant(), self.access()),
            Kind::RegisterToken => Change::RegisterToken(self.token()),
            Kind::Revoke => Change::Revoke(self.target()),
            Kind::ImportMark => Change::ImportMark {
                source: self.bytes(),
                lines: self.next(),
                first_grant: self.next() as u32,
                grants: self.next() as u32,
            },
        }
    }

    /// An entry of any kind.
    pub(super) fn entry(&mut self, sequence: u64) -> Entry {
        let kind = self.pick(&Kind::ALL);
        let by = CallerId::parse(&self.id()).expect("an id");
        Entry { sequence: Sequence(sequence), at: self.time(), by, change: self.change(kind) }
    }

    /// Entries of any kind that follow `after`.
    pub(super) fn batch(&mut self, after: Sequence, count: usize) -> Vec<Entry> {
        (1..=count as u64).map(|step| self.entry(after.0 + step)).collect()
    }
}

trait TakeWhileBytes {
    fn take_while_bytes(self, longest: usize) -> String;
}

impl<I: Iterator<Item = char>> TakeWhileBytes for I {
    fn take_while_bytes(self, longest: usize) -> String {
        self.scan(0, |bytes, one| {
            *bytes += one.len_utf8();
            (*bytes <= longest).then_some(one)
        })
        .collect()
    }
}

pub(super) const POLICY_ENTRIES: [PolicyEntry; 4] =
    [PolicyEntry::Block, PolicyEntry::Unblock, PolicyEntry::Approve, PolicyEntry::Unapprove];

pub(super) fn subject(text: &str) -> SubjectId {
    SubjectId::parse(text).expect("an id")
}

pub(super) fn client(text: &str) -> ClientId {
    ClientId::parse(text).expect("an id")
}

pub(super) fn workspace(text: &str) -> WorkspaceId {
    WorkspaceId::parse(text).expect("an id")
}

pub(super) fn audience(text: &str) -> Audience {
    Audience::parse(text).expect("an id")
}

pub(super) fn place(text: &str) -> Place {
    Place::parse(text).expect("a place")
}

pub(super) fn grant(number: u32) -> GrantId {
    GrantId::new(number).expect("a grant's number")
}

pub(super) fn at(seconds: u32) -> Timestamp {
    Timestamp::from_raw(seconds)
}

/// A set of scopes by their positions.
pub(super) fn scopes(positions: &[u8]) -> ScopeMask {
    positions.iter().fold(ScopeMask::EMPTY, |mut mask, position| {
        mask.insert(ScopePosition::new(*position));
        mask
    })
}

pub(super) fn access(pairs: &[(&str, ScopeMask)]) -> Access {
    let pairs = pairs.iter().map(|(reach, scopes)| Pair {
        reach: if *reach == "everywhere" { Reach::Everywhere } else { Reach::At(place(reach)) },
        scopes: *scopes,
    });
    Access::new(pairs).expect("an access list")
}

/// The usual small entry: a token of one hour.
pub(super) fn token_entry(sequence: u64) -> Entry {
    let issued = at(1_700_000_000);
    let mut key = [0; 16];
    key[..8].copy_from_slice(&sequence.to_le_bytes());
    let token = NewToken {
        key: TokenKey::from_bytes(key),
        grant: grant(1),
        times: TokenTimes { issued, not_before: issued, expiry: Expiry::At(issued.plus(3_600)) },
        audience: None,
        confirmation: None,
        narrowed: None,
    };
    let by = CallerId::parse("issuer").expect("an id");
    Entry { sequence: Sequence(sequence), at: issued, by, change: Change::RegisterToken(token) }
}

/// Tokens that follow `after`.
pub(super) fn tokens(after: Sequence, count: usize) -> Vec<Entry> {
    (1..=count as u64).map(|step| token_entry(after.0 + step)).collect()
}
