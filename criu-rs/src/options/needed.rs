//! The version that a request needs.

use super::gates::{newer_than, newest};
use crate::error::{Error, Result};
use crate::rpc::CriuOpts;
use crate::value::Version;

/// The option or request that needs the newest CRIU.
#[derive(Clone, Debug)]
pub(crate) struct Needed {
    what: String,
    since: Version,
}

impl Needed {
    /// Makes the need of a request that not every CRIU knows.
    pub(crate) fn request(what: &str, since: Version) -> Self {
        Self { what: what.into(), since }
    }

    /// Returns the option or value of a message that needs the newest CRIU. `None` if even the
    /// oldest knows all of them.
    pub(crate) fn by(message: &CriuOpts) -> Option<Self> {
        let option = newer_than(Version::OLDEST, message).map(|option| {
            let what = format!("the option {} ({})", option.name, option.cli);
            Self { what, since: option.since }
        });
        let value = newest(message).map(|(what, since)| Self { what: what.into(), since });
        value.into_iter().chain(option).max_by_key(|needed| needed.since)
    }

    /// Returns the need of the newer CRIU of two.
    pub(crate) fn or(self, other: Option<Self>) -> Self {
        match other {
            Some(other) if other.since > self.since => other,
            _ => self,
        }
    }

    /// Refuses a CRIU that is too old.
    ///
    /// # Errors
    /// [`Error::TooOld`].
    pub(crate) fn check(&self, found: Version) -> Result<()> {
        if found >= self.since {
            return Ok(());
        }
        Err(Error::TooOld { what: self.what.clone(), needs: self.since, found })
    }
}
