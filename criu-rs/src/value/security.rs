//! Security labels for restored tasks and mounts.

use std::fmt;
use std::str::FromStr;

use super::InvalidValue;

/// The security profile or label of restored tasks, instead of the saved one (`criu
/// --lsm-profile`).
///
/// A CRIU built without the module in question (Debian's lacks SELinux) reports that the kernel
/// lacks it. No CRIU gives a label to a task that was saved without one.
/// [`Restore`](crate::Restore) refuses both: see [`labels`](crate::labels).
///
/// ```
/// use criu_rs::LsmProfile;
///
/// let label = LsmProfile::selinux("system_u:system_r:container_t:s0:c1,c2")?;
/// assert_eq!(label.to_string(), "selinux:system_u:system_r:container_t:s0:c1,c2");
/// assert_eq!("apparmor:unconfined".parse::<LsmProfile>()?, LsmProfile::apparmor("unconfined")?);
/// # Ok::<(), criu_rs::InvalidValue>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LsmProfile {
    /// An SELinux context, `user:role:type` or `user:role:type:level`.
    Selinux(String),
    /// An AppArmor profile.
    Apparmor(String),
}

impl LsmProfile {
    /// Returns an SELinux label.
    ///
    /// # Errors
    /// [`InvalidValue`] if the label does not have the three or four parts of a context.
    pub fn selinux(label: impl Into<String>) -> Result<Self, InvalidValue> {
        context("an SELinux label", label.into()).map(Self::Selinux)
    }

    /// Returns an AppArmor profile. It must be loaded on the host that restores.
    ///
    /// # Errors
    /// [`InvalidValue`] if the profile is empty or contains control characters.
    pub fn apparmor(profile: impl Into<String>) -> Result<Self, InvalidValue> {
        let profile = profile.into();
        if profile.trim().is_empty() || profile.contains(char::is_control) {
            let want = "a profile name without control characters";
            return Err(InvalidValue::new("an AppArmor profile", profile, want));
        }
        Ok(Self::Apparmor(profile))
    }
}

impl FromStr for LsmProfile {
    type Err = InvalidValue;

    /// Reads `selinux:LABEL` or `apparmor:PROFILE`.
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text.split_once(':') {
            Some(("selinux", label)) => Self::selinux(label),
            Some(("apparmor", profile)) => Self::apparmor(profile),
            _ => {
                let want = "selinux:LABEL or apparmor:PROFILE";
                Err(InvalidValue::new("a security profile", text, want))
            }
        }
    }
}

impl fmt::Display for LsmProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Selinux(label) => write!(f, "selinux:{label}"),
            Self::Apparmor(profile) => write!(f, "apparmor:{profile}"),
        }
    }
}

/// The SELinux context of restored mounts that were saved with one (`criu --lsm-mount-context`).
///
/// ```
/// use criu_rs::MountContext;
///
/// let context: MountContext = "system_u:object_r:container_file_t:s0:c82,c137".parse()?;
/// assert!("system_u".parse::<MountContext>().is_err());
/// # drop(context);
/// # Ok::<(), criu_rs::InvalidValue>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MountContext(String);

impl FromStr for MountContext {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        context("a mount context", text.to_owned()).map(Self)
    }
}

impl fmt::Display for MountContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Checks an SELinux context: three parts, and optionally a level, which may contain colons. A
/// quote is refused: it would end the mount option that CRIU writes the context into.
fn context(what: &'static str, text: String) -> Result<String, InvalidValue> {
    let allowed = |c: char| c.is_ascii_graphic() && c != '"';
    let parts: Vec<&str> = text.splitn(4, ':').collect();
    if parts.len() < 3 || parts.iter().any(|part| part.is_empty()) || !text.chars().all(allowed) {
        let want = "an SELinux context such as system_u:system_r:container_t:s0";
        return Err(InvalidValue::new(what, text, want));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_label_is_refused() {
        for bad in ["", "a:b", "a::c", "a:b:c d", "a:b:c\"", "a:b:c:", "a:b:c\n"] {
            assert!(LsmProfile::selinux(bad).is_err(), "{bad:?}");
            assert!(bad.parse::<MountContext>().is_err(), "{bad:?}");
        }
        for bad in ["", " ", "a\0b", "a\nb"] {
            assert!(LsmProfile::apparmor(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "selinux", "smack:x", "x"] {
            assert!(bad.parse::<LsmProfile>().is_err(), "{bad:?}");
        }
        assert!(LsmProfile::apparmor("docker-default//&:ns:inner").is_ok());
    }
}
