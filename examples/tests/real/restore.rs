//! `restore`.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};

use criu_lab::soon;
use criu_rs::Pid;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::pipe2;
use procfs::process::Process;

use crate::lab::{Lab, Target, TestFn, run};

pub const TESTS: &[(&str, TestFn)] = &[
    ("dump_and_restore", dump_and_restore),
    ("a_parent_hands_signals_on_and_ends_as_the_root_does", parent),
    ("a_parent_tells_what_killed_the_root", killed),
    ("the_first_process_of_a_namespace_stays_until_its_last_child_has_ended", first_process),
    ("criu_does_not_take_the_lowest_id_from_the_tree", lowest_id),
    ("the_pid_file_is_not_another_s", pidfile),
    ("a_descriptor_is_inherited_by_number", inherit_fd),
    ("the_program_becomes_a_command", exec_cmd),
    ("a_sibling_is_the_caller_s_child", sibling),
    ("a_restore_that_fails_says_why", fails),
    ("restored_stopped", stopped),
    ("a_restore_does_not_lose_a_file_lock_in_silence", file_lock),
];

/// A checkpoint of a payload that is gone.
fn checkpointed(lab: &Lab, words: &[&str]) -> (String, Target) {
    let images = lab.dir("img");
    let mut target = lab.start(words);
    lab.done(&["dump", "-t", &target.pid(), "-D", &images]);
    target.is_gone();
    (images, target)
}

fn file_lock(lab: &Lab) {
    let images = lab.dir("img");
    let mut target = lab.start(&["lock"]);
    lab.done(&["dump", "-t", &target.pid(), "-D", &images, "--file-locks"]);
    target.is_gone();
    let restore = ["restore", "-D", &images, "-d"];
    let ran = lab.run(&restore);
    ran.fails(1, &["a file lock that the restore would lose", "do: add --file-locks"]);
    for option in ["--accept-lock-loss", "--file-locks"] {
        lab.done(&[&restore[..], &[option]].concat());
        target.goes_on();
        let locks = fs::read_to_string("/proc/locks").unwrap();
        let own = format!(" {} ", target.pid);
        let is_locked = locks.lines().any(|line| line.contains(&own) && line.contains("FLOCK"));
        assert_eq!(is_locked, option == "--file-locks", "{option}: {locks}");
        target.end();
    }
}

fn ppid(pid: Pid) -> i32 {
    Process::new(pid.as_raw()).unwrap().stat().unwrap().ppid
}

