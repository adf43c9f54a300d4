//! An archive of a checkpoint, read in place.

mod folder;
mod origin;
#[cfg(all(test, feature = "zstd"))]
mod tests;
mod unpacked;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use criu_images::kind::INVENTORY;
use criu_images::source::Blob;
use nix::fcntl::OFlag;

use crate::bounds;
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::index::{self, Index, Kept};
use crate::member::{Member, MemberKind};
use crate::packing::{self, Layer, Packing, Spool, Toc};
use crate::path;
use crate::tar::{Members, Seeking};
use origin::Origin;
use unpacked::Unpacked;

pub use folder::Folder;

/// A tar archive with a checkpoint, as engines export it. Opening reads the headers once. Members
/// are then read from their places in the archive. Cheap to clone.
///
/// ```
/// use criu_archive::write::{Draft, Options};
/// use criu_archive::{Archive, UNWATCHED};
/// use criu_images::source::Blob;
///
/// let mut draft = Draft::new();
/// draft.add_bytes("config.dump", *b"{}")?;
/// draft.add_bytes("checkpoint/pages-1.img", vec![7; 8192])?;
/// let mut bytes = Vec::new();
/// draft.write("a.tar", &mut bytes, &Options::default(), UNWATCHED)?;
///
/// let archive = Archive::new("a.tar", Blob::from(bytes))?;
/// let paths: Vec<&str> = archive.members().map(|member| member.path()).collect();
/// assert_eq!(paths, ["config.dump", "checkpoint/pages-1.img"]);
/// let pages = archive.bytes("checkpoint/pages-1.img")?;
/// let mut page = [0; 4096];
/// pages.read_at(4096, &mut page)?;
/// assert_eq!(page, [7; 4096]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Packed archives
///
/// A plain archive, and one with a table of contents ([`Packing::Seekable`]), is read in place. Any
/// other packed archive is unpacked once when it is opened: its small members stay in memory, at
/// most [`KEPT`](crate::bounds::KEPT) bytes. When another member is asked for, the archive is
/// unpacked a second time, as far as that member, into a temporary file without a name. No byte is
/// unpacked more than twice.
///
/// # Rules
///
/// An archive is refused, with the name of the member and the reason, if programs could disagree
/// about its members, or if a name leads out:
///
/// - names, and targets of hard links, that are absolute, have `..`, are not UTF-8, have a zero
///   byte or more than 4,096 bytes;
/// - two members of one name, except directories; a member that lies in a member which is not a
///   directory;
/// - hard links to a member that does not come before, to hard links and to directories;
/// - sizes below 0, or past the end; a size, name or target that two descriptions give differently;
///   content of directories, links and devices; a description of no member, or two of one member;
/// - bytes behind the end that are not zero;
/// - headers that some programs read as another name, another size or no header at all.
///
/// A plain archive that was cut between two members is shorter, and no program can tell.
///
/// An archive that was opened by its path has to stay as it is. A change is found when the archive
/// is unpacked a second time, and at the end of an extraction and of a comparison of digests.
///
/// Other members are listed, but not read as files, and [extracted](crate::Extraction) neither:
/// symbolic links that lead out, devices, FIFOs, sparse files, and kinds that tar does not define.
/// A `parent` link of a set may lead to another folder of the archive.
#[derive(Clone, Debug)]
pub struct Archive(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    packing: Packing,
    /// The unpacked archive.
    bytes: Blob,
    index: Index,
    /// Small members of an archive that is unpacked forward.
    kept: Kept,
    contents: Option<Contents>,
    /// The file, if the archive was opened by its path.
    origin: Option<Arc<Origin>>,
}

/// A table of contents, from which the index was made.
#[derive(Debug)]
struct Contents {
    toc: Toc,
    /// Rows of members that have a digest in the table, by the offsets of their headers.
    rows: BTreeMap<u64, u64>,
    /// Offsets of headers that were compared with the table.
    compared: Mutex<BTreeSet<u64>>,
}

