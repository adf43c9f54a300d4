//! Page servers as a source.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use criu_lab::place::Short;
use criu_lab::scratch;
use criu_rs::lazy::{LazyError, Reader, Remote, RemotePages, Snapshot, Supply, Urgency, Wanted};
use criu_rs::pages::proto::PRESENT as STORED;
use criu_rs::pages::{
    Command, Handle, Header, Layout, Listening, PagesError, Provider, ServerLimits, SessionReport,
    Socket,
};

use crate::set::{
    BASE, LAZY, PAGE, PRESENT, addresses, page, pagemap, pages, read, run, tasks, vma,
};

/// The pages of task 7 come later, in two runs of 512 pages; others never.
fn set(name: &str) -> (PathBuf, Arc<Snapshot>) {
    let dir = scratch(name);
    tasks(&dir, &[(7, vec![vma(BASE, 2048)]), (9, vec![vma(BASE, 4)])], &[]);
    let lazy = PRESENT | LAZY;
    pagemap(&dir, 7, &[run(at(0), 512, lazy), run(at(600), 8, PRESENT), run(at(700), 512, lazy)]);
    let all = addresses(at(0), 512).chain(addresses(at(600), 8)).chain(addresses(at(700), 512));
    pages(&dir, 7, all);
    pagemap(&dir, 9, &[run(at(0), 4, lazy)]);
    pages(&dir, 9, addresses(at(0), 4));
    let snapshot = Arc::new(Snapshot::open(&dir).unwrap());
    (dir, snapshot)
}

fn at(page: u64) -> u64 {
    BASE + page * PAGE
}

fn some(start: u64, count: u64) -> Vec<u8> {
    addresses(start, count).flat_map(page).collect()
}

type Running = JoinHandle<Vec<SessionReport>>;

fn run_server(listening: Listening) -> (Handle, Running) {
    let handle = listening.handle();
    (handle, thread::spawn(move || listening.run(None).unwrap()))
}

/// Reads all pages of a run as a handler fills them: with requests that are announced.
fn fill(reader: &mut dyn Reader, mut address: u64, end: u64) {
    let (mut announced, mut next) = (VecDeque::new(), address);
    while address < end {
        while next < end && announced.len() < reader.depth() {
            let pages = ((end - next) / PAGE).min(reader.most()).min(32);
            let wanted = Wanted { pid: 7, address: next, pages };
            reader.announce(wanted).unwrap();
            announced.push_back(wanted);
            next += pages * PAGE;
        }
        let wanted = announced.pop_front().unwrap();
        assert_eq!(wanted.address, address);
        let found = reader.read(wanted).unwrap();
        let size = found.size();
        let mut bytes = vec![0xee; usize::try_from(size).unwrap()];
        found.read_at(0, &mut bytes).unwrap();
        assert!(bytes == some(address, size / PAGE), "{address:x}");
        address += size;
        // The server has cut the request: the rest comes now, and what was announced, again.
        let rest = wanted.pages - size / PAGE;
        if rest > 0 {
            assert!(read(reader, 7, address, rest).unwrap() == some(address, rest));
            address += rest * PAGE;
            announced.clear();
            next = address;
        }
    }
}

/// Reads everything from several threads at once.
fn all_pages_come(source: &RemotePages) {
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut reader = source.reader(Urgency::Background).unwrap();
            for _ in 0..2 {
                fill(&mut *reader, at(0), at(512));
                fill(&mut *reader, at(700), at(1212));
            }
        });
        for thread in 0..2u64 {
            scope.spawn(move || {
                let mut reader = source.reader(Urgency::Fault).unwrap();
                for step in 0..300 {
                    let page = (step * 37 + thread * 101) % 512;
                    let page = if step % 2 == 0 { page } else { 700 + page };
                    let count = 1 + step % 3;
                    let found = reader.read(Wanted { pid: 7, address: at(page), pages: count });
                    let found = found.unwrap();
                    let mut bytes = vec![0xee; usize::try_from(found.size()).unwrap()];
                    found.read_at(0, &mut bytes).unwrap();
                    assert!((1..=count).contains(&(found.size() / PAGE)));
                    assert!(bytes == some(at(page), found.size() / PAGE));
                }
                assert_eq!(read(&mut *reader, 9, at(0), 4).unwrap(), some(at(0), 4));
            });
        }
    });
}

