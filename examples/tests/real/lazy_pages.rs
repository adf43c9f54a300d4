//! The word `lazy-pages`, in place of CRIU's.

use std::fs;
use std::process::{Child, Stdio};

use criu_lab::process::{self, has_ended, send};
use criu_lab::{raw, soon};
use nix::sys::signal::Signal;

use crate::lab::{Lab, Target, TestFn, run};

pub const TESTS: &[(&str, TestFn)] = &[
    ("a_lazy_daemon_that_is_killed_takes_the_tasks_with_it", killed),
    ("a_lazy_daemon_serves_several_restores_and_tells_of_each", several),
    ("a_lazy_daemon_in_the_background", background),
    ("a_lazy_daemon_whose_restore_fails_says_so", failed),
    ("a_restore_brings_memory_later_itself", itself),
];

/// Saves a task with 16 MiB of memory.
fn saved(lab: &Lab) -> (Target, String) {
    let images = lab.dir("img");
    let mut target = lab.start(&["memory", "16"]);
    lab.done(&["dump", "-t", &target.pid(), "-D", &images]);
    target.is_gone();
    (target, images)
}

/// Starts `lazy-pages` with these words, and waits until a restore can connect.
fn start(lab: &Lab, images: &str, words: &[&str]) -> Child {
    let all = [&["lazy-pages", "-D", images, "-o", "lazy.log"], words].concat();
    let daemon = lab.command(&all).stdout(Stdio::piped()).spawn().unwrap();
    assert!(soon(|| fs::exists(format!("{images}/lazy-pages.socket")).unwrap()));
    daemon
}

fn killed(lab: &Lab) {
    let (mut target, images) = saved(lab);
    let log = || fs::read_to_string(format!("{images}/lazy.log")).unwrap_or_default();
    let mut daemon = start(lab, &images, &["--fill", "nothing"]);
    lab.done(&["restore", "-d", "-D", &images, "--lazy-pages"]);
    target.restored_as(target.pid);
    target.goes_on();
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    target.is_gone();
    let said = "criu-rs guard: the handler of missing pages was killed: tasks ended: 1\n";
    assert!(soon(|| log().ends_with(said)), "{}", log());
    // A socket that was left is no obstacle.
    let mut daemon = start(lab, &images, &["--on-loss", "sigbus", "--fill", "nothing"]);
    lab.done(&["restore", "-d", "-D", &images, "--lazy-pages"]);
    target.goes_on();
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    // The next new page ends the task, because the task does not catch the signal.
    assert!(soon(|| has_ended(target.pid)));
    assert!(
        soon(|| log().contains(" tasks with SIGBUS where a page is missing: 1\n")),
        "{}",
        log()
    );
}

fn several(lab: &Lab) {
    let (mut target, images) = saved(lab);
    let daemon = start(lab, &images, &["--restores", "2", "--json"]);
    lab.done(&["restore", "-d", "-D", &images, "--lazy-pages"]);
    target.restored_as(target.pid);
    target.goes_on();
    target.end();
    lab.done(&["restore", "-d", "-D", &images, "--lazy-pages"]);
    target.goes_on();
    let ended = daemon.wait_with_output().unwrap();
    assert!(ended.status.success());
    assert!(!fs::exists(format!("{images}/lazy-pages.socket")).unwrap());
    let lines = String::from_utf8(ended.stdout).unwrap();
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let numbers: Vec<_> = lines.iter().map(|line| line["restore"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 2]);
    assert!(lines.iter().all(|line| line["outcome"] == "done"), "{lines:?}");
    let log = fs::read_to_string(format!("{images}/lazy.log")).unwrap();
    assert!(log.contains("restore 2: all tasks are restored after "), "{log}");
    assert!(
        log.contains("restore 2: done after ") && log.contains(" in the background), "),
        "{log}"
    );
}

