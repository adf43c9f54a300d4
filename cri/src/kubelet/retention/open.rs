//! Files that processes have open.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;

/// Returns device and inode of files with some names that other processes have open. Processes that
/// may not be looked into are left out.
pub(super) fn open_files(names: &BTreeSet<OsString>) -> BTreeSet<(u64, u64)> {
    let mut open = BTreeSet::new();
    let own = std::process::id().to_string();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = process.file_name();
        let is_other = pid != *own && pid.to_string_lossy().bytes().all(|b| b.is_ascii_digit());
        if !is_other {
            continue;
        }
        for descriptor in fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten() {
            let path = descriptor.path();
            // The directory may have another path in the process's mount namespace. Files of other
            // names are not looked at: to look at one may take for ever on a network that is gone.
            let Ok(target) = fs::read_link(&path) else { continue };
            if !target.file_name().is_some_and(|name| names.contains(name)) {
                continue;
            }
            if let Ok(found) = fs::metadata(&path) {
                open.insert((found.dev(), found.ino()));
            }
        }
    }
    open
}
