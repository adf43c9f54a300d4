//! Changes of the host between a dump and its restore: for each, the report of a look beside the
//! restore that fails. One dump serves many changes.

use std::cell::Cell;
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use criu_lab::mounts::OwnMounts;
use criu_lab::own_terminals;
use criu_lab::place::Short;
use criu_rs::{Cause, Dump, Restore, Version};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::lab::{Lab, Target, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[
    ("preflight_foresees_what_a_changed_host_breaks", files),
    ("preflight_foresees_what_a_changed_network_breaks", network),
];

/// A change of the host, and the finding that foresees it.
pub struct Change<'a> {
    name: &'a str,
    /// Makes the change, and returns its opposite.
    make: Box<dyn Fn() -> Undo + 'a>,
    cause: Cause,
    /// Words of the finding's subject and detail.
    about: &'a str,
}

pub type Undo = Box<dyn FnOnce()>;

pub fn change<'a>(
    name: &'a str,
    cause: Cause,
    about: &'a str,
    make: impl Fn() -> Undo + 'a,
) -> Change<'a> {
    Change { name, make: Box::new(make), cause, about }
}

/// Makes each change alone: the look names it, and the restore fails for the same cause.
#[track_caller]
pub fn each_breaks(lab: &Lab, restore: &Restore<'_>, changes: &[Change<'_>], target: &mut Target) {
    for change in changes {
        let undo = (change.make)();
        let report = restore.preflight(&lab.criu).unwrap();
        let result = restore.run(&lab.criu);
        undo();
        let name = change.name;
        if let Ok(restored) = &result {
            target.restored_as(restored.pid);
        }
        let error = result.expect_err(&format!("{name}: the restore worked\n{report}"));
        let why = format!("{:#?}", error.failure());
        assert!(!report.will_work(), "{name}: not foreseen\n{report}\n{why}");
        let mut findings = report.blocks().chain(report.needs());
        let found = findings.any(|finding| {
            let about = format!("{} {}", finding.subject, finding.detail);
            finding.cause == Some(change.cause) && about.contains(change.about)
        });
        assert!(found, "{name}: foreseen as another\n{report}\n{why}");
        // A failure without a known cause is explained by the look alone.
        let agrees = error.cause().is_none_or(|cause| report.foresees(cause));
        assert!(agrees, "{name}: failed as {:?}\n{report}\n{why}", error.cause());
        println!("{name}: {:?}, and CRIU {:?}", change.cause, error.cause());
    }
}

/// Asserts that the look finds nothing that keeps the restore from working, and that the restore
/// works.
#[track_caller]
pub fn comes_back(lab: &Lab, restore: &Restore<'_>, target: &mut Target) {
    let report = restore.preflight(&lab.criu).unwrap();
    assert!(report.will_work(), "{report}");
    let restored = restore.run(&lab.criu).unwrap_or_else(|error| {
        panic!("{error}\n{:#?}\n{report}", error.failure());
    });
    target.restored_as(restored.pid);
    target.goes_on();
}

/// Moves a file away.
fn away(path: PathBuf) -> impl Fn() -> Undo {
    move || {
        let (path, aside) = (path.clone(), path.with_extension("aside"));
        fs::rename(&path, &aside).unwrap();
        Box::new(move || fs::rename(aside, path).unwrap())
    }
}

/// Puts another content in the place of a file.
fn instead(path: PathBuf, content: Vec<u8>) -> impl Fn() -> Undo {
    move || {
        let before = fs::read(&path).unwrap();
        fs::write(&path, &content).unwrap();
        let path = path.clone();
        Box::new(move || fs::write(path, before).unwrap())
    }
}

/// Makes this thread's mounts its own, with a file system of some size at a directory.
fn own_mounts(small: &Path) {
    own_terminals();
    OwnMounts::enter().fresh_with("tmpfs", small, "size=1m");
}

