//! `pre-dump --instant`, whose forks are kept until the next round.

use std::fs;
use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::process::{Child, Stdio};

use criu_lab::{names, process, soon};
use criu_rs::Pid;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::instant::{Scene, send};
use crate::lab::{Lab, Ran, TestFn};
use crate::terminal::Terminal;

pub const TESTS: &[(&str, TestFn)] = &[
    ("instant_pre_dumps_are_a_chain_that_is_restored", chain),
    ("a_dump_after_an_instant_pre_dump_ends_the_processes", ends),
    ("a_keeper_that_is_gone_is_told_of", gone),
    ("a_keeper_ends_for_its_budget_and_its_time", over),
    ("a_keeper_serves_its_own_user_and_one_at_a_time", served),
    ("an_interrupted_instant_pre_dump_leaves_the_series_as_it_was", interrupted),
    ("an_instant_pre_dump_is_refused_where_it_makes_no_sense", refused),
];

/// Rounds of a process.
struct Rounds<'a> {
    lab: &'a Lab,
    scene: Scene,
}

impl<'a> Rounds<'a> {
    fn start(lab: &'a Lab, mib: usize, idle: bool) -> Self {
        Self { lab, scene: Scene::start(lab, mib, idle) }
    }

    /// The words of a round into a directory, on top of another one.
    fn words(&self, word: &str, name: &str, earlier: Option<&str>, more: &[&str]) -> Vec<String> {
        let images = self.lab.path(name);
        let words = [word, "-t", &self.scene.pid(), "-D", &images, "--instant"].map(str::to_owned);
        let earlier = earlier.map(|name| ["--prev-images-dir".to_owned(), format!("../{name}")]);
        let more = more.iter().map(|&word| word.to_owned());
        words.into_iter().chain(earlier.into_iter().flatten()).chain(more).collect()
    }

