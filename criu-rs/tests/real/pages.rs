//! Our page server and its client, beside CRIU's.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{fs, thread};

use criu_images::memory::{PageFlags, PageObject, PageSet, PageSize, PageSource, PagemapWriter};
use criu_images::{ImageSet, Severity, check};
use criu_lab::{names, soon};
use criu_rs::pages::{Client, Layout, Pool, Provider, Relay, Server, ServerLimits, Socket};
use criu_rs::{AfterDump, Dump, PageServer, Restore};
use nix::sys::signal::{Signal, kill};

use crate::lab::{Lab, Target, TestFn};
use crate::payload::MARK;
pub use crate::stored::pages;

pub const TESTS: &[(&str, TestFn)] = &[
    ("our_page_server_takes_what_a_dump_writes", receive),
    ("our_page_server_takes_a_socket", receive_socket),
    ("our_page_server_takes_16_dumps_at_once", many),
    ("a_dump_into_a_page_server_that_dies_fails", dies),
    ("a_dump_into_a_full_disk_fails", full),
    ("a_capture_is_what_a_dump_would_be", capture),
    ("a_capture_of_a_busy_process_is_of_one_moment", busy),
    ("a_capture_s_pages_go_into_the_directory_of_its_images", swapped),
    ("a_capture_larger_than_its_pool_spills", spill),
    ("a_capture_that_cannot_be_written_kills_nobody", held),
    ("a_capture_is_handed_on_to_a_page_server", hand_on),
    ("a_capture_that_is_handed_on_in_vain_kills_nobody", hand_on_in_vain),
    ("a_page_server_with_a_pool_answers_from_memory", pooled),
    ("a_relay_carries_a_dump_to_a_page_server", relay),
    ("criu_s_page_server_takes_what_our_client_sends", push),
    ("criu_fetches_memory_from_our_page_server", lazy),
    ("four_restores_of_one_snapshot_fetch_at_once", lazy_four),
];

pub fn anywhere() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// Tells that images hold the 64 MiB of the payload `rewrite` as they were at one moment.
#[track_caller]
pub fn is_of_one_moment(images: &Path) {
    let word = |page: &[u8], at: usize| u64::from_le_bytes(*page[at..].first_chunk().unwrap());
    let numbers = pages(images).into_values().filter_map(|page| {
        let (head, tail) = (word(&page, 0) ^ MARK, word(&page, 4088) ^ MARK);
        // Others have no marks; one may be half written.
        (head < 1 << 32 && tail < 1 << 32).then_some((head, tail))
    });
    let numbers: Vec<_> = numbers.collect();
    assert!(numbers.len() >= (64 << 8) - 1, "{}", numbers.len());
    let torn = numbers.iter().filter(|(head, tail)| head != tail).count();
    assert!(torn <= 1, "{torn} pages are torn");
    let (last, before) = (numbers[0].0, numbers[numbers.len() - 1].0);
    assert!(last == before || last == before + 1, "{last} {before}");
    assert!(numbers.is_sorted_by(|a, b| a.0 >= b.0));
}

