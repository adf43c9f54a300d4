//! Who reaches a page server, and what a connection costs that is no session.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use criu_images::memory::{PageFlags, PageObject, PageSize, PagemapWriter};
use criu_lab::raw::thread_becomes;
use criu_lab::{in_own_process, names, scratch};
use criu_rs::pages::proto::{PRESENT, object_id};
use criu_rs::pages::{
    Client, Command, Handle, Header, Layout, Listening, Metrics, Notice, Provider, Server,
    ServerLimits, SessionReport,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

const BASE: u64 = 0x7f00_0000_0000;
const NOBODY: u32 = 65534;

fn bytes(command: Command, flags: u16, pages: u64, address: u64, id: u64) -> Vec<u8> {
    Header { command, flags, pages, address, id }.to_bytes(Layout::Wide).unwrap().to_vec()
}

fn open(pid: u32) -> Vec<u8> {
    bytes(Command::Open2, 0, 0, 0, object_id(PageObject::Task(pid)))
}

/// A session that stores a page of a task.
fn store(pid: u32) -> Vec<u8> {
    let id = object_id(PageObject::Task(pid));
    let page = bytes(Command::AddF, PRESENT, 1, BASE, id);
    [open(pid), page, vec![b'e'; 4096], bytes(Command::Close, 0, 0, 0, 0)].concat()
}

/// A session that fetches a page of task 7.
fn fetch() -> Vec<u8> {
    [bytes(Command::Get, 0, 1, BASE, 7), bytes(Command::Close, 0, 0, 0, 0)].concat()
}

/// A directory with a set of one task and one secret page.
fn set(name: &str) -> PathBuf {
    let directory = scratch(name);
    let file = fs::File::create(directory.join("pagemap-7.img")).unwrap();
    let mut pagemap = PagemapWriter::new(file, 1, PageSize::K4).unwrap();
    pagemap.run(BASE, 1, PageFlags::PRESENT).unwrap();
    pagemap.finish().unwrap();
    fs::write(directory.join("pages-1.img"), b"secret..".repeat(512)).unwrap();
    directory
}

fn contents(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let read = |name: String| (name.clone(), fs::read(directory.join(name)).unwrap());
    names(directory).into_iter().map(read).collect()
}

/// A running server.
struct Running {
    port: u16,
    handle: Handle,
    notices: mpsc::Receiver<String>,
    thread: JoinHandle<Vec<SessionReport>>,
}

fn run(server: Listening, sessions: Option<u64>) -> Running {
    let (port, handle, (sender, notices)) = (server.port(), server.handle(), mpsc::channel());
    let thread = thread::spawn(move || {
        let mut reports = Vec::new();
        let note = |notice: Notice| drop(sender.send(notice.to_string()));
        server.run_noting(sessions, |report| reports.push(report), note).unwrap();
        reports
    });
    Running { port, handle, notices, thread }
}

impl Running {
    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket
    }

    fn metrics<T>(&self, read: impl Fn(Metrics) -> T) -> T {
        read(self.handle.metrics())
    }

    /// Stops the server. Returns its reports.
    fn stop(self) -> Vec<SessionReport> {
        self.handle.stop();
        self.thread.join().unwrap()
    }
}

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn limits(change: impl FnOnce(&mut ServerLimits)) -> ServerLimits {
    let mut limits = ServerLimits::default();
    change(&mut limits);
    limits
}

fn soon(mut is: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(20) {
        if is() {
            return true;
        }
        thread::sleep(Duration::from_millis(5));
    }
    false
}

