//! The guard of the file locks of a restore.

use std::os::fd::{AsFd, OwnedFd};

use criu_images::ImageSet;
use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;

use crate::drive::Guard;
use crate::error::Result;
use crate::hooks::Action;
use crate::host::{LockError, LockProblem, LockState};
use crate::sys::proc_link;
use crate::value::Pid;

/// A guard that compares the locks of restored tasks, before they run, with the images.
#[derive(Debug)]
pub(crate) struct LockGuard {
    saved: LockState,
}

impl LockGuard {
    /// Looks at the images. `None` if they hold no lock. `is_asked` says whether CRIU is told to
    /// take the locks again.
    ///
    /// # Errors
    /// [`Error::Lock`](crate::Error::Lock) if the images hold locks that CRIU is not told to take.
    pub(crate) fn before(images: Option<&OwnedFd>, is_asked: bool) -> Result<Option<Self>> {
        let Some(images) = images.filter(|images| has_locks(images)) else { return Ok(None) };
        // CRIU will say what is wrong with the images.
        let set = ImageSet::open(proc_link(images.as_fd()));
        let Ok(saved) = set.and_then(|set| LockState::of_images(&set)) else { return Ok(None) };
        if saved.locks().is_empty() {
            return Ok(None);
        }
        if !is_asked {
            let locks = saved.locks().to_vec();
            return Err(LockError { locks, problem: LockProblem::NotAsked }.into());
        }
        Ok(Some(Self { saved }))
    }
}

impl Guard for LockGuard {
    fn check(&mut self, action: Action, root: Option<Pid>) -> Result<()> {
        // CRIU maps files after it has taken the locks, and loses some with that.
        let (Action::PreResume, Some(root)) = (action, root) else { return Ok(()) };
        let locks = self.saved.lost(&self.saved.at_descriptors(root));
        if locks.is_empty() {
            return Ok(());
        }
        Err(LockError { locks, problem: LockProblem::NotRestored }.into())
    }
}

/// Returns true if the images have a file of locks. Most have none, and are not read then.
fn has_locks(images: &OwnedFd) -> bool {
    fstatat(images.as_fd(), "filelocks.img", AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
}
