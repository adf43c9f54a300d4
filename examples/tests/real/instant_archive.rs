//! `dump --instant --archive`: the memory goes from the forks into an archive, or a pipe.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Output};
use std::time::Duration;

use criu_lab::{names, soon, within};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use crate::instant::{Scene, send};
use crate::lab::{Lab, Ran, TestFn, run};

pub const TESTS: &[(&str, TestFn)] = &[
    ("an_instant_dump_goes_into_an_archive", archived),
    ("an_instant_dump_goes_into_an_encrypted_archive", encrypted),
    ("an_instant_dump_goes_through_a_pipe", piped),
    ("an_archive_of_an_instant_dump_is_that_of_its_images", alike),
    ("an_interrupted_instant_dump_leaves_no_archive", interrupted),
    ("an_archive_that_cannot_be_written_harms_nobody", unwritten),
    ("a_fork_that_is_killed_leaves_no_archive", killed),
    ("places_that_take_no_archive_are_refused", refused),
];

/// The words of a dump into an archive.
fn into<'w>(pid: &'w str, archive: &'w str) -> [&'w str; 7] {
    ["dump", "-t", pid, "-R", "--instant", "--archive", archive]
}

/// Asserts that a directory holds nothing but this, beside what the process writes.
#[track_caller]
fn holds(lab: &Lab, wanted: &[&str]) {
    let is_other = |name: &String| !name.starts_with("count");
    let found: Vec<String> = names(&lab.dir).into_iter().filter(is_other).collect();
    assert_eq!(found, wanted);
}

/// Waits for the end of a program whose output nobody reads until then.
#[track_caller]
fn ended(mut program: Child) -> Output {
    assert!(within(Duration::from_secs(60), || program.try_wait().unwrap().is_some()));
    program.wait_with_output().unwrap()
}

fn archived(lab: &Lab) {
    let mut scene = Scene::start(lab, 32, false);
    let pid = scene.pid();
    for (name, more, packing, has_digests) in [
        ("a.tar", &["--pack", "plain"][..], "plain", false),
        ("b.tar.zst", &[], "seekable zstd", true),
        ("c.tar.zst", &["--digests", "--threads", "2"], "seekable zstd", true),
    ] {
        let dump = [&into(&pid, name), more, &["--json"]].concat();
        let said = lab.done(&dump).json();
        scene.is_well();
        holds(lab, &[name]);
        let instant = &said["instant"];
        assert_eq!(instant["tasks"][0]["way"], "held", "{said}");
        assert!(instant["held_pages"].as_u64().unwrap() >= 32 << 8, "{said}");
        assert_eq!((&said["images"], &said["archive"]["path"]), (&name.into(), &name.into()));
        assert_eq!(said["archive"]["packing"], packing, "{said}");
        let verified = lab.done(&["archive", "verify", name, "--json"]).json();
        assert_eq!(verified["has_digests"], has_digests, "{verified}");
        assert_eq!(verified["count"], said["archive"]["members"], "{said} {verified}");
        let shown = lab.done(&["inspect", name]).out;
        assert!(shown.contains(&scene.pid()), "{shown}");
        scene.comes_back(lab, name);
        for name in [name, "restore.log", "stats-restore"] {
            fs::remove_file(lab.path(name)).unwrap();
        }
    }
    // The memory comes later.
    lab.done(&into(&pid, "d.tar.zst"));
    scene.target.end();
    scene.watch.forget();
    lab.done(&["restore", "-D", "d.tar.zst", "-d", "--lazy"]);
    scene.is_well();
}

