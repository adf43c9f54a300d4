//! The fate of dumped tasks.

/// The fate of the tasks after a successful dump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AfterDump {
    /// CRIU kills the tasks.
    #[default]
    Kill,
    /// The tasks run on. The checkpoint does not know of what they change afterwards in files or
    /// connections.
    LeaveRunning,
    /// The tasks stay stopped.
    LeaveStopped,
}
