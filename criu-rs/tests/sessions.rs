//! The costs of a page server's session: time, bytes, objects, descriptors and memory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use criu_images::memory::{PageFlags, PageObject, PageSet, PageSize, PagemapWriter};
use criu_lab::{in_own_process, names, scratch};
use criu_rs::pages::proto::{LAZY, PRESENT, object_id};
use criu_rs::pages::{
    Capture, Client, Command, Header, Layout, Listening, Metrics, PagesError, Pool, Provider,
    Relay, Server, ServerLimits, SessionReport, Socket, Store,
};
use nix::sys::resource::{Resource, UsageWho, getrusage, setrlimit};
use nix::sys::socket::{Shutdown, shutdown};

const PAGE: u64 = 4096;
const BASE: u64 = 0x7f00_0000_0000;
const TASK: PageObject = PageObject::Task(7);
/// Pages of 4 TiB.
const ENDLESS: u64 = 1 << 30;
/// The most pages that a header can promise.
const MOST: u64 = (1 << 51) - 1;
const LIMIT: Duration = Duration::from_millis(400);
/// The time by which everything has ended that ends at [`LIMIT`].
const LATE: Duration = Duration::from_secs(8);

fn header(command: Command, flags: u16, pages: u64, address: u64, object: PageObject) -> Vec<u8> {
    let header = Header { command, flags, pages, address, id: object_id(object) };
    header.to_bytes(Layout::Wide).unwrap().to_vec()
}

fn open(object: PageObject) -> Vec<u8> {
    header(Command::Open2, 0, 0, 0, object)
}

fn close() -> Vec<u8> {
    header(Command::Close, 0, 0, 0, TASK)
}

fn limits(change: impl FnOnce(&mut ServerLimits)) -> ServerLimits {
    let mut limits = ServerLimits::default();
    change(&mut limits);
    limits
}

/// A running server: its report of one session, and its metrics at the end.
struct Running {
    port: u16,
    ended: mpsc::Receiver<(SessionReport, Metrics)>,
}

fn run(server: Server) -> Running {
    run_listening(server.listen("127.0.0.1:0".parse().unwrap()).unwrap())
}

fn run_listening(server: Listening) -> Running {
    let (port, (sender, ended)) = (server.port(), mpsc::channel());
    let handle = server.handle();
    thread::spawn(move || {
        let report = server.run(Some(1)).unwrap().remove(0);
        _ = sender.send((report, handle.metrics()));
    });
    Running { port, ended }
}

impl Running {
    fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).unwrap()
    }

    #[track_caller]
    fn end(&self) -> (SessionReport, Metrics) {
        self.ended.recv_timeout(LATE).expect("the session has ended")
    }
}

/// Sends `first`, and then a byte now and then, until the other end has gone, or for longer than
/// anything here may last.
fn trickle(mut socket: impl Write, first: &[u8]) {
    _ = socket.write_all(first);
    let begun = Instant::now();
    while begun.elapsed() < 2 * LATE && socket.write_all(&[7]).is_ok() {
        thread::sleep(LIMIT / 10);
    }
}

/// Sends all of a session, and takes the answers until the other end has gone.
fn send(mut socket: impl Read + Write + AsFd, bytes: &[u8]) {
    socket.write_all(bytes).unwrap();
    shutdown(socket.as_fd().as_raw_fd(), Shutdown::Write).unwrap();
    _ = socket.read_to_end(&mut Vec::new());
}

/// The beginning of a session whose run never ends. The pages of the first MiB are there, so that a
/// server treats the run as a long one.
fn endless() -> Vec<u8> {
    let run = header(Command::AddF, PRESENT, ENDLESS, BASE, TASK);
    [open(TASK), run, vec![7; 1 << 20]].concat()
}

