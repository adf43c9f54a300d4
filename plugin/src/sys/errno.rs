//! Numbers of errors.

/// Number of a system error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Errno(pub i32);
