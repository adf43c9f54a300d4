//! The rounds: each does an operation with a fault, and is judged.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use criu_lab::process::{children, close_inherited, name, send};
use criu_lab::{place, scratch, within};
use criu_rs::{Criu, Pid, Version};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;

use crate::fuse::{Failure, Mounted};
use crate::hostile::Stranger;
use crate::scene::{self, Machine, Subject, Talk};

const OPERATIONS: &[&str] = &["dump", "dump-on", "capture", "pages", "restore", "edit"];

const FAULTS: &[&str] = &[
    "kill-criu",
    "kill-ours",
    "kill-target",
    "cancel",
    "no-space",
    "io-error",
    "short",
    "eintr",
    "descriptors",
    "memory",
    "stopped",
    "hostile",
];

/// The end of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// The operation was done, whatever the fault.
    Done,
    /// It failed, and everything is as it was.
    Failed,
    /// The round was over before the fault came.
    Missed,
    /// criu was killed in the tasks' way, and took one along.
    LostToKill,
    /// A descriptor, mount, file, cgroup or rule is left behind.
    Leaked,
    /// A process is.
    Helpers,
    /// Something else that must not be.
    Bad,
}

impl End {
    fn is_bad(self) -> bool {
        self >= Self::Leaked
    }
}

pub fn run(words: &[String]) -> ExitCode {
    let number = |n: usize| words.get(n).and_then(|word| word.parse::<u64>().ok());
    let (count, seed) = (number(0).unwrap_or(44), number(1).unwrap_or(1));
    let only = words.iter().position(|word| word == "--only").map(|at| words[at + 1].clone());
    close_inherited();
    let mut hall = Hall::new(seed);
    if words.iter().any(|word| word == "--bare") {
        return hall.bare(count);
    }
    let begun = Instant::now();
    let mut table: BTreeMap<(&str, &str), BTreeMap<End, u64>> = BTreeMap::new();
    let mut bad = 0;
    for n in 0..count {
        let (operation, fault) = hall.choose(n, only.as_deref());
        let (end, why) = hall.round(operation, fault);
        *table.entry((operation, fault)).or_default().entry(end).or_default() += 1;
        if end.is_bad() {
            bad += 1;
            println!("round {n} of seed {seed}: {operation} with {fault}: {why}");
        } else if std::env::var_os("TORTURE_SAYS").is_some() {
            println!("{n} {operation} {fault} {end:?} {why}");
        }
    }
    hall.report(&table, count, seed, begun.elapsed());
    if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Where it all happens.
pub struct Hall {
    random: u64,
    pub criu: Criu,
    talk: Talk,
    pub program: PathBuf,
    pub dir: PathBuf,
    pub machine: Machine,
    pub subject: Option<Subject>,
    /// A checkpoint without a fault, to restore from and to edit.
    pub good: PathBuf,
    round: u64,
    /// Messages of faults that made an operation fail, as a sample.
    injected: u64,
    /// How long each operation takes without a fault, in microseconds.
    times: BTreeMap<&'static str, u64>,
}

impl Hall {
    fn new(seed: u64) -> Self {
        let suite = std::env::var("TORTURE_CRIU").unwrap_or_else(|_| "experimental".into());
        let program = place::criu(&suite);
        let dir = scratch(&format!("torture-{}", std::process::id()));
        let none = None::<&str>;
        mount(Some("torture"), &dir, Some("tmpfs"), MsFlags::empty(), none).unwrap();
        let criu = Criu::at(&program);
        // Before 4.2 it cannot save sockets of the internet on kernels since 6.16.
        let old = criu.version().unwrap() < Version::new(4, 2, 0);
        let talk = if old { Talk::Pipe } else { Talk::Tcp };
        let good = dir.join("good");
        let machine = Machine::look();
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut hall = Self {
            random,
            criu,
            talk,
            program,
            dir,
            machine,
            subject: None,
            good,
            round: 0,
            injected: 0,
            times: BTreeMap::new(),
        };
        hall.subject();
        // criu fills its caches now.
        let mut subject = hall.subject.take().unwrap();
        scene::save(&hall.criu, &mut subject, &hall.good);
        scene::bring_back(&hall.criu, &mut subject, &hall.good).unwrap();
        hall.subject = Some(subject);
        hall.machine = Machine::look();
        for operation in OPERATIONS {
            let (end, why) = hall.round(operation, "none");
            assert_eq!(end, End::Done, "{operation} without a fault: {why}");
        }
        (hall.injected, hall.round) = (0, 0);
        hall
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit.max(1)
    }

    /// Each pair comes as often as any other.
    fn choose(&mut self, n: u64, only: Option<&str>) -> (&'static str, &'static str) {
        let faults: Vec<&'static str> =
            FAULTS.iter().copied().filter(|fault| only.is_none_or(|only| only == *fault)).collect();
        let pairs: Vec<_> = faults
            .iter()
            .flat_map(|fault| OPERATIONS.iter().map(move |operation| (*operation, *fault)))
            .filter(|(operation, fault)| match *fault {
                "kill-criu" | "cancel" => *operation != "edit",
                "kill-target" => !matches!(*operation, "edit" | "restore"),
                "no-space" | "io-error" => *operation != "restore",
                "hostile" => *operation != "edit",
                "stopped" => matches!(*operation, "pages" | "dump" | "restore"),
                _ => true,
            })
            .collect();
        pairs[usize::try_from(n).unwrap() * 7 % pairs.len()]
    }

    /// The tasks, alive.
    fn subject(&mut self) -> &mut Subject {
        if self.subject.as_ref().is_none_or(|subject| subject.is_well().is_err()) {
            if let Some(mut old) = self.subject.take() {
                old.end();
            }
            self.subject = Some(Subject::start(&self.dir.join("subject"), self.talk));
        }
        self.subject.as_mut().unwrap()
    }

    fn round(&mut self, operation: &'static str, fault: &'static str) -> (End, String) {
        self.round += 1;
        let images = self.dir.join("images");
        let _ = fs::remove_dir_all(&images);
        fs::create_dir_all(&images).unwrap();
        if operation == "restore" || operation == "edit" {
            // What is restored or edited is saved now, and the tasks end.
            let good = self.good.clone();
            self.subject();
            let mut subject = self.subject.take().unwrap();
            scene::save(&self.criu, &mut subject, &good);
            self.subject = Some(subject);
        } else {
            self.subject();
        }
        let device = self.device(&images, operation, fault);
        if operation == "restore" || operation == "edit" {
            copy(&self.good, &images);
        }
        if let Some(Device::Fuse(mounted, failure)) = &device {
            mounted.fail(*failure);
        }
        let stranger = (fault == "hostile").then(|| {
            let longest = self.times.get(operation).copied().unwrap_or(0);
            let (delay, seed) = (self.below(longest), self.below(u64::MAX) | 1);
            Stranger::start(&images, &self.dir.join("outside"), operation, delay, seed)
        });
        let (said, injected) = self.operate(operation, fault, &images);
        let reached = stranger.and_then(|stranger| stranger.end(&images));
        self.injected += u64::from(injected);
        let plain = self.dir.join("plain");
        let images = match device {
            None => images,
            Some(device) => {
                let _ = fs::remove_dir_all(&plain);
                fs::create_dir_all(&plain).unwrap();
                device.take(&images, &plain);
                plain
            }
        };
        let verdict = self.judge(operation, fault, &images, &said);
        let (mut end, mut why) = match verdict {
            Ok(_) if reached.is_some() => (End::Bad, reached.unwrap_or_default()),
            Ok(end) => (end, said.clone().unwrap_or_default()),
            Err(why) => (End::Bad, format!("{why}; the driver said {said:?}")),
        };
        if !injected && end != End::Bad {
            end = End::Missed;
        }
        if let Some((kind, what)) = self.left(said.as_deref()) {
            (end, why) = (kind, format!("{what} left behind; the driver said {said:?}"));
        }
        if end.is_bad() {
            let kept = self.dir.parent().unwrap().join(format!("torture-bad-{}", self.round));
            let _ = fs::remove_dir_all(&kept);
            let _ = fs::create_dir_all(&kept);
            copy(&images, &kept);
            let _ = write!(why, "; images in {}", kept.display());
            // The next one begins anew.
            if let Some(mut old) = self.subject.take() {
                old.end();
            }
            self.machine = Machine::look();
        }
        (end, why)
    }

    /// What the images are on, where that fails.
    fn device(&mut self, images: &Path, operation: &str, fault: &str) -> Option<Device> {
        // A checkpoint has some 5 MiB, and what an edit writes some 30 KiB.
        let limit = match operation {
            "edit" => self.below(30 << 10),
            _ => (16 << 10) + self.below(6 << 20),
        };
        let failure = match fault {
            "io-error" => Failure::Io(limit),
            "short" => Failure::Short(512 + self.below(8192)),
            "no-space" if self.below(2) == 0 && operation != "edit" => {
                let size = format!("size={}", limit.next_multiple_of(4096));
                let kind = Some("tmpfs");
                mount(kind, images, kind, MsFlags::empty(), Some(size.as_str())).unwrap();
                return Some(Device::Tmpfs);
            }
            "no-space" => Failure::NoSpace(limit),
            _ => return None,
        };
        Some(Device::Fuse(Mounted::at(images), failure))
    }

    /// Has a driver run the operation, and puts the fault in. Returns what the driver said, and
    /// `true` if the fault came in time.
    fn operate(&mut self, operation: &str, fault: &str, images: &Path) -> (Option<String>, bool) {
        let longest = self.times.get(operation).copied().unwrap_or(0);
        let delay = self.below(longest);
        let value = match fault {
            "cancel" => delay,
            "eintr" => 100 + self.below(400),
            "descriptors" => 3 + self.below(40),
            "memory" => (2 << 20) + self.below(50 << 20),
            _ => 0,
        };
        let subject = self.subject.as_ref().unwrap();
        let (root, child) = (subject.pid, subject.child);
        let server = (operation == "pages").then(|| Server::start(images));
        let argument = match (operation, &server) {
            ("pages", Some(server)) => format!("{root},{}", server.port),
            ("edit", _) => format!("{},/some/where/else", self.dir.display()),
            _ => root.to_string(),
        };
        let said = self.dir.join("said");
        let mut driver = Command::new(std::env::current_exe().unwrap())
            .args(["--drive", operation, fault, &value.to_string()])
            .arg(&self.program)
            .arg(images)
            .arg(argument)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&said).unwrap())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        let own = Pid::from(&driver);
        let mut injected = !matches!(fault, "kill-criu" | "kill-ours" | "kill-target" | "stopped");
        let mut stopped = None;
        if !injected {
            std::thread::sleep(Duration::from_micros(delay));
            let criu = children(own).into_iter().find(|pid| name(*pid) == "criu");
            let victim = match fault {
                "kill-criu" => criu,
                "kill-ours" => Some(own),
                "kill-target" => Some(if self.below(2) == 0 { root } else { child }),
                _ => server.as_ref().map(|server| server.pid()).or(criu),
            };
            let signal = if fault == "stopped" { Signal::SIGSTOP } else { Signal::SIGKILL };
            let is_there = driver.try_wait().unwrap().is_none();
            if let Some(victim) = victim.filter(|_| is_there) {
                injected = send(victim, signal);
                stopped = Some(victim).filter(|_| fault == "stopped");
            }
        }
        let line = wait(&mut driver, Duration::from_secs(30));
        if fault == "none" {
            let time = begun.elapsed().as_micros() as u64;
            let row = OPERATIONS.iter().find(|row| **row == operation).unwrap();
            self.times.insert(row, time);
        }
        if let Some(stopped) = stopped {
            send(stopped, Signal::SIGCONT);
        }
        drop(server);
        let line = line.or_else(|| {
            let text = fs::read_to_string(&said).unwrap_or_default();
            (!text.trim().is_empty()).then(|| text.trim().replace('\n', " "))
        });
        (line, injected)
    }

    fn report(
        &self,
        table: &BTreeMap<(&str, &str), BTreeMap<End, u64>>,
        count: u64,
        seed: u64,
        time: Duration,
    ) {
        let ends = [
            End::Done,
            End::Failed,
            End::Missed,
            End::LostToKill,
            End::Leaked,
            End::Helpers,
            End::Bad,
        ];
        println!(
            "| operation | fault | done | failed cleanly | fault too late | lost to kill -9 of criu | leaked | \
             helpers left | bad |"
        );
        println!("| --- | --- | --: | --: | --: | --: | --: | --: | --: |");
        let mut sums = [0; 7];
        for ((operation, fault), row) in table {
            let mut line = format!("| {operation} | {fault} |");
            for (end, sum) in ends.iter().zip(&mut sums) {
                let n = row.get(end).copied().unwrap_or(0);
                *sum += n;
                let _ = write!(line, " {n} |");
            }
            println!("{line}");
        }
        let [done, failed, missed, lost, leaked, helpers, bad] = sums;
        let times: Vec<String> =
            self.times.iter().map(|(operation, time)| format!("{operation} {time}")).collect();
        println!("microseconds without a fault: {}", times.join(", "));
        println!(
            "{count} rounds of seed {seed} in {:.0} s: {} faults injected, {done} done, {failed} failed cleanly, \
             {missed} over before the fault, {lost} lost to kill -9 of criu, {leaked} leaked, \
             {helpers} helpers left behind, {bad} otherwise bad",
            time.as_secs_f32(),
            self.injected,
        );
    }
}

