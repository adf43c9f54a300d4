//! What an operation works on.

use crate::value::Pid;

/// What an operation works on, as far as ending it has to know.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Subject {
    /// Live tasks, which must survive.
    Tasks {
        /// Their root.
        root: Pid,
        /// Whether they are killed in the end.
        end: bool,
    },
    /// Tasks that are saved, and just being killed.
    Saved,
    /// Tasks in the making, of which none may be left.
    Restored {
        /// The root, once CRIU has named it.
        root: Option<Pid>,
        /// The root's id in its own pid namespace, as the images have it.
        image_root: Option<Pid>,
    },
    /// Nothing.
    None,
}