pub fn is_whole(directory: &Path) {
    let findings = check(&ImageSet::open(directory).unwrap());
    let errors: Vec<_> = findings.iter().filter(|one| one.severity == Severity::Error).collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

/// CRIU restores it, stopped or not, and it goes on.
#[track_caller]
pub fn restores(lab: &Lab, target: &mut Target, images: &Path) {
    let restored = Restore::new(images).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    kill(nix::unistd::Pid::from_raw(target.pid.as_raw()), Signal::SIGCONT).unwrap();
    target.goes_on();
}

/// The same stopped process twice: into a directory, and over our server into another.
fn receive(lab: &Lab) {
    let (local, remote) = (lab.dir("local"), lab.dir("remote"));
    let mut target = lab.start(&["memory", "24"]);
    Dump::new(target.pid, &local).after_dump(AfterDump::LeaveStopped).run(&lab.criu).unwrap();
    let server = Server::new().directory(&remote).listen(anywhere()).unwrap();
    let (port, handle) = (server.port(), server.handle());
    let running = thread::spawn(move || server.run(Some(1)).unwrap());
    Dump::new(target.pid, &remote).page_server("127.0.0.1", port).run(&lab.criu).unwrap();
    let reports = running.join().unwrap();
    let received = reports[0].result.as_ref().unwrap();
    assert_eq!(received.layout, Some(Layout::of(lab.version)));
    let metrics = handle.metrics();
    assert_eq!((metrics.done, metrics.failed, metrics.pages), (1, 0, received.pages));
    let (want, found) = (pages(&local), pages(&remote));
    assert!(want.len() as u64 == received.pages && want.len() > 24 << 8, "{received}");
    are_alike(&want, &found);
    is_whole(&remote);
    assert!(names(&remote).contains(&"pages-65537.img".into()));
    target.is_gone();
    restores(lab, &mut target, &remote);
}

fn receive_socket(lab: &Lab) {
    let images = lab.dir("images");
    let mut target = lab.start(&["memory", "8"]);
    let (theirs, ours) = UnixStream::pair().unwrap();
    let server = Server::new().directory(&images).durable(true);
    let running = thread::spawn(move || server.session(Socket::from(ours)).unwrap());
    let theirs = OwnedFd::from(theirs);
    Dump::new(target.pid, &images).page_server_socket(&theirs).run(&lab.criu).unwrap();
    assert!(running.join().unwrap().pages > 8 << 8);
    target.is_gone();
    restores(lab, &mut target, &images);
}

/// Each into its own directory; which is whose, the pids tell.
fn many(lab: &Lab) {
    const DUMPS: u64 = 16;
    let root = lab.dir.clone();
    let server = Server::new().directories(move |n| root.join(format!("pages-{n}")));
    let server = server.listen(anywhere()).unwrap();
    let port = server.port();
    let running = thread::spawn(move || server.run(Some(DUMPS)).unwrap());
    let mut targets: Vec<_> = (0..DUMPS).map(|_| lab.start(&["memory", "2"])).collect();
    thread::scope(|scope| {
        for target in &targets {
            let images = lab.dir(&format!("images-{}", target.pid));
            scope.spawn(move || {
                Dump::new(target.pid, &images)
                    .page_server("127.0.0.1", port)
                    .run(&lab.criu)
                    .unwrap();
            });
        }
    });
    let reports = running.join().unwrap();
    assert!(reports.iter().all(|report| report.result.is_ok()), "{reports:?}");
    for report in reports {
        let directory = report.directory.unwrap();
        let names = names(&directory);
        let pagemap = names.iter().find(|name| !name.starts_with("pagemap-shmem"));
        let pid = pagemap.unwrap().trim_start_matches("pagemap-").trim_end_matches(".img");
        let images = lab.dir.join(format!("images-{pid}"));
        for name in &names {
            fs::rename(directory.join(name), images.join(name)).unwrap();
        }
        is_whole(&images);
    }
    for target in &mut targets {
        target.end();
    }
    let images = lab.dir.join(format!("images-{}", targets[15].pid));
    restores(lab, &mut targets[15], &images);
}

/// The same stopped process dumped and captured.
fn capture(lab: &Lab) {
    let (local, images) = (lab.dir("local"), lab.dir("images"));
    let mut target = lab.start(&["memory", "24"]);
    let stopped = |images| Dump::new(target.pid, images).after_dump(AfterDump::LeaveStopped);
    stopped(&local).run(&lab.criu).unwrap();
    let needed = Pool::needed(target.pid);
    assert!((24 << 20..40 << 20).contains(&needed), "{needed}");
    let pool = Pool::new(64 << 20).unwrap();
    let captured = stopped(&images).capture(&lab.criu, pool, &mut ()).unwrap();
    assert!(captured.dumped.stats.unwrap().frozen.as_micros() > 0);
    let (_, all) = captured.writing.progress();
    let (pool, result) = captured.writing.wait();
    let received = result.unwrap();
    assert_eq!((received.bytes(), pool.unwrap().size()), (all, 64 << 20));
    are_alike(&pages(&local), &pages(&images));
    is_whole(&images);
    target.end();
    restores(lab, &mut target, &images);
}

/// The path of the images directory leads elsewhere before the pages are written.
fn swapped(lab: &Lab) {
    struct Swap<'a>(&'a std::path::Path, &'a std::path::Path);
    impl criu_rs::Hooks for Swap<'_> {
        fn post_dump(&mut self) -> criu_rs::HookResult {
            fs::remove_file(self.0)?;
            Ok(std::os::unix::fs::symlink(self.1, self.0)?)
        }
    }
    let (images, other, path) = (lab.dir("images"), lab.dir("other"), lab.dir.join("path"));
    std::os::unix::fs::symlink(&images, &path).unwrap();
    let mut target = lab.start(&["memory", "4"]);
    let pool = Pool::new(64 << 20).unwrap();
    let mut swap = Swap(&path, &other);
    let captured = Dump::new(target.pid, &path).capture(&lab.criu, pool, &mut swap).unwrap();
    captured.writing.wait().1.unwrap();
    target.is_gone();
    assert!(criu_lab::names(&other).is_empty());
    is_whole(&images);
    restores(lab, &mut target, &images);
}

