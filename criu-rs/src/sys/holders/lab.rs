//! Tasks and holders for tests.

use std::process::{Child, Command, Stdio};

use criu_plugin::inject;
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::{Look, Owner};
use crate::sys::proc::{Doing, Stat, each_child, each_thread, tracer};

/// A program that ends with the test.
pub(crate) struct Task(pub(crate) Child);

impl Task {
    pub(crate) fn start(program: &str, words: &[&str]) -> Self {
        let mut command = Command::new(program);
        let command = command.args(words).stdin(Stdio::null()).stdout(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    /// A program that sleeps.
    pub(crate) fn sleeping() -> Self {
        let task = Self::start("sleep", &["1000"]);
        let sleeps = libc::SYS_clock_nanosleep;
        let is_asleep = |doing| matches!(doing, Doing::Waits(call) if call.number == sleeps);
        assert!(criu_lab::soon(|| Doing::of_first(task.pid()).is_some_and(is_asleep)));
        task
    }

    pub(crate) fn pid(&self) -> i32 {
        self.0.id().try_into().unwrap()
    }

    /// Checks that the program runs on without a tracer or a child.
    #[track_caller]
    pub(crate) fn is_unharmed(&self) {
        assert_eq!(children(self.pid()), [0; 0]);
        // The child is gone before the thread that has reaped it runs on.
        let runs = || matches!(Stat::of(self.pid()).unwrap().state, b'S' | b'R');
        let is_free = || {
            let mut traced = 0;
            each_thread(self.pid(), |thread| traced += i32::from(tracer(thread).is_some()));
            traced == 0
        };
        assert!(criu_lab::soon(|| runs() && is_free()));
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The children of a process.
pub(crate) fn children(pid: i32) -> Vec<i32> {
    let mut children = Vec::new();
    each_child(pid, |child| children.push(child));
    children
}

/// An owner that has ended.
pub(crate) fn ended() -> Owner {
    let mut program = Command::new("true").spawn().unwrap();
    let pid = program.id().try_into().unwrap();
    let start = Stat::of(pid).unwrap().start;
    program.wait().unwrap();
    Owner { pid, start }
}

/// Forks a task with one thread as criu's plugin does. Returns the number of the holder.
#[track_caller]
pub(crate) fn hold(task: i32, owner: Owner) -> i32 {
    let tid = Pid::from_raw(task);
    ptrace::seize(tid, Options::PTRACE_O_TRACESYSGOOD).unwrap();
    ptrace::interrupt(tid).unwrap();
    waitpid(tid, Some(WaitPidFlag::__WALL)).unwrap();
    let owner = inject::Owner { pid: owner.pid, start: owner.start };
    let held = inject::fork_held(task, owner);
    ptrace::detach(tid, None).unwrap();
    let holder = held.unwrap().pid;
    assert!(matches!(Look::settled(holder), Some(Look::Parked(_))));
    holder
}
