//! Command lines that nobody should write: they are refused, with a reason, before anything is
//! done.

use crate::lab::{Lab, TestFn, run};
use criu_lab::names;

pub const TESTS: &[(&str, TestFn)] = &[
    ("nonsense_is_refused_with_a_reason", nonsense),
    ("a_missing_criu_is_said", no_criu),
    ("nothing_to_do", nothing),
];

fn nonsense(lab: &Lab) {
    let file = lab.path("file");
    std::fs::write(&file, "").unwrap();
    let before = names(&lab.dir);
    for (words, said) in [
        (&["frob"][..], "unknown word `frob`"),
        (&["-D", "x"], "a word is missing"),
        (&["--frob", "dump"], "unknown option `--frob`"),
        (&["dump", "--frob"], "unknown option `--frob`"),
        (&["dump", "-q"], "unknown option `-q`"),
        (&["dump"], "--tree <PID>"),
        (&["dump", "-t"], "-t needs a value"),
        (&["dump", "--tree"], "--tree needs a value"),
        (&["dump", "-t", ""], "a process id must be a number from 1"),
        (&["dump", "-t", "abc"], "a process id must be a number from 1"),
        (&["dump", "-t", "0"], "a process id must be a number from 1"),
        (&["dump", "-t", "-7"], "a process id must be a number from 1"),
        (&["dump", "-t", "99999999999999"], "a process id must be a number from 1"),
        (&["dump", "-t", "1", "2"], "unexpected `2`"),
        (&["dump", "-t", "1", "-D", "/no/such"], "--images-dir: cannot make /no/such"),
        (&["dump", "-t", "1", "-D", &file], "is not a directory"),
        (&["dump", "-t", "1", "-W", "/no/such"], "--work-dir: cannot open /no/such"),
        (&["dump", "-t", "1", "--leave-running=yes"], "--leave-running takes no value"),
        (&["dump", "-t", "1", "--exec-cmd", "--", "x"], "is an option of restore, not of dump"),
        (&["dump", "-t", "1", "--sessions", "2"], "is an option of page-server, not of dump"),
        (&["restore", "--capture", "1G"], "is an option of dump, not of restore"),
        (&["pre-dump", "-t", "1", "--capture", "1G"], "is an option of dump, not of pre-dump"),
        (
            &["pre-dump", "-t", "1", "--stream"],
            "is an option of dump, restore, start, not of pre-dump",
        ),
        (&["check", "--overwrite"], "is an option of dump, pre-dump, not of check"),
        (&["check", "--ms"], "--ms is gone from CRIU"),
        (&["dump", "-t", "1", "--ghost-limit", "4G"], "less than 4G"),
        (&["dump", "-t", "1", "--ghost-limit", "many"], "expected a number"),
        (&["dump", "-t", "1", "--timeout", "-1"], "whole number of seconds"),
        (&["dump", "-t", "1", "--deadline", "never"], "a number of seconds"),
        (&["dump", "-t", "1", "--external", "foo"], "TYPE[ID]"),
        (&["dump", "-t", "1", "--external", "mnt[/a]"], "a value after the bracket"),
        (&["dump", "-t", "1", "--network-lock", "x"], "iptables, nftables or skip"),
        (&["dump", "-t", "1", "--manage-cgroups=x"], "one of ignore, none"),
        (&["dump", "-t", "1", "--cpu-cap=sse"], "expected some of cpu, fpu"),
        (&["dump", "-t", "1", "--lsm-profile", "x"], "selinux:LABEL or apparmor:PROFILE"),
        (&["dump", "-t", "1", "--empty-ns", "pid"], "only net can be made empty"),
        (&["dump", "-t", "1", "--file-validation", "x"], "filesize or buildid"),
        (&["dump", "-t", "1", "--image-io-mode", "x"], "writeback or direct"),
        (&["dump", "-t", "1", "--page-server"], "needs --address and --port"),
        (&["dump", "-t", "1", "--relay", "--port", "9"], "--relay needs --page-server"),
        (&["dump", "-t", "1", "--port", "70000", "--page-server"], "70000"),
        (&["dump", "-t", "1", "--page-server", "--ps-socket", "99"], "Bad file descriptor"),
        (&["dump", "-t", "1", "--lazy-pages"], "--lazy-pages needs --port"),
        (&["dump", "-t", "1", "--lazy-pages", "--status-fd", "99"], "--status-fd 99"),
        (&["pre-dump", "-t", "1", "--pre-dump-mode", "x"], "splice or read"),
        (&["restore", "word"], "unexpected `word`"),
        (&["restore", "--join-ns", "pid:1"], "one of ipc"),
        (&["restore", "--veth-pair", "x"], "INNER=OUTER"),
        (&["restore", "--inherit-fd", "3:x"], "fd[NUMBER]:KEY"),
        (&["restore", "--exec-cmd"], "needs a command after --"),
        (&["restore", "--decompress-threads", "2000"], "2000"),
        (&["restore", "-D", "/no/such"], "--images-dir: cannot open /no/such"),
    ] {
        let ran = lab.coded(words);
        assert!(ran.code == Some(2) && ran.err.contains(said), "{words:?}: {ran:?}");
        assert!(ran.out.is_empty() && ran.err.starts_with("criu-rs"), "{words:?}: {ran:?}");
        assert_eq!(names(&lab.dir), before, "{words:?} leaves something behind");
        assert_eq!(lab.run(words).code, Some(1), "{words:?}: not as criu");
    }
}