/// A process that writes all of its memory all the time: what is captured is of one moment,
/// whatever it writes while the pages are on their way to disk.
fn busy(lab: &Lab) {
    let target = lab.start(&["rewrite", "64"]);
    for (n, pool) in [96usize << 20, 20 << 20].into_iter().enumerate() {
        let images = lab.dir(&format!("images-{n}"));
        let dump = Dump::new(target.pid, &images).after_dump(AfterDump::LeaveRunning);
        let captured = dump.capture(&lab.criu, Pool::new(pool).unwrap(), &mut ()).unwrap();
        target.goes_on();
        captured.writing.wait().1.unwrap();
        is_of_one_moment(&images);
    }
}

fn spill(lab: &Lab) {
    let (local, images) = (lab.dir("local"), lab.dir("images"));
    let mut target = lab.start(&["memory", "24"]);
    let stopped = Dump::new(target.pid, &local).after_dump(AfterDump::LeaveStopped);
    stopped.run(&lab.criu).unwrap();
    let pool = Pool::new((3 << 20) + 4096).unwrap();
    let captured = Dump::new(target.pid, &images).capture(&lab.criu, pool, &mut ()).unwrap();
    captured.writing.wait().1.unwrap();
    are_alike(&pages(&local), &pages(&images));
    target.is_gone();
    restores(lab, &mut target, &images);
}

/// The disk is full when the pages go there: after the tasks are frozen, and before they are
/// killed.
fn held(lab: &Lab) {
    let images = lab.dir("images");
    let mount = ["-t", "tmpfs", "-o", "size=4m", "images"];
    assert!(Command::new("mount").args(mount).arg(&images).status().unwrap().success());
    let target = lab.start(&["memory", "16"]);
    let pool = Pool::new(64 << 20).unwrap();
    let result = Dump::new(target.pid, &images).capture(&lab.criu, pool, &mut ());
    let left = names(&images);
    assert!(Command::new("umount").arg(&images).status().unwrap().success());
    let error = result.unwrap_err().to_string();
    assert!(error.contains("No space left on device"), "{error}");
    assert!(!left.iter().any(|name| name.starts_with("pagemap-")), "{left:?}");
    target.goes_on();
}

/// Hands a capture on to our page server and to CRIU's.
fn hand_on(lab: &Lab) {
    let layout = Layout::of(lab.version);
    let mut target = lab.start(&["memory", "24"]);
    let local = lab.dir("local");
    Dump::new(target.pid, &local).after_dump(AfterDump::LeaveStopped).run(&lab.criu).unwrap();
    let pool = Pool::new(64 << 20).unwrap();

    let images = lab.dir("ours");
    let server = Server::new().directory(&images).listen(anywhere()).unwrap();
    let client = Client::connect(("127.0.0.1", server.port()), layout).unwrap();
    let running = thread::spawn(move || server.run(Some(1)).unwrap());
    let dump = Dump::new(target.pid, &images).after_dump(AfterDump::LeaveStopped);
    let captured = dump.capture_to(&lab.criu, pool, client, &mut ()).unwrap();
    let (_, all) = captured.writing.progress();
    let (pool, result) = captured.writing.wait();
    assert_eq!(result.unwrap().bytes(), all);
    assert!(running.join().unwrap().remove(0).result.is_ok());
    are_alike(&pages(&local), &pages(&images));

    // And the tasks are killed only when it has everything.
    let images = lab.dir("theirs");
    let server = PageServer::new(&images, anywhere()).spawn(&lab.criu).unwrap();
    let client = Client::connect(("127.0.0.1", server.port()), layout).unwrap();
    let dump = Dump::new(target.pid, &images);
    let captured = dump.capture_to(&lab.criu, pool.unwrap(), client, &mut ()).unwrap();
    captured.writing.wait().1.unwrap();
    assert!(server.wait().unwrap().success());
    are_alike(&pages(&local), &pages(&images));
    is_whole(&images);
    target.is_gone();
    restores(lab, &mut target, &images);
}

