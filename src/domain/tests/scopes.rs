//! Scope names, positions and sets; the catalogue replays a real vocabulary with its removals and returns.

use std::collections::HashMap;

use super::super::scope::{
    SCOPE_BYTES_MAX, SCOPES_MAX, ScopeCatalogue, ScopeError, ScopeMask, ScopePosition, WILDCARD,
};

const HISTORY: &str = include_str!("../../samples/asana-scope-history.tsv");
const TODAY: &str = include_str!("../../samples/asana-scopes.txt");
const OLD_TYPEAHEAD: &str = "workspace.typeahead:read";
const TYPEAHEAD: &str = "workspaces.typeahead:read";

fn position(number: u8) -> ScopePosition {
    ScopePosition::new(number)
}

fn mask(numbers: &[u8]) -> ScopeMask {
    let mut mask = ScopeMask::EMPTY;
    numbers.iter().for_each(|number| mask.insert(position(*number)));
    mask
}

/// A catalogue of this many names.
fn catalogue(names: usize) -> ScopeCatalogue {
    let mut catalogue = ScopeCatalogue::new();
    for number in 0..names {
        assert_eq!(catalogue.add(&format!("thing{number}:read")), Ok(position(number as u8)));
    }
    catalogue
}

#[test]
fn a_real_history_leaves_every_name_its_bit() {
    let mut catalogue = ScopeCatalogue::new();
    let mut bits: HashMap<&str, u8> = HashMap::new();
    let mut live: Vec<&str> = Vec::new();
    let mut older: Vec<(ScopeCatalogue, Vec<&str>)> = Vec::new();
    let rows: Vec<Vec<&str>> = HISTORY.lines().skip(1).map(|row| row.split('\t').collect()).collect();
    assert_eq!(rows.len(), 61);
    for row in rows {
        let (change, name) = (row[2], row[3]);
        match change {
            "added" => {
                let given = catalogue.add(name).expect("a real scope name").number();
                let before = *bits.entry(name).or_insert(given);
                assert_eq!(before, given, "{name} came back at another bit");
                if !live.contains(&name) {
                    live.push(name);
                }
            }
            "removed" => {
                catalogue.retire(name).expect("it was there");
                live.retain(|known| *known != name);
            }
            other => panic!("{other:?} in the history"),
        }
        older.push((catalogue.clone(), live.clone()));
        // What any earlier list meant by a bit, this one means too.
        for (then, live_then) in &older {
            for name in live_then {
                let bit = then.position(name).expect("live at the time");
                assert_eq!(catalogue.entries()[usize::from(bit.number())].name.as_ref(), *name);
            }
        }
        for name in bits.keys() {
            let found = catalogue.position(name).map(ScopePosition::number);
            assert_eq!(found, live.contains(name).then(|| bits[name]), "{name}");
        }
    }
    let mut taken: Vec<u8> = bits.values().copied().collect();
    taken.sort_unstable();
    assert_eq!(taken, (0..54).collect::<Vec<u8>>(), "54 names, one bit each, none twice");
}

#[test]
fn the_names_of_today_are_all_in_the_history() {
    let names: Vec<&str> = TODAY.lines().collect();
    assert_eq!(names.len(), 47);
    for name in &names {
        assert!(HISTORY.lines().any(|row| row.split('\t').nth(3) == Some(*name)), "{name}");
    }
    let mut catalogue = ScopeCatalogue::new();
    for name in &names {
        catalogue.add(name).expect("a real scope name");
    }
    catalogue.alias(OLD_TYPEAHEAD, TYPEAHEAD).expect("a rename");
    catalogue.alias("default", WILDCARD).expect("the old full-access scope");
    assert_eq!(catalogue.position(OLD_TYPEAHEAD), catalogue.position(TYPEAHEAD));
    assert_eq!(catalogue.mask([OLD_TYPEAHEAD]), catalogue.mask([TYPEAHEAD]));
    assert_eq!(catalogue.mask(["default"]), Ok(ScopeMask::WILDCARD));
    assert_eq!(catalogue.position("default"), None, "one cannot ask whether a token may do everything");
    let aliases: Vec<(&str, bool)> = catalogue.aliases().map(|(alias, of)| (alias, of.is_some())).collect();
    assert_eq!(aliases, [(OLD_TYPEAHEAD, true), ("default", false)]);
}