fn encrypted(lab: &Lab) {
    let mut scene = Scene::start(lab, 32, false);
    let pid = scene.pid();
    let keygen = criu_lab::place::engine("age-keygen");
    run(lab.program(&keygen, &["-o", "key"])).done();
    let key = fs::read_to_string(lab.path("key")).unwrap();
    let recipient = key.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap();
    fs::write(lab.path("recipients"), format!("{recipient}\n")).unwrap();
    for option in [["--recipient", recipient], ["--recipients-file", "recipients"]] {
        let dump = [&into(&pid, "a.age"), &option[..], &["--json"]].concat();
        let said = lab.done(&dump).json();
        assert_eq!(said["archive"]["encrypted"], true, "{said}");
        scene.is_well();
        lab.run(&["archive", "verify", "a.age"]).fails(1, &["a.age: is encrypted"]);
        lab.done(&["archive", "verify", "a.age", "--identity", "key"]);
        scene.target.end();
        scene.watch.forget();
        lab.done(&["restore", "-D", "a.age", "-d", "--identity", "key"]);
        scene.is_well();
        fs::remove_file(lab.path("a.age")).unwrap();
    }
    let wrong = [&into(&pid, "a.age")[..], &["--recipient", "age1x"]].concat();
    lab.coded(&wrong).fails(2, &["--recipient: "]);
    scene.is_well();
    assert!(!fs::exists(lab.path("a.age")).unwrap());
}

/// Runs a line of the shell, in which `$DUMP` is the dump, and which fails if a part of it does.
fn shell(lab: &Lab, pid: &str, line: &str) -> Ran {
    let program = env!("CARGO_BIN_EXE_criu-rs");
    let dump = format!("{program} dump --exit-codes -t {pid} -R --instant --archive -");
    let line = format!("set -o pipefail; {line}");
    run(lab.program("bash", &["-c", &line]).env("DUMP", dump).env("CRIU_RS", program))
}

fn piped(lab: &Lab) {
    let mut scene = Scene::start(lab, 48, false);
    let ran = shell(lab, &scene.pid(), "$DUMP | cat > a.tar.zst");
    ran.done();
    assert!(ran.err.contains("is saved in standard output"), "{ran:?}");
    assert_eq!(ran.out, "");
    scene.is_well();
    lab.done(&["archive", "verify", "a.tar.zst"]);
    scene.comes_back(lab, "a.tar.zst");
    let ran = shell(lab, &scene.pid(), "$DUMP --digests | $CRIU_RS archive verify -");
    ran.done();
    assert!(ran.out.contains("is whole: "), "{ran:?}");
    // Into a file of the shell's, of a tree that stays stopped.
    shell(lab, &scene.pid(), "$DUMP --leave-stopped --pack plain > b.tar").done();
    assert!(soon(|| criu_lab::process::is_stopped(scene.target.pid)));
    scene.target.signal(Signal::SIGCONT);
    scene.is_well();
    scene.comes_back(lab, "b.tar");
    // A restore reads a pipe, too.
    scene.target.end();
    scene.watch.forget();
    let restore = "cat a.tar.zst | $CRIU_RS restore -d -D /dev/stdin -o log";
    shell(lab, &scene.pid(), restore).done();
    scene.is_well();
    holds(lab, &["a.tar.zst", "b.tar", "log", "restore.log", "stats-restore"]);
}