/// A pool that is too small, and a page server that goes.
fn hand_on_in_vain(lab: &Lab) {
    let target = lab.start(&["memory", "24"]);
    let (layout, images) = (Layout::of(lab.version), lab.dir("images"));
    for (pool, gone, says) in [(8usize << 20, false, "8388608 bytes"), (64 << 20, true, "")] {
        let server = Server::new().directory(lab.dir.join("images"));
        let server = server.listen(anywhere()).unwrap();
        let client = Client::connect(("127.0.0.1", server.port()), layout).unwrap();
        let handle = server.handle();
        let running = thread::spawn(move || server.run(Some(1)).unwrap());
        if gone {
            assert!(soon(|| handle.metrics().waiting == 1));
            handle.stop();
        }
        let pool = Pool::new(pool).unwrap();
        let result = Dump::new(target.pid, &images).capture_to(&lab.criu, pool, client, &mut ());
        let error = result.unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        target.goes_on();
        // The client has sent nothing yet: its connection was no session.
        handle.stop();
        assert!(running.join().unwrap().is_empty());
        assert!(!names(&images).iter().any(|name| name.starts_with("pagemap-")), "{error}");
    }
}

/// Captures into a pool with room for all pages, into one with room for a part, and three dumps at
/// once into one pool.
fn pooled(lab: &Lab) {
    for (n, pool) in [64usize << 20, 4 << 20].into_iter().enumerate() {
        let images: Vec<_> = (0..3).map(|m| lab.dir(&format!("images-{n}-{m}"))).collect();
        let place = lab.dir.clone();
        let server = Server::new().directories(move |m| place.join(format!("pages-{n}-{m}")));
        let server = server.pool(Pool::new(pool).unwrap()).listen(anywhere()).unwrap();
        let port = server.port();
        let running = thread::spawn(move || server.run(Some(3)).unwrap());
        let mut targets: Vec<_> = (0..3).map(|_| lab.start(&["memory", "24"])).collect();
        thread::scope(|scope| {
            for (target, images) in targets.iter().zip(&images) {
                scope.spawn(move || {
                    let dump = Dump::new(target.pid, images).page_server("127.0.0.1", port);
                    dump.run(&lab.criu).unwrap();
                });
            }
        });
        let reports = running.join().unwrap();
        assert!(reports.iter().all(|report| report.result.is_ok()), "{reports:?}");
        for (target, images) in targets.iter_mut().zip(&images) {
            target.is_gone();
            let pagemap = format!("pagemap-{}.img", target.pid);
            let from = (0..3).map(|m| lab.dir.join(format!("pages-{n}-{m}")));
            let from = from.into_iter().find(|dir| dir.join(&pagemap).exists()).unwrap();
            for name in names(&from) {
                fs::rename(from.join(&name), images.join(&name)).unwrap();
            }
            is_whole(images);
            restores(lab, target, images);
            target.end();
        }
    }
}

/// The same pages, but where the kernel writes on which processor a thread is.
pub fn are_alike(
    want: &BTreeMap<(PageObject, u64), Vec<u8>>,
    found: &BTreeMap<(PageObject, u64), Vec<u8>>,
) {
    assert!(want.keys().eq(found.keys()));
    let differ = want.iter().flat_map(|(at, page)| page.iter().zip(&found[at]));
    let differ = differ.filter(|(a, b)| a != b).count();
    assert!(differ <= 8, "{differ}");
}

/// A server that is stopped in the middle: the dump fails, the process runs on, and there is no
/// pagemap.
fn dies(lab: &Lab) {
    let images = lab.dir("images");
    let pages = lab.dir("pages");
    let target = lab.start(&["memory", "200"]);
    let server = Server::new().directory(&pages).listen(anywhere()).unwrap();
    let (port, handle) = (server.port(), server.handle());
    let running = thread::spawn(move || server.run(None).unwrap());
    let stopper = thread::spawn(move || {
        assert!(soon(|| handle.metrics().pages > 100));
        handle.stop();
    });
    let dump = Dump::new(target.pid, &images).page_server("127.0.0.1", port).run(&lab.criu);
    stopper.join().unwrap();
    assert!(dump.is_err());
    let reports = running.join().unwrap();
    let error = reports[0].result.as_ref().unwrap_err().to_string();
    assert!(error == "the session was stopped" || error.starts_with("receive: "), "{error}");
    assert!(names(&pages).is_empty(), "{:?}", names(&pages));
    target.goes_on();
}

