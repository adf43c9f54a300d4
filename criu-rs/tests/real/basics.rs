//! Dumps and restores of plain processes.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use criu_lab::process::{descendants, state};
use criu_lab::{Terminal, names, soon};
use criu_rs::{AfterDump, Dump, Error, InheritFd, LogLevel, Pid, Restore, Version};
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use procfs::process::Process;

use crate::lab::{Lab, TestFn, other};

pub const TESTS: &[(&str, TestFn)] = &[
    ("children_of_the_caller_are_left_alone", others),
    ("dump_kills_and_restore_goes_on", dump_kills_and_restore_goes_on),
    ("leave_running", leave_running),
    ("leave_stopped", leave_stopped),
    ("restored_stopped", restored_stopped),
    ("a_tree_of_100_processes", tree_of_100),
    ("a_sibling_is_waited_for", sibling),
    ("criu_becomes_the_parent_of_what_it_restores", exec_cmd),
    ("inherit_fd_swaps_a_pipe", inherit_fd),
    ("a_checkpoint_is_not_overwritten_unless_asked", overwrite),
    ("criu_is_known_before_it_is_asked", known_before_asked),
    ("directories_by_descriptor_and_logs_elsewhere", directories),
    ("a_directory_that_criu_opens", opened_by_criu),
    ("a_log_on_standard_error_is_kept", log_to_stderr),
    ("a_configuration_file_wins", config_file),
    ("an_option_of_a_newer_criu_is_refused", newer_option),
    ("a_job_of_a_shell_keeps_its_terminal", shell_job),
    ("raw_says_what_no_method_can", raw),
    ("running_a_dump_twice_is_a_retry", retry),
];

fn dump_kills_and_restore_goes_on(lab: &Lab) {
    let images = lab.dir("images");
    let mut target = lab.start(&["memory", "8"]);
    let dumped = Dump::new(target.pid, &images).run(&lab.criu).unwrap();
    target.is_gone();
    let stats = dumped.stats.unwrap();
    assert!(stats.pages_written >= 2048 && !stats.frozen.is_zero(), "{stats:?}");
    let before = target.count();
    let restored = Restore::new(&images).run(&lab.criu).unwrap();
    assert_eq!(restored.pid, target.pid);
    let stats = restored.stats.unwrap();
    assert!(stats.pages_restored >= Some(2048), "{stats:?}");
    target.restored_as(restored.pid);
    assert!(target.goes_on() > before);
    // The descriptor is the process's: it becomes readable when that ends.
    let pidfd = restored.pidfd.unwrap();
    target.end();
    let mut fds =
        [nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(&pidfd), nix::poll::PollFlags::POLLIN)];
    assert_eq!(nix::poll::poll(&mut fds, nix::poll::PollTimeout::ZERO), Ok(1));
}

fn leave_running(lab: &Lab) {
    let images = lab.dir("images");
    let target = lab.start(&["count"]);
    Dump::new(target.pid, &images).after_dump(AfterDump::LeaveRunning).run(&lab.criu).unwrap();
    target.goes_on();
}

fn leave_stopped(lab: &Lab) {
    let images = lab.dir("images");
    let target = lab.start(&["count"]);
    Dump::new(target.pid, &images).after_dump(AfterDump::LeaveStopped).run(&lab.criu).unwrap();
    assert!(soon(|| target.state() == Some('T')));
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(target.pid.as_raw()),
        nix::sys::signal::Signal::SIGCONT,
    )
    .unwrap();
    target.goes_on();
}

fn restored_stopped(lab: &Lab) {
    let images = lab.dir("images");
    let mut target = lab.start(&["count"]);
    Dump::new(target.pid, &images).run(&lab.criu).unwrap();
    target.is_gone();
    let restored = Restore::new(&images).leave_stopped(true).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    assert!(soon(|| target.state() == Some('T')));
    restored.signal(nix::sys::signal::Signal::SIGCONT as i32).unwrap();
    target.goes_on();
}

fn tree_of_100(lab: &Lab) {
    let images = lab.dir("images");
    let mut target = lab.start(&["tree", "99"]);
    assert!(soon(|| descendants(target.pid).len() == 100));
    let before = descendants(target.pid);
    let counts = |lab: &Lab| -> Vec<u64> {
        let file = |n: usize| lab.dir.join(format!("count-tree.{n}"));
        let count = |n| fs::read_to_string(file(n)).unwrap_or_default().trim().parse().unwrap_or(0);
        (0..99).map(count).collect()
    };
    assert!(soon(|| counts(lab).iter().all(|&count| count > 1)));
    Dump::new(target.pid, &images).run(&lab.criu).unwrap();
    target.is_gone();
    assert!(before.iter().all(|&pid| matches!(state(pid), None | Some('Z'))));
    criu_lab::process::reap();
    let old = counts(lab);
    let restored = Restore::new(&images).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    let mut after = descendants(restored.pid);
    after.sort();
    let mut before = before;
    before.sort();
    assert_eq!(after, before);
    assert!(soon(|| counts(lab).iter().zip(&old).all(|(new, old)| new > old)));
}

