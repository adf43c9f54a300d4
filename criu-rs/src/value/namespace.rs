//! Existing namespaces that a restore enters.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::InvalidValue;
use super::external::pair;
use super::pid::Pid;

/// A namespace kind that a restore can join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JoinableNs {
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Mounts.
    Mnt,
    /// The network.
    Net,
    /// Clocks.
    Time,
    /// Users and groups.
    User,
    /// Host and domain name.
    Uts,
}

impl JoinableNs {
    /// Returns CRIU's name for the kind.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ipc => "ipc",
            Self::Mnt => "mnt",
            Self::Net => "net",
            Self::Time => "time",
            Self::User => "user",
            Self::Uts => "uts",
        }
    }
}

impl FromStr for JoinableNs {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        [Self::Ipc, Self::Mnt, Self::Net, Self::Time, Self::User, Self::Uts]
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| {
                InvalidValue::new("a namespace", text, "one of ipc, mnt, net, time, user, uts")
            })
    }
}

/// An existing namespace that restored tasks enter instead of a new one (`criu --join-ns`).
///
/// ```
/// use criu_rs::{JoinNs, JoinableNs};
///
/// let net = JoinNs::path(JoinableNs::Net, "/run/netns/blue");
/// assert_eq!(net.to_string(), "net:/run/netns/blue");
/// assert_eq!("net:/run/netns/blue".parse::<JoinNs>()?, net);
/// # Ok::<(), criu_rs::InvalidValue>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JoinNs {
    kind: JoinableNs,
    place: OsString,
    user: Option<(u32, u32)>,
}

impl JoinNs {
    /// Returns the namespace of a namespace file.
    pub fn path(kind: JoinableNs, path: impl AsRef<Path>) -> Self {
        Self { kind, place: path.as_ref().into(), user: None }
    }

    /// Returns the namespace of a process.
    pub fn of_process(kind: JoinableNs, pid: Pid) -> Self {
        Self { kind, place: pid.to_string().into(), user: None }
    }

    /// Sets the user and group id to take inside a user namespace.
    #[must_use]
    pub fn as_user(mut self, uid: u32, gid: u32) -> Self {
        self.user = Some((uid, gid));
        self
    }

    /// Returns the kind of the namespace.
    pub fn kind(&self) -> JoinableNs {
        self.kind
    }

    /// Returns the path of the namespace file or the process id, as CRIU reads it.
    pub fn place(&self) -> &OsStr {
        &self.place
    }

    /// Returns the ids to take in a user namespace, as CRIU reads them.
    pub(crate) fn extra(&self) -> Option<String> {
        self.user.map(|(uid, gid)| format!("{uid},{gid}"))
    }
}

impl FromStr for JoinNs {
    type Err = InvalidValue;

    /// Reads `KIND:PATH`, `KIND:PID` or `user:PID,UID,GID`.
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let bad = |want| InvalidValue::new("a namespace to join", text, want);
        let (kind, place) =
            text.split_once(':').ok_or_else(|| bad("KIND:PATH, KIND:PID or user:PID,UID,GID"))?;
        let kind = kind.parse()?;
        let (place, extra) = match place.split_once(',') {
            Some((place, extra)) => (place, Some(extra)),
            None => (place, None),
        };
        if place.is_empty() {
            return Err(bad("a path or a process id after the colon"));
        }
        let user = match extra {
            None => None,
            Some(_) if kind != JoinableNs::User => {
                return Err(bad("no comma: only a user namespace takes ids"));
            }
            Some(extra) => {
                let ids = pair(extra.as_bytes(), b',', 10).and_then(|(uid, gid)| {
                    Some((u32::try_from(uid).ok()?, u32::try_from(gid).ok()?))
                });
                Some(ids.ok_or_else(|| bad("two ids after the comma, as in user:7,0,0"))?)
            }
        };
        Ok(Self { kind, place: place.into(), user })
    }
}

impl fmt::Display for JoinNs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.name(), Path::new(&self.place).display())?;
        self.extra().map_or(Ok(()), |extra| write!(f, ",{extra}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_notation_is_read() {
        for text in ["net:/run/netns/blue", "uts:4711", "user:4711,0,0", "ipc:1"] {
            assert_eq!(text.parse::<JoinNs>().unwrap().to_string(), text);
        }
        for (bad, want) in [
            ("net", "KIND:PATH"),
            ("pid:1", "one of ipc"),
            ("net:", "a path or a process id"),
            ("net:1,0,0", "only a user namespace"),
            ("user:1,x", "two ids"),
        ] {
            let error = bad.parse::<JoinNs>().unwrap_err().to_string();
            assert!(error.contains(want), "{bad}: {error}");
        }
    }
}
