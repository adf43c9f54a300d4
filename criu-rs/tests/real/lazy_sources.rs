//! Sources of a lazy restore's pages, beside CRIU.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;

use criu_lab::place::alone;
use criu_lab::soon;
use criu_rs::lazy::{
    Images, LazyTask, Reader, Remote, RemotePages, Snapshot, Supply, Urgency, Wanted,
};
use criu_rs::pages::Layout;
use criu_rs::{Criu, Dump};

use crate::lab::{Lab, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[
    ("a_snapshot_lists_what_criu_leaves_out", snapshot),
    ("criu_s_page_server_is_a_source", server),
    ("criu_s_dump_is_a_source", dump),
];

const PAGE: u64 = 4096;

/// A restore's log counts the pages that the restore leaves out, and CRIU's daemon those that it
/// serves.
fn snapshot(lab: &Lab) {
    let images = lab.dir("images");
    let mut target = lab.start(&["memory", "8"]);
    Dump::new(target.pid, &images).run(&Criu::at(&lab.program)).unwrap();
    target.is_gone();
    let snapshot = Snapshot::open(&images).unwrap();
    assert_eq!(snapshot.layout(), Layout::of(lab.version));
    assert!(snapshot.pages() > 8 << 8, "{}", snapshot.pages());
    let mut daemon = criu(lab, &["lazy-pages", "-v4", "-o", "lazy.log"], &images);
    assert!(soon(|| images.join("lazy-pages.socket").exists()));
    let restore = ["restore", "--lazy-pages", "--restore-detached", "-v4", "-o", "restore.log"];
    assert!(criu(lab, &restore, &images).wait().unwrap().success());
    assert!(daemon.wait().unwrap().success());
    let count = |log: &str, before: &str| {
        let log = fs::read_to_string(images.join(log)).unwrap();
        let rest = log.lines().filter_map(|line| Some(line.split_once(before)?.1.trim()));
        let numbers = rest.filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok());
        numbers.sum::<u64>()
    };
    assert_eq!(count("restore.log", "nr_lazy:"), snapshot.pages());
    assert_eq!(count("lazy.log", ": Found "), snapshot.pages() + vmas(&images));
    target.restored_as(target.pid);
    target.end();
}

/// Returns the number of mappings, which the daemon's log counts with the same words.
fn vmas(images: &Path) -> u64 {
    let set = criu_images::ImageSet::open(images).unwrap();
    let memory = set.checkpoint().unwrap().root().memory().unwrap().unwrap();
    memory.vmas().count() as u64
}

fn server(lab: &Lab) {
    let images = lab.dir("images");
    let mut target = lab.start(&["memory", "8"]);
    Dump::new(target.pid, &images).run(&Criu::at(&lab.program)).unwrap();
    target.is_gone();
    let local = Images::open(&images).unwrap();
    let _wide = wide_pipes();
    let port = free_port();
    let words = ["page-server", "--lazy-pages", "--address", "127.0.0.1", "-o", "server.log"];
    let mut command = [&words[..], &["--port", &port]].concat();
    command.extend(["--status-fd", "1"]);
    let mut server = criu(lab, &command, &images);
    is_ready(&mut server);
    let remote = Remote::tcp(format!("127.0.0.1:{port}"));
    let source = remote.open(Arc::clone(local.snapshot())).unwrap();
    assert!(source.is_shared());
    let want = |task: &LazyTask, address: u64, bytes: &mut [u8]| {
        let mut reader = local.reader(Urgency::Background).unwrap();
        read(&mut *reader, task.pid(), address, bytes);
    };
    are_all_right(&source, want);
    source.close().unwrap();
    assert!(server.wait().unwrap().success());
}

