//! Changes of the host between a dump and its restore: for each, the report of a look beside the
//! restore that fails. One dump serves many changes.

use std::cell::Cell;
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use criu_rs::{Dump, Restore, Version};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::lab::{Lab, Target, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[
    ("preflight_foresees_what_a_changed_host_breaks", files),
    ("preflight_foresees_what_a_changed_network_breaks", network),
];

/// A change of the host, and words of the finding that foresees it.
struct Change<'a> {
    name: &'a str,
    /// Makes the change, and returns its opposite.
    make: Box<dyn Fn() -> Undo + 'a>,
    foreseen: &'a str,
    /// Words of the detail or of the subject.
    about: &'a str,
}

type Undo = Box<dyn FnOnce()>;

fn change<'a>(
    name: &'a str,
    foreseen: &'a str,
    about: &'a str,
    make: impl Fn() -> Undo + 'a,
) -> Change<'a> {
    Change { name, make: Box::new(make), foreseen, about }
}

/// Makes each change alone: the look names it, and the restore fails. Without changes the look
/// finds nothing, and the restore works.
#[track_caller]
fn each_breaks(lab: &Lab, restore: &Restore<'_>, changes: &[Change<'_>], target: &mut Target) {
    let report = restore.preflight(&lab.criu).unwrap();
    assert!(report.will_work(), "{report}");
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
        let mut blocks = report.blocks();
        let found = blocks.any(|finding| {
            let about = format!("{} {}", finding.subject, finding.detail);
            finding.what.contains(change.foreseen) && about.contains(change.about)
        });
        assert!(found, "{name}: foreseen as another\n{report}\n{why}");
        println!("{name}: foreseen, {}", error.failure().and_then(|f| f.said()).unwrap_or("?"));
    }
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
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(Some("tmpfs"), small, Some("tmpfs"), MsFlags::empty(), Some("size=1m")).unwrap();
    // Pseudoterminals whose numbers no other test takes.
    let options = Some("newinstance,ptmxmode=0666");
    mount(Some("devpts"), "/dev/pts", Some("devpts"), MsFlags::empty(), options).unwrap();
}

fn files(lab: &Lab) {
    let path = |name: &str| lab.dir.join(name);
    let small = lab.dir("small");
    own_mounts(&small);
    for name in ["cwd", "sockets"] {
        lab.dir(name);
    }
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
one.bind('DIR/sockets/one')
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
    let missing = "is missing";
    let changes = [
        change("an open file is missing", missing, "data", away(path("data"))),
        change("the program is missing", missing, "program", away(path("program"))),
        change("the working directory is missing", missing, "cwd", away(path("cwd"))),
        change("a mapped file is missing", missing, "mapped", away(path("mapped"))),
        change("an open file is shorter", "changed", "data", instead(path("data"), vec![1; 7])),
        change("a watched file is missing", "watches is missing", "watched", away(path("watched"))),
        change("a socket's directory is missing", "directory of a unix socket", "sockets", {
            away(path("sockets"))
        }),
        change("a socket's path is a file", "belongs to another file", "sockets/one", || {
            let path = lab.dir.join("sockets/one");
            fs::remove_file(&path).unwrap();
            fs::write(&path, "x").unwrap();
            Box::new(move || fs::remove_file(path).unwrap())
        }),
        change("an abstract name is taken", "in use", &abstracts, || {
            let name = SocketAddr::from_abstract_name(&abstracts).unwrap();
            let other = UnixListener::bind_addr(&name).unwrap();
            Box::new(move || drop(other))
        }),
        change("an earlier restore left a file", "an earlier restore", "ghost.cr.1.ghost", || {
            let ghost = ghost.clone();
            fs::write(&ghost, "x").unwrap();
            Box::new(move || drop(fs::remove_file(ghost)))
        }),
        change("no room for an unlinked file", "too little room", "ghost", || {
            let other = small.join("other");
            fs::write(&other, vec![7; 900_000]).unwrap();
            Box::new(move || fs::remove_file(other).unwrap())
        }),
        change("an unlinked file on a read-only file system", "read-only", "ghost", || {
            freeze();
            Box::new(thaw.clone())
        }),
        change("a written file on a read-only file system", "open for writing", "written", || {
            freeze();
            Box::new(thaw.clone())
        }),
        change("the number of a terminal is in use", "number of a pseudoterminal", "pts", || {
            let mut all = held.take();
            while !pts.exists() {
                all.push(nix::pty::openpty(None, None).unwrap());
            }
            Box::new(move || drop(all))
        }),
        change("the pages are missing", "lack pages", "pages", away(pages.clone())),
        change("the pages are cut", "lack pages", "pages", instead(pages.clone(), cut)),
    ];
    each_breaks(lab, &Restore::new(&images), &changes, &mut target);
    target.end();
    umount2(&small, MntFlags::MNT_DETACH).unwrap();
}

/// Runs `ip` with words.
fn ip(words: &str) {
    let status = Command::new("ip").args(words.split(' ')).status().unwrap();
    assert!(status.success(), "ip {words}");
}

fn network(lab: &Lab) {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let plain = lab.start(&["count"]);
    // No criu has been here: it would have learned about the kernel.
    let down = lab.dir("down");
    let report = Dump::new(plain.pid, &down).preflight(&lab.criu).unwrap();
    let is_known = Path::new("/run/criu.kdat").exists();
    let lo = report.findings().iter().find(|finding| finding.what.contains("lo is down")).unwrap();
    assert!(lo.hint.unwrap().contains("ip link set lo up"), "{report}");
    if !is_known {
        assert!(!report.will_work(), "{report}");
        Dump::new(plain.pid, &down).run(&lab.criu).unwrap_err();
    }
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
    let not_here = "this host does not have an address";
    let changes = [
        change("a TCP address", not_here, "10.99.15.1:7015", without("10.99.15.1")),
        change("a UDP address", not_here, "10.99.15.2:7016", without("10.99.15.2")),
        change("a TCP port", "in use", "tcp 10.99.15.1:7015", || {
            let other = TcpListener::bind("10.99.15.1:7015").unwrap();
            Box::new(move || drop(other))
        }),
        change("a UDP port", "in use", "udp 10.99.15.2:7016", || {
            let other = UdpSocket::bind("0.0.0.0:7016").unwrap();
            Box::new(move || drop(other))
        }),
        change("an interface", "network interface", "wire", || {
            ip("link set wire name another");
            Box::new(|| ip("link set another name wire"))
        }),
    ];
    // The same port of another address is no clash.
    let other = TcpListener::bind("127.0.0.1:7015").unwrap();
    each_breaks(lab, &Restore::new(&images), &changes, &mut target);
    drop(other);
}
