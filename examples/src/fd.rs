//! Descriptors that a command line names by number.

use std::fs::File;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};

use crate::fault::Fault;

/// Duplicates the descriptor that an option names by number.
///
/// The kernel looks the number up as for another process (`pidfd_getfd(2)`, Linux 5.6), so that
/// nothing here claims to own a descriptor that somebody else gave.
///
/// # Errors
/// Fails if there is no such descriptor.
pub(crate) fn by_number(option: &str, number: RawFd) -> Result<OwnedFd, Fault> {
    duplicate(getpid(), number)
        .map_err(|why| Fault::usage(format!("{option} {number}: cannot use the descriptor: {why}")))
}

/// Duplicates the descriptor that a path such as `/dev/fd/3`, `/dev/stderr` or `/proc/7/fd/3`
/// leads to. `None` for all other paths.
///
/// The duplicate has the place in the file, and the flags, of the descriptor. A file that is
/// opened by such a path has its own: it would be written from its beginning.
///
/// # Errors
/// Fails if there is no such descriptor, or if it belongs to a process that this one may not
/// trace.
pub(crate) fn of_path(path: &Path) -> Option<io::Result<OwnedFd>> {
    let (pid, number) = parse(path.to_str()?)?;
    Some(duplicate(pid, number))
}

/// Returns the process and the number that the path of a descriptor names.
fn parse(path: &str) -> Option<(Pid, RawFd)> {
    let own = |number: &str| Some((getpid(), digits(number)?));
    if let Some(name) = path.strip_prefix("/dev/") {
        return match name {
            "stdin" => own("0"),
            "stdout" => own("1"),
            "stderr" => own("2"),
            name => own(name.strip_prefix("fd/")?),
        };
    }
    let (process, number) = path.strip_prefix("/proc/")?.split_once("/fd/")?;
    match process {
        "self" | "thread-self" => own(number),
        process => Some((Pid::from_raw(digits(process)?)?, digits(number)?)),
    }
}

/// Returns the numbers of this process's descriptors whose paths are somewhere in a text.
pub(crate) fn in_text(text: &str) -> impl Iterator<Item = RawFd> + '_ {
    let places = ["/dev/fd/", "/proc/self/fd/", "/proc/thread-self/fd/"];
    let behind = places.into_iter().flat_map(|place| text.split(place).skip(1));
    behind.filter_map(|rest| {
        let end = rest.find(|char: char| !char.is_ascii_digit()).unwrap_or(rest.len());
        digits(&rest[..end])
    })
}

fn digits(text: &str) -> Option<RawFd> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn duplicate(pid: Pid, number: RawFd) -> io::Result<OwnedFd> {
    let process = pidfd_open(pid, PidfdFlags::empty());
    let fd = process.and_then(|process| pidfd_getfd(process, number, PidfdGetfdFlags::empty()));
    fd.map_err(io::Error::from)
}

/// Opens `/dev/null` in the place of a standard stream.
pub(crate) fn to_null(number: RawFd) -> Result<(), Fault> {
    let failed = |source| Fault::system(format!("close descriptor {number}"), source);
    let null = File::options().read(true).write(true).open("/dev/null").map_err(failed)?;
    let done = match number {
        0 => dup2_stdin(null),
        1 => dup2_stdout(null),
        _ => dup2_stderr(null),
    };
    done.map_err(|errno| failed(errno.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_descriptors_are_told_from_other_paths() {
        let own = getpid();
        let one = Pid::from_raw(1).unwrap();
        for (path, want) in [
            ("/dev/stdin", Some((own, 0))),
            ("/dev/stderr", Some((own, 2))),
            ("/dev/fd/7", Some((own, 7))),
            ("/proc/self/fd/12", Some((own, 12))),
            ("/proc/thread-self/fd/3", Some((own, 3))),
            ("/proc/1/fd/3", Some((one, 3))),
            ("/dev/null", None),
            ("/dev/shm/log", None),
            ("/dev/fd/7/log", None),
            ("/dev/fd/../shm/7", None),
            ("/dev/fd/", None),
            ("/dev/fd/-1", None),
            ("/proc/1/root/fd/3", None),
            ("/proc/self/root/dev/fd/3", None),
            ("dev/fd/3", None),
        ] {
            assert_eq!(parse(path), want, "{path}");
        }
        let text = "-o/dev/fd/5 --root=/proc/self/fd/70/img log-file /dev/fd/x /dev/fd/";
        assert_eq!(in_text(text).collect::<Vec<_>>(), [5, 70]);
    }
}
