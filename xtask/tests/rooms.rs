//! `unsafe` lives in the rooms meant for it.

use std::fs;
use std::path::{Path, PathBuf};

/// Files and folders that may hold `unsafe` code, from the workspace root.
const ROOMS: &[&str] = &[
    "benches/src/mapped.rs",
    "criu-rs/src/sys/",
    "criu-rs/src/transport/libcriu/",
    "criu-sys/examples/libcriu-dump.rs",
    "criu-sys/src/bindings.rs",
    "images/src/map.rs",
    "images/tests/common/mapped.rs",
    "lab/src/filter.rs",
    "lab/src/raw.rs",
];

#[test]
fn unsafe_code_is_where_it_is_meant_to_be() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut strays = Vec::new();
    let mut seen = 0;
    for member in ["benches", "criu-rs", "criu-sys", "examples", "fuzz", "images", "lab", "xtask"] {
        for file in sources(&root.join(member)) {
            let name = file.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            if ROOMS.iter().any(|room| name.starts_with(room)) {
                continue;
            }
            seen += 1;
            let text = fs::read_to_string(&file).unwrap();
            let lines = text.lines().enumerate().filter(|(_, line)| is_unsafe(line));
            strays.extend(lines.map(|(n, line)| format!("{name}:{}: {}", n + 1, line.trim())));
        }
    }
    assert!(seen > 50, "only {seen} files were looked at");
    assert!(strays.is_empty(), "{}", strays.join("\n"));
}

/// Whether a line begins something unsafe, comments aside.
fn is_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let begins = |next: &&str| code.contains(&["unsafe ", next].concat());
    ["{", "fn", "impl", "extern", "trait"].iter().any(begins)
}

/// Every Rust file below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("a readable folder").path());
    paths
        .flat_map(|path| match path.is_dir() {
            true if path.ends_with("target") => Vec::new(),
            true => sources(&path),
            false if path.extension().is_some_and(|e| e == "rs") => vec![path],
            false => Vec::new(),
        })
        .collect()
}
