//! The mounts that a process sees, as the kernel lists them.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::bounds;

/// A row of `/proc/PID/mountinfo`. Paths are bytes, as they are in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountInfo {
    pub(crate) id: u32,
    /// The id of the parent mount.
    pub(crate) parent: u32,
    /// The device number of the file system, as `MAJOR:MINOR`.
    pub(crate) device: Vec<u8>,
    /// The directory of the file system that is mounted.
    pub(crate) root: PathBuf,
    /// The mount point, relative to the process's root.
    pub(crate) point: PathBuf,
    pub(crate) kind: Vec<u8>,
    /// Options of the file system.
    pub(crate) options: Vec<u8>,
    /// The peer group to and from which events propagate.
    pub(crate) shared: Option<u32>,
    /// The peer group that a slave mount receives events from.
    pub(crate) master: Option<u32>,
}

impl MountInfo {
    /// The mounts that a process sees, parents first. Lines that the kernel would never write are
    /// left out.
    ///
    /// # Errors
    /// `InvalidData` if the list is longer than [`bounds::MOUNTS`].
    pub(crate) fn all(process: &str) -> io::Result<Vec<Self>> {
        let (mut bytes, limit) = (Vec::new(), bounds::MOUNTS.get());
        let file = File::open(format!("/proc/{process}/mountinfo"))?;
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        if u64::try_from(bytes.len()).map_or(true, |len| len > limit) {
            let why = format!("the mount list of process {process} has more than {limit} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(bytes.split(|&byte| byte == b'\n').filter_map(Self::read).collect())
    }

    /// Reads a line of the list.
    pub(crate) fn read(line: &[u8]) -> Option<Self> {
        let mut words = line.split(|&byte| byte == b' ');
        let (id, parent) = (number(words.next()?)?, number(words.next()?)?);
        let device = words.next()?.to_vec();
        let (root, point) = (path(words.next()?), path(words.next()?));
        let _of_the_mount = words.next()?;
        let (mut shared, mut master) = (None, None);
        for word in words.by_ref().take_while(|word| *word != b"-") {
            let tag = |name: &[u8]| word.strip_prefix(name).and_then(number);
            shared = shared.or(tag(b"shared:"));
            master = master.or(tag(b"master:"));
        }
        let kind = words.next()?.to_vec();
        let options = words.nth(1)?.to_vec();
        Some(Self { id, parent, device, root, point, kind, options, shared, master })
    }

    /// Returns true if an option of the file system is set.
    #[cfg(any(feature = "oci", fuzzing))]
    pub(crate) fn has_option(&self, name: &[u8]) -> bool {
        self.options.split(|&byte| byte == b',').any(|option| option == name)
    }
}

fn number(word: &[u8]) -> Option<u32> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// Decodes a path in which white space and backslashes are written as octal numbers.
fn path(word: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&first, behind)) = rest.split_first() {
        let digits = behind.get(..3).filter(|_| first == b'\\');
        let octal = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = behind.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = behind;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_with_its_optional_fields_and_escapes() {
        let row = b"36 35 98:0 /mnt1 /a\\040b\\134c rw,noatime shared:1 master:2 \
                    - ext3 /dev/root rw,errors=x";
        let mount = MountInfo::read(row).unwrap();
        assert_eq!((mount.id, &mount.device[..]), (36, &b"98:0"[..]));
        assert_eq!((mount.root, mount.point), ("/mnt1".into(), "/a b\\c".into()));
        assert_eq!((mount.parent, mount.shared, mount.master), (35, Some(1), Some(2)));
        assert_eq!((&mount.kind[..], &mount.options[..]), (&b"ext3"[..], &b"rw,errors=x"[..]));
        let own = MountInfo::all("self").unwrap();
        assert!(own.iter().any(|mount| mount.kind == b"proc"), "{own:?}");
    }

    #[test]
    fn lines_that_are_no_rows_are_left_out() {
        for row in ["", "x", "36 35 98:0 / /", "36 35 98:0 / / rw", "36 35 98:0 / / rw - ext3"] {
            assert_eq!(MountInfo::read(row.as_bytes()), None, "{row}");
        }
        assert_eq!(path(b"\\0"), PathBuf::from("\\0"));
        assert_eq!(path(b"\\999"), PathBuf::from("\\999"));
    }
}
