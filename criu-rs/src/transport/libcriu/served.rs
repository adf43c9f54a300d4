//! The thread that takes a request as criu does, and asks libcriu.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use prost::Message;

use super::bridge::{BRIDGE, Bridge, hear};
use super::library::Library;
use super::options::Options;
use super::refusal::Refusal;
use crate::host::tree;
use crate::rpc::{CriuOpts, CriuReq, CriuReqType, CriuResp, CriuRestoreResp};
use crate::sys::{seqpacket, table};

/// Held while an operation may receive the master of an orphaned terminal: libcriu has one place
/// for it.
static MASTER: Mutex<()> = Mutex::new(());

/// The libcriu thread behind a connection.
#[derive(Debug)]
pub(crate) struct Served {
    library: Library,
    thread: Option<JoinHandle<()>>,
    /// `true` once a request has been sent.
    asked: AtomicBool,
    /// `true` once libcriu has answered.
    answered: Arc<AtomicBool>,
    /// The time at which the thread began, in the kernel's ticks.
    pub(crate) since: Option<u64>,
}

impl Served {
    /// Refuses a packet that libcriu cannot carry. The packet is about to be sent.
    pub(crate) fn check(&self, packet: &[u8]) -> Result<(), Refusal> {
        self.library.check(packet)?;
        self.asked.store(true, Ordering::SeqCst);
        Ok(())
    }
}

/// Waits for a thread that has nothing more to do, now that the connection is closed. A thread in
/// the middle of an operation, which nobody can end, continues alone.
impl Drop for Served {
    fn drop(&mut self) {
        let is_busy = self.asked.load(Ordering::SeqCst) && !self.answered.load(Ordering::SeqCst);
        if let Some(thread) = self.thread.take().filter(|_| !is_busy) {
            let _ = thread.join();
        }
    }
}

impl Library {
    /// Starts a thread that takes one request from a socket.
    pub(crate) fn serve(&self, program: PathBuf, socket: OwnedFd) -> io::Result<Served> {
        let (library, answered) = (self.clone(), Arc::new(AtomicBool::new(false)));
        let (replied, since) = (Arc::clone(&answered), tree::now());
        let serve = move |socket: OwnedFd| {
            let Some(request) = next(&socket) else { return };
            let reply = library.answer(&program, &request, &socket);
            let reply = reply.unwrap_or_else(|why| CriuResp {
                r#type: request.r#type,
                success: false,
                cr_errmsg: Some(why.into_bytes()),
                ..Default::default()
            });
            replied.store(true, Ordering::SeqCst);
            // The other side may have gone.
            let _ = seqpacket::send(&socket, &reply.encode_to_vec());
        };
        // libcriu starts criu with all open descriptors.
        let thread = table::spawn_alone("libcriu", socket, serve)?;
        let (library, asked) = (self.clone(), AtomicBool::new(false));
        Ok(Served { library, thread: Some(thread), asked, answered, since })
    }

    /// Refuses what libcriu cannot carry, before libcriu is asked.
    fn check(&self, packet: &[u8]) -> Result<(), Refusal> {
        let Ok(request) = CriuReq::decode(packet) else { return Ok(()) };
        if request.r#type == CriuReqType::Check as i32 {
            let why = "libcriu's criu_local_check sends no options, not even the log's place";
            return Err(why.to_owned());
        }
        if let Some(opts) = &request.opts {
            Options::new(self)?.fill(opts)?;
        }
        match CriuReqType::try_from(request.r#type) {
            Ok(
                CriuReqType::Dump
                | CriuReqType::SinglePreDump
                | CriuReqType::Restore
                | CriuReqType::Notify,
            ) if !request.keep_open() => Ok(()),
            Ok(kind) if request.keep_open() => {
                Err(format!("libcriu closes the connection after {}", kind.as_str_name()))
            }
            Ok(kind) => Err(format!("libcriu has no function for {}", kind.as_str_name())),
            Err(_) => Err("libcriu has no function for this request".to_owned()),
        }
    }

    /// Passes a request to libcriu, and returns its result as a reply.
    fn answer(
        &self,
        program: &Path,
        request: &CriuReq,
        socket: &OwnedFd,
    ) -> Result<CriuResp, Refusal> {
        let options = Options::new(self)?;
        options.text(c"criu_local_set_service_binary", program.as_os_str().as_bytes())?;
        let mut reply = CriuResp { r#type: request.r#type, ..Default::default() };
        let kind = CriuReqType::try_from(request.r#type).unwrap_or(CriuReqType::Empty);
        let mut master = None;
        if let Some(opts) = &request.opts {
            options.fill(opts)?;
            options.listen()?;
            if opts.orphan_pts_master() {
                master = Some(MASTER.lock().unwrap_or_else(PoisonError::into_inner));
            }
            let forward = opts.notify_scripts();
            let bridge = Bridge::new(self, socket.as_fd(), forward)?;
            BRIDGE.set(Some(bridge));
        }
        let status = match kind {
            CriuReqType::Dump => options.run(c"criu_local_dump"),
            CriuReqType::SinglePreDump => options.run(c"criu_local_pre_dump"),
            CriuReqType::Restore => {
                let sibling = request.opts.as_ref().is_some_and(CriuOpts::rst_sibling);
                let name =
                    if sibling { c"criu_local_restore_child" } else { c"criu_local_restore" };
                options.run(name).inspect(|pid| reply.restore = Some(CriuRestoreResp { pid: *pid }))
            }
            _ => Err("libcriu has no function for this request".to_owned()),
        };
        drop(master);
        let refusal = BRIDGE.take().and_then(|bridge| bridge.refusal);
        let status = status?;
        reply.success = status >= 0 && refusal.is_none();
        if status < 0 {
            // `-EBADE` means that criu has reported an error; libcriu then leaves criu's errno in
            // errno. Any other status is the error between libcriu and criu.
            let from_criu = nix::errno::Errno::last_raw();
            let is_from_criu = status == -libc::EBADE && from_criu != 0;
            reply.cr_errno = Some(if is_from_criu { from_criu } else { -status });
        }
        reply.cr_errmsg = refusal.map(String::into_bytes);
        Ok(reply)
    }
}

/// Receives the next request; `None` if there are no more.
fn next(socket: &OwnedFd) -> Option<CriuReq> {
    CriuReq::decode(hear(socket.as_fd())?.as_slice()).ok()
}
