//! Capabilities by name.

use std::fmt;

/// A set of capabilities(7). Displays with the names of getpcaps(8), as "cap_chown,cap_kill". A set
/// that lacks at most 8 known capabilities displays as "all but cap_chown".
///
/// ```
/// use criu_images::Capabilities;
///
/// let set = Capabilities::from_words(&[0x21, 0]);
/// assert_eq!(set.to_string(), "cap_chown,cap_kill");
/// assert!(set.contains("cap_kill"));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// Makes a set from CRIU's words, the low word first.
    #[must_use]
    pub fn from_words(words: &[u32]) -> Self {
        let word = |index: usize| u64::from(words.get(index).copied().unwrap_or(0));
        Self(word(0) | word(1) << 32)
    }

    /// Returns `true` if the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns `true` if the capability of this name is in the set.
    pub fn contains(self, name: &str) -> bool {
        self.names().any(|found| found == name)
    }

    /// Names of the known capabilities in the set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let known = NAMES.iter().enumerate();
        known.filter(move |(bit, _)| self.0 >> bit & 1 != 0).map(|(_, name)| *name)
    }

    /// Bits of the unknown capabilities in the set.
    fn unknown(self) -> impl Iterator<Item = u32> {
        (0..64).filter(move |bit| self.0 >> bit & 1 != 0 && *bit as usize >= NAMES.len())
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lacking = Self(!self.0 & ALL);
        if self.is_empty() {
            return f.write_str("none");
        }
        let mut joint = "";
        if self.0 & ALL == ALL {
            f.write_str("all")?;
            joint = ",";
        } else if lacking.0.count_ones() <= FEW {
            f.write_str("all but ")?;
            lacking.list(f, &mut joint)?;
        } else {
            self.list(f, &mut joint)?;
        }
        for bit in self.unknown() {
            write!(f, "{joint}{bit}")?;
            joint = ",";
        }
        Ok(())
    }
}

impl Capabilities {
    fn list(self, f: &mut fmt::Formatter<'_>, joint: &mut &str) -> fmt::Result {
        for name in self.names() {
            write!(f, "{joint}{name}")?;
            *joint = ",";
        }
        Ok(())
    }
}

/// Largest number of lacking capabilities that are listed.
const FEW: u32 = 8;

/// All known capabilities.
const ALL: u64 = (1 << NAMES.len()) - 1;

/// Names by number.
const NAMES: [&str; 41] = [
    "cap_chown",
    "cap_dac_override",
    "cap_dac_read_search",
    "cap_fowner",
    "cap_fsetid",
    "cap_kill",
    "cap_setgid",
    "cap_setuid",
    "cap_setpcap",
    "cap_linux_immutable",
    "cap_net_bind_service",
    "cap_net_broadcast",
    "cap_net_admin",
    "cap_net_raw",
    "cap_ipc_lock",
    "cap_ipc_owner",
    "cap_sys_module",
    "cap_sys_rawio",
    "cap_sys_chroot",
    "cap_sys_ptrace",
    "cap_sys_pacct",
    "cap_sys_admin",
    "cap_sys_boot",
    "cap_sys_nice",
    "cap_sys_resource",
    "cap_sys_time",
    "cap_sys_tty_config",
    "cap_mknod",
    "cap_lease",
    "cap_audit_write",
    "cap_audit_control",
    "cap_setfcap",
    "cap_mac_override",
    "cap_mac_admin",
    "cap_syslog",
    "cap_wake_alarm",
    "cap_block_suspend",
    "cap_audit_read",
    "cap_perfmon",
    "cap_bpf",
    "cap_checkpoint_restore",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_named_the_short_way() {
        assert_eq!(Capabilities(0).to_string(), "none");
        assert_eq!(Capabilities(ALL).to_string(), "all");
        assert_eq!(Capabilities(ALL & !(1 << 24)).to_string(), "all but cap_sys_resource");
        assert_eq!(Capabilities(1 << 40 | 1 << 50).to_string(), "cap_checkpoint_restore,50");
        assert_eq!(Capabilities(ALL | 1 << 41).to_string(), "all,41");
        // As a dump has it: the low word first.
        assert_eq!(Capabilities::from_words(&[0xffff_ffff, 511]).0, ALL);
    }
}
