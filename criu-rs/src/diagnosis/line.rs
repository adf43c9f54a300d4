//! A line of CRIU's log.

/// A line of CRIU's log or output, taken apart:
/// `(00.012345)    49: Error (criu/cgroup.c:1308): cg: Can't move 49 into ...`.
///
/// A log quotes names that strangers chose, and such a name may hold newlines and whole lines of a
/// log. So the place counts, never a word in the middle of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// Microseconds since the start of the operation. `None` at log levels without time stamps.
    pub(super) stamp: Option<u64>,
    /// The restored task that wrote the line. `None` for criu's main process.
    pub(super) task: Option<i32>,
    /// True for a line of CRIU's code inside a task (`pie`).
    pub(super) is_inside: bool,
    /// The level, as far as a line names it.
    pub(super) level: Level,
    /// The line from `Error` on, or all that follows the time stamp.
    pub(super) body: &'a str,
    /// The message, without the place in CRIU's source.
    pub(super) text: &'a str,
}

/// The level of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Error,
    Warning,
    Other,
}

impl<'a> Line<'a> {
    pub(super) fn read(line: &'a str) -> Self {
        let (stamp, rest) = stamp(line).map_or((None, line), |(at, rest)| (Some(at), rest));
        let trimmed = rest.trim_start_matches(' ');
        let pie = trimmed.strip_prefix("pie: ");
        let named = number(pie.unwrap_or(trimmed));
        let body = named.map_or(pie.unwrap_or(rest), |(_, body)| body);
        let of = |word| after_place(body.strip_prefix(word)?);
        let (level, text) = match (of("Error ("), of("Warn  (")) {
            (Some(text), _) => (Level::Error, text),
            (None, Some(text)) => (Level::Warning, text),
            (None, None) => (Level::Other, body),
        };
        let task = named.map(|(task, _)| task);
        Self { stamp, task, is_inside: pie.is_some(), level, body, text: text.trim() }
    }

    pub(super) fn is_error(&self) -> bool {
        self.level == Level::Error
    }
}

/// Reads `(00.012345) `. From 100 seconds on CRIU drops the last digit.
fn stamp(line: &str) -> Option<(u64, &str)> {
    let (inner, rest) = line.strip_prefix('(')?.split_once(") ")?;
    let (seconds, fraction) = inner.split_once('.')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !is_number(seconds) || !is_number(fraction) || fraction.len() > 6 {
        return None;
    }
    let micros = format!("{fraction:0<6}").parse::<u64>().ok()?;
    Some((seconds.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(micros)?, rest))
}

/// Reads `49: `.
fn number(text: &str) -> Option<(i32, &str)> {
    let (number, rest) = text.split_once(": ")?;
    Some((number.parse().ok()?, rest))
}

/// Returns what follows `criu/cgroup.c:1308): `.
fn after_place(text: &str) -> Option<&str> {
    let (place, rest) = text.split_once("): ")?;
    let (file, line) = place.rsplit_once(':')?;
    let is_path = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'-' | b'_');
    let is_place = file.bytes().all(is_path) && line.bytes().all(|b| b.is_ascii_digit());
    (is_place && !line.is_empty()).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_apart() {
        let line = "(00.012345)     49: Error (criu/cgroup.c:1308): cg: Can't move 49";
        let read = Line::read(line);
        assert_eq!((read.stamp, read.task, read.level), (Some(12345), Some(49), Level::Error));
        assert_eq!(read.body, "Error (criu/cgroup.c:1308): cg: Can't move 49");
        assert_eq!(read.text, "cg: Can't move 49");
        let read = Line::read("pie: 4: Error (criu/pie/restorer.c:360): Unable to x: -1");
        assert_eq!((read.stamp, read.task, read.is_inside), (None, Some(4), true));
        assert_eq!(read.text, "Unable to x: -1");
        let read = Line::read("(135.00123) Warn  (compel/src/lib/infect.c:1): ptrace (x): y");
        assert_eq!((read.stamp, read.level), (Some(135_001_230), Level::Warning));
        assert_eq!(read.text, "ptrace (x): y");
    }

    #[test]
    fn a_name_in_a_line_makes_no_error_of_it() {
        for line in [
            "(00.01) Dumping path for fd 3: /tmp/Error (criu/x.c:1): no",
            "(00.01) Error (of a name) no place): no",
            "(00.01) Error (criu/x.c:one): no",
            "(00.x1) 5: Error (criu/x.c:1): no",
        ] {
            assert_eq!(Line::read(line).level, Level::Other, "{line}");
        }
    }
}
