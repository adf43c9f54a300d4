//! The security modules whose labels this crate knows.

use std::fmt;

/// A security module of the kernel that labels processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum SecurityModule {
    /// SELinux, whose labels are contexts: `user:role:type:level`.
    Selinux,
    /// AppArmor, whose labels are profiles or stacks of several profiles.
    Apparmor,
    /// Another module, such as Smack. No CRIU knows it.
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
