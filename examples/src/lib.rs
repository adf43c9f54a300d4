//! The programs a person runs: `criu-rs` with its words `dump`, `pre-dump`, `restore`, `check` and
//! `preflight`, the same as programs of their own, `crit`, `inspect`, `page-server`, and examples of using the libraries.
//!
//! ```text
//! words           which program
//! program         its command line, taken apart by `getopt` and checked by clap: the `options`
//! dump  pre_dump  restore  check  preflight
//! drive           runs an operation: `signals`, `progress`; `parent` stays with what was restored
//! output  fault   what it says at the end; `exit` codes, `hints`
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
mod shell;
mod signals;
mod tool;
mod usage;
mod words;

pub use exit::Exit;
pub use fault::Fault;
pub use options::criu_program;
pub use output::{Output, dump_stats, restore_stats};
pub use signals::Pause;
pub use words::criu_rs;

use std::path::Path;

/// Refuses what is no directory, in the name of an option.
fn check_directory(option: &str, directory: &Path) -> Result<(), Fault> {
    let show = directory.display();
    match std::fs::metadata(directory) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(Fault::usage(format!("{option}: {show} is no directory"))),
        Err(error) => Err(Fault::usage(format!("{option}: cannot open {show}: {error}"))),
    }
}
