//! The images in which criu frees pages (`auto_dedup`), made safe from other users.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use criu_images::kind::{Kind, PAGES};
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::places::{link_text, writers_of};
use super::prepared::{Prepared, clone};
use crate::error::{Error, Result};
use crate::undo::Staging;
use crate::value::{Role, look};

impl Prepared {
    /// Returns a directory with the images of `directory` in which criu can free pages, and says
    /// whether that is another directory. The images of a directory that others can write are
    /// linked into a private one: a link at the name of a pages file would make criu free pages in
    /// the file that the link leads to. The same holds for the parent images.
    ///
    /// # Errors
    /// [`Error::Place`] if a pages file is no file of this user, and a system's error if a file
    /// cannot be linked, or there are too many parents.
    pub(super) fn for_dedup(
        &mut self,
        directory: OwnedFd,
        shown: &Path,
        private: &mut Vec<Arc<Staging>>,
    ) -> Result<(OwnedFd, bool)> {
        self.for_dedup_at(directory, shown, private, 0)
    }

    fn for_dedup_at(
        &mut self,
        directory: OwnedFd,
        shown: &Path,
        private: &mut Vec<Arc<Staging>>,
        depth: u32,
    ) -> Result<(OwnedFd, bool)> {
        if depth > MAX_PARENTS {
            let why = std::io::Error::other(format!("there are more than {MAX_PARENTS}"));
            return Err(Error::system("look at the parent images", why));
        }
        Staging::remove_left_links(&directory);
        look(&directory, shown, |name| is_pages(name).then_some(Role::File))?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        // CRIU will say what is wrong with a parent that is not there.
        let above = link_text(&directory, shown)?
            .and_then(|text| openat(&directory, text.as_c_str(), flags, Mode::empty()).ok());
        let above = match above {
            Some(above) => {
                Some(self.for_dedup_at(above, &shown.join("parent"), private, depth + 1)?)
            }
            None => None,
        };
        let is_other = above.as_ref().is_some_and(|(_, is_other)| *is_other);
        if !is_other && writers_of(&directory)?.is_none() {
            return Ok((directory, false));
        }
        let staging = Staging::make(directory, shown.to_owned())?;
        staging
            .link_images(|name| name.to_str().is_ok_and(|name| Kind::of_file(name).is_some()))?;
        if let Some((above, _)) = above {
            let number = self.handed.show(above);
            staging.link_parent(&format!("/proc/{}/fd/{number}", std::process::id()))?;
        }
        let linked = clone(staging.directory())?;
        private.push(Arc::new(staging));
        Ok((linked, true))
    }
}

fn is_pages(name: &CStr) -> bool {
    name.to_str().ok().and_then(Kind::of_file).is_some_and(|(kind, _)| kind == PAGES)
}

/// The largest number of parents. A series of pre-dumps has a few.
const MAX_PARENTS: u32 = 64;
