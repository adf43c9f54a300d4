//! The word `lazy-pages` and whoever connects to it, stops it, or waits for it.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Output, Stdio};

use criu_lab::process::send;
use criu_lab::{raw, soon};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::lab::{Lab, Target, TestFn, run};

pub const TESTS: &[(&str, TestFn)] = &[
    ("a_peer_that_says_nothing_takes_no_restore", silent),
    ("a_peer_that_says_nonsense_is_a_failed_restore", nonsense),
    ("a_lazy_daemon_takes_pages_from_a_socket_and_says_when_it_is_ready", socket),
    ("the_second_signal_gives_lazy_restores_up", signals),
    ("a_recording_waits_for_a_restore_that_succeeds", recording),
    ("memory_of_tasks_that_have_ended_is_not_complete", incomplete),
];

/// A saved task with 16 MiB of memory.
struct Saved<'l> {
    lab: &'l Lab,
    target: Target,
    images: String,
}

impl<'l> Saved<'l> {
    fn new(lab: &'l Lab) -> Self {
        let images = lab.dir("img");
        let mut target = lab.start(&["memory", "16"]);
        lab.done(&["dump", "-t", &target.pid(), "-D", &images]);
        target.is_gone();
        Self { lab, target, images }
    }

    /// Starts `lazy-pages` with these words, and waits until a restore can connect.
    fn daemon(&self, words: &[&str]) -> Child {
        let all = [&["lazy-pages", "-D", &self.images, "-o", "lazy.log"], words].concat();
        let daemon = self.lab.command(&all).stdout(Stdio::piped()).spawn().unwrap();
        assert!(soon(|| self.is_listening()), "{}", self.log());
        daemon
    }

    fn is_listening(&self) -> bool {
        fs::exists(self.socket()).unwrap()
    }

    fn socket(&self) -> String {
        format!("{}/lazy-pages.socket", self.images)
    }

    fn log(&self) -> String {
        fs::read_to_string(format!("{}/lazy.log", self.images)).unwrap_or_default()
    }

    /// Waits until the log has these words.
    #[track_caller]
    fn says(&self, words: &str) {
        assert!(soon(|| self.log().contains(words)), "no {words:?}: {}", self.log());
    }

    /// Connects. The file of the socket is there a moment before the daemon listens.
    fn peer(&self) -> UnixStream {
        let mut peer = None;
        assert!(soon(|| {
            peer = UnixStream::connect(self.socket()).ok();
            peer.is_some()
        }));
        peer.unwrap()
    }

    /// Connects, and says nothing. A thread of the daemon waits for a word.
    fn silent(&self, daemon: &Child) -> UnixStream {
        let peer = self.peer();
        let is_waiting = || {
            let threads = fs::read_dir(format!("/proc/{}/task", daemon.id())).unwrap().flatten();
            let mut names = threads.flat_map(|one| fs::read_to_string(one.path().join("comm")));
            names.any(|name| name == "lazy restore\n")
        };
        assert!(soon(is_waiting), "{}", self.log());
        peer
    }

    /// Restores the task, with memory from the daemon.
    #[track_caller]
    fn restore(&mut self) {
        self.lab.done(&["restore", "-d", "-D", &self.images, "--lazy-pages"]);
        self.target.restored_as(self.target.pid);
        self.target.goes_on();
    }
}

/// Waits for the end of a daemon.
#[track_caller]
fn ended(daemon: Child, code: i32) -> Output {
    let ended = daemon.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(code));
    ended
}

