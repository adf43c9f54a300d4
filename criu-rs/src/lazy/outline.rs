//! Images in a directory for CRIU, without the pages that come later.

use std::fs::{DirBuilder, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use criu_images::memory::{PageFlags, Pagemap};
use criu_images::source::{Blob, Source};
use criu_images::{ErrorKind, Text, bounds, kind};

use super::error::LazyError;
use super::snapshot::{LazyTask, Snapshot};
use crate::pages::page_size;

/// Name of a pages file, and places in it that stay empty.
type Holes = (String, Vec<Range<u64>>);

/// Images that were written for CRIU.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Outline {
    /// Bytes that were copied.
    pub copied: u64,
    /// Bytes of pages that come later, which are holes of the pages files.
    pub later: u64,
}

impl Outline {
    /// Writes the images of a source into an empty directory, from which CRIU restores. CRIU reads
    /// files; the source may be an archive, or an image in a registry.
    ///
    /// With a snapshot, the pages files have holes where the snapshot says that pages come later:
    /// the restore has to be [lazy](crate::Restore::lazy), and take its pages from the source. Else
    /// all pages are copied. Parent sets are written to `parent`, with all their pages. Entries of
    /// the source that are no regular files are left out. Files have mode 0600.
    ///
    /// # Errors
    /// [`LazyError::Images`] if an image cannot be read; [`LazyError::System`] if a file cannot be
    /// written.
    pub fn write(
        source: &dyn Source,
        directory: &Path,
        later: Option<&Snapshot>,
    ) -> Result<Self, LazyError> {
        let mut outline = Self::default();
        let tasks = later.map(Snapshot::tasks).unwrap_or_default();
        outline.write_set(source, directory, tasks)?;
        let mut parent = source.parent()?;
        let mut place = directory.to_owned();
        while let Some(source) = parent {
            place.push("parent");
            DirBuilder::new().mode(0o700).create(&place).map_err(failed)?;
            outline.write_set(&*source, &place, &[])?;
            parent = source.parent()?;
        }
        Ok(outline)
    }

    fn write_set(
        &mut self,
        source: &dyn Source,
        directory: &Path,
        tasks: &[LazyTask],
    ) -> Result<(), LazyError> {
        // Places in pages files that stay empty, by the name of the file.
        let mut holes: Vec<Holes> = Vec::new();
        for task in tasks {
            let name = kind::PAGEMAP.file_name(task.pid().into());
            if let Some(blob) = source.open(&name)? {
                holes.extend(holes_of(task, &name, &blob)?);
            }
        }
        for name in source.names()? {
            if name == "parent" || name.contains('/') {
                continue;
            }
            let blob = match source.open(&name) {
                Ok(Some(blob)) => blob,
                Ok(None) => continue,
                Err(error) if matches!(error.kind(), ErrorKind::NotAFile) => continue,
                Err(error) => return Err(error.into()),
            };
            let empty = holes.iter().filter(|(file, _)| *file == name);
            let mut empty: Vec<_> = empty.flat_map(|(_, holes)| holes.iter().cloned()).collect();
            empty.sort_unstable_by_key(|hole| hole.start);
            self.copy(&name, &blob, &directory.join(&name), &empty)?;
        }
        Ok(())
    }

    /// Copies a file, except some places.
    fn copy(
        &mut self,
        name: &str,
        blob: &Blob,
        to: &Path,
        holes: &[Range<u64>],
    ) -> Result<(), LazyError> {
        let mut options = File::options();
        let file = options.write(true).create_new(true).mode(0o600).open(to).map_err(failed)?;
        file.set_len(blob.len()).map_err(failed)?;
        let mut piece = Vec::new();
        let mut copy = |range: Range<u64>| -> Result<(), LazyError> {
            let mut at = range.start;
            while at < range.end {
                let size = (range.end - at).min(PIECE);
                piece.resize(usize::try_from(size).unwrap_or_default(), 0);
                let unreadable = |source: io::Error| {
                    let place = Text(name.as_bytes()).to_string();
                    let reason = io::Error::new(source.kind(), format!("{place}: {source}"));
                    LazyError::system("read an image")(reason)
                };
                blob.read_at(at, &mut piece).map_err(unreadable)?;
                file.write_all_at(&piece, at).map_err(failed)?;
                at += size;
                self.copied += size;
            }
            Ok(())
        };
        let mut at = 0;
        for hole in holes {
            let (start, end) = (hole.start.min(blob.len()), hole.end.min(blob.len()));
            copy(at..start)?;
            at = at.max(end);
            self.later += end.saturating_sub(start);
        }
        copy(at..blob.len())
    }
}

/// Returns the name of the pages file of a task, and the places of its pages that come later.
fn holes_of(task: &LazyTask, name: &str, blob: &Blob) -> Result<Option<Holes>, LazyError> {
    let bytes = blob.to_vec(bounds::IMAGE.get()).map_err(|kind| kind.in_image(name))?;
    let pagemap = Pagemap::parse(name, &bytes, kind::PAGEMAP, page_size())?;
    let file = kind::PAGES.file_name(pagemap.pages_id().into());
    let (mut holes, mut offset) = (Vec::new(), 0_u64);
    let mut missing = task.missing().iter().peekable();
    for run in pagemap.runs() {
        let run = run?;
        if run.compressed {
            // Offsets need the sizes of all blocks. Compressed sets are small: all is copied.
            return Ok(None);
        }
        if !run.flags.contains(PageFlags::PRESENT) {
            continue;
        }
        let size = run.pages.saturating_mul(page_size().bytes());
        let end = run.start.saturating_add(size);
        while let Some(range) = missing.peek() {
            let (from, to) = (range.start.max(run.start), range.end.min(end));
            if from < to && run.flags.contains(PageFlags::LAZY) {
                let at = |address: u64| offset.saturating_add(address - run.start);
                holes.push(at(from)..at(to));
            }
            if range.end > end {
                break;
            }
            missing.next();
        }
        offset = offset.saturating_add(size);
    }
    Ok(Some((file, holes)))
}

fn failed(source: io::Error) -> LazyError {
    LazyError::system("write an image")(source)
}

/// The bytes that are copied at once.
const PIECE: u64 = 1 << 20;
