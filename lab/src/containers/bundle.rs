//! The bundle of a container: a root file system, and `config.json`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::{Value, json};

use super::bed::Bed;
use crate::place::unpacked;
use crate::process::ProcessId;
use crate::rootfs::{everybody, open_the_way, place_program};
use crate::soon;

/// A bundle whose process counts into `/count`.
#[derive(Debug)]
pub struct Bundle {
    /// The folder, which runtimes get as `--bundle`.
    pub dir: PathBuf,
    /// The root file system.
    pub root: PathBuf,
    /// The content of `config.json`. A test changes it and calls [`Bundle::write`].
    pub config: Value,
}

impl Bundle {
    /// A bundle that runs a payload, with `words` after the file into which it counts.
    pub fn new<P: ProcessId, C>(
        bed: &Bed<P, C>,
        name: &str,
        payload: &str,
        words: &[&str],
    ) -> Self {
        let dir = bed.dir(name);
        let root = root_file_system(&dir);
        let args = [&["/payload", "--payload", payload, "/count"], words].concat();
        let bundle = Self { dir, root, config: config(&args) };
        bundle.write();
        bundle
    }

    /// Changes the configuration, and writes it.
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self.write();
        self
    }

    /// Writes `config.json`.
    pub fn write(&self) {
        let text = serde_json::to_string_pretty(&self.config).unwrap();
        fs::write(self.dir.join("config.json"), text).unwrap();
    }

    /// Sets `linux.seccomp`.
    pub fn seccomp(&mut self, profile: Value) {
        self.config["linux"]["seccomp"] = profile;
    }

    /// Leaves only these capabilities, like `CAP_KILL`.
    pub fn capabilities(&mut self, names: &[&str]) {
        self.config["process"]["capabilities"] = capabilities(names);
    }

    /// Adds a bind mount; whoever runs the container makes the place.
    pub fn bind(&mut self, outside: &Path, inside: &str, options: &[&str]) {
        let options = [&["rbind"], options].concat();
        let mount =
            json!({"destination": inside, "type": "bind", "source": outside, "options": options});
        push(&mut self.config["mounts"], mount);
    }

    /// Takes these paths away, as runtimes do with parts of `/proc`.
    pub fn mask(&mut self, paths: &[&str]) {
        self.config["linux"]["maskedPaths"] = json!(paths);
    }

    /// Makes these paths read-only.
    pub fn readonly(&mut self, paths: &[&str]) {
        self.config["linux"]["readonlyPaths"] = json!(paths);
    }

    /// Gives it a terminal, whose master goes to a console socket.
    pub fn terminal(&mut self) {
        self.config["process"]["terminal"] = json!(true);
    }

    /// Puts it into a namespace of that kind: one of its own, or that at `path`.
    pub fn namespace(&mut self, kind: &str, path: Option<&Path>) {
        self.without_namespace(kind);
        let namespace = match path {
            Some(path) => json!({"type": kind, "path": path}),
            None => json!({"type": kind}),
        };
        push(&mut self.config["linux"]["namespaces"], namespace);
    }

    /// Leaves it in the runtime's namespace of that kind.
    pub fn without_namespace(&mut self, kind: &str) {
        if let Some(list) = self.config["linux"]["namespaces"].as_array_mut() {
            list.retain(|namespace| namespace["type"] != kind);
        }
    }

    /// Gives it a user namespace whose ids begin at `first` outside.
    pub fn user_namespace(&mut self, first: u32) {
        self.namespace("user", None);
        let map = json!([{"containerID": 0, "hostID": first, "size": 65536}]);
        self.config["linux"]["uidMappings"] = map.clone();
        self.config["linux"]["gidMappings"] = map;
    }

    /// Sets a limit, like `RLIMIT_NOFILE`.
    pub fn rlimit(&mut self, kind: &str, soft: u64, hard: u64) {
        let limit = json!({"type": kind, "soft": soft, "hard": hard});
        push(&mut self.config["process"]["rlimits"], limit);
    }

    /// Sets `linux.cgroupsPath`.
    pub fn cgroups_path(&mut self, path: &str) {
        self.config["linux"]["cgroupsPath"] = json!(path);
    }

    /// Adds an annotation.
    pub fn annotation(&mut self, key: &str, value: &str) {
        self.config["annotations"][key] = json!(value);
    }

    /// The number to which the process has counted.
    ///
    /// # Panics
    /// If the process found a fault in itself, with that fault.
    #[track_caller]
    pub fn count(&self) -> u64 {
        let text = fs::read_to_string(self.root.join("count")).unwrap_or_default();
        match text.trim() {
            "" => 0,
            number => number.parse().unwrap_or_else(|_| panic!("the payload says: {text}")),
        }
    }

    /// Waits until the process has counted on. Returns its number.
    #[track_caller]
    pub fn goes_on(&self) -> u64 {
        let before = self.count().max(1);
        let counted = soon(|| self.count() > before);
        assert!(counted, "the payload does not count on from {before}");
        self.count()
    }

    /// Waits long enough to see that the process does not count on. Returns its number.
    #[track_caller]
    pub fn stands_still(&self) -> u64 {
        let before = self.count();
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert_eq!(self.count(), before, "the payload counts on");
        before
    }
}

