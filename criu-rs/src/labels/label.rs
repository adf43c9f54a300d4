//! The label of a process.

use std::fmt;

use super::module::SecurityModule;
use crate::value::printable;

/// A label: an SELinux context, or an AppArmor profile without its mode. The order of profiles in a
/// stack does not matter.
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
    /// Makes a label of a module.
    pub fn new(module: SecurityModule, label: impl Into<Vec<u8>>) -> Self {
        Self { module, bytes: label.into() }
    }

    /// Reads the content of a file in `/proc/PID/attr`. `None` if it is empty.
    pub(crate) fn read(module: SecurityModule, said: &[u8]) -> Option<Self> {
        let end = said.iter().position(|byte| matches!(byte, 0 | b'\n')).unwrap_or(said.len());
        let mut bytes = said.get(..end)?;
        if let (SecurityModule::Apparmor, [rest @ .., b')']) = (module, bytes) {
            // The mode, as in `docker-default (enforce)`. A profile's name may contain blanks.
            if let Some(at) = rest.windows(2).rposition(|pair| pair == b" (") {
                bytes = rest.get(..at)?;
            }
        }
        (!bytes.is_empty()).then(|| Self::new(module, bytes))
    }

    /// The module that the label belongs to.
    pub fn module(&self) -> SecurityModule {
        self.module
    }

    /// The label in the kernel's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns true for AppArmor's `unconfined`, which restricts nothing. SELinux has no such
    /// label; a policy may have a domain that is allowed everything.
    pub fn is_unconfined(&self) -> bool {
        self.module == SecurityModule::Apparmor && self.bytes == b"unconfined"
    }

    /// Returns true if the labels are equal, or this stack contains all profiles of the other.
    pub(crate) fn includes(&self, other: &Self) -> bool {
        let (mine, theirs) = (self.parts(), other.parts());
        self.module == other.module && theirs.iter().all(|part| mine.contains(part))
    }

    /// The sorted profiles of an AppArmor stack. For other modules it is the whole label.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_read_without_mode_and_end() {
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
    fn stacks_match_in_any_order_and_modules_never_match() {
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
