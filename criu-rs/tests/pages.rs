//! The page server without CRIU: clients of every kind, and those that break off, lie, or never
//! come to an end.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use criu_images::memory::{PageFlags, PageObject, PageSet, PageSize, PageSource, PagemapWriter};
use criu_lab::{names, scratch};
use criu_rs::pages::proto::{LAZY, PARENT, PRESENT, object_id};
use criu_rs::pages::{
    Client, Command, Header, Layout, Listening, PageSession, PageStep, PagesError, Provider, Relay,
    Server, ServerLimits, SessionReport, Socket,
};

const PAGE: u64 = 4096;
const BASE: u64 = 0x7f00_0000_0000;
const TASK: PageObject = PageObject::Task(7);

/// A page that says where it is.
fn page(address: u64) -> Vec<u8> {
    address.to_le_bytes().repeat(512)
}

fn header(command: Command, flags: u16, pages: u64, address: u64, object: PageObject) -> Header {
    Header { command, flags, pages, address, id: object_id(object) }
}

fn bytes(layout: Layout, header: Header) -> Vec<u8> {
    header.to_bytes(layout).unwrap()[..layout.size()].to_vec()
}

struct Peer {
    socket: TcpStream,
    layout: Layout,
}

impl Peer {
    fn connect(port: u16, layout: Layout) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self { socket, layout }
    }

    fn say(&mut self, command: Command, flags: u16, pages: u64, address: u64) {
        let header = header(command, flags, pages, address, TASK);
        self.socket.write_all(&bytes(self.layout, header)).unwrap();
    }

    fn open(&mut self) -> u8 {
        self.say(Command::Open2, 0, 0, 0);
        self.hear::<1>().unwrap()[0]
    }

    fn pages(&mut self, address: u64, count: u64) {
        self.say(Command::AddF, PRESENT, count, address);
        for n in 0..count {
            self.socket.write_all(&page(address + n * PAGE)).unwrap();
        }
    }

    fn close(&mut self) -> i32 {
        self.say(Command::Close, 0, 0, 0);
        i32::from_ne_bytes(self.hear().unwrap())
    }

    fn hear<const N: usize>(&mut self) -> std::io::Result<[u8; N]> {
        let mut answer = [0; N];
        self.socket.read_exact(&mut answer)?;
        Ok(answer)
    }

    /// Asserts that the server has ended the connection.
    fn is_cut(&mut self) {
        assert!(matches!(self.socket.read(&mut [0]), Ok(0) | Err(_)));
    }
}

type Running = (u16, JoinHandle<Vec<SessionReport>>);

fn run(server: Server, sessions: u64) -> Running {
    start(server.listen("127.0.0.1:0".parse().unwrap()).unwrap(), sessions)
}

fn start(server: Listening, sessions: u64) -> Running {
    let port = server.port();
    (port, thread::spawn(move || server.run(Some(sessions)).unwrap()))
}

fn one(running: JoinHandle<Vec<SessionReport>>) -> Result<criu_rs::pages::Received, PagesError> {
    running.join().unwrap().remove(0).result
}

/// Writes a set with these pages of task 7.
fn set(directory: &Path, pages: &[u64]) {
    fs::create_dir_all(directory).unwrap();
    let file = fs::File::create(directory.join("pagemap-7.img")).unwrap();
    let mut pagemap = PagemapWriter::new(file, 1, PageSize::K4).unwrap();
    let mut content = Vec::new();
    for n in pages {
        pagemap.run(BASE + n * PAGE, 1, PageFlags::PRESENT).unwrap();
        content.extend(page(BASE + n * PAGE));
    }
    pagemap.finish().unwrap();
    fs::write(directory.join("pages-1.img"), content).unwrap();
}

fn read(directory: &Path, address: u64) -> Vec<u8> {
    let set = PageSet::open(directory, PageSize::K4).unwrap();
    let stored = set.pages(TASK).unwrap().unwrap();
    let mut found = vec![0; 4096];
    stored.read_at(address, &mut found).unwrap();
    found
}

