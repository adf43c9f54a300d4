//! The record of a container's standard streams.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::error::{Error, Result};
use crate::value::{Dir, InheritFd, Pid, replace_file};

/// `descriptors.json`: the files behind descriptors 0, 1 and 2 of a container's first process.
/// runc, crun and youki keep this file in the images directory.
///
/// A restore gives a pipe among them another end. CRIU itself restores other files.
///
/// ```
/// use criu_rs::oci::Descriptors;
/// use criu_rs::Pid;
///
/// for target in Descriptors::of(Pid::this())?.targets() {
///     println!("{target}");
/// }
/// # Ok::<(), criu_rs::oci::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Descriptors(Vec<String>);

impl Descriptors {
    /// The file's name in the images directory.
    pub const FILE: &'static str = "descriptors.json";

    /// The descriptors of a live process. A closed descriptor is an empty text.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn of(pid: Pid) -> Result<Self> {
        let link = |fd: usize| {
            let path = PathBuf::from(format!("/proc/{pid}/fd/{fd}"));
            match fs::read_link(&path) {
                Ok(target) => Ok(String::from_utf8_lossy(target.as_os_str().as_bytes()).into()),
                Err(error) if error.kind() == io::ErrorKind::NotFound && exists(pid) => {
                    Ok(String::new())
                }
                Err(source) => Err(Error::path("read the link", path, source)),
            }
        };
        (0..3).map(link).collect::<Result<_>>().map(Self)
    }

    /// Reads the file in an images directory.
    ///
    /// # Errors
    /// When there is no such file, or it holds something else.
    pub fn load(images: impl AsRef<Path>) -> Result<Self> {
        let directory = open_directory(images.as_ref())?;
        Self::load_in(directory.as_fd(), images.as_ref())
    }

    /// Reads the file in an open directory, whose path is for messages.
    pub(crate) fn load_in(images: BorrowedFd<'_>, path: &Path) -> Result<Self> {
        let path = path.join(Self::FILE);
        let mut bytes = Vec::new();
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let file = openat(images, Self::FILE, flags, Mode::empty()).map_err(io::Error::from);
        let file = file.and_then(|file| {
            let file = File::from(file);
            let is_file = file.metadata()?.is_file();
            let refused = || io::Error::other("it is not a regular file");
            is_file.then_some(file).ok_or_else(refused)
        });
        let read = file.and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
        read.map_err(|source| Error::path("read", &path, source))?;
        let not = |why: String| Error::Descriptors { path: path.clone(), why };
        if u64::try_from(bytes.len()).map_or(true, |len| len > MAX_BYTES) {
            return Err(not(format!("the file is longer than the limit of {MAX_BYTES} bytes")));
        }
        let targets: Option<Vec<String>> = serde_json::from_slice(&bytes)
            .map_err(|error| not(format!("the file is not an array of texts: {error}")))?;
        Ok(Self(targets.unwrap_or_default()))
    }

    /// Writes the file into an images directory, whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, images: impl AsRef<Path>) -> Result<()> {
        let directory = open_directory(images.as_ref())?;
        self.save_in(directory.as_fd(), images.as_ref())
    }

    /// Writes the file into an open directory, whose path is for messages.
    pub(crate) fn save_in(&self, images: BorrowedFd<'_>, path: &Path) -> Result<()> {
        let text = serde_json::to_string(&self.0).unwrap_or_default();
        let written = replace_file(images, Self::FILE, text.as_bytes());
        written.map_err(|source| Error::path("write", path.join(Self::FILE), source))
    }

    /// Removes the file from an open directory.
    pub(crate) fn remove_in(images: BorrowedFd<'_>) {
        let _ = unlinkat(images, Self::FILE, UnlinkatFlags::NoRemoveDir);
    }

    /// The target of each descriptor's link in `/proc/PID/fd`.
    pub fn targets(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Descriptors that take the places of the container's pipes: standard input, output and error.
    pub fn inherit<'fd>(&self, stdio: [BorrowedFd<'fd>; 3]) -> Vec<InheritFd<'fd>> {
        let mut inherited: Vec<InheritFd<'fd>> = Vec::new();
        for (target, fd) in self.0.iter().zip(stdio) {
            // Output and error may be one pipe, for which CRIU takes one descriptor.
            let is_known = |known: &InheritFd<'_>| known.key() == target.as_str();
            if target.starts_with("pipe:") && !inherited.iter().any(is_known) {
                inherited.push(InheritFd::borrowed(target, fd));
            }
        }
        inherited
    }
}

