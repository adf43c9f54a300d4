//! What a program's end says.

use std::process::ExitCode;

/// The codes all these programs end with. `restore` that stays ends with the root's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It is done.
    Done = 0,
    /// CRIU refused or failed, or the system did.
    Failed = 1,
    /// The command line makes no sense here. Nothing was begun.
    Usage = 2,
    /// No CRIU, or one too old.
    NoCriu = 3,
    /// Stopped by a deadline or a signal. What had been begun is undone.
    Stopped = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// For `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit status:
  0  done
  1  CRIU refused or failed
  2  wrong usage; nothing was begun
  3  criu cannot be started or reached, or is too old
  4  stopped by a deadline, Ctrl-C or SIGTERM; what was begun is undone
";
