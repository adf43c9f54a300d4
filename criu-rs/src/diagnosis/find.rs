//! The search for the cause of a failure, in CRIU's messages and in `/proc`.

use super::cause::{Cause, SAID};
use super::failure::Failure;
use crate::labels;
use crate::value::Pid;

/// Finds the cause of a failure. `root` is the process to be dumped; `to_server` is true if the
/// dump goes to a page server.
pub(crate) fn cause_of(failure: &Failure, root: Option<Pid>, to_server: bool) -> Option<Cause> {
    let log = failure.excerpt().into_iter().flat_map(|log| {
        [&log.error].into_iter().chain(&log.more).chain(&log.before).map(String::as_str)
    });
    let lines: Vec<&str> =
        log.chain(failure.output.lines()).chain(failure.message.as_deref()).collect();
    let fits = |parts: &[&str]| lines.iter().any(|line| has_all(line, parts));
    let said = SAID.iter().find(|(_, parts)| fits(parts)).map(|&(cause, _)| cause);
    // CRIU has one message for two causes, and another for three: tell them apart.
    let selinux = || labels::Machine::look().runs(labels::SecurityModule::Selinux);
    let said = match said {
        Some(Cause::LsmMismatch) if selinux() && lines.iter().any(|line| names_selinux(line)) => {
            Some(Cause::NoSelinux)
        }
        Some(Cause::Traced) => Some(match refused(&lines) {
            Some((_, 'Z' | 'X')) => Cause::DeadRoot,
            Some((0, _)) => Cause::NotTraceable,
            _ => Cause::Traced,
        }),
        said => said,
    };
    // CRIU connects before it stops a task. Without a connection, its first error is that it cannot
    // detach from the root.
    let never_stopped = |root: Pid| {
        let first = failure.excerpt().map_or("", |log| &log.error);
        first.ends_with(&format!("Unable to detach from {root}: No such process"))
    };
    // The telling line is a warning, which a low log level leaves out.
    let gone = || root.is_some_and(|pid| procfs::process::Process::new(pid.as_raw()).is_err());
    said.or_else(|| (failure.errno == Some(libc::ESRCH) && gone()).then_some(Cause::NoSuchProcess))
        .or_else(|| (to_server && root.is_some_and(never_stopped)).then_some(Cause::NoPageServer))
}

/// Returns true if a line is about SELinux, or about a module that does not match the images.
fn names_selinux(line: &str) -> bool {
    line.contains("selinux LSM specified") || line.contains("mismatched lsm types")
}

/// The tracer (zero for none) and the state of the process that CRIU could not stop. `None` if no
/// line names it or it is gone.
fn refused(lines: &[&str]) -> Option<(i32, char)> {
    let named = |line: &&str| {
        let (_, rest) = line.split_once("Unable to interrupt task: ")?;
        rest.split(' ').next()?.parse().ok()
    };
    let pid: i32 = lines.iter().find_map(named)?;
    let process = procfs::process::Process::new(pid);
    let status = process.and_then(|process| process.status()).ok();
    let first = |state: String| state.chars().next();
    status.map(|status| (status.tracerpid, first(status.state).unwrap_or('R')))
}

fn has_all(line: &str, parts: &[&str]) -> bool {
    parts.iter().all(|part| line.contains(part))
}
