//! Members of an archive in the making, and how they are written.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use criu_images::kind::INVENTORY;
use criu_images::source::{Blob, Source};

use super::content::Content;
use super::folder::Folder;
use super::headers::{BLOCK, Described, Kind};
use super::new_file::NewFile;
use super::order::Class;
use crate::archive::Archive;
use crate::digest::Sha256;
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::index::{LEADS_OUT, extractable, stays_inside};
use crate::member::{Member, MemberKind};
use crate::metadata::names::{CHECKPOINT, pre_checkpoint};
use crate::packing::{Entry, Form, Sink, Written, working_set};
use crate::path;
use crate::watch::Watch;

/// Members of an archive in the making.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Shared with drafts that were cloned, until one of them is changed.
    members: Arc<BTreeMap<String, Planned>>,
    /// Time of members that are made here, in seconds since 1970.
    now: u64,
}

/// A member in the making.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) content: Content,
    pub(crate) mode: u32,
    pub(crate) owner: (u64, u64),
    pub(crate) modified: u64,
}

/// Ways to write an archive.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Options {
    /// Packing of the archive.
    pub pack: Pack,
    /// Makes the same bytes of the same members each time: no time and no owner goes in.
    pub is_reproducible: bool,
    /// Computes the SHA-256 of the tar stream. A seekable archive then has that digest and those of
    /// all members in its table of contents. This takes half as long again as the packing, or more;
    /// a seekable archive has digests of its packed frames in any case.
    pub has_digests: bool,
}

/// Packings that are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pack {
    /// No packing.
    #[default]
    Plain,
    /// A gzip stream.
    #[cfg(feature = "gzip")]
    Gzip {
        /// Level: 1 is the quickest, 9 the smallest.
        level: u32,
    },
    /// Independent zstd frames with a table of contents, which every reader of zstd reads.
    #[cfg(feature = "zstd")]
    Seekable {
        /// Level: 1 is the quickest, 19 the smallest.
        level: i32,
        /// Threads that compress. The bytes are the same for any number.
        threads: usize,
    },
}

/// Facts about an archive that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Saved {
    /// Members.
    pub members: usize,
    /// Bytes of the tar stream.
    pub unpacked: u64,
    /// SHA-256 of the tar stream, the diffID of an OCI layer, with
    /// [`has_digests`](Options::has_digests).
    pub diff_id: Option<Sha256>,
    /// Bytes of the recorded working set, which a restore can load at once. 0 in other packings
    /// than [`Pack::Seekable`].
    pub hot_pages: u64,
    /// Reason why a working set beside the images was not used.
    pub working_set_fault: Option<String>,
}

impl Default for Draft {
    fn default() -> Self {
        Self::new()
    }
}

