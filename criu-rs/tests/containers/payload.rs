//! The processes in containers: this same binary, started with `--payload NAME FILE ...`.
//!
//! Each writes a growing number into FILE, or the fault that it found in itself.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::filter;

/// Runs a payload; it ends when it is killed.
pub fn run(words: &[String]) {
    let (name, file, rest) = (words[0].as_str(), Path::new(&words[1]), &words[2..]);
    let count = Count::into(file);
    match name {
        "count" => count.forever(),
        // Threads, each with one more filter of its own than the one before it.
        "threads" => {
            let count = Arc::new(count);
            for n in 1..=rest[0].parse::<u32>().unwrap() {
                std::thread::spawn(move || {
                    for extra in 0..n {
                        filter::install(&filter::forbidding(UNUSED + extra, n), 0).unwrap();
                    }
                    loop {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                });
            }
            count.forever();
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
        other => panic!("no payload {other}"),
    }
}

/// A counter, and memory that must stay as it was filled.
struct Count {
    file: File,
    memory: Vec<u64>,
}

impl Count {
    fn into(file: &Path) -> Self {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(file).unwrap();
        Self { file, memory: (0..LENGTH).map(pattern).collect() }
    }

    fn forever(&self) -> ! {
        self.forever_with(|_| ())
    }

    fn forever_with(&self, mut step: impl FnMut(u64)) -> ! {
        for n in 1u64.. {
            step(n);
            let at = usize::try_from(n).unwrap() * 512 % self.memory.len();
            for (place, value) in self.memory.iter().enumerate().skip(at).take(512) {
                let expected = pattern(place as u64);
                if *value != expected {
                    let said = format!("word {place} of memory is {value:#x}, not {expected:#x}");
                    self.file.write_all_at(said.as_bytes(), 0).unwrap();
                    std::process::exit(1);
                }
            }
            self.file.write_all_at(format!("{n:020}").as_bytes(), 0).unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
        unreachable!()
    }
}

fn pattern(place: u64) -> u64 {
    place.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Words of memory: 1 MiB.
const LENGTH: u64 = 128 << 10;

/// A number above all system calls.
const UNUSED: u32 = 5000;
