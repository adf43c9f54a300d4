//! A process that has one of nearly everything (`data/kitchen.py`): dumped, read to the last byte,
//! re-encoded, edited and restored.
//!
//! Needs root, Debian's python3-protobuf and the CRIUs that `cargo xtask setup --tests` installs.

#![cfg(feature = "json")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::anonymised::is_anonymous;
use common::crit::{PRETTY, compare, encoded, json};
use common::kitchen::Kitchen;
use common::{PAGE, load};
use criu_images::bpf::Program;
use criu_images::edit::{Edit, edit_directory};
use criu_images::files::{Fd, File};
use criu_images::kind::{Entries, Kind};
use criu_images::memory::PageSource;
use criu_images::source::{InMemory, Source};
use criu_images::{
    Architecture, Checkpoint, Image, ImageSet, ImageWriter, NamespaceKind, Seccomp, Severity,
    Signal, SignalAction, State, Task, Text, TimerKind, check, view,
};

#[test]
fn criu_4_1() {
    // It cannot dump sockets of the internet's families on newer kernels.
    served("trixie", &[]);
}

#[test]
fn criu_4_3() {
    served("experimental", &["inet"]);
}

#[test]
fn in_a_user_namespace() {
    served("experimental", &["inet", "user"]);
}

fn served(suite: &str, words: &[&str]) {
    let mut kitchen = Kitchen::start(suite, words);
    kitchen.dump();
    let images = kitchen.path("images");
    every_byte_is_known(&images);
    let copy = kitchen.copy(&images, "json");
    assert!(compare(suite, &copy) > 60);
    is_anonymous(suite, &kitchen, &images, words.contains(&"inet"));

    let set = ImageSet::open(&images).unwrap();
    let errors: Vec<_> =
        check(&set).into_iter().filter(|finding| finding.severity == Severity::Error).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let checkpoint = set.checkpoint().unwrap();
    if words == ["inet"] {
        corrupt(&images);
    }
    tasks_are(checkpoint, &kitchen);
    files_are(checkpoint);
    namespaces_are(checkpoint, words);
    restore_needs(checkpoint, words);

    // What CRIU makes of images that went through JSON.
    re_encode(&copy);
    kitchen.restore(&copy);
    assert_eq!(kitchen.report(), "all is as it was\n");
    kitchen.end();

    let edited = kitchen.copy(&images, "edited");
    change(&mut kitchen, &edited, words.contains(&"inet"));
}

/// Checks that each image is of a known kind, consists of entries and their payloads, and stays the
/// same when written again.
fn every_byte_is_known(images: &Path) {
    let mut payloads = 0;
    for entry in fs::read_dir(images).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".log") {
            continue;
        }
        let (kind, _) = Kind::of_file(&name).unwrap_or_else(|| panic!("{name}"));
        if kind.entries == Entries::Raw {
            continue;
        }
        let bytes = fs::read(images.join(&name)).unwrap();
        let mut image = Image::parse(&name, &bytes, kind).unwrap();
        let mut again = ImageWriter::new(kind, Vec::new()).unwrap();
        while let Some(entry) = image.next_entry().unwrap() {
            let payload = image.payload(&entry).unwrap();
            payloads += usize::from(payload != criu_images::Payload::None);
            again.raw(entry.bytes(), &payload).unwrap();
        }
        assert!(again.finish().unwrap() == bytes, "{name} is written otherwise");
    }
    assert!(payloads > 8, "{payloads}");
}

