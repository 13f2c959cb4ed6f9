//! The token table: from a 128-bit key to what is known of the token. One writer, readers without lock or wait.
//!
//! ```text
//! bucket = one cache line of 16 words
//!  ┌─────────┬─────────┬──────────────── slot 0 ────────────────┬──────────────── slot 1 ────────────────┐
//!  │ version │ spilled │ key key key key │ grant │ when │ life·used │ key key key key │ grant │ when │ life·used │
//!  └─────────┴─────────┴─────────────────────────────────────────┴─────────────────────────────────────────┘
//! grant      0 = slot empty; bit 31 = revoked; the rest = number of the grant
//! life·used  upper half: how long the token lives, 0 = see `details`; lower half: last use, in steps of 1,024 s
//! when       expiry in seconds; if life = 0, the row of the token in `details`
//! ```
//!
//! The table is cut into [`SEGMENTS`] segments by the key's first word. Within a segment each key has two buckets, from
//! its second and third word (cuckoo hashing with two slots a bucket). `spilled` counts the keys whose first bucket
//! this is and which live in their second, so that a miss usually reads one line. A segment that gets too full is
//! built anew a little larger and swapped in, one at a time: growing never needs twice the memory, and stops nobody. Where
//! the segments lie says `blocks.rs`; those that lie beside one that grew follow it a few insertions later.
//!
//! # The slot protocol
//! The grant word alone says whether a slot holds a token, and the writer changes one slot at a time:
//!
//! * **insert** into an empty slot: `version` + 1 with release, release fence, key, when and life relaxed, then the grant
//!   word with release, then `version` + 1 with release.
//! * **revoke**: the revoked bit is set in the grant word; one store.
//! * **remove**: the grant word becomes 0; one store. The words beside it stay as they are until the slot is used again.
//! * **move** to the other bucket: insert there, count it in `spilled`, then remove here; never the other way round.
//!
//! A reader loads `version` with acquire, then grant words with acquire and the words beside them relaxed, and after an
//! acquire fence loads `version` again. *Hit*: if the version is unchanged, no insert into this bucket began in between;
//! only inserts change the words beside the grant word, so they belong to the grant word that was read. (An insert that
//! had begun before is no danger either: whoever saw its first raise, an acquire load of a release store, sees the slot
//! as empty as the insert found it. Were that raise relaxed, a processor with weak ordering could show the raised version
//! before the emptied slot, and the old grant word with the new words beside it; loom found that.) *Miss*: a key
//! that is in the table all the while can escape only by moving from the second bucket to the first while the reader
//! looks at first and second in that order. Whoever finds the second slot emptied has seen everything before that
//! store, so also the version that was raised *after* the key became visible in the first bucket, and looks again. (The
//! raise before the insert is not enough: a reader that began between it and the grant word would see one version all
//! along.) Moving from first to second cannot hide a key: whoever sees the first slot emptied, an acquire load of the
//! release store, also sees the insert into the second and the count in `spilled`, which came before it. A changed
//! version means: look again. The writer has then made progress, so readers are lock-free, and a writer that is paused
//! at any instruction leaves nobody waiting.

// Filling the table while nobody looks.
mod lay;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use crossbeam_epoch::{Atomic, Guard, Owned};

use super::ahead::fetch;
use super::blocks::{Blocks, Part};
use super::zeroed::Zero;
use crate::domain::{Expiry, Timestamp, TokenKey, TokenTimes};

/// Segments of the table. Many, so that each stays small: growing one is a pause of the writer, copying one a window
/// in which no token may move. A fuzzer makes and drops two whole tables for each input, and most of its time went into
/// segments that no input fills; with few of them it also gets into the full ones.
pub(crate) const SEGMENTS: usize = if cfg!(fuzzing) { 4 } else { 1 << 10 };
/// Words of a bucket: one cache line.
pub(crate) const BUCKET_WORDS: usize = 16;
/// Slots in a bucket.
const SLOTS: usize = 2;
/// Words of a slot.
const SLOT_WORDS: usize = 7;
/// Where the first slot begins in a bucket.
const FIRST_SLOT: usize = 2;
/// The bit of the grant word that says "revoked".
const REVOKED: u32 = 1 << 31;
/// Buckets of a fresh segment.
const FRESH_BUCKETS: usize = 4;
/// Segments of fewer buckets grow by a third, larger ones by an eighth.
const SMALL_BUCKETS: usize = 256;
/// While segments have to follow their neighbours, one does for about so many insertions: a short pause, now and then.
const FOLLOW_EVERY: usize = 16;
/// How full a segment may get before it grows, in sixteenths of its slots.
const FULL_SIXTEENTHS: usize = 14;
/// How many buckets a search for room may look at before the segment grows instead.
const SEARCH_MAX: usize = 256;
/// How many it meets at most, nearly always.
const USUAL_SEARCH: usize = 64;