fn dump(lab: &Lab) {
    let _wide = wide_pipes();
    let mut target = lab.start(&["memory", "8"]);
    let memory = File::open(format!("/proc/{}/mem", target.pid)).unwrap();
    let want = |_: &LazyTask, address: u64, bytes: &mut [u8]| {
        memory.read_exact_at(bytes, address).unwrap();
    };
    let connect = |name: &str| {
        let (images, port) = (lab.dir(name), free_port());
        let pid = target.pid.to_string();
        let words = ["dump", "--lazy-pages", "--address", "127.0.0.1", "-o", "dump.log"];
        let more = ["--port", &port, "-t", &pid, "--status-fd", "1"];
        let mut dump = criu(lab, &[&words[..], &more].concat(), &images);
        is_ready(&mut dump);
        // The images are complete, and lack the pages.
        let snapshot = Arc::new(Snapshot::open(&images).unwrap());
        assert_eq!(snapshot.layout(), Layout::of(lab.version));
        let error = Images::open(&images).unwrap_err().to_string();
        assert!(error.ends_with("the dump kept them back for a lazy restore"), "{error}");
        let source = Remote::tcp(format!("127.0.0.1:{port}")).open(snapshot).unwrap();
        assert!(source.is_shared());
        (source, dump)
    };
    // The tasks stand still, so their memory is what the source has. A restore that fails leaves
    // the tasks as they were.
    let (source, mut failing) = connect("failed");
    are_all_right(&source, want);
    let before = target.count();
    drop(source);
    assert!(!failing.wait().unwrap().success());
    assert!(target.goes_on() > before);
    // All has come: the tasks are ended.
    let (source, mut dump) = connect("images");
    are_all_right(&source, want);
    source.close().unwrap();
    assert!(dump.wait().unwrap().success());
    target.is_gone();
}

/// Compares every page of a source, read as faults and in the background at the same time.
fn are_all_right(source: &RemotePages, want: impl Fn(&LazyTask, u64, &mut [u8]) + Sync) {
    let want = &want;
    thread::scope(|scope| {
        for (urgency, pages) in [(Urgency::Background, 64), (Urgency::Fault, 3)] {
            scope.spawn(move || {
                let mut reader = source.reader(urgency).unwrap();
                for task in source.snapshot().tasks() {
                    for range in task.missing() {
                        let mut address = range.start;
                        while address < range.end {
                            let size = (range.end - address).min(pages * PAGE);
                            let mut found = vec![0; usize::try_from(size).unwrap()];
                            let mut wanted = vec![1; found.len()];
                            read(&mut *reader, task.pid(), address, &mut found);
                            want(task, address, &mut wanted);
                            assert!(found == wanted, "{address:#x}");
                            address += size;
                        }
                    }
                }
            });
        }
    });
}

/// Fills a buffer, in as many requests as it takes.
fn read(reader: &mut dyn Reader, pid: u32, address: u64, buffer: &mut [u8]) {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let (address, pages) = (address + done as u64, rest.len() as u64 / PAGE);
        let found = reader.read(Wanted { pid, address, pages }).unwrap();
        let size = usize::try_from(found.size()).unwrap();
        found.read_at(0, &mut rest[..size]).unwrap();
        done += size;
    }
}

fn criu(lab: &Lab, words: &[&str], images: &Path) -> Child {
    let mut command = Command::new(&lab.program);
    command.args(words).arg("-D").arg(images).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Waits for the byte that CRIU writes when it listens.
fn is_ready(child: &mut Child) {
    let mut byte = [1];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut byte).unwrap();
    assert_eq!(byte, [0]);
}

fn free_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}

/// Pipes of 4 MiB, which CRIU's servers want: without CAP_SYS_RESOURCE a higher limit allows them.
struct WidePipes<L> {
    before: String,
    _alone: L,
}

fn wide_pipes() -> WidePipes<impl Sized> {
    let _alone = alone("pipe-max-size");
    let before = fs::read_to_string(PIPES).unwrap();
    fs::write(PIPES, "16777216").unwrap();
    WidePipes { before, _alone }
}

impl<L> Drop for WidePipes<L> {
    fn drop(&mut self) {
        fs::write(PIPES, &self.before).unwrap();
    }
}

const PIPES: &str = "/proc/sys/fs/pipe-max-size";
