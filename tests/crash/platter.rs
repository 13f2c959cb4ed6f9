//! What a power cut leaves: for certain what was synced, and of the rest whatever chance picks.
//!
//! * **Bytes.** Each page written since the file's last sync is found as it was after any number of those writes, none
//!   and all included, whatever became of its neighbours; torn, the same holds for each sector of 512 bytes. So writes
//!   reach the platter in any order, and no sector ever holds what it never held.
//! * **Lengths.** The file has any of the lengths it had since its last sync, whatever became of its bytes: what lies
//!   beyond is gone, what was never written is zeros.
//! * **Names.** Each file made, renamed or deleted since the directory's last sync is so or is not, independently.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::dice::Dice;
use super::disk::{Act, FileId, Tree};
use super::image::{Image, PAGE, SECTOR, pieces};

/// What a cut does with what was not synced.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Choice {
    /// All of it is lost.
    Nothing,
    /// All of it is kept: as if only the process had died.
    Everything,
    /// By the dice: how likely a page, a length and a name are the newest; whether pages may tear.
    Some { pages: u8, lengths: u8, names: u8, torn: bool, seed: u64 },
}

impl Choice {
    /// Any of them; the corners (all of one kind kept, none of another) come often.
    pub fn any(dice: &mut Dice) -> Self {
        const PERCENT: [u8; 6] = [0, 5, 50, 50, 95, 100];
        match dice.below(16) {
            0 => Self::Nothing,
            1 => Self::Everything,
            _ => Self::Some {
                pages: *dice.one_of(&PERCENT),
                lengths: *dice.one_of(&PERCENT),
                names: *dice.one_of(&PERCENT),
                torn: dice.below(3) == 0,
                seed: dice.next(),
            },
        }
    }
}

/// The disk as the platter has it after so many acts.
#[derive(Clone, Debug, Default)]
pub struct Platter {
    files: BTreeMap<FileId, Kept>,
    names: BTreeMap<PathBuf, FileId>,
    dirs: BTreeSet<PathBuf>,
    /// Names made, changed and deleted that no sync of their directory has made durable yet.
    renamings: Vec<Act>,
}

#[derive(Clone, Debug, Default)]
struct Kept {
    /// What was synced.
    durable: Image,
    /// What the process sees.
    seen: Image,
    /// Done since the last sync.
    writes: Vec<Write>,
    /// The lengths it had since then.
    lengths: Vec<u64>,
}

#[derive(Clone, Debug)]
enum Write {
    Data(u64, std::sync::Arc<[u8]>),
    Zeros(u64, u64),
}

impl Platter {
    /// A disk that holds this, all of it durable.
    pub fn holding(tree: &Tree) -> Self {
        let kept = |image: &Image| Kept { durable: image.clone(), seen: image.clone(), ..Kept::default() };
        Self {
            files: tree.files.iter().map(|(file, image)| (*file, kept(image))).collect(),
            names: tree.names.clone(),
            dirs: tree.dirs.clone(),
            renamings: Vec::new(),
        }
    }

    /// Does the next thing.
    pub fn act(&mut self, act: &Act) {
        match act {
            Act::Mark(_) => {}
            Act::Write(file, at, data) => {
                let kept = self.files.entry(*file).or_default();
                let before = kept.seen.len();
                kept.seen.write(*at, data);
                kept.writes.push(Write::Data(*at, data.clone()));
                if kept.seen.len() != before {
                    kept.lengths.push(kept.seen.len());
                }
            }
            Act::SetLen(file, len) => {
                let kept = self.files.entry(*file).or_default();
                if *len < kept.seen.len() {
                    kept.writes.push(Write::Zeros(*len, kept.seen.len()));
                }
                kept.seen.set_len(*len);
                kept.lengths.push(*len);
            }
            Act::Sync(file) => {
                let kept = self.files.entry(*file).or_default();
                kept.durable = kept.seen.clone();
                kept.writes.clear();
                kept.lengths.clear();
            }
            Act::Create(_, file) => {
                self.files.entry(*file).or_default();
                self.renamings.push(act.clone());
            }
            Act::CreateDir(_) | Act::Rename(..) | Act::Remove(_) => self.renamings.push(act.clone()),
            Act::SyncDir(dir) => {
                let (now, later) = std::mem::take(&mut self.renamings).into_iter().partition(|act| is_in(act, dir));
                self.renamings = later;
                let now: Vec<Act> = now;
                now.iter().for_each(|act| rename(&mut self.names, &mut self.dirs, act));
            }
        }
    }