impl Archive {
    /// Opens an archive by its path.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the file cannot be read; [`ErrorKind::NotAFile`] for a pipe, which
    /// [`read`](Self::read) takes; the errors of [`new`](Self::new).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::opened(path.as_ref(), |name, bytes, origin| {
            Inner::of_layer(name, bytes, packing::layer(bytes)?, origin)
        })
    }

    /// Opens an archive by its path as [`with_pages`](Self::with_pages) does.
    ///
    /// # Errors
    /// The errors of [`open`](Self::open) and of [`with_pages`](Self::with_pages).
    pub fn open_with_pages(path: impl AsRef<Path>) -> Result<Self> {
        Self::opened(path.as_ref(), Inner::with_pages)
    }

    fn opened(
        path: &Path,
        inner: impl FnOnce(String, &Blob, Option<Arc<Origin>>) -> Result<Inner, Fault>,
    ) -> Result<Self> {
        let name = path.to_string_lossy();
        Self::made(name.into_owned(), |name| {
            let file = open_file(path)?;
            let origin = Arc::new(Origin::new(&file)?);
            inner(name, &Blob::try_from(file)?, Some(origin))
        })
    }

    /// Opens an archive whose bytes are anywhere. Errors call the archive by `name`.
    ///
    /// # Errors
    /// [`ErrorKind::Compressed`]; [`ErrorKind::NotAnArchive`]; [`ErrorKind::Refused`] for an
    /// archive that breaks the [rules](Self#rules); [`ErrorKind::Malformed`], [`ErrorKind::Value`]
    /// and [`ErrorKind::Unsupported`] for broken headers; [`ErrorKind::Truncated`] if the archive
    /// ends inside a member; [`ErrorKind::Io`] also for packed bytes that are damaged;
    /// [`ErrorKind::TooMany`] above [`MEMBERS`](bounds::MEMBERS) or [`NAMES`](bounds::NAMES);
    /// [`ErrorKind::TooLarge`] above [`UNPACKED`](bounds::UNPACKED), and for a name, or PAX records
    /// of a member, above 1 MiB.
    pub fn new(name: impl Into<String>, bytes: Blob) -> Result<Self> {
        Self::made(name.into(), |name| Inner::of_layer(name, &bytes, packing::layer(&bytes)?, None))
    }

    /// Opens an archive whose pages will be read, for example to search them. A packed archive that
    /// [`new`](Self::new) would unpack twice is unpacked once, into a temporary file without a
    /// name.
    ///
    /// # Errors
    /// The errors of [`new`](Self::new); [`ErrorKind::Io`] if no temporary file can be made.
    pub fn with_pages(name: impl Into<String>, bytes: Blob) -> Result<Self> {
        Self::made(name.into(), |name| Inner::with_pages(name, &bytes, None))
    }

    /// Opens a seekable archive whose table of contents has this SHA-256. All that is read later is
    /// compared with digests that the table leads to.
    pub(crate) fn verified(name: impl Into<String>, bytes: Blob, toc: [u8; 32]) -> Result<Self> {
        Self::made(name.into(), |name| {
            Inner::of_layer(name, &bytes, packing::layer_verified(&bytes, toc)?, None)
        })
    }

    /// Loads the recorded working set (the pages that a restore wants first) into memory with a
    /// single read. Its pages are served from memory from then on. Returns the bytes of its pages:
    /// 0 for an archive that is not seekable, or has no working set.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the working set cannot be read, or is damaged.
    pub fn prefetch(&self) -> Result<u64> {
        let brought = self.toc().map_or(Ok(0), Toc::prefetch);
        brought.map_err(|error| Error::new(self.name(), error))
    }

    /// Reads an archive to its end from a stream, such as a pipe. The unpacked archive is kept in a
    /// temporary file without a name. Errors call the archive by `name`.
    ///
    /// # Errors
    /// The errors of [`new`](Self::new); [`ErrorKind::Io`] if no temporary file can be made.
    pub fn read(name: impl Into<String>, stream: impl Read + Send + 'static) -> Result<Self> {
        Self::made(name.into(), |name| Inner::of_stream(name, stream))
    }

    fn made(name: String, inner: impl FnOnce(String) -> Result<Inner, Fault>) -> Result<Self> {
        match inner(name.clone()) {
            Ok(inner) => Ok(Self(Arc::new(inner))),
            Err(fault) => Err(Error::new(name, fault)),
        }
    }

    /// Name of the archive, as its errors say it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Form in which the archive is packed.
    pub fn packing(&self) -> Packing {
        self.0.packing
    }

    /// Returns a number that this archive and its clones have, and no other open archive.
    pub(crate) fn identity(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// All members, by folder and name.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.0.index.iter()
    }

    /// Finds a member by its path from the root of the archive.
    pub fn member(&self, path: &str) -> Option<&Member> {
        let (folder, name) = path::split(path);
        self.0.index.find(folder, name)
    }

    /// Returns the bytes of a member. A hard link has the bytes of the member that it names.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`]; [`ErrorKind::NotAFile`] for a member without content;
    /// [`ErrorKind::Unsupported`] for a sparse one; [`ErrorKind::Refused`] for a member whose
    /// header is not as the table of contents says.
    pub fn bytes(&self, path: &str) -> Result<Blob> {
        let inner = &*self.0;
        let fail = |kind: ErrorKind| self.fail(path, kind);
        let member = self.member(path).ok_or_else(|| fail(ErrorKind::Missing))?;
        self.compare(member)?;
        let member = inner.index.with_content(member).ok_or_else(|| fail(ErrorKind::Missing))?;
        self.compare(member)?;
        match member.kind() {
            MemberKind::File => match inner.kept.get(&member.start) {
                Some(kept) => Ok(kept.clone()),
                None => {
                    let left = inner.bytes.len().saturating_sub(member.start);
                    let truncated = ErrorKind::Truncated { need: member.size, left };
                    inner.bytes.slice(member.start, member.size).ok_or_else(|| fail(truncated))
                }
            },
            MemberKind::Sparse => Err(fail(ErrorKind::Unsupported("sparse files in archives"))),
            _ => Err(fail(ErrorKind::NotAFile)),
        }
    }

    /// Returns a folder of the archive by its path, as the source of an
    /// [`ImageSet`](criu_images::ImageSet).
    #[must_use]
    pub fn folder(&self, path: &str) -> Folder {
        let path = path::normal(path.as_bytes()).unwrap_or_else(|| path.to_owned());
        Folder::new(self.clone(), path)
    }

    /// Paths of the folders that have an inventory, so may be a set.
    pub fn sets(&self) -> impl Iterator<Item = String> {
        self.0.index.folders(INVENTORY.file).map(str::to_owned)
    }

    pub(crate) fn index(&self) -> &Index {
        &self.0.index
    }

    /// The unpacked archive.
    pub(crate) fn unpacked(&self) -> &Blob {
        &self.0.bytes
    }

    /// Table of contents, if the archive has one. Its members are in the index.
    pub(crate) fn toc(&self) -> Option<&Toc> {
        self.0.contents.as_ref().map(|contents| &contents.toc)
    }

    /// Returns a function that reads the digest of a member in the archive, if it has digests of
    /// its members. Empty members have none there.
    pub(crate) fn recorded(&self) -> Option<impl Fn(&Member) -> io::Result<Option<[u8; 32]>> + '_> {
        let contents = self.0.contents.as_ref().filter(|contents| contents.toc.has_digests)?;
        Some(|member: &Member| {
            let row = contents.rows.get(&member.header);
            row.map(|row| contents.toc.digest_of(*row)).transpose()
        })
    }

    /// Compares a member with its header. The table of contents only says where the header is.
    pub(crate) fn compare(&self, member: &Member) -> Result<()> {
        let Some(contents) = &self.0.contents else { return Ok(()) };
        let compared = || contents.compared.lock().unwrap_or_else(PoisonError::into_inner);
        if compared().contains(&member.header) {
            return Ok(());
        }
        let differs = match self.in_stream(member) {
            Ok(found) => found.as_ref() != Some(member),
            Err(fault) => return Err(Error::new(self.name(), fault.of(member.path()))),
        };
        if differs {
            return Err(self.fail(member.path(), ErrorKind::Refused(LIE)));
        }
        compared().insert(member.header);
        Ok(())
    }

    /// Reads a member's headers where the table of contents says that they are.
    fn in_stream(&self, member: &Member) -> Result<Option<Member>, Fault> {
        let Inner { bytes, .. } = &*self.0;
        let end = member.start.saturating_add(member.size);
        let part = bytes.slice(member.header, end.saturating_sub(member.header));
        let Some(part) = part else {
            return Err(ErrorKind::Refused(LIE).into());
        };
        let mut members = Members::new(Seeking::by_block(&part));
        let Some(mut found) = members.next()? else { return Ok(None) };
        found.start = found.start.saturating_add(member.header);
        index::member(found, member.header)
    }

    /// Compares the file with what it was when it was opened, if the archive has one of its own.
    pub(crate) fn unchanged(&self) -> Result<()> {
        let checked = self.0.origin.as_ref().map_or(Ok(()), |origin| origin.check());
        checked.map_err(|kind| self.fault(kind))
    }

    pub(crate) fn fail(&self, member: &str, kind: ErrorKind) -> Error {
        self.fault(Fault::from(kind).of(member))
    }

    pub(crate) fn fault(&self, fault: impl Into<Fault>) -> Error {
        Error::new(self.name(), fault)
    }
}