/// Sends bytes as a user of this machine, to a port or to a path. Returns the answers, or what the
/// system said.
fn say_as(user: u32, to: &str, message: &[u8]) -> Result<Vec<u8>, String> {
    let script = r#"
        use IO::Socket::IP; use IO::Socket::UNIX;
        my $to = shift; local $/; my $message = <STDIN>;
        my $socket = $to =~ m{/} ? IO::Socket::UNIX->new(Peer => $to)
            : IO::Socket::IP->new($to =~ m{:} ? (PeerAddr => $to)
                : (PeerAddr => "127.0.0.1", PeerPort => $to));
        defined $socket or do { print STDERR $!; exit 1 };
        $SIG{PIPE} = "IGNORE"; binmode $socket; print $socket $message; $socket->flush;
        binmode STDOUT; while (sysread($socket, my $answer, 65536)) { print $answer }
    "#;
    let perl = Process::new("/usr/bin/perl")
        .args(["-e", script, to])
        .uid(user)
        .gid(user)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut perl = perl.unwrap();
    _ = perl.stdin.take().unwrap().write_all(message);
    let ran = perl.wait_with_output().unwrap();
    if ran.status.success() {
        return Ok(ran.stdout);
    }
    Err(String::from_utf8_lossy(&ran.stderr).into_owned())
}

/// Connects so many times as a user of this machine, and sends a message over each connection.
fn connect_as(user: u32, port: u16, times: usize, message: &[u8]) -> Vec<TcpStream> {
    thread::scope(|scope| {
        let connects = scope.spawn(|| {
            thread_becomes(user).unwrap();
            let connect = |_| {
                let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
                // A connection that is ended at once takes no message.
                _ = socket.write_all(message);
                socket
            };
            (0..times).map(connect).collect()
        });
        connects.join().unwrap()
    })
}

#[test]
fn another_user_can_neither_read_nor_write_over_loopback() {
    let (set, store_dir) = (set("reach-serve"), scratch("reach-store"));
    let before = contents(&set);
    for at in ["127.0.0.1", "[::1]"] {
        let address: SocketAddr = format!("{at}:0").parse().unwrap();
        let provider = run(Provider::new(&set).listen(address).unwrap(), None);
        let server = run(Server::new().directory(&store_dir).listen(address).unwrap(), None);
        for running in [&provider, &server] {
            let port = format!("{at}:{}", running.port);
            for message in [fetch(), store(8), store(7), Vec::new()] {
                let heard = say_as(NOBODY, &port, &message);
                assert_eq!(heard.unwrap_or_default(), b"", "nobody hears something");
            }
            assert!(soon(|| running.handle.metrics().refused == 4));
            let said = running.notices.recv().unwrap();
            assert!(said.starts_with(&format!("{at}:")), "{said}");
            assert!(
                said.contains("user 65534 may not connect: this server is for root")
                    || said.contains("the client has gone"),
                "{said}"
            );
        }
        assert!(names(&store_dir).is_empty());
        // The server's own user is served.
        let heard = say_as(0, &format!("{at}:{}", provider.port), &fetch()).unwrap();
        assert!(heard.windows(8).any(|bytes| bytes == b"secret.."));
        let heard = say_as(0, &format!("{at}:{}", server.port), &store(9)).unwrap();
        assert_eq!(heard, [0; 5]);
        assert_eq!(provider.stop().len(), 1);
        assert_eq!(server.stop().len(), 1);
        fs::remove_file(store_dir.join("pagemap-9.img")).unwrap();
        fs::remove_file(store_dir.join("pages-65537.img")).unwrap();
    }
    assert_eq!(contents(&set), before);
}

