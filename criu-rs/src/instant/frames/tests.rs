//! Tests with forks of a process that writes, discards, moves and forks.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{Signal, killpg};

use super::*;

#[test]
fn pages_that_were_written_are_changed_and_no_others() {
    for kind in ["small", "huge"] {
        let mut task = Task::start(64, kind);
        let mut old = task.fork();
        for round in 0..4 {
            let written = task.written(&format!("write {} {round}", 16_384 / 10));
            let new = task.fork();
            let ranges = task.region();
            let equal = pages_of(&compare(old, new, &ranges).0);
            let all = pages_of(&ranges);
            assert_eq!(all.difference(&equal).copied().collect::<BTreeSet<_>>(), written, "{kind}");
            old = new;
        }
    }
}

#[test]
fn no_page_with_other_bytes_is_unchanged_while_a_task_writes_at_full_speed() {
    for kind in ["small", "huge"] {
        let mut task = Task::start(64, kind);
        task.say("storm");
        let mut old = task.fork();
        for round in 0..8 {
            task.say(["discard 900", "move", "child", "collapse", "write 50 3"][round % 5]);
            let new = task.fork();
            let (found, tally) = compare(old, new, &private(new));
            assert!(tally.compared > 16_384 && tally.equal < tally.compared, "{kind}: {tally:?}");
            assert_eq!(different(old, new, &found), 0, "{kind}, round {round}: {tally:?}");
            old = new;
        }
    }
}

#[test]
fn no_page_with_other_bytes_is_unchanged_while_the_kernel_compacts_memory() {
    let done = AtomicBool::new(false);
    // Where this file cannot be written, this is the test above.
    let compact = || std::fs::write("/proc/sys/vm/compact_memory", "1").is_ok();
    std::thread::scope(|scope| {
        let end = End(&done);
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) && compact() {
                std::thread::yield_now();
            }
        });
        let mut task = Task::start(96, "small");
        let mut old = task.fork();
        let mut sum = Tally::default();
        for round in 0..6 {
            // Every other page goes, so that there are holes for the kernel to fill.
            task.say("sieve");
            let new = task.fork();
            let ranges = private(new);
            for _ in 0..2 {
                let (found, tally) = compare(old, new, &ranges);
                assert_eq!(different(old, new, &found), 0, "round {round}: {tally:?}");
                sum.repeated += tally.repeated;
                sum.read += tally.read;
            }
            old = new;
        }
        println!("under compaction: {sum:?}");
        drop(end);
    });
}

#[test]
fn bytes_are_compared_where_the_kernel_does_not_count() {
    let mut task = Task::start(8, "small");
    let old = task.fork();
    let written = task.written("write 200 7");
    let new = task.fork();
    let ranges = task.region();
    let mut frames = Frames::open(old, new).unwrap();
    frames.moves.vmstat = File::open("/proc/uptime").unwrap();
    let equal = pages_of(&frames.equal(&ranges).unwrap());
    let changed: BTreeSet<u64> = pages_of(&ranges).difference(&equal).copied().collect();
    assert_eq!(changed, written);
    let tally = frames.tally();
    assert_eq!((tally.compared, tally.equal, tally.read), (2048, 1848, 1848));
}

#[test]
fn a_page_at_another_address_is_changed() {
    let mut task = Task::start(8, "small");
    let old = task.fork();
    task.say("move");
    let new = task.fork();
    let (found, tally) = compare(old, new, &task.region());
    assert_eq!(different(old, new, &found), 0);
    assert_eq!(tally.compared - tally.equal, 512, "two areas of 1 MiB have changed places");
}

#[test]
fn another_program_shares_no_page() {
    let mut task = Task::start(8, "small");
    let old = task.fork();
    task.say("exec");
    let new = task.fork();
    let (found, tally) = compare(old, new, &private(new));
    assert_eq!((found.len(), tally.equal), (0, 0), "{found:x?}");
}

