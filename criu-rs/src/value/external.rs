//! Resources that live outside the dumped tree, in CRIU's own notation.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::str::FromStr;

use super::InvalidValue;

/// A resource outside the dumped tree (`criu --external`).
///
/// On a dump, the value names a resource to leave out and the key to remember it by. On a restore,
/// it names the replacement for that key. `Display` and `FromStr` use CRIU's notation.
///
/// ```
/// use criu_rs::External;
///
/// let mount = External::mount("/data", "data");
/// assert_eq!(mount.to_string(), "mnt[/data]:data");
/// assert_eq!("mnt[/data]:data".parse::<External>()?, mount);
/// # Ok::<(), criu_rs::InvalidValue>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum External {
    /// `mnt[ID]:VALUE`: a bind mount. A dump takes its mount point and a key to remember it by; a
    /// restore takes the key and the path to mount.
    Mount {
        /// Mount point inside the tree (dump) or key (restore).
        id: OsString,
        /// Key (dump) or path outside (restore).
        value: OsString,
    },
    /// `mnt[]` or `mnt[]:FLAG`: every bind mount from outside, found by CRIU. CRIU reads one flag;
    /// add the option twice for both flags.
    FoundMounts(Option<FoundMounts>),
    /// `file[MNT_ID:INODE]`, in hexadecimal: an open file that the tree's mount namespace does not
    /// show. A restore replaces it with an [`InheritFd`](crate::InheritFd) of the same key.
    File {
        /// The mount's id: `mnt_id` in /proc/PID/fdinfo/N.
        mount: u32,
        /// The inode, as stat(2) reports it.
        inode: u64,
    },
    /// `tty[RDEV:DEV]`, in hexadecimal: a terminal. A restore replaces it with an
    /// [`InheritFd`](crate::InheritFd) of the same key.
    Tty {
        /// `st_rdev` of the terminal.
        rdev: u64,
        /// `st_dev` of the terminal.
        dev: u64,
    },
    /// `unix[INODE]`: a unix socket whose peer may stay outside the dump.
    UnixSocket(u32),
    /// `dev[MAJOR/MINOR]:KEY` on a dump: a block device that is mounted inside the tree.
    Device {
        /// The device's major number.
        major: u32,
        /// The device's minor number.
        minor: u32,
        /// The key to remember the resource by.
        key: OsString,
    },
    /// `dev[KEY]:PATH` on a restore: the block device to mount.
    DevicePath {
        /// The key given on the dump.
        key: OsString,
        /// The device file.
        path: PathBuf,
    },
    /// `net[INODE]:KEY`: a network namespace to leave out. A restore provides one with
    /// [`InheritFd`](crate::InheritFd).
    NetNamespace {
        /// The namespace's inode, as `readlink /proc/PID/ns/net` shows it.
        inode: u32,
        /// The key to remember the resource by.
        key: OsString,
    },
    /// `pid[INODE]:KEY`: a pid namespace to leave out. A restore provides one with
    /// [`InheritFd`](crate::InheritFd).
    PidNamespace {
        /// The namespace's inode, as `readlink /proc/PID/ns/pid` shows it.
        inode: u32,
        /// The key to remember the resource by.
        key: OsString,
    },
    /// `veth[INNER]:OUTER@BRIDGE` on a restore: the name of a veth pair's outer end.
    Veth {
        /// Name inside.
        inner: OsString,
        /// Name outside.
        outer: OsString,
        /// Bridge to attach the outer end to.
        bridge: Option<OsString>,
    },
    /// `macvlan[INNER]:OUTER` on a restore: the outer device of a macvlan.
    Macvlan {
        /// Name inside.
        inner: OsString,
        /// Name of the device outside.
        outer: OsString,
    },
    /// `netdev[INNER]:OUTER` on a restore: a device to move into the network namespace.
    NetDevice {
        /// Name inside.
        inner: OsString,
        /// Name outside.
        outer: OsString,
    },
    /// `TYPE[ID]:VALUE` of a type that this crate does not know, such as a plugin's.
    Other {
        /// The type.
        kind: OsString,
        /// The text in the brackets.
        id: OsString,
        /// The text after the colon.
        value: Option<OsString>,
    },
}

/// The kind of mounts that [`External::FoundMounts`] adds to plain ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FoundMounts {
    /// Slave mounts (`m`).
    Masters,
    /// Shared mounts (`s`).
    Shared,
}

impl External {
    /// Returns a bind mount. A dump takes its mount point and a key; a restore takes the key and
    /// the path to mount.
    pub fn mount(id: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        Self::Mount { id: id.into(), value: value.into() }
    }

