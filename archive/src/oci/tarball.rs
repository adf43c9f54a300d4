//! A tar archive of a layout, as it is written.

use std::io::{self, Write};

use crate::error::{ErrorKind, Fault};

/// A tar archive with short names, equal for equal files: without times and owners.
pub(super) struct Tarball<W>(W);

impl<W: Write> Tarball<W> {
    pub(super) fn new(to: W) -> Self {
        Self(to)
    }

    pub(super) fn directory(&mut self, path: &str) -> Result<(), Fault> {
        self.header(&format!("{path}/"), 0o755, b'5', 0)
    }

    pub(super) fn file(&mut self, path: &str, bytes: &[u8]) -> Result<(), Fault> {
        let size = bytes.len() as u64;
        self.begin(path, size)?;
        self.write_all(bytes).map_err(ErrorKind::Write)?;
        self.end(size)
    }

    /// Begins a file, whose bytes are written next.
    pub(super) fn begin(&mut self, path: &str, size: u64) -> Result<(), Fault> {
        self.header(path, 0o644, b'0', size)
    }

    /// Ends a file of so many bytes.
    pub(super) fn end(&mut self, size: u64) -> Result<(), Fault> {
        let rest = size.next_multiple_of(BLOCK as u64) - size;
        let zeros = vec![0; usize::try_from(rest).unwrap_or(0)];
        Ok(self.0.write_all(&zeros).map_err(ErrorKind::Write)?)
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.0.write_all(&[0; 2 * BLOCK])
    }

    fn header(&mut self, path: &str, mode: u32, sort: u8, size: u64) -> Result<(), Fault> {
        let mut block = [0; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| {
            let field = block.iter_mut().skip(at);
            field.zip(bytes).for_each(|(to, from)| *to = *from);
        };
        put(0, path.as_bytes());
        put(100, format!("{mode:07o}\0").as_bytes());
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        if size < OCTAL {
            put(124, format!("{size:011o}\0").as_bytes());
        } else {
            // GNU's binary form.
            put(124, &[0x80]);
            put(128, &size.to_be_bytes());
        }
        put(136, b"00000000000\0");
        put(148, b"        ");
        put(156, &[sort]);
        put(257, b"ustar\x0000");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        let text = format!("{sum:06o}\0 ");
        block.iter_mut().skip(148).zip(text.bytes()).for_each(|(to, from)| *to = from);
        Ok(self.0.write_all(&block).map_err(ErrorKind::Write)?)
    }
}

impl<W: Write> Write for Tarball<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

const BLOCK: usize = 512;
/// Sizes from here on do not fit into eleven octal digits.
const OCTAL: u64 = 1 << 33;
