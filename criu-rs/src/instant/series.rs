//! Series of instant captures: full images first, then what has changed.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstat, fstatat};

use super::base::SeriesBase;
use super::budget::{Budget, SeriesEnd};
use super::error::InstantError;
use super::frames;
use super::options::InstantOptions;
use super::outcome::InstantCapture;
use super::rounds::{Round, Rounds};
use super::run::{To, round};
use crate::criu::Criu;
use crate::error::{Error, Result};
use crate::hooks::Hooks;
use crate::operation::Dump;
use crate::pages::Client;
use crate::undo::PARENT;
use crate::value::{AfterDump, Dir, InvalidValue, name_of};

/// The options of a series of instant captures.
///
/// ```
/// use criu_rs::instant::{Budget, InstantOptions, SeriesOptions, WhenEnded};
///
/// let options = SeriesOptions::new()
///     .instant(InstantOptions::new().least(64 << 20))
///     .budget(Budget::new().percent(25))
///     .when_ended(WhenEnded::Fail);
/// # drop(options);
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct SeriesOptions {
    instant: InstantOptions,
    budget: Budget,
    when_ended: WhenEnded,
}

/// The way of a round whose base is gone, because the holders have ended early.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenEnded {
    /// The round saves all pages. Its images need no others.
    #[default]
    Full,
    /// The round fails with [`InstantError::SeriesEnded`]. The next round saves all pages.
    Fail,
}

impl SeriesOptions {
    /// Returns the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the options of each round.
    pub fn instant(mut self, options: InstantOptions) -> Self {
        self.instant = options;
        self
    }

    /// Sets the memory that holders may take between the rounds.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// Sets what a round does if the holders have ended early.
    pub fn when_ended(mut self, when: WhenEnded) -> Self {
        self.when_ended = when;
        self
    }
}

impl<'a> Dump<'a> {
    /// Begins a series of instant captures of the tree: see [`InstantSeries`]. Nothing is touched
    /// before the first round. The images directory of this dump is not used: each round has its
    /// own.
    ///
    /// # Errors
    /// This process may not see which frames pages lie in (CAP_SYS_ADMIN in the first user
    /// namespace); the dump ends the tasks, or names parent images.
    pub fn instant_series(
        &self,
        criu: &Criu,
        options: &SeriesOptions,
    ) -> Result<InstantSeries<'a>> {
        let refused = |found: &str, wanted| {
            Err(InvalidValue::new("the dump of a series of instant captures", found, wanted).into())
        };
        let configured = criu.configure(&self.common)?;
        if !configured.opts.leaves_tasks() {
            return refused("one that ends the tasks", "one that leaves them running or stopped");
        }
        let message = configured.opts.message();
        if message.parent_img.is_some() || message.track_mem() {
            return refused("one with parent images", "one without parent_img and track_mem");
        }
        if !frames::visible().map_err(InstantError::system("look at the frames of pages"))? {
            let why = InstantError::system("compare pages")(frames::hidden());
            return Err(why.into());
        }
        let rounds = Rounds::start(options.budget)?;
        Ok(InstantSeries {
            dump: self.clone(),
            criu: criu.clone(),
            options: options.clone(),
            rounds,
        })
    }
}

/// A series of instant captures of one tree. The first round writes all pages. Each later round
/// writes the pages that have changed since the round before, and leaves the others to the images
/// of that round.
///
/// ```no_run
/// use criu_rs::instant::SeriesOptions;
/// use criu_rs::{AfterDump, Criu, Dump, Pid};
///
/// let pid: Pid = "4711".parse()?;
/// let dump = Dump::new(pid, "/ckpt").after_dump(AfterDump::LeaveRunning);
/// let mut series = dump.instant_series(&Criu::new(), &SeriesOptions::new())?;
/// for round in 0..10 {
///     let capture = series.next(format!("/ckpt/{round}"), &mut ())?;
///     let read = capture.reading.wait()?;
///     println!("{} pages written, {} left to the round before", read.held, read.inherited);
///     std::thread::sleep(std::time::Duration::from_secs(60));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The images of each round are a whole checkpoint together with those of the rounds before: a link
/// `parent` leads from each directory to the one before, and all of CRIU, this crate and
/// `criu-images` follow it. So the directories of a chain are kept, or moved, together.
///
/// # How changes are found
///
/// The holders of a round stay until the images of the next round are complete. A page that is the
/// same frame of memory in both holders of a task has not changed. This needs no support for
/// tracking changed memory (soft-dirty), is exact, and costs no freeze: the task runs while its
/// holders are compared. Shared memory, hugetlb areas and tasks without a holder are saved whole in
/// each round, and so is each page that a task has in swap.
///
/// # Ahead of a migration
///
/// Rounds do what [`PreDump`](crate::PreDump) does, on kernels where that cannot work:
///
/// | | `PreDump` | a round of a series |
/// | --- | --- | --- |
/// | the kernel | tracks changed memory (soft-dirty) | shows frames (CAP_SYS_ADMIN); 6.7 |
/// | the network in the freeze | open | locked, as for a dump |
/// | images | pages alone | a whole checkpoint |
/// | parent of | a dump with `parent_img` and `track_mem` | the next round of the series |
/// | memory between rounds | none | the pages that are written meanwhile, once more |
/// | ends with | a dump | [`last`](Self::last), which leaves the tasks stopped |
///
/// The base of the next round is in the holders, and these end with the series. So images alone are
/// no base for a later run: such a round is a full one. A process that keeps a series can
/// [describe](Self::describe) its last round to another process, which
/// [goes on](Self::adopt) from there. CRIU refuses to make a dump with `parent_img` on top of a
/// round, because it has not made these images with `track_mem`.
///
/// # Costs
///
/// Between the rounds each task has its holder, with the costs of an
/// [instant capture](crate::instant#costs). The [`Budget`] bounds the memory. While a round is
/// made, a task has two holders, which the limits of processes count.
///
/// Dropped, the series ends its holders. A round that is being read then ends them when it is
/// complete.
#[derive(Debug)]
#[must_use = "a series does nothing until a round is made"]
pub struct InstantSeries<'a> {
    dump: Dump<'a>,
    criu: Criu,
    options: SeriesOptions,
    rounds: Rounds,
}

