//! The fate of dumped tasks.

/// What becomes of the tasks once they are saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AfterDump {
    /// They are killed.
    #[default]
    Kill,
    /// They run on. What they change from then on, in files or connections, the checkpoint does not
    /// know of.
    LeaveRunning,
    /// They stay stopped.
    LeaveStopped,
}
