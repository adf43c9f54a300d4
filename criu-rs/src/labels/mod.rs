//! Security labels of processes: what a tree carries, what a CRIU can save, and that nothing of it is lost.
//!
//! A label confines: a task that comes back without its own is confined no more, or by another's. CRIU saves
//! labels of SELinux where it was built with libselinux, which Debian's is not, and of AppArmor where it sees
//! `/sys/kernel/security/apparmor`. Elsewhere it dumps and restores without a word, and the tasks get the label
//! of the criu that restores them. So [`Dump`](crate::Dump) and [`Restore`](crate::Restore) look for
//! themselves:
//!
//! | when | what is refused |
//! | --- | --- |
//! | before a dump asks anything of criu | a tree with a label that this CRIU, [asked](crate::Criu::label_support), cannot save |
//! | at post-dump, the tasks still frozen | images without the label of a thread. The tasks run on, no checkpoint is left |
//! | before a restore | a profile or context that this machine does not know, a CRIU that cannot set it |
//! | at pre-resume, before the tasks run | a thread with another label than the images', or than [`lsm_profile`](crate::Restore::lsm_profile) asks for. Nothing is left of the tasks |
//!
//! Each is an [`Error::Label`](crate::Error::Label). `accept_label_loss` of either operation switches all of it off.
//!
//! # What counts
//!
//! `attr/current` of every thread but zombies', and `attr/sockcreate`, the label of sockets to come. A label
//! set for the next execve(2), file or key (`attr/exec`, `fscreate`, `keycreate`) counts too, and no CRIU saves it.
//! What does not count is AppArmor's `unconfined`, and a label that is criu's own: SELinux labels every process, and
//! what is not saved comes back with the label of the restoring criu, so that nothing changes where that one runs in
//! the same domain. A dump of a tree without a label that counts costs the reading of it, some microseconds a
//! thread, and nothing where no module labels processes.
//!
//! # What cannot be seen
//!
//! A service in another pid namespace numbers processes in its own way: their labels are not read, and neither
//! check is made. Images that only CRIU sees ([`Dir::opened_by_criu`](crate::Dir::opened_by_criu)) or that are
//! streamed are not compared; what CRIU says when it is asked is all there is then. A service of one connection
//! ([`Criu::connected`](crate::Criu::connected)) cannot be asked first: images and restored tasks are compared all
//! the same.

mod error;
pub(crate) mod machine;
mod support;

use std::{fmt, io};

use crate::value::{Pid, printable};

pub use error::{LabelError, LabelProblem};
pub(crate) use machine::Machine;
pub use support::LabelSupport;

/// A kernel's security module that labels processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum SecurityModule {
    /// SELinux, whose labels are contexts: `user:role:type:level`.
    Selinux,
    /// AppArmor, whose labels are profiles, several of them where they are stacked.
    Apparmor,
    /// Another, as Smack. No CRIU knows it.
    Other,
}

impl fmt::Display for SecurityModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Selinux => "SELinux",
            Self::Apparmor => "AppArmor",
            Self::Other => "security module's",
        })
    }
}

/// A label: an SELinux context, or an AppArmor profile without its mode. Profiles in a stack have no order.
///
/// ```
/// use criu_rs::labels::{Label, SecurityModule};
///
/// let label = Label::new(SecurityModule::Apparmor, "a//&:ns:b");
/// assert_eq!(label, Label::new(SecurityModule::Apparmor, ":ns:b//&a"));
/// assert_eq!(label.to_string(), "a//&:ns:b");
/// ```
#[derive(Clone, Eq)]
pub struct Label {
    module: SecurityModule,
    bytes: Vec<u8>,
}

impl Label {
    /// A label of a module.
    pub fn new(module: SecurityModule, label: impl Into<Vec<u8>>) -> Self {
        Self { module, bytes: label.into() }
    }

    /// What the kernel says in a file of `/proc/PID/attr`; `None` where that is nothing.
    pub(crate) fn read(module: SecurityModule, said: &[u8]) -> Option<Self> {
        let end = said.iter().position(|byte| matches!(byte, 0 | b'\n')).unwrap_or(said.len());
        let mut bytes = said.get(..end)?;
        if let (SecurityModule::Apparmor, [rest @ .., b')']) = (module, bytes) {
            // The mode, as in `docker-default (enforce)`. A profile's own name may have blanks.
            if let Some(at) = rest.windows(2).rposition(|pair| pair == b" (") {
                bytes = rest.get(..at)?;
            }
        }
        (!bytes.is_empty()).then(|| Self::new(module, bytes))
    }

    /// Whose it is.
    pub fn module(&self) -> SecurityModule {
        self.module
    }

    /// The label as the kernel has it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether it restricts nothing by its name: AppArmor's `unconfined`. SELinux has no such label, but a domain
    /// that its policy allows everything.
    pub fn is_unconfined(&self) -> bool {
        self.module == SecurityModule::Apparmor && self.bytes == b"unconfined"
    }

