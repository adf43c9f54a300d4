//! The first answer of a real service: redis with as much data as the measurements have memory.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use criu_lab::soon;

use super::Hall;
use super::figures::{Row, Unit, print};
use super::run::Side;
use crate::daemon::Settings;
use crate::handler;
use crate::scene::{Target, finish};
use crate::source;

/// The times until the first answer of each side.
pub fn table(hall: &Hall) {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut target = warmed(hall, port);
    let images = hall.scene.folder("redis");
    let mut dump = hall.scene.criu(&["dump", "-t", &target.pid()]);
    finish(dump.arg("-D").arg(&images));
    target.is_gone_alone();
    let library = |settings| Side::Lazy(handler::Kind::Library(settings));
    let plain = Settings::default();
    let with_record = library(Settings { with_record: true, ..plain });
    let sides = [Side::Full, Side::Lazy(handler::Kind::Criu), library(plain), with_record];
    let mut rows: Vec<(String, Row)> =
        sides.iter().map(|side| (side.name().into(), Row::default())).collect();
    let record = library(Settings { record: true, ..plain });
    hall.restored(&mut target, &images, record, source::Kind::Images, || ask(port, 1));
    for round in 0..hall.rounds {
        for turn in 0..sides.len() {
            let n = (round + turn) % sides.len();
            // Another key than that of the record.
            let key = 1000 + round;
            let mut times = None;
            let all = hall.restored(&mut target, &images, sides[n], source::Kind::Images, || {
                ask(port, key);
                times = Some(());
            });
            rows[n].1.push(&[all.restored, all.answered, all.filled, all.cpu]);
        }
    }
    print(
        &[
            ("restored ms", Unit::Milli),
            ("first answer ms", Unit::Milli),
            ("all pages ms", Unit::Milli),
            ("daemon CPU ms", Unit::Milli),
        ],
        &rows,
    );
    std::fs::remove_dir_all(images).unwrap();
}

/// Starts redis, gives it data and asks for some of it.
fn warmed(hall: &Hall, port: u16) -> Target {
    let mut redis = Command::new("setsid");
    redis.args(["redis-server", "--port", &port.to_string(), "--save", ""]);
    redis.args(["--enable-debug-command", "yes", "--dir"]).arg(&hall.scene.dir);
    redis.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = redis.spawn().unwrap();
    let target = Target::started(child, hall.scene.dir.join("redis-count"));
    assert!(soon(|| TcpStream::connect(("127.0.0.1", port)).is_ok()), "redis does not listen");
    // A value of 1000 bytes takes some 1100.
    let number = hall.mebibytes * 950;
    let said = talk(port, &format!("DEBUG POPULATE {number} key 1000"));
    assert_eq!(said, "+OK", "{number} values");
    (0..1000).for_each(|key| ask(port, key * 7));
    target
}

/// Asks for a value.
fn ask(port: u16, key: usize) {
    let said = talk(port, &format!("GET key:{key}"));
    assert_eq!(said, "$1000", "the value of key {key}");
}

/// Sends a line, and returns the first line of the answer.
fn talk(port: u16, line: &str) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    socket.write_all(format!("{line}\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    BufReader::new(socket).read_line(&mut answer).unwrap();
    answer.trim_end().to_owned()
}
