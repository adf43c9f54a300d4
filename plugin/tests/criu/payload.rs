//! The payload of these tests.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use criu_lab::payload::{Counter, Payload, member};

use crate::memory::{self, Kind, PAGE, Part};

/// The payloads, by name.
pub const OWN: &[Payload] = &[
    ("parts", parts),
    ("apart", apart),
    ("filtered", filtered),
    ("init", init),
    ("old-kernel", crate::refused::old_kernel),
    ("twin", twin),
    ("written-twin", written_twin),
];

/// `FILE THREADS CHILDREN PART...`: has memory of these kinds, and looks at a page of each whenever
/// it counts. Each thread writes numbers into pages of its own, and looks whether they stay. The
/// children count. What is found wrong is written in place of the number.
fn parts(words: &[&str]) {
    let file = Path::new(words[0]);
    let count = Counter::into(file);
    let parts = make(&words[3..]);
    for _ in 0..words[1].parse::<u64>().unwrap() {
        let path = file.to_owned();
        std::thread::spawn(move || writer(&path));
    }
    for n in 0..words[2].parse::<u64>().unwrap() {
        std::mem::forget(member(&file.with_extension(n.to_string())));
    }
    tell(file, &parts);
    look(&count, &parts)
}

/// `FILE PART...`: has memory of these kinds, and forks. The fork sleeps, and is no child.
fn twin(words: &[&str]) {
    forked(words, |_| ());
}

/// As `twin`, but the fork writes into a page of each part.
fn written_twin(words: &[&str]) {
    forked(words, |parts| parts.iter().for_each(|part| memory::write(part.written(), 1)));
}

fn forked(words: &[&str], then: fn(&[Part])) {
    let file = Path::new(words[0]);
    let count = Counter::into(file);
    let parts = make(&words[1..]);
    let twin = memory::fork_apart(|| then(&parts));
    std::fs::write(file.with_extension("twin"), twin.to_string()).unwrap();
    tell(file, &parts);
    look(&count, &parts)
}

/// As `parts`, with a network of its own.
fn apart(words: &[&str]) {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    parts(words)
}

/// `FILE NUMBER ...`: as `parts`, with a filter that kills whoever makes the system call of this
/// number.
fn filtered(words: &[&str]) {
    let number = words[1].parse().unwrap();
    let code = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, KILL), (0x06, 0, 0, ALLOW)];
    nix::sys::prctl::set_no_new_privs().unwrap();
    criu_lab::filter::install(&code, 0).unwrap();
    parts(&[&words[..1], &words[2..]].concat())
}

/// As `parts`, as the first process of a pid namespace. This process waits for that one.
fn init(words: &[&str]) {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWPID).unwrap();
    let mut command = criu_lab::payload::command(&["parts"], Path::new(words[0]));
    let mut child = command.args(&words[1..]).stdin(std::process::Stdio::null()).spawn().unwrap();
    child.wait().unwrap();
}

fn make(words: &[&str]) -> Vec<Part> {
    words.iter().zip(1..).map(|(word, number)| Part::make(number, word)).collect()
}

/// Lists parts for the test.
fn tell(file: &Path, parts: &[Part]) {
    let mut text = String::new();
    for Part { number, kind, address, pages } in parts {
        writeln!(text, "{number} {} {address} {pages}", kind.name()).unwrap();
    }
    std::fs::write(list(file), text).unwrap();
}

/// Looks at a page of each part, and counts, for ever.
fn look(count: &Counter, parts: &[Part]) -> ! {
    for n in 1u64.. {
        count.at(n);
        for part in parts.iter().filter(|part| part.kind != Kind::None) {
            // Every page in its turn, and then again.
            if let Some(why) = part.wrong((n * 7) % part.pages) {
                count.fail(&why);
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    unreachable!()
}

/// Writes rising numbers into 1024 pages as fast as it can.
fn writer(file: &Path) {
    let pages = Part::make(99, "small:1024");
    for number in 0u64.. {
        for page in 0..pages.pages {
            let at = pages.address + page * PAGE + 64;
            let found = memory::read(at);
            if found != number {
                Counter::into(file).fail(&format!("a writer found {found}, not {number}"));
            }
            memory::write(at, number + 1);
        }
    }
}

/// The file in which a payload lists its parts.
fn list(file: &Path) -> PathBuf {
    file.with_extension("parts")
}

/// The process id of a payload's fork.
pub fn twin_of(file: &Path) -> i32 {
    std::fs::read_to_string(file.with_extension("twin")).unwrap().parse().unwrap()
}

/// Reads which parts a payload has.
pub fn parts_of(file: &Path) -> Vec<Part> {
    let text = std::fs::read_to_string(list(file)).unwrap();
    let part = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |n: usize| words[n].parse().unwrap();
        let kind = Kind::of(words[1]);
        Part { number: number(0), kind, address: number(2), pages: number(3) }
    };
    text.lines().map(part).collect()
}

/// `SECCOMP_RET_KILL_PROCESS`.
const KILL: u32 = 0x8000_0000;

/// `SECCOMP_RET_ALLOW`.
const ALLOW: u32 = 0x7fff_0000;
