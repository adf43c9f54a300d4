//! `dump --instant`: the memory is read from forks, while the processes run on.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use criu_lab::generations::{Shape, Watch};
use criu_lab::{names, process, soon};
use criu_rs::Pid;
use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use crate::lab::{Lab, Target, TestFn};
use crate::memory::port_in;
use crate::terminal::Terminal;

pub const TESTS: &[(&str, TestFn)] = &[
    ("an_instant_dump_is_restored", restored),
    ("an_instant_dump_tells_which_processes_were_not_forked", told),
    ("an_instant_dump_of_processes_that_end_forks_none", ends),
    ("an_instant_dump_goes_to_a_page_server", sent),
    ("an_interrupted_instant_dump_leaves_no_fork", interrupted),
    ("an_instant_dump_replaces_a_checkpoint_when_it_is_complete", replaced),
    ("a_plugin_that_cannot_be_used_is_refused", no_plugin),
    ("a_dump_beside_an_instant_dump_is_refused", busy),
    ("forks_of_a_program_that_is_gone_are_cleared", orphaned),
    ("an_instant_dump_shows_how_much_it_has_read", progress),
    ("rounds_save_what_has_changed", rounds),
    ("rounds_end_when_they_are_stopped", stopped_rounds),
    ("options_that_exclude_an_instant_dump_are_refused", excluded),
    ("check_says_if_instant_dumps_are_possible", checked),
];

/// A process of generations, with what it has found wrong.
pub struct Scene {
    pub target: Target,
    pub watch: Watch,
}

impl Scene {
    /// Starts a process of so many MiB, which writes all of them in turn unless it is idle.
    pub fn start(lab: &Lab, mib: usize, idle: bool) -> Self {
        let shape = Shape { mib, writers: 2, idle, ..Shape::default() };
        let words = shape.words();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let target = lab.start(&words);
        let watch = Watch::of(target.file());
        Self { target, watch }
    }

    pub fn pid(&self) -> String {
        self.target.pid()
    }

    /// The processes that the first one has as children.
    pub fn children(&self) -> Vec<Pid> {
        process::children(self.target.pid)
    }

    /// Asserts that the process goes on, has found no wrong page, and has no child.
    #[track_caller]
    pub fn is_well(&self) {
        self.target.goes_on();
        assert_eq!(self.watch.wrong(), None);
        assert_eq!(self.children(), []);
    }

    /// Ends the process and restores it, and asserts that it finds all pages as they were.
    #[track_caller]
    pub fn comes_back(&mut self, lab: &Lab, images: &str) {
        self.target.end();
        self.watch.forget();
        lab.done(&["restore", "-D", images, "-d"]);
        self.target.goes_on();
        self.watch.goes_on(2, Duration::from_secs(60)).unwrap();
    }

    /// Starts `dump --instant -R`, and returns when the fork is there and the process runs on.
    #[track_caller]
    fn half_dumped(&self, lab: &Lab, images: &str) -> Child {
        self.half_dumped_to(lab, &["-D", images])
    }

    /// Starts `dump --instant -R` with a place for the images, and returns when the fork is there
    /// and the process runs on.
    #[track_caller]
    pub fn half_dumped_to(&self, lab: &Lab, place: &[&str]) -> Child {
        let dump = ["dump", "-t", &self.pid(), "-R", "--instant"];
        let mut dump = lab.coded_command(&[&dump[..], place].concat());
        let mut dump = dump.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        assert!(soon(|| !self.children().is_empty() || dump.try_wait().unwrap().is_some()));
        let forks = self.children();
        assert_eq!(forks.len(), 1, "{:?}", dump.try_wait());
        let before = self.target.count();
        assert!(soon(|| self.target.count() > before + 1));
        dump
    }
}

