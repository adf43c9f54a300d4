//! A running coordinator.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use criu_cri::coordinator::{Client, Event, Limits, Listening, Member, Server};
use criu_rs::Cancel;

/// A coordinator in a thread of its own. It stops when it is dropped.
pub(crate) struct Coordinator {
    pub(crate) address: SocketAddr,
    stop: Cancel,
    thread: Option<JoinHandle<()>>,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Coordinator {
    pub(crate) fn start(server: Server) -> Self {
        Self::run(server.listen("127.0.0.1:0".parse().unwrap()).unwrap())
    }

    fn run(listening: Listening) -> Self {
        let (address, stop) = (listening.address(), Cancel::new().unwrap());
        let events = Arc::new(Mutex::new(Vec::new()));
        let (cancel, noted) = (stop.clone(), Arc::clone(&events));
        let note = move |event: &Event| noted.lock().unwrap().push(event.clone());
        let thread = std::thread::spawn(move || listening.run(&cancel, note).unwrap());
        Self { address, stop, thread: Some(thread), events }
    }

    pub(crate) fn plain() -> Self {
        Self::start(Server::new())
    }

    /// A coordinator with short limits.
    pub(crate) fn hasty() -> Self {
        Self::start(Server::new().limits(hasty()))
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.address.to_string()).limit(Duration::from_secs(20))
    }

    pub(crate) fn member(&self, id: &str, needs: &[&str]) -> Member {
        Member::new(self.client(), id, needs.iter().copied()).unwrap()
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }

    /// Sends bytes as a client of criu-coordinator does, and returns the whole answer.
    pub(crate) fn say(&self, bytes: &[u8]) -> String {
        let mut socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket.write_all(bytes).unwrap();
        let mut answer = String::new();
        // A coordinator that refuses does not read all.
        let _ = socket.read_to_string(&mut answer);
        let _ = socket.shutdown(Shutdown::Both);
        answer
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.stop.cancel();
        let thread = self.thread.take().unwrap();
        if thread.join().is_err() && !std::thread::panicking() {
            panic!("the coordinator panicked");
        }
    }
}

pub(crate) fn hasty() -> Limits {
    let mut limits = Limits::default();
    limits.barrier = Duration::from_millis(300);
    limits.first = Duration::from_millis(300);
    limits
}
