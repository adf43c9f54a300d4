//! Security labels of processes: which labels a tree carries, and which of them a CRIU can save.
//!
//! A label confines. A task that is restored without its label is no longer confined, or is
//! confined by the label of another program. CRIU saves SELinux labels if it was built with
//! libselinux, which Debian's is not. It saves AppArmor labels if it sees
//! `/sys/kernel/security/apparmor`. Otherwise it dumps and restores without a word, and the tasks
//! get the label of the criu that restores them.
//!
//! [`Dump`](crate::Dump) and [`Restore`](crate::Restore) therefore check labels themselves. They
//! refuse:
//!
//! - before criu starts to dump, a tree with a label that this CRIU
//!   [cannot save](crate::Criu::label_support);
//! - at post-dump, while the tasks are still frozen, images that lack the label of a thread. The
//!   tasks run on, and no checkpoint is left;
//! - before a restore, a profile or context that this machine does not know, a CRIU that cannot
//!   set it, and a change of contexts that the machine's policy forbids;
//! - before a restore with another context, sockets that their tasks could not use with it. CRIU
//!   gives sockets with an address the context that they were saved with;
//! - at pre-resume, before the tasks run, a thread whose label differs from the label in the images
//!   or the one that [`lsm_profile`](crate::Restore::lsm_profile) asks for. No task is left.
//!
//! Each refusal is an [`Error::Label`](crate::Error::Label). `accept_label_loss` of the operation
//! switches all checks off.
//!
//! # Labels that count
//!
//! The checks cover `attr/current` of every thread that is not a zombie, and `attr/sockcreate`, the
//! label of sockets that the thread will create. A label set for the next execve(2), file or key
//! (`attr/exec`, `fscreate`, `keycreate`) counts too, and no CRIU saves it.
//!
//! AppArmor's `unconfined` does not count, and neither does a label that is criu's own. SELinux
//! labels every process, and an unsaved label becomes that of the restoring criu, so nothing
//! changes if that criu runs in the same domain.
//!
//! For a tree without labels that count, the check costs some microseconds a thread. It costs
//! nothing if no module labels processes.
//!
//! # Limits
//!
//! A service in another pid namespace has other process ids: labels are not read, and no check
//! is made. Images that only CRIU sees ([`Dir::opened_by_criu`](crate::Dir::opened_by_criu)) or
//! that are streamed are not compared; then only CRIU's own answer counts. A service of one
//! connection ([`Criu::connected`](crate::Criu::connected)) cannot be asked first, but its images
//! and restored tasks are compared all the same.

mod carried;
mod error;
mod label;
pub(crate) mod machine;
mod module;
pub(crate) mod policy;
mod support;

pub use carried::{Attribute, Carried};
pub use error::{LabelError, LabelProblem};
pub use label::Label;
pub(crate) use machine::Machine;
pub use machine::of_tree;
pub use module::SecurityModule;
pub use support::LabelSupport;
