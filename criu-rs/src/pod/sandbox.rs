//! Namespaces that containers share: left out of dumps, and entered by restores.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::sys::stat::fstat;

use crate::error::{Error, Result};
use crate::operation::{Dump, Restore};
use crate::value::{External, InheritFd, InvalidValue, JoinNs, JoinableNs, Pid};

/// The namespaces that the containers of a pod share: a network, IPC, UTS or pid namespace. Whoever
/// made the pod keeps them open.
///
/// A dump leaves out network and pid namespaces, for which CRIU has an option. A restore enters the
/// namespaces of another sandbox. The keys are those of container runtimes,
/// [`NET_KEY`](Self::NET_KEY) and [`PID_KEY`](Self::PID_KEY).
///
/// ```no_run
/// use criu_rs::{Criu, Dump, LsmProfile, Pid, Restore, Sandbox};
///
/// let (old, new): (Pid, Pid) = ("4710".parse()?, "5110".parse()?);
/// let container: Pid = "4711".parse()?;
/// let criu = Criu::new();
/// Sandbox::of_process(old)?.leave_out(Dump::new(container, "/ckpt/web"))?.run(&criu)?;
/// let sandbox = Sandbox::of_process(new)?;
/// let label: LsmProfile = "selinux:system_u:system_r:container_t:s0:c3,c4".parse()?;
/// sandbox.join(Restore::new("/ckpt/web").lsm_profile(label)).run(&criu)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// CRIU saves the whole content of an IPC namespace with each container, and restores none of it
/// into an existing namespace. Containers that share System V shared memory cannot be restored in
/// this way.
#[derive(Debug, Default)]
pub struct Sandbox {
    net: Option<OwnedFd>,
    ipc: Option<OwnedFd>,
    uts: Option<OwnedFd>,
    pid: Option<OwnedFd>,
}

impl Sandbox {
    /// The key of a network namespace.
    pub const NET_KEY: &'static str = "extRootNetNS";

    /// The key of a pid namespace.
    pub const PID_KEY: &'static str = "extRootPidNS";

    /// A sandbox that shares no namespace yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The network, IPC and UTS namespaces of a process. A shared pid namespace is added by
    /// [`pid`](Self::pid).
    ///
    /// # Errors
    /// [`Error::System`] when the process does not exist, or this process may not look at it.
    pub fn of_process(process: Pid) -> Result<Self> {
        let open = |kind| open(format!("/proc/{process}/ns/{kind}").as_ref());
        Ok(Self {
            net: Some(open("net")?),
            ipc: Some(open("ipc")?),
            uts: Some(open("uts")?),
            pid: None,
        })
    }

    /// Adds the network namespace behind a file, such as `/run/netns/blue`.
    ///
    /// # Errors
    /// [`Error::System`] when the file cannot be opened.
    pub fn net(mut self, file: impl AsRef<Path>) -> Result<Self> {
        self.net = Some(open(file.as_ref())?);
        Ok(self)
    }

    /// Adds the IPC namespace behind a file.
    ///
    /// # Errors
    /// [`Error::System`] when the file cannot be opened.
    pub fn ipc(mut self, file: impl AsRef<Path>) -> Result<Self> {
        self.ipc = Some(open(file.as_ref())?);
        Ok(self)
    }

    /// Adds the UTS namespace behind a file.
    ///
    /// # Errors
    /// [`Error::System`] when the file cannot be opened.
    pub fn uts(mut self, file: impl AsRef<Path>) -> Result<Self> {
        self.uts = Some(open(file.as_ref())?);
        Ok(self)
    }

    /// Adds the pid namespace behind a file. The process ids of restored tasks must be free in it.
    ///
    /// # Errors
    /// [`Error::System`] when the file cannot be opened.
    pub fn pid(mut self, file: impl AsRef<Path>) -> Result<Self> {
        self.pid = Some(open(file.as_ref())?);
        Ok(self)
    }

    /// Leaves the sandbox's namespaces out of the dump of a container in this sandbox.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] when the container is not in one of the namespaces.
    /// [`Error::System`] when the container cannot be looked at.
    pub fn leave_out<'a>(&self, mut dump: Dump<'a>) -> Result<Dump<'a>> {
        let container = dump.pid();
        for (kind, namespace) in self.all() {
            let own = open(format!("/proc/{container}/ns/{kind}").as_ref())?;
            let (own, inode) = (inode(&own)?, inode(namespace)?);
            if own != inode {
                let want = "one in the sandbox's namespaces";
                let found = format!("process {container} in {kind}:[{own}]");
                return Err(InvalidValue::new("a container", found, want).into());
            }
            let number = u32::try_from(inode).map_err(|_| {
                InvalidValue::new(
                    "a namespace's inode",
                    inode,
                    "below 2^32, as the kernel has them",
                )
            })?;
            dump = match kind {
                "net" => dump
                    .external(External::NetNamespace { inode: number, key: Self::NET_KEY.into() }),
                "pid" => dump
                    .external(External::PidNamespace { inode: number, key: Self::PID_KEY.into() }),
                _ => dump,
            };
        }
        Ok(dump)
    }

    /// Puts the restore of a container into this sandbox. The dump was made with
    /// [`leave_out`](Self::leave_out), or by a runtime.
    pub fn join<'a>(&'a self, mut restore: Restore<'a>) -> Restore<'a> {
        if let Some(net) = &self.net {
            restore = restore.inherit_fd(InheritFd::new(Self::NET_KEY, net));
        }
        if let Some(pid) = &self.pid {
            restore = restore.inherit_fd(InheritFd::new(Self::PID_KEY, pid));
        }
        for (kind, namespace) in [(JoinableNs::Ipc, &self.ipc), (JoinableNs::Uts, &self.uts)] {
            if let Some(namespace) = namespace {
                // This descriptor stays open, because the restore borrows from the sandbox.
                let place = format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd());
                restore = restore.join_ns(JoinNs::path(kind, place));
            }
        }
        restore
    }

    /// The shared namespaces, with their names in `/proc/PID/ns`.
    fn all(&self) -> impl Iterator<Item = (&'static str, &OwnedFd)> {
        let all = [("net", &self.net), ("ipc", &self.ipc), ("uts", &self.uts), ("pid", &self.pid)];
        all.into_iter().filter_map(|(kind, namespace)| Some((kind, namespace.as_ref()?)))
    }
}

fn open(file: &Path) -> Result<OwnedFd> {
    let opened = File::open(file).map(OwnedFd::from);
    opened.map_err(|source| Error::system(format!("open the namespace {}", file.display()), source))
}

fn inode(namespace: impl AsFd) -> Result<u64> {
    let found = fstat(namespace).map_err(|source| Error::system("look at a namespace", source))?;
    Ok(found.st_ino)
}
