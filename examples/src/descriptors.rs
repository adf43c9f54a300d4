//! The descriptors that programs get which this program starts or becomes.
//!
//! A caller may have left descriptors open by mistake. They go no further than to this program,
//! unless an option names them.

use std::ffi::{OsStr, OsString};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;

use criu_rs::config::{ConfigFiles, Setting};
use criu_rs::hold_back_descriptors;

use crate::fault::Fault;
use crate::fd;

/// The numbers of the descriptors that the caller has left open.
static INHERITED: OnceLock<Vec<RawFd>> = OnceLock::new();

/// Keeps the caller's descriptors from programs that are started from here on. This is the first
/// act of the program, before there are threads.
pub(crate) fn hold_back() {
    // Without /proc there is no criu either, but the help can be printed.
    let inherited = hold_back_descriptors(&[]).unwrap_or_default();
    let _ = INHERITED.set(inherited);
}

/// Lets the program that this one becomes have the caller's descriptors, as a command after
/// `--exec-cmd` has with criu.
///
/// # Errors
/// If a descriptor of the caller is no longer open.
pub(crate) fn give_back() -> Result<(), Fault> {
    name(INHERITED.get().map_or(&[], Vec::as_slice))
}

/// Lets a criu that this program becomes have the descriptors that the arguments name, and
/// configuration files that it reads. All descriptors of the caller are for `criu swrk`, whose
/// requests name them.
///
/// # Errors
/// If a descriptor is named and not open.
pub(crate) fn hand_on(args: &[OsString]) -> Result<(), Fault> {
    if args.iter().any(|word| word == "swrk") {
        return give_back();
    }
    let mut named = named(args);
    let ConfigFiles { mut paths, argument, .. } = ConfigFiles::of_arguments(args);
    // A pipe can be read once only.
    paths.extend(argument.filter(|path| path.is_file()));
    for path in paths {
        // CRIU itself refuses a file that makes no sense.
        let settings = Setting::read(&path).unwrap_or_default();
        let words: Vec<OsString> = settings.iter().map(Setting::argument).collect();
        named.extend(self::named(&words));
    }
    // CRIU itself tells of a descriptor that is not open.
    named.retain(|number| is_of_caller(*number));
    name(&named)
}

/// Returns true for the number of a descriptor that the caller has left open.
pub(crate) fn is_of_caller(number: RawFd) -> bool {
    INHERITED.get().is_some_and(|known| known.contains(&number))
}

/// Lets programs that are started from here on have these descriptors.
///
/// # Errors
/// If one is not open.
pub(crate) fn name(numbers: &[RawFd]) -> Result<(), Fault> {
    let named = hold_back_descriptors(numbers);
    named.map(drop).map_err(|error| Fault::system("hand descriptors on", error))
}

/// The descriptors that criu's arguments name: `--status-fd 3`, `--ps-socket=3`, `fd[3]:KEY`,
/// `-o /dev/fd/3`, `-D /proc/self/fd/3/images`.
fn named(args: &[OsString]) -> Vec<RawFd> {
    let mut found = Vec::new();
    for (place, arg) in args.iter().enumerate() {
        let (option, value) = match arg.to_str().and_then(|arg| arg.split_once('=')) {
            Some((option, value)) => (option, Some(value)),
            None => {
                let next = args.get(place + 1).and_then(|next| next.to_str());
                (arg.to_str().unwrap_or_default(), next)
            }
        };
        // CRIU takes the beginning of a long option for the option.
        let begins = |name: &str| option.len() > 2 && name.starts_with(option);
        if begins("--status-fd") || begins("--ps-socket") {
            found.extend(value.and_then(|value| value.trim().parse::<RawFd>().ok()));
        }
        found.extend(inherited(arg));
        found.extend(fd::in_text(&arg.to_string_lossy()));
    }
    found
}

/// The number in `fd[NUMBER]`, the beginning of a value of `--inherit-fd`.
fn inherited(arg: &OsStr) -> Option<RawFd> {
    let text = String::from_utf8_lossy(arg.as_bytes());
    let (_, rest) = text.split_once("fd[")?;
    rest.split_once(']')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_named_in_all_forms_that_criu_takes() {
        let of = |words: &[&str]| named(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(of(&["page-server", "--status-fd", "7", "--port", "27"]), [7]);
        assert_eq!(of(&["page-server", "--ps-socket=8", "--status=9"]), [8, 9]);
        assert_eq!(of(&["restore", "--inherit-fd", "fd[5]:pipe:[6]"]), [5]);
        assert_eq!(of(&["restore", "--inherit-fd=fd[5]:/a b"]), [5]);
        assert_eq!(of(&["service", "--address", "4", "--status-fd"]), [0; 0]);
        assert_eq!(of(&["lazy-pages", "-o", "/dev/fd/5", "-D", "/proc/self/fd/7/img"]), [5, 7]);
        assert_eq!(of(&["lazy-pages", "-o/dev/fd/5", "--config=/dev/fd/63"]), [5, 63]);
    }
}
