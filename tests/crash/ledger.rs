//! What was asked for, what was acknowledged, and what must therefore be found.

use std::fmt::Write as _;
use std::sync::OnceLock;

use tokenscope::domain::{Change, Entry, Sequence, SubjectId, Timestamp, TokenKey};
use tokenscope::index::{self, Index};
use tokenscope::store::Opened;

use super::disk::Act;

/// A moment, all times are counted from it.
pub const NOW: Timestamp = Timestamp::from_raw(1_800_000_000);

/// What became known at a place in the log.
#[derive(Clone, Debug)]
pub enum Mark {
    /// The batch that ends here was handed to the journal: it may be found.
    Asked(Sequence),
    /// Somebody may have been told that all up to here is durable: it must be found.
    Acknowledged(Sequence),
    /// An acknowledged revocation ended this token for good.
    Dead(TokenKey),
    /// The store was opened: from now on there is one, and it must open again.
    Opened,
}

/// What must be found after a cut.
#[derive(Clone, Debug, Default)]
pub struct Expect {
    /// Whether there has to be a store at all.
    pub opened: bool,
    /// Everything up to here.
    pub acknowledged: Sequence,
    /// Where the list may end: at the end of a batch.
    pub ends: Vec<Sequence>,
    /// Tokens that are dead for good.
    pub dead: Vec<TokenKey>,
}

impl Expect {
    /// Of a store that holds the list up to here and nothing else.
    pub fn of(found: Sequence, dead: Vec<TokenKey>) -> Self {
        Self { opened: true, acknowledged: found, ends: vec![found], dead }
    }

    /// After this act too.
    pub fn act(&mut self, act: &Act) {
        let Act::Mark(mark) = act else { return };
        match mark {
            Mark::Asked(end) => self.ends.push(*end),
            Mark::Acknowledged(end) => self.acknowledged = self.acknowledged.max(*end),
            Mark::Dead(key) => self.dead.push(*key),
            Mark::Opened => self.opened = true,
        }
    }
}

/// The list as it was handed to the journal, and what the index shows at each place in it. This is computed from the list
/// alone, without a journal, a snapshot or a disk.
#[derive(Debug, Default)]
pub struct History {
    list: Vec<Entry>,
    pictures: Vec<OnceLock<String>>,
    keys: Vec<TokenKey>,
}

impl History {
    /// Of this list.
    pub fn new(list: Vec<Entry>) -> Self {
        let pictures = (0..=list.len()).map(|_| OnceLock::new()).collect();
        let mut keys: Vec<TokenKey> = list.iter().filter_map(|entry| token_of(&entry.change)).collect();
        keys.sort_unstable();
        keys.dedup();
        Self { list, pictures, keys }
    }

    /// The list.
    pub fn list(&self) -> &[Entry] {
        &self.list
    }

    fn picture(&self, end: usize) -> &str {
        self.pictures[end].get_or_init(|| {
            let (index, mut writer) = index::new();
            self.list[..end].iter().for_each(|entry| writer.apply(entry));
            draw(&index, &self.keys)
        })
    }