/// A segment of more buckets than these, and so many more for each of its tokens, is not made larger to find room.
const CROWDED_BUCKETS: usize = 256;
/// See [`CROWDED_BUCKETS`].
const CROWDED_BUCKETS_EACH: usize = 16;

/// There is no room for a token, and there would be none in a larger table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Crowded;

/// A cache line of words.
#[repr(C, align(64))]
pub(crate) struct Bucket {
    words: [AtomicU32; BUCKET_WORDS],
}

const _: () = assert!(size_of::<Bucket>() == 64 && FIRST_SLOT + SLOTS * SLOT_WORDS == BUCKET_WORDS);

impl Bucket {
    fn version(&self) -> &AtomicU32 {
        &self.words[0]
    }

    fn spilled(&self) -> &AtomicU32 {
        &self.words[1]
    }

    fn slot(&self, slot: usize) -> &[AtomicU32; SLOT_WORDS] {
        let start = FIRST_SLOT + slot * SLOT_WORDS;
        match self.words[start..].first_chunk() {
            Some(words) => words,
            None => unreachable!("slot numbers are 0 and 1"),
        }
    }
}

// SAFETY: sixteen words; zero is one of their values.
unsafe impl Zero for Bucket {}

/// The buckets of a segment; freed when the last reader of its time has gone.
pub(crate) struct Segment {
    buckets: Part<Bucket>,
}

impl Segment {
    pub(crate) fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    fn homes(&self, key: &[u32; 4]) -> (usize, usize) {
        let scale = |word: u32| ((u64::from(word) * self.buckets.len() as u64) >> 32) as usize;
        let (first, second) = (scale(key[1]), scale(key[2]));
        if first == second { (first, (second + 1) % self.buckets.len()) } else { (first, second) }
    }
}

/// What a slot holds beside its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SlotFacts {
    /// The number of the token's grant.
    pub(crate) grant: u32,
    /// Whether the token was revoked.
    pub(crate) revoked: bool,
    /// Times in the slot itself, or the row in `details`.
    pub(crate) times: SlotTimes,
    /// Last use, in steps of [`crate::domain::time::LAST_USE_STEP_SECONDS`]; 0 = none known.
    pub(crate) used: u16,
}

/// Where a token's times stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SlotTimes {
    /// In the slot: nothing about the token is out of the ordinary.
    Here(TokenTimes),
    /// In this row of `details`, with everything else that is.
    Details(u32),
}

/// Units a lifetime is written in: seconds, minutes, hours, days; 14 bits of them.
const LIFE_UNITS: [u32; 4] = [1, 60, 3_600, 86_400];

impl SlotTimes {
    /// The words `when` and `life` for plain times; `None` if they need a row in `details`.
    fn pack(times: &TokenTimes) -> Option<(u32, u16)> {
        let Expiry::At(expiry) = times.expiry else { return None };
        let life = expiry.raw().checked_sub(times.issued.raw())?;
        if times.not_before != times.issued || life == 0 {
            return None;
        }
        let unit = LIFE_UNITS.iter().position(|unit| life % unit == 0 && life / unit < 1 << 14)?;
        Some((expiry.raw(), (unit as u16) << 14 | (life / LIFE_UNITS[unit]) as u16))
    }

    /// The reverse of [`SlotTimes::words`].
    pub(crate) fn read(when: u32, life: u16) -> Self {
        if life == 0 {
            return Self::Details(when);
        }
        let seconds = u32::from(life & 0x3fff) * LIFE_UNITS[usize::from(life >> 14)];
        let issued = Timestamp::from_raw(when).minus(seconds);
        Self::Here(TokenTimes { issued, not_before: issued, expiry: Expiry::At(Timestamp::from_raw(when)) })
    }

