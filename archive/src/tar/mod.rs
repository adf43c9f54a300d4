//! The tar format: headers, names and PAX records, read one after another.

mod header;
mod members;
mod records;
mod stream;

pub(crate) use header::Sort;
pub(crate) use members::{Found, Members};
pub(crate) use stream::{Seeking, Stream};
