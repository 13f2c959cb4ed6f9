//! Looking into the tables: plain reads of published words, no lock, no wait, no allocation.
//!
//! A number that leads nowhere (which only a damaged snapshot could bring) reads as "nothing there", and nothing there
//! means: not active, not granted.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use crossbeam_epoch::Guard;

use super::apply::{NO_GRANT, first_half};
use super::facts::{EVERYWHERE, GRANT_WORDS, NO_TERMS, Tables, binding, grant as granted, pair, party, run, unpack};
use super::tokens::{Found, SlotFacts, SlotTimes};
use super::{Index, Pin};
use crate::domain::access::{
    ClientKind, Covers, GrantFacts, GrantStanding, MemberFacts, PartyFacts, PlaceFacts, PolicyFacts, TokenFacts,
};
use crate::domain::id::PERSONAL;
use crate::domain::time::{use_step, use_time};
use crate::domain::{
    Confirmation, Expiry, GrantId, ScopeCatalogue, ScopeMask, Sequence, Timestamp, TokenKey, TokenTimes,
};

/// Everything the index knows of one token.
#[derive(Clone, Copy)]
pub struct TokenRecord<'p> {
    /// Its kept identity.
    pub key: TokenKey,
    /// The number of its grant.
    pub grant: u32,
    /// Whether the token itself was revoked.
    pub revoked: bool,
    /// Its times.
    pub times: TokenTimes,
    /// Its own audience set; 0: the grant's.
    audience: u32,
    /// The run of pairs it is narrowed to; 0: not narrowed.
    narrowed: u64,
    /// How it is bound: kind and four words.
    bound: (u64, [u64; 4]),
    /// Last use, in steps; 0: none known.
    used: u16,
    /// Where it stands; not known of a token met on a walk.
    found: Option<Found<'p>>,
}

/// What a token is bound to: a [`Confirmation`] whose text stays where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bound<'p> {
    /// As [`Confirmation::Certificate`].
    Certificate([u8; 32]),
    /// As [`Confirmation::DpopKey`].
    DpopKey([u8; 32]),
    /// As [`Confirmation::Other`].
    Other(&'p str),
}

impl From<Bound<'_>> for Confirmation {
    fn from(bound: Bound<'_>) -> Self {
        match bound {
            Bound::Certificate(hash) => Self::Certificate(hash),
            Bound::DpopKey(hash) => Self::DpopKey(hash),
            Bound::Other(json) => Self::Other(json.into()),
        }
    }
}

/// What the index knows of one grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantRecord {
    /// Its number.
    pub id: GrantId,
    /// The number of its subject.
    pub subject: u32,
    /// The number of its client.
    pub client: u32,
    /// What decides whether it is alive.
    pub facts: GrantFacts,
    /// Its audience set.
    audience: u32,
    /// Its run of pairs and its flags, as they were read at once.
    run: u64,
    /// The word of a mask that belongs to the run, if it has one pair.
    mask: u64,
}

/// One pair of a grant or a narrowed token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairRecord {
    /// The place's number; `None`: wherever the subject is a member.
    pub place: Option<u32>,
    /// The scopes.
    pub scopes: ScopeMask,
    /// When it was granted.
    pub since: Sequence,
}

/// A place that is asked about: it need not have been named by any change, since access to a workspace covers projects
/// nobody has told us of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The workspace's number, if it was ever named.
    pub workspace: Option<u32>,
    /// The place's own number, if it was ever named.
    pub place: Option<u32>,
    /// Whether the place is a project.
    pub is_project: bool,
}

