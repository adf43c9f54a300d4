//! CRIU's log, and the search for the error in it.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::line::{Level, Line};
use crate::bounds;
use crate::value::printable;

/// The first error in a log that is not known to be harmless.
///
/// Control characters are escaped, since a log quotes names that strangers chose.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogExcerpt {
    /// The log's name in the work directory.
    pub file: String,
    /// The line number of the error, from 1.
    pub line: u64,
    /// Up to five lines before the error.
    pub before: Vec<String>,
    /// The line with the error. A name in it may hold newlines, which are written as `\n`.
    pub error: String,
    /// Up to 31 other errors: earlier ones from inside of tasks, and later ones.
    pub more: Vec<String>,
}

impl fmt::Display for LogExcerpt {
    /// Shows several lines, like `grep -n -B5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.file, self.line)?;
        for line in self.before.iter().chain([&self.error]) {
            write!(f, "\n  {line}")?;
        }
        Ok(())
    }
}

/// The place of an operation's log, with a stamp of the file that was there before.
#[derive(Debug)]
pub(crate) struct LogPlace {
    directory: OwnedFd,
    name: String,
    before: Option<Stamp>,
}

/// A stamp that distinguishes the log of this run from the log of an earlier run: inode,
/// modification time and size.
type Stamp = (u64, i64, i64, u64);

impl LogPlace {
    pub(crate) fn new(directory: OwnedFd, name: &[u8]) -> Self {
        let mut place =
            Self { directory, name: String::from_utf8_lossy(name).into_owned(), before: None };
        place.before = place.open().ok().and_then(|file| stamp(&file));
        place
    }

    /// The log at a path from the work directory. `None` if its folder cannot be opened, which CRIU
    /// will report.
    pub(crate) fn at(work: &OwnedFd, path: &Path) -> Option<Self> {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = openat(work.as_fd(), folder, flags, Mode::empty()).ok()?;
        Some(Self::new(directory, path.file_name()?.as_bytes()))
    }

    /// The name of the log in its directory, with its device and inode. `None` if there is none.
    pub(crate) fn identity(&self) -> Option<(OsString, u64, u64)> {
        let meta = self.open().ok()?.metadata().ok()?;
        Some((OsString::from(&self.name), meta.dev(), meta.ino()))
    }

    fn open(&self) -> io::Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let fd = openat(self.directory.as_fd(), self.name.as_str(), flags, Mode::empty())?;
        let file = File::from(fd);
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        Ok(file)
    }

    /// The first error that this run logged. `first` is the error that CRIU remembered as its
    /// first.
    ///
    /// # Errors
    /// Names the log if it cannot be read. CRIU creates it as its own user.
    pub(crate) fn excerpt(&self, first: Option<&str>) -> io::Result<Option<LogExcerpt>> {
        let file = match self.open() {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                let what = format!("cannot read {}: {error}", self.name);
                return Err(io::Error::new(error.kind(), what));
            }
        };
        if stamp(&file) == self.before {
            return Ok(None);
        }
        Ok(excerpt(&self.name, BufReader::new(file.take(bounds::LOG.get())), first))
    }
}

fn stamp(file: &File) -> Option<Stamp> {
    let meta = file.metadata().ok()?;
    Some((meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.size()))
}

