//! `dump` and `pre-dump`.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use criu_lab::{names, soon};
use criu_rs::{Criu, Pid};
use nix::sys::signal::{Signal, kill};

use crate::lab::{Lab, Target, TestFn, run};

pub const TESTS: &[(&str, TestFn)] = &[
    ("dump_leaves_running", leaves_running),
    ("dump_leaves_stopped", leaves_stopped),
    ("dump_as_json", as_json),
    ("a_failed_dump_says_why", says_why),
    ("a_failed_dump_as_json", fails_as_json),
    ("a_checkpoint_is_overwritten_unless_asked_not_to", overwrite),
    ("an_interrupted_dump_leaves_the_process_running", interrupted),
    ("a_deadline_ends_a_dump", deadline),
    ("a_dump_that_was_started_to_ignore_hangups_does", ignored_hangup),
    ("a_tree_that_nobody_could_restore_is_not_ended", nested),
    ("pre_dump", pre_dump),
];

fn leaves_running(lab: &Lab) {
    let images = lab.dir("img");
    let target = lab.start(&["count"]);
    let ran = lab.done(&["dump", "-t", &target.pid(), "-D", &images, "-R"]);
    assert!(ran.err.contains("it runs on") && ran.out.is_empty(), "{ran:?}");
    target.goes_on();
    let names = names(&images);
    assert!(names.contains(&"inventory.img".into()) && names.contains(&"dump.log".into()));
}

fn leaves_stopped(lab: &Lab) {
    let images = lab.dir("img");
    let target = lab.start(&["count"]);
    lab.done(&["dump", "-t", &target.pid(), "-D", &images, "-R", "-s"]);
    assert!(soon(|| target.state() == Some('T')));
    target.signal(Signal::SIGCONT);
    target.goes_on();
}

fn as_json(lab: &Lab) {
    let images = lab.dir("img");
    let mut target = lab.start(&["memory", "4"]);
    let said = lab.done(&["dump", "-t", &target.pid(), "-D", &images, "--json"]).json();
    assert_eq!(said["outcome"], "done");
    assert_eq!(said["program"], "dump");
    assert_eq!(said["pid"], target.pid.as_raw());
    assert_eq!(said["tasks"], "killed");
    assert!(said["statistics"]["pages_written"].as_u64() > Some(1024), "{said}");
    assert!(said["statistics"]["frozen_us"].as_u64() > Some(0), "{said}");
    target.is_gone();
}

fn says_why(lab: &Lab) {
    let images = lab.dir("img");
    let target = lab.start(&["lock"]);
    let ran = lab.run(&["dump", "-t", &target.pid(), "-D", &images]);
    let log = format!("{images}/dump.log:");
    ran.fails(1, &["cause: a process holds a file lock", "do: add --file-locks", &log, "hold by"]);
    let lines: Vec<&str> = ran.err.lines().collect();
    assert_eq!(lines[0], "criu-rs dump: CRIU failed");
    assert!(lines[1].starts_with("cause: ") && lines[2].starts_with("do: "), "{lines:?}");
    // The harmless line that CRIU logs without CAP_SYS_RESOURCE.
    assert!(!ran.err.contains("RLIMIT_NOFILE"), "{ran:?}");
    target.goes_on();
    assert_eq!(names(&images), ["dump.log"]);
}

fn nested(lab: &Lab) {
    let images = lab.dir("img");
    let mut command = Command::new("setsid");
    command.args(["sh", "-c", "unshare --net sleep 1000 & wait"]).stdin(Stdio::null());
    let target = Target::started(command.spawn().unwrap(), lab.dir.join("count"));
    let comm = |pid: Pid| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let child = || criu_lab::process::children(target.pid).first().copied();
    assert!(soon(|| child().is_some_and(|pid| comm(pid) == "sleep\n")));
    let child = format!("process {} is in the net namespace", child().unwrap());
    let ran = lab.run(&["dump", "-t", &target.pid(), "-D", &images]);
    ran.fails(1, &[&child, "no restore could bring the tree back", "do: dump that process's tree"]);
    assert_eq!(target.state(), Some('S'));
    assert_eq!(names(&images), ["dump.log"]);
}

fn fails_as_json(lab: &Lab) {
    let images = lab.dir("img");
    let target = lab.start(&["lock"]);
    let ran = lab.run(&["dump", "-t", &target.pid(), "-D", &images, "--json"]);
    assert_eq!(ran.code, Some(1));
    let said = ran.json();
    assert_eq!(said["outcome"], "failed");
    assert_eq!(said["exit_code"], 1);
    let error = &said["error"];
    assert_eq!(error["cause"], "a process holds a file lock");
    assert!(error["hint"].as_str().unwrap().contains("--file-locks"));
    assert_eq!(error["log"]["file"], format!("{images}/dump.log"));
    assert!(error["log"]["line"].as_u64() > Some(0));
    target.goes_on();

    let said = lab.run(&["dump", "-t", "4194303", "-D", &images, "--json"]).json();
    assert_eq!(said["error"]["errno"], 3);
    assert_eq!(said["error"]["cause"], "there is no such process");
    let said = lab.run(&["dump", "--json"]).json();
    assert_eq!((said["outcome"].as_str(), said["exit_code"].as_i64()), (Some("usage"), Some(1)));
    let said = lab.coded(&["dump", "--json"]).json();
    assert_eq!((said["outcome"].as_str(), said["exit_code"].as_i64()), (Some("usage"), Some(2)));
}

