//! The programs that are dumped: this same binary, started with `--payload NAME FILE ...`.
//!
//! Each counts: it writes a growing number into FILE, so that a test sees whether it goes on, and from
//! where.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

/// What tells a page of the payload `rewrite`.
pub const MARK: u64 = 0x5eed_0000_0000_0000;

/// Pages of the payload `levels`.
pub const LEVELS_PAGES: usize = 2048;

/// What a page of the payload `levels` holds from a generation on.
pub fn level_page(page: usize, generation: usize) -> Vec<u8> {
    let word = u64::try_from((page << 8) + generation).unwrap().to_le_bytes();
    word.iter().copied().cycle().take(4096).collect()
}

/// Runs a payload; it ends when it is killed.
pub fn run(words: &[String]) {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (name, file, rest) = (words[0], Path::new(words[1]), &words[2..]);
    // A test that wants the payload in another's session starts it so.
    if !matches!(name, "member" | "client") {
        let _ = nix::unistd::setsid();
    }
    match name {
        "shell" => crate::basics::shell(&words[1..]),
        "client" => crate::service::client(&words[1..]),
        "contain" => crate::container::contain(&words[1..]),
        "init" => crate::container::init(&words[1..]),
        "count" | "member" => count(file),
        // Holds a file of a mount namespace it has left.
        "outside-file" => {
            let file = open(file);
            let outside = File::open(rest[0]).unwrap();
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            let _outside = outside;
            count_into(&file)
        }
        // Holds namespaces that others share; they know them by the host's name.
        "sandbox" => {
            use nix::sched::CloneFlags;
            let shared =
                CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
            nix::sched::unshare(shared).unwrap();
            nix::unistd::sethostname(rest[0]).unwrap();
            let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
            assert!(up.unwrap().success());
            nix::sched::unshare(CloneFlags::CLONE_NEWPID).unwrap();
            // Without a first process its pid namespace takes no others.
            let first = Command::new("/proc/self/exe")
                .args(["--payload", "member"])
                .arg(file.with_extension("first"))
                .stdin(Stdio::null())
                .spawn()
                .unwrap();
            count_with(file, first)
        }
        // Sends numbers over a connection, and counts those that come back; before it has one it just counts.
        "tcp-ask" => {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            let port = listener.local_addr().unwrap().port();
            std::fs::write(rest[0], port.to_string()).unwrap();
            let file = open(file);
            let (mut peer, first) = until(&file, || listener.accept().ok());
            let peer = &mut peer.0;
            peer.set_nonblocking(false).unwrap();
            for n in first.. {
                let mut bytes = [0; 8];
                let asked = peer.write_all(&n.to_le_bytes());
                if let Err(error) = asked.and_then(|()| peer.read_exact(&mut bytes)) {
                    file.write_all_at(error.to_string().as_bytes(), 0).unwrap();
                }
                assert_eq!(u64::from_le_bytes(bytes), n);
                write(&file, n);
            }
        }
        "tcp-answer" => {
            let file = open(file);
            let (mut peer, first) = until(&file, || {
                let port = std::fs::read_to_string(rest[0]).ok()?;
                TcpStream::connect(format!("127.0.0.1:{port}")).ok()
            });
            for n in first.. {
                let mut bytes = [0; 8];
                peer.read_exact(&mut bytes).unwrap();
                peer.write_all(&bytes).unwrap();
                write(&file, n);
            }
        }
        // One of two: it says how far it is, and looks how far the other is. Where it keeps both is said
        // beside FILE.
        "pair" => {
            use std::sync::atomic::{AtomicU64, Ordering};
            let state = Box::new([AtomicU64::new(0), AtomicU64::new(0)]);
            let place = format!("{}", state.as_ptr().addr());
            std::fs::write(file.with_extension("at"), place).unwrap();
            let (file, own) = (open(file), open(Path::new(rest[0])));
            drop(open(Path::new(rest[1])));
            let other = File::open(rest[1]).unwrap();
            for n in 1u64.. {
                state[0].store(n, Ordering::Relaxed);
                write(&own, n);
                let mut text = [0; 20];
                let length = other.read_at(&mut text, 0).unwrap();
                let seen = std::str::from_utf8(&text[..length]).unwrap().parse().unwrap_or(0);
                state[1].store(seen, Ordering::Relaxed);
                write(&file, n);
                std::thread::sleep(Duration::from_micros(100));
            }
        }
        // Two names, so that a test can have one of each.
        "netns" | "count-netns" => {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            count(file)
        }
        "tcp" => {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let there = listener.accept().unwrap();
            count_with(file, (listener, here, there))
        }
        // Sends back what comes over a connection; when that ends it just counts.
        "tcp-echo" => {
            let mut peer = TcpStream::connect(format!("127.0.0.1:{}", rest[0])).unwrap();
            peer.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
            let file = open(file);
            let mut bytes = [0; 256];
            for n in 1.. {
                write(&file, n);
                match peer.read(&mut bytes) {
                    Ok(length) if length > 0 => peer.write_all(&bytes[..length]).unwrap(),
                    _ => std::thread::sleep(Duration::from_millis(1)),
                }
            }
        }
        "lock" => {
            let locked = Flock::lock(open(file), FlockArg::LockExclusive).unwrap();
            count_with(file, locked)
        }
        "ghost" => {
            let path = file.with_extension("ghost");
            let mut ghost = open(&path);
            ghost.write_all(&vec![7; rest[0].parse().unwrap()]).unwrap();
            std::fs::remove_file(path).unwrap();
            count_with(file, ghost)
        }
        // Opened by a session's leader that has none, it becomes its controlling terminal.
        "terminal" => {
            let terminal = OpenOptions::new().read(true).write(true).open(rest[0]).unwrap();
            count_with(file, terminal)
        }
        // Repeats each line that the terminal gives it.
        "terminal-echo" => {
            let mut terminal = OpenOptions::new().read(true).write(true).open(rest[0]).unwrap();
            let file = open(file);
            let mut bytes = [0; 256];
            write(&file, 2);
            for n in 3.. {
                write(&file, n);
                let length = terminal.read(&mut bytes).unwrap();
                terminal.write_all(&bytes[..length]).unwrap();
            }
        }
        "open" => count_with(file, File::open(rest[0]).unwrap()),
        // Fills pages, and later one of sixteen whenever a file names the next generation.
        "levels" => {
            let mut memory = memmap2::MmapMut::map_anon(LEVELS_PAGES * 4096).unwrap();
            // A huge page is dirty as a whole.
            memory.advise(memmap2::Advice::NoHugePage).unwrap();
            for (page, bytes) in memory.chunks_exact_mut(4096).enumerate() {
                bytes.copy_from_slice(&level_page(page, 0));
            }
            std::fs::write(file.with_extension("at"), format!("{}", memory.as_ptr().addr()))
                .unwrap();
            let (asked, file, mut now) = (file.with_extension("asked"), open(file), 0);
            for n in 1u64.. {
                let next = std::fs::read_to_string(&asked).ok().and_then(|text| text.parse().ok());
                if let Some(next) = next.filter(|next| *next > now) {
                    let own = memory.chunks_exact_mut(4096).enumerate();
                    for (page, bytes) in own.filter(|(page, _)| page % 16 == next) {
                        bytes.copy_from_slice(&level_page(page, next));
                    }
                    now = next;
                    std::fs::write(asked.with_extension("done"), now.to_string()).unwrap();
                }
                write(&file, n);
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        // Labels itself, and tries to read a file whenever it counts: what it reads it shows in another.
        "labelled" => {
            let leak = open(&file.with_extension("leak"));
            std::fs::write("/proc/thread-self/attr/current", rest[0]).unwrap();
            if let Some(next) = rest.get(2) {
                let (attribute, label) = next.split_once('=').unwrap();
                std::fs::write(format!("/proc/thread-self/attr/{attribute}"), label).unwrap();
            }
            // Threads have labels of their own.
            let own = rest.get(3).map(|&label| label.to_owned());
            let (is_labelled, labelled) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                if let Some(label) = own {
                    std::fs::write("/proc/thread-self/attr/current", label).unwrap();
                }
                is_labelled.send(()).unwrap();
                loop {
                    std::thread::sleep(Duration::from_secs(1))
                }
            });
            labelled.recv().unwrap();
            let file = open(file);
            for n in 1u64.. {
                if let Ok(secret) = std::fs::read(rest[1]) {
                    leak.write_all_at(&secret, 0).unwrap();
                }
                write(&file, n);
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        "user" => {
            let file = open(file);
            nix::unistd::setgid(65534.into()).unwrap();
            nix::unistd::setuid(65534.into()).unwrap();
            count_into(&file)
        }
        "memory" => {
            let megabytes: usize = rest[0].parse().unwrap();
            let mut memory = vec![1u8; megabytes << 20];
            let file = open(file);
            for n in 1u64.. {
                write(&file, n);
                let at = usize::try_from(n).unwrap() * 4096 % memory.len();
                memory[at] = memory[at].wrapping_add(1);
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        // Writes one number into the beginning and the end of every page, then the next.
        "rewrite" => {
            let megabytes: usize = rest[0].parse().unwrap();
            let mut memory = vec![0u8; megabytes << 20];
            let start = memory.as_ptr().align_offset(4096);
            let file = open(file);
            for n in 1u64.. {
                write(&file, n);
                for page in memory[start..].chunks_exact_mut(4096) {
                    page[..8].copy_from_slice(&(n ^ MARK).to_le_bytes());
                    page[4088..].copy_from_slice(&n.to_le_bytes());
                }
            }
        }
        "tree" => {
            let children: usize = rest[0].parse().unwrap();
            let started: Vec<_> = (0..children)
                .map(|n| {
                    let file = file.with_extension(n.to_string());
                    Command::new("/proc/self/exe")
                        .args(["--payload", "member"])
                        .arg(file)
                        .stdin(Stdio::null())
                        .spawn()
                        .unwrap()
                })
                .collect();
            count_with(file, started)
        }
        // Threads with filters: for each word of them one with as many of its own, the first thread's also
        // being those of the others; or with one that the first installs for all, and which logs.
        "filters" => {
            let file = open(file);
            let forbid = |number, errno, flags| {
                crate::filter::install(&crate::filter::forbidding(number, errno), flags).unwrap();
            };
            let number = |word: &str| word.parse::<u32>().unwrap_or(0);
            (0..number(rest[0])).for_each(|n| forbid(5000 + n, 1, 0));
            for (thread, count) in (1..).zip(rest[1..].iter().map(|word| number(word))) {
                let (started, wait) = std::sync::mpsc::channel();
                std::thread::spawn(move || {
                    (0..count).for_each(|n| forbid(6000 + n, thread, 0));
                    started.send(()).unwrap();
                    loop {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                });
                wait.recv().unwrap();
            }
            if rest[0] == "all" {
                let (tsync, log) = (libc::SECCOMP_FILTER_FLAG_TSYNC, libc::SECCOMP_FILTER_FLAG_LOG);
                forbid(5000, 1, tsync | log);
            }
            count_into(&file)
        }
        // Becomes another program, with a filter.
        "filtered" => {
            use std::os::unix::process::CommandExt;
            write(&open(file), 2);
            crate::filter::install(&crate::filter::forbidding(5000, 1), 0).unwrap();
            panic!("{}", Command::new(rest[0]).args(&rest[1..]).exec());
        }
        // Copies bytes from its input to its output, as long as there are any.
        "echo" => {
            let file = open(file);
            let (mut input, mut output) = (std::io::stdin(), std::io::stdout());
            write(&file, 2);
            for n in 3u64.. {
                let mut byte = [0];
                input.read_exact(&mut byte).unwrap();
                output.write_all(&byte).unwrap();
                output.flush().unwrap();
                write(&file, n);
            }
        }
        other => panic!("no payload {other}"),
    }
}

fn count(file: &Path) -> ! {
    count_with(file, ())
}

/// Counts with something held open.
fn count_with<T>(file: &Path, held: T) -> ! {
    let _held = held;
    count_into(&open(file))
}

fn count_into(file: &File) -> ! {
    for n in 1u64.. {
        write(file, n);
        std::thread::sleep(Duration::from_millis(2));
    }
    unreachable!()
}

/// Counts until there is something; returns it, and the next number.
fn until<T>(file: &File, mut look: impl FnMut() -> Option<T>) -> (T, u64) {
    for n in 1u64.. {
        write(file, n);
        if let Some(found) = look() {
            return (found, n + 1);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    unreachable!()
}

fn open(path: &Path) -> File {
    OpenOptions::new().write(true).create(true).truncate(false).open(path).unwrap()
}

fn write(file: &File, n: u64) {
    file.write_all_at(format!("{n:020}").as_bytes(), 0).unwrap();
}
