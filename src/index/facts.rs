//! The dense tables beside the tokens: who the subjects and clients are, what was granted, who is a member of what,
//! what the workspaces' policies say.
//!
//! One row each, words that only the writer stores to. Revoking a grant, removing a member, blocking an app is one
//! store, whatever the number of tokens it ends. The layouts (64-bit words; `hi|lo` are 32-bit halves):
//!
//! ```text
//! party   [ flags | issued_before ] [ void_before ] [ first grant + 1 | first member + 1 ]     subject or client
//! place   [ workspace's place number | flags ]                                              one per named place
//! member  [ subject | place ] [ added·2 + live ] [ removed ] [ next of the subject + 1 ]
//! entry   [ place | client ] [ flags ] [ void_before ]                                       policy line
//! mark    [ subject | client ] [ void_before ]
//! grant   [ subject | client ] [ made:40 | audience:24 ] [ run ] [ mask, if the run has one pair ]   half a cache line
//! terms   [ expiry | issued_before ]                         one per grant; looked at only if the run says TERMS
//! links   [ next of the subject + 1 | next of the client + 1 ]                              one per grant
//! run     [ start:32 | count:16 | flags:16 ]   so many pairs in `access`, from there on
//!         [ place:32 | form:16  | flags:16 ]   flag ONE: a single pair, as old as its grant; nine grants in ten
//! access  [ place | form ] [ since, if form says DATED ] [ the words of the mask that form says are not 0 ]
//!         one pair of a grant or a narrowed token; pairs of a run follow one another
//! unusual [ a bit for each of 64 subjects ]     not set: the first two words of the subject's row are 0
//! audience[ start:32 | count:32 ] into audience words; set 0 is the empty set
//! details [ expiry | issued ] [ not before | audience set ] [ narrowed: a run, 0 = not; binding in its low 8 bits ]
//!         [ 4 words of binding ] [ first half of the key ]
//! ```

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crossbeam_epoch::{Atomic, Guard};

use super::dense::Dense;
use super::lookup::{Lookup, hash_pair};
use super::names::Names;
use super::tokens::Tokens;
use crate::domain::access::{MemberFacts, PartyFacts, PolicyFacts};
use crate::domain::{PolicyMode, ScopeCatalogue, Sequence, Switch, Timestamp};

/// The place number that means "wherever the subject is a member".
pub(crate) const EVERYWHERE: u32 = u32::MAX;

/// Flags of a party.
pub(crate) mod party {
    /// Suspended.
    pub(crate) const OFF: u32 = 1;
    /// Some client was revoked for this subject: look into the marks.
    pub(crate) const HAS_MARKS: u32 = 2;
    /// Registered (clients only).
    pub(crate) const REGISTERED: u32 = 4;
}

/// Flags of a place that is a workspace.
pub(crate) mod place {
    /// Approval is required.
    pub(crate) const APPROVAL: u32 = 1;
    /// Personal tokens are not let in.
    pub(crate) const NO_PERSONAL: u32 = 2;
    /// Some client has a policy line here: look into the entries.
    pub(crate) const HAS_ENTRIES: u32 = 4;
}

/// Flags of a policy line.
pub(crate) mod entry {
    /// On the block list.
    pub(crate) const BLOCKED: u64 = 1;
    /// On the approved list.
    pub(crate) const APPROVED: u64 = 2;
}

/// Flags of a run: the low 16 bits. The low 8 of them are the owner's: a grant's own flags, a token's binding.
pub(crate) mod run {
    /// The owner's bits.
    pub(crate) const OWNER: u64 = 0xff;
    /// There is one pair, and it stands here: its place and its form; the one word of its mask that is not 0 is the last
    /// of the grant's row. Only a new grant has such a run: the word is never written again, so whoever reads the run first
    /// reads the mask that belongs to it. What replaces the run is a list in `access`.
    pub(crate) const ONE: u64 = 1 << 8;
}

/// Flags of a grant, in its run's word.
pub(crate) mod grant {
    /// Revoked.
    pub(crate) const REVOKED: u64 = 1;
    /// It expires, or tokens issued before a moment are void: look into `terms`. Never cleared.
    pub(crate) const TERMS: u64 = 2;
}

