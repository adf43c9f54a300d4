//! The tortured processes: one checks its memory and asks a child over a pipe, which answers over
//! another pipe or over TCP. Both count.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use criu_lab::payload::{self, Counter, Pattern};

/// Runs it, counting into `DIR/root` and `DIR/child`.
pub fn run(words: &[String]) -> ! {
    let dir = PathBuf::from(&words[1]);
    match words[0].as_str() {
        "root" => root(&dir, words[2] == "tcp"),
        _ => child(&dir, words[2].parse().unwrap()),
    }
}

// The child ends with its parent, whose pipe it reads.
#[allow(clippy::zombie_processes)]
fn root(dir: &Path, tcp: bool) -> ! {
    nix::unistd::setsid().unwrap();
    let listener = tcp.then(|| TcpListener::bind("127.0.0.1:0").unwrap());
    let port = listener.as_ref().map_or(0, |listener| listener.local_addr().unwrap().port());
    let mut child = payload::command(&["child", &port.to_string()], dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut to = child.stdin.take().unwrap();
    let mut from: Box<dyn Read> = match listener {
        Some(listener) => Box::new(listener.accept().unwrap().0),
        None => Box::new(child.stdout.take().unwrap()),
    };
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let count = Counter::into(dir.join("root"));
    let memory = Pattern::new(WORDS);
    for n in 1u64.. {
        if let Some(wrong) = memory.wrong(n, 4096) {
            count.fail(&wrong);
        }
        let mut answer = [0; 8];
        let told = to.write_all(&n.to_le_bytes()).and_then(|()| from.read_exact(&mut answer));
        if told.is_err() || answer != n.to_le_bytes() {
            count.fail(&format!("the child answers {answer:?} to {n}: {told:?}"));
        }
        count.at(n);
        std::thread::sleep(Duration::from_millis(1));
    }
    unreachable!()
}

fn child(dir: &Path, port: u16) -> ! {
    let count = Counter::into(dir.join("child"));
    let mut out: Box<dyn Write> = match port {
        0 => Box::new(std::io::stdout()),
        port => Box::new(TcpStream::connect(("127.0.0.1", port)).unwrap()),
    };
    let mut bytes = [0; 8];
    for n in 1u64.. {
        if std::io::stdin().read_exact(&mut bytes).is_err() {
            std::process::exit(0);
        }
        out.write_all(&bytes).and_then(|()| out.flush()).unwrap();
        count.at(n);
    }
    unreachable!()
}

/// 4 MiB.
const WORDS: u64 = 512 << 10;
