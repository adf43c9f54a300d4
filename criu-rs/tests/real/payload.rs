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

fn open(path: &Path) -> File {
    OpenOptions::new().write(true).create(true).truncate(false).open(path).unwrap()
}

fn write(file: &File, n: u64) {
    file.write_all_at(format!("{n:020}").as_bytes(), 0).unwrap();
}
