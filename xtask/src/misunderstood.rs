//! The error of a command line that is wrong.

/// A word of the command line that takes other words than it was given.
#[derive(Debug)]
pub(crate) struct Misunderstood(pub(crate) String);

impl std::error::Error for Misunderstood {}

impl std::fmt::Display for Misunderstood {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