fn sibling(lab: &Lab) {
    let images = lab.dir("images");
    let mut target = lab.start(&["count"]);
    Dump::new(target.pid, &images).run(&lab.criu).unwrap();
    target.is_gone();
    let restored = Restore::new(&images).rst_sibling(true).run(&lab.criu).unwrap();
    let parent = Process::new(restored.pid.as_raw()).unwrap().stat().unwrap().ppid;
    assert_eq!(parent, Pid::this().as_raw());
    target.goes_on();
    restored.signal(nix::sys::signal::Signal::SIGTERM as i32).unwrap();
    let status = restored.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(15));
}

fn exec_cmd(lab: &Lab) {
    let images = lab.dir("images");
    let mut target = lab.start(&["count"]);
    Dump::new(target.pid, &images).run(&lab.criu).unwrap();
    target.is_gone();
    let restore = Restore::new(&images).exec_cmd(["sh", "-c", "echo I am $$; sleep 0.3; exit 7"]);
    let restored = restore.run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    let parent = restored.parent.unwrap();
    let ppid = Process::new(restored.pid.as_raw()).unwrap().stat().unwrap().ppid;
    assert_eq!(ppid, parent.pid.as_raw());
    target.goes_on();
    assert_eq!(parent.wait().unwrap().code(), Some(7));
    let log = fs::read_to_string(images.join("restore.log")).unwrap();
    assert!(log.contains(&format!("I am {}", parent.pid)), "{log}");
}

fn inherit_fd(lab: &Lab) {
    let images = lab.dir("images");
    let pipe = || pipe2(OFlag::O_CLOEXEC).unwrap();
    let ((old_in, mut to_old), (from_old, old_out)) = {
        let (a, b) = pipe();
        let (c, d) = pipe();
        ((a, fs::File::from(b)), (fs::File::from(c), d))
    };
    let key = |fd: &OwnedFd| {
        let number = std::os::fd::AsRawFd::as_raw_fd(fd);
        fs::read_link(format!("/proc/self/fd/{number}")).unwrap().into_os_string()
    };
    let (in_key, out_key) = (key(&old_in), key(&old_out));
    let mut target = lab.start_with(&["echo"], |command| command.stdin(old_in).stdout(old_out));
    let mut from_old = from_old;
    to_old.write_all(b"x").unwrap();
    let mut byte = [0];
    from_old.read_exact(&mut byte).unwrap();
    Dump::new(target.pid, &images).run(&lab.criu).unwrap();
    target.is_gone();
    drop((to_old, from_old));

    // New pipes, and descriptors at all sorts of numbers.
    let (new_in, to_new) = pipe();
    let (from_new, new_out) = pipe();
    let restore = Restore::new(&images)
        .inherit_fd(InheritFd::new(in_key, &new_in))
        .inherit_fd(InheritFd::new(out_key, &new_out));
    let restored = restore.run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    fs::File::from(to_new).write_all(b"y").unwrap();
    fs::File::from(from_new).read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"y");

    let gone = Restore::new(&images).inherit_fd("fd[250]:pipe:[1]".parse().unwrap());
    let error = gone.run(&lab.criu).unwrap_err().to_string();
    assert!(error.contains("descriptor 250") && error.contains("Bad file"), "{error}");
}

fn overwrite(lab: &Lab) {
    let images = lab.dir("images");
    let target = lab.start(&["count"]);
    let dump = Dump::new(target.pid, &images).after_dump(AfterDump::LeaveRunning);
    dump.run(&lab.criu).unwrap();
    let before = fs::read(images.join("inventory.img")).unwrap();
    let error = dump.run(&lab.criu).unwrap_err();
    assert!(matches!(error, Error::CheckpointExists { .. }), "{error}");
    assert_eq!(fs::read(images.join("inventory.img")).unwrap(), before);

    // One that fails puts the old one back, one that works replaces it.
    struct No;
    impl criu_rs::Hooks for No {
        fn post_dump(&mut self) -> criu_rs::HookResult {
            Err("no".into())
        }
    }
    let again = dump.clone().overwrite(true);
    assert!(again.run_with(&lab.criu, &mut No).is_err());
    assert_eq!(fs::read(images.join("inventory.img")).unwrap(), before);
    again.run(&lab.criu).unwrap();
    assert_ne!(fs::read(images.join("inventory.img")).unwrap(), before);
    assert!(!names(&images).iter().any(|name| name.starts_with('.')));
    target.goes_on();
}

