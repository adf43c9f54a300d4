//! The bytes and objects that a session may take.

use super::error::PagesError;
use super::limits::ServerLimits;

/// The bytes and objects that a session has taken, beside its limits.
///
/// All bytes of both directions count: headers, pages and answers. The entry of a pagemap is
/// shorter than the header that it comes from, so that a session writes no more than its bytes and
/// the two files of each object.
#[derive(Debug)]
pub(super) struct Budget {
    bytes: u64,
    most_bytes: u64,
    objects: u64,
    most_objects: u64,
}

impl Budget {
    pub(super) fn new(limits: &ServerLimits) -> Self {
        let ServerLimits { bytes, objects, .. } = *limits;
        Self { bytes: 0, most_bytes: bytes, objects: 0, most_objects: objects }
    }

    /// Counts bytes that have come or are about to be sent.
    ///
    /// # Errors
    /// [`PagesError::TooMuch`] if the session has taken more than its limit.
    pub(super) fn spend(&mut self, bytes: u64) -> Result<(), PagesError> {
        self.bytes = self.bytes.saturating_add(bytes);
        self.promise(0)
    }

    /// Checks that so many more bytes may come.
    ///
    /// # Errors
    /// [`PagesError::TooMuch`] if they would pass the limit.
    #[inline]
    pub(super) fn promise(&self, bytes: u64) -> Result<(), PagesError> {
        if self.bytes.saturating_add(bytes) > self.most_bytes {
            return Err(PagesError::TooMuch(self.most_bytes));
        }
        Ok(())
    }

    /// Returns how many more bytes the session may take.
    pub(super) fn left(&self) -> u64 {
        self.most_bytes.saturating_sub(self.bytes)
    }

    /// Returns the error of a peer that fetches more than its limit.
    pub(super) fn fetched(&self) -> PagesError {
        PagesError::TooMuchFetched(self.most_bytes)
    }

    /// Counts an object that begins.
    ///
    /// # Errors
    /// [`PagesError::TooMany`] if the session has begun more than its limit.
    pub(super) fn begin(&mut self) -> Result<(), PagesError> {
        self.objects = self.objects.saturating_add(1);
        if self.objects > self.most_objects {
            return Err(PagesError::TooMany(self.most_objects));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(bytes: u64, objects: u64) -> Budget {
        Budget::new(&ServerLimits { bytes, objects, ..ServerLimits::default() })
    }

    #[test]
    fn a_budget_is_spent_to_its_last_byte_and_no_further() {
        let mut budget = budget(100, 2);
        budget.spend(60).unwrap();
        budget.promise(40).unwrap();
        assert!(matches!(budget.promise(41), Err(PagesError::TooMuch(100))));
        assert!(matches!(budget.promise(u64::MAX), Err(PagesError::TooMuch(100))));
        budget.spend(40).unwrap();
        assert_eq!(budget.left(), 0);
        assert!(matches!(budget.spend(1), Err(PagesError::TooMuch(100))));
        assert!(matches!(budget.spend(u64::MAX), Err(PagesError::TooMuch(100))));
        budget.begin().unwrap();
        budget.begin().unwrap();
        assert!(matches!(budget.begin(), Err(PagesError::TooMany(2))));
    }
}
