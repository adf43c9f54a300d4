//! Extraction of members into a directory of their own.

mod names;
mod sparse;
mod tree;

use std::collections::BTreeSet;
use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::{PermissionsExt, fchown};
use std::path::Path;
use std::{fmt, fs, io};

use nix::sys::stat::futimens;
use nix::sys::time::TimeSpec;

use crate::archive::Archive;
use crate::bounds;
use crate::error::{Error, ErrorKind, Result};
use crate::index::extractable;
use crate::member::{Member, MemberKind};
use names::Names;
pub(crate) use sparse::copy_sparse;
pub(crate) use tree::Tree;

/// An extraction of members into a new directory.
///
/// The members are written into a hidden directory beside the new one, which is renamed when all is
/// there and on the disk. An extraction that fails, or is stopped, leaves nothing. Only new files
/// are made, below the directory alone: the kernel is asked to follow no link (`openat2` with
/// `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS`, since Linux 5.6). Files belong to the caller. They
/// keep their permissions without the set-user-id, set-group-id and sticky bits; extended
/// attributes, such as capabilities and access lists, are left out. Directories are open to their
/// owner, and the new directory to nobody else. Archives in the archive, such as `rootfs-diff.tar`,
/// are written as they are.
///
/// ```no_run
/// use criu_archive::{Archive, Extraction};
///
/// let archive = Archive::open("/tmp/container.tar.zst")?;
/// let done = Extraction::of(&archive).only("checkpoint").limit(8 << 30).into_new("/tmp/images")?;
/// println!("{} members, {} bytes", done.members, done.bytes);
/// # Ok::<(), criu_archive::Error>(())
/// ```
pub struct Extraction<'a> {
    archive: &'a Archive,
    names: Names,
    limit: u64,
    with_owners: bool,
    with_special_bits: bool,
    progress: Box<dyn FnMut(Extracted) -> ControlFlow<()> + 'a>,
}

/// Members and bytes that have been extracted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extracted {
    /// Members written. Directories that the archive does not list are not counted.
    pub members: u64,
    /// Bytes of content, holes included.
    pub bytes: u64,
    /// Bytes of content of the whole extraction.
    pub total: u64,
}

impl<'a> Extraction<'a> {
    /// Makes an extraction of all members.
    #[must_use]
    pub fn of(archive: &'a Archive) -> Self {
        let progress = Box::new(|_| ControlFlow::Continue(()));
        let (names, limit) = (Names::default(), DEFAULT_LIMIT);
        Self { archive, names, limit, with_owners: false, with_special_bits: false, progress }
    }

    /// Extracts only a member, a folder with what is in it, or what fits a pattern: `*` and `?`
    /// stand for any characters but the slash. Called again, adds to what is extracted.
    #[must_use]
    pub fn only(mut self, name: impl Into<String>) -> Self {
        self.names.push(name.into());
        self
    }

    /// Refuses an extraction of more bytes of content. 1 TiB unless given.
    #[must_use]
    pub fn limit(mut self, bytes: u64) -> Self {
        self.limit = bytes;
        self
    }

    /// Gives the files to the owners and groups that the archive names. This takes privileges.
    #[must_use]
    pub fn with_owners(mut self) -> Self {
        self.with_owners = true;
        self
    }

    /// Keeps the set-user-id, set-group-id and sticky bits of files.
    #[must_use]
    pub fn with_special_bits(mut self) -> Self {
        self.with_special_bits = true;
        self
    }

    /// Calls a function after each MiB and after each member. The extraction stops if the function
    /// breaks.
    #[must_use]
    pub fn progress(mut self, call: impl FnMut(Extracted) -> ControlFlow<()> + 'a) -> Self {
        self.progress = Box::new(call);
        self
    }

    /// Extracts into a directory, which must not exist, or be empty. It is then replaced.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] for a name that fits no member; [`ErrorKind::Refused`] and
    /// [`ErrorKind::Unsupported`] for members that [are not extracted](Archive#rules), and
    /// [`ErrorKind::TooLarge`] above the [limit](Self::limit), and [`ErrorKind::TooMany`] for more
    /// than [`MEMBERS`](crate::bounds::MEMBERS) files and directories, before anything is written;
    /// [`ErrorKind::Refused`] if the archive changes; [`ErrorKind::Stopped`]; [`ErrorKind::Write`]
    /// if the directory is not empty, and if a file cannot be written; [`ErrorKind::Io`] if a
    /// member cannot be read.
    pub fn into_new(mut self, directory: impl AsRef<Path>) -> Result<Extracted> {
        let directory = directory.as_ref();
        let members = self.chosen()?;
        let mut done = Extracted { total: self.total(&members)?, ..Extracted::default() };
        let place = |error: io::Error| {
            let text = format!("{}: {error}", directory.display());
            Error::new(self.archive.name(), ErrorKind::Write(io::Error::new(error.kind(), text)))
        };
        let mut tree = Tree::beside(directory).map_err(place)?;
        let mut written = BTreeSet::new();
        for member in &members {
            self.write(member, &mut tree, &written, &mut done)?;
            written.insert(member.start);
            done.members += 1;
            self.tell(done)?;
        }
        // A directory is filled before it gets its mode, which may forbid to write.
        let directories = members.iter().rev();
        for member in directories.filter(|member| member.kind == MemberKind::Directory) {
            let opened = tree.open_directory(&member.path);
            let kept = opened.and_then(|opened| self.attributes(&opened, member));
            kept.map_err(|error| self.failed(member, error))?;
        }
        self.archive.unchanged()?;
        tree.keep().map_err(place)?;
        Ok(done)
    }

