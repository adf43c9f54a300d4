//! CRIU's log of a container that an engine restores.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use criu_rs::Failure;
use nix::fcntl::OFlag;

/// CRIU's log of a container that is being started.
///
/// The engine removes the log after a failure. So a thread opens it as soon as it is there, and
/// ends with this value at the latest.
#[derive(Debug)]
pub struct RestoreLog {
    /// Tells the thread that the start is over when it is dropped.
    over: Sender<()>,
    thread: JoinHandle<Option<File>>,
}

impl RestoreLog {
    /// Begins to look for the log of a start that has not begun. Returns `None` if no thread can be
    /// had: the start goes on without its cause.
    pub(super) fn watch(path: PathBuf) -> Option<Self> {
        let (over, is_over) = mpsc::channel();
        let look = move || loop {
            if let Some(file) = open(&path) {
                return Some(file);
            }
            if !matches!(is_over.recv_timeout(PAUSE), Err(RecvTimeoutError::Timeout)) {
                return open(&path);
            }
        };
        let thread = thread::Builder::new().spawn(look).ok()?;
        Some(Self { over, thread })
    }

    /// Returns the reason for which CRIU did not restore the container: the cause, if it is a known
    /// one, and the line of the log. `None` if there is no log, or no error in it. Blocks for a
    /// moment.
    pub fn cause(self) -> Option<String> {
        drop(self.over);
        let failure = Failure::of_log("restore", "restore.log", self.thread.join().ok()??);
        let said = &failure.excerpt()?.error;
        // The hints of causes are for users of the library.
        Some(match (failure.cause, &failure.seen) {
            (Some(cause), Some(seen)) => format!("{cause} ({seen}); criu said: {said}"),
            (Some(cause), None) => format!("{cause}; criu said: {said}"),
            (None, _) => format!("criu said: {said}"),
        })
    }
}

fn open(path: &Path) -> Option<File> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    file.metadata().is_ok_and(|found| found.is_file()).then_some(file)
}

/// Time between two looks. A restore takes 50 ms or more.
const PAUSE: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use std::fs;

    use criu_lab::scratch;

    use super::*;

    #[test]
    fn a_log_that_is_removed_tells_the_cause() {
        let path = scratch("restore-log").join("restore.log");
        let log = RestoreLog::watch(path.clone()).expect("a thread");
        let line = "(00.114658)      1: Error (criu/files-reg.c:2175): File payload has bad size 6 \
                    (expect 5)";
        let new = path.with_extension("new");
        fs::write(&new, format!("(00.000001) Version: 4.3\n{line}\n")).expect("a log");
        fs::rename(new, &path).expect("a log");
        assert!(criu_lab::soon(|| log.thread.is_finished()));
        fs::remove_file(&path).expect("a log");
        let cause = log.cause().expect("a cause");
        assert_eq!(
            cause,
            format!("a file has changed since the dump (payload); criu said: {line}")
        );
        assert_eq!(RestoreLog::watch(path.clone()).expect("a thread").cause(), None);

        // No error, and no file.
        fs::write(&path, "(00.000001) Version: 4.3\n").expect("a log");
        assert_eq!(RestoreLog::watch(path.clone()).expect("a thread").cause(), None);
        fs::remove_file(&path).expect("a log");
        std::os::unix::fs::symlink("/etc/passwd", &path).expect("a link");
        assert_eq!(RestoreLog::watch(path).expect("a thread").cause(), None);
    }
}
