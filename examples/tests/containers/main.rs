//! The program `container`, with containers of real runtimes. The tests need root, and the programs
//! that `cargo xtask setup --tests` unpacks; see `criu-rs/tests/containers`.

#![allow(clippy::unwrap_used, unreachable_pub)]

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use criu_lab::containers::{Bundle, Suite};
use criu_lab::soon;
use criu_rs::{Criu, Pid};
use serde_json::Value;

type Bed = criu_lab::containers::Bed<Pid, Criu>;
type Case = criu_lab::containers::Case<Pid, Criu>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let suite = Suite {
        tests: TESTS.to_vec(),
        criu: |path| Criu::at(path),
        version: |criu| criu.version().map_err(|error| error.to_string()),
    };
    suite.main(&words).unwrap_or(ExitCode::FAILURE)
}

const TESTS: &[Case] = &[
    Case { name: "there_and_back", test: there_and_back, runtimes: BOTH, newest_only: false },
    Case { name: "it_runs_on", test: runs_on, runtimes: BOTH, newest_only: true },
    Case { name: "the_end_is_waited_for", test: waits, runtimes: &["runc"], newest_only: true },
    Case { name: "failures_cite_their_log", test: cites, runtimes: &["runc"], newest_only: true },
    Case { name: "nonsense_is_explained", test: nonsense, runtimes: &["runc"], newest_only: true },
];

const BOTH: &[&str] = &["runc", "crun"];

/// The program, told which runtime and which CRIU.
fn container(bed: &Bed, word: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_criu-rs"));
    command.args(["container", word]).env("CRIU", bed.criu.program().unwrap().unwrap());
    command
}

/// `checkpoint` of the container `c`.
fn checkpoint(bed: &Bed, images: &Path) -> Command {
    let (program, state) = bed.runtime.place();
    let mut command = container(bed, "checkpoint");
    command.arg("c").arg("-D").arg(images).arg("--runtime").arg(program).arg("--root").arg(state);
    command
}

fn restore(bed: &Bed, bundle: &Bundle, images: &Path) -> Command {
    let mut command = container(bed, "restore");
    command.arg("c").arg("-D").arg(images).arg("-b").arg(&bundle.dir);
    command
}

#[track_caller]
fn done(bed: &Bed, command: &mut Command) -> String {
    let (is_done, said) = bed.runtime.finish(command);
    assert!(is_done, "{command:?}: {said}");
    said
}

fn there_and_back(bed: &Bed) {
    let outside = bed.dir("outside");
    let bundle = Bundle::new(bed, "bundle", "count", &[]).with(|b| b.bind(&outside, "/data", &[]));
    let images = bed.dir.join("images");
    bed.runtime.run(&bundle, "c", &[]);
    let said = done(bed, &mut checkpoint(bed, &images));
    assert!(said.contains("is saved in") && said.contains("it has been ended"), "{said}");
    bed.runtime.delete("c");
    let counted = bundle.stands_still();

    let pid_file = bed.dir.join("pid");
    let said =
        done(bed, restore(bed, &bundle, &images).arg("--json").arg("--pid-file").arg(&pid_file));
    let told: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(told["outcome"], "done", "{told}");
    assert_eq!(told["pid"].to_string(), fs::read_to_string(&pid_file).unwrap());
    assert!(bundle.goes_on() > counted);
    kill(&pid_file);

    // A process whose id cannot be told is not restored.
    let mut unwritten = restore(bed, &bundle, &images);
    let (is_done, said) = bed.runtime.finish(unwritten.arg("--pid-file").arg("/no/such/file"));
    assert!(!is_done && said.contains("cannot write /no/such/file: No such file"), "{said}");
    bundle.stands_still();

    // What it has saved, the runtime restores.
    bed.runtime.restore(&bundle, "c", &images, &[]);
    assert!(bundle.goes_on() > counted);
    bed.runtime.delete("c");
}

fn runs_on(bed: &Bed) {
    let bundle = Bundle::new(bed, "bundle", "count", &[]);
    let images = bed.dir.join("images");
    bed.runtime.run(&bundle, "c", &[]);
    let said = done(bed, checkpoint(bed, &images).arg("-R"));
    assert!(said.contains("it runs on"), "{said}");
    bundle.goes_on();
    assert_eq!(bed.runtime.state("c").unwrap()["status"], "running");
    bed.runtime.delete("c");
}

