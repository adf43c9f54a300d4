//! Requirements of a restore: everything outside the images that the images name.
//!
//! The list is the source of [`view::Summary`](crate::view::Summary), which shows the options, and
//! of the preflight of `criu-rs`, which compares the list with a host. This crate does not look at
//! the host.
//!
//! ```
//! use criu_images::ImageSet;
//! use criu_images::requirements::Requirement;
//!
//! let set = ImageSet::open("tests/data/pipeline")?;
//! for requirement in set.checkpoint()?.requirements()? {
//!     if let Requirement::Option(option) = requirement {
//!         println!("{}: {}", option.option(), option.why());
//!     }
//! }
//! # Ok::<(), criu_images::Error>(())
//! ```

mod files;
mod namespaces;
mod network;
mod options;
mod tasks;

use crate::checkpoint::Checkpoint;
use crate::error::Result;

pub use files::{Descriptor, FifoEnd, Ghost, Holder, PlaceInTask, SavedPath, Watch};
pub use namespaces::{FileSystem, MountPoint, NewNamespace, Program};
pub use network::{BoundAddress, Interface, UnixName};
pub(crate) use options::options;
pub use options::{GivenFile, RestoreOption};
pub use tasks::{AddressSpace, HugePages, Id, IdUse, Rights, TaskLimit, Terminal};

/// A requirement of a restore: a thing outside the images that the restore takes or asks for.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Requirement {
    /// An option of `criu restore`.
    Option(RestoreOption),
    /// A free process id, or one that CRIU takes for a moment.
    Id(Id),
    /// Credentials that criu must be able to give to a task.
    Rights(Rights),
    /// An address space that the kernel must be able to make.
    AddressSpace(AddressSpace),
    /// Free huge pages.
    HugePages(HugePages),
    /// A resource limit that criu must be able to give to a task.
    Limit(TaskLimit),
    /// A terminal.
    Terminal(Terminal),
    /// A file at a path.
    Path(SavedPath),
    /// An unlinked file, for which CRIU makes a file beside its old name.
    Ghost(Ghost),
    /// A FIFO whose other end is outside the images.
    Fifo(FifoEnd),
    /// A watched file.
    Watch(Watch),
    /// An address that a socket is bound to.
    Address(BoundAddress),
    /// The name of a unix socket.
    UnixName(UnixName),
    /// A network interface.
    Interface(Interface),
    /// A namespace that the kernel must be able to make.
    Namespace(NewNamespace),
    /// A file system that the kernel must be able to mount.
    FileSystem(FileSystem),
    /// A mount point.
    MountPoint(MountPoint),
    /// The highest descriptor of a task.
    Descriptor(Descriptor),
    /// A program that CRIU calls.
    Program(Program),
}

impl Checkpoint<'_> {
    /// Lists everything outside the images that a restore requires, apart from free memory, the
    /// cgroups of [`Checkpoint::cgroups`] and the CPU.
    ///
    /// # Errors
    /// The errors of reading the images of tasks, files, memory maps and namespaces. Pages are not
    /// read.
    pub fn requirements(&self) -> Result<Vec<Requirement>> {
        let options = options::options(*self, None)?;
        let mut all: Vec<Requirement> = options.into_iter().map(Requirement::Option).collect();
        tasks::walk(*self, &mut all)?;
        files::walk(*self, &mut all)?;
        network::walk(*self, &mut all)?;
        namespaces::walk(*self, &mut all)?;
        Ok(all)
    }

    /// Lists the pipes of which the images have one end: a part of
    /// [`requirements`](Self::requirements) that takes little time.
    ///
    /// # Errors
    /// The errors of reading the open files.
    pub fn half_pipes(&self) -> Result<Vec<RestoreOption>> {
        options::half_pipes(*self)
    }
}
