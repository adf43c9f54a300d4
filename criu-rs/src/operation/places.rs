//! The directories that an operation writes into, made safe from other users.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use criu_images::kind::Kind;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat};
use nix::unistd::{LinkatFlags, linkat};

use super::prepared::{Prepared, clone};
use crate::criu::Criu;
use crate::drive::Guard;
use crate::error::{Error, Result};
use crate::hooks::Action;
use crate::host::namespaces::in_user_namespace;
use crate::options::Common;
use crate::undo::{PARENT, Staging};
use crate::value::{Pid, PlaceError, PlaceProblem, Role, Writers, is_ours, look, look_at, writers};

/// The files that an operation writes beside its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writes {
    /// Images, and the statistics of a dump.
    Images,
    /// The statistics of a restore.
    Restored,
    /// The log alone.
    Log,
}

/// The socket at which a lazy restore finds its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Socket {
    /// The socket of a daemon in the work directory.
    Found,
    /// A socket that this operation makes, in a directory of its own where that is possible:
    /// several restores at once have the same work directory.
    Own,
}

/// The private directories in which criu writes, in place of those that others can write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Staged {
    images: Option<Arc<Staging>>,
    work: Option<Arc<Staging>>,
    /// The directories with links to images in which criu frees pages.
    linked: Vec<Arc<Staging>>,
}

impl Staged {
    /// Moves everything to its name.
    ///
    /// # Errors
    /// An image cannot be moved.
    pub(super) fn deliver(&self) -> Result<()> {
        self.images.iter().chain(&self.work).try_for_each(|staging| staging.finish())
    }

    /// Returns the guard that moves the images while the tasks are still held, if there are images
    /// to move.
    pub(super) fn delivery(&self) -> Option<Delivery> {
        self.images.clone().map(Delivery)
    }
}

/// A guard that moves the images of a dump to their names before the tasks are let go or killed. A
/// failure refuses the dump.
#[derive(Debug)]
pub(crate) struct Delivery(Arc<Staging>);

impl Guard for Delivery {
    fn check(&mut self, action: Action, _root: Option<Pid>) -> Result<()> {
        match action {
            Action::PostDump => self.0.deliver_checkpoint(),
            _ => Ok(()),
        }
    }
}

impl Prepared {
    /// Looks at every name that criu will write.
    ///
    /// # Errors
    /// [`Error::Place`] for a link, a FIFO or a file of another user at such a name, and for a
    /// directory that others can write if the operation cannot be safe there.
    pub(super) fn look(&self, common: &Common<'_>, writes: Writes) -> Result<()> {
        if common.trust_directory {
            return Ok(());
        }
        let (images, work) = &shown(common);
        let log = self.message.log_file.as_deref().filter(|_| self.log_elsewhere.is_none());
        let of_work = |name: &CStr| is_work(name, log, writes).then_some(Role::File);
        let of_images = |name: &CStr| match name.to_str() {
            _ if name == PARENT => Some(Role::Link),
            Ok(name) => Kind::of_file(name).map(|_| Role::File),
            Err(_) => None,
        };
        let own_work = self.message.work_dir_fd.is_some();
        if let (Some(directory), Writes::Images) = (&self.images, writes) {
            Staging::remove_left_links(directory);
            look(directory, images, |name| {
                of_images(name).or_else(|| of_work(name).filter(|_| !own_work))
            })?;
        }
        match &self.work {
            Some(directory) if own_work || writes != Writes::Images => {
                look(directory, work, of_work)?;
            }
            _ => {}
        }
        match (&self.work, &self.log_elsewhere) {
            (Some(directory), Some(log)) => look_elsewhere(directory, log),
            _ => Ok(()),
        }
    }

