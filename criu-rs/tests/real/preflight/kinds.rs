//! The kinds of descriptors, mappings and tasks: what a look says of each, and what CRIU does. The
//! table in `docs/preflight.md` has a row for each.

use criu_images::ImageSet;
use criu_lab::soon;
use criu_rs::preflight::Severity;
use criu_rs::{AfterDump, Cause, Dump, Pid, Restore, Version};

use super::{foreseen_of, of_sockets};
use crate::lab::{Lab, Target, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[
    ("preflight_agrees_on_descriptors_that_criu_refuses", |lab| refused(lab, DESCRIPTORS)),
    ("preflight_agrees_on_watches_and_epolls", |lab| refused(lab, WATCHES)),
    ("preflight_agrees_on_pipes_sockets_and_links", |lab| refused(lab, PIPES)),
    ("preflight_agrees_on_memory_and_tasks", |lab| refused(lab, MEMORY)),
    ("preflight_agrees_on_what_depends_on_the_criu", depends),
    ("preflight_foresees_restores_that_fail", lost),
    ("preflight_foresees_what_changes", changed),
    ("preflight_has_no_false_alarm", saved),
    ("preflight_of_a_process_with_a_root_of_its_own", chrooted),
    ("preflight_of_a_first_thread_that_has_ended", dead_leader),
    ("the_table_of_kinds_is_that_of_the_documentation", table),
];

/// A kind that CRIU refuses: its name in the table, code that makes one, and the cause.
type Refused = (&'static str, &'static str, Cause);

const DESCRIPTORS: &[Refused] = &[
    ("POSIX message queue", MESSAGE_QUEUE, Cause::FileOutsideMounts),
    ("secret memory", "f = call(447, 0)\nos.ftruncate(f, 4096)", Cause::FileOutsideMounts),
    ("timer that wakes the machine", "f = call(283, 8, 0)", Cause::UnsupportedFile),
    (
        "pidfd of a thread",
        "t = threading.Thread(target=time.sleep, args=(1000,), daemon=True)\nt.start()\n\
         f = call(434, t.native_id, 0o200)",
        Cause::UnsupportedFile,
    ),
    (
        "file of a socket",
        "s = socket.socket(1)\nname = f'/tmp/criu-rs-{os.getpid()}'\ns.bind(name)\n\
         f = os.open(name, os.O_PATH)\nos.unlink(name)\ns.close()",
        Cause::UnsupportedFile,
    ),
    ("performance counter", PERF, Cause::UnsupportedFile),
    (
        "Landlock ruleset",
        "b = ctypes.create_string_buffer(struct.pack('Q', 1))\nf = call(444, b, 8, 0)",
        Cause::UnsupportedFile,
    ),
    ("file system being made", "f = call(430, b'tmpfs', 0)", Cause::UnsupportedFile),
    ("detached mount", "f = call(428, -100, b'/tmp', 1)", Cause::FileOutsideMounts),
    (
        "current console",
        "f = os.open('/dev/tty0', os.O_RDWR | os.O_NOCTTY)",
        Cause::UnsupportedFile,
    ),
    (
        "serial line",
        "f = os.open('/dev/ttyS0', os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)",
        Cause::UnsupportedFile,
    ),
    ("other device", "f = os.open('/dev/fuse', os.O_RDWR)", Cause::UnsupportedFile),
    ("BPF map", BPF_MAP, Cause::UnsupportedFile),
];

const WATCHES: &[Refused] = &[
    ("watch on /proc", "f = call(294, 0)\ncall(254, f, b'/proc/self', 2)", Cause::FileWatch),
    ("watch on /sys", "f = call(294, 0)\ncall(254, f, b'/sys/kernel', 2)", Cause::FileWatch),
    ("watch on /dev/pts", "f = call(294, 0)\ncall(254, f, b'/dev/pts', 2)", Cause::FileWatch),
    (
        "fanotify on /proc",
        "f = call(300, 0, 0)\ncall(301, f, 1, ctypes.c_ulonglong(2), -100, b'/proc/self')",
        Cause::FileWatch,
    ),
    (
        "epoll item that only a child has",
        "import select\np = select.epoll()\nr, w = os.pipe()\np.register(r, 1)\n\
         if os.fork() == 0:\n  while True: time.sleep(1)\nos.close(r)",
        Cause::EpollTarget,
    ),
];

const PIPES: &[Refused] = &[
    ("pipe in packet mode", "r, w = os.pipe2(os.O_DIRECT)", Cause::UnsupportedFile),
    (
        "more than 1,024 pipes",
        "import resource\nresource.setrlimit(7, (4096, 4096))\na = [os.pipe() for _ in range(1025)]",
        Cause::TooManyPipes,
    ),
    ("corked UDP socket", CORKED, Cause::UnsupportedSocket),
    (
        "interface of another kind",
        "libc.unshare(0x40000000)\nsubprocess.check_call('ip link set lo up; \
         ip link add vx type vxlan id 42 dstport 4789', shell=True)",
        Cause::UnsupportedLink,
    ),
    (
        "unix socket of another network",
        "s = socket.socket(1, 2)\nlibc.unshare(0x40000000)\n\
         subprocess.check_call(['ip', 'link', 'set', 'lo', 'up'])",
        Cause::ForeignNetwork,
    ),
    ("tun device", "f = os.open('/dev/net/tun', os.O_RDWR)", Cause::UnsupportedFile),
];

const MEMORY: &[Refused] = &[
    (
        "mapped secret memory",
        "f = call(447, 0)\nos.ftruncate(f, 4096)\nm = mmap.mmap(f, 4096)\nos.close(f)",
        Cause::UnsupportedMapping,
    ),
    ("named semaphore", SEMAPHORE, Cause::LinkRemap),
    (
        "mapped file with another name",
        "name = f'/tmp/criu-rs-{os.getpid()}'\nf = open(name, 'w+b')\nf.truncate(4096)\n\
         m = mmap.mmap(f.fileno(), 4096)\nf.close()\nos.link(name, name + '.2')\nos.unlink(name)",
        Cause::LinkRemap,
    ),
];

const MESSAGE_QUEUE: &str = "\
f = call(240, f'criu-rs-{os.getpid()}'.encode(), 0o102, 0o600, None)
call(241, f'criu-rs-{os.getpid()}'.encode())";

const PERF: &str = "\
b = ctypes.create_string_buffer(struct.pack('II', 1, 112) + bytes(104), 112)
f = call(298, b, 0, -1, -1, 0)";

const BPF_MAP: &str = "\
b = ctypes.create_string_buffer(struct.pack('IIII', 2, 4, 4, 4) + bytes(64))
f = call(321, 0, b, 72)";

const CORKED: &str = "\
s = socket.socket(2, 2)
s.bind(('127.0.0.1', 0))
t = socket.socket(2, 2)
t.connect(s.getsockname())
t.setsockopt(17, 1, 1)
t.send(b'x')";

const SEMAPHORE: &str = "\
lib = ctypes.CDLL('libc.so.6')
lib.sem_open.restype = ctypes.c_void_p
name = f'/criu-rs-{os.getpid()}'.encode()
assert lib.sem_open(name, 0o102, 0o600, 1)";

fn refused(lab: &Lab, rows: &[Refused]) {
    for &(name, code, cause) in rows {
        println!("{name}");
        let mut target = lab.python(code);
        let socket = name.contains("UDP");
        let cause = if socket { of_sockets(lab, cause) } else { cause };
        let images = lab.fresh("kind");
        let (report, _) = foreseen_of(lab, Dump::new(target.pid, &images), cause);
        assert_eq!(report.is_possible(), !report.options().is_empty(), "{name}: {report}");
        target.goes_on();
        let pid = target.pid;
        target.end();
        // Files that an end by SIGKILL leaves.
        let _ = std::fs::remove_file(format!("/tmp/criu-rs-{pid}.2"));
        let _ = std::fs::remove_file(format!("/dev/shm/sem.criu-rs-{pid}"));
    }
}

/// Tests kinds that one CRIU saves and another does not.
fn depends(lab: &Lab) {
    let guard = "\
libc.mmap.restype = ctypes.c_void_p
a = libc.mmap(None, 65536, 3, 0x22, -1, 0)
ctypes.memset(a, 1, 65536)
assert libc.madvise(ctypes.c_void_p(a), 4096, 102) == 0";
    let target = lab.python(guard);
    let images = lab.dir("guard");
    let dump = Dump::new(target.pid, &images);
    if lab.version < Version::new(4, 2, 0) {
        foreseen_of(lab, dump, Cause::CriuTooOld);
    } else {
        works(lab, &dump);
    }
    // A watch below a directory in which CRIU searches works with each.
    for (place, searched) in [(lab.dir("overlay"), false), ("/var/spool/criu-rs".into(), true)] {
        let code = format!(
            "os.makedirs('{0}', exist_ok=True)\nassert libc.mount(b't', b'{0}', b'tmpfs', 0, None) \
             == 0\nos.chdir('{0}')\nfor d in 'luwo': os.mkdir(d)\nopen('l/f', 'w').close()\n\
             assert libc.mount(b'o', b'o', b'overlay', 0, b'lowerdir=l,upperdir=u,workdir=w') == 0\n\
             f = call(294, 0)\ncall(254, f, b'o/f', 2)\nos.chdir('/')",
            place.display()
        );
        let mut target = lab.python(&code);
        let images = lab.fresh("overlay-images");
        let dump = Dump::new(target.pid, &images);
        let result = std::panic::catch_unwind(|| {
            if lab.version < Version::new(4, 3, 0) && !searched {
                foreseen_of(lab, dump.clone(), Cause::FileWatch);
                let named = dump.clone().irmap_scan_path(&place);
                works(lab, &named);
            } else {
                works(lab, &dump);
            }
        });
        target.end();
        for inner in [place.join("o"), place.clone()] {
            nix::mount::umount2(&inner, nix::mount::MntFlags::MNT_DETACH).unwrap();
        }
        if searched {
            std::fs::remove_dir(&place).unwrap();
        }
        result.unwrap();
    }
}

#[track_caller]
fn works(lab: &Lab, dump: &Dump<'_>) {
    let report = dump.preflight(&lab.criu).unwrap();
    assert!(report.will_work(), "{report}");
    let dump = dump.clone().after_dump(AfterDump::LeaveRunning);
    dump.run(&lab.criu).unwrap_or_else(|error| panic!("{error}\n{:#?}", error.failure()));
}

/// Kinds that CRIU saves and does not restore.
const LOST: &[Refused] = &[
    (
        "file of a thread in /proc",
        "def other():\n  global f\n  \
         f = open(f'/proc/{os.getpid()}/task/{threading.get_native_id()}/schedstat')\n  \
         e.set()\n  time.sleep(1000)\n\
         e = threading.Event()\nthreading.Thread(target=other, daemon=True).start()\ne.wait()",
        Cause::ProcFileMissing,
    ),
    (
        "deadline",
        "b = struct.pack('IIQiIQQQ', 48, 6, 0, 0, 0, 10**6, 10**7, 10**7)\n\
         call(314, 0, ctypes.create_string_buffer(b), 0)",
        Cause::DeadlineScheduling,
    ),
    (
        "socket of another network",
        "s = socket.socket(2, 2)\nlibc.unshare(0x40000000)\n\
         subprocess.check_call(['ip', 'link', 'set', 'lo', 'up'])",
        Cause::ForeignNetwork,
    ),
];

fn lost(lab: &Lab) {
    for &(name, code, cause) in LOST {
        // CRIU 4.1 saves no internet socket on this kernel.
        if cause == Cause::ForeignNetwork && lab.version < Version::new(4, 2, 0) {
            continue;
        }
        let mut target = lab.python(code);
        let images = lab.fresh("lost");
        let dump = Dump::new(target.pid, &images);
        let report = dump.preflight(&lab.criu).unwrap();
        assert!(report.foresees(cause) && !report.is_possible(), "{name}: {report}");
        dump.run(&lab.criu).unwrap();
        target.is_gone();
        let error = Restore::new(&images).run(&lab.criu).unwrap_err();
        assert_eq!(error.cause(), Some(cause), "{name}: {error}\n{:#?}", error.failure());
    }
}

/// Kinds that come back otherwise: the name, the code, and a part of the finding.
const CHANGED: &[(&str, &str, &str)] = &[
    ("processors", "os.sched_setaffinity(0, {0})", "processors that a process may run on"),
    ("personality", "libc.personality(0x0040000)", "personality"),
    ("file of another process in /proc", "f = open(f'/proc/{os.getppid()}/status')", "in /proc"),
];

fn changed(lab: &Lab) {
    let all = CHANGED.iter().map(|(_, code, _)| *code).collect::<Vec<_>>().join("\n");
    let mut target = lab.python(&all);
    let images = lab.dir("images");
    let dump = Dump::new(target.pid, &images);
    let report = dump.preflight(&lab.criu).unwrap();
    let loses = report.findings().iter().filter(|found| found.severity == Severity::Loses);
    let loses: Vec<&str> = loses.map(|found| &*found.what).collect();
    for (name, _, part) in CHANGED {
        assert!(loses.iter().any(|what| what.contains(part)), "{name}: {report}");
    }
    assert_eq!(loses.len(), CHANGED.len(), "{report}");
    let has = |pid: Pid| {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
        let status = read("status");
        let list = status.lines().find(|line| line.starts_with("Cpus_allowed:")).unwrap();
        (list.to_owned(), read("personality"))
    };
    let before = has(target.pid);
    dump.run(&lab.criu).unwrap();
    target.is_gone();
    let restored = Restore::new(&images).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    target.goes_on();
    let after = has(target.pid);
    // A machine with one processor has no other affinity to lose.
    assert!(before.0 != after.0 && before.1 != after.1, "{before:?} {after:?}: nothing is lost");
}

/// Kinds that CRIU saves and restores.
const SAVED: &[(&str, &str)] = &[
    ("event counter", "f = call(290, 3, 0)"),
    (
        "epoll",
        "p = call(291, 0)\nimport select\nq = select.epoll()\nq.register(0 + os.pipe()[0], 1)",
    ),
    ("epoll item under another number", EPOLL_DUP),
    ("signalfd", "f = call(289, -1, ctypes.create_string_buffer(8), 8, 0)"),
    ("timerfd", "f = call(283, 1, 0)"),
    ("watch on other file systems", "f = call(294, 0)\ncall(254, f, b'/tmp', 2)"),
    ("memory file", "f = os.memfd_create('x', 2)\nos.write(f, b'x')\nfcntl.fcntl(f, 1033, 15)"),
    ("unnamed file", "f = os.open('/tmp', os.O_TMPFILE | os.O_RDWR)"),
    ("O_PATH", "f = os.open('/tmp', os.O_PATH)"),
    ("pidfd", "f = os.pidfd_open(os.getpid())"),
    ("file of its own in /proc", "f = open('/proc/self/status')\ng = open('/proc/self/ns/net')"),
    ("memory device", "f = [open('/dev/' + n) for n in ('zero', 'full', 'random', 'kmsg')]"),
    ("pseudoterminal", "f = os.open('/dev/ptmx', os.O_RDWR | os.O_NOCTTY)"),
    ("pipe", "r, w = os.pipe()\nos.write(w, b'x' * 1000)"),
    (
        "FIFO",
        "os.mkfifo('/tmp/criu-rs-fifo-%d' % os.getpid())\n\
              f = os.open('/tmp/criu-rs-fifo-%d' % os.getpid(), os.O_RDWR)\n\
              os.unlink('/tmp/criu-rs-fifo-%d' % os.getpid())",
    ),
    ("unix socket", "a, b = socket.socketpair()\nsocket.send_fds(a, [b'x'], [0])"),
    ("asynchronous I/O", "c = ctypes.c_ulong(0)\ncall(206, 16, ctypes.byref(c))"),
    ("shared memory", "m = mmap.mmap(-1, 8192)\nlibc.personality(0xffffffff)"),
    ("mapped device of zeros", "z = os.open('/dev/zero', os.O_RDWR)\nm = mmap.mmap(z, 8192)"),
    (
        "unlinked mapped file",
        "f = open('/tmp/criu-rs-map-%d' % os.getpid(), 'w+b')\n\
                               f.truncate(8192)\nm = mmap.mmap(f.fileno(), 8192)\n\
                               os.unlink(f.name)",
    ),
    ("zombie", "if os.fork() == 0: os._exit(3)\nos.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)"),
    ("stopped process", "c = os.fork()\nif c == 0:\n  while True: time.sleep(1)\nos.kill(c, 19)"),
    ("real-time priority", "os.sched_setscheduler(0, 1, os.sched_param(1))"),
];

/// The kinds of sockets that CRIU saves, besides unix sockets.
const SOCKETS: &[(&str, &str)] = &[
    ("TCP socket", "s = socket.create_server(('127.0.0.1', 0))"),
    (
        "UDP socket",
        "s = socket.socket(2, 2)\ns.bind(('127.0.0.1', 0))\nt = socket.socket(2, 2, 136)",
    ),
    ("raw socket", "s = socket.socket(2, 3, 1)\nt = socket.socket(10, 3, 58)"),
    ("packet socket", "s = socket.socket(17, 3, 768)"),
    ("netlink socket", "s = socket.socket(16, 3, 0)\ns.bind((0, 0))"),
];

const EPOLL_DUP: &str = "\
import select
p = select.epoll()
r, w = os.pipe()
p.register(r, 1)
d = os.dup(r)
os.close(r)";

/// Tests a process with all kinds that CRIU saves, there and back.
fn saved(lab: &Lab) {
    criu_lab::own_terminals();
    let part = |(_, code): &(&str, &str)| format!("{code}\nkept.append(dict(globals()))\n");
    // CRIU 4.1 saves no internet sockets on this kernel.
    let sockets = if lab.version < Version::new(4, 2, 0) { &[] } else { SOCKETS };
    let code = SAVED.iter().chain(sockets).map(part).collect::<String>();
    let mut target = lab.python(&format!("kept = []\n{code}"));
    let images = lab.dir("images");
    let dump = Dump::new(target.pid, &images);
    let report = dump.preflight(&lab.criu).unwrap();
    assert!(report.will_work(), "{report}");
    let loses = report.findings().iter().filter(|found| found.severity < Severity::Info);
    assert_eq!(loses.count(), 0, "{report}");
    dump.run(&lab.criu).unwrap_or_else(|error| panic!("{error}\n{:#?}", error.failure()));
    target.is_gone();
    assert!(ImageSet::open(&images).unwrap().checkpoint().unwrap().tasks().count() >= 3);
    let restored = Restore::new(&images).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    target.goes_on();
}

/// Tests a child with another root directory, whose list of mounts lacks those above that.
fn chrooted(lab: &Lab) {
    let root = lab.dir("root");
    let code = format!(
        "r, w = os.pipe()\nif os.fork() == 0:\n  os.chroot('{}')\n  os.chdir('/')\n  \
         os.write(w, b'x')\n  while True: time.sleep(1)\nos.read(r, 1)",
        root.display()
    );
    let mut target = lab.python(&code);
    let images = lab.dir("images");
    let dump = Dump::new(target.pid, &images);
    let report = dump.preflight(&lab.criu).unwrap();
    assert!(report.will_work(), "{report}");
    dump.run(&lab.criu).unwrap();
    target.is_gone();
    let restored = Restore::new(&images).run(&lab.criu).unwrap();
    target.restored_as(restored.pid);
    target.goes_on();
}

/// Tests a process whose first thread has ended, as the root of the tree and below it.
fn dead_leader(lab: &Lab) {
    let code = "\
child = os.fork()
if child == 0:
    def other():
        time.sleep(1000)
    threading.Thread(target=other, daemon=True).start()
    libc.syscall(60, 0)";
    let target = lab.python(code);
    let child: Pid = criu_lab::process::children(target.pid)[0];
    assert!(soon(|| criu_lab::process::state(child) == Some('Z')));
    let images = lab.dir("images");
    foreseen_of(lab, Dump::new(target.pid, &images), Cause::DeadLeader);
    let child = Target::at(child, target.file().into());
    foreseen_of(lab, Dump::new(child.pid, &images), Cause::DeadLeader);
}

/// The rows of the tests are those of the table in the documentation.
fn table(_: &Lab) {
    let text = include_str!("../../../../docs/preflight.md");
    let rows: Vec<&str> = text
        .lines()
        .map(|line| line.trim_matches(['|', ' ']).split(" | ").collect::<Vec<_>>())
        .filter(|cells| cells.len() == 3 && !["kind", "---"].contains(&cells[0]))
        .map(|cells| cells[0])
        .collect();
    let refused = [DESCRIPTORS, WATCHES, PIPES, MEMORY, LOST].concat();
    let names = refused.iter().map(|row| row.0).chain(SAVED.iter().chain(SOCKETS).map(|row| row.0));
    let names = names.chain(CHANGED.iter().map(|row| row.0)).chain(ELSEWHERE.iter().copied());
    let names: Vec<&str> = names.collect();
    for name in &names {
        assert!(rows.contains(name), "docs/preflight.md has no row for: {name}");
    }
    for row in rows {
        assert!(names.contains(&row), "no test has the row: {row}");
    }
}

/// Rows with tests of their own, in this file and others.
const ELSEWHERE: &[&str] = &[
    "guard region",
    "watch on overlayfs",
    "first thread that has ended",
    "root directory of its own",
    "io_uring",
    "userfaultfd",
    "BPF program or link",
    "descriptor of a namespace",
    "pidfd of a stranger",
    "pipe to the outside",
    "FIFO to the outside",
    "terminal used outside",
    "terminal from outside",
    "seccomp listener outside",
    "unix socket to the outside",
    "TCP connection",
    "TCP connection not yet accepted",
    "unread netlink messages",
    "MPTCP, vsock, ALG, XDP, SCTP, CAN",
    "file lock",
    "POSIX lock on a mapped file",
    "POSIX lock of a child",
    "unlinked file",
    "unlinked file with other names",
    "file of another mount namespace",
    "file whose name is taken",
    "file below a mount",
    "System V shared memory",
    "mapped device",
    "namespace that the root is not in",
    "thread in a namespace of its own",
    "traced process",
    "session from outside",
];
