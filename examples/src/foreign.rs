//! Options that criu accepts for any word, because it has one list of options for all of them.
//!
//! Scripts give the same options to dump and to restore. Every word accepts the options of the
//! other words as criu accepts them there: the value is checked, and a note tells that the option
//! has no effect.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::builder::{Resettable, ValueParser};
use clap::{Arg, ArgAction, Command};

use crate::fault::Fault;
use crate::getopt::{Line, OURS, Options, name};
use crate::usage;
use crate::word::Table;

/// Options that criu refuses unless the word is one of these.
const BOUND: &[(&str, &[&str])] = &[
    ("exec-cmd", &["restore"]),
    ("inherit-fd", &["restore"]),
    ("lazy-pages", &["dump", "restore", "check", "page-server", "lazy-pages", "preflight"]),
    ("mntns-compat-mode", &["restore", "preflight"]),
    ("stream", &["dump", "restore"]),
];

/// Returns the options that criu accepts for a word; those that the word has itself are among them.
pub(crate) fn options(table: &Table, word: &str) -> Options {
    let accepted = all(table).into_iter().filter(|arg| {
        // What undoes a switch is accepted for all words.
        let is_bool = arg.get_value_parser().type_id() == ValueParser::bool().type_id();
        let is_switch = is_bool && matches!(arg.get_action(), ArgAction::Set);
        is_switch || !is_bound(word, arg.get_long().unwrap_or_default())
    });
    Options::of(&Command::new("").args(accepted))
}

/// Tells if criu refuses an option for a word.
fn is_bound(word: &str, name: &str) -> bool {
    BOUND.iter().any(|(option, words)| *option == name && !words.contains(&word))
}

/// Returns a switch that criu refuses for a word unless it is undone, with its dashes.
pub(crate) fn refused<'a>(word: &str, foreign: &'a [OsString]) -> Option<&'a str> {
    let last =
        |given: &OsString| foreign.iter().rev().find(|o| name(o) == name(given)) == Some(given);
    let on = foreign.iter().filter(|given| given.as_bytes().ends_with(b"=true") && last(given));
    on.map(|given| name(given)).find(|name| is_bound(word, name.trim_start_matches('-')))
}

/// Separates the options that a word does not have itself.
pub(crate) fn split(own: &Options, line: Line) -> (Line, Vec<OsString>) {
    let (mine, foreign) = line.options.into_iter().partition(|option| own.has(name(option)));
    (Line { options: mine, ..line }, foreign)
}

/// Refuses options of a line, of the word or not, that criu refuses without another.
pub(crate) fn check_together(program: &str, options: &[OsString]) -> Result<(), Fault> {
    let given = |option: &str| options.iter().any(|given| given == option);
    if given("--restore-sibling=true")
        && !given("--restore-detached=true")
        && !given("--daemon=true")
    {
        return Err(usage::fault(program, "--restore-sibling needs --restore-detached"));
    }
    Ok(())
}

/// Refuses values that no word would take.
pub(crate) fn check(table: &Table, program: &str, foreign: &[OsString]) -> Result<(), Fault> {
    if foreign.is_empty() {
        return Ok(());
    }
    let words = [OsString::from(program)].into_iter().chain(foreign.iter().cloned());
    let command = Command::new("").args_override_self(true).args(all(table));
    let command = command.disable_help_flag(true).disable_version_flag(true);
    let matches = command.try_get_matches_from(words);
    matches.map(|_| ()).map_err(|error| usage::fault(program, usage::text(&error)))
}

/// Makes the note for options that have no effect, if any was given.
pub(crate) fn note(word: &str, foreign: &[OsString]) -> Option<String> {
    let mut names: Vec<String> = Vec::new();
    for option in foreign {
        let name = name(option).to_owned();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    without_effect(word, &names)
}

/// Makes the note that options have no effect on a word.
pub(crate) fn without_effect(word: &str, names: &[impl AsRef<str>]) -> Option<String> {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    Some(match names.as_slice() {
        [] => return None,
        [name] => format!("{name} has no effect on {word}"),
        [names @ .., last] => format!("{} and {last} have no effect on {word}", names.join(", ")),
    })
}

/// Returns the options of criu, one of each name, none of them bound to others.
fn all(table: &Table) -> Vec<Arg> {
    let mut all: Vec<Arg> = Vec::new();
    // The options of `start` are its own, or those of restore.
    for row in table.criu_words().filter(|row| row.name != "start") {
        for arg in (row.read)().get_arguments() {
            let Some(long) = arg.get_long() else { continue };
            let is_known = all.iter().any(|known| known.get_long() == Some(long));
            if is_known || OURS.contains(&long) || matches!(long, "help" | "version") {
                continue;
            }
            let free = arg.clone().required(false).requires(Resettable::Reset);
            all.push(free.conflicts_with(Resettable::Reset).overrides_with(Resettable::Reset));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::TABLE;

    #[test]
    fn options_of_this_program_are_not_criu_s() {
        let all = all(&TABLE);
        assert!(OURS.iter().all(|own| all.iter().all(|arg| arg.get_long() != Some(own))));
        let is_option = |own: &&str| {
            let has = |row: &crate::word::Word| {
                (row.read)().get_arguments().any(|arg| arg.get_long() == Some(own))
            };
            TABLE.criu_words().any(has)
        };
        assert!(OURS.iter().all(is_option), "an own option is gone");
        assert!(BOUND.iter().all(|(name, _)| all.iter().any(|arg| arg.get_long() == Some(name))));
    }

    #[test]
    fn the_options_of_all_words_are_one_sound_command_line() {
        Command::new("").args(all(&TABLE)).disable_help_flag(true).debug_assert();
    }

    #[test]
    fn a_switch_of_other_words_may_be_undone() {
        let given = ["--stream=true", "--stream=false", "--tls=true"].map(OsString::from);
        assert_eq!(refused("check", &given), None);
        assert_eq!(refused("check", &given[..1]), Some("--stream"));
        assert_eq!(refused("restore", &given[..1]), None);
    }

    #[test]
    fn the_note_names_each_option_once() {
        let given = ["--timeout=2", "--tree=7", "--timeout=3"].map(OsString::from);
        let note = note("restore", &given).unwrap();
        assert_eq!(note, "--timeout and --tree have no effect on restore");
        assert_eq!(super::note("restore", &[]), None);
    }
}