#[test]
fn a_trickled_run_of_4_tib_ends_with_the_time_of_its_session() {
    let directory = scratch("sessions-trickled");
    let limits = limits(|limits| limits.total = LIMIT);
    for pooled in [false, true] {
        let server = Server::new().directory(&directory).limits(limits.clone());
        let server = if pooled { server.pool(Pool::new(4 << 20).unwrap()) } else { server };
        let running = run(server.clone());
        let socket = running.connect();
        thread::spawn(move || trickle(socket, &endless()));
        let (report, _) = running.end();
        let error = report.result.unwrap_err();
        assert_eq!(error.to_string(), "the session takes longer than allowed");
        let time = report.received.time;
        assert!(time >= LIMIT && time < LATE, "{time:?}");
        // The pages that came as a whole, if the busy machine let any come.
        assert!(report.received.pages < 400, "{:?}", report.received);
        // Over a unix socket.
        let (near, far) = UnixStream::pair().unwrap();
        let (sender, ended) = mpsc::channel();
        thread::spawn(move || trickle(far, &endless()));
        thread::spawn(move || sender.send(server.session(Socket::from(near))));
        let error = ended.recv_timeout(LATE).expect("the session has ended").unwrap_err();
        assert_eq!(error.to_string(), "the session takes longer than allowed");
        assert_eq!(names(&directory), [""; 0]);
    }
}

#[test]
fn a_trickled_page_is_as_slow_as_a_silent_client() {
    let directory = scratch("sessions-trickled-page");
    let limits = limits(|limits| limits.idle = Some(LIMIT));
    let page = header(Command::AddF, PRESENT, 1, BASE, TASK);
    let part = [&open(TASK), &open(TASK)[..5]].concat();
    for first in [endless(), [open(TASK), page].concat(), part] {
        let running = run(Server::new().directory(&directory).limits(limits.clone()));
        let socket = running.connect();
        thread::spawn(move || trickle(socket, &first));
        let error = running.end().0.result.unwrap_err().to_string();
        assert_eq!(error, "the next message takes longer than allowed");
        assert_eq!(names(&directory), [""; 0]);
    }
}

#[test]
fn a_trickled_capture_and_a_trickled_relay_end_at_their_deadlines() {
    let directory = scratch("sessions-capture");
    let page_server = TcpListener::bind("127.0.0.1:0").unwrap();
    let connect = || Client::connect(page_server.local_addr().unwrap(), Layout::Wide).unwrap();
    let pool = || Pool::new(4 << 20).unwrap();
    let captures =
        [Capture::new(pool(), &directory).unwrap(), Capture::to(pool(), connect()).unwrap()];
    for capture in captures {
        let begun = Instant::now();
        let capture = capture.deadline(LIMIT);
        let near = UnixStream::from(capture.as_fd().try_clone_to_owned().unwrap());
        trickle(near, &endless());
        let (pool, error) = capture.discard();
        assert!(matches!(error, Some(PagesError::Deadline(LIMIT))), "{error:?}");
        assert_eq!(pool.unwrap().size(), 4 << 20);
        let time = begun.elapsed();
        assert!(time >= LIMIT && time < LATE, "{time:?}");
    }
    assert_eq!(names(&directory), [""; 0]);

    let relay = Relay::connect(page_server.local_addr().unwrap()).unwrap();
    let mut far = page_server.incoming().nth(1).unwrap().unwrap();
    thread::spawn(move || std::io::copy(&mut far, &mut std::io::sink()));
    let begun = Instant::now();
    let relay = relay.deadline(LIMIT);
    trickle(UnixStream::from(relay.as_fd().try_clone_to_owned().unwrap()), &endless());
    assert!(matches!(relay.finish(), Err(PagesError::Deadline(LIMIT))));
    let time = begun.elapsed();
    assert!(time >= LIMIT && time < LATE, "{time:?}");
}

