//! A task, in its own process.

use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use criu_lab::lazy::{Region, userfaultfd};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

/// A task, in its own process.
pub struct Task {
    pub region: Region,
    pub parent: UnixStream,
}

impl Task {
    pub fn begin(name: &str, pages: usize) -> Self {
        let parent = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
        let region = Region::new(pages);
        let uffd = userfaultfd();
        let start = (region.start as u64).to_ne_bytes();
        let fds = [uffd.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&fds)];
        let (to, flags) = (parent.as_raw_fd(), MsgFlags::empty());
        if name != "late" {
            region.register(&uffd);
        }
        sendmsg::<()>(to, &[IoSlice::new(b"u")], &rights, flags, None).unwrap();
        let task = Self { region, parent };
        (&task.parent).write_all(&start).unwrap();
        task.hear();
        if name == "late" {
            std::thread::sleep(Duration::from_millis(30));
            region.register(&uffd);
        }
        if ["early", "late"].contains(&name) {
            task.hear();
        }
        task
    }

    /// Waits for a byte from the test.
    pub fn hear(&self) {
        (&self.parent).read_exact(&mut [0]).unwrap();
    }

    /// Checks that a page has its content of the dump.
    pub fn check(&self, page: usize) {
        for n in WORDS {
            let (found, wanted) = (self.region.word(page, n), word(page as u64, n as u64));
            assert_eq!(found, wanted, "page {page}, word {n}");
        }
    }

    /// Checks that a page reads as zeros.
    pub fn check_zero(&self, page: usize) {
        (0..512).for_each(|n| assert_eq!(self.region.word(page, n), 0, "page {page}, word {n}"));
    }
}

/// The words of a page that are not zero at the moment of the dump.
pub const WORDS: [usize; 6] = [0, 1, 100, 255, 400, 511];

/// Returns a word of a page at the moment of the dump, one of [`WORDS`].
pub fn word(page: u64, word: u64) -> u64 {
    (page << 9 | word).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A generator of pseudo-random numbers: xorshift.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(0x9e37_79b9_7f4a_7c15 ^ (seed << 20))
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}
