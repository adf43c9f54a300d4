//! The caller's part in a pod's dump or restore.

use crate::hooks::HookResult;

/// The caller's actions at the common moments of a pod. They run in the calling thread.
pub trait PodHooks {
    /// Called when all containers are frozen and no container is saved yet.
    ///
    /// # Errors
    /// An error refuses the dump: all containers run on.
    fn frozen(&mut self) -> HookResult {
        Ok(())
    }

    /// Called when all containers are saved and still frozen: the time to save what belongs to the
    /// checkpoint and lies outside of it, such as files.
    ///
    /// # Errors
    /// An error refuses the dump: all containers run on, and their images are removed.
    fn saved(&mut self) -> HookResult {
        Ok(())
    }

    /// Called when all containers are restored and no container runs yet.
    ///
    /// # Errors
    /// An error refuses the restore: no process is left.
    fn restored(&mut self) -> HookResult {
        Ok(())
    }
}

/// No actions.
impl PodHooks for () {}