#[test]
fn another_user_can_neither_read_nor_write_over_a_unix_socket() {
    let (set, place) = (set("reach-unix"), scratch("reach-unix-socket"));
    // Everybody reaches the socket's directory.
    let path = std::env::temp_dir().join(format!("criu-rs-reach-{}", std::process::id()));
    _ = fs::remove_file(&path);
    drop(place);
    let running = run(Provider::new(&set).listen_unix(&path).unwrap(), None);
    let mode = || fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    let to = path.to_str().unwrap();
    assert_eq!(say_as(NOBODY, to, &fetch()).unwrap_err(), "Permission denied");
    // Were the mode wider, it is still the user who counts.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(say_as(NOBODY, to, &fetch()).unwrap_or_default(), b"");
    let said = running.notices.recv().unwrap();
    let wanted = "a unix socket: no session: user 65534 may not connect: this server is for root";
    assert_eq!(said, wanted);
    let mut client = Client::connect_unix(&path, Layout::Wide).unwrap();
    assert_eq!(client.fetch(7, BASE, 1).unwrap(), b"secret..".repeat(512));
    client.close().unwrap();
    assert_eq!(running.stop().len(), 1);
    fs::remove_file(&path).unwrap();
    // With the word.
    let server = Provider::new(&set).other_users(true).listen_unix(&path).unwrap();
    assert_eq!(mode(), 0o666);
    let running = run(server, Some(1));
    let heard = say_as(NOBODY, to, &fetch()).unwrap();
    assert!(heard.windows(8).any(|bytes| bytes == b"secret.."));
    assert!(running.thread.join().unwrap()[0].result.is_ok());
    fs::remove_file(&path).unwrap();
}

#[test]
fn other_users_are_served_where_a_word_says_so() {
    let directory = scratch("reach-others");
    let server = Server::new().directory(&directory).other_users(true);
    let running = run(server.listen(loopback()).unwrap(), Some(1));
    assert_eq!(say_as(NOBODY, &running.port.to_string(), &store(7)).unwrap(), [0; 5]);
    assert!(running.thread.join().unwrap()[0].result.is_ok());
    assert_eq!(names(&directory), ["pagemap-7.img", "pages-65537.img"]);
    // An address that is exposed is everybody's, and a loopback address is not for it.
    let running = run(Provider::new(&directory).exposed(true).listen(loopback()).unwrap(), None);
    assert_eq!(say_as(NOBODY, &running.port.to_string(), &fetch()).unwrap_or_default(), b"");
    assert!(soon(|| running.handle.metrics().refused == 1));
    running.stop();
    let everywhere = "0.0.0.0:0".parse().unwrap();
    let running = run(Provider::new(&directory).exposed(true).listen(everywhere).unwrap(), Some(1));
    assert!(say_as(NOBODY, &running.port.to_string(), &fetch()).unwrap().len() > 4096);
    assert!(running.thread.join().unwrap()[0].result.is_ok());
}

#[test]
fn a_socket_that_is_handed_over_is_as_closed_as_an_own_one() {
    let directory = set("reach-handed");
    let tcp = TcpListener::bind("0.0.0.0:0").unwrap();
    let refused = Provider::new(&directory).listen_on(tcp.try_clone().unwrap()).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    assert!(Provider::new(&directory).exposed(true).listen_on(tcp).is_ok());
    let tcp = TcpListener::bind(loopback()).unwrap();
    let running = run(Provider::new(&directory).listen_on(tcp).unwrap(), None);
    assert_eq!(say_as(NOBODY, &running.port.to_string(), &fetch()).unwrap_or_default(), b"");
    assert!(soon(|| running.handle.metrics().refused == 1));
    assert!(running.stop().is_empty());
}

#[test]
fn a_client_that_is_gone_when_it_is_looked_at_is_not_taken_for_root() {
    let directory = scratch("reach-gone");
    let server = Server::new().directory(&directory).listen(loopback()).unwrap();
    let port = server.port();
    // All that the session needs has come, and the socket is closed: the kernel shows root as the
    // owner of what is left.
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    client.write_all(&store(7)).unwrap();
    drop(client);
    thread::sleep(Duration::from_millis(100));
    let running = run(server, None);
    assert!(soon(|| running.handle.metrics().refused == 1));
    assert!(running.notices.recv().unwrap().ends_with("the client has gone"));
    assert!(running.stop().is_empty() && names(&directory).is_empty());
}