/// Flips and cuts images that only this process has, byte after byte. All reads end in a result.
fn corrupt(images: &Path) {
    let whole = load(images);
    let look = |files: InMemory| -> criu_images::Result<()> {
        let set = ImageSet::new(files)?;
        let checkpoint = set.checkpoint()?;
        let said = view::Namespaces::new(checkpoint)?.to_string();
        let said = said + &view::Mounts::new(checkpoint)?.to_string();
        let said = said + &view::Sockets::new(checkpoint)?.to_string();
        assert!(!said.is_empty() && checkpoint.locks().is_ok());
        Ok(())
    };
    look(whole.clone()).unwrap();
    let mut tried = 0;
    for name in whole.names().unwrap() {
        let parts = [
            "ifaddr",
            "route",
            "rule",
            "netns",
            "netdev",
            "mountpoints",
            "ipcns",
            "utsns",
            "userns",
            "timens",
            "sk-queues",
            "tcp-stream",
        ];
        if !parts.iter().any(|part| name.starts_with(part)) {
            continue;
        }
        let mut bytes = fs::read(images.join(&name)).unwrap();
        for at in 0..bytes.len().min(1500) {
            let mut files = whole.clone();
            files.insert(&name, &bytes[..at]);
            let cut = look(files);
            let mut files = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            files.insert(&name, &bytes[..]);
            bytes[at] ^= 1 << (at % 8);
            for error in [cut, look(files)].into_iter().filter_map(Result::err) {
                assert!(Kind::of_file(error.image()).is_some(), "{error}");
            }
            tried += 2;
        }
    }
    assert!(tried > 1000, "{tried}");
}

fn tasks_are(checkpoint: Checkpoint<'_>, kitchen: &Kitchen) {
    let [root, zombie, sleeper, stopped] = kitchen.pids();
    let state = |pid| checkpoint.task(pid).unwrap().state();
    assert_eq!([state(root), state(zombie)], [State::Alive, State::Dead]);
    assert_eq!([state(sleeper), state(stopped)], [State::Alive, State::Stopped]);
    let task = checkpoint.root();
    assert_eq!((task.pid(), task.sid()), (1, 1));
    assert_eq!(checkpoint.task(sleeper).unwrap().sid(), sleeper);

    // Where it said, what it said.
    let memory = task.memory().unwrap().unwrap();
    for i in (0..64).step_by(3) {
        let address = kitchen.area() + i * PAGE;
        let mut page = [0; PAGE as usize];
        memory.read_at(address, &mut page).unwrap();
        let words = [address.to_le_bytes(), (!address).to_le_bytes()].concat();
        assert_eq!(page, *words.repeat(PAGE as usize / 16), "{address:#x}");
    }
    let arguments = memory.cmdline().unwrap();
    assert_eq!(arguments[..2], [b"python3".to_vec(), b"/kitchen.py".to_vec()]);

    // Signals, timers, limits.
    let pending: Vec<_> = task.pending().map(|p| (p.signal, p.code, p.sender)).collect();
    assert_eq!(
        pending,
        [(Signal(10), 0, Some(1)), (Signal(34), -1, Some(1)), (Signal(34), -1, Some(1))]
    );
    let action = |number| task.dispositions().find(|d| d.signal == Signal(number)).unwrap().action;
    assert!(matches!(action(1), SignalAction::Handler(_)));
    assert_eq!((action(13), action(15)), (SignalAction::Ignore, SignalAction::Default));
    // Behind the two that the list leaves out.
    assert_eq!(action(25), SignalAction::Ignore, "Python ignores SIGXFSZ");
    let timers: Vec<_> =
        task.timers().map(|timer| (timer.kind, timer.interval.as_secs())).collect();
    let posix = TimerKind::Posix { id: 0, clock: 1, signal: 35 };
    assert_eq!(timers, [(TimerKind::Real, 9), (posix, 6)]);
    let files = task.limits().find(|limit| limit.name == "nofile").unwrap();
    assert_eq!((files.soft, files.hard), kitchen.limit);

    // Filters: none, one, and two on top of each other.
    let threads = task.threads().unwrap();
    assert!(threads[0].blocked().contains(Signal(10)) && !threads[0].blocked().contains(Signal(1)));
    let chains = threads.iter().map(|thread| match thread.seccomp().unwrap() {
        Seccomp::Filters(filters) => {
            filters.iter().map(|filter| filter.program().unwrap().summary().to_string()).collect()
        }
        _ => Vec::new(),
    });
    let chains: Vec<Vec<String>> = chains.collect();
    let (ptrace, mount) =
        ("allows; fails with EPERM on ptrace", "allows; fails with ENOENT on mount");
    assert!(chains[0].is_empty());
    assert!(chains.iter().any(|chain| chain[..] == [ptrace]), "{chains:?}");
    let two = chains.iter().find(|chain| chain.len() == 2).unwrap();
    assert_eq!(two.len(), 2);
    assert!(two.iter().any(|s| s == ptrace) && two.iter().any(|s| s == mount));
    let security = view::Security::new(checkpoint.tasks()).unwrap().to_string();
    assert!(security.contains("    seccomp: 2 filters\n"), "{security}");
    let creds = task.creds().unwrap();
    assert!(creds.effective().contains("cap_sys_admin") && creds.ambient().is_empty());
    assert_eq!(creds.secure_bits().count(), 0);
}

