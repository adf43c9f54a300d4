//! Words with subcommands or arguments of their own, which clap reads.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use crate::exit::Exit;
use crate::fault::Fault;
use crate::images::is_broken_pipe;
use crate::output::Output;
use crate::stdout;
use crate::usage;
use crate::word::{self, Kind, Table, Word};

/// The result of a tool. The error is a [`Fault`], or any error that tells the reason and the
/// place.
pub(crate) type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

/// A word that clap reads.
pub(crate) trait Tool: Args + FromArgMatches {
    const WORD: &'static str;
    /// The first sentence of its help.
    const ABOUT: &'static str;
    /// Examples, exit codes, and facts that a user needs.
    const MORE: &'static str;

    /// Runs the tool. `name` is the name that messages begin with, with the subcommand.
    fn run(self, name: &str, table: &Table) -> Fallible<ExitCode>;
}

/// Makes the row of a tool.
pub(crate) const fn word<T: Tool>(kind: Kind) -> Word {
    Word {
        name: T::WORD,
        about: T::ABOUT,
        kind,
        read: command::<T>,
        shown: command::<T>,
        run: run::<T>,
    }
}

fn command<T: Tool>() -> Command {
    let command = T::augment_args(word::with_flags(Command::new(T::WORD)));
    let command = command.about(T::ABOUT).after_help(T::MORE).help_template(HELP);
    command.disable_help_subcommand(true)
}

fn run<T: Tool>(name: &str, args: Vec<OsString>, table: &Table) -> ExitCode {
    let json = args.iter().any(|arg| arg == "--json");
    let output = |name: &str| Output::new(name, T::WORD, json);
    let command = T::augment_args(Command::new(T::WORD)).bin_name(name).about(T::ABOUT);
    let command =
        command.after_help(T::MORE).help_template(HELP).version("").propagate_version(true);
    let command = command.disable_help_subcommand(true);
    let word = args.iter().filter_map(|arg| arg.to_str());
    let word = word.filter_map(|arg| command.find_subcommand(arg)).next();
    let with = |word: Option<&str>| word.map_or(name.to_owned(), |word| format!("{name} {word}"));
    let full = with(word.map(Command::get_name));
    let args = args.into_iter().map(folder_of_standard_input);
    let matches = command.try_get_matches_from([OsString::from(name)].into_iter().chain(args));
    let read = |matches: ArgMatches| {
        let full = with(matches.subcommand_name());
        T::from_arg_matches(&matches).map(|tool| (full, tool))
    };
    let (full, tool) = match matches.and_then(read) {
        Ok(read) => read,
        Err(error) => {
            return match error.kind() {
                ErrorKind::DisplayVersion => word::print_version(),
                ErrorKind::DisplayHelp => {
                    stdout::note(error.print());
                    Exit::Done.into()
                }
                ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                    let _ = error.print();
                    Exit::Usage.into()
                }
                _ => output(&full).fault(&usage::fault(&full, usage::text(&error))),
            };
        }
    };
    match tool.run(&full, table) {
        Ok(code) => code,
        // The reader of the output has seen enough.
        Err(error) if is_broken_pipe(&*error) => Exit::Done.into(),
        Err(error) => {
            let fault = match error.downcast::<Fault>() {
                Ok(fault) => *fault,
                Err(error) => Fault::Failed(error.to_string()),
            };
            output(&full).fault(&fault)
        }
    }
}

/// Replaces `-:FOLDER` by `/dev/stdin:FOLDER`, which clap does not take for an option.
fn folder_of_standard_input(arg: OsString) -> OsString {
    match arg.as_bytes().strip_prefix(b"-:") {
        Some(folder) => OsString::from_vec([b"/dev/stdin:", folder].concat()),
        None => arg,
    }
}

/// The order of a help text: the purpose, the usage, the examples, and then the options.
pub(crate) const HELP: &str = "\
{about-with-newline}
{usage-heading} {usage}{after-help}

{all-args}
";
