//! CRIU's calls, and the dump that they belong to.

use std::ffi::OsStr;
use std::fs::File;
#[cfg(target_arch = "x86_64")]
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use crate::journal::VARIABLE;
use crate::session::{Calls, Session, Without};
use crate::sys::shared::{self, Mapped};

/// The dump that CRIU is making, if somebody wants holders.
static SESSION: Mutex<Option<Session>> = Mutex::new(None);

/// CRIU begins to dump, and no task is stopped yet. Without a journal the plugin does nothing.
/// Returns false if the dump must not go on.
pub(crate) fn begin(stage: i32, calls: &Calls) -> bool {
    let Some(mut session) = session() else { return true };
    *session = None;
    let Some(journal) = journal().filter(|_| stage == DUMP) else { return true };
    match Session::begin(journal, calls) {
        Ok(begun) => *session = Some(begun),
        Err(without) => return without == Without::Complete,
    }
    true
}

/// CRIU has opened a list of children.
///
/// # Errors
/// The holders that are kept of earlier dumps cannot be taken out of the list.
#[cfg(target_arch = "x86_64")]
pub(crate) fn children(parent: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> std::io::Result<()> {
    // While another call of this file runs, CRIU's only thread opens nothing.
    let session = session();
    let session = session.as_deref().and_then(Option::as_ref);
    session.map_or(Ok(()), |session| session.children(parent, fd))
}

/// Tells whether holders are to be taken out of the lists of children.
#[cfg(target_arch = "x86_64")]
pub(crate) fn hides() -> bool {
    session().as_deref().and_then(Option::as_ref).is_some_and(Session::hides)
}

/// CRIU has opened the list of a task's mappings, with their flags.
///
/// # Errors
/// CRIU has to read what the kernel says: the reason.
#[cfg(target_arch = "x86_64")]
pub(crate) fn flags(fd: BorrowedFd<'_>) -> std::io::Result<()> {
    let session = session();
    let session = session.as_deref().and_then(Option::as_ref);
    session.map_or(Ok(()), |session| session.flags(fd))
}

/// All tasks are stopped; this is one of them. Returns false if the dump must not go on.
pub(crate) fn task(pid: i32) -> bool {
    let mut session = session();
    session.as_deref_mut().and_then(Option::as_mut).is_none_or(|session| session.task(pid))
}

/// CRIU asks which pages a task has. Returns the number of regions, or `None` if the kernel is to
/// answer.
#[cfg(target_arch = "x86_64")]
pub(crate) fn scan(fd: i32, scan: &mut crate::sys::pagemap::Scan) -> Option<i32> {
    session()?.as_mut()?.scan(fd, scan)
}

/// CRIU has done what it could, and the tasks are still stopped.
pub(crate) fn end(is_done: bool) {
    if let Some(session) = session().as_deref_mut().and_then(Option::take) {
        session.end(is_done);
    }
}

/// The session, unless a call of this file is still running.
fn session() -> Option<MutexGuard<'static, Option<Session>>> {
    SESSION.try_lock().ok()
}

/// Maps the file that the environment names.
fn journal() -> Option<Mapped> {
    let path = Path::new(OsStr::from_bytes(shared::variable(VARIABLE)?.to_bytes()));
    let file = File::options().read(true).write(true).open(path).ok()?;
    Mapped::new(&file).ok()
}

/// The stage of a dump. Pre-dumps and restores are others.
const DUMP: i32 = 0;
