//! The command line, read as getopt_long(3) reads it, which is CRIU's own way.
//!
//! clap knows the options, but not all forms that people write: `-vvvv` and `-v4`, `-x123`, the
//! beginning of a long name, `--no-` before a name, a value that begins with a dash, options before
//! the word. Here a command line is taken apart by those rules and written anew in the one form
//! that clap reads alike: `--name` or `--name=value`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, Command, value_parser};
use criu_rs::Pid;

/// An option: the parts that matter for taking a command line apart.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    long: String,
    short: Option<char>,
    value: Value,
    /// Marks a value around which criu ignores blanks.
    is_number: bool,
    /// Marks an option that criu does not have.
    is_ours: bool,
}

/// The kind of value that follows an option's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Never,
    /// Never; `--no-` before the name undoes the option.
    Switch,
    /// Optional: after `=`, or right behind the letter.
    Optional,
    Always,
}

/// The options of one word, or of several together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options(Vec<Known>);

/// A command line taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    /// The options as clap is to read them.
    pub(crate) options: Vec<OsString>,
    /// The words beside the options, each with its place in the command line.
    pub(crate) words: Vec<(usize, OsString)>,
    /// The places of options that criu does not have, and of their values.
    pub(crate) ours: Vec<usize>,
}

impl Line {
    /// Returns a command line, from which this line was read, without options that criu does not
    /// have.
    pub(crate) fn for_criu(&self, args: &[OsString]) -> Vec<OsString> {
        let args = args.iter().enumerate().filter(|(place, _)| !self.ours.contains(place));
        args.map(|(_, arg)| arg.clone()).collect()
    }

    /// Returns the last value of an option of this name, dashes included.
    pub(crate) fn value(&self, name: &str) -> Option<&OsStr> {
        self.options.iter().rev().find_map(|option| {
            let rest = option.as_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            Some(OsStr::from_bytes(rest))
        })
    }
}

/// Returns `--name` of `--name=value`.
pub(crate) fn name(option: &OsStr) -> &str {
    let bytes = option.as_bytes();
    let end = bytes.iter().position(|&byte| byte == b'=').unwrap_or(bytes.len());
    // A name that was found in the table is ASCII.
    bytes.get(..end).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default()
}

/// The reason why a command line cannot be taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unclear {
    /// An unknown option, as it was written, with its dashes.
    Unknown(String),
    /// The beginning of several names.
    Ambiguous(String, Vec<String>),
    /// An option without the value that it needs.
    NoValue(String),
    /// An option with a value that it does not take.
    Value(String),
}

impl Options {
    pub(crate) fn of(command: &Command) -> Self {
        let known = |arg: &Arg| {
            let long = arg.get_long()?.to_owned();
            let is_ours = OURS.contains(&long.as_str());
            let (short, is_number) = (arg.get_short(), is_number(arg));
            Some(Known { long, short, value: Value::of(arg), is_number, is_ours })
        };
        Self(command.get_arguments().filter_map(known).collect())
    }

    /// Adds the options of another word.
    pub(crate) fn and(mut self, other: Self) -> Self {
        for known in other.0 {
            if !self.0.iter().any(|mine| mine.long == known.long) {
                self.0.push(known);
            }
        }
        self
    }

    /// Tells if there is an option of exactly this name, dashes included.
    pub(crate) fn has(&self, name: &str) -> bool {
        let (long, short) = (name.strip_prefix("--"), name.strip_prefix('-'));
        self.0.iter().any(|known| {
            Some(known.long.as_str()) == long || known.short.map(String::from).as_deref() == short
        })
    }

    /// Takes a command line apart if all its options are among these, with their whole names. With
    /// more options a line could mean something else only by the beginning of a name.
    pub(crate) fn read_exact(&self, args: &[OsString]) -> Option<Line> {
        let is_exact = |arg: &&OsString| {
            let Some(long) = arg.as_bytes().strip_prefix(b"--") else { return true };
            let name = long.split(|&byte| byte == b'=').next().unwrap_or_default();
            self.0.iter().any(|known| {
                let negated = known.value == Value::Switch
                    && name.strip_prefix(b"no-") == Some(known.long.as_bytes());
                known.long.as_bytes() == name || negated
            })
        };
        let options = args.iter().take_while(|arg| *arg != "--");
        if options.clone().filter(is_exact).count() < options.count() {
            return None;
        }
        self.read(args).ok()
    }

    /// Takes a command line apart.
    pub(crate) fn read(&self, args: &[OsString]) -> Result<Line, Unclear> {
        let mut line = Line::default();
        let end = args.len();
        let mut args = args.iter().enumerate();
        while let Some((place, arg)) = args.next() {
            let mut next = || args.next().map(|(_, arg)| arg.as_os_str());
            match arg.as_bytes() {
                b"--" => break,
                [b'-', b'-', long @ ..] => line.options.push(self.long(long, &mut next)?),
                [b'-', letters @ ..] if !letters.is_empty() => {
                    self.short(letters, &mut next, &mut line.options)?;
                }
                _ => {
                    line.words.push((place, arg.clone()));
                    continue;
                }
            }
            let last = line.options.last().map(|option| name(option)).unwrap_or_default();
            if OURS.iter().any(|own| last.strip_prefix("--") == Some(own)) {
                line.ours.extend(place..end - args.len());
            }
        }
        line.words.extend(args.map(|(place, arg)| (place, arg.clone())));
        Ok(line)
    }