impl<'a> InstantSeries<'a> {
    /// Makes the next round, into an images directory of its own. Waits until the reading of the
    /// round before has ended.
    ///
    /// The directory must exist, and have no link `parent`. After a failure it has no images of the
    /// round, and the next round builds on the last one that succeeded.
    ///
    /// # Errors
    /// As [`Dump::instant`]. [`InstantError::SeriesEnded`] with [`WhenEnded::Fail`]. The directory
    /// is one that the round would build on, or its `parent` could not lead to the round before.
    pub fn next(
        &mut self,
        directory: impl Into<Dir<'a>>,
        hooks: &mut dyn Hooks,
    ) -> Result<InstantCapture> {
        let dump = self.dump.clone();
        self.round(dump, directory.into(), To::Directory, true, hooks)
    }

    /// Makes the next round as [`next`](Self::next) does, and sends the pages to a page server. All
    /// other images go into the directory here. The server has a link `parent` to the pages of the
    /// round before, which it must have received, too.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn next_to(
        &mut self,
        directory: impl Into<Dir<'a>>,
        server: Client,
        hooks: &mut dyn Hooks,
    ) -> Result<InstantCapture> {
        let dump = self.dump.clone();
        self.round(dump, directory.into(), To::Server(server), true, hooks)
    }

    /// Makes the last round, and leaves the tasks running or stopped. No holder is left when its
    /// images are complete.
    ///
    /// Tasks that are left stopped stand still until somebody ends them or lets them go on. So
    /// nothing that they did is missing in the images.
    ///
    /// # Errors
    /// As [`next`](Self::next). [`Error::InvalidValue`](crate::Error::InvalidValue) for
    /// [`AfterDump::Kill`]: end the tasks when the images are where they are needed.
    pub fn last(
        mut self,
        directory: impl Into<Dir<'a>>,
        after: AfterDump,
        hooks: &mut dyn Hooks,
    ) -> Result<InstantCapture> {
        if after == AfterDump::Kill {
            let wanted = "one that leaves the tasks running or stopped";
            return Err(InvalidValue::new("the last round of a series", "Kill", wanted).into());
        }
        let dump = self.dump.clone().after_dump(after);
        self.round(dump, directory.into(), To::Directory, false, hooks)
    }

    /// Takes the last round of another process as the base of the next one. `directory` has the
    /// images of that round. The other process keeps its holders until the next round is complete,
    /// and ends them then: a series in this process has holders of its own from there on.
    ///
    /// Holders that this series has are ended.
    ///
    /// # Errors
    /// [`InstantError::Base`] for a directory with other images, [`InstantError::Lost`] for a
    /// holder that is gone; [`Error::InvalidValue`](crate::Error::InvalidValue) for another tree.
    pub fn adopt(&mut self, directory: impl Into<Dir<'a>>, base: &SeriesBase) -> Result<()> {
        let (found, wanted) = (base.root(), self.dump.pid());
        if found != wanted {
            let found = format!("one of process {found}, not of process {wanted}");
            let what = "the base of a series";
            return Err(InvalidValue::new(what, found, "one of the same process").into());
        }
        let (_, place) = Place::held(&directory.into())?;
        let tasks = base.open(&place.directory, place.identity, &place.path)?;
        self.rounds.adopt(place, tasks, base.chain().to_vec());
        Ok(())
    }

    /// Describes the last round to another process, which goes on with the series by
    /// [`adopt`](Self::adopt). `None` if the next round is a full one, or this series itself goes
    /// on from another process. Waits until the reading of the round before has ended.
    pub fn describe(&self) -> Option<SeriesBase> {
        self.rounds.settled().base.as_ref()?.described(self.dump.pid())
    }

    /// Returns the images directory that the next round builds on, or `None` if it is a full one.
    /// Waits until the reading of the round before has ended.
    pub fn base(&self) -> Option<PathBuf> {
        self.rounds.settled().base.as_ref().map(|base| base.path.clone())
    }

    /// Returns the reason why the holders have ended since the last round, if they have.
    pub fn ended(&self) -> Option<SeriesEnd> {
        self.rounds.settled().ended.clone()
    }

    /// Ends the holders, so that the next round is a full one. Waits until the reading of the round
    /// before has ended.
    pub fn restart(&mut self) {
        let base = self.rounds.settled().base.take();
        drop(base);
    }

    fn round(
        &mut self,
        mut dump: Dump<'a>,
        directory: Dir<'a>,
        to: To,
        keeps: bool,
        hooks: &mut dyn Hooks,
    ) -> Result<InstantCapture> {
        let ended = self.rounds.settled().ended.take();
        if let Some(ended) = ended.filter(|_| self.options.when_ended == WhenEnded::Fail) {
            return Err(InstantError::SeriesEnded(ended).into());
        }
        let (directory, place) = Place::held(&directory)?;
        place.refuse_parent()?;
        let round = self.rounds.begin(place, keeps)?;
        dump.common.opts.images = directory;
        round_of(&dump, &self.criu, &self.options.instant, to, hooks, round)
    }
}