pub fn send(child: &Child, signal: Signal) {
    kill(nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

fn restored(lab: &Lab) {
    let images = lab.dir("img");
    let mut scene = Scene::start(lab, 96, false);
    let dump = ["dump", "-t", &scene.pid(), "-D", &images, "-R", "--instant"];
    let said = lab.done(&[&dump[..], &["--verify", "--json"]].concat()).json();
    scene.is_well();
    assert_eq!(said["outcome"], "done");
    assert_eq!(said["tasks"], "running");
    let instant = &said["instant"];
    let task = &instant["tasks"][0];
    assert_eq!(task["pid"], scene.target.pid.as_raw(), "{said}");
    assert_eq!(task["way"], "held", "{said}");
    let pages = |value: &Value| value.as_u64().unwrap();
    assert!(pages(&task["pages"]) >= 96 << 8, "{said}");
    assert_eq!(pages(&task["bytes"]), pages(&task["pages"]) << 12);
    assert!(pages(&task["fork_us"]) > 0, "{said}");
    assert!(pages(&instant["held_pages"]) >= 96 << 8, "{said}");
    assert!(pages(&instant["verified_pages"]) >= 96 << 8, "{said}");
    assert!(pages(&instant["read_out_us"]) > 0 && pages(&said["elapsed_us"]) > 0, "{said}");
    assert!(pages(&said["statistics"]["frozen_us"]) > 0, "{said}");
    lab.done(&["crit", "check", &images]);
    scene.comes_back(lab, &images);
}

/// A process that is large enough, and a child that is not.
fn told(lab: &Lab) {
    let images = lab.dir("img");
    let target = lab.start(&["tree", "2"]);
    let dump = ["dump", "-t", &target.pid(), "-D", &images, "-R", "--instant"];
    let ran = lab.done(&dump);
    let said = "no process was forked: they stood still while their memory was read";
    assert!(ran.err.contains(said) && ran.err.contains("its memory is small"), "{ran:?}");
    target.goes_on();
    // Even a small process is forked on request.
    let ran = lab.done(&[&dump[..], &["--instant-least", "4K", "--json"]].concat());
    let said = ran.json();
    let tasks = said["instant"]["tasks"].as_array().unwrap();
    assert!(tasks.len() > 1 && tasks.iter().all(|task| task["way"] == "held"), "{said}");
    target.goes_on();
    let ran = lab.done(&[&dump[..], &["--instant-least", "4K", "--verify"]].concat());
    assert!(ran.err.contains(" while it ran, ") && ran.err.contains(" compared)"), "{ran:?}");
    target.goes_on();
}

fn ends(lab: &Lab) {
    let images = lab.dir("img");
    let mut scene = Scene::start(lab, 32, false);
    let dump = ["dump", "-t", &scene.pid(), "-D", &images, "--instant"];
    let ran = lab.done(&dump);
    assert!(ran.err.contains("was not forked: the dump ends the tasks"), "{ran:?}");
    assert!(ran.err.contains("it has been ended"), "{ran:?}");
    scene.target.is_gone();
    scene.comes_back(lab, &images);
}

fn sent(lab: &Lab) {
    let images = lab.dir("img");
    let mut scene = Scene::start(lab, 32, false);
    let server = ["page-server", "-D", &images, "-o", "ps.log", "--address", "127.0.0.1"];
    let mut server = lab.command(&server).spawn().unwrap();
    let port = port_in(&format!("{images}/ps.log"));
    let dump = ["dump", "-t", &scene.pid(), "-D", &images, "-R", "--instant", "--page-server"];
    let said = lab.done(&[&dump[..], &["--address", "127.0.0.1", "--port", &port]].concat());
    assert!(server.wait().unwrap().success(), "{said:?}");
    scene.is_well();
    lab.done(&["crit", "check", &images]);
    scene.comes_back(lab, &images);
}

fn interrupted(lab: &Lab) {
    let scene = Scene::start(lab, 400, true);
    for (number, signal) in [Signal::SIGINT, Signal::SIGTERM].into_iter().enumerate() {
        let images = lab.dir(&number.to_string());
        let dump = scene.half_dumped(lab, &images);
        send(&dump, signal);
        let output = dump.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(4), "{said}");
        assert!(said.contains("cancelled"), "{said}");
        scene.is_well();
        assert_eq!(names(&images), ["dump.log"]);
    }
}

/// A checkpoint that is there comes back if the dump that was to replace it is stopped.
fn replaced(lab: &Lab) {
    let images = lab.dir("img");
    let mut scene = Scene::start(lab, 400, true);
    lab.done(&["dump", "-t", &scene.pid(), "-D", &images, "-R", "--instant"]);
    let before = names(&images);
    let inventory = fs::read(format!("{images}/inventory.img")).unwrap();
    let dump = scene.half_dumped(lab, &images);
    send(&dump, Signal::SIGINT);
    assert_eq!(dump.wait_with_output().unwrap().status.code(), Some(4));
    scene.is_well();
    assert_eq!(names(&images), before);
    assert_eq!(fs::read(format!("{images}/inventory.img")).unwrap(), inventory);
    scene.comes_back(lab, &images);
}

fn no_plugin(lab: &Lab) {
    let images = lab.dir("img");
    let target = lab.start(&["memory", "32"]);
    let dump = ["dump", "-t", &target.pid(), "-D", &images, "-R", "--instant"];
    let with = |plugin: &str| lab.coded(&[&dump[..], &["--instant-plugin", plugin]].concat());
    let missing = lab.path("plugin.so");
    let place = format!("no plugin at {missing}");
    with(&missing).fails(1, &[&place, "do: build the package", "--instant-plugin"]);
    fs::write(&missing, "not a library").unwrap();
    with(&missing).fails(1, &["it is not a shared library"]);
    // The plugin, but in a file that others can write.
    let plugin = lab.done(&["check", "--json"]).json()["machine"]["instant"]["plugin"].clone();
    fs::copy(plugin.as_str().unwrap(), &missing).unwrap();
    let mode = |mode| {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&missing, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0o666);
    with(&missing).fails(1, &["others can write it", "0666"]);
    target.goes_on();
    assert_eq!(names(&images), ["dump.log"]);
    mode(0o644);
    with(&missing).done();
    target.goes_on();
}

/// While the program that reads a fork is stopped, the fork stays.
fn busy(lab: &Lab) {
    let (images, others) = (lab.dir("img"), lab.dir("others"));
    let mut scene = Scene::start(lab, 400, true);
    let mut dump = scene.half_dumped(lab, &images);
    send(&dump, Signal::SIGSTOP);
    let fork = scene.children();
    assert_eq!(fork.len(), 1, "{:?}", dump.try_wait());
    let second = ["dump", "-t", &scene.pid(), "-D", &others, "-R", "--instant"];
    let holds = format!("process {} holds the memory of process {}", fork[0], scene.pid());
    lab.coded(&second).fails(1, &[&holds, "do: wait until"]);
    lab.coded(&second[..6]).fails(1, &[&holds, "do: wait until"]);
    lab.coded(&[&second[..], &["--clear-orphans"]].concat()).fails(1, &[&holds]);
    assert_eq!(scene.children(), fork);
    send(&dump, Signal::SIGCONT);
    let output = dump.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    scene.is_well();
    lab.done(&second);
    scene.is_well();
    scene.comes_back(lab, &images);
}

/// A guard ends the forks of a program that is killed; if the guard is killed too, the next dump
/// does it.
fn orphaned(lab: &Lab) {
    let (images, others) = (lab.dir("img"), lab.dir("others"));
    let mut scene = Scene::start(lab, 400, true);
    let dump = scene.half_dumped(lab, &images);
    send(&dump, Signal::SIGKILL);
    dump.wait_with_output().unwrap();
    assert!(soon(|| scene.children().is_empty()), "{:?}", scene.children());
    scene.is_well();
    // Nobody takes what is there for a checkpoint.
    lab.run(&["restore", "-D", &images, "-d"]).fails(1, &[]);
    assert_ne!(lab.run(&["crit", "check", &images]).code, Some(0));

    let dump = scene.half_dumped(lab, &others);
    send(&dump, Signal::SIGSTOP);
    for guard in process::children(Pid::from(&dump)) {
        kill(nix::unistd::Pid::from_raw(guard.as_raw()), Signal::SIGKILL).unwrap();
    }
    send(&dump, Signal::SIGKILL);
    dump.wait_with_output().unwrap();
    let orphans = scene.children();
    assert_eq!(orphans.len(), 1);
    lab.done(&["dump", "-t", &scene.pid(), "-D", &others, "-R", "--instant"]);
    assert!(!process::exists(orphans[0]));
    scene.is_well();
    scene.comes_back(lab, &others);
}

fn progress(lab: &Lab) {
    let images = lab.dir("img");
    let scene = Scene::start(lab, 600, true);
    let terminal = Terminal::new();
    let dump = ["dump", "-t", &scene.pid(), "-D", &images, "-R", "--instant"];
    let mut session = terminal.start(&lab.coded_command(&dump));
    assert!(soon(|| terminal.text().contains("MiB of 6")), "{}", terminal.text());
    assert_eq!(session.wait().unwrap().code(), Some(0), "{}", terminal.text());
    assert!(soon(|| terminal.text().contains("while it ran")), "{}", terminal.text());
    scene.is_well();
}

/// Each checkpoint of a series is restored, also after another series in the same directory.
fn rounds(lab: &Lab) {
    let images = lab.dir("img");
    let mut scene = Scene::start(lab, 64, true);
    let dump = ["dump", "-t", &scene.pid(), "-D", &images, "--instant", "--rounds", "2"];
    let dump = |more: &[&str]| {
        let ran = lab.done(&[&dump[..], &["--every", "0.2", "--json"], more].concat());
        let rounds = ran.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        rounds.collect::<Vec<_>>()
    };
    let first = dump(&["-R"]);
    scene.is_well();
    let second = dump(&["-s"]);
    assert!(soon(|| scene.target.state() == Some('T')));
    assert_eq!(scene.children(), []);
    scene.target.signal(Signal::SIGCONT);
    scene.is_well();
    let all = [first, second].concat();
    let number = |round: &Value, name: &str| round["instant"][name].as_u64().unwrap();
    for (n, round) in all.iter().enumerate() {
        let images = format!("{images}/{n}");
        assert_eq!((&round["round"], &round["images"]), (&n.into(), &images.into()), "{round}");
        let (held, inherited) = (number(round, "held_pages"), number(round, "inherited_pages"));
        if n % 2 == 0 {
            assert!(round["parent"].is_null() && held > 64 << 8 && inherited == 0, "{round}");
        } else {
            assert!(round["parent"].as_str().unwrap().ends_with(&format!("/{}", n - 1)), "{round}");
            assert!(held < 4 << 8 && inherited > 60 << 8, "{round}");
        }
    }
    let tasks: Vec<_> = all.iter().map(|round| round["tasks"].as_str().unwrap()).collect();
    assert_eq!(tasks, ["running", "running", "running", "stopped"]);
    for n in [3, 0, 1] {
        let images = format!("{images}/{n}");
        lab.done(&["crit", "check", &images]);
        scene.comes_back(lab, &images);
    }
}

fn stopped_rounds(lab: &Lab) {
    let scene = Scene::start(lab, 64, false);
    for (number, rounds, code) in [("0", "unlimited", 0), ("1", "9", 4)] {
        let images = lab.dir(number);
        let words = ["dump", "-R", "-t", &scene.pid(), "-D", &images, "--instant"];
        let more = ["--rounds", rounds, "--every", "600"];
        let mut dump = lab.coded_command(&[&words[..], &more].concat());
        let mut dump = dump.stderr(Stdio::piped()).spawn().unwrap();
        // The pause after the first round: its images are complete, and the fork stays.
        let is_complete = || fs::exists(format!("{images}/0/pagemap-{}.img", scene.pid())).unwrap();
        assert!(soon(|| is_complete() || dump.try_wait().unwrap().is_some()));
        assert!(soon(|| scene.children().len() == 1), "{:?}", dump.try_wait());
        std::thread::sleep(Duration::from_millis(300));
        send(&dump, Signal::SIGINT);
        let output = dump.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains("is saved in"), "{said}");
        scene.is_well();
        lab.done(&["crit", "check", &format!("{images}/0")]);
    }
    let words = ["dump", "-t", &scene.pid(), "-D", &lab.path("0"), "--instant", "--rounds", "2"];
    lab.coded(&words).fails(2, &["--rounds needs --leave-running"]);
}

