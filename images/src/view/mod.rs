//! Views of a checkpoint, in the form in which people look at running processes.
//!
//! Each view is a value that displays as a table or a tree. With the `serde` feature it can be
//! serialized. Strings escape bytes that are not text, as [`Text`](crate::Text) does.
//!
//! ```
//! use criu_images::{ImageSet, view};
//!
//! let set = ImageSet::open("tests/data/pipeline")?;
//! let checkpoint = set.checkpoint()?;
//! println!("{}", view::Ps::new(checkpoint.tasks()));
//! println!("{}", view::Fds::new(checkpoint.tasks())?);
//! # Ok::<(), criu_images::Error>(())
//! ```

mod fds;
mod memory;
mod namespaces;
mod ps;
mod security;
mod sockets;
mod summary;
mod touches;

use std::fmt;

use crate::bounds;
use crate::error::{Error, ErrorKind, Result};

pub use fds::{Fds, OpenFd, TaskFds};
pub use memory::{Mapping, Mems, Rss, TaskMems, TaskRss};
pub use namespaces::{MountRow, MountTable, Mounts, NamespaceRow, Namespaces};
pub use ps::{Process, Ps};
pub use security::{CapabilitySets, FilterRow, Security, ThreadSecurity};
pub use sockets::{Holder, Socket, Sockets};
pub use summary::{Count, Need, Summary};
pub use touches::{TouchRow, Touches};

/// Memory that a view may still take.
pub(crate) struct Room {
    left: u64,
    limit: u64,
}

impl Room {
    pub(crate) fn new() -> Self {
        let limit = bounds::VIEW.get();
        Self { left: limit, limit }
    }

    /// Takes memory for a row with these bytes of text.
    pub(crate) fn take(&mut self, text: usize) -> Result<()> {
        let rest = self.left.checked_sub(ROW.saturating_add(text as u64));
        self.left = rest.ok_or_else(|| {
            let (what, limit) = ("bytes to show", self.limit);
            Error::new("images", ErrorKind::TooMany { what, limit })
        })?;
        Ok(())
    }
}

/// Bytes that a row takes beside its text.
const ROW: u64 = 64;

/// Rows of text, in columns as wide as their widest cell. A heading that begins with ">" belongs to
/// a column of numbers.
struct Table {
    head: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

impl Table {
    fn new(head: &'static [&'static str]) -> Self {
        Self { head, rows: Vec::new() }
    }

    fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let titles = self.head.iter().map(|title| title.trim_start_matches('>'));
        let mut widths: Vec<usize> = titles.clone().map(str::len).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                // A longer cell is shown as a whole, but does not widen all other rows.
                *width = (*width).max(cell.chars().take(MAX_WIDTH).count());
            }
        }
        let titles: Vec<String> = titles.map(str::to_owned).collect();
        for (i, row) in [&titles].into_iter().chain(&self.rows).enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            let columns = self.head.iter().zip(&widths).zip(row);
            for (n, ((head, &width), cell)) in columns.enumerate() {
                let space = if n == 0 { "" } else { " " };
                if head.starts_with('>') {
                    write!(f, "{space}{cell:>width$}")?;
                } else if n + 1 == self.head.len() {
                    // The last column is not padded.
                    write!(f, "{space}{cell}")?;
                } else {
                    write!(f, "{space}{cell:width$}")?;
                }
            }
        }
        Ok(())
    }
}

/// Widest column that is filled up with spaces, in characters.
const MAX_WIDTH: usize = 200;

/// Returns the size of pages in KiB, as text.
fn kib(pages: u64, page_size: u64) -> String {
    (u128::from(pages) * u128::from(page_size) / 1024).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&[">PID", "STATE", "NAME"]);
        table.row(["7", "alive", "a b"].map(str::to_owned).to_vec());
        table.row(["12345", "zombie", ""].map(str::to_owned).to_vec());
        assert_eq!(table.to_string(), "  PID STATE  NAME\n    7 alive  a b\n12345 zombie ");
        // A long cell is not copied as spaces into every other row.
        table.row(["7".to_owned(), "x".repeat(1 << 20), String::new()].to_vec());
        for _ in 0..100 {
            table.row(["8", "", ""].map(str::to_owned).to_vec());
        }
        assert!(table.to_string().len() < (1 << 20) + 110 * 220);
    }
}
