//! Text and JSON that a terminal shows without acting on them. Names in messages, images and logs
//! are those that strangers chose.

use std::fmt::{self, Write as _};
use std::io;

use criu_images::Text;
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// A value whose text has no control or format characters, except tabs and newlines.
pub(crate) struct Shown<T>(pub(crate) T);

impl<T: fmt::Display> fmt::Display for Shown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaped(f), "{}", self.0)
    }
}

struct Escaped<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl fmt::Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive(acts) {
            let last = part.chars().next_back().filter(|char| acts(*char));
            let plain = part.len() - last.map_or(0, char::len_utf8);
            self.0.write_str(&part[..plain])?;
            if let Some(char) = last {
                write!(self.0, "{}", char.escape_default())?;
            }
        }
        Ok(())
    }
}

/// Escapes text as [`Shown`] does, but leaves colours, which this program adds to its messages.
/// The names in them have no control characters any more.
pub(crate) fn styled(text: &str) -> String {
    let mut shown = String::new();
    for (number, part) in text.split("\x1b[").enumerate() {
        let is_style = |text: &str| text.bytes().all(|byte| byte == b';' || byte.is_ascii_digit());
        match part.split_once('m') {
            _ if number == 0 => {}
            Some((style, _)) if is_style(style) => shown.push_str("\x1b["),
            _ => shown.push_str("\\u{1b}["),
        }
        let _ = write!(shown, "{}", Shown(part));
    }
    shown
}

/// Returns text in one line.
pub(crate) fn one_line(text: &str) -> String {
    Text(text.as_bytes()).to_string()
}

/// Writes a value as JSON on one line. Control and format characters are escaped: the strings are
/// the same for a parser, and harmless for a terminal.
pub(crate) fn write_json<T: Serialize + ?Sized>(to: impl io::Write, value: &T) -> io::Result<()> {
    value.serialize(&mut Serializer::with_formatter(to, Harmless)).map_err(io::Error::from)
}

/// Returns a value as JSON on one line, as [`write_json`] writes it.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    write_json(&mut text, value)?;
    Ok(text)
}

struct Harmless;

impl Formatter for Harmless {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        to: &mut W,
        text: &str,
    ) -> io::Result<()> {
        for part in text.split_inclusive(Text::hides) {
            let last = part.chars().next_back().filter(|char| Text::hides(*char));
            let plain = part.len() - last.map_or(0, char::len_utf8);
            to.write_all(&part.as_bytes()[..plain])?;
            let mut units = [0; 2];
            for unit in last.iter().flat_map(|char| char.encode_utf16(&mut units).to_vec()) {
                write!(to, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }
}

fn acts(char: char) -> bool {
    char != '\n' && char != '\t' && Text::hides(char)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NASTY: &str = "a\u{202e}b\u{2066}\x1b[2J\u{9b}1m\r\u{feff}\u{e0041}\u{7f}z";

    #[test]
    fn text_has_no_characters_that_act() {
        let shown = Shown(format_args!("{NASTY}\n\tend")).to_string();
        let want = "a\\u{202e}b\\u{2066}\\u{1b}[2J\\u{9b}1m\\r\\u{feff}\\u{e0041}\\u{7f}z\n\tend";
        assert_eq!(shown, want);
        assert_eq!(styled("\x1b[1;31mred\x1b[0m \x1b[2J\r"), "\x1b[1;31mred\x1b[0m \\u{1b}[2J\\r");
        assert_eq!(one_line("a\nb"), "a\\nb");
    }

    #[test]
    fn json_has_the_same_strings_and_no_characters_that_act() {
        let value = serde_json::json!({ NASTY: [NASTY, "gr\u{fc}n\n\0\"\\"] });
        let text = String::from_utf8(json(&value).unwrap()).unwrap();
        assert!(!text.chars().any(Text::hides), "{text}");
        assert!(text.contains("\\u202e") && text.contains("\\udb40\\udc41"), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
