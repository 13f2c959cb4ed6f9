//! The one writer: whether a change can be made, and what it does to the tables.
//!
//! [`Writer::admit`] looks, [`Writer::apply`] does. Between the two the change becomes durable; so what was admitted
//! must always be appliable, and applying the same list gives the same tables, numbers included.
//!
//! Applying a change a second time is allowed (a snapshot may contain more than the revision it was begun at): after
//! the whole rest of the list has been applied again, in order, the tables are what they were. Marks only grow, rows
//! that exist are not made again, and everything else is an overwrite that the rest of the list overwrites in turn.

mod access;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use crossbeam_epoch::{Guard, Owned};

use super::facts::{
    AUDIENCE_SETS_MAX, EVERYWHERE, GRANT_WORDS, IMPORT_MARKS_MAX, MADE_MAX, NO_TERMS, Tables, binding, entry as line,
    grant as granted, pack, party, place as spot, unpack,
};
use super::tokens::{SEGMENTS, SlotFacts, SlotTimes};
use crate::domain::scope::ScopeError;
use crate::domain::{
    Access, Among, Audience, Change, ClientId, Confirmation, Entry, Expiry, GrantId, NewGrant, NewToken, Place,
    PolicyEntry, PolicyMode, Reach, ScopeCatalogue, ScopeMask, Sequence, SubjectId, Switch, Target, Timestamp,
    TokenKey,
};

/// How long a token is remembered after its end, in seconds: as long as a late or repeated "issued" may still arrive.
pub const REMEMBERED_SECONDS: u32 = 3_600;
/// How long the revocation of a token that is not known is remembered, in seconds: its "issued" may be late.
pub const UNKNOWN_REMEMBERED_SECONDS: u32 = 86_400;
/// The grant number of a token that was revoked before it was known.
pub(crate) const NO_GRANT: u32 = GrantId::MAX;

/// Why a change cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// It cannot be meant.
    #[error("{0}")]
    Invalid(String),
    /// It names something that does not exist.
    #[error("{0}")]
    NotFound(String),
    /// It contradicts what is there.
    #[error("{0}")]
    Conflict(String),
    /// A table is full.
    #[error("{0}")]
    Full(String),
}

/// What [`Writer::admit`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// The change can be made.
    New,
    /// The very same token is registered already: done, nothing to write.
    Already,
}

/// The one writer of an index. There is never a second one: it is not `Clone`, and [`super::new`] makes one.
pub struct Writer {
    tables: Arc<Tables>,
    audience_sets: HashMap<Vec<u32>, u32>,
    /// Rows of `details` whose token was swept.
    free_details: Vec<u32>,
    /// The segment that is swept next.
    sweep_at: usize,
}

impl Writer {
    pub(crate) fn new(tables: Arc<Tables>) -> Self {
        let mut writer = Self { tables, audience_sets: HashMap::new(), free_details: Vec::new(), sweep_at: 0 };
        writer.client(&ClientId::personal(), &crossbeam_epoch::pin());
        writer
    }

    /// Takes over what a snapshot loaded into the tables: the writer's own maps are rebuilt from them.
    pub(crate) fn adopt(&mut self, free_details: Vec<u32>) {
        let tables = &self.tables;
        self.audience_sets =
            (0..tables.audience_sets.len()).map(|set| (tables.audience_numbers(set).collect(), set)).collect();
        self.free_details = free_details;
    }

    /// The last change that was applied.
    pub fn applied(&self) -> Sequence {
        Sequence(self.tables.applied.load(Ordering::Relaxed))
    }

    /// Says that everything up to `sequence` is in the tables: for a snapshot, whose last change this is.
    pub(crate) fn start_at(&self, sequence: Sequence) {
        self.tables.applying.store(sequence.0, Ordering::Relaxed);
        self.tables.applied.store(sequence.0, Ordering::Release);
    }

    /// The number the next grant gets.
    pub fn next_grant(&self) -> Option<GrantId> {
        GrantId::new(self.tables.grants.len() + 1).filter(|id| id.number() < NO_GRANT)
    }