#[test]
fn a_holder_that_has_ended_is_an_error() {
    let mut task = Task::start(8, "small");
    let (old, new) = (task.fork(), task.fork());
    let ranges = task.region();
    let mut frames = Frames::open(old, new).unwrap();
    task.say(&format!("end {old}"));
    let error = frames.equal(&ranges).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}");
}

#[test]
fn ranges_become_batches_of_few_entries() {
    let run = |start: u64, end: u64| start * page()..end * page();
    let all = batches(&[run(1, 3), run(5, 6), run(1000, 1007)], 6);
    assert_eq!(all.len(), 2);
    assert_eq!(
        (all[0].entries, all[0].spans.as_slice()),
        (6, [run(1, 6), run(1000, 1001)].as_slice())
    );
    let firsts: Vec<usize> = all[0].runs.iter().map(|(_, first)| *first).collect();
    assert_eq!((firsts, all[0].pages()), (vec![0, 4, 5], 4));
    assert_eq!(all[1].runs, [(run(1001, 1007), 0)]);
    assert!(batches(&[], 6).is_empty());
}

#[test]
fn moves_are_counted_from_a_whole_text_only() {
    let text = b"nr_free_pages 12\npgmigrate_success 7\npgmigrate_fail 3\nthp_collapse_alloc 2\n";
    assert_eq!(moves(text), Some(9));
    assert_eq!(moves(b"thp_collapse_alloc 2\n"), None);
    assert_eq!(moves(b"pgmigrate_success many\n"), None);
    assert!(Moves::open().unwrap().count().unwrap().is_some());
}

/// Ends a thread that looks at the flag, even if the test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A process that does what it is told, and its forks, which do nothing.
struct Task {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Task {
    fn start(mebibytes: u64, kind: &str) -> Self {
        let mut child = Command::new("/usr/bin/python3")
            .args(["-S", "-c", SCRIPT, &mebibytes.to_string(), kind])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let to = child.stdin.take().unwrap();
        let from = BufReader::new(child.stdout.take().unwrap());
        let mut task = Self { child, to, from };
        assert_eq!(task.answer(), "ready");
        task
    }

    fn say(&mut self, words: &str) -> String {
        writeln!(self.to, "{words}").unwrap();
        self.answer()
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "the process has ended");
        line.trim_end().to_owned()
    }

    fn fork(&mut self) -> Pid {
        self.say("fork").parse().unwrap()
    }

    /// The memory that the process writes to.
    fn region(&mut self) -> [Range<u64>; 1] {
        let words = self.say("region");
        let (start, length) = words.split_once(' ').unwrap();
        let start: u64 = start.parse().unwrap();
        let region = start..start + length.parse::<u64>().unwrap();
        [region]
    }

