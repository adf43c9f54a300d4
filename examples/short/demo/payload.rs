//! The processes of the demo: this same program, started with `--payload ROLE`.
//!
//! ```text
//! tree ─┬─ producer ══ pipe ══╗       four threads of the tree's root count for themselves,
//!       ├─ consumer ══════════╝       its first calls `echo` over a socket pair;
//!       └─ echo ═════ socket pair ══ tree      all write down in shared memory how far they are
//! ```
//!
//! Every number is kept in the memory of its process as well: a process that had forgotten its
//! number would begin anew, and the others would notice.

use std::ffi::{CStr, CString, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, sleep};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::prctl::set_name;
use nix::unistd::{pipe2, setsid};

use crate::counters::{Counter, Counters, SIZE};

/// The word that makes this program a payload.
pub(crate) const WORD: &str = "--payload";

/// The role that starts all others.
pub(crate) const ROOT: &str = "tree";

/// Plays a role, until it is ended.
pub(crate) fn run(args: &[OsString]) -> io::Result<()> {
    let role = args.first().and_then(|role| role.to_str()).unwrap_or_default();
    set_name(&CString::new(role)?)?;
    match (role, args.get(1)) {
        (ROOT, _) => root(),
        (_, Some(counters)) => {
            let file = OpenOptions::new().read(true).write(true).open(counters)?;
            let counters = Counters::map(file)?;
            match role {
                "producer" => producer(&counters),
                "consumer" => consumer(&counters),
                _ => echo(),
            }
        }
        _ => Err(io::Error::other("no such role")),
    }
}

fn root() -> io::Result<()> {
    setsid()?;
    let file = File::from(memfd_create(NAME, MFdFlags::MFD_CLOEXEC)?);
    file.set_len(u64::try_from(SIZE).map_err(io::Error::other)?)?;
    let place = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    let counters = Arc::new(Counters::map(file)?);

    let (from_producer, to_consumer) = pipe2(OFlag::O_CLOEXEC)?;
    let (mut ours, theirs) = UnixStream::pair()?;
    let _producer = start("producer", &place, Stdio::null(), to_consumer.into())?;
    let _consumer = start("consumer", &place, from_producer.into(), Stdio::null())?;
    let theirs = OwnedFd::from(theirs);
    let _echo = start("echo", &place, theirs.try_clone()?.into(), theirs.into())?;

    for counter in [Counter::Thread1, Counter::Thread2, Counter::Thread3] {
        let counters = Arc::clone(&counters);
        let name = format!("counter-{}", counter as usize + 1);
        thread::Builder::new().name(name).spawn(move || count(&counters, counter))?;
    }
    let shared = Arc::clone(&counters);
    thread::Builder::new().name("memory".into()).spawn(move || check_memory(&shared))?;

    for number in 1u64.. {
        ours.write_all(&number.to_ne_bytes())?;
        let mut answer = [0; 8];
        ours.read_exact(&mut answer)?;
        if answer != number.to_ne_bytes() {
            counters.of(Counter::Faults)?.fetch_add(1, Relaxed);
        }
        counters.of(Counter::Socket)?.store(number, Relaxed);
        sleep(PAUSE);
    }
    Ok(())
}

fn start(role: &str, counters: &str, input: Stdio, output: Stdio) -> io::Result<Child> {
    Command::new("/proc/self/exe").args([WORD, role, counters]).stdin(input).stdout(output).spawn()
}

fn count(counters: &Counters, counter: Counter) -> io::Result<()> {
    for number in 1u64.. {
        counters.of(counter)?.store(number, Relaxed);
        sleep(PAUSE);
    }
    Ok(())
}

/// Checks again and again that a block of memory is unchanged.
fn check_memory(counters: &Counters) -> io::Result<()> {
    let block: Vec<u64> = (0..MEMORY / 8).map(|n: u64| n.wrapping_mul(PATTERN)).collect();
    for number in 1u64.. {
        let is_same = |(n, word): (u64, &u64)| *word == n.wrapping_mul(PATTERN);
        if !(0..).zip(&block).all(is_same) {
            counters.of(Counter::Faults)?.fetch_add(1, Relaxed);
        }
        counters.of(Counter::Memory)?.store(number, Relaxed);
        sleep(PAUSE * 10);
    }
    Ok(())
}

/// Sends numbers into the pipe, some ahead of those taken out.
fn producer(counters: &Counters) -> io::Result<()> {
    let mut pipe = io::stdout();
    for number in 1u64.. {
        pipe.write_all(&number.to_ne_bytes())?;
        pipe.flush()?;
        counters.of(Counter::Shared)?.fetch_add(1, Relaxed);
        if number > AHEAD {
            sleep(PAUSE);
        }
    }
    Ok(())
}

fn consumer(counters: &Counters) -> io::Result<()> {
    let mut pipe = io::stdin().lock();
    for number in 1u64.. {
        let mut bytes = [0; 8];
        pipe.read_exact(&mut bytes)?;
        if u64::from_ne_bytes(bytes) != number {
            counters.of(Counter::Faults)?.fetch_add(1, Relaxed);
        }
        counters.of(Counter::Pipe)?.store(number, Relaxed);
        counters.of(Counter::Shared)?.fetch_add(1, Relaxed);
        sleep(PAUSE);
    }
    Ok(())
}

fn echo() -> io::Result<()> {
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let mut bytes = [0; 8];
    loop {
        input.read_exact(&mut bytes)?;
        output.write_all(&bytes)?;
        output.flush()?;
    }
}

/// The shared memory's name.
pub(crate) const NAME: &CStr = c"counters";

/// The pause between two numbers.
const PAUSE: Duration = Duration::from_millis(1);

/// Numbers that wait in the pipe.
const AHEAD: u64 = 200;

/// Bytes that are checked.
const MEMORY: u64 = 8 << 20;

/// A factor that spreads over all bits, so that no page is like another.
const PATTERN: u64 = 0x9e37_79b9_7f4a_7c15;
