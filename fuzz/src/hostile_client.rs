//! A whole page server with hostile clients, and an honest one that comes last.
//!
//! The input is a list of acts, four bytes each: who acts, what, and how much. While the hostile
//! clients still hold their connections, the honest client has to be served, and the server has to
//! end their sessions in time. Descriptors, threads, memory and files are counted.

mod acts;
mod count;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Once, OnceLock, mpsc};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use criu_images::memory::{PageObject, PageSet, PageSource};
use criu_rs::pages::proto::{Header, PRESENT, object_id};
use criu_rs::pages::{Command, Handle, Layout, Server, ServerLimits, page_size};

use acts::Hostile;
use count::Count;

pub use acts::seeds;

/// Runs the acts of an input against a server that stores pages.
///
/// # Panics
/// If a promise of the server does not hold.
pub fn run(data: &[u8]) {
    let Some((&how, acts)) = data.split_first() else { return };
    let layout = if how % 2 == 0 { Layout::Wide } else { Layout::Narrow };
    // Sessions end soon, or last for longer than an honest client waits.
    let total = if how & 2 == 0 { SHORT } else { LONG };
    let folder = folder();
    let (images, path) = (folder.join("images"), folder.join("socket"));
    let before = Count::now();
    let (handle, ended) = serve(&images, &path, total);
    let begun = Instant::now();
    let mut clients = BTreeMap::new();
    let mut most = Count::default();
    for act in acts.chunks_exact(4).take(ACTS) {
        let act = <[u8; 4]>::try_from(act).expect("four bytes");
        let client =
            clients.entry(act[0] % CLIENTS).or_insert_with(|| Hostile::connect(&path, layout));
        // A session that has begun may last, and so take a place.
        if total == SHORT || acts::begins_no_session(act) {
            client.act(act);
        }
        most = most.or_more(Count::now());
    }
    let trickle = acts::trickle(clients.values());
    most = most.or_more(Count::now());
    honest(&path, layout);
    most = most.or_more(Count::now());
    // Nobody has left: the server ends sessions by itself.
    let late = if total == SHORT { ended_in_time(&handle, begun) } else { None };
    most = most.or_more(Count::now());
    let (stored, taken) = (stored(&images), handle.metrics().bytes);
    drop(trickle);
    let number = clients.len();
    drop(clients);
    handle.stop();
    drop(handle);
    let outcome = ended.recv_timeout(SLACK).expect("the server ends when it is told to");
    outcome.expect("no client ends the server");
    let descriptors = most.descriptors.saturating_sub(before.descriptors);
    // Each client has an end here, too.
    assert!(
        descriptors <= 8 + number * PER_CLIENT,
        "{number} clients take {descriptors} descriptors"
    );
    assert!(
        most.threads <= before.threads + 8 + number,
        "{number} clients, {} threads",
        most.threads
    );
    let memory = most.memory.saturating_sub(before.memory);
    assert!(memory <= MEMORY, "{number} clients take {memory} bytes of memory");
    let bytes = number as u64 * (BYTES + ROUND) + ROUND;
    assert!(taken <= bytes, "{number} clients send {taken} bytes");
    assert!(stored <= bytes, "{number} clients store {stored} bytes");
    assert_eq!(late, None, "sessions go on for longer than they may");
    let after = Count::settled(&before);
    assert_eq!(after.descriptors, before.descriptors, "descriptors are left open");
    assert_eq!(after.threads, before.threads, "threads are left");
    looked_through(&images);
    _ = fs::remove_dir_all(folder);
}

/// Starts a server, which listens when this function returns.
fn serve(images: &Path, path: &Path, total: Duration) -> (Handle, mpsc::Receiver<io::Result<()>>) {
    let mut limits = ServerLimits::default();
    limits.connections = if total == SHORT { 2 * usize::from(CLIENTS) } else { 4 };
    // Silent connections keep their places for longer than anybody waits: the clients are the
    // server's own user, whose connections displace each other only after a while.
    limits.waiting = 2 * usize::from(CLIENTS);
    limits.first = Duration::from_secs(60);
    limits.idle = Some(Duration::from_secs(60));
    limits.total = total;
    limits.bytes = BYTES;
    let server = Server::new().directory(images).limits(limits);
    let server = server.listen_unix(path).expect("a path that is free");
    let (handle, (sender, ended)) = (server.handle(), mpsc::channel());
    thread::spawn(move || sender.send(server.run_with(None, |_| ())));
    (handle, ended)
}