    /// The last import mark of a source: lines, first grant, grants. Of the 64 latest sources.
    pub fn import_mark(&self, source: &[u8; 32]) -> Option<(u64, u32, u32)> {
        let marks = self.tables.imports.lock().ok()?;
        marks
            .iter()
            .find(|(of, ..)| of == source)
            .map(|(_, lines, first_grant, grants)| (*lines, *first_grant, *grants))
    }

    /// Whether a change can be made now, at `at`. Changes nothing.
    ///
    /// # Errors
    /// Why not, in words for whoever asked.
    pub fn admit(&self, change: &Change, at: Timestamp) -> Result<Admitted, Reject> {
        let guard = &crossbeam_epoch::pin();
        match change {
            Change::RegisterClient(_)
            | Change::SwitchSubject(..)
            | Change::AddMember(..)
            | Change::RemoveMember(..)
            | Change::SetPolicyMode(..)
            | Change::SwitchPersonal(..)
            | Change::ImportMark { .. } => {}
            Change::SwitchClient(client, _) => {
                if *client == ClientId::personal() {
                    let instead =
                        "personal tokens are kept out by a workspace's policy, not by suspending them everywhere";
                    return Err(Reject::Invalid(instead.into()));
                }
                self.known_client(client, guard)?;
            }
            Change::AddScope(name) => self.with_catalogue(guard, |catalogue| catalogue.add(name).map(drop))?,
            Change::AliasScope(alias, of) => self.with_catalogue(guard, |catalogue| catalogue.alias(alias, of))?,
            Change::RetireScope(name) => self.with_catalogue(guard, |catalogue| catalogue.retire(name))?,
            Change::SetPolicyEntry(_, client, _) => {
                if *client == ClientId::personal() {
                    let instead = "personal tokens stand on no list; switch them with the policy's own switch";
                    return Err(Reject::Invalid(instead.into()));
                }
                self.known_client(client, guard)?;
            }
            Change::MakeGrant(new) => self.admit_grant(new, guard)?,
            Change::NarrowGrant(id, _) | Change::ExtendGrant(id, _) => self.live_grant(*id, guard)?,
            Change::RegisterToken(new) => return self.admit_token(new, at, guard),
            Change::Revoke(target) => self.admit_revocation(target, guard)?,
        }
        Ok(Admitted::New)
    }

    fn with_catalogue(
        &self,
        guard: &Guard,
        try_it: impl FnOnce(&mut ScopeCatalogue) -> Result<(), ScopeError>,
    ) -> Result<(), Reject> {
        let mut copy = self.tables.catalogue(guard).clone();
        try_it(&mut copy).map_err(|error| match error {
            ScopeError::BadName { .. } => Reject::Invalid(error.to_string()),
            ScopeError::Unknown { .. } => Reject::NotFound(error.to_string()),
            ScopeError::Full => Reject::Full(error.to_string()),
            ScopeError::AlreadyTaken { .. } => Reject::Conflict(error.to_string()),
        })
    }

    fn known_client(&self, client: &ClientId, guard: &Guard) -> Result<u32, Reject> {
        let number = self.tables.client_names.find(client.as_str(), guard);
        let known = number.filter(|number| {
            let row = self.tables.clients.row(*number);
            row.is_some_and(|row| Tables::party(row).1 & party::REGISTERED != 0)
        });
        known.ok_or_else(|| Reject::NotFound(format!("no client {client} is registered; register it first")))
    }

    fn known_subject(&self, subject: &SubjectId, guard: &Guard) -> Result<u32, Reject> {
        let number = self.tables.subject_names.find(subject.as_str(), guard);
        number.ok_or_else(|| Reject::NotFound(format!("no change ever named a subject {subject}")))
    }

    fn known_grant(&self, id: GrantId) -> Result<&[AtomicU64; GRANT_WORDS], Reject> {
        let row = self.tables.grants.row(id.number() - 1);
        row.ok_or_else(|| Reject::NotFound(format!("there is no grant {id}")))
    }