impl Inner {
    fn of_layer(
        name: String,
        packed: &Blob,
        layer: Layer,
        origin: Option<Arc<Origin>>,
    ) -> Result<Self, Fault> {
        match layer {
            Layer::Anywhere { packing, bytes, toc: Some(mut toc) } => {
                let members = std::mem::take(&mut toc.members);
                let with_digest = members.iter().filter(|listed| listed.has_content());
                let rows = with_digest.map(|listed| (listed.header, listed.row)).collect();
                let index = Index::listed(members)?;
                let contents = Some(Contents { toc, rows, compared: Mutex::default() });
                Ok(Self { name, packing, bytes, index, kept: Kept::new(), contents, origin })
            }
            Layer::Anywhere { packing, bytes, toc: None } => {
                let index = Index::read(Seeking::new(&bytes))?;
                let (kept, contents) = (Kept::new(), None);
                Ok(Self { name, packing, bytes, index, kept, contents, origin })
            }
            Layer::Forward { packing, opener } => {
                let limit = bounds::unpacked(packed.len());
                let (index, kept, len) = Index::read_kept(opener.open()?, limit)?;
                let bytes = Blob::new(Unpacked::new(opener, len, origin.clone()));
                Ok(Self { name, packing, bytes, index, kept, contents: None, origin })
            }
        }
    }

