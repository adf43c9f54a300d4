//! The process that is dumped: this same binary, started with `--payload NAME FILE ...`.
//!
//! It counts: it writes a growing number into FILE, so that a test sees whether it goes on. The signals
//! it gets it writes into FILE.signals; SIGTERM ends it with status 7.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{SigSet, Signal};

/// Runs a payload; it ends when it is killed.
pub fn run(words: &[String]) {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (name, file, rest) = (words[0], Path::new(words[1]), &words[2..]);
    if name != "job" {
        let _ = nix::unistd::setsid();
    }
    let signals = note_signals(file);
    match name {
        // A job stays in the session of the terminal it was started in.
        "count" | "job" => count(file, ()),
        "lock" => {
            let locked = Flock::lock(open(file), FlockArg::LockExclusive).unwrap();
            count(file, locked)
        }
        "ghost" => {
            let path = file.with_extension("ghost");
            let mut ghost = open(&path);
            ghost.write_all(&vec![7; rest[0].parse().unwrap()]).unwrap();
            std::fs::remove_file(path).unwrap();
            count(file, ghost)
        }
        "tcp" => {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let there = listener.accept().unwrap();
            count(file, (listener, here, there))
        }
        "memory" => {
            let megabytes: usize = rest[0].parse().unwrap();
            let memory = vec![1u8; megabytes << 20];
            count(file, memory)
        }
        // Copies bytes from its input to its output.
        "echo" => {
            let file = open(file);
            write(&file, 2);
            for n in 3u64.. {
                let mut byte = [0];
                std::io::stdin().read_exact(&mut byte).unwrap();
                std::io::stdout().write_all(&byte).unwrap();
                std::io::stdout().flush().unwrap();
                write(&file, n);
            }
        }
        other => panic!("no payload {other}"),
    }
    drop(signals);
}

/// Counts with something held open.
fn count<T>(file: &Path, held: T) {
    let _held = held;
    let file = open(file);
    for n in 1u64.. {
        write(&file, n);
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn note_signals(file: &Path) -> std::thread::JoinHandle<()> {
    let noted: SigSet =
        [Signal::SIGINT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2].into_iter().collect();
    noted.thread_block().unwrap();
    let path = file.with_extension("signals");
    std::thread::spawn(move || {
        loop {
            let signal = noted.wait().unwrap();
            let mut file = OpenOptions::new().append(true).create(true).open(&path).unwrap();
            writeln!(file, "{signal}").unwrap();
            if signal == Signal::SIGTERM {
                std::process::exit(7);
            }
        }
    })
}

fn open(path: &Path) -> File {
    OpenOptions::new().write(true).create(true).truncate(false).open(path).unwrap()
}

fn write(file: &File, n: u64) {
    file.write_all_at(format!("{n:020}").as_bytes(), 0).unwrap();
}
