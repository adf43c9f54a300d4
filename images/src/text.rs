//! Names and paths from images, made safe for a terminal.

use std::fmt::{self, Write};

/// Bytes that should be text, as CRIU's strings. Displays control characters, and bytes that are
/// not UTF-8, in escaped form.
///
/// ```
/// let path = criu_images::Text(b"/tmp/\x1b[2Ja");
/// assert_eq!(path.to_string(), "/tmp/\\u{1b}[2Ja");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<'a>(pub &'a [u8]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for char in chunk.valid().chars() {
                if char.is_control() {
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
    fn a_terminal_gets_no_control_characters() {
        let text = Text(b"gr\xc3\xbc\xc3\x9fe \x1b[2J\xff\n");
        assert_eq!(text.to_string(), "gr\u{fc}\u{df}e \\u{1b}[2J\\xff\\n");
    }
}
