//! The thread that takes a request as criu does, and asks libcriu.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use procfs::Current;
use prost::Message;

use super::bridge::{BRIDGE, Bridge, hear};
use super::library::Library;
use super::options::Options;
use super::refusal::Refusal;
use crate::rpc::{CriuOpts, CriuReq, CriuReqType, CriuResp, CriuRestoreResp};
use crate::sys::seqpacket;

/// For whoever may receive the master of an orphaned terminal: libcriu has one place for it.
static MASTER: Mutex<()> = Mutex::new(());

/// The thread behind a connection.
#[derive(Debug)]
pub(crate) struct Served {
    library: Library,
    thread: Option<JoinHandle<()>>,
    asked: AtomicBool,
    answered: Arc<AtomicBool>,
    /// When it began, in the kernel's ticks.
    pub(crate) since: Option<u64>,
}

impl Served {
    /// A packet is about to be sent: refuses what libcriu cannot carry.
    pub(crate) fn check(&self, packet: &[u8]) -> Result<(), Refusal> {
        self.library.check(packet)?;
        self.asked.store(true, Ordering::SeqCst);
        Ok(())
    }
}

/// The connection has been closed: a thread that has nothing to do any more is waited for. One that is in the middle of
/// an operation, which nobody can end, goes on alone.
impl Drop for Served {
    fn drop(&mut self) {
        let is_busy = self.asked.load(Ordering::SeqCst) && !self.answered.load(Ordering::SeqCst);
        if let Some(thread) = self.thread.take().filter(|_| !is_busy) {
            let _ = thread.join();
        }
    }
}

/// The time in the kernel's ticks, in which it says when processes were started.
fn ticks() -> Option<u64> {
    let uptime = procfs::Uptime::current().ok()?.uptime_duration();
    let ticks = u128::from(procfs::ticks_per_second()) * uptime.as_millis() / 1000;
    u64::try_from(ticks).ok()
}

/// Waits until the thread before this one has its criu. libcriu starts one with all descriptors that are open: of two that are
/// started at once each could keep the other's connection, and wait for its end for ever.
fn wait_for_turn() {
    static LAST: Mutex<Option<(i32, Instant)>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    while let Some((thread, since)) = *last {
        let children = std::fs::read_to_string(format!("/proc/self/task/{thread}/children"));
        // A thread that has ended is no longer there.
        if since.elapsed() > START_TIME || children.map_or(true, |children| !children.is_empty()) {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
    *last = Some((nix::unistd::gettid().as_raw(), Instant::now()));
}

/// How long libcriu may take to start its criu.
const START_TIME: Duration = Duration::from_millis(100);

impl Library {
    /// Takes one request from a socket.
    pub(crate) fn serve(&self, program: PathBuf, socket: OwnedFd) -> io::Result<Served> {
        let (library, answered) = (self.clone(), Arc::new(AtomicBool::new(false)));
        let (replied, since) = (Arc::clone(&answered), ticks());
        let serve = move || {
            let Some(request) = next(&socket) else { return };
            let reply = library.answer(&program, &request, &socket);
            let reply = reply.unwrap_or_else(|why| CriuResp {
                r#type: request.r#type,
                success: false,
                cr_errmsg: Some(why.into_bytes()),
                ..Default::default()
            });
            replied.store(true, Ordering::SeqCst);
            // Whoever asked may have gone.
            let _ = seqpacket::send(&socket, &reply.encode_to_vec());
        };
        let thread = thread::Builder::new().name("libcriu".into()).spawn(serve)?;
        let (library, asked) = (self.clone(), AtomicBool::new(false));
        Ok(Served { library, thread: Some(thread), asked, answered, since })
    }

    /// Refuses what libcriu cannot carry, before it is asked.
    fn check(&self, packet: &[u8]) -> Result<(), Refusal> {
        let Ok(request) = CriuReq::decode(packet) else { return Ok(()) };
        if request.r#type == CriuReqType::Check as i32 {
            return Err("libcriu's criu_local_check sends no options: not where to log".to_owned());
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
                Err(format!("libcriu keeps no connection open after {}", kind.as_str_name()))
            }
            Ok(kind) => Err(format!("libcriu has no function for {}", kind.as_str_name())),
            Err(_) => Err("libcriu has no function for this request".to_owned()),
        }
    }

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
        let mut alone = None;
        if let Some(opts) = &request.opts {
            options.fill(opts)?;
            options.listen()?;
            if opts.orphan_pts_master() {
                alone = Some(MASTER.lock().unwrap_or_else(PoisonError::into_inner));
            }
            let forward = opts.notify_scripts();
            let bridge = Bridge::new(self, socket.as_fd(), forward)?;
            BRIDGE.set(Some(bridge));
        }
        wait_for_turn();
        let status = match kind {
            CriuReqType::Dump => options.run(c"criu_local_dump"),
            CriuReqType::SinglePreDump => options.run(c"criu_local_pre_dump"),
            CriuReqType::Restore => {
                let sibling = request.opts.as_ref().is_some_and(CriuOpts::rst_sibling);
                let name = match sibling {
                    true => c"criu_local_restore_child",
                    false => c"criu_local_restore",
                };
                options.run(name).inspect(|pid| reply.restore = Some(CriuRestoreResp { pid: *pid }))
            }
            _ => Err("libcriu has no function for this request".to_owned()),
        };
        drop(alone);
        let refusal = BRIDGE.take().and_then(|bridge| bridge.refusal);
        let status = status?;
        reply.success = status >= 0 && refusal.is_none();
        if status < 0 {
            // It says what went wrong between it and criu in place of criu's own errno, which it keeps.
            let own = nix::errno::Errno::last_raw();
            reply.cr_errno = Some(if status == -libc::EBADE && own != 0 { own } else { -status });
        }
        reply.cr_errmsg = refusal.map(String::into_bytes);
        Ok(reply)
    }
}

/// The next request; `None` when there are no more.
fn next(socket: &OwnedFd) -> Option<CriuReq> {
    CriuReq::decode(hear(socket.as_fd())?.as_slice()).ok()
}
