//! Names and paths from images, made safe for a terminal.

use std::fmt::{self, Write};

/// Bytes that should be text, as CRIU's strings. Displays control and format characters, and bytes
/// that are not UTF-8, in escaped form.
///
/// ```
/// let path = criu_images::Text(b"/tmp/\x1b[2Ja");
/// assert_eq!(path.to_string(), "/tmp/\\u{1b}[2Ja");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<'a>(pub &'a [u8]);

impl Text<'_> {
    /// Returns true for a character that acts on a terminal or on other characters, or that nobody
    /// sees: control and format characters, separators of lines, blanks other than a space,
    /// characters for private use, and those that Unicode does not have. Bidirectional overrides
    /// and tags are format characters.
    ///
    /// ```
    /// use criu_images::Text;
    ///
    /// let hidden = ['\n', '\u{202e}', '\u{200b}', '\u{feff}', '\u{e0041}'];
    /// assert!(hidden.map(Text::hides) == [true; 5]);
    /// assert!(['a', ' ', '\u{fc}', '\u{93f}'].map(Text::hides) == [false; 4]);
    /// ```
    pub fn hides(char: char) -> bool {
        if char.is_ascii() {
            return char.is_ascii_control();
        }
        // The lines of trees and tables are most of what is not ASCII, and the rest takes long.
        if matches!(char, '\u{2500}'..='\u{257f}') {
            return false;
        }
        // Characters without a shape that the standard library takes for letters and marks.
        let is_blank = matches!(
            char,
            '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
                | '\u{2800}' | '\u{3164}' | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}'
        );
        // Behind a letter, so that marks of scripts that combine them are left as they are.
        let mut text = [0; 5];
        let (letter, rest) = text.split_at_mut(1);
        letter.fill(b'a');
        let len = 1 + char.encode_utf8(rest).len();
        let text = text.get(..len).and_then(|text| std::str::from_utf8(text).ok());
        is_blank || text.is_none_or(|text| text.escape_debug().count() > 2)
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for char in chunk.valid().chars() {
                if Self::hides(char) {
                    char.escape_default().fmt(f)?;
                } else {
                    f.write_char(char)?;
                }
            }
            chunk.invalid().escape_ascii().fmt(f)?;
        }
        Ok(())
    }
}

/// Formats a number with its noun: "1 page", "2 pages", "2 watches", "2 entries".
pub(crate) fn count<N: fmt::Display + PartialEq + From<u8>>(number: N, noun: &str) -> String {
    if number == N::from(1) {
        return format!("{number} {noun}");
    }
    match noun.strip_suffix('y') {
        Some(stem) => format!("{number} {stem}ies"),
        None if noun.ends_with(['h', 's']) => format!("{number} {noun}es"),
        None => format!("{number} {noun}s"),
    }
}

/// Returns "is" for one and "are" for any other number.
pub(crate) fn are(number: u64) -> &'static str {
    if number == 1 { "is" } else { "are" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_no_format_characters() {
        let mut hidden: Vec<char> = ('\0'..' ').chain('\u{7f}'..='\u{9f}').collect();
        hidden.extend(['\u{61c}', '\u{feff}', '\u{ad}', '\u{e000}', '\u{f0000}', '\u{ffff}']);
        hidden.extend(('\u{200b}'..='\u{200f}').chain('\u{2028}'..='\u{202e}'));
        hidden.extend(('\u{2060}'..='\u{206f}').chain('\u{e0000}'..='\u{e007f}'));
        for char in hidden {
            let shown = Text(format!("a{char}b").as_bytes()).to_string();
            assert!(shown.is_ascii() && shown.starts_with("a\\"), "{shown:?}");
        }
        // Text of people: precomposed and combined letters, scripts with marks, signs.
        for plain in
            ["gr\u{fc}\u{df}e", "e\u{301}", "\u{939}\u{93f}", "\u{e01}\u{e34}", "\u{1f980}"]
        {
            assert_eq!(Text(plain.as_bytes()).to_string(), plain);
        }
    }

    #[test]
    fn a_terminal_gets_no_control_characters() {
        let text = Text(b"gr\xc3\xbc\xc3\x9fe \x1b[2J\xff\n");
        assert_eq!(text.to_string(), "gr\u{fc}\u{df}e \\u{1b}[2J\\xff\\n");
    }
}
