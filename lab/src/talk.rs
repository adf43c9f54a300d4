//! Two programs that talk over TCP, and check each byte.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::counter::Counter;

/// Talks as the side `serve` or `ask` of a place: a port of the loopback, or `ADDRESS:PORT`.
///
/// Each side sends numbered messages, and ends at the first message that it has not waited for.
/// Each counts the messages that it has got, and every twentieth in its output.
pub(crate) fn talk(count: &Counter, side: &str, place: &str) -> ! {
    let address = if place.contains(':') { place.into() } else { format!("127.0.0.1:{place}") };
    let stream = match side {
        "serve" => TcpListener::bind(&address).unwrap().accept().unwrap().0,
        _ => loop {
            if let Ok(stream) = TcpStream::connect(&address) {
                break stream;
            }
            thread::sleep(Duration::from_millis(5));
        },
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
        count.at(n);
        if n % 20 == 0 {
            println!("{n}");
        }
    }
    unreachable!()
}
