//! Scripts of changes and look-ups, decoded from bytes, run on the index with its one writer and on the plain model
//! beside it ([`super::plain`]): both admit the same and say the same.
//!
//! A small world, so that things meet: four subjects, three clients, six places, seven scopes, 48 tokens, half of them in
//! buckets that they fill. Beside the changes there are what is none: time, sweeping, use, the rest of the list applied
//! once more, the whole index written down and read back. Concurrency is none of this target's business: the models
//! (`tests/models`) and the stress of the index's tests are for that.

use std::collections::{BTreeMap, BTreeSet};

use super::plain::{Fate, Grant, Model, Pairs, Scopes, Token};
use super::script::{CLIENTS, PLACES, SCOPES, Script, TOKENS, WORKSPACES, key};
use crate::domain::access::{ClientKind, GrantFacts, MemberFacts, PlaceFacts, PolicyFacts, TokenFacts};
use crate::domain::{
    CallerId, Change, ClientId, Confirmation, Entry, NewToken, Place, ScopePosition, Sequence, SubjectId, Target,
    Timestamp, TokenKey,
};
use crate::index::{self, Admitted, GrantRecord, Index, LoadError, Loader, PairRecord, Pin, Writer};

/// When scripts begin, and the longest that one lasts: last uses are told apart within two years.
const BEGIN: Timestamp = Timestamp::from_raw(1_700_000_000);
const YEAR_SECONDS: u32 = 31_536_000;
/// How often everything is compared in one script, and how often the index is written down and read back.
const LOOKS_MAX: u32 = 12;
const RELOADS_MAX: u32 = 2;

/// Scripts of changes and look-ups on the index and on a plain model of it, every answer compared.
///
/// # Panics
/// It has found something.
pub fn index_model(data: &[u8]) {
    let (index, writer) = index::new();
    let mut run = Run {
        script: Script(data),
        index,
        writer,
        model: Model::default(),
        list: Vec::new(),
        again_from: 0,
        now: BEGIN,
        looks: 0,
        reloads: 0,
    };
    while !run.script.0.is_empty() {
        run.step();
    }
    run.compare();
}

/// A script on its way.
struct Run<'d> {
    script: Script<'d>,
    index: Index,
    writer: Writer,
    model: Model,
    /// What was applied so far.
    list: Vec<Entry>,
    /// Applying again from here on changes nothing. (What was swept, or registered a second time after its end, does not
    /// come out the same: at most revoked where it was not.)
    again_from: usize,
    now: Timestamp,
    looks: u32,
    reloads: u32,
}