fn background(lab: &Lab) {
    let (target, images) = saved(lab);
    let words =
        ["lazy-pages", "-D", &images, "-o", "lazy.log", "--daemon", "--pidfile", "lazy.pid"];
    lab.done(&words);
    assert!(fs::exists(format!("{images}/lazy-pages.socket")).unwrap());
    let pid: i32 = fs::read_to_string(format!("{images}/lazy.pid")).unwrap().parse().unwrap();
    assert!(soon(|| process::name(pid) == "criu-rs"), "the daemon's name");
    lab.done(&["restore", "-d", "-D", &images, "--lazy-pages"]);
    target.goes_on();
    assert!(soon(|| has_ended(pid)));
    assert!(!fs::exists(format!("{images}/lazy-pages.socket")).unwrap());
    // A signal that comes as soon as there is a daemon ends it in order.
    fs::remove_file(format!("{images}/lazy.pid")).unwrap();
    lab.done(&words);
    let pid: i32 = fs::read_to_string(format!("{images}/lazy.pid")).unwrap().parse().unwrap();
    send(pid, Signal::SIGTERM);
    assert!(soon(|| has_ended(pid)));
    assert!(!fs::exists(format!("{images}/lazy-pages.socket")).unwrap());
    // What is wrong is said at once.
    let empty = lab.dir("empty");
    let ran = lab.coded(&["lazy-pages", "-D", &empty, "--daemon"]);
    ran.fails(1, &["inventory.img"]);
    assert!(!fs::exists(format!("{empty}/lazy-pages.socket")).unwrap());
}

fn failed(lab: &Lab) {
    let (target, images) = saved(lab);
    let daemon = start(lab, &images, &[]);
    // The process id is taken, so that the tasks are never handed over.
    let mut other = std::process::Command::new("sleep");
    let other = raw::spawn_as(target.pid().parse().unwrap(), other.arg("1000"));
    other.unwrap();
    let ran = run(lab.command(&["restore", "-d", "-D", &images, "--lazy-pages"]));
    assert_eq!(ran.code, Some(1));
    let ended = daemon.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    let log = fs::read_to_string(format!("{images}/lazy.log")).unwrap();
    assert!(log.contains("restore 1: failed after ") && log.contains("not handed over"), "{log}");
    target.signal(Signal::SIGKILL);
    // A signal ends a daemon under which no restore is under way.
    let daemon = start(lab, &images, &["--restores", "unlimited"]);
    send(i32::try_from(daemon.id()).unwrap(), Signal::SIGTERM);
    assert!(daemon.wait_with_output().unwrap().status.success());
}

fn itself(lab: &Lab) {
    let (mut target, images) = saved(lab);
    // Stays until all memory is there.
    let said = lab.done(&["restore", "-d", "-D", &images, "--lazy", "--json"]);
    target.restored_as(target.pid);
    target.goes_on();
    let lines: Vec<serde_json::Value> =
        said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[1]["outcome"], "memory complete");
    assert!(lines[1]["statistics"]["bytes"].as_u64().unwrap() >= 16 << 20, "{lines:?}");
    target.end();
    // Records a working set, which the next restore uses. It stays the parent of the tree.
    let words = ["restore", "-D", &images, "--lazy", "--exit-codes"];
    for (record, said) in [(&["--record=0.3"][..], "the working set has "), (&[], "")] {
        let restore = lab.command(&[&words[..], record].concat()).stderr(Stdio::piped()).spawn();
        let restore = restore.unwrap();
        target.goes_on();
        assert!(
            record.is_empty() || soon(|| fs::exists(format!("{images}/working-set.bin")).unwrap())
        );
        target.signal(Signal::SIGKILL);
        let ended = restore.wait_with_output().unwrap();
        let text = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(128 + 9), "{text}");
        assert!(text.contains(said), "{text}");
    }
    for other in [&["--lazy-pages"][..], &["--exec-cmd", "--", "true"]] {
        let ran = lab.coded(&[&words[..], other].concat());
        ran.fails(2, &["exclude each other"]);
    }
    // Memory that is lost is told of, though the tree has an end that a shell takes for success.
    let words = ["restore", "-D", &images, "--lazy", "--record=0.5"];
    let restore = lab.command(&words).stderr(Stdio::piped()).spawn().unwrap();
    target.goes_on();
    for entry in fs::read_dir(&images).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("pages-") {
            fs::File::options().write(true).open(path).unwrap().set_len(0).unwrap();
        }
    }
    let ended = restore.wait_with_output().unwrap();
    let text = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{text}");
    assert!(text.contains("given up: ") && text.contains("become shorter"), "{text}");
}