impl Draft {
    /// Makes a draft without members.
    #[must_use]
    pub fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self { members: Arc::default(), now }
    }

    /// Adds a file of bytes that are known, for its owner alone. A member of this name is replaced.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] for a path that leads out of the archive.
    pub fn add_bytes(&mut self, path: &str, bytes: impl Into<Vec<u8>>) -> Result<()> {
        self.add_blob(path, Blob::from(bytes.into()))
    }

    /// Adds a file of bytes that are read when the archive is written.
    ///
    /// # Errors
    /// The errors of [`add_bytes`](Self::add_bytes).
    pub fn add_blob(&mut self, path: &str, bytes: Blob) -> Result<()> {
        self.add(path, Content::Bytes(bytes), 0o600)
    }

    /// Adds a directory.
    ///
    /// # Errors
    /// The errors of [`add_bytes`](Self::add_bytes).
    pub fn add_directory(&mut self, path: &str) -> Result<()> {
        self.add(path, Content::Directory, 0o700)
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// The errors of [`add_bytes`](Self::add_bytes), also for a target that leads out of the
    /// archive.
    pub fn add_link(&mut self, path: &str, target: &str) -> Result<()> {
        let (folder, _) = path::split(path);
        if !stays_inside(folder, target.as_bytes()) {
            return Err(Error::new(path, ErrorKind::Refused(LEADS_OUT)));
        }
        self.add(path, Content::SymbolicLink(target.as_bytes().into()), 0o777)
    }

    /// Adds all files of a source as a folder, each when it is written. `place` is what errors call
    /// the source. The sets that its `parent` leads to become folders, too: `pre-checkpoint`, then
    /// `pre-checkpoint-2` and so on. Returns the names of what is no file, which are left out.
    ///
    /// # Errors
    /// The errors of the source, and those of [`add_bytes`](Self::add_bytes).
    pub fn add_images(
        &mut self,
        folder: &str,
        place: &str,
        images: Arc<dyn Source>,
    ) -> Result<Vec<String>> {
        let (mut folder, mut images, mut left_out) = (folder.to_owned(), images, Vec::new());
        for generation in 1.. {
            self.add_directory(&folder)?;
            left_out.extend(self.add_files(&folder, place, &images)?);
            let parent = images.parent();
            let parent = parent.map_err(|error| Error::new(place, ErrorKind::Images(error)))?;
            let Some(parent) = parent else { break };
            let next = pre_checkpoint(generation);
            self.add_link(&format!("{folder}/parent"), &format!("../{next}"))?;
            (folder, images) = (next, Arc::from(parent));
        }
        Ok(left_out)
    }

    fn add_files(
        &mut self,
        folder: &str,
        place: &str,
        images: &Arc<dyn Source>,
    ) -> Result<Vec<String>> {
        let fail = |error| Error::new(place, ErrorKind::Images(error));
        let mut left_out = Vec::new();
        for name in images.names().map_err(fail)? {
            match images.size(&name) {
                Ok(Some(size)) => {
                    let source = Arc::clone(images);
                    let place = place.to_owned();
                    let path = format!("{folder}/{name}");
                    self.add(&path, Content::File { source, place, name, size }, 0o600)?;
                }
                Err(error) if matches!(error.kind(), criu_images::ErrorKind::NotAFile) => {
                    if name != "parent" {
                        left_out.push(name);
                    }
                }
                Ok(None) => {}
                Err(error) => return Err(fail(error)),
            }
        }
        Ok(left_out)
    }

    /// Adds a file of a source of images, which is opened when the archive is written. Errors call
    /// the source by `place`.
    ///
    /// # Errors
    /// [`ErrorKind::Images`]; [`ErrorKind::Missing`]; those of [`add_bytes`](Self::add_bytes).
    pub(crate) fn add_file(
        &mut self,
        path: &str,
        source: Arc<dyn Source>,
        place: &str,
        name: &str,
    ) -> Result<()> {
        let size = source.size(name);
        let size = size.map_err(|error| Error::new(place, ErrorKind::Images(error)))?;
        let missing = || Error::new(place, Fault::from(ErrorKind::Missing).of(name));
        let size = size.ok_or_else(missing)?;
        let (place, name) = (place.to_owned(), name.to_owned());
        self.add(path, Content::File { source, place, name, size }, 0o600)
    }

    /// Adds a member of another archive as it is there. A hard link has the content of the member
    /// that it names. Names of one file that are in the draft become hard links of each other.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a sparse file; [`ErrorKind::Refused`] for a device, a FIFO,
    /// and a link that leads out; the same errors for a hard link to one of them.
    /// [`ErrorKind::Missing`] for a member of another archive than this one.
    pub fn add_member(&mut self, archive: &Archive, member: &Member) -> Result<()> {
        let path = member.path().to_owned();
        let missing = || archive.fail(&path, ErrorKind::Missing);
        extractable(archive.index(), member).map_err(|fault| archive.fault(fault))?;
        let source = archive.index().with_content(member).ok_or_else(missing)?;
        let content = match source.kind() {
            MemberKind::File => Content::Member {
                archive: archive.clone(),
                path: source.path().to_owned(),
                size: source.size(),
            },
            MemberKind::Directory => Content::Directory,
            MemberKind::SymbolicLink(target) => Content::SymbolicLink(target.clone()),
            // Hard links to hard links are refused when an archive is opened, other kinds above.
            MemberKind::HardLink(_) | MemberKind::Sparse | MemberKind::Special => {
                return Err(missing());
            }
        };
        let (mode, owner, modified) = (member.mode(), member.owner(), member.modified());
        self.members_mut().insert(path, Planned { content, mode, owner, modified });
        Ok(())
    }

    fn add(&mut self, path: &str, content: Content, mode: u32) -> Result<()> {
        let normal = path::normal(path.as_bytes()).filter(|path| !path.is_empty());
        let refused = || Error::new(path, ErrorKind::Refused("its path leads out of the archive"));
        let path = normal.ok_or_else(refused)?;
        let planned = Planned { content, mode, owner: (0, 0), modified: self.now };
        self.members_mut().insert(path, planned);
        Ok(())
    }

    fn members_mut(&mut self) -> &mut BTreeMap<String, Planned> {
        Arc::make_mut(&mut self.members)
    }

    /// Paths of the members.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// Returns true if there is a member of this path.
    pub fn has(&self, path: &str) -> bool {
        self.members.contains_key(path)
    }

    /// Gives a member another path. Does nothing if there is no such member.
    pub fn rename(&mut self, from: &str, to: &str) {
        let members = self.members_mut();
        if let Some(member) = members.remove(from) {
            members.insert(to.to_owned(), member);
        }
    }

    /// Removes a member.
    pub fn remove(&mut self, path: &str) {
        self.members_mut().remove(path);
    }

    /// Puts other bytes into a member, which keeps its mode and time.
    pub(crate) fn replace(&mut self, path: &str, bytes: Blob) {
        let content = Content::Bytes(bytes);
        let (modified, members) = (self.now, self.members_mut());
        match members.get_mut(path) {
            Some(member) => member.content = content,
            None => {
                let planned = Planned { content, mode: 0o600, owner: (0, 0), modified };
                members.insert(path.to_owned(), planned);
            }
        }
    }

    /// Opens the bytes of a member as they would be written; `None` if there is no such file.
    ///
    /// # Errors
    /// The errors of the place where the bytes are.
    pub fn bytes(&self, path: &str) -> Result<Option<Blob>> {
        self.content(path).map_or(Ok(None), Content::open)
    }

    /// Content of a member.
    pub(super) fn content(&self, path: &str) -> Option<&Content> {
        self.members.get(path).map(|member| &member.content)
    }

    /// Bytes of a file; `None` if there is no such file.
    pub(crate) fn size_of(&self, path: &str) -> Option<u64> {
        let content = &self.members.get(path)?.content;
        (!matches!(content, Content::Directory)).then(|| content.size())
    }

    /// Sets the time of members that are made from now on, in seconds since 1970.
    pub fn set_time(&mut self, seconds: u64) {
        self.now = seconds;
    }

    /// Sets the time of the inventory, and of members that are made from now on, in seconds since
    /// 1970.
    pub(crate) fn set_time_of_images(&mut self, seconds: u64) {
        self.now = seconds;
        let inventory = format!("{CHECKPOINT}/{}", INVENTORY.file);
        if let Some(inventory) = self.members_mut().get_mut(&inventory) {
            inventory.modified = seconds;
        }
    }

    /// Time of the images, in seconds since 1970.
    pub(crate) fn time_of_images(&self) -> u64 {
        let inventory = self.members.get(&format!("{CHECKPOINT}/{}", INVENTORY.file));
        inventory.map_or(self.now, |inventory| inventory.modified)
    }

    /// Bytes of content of all members. Hard links have none.
    pub fn size(&self) -> u64 {
        let links = self.links();
        let files = self.members.iter().filter(|(path, _)| !links.contains_key(path.as_str()));
        files.map(|(_, member)| member.content.size()).sum()
    }

    /// Finds the members that are written as hard links, each with the path of the member that has
    /// the bytes.
    fn links(&self) -> HashMap<&str, &str> {
        let files = self.members.iter().filter_map(|(path, member)| match &member.content {
            Content::Member { archive, path: source, .. } => {
                Some((&**path, (archive.identity(), &**source)))
            }
            _ => None,
        });
        let mut first: HashMap<(usize, &str), &str> = HashMap::new();
        for (path, source) in files.clone() {
            let holder = first.entry(source).or_insert(path);
            // The bytes stay where they were, if that member is there.
            if path == source.1 {
                *holder = path;
            }
        }
        let holders = files.filter_map(|(path, source)| Some((path, *first.get(&source)?)));
        holders.filter(|(path, holder)| path != holder).collect()
    }

    /// Members in the order in which they are written.
    pub(crate) fn in_order(&self) -> Vec<(&str, &Planned)> {
        self.ordered(&self.links())
    }

    fn ordered(&self, links: &HashMap<&str, &str>) -> Vec<(&str, &Planned)> {
        let class = |path: &str, content: &Content| match content {
            Content::Directory => Class::Directory,
            content => Class::of(path, content.size()),
        };
        let key = |(path, member): &(&str, &Planned)| match links.get(path) {
            // Behind the member that it names.
            Some(target) => {
                let class = class(target, &member.content);
                (class, (*target).to_owned(), (*path).to_owned())
            }
            None => (class(path, &member.content), (*path).to_owned(), String::new()),
        };
        let mut members: Vec<_> = self.members.iter().map(|(path, at)| (&**path, at)).collect();
        members.sort_by_cached_key(key);
        members
    }

    /// Writes the archive. `name` is what errors call it. `watch` is called with the bytes of
    /// content that have been written, of [`size`](Self::size), and can stop the work.
    ///
    /// # Errors
    /// [`ErrorKind::Write`]; [`ErrorKind::Stopped`]; the errors of the places that the members are
    /// read from, and [`ErrorKind::Changed`] for a file that grows or shrinks while it is read.
    /// What was written until then is no archive.
    pub fn write(
        &self,
        name: &str,
        out: impl Write,
        options: &Options,
        watch: Watch<'_>,
    ) -> Result<Saved> {
        match options.pack {
            Pack::Plain => {
                self.pour(name, out, Form::Plain, options, watch).map(|(_, saved)| saved)
            }
            #[cfg(feature = "gzip")]
            Pack::Gzip { level } => {
                // Without name and time of a file.
                let level = flate2::Compression::new(level.min(9));
                let packed = flate2::write::GzEncoder::new(out, level);
                let (packed, saved) = self.pour(name, packed, Form::Plain, options, watch)?;
                let ended = packed.finish().and_then(|mut out| out.flush());
                ended.map_err(|error| Error::new(name, ErrorKind::Write(error)))?;
                Ok(saved)
            }
            #[cfg(feature = "zstd")]
            Pack::Seekable { level, threads } => {
                let form = Form::Seekable { level, threads };
                self.pour(name, out, form, options, watch).map(|(_, saved)| saved)
            }
        }
    }

    /// Writes the archive as a new file with mode 0600, which takes the place of an old one at the
    /// end. The old file stays if anything fails.
    ///
    /// # Errors
    /// The errors of [`write`](Self::write).
    pub fn save(
        &self,
        path: impl AsRef<Path>,
        options: &Options,
        watch: Watch<'_>,
    ) -> Result<Saved> {
        let path = path.as_ref();
        let name = path.to_string_lossy();
        let fail = |error| Error::new(&*name, ErrorKind::Write(error));
        let mut file = NewFile::create(path).map_err(fail)?;
        let saved = self.write(&name, &mut file, options, watch)?;
        file.keep().map_err(fail)?;
        Ok(saved)
    }

    fn pour<W: Write>(
        &self,
        name: &str,
        out: W,
        form: Form,
        options: &Options,
        watch: Watch<'_>,
    ) -> Result<(W, Saved)> {
        let fail = |error| Error::new(name, ErrorKind::Write(error));
        let mut sink = Sink::new(out, form, options.has_digests).map_err(fail)?;
        let mut working_set_fault = None;
        if form != Form::Plain {
            let images: Arc<dyn Source> = Arc::new(Folder::of(self, CHECKPOINT));
            match working_set(CHECKPOINT, &images) {
                Ok(pages) if pages.is_empty() => {}
                Ok(pages) => sink.hot(pages).map_err(fail)?,
                Err(error) => working_set_fault = Some(error.to_string()),
            }
        }
        let mut pour = Pour { name, options, done: 0, watch };
        let links = self.links();
        let members = self.ordered(&links);
        for (path, member) in &members {
            pour.member(&mut sink, path, member, links.get(path).copied())?;
        }
        let mut end = || {
            sink.end()?;
            sink.write_all(&[0; 2 * BLOCK])
        };
        end().map_err(fail)?;
        let Written { out, diff_id, unpacked, hot_pages, .. } = sink.finish().map_err(fail)?;
        let (members, diff_id) = (members.len(), diff_id.map(Sha256));
        Ok((out, Saved { members, unpacked, diff_id, hot_pages, working_set_fault }))
    }
}

