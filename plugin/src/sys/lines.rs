//! Lines of a file, read piece by piece into a buffer of fixed size.

use super::call::{Access, Fd};
use super::errno::Errno;

/// A reader of the lines of a file such as `/proc/PID/maps`. It does not allocate.
#[derive(Debug)]
pub(crate) struct Lines {
    file: Fd,
    buffer: [u8; ROOM],
    /// Start and end of the bytes that have been read and not been taken.
    start: usize,
    end: usize,
    /// The rest of a line that was cut follows.
    is_cut: bool,
}

/// A line, without the character that ends it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Line<'b> {
    /// A line as the file has it.
    Whole(&'b [u8]),
    /// The first bytes of a line that fills the buffer. The rest is skipped.
    Cut(&'b [u8]),
}

impl<'b> Line<'b> {
    /// Returns the bytes that are known.
    pub(crate) fn bytes(self) -> &'b [u8] {
        let (Line::Whole(bytes) | Line::Cut(bytes)) = self;
        bytes
    }
}

impl Lines {
    /// Reads a file of a process.
    pub(crate) fn open(pid: i32, name: &str) -> Result<Self, Errno> {
        Ok(Self::of(Fd::open(pid, name, Access::Read)?))
    }

    /// Reads a file from where it stands.
    pub(crate) fn of(file: Fd) -> Self {
        Self { file, buffer: [0; ROOM], start: 0, end: 0, is_cut: false }
    }

    /// Returns the next line, or `None` at the end of the file.
    ///
    /// # Errors
    /// The errors of `read(2)`.
    pub(crate) fn next(&mut self) -> Result<Option<Line<'_>>, Errno> {
        loop {
            let unread = self.buffer.get(self.start..self.end).unwrap_or_default();
            let (length, step, cut) = match unread.iter().position(|byte| *byte == b'\n') {
                Some(length) => (length, length + 1, false),
                None if unread.len() == ROOM => (ROOM, ROOM, true),
                None if self.fill()? => continue,
                None if self.start == self.end => return Ok(None),
                // The last line, without an end.
                None => (self.end - self.start, self.end - self.start, false),
            };
            let start = self.start;
            self.start += step;
            if std::mem::replace(&mut self.is_cut, cut) {
                continue;
            }
            let line = self.buffer.get(start..start + length);
            return Ok(line.map(if cut { Line::Cut } else { Line::Whole }));
        }
    }

    /// Reads more of the file behind what is not read yet. Returns `false` at the file's end.
    fn fill(&mut self) -> Result<bool, Errno> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let read = self.file.read(self.buffer.get_mut(self.end..).unwrap_or_default())?;
        self.end += read;
        Ok(read > 0)
    }
}

/// Bytes of the buffer. A longer line of `maps` loses the end of its path.
const ROOM: usize = 4096;

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Seek, Write};
    use std::os::fd::OwnedFd;

    use super::*;

    fn lines_of(text: &[u8]) -> Vec<(bool, Vec<u8>)> {
        let path = std::env::temp_dir().join(format!(
            "criu-plugin-lines-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        file.write_all(text).unwrap();
        file.rewind().unwrap();
        let mut lines = Lines::of(OwnedFd::from(file).into());
        let mut found = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            found.push((matches!(line, Line::Whole(_)), line.bytes().to_vec()));
        }
        assert_eq!(lines.next().unwrap(), None);
        found
    }

    #[test]
    fn a_file_of_many_lines_is_read_whole() {
        let mut text = Vec::new();
        for n in 0..5000 {
            text.extend(format!("line {n} {}\n", "x".repeat(n % 90)).bytes());
        }
        let found = lines_of(&text);
        assert_eq!(found.len(), 5000);
        for (n, (is_whole, line)) in found.iter().enumerate() {
            assert!(*is_whole && *line == format!("line {n} {}", "x".repeat(n % 90)).into_bytes());
        }
    }

    #[test]
    fn a_long_line_is_cut_and_the_next_is_whole() {
        for length in [ROOM - 1, ROOM, ROOM + 1, 2 * ROOM, 5 * ROOM - 512, 70_000] {
            let text = format!("a\n{}\nb\n", "y".repeat(length));
            let found = lines_of(text.as_bytes());
            assert_eq!(found.len(), 3, "{length}");
            assert_eq!(found[1].0, length < ROOM, "{length}");
            assert_eq!(found[2], (true, b"b".to_vec()), "{length}");
        }
    }

    #[test]
    fn the_last_line_needs_no_end() {
        assert_eq!(lines_of(b"a\nb"), [(true, b"a".to_vec()), (true, b"b".to_vec())]);
        assert_eq!(lines_of(b""), []);
        assert_eq!(lines_of(&[b'z'; 3 * ROOM]), [(false, vec![b'z'; ROOM])]);
        assert_eq!(lines_of(b"\n\n"), [(true, vec![]), (true, vec![])]);
    }

    #[test]
    fn own_mappings_are_read() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let mut lines = Lines::open(pid, "maps").unwrap();
        let mut count = 0;
        while let Some(line) = lines.next().unwrap() {
            assert!(line.bytes().windows(5).any(|word| word == b"-p 00" || word[0] != 0));
            count += 1;
        }
        let text = std::fs::read_to_string("/proc/self/maps").unwrap();
        assert!(count + 3 >= text.lines().count() && count <= text.lines().count() + 3);
    }
}
