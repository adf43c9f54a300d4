//! Bounded reads of `/proc` files of other processes, whose content is not trusted.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::SFlag;

use crate::host::MountInfo;
use crate::value::Pid;

/// The text of a file in `/proc`, cut at [`LIMIT`] bytes.
pub(super) fn text(path: impl AsRef<Path>) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LIMIT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The path of a file of a process in `/proc`, such as `status`.
pub(super) fn of(pid: Pid, name: &str) -> PathBuf {
    format!("/proc/{pid}/{name}").into()
}

/// The folder of a process in `/proc`, by its number.
pub(super) fn of_number(pid: i32) -> PathBuf {
    format!("/proc/{pid}").into()
}

/// The value of a `Key:` line.
pub(super) fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| Some(line.strip_prefix(key)?.strip_prefix(':')?.trim()))
}

/// The numbers of a `Key:` line.
pub(super) fn numbers<T: std::str::FromStr>(text: &str, key: &str) -> Vec<T> {
    let words = value(text, key).unwrap_or_default().split_whitespace();
    words.filter_map(|word| word.parse().ok()).collect()
}

/// The number in `KIND:[NUMBER]`.
pub(super) fn bracketed(link: &str, kind: &str) -> Option<u64> {
    link.strip_prefix(kind)?.strip_prefix(":[")?.strip_suffix(']')?.parse().ok()
}

/// An open descriptor of another process.
#[derive(Clone, Debug)]
pub(super) struct Fd {
    pub(super) number: i32,
    /// The target of the link in `/proc/PID/fd`.
    pub(super) link: PathBuf,
    pub(super) meta: Meta,
    /// The id of the mount through which the file was opened.
    pub(super) mount: Option<u32>,
    /// The text of `fdinfo`, cut at [`LIMIT`] bytes.
    pub(super) info: String,
}

impl Fd {
    /// Reads a descriptor. `None` if it has been closed meanwhile.
    pub(super) fn look(pid: Pid, number: i32) -> Option<Self> {
        let place = of(pid, "fd").join(number.to_string());
        let link = fs::read_link(&place).ok()?;
        let meta = Meta::of(&place)?;
        let info = text(of(pid, "fdinfo").join(number.to_string())).ok()?;
        let mount = value(&info, "mnt_id").and_then(|id| id.parse().ok());
        Some(Self { number, link, meta, mount, info })
    }

    /// Returns true if the descriptor still is the file with the name that it was.
    pub(super) fn is_the_same(&self, pid: Pid) -> bool {
        let place = of(pid, "fd").join(self.number.to_string());
        let is_named = fs::read_link(&place).is_ok_and(|link| link == self.link);
        is_named && Meta::of(&place).is_some_and(|meta| meta.inode == self.meta.inode)
    }

    /// The link as text, to compare with names that the kernel uses.
    pub(super) fn name(&self) -> &str {
        self.link.to_str().unwrap_or_default()
    }

    /// The flags with which the file was opened.
    pub(super) fn flags(&self) -> Option<i32> {
        flags(&self.info)
    }

    /// Returns true if the link is a path, and not a name such as `socket:[7]`.
    pub(super) fn is_path(&self) -> bool {
        self.link.as_os_str().as_bytes().starts_with(b"/")
    }
}

/// The flags in the text of `fdinfo`.
pub(super) fn flags(info: &str) -> Option<i32> {
    i32::from_str_radix(value(info, "flags")?, 8).ok()
}

/// The result of stat(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) kind: Kind,
    pub(super) dev: u64,
    pub(super) inode: u64,
    pub(super) rdev: u64,
    pub(super) links: u64,
    pub(super) size: u64,
    pub(super) mode: u32,
    /// Bytes on disk, which CRIU compares with its limit.
    pub(super) allocated: u64,
}

/// Kinds of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Regular,
    Directory,
    Link,
    Character,
    Block,
    Fifo,
    Socket,
    /// A kernel file without a file type.
    Other,
}

