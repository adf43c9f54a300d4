//! The lock of a directory that is edited.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, openat};
use nix::sys::stat::{Mode, fstat, fstatat};
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
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                // The edit before this one removes its file. The name may be that of a new file.
                Ok(held) => match fstatat(&directory, NAME, AtFlags::AT_SYMLINK_NOFOLLOW) {
                    Ok(now) if (now.st_dev, now.st_ino) == (found.dev(), found.ino()) => {
                        return Ok(Self { directory, _held: held });
                    }
                    Ok(_) | Err(Errno::ENOENT) => {}
                    Err(error) => return Err(error.into()),
                },
                Err((_, Errno::EWOULDBLOCK)) if Instant::now() < end => sleep(PAUSE),
                Err((_, Errno::EWOULDBLOCK)) => return Err(busy(found.ino(), patience)),
                Err((_, error)) => return Err(error.into()),
            }
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

/// Says who holds the lock, as far as the kernel tells.
fn busy(inode: u64, patience: Duration) -> io::Error {
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    // "1: FLOCK  ADVISORY  WRITE 4711 08:01:131075 0 EOF"
    let holder = locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let place = words.get(5)?.rsplit(':').next()?;
        let fits = words.get(1) == Some(&"FLOCK") && place.parse() == Ok(inode);
        fits.then(|| words.get(4).map(|pid| (*pid).to_owned())).flatten()
    });
    let who = holder.map_or("another process".to_owned(), |pid| format!("process {pid}"));
    let what = format!("{who} holds {NAME}, the lock of another edit, for {patience:?} or longer");
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
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::path::Path;

    use criu_lab::scratch;

    use super::*;

    fn take(directory: &Path) -> io::Result<Lock> {
        Lock::take_within(File::open(directory)?.into(), Duration::from_millis(300))
    }

    #[test]
    fn an_edit_that_meets_another_waits_a_bounded_time_and_names_it() {
        let directory = scratch("edit-lock");
        let name = directory.join(NAME);
        let first = take(&directory).unwrap();
        assert_eq!(name.metadata().unwrap().mode() & 0o777, 0o600);
        let said = take(&directory).unwrap_err();
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
        for (user, mode) in [(65534, 0o600), (geteuid().as_raw(), 0o644)] {
            let file = File::create(&name).unwrap();
            file.set_permissions(Permissions::from_mode(mode)).unwrap();
            chown(&name, Some(user), None).unwrap();
            let said = take(&directory).unwrap_err().to_string();
            assert!(said.ends_with(&format!("of user {user} with mode {mode:o}")), "{said}");
            fs::remove_file(&name).unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", &name).unwrap();
        assert!(take(&directory).is_err());
    }
}
