//! Tasks that are forked: what they do, and what they notice.
//!
//! A task shares a page with its test: word [`BEATS`] counts its rounds, [`TWIN`] is set by a
//! process that runs the task's code without being the task, [`WRONG`] by a task that finds
//! something changed, and [`STOP`] ends the task.

use std::fs::{self, File};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::raw;

pub const BEATS: usize = 0;
pub const TWIN: usize = 1;
pub const WRONG: usize = 2;
pub const STOP: usize = 3;
/// Set by a task that is about to do what its name says.
pub const READY: usize = 4;
/// Calls that have returned EINTR.
pub const INTERRUPTED: usize = 5;
/// SIGCHLDs.
pub const CHILDREN: usize = 6;
/// SIGUSR1s.
pub const SIGNALS: usize = 7;
/// Result of the task's last call.
pub const RESULT: usize = 8;
/// Time of the task's last call, in microseconds.
pub const TIME: usize = 9;
/// A futex.
pub const FUTEX: usize = 10;
/// Byte that says whether calls go to a handler of the task. It stays 0: they do not.
pub const SELECTOR: usize = 13;
/// Address of private memory, and the number that the task writes there.
pub const MEMORY: usize = 11;
pub const NUMBER: usize = 12;

/// Signals that victims block, besides those that a call blocks.
pub const MASK: u64 = 1 << (libc::SIGTERM - 1) | 1 << (40 - 1);

type Page = &'static [AtomicU64; 512];

/// The task: `FILE KIND...`, with the file of the shared page.
pub fn run(words: &[String]) {
    let page = raw::shared(&File::options().read(true).write(true).open(&words[0]).unwrap());
    // A test that fails leaves no task behind.
    assert_eq!(raw::call(libc::SYS_prctl, [1, 9, 0, 0, 0, 0]), 0);
    raw::count_signals(libc::SIGCHLD, &page[CHILDREN]);
    raw::count_signals(libc::SIGUSR1, &page[SIGNALS]);
    raw::block(MASK);
    raw::set_alternate_stack();
    let task = Task { page, pid: std::process::id() };
    task.prepare(words.get(2).map_or("", String::as_str));
    match words[1].as_str() {
        "spin" => task.spin(),
        "threads" => {
            for _ in 0..3 {
                std::thread::spawn(move || Task { ..task }.spin());
            }
            task.spin();
        }
        "loop" => task.loop_calls(),
        kind @ ("own-stack" | "guarded-stack" | "wiped-stack") => {
            STACKED.store(std::ptr::from_ref(page).expose_provenance() as u64, Ordering::SeqCst);
            let stack = raw::stack(65_536, kind != "own-stack");
            if kind == "wiped-stack" {
                let advice = usize::try_from(libc::MADV_WIPEONFORK).unwrap();
                let arguments = [stack - 65_536, 65_536, advice, 0, 0, 0];
                assert_eq!(raw::call(libc::SYS_madvise, arguments), 0);
            }
            raw::on_stack(stack, spin_on_stack);
        }
        "sequence" => task.in_sequence(),
        kind => task.once(kind),
    }
}

static STACKED: AtomicU64 = AtomicU64::new(0);

extern "C" fn spin_on_stack() {
    let place = usize::try_from(STACKED.load(Ordering::SeqCst)).unwrap();
    Task { page: raw::page_at(place), pid: std::process::id() }.spin();
}

#[derive(Clone, Copy)]
struct Task {
    page: Page,
    pid: u32,
}

impl Task {
    fn prepare(self, how: &str) {
        let memory = raw::private(1 << 20, 0);
        self.page[MEMORY].store(memory as u64, Ordering::SeqCst);
        match how {
            "" => {}
            // More processes than this one are too many for the user.
            "limited" => {
                raw::limit(libc::RLIMIT_NPROC, 1);
                assert_eq!(raw::call(libc::SYS_setuid, [65_533, 0, 0, 0, 0, 0]), 0);
                raw::dumpable();
            }
            // Namespaces for children that do not exist yet.
            "unshared" => {
                let flags = usize::try_from(libc::CLONE_NEWPID).unwrap();
                assert_eq!(raw::call(libc::SYS_unshare, [flags, 0, 0, 0, 0, 0]), 0);
            }
            // Calls that kill.
            "sandbox" => filter(&[56, 61, 436, 271], 0x8000_0000),
            "no-wait4" => filter(&[61], 0x8000_0000),
            "no-ppoll" => filter(&[271], 0x8000_0000),
            "no-ppoll-error" => filter(&[271], 0x0005_0001),
            // Calls that a handler of the task would make.
            "dispatched" => {
                let selector = self.page[SELECTOR].as_ptr().expose_provenance();
                assert_eq!(raw::call(libc::SYS_prctl, [59, 1, 0, 0, selector, 0]), 0);
            }
            "mild" => filter(&[100], 0x8000_0000),
            other => panic!("{other}"),
        }
    }

    fn is_asked_to_stop(self) -> bool {
        self.page[STOP].load(Ordering::SeqCst) != 0
    }

    /// Notes a round, and tells a twin.
    fn beat(self) {
        if raw::call(libc::SYS_getpid, [0; 6]) != i64::from(self.pid) {
            self.page[TWIN].store(1, Ordering::SeqCst);
        }
        if !raw::has_alternate_stack() {
            self.wrong("the alternate signal stack");
        }
        self.page[BEATS].fetch_add(1, Ordering::SeqCst);
    }

