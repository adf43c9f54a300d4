//! Containers saved and restored by the runtimes alone, which shows that the test bed works.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use criu_lab::containers::{Bundle, seccomp_profile};
use criu_lab::place::Short;
use criu_lab::raw::receive_fd;
use criu_lab::soon;
use criu_rs::Pid;

use crate::{Bed, Case};

pub const TESTS: &[Case] = &[
    Case { name: "plain", test: plain, runtimes: BOTH, newest_only: false },
    Case { name: "filters_of_threads", test: filters, runtimes: BOTH, newest_only: true },
    Case { name: "bind_mounts", test: bind_mounts, runtimes: BOTH, newest_only: true },
    Case { name: "terminal", test: terminal, runtimes: BOTH, newest_only: true },
    Case { name: "joined_network", test: joined_network, runtimes: BOTH, newest_only: true },
    Case { name: "masked_paths", test: masked_paths, runtimes: &["runc"], newest_only: true },
    Case { name: "user_namespace", test: user_namespace, runtimes: &["runc"], newest_only: true },
];

const BOTH: &[&str] = &["runc", "crun"];

fn plain(bed: &Bed) {
    let bundle = Bundle::new(bed, "bundle", "count", &[]).with(|b| {
        b.capabilities(&["CAP_KILL", "CAP_SYS_CHROOT"]);
        b.rlimit("RLIMIT_CORE", 0, 4096);
        b.annotation("criu-rs.bed", "plain");
    });
    let threads = there_and_back(bed, &bundle, &[]);
    assert_eq!(threads[&1]["CapEff"], "0000000000040020");
    let runtime = &bed.runtime;
    let limits = fs::read_to_string(format!("/proc/{}/limits", runtime.pid("c"))).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "4096"]);
    assert!(runtime.state_file("c").exists());
    runtime.pause("c", true);
    bundle.stands_still();
    runtime.pause("c", false);
    bundle.goes_on();
    runtime.kill("c", "KILL");
    assert!(soon(|| runtime.state("c").unwrap()["status"] == "stopped"));
    runtime.delete("c");
    assert_eq!(runtime.state("c"), None);
}

fn filters(bed: &Bed) {
    let bundle = Bundle::new(bed, "bundle", "threads", &["3"]);
    let bundle = bundle.with(|b| b.seccomp(seccomp_profile(&["SECCOMP_FILTER_FLAG_LOG"])));
    let threads = there_and_back(bed, &bundle, &[]);
    let mut filters: Vec<_> =
        threads.values().map(|status| status["Seccomp_filters"].clone()).collect();
    filters.sort();
    assert_eq!(filters, ["1", "2", "3", "4"]);
}

fn bind_mounts(bed: &Bed) {
    let outside = bed.dir("outside");
    fs::write(outside.join("said"), "from outside").unwrap();
    let bundle = Bundle::new(bed, "bundle", "count", &[]);
    let bundle = bundle.with(|b| b.bind(&outside, "/data", &["ro"]));
    there_and_back(bed, &bundle, &[]);
    let pid = bed.runtime.pid("c");
    let inside = format!("/proc/{pid}/root/data/said");
    assert_eq!(fs::read_to_string(inside).unwrap(), "from outside");
}

fn terminal(bed: &Bed) {
    let bundle = Bundle::new(bed, "bundle", "echo", &[]).with(Bundle::terminal);
    let folder = Short::folder();
    let console = folder.join("console");
    let listener = UnixListener::bind(&console).unwrap();
    let option = format!("--console-socket={}", console.display());
    let images = bed.dir("images");
    bed.runtime.run(&bundle, "c", &[&option]);
    let (socket, _) = listener.accept().unwrap();
    let master = receive_fd(&socket);
    answers(master.try_clone().unwrap());
    bed.runtime.checkpoint("c", &images, &[]);
    drop(master);
    let before = bundle.stands_still();
    bed.runtime.restore(&bundle, "c", &images, &[&option]);
    let (socket, _) = listener.accept().unwrap();
    assert!(bundle.goes_on() > before);
    answers(receive_fd(&socket));
}