fn files(lab: &Lab) {
    let short = Short::folder();
    let path = |name: &str| {
        let folder = if name.starts_with("sockets") { short.path() } else { &lab.dir };
        folder.join(name)
    };
    let small = lab.dir("small");
    own_mounts(&small);
    fs::create_dir(path("cwd")).unwrap();
    fs::create_dir(path("sockets")).unwrap();
    for name in ["data", "mapped", "watched"] {
        fs::write(path(name), vec![b'x'; 8192]).unwrap();
    }
    fs::copy(fs::canonicalize("/usr/bin/python3").unwrap(), path("program")).unwrap();
    let abstracts = format!("criu-rs-host-{}", std::process::id());
    let code = "\
os.chdir('DIR/cwd')
data = open('DIR/data')
f = open('DIR/mapped', 'r+b')
mapped = mmap.mmap(f.fileno(), 0)
f.close()
one, two = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
one.bind('SOCKET')
one.listen()
two.bind('\\0ABSTRACT')
two.listen()
assert libc.inotify_add_watch(libc.inotify_init1(0), b'DIR/watched', 2) >= 0
ghost = open('DIR/small/ghost', 'w+b')
ghost.write(os.urandom(300000))
ghost.flush()
os.unlink('DIR/small/ghost')
written = open('DIR/small/written', 'w')
master, slave = os.openpty()
os.set_inheritable(slave, False)";
    let code = code.replace("DIR", lab.dir.to_str().unwrap()).replace("ABSTRACT", &abstracts);
    let code = code.replace("SOCKET", path("sockets/one").to_str().unwrap());
    let code = format!("{code}\nopen('{}/pts', 'w').write(os.ttyname(slave))", lab.dir.display());
    let program = path("program");
    let before = ["/usr/bin/env", "PYTHONHOME=/usr", program.to_str().unwrap()];
    let mut target = lab.python_in(&before, &code);
    let images = lab.dir("images");
    let dump = Dump::new(target.pid, &images);
    let report = dump.preflight(&lab.criu).unwrap();
    dump.with_preflight(&report).run(&lab.criu).unwrap_or_else(|error| {
        panic!("{error}\n{:#?}\n{report}", error.failure());
    });
    target.is_gone();
    let pts = PathBuf::from(fs::read_to_string(path("pts")).unwrap());
    let pages = fs::read_dir(&images).unwrap().map(|entry| entry.unwrap().path());
    let pages: Vec<PathBuf> = pages
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("pages-"))
        .collect();
    let pages = pages[0].clone();
    let half = fs::read(&pages).unwrap().len() / 2;
    let cut = fs::read(&pages).unwrap()[..half].to_vec();
    let ghost = small.join("ghost.cr.1.ghost");
    let remount = |flags: MsFlags| {
        let none = None::<&str>;
        let small = small.clone();
        move || mount(none, &small, none, MsFlags::MS_REMOUNT | flags, Some("size=1m")).unwrap()
    };
    let (freeze, thaw) = (remount(MsFlags::MS_RDONLY), remount(MsFlags::empty()));
    let held = Cell::new(Vec::new());
    let mut changes = vec![
        change("an open file is missing", Cause::FileMissing, "data", away(path("data"))),
        change("the program is missing", Cause::FileMissing, "program", away(path("program"))),
        change("the working directory is missing", Cause::FileMissing, "cwd", away(path("cwd"))),
        change("a mapped file is missing", Cause::FileMissing, "mapped", away(path("mapped"))),
        change(
            "an open file is shorter",
            Cause::FileChanged,
            "data",
            instead(path("data"), vec![1; 7]),
        ),
        change("a watched file is missing", Cause::FileMissing, "watched", away(path("watched"))),
        change("a socket's directory is missing", Cause::FileMissing, "sockets", {
            away(path("sockets"))
        }),
        change("a socket's path is a file", Cause::AddressInUse, "sockets/one", || {
            let path = path("sockets/one");
            fs::remove_file(&path).unwrap();
            fs::write(&path, "x").unwrap();
            Box::new(move || fs::remove_file(path).unwrap())
        }),
        change("an abstract name is taken", Cause::AddressInUse, &abstracts, || {
            let name = SocketAddr::from_abstract_name(&abstracts).unwrap();
            let other = UnixListener::bind_addr(&name).unwrap();
            Box::new(move || drop(other))
        }),
        change("an earlier restore left a file", Cause::GhostExists, "ghost.cr.1.ghost", || {
            let ghost = ghost.clone();
            fs::write(&ghost, "x").unwrap();
            Box::new(move || drop(fs::remove_file(ghost)))
        }),
        change("no room for an unlinked file", Cause::FileSystemFull, "ghost", || {
            let other = small.join("other");
            fs::write(&other, vec![7; 900_000]).unwrap();
            Box::new(move || fs::remove_file(other).unwrap())
        }),
        change("an unlinked file on a read-only file system", Cause::ReadOnly, "ghost", || {
            freeze();
            Box::new(thaw.clone())
        }),
        change("a written file on a read-only file system", Cause::FileRefused, "written", || {
            freeze();
            Box::new(thaw.clone())
        }),
        change("the number of a terminal is in use", Cause::TerminalInUse, "pts", || {
            let mut all = held.take();
            while !pts.exists() {
                all.push(nix::pty::openpty(None, None).unwrap());
            }
            Box::new(move || drop(all))
        }),
        change("the pages are missing", Cause::ImagesDamaged, "pages", away(pages.clone())),
    ];
    // CRIU 4.1 reads on for ever.
    if lab.version >= Version::new(4, 2, 0) {
        changes.push(change(
            "the pages are cut",
            Cause::ImagesDamaged,
            "pages",
            instead(pages.clone(), cut),
        ));
    }
    let restore = Restore::new(&images);
    each_breaks(lab, &restore, &changes, &mut target);
    comes_back(lab, &restore, &mut target);
    target.end();
    umount2(&small, MntFlags::MNT_DETACH).unwrap();
}

