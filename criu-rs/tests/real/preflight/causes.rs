//! Processes, rights and namespaces.

use std::process::Stdio;

use caps::{CapSet, Capability};
use criu_lab::place::Short;
use criu_lab::{Terminal, soon};
use criu_rs::preflight::Need;
use criu_rs::{AfterDump, Cause, Compression, Criu, Dump, Error, Pid, Tcp, Version};
use nix::fcntl::{FcntlArg, FdFlag};
use nix::mount::{MsFlags, mount, umount};
use nix::sched::CloneFlags;

use super::{foreseen, foreseen_of, is_blocked, of_sockets, works_by_itself, works_with_options};
use crate::container::Container;
use crate::lab::{Lab, TestFn, other};

pub const TESTS: &[(&str, TestFn)] = &[
    ("preflight_finds_nothing_to_say_of_a_plain_process", plain),
    ("preflight_reads_odd_names", odd_names),
    ("preflight_takes_processes_that_vanish", vanishing),
    ("preflight_ends_soon_whatever_is_open", many),
    ("preflight_over_a_service_leaves_rights_to_it", service),
    ("preflight_foresees_no_such_process", no_such_process),
    ("preflight_foresees_a_root_that_has_ended", dead_root),
    ("preflight_foresees_criu_in_the_tree", inside_tree),
    ("preflight_foresees_a_debugger", traced),
    ("preflight_foresees_a_process_that_may_not_be_traced", not_traceable),
    ("preflight_foresees_a_missing_capability", missing_capability),
    ("preflight_foresees_another_users_limits", no_resource_capability),
    ("preflight_foresees_a_foreign_session", foreign_session),
    ("preflight_foresees_a_foreign_terminal", foreign_terminal),
    ("preflight_of_a_terminal_of_its_own", own_terminal),
    ("preflight_of_threads_that_differ", threads),
    ("preflight_foresees_several_terminals", several_terminals),
    ("preflight_foresees_a_nested_namespace", nested_namespace),
    ("preflight_foresees_a_pid_namespace_without_init", no_init),
    ("preflight_foresees_system_v_memory", system_v),
    ("preflight_foresees_an_old_criu", criu_too_old),
    ("preflight_foresees_what_is_not_built_in", not_built_in),
    ("preflight_foresees_a_full_disk", no_space),
    ("preflight_foresees_a_checkpoint_in_the_way", checkpoint_exists),
];

fn plain(lab: &Lab) {
    let target = lab.start(&["count"]);
    let images = lab.dir("images");
    let dump = Dump::new(target.pid, &images);
    let report = dump.preflight(&lab.criu).unwrap();
    assert!(report.will_work(), "{report}");
    assert_eq!(report.findings(), [], "{report}");
    assert_eq!((report.tasks(), report.threads(), report.descriptors()), (1, 1, 4));
    assert!(report.memory() > 4096, "{report}");
    let text = report.to_string();
    assert!(text.starts_with("the dump will work\n1 process, 1 thread, 4 open files"), "{text}");
    let frozen = dump.run(&lab.criu).unwrap().stats.unwrap().frozen;
    let guess = report.freeze_estimate().unwrap();
    assert!(guess.shortest <= guess.longest, "{guess:?} {frozen:?}");
}

fn odd_names(lab: &Lab) {
    let path = lab.dir.join("odd");
    let code = format!(
        "libc.prctl(15, b') Z 1\\n\\xff\\x1b')\nname = b'{}\\n\\x1b[31m\\xff'\n\
         f = open(name, 'w+b')\nf.write(b'x' * (2 << 20))\nf.flush()\nos.unlink(name)",
        path.display()
    );
    let target = lab.python(&code);
    let report = foreseen(lab, &target, Cause::GhostTooLarge);
    let text = report.to_string();
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    works_by_itself(lab, &target, &report);
}

fn vanishing(lab: &Lab) {
    let target = lab.python(
        "def churn():\n  while True:\n    p = [subprocess.Popen(['true']) for _ in range(8)]\n    \
         [q.wait() for q in p]\nthreading.Thread(target=churn, daemon=True).start()",
    );
    let images = lab.dir("images");
    let dump = Dump::new(target.pid, &images);
    for _ in 0..30 {
        let report = dump.preflight(&lab.criu).unwrap();
        // A look meets each child while it starts, runs or ends.
        assert!(!report.foresees(Cause::NoSuchProcess), "{report}");
        assert!(report.tasks() >= 1);
    }
}

/// A tree with more descriptors than the limit of a look.
fn many(lab: &Lab) {
    let code = "\
import resource
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 20000), most))
for child in range(6):
    if os.fork() == 0: break
