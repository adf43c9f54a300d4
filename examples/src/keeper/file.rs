//! The file in an images directory that leads to the keeper of its forks.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

use crate::new_file::NewFile;

/// The name of the file.
pub(super) const NAME: &str = "keeper.json";

/// A keeper, and the reason of its end.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Entry {
    pub(super) pid: i32,
    /// The time of its start, in the kernel's ticks since boot.
    pub(super) start: u64,
    /// The name of its socket, in the kernel's own name space.
    pub(super) socket: String,
    /// The reason why it has ended the forks.
    pub(super) ended: Option<String>,
}

impl Entry {
    /// The entry of forks that have ended before a keeper could be asked.
    pub(super) fn ended(why: &str) -> Self {
        Self { pid: 0, start: 0, socket: String::new(), ended: Some(why.to_owned()) }
    }

    /// Writes the file, in the place of an older one.
    pub(super) fn write(&self, directory: &Path) -> io::Result<()> {
        let mut text = serde_json::to_vec(self).map_err(io::Error::other)?;
        text.push(b'\n');
        let mut file = NewFile::create(Some(&directory.join(NAME))).map_err(io::Error::other)?;
        file.write_all(&text)?;
        file.keep()
    }

    /// Reads the file. `None` if there is none.
    ///
    /// # Errors
    /// The file is a link, or not a small file of this user that others cannot write.
    pub(super) fn read(directory: &Path) -> io::Result<Option<Self>> {
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let path = directory.join(NAME);
        let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path);
        let file = match file {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let meta = file.metadata()?;
        if !meta.is_file() || meta.mode() & 0o022 != 0 || meta.uid() != geteuid().as_raw() {
            let why = "it is not a file of this user alone";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        let mut text = String::new();
        file.take(LONGEST).read_to_string(&mut text)?;
        serde_json::from_str(&text).map(Some).map_err(io::Error::other)
    }
}

/// The bytes that are read.
const LONGEST: u64 = 16 << 10;

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use criu_lab::scratch;

    use super::*;

    #[test]
    fn an_entry_is_a_file_that_nobody_else_has_written() {
        let directory = scratch("keeper-file");
        assert_eq!(Entry::read(&directory).unwrap(), None);
        let entry = Entry { pid: 7, start: u64::MAX, socket: "x".into(), ended: None };
        entry.write(&directory).unwrap();
        assert_eq!(Entry::read(&directory).unwrap(), Some(entry.clone()));
        let ended = Entry { ended: Some("why\nso".into()), ..entry };
        ended.write(&directory).unwrap();
        assert_eq!(Entry::read(&directory).unwrap(), Some(ended));
        let path = directory.join(NAME);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        Entry::read(&directory).unwrap_err();
        for text in ["", "{}", "[1]", "{\"pid\":1e99,\"start\":0,\"socket\":\"\"}", "\u{0}"] {
            fs::remove_file(&path).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            Entry::read(&directory).unwrap_err();
        }
        fs::rename(&path, directory.join("other")).unwrap();
        symlink("other", &path).unwrap();
        Entry::read(&directory).unwrap_err();
    }
}
