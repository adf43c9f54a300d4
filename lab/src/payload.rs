//! The programs that are dumped: the test program itself, started with `--payload NAME FILE ...`.
//!
//! Each counts: it writes a growing number into FILE, so that a test sees whether it goes on, and
//! from where. A suite adds payloads of its own.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::sched::{CloneFlags, unshare};

pub use crate::counter::{Counter, command};

/// A payload of a suite's own: its name, and the function that is given FILE and the other words.
pub type Payload = (&'static str, fn(&[&str]));

/// Starts a payload that counts, in the session of this one.
pub fn member(file: &Path) -> Child {
    let mut command = Command::new("/proc/self/exe");
    command.args(["--payload", "member"]).arg(file).stdin(Stdio::null()).spawn().unwrap()
}

/// Runs the payload that the words name, one of the suite's own or one of [`SHARED`]. It ends when
/// it is killed. It leads a session, except for the [`MEMBERS`] of another's.
///
/// # Panics
/// Panics if there is no such payload.
pub fn run(words: &[String], own: &[Payload]) {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (name, rest) = (words[0], &words[1..]);
    if !MEMBERS.contains(&name) {
        let _ = nix::unistd::setsid();
    }
    let payload = own.iter().chain(SHARED).find(|payload| payload.0 == name);
    payload.unwrap_or_else(|| panic!("there is no payload {name}")).1(rest);
}

/// The payloads that stay in the session of whoever starts them.
pub const MEMBERS: &[&str] = &["client", "generations-member", "job", "member"];

/// The payloads of all suites.
pub const SHARED: &[Payload] = &[
    ("count", count),
    ("member", count),
    // In the session of the terminal it was started in.
    ("job", count),
    ("echo", echo),
    ("ghost", ghost),
    ("lock", lock),
    ("memory", memory),
    ("netns", netns),
    // A second name, so that a test can have one of each.
    ("count-netns", netns),
    ("open", |words| count_with(words[0], File::open(words[1]).unwrap())),
    ("outside-file", outside_file),
    ("tcp", tcp),
    ("terminal", terminal),
    ("terminal-echo", terminal_echo),
    ("tree", tree),
    ("user", user),
];

/// Memory whose words each have a value of their own.
#[derive(Debug)]
pub struct Pattern(Vec<u64>);

impl Pattern {
    /// Makes a pattern of so many words of 8 bytes.
    pub fn new(words: u64) -> Self {
        Self((0..words).map(pattern).collect())
    }

    /// The first wrong word of the `n`th part of so many words; the parts begin again after the
    /// last.
    pub fn wrong(&self, n: u64, part: usize) -> Option<String> {
        let at = usize::try_from(n).unwrap() * part % self.0.len();
        let mut words = self.0.iter().enumerate().skip(at).take(part);
        let (place, word) = words.find(|(place, word)| **word != pattern(*place as u64))?;
        Some(format!("word {place} of memory is {word:#x}, not {:#x}", pattern(place as u64)))
    }
}

fn pattern(place: u64) -> u64 {
    place.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Counts until it is killed, with something held open.
pub fn count_with<T>(file: &str, held: T) -> ! {
    let _held = held;
    Counter::into(file).forever()
}

fn count(words: &[&str]) {
    count_with(words[0], ())
}

/// Copies bytes from its input to its output.
fn echo(words: &[&str]) {
    let count = Counter::into(words[0]);
    let (mut input, mut output) = (std::io::stdin(), std::io::stdout());
    count.at(2);
    for n in 3u64.. {
        let mut byte = [0];
        input.read_exact(&mut byte).unwrap();
        output.write_all(&byte).unwrap();
        output.flush().unwrap();
        count.at(n);
    }
}

/// `FILE BYTES`: holds a file of this size that has no name any more.
fn ghost(words: &[&str]) {
    let path = Path::new(words[0]).with_extension("ghost");
    let mut ghost = File::create(&path).unwrap();
    ghost.write_all(&vec![7; words[1].parse().unwrap()]).unwrap();
    std::fs::remove_file(path).unwrap();
    count_with(words[0], ghost)
}

/// Holds a lock on FILE.
fn lock(words: &[&str]) {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(words[0]).unwrap();
    count_with(words[0], Flock::lock(file, FlockArg::LockExclusive).unwrap())
}

/// `FILE MEGABYTES`: changes a page of its memory whenever it counts.
pub fn memory(words: &[&str]) {
    let megabytes: usize = words[1].parse().unwrap();
    let mut memory = vec![1u8; megabytes << 20];
    let count = Counter::into(words[0]);
    for n in 1u64.. {
        count.at(n);
        let at = usize::try_from(n).unwrap() * 4096 % memory.len();
        memory[at] = memory[at].wrapping_add(1);
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Has a network namespace of its own.
fn netns(words: &[&str]) {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    count(words)
}

/// `FILE PATH`: holds a file of a mount namespace it has left.
fn outside_file(words: &[&str]) {
    let count = Counter::into(words[0]);
    let _outside = File::open(words[1]).unwrap();
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    count.forever()
}

/// Holds both ends of a connection.
fn tcp(words: &[&str]) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let there = listener.accept().unwrap();
    count_with(words[0], (listener, here, there))
}

/// `FILE PATH`: opens a terminal, which becomes the controlling one of a session without one.
fn terminal(words: &[&str]) {
    count_with(words[0], open_terminal(words[1]))
}

/// `FILE PATH`: repeats each line that the terminal gives it.
fn terminal_echo(words: &[&str]) {
    let mut terminal = open_terminal(words[1]);
    let count = Counter::into(words[0]);
    let mut bytes = [0; 256];
    count.at(2);
    for n in 3.. {
        count.at(n);
        let length = terminal.read(&mut bytes).unwrap();
        terminal.write_all(&bytes[..length]).unwrap();
    }
}

fn open_terminal(path: &str) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

/// `FILE NUMBER`: has so many children, which count into FILE with their numbers as extensions.
fn tree(words: &[&str]) {
    let number: usize = words[1].parse().unwrap();
    let path = Path::new(words[0]);
    let start = |n: usize| member(&path.with_extension(n.to_string()));
    count_with(words[0], (0..number).map(start).collect::<Vec<_>>())
}

/// Is the user 65534.
fn user(words: &[&str]) {
    let count = Counter::into(words[0]);
    nix::unistd::setgid(65534.into()).unwrap();
    nix::unistd::setuid(65534.into()).unwrap();
    count.forever()
}
