//! Checks of pipes, FIFOs, terminals and seccomp listeners whose other end is outside the tree.
//!
//! CRIU saves the end that the tree has and says nothing of the other. After the restore nobody is
//! there: a writer dies of `SIGPIPE`, a reader meets the end of the file.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::finding::{Finding, Severity};
use super::live::{Task, Tree};
use super::need::Need;
use super::outside::each_descriptor;
use super::proc::{self, Fd, Kind, Meta};
use crate::host::namespaces::number;
use crate::sys::fd::copy_of;
use crate::value::Pid;

pub(super) fn look(tree: &Tree) -> Vec<Finding> {
    let halves = Halves::of(tree);
    if halves.is_empty() {
        return Vec::new();
    }
    let outside = Outside::look(tree, &halves);
    let pipes = halves.pipes.iter().filter_map(|half| half.finding(&outside, halves.sends));
    let masters = halves.masters.iter().filter_map(|(index, (task, fd))| {
        let holder = outside.slaves.get(&(*index, terminals_of(task)?))?;
        let what = "a terminal is used by a process outside the tree";
        let detail = format!("process {holder} has the other end and will be hung up");
        let finding = Finding::new(Severity::Loses, what).pid(task.pid).fd(fd.number);
        Some(finding.path(&fd.link).detail(detail))
    });
    let listener = halves.filtered.zip(outside.listener).map(|(task, holder)| {
        let what = "a seccomp filter may ask a process outside the tree";
        let detail = format!("process {holder} listens; a restored filter has nobody to ask");
        Finding::new(Severity::Loses, what).pid(task).detail(detail)
    });
    pipes.chain(masters).chain(listener).collect()
}

/// The ends in the tree whose other end is not in the tree.
#[derive(Default)]
struct Halves<'a> {
    pipes: Vec<Half<'a>>,
    /// Masters of terminals whose slave no process of the tree has, by the terminal's number.
    masters: BTreeMap<u64, (&'a Task, &'a Fd)>,
    /// True if a socket of the tree holds descriptors that nobody has received: an end may be
    /// there.
    sends: bool,
    /// The first process with seccomp filters, in a tree that does not listen itself.
    filtered: Option<Pid>,
}

/// A pipe or FIFO of which the tree has one end.
struct Half<'a> {
    task: &'a Task,
    fd: &'a Fd,
    /// True if the tree reads.
    reads: bool,
}

impl<'a> Halves<'a> {
    fn of(tree: &'a Tree) -> Self {
        let mut ends: BTreeMap<(u64, u64), (&Task, &Fd, Ends)> = BTreeMap::new();
        let mut masters = BTreeMap::new();
        let mut slaves = HashSet::new();
        let (mut listens, mut sends) = (false, false);
        for (task, fd) in tree.fds() {
            match fd.meta.kind {
                Kind::Fifo => {
                    let key = (fd.meta.dev, fd.meta.inode);
                    let (_, _, ends) = ends.entry(key).or_insert((task, fd, Ends::default()));
                    ends.add(fd.flags());
                }
                Kind::Character => {
                    for index in proc::numbers::<u64>(&fd.info, "tty-index") {
                        masters.entry(index).or_insert((task, fd));
                    }
                    slaves.extend(slave(&fd.meta));
                }
                Kind::Socket => sends |= proc::numbers::<u32>(&fd.info, "scm_fds") > vec![0],
                _ => listens |= fd.name() == LISTENER,
            }
        }
        masters.retain(|index, _| !slaves.contains(index));
        let half = |(task, fd, ends): (&'a Task, &'a Fd, Ends)| {
            (ends.reads != ends.writes).then_some(Half { task, fd, reads: ends.reads })
        };
        let pipes: Vec<Half<'_>> = ends.into_values().filter_map(half).collect();
        let is_filtered = |task: &&Task| proc::numbers(&task.status, "Seccomp").first() == Some(&2);
        let filtered = tree.alive().find(is_filtered).filter(|_| !listens).map(|task| task.pid);
        Self {
            pipes: pipes.into_iter().filter(Half::has_other).collect(),
            masters,
            sends,
            filtered,
        }
    }

    fn is_empty(&self) -> bool {
        self.pipes.is_empty() && self.masters.is_empty() && self.filtered.is_none()
    }
}