    /// Makes a private directory in each directory that others can write, and lets criu write
    /// there.
    ///
    /// # Errors
    /// [`Error::Place`] if that is not possible for the options given.
    pub(super) fn stage(
        &mut self,
        common: &Common<'_>,
        criu: &Criu,
        writes: Writes,
        socket: Socket,
    ) -> Result<Staged> {
        let (shown_images, shown_work) = &shown(common);
        let mut staged = Staged::default();
        if common.trust_directory {
            return Ok(staged);
        }
        match (&self.images, writes) {
            (Some(images), Writes::Images) => {
                let by = writers_of(images)?;
                let text = self.parent_text(images, shown_images)?;
                let parent = match &text {
                    Some(text) => self.parent_for_dedup(text, shown_images, &mut staged.linked)?,
                    None => None,
                };
                if let Some(by) = by {
                    self.can_move_images(shown_images, by, criu, text.as_deref())?;
                }
                if by.is_some() || parent.as_ref().is_some_and(|(_, is_other)| *is_other) {
                    let parent = parent.map(|(parent, _)| parent);
                    staged.images = self.stage_images(shown_images, criu, text, parent)?;
                }
            }
            (Some(images), Writes::Restored) if self.message.auto_dedup() => {
                let images = clone(images)?;
                let (images, is_other) =
                    self.for_dedup(images, shown_images, &mut staged.linked)?;
                if is_other {
                    self.message.images_dir_fd = self.handed.show(clone(&images)?);
                    if let (Some(work), None) = (&self.work, self.message.work_dir_fd) {
                        self.message.work_dir_fd = Some(self.handed.show(clone(work)?));
                    }
                    self.images = Some(images);
                }
            }
            _ => {}
        }
        match self.work.as_ref().map(writers_of).transpose()?.flatten() {
            Some(by) => {
                if let Some(purpose) = self.fixed_work() {
                    return Err(shared(shown_work, by, purpose));
                }
                staged.work = self.stage_work(shown_work, socket)?;
            }
            None if socket == Socket::Own && self.fixed_work().is_none() => {
                staged.work = self.stage_work(shown_work, socket)?;
            }
            None => {}
        }
        Ok(staged)
    }

    /// Refuses directories that others can write.
    ///
    /// # Errors
    /// [`Error::Place`] with the purpose that is not safe there.
    pub(super) fn refuse_shared(&self, common: &Common<'_>, purpose: &'static str) -> Result<()> {
        if common.trust_directory {
            return Ok(());
        }
        let (images, work) = &shown(common);
        for (directory, path) in [(&self.images, images), (&self.work, work)] {
            if let Some(by) = directory.as_ref().map(writers_of).transpose()?.flatten() {
                return Err(shared(path, by, purpose));
            }
        }
        Ok(())
    }

    fn can_move_images(
        &self,
        shown: &Path,
        by: Writers,
        criu: &Criu,
        parent: Option<&CStr>,
    ) -> Result<()> {
        // A service finds the parent by its path from the private directory, and others can move
        // that.
        let is_relative = parent.is_some_and(|text| !text.to_bytes().starts_with(b"/"));
        if is_relative && !criu.transport().starts_criu() {
            return Err(shared(shown, by, "parent images that a service finds from there"));
        }
        if self.by_file.images {
            return Err(shared(shown, by, "images in a directory that a configuration file names"));
        }
        if self.message.stream() {
            return Err(shared(shown, by, "images that are streamed"));
        }
        Ok(())
    }