#[test]
fn a_near_miss_is_unknown() {
    let mut catalogue = ScopeCatalogue::new();
    catalogue.add("tasks:read").expect("a name");
    catalogue.alias(OLD_TYPEAHEAD, "tasks:read").expect("an alias");
    let near = [
        "Tasks:read",
        "TASKS:READ",
        "tasks:Read",
        " tasks:read",
        "tasks:read ",
        "tasks: read",
        "tasks:read\t",
        "tasks:read\n",
        "tasks:read,",
        "tasks:read,users:read",
        "tasks:read tasks:read",
        "tasks",
        "tasks:",
        ":read",
        "task:read",
        "tasks.read",
        "tasks:reads",
        "workspace.typehead:read",
        "workspace.typeahead:Read",
        "",
        "*",
        "**",
        "default",
        "tasks:\0read",
        "ｔasks:read",
    ];
    for name in near {
        assert_eq!(catalogue.position(name), None, "{name:?}");
        if name != WILDCARD {
            let refused = catalogue.mask(["tasks:read", name]);
            assert_eq!(refused, Err(ScopeError::Unknown { name: name.into() }), "never dropped in silence");
        }
    }
    assert!(catalogue.position("tasks:read").is_some());
}

#[test]
fn malformed_names_are_refused_before_they_are_kept() {
    let mut catalogue = ScopeCatalogue::new();
    let (longest, too_long) = ("x".repeat(SCOPE_BYTES_MAX), "x".repeat(SCOPE_BYTES_MAX + 1));
    for bad in ["", " ", "a b", "a\tb", "a\n", "a\"b", "a\\b", "ü", "\u{7f}", "a\0", &too_long] {
        assert!(matches!(catalogue.add(bad), Err(ScopeError::BadName { .. })), "{bad:?}");
        assert!(matches!(catalogue.alias(bad, WILDCARD), Err(ScopeError::BadName { .. })), "{bad:?}");
    }
    assert_eq!(catalogue, ScopeCatalogue::new());
    // RFC 6749, section 3.3: every other visible character may stand in a scope.
    for good in ["a", "!", "#[]~", "tasks:read", "https://api.example/scope", &longest] {
        assert!(catalogue.add(good).is_ok(), "{good:?}");
    }
}

#[test]
fn catalogues_of_any_width_keep_their_bits() {
    for width in [1, 63, 64, 65, 127, 128, 129, 255, 256] {
        let catalogue = catalogue(width);
        assert_eq!(catalogue.entries().len(), width);
        for number in 0..width {
            let name = format!("thing{number}:read");
            let mask = catalogue.mask([&*name]).expect("known");
            assert_eq!(mask.positions().map(ScopePosition::number).collect::<Vec<u8>>(), [number as u8]);
            assert_eq!(catalogue.names(&mask).collect::<Vec<&str>>(), [&*name], "of {width}");
            assert!((0..=255).all(|other| mask.allows(position(other)) == (usize::from(other) == number)));
        }
        assert_eq!(
            catalogue.names(&ScopeMask::WILDCARD).count(),
            width + 1,
            "the wildcard, and each name it stands for"
        );
    }
}

#[test]
fn a_full_catalogue_takes_no_more_names_but_old_ones_return() {
    let mut catalogue = catalogue(SCOPES_MAX);
    assert_eq!(catalogue.add("one:more"), Err(ScopeError::Full));
    catalogue.retire("thing7:read").expect("it is there");
    assert_eq!(catalogue.add("one:more"), Err(ScopeError::Full), "a withdrawn name's bit is never given away");
    assert_eq!(catalogue.add("thing7:read"), Ok(position(7)));
    assert_eq!(catalogue.add("thing255:read"), Ok(position(255)));
    catalogue.alias("a second name", "thing7:read").expect_err("not a name");
    catalogue.alias("second:name", "thing7:read").expect("aliases take no position");
}

#[test]
fn a_withdrawn_scope_is_unknown_until_it_returns_and_so_are_its_aliases() {
    let mut catalogue = catalogue(3);
    catalogue.alias("old:name", "thing1:read").expect("an alias");
    let granted = catalogue.mask(["thing1:read", "thing2:read"]).expect("known");
    catalogue.retire("thing1:read").expect("it is there");
    for name in ["thing1:read", "old:name"] {
        assert_eq!(catalogue.position(name), None, "{name}");
        assert!(catalogue.mask([name]).is_err(), "{name}");
    }
    assert_eq!(catalogue.names(&granted).collect::<Vec<&str>>(), ["thing2:read"]);
    assert_eq!(catalogue.names(&ScopeMask::WILDCARD).collect::<Vec<&str>>(), ["*", "thing0:read", "thing2:read"]);
    assert!(catalogue.retire("thing1:read").is_err(), "withdrawn already");
    assert_eq!(catalogue.add("thing1:read"), Ok(position(1)));
    for name in ["thing1:read", "old:name"] {
        assert_eq!(catalogue.position(name), Some(position(1)), "{name}");
    }
}

