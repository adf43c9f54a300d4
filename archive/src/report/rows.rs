//! Rows of a section, as many as fit.

use std::collections::HashMap;

use serde::Serialize;

use super::safe;

/// Rows in the making, as JSON.
pub(super) struct Rows {
    json: String,
    limit: usize,
    left: u64,
}

impl Rows {
    /// Begins rows that take at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { json: String::new(), limit, left: 0 }
    }

    /// Adds a row, unless that row or one before it does not fit. Returns true if the row fitted.
    pub(super) fn push(&mut self, row: &impl Serialize) -> bool {
        if self.left == 0 {
            let json = safe::json(row);
            if self.json.len() + json.len() < self.limit {
                if !self.json.is_empty() {
                    self.json.push(',');
                }
                self.json.push_str(&json);
                return true;
            }
        }
        self.left += 1;
        false
    }

    /// Adds the row of a name, if the name has a number. Returns true if the row fitted.
    pub(super) fn push_named<R: Serialize>(
        &mut self,
        name: Option<u32>,
        row: impl FnOnce(u32) -> R,
    ) -> bool {
        match name.filter(|_| self.left == 0) {
            Some(name) => self.push(&row(name)),
            None => {
                self.left += 1;
                false
            }
        }
    }

    /// Returns the rows, and the number of rows that did not fit, as an object.
    pub(super) fn done(self) -> String {
        format!("{{\"rows\":[{}],\"left\":{}}}", self.json, self.left)
    }
}

/// Names that many rows share. A row has the number of its name.
pub(super) struct Names {
    rows: Rows,
    numbers: HashMap<String, u32>,
}

impl Names {
    /// Begins names that take at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { rows: Rows::new(limit), numbers: HashMap::new() }
    }

    /// Returns the number of a name; `None` if the name does not fit any more.
    pub(super) fn number(&mut self, name: &str) -> Option<u32> {
        if let Some(number) = self.numbers.get(name) {
            return Some(*number);
        }
        let number = u32::try_from(self.numbers.len()).ok()?;
        self.rows.push(&short(name)).then(|| {
            self.numbers.insert(name.to_owned(), number);
            number
        })
    }

    /// Returns the names as a list.
    pub(super) fn done(self) -> String {
        format!("[{}]", self.rows.json)
    }
}

/// Returns a text, or its beginning with the number of bytes that were cut off.
pub(super) fn short(text: &str) -> String {
    let Some(mut end) = (text.len() > LONGEST).then_some(LONGEST) else {
        return text.to_owned();
    };
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let (start, rest) = text.split_at(end);
    format!("{start}\u{2026} ({} more bytes)", rest.len())
}

/// Returns texts, the last replaced by a count if they are too many or too long.
pub(super) fn short_list(texts: &[String]) -> Vec<String> {
    let (mut list, mut room) = (Vec::new(), LONGEST_LIST);
    for (i, text) in texts.iter().enumerate() {
        let text = short(text);
        // An empty text takes some bytes too.
        let Some(left) = room.checked_sub(text.len() + 4) else {
            list.push(format!("\u{2026} ({} more)", texts.len() - i));
            break;
        };
        room = left;
        list.push(text);
    }
    list
}

/// Longest text of a row, in bytes.
const LONGEST: usize = 4096;
/// Longest command line or environment, in bytes.
const LONGEST_LIST: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_beyond_the_bound_are_counted() {
        let mut rows = Rows::new(20);
        let fitted: Vec<bool> = [1, 22, 333, 44_444_444, 5].map(|row| rows.push(&[row])).into();
        // A short row does not follow a gap.
        assert_eq!(fitted, [true, true, true, false, false]);
        assert_eq!(rows.done(), r#"{"rows":[[1],[22],[333]],"left":2}"#);
        let mut names = Names::new(12);
        let numbers = ["a", "bb", "a", "long", "bb", "c"].map(|name| names.number(name));
        assert_eq!(numbers, [Some(0), Some(1), Some(0), None, Some(1), None]);
        assert_eq!(names.done(), r#"["a","bb"]"#);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let long = format!("a{}", "\u{fc}".repeat(LONGEST));
        let cut = short(&long);
        assert!(cut.ends_with("\u{fc}\u{2026} (4098 more bytes)"), "{}", cut.len());
        assert_eq!(short("it"), "it");
        let list = short_list(&vec!["x".repeat(1020); 100]);
        assert_eq!((list.len(), list.last().unwrap().as_str()), (65, "\u{2026} (36 more)"));
    }
}
