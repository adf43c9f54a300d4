//! Open files, locks, mounts and memory.

use criu_rs::preflight::{Finding, Need, Severity};
use criu_rs::{Cause, Dump, External};

use super::{foreseen, foreseen_of, is_blocked, works_by_itself, works_with_options};
use crate::lab::{Lab, TestFn};

pub const TESTS: &[(&str, TestFn)] = &[
    ("preflight_foresees_file_locks_of_every_kind", file_locks),
    ("preflight_does_not_take_a_shared_lock_by_itself", shared_lock),
    ("preflight_foresees_a_ghost_too_large", ghost_too_large),
    ("preflight_foresees_an_unlinked_mapping", unlinked_mapping),
    ("preflight_foresees_a_link_remap", link_remap),
    ("preflight_foresees_a_name_that_is_taken", path_taken),
    ("preflight_foresees_a_file_outside_the_mounts", outside),
    ("preflight_foresees_a_hidden_mount", overmounted),
    ("preflight_foresees_files_of_odd_kinds", odd_kinds),
    ("preflight_of_a_program_in_memory", program_of_memory),
    ("preflight_foresees_a_pidfd_of_a_stranger", pidfd),
    ("preflight_foresees_an_external_mount", external_mount),
    ("preflight_foresees_mounts_that_follow_others", slave_mounts),
    ("preflight_foresees_memory_of_a_device", device_memory),
];

fn file_locks(lab: &Lab) {
    let file = lab.dir.join("locked");
    let open = format!("f = open('{}', 'w+')\n", file.display());
    for lock in [
        "fcntl.flock(f, fcntl.LOCK_EX)",
        "fcntl.lockf(f, fcntl.LOCK_EX, 7, 3)",
        "fcntl.fcntl(f, 37, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0))",
        "fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK)",
    ] {
        let mut target = lab.python(&format!("{open}{lock}"));
        let report = foreseen(lab, &target, Cause::FileLocks);
        assert_eq!(report.options(), [Need::FileLocks], "{lock}");
        works_by_itself(lab, &target, &report);
        target.end();
    }
}

fn shared_lock(lab: &Lab) {
    let file = lab.dir.join("locked");
    let code = format!("f = open('{}', 'w+')\nfcntl.lockf(f, fcntl.LOCK_SH)", file.display());
    let _other = lab.python(&code.replace("LOCK_SH", "LOCK_EX, 7, 100"));
    let target = lab.python(&code.replace("LOCK_SH", "LOCK_EX, 7, 0"));
    let report = foreseen(lab, &target, Cause::FileLocks);
    assert_eq!(report.safe_options(), [], "{report}");
    works_with_options(lab, &target, &report);
    // A lock that the tree has inherited is held outside, too: a restore would wait for it.
    let file = std::fs::File::create(lab.dir.join("inherited")).unwrap();
    let lock = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive).unwrap();
    let copy = lock.try_clone().unwrap();
    let target = lab.start_with(&["count"], |command| command.stdout(copy));
    let images = lab.dir("inherited-images");
    let dump = Dump::new(target.pid, &images).file_locks(true);
    let told = |dump: &Dump<'_>| {
        let report = dump.preflight(&lab.criu).unwrap();
        let of_locks = |found: &&Finding| found.cause == Some(Cause::FileLocks);
        report.findings().iter().find(of_locks).map(|found| found.severity)
    };
    assert_eq!(told(&dump), Some(Severity::Loses));
    drop(lock);
}

fn ghost_too_large(lab: &Lab) {
    let target = lab.start(&["ghost", "2097152"]);
    let report = foreseen(lab, &target, Cause::GhostTooLarge);
    works_by_itself(lab, &target, &report);
    // A file with holes counts with its size on disk.
    let file = lab.dir.join("sparse");
    let code =
        format!("f = open('{0}', 'w')\nf.truncate(1 << 33)\nos.unlink('{0}')", file.display());
    let target = lab.python(&code);
    let images = lab.dir("sparse-images");
    let dump = Dump::new(target.pid, &images);
    let report = dump.preflight(&lab.criu).unwrap();
    assert!(report.will_work(), "{report}");
    dump.run(&lab.criu).unwrap();
}

