//! A directory that receives pages.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use criu_images::memory::{PageFlags, PageObject, PageSet, PagemapWriter, StoredRun};
use nix::fcntl::{FallocateFlags, fallocate};

use super::error::PagesError;
use super::page_size::page_size;

/// An images directory that receives pages, as `criu page-server -D` fills it.
///
/// Each object gets a pagemap and a pages file. The pages files are numbered from 65537 on, so that
/// they do not collide with those of a dump into the same directory.
///
/// A pagemap gets its name when everything has been received ([`finish`](Self::finish)). Until
/// then, and after any failure, the directory has the pagemaps from before and no incomplete one.
/// A store replaces no file. An object whose pagemap is there already is an error
/// ([`PagesError::Exists`]).
#[derive(Debug)]
#[must_use = "the received pages are removed unless finish is called"]
pub struct Store {
    directory: PathBuf,
    /// The parent set, in which pages may be left.
    parent: Option<PageSet>,
    auto_dedup: bool,
    durable: bool,
    next: u32,
    open: Option<Open>,
    done: Vec<ObjectFiles>,
}

/// The object that is being received.
#[derive(Debug)]
struct Open {
    object: PageObject,
    pagemap: PagemapWriter<File>,
    files: ObjectFiles,
    pages: Arc<PagesFile>,
    /// The ranges of addresses that the parent set has, ascending.
    inherited: Vec<(u64, u64)>,
    /// The places of the parent set's pages by file, if they are to be freed.
    stored: Vec<Vec<StoredRun>>,
}

/// The files of an object, until they get their names.
#[derive(Debug)]
struct ObjectFiles {
    /// The path of the pagemap until it gets its name.
    beside: PathBuf,
    name: PathBuf,
    pages: PathBuf,
    pagemap: Option<File>,
    file: Option<Arc<PagesFile>>,
    /// Tells that the pagemap has its name.
    named: bool,
    kept: bool,
}

/// A pages file, with its path for errors.
#[derive(Debug)]
pub(crate) struct PagesFile {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
}