    /// Returns the notation as the bytes that CRIU reads.
    pub fn to_bytes(&self) -> Vec<u8> {
        let with = |kind: &str, id: &[u8], value: Option<&[u8]>| {
            let colon: &[u8] = if value.is_some() { b":" } else { b"" };
            [kind.as_bytes(), b"[", id, b"]", colon, value.unwrap_or_default()].concat()
        };
        let text = |text: String| text.into_bytes();
        match self {
            Self::Mount { id, value } => with("mnt", id.as_bytes(), Some(value.as_bytes())),
            Self::FoundMounts(None) => text("mnt[]".into()),
            Self::FoundMounts(Some(FoundMounts::Masters)) => text("mnt[]:m".into()),
            Self::FoundMounts(Some(FoundMounts::Shared)) => text("mnt[]:s".into()),
            Self::File { mount, inode } => text(format!("file[{mount:x}:{inode:x}]")),
            Self::Tty { rdev, dev } => text(format!("tty[{rdev:x}:{dev:x}]")),
            Self::UnixSocket(inode) => text(format!("unix[{inode}]")),
            Self::Device { major, minor, key } => {
                with("dev", format!("{major}/{minor}").as_bytes(), Some(key.as_bytes()))
            }
            Self::DevicePath { key, path } => {
                with("dev", key.as_bytes(), Some(path.as_os_str().as_bytes()))
            }
            Self::NetNamespace { inode, key } => {
                with("net", inode.to_string().as_bytes(), Some(key.as_bytes()))
            }
            Self::PidNamespace { inode, key } => {
                with("pid", inode.to_string().as_bytes(), Some(key.as_bytes()))
            }
            Self::Veth { inner, outer, bridge: None } => {
                with("veth", inner.as_bytes(), Some(outer.as_bytes()))
            }
            Self::Veth { inner, outer, bridge: Some(bridge) } => {
                let outer = [outer.as_bytes(), b"@", bridge.as_bytes()].concat();
                with("veth", inner.as_bytes(), Some(&outer))
            }
            Self::Macvlan { inner, outer } => {
                with("macvlan", inner.as_bytes(), Some(outer.as_bytes()))
            }
            Self::NetDevice { inner, outer } => {
                with("netdev", inner.as_bytes(), Some(outer.as_bytes()))
            }
            Self::Other { kind, id, value } => [
                kind.as_bytes(),
                b"[",
                id.as_bytes(),
                b"]",
                if value.is_some() { b":" } else { b"" },
                value.as_deref().unwrap_or_default().as_bytes(),
            ]
            .concat(),
        }
    }

    /// Reads the notation from bytes.
    ///
    /// # Errors
    /// [`InvalidValue`] if the text is not `TYPE[ID]` or `TYPE[ID]:VALUE`, or if the id of a known
    /// type is not a number although CRIU wants one.
    pub fn from_bytes(text: &[u8]) -> Result<Self, InvalidValue> {
        let bad =
            |want| InvalidValue::new("an external resource", String::from_utf8_lossy(text), want);
        let (kind, id, value) = split(text).ok_or_else(|| bad("TYPE[ID] or TYPE[ID]:VALUE"))?;
        let os = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let need =
            || value.map(os).ok_or_else(|| bad("a value after the bracket, as in mnt[/a]:key"));
        let inode = || number(id).ok_or_else(|| bad("an inode number in the brackets"));
        let hexes =
            || pair(id, b':', 16).ok_or_else(|| bad("two hexadecimal numbers, as in 1f:2a"));
        Ok(match kind {
            b"mnt" if id.is_empty() => Self::FoundMounts(match value.unwrap_or_default() {
                b"" => None,
                b"m" => Some(FoundMounts::Masters),
                b"s" => Some(FoundMounts::Shared),
                _ => {
                    return Err(bad(
                        "one flag after mnt[], m or s (CRIU does not read a second flag)",
                    ));
                }
            }),
            b"mnt" => Self::Mount { id: os(id), value: need()? },
            b"file" => {
                let (mount, inode) = hexes()?;
                let mount = u32::try_from(mount).map_err(|_| bad("a mount id below 2^32"))?;
                Self::File { mount, inode }
            }
            b"tty" => hexes().map(|(rdev, dev)| Self::Tty { rdev, dev })?,
            b"unix" => Self::UnixSocket(inode()?),
            b"dev" => match pair(id, b'/', 10) {
                Some((major, minor)) => {
                    let small = |n| u32::try_from(n).map_err(|_| bad("device numbers below 2^32"));
                    Self::Device { major: small(major)?, minor: small(minor)?, key: need()? }
                }
                None => Self::DevicePath { key: os(id), path: need()?.into() },
            },
            b"net" => Self::NetNamespace { inode: inode()?, key: need()? },
            b"pid" => Self::PidNamespace { inode: inode()?, key: need()? },
            b"veth" => {
                let outer = need()?.into_vec();
                let mut parts = outer.splitn(2, |&byte| byte == b'@');
                let outer = os(parts.next().unwrap_or_default());
                Self::Veth { inner: os(id), outer, bridge: parts.next().map(os) }
            }
            b"macvlan" => Self::Macvlan { inner: os(id), outer: need()? },
            b"netdev" => Self::NetDevice { inner: os(id), outer: need()? },
            _ => Self::Other { kind: os(kind), id: os(id), value: value.map(os) },
        })
    }
}

