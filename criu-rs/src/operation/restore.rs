//! Bringing a process tree back.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitStatus;
#[cfg(feature = "oci")]
use std::sync::Arc;

use criu_images::RestoreStats;
use nix::sys::signal::Signal;

use super::labels::RestoreGuard;
use super::locks::LockGuard;
use super::methods::operation;
use super::places::Socket;
use super::prepared::Prepared;
use super::session::Session;
use super::{readable, saved_pages};
use crate::criu::Criu;
use crate::drive::{Driver, Finished};
use crate::error::Result;
use crate::hooks::Hooks;
#[cfg(feature = "oci")]
use crate::host::MountSpace;
use crate::host::tree;
use crate::options::Common;
use crate::rpc::CriuReqType;
use crate::sys::fd;
use crate::transport::{Launch, Subject};
use crate::undo::Strays;
use crate::value::{Dir, Pid, read_file};

/// Brings a process tree back: what `criu restore` does.
///
/// ```no_run
/// use criu_rs::{Criu, Restore};
///
/// let restored = Restore::new("/var/lib/ckpt").rst_sibling(true).run(&Criu::new())?;
/// println!("process {} runs again", restored.pid);
/// println!("and ended: {}", restored.wait()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A restore has no option of a dump:
///
/// ```compile_fail
/// use criu_rs::{AfterDump, Restore};
///
/// Restore::new("/var/lib/ckpt").after_dump(AfterDump::LeaveRunning);
/// ```
///
/// ```compile_fail
/// criu_rs::Restore::new("/var/lib/ckpt").leave_running(true);
/// ```
///
/// A restore that fails leaves no process behind.
#[derive(Clone, Debug)]
#[must_use = "an operation does nothing until it is run"]
pub struct Restore<'a> {
    pub(crate) common: Common<'a>,
    accept_label_loss: bool,
    accept_lock_loss: bool,
    /// The mount namespace to start criu in, if not this process's.
    #[cfg(feature = "oci")]
    mounts: Option<Arc<MountSpace>>,
}

operation!(Restore);

impl<'a> Restore<'a> {
    /// Makes a restore from the directory `images`.
    pub fn new(images: impl Into<Dir<'a>>) -> Self {
        let common = Common::with_actions(images.into(), "restore.log");
        Self {
            common,
            accept_label_loss: false,
            accept_lock_loss: false,
            #[cfg(feature = "oci")]
            mounts: None,
        }
    }

    /// Allows tasks to come back with other security labels than the images or
    /// [`lsm_profile`](Self::lsm_profile) say. By default such a restore is refused: see
    /// [`labels`](crate::labels).
    pub fn accept_label_loss(mut self, on: bool) -> Self {
        self.accept_label_loss = on;
        self
    }

    /// Allows tasks to come back without file locks that the images hold. By default such a restore
    /// is refused: without [`file_locks`](Self::file_locks) before anything is begun, and otherwise
    /// if CRIU has not given a lock back. CRIU loses a POSIX lock on a file that its process has
    /// also mapped, as SQLite in WAL mode has it.
    pub fn accept_lock_loss(mut self, on: bool) -> Self {
        self.accept_lock_loss = on;
        self
    }

    pub(crate) fn accepts_lock_loss(&self) -> bool {
        self.accept_lock_loss
    }

    /// Starts criu in a mount namespace of its own.
    #[cfg(feature = "oci")]
    pub(crate) fn within(mut self, mounts: Arc<MountSpace>) -> Self {
        self.mounts = Some(mounts);
        self
    }

    pub(crate) fn accepts_label_loss(&self) -> bool {
        self.accept_label_loss
    }

    /// Says whether the restore hands over the masters of terminals.
    pub(crate) fn wants_masters(&self) -> bool {
        self.common.opts.wants_masters()
    }

    /// Runs the restore.
    ///
    /// # Errors
    /// See [`Error`](crate::Error). No process is left behind.
    pub fn run(&self, criu: &Criu) -> Result<Restored> {
        self.run_with(criu, &mut ())
    }

    /// Runs the restore, and answers CRIU's actions with `hooks`.
    ///
    /// # Errors
    /// See [`Error`](crate::Error). No process is left behind.
    pub fn run_with(&self, criu: &Criu, hooks: &mut dyn Hooks) -> Result<Restored> {
        self.start(criu)?.finish(hooks)
    }

    /// Starts or reaches a criu, and does not send the request yet.
    ///
    /// # Errors
    /// An option is not valid or is newer than this CRIU; the images lack pages; the user
    /// who restores a tree in a user namespace may not read them; a security label or a file lock
    /// cannot be given back; criu does not start.
    pub fn start(&self, criu: &Criu) -> Result<Session<Restored>> {
        self.session(criu, Socket::Found, |_| Ok(()), |restored, ()| Ok(restored))
    }

