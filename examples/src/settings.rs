//! Options from CRIU's configuration files. They count as if they stood first on the command line.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use criu_rs::config::{ConfigError, ConfigFiles, Setting};

use crate::fault::Fault;
use crate::foreign;
use crate::getopt::{Options, name};
use crate::word::Table;

/// Returns the options that the configuration files of a command line set, written as clap reads
/// them.
///
/// `known` makes the options that the word accepts. Those that it does not have itself, which are
/// `own`, are checked and left out: the files are the same for all words.
///
/// # Errors
/// A file or one of its settings makes no sense; the message names the line.
pub(crate) fn options(
    args: &[OsString],
    known: impl FnOnce() -> Options,
    own: &Options,
    table: &Table,
) -> Result<Vec<OsString>, Fault> {
    let mut options = Vec::new();
    let settings = settings(args)?;
    if settings.is_empty() {
        return Ok(options);
    }
    let known = known();
    for setting in settings {
        // CRIU does not look for further files.
        if matches!(setting.name.as_str(), "config" | "no-default-config") {
            continue;
        }
        if !setting.is_known() {
            return Err(refused(&setting.refused("CRIU has no such option")));
        }
        let line = known.read(&[setting.argument()]);
        let line = line.map_err(|unclear| refused(&setting.refused(unclear.to_string())))?;
        foreign::check(table, "", &line.options)
            .map_err(|fault| refused(&setting.refused(fault.to_string())))?;
        options.extend(line.options.into_iter().filter(|option| own.has(name(option))));
    }
    Ok(options)
}

/// Refuses a `--config` that cannot be read a second time, by another program.
pub(crate) fn refuse_pipe(args: &[OsString]) -> Result<(), Fault> {
    let is_pipe = |path: &PathBuf| path.metadata().is_ok_and(|meta| meta.file_type().is_fifo());
    match ConfigFiles::of_arguments(args).argument.filter(is_pipe) {
        Some(path) => Err(Fault::usage(format!(
            "--config: {} is a pipe, and is read a second time here: name a file",
            path.display()
        ))),
        None => Ok(()),
    }
}

/// Reads the settings of all files.
fn settings(args: &[OsString]) -> Result<Vec<Setting>, Fault> {
    let ConfigFiles { paths, argument, .. } = ConfigFiles::of_arguments(args);
    let read = paths.iter().map(Setting::read);
    let named = argument.as_deref().map(named).transpose()?;
    let mut settings = Vec::new();
    for read in read.chain(named) {
        settings.extend(read.map_err(|error| refused(&error))?);
    }
    Ok(settings)
}

/// Reads the file of `--config`, which may be a pipe, because criu itself does not read it. CRIU
/// treats a file that it cannot read as empty.
fn named(path: &Path) -> Result<Result<Vec<Setting>, ConfigError>, Fault> {
    let file = File::open(path).map_err(|error| {
        Fault::usage(format!("--config: cannot read {}: {error}", path.display()))
    })?;
    Ok(Setting::read_from(path, file))
}

fn refused(error: &ConfigError) -> Fault {
    Fault::usage(error.to_string())
}
