//! The way from libcriu's callback to the thread that asked for the operation.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::transmute;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use prost::Message;

use super::library::Library;
use super::refusal::Refusal;
use crate::bounds::{self, PACKET};
use crate::rpc::{CriuNotify, CriuReq, CriuReqType, CriuResp};
use crate::sys::seqpacket::{self, Received};

/// The operation of a thread, for libcriu's callback, which does not get an argument of ours.
pub(super) struct Bridge {
    socket: OwnedFd,
    /// `true` if actions have hooks; otherwise an action only checks whether the operation may go
    /// on.
    forward: bool,
    notify_pid: unsafe extern "C" fn(*mut c_void) -> c_int,
    orphan_pts_master: unsafe extern "C" fn() -> c_int,
    /// The part of an answer that libcriu cannot pass on.
    pub(super) refusal: Option<Refusal>,
}

thread_local! {
    pub(super) static BRIDGE: RefCell<Option<Bridge>> = const { RefCell::new(None) };
}

impl Bridge {
    pub(super) fn new(
        library: &Library,
        socket: BorrowedFd<'_>,
        forward: bool,
    ) -> Result<Self, Refusal> {
        let pid = library.symbol(c"criu_notify_pid")?;
        let master = library.symbol(c"criu_get_orphan_pts_master_fd")?;
        Ok(Self {
            socket: socket.try_clone_to_owned().map_err(|error| error.to_string())?,
            forward,
            // SAFETY: this is how criu.h declares it; its argument is a pointer.
            notify_pid: unsafe {
                transmute::<*const c_void, unsafe extern "C" fn(*mut c_void) -> c_int>(pid)
            },
            // SAFETY: this is how criu.h declares it.
            orphan_pts_master: unsafe {
                transmute::<*const c_void, unsafe extern "C" fn() -> c_int>(master)
            },
            refusal: None,
        })
    }

    /// Asks whether CRIU may go on.
    fn ask(&mut self, action: &CStr, argument: *mut c_void) -> bool {
        if !self.forward {
            // The other side closes the connection of an operation that is to stop.
            return !matches!(
                seqpacket::receive(&self.socket, bounds::length(&PACKET)),
                Ok(Received::Closed)
            );
        }
        // SAFETY: the argument is the one that libcriu has just called back with.
        let pid = unsafe { (self.notify_pid)(argument) };
        let script = action.to_bytes();
        let notify = CriuNotify { script: Some(script.into()), pid: Some(pid).filter(|p| *p > 0) };
        let notice = CriuResp {
            r#type: CriuReqType::Notify.into(),
            success: true,
            notify: Some(notify),
            ..Default::default()
        };
        let mut master = None;
        if script == b"orphan-pts-master" {
            // SAFETY: the call has no conditions; it says which descriptor came last.
            let number = unsafe { (self.orphan_pts_master)() };
            if number >= 0 {
                // SAFETY: libcriu has received the descriptor for its caller, and never uses or
                // closes it. No other operation that asks for such a descriptor runs at this time.
                master = Some(unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(number) });
            }
        }
        let fds: Vec<BorrowedFd<'_>> = master.iter().map(AsFd::as_fd).collect();
        if seqpacket::send_with(&self.socket, &notice.encode_to_vec(), &fds).is_err() {
            return false;
        }
        let answer = hear(self.socket.as_fd());
        let Some(answer) = answer.and_then(|bytes| CriuReq::decode(bytes.as_slice()).ok()) else {
            return false;
        };
        if answer.opts.as_ref().is_some_and(|opts| !opts.external.is_empty()) {
            let what = "libcriu cannot carry what the query-ext-files hook names";
            self.refusal = Some(what.to_owned());
            return false;
        }
        answer.notify_success()
    }
}

/// The callback that libcriu calls at each action. A panic does not get into libcriu's frames.
pub(super) extern "C" fn notified(action: *mut c_char, argument: *mut c_void) -> c_int {
    let go_on = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: libcriu calls back with a string that it keeps until this function returns.
        let action = unsafe { CStr::from_ptr(action) };
        BRIDGE.with_borrow_mut(|bridge| {
            bridge.as_mut().is_some_and(|bridge| bridge.ask(action, argument))
        })
    }));
    if go_on.unwrap_or(false) { 0 } else { -1 }
}

/// Waits for a packet; `None` if none will come.
pub(super) fn hear(socket: BorrowedFd<'_>) -> Option<Vec<u8>> {
    loop {
        match seqpacket::receive(socket, bounds::length(&PACKET)) {
            Ok(Received::Packet(packet)) => return Some(packet.bytes),
            Ok(Received::Nothing) => {
                let _ = poll(&mut [PollFd::new(socket, PollFlags::POLLIN)], PollTimeout::NONE);
            }
            _ => return None,
        }
    }
}