#[test]
fn a_relay_without_a_deadline_outlives_its_dump_by_seconds_only() {
    let page_server = TcpListener::bind("127.0.0.1:0").unwrap();
    let relay = Relay::connect(page_server.local_addr().unwrap()).unwrap();
    let _reads_nothing = page_server.accept().unwrap();
    let mut near = UnixStream::from(relay.as_fd().try_clone_to_owned().unwrap());
    near.set_write_timeout(Some(LIMIT)).unwrap();
    near.write_all(&vec![7; 64 << 20]).unwrap_err();
    // The dump has ended, and so has criu.
    drop(near);
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(relay.finish()));
    let result = ended.recv_timeout(2 * LATE).expect("the relay has ended");
    assert!(matches!(result, Err(PagesError::Socket { .. })), "{result:?}");
}

#[test]
fn a_client_that_reads_nothing_ends_with_the_time_of_its_session() {
    let root = scratch("sessions-unread");
    let directory = root.join("set");
    fs::create_dir(&directory).unwrap();
    let mut pagemap = PagemapWriter::new(
        fs::File::create(directory.join("pagemap-7.img")).unwrap(),
        1,
        PageSize::K4,
    )
    .unwrap();
    pagemap.run(BASE, 1 << 14, PageFlags::PRESENT).unwrap();
    pagemap.finish().unwrap();
    fs::File::create(directory.join("pages-1.img")).unwrap().set_len(PAGE << 14).unwrap();
    let limits = limits(|limits| (limits.total, limits.idle) = (LIMIT, None));
    // Pages that are never read, and answers.
    let get = GET.to_bytes(Layout::Wide).unwrap().repeat(1000);
    let asked = header(Command::Parent, 0, 0, 0, TASK).repeat(1 << 20);
    let store = root.join("store");
    fs::create_dir(&store).unwrap();
    let provider = Provider::new(&directory).limits(limits.clone());
    let server = Server::new().directory(&store).limits(limits);
    let listen = "127.0.0.1:0".parse().unwrap();
    let servers = [(provider.listen(listen), get), (server.listen(listen), asked)];
    for (server, asked) in servers {
        let running = run_listening(server.unwrap());
        let mut socket = running.connect();
        let reads_nothing = socket.try_clone().unwrap();
        thread::spawn(move || socket.write_all(&asked));
        let error = running.end().0.result.unwrap_err().to_string();
        assert_eq!(error, "the session takes longer than allowed");
        drop(reads_nothing);
    }
}

/// A request for all pages of task 7.
const GET: Header =
    Header { command: Command::Get, flags: 0, pages: 1 << 14, address: BASE, id: 7 };

#[test]
fn headers_without_pages_count_as_bytes_and_objects_are_limited() {
    let directory = scratch("sessions-headers");
    let mib = limits(|limits| limits.bytes = 1 << 20);
    let few = limits(|limits| limits.objects = 100);
    let lazy = |n: u64| header(Command::AddF, LAZY, 1, BASE + 2 * n * PAGE, TASK);
    let lazy: Vec<u8> = (0..1_500_000).flat_map(lazy).collect();
    let objects = |n: u32| open(PageObject::Task(n));
    let objects: Vec<u8> = (0..10_000).flat_map(objects).collect();
    let asked = header(Command::Parent, 0, 0, 0, TASK).repeat(40_000);
    let cases = [
        (mib.clone(), [open(TASK), lazy].concat(), "the peer sends more than 1048576 bytes"),
        (mib.clone(), asked, "the peer sends more than 1048576 bytes"),
        (few, objects, "the peer begins more than 100 objects"),
    ];
    for (limits, sent, said) in cases {
        let running = run(Server::new().directory(&directory).limits(limits));
        let mut socket = running.connect();
        let mut answers = socket.try_clone().unwrap();
        thread::spawn(move || std::io::copy(&mut answers, &mut std::io::sink()));
        _ = socket.write_all(&sent);
        let (report, metrics) = running.end();
        let error = report.result.unwrap_err().to_string();
        assert_eq!(error, format!("{said}, the limit"));
        // What the server had read at once.
        assert!(metrics.bytes <= 2 << 20 && metrics.bytes == report.received.came, "{metrics:?}");
        assert!(report.received.objects <= 100);
        assert_eq!(names(&directory), [""; 0]);
    }
    // The run is refused at its header: none of its pages has come, and none will.
    let run_of = |pages| header(Command::AddF, PRESENT, pages, BASE, TASK);
    for (pages, fits) in [(255, true), (256, false), (ENDLESS, false)] {
        let running = run(Server::new().directory(&directory).limits(mib.clone()));
        let mut socket = running.connect();
        socket.write_all(&[open(TASK), run_of(pages)].concat()).unwrap();
        let mut answer = [9];
        socket.read_exact(&mut answer).unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        let error = running.end().0.result.unwrap_err();
        match fits {
            true => assert!(matches!(error, PagesError::Gone(64)), "{error}"),
            false => assert!(matches!(error, PagesError::TooMuch(0x10_0000)), "{error}"),
        }
    }
}

