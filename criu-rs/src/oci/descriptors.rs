//! The record of a container's standard streams.

use std::fs;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::error::{Error, Result};
use super::replaced::replace;
use crate::value::{InheritFd, Pid};

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
        let path = images.as_ref().join(Self::FILE);
        let mut bytes = Vec::new();
        let mut options = fs::OpenOptions::new();
        options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let file = options.open(&path);
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
        let path = images.as_ref().join(Self::FILE);
        let text = serde_json::to_string(&self.0).unwrap_or_default();
        let written = replace(&path, text.as_bytes());
        written.map_err(|source| Error::path("write", path, source))
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

/// Bytes of the file that are read: three links of at most 4 KiB each, in JSON.
const MAX_BYTES: u64 = 128 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

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
    fn a_pipe_is_inherited_once() {
        let targets = ["/dev/null", "pipe:[7]", "pipe:[7]"];
        let descriptors = Descriptors(targets.map(String::from).into());
        let null = File::open("/dev/null").unwrap();
        let inherited = descriptors.inherit([null.as_fd(); 3]);
        assert_eq!(inherited.len(), 1);
        assert_eq!(inherited[0].key(), "pipe:[7]");
    }
}