impl Tables {
    /// The numbers (in `texts`) of an audience set.
    pub(crate) fn audience_numbers(&self, set: u32) -> impl Iterator<Item = u32> + '_ {
        let (start, count) = self.audience_sets.row(set).map_or((0, 0), |row| unpack(row[0].load(Ordering::Relaxed)));
        (start..start.saturating_add(count))
            .map_while(|row| Some(self.audience_words.row(row)?[0].load(Ordering::Relaxed) as u32))
    }

    /// Everything about a found token. `None` if it cannot be told: its row of details is not its own, so it is gone; or it
    /// is no longer [where it was found](Found::still_there), which says nothing of where it is now.
    pub(crate) fn record<'g>(&self, key: TokenKey, found: Found<'g>, _guard: &'g Guard) -> Option<TokenRecord<'g>> {
        let record = self.record_of(key, &found.facts)?;
        if matches!(found.facts.times, SlotTimes::Details(_)) && !found.still_there() {
            return None;
        }
        Some(TokenRecord { found: Some(found), ..record })
    }

    /// Everything about a token whose slot was read.
    fn record_of<'g>(&self, key: TokenKey, facts: &SlotFacts) -> Option<TokenRecord<'g>> {
        let (times, audience, narrowed, bound) = match facts.times {
            SlotTimes::Here(times) => (times, 0, 0, (binding::NONE, [0; 4])),
            SlotTimes::Details(row) => {
                let row = self.details.row(row)?;
                let word = |i: usize| row[i].load(Ordering::Acquire);
                let (expiry, issued) = unpack(word(0));
                let (not_before, audience) = unpack(word(1));
                let narrowed = word(2);
                let bound = (narrowed & run::OWNER, [word(3), word(4), word(5), word(6)]);
                if word(7) != first_half(key) {
                    return None;
                }
                let times = TokenTimes {
                    issued: Timestamp::from_raw(issued),
                    not_before: Timestamp::from_raw(not_before),
                    expiry: Expiry::from_raw(expiry),
                };
                (times, audience, narrowed & !run::OWNER, bound)
            }
        };
        let (grant, revoked, used) = (facts.grant, facts.revoked, facts.used);
        Some(TokenRecord { key, grant, revoked, times, audience, narrowed, bound, used, found: None })
    }

    /// When the token of a row of details ends; `None` if the row is another token's.
    pub(crate) fn details_end(&self, row: u32, key: TokenKey) -> Option<Expiry> {
        let row = self.details.row(row)?;
        let (expiry, _) = unpack(row[0].load(Ordering::Acquire));
        (row[7].load(Ordering::Acquire) == first_half(key)).then_some(Expiry::from_raw(expiry))
    }

    pub(crate) fn grant_record(&self, number: u32) -> Option<GrantRecord> {
        let id = GrantId::new(number)?;
        let row = self.grants.row(number - 1)?;
        let word = |i: usize| row[i].load(Ordering::Acquire);
        let (subject, client) = unpack(word(0));
        let made = word(1);
        let run = word(2);
        // After the run, see `facts::run`.
        let mask = word(3);
        let terms = match run & granted::TERMS {
            0 => NO_TERMS,
            _ => self.grant_terms.row(number - 1)?[0].load(Ordering::Acquire),
        };
        let (expiry, issued_before) = unpack(terms);
        let facts = GrantFacts {
            made: Sequence(made >> 24),
            expiry: Expiry::from_raw(expiry),
            revoked: run & granted::REVOKED != 0,
            issued_before: Timestamp::from_raw(issued_before),
        };
        Some(GrantRecord { id, subject, client, facts, audience: (made & 0xff_ffff) as u32, run, mask })
    }

    /// The pairs of a grant's row: place number (or [`EVERYWHERE`]), scopes, since when.
    pub(crate) fn pairs_of<'t>(
        &'t self,
        row: &[AtomicU64; GRANT_WORDS],
    ) -> impl Iterator<Item = (u32, ScopeMask, Sequence)> + use<'t> {
        let made = Sequence(row[1].load(Ordering::Acquire) >> 24);
        let run = row[2].load(Ordering::Acquire);
        self.pairs_in(run, row[3].load(Ordering::Acquire), made)
    }

    /// The pairs of a run. A run that leads nowhere (which only a damaged snapshot could bring) ends early.
    fn pairs_in(
        &self,
        run: u64,
        mask: u64,
        made: Sequence,
    ) -> impl Iterator<Item = (u32, ScopeMask, Sequence)> + use<'_> {
        let (mut at, number) = ((run >> 32) as u32, (run >> 16) as u32 & 0xffff);
        // One pair in the run itself, or so many in `access`.
        let (mut one, mut left) = match run & run::ONE {
            0 => (None, number),
            _ => (Some((at, one_mask(number, mask), made)), 0),
        };
        let mut words: &[AtomicU64] = &[];
        let mut next = move || {
            if words.is_empty() {
                words = self.access.words_from(at);
            }
            let (word, rest) = words.split_first()?;
            words = rest;
            at += 1;
            Some(word.load(Ordering::Acquire))
        };
        std::iter::from_fn(move || {
            if let Some(pair) = one.take() {
                return Some(pair);
            }
            left = left.checked_sub(1)?;
            let (place, form) = unpack(next()?);
            let since = if form & pair::DATED == 0 { made } else { Sequence(next()?) };
            let mut words = [0; 4];
            for (i, word) in words.iter_mut().enumerate() {
                if form >> i & 1 == 1 {
                    *word = next()?;
                }
            }
            Some((place, ScopeMask::from_words(words, form & pair::WILDCARD != 0), since))
        })
    }

    /// The place number of the workspace a place is, or lies in.
    pub(crate) fn workspace_of(&self, place: u32) -> Option<u32> {
        Some(unpack(self.places.row(place)?[0].load(Ordering::Acquire)).0)
    }

    /// Whether access to the first place is access to the second.
    pub(crate) fn covers(&self, outer: u32, inner: u32) -> bool {
        outer == EVERYWHERE || outer == inner || (inner != EVERYWHERE && self.workspace_of(inner) == Some(outer))
    }

    /// Whether nothing can come of a grant any more.
    pub(crate) fn grant_is_void(&self, number: u32, guard: &Guard) -> bool {
        let grant = self.grant_record(number);
        let standing = grant.and_then(|grant| self.grant_standing(&grant, guard));
        standing.is_none_or(|standing| standing.unrevoked().is_err())
    }

    fn grant_standing(&self, grant: &GrantRecord, guard: &Guard) -> Option<GrantStanding> {
        let (subject, flags) = self.subject(grant.subject)?;
        let (client, _) = Self::party(self.clients.row(grant.client)?);
        let subject_client_void_before = self.mark(flags, grant.subject, grant.client, guard);
        Some(GrantStanding { grant: grant.facts, subject, client, subject_client_void_before })
    }

    fn mark(&self, subject_flags: u32, subject: u32, client: u32, guard: &Guard) -> Sequence {
        if subject_flags & party::HAS_MARKS == 0 {
            return Sequence::ZERO;
        }
        let row = self.marks.row(super::facts::pack(subject, client), guard);
        row.map_or(Sequence::ZERO, |row| Sequence(row[1].load(Ordering::Acquire)))
    }
}