fn by_word<'a>(fds: &[Fd<'a>], word: &str) -> Fd<'a> {
    *fds.iter().find(|fd| fd.file.file().word() == word).unwrap_or_else(|| panic!("{word}"))
}

fn files_are(checkpoint: Checkpoint<'_>) {
    let task = checkpoint.root();
    let fds = task.files().unwrap();
    let named = |name: &str| {
        let is = |fd: &&Fd<'_>| fd.file.path() == Some(name.as_bytes());
        fds.iter().find(is).unwrap_or_else(|| panic!("{name}"))
    };
    let path = |file: Option<criu_images::files::OpenFile<'_>>| {
        file.and_then(|file| file.path()).map(|path| Text(path).to_string())
    };
    assert_eq!(path(task.cwd().unwrap()).as_deref(), Some("/tmp/work"));
    assert_eq!(path(task.root_dir().unwrap()).as_deref(), Some("/"));
    assert!(named("/tmp/ghost").file.is_deleted() && named("/tmp/gone").file.is_deleted());
    assert!(named("/tmp/log").file.to_string().ends_with("at offset 7"));

    let queues = checkpoint.queues().unwrap();
    let waiting = |fd: &Fd<'_>| queues.of(&fd.file).unwrap();
    assert_eq!(waiting(&by_word(&fds, "pipe")).received, 72_000);
    assert_eq!(waiting(&by_word(&fds, "fifo")).received, 11);
    let unix: Vec<_> = fds.iter().filter(|fd| fd.file.file().word() == "unix").collect();
    // Data with descriptors, then more; three datagrams.
    assert_eq!((waiting(unix[1]).received, waiting(unix[0]).received), (24, 0));
    assert_eq!((waiting(unix[3]).received, waiting(unix[3]).packets), (11, 3));
    let peer = unix[0].file.peer().unwrap();
    assert_eq!(peer.id(), unix[1].file.id());

    let epoll = by_word(&fds, "epoll");
    let targets = epoll.epoll_targets(&fds);
    let words: Vec<_> = targets.iter().map(|target| target.file.unwrap().file().word()).collect();
    assert_eq!(words.len(), 2);
    assert!(words.contains(&"pipe") && words.contains(&"eventfd"), "{words:?}");
    assert!(matches!(by_word(&fds, "eventfd").file.file(), File::Eventfd(e) if e.counter == 7));

    let terminals: Vec<_> = fds.iter().filter_map(|fd| fd.file.terminal()).collect();
    let size = terminals[0].winsize.as_ref().unwrap();
    assert_eq!((terminals.len(), size.ws_row, size.ws_col), (2, 30, 100));

    let locks = checkpoint.locks().unwrap();
    let locks: Vec<_> = locks.iter().map(|lock| (lock.flag, lock.r#type, lock.start)).collect();
    assert!(locks.contains(&(1, 1, 2)) && locks.contains(&(2, 0, 0)), "{locks:?}");
    let lsof = view::Fds::new(checkpoint.tasks()).unwrap().to_string();
    for part in ["memfd pool", "terminal /dev/pts/0", "pidfd of process", "inotify of 1 watch"] {
        assert!(lsof.contains(part), "{part}: {lsof}");
    }
}

fn namespaces_are(checkpoint: Checkpoint<'_>, words: &[&str]) {
    let namespaces = checkpoint.namespaces().unwrap();
    let of = |kind| namespaces.iter().find(|saved| saved.namespace().kind == kind).unwrap();
    let own = |kind| !of(kind).namespace().host;
    use NamespaceKind::{Cgroup, Ipc, Mnt, Net, Pid, Time, User, Uts};
    for kind in [Ipc, Mnt, Net, Pid, Time, Uts] {
        assert!(own(kind), "{kind}");
        assert_eq!(of(kind).pids().len(), 3);
    }
    assert_eq!((own(User), own(Cgroup)), (words.contains(&"user"), false));

    let mounts = of(Mnt).mounts().unwrap().unwrap();
    let lines: Vec<_> = mounts
        .iter()
        .map(|mount| format!("{} {} {}", mount.depth, mount.target(), mount.fs()))
        .collect();
    assert!(lines[0].starts_with("0 / "), "{lines:?}");
    for line in ["1 /proc proc", "1 /dev/pts devpts", "1 /scratch tmpfs"] {
        assert!(lines.iter().any(|found| found == line), "{lines:?}");
    }
    let usr = mounts.iter().find(|mount| mount.target() == Text(b"/usr")).unwrap();
    assert_eq!(usr.external(), Some(Text(b"usr")));

    assert_eq!(of(Uts).uts().unwrap().unwrap().nodename, b"kitchen");
    assert!(of(Time).clocks().unwrap().unwrap().monotonic.tv_sec > 0);
    let ipc = of(Ipc).ipc().unwrap().unwrap();
    assert_eq!((ipc.segments[0].desc.key, ipc.segments[0].size), (0x1234, 3 * PAGE));
    assert_eq!(ipc.semaphores[0].1, [0, 41, 0]);
    assert_eq!((ipc.queues[0].0.desc.key, ipc.queues[0].1), (0x1236, 15));

    let net = of(Net).network().unwrap().unwrap();
    assert_eq!(net.devices[0].name, b"lo");
    if words.contains(&"inet") {
        let addresses: Vec<_> = net.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["127.0.0.1/8", "10.9.0.1/24", "::1/128"]);
        let routes = net.routes.iter().filter(|route| route.is_configured());
        let routes: Vec<_> = routes.map(ToString::to_string).collect();
        assert_eq!(routes, ["10.10.0.0/16 via 10.9.0.2 metric 7"]);
        let rules: Vec<_> = net.rules.iter().map(ToString::to_string).collect();
        assert!(rules.contains(&"32765: from 10.9.0.0/24 lookup 100".to_owned()), "{rules:?}");
        let sockets = view::Sockets::new(checkpoint).unwrap();
        let client = sockets.sockets.iter().find(|socket| socket.peer == "127.0.0.1:8080");
        let client = client.unwrap();
        assert_eq!((client.state, client.received), ("ESTAB", 13));
        let server = sockets.sockets.iter().find(|socket| Some(socket.id) == client.peer_id);
        assert_eq!(server.unwrap().peer, client.local);
    }
}