/// A checkpoint and a restore that fail in CRIU: each cites its own log, with advice that can be
/// followed here.
fn cites(bed: &Bed) {
    let bundle = Bundle::new(bed, "bundle", "count", &[]);
    let images = bed.dir.join("images");
    bed.runtime.run(&bundle, "c", &[]);
    done(bed, checkpoint(bed, &images).arg("-R"));
    // A second one says how it would be possible, and it is.
    let (is_done, said) = bed.runtime.finish(checkpoint(bed, &images).arg("-R"));
    assert!(!is_done && said.contains("holds a checkpoint already"), "{said}");
    assert!(said.contains("do: use another directory, or --overwrite"), "{said}");
    done(bed, checkpoint(bed, &images).arg("--overwrite"));
    bed.runtime.delete("c");

    // Only CRIU opens this image.
    let broken = fs::read_dir(&images).unwrap().map(|entry| entry.unwrap().path()).find(|path| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("mm-"))
    });
    fs::write(broken.unwrap(), "no image").unwrap();
    let (is_done, said) = bed.runtime.finish(&mut restore(bed, &bundle, &images));
    assert!(!is_done && said.contains("container: CRIU failed"), "{said}");
    let log = images.join("restore.log");
    assert!(said.contains(&format!("{}:", log.display())), "{said}");
    assert!(!said.contains("dump.log"), "{said}");

    let work = bed.dir.join("work");
    let mut elsewhere = restore(bed, &bundle, &images);
    let (is_done, said) = bed.runtime.finish(elsewhere.arg("-W").arg(&work).arg("--json"));
    let said: Value =
        serde_json::from_str(said.lines().find(|line| line.starts_with('{')).unwrap()).unwrap();
    assert!(!is_done && said["outcome"] == "failed", "{said}");
    assert_eq!(said["error"]["log"]["file"], work.join("restore.log").display().to_string());
    bundle.stands_still();
}

fn waits(bed: &Bed) {
    let bundle = Bundle::new(bed, "bundle", "count", &[]);
    let images = bed.dir.join("images");
    bed.runtime.run(&bundle, "c", &[]);
    done(bed, &mut checkpoint(bed, &images));
    bed.runtime.delete("c");
    let pid_file = bed.dir.join("pid");
    let mut command = restore(bed, &bundle, &images);
    let mut child = command.arg("--wait").arg("--pid-file").arg(&pid_file).spawn().unwrap();
    assert!(soon(|| fs::read(&pid_file).is_ok_and(|pid| !pid.is_empty())));
    bundle.goes_on();
    kill(&pid_file);
    // As a shell tells the end by SIGKILL.
    assert_eq!(child.wait().unwrap().code(), Some(128 + 9));
}

fn nonsense(bed: &Bed) {
    let refused = |command: &mut Command, code: &str, why: &str| {
        let (is_done, said) = bed.runtime.finish(command);
        assert!(!is_done && said.contains(why) && said.contains(code), "{said}");
    };
    let images = bed.dir.join("images");
    refused(&mut checkpoint(bed, &images), "exit status: 2", "runc state c: ");
    assert!(!images.exists());
    let bundle = Bundle::new(bed, "bundle", "count", &[]);
    refused(&mut restore(bed, &bundle, &images), "exit status: 1", "images");
    // Which directory, which file, and why.
    fs::create_dir(&images).unwrap();
    let nothing = format!("images in {}: inventory.img: is missing", images.display());
    refused(&mut restore(bed, &bundle, &images), "exit status: 1", &nothing);
    fs::write(bundle.dir.join("config.json"), "{").unwrap();
    refused(
        &mut restore(bed, &bundle, &images),
        "exit status: 1",
        "config.json: EOF while parsing",
    );
    fs::remove_file(bundle.dir.join("config.json")).unwrap();
    refused(&mut restore(bed, &bundle, &images), "exit status: 1", "config.json: No such file");
    let mut silent = container(bed, "checkpoint");
    silent.args(["c", "--runtime", "/bin/false", "-D"]).arg(&images);
    refused(&mut silent, "exit status: 2", "/bin/false state c: exit status: 1");
    refused(container(bed, "restore").arg("c"), "exit status: 2", "--bundle");
    refused(container(bed, "frob").arg("c"), "exit status: 2", "frob");
}

#[track_caller]
fn kill(pid_file: &Path) {
    let pid: i32 = fs::read_to_string(pid_file).unwrap().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    let gone = || match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.contains(") Z "),
        Err(_) => true,
    };
    assert!(soon(gone));
}
