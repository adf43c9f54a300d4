//! The schema as tables: which fields a message has, and how each is encoded.
//!
//! The rows are generated from the same `.proto` files as the types of [`proto`](crate::proto).
//! They find faults that prost lets pass, such as an absent required field, and give each fault a
//! place.

mod table;
pub(crate) mod typed;

pub use table::{Enum, Field, Label, Message, Show, Type};
pub use typed::Entry;