    /// Members to extract, in the order of the archive.
    fn chosen(&mut self) -> Result<Vec<&'a Member>> {
        let mut members = self.archive.index().in_order();
        members.retain(|member| self.names.fit(&member.path));
        if let Some(name) = self.names.unused() {
            return Err(self.archive.fail(name, ErrorKind::Missing));
        }
        let limit = bounds::MEMBERS.get();
        if entries(&members) > limit {
            let kind = ErrorKind::TooMany { what: "files and directories", limit };
            return Err(self.archive.fault(kind));
        }
        for member in &members {
            self.archive.compare(member)?;
            let allowed = extractable(self.archive.index(), member);
            allowed.map_err(|fault| self.archive.fault(fault))?;
        }
        Ok(members)
    }

    /// Bytes of content of members.
    fn total(&self, members: &[&Member]) -> Result<u64> {
        let mut total = 0u64;
        let mut chosen = BTreeSet::new();
        for member in members {
            chosen.insert(member.start);
            // A link to a member that is extracted has no content of its own.
            let target = self.archive.index().with_content(member).unwrap_or(member);
            if target.start == member.start || !chosen.contains(&target.start) {
                total = total.saturating_add(target.size);
            }
            if total > self.limit {
                let kind = ErrorKind::TooLarge { size: total, limit: self.limit };
                return Err(self.archive.fail(&member.path, kind));
            }
        }
        Ok(total)
    }

    fn write(
        &mut self,
        member: &Member,
        tree: &mut Tree,
        written: &BTreeSet<u64>,
        done: &mut Extracted,
    ) -> Result<()> {
        let archive = self.archive;
        let made = match member.kind() {
            MemberKind::Directory => tree.make_directory(&member.path),
            MemberKind::SymbolicLink(target) => tree.link(&member.path, target),
            MemberKind::HardLink(_) => match archive.index().target(member) {
                Some(target) if written.contains(&target.start) => {
                    tree.same(&target.path, &member.path)
                }
                _ => return self.copy(member, tree, done),
            },
            _ => return self.copy(member, tree, done),
        };
        made.map_err(|error| self.failed(member, error))
    }

    /// Writes a file.
    fn copy(&mut self, member: &Member, tree: &mut Tree, done: &mut Extracted) -> Result<()> {
        let archive = self.archive;
        let unread = |error| archive.fail(&member.path, ErrorKind::Io(error));
        let unwritten = |error| archive.fail(&member.path, ErrorKind::Write(error));
        let bytes = archive.bytes(&member.path)?;
        let file = tree.make_file(&member.path).map_err(unwritten)?;
        copy_sparse(&bytes, &file, unread, unwritten, |len| {
            done.bytes = done.bytes.saturating_add(len);
            self.tell(*done)
        })?;
        self.attributes(&file, member).map_err(unwritten)
    }

    /// Gives a file or a directory the attributes of its member.
    fn attributes(&self, file: &File, member: &Member) -> io::Result<()> {
        if self.with_owners {
            let id = |id: u64| u32::try_from(id).map(Some);
            let too_large = |_| io::Error::other("its owner's number is above 32 bits");
            let (uid, gid) = member.owner();
            fchown(file, id(uid).map_err(too_large)?, id(gid).map_err(too_large)?)?;
        }
        let bits = if self.with_special_bits { 0o7777 } else { 0o777 };
        // Podman gives `checkpoint` no right to enter.
        let own = if member.kind == MemberKind::Directory { 0o700 } else { 0 };
        file.set_permissions(fs::Permissions::from_mode(member.mode() & bits | own))?;
        // Times are no promise: a time that the system does not have is left out.
        if let Ok(seconds) = i64::try_from(member.modified()) {
            let time = TimeSpec::new(seconds, 0);
            let _ = futimens(file, &time, &time);
        }
        Ok(())
    }

    fn tell(&mut self, done: Extracted) -> Result<()> {
        match (self.progress)(done) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::new(self.archive.name(), ErrorKind::Stopped)),
        }
    }

    fn failed(&self, member: &Member, error: io::Error) -> Error {
        self.archive.fail(&member.path, ErrorKind::Write(error))
    }
}

impl fmt::Debug for Extraction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { archive, names, limit, with_owners, with_special_bits, progress: _ } = self;
        f.debug_struct("Extraction")
            .field("archive", &archive.name())
            .field("names", names)
            .field("limit", limit)
            .field("with_owners", with_owners)
            .field("with_special_bits", with_special_bits)
            .finish_non_exhaustive()
    }
}

/// Returns the number of files and directories that members make. A name makes the directories in
/// it, too: a few bytes of a packed archive can name thousands.
fn entries(members: &[&Member]) -> u64 {
    let mut paths: Vec<&str> = members.iter().map(|member| &*member.path).collect();
    paths.sort_unstable_by(|a, b| a.split('/').cmp(b.split('/')));
    let mut entries = 0u64;
    let mut before = "";
    for path in paths {
        let known = path.split('/').zip(before.split('/')).take_while(|(a, b)| a == b).count();
        entries = entries.saturating_add((path.split('/').count() - known) as u64);
        before = path;
    }
    entries
}

/// Most bytes of an extraction unless the caller says otherwise.
const DEFAULT_LIMIT: u64 = 1 << 40;
