//! Pods on two nodes that are saved and restored as members of one job.

use std::fs::{self, File, read_to_string};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use criu_lab::containers::Bundle;
use criu_lab::{names, soon};
use nix::sys::signal::{Signal, kill as send};
use serde_json::Value;

use crate::{Bed, Case, kill};

pub const TESTS: &[Case] = &[Case {
    name: "pods_on_two_nodes_are_saved_at_one_moment",
    test: one_moment,
    runtimes: &["runc"],
    // Older ones do not save connections on new kernels.
    newest_only: true,
}];

/// The members, each a pod of one container.
const MEMBERS: [&str; 2] = ["web", "log"];

/// Two network namespaces that a pair of veth devices joins.
fn nodes(names: [&str; 2]) -> [PathBuf; 2] {
    let ip = |words: &str| {
        let output = Command::new("ip").args(words.split(' ')).output().unwrap();
        assert!(output.status.success(), "{words}: {output:?}");
    };
    names.iter().for_each(|name| ip(&format!("netns add {name}")));
    let [a, b] = names;
    ip(&format!("link add v{a} netns {a} type veth peer name v{b} netns {b}"));
    for (name, address) in [(a, "10.66.0.1/24"), (b, "10.66.0.2/24")] {
        ip(&format!("-n {name} addr add {address} dev v{name}"));
        ip(&format!("-n {name} link set v{name} up"));
        ip(&format!("-n {name} link set lo up"));
    }
    names.map(|name| Path::new("/run/netns").join(name))
}

/// A running coordinator, and the file of the events that it tells.
struct Coordinator {
    child: Child,
    events: PathBuf,
    address: String,
}

impl Coordinator {
    fn start(bed: &Bed) -> Self {
        let events = bed.dir.join("events");
        let mut command = Command::new(env!("CARGO_BIN_EXE_criu-rs"));
        command.args(["coordinator", "serve", "--port", "0", "--json"]);
        let child = command.stdout(File::create(&events).unwrap()).spawn().unwrap();
        assert!(soon(|| read_to_string(&events).unwrap().ends_with('\n')));
        let said: Value = serde_json::from_str(&read_to_string(&events).unwrap()).unwrap();
        let address = said["address"].as_str().unwrap().to_owned();
        Self { child, events, address }
    }

    /// The events of a kind at a step.
    fn count(&self, kind: &str, step: &str) -> usize {
        let all = read_to_string(&self.events).unwrap();
        let events = all.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        events.filter(|event| event["outcome"] == kind && event["step"] == step).count()
    }