    /// The addresses of pages that a command has written to.
    fn written(&mut self, words: &str) -> BTreeSet<u64> {
        self.say(words).split(' ').map(|address| address.parse().unwrap()).collect()
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let _ = killpg(Pid::from(&self.child).nix(), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

fn compare(old: Pid, new: Pid, ranges: &[Range<u64>]) -> (Vec<Range<u64>>, Tally) {
    let mut frames = Frames::open(old, new).unwrap();
    let found = frames.equal(ranges).unwrap();
    (found, frames.tally())
}

/// The number of pages with different bytes.
fn different(old: Pid, new: Pid, ranges: &[Range<u64>]) -> usize {
    let open = |pid| File::open(format!("/proc/{pid}/mem")).unwrap();
    let (old, new) = (open(old), open(new));
    let mut pages = [[0; 4096]; 2];
    let mut count = 0;
    for address in pages_of(ranges) {
        old.read_exact_at(&mut pages[0], address).unwrap();
        new.read_exact_at(&mut pages[1], address).unwrap();
        count += usize::from(pages[0] != pages[1]);
    }
    count
}

/// The pages of private memory that a process has for itself, as a dump saves them.
fn private(pid: Pid) -> Vec<Range<u64>> {
    let pagemap = File::open(format!("/proc/{pid}/pagemap")).unwrap();
    let mut found = Vec::new();
    for line in std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap().lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (start, end) = words[0].split_once('-').unwrap();
        let number = |text| u64::from_str_radix(text, 16).unwrap();
        let kernels = words.get(5).is_some_and(|name| name.starts_with("[v"));
        if kernels || !words[1].ends_with('p') {
            continue;
        }
        for address in (number(start)..number(end)).step_by(4096) {
            let mut word = [0; WORD];
            pagemap.read_exact_at(&mut word, address / 4096 * 8).unwrap();
            if entry(&word) & (PRESENT | FILE) == PRESENT {
                push(&mut found, address..address + 4096);
            }
        }
    }
    found
}

fn pages_of(ranges: &[Range<u64>]) -> BTreeSet<u64> {
    ranges.iter().flat_map(|range| range.clone().step_by(4096)).collect()
}

/// Each command is a line, and so is each answer.
const SCRIPT: &str = r#"
import ctypes, mmap, os, random, signal, sys, threading
size, page = int(sys.argv[1]) << 20, 4096
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = libc.mremap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
libc.mremap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
def area(size): return libc.mmap(None, size, 3, 0x22, -1, 0)
start = (area(size + (4 << 20)) + (2 << 20) - 1) & -(2 << 20)
libc.madvise(start, size, 14 if sys.argv[2] == 'huge' else 15)
count, value = size // page, 1
def put(at, value): ctypes.memset(start + at * page + 8 * (at % 500), value % 255 + 1, 8)
for at in range(count): put(at, at)
children, moving = [], threading.Lock()
def sleep():
    # Whoever reads the answers is to see the end of the process.
    os.close(0)
    os.close(1)
    while True: signal.pause()
def park():
    child = os.fork()
    if child == 0: sleep()
    children.append(child)
    return child
def storm():
    at = 0
    while True:
        at = (at * 5 + 12345) % count
        # While memory is on its way to another address, nothing is there.
        with moving: libc.memset(start + at * page, random.randrange(256), page)
def answer(*words): print(*words, flush=True)
answer('ready')
for line in sys.stdin:
    word, *rest = line.split()
    value += 1
    if word == 'fork': answer(park())
    elif word == 'region': answer(start, size)
    elif word == 'write':
        chosen = random.Random(int(rest[1])).sample(range(count), int(rest[0]))
        for at in chosen:
            before = ctypes.string_at(start + at * page + 8 * (at % 500), 1)[0]
            put(at, before)
        answer(*(start + at * page for at in chosen))
    elif word == 'sieve':
        for at in range(0, count, 2):
            libc.madvise(start + at * page, page, 4)
            put(at, value + at)
        for at in range(1, count, 16): put(at, value + at)
        answer('done')
    elif word == 'storm':
        threading.Thread(target=storm, daemon=True).start()
        answer('done')
    elif word == 'discard':
        for at in random.sample(range(count), int(rest[0])):
            libc.madvise(start + at * page, page, 4)
            if at % 2: put(at, value)
        answer('done')
    elif word == 'move':
        part, place = 1 << 20, area(1 << 20)
        ends = start, start + size - part
        with moving:
            libc.mremap(ends[0], part, part, 3, place)
            libc.mremap(ends[1], part, part, 3, ends[0])
            libc.mremap(place, part, part, 3, ends[1])
        answer('done')
    elif word == 'child':
        child = os.fork()
        if child == 0:
            for at in range(0, count, 3): put(at, 77)
            sleep()
        children.append(child)
        answer('done')
    elif word == 'collapse':
        answer(libc.madvise(start, size, 25))
    elif word == 'end':
        os.kill(int(rest[0]), 9)
        os.waitpid(int(rest[0]), 0)
        answer('done')
    elif word == 'exec':
        os.execv('/usr/bin/python3', ['python3', '-S', '-c', sys.orig_argv[3], *sys.argv[1:]])
"#;
