//! A page server whose client sends arbitrary bytes.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;
use std::{fs, thread};

use criu_images::memory::{PageSet, PageSource};
use criu_rs::pages::{Layout, PageSession, PageStep, Server, ServerLimits, Socket, page_size};

/// Runs a session. The first byte chooses the layout, and whether a real server gets all bytes.
pub fn run(data: &[u8]) {
    let Some((&how, bytes)) = data.split_first() else { return };
    let layout = match how % 3 {
        0 => None,
        1 => Some(Layout::Narrow),
        _ => Some(Layout::Wide),
    };
    let whole = steps(layout, bytes, usize::MAX);
    // Whatever pieces the bytes come in, they ask for the same.
    let piece = usize::from(how / 3 % 8) * 5 + 1;
    assert_eq!(whole, steps(layout, bytes, piece), "in pieces of {piece}");
    if how >= 0xf0 {
        served(layout, bytes);
    }
}

/// Requests of a session, with the bytes of runs joined, and the end of the session.
fn steps(layout: Option<Layout>, bytes: &[u8], piece: usize) -> (Vec<PageStep>, u64, String) {
    let mut session = PageSession::new(layout);
    let (mut steps, mut payload) = (Vec::new(), 0);
    let (mut at, mut end) = (0, piece.min(bytes.len()));
    loop {
        let (taken, step) = match session.next(&bytes[at..end]) {
            Ok(next) => next,
            Err(error) => return (steps, payload, error.to_string()),
        };
        assert!(at + taken <= end, "it takes what there is");
        at += taken;
        match step {
            PageStep::Payload(size) => {
                assert_eq!(size, taken);
                payload += size as u64;
            }
            PageStep::More(need) => {
                assert!(need > end - at, "{need} bytes are there");
                if end == bytes.len() {
                    return (steps, payload, "wants more".into());
                }
                end = end.saturating_add(piece).min(bytes.len());
            }
            PageStep::MoreOrAssume => {
                if end == bytes.len() {
                    session.assume(Layout::Narrow);
                } else {
                    end = end.saturating_add(piece).min(bytes.len());
                }
            }
            PageStep::Ended => {
                if end == bytes.len() {
                    return (steps, payload, "ended".into());
                }
                end = end.saturating_add(piece).min(bytes.len());
            }
            other => {
                if let PageStep::Run { address, pages, .. } = other {
                    let size = pages.checked_mul(page_size().bytes()).expect("it was checked");
                    assert!(address.checked_add(size).is_some());
                }
                steps.push(other);
            }
        }
        assert!(
            steps.len() <= bytes.len() / 12 + 2,
            "each step takes a header, but for the first of an object"
        );
    }
}

/// Sends all bytes over a socket into a directory. A session that ends well leaves a set that can
/// be read, with two files for each object; any other session leaves nothing.
fn served(layout: Option<Layout>, bytes: &[u8]) {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        std::env::temp_dir().join(format!("criu-fuzz-pages-{}", std::process::id()))
    });
    _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).expect("a folder among the temporary ones");
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    let mut limits = ServerLimits::default();
    limits.idle = Some(Duration::from_secs(5));
    limits.total = Duration::from_secs(8);
    limits.bytes = 1 << 20;
    limits.objects = OBJECTS;
    let mut server = Server::new().directory(folder).limits(limits);
    if let Some(layout) = layout {
        server = server.layout(layout);
    }
    let sent = bytes.to_vec();
    let client = thread::spawn(move || {
        let mut theirs = theirs;
        _ = theirs.write_all(&sent);
        _ = theirs.shutdown(Shutdown::Write);
        // Answers are not looked at, but taken.
        _ = std::io::copy(&mut theirs, &mut std::io::sink());
    });
    let result = server.session(Socket::from(ours));
    client.join().expect("the client is ours");
    let set = PageSet::open(folder, page_size()).expect("a folder");
    let objects = set.objects().expect("a folder");
    let files = fs::read_dir(folder).expect("a folder").count() as u64;
    match result {
        Ok(received) => {
            assert!(objects.len() as u64 <= received.objects && received.objects <= OBJECTS);
            assert_eq!(files, 2 * objects.len() as u64, "a pagemap and a pages file for each");
            assert_eq!(received.came, bytes.len() as u64);
            assert!(received.bytes() < bytes.len() as u64);
            for object in objects {
                let stored =
                    set.pages(object).expect("what was received reads").expect("it is there");
                for run in stored.runs() {
                    let mut page = vec![0; 4096];
                    _ = stored.read_at(run.start, &mut page);
                }
            }
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert!(objects.is_empty(), "{error}, and yet there is {objects:?}");
            assert_eq!(files, 0, "{error}, and yet there are files");
        }
    }
    _ = fs::remove_dir_all(folder);
}

/// The most objects of a session.
const OBJECTS: u64 = 20;