    /// Returns the purpose for which criu needs the work directory itself, if there is one.
    fn fixed_work(&self) -> Option<&'static str> {
        if self.by_file.work {
            return Some("a work directory that a configuration file names");
        }
        if self.log_elsewhere.as_ref().is_some_and(|log| log.is_relative()) {
            return Some("a log that is named from there");
        }
        (!self.message.exec_cmd.is_empty()).then_some("a command that criu executes there")
    }

    /// Returns the parent images of a dump that frees pages in them, as criu may write into them.
    /// Says whether these are in another directory than before.
    fn parent_for_dedup(
        &mut self,
        text: &CStr,
        shown: &Path,
        linked: &mut Vec<Arc<Staging>>,
    ) -> Result<Option<(OwnedFd, bool)>> {
        let Some(images) = self.images.as_ref().filter(|_| self.message.auto_dedup()) else {
            return Ok(None);
        };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        // CRIU will say what is wrong with a parent that is not there.
        let Ok(parent) = openat(images, text, flags, Mode::empty()) else {
            return Ok(None);
        };
        let shown = shown.join(OsStr::from_bytes(text.to_bytes()));
        self.for_dedup(parent, &shown, linked).map(Some)
    }

    /// Returns the text of the link to the parent images. CRIU keeps a link that is there already.
    ///
    /// # Errors
    /// [`Error::Place`] for a link of another user. The link is opened once, so that nobody can
    /// replace it between the look at its owner and the reading.
    fn parent_text(&self, images: &OwnedFd, shown: &Path) -> Result<Option<CString>> {
        if let Some(text) = link_text(images, shown)? {
            return Ok(Some(text));
        }
        let given = self.message.parent_img.as_deref().map(CString::new).transpose();
        given.map_err(|source| Error::system("read the path of a parent", source))
    }

    fn stage_images(
        &mut self,
        shown: &Path,
        criu: &Criu,
        text: Option<CString>,
        parent: Option<OwnedFd>,
    ) -> Result<Option<Arc<Staging>>> {
        let Some(outer) = self.images.take() else { return Ok(None) };
        let outer = &outer;
        let staging = Staging::make(clone(outer)?, shown.to_owned())?;
        if self.message.pid.and_then(Pid::new).is_some_and(in_user_namespace) {
            staging.keep_modes();
        }
        if let Some(text) = text {
            let path = self.parent_for(outer, &text, criu, parent)?;
            self.message.parent_img = Some(path);
            staging.name_parent(text);
        }
        self.message.images_dir_fd = self.handed.show(clone(staging.directory())?);
        self.images = Some(clone(staging.directory())?);
        if self.message.work_dir_fd.is_none() {
            self.work = Some(clone(staging.directory())?);
            self.log_anew()?;
        }
        Ok(Some(Arc::new(staging)))
    }

    /// Returns a path that leads from the private directory to the parent images.
    /// The parent may have been opened already, because criu frees pages in it.
    fn parent_for(
        &mut self,
        outer: &OwnedFd,
        text: &CStr,
        criu: &Criu,
        parent: Option<OwnedFd>,
    ) -> Result<Vec<u8>> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let from_inside = || {
            let above: &[u8] = if text.to_bytes().starts_with(b"/") { b"" } else { b"../" };
            [above, text.to_bytes()].concat()
        };
        // CRIU will say what is wrong with a parent that is not there.
        let parent = match parent {
            Some(parent) => parent,
            None => match openat(outer, text, flags, Mode::empty()) {
                // A service may see other process ids.
                Ok(parent) if criu.transport().starts_criu() => parent,
                _ => return Ok(from_inside()),
            },
        };
        // The private directory itself can be moved by others, the open parent cannot.
        let number = self.handed.show(parent);
        Ok(format!("/proc/{}/fd/{number}", std::process::id()).into_bytes())
    }

    fn stage_work(&mut self, shown: &Path, socket: Socket) -> Result<Option<Arc<Staging>>> {
        let Some(outer) = &self.work else { return Ok(None) };
        let staging = Staging::make(clone(outer)?, shown.to_owned())?;
        if self.message.lazy_pages() && socket == Socket::Found {
            link_socket(outer, staging.directory(), shown)?;
        }
        self.message.work_dir_fd = Some(self.handed.show(clone(staging.directory())?));
        self.work = Some(clone(staging.directory())?);
        self.log_anew()?;
        Ok(Some(Arc::new(staging)))
    }
}

/// The socket of a lazy-pages daemon, to which criu connects in its work directory.
const LAZY_SOCKET: &CStr = c"lazy-pages.socket";

/// Links the socket of the lazy-pages daemon into the private directory. A socket that is missing
/// is an error that criu reports.
///
/// # Errors
/// [`Error::Place`] for a socket of another user, who could choose the memory of the tasks, and for
/// anything that is no socket.
fn link_socket(outer: &OwnedFd, inner: &OwnedFd, shown: &Path) -> Result<()> {
    let failed = |source: Errno| {
        let path = shown.join(OsStr::from_bytes(LAZY_SOCKET.to_bytes()));
        Error::system(format!("link {} into a private directory", path.display()), source)
    };
    match linkat(outer, LAZY_SOCKET, inner, LAZY_SOCKET, LinkatFlags::empty()) {
        Ok(()) => {}
        Err(Errno::ENOENT) => return Ok(()),
        Err(source) => return Err(failed(source)),
    }
    // Looked at where nobody can change it any more.
    let stat = fstatat(inner, LAZY_SOCKET, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed)?;
    let is_socket = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFSOCK;
    if is_socket && is_ours(&stat) {
        return Ok(());
    }
    let path = shown.join(OsStr::from_bytes(LAZY_SOCKET.to_bytes()));
    let problem =
        if is_socket { PlaceProblem::Foreign(stat.st_uid) } else { PlaceProblem::NoSocket };
    Err(PlaceError { path, problem }.into())
}