    /// Whether the words of a slot say times as [`SlotTimes::words`] writes them: a lifetime of some seconds, in the
    /// smallest unit that it fits, that does not begin before 1970.
    pub(crate) fn can_be(when: u32, life: u16) -> bool {
        let (unit, count) = (usize::from(life >> 14), u32::from(life & 0x3fff));
        let is_smallest = unit == 0 || count * (LIFE_UNITS[unit] / LIFE_UNITS[unit - 1]) >= 1 << 14;
        count > 0 && is_smallest && count * LIFE_UNITS[unit] <= when
    }

    /// Whether these times fit into a slot.
    pub(crate) fn fit(times: &TokenTimes) -> bool {
        Self::pack(times).is_some()
    }

    pub(crate) fn words(self) -> (u32, u16) {
        match self {
            Self::Here(times) => match Self::pack(&times) {
                Some(words) => words,
                None => unreachable!("times that do not fit are put into details before they get here"),
            },
            Self::Details(row) => (row, 0),
        }
    }
}

/// A token that was found, and where: the place is good while the guard is held.
#[derive(Clone, Copy)]
pub(crate) struct Found<'g> {
    pub(crate) facts: SlotFacts,
    bucket: &'g Bucket,
    version: u32,
    slot: usize,
}

impl Found<'_> {
    /// Whether the slot has not been used for another token since it was read: if so, what was read beside it through
    /// its `details` row belongs to it. A slot of a segment that was outgrown meanwhile stays as it is; then it is the
    /// order in which a row is written and read that keeps two tokens apart.
    pub(crate) fn still_there(&self) -> bool {
        // The grant word before the version: if another token came meanwhile, whoever sees its grant word also sees the
        // version raised. The other way round it could come between the two.
        let is_used = self.bucket.slot(self.slot)[4].load(Ordering::Acquire) != 0;
        fence(Ordering::Acquire);
        is_used && self.bucket.version().load(Ordering::Relaxed) == self.version
    }

    /// Writes down that the token was used in this step. At most one store per token and step; losing one to a move of
    /// the slot only makes last use a step older.
    pub(crate) fn mark_used(&self, step: u16) {
        if self.facts.used == step {
            return;
        }
        let word = &self.bucket.slot(self.slot)[6];
        let old = word.load(Ordering::Relaxed);
        let _ = word.compare_exchange(old, old & 0xffff_0000 | u32::from(step), Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// Which of a key's two buckets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Home {
    First,
    Second,
}

/// What a bucket seems to say of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Glimpse {
    /// The token is here: the number of its grant, 0 if its slot was emptied; its row in `details`, if it has one.
    Token { grant: u32, details: Option<u32> },
    /// It is not here; it may be in the second bucket, if this is the first.
    MaybeSecond,
    /// It is nowhere.
    Absent,
}

/// The table. Readers need a guard of `crossbeam_epoch`; changes are for the one writer.
pub(crate) struct Tokens {
    segments: Box<[Atomic<Segment>]>,
    /// Tokens in each segment; the writer's alone.
    used: Box<[AtomicU32]>,
    /// Odd while a token of the segment moves between its buckets, two higher after that or after growing: who copies a
    /// segment looks at it before and after.
    moves: Box<[AtomicU64]>,
    bytes: AtomicU64,
    blocks: Blocks<Bucket>,
}

impl Tokens {
    pub(crate) fn new() -> Self {
        let blocks = Blocks::new(SEGMENTS);
        let fresh = |number| Atomic::new(Segment { buckets: blocks.part(number, FRESH_BUCKETS) });
        Self {
            segments: (0..SEGMENTS).map(fresh).collect(),
            used: (0..SEGMENTS).map(|_| AtomicU32::new(0)).collect(),
            moves: (0..SEGMENTS).map(|_| AtomicU64::new(0)).collect(),
            bytes: AtomicU64::new((SEGMENTS * FRESH_BUCKETS * 64) as u64),
            blocks,
        }
    }

    fn number(key: &[u32; 4]) -> usize {
        key[0] as usize % SEGMENTS
    }

