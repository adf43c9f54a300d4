//! The fate of dumped tasks.

/// The fate of the tasks after a successful dump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AfterDump {
    /// CRIU kills the tasks.
    #[default]
    Kill,
    /// The tasks run on. Later changes to files and connections are not in the checkpoint.
    LeaveRunning,
    /// The tasks stay stopped.
    LeaveStopped,
}
