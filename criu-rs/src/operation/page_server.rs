//! CRIU's own page server.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nix::sys::signal::Signal;

use super::methods::operation;
use super::places::Writes;
use super::prepared::Prepared;
use crate::criu::Criu;
use crate::drive::{Driver, Finished, Job};
use crate::error::{Error, Result};
use crate::host::Held;
use crate::options::Common;
use crate::rpc::{CriuPageServerInfo, CriuReq, CriuReqType};
use crate::transport::{Handed, Launch, Link, Subject};
use crate::value::{Dir, Pid, Version};

/// CRIU's own page server: what `criu page-server` does. The server takes the memory of one dump
/// into its images directory, and ends. [`pages::Server`](crate::pages::Server) is the one of this
/// crate.
///
/// ```no_run
/// use criu_rs::{Criu, Dump, PageServer, Pid};
///
/// let criu = Criu::new();
/// let server = PageServer::new("/ckpt", "127.0.0.1:0".parse()?).spawn(&criu)?;
/// let pid: Pid = "4711".parse()?;
/// Dump::new(pid, "/ckpt").page_server("127.0.0.1", server.port()).run(&criu)?;
/// assert!(server.wait()?.success());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "an operation does nothing until it is run"]
pub struct PageServer<'a> {
    pub(crate) common: Common<'a>,
}

operation!(PageServer);

impl<'a> PageServer<'a> {
    /// Makes a server for the directory `images` that listens on `address`. Port 0 lets the kernel
    /// choose.
    ///
    /// Whoever can connect can write. CRIU looks at no user: without [`tls`](Self::tls) that is
    /// every user of this machine on a loopback address, and everybody on others.
    pub fn new(images: impl Into<Dir<'a>>, address: SocketAddr) -> Self {
        // Without CRIU's actions: status-ready, the only one, comes from the server and so before
        // or after the worker's reply, which itself comes when the server listens.
        let mut common = Common::new(images.into(), "page-server.log");
        common.opts.raw(|opts| {
            opts.ps = Some(CriuPageServerInfo {
                address: Some(address.ip().to_string().into()),
                port: Some(address.port().into()),
                ..Default::default()
            });
        });
        Self { common }
    }

    /// Starts the server in the background (PAGE_SERVER), and returns its port. CRIU does not tell
    /// the server's process id, and the server is not a child of this process:
    /// [`spawn`](Self::spawn) gives a server that can be waited for.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn start(&self, criu: &Criu) -> Result<u16> {
        let (job, handed, _) = self.job(criu, CriuReqType::PageServer)?;
        let link = criu.link_for(&job, &Launch::default(), handed)?;
        let (finished, _) = Driver::new(link, job, self.common.limits.clone())?.finish(&mut ())?;
        port(&finished)
    }

    /// Starts the server as a child of a criu that this crate starts (PAGE_SERVER_CHLD). The server
    /// listens when this returns. CRIU 3.7.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn spawn(&self, criu: &Criu) -> Result<RunningPageServer> {
        let (mut job, handed, _) = self.job(criu, CriuReqType::PageServerChld)?;
        job.needs("a page server as a child", Version::new(3, 7, 0));
        job.keep_open();
        let link = criu.link_for(&job, &Launch::default(), handed)?;
        let driver = Driver::new(link, job, self.common.limits.clone())?;
        let (finished, link) = driver.finish(&mut ())?;
        let pid = finished.reply.ps.as_ref().and_then(|server| Pid::new(server.pid()));
        match pid {
            Some(pid) => {
                // CRIU has just started it, and is there still to reap it.
                let held = Held::of(pid).filter(|_| link.numbers_processes_as_here());
                Ok(RunningPageServer { pid, held, port: port(&finished)?, link: Some(link) })
            }
            None => Err(missing("the page server's process id")),
        }
    }

    fn job(&self, criu: &Criu, kind: CriuReqType) -> Result<(Job, Handed, Option<OwnedFd>)> {
        let prepared = Prepared::new(&self.common, criu)?;
        prepared.look(&self.common, Writes::Images)?;
        // The server writes for as long as it runs, and `start` does not wait for its end.
        prepared.refuse_shared(&self.common, "CRIU's own page server")?;
        Ok(prepared.into_job(kind, "page server", Subject::None))
    }
}

/// A running page server of CRIU. Dropping it ends the server and the criu that started it.
#[derive(Debug)]
pub struct RunningPageServer {
    pid: Pid,
    /// The server, unless its number means another process here.
    held: Option<Held>,
    port: u16,
    link: Option<Link>,
}

impl RunningPageServer {
    /// Returns the process id of the server.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Returns the port that the server listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits until the server has ended (WAIT_PID). The status is 0 if the server has taken a whole
    /// dump.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn wait(mut self) -> Result<ExitStatus> {
        let Some(link) = self.link.take() else {
            return Err(missing("its connection"));
        };
        let request = CriuReq {
            r#type: CriuReqType::WaitPid.into(),
            pid: u32::try_from(self.pid.as_raw()).ok(),
            ..Default::default()
        };
        let (finished, _) = crate::criu::exchange(link, "wait for a page server", request)?;
        let status = finished.reply.status.ok_or_else(|| missing("the exit status"))?;
        Ok(ExitStatus::from_raw(status))
    }
}

impl Drop for RunningPageServer {
    fn drop(&mut self) {
        // With a service nobody else would end it.
        if let (Some(_), Some(server)) = (&self.link, &self.held) {
            server.signal(Signal::SIGKILL);
        }
    }
}

fn port(finished: &Finished) -> Result<u16> {
    let port = finished.reply.ps.as_ref().and_then(|server| server.port);
    // CRIU keeps it in a short: ports from 32768 come as negative numbers.
    let port = port.and_then(|port| u16::try_from(port & 0xffff).ok());
    port.ok_or_else(|| missing("the page server's port"))
}

fn missing(what: &str) -> Error {
    Error::system("read criu's answer", io::Error::other(format!("{what} is missing")))
}