fn joined_network(bed: &Bed) {
    run("ip", &["netns", "add", "joined"]);
    let bundle = Bundle::new(bed, "bundle", "count", &[]);
    let place = std::path::Path::new("/run/netns/joined");
    let bundle = bundle.with(|b| b.namespace("network", Some(place)));
    there_and_back(bed, &bundle, &[]);
    let pid = bed.runtime.pid("c");
    use std::os::unix::fs::MetadataExt;
    let inode = |path: &str| fs::metadata(path).unwrap().ino();
    assert_eq!(inode(&format!("/proc/{pid}/ns/net")), inode("/run/netns/joined"));
}

fn masked_paths(bed: &Bed) {
    let bundle = Bundle::new(bed, "bundle", "count", &[]).with(|b| {
        b.mask(&["/proc/keys", "/proc/acpi", "/proc/timer_list", "/sys/firmware"]);
        b.readonly(&["/proc/bus", "/proc/fs", "/proc/sys"]);
    });
    there_and_back(bed, &bundle, &[]);
    let pid = bed.runtime.pid("c");
    assert_eq!(fs::read(format!("/proc/{pid}/root/proc/keys")).unwrap(), b"");
}

fn user_namespace(bed: &Bed) {
    let bundle = Bundle::new(bed, "bundle", "count", &[]).with(|b| {
        b.user_namespace(100_000);
        // Some mounts must belong to the namespace, or be made in it.
        b.cgroups_path("/bed/user");
    });
    there_and_back(bed, &bundle, &[]);
    let pid = bed.runtime.pid("c");
    let map = fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
}

/// Starts a container `c`, saves and restores it, and asserts that it goes on with the same rights.
/// Returns the rights of its threads.
#[track_caller]
pub fn there_and_back(bed: &Bed, bundle: &Bundle, options: &[&str]) -> BTreeMap<i32, Status> {
    let runtime = &bed.runtime;
    let images = bed.dir("images");
    let pid = runtime.run(bundle, "c", &[]);
    let before = threads(pid);
    runtime.checkpoint("c", &images, options);
    let log = fs::read_to_string(bed.dir.join("work-dump/dump.log")).unwrap();
    assert!(log.contains(&format!("Version: {} ", bed.version)), "another CRIU: {log}");
    let counted = bundle.stands_still();
    let pid = runtime.restore(bundle, "c", &images, options);
    assert!(bundle.goes_on() > counted);
    assert_eq!(runtime.state("c").unwrap()["status"], "running");
    let after = threads(pid);
    assert_eq!(before, after);
    after
}

/// The rights of a thread in the kernel's words, by name.
pub type Status = BTreeMap<String, String>;

/// The rights of all threads of a process, by their ids in the container.
#[track_caller]
pub fn threads(pid: Pid) -> BTreeMap<i32, Status> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let text = fs::read_to_string(entry.unwrap().path().join("status")).unwrap();
        let all: Status = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        let inside = all["NSpid"].split_whitespace().next_back().unwrap().parse().unwrap();
        let kept = all.into_iter().filter(|(name, _)| RIGHTS.contains(&name.as_str())).collect();
        (inside, kept)
    };
    tasks.map(read).collect()
}

/// Writes a line to a terminal, and waits for the echo of the terminal and of the payload.
#[track_caller]
pub fn answers(master: std::os::fd::OwnedFd) {
    let mut master = fs::File::from(master);
    master.write_all(b"hello\n").unwrap();
    let mut said = Vec::new();
    let is_said = soon(|| {
        let mut bytes = [0; 256];
        let length = master.read(&mut bytes).unwrap();
        said.extend_from_slice(&bytes[..length]);
        String::from_utf8_lossy(&said).matches("hello").count() >= 2
    });
    assert!(is_said, "the terminal says {:?}", String::from_utf8_lossy(&said));
}

#[track_caller]
fn run(program: &str, words: &[&str]) {
    assert!(std::process::Command::new(program).args(words).status().unwrap().success());
}

/// The lines of `status` that must be equal after a restore.
const RIGHTS: &[&str] = &[
    "Uid",
    "Gid",
    "Groups",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "Seccomp_filters",
];