    fn with_pages(name: String, packed: &Blob, origin: Option<Arc<Origin>>) -> Result<Self, Fault> {
        match packing::layer(packed)? {
            Layer::Forward { packing, opener } => {
                let limit = bounds::unpacked(packed.len());
                Self::of_spool(name, packing, Spool::ahead(opener.open()?)?, limit)
            }
            layer => Self::of_layer(name, packed, layer, origin),
        }
    }

    fn of_stream(name: String, stream: impl Read + Send + 'static) -> Result<Self, Fault> {
        let (packing, unpacking) = packing::unpack(stream)?;
        let spool = Spool::new(unpacking)?;
        let limit = match packing {
            Packing::Plain => u64::MAX,
            _ => bounds::UNPACKED.get(),
        };
        Self::of_spool(name, packing, spool, limit)
    }

    fn of_spool(name: String, packing: Packing, spool: Spool, limit: u64) -> Result<Self, Fault> {
        let (index, len) = Index::read_to(spool.stream(), limit)?;
        let bytes = spool.blob(len);
        let (kept, contents, origin) = (Kept::new(), None, None);
        Ok(Self { name, packing, bytes, index, kept, contents, origin })
    }
}

/// Opens a regular file.
pub(crate) fn open(path: &Path) -> Result<Blob, Fault> {
    Ok(Blob::try_from(open_file(path)?)?)
}

fn open_file(path: &Path) -> Result<File, Fault> {
    // Without waiting: nobody may write to a FIFO.
    let file = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(ErrorKind::NotAFile.into());
    }
    Ok(file)
}

/// Reason why a member is refused whose header differs from the table of contents.
pub(crate) const LIE: &str = "its header is not as the table of contents says";