#[test]
fn both_layouts_and_old_commands_are_taken() {
    for layout in Layout::ALL {
        let directory = scratch(&format!("pages-layout-{}", layout.size()));
        let (port, running) = run(Server::new().directory(&directory), 1);
        let mut peer = Peer::connect(port, layout);
        // As CRIUs of long ago: without an open, and with types of their own.
        let old = Header { id: 7 << 8 | 11, ..header(Command::Add, 0, 1, BASE, TASK) };
        peer.socket.write_all(&bytes(layout, old)).unwrap();
        peer.socket.write_all(&page(BASE)).unwrap();
        // In pieces of all sizes.
        let more = bytes(layout, header(Command::AddF, PRESENT | LAZY, 2, BASE + 2 * PAGE, TASK));
        let more = [more, page(BASE + 2 * PAGE), page(BASE + 3 * PAGE)].concat();
        for piece in more.chunks(1000) {
            peer.socket.write_all(piece).unwrap();
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(peer.close(), 0);
        drop(peer);
        let received = one(running).unwrap();
        assert_eq!((received.layout, received.pages), (Some(layout), 3));
        assert_eq!(names(&directory), ["pagemap-7.img", "pages-65537.img"]);
        assert_eq!(read(&directory, BASE + 3 * PAGE), page(BASE + 3 * PAGE));
    }
}

#[test]
fn a_session_that_only_closes_ends_whatever_its_layout() {
    for layout in Layout::ALL {
        let directory = scratch(&format!("pages-close-{}", layout.size()));
        let (port, running) = run(Server::new().directory(&directory), 1);
        let mut peer = Peer::connect(port, layout);
        assert_eq!(peer.close(), 0);
        drop(peer);
        assert_eq!(one(running).unwrap().objects, 0);
        assert!(names(&directory).is_empty());
    }
}

#[test]
fn holes_are_those_of_the_parent_set() {
    let root = scratch("pages-holes");
    set(&root.join("before"), &[0, 1, 2]);
    let directory = root.join("now");
    fs::create_dir(&directory).unwrap();
    symlink("../before", directory.join("parent")).unwrap();
    let server = |directory: &Path| Server::new().directory(directory).auto_dedup(true);
    let (port, running) = run(server(&directory), 1);
    let mut peer = Peer::connect(port, Layout::Wide);
    peer.say(Command::Parent, 0, 0, 0);
    assert_eq!(peer.hear::<4>().unwrap(), 1i32.to_ne_bytes());
    assert_eq!(peer.open(), 1);
    peer.say(Command::AddF, PARENT, 2, BASE);
    peer.pages(BASE + 2 * PAGE, 2);
    assert_eq!(peer.close(), 0);
    drop(peer);
    let received = one(running).unwrap();
    assert_eq!((received.holes, received.pages), (2, 2));
    for n in 0..4 {
        assert_eq!(read(&directory, BASE + n * PAGE), page(BASE + n * PAGE));
    }
    // What came anew takes no space in the parent set.
    let old = fs::metadata(root.join("before/pages-1.img")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::blocks(&old), 16);
    assert_eq!(old.len(), 3 * PAGE);

    // One that the parent set lacks.
    let later = root.join("later");
    fs::create_dir(&later).unwrap();
    symlink("../before", later.join("parent")).unwrap();
    let (port, running) = run(server(&later), 1);
    let mut peer = Peer::connect(port, Layout::Narrow);
    assert_eq!(peer.open(), 1);
    peer.say(Command::AddF, PARENT, 2, BASE + 2 * PAGE);
    peer.is_cut();
    let error = one(running).unwrap_err().to_string();
    assert_eq!(
        error,
        "pagemap-7.img leaves 0x7f0000003000 to the parent set, which does not have it"
    );
    assert_eq!(names(&later), ["parent"]);
}

#[test]
fn whoever_breaks_off_leaves_nothing_behind() {
    let directory = scratch("pages-cut");
    let whole = {
        let mut all = bytes(Layout::Wide, header(Command::Open2, 0, 0, 0, TASK));
        all.extend(bytes(Layout::Wide, header(Command::AddF, PRESENT, 2, BASE, TASK)));
        all.extend([page(BASE), page(BASE + PAGE)].concat());
        all
    };
    // A connection without a whole header is no session.
    let (none, cuts) = ([0, 1, 23, 24, 31], [32, 40, 63, 64, 65, 4160, 5000, whole.len()]);
    let server = Server::new().directory(&directory).listen("127.0.0.1:0".parse().unwrap());
    let server = server.unwrap();
    let handle = server.handle();
    let (port, running) = start(server, cuts.len() as u64);
    for cut in none.into_iter().chain(cuts) {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.write_all(&whole[..cut]).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        _ = socket.read_to_end(&mut Vec::new());
    }
    for report in running.join().unwrap() {
        let error = report.result.unwrap_err();
        assert!(matches!(error, PagesError::Gone(_)), "{error}");
    }
    assert_eq!(handle.metrics().unused, none.len() as u64);
    assert!(names(&directory).is_empty(), "{:?}", names(&directory));
}

#[test]
fn lies_are_told_with_their_place_and_leave_nothing_behind() {
    let run_of = |pages, address, flags| header(Command::AddF, flags, pages, address, TASK);
    let wrong_id = Header { id: 7 << 8 | 3, ..header(Command::Open2, 0, 0, 0, TASK) };
    let cases = [
        (vec![run_of(1 << 51, BASE, PRESENT)], "2251799813685248 pages at 0x7f0000000000"),
        (vec![run_of(1 << 63, BASE, PRESENT)], "9223372036854775808 pages at 0x7f0000000000"),
        (vec![run_of(0, BASE, PRESENT)], "0 pages at 0x7f0000000000"),
        (vec![run_of(1, BASE + 5, PRESENT)], "1 pages at 0x7f0000000005"),
        (vec![run_of(1, BASE, 0)], "pages cannot have the flags 0x0"),
        (vec![run_of(1, BASE, 5)], "pages cannot have the flags 0x5"),
        (
            vec![run_of(1, BASE, PARENT), run_of(1, BASE, LAZY)],
            "leaves 0x7f0000000000 to the parent",
        ),
        (
            vec![run_of(2, BASE, LAZY), run_of(1, BASE + PAGE, LAZY)],
            "pages at 0x7f0000001000, below 0x7f0000002000",
        ),
        (vec![wrong_id], "no object has the id 0x703"),
        (vec![Header { id: 1 << 40, ..header(Command::Get, 0, 1, BASE, TASK) }], "is not a pid"),
    ];
    let directory = scratch("pages-lies");
    for (headers, said) in cases {
        let (port, running) = run(Server::new().directory(&directory), 1);
        let mut peer = Peer::connect(port, Layout::Wide);
        assert_eq!(peer.open(), 0);
        for header in headers {
            _ = peer.socket.write_all(&bytes(Layout::Wide, header));
        }
        peer.is_cut();
        let error = one(running).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
        assert!(names(&directory).is_empty(), "{said}: {:?}", names(&directory));
    }
}

#[test]
fn what_was_there_is_not_replaced() {
    let directory = scratch("pages-stays");
    set(&directory, &[0]);
    let old = fs::read(directory.join("pagemap-7.img")).unwrap();
    let (port, running) = run(Server::new().directory(&directory), 2);
    let mut peer = Peer::connect(port, Layout::Wide);
    peer.say(Command::Open2, 0, 0, 0);
    peer.is_cut();
    // Other objects of the same directory are taken.
    let mut peer = Peer::connect(port, Layout::Wide);
    let other =
        Header { id: object_id(PageObject::Task(8)), ..header(Command::Open2, 0, 0, 0, TASK) };
    peer.socket.write_all(&bytes(Layout::Wide, other)).unwrap();
    assert_eq!(peer.hear::<1>().unwrap(), [0]);
    assert_eq!(peer.close(), 0);
    drop(peer);
    let mut reports = running.join().unwrap();
    reports.sort_by_key(|report| report.number);
    let error = reports[0].result.as_ref().unwrap_err();
    let path = directory.join("pagemap-7.img");
    assert!(matches!(error, PagesError::Exists { path: there } if *there == path), "{error}");
    assert!(reports[1].result.is_ok());
    assert_eq!(fs::read(path).unwrap(), old);
    let all = ["pagemap-7.img", "pagemap-8.img", "pages-1.img", "pages-65537.img"];
    assert_eq!(names(&directory), all);
}

#[test]
fn a_name_that_is_taken_meanwhile_is_the_answer_to_the_last_word() {
    let directory = scratch("pages-taken");
    let (port, running) = run(Server::new().directory(&directory), 1);
    let mut peer = Peer::connect(port, Layout::Wide);
    peer.open();
    peer.pages(BASE, 3);
    set(&directory, &[0]);
    let old = fs::read(directory.join("pagemap-7.img")).unwrap();
    assert_eq!(peer.close(), nix::libc::EEXIST);
    drop(peer);
    assert!(matches!(one(running), Err(PagesError::Exists { .. })));
    assert_eq!(fs::read(directory.join("pagemap-7.img")).unwrap(), old);
    assert_eq!(names(&directory), ["pagemap-7.img", "pages-1.img"]);
}

#[test]
fn a_client_that_says_nothing_is_sent_away_and_disturbs_nobody() {
    let directory = scratch("pages-silent");
    let mut limits = ServerLimits::default();
    limits.idle = Some(Duration::from_millis(300));
    let root = directory.clone();
    let server = Server::new().directories(move |n| root.join(n.to_string())).limits(limits);
    let (port, running) = run(server, 2);
    let mut silent = Peer::connect(port, Layout::Wide);
    silent.open();
    let mut other = Peer::connect(port, Layout::Wide);
    other.open();
    other.pages(BASE, 9);
    assert_eq!(other.close(), 0);
    drop(other);
    silent.is_cut();
    let mut reports = running.join().unwrap();
    reports.sort_by_key(|report| report.number);
    let error = reports[0].result.as_ref().unwrap_err().to_string();
    assert_eq!(error, "the next message takes longer than allowed");
    assert!(reports[1].result.is_ok());
    assert_eq!(names(&directory), ["1"]);
}

#[test]
fn a_directory_that_is_gone_is_the_answer_to_the_last_word() {
    let directory = scratch("pages-gone").join("images");
    fs::create_dir(&directory).unwrap();
    let (port, running) = run(Server::new().directory(&directory), 1);
    let mut peer = Peer::connect(port, Layout::Wide);
    peer.open();
    peer.pages(BASE, 1);
    // All that was received before is in files without a name by now.
    fs::remove_dir_all(&directory).unwrap();
    assert_eq!(peer.close(), nix::libc::ENOENT);
    drop(peer);
    let error = one(running).unwrap_err().to_string();
    assert!(error.ends_with("pagemap-7.img: No such file or directory (os error 2)"), "{error}");
}

#[test]
fn an_address_that_others_reach_needs_a_word() {
    let everywhere = "0.0.0.0:0".parse().unwrap();
    let refused = Server::new().directory("/tmp").listen(everywhere).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    assert!(Server::new().directory("/tmp").exposed(true).listen(everywhere).is_ok());
}

#[test]
fn one_snapshot_is_served_to_many_at_once() {
    let root = scratch("pages-serve");
    set(&root.join("before"), &[0, 1, 2, 3, 4, 5, 6, 7]);
    let directory = root.join("now");
    fs::create_dir(&directory).unwrap();
    symlink("../before", directory.join("parent")).unwrap();
    let file = fs::File::create(directory.join("pagemap-7.img")).unwrap();
    let mut pagemap = PagemapWriter::new(file, 9, PageSize::K4).unwrap();
    pagemap.run(BASE, 4, PageFlags::PARENT).unwrap();
    pagemap.run(BASE + 4 * PAGE, 2, PageFlags::PRESENT).unwrap();
    pagemap.finish().unwrap();
    let own = [page(BASE + 4 * PAGE), page(BASE + 5 * PAGE)].concat();
    fs::write(directory.join("pages-9.img"), own).unwrap();

    let (port, running) =
        start(Provider::new(&directory).listen("127.0.0.1:0".parse().unwrap()).unwrap(), 6);
    thread::scope(|scope| {
        for layout in [Layout::Wide, Layout::Narrow, Layout::Wide, Layout::Narrow] {
            scope.spawn(move || {
                let mut client = Client::connect(("127.0.0.1", port), layout).unwrap();
                for _ in 0..50 {
                    // Not past what lies together.
                    let found = client.fetch(7, BASE + 3 * PAGE, 9).unwrap();
                    assert_eq!(found, page(BASE + 3 * PAGE));
                    let found = client.fetch(7, BASE + 4 * PAGE, 9).unwrap();
                    assert_eq!(found, [page(BASE + 4 * PAGE), page(BASE + 5 * PAGE)].concat());
                }
                client.close().unwrap();
            });
        }
    });
    // What is not there ends one connection, and nothing else.
    for (pid, address, said) in
        [(7, BASE + 6 * PAGE, "nothing is mapped there"), (8, BASE, "there is no such task")]
    {
        let mut client = Client::connect(("127.0.0.1", port), Layout::Wide).unwrap();
        assert!(client.fetch(pid, address, 1).is_err(), "{said}");
    }
    let reports = running.join().unwrap();
    let served: u64 = reports.iter().filter_map(|r| r.result.as_ref().ok()).map(|r| r.served).sum();
    assert_eq!(served, 4 * 50 * 3);
    let mut errors: Vec<_> =
        reports.iter().filter_map(|r| r.result.as_ref().err()).map(ToString::to_string).collect();
    // Each connection ends when its thread comes to it.
    errors.sort();
    assert!(errors[0].ends_with("nothing is mapped there"), "{errors:?}");
    assert!(errors[1].ends_with("there is no such task"), "{errors:?}");
}

/// The names and bytes of a directory's files.
fn contents(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let read = |name: String| (name.clone(), fs::read(directory.join(name)).unwrap());
    names(directory).into_iter().map(read).collect()
}

#[test]
fn a_server_that_serves_stores_nothing() {
    let directory = scratch("pages-read-only");
    set(&directory, &[0, 1]);
    let before = contents(&directory);
    let of = |command, flags| bytes(Layout::Wide, header(command, flags, 1, BASE, TASK));
    let open2 = bytes(Layout::Wide, header(Command::Open2, 0, 0, 0, TASK));
    let open = bytes(Layout::Wide, header(Command::Open, 0, 0, 0, TASK));
    let ask = bytes(Layout::Wide, header(Command::Parent, 0, 0, 0, TASK));
    let close = bytes(Layout::Wide, header(Command::Close, 0, 0, 0, TASK));
    let old = Header { id: 7 << 8 | 11, ..header(Command::Add, 0, 1, BASE, TASK) };
    let other =
        Header { id: object_id(PageObject::Task(8)), ..header(Command::Open2, 0, 0, 0, TASK) };
    let writes = [
        [open2, of(Command::AddF, PRESENT), page(BASE), close.clone()].concat(),
        [open, of(Command::AddF, LAZY), close.clone()].concat(),
        [bytes(Layout::Wide, old), page(BASE), close.clone()].concat(),
        [of(Command::Hole, 0), close.clone()].concat(),
        [bytes(Layout::Wide, other), close.clone()].concat(),
        ask,
    ];
    let everywhere = "127.0.0.1:0".parse().unwrap();
    let server = Provider::new(&directory).listen(everywhere).unwrap();
    let (port, running) = start(server, writes.len() as u64 + 1);
    for write in &writes {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        _ = socket.write_all(write);
        let mut answers = Vec::new();
        _ = socket.read_to_end(&mut answers);
        assert!(answers.is_empty(), "{answers:?}");
    }
    // To serve and to end is all that it does.
    let mut client = Client::connect(("127.0.0.1", port), Layout::Wide).unwrap();
    assert_eq!(client.fetch(7, BASE, 1).unwrap(), page(BASE));
    client.close().unwrap();
    let reports = running.join().unwrap();
    for report in &reports[..writes.len()] {
        assert!(matches!(report.result, Err(PagesError::OnlyServes)), "{report}");
        assert_eq!(report.directory, None);
    }
    assert_eq!(contents(&directory), before);
}

#[test]
fn a_server_that_stores_sends_nothing() {
    let directory = scratch("pages-write-only");
    set(&directory, &[0, 1]);
    let (port, running) = run(Server::new().directory(&directory), 1);
    let mut client = Client::connect(("127.0.0.1", port), Layout::Wide).unwrap();
    assert!(client.fetch(7, BASE, 1).is_err());
    let error = one(running).unwrap_err();
    assert!(error.to_string().ends_with("this server serves no pages"), "{error}");
}

const LIMIT: Duration = Duration::from_millis(400);

/// Asserts that an exchange that began at `begun` ended with its deadline, neither early nor late.
#[track_caller]
fn ends_at_its_deadline<T: std::fmt::Debug>(begun: Instant, result: Result<T, PagesError>) {
    let error = result.unwrap_err();
    assert!(matches!(error, PagesError::Deadline(LIMIT)), "{error:?}");
    assert_eq!(error.to_string(), "the exchange takes longer than its deadline of 400ms");
    let time = begun.elapsed();
    assert!(time >= LIMIT && time < Duration::from_secs(30), "{time:?}");
}

/// A peer that begins with `first` and then sends a byte now and then, or says nothing, until the
/// other end has gone. It reads nothing.
fn bad_peer(mut socket: impl Write + Send + 'static, first: Vec<u8>, trickles: bool) {
    thread::spawn(move || {
        _ = socket.write_all(&first);
        for _ in 0..6000 {
            thread::sleep(Duration::from_millis(10));
            if trickles && socket.write_all(&[7]).is_err() {
                break;
            }
        }
    });
}

/// Two connected sockets of each kind.
fn pairs() -> [(Socket, Box<dyn Write + Send>); 2] {
    let (unix, other_unix) = UnixStream::pair().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let other_tcp = listener.accept().unwrap().0;
    [(unix.into(), Box::new(other_unix)), (tcp.into(), Box::new(other_tcp))]
}

#[test]
fn a_client_with_a_deadline_waits_for_no_peer_that_stalls_or_trickles() {
    // More than the buffers of sockets hold.
    let large = scratch("deadline");
    set(&large, &(0..4096).collect::<Vec<_>>());
    for trickles in [false, true] {
        for (socket, peer) in pairs() {
            // The answer is of a page, whose bytes are too slow.
            let first = Header { id: 7, ..header(Command::AddF, PRESENT, 1, BASE, TASK) };
            bad_peer(peer, bytes(Layout::Wide, first), trickles);
            let begun = Instant::now();
            let mut client = Client::new(socket, Layout::Wide).deadline(LIMIT);
            ends_at_its_deadline(begun, client.fetch(7, BASE, 1));
            ends_at_its_deadline(begun, client.parent_has(TASK));
            ends_at_its_deadline(begun, client.close());
        }
        for (socket, peer) in pairs() {
            // The parent set has nothing, and the pages are never read.
            bad_peer(peer, vec![0], trickles);
            let begun = Instant::now();
            let mut client = Client::new(socket, Layout::Wide).deadline(LIMIT);
            ends_at_its_deadline(begun, client.send_set(&large));
        }
    }
}

#[test]
fn a_client_within_its_deadline_is_as_good_as_one_without() {
    let root = scratch("deadline-kept");
    let (from, to) = (root.join("from"), root.join("to"));
    set(&from, &(0..2048).collect::<Vec<_>>());
    fs::create_dir(&to).unwrap();
    let (port, running) = run(Server::new().directory(&to), 1);
    let client = Client::connect(("127.0.0.1", port), Layout::Wide).unwrap();
    let mut client = client.deadline(Duration::from_secs(600));
    assert_eq!(client.send_set(&from).unwrap().pages, 2048);
    client.close().unwrap();
    assert_eq!(one(running).unwrap().pages, 2048);
    assert_eq!(read(&to, BASE + 2047 * PAGE), page(BASE + 2047 * PAGE));
}

#[test]
fn a_relay_with_a_deadline_waits_for_no_far_end_that_stalls_or_trickles() {
    for (trickles, sends) in [(false, false), (true, false), (false, true), (true, true)] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Relay::connect(listener.local_addr().unwrap()).unwrap();
        bad_peer(listener.accept().unwrap().0, vec![0], trickles);
        let begun = Instant::now();
        let relay = relay.deadline(LIMIT);
        let mut near = UnixStream::from(relay.as_fd().try_clone_to_owned().unwrap());
        near.write_all(&bytes(Layout::Wide, header(Command::Open2, 0, 0, 0, TASK))).unwrap();
        if sends {
            // Until the relay has ended the connection: no buffer holds so much.
            near.write_all(&vec![0; 64 << 20]).unwrap_err();
        } else {
            // Answers come, or none do, until it has.
            _ = near.read_to_end(&mut Vec::new());
        }
        drop(near);
        ends_at_its_deadline(begun, relay.finish());
    }
}

