//! JSON that is safe inside of HTML, and whose strings hide nothing.

use std::io::{self, Write};

use criu_images::Text;
use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};

/// Returns a value as JSON that can stand in a `<script>` element.
///
/// No string holds `<`, `>` or `&`. Characters that act on others or that nobody sees are shown in
/// escaped form, as [`Text`] does.
pub(super) fn json(value: &impl Serialize) -> String {
    let mut bytes = Vec::new();
    let written = value.serialize(&mut Serializer::with_formatter(&mut bytes, Safe));
    // Neither the rows nor a vector in memory can fail.
    let text = written.ok().and_then(|()| String::from_utf8(bytes).ok());
    text.unwrap_or_else(|| "null".to_owned())
}

/// Returns text for an element or an attribute of HTML.
pub(super) fn html(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in Text(text.as_bytes()).to_string().chars() {
        match char {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            _ => safe.push(char),
        }
    }
    safe
}

struct Safe;

impl Formatter for Safe {
    fn write_string_fragment<W>(&mut self, to: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + Write,
    {
        let is_plain = |byte: &u8| byte.is_ascii() && !b"<>&\x7f".contains(byte);
        if fragment.as_bytes().iter().all(is_plain) {
            return to.write_all(fragment.as_bytes());
        }
        for char in fragment.chars() {
            match char {
                '<' | '>' | '&' => write!(to, "\\u{:04x}", u32::from(char))?,
                // The page shows the escape, so the backslash is escaped once more.
                char if Text::hides(char) => write!(to, "\\{}", char.escape_default())?,
                char => write!(to, "{char}")?,
            }
        }
        Ok(())
    }

    fn write_char_escape<W>(&mut self, to: &mut W, escape: CharEscape) -> io::Result<()>
    where
        W: ?Sized + Write,
    {
        match escape {
            CharEscape::Quote => to.write_all(b"\\\""),
            CharEscape::ReverseSolidus => to.write_all(b"\\\\"),
            CharEscape::Solidus => to.write_all(b"/"),
            CharEscape::Tab => to.write_all(b"\\\\t"),
            CharEscape::LineFeed => to.write_all(b"\\\\n"),
            CharEscape::CarriageReturn => to.write_all(b"\\\\r"),
            CharEscape::Backspace => to.write_all(b"\\\\u{8}"),
            CharEscape::FormFeed => to.write_all(b"\\\\u{c}"),
            CharEscape::AsciiControl(byte) => write!(to, "\\\\u{{{byte:x}}}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_ends_no_script_and_hides_nothing() {
        let text = "</script><!-- \u{202e}\u{2028}\u{e000} \u{7f}\n\t\x1b \"\\ gr\u{fc}n";
        let json = json(&[text]);
        assert!(!json.contains(['<', '>', '&']), "{json}");
        assert!(json.chars().all(|char| !Text::hides(char)), "{json}");
        let [back]: [String; 1] = serde_json::from_str(&json).unwrap();
        assert_eq!(back, Text(text.as_bytes()).to_string());
    }

    #[test]
    fn markup_becomes_text() {
        assert_eq!(html("<a b='\"'>\u{202e}&"), "&lt;a b=&#39;&quot;&#39;&gt;\\u{202e}&amp;");
    }
}
