//! A word of the program, and the table of all words as a word sees it.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::ExitCode;

use clap::{Arg, ArgAction, Command};

use crate::descriptors;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::getopt::Options;
use crate::options::criu_program;
use crate::stdout;

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

/// Becomes the real criu, with these arguments: the criu at `path`, else the one that is found.
/// Returns only if that fails.
pub(crate) fn hand_over(path: Option<&Path>, args: &[OsString]) -> Fault {
    match criu_program(path) {
        Ok(criu) => {
            let own = std::process::id().to_string();
            if std::env::var_os(HANDED_OVER_BY).is_some_and(|by| *by == *own) {
                let show = criu.display();
                let what = format!("{show} is criu-rs itself, name the criu that it is to use");
                return Fault::usage(format!("{what} in the variable CRIU"));
            }
            if let Err(fault) = descriptors::hand_on(args) {
                return fault;
            }
            let mut command = std::process::Command::new(&criu);
            let source = command.args(args).env(HANDED_OVER_BY, own).exec();
            criu_rs::Error::Start { program: criu, source: source.into() }.into()
        }
        Err(fault) => fault,
    }
}

/// The variable with the process id of the program that has become criu. A process that sees its
/// own id there would become itself for ever: a copy of this program is what it takes for criu.
const HANDED_OVER_BY: &str = "CRIU_RS_HANDED_OVER_BY";

/// Prints the version of this program.
pub(crate) fn print_version() -> ExitCode {
    stdout::print(format!("{NAME} {VERSION}\n").as_bytes());
    Exit::Done.into()
}

/// Prints the version of this program on standard error, and becomes the real criu, which prints
/// its own version: scripts look for "Version: 4.3" on standard output. Without a criu the version
/// of this program is the output.
pub(crate) fn print_versions(path: Option<&Path>) -> Result<ExitCode, Fault> {
    match criu_program(path) {
        Ok(criu) => {
            let _ = writeln!(io::stderr(), "{NAME} {VERSION}");
            if stdout::can_fill_up() {
                // criu does not notice that its output is lost.
                let said = std::process::Command::new(&criu).arg("--version").output();
                let start = |source: io::Error| {
                    Fault::from(criu_rs::Error::Start {
                        program: criu.clone(),
                        source: source.into(),
                    })
                };
                let said = said.map_err(start)?;
                stdout::print(&said.stdout);
                let _ = io::stderr().write_all(&said.stderr);
                let exit = if said.status.success() { Exit::Done } else { Exit::Failed };
                return Ok(exit.into());
            }
            Err(hand_over(Some(&criu), &["--version".into()]))
        }
        Err(_) => Ok(print_version()),
    }
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