/// The mask of a pair of this form that has one word at most.
fn one_mask(form: u32, word: u64) -> ScopeMask {
    let words = std::array::from_fn(|i| if form >> i & 1 == 1 { word } else { 0 });
    ScopeMask::from_words(words, form & pair::WILDCARD != 0)
}

impl Spot {
    /// What a pair names, seen from here; `None`: it does not cover this place.
    pub fn covered_by(&self, pair: &PairRecord) -> Option<Covers> {
        match pair.place {
            None => Some(Covers::Everywhere),
            at if at == self.workspace => Some(Covers::Workspace),
            at if at == self.place => Some(Covers::Project),
            Some(_) => None,
        }
    }
}

impl TokenRecord<'_> {
    /// How the token is bound.
    pub fn bound<'t>(&self, pin: &Pin<'t>) -> Option<Bound<'t>> {
        let (kind, words) = self.bound;
        let hash = || {
            let mut hash = [0; 32];
            for (chunk, word) in hash.chunks_exact_mut(8).zip(words) {
                chunk.copy_from_slice(&word.to_le_bytes());
            }
            hash
        };
        match kind {
            binding::CERTIFICATE => Some(Bound::Certificate(hash())),
            binding::DPOP => Some(Bound::DpopKey(hash())),
            binding::OTHER => {
                let text = u32::try_from(words[0]).ok().and_then(|number| pin.tables().texts.text(number));
                Some(Bound::Other(text.unwrap_or("{}")))
            }
            _ => None,
        }
    }

    /// Whether the token names resource servers of its own.
    pub fn has_own_audience(&self) -> bool {
        self.audience != 0
    }

    /// Whether the token is bound to anything.
    pub fn is_bound(&self) -> bool {
        self.bound.0 != binding::NONE
    }

    /// Writes down that the token was found active now; at most one store in 1,024 seconds.
    pub fn mark_used(&self, now: Timestamp) {
        if let Some(found) = &self.found {
            found.mark_used(use_step(now));
        }
    }

    /// When it was last found active; at most 1,024 seconds before the truth, and not before it was issued.
    pub fn last_used(&self, now: Timestamp) -> Option<Timestamp> {
        use_time(self.used, now).map(|used| used.max(self.times.issued.min(now)))
    }

    /// Whether it was revoked before anybody registered it.
    pub fn is_only_revoked(&self) -> bool {
        self.grant == NO_GRANT
    }

    /// What the token's own list gives at a place, if it was narrowed; `None`: it was not, and gives what its grant does.
    pub fn narrowed_at(&self, pin: &Pin<'_>, spot: Spot) -> Option<ScopeMask> {
        self.narrowed_pairs(pin).map(|pairs| {
            pairs
                .filter(|pair| spot.covered_by(pair).is_some())
                .fold(ScopeMask::EMPTY, |scopes, pair| scopes.union(pair.scopes))
        })
    }

    /// The pairs the token is narrowed to, if it is.
    pub fn narrowed_pairs<'t>(&self, pin: &'t Pin<'_>) -> Option<impl Iterator<Item = PairRecord> + use<'t>> {
        let run = self.narrowed;
        (run != 0).then(|| pin.tables().pairs_in(run, 0, Sequence::ZERO).map(pair_record))
    }
}

