//! `criu-rs WORD ...`: the programs as one, in the place of `criu`.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use crate::exit::{EXIT_CODES, Exit};
use crate::fault::Fault;
use crate::getopt::Unclear;
use crate::options::criu_program;
use crate::output::Output;
use crate::program::{all_options, own_name, run_word, words};

/// What CRIU can do besides: it is started for that.
const HANDED_OVER: &[(&str, &str)] = &[
    ("page-server", "receive memory pages"),
    ("lazy-pages", "serve memory to a lazy restore"),
    ("service", "answer requests on a socket"),
    ("dedup", "remove memory that newer images replace"),
    ("cpuinfo", "record or compare the CPU's features"),
    ("swrk", "answer requests on a descriptor"),
    ("exec", "deprecated"),
    ("show", "deprecated"),
];

/// The program `criu-rs`, or the one whose name it was started by.
pub fn criu_rs() -> ExitCode {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    let called = own_name(&args).unwrap_or_default().to_owned();
    args.drain(..args.len().min(1));
    if let Some(code) = run_word(&called, &called, &args) {
        return code;
    }
    let output = Output::new("criu-rs", "criu-rs", args.iter().any(|arg| arg == "--json"));
    dispatch(args).unwrap_or_else(|fault| output.fault(&fault).into())
}

/// One of the programs, by its word.
pub fn one(word: &str) -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let name = own_name(&args).unwrap_or(word).to_owned();
    let args = args.get(1..).unwrap_or_default();
    run_word(word, &name, args).unwrap_or(Exit::Usage.into())
}

fn dispatch(mut args: Vec<OsString>) -> Result<ExitCode, Fault> {
    let options = all_options();
    // What only a program knows to be wrong is for the program to say.
    let line = options.read(&args).map_err(|unclear| match unclear {
        Unclear::Unknown(option) => format!("{option} is unknown, to CRIU or to this program"),
        Unclear::Ambiguous(option, names) => format!("{option} may be {}", names.join(" or ")),
        Unclear::NoValue(option) => format!("{option} wants a value behind it"),
        Unclear::Value(option) => format!("{option} takes no value"),
    });
    let (place, word) = match line {
        Ok(line) => match line.words.first() {
            Some((place, word)) => (*place, word.to_string_lossy().into_owned()),
            None if line.options.iter().any(|option| option == "--version") => {
                return Ok(print_version());
            }
            None if args.is_empty() || line.options.iter().any(|option| option == "--help") => {
                print_help(args.is_empty());
                let exit = if args.is_empty() { Exit::Usage } else { Exit::Done };
                return Ok(exit.into());
            }
            None => return Err(unknown("a word is missing: what to do")),
        },
        // The first argument is the word nearly always; its program can say more.
        Err(why) => match args.first().and_then(|arg| arg.to_str()) {
            Some(word) if !word.starts_with('-') => (0, word.to_owned()),
            _ => return Err(Fault::usage(why)),
        },
    };
    if HANDED_OVER.iter().any(|(known, _)| *known == word) {
        return Err(hand_over(&args));
    }
    args.remove(place);
    run_word(&word, &format!("criu-rs {word}"), &args)
        .ok_or_else(|| unknown(&format!("unknown word `{word}`")))
}

fn unknown(what: &str) -> Fault {
    let known: Vec<&str> =
        words().map(|(word, _)| word).chain(HANDED_OVER.iter().map(|row| row.0)).collect();
    Fault::usage(format!("{what}\nthe words are {}", known.join(", ")))
}

/// Becomes the real criu, with these arguments; returns only if that fails.
pub(crate) fn hand_over(args: &[OsString]) -> Fault {
    match criu_program(None) {
        Ok(criu) => {
            let source = Command::new(&criu).args(args).exec();
            criu_rs::Error::Start { program: criu, source }.into()
        }
        Err(fault) => fault,
    }
}

/// The version of this program, and CRIU's own words for its version.
pub(crate) fn print_version() -> ExitCode {
    let _ = writeln!(io::stdout(), "criu-rs {}", env!("CARGO_PKG_VERSION"));
    if let Ok(criu) = criu_program(None) {
        // "Version: 4.3", which scripts look for.
        let _ = Command::new(criu).arg("--version").status();
    }
    Exit::Done.into()
}

fn print_help(is_mistake: bool) {
    let mut text = String::from(
        "Checkpoints and restores processes: takes the place of `criu`.\n\n\
         Usage: criu-rs WORD [OPTIONS]\n\nWords:\n",
    );
    for (word, about) in words() {
        text += &format!("  {word:12} {about}\n");
    }
    text += "\nHanded to the criu that is installed:\n";
    for (word, about) in HANDED_OVER.iter().filter(|(_, about)| *about != "deprecated") {
        text += &format!("  {word:12} {about}\n");
    }
    text += MORE;
    text += EXIT_CODES;
    let _ = match is_mistake {
        true => io::stderr().write_all(text.as_bytes()),
        false => io::stdout().write_all(text.as_bytes()),
    };
}

const MORE: &str = "
Options are CRIU's own, long and short, so that a script for `criu` runs with this one word changed.
`criu-rs WORD --help` lists them. A link named dump, pre-dump, restore or check is that program.

Examples:
  criu-rs dump -t 4711 -D img -v4 -o dump.log
  criu-rs restore -D img -d

";