fn full(lab: &Lab) {
    let images = lab.dir("images");
    let pages = lab.dir("pages");
    let mount = |words: &[&str]| {
        let done = Command::new("mount").args(words).arg(&pages).status().unwrap();
        assert!(done.success());
    };
    mount(&["-t", "tmpfs", "-o", "size=4m", "pages"]);
    let target = lab.start(&["memory", "16"]);
    let server = Server::new().directory(&pages).listen(anywhere()).unwrap();
    let port = server.port();
    let running = thread::spawn(move || server.run(Some(1)).unwrap());
    let dump = Dump::new(target.pid, &images).page_server("127.0.0.1", port).run(&lab.criu);
    let reports = running.join().unwrap();
    let left = names(&pages);
    assert!(Command::new("umount").arg(&pages).status().unwrap().success());
    assert!(dump.is_err());
    let error = reports[0].result.as_ref().unwrap_err().to_string();
    assert!(error.contains("pages-65537.img: No space left on device"), "{error}");
    assert!(left.is_empty(), "{left:?}");
    target.goes_on();
}

/// Relays to CRIU's page server, and to a server that ends in the middle.
fn relay(lab: &Lab) {
    let images = lab.dir("images");
    let server = PageServer::new(&images, anywhere()).spawn(&lab.criu).unwrap();
    let mut target = lab.start(&["memory", "24"]);
    let relay = Relay::connect(("127.0.0.1", server.port())).unwrap();
    Dump::new(target.pid, &images).page_server_socket(&relay).run(&lab.criu).unwrap();
    assert!(relay.finish().unwrap() > 24 << 20);
    assert!(server.wait().unwrap().success());
    target.is_gone();
    restores(lab, &mut target, &images);

    let (images, pages) = (lab.dir("more"), lab.dir("pages"));
    let mut limits = ServerLimits::default();
    limits.bytes = 1 << 20;
    let server = Server::new().directory(&pages).limits(limits).listen(anywhere()).unwrap();
    let port = server.port();
    let running = thread::spawn(move || server.run(Some(1)).unwrap());
    let relay = Relay::connect(("127.0.0.1", port)).unwrap();
    let dump = Dump::new(target.pid, &images).page_server_socket(&relay).run(&lab.criu);
    assert!(dump.is_err());
    drop(relay);
    let error = running.join().unwrap().remove(0).result.unwrap_err();
    assert_eq!(error.to_string(), "the peer sends more than 1048576 bytes, the limit");
    target.goes_on();
}

fn push(lab: &Lab) {
    let (local, remote) = (lab.dir("local"), lab.dir("remote"));
    let mut target = lab.start(&["memory", "12"]);
    Dump::new(target.pid, &local).run(&lab.criu).unwrap();
    target.is_gone();
    let server = PageServer::new(&remote, anywhere()).spawn(&lab.criu).unwrap();
    let layout = Layout::of(lab.version);
    let mut client = Client::connect(("127.0.0.1", server.port()), layout).unwrap();
    let sent = client.send_set(&local).unwrap();
    client.close().unwrap();
    assert!(server.wait().unwrap().success());
    let (want, found) = (pages(&local), pages(&remote));
    assert_eq!(sent.pages, want.len() as u64);
    assert!(want == found);
    for name in names(&local) {
        let is_page = name.starts_with("pagemap-") || name.starts_with("pages-");
        if !is_page && name.ends_with(".img") {
            fs::copy(local.join(&name), remote.join(&name)).unwrap();
        }
    }
    restores(lab, &mut target, &remote);
}

/// Dumps pages into one directory and all else into another, which gets those that cannot be lazy,
/// too. Returns how many can. Over a page server they are said to be so.
fn dump_apart(lab: &Lab, target: &mut Target, whole: &Path, lazy: &Path) -> u64 {
    let server = Server::new().directory(whole).listen(anywhere()).unwrap();
    let port = server.port();
    let running = thread::spawn(move || server.run(Some(1)).unwrap());
    Dump::new(target.pid, lazy).page_server("127.0.0.1", port).run(&lab.criu).unwrap();
    assert!(running.join().unwrap()[0].result.is_ok());
    target.is_gone();
    keep_back(whole, lazy)
}

