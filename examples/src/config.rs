//! Options that CRIU's command line has and its RPC lacks, handed over as a configuration file.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::fault::Fault;

/// A configuration file in the making. CRIU reads it after the request, so its options win.
#[derive(Debug, Default)]
pub(crate) struct Config {
    text: Vec<u8>,
}

/// A configuration file that CRIU can read as long as this value lives.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    file: File,
}

impl Config {
    /// Adds a switch: the name, with `no-` before it to switch it off.
    pub(crate) fn switch(&mut self, name: &str, on: Option<bool>) {
        if let Some(on) = on {
            let no = if on { "" } else { "no-" };
            self.text.extend(format!("{no}{name}\n").as_bytes());
        }
    }

    /// Adds an option with a value.
    ///
    /// # Errors
    /// Refuses a value that CRIU's parser could not take: it has no way to write a line's end, and
    /// cuts a value at `#` even inside quotes.
    pub(crate) fn value(&mut self, name: &str, value: impl Into<OsString>) -> Result<(), Fault> {
        let value: OsString = value.into();
        let line = line(name, &value).ok_or_else(|| {
            let value = value.to_string_lossy();
            Fault::usage(format!(
                "--{name}: {value:?} cannot be handed to CRIU, which reads this option from a \
                 configuration file only: no '#', quote, backslash before a quote, or control \
                 character may be in it"
            ))
        })?;
        self.text.extend(line);
        Ok(())
    }

    /// Returns the file, unless it would be empty.
    pub(crate) fn into_file(self) -> Result<Option<ConfigFile>, Fault> {
        if self.text.is_empty() {
            return Ok(None);
        }
        let make = || {
            let mut file = File::from(memfd_create(c"criu.conf", MFdFlags::MFD_CLOEXEC)?);
            file.write_all(&self.text)?;
            Ok::<_, io::Error>(ConfigFile { file })
        };
        make().map(Some).map_err(|source| Fault::system("make a configuration file", source))
    }
}

impl ConfigFile {
    /// Returns the path at which criu finds the file.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }
}

/// Returns the line that CRIU reads as this value, or nothing if there is no such line.
fn line(name: &str, value: &OsStr) -> Option<Vec<u8>> {
    let bytes = value.as_bytes();
    let lost = |&byte: &u8| matches!(byte, b'#' | b'"') || byte.is_ascii_control();
    if bytes.is_empty() || bytes.iter().any(lost) || bytes.ends_with(b"\\") {
        return None;
    }
    if !bytes.contains(&b' ') {
        return Some([name.as_bytes(), b" ", bytes, b"\n"].concat());
    }
    // CRIU accepts blanks inside quotes only up to the column at which the value began, plus three
    // for the quotes. So the value begins at a column as large as its length.
    let padding = bytes.len().saturating_sub(name.len() + 2).max(1);
    Some([name.as_bytes(), &vec![b' '; padding], b"\"", bytes, b"\"\n"].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_criu_reads_them() {
        let mut config = Config::default();
        config.switch("log-pid", Some(true));
        config.switch("ghost-fiemap", Some(false));
        config.switch("allow-uprobes", None);
        config.value("libdir", "/ab").unwrap();
        config.value("libdir", "/a b/c d").unwrap();
        let text = String::from_utf8(config.text).unwrap();
        assert_eq!(text, "log-pid\nno-ghost-fiemap\nlibdir /ab\nlibdir \"/a b/c d\"\n");
        let mut config = Config::default();
        for bad in ["", "/a#b", "/a\nb", "/a\"b", "/a\\"] {
            let error = config.value("libdir", bad).unwrap_err().to_string();
            assert!(error.contains("--libdir"), "{error}");
        }
    }
}
