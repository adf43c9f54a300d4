//! The words `pod checkpoint` and `pod restore`, with containers of runc and of gVisor.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use criu_lab::containers::Bundle;
use criu_lab::registry::Registry;
use criu_lab::{names, place};
use serde_json::Value;

use crate::{BOTH, Bed, Case, done, kill};

pub const TESTS: &[Case] = &[
    Case {
        name: "a_pod_goes_there_and_back",
        test: of_runc,
        runtimes: &["runc"],
        newest_only: true,
    },
    Case {
        name: "an_instant_checkpoint_of_a_pod_is_restored",
        test: instant,
        runtimes: BOTH,
        newest_only: false,
    },
    Case {
        name: "an_instant_checkpoint_that_fails_leaves_nothing",
        test: instant_fails,
        runtimes: &["runc"],
        newest_only: true,
    },
    Case {
        name: "a_sandbox_of_gvisor_goes_there_and_back",
        test: of_gvisor,
        runtimes: &["runc"],
        newest_only: true,
    },
];

fn pod(bed: &Bed, word: &str, directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_criu-rs"));
    command.args(["pod", word]).arg(directory).env("CRIU", bed.criu.program().unwrap().unwrap());
    command
}

#[track_caller]
fn refused(bed: &Bed, command: &mut Command, why: &str, code: &str) {
    let (is_done, said) = bed.runtime.finish(command);
    assert!(!is_done && said.contains(why) && said.contains(code), "{said}");
}

fn of_runc(bed: &Bed) {
    let bundle = |name: &str| {
        Bundle::new(bed, name, "count", &[]).with(|b| b.cgroups_path(&format!("/pod/{name}")))
    };
    let bundles = [bundle("web"), bundle("log")];
    for (bundle, name) in bundles.iter().zip(["web", "log"]) {
        bed.runtime.run(bundle, name, &[]);
    }
    let (program, state) = bed.runtime.place();
    let checkpoint = |directory: &Path| {
        let mut command = pod(bed, "checkpoint", directory);
        command.args(["--container", "web=web", "--container", "log=log", "--cgroup", "/pod"]);
        command.arg("--runtime").arg(program).arg("--root").arg(&state);
        command
    };
    let first = bed.dir.join("first");
    let usage = "exit status: 2";
    let mut unknown = checkpoint(&first);
    refused(bed, unknown.args(["--option", "tpc"]), "unknown option `tpc` of a checkpoint", usage);
    let mut value = checkpoint(&first);
    refused(bed, value.args(["--option", "tcp=all"]), "wanted established or close", usage);
    let mut none = checkpoint(&first);
    refused(bed, none.args(["--container", "db=no-such"]), "state no-such: ", usage);
    let said = done(bed, &mut checkpoint(&first));
    assert!(said.contains("web, log are saved in") && said.contains("they run on"), "{said}");
    refused(bed, &mut checkpoint(&first), "is not empty, wanted a new directory", usage);
    bundles.iter().for_each(|bundle| assert!(bundle.goes_on() > 0));

    let last = bed.dir.join("last");
    let said = done(bed, checkpoint(&last).args(["--stop", "--json"]));
    let told: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&told["outcome"], &told["tool"]["kind"]), (&"done".into(), &"criu".into()));
    assert_eq!(names(&last), ["criu-record.json", "log", "web"]);
    let counted: Vec<u64> = bundles.iter().map(Bundle::stands_still).collect();
    ["web", "log"].iter().for_each(|name| bed.runtime.delete(name));
    done(bed, &mut pod(bed, "verify", &last));

    let restore = |bundles: &[Bundle]| {
        let mut command = pod(bed, "restore", &last);
        for (bundle, name) in bundles.iter().zip(["web", "log"]) {
            command.arg("--container").arg(format!("{name}={}", bundle.dir.display()));
        }
        command
    };
    refused(bed, &mut restore(&bundles[..1]), "found web, wanted log, web", usage);
    // Files that have changed since are not restored.
    let (file, kept) = (last.join("web/inventory.img"), bed.dir.join("kept"));
    fs::copy(&file, &kept).unwrap();
    fs::write(&file, "").unwrap();
    refused(bed, &mut restore(&bundles), "web/inventory.img", "exit status: 1");
    fs::copy(&kept, &file).unwrap();
    let said = done(bed, restore(&bundles).arg("--json"));
    let told: Value = serde_json::from_str(&said).unwrap();
    for (bundle, before) in bundles.iter().zip(counted) {
        assert!(bundle.goes_on() > before);
    }
    for container in told["containers"].as_array().unwrap() {
        let pid = bed.dir.join("pid");
        fs::write(&pid, container["pid"].to_string()).unwrap();
        kill(&pid);
    }
}

/// Two containers of which one has nothing but memory that changes.
struct Instant<'b> {
    bed: &'b Bed,
    bundles: [Bundle; 2],
}

