//! A directory that receives pages.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use criu_images::memory::{PageFlags, PageObject, PageSet, PagemapWriter};

use super::error::PagesError;
use super::folder::{Folder, Identity};
use super::page_size::page_size;
use super::shortage::Shortage;

/// An images directory that receives pages, as `criu page-server -D` fills it.
///
/// Each object gets a pagemap and a pages file. The pages files are numbered from 65537 on, so that
/// they do not collide with those of a dump into the same directory.
///
/// A pagemap gets its name when everything has been received ([`finish`](Self::finish)). Until
/// then, and after any failure, the directory has the pagemaps from before and no incomplete one.
/// A store replaces no file. An object whose pagemap is there already is an error
/// ([`PagesError::Exists`]).
///
/// The directory is opened once and held, and no link in it is followed, except `parent`. An object
/// takes about 60 bytes of memory after its end, and no descriptor.
#[derive(Debug)]
#[must_use = "the received pages are removed unless finish is called"]
pub struct Store {
    folder: Folder,
    /// The parent set, in which pages may be left.
    parent: Option<PageSet>,
    auto_dedup: bool,
    durable: bool,
    /// Tells that bytes of an object come after its end.
    late: bool,
    shortage: Shortage,
    next: u32,
    open: Option<Open>,
    done: BTreeMap<PageObject, Ended>,
    /// The last files that have ended and are not on disk, if they have to be.
    unsynced: VecDeque<Arc<Placed>>,
}

/// The object that is being received.
#[derive(Debug)]
struct Open {
    object: PageObject,
    pagemap: PagemapWriter<File>,
    pages: Arc<Placed>,
    made: Ended,
    /// The ranges of addresses that the parent set has, ascending.
    inherited: Vec<(u64, u64)>,
}

/// The files of an object.
#[derive(Clone, Copy, Debug)]
struct Ended {
    pages_id: u32,
    pagemap: Identity,
    pages: Identity,
    /// Tells that the pagemap has its name.
    named: bool,
}

/// The ranges of a buffer that belong into the pages file of an object, in order.
#[derive(Debug)]
pub(super) struct Part {
    object: PageObject,
    pages_id: u32,
    pub(super) ranges: Vec<Range<usize>>,
}

/// A file, with its path for errors.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) file: File,
    pub(super) path: PathBuf,
}