fn exists(pid: Pid) -> bool {
    Path::new(&format!("/proc/{pid}/fd")).exists()
}

/// Opens an images directory.
fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let opened = open(path, flags, Mode::empty());
    opened.map_err(|source| Error::path("open the directory", path, source))
}

/// Opens an images directory once, for an operation and for what this room does there.
pub(crate) fn hold(images: &Dir<'_>) -> Result<(Dir<'static>, Arc<OwnedFd>)> {
    let held = images.hold().map_err(|error| match error.source.kind() {
        io::ErrorKind::NotFound => Error::NoImages { directory: images.path() },
        _ => crate::error::Error::from(error).into(),
    })?;
    match held {
        Some(held) => Ok(held),
        // CRIU opens the directory by the same path.
        None => {
            let directory = Arc::new(open_directory(&images.path())?);
            Ok((Dir::opened_by_criu(images.path()), directory))
        }
    }
}

/// Bytes of the file that are read: three links of at most 4 KiB each, in JSON.
const MAX_BYTES: u64 = 128 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("criu-rs-fds-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = scratch("saved");
        let targets = ["pipe:[4711]", "/dev/null", ""];
        let descriptors = Descriptors(targets.map(String::from).into());
        descriptors.save(&dir).unwrap();
        assert_eq!(Descriptors::load(&dir).unwrap(), descriptors);
        let file = dir.join(Descriptors::FILE);
        assert_eq!(fs::read_to_string(&file).unwrap(), r#"["pipe:[4711]","/dev/null",""]"#);
        // runc writes `null` for a container that never ran.
        fs::write(&file, "null").unwrap();
        assert_eq!(Descriptors::load(&dir).unwrap(), Descriptors::default());
        for bad in ["", "{}", "[1]", "[\"a\""] {
            fs::write(&file, bad).unwrap();
            let error = Descriptors::load(&dir).unwrap_err().to_string();
            assert!(error.contains("is not an array of texts"), "{bad}: {error}");
        }
        fs::write(&file, vec![b' '; 200_000]).unwrap();
        assert!(Descriptors::load(&dir).unwrap_err().to_string().contains("is longer"));
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &file).unwrap();
        assert!(matches!(Descriptors::load(&dir), Err(Error::Path { .. })));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_record_is_written_through_no_planted_link() {
        let dir = scratch("planted");
        let mine = dir.join("mine");
        fs::write(&mine, "mine").unwrap();
        let file = dir.join(Descriptors::FILE);
        for name in [Descriptors::FILE, ".descriptors.json.new"] {
            std::os::unix::fs::symlink(&mine, dir.join(name)).unwrap();
        }
        Descriptors::default().save(&dir).unwrap();
        assert_eq!(fs::read_to_string(&mine).unwrap(), "mine");
        assert!(fs::symlink_metadata(&file).unwrap().is_file());
        // A FIFO is not waited for.
        fs::remove_file(&file).unwrap();
        nix::unistd::mkfifo(&file, Mode::from_bits_truncate(0o600)).unwrap();
        let error = Descriptors::load(&dir).unwrap_err();
        assert!(error.to_string().contains("not a regular file"), "{error}");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_pipe_is_inherited_once() {
        let targets = ["/dev/null", "pipe:[7]", "pipe:[7]"];
        let descriptors = Descriptors(targets.map(String::from).into());
        let null = File::open("/dev/null").unwrap();
        let inherited = descriptors.inherit([null.as_fd(); 3]);
        assert_eq!(inherited.len(), 1);
        assert_eq!(inherited[0].key(), "pipe:[7]");
    }
}