    /// Reads what follows two dashes.
    fn long<'a>(
        &self,
        text: &[u8],
        next: &mut dyn FnMut() -> Option<&'a OsStr>,
    ) -> Result<OsString, Unclear> {
        let mut parts = text.splitn(2, |&byte| byte == b'=');
        let name = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
        let value = parts.next().map(OsStr::from_bytes);
        let (known, on) = self.named(&name)?;
        match (known.value, value) {
            (Value::Never | Value::Switch, Some(_)) => Err(Unclear::Value(format!("--{name}"))),
            (Value::Always, None) => match next() {
                Some(value) => Ok(known.with(Some(value))),
                None => Err(Unclear::NoValue(format!("--{}", known.long))),
            },
            (Value::Switch, None) => Ok(known.switched(on)),
            (_, value) => Ok(known.with(value)),
        }
    }

    /// Returns the option of this name, or the only one whose name begins so, and tells if it is
    /// switched on.
    fn named(&self, name: &str) -> Result<(&Known, bool), Unclear> {
        let all = self.0.iter().flat_map(|known| {
            let negated = (known.value == Value::Switch).then(|| format!("no-{}", known.long));
            let negated = negated.map(|name| (name, known, false));
            [(known.long.clone(), known, true)].into_iter().chain(negated)
        });
        let mut found: Vec<_> = all.filter(|(long, ..)| long.starts_with(name)).collect();
        if let Some(exact) = found.iter().position(|(long, ..)| long == name) {
            found = vec![found.swap_remove(exact)];
        }
        // The beginning of a name means what it means to criu.
        if found.iter().any(|(_, known, _)| !known.is_ours) {
            found.retain(|(_, known, _)| !known.is_ours);
        }
        match found.as_slice() {
            [] => Err(Unclear::Unknown(format!("--{name}"))),
            [(_, known, on)] => Ok((known, *on)),
            several => {
                let names = several.iter().map(|(long, ..)| format!("--{long}")).collect();
                Err(Unclear::Ambiguous(format!("--{name}"), names))
            }
        }
    }

    /// Reads the letters that follow one dash.
    fn short<'a>(
        &self,
        mut letters: &'a [u8],
        next: &mut dyn FnMut() -> Option<&'a OsStr>,
        options: &mut Vec<OsString>,
    ) -> Result<(), Unclear> {
        while let [letter, rest @ ..] = letters {
            let letter = char::from(*letter);
            let known = self.0.iter().find(|known| known.short == Some(letter));
            let known = known.ok_or_else(|| Unclear::Unknown(format!("-{letter}")))?;
            let attached = (!rest.is_empty()).then(|| OsStr::from_bytes(rest));
            letters = &[];
            options.push(match known.value {
                Value::Never | Value::Switch => {
                    letters = rest;
                    if known.value == Value::Switch { known.switched(true) } else { known.bare() }
                }
                Value::Optional => known.with(attached),
                Value::Always => {
                    let value = attached.or_else(&mut *next);
                    known.with(Some(value.ok_or_else(|| Unclear::NoValue(format!("-{letter}")))?))
                }
            });
        }
        Ok(())
    }
}

impl Value {
    fn of(arg: &Arg) -> Self {
        let switch = ValueParser::bool().type_id();
        match arg.get_action() {
            ArgAction::Set if arg.get_value_parser().type_id() == switch => Self::Switch,
            ArgAction::Set | ArgAction::Append => match arg.get_num_args() {
                Some(number) if number.min_values() == 0 => Self::Optional,
                _ => Self::Always,
            },
            _ => Self::Never,
        }
    }
}

/// Tells if the value of an option is a number.
fn is_number(arg: &Arg) -> bool {
    let seconds = |_: &str| Ok::<_, String>(Duration::ZERO);
    let numbers = [
        ValueParser::from(value_parser!(i32)),
        value_parser!(u16).into(),
        value_parser!(u32).into(),
        value_parser!(Pid).into(),
        ValueParser::new(seconds),
    ];
    numbers.iter().any(|number| number.type_id() == arg.get_value_parser().type_id())
}

impl Known {
    fn bare(&self) -> OsString {
        format!("--{}", self.long).into()
    }

    fn switched(&self, on: bool) -> OsString {
        format!("--{}={on}", self.long).into()
    }

    fn with(&self, value: Option<&OsStr>) -> OsString {
        let mut text = self.bare().into_vec();
        if let Some(value) = value {
            text.push(b'=');
            let value = value.as_bytes();
            text.extend(if self.is_number { value.trim_ascii() } else { value });
        }
        OsString::from_vec(text)
    }
}

