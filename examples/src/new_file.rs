//! Files that appear only when they are complete, and that only their owner can read.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufWriter, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{self, AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use crate::stdout::Stdout;

/// A file in the making, beside the file that it replaces, or standard output.
pub(crate) struct NewFile {
    to: To,
    place: Option<Place>,
}

enum To {
    New(BufWriter<File>),
    Stream(BufWriter<Box<dyn Write>>),
}

/// The place of a file in the making. The directory is held: a path that comes to lead elsewhere
/// changes nothing.
struct Place {
    directory: OwnedFd,
    /// Name under which the file is made.
    new: OsString,
    /// Name at the end.
    name: OsString,
}

impl NewFile {
    /// Begins a file; without a path it is standard output.
    ///
    /// The file has mode 0600, or that of the file that it replaces if that is narrower. A link at
    /// the path is replaced and not followed.
    pub(crate) fn create(path: Option<&Path>) -> Result<Self, String> {
        let Some(path) = path else {
            return Ok(Self::plain(Stdout::lock()));
        };
        Self::at(path).map_err(|error| format!("{}: {error}", path.display()))
    }

    fn at(path: &Path) -> io::Result<Self> {
        if path == Path::new("/dev/stdout") {
            return Ok(Self::plain(Stdout::lock()));
        }
        if leads_to_descriptor(path) {
            return Ok(Self::plain(File::options().write(true).open(path)?));
        }
        let name = path.file_name().ok_or_else(|| io::Error::other("is not a file"))?;
        let above = match path.parent() {
            Some(above) if above != Path::new("") => above,
            _ => Path::new("."),
        };
        let directory = fcntl::open(above, DIRECTORY, Mode::empty())?;
        let old = match fstatat(&directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(old) if is(&old, SFlag::S_IFREG) => Some(old),
            Ok(old) if is(&old, SFlag::S_IFLNK) => None,
            Err(Errno::ENOENT) => None,
            // A device such as /dev/null is written to as it is.
            Ok(_) => return Ok(Self::plain(open(&directory, name)?)),
            Err(error) => return Err(error.into()),
        };
        let place = Place { directory, new: beside(name), name: name.to_owned() };
        let file =
            File::from(openat(&place.directory, &*place.new, NEW, Mode::from_bits_truncate(MODE))?);
        let this = Self { to: To::New(BufWriter::new(file.try_clone()?)), place: Some(place) };
        // The mode does not depend on the umask.
        let mode = old.map_or(MODE, |old| old.st_mode & MODE);
        file.set_permissions(Permissions::from_mode(mode))?;
        Ok(this)
    }

    fn plain(to: impl Write + 'static) -> Self {
        Self { to: To::Stream(BufWriter::new(Box::new(to))), place: None }
    }

    /// Returns the new file, which may get holes; `None` for standard output, a device or a FIFO.
    pub(crate) fn file(&mut self) -> Option<&mut BufWriter<File>> {
        match &mut self.to {
            To::New(file) => Some(file),
            To::Stream(_) => None,
        }
    }

    /// Puts the file in its place.
    pub(crate) fn keep(mut self) -> io::Result<()> {
        self.flush()?;
        if let Some(place) = self.place.take() {
            let Place { directory, new, name } = &place;
            if let Err(error) = renameat(directory, &**new, directory, &**name) {
                place.remove();
                return Err(error.into());
            }
        }
        Ok(())
    }
}

