//! The messages that images hold, as CRIU names them.
//!
//! Strings are bytes: CRIU's are C strings, and a path need not be UTF-8. Unknown enum values stay
//! in the integers that hold them. Unknown fields are dropped, so an image that has to survive is
//! edited in its bytes, not through these types.

#[rustfmt::skip]
mod messages;
#[rustfmt::skip]
mod tables;
#[cfg(test)]
mod tests;

use crate::schema::Message;
pub use messages::*;
use tables::ALL;

impl Message {
    /// A message by CRIU's name of it.
    #[must_use]
    pub fn by_name(name: &str) -> Option<&'static Self> {
        let place = ALL.binary_search_by(|message| message.name.cmp(name)).ok()?;
        ALL.get(place).copied()
    }
}

/// Is shown every type there is.
#[cfg(test)]
pub(crate) trait Visitor {
    fn see<M: crate::schema::Entry + PartialEq + std::fmt::Debug>(&mut self);
}
