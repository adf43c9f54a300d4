//! Output of a program: for a person on standard error, for a program as JSON on standard output.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use console::style;
use serde_json::{Value, json};

use crate::exit::{Codes, Exit};
use crate::fault::Fault;
use crate::shown::{Shown, one_line, styled};
use crate::stdout;

/// The output of a program, under a name.
#[derive(Clone, Debug)]
pub struct Output {
    name: String,
    program: &'static str,
    json: bool,
    codes: Codes,
}

impl Output {
    /// Makes the output of `program`, which is called `name` in messages to a person.
    pub fn new(name: impl Into<String>, program: &'static str, json: bool) -> Self {
        Self { name: name.into(), program, json, codes: Codes::Own }
    }

    /// Sets the numbers to end with. By default each end has its own.
    #[must_use]
    pub fn codes(self, codes: Codes) -> Self {
        Self { codes, ..self }
    }

    /// Tells that the work is done: in `line` for a person, with `facts` for a program.
    pub fn done(&self, line: impl fmt::Display, facts: Value) {
        self.say(line);
        self.object("done", facts);
    }

    /// Tells a person something in one line, on standard error. Names in the line may be those
    /// that strangers chose.
    pub fn say(&self, line: impl fmt::Display) {
        self.say_lines(one_line(&line.to_string()));
    }

    /// Tells a person something in several lines, on standard error.
    pub(crate) fn say_lines(&self, lines: impl fmt::Display) {
        if !self.json {
            let _ = writeln!(io::stderr(), "{}: {}", self.name, Shown(lines));
        }
    }

    /// Prints a result, on standard output.
    pub fn print(&self, text: impl fmt::Display) {
        if !self.json {
            stdout::print(styled(&format!("{text}\n")).as_bytes());
        }
    }

    /// Tells a fault, and returns the code to end with.
    pub fn fault(&self, fault: &Fault) -> ExitCode {
        let exit = fault.exit();
        let outcome = match exit {
            Exit::Done | Exit::Failed => "failed",
            Exit::Usage => "usage",
            Exit::NoCriu => "no criu",
            Exit::Stopped => "stopped",
        };
        let code = self.codes.number(exit);
        self.object(outcome, json!({ "error": fault.to_json(), "exit_code": code }));
        if self.json {
            return code.into();
        }
        let mut err = io::stderr().lock();
        for (number, line) in Shown(fault).to_string().lines().enumerate() {
            let _ = match (number, line.split_once(": ")) {
                (0, _) => {
                    let name = style(format!("{}:", self.name)).for_stderr().red().bold();
                    writeln!(err, "{name} {line}")
                }
                (_, Some((word @ ("cause" | "do"), rest))) => {
                    writeln!(err, "{} {rest}", style(format!("{word}:")).for_stderr().bold())
                }
                _ => writeln!(err, "{line}"),
            };
        }
        code.into()
    }

    /// Tells a program the outcome, as a JSON object.
    pub fn object(&self, outcome: &str, mut facts: Value) {
        if !self.json {
            return;
        }
        facts["program"] = json!(self.program);
        facts["outcome"] = json!(outcome);
        stdout::print_json(&facts);
    }
}

/// Returns a time in microseconds.
pub(crate) fn micros(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
