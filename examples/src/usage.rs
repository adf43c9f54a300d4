//! Mistakes on a command line, told in one style by all words.
//!
//! ```text
//! criu-rs WORD: the mistake
//! `criu-rs WORD --help` shows how it is used
//! ```

use std::fmt;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::fault::Fault;
use crate::getopt::Unclear;
use crate::shown::one_line;

/// Makes a usage error of the program that is called `name`.
pub(crate) fn fault(name: &str, what: impl fmt::Display) -> Fault {
    Fault::Usage(format!("{what}\n`{name} --help` shows how it is used"))
}

/// Returns the mistake that clap has found, in one line.
pub(crate) fn text(error: &clap::Error) -> String {
    let named = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let argument = named(ContextKind::InvalidArg);
            let what = if argument.starts_with('-') { "unknown option" } else { "unexpected" };
            return format!("{what} `{}`", one_line(argument));
        }
        ErrorKind::InvalidSubcommand => {
            let word = one_line(named(ContextKind::InvalidSubcommand));
            return format!("unknown word `{word}`");
        }
        _ => {}
    }
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    // The usage follows, which help shows.
    let text = text.split("\n\n").next().unwrap_or(text);
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Unclear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(option) => write!(f, "unknown option `{}`", one_line(option)),
            Self::Ambiguous(option, names) => write!(f, "{option} may be {}", names.join(" or ")),
            Self::NoValue(option) => write!(f, "{option} needs a value"),
            Self::Value(option) => write!(f, "{option} takes no value"),
        }
    }
}
