//! The lock of a directory that is edited.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, openat};
use nix::sys::stat::{Mode, fstat, fstatat, major, minor};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

/// A lock against other edits: a file in the directory that only its owner can open. A lock on the
/// directory itself could be taken, and kept for ever, by everybody who can read the directory.
#[derive(Debug)]
pub(super) struct Lock {
    directory: OwnedFd,
    _held: Flock<File>,
}

impl Lock {
    /// Takes the lock, and waits for it if another edit has it.
    ///
    /// # Errors
    /// Fails with `TimedOut` after 10 seconds; with the errors of open(2); if the file belongs to
    /// somebody else.
    pub(super) fn take(directory: OwnedFd) -> io::Result<Self> {
        Self::take_within(directory, PATIENCE)
    }

    fn take_within(directory: OwnedFd, patience: Duration) -> io::Result<Self> {
        Self::take_if(directory, patience, has_the_name)
    }

    /// Takes the lock as soon as `is_it` says that the name leads to the locked file.
    fn take_if(
        directory: OwnedFd,
        patience: Duration,
        is_it: impl Fn(&OwnedFd, &Metadata) -> io::Result<bool>,
    ) -> io::Result<Self> {
        let end = Instant::now() + patience;
        // A killed edit leaves its file. Those who may write to the directory may edit it, too.
        let owners = [geteuid().as_raw(), fstat(&directory)?.st_uid];
        loop {
            let file = File::from(openat(&directory, NAME, FLAGS, Mode::S_IRUSR | Mode::S_IWUSR)?);
            let found = file.metadata()?;
            if !owners.contains(&found.uid()) || !found.is_file() || found.mode() & 0o077 != 0 {
                let who = found.uid();
                return Err(io::Error::other(format!(
                    "{NAME} is not a file that only the directory's owner can open: it is one of user {who} \
                     with mode {:o}",
                    found.mode() & 0o7777
                )));
            }
            let is_held = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                // The edit before this one removes its file. The name may be that of a new file.
                Ok(held) if is_it(&directory, &found)? => {
                    return Ok(Self { directory, _held: held });
                }
                Ok(_) => false,
                Err((_, Errno::EWOULDBLOCK)) => true,
                Err((_, error)) => return Err(error.into()),
            };
            if Instant::now() >= end {
                return Err(if is_held { busy(&found, patience) } else { replaced(patience) });
            }
            sleep(PAUSE);
        }
    }

    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While the lock is held, so that no file is removed that another edit has locked.
        let _ = unlinkat(&self.directory, NAME, UnlinkatFlags::NoRemoveDir);
    }
}