fn dump_and_restore(lab: &Lab) {
    let (images, target) = checkpointed(lab, &["count"]);
    let before = target.count();
    let ran = lab.done(&["restore", "-D", &images, "-d", "--pidfile", "pid", "--json"]);
    let said = ran.json();
    assert_eq!(said["pid"], target.pid.as_raw());
    assert_eq!(said["detached"], true);
    assert!(said["statistics"]["restore_us"].as_u64() > Some(0), "{said}");
    // As CRIU writes it: beside the log, without a line's end, for root alone.
    let pidfile = format!("{images}/pid");
    assert_eq!(fs::read_to_string(&pidfile).unwrap(), target.pid());
    assert_eq!(fs::metadata(&pidfile).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(target.goes_on() > before);
}

/// Starts a restore that stays, and waits until the tree runs.
fn stay(lab: &Lab, target: &Target, words: &[&str]) -> Child {
    let before = target.count();
    let mut command = lab.command(words);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    assert!(soon(|| target.count() > before), "it does not run");
    child
}

fn send(child: &Child, signal: Signal) {
    kill(nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

fn parent(lab: &Lab) {
    let (images, target) = checkpointed(lab, &["count"]);
    let mut child = stay(lab, &target, &["restore", "-D", &images, "--exit-codes"]);
    assert_eq!(u32::try_from(ppid(target.pid)).unwrap(), child.id());
    for (signal, noted) in [
        (Signal::SIGUSR1, "SIGUSR1\n"),
        (Signal::SIGINT, "SIGUSR1\nSIGINT\n"),
        (Signal::SIGTERM, "SIGUSR1\nSIGINT\nSIGTERM\n"),
    ] {
        send(&child, signal);
        assert!(soon(|| target.signals() == noted), "{:?}", target.signals());
    }
    assert_eq!(child.wait().unwrap().code(), Some(7));
}

fn killed(lab: &Lab) {
    let (images, target) = checkpointed(lab, &["count"]);
    let mut child = stay(lab, &target, &["restore", "-D", &images, "--exit-codes"]);
    target.signal(Signal::SIGKILL);
    assert_eq!(child.wait().unwrap().code(), Some(128 + 9));
    // For criu the end of the tree is not a failure.
    let mut child = stay(lab, &target, &["restore", "-D", &images]);
    target.signal(Signal::SIGKILL);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// The kernel kills what the first process of a pid namespace leaves behind.
fn first_process(lab: &Lab) {
    let (images, target) = checkpointed(lab, &["tree", "2"]);
    let namespace = ["--pid", "--mount-proc", "--fork", env!("CARGO_BIN_EXE_criu-rs")];
    let restore = ["restore", "-D", &images, "--exit-codes"];
    let before = target.count();
    let mut unshare = lab.program("unshare", &[&namespace[..], &restore].concat());
    let mut unshare = unshare.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    assert!(soon(|| target.count() > before), "it does not run");

    let program = children(i32::try_from(unshare.id()).unwrap())[0];
    // The criu that has done it ends a little later.
    assert!(soon(|| children(program).len() == 1));
    let root = children(program)[0];
    let members = children(root);
    assert_eq!(members.len(), 2);
    let kill = |pid: i32| kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    kill(root);
    assert!(soon(|| children(program).len() == 2), "the root has not ended");
    kill(members[0]);
    assert!(soon(|| children(program) == members[1..]), "no orphan is left");
    // A signal is for the orphans, when there is no root.
    let signal = nix::unistd::Pid::from_raw(program);
    nix::sys::signal::kill(signal, Signal::SIGTERM).unwrap();
    assert_eq!(unshare.wait().unwrap().code(), Some(128 + 9));
}

/// In a new pid namespace the criu of a restore would be process 2.
fn lowest_id(lab: &Lab) {
    let images = lab.dir("img");
    let script = "setsid sleep 0.6 </dev/null >/dev/null 2>&1 & sleep 0.2
        test $! = 2 || exit 9
        exec \"$0\" dump -t 2 -D \"$1\"";
    let namespace = ["--pid", "--mount-proc", "--fork"];
    let program = env!("CARGO_BIN_EXE_criu-rs");
    let dump = [&namespace[..], &["sh", "-c", script, program, &images]].concat();
    let ran = run(lab.program("unshare", &dump));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let restore = [&namespace[..], &[program, "restore", "-D", &images, "--exit-codes"]].concat();
    let ran = run(lab.program("unshare", &restore));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.err.contains("process 2 runs again"), "{ran:?}");
}

/// The children of a process, as another namespace sees them.
fn children(pid: i32) -> Vec<i32> {
    let task = Process::new(pid).and_then(|process| process.task_main_thread());
    let children = task.and_then(|task| task.children()).unwrap_or_default();
    children.into_iter().map(|pid| i32::try_from(pid).unwrap()).collect()
}

fn pidfile(lab: &Lab) {
    let (images, target) = checkpointed(lab, &["count"]);
    let file = lab.path("pid");
    fs::write(&file, "mine").unwrap();
    let ran = lab.run(&["restore", "-D", &images, "-d", "--pidfile", &file]);
    ran.fails(1, &["--pidfile: cannot write", "File exists"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    assert!(target.state().is_none_or(|state| state == 'Z'), "it runs");
}

fn inherit_fd(lab: &Lab) {
    let pipe = || pipe2(OFlag::O_CLOEXEC).unwrap();
    let key = |fd: &OwnedFd| {
        let number = std::os::fd::AsRawFd::as_raw_fd(fd);
        fs::read_link(format!("/proc/self/fd/{number}")).unwrap().to_str().unwrap().to_owned()
    };
    let ((old_in, to_old), (from_old, old_out)) = (pipe(), pipe());
    let inherit = [format!("fd[0]:{}", key(&old_in)), format!("fd[1]:{}", key(&old_out))];
    let mut target = lab.start_with(&["echo"], |command| command.stdin(old_in).stdout(old_out));
    let images = lab.dir("img");
    lab.done(&["dump", "-t", &target.pid(), "-D", &images]);
    target.is_gone();
    drop((to_old, from_old));

    let [input, output] = &inherit;
    let words = ["restore", "-D", &images, "--inherit-fd", input, "--inherit-fd", output, "-d"];
    let mut command = lab.command(&words);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut to, mut from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    to.write_all(b"x").unwrap();
    let mut byte = [0];
    from.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"x");
    assert!(child.wait().unwrap().success());
    let missing = lab.run(&["restore", "-D", &images, "--inherit-fd", "fd[250]:pipe:[1]"]);
    missing.fails(1, &["descriptor 250"]);
    lab.coded(&["restore", "--inherit-fd", "x"]).fails(2, &["fd[NUMBER]:KEY"]);
}

fn exec_cmd(lab: &Lab) {
    let (images, target) = checkpointed(lab, &["count"]);
    let before = target.count();
    let script = format!("ps -o ppid= -p {}; echo $$; sleep 0.1; exit 5", target.pid());
    let ran = lab.run(&["restore", "-D", &images, "--exec-cmd", "--", "sh", "-c", &script]);
    assert_eq!(ran.code, Some(5), "{ran:?}");
    let ids: Vec<&str> = ran.out.split_whitespace().collect();
    assert!(matches!(ids[..], [parent, own] if parent == own), "{ran:?}");
    assert!(target.goes_on() > before);
    lab.coded(&["restore", "-d", "--exec-cmd", "true"]).fails(2, &["--restore-detached"]);
}

fn sibling(lab: &Lab) {
    let (images, mut target) = checkpointed(lab, &["count"]);
    let words = ["restore", "-D", &images, "-d", "-S", "-o", "restore.log"];
    lab.done(&words);
    assert_eq!(ppid(target.pid), Pid::this().as_raw());
    target.signal(Signal::SIGTERM);
    target.is_gone();
    let deadline = lab.coded(&[&words[..], &["--deadline", "5"]].concat());
    deadline.fails(2, &["--deadline does not go with --restore-sibling"]);
    lab.coded(&["restore", "-S"]).fails(2, &["needs --restore-detached"]);
}

fn fails(lab: &Lab) {
    let empty = lab.dir("empty");
    let ran = lab.run(&["restore", "-D", &empty]);
    ran.fails(1, &["cause: the images directory holds no checkpoint", "do: check the path"]);
    // Its own process has the id.
    let images = lab.dir("img");
    let target = lab.start(&["count"]);
    lab.done(&["dump", "-R", "-t", &target.pid(), "-D", &images]);
    let ran = lab.run(&["restore", "-D", &images, "--pidfile", "pid"]);
    ran.fails(1, &["CRIU failed: File exists", "a process id of the tree is in use"]);
    assert!(!fs::exists(format!("{images}/pid")).unwrap());
    target.goes_on();
}

fn stopped(lab: &Lab) {
    let (images, target) = checkpointed(lab, &["count"]);
    lab.done(&["restore", "-d", "-s", "-D", &images]);
    assert!(soon(|| target.state() == Some('T')));
    target.signal(Signal::SIGCONT);
    target.goes_on();
}
