//! Files and directories that the program itself makes, and directories that others can write.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use criu_rs::{Dir, Pid};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{Mode, umask};
use nix::unistd::geteuid;

use crate::fault::Fault;
use crate::fd;
use crate::output::Output;

/// Lets only the owner read and write the files that this process and its criu make from now on.
/// CRIU makes images that everybody may read otherwise, and memory is in these.
pub(crate) fn keep_files_private() {
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
}

/// Does the same for the images of a tree, and returns the mode of their directory. The images of a
/// tree in a user namespace of its own stay as CRIU makes them: its restore reads them as a user of
/// that namespace.
pub(crate) fn keep_images_private(root: Pid) -> u32 {
    let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/user")).ok();
    let (own, theirs) = (of("self"), of(&root.to_string()));
    if theirs.is_some() && own != theirs {
        return READABLE;
    }
    keep_files_private();
    PRIVATE
}

/// The mode of a directory that its owner alone enters.
pub(crate) const PRIVATE: u32 = 0o700;
/// The mode of a directory that others enter, before the umask.
pub(crate) const READABLE: u32 = 0o755;

/// Tells a person that others can write into a directory.
pub(crate) fn note_writers(output: &Output, option: &str, directory: &Path) {
    if let Ok(Some(writers)) = Dir::from(directory).writers() {
        output.say(format!(
            "{option}: {writers} can write {}, and replace the files in it at any time: use a \
             directory that only you can write",
            directory.display()
        ));
    }
}

/// Makes a directory that is missing, with this mode. The directory above it has to be there.
pub(crate) fn make_directory(option: &str, directory: &Path, mode: u32) -> Result<(), Fault> {
    let is_missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    if fs::metadata(directory).err().as_ref().is_some_and(is_missing) {
        let made = DirBuilder::new().mode(mode).create(directory);
        if let Err(error) = made.or_else(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Ok(()),
            _ => Err(error),
        }) {
            let show = directory.display();
            return Err(Fault::usage(format!("{option}: cannot make {show}: {error}")));
        }
    }
    check_directory(option, directory)
}

/// Returns a directory, or the one above it if it is missing: there it would be made.
pub(crate) fn images_or_above(directory: &Path) -> &Path {
    match directory.parent() {
        Some(above) if !directory.exists() && above.as_os_str().is_empty() => Path::new("."),
        Some(above) if !directory.exists() => above,
        _ => directory,
    }
}

/// Refuses an option whose value is not a directory.
pub(crate) fn check_directory(option: &str, directory: &Path) -> Result<(), Fault> {
    let show = directory.display();
    match fs::metadata(directory) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(Fault::usage(format!("{option}: {show} is not a directory"))),
        Err(error) => Err(Fault::usage(format!("{option}: cannot open {show}: {error}"))),
    }
}

/// Makes a directory that may be there already, and those above it, with this mode.
pub(crate) fn make_directories(path: &Path, mode: u32) -> Result<&Path, Fault> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(|error| Fault::system(format!("make the directory {}", path.display()), error))?;
    Ok(path)
}

/// Opens a log to append to, and makes it if it is missing, for its owner alone. A path
/// such as `/dev/fd/3` stands for the descriptor. A device such as `/dev/null` is written as it is.
///
/// # Errors
/// A link, a FIFO, a file with several hard links, or a file or device of another user is at the
/// path. These are not written.
pub(crate) fn open_log(path: &Path) -> io::Result<File> {
    if let Some(descriptor) = fd::of_path(path) {
        return descriptor.map(File::from);
    }
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    // Without waiting: a FIFO that nobody reads would hold the program.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = options.custom_flags(flags.bits()).open(path);
    let meta = match file {
        Ok(file) => {
            let meta = file.metadata()?;
            let is_ours = meta.uid() == 0 || meta.uid() == geteuid().as_raw();
            let is_device = meta.file_type().is_char_device();
            if is_ours && (is_device || meta.is_file() && meta.nlink() == 1) {
                // A terminal that is full is waited for.
                fcntl(&file, FcntlArg::F_SETFL(OFlag::O_APPEND))?;
                return Ok(file);
            }
            meta
        }
        Err(error) => fs::symlink_metadata(path).map_err(|_| error)?,
    };
    let why = if meta.is_symlink() {
        "a symbolic link is not written through: remove it, or name another log".to_owned()
    } else if !meta.is_file() && !meta.file_type().is_char_device() {
        "not a regular file: remove it, or name another log".to_owned()
    } else if meta.is_file() && meta.nlink() > 1 {
        format!("has {} hard links: remove this one, or name another log", meta.nlink())
    } else {
        format!("belongs to user {}: remove it, or name another log", meta.uid())
    };
    Err(io::Error::other(why))
}

/// Reads a small regular file. Neither a link nor a FIFO is opened.
pub(crate) fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The part of a file that is read. Statistics take some 200 bytes.
const MAX_FILE: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::symlink;

    use criu_lab::scratch;
    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn a_log_is_a_device_or_a_descriptor_only_where_the_kernel_says_so() {
        let directory = scratch("log-places");
        let (file, link) = (directory.join("file"), directory.join("link"));
        let (victim, fifo) = (directory.join("victim"), directory.join("fifo"));
        fs::write(&victim, "kept").unwrap();
        symlink(&victim, &link).unwrap();
        mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        // Everybody can plant links below these beginnings.
        let id = std::process::id().to_string();
        let beginnings = ["/proc/self/root", &format!("/proc/{id}/root"), "/dev/.."];
        let directory = directory.canonicalize().unwrap();
        let directory = directory.strip_prefix("/").unwrap();
        for beginning in beginnings {
            let below = Path::new(beginning).join(directory);
            for (name, why) in [("link", "symbolic link"), ("fifo", "not a regular file")] {
                let said = open_log(&below.join(name)).map(drop).unwrap_err().to_string();
                assert!(said.contains(why), "{beginning}: {said}");
            }
        }
        assert_eq!(fs::read(&victim).unwrap(), b"kept");
        let null = open_log(Path::new("/dev/null")).unwrap();
        assert!(null.metadata().unwrap().file_type().is_char_device());
        fs::write(&file, "before ").unwrap();
        let open = OpenOptions::new().append(true).open(&file).unwrap();
        let number = open.as_raw_fd();
        for path in [format!("/dev/fd/{number}"), format!("/proc/self/fd/{number}")] {
            open_log(Path::new(&path)).unwrap().write_all(b"and ").unwrap();
        }
        assert_eq!(fs::read(&file).unwrap(), b"before and and ");
    }
}