impl Store {
    /// Opens a store in an existing directory. Its `parent` link leads to the parent set, if there
    /// is one.
    ///
    /// # Errors
    /// [`PagesError`] if the directory or its parent set cannot be read.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, PagesError> {
        let folder = Folder::open(&directory.into())?;
        let parent = folder.images().parent_directory()?;
        Ok(Self {
            folder,
            parent: parent.map(|parent| PageSet::new(parent, page_size())),
            auto_dedup: false,
            durable: false,
            late: false,
            shortage: Shortage::default(),
            next: FIRST,
            open: None,
            done: BTreeMap::new(),
            unsynced: VecDeque::new(),
        })
    }

    /// Frees the space that pages take in the parent sets when they have been received anew. That
    /// is done in [`finish`](Self::finish): a session that fails leaves the parent sets as they
    /// are.
    pub fn auto_dedup(mut self, on: bool) -> Self {
        self.auto_dedup = on;
        self
    }

    /// Makes [`finish`](Self::finish) wait until everything is on disk (fsync(2)).
    pub fn durable(mut self, on: bool) -> Self {
        self.durable = on;
        self
    }

    /// Lets others read the files: they get CRIU's own mode 0644, less the umask, and not 0600.
    ///
    /// The restore of a tree in a user namespace of its own reads the images as a user of that
    /// namespace. Keep the directory above closed to others.
    pub fn others_read(mut self, on: bool) -> Self {
        if on {
            self.folder.let_others_read();
        }
        self
    }

    /// Tells that bytes of an object may come after its end ([`write`](Self::write)).
    pub(super) fn late(&mut self) {
        self.late = true;
    }

    /// Opens a store as [`open`](Self::open) does, in a directory of this process's user to which
    /// no link leads.
    pub(super) fn open_own(directory: &Path) -> Result<Self, PagesError> {
        let store = Self::open(directory)?;
        store.folder.check_own()?;
        Ok(store)
    }

    /// Sets the patience with a shortage of descriptors. Without, none is waited out.
    pub(super) fn patient(mut self, shortage: Shortage) -> Self {
        self.shortage = shortage;
        self
    }

    /// Returns the directory.
    pub fn directory(&self) -> &Path {
        self.folder.path()
    }

    /// Returns `true` if the parent set has an object.
    ///
    /// # Errors
    /// [`PagesError`] if the parent set cannot be read.
    pub fn parent_has(&self, object: PageObject) -> Result<bool, PagesError> {
        match &self.parent {
            Some(parent) => self.shortage.repeat(|| Ok(parent.has(object)?)),
            None => Ok(false),
        }
    }

    /// Begins an object, after ending the object before. An object that is begun twice before
    /// [`finish`](Self::finish) keeps what came last.
    ///
    /// # Errors
    /// [`PagesError::Exists`] if the directory has a pagemap of the object; other [`PagesError`]s
    /// if the object's files cannot be written, or the parent set cannot be read.
    pub fn begin(&mut self, object: PageObject) -> Result<(), PagesError> {
        self.end()?;
        let shortage = self.shortage;
        // Files that have ended hold descriptors until they are on disk.
        shortage.wait_out(self, |store| store.try_begin(object), |store| store.sync(0))
    }

    fn try_begin(&mut self, object: PageObject) -> Result<(), PagesError> {
        let name = object.file_name();
        if self.folder.has(&name) {
            return Err(PagesError::Exists { path: self.folder.place(&name) });
        }
        let found = self.parent.as_ref().map(|set| set.pages(object)).transpose()?.flatten();
        let inherited = found.map(|found| found.covered()).transpose()?.unwrap_or_default();
        let (pages_id, pages) = self.pages_file()?;
        let begun = self.begin_pagemap(object, pages_id, pages, inherited);
        self.open = Some(begun.inspect_err(|_| self.folder.remove(&pages_name(pages_id)))?);
        Ok(())
    }

    fn begin_pagemap(
        &self,
        object: PageObject,
        pages_id: u32,
        file: File,
        inherited: Vec<(u64, u64)>,
    ) -> Result<Open, PagesError> {
        let beside = beside(object, pages_id);
        let failed = || self.folder.failed(&beside);
        let pagemap = match self.folder.create(&beside) {
            // A store that was killed has left one.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.folder.remove(&beside);
                self.folder.create(&beside)
            }
            made => made,
        };
        let pagemap = pagemap.map_err(failed())?;
        let path = self.folder.place(&pages_name(pages_id));
        let pages = Identity::of(&file).map_err(PagesError::file(&path))?;
        let made = Identity::of(&pagemap).map_err(failed())?;
        let made = Ended { pages_id, pagemap: made, pages, named: false };
        let pagemap = PagemapWriter::new(pagemap, pages_id, page_size());
        let pagemap = pagemap.map_err(PagesError::image(self.folder.place(&beside)))?;
        Ok(Open { object, pagemap, pages: Arc::new(Placed { file, path }), made, inherited })
    }

    /// Creates a pages file with a number that is free.
    fn pages_file(&mut self) -> Result<(u32, File), PagesError> {
        loop {
            let id = self.next;
            let name = pages_name(id);
            let none = || self.folder.failed(&name)(io::ErrorKind::AlreadyExists.into());
            self.next = id.checked_add(1).ok_or_else(none)?;
            match self.folder.create(&name) {
                Ok(file) => return Ok((id, file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(self.folder.failed(&name)(error)),
            }
        }
    }

    /// Adds a run of pages to the object. The bytes of present pages go to its pages file.
    ///
    /// # Errors
    /// [`PagesError::NoObject`] before [`begin`](Self::begin) and after [`finish`](Self::finish);
    /// [`PagesError::Hole`] if pages are left to the parent set, which does not have them; other
    /// [`PagesError`]s if a file cannot be written.
    #[inline]
    pub fn run(&mut self, address: u64, pages: u64, flags: u16) -> Result<(), PagesError> {
        let open = self.open.as_mut().ok_or(PagesError::NoObject { address })?;
        let flags = PageFlags::from_bits_retain(flags.into());
        if flags.contains(PageFlags::PARENT) {
            open.check(address, address.saturating_add(pages.saturating_mul(page_size().bytes())))?;
        }
        let run = open.pagemap.run(address, pages, flags);
        let beside = || self.folder.place(&beside(open.object, open.made.pages_id));
        run.map_err(|error| PagesError::image(beside())(error))
    }

    /// Returns the file that the bytes of pages are appended to, or `None` before an object begins.
    pub(super) fn pages(&self) -> Option<Arc<Placed>> {
        self.open.as_ref().map(|open| Arc::clone(&open.pages))
    }

    /// Returns an empty part of the open object, or `None` before an object begins.
    pub(super) fn part(&self) -> Option<Part> {
        let Open { object, made, .. } = self.open.as_ref()?;
        Some(Part { object: *object, pages_id: made.pages_id, ranges: Vec::new() })
    }

    /// Appends the ranges of a part to the pages file of its object, which may have ended in a
    /// store whose bytes come [late](Self::late). Calls `wrote` with the bytes written since the
    /// last call.
    ///
    /// The bytes of an object that has begun anew since are left out.
    pub(super) fn write(
        &self,
        part: &Part,
        buffer: &[u8],
        wrote: impl FnMut(usize),
    ) -> Result<(), PagesError> {
        let open = self.open.as_ref().filter(|open| open.made.pages_id == part.pages_id);
        if let Some(open) = open {
            let written = part.write(&open.pages.file, buffer, wrote);
            return written.map_err(PagesError::file(&open.pages.path));
        }
        let ended = self.done.get(&part.object).filter(|done| done.pages_id == part.pages_id);
        let Some(ended) = ended else { return Ok(()) };
        let name = pages_name(part.pages_id);
        let open = || self.folder.append(&name, ended.pages).map_err(self.folder.failed(&name));
        let file = self.shortage.repeat(open)?;
        part.write(&file, buffer, wrote).map_err(self.folder.failed(&name))
    }

    fn end(&mut self) -> Result<(), PagesError> {
        let Some(Open { object, pagemap, pages, made, .. }) = self.open.take() else {
            return Ok(());
        };
        let beside = beside(object, made.pages_id);
        // An object that was received twice keeps what came last.
        if let Some(before) = self.done.insert(object, made) {
            remove(&self.folder, object, before);
        }
        let path = self.folder.place(&beside);
        let file = pagemap.finish().map_err(PagesError::image(&path))?;
        if self.durable && !self.late {
            self.unsynced.extend([pages, Arc::new(Placed { file, path })]);
            self.sync(HELD)?;
        }
        Ok(())
    }

    /// Waits for the files that ended first, until no more than `most` are not on disk.
    fn sync(&mut self, most: usize) -> Result<(), PagesError> {
        while self.unsynced.len() > most {
            let Some(first) = self.unsynced.pop_front() else { break };
            first.file.sync_all().map_err(PagesError::file(&first.path))?;
        }
        Ok(())
    }

    /// Waits for files that were closed before all their bytes came.
    fn sync_late(&self) -> Result<(), PagesError> {
        for (object, ended) in &self.done {
            let (pages, pagemap) = (pages_name(ended.pages_id), beside(*object, ended.pages_id));
            for (name, made) in [(pages, ended.pages), (pagemap, ended.pagemap)] {
                self.shortage.repeat(|| {
                    let synced = self.folder.append(&name, made).and_then(|file| file.sync_all());
                    synced.map_err(self.folder.failed(&name))
                })?;
            }
        }
        Ok(())
    }

    /// Gives the pagemaps their names: everything has been received.
    ///
    /// # Errors
    /// [`PagesError::Exists`] if a name has been taken meanwhile; [`PagesError::File`] if a file
    /// cannot be written or renamed. No pagemap of this store is left then. Another error if the
    /// space in a parent set cannot be freed: the pagemaps are left if some has been freed.
    pub fn finish(&mut self) -> Result<(), PagesError> {
        self.name()?;
        self.keep();
        Ok(())
    }

    /// Does what [`finish`](Self::finish) does. All files are removed again unless
    /// [`keep`](Self::keep) is called.
    pub(super) fn name(&mut self) -> Result<(), PagesError> {
        let named = self.try_name();
        if named.is_err() {
            self.remove_all();
        }
        named
    }

    fn try_name(&mut self) -> Result<(), PagesError> {
        self.end()?;
        self.sync(0)?;
        if self.durable && self.late {
            self.sync_late()?;
        }
        for (object, ended) in &mut self.done {
            let name = object.file_name();
            let named = self.folder.rename_anew(&beside(*object, ended.pages_id), &name);
            named.map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => {
                    PagesError::Exists { path: self.folder.place(&name) }
                }
                _ => self.folder.failed(&name)(error),
            })?;
            ended.named = true;
        }
        if self.durable {
            let sync = || self.folder.sync().map_err(PagesError::file(self.folder.path()));
            self.shortage.repeat(sync)?;
        }
        if self.auto_dedup { self.dedup() } else { Ok(()) }
    }

    /// Keeps the files that have been named.
    pub(super) fn keep(&mut self) {
        self.done.clear();
    }

    /// Frees the space in the parent sets of pages that have been received. As soon as some is
    /// freed, the files of this store are kept: the pages are nowhere else.
    fn dedup(&mut self) -> Result<(), PagesError> {
        let mut freed = false;
        let result = self.free(&mut freed);
        if freed {
            self.keep();
        }
        result
    }

    fn free(&self, freed: &mut bool) -> Result<(), PagesError> {
        let Some(parent) = &self.parent else { return Ok(()) };
        let own = PageSet::new(self.folder.images().clone(), page_size());
        for object in self.done.keys() {
            let both = || Ok((parent.pages(*object)?, own.pages(*object)?));
            let (Some(before), Some(now)) = self.shortage.repeat(both)? else { continue };
            for run in now.runs().filter(|run| run.flags.contains(PageFlags::PRESENT)) {
                let size = run.pages.saturating_mul(page_size().bytes());
                before.punch(run.start, run.start.saturating_add(size))?;
                *freed = true;
            }
        }
        Ok(())
    }

    /// Removes all files that are not kept.
    fn remove_all(&mut self) {
        if let Some(open) = self.open.take() {
            remove(&self.folder, open.object, open.made);
        }
        for (object, ended) in std::mem::take(&mut self.done) {
            remove(&self.folder, object, ended);
        }
    }
}