fn known_before_asked(lab: &Lab) {
    let images = lab.dir("images");
    let target = lab.start(&["count"]);
    let dump = Dump::new(target.pid, &images).after_dump(AfterDump::LeaveRunning);
    let session = dump.start(&lab.criu).unwrap();
    let criu = Process::new(session.pid().unwrap().as_raw()).unwrap();
    assert!(soon(|| criu.stat().unwrap().comm == "criu"));
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert!(names(&images).is_empty());
    assert_eq!(criu.stat().unwrap().pgrp, criu.pid(), "it leads a group of its own");
    session.finish(&mut ()).unwrap();
    assert!(names(&images).contains(&"inventory.img".into()));
}

fn directories(lab: &Lab) {
    let (images, logs) = (lab.dir("images"), lab.dir("logs"));
    let (images_fd, logs_fd) = (fs::File::open(&images).unwrap(), fs::File::open(&logs).unwrap());
    let mut target = lab.start(&["count"]);
    let dump = Dump::new(target.pid, &images_fd)
        .work_dir(&logs_fd)
        .log_file("mine.log")
        .log_level(LogLevel::Debug);
    dump.run(&lab.criu).unwrap().stats.unwrap();
    target.is_gone();
    assert_eq!(names(&logs), ["mine.log", "stats-dump"]);
    assert!(!names(&images).iter().any(|name| name.ends_with(".log")));
    let log = fs::read_to_string(logs.join("mine.log")).unwrap();
    assert!(log.lines().count() > 200, "not at the level asked for");
    // Under another name meanwhile: it is the directory that counts.
    let moved = lab.dir.join("moved");
    fs::rename(&images, &moved).unwrap();
    let restored = Restore::new(&images_fd).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    target.goes_on();
}

fn opened_by_criu(lab: &Lab) {
    let (images, logs) = (lab.dir("images"), lab.dir("logs"));
    let mut target = lab.start(&["count"]);
    // CRIU before 4.2 takes only a symbolic link.
    let link = lab.dir.join("link");
    std::os::unix::fs::symlink(&images, &link).unwrap();
    let place = if lab.version < Version::new(4, 2, 0) { &link } else { &images };
    let dir = criu_rs::Dir::opened_by_criu(place);
    Dump::new(target.pid, dir.clone()).work_dir(&logs).run(&lab.criu).unwrap().stats.unwrap();
    target.is_gone();
    let restored = Restore::new(dir).work_dir(&logs).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    target.goes_on();
    let nowhere = criu_rs::Dir::opened_by_criu(lab.dir.join("nowhere"));
    let error = Restore::new(nowhere).run(&lab.criu).unwrap_err().to_string();
    assert!(error.contains("nowhere"), "{error}");
}

fn log_to_stderr(lab: &Lab) {
    let images = lab.dir("images");
    let target = lab.start(&["lock"]);
    let dump = Dump::new(target.pid, &images).log_to_stderr().log_level(LogLevel::Debug);
    let error = dump.run(&lab.criu).unwrap_err();
    let failure = error.failure().unwrap();
    assert!(failure.excerpt().is_none());
    assert!(failure.output.contains("file locks are hold"), "{}", failure.output);
    assert!(failure.output.len() <= 16 << 10);
    assert_eq!(error.cause(), Some(criu_rs::Cause::FileLocks), "{error}");
    assert!(names(&images).is_empty());
    target.goes_on();
}

fn config_file(lab: &Lab) {
    let images = lab.dir("images");
    let config = lab.dir.join("criu.conf");
    fs::write(&config, "log-file from-the-file.log\nleave-running\n").unwrap();
    let target = lab.start(&["count"]);
    let dump = Dump::new(target.pid, &images).config_file(&config);
    dump.run(&lab.criu).unwrap();
    assert!(names(&images).contains(&"from-the-file.log".into()));
    target.goes_on();
}

