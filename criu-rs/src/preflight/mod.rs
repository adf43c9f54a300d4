//! A look before a dump or a restore: whether it will work, which options it needs, what cannot be
//! saved, and about how long the tasks will stand still.
//!
//! [`Dump::preflight`] reads `/proc` of the tree and stops nothing. [`Restore::preflight`] compares
//! the images with this host. Both return a [`Report`] of [`Finding`]s.
//!
//! ```no_run
//! use criu_rs::{Criu, Dump, Pid};
//!
//! let (criu, pid): (Criu, Pid) = (Criu::new(), "4711".parse()?);
//! let dump = Dump::new(pid, "/var/lib/ckpt");
//! let report = dump.preflight(&criu)?;
//! println!("{report}");
//! let dump = dump.with_preflight(&report);
//! if dump.preflight(&criu)?.will_work() {
//!     dump.run(&criu)?;
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Options that are set without asking
//!
//! [`Dump::with_preflight`] sets the options that change nothing outside the tree and lose nothing:
//!
//! - `file_locks`, if nobody outside the tree holds a lock on the same file: the restore takes the
//!   same locks again.
//! - `ghost_limit`, always: the images grow by the size of the file, and nothing else changes.
//! - `ext_unix_sk`, for datagram sockets whose peer has a name: the restore connects them again by
//!   that name.
//!
//! It leaves these options to the caller:
//!
//! - `tcp`: a saved connection is held until the restore, a closed one is lost.
//! - `tcp_skip_in_flight` loses connections that clients have made.
//! - `link_remap` leaves links beside unlinked files until the restore.
//! - `shell_job` and `orphan_pts_master`: the restored tasks get another session or terminal, which
//!   the caller has to have.
//! - `external`, `auto_ext_mnt` and `inherit_fd`: only the caller knows what to put there on
//!   restore.
//! - `network_lock`: this CRIU may lack the other kind of lock. With `Skip` the caller has to keep
//!   packets away.
//! - `unprivileged` saves less.
//! - `overwrite` replaces a checkpoint.
//!
//! # Limits
//!
//! A look shows one moment. A process can open a file or accept a connection right after it.
//! Processes that end and files that are closed during the look are left out.
//!
//! Devices of GPUs count as unsupported, although a plugin of CRIU may save them. Options that
//! libcriu cannot carry are not checked. A look foresees that a restore interrupts a system call of
//! script(1) and its like, which then end. It does not foresee that another program is disturbed by
//! an interrupted system call, or by the time that has passed.
//!
//! A look covers at most 10,000 processes and 50,000 open files; the report says if there are more.
//! A file system that does not answer (a dead NFS server) blocks the look, as it would block CRIU.
//! The rights that count are those of this process, which starts criu. The rights of a `criu
//! service` are not known and not checked.

mod diag;
mod epolls;
mod files;
mod finding;
mod halves;
mod interrupted;
mod kernel;
mod labels;
mod links;
mod live;
mod locks;
mod look;
mod loopback;
mod memory;
mod mounts;
mod need;
mod outside;
mod pipes;
mod proc;
mod report;
mod rights;
mod saved;
mod scheduling;
#[cfg(feature = "serde")]
mod serialize;
mod settings;
mod sockets;
mod tasks;
mod terminals;
mod watches;

use crate::criu::Criu;
use crate::error::{Error, Result};
use crate::operation::{Dump, Restore};

pub use finding::{Finding, Severity, Subject};
pub use kernel::{CLASHES, Clash};
use live::Tree;
use look::Look;
pub use need::Need;
pub use report::{Freeze, Report, Words};
pub use rights::{CAPABILITIES, CapabilityUse};