/// Stores a page as an honest client does. On a busy machine the first try may be too slow.
fn honest(path: &Path, layout: Layout) {
    let begun = Instant::now();
    let mut last = None;
    while begun.elapsed() < PATIENCE {
        match store_page(path, layout) {
            Ok(()) => return,
            Err(error) => last = Some(error),
        }
    }
    panic!("an honest client is not served: {last:?}");
}

fn store_page(path: &Path, layout: Layout) -> io::Result<()> {
    let mut socket = UnixStream::connect(path)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    let id = object_id(HONEST);
    let header = |command, flags, pages, address| {
        let header = Header { command, flags, pages, address, id };
        let bytes = header.to_bytes(layout).unwrap_or_default();
        bytes.get(..layout.size()).unwrap_or_default().to_vec()
    };
    socket.write_all(&header(Command::Open2, 0, 0, 0))?;
    socket.read_exact(&mut [0])?;
    socket.write_all(&header(Command::AddF, PRESENT, 1, ADDRESS))?;
    socket.write_all(&[7; 4096])?;
    socket.write_all(&header(Command::Close, 0, 0, 0))?;
    let mut answer = [1; 4];
    socket.read_exact(&mut answer)?;
    if answer == [0; 4] { Ok(()) } else { Err(io::Error::other(format!("answer {answer:?}"))) }
}

/// Waits until no session is open. Returns how many still are when the time has passed.
fn ended_in_time(handle: &Handle, begun: Instant) -> Option<usize> {
    loop {
        let open = handle.metrics().open;
        if open == 0 {
            return None;
        }
        // The last session may have begun a moment ago.
        if begun.elapsed() > SHORT + PATIENCE + SLACK {
            return Some(open);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Returns the bytes that the files of a folder take.
fn stored(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.blocks() * 512).sum()
}

/// Looks at what the sessions have left: images that can be read, and no other files.
fn looked_through(images: &Path) {
    let set = PageSet::open(images, page_size()).expect("a folder");
    let objects = set.objects().expect("a folder");
    assert!(objects.contains(&HONEST), "the honest client's pages are lost");
    for &object in &objects {
        let stored = set.pages(object).expect("what was received reads").expect("it is there");
        for run in stored.runs().take(64) {
            let mut page = vec![0; 4096];
            let read = stored.read_at(run.start, &mut page);
            assert!(object != HONEST || (read.is_ok() && page == [7; 4096]), "{read:?}");
        }
    }
    let files = fs::read_dir(images).expect("a folder").count();
    assert_eq!(files, 2 * objects.len(), "files of failed sessions are left");
}

/// A folder for one run, with a lower limit for descriptors than the system's.
fn folder() -> PathBuf {
    static LIMIT: Once = Once::new();
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    LIMIT.call_once(|| {
        let resource = nix::sys::resource::Resource::RLIMIT_NOFILE;
        let (_, hard) = nix::sys::resource::getrlimit(resource).expect("a limit");
        nix::sys::resource::setrlimit(resource, DESCRIPTORS.min(hard), hard)
            .expect("a lower limit");
    });
    let folder = FOLDER.get_or_init(|| {
        std::env::temp_dir().join(format!("criu-fuzz-hostile-{}", std::process::id()))
    });
    _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder.join("images")).expect("a folder among the temporary ones");
    folder.clone()
}

/// The object of the honest client, which no hostile one names.
const HONEST: PageObject = PageObject::Task(4_000_000);
const ADDRESS: u64 = 0x40_0000;
/// The most clients and acts of an input.
const CLIENTS: u8 = 32;
const ACTS: usize = 64;
/// The times that a session may take.
const SHORT: Duration = Duration::from_millis(500);
const LONG: Duration = Duration::from_secs(60);
/// The bytes of a session.
const BYTES: u64 = 1 << 20;
/// Bytes that a session may take in addition: what is on its way when the limit is passed.
const ROUND: u64 = 1 << 20;
/// The time in which an honest client has to be served.
const PATIENCE: Duration = Duration::from_secs(6);
/// The time that a busy machine may add.
const SLACK: Duration = Duration::from_secs(2);
/// The limit of open descriptors, so that it is reached soon.
const DESCRIPTORS: u64 = 512;
/// The descriptors of a client, its own end included.
const PER_CLIENT: usize = 12;
const MEMORY: u64 = 96 << 20;