impl Run<'_> {
    fn step(&mut self) {
        match self.script.below(32) {
            kind @ 0..26 => self.change(kind),
            26 => {
                let passed = self.script.one_of([1, 59, 900, 3_600, 90_000]);
                self.now = self.now.plus(passed).min(BEGIN.plus(YEAR_SECONDS));
            }
            27 => {
                let swept = self.writer.sweep(usize::MAX, self.now);
                assert_eq!(swept, self.model.sweep(self.now), "tokens that were swept at {}", self.now);
                self.again_from = self.list.len();
            }
            28 => {
                let key = self.script.key();
                let pin = self.index.pin();
                let (found, known) = (pin.token(key), self.model.tokens.get_mut(&key));
                assert_eq!(found.is_some(), known.is_some(), "the token that is used");
                if let (Some(found), Some(known)) = (found, known) {
                    found.mark_used(self.now);
                    known.used = Some(self.now.minus(self.now.raw() % 1_024));
                }
            }
            29 => {
                let count = usize::from(self.script.byte()).min(self.list.len() - self.again_from);
                let rest = self.list.len() - count;
                self.list[rest..].iter().for_each(|entry| self.writer.apply(entry));
                self.look();
            }
            30 if self.reloads < RELOADS_MAX => {
                self.reloads += 1;
                self.reload();
                self.look();
            }
            _ => self.look(),
        }
    }

    fn change(&mut self, kind: u8) {
        let next = self.writer.next_grant().expect("there are few grants");
        assert_eq!(next.number() as usize, self.model.grants.len() + 1, "the next grant's number");
        let change = self.script.change(kind, next, self.now);
        let fate = match self.writer.admit(&change, self.now) {
            Ok(Admitted::New) => Fate::New,
            Ok(Admitted::Already) => Fate::Already,
            Err(reject) => {
                assert!(!reject.to_string().is_empty(), "a refusal says why");
                Fate::Refused
            }
        };
        assert_eq!(fate, self.model.admit(&change, self.now), "{change:?} at {}", self.now);
        if fate != Fate::New {
            return;
        }
        if let Change::RegisterToken(new) = &change
            && self.model.tokens.contains_key(&new.key)
        {
            self.again_from = self.list.len();
        }
        let sequence = Sequence(self.list.len() as u64 + 1);
        let entry = Entry { sequence, at: self.now, by: CallerId::parse("fuzz").expect("an id"), change };
        self.model.apply(sequence, self.now, &entry.change);
        self.writer.apply(&entry);
        let is_over = |new: &NewToken| self.model.tokens[&new.key].is_over(self.now);
        let over_at_birth = matches!(&entry.change, Change::RegisterToken(new) if is_over(new));
        self.list.push(entry);
        if over_at_birth {
            self.again_from = self.list.len();
        }
        let pin = self.index.pin();
        assert_eq!(pin.applied(), sequence, "what was applied is told");
        if let Some(Change::RegisterToken(NewToken { key, .. }) | Change::Revoke(Target::Token(key))) =
            self.list.last().map(|entry| &entry.change)
        {
            self.compare_token(&pin, *key);
        }
    }

    /// Writes the index down, and goes on with what is read back.
    fn reload(&mut self) {
        let applied = self.index.pin().applied();
        let mut loader = Loader::new(self.index.pin().tokens());
        let read = self.index.sections::<LoadError>(&mut |table, _, words| loader.section(table, words.into_iter()));
        read.expect("what was written down can be read");
        (self.index, self.writer) = loader.finish(applied).expect("what was written down is whole");
    }

    fn look(&mut self) {
        if self.looks < LOOKS_MAX {
            self.looks += 1;
            self.compare();
        }
    }

    /// Everything there is to ask.
    fn compare(&self) {
        let pin = self.index.pin();
        (0..TOKENS).for_each(|number| self.compare_token(&pin, key(number)));
        assert_eq!(pin.tokens(), self.model.tokens.len() as u64, "how many tokens there are");
        let mut met = Vec::new();
        pin.for_each_token(|token| met.push(token.key));
        met.sort_unstable();
        assert!(met.iter().eq(self.model.tokens.keys()), "a walk meets each token once: {met:?}");

        assert_eq!(pin.grants() as usize, self.model.grants.len(), "how many grants there are");
        for (number, grant) in (1..).zip(&self.model.grants) {
            let record = pin.grant(number).unwrap_or_else(|| panic!("grant {number} is there"));
            self.compare_grant(&pin, &record, grant);
        }
        assert_eq!(pin.subjects() as usize, self.model.subjects.len(), "how many subjects there are");
        self.model.subjects.keys().for_each(|subject| self.compare_subject(&pin, subject));
        self.compare_policies(&pin);
        let (scopes, known) = (pin.catalogue(), &self.model.catalogue);
        let entries = scopes.entries().iter().map(|entry| (&*entry.name, entry.retired));
        assert!(entries.eq(known.names.iter().map(|(name, is_gone)| (&**name, *is_gone))), "the names of scopes");
        let alias =
            |(alias, position): (&str, Option<ScopePosition>)| (alias.to_owned(), position.map(|p| p.number().into()));
        assert_eq!(scopes.aliases().map(alias).collect::<BTreeMap<_, _>>(), known.aliases, "the aliases");
        for name in SCOPES {
            let position = scopes.position(name).map(|position| usize::from(position.number()));
            assert_eq!(position, known.position(name), "the position of {name}");
        }
        for source in (0..4).map(|source| [source; 32]) {
            assert_eq!(self.writer.import_mark(&source), self.model.imports.get(&source).copied(), "an import's mark");
        }
    }

    fn compare_token(&self, pin: &Pin<'_>, key: TokenKey) {
        let (found, known) = (pin.token(key), self.model.tokens.get(&key));
        assert_eq!(found.is_some(), known.is_some(), "whether {:?} is known", key.words());
        let (Some(found), Some(known)) = (found, known) else { return };
        let Token { grant, times, revoked, audience, confirmation, narrowed, used } = known;
        assert_eq!((found.times, found.revoked), (*times, *revoked), "times of {:?}", key.words());
        assert_eq!(found.is_only_revoked(), grant.is_none(), "whether it was ever registered");
        assert_eq!(found.bound(pin).map(Confirmation::from), *confirmation, "what it is bound to");
        let pairs = found.narrowed_pairs(pin).map(|pairs| pairs_of(pin, pairs));
        assert_eq!(pairs, *narrowed, "what it is narrowed to");
        let last = used.map(|used| used.max(times.issued.min(self.now)));
        assert_eq!(found.last_used(self.now), last, "when it was last used");
        assert_eq!(found.has_own_audience(), audience.is_some(), "whether it has an audience of its own");
        let Some(id) = grant else { return };
        assert_eq!(found.grant, id.number(), "its grant");
        let (record, grant) =
            (pin.grant(id.number()).expect("its grant is there"), self.model.grant(*id).expect("known"));
        let told: BTreeSet<String> = pin.audience(Some(&found), &record).map(str::to_owned).collect();
        assert_eq!(told, *audience.as_ref().unwrap_or(&grant.audience), "its audience");
        let facts = TokenFacts {
            times: *times,
            revoked: *revoked,
            grant: facts_of(grant),
            subject: self.model.subject(&grant.subject),
            client: self.model.client(&grant.client),
            subject_client_void_before: self.model.mark(grant),
            all_issued_before: self.model.all_issued_before,
        };
        assert_eq!(pin.token_facts(&found, &record), Some(facts), "what decides about it");
    }

    fn compare_grant(&self, pin: &Pin<'_>, record: &GrantRecord, grant: &Grant) {
        assert_eq!(record.facts, facts_of(grant), "{}", record.id);
        assert_eq!(pin.subject_text(record.subject), grant.subject.as_str(), "the subject of {}", record.id);
        assert_eq!(pin.client_text(record.client), grant.client.as_str(), "the client of {}", record.id);
        assert_eq!(needed(pairs_of(pin, pin.pairs(record))), needed(grant.pairs.clone()), "what {} gives", record.id);
        assert!(
            pin.audience(None, record).map(str::to_owned).collect::<BTreeSet<_>>() == grant.audience,
            "its audience"
        );
        for text in PLACES {
            let place = Place::parse(text).expect("a place");
            let around = Place::parse(place.workspace_str()).expect("a place");
            let client = if grant.client == ClientId::personal() { ClientKind::Personal } else { ClientKind::App };
            let facts = PlaceFacts {
                workspace: self.model.member(&grant.subject, &around),
                project: place.is_project().then(|| self.model.member(&grant.subject, &place)),
                policy: self.model.policy(around.as_str(), &grant.client),
                client,
            };
            let told = counted(pin.place_facts(record, pin.spot(text)));
            assert_eq!(told, counted(facts), "what {} is worth at {text}", record.id);
        }
    }

    fn compare_subject(&self, pin: &Pin<'_>, subject: &SubjectId) {
        let number = pin.subject_number(subject.as_str()).unwrap_or_else(|| panic!("{subject} is known"));
        assert_eq!(pin.subject_facts(number), Some(self.model.subject(subject)), "{subject}");
        let of_subject = self.model.members.iter().filter(|((of, _), _)| of == subject);
        let members: BTreeMap<_, _> = of_subject
            .map(|((_, place), member)| (place.as_str(), as_it_counts(*member, self.model.left_around(subject, place))))
            .collect();
        let told: Vec<_> = pin.memberships(number).collect();
        let mut told: Vec<_> = told
            .into_iter()
            .map(|(place, member)| (pin.place_text(place), as_it_counts(member, Sequence::ZERO)))
            .collect();
        told.sort_by_key(|(place, _)| *place);
        assert!(told.iter().copied().eq(members.clone()), "memberships of {subject}: {told:?}, not {members:?}");
        let grants =
            (1..).zip(&self.model.grants).filter(|(_, grant)| grant.subject == *subject).map(|(number, _)| number);
        let listed = pin.grants_of_subject(number).map(|grant| grant.id.number());
        assert!(listed.eq(grants.collect::<Vec<u32>>().into_iter().rev()), "grants of {subject}");
    }

    fn compare_policies(&self, pin: &Pin<'_>) {
        for client in CLIENTS.map(|text| ClientId::parse(text).expect("an id")) {
            let Some(number) = pin.client_number(client.as_str()) else { continue };
            let facts = pin.client_facts(number).map(|(facts, _)| facts);
            assert_eq!(facts, Some(self.model.client(&client)), "{client}");
            let grants =
                (1..).zip(&self.model.grants).filter(|(_, grant)| grant.client == client).map(|(number, _)| number);
            let listed = pin.grants_of_client(number).map(|grant| grant.id.number());
            assert!(listed.eq(grants.collect::<Vec<u32>>().into_iter().rev()), "grants of {client}");
            for workspace in WORKSPACES {
                let known = self.model.policy(workspace, &client);
                let told = pin.place_number(workspace).map(|place| pin.policy(place, number));
                assert_eq!(told.unwrap_or(PolicyFacts::NEW), known, "{workspace} of {client}");
            }
        }
    }
}

