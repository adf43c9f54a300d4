//! Two programs that talk over TCP on the loopback of their pod, and check each byte.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

/// Runs `serve PORT` or `ask PORT`. Each sends numbered messages, and each ends at the first
/// message that it has not waited for. Each counts the messages that it has got in its log and in a
/// file in its root.
pub fn run(words: &[&str]) -> ExitCode {
    let port: u16 = words[1].parse().unwrap();
    let stream = if words[0] == "serve" {
        TcpListener::bind(("127.0.0.1", port)).unwrap().accept().unwrap().0
    } else {
        loop {
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
                break stream;
            }
            thread::sleep(Duration::from_millis(5));
        }
    };
    let mut send = stream.try_clone().unwrap();
    thread::spawn(move || {
        for n in 1u64.. {
            send.write_all(&n.to_be_bytes()).unwrap();
            thread::sleep(Duration::from_micros(500));
        }
    });
    let mut receive = stream;
    for n in 1u64.. {
        let mut bytes = [0; 8];
        receive.read_exact(&mut bytes).unwrap();
        assert_eq!(u64::from_be_bytes(bytes), n);
        fs::write("/count", n.to_string()).unwrap();
        if n % 20 == 0 {
            println!("{n}");
        }
    }
    unreachable!()
}
