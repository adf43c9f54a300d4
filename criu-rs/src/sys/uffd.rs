//! Missing pages of a process: userfaultfd(2).

#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};

/// The descriptor of a process's missing pages.
#[derive(Debug)]
pub(crate) struct Uffd(OwnedFd);

/// A message of the kernel.
#[derive(Debug)]
pub(crate) enum Event {
    /// A thread waits for the page at an address.
    Fault { address: u64 },
    /// The process has forked. The descriptor is that of the child's missing pages.
    Fork(Uffd),
    /// Memory has moved: `mremap(2)`.
    Remap { from: u64, to: u64, bytes: u64 },
    /// Memory reads as zeros from now on: `MADV_DONTNEED`. The process waits until the message is
    /// read, and discards the memory then.
    Remove(Range<u64>),
    /// Memory is unmapped.
    Unmap(Range<u64>),
}

/// The result of a call that fills missing pages: the number of bytes that it has filled, and the
/// error that ended it early.
///
/// `EEXIST`: the next page is there already. `EAGAIN`: a message must be read first. `ENOENT`: the
/// address is not, or no longer, of the registered memory. `ESRCH`: the process is gone.
/// `EFAULT`: the bytes cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Filled {
    pub(crate) bytes: u64,
    pub(crate) error: Option<Errno>,
}

impl Uffd {
    /// Copies bytes into missing pages, and wakes the threads that wait for these.
    pub(crate) fn copy(&self, to: u64, bytes: &[u8]) -> Filled {
        // A slice is no larger than the address space.
        self.fill(to, bytes.as_ptr().addr() as u64, bytes.len() as u64)
    }

    /// Returns the error of a copy of a page that nobody can read, which fills nothing. `EFAULT`
    /// tells that the page is missing, because the kernel looks for memory before it reads.
    pub(crate) fn probe(&self, to: u64, page: u64) -> Option<Errno> {
        self.fill(to, NOWHERE, page).error
    }

    fn fill(&self, to: u64, from: u64, bytes: u64) -> Filled {
        let mut wish = Copy { to, from, bytes, mode: 0, filled: 0 };
        // SAFETY: the kernel reads and writes `wish`, which outlives the call. It reads the bytes
        // as copy_from_user does, so bytes that are not there are an error; slices are borrowed.
        let result = unsafe { ioctl_copy(self.0.as_raw_fd(), &raw mut wish) };
        Filled::new(result, wish.filled)
    }

    /// Lets missing pages read as zeros, and wakes the threads that wait for these.
    pub(crate) fn zero(&self, range: Range<u64>) -> Filled {
        let mut wish = Wish { range: range.into(), mode: 0, filled: 0 };
        // SAFETY: the kernel reads and writes `wish`, which outlives the call.
        let result = unsafe { ioctl_zero(self.0.as_raw_fd(), &raw mut wish) };
        Filled::new(result, wish.filled)
    }

    /// Makes each access to missing pages end in `SIGBUS`, and wakes the threads that wait for
    /// these. Linux 6.6: `EINVAL` before.
    pub(crate) fn poison(&self, range: Range<u64>) -> Filled {
        let mut wish = Wish { range: range.into(), mode: 0, filled: 0 };
        // SAFETY: the kernel reads and writes `wish`, which outlives the call.
        let result = unsafe { ioctl_poison(self.0.as_raw_fd(), &raw mut wish) };
        Filled::new(result, wish.filled)
    }

    /// Wakes the threads that wait for pages. They look for their pages again.
    pub(crate) fn wake(&self, range: Range<u64>) -> io::Result<()> {
        let mut range = Pages::from(range);
        // SAFETY: the kernel reads `range`, which outlives the call.
        unsafe { ioctl_wake(self.0.as_raw_fd(), &raw mut range) }?;
        Ok(())
    }

