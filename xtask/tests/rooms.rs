//! Unsafe code is only in the files meant for it.

use std::fs;
use std::path::{Path, PathBuf};

/// Files and folders that may hold `unsafe` code, from the workspace root.
const ROOMS: &[&str] = &[
    "benches/src/mapped.rs",
    "criu-rs/src/sys/",
    "criu-rs/src/transport/libcriu/",
    "criu-sys/examples/libcriu-dump.rs",
    "criu-sys/src/bindings.rs",
    "examples/src/confine/raw.rs",
    "images/src/source/map.rs",
    "images/tests/common/mapped.rs",
    "lab/src/filter.rs",
    "lab/src/lazy.rs",
    "lab/src/oracle/memory.rs",
    "lab/src/raw.rs",
    "lab/src/uffd.rs",
    "plugin/src/calls.rs",
    "plugin/src/descriptor.rs",
    "plugin/src/inject/trace.rs",
    "plugin/src/sys/",
    "plugin/tests/criu/memory.rs",
    "plugin/tests/inject/raw.rs",
];

#[test]
fn unsafe_code_is_where_it_is_meant_to_be() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut strays = Vec::new();
    let mut seen = 0;
    for package in xtask::workspace::packages().unwrap() {
        for file in sources(&root.join(package)) {
            let name = file.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            if ROOMS.iter().any(|room| name.starts_with(room)) {
                continue;
            }
            seen += 1;
            strays.extend(found(&name, &fs::read_to_string(&file).unwrap()));
        }
    }
    assert!(seen > 50, "only {seen} files were looked at");
    assert!(strays.is_empty(), "{}", strays.join("\n"));
}

#[test]
fn unsafe_code_elsewhere_is_found() {
    // In pieces, because this file is looked at, too.
    let text = ["// unsafe ", "{ a() }\nlet a = unsafe ", "{ b() };\nlet unsafety = 1;\n"].concat();
    assert_eq!(found("d.rs", &text), [["d.rs:2: let a = unsafe ", "{ b() };"].concat()]);
}

/// The unsafe lines of a text, with the name of its file.
fn found(name: &str, text: &str) -> Vec<String> {
    let lines = text.lines().enumerate().filter(|(_, line)| is_unsafe(line));
    lines.map(|(n, line)| format!("{name}:{}: {}", n + 1, line.trim())).collect()
}

/// Tells a line with the start of unsafe code outside of comments.
fn is_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let begins = |next: &&str| code.contains(&["unsafe ", next].concat());
    ["{", "fn", "impl", "extern", "trait"].iter().any(begins)
}

/// Returns every Rust file below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.expect("a readable folder").path()) {
        if !path.is_dir() {
            found.extend(Some(path).filter(|path| path.extension().is_some_and(|e| e == "rs")));
        } else if !path.ends_with("target") {
            found.extend(sources(&path));
        }
    }
    found
}
