//! A line of a configuration file, cut into words.

/// The name in a line as an argument with dashes, and the value if there is one.
pub(super) type Words = Option<(Vec<u8>, Option<Vec<u8>>)>;

/// Cuts a line as CRIU does. `None`: the line is empty or a comment.
///
/// - A line is a name, or a name and a value after blanks. A value in double quotes may have blanks
///   and, after a backslash, quotes.
/// - A comment begins at the first `#`, even inside quotes. A `#` within a name belongs to the
///   name.
/// - A NUL ends a line.
///
/// # Errors
/// Says why CRIU refuses the line.
pub(super) fn words(line: &[u8]) -> Result<Words, &'static str> {
    let line = until(line, 0);
    let input = until(line, b'\n');
    let start = input.iter().position(|byte| !is_blank(*byte)).unwrap_or(input.len());
    let input = input.get(start..).unwrap_or_default();
    // A last line of blanks alone, without a line's end, is a name without letters for CRIU.
    let has_text = !input.is_empty() || !line.is_empty() && !line.contains(&b'\n');
    if !has_text || input.first() == Some(&b'#') {
        return Ok(None);
    }
    let space = |of: u8| input.iter().position(|byte| *byte == of);
    let Some(end) = space(b' ').or_else(|| space(b'\t')) else {
        return Ok(Some((named(input), None)));
    };
    let name = named(input.get(..end).unwrap_or_default());
    let rest = input.get(end + 1..).unwrap_or_default();
    let value = rest.iter().position(|byte| !is_blank(*byte)).unwrap_or(rest.len());
    match rest.get(value) {
        Some(b'#') => Ok(Some((name, None))),
        Some(b'"') => quoted(input, end + 1 + value).map(|value| Some((name, Some(value)))),
        _ => {
            let value = rest.get(value..).unwrap_or_default();
            let looked_at = value.iter().position(|byte| *byte == b' ').unwrap_or(0);
            finished(value, looked_at).map(|value| Some((name, Some(value))))
        }
    }
}

/// Returns the value whose first quote stands at this column of the line.
fn quoted(input: &[u8], column: usize) -> Result<Vec<u8>, &'static str> {
    let start = column + 1;
    match input.get(start) {
        None => return Err("a quote without an end"),
        Some(b'"') => return finished(b"", 0),
        Some(_) => {}
    }
    let is_end = |at: &usize| input.get(*at) == Some(&b'"') && input.get(at - 1) != Some(&b'\\');
    let end = (start + 1..input.len()).find(is_end).ok_or("a quote without an end")?;
    let rest = input.get(end + 1..).unwrap_or_default();
    if rest.contains(&b' ') {
        let mut looked_at = rest.get(..rest.len() - 1).unwrap_or_default().iter();
        let strange = looked_at.find(|byte| **byte == b'#' || !is_blank(**byte));
        if strange.is_some_and(|byte| *byte != b'#') {
            return Err("text after the closing quote");
        }
    }
    finished(input.get(start..end).unwrap_or_default(), start + 1)
}

/// Takes backslashes and a comment out of a value, and looks for blanks in the rest of it.
///
/// CRIU keeps the same number for a column of the line and a column of the value. So blanks inside
/// quotes are accepted only up to the column at which the value began. `looked_at` is that number.
///
/// The number can lie behind the end of the value. CRIU then looks at memory of unknown content,
/// and refuses the line if there is a blank in it. CRIU 4.3 refuses one to three runs of a hundred
/// with a line such as `network-lock \"\"\"  `, whose value has quotes with backslashes and no
/// quotes around. Here nothing lies behind the end.
fn finished(value: &[u8], mut looked_at: usize) -> Result<Vec<u8>, &'static str> {
    // CRIU works in place, and may look at what an earlier step has left behind.
    let mut buffer = value.to_vec();
    buffer.push(0);
    if value.windows(2).any(|pair| pair == ESCAPED) {
        let is_escape = |at: usize| value.get(at..at + 2) == Some(ESCAPED);
        let kept = value.iter().enumerate().filter(|(at, _)| !is_escape(*at));
        let kept: Vec<u8> = kept.map(|(_, byte)| *byte).collect();
        looked_at += value.len() - kept.len() + 1;
        write_at_start(&mut buffer, &kept);
    }
    if let Some(comment) = string(&buffer, 0).iter().position(|byte| *byte == b'#') {
        let kept = buffer.get(..comment).unwrap_or_default().to_vec();
        write_at_start(&mut buffer, &kept);
    }
    let seen = string(&buffer, looked_at);
    if let Some(blank) = seen.iter().position(|byte| *byte == b' ') {
        let looked_over = seen.get(..seen.len() - 1).unwrap_or_default();
        if !looked_over.iter().all(|byte| is_blank(*byte)) {
            return Err(
                "more than one value, or a value with blanks whose quote stands too far left",
            );
        }
        let kept = buffer.get(..looked_at + blank).unwrap_or_default().to_vec();
        write_at_start(&mut buffer, &kept);
    }
    Ok(string(&buffer, 0).to_vec())
}