    /// The segment with this number, as it is now.
    pub(crate) fn segment<'g>(&self, number: usize, guard: &'g Guard) -> &'g Segment {
        // SAFETY: never null; a swapped-out segment is freed only after every guard of its time is gone.
        unsafe { self.segments[number].load(Ordering::Acquire, guard).deref() }
    }

    /// A number that is odd while a token moves in the segment, and has grown if one has moved.
    pub(crate) fn moves(&self, number: usize) -> u64 {
        self.moves[number].load(Ordering::Acquire)
    }

    /// Tokens in the table, revoked and not yet swept ones included.
    pub(crate) fn len(&self) -> u64 {
        self.used.iter().map(|used| u64::from(used.load(Ordering::Relaxed))).sum()
    }

    /// Bytes of all buckets.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn bucket<'g>(&self, words: &[u32; 4], home: Home, guard: &'g Guard) -> &'g Bucket {
        let segment = self.segment(Self::number(words), guard);
        let (first, second) = segment.homes(words);
        &segment.buckets()[if home == Home::First { first } else { second }]
    }

    /// Begins to load one of the key's buckets.
    #[inline]
    pub(crate) fn fetch(&self, key: &TokenKey, home: Home, guard: &Guard) {
        fetch(self.bucket(&key.words(), home, guard));
    }

    /// What one of the key's buckets seems to say, read without the protocol: good for hints alone.
    #[inline]
    pub(crate) fn glimpse(&self, key: &TokenKey, home: Home, guard: &Guard) -> Glimpse {
        let key = key.words();
        let bucket = self.bucket(&key, home, guard);
        for words in (0..SLOTS).map(|slot| bucket.slot(slot)) {
            let word = |i: usize| words[i].load(Ordering::Relaxed);
            if (0..4).fold(0, |differ, i| differ | (word(i) ^ key[i])) == 0 {
                let details = (word(6) >> 16 == 0).then(|| word(5));
                return Glimpse::Token { grant: word(4) & !REVOKED, details };
            }
        }
        if bucket.spilled().load(Ordering::Relaxed) > 0 { Glimpse::MaybeSecond } else { Glimpse::Absent }
    }

    /// The token with this key.
    #[inline]
    pub(crate) fn find<'g>(&self, key: &TokenKey, guard: &'g Guard) -> Option<Found<'g>> {
        let words = key.words();
        let segment = self.segment(Self::number(&words), guard);
        let (first, second) = segment.homes(&words);
        let (first, second) = (&segment.buckets()[first], &segment.buckets()[second]);
        loop {
            let seen = first.version().load(Ordering::Acquire);
            match scan(first, seen, &words) {
                Scan::Found(found) => return Some(found),
                Scan::Changed => continue,
                Scan::Absent => {}
            }
            if first.spilled().load(Ordering::Acquire) > 0 {
                let version = second.version().load(Ordering::Acquire);
                match scan(second, version, &words) {
                    Scan::Found(found) => return Some(found),
                    Scan::Changed => continue,
                    Scan::Absent => {}
                }
            }
            fence(Ordering::Acquire);
            if first.version().load(Ordering::Relaxed) == seen {
                return None;
            }
        }
    }

    /// Adds a token whose key is not in the table. For the writer alone.
    ///
    /// # Panics
    /// As [`Tokens::try_insert`] fails: with keys from a keyed hash that does not happen.
    pub(crate) fn insert(&self, key: &TokenKey, facts: SlotFacts, guard: &Guard) {
        let inserted = self.try_insert(key, facts, guard);
        assert!(inserted.is_ok(), "five tokens share 64 bits of their keys: these are no keys from a keyed hash");
    }

    /// As [`Tokens::insert`], for keys of which nobody knows where they come from.
    ///
    /// # Errors
    /// More tokens share both their buckets than fit into two, in a segment that is nearly empty: no growing would help.
    pub(crate) fn try_insert(&self, key: &TokenKey, facts: SlotFacts, guard: &Guard) -> Result<(), Crowded> {
        let words = key.words();
        let number = Self::number(&words);
        let used = self.used[number].load(Ordering::Relaxed) as usize + 1;
        let mut segment = self.segment(number, guard);
        if used * 16 > segment.buckets().len() * SLOTS * FULL_SIXTEENTHS {
            segment = self.grow(number, guard)?;
        }
        while !self.place(number, segment, &words, facts) {
            segment = self.grow(number, guard)?;
        }
        self.used[number].store(used as u32, Ordering::Relaxed);
        if used.is_multiple_of(FOLLOW_EVERY)
            && let Some(neighbour) = self.blocks.left_behind(number)
        {
            self.follow(neighbour, guard);
        }
        Ok(())
    }

    /// Moves a segment to where its neighbours went, if they went without it. For the writer alone.
    fn follow(&self, number: usize, guard: &Guard) {
        let Some(buckets) = self.blocks.waiting_for(number) else { return };
        // One whose tokens do not fit there, which hardly ever happens, stays until it grows.
        if buckets <= self.segment(number, guard).buckets().len() || self.rebuild(number, buckets, guard).is_none() {
            self.blocks.pass(number);
        }
    }

    /// Marks a token as revoked. For the writer alone. False if it is unknown.
    pub(crate) fn revoke(&self, key: &TokenKey, guard: &Guard) -> bool {
        let Some(found) = self.find(key, guard) else { return false };
        let grant = &found.bucket.slot(found.slot)[4];
        grant.store(grant.load(Ordering::Relaxed) | REVOKED, Ordering::Release);
        true
    }

    /// Takes out every token of a segment for which `is_over` holds, and gives each to `gone` afterwards. For the
    /// writer alone. Only tidies: what is taken out was inactive already.
    pub(crate) fn sweep(
        &self,
        number: usize,
        guard: &Guard,
        mut is_over: impl FnMut(&TokenKey, &SlotFacts) -> bool,
        mut gone: impl FnMut(&TokenKey, &SlotFacts),
    ) -> usize {
        self.follow(number, guard);
        let segment = self.segment(number, guard);
        let mut swept = 0;
        for (at, bucket) in segment.buckets().iter().enumerate() {
            for slot in 0..SLOTS {
                let Some((words, facts)) = read_slot(bucket.slot(slot)) else { continue };
                let key = TokenKey::from_words(words);
                if !is_over(&key, &facts) {
                    continue;
                }
                clear(segment, at, slot, &words);
                gone(&key, &facts);
                swept += 1;
            }
        }
        let used = self.used[number].load(Ordering::Relaxed);
        self.used[number].store(used - swept as u32, Ordering::Relaxed);
        swept
    }

    /// Every token of a segment as it is now. A token that moves meanwhile may be missed or met twice: see
    /// [`Tokens::moves`].
    pub(crate) fn for_each(&self, number: usize, guard: &Guard, mut visit: impl FnMut(TokenKey, SlotFacts)) {
        for bucket in self.segment(number, guard).buckets() {
            for slot in 0..SLOTS {
                let seen = loop {
                    let version = bucket.version().load(Ordering::Acquire);
                    let read = read_slot(bucket.slot(slot));
                    fence(Ordering::Acquire);
                    if bucket.version().load(Ordering::Relaxed) == version {
                        break read;
                    }
                };
                if let Some((words, facts)) = seen {
                    visit(TokenKey::from_words(words), facts);
                }
            }
        }
    }

    /// Every token of a segment at one moment, into `copied`. After many attempts, each spoilt by a token that moved, the
    /// last copy is left as it is, and the answer is no.
    pub(crate) fn copy(&self, number: usize, guard: &Guard, copied: &mut Vec<(TokenKey, SlotFacts)>) -> bool {
        /// How often a segment is copied before it is given up.
        const ATTEMPTS: usize = 1_000;
        for _ in 0..ATTEMPTS {
            let before = self.moves(number);
            if before.is_multiple_of(2) {
                copied.clear();
                self.for_each(number, guard, |key, facts| copied.push((key, facts)));
                if self.moves(number) == before {
                    return true;
                }
            }
            std::thread::yield_now();
        }
        false
    }

    /// Makes room for `tokens` tokens at once, so that loading them needs no growing. For the writer alone, and only
    /// while the table is empty.
    pub(crate) fn reserve(&self, number: usize, tokens: usize, guard: &Guard) {
        let buckets = (tokens * 16).div_ceil(SLOTS * (FULL_SIXTEENTHS - 1)).max(FRESH_BUCKETS);
        if buckets > self.segment(number, guard).buckets().len() {
            self.rebuild(number, buckets, guard);
        }
    }

    fn grow<'g>(&self, number: usize, guard: &'g Guard) -> Result<&'g Segment, Crowded> {
        let now = self.segment(number, guard).buckets().len();
        // Keys are spread evenly, so all segments are full at the same time: a large step would leave the whole table
        // a third empty just after. Small steps cost more rebuilding, which only matters where it is cheap.
        let step = if now < SMALL_BUCKETS { now / 3 } else { now / 8 };
        let mut buckets = self.blocks.waiting_for(number).unwrap_or(0).max(now + step + 1);
        let most = CROWDED_BUCKETS + self.used[number].load(Ordering::Relaxed) as usize * CROWDED_BUCKETS_EACH;
        while buckets < most {
            if let Some(segment) = self.rebuild(number, buckets, guard) {
                return Ok(segment);
            }
            buckets += buckets / 8 + 1;
        }
        Err(Crowded)
    }

    /// Builds a segment anew with so many buckets and swaps it in; `None` if the tokens did not fit.
    fn rebuild<'g>(&self, number: usize, buckets: usize, guard: &'g Guard) -> Option<&'g Segment> {
        let old = self.segments[number].load(Ordering::Acquire, guard);
        let larger = Segment { buckets: self.blocks.part(number, buckets) };
        // SAFETY: never null, kept by the guard.
        let old_segment = unsafe { old.deref() };
        for bucket in old_segment.buckets() {
            for slot in 0..SLOTS {
                if let Some((words, facts)) = read_slot(bucket.slot(slot))
                    && !self.place(number, &larger, &words, facts)
                {
                    return None;
                }
            }
        }
        let grown = larger.buckets().len() as u64 * 64;
        let shrunk = old_segment.buckets().len() as u64 * 64;
        self.bytes.fetch_add(grown.wrapping_sub(shrunk), Ordering::Relaxed);
        let new = Owned::new(larger).into_shared(guard);
        self.segments[number].store(new, Ordering::Release);
        self.moves[number].fetch_add(2, Ordering::Release);
        // SAFETY: unreachable for whoever pins from now on; retired exactly once, here.
        unsafe { guard.defer_destroy(old) };
        // Segments are large and grow all at about the same time; 64 of them would otherwise be kept before anybody
        // looked whether they can go.
        guard.flush();
        // SAFETY: just stored, kept by the guard.
        Some(unsafe { new.deref() })
    }

    /// Puts a token into one of its buckets, moving others to theirs if need be. False if no room was found.
    fn place(&self, number: usize, segment: &Segment, key: &[u32; 4], facts: SlotFacts) -> bool {
        let (first, second) = segment.homes(key);
        for (home, at) in [(first, first), (first, second)] {
            if let Some(slot) = free_slot(&segment.buckets()[at]) {
                fill(segment, home, at, slot, key, facts);
                return true;
            }
        }
        let Some((path, slot)) = find_room(segment, [first, second]) else { return false };
        // From the far end backwards: each token goes to its other bucket before its slot here is needed.
        let mut free = slot;
        for step in path.windows(2).rev() {
            let (from, to) = (step[0], step[1]);
            let moved = (0..SLOTS).find_map(|slot| {
                let (words, facts) = read_slot(segment.buckets()[from].slot(slot))?;
                let homes = segment.homes(&words);
                (homes == (from, to) || homes == (to, from)).then_some((slot, words, facts, homes.0))
            });
            let Some((slot, words, facts, home)) = moved else { return false };
            self.moves[number].fetch_add(1, Ordering::Release);
            fill(segment, home, to, free, &words, facts);
            clear(segment, from, slot, &words);
            self.moves[number].fetch_add(1, Ordering::Release);
            free = slot;
        }
        fill(segment, first, path[0], free, key, facts);
        true
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        for segment in &mut self.segments {
            // SAFETY: `&mut self`: nobody else has the table; never null.
            unsafe { drop(std::mem::replace(segment, Atomic::null()).into_owned()) }
        }
    }
}

