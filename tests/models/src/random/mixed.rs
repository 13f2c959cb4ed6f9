// The long script: a writer inserts, removes, revokes and thereby moves tokens and grows the segment, two readers look for
// any of them. What was true is written down beside it, and an answer has to be what was true at some moment of the look-up.

use std::cell::RefCell;
use std::rc::Rc;

use super::sync::Rng;

/// Keys the long script uses: they crowd in the buckets of a segment.
const KEYS: u32 = 9;
/// What its writer does.
const STEPS: usize = 16;
/// Keys that are there at the beginning: one more fits, the next makes the segment grow.
const FIRST_KEYS: u32 = 6;

/// What is true of a key: absent, there, revoked; with its generation, which every insert raises.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Truth {
    Absent,
    There(u32),
    Revoked(u32),
}

/// What was true of each key, one after another, and how much of it may still be seen.
#[derive(Default)]
struct Past {
    of: Vec<Vec<Truth>>,
    /// The first that a look-up beginning now may see.
    from: Vec<usize>,
}

fn mixed_key(tag: u32) -> TokenKey {
    // Few buckets, and most of them through one: tokens are driven from one to another.
    key((tag % 2) as usize, (tag / 2 % 4) as usize, tag)
}

fn mixed_facts(tag: u32, generation: u32) -> SlotFacts {
    SlotFacts { grant: tag, revoked: false, times: SlotTimes::Details(tag * 1_000 + generation), used: 0 }
}

pub fn mixed() {
    let table = Arc::new(Tokens::new());
    let past = Past { of: (0..=KEYS).map(|_| vec![Truth::Absent]).collect(), from: vec![0; KEYS as usize + 1] };
    let past = Rc::new(RefCell::new(past));
    for tag in 1..=FIRST_KEYS {
        table.insert(&mixed_key(tag), mixed_facts(tag, 0), &epoch::pin());
        past.borrow_mut().of[tag as usize] = vec![Truth::There(0)];
    }
    let readers: Vec<_> = (0..2).map(|_| mixed_reader(&table, &past)).collect();
    let mut random = super::sync::thread_rng();
    let mut generation = 0;
    for _ in 0..STEPS {
        let tag = random.gen_range(1..=KEYS);
        let guard = epoch::pin();
        let known = past.borrow().of[tag as usize].last().copied().unwrap_or(Truth::Absent);
        generation += 1;
        let next = match known {
            Truth::Absent => Truth::There(generation),
            Truth::There(made) if random.gen_bool(0.3) => Truth::Revoked(made),
            _ => Truth::Absent,
        };
        past.borrow_mut().of[tag as usize].push(next);
        match next {
            Truth::There(made) => table.insert(&mixed_key(tag), mixed_facts(tag, made), &guard),
            Truth::Revoked(_) => assert!(table.revoke(&mixed_key(tag), &guard)),
            Truth::Absent => drop(table.sweep(0, &guard, |key, _| *key == mixed_key(tag), |_, _| {})),
        }
        let mut past = past.borrow_mut();
        past.from[tag as usize] = past.of[tag as usize].len() - 1;
    }
    readers.into_iter().for_each(|reader| reader.join());
    let tokens = past.borrow().of.iter().filter(|past| past.last() != Some(&Truth::Absent)).count();
    assert_eq!(table.len(), tokens as u64, "the table counts what is in it");
}

fn mixed_reader(table: &Arc<Tokens>, past: &Rc<RefCell<Past>>) -> sync::Running<()> {
    let past = Rc::clone(past);
    reader(table, move |table| {
        let mut random = super::sync::thread_rng();
        for _ in 0..4 {
            let tag = random.gen_range(1..=KEYS);
            let from = past.borrow().from[tag as usize];
            let guard = epoch::pin();
            let found = table.find(&mixed_key(tag), &guard);
            let seen = found.map_or(Truth::Absent, |found| {
                let SlotTimes::Details(row) = found.facts.times else { panic!("all of them have details") };
                assert_eq!((found.facts.grant, row / 1_000), (tag, tag), "a slot's words belong together");
                if found.facts.revoked { Truth::Revoked(row % 1_000) } else { Truth::There(row % 1_000) }
            });
            let possible = past.borrow().of[tag as usize][from..].to_vec();
            assert!(possible.contains(&seen), "{tag}: {seen:?} was not true in the meantime: {possible:?}");
        }
    })
}