    /// Starts a word of `pod` for a member that waits for the other.
    fn spawn(&self, bed: &Bed, node: usize, words: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_criu-rs"));
        command.arg("pod").args(words).args(["--json", "--option", "tcp=established"]);
        command.args(["--coordinator", &self.address, "--coordinator-id", MEMBERS[node]]);
        command.args(["--coordinator-deps", MEMBERS[1 - node]]);
        command.env("CRIU", bed.criu.program().unwrap().unwrap()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for the end of a command. Returns its exit status, and the object that it printed.
#[track_caller]
fn end(child: Child) -> (Option<i32>, Value) {
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let object = serde_json::from_str(said.trim());
    let told = String::from_utf8_lossy(&output.stderr);
    (output.status.code(), object.unwrap_or_else(|error| panic!("{error}: {said}{told}")))
}

#[track_caller]
fn all_go_on(bundles: &[Bundle; 2]) {
    for bundle in bundles {
        bundle.goes_on();
    }
}

#[track_caller]
fn all_stand_still(bundles: &[Bundle; 2]) {
    for bundle in bundles {
        bundle.stands_still();
    }
}

fn one_moment(bed: &Bed) {
    let net = nodes(["a", "b"]);
    // The second pod's dump waits in a script of CRIU while a file is there.
    let (script, held) = (bed.dir.join("script"), bed.dir.join("held"));
    let (begun, config) = (bed.dir.join("begun"), bed.dir.join("criu.conf"));
    let text = format!(
        "#!/bin/sh\n[ $CRTOOLS_SCRIPT_ACTION = network-lock -a -e {} ] || exit 0\n\
         echo > {}\nexec sleep 20\n",
        held.display(),
        begun.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(&config, format!("action-script {}\n", script.display())).unwrap();
    let bundle = |node: usize, side: &str| {
        Bundle::new(bed, MEMBERS[node], "talk", &[side, "10.66.0.1:7000"]).with(|bundle| {
            bundle.cgroups_path(&format!("/{0}/{0}", MEMBERS[node]));
            bundle.namespace("network", Some(&net[node]));
        })
    };
    let log = bundle(1, "ask").with(|b| b.annotation("org.criu.config", config.to_str().unwrap()));
    let mut bundles = [bundle(0, "serve"), log];
    for (bundle, name) in bundles.iter().zip(MEMBERS) {
        bed.runtime.create(bundle, name, &[]);
        bed.runtime.start(name);
    }
    all_go_on(&bundles);

    let coordinator = Coordinator::start(bed);
    let place = |node: usize, name: &str| bed.dir.join(format!("{}-{name}", MEMBERS[node]));
    let (program, root) = bed.runtime.place();
    let checkpoint = |node: usize, name: &str| {
        let member = MEMBERS[node];
        let (to, container) = (place(node, name), format!("{member}={member}"));
        let words = ["checkpoint", to.to_str().unwrap(), "--container", &container, "--cgroup"];
        let more = ["--runtime", program.to_str().unwrap(), "--root", root.to_str().unwrap()];
        let cgroup = format!("/{member}");
        coordinator.spawn(bed, node, &[&words[..], &[&cgroup], &more].concat())
    };

    // A pod runs until the other has come. It is saved, and stands still until the other is.
    fs::write(&held, "").unwrap();
    let mut web = checkpoint(0, "first");
    assert!(soon(|| coordinator.count("registered", "pre-dump") == 1));
    all_go_on(&bundles);
    let log = checkpoint(1, "first");
    // CRIU's last image.
    let inventory = place(0, "first").join("web/inventory.img");
    assert!(soon(|| begun.exists() && inventory.exists()));
    all_stand_still(&bundles);
    assert!(web.try_wait().unwrap().is_none());
    assert_eq!(names(place(0, "first")), ["web"]);
    // If the other fails, it runs on, and nothing stays.
    let pid = nix::unistd::Pid::from_raw(log.id().try_into().unwrap());
    send(pid, Signal::SIGTERM).unwrap();
    assert_eq!(end(log).0, Some(4));
    let (code, said) = end(web);
    let why = "failed: log: its connection has ended after network-lock";
    assert!(code == Some(1) && said.to_string().contains(why), "{said}");
    all_go_on(&bundles);
    for node in [0, 1] {
        assert_eq!(names(place(node, "first")), [""; 0]);
    }
    fs::remove_file(&held).unwrap();

    let saved = [1, 0].map(|node| checkpoint(node, "last"));
    saved.map(end).iter().for_each(|(code, said)| assert_eq!(*code, Some(0), "{said}"));
    // Both run on, and are ahead of what is saved.
    all_go_on(&bundles);
    MEMBERS.iter().for_each(|name| bed.runtime.delete(name));
    all_stand_still(&bundles);

    let net = nodes(["c", "d"]);
    for (bundle, net) in bundles.iter_mut().zip(&net) {
        bundle.namespace("network", Some(net));
        bundle.write();
    }
    let restore = |node: usize| {
        let container = format!("{}={}", MEMBERS[node], bundles[node].dir.display());
        let (from, net) = (place(node, "last"), net[node].to_str().unwrap());
        let words = ["restore", from.to_str().unwrap(), "--container", &container];
        coordinator.spawn(bed, node, &[&words[..], &["--coordinator-net", net]].concat())
    };
    // A pod is not there before the other is restored, too.
    let web = restore(0);
    assert!(soon(|| coordinator.count("registered", "pre-restore") == 1));
    all_stand_still(&bundles);
    let restored = [web, restore(1)].map(end);
    for (code, said) in &restored {
        assert_eq!(*code, Some(0), "{said}");
    }
    for _ in 0..3 {
        all_go_on(&bundles);
    }
    for (step, times) in
        [("network-lock", 2), ("post-dump", 1), ("post-restore", 1), ("network-unlock", 1)]
    {
        assert_eq!(coordinator.count("passed", step), times, "{step}");
    }
    for (_, said) in restored {
        let pid = bed.dir.join("pid");
        fs::write(&pid, said["containers"][0]["pid"].to_string()).unwrap();
        kill(&pid);
    }
}