impl Meta {
    pub(super) fn of(path: impl AsRef<Path>) -> Option<Self> {
        let meta = fs::metadata(path).ok()?;
        let kind = match SFlag::from_bits_truncate(meta.mode()) & SFlag::S_IFMT {
            SFlag::S_IFREG => Kind::Regular,
            SFlag::S_IFDIR => Kind::Directory,
            SFlag::S_IFLNK => Kind::Link,
            SFlag::S_IFCHR => Kind::Character,
            SFlag::S_IFBLK => Kind::Block,
            SFlag::S_IFIFO => Kind::Fifo,
            SFlag::S_IFSOCK => Kind::Socket,
            _ => Kind::Other,
        };
        Some(Self {
            kind,
            dev: meta.dev(),
            inode: meta.ino(),
            rdev: meta.rdev(),
            links: meta.nlink(),
            size: meta.size(),
            mode: meta.mode(),
            allocated: meta.blocks().saturating_mul(512),
        })
    }

    /// The major and minor number of a device file.
    pub(super) fn device(&self) -> (u64, u64) {
        (nix::sys::stat::major(self.rdev), nix::sys::stat::minor(self.rdev))
    }
}

/// A mount of a process's mount namespace.
#[derive(Clone, Debug)]
pub(super) struct Mount {
    pub(super) id: u32,
    pub(super) parent: u32,
    /// Major and minor number.
    pub(super) dev: (u32, u32),
    /// The part of the file system that is mounted.
    pub(super) root: Vec<u8>,
    pub(super) point: Vec<u8>,
    pub(super) shared: Option<u32>,
    pub(super) master: Option<u32>,
    pub(super) fs: String,
}

impl Mount {
    /// All mounts that a process sees.
    pub(super) fn all(pid: Pid) -> io::Result<Vec<Self>> {
        Ok(MountInfo::all(&pid.to_string())?.into_iter().filter_map(Self::of).collect())
    }

    fn of(row: MountInfo) -> Option<Self> {
        let MountInfo { id, parent, shared, master, .. } = row;
        let (major, minor) = std::str::from_utf8(&row.device).ok()?.split_once(':')?;
        let dev = (major.parse().ok()?, minor.parse().ok()?);
        let bytes = |path: PathBuf| path.into_os_string().into_vec();
        let (root, point) = (bytes(row.root), bytes(row.point));
        let fs = String::from_utf8_lossy(&row.kind).into_owned();
        Some(Self { id, parent, dev, root, point, shared, master, fs })
    }

    /// The mount point as a path.
    pub(super) fn path(&self) -> PathBuf {
        std::ffi::OsString::from_vec(self.point.clone()).into()
    }
}

/// Most bytes read of a file in `/proc`. Tables of sockets and of mappings are the largest.
const LIMIT: u64 = 32 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_odd_names_are_read() {
        let read = |line: &[u8]| MountInfo::read(line).and_then(Mount::of);
        let line =
            b"36 35 98:0 /m\\040nt1 /mnt\\0412\xff rw,noatime shared:7 master:1 - ext3 /dev/r rw";
        let mount = read(line).unwrap();
        assert_eq!((mount.id, mount.parent, mount.dev), (36, 35, (98, 0)));
        assert_eq!((&mount.root[..], &mount.point[..]), (&b"/m nt1"[..], &b"/mnt!2\xff"[..]));
        assert_eq!((mount.shared, mount.master), (Some(7), Some(1)));
        assert_eq!(mount.fs, "ext3");
        for bad in [&b""[..], b"36", b"x 35 98:0 / / rw - a b c", b"36 35 98 / / rw - a b c", b"\\"]
        {
            assert!(read(bad).is_none());
        }
    }

    #[test]
    fn a_line_is_found_by_its_whole_key() {
        let text = "Uid:\t1 2 3 4\nUidx: 9\nGid:\tx 7\n";
        assert_eq!(numbers::<u32>(text, "Uid"), [1, 2, 3, 4]);
        assert_eq!(numbers::<u32>(text, "Gid"), [7]);
        assert_eq!(value(text, "Ui"), None);
    }
}