fn round_of(
    dump: &Dump<'_>,
    criu: &Criu,
    options: &InstantOptions,
    to: To,
    hooks: &mut dyn Hooks,
    made: Round,
) -> Result<InstantCapture> {
    round(dump, criu, options, to, hooks, Some(Box::new(made)))
}

/// The images directory of a round.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) directory: Arc<OwnedFd>,
    /// The path, for messages.
    pub(super) path: PathBuf,
    /// Device and inode number.
    pub(super) identity: (u64, u64),
}

impl Place {
    /// Opens a directory, which stays the same even if its path comes to lead elsewhere.
    fn held<'a>(directory: &Dir<'a>) -> Result<(Dir<'a>, Self)> {
        let Some((held, open)) = directory.hold()? else {
            let found = "one that only CRIU sees";
            return Err(InvalidValue::new("the directory of a round", found, "one by path").into());
        };
        let path = directory.path();
        let failed = |source: Errno| Error::system(format!("look at {}", path.display()), source);
        let stat = fstat(&open).map_err(failed)?;
        let identity = (stat.st_dev, stat.st_ino);
        Ok((held, Self { directory: open, identity, path }))
    }

    /// Refuses a directory with a link to a parent: CRIU would build on it.
    fn refuse_parent(&self) -> Result<()> {
        let path = self.path.display();
        match fstatat(&*self.directory, PARENT, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => Ok(()),
            Ok(_) => {
                let doing = format!("make a round in {path}, which has a parent");
                Err(Error::system(doing, Errno::EEXIST))
            }
            Err(source) => Err(Error::system(format!("look at {path}"), source)),
        }
    }

    /// Returns the text of a link from here to another directory. It is relative, so that both can
    /// be moved together.
    ///
    /// # Errors
    /// No path leads there.
    pub(super) fn link_to(&self, other: &Self) -> Result<CString> {
        let (here, there) = (name_of(&*self.directory), name_of(&*other.directory));
        let text = CString::new(relative(&here, &there).into_os_string().into_encoded_bytes());
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let is_other = |text: &CString| {
            let found = openat(&*self.directory, text.as_c_str(), flags, Mode::empty()).ok()?;
            let stat = fstat(found.as_fd()).ok()?;
            Some((stat.st_dev, stat.st_ino) == other.identity)
        };
        text.ok().filter(|text| is_other(text) == Some(true)).ok_or_else(|| {
            let (here, there) = (here.display(), there.display());
            Error::system(format!("find a path from {here} to {there}"), Errno::ENOENT)
        })
    }
}

/// Returns a relative path from one absolute path to another.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let same = from.components().zip(to.components()).take_while(|(from, to)| from == to).count();
    let up = from.components().skip(same).map(|_| Component::ParentDir);
    let path: PathBuf = up.chain(to.components().skip(same)).collect();
    if path.as_os_str().is_empty() { ".".into() } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_relative() {
        let text = |from: &str, to: &str| relative(from.as_ref(), to.as_ref());
        assert_eq!(text("/ckpt/2", "/ckpt/1"), Path::new("../1"));
        assert_eq!(text("/ckpt/a/b", "/ckpt"), Path::new("../.."));
        assert_eq!(text("/ckpt", "/ckpt/a/b"), Path::new("a/b"));
        assert_eq!(text("/a/b", "/c"), Path::new("../../c"));
        assert_eq!(text("/a", "/a"), Path::new("."));
    }
}