enum Scan<'g> {
    Found(Found<'g>),
    Absent,
    Changed,
}

fn scan<'g>(bucket: &'g Bucket, version: u32, key: &[u32; 4]) -> Scan<'g> {
    for slot in 0..SLOTS {
        let words = bucket.slot(slot);
        let grant = words[4].load(Ordering::Acquire);
        // All four words are compared, whatever the first says: a near miss takes as long as a far one.
        let differ = (0..4).fold(0, |differ, i| differ | (words[i].load(Ordering::Relaxed) ^ key[i]));
        if grant == 0 || differ != 0 {
            continue;
        }
        let facts = slot_facts(grant, words);
        fence(Ordering::Acquire);
        if bucket.version().load(Ordering::Relaxed) != version {
            return Scan::Changed;
        }
        return Scan::Found(Found { facts, bucket, version, slot });
    }
    Scan::Absent
}

fn slot_facts(grant: u32, words: &[AtomicU32; SLOT_WORDS]) -> SlotFacts {
    let (when, life_used) = (words[5].load(Ordering::Relaxed), words[6].load(Ordering::Relaxed));
    SlotFacts {
        grant: grant & !REVOKED,
        revoked: grant & REVOKED != 0,
        times: SlotTimes::read(when, (life_used >> 16) as u16),
        used: life_used as u16,
    }
}