    fn live_grant(&self, id: GrantId, guard: &Guard) -> Result<(), Reject> {
        self.known_grant(id)?;
        match self.tables.grant_is_void(id.number(), guard) {
            false => Ok(()),
            true => Err(Reject::Conflict(format!("grant {id} is revoked; make a new one"))),
        }
    }

    fn admit_grant(&self, new: &NewGrant, guard: &Guard) -> Result<(), Reject> {
        self.known_client(&new.client, guard)?;
        if new.audience.is_empty() {
            return Err(Reject::Invalid(
                "a grant needs at least one audience: the resource servers its tokens are for".into(),
            ));
        }
        if self.next_grant().is_none() {
            return Err(Reject::Full(format!("there are {} grants; no more fit", NO_GRANT - 1)));
        }
        self.room_for_audience()
    }

    fn room_for_audience(&self) -> Result<(), Reject> {
        if self.tables.audience_sets.len() > AUDIENCE_SETS_MAX {
            return Err(Reject::Full(format!("{AUDIENCE_SETS_MAX} different audience lists are in use; no more fit")));
        }
        Ok(())
    }

    fn admit_token(&self, new: &NewToken, at: Timestamp, guard: &Guard) -> Result<Admitted, Reject> {
        self.live_grant(new.grant, guard)?;
        if let Expiry::At(end) = new.times.expiry
            && end <= new.times.issued
        {
            return Err(Reject::Invalid("the token ends before it begins: exp must be after iat".into()));
        }
        if new.audience.as_ref().is_some_and(Vec::is_empty) {
            return Err(Reject::Invalid(
                "an audience list of a token must not be empty; leave it out for the grant's".into(),
            ));
        }
        self.room_for_audience()?;
        let Some(found) = self.tables.tokens.find(&new.key, guard) else { return Ok(Admitted::New) };
        let record = self.tables.record(new.key, found, guard);
        let Some(known) = record else { return Ok(Admitted::New) };
        if is_over(known.times.expiry, at) {
            return Ok(Admitted::New);
        }
        if known.revoked {
            return Err(Reject::Conflict("a token with this digest was revoked; it cannot be registered again".into()));
        }
        if known.grant == new.grant.number() && known.times == new.times {
            return Ok(Admitted::Already);
        }
        Err(Reject::Conflict("a token with this digest is registered already, with other terms".into()))
    }

    fn admit_revocation(&self, target: &Target, guard: &Guard) -> Result<(), Reject> {
        match target {
            Target::Token(_) | Target::IssuedBefore(_, Among::All) => Ok(()),
            Target::Grant(id) | Target::IssuedBefore(_, Among::Grant(id)) => self.known_grant(*id).map(drop),
            Target::SubjectClient(subject, client) => {
                self.known_subject(subject, guard)?;
                self.known_client(client, guard).map(drop)
            }
            Target::Subject(subject) | Target::IssuedBefore(_, Among::Subject(subject)) => {
                self.known_subject(subject, guard).map(drop)
            }
            Target::Client(client)
            | Target::WorkspaceClient(_, client)
            | Target::IssuedBefore(_, Among::Client(client)) => self.known_client(client, guard).map(drop),
        }
    }

    /// Does what an entry says. Everything it does is visible to readers when this returns, and nothing of it could be
    /// refused: it was admitted.
    ///
    /// # Panics
    /// If the entry does not fit the tables at all (a grant number from the future): the list is not the one these
    /// tables were made from.
    pub fn apply(&mut self, entry: &Entry) {
        let tables = Arc::clone(&self.tables);
        let ahead = entry.sequence.0.max(tables.applied.load(Ordering::Relaxed));
        tables.applying.store(ahead, Ordering::Relaxed);
        // Whoever sees a store below also sees `applying`.
        fence(Ordering::Release);
        self.perform(entry);
        tables.applied.store(ahead, Ordering::Release);
    }

