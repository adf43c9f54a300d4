//! The payloads of this suite, beside those of `criu_lab::payload`.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use criu_lab::filter;
use criu_lab::payload::{Counter, Pattern, Payload, command, count_with, member};
use nix::sched::{CloneFlags, unshare};

/// The payloads, by name.
pub const OWN: &[Payload] = &[
    ("aio", aio),
    ("client", crate::service::client),
    ("contain", crate::container::contain),
    ("copy", criu_lab::copy::run),
    ("apart", apart),
    ("filtered", filtered),
    ("forbidding", forbidding),
    ("filters", filters),
    ("init", crate::container::init),
    ("io-uring", io_uring),
    ("labelled", labelled),
    ("levels", levels),
    ("nest", nest),
    ("oracle", criu_lab::oracle::run),
    ("pair", pair),
    ("patterned", patterned),
    ("rewrite", rewrite),
    ("sandbox", sandbox),
    ("shell", crate::basics::shell),
    ("tcp-answer", tcp_answer),
    ("tcp-ask", tcp_ask),
    ("tcp-echo", tcp_echo),
];

/// The number by which both ends of a page of the payload `rewrite` are known. The payload's stack
/// has the number too, and now and then at one end of a page.
pub const MARK: u64 = 0x5eed_0000_0000_0000;

/// Pages of the payload `levels`.
pub const LEVELS_PAGES: usize = 2048;

/// The bytes of a page of the payload `levels` from a generation on.
pub fn level_page(page: usize, generation: usize) -> Vec<u8> {
    let word = u64::try_from((page << 8) + generation).unwrap().to_le_bytes();
    word.iter().copied().cycle().take(4096).collect()
}

/// `FILE MEGABYTES`: has a context for asynchronous I/O, and so much memory.
fn aio(words: &[&str]) {
    criu_lab::raw::aio_context().unwrap();
    criu_lab::payload::memory(words)
}

/// `FILE MEGABYTES`: has an io_uring, and so much memory.
fn io_uring(words: &[&str]) {
    let _ring = criu_lab::raw::io_uring().unwrap();
    criu_lab::payload::memory(words)
}

/// `FILE FLAGS`: has namespaces of its own, and counts.
fn apart(words: &[&str]) {
    let flags = CloneFlags::from_bits_retain(words[1].parse().unwrap());
    nix::sched::unshare(flags).unwrap();
    criu_lab::payload::count_with(words[0], ())
}

