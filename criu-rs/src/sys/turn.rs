//! A lock whose holder inherits the priority of the thread that waits for it.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::errno::Errno;

/// A lock of short sections: a futex with priority inheritance.
///
/// The holder may be a thread that runs seldom because the processors are busy. A waiting thread of
/// real-time priority lends its priority to the holder, which then ends its section at once.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Turn(AtomicU32);

/// The right of the thread that holds a [`Turn`].
#[derive(Debug)]
pub(crate) struct Held<'t>(&'t AtomicU32);

impl Turn {
    /// Waits for the lock. A thread must not take a lock that this thread holds.
    pub(crate) fn take(&self) -> Held<'_> {
        let own = own_id();
        // A section is short. A thread that sleeps leaves its processor idle, and the kernel then
        // moves a woken task there, away from the thread that serves its faults.
        for _ in 0..SPINS {
            if self.0.load(Ordering::Relaxed) == 0 {
                break;
            }
            std::hint::spin_loop();
        }
        while self.0.compare_exchange(0, own, Ordering::Acquire, Ordering::Relaxed).is_err() {
            match call(&self.0, libc::FUTEX_LOCK_PI) {
                Ok(()) => break,
                // A signal, or a holder that is about to end.
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                // The kernel has no such locks, or a filter forbids them. A thread of real-time
                // priority must let the holder run.
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
        Held(&self.0)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let own = own_id();
        if self.0.compare_exchange(own, 0, Ordering::Release, Ordering::Relaxed).is_err() {
            // The kernel hands the lock to the waiting thread with the highest priority.
            let _ = call(self.0, libc::FUTEX_UNLOCK_PI);
        }
    }
}

fn call(word: &AtomicU32, operation: libc::c_int) -> nix::Result<()> {
    let operation = operation | libc::FUTEX_PRIVATE_FLAG;
    let none = std::ptr::null::<libc::timespec>();
    // SAFETY: the word outlives the call, the kernel changes it as one atomic number, and a null
    // time waits for ever.
    let result =
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, 0, none, none, 0) };
    Errno::result(result).map(drop)
}

/// Returns the thread's id, which a futex with priority inheritance holds.
fn own_id() -> u32 {
    thread_local! {
        static OWN: Cell<u32> = const { Cell::new(0) };
    }
    let known = OWN.get();
    if known != 0 {
        return known;
    }
    let own = nix::unistd::gettid().as_raw().unsigned_abs();
    OWN.set(own);
    own
}

/// The time between two tries without the kernel's help.
const PAUSE: Duration = Duration::from_micros(20);

/// The looks at a lock before a thread sleeps: some 50 microseconds.
const SPINS: u32 = 4000;

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn one_thread_at_a_time_is_in_the_section() {
        let (turn, inside, count) = (Turn::default(), AtomicU32::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for round in 0..20_000 {
                        let held = turn.take();
                        assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0);
                        if round % 64 == 0 {
                            std::thread::yield_now();
                        }
                        // Two steps, which lose counts if two threads are here.
                        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                        inside.fetch_sub(1, Ordering::Relaxed);
                        drop(held);
                    }
                });
            }
        });
        assert_eq!(count.load(Ordering::Relaxed), 80_000);
    }
}