fn pair_record((place, scopes, since): (u32, ScopeMask, Sequence)) -> PairRecord {
    PairRecord { place: (place != EVERYWHERE).then_some(place), scopes, since }
}

impl<'i> Pin<'i> {
    pub(crate) fn tables(&self) -> &'i Tables {
        &self.index.tables
    }

    /// The last change whose effects are all visible. Read it *before* the facts: an answer is then never older than
    /// the sequence it carries.
    pub fn applied(&self) -> Sequence {
        Sequence(self.tables().applied.load(Ordering::Acquire))
    }

    /// Whether at most one change became visible since `applied` was read. If so, what was read in between is the state
    /// before or after that one change, never a mixture of several.
    pub fn undisturbed_since(&self, applied: Sequence) -> bool {
        fence(Ordering::Acquire);
        self.tables().applying.load(Ordering::Relaxed) <= applied.0 + 1
    }

    /// The token with this key.
    pub fn token(&self, key: TokenKey) -> Option<TokenRecord<'_>> {
        loop {
            let found = self.tables().tokens.find(&key, &self.guard)?;
            match self.tables().record(key, found, &self.guard) {
                // While its row of details was read, it moved to its other bucket, or another token came into the one it is
                // in: to be looked for again. The writer has gone on meanwhile, so readers stay lock-free.
                None if !found.still_there() => {}
                told => return told,
            }
        }
    }

    /// Every token in the index, each once, in no order. Walks everything: for lists, not for questions.
    pub fn for_each_token(&self, mut visit: impl FnMut(TokenRecord<'_>)) {
        let tables = self.tables();
        let mut segment_tokens = Vec::new();
        for segment in 0..super::tokens::SEGMENTS {
            // Copied first, so that a token that moves meanwhile is neither missed nor met twice.
            tables.tokens.copy(segment, &self.guard, &mut segment_tokens);
            for (key, facts) in segment_tokens.drain(..) {
                tables.record_of(key, &facts).into_iter().for_each(&mut visit);
            }
        }
    }

    /// The grant with this number.
    pub fn grant(&self, number: u32) -> Option<GrantRecord> {
        self.tables().grant_record(number)
    }

    /// How many grants there are; their numbers are 1 to this.
    pub fn grants(&self) -> u32 {
        self.tables().grants.len()
    }

    /// How many tokens there are, revoked and not yet swept ones included.
    pub fn tokens(&self) -> u64 {
        self.tables().tokens.len()
    }

    /// Bytes in use by the index.
    pub fn bytes(&self) -> u64 {
        self.tables().bytes(&self.guard)
    }

    /// The pairs of a grant.
    pub fn pairs(&self, grant: &GrantRecord) -> impl Iterator<Item = PairRecord> + use<'i> {
        self.tables().pairs_in(grant.run, grant.mask, grant.facts.made).map(pair_record)
    }

    /// The audience of a token: its own, or its grant's.
    pub fn audience(
        &self,
        token: Option<&TokenRecord<'_>>,
        grant: &GrantRecord,
    ) -> impl Iterator<Item = &'i str> + use<'i> {
        let set = token.map(|token| token.audience).filter(|set| *set != 0).unwrap_or(grant.audience);
        let tables = self.tables();
        tables.audience_numbers(set).filter_map(|number| tables.texts.text(number))
    }

    /// Everything that decides whether a token is active. `None`: its grant is not there, so it is not.
    pub fn token_facts(&self, token: &TokenRecord<'_>, grant: &GrantRecord) -> Option<TokenFacts> {
        let GrantStanding { grant, subject, client, subject_client_void_before } = self.grant_standing(grant)?;
        let all_issued_before = self.tables().all_issued_before.load(Ordering::Acquire);
        Some(TokenFacts {
            times: token.times,
            revoked: token.revoked,
            grant,
            subject,
            client,
            subject_client_void_before,
            all_issued_before: Timestamp::from_raw(all_issued_before),
        })
    }

    /// A grant, and what is known of those it stands between. `None`: they are not there, so nothing comes of it.
    pub fn grant_standing(&self, grant: &GrantRecord) -> Option<GrantStanding> {
        self.tables().grant_standing(grant, &self.guard)
    }

    /// Everything that decides what a grant's pairs are worth at a place. A place nobody ever named is one where nobody
    /// is a member and no policy was set.
    pub fn place_facts(&self, grant: &GrantRecord, spot: Spot) -> PlaceFacts {
        let tables = self.tables();
        let member = |place: Option<u32>| {
            place.map_or(MemberFacts::NEVER, |place| tables.member(grant.subject, place, &self.guard))
        };
        PlaceFacts {
            workspace: member(spot.workspace),
            project: spot.is_project.then(|| member(spot.place)),
            policy: spot
                .workspace
                .map_or(PolicyFacts::NEW, |workspace| tables.policy(workspace, grant.client, &self.guard)),
            client: self.client_kind(grant.client),
        }
    }

    /// The place with this written form, whether any change named it or not. A text that cannot be a place is one where
    /// nobody has anything.
    pub fn spot(&self, place: &str) -> Spot {
        if !crate::domain::place::is_place(place) {
            return Spot { workspace: None, place: None, is_project: false };
        }
        let workspace = place.split_once('/').map(|(workspace, _)| workspace);
        Spot {
            workspace: self.place_number(workspace.unwrap_or(place)),
            place: self.place_number(place),
            is_project: workspace.is_some(),
        }
    }

    /// The place with this number; `None` if no place has it.
    pub fn spot_of(&self, place: u32) -> Option<Spot> {
        let workspace = self.tables().workspace_of(place)?;
        Some(Spot { workspace: Some(workspace), place: Some(place), is_project: workspace != place })
    }

    fn client_kind(&self, client: u32) -> ClientKind {
        match self.tables().client_names.text(client) {
            Some(PERSONAL) => ClientKind::Personal,
            _ => ClientKind::App,
        }
    }

    /// The places a subject was ever a member of, with what became of it; the latest first.
    pub fn memberships(&self, subject: u32) -> impl Iterator<Item = (u32, MemberFacts)> + use<'_, 'i> {
        let (tables, guard) = (self.tables(), &self.guard);
        let first = tables.subjects.row(subject).map_or(0, |row| unpack(row[2].load(Ordering::Acquire)).1);
        let mut next = first;
        std::iter::from_fn(move || {
            let row = tables.members.rows.row(next.checked_sub(1)?)?;
            next = row[3].load(Ordering::Acquire) as u32;
            let (_, place) = unpack(row[0].load(Ordering::Relaxed));
            let mut member = Tables::member_row(row);
            // Leaving the workspace ended the memberships of its projects, without a word in their rows.
            let around = tables.workspace_of(place).filter(|around| *around != place);
            let left = around.map_or(Sequence::ZERO, |around| tables.member(subject, around, guard).removed);
            member.live = member.live && member.added > left;
            Some((place, member))
        })
    }

    /// The grants of a subject, the latest first.
    pub fn grants_of_subject(&self, subject: u32) -> impl Iterator<Item = GrantRecord> + use<'i> {
        let first = self.tables().subjects.row(subject).map_or(0, |row| unpack(row[2].load(Ordering::Acquire)).0);
        self.grant_chain(first, |(of_subject, _)| of_subject)
    }

    /// The grants of a client, the latest first.
    pub fn grants_of_client(&self, client: u32) -> impl Iterator<Item = GrantRecord> + use<'i> {
        let first = self.tables().clients.row(client).map_or(0, |row| unpack(row[2].load(Ordering::Acquire)).0);
        self.grant_chain(first, |(_, of_client)| of_client)
    }

    fn grant_chain(&self, first: u32, link: fn((u32, u32)) -> u32) -> impl Iterator<Item = GrantRecord> + use<'i> {
        let tables = self.tables();
        let mut next = first;
        std::iter::from_fn(move || {
            let number = next;
            next = link(unpack(tables.grant_links.row(number.checked_sub(1)?)?[0].load(Ordering::Acquire)));
            tables.grant_record(number)
        })
    }

    /// The subject's or client's facts by number.
    pub fn client_facts(&self, client: u32) -> Option<(PartyFacts, bool)> {
        let (facts, flags) = Tables::party(self.tables().clients.row(client)?);
        Some((facts, flags & party::REGISTERED != 0))
    }

    /// A subject's facts by number.
    pub fn subject_facts(&self, subject: u32) -> Option<PartyFacts> {
        Some(self.tables().subject(subject)?.0)
    }

    /// How many subject numbers there are.
    pub fn subjects(&self) -> u32 {
        self.tables().subjects.len()
    }

    /// How many place numbers there are.
    pub fn places(&self) -> u32 {
        self.tables().places.len()
    }

    /// How many client numbers there are.
    pub fn clients(&self) -> u32 {
        self.tables().clients.len()
    }

    /// A workspace's policy for a client that stands on no list.
    pub fn policy(&self, workspace: u32, client: u32) -> PolicyFacts {
        self.tables().policy(workspace, client, &self.guard)
    }

    /// Policy lines of a workspace: client number, blocked, approved. Walks all lines of all workspaces.
    pub fn policy_lines(&self, workspace: u32) -> impl Iterator<Item = (u32, bool, bool)> + use<'i> {
        let tables = self.tables();
        (0..tables.entries.rows.len()).filter_map(move |row| {
            let row = tables.entries.rows.row(row)?;
            let (place, client) = unpack(row[0].load(Ordering::Relaxed));
            let lists = row[1].load(Ordering::Acquire);
            (place == workspace).then_some((
                client,
                lists & super::facts::entry::BLOCKED != 0,
                lists & super::facts::entry::APPROVED != 0,
            ))
        })
    }

    /// The number of a subject.
    pub fn subject_number(&self, subject: &str) -> Option<u32> {
        self.tables().subject_names.find(subject, &self.guard)
    }

    /// The number of a client.
    pub fn client_number(&self, client: &str) -> Option<u32> {
        self.tables().client_names.find(client, &self.guard)
    }

    /// The number of a place. `None`: no change ever named it.
    pub fn place_number(&self, place: &str) -> Option<u32> {
        let number = self.tables().place_names.find(place, &self.guard)?;
        (number < self.tables().places.len()).then_some(number)
    }

    /// A subject by number.
    pub fn subject_text(&self, subject: u32) -> &'i str {
        self.tables().subject_names.text(subject).unwrap_or("?")
    }

    /// A client by number.
    pub fn client_text(&self, client: u32) -> &'i str {
        self.tables().client_names.text(client).unwrap_or("?")
    }

    /// A place by number.
    pub fn place_text(&self, place: u32) -> &'i str {
        self.tables().place_names.text(place).unwrap_or("?")
    }

    /// The place number of the workspace a place is, or lies in.
    pub fn workspace_of(&self, place: u32) -> Option<u32> {
        self.tables().workspace_of(place)
    }

    /// Whether a place is a project.
    pub fn is_project(&self, place: u32) -> bool {
        self.tables().workspace_of(place).is_some_and(|workspace| workspace != place)
    }

    /// The scope catalogue as it is now.
    pub fn catalogue(&self) -> &ScopeCatalogue {
        self.tables().catalogue(&self.guard)
    }
}

impl Index {
    /// The right to look into the index for a moment. It keeps replaced memory from being freed, so it should be short;
    /// it holds up nobody else.
    pub fn pin(&self) -> Pin<'_> {
        Pin { index: self, guard: crossbeam_epoch::pin() }
    }
}