#[test]
fn what_is_no_session_does_not_end_a_server_and_makes_no_directory() {
    let root = scratch("reach-bare");
    let place = root.clone();
    let server = Server::new().directories(move |n| place.join(n.to_string()));
    let running = run(server.listen(loopback()).unwrap(), Some(1));
    // A port scan, wrong bytes, a header of no object, half a header.
    drop(running.connect());
    for said in [vec![9; 64], bytes(Command::Open2, 0, 0, 0, 7 << 8 | 3), open(7)[..20].to_vec()] {
        let mut socket = running.connect();
        _ = socket.write_all(&said);
        _ = socket.shutdown(std::net::Shutdown::Write);
        assert!(matches!(socket.read(&mut [0]), Ok(0) | Err(_)));
    }
    assert!(soon(|| running.handle.metrics().unused + running.handle.metrics().refused == 4));
    assert!(names(&root).is_empty());
    let mut socket = running.connect();
    socket.write_all(&store(7)).unwrap();
    socket.read_exact(&mut [0; 5]).unwrap();
    drop(socket);
    let reports = running.thread.join().unwrap();
    assert_eq!((reports.len(), reports[0].number), (1, 0));
    assert!(reports[0].result.is_ok());
    assert_eq!(names(&root), ["0"]);
    assert!(running.notices.try_iter().any(|said| said.contains("unknown command 0x9090909")));
}

#[test]
fn silent_connections_block_nobody_and_give_way_to_new_ones() {
    let root = scratch("reach-silent");
    let place = root.clone();
    let limits = limits(|limits| limits.waiting = 100);
    let server = Server::new().directories(move |n| place.join(n.to_string())).limits(limits);
    let running = run(server.other_users(true).listen(loopback()).unwrap(), None);
    let silent = connect_as(NOBODY, running.port, 500, &[]);
    for pid in 0..16 {
        let mut socket = running.connect();
        socket.write_all(&store(pid)).unwrap();
        socket.read_exact(&mut [0; 5]).unwrap();
    }
    let all = |(waiting, displaced)| waiting == 50 && displaced == 450;
    assert!(soon(|| all(running.metrics(|it| (it.waiting, it.displaced)))));
    assert!(soon(|| running.handle.metrics().done == 16));
    // Ten of them are told, and the number of the others.
    assert_eq!(running.notices.try_iter().count(), 10);
    drop(silent);
    assert_eq!(running.stop().len(), 16);
}

