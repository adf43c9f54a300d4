//! The messages that images hold, as CRIU names them.
//!
//! Strings are bytes: CRIU's are C strings, and a path need not be UTF-8. Unknown enum values stay
//! in the integers that hold them. Unknown fields are dropped, so an image that has to survive is
//! edited in its bytes, not through these types.

#[rustfmt::skip]
mod messages;
#[rustfmt::skip]
mod tables;

pub use messages::*;
pub(crate) use tables::ALL;
#[cfg(test)]
pub(crate) use tables::visit;