fn read_slot(words: &[AtomicU32; SLOT_WORDS]) -> Option<([u32; 4], SlotFacts)> {
    let grant = words[4].load(Ordering::Acquire);
    (grant != 0).then(|| (std::array::from_fn(|i| words[i].load(Ordering::Relaxed)), slot_facts(grant, words)))
}

fn free_slot(bucket: &Bucket) -> Option<usize> {
    (0..SLOTS).find(|slot| bucket.slot(*slot)[4].load(Ordering::Relaxed) == 0)
}

/// Inserts into an empty slot of bucket `at`; `home` is the token's first bucket.
fn fill(segment: &Segment, home: usize, at: usize, slot: usize, key: &[u32; 4], facts: SlotFacts) {
    let bucket = &segment.buckets()[at];
    let words = bucket.slot(slot);
    debug_assert_eq!(words[4].load(Ordering::Relaxed), 0, "only empty slots are filled");
    let version = bucket.version().load(Ordering::Relaxed);
    // Release: whoever sees the new version sees the slot empty, and not what it held before.
    bucket.version().store(version.wrapping_add(1), Ordering::Release);
    // The new version is visible before any word below changes.
    fence(Ordering::Release);
    for (word, value) in words.iter().zip(key) {
        word.store(*value, Ordering::Relaxed);
    }
    let (when, life) = facts.times.words();
    words[5].store(when, Ordering::Relaxed);
    words[6].store(u32::from(life) << 16 | u32::from(facts.used), Ordering::Relaxed);
    let grant = facts.grant | if facts.revoked { REVOKED } else { 0 };
    words[4].store(grant, Ordering::Release);
    // Raised again now that the token can be seen: see "Miss" above.
    bucket.version().store(version.wrapping_add(2), Ordering::Release);
    if home != at {
        let spilled = segment.buckets()[home].spilled();
        spilled.store(spilled.load(Ordering::Relaxed) + 1, Ordering::Release);
    }
}

