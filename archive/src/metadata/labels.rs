//! Security labels of a container, compared between two specifications.

use std::fmt;

use super::spec::SpecDump;

/// A security label that a container was saved with, and that another specification has otherwise.
///
/// Container runtimes give restored tasks and mounts the saved labels, whatever the specification
/// says of the container that they restore into. The options `--lsm-profile` and
/// `--lsm-mount-context` of runc and crun, or `lsm-profile` and `lsm-mount-context` in a
/// configuration file of CRIU, give them other labels.
///
/// ```
/// use criu_archive::metadata::{SpecDump, label_changes};
///
/// let saved: SpecDump = serde_json::from_str(
///     r#"{"process": {"selinuxLabel": "system_u:system_r:container_t:s0:c1,c2"}}"#,
/// )?;
/// let new: SpecDump = serde_json::from_str(
///     r#"{"process": {"selinuxLabel": "system_u:system_r:container_t:s0:c3,c4"}}"#,
/// )?;
/// let changes = label_changes(&saved, &new);
/// assert_eq!(
///     changes[0].to_string(),
///     "process.selinuxLabel was system_u:system_r:container_t:s0:c1,c2 and is now \
///      system_u:system_r:container_t:s0:c3,c4"
/// );
/// assert_eq!(
///     changes[0].option().as_deref(),
///     Some("lsm-profile selinux:system_u:system_r:container_t:s0:c3,c4")
/// );
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LabelChange {
    /// Field of the specification.
    pub field: LabelField,
    /// Saved label; empty for none.
    pub saved: String,
    /// Label of the other specification; empty for none.
    pub new: String,
}

/// A field of a specification that holds a security label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LabelField {
    /// SELinux context of the processes, `process.selinuxLabel`.
    Selinux,
    /// AppArmor profile of the processes, `process.apparmorProfile`.
    Apparmor,
    /// SELinux context of the mounts, `linux.mountLabel`.
    Mounts,
}

impl LabelField {
    /// Name of the field.
    pub fn name(self) -> &'static str {
        match self {
            Self::Selinux => "process.selinuxLabel",
            Self::Apparmor => "process.apparmorProfile",
            Self::Mounts => "linux.mountLabel",
        }
    }

    /// Value of the field; empty for none. AppArmor's `unconfined` counts as none.
    fn of(self, spec: &SpecDump) -> &str {
        let (process, linux) = (spec.process.as_ref(), spec.linux.as_ref());
        let label = match self {
            Self::Selinux => process.map(|process| process.selinux_label.as_str()),
            Self::Apparmor => process
                .map(|process| process.apparmor_profile.as_str())
                .filter(|profile| *profile != "unconfined"),
            Self::Mounts => linux.map(|linux| linux.mount_label.as_str()),
        };
        label.unwrap_or_default()
    }
}

impl LabelChange {
    /// The line of a configuration file of CRIU with which a restore gives the new label. `None`
    /// for a label that is gone, and for a container that was saved without one: CRIU gives no
    /// label to a task without one.
    pub fn option(&self) -> Option<String> {
        if self.saved.is_empty() || self.new.is_empty() {
            return None;
        }
        Some(match self.field {
            LabelField::Selinux => format!("lsm-profile selinux:{}", self.new),
            LabelField::Apparmor => format!("lsm-profile apparmor:{}", self.new),
            LabelField::Mounts => format!("lsm-mount-context {}", self.new),
        })
    }
}

impl fmt::Display for LabelChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |label: &str| match label {
            "" => "none".to_owned(),
            label => label.escape_debug().to_string(),
        };
        let (field, saved, new) = (self.field.name(), shown(&self.saved), shown(&self.new));
        write!(f, "{field} was {saved} and is now {new}")
    }
}

/// Compares the labels that a container was saved with to those of the specification that it is
/// restored into.
pub fn label_changes(saved: &SpecDump, new: &SpecDump) -> Vec<LabelChange> {
    let change = |field: LabelField| {
        let (saved, new) = (field.of(saved).to_owned(), field.of(new).to_owned());
        (saved != new).then_some(LabelChange { field, saved, new })
    };
    FIELDS.into_iter().filter_map(change).collect()
}

const FIELDS: [LabelField; 3] = [LabelField::Selinux, LabelField::Apparmor, LabelField::Mounts];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_are_compared_field_by_field() {
        let spec = |process, mounts: &str| -> SpecDump {
            let text = json!({"process": process, "linux": {"mountLabel": mounts}});
            serde_json::from_value(text).unwrap()
        };
        let selinux = |level: &str| {
            let label = format!("u:r:t:{level}");
            spec(json!({"selinuxLabel": label}), &format!("u:object_r:f:{level}"))
        };
        assert_eq!(label_changes(&selinux("s0:c1"), &selinux("s0:c1")), []);
        let changes = label_changes(&selinux("s0:c1"), &selinux("s0:c2"));
        let options: Vec<_> = changes.iter().filter_map(LabelChange::option).collect();
        assert_eq!(
            options,
            ["lsm-profile selinux:u:r:t:s0:c2", "lsm-mount-context u:object_r:f:s0:c2"]
        );
        let apparmor = |profile: &str| spec(json!({"apparmorProfile": profile}), "");
        let none = SpecDump::default();
        assert_eq!(label_changes(&apparmor("unconfined"), &none), []);
        for (saved, new, said) in [
            ("a", "unconfined", "process.apparmorProfile was a and is now none"),
            ("", "b\n", "process.apparmorProfile was none and is now b\\n"),
        ] {
            let changes = label_changes(&apparmor(saved), &apparmor(new));
            assert_eq!(changes.len(), 1, "{changes:?}");
            assert_eq!((changes[0].to_string().as_str(), changes[0].option()), (said, None));
        }
    }
}