/// Removes the files that are not kept.
impl Drop for Store {
    fn drop(&mut self) {
        self.remove_all();
    }
}

/// Removes the files of an object.
fn remove(folder: &Folder, object: PageObject, ended: Ended) {
    if ended.named {
        folder.remove(&object.file_name());
    }
    folder.remove(&beside(object, ended.pages_id));
    folder.remove(&pages_name(ended.pages_id));
}

/// Returns the name of a pagemap until everything has been received.
fn beside(object: PageObject, pages_id: u32) -> String {
    format!(".{}.{pages_id}", object.file_name())
}

fn pages_name(id: u32) -> String {
    format!("pages-{id}.img")
}

impl Part {
    /// Returns the number of bytes in the ranges.
    pub(super) fn bytes(&self) -> u64 {
        self.ranges.iter().map(|range| range.len() as u64).sum()
    }

    fn write(&self, file: &File, buffer: &[u8], mut wrote: impl FnMut(usize)) -> io::Result<()> {
        for ranges in self.ranges.chunks(AT_ONCE) {
            let slices = ranges.iter().filter_map(|range| buffer.get(range.clone()));
            let mut slices: Vec<IoSlice<'_>> = slices.map(IoSlice::new).collect();
            let size = slices.iter().map(|slice| slice.len()).sum();
            write_all(file, &mut slices)?;
            wrote(size);
        }
        Ok(())
    }
}