/// Of a stopped process: only what tells the time of the dump differs.
fn alike(lab: &Lab) {
    let scene = Scene::start(lab, 48, false);
    let pid = scene.pid();
    scene.target.signal(Signal::SIGSTOP);
    assert!(soon(|| criu_lab::process::is_stopped(scene.target.pid)));
    // A dump may touch a page of the stack, and the next one finds the page there.
    for images in ["before", "img"] {
        lab.dir(images);
        lab.done(&["dump", "-t", &pid, "-R", "-D", images, "--instant"]);
    }
    lab.done(&["archive", "create", "img", "a.tar.zst", "--engine", "none"]);
    lab.done(&into(&pid, "b.tar.zst"));
    let members = |name: &str| {
        let listed = lab.done(&["archive", "list", "--digests", "--json", name]).json();
        assert_eq!(listed["packing"], "seekable zstd");
        listed["members"].as_array().unwrap().clone()
    };
    let (one, other) = (members("a.tar.zst"), members("b.tar.zst"));
    let fact = |all: &[Value], fact: &str| -> Vec<Value> {
        all.iter().map(|member| member[fact].clone()).collect()
    };
    for facts in ["path", "kind", "mode"] {
        assert_eq!(fact(&one, facts), fact(&other, facts), "{facts}");
    }
    let paths = fact(&one, "path");
    for wanted in ["checkpoint/pages-65537.img", "checkpoint/inventory.img", "stats-dump"] {
        assert!(paths.contains(&wanted.into()), "{wanted}: {paths:?}");
    }
    let differ: Vec<&str> = (one.iter().zip(&other))
        .filter(|(one, other)| one["sha256"] != other["sha256"])
        .map(|(one, _)| one["path"].as_str().unwrap())
        .collect();
    // Times, the identifier of the run, and the pages, see below.
    let pages = "checkpoint/pages-65537.img";
    let may = ["stats-dump", "checkpoint/inventory.img", "checkpoint/timens-0.img", pages];
    assert!(differ.iter().all(|path| may.contains(path)), "{differ:?}");
    // The kernel notes the processor in the memory of each thread (rseq), and a dump leaves other
    // bytes below the stack pointer.
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().count();
    let [one, other] = ["a", "b"].map(|name| {
        lab.done(&["archive", "extract", &format!("{name}.tar.zst"), name]);
        fs::read(lab.path(&format!("{name}/{pages}"))).unwrap()
    });
    assert!(one.len() >= 48 << 20 && other.len() == one.len(), "{} bytes", one.len());
    let pairs = one.chunks(4096).zip(other.chunks(4096));
    let wrong = pairs.filter(|(one, other)| one != other).count();
    assert!(wrong <= threads + 1, "{wrong} pages differ");
    scene.target.signal(Signal::SIGCONT);
    scene.is_well();
}

fn interrupted(lab: &Lab) {
    let scene = Scene::start(lab, 400, true);
    for (signal, place) in [(Signal::SIGINT, "a.tar.zst"), (Signal::SIGTERM, "-")] {
        fs::write(lab.path("a.tar.zst"), "old").unwrap();
        let images = lab.dir("img");
        let dump = scene.half_dumped_to(lab, &["-D", &images, "--archive", place]);
        send(&dump, signal);
        // Nobody reads the pipe.
        let output = ended(dump);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(4), "{said}");
        assert!(said.contains("cancelled"), "{said}");
        scene.is_well();
        assert_eq!(names(&images), ["dump.log"]);
        fs::remove_dir_all(&images).unwrap();
        assert_eq!(fs::read(lab.path("a.tar.zst")).unwrap(), b"old");
        holds(lab, &["a.tar.zst"]);
    }
}

/// A file system that is small. Dropped, it is gone.
struct Small(PathBuf);

impl Small {
    fn new(path: PathBuf) -> Self {
        fs::create_dir(&path).unwrap();
        mount(Some("small"), &path, Some("tmpfs"), MsFlags::empty(), Some("size=8m")).unwrap();
        Self(path)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
        let _ = fs::remove_dir(&self.0);
    }
}

fn unwritten(lab: &Lab) {
    let scene = Scene::start(lab, 64, false);
    let pid = scene.pid();
    let small = Small::new(lab.dir.join("small"));
    fs::write(small.0.join("a.tar"), "old").unwrap();
    let dump = [&into(&pid, "small/a.tar")[..], &["--pack", "plain"]].concat();
    let ran = lab.coded(&dump);
    ran.fails(1, &["small/a.tar: ", "No space left on device"]);
    scene.is_well();
    assert_eq!(names(&small.0), ["a.tar"]);
    assert_eq!(fs::read(small.0.join("a.tar")).unwrap(), b"old");
    drop(small);
    // A reader that has seen enough, and one that sees nothing.
    for reader in ["head -c 1000000", "true"] {
        let ran = shell(lab, &scene.pid(), &format!("$DUMP --pack plain | {reader} > /dev/null"));
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.err.contains("cannot write to standard output: Broken pipe"), "{ran:?}");
        scene.is_well();
    }
    let ran = shell(lab, &scene.pid(), "$DUMP --pack plain > /dev/full");
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("No space left on device"), "{ran:?}");
    scene.is_well();
    holds(lab, &[]);
}