impl FromStr for External {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        Self::from_bytes(text.as_bytes())
    }
}

impl fmt::Display for External {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(&self.to_bytes()).fmt(f)
    }
}

/// Type, id and value.
type Parts<'a> = (&'a [u8], &'a [u8], Option<&'a [u8]>);

/// Splits `KIND[ID]` or `KIND[ID]:VALUE`. The first `]:` ends the id.
fn split(text: &[u8]) -> Option<Parts<'_>> {
    let open = text.iter().position(|&byte| byte == b'[')?;
    let (kind, rest) = (text.get(..open)?, text.get(open + 1..)?);
    let valid = !kind.is_empty() && !text.contains(&0);
    if let Some(id) = rest.strip_suffix(b"]") {
        return valid.then_some((kind, id, None));
    }
    let end = rest.windows(2).position(|pair| pair == b"]:")?;
    valid.then_some((kind, rest.get(..end)?, rest.get(end + 2..)))
}

/// Reads a decimal number of digits alone.
pub(crate) fn number<T: FromStr>(digits: &[u8]) -> Option<T> {
    let text = std::str::from_utf8(digits).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Reads two numbers with a separator between them, without signs.
pub(crate) fn pair(text: &[u8], separator: u8, radix: u32) -> Option<(u64, u64)> {
    let (left, right) = std::str::from_utf8(text).ok()?.split_once(char::from(separator))?;
    let plain = |n: &str| n.bytes().all(|byte| byte.is_ascii_hexdigit());
    (plain(left) && plain(right)).then_some(())?;
    Some((u64::from_str_radix(left, radix).ok()?, u64::from_str_radix(right, radix).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_reads_what_it_writes() {
        for text in [
            "mnt[/data]:data",
            "mnt[]",
            "mnt[]:m",
            "mnt[]:s",
            "file[1f:2a3]",
            "tty[8803:18]",
            "unix[4711]",
            "dev[254/1]:disk",
            "dev[disk]:/dev/vdb",
            "net[4026531840]:extRootNetNS",
            "pid[4026531836]:extRootPidNS",
            "veth[eth0]:veth7",
            "veth[eth0]:veth7@br0",
            "macvlan[eth0]:eth1",
            "netdev[eth0]:eth5",
            "cuda[0]:1",
            "plugin[x]",
        ] {
            let external: External = text.parse().unwrap();
            assert_eq!(external.to_string(), text);
        }
        assert_eq!(
            "file[1f:2a3]".parse::<External>().unwrap(),
            External::File { mount: 0x1f, inode: 0x2a3 }
        );
    }

    #[test]
    fn nonsense_says_what_was_wanted() {
        for (text, want) in [
            ("", "TYPE[ID]"),
            ("mnt", "TYPE[ID]"),
            ("[x]:y", "TYPE[ID]"),
            ("mnt[/a]", "a value after the bracket"),
            ("mnt[]:ms", "one flag"),
            ("unix[-1]", "an inode number"),
            ("unix[99999999999]", "an inode number"),
            ("file[zz:1]", "two hexadecimal numbers"),
            ("file[1ffffffff:1]", "a mount id below 2^32"),
            ("net[x]:y", "an inode number"),
            ("un\0ix[1]", "TYPE[ID]"),
        ] {
            let error = text.parse::<External>().unwrap_err().to_string();
            assert!(error.contains(want), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_path_need_not_be_utf_8() {
        let mount = External::from_bytes(b"mnt[/d\xff]:key").unwrap();
        assert_eq!(mount.to_bytes(), b"mnt[/d\xff]:key");
    }
}