fn unlinked_mapping(lab: &Lab) {
    // A library is unlinked but mapped after an upgrade.
    let file = lab.dir.join("library");
    let code = format!(
        "f = open('{0}', 'w+b')\nf.write(b'x' * (3 << 20))\nf.flush()\n\
         m = mmap.mmap(f.fileno(), 4096, mmap.MAP_PRIVATE)\nf.close()\nos.unlink('{0}')",
        file.display()
    );
    let target = lab.python(&code);
    let report = foreseen(lab, &target, Cause::GhostTooLarge);
    works_by_itself(lab, &target, &report);
}

fn link_remap(lab: &Lab) {
    let file = lab.dir.join("file");
    let code =
        format!("f = open('{0}', 'w')\nos.link('{0}', '{0}.2')\nos.unlink('{0}')", file.display());
    let target = lab.python(&code);
    let report = foreseen(lab, &target, Cause::LinkRemap);
    assert_eq!(report.safe_options(), [], "it changes somebody's directory");
    works_with_options(lab, &target, &report);
}

fn path_taken(lab: &Lab) {
    // Another file has the name that /proc gives the unlinked file.
    let file = lab.dir.join("file");
    let code = format!(
        "f = open('{0}', 'w')\nos.link('{0}', '{0}.2')\nos.unlink('{0}')\n\
         open('{0} (deleted)', 'w').close()",
        file.display()
    );
    let target = lab.python(&code);
    let report = foreseen(lab, &target, Cause::PathTaken);
    is_blocked(&report);
}

fn outside(lab: &Lab) {
    // The program of this process is outside its mount namespace too.
    let target = lab.start(&["outside-file", "/etc/hostname"]);
    let report = foreseen(lab, &target, Cause::FileOutsideMounts);
    is_blocked(&report);
    // Devices need the option too.
    for file in ["/etc/hostname", "/dev/null"] {
        let code = "os.dup2(old, 0)\nos.close(old)";
        let head = "import os\nold = os.dup(0)";
        let mut target = lab.python_around(&PRIVATE, head, code, file);
        let report = foreseen(lab, &target, Cause::FileOutsideMounts);
        let options = report.options();
        assert!(matches!(options[..], [Need::External(External::File { .. })]), "{options:?}");
        works_with_options(lab, &target, &report);
        target.end();
    }
}

/// A command that runs a program in a mount namespace of its own, without the file systems in
/// memory of other programs, which a dump would save too.
const PRIVATE: [&str; 7] = [
    "unshare",
    "--mount",
    "--propagation",
    "private",
    "sh",
    "-c",
    "umount --all --types tmpfs --lazy; exec \"$0\" \"$@\"",
];

fn overmounted(lab: &Lab) {
    let point = lab.dir.join("point");
    let code = format!(
        "os.mkdir('{0}')\nsubprocess.check_call('mount -t tmpfs a {0}', shell=True)\n\
         f = open('{0}/file', 'w')\nsubprocess.check_call('mount -t tmpfs b {0}', shell=True)",
        point.display()
    );
    let target = lab.python_in(&PRIVATE, &code);
    let report = foreseen(lab, &target, Cause::Overmounted);
    is_blocked(&report);
}

fn odd_kinds(lab: &Lab) {
    for (kind, code) in [
        ("io_uring", "call(425, 4, ctypes.create_string_buffer(120))"),
        ("userfaultfd", "call(323, 0)"),
        ("BPF", BPF),
        ("device", "f = os.open('/dev/fuse', os.O_RDWR)"),
        (
            "namespace",
            "p = subprocess.Popen(['unshare', '--net', 'sh', '-c', 'echo; exec sleep 9'], \
             stdout=subprocess.PIPE)\np.stdout.readline()\n\
             f = open(f'/proc/{p.pid}/ns/net')\np.kill()\np.wait()",
        ),
    ] {
        let mut target = lab.python(code);
        let images = lab.fresh("odd");
        let (report, _) = foreseen_of(lab, Dump::new(target.pid, &images), Cause::UnsupportedFile);
        assert!(is_blocked(&report).detail.contains(kind), "{report}");
        target.end();
    }
    // A process with all kinds that CRIU saves.
    let target = lab.python(
        "call(290, 0, 0)\ncall(291, 0)\ncall(294, 0)\ncall(283, 1, 0)\n\
         call(289, -1, ctypes.create_string_buffer(8), 8, 0)\ncall(319, b'memory', 0)\n\
         os.pipe()\nopen('/dev/zero')\nos.open('/dev/ptmx', os.O_RDWR)\nopen('/proc/self/ns/net')\n\
         r = os.memfd_create('x')",
    );
    let images = lab.dir("usual");
    let dump = Dump::new(target.pid, &images);
    let report = dump.preflight(&lab.criu).unwrap();
    assert!(report.will_work(), "{report}");
    dump.run(&lab.criu).unwrap();
}

