//! Marks of pages that a lazy restore brings later, where CRIU has set none.

use std::path::Path;

use criu_images::ImageSet;
use criu_images::edit::{Edit, Unmarked, edit_directory, unmarked};

use crate::output::Output;

/// The place of images without marks, which decides how a user can mark them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A directory that the user has named.
    Directory,
    /// An archive, which cannot be edited.
    Packed,
    /// Another machine has the pages.
    Elsewhere,
}

/// Marks the pages of a new checkpoint that CRIU has left without a mark by mistake, and says so.
/// Returns their number.
///
/// A checkpoint without marks is whole. So a failure here is reported, and the dump still succeeds.
pub(crate) fn mark(images: &Path, output: &Output) -> u64 {
    let found = find(images);
    let Some(reason) = reason(&found) else { return 0 };
    match edit_directory(images, &[Edit::MarkLazy]) {
        Ok(_) => {
            let pages = pages(&found);
            output.say(format!("{reason}: {pages} pages are marked now"));
            pages
        }
        Err(error) => {
            output.say(format!("{reason}, and marks cannot be written: {error}"));
            0
        }
    }
}

/// Tells why memory does not come later, if CRIU has left it without a mark by mistake, and what to
/// do.
pub(crate) fn note(images: &Path, place: Place, say: impl FnOnce(String)) {
    let found = find(images);
    let Some(reason) = reason(&found) else { return };
    let (pages, directory) = (pages(&found), images.display());
    let advice = match place {
        Place::Directory => {
            format!("; `criu-rs crit edit {directory} mark-lazy` lets {pages} pages come later")
        }
        Place::Packed => format!(
            "; unpack the images, and `criu-rs crit edit DIRECTORY mark-lazy` lets {pages} pages \
             come later"
        ),
        Place::Elsewhere => String::new(),
    };
    say(format!("{reason}: {pages} pages come before the tasks run{advice}"));
}

/// Finds the tasks without marks. None if the images cannot be read, which a restore tells.
fn find(images: &Path) -> Vec<Unmarked> {
    ImageSet::open(images).and_then(|set| unmarked(&set)).unwrap_or_default()
}

fn pages(found: &[Unmarked]) -> u64 {
    found.iter().fold(0, |all, task| all.saturating_add(task.pages))
}

fn reason(found: &[Unmarked]) -> Option<String> {
    let Unmarked { pid, tid, stack_pointer, .. } = found.first()?;
    let others = match found.len() {
        1 => String::new(),
        tasks => format!(" (and so for {} other processes)", tasks - 1),
    };
    Some(format!(
        "CRIU marked no page of process {pid} for a lazy restore, because the stack pointer of \
         thread {tid}, {stack_pointer:#x}, is at the start of a page{others}"
    ))
}