    #[track_caller]
    fn run(&self, word: &str, name: &str, earlier: Option<&str>, more: &[&str]) -> Ran {
        let words = self.words(word, name, earlier, more);
        self.lab.coded(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Makes a round, and returns its facts.
    #[track_caller]
    fn done(&self, word: &str, name: &str, earlier: Option<&str>, more: &[&str]) -> Value {
        let ran = self.run(word, name, earlier, &[more, &["--json"]].concat());
        ran.done();
        ran.json()
    }

    /// Makes a pre-dump, and returns its keeper.
    #[track_caller]
    fn kept(&self, name: &str, earlier: Option<&str>, more: &[&str]) -> Pid {
        keeper(&self.done("pre-dump", name, earlier, more))
    }

    /// Asserts that the process runs on with this number of forks.
    #[track_caller]
    fn has_forks(&self, count: usize) {
        let children = || self.scene.children();
        assert!(soon(|| children().len() == count), "{:?}", children());
        self.scene.target.goes_on();
        assert_eq!(self.scene.watch.wrong(), None);
    }

    /// Starts a round, and returns while it is being made.
    #[track_caller]
    fn half_done(&self, name: &str, earlier: &str, more: &[&str]) -> Child {
        let words = self.words("pre-dump", name, Some(earlier), more);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut command = self.lab.coded_command(&words);
        let mut round = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let is_half = || self.scene.children().len() == 2;
        assert!(soon(|| is_half() || round.try_wait().unwrap().is_some()));
        assert!(is_half(), "{:?}", round.try_wait());
        round
    }
}

fn keeper(said: &Value) -> Pid {
    let pid = said["keeper"]["pid"].as_i64().unwrap_or_else(|| panic!("{said}"));
    Pid::new(pid.try_into().unwrap()).unwrap()
}

#[track_caller]
fn has_ended(keeper: Pid) {
    assert!(soon(|| process::has_ended(keeper)), "process {keeper} is alive");
}

fn number(said: &Value, name: &str) -> u64 {
    said["instant"][name].as_u64().unwrap_or_else(|| panic!("{said}"))
}

fn chain(lab: &Lab) {
    let mut rounds = Rounds::start(lab, 64, true);
    let mut keepers = Vec::new();
    for name in ["1", "2", "3"] {
        let earlier = (name.parse::<u32>().unwrap() - 1).to_string();
        let said = rounds.done("pre-dump", name, (name != "1").then_some(&earlier), &[]);
        assert_eq!((&said["outcome"], &said["tasks"]), (&"done".into(), &"running".into()));
        assert_eq!(said["keeper"]["keep_s"], 600.0, "{said}");
        let (held, inherited) = (number(&said, "held_pages"), number(&said, "inherited_pages"));
        if name == "1" {
            assert!(said["parent"].is_null() && held > 64 << 8 && inherited == 0, "{said}");
        } else {
            assert!(said["parent"].as_str().unwrap().ends_with(&format!("/{earlier}")), "{said}");
            assert!(held < 4 << 8 && inherited > 60 << 8, "{said}");
            let link = fs::read_link(lab.path(name).clone() + "/parent").unwrap();
            assert_eq!(link.to_str(), Some(&*format!("../{earlier}")));
        }
        rounds.has_forks(1);
        keepers.push(keeper(&said));
        assert!(names(lab.path(name)).contains(&"pre-dump.log".to_owned()));
    }
    for keeper in &keepers[..2] {
        has_ended(*keeper);
    }
    assert!(!process::has_ended(keepers[2]));
    let said = rounds.done("dump", "4", Some("3"), &["-s", "--verify"]);
    assert!(number(&said, "held_pages") < 4 << 8, "{said}");
    assert!(number(&said, "inherited_pages") > 60 << 8, "{said}");
    assert_eq!(said["tasks"], "stopped");
    has_ended(keepers[2]);
    assert!(soon(|| rounds.scene.target.state() == Some('T')));
    assert_eq!(rounds.scene.children(), []);
    rounds.scene.target.signal(Signal::SIGCONT);
    rounds.scene.is_well();
    for name in ["4", "2"] {
        lab.done(&["crit", "check", &lab.path(name)]);
        rounds.scene.comes_back(lab, &lab.path(name));
    }
}

/// The process writes all the time.
fn ends(lab: &Lab) {
    let mut rounds = Rounds::start(lab, 48, false);
    let first = rounds.kept("1", None, &[]);
    rounds.has_forks(1);
    let log = lab.path("own.log");
    let ran = rounds.run("pre-dump", "2", Some("1"), &["--keep", "300", "-o", &log]);
    ran.done();
    assert!(fs::metadata(&log).unwrap().len() > 0);
    assert!(!names(lab.path("2")).contains(&"pre-dump.log".to_owned()));
    assert!(ran.err.contains("keeps its forks for the next round, for 300 seconds"), "{ran:?}");
    rounds.has_forks(1);
    has_ended(first);
    let said = rounds.done("dump", "3", Some("2"), &["--verify"]);
    assert_eq!(said["tasks"], "killed");
    assert_eq!(said["instant"]["tasks"][0]["way"], "held", "{said}");
    rounds.scene.target.is_gone();
    lab.done(&["crit", "check", &lab.path("3")]);
    rounds.scene.comes_back(lab, &lab.path("3"));
    // One that lets the process run on.
    rounds.scene.target.end();
    let mut rounds = Rounds::start(lab, 48, false);
    let ran = rounds.run("pre-dump", "4", None, &["-v4", "-o", "-"]);
    ran.done();
    assert!(ran.out.contains("Dumping finished successfully"), "{ran:?}");
    assert_eq!(rounds.done("dump", "5", Some("4"), &["-R"])["tasks"], "running");
    rounds.scene.is_well();
    rounds.scene.comes_back(lab, &lab.path("5"));
}

fn gone(lab: &Lab) {
    let rounds = Rounds::start(lab, 32, true);
    let fails = |earlier, why: &str| {
        let anew = "begin anew, without --prev-images-dir";
        for (word, more) in [("pre-dump", &[][..]), ("dump", &["-R"])] {
            rounds.run(word, "next", Some(earlier), more).fails(1, &[why, anew]);
        }
        assert!(!fs::exists(lab.path("next/inventory.img")).unwrap());
    };
    let keeper = rounds.kept("killed", None, &[]);
    process::send(keeper, Signal::SIGKILL);
    rounds.has_forks(0);
    fails("killed", &format!("their keeper, process {keeper}, was killed"));
    for (name, signal) in [("term", Signal::SIGTERM), ("int", Signal::SIGINT)] {
        let keeper = rounds.kept(name, None, &[]);
        process::send(keeper, signal);
        has_ended(keeper);
        rounds.has_forks(0);
        fails(name, &format!("{} came", signal.as_str()));
    }
    let log = fs::read_to_string(lab.path("term/keeper.log")).unwrap();
    assert!(log.contains("the forks have ended: SIGTERM came"), "{log}");
    // A round that was built on already.
    rounds.kept("a", None, &[]);
    let keeper = rounds.kept("b", Some("a"), &[]);
    fails("a", "the next round was made");
    // The fork itself.
    process::send(rounds.scene.children()[0], Signal::SIGKILL);
    has_ended(keeper);
    rounds.has_forks(0);
    fails("b", "a holder was ended");
    // The images.
    let keeper = rounds.kept("c", None, &[]);
    let inventory = lab.path("c/inventory.img");
    let bytes = fs::read(&inventory).unwrap();
    fs::remove_file(&inventory).unwrap();
    fs::write(&inventory, bytes).unwrap();
    rounds.run("pre-dump", "next", Some("c"), &[]).fails(1, &["its images have changed", "do: "]);
    rounds.has_forks(1);
    // The process.
    rounds.scene.target.signal(Signal::SIGKILL);
    has_ended(keeper);
    let said = fs::read_to_string(lab.path("c/keeper.json")).unwrap();
    assert!(said.contains(&format!("process {} has ended", rounds.scene.pid())), "{said}");
}

fn over(lab: &Lab) {
    let rounds = Rounds::start(lab, 32, false);
    let keeper = rounds.kept("time", None, &["--keep", "1"]);
    has_ended(keeper);
    rounds.has_forks(0);
    let ran = rounds.run("pre-dump", "next", Some("time"), &[]);
    ran.fails(1, &["no next round came in 1 seconds", "begin anew"]);
    // On a busy machine the forks may have ended even before there is a keeper.
    rounds.run("pre-dump", "budget", None, &["--instant-budget", "4M"]).done();
    rounds.has_forks(0);
    let ran = rounds.run("dump", "next", Some("budget"), &[]);
    ran.fails(1, &["MiB for themselves, and may take 4 MiB", "begin anew"]);
    rounds.scene.is_well();
}

fn served(lab: &Lab) {
    let rounds = Rounds::start(lab, 32, true);
    let keeper = rounds.kept("1", None, &[]);
    let entry: Value =
        serde_json::from_slice(&fs::read(lab.path("1/keeper.json")).unwrap()).unwrap();
    let name = entry["socket"].as_str().unwrap();
    let address = SocketAddr::from_abstract_name(name).unwrap();
    // Another user.
    let script = format!(
        "use Socket; socket(S, AF_UNIX, SOCK_STREAM, 0) || die; \
         connect(S, pack('Sa*', AF_UNIX, \"\\0{name}\")) || die $!; print sysread(S, $bytes, 100)"
    );
    let words = ["--reuid=65534", "--clear-groups", "/usr/bin/perl", "-e", &script];
    let ran = crate::lab::run(lab.program("setpriv", &words).current_dir("/"));
    assert_eq!((ran.code, ran.out.trim()), (Some(0), "0"), "{ran:?}");
    // The same user.
    let connect = || {
        let connection = UnixStream::connect_addr(&address).unwrap();
        connection.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
        connection
    };
    let hear = |mut from: &UnixStream| {
        let mut bytes = [0; 4096];
        let count = from.read(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    };
    for nonsense in [&b"\0"[..], b"x", &[0xff; 100_000]] {
        let mut connection = connect();
        assert!(hear(&connection).starts_with("criu-rs series 1 "));
        // The keeper may close the connection before all is written.
        let _ = connection.write_all(nonsense);
        let mut rest = Vec::new();
        let _ = connection.read_to_end(&mut rest);
        assert_eq!(rest, b"");
    }
    let first = connect();
    assert!(hear(&first).ends_with("\n.\n"));
    assert_eq!(hear(&connect()), "busy\n.\n");
    let ran = rounds.run("pre-dump", "2", Some("1"), &[]);
    ran.fails(1, &["another program makes the next round"]);
    drop(first);
    assert!(!process::has_ended(keeper));
    rounds.has_forks(1);
    let said = rounds.done("dump", "2", Some("1"), &["-R"]);
    assert!(number(&said, "inherited_pages") > 28 << 8, "{said}");
    has_ended(keeper);
    rounds.scene.is_well();
}

fn interrupted(lab: &Lab) {
    let rounds = Rounds::start(lab, 300, false);
    let large = ["--instant-budget", "2G"];
    let keeper = rounds.kept("1", None, &large);
    for (name, signal) in
        [("int", Signal::SIGINT), ("term", Signal::SIGTERM), ("killed", Signal::SIGKILL)]
    {
        let round = rounds.half_done(name, "1", &large);
        send(&round, signal);
        let output = round.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        if signal != Signal::SIGKILL {
            assert_eq!(output.status.code(), Some(4), "{said}");
            assert!(said.contains("cancelled"), "{said}");
        }
        rounds.has_forks(1);
        assert!(!process::has_ended(keeper), "{said}");
        assert!(!fs::exists(lab.path(&format!("{name}/inventory.img"))).unwrap());
        assert!(fs::symlink_metadata(lab.path(&format!("{name}/parent"))).is_err());
    }
    // Ctrl-C reaches the process that stays, and the one in the foreground.
    let terminal = Terminal::new();
    let words = rounds.words("pre-dump", "typed", Some("1"), &large);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut session = terminal.start(&lab.coded_command(&words));
    assert!(soon(|| rounds.scene.children().len() == 2), "{}", terminal.text());
    terminal.interrupt();
    assert_eq!(session.wait().unwrap().code(), Some(4), "{}", terminal.text());
    assert!(soon(|| terminal.text().contains("cancelled")), "{}", terminal.text());
    rounds.has_forks(1);
    assert!(!process::has_ended(keeper));
    // A round of a terminal outlives it.
    let words = rounds.words("pre-dump", "kept", Some("1"), &large);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut session = terminal.start(&lab.coded_command(&words));
    assert_eq!(session.wait().unwrap().code(), Some(0), "{}", terminal.text());
    drop(terminal);
    has_ended(keeper);
    rounds.has_forks(1);

    let mut rounds = rounds;
    let said = rounds.done("dump", "2", Some("kept"), &["-R"]);
    assert!(said["instant"]["tasks"][0]["way"] == "held", "{said}");
    rounds.scene.is_well();
    rounds.scene.comes_back(lab, &lab.path("2"));
}

fn refused(lab: &Lab) {
    let rounds = Rounds::start(lab, 32, true);
    for other in [
        &["--compress"][..],
        &["--libdir", "/tmp"],
        &["--page-server", "--address", "::1", "--port", "1"],
        &["--pre-dump-mode", "read"],
        &["--track-mem"],
        &["--auto-dedup"],
    ] {
        let ran = rounds.run("pre-dump", "x", None, other);
        ran.fails(2, &["'--instant' cannot be used with", other[0]]);
    }
    let pid = rounds.scene.pid();
    for needy in [&["--keep", "3"][..], &["--instant-budget", "1M"], &["--verify"]] {
        let words = [&["pre-dump", "-t", &pid, "-D", "x"], needy].concat();
        lab.coded(&words).fails(2, &["--instant"]);
    }
    let sent = ["-R", "--page-server", "--address", "::1", "--port", "1"];
    rounds.run("dump", "z", Some("1"), &sent).fails(2, &["excludes --page-server"]);
    assert_eq!(rounds.scene.children(), []);
    // A directory that is no round.
    fs::create_dir(lab.path("x")).unwrap();
    let ran = rounds.run("pre-dump", "y", Some("x"), &[]);
    ran.fails(2, &["is no round of `pre-dump --instant`", "begin anew"]);

    rounds.kept("1", None, &[]);
    let holds = format!("holds the memory of process {pid}");
    for (word, more) in [("pre-dump", &[][..]), ("dump", &["-R"])] {
        let advice = "do: wait until that dump has read its memory, or end its program";
        rounds.run(word, "2", None, more).fails(1, &[&holds, advice]);
    }
    lab.coded(&["dump", "-R", "-t", &pid, "-D", &lab.path("2")]).fails(1, &[&holds]);
    // The round before would be lost.
    let ran = rounds.run("pre-dump", "1", Some("1"), &[]);
    ran.fails(2, &["one that the round does not build on"]);
    let other = lab.start(&["memory", "32"]);
    let words = ["pre-dump", "-t", &other.pid(), "-D", &lab.path("2"), "--instant"];
    let ran = lab.coded(&[&words[..], &["--prev-images-dir", "../1"]].concat());
    ran.fails(2, &["the base of a series", "one of the same process"]);
    rounds.has_forks(1);
    rounds.done("dump", "2", Some("1"), &["-R"]);
    rounds.scene.is_well();
}