/// Exactly the options that the restores below give.
fn restore_needs(checkpoint: Checkpoint<'_>, words: &[&str]) {
    let summary = view::Summary::new(checkpoint).unwrap();
    let mut needs: Vec<_> = summary.needs.iter().map(|need| need.option.as_str()).collect();
    needs.sort_unstable();
    let mut want = vec!["--external 'mnt[usr]:PATH'", "--file-locks", "--root DIR"];
    want.extend(words.contains(&"inet").then_some("--tcp-established"));
    assert_eq!(needs, want);
    assert_eq!((summary.tasks, summary.zombies, summary.stopped), (4, 1, 1));
    assert_eq!(summary.seccomp, 2);
}

/// Makes all images again by way of their JSON.
fn re_encode(images: &Path) {
    for entry in fs::read_dir(images).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let kind = Kind::of_file(name).map(|(kind, _)| kind);
        let Some(kind) = kind.filter(|kind| kind.entries != Entries::Raw) else {
            continue;
        };
        let text = json(name, &fs::read(&path).unwrap(), kind, PRETTY);
        fs::write(&path, encoded(&text).unwrap()).unwrap();
    }
}

/// Edits the images, and looks at what CRIU makes of them.
fn change(kitchen: &mut Kitchen, images: &Path, inet: bool) {
    let set = ImageSet::open(images).unwrap();
    let on_mount = mount_filter(set.checkpoint().unwrap().root());
    // "Fails with EACCES on mount" instead of ENOENT.
    let mut bytes = filter_bytes(set.checkpoint().unwrap().root(), on_mount);
    bytes[20] = 13;
    let program = Program::parse(&bytes, Architecture::X86_64).unwrap();
    let path = |from: &str, to: &str| Edit::Path { from: from.into(), to: to.into() };
    let mut edits = vec![
        path("/tmp/work", "/tmp/shop"),
        path("/tmp/log", "/tmp/diary"),
        Edit::ReplaceFilter(on_mount, program),
        Edit::ExternalKey { from: b"usr".into(), to: b"programs".into() },
    ];
    edits.push(Edit::MountSource { from: b"scratch".into(), to: b"store".into() });
    if inet {
        let (from, to) = ("127.0.0.1".parse().unwrap(), "127.0.0.3".parse().unwrap());
        edits.extend([Edit::Port { from: 8080, to: 9090 }, Edit::Address { from, to }]);
    }
    drop(set);
    assert!(!edit_directory(images, &edits).unwrap().is_empty());
    fs::rename(kitchen.path("root/tmp/work"), kitchen.path("root/tmp/shop")).unwrap();
    fs::rename(kitchen.path("root/tmp/log"), kitchen.path("root/tmp/diary")).unwrap();
    kitchen.key = "programs";
    kitchen.restore(images);
    let proc = PathBuf::from(format!("/proc/{}", kitchen.pid.unwrap()));
    assert_eq!(fs::read_link(proc.join("cwd")).unwrap(), Path::new("/tmp/shop"));
    let links = fs::read_dir(proc.join("fd")).unwrap();
    let links: Vec<_> = links.map(|fd| fs::read_link(fd.unwrap().path()).unwrap()).collect();
    assert!(links.contains(&"/tmp/diary".into()), "{links:?}");
    let mounts = fs::read_to_string(proc.join("mountinfo")).unwrap();
    assert!(mounts.contains(" - tmpfs store ") && !mounts.contains(" scratch "), "{mounts}");
    if inet {
        let tcp = fs::read_to_string(proc.join("net/tcp")).unwrap();
        // Listening, and both ends of the connection.
        assert_eq!(tcp.matches("0300007F:2382 ").count(), 3, "{tcp}");
        assert!(!tcp.contains(":1F90 ") && !tcp.contains("0100007F"), "{tcp}");
    }
    assert_eq!(kitchen.filters(), [0, 1, 2]);
    let report = kitchen.report();
    let report: Vec<_> = report.lines().collect();
    // It compares the name of its working directory, and tries mount(2).
    assert_eq!(report, ["('cwd', \"'shop'\", \"'work'\")", "('mount', '13', '2')"]);
    kitchen.end();

    edit_directory(images, &[Edit::DropFilter(on_mount)]).unwrap();
    kitchen.restore(images);
    assert_eq!(kitchen.filters(), [0, 1, 1]);
    kitchen.end();
    edit_directory(images, &[Edit::DropSeccomp]).unwrap();
    kitchen.restore(images);
    assert_eq!(kitchen.filters(), [0, 0, 0]);
    kitchen.end();
}

/// The filter that answers mount(2), and its place.
fn mount_filter(task: Task<'_>) -> u32 {
    for thread in task.threads().unwrap() {
        if let Seccomp::Filters(filters) = thread.seccomp().unwrap() {
            for filter in filters {
                let summary = filter.program().unwrap().summary().to_string();
                if summary.contains("mount") {
                    return filter.index();
                }
            }
        }
    }
    panic!("no thread has it");
}

fn filter_bytes(task: Task<'_>, index: u32) -> Vec<u8> {
    let threads = task.threads().unwrap();
    let chains = threads.iter().map(|thread| thread.seccomp().unwrap());
    let mut filters = chains.flat_map(|chain| match chain {
        Seccomp::Filters(filters) => filters,
        _ => Vec::new(),
    });
    filters.find(|filter| filter.index() == index).unwrap().entry().filter.clone()
}
