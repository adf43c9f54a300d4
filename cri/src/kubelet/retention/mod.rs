//! Old checkpoints in the directory of a node, where kubelets have them written and never deleted.
//!
//! ```no_run
//! use std::time::SystemTime;
//!
//! use criu_cri::kubelet::retention::{Directory, Plan, Rules, Scope};
//!
//! let directory = Directory::open("/var/lib/kubelet/checkpoints")?;
//! let rules = Rules::default().keep(Scope::Container, 10).max_total(Scope::All, 100 << 30);
//! let plan = Plan::new(directory.read()?, &rules, SystemTime::now());
//! println!("{} bytes can go", plan.bytes());
//! let removed = directory.remove(&plan);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! An archive belongs to the container that its metadata names. The name of the file says nothing:
//! names of pods and namespaces have dashes, and anybody can name a file. An archive that cannot be
//! read, or that is no checkpoint of a container in a pod, is never deleted. No link is followed.
//!
//! A file is left if it has changed lately, or if a process has it open: a runtime may be writing
//! it. Processes that this one cannot see in `/proc` do not count, such as those outside of a PID
//! namespace.
//!
//! A file `ARCHIVE.keep` beside an archive keeps it, whatever the rules say. The operator of the
//! checkpoint-restore project has the same mark. Archives that are kept so do not count for rules.

mod directory;
mod open;
mod plan;
mod rules;
mod stored;

pub use directory::{Directory, Removed};
pub use plan::{Plan, Reason, Row, Verdict};
pub use rules::{Rules, Scope, live_pods};
pub use stored::{Entry, Stored};

/// The directory in which kubelets have checkpoints written, unless they have another root.
pub const DIRECTORY: &str = "/var/lib/kubelet/checkpoints";

/// The directory in which kubelets have a directory for each pod of the node, by its identifier.
pub const PODS: &str = "/var/lib/kubelet/pods";
