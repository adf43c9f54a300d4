//! Values that do not have the form their option wants.

use std::fmt;

/// A value that does not have the form its option wants.
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