    /// Whether it has all profiles of the other, or is the same.
    pub(crate) fn includes(&self, other: &Self) -> bool {
        let (mine, theirs) = (self.parts(), other.parts());
        self.module == other.module && theirs.iter().all(|part| mine.contains(part))
    }

    /// The profiles of a stack, sorted; the whole label of another module.
    pub(crate) fn parts(&self) -> Vec<&[u8]> {
        let mut parts = Vec::new();
        let mut rest = self.bytes.as_slice();
        if self.module == SecurityModule::Apparmor {
            while let Some(at) = rest.windows(3).position(|three| three == b"//&") {
                let (part, after) = rest.split_at(at);
                parts.push(part);
                rest = after.get(3..).unwrap_or_default();
            }
        }
        parts.push(rest);
        parts.sort_unstable();
        parts
    }
}

impl PartialEq for Label {
    fn eq(&self, other: &Self) -> bool {
        self.module == other.module && (self.bytes == other.bytes || self.parts() == other.parts())
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.bytes))
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Label").field(&self.module).field(&self.to_string()).finish()
    }
}

/// What a label is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Attribute {
    /// The thread itself (`attr/current`).
    Current,
    /// Sockets that it makes (`attr/sockcreate`).
    Sockcreate,
    /// The next program that it executes (`attr/exec`). No CRIU saves it.
    Exec,
    /// Files that it makes (`attr/fscreate`). No CRIU saves it.
    Fscreate,
    /// Keys that it makes (`attr/keycreate`). No CRIU saves it.
    Keycreate,
}

impl Attribute {
    /// Its file in `/proc/PID/attr`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Sockcreate => "sockcreate",
            Self::Exec => "exec",
            Self::Fscreate => "fscreate",
            Self::Keycreate => "keycreate",
        }
    }

    /// Whether CRIU has a place for it in its images.
    pub(crate) fn has_a_place(self) -> bool {
        matches!(self, Self::Current | Self::Sockcreate)
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A label that a thread carries.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Carried {
    /// The process.
    pub pid: Pid,
    /// Its thread; the process's id for its first one.
    pub tid: Pid,
    /// What the label is for.
    pub attribute: Attribute,
    /// The label.
    pub label: Label,
}

/// The labels that a process and its descendants carry, by process and thread; `unconfined` and zombies are left
/// out. On a machine without a module that labels processes there are none.
///
/// ```no_run
/// use criu_rs::labels;
///
/// for carried in labels::of_tree("4711".parse()?)? {
///     println!("{} {}: {}", carried.tid, carried.attribute, carried.label);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// With the file, where this process may not read one. What has ended meanwhile is left out.
pub fn of_tree(root: Pid) -> io::Result<Vec<Carried>> {
    let mut carried = Machine::look().of_tree(root)?;
    carried.retain(|carried| !machine::is_zombie(carried.pid, carried.tid));
    Ok(carried)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_read_without_mode_and_end() {
        let apparmor = |said: &str| {
            let label = Label::read(SecurityModule::Apparmor, said.as_bytes());
            label.map(|label| label.to_string())
        };
        assert_eq!(apparmor("docker-default (enforce)\n").as_deref(), Some("docker-default"));
        assert_eq!(apparmor("unconfined\n").as_deref(), Some("unconfined"));
        assert_eq!(apparmor("my own (profile) (complain)\n").as_deref(), Some("my own (profile)"));
        assert_eq!(apparmor("a//&:ns:b (mixed)\n").as_deref(), Some("a//&:ns:b"));
        assert_eq!(apparmor(" (enforce)"), None);
        assert_eq!(apparmor(""), None);
        assert_eq!(apparmor("\n"), None);
        let selinux = Label::read(SecurityModule::Selinux, b"u:r:t (x)\0").unwrap();
        assert_eq!(selinux.as_bytes(), b"u:r:t (x)");
        let hostile = Label::read(SecurityModule::Other, b"\xff\x1b[31m").unwrap();
        assert_eq!(hostile.to_string(), "\u{fffd}\\u{1b}[31m");
    }

    #[test]
    fn stacks_are_compared_without_order_and_modules_never_match() {
        let of = |text: &str| Label::new(SecurityModule::Apparmor, text);
        assert_eq!(of("a//&b//&:n:c"), of(":n:c//&a//&b"));
        assert_ne!(of("a//&b"), of("a"));
        assert!(of("a//&:n:c").includes(&of("a")));
        assert!(!of("a").includes(&of("a//&b")));
        assert_ne!(of("a"), Label::new(SecurityModule::Selinux, "a"));
        let selinux = |text: &str| Label::new(SecurityModule::Selinux, text);
        assert_ne!(selinux("a//&b"), selinux("b//&a"));
        assert!(of("unconfined").is_unconfined());
        assert!(!selinux("unconfined").is_unconfined());
    }
}