/// `FILE MEGABYTES CHILDREN`: has so much memory, every word of which it knows, and so many
/// children that have as much and count into FILE with their numbers as extensions. Says what is
/// wrong.
fn patterned(words: &[&str]) {
    let (megabytes, children): (u64, u32) = (words[1].parse().unwrap(), words[2].parse().unwrap());
    let memory = Pattern::new(megabytes << 17);
    let start = |n: u32| {
        let file = Path::new(words[0]).with_extension(n.to_string());
        let mut child = command(&["patterned", words[1], "0"], &file);
        child.stdin(Stdio::null()).spawn().unwrap()
    };
    let _children: Vec<_> = (0..children).map(start).collect();
    let counter = Counter::into(words[0]);
    for n in 1u64.. {
        counter.at(n);
        if let Some(wrong) = memory.wrong(n, 4096) {
            counter.fail(&wrong);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// `FILE FLAGS`: has a child with namespaces of its own, which counts into FILE.apart.
fn nest(words: &[&str]) {
    let file = Path::new(words[0]).with_extension("apart");
    let mut child = Command::new("/proc/self/exe");
    child.args(["--payload", "apart"]).arg(file).arg(words[1]).stdin(Stdio::null());
    criu_lab::payload::count_with(words[0], child.spawn().unwrap())
}

/// `FILE PROGRAM WORDS`: becomes another program, with a filter.
fn filtered(words: &[&str]) {
    Counter::into(words[0]).at(2);
    filter::install(&filter::forbidding(5000, 1), 0).unwrap();
    panic!("{}", Command::new(words[1]).args(&words[2..]).exec());
}

/// `FILE NUMBER PROGRAM WORDS`: becomes another program that may not make the system call of this
/// number.
fn forbidding(words: &[&str]) {
    filter::install(&filter::forbidding(words[1].parse().unwrap(), 1), 0).unwrap();
    panic!("{}", Command::new(words[2]).args(&words[3..]).exec());
}

/// `FILE NUMBER NUMBERS`: has a thread for each number, with so many filters of its own; the first
/// thread's are those of the others too. `FILE all`: the first thread installs a filter for all,
/// which logs.
fn filters(words: &[&str]) {
    let (count, words) = (Counter::into(words[0]), &words[1..]);
    let forbid = |number, errno, flags| {
        filter::install(&filter::forbidding(number, errno), flags).unwrap();
    };
    let number = |word: &str| word.parse::<u32>().unwrap_or(0);
    (0..number(words[0])).for_each(|n| forbid(5000 + n, 1, 0));
    for (thread, count) in (1..).zip(words[1..].iter().map(|word| number(word))) {
        let (started, wait) = mpsc::channel();
        std::thread::spawn(move || {
            (0..count).for_each(|n| forbid(6000 + n, thread, 0));
            started.send(()).unwrap();
            loop {
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        wait.recv().unwrap();
    }
    if words[0] == "all" {
        let (tsync, log) = (libc::SECCOMP_FILTER_FLAG_TSYNC, libc::SECCOMP_FILTER_FLAG_LOG);
        forbid(5000, 1, tsync | log);
    }
    count.forever()
}

/// `FILE LABEL SECRET [ATTRIBUTE=LABEL [LABEL]]`: labels itself, and tries to read a file whenever
/// it counts. It writes what it reads into `FILE.leak`.
fn labelled(words: &[&str]) {
    let (path, words) = (Path::new(words[0]), &words[1..]);
    let leak = open(&path.with_extension("leak"));
    fs::write("/proc/thread-self/attr/current", words[0]).unwrap();
    if let Some(next) = words.get(2) {
        let (attribute, label) = next.split_once('=').unwrap();
        fs::write(format!("/proc/thread-self/attr/{attribute}"), label).unwrap();
    }
    // Threads have labels of their own.
    let own = words.get(3).map(|&label| label.to_owned());
    let (is_labelled, labelled) = mpsc::channel();
    std::thread::spawn(move || {
        if let Some(label) = own {
            fs::write("/proc/thread-self/attr/current", label).unwrap();
        }
        is_labelled.send(()).unwrap();
        loop {
            std::thread::sleep(Duration::from_secs(1))
        }
    });
    labelled.recv().unwrap();
    let count = Counter::into(path);
    for n in 1u64.. {
        if let Ok(secret) = fs::read(words[1]) {
            leak.write_all_at(&secret, 0).unwrap();
        }
        count.at(n);
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Fills pages, and later one of sixteen whenever a file names the next generation.
fn levels(words: &[&str]) {
    let path = Path::new(words[0]);
    let mut memory = memmap2::MmapMut::map_anon(LEVELS_PAGES * 4096).unwrap();
    // A huge page is dirty as a whole.
    memory.advise(memmap2::Advice::NoHugePage).unwrap();
    for (page, bytes) in memory.chunks_exact_mut(4096).enumerate() {
        bytes.copy_from_slice(&level_page(page, 0));
    }
    fs::write(path.with_extension("at"), format!("{}", memory.as_ptr().addr())).unwrap();
    let (asked, count, mut now) = (path.with_extension("asked"), Counter::into(path), 0);
    for n in 1u64.. {
        let next = fs::read_to_string(&asked).ok().and_then(|text| text.parse().ok());
        if let Some(next) = next.filter(|next| *next > now) {
            let own = memory.chunks_exact_mut(4096).enumerate();
            for (page, bytes) in own.filter(|(page, _)| page % 16 == next) {
                bytes.copy_from_slice(&level_page(page, next));
            }
            now = next;
            fs::write(asked.with_extension("done"), now.to_string()).unwrap();
        }
        count.at(n);
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// `FILE OWN OTHER`: one process of two. It says in OWN how far it is, and looks in OTHER how far
/// the other is. `FILE.at` holds the address at which it keeps both.
fn pair(words: &[&str]) {
    let path = Path::new(words[0]);
    let state = Box::new([AtomicU64::new(0), AtomicU64::new(0)]);
    fs::write(path.with_extension("at"), format!("{}", state.as_ptr().addr())).unwrap();
    let (count, own) = (Counter::into(path), Counter::into(words[1]));
    drop(open(Path::new(words[2])));
    let other = File::open(words[2]).unwrap();
    for n in 1u64.. {
        state[0].store(n, Ordering::Relaxed);
        own.at(n);
        let mut text = [0; 20];
        let length = other.read_at(&mut text, 0).unwrap();
        let seen = std::str::from_utf8(&text[..length]).unwrap().parse().unwrap_or(0);
        state[1].store(seen, Ordering::Relaxed);
        count.at(n);
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// `FILE MEGABYTES`: writes one number into the beginning and the end of every page, then the next.
fn rewrite(words: &[&str]) {
    let megabytes: usize = words[1].parse().unwrap();
    let mut memory = vec![0u8; megabytes << 20];
    let start = memory.as_ptr().align_offset(4096);
    let count = Counter::into(words[0]);
    for n in 1u64.. {
        count.at(n);
        for page in memory[start..].chunks_exact_mut(4096) {
            page[..8].copy_from_slice(&(n ^ MARK).to_le_bytes());
            page[4088..].copy_from_slice(&(n ^ MARK).to_le_bytes());
        }
    }
}

/// `FILE HOST`: holds namespaces that others share; they know them by the host's name.
fn sandbox(words: &[&str]) {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS)
        .unwrap();
    nix::unistd::sethostname(words[1]).unwrap();
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    assert!(up.unwrap().success());
    unshare(CloneFlags::CLONE_NEWPID).unwrap();
    // Without a first process its pid namespace takes no others.
    count_with(words[0], member(&Path::new(words[0]).with_extension("first")))
}

/// `FILE PORT-FILE`: connects to the payload `tcp-ask`, and answers it.
fn tcp_answer(words: &[&str]) {
    let count = Counter::into(words[0]);
    let (mut peer, first) = count.until(|| {
        let port = fs::read_to_string(words[1]).ok()?;
        TcpStream::connect(format!("127.0.0.1:{port}")).ok()
    });
    for n in first.. {
        let mut bytes = [0; 8];
        peer.read_exact(&mut bytes).unwrap();
        peer.write_all(&bytes).unwrap();
        count.at(n);
    }
}

/// `FILE PORT-FILE`: sends numbers over a connection, and counts those that come back. Before it
/// has a connection it just counts.
fn tcp_ask(words: &[&str]) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    fs::write(words[1], listener.local_addr().unwrap().port().to_string()).unwrap();
    let count = Counter::into(words[0]);
    let (mut peer, first) = count.until(|| listener.accept().ok());
    let peer = &mut peer.0;
    peer.set_nonblocking(false).unwrap();
    for n in first.. {
        let mut bytes = [0; 8];
        let asked = peer.write_all(&n.to_le_bytes());
        if let Err(error) = asked.and_then(|()| peer.read_exact(&mut bytes)) {
            count.says(&error.to_string());
        }
        assert_eq!(u64::from_le_bytes(bytes), n);
        count.at(n);
    }
}

/// `FILE PORT`: sends back what comes over a connection; after the end of the connection it just
/// counts.
fn tcp_echo(words: &[&str]) {
    let mut peer = TcpStream::connect(format!("127.0.0.1:{}", words[1])).unwrap();
    peer.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
    let count = Counter::into(words[0]);
    let mut bytes = [0; 256];
    for n in 1.. {
        count.at(n);
        match peer.read(&mut bytes) {
            Ok(length) if length > 0 => peer.write_all(&bytes[..length]).unwrap(),
            _ => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn open(path: &Path) -> File {
    OpenOptions::new().write(true).create(true).truncate(false).open(path).unwrap()
}
