//! Memory that a test takes.

use std::fs;

/// Runs a call. Returns its result, and by how many KiB the peak of this process's memory grew.
///
/// Other tests of the process count, too: a test runs [in its own](crate::in_own_process).
pub fn grown<T>(call: impl FnOnce() -> T) -> (T, u64) {
    // The peak begins again at what the process has now.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = peak();
    let result = call();
    (result, peak().saturating_sub(before))
}

/// The peak of this process's memory, in KiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
