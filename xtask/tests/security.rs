//! The pages on security say what is there: tests that they name exist, and each bound has one.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_test_that_is_named_exists() {
    let known = tests();
    let mut seen = 0;
    let mut missing = Vec::new();
    for page in PAGES {
        for name in named(&read(page)) {
            seen += 1;
            if !known.contains(&name) {
                missing.push(format!("{page}: {name}"));
            }
        }
    }
    assert!(seen > 120, "only {seen} tests are named");
    assert!(missing.is_empty(), "no such tests:\n{}", missing.join("\n"));
}

#[test]
fn every_row_of_an_invariant_says_who_reaches_what() {
    let text = read("SECURITY.md");
    let section = text.split("## Invariants").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let mut tables = 0;
    for table in section.split("\n### ").skip(1) {
        tables += 1;
        let (title, rows) = table.split_once('\n').unwrap();
        for word in ["reached by", "read", "write", "wait for", "spend"] {
            assert!(rows.contains(&format!("\n| {word} | ")), "{title} lacks `{word}`");
        }
        assert!(!named(rows).is_empty(), "{title} names no test");
    }
    assert!(tables > 8, "only {tables} entry points");
}

#[test]
fn every_bound_has_a_test() {
    let text = read("docs/limits.md");
    let with_test = text.split("## Tests of the limits").nth(1).unwrap();
    let mut seen = 0;
    for file in ["archive/src/bounds.rs", "images/src/bounds.rs", "criu-rs/src/bounds.rs"] {
        for bound in bounds(&read(file)) {
            seen += 1;
            let row = with_test.lines().find(|line| line.contains(&format!("`{bound}`")));
            let row = row.unwrap_or_else(|| panic!("docs/limits.md names no test of {bound}"));
            assert!(!named(row).is_empty(), "docs/limits.md names no test of {bound}");
        }
    }
    assert!(seen > 10, "only {seen} bounds");
    let fields = read("criu-rs/src/pages/limits.rs");
    let fields: Vec<&str> = fields
        .lines()
        .filter_map(|line| line.strip_prefix("    pub ")?.split_once(':'))
        .map(|(name, _)| name)
        .collect();
    assert!(fields.len() > 5, "only {fields:?}");
    for field in fields {
        let row = text.lines().find(|line| line.starts_with(&format!("| `{field}` | ")));
        assert!(row.is_some_and(|row| !named(row).is_empty()), "ServerLimits::{field}");
    }
}

#[test]
fn files_that_are_named_exist() {
    for page in PAGES {
        let text = read(page);
        let files = text.split('`').skip(1).step_by(2).filter(|word| word.ends_with(".rs"));
        for file in files {
            assert!(root().join(file).exists(), "{page} names {file}");
        }
    }
}

#[test]
fn names_of_tests_are_told_from_other_words() {
    let text = "`a_test_of_mine`, `IMAGE`, `exec_cmd`, `pages-*.img` and `b_is_in_c`\n";
    assert_eq!(named(text), ["a_test_of_mine", "b_is_in_c"]);
    let source = "fn a_fact_is_one() {}\n&[(\"b_fact_is_two\", x)];\n{ name: \"c_fact\" }\n\
                  \"d_fact\",\nnot(\"this_is_none\")\n";
    let found: Vec<String> = found(source).collect();
    assert_eq!(found, ["a_fact_is_one", "b_fact_is_two", "c_fact", "d_fact"]);
}

/// The names of tests in a text. Names of options and functions have fewer underscores, apart from
/// the names of containers' tests.
fn named(text: &str) -> Vec<String> {
    let words = text.split('`').skip(1).step_by(2);
    let is_name = |word: &&str| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        word.bytes().all(plain) && (word.matches('_').count() > 1 || word.starts_with("oci_"))
    };
    words.filter(is_name).map(str::to_owned).collect()
}

/// The names of all tests, and of the functions that tests are made of.
fn tests() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for package in xtask::workspace::packages().unwrap() {
        for file in sources(&root().join(package)) {
            all.extend(found(&fs::read_to_string(file).unwrap()));
        }
    }
    all
}

/// The names that a source gives to functions and to rows of a table of tests.
fn found(source: &str) -> impl Iterator<Item = String> {
    let name = |rest: &str| {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        rest.split(|c| !is_part(c)).next().unwrap_or_default().to_owned()
    };
    source.lines().flat_map(move |line| {
        let line = line.trim_start();
        let function = line.trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        let function = function.strip_prefix("fn ");
        let rows = line.split("(\"").skip(1).filter(|rest| rest.contains("\", "));
        let case = line.split_once("name: \"").map(|(_, rest)| rest);
        // A row over several lines.
        let alone = line.strip_prefix('"').filter(|line| line.ends_with("\","));
        function.into_iter().chain(rows).chain(case).chain(alone).map(name).collect::<Vec<_>>()
    })
}

/// The names of the bounds in a source.
fn bounds(source: &str) -> Vec<String> {
    let names = source.lines().filter_map(|line| line.strip_prefix("pub static ")?.split_once(':'));
    names.filter(|(_, rest)| rest.starts_with(" Bound ")).map(|(name, _)| name.to_owned()).collect()
}

/// Returns every Rust file below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

fn read(page: &str) -> String {
    fs::read_to_string(root().join(page)).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

const PAGES: &[&str] = &["SECURITY.md", "docs/limits.md"];