/// Loads a BPF program that does nothing.
const BPF: &str = "\
code = ctypes.create_string_buffer(b'\\xb7' + bytes(7) + b'\\x95' + bytes(7))
free = ctypes.create_string_buffer(b'GPL')
words = (1, 2, ctypes.addressof(code), ctypes.addressof(free), 0, 0, 0, 0, 0, b'')
call(321, 5, struct.pack('IIQQIIQII16s', *words), 64)";

fn program_of_memory(lab: &Lab) {
    // runc executes a copy of itself in memory like this.
    let script = "\
import os, sys
fd = os.memfd_create('program', 0)
os.write(fd, open(sys.argv[1], 'rb').read())
os.execv(f'/proc/self/fd/{fd}', sys.argv[1:])";
    let target = lab.python_in(&["/usr/bin/python3", "-S", "-c", script], "");
    let exe = std::fs::read_link(format!("/proc/{}/exe", target.pid)).unwrap();
    assert!(exe.starts_with("/memfd:program (deleted)"), "{exe:?}");
    let images = lab.dir("images");
    let dump = Dump::new(target.pid, &images);
    let report = dump.preflight(&lab.criu).unwrap();
    assert!(report.will_work(), "{report}");
    dump.run(&lab.criu).unwrap();
}

fn pidfd(lab: &Lab) {
    let target = lab.python("f = os.pidfd_open(os.getppid())");
    let report = foreseen(lab, &target, Cause::PidfdOutside);
    is_blocked(&report);
    let target = lab.python("p = subprocess.Popen(['sleep', '1000'])\nf = os.pidfd_open(p.pid)");
    let images = lab.dir("inside");
    let dump = Dump::new(target.pid, &images);
    let report = dump.preflight(&lab.criu).unwrap();
    assert!(report.will_work(), "{report}");
    dump.run(&lab.criu).unwrap();
}

fn external_mount(lab: &Lab) {
    let outside = lab.dir("outside");
    std::fs::create_dir_all(outside.join("a")).unwrap();
    let root = lab.dir("root");
    let code = format!(
        "root, out = '{}', '{}'\n\
         subprocess.check_call(f'mount -t tmpfs a {{out}}; mkdir {{out}}/a; \
         mkdir -p {{root}}/in; mount --rbind {{out}}/a {{root}}/in; \
         umount -l {{out}}', shell=True)",
        root.display(),
        outside.display()
    );
    let target = lab.python_in(&PRIVATE, &code);
    let report = foreseen(lab, &target, Cause::ExternalMount);
    works_with_options(lab, &target, &report);
    // A file system that CRIU does not know.
    let code = format!(
        "os.mkdir('{0}')\nsubprocess.check_call('mount -t ramfs a {0}', shell=True)",
        lab.dir.join("ramfs").display()
    );
    let target = lab.python_in(&PRIVATE, &code);
    let report = foreseen(lab, &target, Cause::UnsupportedMount);
    works_with_options(lab, &target, &report);
}

fn slave_mounts(lab: &Lab) {
    let point = lab.dir("point");
    let code = format!(
        "subprocess.check_call('mount -t tmpfs a {0}; mount --make-shared {0}', shell=True)",
        point.display()
    );
    let holder = lab.python_in(&PRIVATE, &code);
    let namespace = format!("--mount=/proc/{}/ns/mnt", holder.pid);
    let before = ["nsenter", &namespace, "--", "unshare", "--mount", "--propagation", "slave"];
    let target = lab.python_in(&before, "");
    let report = foreseen(lab, &target, Cause::ExternalMount);
    works_with_options(lab, &target, &report);
}

fn device_memory(lab: &Lab) {
    let code = "\
r = call(425, 4, ctypes.create_string_buffer(120))
m = mmap.mmap(r, 4096)
os.close(r)";
    let target = lab.python(code);
    let report = foreseen(lab, &target, Cause::UnsupportedMapping);
    is_blocked(&report);
}
