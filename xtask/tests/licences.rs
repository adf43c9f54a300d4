//! Every dependency has a licence of `deny.toml`, and is from the registry.
//!
//! `cargo xtask ci` also runs cargo-deny, which checks advisories and duplicates.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The licences that `deny.toml` allows.
fn allowed() -> Vec<String> {
    let text = std::fs::read_to_string(root().join("deny.toml")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("allow = [")).unwrap();
    let names = line.trim_end_matches(']').split(',');
    names.map(|name| name.trim().trim_matches('"').to_owned()).collect()
}

/// Tells if an SPDX expression can be met with allowed licences.
fn is_met(expression: &str, allowed: &[String]) -> bool {
    let expression = expression.replace('/', " OR ").replace(['(', ')'], " ");
    // No dependency has AND inside of OR in parentheses, which this does not understand.
    let met = |name: &str| allowed.iter().any(|allowed| allowed == name.trim());
    expression.split(" AND ").all(|part| part.split(" OR ").any(met))
}

#[test]
fn expressions_are_understood() {
    let allowed = vec!["MIT".to_owned(), "Zlib".to_owned(), "Unicode-3.0".to_owned()];
    for good in ["MIT", "MIT OR Apache-2.0", "GPL-2.0/MIT", "(MIT OR Apache-2.0) AND Unicode-3.0"] {
        assert!(is_met(good, &allowed), "{good}");
    }
    for bad in ["", "GPL-2.0", "MIT AND GPL-2.0", "Apache-2.0 OR GPL-2.0"] {
        assert!(!is_met(bad, &allowed), "{bad}");
    }
}

#[test]
fn dependencies_have_allowed_licences_and_sources() {
    let allowed = allowed();
    let mut seen = 0;
    // The licence of libFuzzer, which is only in programs that nobody ships.
    for (folder, more) in [("", None), ("fuzz", Some("NCSA"))] {
        let allowed: Vec<String> = allowed.iter().cloned().chain(more.map(str::to_owned)).collect();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["tree", "--workspace", "--all-features", "--locked", "--prefix", "none"]);
        let said =
            cargo.args(["--format", "{p}|{l}"]).current_dir(root().join(folder)).output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        for line in String::from_utf8(said.stdout).unwrap().lines() {
            let line = line.trim_end_matches(" (*)");
            let Some((package, licence)) = line.split_once('|') else { continue };
            let own = format!("({}", root().display());
            if package.contains(&own) {
                continue;
            }
            // A package that is not from the registry names its source.
            let from = package.split_whitespace().nth(2).filter(|word| word.contains("://"));
            assert_eq!(from, None, "{package}");
            assert!(is_met(licence, &allowed), "{package} has the licence {licence}");
            seen += 1;
        }
    }
    assert!(seen > 200, "only {seen} were looked at");
}