/// Returns the text of the link to the parent images, if there is one.
///
/// # Errors
/// [`Error::Place`] for a link of another user. The link is opened once, so that nobody can replace
/// it between the look at its owner and the reading.
pub(super) fn link_text(images: &OwnedFd, shown: &Path) -> Result<Option<CString>> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let Ok(link) = openat(images, PARENT, flags, Mode::empty()) else { return Ok(None) };
    let failed = |source| Error::system("look at the link to the parent images", source);
    let stat = fstat(&link).map_err(failed)?;
    let text = readlinkat(&link, "").ok();
    let text = text.and_then(|text| CString::new(text.as_bytes()).ok());
    if text.is_some() && !is_ours(&stat) {
        let problem = PlaceProblem::Foreign(stat.st_uid);
        return Err(PlaceError { path: shown.join("parent"), problem }.into());
    }
    Ok(text)
}

/// Returns the paths of the images directory and the work directory, for messages.
fn shown(common: &Common<'_>) -> (std::path::PathBuf, std::path::PathBuf) {
    let images = common.opts.images.path();
    let work = common.opts.work.as_ref().map_or_else(|| images.clone(), |work| work.path());
    (images, work)
}

/// Says whether criu writes a file of this name into its work directory: the log, or a log of one
/// process, and statistics.
fn is_work(name: &CStr, log: Option<&[u8]>, writes: Writes) -> bool {
    let name = name.to_bytes();
    let is_log = log.is_some_and(|log| {
        name.strip_prefix(log).is_some_and(|rest| {
            rest.is_empty()
                || rest.strip_prefix(b".").is_some_and(|pid| pid.iter().all(u8::is_ascii_digit))
        })
    });
    is_log
        || match writes {
            Writes::Images => matches!(name, b"stats-dump" | b"irmap-cache"),
            Writes::Restored => name == b"stats-restore",
            Writes::Log => false,
        }
}

/// Looks at a log that is named by its path. Nobody else can have put something into a directory
/// that only its owner can write.
///
/// # Errors
/// [`Error::Place`] if somebody else can choose the file that criu writes.
fn look_elsewhere(work: &OwnedFd, log: &Path) -> Result<()> {
    let folder = match log.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let Ok(directory) = openat(work.as_fd(), folder, flags, Mode::empty()) else {
        return Ok(());
    };
    let failed = |source: Errno| Error::system(format!("look at {}", folder.display()), source);
    let Some(by) = writers(&directory).map_err(failed)? else { return Ok(()) };
    let Some(name) = log.file_name().and_then(|name| CString::new(name.as_bytes()).ok()) else {
        return Ok(());
    };
    let mode = Mode::from_bits_truncate(fstat(&directory).map_err(failed)?.st_mode);
    if !mode.contains(Mode::S_ISVTX) {
        return Err(shared(folder, by, "a log that is named by its path"));
    }
    // In a directory with the sticky bit nobody can replace a file of ours, once it is there.
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    match openat(&directory, name.as_c_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(_) | Err(Errno::EEXIST) => {}
        Err(source) => return Err(failed(source)),
    }
    Ok(look_at(&directory, folder, &name, Role::File)?)
}

pub(super) fn writers_of(directory: &OwnedFd) -> Result<Option<Writers>> {
    writers(directory).map_err(|source| Error::system("look at the owner of a directory", source))
}

fn shared(directory: &Path, writers: Writers, purpose: &'static str) -> Error {
    let problem = PlaceProblem::Shared { writers, purpose };
    PlaceError { path: directory.to_owned(), problem }.into()
}
