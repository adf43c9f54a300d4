//! Values in the wrong form for their option.

use std::fmt;

/// A value in the wrong form for its option.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {want}, found {found:?}")]
pub struct InvalidValue {
    what: &'static str,
    found: String,
    want: &'static str,
}

impl InvalidValue {
    pub(crate) fn new(what: &'static str, found: impl fmt::Display, want: &'static str) -> Self {
        Self { what, found: found.to_string(), want }
    }
}
