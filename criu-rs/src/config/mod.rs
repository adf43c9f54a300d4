//! CRIU's configuration files, read as CRIU reads them.
//!
//! [`ConfigFiles`] says which files a criu reads, and a [`Setting`] is an option in one of them.
//!
//! Every operation of this crate reads the files that its criu will read. A setting counts like an
//! option of the operation: a look ahead does not ask for it again, and logs, statistics and images
//! are looked for where the files send them. A setting that cannot be true for an operation of a
//! library is a [`ConfigError`], before anything is asked of CRIU:
//!
//! - `status-fd`, `ps-socket`, `inherit-fd` and `close`, which name descriptors of the criu
//!   process;
//! - `images-dir` in the file of a request, if it is another directory than that of the operation;
//! - `leave-running` and `leave-stopped`, if the operation asks for another end;
//! - `help`, `version` and `ms`, with which criu ends.
//!
//! `tree`, `restore-detached`, `exec-cmd` and `verbosity` have no effect on requests, nor has
//! `images-dir` in the files that criu reads when it starts.

mod error;
mod getopt;
mod line;
mod names;
mod places;
mod setting;

pub use error::ConfigError;
pub use places::ConfigFiles;
pub use setting::Setting;
