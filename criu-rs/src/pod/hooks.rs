//! The caller's part in a pod's dump or restore.

use crate::hooks::HookResult;

/// What the caller does at a pod's common moments, in the calling thread.
pub trait PodHooks {
    /// All containers are frozen, and none is saved.
    ///
    /// # Errors
    /// Refuse: all run on.
    fn frozen(&mut self) -> HookResult {
        Ok(())
    }

    /// All containers are saved, and still frozen: the time for what belongs to the checkpoint and lies outside
    /// of it, such as files.
    ///
    /// # Errors
    /// Refuse: all run on, and their images are removed.
    fn saved(&mut self) -> HookResult {
        Ok(())
    }

    /// All containers are restored, and none runs yet.
    ///
    /// # Errors
    /// Refuse: none is left.
    fn restored(&mut self) -> HookResult {
        Ok(())
    }
}

/// Nothing to do.
impl PodHooks for () {}
