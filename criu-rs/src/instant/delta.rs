//! Rounds that leave pages to the images of an earlier round.

use std::ffi::CString;
use std::fmt;
use std::io;
use std::ops::Range;

use super::error::InstantError;
use super::held::Holders;
use super::holder::Holder;
use crate::pages::held::InParent;
use crate::value::Pid;

/// A series of captures, as one of its rounds sees it.
pub(super) trait Delta: fmt::Debug + Send {
    /// Holders of the last round that live, with their start times. A dump does not see them.
    fn own(&self) -> Vec<(Pid, u64)>;

    /// Text of the link to the images of the last round, if there are any.
    fn parent(&self) -> Option<CString>;

    /// Returns those of the held pages that are in the images of the last round, ascending.
    ///
    /// # Errors
    /// The memory of a holder cannot be looked at.
    fn unchanged(
        &mut self,
        inner: u32,
        new: &Holder,
        held: &[Range<u64>],
    ) -> Result<Vec<Range<u64>>, InstantError>;

    /// Takes the holders: the images of the round are complete.
    fn complete(&mut self, holders: Holders);
}

/// Pages that the parent set has, ascending.
#[derive(Debug, Default)]
pub(super) struct Unchanged(pub(super) Vec<Range<u64>>);

impl InParent for Unchanged {
    fn stretch(&self, pages: Range<u64>) -> io::Result<(bool, u64)> {
        let next = self.0.partition_point(|range| range.end <= pages.start);
        Ok(match self.0.get(next) {
            Some(range) if range.start <= pages.start => (true, range.end.min(pages.end)),
            Some(range) => (false, range.start.min(pages.end)),
            None => (false, pages.end),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_end_where_the_answer_changes() {
        let unchanged = Unchanged(vec![0x2000..0x4000, 0x4000..0x5000, 0x8000..0x9000]);
        let stretch = |start, end| unchanged.stretch(start..end).unwrap();
        assert_eq!(stretch(0x1000, 0x9000), (false, 0x2000));
        assert_eq!(stretch(0x2000, 0x9000), (true, 0x4000));
        assert_eq!(stretch(0x3000, 0x3800), (true, 0x3800));
        assert_eq!(stretch(0x4000, 0x9000), (true, 0x5000));
        assert_eq!(stretch(0x5000, 0x7000), (false, 0x7000));
        assert_eq!(stretch(0x9000, 0xa000), (false, 0xa000));
        assert_eq!(Unchanged::default().stretch(0..0x1000).unwrap(), (false, 0x1000));
    }
}