/// Only pages that the restore leaves out are asked for.
fn others_are_never_asked_for(source: &RemotePages) {
    let mut reader = source.reader(Urgency::Fault).unwrap();
    for (pid, address) in [(7, at(512)), (7, at(600)), (7, at(699)), (8, at(0)), (7, at(1) + 1)] {
        match reader.read(Wanted { pid, address, pages: 1 }) {
            Err(LazyError::NoPage { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(read(&mut *reader, 7, at(511), 1).unwrap(), page(at(511)));
}

#[test]
fn every_thread_has_a_connection_to_our_server() {
    let (dir, snapshot) = set("lazy-ours");
    let folder = Short::folder();
    let unix = folder.join("socket");
    let tcp = Provider::new(&dir).listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = format!("127.0.0.1:{}", tcp.port());
    let servers = [run_server(tcp), run_server(Provider::new(&dir).listen_unix(&unix).unwrap())];
    for remote in [Remote::tcp(&address), Remote::unix(&unix), Remote::tcp(address)] {
        let source = remote.open(Arc::clone(&snapshot)).unwrap();
        assert!(!source.is_shared());
        all_pages_come(&source);
        others_are_never_asked_for(&source);
        assert_eq!(source.retries(), 0);
        source.close().unwrap();
    }
    for (handle, running) in servers {
        handle.finish();
        let reports = running.join().unwrap();
        assert!(reports.len() >= 3, "{reports:?}");
        for report in reports {
            assert!(report.result.is_ok(), "{report}");
        }
    }
}

#[cfg(feature = "tls")]
#[test]
fn pages_come_over_tls_on_one_connection_and_on_several() {
    let (dir, snapshot) = set("lazy-tls");
    let folder = dir.join("certificates");
    std::fs::create_dir(&folder).unwrap();
    let signed = criu_lab::certs::Authority::new(&folder).sign_for_loopback(1);
    let tls = criu_rs::Tls::new().ca(signed.ca).certificate(signed.certificate).key(signed.key);
    let server = Provider::new(&dir).tls(&tls, "127.0.0.1").unwrap();
    let server = server.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = server.port();
    let (handle, running) = run_server(server);
    for one in [false, true] {
        let remote = Remote::tls("127.0.0.1", port, &tls).one_connection(one);
        let source = remote.open(Arc::clone(&snapshot)).unwrap();
        assert_eq!(source.is_shared(), one);
        all_pages_come(&source);
        source.close().unwrap();
    }
    // Without a certificate of the authority nothing comes.
    let folder = dir.join("others");
    std::fs::create_dir(&folder).unwrap();
    let other = criu_lab::certs::Authority::new(&folder).sign_for_loopback(2);
    let other = criu_rs::Tls::new().ca(other.ca).certificate(other.certificate).key(other.key);
    let error = Remote::tls("127.0.0.1", port, &other).open(snapshot).unwrap_err();
    assert!(matches!(error, LazyError::Source(_)), "{error}");
    handle.finish();
    for report in running.join().unwrap() {
        assert!(report.result.is_ok(), "{report}");
    }
}

#[test]
fn connections_to_our_server_are_made_again() {
    let (dir, snapshot) = set("lazy-again");
    let folder = Short::folder();
    let unix = folder.join("socket");
    let mut limits = ServerLimits::default();
    limits.idle = Some(Duration::from_millis(500));
    let start =
        || run_server(Provider::new(&dir).limits(limits.clone()).listen_unix(&unix).unwrap());
    let (handle, running) = start();
    let source = Remote::unix(&unix).retry_for(Duration::from_secs(2)).open(snapshot).unwrap();
    let mut fault = source.reader(Urgency::Fault).unwrap();
    let mut filling = source.reader(Urgency::Background).unwrap();
    assert_eq!(read(&mut *fault, 7, at(3), 2).unwrap(), some(at(3), 2));
    // The server has ended the silent connections.
    thread::sleep(Duration::from_millis(900));
    assert_eq!(read(&mut *fault, 7, at(5), 2).unwrap(), some(at(5), 2));
    fill(&mut *filling, at(0), at(100));
    assert!(source.retries() >= 2, "{}", source.retries());
    // The server is gone, and comes back a little later. Announced requests are sent again.
    for page in [200, 210, 220] {
        filling.announce(Wanted { pid: 7, address: at(page), pages: 2 }).unwrap();
    }
    handle.stop();
    running.join().unwrap();
    std::fs::remove_file(&unix).unwrap();
    let later = thread::scope(|scope| {
        let later = scope.spawn(|| {
            thread::sleep(Duration::from_millis(200));
            start()
        });
        assert_eq!(read(&mut *fault, 7, at(7), 1).unwrap(), page(at(7)));
        for page in [200, 210, 220] {
            assert_eq!(read(&mut *filling, 7, at(page), 2).unwrap(), some(at(page), 2));
        }
        later.join().unwrap()
    });
    // The announced requests may have been answered before the server ended.
    assert!(source.retries() >= 3, "{}", source.retries());
    // Not for ever.
    later.0.stop();
    later.1.join().unwrap();
    let begun = Instant::now();
    let error = fault.read(Wanted { pid: 7, address: at(9), pages: 1 }).unwrap_err();
    assert!(matches!(error, LazyError::Source(PagesError::Socket { .. })), "{error}");
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[test]
fn readers_that_end_leave_no_connection_and_no_answer_behind() {
    let (dir, snapshot) = set("lazy-readers");
    let folder = Short::folder();
    let unix = folder.join("socket");
    let (handle, running) = run_server(Provider::new(&dir).listen_unix(&unix).unwrap());
    let (criu, served) = like_criu(&dir, Layout::Wide, usize::MAX, Does::Ends);
    for remote in [Remote::unix(&unix), Remote::tcp(criu)] {
        let source = remote.open(Arc::clone(&snapshot)).unwrap();
        for round in 0..200 {
            let mut reader = source.reader(Urgency::Background).unwrap();
            assert_eq!(read(&mut *reader, 7, at(round), 1).unwrap(), page(at(round)));
            if round % 10 == 0 {
                reader.announce(Wanted { pid: 7, address: at(round), pages: 8 }).unwrap();
            }
        }
        source.close().unwrap();
    }
    assert_eq!(served.join().unwrap(), End::Closed);
    handle.finish();
    // Only connections with an answer on its way are given up.
    let reports = running.join().unwrap();
    assert!(reports.len() <= 22, "{} connections", reports.len());
}

#[test]
fn a_session_is_closed_while_answers_are_on_their_way() {
    let (dir, snapshot) = set("lazy-closed");
    for _ in 0..50 {
        let (criu, served) = like_criu(&dir, Layout::Wide, usize::MAX, Does::Ends);
        let source = Remote::tcp(criu).one_connection(true).open(Arc::clone(&snapshot)).unwrap();
        let mut reader = source.reader(Urgency::Background).unwrap();
        for page in 0..8 {
            reader.announce(Wanted { pid: 7, address: at(page), pages: 1 }).unwrap();
        }
        thread::scope(|scope| {
            scope.spawn(|| {
                for page in 0..8 {
                    assert_eq!(read(&mut *reader, 7, at(page), 1).unwrap(), some(at(page), 1));
                }
            });
            source.close().unwrap();
        });
        // Nothing can be asked any more.
        assert!(reader.read(Wanted { pid: 7, address: at(9), pages: 1 }).is_err());
        assert_eq!(served.join().unwrap(), End::Closed);
    }
}

#[test]
fn neighbours_of_a_distant_page_come_when_pages_are_touched_in_order() {
    let (dir, snapshot) = set("lazy-neighbours");
    let folder = Short::folder();
    let unix = folder.join("socket");
    let tcp = Provider::new(&dir).listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = format!("127.0.0.1:{}", tcp.port());
    let servers = [run_server(tcp), run_server(Provider::new(&dir).listen_unix(&unix).unwrap())];
    for (remote, alone) in [(Remote::tcp(address), 1), (Remote::unix(unix), 16)] {
        let source = remote.open(Arc::clone(&snapshot)).unwrap();
        let mut reader = source.reader(Urgency::Fault).unwrap();
        let mut count = |page: u64| {
            let wanted = Wanted { pid: 7, address: at(page), pages: 16 };
            reader.read(wanted).unwrap().size() / PAGE
        };
        assert_eq!([count(0), count(100), count(50)], [alone; 3]);
        let next = 50 + alone;
        assert_eq!([count(next), count(next + 16), count(500)], [16, 16, alone.min(12)]);
    }
    for (handle, running) in servers {
        handle.stop();
        running.join().unwrap();
    }
}

/// The answer of a scripted server to a request.
#[derive(Clone, Copy, Debug)]
enum Does {
    /// Answers with all pages, or with so many.
    Answers(u64),
    /// Says nothing.
    Stalls,
    /// Sends a byte now and then.
    Trickles,
    /// Sends this header, and pages for ever.
    Lies { command: Command, flags: u16, pages: u64, address: u64, id: u64 },
    /// Sends bytes that are no header.
    Raves,
    /// Ends the connection.
    Ends,
}

/// The end of a scripted session, and the number of connections that came.
#[derive(Debug, Eq, PartialEq)]
enum End {
    Closed,
    Gone,
    Wrong(u32),
}

/// A server that accepts one connection, like CRIU's. It answers `well` requests, and does
/// something else with the next one.
fn like_criu(dir: &Path, layout: Layout, well: usize, then: Does) -> (String, JoinHandle<End>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let dir = dir.to_owned();
    let running = thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        drop(listener);
        serve(socket, &dir, layout, well, then)
    });
    (address, running)
}

fn serve(mut socket: TcpStream, dir: &Path, layout: Layout, well: usize, then: Does) -> End {
    let snapshot = Snapshot::open(dir).unwrap();
    for request in 0.. {
        let mut head = [0; 32];
        let size = layout.size();
        if socket.read_exact(&mut head[..size]).is_err() {
            return End::Gone;
        }
        let header = match Header::parse(layout, &head) {
            Ok(header) => header,
            Err(word) => return End::Wrong(word),
        };
        if header.command == Command::Close {
            socket.write_all(&[0; 4]).unwrap();
            return End::Closed;
        }
        assert_eq!(header.command, Command::Get);
        let Header { pages, address, id, .. } = header;
        // CRIU's server would die.
        let task = snapshot.task(u32::try_from(id).unwrap()).unwrap();
        let run = task.missing().iter().find(|range| range.contains(&address)).unwrap();
        assert!(address + pages * PAGE <= run.end);
        let does = if request < well { Does::Answers(3 + request as u64 % 7) } else { then };
        let answer = Header { command: Command::AddF, flags: STORED, ..header };
        let mut say = |header: Header, bytes: &[u8]| {
            let head = header.to_bytes(layout).unwrap();
            let _ = socket.write_all(&[&head[..size], bytes].concat());
        };
        match does {
            Does::Answers(most) => {
                let pages = pages.min(most);
                say(Header { pages, ..answer }, &some(address, pages));
            }
            Does::Stalls => thread::sleep(Duration::from_secs(3)),
            Does::Trickles => {
                for byte in answer.to_bytes(layout).unwrap().into_iter().take(30) {
                    thread::sleep(Duration::from_millis(100));
                    let _ = socket.write_all(&[byte]);
                }
            }
            Does::Lies { command, flags, pages, address, id } => {
                say(Header { command, flags, pages, address, id }, &[1; 100_000]);
            }
            Does::Raves => {
                let _ = socket.write_all(&[0xa5; 100_000]);
            }
            Does::Ends => return End::Gone,
        }
    }
    End::Gone
}

#[test]
fn all_threads_share_the_connection_to_a_server_of_criu() {
    let (dir, snapshot) = set("lazy-criu");
    for layout in Layout::ALL {
        let (address, running) = like_criu(&dir, layout, usize::MAX, Does::Ends);
        let source = Remote::tcp(address).layout(layout).open(Arc::clone(&snapshot)).unwrap();
        assert!(source.is_shared());
        all_pages_come(&source);
        others_are_never_asked_for(&source);
        source.close().unwrap();
        drop(source);
        assert_eq!(running.join().unwrap(), End::Closed);
    }
}

#[test]
fn the_images_tell_the_layout_of_criu() {
    let (dir, snapshot) = set("lazy-layout");
    assert_eq!(snapshot.layout(), Layout::Wide);
    let (address, running) = like_criu(&dir, Layout::Wide, usize::MAX, Does::Ends);
    let source = Remote::tcp(address).open(snapshot).unwrap();
    drop(source);
    // A source that is not closed has failed: the dump must not take the end for success.
    assert_eq!(running.join().unwrap(), End::Wrong(u32::MAX));
}

#[test]
fn servers_that_lie_or_stall_are_errors_in_time() {
    let (dir, snapshot) = set("lazy-hostile");
    let lie =
        |command, flags, pages, address, id| Does::Lies { command, flags, pages, address, id };
    let add = |pages, address, id| lie(Command::AddF, 4, pages, address, id);
    let scripts = [
        (add(0, at(20), 7), "the answer has 0 pages"),
        (add(3, at(20), 7), "the answer has 3 pages of 7 at"),
        (add(u64::MAX, at(20), 7), "the answer has 18446744073709551615 pages"),
        (add(1, at(21), 7), "wanted 2 or fewer of 7 at 0x7f0000014000"),
        (add(1, at(20), 9), "the answer has 1 pages of 9"),
        (lie(Command::AddF, 2, 1, at(20), 7), "the answer has 1 pages of 7"),
        (lie(Command::Get, 4, 1, at(20), 7), "the answer has 1 pages of 7"),
        (Does::Raves, "unknown command 0xa5a5a5a5"),
        (Does::Ends, "the page server ends the connection without an answer"),
        (Does::Stalls, "the answer of the page server takes longer than allowed"),
        (Does::Trickles, "the answer of the page server takes longer than allowed"),
    ];
    thread::scope(|scope| {
        for (does, said) in scripts {
            let (dir, snapshot) = (&dir, Arc::clone(&snapshot));
            scope.spawn(move || {
                // The first request is the one of `open`.
                let (address, running) = like_criu(dir, Layout::Wide, 2, does);
                let source = Remote::tcp(address).timeout(Duration::from_secs(1));
                let source = source.open(snapshot).unwrap();
                let mut reader = source.reader(Urgency::Background).unwrap();
                assert_eq!(read(&mut *reader, 7, at(1), 1).unwrap(), page(at(1)));
                let begun = Instant::now();
                let error = reader.read(Wanted { pid: 7, address: at(20), pages: 2 }).unwrap_err();
                assert!(error.to_string().contains(said), "{does:?}: {error}");
                assert!(begun.elapsed() < Duration::from_millis(2500), "{does:?}");
                // The connection is not made again, and every reader learns why.
                let mut other = source.reader(Urgency::Fault).unwrap();
                let error = other.read(Wanted { pid: 7, address: at(30), pages: 2 }).unwrap_err();
                assert!(error.to_string().contains(said), "{does:?}: {error}");
                assert!(source.close().is_err(), "{does:?}");
                drop((reader, other));
                drop(source);
                assert_ne!(running.join().unwrap(), End::Closed);
            });
        }
    });
}

#[test]
fn a_connection_on_which_nothing_comes_any_more_is_made_again() {
    let (dir, snapshot) = set("lazy-stalled");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // Each connection answers once. The next request of the first two is lost on its way.
    let serving = thread::spawn(move || {
        let accept = |well: usize| {
            let (socket, dir) = (listener.accept().unwrap().0, dir.clone());
            thread::spawn(move || serve(socket, &dir, Layout::Wide, well, Does::Stalls))
        };
        let all = [1, 1, usize::MAX].map(accept);
        all.map(|serving| serving.join().unwrap())
    });
    let remote = Remote::tcp(address).timeout(Duration::from_millis(300));
    let source = remote.open(snapshot).unwrap();
    assert!(!source.is_shared());
    let mut reader = source.reader(Urgency::Fault).unwrap();
    assert_eq!(read(&mut *reader, 7, at(3), 1).unwrap(), page(at(3)));
    assert_eq!(source.retries(), 1);
    drop(reader);
    drop(source);
    assert_eq!(serving.join().unwrap(), [End::Gone, End::Gone, End::Gone]);
}

#[test]
fn a_server_that_is_not_there_or_silent_is_an_error_of_open() {
    let (dir, snapshot) = set("lazy-nobody");
    let error = Remote::unix(dir.join("none")).open(Arc::clone(&snapshot)).unwrap_err();
    assert!(matches!(error, LazyError::Source(PagesError::Socket { .. })), "{error}");
    let (ours, theirs) = UnixStream::pair().unwrap();
    let begun = Instant::now();
    let remote = Remote::socket(Socket::from(ours)).timeout(Duration::from_millis(300));
    let error = remote.open(Arc::clone(&snapshot)).unwrap_err();
    assert!(matches!(error, LazyError::Source(PagesError::TimedOut(_))), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(2));
    drop(theirs);
    // Accepts every connection, and answers over the first alone.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = thread::spawn(move || {
        let (first, _) = listener.accept().unwrap();
        // The second one waits in the queue of the listener.
        let end = serve(first, &dir, Layout::Wide, usize::MAX, Does::Ends);
        drop(listener);
        end
    });
    let source = Remote::tcp(address).open(snapshot).unwrap();
    assert!(source.is_shared());
    all_pages_come(&source);
    source.close().unwrap();
    assert_eq!(serving.join().unwrap(), End::Closed);
}