/// A set whose lazy pages are on our server only.
fn lazy(lab: &Lab) {
    let (whole, lazy) = (lab.dir("whole"), lab.dir("lazy"));
    let mut target = lab.start(&["memory", "32"]);
    let kept_back = dump_apart(lab, &mut target, &whole, &lazy);
    assert!(kept_back > 32 << 7, "{kept_back}");
    let before = target.count();

    let server = Provider::new(&whole).listen(anywhere()).unwrap();
    let (port, handle) = (server.port(), server.handle());
    let running = thread::spawn(move || server.run(Some(1)).unwrap());
    let mut daemon = Command::new(&lab.program)
        .args(["lazy-pages", "--page-server", "--address", "127.0.0.1", "-o", "lazy.log", "-D"])
        .arg(&lazy)
        .args(["--port", &port.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert!(soon(|| lazy.join("lazy-pages.socket").exists()));
    let restored = Restore::new(&lazy).lazy_pages(true).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    assert!(target.goes_on() > before);
    assert!(daemon.wait().unwrap().success());
    target.goes_on();
    let reports = running.join().unwrap();
    let received = reports[0].result.as_ref().unwrap();
    assert!(received.served > 32 << 7 && received.served <= kept_back, "{received}");
    assert_eq!(handle.metrics().served, received.served);
}

/// Each in a pid namespace of its own, where the pid is free.
fn lazy_four(lab: &Lab) {
    const RESTORES: usize = 4;
    let (whole, lazy) = (lab.dir("whole"), lab.dir("lazy"));
    let mut target = lab.start(&["memory", "16"]);
    let kept_back = dump_apart(lab, &mut target, &whole, &lazy);
    let before = target.count();
    let server = Provider::new(&whole).listen(anywhere()).unwrap();
    let port = server.port().to_string();
    let running = thread::spawn(move || server.run(Some(RESTORES as u64)).unwrap());
    let quiet = |command: &mut Command| {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    };
    let started: Vec<_> = (0..RESTORES)
        .map(|n| {
            let images = lab.dir.join(format!("lazy-{n}"));
            assert!(
                Command::new("cp").arg("-a").args([&lazy, &images]).status().unwrap().success()
            );
            let mut daemon = Command::new(&lab.program);
            daemon.args([
                "lazy-pages",
                "--page-server",
                "--address",
                "127.0.0.1",
                "-o",
                "lazy.log",
            ]);
            let daemon = quiet(daemon.args(["--port", &port, "-D"]).arg(&images));
            assert!(soon(|| images.join("lazy-pages.socket").exists()));
            let mut restore = Command::new("unshare");
            restore.args(["--pid", "--fork", "--mount-proc", "--kill-child"]).arg(&lab.program);
            restore.args(["restore", "--lazy-pages", "-o", "restore.log", "-D"]).arg(&images);
            (daemon, quiet(&mut restore))
        })
        .collect();
    for (mut daemon, restore) in started {
        assert!(daemon.wait().unwrap().success());
        // It goes on, and is ended with its namespace.
        kill(nix::unistd::Pid::from_raw(restore.id().try_into().unwrap()), Signal::SIGKILL)
            .unwrap();
        let mut restore = restore;
        restore.wait().unwrap();
    }
    let reports = running.join().unwrap();
    for report in reports {
        let received = report.result.unwrap();
        assert!(received.served > 16 << 7 && received.served <= kept_back, "{received}");
    }
    assert!(target.count() > before);
    criu_lab::process::reap();
}

/// Writes the pages of a set without those that may be lazy. Returns how many these are.
pub fn keep_back(from: &Path, to: &Path) -> u64 {
    let set = PageSet::open(from, PageSize::K4).unwrap();
    let mut kept_back = 0;
    for (id, object) in (900..).zip(set.objects().unwrap()) {
        let stored = set.pages(object).unwrap().unwrap();
        let file = fs::File::create(to.join(object.file_name())).unwrap();
        let mut pagemap = PagemapWriter::new(file, id, PageSize::K4).unwrap();
        let mut bytes = Vec::new();
        for run in stored.runs() {
            if run.flags.contains(PageFlags::LAZY) {
                kept_back += run.pages;
                pagemap.run(run.start, run.pages, PageFlags::LAZY).unwrap();
            } else {
                let mut pages = vec![0; usize::try_from(run.pages * 4096).unwrap()];
                stored.read_at(run.start, &mut pages).unwrap();
                bytes.extend(pages);
                pagemap.run(run.start, run.pages, run.flags).unwrap();
            }
        }
        pagemap.finish().unwrap();
        fs::write(to.join(format!("pages-{id}.img")), bytes).unwrap();
    }
    kept_back
}
