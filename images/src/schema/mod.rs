//! The schema as tables: which fields a message has, and how each is encoded.
//!
//! The rows are made from the same `.proto` files as the types of [`proto`](crate::proto). Here they
//! check what prost lets pass: an absent required field is an error, and every fault has a place.

mod table;
pub(crate) mod typed;

pub use table::{Enum, Field, Label, Message, Show, Type};
pub use typed::Entry;
