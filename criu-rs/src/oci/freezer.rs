//! The choice of the cgroup that stops a container.

use std::path::PathBuf;

/// The cgroup that stops a container's tasks during a dump, all at once.
///
/// A task inside vfork(2), as shells often are, cannot be stopped while the freezer holds its
/// child. Such a dump fails after a time limit, and
/// [`ContainerDump::run`](super::ContainerDump::run) then repeats it without the freezer.
/// [`Freezer::Off`] spares a container that starts many programs the first try.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Freezer {
    /// The container's own cgroup, if it has a freezer:
    /// [`Cgroups::freezer`](super::Cgroups::freezer).
    #[default]
    Container,
    /// The cgroup in this directory, of version 2 or of the freezer of version 1. It has to hold
    /// every task of the container and no other.
    At(PathBuf),
    /// No cgroup: CRIU stops the tasks one by one.
    Off,
}