fn excluded(lab: &Lab) {
    let images = lab.dir("img");
    let target = lab.start(&["memory", "32"]);
    let dump = ["dump", "-t", &target.pid(), "-D", &images, "-R"];
    let with = |more: &[&str]| lab.coded(&[&dump[..], more].concat());
    for other in [
        &["--capture", "64M"][..],
        &["--compress"],
        &["--lazy-pages", "--port", "1"],
        &["--libdir", &images],
        &["--page-server", "--ps-socket", "0"],
        &["--page-server", "--relay"],
        &["--status-fd", "1"],
        &["--stream"],
        &["--track-mem"],
    ] {
        with(&[&["--instant"], other].concat()).fails(2, &["'--instant' cannot be used with"]);
    }
    for needy in [
        &["--verify"][..],
        &["--rounds", "2"],
        &["--accept-low-memory"],
        &["--instant-least", "1M"],
        &["--instant-plugin", "x.so"],
    ] {
        with(needy).fails(2, &["--instant"]);
    }
    with(&["--instant", "--instant-least", "1X"]).fails(2, &["expected a number"]);
    with(&["--instant", "--every", "2"]).fails(2, &["--rounds"]);
    let into = ["--instant", "--archive", "a.tar"];
    for other in [
        &["--rounds", "2"][..],
        &["--verify"],
        &["--page-server", "--address", "::1", "--port", "1"],
        &["--coordinator", "::1", "--coordinator-id", "A"],
    ] {
        let said = "'--archive <FILE>' cannot be used with";
        with(&[&into[..], other].concat()).fails(2, &[said]);
    }
    for needy in [&["--pack", "gzip"][..], &["--level", "3"], &["--digests"]] {
        with(&[&["--instant"], needy].concat()).fails(2, &["--archive"]);
    }
    with(&["--archive", "a.tar"]).fails(2, &["--instant"]);
    let sent = ["--instant", "--rounds", "2", "--page-server", "--address", "::1", "--port", "1"];
    with(&sent).fails(2, &["'--rounds <NUMBER>' cannot be used with"]);
    lab.coded(&["restore", "--instant"]).fails(2, &["--instant is an option of dump, pre-dump"]);
    target.goes_on();
    assert_eq!(names(&images), [""; 0]);
}

fn checked(lab: &Lab) {
    let said = lab.done(&["check", "--json"]).json();
    let instant = &said["machine"]["instant"];
    assert!(PathBuf::from(instant["plugin"].as_str().unwrap()).is_file(), "{said}");
    assert!(instant["why_not"].is_null(), "{said}");
    let plugin = format!("instant dumps yes, with {}", instant["plugin"].as_str().unwrap());
    assert!(lab.done(&["check"]).out.contains(&plugin));
    // A program without a plugin beside it, and without one that is installed.
    if fs::exists("/usr/lib/criu-rs").unwrap() || fs::exists("/usr/local/lib/criu-rs").unwrap() {
        return;
    }
    let program = lab.path("criu-rs");
    fs::copy(env!("CARGO_BIN_EXE_criu-rs"), &program).unwrap();
    let ran = crate::lab::run(lab.program(&program, &["check"]));
    ran.done();
    let place = format!("instant dumps no: no plugin at {}", lab.path("deps/libcriu_plugin.so"));
    assert!(ran.out.contains(&place) && ran.out.contains("  --instant\n"), "{ran:?}");
}
