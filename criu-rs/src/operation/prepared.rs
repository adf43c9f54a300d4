//! An operation made ready: its message, its descriptors, and the guards that undo a failure.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use super::places::{Delivery, Socket, Staged, Writes};
use crate::criu::Criu;
use crate::diagnosis::LogPlace;
use crate::drive::Job;
use crate::error::{Error, Result};
use crate::options::{ByFile, Common, Filled, Needed, Opts};
use crate::rpc::{CriuOpts, CriuReq, CriuReqType};
use crate::transport::{Handed, Link, Subject};
use crate::undo::{CgroupYard, Connections, Freezer, ImagesDir, Strays};
use crate::value::Pid;

/// A request's message, with the descriptors and the log that belong to it.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) message: CriuOpts,
    pub(super) handed: Handed,
    pub(crate) images: Option<OwnedFd>,
    pub(super) work: Option<OwnedFd>,
    log: Option<LogPlace>,
    /// The path of the log, if a configuration file names it.
    pub(super) log_elsewhere: Option<PathBuf>,
    pub(super) by_file: ByFile,
}

/// The things that are given back if a dump fails.
#[derive(Debug)]
pub(crate) struct Watched {
    // First: large images take a while to be removed.
    connections: Option<Arc<Connections>>,
    images: Option<ImagesDir>,
    freezer: Option<Freezer>,
    staged: Staged,
}

impl Prepared {
    /// Checks the options, and opens the files that they name.
    pub(crate) fn new(common: &Common<'_>, criu: &Criu) -> Result<Self> {
        let common = &*criu.configure(common)?;
        let opts = &common.opts;
        refuse_over_socket(opts, criu)?;
        let mut handed = Handed::default();
        let Filled { message, images, work } = opts.fill(&mut handed)?;
        let log = match (&work, &common.log_elsewhere, &message.log_file) {
            (Some(work), Some(path), _) => LogPlace::at(work, path),
            (Some(work), None, Some(name)) => Some(LogPlace::new(clone(work)?, name)),
            _ => None,
        };
        let (log_elsewhere, by_file) = (common.log_elsewhere.clone(), common.by_file);
        Ok(Self { message, handed, images, work, log, log_elsewhere, by_file })
    }

    /// Looks for the log in the work directory that criu now has.
    pub(super) fn log_anew(&mut self) -> Result<()> {
        if let (Some(work), None, Some(name)) =
            (&self.work, &self.log_elsewhere, &self.message.log_file)
        {
            self.log = Some(LogPlace::new(clone(work)?, name));
        }
        Ok(())
    }

    /// Returns the job for a driver, the descriptors for its link, and the work directory.
    pub(crate) fn into_job(
        self,
        kind: CriuReqType,
        operation: &'static str,
        subject: Subject,
    ) -> (Job, Handed, Option<OwnedFd>) {
        let needed = Needed::by(&self.message);
        let opts = Some(self.message);
        let request = CriuReq { r#type: kind.into(), opts, ..Default::default() };
        let job = Job {
            operation,
            request,
            needed,
            subject,
            strays: Strays::default(),
            log: self.log,
            worker_ends: true,
            guards: Vec::new(),
            images: None,
        };
        (job, self.handed, self.work)
    }

    /// Makes the work directory of a restore safe from others, and watches it for mounts that a
    /// restore must not leave behind.
    pub(crate) fn work_place(
        &mut self,
        common: &Common<'_>,
        criu: &Criu,
        socket: Socket,
    ) -> Result<WorkPlace> {
        self.look(common, Writes::Restored)?;
        let staged = self.stage(common, criu, Writes::Restored, socket)?;
        let yard = self.work.as_ref().map(clone).transpose()?.map(CgroupYard::watch);
        Ok(WorkPlace { yard, _staged: staged })
    }

    /// Watches the images and the freezer, which a failed dump must leave as they were, and makes
    /// the directories safe from others.
    pub(crate) fn watch(
        &mut self,
        common: &Common<'_>,
        criu: &Criu,
        overwrite: bool,
    ) -> Result<Watched> {
        self.look(common, Writes::Images)?;
        let name = common.opts.images.path();
        let trusted = common.trust_directory;
        let watch = |images| ImagesDir::watch(clone(images)?, name, overwrite, trusted);
        let images = self.images.as_ref().map(watch).transpose()?;
        let staged = self.stage(common, criu, Writes::Images, Socket::Found)?;
        let freezer = self.message.freeze_cgroup.as_deref().map(Freezer::watch);
        Ok(Watched { images, freezer: freezer.flatten(), connections: None, staged })
    }
}

/// The work directory of a restore.
#[derive(Debug)]
pub(crate) struct WorkPlace {
    // First: the directory of the mounts goes with the second.
    yard: Option<CgroupYard>,
    _staged: Staged,
}

impl WorkPlace {
    /// Keeps everything: the restore is complete.
    pub(crate) fn keep(self) {
        if let Some(yard) = self.yard {
            yard.keep();
        }
    }
}

impl Watched {
    /// Watches the connections of the tasks, too.
    pub(crate) fn look_after(&mut self, root: Pid, job: &Job, link: &mut Link) {
        let opts = job.request.opts.as_ref().filter(|_| link.numbers_processes_as_here());
        self.connections = opts.and_then(|opts| Connections::watch(root, opts)).map(Arc::new);
        match (&mut link.worker, &self.connections) {
            (Some(worker), connections) => worker.connections.clone_from(connections),
            (None, Some(connections)) => connections.expect(),
            (None, None) => {}
        }
    }