impl Half<'_> {
    /// Returns false if the kernel says that nobody has the other end: then nothing is lost.
    fn has_other(&self) -> bool {
        let Ok(copy) = copy_of(self.task.pid.nix(), self.fd.number) else { return true };
        let mut polled = [PollFd::new(copy.as_fd(), PollFlags::POLLIN | PollFlags::POLLOUT)];
        if poll(&mut polled, PollTimeout::ZERO).is_err() {
            return true;
        }
        let [polled] = polled;
        let nobody = PollFlags::POLLHUP | PollFlags::POLLERR;
        !polled.revents().is_some_and(|events| events.intersects(nobody))
    }

    fn is_pipe(&self) -> bool {
        self.fd.name().starts_with("pipe:[")
    }

    fn finding(&self, outside: &Outside, sends: bool) -> Option<Finding> {
        let holders = outside.pipes.get(&(self.fd.meta.dev, self.fd.meta.inode));
        let fits =
            |holder: &&Holder| if self.reads { holder.ends.writes } else { holder.ends.reads };
        let holder = holders.and_then(|holders| holders.iter().find(fits));
        // Without the other end a FIFO waits for somebody to open it, before and after.
        if holder.is_none() && (sends || !self.is_pipe() || sees_all() || !self.has_other()) {
            return None;
        }
        let what = if self.is_pipe() {
            "the other end of a pipe is outside the tree"
        } else {
            "the other end of a FIFO is outside the tree"
        };
        let who = holder.map_or("a process".into(), |holder| format!("process {}", holder.pid));
        let detail = if self.reads {
            format!("{who} writes to it; after a restore it is at its end")
        } else {
            format!("{who} reads it; after a restore a write is SIGPIPE")
        };
        let finding = Finding::new(Severity::Loses, what).pid(self.task.pid).fd(self.fd.number);
        let finding = finding.path(&self.fd.link).detail(detail);
        let key = self.is_pipe().then(|| Need::InheritFd(self.fd.name().to_owned()));
        Some(Finding { needs: key.into_iter().collect(), ..finding })
    }
}

/// The ends of a pipe that somebody has.
#[derive(Clone, Copy, Default)]
struct Ends {
    reads: bool,
    writes: bool,
}

impl Ends {
    /// Adds the end of a descriptor, by its flags.
    fn add(&mut self, flags: Option<i32>) {
        let flags = flags.unwrap_or(nix::libc::O_PATH);
        if flags & nix::libc::O_PATH != 0 {
            return;
        }
        let mode = flags & nix::libc::O_ACCMODE;
        self.reads |= mode != nix::libc::O_WRONLY;
        self.writes |= mode != nix::libc::O_RDONLY;
    }
}

/// A process outside the tree that has a pipe open.
struct Holder {
    pid: Pid,
    ends: Ends,
}

/// The device of the devpts that a task's terminals are in.
fn terminals_of(task: &Task) -> Option<u64> {
    Some(Meta::of(proc::of(task.pid, "root").join("dev/pts"))?.dev)
}

/// The ends that processes outside the tree have, of those that the tree lacks.
#[derive(Default)]
struct Outside {
    /// The holders of the other end of each pipe, by device and inode.
    pipes: HashMap<(u64, u64), Vec<Holder>>,
    /// A holder of the slave of each terminal, by the terminal's number and the device of its
    /// devpts: each container has one of its own, and counts from 0.
    slaves: HashMap<(u64, u64), Pid>,
    /// A process that listens for seccomp filters.
    listener: Option<Pid>,
}

impl Outside {
    /// Looks once at the descriptors of all processes outside the tree.
    fn look(tree: &Tree, halves: &Halves<'_>) -> Self {
        let mut outside = Self::default();
        let names: HashSet<&str> = halves.pipes.iter().map(|half| half.fd.name()).collect();
        let wanted: HashSet<(u64, u64)> =
            halves.pipes.iter().map(|half| (half.fd.meta.dev, half.fd.meta.inode)).collect();
        let has_fifo = halves.pipes.iter().any(|half| !half.is_pipe());
        each_descriptor(tree, |pid, number, link| {
            let Some(name) = link.to_str() else { return };
            let may_be_fifo = has_fifo && name.starts_with('/');
            if names.contains(name) || may_be_fifo {
                outside.add_pipe(pid, number, &wanted);
            } else if name.starts_with("/dev/pts/") && !halves.masters.is_empty() {
                let found = meta(pid, number).and_then(|meta| Some((slave(&meta)?, meta.dev)));
                outside.slaves.extend(found.map(|terminal| (terminal, pid)));
            } else if name == LISTENER {
                outside.listener = Some(pid);
            }
        });
        outside
    }

    fn add_pipe(&mut self, pid: Pid, number: i32, wanted: &HashSet<(u64, u64)>) {
        let Some(meta) = meta(pid, number).filter(|meta| meta.kind == Kind::Fifo) else { return };
        let key = (meta.dev, meta.inode);
        if !wanted.contains(&key) {
            return;
        }
        let info = proc::text(proc::of(pid, "fdinfo").join(number.to_string()));
        let info = info.unwrap_or_default();
        let mut ends = Ends::default();
        ends.add(proc::flags(&info));
        let holders = self.pipes.entry(key).or_default();
        if holders.len() < MAX_HOLDERS {
            holders.push(Holder { pid, ends });
        }
    }
}

/// Returns true if this process sees all processes: it is in the first pid namespace.
fn sees_all() -> bool {
    number("/proc/self/ns/pid") == Some(FIRST_PID_NAMESPACE)
}

fn meta(pid: Pid, number: i32) -> Option<Meta> {
    Meta::of(proc::of(pid, "fd").join(number.to_string()))
}

/// The number of a terminal, of its slave.
fn slave(meta: &Meta) -> Option<u64> {
    let (major, minor) = meta.device();
    (136..=143).contains(&major).then(|| (major - 136) * 256 + minor)
}

/// `PROC_PID_INIT_INO`: the inode of the first pid namespace.
const FIRST_PID_NAMESPACE: u64 = 0xefff_fffc;

/// The name of a descriptor that gets the questions of seccomp filters.
const LISTENER: &str = "anon_inode:seccomp notify";

/// Most holders of a pipe that are kept.
const MAX_HOLDERS: usize = 64;
