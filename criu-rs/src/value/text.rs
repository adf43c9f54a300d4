//! Text from other programs, made fit for a terminal.

use criu_images::Text;

/// Returns text fit for a terminal: control and format characters except tabs and newlines are
/// escaped.
pub(crate) fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .trim_end()
        .chars()
        .flat_map(|c| {
            let escape = Text::hides(c) && c != '\t' && c != '\n';
            let escaped = escape.then(|| c.escape_default());
            (!escape).then_some(c).into_iter().chain(escaped.into_iter().flatten())
        })
        .collect()
}
