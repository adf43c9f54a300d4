//! The program `container`, with containers of real runtimes. The tests need root, and the programs
//! that `cargo xtask setup --tests` unpacks; see `criu-rs/tests/containers`.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod job;
mod pod;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use criu_lab::containers::{Bundle, Suite};
use criu_lab::{names, soon};
use criu_rs::{Criu, Pid};
use serde_json::Value;

type Bed = criu_lab::containers::Bed<Pid, Criu>;
type Case = criu_lab::containers::Case<Pid, Criu>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let suite = Suite {
        tests: [TESTS, pod::TESTS, job::TESTS].concat(),
        criu: |path| Criu::at(path),
        version: |criu| criu.version().map_err(|error| error.to_string()),
    };
    suite.main(&words).unwrap_or(ExitCode::FAILURE)
}

const TESTS: &[Case] = &[
    Case { name: "there_and_back", test: there_and_back, runtimes: BOTH, newest_only: false },
    Case {
        name: "options_of_runc_are_known",
        test: options_of_runc,
        runtimes: &["runc"],
        newest_only: true,
    },
    Case {
        name: "a_container_in_an_event_loop",
        test: event_loop,
        runtimes: &["runc"],
        newest_only: true,
    },
    Case { name: "it_runs_on", test: runs_on, runtimes: BOTH, newest_only: true },
    Case { name: "the_end_is_waited_for", test: waits, runtimes: &["runc"], newest_only: true },
    Case { name: "failures_cite_their_log", test: cites, runtimes: &["runc"], newest_only: true },
    Case { name: "a_signal_stops_a_dump", test: stops_dump, runtimes: BOTH, newest_only: true },
    Case {
        name: "a_signal_stops_a_restore",
        test: stops_restore,
        runtimes: BOTH,
        newest_only: true,
    },
    Case {
        name: "an_instant_checkpoint_is_restored",
        test: instant,
        runtimes: BOTH,
        newest_only: false,
    },
    Case { name: "memory_comes_later", test: later, runtimes: BOTH, newest_only: false },
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
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&images), 0o700);
    for entry in fs::read_dir(&images).unwrap().flatten() {
        assert_eq!(mode(&entry.path()), 0o600, "{}", entry.path().display());
    }

    // A link at the name of the pid file is replaced, and not followed.
    let (pid_file, secret) = (bed.dir.join("pid"), bed.dir.join("secret"));
    fs::write(&secret, "secret").unwrap();
    std::os::unix::fs::symlink(&secret, &pid_file).unwrap();
    let said =
        done(bed, restore(bed, &bundle, &images).arg("--json").arg("--pid-file").arg(&pid_file));
    assert_eq!(fs::read(&secret).unwrap(), b"secret");
    assert!(fs::symlink_metadata(&pid_file).unwrap().is_file());
    assert_eq!((mode(&pid_file), mode(&images.join("stats-restore"))), (0o644, 0o644));
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

/// The words that a user of runc types.
fn options_of_runc(bed: &Bed) {
    let bundle = Bundle::new(bed, "bundle", "vfork", &[]).with(|b| b.cgroups_path("/bed/it"));
    let (images, work) = (bed.dir.join("images"), bed.dir.join("work"));
    bed.runtime.run(&bundle, "c", &[]);
    for (words, why) in [
        (&["--page-server", "nowhere"][..], "--page-server: the value is nowhere"),
        (&["--manage-cgroups-mode=most"], "--manage-cgroups-mode: "),
        (&["--empty-ns=ipc"], "--empty-ns: the namespace is ipc"),
    ] {
        let (is_done, said) = bed.runtime.finish(checkpoint(bed, &images).args(words));
        assert!(!is_done && said.contains(why) && said.contains("exit status: 2"), "{said}");
    }
    let said = done(bed, checkpoint(bed, &bed.dir("first")).args(["-R", "--no-freezer"]));
    assert!(!said.contains("freezer"), "{said}");
    let mut saved = container(bed, "checkpoint");
    let (program, state) = bed.runtime.place();
    saved.args(["c", "--link-remap", "--manage-cgroups-mode=full", "--tcp-skip-in-flight"]);
    saved.arg("--runtime").arg(program).arg("--root").arg(state);
    saved.arg("--image-path").arg(&images).arg("--work-path").arg(&work);
    // Its first process is inside vfork, where the freezer is in the way.
    let said = done(bed, &mut saved);
    assert!(said.contains("without its freezer cgroup"), "{said}");
    assert!(work.join("dump.log").exists());
    bed.runtime.delete("c");
    let counted = bundle.stands_still();

    let pid_file = bed.dir.join("pid");
    let mut restored = restore(bed, &bundle, &images);
    restored.args(["--link-remap", "--manage-cgroups-mode", "soft"]).arg("--pid-file");
    done(bed, restored.arg(&pid_file).arg("--work-path").arg(&work));
    assert!(work.join("restore.log").exists());
    assert!(bundle.goes_on() > counted);
    kill(&pid_file);
}

