//! The ability of a CRIU to save labels.

/// The ability of a CRIU, on this machine as it is now, to save and set the labels of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LabelSupport {
    /// CRIU saves and sets the labels.
    Yes,
    /// CRIU does not. The machine does not run the module, or CRIU was built without SELinux, or
    /// CRIU does not see the module. It looks for AppArmor at `/sys/kernel/security/apparmor`;
    /// libselinux looks for `/etc/selinux/config`. CRIU keeps its findings in `/run/criu.kdat`
    /// until the next boot.
    No,
}
