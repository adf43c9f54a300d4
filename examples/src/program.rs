//! Words that take the options of criu: reads the command line, runs the word, and tells the
//! outcome.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::{ArgAction, Args, Command, FromArgMatches};

use crate::exit::{Codes, EXIT_CODES, Exit, asks as asks_for};
use crate::fault::Fault;
use crate::foreign;
use crate::getopt::{Line, Options, Unclear};
use crate::output::Output;
use crate::settings;
use crate::shown::one_line;
use crate::stdout;
use crate::tool::HELP;
use crate::usage;
use crate::word::{self, Kind, Table, Word};

/// A word that takes the options of criu.
pub(crate) trait Program: Args + FromArgMatches {
    /// The word, as CRIU has it.
    const WORD: &'static str;
    /// The first sentence of its help.
    const ABOUT: &'static str;
    /// Examples, and facts that a user needs.
    const MORE: &'static str;
    /// The exit codes, for help.
    const EXIT_CODES: &'static str = EXIT_CODES;
    /// The words beside the options, as usage shows them. Empty if there can be none.
    const WORDS: &'static str = "";
    /// Tells if criu has the word, whose exit codes are then those of criu unless others are asked
    /// for.
    const IS_CRIU_S: bool = true;

    /// Tells if the outcome is printed as JSON.
    fn json(&self) -> bool;

    /// Does the work.
    fn run(&self, output: &Output, given: &Given) -> Result<ExitCode, Fault>;
}

/// A command line as it was given, without the word.
pub(crate) struct Given {
    /// All of it.
    pub(crate) all: Vec<OsString>,
    /// The command line for criu itself, without options that criu does not have.
    pub(crate) for_criu: Vec<OsString>,
}

/// Makes the row of a word.
pub(crate) const fn word<P: Program>() -> Word {
    Word {
        name: P::WORD,
        about: P::ABOUT,
        kind: Kind::Criu,
        read: command::<P>,
        shown: shown::<P>,
        run: run::<P>,
    }
}

/// Returns the options of all words that take those of criu.
pub(crate) fn all_options(table: &Table) -> Options {
    let each = table.criu_words().map(|row| Options::of(&(row.read)()));
    each.fold(word::flags(), Options::and)
}

/// Returns the words that have an option.
fn who_has(table: &Table, option: &str) -> Vec<&'static str> {
    let has = |row: &&Word| {
        // Preflight takes the options of the others.
        row.name != "preflight" && Options::of(&(row.read)()).has(option)
    };
    table.criu_words().filter(has).map(|row| row.name).collect()
}

/// Makes the command line that clap reads: each option as `--name` or `--name=value`.
fn command<P: Program>() -> Command {
    P::augment_args(Command::new(P::WORD))
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args_override_self(true)
}

/// Makes the command line as people see it, without hidden options and with switches that have no
/// value.
fn shown<P: Program>() -> Command {
    let switch = clap::builder::ValueParser::bool().type_id();
    let command = command::<P>();
    let seen = command.get_arguments().filter(|arg| !arg.is_hide_set()).cloned().map(|arg| {
        let is_switch = arg.get_value_parser().type_id() == switch;
        let arg = if is_switch { arg.action(ArgAction::SetTrue) } else { arg };
        // Only help is made of this command line, and references to hidden options would fail.
        arg.conflicts_with(Resettable::Reset).overrides_with(Resettable::Reset)
    });
    word::with_flags(Command::new(P::WORD).args(seen))
        .about(P::ABOUT)
        .after_help(format!("{}\n{}\n{FORMS}", P::MORE, P::EXIT_CODES))
        .help_template(HELP)
        .override_usage(usage_line::<P>(&format!("{} {}", word::NAME, P::WORD)))
}

fn usage_line<P: Program>(name: &str) -> String {
    let space = if P::WORDS.is_empty() { "" } else { " " };
    format!("{name} [OPTIONS]{space}{}", P::WORDS)
}

/// The forms in which options may be written.
const FORMS: &str = "\
Options are written as for criu: a long name may be cut short, --no- before the name of a switch
undoes it, and an option that names one thing of several may be given several times. Options that
criu accepts for this word without effect are accepted, with a note.";