fn event_loop(bed: &Bed) {
    let bundle = Bundle::new(bed, "bundle", "count", &[]);
    let images = bed.dir("images");
    let pid = bed.runtime.run(&bundle, "c", &[]);
    let program = Path::new(env!("CARGO_BIN_EXE_criu-rs")).with_file_name("examples");
    let mut command = Command::new(program.join("async-container"));
    command.arg(&bundle.dir).arg(pid.to_string()).arg(&images);
    command.env("CRIU", bed.criu.program().unwrap().unwrap());
    let counted = bundle.goes_on();
    let said = done(bed, &mut command);
    let number = said.split("process ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    assert!(said.starts_with("..") && said.contains("runs again"), "{said}");
    assert!(bundle.goes_on() > counted);
    fs::write(bed.dir.join("pid"), number).unwrap();
    kill(&bed.dir.join("pid"));
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

/// The container runs on while its memory is read, and comes back with the memory of the moment of
/// the checkpoint.
fn instant(bed: &Bed) {
    let bundle = Bundle::new(bed, "bundle", "threads", &["3"]);
    let images = bed.dir.join("images");
    let pid = bed.runtime.run(&bundle, "c", &[]);
    let mut saved = checkpoint(bed, &images);
    saved.args(["-R", "--instant", "--instant-least", "4K", "--verify", "--json"]);
    let said: Value = serde_json::from_str(&done(bed, &mut saved)).unwrap();
    let instant = &said["instant"];
    assert_eq!(instant["tasks"][0]["pid"], pid.as_raw(), "{said}");
    assert_eq!(instant["tasks"][0]["way"], "held", "{said}");
    assert!(instant["verified_pages"].as_u64() > Some(0), "{said}");
    bundle.goes_on();
    assert_eq!(criu_lab::process::children(pid), []);
    let mut again = checkpoint(bed, &bed.dir.join("again"));
    let said = done(bed, again.args(["-R", "--instant", "--instant-least", "4K"]));
    assert!(said.contains("while it ran") && said.contains("it runs on"), "{said}");
    let mut other = checkpoint(bed, &bed.dir.join("other"));
    other.args(["--instant", "--parent-path", "../images"]);
    let (is_done, said) = bed.runtime.finish(&mut other);
    assert!(!is_done && said.contains("'--instant' cannot be used with"), "{said}");
    bed.runtime.kill("c", "KILL");
    assert!(soon(|| bed.runtime.state("c").unwrap()["status"] == "stopped"));
    bed.runtime.delete("c");
    bundle.stands_still();
    let pid_file = bed.dir.join("pid");
    done(bed, restore(bed, &bundle, &images).arg("--pid-file").arg(&pid_file));
    bundle.goes_on();
    kill(&pid_file);
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
    assert!(!is_done && said.contains("container restore: CRIU failed"), "{said}");
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

/// `container restore --lazy`: alone, with a recording, and with what was recorded.
fn later(bed: &Bed) {
    let bundle = Bundle::new(bed, "bundle", "threads", &["3"]);
    let (images, pid_file) = (bed.dir.join("images"), bed.dir.join("pid"));
    bed.runtime.run(&bundle, "c", &[]);
    done(bed, &mut checkpoint(bed, &images));
    bed.runtime.delete("c");
    let counted = bundle.stands_still();
    let lazily = || {
        let mut restore = restore(bed, &bundle, &images);
        restore.args(["--lazy", "--json", "--pid-file"]).arg(&pid_file);
        restore
    };
    // The program stays until the memory is there, and the container runs on without it.
    let brought = || {
        let said = done(bed, &mut lazily());
        let lines: Vec<Value> =
            said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [first, last] = &lines[..] else { panic!("{said}") };
        assert_eq!(first["pid"].to_string(), fs::read_to_string(&pid_file).unwrap());
        assert_eq!(last["outcome"], "memory complete", "{said}");
        assert!(bundle.goes_on() > counted);
        kill(&pid_file);
        last["statistics"]["pages"]["working_set"].as_u64().unwrap()
    };
    assert_eq!(brought(), 0);
    assert!(!fs::exists(images.join("lazy-pages.socket")).unwrap());

    fs::remove_file(&pid_file).unwrap();
    let mut recorded = lazily();
    let mut child =
        recorded.args(["--wait", "--record=0.2"]).stdout(Stdio::null()).spawn().unwrap();
    assert!(soon(|| images.join("working-set.bin").exists()));
    bundle.goes_on();
    kill(&pid_file);
    assert_eq!(child.wait().unwrap().code(), Some(128 + 9));
    assert!(brought() > 0);
}

/// A bundle whose CRIU stops at the actions of a pattern, until a test goes on or stops it.
fn slow(bed: &Bed, actions: &str) -> Bundle {
    let (begun, script) = (bed.dir.join("begun"), bed.dir.join("script"));
    let text = format!(
        "#!/bin/sh\ncase $CRTOOLS_SCRIPT_ACTION in {actions}) ;; *) exit 0 ;; esac\n\
         echo $CRTOOLS_SCRIPT_ACTION >> {}\nexec sleep 20\n",
        begun.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let config = bed.dir.join("criu.conf");
    fs::write(&config, format!("action-script {}\n", script.display())).unwrap();
    Bundle::new(bed, "bundle", "count", &[])
        .with(|b| b.annotation("org.criu.config", config.to_str().unwrap()))
}

/// Sends SIGTERM to a command once CRIU waits in it. Returns what the command printed.
#[track_caller]
fn stop(bed: &Bed, command: &mut Command) -> String {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = bed.dir.join("begun");
    assert!(soon(|| begun.exists() || child.try_wait().unwrap().is_some()));
    let id = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(begun.exists(), "{said}");
    assert_eq!(output.status.code(), Some(4), "{said}");
    fs::remove_file(begun).unwrap();
    said
}

/// The container runs on, and there is no checkpoint.
fn stops_dump(bed: &Bed) {
    let bundle = slow(bed, "network-lock|post-dump");
    let images = bed.dir.join("images");
    bed.runtime.run(&bundle, "c", &[]);
    let said = stop(bed, &mut checkpoint(bed, &images));
    assert!(said.contains("dump cancelled"), "{said}");
    bundle.goes_on();
    assert_eq!(bed.runtime.state("c").unwrap()["status"], "running");
    assert_eq!(names(&images), ["dump.log"]);
    bed.runtime.delete("c");
}

/// No process is left, and neither is the mount for CRIU. The bundle has a hook.
fn stops_restore(bed: &Bed) {
    let bundle = slow(bed, "post-restore").with(|b| {
        b.config["hooks"] = serde_json::json!({"createRuntime": [{"path": "/bin/true"}]});
    });
    let (images, state) = (bed.dir.join("images"), bed.dir.join("restored"));
    bed.runtime.run(&bundle, "c", &[]);
    done(bed, &mut checkpoint(bed, &images));
    bed.runtime.delete("c");
    let pid_file = bed.dir.join("pid");
    let mut command = restore(bed, &bundle, &images);
    command.arg("--state").arg(&state).arg("--runtime").arg(bed.runtime.name);
    let said = stop(bed, command.arg("--pid-file").arg(&pid_file));
    assert!(said.contains("restore cancelled"), "{said}");
    bundle.stands_still();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(state.to_str().unwrap()), "{mounts}");
    assert_eq!(names(&state), [""; 0]);
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
