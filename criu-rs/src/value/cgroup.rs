//! What becomes of cgroups.

use std::str::FromStr;

use super::InvalidValue;

/// How much of the cgroup hierarchy is saved and rebuilt: what `criu --manage-cgroups` takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CgroupMode {
    /// `ignore`: as if cgroups did not exist.
    Ignore,
    /// `none`: put tasks back into cgroups that exist; restore no properties.
    None,
    /// `props`: restore properties of cgroups that exist.
    Props,
    /// `soft`: create missing cgroups, and set the properties of those created.
    #[default]
    Soft,
    /// `full`: create missing cgroups, and set the properties of all.
    Full,
    /// `strict`: as full, and none may exist yet.
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