#[test]
fn a_relay_whose_far_end_is_gone_ends_before_a_dump_begins() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let relay = Relay::connect(listener.local_addr().unwrap()).unwrap();
    drop(listener.accept().unwrap());
    let mut near = UnixStream::from(relay.as_fd().try_clone_to_owned().unwrap());
    near.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    assert_eq!(near.read(&mut [0]).unwrap(), 0);
    assert_eq!(relay.finish().unwrap(), 0);
}

#[test]
fn a_relay_within_its_deadline_is_as_good_as_one_without() {
    let root = scratch("relay-kept");
    let (from, to) = (root.join("from"), root.join("to"));
    set(&from, &(0..2048).collect::<Vec<_>>());
    fs::create_dir(&to).unwrap();
    let (port, running) = run(Server::new().directory(&to), 1);
    let relay = Relay::connect(("127.0.0.1", port)).unwrap().deadline(Duration::from_secs(600));
    let near = UnixStream::from(relay.as_fd().try_clone_to_owned().unwrap());
    let mut client = Client::new(near.into(), Layout::Wide);
    client.send_set(&from).unwrap();
    client.close().unwrap();
    assert!(relay.finish().unwrap() > 2048 * PAGE);
    assert_eq!(one(running).unwrap().pages, 2048);
}