impl Place {
    fn remove(&self) {
        let _ = unlinkat(&self.directory, &*self.new, UnlinkatFlags::NoRemoveDir);
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.to {
            To::New(file) => file.write(bytes),
            To::Stream(to) => to.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.to {
            To::New(file) => file.flush(),
            To::Stream(to) => to.flush(),
        }
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(place) = &self.place {
            place.remove();
        }
    }
}

/// Opens a device, a FIFO or the like. A FIFO of somebody else is refused: its reader is not the
/// one that the caller means.
fn open(directory: &OwnedFd, name: &OsStr) -> io::Result<File> {
    let found = File::from(openat(directory, name, LOOK, Mode::empty())?);
    let found = found.metadata()?;
    if found.file_type().is_fifo() && ![0, geteuid().as_raw()].contains(&found.uid()) {
        return Err(io::Error::other(format!("is a FIFO of user {}", found.uid())));
    }
    let file = File::from(openat(directory, name, THERE, Mode::empty())?);
    let opened = file.metadata()?;
    if (opened.dev(), opened.ino()) != (found.dev(), found.ino()) {
        return Err(io::Error::other("was replaced while it was opened"));
    }
    Ok(file)
}

/// Returns true for the paths of descriptors, as `/dev/fd/3`. The kernel's links are theirs.
fn leads_to_descriptor(path: &Path) -> bool {
    let number = |name: &OsStr| name.to_str().is_some_and(|name| name.parse::<u32>().is_ok());
    path == Path::new("/dev/stderr")
        || ["/dev/fd", "/proc/self/fd"].iter().any(|above| path.parent() == Some(Path::new(above)))
            && path.file_name().is_some_and(number)
}

/// Name of a file in the making. Nobody can take all of these names beforehand.
fn beside(name: &OsStr) -> OsString {
    let random = RandomState::new().hash_one(std::process::id());
    let mut new = OsString::from(".");
    new.push(name);
    new.push(format!(".{random:016x}"));
    new
}

fn is(found: &FileStat, kind: SFlag) -> bool {
    found.st_mode & SFlag::S_IFMT.bits() == kind.bits()
}

/// Mode of what holds memory, names and environments of processes.
const MODE: u32 = 0o600;
const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);
const NEW: OFlag = OFlag::O_WRONLY
    .union(OFlag::O_CREAT)
    .union(OFlag::O_EXCL)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);
const LOOK: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
const THERE: OFlag =
    OFlag::O_WRONLY.union(OFlag::O_NOFOLLOW).union(OFlag::O_NOCTTY).union(OFlag::O_CLOEXEC);

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{chown, symlink};

    use criu_lab::scratch;
    use nix::unistd::mkfifo;

    use super::*;

    fn write(path: &Path) -> Result<(), String> {
        let mut output = NewFile::create(Some(path))?;
        output.write_all(b"secret").unwrap();
        output.keep().map_err(|error| error.to_string())
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn an_output_is_its_owner_s_alone() {
        let directory = scratch("output-mode");
        let path = directory.join("core");
        write(&path).unwrap();
        assert_eq!((mode(&path), fs::read(&path).unwrap()), (0o600, b"secret".to_vec()));
        for (old, new) in [(0o644, 0o600), (0o666, 0o600), (0o4777, 0o600), (0o400, 0o400)] {
            fs::set_permissions(&path, Permissions::from_mode(old)).unwrap();
            write(&path).unwrap();
            assert_eq!(mode(&path), new, "{old:o}");
        }
        // Nothing is left beside it, of a file that is given up neither.
        drop(NewFile::create(Some(&directory.join("other"))).unwrap());
        let names: Vec<_> = fs::read_dir(&directory).unwrap().map(|at| at.unwrap()).collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }

    #[test]
    fn an_output_follows_no_planted_link() {
        let directory = scratch("output-link");
        let (victim, path) = (directory.join("victim"), directory.join("core"));
        fs::write(&victim, "kept").unwrap();
        let fifo = directory.join("fifo");
        mkfifo(&fifo, Mode::from_bits_truncate(0o666)).unwrap();
        for target in [&victim, &fifo, &directory, &directory.join("none"), Path::new("/dev/null")]
        {
            let _ = fs::remove_file(&path);
            symlink(target, &path).unwrap();
            write(&path).unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"secret");
            assert!(!fs::symlink_metadata(&path).unwrap().is_symlink());
        }
        assert_eq!(fs::read(&victim).unwrap(), b"kept");
        assert!(!directory.join("none").exists());
    }

    #[test]
    fn a_fifo_of_somebody_else_gets_nothing() {
        let directory = scratch("output-fifo");
        let path = directory.join("core");
        mkfifo(&path, Mode::from_bits_truncate(0o666)).unwrap();
        chown(&path, Some(65534), None).unwrap();
        let refused = write(&path).unwrap_err();
        assert!(refused.ends_with("core: is a FIFO of user 65534"), "{refused}");
        chown(&path, Some(0), None).unwrap();
        let reader = std::thread::spawn({
            let path = path.clone();
            move || fs::read(path).unwrap()
        });
        write(&path).unwrap();
        assert_eq!(reader.join().unwrap(), b"secret");
        write(Path::new("/dev/null")).unwrap();
        let refused = write(&directory).unwrap_err();
        assert!(refused.contains("directory"), "{refused}");
    }
}
