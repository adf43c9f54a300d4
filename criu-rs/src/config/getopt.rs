//! Words of a configuration file, read as the command line of a program is.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::names::{NAMES, Name, Takes, of_letter};

/// A word of a file, with the number of its line.
pub(super) type Word = (usize, Vec<u8>);

/// An option as it is read: its line, its name without dashes, and its value.
pub(super) type Given = (usize, String, Option<OsString>);

/// Reads the words of one file. Words that are neither options nor values are skipped, as the value
/// of an option that takes none.
///
/// # Errors
/// The line of an option that CRIU refuses, and the reason.
pub(super) fn read(words: &[Word]) -> Result<Vec<Given>, (usize, String)> {
    let mut given = Vec::new();
    let mut rest = words.iter();
    while let Some((line, word)) = rest.next() {
        let next = || rest.next().map(|(_, value)| value.clone());
        let read = match word.as_slice() {
            b"--" => break,
            [b'-', b'-', option @ ..] => long(option, next).map(|option| vec![option]),
            [b'-', letters @ ..] if !letters.is_empty() => short(letters, next),
            _ => continue,
        };
        let read = read.map_err(|problem| (*line, problem))?;
        given.extend(
            read.into_iter().map(|(name, value)| (*line, name, value.map(OsString::from_vec))),
        );
    }
    Ok(given)
}

type Read = (String, Option<Vec<u8>>);

/// Reads `name` or `name=value`. `next` takes the next word, whatever it is.
fn long(option: &[u8], next: impl FnOnce() -> Option<Vec<u8>>) -> Result<Read, String> {
    let equals = option.iter().position(|byte| *byte == b'=');
    let (name, value) = match equals {
        Some(at) => (&option[..at], Some(option[at + 1..].to_vec())),
        None => (option, None),
    };
    let (name, takes) = find(name)?;
    match (takes, value) {
        (Some(Takes::Nothing | Takes::Switch), Some(_)) => Err(format!("{name} takes no value")),
        (Some(Takes::Value), None) => match next() {
            Some(value) => Ok((name, Some(value))),
            None => Err(format!("{name} needs a value")),
        },
        (_, value) => Ok((name, value)),
    }
}

/// Reads letters such as `-R` or `-t5`.
fn short(letters: &[u8], next: impl FnOnce() -> Option<Vec<u8>>) -> Result<Vec<Read>, String> {
    let mut read = Vec::new();
    let mut rest = letters;
    while let [letter, more @ ..] = rest {
        let shown = char::from(*letter).escape_default();
        let name = of_letter(*letter).ok_or_else(|| format!("CRIU has no option -{shown}"))?;
        let value = match (name.takes, more.is_empty()) {
            (Takes::Nothing | Takes::Switch, _) => {
                read.push((name.long.to_owned(), None));
                rest = more;
                continue;
            }
            (Takes::Perhaps, true) => None,
            (Takes::Value, true) => match next() {
                Some(value) => Some(value),
                None => return Err(format!("-{shown} needs a value")),
            },
            (_, false) => Some(more.to_vec()),
        };
        read.push((name.long.to_owned(), value));
        break;
    }
    Ok(read)
}

/// Finds an option by its name or by the beginning of one name alone. An option that is not known
/// has no kind: a newer CRIU may have it.
fn find(word: &[u8]) -> Result<(String, Option<Takes>), String> {
    let text = String::from_utf8_lossy(word).into_owned();
    if let Some(takes) = exact(word) {
        return Ok((text, Some(takes)));
    }
    let found: Vec<(&str, &Name)> = NAMES.iter().flat_map(|name| begun(name, word)).collect();
    match found.as_slice() {
        [] => Ok((text, None)),
        [(before, name)] => Ok((format!("{before}{}", name.long), Some(name.takes))),
        several => {
            let full = |(before, name): &(&str, &Name)| format!("{before}{}", name.long);
            let several: Vec<String> = several.iter().map(full).collect();
            let text = text.escape_debug();
            Err(format!("`{text}` may stand for {}", several.join(", ")))
        }
    }
}