/// The form of a pair: bits 0 to 3 say which words of its mask are stored with it.
pub(crate) mod pair {
    /// The wildcard is in the mask.
    pub(crate) const WILDCARD: u32 = 1 << 4;
    /// The pair says when it was granted; otherwise it is as old as its grant.
    pub(crate) const DATED: u32 = 1 << 5;
}

/// How a token is bound, in `details`.
pub(crate) mod binding {
    pub(crate) const NONE: u64 = 0;
    pub(crate) const CERTIFICATE: u64 = 1;
    pub(crate) const DPOP: u64 = 2;
    /// The first word of the binding is a number in `texts`.
    pub(crate) const OTHER: u64 = 3;
}

/// Two 32-bit halves in a word.
pub(crate) const fn pack(hi: u32, lo: u32) -> u64 {
    (hi as u64) << 32 | lo as u64
}

/// The halves of a word.
pub(crate) const fn unpack(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

/// The largest sequence and the largest audience set that a grant's word can hold.
pub(crate) const MADE_MAX: u64 = (1 << 40) - 1;
/// See [`MADE_MAX`].
pub(crate) const AUDIENCE_SETS_MAX: u32 = (1 << 24) - 1;

/// The terms of a grant that never expires, and whose tokens count whenever they were issued.
pub(crate) const NO_TERMS: u64 = pack(u32::MAX, 0);

/// Words of a grant's row: two rows fill a cache line, so none lies in two.
pub(crate) const GRANT_WORDS: usize = 4;

/// A table of rows that are found by the pair of numbers in their first word.
pub(crate) struct PairTable<const W: usize> {
    pub(crate) rows: Dense<W>,
    pub(crate) lookup: Lookup,
    seed: u64,
}

impl<const W: usize> PairTable<W> {
    pub(crate) fn new(seed: u64) -> Self {
        Self { rows: Dense::new(), lookup: Lookup::new(), seed }
    }

    /// The number of the row for this pair.
    pub(crate) fn find(&self, pair: u64, guard: &Guard) -> Option<u32> {
        self.lookup.find(hash_pair(self.seed, pair), guard, |row| {
            self.rows.row(row).is_some_and(|words| words[0].load(Ordering::Relaxed) == pair)
        })
    }

    /// The row for this pair.
    pub(crate) fn row(&self, pair: u64, guard: &Guard) -> Option<&[AtomicU64; W]> {
        self.rows.row(self.find(pair, guard)?)
    }

    /// Begins to load the slot that names the row for this pair.
    #[inline]
    pub(crate) fn fetch_slot(&self, pair: u64, guard: &Guard) {
        self.lookup.fetch(hash_pair(self.seed, pair), guard);
    }

    /// Begins to load the row for this pair, or one that shares its hash.
    #[inline]
    pub(crate) fn fetch_row(&self, pair: u64, guard: &Guard) {
        let row = self.lookup.find(hash_pair(self.seed, pair), guard, |_| true);
        row.into_iter().for_each(|row| self.rows.fetch(row));
    }

    /// Appends a row; its pair must be new. For the writer alone.
    pub(crate) fn push(&self, words: [u64; W], guard: &Guard) -> u32 {
        let row = self.rows.push(words);
        self.lookup.insert(hash_pair(self.seed, words[0]), row, guard);
        row
    }

    /// Makes room for so many rows at once. For the writer alone, while nothing is found yet.
    pub(crate) fn reserve(&self, rows: u32, guard: &Guard) {
        self.lookup.reserve(rows, guard);
    }

    /// Makes a row that is there found by its pair, unless another one is. For the writer alone.
    pub(crate) fn find_from_now_on(&self, row: u32, guard: &Guard) -> bool {
        let pair = |row| self.rows.row(row).map(|words| words[0].load(Ordering::Relaxed));
        let Some(new) = pair(row) else { return false };
        self.lookup.insert_new(hash_pair(self.seed, new), row, guard, |other| pair(other) == Some(new)).is_none()
    }

    pub(crate) fn bytes(&self, guard: &Guard) -> u64 {
        self.rows.bytes() + self.lookup.bytes(guard)
    }
}

/// How far an import has come: digest of its source, lines, first grant, grants.
pub(crate) type ImportMark = ([u8; 32], u64, u32, u32);

/// How many sources' marks are kept. Whoever repeats an import after so many others starts it anew.
pub(crate) const IMPORT_MARKS_MAX: usize = 64;

/// Everything the list amounts to.
pub(crate) struct Tables {
    pub(crate) tokens: Tokens,
    pub(crate) details: Dense<8>,
    pub(crate) grants: Dense<GRANT_WORDS>,
    pub(crate) grant_terms: Dense<1>,
    pub(crate) grant_links: Dense<1>,
    pub(crate) access: Dense<1>,
    pub(crate) audience_sets: Dense<1>,
    pub(crate) audience_words: Dense<1>,
    pub(crate) subjects: Dense<3>,
    pub(crate) unusual: Dense<1>,
    pub(crate) clients: Dense<3>,
    pub(crate) places: Dense<1>,
    pub(crate) members: PairTable<4>,
    pub(crate) entries: PairTable<3>,
    pub(crate) marks: PairTable<2>,
    pub(crate) subject_names: Names,
    pub(crate) client_names: Names,
    pub(crate) place_names: Names,
    /// Audiences, and confirmation values of methods we do not know.
    pub(crate) texts: Names,
    pub(crate) catalogue: Atomic<ScopeCatalogue>,
    /// Tokens issued before this are void.
    pub(crate) all_issued_before: AtomicU32,
    /// The last change whose effects are all visible.
    pub(crate) applied: AtomicU64,
    /// The last change that has begun to become visible: `applied` or one more.
    pub(crate) applying: AtomicU64,
    /// How far the latest sources have been imported, the latest last, for resuming. The writer's alone; behind a lock
    /// because nobody reads it on a hot path.
    pub(crate) imports: std::sync::Mutex<Vec<ImportMark>>,
}

impl Tables {
    pub(crate) fn new() -> Self {
        let seed = || {
            use std::hash::{BuildHasher, RandomState};
            RandomState::new().hash_one(0u8)
        };
        let tables = Self {
            tokens: Tokens::new(),
            details: Dense::new(),
            grants: Dense::new(),
            grant_terms: Dense::new(),
            grant_links: Dense::new(),
            access: Dense::new(),
            audience_sets: Dense::new(),
            audience_words: Dense::new(),
            subjects: Dense::new(),
            unusual: Dense::new(),
            clients: Dense::new(),
            places: Dense::new(),
            members: PairTable::new(seed()),
            entries: PairTable::new(seed()),
            marks: PairTable::new(seed()),
            subject_names: Names::new(),
            client_names: Names::new(),
            place_names: Names::new(),
            texts: Names::new(),
            catalogue: Atomic::new(ScopeCatalogue::new()),
            all_issued_before: AtomicU32::new(0),
            applied: AtomicU64::new(0),
            applying: AtomicU64::new(0),
            imports: std::sync::Mutex::default(),
        };
        // Row 0 of `details` and set 0 of the audiences mean "none".
        tables.details.push([0; 8]);
        tables.audience_sets.push([0]);
        tables
    }

    pub(crate) fn catalogue<'g>(&self, guard: &'g Guard) -> &'g ScopeCatalogue {
        // SAFETY: never null; a replaced catalogue is freed only after every guard of its time is gone.
        unsafe { self.catalogue.load(Ordering::Acquire, guard).deref() }
    }

    /// What is known of a party (a row of `subjects` or `clients`).
    pub(crate) fn party(row: &[AtomicU64; 3]) -> (PartyFacts, u32) {
        let (flags, issued_before) = unpack(row[0].load(Ordering::Acquire));
        let facts = PartyFacts {
            switch: if flags & party::OFF == 0 { Switch::On } else { Switch::Off },
            void_before: Sequence(row[1].load(Ordering::Acquire)),
            issued_before: Timestamp::from_raw(issued_before),
        };
        (facts, flags)
    }

    /// What is known of a subject. Hardly any was ever suspended or revoked as a whole, so a bit says of most that their
    /// rows need not be looked at; 64 subjects share a word, and those words stay in the cache.
    ///
    /// # Ordering
    /// What a row says is stored before its bit, which is never cleared: whoever does not see the bit does not see the
    /// first change of this subject yet, and whoever sees it sees the row as it was then, or later.
    pub(crate) fn subject(&self, number: u32) -> Option<(PartyFacts, u32)> {
        let word = self.unusual.row(number / 64)?[0].load(Ordering::Acquire);
        if word >> (number % 64) & 1 == 1 {
            return self.subjects.row(number).map(Self::party);
        }
        (number < self.subjects.len()).then_some((PartyFacts::NEW, 0))
    }

    /// Says that a subject's row has to be looked at from now on. For the writer alone, after it wrote the row.
    pub(crate) fn mark_unusual(&self, number: u32) {
        if let Some(word) = self.unusual.row(number / 64) {
            word[0].fetch_or(1 << (number % 64), Ordering::Release);
        }
    }

    /// A row for the next subject. For the writer alone.
    pub(crate) fn push_subject(&self, words: [u64; 3]) {
        let number = self.subjects.len();
        if self.unusual.len() <= number / 64 {
            self.unusual.push([0]);
        }
        // Before anybody can find the subject.
        if words[0] != 0 || words[1] != 0 {
            self.mark_unusual(number);
        }
        self.subjects.push(words);
    }

    /// Membership of one subject in one place.
    pub(crate) fn member(&self, subject: u32, place: u32, guard: &Guard) -> MemberFacts {
        self.members.row(pack(subject, place), guard).map_or(MemberFacts::NEVER, Self::member_row)
    }

    /// # Ordering
    /// `added` is loaded before `removed`, and stored after it: whoever sees a membership renewed also sees that it had
    /// ended. The other way round an old grant would be revived for an instant.
    pub(crate) fn member_row(row: &[AtomicU64; 4]) -> MemberFacts {
        let added = row[1].load(Ordering::Acquire);
        let removed = row[2].load(Ordering::Acquire);
        MemberFacts { live: added & 1 == 1, added: Sequence(added >> 1), removed: Sequence(removed) }
    }

    /// A workspace's policy for one client.
    pub(crate) fn policy(&self, workspace: u32, client: u32, guard: &Guard) -> PolicyFacts {
        let Some(row) = self.places.row(workspace) else { return PolicyFacts::NEW };
        let (_, flags) = unpack(row[0].load(Ordering::Acquire));
        let line =
            if flags & place::HAS_ENTRIES == 0 { None } else { self.entries.row(pack(workspace, client), guard) };
        let (lists, void_before) =
            line.map_or((0, 0), |words| (words[1].load(Ordering::Acquire), words[2].load(Ordering::Acquire)));
        PolicyFacts {
            mode: if flags & place::APPROVAL == 0 { PolicyMode::AllowAll } else { PolicyMode::ApprovalRequired },
            personal: if flags & place::NO_PERSONAL == 0 { Switch::On } else { Switch::Off },
            blocked: lists & entry::BLOCKED != 0,
            approved: lists & entry::APPROVED != 0,
            void_before: Sequence(void_before),
        }
    }

    /// Bytes in use by all tables.
    pub(crate) fn bytes(&self, guard: &Guard) -> u64 {
        let rows = [
            self.details.bytes(),
            self.grants.bytes(),
            self.grant_terms.bytes(),
            self.grant_links.bytes(),
            self.access.bytes(),
            self.audience_sets.bytes(),
            self.audience_words.bytes(),
            self.subjects.bytes(),
            self.unusual.bytes(),
            self.clients.bytes(),
            self.places.bytes(),
            self.members.bytes(guard),
            self.entries.bytes(guard),
            self.marks.bytes(guard),
        ];
        let names = [&self.subject_names, &self.client_names, &self.place_names, &self.texts];
        self.tokens.bytes() + rows.iter().sum::<u64>() + names.iter().map(|names| names.bytes(guard)).sum::<u64>()
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        // SAFETY: `&mut self`: nobody else has the tables; the pointer is never null.
        unsafe { drop(std::mem::replace(&mut self.catalogue, Atomic::null()).into_owned()) }
    }
}