    fn perform(&mut self, entry: &Entry) {
        let guard = &crossbeam_epoch::pin();
        let Entry { sequence, at, change, .. } = entry;
        match change {
            Change::RegisterClient(client) => self.switch_client(client, None, guard),
            Change::SwitchClient(client, switch) => self.switch_client(client, Some(*switch), guard),
            Change::SwitchSubject(subject, switch) => {
                let number = self.subject(subject, guard);
                if let Some(row) = self.tables.subjects.row(number) {
                    set_flag(&row[0], party::OFF, *switch == Switch::Off);
                    self.tables.mark_unusual(number);
                }
            }
            Change::AddScope(name) => self.change_catalogue(guard, |catalogue| catalogue.add(name).map(drop)),
            Change::AliasScope(alias, of) => self.change_catalogue(guard, |catalogue| catalogue.alias(alias, of)),
            Change::RetireScope(name) => self.change_catalogue(guard, |catalogue| catalogue.retire(name)),
            Change::AddMember(subject, place) => self.add_member(subject, place, *sequence, guard),
            Change::RemoveMember(subject, place) => self.remove_member(subject, place, *sequence, guard),
            Change::SetPolicyMode(workspace, mode) => {
                let place = self.place(&Place::workspace(workspace), guard);
                self.flag_place(place, spot::APPROVAL, *mode == PolicyMode::ApprovalRequired);
            }
            Change::SwitchPersonal(workspace, switch) => {
                let place = self.place(&Place::workspace(workspace), guard);
                self.flag_place(place, spot::NO_PERSONAL, *switch == Switch::Off);
            }
            Change::SetPolicyEntry(workspace, client, what) => {
                let row = self.policy_line(&Place::workspace(workspace), client, guard);
                let (bit, on) = match what {
                    PolicyEntry::Block => (line::BLOCKED, true),
                    PolicyEntry::Unblock => (line::BLOCKED, false),
                    PolicyEntry::Approve => (line::APPROVED, true),
                    PolicyEntry::Unapprove => (line::APPROVED, false),
                };
                if let Some(row) = self.tables.entries.rows.row(row) {
                    let lists = row[1].load(Ordering::Relaxed);
                    row[1].store(if on { lists | bit } else { lists & !bit }, Ordering::Release);
                }
            }
            Change::MakeGrant(new) => self.make_grant(new, *sequence, guard),
            Change::NarrowGrant(id, access) => self.narrow_grant(*id, access, guard),
            Change::ExtendGrant(id, access) => self.extend_grant(*id, access, *sequence, guard),
            Change::RegisterToken(new) => self.register_token(new, *at, guard),
            Change::Revoke(target) => self.revoke(target, *sequence, *at, guard),
            Change::ImportMark { source, lines, first_grant, grants } => {
                if let Ok(mut marks) = self.tables.imports.lock() {
                    marks.retain(|(of, ..)| of != source);
                    if marks.len() == IMPORT_MARKS_MAX {
                        marks.remove(0);
                    }
                    marks.push((*source, *lines, *first_grant, *grants));
                }
            }
        }
    }

    fn change_catalogue(&mut self, guard: &Guard, change: impl FnOnce(&mut ScopeCatalogue) -> Result<(), ScopeError>) {
        let mut next = self.tables.catalogue(guard).clone();
        // A second application may be refused (an alias that exists, a retired name): then nothing is left to do.
        if change(&mut next).is_err() {
            return;
        }
        let old = self.tables.catalogue.swap(Owned::new(next), Ordering::AcqRel, guard);
        // SAFETY: unreachable for whoever pins from now on; retired exactly once, here.
        unsafe { guard.defer_destroy(old) };
    }

    fn subject(&mut self, subject: &SubjectId, guard: &Guard) -> u32 {
        let number = self.tables.subject_names.intern(subject.as_str(), guard);
        while self.tables.subjects.len() <= number {
            self.tables.push_subject([0; 3]);
        }
        number
    }

    fn client(&mut self, client: &ClientId, guard: &Guard) -> u32 {
        let number = self.tables.client_names.intern(client.as_str(), guard);
        while self.tables.clients.len() <= number {
            self.tables.clients.push([0; 3]);
        }
        if *client == ClientId::personal()
            && let Some(row) = self.tables.clients.row(number)
        {
            set_flag(&row[0], party::REGISTERED, true);
        }
        number
    }