impl<'b> Instant<'b> {
    fn start(bed: &'b Bed) -> Self {
        let bundle = |name: &str, payload: &str, words: &[&str]| {
            let bundle = Bundle::new(bed, name, payload, words);
            bundle.with(|b| b.cgroups_path(&format!("/pod/{name}")))
        };
        let bundles = [bundle("web", "threads", &["3"]), bundle("log", "count", &[])];
        for (bundle, name) in bundles.iter().zip(["web", "log"]) {
            bed.runtime.run(bundle, name, &[]);
        }
        Self { bed, bundles }
    }

    fn checkpoint(&self, directory: &Path) -> Command {
        let (program, state) = self.bed.runtime.place();
        let mut command = pod(self.bed, "checkpoint", directory);
        command.args(["--container", "web=web", "--container", "log=log", "--cgroup", "/pod"]);
        command.arg("--runtime").arg(program).arg("--root").arg(&state);
        command.args(["--instant", "--instant-least", "4K"]);
        command
    }

    /// Runs a checkpoint, and returns what it has told.
    fn told(&self, command: &mut Command) -> Value {
        serde_json::from_str(&done(self.bed, command.arg("--json"))).unwrap()
    }

    /// No holder is left.
    fn goes_on_alone(&self) {
        for (bundle, name) in self.bundles.iter().zip(["web", "log"]) {
            bundle.goes_on();
            let pid = self.bed.runtime.pid(name);
            assert_eq!(criu_lab::process::children(pid), []);
        }
    }

    fn restore(&self, images: &Path) {
        let mut command = pod(self.bed, "restore", images);
        for (bundle, name) in self.bundles.iter().zip(["web", "log"]) {
            command.arg("--container").arg(format!("{name}={}", bundle.dir.display()));
        }
        let said = done(self.bed, command.arg("--json"));
        let told: Value = serde_json::from_str(&said).unwrap();
        self.bundles.iter().for_each(|bundle| assert!(bundle.goes_on() > 0));
        for container in told["containers"].as_array().unwrap() {
            let pid = self.bed.dir.join("pid");
            fs::write(&pid, container["pid"].to_string()).unwrap();
            kill(&pid);
        }
    }
}

/// Both containers run on while their memory is read, and come back from the checkpoint. One that
/// ends them is a plain one, and says so.
fn instant(bed: &Bed) {
    let pod = Instant::start(bed);
    let directories = ["first", "last", "end"].map(|name| bed.dir.join(name));
    let told = pod.told(pod.checkpoint(&directories[0]).arg("--verify"));
    for name in ["web", "log"] {
        let instant = &told["instant"][name];
        let pid = bed.runtime.pid(name).as_raw();
        assert_eq!(instant["tasks"][0]["pid"], pid, "{told}");
        assert_eq!(instant["tasks"][0]["way"], "held", "{told}");
        let number = |key: &str| instant[key].as_u64().unwrap();
        assert!(number("held_pages") > 0, "{told}");
        assert_eq!(number("verified_pages"), number("held_pages") + number("captured_pages"));
    }
    assert!(told["frozen_us"].as_u64() > Some(0), "{told}");
    assert!(told["frozen_us"].as_u64() < told["elapsed_us"].as_u64(), "{told}");
    pod.goes_on_alone();
    assert_eq!(names(&directories[0]), ["criu-record.json", "log", "web"]);
    done(bed, &mut self::pod(bed, "verify", &directories[0]));

    // The option of the engine asks for the same.
    let (program, state) = bed.runtime.place();
    let mut named = self::pod(bed, "checkpoint", &directories[1]);
    named.args(["--container", "web=web", "--container", "log=log", "--option", "instant"]);
    let said = done(bed, named.arg("--runtime").arg(program).arg("--root").arg(state));
    assert!(said.contains("was not forked: its memory is small"), "{said}");
    assert!(said.contains("they run on"), "{said}");
    pod.goes_on_alone();

    let told = pod.told(pod.checkpoint(&directories[2]).arg("--stop"));
    for name in ["web", "log"] {
        let instant = &told["instant"][name];
        assert_eq!(instant["tasks"][0]["why"], "the dump ends the tasks", "{told}");
        assert!(instant["captured_pages"].as_u64() > Some(0), "{told}");
    }
    pod.bundles.iter().for_each(|bundle| assert!(bundle.stands_still() > 0));
    ["web", "log"].iter().for_each(|name| bed.runtime.delete(name));
    directories.iter().for_each(|images| pod.restore(images));
}

/// Requests that cannot be met are refused by name. If the pages of one container cannot be
/// written, there is no checkpoint of any container.
fn instant_fails(bed: &Bed) {
    let pod = Instant::start(bed);
    let (to, usage) = (bed.dir.join("to"), "exit status: 2");
    let mut twice = pod.checkpoint(&to);
    refused(bed, twice.args(["--option", "instant"]), "`instant` is given twice", usage);
    let mut packed = pod.checkpoint(&to);
    packed.args(["--option", "compression=lz4"]);
    refused(bed, &mut packed, "leave `compression` or `instant` away", usage);
    let mut of_runsc = pod.checkpoint(&to);
    let why = "unknown option `instant` of a checkpoint";
    refused(bed, of_runsc.args(["--engine", "runsc"]), why, usage);
    let mut alone = self::pod(bed, "checkpoint", &to);
    alone.args(["--container", "web=web", "--verify"]);
    refused(bed, &mut alone, "--instant", usage);
    let mut other = pod.checkpoint(&to);
    other.args(["--instant-plugin", "/no/such.so"]);
    refused(bed, &mut other, "do: build the package criu-plugin", "exit status: 1");
    assert_eq!(names(&to), [""; 0]);

    // There is room for all that CRIU writes, and not for the memory.
    let mount = ["-t", "tmpfs", "-o", "size=900k", "images"];
    assert!(Command::new("mount").args(mount).arg(&to).status().unwrap().success());
    for _ in 0..3 {
        refused(bed, &mut pod.checkpoint(&to), "No space left on device", "exit status: 1");
        pod.goes_on_alone();
    }
    assert_eq!(names(&to), [""; 0]);
    assert!(Command::new("umount").arg(&to).status().unwrap().success());
}

