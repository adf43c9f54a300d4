//! Text in columns.

use std::fmt;

use crate::shown::one_line;

/// Rows of text, in columns as wide as their widest cell. A heading that begins with ">" belongs to
/// a column of numbers. Cells may have names that strangers chose.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    head: [&'static str; N],
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub(crate) fn new(head: [&'static str; N]) -> Self {
        Self { head, rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| one_line(&cell)));
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let titles = self.head.map(|title| title.trim_start_matches('>').to_owned());
        let mut widths = [0; N];
        for row in [&titles].into_iter().chain(&self.rows) {
            for (width, cell) in widths.iter_mut().zip(row) {
                // A longer cell is shown as a whole, but does not widen all other rows.
                *width = (*width).max(cell.chars().take(MAX_WIDTH).count());
            }
        }
        for (line, row) in [&titles].into_iter().chain(&self.rows).enumerate() {
            f.write_str(if line == 0 { "" } else { "\n" })?;
            let columns = self.head.iter().zip(&widths).zip(row);
            for (column, ((head, &width), cell)) in columns.enumerate() {
                f.write_str(if column == 0 { "" } else { "  " })?;
                if head.starts_with('>') {
                    write!(f, "{cell:>width$}")?;
                } else if column + 1 == N {
                    // The last column is not padded.
                    f.write_str(cell)?;
                } else {
                    write!(f, "{cell:width$}")?;
                }
            }
        }
        Ok(())
    }
}

/// Widest column that is filled up with spaces, in characters.
const MAX_WIDTH: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_one_line_and_steers_no_terminal() {
        let mut table = Table::new(["NAME", "FILE"]);
        table.row(["a\nkept  b.tar".to_owned(), "\x1b[1A\x1b[8m.tar".to_owned()]);
        let want = "NAME            FILE\na\\nkept  b.tar  \\u{1b}[1A\\u{1b}[8m.tar";
        assert_eq!(table.to_string(), want);
    }
}
