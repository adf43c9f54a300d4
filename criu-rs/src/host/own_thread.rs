//! Threads with namespaces or directories of their own.

use std::{io, panic, thread};

/// Runs `work` in a thread of its own, whose namespaces and directories are not changed back.
pub(crate) fn in_a_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let done = thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, work)?;
        io::Result::Ok(thread.join())
    })?;
    done.unwrap_or_else(|fault| panic::resume_unwind(fault))
}
