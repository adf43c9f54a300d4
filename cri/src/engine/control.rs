//! The caller's part in a checkpoint or a restore: its end, and its moments.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use criu_rs::{Cancel, HookResult};

use super::error::EngineError;

/// Limits of an operation, and the caller's methods at its moments.
#[derive(Clone, Copy)]
pub struct Control<'a> {
    /// The time at which the operation is to be over. An operation that is not is undone.
    pub deadline: Option<Instant>,
    /// A handle that ends the operation from another thread.
    pub cancel: Option<&'a Cancel>,
    /// The caller's methods.
    pub moments: &'a dyn Moments,
    /// The state of the containers after a checkpoint.
    pub after: After,
}

/// The state of containers after a checkpoint that succeeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum After {
    /// The containers run on.
    #[default]
    Resume,
    /// The containers are ended.
    Stop,
}

/// The caller's methods at the moments of an operation. Each is called once unless it says
/// otherwise, in the thread that has called the engine.
pub trait Moments: Send + Sync {
    /// Called before anything is frozen, with the directories of the cgroups that will be frozen. A
    /// caller that writes them down can thaw them if this process dies. An engine that stops
    /// containers in another way passes none.
    ///
    /// # Errors
    /// An error refuses the checkpoint.
    fn freezing(&self, cgroups: &[PathBuf]) -> HookResult {
        let _ = cgroups;
        Ok(())
    }

    /// Called when all containers are frozen and none is saved yet.
    ///
    /// # Errors
    /// An error refuses the checkpoint, and the containers run on.
    fn frozen(&self) -> HookResult {
        Ok(())
    }

    /// Called when all containers are saved and none runs on yet: the time to save what lies
    /// outside of the checkpoint, such as files. An engine that cannot wait there calls it later,
    /// and says so in its documentation.
    ///
    /// # Errors
    /// An error refuses the checkpoint, and the containers run on.
    fn saved(&self) -> HookResult {
        Ok(())
    }

    /// Called again and again while all containers run on and their memory is still being read,
    /// with the bytes that are saved and the bytes of all. Only an instant checkpoint calls it.
    /// [`Control::cancel`] ends the reading: no file of the checkpoint is left then.
    fn reading(&self, done: u64, all: u64) {
        let _ = (done, all);
    }

    /// Called when all containers are restored and none runs yet.
    ///
    /// # Errors
    /// An error refuses the restore, and no process is left.
    fn restored(&self) -> HookResult {
        Ok(())
    }
}

/// No methods.
impl Moments for () {}

impl Default for Control<'_> {
    /// No limits, no methods; containers run on.
    fn default() -> Self {
        Self { deadline: None, cancel: None, moments: &(), after: After::default() }
    }
}

impl Control<'_> {
    /// Returns the time that is left, or `None` without a deadline.
    ///
    /// # Errors
    /// [`EngineError::Deadline`] if the deadline has passed, [`EngineError::Cancelled`] if the
    /// operation is cancelled.
    pub(crate) fn left(&self) -> Result<Option<Duration>, EngineError> {
        if self.cancel.is_some_and(Cancel::is_cancelled) {
            return Err(EngineError::Cancelled);
        }
        let Some(deadline) = self.deadline else { return Ok(None) };
        match deadline.checked_duration_since(Instant::now()) {
            Some(left) if !left.is_zero() => Ok(Some(left)),
            _ => Err(EngineError::Deadline),
        }
    }
}

impl fmt::Debug for Control<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("deadline", &self.deadline)
            .field("cancel", &self.cancel)
            .field("after", &self.after)
            .finish_non_exhaustive()
    }
}