#[test]
fn a_first_header_that_trickles_has_no_more_time_than_another() {
    let directory = scratch("reach-trickle");
    let short = Duration::from_millis(400);
    let limits = limits(|limits| (limits.first, limits.idle) = (short, Some(short)));
    let server = Server::new().directory(&directory).limits(limits);
    let running = run(server.listen(loopback()).unwrap(), None);
    let (mut slow, begun) = (running.connect(), Instant::now());
    for byte in open(7).into_iter().take(31) {
        if slow.write_all(&[byte]).is_err() {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    assert!(matches!(slow.read(&mut [0]), Ok(0) | Err(_)));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let said = running.notices.recv().unwrap();
    assert!(said.ends_with("no session: the first message takes longer than allowed"), "{said}");
    assert!(running.stop().is_empty() && names(&directory).is_empty());
}

#[test]
fn a_peer_that_has_its_sessions_leaves_the_others_theirs() {
    let directory = scratch("reach-share");
    let limits = limits(|limits| (limits.connections, limits.per_peer) = (4, 2));
    let server = Server::new().directory(&directory).other_users(true).limits(limits);
    let running = run(server.listen(loopback()).unwrap(), None);
    let port = running.port.to_string();
    // Another user begins sessions and leaves them open.
    let script = r#"
        use IO::Socket::INET;
        my ($port, $hex) = @ARGV;
        my @all = map { my $socket = IO::Socket::INET->new(PeerAddr => "127.0.0.1",
            PeerPort => $port); print $socket pack("H*", $hex); $socket->flush; $socket } 1 .. 10;
        print "x"; STDOUT->flush; <STDIN>;
    "#;
    let hex: String = open(7).iter().map(|byte| format!("{byte:02x}")).collect();
    let mut other = Process::new("/usr/bin/perl")
        .args(["-MIO::Handle", "-e", script, &port, &hex])
        .uid(NOBODY)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    other.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    assert!(soon(|| running.metrics(|it| it.waiting == 8 && it.open == 2)));
    for pid in 20..24 {
        let mut socket = running.connect();
        socket.write_all(&store(pid)).unwrap();
        socket.read_exact(&mut [0; 5]).unwrap();
    }
    drop(other.stdin.take());
    other.wait().unwrap();
    let reports = running.stop();
    assert_eq!(reports.iter().filter(|report| report.result.is_ok()).count(), 4);
}

#[test]
fn served_users_leave_a_quarter_of_all_places_to_the_server_s_own() {
    let directory = scratch("reach-quarter");
    let limits = limits(|limits| (limits.connections, limits.per_peer, limits.waiting) = (4, 2, 8));
    let server = Server::new().directory(&directory).other_users(true).limits(limits);
    let running = run(server.listen(loopback()).unwrap(), None);
    // Two other users begin sessions and leave them open, and more have all their first header.
    let mut one = connect_as(65533, running.port, 2, &open(7));
    assert!(soon(|| running.metrics(|it| it.open == 2)));
    let mut two = connect_as(65534, running.port, 1, &open(8));
    assert!(soon(|| running.metrics(|it| it.open == 3)));
    one.extend(connect_as(65533, running.port, 20, &open(9)));
    two.extend(connect_as(65534, running.port, 20, &open(9)));
    for pid in 20..24 {
        let mut socket = running.connect();
        socket.write_all(&store(pid)).unwrap();
        socket.read_exact(&mut [0; 5]).unwrap();
    }
    assert!(soon(|| running.metrics(|it| it.waiting == 6 && it.open == 3 && it.done == 4)));
    assert_eq!(running.metrics(|it| it.displaced), 34);
    // The end of a connection that waits for its session is seen.
    one.truncate(2);
    two.truncate(1);
    assert!(soon(|| running.metrics(|it| it.waiting == 0)));
    assert_eq!(running.metrics(|it| (it.open, it.unused)), (3, 6));
    assert_eq!(running.stop().len(), 7);
}

#[test]
fn connections_of_the_server_s_user_that_wait_to_speak_displace_none_of_their_own() {
    let root = scratch("reach-own");
    let place = root.clone();
    let limits = limits(|limits| limits.waiting = 8);
    let server = Server::new().directories(move |n| place.join(n.to_string())).limits(limits);
    let running = run(server.other_users(true).listen(loopback()).unwrap(), None);
    let _strangers = connect_as(NOBODY, running.port, 4, &[]);
    assert!(soon(|| running.metrics(|it| it.waiting == 4)));
    // Dumps connect, and speak when their tasks are frozen. The last ones come in afterwards.
    let mut dumps: Vec<TcpStream> = (0..24).map(|_| running.connect()).collect();
    assert!(soon(|| running.metrics(|it| it.displaced == 4 && it.waiting == 8)));
    for (pid, socket) in dumps.iter_mut().enumerate() {
        socket.write_all(&store(u32::try_from(pid).unwrap())).unwrap();
        socket.read_exact(&mut [0; 5]).unwrap();
    }
    assert!(soon(|| running.metrics(|it| it.done == 24)));
    assert_eq!(running.metrics(|it| it.displaced), 4);
    running.stop();
}

#[test]
fn a_served_user_may_be_silent_for_as_long_as_the_server_s_own() {
    let directory = scratch("reach-patient");
    let limits = limits(|limits| limits.first = Duration::from_millis(100));
    let server = Server::new().directory(&directory).other_users(true).limits(limits);
    let running = run(server.listen(loopback()).unwrap(), Some(1));
    let mut silent = connect_as(NOBODY, running.port, 1, &[]);
    thread::sleep(Duration::from_millis(400));
    silent[0].write_all(&store(7)).unwrap();
    silent[0].read_exact(&mut [0; 5]).unwrap();
    drop(silent);
    assert!(running.thread.join().unwrap()[0].result.is_ok());
}

#[test]
fn a_silent_connection_ends_when_the_server_finishes() {
    let directory = scratch("reach-finish");
    let limits = limits(|limits| (limits.first, limits.idle) = (Duration::from_millis(100), None));
    let server = Server::new().directory(&directory).limits(limits).listen(loopback()).unwrap();
    let running = run(server, None);
    let mut silent = running.connect();
    assert!(soon(|| running.metrics(|it| it.waiting == 1)));
    running.handle.finish();
    assert!(matches!(silent.read(&mut [0]), Ok(0) | Err(_)));
    assert!(running.thread.join().unwrap().is_empty());
}

#[test]
fn directories_of_sessions_are_the_server_s_own_and_stay_if_they_are_of_use() {
    let (root, other) = (scratch("reach-each"), scratch("reach-each-other"));
    // Planted: a link, a link to nowhere, another user's directory, a file; one's own is fine.
    symlink(&other, root.join("0")).unwrap();
    symlink(other.join("new"), root.join("1")).unwrap();
    fs::create_dir(root.join("2")).unwrap();
    chown(root.join("2"), Some(NOBODY), None).unwrap();
    fs::write(root.join("3"), "").unwrap();
    fs::create_dir(root.join("4")).unwrap();
    let place = root.clone();
    let server = Server::new().directories(move |n| place.join(n.to_string()));
    let running = run(server.listen(loopback()).unwrap(), Some(6));
    for number in 0..6 {
        let mut socket = running.connect();
        // The last client breaks off.
        socket.write_all(if number < 5 { store(7) } else { open(7) }.as_slice()).unwrap();
        // Sessions that fail at once have ended their connections.
        _ = socket.shutdown(std::net::Shutdown::Write);
        _ = socket.read_to_end(&mut Vec::new());
    }
    let mut reports = running.thread.join().unwrap();
    reports.sort_by_key(|report| report.number);
    let ok: Vec<bool> = reports.iter().map(|report| report.result.is_ok()).collect();
    assert_eq!(ok, [false, false, false, false, true, false]);
    assert_eq!(names(&root), ["0", "1", "2", "3", "4"]);
    assert!(names(&other).is_empty() && names(root.join("2")).is_empty());
    assert_eq!(names(root.join("4")), ["pagemap-7.img", "pages-65537.img"]);
}

#[test]
fn a_session_that_panics_ends_alone() {
    let root = scratch("reach-panic");
    let place = root.clone();
    let directory = move |n: u64| match n {
        0..16 => panic!("a directory that cannot be named"),
        _ => place.join(n.to_string()),
    };
    let server = Server::new().directories(directory);
    let running = run(server.listen(loopback()).unwrap(), Some(17));
    for _ in 0..16 {
        let mut socket = running.connect();
        socket.write_all(&store(7)).unwrap();
        assert!(matches!(socket.read(&mut [0]), Ok(0) | Err(_)));
    }
    let mut socket = running.connect();
    socket.write_all(&store(7)).unwrap();
    socket.read_exact(&mut [0; 5]).unwrap();
    drop(socket);
    let reports = running.thread.join().unwrap();
    let lost = reports.iter().filter(|it| it.directory.is_none() && it.result.is_err());
    assert_eq!((reports.len(), lost.count()), (17, 16));
    assert_eq!(names(&root), ["16"]);
}

#[test]
fn a_server_without_descriptors_waits_for_some() {
    let limit = || setrlimit(Resource::RLIMIT_NOFILE, 64, 64).unwrap();
    if !in_own_process("a_server_without_descriptors_waits_for_some", limit) {
        return;
    }
    let directory = scratch("reach-descriptors");
    let server = Server::new().directory(&directory).listen(loopback()).unwrap();
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port())).unwrap();
    socket.write_all(&store(7)).unwrap();
    let mut taken: Vec<fs::File> = Vec::new();
    while let Ok(file) = fs::File::open("/dev/null") {
        taken.push(file);
    }
    let begun = Instant::now();
    let running = run(server, Some(1));
    let short = || running.handle.metrics().shortages;
    assert!(soon(|| short() >= 3), "it does not try again");
    // Once in a tenth of a second, and not as fast as it can.
    let (tried, time) = (short(), begun.elapsed());
    assert!(u128::from(tried) <= 1 + time.as_millis() / 100, "{tried} tries in {time:?}");
    let notices: Vec<String> = running.notices.try_iter().collect();
    let said = "cannot accept a connection now, and tries again: Too many open files";
    assert!(notices[0].starts_with(said), "{notices:?}");
    assert_eq!(notices.len(), 1, "{notices:?}");
    // One is enough to take the connection, and not to begin its session.
    drop(taken.pop());
    assert!(soon(|| running.handle.metrics().waiting == 1));
    drop(taken);
    socket.read_exact(&mut [0; 5]).unwrap();
    drop(socket);
    assert!(running.thread.join().unwrap()[0].result.is_ok());
}