/// Makes JSON of each line.
fn objects(out: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(out).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn signal(daemon: &Child, signal: Signal) {
    send(i32::try_from(daemon.id()).unwrap(), signal);
}

fn silent(lab: &Lab) {
    let mut saved = Saved::new(lab);
    // Of one restore alone, and to its end.
    let daemon = saved.daemon(&["--json"]);
    let mut peer = saved.silent(&daemon);
    saved.restore();
    let lines = objects(&ended(daemon, 0).stdout);
    let [line] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!((&line["restore"], &line["outcome"]), (&1.into(), &"done".into()), "{line}");
    saved.says("refused: the connection has said nothing, and all restores to serve have begun\n");
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    saved.target.end();
    // A stranger does not keep a daemon that is to end.
    let daemon = saved.daemon(&[]);
    let _peer = saved.silent(&daemon);
    signal(&daemon, Signal::SIGINT);
    assert!(soon(|| !saved.is_listening()));
    signal(&daemon, Signal::SIGINT);
    ended(daemon, 0);
    saved.says("refused: the handler of missing pages ends before all pages have come\n");
}

fn nonsense(lab: &Lab) {
    let mut saved = Saved::new(lab);
    let daemon = saved.daemon(&["--restores", "4"]);
    // A task that the images do not have, a number without a descriptor, and an early end.
    let own = saved.target.pid().parse::<u32>().unwrap().to_le_bytes();
    for (number, message) in (1..).zip([&[0xff; 600][..], &own, &own[..2]]) {
        let mut peer = saved.peer();
        peer.write_all(message).unwrap();
        drop(peer);
        saved.says(&format!("restore {number}: failed after "));
    }
    saved.restore();
    ended(daemon, 1);
    saved.says("restore 4: done after ");
    saved.target.end();
}

/// Pages from a page server at the other end of a socket.
fn socket(lab: &Lab) {
    let mut saved = Saved::new(lab);
    let (server_end, own_end) = UnixStream::pair().unwrap();
    let [server_number, own_number] = [&server_end, &own_end].map(|end| {
        fcntl(end, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        end.as_raw_fd().to_string()
    });
    let words = ["page-server", "-D", &saved.images, "--lazy-pages", "-o", "ps.log"];
    let server = lab.command(&[&words[..], &["--ps-socket", &server_number]].concat()).spawn();
    let words = ["lazy-pages", "-D", &saved.images, "-o", "lazy.log", "--page-server"];
    let words = [&words[..], &["--ps-socket", &own_number, "--status-fd", "1"]].concat();
    let daemon = lab.command(&words).stdout(Stdio::piped()).spawn();
    let (mut server, mut daemon) = (server.unwrap(), daemon.unwrap());
    drop((server_end, own_end));
    // One byte, and the end.
    let mut said = Vec::new();
    daemon.stdout.take().unwrap().read_to_end(&mut said).unwrap();
    assert_eq!(said, [0], "{}", saved.log());
    assert!(saved.is_listening());
    saved.restore();
    ended(daemon, 0);
    saved.says("restore 1: done after ");
    assert!(server.wait().unwrap().success());
    saved.target.end();
}

fn signals(lab: &Lab) {
    let mut saved = Saved::new(lab);
    let daemon = saved.daemon(&["--restores", "unlimited", "--fill", "nothing", "--json"]);
    saved.restore();
    signal(&daemon, Signal::SIGINT);
    assert!(soon(|| !saved.is_listening()));
    saved.target.goes_on();
    signal(&daemon, Signal::SIGINT);
    let lines = objects(&ended(daemon, 0).stdout);
    saved.target.is_gone();
    let [line] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!(line["outcome"], "failed", "{line}");
    assert!(line["error"].as_str().unwrap().contains("given up"), "{line}");
}

fn recording(lab: &Lab) {
    let mut saved = Saved::new(lab);
    let daemon = saved.daemon(&["--restores", "2", "--record=0.2", "--json"]);
    let _silent = saved.silent(&daemon);
    // The process id is taken, so that the first restore fails.
    let pid = saved.target.pid().parse().unwrap();
    raw::spawn_as(pid, Command::new("sleep").arg("1000")).unwrap();
    let words = ["restore", "-d", "-D", &saved.images, "--lazy-pages"];
    assert_eq!(run(lab.command(&words)).code, Some(1));
    saved.says("restore 1: failed after ");
    saved.target.signal(Signal::SIGKILL);
    saved.target.is_gone();
    saved.restore();
    ended(daemon, 1);
    saved.says("restore 2: the working set has ");
    assert!(fs::exists(format!("{}/working-set.bin", saved.images)).unwrap());
    saved.target.end();
}

fn incomplete(lab: &Lab) {
    let mut saved = Saved::new(lab);
    // Nothing comes in the background while touches are recorded.
    let words = ["restore", "-d", "-D", &saved.images, "--lazy", "--record=20"];
    for json in [true, false] {
        let words = [&words[..], if json { &["--json"] } else { &[] }].concat();
        let mut restore = lab.command(&words);
        let restore = restore.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        saved.target.restored_as(saved.target.pid);
        saved.target.goes_on();
        saved.target.signal(Signal::SIGKILL);
        let ended = ended(restore, 0);
        saved.target.is_gone();
        let said = String::from_utf8(ended.stderr).unwrap();
        if json {
            let last = objects(&ended.stdout).pop().unwrap();
            assert_eq!(last["outcome"], "memory incomplete", "{last}");
            assert!(last["unused_pages"].as_u64().unwrap() > 1000, "{last}");
        } else {
            assert!(said.contains("tasks have ended before all their memory had come ("), "{said}");
            assert!(!said.contains("all memory is there"), "{said}");
        }
    }
    let daemon = saved.daemon(&["--fill", "nothing", "--json"]);
    saved.restore();
    // The daemon ends with the task, and is waited for first: the target reaps every child.
    saved.target.kill();
    let line = objects(&ended(daemon, 0).stdout).pop().unwrap();
    assert_eq!(line["outcome"], "done", "{line}");
    assert!(line["unused_pages"].as_u64().unwrap() > 1000, "{line}");
    saved.says(" pages left out)\n");
}
