//! The processes in containers: this same program, started with `--payload NAME FILE ...`.
//!
//! Each writes a growing number into FILE, or the fault that it found in itself.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use crate::filter;
use crate::payload::{Counter, Pattern};
use crate::talk::talk;

/// Runs a payload; it ends when it is killed.
pub(super) fn run(words: &[String]) {
    let (name, file, rest) = (words[0].as_str(), Path::new(&words[1]), &words[2..]);
    if name.starts_with("generations") {
        let words: Vec<&str> = words[1..].iter().map(String::as_str).collect();
        return crate::generations::run(&words);
    }
    let count = Count { counter: Counter::into(file), memory: Pattern::new(WORDS) };
    match name {
        "count" => count.forever(),
        // Threads, each with one more filter of its own than the thread before it. Counting begins
        // once all filters are there.
        "threads" => {
            let (ready, all) = std::sync::mpsc::channel::<()>();
            for n in 1..=rest[0].parse::<u32>().unwrap() {
                let ready = ready.clone();
                std::thread::spawn(move || {
                    for extra in 0..n {
                        filter::install(&filter::forbidding(UNUSED + extra, n), 0).unwrap();
                    }
                    drop(ready);
                    loop {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                });
            }
            drop(ready);
            assert!(all.recv().is_err(), "nobody says anything");
            count.forever();
        }
        // Its first thread is always inside vfork, as a shell's often is.
        "vfork" => {
            std::thread::spawn(move || count.forever());
            loop {
                crate::raw::vfork_for(Duration::from_millis(700));
            }
        }
        // Repeats each line that its terminal gives it.
        "echo" => {
            std::thread::spawn(|| {
                let mut bytes = [0; 256];
                while let Ok(length @ 1..) = std::io::stdin().read(&mut bytes) {
                    let mut output = std::io::stdout();
                    output.write_all(&bytes[..length]).and_then(|()| output.flush()).unwrap();
                }
            });
            count.forever();
        }
        // Counts over a connection with itself.
        "tcp" => {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            std::thread::spawn(move || {
                let mut bytes = [0; 8];
                loop {
                    server.read_exact(&mut bytes).unwrap();
                    server.write_all(&bytes).unwrap();
                }
            });
            count.forever_with(|n| {
                let mut bytes = [0; 8];
                client.write_all(&n.to_le_bytes()).unwrap();
                client.read_exact(&mut bytes).unwrap();
                assert_eq!(n, u64::from_le_bytes(bytes));
            });
        }
        // Says in `FILE.seen` which of the files in `rest` it can read. The word `socket` stands
        // for a socket of its own. The file is written when it is missing or no longer right: a
        // dump that finds it open would save its size.
        "looks" => {
            let seen = file.with_extension("seen");
            let connected = || {
                let socket = UdpSocket::bind("127.0.0.1:0")?;
                socket.connect(socket.local_addr()?)?;
                Ok(socket)
            };
            let socket =
                connected().unwrap_or_else(|e: std::io::Error| count.counter.fail(&e.to_string()));
            let socket = rest.iter().any(|word| word == "socket").then_some(socket);
            let works = || {
                let socket = socket.as_ref();
                let sent = |socket: &&UdpSocket| socket.send(b"x").is_ok();
                socket.filter(sent).is_some_and(|socket| socket.recv(&mut [0]).is_ok())
            };
            let mut said = None;
            count.forever_with(|_| {
                let can = |word: &&String| match word.as_str() {
                    "socket" => works(),
                    path => fs::read(path).is_ok(),
                };
                let words: Vec<&str> = rest.iter().filter(can).map(String::as_str).collect();
                let words = Some(words.join(" "));
                if words != said || !seen.exists() {
                    fs::write(&seen, words.as_deref().unwrap_or_default()).unwrap();
                    said = words;
                }
            });
        }
        // `serve PLACE` or `ask PLACE`.
        "talk" => talk(&count.counter, &rest[0], &rest[1]),
        other => panic!("no payload {other}"),
    }
}

/// A counter, and memory that must stay as it was filled.
struct Count {
    counter: Counter,
    memory: Pattern,
}

impl Count {
    fn forever(&self) -> ! {
        self.forever_with(|_| ())
    }

    fn forever_with(&self, mut step: impl FnMut(u64)) -> ! {
        for n in 1u64.. {
            step(n);
            if let Some(wrong) = self.memory.wrong(n, 512) {
                self.counter.fail(&wrong);
            }
            self.counter.at(n);
            std::thread::sleep(Duration::from_millis(2));
        }
        unreachable!()
    }
}

/// Words of memory: 1 MiB.
const WORDS: u64 = 128 << 10;

/// A number above all system calls.
const UNUSED: u32 = 5000;
