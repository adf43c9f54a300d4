//! The program `criu-rs`: one word for each thing a person does with CRIU.
//!
//! The library under it is the crate `criu-rs`; this crate's own functions are for its program and
//! its short examples, and change with them.
//!
//! ```text
//! words           the table of words
//! program         words that take criu's options: `getopt`, `foreign`, clap, the `options`
//! dump  pre_dump  restore  check  preflight  page_server
//! tool            words that clap reads
//! container  inspect  crit  links  shell      `runtime_args`: options of runc and crun
//! drive           runs an operation: `signals`, `progress`; `parent` stays with a restored tree
//! output  fault   the outcome; `exit` codes, `hints`, and mistakes in `usage`
//! stdout          standard output whose lost text is an error; `stdout_log`, CRIU's log there
//! settings        options from CRIU's configuration files
//! images          sets of images as `crit` and `inspect` take them
//! ```

mod check;
mod config;
mod container;
mod crit;
mod drive;
mod dump;
mod exit;
mod fault;
mod fd;
mod foreign;
mod getopt;
mod hints;
mod images;
mod inspect;
mod links;
mod options;
mod output;
mod page_server;
mod parent;
mod pre_dump;
mod preflight;
mod program;
mod progress;
mod restore;
mod runtime_args;
mod settings;
mod shell;
mod shown;
mod signals;
mod stdout;
mod stdout_log;
mod tool;
mod usage;
mod word;
mod words;

pub use exit::{Codes, Exit};
pub use fault::Fault;
pub use options::criu_program;
pub use output::{Output, dump_stats, restore_stats};
pub use signals::Pause;
pub use words::criu_rs;

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Makes a directory that is missing, for its owner alone. The directory above it has to be there.
fn make_directory(option: &str, directory: &Path) -> Result<(), Fault> {
    let is_missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    if std::fs::metadata(directory).err().as_ref().is_some_and(is_missing) {
        let made = std::fs::DirBuilder::new().mode(0o700).create(directory);
        if let Err(error) = made.or_else(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Ok(()),
            _ => Err(error),
        }) {
            let show = directory.display();
            return Err(Fault::usage(format!("{option}: cannot make {show}: {error}")));
        }
    }
    check_directory(option, directory)
}

/// Returns a directory, or the one above it if it is missing: there it would be made.
fn images_or_above(directory: &Path) -> &Path {
    match directory.parent() {
        Some(above) if !directory.exists() && above.as_os_str().is_empty() => Path::new("."),
        Some(above) if !directory.exists() => above,
        _ => directory,
    }
}

/// Refuses an option whose value is not a directory.
fn check_directory(option: &str, directory: &Path) -> Result<(), Fault> {
    let show = directory.display();
    match std::fs::metadata(directory) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(Fault::usage(format!("{option}: {show} is not a directory"))),
        Err(error) => Err(Fault::usage(format!("{option}: cannot open {show}: {error}"))),
    }
}