/// Writes all slices, with as few system calls as possible.
fn write_all(mut file: &File, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    while !slices.is_empty() {
        match file.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(size) => IoSlice::advance_slices(&mut slices, size),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Open {
    /// Checks that the parent set has the pages that are left to it.
    fn check(&self, start: u64, end: u64) -> Result<(), PagesError> {
        let after = self.inherited.partition_point(|range| range.0 <= start);
        let before = after.checked_sub(1).and_then(|index| self.inherited.get(index));
        let covered = before.map_or(start, |range| range.1);
        if covered < end {
            let (object, address) = (self.object.file_name(), covered.max(start));
            return Err(PagesError::Hole { object, address });
        }
        Ok(())
    }
}

/// The number of the first pages file.
const FIRST: u32 = 0x10001;
/// The files that have ended and stay open until they are on disk.
const HELD: usize = 16;
/// The most slices that one system call writes.
const AT_ONCE: usize = 1024;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_store_replaces_no_pagemap_and_leaves_none_of_its_own_then() {
        let folder = std::env::temp_dir().join(format!("criu-rs-kept-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let name = |pid: u32| folder.join(format!("pagemap-{pid}.img"));
        fs::write(name(7), "of before").unwrap();
        std::os::unix::fs::symlink("nowhere", name(8)).unwrap();
        let mut store = Store::open(&folder).unwrap();
        for pid in [7, 8] {
            let error = store.begin(PageObject::Task(pid)).unwrap_err();
            assert!(matches!(&error, PagesError::Exists { path } if *path == name(pid)));
        }
        // A name that is taken while pages come.
        for pid in [9, 10, 11] {
            store.begin(PageObject::Task(pid)).unwrap();
            store.run(0x40_0000, 1, 1 << 1).unwrap();
        }
        fs::write(name(10), "of meanwhile").unwrap();
        let error = store.finish().unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: is there", name(10).display())), "{error}");
        drop(store);
        let mut left: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
        left.sort();
        assert_eq!(left, [name(10), name(7), name(8)]);
        assert_eq!(fs::read(name(7)).unwrap(), b"of before");
        assert_eq!(fs::read(name(10)).unwrap(), b"of meanwhile");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn pages_without_an_object_are_refused_as_that() {
        let folder = std::env::temp_dir().join(format!("criu-rs-store-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut store = Store::open(&folder).unwrap();
        let refused = |store: &mut Store| {
            let error = store.run(0x40_0000, 1, 4).unwrap_err();
            assert!(matches!(error, PagesError::NoObject { address: 0x40_0000 }), "{error:?}");
            assert_eq!(error.to_string(), "pages at 0x400000 belong to no object: begin one first");
        };
        refused(&mut store);
        store.begin(PageObject::Task(7)).unwrap();
        store.run(0x40_0000, 1, 4).unwrap();
        store.finish().unwrap();
        refused(&mut store);
        fs::remove_dir_all(&folder).unwrap();
    }
}
