//! Internal parsers for the fuzzer, available only with `--cfg fuzzing`.

use std::os::fd::OwnedFd;

use criu_images::Text;

use crate::config::Setting;
use crate::diagnosis::LogExcerpt;
use crate::labels::{Label, SecurityModule};
#[cfg(feature = "lazy")]
use crate::lazy::{Handover, HandoverError, Step};
use crate::options::Common;
use crate::sys::proc::{Doing, Stat};
use crate::value::CopyNotice;

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

/// Reads a text as the texts of `/proc` about a process. Checks that the start of a text says the
/// same as the text, or nothing.
pub fn process(text: &[u8]) {
    let stat = Stat::parse(text);
    let doing = Doing::parse(text);
    if let Some(Doing::Waits(call)) = doing {
        assert!(call.number >= 0, "{call:?}");
    }
    let shorter = text.split_last().map_or(text, |(_, rest)| rest);
    let (less, known) = (Stat::parse(shorter), stat.map(|stat| (stat.state, stat.parent)));
    if let (Some(less), Some(known)) = (less, known) {
        assert_eq!((less.state, less.parent), known);
    }
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

/// Reads the file beside images that says how copies learn of their identity. Checks that a notice
/// is written as the same.
///
/// # Errors
/// Returns the reason.
pub fn copy_notice(text: &[u8]) -> Result<CopyNotice, String> {
    let notice = CopyNotice::parse(text)?;
    assert_eq!(CopyNotice::parse(&notice.to_bytes()).as_ref(), Ok(&notice));
    Ok(notice)
}

/// Reads the message of Firecracker with the regions of a virtual machine's memory. Returns their
/// number.
///
/// # Errors
/// Returns the reason.
#[cfg(feature = "firecracker")]
pub fn guest(text: &[u8]) -> Result<usize, String> {
    crate::lazy::guest(text).map_err(|error| error.to_string())
}

/// Takes the messages of a restore that hands over the tasks 1 and 2, and the zombie 3. Returns
/// true if the restore was complete, and no message was wrong.
#[cfg(feature = "lazy")]
pub fn handover(messages: impl Iterator<Item = (Vec<u8>, Vec<OwnedFd>)>) -> bool {
    let mut handover = Handover::new([1, 2], [3]);
    let (mut tasks, mut zombies) = (Vec::new(), 0);
    for (bytes, fds) in messages {
        let taken = handover.receive(&bytes, fds, |step| {
            match step {
                Step::Task { pid, .. } => tasks.push(pid),
                Step::Zombie => zombies += 1,
                Step::Complete => {
                    tasks.sort_unstable();
                    assert_eq!((&tasks[..], zombies), (&[1, 2][..], 1), "an early end");
                }
            }
            Ok::<(), HandoverError>(())
        });
        if let Err(error) = taken {
            assert!(!error.to_string().contains(Text::hides), "not fit for a terminal");
            return false;
        }
    }
    assert_eq!(handover.end().is_ok(), handover.is_complete(), "an end of both kinds");
    handover.is_complete()
}