/// Finds the first error in a log that is not harmless.
///
/// A log quotes names, and a name with a newline can hold what looks like an error. So the error is
/// the line that CRIU remembered as its first. Only the code that CRIU puts into tasks, and criu
/// before it knows its log, report errors that it does not remember. Errors of that code are kept
/// beside the remembered one. If no line is the remembered one, the first error counts.
///
/// A name can hold time stamps, too, but not the time at which it will be logged. So an error that
/// is not the remembered one counts only if its time fits between those of its neighbours. Many
/// names can try many times. So an error out of time takes the trust of all errors before it.
pub(crate) fn excerpt(
    file: &str,
    mut log: impl BufRead,
    first: Option<&str>,
) -> Option<LogExcerpt> {
    let first = first.filter(|first| !is_harmless(first));
    let mut found: Option<LogExcerpt> = None;
    // Criu itself vouches for the error that is found.
    let mut is_sure = false;
    // The errors that may be forged.
    let mut doubtful: Option<LogExcerpt> = None;
    let mut before: Vec<String> = Vec::new();
    let mut has_stamps = false;
    let mut has_begun = false;
    let mut is_after_error = false;
    // The line before is the error that criu vouches for.
    let mut is_after_main = false;
    let mut last = 0;
    // The stamp of the last error, if only its time speaks for it.
    let mut unsure: Option<u64> = None;
    for number in 1.. {
        let Some(line) = next_line(&mut log) else {
            break;
        };
        let read = Line::read(&line);
        let (mut is_late, mut fits) = (false, true);
        if let Some(stamp) = read.stamp {
            fits = stamp.saturating_add(JITTER) >= last;
            is_late = unsure.take().is_some_and(|unsure| stamp.saturating_add(JITTER) < unsure);
            last = if fits && !is_late { last.max(stamp) } else { stamp };
        }
        has_stamps |= read.stamp.is_some();
        has_begun |= read.stamp.is_some_and(|stamp| stamp > 0);
        // With time stamps, a line without one continues the line before it. So does a line that
        // names no level, if CRIU logs only warnings and errors.
        let is_line = read.stamp.is_some() || (!has_stamps && read.level != Level::Other);
        if !is_line && is_after_error {
            let excerpt = found.as_mut().or(doubtful.as_mut());
            if let Some(excerpt) = excerpt {
                let later = excerpt.more.last_mut().filter(|_| !is_after_main);
                let last = later.unwrap_or(&mut excerpt.error);
                if last.len() + line.len() < MAX_LINE {
                    last.push_str("\\n");
                    last.push_str(&line);
                }
            }
            continue;
        }
        let is_error = is_line && read.is_error() && !is_harmless(&line);
        is_after_error = is_error;
        let is_remembered = is_error && first.is_some_and(|first| is_same(read.body, first));
        let vouched = is_remembered || (is_error && has_stamps && !has_begun);
        let tries = is_error && !vouched && (first.is_none() || read.is_inside);
        if !is_sure && (is_late || (tries && !fits)) {
            // A line comes from the future, or from the past: names have forged it, and maybe more.
            doubtful = doubtful.or(found.take());
            before.retain(|line| !Line::read(line).is_error());
        }
        if !is_error {
            if !(is_sure || (is_line && read.is_error())) {
                keep(&mut before, &line);
            }
            continue;
        }
        let counts = vouched || (tries && fits);
        if counts && !vouched && !is_sure {
            unsure = read.stamp;
        }
        let begin = |before: &[String], error: &str, more| {
            let (file, before, error) = (file.to_owned(), before.to_vec(), error.to_owned());
            LogExcerpt { file, line: number, before, error, more }
        };
        is_after_main = vouched && !is_sure;
        if is_after_main {
            is_sure = true;
            let inside = found.take().map(|inside| {
                let mut lines = vec![inside.error];
                lines.extend(inside.more.into_iter().take(MORE_ERRORS - 1));
                lines
            });
            found = Some(begin(&before, &line, inside.unwrap_or_default()));
        } else {
            let place = if counts || found.is_some() { &mut found } else { &mut doubtful };
            match place {
                Some(excerpt) if excerpt.more.len() < MORE_ERRORS => {
                    excerpt.more.push(line.clone());
                }
                Some(_) => {}
                None => *place = Some(begin(&before, &line, vec![])),
            }
            if counts && !is_sure {
                keep(&mut before, &line);
            }
        }
        let is_full = found.as_ref().is_some_and(|excerpt| excerpt.more.len() == MORE_ERRORS);
        if is_sure && is_full {
            break;
        }
    }
    found.or(doubtful)
}

/// Keeps one of the last lines before an error.
fn keep(before: &mut Vec<String>, line: &str) {
    if before.len() == LINES_BEFORE {
        before.remove(0);
    }
    before.push(line.to_owned());
}

/// Says whether the text of a line is the text that CRIU remembered. A log has only the first line
/// of a text with newlines at that place, and CRIU's memory has only the beginning of a long text.
fn is_same(body: &str, remembered: &str) -> bool {
    match remembered.split_once('\n') {
        Some((line, _)) => body.trim_end() == line.trim_end(),
        None if remembered.len() >= REMEMBERED => {
            body.starts_with(remembered.trim_end_matches(char::REPLACEMENT_CHARACTER))
        }
        None => body == remembered,
    }
}