#[test]
fn a_session_of_its_limit_is_taken_and_fetched_pages_count() {
    let directory = scratch("sessions-limit");
    let pages = header(Command::AddF, PRESENT, 3, BASE, TASK);
    let sent = [open(TASK), pages, vec![7; 3 * 4096], close()].concat();
    // The answers: one byte, and four.
    let all = sent.len() as u64 + 5;
    for (bytes, fits) in [(all, true), (all - 1, false)] {
        let root = directory.join(bytes.to_string());
        fs::create_dir(&root).unwrap();
        let limits = limits(|limits| limits.bytes = bytes);
        let running = run(Server::new().directory(&root).limits(limits));
        send(running.connect(), &sent);
        let (report, metrics) = running.end();
        assert_eq!(report.result.is_ok(), fits, "{:?}", report.result);
        assert_eq!(metrics.pages, 3);
        // A session that fails with its last answer leaves nothing, either.
        assert_eq!(names(&root).is_empty(), !fits);
    }
    let limits = limits(|limits| limits.bytes = 9000);
    let provider = Provider::new(directory.join(all.to_string())).limits(limits);
    let running = run_listening(provider.listen("127.0.0.1:0".parse().unwrap()).unwrap());
    let mut client = Client::connect(("127.0.0.1", running.port), Layout::Wide).unwrap();
    // As many as may be sent.
    assert_eq!(client.fetch(7, BASE, 3).unwrap().len(), 2 * 4096);
    assert!(client.fetch(7, BASE, 1).is_err());
    let (report, metrics) = running.end();
    assert!(matches!(report.result, Err(PagesError::TooMuchFetched(9000))), "{report:?}");
    assert_eq!((metrics.served, report.received.served), (2, 2));
}

#[test]
fn reports_say_what_came_and_not_what_was_promised() {
    let directory = scratch("sessions-reports");
    for pages in [1000, ENDLESS] {
        let running = run(Server::new().directory(&directory));
        let socket = running.connect();
        let run = header(Command::AddF, PRESENT, pages, BASE, TASK);
        let sent = [open(TASK), run, vec![7; 3 * 4096 + 100]].concat();
        send(socket, &sent);
        let (report, metrics) = running.end();
        let came = sent.len() as u64;
        assert!(matches!(report.result, Err(PagesError::Gone(bytes)) if bytes == came));
        let received = report.received;
        assert_eq!((received.objects, received.pages, received.came), (1, 3, came));
        assert_eq!((metrics.pages, metrics.bytes, metrics.failed), (3, came, 1));
    }
}

fn peak() -> i64 {
    getrusage(UsageWho::RUSAGE_SELF).unwrap().max_rss()
}

/// Sends objects of a page each, and reads the answers.
fn send_objects(socket: impl Read + Write, count: u32) -> i32 {
    let mut socket = socket;
    for pid in 1..=count {
        let object = PageObject::Task(pid);
        let run = header(Command::AddF, PRESENT, 1, BASE, object);
        let one = [open(object), run, u64::from(pid).to_le_bytes().repeat(512)].concat();
        socket.write_all(&one).unwrap();
        socket.read_exact(&mut [0]).unwrap();
    }
    socket.write_all(&close()).unwrap();
    let mut answer = [0; 4];
    socket.read_exact(&mut answer).unwrap();
    i32::from_ne_bytes(answer)
}

