//! The golden files of every format there ever was are kept: `tests/vectors/index.txt` lists them, and the number of each
//! format is read from its source. A number that is raised without a golden file of the new version fails here, and so
//! does a golden file that was changed or taken away.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tokenscope::domain::TokenDigest;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).into()
}

/// Every file below `tests/vectors`, as the index names it.
fn vectors(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            vectors(&path, found);
        } else {
            let name = path.strip_prefix(root().join("tests/vectors")).unwrap();
            found.insert(name.to_str().unwrap().to_owned());
        }
    }
}

/// What is wrong with the index, if sources say what `source` gives.
fn wrong(source: impl Fn(&str) -> String) -> Vec<String> {
    let text = fs::read_to_string(root().join("tests/vectors/index.txt")).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let mut wrong = Vec::new();
    let mut listed = BTreeSet::from(["index.txt".to_owned()]);
    let golden: Vec<[&str; 4]> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("golden "))
        .map(|line| line.split_whitespace().collect::<Vec<_>>().try_into().expect("four columns"))
        .collect();
    for [format, version, file, sha256] in &golden {
        listed.insert((*file).to_owned());
        match fs::read(root().join("tests/vectors").join(file)) {
            Err(_) => wrong.push(format!("{file}, of version {version} of the {format}, is gone")),
            Ok(bytes) if TokenDigest::of(&bytes).to_hex() != *sha256 => {
                let now = TokenDigest::of(&bytes).to_hex();
                wrong.push(format!(
                    "{file} was changed. What is golden stays; only if lines were added to a vector, put its new \
                     SHA-256 into the index: {now}"
                ));
            }
            Ok(_) => {}
        }
    }
    for line in lines.iter().filter_map(|line| line.strip_prefix("number ")) {
        let (format, rest) = line.split_once(' ').expect("a format");
        let (path, before) = rest.split_once(' ').expect("a source");
        let text = source(path);
        let after: Vec<&str> = text.split(before).skip(1).collect();
        let [after] = after[..] else {
            wrong.push(format!(
                "{path} has {} times {before:?}; the number of the {format} cannot be read",
                after.len()
            ));
            continue;
        };
        let number: u32 = after.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0);
        let kept =
            |version: u32| golden.iter().any(|[of, of_version, ..]| *of == format && of_version.parse() == Ok(version));
        for version in (1..=number).filter(|version| !kept(*version)) {
            wrong.push(format!("the {format} has version {number}, and there is no golden file of version {version}"));
        }
        if number == 0 || kept(number + 1) {
            wrong.push(format!("the {format} has version {number}, which is less than it had"));
        }
    }
    let mut found = BTreeSet::new();
    vectors(&root().join("tests/vectors"), &mut found);
    wrong.extend(found.difference(&listed).map(|file| format!("{file} is not in the index")));
    wrong
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

#[test]
fn every_version_of_every_format_has_its_golden_files_and_they_are_unchanged() {
    let wrong = wrong(read);
    assert!(wrong.is_empty(), "tests/vectors/index.txt: {wrong:#?}");
}

#[test]
fn a_format_whose_number_is_raised_without_a_golden_file_is_found() {
    let index = read("tests/vectors/index.txt");
    let numbers: Vec<&str> = index.lines().filter_map(|line| line.strip_prefix("number ")).collect();
    assert!(numbers.len() >= 6, "{numbers:?}");
    for line in numbers {
        let (format, rest) = line.split_once(' ').unwrap();
        let (of_source, before) = rest.split_once(' ').unwrap();
        let of = format!("golden {format} ");
        let kept = index.lines().filter_map(|line| line.strip_prefix(&of)?.split(' ').next()?.parse::<u32>().ok());
        let number = kept.max().unwrap();
        let next = number + 1;
        let raised = |path: &str| {
            let text = read(path);
            if path == of_source {
                text.replace(&format!("{before}{number}"), &format!("{before}{next}"))
            } else {
                text
            }
        };
        let wrong = wrong(raised);
        let expected = format!("the {format} has version {next}, and there is no golden file of version {next}");
        assert_eq!(wrong, [expected], "{format}");
    }
}
