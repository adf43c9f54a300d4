//! Modes of handling cgroups.

use std::str::FromStr;

use super::InvalidValue;

/// The part of the cgroup hierarchy that is saved and rebuilt (`criu --manage-cgroups`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CgroupMode {
    /// `ignore`: CRIU pretends that cgroups do not exist.
    Ignore,
    /// `none`: puts tasks back into cgroups that exist; restores no properties.
    None,
    /// `props`: restores properties of cgroups that exist.
    Props,
    /// `soft`: creates missing cgroups, and sets the properties of those created.
    #[default]
    Soft,
    /// `full`: creates missing cgroups, and sets the properties of all.
    Full,
    /// `strict`: like `full`, but refuses cgroups that exist already.
    Strict,
}

impl CgroupMode {
    const NAMES: [(Self, &'static str); 6] = [
        (Self::Ignore, "ignore"),
        (Self::None, "none"),
        (Self::Props, "props"),
        (Self::Soft, "soft"),
        (Self::Full, "full"),
        (Self::Strict, "strict"),
    ];
}

impl FromStr for CgroupMode {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let row = Self::NAMES.iter().find(|(_, name)| *name == text);
        row.map(|&(mode, _)| mode).ok_or_else(|| {
            let want = "one of ignore, none, props, soft, full, strict";
            InvalidValue::new("a cgroup mode", text, want)
        })
    }
}
