//! Exit codes.

use std::ffi::OsString;
use std::process::ExitCode;

/// The ends of all words. With `--exit-codes` each has a number of its own.
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

/// The numbers that a word ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codes {
    /// CRIU's numbers: 0 for success, 1 for everything else.
    Criu,
    /// A number for each [`Exit`].
    Own,
}

impl Codes {
    /// Returns the numbers that a command line asks for, which need not make sense otherwise.
    pub(crate) fn of(args: &[OsString]) -> Self {
        if asks(args, "--exit-codes", 5) { Self::Own } else { Self::Criu }
    }

    /// Returns the number of an end.
    pub(crate) fn number(self, exit: Exit) -> u8 {
        match self {
            Self::Criu => u8::from(exit != Exit::Done),
            Self::Own => exit as u8,
        }
    }
}

/// Says if a switch is among the arguments, which may be cut short to `least` letters with its
/// dashes. Asks before the arguments are understood: also mistakes in them end as the switch says.
pub(crate) fn asks(args: &[OsString], switch: &str, least: usize) -> bool {
    let fits = |arg: &str| arg.len() >= least && switch.starts_with(arg);
    args.iter().take_while(|arg| *arg != "--").filter_map(|arg| arg.to_str()).any(fits)
}

/// The exit codes of a word that takes the place of criu, for `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit status:
  0  done
  1  not done, as for criu

Exit status with --exit-codes:
  0  done
  1  CRIU refused or failed
  2  wrong usage; nothing was begun
  3  criu cannot be started or reached, or is too old
  4  stopped by a deadline, Ctrl-C or SIGTERM; what was begun is undone
";

/// The exit codes of a word that criu does not have, for `--help`.
pub(crate) const OWN_EXIT_CODES: &str = "\
Exit status:
  0  done
  1  CRIU refused or failed
  2  wrong usage; nothing was begun
  3  criu cannot be started or reached, or is too old
  4  stopped by a deadline, Ctrl-C or SIGTERM
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn criu_has_two_exit_codes() {
        let all = [Exit::Done, Exit::Failed, Exit::Usage, Exit::NoCriu, Exit::Stopped];
        assert_eq!(all.map(|exit| Codes::Criu.number(exit)), [0, 1, 1, 1, 1]);
        assert_eq!(all.map(|exit| Codes::Own.number(exit)), [0, 1, 2, 3, 4]);
        let codes = |args: &[&str]| Codes::of(&args.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(codes(&["restore", "--exit-codes"]), Codes::Own);
        assert_eq!(codes(&["restore", "--exit-c"]), Codes::Own);
        assert_eq!(codes(&["restore", "--ex"]), Codes::Criu);
        assert_eq!(codes(&["restore", "--exec-cmd", "--", "x", "--exit-codes"]), Codes::Criu);
    }
}
