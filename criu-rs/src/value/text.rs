//! Text from other programs, made fit for a terminal.

/// Returns text fit for a terminal: control characters except tabs and newlines are escaped.
pub(crate) fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .trim_end()
        .chars()
        .flat_map(|c| {
            let escape = c.is_control() && c != '\t' && c != '\n';
            let escaped = escape.then(|| c.escape_default());
            (!escape).then_some(c).into_iter().chain(escaped.into_iter().flatten())
        })
        .collect()
}