    /// Whether chance has nothing to choose: everything was synced.
    pub fn is_settled(&self) -> bool {
        self.renamings.is_empty() && self.files.values().all(|kept| kept.writes.is_empty() && kept.lengths.is_empty())
    }

    /// What is left.
    pub fn cut(&self, choice: Choice) -> Tree {
        let (pages, lengths, names, torn, seed) = match choice {
            Choice::Nothing => (0, 0, 0, false, 0),
            Choice::Everything => (100, 100, 100, false, 0),
            Choice::Some { pages, lengths, names, torn, seed } => (pages, lengths, names, torn, seed),
        };
        let only = matches!(choice, Choice::Nothing | Choice::Everything);
        let mut pick = Pick { dice: Dice::new(seed), only };
        let (mut kept_names, mut dirs) = (self.names.clone(), self.dirs.clone());
        for act in &self.renamings {
            if pick.versions(1, names) == 1 {
                rename(&mut kept_names, &mut dirs, act);
            }
        }
        // What stands in a directory that is not there cannot be found.
        kept_names.retain(|path, _| path.parent().is_some_and(|dir| dirs.contains(dir)));
        let named: BTreeSet<FileId> = kept_names.values().copied().collect();
        let files = self.files.iter().filter(|(file, _)| named.contains(file));
        let files = files.map(|(file, kept)| (*file, kept.cut(&mut pick, pages, lengths, torn))).collect();
        Tree { files, names: kept_names, dirs }
    }
}

impl Kept {
    fn cut(&self, pick: &mut Pick, pages: u8, lengths: u8, torn: bool) -> Image {
        if self.writes.is_empty() && self.lengths.is_empty() {
            return self.durable.clone();
        }
        let size = if torn { SECTOR } else { PAGE };
        // How often each block was written; then, how many of these writes the platter has.
        let mut blocks: BTreeMap<usize, usize> = BTreeMap::new();
        for write in &self.writes {
            write.blocks(size, |block, _, _| *blocks.entry(block).or_default() += 1);
        }
        for count in blocks.values_mut() {
            *count = pick.versions(*count, pages);
        }
        let mut image = self.durable.clone();
        for write in &self.writes {
            write.blocks(size, |block, within, from| {
                let Some(left) = blocks.get_mut(&block).filter(|left| **left > 0) else { return };
                *left -= 1;
                let at = (block * size + within.start) as u64;
                match write {
                    Write::Data(_, data) => image.put(at, &data[from..from + within.len()]),
                    Write::Zeros(..) => image.zero(at, at + within.len() as u64),
                }
            });
        }
        let chosen = pick.versions(self.lengths.len(), lengths);
        let len = chosen.checked_sub(1).map_or(self.durable.len(), |index| self.lengths[index]);
        image.reach(len);
        image
    }
}

impl Write {
    fn blocks(&self, size: usize, each: impl FnMut(usize, std::ops::Range<usize>, usize)) {
        match self {
            Self::Data(at, data) => pieces(*at, data.len(), size, each),
            Self::Zeros(from, to) => pieces(*from, (to - from) as usize, size, each),
        }
    }
}

struct Pick {
    dice: Dice,
    /// The corners, where nothing is left to chance.
    only: bool,
}

impl Pick {
    /// How many of `count` versions in a row have reached the platter: all of them in `percent` cases.
    fn versions(&mut self, count: usize, percent: u8) -> usize {
        if self.only {
            return if percent == 0 { 0 } else { count };
        }
        let newest = self.dice.below(100) < usize::from(percent);
        match (newest, percent) {
            (true, _) => count,
            // "None" has to mean none.
            (false, 0) => 0,
            (false, _) => self.dice.below(count + 1),
        }
    }
}

fn is_in(act: &Act, dir: &Path) -> bool {
    match act {
        Act::CreateDir(path) | Act::Create(path, _) | Act::Remove(path) | Act::Rename(_, path, _) => {
            path.parent() == Some(dir)
        }
        _ => false,
    }
}

fn rename(names: &mut BTreeMap<PathBuf, FileId>, dirs: &mut BTreeSet<PathBuf>, act: &Act) {
    match act {
        Act::CreateDir(path) => drop(dirs.insert(path.clone())),
        Act::Create(path, file) => drop(names.insert(path.clone(), *file)),
        Act::Remove(path) => drop(names.remove(path)),
        Act::Rename(from, to, file) => {
            names.remove(from);
            names.insert(to.clone(), *file);
        }
        _ => {}
    }
}