/// Whatever bytes come, in whatever pieces: an end, and no more taken than there was.
#[test]
fn a_session_survives_any_bytes() {
    let mut state = 1u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let (mut ended, mut steps) = (0, 0u64);
    for _ in 0..3000 {
        let layout = if random() % 2 == 0 { Layout::Wide } else { Layout::Narrow };
        let mut stream = Vec::new();
        for n in 0..random() % 6 {
            let command = [
                Command::Open2,
                Command::AddF,
                Command::AddF,
                Command::Hole,
                Command::Parent,
                Command::Get,
                Command::Close,
            ][usize::try_from(random() % 7).unwrap()];
            let flags = [PRESENT, PARENT, LAZY, LAZY | PRESENT];
            let flags = flags[usize::try_from(random() % 4).unwrap()];
            let flags = if command == Command::AddF { flags } else { 0 };
            let pages = 1 + random() % 3;
            let one = header(command, flags, pages, BASE + n * 4 * PAGE, TASK);
            stream.extend(bytes(layout, one));
            let follows = command == Command::AddF && flags & PRESENT != 0;
            let mut size = if follows { pages * PAGE } else { 0 };
            // Now and then not as much as was said.
            if random() % 8 == 0 {
                size = random() % 9000;
            }
            stream.resize(stream.len() + usize::try_from(size).unwrap(), 3);
        }
        for _ in 0..(random() % 8).saturating_sub(5) {
            let at = usize::try_from(random()).unwrap() % stream.len().max(1);
            if let Some(byte) = stream.get_mut(at) {
                *byte ^= 1 << (random() % 8);
            }
        }
        let mut session = PageSession::new(None);
        let (mut at, mut end) = (0, 0);
        loop {
            match session.next(&stream[at..end]) {
                Ok((taken, step)) => {
                    assert!(taken <= end - at);
                    at += taken;
                    steps += 1;
                    match step {
                        PageStep::More(_) | PageStep::MoreOrAssume if end == stream.len() => break,
                        PageStep::More(need) => {
                            let more = usize::try_from(random()).unwrap() % 5000;
                            end = stream.len().min(end + more.max(need));
                        }
                        PageStep::MoreOrAssume => session.assume(Layout::Narrow),
                        PageStep::Close => ended += 1,
                        PageStep::Ended => break,
                        _ => {}
                    }
                }
                Err(error) => {
                    assert!(error.at <= stream.len() as u64, "{error}");
                    break;
                }
            }
        }
    }
    assert!(ended > 10 && steps > 5000, "{ended} {steps}");
}