impl Store {
    /// Opens a store in an existing directory. Its `parent` link leads to the parent set, if there
    /// is one.
    ///
    /// # Errors
    /// [`PagesError`] if the directory or its parent set cannot be read.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, PagesError> {
        let directory = directory.into();
        fs::metadata(&directory).map_err(PagesError::file(&directory))?;
        let parent = directory.join("parent");
        let parent = match fs::symlink_metadata(&parent) {
            Ok(_) => Some(PageSet::open(parent, page_size())?),
            Err(_) => None,
        };
        Ok(Self {
            directory,
            parent,
            auto_dedup: false,
            durable: false,
            next: FIRST,
            open: None,
            done: Vec::new(),
        })
    }

    /// Frees the space that pages take in the parent sets when they are received anew.
    pub fn auto_dedup(mut self, on: bool) -> Self {
        self.auto_dedup = on;
        self
    }

    /// Makes [`finish`](Self::finish) wait until everything is on disk (fsync(2)).
    pub fn durable(mut self, on: bool) -> Self {
        self.durable = on;
        self
    }

    /// Returns the directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns `true` if the parent set has an object.
    ///
    /// # Errors
    /// [`PagesError`] if the parent set cannot be read.
    pub fn parent_has(&self, object: PageObject) -> Result<bool, PagesError> {
        match &self.parent {
            Some(parent) => Ok(parent.has(object)?),
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
        let name = self.directory.join(object.file_name());
        if fs::symlink_metadata(&name).is_ok() {
            return Err(PagesError::Exists { path: name });
        }
        let (mut inherited, mut stored) = (Vec::new(), Vec::new());
        if let Some(found) =
            self.parent.as_ref().map(|set| set.pages(object)).transpose()?.flatten()
        {
            inherited = found.covered()?;
            if self.auto_dedup {
                let runs = found.stored_runs()?;
                let files = runs.chunk_by(|a, b| a.file == b.file);
                stored = files.map(<[StoredRun]>::to_vec).collect();
            }
        }
        let (pages_id, pages_path, pages) = self.pages_file()?;
        let beside = self.directory.join(format!(".{}.{pages_id}", object.file_name()));
        let pages = Arc::new(PagesFile { file: pages, path: pages_path.clone() });
        let (pagemap, file) = (None, None);
        let (named, kept) = (false, false);
        let files = ObjectFiles { beside, name, pages: pages_path, pagemap, file, named, kept };
        let _ = fs::remove_file(&files.beside);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&files.beside);
        let file = file.map_err(PagesError::file(&files.beside))?;
        let pagemap = PagemapWriter::new(file, pages_id, page_size());
        let pagemap = pagemap.map_err(PagesError::image(&files.beside))?;
        self.open = Some(Open { object, pagemap, files, pages, inherited, stored });
        Ok(())
    }

    /// Creates a pages file with a number that is free.
    fn pages_file(&mut self) -> Result<(u32, PathBuf, File), PagesError> {
        loop {
            let id = self.next;
            self.next += 1;
            let path = self.directory.join(format!("pages-{id}.img"));
            let mut options = OpenOptions::new();
            match options.write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => return Ok((id, path, file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(PagesError::File { path, source }),
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
        if flags.contains(PageFlags::PARENT) || self.auto_dedup {
            let end = address.saturating_add(pages.saturating_mul(page_size().bytes()));
            if flags.contains(PageFlags::PARENT) {
                open.check(address, end)?;
            } else {
                open.punch(&self.directory, address, end)?;
            }
        }
        let run = open.pagemap.run(address, pages, flags);
        run.map_err(PagesError::image(&open.files.beside))
    }

    /// Returns the file that the bytes of pages are appended to, or `None` before an object begins.
    pub(crate) fn pages(&self) -> Option<Arc<PagesFile>> {
        self.open.as_ref().map(|open| Arc::clone(&open.pages))
    }

    fn end(&mut self) -> Result<(), PagesError> {
        let Some(Open { pagemap, mut files, pages, .. }) = self.open.take() else {
            return Ok(());
        };
        files.pagemap = Some(pagemap.finish().map_err(PagesError::image(&files.beside))?);
        files.file = Some(pages);
        // An object that was received twice keeps what came last.
        self.done.retain(|done| done.name != files.name);
        self.done.push(files);
        Ok(())
    }

    /// Gives the pagemaps their names: everything has been received.
    ///
    /// # Errors
    /// [`PagesError::Exists`] if a name has been taken meanwhile; [`PagesError::File`] if a file
    /// cannot be written or renamed. No pagemap of this store is left then.
    pub fn finish(&mut self) -> Result<(), PagesError> {
        self.end()?;
        for done in &self.done {
            if self.durable {
                let pages = done.file.as_ref().map(|pages| &pages.file);
                for (file, path) in [(pages, &done.pages), (done.pagemap.as_ref(), &done.beside)] {
                    let synced = file.map_or(Ok(()), File::sync_all);
                    synced.map_err(PagesError::file(path))?;
                }
            }
        }
        for done in &mut self.done {
            name_anew(&done.beside, &done.name)?;
            done.named = true;
        }
        for done in &mut self.done {
            done.kept = true;
        }
        self.done.clear();
        if self.durable {
            let directory = File::open(&self.directory).and_then(|directory| directory.sync_all());
            directory.map_err(PagesError::file(&self.directory))?;
        }
        Ok(())
    }
}

/// Gives a file a name that no file has.
///
/// A link is made only where nothing is. File systems without links get an empty file first, which
/// only this store can have made, and that file is replaced.
fn name_anew(beside: &Path, name: &Path) -> Result<(), PagesError> {
    let named = fs::hard_link(beside, name).and_then(|()| fs::remove_file(beside));
    let named = named.or_else(|error| match error.raw_os_error() {
        Some(libc::EPERM | libc::EOPNOTSUPP | libc::ENOSYS) => {
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(name)?;
            fs::rename(beside, name)
        }
        _ => Err(error),
    });
    named.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => PagesError::Exists { path: name.to_owned() },
        _ => PagesError::file(name)(source),
    })
}

/// Removes the files of an object that is not kept.
impl Drop for ObjectFiles {
    fn drop(&mut self) {
        if !self.kept {
            if self.named {
                let _ = fs::remove_file(&self.name);
            }
            let _ = fs::remove_file(&self.beside);
            let _ = fs::remove_file(&self.pages);
        }
    }
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

    /// Frees the space that a range of pages takes in the parent sets.
    fn punch(&self, directory: &Path, start: u64, end: u64) -> Result<(), PagesError> {
        let overlapping = self.stored.iter().flat_map(|runs| {
            let first = runs.partition_point(|run| run.end <= start);
            runs.iter().skip(first).take_while(|run| run.start < end)
        });
        for StoredRun { start: first, end: last, file, offset, .. } in overlapping {
            let (from, to) = (start.max(*first), end.min(*last));
            let path = directory.join("parent").join(file);
            let punch = || -> io::Result<()> {
                let file = OpenOptions::new().write(true).open(&path)?;
                let how =
                    FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
                let number = |value: u64| i64::try_from(value).map_err(io::Error::other);
                Ok(fallocate(&file, how, number(offset + (from - first))?, number(to - from)?)?)
            };
            punch().map_err(PagesError::file(&path))?;
        }
        Ok(())
    }
}

/// The number of the first pages file.
const FIRST: u32 = 0x10001;

#[cfg(test)]
mod tests {
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
