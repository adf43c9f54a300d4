//! Internal parsers for the fuzzer, available only with `--cfg fuzzing`.

use criu_images::Text;

use crate::config::Setting;
use crate::diagnosis::LogExcerpt;
use crate::labels::{Label, SecurityModule};
use crate::options::Common;

/// Finds the first error in a log.
pub fn log(bytes: &[u8]) -> Option<LogExcerpt> {
    crate::diagnosis::excerpt("log", bytes, None)
}

/// Reads the settings of a configuration file, and what they mean for a request. `None` if they
/// cannot be used.
pub fn settings(text: &[u8]) -> Option<Vec<Setting>> {
    let settings = Setting::parse("fuzz.conf", text).ok()?;
    let common = Common::new("/".into(), "x.log");
    common.configured(&settings, &settings).ok()?.into_owned().with_lists().ok()?;
    Some(settings)
}

/// Parses a row of mountinfo and returns it as text. `None` if it is not a row.
#[cfg(feature = "oci")]
pub fn mount(line: &[u8]) -> Option<String> {
    let mount = crate::host::MountInfo::read(line)?;
    assert!(!mount.has_option(b","));
    Some(format!("{mount:?}"))
}

/// Parses a row of `/proc/PID/cgroup` into its controllers and its path.
#[cfg(feature = "oci")]
pub fn cgroup(line: &[u8]) -> Option<(String, std::path::PathBuf)> {
    crate::oci::row(line)
}

/// Parses a label in the kernel's notation.
pub fn label(module: SecurityModule, said: &[u8]) -> Option<Label> {
    Label::read(module, said)
}

/// Converts bytes to text for a message, and checks that control characters are escaped.
pub fn printable(bytes: &[u8]) -> String {
    let said = crate::value::printable(bytes);
    debug_assert!(!said.contains('\x1b') && !Text(bytes).to_string().contains('\x1b'));
    said
}
