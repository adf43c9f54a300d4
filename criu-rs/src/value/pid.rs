//! Process ids.

use std::fmt;
use std::num::NonZeroI32;
use std::process::Child;
use std::str::FromStr;

use super::InvalidValue;

/// A process id in the caller's pid namespace: always positive.
///
/// ```
/// use criu_rs::Pid;
///
/// let pid: Pid = "4711".parse()?;
/// assert_eq!(pid.as_raw(), 4711);
/// assert!(Pid::new(0).is_none());
/// # Ok::<(), criu_rs::InvalidValue>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Pid(NonZeroI32);

impl Pid {
    /// Returns the id, or `None` if the number is zero or negative.
    pub fn new(raw: i32) -> Option<Self> {
        NonZeroI32::new(raw).filter(|pid| pid.get() > 0).map(Self)
    }

    /// Returns the id of the calling process.
    pub fn this() -> Self {
        Self::try_from(std::process::id()).expect("the kernel numbers processes from 1 to 2^22")
    }

    /// Returns the number.
    pub fn as_raw(self) -> i32 {
        self.0.get()
    }

    pub(crate) fn nix(self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(self.as_raw())
    }
}

impl From<&Child> for Pid {
    fn from(child: &Child) -> Self {
        Self::try_from(child.id()).expect("the kernel numbers processes from 1 to 2^22")
    }
}

impl TryFrom<i32> for Pid {
    type Error = InvalidValue;

    fn try_from(raw: i32) -> Result<Self, InvalidValue> {
        Self::new(raw).ok_or_else(|| invalid(raw))
    }
}

impl TryFrom<u32> for Pid {
    type Error = InvalidValue;

    fn try_from(raw: u32) -> Result<Self, InvalidValue> {
        i32::try_from(raw).ok().and_then(Self::new).ok_or_else(|| invalid(raw))
    }
}

impl FromStr for Pid {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        text.parse().ok().and_then(Self::new).ok_or_else(|| invalid(text))
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn invalid(found: impl fmt::Display) -> InvalidValue {
    InvalidValue::new("a process id", found, "a number from 1")
}
