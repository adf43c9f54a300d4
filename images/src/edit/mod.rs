//! Edits of images that keep every byte they do not have to change.
//!
//! An [`Edit`] is one change, made in all images that it concerns. [`edit`] makes the new images.
//! [`edit_directory`] also puts them in place of the old ones. [`rewrite`] makes changes that have
//! no [`Edit`].

mod apply;
mod directory;
mod lock;
mod marks;
mod rewrite;
mod rules;

use std::net::IpAddr;

use crate::bpf::Program;
pub use apply::edit;
pub use directory::{edit_directory, recover};
pub use marks::{Unmarked, unmarked};
pub use rewrite::{Change, Patch, Value, rewrite};

/// A change to a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "an edit changes nothing until `edit` or `edit_directory` carries it out"]
pub enum Edit {
    /// Moves everything below a path to another path: open files, programs, working and root
    /// directories, mapped files, unix sockets bound to a path, mount points, and files that
    /// inotify and fanotify watch. `/a` covers `/a` and `/a/b` but not `/ab`.
    ///
    /// At restore the files must be at the new path, with the size they had.
    Path {
        /// Old path, absolute.
        from: Vec<u8>,
        /// New path, absolute.
        to: Vec<u8>,
    },
    /// Gives another address to sockets with an address. Their connections to each other stay.
    /// Connections to other sockets cannot survive. Both addresses are IPv4, or both are IPv6.
    Address {
        /// Old address.
        from: IpAddr,
        /// New address.
        to: IpAddr,
    },
    /// Gives another port to sockets bound to a port. Their connections to each other stay.
    Port {
        /// Old port.
        from: u16,
        /// New port.
        to: u16,
    },
    /// Moves cgroups below a path to another path.
    Cgroup {
        /// Old path, from the hierarchy's root.
        from: Vec<u8>,
        /// New path, from the hierarchy's root.
        to: Vec<u8>,
    },
    /// Changes the SELinux or AppArmor label of threads, of sockets that they will create, and of
    /// existing sockets.
    Label {
        /// Label to change; `None` changes every label.
        from: Option<Vec<u8>>,
        /// New label.
        to: Vec<u8>,
    },
    /// Changes the source of mounts, such as `/dev/sda1`.
    MountSource {
        /// Old source.
        from: Vec<u8>,
        /// New source.
        to: Vec<u8>,
    },
    /// Changes the key of an external mount or namespace.
    ExternalKey {
        /// Old key.
        from: Vec<u8>,
        /// New key.
        to: Vec<u8>,
    },
    /// Removes the seccomp restrictions of all threads.
    DropSeccomp,
    /// Removes the seccomp filter with this index. The other filters of its threads stay.
    DropFilter(u32),
    /// Replaces the program of the seccomp filter with this index.
    ReplaceFilter(u32, Program),
    /// Marks pages for a lazy restore, in the tasks of which CRIU has marked [none](unmarked) by
    /// mistake. The marks are those that CRIU should have made: pages of mappings that
    /// [can be lazy](crate::memory::Vma::can_be_lazy), without pages that hold a stack pointer. A
    /// compressed run with such a page, or over several kinds of mappings, stays without a mark.
    ///
    /// Marks change nothing for a restore that is not lazy. Do not mark the images of a dump that
    /// serves its memory (`--lazy-pages`): a restore would ask that dump for the marked pages.
    MarkLazy,
}

/// An image that an edit has made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "an edited image is not yet in any directory"]
pub struct Edited {
    /// Name of the image in the set.
    pub name: String,
    /// New bytes of the image.
    pub bytes: Vec<u8>,
    /// Number of changed messages. A message that two edits change counts twice.
    pub changes: usize,
}