#[test]
fn no_name_ever_means_two_things() {
    let mut catalogue = catalogue(3);
    let taken = |name: &str| Err(ScopeError::AlreadyTaken { name: name.into() });
    catalogue.alias("alias:x", "thing0:read").expect("an alias");
    assert_eq!(catalogue.alias("alias:x", "thing0:read"), Ok(()), "saying it again changes nothing");
    assert_eq!(catalogue.alias("alias:x", "thing1:read"), taken("alias:x"));
    assert_eq!(catalogue.alias("alias:x", WILDCARD), taken("alias:x"));
    assert_eq!(catalogue.alias("thing1:read", "thing2:read"), taken("thing1:read"));
    assert_eq!(catalogue.alias(WILDCARD, "thing2:read"), taken(WILDCARD));
    assert_eq!(catalogue.add("alias:x").map(|_| ()), taken("alias:x"));
    assert_eq!(catalogue.add(WILDCARD).map(|_| ()), taken(WILDCARD));
    assert!(catalogue.retire("alias:x").is_err(), "an alias is not withdrawn by itself");
    assert!(catalogue.retire(WILDCARD).is_err());
    assert!(catalogue.alias("alias:y", "nobody:knows").is_err());
    // An alias of an alias is one of the same scope.
    catalogue.alias("alias:y", "alias:x").expect("an alias");
    assert_eq!(catalogue.position("alias:y"), Some(position(0)));
    // The bug: while its scope was withdrawn, an alias could be taken for another one, and a withdrawn name for an alias.
    catalogue.retire("thing0:read").expect("it is there");
    assert_eq!(catalogue.alias("alias:x", "thing1:read"), taken("alias:x"));
    assert_eq!(catalogue.alias("thing0:read", "thing1:read"), taken("thing0:read"));
    assert_eq!(catalogue.position("alias:x"), None);
}

#[test]
fn sets_behave_like_sets() {
    let (a, b) = (mask(&[0, 63, 64, 255]), mask(&[63, 128, 255]));
    assert_eq!(a.intersection(b), mask(&[63, 255]));
    assert_eq!(a.union(b), mask(&[0, 63, 64, 128, 255]));
    assert_eq!(a.without(b), mask(&[0, 64]));
    assert_eq!((a.len(), ScopeMask::EMPTY.len()), (4, 0));
    assert!(mask(&[63]).is_within(&a) && !a.is_within(&b) && ScopeMask::EMPTY.is_within(&ScopeMask::EMPTY));
    assert!(ScopeMask::EMPTY.is_empty() && !a.is_empty() && !ScopeMask::WILDCARD.is_empty());
    assert_eq!(ScopeMask::from_words(a.words(), false), a);
    assert_eq!(format!("{a:?}"), "{0, 63, 64, 255}");
}

#[test]
fn the_wildcard_is_more_than_all_bits_of_today() {
    let all_bits = mask(&(0..=255).collect::<Vec<u8>>());
    let (wild, some) = (ScopeMask::WILDCARD, mask(&[1, 200]));
    assert!((0..=255).all(|number| wild.allows(position(number))));
    assert!(all_bits.is_within(&wild) && !wild.is_within(&all_bits) && wild.is_within(&wild));
    assert_eq!(wild.intersection(some), some);
    assert_eq!(some.intersection(wild), some);
    assert!(wild.intersection(wild).has_wildcard());
    assert!(some.union(wild).has_wildcard() && !some.union(all_bits).has_wildcard());
    assert_eq!(wild.intersection(ScopeMask::EMPTY), ScopeMask::EMPTY);
    assert!(wild.without(some).has_wildcard(), "single scopes cannot be taken from it");
    assert_eq!(wild.without(wild), ScopeMask::EMPTY);
    assert_eq!(some.without(wild), ScopeMask::EMPTY);
    assert_eq!(wild.positions().count(), 0);
}

#[test]
fn a_wildcard_beside_single_scopes_cuts_like_a_wildcard() {
    let both = mask(&[3]).union(ScopeMask::WILDCARD);
    let some = mask(&[1, 200]);
    assert_eq!(both.intersection(some), some);
    assert_eq!(some.intersection(both), some);
    assert!(both.is_within(&ScopeMask::WILDCARD) && ScopeMask::WILDCARD.is_within(&both));
}

#[test]
fn order_and_repetition_of_names_change_nothing() {
    let catalogue = catalogue(4);
    let once = catalogue.mask(["thing0:read", "thing2:read"]);
    assert_eq!(catalogue.mask(["thing2:read", "thing0:read", "thing2:read"]), once);
    assert_eq!(catalogue.mask([]), Ok(ScopeMask::EMPTY));
}