impl Drop for Hall {
    fn drop(&mut self) {
        if let Some(mut subject) = self.subject.take() {
            subject.end();
        }
        let _ = umount2(&self.dir, MntFlags::MNT_DETACH);
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Something that images are on and that fails.
enum Device {
    Tmpfs,
    Fuse(Mounted, Failure),
}

impl Device {
    /// Takes the images out of it, and takes it away.
    fn take(self, images: &Path, to: &Path) {
        match self {
            Self::Tmpfs => {
                copy(images, to);
                umount2(images, MntFlags::MNT_DETACH).unwrap();
            }
            Self::Fuse(mounted, _) => {
                mounted.copy(to);
            }
        }
    }
}

/// A page server of ours, in a process of its own.
struct Server {
    child: Child,
    port: String,
}

impl Server {
    fn start(images: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg("--serve")
            .arg(images)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut port).unwrap();
        Self { child, port: port.trim().into() }
    }

    fn pid(&self) -> Pid {
        Pid::from(&self.child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It ends with its session; without one nobody comes any more.
        if !within(Duration::from_millis(300), || self.child.try_wait().unwrap().is_some()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The driver's last line, `None` where it was killed.
fn wait(driver: &mut Child, limit: Duration) -> Option<String> {
    let ended = within(limit, || driver.try_wait().unwrap().is_some());
    if !ended {
        let _ = driver.kill();
        let _ = driver.wait();
        return Some(format!("RESULT hang: not done after {limit:?}"));
    }
    let mut text = String::new();
    driver.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    text.lines().rfind(|line| line.starts_with("RESULT")).map(str::to_owned)
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}