#[test]
fn a_server_without_threads_waits_for_one() {
    if !in_own_process("a_server_without_threads_waits_for_one", || ()) {
        return;
    }
    let directory = scratch("reach-threads");
    let server = Server::new().directory(&directory).listen(loopback()).unwrap();
    let running = run(server, Some(1));
    // All that the server's own thread needs is there.
    drop(running.connect());
    assert!(soon(|| running.handle.metrics().unused + running.handle.metrics().refused == 1));
    running.notices.recv().unwrap();
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = pages.split(' ').next().unwrap().parse().unwrap();
    let (_, hard) = getrlimit(Resource::RLIMIT_AS).unwrap();
    // Less than the stack of a thread.
    setrlimit(Resource::RLIMIT_AS, pages * 4096 + (1 << 20), hard).unwrap();
    let mut socket = running.connect();
    socket.write_all(&store(7)).unwrap();
    let said = running.notices.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(said.starts_with("cannot begin a session now, and tries again: "), "{said}");
    assert_eq!(running.handle.metrics().waiting, 1);
    setrlimit(Resource::RLIMIT_AS, hard, hard).unwrap();
    socket.read_exact(&mut [0; 5]).unwrap();
    drop(socket);
    assert!(running.thread.join().unwrap()[0].result.is_ok());
    assert_eq!(names(&directory), ["pagemap-7.img", "pages-65537.img"]);
}

#[test]
fn a_client_that_opens_objects_without_end_takes_no_descriptors_from_others() {
    let limit = || setrlimit(Resource::RLIMIT_NOFILE, 64, 64).unwrap();
    let name = "a_client_that_opens_objects_without_end_takes_no_descriptors_from_others";
    if !in_own_process(name, limit) {
        return;
    }
    let root = scratch("reach-opens");
    let place = root.clone();
    let server = Server::new().directories(move |n| place.join(n.to_string()));
    let running = run(server.listen(loopback()).unwrap(), None);
    let mut greedy = running.connect();
    for pid in 0..600 {
        greedy.write_all(&open(pid)).unwrap();
        greedy.read_exact(&mut [0]).unwrap();
    }
    let mut socket = running.connect();
    socket.write_all(&store(7)).unwrap();
    socket.read_exact(&mut [0; 5]).unwrap();
    drop((socket, greedy));
    assert!(soon(|| running.handle.metrics().failed == 1));
    assert_eq!(running.stop().len(), 2);
    assert_eq!(names(&root), ["1"]);
}
