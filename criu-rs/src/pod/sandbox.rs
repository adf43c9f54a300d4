//! Namespaces that containers share, left out of their dumps and entered by their restores.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::sys::stat::fstat;

use crate::error::{Error, Result};
use crate::operation::{Dump, Restore};
use crate::value::{External, InheritFd, InvalidValue, JoinNs, JoinableNs, Pid};

/// The namespaces that the containers of a pod share: a network, IPC, UTS or pid namespace, held by whoever made the
/// pod.
///
/// A dump leaves their contents out where CRIU can (network, pid), and a restore enters those of another sandbox.
/// The keys are those of container runtimes, [`NET_KEY`](Self::NET_KEY) and [`PID_KEY`](Self::PID_KEY).
///
/// ```no_run
/// use criu_rs::{Criu, Dump, LsmProfile, Pid, Restore, Sandbox};
///
/// let (old, new, container): (Pid, Pid, Pid) = ("4710".parse()?, "5110".parse()?, "4711".parse()?);
/// let criu = Criu::new();
/// Sandbox::of_process(old)?.leave_out(Dump::new(container, "/ckpt/web"))?.run(&criu)?;
/// let sandbox = Sandbox::of_process(new)?;
/// let label: LsmProfile = "selinux:system_u:system_r:container_t:s0:c3,c4".parse()?;
/// sandbox.join(Restore::new("/ckpt/web").lsm_profile(label)).run(&criu)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Of an IPC namespace CRIU saves all that is in it, with each container, and restores none of it into one that
/// exists: containers with System V shared memory in common cannot be restored so.
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

    /// One that shares nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The network, IPC and UTS namespaces of a process. A pid namespace that is shared too is added by
    /// [`pid`](Self::pid).
    ///
    /// # Errors
    /// [`Error::System`] when the process is not there, or not ours to look at.
    pub fn of_process(process: Pid) -> Result<Self> {
        let open = |kind| open(format!("/proc/{process}/ns/{kind}").as_ref());
        Ok(Self {
            net: Some(open("net")?),
            ipc: Some(open("ipc")?),
            uts: Some(open("uts")?),
            pid: None,
        })
    }

    /// With the network namespace behind a file, as `/run/netns/blue`.
    ///
    /// # Errors
    /// [`Error::System`] when it cannot be opened. So do the other methods.
    pub fn net(mut self, file: impl AsRef<Path>) -> Result<Self> {
        self.net = Some(open(file.as_ref())?);
        Ok(self)
    }

    /// With the IPC namespace behind a file.
    ///
    /// # Errors
    /// As [`net`](Self::net).
    pub fn ipc(mut self, file: impl AsRef<Path>) -> Result<Self> {
        self.ipc = Some(open(file.as_ref())?);
        Ok(self)
    }

    /// With the UTS namespace behind a file.
    ///
    /// # Errors
    /// As [`net`](Self::net).
    pub fn uts(mut self, file: impl AsRef<Path>) -> Result<Self> {
        self.uts = Some(open(file.as_ref())?);
        Ok(self)
    }

    /// With the pid namespace behind a file. What is restored into it must find its process ids free.
    ///
    /// # Errors
    /// As [`net`](Self::net).
    pub fn pid(mut self, file: impl AsRef<Path>) -> Result<Self> {
        self.pid = Some(open(file.as_ref())?);
        Ok(self)
    }

    /// The dump of a container in this sandbox, without what is the sandbox's.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] when the container is not in one of the namespaces; [`Error::System`] when it cannot
    /// be looked at.
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

    /// The restore of a container, dumped by [`leave_out`](Self::leave_out) or by a runtime, into this sandbox.
    pub fn join<'a>(&'a self, mut restore: Restore<'a>) -> Restore<'a> {
        if let Some(net) = &self.net {
            restore = restore.inherit_fd(InheritFd::new(Self::NET_KEY, net));
        }
        if let Some(pid) = &self.pid {
            restore = restore.inherit_fd(InheritFd::new(Self::PID_KEY, pid));
        }
        for (kind, namespace) in [(JoinableNs::Ipc, &self.ipc), (JoinableNs::Uts, &self.uts)] {
            if let Some(namespace) = namespace {
                // Ours is open as long as the restore is borrowed from it.
                let place = format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd());
                restore = restore.join_ns(JoinNs::path(kind, place));
            }
        }
        restore
    }

    /// What is shared, by the names in `/proc/PID/ns`.
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