impl Dump<'_> {
    /// Looks at the tree and says whether this dump would work. It stops and changes nothing.
    ///
    /// # Errors
    /// Fails if criu does not start or does not answer. Everything else is a finding.
    pub fn preflight(&self, criu: &Criu) -> Result<Report> {
        match settings::settle(&self.common, criu) {
            Ok(common) => {
                let mut settled = self.clone();
                settled.common = common;
                settled.look_ahead(criu, None)
            }
            Err(error) => self.look_ahead(criu, Some(error)),
        }
    }

    fn look_ahead(&self, criu: &Criu, refused: Option<Error>) -> Result<Report> {
        let tree = Tree::look(self.pid());
        let mut look = Look::new("dump", criu, &self.common.opts)?;
        look.note_all(refused.map(settings::unusable).into_iter().collect());
        look.note_all(tasks::look(&tree, self.pid(), &look));
        if tree.root().is_some_and(|root| !root.is_zombie() && !root.is_kernel) {
            look.note_all(rights::look(&tree, &look));
            look.note_all(files::look(&tree, &look));
            look.note_all(watches::look(&tree, &look));
            look.note_all(epolls::look(&tree));
            look.note_all(sockets::look(&tree, &look));
            look.note_all(links::look(&tree, &look));
            look.note_all(pipes::look(&tree));
            look.note_all(halves::look(&tree));
            look.note_all(terminals::look(&tree, &look));
            look.note_all(interrupted::look(&tree));
            look.note_all(locks::look(&tree, &look));
            look.note_all(mounts::look(&tree, &look));
            look.note_all(scheduling::look(&tree));
            look.note_all(memory::look(&tree, &look));
            look.note_all(labels::of_dump(self, criu).into_iter().collect());
        }
        look.note_all(kernel::look(&look));
        look.note_all(loopback::look(&look).into_iter().collect());
        let files = mounts::in_memory(&tree, &look);
        let mut report = look.into_report();
        report.files = files;
        memory::measure(&tree, &mut report);
        memory::room(self, &mut report);
        report.findings.sort_by_key(|finding| finding.severity);
        Ok(report)
    }

    /// Sets the options that a report asks for and that change nothing outside the tree. The
    /// [module](self) lists them; the others are left to the caller.
    pub fn with_preflight(self, report: &Report) -> Self {
        report.safe_options().iter().fold(self, |dump, need| need.set(dump))
    }
}

impl Restore<'_> {
    /// Looks at the images and at this host, and says whether this restore would work.
    ///
    /// # Errors
    /// Fails if criu does not start or does not answer. Everything else is a finding.
    pub fn preflight(&self, criu: &Criu) -> Result<Report> {
        match settings::settle(&self.common, criu) {
            Ok(common) => {
                let mut settled = self.clone();
                settled.common = common;
                settled.look_ahead(criu, None)
            }
            Err(error) => self.look_ahead(criu, Some(error)),
        }
    }

    fn look_ahead(&self, criu: &Criu, refused: Option<Error>) -> Result<Report> {
        let mut look = Look::new("restore", criu, &self.common.opts)?;
        look.note_all(refused.map(settings::unusable).into_iter().collect());
        look.note_all(kernel::look(&look));
        look.note_all(loopback::look(&look).into_iter().collect());
        let (mut findings, size) = saved::look(self, &look);
        locks::of_restore(self, &mut findings);
        look.note_all(findings);
        look.note_all(labels::of_restore(self, criu).into_iter().collect());
        let mut report = look.into_report();
        (report.tasks, report.threads) = (size.tasks, size.threads);
        (report.descriptors, report.memory) = (size.descriptors, size.memory);
        report.findings.sort_by_key(|finding| finding.severity);
        Ok(report)
    }

    /// The pipes of which the images have one end, and which this restore does not give another:
    /// who writes to such a pipe gets `SIGPIPE`, and who reads it sees the end of the input. Each
    /// is the option that gives one. Empty if the images cannot be read.
    pub fn lost_pipes(&self) -> Vec<Need> {
        saved::lost_pipes(self)
    }

    /// Sets the options that a report asks for and that change nothing outside the tree. The report
    /// is that of the images, or that of the tree before the dump.
    pub fn with_preflight(self, report: &Report) -> Self {
        let needs = report.safe_options();
        needs
            .iter()
            .filter(|need| need.on_restore())
            .fold(self, |restore, need| need.set_on_restore(restore))
    }
}
