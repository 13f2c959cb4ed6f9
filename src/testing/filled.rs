//! An index filled with the sample world, without a disk: for benches, and for measuring look-ups beside maps of others.

#![expect(clippy::expect_used, reason = "sample data is well-formed; and it is for tests")]

use std::collections::HashMap;

use crate::domain::{
    Access, CallerId, Change, Entry, GrantId, NewGrant, NewToken, Pair, Pepper, PolicyEntry, Reach, ScopeCatalogue,
    ScopeMask, ScopePosition, Sequence, Switch, Timestamp, TokenDigest,
};
use crate::import::line::{Line, TokenName};
use crate::index::{self, Index, Writer};
use crate::samples::{catalogue, world::World};

/// What a caller asks of a token: whether it may do a scope at a place, by numbers. The place and the scope are the first
/// of the token's grant; whether that is allowed depends on memberships and policies.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// The token.
    pub digest: TokenDigest,
    /// The place's number.
    pub place: u32,
    /// The scope.
    pub scope: ScopePosition,
    /// The grant the index has to name for this token.
    pub grant: u32,
}

/// Fills an index with the sample world's tokens, as an import would.
struct Filling {
    now: Timestamp,
    index: Index,
    writer: Writer,
    sequence: u64,
    catalogue: ScopeCatalogue,
    /// The numbers of one user's grants, and a question each of them allows.
    grants: HashMap<String, (GrantId, u32, ScopePosition)>,
    made: u32,
    home: u32,
}

impl Filling {
    fn change(&mut self, change: Change) {
        self.sequence += 1;
        let by = CallerId::parse("bench").expect("an id");
        self.writer.apply(&Entry { sequence: Sequence(self.sequence), at: self.now, by, change });
    }

    /// A scope of a set, by position.
    fn one_of(&self, scopes: &ScopeMask) -> ScopePosition {
        let positions = (0..self.catalogue.entries().len()).map(|at| ScopePosition::new(at as u8));
        positions.into_iter().find(|position| scopes.allows(*position)).unwrap_or(ScopePosition::new(0))
    }

    fn line(&mut self, line: Line, pepper: &Pepper, questions: &mut Vec<Question>) {
        match line {
            Line::Client(client, _) => self.change(Change::RegisterClient(client)),
            Line::Scope(name, _) => {
                self.catalogue.add(&name).expect("a scope");
                self.change(Change::AddScope(name));
            }
            Line::Member(subject, place) => {
                self.grants.clear();
                self.change(Change::AddMember(subject, place.clone()));
                self.home = self.index.pin().place_number(place.as_str()).expect("just named");
            }
            Line::Policy(line) => {
                let workspace = line.workspace;
                line.mode.into_iter().for_each(|mode| self.change(Change::SetPolicyMode(workspace.clone(), mode)));
                if line.personal == Some(Switch::Off) {
                    self.change(Change::SwitchPersonal(workspace.clone(), Switch::Off));
                }
                let lists = [(line.blocked, PolicyEntry::Block), (line.approved, PolicyEntry::Approve)];
                for (client, entry) in
                    lists.into_iter().flat_map(|(list, entry)| list.into_iter().map(move |c| (c, entry)))
                {
                    self.change(Change::SetPolicyEntry(workspace.clone(), client, entry));
                }
            }
            Line::Grant(line) => {
                self.made += 1;
                let id = GrantId::new(self.made).expect("a number");
                let mask = |names: &[Box<str>]| self.catalogue.mask(names.iter().map(|name| &**name)).expect("known");
                let pairs = line.access.iter().map(|(reach, names)| Pair { reach: reach.clone(), scopes: mask(names) });
                let access = Access::new(pairs).expect("not empty");
                let first = access.pairs()[0].clone();
                let audience = line.audience.expect("samples name one");
                let (subject, client, expiry) = (line.subject, line.client, line.expiry);
                self.change(Change::MakeGrant(NewGrant { id, subject, client, access, expiry, audience }));
                let place = match &first.reach {
                    Reach::At(place) => self.index.pin().place_number(place.as_str()).expect("just named"),
                    Reach::Everywhere => self.home,
                };
                self.grants.insert(line.label.as_str().to_owned(), (id, place, self.one_of(&first.scopes)));
            }
            Line::Token(line) => {
                let (grant, place, scope) = self.grants[line.grant.as_str()];
                let TokenName::Digest(digest) = line.name else { return };
                questions.push(Question { digest, place, scope, grant: grant.number() });
                let (times, confirmation) = (line.times, line.confirmation);
                let key = pepper.key(&digest);
                self.change(Change::RegisterToken(NewToken {
                    key,
                    grant,
                    times,
                    audience: None,
                    confirmation,
                    narrowed: None,
                }));
            }
            Line::Alias(..) | Line::Subject(..) | Line::Pepper(_) => {}
        }
    }
}

/// An index with so many tokens of the sample world of `seed` as it is at `now`, and a question about each of them. Each
/// question takes 44 bytes.
///
/// # Panics
/// Never: sample data is well-formed.
pub fn filled(seed: u64, tokens: u64, now: Timestamp, pepper: &Pepper) -> (Index, Writer, Vec<Question>) {
    let (index, writer) = index::new();
    let mut filling = Filling {
        now,
        index: index.clone(),
        writer,
        sequence: 0,
        catalogue: ScopeCatalogue::new(),
        grants: HashMap::new(),
        made: 0,
        home: 0,
    };
    let mut questions = Vec::with_capacity(usize::try_from(tokens).unwrap_or(0));
    for line in catalogue().chain(World::new(seed, tokens, now)) {
        filling.line(line, pepper, &mut questions);
    }
    (index, filling.writer, questions)
}
