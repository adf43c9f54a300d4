//! Many hostile connections at once, of some users, until the attack is told to end.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use criu_images::memory::PageObject;
use criu_lab::raw;
use criu_rs::pages::proto::{Header, LAZY, PRESENT, object_id};
use criu_rs::pages::{Command, Layout};

/// The behaviour of a hostile connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Says nothing.
    Silent,
    /// Sends bytes that mean nothing.
    Garbage,
    /// Sends the beginning of a header.
    Half,
    /// Begins objects without end, and closes none.
    Objects,
    /// Promises 4 TiB, and sends a byte now and then.
    Trickle,
    /// Sends runs without pages.
    Headers,
    /// Asks for pages.
    Get,
    /// Ends the session at once.
    Close,
    /// Begins a session and says no more.
    Hold,
    /// Makes sessions that end at once, several in a row, and does not pause.
    Flood,
}

/// All kinds.
pub const ALL: [Kind; 10] = [
    Kind::Silent,
    Kind::Garbage,
    Kind::Half,
    Kind::Objects,
    Kind::Trickle,
    Kind::Headers,
    Kind::Get,
    Kind::Close,
    Kind::Hold,
    Kind::Flood,
];

/// Users who are strangers to a server of root: nobody, and another.
pub const STRANGERS: [u32; 2] = [65534, 65533];

/// An attack that goes on. It ends with this value.
#[derive(Debug)]
pub struct Attack {
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Seen>>,
}

/// The numbers of an attack.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Connections that were made.
    pub connected: u64,
    /// Connections that the server ended, or that could not be made.
    pub ended: u64,
    /// Bytes that the server sent.
    pub read: u64,
}

impl Attack {
    /// Attacks an address over so many connections, which are shared among users, by each of the
    /// kinds in turn.
    pub fn begin(
        address: SocketAddr,
        users: &'static [u32],
        connections: usize,
        kinds: &'static [Kind],
    ) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let attack = |number: usize| {
            let ends = Arc::clone(&ends);
            let own = (number..connections).step_by(THREADS);
            let own: Vec<Kind> = own.map(|n| kinds[n % kinds.len()]).collect();
            thread::spawn(move || {
                raw::thread_becomes(users[number % users.len()]).unwrap();
                hold(address, &own, &ends)
            })
        };
        let threads = (0..THREADS).map(attack).collect();
        Self { ends, threads }
    }

    /// Ends the attack.
    pub fn end(self) -> Seen {
        self.ends.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for thread in self.threads {
            let seen = thread.join().unwrap();
            all.connected += seen.connected;
            all.ended += seen.ended;
            all.read += seen.read;
        }
        all
    }
}

/// Holds a connection of each kind, and makes a new one a while after the server has ended one.
fn hold(address: SocketAddr, kinds: &[Kind], ends: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    let mut places: Vec<(Kind, Option<Hostile>, Instant)> =
        kinds.iter().map(|&kind| (kind, None, Instant::now())).collect();
    while !ends.load(Ordering::Relaxed) {
        for (kind, place, again) in &mut places {
            if *kind == Kind::Flood {
                flood(address, &mut seen);
            } else if let Some(hostile) = place {
                if !hostile.goes_on(*kind, &mut seen) {
                    seen.ended += 1;
                    (*place, *again) = (None, Instant::now() + PAUSE);
                }
            } else if *again <= Instant::now() && !ends.load(Ordering::Relaxed) {
                *place = Hostile::connect(address);
                *again = Instant::now() + PAUSE;
                match place {
                    Some(_) => seen.connected += 1,
                    None => seen.ended += 1,
                }
            }
        }
        thread::sleep(TICK);
    }
    seen
}

/// Makes connections in a row, and leaves each after a whole session.
fn flood(address: SocketAddr, seen: &mut Seen) {
    for _ in 0..ROW {
        if let Some(mut hostile) = Hostile::connect(address) {
            seen.connected += 1;
            let _ = hostile.goes_on(Kind::Flood, seen);
        }
        seen.ended += 1;
    }
}

/// A hostile connection.
struct Hostile {
    socket: TcpStream,
    /// The bytes that have not been sent, and what follows them has not been made.
    rest: Vec<u8>,
    steps: u32,
}

impl Hostile {
    fn connect(address: SocketAddr) -> Option<Self> {
        let socket = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
        socket.set_nonblocking(true).ok()?;
        Some(Self { socket, rest: Vec::new(), steps: 0 })
    }

    /// Takes answers, and sends what comes next. Returns `false` if the server has ended the
    /// connection.
    fn goes_on(&mut self, kind: Kind, seen: &mut Seen) -> bool {
        let mut answer = [0; 4096];
        match self.socket.read(&mut answer) {
            Ok(0) => return false,
            Ok(size) => seen.read += size as u64,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
        if self.rest.is_empty() {
            self.rest = next(kind, self.steps);
            self.steps += 1;
        }
        match self.socket.write(&self.rest) {
            Ok(size) => drop(self.rest.drain(..size)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
        true
    }
}

/// The bytes of a step.
fn next(kind: Kind, step: u32) -> Vec<u8> {
    let header = |command, flags, pages, address, object: u32| {
        let id = if command == Command::Get {
            u64::from(object)
        } else {
            object_id(PageObject::Task(object))
        };
        let header = Header { command, flags, pages, address, id };
        header.to_bytes(Layout::Wide).unwrap().to_vec()
    };
    let first = step == 0;
    let open = |object| header(Command::Open2, 0, 0, 0, object);
    match kind {
        Kind::Garbage if first => {
            b"GET / HTTP/1.1\r\nHost: there\r\n\r\n and more of the same".repeat(2)
        }
        Kind::Half if first => open(7)[..20].to_vec(),
        Kind::Silent | Kind::Garbage | Kind::Half => Vec::new(),
        Kind::Objects => (0..16).flat_map(|n| open(1 + step * 16 + n)).collect(),
        Kind::Trickle if first => {
            [open(7), header(Command::AddF, PRESENT, 1 << 30, 0x1000, 7), vec![1; 1 << 16]].concat()
        }
        Kind::Trickle => vec![1],
        Kind::Headers if first => open(8),
        Kind::Headers => {
            let run = |n| header(Command::AddF, LAZY, 1, u64::from(step * 256 + n) << 13, 8);
            (0..256).flat_map(run).collect()
        }
        Kind::Get => header(Command::Get, 0, 16, 0x1000, 1),
        Kind::Hold if first => open(7),
        Kind::Hold => Vec::new(),
        Kind::Close | Kind::Flood => header(Command::Close, 0, 0, 0, 0),
    }
}

/// Threads of an attack.
const THREADS: usize = 4;
/// The time between two steps of a connection: of 16 objects, of 256 runs, of a byte.
const TICK: Duration = Duration::from_millis(100);
/// Connections in a row.
const ROW: usize = 4;
/// The time until a connection is made again. One machine does both sides: attackers that take all
/// processors for themselves would be measured, and not the server.
const PAUSE: Duration = Duration::from_secs(1);
