//! The bare cost of missing pages: userfaultfd(2) within one process, without any CRIU.

#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Copies so many bytes into missing pages, in pieces. Returns the time that all copies took.
pub fn copies(bytes: usize, piece: usize) -> Duration {
    let (to, from) = (Map::new(bytes), Map::new(piece));
    for at in (0..piece).step_by(PAGE) {
        from.byte(at).store(1, Ordering::Relaxed);
    }
    let uffd = create();
    register(&uffd, &to);
    let begun = Instant::now();
    for at in (0..bytes).step_by(piece) {
        copy(&uffd, &to, at, &from, piece);
    }
    begun.elapsed()
}

/// Touches missing pages at random distance; another thread brings each one. Returns the time of
/// each touch, sorted. With processors given, the touching thread runs on the first and the other
/// on the second.
pub fn faults(number: usize, processors: Option<(usize, usize)>) -> Vec<Duration> {
    // Every third page.
    let memory = Map::new(number * 3 * PAGE);
    let from = Map::new(PAGE);
    from.byte(0).store(1, Ordering::Relaxed);
    let uffd = create();
    register(&uffd, &memory);
    let mut times = Vec::with_capacity(number);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(processors.map(|(_, second)| second));
            for _ in 0..number {
                let mut message = [0u64; 4];
                let size = size_of_val(&message);
                // SAFETY: the kernel writes one message, of numbers, which has this size.
                let read =
                    unsafe { libc::read(uffd.as_raw_fd(), message.as_mut_ptr().cast(), size) };
                assert!(read == 32, "reading a fault: {}", Errno::last());
                let address = usize::try_from(message[2]).unwrap() & !(PAGE - 1);
                copy(&uffd, &memory, address - memory.start.addr().get(), &from, PAGE);
            }
        });
        let before = nix::sched::sched_getaffinity(Pid::from_raw(0)).unwrap();
        pin(processors.map(|(first, _)| first));
        for n in 0..number {
            let at = n * 7919 % number * 3 * PAGE;
            let begun = Instant::now();
            let byte = memory.byte(at).load(Ordering::Relaxed);
            times.push(begun.elapsed());
            assert!(byte == 1, "a wrong page");
        }
        sched_setaffinity(Pid::from_raw(0), &before).unwrap();
    });
    times.sort_unstable();
    times
}

/// Binds this thread to a processor.
pub fn pin(processor: Option<usize>) {
    if let Some(number) = processor {
        let mut set = CpuSet::new();
        set.set(number).unwrap();
        sched_setaffinity(Pid::from_raw(0), &set).unwrap();
    }
}

/// Private memory of zeros. It goes with the value.
struct Map {
    start: NonNull<libc::c_void>,
    bytes: usize,
}

// SAFETY: the memory is reached through atomic bytes only.
unsafe impl Sync for Map {}

impl Map {
    fn new(bytes: usize) -> Self {
        let (wish, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: the kernel chooses a free address, so no memory of this process is replaced.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, wish, flags, -1, 0) };
        assert!(start != libc::MAP_FAILED, "mmap of {bytes} bytes: {}", Errno::last());
        Self { start: NonNull::new(start).unwrap(), bytes }
    }

    fn byte(&self, at: usize) -> &AtomicU8 {
        assert!(at < self.bytes, "there is no byte {at}");
        // SAFETY: the byte lies in the mapping, which lives as long as this value.
        unsafe { &*self.start.as_ptr().wrapping_byte_add(at).cast::<AtomicU8>() }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own.
        unsafe { libc::munmap(self.start.as_ptr(), self.bytes) };
    }
}

fn create() -> OwnedFd {
    // SAFETY: userfaultfd takes an integer and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) };
    let fd = Errno::result(fd).expect("userfaultfd, which needs root");
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows its number.
    let uffd = unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap()) };
    let mut wish = [0xaau64, 0, 0];
    call(&uffd, 0xc018_aa3f, &mut wish);
    uffd
}

fn register(uffd: &OwnedFd, map: &Map) {
    let mut wish = [map.start.addr().get() as u64, map.bytes as u64, 1, 0];
    call(uffd, 0xc020_aa00, &mut wish);
}

fn copy(uffd: &OwnedFd, to: &Map, at: usize, from: &Map, bytes: usize) {
    assert!(at + bytes <= to.bytes && bytes <= from.bytes, "no {bytes} bytes from {at} on");
    let (to, from) = (to.start.addr().get() + at, from.start.addr().get());
    let mut wish = [to as u64, from as u64, bytes as u64, 0, 0];
    call(uffd, 0xc028_aa03, &mut wish);
}

fn call<const WORDS: usize>(uffd: &OwnedFd, request: libc::c_ulong, wish: &mut [u64; WORDS]) {
    // SAFETY: the structure of this request has so many words, and outlives the call. Copies read
    // and write within maps, which are used as atomic bytes only.
    let result = unsafe { libc::ioctl(uffd.as_raw_fd(), request, wish.as_mut_ptr()) };
    assert!(result == 0, "a call of userfaultfd: {}", Errno::last());
}

/// Bytes of a page.
const PAGE: usize = 4096;
