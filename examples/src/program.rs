//! What the programs have in common: their command line is read, they run, and say how it went.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Args, Command, FromArgMatches};

use crate::exit::{EXIT_CODES, Exit};
use crate::fault::Fault;
use crate::getopt::{Line, Options, Unclear};
use crate::options::Reach;
use crate::output::Output;
use crate::{check, dump, pre_dump, preflight, restore};

/// A program.
pub(crate) trait Program: Args + FromArgMatches {
    /// Its word, as CRIU has it.
    const WORD: &'static str;
    /// What it does, in a line.
    const ABOUT: &'static str;
    /// Examples and whatever else there is to know.
    const MORE: &'static str;
    /// Whether it takes words that are no options.
    const TAKES_WORDS: bool = false;

    fn reach(&self) -> &Reach;

    /// Does it. `args` is its command line as it was given.
    fn run(&self, output: &Output, args: &[OsString]) -> Result<ExitCode, Fault>;
}

/// One row a program.
struct Row {
    word: &'static str,
    about: &'static str,
    command: fn() -> Command,
    run: fn(&str, Vec<OsString>) -> ExitCode,
}

const fn row<P: Program>() -> Row {
    Row { word: P::WORD, about: P::ABOUT, command: command::<P>, run: run::<P> }
}

const PROGRAMS: &[Row] = &[
    row::<dump::Program>(),
    row::<pre_dump::Program>(),
    row::<restore::Program>(),
    row::<check::Program>(),
    row::<preflight::Program>(),
];

/// Each program's word and what it does.
pub(crate) fn words() -> impl Iterator<Item = (&'static str, &'static str)> {
    PROGRAMS.iter().map(|row| (row.word, row.about))
}

/// Runs the program of a word, if there is one. `name` is what it is called in messages.
pub(crate) fn run_word(word: &str, name: &str, args: &[OsString]) -> Option<ExitCode> {
    let row = PROGRAMS.iter().find(|row| row.word == word)?;
    Some((row.run)(name, args.to_vec()))
}

/// The options of all programs.
pub(crate) fn all_options() -> Options {
    let each = PROGRAMS.iter().map(|row| Options::of(&(row.command)()));
    each.fold(with_help(), Options::and)
}

/// The words of the programs that have an option.
fn who_has(option: &str) -> Vec<&'static str> {
    // A look takes what these take.
    let own = |row: &Row| row.word != <preflight::Program as Program>::WORD;
    let has = |row: &&Row| own(row) && Options::of(&(row.command)()).has(option);
    PROGRAMS.iter().filter(has).map(|row| row.word).collect()
}

fn command<P: Program>() -> Command {
    P::augment_args(Command::new(P::WORD))
        .about(format!("{}: {}", P::WORD, P::ABOUT))
        .after_help(format!("{}\n{FORMS}\n{EXIT_CODES}", P::MORE))
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args_override_self(true)
        .override_usage(format!("{} [OPTIONS]", P::WORD))
}

/// How options may be written.
const FORMS: &str = "\
Options are written as for criu: a long name may be cut short, --no- before the name of a switch
undoes it, and an option that names one thing of several may be given several times.
";

/// The options that every program takes and clap does not see.
fn with_help() -> Options {
    let flag = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    Options::of(&Command::new("").args([flag("help").short('h'), flag("version").short('V')]))
}

fn run<P: Program>(name: &str, args: Vec<OsString>) -> ExitCode {
    let json = args.iter().any(|arg| arg == "--json");
    match try_run::<P>(name, &args) {
        Ok(code) => code,
        Err(fault) => Output::new(name, P::WORD, json).fault(&fault).into(),
    }
}