fn run<P: Program>(name: &str, mut args: Vec<OsString>, table: &Table) -> ExitCode {
    // A link with the name of the word is called as criu is, too.
    if name == P::WORD && args.first().is_some_and(|arg| arg == P::WORD) {
        args.remove(0);
    }
    let json = asks_for(&args, "--json", 4);
    let codes = if P::IS_CRIU_S { Codes::of(&args) } else { Codes::Own };
    match try_run::<P>(name, args, table) {
        Ok(code) => code,
        Err(fault) => Output::new(name, P::WORD, json).codes(codes).fault(&fault),
    }
}

fn try_run<P: Program>(name: &str, args: Vec<OsString>, table: &Table) -> Result<ExitCode, Fault> {
    let command = command::<P>();
    let own = Options::of(&command);
    let own_and_flags = own.clone().and(word::flags());
    let all = || own_and_flags.clone().and(foreign::options(table, P::WORD));
    // Most lines have options of the word alone, and no beginnings of names, which have to be
    // looked for among all.
    let line = own_and_flags.read_exact(&args).map_or_else(|| all().read(&args), Ok);
    let mut line = line.map_err(|unclear| misread::<P>(table, name, &unclear))?;
    let asks = |line: &Line, option: &str| line.options.iter().any(|given| given == option);
    if asks(&line, "--help") {
        let mut command = shown::<P>().bin_name(name).override_usage(usage_line::<P>(name));
        stdout::note(command.print_help());
        return Ok(Exit::Done.into());
    }
    line.options.splice(0..0, settings::options(&args, all, &own_and_flags, table)?);
    if asks(&line, "--version") {
        return word::print_versions(line.value("--criu").map(Path::new));
    }
    let given = Given { for_criu: line.for_criu(&args), all: args };
    foreign::check_together(name, &line.options)?;
    let (line, foreign) = foreign::split(&own, line);
    if let Some(option) = foreign::refused(P::WORD, &foreign) {
        return Err(misread::<P>(table, name, &Unclear::Unknown(option.to_owned())));
    }
    foreign::check(table, name, &foreign)?;
    let program = parse::<P>(command, name, line)?;
    let output = Output::new(name, P::WORD, program.json());
    if let Some(note) = foreign::note(P::WORD, &foreign) {
        output.say(note);
    }
    program.run(&output, &given)
}

fn parse<P: Program>(command: Command, name: &str, line: Line) -> Result<P, Fault> {
    let takes_words = command.get_positionals().next().is_some();
    let exec = line.options.iter().any(|option| option == "--exec-cmd");
    if let Some((_, word)) =
        line.words.first().filter(|_| !(takes_words && exec || !P::WORDS.is_empty()))
    {
        let word = word.to_string_lossy();
        let bare_v = line.options.iter().any(|option| option == "--verbosity");
        let is_level = bare_v && word.bytes().all(|byte| byte.is_ascii_digit());
        let why = if is_level {
            format!(": a level follows its -v at once, as in -v{word}")
        } else {
            String::new()
        };
        return Err(usage::fault(name, format!("unexpected `{}`{why}", one_line(&word))));
    }
    let words = line.words.into_iter().map(|(_, word)| word);
    let all = [OsString::from(name)].into_iter().chain(line.options).chain(["--".into()]);
    let matches = command.try_get_matches_from(all.chain(words));
    matches
        .and_then(|matches| P::from_arg_matches(&matches))
        .map_err(|error| usage::fault(name, usage::text(&error)))
}

fn misread<P: Program>(table: &Table, name: &str, unclear: &Unclear) -> Fault {
    let Unclear::Unknown(option) = unclear else {
        return usage::fault(name, unclear.to_string());
    };
    let what = match who_has(table, option).as_slice() {
        _ if option == "--ms" => "--ms is gone from CRIU: see --extra and --all of check".into(),
        [] => unclear.to_string(),
        others => format!("{option} is an option of {}, not of {}", others.join(", "), P::WORD),
    };
    usage::fault(name, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::TABLE;

    #[test]
    fn an_option_of_another_word_is_known() {
        assert_eq!(who_has(&TABLE, "--capture"), ["dump"]);
        assert_eq!(who_has(&TABLE, "-t"), ["dump", "pre-dump"]);
        assert!(who_has(&TABLE, "--frob").is_empty());
    }
}