fn killed(lab: &Lab) {
    let scene = Scene::start(lab, 400, true);
    let mut dump = scene.half_dumped_to(lab, &["--archive", "a.tar.zst", "--level", "19"]);
    // The file in the making has no name yet that anybody would look for.
    let is_new = |name: &String| name.starts_with(".a.tar.zst");
    let has_begun = || match names(&lab.dir).into_iter().find(is_new) {
        Some(name) => fs::metadata(lab.dir.join(name)).is_ok_and(|file| file.len() > 0),
        None => false,
    };
    assert!(soon(|| has_begun() || dump.try_wait().unwrap().is_some()));
    let forks = scene.children();
    assert_eq!(forks.len(), 1);
    kill(nix::unistd::Pid::from_raw(forks[0].as_raw()), Signal::SIGKILL).unwrap();
    let output = ended(dump);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot be read from its holder: it has ended"), "{said}");
    assert!(said.contains("do: free memory"), "{said}");
    scene.is_well();
    holds(lab, &[]);
    // Of a stream, whoever reads learns that it is not whole.
    let mut dump = scene.half_dumped_to(lab, &["--archive", "-", "--pack", "plain"]);
    let (mut out, mut stream) = (dump.stdout.take().unwrap(), vec![0; 1 << 20]);
    out.read_exact(&mut stream).unwrap();
    let forks = scene.children();
    kill(nix::unistd::Pid::from_raw(forks[0].as_raw()), Signal::SIGKILL).unwrap();
    out.read_to_end(&mut stream).unwrap();
    let output = ended(dump);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    scene.is_well();
    fs::write(lab.path("part.tar"), stream).unwrap();
    assert_eq!(lab.run(&["archive", "verify", "part.tar"]).code, Some(1));
}

fn refused(lab: &Lab) {
    let target = lab.start(&["count"]);
    let pid = target.pid();
    let with = |place: &str, more: &[&str]| lab.coded(&[&into(&pid, place), more].concat());
    lab.dir("folder");
    for place in ["folder", "/dev/null", "/dev/stdout"] {
        with(place, &[]).fails(2, &["--archive: ", "is no regular file: name a file, or - for"]);
    }
    with("none/a.tar", &[]).fails(1, &["make a directory in none: ", "No such file"]);
    let ran = with("-", &["--json"]);
    assert!(ran.code == Some(2) && ran.out.contains("cannot both go to standard output"));
    with("-", &["-o", "-"]).fails(2, &["--log-file: the archive is on standard output"]);
    with("-", &["--display-stats"]).fails(2, &["--display-stats: the archive is on standard"]);
    with("a.tar", &["--pack", "plain", "--level", "3"]).fails(2, &["--level: plain"]);
    with("a.tar", &["--pack", "gzip", "--threads", "3"]).fails(2, &["--threads: gzip"]);
    let ends = ["dump", "-t", &pid, "--instant", "--archive", "a.tar"];
    lab.coded(&ends).fails(2, &["--archive needs --leave-running or --leave-stopped"]);
    target.goes_on();
    holds(lab, &["folder"]);
    assert_eq!(names(Path::new(&lab.path("folder"))), [""; 0]);
    // A process that is not forked goes there, too, and a link is replaced.
    std::os::unix::fs::symlink("folder", lab.path("a.tar")).unwrap();
    for least in ["1G", "4K"] {
        let ran = with("a.tar", &["--instant-least", least, "--pack", "gzip", "--level", "1"]);
        ran.done();
        assert_eq!(ran.err.contains("no process was forked"), least == "1G", "{ran:?}");
        let verified = lab.done(&["archive", "verify", "a.tar", "--json"]).json();
        assert_eq!(verified["packing"], "gzip");
    }
    target.goes_on();
}
