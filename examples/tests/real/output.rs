//! Output that cannot be written, and directories that are missing.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;

use criu_lab::names;

use crate::lab::{Lab, TestFn, run};

pub const TESTS: &[(&str, TestFn)] = &[
    ("output_to_a_full_device_is_an_error", full),
    ("output_that_nobody_reads_is_no_error", unread),
    ("images_directory_is_made_when_it_is_missing", made),
];

fn full(lab: &Lab) {
    let images = lab.dir("img");
    let target = lab.start(&["count"]);
    let pid = target.pid();
    lab.done(&["dump", "-R", "-t", &pid, "-D", &images]);
    let core = format!("{images}/core-{pid}.img");
    let words: &[&[&str]] = &[
        &["--version"],
        &["--help"],
        &["dump", "--help"],
        &["dump", "--json", "-R", "-t", &pid, "-D", &images],
        &["pre-dump", "--json", "-t", "4194304", "-D", &images],
        &["restore", "--json", "-d", "-D", &images],
        &["check"],
        &["check", "--json"],
        &["preflight", &pid],
        &["preflight", "--images", &images],
        &["inspect", &images],
        &["inspect", "--json", &images],
        &["crit", "show", &core],
        &["crit", "decode", "-i", &core],
        &["crit", "info", &core],
        &["crit", "x", &images, "ps"],
        &["crit", "x", &images, "fds"],
        &["crit", "check", &images],
        &["crit", "search", &images, "."],
        &["links", "--help"],
        &["completions", "bash"],
        &["man"],
    ];
    for words in words {
        let mut command = lab.command(words);
        command.stdout(File::options().write(true).open("/dev/full").unwrap());
        let child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{words:?}: {said}");
        assert!(
            said.contains("cannot write to standard output: No space left"),
            "{words:?}: {said}"
        );
    }
}

/// A reader may have seen enough.
fn unread(lab: &Lab) {
    for words in [&["--help"][..], &["check"], &["man"], &["completions", "bash"]] {
        let mut command = lab.command(words);
        let (reader, writer) = nix::unistd::pipe().unwrap();
        drop(reader);
        command.stdout(writer);
        let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
        assert!(child.wait().unwrap().success(), "{words:?}");
    }
}

fn made(lab: &Lab) {
    let images = lab.path("img");
    let target = lab.start(&["count"]);
    let pid = target.pid();
    // A look changes nothing, and finds nothing wrong.
    lab.done(&["preflight", &pid, "-D", &images]);
    assert!(!names(&lab.dir).contains(&"img".into()));
    lab.done(&["dump", "-R", "-t", &pid, "-D", &images]);
    assert_eq!(fs::metadata(&images).unwrap().permissions().mode() & 0o7777, 0o700);
    assert!(names(&images).contains(&"inventory.img".into()));
    // A level, and no more.
    let deep = lab.path("no/such");
    for word in ["dump", "pre-dump"] {
        lab.run(&[word, "-t", &pid, "-D", &deep])
            .fails(1, &["--images-dir: cannot make", "no/such"]);
    }
    lab.run(&["page-server", "-D", &deep]).fails(1, &["--images-dir: cannot make"]);
    lab.run(&["restore", "-D", &lab.path("none")]).fails(1, &["--images-dir: cannot open"]);
    assert!(!names(&lab.dir).contains(&"none".into()));
    let file = lab.path("file");
    fs::write(&file, "").unwrap();
    run(lab.command(&["dump", "-t", &pid, "-D", &file])).fails(1, &["is not a directory"]);
    target.goes_on();
}
