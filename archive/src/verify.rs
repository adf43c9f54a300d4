//! The comparison of an archive with its table of contents.

use crate::archive::{Archive, LIE};
use crate::digest::{Beside, Digests, sums};
use crate::error::{ErrorKind, Result};
use crate::index::Index;
use crate::packing::Packing;
use crate::tar::Seeking;
use crate::watch::Watch;

/// An archive that was read as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// Members whose content was read.
    pub members: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// Set if the archive has digests, and all of them were right. An archive without digests can
    /// only be read to its end.
    pub has_digests: bool,
}

impl Archive {
    /// Reads the whole archive, and compares it with its table of contents if it has one: each
    /// header, each packed frame, the working set and, if their digests were asked for, the content
    /// of each member and the stream as a whole.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] with the member that is not as the table says; the errors of
    /// [`Digests::compute`].
    pub fn verify(&self, watch: Watch<'_>) -> Result<Verified> {
        if let Some(toc) = self.toc() {
            // First, so that the frames of the headers are compared, too.
            if !toc.check_frames().map_err(|error| self.fault(error))? {
                return Err(self.fault(ErrorKind::Refused(OTHER_PAGES)));
            }
            let headers = Index::read(Seeking::new(self.unpacked()));
            let headers = headers.map_err(|fault| self.fault(fault))?;
            let mut both = self.index().iter().zip(headers.iter());
            if let Some((listed, _)) = both.find(|(listed, found)| listed != found) {
                return Err(self.fail(listed.path(), ErrorKind::Refused(LIE)));
            }
            let counts = [self.index().iter().count(), headers.iter().count()];
            if counts[0] != counts[1] {
                let kind = ErrorKind::Refused("its table of contents has other members");
                return Err(self.fault(kind));
            }
            let beside = if toc.diff_id.is_some() { Beside::Stream } else { Beside::Rest };
            let (digests, whole) = sums(self, beside, watch)?;
            if let Some(recorded) = Digests::recorded(self)? {
                let mut differs =
                    digests.iter().filter(|(path, sum)| recorded.get(path) != Some(*sum));
                if let Some((path, _)) = differs.next() {
                    return Err(self.fail(path, ErrorKind::Refused(CHANGED)));
                }
            }
            if whole.map(|sum| sum.0) != toc.diff_id {
                return Err(self.fault(ErrorKind::Refused(CHANGED_STREAM)));
            }
            return Ok(self.summed(&digests, true));
        }
        // What is unpacked from the first byte on was unpacked whole when it was opened.
        let is_seekable = self.packing() == Packing::Seekable;
        let beside = if is_seekable { Beside::Rest } else { Beside::Nothing };
        Ok(self.summed(&sums(self, beside, watch)?.0, false))
    }

    fn summed(&self, digests: &Digests, has_digests: bool) -> Verified {
        let read = self.members().filter(|member| digests.get(member.path()).is_some());
        let (mut members, mut bytes) = (0, 0u64);
        for member in read {
            (members, bytes) = (members + 1, bytes.saturating_add(member.size()));
        }
        Verified { members, bytes, has_digests }
    }
}

const CHANGED: &str = "its content has another digest than the table of contents says";
const OTHER_PAGES: &str = "its working set has other pages than its members";
const CHANGED_STREAM: &str = "its bytes have another digest than the table of contents says";