f = os.open('/dev/zero', os.O_RDONLY)
try:
    while True: os.dup(f)
except OSError: pass
os.close(f + 1)";
    let target = lab.python(code);
    let images = lab.dir("images");
    let dump = Dump::new(target.pid, &images);
    let begun = std::time::Instant::now();
    let report = dump.preflight(&lab.criu).unwrap();
    println!("{:?} for {} descriptors", begun.elapsed(), report.descriptors());
    assert!((1000..=50_000).contains(&report.descriptors()), "{report}");
    let is_cut = report.findings().iter().any(|finding| finding.what.contains("a part of it"));
    assert_eq!(is_cut, report.descriptors() == 50_000, "{report}");
}

fn service(lab: &Lab) {
    let folder = Short::folder();
    let socket = folder.join("socket");
    let mut service = std::process::Command::new(&lab.program)
        .args(["service", "--address"])
        .arg(&socket)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    assert!(soon(|| socket.exists()));
    let target = lab.start(&["count"]);
    // Only this process loses them, not the service.
    drop_everywhere(Capability::CAP_SYS_ADMIN);
    drop_everywhere(Capability::CAP_CHECKPOINT_RESTORE);
    let images = lab.dir("images");
    let dump = Dump::new(target.pid, &images);
    assert!(dump.preflight(&lab.criu).unwrap().foresees(Cause::MissingCapability));
    let report = dump.preflight(&Criu::service(&socket)).unwrap();
    assert!(report.will_work(), "{report}");
    dump.run(&Criu::service(&socket)).unwrap();
    service.kill().unwrap();
    service.wait().unwrap();
}

fn no_such_process(lab: &Lab) {
    let mut target = lab.start(&["count"]);
    target.end();
    foreseen(lab, &target, Cause::NoSuchProcess);
}

fn dead_root(lab: &Lab) {
    let mut child = std::process::Command::new("true").stdin(Stdio::null()).spawn().unwrap();
    let pid = Pid::from(&child);
    assert!(soon(|| criu_lab::process::state(pid) == Some('Z')));
    let images = lab.dir("images");
    foreseen_of(lab, Dump::new(pid, &images), Cause::DeadRoot);
    child.wait().unwrap();
}

fn inside_tree(lab: &Lab) {
    let images = lab.dir("images");
    let dump = Dump::new(Pid::this(), &images);
    let report = dump.preflight(&lab.criu).unwrap();
    assert!(report.foresees(Cause::InsideTree), "{report}");
    // Asked to dump this process, CRIU would stop itself too. A shell that runs it shows the error.
    let script =
        format!("{} dump -t $$ -D {} -o dump.log; exit 0", lab.program.display(), images.display());
    let mut shell = std::process::Command::new("setsid");
    shell.args(["-w", "sh", "-c", &script]).stdin(Stdio::null()).output().unwrap();
    let log = std::fs::read_to_string(images.join("dump.log")).unwrap();
    assert!(log.contains("The criu itself is within dumped tree"), "{log}");
}

fn traced(lab: &Lab) {
    let target = lab.start(&["count"]);
    let pid = nix::unistd::Pid::from_raw(target.pid.as_raw());
    nix::sys::ptrace::seize(pid, nix::sys::ptrace::Options::empty()).unwrap();
    let report = foreseen(lab, &target, Cause::Traced);
    assert_eq!(is_blocked(&report).subject.pid, Some(target.pid));
}

fn drop_everywhere(capability: Capability) {
    for set in [CapSet::Bounding, CapSet::Effective, CapSet::Permitted] {
        caps::drop(None, set, capability).unwrap();
    }
}

fn not_traceable(lab: &Lab) {
    let target = lab.start(&["count"]);
    drop_everywhere(Capability::CAP_SYS_PTRACE);
    foreseen(lab, &target, Cause::NotTraceable);
}

fn missing_capability(lab: &Lab) {
    let target = lab.start(&["count"]);
    drop_everywhere(Capability::CAP_SYS_ADMIN);
    drop_everywhere(Capability::CAP_CHECKPOINT_RESTORE);
    foreseen(lab, &target, Cause::MissingCapability);
}

