//! Looks before the freeze: will this dump work, which options does it need, what cannot be saved, how
//! long will the tasks stand still. The same for a restore: these images on this host.
//!
//! [`Dump::preflight`] reads /proc of the tree and stops nothing; [`Restore::preflight`] reads the images.
//! Both return a [`Report`] of [`Finding`]s.
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
//! # Which options are set without asking
//!
//! [`Dump::with_preflight`] sets those that change nothing outside the tree, and lose nothing:
//!
//! | option | set | why |
//! | --- | --- | --- |
//! | `file_locks` | when nobody outside holds a lock on the same file | the restore takes the same locks again |
//! | `ghost_limit` | always | the images grow by the file, no more |
//! | `ext_unix_sk` | for datagram sockets with a named peer | the restore connects them again by name |
//! | `tcp` | never | saved, the connection is held until the restore; closed, it is lost |
//! | `tcp_skip_in_flight` | never | loses connections that clients have made |
//! | `link_remap` | never | leaves links in the directories of others until the restore |
//! | `shell_job`, `orphan_pts_master` | never | the restored tasks get another session or terminal, which the caller has to have |
//! | `external`, `auto_ext_mnt`, `inherit_fd` | never | only the caller knows what to put there on restore |
//! | `network_lock` | never | another lock may not be built into this CRIU; none needs the caller to keep packets away |
//! | `unprivileged` | never | saves less |
//! | `overwrite` | never | replaces a checkpoint |
//!
//! # How far it can be trusted
//!
//! A look is of one moment: a process can open a file or take a connection right after it, and one that ends or
//! closes something meanwhile is left out. What CRIU's plugins save (devices of GPUs) is taken for what cannot be
//! saved. What libcriu cannot carry is not looked at, and a running program that minds that its system calls are
//! interrupted, or that time has passed, is not foreseen.
//!
//! What is looked at is bounded: of trees with more than 10,000 processes or 50,000 open files a part, which the
//! report says. A file system that does not answer (a dead NFS server) makes the look wait, as it would CRIU. Whose
//! rights count is this process, which starts criu; those of a `criu service` are not known, and not judged.

mod diag;
mod files;
mod finding;
mod images;
mod kernel;
mod labels;
mod live;
mod locks;
mod look;
mod memory;
mod mounts;
mod need;
mod proc;
mod report;
mod rights;
mod saved_files;
mod sockets;
mod tasks;
mod terminals;

use crate::criu::Criu;
use crate::error::Result;
use crate::operation::{Dump, Restore};

pub use finding::{Finding, Severity, Subject};
pub use kernel::{CLASHES, Clash};
use live::Tree;
use look::Look;
pub use need::Need;
pub use report::{Freeze, Report, Words};
pub use rights::{CAPABILITIES, CapabilityUse};

impl Dump<'_> {
    /// Looks at the tree and says whether this dump would work. Nothing is stopped, asked or changed.
    ///
    /// # Errors
    /// When criu does not start or does not answer. Everything else is a finding.
    pub fn preflight(&self, criu: &Criu) -> Result<Report> {
        let tree = Tree::look(self.pid());
        let mut look = Look::new("dump", criu, &self.common.opts)?;
        look.note_all(tasks::look(&tree, self.pid(), &look));
        if tree.root().is_some_and(|root| !root.is_zombie() && !root.is_kernel) {
            look.note_all(rights::look(&tree, &look));
            look.note_all(files::look(&tree, &look));
            look.note_all(sockets::look(&tree, &look));
            look.note_all(terminals::look(&tree, &look));
            look.note_all(locks::look(&tree, &look));
            look.note_all(mounts::look(&tree, &look));
            look.note_all(memory::look(&tree, &look));
            look.note_all(labels::of_dump(self, criu).into_iter().collect());
        }
        look.note_all(kernel::look(&look));
        let files = mounts::in_memory(&tree, &look);
        let mut report = look.into_report();
        report.files = files;
        memory::measure(&tree, &mut report);
        memory::room(self, &mut report);
        report.findings.sort_by_key(|finding| finding.severity);
        Ok(report)
    }

    /// Sets the options that a report asks for and that change nothing outside the tree: see the
    /// [module](self). The others stay with the caller.
    pub fn with_preflight(self, report: &Report) -> Self {
        report.safe_options().iter().fold(self, |dump, need| need.set(dump))
    }
}

impl Restore<'_> {
    /// Looks at the images and at this host, and says whether this restore would work.
    ///
    /// # Errors
    /// When criu does not start or does not answer. Everything else is a finding.
    pub fn preflight(&self, criu: &Criu) -> Result<Report> {
        let mut look = Look::new("restore", criu, &self.common.opts)?;
        look.note_all(kernel::look(&look));
        let (findings, size) = images::look(self, &look);
        look.note_all(findings);
        look.note_all(labels::of_restore(self, criu).into_iter().collect());
        let mut report = look.into_report();
        (report.tasks, report.threads, report.descriptors, report.memory) = size;
        report.findings.sort_by_key(|finding| finding.severity);
        Ok(report)
    }

    /// Sets what a report asks for and what changes nothing outside the tree: one of the images, or one of
    /// the tree from before the dump.
    pub fn with_preflight(self, report: &Report) -> Self {
        let needs = report.safe_options();
        needs
            .iter()
            .filter(|need| need.on_restore())
            .fold(self, |restore, need| need.set_on_restore(restore))
    }
}
