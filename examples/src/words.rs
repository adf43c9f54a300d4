//! `criu-rs WORD ...`: one program that holds all words, and takes the place of `criu`.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Command;

use crate::archive::ArchiveWord;
use crate::container::Container;
use crate::coordinator::Coordinator;
use crate::cri::CriWord;
use crate::crit::Crit;
use crate::exit::{Codes, EXIT_CODES, Exit};
use crate::fault::Fault;
use crate::inspect::Inspect;
use crate::kubelet::KubeletWord;
use crate::lazy_pages::LazyPagesWord;
use crate::links::Links;
use crate::output::Output;
use crate::page_server::PageServer;
use crate::places::keep_files_private;
use crate::pod::PodWord;
use crate::pull::Pull;
use crate::push::Push;
use crate::shell::{Completions, Man};
use crate::word::{Kind, NAME, Table, VERSION, Word, hand_over, print_versions, with_flags};
use crate::{
    check, descriptors, dump, pre_dump, preflight, program, restore, start, stdout, tool, usage,
};

/// All words that this program does itself.
const WORDS: &[Word] = &[
    program::word::<dump::Program>(),
    program::word::<pre_dump::Program>(),
    program::word::<restore::Program>(),
    program::word::<start::Program>(),
    program::word::<check::Program>(),
    program::word::<preflight::Program>(),
    program::word::<PageServer>(),
    program::word::<LazyPagesWord>(),
    tool::word::<Container>(Kind::Tool),
    tool::word::<ArchiveWord>(Kind::Tool),
    tool::word::<Coordinator>(Kind::Tool),
    tool::word::<Inspect>(Kind::Tool),
    tool::word::<PodWord>(Kind::Tool),
    tool::word::<Crit>(Kind::Tool),
    tool::word::<Push>(Kind::Tool),
    tool::word::<Pull>(Kind::Tool),
    tool::word::<KubeletWord>(Kind::Tool),
    tool::word::<CriWord>(Kind::Tool),
    tool::word::<Links>(Kind::Own),
    tool::word::<Completions>(Kind::Own),
    tool::word::<Man>(Kind::Own),
];

/// The table of the words, as each word gets it.
pub(crate) static TABLE: Table = Table { words: WORDS, command };

/// Words for which the real criu is started.
const HANDED_OVER: &[(&str, &str)] = &[
    ("service", "Answers requests on a socket."),
    ("dedup", "Removes memory that newer images replace."),
    ("cpuinfo", "Records or compares the features of the CPU."),
    ("swrk", "deprecated"),
    ("exec", "deprecated"),
    ("show", "deprecated"),
];

/// Runs the program: the word on its command line, or the word whose name it was started by.
pub fn criu_rs() -> ExitCode {
    stdout::finish(NAME, run())
}

fn run() -> ExitCode {
    descriptors::hold_back();
    let mut args: Vec<OsString> = std::env::args_os().collect();
    let called = own_name(&args).unwrap_or_default().to_owned();
    args.drain(..args.len().min(1));
    if let Some(word) = TABLE.find(&called) {
        return (word.run)(&called, args, &TABLE);
    }
    let codes = Codes::of(&args);
    let output = Output::new(NAME, NAME, args.iter().any(|arg| arg == "--json")).codes(codes);
    if is_handed_over(&called) && args.first().is_none_or(|arg| *arg != *called) {
        args.insert(0, called.into());
    }
    dispatch(args, codes).unwrap_or_else(|fault| output.fault(&fault))
}

fn dispatch(mut args: Vec<OsString>, codes: Codes) -> Result<ExitCode, Fault> {
    // The word is first nearly always. To know the options of all words takes a millisecond.
    let first = args.first().and_then(|arg| arg.to_str()).and_then(|word| TABLE.find(word));
    if let Some(word) = first {
        args.remove(0);
        return Ok((word.run)(&format!("{NAME} {}", word.name), args, &TABLE));
    }
    if matches!(args.as_slice(), [only] if only == "--version" || only == "-V") {
        return print_versions(None);
    }
    let line = program::all_options(&TABLE).read(&args);
    let criu = line.as_ref().ok().and_then(|line| line.value("--criu")).map(PathBuf::from);
    let (place, word) = match &line {
        Ok(line) => match line.words.first() {
            Some((place, word)) => (*place, word.to_string_lossy().into_owned()),
            None if line.options.iter().any(|option| option == "--version") => {
                return print_versions(criu.as_deref());
            }
            None if args.is_empty() || line.options.iter().any(|option| option == "--help") => {
                print_help(args.is_empty());
                let exit = if args.is_empty() { Exit::Usage } else { Exit::Done };
                return Ok(codes.number(exit).into());
            }
            None => return Err(unknown("a word is missing, which says what to do")),
        },
        // The first argument is the word nearly always, and its own parser can say more.
        Err(unclear) => match args.first().and_then(|arg| arg.to_str()) {
            Some(word) if !word.starts_with('-') => (0, word.to_owned()),
            _ => return Err(usage::fault(NAME, unclear.to_string())),
        },
    };
    if is_handed_over(&word) {
        let for_criu = line.map_or_else(|_| args.clone(), |line| line.for_criu(&args));
        if word == "cpuinfo" {
            keep_files_private();
        }
        return Err(hand_over(criu.as_deref(), &for_criu));
    }
    let found = TABLE.find(&word).ok_or_else(|| unknown(&format!("unknown word `{word}`")))?;
    args.remove(place);
    Ok((found.run)(&format!("{NAME} {word}"), args, &TABLE))
}