/// An archive that is being written.
struct Pour<'p> {
    name: &'p str,
    options: &'p Options,
    done: u64,
    watch: Watch<'p>,
}

impl Pour<'_> {
    /// Writes a member; `same` is the path of the member that has the bytes of a hard link.
    fn member<W: Write>(
        &mut self,
        sink: &mut Sink<W>,
        path: &str,
        member: &Planned,
        same: Option<&str>,
    ) -> Result<()> {
        let name = self.name;
        let fail = |error| Error::new(name, Fault::from(ErrorKind::Write(error)).of(path));
        let content = &member.content;
        let size = if same.is_some() { 0 } else { content.size() };
        let ((uid, gid), modified) = if self.options.is_reproducible {
            ((0, 0), 0)
        } else {
            (member.owner, member.modified)
        };
        let (kind, tar_kind, link) = match (same, content) {
            (Some(to), _) => {
                (MemberKind::HardLink(to.as_bytes().into()), Kind::HardLink, to.as_bytes())
            }
            (None, Content::Directory) => (MemberKind::Directory, Kind::Directory, &[][..]),
            (None, Content::SymbolicLink(to)) => {
                (MemberKind::SymbolicLink(to.clone()), Kind::SymbolicLink, &**to)
            }
            (None, _) => (MemberKind::File, Kind::File, &[][..]),
        };
        let mut path_name = path.as_bytes().to_vec();
        if kind == MemberKind::Directory {
            path_name.push(b'/');
        }
        let mode = member.mode;
        let described = Described {
            name: &path_name,
            link,
            kind: tar_kind,
            mode,
            uid,
            gid,
            modified,
            size,
            device: (0, 0),
        };
        let headers = described.headers();
        let blob = if same.is_some() { None } else { content.open()? };
        let entry = Entry { path: path_name, kind, mode, uid, gid, modified, size };
        let begin = || {
            sink.begin(entry)?;
            sink.write_all(&headers)?;
            sink.content()
        };
        begin().map_err(fail)?;
        let Some(blob) = blob else { return Ok(()) };
        let mut piece = vec![0; usize::try_from(size).unwrap_or(usize::MAX).min(PIECE)];
        let mut at = 0;
        while at < size {
            let len = usize::try_from(size - at).unwrap_or(usize::MAX).min(piece.len());
            let (piece, _) = piece.split_at_mut(len);
            blob.read_at(at, piece).map_err(|error| content.unread(path, error))?;
            sink.write_all(piece).map_err(fail)?;
            at += len as u64;
            self.done += len as u64;
            if (self.watch)(self.done).is_break() {
                return Err(Error::new(name, ErrorKind::Stopped));
            }
        }
        content.check()?;
        let fill = usize::try_from(size.next_multiple_of(BLOCK as u64) - size).unwrap_or(0);
        let zeros = [0; BLOCK];
        sink.write_all(zeros.get(..fill).unwrap_or_default()).map_err(fail)
    }
}

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;
