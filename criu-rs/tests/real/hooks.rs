//! CRIU's actions: their order, the effect of a refusal, and the descriptors that they hand over.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use criu_lab::process::state;
use criu_lab::{Terminal, names, soon};
use criu_rs::{
    Action, AfterDump, Dump, Error, External, HookResult, Hooks, Pid, Restore, Restored, Result,
};
use nix::sched::CloneFlags;

use crate::container::Container;
use crate::lab::{Lab, Target, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[
    ("actions_of_a_plain_process", actions_of_a_plain_process),
    ("actions_of_a_container", actions_of_a_container),
    ("a_refused_dump_loses_nothing", a_refused_dump_loses_nothing),
    ("a_refused_restore_leaves_nothing", a_refused_restore_leaves_nothing),
    ("a_refused_restore_of_a_container_leaves_nothing", refused_container),
    ("externals_are_named_at_query_ext_files", externals_are_named),
    ("the_master_of_a_terminal_is_handed_over_and_usable", orphan_master),
    ("the_root_is_held_at_post_restore", root_is_held),
    ("a_refused_terminal_ends_the_restore", refused_terminal),
    ("a_refused_lazy_dump_leaves_the_process_running", refused_lazy_dump),
    ("a_refused_stream_leaves_the_process_running", refused_stream),
];

/// Records every action; refuses at one of them.
#[derive(Default)]
struct Recorder {
    seen: Vec<&'static str>,
    refuse: Option<Action>,
    externals: Vec<External>,
    masters: Vec<OwnedFd>,
    root: Option<Pid>,
}

impl Recorder {
    fn refusing(action: Action) -> Self {
        Self { refuse: Some(action), ..Self::default() }
    }

    fn at(&mut self, action: Action) -> HookResult {
        self.seen.push(action.name());
        if self.refuse == Some(action) { Err("the test says no".into()) } else { Ok(()) }
    }
}

macro_rules! record {
    ($($method:ident $action:ident,)*) => {
        $(fn $method(&mut self) -> HookResult { self.at(Action::$action) })*
    };
}

impl Hooks for Recorder {
    record! {
        pre_stream PreStream, pre_dump PreDump, post_dump PostDump, pre_restore PreRestore,
        network_lock NetworkLock, network_unlock NetworkUnlock,
        post_setup_namespaces PostSetupNamespaces, pre_resume PreResume, post_resume PostResume,
        status_ready StatusReady,
    }

    fn post_restore(&mut self, root: Pid) -> HookResult {
        self.root = Some(root);
        self.at(Action::PostRestore)
    }

    fn setup_namespaces(&mut self, root: Pid) -> HookResult {
        self.root = Some(root);
        self.at(Action::SetupNamespaces)
    }

    fn orphan_pts_master(&mut self, master: OwnedFd) -> HookResult {
        self.masters.push(master);
        self.at(Action::OrphanPtsMaster)
    }

    fn query_ext_files(&mut self) -> HookResult<Vec<External>> {
        self.at(Action::QueryExtFiles)?;
        Ok(self.externals.clone())
    }
}

fn actions_of_a_plain_process(lab: &Lab) {
    let images = lab.dir("images");
    let mut target = lab.start(&["count"]);
    let mut hooks = Recorder::default();
    Dump::new(target.pid, &images).run_with(&lab.criu, &mut hooks).unwrap();
    assert_eq!(hooks.seen, ["pre-dump", "query-ext-files", "post-dump"]);
    target.is_gone();
    let mut hooks = Recorder::default();
    let restored = Restore::new(&images).run_with(&lab.criu, &mut hooks).unwrap();
    target.restored_as(restored.pid);
    assert_eq!(hooks.root, Some(restored.pid));
    assert_eq!(hooks.seen, ["pre-restore", "post-restore", "pre-resume", "post-resume"]);
}

fn actions_of_a_container(lab: &Lab) {
    let images = lab.dir("images");
    let mut container = Container::start(lab, CloneFlags::CLONE_NEWNET);
    let pid = container.target.pid;
    let mut hooks = Recorder::default();
    let dump = Dump::new(pid, &images).after_dump(AfterDump::LeaveRunning);
    dump.run_with(&lab.criu, &mut hooks).unwrap();
    let seen = ["pre-dump", "network-lock", "query-ext-files", "post-dump", "network-unlock"];
    assert_eq!(hooks.seen, seen);
    let mut hooks = Recorder::default();
    let dump = Dump::new(pid, &images).overwrite(true);
    dump.run_with(&lab.criu, &mut hooks).unwrap();
    assert_eq!(hooks.seen, ["pre-dump", "network-lock", "query-ext-files", "post-dump"]);
    container.is_gone();
    let mut hooks = Recorder::default();
    let restore = Restore::new(&images).root(&container.root);
    let restored = restore.run_with(&lab.criu, &mut hooks).unwrap();
    container.target.restored_as(restored.pid);
    let seen = [
        "pre-restore",
        "setup-namespaces",
        "post-setup-namespaces",
        "post-restore",
        "network-unlock",
        "pre-resume",
        "post-resume",
    ];
    assert_eq!(hooks.seen, seen);
}

fn refused_at<T>(result: Result<T>) -> Action {
    match result.map(|_| ()) {
        Err(Error::Hook { action, source }) => {
            assert_eq!(source.to_string(), "the test says no");
            action
        }
        other => panic!("not refused by the hook: {other:?}"),
    }
}

fn a_refused_dump_loses_nothing(lab: &Lab) {
    let container = Container::start(lab, CloneFlags::CLONE_NEWNET);
    let actions = [
        Action::PreDump,
        Action::NetworkLock,
        Action::QueryExtFiles,
        Action::NetworkUnlock,
        Action::PostDump,
    ];
    for action in actions {
        let images = lab.dir(action.name());
        let mut hooks = Recorder::refusing(action);
        let mut dump = Dump::new(container.target.pid, &images);
        if action == Action::NetworkUnlock {
            dump = dump.after_dump(AfterDump::LeaveRunning);
        }
        assert_eq!(refused_at(dump.run_with(&lab.criu, &mut hooks)), action);
        container.target.goes_on();
        let left = names(&images);
        assert!(left.iter().all(|name| name.ends_with(".log")), "{action}: {left:?}");
    }
}

fn a_refused_restore_leaves_nothing(lab: &Lab) {
    let images = lab.dir("images");
    let mut target = lab.start(&["tree", "3"]);
    Dump::new(target.pid, &images).run(&lab.criu).unwrap();
    target.is_gone();
    let restore = Restore::new(&images);
    let actions = [Action::PreRestore, Action::PostRestore, Action::PreResume, Action::PostResume];
    for action in actions {
        let before = target.count();
        leaves_nothing(lab, &restore, action);
        if action != Action::PostResume {
            assert_eq!(target.count(), before, "{action}: it ran");
        }
    }
    let restored = restore.run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    target.goes_on();
}

fn refused_container(lab: &Lab) {
    let images = lab.dir("images");
    let mut container = Container::start(lab, CloneFlags::CLONE_NEWNET);
    Dump::new(container.target.pid, &images).run(&lab.criu).unwrap();
    container.is_gone();
    let restore = Restore::new(&images).root(&container.root);
    let actions = [
        Action::PreRestore,
        Action::SetupNamespaces,
        Action::PostSetupNamespaces,
        Action::PostRestore,
        Action::NetworkUnlock,
        Action::PreResume,
        Action::PostResume,
    ];
    for action in actions {
        leaves_nothing(lab, &restore, action);
    }
    let restored = restore.run(&lab.criu).unwrap();
    container.target.restored_as(restored.pid);
    container.target.goes_on();
}

/// Refuses at an action and looks for survivors.
#[track_caller]
fn leaves_nothing(lab: &Lab, restore: &Restore<'_>, action: Action) {
    let mut hooks = Recorder::refusing(action);
    assert_eq!(refused_at(restore.run_with(&lab.criu, &mut hooks)), action);
    let alone = || {
        criu_lab::process::reap();
        criu_lab::process::descendants(Pid::this()).len() == 1
    };
    assert!(soon(alone), "{action}: {:?}", criu_lab::process::descendants(Pid::this()));
    if let Some(root) = hooks.root {
        assert_eq!(state(root), None, "{action}: the root is there");
    }
}

fn externals_are_named(lab: &Lab) {
    let images = lab.dir("images");
    let (ours, theirs) = UnixStream::pair().unwrap();
    let inode = {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", fd_number(&theirs))).unwrap();
        let text = link.to_string_lossy().into_owned();
        text.trim_start_matches("socket:[").trim_end_matches(']').parse().unwrap()
    };
    let target = lab.start_with(&["count"], |command| command.stdin(OwnedFd::from(theirs)));
    let dump = Dump::new(target.pid, &images).after_dump(AfterDump::LeaveRunning);
    let error = dump.run(&lab.criu).unwrap_err();
    assert_eq!(error.cause(), Some(criu_rs::Cause::ExternalUnixSocket), "{error}");
    let mut hooks =
        Recorder { externals: vec![External::UnixSocket(inode)], ..Recorder::default() };
    dump.run_with(&lab.criu, &mut hooks).unwrap();
    drop(ours);
}

fn fd_number(fd: &impl std::os::fd::AsRawFd) -> i32 {
    fd.as_raw_fd()
}

fn orphan_master(lab: &Lab) {
    let images = lab.dir("images");
    let Terminal { mut master, slave, path } = Terminal::open();
    let mut target = lab.start(&["terminal-echo", &path]);
    drop(slave);
    assert_eq!(talk(&mut master, "before"), "before");
    let dump = Dump::new(target.pid, &images);
    let without = dump.run(&lab.criu).unwrap_err();
    assert_eq!(without.cause(), Some(criu_rs::Cause::ForeignTerminal), "{without}");
    dump.orphan_pts_master(true).run(&lab.criu).unwrap();
    target.is_gone();
    drop(master);

    let mut hooks = Recorder::default();
    let restore = Restore::new(&images).orphan_pts_master(true);
    let restored: Restored = restore.run_with(&lab.criu, &mut hooks).unwrap();
    target.restored_as(restored.pid);
    assert_eq!(hooks.masters.len(), 1, "{:?}", hooks.seen);
    let mut master = std::fs::File::from(hooks.masters.pop().unwrap());
    assert_eq!(talk(&mut master, "after"), "after");
}

/// Writes a line to a terminal's master and reads the echoing payload's answer.
fn talk(master: &mut std::fs::File, line: &str) -> String {
    writeln!(master, "{line}").unwrap();
    let mut said = String::new();
    let mut bytes = [0; 256];
    // The terminal itself shows the line first, then the payload repeats it.
    while said.matches(line).count() < 2 {
        let length = master.read(&mut bytes).unwrap();
        said.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
    }
    said.lines().last().unwrap().trim().to_owned()
}

fn root_is_held(lab: &Lab) {
    struct Look {
        file: std::path::PathBuf,
        counts: Vec<String>,
    }
    impl Hooks for Look {
        fn post_restore(&mut self, root: Pid) -> HookResult {
            assert!(state(root).is_some());
            for _ in 0..2 {
                self.counts.push(std::fs::read_to_string(&self.file)?);
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            Ok(())
        }
    }
    let images = lab.dir("images");
    let mut target: Target = lab.start(&["count"]);
    Dump::new(target.pid, &images).run(&lab.criu).unwrap();
    target.is_gone();
    let mut hooks = Look { file: lab.dir.join("count-count"), counts: Vec::new() };
    let restored = Restore::new(&images).run_with(&lab.criu, &mut hooks).unwrap();
    target.restored_as(restored.pid);
    assert_eq!(hooks.counts[0], hooks.counts[1], "it ran while it should have been held");
    restored.signal(nix::sys::signal::Signal::SIGKILL as i32).unwrap();
    target.is_gone();
}

fn refused_terminal(lab: &Lab) {
    let images = lab.dir("images");
    let Terminal { master, slave, path } = Terminal::open();
    let mut target = lab.start(&["terminal-echo", &path]);
    drop(slave);
    Dump::new(target.pid, &images).orphan_pts_master(true).run(&lab.criu).unwrap();
    target.is_gone();
    drop(master);
    let restore = Restore::new(&images).orphan_pts_master(true);
    leaves_nothing(lab, &restore, Action::OrphanPtsMaster);
}

fn refused_lazy_dump(lab: &Lab) {
    let _alone = criu_lab::place::alone("pipe-max-size");
    let images = lab.dir("images");
    let target = lab.start(&["count"]);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut hooks = Recorder::refusing(Action::StatusReady);
    let dump = Dump::new(target.pid, &images).lazy_pages_at("127.0.0.1", port);
    assert_eq!(refused_at(dump.run_with(&lab.criu, &mut hooks)), Action::StatusReady);
    target.goes_on();
    assert_eq!(names(&images), ["dump.log"]);
}

fn refused_stream(lab: &Lab) {
    let images = lab.dir("images");
    let target = lab.start(&["count"]);
    let mut hooks = Recorder::refusing(Action::PreStream);
    let result = Dump::new(target.pid, &images).stream(true).run_with(&lab.criu, &mut hooks);
    if lab.version < criu_rs::Version::new(4, 3, 0) {
        assert!(matches!(result, Err(Error::TooOld { .. })));
    } else {
        assert_eq!(refused_at(result), Action::PreStream);
        assert!(names(&images).is_empty(), "it comes before the log");
    }
    target.goes_on();
}
