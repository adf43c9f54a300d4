//! `start`.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use criu_lab::soon;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use procfs::process::Process;
use serde_json::Value;

use crate::lab::{Lab, Ran, Target, TestFn, run};

pub const TESTS: &[(&str, TestFn)] = &[
    ("copies_run_side_by_side_and_know_who_they_are", side_by_side),
    ("a_copy_that_fails_is_told_and_the_others_go_on", one_fails),
    ("copies_that_criu_cannot_restore_are_explained", all_fail),
    ("copies_in_the_background_end_with_their_keeper", background),
    ("a_first_process_is_copied_and_told_while_it_waits", own_namespace),
    ("nothing_is_left_of_copies_whose_keeper_is_killed", keeper_killed),
    ("copies_have_networks_and_directories_of_their_own", networks),
    ("a_working_set_is_recorded_and_comes_first", working_set),
    ("ctrl_c_in_the_middle_of_restores_leaves_nothing", cut_short),
    ("a_notice_that_no_dump_has_written_is_refused", hostile_notice),
    ("a_dump_without_a_notice_removes_an_earlier_one", notice_is_replaced),
];

/// A snapshot of a payload that is gone, and the files of its copies.
struct Snapshot {
    images: String,
    target: Target,
    reports: PathBuf,
    identity: PathBuf,
    /// The directory in which `start` makes its own.
    temporary: PathBuf,
}

impl Snapshot {
    fn new(lab: &Lab) -> Self {
        let [images, reports, run, temporary] =
            ["img", "reports", "run", "tmp"].map(|name| lab.dir(name));
        let identity = format!("{run}/copy");
        let mut target = lab.start(&["copy", &reports, &identity]);
        let notice = ["--copy-file", &identity, "--copy-signal", "USR2"];
        lab.done(&[&["dump", "-t", &target.pid(), "-D", &images], &notice[..]].concat());
        target.is_gone();
        let (reports, identity) = (reports.into(), identity.into());
        Self { images, target, reports, identity, temporary: temporary.into() }
    }

    /// The command that starts copies.
    fn command(&self, lab: &Lab, words: &[&str]) -> Command {
        let mut command = lab.command(&[&["start", &self.images], words].concat());
        command.env("TMPDIR", &self.temporary);
        command
    }

    /// Starts copies, and returns when so many run.
    fn start(&self, lab: &Lab, copies: usize, words: &[&str]) -> Herd {
        let number = copies.to_string();
        let words = [&["--json", "-n", &number], words].concat();
        let mut command = self.command(lab, &words);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Herd::read(child, copies)
    }

    /// The report of the copy on a host: a line of facts, and its identity.
    fn report(&self, host: &str) -> (String, Vec<(String, String)>) {
        let path = self.reports.join(host);
        assert!(soon(|| path.exists()), "{host} has not reported");
        let text = fs::read_to_string(path).unwrap();
        let (facts, identity) = text.split_once('\n').unwrap();
        let lines = identity.lines().filter(|line| !line.starts_with('#'));
        let pairs = lines.map(|line| line.split_once('=').unwrap());
        (facts.into(), pairs.map(|(a, b)| (a.to_owned(), b.to_owned())).collect())
    }

    /// Asserts that no copy, mount and file is left.
    #[track_caller]
    fn nothing_is_left(&self, copies: &[i32]) {
        for pid in copies {
            assert!(soon(|| !Path::new(&format!("/proc/{pid}")).exists()), "process {pid} is left");
        }
        let is_empty = || fs::read_dir(&self.temporary).unwrap().next().is_none();
        assert!(soon(is_empty), "files are left in {}", self.temporary.display());
        let identity = self.identity.display();
        assert!(soon(|| !self.identity.exists()), "{identity} is left");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&identity.to_string()), "{mounts}");
    }
}

/// A `start` with copies that run.
struct Herd {
    child: Child,
    out: BufReader<ChildStdout>,
    running: Vec<Value>,
}

impl Herd {
    #[track_caller]
    fn read(mut child: Child, copies: usize) -> Self {
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut running = Vec::new();
        while running.len() < copies {
            let mut line = String::new();
            if out.read_line(&mut line).unwrap() == 0 {
                panic!("only {} of {copies} run: {:?}", running.len(), ended(child));
            }
            let said: Value = serde_json::from_str(&line).unwrap();
            match said["outcome"].as_str() {
                Some("running") => running.push(said),
                Some("memory complete") => {}
                _ => panic!("{said}"),
            }
        }
        Self { child, out, running }
    }

