//! The confinement of a program that strangers talk to: the process gives up what it does not need.
//!
//! ```text
//! capabilities   all are dropped but those without which the directories are out of reach
//! landlock       files outside of the directories, TCP, and signals to others are refused
//! filter         system calls that a server never makes fail: a new program, mounts, ptrace
//! raw            the system calls themselves
//! ```
//!
//! Each part holds for the calling thread and for threads that it starts later. So a program is
//! confined before its first thread. A kernel that lacks a part is told about, and is no error.

mod capabilities;
mod filter;
mod landlock;
mod places;
mod raw;

use std::fmt;

use nix::sys::prctl;

pub(crate) use filter::Connects;
pub(crate) use landlock::Access;
pub(crate) use places::{Place, parents};

/// The parts of a confinement that are in force.
#[derive(Debug)]
pub(crate) struct Confined {
    /// The capabilities that the process keeps, by name, if they could be dropped.
    kept: Option<Vec<String>>,
    /// The version of Landlock in the kernel.
    landlock: Option<i32>,
    /// The connections that the filter of system calls lets through, if there is a filter.
    filtered: Option<Connects>,
    /// The parts that could not be put in force, with the reasons.
    missing: Vec<String>,
}

/// Confines the calling thread and the threads that it starts from now on to some directories.
///
/// New programs get no privileges (`PR_SET_NO_NEW_PRIVS`). Descriptors that are open go on working.
/// Call it before the first thread.
pub(crate) fn confine(places: &[Place], connects: Connects) -> Confined {
    let mut missing = Vec::new();
    let mut keep = |part: &str, error: &dyn fmt::Display| missing.push(format!("{part}: {error}"));
    if !is_alone() {
        keep("other threads", &"they began before");
    }
    let kept = capabilities::drop_all_but_needed(places);
    let kept = kept.map_err(|error| keep("capabilities", &error)).ok();
    if let Err(error) = prctl::set_no_new_privs() {
        keep("no_new_privs", &error);
    }
    let restricted = landlock::restrict(places).map_err(|error| keep("Landlock", &error)).ok();
    let filtered = filter::install(connects).map_err(|error| keep("seccomp", &error));
    let filtered = filtered.ok().map(|()| connects);
    let landlock = restricted.map(|(version, closed)| {
        missing.extend(closed);
        version
    });
    Confined { kept, landlock, filtered, missing }
}

/// Tells if this process has no other thread, which a confinement would not hold for.
fn is_alone() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1)
}

/// Keeps the programs that this process starts from privileges that it does not have itself.
///
/// For root that is all that a criu can be confined by. A criu with fewer capabilities finds less
/// in its kernel, and writes that into `/run/criu.kdat` for every later criu. A user without root
/// may need the capabilities of the criu's file, and gets them as before.
pub(crate) fn no_new_privileges() {
    if nix::unistd::geteuid().is_root() {
        // An old kernel lets a criu start without it.
        let _ = prctl::set_no_new_privs();
    }
}

impl Confined {
    /// Returns the sentence about parts that are not in force, if there are any.
    pub(crate) fn missing(&self) -> Option<String> {
        let missing = self.missing.join("; ");
        (!missing.is_empty()).then(|| format!("not fully confined: {missing}"))
    }
}

impl fmt::Display for Confined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("confined: ")?;
        match self.kept.as_deref() {
            Some([]) => f.write_str("no capabilities")?,
            Some(kept) => write!(f, "capabilities {}", kept.join(", "))?,
            None => f.write_str("capabilities as before")?,
        }
        if let Some(version) = self.landlock {
            write!(f, "; Landlock version {version}: {}", landlock::holds(version))?;
        }
        if let Some(connects) = self.filtered {
            let sockets = match connects {
                Connects::Never => "sockets",
                Connects::ToUnix => "sockets of other machines",
            };
            write!(f, "; no system calls for programs, mounts, {sockets} and other processes")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
