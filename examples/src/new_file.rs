//! Files that appear only when they are complete. Most are for their owner alone.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions, Permissions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{self, AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use crate::fd;
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
        Self::at(path, MODE).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Writes a whole file that everybody may read, as far as the umask and the mode of the file
    /// that it replaces allow.
    pub(crate) fn write_public(path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = Self::at(path, PUBLIC_MODE)?;
        file.write_all(bytes)?;
        file.keep()
    }

    fn at(path: &Path, mode: u32) -> io::Result<Self> {
        if path == Path::new("/dev/stdout") {
            return Ok(Self::plain(Stdout::lock()));
        }
        if let Some(descriptor) = fd::of_path(path) {
            return Ok(Self::plain(File::from(descriptor?)));
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
        let mode = old.map_or(mode, |old| old.st_mode & mode);
        let place = Place { directory, new: beside(name), name: name.to_owned() };
        let file =
            File::from(openat(&place.directory, &*place.new, NEW, Mode::from_bits_truncate(mode))?);
        let this = Self { to: To::New(BufWriter::new(file.try_clone()?)), place: Some(place) };
        if mode & !MODE == 0 {
            // The mode of a private file does not depend on the umask.
            file.set_permissions(Permissions::from_mode(mode))?;
        }
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

    /// Returns what removes a new file before it is in its place; `None` for standard output, a
    /// device or a FIFO.
    pub(crate) fn unfinished(&self) -> io::Result<Option<Unfinished>> {
        let Some(Place { directory, new, name }) = &self.place else { return Ok(None) };
        let (new, name) = (new.clone(), name.clone());
        Ok(Some(Unfinished(Place { directory: directory.try_clone()?, new, name })))
    }

    /// Waits until the bytes of a new file are on the disk.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        match &self.to {
            To::New(file) => file.get_ref().sync_all(),
            To::Stream(_) => Ok(()),
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

/// A file in the making, as another thread sees it.
pub(crate) struct Unfinished(Place);

impl Unfinished {
    /// Removes the file.
    pub(crate) fn remove(&self) {
        self.0.remove();
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
    if found.metadata()?.is_file() {
        return Err(io::Error::other("another file has taken its place"));
    }
    reopen(&found, File::options().write(true))
}

/// Opens a file to read. A FIFO of the caller or of root is waited for; one of somebody else is
/// refused: its writer may never come.
pub(crate) fn open_input(path: &Path) -> io::Result<File> {
    if let Some(descriptor) = fd::of_path(path) {
        return descriptor.map(File::from);
    }
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let found = File::from(fcntl::open(path, flags, Mode::empty())?);
    reopen(&found, File::options().read(true))
}

/// Opens the file of an `O_PATH` descriptor. Its name may lead to another file by now.
fn reopen(found: &File, options: &mut OpenOptions) -> io::Result<File> {
    let look = found.metadata()?;
    if look.file_type().is_fifo() && ![0, geteuid().as_raw()].contains(&look.uid()) {
        return Err(io::Error::other(format!("is a FIFO of user {}", look.uid())));
    }
    let link = format!("/proc/self/fd/{}", found.as_raw_fd());
    options.custom_flags(OFlag::O_NOCTTY.bits()).open(link)
}

/// Name of a file in the making. Nobody can take all of these names beforehand.
fn beside(name: &OsStr) -> OsString {
    let random = RandomState::new().hash_one(std::process::id());
    // Names have at most 255 bytes: of a long one only the beginning is in it.
    let begin = name.as_bytes().get(..LONGEST).unwrap_or(name.as_bytes());
    let mut new = OsString::from(".");
    new.push(OsStr::from_bytes(begin));
    new.push(format!(".{random:016x}"));
    new
}

/// Most bytes of a name that its hidden name has, too.
const LONGEST: usize = 200;

fn is(found: &FileStat, kind: SFlag) -> bool {
    found.st_mode & SFlag::S_IFMT.bits() == kind.bits()
}

/// Mode of what holds memory, names and environments of processes.
const MODE: u32 = 0o600;
const PUBLIC_MODE: u32 = 0o644;
const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);
const NEW: OFlag = OFlag::O_WRONLY
    .union(OFlag::O_CREAT)
    .union(OFlag::O_EXCL)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);
const LOOK: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

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
        // The longest name, of a file that stays and of one that is given up.
        let long = directory.join("n".repeat(255));
        write(&long).unwrap();
        drop(NewFile::create(Some(&long)).unwrap());
        fs::remove_file(&long).unwrap();
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
    fn a_file_for_everybody_replaces_no_device_and_no_fifo() {
        let directory = scratch("output-public");
        let path = directory.join("pid");
        let (victim, fifo) = (directory.join("victim"), directory.join("fifo"));
        fs::write(&victim, "kept").unwrap();
        symlink(&victim, &path).unwrap();
        NewFile::write_public(&path, b"17").unwrap();
        assert_eq!((mode(&path), fs::read(&path).unwrap()), (0o644, b"17".to_vec()));
        assert_eq!(fs::read(&victim).unwrap(), b"kept");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        NewFile::write_public(&path, b"18").unwrap();
        assert_eq!(mode(&path), 0o600);
        mkfifo(&fifo, Mode::from_bits_truncate(0o600)).unwrap();
        let reader = std::thread::spawn({
            let fifo = fifo.clone();
            move || fs::read(fifo).unwrap()
        });
        NewFile::write_public(&fifo, b"19").unwrap();
        assert_eq!(reader.join().unwrap(), b"19");
        assert!(fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo());
        let null = Path::new("/dev/null");
        NewFile::write_public(null, b"20").unwrap();
        assert!(fs::symlink_metadata(null).unwrap().file_type().is_char_device());
        // A descriptor goes on at its place.
        let log = directory.join("log");
        fs::write(&log, "before ").unwrap();
        let open = File::options().append(true).open(&log).unwrap();
        for process in ["self", "thread-self", &std::process::id().to_string()] {
            let by_path = format!("/proc/{process}/fd/{}", open.as_raw_fd());
            NewFile::write_public(Path::new(&by_path), b"and ").unwrap();
        }
        write(Path::new(&format!("/dev/fd/{}", open.as_raw_fd()))).unwrap();
        assert_eq!(fs::read(&log).unwrap(), b"before and and and secret");
    }

    #[test]
    fn a_parent_that_is_swapped_while_a_file_is_made_changes_nothing() {
        let directory = scratch("output-swapped");
        let (parent, moved) = (directory.join("parent"), directory.join("moved"));
        let other = directory.join("other");
        fs::create_dir(&parent).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(other.join("pid"), "kept").unwrap();
        let mut file = NewFile::at(&parent.join("pid"), PUBLIC_MODE).unwrap();
        fs::rename(&parent, &moved).unwrap();
        symlink(&other, &parent).unwrap();
        file.write_all(b"17").unwrap();
        file.keep().unwrap();
        assert_eq!(fs::read(moved.join("pid")).unwrap(), b"17");
        assert_eq!(fs::read(other.join("pid")).unwrap(), b"kept");
        assert_eq!(fs::read_dir(&other).unwrap().count(), 1);
    }

    #[test]
    fn a_fifo_of_somebody_else_gets_nothing() {
        criu_lab::needs_root();
        let directory = scratch("output-fifo");
        let path = directory.join("core");
        mkfifo(&path, Mode::from_bits_truncate(0o666)).unwrap();
        chown(&path, Some(65534), None).unwrap();
        let refused = write(&path).unwrap_err();
        assert!(refused.ends_with("core: is a FIFO of user 65534"), "{refused}");
        let refused = open_input(&path).map(drop).unwrap_err().to_string();
        assert_eq!(refused, "is a FIFO of user 65534");
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
