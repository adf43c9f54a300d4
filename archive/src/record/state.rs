//! States of a checkpoint.

use super::words::words;

words! {
    /// State of a checkpoint.
    ///
    /// ```text
    ///              ┌─────────▶ failed ◀─────────┐
    /// capturing ───┤                            │
    ///              └▶ complete ⇄ restoring ─────┤
    ///                              ▲            ▼
    ///                              └─────── restored
    /// ```
    ///
    /// A checkpoint is restored as often as wanted. A restore that failed and left nothing behind
    /// leads back to `complete`. Who restores may only read the checkpoint, and so keeps the two
    /// states of a restore in a file of its own.
    State {
        /// The containers are being saved. A record in this state was left by a program that ended.
        Capturing = "capturing",
        /// All files are there.
        Complete = "complete",
        /// The files are of no use.
        Failed = "failed",
        /// Containers are being restored.
        Restoring = "restoring",
        /// The containers have been restored.
        Restored = "restored",
    }
}

impl State {
    /// Returns true if a checkpoint may pass from this state to that one at once. Unknown states
    /// are left by nobody, and reached by nobody.
    pub fn can_become(&self, next: &Self) -> bool {
        TRANSITIONS.iter().any(|(from, to)| from == self && to == next)
    }

    /// Returns true for a checkpoint that can be restored.
    pub fn is_usable(&self) -> bool {
        self.can_become(&Self::Restoring)
    }

    /// Passes to another state.
    ///
    /// # Errors
    /// [`WrongState`] if that state does not follow on this one, which stays then.
    pub fn advance(&mut self, next: Self) -> Result<(), WrongState> {
        if !self.can_become(&next) {
            return Err(WrongState { from: self.clone(), to: next });
        }
        *self = next;
        Ok(())
    }
}

/// The error for a state that does not follow on another one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a checkpoint that is `{from}` cannot become `{to}`")]
#[non_exhaustive]
pub struct WrongState {
    /// State of the checkpoint.
    pub from: State,
    /// State that was wanted.
    pub to: State,
}

/// All transitions.
const TRANSITIONS: &[(State, State)] = &[
    (State::Capturing, State::Complete),
    (State::Capturing, State::Failed),
    (State::Complete, State::Restoring),
    (State::Restoring, State::Complete),
    (State::Restoring, State::Failed),
    (State::Restoring, State::Restored),
    (State::Restored, State::Restoring),
];
