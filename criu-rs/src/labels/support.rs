//! Whether a CRIU saves labels.

/// Whether a CRIU, on this machine as it is now, saves and sets the labels of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LabelSupport {
    /// It does.
    Yes,
    /// It does not: the machine does not run the module, or CRIU was built without SELinux, or does not see what it
    /// goes by, which is AppArmor's `/sys/kernel/security/apparmor` and libselinux' `/etc/selinux/config`. A
    /// CRIU keeps what it saw in `/run/criu.kdat` until the next boot.
    No,
}
