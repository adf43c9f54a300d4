//! `preflight`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use crate::lab::{Lab, TestFn, run};
use crate::links::link;

pub const TESTS: &[(&str, TestFn)] = &[
    ("preflight_says_that_a_dump_will_work", works),
    ("preflight_teaches_what_a_dump_needs", teaches),
    ("preflight_as_json", as_json),
    ("preflight_of_images", images),
    ("preflight_wants_a_process_or_images", usage),
    ("preflight_without_root", without_root),
];

fn works(lab: &Lab) {
    let target = lab.start(&["count"]);
    let pid = target.pid.to_string();
    let ran = lab.done(&["preflight", &pid]);
    assert!(ran.out.starts_with("the dump will work\n1 process, "), "{ran:?}");
    // A program of its own; no colour, which is for terminals.
    let own = run(lab.program(link(lab, "preflight"), &["-t", &pid]));
    assert_eq!(own.code, Some(0), "{own:?}");
    assert!(!own.out.contains('\u{1b}'), "{own:?}");
}

fn teaches(lab: &Lab) {
    let target = lab.start(&["lock"]);
    let pid = target.pid.to_string();
    let ran = lab.run(&["preflight", &pid]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for said in [
        "the dump will work with one more option",
        "needs: a process holds a file lock",
        "a flock lock",
        "do: add --file-locks, on dump and restore",
        "\nadd: --file-locks",
    ] {
        assert!(ran.out.contains(said), "no {said}: {ran:?}");
    }
    // It means what it says.
    lab.done(&["preflight", &pid, "--file-locks"]);
    let images = lab.dir("images");
    lab.done(&["dump", "-t", &pid, "-D", &images, "--file-locks", "-R"]);
    // A script for dump runs with the word changed.
    lab.done(&["preflight", "-t", &pid, "-D", &images, "-l"]);
    let again = lab.run(&["preflight", "-t", &pid, "-D", &images, "-l", "--no-overwrite"]);
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.out.contains("add: --overwrite"), "{again:?}");
}

fn as_json(lab: &Lab) {
    let target = lab.start(&["lock"]);
    let pid = target.pid.to_string();
    let said = lab.run(&["preflight", &pid, "--json"]).json();
    assert_eq!(
        (said["outcome"].as_str(), said["program"].as_str()),
        (Some("fails"), Some("preflight"))
    );
    assert_eq!(said["will_work"], false);
    assert_eq!(said["is_possible"], true);
    assert_eq!(said["options"][0]["option"], "--file-locks");
    assert_eq!(said["options"][0]["safe"], true);
    assert_eq!(said["options"][0]["on_restore"], true);
    let finding = &said["findings"][0];
    assert_eq!(finding["cause"], "FileLocks");
    assert_eq!(finding["severity"], "needs");
    assert_eq!(finding["pid"], target.pid.as_raw());
    assert!(said["freeze_us"][0].as_u64() < said["freeze_us"][1].as_u64());
    let said = lab.done(&["preflight", &pid, "--json", "-l"]).json();
    assert_eq!(said["outcome"], "works");
}

fn images(lab: &Lab) {
    let target = lab.start(&["count"]);
    let (pid, images) = (target.pid.to_string(), lab.dir("images"));
    lab.done(&["dump", "-t", &pid, "-D", &images, "-R"]);
    let ran = lab.run(&["preflight", "--images", &images]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.out.starts_with("the restore will fail\n"), "{ran:?}");
    assert!(ran.out.contains("a process id of the tree is in use"), "{ran:?}");
    drop(target);
    for option in ["--images", "-D"] {
        let ran = lab.done(&["preflight", option, &images]);
        assert!(ran.out.starts_with("the restore will work\n"), "{ran:?}");
    }
}

fn usage(lab: &Lab) {
    for words in [
        &["preflight"][..],
        &["preflight", "x"],
        &["preflight", "1", "--frob"],
        &["preflight", "1", "--images", "."],
        &["preflight", "-D", ".", "--images", "."],
    ] {
        let ran = lab.run(words);
        assert_eq!(ran.code, Some(2), "{words:?}: {ran:?}");
    }
}

/// Preflight and dump of an unprivileged user agree.
fn without_root(lab: &Lab) {
    let nobody = |command: &mut std::process::Command| {
        command.uid(NOBODY).gid(NOBODY);
    };
    let everybody = fs::Permissions::from_mode(0o777);
    fs::set_permissions(&lab.dir, everybody.clone()).unwrap();
    let ours = lab.start(&["count"]);
    // Both count into it.
    fs::set_permissions(lab.path("count"), fs::Permissions::from_mode(0o666)).unwrap();
    let theirs = lab.start_with(&["count"], |command| {
        nobody(command);
        command
    });
    let with = "--inh-caps=-all,+checkpoint_restore,+sys_ptrace";
    let ambient = "--ambient-caps=-all,+checkpoint_restore,+sys_ptrace";
    let (reuid, regid) = (format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"));
    let base = [reuid.as_str(), regid.as_str(), "--clear-groups"];
    assert!(fs::read_link(format!("/proc/{}/exe", theirs.pid)).is_ok(), "it runs");
    for (target, capable, unprivileged) in [
        (&ours, false, false),
        (&theirs, false, false),
        (&theirs, false, true),
        (&theirs, true, false),
        (&theirs, true, true),
        (&ours, true, true),
    ] {
        let pid = target.pid.to_string();
        let images = lab.dir(&format!("images-{}-{capable}-{unprivileged}", target.pid));
        fs::set_permissions(&images, everybody.clone()).unwrap();
        let caps: &[&str] = if capable { &[with, ambient] } else { &["--inh-caps=-all"] };
        let program = env!("CARGO_BIN_EXE_criu-rs");
        let option: &[&str] = if unprivileged { &["--unprivileged"] } else { &[] };
        let as_nobody = |words: &[&str]| {
            let words = [&base[..], caps, &[program], words, &["-t", &pid, "-D", &images], option];
            run(lab.program("setpriv", &words.concat()).current_dir("/"))
        };
        let look = as_nobody(&["preflight"]);
        let dump = as_nobody(&["dump", "-R"]);
        let is_theirs = target.pid == theirs.pid;
        assert_eq!(look.out.contains("4 open files"), is_theirs, "{look:?}");
        assert_eq!(look.out.contains("are not measured"), !is_theirs, "{look:?}");
        assert_eq!(look.code, dump.code, "{capable} {unprivileged}: {look:?}\n{dump:?}");
        if let Some((_, cause)) = dump.err.split_once("cause: ") {
            let cause = cause.lines().next().unwrap();
            // Of a call that the kernel refused CRIU does not tell why. The look does.
            if cause.starts_with("the kernel does not permit") {
                continue;
            }
            assert!(look.out.contains(cause), "{capable} {unprivileged}: {look:?}\n{dump:?}");
        }
    }
}

const NOBODY: u32 = 65534;