/// Empties a slot of bucket `at`.
fn clear(segment: &Segment, at: usize, slot: usize, key: &[u32; 4]) {
    let (home, _) = segment.homes(key);
    segment.buckets()[at].slot(slot)[4].store(0, Ordering::Release);
    if home != at {
        let spilled = segment.buckets()[home].spilled();
        spilled.store(spilled.load(Ordering::Relaxed) - 1, Ordering::Release);
    }
}

/// Breadth-first search for a bucket with a free slot, over the other homes of the tokens met. The path from one of
/// the starts to it, and the free slot there.
fn find_room(segment: &Segment, starts: [usize; 2]) -> Option<(Vec<usize>, usize)> {
    let mut met = Vec::with_capacity(USUAL_SEARCH);
    met.extend(starts.map(|start| (start, usize::MAX)));
    let mut at = 0;
    while at < met.len() && met.len() < SEARCH_MAX {
        let (bucket, _) = met[at];
        if let Some(slot) = free_slot(&segment.buckets()[bucket]) {
            let mut path = vec![bucket];
            let mut back = met[at].1;
            while back != usize::MAX {
                path.push(met[back].0);
                back = met[back].1;
            }
            path.reverse();
            return Some((path, slot));
        }
        for slot in 0..SLOTS {
            let Some((words, _)) = read_slot(segment.buckets()[bucket].slot(slot)) else { continue };
            let (first, second) = segment.homes(&words);
            let other = if first == bucket { second } else { first };
            if met.iter().all(|(known, _)| *known != other) {
                // Looked at only after those met before it: until then it can come.
                fetch(&segment.buckets()[other]);
                met.push((other, at));
            }
        }
        at += 1;
    }
    None
}