fn try_run<P: Program>(name: &str, args: &[OsString]) -> Result<ExitCode, Fault> {
    let options = Options::of(&command::<P>()).and(with_help());
    let line = options.read(args).map_err(|unclear| misread::<P>(name, unclear))?;
    let asks = |option: &str| line.options.iter().any(|given| given == option);
    if asks("--help") {
        print_help::<P>(name);
        return Ok(Exit::Done.into());
    }
    if asks("--version") {
        crate::words::print_version();
        return Ok(Exit::Done.into());
    }
    let program = parse::<P>(name, line)?;
    let output = Output::new(name, P::WORD, program.reach().json);
    program.run(&output, args)
}

fn parse<P: Program>(name: &str, line: Line) -> Result<P, Fault> {
    let takes_words = command::<P>().get_positionals().next().is_some();
    let exec = line.options.iter().any(|option| option == "--exec-cmd");
    if let Some((_, word)) = line.words.first().filter(|_| !(takes_words && exec || P::TAKES_WORDS))
    {
        let word = word.to_string_lossy();
        let bare_v = line.options.iter().any(|option| option == "--verbosity");
        let why = match bare_v && word.bytes().all(|byte| byte.is_ascii_digit()) {
            true => format!(": a level follows its -v at once, as in -v{word}"),
            false => String::new(),
        };
        return Err(misused(name, format!("`{word}` is no option{why}")));
    }
    let words = line.words.into_iter().map(|(_, word)| word);
    let all = [OsString::from(name)].into_iter().chain(line.options).chain(["--".into()]);
    let matches = command::<P>().try_get_matches_from(all.chain(words));
    matches.and_then(|matches| P::from_arg_matches(&matches)).map_err(|error| {
        let text = error.render().to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        // What follows is the usage, which help tells.
        let text = text.split("\n\n").next().unwrap_or(text);
        let text = text.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        match error.kind() {
            ErrorKind::MissingRequiredArgument | ErrorKind::ArgumentConflict => misused(name, text),
            _ => Fault::Usage(text),
        }
    })
}

fn misread<P: Program>(name: &str, unclear: Unclear) -> Fault {
    let word = P::WORD;
    misused(
        name,
        match unclear {
            Unclear::Unknown(option) if option == "--ms" => {
                "--ms is gone from CRIU: see --extra and --all of check".into()
            }
            Unclear::Unknown(option) => match who_has(&option).as_slice() {
                [] => format!("{option} is unknown, to CRIU or to this program"),
                others => format!("{option} is an option of {}, not of {word}", others.join(", ")),
            },
            Unclear::Ambiguous(option, names) => {
                format!("{option} may be {}", names.join(" or "))
            }
            Unclear::NoValue(option) => format!("{option} wants a value behind it"),
            Unclear::Value(option) => format!("{option} takes no value"),
        },
    )
}

fn misused(name: &str, what: impl Into<String>) -> Fault {
    Fault::Usage(format!("{}\n`{name} --help` lists the options", what.into()))
}

fn print_help<P: Program>(name: &str) {
    let switch = clap::builder::ValueParser::bool().type_id();
    let mut command = command::<P>().bin_name(name).override_usage(format!("{name} [OPTIONS]"));
    // A switch is written without a value; that clap reads one is a matter between the two of us.
    command = command.mut_args(|arg| match arg.get_value_parser().type_id() == switch {
        true => arg.action(ArgAction::SetTrue),
        false => arg,
    });
    let help =
        Arg::new("help").short('h').long("help").help("Print this").action(ArgAction::SetTrue);
    let _ = command.arg(help.help_heading("This program")).print_help();
}

/// The name a program was started by, without its directory.
pub(crate) fn own_name(args: &[OsString]) -> Option<&str> {
    args.first().map(Path::new).and_then(Path::file_name).and_then(OsStr::to_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_has_sound_options() {
        for row in PROGRAMS {
            (row.command)().debug_assert();
        }
    }

    #[test]
    fn an_option_of_another_program_is_known() {
        assert_eq!(who_has("--leave-running"), ["dump"]);
        assert_eq!(who_has("-t"), ["dump", "pre-dump", "restore"]);
        assert!(who_has("--frob").is_empty());
    }
}
