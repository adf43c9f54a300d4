//! Texts without the heap.

/// A short text without the heap.
pub(in crate::sys) struct Text {
    bytes: [u8; 256],
    length: usize,
}

impl Text {
    pub(in crate::sys) const fn new() -> Self {
        Self { bytes: [0; 256], length: 0 }
    }

    pub(in crate::sys) fn add(&mut self, part: &[u8]) -> &mut Self {
        for byte in part {
            if let Some(place) = self.bytes.get_mut(self.length) {
                *place = *byte;
                self.length += 1;
            }
        }
        self
    }

    pub(in crate::sys) fn number(&mut self, number: i32) -> &mut Self {
        let mut digits = [0u8; 10];
        let mut rest = number.unsigned_abs();
        let mut start = digits.len();
        while start > 0 && (rest > 0 || start == digits.len()) {
            start -= 1;
            if let Some(digit) = digits.get_mut(start) {
                *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            }
            rest /= 10;
        }
        self.add(digits.get(start..).unwrap_or_default())
    }

    pub(in crate::sys) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// Returns the decimal numbers of a text. Other bytes separate these.
pub(in crate::sys) fn numbers(text: &[u8]) -> impl Iterator<Item = i32> + '_ {
    let words = text.split(|byte| !byte.is_ascii_digit()).filter(|word| !word.is_empty());
    words.map(|word| {
        let digit =
            |value: i32, byte: &u8| value.wrapping_mul(10).wrapping_add((byte - b'0').into());
        word.iter().fold(0, digit)
    })
}

/// Returns the words of a text, which blanks separate.
pub(in crate::sys) fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_numbers_need_no_heap() {
        let mut text = Text::new();
        text.add(b"/proc/").number(0).add(b"/").number(i32::MAX);
        assert_eq!(text.bytes(), b"/proc/0/2147483647");
        text.add(&[b'x'; 300]);
        assert_eq!(text.bytes().len(), 256);
        assert!(numbers(b"12 345\n6x").eq([12, 345, 6]) && numbers(b" .\0").next().is_none());
    }
}