fn of_gvisor(bed: &Bed) {
    // runsc takes processes that nobody has waited for to be alive. Process 1 does wait.
    nix::sys::prctl::set_child_subreaper(false).unwrap();
    let (root, program) = (bed.dir.join("root"), place::runsc());
    let bundle = Bundle::new(bed, "bundle", "count", &[]);
    let runsc = |words: &[&str]| {
        let mut command = Command::new(&program);
        command.arg("--root").arg(&root).args(FLAGS).args(words);
        command
    };
    let dir = bundle.dir.to_str().unwrap();
    done(bed, &mut runsc(&["create", "--bundle", dir, "web"]));
    done(bed, &mut runsc(&["start", "web"]));
    bundle.goes_on();
    let with_engine = |command: &mut Command| {
        command.args(["--engine", "runsc"]).arg("--runsc").arg(&program).arg("--root").arg(&root);
        for flag in FLAGS {
            command.arg(format!("--runsc-flag={flag}"));
        }
    };
    let to = bed.dir.join("checkpoint");
    let mut checkpoint = pod(bed, "checkpoint", &to);
    with_engine(&mut checkpoint);
    checkpoint.args(["--container", "web=web", "--stop", "--option", "compression=none"]);
    done(bed, &mut checkpoint);
    let counted = bundle.stands_still();
    assert_eq!(names(&to), ["criu-record.json", "sandbox"]);
    let said = done(bed, &mut pod(bed, "inspect", &to));
    assert!(said.contains("runsc 0.0") && said.contains("compression: none"), "{said}");
    let tool = format!("runsc={}", program.display());
    done(bed, pod(bed, "verify", &to).args(["--tool", &tool]));
    done(bed, &mut runsc(&["delete", "--force", "web"]));
    let pulled = through_registry(bed, &to, &tool);

    let restore = || {
        let mut restore = pod(bed, "restore", &pulled);
        with_engine(&mut restore);
        restore.arg("--container").arg(format!("web={dir},new"));
        restore
    };
    let record = pulled.join("criu-record.json");
    let text = fs::read_to_string(&record).unwrap();
    let mut edited: Value = serde_json::from_str(&text).unwrap();
    edited["containers"][0]["tool"]["version"] = "0.0~20221219.0".into();
    fs::write(&record, edited.to_string()).unwrap();
    let why = "runsc 0.0~20221219.0 made the checkpoint";
    refused(bed, &mut restore(), why, "exit status: 1");
    refused(bed, restore().arg("--force"), why, "exit status: 1");
    let mut verify = pod(bed, "verify", &pulled);
    refused(bed, verify.args(["--tool", &tool]), why, "exit status: 1");
    fs::write(&record, text).unwrap();
    done(bed, &mut restore());
    assert!(bundle.goes_on() > counted);
    done(bed, &mut runsc(&["delete", "--force", "new"]));
}

/// Sends a checkpoint of runsc to a registry, looks at it there, and fetches it.
fn through_registry(bed: &Bed, saved: &Path, tool: &str) -> PathBuf {
    let registry = Registry::start(&bed.dir.join("registry"));
    let image = registry.name("sandbox:v1");
    let word = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_criu-rs"));
        done(bed, command.args(words))
    };
    let saved = saved.to_str().unwrap();
    word(&["push", saved, &image]);
    // Equal files make an equal image.
    let again = word(&["push", saved, &image]);
    assert!(again.contains(", whose layer was there"), "{again}");
    let clean = "nothing stands against a restore here";
    let there = word(&["pod", "verify", &image, "--tool", tool]);
    assert!(there.contains(clean), "{there}");
    let shown = word(&["pod", "inspect", &image]);
    assert!(shown.contains("runsc 0.0") && shown.contains("compression: none"), "{shown}");
    let pulled = bed.dir.join("pulled");
    word(&["pull", &image, &format!("{}/", pulled.display())]);
    assert_eq!(names(&pulled), ["criu-record.json", "sandbox"]);
    let here = word(&["pod", "verify", pulled.to_str().unwrap(), "--tool", tool]);
    assert!(here.contains(clean), "{here}");
    pulled
}

/// Flags for a machine without KVM. Files that containers write are to be seen outside.
const FLAGS: &[&str] =
    &["--ignore-cgroups", "--network=none", "--platform=systrap", "--overlay2=none"];