/// Returns the kind of the option that has this name, or that the switch of this name undoes.
fn exact(word: &[u8]) -> Option<Takes> {
    let undone = word.strip_prefix(UNDO.as_bytes());
    let is = |name: &&Name| {
        let long = name.long.as_bytes();
        long == word || name.takes == Takes::Switch && undone == Some(long)
    };
    NAMES.iter().find(is).map(|name| name.takes)
}

/// Returns the names of an option that begin with a word, each as the text before the option's own
/// name and the option.
fn begun<'a>(
    name: &'a Name,
    word: &[u8],
) -> impl Iterator<Item = (&'static str, &'a Name)> + use<'a> {
    let long = name.long.as_bytes();
    let own = long.starts_with(word).then_some(("", name));
    let rest = word.strip_prefix(UNDO.as_bytes());
    let undoes =
        UNDO.as_bytes().starts_with(word) || rest.is_some_and(|rest| long.starts_with(rest));
    let undone = (name.takes == Takes::Switch && undoes).then_some((UNDO, name));
    own.into_iter().chain(undone)
}

/// Says whether a name is one of CRIU's up to version 4.3.
pub(super) fn is_known(name: &str) -> bool {
    exact(name.as_bytes()).is_some()
}

/// The beginning of a switch that undoes another.
const UNDO: &str = "no-";

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<Word> {
        (1..).zip(words.iter().map(|word| word.as_bytes().to_vec())).collect()
    }

    fn told(list: &[&str]) -> Result<Vec<String>, (usize, String)> {
        let tell = |(line, name, value): Given| match value {
            Some(value) => format!("{line} {name}={}", value.to_string_lossy()),
            None => format!("{line} {name}"),
        };
        Ok(read(&words(list))?.into_iter().map(tell).collect())
    }

    #[test]
    fn options_are_read_as_by_getopt() {
        for (list, expected) in [
            (&["--tree", "7", "--tcp-close"][..], &["1 tree=7", "3 tcp-close"][..]),
            (&["--tree=7"], &["1 tree=7"]),
            // A value that an optional one could have been is no option.
            (&["--manage-cgroups", "full"], &["1 manage-cgroups"]),
            (&["--manage-cgroups=full"], &["1 manage-cgroups=full"]),
            // The next word is the value, whatever it is.
            (&["--external", "--tcp-close"], &["1 external=--tcp-close"]),
            (&["--tcp-close", "-Rt5"], &["1 tcp-close", "2 leave-running", "2 tree=5"]),
            (&["--tcp-close", "-v"], &["1 tcp-close", "2 verbosity"]),
            (&["--no-tcp-close"], &["1 no-tcp-close"]),
            (&["--netw", "skip"], &["1 network-lock=skip"]),
            (&["--no-tcp-c", "--page-server"], &["1 no-tcp-close", "2 page-server"]),
            // The whole name of an option with which another begins, too.
            (
                &["--ext-mount-map=a", "--tls", "--compress"],
                &["1 ext-mount-map=a", "2 tls", "3 compress"],
            ),
            (&["--tcp-close", "word", "--", "--tree", "7"], &["1 tcp-close"]),
            // A newer CRIU may know it.
            (&["--brand-new", "x"], &["1 brand-new"]),
        ] {
            assert_eq!(told(list).unwrap(), expected, "{list:?}");
        }
    }

    #[test]
    fn options_that_getopt_refuses_are_refused() {
        for (list, line, part) in [
            (&["--tcp-close", "--t", "5"][..], 2, "may stand for"),
            (&["--no-t"], 1, "no-tcp-established, no-track-mem, no-tcp-close, no-tls"),
            (&["--tcp-close=yes"], 1, "takes no value"),
            (&["--tree"], 1, "needs a value"),
            (&["--tcp-close", "-q"], 2, "no option -q"),
            (&["--tcp-close", "-D"], 2, "needs a value"),
        ] {
            let (found, problem) = told(list).unwrap_err();
            assert_eq!(found, line, "{list:?}");
            assert!(problem.contains(part), "{problem}");
        }
    }
}