    fn switch_client(&mut self, client: &ClientId, switch: Option<Switch>, guard: &Guard) {
        let number = self.client(client, guard);
        let Some(row) = self.tables.clients.row(number) else { return };
        match switch {
            None => set_flag(&row[0], party::REGISTERED, true),
            Some(switch) => set_flag(&row[0], party::OFF, switch == Switch::Off),
        }
    }

    fn place(&mut self, place: &Place, guard: &Guard) -> u32 {
        // The workspace first, so that a project's row can name it.
        let workspace =
            if place.is_project() { Some(self.tables.place_names.intern(place.workspace_str(), guard)) } else { None };
        if let Some(workspace) = workspace
            && self.tables.places.len() <= workspace
        {
            self.tables.places.push([pack(workspace, 0)]);
        }
        let number = self.tables.place_names.intern(place.as_str(), guard);
        if self.tables.places.len() <= number {
            self.tables.places.push([pack(workspace.unwrap_or(number), 0)]);
        }
        number
    }

    fn flag_place(&self, place: u32, flag: u32, on: bool) {
        if let Some(row) = self.tables.places.row(place) {
            set_low_flag(&row[0], flag, on);
        }
    }

    fn policy_line(&mut self, workspace: &Place, client: &ClientId, guard: &Guard) -> u32 {
        let place = self.place(workspace, guard);
        let client = self.client(client, guard);
        let pair = pack(place, client);
        let row = match self.tables.entries.find(pair, guard) {
            Some(row) => row,
            None => self.tables.entries.push([pair, 0, 0], guard),
        };
        self.flag_place(place, spot::HAS_ENTRIES, true);
        row
    }

    fn member_row(&mut self, subject: &SubjectId, place: &Place, guard: &Guard) -> u32 {
        let subject = self.subject(subject, guard);
        let place = self.place(place, guard);
        let pair = pack(subject, place);
        if let Some(row) = self.tables.members.find(pair, guard) {
            return row;
        }
        let Some(party) = self.tables.subjects.row(subject) else {
            unreachable!("a subject's row is made with its name")
        };
        let (first_grant, first_member) = unpack(party[2].load(Ordering::Relaxed));
        let row = self.tables.members.push([pair, 0, 0, u64::from(first_member)], guard);
        party[2].store(pack(first_grant, row + 1), Ordering::Release);
        row
    }

    fn add_member(&mut self, subject: &SubjectId, place: &Place, sequence: Sequence, guard: &Guard) {
        let row = self.member_row(subject, place, guard);
        let Some(row) = self.tables.members.rows.row(row) else { return };
        // A member stays the member it was: being added again says nothing new, unless the workspace was left since,
        // which had ended this membership of a project.
        let ended = match place.is_project() {
            true => {
                let workspace = self.tables.place_names.find(place.workspace_str(), guard);
                let (subject, _) = unpack(row[0].load(Ordering::Relaxed));
                workspace.map_or(0, |workspace| self.tables.member(subject, workspace, guard).removed.0)
            }
            false => 0,
        };
        let added = row[1].load(Ordering::Relaxed);
        if added & 1 == 0 || added >> 1 <= ended {
            row[1].store(sequence.0 << 1 | 1, Ordering::Release);
        }
    }

    fn remove_member(&mut self, subject: &SubjectId, place: &Place, sequence: Sequence, guard: &Guard) {
        let row = self.member_row(subject, place, guard);
        let Some(row) = self.tables.members.rows.row(row) else { return };
        // The end first, then the membership: see `Tables::member_row`.
        row[2].fetch_max(sequence.0, Ordering::Release);
        row[1].store(row[1].load(Ordering::Relaxed) & !1, Ordering::Release);
    }

