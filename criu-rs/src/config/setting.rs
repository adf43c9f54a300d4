//! The settings in one file.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::getopt::{self, Word};
use super::line;
use crate::bounds;

/// An option in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Setting {
    /// The file.
    pub file: PathBuf,
    /// The number of the line, from 1.
    pub line: usize,
    /// The option's full name without dashes, with `no-` in front of a switch that is undone.
    pub name: String,
    /// The value, if there is one.
    pub value: Option<OsString>,
}

impl Setting {
    /// Reads the settings in a file, in their order. A file that does not exist or cannot be opened
    /// has no settings, as for CRIU.
    ///
    /// Names are completed. Text behind an option that takes no value is left out, as CRIU does:
    /// `manage-cgroups full` has no value, `manage-cgroups=full` has one.
    ///
    /// # Errors
    /// CRIU refuses a line; the file is larger than [`CRIU_CONFIG`](crate::bounds::CRIU_CONFIG), or
    /// is a pipe or a socket, which only one of CRIU and this process could read.
    ///
    /// ```
    /// use criu_rs::config::Setting;
    ///
    /// let path = std::env::temp_dir().join(format!("criu-rs-doc-{}.conf", std::process::id()));
    /// std::fs::write(&path, "tcp-close\nghost-limit 4M # enough\n")?;
    /// let settings = Setting::read(&path)?;
    /// assert_eq!(settings[1].name, "ghost-limit");
    /// assert_eq!(settings[1].value.as_deref(), Some("4M".as_ref()));
    /// assert_eq!(settings[1].line, 2);
    /// # std::fs::remove_file(&path)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read(path: impl AsRef<Path>) -> Result<Vec<Self>, ConfigError> {
        let path = path.as_ref();
        let mut open = std::fs::OpenOptions::new();
        let Ok(file) = open.read(true).custom_flags(libc::O_NONBLOCK).open(path) else {
            return Ok(Vec::new());
        };
        let kind = file.metadata().map(|meta| meta.file_type());
        if kind.is_ok_and(|kind| kind.is_fifo() || kind.is_socket()) {
            let reason = "a pipe can be read once, and both CRIU and its caller read the file";
            return Err(whole(path, reason.into()));
        }
        Self::read_from(path, file)
    }

    /// Reads the settings in an open file, which may be a pipe. `path` is its name for messages.
    ///
    /// # Errors
    /// CRIU refuses a line, or the file is too large.
    pub fn read_from(path: impl AsRef<Path>, file: File) -> Result<Vec<Self>, ConfigError> {
        let path = path.as_ref();
        let limit = bounds::CRIU_CONFIG.get();
        let mut text = Vec::new();
        // A directory cannot be read, and has no settings for CRIU.
        if file.take(limit.saturating_add(1)).read_to_end(&mut text).is_err() {
            text.clear();
        }
        if text.len() > bounds::length(&bounds::CRIU_CONFIG) {
            let reason = format!("the file has more than {limit} bytes");
            return Err(whole(path, reason));
        }
        Self::parse(path, &text)
    }

    /// Reads the settings in the text of a file.
    ///
    /// # Errors
    /// CRIU refuses a line.
    pub fn parse(path: impl AsRef<Path>, text: &[u8]) -> Result<Vec<Self>, ConfigError> {
        let path = path.as_ref();
        let refused = |line: usize, reason: String| ConfigError {
            file: path.to_owned(),
            line: Some(line),
            option: None,
            reason,
        };
        let mut words: Vec<Word> = Vec::new();
        for (number, line) in (1..).zip(text.split_inclusive(|byte| *byte == b'\n')) {
            let cut = line::words(line).map_err(|reason| {
                refused(number, format!("CRIU does not accept the line: {reason}"))
            })?;
            if let Some((name, value)) = cut {
                words.push((number, name));
                words.extend(value.map(|value| (number, value)));
            }
        }
        let given = getopt::read(&words).map_err(|(line, reason)| refused(line, reason))?;
        let setting = |(line, name, value)| Self { file: path.to_owned(), line, name, value };
        Ok(given.into_iter().map(setting).collect())
    }

    /// Says whether CRIU 4.3 has the option.
    pub fn is_known(&self) -> bool {
        getopt::is_known(&self.name)
    }

    /// Returns the setting as an argument of a command line: `--name` or `--name=value`.
    pub fn argument(&self) -> OsString {
        let mut argument = OsString::from(format!("--{}", self.name));
        if let Some(value) = &self.value {
            argument.push("=");
            argument.push(value);
        }
        argument
    }

    /// Returns the error that this setting cannot be used.
    pub fn refused(&self, reason: impl Into<String>) -> ConfigError {
        ConfigError {
            file: self.file.clone(),
            line: Some(self.line),
            option: Some(self.name.clone()),
            reason: reason.into(),
        }
    }

    /// Returns the name of a switch, and whether it is switched on.
    pub(crate) fn switch(&self) -> (&str, bool) {
        match self.name.strip_prefix("no-") {
            Some(name) if self.name != "no-default-config" => (name, false),
            _ => (&self.name, true),
        }
    }

    pub(crate) fn value(&self) -> &OsStr {
        self.value.as_deref().unwrap_or_default()
    }
}

fn whole(path: &Path, reason: String) -> ConfigError {
    ConfigError { file: path.to_owned(), line: None, option: None, reason }
}
