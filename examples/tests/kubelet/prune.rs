//! `kubelet prune`.

use std::fs;
use std::os::unix::fs::symlink;

use criu_lab::checkpoints::Checkpoints;

use crate::{json, run, said, text};

/// A directory with three checkpoints of a container, one of another, and a text.
fn place(name: &str) -> Checkpoints {
    let place = Checkpoints::new(name);
    let directory = place.directory();
    for hour in 1..=3 {
        place.archive(&format!("{hour}.tar"), "ns/web/app", hour, 10);
    }
    place.archive("db.tar", "ns/db/app", 1, 10);
    fs::write(directory.join("notes.tar"), "text").unwrap();
    place
}

#[test]
fn nothing_is_deleted_without_the_word_for_it() {
    let place = place("listed");
    let directory = place.directory();
    let args = ["prune", text(&directory), "--young", "0", "--keep", "1"];
    let done = run(&args);
    assert!(done.status.success(), "{done:?}");
    assert!(said(&done).contains("2 files would go, "), "{done:?}");
    let table = String::from_utf8(done.stdout).unwrap();
    let goes = |name: &str| {
        let line = table.lines().find(|line| line.ends_with(name)).unwrap();
        (line.split(' ').next().unwrap(), line.contains("too many of the container"))
    };
    assert_eq!(goes(" 1.tar"), ("goes", true), "{table}");
    assert_eq!(goes(" 3.tar"), ("stays", false), "{table}");
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 5);
    // All of them are of the last 5 minutes.
    let done = run(&["prune", text(&directory), "--keep", "0", "--apply"]);
    assert!(said(&done).contains("0 files deleted"), "{done:?}");
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 5);
    let done = run(&["prune", text(&directory), "--apply"]);
    assert_eq!(done.status.code(), Some(2));
    assert!(said(&done).contains("--apply needs a rule"), "{done:?}");
    let done = run(&["prune", text(&directory)]);
    assert!(said(&done).contains("there is no rule, and nothing would go"), "{done:?}");
    // A name makes no rows, and steers no terminal.
    fs::rename(directory.join("1.tar"), directory.join("1.tar\nkept  \x1b[1A\x1b[8m2.tar"))
        .unwrap();
    let table = String::from_utf8(run(&["prune", text(&directory)]).stdout).unwrap();
    assert_eq!(table.lines().count(), 6, "{table}");
    assert!(table.contains(" 1.tar\\nkept  \\u{1b}[1A\\u{1b}[8m2.tar\n"), "{table}");
}

#[test]
fn rules_delete_old_checkpoints_and_nothing_else() {
    let place = place("applied");
    let directory = place.directory();
    fs::write(directory.join("1.tar.keep"), "").unwrap();
    let outside = place.place().join("outside.tar");
    fs::rename(directory.join("db.tar"), &outside).unwrap();
    symlink(&outside, directory.join("db.tar")).unwrap();
    let rules = ["--young", "0", "--keep", "pod=1", "--apply", "--json"];
    let done = run(&[&["prune", text(&directory)], &rules[..]].concat());
    let found = json(&done);
    assert_eq!((&found["outcome"], &found["applied"]), (&"done".into(), &true.into()));
    let outcome = |name: &str| {
        let files = found["files"].as_array().unwrap();
        let file = files.iter().find(|file| file["name"] == name).unwrap();
        (file["file"].as_str().unwrap(), file["reason"].as_str().unwrap())
    };
    assert_eq!(outcome("1.tar"), ("stays", "kept by a .keep mark"));
    assert_eq!(outcome("2.tar"), ("deleted", "too many of the pod"));
    assert_eq!(outcome("3.tar"), ("stays", "kept"));
    assert_eq!(outcome("db.tar"), ("stays", "is a link"));
    assert_eq!(outcome("notes.tar").0, "stays");
    let mut left: Vec<String> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort_unstable();
    assert_eq!(left, ["1.tar", "1.tar.keep", "3.tar", "db.tar", "notes.tar"]);
    assert!(outside.exists());

    // Pods of the node, by their directories.
    let pods = place.place().join("pods");
    let orphans = format!("--orphans={}", pods.display());
    let done = run(&["prune", text(&directory), &orphans]);
    assert_eq!(done.status.code(), Some(1));
    assert!(said(&done).contains("cannot read the node's pods"), "{done:?}");
    fs::create_dir_all(pods.join("uid-db")).unwrap();
    let done = run(&["prune", text(&directory), &orphans, "--young", "0", "--apply"]);
    assert!(said(&done).contains("1 file deleted"), "{done:?}");
    assert!(!directory.join("3.tar").exists());
    let done = run(&["prune", text(&place.place().join("missing")), "--keep", "1"]);
    assert_eq!(done.status.code(), Some(1));
    assert!(said(&done).contains("missing: No such file"), "{done:?}");
}