    /// Starts or reaches a criu. `begin` sees the work directory before that, and `conclude` takes
    /// what it has made when the restore has succeeded.
    pub(super) fn session<B: Send + 'static, T>(
        &self,
        criu: &Criu,
        socket: Socket,
        begin: impl FnOnce(Option<&OwnedFd>) -> Result<B>,
        conclude: impl FnOnce(Restored, B) -> Result<T> + Send + 'static,
    ) -> Result<Session<T>> {
        let mut prepared = Prepared::new(&self.common, criu)?;
        let becomes_another = !prepared.message.exec_cmd.is_empty();
        let launch = Launch {
            shell_job: prepared.message.shell_job(),
            #[cfg(feature = "oci")]
            mounts: self.mounts.as_deref(),
            ..Default::default()
        };
        let place = prepared.work_place(&self.common, criu, socket)?;
        let strays = Strays::of(prepared.images.as_ref(), criu.program().ok().flatten());
        let images = prepared.images.as_ref().filter(|_| !prepared.message.stream());
        saved_pages::refuse_missing(images, &prepared.message)?;
        readable::refuse_unreadable(images)?;
        let guard = if self.accept_label_loss {
            None
        } else {
            RestoreGuard::before(criu, images, &prepared.message, &self.common.limits)?
        };
        let locks = if self.accept_lock_loss {
            None
        } else {
            LockGuard::before(images, prepared.message.file_locks())?
        };
        let images = images.and_then(|images| images.try_clone().ok());
        let begun = begin(prepared.work.as_ref())?;
        let subject = Subject::Restored { root: None };
        let (mut job, handed, work) = prepared.into_job(CriuReqType::Restore, "restore", subject);
        job.worker_ends = !becomes_another;
        job.strays = strays;
        job.images = images;
        job.watch(guard);
        job.watch(locks);
        job.strays.keep_ids_free();
        let link = criu.link_for(&job, &launch, handed)?;
        let driver = Driver::new(link, job, self.common.limits.clone())?;
        Ok(Session::new(driver, move |finished, driver| {
            let restored = Restored::read(finished, work);
            place.keep();
            let mut restored = restored?;
            let worker = driver.into_link().worker.filter(|_| becomes_another);
            restored.parent = worker.map(|worker| {
                let (pid, pidfd) = worker.release();
                Parent { pid, pidfd }
            });
            conclude(restored, begun)
        }))
    }
}

/// A restored process tree.
#[derive(Debug)]
#[non_exhaustive]
pub struct Restored {
    /// The root task. A service in another pid namespace answers with the number there.
    pub pid: Pid,
    /// A descriptor of the root task, opened while CRIU still held the task: so it cannot belong to
    /// another process. `None` before Linux 5.3, and if the kernel here does not know the number.
    pub pidfd: Option<OwnedFd>,
    /// CRIU's measurements, or the reason why they cannot be read.
    pub stats: Result<RestoreStats, criu_images::Error>,
    /// The program that criu has become after [`Restore::exec_cmd`].
    pub parent: Option<Parent>,
}

impl Restored {
    fn read(finished: Finished, work: Option<OwnedFd>) -> Result<Self> {
        let answered = finished.reply.restore.as_ref().map(|restore| restore.pid);
        let pid = match (finished.root, answered.and_then(Pid::new)) {
            (Some((pid, pidfd)), _) => (pid, pidfd),
            (None, Some(pid)) => (pid, None),
            (None, None) => {
                let missing = crate::rpc::ProtocolError::Incomplete {
                    action: crate::hooks::Action::PostRestore,
                    missing: "the root task",
                };
                return Err(missing.into());
            }
        };
        let bytes = work.and_then(|work| read_file(&work, "stats-restore"));
        Ok(Self {
            pid: pid.0,
            pidfd: pid.1,
            stats: RestoreStats::parse(&bytes.unwrap_or_default()),
            parent: None,
        })
    }

    /// Waits until the root task has ended, and reaps it.
    ///
    /// # Errors
    /// `ECHILD` if the root task is not a child of this process: see [`Restore::rst_sibling`].
    pub fn wait(&self) -> io::Result<ExitStatus> {
        tree::wait(self.pid)
    }

    /// Sends a signal to the root task, by its descriptor if there is one.
    ///
    /// # Errors
    /// `ESRCH` if the root task has ended.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let signal = Signal::try_from(signal)?;
        match &self.pidfd {
            Some(pidfd) => fd::signal(pidfd.as_fd(), signal),
            None => Ok(nix::sys::signal::kill(self.pid.nix(), signal)?),
        }
    }
}

/// The program that criu has become after a restore. It is a child of this process, which reaps it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Parent {
    /// The process id.
    pub pid: Pid,
    /// A descriptor of the process; `None` before Linux 5.3.
    pub pidfd: Option<OwnedFd>,
}

impl Parent {
    /// Waits until the program has ended, and reaps it.
    ///
    /// # Errors
    /// `ECHILD` if the program has been waited for before.
    pub fn wait(&self) -> io::Result<ExitStatus> {
        tree::wait(self.pid)
    }
}