fn no_criu(lab: &Lab) {
    let hint = "do: install the package criu";
    for words in [&["check"][..], &["dump", "-t", "1"], &["restore"], &["cpuinfo", "check"]] {
        let ran = run(lab.coded_command(words).env_remove("CRIU").env("PATH", "/nowhere"));
        ran.fails(3, &["there is no criu in PATH", hint]);
        let ran = run(lab.command(words).env_remove("CRIU").env("PATH", "/nowhere"));
        ran.fails(1, &["there is no criu in PATH", hint]);
    }
    for words in [&["check", "--criu", "/no/such"][..], &["restore", "--criu", "/no/such"]] {
        lab.coded(words).fails(3, &["cannot start /no/such", hint]);
    }
    let said = lab.coded(&["restore", "--criu", "/no/such", "--json"]);
    assert_eq!((said.code, said.json()["outcome"].as_str()), (Some(3), Some("no criu")));
    // A script of criu's may name what it runs in the variable CRIU.
    let own = env!("CARGO_BIN_EXE_criu-rs");
    run(lab.command(&["service"]).env("CRIU", own).env("PATH", "/nowhere"))
        .fails(1, &["there is no criu in PATH"]);
    let itself = ["check", "--criu", own];
    lab.coded(&itself).fails(2, &["this is criu-rs itself"]);
    // Two copies would become each other for ever.
    let copies = [lab.dir("a"), lab.dir("b")];
    for copy in &copies {
        std::fs::copy(own, format!("{copy}/criu")).unwrap();
    }
    let path = copies.join(":");
    for words in [&["cpuinfo", "check"][..], &["--version"], &["check", "--feature", "uffd"]] {
        run(lab.command(words).env_remove("CRIU").env("PATH", &path))
            .fails(1, &["/criu is criu-rs itself"]);
    }
    run(lab.command(&["check"]).env_remove("CRIU").env("PATH", &path))
        .fails(1, &["/criu is criu-rs itself"]);
    // The program itself under CRIU's name is not CRIU.
    let link = lab.dir("bin") + "/criu";
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_criu-rs"), &link).unwrap();
    let path = lab.path("bin");
    let ran = run(lab.program(&link, &["service"]).env_remove("CRIU").env("PATH", path));
    ran.fails(1, &["there is no criu in PATH"]);
    // Nor is anything else.
    lab.run(&["restore", "--criu", "/bin/true"]).fails(1, &["CRIU ended without an answer"]);
}

fn nothing(lab: &Lab) {
    let ran = lab.run(&[]);
    ran.fails(1, &["Usage: criu-rs WORD"]);
    let ran = lab.done(&["--help"]);
    assert!(ran.out.contains("page-server") && ran.out.contains("Exit status"), "{ran:?}");
    for word in ["dump", "pre-dump", "restore", "check"] {
        let ran = lab.done(&[word, "--help"]);
        assert!(ran.out.contains("Examples:") && ran.out.contains("Exit status:"), "{ran:?}");
        let longest = ran.out.lines().max_by_key(|line| line.len()).unwrap();
        assert!(longest.len() <= 110, "{longest}");
        assert_eq!(lab.done(&[word, "-h"]).out, ran.out);
    }
}
