//! The subject of an operation.

use crate::value::Pid;

/// The subject of an operation, as far as ending the operation depends on it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Subject {
    /// Live tasks, which must survive.
    Tasks {
        /// The root of the tree.
        root: Pid,
        /// `true` if a successful dump kills them.
        end: bool,
    },
    /// Tasks that are saved and are just being killed.
    Saved,
    /// Tasks of an unfinished restore; none of them may be left behind.
    Restored {
        /// The root, once CRIU has named it.
        root: Option<Pid>,
    },
    /// No tasks.
    None,
}
