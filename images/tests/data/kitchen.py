"""A process that has one of nearly everything that CRIU saves.

ROOT/kitchen.py ROOT WORDS... makes ROOT its root directory, fills it, and writes ROOT/tmp/ready. At SIGHUP
it looks whether all is as it was and writes what is not to ROOT/tmp/report. WORDS: `inet` for sockets of the
internet's families.
"""

import array
import ctypes
import fcntl
import json
import mmap
import os
import queue
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

PAGE = 4096
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.shmat.restype = ctypes.c_void_p


def call(name, *args):
    result = getattr(libc, name)(*args)
    if result == -1:
        raise OSError(ctypes.get_errno(), name)
    return result


def enter(root):
    """The root directory of the mount namespace, with /usr of the machine in it."""
    os.closerange(3, 1024)
    run = lambda *words: subprocess.run(words, check=True)
    run("mount", "--make-rprivate", "/")
    run("mount", "--bind", root, root)
    for name in ["usr", "proc", "dev/pts", "tmp", "scratch", "old"]:
        os.makedirs(f"{root}/{name}", exist_ok=True)
    for name in ["bin", "lib", "lib64", "sbin"]:
        os.symlink(f"usr/{name}", f"{root}/{name}")
    os.symlink("pts/ptmx", f"{root}/dev/ptmx")
    run("mount", "--bind", "/usr", f"{root}/usr")
    run("mount", "-t", "proc", "proc", f"{root}/proc")
    run("mount", "-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=620", "devpts", f"{root}/dev/pts")
    run("mount", "-t", "tmpfs", "-o", "size=1m,nosuid", "scratch", f"{root}/scratch")
    if "inet" in sys.argv:
        run("ip", "link", "set", "lo", "up")
        run("ip", "addr", "add", "10.9.0.1/24", "dev", "lo")
        run("ip", "rule", "add", "from", "10.9.0.0/24", "lookup", "100")
        run("ip", "route", "add", "10.10.0.0/16", "via", "10.9.0.2", "metric", "7")
    run("hostname", "kitchen")
    os.chdir(root)
    run("pivot_root", ".", "old")
    os.chdir("/")
    run("/usr/bin/umount", "-l", "/old")
    os.rmdir("/old")
    with open("/scratch/file", "w") as f:
        f.write("on a tmpfs")
    os.setsid()
    # Nothing of the old root may stay open or mapped.
    log = os.open("/tmp/log.txt", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    for fd in range(3):
        os.dup2(log, fd)
    os.close(log)
    os.execv("/usr/bin/python3", ["python3", "/kitchen.py", "", *sys.argv[2:]])


def seccomp(syscall, action):
    """Lets this thread's calls of `syscall` end as `action` says."""
    filter = struct.pack(
        "HBBIHBBIHBBIHBBI",
        0x20, 0, 0, 0,
        0x15, 0, 1, syscall,
        0x06, 0, 0, action,
        0x06, 0, 0, 0x7FFF0000,
    )
    code = ctypes.create_string_buffer(filter)
    program = struct.pack("HxxxxxxP", len(filter) // 8, ctypes.addressof(code))
    call("prctl", 38, 1, 0, 0, 0)
    call("syscall", 317, 1, 0, ctypes.create_string_buffer(program))


def pattern(address):
    """A page that says where it lies."""
    return struct.pack("QQ", address, ~address & 2**64 - 1) * (PAGE // 16)


class Kitchen:
    def __init__(self):
        self.memory()
        self.pipes()
        self.sockets()
        self.files()
        self.events()
        self.terminal()
        self.children()
        self.ipc()
        self.signals()
        if "inet" in sys.argv:
            self.internet()
        self.threads()

    def memory(self):
        self.area = call("mmap", None, ctypes.c_size_t(64 * PAGE), 3, 0x22, -1, ctypes.c_long(0))
        for i in range(0, 64, 3):
            ctypes.memmove(self.area + i * PAGE, pattern(self.area + i * PAGE), PAGE)
        self.shared = mmap.mmap(-1, 16 * PAGE)
        self.shared[5 * PAGE : 6 * PAGE] = pattern(5 * PAGE)
        self.memfd = os.memfd_create("pool")
        os.truncate(self.memfd, 9 * PAGE)
        os.pwrite(self.memfd, pattern(2 * PAGE), 2 * PAGE)

    def memory_is(self):
        for i in range(0, 64, 3):
            at = self.area + i * PAGE
            yield "memory", ctypes.string_at(at, PAGE), pattern(at)
        yield "shared memory", self.shared[5 * PAGE : 6 * PAGE], pattern(5 * PAGE)
        yield "memfd", os.pread(self.memfd, PAGE, 2 * PAGE), pattern(2 * PAGE)

    def pipes(self):
        self.pipe = os.pipe()
        fcntl.fcntl(self.pipe[1], 1031, 1 << 17)
        os.write(self.pipe[1], b"in the pipe " * 6000)
        os.mkfifo("/tmp/fifo")
        self.fifo = os.open("/tmp/fifo", os.O_RDWR)
        os.write(self.fifo, b"in the fifo")

    def pipes_are(self):
        yield "pipe", os.read(self.pipe[0], 1 << 17), b"in the pipe " * 6000
        yield "fifo", os.read(self.fifo, 99), b"in the fifo"

    def sockets(self):
        self.stream = socket.socketpair()
        rights = array.array("i", [self.pipe[0], self.memfd])
        self.stream[0].sendmsg([b"two descriptors"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        self.stream[0].send(b" and more")
        self.datagrams = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for text in [b"one", b"two", b"three"]:
            self.datagrams[0].send(text)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind("/tmp/listener")
        self.listener.listen(3)
        self.named = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.named.bind("\0abstract")

    def sockets_are(self):
        data, ancillary, _, _ = self.stream[1].recvmsg(15, 99)
        yield "stream", data, b"two descriptors"
        fds = array.array("i", ancillary[0][2])
        yield "descriptors", os.pread(fds[1], 8, 2 * PAGE), pattern(2 * PAGE)[:8]
        yield "stream", self.stream[1].recv(99), b" and more"
        yield "datagrams", [self.datagrams[1].recv(9) for _ in range(3)], [b"one", b"two", b"three"]
        client = socket.socket(socket.AF_UNIX)
        client.connect("/tmp/listener")
        yield "listener", self.listener.accept()[0].fileno() > 2, True
        yield "name", self.named.getsockname(), b"\0abstract"

    def files(self):
        self.log = open("/tmp/log", "w+b", buffering=0)
        self.log.write(b"seven\n!")
        fcntl.lockf(self.log, fcntl.LOCK_EX, 3, 2)
        self.locked = os.open("/tmp/locked", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self.locked, fcntl.LOCK_SH)
        self.ghost = os.open("/tmp/ghost", os.O_RDWR | os.O_CREAT, 0o640)
        for at in [0, 40, 1000]:
            os.pwrite(self.ghost, pattern(at), at * PAGE)
        os.ftruncate(self.ghost, 1234 * PAGE)
        os.unlink("/tmp/ghost")
        os.mkdir("/tmp/gone")
        self.gone = os.open("/tmp/gone", os.O_RDONLY)
        os.rmdir("/tmp/gone")
        os.mkdir("/tmp/work")
        os.chdir("/tmp/work")
        self.directory = os.open("/tmp", os.O_RDONLY | os.O_DIRECTORY)

    def files_are(self):
        yield "offset", self.log.tell(), 7
        for at in [0, 40, 1000]:
            yield "ghost", os.pread(self.ghost, PAGE, at * PAGE), pattern(at)
        yield "holes", os.pread(self.ghost, PAGE, 500 * PAGE), bytes(PAGE)
        yield "size", os.fstat(self.ghost).st_size, 1234 * PAGE
        # Where the data lies: what is a hole stays one.
        yield "blocks", os.fstat(self.ghost).st_blocks <= 24, True
        yield "directory", os.fstat(self.gone).st_nlink, 0
        yield "cwd", os.getcwd().split("/")[-1], "work"
        locks = [line.split()[1:4] for line in open("/proc/locks")]
        yield "locks", ["POSIX", "ADVISORY", "WRITE"] in locks, True
        yield "locks", ["FLOCK", "ADVISORY", "READ"] in locks, True
        yield "tmpfs", open("/scratch/file").read(), "on a tmpfs"

    def events(self):
        self.eventfd = call("eventfd", 7, 0)
        self.epoll = select.epoll()
        self.epoll.register(self.pipe[0], select.EPOLLIN)
        self.epoll.register(self.eventfd, select.EPOLLIN | select.EPOLLET)
        self.signalfd = call("signalfd", -1, struct.pack("Q", 1 << signal.SIGUSR1 - 1), 0)
        self.timerfd = call("timerfd_create", time.CLOCK_MONOTONIC, 0)
        call("timerfd_settime", self.timerfd, 0, struct.pack("qqqq", 5, 0, 5000, 0), None)
        self.inotify = call("inotify_init1", os.O_NONBLOCK)
        call("inotify_add_watch", self.inotify, b"/tmp/work", 0x100)

    def events_are(self):
        ready = dict(self.epoll.poll(0))
        yield "epoll", sorted(ready), sorted([self.pipe[0], self.eventfd])
        yield "eventfd", os.read(self.eventfd, 8), struct.pack("Q", 7)
        left = ctypes.create_string_buffer(32)
        call("timerfd_gettime", self.timerfd, left)
        period, _, due, _ = struct.unpack("qqqq", left)
        yield "timerfd", (period, 4000 < due < 5000), (5, True)
        open("new", "w").close()
        yield "inotify", os.read(self.inotify, 999)[16:19], b"new"
        os.unlink("new")

    def terminal(self):
        self.pty = os.openpty()
        fcntl.ioctl(self.pty[0], 0x5414, struct.pack("HHHH", 30, 100, 0, 0))

    def terminal_is(self):
        size = fcntl.ioctl(self.pty[1], 0x5413, bytes(8))
        yield "pty", size[:4], struct.pack("HH", 30, 100)
        os.write(self.pty[1], b"typed\n")
        yield "pty", os.read(self.pty[0], 99), b"typed\r\n"

    def children(self):
        self.zombie = os.fork()
        if self.zombie == 0:
            os._exit(3)
        os.waitid(os.P_PID, self.zombie, os.WEXITED | os.WNOWAIT)
        self.sleeper = os.fork()
        if self.sleeper == 0:
            os.setsid()
            fcntl.ioctl(self.pty[1], 0x540E, 0)
            while True:
                signal.pause()
        self.stopped = os.fork()
        if self.stopped == 0:
            while True:
                signal.pause()
        os.kill(self.stopped, signal.SIGSTOP)
        os.waitid(os.P_PID, self.stopped, os.WSTOPPED | os.WNOWAIT)
        self.pidfd = os.pidfd_open(self.sleeper)

    def children_are(self):
        yield "pidfd", select.select([self.pidfd], [], [], 0)[0], []
        yield "zombie", os.waitpid(self.zombie, 0)[1], 3 << 8
        state = open(f"/proc/{self.stopped}/stat").read().split()[2]
        yield "stopped", state, "T"
        os.kill(self.sleeper, signal.SIGKILL)
        os.waitpid(self.sleeper, 0)
        yield "pidfd", select.select([self.pidfd], [], [], 0)[0], [self.pidfd]

    def ipc(self):
        self.segment = call("shmget", 0x1234, ctypes.c_size_t(3 * PAGE), 0o1600)
        self.attached = call("shmat", self.segment, None, 0)
        ctypes.memmove(self.attached, pattern(1), PAGE)
        self.semaphores = call("semget", 0x1235, 3, 0o1600)
        call("semctl", self.semaphores, 1, 16, 41)
        self.queue = call("msgget", 0x1236, 0o1600)
        for text in [b"first", b"second one"]:
            message = struct.pack("q", len(text)) + text
            call("msgsnd", self.queue, message, ctypes.c_size_t(len(text)), 0)

    def ipc_is(self):
        yield "shm", ctypes.string_at(self.attached, PAGE), pattern(1)
        yield "sem", call("semctl", self.semaphores, 1, 12), 41
        got = ctypes.create_string_buffer(99)
        size = call("msgrcv", self.queue, got, ctypes.c_size_t(50), ctypes.c_long(10), 0)
        yield "msg", got.raw[8 : 8 + size], b"second one"

    def signals(self):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGRTMIN])
        os.kill(os.getpid(), signal.SIGUSR1)
        for value in [11, 12]:
            call("sigqueue", os.getpid(), signal.SIGRTMIN, ctypes.c_void_p(value))
        signal.setitimer(signal.ITIMER_REAL, 4000, 9)
        event = struct.pack("qii48x", 77, signal.SIGRTMIN + 1, 0)
        timer = ctypes.c_int()
        call("syscall", 222, time.CLOCK_MONOTONIC, event, ctypes.byref(timer))
        self.timer = timer.value
        call("syscall", 223, self.timer, 0, struct.pack("qqqq", 6, 0, 6000, 0), None)

    def signals_are(self):
        yield "pending", signal.sigpending() >= {signal.SIGUSR1, signal.SIGRTMIN}, True
        due, period = signal.getitimer(signal.ITIMER_REAL)
        yield "itimer", (3000 < due < 4000, period), (True, 9)
        left = ctypes.create_string_buffer(32)
        call("syscall", 224, self.timer, left)
        period, _, due, _ = struct.unpack("qqqq", left)
        yield "timer", (5000 < due < 6000, period), (True, 6)

    def internet(self):
        server = socket.create_server(("127.0.0.1", 8080))
        self.server = server
        self.client = socket.create_connection(("127.0.0.1", 8080))
        self.accepted = server.accept()[0]
        self.client.send(b"to the server")
        self.accepted.send(b"to the client")
        self.udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self.udp.bind(("::", 5353))
        self.netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        self.netlink.bind((0, 0))
        self.packet = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)

    def internet_is(self):
        yield "tcp", self.accepted.recv(99), b"to the server"
        yield "tcp", self.client.recv(99), b"to the client"
        self.client.send(b"again")
        yield "tcp", self.accepted.recv(99), b"again"
        rules = subprocess.run(["/usr/sbin/ip", "rule"], capture_output=True, text=True).stdout
        yield "rule", "lookup 100" in rules, True

    def threads(self):
        def serve(filters, asked, answers):
            for filter in filters:
                seccomp(*filter)
            answers.put("ready")
            while True:
                libc.syscall(asked.get(), 0, 0, 0, 0, 0)
                answers.put(ctypes.get_errno())

        # On ptrace(2) an error, on mount(2) another; the second thread has both.
        self.servants = []
        for filters in [[(101, 0x50001)], [(101, 0x50001), (165, 0x50002)]]:
            queues = queue.SimpleQueue(), queue.SimpleQueue()
            threading.Thread(target=serve, args=[filters, *queues], daemon=True).start()
            queues[1].get()
            self.servants.append(queues)

    def threads_are(self):
        counts = []
        for thread in os.listdir("/proc/self/task"):
            for line in open(f"/proc/self/task/{thread}/status"):
                if line.startswith("Seccomp_filters"):
                    counts.append(int(line.split()[1]))
        yield "seccomp", sorted(counts), [0, 1, 2]
        for asked, answers in self.servants:
            asked.put(101)
            yield "ptrace", answers.get(), 1
        asked.put(165)
        yield "mount", answers.get(), 2

    def report(self, *_):
        wrong = []
        for part in [name for name in dir(self) if name.endswith(("_is", "_are"))]:
            if part == "internet_is" and "inet" not in sys.argv:
                continue
            try:
                wrong += [(name, repr(a)[:99], repr(b)[:99]) for name, a, b in getattr(self, part)() if a != b]
            except Exception as error:
                wrong.append((part, repr(error)))
        with open("/tmp/report.new", "w") as f:
            f.write("".join(f"{line}\n" for line in wrong) or "all is as it was\n")
        os.rename("/tmp/report.new", "/tmp/report")


socket.setdefaulttimeout(5)
if sys.argv[1]:
    enter(sys.argv[1])
kitchen = Kitchen()
signal.signal(signal.SIGHUP, kitchen.report)
with open("/tmp/ready", "w") as f:
    json.dump({"area": kitchen.area, "pids": [os.getpid(), kitchen.zombie, kitchen.sleeper, kitchen.stopped]}, f)
while True:
    signal.pause()
