//! The refusal of images that lack memory.

use std::os::fd::{AsFd, OwnedFd};

use criu_images::{ImageSet, Severity, check_pages};

use crate::diagnosis::{Cause, Failure};
use crate::error::{Error, Result};
use crate::rpc::CriuOpts;
use crate::sys::proc_link;

/// Refuses a restore whose images lack pages that their pagemaps list. CRIU before 4.2 reads a file
/// of pages that is too short for ever, and starts the tasks without the rest of a pagemap that is
/// too short.
///
/// # Errors
/// [`Error::Failed`] with [`Cause::ImagesDamaged`], or [`Cause::ParentMissing`] if the link to the
/// parent's images leads nowhere.
pub(crate) fn refuse_missing(images: Option<&OwnedFd>, message: &CriuOpts) -> Result<()> {
    let Some(images) = images.filter(|_| !message.lazy_pages()) else { return Ok(()) };
    // CRIU will say what is wrong with images that are no set.
    let Ok(set) = ImageSet::open(proc_link(images.as_fd())) else { return Ok(()) };
    let found = check_pages(&set).into_iter().find(|found| found.severity == Severity::Error);
    found.map_or(Ok(()), |found| {
        let is_parent = found.error.image() == "parent";
        let cause = if is_parent { Cause::ParentMissing } else { Cause::ImagesDamaged };
        let seen = Some(found.error.to_string());
        Err(Error::Failed(Box::new(Failure::not_asked("restore", cause, seen))))
    })
}