/// Asserts that a directory has the objects that [`send_objects`] sends.
#[track_caller]
fn has_objects(directory: &Path, count: u32) {
    let set = PageSet::open(directory, PageSize::K4).unwrap();
    assert_eq!(set.objects().unwrap().len(), count as usize);
    for pid in [1, 2, count / 2, count] {
        let stored = set.pages(PageObject::Task(pid)).unwrap().unwrap();
        let mut page = [0; 4096];
        criu_images::memory::PageSource::read_at(&stored, BASE, &mut page).unwrap();
        assert_eq!(page[..8], u64::from(pid).to_le_bytes());
    }
    assert_eq!(names(directory).len(), 2 * count as usize);
}

#[test]
fn five_thousand_objects_take_64_descriptors() {
    let limit = || setrlimit(Resource::RLIMIT_NOFILE, 64, 64).unwrap();
    if !in_own_process("five_thousand_objects_take_64_descriptors", limit) {
        return;
    }
    let directory = scratch("sessions-objects");
    let root = directory.clone();
    let server = Server::new().directories(move |n| root.join(n.to_string()));
    let server = server.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let (port, before) = (server.port(), peak());
    thread::scope(|scope| {
        scope.spawn(|| server.run(Some(1)).unwrap());
        assert_eq!(send_objects(TcpStream::connect(("127.0.0.1", port)).unwrap(), 5000), 0);
    });
    has_objects(&directory.join("0"), 5000);
    assert_eq!(fs::metadata(directory.join("0")).unwrap().mode() & 0o7777, 0o700);
    // 60 bytes an object, and the buffer.
    assert!(peak() - before < 8 << 10, "{} KiB", peak() - before);
    for (place, small) in [("durable", true), ("captured", false), ("pooled", false)] {
        let place = directory.join(place);
        fs::create_dir(&place).unwrap();
        // The pool of a capture is too small for all.
        let pool = || Pool::new(1 << 20).unwrap();
        if place.ends_with("captured") {
            let capture = Capture::new(pool(), &place).unwrap();
            let near = UnixStream::from(capture.as_fd().try_clone_to_owned().unwrap());
            assert_eq!(send_objects(near, 300), 0);
            assert_eq!(capture.write().wait().1.unwrap().objects, 300);
            has_objects(&place, 300);
            continue;
        }
        let server = Server::new().directory(&place).durable(small);
        let server = if small { server } else { server.pool(pool()) };
        let (near, far) = UnixStream::pair().unwrap();
        let sent = thread::spawn(move || send_objects(far, 300));
        assert_eq!(server.session(Socket::from(near)).unwrap().objects, 300);
        assert_eq!(sent.join().unwrap(), 0);
        has_objects(&place, 300);
    }
}

#[test]
fn sessions_that_want_more_descriptors_than_there_are_wait_for_each_other() {
    let limit = || setrlimit(Resource::RLIMIT_NOFILE, 128, 128).unwrap();
    let name = "sessions_that_want_more_descriptors_than_there_are_wait_for_each_other";
    if !in_own_process(name, limit) {
        return;
    }
    let directory = scratch("sessions-shortage");
    let root = directory.clone();
    let server = Server::new().directories(move |n| root.join(n.to_string())).durable(true);
    let server = server.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = server.port();
    let running = thread::spawn(move || server.run(Some(16)).unwrap());
    let connect = |_| TcpStream::connect(("127.0.0.1", port)).unwrap();
    let all: Vec<TcpStream> = (0..16).map(connect).collect();
    let sent: Vec<_> =
        all.into_iter().map(|socket| thread::spawn(|| send_objects(socket, 50))).collect();
    for report in running.join().unwrap() {
        assert_eq!(report.result.unwrap().objects, 50);
        has_objects(&report.directory.unwrap(), 50);
    }
    assert!(sent.into_iter().all(|sent| sent.join().unwrap() == 0));
}