/// Options of this program that criu does not have. Each is known to its own words only.
pub(crate) const OURS: &[&str] = &[
    "accept-label-loss",
    "accept-lock-loss",
    "accept-low-memory",
    "archive",
    "around",
    "authfile",
    "ca",
    "capture",
    "clear-orphans",
    "confine",
    "coordinator",
    "coordinator-certs",
    "coordinator-deps",
    "coordinator-expose",
    "coordinator-id",
    "coordinator-net",
    "coordinator-timeout",
    "criu",
    "deadline",
    "digests",
    "each",
    "every",
    "exit-codes",
    "expose",
    "fault-threads",
    "fill",
    "identity",
    "images",
    "instant",
    "instant-budget",
    "instant-least",
    "instant-plugin",
    "json",
    "keep",
    "keeper",
    "lazy",
    "level",
    "listening",
    "no-overwrite",
    "on-loss",
    "overwrite",
    "pack",
    "passphrase-file",
    "plain-http",
    "recipient",
    "recipients-file",
    "record",
    "relay",
    "restores",
    "rounds",
    "sessions",
    "sync",
    "threads",
    "trust-directory",
    "verify",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        let arg = |long: &'static str| Arg::new(long).long(long);
        let switch = |long| arg(long).value_parser(ValueParser::bool());
        Options::of(&Command::new("x").args([
            arg("tree").short('t').action(ArgAction::Set),
            arg("leave-running").short('R').action(ArgAction::SetTrue),
            arg("verbosity").short('v').action(ArgAction::Append).num_args(0..=1),
            switch("tcp-established").action(ArgAction::Set),
            switch("tcp-close").action(ArgAction::Set),
            switch("tls").action(ArgAction::Set),
            arg("port").value_parser(value_parser!(u16)).action(ArgAction::Set),
            arg("log-file").short('o').action(ArgAction::Set),
            arg("tls-key").action(ArgAction::Set),
        ]))
    }

    fn read(args: &[&str]) -> Result<(String, String), Unclear> {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        let line = options().read(&args)?;
        let text = |words: Vec<OsString>| words.join(OsStr::new(" ")).into_string().unwrap();
        let words = line.words.into_iter().map(|(_, word)| word).collect();
        Ok((text(line.options), text(words)))
    }

    #[test]
    fn what_people_write_is_read_as_getopt_does() {
        for (args, options, words) in [
            (&["dump", "-t", "7", "-R"][..], "--tree=7 --leave-running", "dump"),
            (&["-Rt7", "dump"], "--leave-running --tree=7", "dump"),
            (&["--tree", "7"], "--tree=7", ""),
            (&["--tr=7"], "--tree=7", ""),
            (&["-t", "-R"], "--tree=-R", ""),
            (&["-vvvv"], "--verbosity=vvv", ""),
            (&["-v4", "-v", "4"], "--verbosity=4 --verbosity", "4"),
            (&["--verb"], "--verbosity", ""),
            (&["--tcp-e", "--no-tcp-c"], "--tcp-established=true --tcp-close=false", ""),
            // As from $(ps -o ppid=), and as atoi(3) reads it.
            (&["--port", " 9 ", "-o", " a "], "--port=9 --log-file= a ", ""),
            // The exact name wins over a longer one.
            (&["--tls", "--no-tls"], "--tls=true --tls=false", ""),
            (&["a", "--", "-R", "--", "b"], "", "a -R -- b"),
            (&["-"], "", "-"),
        ] {
            assert_eq!(read(args), Ok((options.into(), words.into())), "{args:?}");
        }
    }

    #[test]
    fn options_that_criu_does_not_have_are_left_out_for_criu() {
        let arg = |long: &'static str| Arg::new(long).long(long);
        let more =
            Options::of(&Command::new("x").args([
                arg("json").action(ArgAction::SetTrue),
                arg("criu").action(ArgAction::Set),
            ]));
        let args = ["check", "--criu", "/c", "--tree", "--json", "--json", "--criu=/d", "--", "-v"];
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        let line = options().and(more).read(&args).unwrap();
        assert_eq!(line.for_criu(&args), ["check", "--tree", "--json", "--", "-v"]);
        assert_eq!(line.value("--criu"), Some(OsStr::new("/d")));
        assert_eq!(line.value("--cri"), None);
    }

    #[test]
    fn what_is_unclear_is_said() {
        let unknown = |name: &str| Err(Unclear::Unknown(name.into()));
        assert_eq!(read(&["--no-leave-running"]), unknown("--no-leave-running"));
        assert_eq!(read(&["-Rq"]), unknown("-q"));
        assert_eq!(read(&["-t"]), Err(Unclear::NoValue("-t".into())));
        assert_eq!(read(&["--tree"]), Err(Unclear::NoValue("--tree".into())));
        assert_eq!(read(&["--leave-running=1"]), Err(Unclear::Value("--leave-running".into())));
        let names = ["--tcp-established", "--tcp-close"].map(String::from).into();
        assert_eq!(read(&["--tcp"]), Err(Unclear::Ambiguous("--tcp".into(), names)));
    }
}