fn newer_option(lab: &Lab) {
    let images = lab.dir("images");
    let target = lab.start(&["count"]);
    let dump = Dump::new(target.pid, &images)
        .image_io(criu_rs::ImageIo::Direct)
        .after_dump(AfterDump::LeaveRunning);
    let result = dump.run(&lab.criu);
    if lab.version < Version::new(4, 3, 0) {
        let error = result.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::TooOld { .. }), "{text}");
        assert!(text.contains("image_io") && text.contains("4.3"), "{text}");
        assert!(names(&images).is_empty(), "it was asked all the same");
    } else {
        result.unwrap();
    }
    // One that says its version and can do nothing else on this kernel.
    let old = other(lab, "bookworm");
    let images = lab.dir("old");
    let dump = Dump::new(target.pid, &images).after_dump(AfterDump::LeaveStopped);
    let error = dump.run(&old).unwrap_err().to_string();
    assert!(error.contains("leave_stopped") && error.contains("3.19, this one is 3.17"), "{error}");
    assert!(names(&images).is_empty());
    target.goes_on();
}

fn shell_job(lab: &Lab) {
    let images = lab.dir("images");
    let Terminal { master, slave, path } = Terminal::open();
    drop(slave);
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--payload", "shell"])
        .arg(lab.dir.join("count"))
        .arg(&path)
        .args([&lab.program, &images])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    drop(master);
}

/// The shell of [`shell_job`]: it leads a session with a terminal, dumps a job of its own and
/// brings it back.
pub fn shell(words: &[&str]) {
    use nix::unistd::{dup2_stdin, dup2_stdout, getpgrp, getsid};
    let (count, path, program, images) = (words[0], words[1], words[2], words[3]);
    let terminal = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    dup2_stdin(&terminal).unwrap();
    dup2_stdout(&terminal).unwrap();
    drop(terminal);
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let mut job = std::process::Command::new("/proc/self/exe")
        .args(["--payload", "member", count])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let read = || fs::read_to_string(count).unwrap_or_default().trim().parse().unwrap_or(0u64);
    assert!(soon(|| read() > 1));
    let criu = criu_rs::Criu::at(program);
    let pid = Pid::from(&job);
    Dump::new(pid, images).shell_job(true).run(&criu).unwrap();
    job.wait().unwrap();
    let before = read();
    let restored = Restore::new(images).shell_job(true).rst_sibling(true).run(&criu).unwrap();
    assert!(soon(|| read() > before));
    let stat = Process::new(restored.pid.as_raw()).unwrap().stat().unwrap();
    assert_eq!(stat.session, getsid(None).unwrap().as_raw());
    assert_eq!(stat.pgrp, getpgrp().as_raw());
    let input = fs::read_link(format!("/proc/{}/fd/0", restored.pid)).unwrap();
    assert_eq!(input, std::path::Path::new(path));
    restored.signal(nix::sys::signal::Signal::SIGKILL as i32).unwrap();
    restored.wait().unwrap();
}

fn raw(lab: &Lab) {
    let images = lab.dir("images");
    let target = lab.start(&["count"]);
    let dump = Dump::new(target.pid, &images).raw(|opts| opts.leave_running = Some(true));
    dump.run(&lab.criu).unwrap();
    target.goes_on();
}

fn retry(lab: &Lab) {
    let images = lab.dir("images");
    let mut target = lab.start(&["lock"]);
    let dump = Dump::new(target.pid, &images).ext_unix_sk(true);
    for _ in 0..3 {
        let error = dump.run(&lab.criu).unwrap_err();
        assert_eq!(error.cause(), Some(criu_rs::Cause::FileLocks), "{error}");
        target.goes_on();
    }
    dump.file_locks(true).run(&lab.criu).unwrap();
    target.is_gone();
    let restore = Restore::new(&images);
    // Its locks are in the images: CRIU restores them whether asked or not.
    let restored = restore.file_locks(true).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    target.goes_on();
}

/// Dumps and restores beside two children of this process, one that runs and one that has ended.
/// Neither leads a session. Only this process waits for them.
fn others(lab: &Lab) {
    let images = lab.dir("images");
    let start = |time: &str| Command::new("sleep").arg(time).stdin(Stdio::null()).spawn().unwrap();
    let (mut running, mut ended) = (start("60"), start("0"));
    lab.criu.version().unwrap();
    lab.criu.features().unwrap();
    let mut target = lab.start(&["count"]);
    Dump::new(target.pid, &images).run(&lab.criu).unwrap();
    target.is_gone_alone();
    let restored = Restore::new(&images).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    target.goes_on();
    assert!(ended.wait().unwrap().success());
    assert!(running.try_wait().unwrap().is_none());
    running.kill().unwrap();
    running.wait().unwrap();
    target.end();
}
