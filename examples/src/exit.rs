//! Exit codes.

use std::process::ExitCode;

/// The exit codes of all words. A `restore` that stays ends with the root's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The work is done.
    Done = 0,
    /// CRIU refused or failed, or the system did.
    Failed = 1,
    /// The command line makes no sense. Nothing was begun.
    Usage = 2,
    /// There is no CRIU, or it is too old.
    NoCriu = 3,
    /// A deadline or a signal stopped the work. What had been begun is undone.
    Stopped = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The exit codes, for `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit status:
  0  done
  1  CRIU refused or failed
  2  wrong usage; nothing was begun
  3  criu cannot be started or reached, or is too old
  4  stopped by a deadline, Ctrl-C or SIGTERM; what was begun is undone
";
