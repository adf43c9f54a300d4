//! A signal that interrupts system calls.

#![allow(unsafe_code)]

use std::time::Duration;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

extern "C" fn nothing(_: nix::libc::c_int) {}

/// From now on a signal comes every so often, to any thread, and ends the system call it is in with `EINTR`.
pub fn interrupt_every(time: Duration) {
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does nothing, so it is safe at any moment.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
    let own = nix::unistd::getpid();
    std::thread::spawn(move || {
        // Others of the process are there to take it.
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGUSR1);
        mask.thread_block().unwrap();
        loop {
            std::thread::sleep(time);
            let _ = nix::sys::signal::kill(own, Signal::SIGUSR1);
        }
    });
}