    fn pids(&self) -> Vec<i32> {
        let pids = self.running.iter().map(|said| said["pid"].as_i64().unwrap());
        pids.map(|pid| pid.try_into().unwrap()).collect()
    }

    fn send(&self, signal: Signal) {
        kill(nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Ends the copies, and returns how the program ended and what it said from then on.
    fn end(self) -> (Option<i32>, Vec<Value>) {
        self.send(Signal::SIGINT);
        let Self { mut child, out, .. } = self;
        let lines = out.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap());
        let said = lines.collect();
        (child.wait().unwrap().code(), said)
    }
}

fn ended(child: Child) -> Ran {
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// The process id that a process has in its own namespace.
fn own_pid(pid: i32) -> i32 {
    let status = Process::new(pid).unwrap().status().unwrap();
    *status.nspid.unwrap().last().unwrap()
}

fn side_by_side(lab: &Lab) {
    let snapshot = Snapshot::new(lab);
    let counted = snapshot.target.count();
    let herd =
        snapshot.start(lab, 3, &["--hostname", "web-%n.lab", "--env", "GREETING=copy %n", "--net"]);
    let (mut seeds, mut generations) = (HashSet::new(), HashSet::new());
    for said in &herd.running {
        let (copy, host) = (said["copy"].as_u64().unwrap(), said["hostname"].as_str().unwrap());
        assert_eq!(host, format!("web-{copy}.lab"));
        assert!(said["first_instruction_us"].as_u64() > said["restore_us"].as_u64(), "{said}");
        assert!(said["restore_us"].as_u64() > Some(0), "{said}");
        let (facts, identity) = snapshot.report(host);
        let of = |name: &str| {
            let found = identity.iter().find(|(known, _)| known == name);
            found.unwrap_or_else(|| panic!("no {name}: {identity:?}")).1.clone()
        };
        // The signal was there before the program ran on.
        let begin = format!("pid {} count ", snapshot.target.pid);
        let rest = facts.strip_prefix(&begin).unwrap_or_else(|| panic!("{facts}"));
        let (count, rest) = rest.split_once(' ').unwrap();
        assert!(count.parse::<u64>().unwrap() <= counted + 1, "{facts}, {counted} at the dump");
        assert_eq!(rest, "mode 600 uid 0 memory right");
        assert_eq!(of("CRIU_COPY"), copy.to_string());
        assert_eq!(of("CRIU_COPIES"), "3");
        assert_eq!(of("CRIU_COPY_HOSTNAME"), host);
        assert_eq!(of("GREETING"), format!("'copy {copy}'"));
        assert!(of("CRIU_COPY_SEED").len() == 64 && seeds.insert(of("CRIU_COPY_SEED")));
        assert!(generations.insert(of("CRIU_COPY_GENERATION")));
    }
    let pids = herd.pids();
    let namespaces = ["pid", "mnt", "uts", "ipc", "net"];
    for kind in namespaces {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        let mut all: HashSet<_> = pids.iter().map(|pid| of(&pid.to_string())).collect();
        all.insert(of("self"));
        assert_eq!(all.len(), 4, "{kind}");
    }
    let of = |pid: &i32| own_pid(*pid);
    let own: HashSet<i32> = pids.iter().map(of).collect();
    assert_eq!(own, HashSet::from([snapshot.target.pid.as_raw()]));
    // Outside there is a file that says that it is not a copy.
    let outside = fs::read_to_string(&snapshot.identity).unwrap();
    assert!(outside.contains("Not a copy") && !outside.contains("SEED"), "{outside}");
    let (code, said) = herd.end();
    assert_eq!(code, Some(0), "{said:?}");
    let ended = said.iter().filter(|said| said["outcome"] == "ended").count();
    assert_eq!(ended, 3, "{said:?}");
    snapshot.nothing_is_left(&pids);

    // The same snapshot again, with all memory before it runs.
    fs::remove_dir_all(&snapshot.reports).unwrap();
    fs::create_dir(&snapshot.reports).unwrap();
    let (variables, logs) = (lab.path("variables"), lab.path("logs"));
    fs::write(&variables, "# of all copies\n\nA=1 of %n\nB=2\n").unwrap();
    let words = ["--eager", "--hostname", "whole-%n", "--log-dir", &logs, "--env", "B=3"];
    let herd = snapshot.start(lab, 1, &[&words[..], &["--env-file", &variables]].concat());
    let (facts, identity) = snapshot.report("whole-1");
    assert!(facts.ends_with("memory right"), "{facts}");
    let given = identity.iter().filter(|(name, _)| !name.starts_with("CRIU_"));
    let given: Vec<_> = given.map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(given, ["A='1 of 1'", "B=2", "B=3"]);
    // The directory of the logs is made, for its owner alone.
    assert_eq!(fs::metadata(&logs).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(Path::new(&logs).join("1.out").exists());
    let pids = herd.pids();
    assert_eq!(herd.end().0, Some(0));
    snapshot.nothing_is_left(&pids);
}

fn one_fails(lab: &Lab) {
    let snapshot = Snapshot::new(lab);
    let logs = lab.dir("logs");
    // At the names of files there are a directory, a FIFO that nobody reads, and a victim.
    fs::create_dir(format!("{logs}/2.out")).unwrap();
    nix::unistd::mkfifo(&*format!("{logs}/4.out"), Mode::S_IRWXU).unwrap();
    let victim = lab.path("victim");
    fs::write(&victim, "kept").unwrap();
    fs::hard_link(&victim, format!("{logs}/5.out")).unwrap();
    let mut command = snapshot.command(lab, &["-n", "5", "--log-dir", &logs, "--hostname", "c"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    for host in ["c-1", "c-3"] {
        snapshot.report(host);
    }
    kill(nix::unistd::Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    let ran = ended(child);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for (copy, why) in [(2, "regular"), (4, "regular"), (5, "has 2 hard links")] {
        let begin = format!("copy {copy} failed: cannot open {logs}/{copy}.out: ");
        let told = ran.err.lines().find(|line| line.contains(&begin));
        assert!(told.is_some_and(|line| line.contains(why)), "{copy}: {ran:?}");
    }
    assert_eq!(fs::read_to_string(&victim).unwrap(), "kept");
    let told = |copy: u32| {
        let begin = format!("copy {copy}: process ");
        let mut lines = ran.out.lines().filter_map(|line| line.strip_prefix(&begin));
        let line = lines.next().map(|line| line.split_once(' ').unwrap().1.to_owned());
        line.inspect(|line| {
            let begin = format!("runs on c-{copy} after ");
            let time = line.strip_prefix(&begin).and_then(|rest| rest.strip_suffix(" ms"));
            assert!(time.is_some_and(|time| time.parse::<f64>().is_ok()), "{line}");
        })
    };
    assert_eq!([1, 2, 3, 4, 5].map(|copy| told(copy).is_some()), [true, false, true, false, false]);
    snapshot.nothing_is_left(&[]);
    assert!(Path::new(&format!("{logs}/1.log")).exists(), "the log is not kept");
}

fn all_fail(lab: &Lab) {
    let images = lab.dir("img");
    let file = lab.path("held");
    fs::write(&file, "here").unwrap();
    let mut target = lab.start(&["open", &file]);
    lab.done(&["dump", "-t", &target.pid(), "-D", &images]);
    target.is_gone();
    fs::write(&file, "here, and longer").unwrap();
    let ran = lab.run(&["start", &images, "-n", "2"]);
    ran.fails(1, &["copy 1 failed: CRIU failed", "copy 2 failed: CRIU failed", "bad size"]);
    let ran = lab.run(&["start", &images, "--json"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let said = ran.json();
    assert_eq!((&said["outcome"], &said["copy"]), (&"failed".into(), &1.into()));
    assert!(said["error"]["log"]["error"].as_str().unwrap().contains("bad size"), "{said}");
    // Images that are not there are a mistake before any copy.
    fs::remove_file(format!("{images}/inventory.img")).unwrap();
    let said = format!("{images}: inventory.img: is missing");
    let words: [&[&str]; 4] = [
        &["start", &images],
        &["restore", "--lazy", "-D", &images],
        &["lazy-pages", "-D", &images, "-W", &images],
        &["lazy-pages", "-D", &images, "-W", &images, "--daemon"],
    ];
    words.iter().for_each(|words| lab.run(words).fails(1, &[&said]));
    lab.run(&["start", "nowhere"]).fails(2, &["cannot open nowhere"]);
}

fn background(lab: &Lab) {
    let snapshot = Snapshot::new(lab);
    let ran = run(snapshot.command(lab, &["-n", "2", "-d", "--json", "--hostname", "d"]));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let said = ran.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let said: Vec<_> = said.collect();
    let pids_of = |outcome: &str| -> Vec<i32> {
        let said = said.iter().filter(|said| said["outcome"] == outcome);
        said.map(|said| said["pid"].as_i64().unwrap().try_into().unwrap()).collect()
    };
    let pids = pids_of("running");
    assert_eq!(pids.len(), 2, "{ran:?}");
    // The pages come from a process in the background.
    for host in ["d-1", "d-2"] {
        let (facts, _) = snapshot.report(host);
        assert!(facts.ends_with("memory right"), "{facts}");
    }
    let parent = |pid: i32| Process::new(pid).unwrap().stat().unwrap().ppid;
    let keeper = parent(parent(pids[0]));
    assert_eq!(keeper, parent(parent(pids[1])));
    assert_eq!(pids_of("background"), [keeper]);
    assert_eq!(fs::read_to_string(format!("/proc/{keeper}/comm")).unwrap(), "criu-rs\n");
    kill(nix::unistd::Pid::from_raw(keeper), Signal::SIGTERM).unwrap();
    snapshot.nothing_is_left(&pids);
}

fn own_namespace(lab: &Lab) {
    let [images, reports, run] = ["img", "reports", "run"].map(|name| lab.dir(name));
    let file = format!("{run}/copy");
    // The shell reads the file when its child has ended, long after the signal.
    let told = format!("trap '. {file}; echo $$ $CRIU_COPY > {reports}/$CRIU_COPY_HOSTNAME' USR2");
    let script = format!("{told}; echo > {reports}/ready; while :; do sleep 0.1; done");
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "setsid", "sh", "-c", &script]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut above = command.spawn().unwrap();
    assert!(soon(|| Path::new(&reports).join("ready").exists()), "no shell");
    let first = Process::new(above.id().try_into().unwrap()).unwrap();
    let first = first.task_main_thread().unwrap().children().unwrap()[0].to_string();
    let words = ["dump", "-t", &first, "-D", &images, "--copy-file", &file];
    lab.done(&[&words[..], &["--copy-signal", "USR2"]].concat());
    above.wait().unwrap();
    let mut command =
        lab.command(&["start", &images, "-n", "2", "--json", "--hostname", "o", "--grace", "0.1"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let herd = Herd::read(child, 2);
    for copy in [1, 2] {
        let report = Path::new(&reports).join(format!("o-{copy}"));
        let said = || fs::read_to_string(&report).unwrap_or_default();
        assert!(soon(|| said() == format!("1 {copy}\n")), "copy {copy}: {}", said());
    }
    // A first process has no default for SIGTERM, so it is ended by force.
    assert_eq!(herd.end().0, Some(0));
    assert!(!Path::new(&file).exists(), "a file is left");
}

fn keeper_killed(lab: &Lab) {
    let snapshot = Snapshot::new(lab);
    let mut herd = snapshot.start(lab, 2, &["--hostname", "k"]);
    snapshot.report("k-1");
    let pids = herd.pids();
    herd.send(Signal::SIGKILL);
    herd.child.wait().unwrap();
    snapshot.nothing_is_left(&pids);
}

fn networks(lab: &Lab) {
    let snapshot = Snapshot::new(lab);
    let directory = snapshot.identity.parent().unwrap().to_str().unwrap();
    let words = ["--net", "--private", directory, "--hostname", "n"];
    let herd = snapshot.start(lab, 2, &words);
    let pids = herd.pids();
    // The identity is in a directory of the copy's own, so that nothing is needed outside.
    for host in ["n-1", "n-2"] {
        assert!(snapshot.report(host).0.contains("mode 600"));
    }
    assert!(!snapshot.identity.exists(), "a file outside");
    // The same port is free in each, and its loopback interface works.
    let listeners = pids.iter().map(|pid| {
        let network = fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
        let network = OwnedFd::from(network);
        let listen = move || {
            setns(&network, CloneFlags::CLONE_NEWNET).unwrap();
            let listener = TcpListener::bind(("127.0.0.1", 45_454)).unwrap();
            TcpStream::connect(("127.0.0.1", 45_454)).unwrap();
            listener
        };
        std::thread::spawn(listen).join().unwrap()
    });
    assert_eq!(listeners.collect::<Vec<_>>().len(), 2);
    assert_eq!(herd.end().0, Some(0));
}

fn working_set(lab: &Lab) {
    let snapshot = Snapshot::new(lab);
    let mut command = snapshot.command(lab, &["--record=0.3", "--hostname", "r"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let set = Path::new(&snapshot.images).join("working-set.bin");
    assert!(soon(|| set.exists()), "nothing is recorded");
    kill(nix::unistd::Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    child.wait().unwrap();
    let mut command = snapshot.command(lab, &["--json", "--hostname", "w"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said = lines.find_map(|line| {
        let said: Value = serde_json::from_str(&line.unwrap()).unwrap();
        (said["outcome"] == "memory complete").then_some(said)
    });
    let said = said.unwrap();
    assert!(said["working_set_pages"].as_u64() > Some(0), "{said}");
    assert!(snapshot.report("w-1").0.ends_with("memory right"));
    kill(nix::unistd::Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    child.wait().unwrap();
    snapshot.nothing_is_left(&[]);
}

fn cut_short(lab: &Lab) {
    let snapshot = Snapshot::new(lab);
    for copies in [0, 1, 2] {
        let words = ["-n", "40", "--parallel", "2"];
        let mut command = snapshot.command(lab, &words);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // So many copies run, and most do not.
        let mut byte = [0];
        let mut lines = 0;
        while lines < copies {
            child.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
            lines += usize::from(byte == *b"\n");
        }
        if copies == 0 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let group = Process::new(child.id().try_into().unwrap()).unwrap();
        let first = group.tasks().unwrap().flatten().flat_map(|task| task.children().unwrap());
        let first: Vec<i32> = first.map(|pid| pid.try_into().unwrap()).collect();
        kill(nix::unistd::Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
        let ran = ended(child);
        // A program that has not held the signal back yet is killed by it.
        assert!(matches!(ran.code, Some(4) | None), "{ran:?}");
        assert!(!ran.err.contains("failed"), "{ran:?}");
        snapshot.nothing_is_left(&first);
    }
}

fn hostile_notice(lab: &Lab) {
    let snapshot = Snapshot::new(lab);
    let notice = Path::new(&snapshot.images).join("criu-rs-copy");
    let link = lab.path("elsewhere");
    fs::write(&link, fs::read(&notice).unwrap()).unwrap();
    for (text, why) in [
        ("criu-rs copy 1\nfile /run/../etc/shadow\n", "without `..`"),
        ("criu-rs copy 1\nfile etc/shadow\n", "absolute"),
        ("criu-rs copy 1\nsignal KILL\n", "a program can handle"),
        ("criu-rs copy 9\n", "criu-rs copy 1"),
        ("\0", "it has no end"),
    ] {
        fs::write(&notice, text).unwrap();
        let ran = lab.run(&["start", &snapshot.images]);
        ran.fails(1, &["criu-rs-copy", why]);
    }
    fs::remove_file(&notice).unwrap();
    std::os::unix::fs::symlink(&link, &notice).unwrap();
    lab.run(&["start", &snapshot.images]).fails(1, &["criu-rs-copy"]);
    // A directory that is not there is told by the copy.
    fs::remove_file(&notice).unwrap();
    let ran = lab.run(&["start", &snapshot.images, "--copy-file", "/no/such/place"]);
    ran.fails(1, &["copy 1 failed: cannot put the identity of the copy at /no/such/place"]);
    // What lies there is not covered unless it is a file.
    let ran = lab.run(&["start", &snapshot.images, "--copy-file", &snapshot.images]);
    ran.fails(1, &["there is something else than a file"]);
    let wrong =
        [("--copy-file", "copy"), ("--copy-signal", "STOP"), ("--env", "A"), ("--hostname", "a b")];
    for (option, value) in wrong {
        lab.run(&["start", &snapshot.images, option, value]).fails(2, &[option]);
    }
}

fn notice_is_replaced(lab: &Lab) {
    let snapshot = Snapshot::new(lab);
    let notice = Path::new(&snapshot.images).join("criu-rs-copy");
    let before = fs::read(&notice).unwrap();
    // A dump that fails leaves the earlier checkpoint with its notice.
    let missing = ["dump", "-t", "999999", "-D", &snapshot.images, "--copy-signal", "HUP"];
    assert_ne!(lab.run(&missing).code, Some(0));
    assert_eq!(fs::read(&notice).unwrap(), before);
    let mut target = lab.start(&["count"]);
    lab.done(&["dump", "-t", &target.pid(), "-D", &snapshot.images]);
    target.is_gone();
    assert!(!notice.exists(), "a new checkpoint has the notice of the one before");
}
