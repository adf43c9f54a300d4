//! Lines of a file, read piece by piece into a buffer of fixed size.

use std::fs::File;
use std::io::{self, Read};

/// A reader of the lines of a file such as `/proc/PID/maps`. It does not allocate.
#[derive(Debug)]
pub(crate) struct Lines {
    file: File,
    buffer: [u8; ROOM],
    /// Start and end of the bytes that have been read and not been taken.
    start: usize,
    end: usize,
    has_ended: bool,
}

/// A line, without the character that ends it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Line<'b> {
    /// A line as the file has it.
    Whole(&'b [u8]),
    /// The first bytes of a line that is longer than the buffer. The rest has been skipped.
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
    /// Reads a file from where it stands.
    pub(crate) fn new(file: File) -> Self {
        Self { file, buffer: [0; ROOM], start: 0, end: 0, has_ended: false }
    }

    /// Returns the next line, or `None` at the end of the file.
    ///
    /// # Errors
    /// The errors of `read(2)`.
    pub(crate) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        loop {
            let known = self.buffer.get(self.start..self.end).unwrap_or_default();
            let length = known.iter().position(|byte| *byte == b'\n');
            if let Some(length) = length {
                let (from, to) = (self.start, self.start.saturating_add(length));
                self.start = to.saturating_add(1);
                return Ok(self.buffer.get(from..to).map(Line::Whole));
            }
            let room = self.end.saturating_sub(self.start);
            if room == ROOM {
                self.skip()?;
                return Ok(self.buffer.get(..CUT).map(Line::Cut));
            }
            if self.has_ended {
                let from = std::mem::replace(&mut self.start, self.end);
                let rest = self.buffer.get(from..self.end).filter(|rest| !rest.is_empty());
                return Ok(rest.map(Line::Whole));
            }
            self.fill()?;
        }
    }

    /// Moves what is known to the front, and reads more.
    fn fill(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end = self.end.saturating_sub(self.start);
        self.start = 0;
        let count = read(&mut self.file, self.buffer.get_mut(self.end..).unwrap_or_default())?;
        self.end = self.end.saturating_add(count);
        self.has_ended = count == 0;
        Ok(())
    }

    /// Drops the line that fills the buffer, but for its first bytes.
    fn skip(&mut self) -> io::Result<()> {
        loop {
            let tail = self.buffer.get_mut(CUT..).unwrap_or_default();
            let count = read(&mut self.file, tail)?;
            let end = tail.get(..count).and_then(|new| new.iter().position(|byte| *byte == b'\n'));
            self.end = CUT.saturating_add(count);
            self.start = self.end;
            if let Some(end) = end {
                self.start = CUT.saturating_add(end).saturating_add(1);
                return Ok(());
            }
            if count == 0 {
                self.has_ended = true;
                return Ok(());
            }
        }
    }
}

fn read(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Bytes of the buffer. A path has at most 4096, which `maps` writes as up to four times as many.
const ROOM: usize = 8192;
/// Bytes that are kept of a longer line.
const CUT: usize = 512;

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

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
        let mut lines = Lines::new(file);
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
        for length in [ROOM - 1, ROOM, ROOM + 1, 2 * ROOM, 5 * ROOM - CUT, 70_000] {
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
        assert_eq!(lines_of(&[b'z'; 3 * ROOM]), [(false, vec![b'z'; CUT])]);
        assert_eq!(lines_of(b"\n\n"), [(true, vec![]), (true, vec![])]);
    }
}