#[test]
fn pages_of_a_thousand_tasks_are_fetched_with_64_descriptors() {
    let limit = || setrlimit(Resource::RLIMIT_NOFILE, 64, 64).unwrap();
    if !in_own_process("pages_of_a_thousand_tasks_are_fetched_with_64_descriptors", limit) {
        return;
    }
    let directory = scratch("sessions-fetched");
    let (near, far) = UnixStream::pair().unwrap();
    let server = Server::new().directory(&directory);
    let session = thread::spawn(move || server.session(Socket::from(near)));
    assert_eq!(send_objects(far, 1000), 0);
    session.join().unwrap().unwrap();
    let (near, far) = UnixStream::pair().unwrap();
    let provider = Provider::new(&directory);
    let session = thread::spawn(move || provider.session(Socket::from(near)));
    let mut client = Client::new(far.into(), Layout::Wide);
    for pid in (1..=1000).chain([1, 1000, 1]) {
        assert_eq!(client.fetch(pid, BASE, 1).unwrap()[..8], u64::from(pid).to_le_bytes());
    }
    client.close().unwrap();
    assert_eq!(session.join().unwrap().unwrap().served, 1003);
}

#[test]
fn promises_of_pages_are_counted_up_to_the_largest_number() {
    let directory = scratch("sessions-promises");
    let running = run(Server::new().directory(&directory));
    // All addresses of a task, for so many tasks that their pages together have no number.
    let promise = |pid| {
        let object = PageObject::Task(pid);
        [open(object), header(Command::AddF, LAZY, MOST, 0, object)].concat()
    };
    let sent: Vec<u8> =
        (1..=u32::try_from(u64::MAX / MOST).unwrap() + 2).flat_map(promise).collect();
    send(running.connect(), &sent);
    let (report, metrics) = running.end();
    assert_eq!((report.received.holes, report.received.lazy), (0, u64::MAX));
    assert_eq!((metrics.holes, metrics.pages), (0, 0));
}

#[test]
fn a_million_headers_without_pages_take_no_memory() {
    if !in_own_process("a_million_headers_without_pages_take_no_memory", || ()) {
        return;
    }
    let directory = scratch("sessions-memory");
    for pooled in [false, true] {
        let server = Server::new().directory(&directory);
        let server = if pooled { server.pool(Pool::new(1 << 20).unwrap()) } else { server };
        let running = run(server);
        let mut socket = running.connect();
        socket.write_all(&open(TASK)).unwrap();
        let before = peak();
        for n in 0..1_500_000 {
            socket.write_all(&header(Command::AddF, LAZY, 1, BASE + 2 * n * PAGE, TASK)).unwrap();
        }
        send(socket, &[]);
        let (report, _) = running.end();
        assert_eq!((report.received.holes, report.received.lazy), (0, 1_500_000));
        assert!(peak() - before < 3 << 10, "{} KiB", peak() - before);
        assert_eq!(names(&directory), [""; 0]);
    }
}

#[test]
fn objects_end_in_linear_time() {
    if !in_own_process("objects_end_in_linear_time", || ()) {
        return;
    }
    let directory = scratch("sessions-linear");
    // The time of this program's own code, without the system's calls.
    let own = || {
        let time = getrusage(UsageWho::RUSAGE_SELF).unwrap().user_time();
        Duration::from_micros(u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap())
    };
    // Four times the objects take four times as long, and not 16 times. A busy machine only adds to
    // a time, so the shortest time of each size counts.
    let mut least = [Duration::MAX; 2];
    let is_linear = (0..8).any(|round| {
        for (least, count) in least.iter_mut().zip([2000, 8000]) {
            let place = directory.join(format!("{count}-{round}"));
            fs::create_dir(&place).unwrap();
            let before = own();
            let mut store = Store::open(&place).unwrap();
            for pid in 1..=count {
                store.begin(PageObject::Task(pid)).unwrap();
            }
            store.finish().unwrap();
            *least = own().saturating_sub(before).min(*least);
            assert_eq!(names(&place).len(), 2 * count as usize);
            fs::remove_dir_all(&place).unwrap();
        }
        least[1] < 9 * least[0].max(Duration::from_millis(50))
    });
    assert!(is_linear, "{least:?}");
}

