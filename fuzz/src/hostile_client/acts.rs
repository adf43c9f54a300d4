//! The acts of hostile clients.
//!
//! ```text
//! who u8  what u8  how much u16
//! ```

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use criu_images::memory::PageObject;
use criu_rs::pages::proto::{Header, LAZY, PARENT, PRESENT, object_id};
use criu_rs::pages::{Command, Layout};

/// A hostile client with a connection, as long as the server keeps it.
#[derive(Debug)]
pub(super) struct Hostile {
    socket: Option<UnixStream>,
    layout: Layout,
    /// The object that was begun last.
    object: u32,
    /// The address that no run has passed.
    address: u64,
    /// Tells that single bytes of a run are to follow now and then.
    trickles: bool,
}

impl Hostile {
    pub(super) fn connect(path: &Path, layout: Layout) -> Self {
        let socket = UnixStream::connect(path).ok();
        if let Some(socket) = &socket {
            // A server that does not read must not hold the fuzzer up.
            _ = socket.set_write_timeout(Some(Duration::from_millis(50)));
        }
        Self { socket, layout, object: 1, address: 0x1000, trickles: false }
    }

    pub(super) fn act(&mut self, [_, what, low, high]: [u8; 4]) {
        let much = u16::from_le_bytes([low, high]);
        match what % 12 {
            0 => {}
            1 => self.open(much),
            2 => self.run(PRESENT, u64::from(much % 8) + 1, u64::from(much % 9) * 4096),
            3 => self.headers(LAZY, u32::from(much) * 4),
            4 => {
                // Below the limit of bytes, in a run that the server moves without looking at it.
                self.run(PRESENT, 192, 64 << 10);
                self.trickles = true;
            }
            5 => {
                let byte = |n: u16| (u32::from(n).wrapping_mul(2_654_435_761) >> 13) as u8;
                let garbage: Vec<u8> =
                    (0..much % 4096).map(|n| byte(n.wrapping_add(much))).collect();
                self.send(&garbage);
            }
            6 => self.command(Command::Get, 0, u64::from(much), 0x1000, u64::from(low)),
            7 => self.headers(PARENT, u32::from(much) + 1),
            8 => self.command(Command::Close, 0, 0, 0, 0),
            9 => self.socket = None,
            10 => {
                let header = self.header(Command::Open2, 0, 0, 0, self.id());
                self.send(&header[..usize::from(much) % 24]);
            }
            _ => _ = self.socket.as_ref().map(|socket| socket.shutdown(Shutdown::Write)),
        }
    }

    /// Begins so many objects and one more.
    fn open(&mut self, more: u16) {
        let mut bytes = Vec::new();
        for _ in 0..=more {
            self.object += 1;
            bytes.extend(self.header(Command::Open2, 0, 0, 0, self.id()));
        }
        self.address = 0x1000;
        self.send(&bytes);
    }

    /// Sends runs without bytes.
    fn headers(&mut self, flags: u16, number: u32) {
        let mut bytes = Vec::new();
        for _ in 0..number {
            bytes.extend(self.header(Command::AddF, flags, 1, self.address, self.id()));
            self.address += 0x2000;
        }
        self.send(&bytes);
    }

    fn run(&mut self, flags: u16, pages: u64, bytes: u64) {
        self.command(Command::AddF, flags, pages, self.address, self.id());
        self.address += pages << 12;
        self.send(&vec![1; usize::try_from(bytes).unwrap_or(0)]);
    }

    fn id(&self) -> u64 {
        object_id(PageObject::Task(self.object))
    }

    fn command(&mut self, command: Command, flags: u16, pages: u64, address: u64, id: u64) {
        let header = self.header(command, flags, pages, address, id);
        self.send(&header);
    }

    fn header(&self, command: Command, flags: u16, pages: u64, address: u64, id: u64) -> Vec<u8> {
        let header = Header { command, flags, pages, address, id };
        let bytes = header.to_bytes(self.layout).unwrap_or_default();
        bytes[..self.layout.size()].to_vec()
    }

    /// Sends bytes, and gives up on a server that takes none.
    fn send(&mut self, bytes: &[u8]) {
        _ = self.socket.as_mut().map(|socket| socket.write_all(bytes));
    }
}

/// Tells acts that send no whole header.
pub(super) fn begins_no_session([_, what, ..]: [u8; 4]) -> bool {
    matches!(what % 12, 0 | 9 | 10 | 11)
}

/// The thread that sends single bytes for clients that trickle. It ends with this value.
pub(super) struct Trickle(Arc<AtomicBool>, Option<JoinHandle<()>>);

/// Sends a byte now and then for each client that trickles.
pub(super) fn trickle<'a>(clients: impl Iterator<Item = &'a Hostile>) -> Trickle {
    let sockets =
        clients.filter(|client| client.trickles).filter_map(|client| client.socket.as_ref());
    let mut sockets: Vec<_> = sockets.filter_map(|socket| socket.try_clone().ok()).collect();
    let ends = Arc::new(AtomicBool::new(false));
    if sockets.is_empty() {
        return Trickle(ends, None);
    }
    let end = Arc::clone(&ends);
    let thread = thread::spawn(move || {
        while !end.load(Ordering::Relaxed) {
            sockets.retain_mut(|socket| socket.write_all(&[1]).is_ok());
            thread::sleep(Duration::from_millis(5));
        }
    });
    Trickle(ends, Some(thread))
}

impl Drop for Trickle {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        if let Some(thread) = self.1.take() {
            _ = thread.join();
        }
    }
}

/// Returns inputs with one kind of attack each.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let acts = |acts: &[[u8; 4]]| [&[0][..], &acts.concat()].concat();
    let [many, few] = [[200, 0], [3, 0]];
    let each = |what: u8, [low, high]: [u8; 2]| -> Vec<[u8; 4]> {
        (0..8).map(|who| [who, what, low, high]).collect()
    };
    vec![
        ("nobody", vec![0]),
        ("silent", acts(&each(0, [0, 0]))),
        ("silent-long", [&[2][..], &each(0, [0, 0]).concat()].concat()),
        ("half-header-long", [&[2][..], &each(10, [9, 0]).concat()].concat()),
        ("garbage", acts(&each(5, [77, 3]))),
        ("half-header", acts(&each(10, [9, 0]))),
        ("objects", acts(&[[0, 1, many[0], many[1]], [1, 0, 0, 0], [2, 0, 0, 0]])),
        ("headers", acts(&[[0, 1, 0, 0], [0, 3, 0xff, 0xff]])),
        ("holes", acts(&[[0, 1, 0, 0], [0, 7, 0xff, 0xff]])),
        ("trickle", acts(&[[0, 1, 0, 0], [0, 4, 0, 0]])),
        ("trickles", acts(&[each(1, few), each(4, [0, 0])].concat())),
        ("closes", acts(&[each(1, few), each(2, [8, 0]), each(8, [0, 0])].concat())),
        ("leaves", acts(&[each(1, few), each(2, [2, 0]), each(9, [0, 0])].concat())),
        ("asks", [&[1][..], &[each(6, [255, 255]), each(11, [0, 0])].concat().concat()].concat()),
    ]
}