fn overwrite(lab: &Lab) {
    let images = lab.dir("img");
    let target = lab.start(&["count"]);
    let dump = ["dump", "-t", &target.pid(), "-D", &images, "-R"];
    lab.done(&dump);
    let before = fs::read(format!("{images}/stats-dump")).unwrap();
    let refused = [&dump[..], &["--no-overwrite"]].concat();
    lab.coded(&refused).fails(2, &["holds a checkpoint already", "do: use another directory"]);
    assert_eq!(fs::read(format!("{images}/stats-dump")).unwrap(), before);
    // Scripts read the log of a dump that failed, also of a dump that criu was not asked for.
    lab.run(&[&refused[..], &["-o", "refused.log"]].concat()).fails(1, &[]);
    let log = fs::read_to_string(format!("{images}/refused.log")).unwrap();
    assert!(log.starts_with("Error (criu-rs): ") && log.contains("checkpoint"), "{log}");
    lab.done(&[&refused[..], &["--overwrite"]].concat());
    // As criu does it. What criu does not write stays.
    fs::write(format!("{images}/disk.img"), "mine").unwrap();
    fs::write(format!("{images}/core-1.img"), "old").unwrap();
    lab.done(&dump);
    let names = names(&images);
    assert!(names.contains(&"disk.img".into()) && !names.contains(&"core-1.img".into()));
    target.goes_on();
}

fn interrupted(lab: &Lab) {
    let target = lab.start(&["memory", "600"]);
    for (number, signal) in [Signal::SIGINT, Signal::SIGTERM].into_iter().enumerate() {
        let images = lab.dir(&number.to_string());
        let mut dump = lab.coded_command(&["dump", "-t", &target.pid(), "-D", &images]);
        let dump = dump.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // In the middle of it: pages are being written.
        let is_under_way = || names(&images).iter().any(|name| name.starts_with("pages-"));
        assert!(soon(is_under_way));
        let id = nix::unistd::Pid::from_raw(i32::try_from(dump.id()).unwrap());
        kill(id, signal).unwrap();
        let output = dump.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(4), "{said}");
        assert!(said.contains("dump cancelled"), "{said}");
        target.goes_on();
        assert_eq!(names(&images), ["dump.log"]);
    }
}

fn deadline(lab: &Lab) {
    let images = lab.dir("img");
    let target = lab.start(&["memory", "600"]);
    let begun = Instant::now();
    let dump = ["dump", "-t", &target.pid(), "-D", &images, "--deadline", "0.1"];
    lab.coded(&dump).fails(4, &["stopped at its deadline of 100ms"]);
    assert!(begun.elapsed() < Duration::from_secs(30));
    target.goes_on();
    let again = lab.coded(&[&dump[..], &["--json"]].concat());
    assert_eq!(again.code, Some(4));
    assert_eq!(again.json()["outcome"], "stopped");
    target.goes_on();
}

fn ignored_hangup(lab: &Lab) {
    let images = lab.dir("img");
    let target = lab.start(&["memory", "300"]);
    let script = "trap '' HUP; exec \"$0\" dump -R -t $1 -D $2";
    let mut dump = Command::new("sh");
    dump.args(["-c", script, env!("CARGO_BIN_EXE_criu-rs"), &target.pid(), &images]);
    let mut dump = dump.env("CRIU", &lab.criu).stderr(Stdio::null()).spawn().unwrap();
    assert!(soon(|| names(&images).iter().any(|name| name.starts_with("pages-"))));
    let id = nix::unistd::Pid::from_raw(i32::try_from(dump.id()).unwrap());
    kill(id, Signal::SIGHUP).unwrap();
    assert!(dump.wait().unwrap().success());
    target.goes_on();
}

/// A pre-dump needs soft-dirty tracking in the kernel, and says so if that is missing.
fn pre_dump(lab: &Lab) {
    let (first, second) = (lab.dir("0"), lab.dir("1"));
    let mut target = lab.start(&["count"]);
    let ran = lab.run(&["pre-dump", "-t", &target.pid(), "-D", &first, "--json"]);
    if Criu::at(&lab.criu).features().unwrap().mem_track != Some(true) {
        assert_eq!(ran.code, Some(1), "{ran:?}");
        let hint = ran.json()["error"]["hint"].as_str().unwrap().to_owned();
        assert!(hint.contains("CONFIG_MEM_SOFT_DIRTY"), "{hint}");
        target.goes_on();
        let tracked = lab.run(&["dump", "-t", &target.pid(), "-D", &second, "--track-mem"]);
        tracked.fails(1, &["this kernel does not track changed memory", "without --track-mem"]);
        return;
    }
    assert!(ran.json()["statistics"]["pages_written"].as_u64() > Some(0));
    target.goes_on();
    let dump = ["dump", "-t", &target.pid(), "-D", &second, "--prev-images-dir", "../0"];
    let said = lab.done(&[&dump[..], &["--track-mem", "--json"]].concat()).json();
    assert!(said["statistics"]["pages_skipped_parent"].as_u64() > Some(0));
    target.is_gone();
    let restored = run(lab.command(&["restore", "-d", "-D", &second]));
    assert_eq!(restored.code, Some(0));
    target.goes_on();
    let _ = fs::remove_dir_all(first);
}
