//! Memory as hex digits.

use std::fmt;
use std::io::{self, Write};

/// Bytes in the form of `hexdump -C`: the address, 16 bytes in hex, and the 16 bytes as text. One
/// `*` stands for lines that repeat the line before, except for the last line.
///
/// ```
/// use criu_images::memory::Hexdump;
///
/// let line = Hexdump { address: 0x7ffc_0000, bytes: b"a \x1b[0m word" }.to_string();
/// assert_eq!(
///     line,
///     "000000007ffc0000  61 20 1b 5b 30 6d 20 77  6f 72 64                 |a .[0m word|\n"
/// );
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "a hexdump shows nothing until it is written"]
pub struct Hexdump<'a> {
    /// Address of the first byte.
    pub address: u64,
    /// The bytes.
    pub bytes: &'a [u8],
}

impl Hexdump<'_> {
    /// Writes the lines.
    ///
    /// # Errors
    /// The errors of `out`.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        let mut text = Vec::with_capacity(FLUSH + LINE);
        self.lines(|line| -> io::Result<()> {
            text.extend_from_slice(line);
            if text.len() >= FLUSH {
                out.write_all(&text)?;
                text.clear();
            }
            Ok(())
        })?;
        out.write_all(&text)
    }

    /// Calls `each` with every line.
    fn lines<E>(&self, mut each: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        // The last row, whole or not, is always written.
        let last = self.bytes.len().saturating_sub(1) / ROW * ROW;
        let (rows, rest) = self.bytes.split_at_checked(last).unwrap_or_default();
        let mut line = [b' '; LINE];
        let mut address = self.address;
        let mut before = None;
        let mut repeats = false;
        for row in rows.chunks_exact(ROW) {
            let row: [u8; ROW] = row.try_into().unwrap_or_default();
            if before != Some(row) {
                fill(&mut line, address, &row);
                each(&line)?;
                repeats = false;
            } else if !repeats {
                each(b"*\n")?;
                repeats = true;
            }
            before = Some(row);
            address = address.wrapping_add(ROW as u64);
        }
        if rest.is_empty() {
            return Ok(());
        }
        let mut row = [0; ROW];
        row.iter_mut().zip(rest).for_each(|(to, byte)| *to = *byte);
        fill(&mut line, address, &row);
        // The columns past the end are blank.
        for i in rest.len()..ROW {
            let at = hex_column(i);
            line.get_mut(at..at + 2).unwrap_or_default().fill(b' ');
        }
        let end = TEXT + rest.len();
        line.get_mut(end..end + 2).unwrap_or_default().copy_from_slice(b"|\n");
        each(line.get(..end + 2).unwrap_or_default())
    }
}

impl fmt::Display for Hexdump<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines(|line| f.write_str(std::str::from_utf8(line).map_err(|_| fmt::Error)?))
    }
}

/// Writes a row into a line that already has its blanks.
#[inline]
#[allow(clippy::indexing_slicing, reason = "all places are constants, and the line is long enough")]
fn fill(line: &mut [u8; LINE], address: u64, row: &[u8; ROW]) {
    for (i, byte) in address.to_be_bytes().into_iter().enumerate() {
        line[2 * i..2 * i + 2].copy_from_slice(&PAIRS[usize::from(byte)]);
    }
    line[TEXT - 1] = b'|';
    for (i, byte) in row.iter().enumerate() {
        let at = hex_column(i);
        line[at..at + 2].copy_from_slice(&PAIRS[usize::from(*byte)]);
        line[TEXT + i] = if matches!(byte, b' '..=b'~') { *byte } else { b'.' };
    }
    line[TEXT + ROW..].copy_from_slice(b"|\n");
}

/// Returns the column of the digits of a row's byte.
const fn hex_column(i: usize) -> usize {
    // A wider gap in the middle.
    18 + 3 * i + i / 8
}

/// Two digits for every byte.
const PAIRS: [[u8; 2]; 256] = {
    let digits = *b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut i = 0;
    while i < 256 {
        pairs[i] = [digits[i >> 4], digits[i & 15]];
        i += 1;
    }
    pairs
};

/// Bytes of a row.
const ROW: usize = 16;
/// Column at which the text of a line begins.
const TEXT: usize = 69;
/// Bytes of a whole line.
const LINE: usize = TEXT + ROW + 2;
/// Bytes written at once.
const FLUSH: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn repeated_lines_are_folded_but_the_last() {
        let mut bytes = [0; 80].to_vec();
        bytes[3] = b'x';
        let text = Hexdump { address: 0x10, bytes: &bytes }.to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[2], "*");
        assert!(lines[0].starts_with("0000000000000010  00 00 00 78 "), "{text}");
        assert!(lines[3].starts_with("0000000000000050  00"), "{text}");
        assert_eq!(Hexdump { address: 0, bytes: &[] }.to_string(), "");
    }

    #[test]
    fn every_byte_looks_as_hexdump_shows_it() {
        let bytes: Vec<u8> = (0..=255u8).chain(*b"rest").collect();
        let mut peer = Command::new("hexdump")
            .args(["-C", "-v"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("hexdump, of bsdextrautils, is installed");
        peer.stdin.take().unwrap().write_all(&bytes).unwrap();
        let want = String::from_utf8(peer.wait_with_output().unwrap().stdout).unwrap();
        let mut ours = Vec::new();
        Hexdump { address: 0, bytes: &bytes }.write_to(&mut ours).unwrap();
        let ours = String::from_utf8(ours).unwrap();
        // hexdump shows addresses in 8 digits, and the end in a line of its own.
        for (ours, want) in ours.lines().zip(want.lines()) {
            assert_eq!(ours.strip_prefix("00000000"), Some(want));
        }
        assert_eq!(ours.lines().count() + 1, want.lines().count());
    }
}