    /// Returns the guard that moves images to their names at the end of the dump.
    pub(super) fn delivery(&self) -> Option<Delivery> {
        self.staged.delivery()
    }

    /// Moves the images to their names, where no guard has done that.
    ///
    /// # Errors
    /// An image cannot be moved.
    pub(super) fn deliver(&self) -> Result<()> {
        self.staged.deliver()
    }

    /// Keeps everything: the dump is complete.
    pub(crate) fn keep(self) {
        if let Some(images) = self.keep_tasks() {
            images.keep();
        }
    }

    /// Keeps everything except the images, and returns their guard: CRIU has done its part, and the
    /// images are not complete yet.
    pub(crate) fn keep_tasks(self) -> Option<ImagesDir> {
        if let Some(freezer) = self.freezer {
            freezer.keep();
        }
        if let Some(connections) = self.connections {
            connections.keep();
        }
        self.images
    }
}

/// Refuses requests that a service cannot fulfil, before anything is done.
fn refuse_over_socket(opts: &Opts<'_>, criu: &Criu) -> Result<()> {
    let transport = criu.transport();
    let placed = "its descriptors have to be put into the criu process";
    if !opts.inherit.is_empty() {
        transport.require_worker("inherit_fd", placed)?;
    }
    if opts.page_server_socket.is_some() {
        transport.require_worker("page_server_socket", placed)?;
    }
    if opts.is_sibling() {
        transport.require_worker("rst_sibling", "the restored root becomes criu's sibling")?;
    }
    Ok(())
}

pub(super) fn clone(fd: &OwnedFd) -> Result<OwnedFd> {
    fd.try_clone().map_err(|source| Error::system("duplicate a descriptor", source))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::MetadataExt;
    use std::sync::atomic::{AtomicBool, Ordering};

    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

    use super::*;

    /// CRIU must write into the directory that is watched, even if somebody swaps the path
    /// meanwhile.
    #[test]
    fn a_directory_swapped_meanwhile_is_the_same_for_criu_and_for_us() {
        let folder = std::env::temp_dir().join(format!("criu-rs-swap-{}", std::process::id()));
        let (one, other) = (folder.join("one"), folder.join("other"));
        fs::create_dir_all(&one).unwrap();
        fs::create_dir_all(&other).unwrap();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let swap = RenameFlags::RENAME_EXCHANGE;
                    renameat2(AT_FDCWD, &one, AT_FDCWD, &other, swap).unwrap();
                }
            });
            let inode =
                |number: i32| fs::metadata(format!("/proc/self/fd/{number}")).unwrap().ino();
            let mut differ = 0;
            for _ in 0..5_000 {
                let mut opts = Opts::new(one.as_path().into(), "dump.log");
                opts.work = Some(one.as_path().into());
                let mut handed = Handed::default();
                let filled = opts.fill(&mut handed).unwrap();
                let images = filled.images.as_ref().unwrap().as_raw_fd();
                let work = filled.work.as_ref().unwrap().as_raw_fd();
                differ += usize::from(inode(images) != inode(filled.message.images_dir_fd));
                differ += usize::from(inode(work) != inode(filled.message.work_dir_fd.unwrap()));
            }
            over.store(true, Ordering::Relaxed);
            assert_eq!(differ, 0);
        });
        fs::remove_dir_all(folder).unwrap();
    }
}