/// The next line, cut to [`MAX_LINE`] bytes, with control characters escaped.
fn next_line(log: &mut impl BufRead) -> Option<String> {
    let mut line = Vec::new();
    let mut ended = false;
    let mut any = false;
    while !ended {
        let Ok(chunk) = log.fill_buf() else { break };
        if chunk.is_empty() {
            break;
        }
        any = true;
        let end = chunk.iter().position(|&byte| byte == b'\n');
        let taken = end.map_or(chunk.len(), |end| end + 1);
        let room = MAX_LINE.saturating_sub(line.len());
        line.extend(chunk.iter().take(end.unwrap_or(taken)).take(room));
        ended = end.is_some();
        log.consume(taken);
    }
    any.then(|| printable(&line))
}

/// Returns true if an error line is known to be harmless.
pub(crate) fn is_harmless(line: &str) -> bool {
    HARMLESS.iter().any(|known| line.contains(known))
}

/// Errors that CRIU logs in operations that succeed.
const HARMLESS: &[&str] = &[
    // Logged on every request without CAP_SYS_RESOURCE.
    "Can't setup RLIMIT_NOFILE",
];

/// Lines kept before an error, as many as runc and crun quote.
const LINES_BEFORE: usize = 5;

/// Errors kept after the first: the cause of a failure is sometimes not the first line.
const MORE_ERRORS: usize = 31;

/// The length from which on a remembered text may be cut. CRIU's memory has 1 KiB with the NUL, and
/// the last bytes may be white space, or a part of a character.
const REMEMBERED: usize = 1000;

/// Microseconds by which the lines of several processes may be out of order.
const JITTER: u64 = 1000;

