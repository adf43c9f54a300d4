//! Parsers that nobody calls by themselves, for the fuzzer: there with `--cfg fuzzing` only.

use criu_images::Text;

use crate::diagnosis::LogExcerpt;
use crate::labels::{Label, SecurityModule};

/// The first error in a log.
pub fn log(bytes: &[u8]) -> Option<LogExcerpt> {
    crate::diagnosis::excerpt("log", bytes)
}

/// A row of mountinfo: whether it is one, and what it says.
#[cfg(feature = "oci")]
pub fn mount(line: &[u8]) -> Option<String> {
    let mount = crate::host::MountInfo::read(line)?;
    assert!(!mount.has_option(b","));
    Some(format!("{mount:?}"))
}

/// A row of `/proc/PID/cgroup`: its controllers and its path.
#[cfg(feature = "oci")]
pub fn cgroup(line: &[u8]) -> Option<(String, std::path::PathBuf)> {
    crate::oci::row(line)
}

/// What the kernel says of a label.
pub fn label(module: SecurityModule, said: &[u8]) -> Option<Label> {
    Label::read(module, said)
}

/// What a message to a person makes of bytes.
pub fn printable(bytes: &[u8]) -> String {
    let said = crate::value::printable(bytes);
    debug_assert!(!said.contains('\x1b') && !Text(bytes).to_string().contains('\x1b'));
    said
}