    fn audience_set(&mut self, audience: &[Audience], guard: &Guard) -> u32 {
        let mut numbers: Vec<u32> = audience.iter().map(|a| self.tables.texts.intern(a.as_str(), guard)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        if let Some(set) = self.audience_sets.get(&numbers) {
            return *set;
        }
        let start = self.tables.audience_words.len();
        for number in &numbers {
            self.tables.audience_words.push([u64::from(*number)]);
        }
        let set = self.tables.audience_sets.push([pack(start, numbers.len() as u32)]);
        self.audience_sets.insert(numbers, set);
        set
    }

    fn reach(&mut self, reach: &Reach, guard: &Guard) -> u32 {
        match reach {
            Reach::At(place) => self.place(place, guard),
            Reach::Everywhere => EVERYWHERE,
        }
    }

    fn pairs(
        &mut self,
        access: &Access,
        since: Option<Sequence>,
        guard: &Guard,
    ) -> Vec<(u32, ScopeMask, Option<Sequence>)> {
        access.pairs().iter().map(|pair| (self.reach(&pair.reach, guard), pair.scopes, since)).collect()
    }

    fn make_grant(&mut self, new: &NewGrant, sequence: Sequence, guard: &Guard) {
        let subject = self.subject(&new.subject, guard);
        let client = self.client(&new.client, guard);
        let pairs = self.pairs(&new.access, None, guard);
        let audience = self.audience_set(&new.audience, guard);
        let next = self.tables.grants.len() + 1;
        if new.id.number() < next {
            return; // Applied before.
        }
        assert!(new.id.number() == next, "grant {} cannot follow grant {}", new.id, next - 1);
        assert!(sequence.0 <= MADE_MAX, "the list is longer than 2^40 changes");
        let (run, mask) = self.first_run(&pairs);
        let terms = pack(new.expiry.raw(), 0);
        let has_terms = if terms == NO_TERMS { 0 } else { granted::TERMS };
        let tables = &self.tables;
        let (Some(of_subject), Some(of_client)) = (tables.subjects.row(subject), tables.clients.row(client)) else {
            unreachable!("rows of subject and client are made with their names")
        };
        let (subject_first, members) = unpack(of_subject[2].load(Ordering::Relaxed));
        let (client_first, rest) = unpack(of_client[2].load(Ordering::Relaxed));
        // These first: whoever finds the grant finds them.
        tables.grant_terms.push([terms]);
        tables.grant_links.push([pack(subject_first, client_first)]);
        let row =
            tables.grants.push([pack(subject, client), sequence.0 << 24 | u64::from(audience), run | has_terms, mask]);
        of_subject[2].store(pack(row + 1, members), Ordering::Release);
        of_client[2].store(pack(row + 1, rest), Ordering::Release);
    }

    fn register_token(&mut self, new: &NewToken, at: Timestamp, guard: &Guard) {
        let narrowed = new.narrowed.as_ref().map(|access| self.pairs(access, None, guard));
        let audience = new.audience.as_ref().map_or(0, |audience| self.audience_set(audience, guard));
        if let Some(found) = self.tables.tokens.find(&new.key, guard) {
            let known = self.tables.record(new.key, found, guard);
            if known.is_some_and(|known| !is_over(known.times.expiry, at)) {
                return; // Applied before, or revoked before it came.
            }
            self.remove(new.key, guard);
        }
        let plain = narrowed.is_none() && audience == 0 && new.confirmation.is_none() && SlotTimes::fit(&new.times);
        let times = if plain {
            SlotTimes::Here(new.times)
        } else {
            SlotTimes::Details(self.write_details(new, narrowed.as_deref(), audience, guard))
        };
        let facts = SlotFacts { grant: new.grant.number(), revoked: false, times, used: 0 };
        self.tables.tokens.insert(&new.key, facts, guard);
    }

    fn write_details(
        &mut self,
        new: &NewToken,
        narrowed: Option<&[(u32, ScopeMask, Option<Sequence>)]>,
        audience: u32,
        guard: &Guard,
    ) -> u32 {
        let (kind, bound) = match &new.confirmation {
            None => (binding::NONE, [0; 4]),
            Some(Confirmation::Certificate(hash)) => (binding::CERTIFICATE, words_of(hash)),
            Some(Confirmation::DpopKey(hash)) => (binding::DPOP, words_of(hash)),
            Some(Confirmation::Other(text)) => {
                (binding::OTHER, [u64::from(self.tables.texts.intern(text, guard)), 0, 0, 0])
            }
        };
        // "Not narrowed" is 0, which no run of a narrowed token is: its list is never empty.
        let run = narrowed.map_or(0, |pairs| self.run(pairs));
        let [a, b, c, d] = bound;
        let times = &new.times;
        let words = [
            pack(times.expiry.raw(), times.issued.raw()),
            pack(times.not_before.raw(), audience),
            run | kind,
            a,
            b,
            c,
            d,
            first_half(new.key),
        ];
        match self.free_details.pop() {
            None => self.tables.details.push(words),
            Some(row) => {
                if let Some(slots) = self.tables.details.row(row) {
                    // Whoever still reads this row for the token it was of finds that token's slot changed, or (in a segment
                    // that was outgrown) that the row is another's. Readers go from the first word to the last, so it is
                    // written from the last, whose row it is, to the first: whoever sees any word of the new token (an
                    // acquire load of a release store) also sees the words behind it, and the slot emptied before. And
                    // whoever sees the new expiry, the first word, sees nothing of the old token at all.
                    for (slot, word) in slots.iter().zip(words).rev() {
                        slot.store(word, Ordering::Release);
                    }
                }
                row
            }
        }
    }

    fn remove(&mut self, key: TokenKey, guard: &Guard) {
        let segment = key.words()[0] as usize % SEGMENTS;
        let (tables, free) = (&self.tables, &mut self.free_details);
        let keep = |key: &TokenKey, facts: &SlotFacts| keep_details(tables, *key, facts, free);
        tables.tokens.sweep(segment, guard, |other, _| *other == key, keep);
    }

    /// Takes tokens that ended [`REMEMBERED_SECONDS`] ago out of the next `segments` segments. Not a change: they were
    /// inactive already. Returns how many were taken out.
    pub fn sweep(&mut self, segments: usize, now: Timestamp) -> usize {
        let guard = &crossbeam_epoch::pin();
        let tables = Arc::clone(&self.tables);
        let free = &mut self.free_details;
        let mut swept = 0;
        for _ in 0..segments.min(SEGMENTS) {
            let ended = |key: &TokenKey, facts: &SlotFacts| match facts.times {
                SlotTimes::Here(times) => is_over(times.expiry, now),
                SlotTimes::Details(row) => tables.details_end(row, *key).is_none_or(|expiry| is_over(expiry, now)),
            };
            swept += tables.tokens.sweep(self.sweep_at, guard, ended, |key, facts| {
                keep_details(&tables, *key, facts, free);
            });
            self.sweep_at = (self.sweep_at + 1) % SEGMENTS;
        }
        swept
    }

    fn revoke(&mut self, target: &Target, sequence: Sequence, at: Timestamp, guard: &Guard) {
        match target {
            Target::Token(key) => self.revoke_token(key, at, guard),
            Target::Grant(id) => {
                if let Some(row) = self.tables.grants.row(id.number() - 1) {
                    row[2].fetch_or(granted::REVOKED, Ordering::Release);
                }
            }
            Target::SubjectClient(subject, client) => {
                let subject = self.subject(subject, guard);
                let pair = pack(subject, self.client(client, guard));
                match self.tables.marks.row(pair, guard) {
                    Some(row) => {
                        row[1].fetch_max(sequence.0, Ordering::Release);
                    }
                    None => {
                        self.tables.marks.push([pair, sequence.0], guard);
                    }
                }
                if let Some(row) = self.tables.subjects.row(subject) {
                    set_flag(&row[0], party::HAS_MARKS, true);
                    self.tables.mark_unusual(subject);
                }
            }
            Target::Subject(subject) => {
                let number = self.subject(subject, guard);
                if let Some(row) = self.tables.subjects.row(number) {
                    row[1].fetch_max(sequence.0, Ordering::Release);
                    self.tables.mark_unusual(number);
                }
            }
            Target::Client(client) => {
                let number = self.client(client, guard);
                if let Some(row) = self.tables.clients.row(number) {
                    row[1].fetch_max(sequence.0, Ordering::Release);
                }
            }
            Target::WorkspaceClient(workspace, client) => {
                let row = self.policy_line(&Place::workspace(workspace), client, guard);
                if let Some(row) = self.tables.entries.rows.row(row) {
                    row[2].fetch_max(sequence.0, Ordering::Release);
                }
            }
            Target::IssuedBefore(moment, Among::All) => {
                self.tables.all_issued_before.fetch_max(moment.raw(), Ordering::Release);
            }
            Target::IssuedBefore(moment, Among::Subject(subject)) => {
                let number = self.subject(subject, guard);
                raise_low(self.tables.subjects.row(number).map(|row| &row[0]), *moment);
                self.tables.mark_unusual(number);
            }
            Target::IssuedBefore(moment, Among::Client(client)) => {
                let number = self.client(client, guard);
                raise_low(self.tables.clients.row(number).map(|row| &row[0]), *moment);
            }
            Target::IssuedBefore(moment, Among::Grant(id)) => {
                let number = id.number() - 1;
                raise_low(self.tables.grant_terms.row(number).map(|row| &row[0]), *moment);
                // The terms first: whoever is told to look into them finds this there.
                if let Some(row) = self.tables.grants.row(number) {
                    row[2].fetch_or(granted::TERMS, Ordering::Release);
                }
            }
        }
    }

    fn revoke_token(&mut self, key: &TokenKey, at: Timestamp, guard: &Guard) {
        if self.tables.tokens.revoke(key, guard) {
            return;
        }
        // Not known yet: its registration may be late, and must then find it revoked.
        let end = at.plus(UNKNOWN_REMEMBERED_SECONDS - REMEMBERED_SECONDS);
        let times = crate::domain::TokenTimes { issued: at, not_before: at, expiry: Expiry::At(end) };
        let facts = SlotFacts { grant: NO_GRANT, revoked: true, times: SlotTimes::Here(times), used: 0 };
        self.tables.tokens.insert(key, facts, guard);
    }
}

/// Whether a token that ends so is past the time it is remembered.
pub(crate) fn is_over(expiry: Expiry, now: Timestamp) -> bool {
    expiry.has_passed(now.minus(REMEMBERED_SECONDS))
}

/// The half of a key that a row of `details` repeats, to tell whose row it is.
pub(crate) fn first_half(key: TokenKey) -> u64 {
    let [a, b, ..] = key.words();
    pack(a, b)
}

/// Keeps the row of a token that is gone for another. Only a row that is the token's own: in tables that came from a
/// snapshot two slots may name one row, of which only one is right.
fn keep_details(tables: &Tables, key: TokenKey, facts: &SlotFacts, free: &mut Vec<u32>) {
    if let SlotTimes::Details(row) = facts.times
        && tables.details_end(row, key).is_some()
    {
        free.push(row);
    }
}

fn words_of(hash: &[u8; 32]) -> [u64; 4] {
    std::array::from_fn(|i| hash[i * 8..i * 8 + 8].iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)))
}

/// Sets or clears a flag in the upper half of a party's first word.
fn set_flag(word: &AtomicU64, flag: u32, on: bool) {
    let (flags, low) = unpack(word.load(Ordering::Relaxed));
    word.store(pack(if on { flags | flag } else { flags & !flag }, low), Ordering::Release);
}

/// Sets or clears a flag in the lower half of a place's word.
fn set_low_flag(word: &AtomicU64, flag: u32, on: bool) {
    let (high, flags) = unpack(word.load(Ordering::Relaxed));
    word.store(pack(high, if on { flags | flag } else { flags & !flag }), Ordering::Release);
}

/// Raises the moment in the lower half of a word; it never falls.
fn raise_low(word: Option<&AtomicU64>, moment: Timestamp) {
    if let Some(word) = word {
        let (high, low) = unpack(word.load(Ordering::Relaxed));
        word.store(pack(high, low.max(moment.raw())), Ordering::Release);
    }
}
