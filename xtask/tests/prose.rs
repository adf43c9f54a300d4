//! Documentation opens with a noun or a verb, and comments keep to 100 columns.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// First words of documentation that leave a reader without a subject.
const OPENERS: &[&str] = &[
    "all that",
    "as",
    "how",
    "if",
    "it",
    "its",
    "like",
    "none",
    "nothing",
    "one",
    "ones",
    "something",
    "the other",
    "the same",
    "those",
    "what",
    "when",
    "where",
    "whether",
];

/// Files that are made of others, whose documentation is written there.
const GENERATED: &[&str] = &[
    "cri/src/proto/messages.rs",
    "criu-rs/src/rpc/proto.rs",
    "criu-sys/src/bindings.rs",
    "images/src/proto/messages.rs",
    "images/src/proto/tables.rs",
];

/// The most columns of a line with a comment.
const COLUMNS: usize = 100;

#[test]
fn documentation_opens_with_a_noun_or_a_verb() {
    let mut bad = Vec::new();
    let mut seen = 0;
    for (name, text) in files(&["rs"]) {
        if !name.contains("/tests/") && !GENERATED.contains(&name.as_str()) {
            let openings = openings(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            seen += openings.len();
            let banned = openings.iter().filter(|(_, line)| is_banned(line));
            bad.extend(banned.map(|(number, line)| format!("{name}:{number}: {line}")));
        }
    }
    assert!(seen > 1000, "only {seen} comments were looked at");
    assert!(bad.is_empty(), "{} openings are banned:\n{}", bad.len(), bad.join("\n"));
}

#[test]
fn comments_keep_to_100_columns() {
    let mut long = Vec::new();
    for (name, text) in files(&["proto", "rs"]) {
        let lines = long_comments(&text).into_iter();
        long.extend(lines.map(|(number, width)| format!("{name}:{number}: {width} columns")));
    }
    assert!(long.is_empty(), "{} comments are too long:\n{}", long.len(), long.join("\n"));
}

#[test]
fn banned_openings_are_found() {
    let found = |text: &str| {
        let openings = openings(text).unwrap();
        openings.into_iter().filter(|(_, line)| is_banned(line)).map(|(line, _)| line).collect()
    };
    let banned: [(&str, &[usize]); 11] = [
        ("//! What is here.", &[1]),
        ("/// Whether it is.\nfn f() {}", &[1]),
        ("#[doc = \"Its name.\"] fn f() {}", &[1]),
        ("mod a {\n    /// The same, once more.\n    struct A;\n}", &[2]),
        (
            "struct A {\n    /// One of two.\n    pub a: u8,\n    /// It's here.\n    b: u8,\n}",
            &[2, 4],
        ),
        ("enum A {\n    /// None, or more.\n    B,\n}", &[2]),
        ("table! {\n    /// Where to.\n    a: u32;\n}", &[2]),
        ("macro_rules! m { () => {\n/// all that is left.\nstruct A;\n} }", &[2]),
        ("/// The size.\n/// If it is known.\n///\n/// When not, zero.\nfn f() {}", &[]),
        (
            "#[cfg(test)]\nmod tests {\n    /// What is here.\n    fn f() {}\n}\n/// How.\nfn g() {}",
            &[6],
        ),
        (
            "/// `None` if there is nothing.\n/// Ones.\nfn f() {}\n// What for?\n/// One-shot.\nfn g() {}",
            &[],
        ),
    ];
    for (text, lines) in banned {
        let found: Vec<usize> = found(text);
        assert_eq!(found, lines, "{text}");
    }
}

#[test]
fn long_comments_are_found() {
    let long = "x".repeat(COLUMNS);
    let cases = [
        (format!("// {long}"), true),
        (format!("    /// {long}"), true),
        (format!("let a = 1; // {long}"), true),
        (format!("let a = \"http://{long}\";"), false),
        (format!("let a = \"a // {long}\";"), false),
        (format!("// {}", &long[3..]), false),
        (format!("// {}", "é".repeat(COLUMNS - 3)), false),
    ];
    for (text, is_long) in cases {
        assert_eq!(long_comments(&text).len(), usize::from(is_long), "{text}");
    }
}

/// The first line of each block of documentation outside of tests, with its number.
fn openings(text: &str) -> Result<Vec<(usize, String)>, proc_macro2::LexError> {
    let mut found = Vec::new();
    collect(text.parse()?, &mut found);
    Ok(found)
}

fn collect(tokens: TokenStream, found: &mut Vec<(usize, String)>) {
    let (mut after_hash, mut in_block, mut is_skipped) = (false, false, false);
    for token in tokens {
        match &token {
            TokenTree::Punct(punct) if punct.as_char() == '#' => {
                after_hash = true;
                continue;
            }
            TokenTree::Punct(punct) if punct.as_char() == '!' && after_hash => continue,
            TokenTree::Group(group) if after_hash && group.delimiter() == Delimiter::Bracket => {
                after_hash = false;
                is_skipped |= is_for_tests(group);
                if let Some(line) = documentation(group) {
                    if !in_block && !is_skipped {
                        found.push((group.span_open().start().line, line));
                    }
                    in_block = true;
                }
                continue;
            }
            // The end of an item that is only there in tests.
            TokenTree::Group(group) if is_skipped => {
                is_skipped = group.delimiter() != Delimiter::Brace;
            }
            TokenTree::Punct(punct) if is_skipped => is_skipped = punct.as_char() != ';',
            TokenTree::Group(group) => collect(group.stream(), found),
            _ => {}
        }
        (after_hash, in_block) = (false, false);
    }
}

/// The first line in an attribute `doc = "..."`, which a comment is, too.
fn documentation(attribute: &Group) -> Option<String> {
    let tokens: Vec<TokenTree> = attribute.stream().into_iter().collect();
    match &tokens[..] {
        [TokenTree::Ident(name), TokenTree::Punct(_), TokenTree::Literal(text)]
            if name == "doc" =>
        {
            let text = text.to_string();
            let inside = text.split_once('"')?.1.trim_end_matches(['"', '#']);
            let first = inside.split("\\n").map(str::trim).find(|line| !line.is_empty())?;
            Some(first.replace("\\\"", "\""))
        }
        _ => None,
    }
}

fn is_for_tests(attribute: &Group) -> bool {
    matches!(attribute.stream().to_string().replace(' ', "").as_str(), "cfg(test)" | "test")
}

/// Tells a line that begins with one of [`OPENERS`].
fn is_banned(line: &str) -> bool {
    let words: Vec<String> = line
        .split_whitespace()
        .map(|word| word.trim_end_matches([',', '.', ':', ';', '?']).to_lowercase())
        .map(|word| word.trim_end_matches("'s").to_owned())
        .collect();
    OPENERS.iter().any(|opener| {
        let opener: Vec<&str> = opener.split(' ').collect();
        words.len() >= opener.len()
            && words.iter().zip(&opener).all(|(word, banned)| word == banned)
    })
}

/// Lines with a comment and more than [`COLUMNS`] columns: number and width.
fn long_comments(text: &str) -> Vec<(usize, usize)> {
    let has_comment = |line: &str| {
        let before = line.split_once("//").map(|(before, _)| before);
        before.is_some_and(|before| before.matches('"').count() % 2 == 0)
    };
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    let long = lines.filter(|(_, line)| line.chars().count() > COLUMNS && has_comment(line));
    long.map(|(number, line)| (number, line.chars().count())).collect()
}

/// Every file of the workspace with one of the extensions, by its path from the root.
fn files(extensions: &[&str]) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut paths = Vec::new();
    list(root, extensions, &mut paths);
    paths.sort();
    let read = |path: PathBuf| {
        let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        (name, text)
    };
    paths.into_iter().map(read).collect()
}

fn list(folder: &Path, extensions: &[&str], found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') || name == "target" {
            continue;
        }
        if path.is_dir() {
            list(&path, extensions, found);
        } else if path.extension().is_some_and(|e| extensions.iter().any(|wanted| e == *wanted)) {
            found.push(path);
        }
    }
}