/// When an ended membership had begun says nothing: applying the list again from a later place may have it begin at another
/// of the additions that changed nothing.
fn as_it_counts(member: MemberFacts, left: Sequence) -> MemberFacts {
    match member.live && member.added > left {
        true => member,
        false => MemberFacts { live: false, added: Sequence::ZERO, ..member },
    }
}

/// Pairs without what a wider one of the same age gives anyway: narrowing and then extending a grant once more leaves what the
/// extension has in common with the narrower list beside the extension.
fn needed(pairs: Pairs) -> Pairs {
    let covers = |outer: &Option<Place>, inner: &Option<Place>| match (outer, inner) {
        (None, Some(_)) => true,
        (Some(outer), Some(inner)) => outer != inner && outer.covers(inner),
        _ => false,
    };
    let mut needed = Pairs::new();
    for ((place, since), scopes) in &pairs {
        let wider = pairs.iter().filter(|((other, age), _)| age == since && covers(other, place));
        let left = wider.fold(*scopes, |left, (_, wider)| left.without(*wider));
        if !left.is_empty() {
            needed.insert((place.clone(), *since), left);
        }
    }
    needed
}

fn counted(facts: PlaceFacts) -> PlaceFacts {
    let project = facts.project.map(|project| as_it_counts(project, facts.workspace.removed));
    PlaceFacts { workspace: as_it_counts(facts.workspace, Sequence::ZERO), project, ..facts }
}

fn facts_of(grant: &Grant) -> GrantFacts {
    let Grant { made, expiry, revoked, issued_before, .. } = *grant;
    GrantFacts { made, expiry, revoked, issued_before }
}

/// Pairs as the model has them. None stands twice.
fn pairs_of(pin: &Pin<'_>, pairs: impl Iterator<Item = PairRecord>) -> Pairs {
    let mut told = Pairs::new();
    for pair in pairs {
        let place = pair.place.map(|place| Place::parse(pin.place_text(place)).expect("a place has a place's name"));
        let twice = told.insert((place, pair.since), Scopes::of(&pair.scopes));
        assert!(twice.is_none(), "a pair stands once");
    }
    told
}