/// A seccomp profile that allows every system call that a test needs. Runtimes install one filter
/// for it; payloads add others.
pub fn seccomp_profile(flags: &[&str]) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "flags": flags,
        "syscalls": [
            {"names": ALLOWED, "action": "SCMP_ACT_ALLOW"},
            {"names": ["personality"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "value": 2114060288, "valueTwo": 0,
                       "op": "SCMP_CMP_MASKED_EQ"}]},
        ],
    })
}

fn config(args: &[&str]) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": args,
            "env": ["PATH=/bin", "LD_LIBRARY_PATH=/lib64"],
            "cwd": "/",
            "capabilities": capabilities(CAPABILITIES),
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "bed",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]},
        ],
        "linux": {
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"},
                {"type": "mount"},
            ],
        },
        "annotations": {},
    })
}

fn capabilities(names: &[&str]) -> Value {
    json!({"bounding": names, "effective": names, "permitted": names})
}

fn push(list: &mut Value, value: Value) {
    match list.as_array_mut() {
        Some(list) => list.push(value),
        None => *list = json!([value]),
    }
}

/// A static busybox with the names it answers to, this program and its libraries.
fn root_file_system(dir: &Path) -> PathBuf {
    let root = dir.join("rootfs");
    for folder in ["bin", "dev", "lib64", "proc", "sys", "tmp", "data"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    everybody(&root, 0o777);
    place_program(&root);
    fs::copy(unpacked("bin/busybox"), root.join("bin/busybox")).unwrap();
    for name in ["sh", "sleep", "cat", "ls", "id", "ip"] {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    // For containers without a mount at /dev.
    let null = root.join("dev/null");
    mknod(&null, SFlag::S_IFCHR, Mode::all(), makedev(1, 3)).unwrap();
    everybody(&null, 0o666);
    open_the_way(&root);
    root
}

/// The capabilities that container engines leave a process by default.
const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// The system calls of the runtimes' own start, the payload, a shell, and CRIU's code in the
/// process.
const ALLOWED: &[&str] = &[
    "accept",
    "accept4",
    "access",
    "arch_prctl",
    "bind",
    "brk",
    "capget",
    "capset",
    "chdir",
    "chmod",
    "chown",
    "clock_getres",
    "clock_gettime",
    "clock_nanosleep",
    "clone3",
    "close",
    "close_range",
    "connect",
    "creat",
    "dup",
    "dup2",
    "dup3",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_wait",
    "eventfd2",
    "execve",
    "execveat",
    "exit",
    "exit_group",
    "faccessat",
    "faccessat2",
    "fchdir",
    "fchmod",
    "fchown",
    "fcntl",
    "fdatasync",
    "flock",
    "fork",
    "fstat",
    "fstatfs",
    "fsync",
    "ftruncate",
    "futex",
    "getcwd",
    "getdents64",
    "getegid",
    "geteuid",
    "getgid",
    "getgroups",
    "getitimer",
    "getpeername",
    "getpgid",
    "getpgrp",
    "getpid",
    "getppid",
    "getpriority",
    "getrandom",
    "getresgid",
    "getresuid",
    "getrlimit",
    "getsid",
    "getsockname",
    "getsockopt",
    "gettid",
    "gettimeofday",
    "getuid",
    "ioctl",
    "kill",
    "link",
    "listen",
    "lseek",
    "lstat",
    "madvise",
    "membarrier",
    "memfd_create",
    "mkdir",
    "mkdirat",
    "mlock",
    "mmap",
    "mprotect",
    "mq_open",
    "mremap",
    "msync",
    "munlock",
    "munmap",
    "nanosleep",
    "newfstatat",
    "open",
    "openat",
    "openat2",
    "pause",
    "pidfd_open",
    "pipe",
    "pipe2",
    "poll",
    "ppoll",
    "prctl",
    "pread64",
    "preadv",
    "prlimit64",
    "pselect6",
    "pwrite64",
    "pwritev",
    "read",
    "readlink",
    "readlinkat",
    "readv",
    "recvfrom",
    "recvmsg",
    "rename",
    "restart_syscall",
    "rmdir",
    "rseq",
    "rt_sigaction",
    "rt_sigpending",
    "rt_sigprocmask",
    "rt_sigqueueinfo",
    "rt_sigreturn",
    "rt_sigsuspend",
    "rt_sigtimedwait",
    "rt_tgsigqueueinfo",
    "sched_getaffinity",
    "sched_yield",
    "seccomp",
    "select",
    "sendfile",
    "sendmsg",
    "sendto",
    "set_robust_list",
    "set_tid_address",
    "setgid",
    "setgroups",
    "setitimer",
    "setpgid",
    "setpriority",
    "setresgid",
    "setresuid",
    "setrlimit",
    "setsid",
    "setsockopt",
    "setuid",
    "shmat",
    "shmctl",
    "shmdt",
    "shmget",
    "shutdown",
    "sigaltstack",
    "signalfd4",
    "socket",
    "socketpair",
    "stat",
    "statfs",
    "statx",
    "symlink",
    "sync",
    "sysinfo",
    "tgkill",
    "time",
    "timer_create",
    "timer_settime",
    "timerfd_create",
    "timerfd_settime",
    "times",
    "tkill",
    "truncate",
    "umask",
    "uname",
    "unlink",
    "unlinkat",
    "utime",
    "vfork",
    "wait4",
    "waitid",
    "write",
    "writev",
];