/// Most bytes kept of a line. CRIU's own buffer for a line is 1 KiB.
const MAX_LINE: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_that_matters_is_quoted_with_the_lines_before() {
        let mut log = (1..=9).map(|n| format!("(00.00{n}) line {n}\n")).collect::<String>();
        log.insert_str(
            0,
            "(00.0) Error (criu/util.c:1): rlimit: Can't setup RLIMIT_NOFILE for self\n",
        );
        log += "(00.1) Error (criu/x.c:7): it \x1b[31mbroke\n(00.2) Error (criu/y.c:8): and so\n";
        let found = excerpt("dump.log", log.as_bytes(), None).unwrap();
        assert_eq!(found.line, 11);
        assert_eq!(found.before.len(), 5);
        assert_eq!(found.before[0], "(00.005) line 5");
        assert_eq!(found.error, "(00.1) Error (criu/x.c:7): it \\u{1b}[31mbroke");
        assert_eq!(found.more, ["(00.2) Error (criu/y.c:8): and so"]);
    }

    #[test]
    fn a_name_with_a_newline_forges_no_error() {
        let name = "/tmp/a\nError (criu/x.c:1): one\n(00.000300) Error (criu/x.c:1): two\n";
        let log = format!(
            "(00.000100) Version: 4.3\n(00.000200) file {name}\
             (00.000400) pie: 5: Error (criu/pie/x.c:1): real\n\
             (00.000500)      5: Error (criu/y.c:8): and so\n"
        );
        let first = "Error (criu/y.c:8): and so";
        let found = excerpt("dump.log", log.as_bytes(), Some(first)).unwrap();
        assert!(found.error.ends_with(first), "{found:#?}");
        assert!(found.more[0].ends_with("real"), "{found:#?}");
        assert!(found.before.last().unwrap().ends_with("real"), "{found:#?}");
        assert_eq!(found.more.len(), 1);
        // A criu that does not say what its first error was.
        let found = excerpt("dump.log", log.as_bytes(), None).unwrap();
        assert!(found.error.ends_with("two"), "{found:#?}");
        // What criu remembers is of an earlier request.
        let found = excerpt("dump.log", log.as_bytes(), Some("Error (criu/z.c:1): no")).unwrap();
        assert!(found.error.ends_with("real"), "{found:#?}");
    }

    #[test]
    fn a_name_with_a_time_stamp_forges_no_error() {
        let real = "(00.060000) Error (criu/y.c:8): and so\n";
        let first = "Error (criu/y.c:8): and so";
        for stamp in ["00.000001", "00.000123", "00.030000", "00.070000", "59.000000", "9"] {
            for inside in ["", "pie: 5: ", "     5: "] {
                let name = format!("/tmp/a\n({stamp}) {inside}Error (criu/x.c:1): forged\r\n");
                let log = format!(
                    "(00.000100) Version: 4.3\n(00.050000) file {name}(00.055000) next\n{real}"
                );
                for first in [Some(first), None] {
                    let found = excerpt("dump.log", log.as_bytes(), first).unwrap();
                    assert_eq!(found.error, real.trim_end(), "{stamp} {inside}: {found:#?}");
                }
            }
        }
        // At the end of a log nothing follows that would tell, and only a remembered line counts.
        let log =
            format!("(00.01) Version\n{real}(00.06) file a\n(00.07) pie: 5: Error (x.c:1): f\n");
        let found = excerpt("dump.log", log.as_bytes(), Some(first)).unwrap();
        assert_eq!(found.error, real.trim_end());
        // The lines of several processes may be a little out of order.
        let log = format!("(00.060300) a\n(00.060100) pie: 5: Error (criu/x.c:1): inside\n{real}");
        let found = excerpt("dump.log", log.as_bytes(), Some(first)).unwrap();
        assert_eq!(found.error, real.trim_end());
        assert!(found.more[0].ends_with("inside"), "{found:#?}");
    }

    #[test]
    fn many_names_with_time_stamps_forge_no_error() {
        // One of the names has the right time, and its neighbours have not.
        let mut log = String::from("(00.000100) Version: 4.3\n");
        for n in 0..1000 {
            let at = 50_000 + 20 * n;
            let name = format!("/tmp/a\n(00.{:06}) pie: 5: Error (criu/x.c:1): forged", 1000 * n);
            log += &format!("(00.{at:06}) file {name}\n");
        }
        log += "(00.080000) end\n(00.080100) Error (criu/y.c:8): and so\n";
        for first in [Some("Error (criu/y.c:8): and so"), Some("Error (criu/z.c:1): no"), None] {
            let found = excerpt("dump.log", log.as_bytes(), first).unwrap();
            if first != Some("Error (criu/z.c:1): no") {
                assert!(found.error.ends_with("and so"), "{first:?}: {found:#?}");
                assert!(found.more.is_empty(), "{first:?}: {found:#?}");
                assert!(!found.before.concat().contains("(criu/x.c"), "{first:?}: {found:#?}");
            }
        }
        // The one name that guesses its time stands below the line that criu vouches for.
        let log = "(00.01) file a\n(00.0101) pie: 5: Error (criu/x.c:1): guessed\n\
                   (00.0102) next\n(00.02) Error (criu/y.c:8): and so\n";
        let found = excerpt("d", log.as_bytes(), Some("Error (criu/y.c:8): and so")).unwrap();
        assert!(found.error.ends_with("and so"), "{found:#?}");
        assert_eq!(found.line, 4);
    }

    #[test]
    fn a_line_that_only_begins_with_the_remembered_error_is_another_one() {
        let first = "Error (criu/y.c:8): and so";
        let log = format!("(00.1) a\n(00.2) {first} said the name\n(00.3) {first}\n");
        let found = excerpt("d", log.as_bytes(), Some(first)).unwrap();
        assert_eq!((found.line, found.error), (3, format!("(00.3) {first}")));
        // CRIU remembers 1 KiB, and a log has the newlines of names.
        let long = format!("Error (criu/y.c:8): {}", "a".repeat(1100));
        let log = format!("(00.1) a\n(00.2) pie: Error (x.c:1): b\n(00.3) {long}\n");
        let found = excerpt("d", log.as_bytes(), Some(&long[..1023])).unwrap();
        assert_eq!(found.line, 3);
        let log = "(00.1) a\n(00.2) pie: Error (x.c:1): b\n(00.3) Error (y.c:8): a\nb failed\n";
        let found = excerpt("d", log.as_bytes(), Some("Error (y.c:8): a\nb failed")).unwrap();
        assert_eq!((found.line, found.error.as_str()), (3, "(00.3) Error (y.c:8): a\\nb failed"));
    }

    #[test]
    fn hostile_logs_are_bounded() {
        let mut log = vec![b'x'; 10_000_000];
        log.extend(b" Error (\n");
        for _ in 0..1000 {
            log.extend(b"Error (criu/x.c:1): \xff\xfe\n");
        }
        let found = excerpt("l", log.as_slice(), None).unwrap();
        assert_eq!(found.line, 2, "the error in the cut part of a long line is not seen");
        assert_eq!(found.more.len(), MORE_ERRORS);
        assert!(found.before[0].len() <= MAX_LINE);
        assert!(excerpt("l", &b""[..], None).is_none());
    }
}
