//! The directory of a proxy's notes. A proxy that was killed reads them when it is started again.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::geteuid;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A directory of notes, which belongs to one proxy at a time, or of files that several have.
#[derive(Debug)]
pub(super) struct StateDir {
    path: PathBuf,
    /// Held as long as the proxy lives. `None` for a directory of several.
    _lock: Option<Flock<File>>,
}

impl StateDir {
    /// Opens the directory, or makes it for this user alone.
    ///
    /// # Errors
    /// If the directory belongs to somebody else or is open to others, or another proxy uses it.
    pub(super) fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let Self { path, .. } = Self::shared(path)?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(path.join(LOCK))?;
        let lock =
            Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(
                |(_, error)| match error {
                    Errno::EWOULDBLOCK => io::Error::other("another proxy uses it"),
                    error => error.into(),
                },
            )?;
        let directory = Self { path, _lock: Some(lock) };
        directory.clear()?;
        Ok(directory)
    }

    /// Opens a directory that other proxies of this user may use, too, or makes it.
    ///
    /// # Errors
    /// If the directory belongs to somebody else or is open to others.
    pub(super) fn shared(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        DirBuilder::new().mode(0o700).recursive(true).create(&path)?;
        let found = fs::symlink_metadata(&path)?;
        if !found.is_dir() || found.uid() != geteuid().as_raw() || found.mode() & 0o077 != 0 {
            let why = "not a directory that belongs to this user alone, with mode 0700";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        Ok(Self { path, _lock: None })
    }

    /// Removes what an earlier proxy has not written to its end.
    fn clear(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.starts_with('.') && name.ends_with(NEW) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Writes a note, which is on the disk when this returns.
    pub(super) fn write(&self, note: &str, content: &impl Serialize) -> io::Result<()> {
        self.write_bytes(note, &serde_json::to_vec_pretty(content)?)
    }

    /// Writes a file, which is on the disk when this returns.
    pub(super) fn write_bytes(&self, note: &str, bytes: &[u8]) -> io::Result<()> {
        let new = self.path.join(format!(".{note}{NEW}"));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, self.path.join(note))?;
        self.sync()
    }

    /// Reads a note.
    pub(super) fn read<T: DeserializeOwned>(&self, note: &str) -> io::Result<T> {
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(self.path.join(note))?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a regular file"));
        }
        let mut bytes = Vec::new();
        file.take(MAX_NOTE + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_NOTE {
            let why = format!("more than {MAX_NOTE} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// Removes a note. A note that does not exist is no error.
    pub(super) fn remove(&self, note: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(note)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.sync(),
        }
    }

    /// The names of the notes that begin with a word.
    pub(super) fn notes(&self, begin: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let Ok(name) = entry?.file_name().into_string() else { continue };
            if name.starts_with(begin) && name.ends_with(NOTE) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// The path of a note, for messages.
    pub(super) fn place(&self, note: &str) -> PathBuf {
        self.path.join(note)
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

/// Returns the name of a note about a sandbox.
pub(super) fn note(begin: &str, sandbox: &str) -> String {
    format!("{begin}{sandbox}{NOTE}")
}

/// Says whether an id can be part of a file's name.
pub(super) fn is_id(id: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=MAX_ID).contains(&id.len()) && !id.starts_with('.') && id.bytes().all(fits)
}

/// Says whether a path is absolute and has no `..`.
pub(super) fn is_clean(path: &Path) -> bool {
    use std::path::Component;
    path.is_absolute() && !path.components().any(|part| part == Component::ParentDir)
}

/// Longest id. Engines have 64 digits.
const MAX_ID: usize = 128;

/// Largest note, in bytes. A note of the largest pod has some 300 KiB.
const MAX_NOTE: u64 = 1 << 20;

/// End of the names of notes.
const NOTE: &str = ".json";

/// End of the names of files that are being written.
const NEW: &str = ".new";

/// Name of the file that a proxy locks.
const LOCK: &str = "lock";