/// Writes a shorter text over the beginning of a buffer, with a NUL behind it.
fn write_at_start(buffer: &mut [u8], text: &[u8]) {
    for (place, byte) in buffer.iter_mut().zip(text.iter().chain([&0])) {
        *place = *byte;
    }
}

/// Returns the text from a place up to the next NUL.
fn string(buffer: &[u8], from: usize) -> &[u8] {
    until(buffer.get(from..).unwrap_or_default(), 0)
}

/// Returns the bytes before the first `end`.
fn until(bytes: &[u8], end: u8) -> &[u8] {
    bytes.split(|byte| *byte == end).next().unwrap_or_default()
}

fn named(name: &[u8]) -> Vec<u8> {
    [b"--", name].concat()
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// A quote inside a value.
const ESCAPED: &[u8] = b"\\\"";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<(String, Option<String>)> {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        words(line.as_bytes()).unwrap().map(|(name, value)| (text(name), value.map(text)))
    }

    #[test]
    fn lines_are_cut_as_by_criu() {
        for empty in ["\n", "", "  \t\n", "# note\n", "   # note\n", "\0tcp-close\n"] {
            assert_eq!(read(empty), None, "{empty:?}");
        }
        for (line, name, value) in [
            ("tcp-close\n", "--tcp-close", None),
            ("  tcp-close", "--tcp-close", None),
            ("tcp-close#note\n", "--tcp-close#note", None),
            ("tcp-close # note\n", "--tcp-close", None),
            ("  ", "--", None),
            ("tcp-close \n", "--tcp-close", Some("")),
            ("tree 7\n", "--tree", Some("7")),
            ("tree\t7\n", "--tree", Some("7")),
            // A name ends at the first space if there is one, and else at a tab.
            ("tree\t7 # root\n", "--tree\t7", None),
            ("tree   7#root\n", "--tree", Some("7")),
            ("verbosity=4 \n", "--verbosity=4", Some("")),
            ("tree \"7\" # root\n", "--tree", Some("7")),
            ("tree \"\"\n", "--tree", Some("")),
            ("tree \"a#b\"\n", "--tree", Some("a")),
            ("lsm-profile \"a b\"\n", "--lsm-profile", Some("a b")),
            ("lsm-profile \"a\\\"b\"\n", "--lsm-profile", Some("a\"b")),
            ("tree 7\0 8\n", "--tree", Some("7")),
            // The second word has one letter, and CRIU does not look at the last.
            ("tree 7 8\n", "--tree", Some("7")),
        ] {
            let value = value.map(str::to_owned);
            assert_eq!(read(line), Some((name.into(), value)), "{line:?}");
        }
    }

    #[test]
    fn lines_that_criu_refuses_are_refused() {
        for line in [
            "tree \"",
            "tree \"7",
            "tree \"7\\\"\n",
            "tree 7 89\n",
            "tree \"7\" 89\n",
            // Blanks right of the column at which the value began.
            "root \"/a/b/c/d/e f\"\n",
        ] {
            assert!(words(line.as_bytes()).is_err(), "{line:?}");
        }
    }
}