fn is_handed_over(word: &str) -> bool {
    HANDED_OVER.iter().any(|(known, _)| *known == word)
}

fn unknown(what: &str) -> Fault {
    let known = WORDS.iter().map(|row| row.name).chain(HANDED_OVER.iter().map(|row| row.0));
    let known = known.collect::<Vec<_>>().join(", ");
    usage::fault(NAME, format!("{what}\nthe words are {known}"))
}

/// Makes the whole command line: this program with a subcommand a word.
///
/// Words that go to the real criu are among the subcommands if `with_handed_over`.
fn command(with_handed_over: bool) -> Command {
    let others = HANDED_OVER.iter().filter(|(_, about)| with_handed_over && *about != "deprecated");
    let others = others.map(|(word, about)| {
        Command::new(*word).about(format!("{about} By the criu that is installed."))
    });
    let own = WORDS.iter().map(|row| (row.shown)());
    with_flags(Command::new(NAME))
        .version(VERSION)
        .about(ABOUT)
        .override_usage("criu-rs WORD [OPTIONS]")
        .after_help(format!("{MORE}\n{EXIT_CODES}"))
        .subcommands(own.chain(others))
        .disable_help_subcommand(true)
}

fn print_help(is_mistake: bool) {
    let mut text =
        format!("{ABOUT}\n\nUsage: {NAME} WORD [OPTIONS]\n\n{MORE}\n{EXIT_CODES}\nWords:\n");
    for Word { name, about, .. } in WORDS {
        text += &format!("  {name:12} {about}\n");
    }
    text += "\nNot built in: for these words the criu that is installed is started.\n";
    for (word, about) in HANDED_OVER.iter().filter(|(_, about)| *about != "deprecated") {
        text += &format!("  {word:12} {about}\n");
    }
    if is_mistake {
        let _ = io::stderr().write_all(text.as_bytes());
    } else {
        stdout::print(text.as_bytes());
    }
}

/// Returns the name that a program was started by, without its directory.
fn own_name(args: &[OsString]) -> Option<&str> {
    args.first().map(Path::new).and_then(Path::file_name).and_then(OsStr::to_str)
}

const ABOUT: &str = "Checkpoints and restores processes, in place of `criu`.";

const MORE: &str = "\
Examples:
  criu-rs dump -t 4711 -D img -v4 -o dump.log
  criu-rs restore -D img -d
  criu-rs dump --help

Options are those of criu, long and short, and so is the exit status: a script for `criu` runs with
this one word changed. --exit-codes tells mistakes, a missing criu and interruptions apart.
A link named dump, restore, crit and so on is the program of that name: `criu-rs links DIR` makes
such links. The real criu is the one that the variable CRIU names, else the first `criu` in PATH.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_command_line_is_sound() {
        command(true).debug_assert();
    }

    #[test]
    fn every_word_teaches() {
        for Word { name, about, shown, .. } in WORDS {
            assert!(about.ends_with('.') && about.starts_with(char::is_uppercase), "{name}");
            let help = shown().render_help().to_string();
            let at = |text: &str| help.find(text).unwrap_or_else(|| panic!("{name}: no {text}"));
            assert_eq!(at(about), 0, "{name}");
            assert!(at("Usage:") < at("Examples:") && at("Examples:") < at("Exit status:"));
            assert!(at("Exit status:") < at("--version"), "{name}");
        }
    }

    #[test]
    fn no_line_of_help_is_broken_by_its_width() {
        fn wide(command: &Command, found: &mut Vec<String>) {
            let texts = [command.get_about(), command.get_long_about(), command.get_after_help()];
            let texts = texts.into_iter().flatten().map(ToString::to_string);
            let lines = texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
            found.extend(lines.filter(|line| line.chars().count() > 100));
            command.get_subcommands().for_each(|inner| wide(inner, found));
        }
        let mut found = Vec::new();
        WORDS.iter().for_each(|word| wide(&(word.shown)(), &mut found));
        wide(&crate::cri_proxy::command(), &mut found);
        assert!(found.is_empty(), "{}", found.join("\n"));
    }
}
