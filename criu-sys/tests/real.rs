//! Programs that are built with each libcriu, and dump real processes. The tests need root, and the
//! packages that `cargo xtask setup --tests` unpacks.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use criu_lab::place::{criu, suite};
use criu_lab::process::apart;
use criu_lab::{place, scratch, soon};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

#[test]
fn libcriu_3_17_dumps() {
    dumps("bookworm", Linked::Dynamically, "trixie");
}

#[test]
fn libcriu_3_17_in_the_program_dumps() {
    dumps("bookworm", Linked::Statically, "experimental");
}

#[test]
fn libcriu_4_1_dumps() {
    dumps("trixie", Linked::Dynamically, "trixie");
}

#[test]
fn libcriu_4_1_in_the_program_dumps() {
    dumps("trixie", Linked::Statically, "experimental");
}

#[test]
fn the_newest_libcriu_dumps() {
    dumps("experimental", Linked::Dynamically, "experimental");
}

#[test]
fn the_newest_libcriu_in_the_program_dumps() {
    dumps("experimental", Linked::Statically, "trixie");
}

#[test]
fn what_criu_says_comes_back() {
    let program = build("trixie", Linked::Dynamically);
    let dir = scratch("libcriu-what-criu-says");
    let output = run(&program, "trixie", &["0", dir.to_str().unwrap(), &path(&criu("trixie"))]);
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    assert!(said.contains("dump failed: "), "{said}");
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn without_libcriu_the_build_names_its_packages() {
    let output = finish(cargo("check", "absent").env("PKG_CONFIG_LIBDIR", "/nonexistent"));
    assert!(!output.status.success());
    let said = said(&output);
    for word in ["criu.pc", "libcriu-dev", "criu-devel", "criu-dev", "CRIU_LIB_DIR"] {
        assert!(said.contains(word), "no {word} in: {said}");
    }
}

#[test]
fn a_folder_without_libcriu_is_named() {
    let output = finish(cargo("check", "folder").env("CRIU_LIB_DIR", "/nonexistent"));
    assert!(!output.status.success());
    let wanted = "CRIU_LIB_DIR is /nonexistent, where there is no libcriu.so";
    assert!(said(&output).contains(wanted), "{}", said(&output));
}

#[test]
fn pkg_config_finds_libcriu() {
    // The files name the folders of an installed package.
    let dir = scratch("libcriu-pkg-config");
    let usr = suite("trixie").join("usr");
    for name in ["criu", "libprotobuf-c"] {
        let file = fs::read_dir(usr.join("lib"))
            .unwrap()
            .map(|folder| folder.unwrap().path().join(format!("pkgconfig/{name}.pc")))
            .find(|file| file.exists())
            .unwrap();
        let libraries = format!("libdir={}\n", suite("trixie").join("link").display());
        let text = fs::read_to_string(file).unwrap();
        let rest = text.lines().filter(|line| !line.starts_with("libdir="));
        let rest: String = rest.map(|line| format!("{line}\n")).collect();
        fs::write(dir.join(format!("{name}.pc")), libraries + &rest).unwrap();
    }
    for linked in [Linked::Dynamically, Linked::Statically] {
        let mut build = cargo("build", &format!("pkg-config-{linked:?}"));
        build.env("PKG_CONFIG_LIBDIR", &dir);
        if linked == Linked::Statically {
            build.env("CRIU_STATIC", "1");
        }
        let output = finish(&mut build);
        assert!(output.status.success(), "{linked:?}: {}", said(&output));
    }
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn documentation_needs_no_libcriu() {
    let mut check = cargo("check", "docs");
    let output = finish(check.env("DOCS_RS", "1").env("PKG_CONFIG_LIBDIR", "/nonexistent"));
    assert!(output.status.success(), "{}", said(&output));
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Linked {
    Dynamically,
    Statically,
}

/// Dumps a process with the libcriu of one suite and the CRIU of another, which restores it.
#[track_caller]
fn dumps(library: &'static str, linked: Linked, of: &str) {
    assert!(nix::unistd::geteuid().is_root(), "these tests need root");
    // CRIU restores as its own child what then is the reaper's.
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let program = build(library, linked);
    let dir = scratch(&format!("libcriu-{library}-{linked:?}"));
    let criu = criu(of);
    let mut sleeper = sleeper();
    let pid = Pid::from_raw(i32::try_from(sleeper.id()).unwrap());

    let names = [&pid.to_string(), dir.to_str().unwrap(), &path(&criu)];
    let output = match linked {
        Linked::Dynamically => run(&program, library, &names),
        Linked::Statically => {
            finish(Command::new(&program).args(names).env_remove("LD_LIBRARY_PATH"))
        }
    };
    let log = || fs::read_to_string(dir.join("dump.log")).unwrap_or_default();
    assert!(output.status.success(), "{}\n{}", said(&output), log());
    assert!(said(&output).contains(&format!("dumped {pid}")), "{}", said(&output));
    // Its id is free again once it is reaped.
    sleeper.wait().unwrap();

    let images = dir.to_str().unwrap();
    let output = finish(Command::new(&criu).args(["restore", "-d", "-D", images]));
    assert!(output.status.success(), "{}", said(&output));
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    assert_eq!(String::from_utf8_lossy(&command), "sleep\x001000\0");
    kill(pid, Signal::SIGKILL).unwrap();
    waitpid(pid, None).unwrap();
    fs::remove_dir_all(&dir).unwrap();
}

/// A process in a session of its own, with nothing open that is somebody else's.
fn sleeper() -> Child {
    let mut command = apart("sleep");
    command.arg("1000").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().unwrap();
    let comm = format!("/proc/{}/comm", child.id());
    let is_sleep = || fs::read_to_string(&comm).unwrap() == "sleep\n";
    assert!(soon(is_sleep), "the process does not start");
    child
}

/// Builds the example with a libcriu.
#[track_caller]
fn build(library: &str, linked: Linked) -> PathBuf {
    let name = format!("{library}-{linked:?}");
    let mut build = cargo("build", &name);
    build.env("CRIU_LIB_DIR", suite(library).join("link"));
    if linked == Linked::Statically {
        build.env("CRIU_STATIC", "1");
    }
    let output = finish(&mut build);
    assert!(output.status.success(), "{}", said(&output));
    let program = user(&name).join("target/debug/user");
    let needed = finish(Command::new("ldd").arg(&program));
    assert_eq!(said(&needed).contains("libcriu.so.2"), linked == Linked::Dynamically);
    program
}

/// Cargo in a package of its own that uses the bindings, and whose program is the example. No
/// libcriu is chosen.
fn cargo(word: &str, name: &str) -> Command {
    let bindings = Path::new(env!("CARGO_MANIFEST_DIR"));
    let user = user(name);
    fs::create_dir_all(&user).unwrap();
    let manifest = format!(
        "[package]\nname = \"user\"\nedition = \"2024\"\n\
         [workspace]\n\
         [dependencies]\ncriu-sys = {{ path = {bindings:?} }}\n\
         [[bin]]\nname = \"user\"\npath = {:?}\n",
        bindings.join("examples/libcriu-dump.rs"),
    );
    fs::write(user.join("Cargo.toml"), manifest).unwrap();
    // What it names is here already.
    fs::copy(bindings.join("../Cargo.lock"), user.join("Cargo.lock")).unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([word, "--offline", "--target-dir", "target"]).current_dir(&user);
    for name in ["CRIU_LIB_DIR", "CRIU_STATIC", "DOCS_RS", "PKG_CONFIG_PATH"] {
        cargo.env_remove(name);
    }
    cargo
}

fn run(program: &Path, library: &str, args: &[&str]) -> Output {
    let libraries = suite(library).join("link");
    finish(Command::new(program).args(args).env("LD_LIBRARY_PATH", libraries))
}

fn finish(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

/// The output of a finished program.
fn said(output: &Output) -> String {
    let text = [&*output.stdout, &*output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

fn path(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// The folder of a package.
fn user(name: &str) -> PathBuf {
    place::target_dir().join("tmp/libcriu").join(name)
}