    /// Reads the messages that wait, at most [`MESSAGES`]. Returns an empty list if none waits.
    ///
    /// A process that has sent another message than [`Event::Fault`] goes on when it is read. The
    /// descriptor has to be non-blocking.
    pub(crate) fn read(&self, events: &mut Vec<Event>) -> io::Result<()> {
        let mut messages = [Message::default(); MESSAGES];
        let size = size_of_val(&messages);
        // SAFETY: the kernel writes at most `size` bytes, and a message holds numbers only.
        let read = unsafe { libc::read(self.0.as_raw_fd(), messages.as_mut_ptr().cast(), size) };
        let read = match Errno::result(read) {
            Ok(read) => usize::try_from(read).unwrap_or(0),
            Err(Errno::EAGAIN | Errno::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        let messages = messages.iter().take(read / size_of::<Message>());
        events.extend(messages.filter_map(Message::event));
        Ok(())
    }
}

impl TryFrom<OwnedFd> for Uffd {
    type Error = io::Error;

    /// Takes a descriptor from outside. Fails if it is no userfaultfd: the messages of another file
    /// must not be believed, because some of them hold descriptors of this process.
    fn try_from(fd: OwnedFd) -> io::Result<Self> {
        if super::fd::link(&fd)? != "anon_inode:[userfaultfd]" {
            return Err(io::Error::other("the descriptor is no userfaultfd"));
        }
        make_non_blocking(&fd)?;
        Ok(Self(fd))
    }
}

impl AsFd for Uffd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Filled {
    fn new(result: nix::Result<i32>, filled: i64) -> Self {
        // A partial result is EAGAIN with a positive count; an error is also in the count.
        Self { bytes: u64::try_from(filled).unwrap_or(0), error: result.err() }
    }
}

impl Message {
    /// Takes a message that the kernel has just written.
    fn event(&self) -> Option<Event> {
        let [a, b, c] = self.words;
        Some(match self.event {
            FAULT => Event::Fault { address: b },
            FORK => {
                let fd = RawFd::try_from(a & u64::from(u32::MAX)).ok()?;
                // SAFETY: the kernel has just made this descriptor for the reader of the message.
                let fd = unsafe { OwnedFd::from_raw_fd(fd) };
                // The kernel gives it the flags with which the parent's was made, not those that
                // were set later.
                let _ = make_non_blocking(&fd);
                let _ = fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
                Event::Fork(Uffd(fd))
            }
            REMAP => Event::Remap { from: a, to: b, bytes: c },
            REMOVE => Event::Remove(a..b),
            UNMAP => Event::Unmap(a..b),
            _ => return None,
        })
    }
}

fn make_non_blocking(fd: &OwnedFd) -> nix::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

impl From<Range<u64>> for Pages {
    fn from(range: Range<u64>) -> Self {
        Self { start: range.start, bytes: range.end.saturating_sub(range.start) }
    }
}

/// `struct uffd_msg`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Message {
    event: u8,
    reserved: [u8; 7],
    words: [u64; 3],
}

/// `struct uffdio_range`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Pages {
    start: u64,
    bytes: u64,
}

/// `struct uffdio_zeropage` and `struct uffdio_poison`.
#[repr(C)]
struct Wish {
    range: Pages,
    mode: u64,
    filled: i64,
}

/// `struct uffdio_copy`.
#[repr(C)]
struct Copy {
    to: u64,
    from: u64,
    bytes: u64,
    mode: u64,
    filled: i64,
}

nix::ioctl_read!(ioctl_wake, 0xaa, 0x02, Pages);
nix::ioctl_readwrite!(ioctl_copy, 0xaa, 0x03, Copy);
nix::ioctl_readwrite!(ioctl_zero, 0xaa, 0x04, Wish);
nix::ioctl_readwrite!(ioctl_poison, 0xaa, 0x08, Wish);

/// The most messages that are read at once.
pub(crate) const MESSAGES: usize = 16;

// The events of messages.
const FAULT: u8 = 0x12;
const FORK: u8 = 0x13;
const REMAP: u8 = 0x14;
const REMOVE: u8 = 0x15;
const UNMAP: u8 = 0x16;

/// An address that programs do not use.
const NOWHERE: u64 = 1 << 20;
