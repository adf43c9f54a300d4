//! The moment at which a copy learns who it is.

use std::io;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::sethostname;

use super::findings::Findings;
use super::identity::Identity;
use super::place::{Placed, namespace, place};
use crate::hooks::{HookResult, Hooks};
use crate::host::in_a_thread;
use crate::value::{CopyNotice, Pid};

/// Hooks of a restore that give a copy its identity when its tasks are complete and still held: its
/// hostname, the file, and the signal. The signal is the first thing that the root task sees.
///
/// The file covers the one at its path in the mount namespace of the root task alone, with mode
/// 0600 and the owner of the root task. A file that is missing is made, with one line that says
/// what it is for; the last copy that uses the file removes it, unless this process is killed.
/// The value has to be kept as long as the copy runs.
///
/// criu has to be one that this process starts: it sees the same process ids.
#[derive(Debug)]
pub struct Arrival {
    identity: Identity,
    notice: CopyNotice,
    root: Option<Pid>,
    placed: Option<Placed>,
    findings: Option<Findings>,
}

impl Arrival {
    /// Makes the hooks of a copy.
    pub fn new(identity: Identity, notice: CopyNotice) -> Self {
        Self { identity, notice, root: None, placed: None, findings: None }
    }

    /// Lets criu see its findings about the kernel
    /// ([`ProbeCache::findings`](crate::ProbeCache::findings)), until it has read them: criu tries
    /// the kernel out otherwise, which takes 20 to 30 ms. They cover `/run`, so this comes after
    /// [`Restore::start`](crate::Restore::start), which has opened the directories.
    ///
    /// # Errors
    /// This process may not mount.
    pub fn show_findings(&mut self, findings: &[u8]) -> io::Result<()> {
        self.findings = Some(Findings::show(findings)?);
        Ok(())
    }

    /// Returns the identity.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    fn tell(&mut self, root: Pid) -> io::Result<()> {
        let hostname = self.identity.hostname();
        name_host(root, hostname).map_err(|error| told(&format!("set {hostname}"), &error))?;
        if let Some(path) = self.notice.path() {
            let text = self.identity.text();
            let placed = place(root, path, text.as_bytes(), self.notice.may_make_file());
            let what = || format!("put the identity of the copy at {}", path.display());
            self.placed = Some(placed.map_err(|error| told(&what(), &error))?);
        }
        if let Some(number) = self.notice.signal_number() {
            // The task is held by criu, so nobody else can have its number.
            kill(root.nix(), Signal::try_from(number)?)?;
        }
        Ok(())
    }
}

impl Hooks for Arrival {
    fn pre_restore(&mut self) -> HookResult {
        self.findings = None;
        Ok(())
    }

    fn post_restore(&mut self, root: Pid) -> HookResult {
        self.root = Some(root);
        Ok(())
    }

    fn pre_resume(&mut self) -> HookResult {
        let root = self.root.ok_or("CRIU has not named the root task")?;
        Ok(self.tell(root)?)
    }
}

/// Sets the hostname in the UTS namespace of a task.
fn name_host(task: Pid, hostname: &str) -> io::Result<()> {
    let namespace = namespace(task, "uts")?;
    in_a_thread(|| {
        setns(&namespace, CloneFlags::CLONE_NEWUTS)?;
        Ok(sethostname(hostname)?)
    })
}

fn told(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {what}: {error}"))
}