#[test]
fn space_in_the_parent_set_is_freed_only_after_the_session_and_in_the_file_that_was_read() {
    let root = scratch("sessions-dedup");
    let (before, now) = (root.join("before"), root.join("now"));
    let other = root.join("other");
    fs::write(&other, vec![1; 4 * 4096]).unwrap();
    let set = || {
        for directory in [&before, &now] {
            _ = fs::remove_dir_all(directory);
            fs::create_dir(directory).unwrap();
        }
        symlink("../before", now.join("parent")).unwrap();
        let file = fs::File::create(before.join("pagemap-7.img")).unwrap();
        let mut pagemap = PagemapWriter::new(file, 1, PageSize::K4).unwrap();
        pagemap.run(BASE, 4, PageFlags::PRESENT).unwrap();
        pagemap.finish().unwrap();
        fs::write(before.join("pages-1.img"), vec![2; 4 * 4096]).unwrap();
    };
    let blocks = |path: &Path| fs::metadata(path).unwrap().blocks();
    let begin = |pages: usize| {
        let (near, mut far) = UnixStream::pair().unwrap();
        let server = Server::new().directory(&now).auto_dedup(true);
        let session = thread::spawn(move || server.session(Socket::from(near)));
        let run = header(Command::AddF, PRESENT, 4, BASE, TASK);
        far.write_all(&[open(TASK), run, vec![3; pages * 4096]].concat()).unwrap();
        far.read_exact(&mut [0]).unwrap();
        (far, session)
    };
    // A client that promises pages and sends them, and does not close, destroys nothing.
    for pages in [0, 4] {
        set();
        let whole = blocks(&before.join("pages-1.img"));
        let (far, session) = begin(pages);
        drop(far);
        session.join().unwrap().unwrap_err();
        assert_eq!(blocks(&before.join("pages-1.img")), whole);
        assert_eq!(names(&now), ["parent"]);
    }
    // A link in place of the parent's pages file.
    set();
    let whole = blocks(&other);
    let (mut far, session) = begin(4);
    fs::remove_file(before.join("pages-1.img")).unwrap();
    symlink(&other, before.join("pages-1.img")).unwrap();
    far.write_all(&close()).unwrap();
    session.join().unwrap().unwrap_err();
    assert_eq!(blocks(&other), whole);
    assert_eq!(names(&now), ["parent"]);
}

#[test]
fn a_directory_that_is_swapped_gets_nothing() {
    let root = scratch("sessions-swapped");
    let (directory, moved, other) = (root.join("images"), root.join("moved"), root.join("other"));
    fs::create_dir(&directory).unwrap();
    fs::create_dir(&other).unwrap();
    let (near, mut far) = UnixStream::pair().unwrap();
    let server = Server::new().directory(&directory).pool(Pool::new(1 << 20).unwrap());
    let session = thread::spawn(move || server.session(Socket::from(near)));
    far.write_all(&open(TASK)).unwrap();
    far.read_exact(&mut [0]).unwrap();
    fs::rename(&directory, &moved).unwrap();
    symlink(&other, &directory).unwrap();
    // A planted link at the name of the next pages file.
    symlink(other.join("victim"), moved.join("pages-65538.img")).unwrap();
    assert_eq!(send_objects(far, 9), 0);
    session.join().unwrap().unwrap();
    assert_eq!(names(&other), [""; 0]);
    let found = names(&moved);
    assert_eq!(found.len(), 19, "{found:?}");
    for name in found.iter().filter(|name| *name != "pages-65538.img") {
        assert_eq!(fs::metadata(moved.join(name)).unwrap().mode() & 0o7777, 0o600);
    }
}
