//! A word of the program, and the table of all words as a word sees it.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use clap::{Arg, ArgAction, Command};

use crate::exit::Exit;
use crate::fault::Fault;
use crate::getopt::Options;
use crate::options::criu_program;

/// A word of the program: one row a word.
pub(crate) struct Word {
    /// The word itself, which is also the name of the link that stands for it.
    pub(crate) name: &'static str,
    /// The first sentence of its help.
    pub(crate) about: &'static str,
    pub(crate) kind: Kind,
    /// Makes its command line as it is read.
    pub(crate) read: fn() -> Command,
    /// Makes its command line as help, completions and manual pages show it.
    pub(crate) shown: fn() -> Command,
    /// Runs it under a name that messages begin with.
    pub(crate) run: fn(&str, Vec<OsString>, &Table) -> ExitCode,
}

/// A family of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Takes options in the way that `criu` takes them.
    Criu,
    /// Has subcommands or arguments of its own.
    Tool,
    /// Is about the program itself: no link stands for it.
    Own,
}

/// The table of all words.
pub(crate) struct Table {
    pub(crate) words: &'static [Word],
    /// Makes the whole command line. Its argument adds the words that the real criu does.
    pub(crate) command: fn(bool) -> Command,
}

impl Table {
    /// Returns the row of a word.
    pub(crate) fn find(&self, word: &str) -> Option<&'static Word> {
        self.words.iter().find(|row| row.name == word)
    }

    /// Returns the words whose options are those of criu.
    pub(crate) fn criu_words(&self) -> impl Iterator<Item = &'static Word> {
        self.words.iter().filter(|row| row.kind == Kind::Criu)
    }
}

/// Becomes the real criu, with these arguments. Returns only if that fails.
pub(crate) fn hand_over(args: &[OsString]) -> Fault {
    match criu_program(None) {
        Ok(criu) => {
            let source = std::process::Command::new(&criu).args(args).exec();
            criu_rs::Error::Start { program: criu, source: source.into() }.into()
        }
        Err(fault) => fault,
    }
}

/// Prints the version of this program and, if `with_criu`, CRIU's line about its own.
pub(crate) fn print_version(with_criu: bool) -> ExitCode {
    let _ = writeln!(io::stdout(), "{NAME} {VERSION}");
    if let (true, Ok(criu)) = (with_criu, criu_program(None)) {
        // Scripts look for this line: "Version: 4.3".
        let _ = std::process::Command::new(criu).arg("--version").status();
    }
    Exit::Done.into()
}

/// Adds the flags that this program reads before clap does.
pub(crate) fn with_flags(command: Command) -> Command {
    let heading = "This program";
    let flag = |name: &'static str, letter, about: &'static str| {
        let arg = Arg::new(name).long(name).short(letter).help(about);
        arg.action(ArgAction::SetTrue).help_heading(heading)
    };
    command
        .disable_help_flag(true)
        .disable_version_flag(true)
        .arg(flag("help", 'h', "Print this help"))
        .arg(flag("version", 'V', "Print the version"))
}

/// Returns the options that every word takes and clap does not see.
pub(crate) fn flags() -> Options {
    Options::of(&with_flags(Command::new("")))
}

pub(crate) const NAME: &str = "criu-rs";

pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
