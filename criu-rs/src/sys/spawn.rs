//! Starting criu with exactly the intended descriptors.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::SigSet;
use nix::unistd::{AccessFlags, Pid, access};

use super::{fd, table};

/// A program to start.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    pub(crate) path: &'a Path,
    /// The arguments, of which the first is the program's name.
    pub(crate) args: &'a [&'a OsStr],
    pub(crate) env: &'a [(OsString, OsString)],
    /// `true` if the program also gets those variables of this process that `env` does not set.
    pub(crate) own_env: bool,
    /// `true` if the program leads its own process group.
    pub(crate) own_group: bool,
}

impl Program<'_> {
    /// Starts the program with `fds[n]` as its descriptor `n`.
    ///
    /// posix_spawn shares this process's memory until the exec, so starting criu costs the same
    /// from a program of any size. No signal is blocked or ignored in the child, whatever this
    /// process does, and no other descriptor of this process is open in it.
    pub(crate) fn spawn(&self, fds: &[impl AsFd]) -> io::Result<Pid> {
        let sources: Vec<RawFd> = fds.iter().map(|fd| fd.as_fd().as_raw_fd()).collect();
        table::alone(&sources, || self.start(&sources))
    }

    /// Starts the program from a thread in which nothing but the sources is open.
    fn start(&self, sources: &[RawFd]) -> io::Result<Pid> {
        let count = RawFd::try_from(sources.len()).map_err(io::Error::other)?;
        let mut actions = PosixSpawnFileActions::init()?;
        // A source numbered like a target would be overwritten: move it out of the way.
        let mut moved: Vec<OwnedFd> = Vec::new();
        for (target, wanted) in (0..).zip(sources) {
            let mut source = *wanted;
            if source < count {
                let away = fd::duplicate(source, count)?;
                source = away.as_raw_fd();
                moved.push(away);
            }
            actions.add_dup2(source, target)?;
        }
        let mut attributes = PosixSpawnAttr::init()?;
        let mut flags =
            PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK;
        flags.set(PosixSpawnFlags::POSIX_SPAWN_SETPGROUP, self.own_group);
        attributes.set_flags(flags)?;
        attributes.set_sigdefault(&SigSet::all())?;
        attributes.set_sigmask(&SigSet::empty())?;
        let args = self.args.iter().copied().map(c_string);
        let args = args.collect::<io::Result<Vec<CString>>>()?;
        Ok(posix_spawn(self.path, &actions, &attributes, &args, &self.environment()?)?)
    }

    fn environment(&self) -> io::Result<Vec<CString>> {
        let replaced = |name: &OsString| self.env.iter().any(|(other, _)| other == name);
        std::env::vars_os()
            .filter(|(name, _)| self.own_env && !replaced(name))
            .chain(self.env.iter().cloned())
            .map(|(name, value)| {
                let mut entry = name.into_vec();
                entry.push(b'=');
                entry.extend(value.as_bytes());
                c_string(OsStr::from_bytes(&entry))
            })
            .collect()
    }
}

/// Returns the path at which a shell would find the program.
pub(crate) fn find(program: &Path) -> io::Result<PathBuf> {
    if program.components().count() > 1 {
        return Ok(program.to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file() && access(candidate, AccessFlags::X_OK).is_ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "not found in PATH"))
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(io::Error::other)
}

/// The search path of a shell without `PATH`. CRIU lies in sbin.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[cfg(test)]
mod tests {
    use std::io::Read;

    use nix::sys::wait::{WaitStatus, waitpid};

    use super::*;

    /// Returns a pipe whose content identifies it.
    fn pipe_holding(text: &str) -> OwnedFd {
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        nix::unistd::write(&write, text.as_bytes()).unwrap();
        read
    }

    #[test]
    fn descriptors_arrive_at_their_numbers_wherever_they_come_from() {
        // The folder itself is open while `ls` reads it.
        let list = "echo $(ls /proc/self/fd)";
        // A descriptor without close-on-exec reaches children that others start.
        let _leaked = nix::unistd::pipe().unwrap();
        let (out, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        let null = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let [a, b, c] = ["a", "b", "c"].map(pipe_holding);
        let script = format!("head -c1 <&3; head -c1 <&4; head -c1 <&5; {list}");
        let program = Program {
            path: Path::new("/bin/sh"),
            args: &["/bin/sh", "-c", &script].map(OsStr::new),
            env: &[],
            own_env: true,
            own_group: true,
        };
        let pid = program.spawn(&[&null, &write, &null, &c, &a, &b, &a]).unwrap();
        drop(write);
        assert!(matches!(waitpid(pid, None), Ok(WaitStatus::Exited(_, 0))));
        let mut said = String::new();
        std::fs::File::from(out).read_to_string(&mut said).unwrap();
        assert_eq!(said, "cab0 1 2 3 4 5 6 7\n");
    }

    #[test]
    fn a_program_is_found_as_a_shell_would() {
        assert_eq!(find(Path::new("./x/y")).unwrap(), Path::new("./x/y"));
        assert!(find(Path::new("sh")).unwrap().ends_with("sh"));
        assert!(find(Path::new("no-such-program-7")).is_err());
    }
}
