//! The search for the cause of a failure, in CRIU's messages and in `/proc`.

use super::cause::{Cause, SAID};
use super::failure::Failure;
use super::line::{Level, Line};
use super::log::LogExcerpt;
use super::phrase::On;
use crate::labels;
use crate::value::Pid;

/// The facts about a failed operation that CRIU was told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asked {
    /// The process to be dumped.
    pub(crate) root: Option<Pid>,
    /// The dump goes to a page server.
    pub(crate) to_server: bool,
    /// The restore has a root directory.
    pub(crate) has_root: bool,
}

/// Finds the cause of a failure, and what the cause is about.
pub(crate) fn diagnose(failure: &mut Failure, asked: &Asked) {
    let told = said(failure).or_else(|| dead_leader(failure));
    let (cause, seen) = match told {
        Some((cause, seen)) => (Some(cause), seen),
        None => (unsaid(failure, asked), String::new()),
    };
    failure.cause = cause;
    failure.seen = Some(seen).filter(|seen| !seen.is_empty());
}

/// The cause that CRIU's messages tell. The first message that tells one decides. Without such a
/// message, the first error may tell a general cause.
fn said(failure: &Failure) -> Option<(Cause, String)> {
    let lines = telling(failure);
    let on = On::of(failure.operation);
    let first = lines.iter().find(|line| line.is_error()).or(lines.first());
    let told = |line: &Line<'_>, general: bool| {
        let mut phrases = SAID.iter().filter(|phrase| phrase.is_general() == general);
        phrases.find_map(|phrase| Some((phrase.cause, phrase.fits(on, line.text)?)))
    };
    let told = lines.iter().find_map(|line| told(line, false)).or_else(|| told(first?, true));
    let (cause, seen) = told?;
    // CRIU has one message for several causes: tell them apart.
    let selinux = || labels::Machine::look().runs(labels::SecurityModule::Selinux);
    let cause = match cause {
        Cause::LsmMismatch if lines.iter().any(names_selinux) && selinux() => Cause::NoSelinux,
        Cause::Traced => match refused(&lines) {
            Some((_, 'Z' | 'X', threads)) if threads > 1 => Cause::DeadLeader,
            Some((_, 'Z' | 'X', _)) => Cause::DeadRoot,
            Some((0, ..)) => Cause::NotTraceable,
            _ => Cause::Traced,
        },
        // Without root the mount is refused whatever the namespaces of the tree are.
        Cause::NoBinfmtMisc if !nix::unistd::geteuid().is_root() => Cause::NotPermitted,
        Cause::DeadRoot if lines.iter().any(|line| line.text == HEADLESS) => Cause::DeadLeader,
        Cause::FileMissing if ["proc/", "sys/"].iter().any(|dir| seen.starts_with(dir)) => {
            Cause::ProcFileMissing
        }
        // CRIU has read the inventory if it says so much more.
        Cause::NotCheckpoint if lines.iter().any(|line| line.text == "Restoring FAILED.") => {
            Cause::ImagesDamaged
        }
        cause => cause,
    };
    Some((cause, seen))
}

/// The lines that can tell the cause, in CRIU's order: warnings and output of programs shortly
/// before the first error, the error, and those errors after it that are not another task's.
fn telling(failure: &Failure) -> Vec<Line<'_>> {
    let mut lines = Vec::new();
    if let Some(log) = failure.excerpt() {
        let first = Line::read(&log.error);
        // Programs that CRIU calls write without a time stamp.
        let tells = |line: &Line<'_>| {
            line.level == Level::Warning || (line.stamp.is_none() && !line.is_error())
        };
        lines.extend(log.before.iter().map(|line| Line::read(line)).filter(tells));
        lines.push(first);
        // Tasks are restored side by side. Once one has failed, others fail as a consequence.
        // A task that has failed inside is named by the first line of its own.
        let inside = log.more.first().map(|line| Line::read(line)).filter(|line| line.is_inside);
        let task = first.task.or(inside.and_then(|line| line.task));
        let is_own = |line: &Line<'_>| line.task.is_none() || line.task == task;
        lines.extend(log.more.iter().map(|line| Line::read(line)).filter(is_own));
    }
    lines.extend(failure.output.lines().chain(failure.message.as_deref()).map(Line::read));
    lines
}

/// A process whose first thread has ended while others run on. CRIU says of it what it also says of
/// a process that is not there, and of one that it has not stopped yet.
fn dead_leader(failure: &Failure) -> Option<(Cause, String)> {
    let text = Line::read(&failure.excerpt()?.error).text;
    let pid = text.strip_prefix("Unable to detach from ")?.strip_suffix(": No such process")?;
    let status = procfs::process::Process::new(pid.parse().ok()?).ok()?.status().ok()?;
    let is_dead = status.state.starts_with('Z') && status.threads > 1;
    is_dead.then(|| (Cause::DeadLeader, format!("process {pid}")))
}

/// The cause that `/proc` and the end of the operation tell.
fn unsaid(failure: &Failure, asked: &Asked) -> Option<Cause> {
    let Asked { root, to_server, has_root } = *asked;
    // CRIU connects before it stops a task. Without a connection, its first error is that it cannot
    // detach from the root.
    let never_stopped = |root: Pid| {
        let first = failure.excerpt().map_or("", |log| &log.error);
        first.ends_with(&format!("Unable to detach from {root}: No such process"))
    };
    // The telling line is a warning, which a low log level leaves out.
    let gone = || root.is_some_and(|pid| procfs::process::Process::new(pid.as_raw()).is_err());
    if failure.errno == Some(libc::ESRCH) && gone() {
        return Some(Cause::NoSuchProcess);
    }
    if to_server && root.is_some_and(never_stopped) {
        return Some(Cause::NoPageServer);
    }
    // Without a root directory CRIU's mount engine of today trips over mounts that it did not
    // prepare.
    let trips = |log: &LogExcerpt| log.error.contains("BUG at criu/mount.c:");
    let is_rootless = failure.operation == "restore" && !has_root;
    (is_rootless && failure.excerpt().is_some_and(trips)).then_some(Cause::RootNeeded)
}

/// Returns true if a line is about SELinux, or about a module that does not match the images.
fn names_selinux(line: &Line<'_>) -> bool {
    line.text.contains("selinux LSM specified") || line.text.contains("mismatched lsm types")
}

/// CRIU's message about a process whose first thread has ended. A warning about a zombie precedes
/// it.
const HEADLESS: &str = "Zombies with threads are not supported";

/// The tracer (zero for none), the state and the number of threads of the process that CRIU could
/// not stop. `None` if no line names it or it is gone.
fn refused(lines: &[Line<'_>]) -> Option<(i32, char, u64)> {
    let named = |line: &Line<'_>| {
        let (_, rest) = line.text.split_once("Unable to interrupt task: ")?;
        rest.split(' ').next()?.parse().ok()
    };
    let pid: i32 = lines.iter().find_map(named)?;
    let process = procfs::process::Process::new(pid);
    let status = process.and_then(|process| process.status()).ok();
    let first = |state: String| state.chars().next();
    status.map(|status| (status.tracerpid, first(status.state).unwrap_or('R'), status.threads))
}
