//! The program that runs: its file, and the name of its processes.

use std::fs;

/// The file of the program that runs, also where the file at its path has been replaced.
pub(crate) const PROGRAM: &str = "/proc/self/exe";

/// Names this process after the program. A process that was started by [`PROGRAM`] is named `exe`.
pub(crate) fn take_name() {
    let _ = fs::write("/proc/self/comm", "criu-rs");
}