fn no_resource_capability(lab: &Lab) {
    let target = lab.start(&["user"]);
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_RESOURCE).unwrap() {
        drop_everywhere(Capability::CAP_SYS_RESOURCE);
    }
    foreseen(lab, &target, Cause::NoResourceCapability);
    // In a user namespace of its own, root there may read the limits of that user's process.
    let before = ["/usr/bin/python3", "-S", "-c", INTO_USER_NAMESPACE];
    let code = "os.setgroups([])\nos.setresgid(7, 7, 7)\nos.setresuid(7, 7, 7)";
    let inner = lab.python_in(&before, code);
    let images = lab.fresh("inner");
    let dump = Dump::new(inner.pid, &images);
    if lab.version >= Version::new(4, 3, 0) {
        foreseen_of(lab, dump, Cause::NoBinfmtMisc);
    } else {
        let report = dump.preflight(&lab.criu).unwrap();
        assert!(report.will_work(), "{report}");
        dump.run(&lab.criu).unwrap();
    }
    // The same process with a mount namespace of its own.
    let container = Container::start(lab, CloneFlags::CLONE_NEWUSER);
    let images = lab.dir("container");
    let dump = Dump::new(container.target.pid, &images).after_dump(AfterDump::LeaveRunning);
    let report = dump.preflight(&lab.criu).unwrap();
    assert!(report.will_work(), "{report}");
    dump.run(&lab.criu).unwrap();
}

/// A program that executes its arguments in a user namespace with the same user ids as outside.
const INTO_USER_NAMESPACE: &str = "\
import ctypes, os, sys
r, w = os.pipe()
pid = os.getpid()
if os.fork() == 0:
    os.read(r, 1)
    for name in 'uid', 'gid':
        with open(f'/proc/{pid}/{name}_map', 'w') as f: f.write('0 0 1000\\n')
    os._exit(0)
assert ctypes.CDLL(None).unshare(0x10000000) == 0
os.write(w, b'x')
os.wait()
os.execvp(sys.argv[1], sys.argv[1:])
";

fn foreign_session(lab: &Lab) {
    let target = lab.start(&["member"]);
    let report = foreseen(lab, &target, Cause::ForeignSession);
    assert_eq!(report.options(), [Need::ShellJob]);
    assert_eq!(report.safe_options(), [], "another session is for the caller to choose");
    works_with_options(lab, &target, &report);
}

fn foreign_terminal(lab: &Lab) {
    let Terminal { master: _master, slave, path } = Terminal::open();
    let _leader = lab.start(&["terminal", &path]);
    let target = lab.start_with(&["count"], |command| command.stdin(slave));
    let report = foreseen(lab, &target, Cause::ForeignTerminal);
    works_with_options(lab, &target, &report);
}

/// Tests a terminal of the tree's own, which screen, tmux and sshd have.
fn own_terminal(lab: &Lab) {
    criu_lab::own_terminals();
    let target = lab.python("import pty\npid, fd = pty.fork()\nif pid == 0: time.sleep(1000)");
    let images = lab.dir("images");
    let dump = Dump::new(target.pid, &images);
    let report = dump.preflight(&lab.criu).unwrap();
    assert!(report.will_work(), "{report}");
    dump.run(&lab.criu).unwrap();
}

/// Tests a thread with other credentials and capabilities than the first thread.
fn threads(lab: &Lab) {
    let code = "\
def other():
    call(119, 5, 5, 5)
    call(157, 38, 1, 0, 0, 0)
    call(157, 24, 12, 0, 0, 0)
    ready.set()
    time.sleep(1000)
ready = threading.Event()
threading.Thread(target=other, daemon=True).start()
ready.wait()";
    let target = lab.python(code);
    let images = lab.dir("images");
    let dump = Dump::new(target.pid, &images);
    let report = dump.preflight(&lab.criu).unwrap();
    let result = dump.run(&lab.criu);
    assert_eq!(report.will_work(), result.is_ok(), "{report}\n{result:#?}");
}

fn several_terminals(lab: &Lab) {
    let one = Terminal::open();
    let two = nix::pty::openpty(None, None).unwrap();
    for end in [&two.master, &two.slave] {
        nix::fcntl::fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
    }
    let target = lab.start_with(&["count"], |command| command.stdin(one.slave).stdout(two.slave));
    let images = lab.dir("images");
    let dump = Dump::new(target.pid, &images).shell_job(true);
    let (report, _) = foreseen_of(lab, dump, Cause::SeveralTerminals);
    is_blocked(&report);
    // Terminals that have hung up do not count.
    drop((one.master, two.master));
    let images = lab.dir("hung-up");
    let dump = Dump::new(target.pid, &images);
    let report = dump.preflight(&lab.criu).unwrap();
    assert!(report.will_work(), "{report}");
    dump.run(&lab.criu).unwrap();
}

fn nested_namespace(lab: &Lab) {
    let code = "\
child = subprocess.Popen(['unshare', '--uts', 'sleep', '1000'])
while open(f'/proc/{child.pid}/comm').read() != 'sleep\\n': time.sleep(0.01)";
    let target = lab.python(code);
    let report = foreseen(lab, &target, Cause::NestedNamespace);
    assert!(is_blocked(&report).detail.contains("uts"));
}