/// Returns true if the lock's name leads to this file.
fn has_the_name(directory: &OwnedFd, file: &Metadata) -> io::Result<bool> {
    match fstatat(directory, NAME, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(now) => Ok((now.st_dev, now.st_ino) == (file.dev(), file.ino())),
        Err(Errno::ENOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Says who holds the lock, as far as the kernel tells.
fn busy(file: &Metadata, patience: Duration) -> io::Error {
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let who = match holder(&locks, file.dev(), file.ino()) {
        Some(pid) => format!("process {pid}"),
        None => "another process".to_owned(),
    };
    let what = format!("{who} holds {NAME}, the lock of another edit, for {patience:?} or longer");
    io::Error::new(io::ErrorKind::TimedOut, what)
}

/// Returns the process that holds the lock of a file, from the text of `/proc/locks`.
fn holder(locks: &str, device: u64, inode: u64) -> Option<&str> {
    let place = format!("{:02x}:{:02x}:{inode}", major(device), minor(device));
    // "1: FLOCK  ADVISORY  WRITE 4711 08:01:131075 0 EOF"
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let fits = words.get(1) == Some(&"FLOCK") && words.get(5) == Some(&place.as_str());
        fits.then(|| words.get(4).copied()).flatten()
    })
}

fn replaced(patience: Duration) -> io::Error {
    let what = format!("{NAME} was replaced each time it was locked, for {patience:?} or longer");
    io::Error::new(io::ErrorKind::TimedOut, what)
}

const NAME: &str = ".edit-lock";

/// Longest wait for another edit. An edit takes a second for a GiB of images.
const PATIENCE: Duration = Duration::from_secs(10);

/// Time between two looks at a lock that another edit has.
const PAUSE: Duration = Duration::from_millis(20);

const FLAGS: OFlag = OFlag::O_RDWR
    .union(OFlag::O_CREAT)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_NONBLOCK)
    .union(OFlag::O_CLOEXEC);

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::path::Path;

    use criu_lab::scratch;
    use nix::sys::stat::makedev;

    use super::*;

    fn take(directory: &Path) -> io::Result<Lock> {
        take_within(directory, Duration::from_secs(60))
    }

    fn take_within(directory: &Path, patience: Duration) -> io::Result<Lock> {
        Lock::take_within(File::open(directory)?.into(), patience)
    }

    #[test]
    fn an_edit_that_meets_another_waits_a_bounded_time_and_names_it() {
        let directory = scratch("edit-lock");
        let name = directory.join(NAME);
        let first = take(&directory).unwrap();
        assert_eq!(name.metadata().unwrap().mode() & 0o777, 0o600);
        let said = take_within(&directory, SHORT).unwrap_err();
        assert_eq!(said.kind(), io::ErrorKind::TimedOut);
        let who = format!("process {} holds .edit-lock", std::process::id());
        assert!(said.to_string().starts_with(&who), "{said}");
        let ends = std::thread::spawn(move || {
            sleep(3 * PAUSE);
            drop(first);
        });
        drop(take(&directory).unwrap());
        ends.join().unwrap();
        assert!(!name.exists());
        // A killed edit leaves its file, unlocked.
        File::create(&name).unwrap().set_permissions(Permissions::from_mode(0o600)).unwrap();
        drop(take(&directory).unwrap());
        assert!(!name.exists());
    }

    #[test]
    fn a_file_that_others_can_open_is_no_lock() {
        let directory = scratch("edit-foreign");
        let name = directory.join(NAME);
        File::create(&name).unwrap().set_permissions(Permissions::from_mode(0o644)).unwrap();
        let said = take(&directory).unwrap_err().to_string();
        assert!(said.ends_with(&format!("of user {} with mode 644", geteuid())), "{said}");
        fs::remove_file(&name).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &name).unwrap();
        assert!(take(&directory).is_err());
    }

    #[test]
    fn a_file_of_another_user_is_no_lock() {
        criu_lab::needs_root();
        let directory = scratch("edit-other-user");
        let name = directory.join(NAME);
        File::create(&name).unwrap().set_permissions(Permissions::from_mode(0o600)).unwrap();
        chown(&name, Some(65534), None).unwrap();
        let said = take(&directory).unwrap_err().to_string();
        assert!(said.ends_with("of user 65534 with mode 600"), "{said}");
    }

    #[test]
    fn a_lock_that_is_replaced_again_and_again_is_waited_for_a_bounded_time() {
        let directory = File::open(scratch("edit-replaced")).unwrap();
        let begun = Instant::now();
        let tries = Cell::new(0);
        let never = |_: &OwnedFd, _: &Metadata| {
            tries.set(tries.get() + 1);
            Ok(false)
        };
        let said = Lock::take_if(directory.into(), SHORT, never).unwrap_err();
        assert_eq!(said.kind(), io::ErrorKind::TimedOut);
        assert!(said.to_string().starts_with(".edit-lock was replaced"), "{said}");
        assert!(begun.elapsed() >= SHORT);
        // It rests between two looks.
        assert!(tries.get() <= 1 + SHORT.as_millis() / PAUSE.as_millis(), "{tries:?}");
    }

    #[test]
    fn a_lock_of_another_file_with_the_same_number_has_another_holder() {
        let locks = "1: POSIX  ADVISORY  WRITE 10 fd:10:77 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 11 08:01:77 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 12 fd:10:77 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 13 fd:10:77 0 EOF\n";
        assert_eq!(holder(locks, makedev(0xfd, 0x10), 77), Some("13"));
        assert_eq!(holder(locks, makedev(8, 1), 77), Some("11"));
        assert_eq!(holder(locks, makedev(8, 2), 77), None);
    }

    const SHORT: Duration = Duration::from_millis(300);
}
