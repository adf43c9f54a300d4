//! Bytes as text: base64 in lines, and quoted-printable.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Writes base64 as the inside of a JSON string. A line end follows every 76 characters and the
/// last line.
pub(super) fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    for line in bytes.chunks(LINE_BYTES) {
        let mut text = [0; LINE_TEXT];
        // The buffer holds the text of the longest line.
        let length = STANDARD.encode_slice(line, &mut text).unwrap_or(0);
        out.extend(text.iter().take(length));
        out.extend(b"\\n");
    }
}

/// Reads base64, wherever its lines end. Returns `None` for anything else.
pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let packed: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(packed).ok()
}

/// Quotes bytes like quopri of Python, and quotes line ends too.
pub(super) fn printable(bytes: &[u8]) -> String {
    let mut out = String::new();
    let mut length = 0;
    for (i, &byte) in bytes.iter().enumerate() {
        let next = bytes.get(i + 1);
        let plain = match byte {
            b'=' => false,
            // A line with only a dot would end a mail.
            b'.' if length == 0 => !matches!(next, None | Some(b'\n' | b'\r' | 0)),
            b'\t' | b' ' => next.is_some(),
            _ => (33..=126).contains(&byte),
        };
        let fits =
            if plain { length + 1 < LINE_TEXT || next.is_none() } else { length + 3 < LINE_TEXT };
        if !fits {
            out.push_str("=\n");
            length = 0;
        }
        if plain {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("={byte:02X}"));
        }
        length += if plain { 1 } else { 3 };
    }
    out
}

/// Reads quoted-printable text. Returns `None` for a bad quote.
pub(super) fn from_printable(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'=', [b'\n', tail @ ..]) => rest = tail,
            (b'=', [high, low, tail @ ..]) => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                out.push(u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()?);
                rest = tail;
            }
            (b'=', _) => return None,
            (byte, _) => out.push(*byte),
        }
    }
    Some(out)
}

/// Characters of a full line, which hold [`LINE_BYTES`] bytes.
const LINE_TEXT: usize = 76;
const LINE_BYTES: usize = 57;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_names_are_python_s_and_come_back() {
        for (name, quoted) in [
            (&b"\0abs=sk\x01"[..], "=00abs=3Dsk=01"),
            (b"/run/a b", "/run/a b"),
            (b"ends in a blank ", "ends in a blank=20"),
            (b".", "=2E"),
            (b"..", ".."),
            (b"\xc3\xbc\x7f", "=C3=BC=7F"),
            (b"a\nb\r\n", "a=0Ab=0D=0A"),
            (b"", ""),
        ] {
            assert_eq!(printable(name), quoted);
            assert_eq!(from_printable(quoted).as_deref(), Some(name));
        }
        for length in 70..160 {
            let name = vec![b'x'; length];
            let text = printable(&name);
            assert!(text.lines().all(|line| line.len() <= 76), "{text}");
            assert_eq!(from_printable(&text).unwrap(), name);
        }
        for bad in ["=", "=4", "=xy"] {
            assert_eq!(from_printable(bad), None, "{bad}");
        }
    }

    #[test]
    fn base64_has_lines() {
        let mut out = Vec::new();
        base64(&[0; 58], &mut out);
        let text = String::from_utf8(out).unwrap().replace("\\n", "\n");
        assert_eq!(text, format!("{}\nAA==\n", "A".repeat(76)));
        assert_eq!(from_base64(&text).unwrap(), [0; 58]);
        assert_eq!(from_base64("A"), None);
    }
}
