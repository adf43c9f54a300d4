//! CRIU versions.

use std::fmt;
use std::str::FromStr;

use super::InvalidValue;

/// A version of CRIU, such as 4.1.1, ordered as releases are.
///
/// ```
/// use criu_rs::Version;
///
/// let version: Version = "4.1.1".parse()?;
/// assert!(version >= Version::new(3, 19, 0));
/// assert_eq!(version.to_string(), "4.1.1");
/// # Ok::<(), criu_rs::InvalidValue>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The 4 of 4.1.1.
    pub major: u32,
    /// The first 1 of 4.1.1.
    pub minor: u32,
    /// The last 1 of 4.1.1; 0 if a release does not have one.
    pub sublevel: u32,
}

impl Version {
    /// The oldest CRIU that this crate drives: the first that answers a VERSION request.
    pub const OLDEST: Self = Self::new(3, 0, 0);

    /// Returns the version with these numbers.
    pub const fn new(major: u32, minor: u32, sublevel: u32) -> Self {
        Self { major, minor, sublevel }
    }
}

impl FromStr for Version {
    type Err = InvalidValue;

    /// Reads `4.1.1`, `4.3` or `v3.19`.
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let numbers: Option<Vec<u32>> =
            text.strip_prefix('v').unwrap_or(text).split('.').map(|n| n.parse().ok()).collect();
        match numbers.as_deref() {
            Some(&[major, minor]) => Ok(Self::new(major, minor, 0)),
            Some(&[major, minor, sublevel]) => Ok(Self::new(major, minor, sublevel)),
            _ => Err(InvalidValue::new("a version", text, "numbers such as 4.3 or 4.1.1")),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        match self.sublevel {
            0 => Ok(()),
            sublevel => write!(f, ".{sublevel}"),
        }
    }
}

/// The version of a CRIU, with the commit and the name of the release.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Build {
    /// The version.
    pub version: Version,
    /// The commit, if CRIU was built from a git checkout.
    pub commit: Option<String>,
    /// The name of the release.
    pub name: Option<String>,
}