    /// Compares what was found with what had to be; says where the list ends.
    ///
    /// # Errors
    /// What is wrong.
    pub fn examine(&self, opened: &Opened, expect: &Expect) -> Result<Sequence, String> {
        let head = opened.journal.head();
        if head.last < expect.acknowledged {
            return Err(format!("LOST: the list ends at {}, {} was acknowledged", head.last, expect.acknowledged));
        }
        if !expect.ends.contains(&head.last) {
            return Err(format!("the list ends at {}, where no batch ended: {:?}", head.last, expect.ends));
        }
        if let [first, ..] = &opened.recovered.set_aside[..] {
            return Err(format!("a snapshot was not believed, which no power cut can bring about: {first}"));
        }
        let end = head.last.0 as usize;
        let mut at = head.discarded.0 as usize;
        let mut other = None;
        let read = opened.journal.read_after(head.discarded, None, &mut |entry, _| {
            if self.list.get(at) != Some(entry) {
                other.get_or_insert_with(|| {
                    format!("WRONG: entry {at} is {entry:?}, asked was {:?}", self.list.get(at))
                });
            }
            at += 1;
            Ok(())
        });
        read.map_err(|error| format!("the journal opened but cannot be read: {error}"))?;
        if let Some(other) = other {
            return Err(other);
        }
        if at != end {
            return Err(format!("the journal holds entries up to {at}, its head says {end}"));
        }
        let pin = opened.index.pin();
        if pin.applied() != head.last {
            return Err(format!("the index stands at {}, the list ends at {}", pin.applied(), head.last));
        }
        if let Some(key) = expect.dead.iter().find(|key| is_alive(&opened.index, **key)) {
            return Err(format!("RESURRECTED: {key:?} was revoked, and that was acknowledged"));
        }
        let (found, meant) = (draw(&opened.index, &self.keys), self.picture(end));
        if found != meant {
            let differ = found.lines().zip(meant.lines()).find(|(found, meant)| found != meant);
            return Err(format!("WRONG: the index shows (found, meant) {differ:?} at {end}"));
        }
        let latest = self.list[..end].iter().map(|entry| entry.at).max();
        if latest.is_some_and(|latest| opened.clock_floor < latest) {
            return Err(format!("the clock may tell less than {latest:?}: {:?}", opened.clock_floor));
        }
        Ok(head.last)
    }
}

fn token_of(change: &Change) -> Option<TokenKey> {
    match change {
        Change::RegisterToken(token) => Some(token.key),
        Change::Revoke(tokenscope::domain::Target::Token(key)) => Some(*key),
        _ => None,
    }
}

/// Whether anything was revoked that ends the token.
pub fn is_alive(index: &Index, key: TokenKey) -> bool {
    let pin = index.pin();
    let facts = pin.token(key).and_then(|token| {
        let grant = pin.grant(token.grant)?;
        pin.token_facts(&token, &grant)
    });
    facts.is_some_and(|facts| !facts.is_void())
}

/// Everything the index shows, a line for each thing, with names in place of numbers.
fn draw(index: &Index, keys: &[TokenKey]) -> String {
    let mut picture = String::new();
    let pin = index.pin();
    for key in keys {
        let Some(token) = pin.token(*key) else { continue };
        let facts = pin.grant(token.grant).and_then(|grant| pin.token_facts(&token, &grant));
        let _ = writeln!(picture, "{key:?} {} {} {:?} {facts:?}", token.grant, token.revoked, token.times);
    }
    for number in 1..=pin.grants() {
        let Some(grant) = pin.grant(number) else { continue };
        let (subject, client) = (pin.subject_text(grant.subject), pin.client_text(grant.client));
        let _ = write!(picture, "{number} {subject} {client} {:?}", grant.facts);
        for pair in pin.pairs(&grant) {
            let place = pair.place.map(|place| pin.place_text(place));
            let _ = write!(picture, " | {place:?} {:?} {}", pair.scopes, pair.since);
            let spot = pair.place.and_then(|place| pin.spot_of(place));
            let _ = write!(picture, " {:?}", spot.map(|spot| pin.place_facts(&grant, spot)));
        }
        picture.push('\n');
    }
    let mut members = Vec::new();
    for number in 0..pin.subjects() {
        let subject = pin.subject_text(number);
        members.extend(pin.memberships(number).map(|(place, facts)| (subject, pin.place_text(place), facts)));
    }
    members.sort_unstable_by_key(|(subject, place, _)| (*subject, *place));
    for member in &members {
        let _ = writeln!(picture, "{member:?}");
    }
    let _ = writeln!(picture, "{:?}", pin.catalogue().entries());
    picture
}

/// A subject of the scenarios.
pub fn subject(name: &str) -> SubjectId {
    SubjectId::parse(name).expect("an id")
}