fn no_init(lab: &Lab) {
    // The dumped process is a child of the first process of the namespace. /dev/shm is unmounted,
    // so that writes of other programs there do not matter.
    let code = "\
child = subprocess.Popen(['unshare', '--pid', '--fork', '--mount-proc', 'sh', '-c',
    'while umount -l /dev/shm; do :; done 2>/dev/null; \
     setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo; wait'], stdout=subprocess.PIPE)
child.stdout.readline()";
    let target = lab.python(code);
    assert!(soon(|| criu_lab::process::descendants(target.pid).len() == 4));
    let sleep = *criu_lab::process::descendants(target.pid).last().unwrap();
    assert!(soon(|| {
        let stat = procfs::process::Process::new(sleep.as_raw()).unwrap().stat().unwrap();
        stat.comm == "sleep" && stat.session == sleep.as_raw()
    }));
    let images = lab.dir("images");
    foreseen_of(lab, Dump::new(sleep, &images), Cause::NoInit);
}

fn system_v(lab: &Lab) {
    let code = "\
shm = call(29, 0, 4096, 0o1600)
libc.shmat.restype = ctypes.c_void_p
assert libc.shmat(shm, None, 0) != -1
call(31, shm, 0, None)";
    let target = lab.python(code);
    let report = foreseen(lab, &target, Cause::SysvShm);
    is_blocked(&report);
}

fn criu_too_old(lab: &Lab) {
    let target = lab.start(&["count"]);
    let images = lab.dir("images");
    let dump = Dump::new(target.pid, &images);
    let old = other(lab, "bookworm");
    let report = dump.preflight(&old).unwrap();
    assert!(report.foresees(Cause::CriuTooOld), "{report}");
    assert_eq!(dump.run(&old).unwrap_err().cause(), Some(Cause::CriuTooOld));
}

fn not_built_in(lab: &Lab) {
    let target = lab.start(&["count"]);
    let features = lab.criu.features().unwrap();
    if features.mem_track == Some(false) {
        let images = lab.dir("track");
        let dump = Dump::new(target.pid, &images).track_mem(true);
        foreseen_of(lab, dump, Cause::NoSoftDirty);
    }
    let images = lab.dir("compress");
    let dump = Dump::new(target.pid, &images).compress(Compression::new());
    if lab.version < Version::new(4, 3, 0) {
        let report = dump.preflight(&lab.criu).unwrap();
        assert!(is_blocked(&report).detail.contains("needs CRIU 4.3"), "{report}");
        assert!(matches!(dump.run(&lab.criu).unwrap_err(), Error::TooOld { .. }));
    } else {
        foreseen_of(lab, dump, Cause::NoCompression);
    }
    // A criu that does not find the program which locks connections.
    let target = lab.start(&["tcp"]);
    let images = lab.dir("lock");
    let dump = Dump::new(target.pid, &images).tcp(Tcp::Established);
    let nowhere: Criu = lab.criu.clone().env("PATH", "/nonexistent");
    let report = dump.preflight(&nowhere).unwrap();
    let cause = of_sockets(lab, Cause::NetworkLockFailed);
    assert!(report.foresees(cause), "{report}");
    assert_eq!(dump.run(&nowhere).unwrap_err().cause(), Some(cause));
}

fn no_space(lab: &Lab) {
    let target = lab.start(&["memory", "16"]);
    let images = lab.dir("full");
    let size = Some("size=256k");
    mount(Some("tmpfs"), &images, Some("tmpfs"), MsFlags::empty(), size).unwrap();
    let result = std::panic::catch_unwind(|| {
        foreseen_of(lab, Dump::new(target.pid, &images), Cause::NoSpace);
    });
    umount(&images).unwrap();
    result.unwrap();
}

fn checkpoint_exists(lab: &Lab) {
    let target = lab.start(&["lock"]);
    let images = lab.dir("images");
    let dump = Dump::new(target.pid, &images).after_dump(AfterDump::LeaveRunning);
    let report = dump.preflight(&lab.criu).unwrap();
    works_by_itself(lab, &target, &report);
    let dump = dump.with_preflight(&report);
    dump.run(&lab.criu).unwrap();
    let report = dump.preflight(&lab.criu).unwrap();
    assert_eq!(report.options(), [Need::Overwrite], "{report}");
    assert_eq!(report.safe_options(), []);
    assert!(matches!(dump.run(&lab.criu).unwrap_err(), Error::CheckpointExists { .. }));
    let dump = Need::Overwrite.set(dump);
    assert!(dump.preflight(&lab.criu).unwrap().will_work());
    dump.run(&lab.criu).unwrap();
}
