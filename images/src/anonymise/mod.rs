//! Copies of checkpoints for strangers: everything private is replaced, the structure stays.
//!
//! ```text
//! memory, pipes, sockets, messages, files   a filler; zero pages stay zero, equal pages stay equal
//! paths, names, hosts, devices              pseudonyms of the same length, everywhere the same
//! IP addresses                              other addresses; equal prefixes stay equal
//! registers                                 zero, except those that say where the thread is
//! sizes, ids, inodes, times, users, flags   as they are
//! ```
//!
//! An [`Anonymous`] is a [`Source`] in front of another source. A reader of images gets the
//! replaced bytes. The secret that makes the pseudonyms is random and is never stored.

mod addresses;
mod filler;
mod firewall;
mod image;
mod known;
mod names;
mod netlink;
mod pages;
mod raw;
mod rules;

use std::sync::{Arc, OnceLock};

use crate::bounds;
use crate::error::{Error, Result};
use crate::kind::{self, Entries, Kind};
use crate::memory::PageSize;
use crate::source::{Blob, Source};
use addresses::Addresses;
use filler::Filler;
use names::Names;
use pages::{Layouts, Pages};

/// A checkpoint whose private parts are replaced.
///
/// ```
/// use criu_images::ImageSet;
/// use criu_images::anonymise::Anonymous;
/// use criu_images::source::Directory;
///
/// let set = ImageSet::new(Anonymous::new(Directory::open("tests/data/pipeline")?))?;
/// // The tree is the same. The names of the programs are not.
/// println!("{}", set.checkpoint()?.tree());
/// # Ok::<(), criu_images::Error>(())
/// ```
#[derive(Debug)]
pub struct Anonymous {
    source: Box<dyn Source>,
    secret: Secret,
    /// Page size of the set that this one is a parent of.
    child: Option<PageSize>,
    /// Places of compressed pages, which the pagemaps tell.
    layouts: OnceLock<Layouts>,
}

/// The makers of pseudonyms, addresses and fillers. All sets of a chain share them.
#[derive(Clone, Debug, Default)]
struct Secret {
    names: Arc<Names>,
    addresses: Arc<Addresses>,
    filler: Arc<Filler>,
}

impl Anonymous {
    /// Puts a source behind a new random secret.
    pub fn new(source: impl Source + 'static) -> Self {
        Self::with(Box::new(source), Secret::default(), None)
    }

    /// Puts another source behind the same secret: a name has the same pseudonym in both.
    #[must_use]
    pub fn beside(&self, source: impl Source + 'static) -> Self {
        Self::with(Box::new(source), self.secret.clone(), None)
    }

    fn with(source: Box<dyn Source>, secret: Secret, child: Option<PageSize>) -> Self {
        Self { source, secret, child, layouts: OnceLock::new() }
    }

    /// Names of the files that are left out: nobody knows what is in them, or they describe what
    /// has been replaced.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io).
    pub fn left_out(&self) -> Result<Vec<String>> {
        let mut names = self.source.names()?;
        names.retain(|name| Kind::of_file(name).is_none());
        names.sort_unstable();
        Ok(names)
    }

    /// Returns true for a kind of image whose content is not replaced but removed: archives of
    /// temporary file systems, and tracked connections.
    #[must_use]
    pub fn empties(kind: &Kind) -> bool {
        raw::is_emptied(kind)
    }

    /// Pseudonym of a path, the same that the path has in the images.
    pub fn path(&self, path: &[u8]) -> Vec<u8> {
        self.secret.names.path(path)
    }

    /// Pseudonym of a name, such as that of a host.
    pub fn name(&self, name: &[u8]) -> Vec<u8> {
        self.secret.names.word(name)
    }

    /// Replaces an address, with or without a prefix, or a hardware address. Returns `None` for a
    /// text that is neither.
    pub fn address(&self, text: &[u8]) -> Option<Vec<u8>> {
        addresses::address(text, &self.secret)
    }

    /// Pseudonym of the name of a network device. Names that the kernel or an engine gives stay.
    pub fn device(&self, name: &[u8]) -> Vec<u8> {
        names::device(name, &self.secret)
    }

    /// Replaces what is private in options of a mount, with commas between them. Usual options and
    /// numbers stay.
    pub fn options(&self, options: &[u8]) -> Vec<u8> {
        image::options(options, &self.secret)
    }

    /// Bytes in place of a content: as many hexadecimal digits.
    pub fn content(&self, content: &[u8]) -> Vec<u8> {
        let mut content = content.to_vec();
        self.secret.filler.replace(&mut content);
        content
    }

    /// Returns the page size. A set of memory alone does not have it: then that of its child.
    fn page_size(&self) -> Result<PageSize> {
        Ok(self.child.or(pages::page_size(&*self.source)?).unwrap_or(PageSize::K4))
    }

    fn pages(&self, name: &str, pages: Blob) -> Result<Blob> {
        let layouts = match self.layouts.get() {
            Some(layouts) => layouts,
            None => {
                let found = Layouts::read(&*self.source, self.page_size()?)?;
                self.layouts.get_or_init(|| found)
            }
        };
        let spans = layouts.of(name, pages.len());
        Ok(Blob::new(Pages::new(pages, spans, Arc::clone(&self.secret.filler))))
    }
}

impl Source for Anonymous {
    fn names(&self) -> Result<Vec<String>> {
        let mut names = self.source.names()?;
        names.retain(|name| Kind::of_file(name).is_some());
        Ok(names)
    }

    fn open(&self, name: &str) -> Result<Option<Blob>> {
        let Some((kind, _)) = Kind::of_file(name) else { return Ok(None) };
        let Some(blob) = self.source.open(name)? else { return Ok(None) };
        if kind == kind::PAGES || kind == kind::PAGES_SHMEM {
            return self.pages(name, blob).map(Some);
        }
        let bytes = whole(name, &blob)?;
        let replaced = match kind.entries {
            Entries::Raw => raw::replaced(kind, &bytes, &self.secret),
            _ => image::replaced(name, &bytes, kind, &self.secret)?,
        };
        Ok(Some(replaced.into()))
    }

    fn parent(&self) -> Result<Option<Box<dyn Source>>> {
        let Some(parent) = self.source.parent()? else { return Ok(None) };
        let parent = Self::with(parent, self.secret.clone(), Some(self.page_size()?));
        Ok(Some(Box::new(parent)))
    }
}

/// Reads a file that is not pages.
fn whole(name: &str, blob: &Blob) -> Result<Vec<u8>> {
    blob.to_vec(bounds::IMAGE.get()).map_err(|kind| Error::new(name, kind))
}