/// Runs `ip` with words.
pub fn ip(words: &str) {
    let status = Command::new("ip").args(words.split(' ')).status().unwrap();
    assert!(status.success(), "ip {words}");
}

fn network(lab: &Lab) {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    // No criu has been here: it would have learned about the kernel.
    OwnMounts::with_run("ramfs");
    let plain = lab.start(&["count"]);
    let down = lab.dir("down");
    let report = Dump::new(plain.pid, &down).preflight(&lab.criu).unwrap();
    let mut findings = report.findings().iter();
    assert!(findings.any(|finding| finding.cause == Some(Cause::LoopbackDown)), "{report}");
    assert!(!report.will_work(), "{report}");
    Dump::new(plain.pid, &down).run(&lab.criu).unwrap_err();
    drop(plain);
    ip("link set lo up");
    for address in ["10.99.15.1", "10.99.15.2"] {
        ip(&format!("addr add {address}/32 dev lo"));
    }
    ip("link add wire type veth peer name other");
    let mut target = lab.python(
        "t = socket.socket()\nt.bind(('10.99.15.1', 7015))\nt.listen()\n\
         u = socket.socket(2, 2)\nu.bind(('10.99.15.2', 7016))\n\
         v = socket.socket(2, 2)\nv.setsockopt(1, 25, b'wire')\n",
    );
    if lab.version < Version::new(4, 2, 0) {
        // This CRIU does not save internet sockets on the kernels of the tests.
        return;
    }
    let images = lab.dir("images");
    Dump::new(target.pid, &images).run(&lab.criu).unwrap();
    target.is_gone();
    let without = |address: &'static str| {
        move || -> Undo {
            ip(&format!("addr del {address}/32 dev lo"));
            Box::new(move || ip(&format!("addr add {address}/32 dev lo")))
        }
    };
    let changes = [
        change("a TCP address", Cause::AddressNotHere, "10.99.15.1:7015", without("10.99.15.1")),
        change("a UDP address", Cause::AddressNotHere, "10.99.15.2:7016", without("10.99.15.2")),
        change("a TCP port", Cause::AddressInUse, "tcp 10.99.15.1:7015", || {
            let other = TcpListener::bind("10.99.15.1:7015").unwrap();
            Box::new(move || drop(other))
        }),
        change("a UDP port", Cause::AddressInUse, "udp 10.99.15.2:7016", || {
            let other = UdpSocket::bind("0.0.0.0:7016").unwrap();
            Box::new(move || drop(other))
        }),
    ];
    // The same port of another address is no clash.
    let other = TcpListener::bind("127.0.0.1:7015").unwrap();
    let restore = Restore::new(&images);
    each_breaks(lab, &restore, &changes, &mut target);
    comes_back(lab, &restore, &mut target);
    drop(other);
}
