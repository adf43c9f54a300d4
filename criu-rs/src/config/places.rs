//! The configuration files that a criu reads when it starts.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::error::ConfigError;
use super::setting::Setting;

/// The configuration files that a criu reads when it starts, in their order. Later ones win.
///
/// CRIU reads `/etc/criu/default.conf`, `$HOME/.criu/default.conf`, the file that the variable
/// `CRIU_CONFIG_FILE` names, and the file of `--config`. With `--config` or `--no-default-config`
/// it leaves out the first two. The options of a command line or a request follow. Last comes the
/// file that a request names itself (`config_file`).
///
/// A `criu service` forgets its files before it serves a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigFiles {
    /// The default files and that of the variable. A file that does not exist has no settings.
    pub paths: Vec<PathBuf>,
    /// The file of `--config`, which comes last.
    pub argument: Option<PathBuf>,
}

impl ConfigFiles {
    /// Returns the files of a criu that this process starts with these arguments.
    pub fn of_arguments(arguments: &[impl AsRef<OsStr>]) -> Self {
        Self::of(arguments, |name| std::env::var_os(name))
    }

    /// Returns the files of a criu with these arguments, and variables that a function tells.
    pub(crate) fn of(
        arguments: &[impl AsRef<OsStr>],
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Self {
        let (mut default, mut argument) = (true, None);
        let mut words = arguments.iter().map(AsRef::as_ref);
        while let Some(word) = words.next() {
            // CRIU looks at every word, also at those that are values of other options.
            if word == "--no-default-config" {
                default = false;
            } else if word == "--config" {
                default = false;
                argument = words.clone().next().map(PathBuf::from);
            } else if let Some(path) = word.as_bytes().strip_prefix(b"--config=") {
                default = false;
                argument = Some(PathBuf::from(OsStr::from_bytes(path)));
            }
        }
        let mut paths = Vec::new();
        if default {
            paths.push(PathBuf::from(GLOBAL));
            paths.extend(variable("HOME").map(|mut home| {
                home.push("/.criu/default.conf");
                PathBuf::from(home)
            }));
        }
        paths.extend(variable("CRIU_CONFIG_FILE").map(PathBuf::from));
        Self { paths, argument }
    }

    /// Reads the settings in all files, in their order.
    ///
    /// # Errors
    /// See [`Setting::read`].
    pub fn settings(&self) -> Result<Vec<Setting>, ConfigError> {
        let mut settings = Vec::new();
        for path in self.paths.iter().chain(&self.argument) {
            settings.extend(Setting::read(path)?);
        }
        Ok(settings)
    }
}

/// The file for all users.
const GLOBAL: &str = "/etc/criu/default.conf";

#[cfg(test)]
mod tests {
    use super::*;

    fn files(arguments: &[&str], variables: &[(&str, &str)]) -> Vec<String> {
        let variable = |name: &str| {
            let mut found = variables.iter().filter(|(known, _)| *known == name);
            found.next().map(|(_, value)| OsString::from(value))
        };
        let files = ConfigFiles::of(arguments, variable);
        files.paths.iter().chain(&files.argument).map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn files_are_those_that_criu_reads() {
        let home = ("HOME", "/h");
        let named = ("CRIU_CONFIG_FILE", "/e");
        assert_eq!(files(&["swrk"], &[]), ["/etc/criu/default.conf"]);
        assert_eq!(
            files(&["swrk"], &[home, named]),
            ["/etc/criu/default.conf", "/h/.criu/default.conf", "/e"]
        );
        assert_eq!(files(&["--no-default-config", "swrk"], &[home, named]), ["/e"]);
        assert_eq!(files(&["--config", "/c", "swrk"], &[home]), ["/c"]);
        assert_eq!(files(&["--config=/c", "--config=/d"], &[home, named]), ["/e", "/d"]);
    }
}
