//! Security labels of processes: what a tree carries, what a CRIU can save, and that nothing of it is lost.
//!
//! A label confines: a task that comes back without its own is confined no more, or by another's. CRIU saves
//! labels of SELinux where it was built with libselinux, which Debian's is not, and of AppArmor where it sees
//! `/sys/kernel/security/apparmor`. Elsewhere it dumps and restores without a word, and the tasks get the label
//! of the criu that restores them. So [`Dump`](crate::Dump) and [`Restore`](crate::Restore) look for
//! themselves:
//!
//! | when | what is refused |
//! | --- | --- |
//! | before a dump asks anything of criu | a tree with a label that this CRIU, [asked](crate::Criu::label_support), cannot save |
//! | at post-dump, the tasks still frozen | images without the label of a thread. The tasks run on, no checkpoint is left |
//! | before a restore | a profile or context that this machine does not know, a CRIU that cannot set it |
//! | at pre-resume, before the tasks run | a thread with another label than the images', or than [`lsm_profile`](crate::Restore::lsm_profile) asks for. Nothing is left of the tasks |
//!
//! Each is an [`Error::Label`](crate::Error::Label). `accept_label_loss` of either operation switches all of it off.
//!
//! # What counts
//!
//! `attr/current` of every thread but zombies', and `attr/sockcreate`, the label of sockets to come. A label
//! set for the next execve(2), file or key (`attr/exec`, `fscreate`, `keycreate`) counts too, and no CRIU saves it.
//! What does not count is AppArmor's `unconfined`, and a label that is criu's own: SELinux labels every process, and
//! what is not saved comes back with the label of the restoring criu, so that nothing changes where that one runs in
//! the same domain. A dump of a tree without a label that counts costs the reading of it, some microseconds a
//! thread, and nothing where no module labels processes.
//!
//! # What cannot be seen
//!
//! A service in another pid namespace numbers processes in its own way: their labels are not read, and neither
//! check is made. Images that only CRIU sees ([`Dir::opened_by_criu`](crate::Dir::opened_by_criu)) or that are
//! streamed are not compared; what CRIU says when it is asked is all there is then. A service of one connection
//! ([`Criu::connected`](crate::Criu::connected)) cannot be asked first: images and restored tasks are compared all
//! the same.

mod carried;
mod error;
mod label;
pub(crate) mod machine;
mod module;
mod support;

pub use carried::{Attribute, Carried};
pub use error::{LabelError, LabelProblem};
pub use label::Label;
pub(crate) use machine::Machine;
pub use machine::of_tree;
pub use module::SecurityModule;
pub use support::LabelSupport;