    fn wrong(self, what: &str) {
        self.page[WRONG].fetch_add(1, Ordering::SeqCst);
        eprintln!("{what}");
    }

    /// Has values in all registers nearly all the time.
    fn spin(self) {
        while !self.is_asked_to_stop() {
            if let Err(what) = raw::registers_hold(200_000) {
                self.wrong(&what);
            }
            self.beat();
            let number = self.page[BEATS].load(Ordering::SeqCst);
            self.page[NUMBER].store(number, Ordering::SeqCst);
            self.page[READY].store(1, Ordering::SeqCst);
        }
    }

    /// Makes short calls of many kinds, one after the other.
    fn loop_calls(self) {
        let calls: [&str; 7] =
            ["nanosleep", "poll", "futex", "epoll", "read", "select", "sleep-absolute"];
        let mut round = 0;
        while !self.is_asked_to_stop() {
            let kind = calls[round % calls.len()];
            let begin = Instant::now();
            // The kernel counts the time of sockets in ticks.
            let time = Duration::from_millis(if kind == "read" { 12 } else { 4 });
            let result = self.call(kind, time);
            let expected = match kind {
                "futex" => -i64::from(libc::ETIMEDOUT),
                "read" => -i64::from(libc::EAGAIN),
                _ => 0,
            };
            if result == -i64::from(libc::EINTR) {
                self.page[INTERRUPTED].fetch_add(1, Ordering::SeqCst);
            } else if result != expected {
                self.wrong(&format!("{kind} returned {result}"));
            } else if begin.elapsed() < Duration::from_millis(3) {
                self.wrong(&format!("{kind} took {:?}", begin.elapsed()));
            }
            self.beat();
            self.page[READY].store(1, Ordering::SeqCst);
            round += 1;
        }
    }

    /// Makes one call that takes a second unless it is woken, and says how it ended.
    fn once(self, kind: &str) {
        self.page[READY].store(1, Ordering::SeqCst);
        let begin = Instant::now();
        let result = self.call(kind, Duration::from_secs(1));
        let time = u64::try_from(begin.elapsed().as_micros()).unwrap();
        self.page[TIME].store(time, Ordering::SeqCst);
        self.page[RESULT].store(u64::from_ne_bytes(result.to_ne_bytes()), Ordering::SeqCst);
        self.beat();
        while !self.is_asked_to_stop() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Makes a call.
    fn call(self, kind: &str, time: Duration) -> i64 {
        let milliseconds = usize::try_from(time.as_millis()).unwrap();
        let now = raw::now() + time;
        let [seconds, nanoseconds] = [time.as_secs(), u64::from(time.subsec_nanos())];
        let relative = [seconds, nanoseconds];
        let absolute = [now.as_secs(), u64::from(now.subsec_nanos())];
        let relative_at = relative.as_ptr().expose_provenance();
        let absolute_at = absolute.as_ptr().expose_provenance();
        let mut bytes = [0_u8; 8];
        let buffer = bytes.as_mut_ptr().expose_provenance();
        let quiet = raw::quiet();
        let everything = [0_u64];
        let mask = everything.as_ptr().expose_provenance();
        let micro = [seconds, nanoseconds / 1000];
        let micro_at = micro.as_ptr().expose_provenance();
        match kind {
            "nanosleep" => raw::call(libc::SYS_nanosleep, [relative_at, 0, 0, 0, 0, 0]),
            "sleep-absolute" => raw::call(libc::SYS_clock_nanosleep, [1, 1, absolute_at, 0, 0, 0]),
            "poll" => raw::call(libc::SYS_poll, [0, 0, milliseconds, 0, 0, 0]),
            "select" => raw::call(libc::SYS_select, [0, 0, 0, 0, micro_at, 0]),
            "epoll" => {
                raw::call(libc::SYS_epoll_wait, [quiet.epoll, buffer, 1, milliseconds, 0, 0])
            }
            "futex" => {
                let word = self.page[FUTEX].as_ptr().expose_provenance();
                raw::call(libc::SYS_futex, [word, 0, 0, relative_at, 0, 0])
            }
            // A socket with a time limit.
            "read" => {
                raw::receive_limit(quiet.socket, time);
                let result = raw::call(libc::SYS_read, [quiet.socket, buffer, 8, 0, 0, 0]);
                raw::receive_limit(quiet.socket, Duration::ZERO);
                result
            }
            "pipe" => raw::call(libc::SYS_read, [0, buffer, 8, 0, 0, 0]),
            "pause" => raw::call(libc::SYS_pause, [0; 6]),
            "sigsuspend" => raw::call(libc::SYS_rt_sigsuspend, [mask, 8, 0, 0, 0, 0]),
            "ppoll" => raw::call(libc::SYS_ppoll, [0, 0, relative_at, mask, 8, 0]),
            other => panic!("{other}"),
        }
    }

    /// Says that it is inside a restartable sequence that never ends.
    fn in_sequence(self) {
        self.page[READY].store(1, Ordering::SeqCst);
        raw::endless_sequence();
    }
}

/// Installs a filter: an action for some calls.
fn filter(numbers: &[u32], action: u32) {
    let mut code = vec![(0x20, 0, 0, 0)];
    for number in numbers {
        code.push((0x15, 0, 1, *number));
        code.push((0x06, 0, 0, action));
    }
    code.push((0x06, 0, 0, 0x7fff_0000));
    criu_lab::filter::install(&code, 0).unwrap();
}

/// Reads a field of `/proc/PID/status`.
pub fn status(pid: i32, field: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}
